/* Small parts that the journal's threads share: the map from numbers to slots against a plain list, the mailbox's bounds and order, the finder of single facts
 * over what a log has, had, and never had; who owns which stream, and who is a member, at their bounds. */

#include "fake_journal.h"

#include "covered.h"
#include "fact_finder.h"
#include "factmesh.pb-c.h"
#include "mailbox.h"
#include "marks.h"
#include "members.h"
#include "slot_map.h"

/* members asks for it: it is not one of them itself. */
const struct fm_id *node_id (const struct fm_node *node)
{
    static const struct fm_id id = { .bytes = { 'j' } };
    (void) node;
    return &id;
}

/* --- slot_map */

enum { NUMBERS = 300, STEPS = 60000 };

static uint64_t random_state;

static uint64_t next_random (void)
{
    random_state = random_state * UINT64_C (6364136223846793005) + UINT64_C (1442695040888963407);
    return random_state >> 33;
}

/* Removals close the ranks: whoever stood behind a hole is still found. */
static void a_slot_map_is_what_a_list_would_be (void **state)
{
    (void) state;
    struct slot_map m;
    static uint32_t slots[NUMBERS];
    memset (slots, 0, sizeof slots);
    slot_map_init (&m);
    random_state = 42;
    assert_int_equal (slot_map_find (&m, 7), 0);
    slot_map_remove (&m, 7);
    for (int step = 0; step < STEPS; step++) {
        /* Numbers from everywhere, 0 and the largest among them; few enough that the table is often small and full. */
        const uint32_t n = (uint32_t) (next_random () % NUMBERS);
        const uint64_t number = n == 0 ? 0 : n == 1 ? UINT64_MAX : n * UINT64_C (0x10000001);
        if (slots[n] || step / 1000 % 2) {
            slot_map_remove (&m, number);
            slots[n] = 0;
        } else {
            slots[n] = (uint32_t) step + 1;
            assert_int_equal (slot_map_put (&m, number, slots[n]), 0);
        }
        if (step % 50)
            continue;
        uint32_t count = 0;
        for (uint32_t i = 0; i < NUMBERS; i++) {
            const uint64_t one = i == 0 ? 0 : i == 1 ? UINT64_MAX : i * UINT64_C (0x10000001);
            assert_int_equal (slot_map_find (&m, one), slots[i]);
            count += slots[i] != 0;
        }
        assert_int_equal (m.count, count);
    }
    slot_map_release (&m);
}

/* --- mailbox */

static int put (struct mailbox *box, uint64_t request, size_t bytes)
{
    static uint8_t filler[MAILBOX_BYTES_MAX + 1000];
    const struct node_route from = { .len = 1, .bytes = { 'x' } };
    Factmesh__FactGet get = FACTMESH__FACT_GET__INIT;
    get.key = control_put_slice (slice (filler, bytes));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = request;
    control.body_case = FACTMESH__CONTROL__BODY_FACT_GET;
    control.fact_get = &get;
    return mailbox_put (box, &from, &control);
}

static void expect_mail (struct mailbox *box, uint64_t request, size_t bytes)
{
    struct mail *mail = mailbox_take (box);
    assert_non_null (mail);
    assert_non_null (mail->control);
    assert_int_equal (mail->control->request, request);
    assert_int_equal (mail->control->fact_get->key.len, bytes);
    assert_int_equal (mail->from.bytes[0], 'x');
    mail_destroy (&mail);
    assert_null (mail);
}

