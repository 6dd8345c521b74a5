/* No memory, in a mesh of three nodes in one process: whichever allocation fails, once, in whatever thread: the call says so, and the next try succeeds,
 * or who noticed it tries again by itself; every fact is recorded and delivered, in order, once. MEMORY_STEP=1 tries each allocation, from MEMORY_FIRST on. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../support/fail_memory.h"
#include "../support/log_kit.h"
#include "error.h"
#include "factmesh.h"
#include "journal.h"

enum { PATIENCE_MS = 20000, FACTS = 30, LARGE = 11, LARGE_BYTES = 200000, STEP_DEFAULT = 29 };

static unsigned again;

/* A call that found no memory is made again; what is told otherwise is a fault. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        int rc_ = (call);                                                                          \
        if (rc_ == -ENOMEM && fail_memory_happened ()) {                                           \
            again++;                                                                               \
            rc_ = (call);                                                                          \
        }                                                                                          \
        if (rc_)                                                                                   \
            fail_msg ("%s: %s (%s)", #call, fm_error_text (rc_), fm_error_detail ());              \
    } while (0)

static struct fm_node *open_node (const char *name, const char *seeds)
{
    const struct fm_node_options options = { .mesh = "test", .name = name, .seeds = seeds, .bind = "tcp://127.0.0.1:*", .beacon_port = -1, .ping_ms = 50 };
    struct fm_node *node = NULL;
    TRY (fm_node_open (&options, &node));
    return node;
}

/* What each fact is follows from its number; one is fetched, not sent. */
static char large[LARGE_BYTES];

static struct fm_slice payload_of (unsigned number, char *text, size_t size)
{
    if (number == LARGE)
        return slice (large, sizeof large);
    return slice (text, (size_t) snprintf (text, size, "fact %u", number));
}

static void publish (struct fm_publisher *out)
{
    for (unsigned number = 1; number <= FACTS; number++) {
        char text[32], topic[32];
        (void) snprintf (topic, sizeof topic, "a.t%u", number % 3);
        const struct fm_fact fact = { .topic = slice_of (topic), .payload = payload_of (number, text, sizeof text), .key = slice_of ("k") };
        struct fm_fact_id id;
        TRY (fm_publish (out, &fact, &id));
        assert_int_equal (id.seq, number);
    }
}

static void take (struct fm_subscription *in)
{
    for (unsigned number = 1; number <= FACTS;) {
        struct fm_event e;
        char text[32];
        TRY (fm_subscription_next (in, PATIENCE_MS, &e));
        if (e.kind == FM_EVENT_GAP)
            fail_msg ("a gap [%llu, %llu) instead of fact %u", (unsigned long long) e.gap.first, (unsigned long long) e.gap.end, number);
        if (e.kind != FM_EVENT_FACT)
            continue;
        assert_int_equal (e.fact.id.seq, number);
        assert_true (slice_equal (e.fact.payload, payload_of (number, text, sizeof text)));
        number++;
    }
}

static void run (void)
{
    static const char *const topics[] = { "a.>", NULL };
    char directory[128];
    struct journal *journal = NULL;
    struct fm_publisher *out = NULL;
    struct fm_subscription *early = NULL, *late = NULL, *again_late = NULL;
    kit_directory (directory);
    struct fm_node *publisher_node = open_node ("publisher", NULL);
    struct fm_node *journal_node = open_node ("journal", fm_node_address (publisher_node));
    TRY (journal_new (journal_node, directory, &(struct journal_options) { .settle_ms = 50, .answer_ms = 300, .holders_wait_ms = 300 }, &journal));
    struct fm_node *subscriber_node = open_node ("subscriber", fm_node_address (publisher_node));
    const struct fm_subscription_options options = { .topics = topics, .from = FM_FROM_START, .open_timeout_ms = PATIENCE_MS };
    const struct fm_subscription_options named = { .topics = topics, .from = FM_FROM_START, .cursor = "c", .delivery = FM_SYNCED, .open_timeout_ms = PATIENCE_MS };
    TRY (fm_subscription_open (subscriber_node, &options, &early));
    TRY (fm_publisher_open (publisher_node, NULL, &out));
    publish (out);
    TRY (fm_publisher_wait_synced (out, 0, PATIENCE_MS));
    take (early);
    TRY (fm_subscription_open (subscriber_node, &named, &late));
    take (late);
    fm_subscription_close (&late);
    TRY (fm_subscription_open (subscriber_node, &options, &again_late));
    take (again_late);
    fm_subscription_close (&again_late);
    fm_subscription_close (&early);
    fm_publisher_close (&out);
    fm_node_close (&subscriber_node);
    journal_destroy (&journal);
    fm_node_close (&journal_node);
    fm_node_close (&publisher_node);
    kit_remove (directory);
}

static void whichever_allocation_fails_every_fact_is_recorded_and_delivered_once (void **state)
{
    (void) state;
    const char *text = getenv ("MEMORY_STEP");
    const unsigned long step = text && atoi (text) > 0 ? (unsigned long) atoi (text) : STEP_DEFAULT;
    memset (large, 'x', sizeof large);
    const char *first = getenv ("MEMORY_FIRST");
    unsigned long n = first ? (unsigned long) atoi (first) : 1;
    for (bool more = true; more; n += step) {
        if (getenv ("TEST_NOTICES"))
            print_message ("allocation %lu\n", n);
        fail_memory_at (n);
        run ();
        more = fail_memory_happened ();
        fail_memory_at (0);
    }
    print_message ("%lu allocations, one in %lu failed; %u calls made again\n", n, step, again);
    assert_true (n > 300);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (whichever_allocation_fails_every_fact_is_recorded_and_delivered_once),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
