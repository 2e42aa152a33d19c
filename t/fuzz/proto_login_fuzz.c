/* Goal: neither the parser of logins nor that of password files reads outside its input, asserts or
 * waits for ever; a login means the same in any pieces; who stands in a file it took can log in.
 * Method: the same data is read as both. The first 8 bytes choose the cuts. */
#include "base/prng.h"
#include "proto/password.h"
#include "t/login_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONTROL_SIZE = 8, CUTS_MAX = 64 };

static void try_pieces(struct slice input, struct prng *prng)
{
    size_t cuts[CUTS_MAX], at = 0, count = 0;
    size_t step_max = 1 + prng_below(prng, input.size + 1);
    while (count < CUTS_MAX && at < input.size) {
        at += 1 + prng_below(prng, step_max);
        cuts[count++] = at < input.size ? at : input.size;
    }
    struct trace whole = login_trace(input, NULL, 0);
    struct trace pieces = login_trace(input, cuts, count);
    assert(slice_equal(slice_make(pieces.text, pieces.size), slice_make(whole.text, whole.size)));
    free(whole.text);
    free(pieces.text);
}

static void try_file(struct slice input)
{
    struct passwords passwords;
    uint32_t line;
    void *copy = malloc(input.size + 1);
    memcpy(copy, input.data, input.size);
    enum password_error error = password_read(&passwords, slice_make(copy, input.size), &line);
    free(copy);
    assert(password_error_text(error) != NULL);
    for (uint32_t i = 0; error == PASSWORD_GOOD && i < passwords.count; i++) {
        const struct password_entry *entry = &passwords.entries[i];
        struct slice user = slice_make(entry->user, entry->user_size);
        struct slice password = slice_make(entry->password, entry->size);
        assert(password_is_right(&passwords, user, password));
        assert(
            !password_is_right(&passwords, user, slice_make(password.data, password.size - 1u)) ||
            passwords.count > 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct prng prng;
    if (size < CONTROL_SIZE)
        return 0;
    memcpy(&prng.state, data, CONTROL_SIZE);
    struct slice input = slice_make(data + CONTROL_SIZE, size - CONTROL_SIZE);
    try_pieces(input, &prng);
    try_file(input);
    return 0;
}