static void a_mailbox_keeps_order_and_its_bounds_and_news_always_fit (void **state)
{
    (void) state;
    struct mailbox box;
    const struct fm_id node = kit_stream (9);
    mailbox_init (&box);
    assert_null (mailbox_take (&box));
    for (uint64_t i = 1; i <= MAILBOX_MAX; i++)
        assert_int_equal (put (&box, i, i % 5), 0);
    assert_int_equal (put (&box, 1, 0), FM_ERR_LIMIT);
    mailbox_put_down (&box, &node, true);
    for (uint64_t i = 1; i <= MAILBOX_MAX; i++)
        expect_mail (&box, i, i % 5);
    struct mail *news = mailbox_take (&box);
    assert_non_null (news);
    assert_null (news->control);
    assert_true (news->said_goodbye && id_equal (&news->node_down, &node));
    mail_destroy (&news);
    assert_null (mailbox_take (&box));
    /* Bytes: one that is larger than all may be goes alone; what was refused takes no room. */
    assert_int_equal (put (&box, 1, MAILBOX_BYTES_MAX), 0);
    assert_int_equal (put (&box, 2, 0), FM_ERR_LIMIT);
    expect_mail (&box, 1, MAILBOX_BYTES_MAX);
    assert_int_equal (put (&box, 3, MAILBOX_BYTES_MAX / 2), 0);
    assert_int_equal (put (&box, 4, MAILBOX_BYTES_MAX / 2), FM_ERR_LIMIT);
    assert_int_equal (put (&box, 5, MAILBOX_BYTES_MAX / 2 - 1000), 0);
    expect_mail (&box, 3, MAILBOX_BYTES_MAX / 2);
    assert_int_equal (put (&box, 6, MAILBOX_BYTES_MAX / 2), 0);
    expect_mail (&box, 5, MAILBOX_BYTES_MAX / 2 - 1000);
    mailbox_release (&box);             /* with one in it */
}

/* --- fact_finder */

enum { FINDER_BATCHES = 40, FINDER_LARGEST = 2000 };

/* Is the batch this one fact of the workload? */
static void expect_fact (struct fm_slice found, unsigned stream, uint64_t first_seq, uint64_t seq)
{
    const struct kit_batch_spec spec = work_spec (stream, first_seq, FINDER_LARGEST);
    struct kit_batch k;
    struct batch b;
    struct batch_scratch scratch = { 0 };
    struct batch_reader ours, theirs;
    struct fm_fact expected, fact;
    kit_batch_make (&spec, &k);
    batch_reader_init (&ours, &k.batch);
    do
        assert_int_equal (batch_reader_next (&ours, &expected), 0);
    while (expected.id.seq < seq);
    assert_int_equal (batch_decode (found.data, found.len, slice (NULL, 0), &scratch, &b), 0);
    assert_int_equal (b.count, 1);
    batch_reader_init (&theirs, &b);
    assert_int_equal (batch_reader_next (&theirs, &fact), 0);
    assert_int_equal (fact.id.seq, seq);
    assert_true (id_equal (&fact.id.stream, &k.batch.stream));
    assert_true (slice_equal (fact.topic, expected.topic) && slice_equal (fact.payload, expected.payload));
    batch_scratch_release (&scratch);
    kit_batch_release (&k);
}

