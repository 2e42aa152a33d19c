/* Large values in miniature: what server/large.c does at a node, and readers who go from piece to
 * piece. The pieces hold some bytes only; their manifest counts as if they were whole. To the judge
 * of histories a manifest is a value like any other; what is judged here: pieces that anybody can
 * ask for are there, with the right bytes, and in the end no others. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "t/sim.h"

enum {
    PIECES_MIN = 2,
    PIECES_MAX = 3,
    GIVES_UP_PERCENT = 15, /* of clients, in the middle of an upload */
    SLOW_PERCENT = 30,     /* of readers */
    CROWDED_US = 100000, /* a delete that was decided when the log was nearly full may have to wait
                            for room */
    MADE_MAX = 4096,     /* room that deletes of the same step may have made since it was judged */
};

struct sim_upload {
    struct sim_upload *next;
    struct manifest manifest;
    uint32_t pieces, sent, under_way;
    bool gives_up, discards;
    enum outcome outcome;  /* STORED until a piece says otherwise */
    struct sim_call *call; /* the client's */
    uint16_t key;
    uint8_t node, shard;
};

struct sim_download {
    struct manifest manifest;
    uint32_t number; /* of the piece that is asked for */
    uint64_t pause_us;
    uint16_t key;
    uint8_t node, shard;
};

static struct sim_large *find(struct sim *sim, uint64_t upload)
{
    for (uint32_t i = sim->large_count; i > 0; i--)
        if (sim->larges[i - 1].upload == upload)
            return &sim->larges[i - 1];
    return NULL;
}

static void remember(struct sim *sim, const struct sim_upload *upload)
{
    if (sim->large_count == sim->large_room) {
        sim->large_room = sim->large_room == 0 ? 64 : 2 * sim->large_room;
        sim->larges = realloc(sim->larges, sim->large_room * sizeof(*sim->larges));
        assert(sim->larges != NULL);
    }
    sim->larges[sim->large_count++] = (struct sim_large){
        .upload = upload->manifest.upload, .key = upload->key, .pieces = (uint8_t)upload->pieces};
}

/* ---- pieces ---- */

/* The value of a piece's record: its head, and bytes that no other piece has. */
static void piece_value(const struct sim *sim, const struct manifest *manifest, unsigned key,
                        uint32_t number, struct sim_value *value)
{
    char name[SIM_KEY_SIZE + 1], text[32];
    uint8_t head[PIECE_HEAD_SIZE_MAX];
    uint32_t head_size = piece_head(sim_key_name(key, name), head);
    int size = snprintf(text, sizeof(text), "%016" PRIx64 ".%u", manifest->upload, number);
    memcpy(value->bytes, head, head_size);
    memcpy(value->bytes + head_size, text, (size_t)size);
    value->size = (uint8_t)(head_size + (uint32_t)size);
    while (value->size < sim->profile.piece_size)
        value->bytes[value->size++] = '.';
}

static void request_at(struct sim *sim, unsigned node, struct sim_call *call, uint64_t at)
{
    struct sim_event *event = sim_at(sim, at, SIM_EVENT_REQUEST);
    event->a = (uint8_t)node;
    event->shard = call->shard;
    event->generation = sim->nodes[node].life;
    event->pointer = call;
}

static struct sim_call *piece_call(struct sim *sim, unsigned node, unsigned shard,
                                   enum request_type type, const struct manifest *manifest,
                                   uint32_t number)
{
    struct sim_node *n = &sim->nodes[node];
    struct sim_call *call = calloc(1, sizeof(*call));
    assert(call != NULL);
    call->client = SIM_PIECE_CLIENT;
    call->shard = (uint8_t)shard;
    call->waits = true;
    piece_key(manifest->upload, number, call->piece_key);
    call->request.type = type;
    call->request.key = slice_make(call->piece_key, PIECE_KEY_SIZE);
    call->request.hash = hash_key(call->request.key);
    call->next = n->calls;
    n->calls = call;
    sim->open_count++;
    return call;
}

/* ---- storing ---- */

/* As large_floor_any() of the server. */
uint64_t sim_large_floor(const struct sim *sim, unsigned node)
{
    const struct sim_node *n = &sim->nodes[node];
    uint64_t floor = n->upload_version + 1;
    for (const struct sim_upload *upload = n->uploads; upload != NULL; upload = upload->next)
        if (ts_version(upload->manifest.upload) < floor)
            floor = ts_version(upload->manifest.upload);
    return ts_make(floor, 0, 0);
}

