#include "cursor.h"
#include "control.h"
#include "error.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* A position's bytes in the message: two tags, two lengths, an id, a varint; what a hostile length may claim at most. */
enum { POSITION_BYTES_MAX = 2 + 2 + ID_LEN + 1 + 10 + 2, CURSOR_BYTES_MAX = 128 + CURSOR_POSITIONS_MAX * POSITION_BYTES_MAX };

void cursor_release (struct cursor *c)
{
    free (c->positions);
    *c = (struct cursor) { 0 };
}

void cursor_clear (struct cursor *c)
{
    *c = (struct cursor) { .positions = c->positions, .size = c->size };
}

int cursor_add (struct cursor *c, const struct fm_id *stream, uint64_t seq)
{
    if (c->count == c->size) {
        if (c->size == CURSOR_POSITIONS_MAX)
            return error_set (FM_ERR_LIMIT, "a cursor of more than %d streams", CURSOR_POSITIONS_MAX);
        const size_t size = c->size ? 2 * c->size : 16;
        struct cursor_position *grown = realloc (c->positions, size * sizeof *grown);
        if (!grown)
            return -ENOMEM;
        c->positions = grown;
        c->size = size;
    }
    c->positions[c->count++] = (struct cursor_position) { .stream = *stream, .seq = seq };
    return 0;
}

static_assert ((CURSOR_POSITIONS_MAX & (CURSOR_POSITIONS_MAX - 1)) == 0, "the array doubles up to its limit");

int cursor_message_init (struct cursor_message *m, const struct cursor *c)
{
    struct cursor_message made = { .message = FACTMESH__CURSOR__INIT };
    if (c->count) {
        made.items = malloc (c->count * sizeof *made.items);
        made.pointers = malloc (c->count * sizeof *made.pointers);
        if (!made.items || !made.pointers) {
            cursor_message_release (&made);
            return -ENOMEM;
        }
    }
    for (size_t i = 0; i < c->count; i++) {
        made.items[i] = (Factmesh__StreamPosition) FACTMESH__STREAM_POSITION__INIT;
        made.items[i].stream = control_put_id (&c->positions[i].stream);
        made.items[i].seq = c->positions[i].seq;
        made.pointers[i] = &made.items[i];
    }
    made.message.major = PROTO_MAJOR;
    made.message.journal = control_put_id (&c->journal);
    made.message.generation = c->generation;
    made.message.offset = c->offset;
    made.message.n_positions = c->count;
    made.message.positions = made.pointers;
    *m = made;
    return 0;
}

void cursor_message_release (struct cursor_message *m)
{
    free (m->items);
    free (m->pointers);
    *m = (struct cursor_message) { .message = FACTMESH__CURSOR__INIT };
}

static int compare_positions (const void *a, const void *b)
{
    return memcmp (((const struct cursor_position *) a)->stream.bytes, ((const struct cursor_position *) b)->stream.bytes, ID_LEN);
}

static int copy_positions (struct cursor *c, const Factmesh__Cursor *message)
{
    for (size_t i = 0; i < message->n_positions; i++) {
        const Factmesh__StreamPosition *position = message->positions[i];
        struct fm_id stream;
        if (control_get_id (&position->stream, &stream) != 0 || id_is_zero (&stream) || position->seq == 0 || position->seq == UINT64_MAX)
            return error_set (FM_ERR_MALFORMED, "cursor: position %zu names no stream or no sequence", i);
        const int rc = cursor_add (c, &stream, position->seq);
        if (rc != 0)
            return rc;
    }
    if (c->count == 0)
        return 0;
    qsort (c->positions, c->count, sizeof *c->positions, compare_positions);
    for (size_t i = 1; i < c->count; i++) {
        if (id_equal (&c->positions[i - 1].stream, &c->positions[i].stream))
            return error_set (FM_ERR_MALFORMED, "cursor: a stream is listed twice");
    }
    return 0;
}

int cursor_from_message (struct cursor *c, const Factmesh__Cursor *message)
{
    if (message->major != PROTO_MAJOR)
        return error_set (FM_ERR_VERSION, "a cursor of version %u; this is version %d", message->major, PROTO_MAJOR);
    struct cursor made = { .generation = message->generation, .offset = message->offset };
    if (control_get_id (&message->journal, &made.journal) != 0 || id_is_zero (&made.journal))
        return error_set (FM_ERR_MALFORMED, "cursor: it names no journal");
    const int rc = copy_positions (&made, message);
    if (rc != 0) {
        cursor_release (&made);
        return rc;
    }
    cursor_release (c);
    *c = made;
    return 0;
}

int cursor_decode (struct cursor *c, struct fm_slice bytes)
{
    if (bytes.len > CURSOR_BYTES_MAX)
        return error_set (FM_ERR_TOO_LARGE, "cursor: %zu bytes, more than %d", bytes.len, CURSOR_BYTES_MAX);
    Factmesh__Cursor *message = factmesh__cursor__unpack (NULL, bytes.len, bytes.data);
    if (!message)
        return error_set (FM_ERR_MALFORMED, "cursor: %zu bytes that are no cursor", bytes.len);
    const int rc = cursor_from_message (c, message);
    factmesh__cursor__free_unpacked (message, NULL);
    return rc;
}

int cursor_encode (const struct cursor *c, void **buffer, size_t *size, struct fm_slice *ret_bytes)
{
    struct cursor_message m;
    const int rc = cursor_message_init (&m, c);
    if (rc != 0)
        return rc;
    const size_t len = factmesh__cursor__get_packed_size (&m.message);
    if (len > *size) {
        void *grown = realloc (*buffer, len);
        if (!grown) {
            cursor_message_release (&m);
            return -ENOMEM;
        }
        *buffer = grown;
        *size = len;
    }
    (void) factmesh__cursor__pack (&m.message, *buffer);        /* it is as long as it said */
    cursor_message_release (&m);
    *ret_bytes = slice (*buffer, len);
    return 0;
}
