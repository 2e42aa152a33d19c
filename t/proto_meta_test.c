/* Goal: the meta commands of memcached 1.6.45, byte for byte, however the bytes come. Method: lines
 * and the trace they must give (t/text_trace.h), each whole, cut in two at every byte and byte by
 * byte; answers formatted from results; base64 against known texts. */
#include "proto/base64.h"
#include "proto/meta.h"
#include "t/text_check.h"

#define REFUSES(line, error) CHECK(line "\r\nmn\r\n", "!CLIENT_ERROR " error "|mn:|")

TEST(meta, commands_end_in_a_newline_with_or_without_a_return)
{
    CHECK("mg foo\r\n", "mg:foo|");
    CHECK("mg foo v\nmd foo\nma foo\nme foo\nmn\r\n", "mg:foo v|md:foo|ma:foo|me:foo|mn:|");
    CHECK("mg  foo   s  v \r\n", "mg:foo s v|");
    CHECK("mn this is not looked at !\r\n", "mn:|");
    CHECK("get a\r\nmg a v\r\nset b 0 0 1\r\nx\r\nms c 1\r\ny\r\nget d\r\n",
          "get:a|END|mg:a v|set:b,0,0,1|xSTORE|ms:c,1|ySTORE|get:d|END|");
}

TEST(meta, names_are_lower_case_and_known)
{
    CHECK("MG foo\r\nmx foo\r\nmgg foo\r\n", "!ERROR|!ERROR|!ERROR|");
}

TEST(meta, words_that_are_missing_are_a_bad_line)
{
    REFUSES("mg", "bad command line format");
    REFUSES("ma ", "bad command line format");
    REFUSES("ms", "bad command line format");
    REFUSES("ms foo", "bad command line format");
    REFUSES("me", "bad command line format");
    CHECK("mn\n", "!CLIENT_ERROR bad command line format|"); /* too short for memcached */
}

TEST(meta, every_flag_is_read)
{
    CHECK("mg k b\r\n", "!CLIENT_ERROR error decoding key|");
    CHECK("mg Zm9v b c f h k l s t v u q\r\n", "mg:foo b c f h k l s t v u q|");
    CHECK("mg k N1 R2 T3 E4 C5 Oabc Pxyz Labc\r\n", "mg:k N1 R2 T3 E4 C5 Oabc P L|");
    CHECK("mg k T-1 N-2 R-3\r\n", "mg:k T-1 N-2 R-3|");
    CHECK("ma k J18446744073709551615 D10 MI\r\n", "ma:k J18446744073709551615 D10 MI|");
    CHECK("ma k M+\r\nma k M-\r\nma k MD\r\nma k MDECR\r\n", "ma:k M+|ma:k M-|ma:k MD|ma:k MD|");
    CHECK("md k I T30 x q\r\n", "md:k I T30 x q|");
    CHECK("ms k 2 F4294967295 I C7 E8 T9 c s k\r\nhi\r\n",
          "ms:k,2 F4294967295 I C7 E8 T9 c s k|hiSTORE|");
    CHECK("ms k 0 MA N30\r\n\r\n", "ms:k,0 MA N30|STORE|");
    CHECK("ms k 0 MP\r\n\r\nms k 0 ME\r\n\r\nms k 0 MR\r\n\r\nms k 0 MS\r\n\r\n",
          "ms:k,0 MP|STORE|ms:k,0 ME|STORE|ms:k,0 MR|STORE|ms:k,0 MS|STORE|");
}

/* Ours: memcached has no such command. */
TEST(meta, persist_has_no_key_and_takes_opaque_and_quiet)
{
    CHECK("mp\r\n", "mp:|");
    CHECK("mp q Oabc\r\nmp  k  \r\n", "mp: q Oabc|mp: k|");
    CHECK("mp O1 q v k c f s t h l I x T1 N1 R1 C1 E1 J1 D1\r\n",
          "mp: O1 q v k c f s t h l I x T1 N1 R1 C1 E1 J1 D1|");
    REFUSES("mp q q", "duplicate flag");
    REFUSES("mp z", "invalid flag");
    REFUSES("mp !", "bad command line format");
    REFUSES("mp b", "error decoding key");
    REFUSES("mp O12345678901234567890123456789012", "opaque token too long");
    REFUSES("mp O1 q v k c f s t h l I x T1 N1 R1 C1 E1 J1 D1 F1", "options flags are too long");
    CHECK("mpp\r\nMP\r\n", "!ERROR|!ERROR|");
}

