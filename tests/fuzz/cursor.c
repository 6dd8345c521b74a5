/* A cursor's bytes: of a subscription's file, of the journal's cursor records, and as an entry of a snapshot. */

#include "fuzz.h"

#include "cursor.h"
#include "cursor_table.h"

static void check_cursor (struct fm_slice bytes)
{
    struct cursor c = { 0 }, again = { 0 };
    void *buffer = NULL;
    size_t buffer_size = 0;
    struct fm_slice encoded;
    if (cursor_decode (&c, bytes) == 0) {
        assert (c.count <= CURSOR_POSITIONS_MAX && !id_is_zero (&c.journal));
        assert (cursor_encode (&c, &buffer, &buffer_size, &encoded) == 0 && cursor_decode (&again, encoded) == 0);
        assert (again.count == c.count && again.offset == c.offset && again.generation == c.generation);
        for (size_t i = 0; i < c.count; i++)
            assert (id_equal (&c.positions[i].stream, &again.positions[i].stream) && c.positions[i].seq == again.positions[i].seq);
    }
    free (buffer);
    cursor_release (&c);
    cursor_release (&again);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    check_cursor (slice (data, size));
    struct cursor_table table;
    if (cursor_table_init (&table, 8) != 0)
        abort ();
    struct cursor_view view, got;
    size_t len;
    for (size_t pos = 0; pos < size && cursor_entry_decode (data + pos, size - pos, &view, &len) == 0; pos += len) {
        assert (len > 0 && len <= size - pos && fuzz_within (view.name, data, size) && fuzz_within (view.cursor, data, size) &&
                fuzz_within (view.filters, data, size));
        check_cursor (view.cursor);
        (void) cursor_table_check (&table, &view);
        uint8_t *entry = malloc (cursor_entry_len (&view));
        cursor_entry_encode (entry, &view);
        assert (cursor_table_put (&table, entry) == 0 && cursor_table_get (&table, view.name, &got) == 0);
        assert (slice_equal (got.cursor, view.cursor) && slice_equal (got.filters, view.filters) && got.updated_ns == view.updated_ns);
    }
    struct fm_slice after = slice (NULL, 0);
    uint32_t n = 0;
    for (; cursor_table_next (&table, after, &view) == 0; after = view.name)
        assert (++n <= table.count);
    while (cursor_table_next (&table, slice (NULL, 0), &view) == 0 && n--)
        assert (cursor_table_delete (&table, view.name) == 0);
    cursor_table_release (&table);
    return 0;
}