static struct sim_upload *open_upload(struct sim *sim, unsigned node, struct sim_call *call)
{
    struct sim_node *n = &sim->nodes[node];
    struct sim_upload *upload = calloc(1, sizeof(*upload));
    assert(upload != NULL);
    uint64_t wall_us = sim_wall(sim, node);
    n->upload_version = n->upload_version + 1 > wall_us ? n->upload_version + 1 : wall_us;
    upload->pieces = PIECES_MIN + (uint32_t)sim_below(sim, PIECES_MAX - PIECES_MIN + 1);
    upload->manifest.upload = ts_make(n->upload_version, node, (unsigned)n->incarnation);
    upload->manifest.size = (uint64_t)(upload->pieces - 1) * PIECE_SIZE + 1;
    upload->outcome = OUTCOME_STORED;
    upload->call = call;
    upload->key = sim->history[call->operation].key;
    upload->node = (uint8_t)node;
    upload->shard = call->shard;
    upload->next = n->uploads;
    n->uploads = upload;
    sim->uploads++;
    remember(sim, upload);
    return upload;
}

void sim_large_begin(struct sim *sim, unsigned node, struct sim_call *call)
{
    struct sim_upload *upload = open_upload(sim, node, call);
    struct sim_value *value = &call->value;
    uint64_t at = sim->now;
    call->upload = upload;
    value->size = sizeof(upload->manifest);
    memcpy(value->bytes, &upload->manifest, sizeof(upload->manifest));
    call->request.value = slice_make(value->bytes, value->size);
    call->request.large = true;
    sim->history[call->operation].value = *value;
    upload->gives_up = sim_chance(sim, GIVES_UP_PERCENT);
    upload->sent = upload->gives_up ? 1 + (uint32_t)sim_below(sim, upload->pieces) : upload->pieces;
    for (uint32_t i = 0; i < upload->sent; i++) {
        struct sim_call *piece =
            piece_call(sim, node, call->shard, REQUEST_SET, &upload->manifest, i);
        piece->upload = upload;
        piece_value(sim, &upload->manifest, upload->key, i, &piece->value);
        piece->request.value = slice_make(piece->value.bytes, piece->value.size);
        upload->under_way++;
        request_at(sim, node, piece, at);
        at += sim_below(sim, sim->profile.large_pause_us);
    }
}

static void close_upload(struct sim *sim, struct sim_upload *upload)
{
    struct sim_upload **at = &sim->nodes[upload->node].uploads;
    while (*at != upload)
        at = &(*at)->next;
    *at = upload->next;
    free(upload);
}

static void discard(struct sim *sim, struct sim_upload *upload)
{
    upload->discards = true;
    for (uint32_t i = 0; i < upload->sent; i++) {
        struct sim_call *piece =
            piece_call(sim, upload->node, upload->shard, REQUEST_DELETE, &upload->manifest, i);
        piece->upload = upload;
        upload->under_way++;
        request_at(sim, upload->node, piece, sim->now);
    }
}

/* All pieces have their outcome: the manifest goes to the shard, or the client is told. */
static void commit(struct sim *sim, struct sim_upload *upload)
{
    struct sim_call *call = upload->call;
    if (upload->outcome == OUTCOME_STORED && !upload->gives_up) {
        request_at(sim, upload->node, call, sim->now + sim_below(sim, sim->profile.large_pause_us));
        return;
    }
    call->outcome = OUTCOME_REFUSED; /* whatever became of the pieces: nothing was changed */
    sim_worker_answer(sim, upload->node, call);
}

static void stored_or_deleted(struct sim *sim, struct sim_upload *upload,
                              const struct sim_call *call, enum outcome outcome)
{
    upload->under_way--;
    if (call->request.type == REQUEST_SET && outcome != OUTCOME_STORED)
        upload->outcome = outcome;
    if (upload->under_way > 0)
        return;
    if (upload->discards)
        close_upload(sim, upload);
    else
        commit(sim, upload);
}

/* Of an unknown outcome the manifest may still become the value: then the collector decides. */
void sim_large_over(struct sim *sim, const struct sim_call *call, enum outcome outcome)
{
    if (outcome == OUTCOME_STORED || outcome == OUTCOME_UNKNOWN)
        close_upload(sim, call->upload);
    else
        discard(sim, call->upload);
}

/* ---- reading ---- */

static void ask(struct sim *sim, struct sim_download *download)
{
    struct sim_call *call = piece_call(sim, download->node, download->shard, REQUEST_GET,
                                       &download->manifest, download->number);
    call->download = download;
    request_at(sim, download->node, call, sim->now + sim_below(sim, download->pause_us));
}

