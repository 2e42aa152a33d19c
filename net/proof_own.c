/* Without OpenSSL: SHA-256 (FIPS 180-4, section 6.2) and HMAC (RFC 2104). */
#include "net/proof.h"

#include <string.h>

enum { BLOCK_SIZE = 64, ROUND_COUNT = 64, LENGTH_SIZE = 8 };

struct sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    uint8_t block[BLOCK_SIZE];
};

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t constants[ROUND_COUNT] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t word, unsigned by)
{
    return word >> by | word << (32 - by);
}

static void spread(const uint8_t block[BLOCK_SIZE], uint32_t words[ROUND_COUNT])
{
    for (unsigned i = 0; i < 16; i++)
        words[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
                   (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (unsigned i = 16; i < ROUND_COUNT; i++) {
        uint32_t a = words[i - 15], b = words[i - 2];
        words[i] = words[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + words[i - 7] +
                   (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
}

/* s holds a to h, as the standard names them. */
static void mix(struct sha256 *hash)
{
    uint32_t words[ROUND_COUNT], s[8];
    spread(hash->block, words);
    memcpy(s, hash->state, sizeof(s));
    for (unsigned i = 0; i < ROUND_COUNT; i++) {
        uint32_t e = s[4], a = s[0];
        uint32_t first = s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
                         ((e & s[5]) ^ (~e & s[6])) + constants[i] + words[i];
        uint32_t second = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +
                          ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof(s[0]));
        s[4] += first;
        s[0] = first + second;
    }
    for (unsigned i = 0; i < 8; i++)
        hash->state[i] += s[i];
}

static void begin(struct sha256 *hash)
{
    *hash = (struct sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                      0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

static void add(struct sha256 *hash, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) {
        hash->block[hash->size++ % BLOCK_SIZE] = bytes[i];
        if (hash->size % BLOCK_SIZE == 0)
            mix(hash);
    }
}

static void end(struct sha256 *hash, uint8_t out[PROOF_SIZE])
{
    uint8_t length[LENGTH_SIZE];
    uint64_t bits = hash->size * 8;
    for (unsigned i = 0; i < LENGTH_SIZE; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    add(hash, "\x80", 1);
    while (hash->size % BLOCK_SIZE != BLOCK_SIZE - LENGTH_SIZE)
        add(hash, "", 1);
    add(hash, length, LENGTH_SIZE);
    for (unsigned i = 0; i < PROOF_SIZE; i++)
        out[i] = (uint8_t)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
}

static void hash_keyed(uint8_t out[PROOF_SIZE], const uint8_t key[BLOCK_SIZE], uint8_t pad,
                       const void *data, size_t size)
{
    struct sha256 hash;
    uint8_t padded[BLOCK_SIZE];
    for (unsigned i = 0; i < BLOCK_SIZE; i++)
        padded[i] = key[i] ^ pad;
    begin(&hash);
    add(&hash, padded, BLOCK_SIZE);
    add(&hash, data, size);
    end(&hash, out);
}

void proof_make(uint8_t proof[PROOF_SIZE], const void *secret, size_t secret_size, const void *data,
                size_t size)
{
    uint8_t key[BLOCK_SIZE] = {0}, inner[PROOF_SIZE];
    struct sha256 hash;
    if (secret_size <= BLOCK_SIZE) {
        memcpy(key, secret, secret_size);
    } else {
        begin(&hash);
        add(&hash, secret, secret_size);
        end(&hash, key);
    }
    hash_keyed(inner, key, 0x36, data, size);
    hash_keyed(proof, key, 0x5c, inner, sizeof(inner));
}

bool proof_equal(const uint8_t a[PROOF_SIZE], const uint8_t b[PROOF_SIZE])
{
    volatile uint8_t differs = 0;
    for (unsigned i = 0; i < PROOF_SIZE; i++)
        differs |= a[i] ^ b[i];
    return differs == 0;
}
