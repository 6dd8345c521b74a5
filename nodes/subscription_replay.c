/* The session with a journal, and stepping through replay messages, the session's and those of repairs.
 *
 *               a journal is there              the synced end was reached, every stream is LIVE
 *   NONE <--------------------------- OPEN <---------------------------.
 *     |                                ^  \____________________________/
 *     '-- fell behind --> WANTED ------'
 *                           ^--- the journal went, or fell silent: it goes on from the vector of positions
 *
 * From the newest facts of keys: as long as the base lies within them (latest_end), streams stay in REPLAY, since a live batch could overtake what
 * is older of its keys; and a session that is lost goes on with newest facts, at the base and up to the same end: what came after that is delivered
 * whole. Which they were for the lost session need not be remembered: a key's newest fact only moves up, so below the base there is none that was not
 * sent. */

#include "subscription.h"
#include "error.h"

#include <errno.h>
#include <stdio.h>

/* --- Opening. */

void subscription_want_session (struct fm_subscription *s)
{
    if (s->session_state != SESSION_NONE)
        return;
    s->session_state = SESSION_WANTED;
    s->session_retry_ns = 0;
    subscription_due (s, 0);
}

static void put_filters (const struct fm_subscription *s, Factmesh__ReplayOpen *open, ProtobufCBinaryData filters[FILTERS_MAX])
{
    for (size_t i = 0; i < s->pattern_count; i++)
        filters[i] = control_put_slice (s->patterns[i]);
    open->filters = filters;
    open->n_filters = s->pattern_count;
}

int subscription_session_open (struct fm_subscription *s, struct holder *holder, Factmesh__ReplayOpen *start)
{
    ProtobufCBinaryData filters[FILTERS_MAX];
    put_filters (s, start, filters);
    start->end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
    start->follow = true;
    start->may_cut = true;
    const int rc = replay_client_open (holder->client, start, &s->session);
    holder->ready = true;                   /* sending may have swallowed the word of what came */
    if (rc != 0)
        return rc;
    s->session_state = SESSION_OPEN;
    s->session_holder = holder;
    s->session_heard_ns = s->session_asked_ns = node_now ();
    s->session_passed_ns = 0;
    s->session_owes = true;
    subscription_holder_asked (holder, s->session_heard_ns);
    s->session_looked = false;
    if (!s->session_silent_ns)
        s->session_silent_ns = NS_OF_MS (SUBSCRIPTION_OWED_MS);
    s->session_told = false;
    s->caught_up_ns = 0;
    return 0;
}