TEST(meta, persist_answers_with_its_opaque_alone)
{
    char out[META_ANSWER_SIZE_MAX];
    struct meta_result result = {.code = META_HD};
    struct text_request request;
    struct text_parser parser;
    size_t consumed;
    text_init(&parser);
    ASSERT_EQ(text_parse(&parser, &limits, slice_text("mp k Oabc s c\r\n"), &consumed, &request),
              TEXT_REQUEST);
    size_t size = meta_answer(out, COMMAND_MP, &request.meta, &result);
    EXPECT(slice_equal(slice_make(out, size), slice_text("HD Oabc\r\n")));
    ASSERT_EQ(text_parse(&parser, &limits, slice_text("mp q Oabc\r\n"), &consumed, &request),
              TEXT_REQUEST);
    EXPECT_EQ(meta_answer(out, COMMAND_MP, &request.meta, &result), 0);
}

TEST(meta, flags_that_belong_to_another_command_are_ignored)
{
    CHECK("mg k J1 D2 MX x I F3\r\n", "mg:k J1 D2 MX x I F3|");
    CHECK("md k v t h l\r\n", "md:k v t h l|");
}

TEST(meta, flags_are_refused_that_nobody_knows_or_that_come_twice)
{
    REFUSES("mg k z", "invalid flag");
    REFUSES("mg k S100", "invalid flag"); /* the syntax of 1.5 */
    REFUSES("mg k 5", "invalid flag");
    REFUSES("mg k v v", "duplicate flag");
    REFUSES("mg k T1 T1", "duplicate flag");
    REFUSES("mg k !", "bad command line format");
    REFUSES("mg k \x80", "bad command line format");
    REFUSES("mg k {", "bad command line format");
    REFUSES("mg k [", "invalid flag");
    REFUSES("ma k z", "invalid or duplicate flag");
    REFUSES("ma k q q", "invalid or duplicate flag");
    REFUSES("ma k Jx", "invalid or duplicate flag");
}

TEST(meta, numbers_are_checked)
{
    static const char *const bad[] = {
        "Cx", "C", "C-1", "C18446744073709551616", "Ex", "T", "Tx", "T2147483648", "N1x", "R+1"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char line[80];
        int size = snprintf(line, sizeof(line), "mg k %s\r\n", bad[i]);
        const char *expected = "!CLIENT_ERROR bad token in command line format|";
        check(slice_make(line, (size_t)size), &limits, slice_text(expected));
    }
    REFUSES("mg k Jx", "invalid numeric initial value");
    REFUSES("mg k Dx", "invalid numeric delta value");
    REFUSES("md k Fx", "bad command line format");
    REFUSES("md k F4294967296", "bad command line format");
    CHECK("mg k T2147483647 C18446744073709551615\r\n", "mg:k T2147483647 C18446744073709551615|");
}

TEST(meta, the_last_of_several_faults_is_told)
{
    REFUSES("mg k Cx Jx", "invalid numeric initial value");
    REFUSES("mg k Jx Cx", "bad token in command line format");
    REFUSES("mg k Cx Fx",
            "bad token in command line format"); /* client flags have no text of their own */
    REFUSES("mg k Cx z", "invalid flag");
    REFUSES("mg k Cx v v", "duplicate flag");
}

