/* input_csv: see input_csv.h.
 *
 * One pass over the bytes finds fields and the row's end together; it stops where the bytes do and goes on when more
 * have come:
 *
 *             quote            quote              quote
 *   FIELD ----------> QUOTED <--------> CLOSED            (a closed quote and another one: an escaped quote)
 *     |  ^               |                 |
 *     |  |           any byte     delimiter: FIELD; newline: row; CR: RETURN; else malformed
 *     v  | delimiter
 *   PLAIN  newline: row; quote: malformed          RETURN  newline: row; else malformed */

#include "input_csv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "text.h"

enum csv_state { CSV_FIELD, CSV_PLAIN, CSV_QUOTED, CSV_CLOSED, CSV_RETURN };

/* Positions are relative to the row's first byte. */
struct csv_field {
    size_t start, end;
    bool escaped; /* has doubled quotes within */
};

struct csv {
    struct input *in;
    struct csv_options options;
    bool failed;
    /* The header. */
    size_t column_count; /* 0: not read yet */
    char **columns;
    struct text prefixes; /* for each column: `{"name":` or `,"name":`, one behind the other */
    size_t *prefix_ends;
    size_t key_column, identity_column, level_column; /* SIZE_MAX: none */
    /* The row that is being read. */
    enum csv_state state;
    size_t pos; /* scanned so far */
    uint64_t newlines;
    struct csv_field *fields;
    size_t field_count, fields_size;
    /* What was made of it. */
    struct text payload, key, identity, level, unescaped;
};

int csv_new (struct input *in, const struct csv_options *options, struct csv **ret_csv)
{
    struct csv *csv = calloc (1, sizeof *csv);
    if (!csv)
        return -ENOMEM;
    csv->in = in;
    csv->options = *options;
    if (!csv->options.delimiter)
        csv->options.delimiter = ',';
    csv->key_column = csv->identity_column = csv->level_column = SIZE_MAX;
    *ret_csv = csv;
    return 0;
}

void csv_destroy (struct csv **csv_p)
{
    struct csv *csv = *csv_p;
    if (!csv)
        return;
    for (size_t i = 0; i < csv->column_count; i++)
        free (csv->columns[i]);
    free (csv->columns);
    free (csv->prefix_ends);
    free (csv->fields);
    text_release (&csv->prefixes);
    text_release (&csv->payload);
    text_release (&csv->key);
    text_release (&csv->identity);
    text_release (&csv->level);
    text_release (&csv->unescaped);
    free (csv);
    *csv_p = NULL;
}

static unsigned long long csv_line (const struct csv *csv)
{
    return input_line_number (csv->in);
}

static int csv_no_memory (struct csv *csv)
{
    return error_set (-ENOMEM, "%s:%llu: no memory for the row", input_name (csv->in), csv_line (csv));
}

/* Begin a field at the current position. */
static int csv_field_begin (struct csv *csv)
{
    if (csv->field_count == CSV_COLUMNS_MAX)
        return error_set (FM_ERR_MALFORMED, "%s:%llu: more than %d fields", input_name (csv->in), csv_line (csv),
                          CSV_COLUMNS_MAX);
    if (csv->field_count == csv->fields_size) {
        const size_t size = csv->fields_size ? csv->fields_size * 2 : 32;
        struct csv_field *fields = realloc (csv->fields, size * sizeof *fields);
        if (!fields)
            return csv_no_memory (csv);
        csv->fields = fields;
        csv->fields_size = size;
    }
    csv->fields[csv->field_count++] = (struct csv_field){ .start = csv->pos, .end = csv->pos };
    csv->state = CSV_FIELD;
    return 0;
}

static int csv_malformed (const struct csv *csv, const char *what)
{
    return error_set (FM_ERR_MALFORMED, "%s:%llu: field %zu: %s", input_name (csv->in), csv_line (csv) + csv->newlines,
                      csv->field_count, what);
}

