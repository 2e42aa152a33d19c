#include "net/frame.h"

#include <string.h>

#include "base/crc32c.h"

static const char *const texts[] = {
#define FRAME_ERROR_ROW(name, text) [FRAME_##name] = (text),
#include "net/frame_error.def"
#undef FRAME_ERROR_ROW
};

const char *frame_error_text(enum frame_error error)
{
    assert((unsigned)error < FRAME_ERROR_COUNT);
    return texts[error];
}

static uint32_t header_crc(const struct frame_header *header)
{
    return crc32c(0, header, offsetof(struct frame_header, header_crc));
}

void frame_seal(struct frame_header *header)
{
    header->header_crc = header_crc(header);
}

enum frame_error frame_check_header(const struct frame_header *header, uint32_t sequence,
                                    uint32_t payload_max)
{
    if (header->magic != FRAME_MAGIC && header->magic != FRAME_PULL_MAGIC)
        return FRAME_BAD_MAGIC;
    if (header->header_crc != header_crc(header))
        return FRAME_BAD_HEADER;
    if (header->sequence != sequence)
        return FRAME_BAD_SEQUENCE;
    if (header->size > payload_max || header->size % 8 != 0)
        return FRAME_BAD_SIZE;
    if (header->message_count > header->size / sizeof(struct message_header))
        return FRAME_BAD_SIZE;
    return FRAME_OK;
}

/* The size of the message whose header is at `offset`, with all that belongs to it; 0: it does not
 * fit. */
static uint32_t message_extent(const struct frame_header *header, const uint8_t *payload,
                               uint32_t offset)
{
    struct message_header message;
    uint32_t left = header->size - offset;
    if (left < sizeof(message))
        return 0;
    memcpy(&message, payload + offset, sizeof(message));
    if (message.kind >= FRAME_KIND_COUNT || message.size > left - sizeof(message))
        return 0;
    if (message.kind != FRAME_MESSAGE && message.size != FRAME_PROBE_SIZE)
        return 0;
    size_t extent = frame_message_size(message.size);
    return extent > left ? 0 : (uint32_t)extent;
}

enum frame_error frame_check_payload(const struct frame_header *header, const void *payload)
{
    if (crc32c(0, payload, header->size) != header->payload_crc)
        return FRAME_BAD_PAYLOAD;
    uint32_t offset = 0;
    for (uint32_t i = 0; i < header->message_count; i++) {
        uint32_t extent = message_extent(header, payload, offset);
        if (extent == 0)
            return FRAME_BAD_MESSAGES;
        offset += extent;
    }
    return offset == header->size ? FRAME_OK : FRAME_BAD_MESSAGES;
}

bool frame_message(const struct frame_header *header, const void *payload, uint32_t *offset,
                   struct slice *message)
{
    if (*offset == header->size)
        return false;
    uint32_t extent = message_extent(header, payload, *offset);
    assert(extent != 0);
    struct message_header found;
    memcpy(&found, (const uint8_t *)payload + *offset, sizeof(found));
    *message = slice_make((const uint8_t *)payload + *offset + sizeof(found), found.size);
    *offset += extent;
    return true;
}

enum frame_kind frame_message_kind(struct slice message)
{
    struct message_header header;
    memcpy(&header, (const uint8_t *)message.data - sizeof(header), sizeof(header));
    return (enum frame_kind)header.kind;
}
