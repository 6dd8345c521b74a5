/* fake_server: the journal's server on a node without sockets (fake_journal.h) and a log of known facts, which is synced when the test says so. cmocka's state
 * is a struct fake_journal. */

#ifndef FM_TESTS_FAKE_SERVER_H
#define FM_TESTS_FAKE_SERVER_H

#include "fake_journal.h"

#include "factmesh.pb-c.h"
#include "server.h"

enum { BATCHES = 40, FACTS = 10, PAYLOAD = 2000 };

/* --- What the node has that the status tells of. */

int node_handle_first (struct fm_node *node, node_control_fn *fn, void *arg)
{
    return node_handle (node, fn, arg);
}

const struct fm_id *node_id (const struct fm_node *node)
{
    static const struct fm_id id = { .bytes = { 'j' } };
    (void) node;
    return &id;
}

size_t node_streams (struct fm_node *node, Factmesh__StreamHead *ret, size_t max)
{
    (void) node, (void) ret, (void) max;
    return 0;
}

static unsigned fake_node_counters;

int fm_node_counters (struct fm_node *node, void (*each) (void *arg, const char *name, uint64_t value, const char *unit, const char *meaning), void *arg)
{
    (void) node;
    for (unsigned i = 0; i < fake_node_counters; i++)
        each (arg, "fake", i, "times", "");
    return 0;
}

void journal_counter_text (enum journal_counter counter, const char **ret_name, const char **ret_unit, const char **ret_meaning)
{
    (void) counter;
    *ret_name = *ret_unit = *ret_meaning = "";
}

/* --- A journal of facts whose every byte follows from their place, and its server. */

static struct server *server;

static inline int set_up (void **state)
{
    struct fake_journal *j = calloc (1, sizeof *j);
    assert_non_null (j);
    fake_begin (j);
    j->fs = fail_fs_new ();
    assert_int_equal (fake_open (j), 0);
    j->context.options = (struct journal_options) { .sessions_max = 8, .sessions_per_peer_max = 4 };
    for (uint64_t i = 0; i < BATCHES; i++) {
        const struct kit_batch_spec spec = { .stream = 1, .first_seq = 1 + i * FACTS, .count = FACTS, .payload_len = PAYLOAD };
        (void) kit_append_batch (j->context.log, &spec);
    }
    assert_int_equal (fake_sync (j), 0);
    assert_int_equal (server_new (&j->context, &server), 0);
    *state = j;
    return 0;
}

static inline int tear_down (void **state)
{
    server_destroy (&server);
    fake_end (*state);
    free (*state);
    return 0;
}

/* All facts, up to what is synced. */
static inline void ask (uint8_t from, uint64_t session)
{
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.session = session;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_OFFSET;
    open.from_offset = 1;
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED;
    open.end_at_synced = true;
    open.credit = 4 << 20;
    open.message_bytes = 4 * FACTS * PAYLOAD;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_OPEN;
    control.replay_open = &open;
    assert_int_equal (fake_hand_over (from, &control), 0);
}

/* How far an asker's replay has come. */
struct heard {
    uint64_t session, batches;
    bool ended;
};

/* Each batch once, in order, byte for byte. */
static inline void take_batches (struct heard *h, const Factmesh__ReplayData *data)
{
    for (size_t i = 0; i < data->n_batches; i++, h->batches++) {
        const struct kit_batch_spec spec = { .stream = 1, .first_seq = 1 + h->batches * FACTS, .count = FACTS, .payload_len = PAYLOAD };
        struct kit_batch wanted;
        kit_batch_make (&spec, &wanted);
        assert_int_equal (data->batches[i].len, wanted.len);
        assert_memory_equal (data->batches[i].data, wanted.bytes, wanted.len);
        kit_batch_release (&wanted);
    }
}

static inline void hear_all (struct heard *askers, size_t count)
{
    for (size_t ended = 0; ended < count;) {
        const Factmesh__Control *c = fake_reply_within (FAKE_PATIENCE_MS);
        assert_non_null (c);
        const bool data = c->body_case == FACTMESH__CONTROL__BODY_REPLAY_DATA;
        assert_true (data || c->body_case == FACTMESH__CONTROL__BODY_REPLAY_END);
        const uint64_t session = data ? c->replay_data->session : c->replay_end->session;
        size_t i = 0;
        while (i < count && askers[i].session != session)
            i++;
        assert_true (i < count && !askers[i].ended);
        if (data) {
            take_batches (&askers[i], c->replay_data);
            continue;
        }
        assert_int_equal (askers[i].batches, BATCHES);
        askers[i].ended = true;
        ended++;
    }
}

#endif