static int list_positions (struct fm_subscription *s, struct cursor *c)
{
    for (size_t i = 0; i < s->table_size; i++) {
        struct stream *st = s->table[i];
        if (!st)
            continue;
        st->listed = st->beyond ? st->h.complete : 0;
        st->echoed = false;
        const int rc = st->listed ? cursor_add (c, &st->id, st->listed) : 0;
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int reopen (struct fm_subscription *s, struct holder *holder)
{
    struct cursor vector = { .journal = s->base.journal, .generation = s->base.generation, .offset = s->base.offset };
    struct cursor_message message = { .message = FACTMESH__CURSOR__INIT };
    int rc = list_positions (s, &vector);
    if (rc == 0)
        rc = cursor_message_init (&message, &vector);
    if (rc == 0) {
        Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
        open.start_case = s->latest_end ? FACTMESH__REPLAY_OPEN__START_FROM_LATEST : FACTMESH__REPLAY_OPEN__START_FROM_CURSOR;
        open.latest_end = s->latest_end;
        if (s->latest_end)
            open.from_latest = &message.message;
        else
            open.from_cursor = &message.message;
        rc = subscription_session_open (s, holder, &open);
        cursor_message_release (&message);
    }
    cursor_release (&vector);
    return rc;
}

static void drop_view_of (struct fm_subscription *s, const struct holder *holder, const struct repair *r)
{
    if (s->view && s->view_holder == holder && s->view_repair == r)
        s->view = NULL;
}

void subscription_session_lost (struct fm_subscription *s)
{
    drop_view_of (s, s->session_holder, NULL);
    replay_client_close (s->session_holder->client, s->session);
    s->session_holder->ready = true;        /* sending may have swallowed its word about a repair's answer */
    s->session_holder = NULL;
    s->session = 0;
    s->session_state = SESSION_WANTED;
    s->session_retry_ns = node_now () + NS_OF_MS (SUBSCRIPTION_RETRY_MS);
    subscription_due (s, s->session_retry_ns);
}

static void session_close (struct fm_subscription *s)
{
    replay_client_close (s->session_holder->client, s->session);
    s->session_holder->ready = true;
    subscription_holder_ended (s, s->session_holder);
    s->session_holder = NULL;
    s->session = 0;
    s->session_state = SESSION_NONE;
}

static void step_behind (struct fm_subscription *s, void (*f) (struct handover *h))
{
    for (struct stream *st = s->behind, *next; st; st = next) {
        next = st->next_behind;
        f (&st->h);
        subscription_settle (s, st);
    }
}

/* The end was reached, and a live connection that is not up yet, or a fact that the journal lacks, need not keep the session open. */
static void session_patience (struct fm_subscription *s, uint64_t now_ns)
{
    if (!s->caught_up_ns)
        return;
    const bool over = now_ns >= s->caught_up_ns + NS_OF_MS (SUBSCRIPTION_PATIENCE_MS);
    if (over)
        step_behind (s, handover_go_live);
    if (!s->behind && !s->view && (over || live_set_fenced (s->live))) {
        session_close (s);
        if (s->fallen) {
            s->fallen = false;
            s->tell_caught_up = true;
        }
    } else {
        subscription_due (s, over ? now_ns + NS_OF_MS (SUBSCRIPTION_RETRY_MS) : s->caught_up_ns + NS_OF_MS (SUBSCRIPTION_PATIENCE_MS));
    }
}

/* The journal was restored from a copy: its offsets mean something else now. Streams go on by their own sequences. */
static void lose_generation (struct fm_subscription *s, const char *why)
{
    s->error = FM_ERR_GENERATION;
    (void) snprintf (s->error_text, sizeof s->error_text, "the journal is of another generation now; live goes on, cursors must be made anew: %s",
                     why);
    s->has_base = false;
    s->latest_end = 0;
    s->session_state = SESSION_NONE;
    step_behind (s, handover_go_live);
}

bool subscription_generation_passed (struct fm_subscription *s)
{
    const struct live_peer *peer;
    if (!s->has_base || subscription_journal (s, true, 0))
        return false;
    for (size_t i = 0; (peer = subscription_journal (s, false, i)); i++) {
        if (id_equal (&peer->info.journal, &s->base.journal) && peer->info.generation > s->base.generation)
            return true;
    }
    return false;
}

void subscription_session_look (struct fm_subscription *s)
{
    if (subscription_generation_passed (s))
        subscription_want_session (s);      /* live alone would not miss it, but cursors do, and who asks where a stream begins */
    if (s->session_state == SESSION_WANTED)
        s->session_retry_ns = 0;
}

static void go_live_where_known (struct fm_subscription *s)
{
    for (struct stream *st = s->behind, *next; st; st = next) {
        next = st->next_behind;
        if (!st->positioned && st->wanted_from != 1)
            continue;           /* only our base says where it begins; a stream that began after we did is wanted from its first fact on */
        handover_go_live (&st->h);
        subscription_settle (s, st);
    }
}

/* The journal of our base is away. Its offsets mean nothing to others, but sequences do: what is missing is asked for piece by piece, of another
 * journal or of its publisher. */
static void without_base (struct fm_subscription *s, uint64_t now_ns)
{
    if (subscription_generation_passed (s)) {
        lose_generation (s, "the one that was known is gone");
        return;
    }
    if (!s->session_wanted_ns)
        s->session_wanted_ns = now_ns;
    /* Within the newest facts there is nothing to be asked for piece by piece: which they are only that journal's index says. They come first. */
    if (!s->latest_end && now_ns >= s->session_wanted_ns + NS_OF_MS (SUBSCRIPTION_PATIENCE_MS))
        go_live_where_known (s);
}

static uint64_t silent_until (const struct fm_subscription *s)
{
    const uint64_t silent_ns = s->session_owes ? s->session_silent_ns : NS_OF_MS (SUBSCRIPTION_SILENT_MS);
    return subscription_holder_silent (s->session_holder, s->session_heard_ns, s->session_passed_ns, silent_ns);
}

/* It, or its connection, may have gone without a word. But who has not looked for long must look first. */
static void session_is_silent (struct fm_subscription *s)
{
    if (!s->session_looked) {
        s->session_looked = s->session_holder->ready = true;
        return;
    }
    if (s->session_holder->ready)
        return;                             /* not read to its end yet */
    if (s->session_silent_ns < NS_OF_MS (SUBSCRIPTION_SILENT_MS))
        s->session_silent_ns *= 2;
    subscription_session_lost (s);
}

static void session_heard (struct fm_subscription *s, uint64_t now_ns)
{
    if (!s->session_told)
        subscription_holder_answered (s, s->session_holder, s->session_asked_ns, now_ns);
    s->session_passed_ns = 0;
    s->session_heard_ns = now_ns;
    s->session_silent_ns = NS_OF_MS (SUBSCRIPTION_OWED_MS);
    s->session_looked = false;
}

void subscription_session_step (struct fm_subscription *s, uint64_t now_ns)
{
    if (s->session_state == SESSION_OPEN) {
        if (now_ns >= silent_until (s) && !s->view) {
            session_is_silent (s);
        } else {
            s->session_looked = false;
            subscription_due (s, silent_until (s));
        }
    }
    if (s->session_state == SESSION_OPEN)
        session_patience (s, now_ns);
    if (s->session_state != SESSION_WANTED)
        return;
    if (now_ns < s->session_retry_ns) {
        subscription_due (s, s->session_retry_ns);
        return;
    }
    const struct live_peer *peer = subscription_journal (s, true, 0);
    if (peer)
        s->session_wanted_ns = 0;
    else
        without_base (s, now_ns);
    struct holder *holder = peer ? subscription_holder (s, peer) : NULL;
    if (!holder || (s->has_base ? reopen (s, holder) : subscription_session_start (s, holder)) != 0) {
        s->session_retry_ns = now_ns + NS_OF_MS (SUBSCRIPTION_RETRY_MS);
        subscription_due (s, s->session_retry_ns);
    }
}

/* --- Receiving. */

static void begin_session (struct fm_subscription *s, const struct replay_view *view)
{
    s->session_told = true;
    if (!s->has_base && view->has_start) {
        s->base.journal = view->journal;
        s->base.generation = view->generation;
        s->base.offset = view->start_offset;
        s->has_base = true;
        s->latest_end = view->header.latest_end;
    }
    s->session_start = s->base.offset;
    if (view->header.remaining_bytes <= SUBSCRIPTION_KEEP_BYTES && !s->latest_end)
        return;
    for (struct stream *st = s->behind, *next; st; st = next) {
        next = st->next_behind;
        subscription_drop_held (s, st);
    }
}

static void begin_view (struct fm_subscription *s, struct holder *holder, struct replay_view *view, struct repair *r)
{
    s->view = view;
    s->view_holder = holder;
    s->view_repair = r;
    s->view_has_batch = s->view_unread = false;
    s->view_gaps_left = view->header.gap_count;
    if (!r && !s->session_told)
        begin_session (s, view);
}

int subscription_error_of (Factmesh__ErrorCode code)
{
    switch (code) {
    case FACTMESH__ERROR_CODE__ERROR_GENERATION:
        return FM_ERR_GENERATION;
    case FACTMESH__ERROR_CODE__ERROR_NO_JOURNAL:
        return FM_ERR_NO_JOURNAL;
    case FACTMESH__ERROR_CODE__ERROR_MALFORMED:
        return FM_ERR_MALFORMED;
    case FACTMESH__ERROR_CODE__ERROR_UNKNOWN_CURSOR:
    case FACTMESH__ERROR_CODE__ERROR_UNKNOWN_STREAM:
        return FM_ERR_UNKNOWN;
    case FACTMESH__ERROR_CODE__ERROR_LIMIT:
        return FM_ERR_LIMIT;
    case FACTMESH__ERROR_CODE__ERROR_READ_ONLY:
        return FM_ERR_READ_ONLY;
    case FACTMESH__ERROR_CODE__ERROR_VERSION:
        return FM_ERR_VERSION;
    default:
        return FM_ERR_UNREACHABLE;
    }
}

bool subscription_may_pass (int error)
{
    return error == FM_ERR_UNREACHABLE || error == FM_ERR_NO_JOURNAL || error == FM_ERR_LIMIT;
}

static void on_session_error (struct fm_subscription *s, const struct replay_event *e)
{
    s->session = 0;                         /* the client forgot it */
    subscription_session_lost (s);
    s->session_retry_ns = node_now () + NS_OF_MS (SUBSCRIPTION_REPAIR_MS);
    s->session_error = subscription_error_of (e->code);
    (void) snprintf (s->session_error_text, sizeof s->session_error_text, "%s", e->text);
    if (e->code == FACTMESH__ERROR_CODE__ERROR_GENERATION)
        lose_generation (s, e->text);
}

static void on_event (struct fm_subscription *s, struct holder *holder, struct replay_event *e)
{
    const bool ours = s->session_state == SESSION_OPEN && holder == s->session_holder && e->session == s->session;
    struct repair *r = ours ? NULL : subscription_repair_of (s, holder, e->session);
    if (!ours && !r)
        return;                             /* of no session: nothing else was asked here */
    holder->used_ns = node_now ();
    if (r)
        subscription_repair_answered (s, r, holder->used_ns);
    if (e->kind == REPLAY_DATA) {
        if (ours) {
            session_heard (s, holder->used_ns);
        } else {
            r->not_yet = e->view->header.caught_up;
        }
        begin_view (s, holder, e->view, r);
    } else if (r) {
        if (e->kind == REPLAY_END && r->end_seq == UINT64_MAX)
            r->stream->tail_ns = 0;
        subscription_repair_over (s, r, SUBSCRIPTION_RETRY_MS);
    } else if (e->kind == REPLAY_ERROR) {
        on_session_error (s, e);
    } else {
        subscription_session_lost (s);
    }
}

int subscription_replay_receive (struct fm_subscription *s)
{
    for (struct holder *h = s->holders; h; h = h->next) {
        struct replay_event e;
        if (!h->ready)
            continue;
        const int rc = replay_client_receive (h->client, &e);
        subscription_holder_heard (s, h);
        if (rc != 0) {
            h->ready = rc == -ENOMEM;
            if (!h->ready)
                h->empty_ns = node_now ();
            if (!h->ready && h->doubted) {
                h->doubted = false;
                s->trouble_ns = 0;          /* its silence is certain now */
            }
            continue;
        }
        on_event (s, h, &e);
        return 0;
    }
    return -EAGAIN;
}

/* --- Stepping through a message: gaps and batches of one stream in the order of their sequences, then how far it is complete. */

void subscription_gap_event (struct fm_subscription *s, const struct fm_id *stream, uint64_t first, uint64_t end, uint32_t reason,
                             struct fm_event *ret_event)
{
    node_count (s->node, NODE_GAPS_DELIVERED, 1);
    *ret_event = (struct fm_event) { .kind = FM_EVENT_GAP, .replayed = true, .gap = { .stream = *stream, .first = first, .end = end } };
    /* A reason of a newer minor version is told as unknown. */
    ret_event->gap.reason = reason <= FM_GAP_NOT_HELD ? (enum fm_gap_reason) reason : FM_GAP_UNKNOWN;
}

static_assert ((int) FM_GAP_NOT_HELD == (int) FACTMESH__GAP_REASON__GAP_NOT_HELD && (int) FM_GAP_VOID == (int) FACTMESH__GAP_REASON__GAP_VOID,
               "the public reasons are the protocol's");

/* Done with a gap: it is marked by an empty range. */
static void consume_gap (struct fm_subscription *s, struct replay_gap *gap)
{
    gap->first_seq = gap->end_seq = 0;
    s->view_gaps_left--;
}

/* The gap that comes next: of offsets; or the lowest of the next batch's stream in front of it; or, behind the batches, any. */
static struct replay_gap *next_gap (struct fm_subscription *s)
{
    struct replay_gap *found = NULL;
    for (size_t i = 0; i < s->view->header.gap_count && s->view_gaps_left; i++) {
        struct replay_gap *gap = &s->view->gaps[i];
        if (gap->end_seq == 0)
            continue;
        if (id_is_zero (&gap->stream))
            return gap;
        if (s->view_has_batch && (!id_equal (&gap->stream, &s->view_decoded.stream) || gap->first_seq >= s->view_decoded.first_seq))
            continue;
        if (!found || gap->first_seq < found->first_seq)
            found = gap;
    }
    return found;
}

/* The message in hand moved P. */
static void moved (struct fm_subscription *s)
{
    if (s->view_repair)
        subscription_repair_moved (s, s->view_repair);
}

/* A publisher that no longer has it: a journal must be asked, if there ever was one. */
static bool is_for_a_journal (const struct fm_subscription *s, const struct replay_gap *gap)
{
    if (!s->view_repair || s->view_repair->of_journal)
        return false;
    if (s->no_journal)
        return false;
    return gap->reason == FACTMESH__GAP_REASON__GAP_SYNCED || (gap->reason == FACTMESH__GAP_REASON__GAP_NOT_HELD && s->journal_seen);
}

static void no_memory (struct fm_subscription *s, const char *what)
{
    s->error = -ENOMEM;
    (void) snprintf (s->error_text, sizeof s->error_text, "no memory for %s of a replay", what);
}

/* A session goes on behind what it gave us: what is passed over for want of memory would never come again. So the caller is told, and the same is tried
 * again with its next call. NULL without an error: the table is full, which has been told. */
static struct stream *stream_or_error (struct fm_subscription *s, const struct fm_id *id)
{
    struct stream *st = subscription_stream (s, id);
    if (!st && s->stream_count < SUBSCRIPTION_STREAMS_MAX)
        no_memory (s, "a stream");
    return st;
}

/* Returns true when an event is due. */
static bool take_gap (struct fm_subscription *s, struct replay_gap *gap, struct fm_event *ret_event)
{
    if (id_is_zero (&gap->stream)) {
        const struct replay_gap told = *gap;
        consume_gap (s, gap);
        if (s->view_repair)
            return false;
        subscription_gap_event (s, &told.stream, told.first_seq, told.end_seq, told.reason, ret_event);
        return true;
    }
    if (s->view_repair && !id_equal (&gap->stream, &s->view_repair->stream->id)) {
        consume_gap (s, gap);
        return false;
    }
    if (is_for_a_journal (s, gap)) {
        s->journal_seen |= gap->journal;    /* by a publisher, if not by us */
        if (gap->end_seq > s->view_repair->stream->gone_end)
            s->view_repair->stream->gone_end = gap->end_seq;
        /* Where there is none now the next one to be asked is the publisher again: not at once. */
        const bool journal = subscription_journal (s, !s->view_repair->stream->positioned, 0);
        subscription_repair_over (s, s->view_repair, journal ? 0 : SUBSCRIPTION_RETRY_MS);
        return false;
    }
    struct stream *st = stream_or_error (s, &gap->stream);
    uint64_t first, end;
    if (!st && s->error)
        return false;
    if (s->view_repair && gap->end_seq > st->h.complete + 1 && gap->reason != FACTMESH__GAP_REASON__GAP_REDACTED
        && subscription_repair_elsewhere (s, s->view_repair)) {
        subscription_repair_over (s, s->view_repair, 0);
        return false;
    }
    if (!st || !handover_gap (&st->h, gap->first_seq, gap->end_seq, &first, &end)) {
        consume_gap (s, gap);
        return false;
    }
    moved (s);
    subscription_settle (s, st);            /* what is held and comes next now is taken before we are back for the rest of the gap */
    if (first == end)
        return false;
    const uint32_t reason = gap->reason == FACTMESH__GAP_REASON__GAP_SYNCED ? (uint32_t) FM_GAP_NOT_HELD : gap->reason;
    subscription_gap_event (s, &st->id, first, end, reason, ret_event);
    return true;
}

static void take_batch (struct fm_subscription *s)
{
    const struct batch *b = &s->view_decoded;
    struct stream *st = s->view_repair ? s->view_repair->stream : stream_or_error (s, &b->stream);
    if (!st && s->error)
        return;
    s->view_has_batch = false;
    if (!st || b->announced_len || !id_equal (&st->id, &b->stream))
        return;
    if (b->epoch > st->epoch) {
        st->epoch = b->epoch;
        st->incarnation = b->incarnation;
        st->has_owner = false;              /* the old one's; the new one shows itself live */
    }
    uint64_t from;
    const enum handover_verdict verdict = handover_replayed (&st->h, b->first_seq, batch_end_seq (b), &from);
    subscription_settle (s, st);
    if (verdict != HANDOVER_DELIVER)
        return;
    moved (s);
    if (s->view_repair)
        s->view_repair->brought = true;
    subscription_walk (s, st, b, from, WALK_REPLAY);
}

/* The session is complete through that of a stream. Does it follow that all we know of it lies below the base that this message leads to?
 * Not from an echo of the vector that we sent ourselves. */
static bool is_within_base (struct stream *st, uint64_t through)
{
    if (through < st->h.complete || through < st->listed)
        return false;
    const bool echo = through == st->listed && !st->echoed;
    st->echoed = true;
    return !echo;
}

static void take_covered (struct fm_subscription *s)
{
    const struct replay_header *h = &s->view->header;
    for (size_t i = 0; i < h->covered_count; i++) {
        const struct replay_covered *c = &h->covered[i];
        struct stream *st = subscription_find (s, &c->stream);
        if (c->through == UINT64_MAX || (s->view_repair && st != s->view_repair->stream))
            continue;
        if (!st && s->stream_count < SUBSCRIPTION_COVERED_MAX)
            st = subscription_stream (s, &c->stream);
        if (!st)
            continue;
        if (c->through > st->h.complete)
            moved (s);
        subscription_position (s, st, c->through);
        if (!s->view_repair && st->beyond && is_within_base (st, c->through)) {
            st->beyond = false;
            subscription_dirty (s, st);
        }
    }
}

static void finish_repair_message (struct fm_subscription *s)
{
    struct repair *r = s->view_repair;
    r->heard_ns = node_now ();              /* the application may have taken long over it */
    if (r->stream->h.complete < r->end_seq - 1)
        return;
    if (r->of_head) {
        r->stream->quiet = !r->brought;
        r->stream->below = r->stream->below || (!r->brought && r->stream->asked_listed);
        r->stream->asked_listed = false;
    }
    subscription_repair_over (s, r, 0);
}

static void finish_session_message (struct fm_subscription *s)
{
    const struct replay_header *h = &s->view->header;
    const uint64_t now_ns = node_now ();
    session_heard (s, now_ns);              /* the application may have taken long over it */
    s->session_owes = h->remaining_bytes > 0;
    subscription_holder_ended (s, s->session_holder);
    if (h->next_offset > s->base.offset)
        s->base.offset = h->next_offset;
    s->latest_end = h->latest_end;
    if (h->remaining_bytes <= SUBSCRIPTION_KEEP_BYTES && !s->latest_end)
        step_behind (s, handover_near);
    if (!h->caught_up)
        return;
    if (!s->caught_up_ns)
        s->caught_up_ns = now_ns;
    if (!s->caught_up_told || s->fallen)
        s->tell_caught_up = true;
    s->caught_up_told = true;
    s->fallen = false;
    step_behind (s, handover_caught_up);
    subscription_due (s, now_ns);
}

static void finish_message (struct fm_subscription *s)
{
    take_covered (s);
    if (s->view_repair)
        finish_repair_message (s);
    else
        finish_session_message (s);
    s->view = NULL;
}

/* A batch that this version cannot read. Whose facts it has is not known: of a session its offsets are told, of a journal's repair the range; what a
 * publisher gives is no gap in a mesh that has a journal, which is asked next. */
static bool unreadable (struct fm_subscription *s, struct fm_event *ret_event)
{
    static const struct fm_id no_stream;
    node_count (s->node, NODE_CONTROL_REFUSED, 1);
    if (!s->view_repair) {
        subscription_gap_event (s, &no_stream, s->base.offset, s->view->header.next_offset, FM_GAP_UNKNOWN, ret_event);
        return true;
    }
    struct stream *st = s->view_repair->stream;
    const uint64_t end = s->view_repair->end_seq;
    const bool last_word = s->view_repair->of_journal || s->no_journal || !s->journal_seen;
    subscription_repair_over (s, s->view_repair, SUBSCRIPTION_RETRY_MS);
    if (last_word && !s->lost && end != UINT64_MAX) {
        s->lost = st;
        s->lost_end = end;
        s->lost_reason = FM_GAP_NOT_HELD;
    }
    return false;
}

bool subscription_view_step (struct fm_subscription *s, struct fm_event *ret_event)
{
    if (!s->view_has_batch && (s->view_unread || replay_view_next (s->view, &s->view_batch) == 0)) {
        const int rc = batch_decode (s->view_batch.data, s->view_batch.len, node_mesh (s->node), &s->view_scratch, &s->view_decoded);
        s->view_unread = rc == -ENOMEM;
        if (s->view_unread) {
            no_memory (s, "a batch");
            return false;
        }
        if (rc)
            return unreadable (s, ret_event);
        s->view_has_batch = true;
        return false;
    }
    struct replay_gap *gap = next_gap (s);
    if (gap)
        return take_gap (s, gap, ret_event);
    if (s->view_has_batch)
        take_batch (s);
    else
        finish_message (s);
    return false;
}
