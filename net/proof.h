/* proof.h: how one node proves to another that it knows the secret: HMAC-SHA256. Pure; any thread.
 *
 * proof_openssl.c is what is built; proof_own.c is for builds without OpenSSL (make TLS=0). */
#ifndef NET_PROOF_H
#define NET_PROOF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROOF_SIZE = 32 };

void proof_make(uint8_t proof[PROOF_SIZE], const void *secret, size_t secret_size, const void *data,
                size_t size);

/* Takes the same time whatever they hold. */
bool proof_equal(const uint8_t a[PROOF_SIZE], const uint8_t b[PROOF_SIZE]);

#endif
