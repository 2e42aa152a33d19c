#include "replica/message.h"

#include <stdbool.h>

#include "replica/piece.h"

static const struct {
    const char *name;
    bool record;
} types[] = {
#define MESSAGE(name_, record_, any_epoch, text)                                                   \
    [MSG_##name_] = {.name = #name_, .record = (record_)},
#include "replica/message.def"
#undef MESSAGE
};

const char *message_name(unsigned type)
{
    return type > MSG_NONE && type < MSG_COUNT ? types[type].name : "?";
}

static const char *record_part_invalid(const struct message *message)
{
    if (message->record_kind != RECORD_VALUE && message->record_kind != RECORD_TOMBSTONE)
        return "a record of unknown kind";
    if (message->record_flags & ~RECORD_FLAGS)
        return "a record with unknown flags";
    if (message->ts == 0)
        return "a record without a timestamp";
    if (message->record_kind == RECORD_TOMBSTONE && message->value_size != 0)
        return "a tombstone with a value";
    if ((message->record_flags & RECORD_LARGE) && message->value_size != sizeof(struct manifest))
        return "a manifest of the wrong size";
    return NULL;
}

const char *message_invalid(struct slice bytes)
{
    const struct message *message = bytes.data;
    if (bytes.size < sizeof(*message))
        return "shorter than a header";
    if ((uintptr_t)bytes.data % 8 != 0)
        return "not aligned";
    if (message->type <= MSG_NONE || message->type >= MSG_COUNT)
        return "unknown message type";
    if (bytes.size != message_size(message))
        return "its sizes do not add up";
    if (message->key_size > RECORD_KEY_SIZE_MAX)
        return "key too long";
    if (message->from < 1 || message->from > 7)
        return "sender is no node";
    if (message->reserved != 0)
        return "reserved bits are set";
    if (types[message->type].record)
        return record_part_invalid(message);
    return message->value_size != 0 ? "a value where none belongs" : NULL;
}
