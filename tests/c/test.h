/*
 * A test is a function; the first checks that fail say where. One line for each test: "ok" or "FAIL".
 */

#ifndef TEST_H
#define TEST_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <keybound.h>


static int  test_failed, tests_failed, test_caller;


#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            complain(#condition, __FILE__, __LINE__); \
        } \
    } while (0)

#define CHECK_EQ(actual, expected) check_eq((long long) (actual), (long long) (expected), #actual, __FILE__, __LINE__)


/* For functions that check: the line to be told of is the caller's too. */

#define FROM_HERE(call) \
    do { \
        test_caller = __LINE__; \
        call; \
        test_caller = 0; \
    } while (0)


static inline void
complain(const char *text, const char *file, int line)
{
    if (test_failed++ == 5) {
        printf("     and so on\n");
    }

    if (test_failed > 5) {
        return;
    }

    printf("     %s:%d: %s", file, line, text);

    if (test_caller != 0) {
        printf(" (from line %d)", test_caller);
    }

    putchar('\n');
}


static inline void
check_eq(long long actual, long long expected, const char *text, const char *file, int line)
{
    char  told[256];

    if (actual != expected) {
        snprintf(told, sizeof(told), "%.180s is %lld, not %lld", text, actual, expected);
        complain(told, file, line);
    }
}


static inline void
run_test(const char *name, void (*test)(void))
{
    test_failed = 0;
    test();
    printf("%s %s\n", test_failed ? "FAIL" : "ok  ", name);
    fflush(stdout);
    tests_failed += test_failed != 0;
}


static inline int
str_is(kb_str s, const char *text)
{
    return s.ptr != NULL && s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}


static inline kb_str
str_of(const char *text)
{
    kb_str  s;

    s.ptr = (const uint8_t *) text;
    s.len = text ? strlen(text) : 0;

    return s;
}


/* Whether all of an output is still as fill() left it. */

#define fill(out)       memset((out), 0xa5, sizeof(*(out)))
#define untouched(out)  all_a5((out), sizeof(*(out)))


static inline int
all_a5(const void *out, size_t size)
{
    size_t          i;
    const uint8_t  *p = (const uint8_t *) out;

    for (i = 0; i < size; i++) {
        if (p[i] != 0xa5) {
            return 0;
        }
    }

    return 1;
}


#endif /* TEST_H */