TEST(meta, modes_are_single_capital_letters_of_their_command)
{
    REFUSES("ma k MA", "invalid mode for ma M token");
    REFUSES("ma k Mi", "invalid mode for ma M token");
    REFUSES("ma k M", "invalid mode for ma M token");
    CHECK("ms k 1 MX\r\na\r\nmn\r\n", "!CLIENT_ERROR invalid mode for ms M token|mn:|");
    CHECK("ms k 1 Ma\r\na\r\nmn\r\n", "!CLIENT_ERROR invalid mode for ms M token|mn:|");
}

#define OPAQUE31 "1234567890123456789012345678901"

TEST(meta, opaques_have_at_most_31_bytes)
{
    CHECK("mg k O\r\n", "mg:k O|");
    CHECK("mg k O" OPAQUE31 "\r\n", "mg:k O" OPAQUE31 "|");
    REFUSES("mg k O" OPAQUE31 "2", "opaque token too long");
    REFUSES("md k O" OPAQUE31 "2", "opaque token too long");
    REFUSES("ma k O" OPAQUE31 "2", "opaque token too long");
    REFUSES("mg k O" OPAQUE31 "2 z", "invalid flag");
    CHECK("ms k 1 O" OPAQUE31 "2\r\na\r\nmn\r\n", "!CLIENT_ERROR opaque token too long|mn:|");
}

TEST(meta, lines_have_at_most_20_words)
{
    CHECK("mg k b O P L k s t c f v h u q x F1 C1 E1 M1\r\n", "!CLIENT_ERROR error decoding key|");
    CHECK("mg k I O P L k s t c f v h u q x F1 C1 E1 M1\r\n",
          "mg:k I O P L k s t c f v h u q x F1 C1 E1 M1|");
    REFUSES("mg k I O P L k s t c f v h u q x F1 C1 E1 M1 l", "options flags are too long");
    REFUSES("mg k a a a a a a a a a a a a a a a a a a a a a a a a a !",
            "options flags are too long");
}

#define TEN "0123456789"
#define FIFTY TEN TEN TEN TEN TEN
#define KEY250 FIFTY FIFTY FIFTY FIFTY FIFTY

TEST(meta, keys_have_at_most_250_bytes_as_they_come)
{
    CHECK("mg " KEY250 " v\r\n", "mg:" KEY250 " v|");
    REFUSES("mg " KEY250 "1 v", "bad command line format");
    REFUSES("me " KEY250 "1", "bad command line format");
    REFUSES("ma " KEY250 "1", "invalid or duplicate flag");
    CHECK("ms " KEY250 "1 1\r\na\r\nmn\r\n", "!CLIENT_ERROR bad command line format|mn:|");
    char line[300], expected[300];
    memset(line, 'A', sizeof(line));
    memcpy(line, "mg ", 3);
    memcpy(line + 3 + 248, " b\r\n", 4);
    memset(expected, 0, sizeof(expected));
    memcpy(expected, "mg:", 3);
    memcpy(expected + 3 + 186, " b|", 3);
    check(slice_make(line, 3 + 248 + 4), &limits, slice_make(expected, 3 + 186 + 3));
}

TEST(meta, keys_in_base64_are_decoded)
{
    CHECK("mg AAEC b\r\n", "mg:\0\1\2 b|");
    CHECK("mg Zg== b\r\nmg Zm8= b\r\nmd Zm9v b\r\n", "mg:f b|mg:fo b|md:foo b|");
    CHECK("ms Zm9v 1 b\r\na\r\n", "ms:foo,1 b|aSTORE|");
    REFUSES("mg Zm9 b", "error decoding key");
    REFUSES("mg ==== b", "error decoding key");
    CHECK("ms Zm9 1 b\r\na\r\nmn\r\n", "!CLIENT_ERROR error decoding key|mn:|");
    CHECK("me Zm9v b\r\nme Zm9v\r\nme Zm9v v\r\n", "me:foo|me:Zm9v|me:Zm9v|");
    REFUSES("me Zm9 b", "bad command line format");
}

TEST(meta, sizes_of_data_blocks_are_checked_and_nothing_is_skipped_without_one)
{
    REFUSES("ms k x", "bad command line format");
    REFUSES("ms k -1", "bad command line format");
    REFUSES("ms k S1", "bad command line format");
    REFUSES("ms k 2147483646", "bad command line format");
    REFUSES("ms k 1 !", "bad command line format");
}

