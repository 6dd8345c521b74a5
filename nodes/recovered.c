#include "recovered.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

void recovered_init (struct recovered *r, struct recovered_range range, const struct publisher_marks *marks)
{
    assert (range.first_seq < range.end_seq);
    *r = (struct recovered) { .first_seq = range.first_seq, .end_seq = range.end_seq, .listed = marks->listed ? marks->count : 0 };
}

void recovered_release (struct recovered *r)
{
    for (unsigned i = 0; i < r->count; i++)
        free (r->journals[i].gaps);
    r->count = 0;
}

static const struct journal_mark *mark_of (const struct publisher_marks *marks, const struct recovered_journal *j)
{
    for (unsigned i = 0; i < marks->count; i++) {
        const struct journal_mark *m = &marks->journals[i];
        if (m->heard && m->generation == j->generation && id_equal (&m->journal, &j->journal))
            return m;
    }
    return NULL;
}

static bool known (const struct recovered *r, const struct journal_mark *m)
{
    for (unsigned i = 0; i < r->count; i++)
        if (id_equal (&r->journals[i].journal, &m->journal))
            return true;
    return false;
}

void recovered_journals (struct recovered *r, const struct publisher_marks *marks)
{
    for (unsigned i = 0; i < r->count;) {
        if (mark_of (marks, &r->journals[i])) {
            i++;
            continue;
        }
        free (r->journals[i].gaps);
        r->journals[i] = r->journals[--r->count];
    }
    for (unsigned i = 0; i < marks->count; i++) {
        const struct journal_mark *m = &marks->journals[i];
        if (m->heard && !known (r, m))
            r->journals[r->count++] = (struct recovered_journal) { .journal = m->journal, .generation = m->generation, .there = true, .checked_end = r->first_seq };
    }
}

bool recovered_question (struct recovered *r, const struct publisher_marks *marks, unsigned from, unsigned *ret_journal, struct recovered_range *ret_range)
{
    for (unsigned n = 0; n < r->count; n++) {
        const unsigned i = (from + n) % r->count;
        struct recovered_journal *j = &r->journals[i];
        const struct journal_mark *m = mark_of (marks, j);
        if (!j->there || !m)
            continue;
        const uint64_t end = m->mark.synced < r->end_seq ? m->mark.synced + 1 : r->end_seq;
        if (j->checked_end >= end)
            continue;
        while (j->gap_count && j->gaps[j->gap_count - 1].first_seq >= j->checked_end)
            j->gap_count--;
        *ret_journal = i;
        *ret_range = (struct recovered_range) { j->checked_end, end };
        return true;
    }
    return false;
}

int recovered_gap (struct recovered *r, unsigned journal, struct recovered_range gap)
{
    struct recovered_journal *j = &r->journals[journal];
    if (gap.first_seq < j->checked_end)
        gap.first_seq = j->checked_end;
    if (gap.end_seq > r->end_seq)
        gap.end_seq = r->end_seq;
    if (gap.first_seq >= gap.end_seq)
        return 0;
    struct recovered_range *last = j->gap_count ? &j->gaps[j->gap_count - 1] : NULL;
    if (last && (gap.first_seq <= last->end_seq || j->gap_count == RECOVERED_GAPS_MAX)) {
        last->first_seq = gap.first_seq < last->first_seq ? gap.first_seq : last->first_seq;
        last->end_seq = gap.end_seq > last->end_seq ? gap.end_seq : last->end_seq;
        return 0;
    }
    if (j->gap_count == j->gap_size) {
        const size_t size = j->gap_size ? j->gap_size * 2 : 16;
        struct recovered_range *grown = realloc (j->gaps, size * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        j->gaps = grown;
        j->gap_size = size;
    }
    j->gaps[j->gap_count++] = gap;
    return 0;
}

void recovered_checked (struct recovered *r, unsigned journal, uint64_t end_seq)
{
    struct recovered_journal *j = &r->journals[journal];
    if (end_seq > r->end_seq)
        end_seq = r->end_seq;
    if (end_seq > j->checked_end)
        j->checked_end = end_seq;
}

static enum recovered_verdict verdict_of (const struct recovered_journal *j, struct recovered_range range)
{
    size_t low = 0, high = j->gap_count;        /* the first gap that ends above range.first_seq */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (j->gaps[middle].end_seq <= range.first_seq)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < j->gap_count && j->gaps[low].first_seq < range.end_seq)
        return RECOVERED_LOST;
    return j->checked_end >= range.end_seq ? RECOVERED_SYNCED : RECOVERED_OPEN;
}

enum recovered_verdict recovered_verdict (const struct recovered *r, struct recovered_range range)
{
    unsigned synced = 0, lost = 0, there = 0;
    for (unsigned i = 0; i < r->count; i++) {
        const struct recovered_journal *j = &r->journals[i];
        const enum recovered_verdict v = verdict_of (j, range);
        synced += v == RECOVERED_SYNCED;
        there += j->there || v == RECOVERED_LOST;
        lost += v == RECOVERED_LOST;
    }
    const bool is_synced = r->listed ? synced == r->listed : synced > 0;
    const bool is_lost = r->listed ? lost > 0 : lost > 0 && lost == there;
    return is_synced ? RECOVERED_SYNCED : is_lost ? RECOVERED_LOST : RECOVERED_OPEN;
}
