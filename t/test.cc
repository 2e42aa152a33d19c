// The one C++ file: registers tests written in C with Google Test.
#include "t/test.h"

#include <cstdarg>
#include <cstdio>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <vector>

namespace
{
std::vector<std::string> directories;

class CTest : public ::testing::Test
{
  public:
    explicit CTest(void (*body_given)(void)) : body(body_given)
    {
    }
    void TestBody() override
    {
        body();
    }
    void TearDown() override
    {
        for (const auto &directory : directories)
            std::filesystem::remove_all(directory);
        directories.clear();
    }

  private:
    void (*body)(void);
};
} // namespace

extern "C" void test_register(const char *suite, const char *name, const char *file, int line,
                              void (*body)(void))
{
    ::testing::RegisterTest(suite, name, nullptr, nullptr, file, line,
                            [body]() -> ::testing::Test * { return new CTest(body); });
}

extern "C" void test_fail(const char *file, int line, const char *format, ...)
{
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    ::testing::internal::AssertHelper(::testing::TestPartResult::kNonFatalFailure, file, line,
                                      text) = ::testing::Message();
}

extern "C" bool test_failed(void)
{
    return ::testing::Test::HasFailure();
}

extern "C" const char *test_directory(void)
{
    std::string pattern =
        (std::filesystem::temp_directory_path() / "healcached-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
        return "/nonexistent";
    directories.push_back(pattern);
    return directories.back().c_str();
}

int main(int argc, char **argv)
{
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