enum { CSV_MORE = 1, CSV_ROW = 2, CSV_DELIMITER = 3 };

/* What one byte does in the state of the current field; a negative code, or what has been reached (0: nothing). The
 * field's end is set. */
static int csv_step (struct csv *csv, uint8_t c)
{
    struct csv_field *field = &csv->fields[csv->field_count - 1];
    switch (csv->state) {
    case CSV_FIELD:
        if (c == '"') {
            csv->state = CSV_QUOTED;
            field->start = csv->pos + 1;
            return 0;
        }
        csv->state = CSV_PLAIN;
        __attribute__ ((fallthrough));
    case CSV_PLAIN:
        field->end = csv->pos;
        if (c == csv->options.delimiter)
            return CSV_DELIMITER;
        if (c == '\n')
            return CSV_ROW;
        return c == '"'
                   ? csv_malformed (csv, "a quote inside a field that does not begin with one; put the field in quotes "
                                         "and double those within")
                   : 0;
    case CSV_QUOTED:
        if (c == '"') {
            csv->state = CSV_CLOSED;
            field->end = csv->pos;
        } else if (c == '\n') {
            csv->newlines++;
        }
        return 0;
    case CSV_CLOSED:
        if (c == '"') {
            csv->state = CSV_QUOTED;
            field->escaped = true;
            return 0;
        }
        if (c == csv->options.delimiter)
            return CSV_DELIMITER;
        if (c == '\n')
            return CSV_ROW;
        if (c == '\r') {
            csv->state = CSV_RETURN;
            return 0;
        }
        break;
    case CSV_RETURN:
        if (c == '\n')
            return CSV_ROW;
        break;
    }
    return csv_malformed (csv, "something behind the closing quote; double the quotes within a quoted field");
}

/* Scan what is pending. CSV_ROW: pos is at the newline; CSV_MORE: all is scanned. */
static int csv_scan (struct csv *csv)
{
    const struct fm_slice pending = input_pending (csv->in);
    const uint8_t *const data = pending.data;
    while (csv->pos < pending.len) {
        int rc = csv_step (csv, data[csv->pos]);
        if (rc == CSV_ROW || rc < 0)
            return rc;
        csv->pos++;
        if (rc == CSV_DELIMITER && (rc = csv_field_begin (csv)) < 0)
            return rc;
    }
    return CSV_MORE;
}

/* Read one row: its fields stand in csv->fields, *ret_len are its bytes without the newline, *ret_taken with it. */
static int csv_row (struct csv *csv, size_t *ret_len, size_t *ret_taken)
{
    if (csv->field_count == 0) {
        csv->pos = 0;
        csv->newlines = 0;
        const int rc = csv_field_begin (csv);
        if (rc < 0)
            return rc;
    }
    for (;;) {
        int rc = csv_scan (csv);
        if (rc < 0)
            return rc;
        if (rc == CSV_ROW) {
            csv->newlines++;
            *ret_len = csv->pos;
            *ret_taken = csv->pos + 1;
            break;
        }
        rc = input_more (csv->in);
        if (rc == 0)
            continue;
        if (rc != FM_ERR_END || csv->pos == 0)
            return rc;
        if (csv->state == CSV_QUOTED) {
            csv->newlines = 0;
            return csv_malformed (csv, "the row begins here, and this field's quote is never closed");
        }
        if (csv->state == CSV_FIELD || csv->state == CSV_PLAIN)
            csv->fields[csv->field_count - 1].end = csv->pos;
        *ret_len = *ret_taken = csv->pos;
        break;
    }
    /* A line may end in CR LF: the CR belongs to no field (a quoted one ended before it). */
    struct csv_field *last = &csv->fields[csv->field_count - 1];
    const uint8_t *const data = input_pending (csv->in).data;
    if (last->end == *ret_len && last->end > last->start && data[last->end - 1] == '\r')
        last->end--;
    return 0;
}

