/* requester: which response is whose, and what the asker is told: with a publisher and a subscription under the test's control, and time that stands still
 * but while it waits. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "error.h"
#include "id.h"
#include "node.h"
#include "topic.h"
#include "../support/assert_done.h"

enum { EVENTS_MAX = 32, TEXT_SIZE = 300 };
#define MS UINT64_C (1000000)

/* What comes from the subscription: an event, or an error, at a time. */
struct comes {
    uint64_t at_ms;
    int rc;
    enum fm_event_kind kind;
    const char *correlation;            /* NULL: that of the last request */
    const char *payload;
};

static struct {
    uint64_t now_ns, began_ns;
    int open_rc, publish_rc;
    char topics[TEXT_SIZE];             /* that were subscribed to */
    int open_timeout_ms;
    bool open;
    struct comes comes[EVENTS_MAX];
    size_t count, taken;
    unsigned published;
    char topic[TEXT_SIZE], correlation[TEXT_SIZE];
    uint64_t expires_ns;
    struct fm_fact_id cause;
} f;

static struct fm_requester *requester;
static struct fm_publisher *const publisher = (struct fm_publisher *) (uintptr_t) 16;
static struct fm_subscription *const subscription = (struct fm_subscription *) (uintptr_t) 32;

/* ------------------------------------------------------------------ what a requester stands on */

uint64_t node_now (void)
{
    return f.now_ns;
}

int fm_subscription_open (struct fm_node *node, const struct fm_subscription_options *options, struct fm_subscription **ret)
{
    (void) node;
    assert_non_null (options->topics[0]);
    assert_null (options->topics[1]);
    (void) snprintf (f.topics, sizeof f.topics, "%s", options->topics[0]);
    f.open_timeout_ms = options->open_timeout_ms;
    if (f.open_rc)
        return f.open_rc;
    f.open = true;
    *ret = subscription;
    return 0;
}

void fm_subscription_close (struct fm_subscription **s)
{
    f.open = false;
    *s = NULL;
}

int fm_subscription_next (struct fm_subscription *s, int timeout_ms, struct fm_event *ret)
{
    assert_ptr_equal (s, subscription);
    assert_true (timeout_ms >= 0);
    const struct comes *c = f.taken < f.count ? &f.comes[f.taken] : NULL;
    const uint64_t at_ns = c ? f.began_ns + c->at_ms * MS : UINT64_MAX;
    if (at_ns > f.now_ns + (uint64_t) timeout_ms * MS) {
        assert_true (timeout_ms < INT32_MAX);   /* it would wait for ever */
        f.now_ns += (uint64_t) timeout_ms * MS;
        return FM_TIMEOUT;
    }
    if (at_ns > f.now_ns)
        f.now_ns = at_ns;
    f.taken++;
    if (c->rc)
        return c->rc;
    *ret = (struct fm_event) { .kind = c->kind };
    if (c->kind == FM_EVENT_FACT) {
        ret->fact.correlation = slice_of (c->correlation ? c->correlation : f.correlation);
        ret->fact.payload = slice_of (c->payload ? c->payload : "");
    }
    return 0;
}

int fm_publish (struct fm_publisher *p, const struct fm_fact *fact, struct fm_fact_id *ret_id)
{
    assert_ptr_equal (p, publisher);
    if (f.publish_rc)
        return f.publish_rc;
    f.published++;
    (void) snprintf (f.topic, sizeof f.topic, "%.*s", (int) fact->topic.len, (const char *) fact->topic.data);
    (void) snprintf (f.correlation, sizeof f.correlation, "%.*s", (int) fact->correlation.len, (const char *) fact->correlation.data);
    f.expires_ns = fact->expires_ns;
    f.cause = fact->causation;
    if (ret_id)
        *ret_id = (struct fm_fact_id) { .seq = f.published };
    return 0;
}

/* ------------------------------------------------------------------ the fixture */

static int set_up (void **state)
{
    (void) state;
    memset (&f, 0, sizeof f);
    f.now_ns = f.began_ns = 1000000 * MS;
    return 0;
}

static int tear_down (void **state)
{
    (void) state;
    fm_requester_close (&requester);
    return 0;
}

static void open_requester (void)
{
    const struct fm_requester_options options = { .topic = "stock.query" };
    assert_done (fm_requester_open (NULL, publisher, &options, &requester));
}

