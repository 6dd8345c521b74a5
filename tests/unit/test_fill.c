/* fill: what was refetched goes to the offsets that it had, or where nothing tells them anywhere in its stream's order, and whatever does not fit stays out. Of holes
 * of which not a byte can be read: no file. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/log_kit.h"
#include "fill.h"
#include "log_state.h"

enum { STREAMS_MAX = 100, PARTS_MAX = 400, HOLES_MAX = 3, SECOND = 1000000000 };

/* What streams 1, 2, … lost, and what somebody has of it. */
struct scene {
    struct log log;                         /* of which only the options are looked at */
    struct refetch_range ranges[STREAMS_MAX];
    struct refetch_part parts[PARTS_MAX];
    struct refetch refetch;
    struct fill fill;
};

static struct scene *scene_new (void)
{
    struct scene *s = calloc (1, sizeof *s);
    assert_non_null (s);
    s->refetch = (struct refetch) { .log = &s->log, .ranges = s->ranges, .parts = s->parts, .fd = -1 };
    s->fill = (struct fill) { .refetch = &s->refetch, .fd = -1 };
    return s;
}

static void scene_end (struct scene *s)
{
    fill_release (&s->fill);
    free (s);
}

/* The next stream lost something, in whatever hole. */
static void lose (struct scene *s)
{
    struct refetch *f = &s->refetch;
    assert_true (f->range_count < STREAMS_MAX);
    f->ranges[f->range_count] = (struct refetch_range) {
        .lost = { .stream = kit_stream ((unsigned) f->range_count + 1), .first_seq = 1, .end_seq = 1, .before_pos = UINT64_MAX },
        .first_part = f->part_count, .next_part = f->part_count, .end_part = f->part_count };
    f->range_count++;
}

/* So many facts more of the stream that was named last, published at that second. */
static void part (struct scene *s, enum part_kind kind, uint64_t count, uint64_t second)
{
    struct refetch *f = &s->refetch;
    struct refetch_range *r = &f->ranges[f->range_count - 1];
    assert_true (f->part_count < PARTS_MAX);
    f->parts[f->part_count++] = (struct refetch_part) { .kind = kind, .first_seq = r->lost.end_seq, .end_seq = r->lost.end_seq + count, .time_ns = second * SECOND,
                                                        .len = 100 };
    r->lost.end_seq += count;
    r->end_part++;
}

static void batch (struct scene *s, uint64_t count, uint64_t second)
{
    part (s, PART_BATCH, count, second);
}

static void hole (struct scene *s, uint64_t first_offset, uint64_t end_offset)
{
    const struct fill_hole h = { .pos = 10000 * first_offset, .end_pos = 10000 * end_offset, .first_offset = first_offset, .end_offset = end_offset };
    assert_int_equal (fill_add (&s->fill, &h), 0);
}

static void expect_put (const struct scene *s, size_t i, size_t range, uint64_t first_seq, uint64_t offset)
{
    const struct fill_put *p = &s->fill.puts[i];
    if (p->range != range || s->parts[p->part].first_seq != first_seq || p->offset != offset)
        fail_msg ("put %zu is sequence %llu of range %zu at offset %llu, where %llu of %zu at %llu was expected", i, (unsigned long long) s->parts[p->part].first_seq,
                  p->range, (unsigned long long) p->offset, (unsigned long long) first_seq, range, (unsigned long long) offset);
}

/* --- Order. */

/* Streams whose facts alternate, each with a fact at every `streams`-th second: of few and of many the same comes. */
static void facts_of_however_many_streams_go_by_time (void **state)
{
    (void) state;
    static const size_t counts[] = { 2, 64, 65, STREAMS_MAX };
    enum { TURNS = 4, FIRST = 7 };
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        struct scene *s = scene_new ();
        const size_t streams = counts[c];
        for (size_t i = 0; i < streams; i++) {
            lose (s);
            for (uint64_t turn = 0; turn < TURNS; turn++)
                batch (s, 1, 1 + turn * streams + (streams - 1 - i));   /* the last one first */
        }
        hole (s, FIRST, FIRST + TURNS * streams);
        assert_int_equal (fill_holes (&s->fill), 0);
        assert_int_equal (s->fill.holes[0].outcome, FILL_WHOLE);
        assert_false (s->fill.holes[0].proven);
        assert_int_equal (s->fill.put_count, TURNS * streams);
        for (size_t i = 0; i < s->fill.put_count; i++)
            expect_put (s, i, streams - 1 - i % streams, 1 + i / streams, FIRST + i);
        scene_end (s);
    }
}