/* The row has been used. Its bytes stay valid until the next input_more. */
static void csv_row_done (struct csv *csv, size_t taken)
{
    input_take (csv->in, taken, csv->newlines);
    csv->field_count = 0;
}

/* A field's value; unescaped into csv->unescaped where it has to be. */
static struct fm_slice csv_value (struct csv *csv, size_t index)
{
    const struct csv_field *f = &csv->fields[index];
    const uint8_t *p = (const uint8_t *) input_pending (csv->in).data + f->start;
    const uint8_t *const end = p + (f->end - f->start);
    if (!f->escaped)
        return slice (p, f->end - f->start);
    text_clear (&csv->unescaped);
    while (p < end) {
        const uint8_t *quote = memchr (p, '"', (size_t) (end - p));
        const uint8_t *stop = quote ? quote + 1 : end;
        text_put (&csv->unescaped, slice (p, (size_t) (stop - p)));
        p = quote ? quote + 2 : end;
    }
    return slice (csv->unescaped.data, csv->unescaped.len);
}

static size_t csv_find_column (const struct csv *csv, const char *name)
{
    for (size_t i = 0; i < csv->column_count; i++)
        if (strcmp (csv->columns[i], name) == 0)
            return i;
    return SIZE_MAX;
}

static int csv_choose_column (const struct csv *csv, const char *name, size_t *ret_index)
{
    *ret_index = name ? csv_find_column (csv, name) : SIZE_MAX;
    if (!name || *ret_index != SIZE_MAX)
        return 0;
    char names[256] = "";
    for (size_t i = 0, len = 0; i < csv->column_count && len + 4 < sizeof names; i++) {
        const char *const column = csv->columns[i];
        const size_t room = sizeof names - len - 3, n = strlen (column) < room ? strlen (column) : room - 1;
        if (i) {
            memcpy (names + len, ", ", 2);
            len += 2;
        }
        memcpy (names + len, column, n);
        len += n;
        names[len] = 0;
    }
    return error_set (FM_ERR_ARGUMENT, "%s: no column '%s'; there are: %s", input_name (csv->in), name, names);
}

static int csv_add_column (struct csv *csv, struct fm_slice name)
{
    const char *const file = input_name (csv->in);
    const size_t number = csv->column_count + 1;
    if (!text_is_utf8 (name, NULL) || (name.len && memchr (name.data, 0, name.len)))
        return error_set (FM_ERR_MALFORMED, "%s:1: the name of column %zu is not UTF-8 text", file, number);
    char *copy = strndup (name.len ? name.data : "", name.len);
    if (!copy)
        return csv_no_memory (csv);
    if (csv_find_column (csv, copy) != SIZE_MAX) {
        (void) error_set (FM_ERR_MALFORMED, "%s:1: two columns are named '%s'; rename one, or publish with --raw", file,
                          copy);
        free (copy);
        return FM_ERR_MALFORMED;
    }
    text_put_byte (&csv->prefixes, csv->column_count ? ',' : '{');
    text_put_json (&csv->prefixes, name);
    text_put_byte (&csv->prefixes, ':');
    csv->prefix_ends[csv->column_count] = csv->prefixes.len;
    csv->columns[csv->column_count++] = copy;
    return 0;
}

