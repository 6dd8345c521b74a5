/* TEST_FILTER=CASE runs a unit test's cases of that name alone (`*` and `?` as in cmocka_set_test_filter). Linked into each by the Makefile. */
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

__attribute__ ((constructor)) static void take_filter (void)
{
    const char *pattern = getenv ("TEST_FILTER");
    if (pattern && *pattern)
        cmocka_set_test_filter (pattern);
}
