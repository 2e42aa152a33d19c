/* Goal: memcached's binary protocol, request by request and field by field, however the bytes come;
 * lengths that contradict each other lead to a refusal and never to a wrong next request. Method: a
 * packet builder that can lie about each field, and the trace that its bytes must give
 * (t/binary_trace.h); each input is fed whole, cut in two at every byte, and byte by byte. */
#include "proto/binary.h"

#include "proto/binary_answer.h"
#include "t/binary_trace.h"
#include "t/test.h"

static const struct binary_limits limits = {.item_size_max = 1024 * 1024, .sasl = true};
static const struct binary_limits small_limits = {.item_size_max = 1024};
static const struct binary_limits locked = {
    .item_size_max = 1024 * 1024, .sasl = true, .locked = true};

struct packet {
    uint8_t opcode;
    const char *extras; /* may hold zeros: */
    uint8_t extras_size;
    const char *key;
    uint16_t key_size; /* 0: that of `key` */
    const char *value;
    uint32_t value_size; /* 0: that of `value` */
    uint32_t opaque;
    uint64_t cas;
    /* Lies: added to what the header says. */
    int32_t body_off, key_off, extras_off;
};

struct bytes {
    struct trace data;
};

static void add_number(struct bytes *bytes, uint64_t number, unsigned size)
{
    for (unsigned i = size; i > 0; i--) {
        uint8_t byte = (uint8_t)(number >> 8 * (i - 1));
        trace_bytes(&bytes->data, &byte, 1);
    }
}

static void add(struct bytes *bytes, struct packet packet)
{
    uint32_t key_size = packet.key_size;
    uint32_t value_size = packet.value_size;
    if (key_size == 0 && packet.key != NULL)
        key_size = (uint32_t)strlen(packet.key);
    if (value_size == 0 && packet.value != NULL)
        value_size = (uint32_t)strlen(packet.value);
    uint32_t body = packet.extras_size + key_size + value_size;
    add_number(bytes, BINARY_MAGIC_REQUEST, 1);
    add_number(bytes, packet.opcode, 1);
    add_number(bytes, key_size + (uint32_t)packet.key_off, 2);
    add_number(bytes, packet.extras_size + (uint32_t)packet.extras_off, 1);
    add_number(bytes, 0x77, 1);   /* data type: ignored */
    add_number(bytes, 0x1234, 2); /* virtual bucket: ignored */
    add_number(bytes, body + (uint32_t)packet.body_off, 4);
    trace_bytes(&bytes->data, &packet.opaque, 4);
    add_number(bytes, packet.cas, 8);
    if (packet.extras_size > 0)
        trace_bytes(&bytes->data, packet.extras, packet.extras_size);
    if (key_size > 0)
        trace_bytes(&bytes->data, packet.key, key_size);
    if (value_size > 0)
        trace_bytes(&bytes->data, packet.value, value_size);
}

static bool trace_is(struct slice input, const struct binary_limits *with, const size_t *cuts,
                     size_t cut_count, const char *expected)
{
    struct trace trace = binary_trace(input, with, cuts, cut_count, NULL);
    bool same = slice_equal(slice_make(trace.text, trace.size), slice_text(expected));
    if (!same)
        test_fail(__FILE__, __LINE__, "%zu bytes, %zu cuts, first %zu, give\n%.2000s\nexpected\n%s",
                  input.size, cut_count, cut_count > 0 ? cuts[0] : 0, trace.text, expected);
    free(trace.text);
    return same;
}

/* Takes the bytes. */
static void check(struct bytes *bytes, const struct binary_limits *with, const char *expected)
{
    struct slice input = slice_make(bytes->data.text, bytes->data.size);
    size_t *cuts = malloc((input.size + 1) * sizeof(*cuts));
    size_t stride = 1 + input.size / 2000;
    bool same = trace_is(input, with, NULL, 0, expected);
    for (size_t at = 1; same && at < input.size; at += stride)
        same = trace_is(input, with, &at, 1, expected);
    for (size_t i = 0; i < input.size; i++)
        cuts[i] = i + 1;
    if (same)
        trace_is(input, with, cuts, input.size, expected);
    free(cuts);
    free(bytes->data.text);
    bytes->data = (struct trace){0};
}

/* The packet, and behind it a Noop, which shows whether the parser knows where it is. */
static void check_one(struct packet packet, const struct binary_limits *with, const char *expected)
{
    struct bytes bytes = {0};
    add(&bytes, packet);
    add(&bytes, (struct packet){.opcode = BINARY_NOOP});
    check(&bytes, with, expected);
}

