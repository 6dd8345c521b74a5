/* publisher_lost: what came back from a window on disk, and what journals have given up of it meanwhile.
 *
 *     mark of a journal --> recovered_question --> ReplayOpen of the range, with a filter that matches nothing: gaps and `covered` alone
 *                                                      |
 *     window --> publisher_settle: the journals that count have it: let go; a journal gave it up: p->given_up; not known yet: wait
 *                                                      |
 *                          fm_publisher_wait_synced: FM_ERR_LOST;  fm_publisher_lost_next hands it out, and lets go what was handed out before
 *
 * A mark is cumulative, and passes gaps: below the epoch it is not believed by itself. In the epoch that is, it is: a journal that gave up facts
 * of it refuses it. What is given up stays in the window's file, and is served to who asks, as long as it is here. */

#include "publisher.h"
#include "error.h"
#include "replay_client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { NS_PER_MS = 1000000 };
static const char nothing[] = "factmesh.nothing";       /* whoever publishes there has batches sent that are not looked at */

struct publisher_lost {
    struct replay_client *client;       /* to one journal at a time */
    char control[FM_PEER_ADDRESS_MAX];
    uint64_t session;                   /* 0: nothing is being asked */
    struct fm_id journal;               /* who is asked */
    uint64_t generation;
    uint64_t first_seq;                 /* from where on */
    unsigned turn;
    uint64_t deadline, retry_ns;
};

/* ------------------------------------------------------------------ settling */

int publisher_lost_open (struct fm_publisher *p)
{
    p->recovered = calloc (1, sizeof *p->recovered);
    p->lost_asks = calloc (1, sizeof *p->lost_asks);
    if (!p->recovered || !p->lost_asks)
        return -ENOMEM;
    recovered_init (p->recovered, (struct recovered_range) { p->window.start_seq, p->recovered_seq + 1 }, &p->marks);
    window_init (&p->given_up, p->window.bytes_max, p->recovered_seq + 1);
    return 0;
}

static void reader_close (struct lost_reader *r)
{
    if (r->open)
        zmq_msg_close (&r->message);
    r->open = false;
}

void publisher_lost_close (struct fm_publisher *p)
{
    reader_close (&p->lost_reader);
    batch_scratch_release (&p->lost_reader.scratch);
    window_release (&p->given_up);
    if (p->recovered)
        recovered_release (p->recovered);
    free (p->recovered);
    if (p->lost_asks)
        replay_client_destroy (&p->lost_asks->client);
    free (p->lost_asks);
    p->recovered = NULL;
    p->lost_asks = NULL;
}

static struct recovered_range range_of (const struct window_item *item)
{
    return (struct recovered_range) { item->first_seq, item->end_seq };
}

/* Does anything that came back wait for a journal's word? */
static bool is_open (struct fm_publisher *p)
{
    const struct window_item *first = window_first (&p->window);
    return p->recovered && first && first->first_seq < p->recovered->end_seq;
}

void publisher_settle (struct fm_publisher *p)
{
    if (p->recovered)
        recovered_journals (p->recovered, &p->marks);
    while (is_open (p)) {
        struct window_item *item = window_first (&p->window);
        const enum recovered_verdict verdict = recovered_verdict (p->recovered, range_of (item));
        if (verdict == RECOVERED_OPEN)
            return;
        if (verdict == RECOVERED_LOST) {
            if (window_restore (&p->given_up, item->first_seq, item->end_seq, item->place, &item->message))
                return;                 /* no memory: with the next mark */
            window_last (&p->given_up)->body_pos = item->body_pos;
            p->given_up_news = true;
        }
        (void) window_synced (&p->window, item->end_seq - 1);
    }
    (void) window_synced (&p->window, publisher_marks_reached (&p->marks).synced);
}

static bool is_lost (struct fm_publisher *p, uint64_t seq)
{
    return recovered_verdict (p->recovered, (struct recovered_range) { seq, seq + 1 }) != RECOVERED_SYNCED;
}