TEST(meta, data_blocks_are_skipped_behind_a_bad_line)
{
    CHECK("ms k 2 z\r\nhi\r\nmn\r\n", "!CLIENT_ERROR invalid flag|mn:|");
    CHECK("ms k 2 k k\r\nmn\r\nmn\r\n", "!CLIENT_ERROR duplicate flag|mn:|");
    CHECK("ms k 2 q z\r\nhi\r\nmn\r\n", "!CLIENT_ERROR invalid flag|mn:|"); /* q hides no error */
}

TEST(meta, data_blocks_end_in_return_and_newline)
{
    CHECK("ms k 2\r\nhii\r\nmn\r\n",
          "ms:k,2|hiDROP|!CLIENT_ERROR bad data chunk|!CLIENT_ERROR bad command line format|mn:|");
    CHECK("ms k 4 q\r\na\r\nb\r\nmn\r\n", "ms:k,4 q|a\r\nbSTORE|mn:|");
}

/* The old value goes, whatever the mode. */
TEST(meta, values_that_are_too_large_are_skipped_and_delete_the_old_one)
{
    char input[1200], expected[] = "delete:foo~^|!SERVER_ERROR object too large for cache|mn:|";
    int line = snprintf(input, sizeof(input), "ms Zm9v 1000 b MA q\r\n");
    memset(input + line, 'x', 1000);
    memcpy(input + line + 1000, "\r\nmn\r\n", 6);
    check(slice_make(input, (size_t)line + 1006), &small_limits, slice_text(expected));
    CHECK_SMALL("ms k 900\r\n", "ms:k,900|");
}

/* -I counts header, key and value; client flags only if they are not 0. */
TEST(meta, values_end_at_the_limit)
{
    CHECK_SMALL("ms k 964\r\n", "ms:k,964|");
    CHECK_SMALL("ms k 965\r\n", "delete:k~^|");
    CHECK_SMALL("ms k 964 F0\r\n", "ms:k,964 F0|");
    CHECK_SMALL("ms k 960 F1\r\n", "ms:k,960 F1|");
    CHECK_SMALL("ms k 961 F1\r\n", "delete:k~^|");
    CHECK_SMALL("ms AAEC 962 b\r\n", "ms:\0\1\2,962 b|"); /* the key as it is stored */
    CHECK_SMALL("ms AAEC 963 b\r\n", "delete:\0\1\2~^|");
    CHECK("ms k 2147483645\r\n", "delete:k~^|");
    REFUSES("ms k 2147483646", "bad command line format");
    REFUSES("ms k 2147483647", "bad command line format");
    REFUSES("ms k 2147483648", "bad command line format");
}

/* Without the newline, and with a CR counted. */
TEST(meta, lines_end_at_2048_bytes)
{
    for (size_t size = TEXT_LINE_SIZE_MAX - 1; size <= TEXT_LINE_SIZE_MAX + 1; size++) {
        char line[TEXT_LINE_SIZE_MAX + 4];
        memset(line, ' ', sizeof(line));
        memcpy(line, "mg", 2);
        line[size - 2] = 'k';
        line[size - 1] = '\r';
        line[size] = '\n';
        check(slice_make(line, size + 1), &limits,
              slice_text(size <= TEXT_LINE_SIZE_MAX ? "mg:k|" : "CLOSE|"));
    }
}

/* ---- answers ---- */

static struct meta flags(const char *text)
{
    char line[200];
    struct text_parser parser;
    struct text_request request;
    size_t consumed;
    int size = snprintf(line, sizeof(line), "mg k %s\r\n", text);
    text_init(&parser);
    EXPECT_EQ(text_parse(&parser, &limits, slice_make(line, (size_t)size), &consumed, &request),
              TEXT_REQUEST);
    return request.meta;
}