static void comes (struct comes c)
{
    assert_true (f.count < EVENTS_MAX);
    f.comes[f.count++] = c;
}

static int ask (int timeout_ms, struct fm_fact *ret_response)
{
    const struct fm_fact request = { .payload = slice_of ("lamp") };
    return fm_request (requester, &request, timeout_ms, ret_response);
}

/* Responses so far; ends with `rc` at the `end`-th. */
struct heard {
    unsigned count, end;
    int rc;
    char last[TEXT_SIZE];
};

static int hear (void *arg, const struct fm_fact *response)
{
    struct heard *h = arg;
    (void) snprintf (h->last, sizeof h->last, "%.*s", (int) response->payload.len, (const char *) response->payload.data);
    return ++h->count == h->end ? h->rc : 0;
}

static int ask_many (unsigned max, int timeout_ms, struct heard *h, unsigned *ret_count)
{
    const struct fm_fact request = { .payload = slice_of ("lamp") };
    return fm_request_many (requester, &request, timeout_ms, max, hear, h, ret_count);
}

/* ------------------------------------------------------------------ cases */

static void it_listens_before_it_asks_or_is_not_opened (void **state)
{
    (void) state;
    char topic[TOPIC_MAX + 1];
    memset (topic, 'a', TOPIC_MAX);
    topic[TOPIC_MAX] = '\0';
    struct fm_requester_options options = { .topic = NULL };
    assert_int_equal (fm_requester_open (NULL, publisher, &options, &requester), FM_ERR_ARGUMENT);
    options.topic = "a..b";
    assert_int_equal (fm_requester_open (NULL, publisher, &options, &requester), FM_ERR_TOPIC);
    options.topic = topic;
    assert_int_equal (fm_requester_open (NULL, publisher, &options, &requester), FM_ERR_TOPIC);
    assert_string_equal (f.topics, "");
    options.responses = "answers.>";
    assert_done (fm_requester_open (NULL, publisher, &options, &requester));
    assert_string_equal (f.topics, "answers.>");
    assert_int_equal (f.open_timeout_ms, 5000);
    fm_requester_close (&requester);
    assert_null (requester);
    assert_false (f.open);
    options = (struct fm_requester_options) { .topic = "stock.query", .open_timeout_ms = 7 };
    static const int errors[] = { FM_TIMEOUT, FM_ERR_TOPIC, FM_ERR_UNREACHABLE, -ENOMEM };
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        f.open_rc = errors[i];
        assert_int_equal (fm_requester_open (NULL, publisher, &options, &requester), errors[i]);
        assert_null (requester);
    }
    assert_string_equal (f.topics, "stock.query-response");
    assert_int_equal (f.open_timeout_ms, 7);
}

static void a_request_has_a_correlation_of_its_own_and_a_deadline (void **state)
{
    (void) state;
    struct fm_fact response;
    char first[TEXT_SIZE];
    open_requester ();
    comes ((struct comes) { .kind = FM_EVENT_FACT, .payload = "7" });
    assert_done (ask (1000, &response));
    assert_true (slice_equal (response.payload, slice_of ("7")));
    assert_string_equal (f.topic, "stock.query");
    assert_true (f.expires_ns > UINT64_C (1700000000000000000));
    strcpy (first, f.correlation);
    comes ((struct comes) { .kind = FM_EVENT_FACT, .payload = "8" });
    assert_done (ask (-1, &response));
    assert_int_equal (f.expires_ns, 0);
    assert_string_not_equal (f.correlation, first);
    /* What the caller set stays. */
    comes ((struct comes) { .kind = FM_EVENT_FACT, .payload = "9" });
    const struct fm_fact own = { .topic = slice_of ("other"), .correlation = slice_of ("mine"), .expires_ns = 5 };
    assert_done (fm_request (requester, &own, 1000, &response));
    assert_string_equal (f.topic, "other");
    assert_string_equal (f.correlation, "mine");
    assert_int_equal (f.expires_ns, 5);
}