/* By offset and by name, near and far, put before or not, and twice; nothing for what is not there. */
static void a_finder_finds_each_fact_and_no_other (void **state)
{
    (void) state;
    struct fake_journal j;
    struct fact_finder *f;
    struct { unsigned stream; uint64_t first_seq; } batches[FINDER_BATCHES];
    uint64_t starts[FINDER_BATCHES + 1] = { 1 };
    fake_begin (&j);
    assert_int_equal (fake_open (&j), 0);
    for (unsigned i = 0; i < FINDER_BATCHES; i++) {
        batches[i].stream = 1 + i % WORK_STREAMS;
        batches[i].first_seq = work_next_seq (j.context.log, batches[i].stream);
        assert_int_equal (work_append (j.context.log, batches[i].stream, FINDER_LARGEST), 0);
        starts[i + 1] = starts[i] + work_spec (batches[i].stream, batches[i].first_seq, FINDER_LARGEST).count;
    }
    assert_int_equal (fact_finder_new (j.context.log, 20000, &f), 0);
    struct fm_slice bytes;
    struct fm_fact fact;
    uint64_t offset;
    /* Nothing is synced yet: a power loss could take it back. */
    assert_int_equal (fact_finder_at (f, 1, &bytes), FM_ERR_UNKNOWN);
    assert_int_equal (fake_sync (&j), 0);
    random_state = 7;
    for (int step = 0; step < 600; step++) {
        const unsigned i = (unsigned) (next_random () % FINDER_BATCHES);
        const uint64_t at = starts[i] + next_random () % (starts[i + 1] - starts[i]), seq = batches[i].first_seq + (at - starts[i]);
        const struct fm_fact_id id = { .stream = kit_stream (batches[i].stream), .seq = seq };
        switch (step % 4) {
        case 0:
            assert_int_equal (fact_finder_at (f, at, &bytes), 0);
            break;
        case 1:
            assert_int_equal (fact_finder_offset (f, &id, &offset), 0);
            assert_int_equal (offset, at);
            assert_int_equal (fact_finder_at (f, offset, &bytes), 0);
            break;
        case 2:                         /* as a reader of the log puts it: in the small cache older ones give way */
            assert_int_equal (fact_finder_read (f, at, &bytes, &fact), 0);
            {
                struct batch b;
                struct batch_scratch scratch = { 0 };
                uint8_t *copy = malloc (bytes.len);
                assert_non_null (copy);
                memcpy (copy, bytes.data, bytes.len);
                assert_int_equal (batch_decode (copy, bytes.len, slice (NULL, 0), &scratch, &b), 0);
                struct batch_reader reader;
                batch_reader_init (&reader, &b);
                assert_int_equal (batch_reader_next (&reader, &fact), 0);
                fact_finder_put (f, at, &b, &fact);
                batch_scratch_release (&scratch);
                free (copy);
            }
            assert_int_equal (fact_finder_at (f, at, &bytes), 0);
            break;
        default:
            assert_int_equal (fact_finder_at (f, at, &bytes), 0);
            assert_int_equal (fact_finder_at (f, at, &bytes), 0);
            break;
        }
        expect_fact (bytes, batches[i].stream, batches[i].first_seq, seq);
    }
    const uint64_t end = starts[FINDER_BATCHES];
    static const uint64_t beyond[] = { 0, 1, 1000000, UINT64_MAX / 2 };
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal (fact_finder_at (f, end + beyond[i], &bytes), FM_ERR_UNKNOWN);
        const struct fm_fact_id next = { .stream = kit_stream (1), .seq = work_next_seq (j.context.log, 1) + beyond[i] };
        const struct fm_fact_id nobody = { .stream = kit_stream (77), .seq = 1 + beyond[i] };
        offset = 4711;
        assert_int_equal (fact_finder_offset (f, &next, &offset), FM_ERR_UNKNOWN);
        assert_int_equal (fact_finder_offset (f, &nobody, &offset), FM_ERR_UNKNOWN);
        assert_int_equal (offset, 4711);
    }
    fact_finder_destroy (&f);
    fake_end (&j);
}

/* Offsets and sequences of a gap, and facts that their batch has not though its header counts them: a record whose sum fits and whose contents lie. */
static void a_finder_finds_nothing_where_no_fact_is (void **state)
{
    (void) state;
    enum { GAP = 3, CUT = 4, LAST = 8 };
    struct fake_journal j;
    struct fact_finder *f;
    struct kit_batch k;
    struct fm_slice bytes;
    const struct fm_id stream = kit_stream (1);
    uint64_t offset;
    fake_begin (&j);
    assert_int_equal (fake_open (&j), 0);
    kit_append_batch (j.context.log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 1, .count = 2, .payload_len = 10 });
    assert_int_equal (log_append_gap (j.context.log, &stream, 3, 9, FACTMESH__GAP_REASON__GAP_VOID, &offset), 0);
    assert_int_equal (offset, GAP);
    kit_batch_make (&(struct kit_batch_spec) { .stream = 1, .first_seq = 9, .count = 4, .payload_len = 10 }, &k);
    k.len -= 20;                        /* the last fact, and a bit of the third */
    assert_int_equal (batch_decode (k.bytes, k.len, slice (NULL, 0), &k.scratch, &k.batch), 0);
    assert_int_equal (log_append (j.context.log, &k.batch, &offset), 0);
    kit_batch_release (&k);
    assert_int_equal (offset, CUT);
    assert_int_equal (kit_append_batch (j.context.log, &(struct kit_batch_spec) { .stream = 1, .first_seq = 13, .count = 1, .payload_len = 10 }), LAST);
    assert_int_equal (fake_sync (&j), 0);
    assert_int_equal (fact_finder_new (j.context.log, 0, &f), 0);
    for (uint64_t at = 1; at <= LAST; at++)
        assert_int_equal (fact_finder_at (f, at, &bytes), at == GAP || at == CUT + 2 || at == CUT + 3 ? FM_ERR_UNKNOWN : 0);
    for (uint64_t seq = 1; seq <= 13; seq++) {
        const struct fm_fact_id id = { .stream = stream, .seq = seq };
        const bool there = seq <= 2 || seq == 9 || seq == 10 || seq == 13;
        offset = 4711;
        assert_int_equal (fact_finder_offset (f, &id, &offset), there ? 0 : FM_ERR_UNKNOWN);
        assert_int_equal (offset, !there ? 4711 : seq <= 2 ? seq : CUT + (seq - 9));
    }
    fact_finder_destroy (&f);
    fake_end (&j);
}