static struct meta_result result(enum meta_code code)
{
    return (struct meta_result){.code = code,
                                .key = slice_text("foo"),
                                .value_size = 2,
                                .client_flags = 4294967295,
                                .cas = UINT64_MAX,
                                .now = 1000,
                                .access_at = 990,
                                .exptime = 1100,
                                .new_exptime = 1030,
                                .vivify_exptime = 1060};
}

static const char *answer(enum command command, const char *text, struct meta_result what)
{
    static char out[META_ANSWER_SIZE_MAX + 1];
    struct meta meta = flags(text);
    size_t size = meta_answer(out, command, &meta, &what);
    out[size] = '\0';
    return out;
}

TEST(meta_answer, repeats_the_flags_in_their_order)
{
    EXPECT_TEXT(answer(COMMAND_MG, "k s v t f c h l Oabc", result(META_VA)),
                "VA 2 kfoo s2 t100 f4294967295 c18446744073709551615 h0 l10 Oabc\r\n");
    EXPECT_TEXT(answer(COMMAND_MG, "Oabc c l h f t v s k", result(META_VA)),
                "VA 2 Oabc c18446744073709551615 l10 h0 f4294967295 t100 s2 kfoo\r\n");
    EXPECT_TEXT(answer(COMMAND_MG, "", result(META_HD)), "HD\r\n");
    EXPECT_TEXT(answer(COMMAND_MG, "k s t Oabc c", result(META_EN)), "EN kfoo Oabc\r\n");
    EXPECT_TEXT(answer(COMMAND_MS, "k s t Oabc c", result(META_HD)),
                "HD kfoo s2 Oabc c18446744073709551615\r\n");
    EXPECT_TEXT(answer(COMMAND_MS, "k Oabc", result(META_NS)), "NS kfoo Oabc\r\n");
    EXPECT_TEXT(answer(COMMAND_MD, "k s t Oabc c", result(META_EX)), "EX kfoo Oabc\r\n");
    EXPECT_TEXT(answer(COMMAND_MA, "k s t Oabc c", result(META_HD)),
                "HD kfoo t100 Oabc c18446744073709551615\r\n");
    EXPECT_TEXT(answer(COMMAND_MA, "k s t Oabc c", result(META_NF)), "NF kfoo Oabc\r\n");
}

TEST(meta_answer, tells_the_time_left_at_each_place_of_the_line)
{
    struct meta_result made = result(META_HD);
    EXPECT_TEXT(answer(COMMAND_MG, "t T30", result(META_HD)), "HD t100\r\n");
    EXPECT_TEXT(answer(COMMAND_MG, "T30 t", result(META_HD)), "HD t30\r\n");
    EXPECT_TEXT(answer(COMMAND_MG, "N60 t", result(META_HD)), "HD t100\r\n");
    made.created = true;
    made.exptime = 0;
    EXPECT_TEXT(answer(COMMAND_MG, "t N60", made), "HD t-1\r\n");
    EXPECT_TEXT(answer(COMMAND_MG, "N60 t", made), "HD t60\r\n");
    made.vivify_exptime = 1; /* long ago */
    EXPECT_TEXT(answer(COMMAND_MG, "N-1 t", made), "HD t0\r\n");
}

TEST(meta_answer, ends_in_what_was_won_or_is_stale)
{
    struct meta_result what = result(META_HD);
    what.won = what.stale = true;
    EXPECT_TEXT(answer(COMMAND_MG, "s", what), "HD s2 X W\r\n");
    what.won = false;
    what.taken = true;
    EXPECT_TEXT(answer(COMMAND_MG, "s", what), "HD s2 Z X\r\n");
    what.stale = false;
    EXPECT_TEXT(answer(COMMAND_MG, "", what), "HD Z\r\n");
}