static int csv_header (struct csv *csv)
{
    size_t len, taken;
    int rc = csv_row (csv, &len, &taken);
    if (rc == FM_ERR_END)
        return error_set (FM_ERR_MALFORMED, "%s:1: empty; the first line must name the columns", input_name (csv->in));
    if (rc < 0)
        return rc;
    const uint8_t *const data = input_pending (csv->in).data;
    if (csv->fields[0].end - csv->fields[0].start >= 3 && memcmp (data + csv->fields[0].start, "\xEF\xBB\xBF", 3) == 0)
        csv->fields[0].start += 3;
    csv->columns = calloc (csv->field_count, sizeof *csv->columns);
    csv->prefix_ends = calloc (csv->field_count, sizeof *csv->prefix_ends);
    if (!csv->columns || !csv->prefix_ends)
        return csv_no_memory (csv);
    for (size_t i = 0; i < csv->field_count; i++) {
        rc = csv_add_column (csv, csv_value (csv, i));
        if (rc < 0)
            return rc;
    }
    csv_row_done (csv, taken);
    rc = csv_choose_column (csv, csv->options.key, &csv->key_column);
    if (rc == 0)
        rc = csv_choose_column (csv, csv->options.identity, &csv->identity_column);
    return rc < 0 ? rc : csv_choose_column (csv, csv->options.level, &csv->level_column);
}

static int csv_to_json (struct csv *csv)
{
    text_clear (&csv->payload);
    size_t from = 0;
    for (size_t i = 0; i < csv->column_count; i++) {
        const struct fm_slice value = csv_value (csv, i);
        if (!text_is_utf8 (value, NULL))
            return error_set (
                FM_ERR_MALFORMED,
                "%s:%llu: field %zu (%s) is not UTF-8, as JSON must be; convert the file, or publish with --raw",
                input_name (csv->in), csv_line (csv), i + 1, csv->columns[i]);
        text_put (&csv->payload, slice (csv->prefixes.data + from, csv->prefix_ends[i] - from));
        text_put_json (&csv->payload, value);
        from = csv->prefix_ends[i];
    }
    text_put_byte (&csv->payload, '}');
    return csv->payload.failed ? csv_no_memory (csv) : 0;
}

/* A column's value, kept apart from the other columns' in `text`. */
static struct fm_slice csv_keep (struct csv *csv, size_t column, struct text *text)
{
    text_clear (text);
    if (column == SIZE_MAX)
        return slice (NULL, 0);
    text_put (text, csv_value (csv, column));
    return slice (text->data, text->len);
}

static int csv_make_record (struct csv *csv, size_t len, struct input_record *ret_record)
{
    if (csv->field_count != csv->column_count)
        return error_set (FM_ERR_MALFORMED, "%s:%llu: %zu fields where the header has %zu", input_name (csv->in),
                          csv_line (csv), csv->field_count, csv->column_count);
    struct input_record record = {
        .key = csv_keep (csv, csv->key_column, &csv->key),
        .identity = csv_keep (csv, csv->identity_column, &csv->identity),
        .level = csv_keep (csv, csv->level_column, &csv->level),
        .line = csv_line (csv),
    };
    if (csv->options.raw) {
        record.payload = slice (input_pending (csv->in).data, len);
    } else {
        const int rc = csv_to_json (csv);
        if (rc < 0)
            return rc;
        record.payload = slice (csv->payload.data, csv->payload.len);
    }
    if (csv->key.failed || csv->identity.failed || csv->level.failed || csv->unescaped.failed)
        return csv_no_memory (csv);
    *ret_record = record;
    return 0;
}

static bool csv_is_empty_line (const struct csv *csv, size_t len)
{
    return csv->column_count > 1 && csv->field_count == 1 && csv->fields[0].end == csv->fields[0].start && len < 2;
}

int csv_next (struct csv *csv, struct input_record *ret_record)
{
    if (csv->failed)
        return FM_ERR_MALFORMED;
    int rc = csv->column_count ? 0 : csv_header (csv);
    size_t len = 0, taken = 0;
    while (rc == 0) {
        rc = csv_row (csv, &len, &taken);
        if (rc < 0 || !csv_is_empty_line (csv, len))
            break;
        csv_row_done (csv, taken);
    }
    if (rc == 0) {
        rc = csv_make_record (csv, len, ret_record);
        if (rc == 0)
            csv_row_done (csv, taken);
    }
    if (rc < 0 && rc != FM_TIMEOUT && rc != FM_INTERRUPTED && rc != FM_ERR_END)
        csv->failed = true;
    return rc;
}