static bool next_lost (struct fm_publisher *p, uint64_t from, uint64_t *ret_seq)
{
    if (!p->recovered)
        return false;
    if (from < p->given_up_from)
        from = p->given_up_from;
    for (const struct window_item *item = window_find_from (&p->given_up, from); item; item = window_find_from (&p->given_up, item->end_seq)) {
        for (uint64_t seq = item->first_seq > from ? item->first_seq : from; seq < item->end_seq; seq++) {
            if (is_lost (p, seq)) {
                *ret_seq = seq;
                return true;
            }
        }
    }
    return false;
}

/* The first range at or above from that is lost, and was not handed out. */
static bool next_lost_range (struct fm_publisher *p, uint64_t from, struct recovered_range *ret_range)
{
    uint64_t first;
    if (!next_lost (p, from, &first))
        return false;
    uint64_t end = first + 1;
    while (window_find (&p->given_up, end) && is_lost (p, end))
        end++;
    *ret_range = (struct recovered_range) { first, end };
    return true;
}

bool publisher_is_lost (struct fm_publisher *p, uint64_t seq)
{
    uint64_t lost;
    return next_lost (p, seq, &lost) && lost == seq;
}

uint64_t publisher_first_lost (struct fm_publisher *p)
{
    uint64_t seq = 0;
    return next_lost (p, 0, &seq) ? seq : 0;
}

int publisher_set_lost_ranges (struct fm_publisher *p)
{
    enum { RANGES_TOLD_MAX = 4 };
    char text[RANGES_TOLD_MAX * 48] = "";
    size_t len = 0;
    uint64_t facts = 0, ranges = 0;
    struct recovered_range range = { 0, 0 };
    while (next_lost_range (p, range.end_seq, &range)) {
        facts += range.end_seq - range.first_seq;
        if (ranges++ < RANGES_TOLD_MAX)
            len += (size_t) snprintf (text + len, sizeof text - len, "%s[%" PRIu64 ", %" PRIu64 ")", len ? ", " : "", range.first_seq, range.end_seq);
    }
    if (ranges == 0)
        return 0;
    return error_set (FM_ERR_LOST, "sequences %s%s: %" PRIu64 " facts that came back from the window on disk: a journal gave them up while their publisher was away; "
                      "fm_publisher_lost_next hands them out, to be published again", text, ranges > RANGES_TOLD_MAX ? " and more" : "", facts);
}

/* ------------------------------------------------------------------ asking */

struct find {
    struct fm_publisher *p;
    const struct fm_id *journal;        /* NULL: only see who is there */
    uint64_t generation;
    char control[FM_PEER_ADDRESS_MAX];
    struct recovered_seen {
        struct fm_id journal;
        uint64_t generation;
    } seen[PUBLISHER_JOURNALS_MAX];
    unsigned count;
};

static int see_member (void *arg, const struct fm_member *m)
{
    struct find *f = arg;
    if (!m->is_journal)
        return 0;
    if (f->count < PUBLISHER_JOURNALS_MAX)
        f->seen[f->count++] = (struct recovered_seen) { m->journal, m->generation };
    if (f->journal && id_equal (&m->journal, f->journal) && m->generation == f->generation)
        (void) snprintf (f->control, sizeof f->control, "%s", m->control);
    return 0;
}

/* Who is a member now? */
static void see_journals (struct fm_publisher *p)
{
    struct find f = { .p = p };
    (void) fm_node_members (p->node, see_member, &f);   /* fails only as this function does */
    pthread_mutex_lock (&p->lock);
    for (unsigned i = 0; i < p->recovered->count; i++) {
        struct recovered_journal *j = &p->recovered->journals[i];
        j->there = false;
        for (unsigned k = 0; k < f.count; k++)
            j->there = j->there || (id_equal (&f.seen[k].journal, &j->journal) && f.seen[k].generation == j->generation);
    }
    pthread_mutex_unlock (&p->lock);
}

static int connect_to (struct fm_publisher *p, struct publisher_lost *l)
{
    struct find f = { .p = p, .journal = &l->journal, .generation = l->generation };
    (void) fm_node_members (p->node, see_member, &f);
    if (!f.control[0])
        return FM_ERR_UNREACHABLE;
    if (l->client && strcmp (l->control, f.control) == 0)
        return 0;
    replay_client_destroy (&l->client);
    memcpy (l->control, f.control, sizeof l->control);
    return replay_client_new (p->node, l->control, &l->client);
}