TEST(meta_answer, q_hides_what_is_nothing_new)
{
    EXPECT_TEXT(answer(COMMAND_MG, "q k", result(META_EN)), "");
    EXPECT_TEXT(answer(COMMAND_MG, "q", result(META_HD)), "HD\r\n");
    EXPECT_TEXT(answer(COMMAND_MG, "q", result(META_VA)), "VA 2\r\n");
    static const enum command writes[] = {COMMAND_MS, COMMAND_MD, COMMAND_MA};
    for (unsigned i = 0; i < 3; i++) {
        EXPECT_TEXT(answer(writes[i], "q k", result(META_HD)), "");
        EXPECT_TEXT(answer(writes[i], "q", result(META_NF)), "NF\r\n");
        EXPECT_TEXT(answer(writes[i], "q", result(META_NS)), "NS\r\n");
        EXPECT_TEXT(answer(writes[i], "q", result(META_EX)), "EX\r\n");
    }
    EXPECT_TEXT(answer(COMMAND_MA, "q v", result(META_VA)), "");
}

TEST(meta_answer, shows_a_key_in_base64_with_a_b)
{
    struct meta_result what = result(META_HD);
    what.base64 = true;
    EXPECT_TEXT(answer(COMMAND_MG, "s k t", what), "HD s2 kZm9v b t100\r\n");
    EXPECT_TEXT(answer(COMMAND_MG, "s t", what), "HD s2 t100\r\n");
}

TEST(meta_answer, with_everything_fits)
{
    static char key[META_KEY_SIZE_MAX];
    memset(key, 0xff, sizeof(key));
    struct meta_result what = result(META_VA);
    what.key = slice_make(key, sizeof(key));
    what.base64 = what.taken = what.stale = what.won = true;
    what.value_size = what.now = what.exptime = UINT32_MAX;
    what.access_at = 0;
    EXPECT(strlen(answer(COMMAND_MG, "v k s t f c h l O" OPAQUE31, what)) >
           400); /* the sanitizers look */
}

TEST(meta_answer, of_me_is_one_line)
{
    char out[META_ANSWER_SIZE_MAX + 1];
    struct meta_debug debug = {
        .key = slice_text("foo"), .now = 100, .access_at = 90, .cas = 7, .class_id = 1, .size = 64};
    out[meta_debug_answer(out, &debug)] = '\0';
    EXPECT_TEXT(out, "ME foo exp=-1 la=10 cas=7 fetch=no cls=1 size=64\r\n");
    debug.base64 = debug.fetched = true;
    debug.exptime = 130;
    out[meta_debug_answer(out, &debug)] = '\0';
    EXPECT_TEXT(out, "ME Zm9v exp=30 la=10 cas=7 fetch=yes cls=1 size=64\r\n");
}

/* ---- base64 ---- */

/* RFC 4648, section 10. */
TEST(base64, knows_the_texts_of_its_standard)
{
    static const char *const pairs[][2] = {{"f", "Zg=="},         {"fo", "Zm8="},
                                           {"foo", "Zm9v"},       {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
    for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        char out[32];
        size_t size = base64_encode(slice_text(pairs[i][0]), out);
        EXPECT(slice_equal(slice_make(out, size), slice_text(pairs[i][1])));
        EXPECT_EQ(size, base64_size(strlen(pairs[i][0])));
        size = base64_decode(slice_text(pairs[i][1]), out);
        EXPECT(slice_equal(slice_make(out, size), slice_text(pairs[i][0])));
    }
}

TEST(base64, every_byte_survives)
{
    char bytes[256], text[400], back[400];
    for (unsigned i = 0; i < 256; i++)
        bytes[i] = (char)i;
    for (size_t size = 1; size <= 256; size++) {
        size_t encoded = base64_encode(slice_make(bytes, size), text);
        EXPECT_EQ(base64_decode(slice_make(text, encoded), back), size);
        EXPECT_EQ(memcmp(back, bytes, size), 0);
    }
}

TEST(base64, refuses_what_is_none)
{
    static const char *const bad[] = {"", "Z", "Zm", "Zm9", "Zm9vZ", "====", "Z===", "!!!!"};
    char out[32];
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        EXPECT_EQ(base64_decode(slice_text(bad[i]), out), 0U);
    EXPECT_EQ(base64_decode(slice_text("Zm-9v"), out), 3U); /* memcached looks over it */
}