#define ZEROS "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

TEST(binary, every_operation_is_read_with_all_its_fields)
{
    static const char numbers[] = "\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\4";
    static const struct {
        uint8_t opcode, extras_size;
        const char *key, *value, *expected;
    } cases[] = {
        {0x00, 0, "k", NULL, "GET:k c=9 o=5|NOOP|"},
        {0x01, 8, "k", "abc", "SET:k f=0 e=2 s=3 c=9 o=5|abcDONE|NOOP|"},
        {0x02, 8, "k", "abc", "ADD:k f=0 e=2 s=3 c=9 o=5|abcDONE|NOOP|"},
        {0x03, 8, "k", "abc", "REPLACE:k f=0 e=2 s=3 c=9 o=5|abcDONE|NOOP|"},
        {0x04, 0, "k", NULL, "DELETE:k c=9 o=5|NOOP|"},
        {0x05, 20, "k", NULL, "INCREMENT:k e=4 d=2 i=3 c=9 o=5|NOOP|"},
        {0x06, 20, "k", NULL, "DECREMENT:k e=4 d=2 i=3 c=9 o=5|NOOP|"},
        {0x07, 0, NULL, NULL, "QUIT c=9 o=5|NOOP|"},
        {0x08, 0, NULL, NULL, "FLUSH c=9 o=5|NOOP|"},
        {0x08, 4, NULL, NULL, "FLUSH e=7 c=9 o=5|NOOP|"},
        {0x09, 0, "k", NULL, "GETQ:k c=9 o=5|NOOP|"},
        {0x0a, 0, NULL, NULL, "NOOP c=9 o=5|NOOP|"},
        {0x0b, 0, NULL, NULL, "VERSION c=9 o=5|NOOP|"},
        {0x0c, 0, "k", NULL, "GETK:k c=9 o=5|NOOP|"},
        {0x0d, 0, "k", NULL, "GETKQ:k c=9 o=5|NOOP|"},
        {0x0e, 0, "k", "abc", "APPEND:k s=3 c=9 o=5|abcDONE|NOOP|"},
        {0x0f, 0, "k", "abc", "PREPEND:k s=3 c=9 o=5|abcDONE|NOOP|"},
        {0x10, 0, NULL, NULL, "STAT c=9 o=5|NOOP|"},
        {0x10, 0, "items", NULL, "STAT:items c=9 o=5|NOOP|"},
        {0x11, 8, "k", "abc", "SETQ:k f=0 e=2 s=3 c=9 o=5|abcDONE|NOOP|"},
        {0x12, 8, "k", "abc", "ADDQ:k f=0 e=2 s=3 c=9 o=5|abcDONE|NOOP|"},
        {0x13, 8, "k", "abc", "REPLACEQ:k f=0 e=2 s=3 c=9 o=5|abcDONE|NOOP|"},
        {0x14, 0, "k", NULL, "DELETEQ:k c=9 o=5|NOOP|"},
        {0x15, 20, "k", NULL, "INCREMENTQ:k e=4 d=2 i=3 c=9 o=5|NOOP|"},
        {0x16, 20, "k", NULL, "DECREMENTQ:k e=4 d=2 i=3 c=9 o=5|NOOP|"},
        {0x17, 0, NULL, NULL, "QUITQ c=9 o=5|NOOP|"},
        {0x18, 4, NULL, NULL, "FLUSHQ e=7 c=9 o=5|NOOP|"},
        {0x19, 0, "k", "abc", "APPENDQ:k s=3 c=9 o=5|abcDONE|NOOP|"},
        {0x1a, 0, "k", "abc", "PREPENDQ:k s=3 c=9 o=5|abcDONE|NOOP|"},
        {0x1c, 4, "k", NULL, "TOUCH:k e=7 c=9 o=5|NOOP|"},
        {0x1d, 4, "k", NULL, "GAT:k e=7 c=9 o=5|NOOP|"},
        {0x1e, 4, "k", NULL, "GATQ:k e=7 c=9 o=5|NOOP|"},
        {0x20, 0, NULL, NULL, "SASL_LIST_MECHS c=9 o=5|NOOP|"},
        {0x21, 0, "PLAIN", "abc", "SASL_AUTH:PLAIN s=3 c=9 o=5|abcDONE|NOOP|"},
        {0x22, 0, "PLAIN", "abc", "SASL_STEP:PLAIN s=3 c=9 o=5|abcDONE|NOOP|"},
        {0x23, 4, "k", NULL, "GATK:k e=7 c=9 o=5|NOOP|"},
        {0x24, 4, "k", NULL, "GATKQ:k e=7 c=9 o=5|NOOP|"},
        {0xe0, 0, NULL, NULL, "PERSIST c=9 o=5|NOOP|"},
        {0xe1, 0, NULL, NULL, "PERSISTQ c=9 o=5|NOOP|"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct packet packet = {.opcode = cases[i].opcode,
                                .extras = cases[i].extras_size == 4 ? "\0\0\0\7" : numbers,
                                .extras_size = cases[i].extras_size,
                                .key = cases[i].key,
                                .value = cases[i].value,
                                .cas = 9,
                                .opaque = 5};
        char expected[100], *zero;
        snprintf(expected, sizeof(expected), "%s", cases[i].expected);
        if ((zero = strstr(expected, " f=0")) != NULL) /* left out like all zeros */
            memmove(zero, zero + 4, strlen(zero + 4) + 1);
        check_one(packet, &limits, expected);
    }
}

TEST(binary, flags_and_times_have_32_bits_and_no_sign)
{
    struct packet set = {.opcode = BINARY_SET,
                         .extras = "\xde\xad\xbe\xef\xff\xff\xff\xff",
                         .extras_size = 8,
                         .key = "k",
                         .value = "v",
                         .cas = UINT64_MAX};
    check_one(set, &limits,
              "SET:k f=3735928559 e=4294967295 s=1 c=18446744073709551615|vDONE|NOOP|");
    struct packet increment = {
        .opcode = BINARY_INCREMENT,
        .extras =
            "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff\xff",
        .extras_size = 20,
        .key = "k"};
    check_one(increment, &limits,
              "INCREMENT:k e=4294967295 d=18446744073709551615 i=18446744073709551614|NOOP|");
}

TEST(binary, keys_and_values_may_hold_any_byte_and_values_none)
{
    struct packet get = {.opcode = BINARY_GET, .key = "a b\r\n\0c", .key_size = 7};
    struct bytes bytes = {0};
    add(&bytes, get);
    struct trace trace =
        binary_trace(slice_make(bytes.data.text, bytes.data.size), &limits, NULL, 0, NULL);
    EXPECT(slice_equal(slice_make(trace.text, trace.size), slice_make("GET:a b\r\n\0c|", 12)));
    free(trace.text);
    free(bytes.data.text);
    check_one((struct packet){.opcode = BINARY_SET, .extras = ZEROS, .extras_size = 8, .key = "k"},
              &limits, "SET:k|DONE|NOOP|");
    check_one((struct packet){.opcode = BINARY_APPEND, .key = "k"}, &limits, "APPEND:k|DONE|NOOP|");
    check_one((struct packet){.opcode = BINARY_SET,
                              .extras = ZEROS,
                              .extras_size = 8,
                              .key = "k",
                              .value = "a\r\n\x80"},
              &limits,
              "SET:k s=4|a\r\n\x80"
              "DONE|NOOP|");
}

static void check_key_size(uint16_t size, bool good)
{
    char key[300], expected[400];
    memset(key, 'x', sizeof(key));
    if (good)
        snprintf(expected, sizeof(expected), "GET:%.*s|NOOP|", size, key);
    else
        snprintf(expected, sizeof(expected), "!04X|CLOSE|");
    check_one((struct packet){.opcode = BINARY_GET, .key = key, .key_size = size}, &limits,
              expected);
}

TEST(binary, a_key_has_at_most_250_bytes)
{
    check_key_size(249, true);
    check_key_size(250, true);
    check_key_size(251, false);
    check_key_size(256, false); /* 8 bits of it are 0 */
}

enum key_rule { KEY_NO, KEY_YES, KEY_MAY };

static const struct rule {
    uint8_t opcode, extras, extras_or;
    enum key_rule key;
    bool value;
} rules[] = {
#define OPCODE(number, name, base, loud, with_key, extras, extras_or, key, value, open)            \
    {number, extras, extras_or, KEY_##key, value},
#include "proto/binary_opcode.def"
#undef OPCODE
};
enum { RULE_COUNT = sizeof(rules) / sizeof(rules[0]) };

static void check_lengths_refused(const struct rule *rule, unsigned extras, bool key, bool value)
{
    check_one((struct packet){.opcode = rule->opcode,
                              .extras = ZEROS,
                              .extras_size = (uint8_t)extras,
                              .key = key ? "k" : NULL,
                              .value = value ? "v" : NULL},
              &limits, "!04X|CLOSE|");
}

/* For each operation: a byte more and less of extras, no key where it needs one, a key where it
 * takes none, a value where it takes none. */
TEST(binary, lengths_that_an_operation_does_not_have_are_refused_and_close)
{
    for (unsigned i = 0; i < RULE_COUNT; i++) {
        const struct rule *rule = &rules[i];
        bool key = rule->key == KEY_YES;
        check_lengths_refused(rule, rule->extras_or + 1u, key, false);
        if (rule->extras_or > 0)
            check_lengths_refused(rule, rule->extras_or - 1u, key, false);
        if (rule->key != KEY_MAY)
            check_lengths_refused(rule, rule->extras, !key, false);
        if (!rule->value)
            check_lengths_refused(rule, rule->extras, key, true);
    }
}

TEST(binary, a_body_too_short_for_key_and_extras_is_unknown_and_closes)
{
    struct packet set = {
        .opcode = BINARY_SET, .extras = ZEROS, .extras_size = 8, .key = "key", .value = "v"};
    set.body_off = -1;
    check_one(set, &limits, "SET:key|DONE|CLOSE|"); /* the value's byte is the next magic */
    set.body_off = -2;
    check_one(set, &limits, "!81X|CLOSE|");
    set.body_off = -12;
    check_one(set, &limits, "!81X|CLOSE|");
    struct packet get = {.opcode = BINARY_GET, .key = "key", .key_off = 1};
    check_one(get, &limits, "!81X|CLOSE|");
    get.key_off = -1; /* a value where none may be */
    check_one(get, &limits, "!04X|CLOSE|");
    struct packet noop = {.opcode = BINARY_NOOP, .extras_off = 1};
    check_one(noop, &limits, "!81X|CLOSE|");
    noop = (struct packet){.opcode = BINARY_NOOP, .key_off = UINT16_MAX};
    struct bytes bytes = {0};
    add(&bytes, noop); /* waits for a key of 65535 bytes, keeping none of it */
    check(&bytes, &limits, "");
}

TEST(binary, a_body_over_1_gib_is_refused_at_once_and_closes)
{
    struct packet set = {.opcode = BINARY_SET, .extras = ZEROS, .extras_size = 8, .key = "k"};
    struct bytes bytes = {0};
    static const uint32_t bodies[] = {(1u << 30) + 1, INT32_MAX - 2u, INT32_MAX, INT32_MAX + 1u,
                                      UINT32_MAX};
    for (unsigned i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        set.body_off = (int32_t)(bodies[i] - 9);
        check_one(set, &limits, "!04X|CLOSE|");
    }
    set.body_off = (1 << 30) - 9; /* too large for an item, but skipped like any other */
    add(&bytes, set);
    check(&bytes, &limits, "SET:k s=1073741815^|");
}

static void check_item_size(uint8_t opcode, uint32_t size, const char *expected)
{
    char value[2000];
    memset(value, 'v', sizeof(value));
    check_one((struct packet){.opcode = opcode,
                              .extras = ZEROS,
                              .extras_size = opcode == BINARY_APPEND ? 0 : 8,
                              .key = "k",
                              .value = value,
                              .value_size = size},
              &small_limits, expected);
}

/* With -I 1k and a key of one byte 964 bytes fit, as in text. */
TEST(binary, a_value_that_is_too_large_is_swallowed_and_only_a_set_drops_the_old_one)
{
    char expected[1200], value[965] = {0};
    memset(value, 'v', 964);
    snprintf(expected, sizeof(expected), "SET:k s=964|%sDONE|NOOP|", value);
    check_item_size(BINARY_SET, 964, expected);
    check_item_size(BINARY_SET, 965, "SET:k s=965^|!03|NOOP|");
    check_item_size(BINARY_SETQ, 966, "SETQ:k s=966^|!03|NOOP|");
    check_item_size(BINARY_ADD, 965, "!03|NOOP|");
    check_item_size(BINARY_REPLACE, 965, "!03|NOOP|");
    check_item_size(BINARY_APPEND, 965, "!03|NOOP|");
    check_item_size(BINARY_ADDQ, 965, "!03|NOOP|");
}

TEST(binary, an_unknown_operation_is_refused_and_its_body_skipped)
{
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        bool known = false;
        for (unsigned i = 0; i < RULE_COUNT; i++)
            known |= rules[i].opcode == opcode;
        if (!known)
            check_one((struct packet){.opcode = (uint8_t)opcode,
                                      .extras = ZEROS,
                                      .extras_size = 3,
                                      .key = "key",
                                      .value = "\x80 value"},
                      &limits, "!81|NOOP|");
    }
    check_one((struct packet){.opcode = 0x1b}, &limits, "!81|NOOP|");
}

TEST(binary, a_wrong_magic_closes_without_an_answer)
{
    struct bytes bytes = {0};
    add(&bytes, (struct packet){.opcode = BINARY_GET, .key = "k"});
    trace_bytes(&bytes.data, "get k\r\n", 7);
    check(&bytes, &limits, "GET:k|CLOSE|");
    trace_bytes(&bytes.data, "\x81", 1);
    check(&bytes, &limits, "CLOSE|");
}

TEST(binary, before_authentication_all_but_sasl_and_version_is_refused_and_closes)
{
    for (unsigned i = 0; i < RULE_COUNT; i++) {
        const struct rule *rule = &rules[i];
        bool open =
            rule->opcode == BINARY_VERSION || (rule->opcode >> 4 == 2 && rule->opcode < 0x23);
        struct packet packet = {.opcode = rule->opcode,
                                .extras = ZEROS,
                                .extras_size = rule->extras,
                                .key = rule->key == KEY_YES ? "k" : NULL,
                                .value = rule->value ? "v" : NULL};
        struct bytes bytes = {0};
        char expected[100];
        snprintf(expected, sizeof(expected), "%s%s%s|%s", binary_trace_name(rule->opcode),
                 rule->key == KEY_YES ? ":k" : "", rule->value ? " s=1" : "",
                 rule->value ? "vDONE|" : "");
        add(&bytes, packet);
        check(&bytes, &locked, open ? expected : "!20X|CLOSE|");
    }
    check_one((struct packet){.opcode = 0x1b}, &locked, "!20X|CLOSE|");
}

TEST(binary, without_sasl_its_operations_are_unknown)
{
    check_one((struct packet){.opcode = BINARY_SASL_LIST_MECHS}, &small_limits, "!81|NOOP|");
    check_one((struct packet){.opcode = BINARY_SASL_AUTH, .key = "PLAIN", .value = "x"},
              &small_limits, "!81|NOOP|");
}

static void check_sasl(uint16_t mechanism, uint32_t size, const char *expected)
{
    char *value = calloc(1, size + 1), key[40];
    memset(key, 'M', sizeof(key));
    memset(value, 'v', size);
    check_one((struct packet){.opcode = BINARY_SASL_AUTH,
                              .key = key,
                              .key_size = mechanism,
                              .value = value,
                              .value_size = size},
              &limits, expected);
    free(value);
}

TEST(binary, what_a_stranger_sends_to_sasl_has_a_limit)
{
    check_sasl(31, 0, "SASL_AUTH:MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM|DONE|NOOP|");
    check_sasl(32, 0, "SASL_AUTH:MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM|DONE|NOOP|");
    check_sasl(33, 1, "!04|NOOP|");
    check_sasl(1, BINARY_SASL_SIZE_MAX + 1, "!82|NOOP|");
    struct bytes bytes = {0};
    char size[4] = "M";
    add(&bytes,
        (struct packet){.opcode = BINARY_SASL_AUTH, .key = size, .body_off = BINARY_SASL_SIZE_MAX});
    check(&bytes, &limits, "SASL_AUTH:M s=16384|");
}

TEST(binary, a_value_that_the_caller_cannot_take_is_swallowed)
{
    check_one((struct packet){.opcode = BINARY_SETQ,
                              .extras = ZEROS,
                              .extras_size = 8,
                              .key = "refuse",
                              .value = "abc"},
              &limits, "SETQ:refuse s=3|!82|NOOP|");
}

TEST(binary, a_connection_may_end_between_requests_only)
{
    struct bytes bytes = {0};
    add(&bytes,
        (struct packet){
            .opcode = BINARY_SET, .extras = ZEROS, .extras_size = 8, .key = "k", .value = "v"});
    for (size_t size = 0; size <= bytes.data.size; size++) {
        bool between;
        struct trace trace =
            binary_trace(slice_make(bytes.data.text, size), &limits, NULL, 0, &between);
        EXPECT(between == (size == 0 || size == bytes.data.size));
        free(trace.text);
    }
    free(bytes.data.text);
}

/* ---- answers ---- */

static const struct binary_tag tag = {.opcode = 0x0c, .with_key = true, .opaque = 0xefbeadde};

static void check_answer(const uint8_t *out, size_t size, const char *expected,
                         size_t expected_size)
{
    EXPECT(size == expected_size);
    EXPECT(size == expected_size && memcmp(out, expected, size) == 0);
}
#define CHECK_ANSWER(out, size, expected) check_answer(out, size, expected, sizeof(expected) - 1)

TEST(binary_answer, a_hit_has_flags_cas_and_the_key_if_it_is_asked_for)
{
    uint8_t out[BINARY_ANSWER_SIZE_MAX];
    struct binary_tag plain = tag;
    plain.with_key = false;
    size_t size = binary_put_hit(out, &tag, 0x0102030405060708, 9, slice_text("key"), 10);
    CHECK_ANSWER(out, size,
                 "\x81\x0c\0\3\4\0\0\0\0\0\0\x11\xde\xad\xbe\xef\1\2\3\4\5\6\7\x08\0\0\0\x09key");
    size = binary_put_hit(out, &plain, 1, 9, slice_text("key"), 10);
    CHECK_ANSWER(out, size,
                 "\x81\x0c\0\0\4\0\0\0\0\0\0\x0e\xde\xad\xbe\xef\0\0\0\0\0\0\0\1\0\0\0\x09");
}

TEST(binary_answer, a_miss_has_the_key_or_the_text)
{
    uint8_t out[BINARY_ANSWER_SIZE_MAX];
    struct binary_tag plain = tag;
    plain.with_key = false;
    size_t size = binary_put_miss(out, &tag, slice_text("key"));
    CHECK_ANSWER(out, size, "\x81\x0c\0\3\0\0\0\1\0\0\0\3\xde\xad\xbe\xef\0\0\0\0\0\0\0\0key");
    size = binary_put_miss(out, &plain, slice_text("key"));
    CHECK_ANSWER(out, size,
                 "\x81\x0c\0\0\0\0\0\1\0\0\0\x09\xde\xad\xbe\xef\0\0\0\0\0\0\0\0Not found");
}

TEST(binary_answer, a_number_has_8_bytes)
{
    uint8_t out[BINARY_ANSWER_SIZE_MAX];
    size_t size = binary_put_number(out, &tag, 2, UINT64_MAX - 1);
    CHECK_ANSWER(out, size,
                 "\x81\x0c\0\0\0\0\0\0\0\0\0\x08\xde\xad\xbe\xef\0\0\0\0\0\0\0\2"
                 "\xff\xff\xff\xff\xff\xff\xff\xfe");
}

TEST(binary_answer, every_status_fits_with_its_text)
{
    uint8_t out[BINARY_ANSWER_SIZE_MAX];
    for (int i = 0; i < BINARY_STATUS_COUNT; i++) {
        enum binary_status status = (enum binary_status)i;
        struct slice text = binary_status_text(status);
        size_t size = binary_put_status(out, &tag, status, 0);
        EXPECT(size == BINARY_HEADER_SIZE + text.size);
        EXPECT(out[7] == binary_status_number(status));
        EXPECT(out[11] == text.size);
    }
}

TEST(binary_answer, a_statistic_fits_or_leaves_nothing)
{
    uint8_t out[64];
    size_t size = binary_put_stat(out, sizeof(out), &tag, slice_text("pid"), slice_text("12"));
    CHECK_ANSWER(out, size, "\x81\x0c\0\3\0\0\0\0\0\0\0\5\xde\xad\xbe\xef\0\0\0\0\0\0\0\0pid12");
    EXPECT(binary_put_stat(out, 28, &tag, slice_text("pid"), slice_text("12")) == 0);
    EXPECT(binary_put_stat(out, 29, &tag, slice_text("pid"), slice_text("12")) == 29);
    EXPECT(binary_put_stat(out, 23, &tag, slice_make(NULL, 0), slice_make(NULL, 0)) == 0);
    EXPECT(binary_put_stat(out, sizeof(out), &tag, slice_make("", SIZE_MAX),
                           slice_make("", SIZE_MAX)) == 0);
}
