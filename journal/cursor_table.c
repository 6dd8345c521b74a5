#include "cursor_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "fm_types.h"

/* An entry: lengths of name, cursor, filters (u32 each), 4 zero bytes, time; then the three, padded to 8. */
enum { AT_NAME_LEN = 0, AT_CURSOR_LEN = 4, AT_FILTERS_LEN = 8, AT_UPDATED = 16 };

static size_t padded (size_t len)
{
    return (len + 7) & ~(size_t) 7;
}

size_t cursor_entry_len (const struct cursor_view *c)
{
    return padded (CURSOR_HEADER_LEN + c->name.len + c->cursor.len + c->filters.len);
}

static uint8_t *put_slice (uint8_t *p, struct fm_slice s)
{
    if (s.len > 0)
        memcpy (p, s.data, s.len);
    return p + s.len;
}

void cursor_entry_encode (uint8_t *p, const struct cursor_view *c)
{
    uint8_t *const end = p + cursor_entry_len (c);
    bytes_put_u32le (p + AT_NAME_LEN, (uint32_t) c->name.len);
    bytes_put_u32le (p + AT_CURSOR_LEN, (uint32_t) c->cursor.len);
    bytes_put_u32le (p + AT_FILTERS_LEN, (uint32_t) c->filters.len);
    bytes_put_u32le (p + AT_FILTERS_LEN + 4, 0);
    bytes_put_u64le (p + AT_UPDATED, c->updated_ns);
    p = put_slice (p + CURSOR_HEADER_LEN, c->name);
    p = put_slice (p, c->cursor);
    p = put_slice (p, c->filters);
    memset (p, 0, (size_t) (end - p));
}

int cursor_entry_decode (const uint8_t *p, size_t len, struct cursor_view *ret_cursor, size_t *ret_entry_len)
{
    if (len < CURSOR_HEADER_LEN)
        return FM_ERR_CORRUPT;
    const size_t name_len = bytes_get_u32le (p + AT_NAME_LEN);
    const size_t cursor_len = bytes_get_u32le (p + AT_CURSOR_LEN);
    const size_t filters_len = bytes_get_u32le (p + AT_FILTERS_LEN);
    if (name_len == 0 || name_len > CURSOR_NAME_MAX || cursor_len > CURSOR_BYTES_MAX || filters_len > CURSOR_BYTES_MAX)
        return FM_ERR_CORRUPT;
    const struct cursor_view c = {
        .name = slice (p + CURSOR_HEADER_LEN, name_len),
        .cursor = slice (p + CURSOR_HEADER_LEN + name_len, cursor_len),
        .filters = slice (p + CURSOR_HEADER_LEN + name_len + cursor_len, filters_len),
        .updated_ns = bytes_get_u64le (p + AT_UPDATED),
    };
    /* Names go by as C strings: what one with a NUL lists as would be below itself, and a walk by name never end. */
    if (cursor_entry_len (&c) > len || memchr (c.name.data, 0, name_len))
        return FM_ERR_CORRUPT;
    *ret_cursor = c;
    *ret_entry_len = cursor_entry_len (&c);
    return 0;
}

int cursor_table_init (struct cursor_table *t, uint32_t max)
{
    *t = (struct cursor_table) { .size = max, .max = max };
    t->entries = calloc ((size_t) max + 1, sizeof *t->entries);
    return t->entries ? 0 : -ENOMEM;
}

void cursor_table_release (struct cursor_table *t)
{
    for (uint32_t i = 0; i < t->count; i++)
        free (t->entries[i]);
    free (t->entries);
    *t = (struct cursor_table) { 0 };
}

static struct fm_slice name_of (const uint8_t *entry)
{
    return slice (entry + CURSOR_HEADER_LEN, bytes_get_u32le (entry + AT_NAME_LEN));
}

static struct cursor_view view_of (const uint8_t *entry)
{
    struct cursor_view c;
    size_t entry_len;
    const int rc = cursor_entry_decode (entry, SIZE_MAX, &c, &entry_len);
    assert (rc == 0);                       /* encoded by us, or checked when it was put */
    (void) rc;
    return c;
}

static int compare (struct fm_slice a, struct fm_slice b)
{
    const size_t shorter = a.len < b.len ? a.len : b.len;
    const int order = shorter ? memcmp (a.data, b.data, shorter) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* The first entry whose name is not below `name`. */
static uint32_t lower_bound (const struct cursor_table *t, struct fm_slice name)
{
    uint32_t low = 0, high = t->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (compare (name_of (t->entries[middle]), name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at (const struct cursor_table *t, uint32_t i, struct fm_slice name)
{
    return i < t->count && slice_equal (name_of (t->entries[i]), name);
}

int cursor_table_check (const struct cursor_table *t, const struct cursor_view *c)
{
    const uint32_t i = lower_bound (t, c->name);
    size_t bytes = t->bytes + cursor_entry_len (c);
    if (is_at (t, i, c->name)) {
        const struct cursor_view old = view_of (t->entries[i]);
        bytes -= cursor_entry_len (&old);
    } else if (t->count >= t->max)
        return FM_ERR_LIMIT;
    return bytes > CURSORS_BYTES_MAX ? FM_ERR_LIMIT : 0;
}

static int grow (struct cursor_table *t)
{
    const uint32_t size = 2 * t->size + 16;
    uint8_t **entries = realloc (t->entries, (size_t) size * sizeof *entries);
    if (!entries)
        return -ENOMEM;
    t->entries = entries;
    t->size = size;
    return 0;
}

int cursor_table_put (struct cursor_table *t, uint8_t *entry)
{
    const struct cursor_view c = view_of (entry);
    const uint32_t i = lower_bound (t, c.name);
    if (is_at (t, i, c.name)) {
        const struct cursor_view old = view_of (t->entries[i]);
        t->bytes -= cursor_entry_len (&old);
        free (t->entries[i]);
    } else {
        if (t->count == t->size && grow (t))
            return -ENOMEM;
        memmove (t->entries + i + 1, t->entries + i, (t->count - i) * sizeof *t->entries);
        t->count++;
    }
    t->entries[i] = entry;
    t->bytes += cursor_entry_len (&c);
    return 0;
}

int cursor_table_delete (struct cursor_table *t, struct fm_slice name)
{
    const uint32_t i = lower_bound (t, name);
    if (!is_at (t, i, name))
        return FM_ERR_UNKNOWN;
    const struct cursor_view old = view_of (t->entries[i]);
    t->bytes -= cursor_entry_len (&old);
    free (t->entries[i]);
    t->count--;
    memmove (t->entries + i, t->entries + i + 1, (t->count - i) * sizeof *t->entries);
    return 0;
}

int cursor_table_get (const struct cursor_table *t, struct fm_slice name, struct cursor_view *ret_cursor)
{
    const uint32_t i = lower_bound (t, name);
    if (!is_at (t, i, name))
        return FM_ERR_UNKNOWN;
    *ret_cursor = view_of (t->entries[i]);
    return 0;
}

int cursor_table_next (const struct cursor_table *t, struct fm_slice after, struct cursor_view *ret_cursor)
{
    uint32_t i = lower_bound (t, after);
    if (is_at (t, i, after))
        i++;
    if (i == t->count)
        return FM_ERR_END;
    *ret_cursor = view_of (t->entries[i]);
    return 0;
}
