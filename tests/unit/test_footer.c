/* A footer's sections, and headers and trailers, whose sums fit what no version of ours writes: each is refused, and nothing beyond it is read. */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/log_kit.h"
#include "checksum.h"
#include "error.h"
#include "segment.h"
#include "segment_index.h"

/* A file of these bytes. */
static int file_of (const void *bytes, size_t len)
{
    FILE *file = tmpfile ();
    assert_non_null (file);
    assert_int_equal (fwrite (bytes, 1, len, file), len);
    assert_int_equal (fflush (file), 0);
    const int fd = dup (fileno (file));
    assert_true (fd >= 0);
    fclose (file);
    return fd;
}

static void a_header_that_says_what_cannot_be_is_refused (void **state)
{
    (void) state;
    const struct segment_header good = { .generation = 3, .number = 42, .base_offset = 1000, .snapshot_end = SEGMENT_RECORDS_POS, .mesh = "test" };
    for (int i = 0; i < 4; i++) {
        struct segment_header h = good, back;
        uint8_t bytes[SEGMENT_HEADER_LEN];
        h.number = i == 1 ? 0 : h.number;
        h.base_offset = i == 2 ? 0 : h.base_offset;
        h.snapshot_end = i == 3 ? SEGMENT_RECORDS_POS - 8 : h.snapshot_end;
        segment_header_encode (&h, bytes);
        assert_int_equal (segment_header_decode (bytes, &back), i ? FM_ERR_CORRUPT : 0);
    }
}

static void a_trailer_whose_identities_leave_the_file_is_refused (void **state)
{
    (void) state;
    const struct segment_header h = { .generation = 3, .number = 42, .base_offset = 1000, .snapshot_end = SEGMENT_RECORDS_POS, .mesh = "test" };
    struct segment_trailer t = { .records_end = 8192, .end_offset = 2000, .identity_count = 5 }, back;
    uint8_t bytes[SEGMENT_TRAILER_LEN];
    t.streams = t.topics = t.positions = (struct segment_section) { .pos = 8192 };
    const uint64_t len = 8192 + 5 * SEGMENT_IDENTITY_LEN + SEGMENT_HEADER_LEN + SEGMENT_TRAILER_LEN;
    segment_trailer_encode (&t, &h, bytes);
    assert_int_equal (segment_trailer_decode (bytes, &h, len, &back), 0);
    assert_int_equal (back.identities.len, 5 * SEGMENT_IDENTITY_LEN);
    t.identity_count = 6;
    segment_trailer_encode (&t, &h, bytes);
    assert_int_equal (segment_trailer_decode (bytes, &h, len, &back), FM_ERR_CORRUPT);
    t.identity_count = UINT32_MAX;
    segment_trailer_encode (&t, &h, bytes);
    assert_int_equal (segment_trailer_decode (bytes, &h, len, &back), FM_ERR_CORRUPT);
}

static void a_list_of_another_length_than_its_count_is_refused (void **state)
{
    (void) state;
    const int fd = file_of ("xxxxxxxx", 8);
    struct index_stream *streams = NULL;
    struct index_position *positions = NULL;
    const struct segment_trailer t = { .stream_count = 1, .position_count = 1, .streams = { .len = 8 }, .positions = { .len = 8 } };
    const struct segment_trailer many = { .stream_count = INDEX_STREAMS_MAX + 1, .streams = { .len = ((uint64_t) INDEX_STREAMS_MAX + 1) * 80 } };
    assert_int_equal (index_read_streams (&fs_real, fd, &t, &streams), FM_ERR_CORRUPT);
    assert_int_equal (index_read_streams (&fs_real, fd, &many, &streams), FM_ERR_CORRUPT);
    assert_int_equal (index_read_positions (&fs_real, fd, &t, &positions), FM_ERR_CORRUPT);
    assert_null (streams);
    assert_null (positions);
    close (fd);
}

static void a_list_of_topics_that_does_not_come_out_even_is_refused (void **state)
{
    (void) state;
    static const struct { const char *bytes; size_t len; uint32_t count; bool good; } lists[] = {
        { "\1a\5\2bc\6", 7, 2, true },
        { "\1a\5\2bc\6", 7, 1, false },             /* one more than is told */
        { "\1a\5\2bc\6", 7, 3, false },             /* and one fewer */
        { "\1a\5\3bc\6", 7, 2, false },             /* a name that leaves no number */
        { "\1a\5\377bc\6", 7, 2, false },           /* a name beyond the end */
        { "\1a\377\377\377\377\377\377\377\377\377\377\377", 13, 1, false },    /* a number that does not end */
        { "", 0, 0, true },
        { "", 0, INDEX_TOPICS_MAX + 1, false },
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const int fd = file_of (lists[i].bytes, lists[i].len);
        const struct segment_trailer t = { .topic_count = lists[i].count,
                                           .topics = { .len = lists[i].len, .sum = checksum (lists[i].bytes, lists[i].len) } };
        void *bytes = NULL;
        struct index_topic *topics = NULL;
        assert_int_equal (index_read_topics (&fs_real, fd, &t, &bytes, &topics), lists[i].good ? 0 : FM_ERR_CORRUPT);
        if (i == 0) {
            assert_true (slice_equal (topics[0].name, slice_of ("a")) && topics[0].facts == 5);
            assert_true (slice_equal (topics[1].name, slice_of ("bc")) && topics[1].facts == 6);
        }
        free (bytes);
        free (topics);
        close (fd);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_header_that_says_what_cannot_be_is_refused),
        cmocka_unit_test (a_trailer_whose_identities_leave_the_file_is_refused),
        cmocka_unit_test (a_list_of_another_length_than_its_count_is_refused),
        cmocka_unit_test (a_list_of_topics_that_does_not_come_out_even_is_refused),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
