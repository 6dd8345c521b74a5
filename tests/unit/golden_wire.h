/* golden_wire: what both programs about the golden bytes of the wire know: where these lie, and the ids and times in them. */

#ifndef FM_TESTS_GOLDEN_WIRE_H
#define FM_TESTS_GOLDEN_WIRE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "batch.h"
#include "control.h"
#include "error.h"
#include "topic.h"

#define DIRECTORY "tests/golden/wire/"

enum { BYTES_MAX = 4096 };

struct bytes {
    size_t len;
    uint8_t data[BYTES_MAX];
};

static const struct fm_id stream_id = { { 0x57, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 } };
static const struct fm_id other_stream_id = { { 0x58, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 } };
static const uint64_t time_ns = 1700000000000000000u;

static inline struct fm_slice mesh (void)
{
    return slice_of ("test");
}

static inline void read_golden (const char *name, struct bytes *ret)
{
    char path[256];
    snprintf (path, sizeof path, DIRECTORY "%s.bin", name);
    FILE *file = fopen (path, "rb");
    if (!file)
        fail_msg ("%s cannot be read: run the test at the top of the tree", path);
    ret->len = fread (ret->data, 1, sizeof ret->data, file);
    fclose (file);
    assert_true (ret->len > 0 && ret->len < sizeof ret->data);
}

#endif