static void ask (struct fm_publisher *p, struct publisher_lost *l, struct recovered_range range, uint64_t now)
{
    ProtobufCBinaryData filter = control_put_slice (slice_of (nothing));
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    open.stream = control_put_id (&p->identity.stream);
    open.filters = &filter;
    open.n_filters = 1;
    open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
    open.from_seq = range.first_seq;
    open.end_case = FACTMESH__REPLAY_OPEN__END_END_SEQ;
    open.end_seq = range.end_seq;
    int rc = connect_to (p, l);
    if (rc == 0)
        rc = replay_client_open (l->client, &open, &l->session);
    if (rc) {
        l->session = 0;
        l->retry_ns = now + (uint64_t) PUBLISHER_LOST_RETRY_MS * NS_PER_MS;
    }
    l->deadline = now + (uint64_t) PUBLISHER_LOST_ANSWER_MS * NS_PER_MS;
}

/* ------------------------------------------------------------------ answers */

/* Was it there once? Then it is not lost by having been away. */
static bool was_held (uint32_t reason)
{
    return reason == FACTMESH__GAP_REASON__GAP_EXPIRED || reason == FACTMESH__GAP_REASON__GAP_REDACTED;
}

/* What was known of it may have been given up meanwhile, and begun anew: then the answer has a hole below it. */
static bool find_asked (const struct fm_publisher *p, const struct publisher_lost *l, unsigned *ret_journal)
{
    for (unsigned i = 0; i < p->recovered->count; i++) {
        const struct recovered_journal *j = &p->recovered->journals[i];
        if (id_equal (&j->journal, &l->journal) && j->generation == l->generation && j->checked_end >= l->first_seq) {
            *ret_journal = i;
            return true;
        }
    }
    return false;
}

/* -ENOMEM: what follows in this session must not be believed. */
static int take_data (struct fm_publisher *p, const struct publisher_lost *l, const struct replay_view *view)
{
    unsigned journal;
    if (!find_asked (p, l, &journal))
        return 0;
    for (size_t i = 0; i < view->header.gap_count; i++) {
        const struct replay_gap *gap = &view->gaps[i];
        if (!id_equal (&gap->stream, &p->identity.stream) || was_held (gap->reason))
            continue;
        const int rc = recovered_gap (p->recovered, journal, (struct recovered_range) { gap->first_seq, gap->end_seq });
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < view->header.covered_count; i++) {
        if (id_equal (&view->covered[i].stream, &p->identity.stream))
            recovered_checked (p->recovered, journal, view->covered[i].through + 1);
    }
    return 0;
}

static void ask_over (struct publisher_lost *l, uint64_t now, bool failed)
{
    if (l->client)
        replay_client_close (l->client, l->session);
    l->session = 0;
    if (failed) {
        l->turn++;                      /* another one's turn */
        l->retry_ns = now + (uint64_t) PUBLISHER_LOST_RETRY_MS * NS_PER_MS;
    }
}

static void take_answers (struct fm_publisher *p, struct publisher_lost *l, uint64_t now)
{
    struct replay_event event;
    while (l->client && l->session && replay_client_receive (l->client, &event) == 0) {
        if (event.session != l->session)
            continue;
        if (event.kind == REPLAY_DATA) {
            l->deadline = now + (uint64_t) PUBLISHER_LOST_ANSWER_MS * NS_PER_MS;
            pthread_mutex_lock (&p->lock);
            const int rc = take_data (p, l, event.view);
            pthread_mutex_unlock (&p->lock);
            if (rc)
                ask_over (l, now, true);
        } else {
            ask_over (l, now, event.kind != REPLAY_END);
        }
    }
}

static void tell_news (struct fm_publisher *p)
{
    pthread_mutex_lock (&p->lock);
    const bool news = p->given_up_news && !is_open (p);
    const int rc = news ? publisher_set_lost_ranges (p) : 0;
    if (news)
        p->given_up_news = false;
    pthread_mutex_unlock (&p->lock);
    if (rc)
        node_notice (p->node, "WINDOW-LOST", "stream %s: %s", p->name, fm_error_detail ());
}

