/* Goal: both builds make the same proofs, those of the standard. Method: the test cases of RFC
 * 4231, and lengths around a block, whose sums OpenSSL has made. */
#include "net/proof.h"

#include <stdio.h>
#include <string.h>

#include "t/test.h"

static const char *proof_text(const void *secret, size_t secret_size, const void *data, size_t size)
{
    static char text[2 * PROOF_SIZE + 1];
    uint8_t proof[PROOF_SIZE];
    proof_make(proof, secret, secret_size, data, size);
    for (unsigned i = 0; i < PROOF_SIZE; i++)
        snprintf(text + 2 * i, 3, "%02x", proof[i]);
    return text;
}

static const char *of_repeated(int secret_byte, size_t secret_size, int byte, size_t size)
{
    static uint8_t secret[256], data[256];
    memset(secret, secret_byte, sizeof(secret));
    memset(data, byte, sizeof(data));
    return proof_text(secret, secret_size, data, size);
}

TEST(net_proof, is_hmac_sha256)
{
    EXPECT_TEXT(proof_text("Jefe", 4, "what do ya want for nothing?", 28),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    EXPECT_TEXT(of_repeated(0xaa, 20, 0xdd, 50),
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    EXPECT_TEXT(
        proof_text(
            "\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b", 20,
            "Hi There", 8),
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
}

TEST(net_proof, does_not_depend_on_where_blocks_end)
{
    EXPECT_TEXT(of_repeated('a', 64, 'x', 0),
                "b389ef8fc24e40e35b42b70221b466916836a241257699d090bc736b8ad21b98");
    EXPECT_TEXT(of_repeated('a', 64, 'x', 55),
                "580f72f96dfe0474b9982c97e4a7d87de02a4d2f976fcc60a7eea777da6645f7");
    EXPECT_TEXT(of_repeated('a', 65, 'x', 56),
                "02852b9d53553ba4d50ed6786276725bcdd6675ed039d51741f095aaa20d7828");
    EXPECT_TEXT(of_repeated('a', 131, 'x', 63),
                "4e221651af6a23fb4a908d3eaf8432f8e710b1d86bbb4a04f2be2097be370164");
    EXPECT_TEXT(of_repeated('a', 131, 'x', 64),
                "4436c0688cad8df303710fc3e4c4c6e26b0fc26cc166a8dc06a4e254fc687461");
    EXPECT_TEXT(of_repeated('a', 1, 'x', 119),
                "7507fa89b46e426eb8144f3f508de2d141f5fbf095c2407823061237144c346b");
    EXPECT_TEXT(of_repeated('a', 1, 'x', 120),
                "a848e95fe560d06a528897f710be64c86a3aac544f9f06f5dff41e9a7a725818");
    EXPECT_TEXT(of_repeated('a', 1, 'x', 200),
                "f4827919d71c688c5f9be6d3337047fd33513dc5c5553656191ef155e89f8969");
}

TEST(net_proof, differs_in_any_bit)
{
    uint8_t one[PROOF_SIZE] = {0}, other[PROOF_SIZE] = {0};
    EXPECT(proof_equal(one, other));
    for (unsigned bit = 0; bit < 8 * PROOF_SIZE; bit++) {
        other[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT(!proof_equal(one, other));
        other[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}
