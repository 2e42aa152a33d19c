/* test.h: Google Test for tests written in C. One test file is one program (see t/run-unit).
 *
 *     TEST(ring, takes_in_the_order_of_putting)
 *     {
 *         EXPECT(ring_take(&ring) == NULL);
 *         ASSERT_EQ(ring_count(&ring), 3);
 *     }
 *
 * EXPECT reports and goes on, ASSERT reports and leaves the function it stands in. */
#ifndef T_TEST_H
#define T_TEST_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

void test_register(const char *suite, const char *name, const char *file, int line,
                   void (*body)(void));
__attribute__((format(printf, 3, 4))) void test_fail(const char *file, int line, const char *format,
                                                     ...);
/* True when a failure was reported in the test that is running. */
bool test_failed(void);
/* A new empty directory, removed with all it holds when the test ends. */
const char *test_directory(void);

#ifdef __cplusplus
}
#endif

#define TEST(suite, name)                                                                          \
    static void test_##suite##_##name(void);                                                       \
    __attribute__((constructor)) static void register_##suite##_##name(void)                       \
    {                                                                                              \
        test_register(#suite, #name, __FILE__, __LINE__, test_##suite##_##name);                   \
    }                                                                                              \
    static void test_##suite##_##name(void)

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition))                                                                          \
            test_fail(__FILE__, __LINE__, "expected: %s", #condition);                             \
    } while (0)

#define ASSERT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            test_fail(__FILE__, __LINE__, "required: %s", #condition);                             \
            return;                                                                                \
        }                                                                                          \
    } while (0)

#define TEST_COMPARE_INTEGERS(actual, expected, leave)                                             \
    do {                                                                                           \
        long long test_actual = (long long)(actual), test_expected = (long long)(expected);        \
        if (test_actual != test_expected) {                                                        \
            test_fail(__FILE__, __LINE__, "%s is %lld, expected %s = %lld", #actual, test_actual,  \
                      #expected, test_expected);                                                   \
            leave;                                                                                 \
        }                                                                                          \
    } while (0)
#define EXPECT_EQ(actual, expected) TEST_COMPARE_INTEGERS(actual, expected, (void)0)
#define ASSERT_EQ(actual, expected) TEST_COMPARE_INTEGERS(actual, expected, return )

#define EXPECT_TEXT(actual, expected)                                                              \
    do {                                                                                           \
        const char *test_text = (actual), *test_wanted = (expected);                               \
        if (strcmp(test_text, test_wanted) != 0)                                                   \
            test_fail(__FILE__, __LINE__, "%s is\n%s\nexpected\n%s", #actual, test_text,           \
                      test_wanted);                                                                \
    } while (0)

#endif
