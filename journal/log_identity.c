/* log_identity: the identities that the log remembers, from the footers that have any and the active segment's index.
 *
 * A segment's header names the nearest one before it that has identities: so a log of which few segments have some costs a start those alone. */

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "log_state.h"

enum { IDENTITY_SEGMENTS_MAX = 4096 };      /* that are looked into: identities further back are forgotten */

/* The active segment's, as long as it is that. FM_ERR_UNKNOWN: it is not. */
static int active_identities (struct log *log, uint64_t number, struct identity_entry **ret_entries, uint32_t *ret_count)
{
    struct identity_entry *entries = malloc (INDEX_IDENTITIES_MAX * sizeof *entries);
    if (!entries)
        return -ENOMEM;
    pthread_mutex_lock (&log->index_lock);
    const bool active = log->index_number == number;
    if (active) {
        const struct identity_entry *const found = segment_index_identities (log->index, ret_count);
        memcpy (entries, found, *ret_count * sizeof *entries);
    }
    pthread_mutex_unlock (&log->index_lock);
    if (!active) {
        free (entries);
        return FM_ERR_UNKNOWN;
    }
    *ret_entries = entries;
    return 0;
}

/* From the footer, or where that is damaged by a scan. */
static int sealed_identities (struct log *log, const struct log_segment_view *s, struct identity_entry **ret_entries, uint32_t *ret_count)
{
    int rc = s->sealed ? index_read_identities (log->fs, s->fd, &s->trailer, ret_entries) : FM_ERR_CORRUPT;
    *ret_count = s->trailer.identity_count;
    if (rc != FM_ERR_CORRUPT)
        return rc;
    struct segment_index *index;
    uint64_t records_end;
    rc = log_segment_scan_index (log, s, &index, &records_end);
    if (rc)
        return rc;
    const struct identity_entry *const found = segment_index_identities (index, ret_count);
    struct identity_entry *entries = malloc ((*ret_count + 1) * sizeof *entries);
    if (entries)
        memcpy (entries, found, *ret_count * sizeof *entries);
    segment_index_destroy (&index);
    *ret_entries = entries;
    return entries ? 0 : -ENOMEM;
}

static int identities_of (struct log *log, uint64_t number, struct identity_entry **ret_entries, uint32_t *ret_count)
{
    struct log_view view;
    struct log_segment_view s;
    log_view_get (log, &view);
    int rc = number == view.active_number ? active_identities (log, number, ret_entries, ret_count) : FM_ERR_UNKNOWN;
    if (rc != FM_ERR_UNKNOWN)
        return rc;
    rc = log_segment_open (log, &view, number, &s);
    if (rc)
        return rc;
    rc = sealed_identities (log, &s, ret_entries, ret_count);
    log_segment_close (log, &s);
    return rc;
}

/* The segments that have identities, newest first, as many as it takes to have `max` of them. */
static int list_segments (struct log *log, uint64_t below, uint64_t max, uint64_t *numbers, size_t *ret_count, uint32_t *unread)
{
    struct log_view view;
    uint64_t total = 0;
    log_view_get (log, &view);
    uint64_t number = below <= view.active_number ? below - 1 : view.active_number;
    *ret_count = 0;
    for (uint64_t before; number > 0 && number >= view.first_number && total < max && *ret_count < IDENTITY_SEGMENTS_MAX; number = before) {
        struct log_segment_view s;
        const int rc = log_segment_open (log, &view, number, &s);
        before = number - 1;
        if (rc == -ENOMEM)
            return rc;
        if (rc) {                           /* lost: what lies before it is found step by step */
            ++*unread;
            continue;
        }
        if (s.header.identities_number < number)
            before = s.header.identities_number;
        total += s.sealed && number != view.active_number ? s.trailer.identity_count : 0;
        numbers[(*ret_count)++] = number;
        log_segment_close (log, &s);
    }
    return 0;
}

int log_identities (struct log *log, uint64_t below, uint64_t max, int (*each) (void *arg, const struct identity_entry *e), void *arg,
                    uint32_t *ret_unread)
{
    uint64_t *numbers = malloc (IDENTITY_SEGMENTS_MAX * sizeof *numbers);
    size_t count = 0;
    uint32_t unread = 0;
    int rc = numbers ? list_segments (log, below, max, numbers, &count, &unread) : -ENOMEM;
    while (rc == 0 && count > 0) {
        struct identity_entry *entries = NULL;
        uint32_t entry_count = 0;
        rc = identities_of (log, numbers[--count], &entries, &entry_count);
        if (rc && rc != -ENOMEM) {          /* lost, or retention was faster */
            unread++;
            rc = 0;
            continue;
        }
        for (uint32_t i = 0; rc == 0 && i < entry_count; i++)
            rc = each (arg, &entries[i]);
        free (entries);
    }
    free (numbers);
    *ret_unread = unread;
    return rc;
}