void sim_large_read(struct sim *sim, const struct sim_call *call)
{
    struct sim_download *download = calloc(1, sizeof(*download));
    assert(download != NULL);
    assert(call->result.size == sizeof(download->manifest));
    memcpy(&download->manifest, call->result.bytes, sizeof(download->manifest));
    const struct sim_large *large = find(sim, download->manifest.upload);
    download->key = sim->history[call->operation].key;
    download->node = sim->history[call->operation].node;
    download->shard = call->shard;
    if (large == NULL || large->key != download->key)
        sim_fail(sim, "key %u has a manifest of another key, or of none", download->key);
    if (!sim->settling && sim_chance(sim, SLOW_PERCENT))
        download->pause_us = sim->profile.collect_us;
    sim->downloads++;
    ask(sim, download);
}

static void read_piece(struct sim *sim, struct sim_download *download, const struct sim_call *call,
                       enum outcome outcome)
{
    const struct sim_large *large = find(sim, download->manifest.upload);
    struct sim_value expected;
    piece_value(sim, &download->manifest, download->key, download->number, &expected);
    bool equal = call->result.size == expected.size &&
                 memcmp(call->result.bytes, expected.bytes, expected.size) == 0;
    if (outcome == OUTCOME_HIT && !equal)
        sim_fail(sim, "piece %u of key %u holds what is not of its upload", download->number,
                 download->key);
    if (outcome == OUTCOME_MISS && large->unnamed_us == 0)
        sim_fail(sim, "node %u: piece %u of key %u is gone, and its value was not replaced",
                 download->node, download->number, download->key);
    sim->pieces_read += outcome == OUTCOME_HIT;
    sim->pieces_late += outcome == OUTCOME_MISS;
    if (outcome == OUTCOME_HIT && ++download->number < piece_count(download->manifest.size))
        ask(sim, download);
    else
        free(download);
}

void sim_large_answered(struct sim *sim, const struct sim_call *call, enum outcome outcome)
{
    if (call->upload != NULL)
        stored_or_deleted(sim, call->upload, call, outcome);
    else if (call->download != NULL)
        read_piece(sim, call->download, call, outcome);
}

void sim_large_drop(struct sim *sim, unsigned node)
{
    struct sim_node *n = &sim->nodes[node];
    for (struct sim_call *call = n->calls; call != NULL; call = call->next) {
        free(call->download);
        call->download = NULL;
        call->upload = NULL;
    }
    while (n->uploads != NULL) {
        struct sim_upload *upload = n->uploads;
        n->uploads = upload->next;
        free(upload);
    }
}

/* ---- what must be true ---- */

void sim_large_changed(struct sim *sim, const struct sim_shard *shard, unsigned key,
                       uint64_t former)
{
    uint64_t upload = shard->keys[key].upload;
    bool valid = shard->keys[key].state == STATE_VALID;
    struct sim_large *large;
    if (former != 0 && former != upload && (large = find(sim, former)) != NULL &&
        large->unnamed_us == 0)
        large->unnamed_us = sim->now;
    if (upload != 0 && valid && (large = find(sim, upload)) != NULL && large->since_us == 0)
        large->since_us = sim->now;
    for (uint32_t i = 0; key == SIM_KEY_MAX && i < sim->large_count; i++)
        if (sim->larges[i].unnamed_us == 0 &&
            sim_key_shard(sim, sim->larges[i].key) == shard->number)
            sim->larges[i].unnamed_us = sim->now;
}

void sim_large_step(struct sim *sim, struct sim_shard *shard)
{
    struct store_stats stats;
    if (sim->profile.large_percent == 0)
        return;
    store_stats(shard->store, &stats);
    if (stats.live_bytes + MADE_MAX > stats.live_max / 4 * 3)
        shard->crowded_us = sim->now;
}

static bool of_epoch(const struct sim *sim, const struct sim_shard *shard,
                     const struct sim_shard *other)
{
    return sim->nodes[other->node].up && other->view.epoch == shard->view.epoch &&
           (other->view.members & node_bit(other->node)) != 0;
}

/* Who deletes a piece of its own accord must know that no member of its view holds a record that
 * names it, and that readers had their time. */
