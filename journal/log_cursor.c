/* log_cursor: cursors are records in the log like everything else. One table holds the newest of each name: limits, and the next segment's snapshot,
 * go by that. The other holds what is durable, which is all that anybody is told. Between them are the changes whose records are not synced yet: no
 * more than the log's two buffers and one sync hold. */

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "log_state.h"

struct cursor_change {
    struct cursor_change *next;
    uint64_t ticket;
    bool deletes;
    uint8_t *entry;                         /* as in the tables; of one that deletes only the name matters */
};

static uint8_t *entry_new (const struct cursor_view *c)
{
    uint8_t *entry = malloc (cursor_entry_len (c));
    if (entry)
        cursor_entry_encode (entry, c);
    return entry;
}

static struct cursor_change *change_new (const struct cursor_view *c, bool deletes)
{
    struct cursor_change *change = malloc (sizeof *change);
    uint8_t *entry = entry_new (c);
    if (!change || !entry) {
        free (change);
        free (entry);
        return NULL;
    }
    *change = (struct cursor_change) { .deletes = deletes, .entry = entry };
    return change;
}

static void change_destroy (struct cursor_change *change)
{
    if (change)
        free (change->entry);
    free (change);
}

/* With the cursor lock. */
static void change_append (struct log *log, struct cursor_change *change, uint64_t ticket)
{
    change->ticket = ticket;
    *(log->changes ? log->changes_end : &log->changes) = change;
    log->changes_end = &change->next;
}

/* What was synced meanwhile is durable. With the cursor lock. */
static void settle (struct log *log)
{
    struct cursor_change *change;
    while ((change = log->changes) && log_ticket_synced (log, change->ticket)) {
        struct cursor_view c;
        size_t len;
        (void) cursor_entry_decode (change->entry, SIZE_MAX, &c, &len);     /* encoded by us */
        if (change->deletes)
            (void) cursor_table_delete (&log->durable_cursors, c.name);     /* what put it came before: known */
        else if (cursor_table_put (&log->durable_cursors, change->entry))
            return;                         /* no memory: later */
        else
            change->entry = NULL;
        log->changes = change->next;
        change_destroy (change);
    }
}

int log_cursors_recovered (struct log *log)
{
    struct cursor_view c = { .name = slice (NULL, 0) };
    int rc = cursor_table_init (&log->durable_cursors, log->options.cursors_max);
    while (rc == 0 && cursor_table_next (&log->cursors, c.name, &c) == 0) {
        uint8_t *entry = entry_new (&c);
        rc = entry ? cursor_table_put (&log->durable_cursors, entry) : -ENOMEM;
        if (rc)
            free (entry);
    }
    return rc;
}

void log_cursors_release (struct log *log)
{
    for (struct cursor_change *change = log->changes, *next; change; change = next) {
        next = change->next;
        change_destroy (change);
    }
    log->changes = NULL;
    cursor_table_release (&log->cursors);
    cursor_table_release (&log->durable_cursors);
}

/* A cursor's record: with the append lock taken here, the cursor lock by the caller. */
static int append_cursor (struct log *log, enum record_kind kind, struct fm_slice body, uint64_t *ret_ticket)
{
    const uint64_t now_ns = log->clock->unix_ns (log->clock->context);
    pthread_mutex_lock (&log->append_lock);
    uint8_t *p;
    const int rc = log_reserve (log, (uint32_t) body.len, &p);
    if (rc == 0) {
        const struct record r = {
            .kind = (uint8_t) kind,
            .body_len = (uint32_t) body.len,
            .count = 1,
            .offset = log->next_offset,
            .time_ns = log_journal_time (log, now_ns),
        };
        record_encode (p, &r);
        memcpy (p + RECORD_HEADER_LEN, body.data, body.len);
        log_commit (log, &r);
        *ret_ticket = log->tickets;
    }
    pthread_mutex_unlock (&log->append_lock);
    return rc;
}

