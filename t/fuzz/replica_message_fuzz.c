/* Any bytes: message_invalid either refuses them or they are one whole message whose parts lie
 * inside. */
#include <stdlib.h>

#include "replica/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* aligned, and no byte behind it is ours */
    struct message *message = malloc(size > 0 ? size : 1);
    volatile uint8_t sum = 0;
    memcpy(message, data, size);
    if (message_invalid(slice_make(message, size)) == NULL) {
        struct slice parts[] = {message_key(message), message_value(message)};
        for (int i = 0; i < 2; i++)
            for (size_t at = 0; at < parts[i].size; at++)
                sum ^= ((const uint8_t *)parts[i].data)[at];
    }
    free(message);
    return 0;
}