void sim_large_sent(struct sim *sim, struct sim_shard *shard, const struct action *action)
{
    const struct message *m = &action->header;
    uint64_t id;
    if (m->type != MSG_INV || m->record_kind != RECORD_TOMBSTONE || !key_is_piece(action->key) ||
        ts_node(m->ts) != shard->node || (m->flags & MESSAGE_REPLAY) != 0)
        return;
    memcpy(&id, action->key.data, sizeof(id));
    uint32_t number;
    memcpy(&number, (const uint8_t *)action->key.data + sizeof(id), sizeof(number));
    struct sim_large *large = find(sim, id);
    if (large->judged_ts[number] == m->ts)
        return; /* sent again: in a new view, or over a new connection */
    large->judged_ts[number] = m->ts;
    sim->pieces_deleted++;
    for (unsigned node = 1; node <= sim->profile.node_count; node++) {
        const struct sim_shard *other = &sim->nodes[node].shards[shard->number];
        bool flushed = other->keys[SIM_KEY_MAX].kind != 0;
        if (of_epoch(sim, shard, other) && !flushed && other->keys[large->key].upload == id)
            sim_fail(sim, "node %u deletes a piece of key %u, which member %u needs", shard->node,
                     large->key, node);
    }
    uint64_t grace_us = sim->profile.collect_us / 2 * 99 / 100; /* clocks differ */
    sim_large_step(sim, shard); /* it may have become crowded in this very step */
    if (large->since_us != 0 && large->unnamed_us != 0 && sim->now < large->unnamed_us + grace_us &&
        sim->now >= shard->crowded_us + CROWDED_US)
        sim_fail(sim, "node %u deletes a piece of key %u only %" PRIu64 " us after it was replaced",
                 shard->node, large->key, sim->now - large->unnamed_us);
}

static bool flushed(const struct sim_shard *shard, const struct record *record)
{
    const struct sim_shadow *flush = &shard->keys[SIM_KEY_MAX];
    return flush->kind != 0 && record->ts < flush->ts;
}

/* The current record of the piece's key names its upload. */
static bool is_named(const struct sim_shard *shard, const struct record *piece)
{
    struct slice key = piece_client_key(record_value(piece));
    struct found found;
    return store_find(shard->store, key, hash_key(key), &found) &&
           found.record->kind == RECORD_VALUE && (found.record->flags & RECORD_LARGE) != 0 &&
           !flushed(shard, found.record) &&
           manifest_of(record_value(found.record)).upload == piece_upload(piece);
}

static bool no_orphans(const struct sim_shard *shard, char *why, size_t size)
{
    const struct log *log = store_log(shard->store);
    for (uint32_t i = 0; i < log_segment_count(log); i++) {
        const struct record *record;
        uint32_t offset = 0;
        place_t place;
        while ((record = log_segment_next(log, i, &offset, &place)) != NULL) {
            struct found found;
            if (record->kind != RECORD_VALUE || !key_is_piece(record_key(record)) ||
                !store_find(shard->store, record_key(record), hash_key(record_key(record)),
                            &found) ||
                found.place != place || is_named(shard, record))
                continue;
            snprintf(why, size, "node %u holds a piece of upload %" PRIx64 ", which no value needs",
                     shard->node, piece_upload(record));
            return false;
        }
    }
    return true;
}

static bool has_pieces(const struct sim_shard *shard, unsigned key, char *why, size_t size)
{
    char text[SIM_KEY_SIZE + 1];
    struct slice name = sim_key_name(key, text);
    struct found found;
    if (!store_find(shard->store, name, hash_key(name), &found) ||
        found.record->kind != RECORD_VALUE || (found.record->flags & RECORD_LARGE) == 0 ||
        flushed(shard, found.record))
        return true;
    struct manifest manifest = manifest_of(record_value(found.record));
    for (uint32_t i = 0; i < piece_count(manifest.size); i++) {
        uint8_t bytes[PIECE_KEY_SIZE];
        piece_key(manifest.upload, i, bytes);
        struct slice piece = slice_make(bytes, sizeof(bytes));
        if (store_find(shard->store, piece, hash_key(piece), &found) &&
            found.record->kind == RECORD_VALUE)
            continue;
        snprintf(why, size, "node %u has lost piece %u of key %u, upload %" PRIx64, shard->node, i,
                 key, manifest.upload);
        return false;
    }
    return true;
}

bool sim_large_at_rest(struct sim *sim, char *why, size_t size)
{
    if (sim->profile.large_percent == 0)
        return true;
    for (unsigned node = 1; node <= sim->profile.node_count; node++) {
        for (unsigned number = 0; number < sim->profile.shard_count; number++)
            if (!no_orphans(&sim->nodes[node].shards[number], why, size))
                return false;
        for (unsigned key = 0; key < sim->profile.key_count; key++)
            if (!has_pieces(&sim->nodes[node].shards[sim_key_shard(sim, key)], key, why, size))
                return false;
    }
    return true;
}
