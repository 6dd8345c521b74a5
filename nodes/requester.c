/* requester: requests and responses, on top of publishing and subscribing.
 *
 * The subscription is there before the first request: so no response can be missed, and none is asked of the journal. A correlation is the requester's
 * random number and a count; what comes with another one is of another request, or late. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "error.h"
#include "id.h"
#include "node.h"
#include "topic.h"

enum { OPEN_TIMEOUT_MS = 5000, NS_PER_MS = 1000000, NS_PER_S = 1000000000, CORRELATION_TEXT = 34 };
/* Beside the request's topic, not below it: who subscribes below a topic is sent what is on the topic too (SPEC.md, "Subscribing"), and would have each of
 * its own requests back. */
static const char response_suffix[] = "-response";

struct fm_requester {
    struct fm_publisher *publisher;
    struct fm_subscription *responses;
    char topic[TOPIC_MAX + 1];
    uint64_t number, count;
};

static uint64_t unix_ns (void)
{
    struct timespec now;
    (void) clock_gettime (CLOCK_REALTIME, &now);    /* always there */
    return (uint64_t) now.tv_sec * NS_PER_S + (uint64_t) now.tv_nsec;
}

bool fm_fact_expired (const struct fm_fact *fact)
{
    return fact->expires_ns && unix_ns () >= fact->expires_ns;
}

/* TOPIC-response, with a NUL. */
static int response_topic (struct fm_slice topic, char ret_topic[TOPIC_MAX + 1])
{
    if (topic.len > TOPIC_MAX - (sizeof response_suffix - 1))
        return error_set (FM_ERR_TOPIC, "'%.*s%s' would be longer than %d bytes: name a topic for responses", (int) topic.len, (const char *) topic.data,
                          response_suffix, (int) TOPIC_MAX);
    memcpy (ret_topic, topic.data, topic.len);
    memcpy (ret_topic + topic.len, response_suffix, sizeof response_suffix);
    return 0;
}

int fm_requester_open (struct fm_node *node, struct fm_publisher *publisher, const struct fm_requester_options *options, struct fm_requester **ret_requester)
{
    char own[TOPIC_MAX + 1];
    if (!options->topic)
        return error_set (FM_ERR_ARGUMENT, "a requester needs the topic of its requests");
    int rc = topic_check (slice_of (options->topic));
    if (!rc && !options->responses)
        rc = response_topic (slice_of (options->topic), own);
    if (rc)
        return rc;
    struct fm_requester *r = calloc (1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->publisher = publisher;
    r->number = id_random_u64 ();
    (void) snprintf (r->topic, sizeof r->topic, "%s", options->topic);
    const char *topics[] = { options->responses ? options->responses : own, NULL };
    const struct fm_subscription_options subscription = { .topics = topics, .open_timeout_ms = options->open_timeout_ms ? options->open_timeout_ms : OPEN_TIMEOUT_MS };
    rc = fm_subscription_open (node, &subscription, &r->responses);
    if (rc) {
        free (r);
        return rc;
    }
    *ret_requester = r;
    return 0;
}

void fm_requester_close (struct fm_requester **requester)
{
    struct fm_requester *r = *requester;
    if (!r)
        return;
    fm_subscription_close (&r->responses);
    free (r);
    *requester = NULL;
}

/* The next response with this correlation. */
static int next_response (struct fm_requester *r, struct fm_slice correlation, uint64_t until_ns, struct fm_fact *ret_response)
{
    for (;;) {
        struct fm_event event;
        const uint64_t now_ns = node_now ();
        const uint64_t left_ms = until_ns > now_ns ? (until_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
        const int rc = fm_subscription_next (r->responses, left_ms < INT32_MAX ? (int) left_ms : INT32_MAX, &event);
        if ((rc == FM_TIMEOUT && left_ms) || rc == FM_ERR_GENERATION)
            continue;                   /* live goes on, and a requester keeps no cursor */
        if (rc)
            return rc == FM_TIMEOUT ? error_set (rc, "no response in time") : rc;
        if (event.kind == FM_EVENT_FACT && slice_equal (event.fact.correlation, correlation)) {
            *ret_response = event.fact;
            return 0;
        }
        if (node_now () >= until_ns)
            return error_set (FM_TIMEOUT, "no response in time");
    }
}

/* Publish it with what it lacks; *ret_correlation points into the fact or into text. */
static int publish (struct fm_requester *r, const struct fm_fact *request, int timeout_ms, char text[CORRELATION_TEXT], struct fm_slice *ret_correlation)
{
    struct fm_fact fact = *request;
    if (!fact.topic.len)
        fact.topic = slice_of (r->topic);
    if (!fact.correlation.len) {
        const int len = snprintf (text, CORRELATION_TEXT, "%016" PRIx64 "-%" PRIx64, r->number, ++r->count);
        fact.correlation = slice (text, (size_t) len);
    }
    if (!fact.expires_ns && timeout_ms >= 0)
        fact.expires_ns = unix_ns () + (uint64_t) timeout_ms * NS_PER_MS;
    *ret_correlation = fact.correlation;
    return fm_publish (r->publisher, &fact, NULL);
}

int fm_request (struct fm_requester *r, const struct fm_fact *request, int timeout_ms, struct fm_fact *ret_response)
{
    char text[CORRELATION_TEXT];
    struct fm_slice correlation;
    const uint64_t until_ns = timeout_ms < 0 ? UINT64_MAX : node_now () + (uint64_t) timeout_ms * NS_PER_MS;
    const int rc = publish (r, request, timeout_ms, text, &correlation);
    return rc ? rc : next_response (r, correlation, until_ns, ret_response);
}

int fm_request_many (struct fm_requester *r, const struct fm_fact *request, int timeout_ms, unsigned max, int (*each) (void *arg, const struct fm_fact *response),
                     void *arg, unsigned *ret_count)
{
    char text[CORRELATION_TEXT];
    struct fm_slice correlation;
    unsigned count = 0;
    const uint64_t until_ns = timeout_ms < 0 ? UINT64_MAX : node_now () + (uint64_t) timeout_ms * NS_PER_MS;
    bool time_over = false;
    int rc = publish (r, request, timeout_ms, text, &correlation);
    while (!rc && (!max || count < max)) {
        struct fm_fact response;
        rc = next_response (r, correlation, until_ns, &response);
        time_over = rc == FM_TIMEOUT;
        if (!rc) {
            count++;
            rc = each (arg, &response);
        }
    }
    if (ret_count)
        *ret_count = count;
    return time_over && !max ? 0 : rc;
}

int fm_respond (struct fm_publisher *publisher, const struct fm_fact *request, const struct fm_fact *response, struct fm_fact_id *ret_id)
{
    char topic[TOPIC_MAX + 1];
    struct fm_fact fact = *response;
    if (!fact.topic.len) {
        const int rc = response_topic (request->topic, topic);
        if (rc)
            return rc;
        fact.topic = slice_of (topic);
    }
    fact.correlation = request->correlation;
    fact.causation = request->id;
    return fm_publish (publisher, &fact, ret_id);
}