/* Two batches of each stream, all published at one moment: their own order holds. Of one stream nobody has the second, whose offsets stay empty. */
static void of_many_streams_what_nobody_has_leaves_its_offsets (void **state)
{
    (void) state;
    enum { STREAMS = 70, LACKS = 33 };
    struct scene *s = scene_new ();
    for (size_t i = 0; i < STREAMS; i++) {
        lose (s);
        batch (s, 1, 1);
        part (s, i == LACKS ? PART_MISSING : PART_BATCH, 2, 1);
    }
    hole (s, 1, 1 + 3 * STREAMS);
    assert_int_equal (fill_holes (&s->fill), 0);
    assert_int_equal (s->fill.holes[0].outcome, FILL_PARTLY);
    assert_int_equal (s->fill.put_count, 2 * STREAMS - 1);
    size_t n = 0;
    for (size_t i = 0; i < STREAMS; i++) {
        expect_put (s, n++, i, 1, 1 + 3 * i);
        if (i != LACKS)
            expect_put (s, n++, i, 2, 2 + 3 * i);
    }
    scene_end (s);
}

/* --- What does not fit. */

/* The three facts of the first stream were published before the other's two, and there is no room for them in the first hole. */
static void what_is_too_long_for_a_hole_goes_into_the_next_one (void **state)
{
    (void) state;
    struct scene *s = scene_new ();
    lose (s);
    batch (s, 3, 1);
    lose (s);
    batch (s, 2, 2);
    hole (s, 10, 12);
    hole (s, 20, 23);
    assert_int_equal (fill_holes (&s->fill), 0);
    assert_int_equal (s->fill.holes[0].outcome, FILL_WHOLE);
    assert_int_equal (s->fill.holes[1].outcome, FILL_WHOLE);
    assert_int_equal (s->fill.put_count, 2);
    expect_put (s, 0, 1, 1, 10);
    expect_put (s, 1, 0, 1, 20);
    scene_end (s);
}

/* Two facts each for three offsets, of two streams or of many: none is put anywhere, not into a later hole either, where they would fit and did not lie. */
static void what_does_not_fit_its_hole_is_put_nowhere (void **state)
{
    (void) state;
    for (int many = 0; many < 2; many++) {
        struct scene *s = scene_new ();
        const uint64_t streams = many ? 70 : 2;
        hole (s, 10, 10 + 2 * streams - 1);
        hole (s, 200, 202);
        for (uint64_t i = 0; i < streams; i++) {
            lose (s);
            batch (s, 2, 1 + i);
            s->ranges[i].lost.before_pos = i ? s->fill.holes[0].end_pos : UINT64_MAX;   /* the first one may have been in either */
        }
        assert_int_equal (fill_holes (&s->fill), 0);
        assert_int_equal (s->fill.holes[0].outcome, FILL_UNFIT);
        assert_int_equal (s->fill.holes[1].outcome, FILL_NOTHING);
        assert_int_equal (s->fill.put_count, 0);
        for (size_t i = 0; i < s->refetch.range_count; i++)
            assert_int_equal (s->ranges[i].kept_from, FILL_UNFIT);
        scene_end (s);
    }
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (facts_of_however_many_streams_go_by_time),
        cmocka_unit_test (of_many_streams_what_nobody_has_leaves_its_offsets),
        cmocka_unit_test (what_is_too_long_for_a_hole_goes_into_the_next_one),
        cmocka_unit_test (what_does_not_fit_its_hole_is_put_nowhere),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
