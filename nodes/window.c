#include "window.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct window_item *item_at (const struct window *w, size_t i)
{
    return &w->items[(w->first + i) & (w->size - 1)];
}

void window_init (struct window *w, size_t bytes_max, uint64_t next_seq)
{
    assert (next_seq >= 1);
    *w = (struct window) { .bytes_max = bytes_max, .start_seq = next_seq, .next_seq = next_seq };
}

static void drop_first (struct window *w)
{
    struct window_item *item = item_at (w, 0);
    w->bytes -= window_cost (zmq_msg_size (&item->message));
    const int rc = zmq_msg_close (&item->message);
    assert (rc == 0);
    (void) rc;                      /* used by the assert alone */
    w->first = (w->first + 1) & (w->size - 1);
    w->count--;
    w->start_seq = w->count ? item_at (w, 0)->first_seq : w->next_seq;
}

void window_release (struct window *w)
{
    while (w->count)
        drop_first (w);
    free (w->items);
    *w = (struct window) { 0 };
}

/* A zmq_msg_t must not be moved by memcpy while libzmq knows its address: zmq_msg_move. */
static int grow (struct window *w)
{
    enum { SIZE_FIRST = 64 };
    const size_t size = w->size ? w->size * 2 : SIZE_FIRST;
    struct window_item *items = calloc (size, sizeof *items);
    if (!items)
        return -ENOMEM;
    for (size_t i = 0; i < w->count; i++) {
        struct window_item *from = item_at (w, i);
        items[i].first_seq = from->first_seq;
        items[i].end_seq = from->end_seq;
        items[i].body_pos = from->body_pos;
        items[i].place = from->place;
        zmq_msg_init (&items[i].message);
        zmq_msg_move (&items[i].message, &from->message);
        zmq_msg_close (&from->message);
    }
    free (w->items);
    w->items = items;
    w->first = 0;
    w->size = size;
    return 0;
}

int window_reserve (struct window *w)
{
    return w->count == w->size ? grow (w) : 0;
}

static int keep (struct window *w, uint64_t first_seq, uint64_t end_seq, size_t body_pos, uint64_t place, zmq_msg_t *message)
{
    if (window_reserve (w))
        return -ENOMEM;
    struct window_item *item = item_at (w, w->count);
    item->first_seq = first_seq;
    item->end_seq = end_seq;
    item->body_pos = body_pos;
    item->place = place;
    zmq_msg_init (&item->message);
    const int rc = zmq_msg_copy (&item->message, message);
    assert (rc == 0);
    (void) rc;                      /* used by the assert alone */
    w->bytes += window_cost (zmq_msg_size (message));
    w->count++;
    return 0;
}

int window_push (struct window *w, uint64_t end_seq, size_t body_pos, zmq_msg_t *message)
{
    assert (end_seq > w->next_seq && body_pos <= zmq_msg_size (message));
    if (keep (w, w->next_seq, end_seq, body_pos, 0, message))
        return -ENOMEM;
    w->next_seq = end_seq;
    return 0;
}

int window_restore (struct window *w, uint64_t first_seq, uint64_t end_seq, uint64_t place, zmq_msg_t *message)
{
    assert (end_seq > first_seq && end_seq <= w->next_seq && (!w->count || first_seq >= window_last (w)->end_seq));
    if (keep (w, first_seq, end_seq, 0, place, message))
        return -ENOMEM;
    w->start_seq = item_at (w, 0)->first_seq;
    return 0;
}

struct window_item *window_first (struct window *w)
{
    return w->count ? item_at (w, 0) : NULL;
}

struct window_item *window_last (struct window *w)
{
    return w->count ? item_at (w, w->count - 1) : NULL;
}

bool window_synced (struct window *w, uint64_t seq)
{
    assert (seq < w->next_seq);
    if (seq <= w->synced)
        return false;
    w->synced = seq;
    const size_t before = w->count;
    while (w->count && item_at (w, 0)->end_seq - 1 <= seq)
        drop_first (w);
    return w->count < before;
}

bool window_drop_oldest (struct window *w)
{
    if (!w->count)
        return false;
    drop_first (w);
    return true;
}

struct window_item *window_find_from (struct window *w, uint64_t seq)
{
    size_t low = 0, high = w->count;    /* the answer is in [low, high] */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (item_at (w, middle)->end_seq <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low < w->count ? item_at (w, low) : NULL;
}

struct window_item *window_find (struct window *w, uint64_t seq)
{
    struct window_item *item = window_find_from (w, seq);
    return item && item->first_seq <= seq ? item : NULL;
}

struct window_item *window_after (struct window *w, const struct window_item *item)
{
    return window_find (w, item->end_seq);
}
