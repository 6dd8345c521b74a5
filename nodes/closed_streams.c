#include "closed_streams.h"

#include <string.h>

void closed_streams_init (struct closed_streams *c)
{
    c->count = 0;
    (void) pthread_mutex_init (&c->lock, NULL);         /* cannot fail with these attributes */
}

void closed_streams_release (struct closed_streams *c)
{
    (void) pthread_mutex_destroy (&c->lock);
}

static void take_out (struct closed_streams *c, size_t i)
{
    memmove (&c->items[i], &c->items[i + 1], (c->count - i - 1) * sizeof *c->items);
    c->count--;
}

static void take_out_stream (struct closed_streams *c, const struct fm_id *stream)
{
    for (size_t i = 0; i < c->count; i++)
        if (id_equal (&c->items[i].stream, stream)) {
            take_out (c, i);
            return;
        }
}

void closed_streams_add (struct closed_streams *c, const struct closed_stream *stream)
{
    pthread_mutex_lock (&c->lock);
    take_out_stream (c, &stream->stream);
    if (c->count == CLOSED_STREAMS_MAX)
        take_out (c, 0);
    c->items[c->count++] = *stream;
    pthread_mutex_unlock (&c->lock);
}

void closed_streams_remove (struct closed_streams *c, const struct fm_id *stream)
{
    pthread_mutex_lock (&c->lock);
    take_out_stream (c, stream);
    pthread_mutex_unlock (&c->lock);
}

size_t closed_streams_list (struct closed_streams *c, Factmesh__StreamHead *ret, size_t max)
{
    pthread_mutex_lock (&c->lock);
    const size_t count = c->count < max ? c->count : max;
    memcpy (c->listed, &c->items[c->count - count], count * sizeof *c->listed);
    pthread_mutex_unlock (&c->lock);
    for (size_t i = 0; i < count; i++) {
        ret[i] = (Factmesh__StreamHead) FACTMESH__STREAM_HEAD__INIT;
        ret[i].stream = control_put_id (&c->listed[i].stream);
        ret[i].epoch = c->listed[i].epoch;
        ret[i].incarnation = c->listed[i].incarnation;
        ret[i].next_seq = c->listed[i].next_seq;
        ret[i].epoch_first_seq = c->listed[i].epoch_first_seq;
    }
    return count;
}
