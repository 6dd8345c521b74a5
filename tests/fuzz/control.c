/* A frame on a control endpoint: peek and decode agree, and everything within that has a reader of its own is given to it. */

#include "fuzz.h"

#include "control.h"
#include "cursor.h"
#include "fold.h"
#include "peer_info.h"

static void read_info (const Factmesh__NodeInfo *info)
{
    struct peer_info *peer = NULL;
    char live[ADDRESS_TEXT_MAX];
    if (!info || peer_info_read (info, &peer) != 0)
        return;
    assert (peer->control_count >= 1 && peer->control_count <= ADDRESSES_MAX && peer->live_count <= ADDRESSES_MAX);
    assert (peer_info_same (peer, peer));
    (void) peer_info_live (peer, "tcp://127.0.0.1:1", live);
    (void) peer_info_live (peer, peer->control[0], live);
    Factmesh__NodeInfo message;
    Factmesh__JournalInfo journal;
    peer_info_write (peer, &message, &journal);
    struct peer_info *again = NULL;
    assert (peer_info_read (&message, &again) == 0 && peer_info_same (peer, again));
    free (again);
    free (peer);
}

static void read_cursor (const Factmesh__Cursor *message)
{
    struct cursor c = { 0 };
    struct fold_positions positions = { 0 };
    if (!message)
        return;
    if (cursor_from_message (&c, message) == 0)
        assert (c.count == message->n_positions);
    if (fold_positions_copy (message, &positions) == 0) {
        assert (positions.count <= message->n_positions);
        for (size_t i = 1; i < positions.count; i++)
            assert (memcmp (&positions.items[i - 1].stream, &positions.items[i].stream, ID_LEN) < 0);
        fold_positions_release (&positions);
    }
    cursor_release (&c);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    struct control_head head;
    Factmesh__Control *c = NULL;
    const int peeked = control_peek (data, size, slice (NULL, 0), &head);
    if (peeked == 0)
        assert (fuzz_within (head.mesh, data, size) && fuzz_within (head.body, data, size));
    (void) replay_data_is (data, size);
    if (control_decode (data, size, slice (NULL, 0), &c) != 0)
        return 0;
    assert (peeked == 0 && head.request == c->request && head.field == (uint32_t) c->body_case);
    assert (slice_equal (head.mesh, control_get_slice (&c->mesh)));
    switch (c->body_case) {
    case FACTMESH__CONTROL__BODY_HELLO:
        read_info (c->hello->info);
        break;
    case FACTMESH__CONTROL__BODY_WELCOME:
        read_info (c->welcome->info);
        for (size_t i = 0; i < c->welcome->n_peers; i++)
            read_info (c->welcome->peers[i]);
        break;
    case FACTMESH__CONTROL__BODY_PEERS:
        for (size_t i = 0; i < c->peers->n_peers; i++)
            read_info (c->peers->peers[i]);
        break;
    case FACTMESH__CONTROL__BODY_CURSOR_PUT:
        read_cursor (c->cursor_put->cursor);
        break;
    case FACTMESH__CONTROL__BODY_REPLAY_OPEN:
        if (c->replay_open->start_case == FACTMESH__REPLAY_OPEN__START_FROM_CURSOR)
            read_cursor (c->replay_open->from_cursor);
        else if (c->replay_open->start_case == FACTMESH__REPLAY_OPEN__START_FROM_LATEST)
            read_cursor (c->replay_open->from_latest);
        break;
    default:
        break;
    }
    factmesh__control__free_unpacked (c, NULL);
    return 0;
}
