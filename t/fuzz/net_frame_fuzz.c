/* Goal: no bytes of a peer make net's parsers read outside what they were given or believe an
 * impossible frame. Method: any bytes as frame or handshake; the low bits of the first byte choose
 * which, and whether checksums are put right, or a fuzzer would never get past them. Run under
 * AddressSanitizer. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "net/frame.h"
#include "net/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct hello_side side = {.transports = HELLO_TCP,
                                       .self = 1,
                                       .known = 0x0e,
                                       .lane_count = 3,
                                       .message_size_max = 4096,
                                       .configuration = 7};

static void walk(const struct frame_header *header, const uint8_t *payload)
{
    struct slice message;
    uint32_t offset = 0, count = 0;
    volatile uint8_t sum = 0;
    while (frame_message(header, payload, &offset, &message)) {
        const uint8_t *bytes = message.data;
        assert((uintptr_t)bytes % 8 == 0);
        assert(bytes + message.size <= payload + header->size);
        enum frame_kind kind = frame_message_kind(message);
        assert(kind < FRAME_KIND_COUNT);
        assert(kind == FRAME_MESSAGE || message.size == FRAME_PROBE_SIZE);
        for (size_t i = 0; i < message.size; i++)
            sum = (uint8_t)(sum + bytes[i]);
        count++;
    }
    assert(count == header->message_count);
}

static void try_frame(const uint8_t *data, size_t size, bool repair)
{
    struct frame_header header;
    if (size < sizeof(header))
        return;
    memcpy(&header, data, sizeof(header));
    size_t left = size - sizeof(header);
    uint8_t *payload = malloc(left > 0 ? left : 1);
    assert(payload != NULL);
    memcpy(payload, data + sizeof(header), left);
    if (repair) {
        header.size = (uint32_t)(left & ~(size_t)7);
        header.magic = FRAME_MAGIC;
        header.sequence = 0;
        header.payload_crc = crc32c(0, payload, header.size);
        frame_seal(&header);
    }
    if (frame_check_header(&header, 0, 1 << 20) == FRAME_OK && header.size <= left &&
        frame_check_payload(&header, payload) == FRAME_OK)
        walk(&header, payload);
    free(payload);
}

static void try_hello(const uint8_t *data, size_t size, bool repair)
{
    struct hello call, given = {0};
    struct hello_proof proof = {0};
    struct hello_side caller = side;
    memcpy(&given, data, size < sizeof(given) ? size : sizeof(given));
    memcpy(&proof, data, size < sizeof(proof) ? size : sizeof(proof));
    if (repair) {
        given.magic = HELLO_MAGIC;
        given.version = HELLO_VERSION;
        given.size = sizeof(given);
        given.crc = crc32c(0, &given, offsetof(struct hello, crc));
        proof.crc = crc32c(0, &proof, offsetof(struct hello_proof, crc));
    }
    if (hello_check_call(&given, &side) == HELLO_ACCEPTED) {
        assert(given.from > side.self && given.from < 4);
        assert(given.lane < side.lane_count);
    }
    caller.self = 3;
    hello_make(&call, &caller, 1, 0, 5);
    enum hello_refusal refusal = hello_check_answer(&given, &call, &caller);
    assert(refusal != HELLO_ACCEPTED || given.from == 1);
    assert(hello_refusal_text(given.refusal) != NULL);
    (void)hello_check_proof(&proof, &call, &given, &side);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    bool repair = (data[0] & 2) != 0;
    if (data[0] & 1)
        try_hello(data + 1, size - 1, repair);
    else
        try_frame(data + 1, size - 1, repair);
    return 0;
}