/* --- Roots of corrections. */

static uint64_t append_correction (struct fake_journal *j, uint64_t seq, uint64_t corrects)
{
    static const uint8_t backs[2];
    struct batch_topic topic = { .name = slice_of ("a.b"), .backs = slice (backs, 2) };
    struct batch b = { .mesh = slice_of ("test"), .count = 1, .stream = kit_stream (1), .epoch = 1, .incarnation = 8, .epoch_first_seq = 1, .first_seq = seq,
                       .time_ns = 5, .topics = &topic, .topic_count = 1 };
    const struct batch_defaults defaults = { .time_ns = 5 };
    struct fm_fact fact = { .time_ns = 5, .payload = slice ("new", 3) };
    if (corrects)
        fact.corrects = (struct fm_fact_id) { .stream = b.stream, .seq = corrects };
    b.features = fact_features (&fact);
    uint8_t bytes[512], *p = batch_encode_header (bytes, &b);
    p = fact_encode (p, &fact, &defaults);
    struct batch_scratch scratch = { 0 };
    uint64_t offset;
    assert_int_equal (batch_decode (bytes, (size_t) (p - bytes), slice (NULL, 0), &scratch, &b), 0);
    assert_int_equal (log_append (j->context.log, &b, &offset), 0);
    batch_scratch_release (&scratch);
    return offset;
}

static void a_root_is_found_through_its_chain_and_circles_and_strangers_are_refused (void **state)
{
    (void) state;
    struct fake_journal j;
    struct fact_finder *f;
    fake_begin (&j);
    assert_int_equal (fake_open (&j), 0);
    /* 1; then each corrects the one before; 100 and 101 each other; 102 itself; 103 one that nobody has. */
    for (uint64_t seq = 1; seq < 100; seq++)
        assert_int_equal (append_correction (&j, seq, seq - 1), seq);
    (void) append_correction (&j, 100, 101);
    (void) append_correction (&j, 101, 100);
    (void) append_correction (&j, 102, 102);
    (void) append_correction (&j, 103, 5000);
    assert_int_equal (fake_sync (&j), 0);
    assert_int_equal (fact_finder_new (j.context.log, 0, &f), 0);
    for (uint64_t seq = 2; seq <= 103; seq++) {
        struct fm_slice bytes;
        struct fm_fact fact;
        struct fm_fact_id root = { .seq = 0 };
        uint64_t offset = 0;
        assert_int_equal (fact_finder_read (f, seq, &bytes, &fact), 0);
        const int rc = fact_finder_root (f, &fact, &root, &offset);
        if (seq <= FACT_FINDER_CHAIN_MAX + 1) {
            assert_int_equal (rc, 0);
            assert_int_equal (root.seq, 1);
            assert_int_equal (offset, 1);
        } else {
            assert_int_equal (rc, seq == 103 ? FM_ERR_UNKNOWN : FM_ERR_LIMIT);
            assert_true (*fm_error_detail ());
        }
    }
    fact_finder_destroy (&f);
    fake_end (&j);
}

/* --- covered */

/* Full, it still takes news of streams that it has; cleared, it has none: few streams and many are cleared in two ways. */
static void what_is_covered_is_what_was_put_until_it_is_cleared (void **state)
{
    (void) state;
    static const unsigned counts[] = { 1, 3, COVERED_MAX / 8, COVERED_MAX / 8 + 1, COVERED_MAX, 2, COVERED_MAX };
    static struct covered c;
    memset (&c, 0, sizeof c);
    for (size_t round = 0; round < sizeof counts / sizeof counts[0]; round++) {
        const unsigned count = counts[round];
        for (unsigned i = 0; i < count; i++) {
            const struct fm_id stream = kit_stream (i);
            assert_true (covered_put (&c, &stream, i + 10));
            assert_true (covered_put (&c, &stream, i + 5));
            assert_int_equal (c.count, i + 1);
        }
        const struct fm_id first = kit_stream (0), other = kit_stream (COVERED_MAX + 1);
        assert_true (covered_put (&c, &first, 99));
        assert_int_equal (covered_is_full (&c), count == COVERED_MAX);
        if (count == COVERED_MAX)
            assert_false (covered_put (&c, &other, 1));
        assert_int_equal (c.count, count);
        for (unsigned i = 0; i < count; i++) {
            const struct fm_id stream = kit_stream (i);
            assert_true (id_equal (&c.entries[i].stream, &stream));
            assert_int_equal (c.entries[i].through, i ? i + 10 : 99);
        }
        covered_clear (&c);
        assert_int_equal (c.count, 0);
        for (unsigned i = 0; i < COVERED_SLOTS; i++)
            assert_int_equal (c.slots[i], 0);
    }
}