static void settle (struct fm_publisher *p)
{
    pthread_mutex_lock (&p->lock);
    publisher_settle (p);
    if (p->waiting)
        pthread_cond_broadcast (&p->changed);
    pthread_mutex_unlock (&p->lock);
}

uint64_t publisher_lost_tick (struct fm_publisher *p, uint64_t now)
{
    struct publisher_lost *l = p->lost_asks;
    if (!p->recovered)
        return UINT64_MAX;
    pthread_mutex_lock (&p->lock);
    const bool open = is_open (p);
    pthread_mutex_unlock (&p->lock);
    if (!open) {
        tell_news (p);
        replay_client_destroy (&l->client);
        l->session = 0;
        return UINT64_MAX;
    }
    take_answers (p, l, now);
    if (l->session && now >= l->deadline)
        ask_over (l, now, true);
    see_journals (p);
    settle (p);
    tell_news (p);
    if (!l->session && now >= l->retry_ns) {
        struct recovered_range range;
        unsigned journal;
        pthread_mutex_lock (&p->lock);
        const bool asks = recovered_question (p->recovered, &p->marks, l->turn, &journal, &range);
        if (asks) {
            l->journal = p->recovered->journals[journal].journal;
            l->generation = p->recovered->journals[journal].generation;
            l->first_seq = range.first_seq;
        }
        pthread_mutex_unlock (&p->lock);
        if (asks)
            ask (p, l, range, now);
    }
    return now + (uint64_t) (l->session ? PUBLISHER_LOST_POLL_MS : PUBLISHER_LOST_RETRY_MS) * NS_PER_MS;
}

/* ------------------------------------------------------------------ handing out */

/* The batch that holds seq, as the reader's; its fact seq is next. */
static int reader_open (struct fm_publisher *p, uint64_t seq)
{
    struct lost_reader *r = &p->lost_reader;
    struct window_item *item = window_find (&p->given_up, seq);
    reader_close (r);
    zmq_msg_init (&r->message);
    zmq_msg_copy (&r->message, &item->message);
    r->open = true;
    const int rc = batch_decode ((const uint8_t *) zmq_msg_data (&r->message) + item->body_pos, zmq_msg_size (&r->message) - item->body_pos, node_mesh (p->node),
                                 &r->scratch, &r->batch);
    if (rc == 0)
        batch_reader_init (&r->facts, &r->batch);
    return rc;
}

static int lost_next (struct fm_publisher *p, struct fm_fact *ret_fact)
{
    struct lost_reader *r = &p->lost_reader;
    uint64_t seq = 0;
    /* What was published again is kept before what it stands for is let go. */
    int rc = p->open.count > 0 ? publisher_send_open (p, publisher_now (p)) : 0;
    if (rc)
        return rc;
    const bool more = next_lost (p, p->given_up_from, &seq);
    const struct window_item *item;
    while ((item = window_first (&p->given_up)) && (!more || item->end_seq <= seq))
        (void) window_drop_oldest (&p->given_up);
    if (!more) {
        reader_close (r);
        return error_set (FM_ERR_END, "nothing that came back is known to be lost");
    }
    if (!r->open || seq < r->facts.next_seq || seq >= batch_end_seq (&r->batch))
        rc = reader_open (p, seq);
    if (rc == 0 && r->facts.next_seq < seq)
        rc = batch_reader_skip (&r->facts, seq - r->facts.next_seq);
    if (rc == 0)
        rc = batch_reader_next (&r->facts, ret_fact);
    if (rc == 0)
        p->given_up_from = seq + 1;
    return rc;
}

int fm_publisher_lost_next (struct fm_publisher *publisher, struct fm_fact *ret_fact)
{
    struct fm_publisher *p = publisher;
    pthread_mutex_lock (&p->lock);
    const int rc = lost_next (p, ret_fact);
    pthread_mutex_unlock (&p->lock);
    pthread_cond_broadcast (&p->changed);           /* there may be room */
    return rc;
}