/* Of another, of an earlier one, of none, twice; a gap; and then ours. */
static void only_what_answers_this_request_is_its_response (void **state)
{
    (void) state;
    struct fm_fact response;
    char first[TEXT_SIZE], longer[TEXT_SIZE + 1];
    open_requester ();
    comes ((struct comes) { .kind = FM_EVENT_FACT, .payload = "7" });
    assert_done (ask (1000, &response));
    strcpy (first, f.correlation);
    (void) snprintf (longer, sizeof longer, "%s0", first);
    comes ((struct comes) { .kind = FM_EVENT_FACT, .correlation = first, .payload = "7 again" });
    comes ((struct comes) { .kind = FM_EVENT_FACT, .correlation = "", .payload = "of nothing" });
    comes ((struct comes) { .kind = FM_EVENT_FACT, .correlation = longer, .payload = "of another" });
    comes ((struct comes) { .kind = FM_EVENT_GAP });
    comes ((struct comes) { .kind = FM_EVENT_CAUGHT_UP });
    comes ((struct comes) { .at_ms = 900, .kind = FM_EVENT_FACT, .payload = "8" });
    assert_done (ask (1000, &response));
    assert_true (slice_equal (response.payload, slice_of ("8")));
    assert_int_equal (f.taken, f.count);
}

static void no_response_in_time_is_a_time_out (void **state)
{
    (void) state;
    struct fm_fact response;
    open_requester ();
    comes ((struct comes) { .at_ms = 400, .kind = FM_EVENT_FACT, .correlation = "other" });
    comes ((struct comes) { .at_ms = 600, .kind = FM_EVENT_FACT, .payload = "late" });
    assert_int_equal (ask (500, &response), FM_TIMEOUT);
    assert_int_equal (f.now_ns - f.began_ns, 500 * MS);
    assert_int_equal (f.published, 1);
    assert_int_equal (ask (0, &response), FM_TIMEOUT);
    assert_int_equal (f.published, 2);
}

/* Others' talk must not keep an asker beyond its time. */
static void a_flood_of_others_responses_does_not_outlast_the_deadline (void **state)
{
    (void) state;
    struct fm_fact response;
    open_requester ();
    for (unsigned i = 0; i < EVENTS_MAX; i++)
        comes ((struct comes) { .at_ms = 100 * i, .kind = FM_EVENT_FACT, .correlation = "other" });
    assert_int_equal (ask (500, &response), FM_TIMEOUT);
    assert_in_range (f.now_ns - f.began_ns, 500 * MS, 501 * MS);
    assert_true (f.taken < 8);
}

static void a_journal_that_was_restored_is_no_answer (void **state)
{
    (void) state;
    struct fm_fact response;
    open_requester ();
    comes ((struct comes) { .rc = FM_ERR_GENERATION });
    comes ((struct comes) { .kind = FM_EVENT_FACT, .payload = "yes" });
    assert_done (ask (500, &response));
    assert_true (slice_equal (response.payload, slice_of ("yes")));
}

static void errors_are_passed_on (void **state)
{
    (void) state;
    static const int errors[] = { FM_INTERRUPTED, FM_ERR_CONFLICT, -ENOMEM };
    struct fm_fact response;
    struct heard h = { .count = 0 };
    unsigned count = 99;
    open_requester ();
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        comes ((struct comes) { .rc = errors[i] });
        assert_int_equal (ask (500, &response), errors[i]);
        comes ((struct comes) { .rc = errors[i] });
        assert_int_equal (ask_many (0, 500, &h, &count), errors[i]);
        assert_int_equal (count, 0);
    }
    static const int refusals[] = { FM_ERR_WINDOW_FULL, FM_ERR_TOO_LARGE, FM_ERR_LOST, -EIO };
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        f.publish_rc = refusals[i];
        assert_int_equal (ask (500, &response), refusals[i]);
        assert_int_equal (ask_many (3, 500, &h, &count), refusals[i]);
        assert_int_equal (count, 0);
    }
    assert_int_equal (f.now_ns, f.began_ns);    /* nobody waited for an answer to what was not asked */
}

