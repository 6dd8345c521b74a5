/* server: askers whose queue is full, and askers that go while a message to them waits, on a node without sockets and a log that is synced when the test says so. */

#include "fake_journal.h"

#include "factmesh.pb-c.h"
#include "server.h"

enum { BATCHES = 40, FACTS = 10, PAYLOAD = 2000 };

/* --- What the status would tell of; nobody asks for it here. */

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

int fm_node_counters (struct fm_node *node, void (*each) (void *arg, const char *name, uint64_t value, const char *unit, const char *meaning), void *arg)
{
    (void) node, (void) each, (void) arg;
    return 0;
}

void journal_counter_text (enum journal_counter counter, const char **ret_name, const char **ret_unit, const char **ret_meaning)
{
    (void) counter;
    *ret_name = *ret_unit = *ret_meaning = "";
}

/* --- A journal of facts whose every byte follows from their place, and its server. */

static struct server *server;

static int set_up (void **state)
{
    struct fake_journal *j = calloc (1, sizeof *j);
    assert_non_null (j);
    fake_begin (j);
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

static int tear_down (void **state)
{
    server_destroy (&server);
    fake_end (*state);
    free (*state);
    return 0;
}

/* All facts, up to what is synced. */
static void ask (uint8_t from, uint64_t session)
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
static void take_batches (struct heard *h, const Factmesh__ReplayData *data)
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

static void hear_all (struct heard *askers, size_t count)
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

static void a_full_queue_is_tried_again_and_nothing_is_lost (void **state)
{
    const struct fake_journal *j = *state;
    struct heard askers[] = { { .session = 1 }, { .session = 2 } };
    fake_let_replies (-EAGAIN, 0, 0);
    ask ('a', 1);
    ask ('b', 2);
    for (unsigned i = 0; i < 3; i++) {
        fake_wait_tries (6);
        fake_let_replies (-EAGAIN, 1, 0);       /* one gets through */
    }
    fake_wait_tries (6);
    fake_let_replies (0, 0, 0);
    hear_all (askers, 2);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_DROPPED), 0);
}

static void an_asker_that_goes_while_a_message_to_it_waits_is_forgotten (void **state)
{
    const struct fake_journal *j = *state;
    struct heard others[] = { { .session = 3 }, { .session = 4 } }, again[] = { { .session = 1 } };
    fake_let_replies (-EAGAIN, 0, 0);
    ask ('a', 1);
    ask ('b', 3);
    ask ('a', 2);
    ask ('c', 4);
    fake_wait_tries (8);                /* each waits */
    fake_let_replies (-EAGAIN, 0, 'a');
    const uint64_t until_ns = node_now () + FAKE_PATIENCE_MS / 2 * (uint64_t) FAKE_NS_PER_MS;   /* far less than SERVER_IDLE_MS */
    while (journal_counter (&j->context, JOURNAL_SESSIONS_DROPPED) < 2) {
        assert_true (node_now () < until_ns);
        fake_wait_tries (1);
    }
    fake_let_replies (0, 0, 'a');
    hear_all (others, 2);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_DROPPED), 2);
    /* Its places are free, its numbers too. */
    fake_let_replies (0, 0, 0);
    ask ('a', 1);
    hear_all (again, 1);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_REFUSED), 0);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown (a_full_queue_is_tried_again_and_nothing_is_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown (an_asker_that_goes_while_a_message_to_it_waits_is_forgotten, set_up, tear_down),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
