#include "net/proof.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

void proof_make(uint8_t proof[PROOF_SIZE], const void *secret, size_t secret_size, const void *data,
                size_t size)
{
    unsigned made_size = PROOF_SIZE;
    const void *made = HMAC(EVP_sha256(), secret, (int)secret_size, data, size, proof, &made_size);
    assert(made != NULL);
    assert(made_size == PROOF_SIZE);
}

bool proof_equal(const uint8_t a[PROOF_SIZE], const uint8_t b[PROOF_SIZE])
{
    return CRYPTO_memcmp(a, b, PROOF_SIZE) == 0;
}