/* --- marks */

static void no_more_streams_have_an_owner_than_there_are_places (void **state)
{
    (void) state;
    enum { MAX = 3 };
    struct marks *m;
    struct mark_due due[MAX + 1];
    struct fm_id owner;
    const struct fm_id node = { { 1 } };
    assert_int_equal (marks_new (MAX, &m), 0);
    for (unsigned i = 0; i < MAX; i++) {
        const struct fm_id stream = kit_stream (i);
        assert_int_equal (marks_own (m, &stream, &node), 0);
    }
    const struct fm_id first = kit_stream (0), more = kit_stream (MAX);
    assert_int_equal (marks_own (m, &more, &node), FM_ERR_LIMIT);
    assert_string_equal (fm_error_detail (), "3 streams are being published: the limit");
    assert_false (marks_owner (m, &more, &owner));
    assert_int_equal (marks_own (m, &first, &node), 0);
    marks_disown (m, &first);
    assert_int_equal (marks_own (m, &more, &node), 0);
    assert_true (marks_owner (m, &more, &owner) && id_equal (&owner, &node));
    assert_int_equal (marks_take (m, due, MAX + 1), MAX);
    marks_destroy (&m);
    marks_destroy (&m);
}

/* --- members */

static struct node_peer peer_of (unsigned number)
{
    struct node_peer p = { .node = { .bytes = { 'm', (uint8_t) number, (uint8_t) (number >> 8) } }, .is_journal = true };
    (void) snprintf (p.control, sizeof p.control, "tcp://127.0.0.1:%u", number);
    return p;
}

/* More than the mesh may have: whoever comes then is not known; when one has gone, the next is. */
static void there_are_no_more_members_than_there_are_places (void **state)
{
    (void) state;
    enum { MAX = 2 * MEMBERS_MAX };
    struct fake_journal j;
    struct members *m = NULL;
    struct wake wake;
    struct member found;
    members_destroy (&m);
    fake_begin (&j);
    assert_int_equal (fake_open (&j), 0);
    assert_int_equal (marks_new (8, &j.context.marks), 0);
    assert_int_equal (wake_init (&wake), 0);
    assert_int_equal (members_new (&j.context, &wake, &m), 0);
    for (unsigned i = 0; i <= MAX; i++) {
        const struct node_peer p = peer_of (i);
        fake.listener.up (fake.listener.arg, &p);
    }
    const struct node_peer first = peer_of (0), last = peer_of (MAX - 1), more = peer_of (MAX);
    assert_int_equal (members_journals (m, node_now ()), MAX);
    assert_true (members_find (m, &last.node, &found));
    assert_string_equal (found.control, last.control);
    assert_false (members_find (m, &more.node, &found));
    fake.listener.down (fake.listener.arg, &more.node, true);
    fake.listener.down (fake.listener.arg, &first.node, true);
    fake.listener.up (fake.listener.arg, &more);
    assert_true (members_find (m, &more.node, &found) && !found.gone);
    assert_false (members_find (m, &first.node, &found));
    members_destroy (&m);
    assert_null (m);
    wake_release (&wake);
    marks_destroy (&j.context.marks);
    fake_end (&j);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_slot_map_is_what_a_list_would_be),
        cmocka_unit_test (a_mailbox_keeps_order_and_its_bounds_and_news_always_fit),
        cmocka_unit_test (a_finder_finds_each_fact_and_no_other),
        cmocka_unit_test (a_finder_finds_nothing_where_no_fact_is),
        cmocka_unit_test (a_root_is_found_through_its_chain_and_circles_and_strangers_are_refused),
        cmocka_unit_test (what_is_covered_is_what_was_put_until_it_is_cleared),
        cmocka_unit_test (no_more_streams_have_an_owner_than_there_are_places),
        cmocka_unit_test (there_are_no_more_members_than_there_are_places),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