static void many_ends_with_enough_or_with_the_time (void **state)
{
    (void) state;
    struct heard h = { .count = 0 };
    unsigned count;
    open_requester ();
    for (unsigned i = 0; i < 3; i++)
        comes ((struct comes) { .at_ms = 10 * i, .kind = FM_EVENT_FACT, .payload = "x" });
    assert_done (ask_many (2, 500, &h, &count));
    assert_int_equal (count, 2);
    assert_int_equal (h.count, 2);
    f.count = f.taken = 0;
    f.began_ns = f.now_ns;
    for (unsigned i = 0; i < 3; i++)
        comes ((struct comes) { .at_ms = 10 * i, .kind = FM_EVENT_FACT, .payload = i == 2 ? "last" : "x" });
    assert_int_equal (ask_many (4, 500, &h, &count), FM_TIMEOUT);
    assert_int_equal (count, 3);
    assert_string_equal (h.last, "last");
    assert_int_equal (f.now_ns - f.began_ns, 500 * MS);
    f.count = f.taken = 0;
    f.began_ns = f.now_ns;
    comes ((struct comes) { .at_ms = 499, .kind = FM_EVENT_FACT });
    assert_done (ask_many (0, 500, &h, &count));
    assert_int_equal (count, 1);
    assert_int_equal (f.now_ns - f.began_ns, 500 * MS);
    assert_done (ask_many (0, 500, &h, NULL));
}

static void what_the_listener_returns_is_returned (void **state)
{
    (void) state;
    static const int ends[] = { -EPIPE, FM_INTERRUPTED, FM_TIMEOUT, 1 };
    unsigned count;
    open_requester ();
    for (unsigned max = 0; max <= 5; max += 5)
        for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
            struct heard h = { .end = 2, .rc = ends[i] };
            f.count = f.taken = 0;
            for (unsigned k = 0; k < 3; k++)
                comes ((struct comes) { .kind = FM_EVENT_FACT });
            const uint64_t began_ns = f.now_ns;
            assert_int_equal (ask_many (max, 500, &h, &count), ends[i]);
            assert_int_equal (count, 2);
            assert_int_equal (f.now_ns, began_ns);
        }
}

static void a_response_says_what_it_answers (void **state)
{
    (void) state;
    char topic[TOPIC_MAX + 1];
    struct fm_fact_id id;
    memset (topic, 'a', TOPIC_MAX);
    topic[TOPIC_MAX] = '\0';
    struct fm_fact request = { .topic = slice_of ("stock.query"), .correlation = slice_of ("c-1"), .id = { .stream = { .bytes = { 9 } }, .seq = 44 } };
    const struct fm_fact response = { .payload = slice_of ("7"), .correlation = slice_of ("not this") }, named = { .topic = slice_of ("elsewhere") };
    assert_done (fm_respond (publisher, &request, &response, &id));
    assert_int_equal (id.seq, 1);
    assert_string_equal (f.topic, "stock.query-response");
    assert_string_equal (f.correlation, "c-1");
    assert_int_equal (f.cause.seq, 44);
    assert_true (id_equal (&f.cause.stream, &request.id.stream));
    assert_done (fm_respond (publisher, &request, &named, NULL));
    assert_string_equal (f.topic, "elsewhere");
    request.topic = slice_of (topic);
    assert_int_equal (fm_respond (publisher, &request, &response, NULL), FM_ERR_TOPIC);
    assert_int_equal (f.published, 2);
    f.publish_rc = FM_ERR_WINDOW_FULL;
    assert_int_equal (fm_respond (publisher, &request, &named, NULL), FM_ERR_WINDOW_FULL);
}

static void a_deadline_passes_and_none_never_does (void **state)
{
    (void) state;
    const struct fm_fact none = { .expires_ns = 0 }, past = { .expires_ns = 1 }, future = { .expires_ns = UINT64_MAX };
    assert_false (fm_fact_expired (&none));
    assert_true (fm_fact_expired (&past));
    assert_false (fm_fact_expired (&future));
}

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (it_listens_before_it_asks_or_is_not_opened),
        CASE (a_request_has_a_correlation_of_its_own_and_a_deadline),
        CASE (only_what_answers_this_request_is_its_response),
        CASE (no_response_in_time_is_a_time_out),
        CASE (a_flood_of_others_responses_does_not_outlast_the_deadline),
        CASE (a_journal_that_was_restored_is_no_answer),
        CASE (errors_are_passed_on),
        CASE (many_ends_with_enough_or_with_the_time),
        CASE (what_the_listener_returns_is_returned),
        CASE (a_response_says_what_it_answers),
        CASE (a_deadline_passes_and_none_never_does),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
