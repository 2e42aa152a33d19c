#include "net/input.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    INPUT_SIZE = 65536 + 4096, /* usual buffer */
    READ_MIN = 4096,           /* room below which a read is not worth its call */
    HELD_MAX = 262144,         /* read behind a held frame: heartbeats, mostly */
};

void input_init(struct input *input, uint32_t payload_max)
{
    *input = (struct input){.payload_max = payload_max};
}

void input_reset(struct input *input)
{
    free(input->data);
    input->data = NULL;
    input->capacity = 0;
    input->begin = 0;
    input->end = 0;
    input->message_at = 0;
    input->checked = false;
    input->sequence = 0;
}

/* Makes room for `size` bytes from `begin` on. */
static enum status make_room(struct input *input, size_t size)
{
    size_t held = input->end - input->begin;
    if (input->capacity - input->begin >= size)
        return STATUS_OK;
    if (input->capacity >= size) {
        memmove(input->data, input->data + input->begin, held);
    } else {
        size_t capacity = size < INPUT_SIZE ? INPUT_SIZE : size;
        uint8_t *data = malloc(capacity);
        if (data == NULL)
            return STATUS_NO_MEMORY;
        if (held > 0)
            memcpy(data, input->data + input->begin, held);
        free(input->data);
        input->data = data;
        input->capacity = capacity;
        input->grown = capacity > INPUT_SIZE;
    }
    input->begin = 0;
    input->end = held;
    return STATUS_OK;
}

/* A frame that arrives has its room already (input_peek); else this makes some, up to the limit. */
static enum status prepare_read(struct input *input)
{
    size_t held = input->end - input->begin;
    size_t limit = sizeof(struct frame_header) + input->payload_max + HELD_MAX;
    if (input->capacity - input->end >= READ_MIN ||
        (!input->checked && input->capacity > input->end))
        return STATUS_OK;
    if (held + READ_MIN > limit)
        return STATUS_BUSY;
    size_t wanted = held + READ_MIN;
    if (wanted > input->capacity && input->checked)
        wanted = held * 2 + READ_MIN < limit ? held * 2 + READ_MIN : limit;
    return make_room(input, wanted);
}

enum status input_read(struct input *input, int fd)
{
    enum status status = prepare_read(input);
    if (status != STATUS_OK)
        return status;
    ssize_t got = recv(fd, input->data + input->end, input->capacity - input->end, MSG_DONTWAIT);
    if (got == 0)
        return STATUS_CLOSED;
    if (got < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? STATUS_AGAIN : STATUS_IO;
    input->end += (size_t)got;
    input->bytes += (uint64_t)got;
    return STATUS_OK;
}

static struct frame_header *frame_at(const struct input *input)
{
    return (struct frame_header *)(input->data + input->begin);
}

/* STATUS_OK: a whole good frame lies at `begin`. */
static enum status check_frame(struct input *input, enum frame_error *error)
{
    if (input->end - input->begin < sizeof(struct frame_header))
        return STATUS_AGAIN;
    *error = frame_check_header(frame_at(input), input->sequence, input->payload_max);
    if (*error == FRAME_OK && frame_at(input)->magic == FRAME_PULL_MAGIC)
        *error = FRAME_BAD_MAGIC; /* nothing can be pulled through a socket */
    if (*error != FRAME_OK)
        return STATUS_CORRUPT;
    size_t size = sizeof(struct frame_header) + frame_at(input)->size;
    if (input->end - input->begin < size) {
        enum status status = make_room(input, size);
        return status == STATUS_OK ? STATUS_AGAIN : status;
    }
    *error = frame_check_payload(frame_at(input), frame_at(input) + 1);
    if (*error != FRAME_OK)
        return STATUS_CORRUPT;
    input->checked = true;
    input->message_at = 0;
    input->frames++;
    return STATUS_OK;
}

static void skip_frame(struct input *input)
{
    input->begin += sizeof(struct frame_header) + frame_at(input)->size;
    input->checked = false;
    input->sequence++;
    if (input->begin == input->end) {
        input->begin = 0;
        input->end = 0;
    }
}

enum status input_peek(struct input *input, struct slice *message, enum frame_error *error)
{
    for (;;) {
        if (!input->checked) {
            enum status status = check_frame(input, error);
            if (status != STATUS_OK)
                return status;
        }
        uint32_t offset = input->message_at;
        if (frame_message(frame_at(input), frame_at(input) + 1, &offset, message))
            return STATUS_OK;
        skip_frame(input);
    }
}

void input_take(struct input *input)
{
    struct slice message;
    assert(input->checked);
    bool found = frame_message(frame_at(input), frame_at(input) + 1, &input->message_at, &message);
    assert(found);
    input->messages += frame_message_kind(message) == FRAME_MESSAGE;
}

void input_shrink(struct input *input)
{
    if (input->capacity > INPUT_SIZE && input->end == 0 && !input->grown) {
        free(input->data);
        input->data = NULL;
        input->capacity = 0;
    }
    input->grown = false;
}