int log_cursor_put (struct log *log, const struct log_cursor *cursor, uint64_t *ret_ticket)
{
    const struct cursor_view c = {
        .name = slice (cursor->name, strnlen (cursor->name, sizeof cursor->name)),
        .cursor = cursor->cursor,
        .filters = cursor->filters,
        .updated_ns = cursor->updated_ns,
    };
    if (log->options.read_only || atomic_load (&log->failed))
        return FM_ERR_READ_ONLY;
    if (c.name.len == 0 || c.name.len > CURSOR_NAME_MAX)
        return error_set (FM_ERR_ARGUMENT, "a cursor's name has 1 to %d bytes", CURSOR_NAME_MAX);
    if (c.cursor.len > CURSOR_BYTES_MAX || c.filters.len > CURSOR_BYTES_MAX)
        return error_set (FM_ERR_TOO_LARGE, "cursor %s has %zu bytes: the limit is %d", cursor->name, c.cursor.len,
                          CURSOR_BYTES_MAX);
    const size_t len = cursor_entry_len (&c);
    uint8_t *entry = entry_new (&c);
    struct cursor_change *change = change_new (&c, false);
    if (!entry || !change) {
        free (entry);
        change_destroy (change);
        return -ENOMEM;
    }

    /* One lock over both: the records of a name are in the order in which the table took them. */
    pthread_mutex_lock (&log->cursor_lock);
    settle (log);
    int rc = cursor_table_check (&log->cursors, &c);
    if (rc)
        rc = error_set (rc, "cursor %s: %u cursors of %zu bytes are here, the limits are %u and %d", cursor->name,
                        log->cursors.count, log->cursors.bytes, log->cursors.max, CURSORS_BYTES_MAX);
    else
        rc = append_cursor (log, RECORD_CURSOR_PUT, slice (entry, len), ret_ticket);
    /* Below max, for which there is room from the start: the table takes it. */
    if (rc || cursor_table_put (&log->cursors, entry))
        free (entry);
    if (rc)
        change_destroy (change);
    else
        change_append (log, change, *ret_ticket);
    pthread_mutex_unlock (&log->cursor_lock);
    return rc;
}

int log_cursor_delete (struct log *log, const char *name, uint64_t *ret_ticket)
{
    if (log->options.read_only || atomic_load (&log->failed))
        return FM_ERR_READ_ONLY;
    pthread_mutex_lock (&log->cursor_lock);
    settle (log);
    struct cursor_view c;
    struct cursor_change *change = NULL;
    int rc = cursor_table_get (&log->cursors, slice_of (name), &c);
    if (rc == 0 && !(change = change_new (&c, true)))
        rc = -ENOMEM;
    if (rc == 0)
        rc = append_cursor (log, RECORD_CURSOR_DELETE, slice_of (name), ret_ticket);
    if (rc == 0) {
        change_append (log, change, *ret_ticket);
        rc = cursor_table_delete (&log->cursors, slice_of (name));
    } else
        change_destroy (change);
    pthread_mutex_unlock (&log->cursor_lock);
    return rc;
}

bool log_ticket_synced (struct log *log, uint64_t ticket)
{
    return atomic_load (&log->synced_ticket) >= ticket;
}

static int copy_out (const struct cursor_view *c, void **buffer, size_t *buffer_size, struct log_cursor *ret)
{
    const size_t need = c->cursor.len + c->filters.len;
    if (need > *buffer_size) {
        void *bigger = realloc (*buffer, need);
        if (!bigger)
            return -ENOMEM;
        *buffer = bigger;
        *buffer_size = need;
    }
    uint8_t *p = *buffer;
    if (c->cursor.len > 0)
        memcpy (p, c->cursor.data, c->cursor.len);
    if (c->filters.len > 0)
        memcpy (p + c->cursor.len, c->filters.data, c->filters.len);
    *ret = (struct log_cursor) {
        .updated_ns = c->updated_ns,
        .cursor = slice (p, c->cursor.len),
        .filters = slice (c->filters.len ? p + c->cursor.len : NULL, c->filters.len),
    };
    memcpy (ret->name, c->name.data, c->name.len);
    return 0;
}

int log_cursor_get (struct log *log, const char *name, void **buffer, size_t *buffer_size, struct log_cursor *ret)
{
    struct cursor_view c;
    pthread_mutex_lock (&log->cursor_lock);
    settle (log);
    int rc = cursor_table_get (&log->durable_cursors, slice_of (name), &c);
    if (rc == 0)
        rc = copy_out (&c, buffer, buffer_size, ret);
    pthread_mutex_unlock (&log->cursor_lock);
    return rc;
}

int log_cursor_next (struct log *log, const char *after, char ret_name[CURSOR_NAME_MAX + 1])
{
    struct cursor_view c;
    pthread_mutex_lock (&log->cursor_lock);
    settle (log);
    const int rc = cursor_table_next (&log->durable_cursors, slice_of (after), &c);
    if (rc == 0) {
        memcpy (ret_name, c.name.data, c.name.len);
        ret_name[c.name.len] = 0;
    }
    pthread_mutex_unlock (&log->cursor_lock);
    return rc;
}
