/* Holes: whom to ask, and when to ask another one.
 *
 * A small hole near the head is asked of its publisher first: it is nearer, and the journal may not have synced it yet. Others are asked of a
 * journal first. Who is silent (subscription_holder.c), or has it no longer, is followed by the next one, round and round:
 * correctness gives up only where no journal was ever seen, or none is wanted, and the publisher has let it go. */

#include "subscription.h"
#include "error.h"

#include <assert.h>
#include <stdlib.h>

/* --- Peers. */

struct live_peer *subscription_peer (struct fm_subscription *s, const struct fm_id *node)
{
    for (size_t i = 0; i < live_set_count (s->live); i++) {
        struct live_peer *peer = live_set_peer (s->live, i);
        if (!peer->gone && id_equal (&peer->info.node, node))
            return peer;
    }
    return NULL;
}

struct live_peer *subscription_journal (struct fm_subscription *s, bool of_base, size_t nth)
{
    for (size_t i = 0; i < live_set_count (s->live); i++) {
        struct live_peer *peer = live_set_peer (s->live, i);
        if (peer->gone || !peer->info.is_journal)
            continue;
        if (of_base && s->has_base && (!id_equal (&peer->info.journal, &s->base.journal) || peer->info.generation != s->base.generation))
            continue;
        if (nth-- == 0)
            return peer;
    }
    return NULL;
}

/* --- Questions. */

void subscription_trouble (struct fm_subscription *s, struct stream *st, uint64_t when_ns)
{
    if (!st->in_trouble) {
        st->in_trouble = true;
        st->next_trouble = s->trouble;
        s->trouble = st;
        st->ask_ns = 0;
        st->turn = st->asked = 0;
    }
    if (when_ns < s->trouble_ns)
        s->trouble_ns = when_ns;
    subscription_due (s, when_ns);
}

struct repair *subscription_repair_of (struct fm_subscription *s, const struct holder *holder, uint64_t session)
{
    for (size_t i = 0; i < SUBSCRIPTION_QUESTIONS_MAX; i++) {
        struct repair *r = &s->repairs[i];
        if (r->stream && r->holder == holder && r->session == session)
            return r;
    }
    return NULL;
}

void subscription_repair_over (struct fm_subscription *s, struct repair *r, unsigned wait_ms)
{
    struct stream *st = r->stream;
    replay_client_close (r->holder->client, r->session);
    r->holder->ready = true;
    subscription_holder_ended (s, r->holder);
    if (s->view && s->view_repair == r)
        s->view = NULL;
    r->stream = NULL;
    if (r->late) {
        s->late_count--;
        return;
    }
    s->repair_count--;
    st->repair = NULL;
    st->ask_ns = node_now () + NS_OF_MS (wait_ms);
    s->trouble_ns = 0;
    subscription_due (s, st->ask_ns);
}

/* The nth to be asked for a hole of so many sequences; NULL: nobody can be asked. */
static struct live_peer *choose (struct fm_subscription *s, const struct stream *st, uint64_t length, unsigned nth, bool *ret_of_journal)
{
    size_t journals = 0;
    while (!s->no_journal && subscription_journal (s, !st->positioned, journals))
        journals++;
    /* In SYNCED delivery only a journal's word counts; where P is not known only an offset says where to begin. But live does not wait for
     * a journal that is away: what began after we did is wanted from its first fact on. (Clocks tell; so only then.) */
    const bool known = st->positioned || (st->wanted_from == 1 && journals == 0);
    struct live_peer *publisher = st->has_owner && !st->owner_gone && !s->synced_only && known ? subscription_peer (s, &st->owner) : NULL;
    const size_t count = journals + (publisher != NULL);
    if (count == 0)
        return NULL;
    size_t place = nth % count;
    const bool publisher_first = publisher && length <= SUBSCRIPTION_NEAR_HOLE;
    if (publisher && place == (publisher_first ? 0 : count - 1)) {
        *ret_of_journal = false;
        return publisher;
    }
    *ret_of_journal = true;
    place -= publisher_first;
    /* Two journals may disagree about which of two facts repeats the other (SPEC.md, "Identity"): in SYNCED delivery the one that was replayed from comes first. */
    struct live_peer *own = s->synced_only && place == 0 && s->has_base ? subscription_journal (s, true, 0) : NULL;
    return own ? own : subscription_journal (s, !st->positioned, place);
}

static struct repair *free_repair (struct fm_subscription *s)
{
    if (s->repair_count >= SUBSCRIPTION_REPAIRS_MAX)
        return NULL;
    struct repair *r = s->repairs;
    while (r->stream)
        r++;                                /* there is one: fewer than may be are under way, and no more are late than may be */
    return r;
}

/* Where P is not known our base says where to begin: to its own journal and generation alone, and who answers may be of the next one. The question borrows
 * the cursor. */
static void begin_at_base (struct fm_subscription *s, Factmesh__ReplayOpen *open, Factmesh__Cursor *cursor)
{
    if (!s->has_base)
        return;                             /* all that there is: it began after we did */
    cursor->major = PROTO_MAJOR;
    cursor->journal = control_put_id (&s->base.journal);
    cursor->generation = s->base.generation;
    cursor->offset = s->base.offset;
    open->start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR;
    open->from_cursor = cursor;
}

/* Ask for [first, end); end UINT64_MAX: for what is synced. Returns false when it could not be asked now. */
static bool ask (struct fm_subscription *s, struct stream *st, uint64_t first, uint64_t end, uint64_t now_ns)
{
    bool of_journal = true;
    struct repair *r = free_repair (s);
    struct live_peer *peer = r ? choose (s, st, end - first, end == UINT64_MAX ? 0 : st->turn, &of_journal) : NULL;
    st->turn += r != NULL;
    if (!peer || (end == UINT64_MAX && !of_journal))
        return false;
    struct holder *holder = subscription_holder (s, peer);
    if (!holder)
        return false;
    ProtobufCBinaryData filters[FILTERS_MAX];
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    Factmesh__Cursor base = FACTMESH__CURSOR__INIT;
    for (size_t i = 0; i < s->pattern_count; i++)
        filters[i] = control_put_slice (s->patterns[i]);
    open.filters = filters;
    open.n_filters = s->pattern_count;
    open.may_cut = true;
    open.credit = SUBSCRIPTION_REPAIR_CREDIT;
    open.message_bytes = SUBSCRIPTION_REPAIR_MESSAGE;
    open.stream = control_put_id (&st->id);
    if (st->positioned || !of_journal) {
        open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_SEQ;
        open.from_seq = first;
    } else {
        begin_at_base (s, &open, &base);
    }
    open.end_case = end == UINT64_MAX ? FACTMESH__REPLAY_OPEN__END_END_AT_SYNCED : FACTMESH__REPLAY_OPEN__END_END_SEQ;
    if (end == UINT64_MAX)
        open.end_at_synced = true;
    else
        open.end_seq = end;
    uint64_t session;
    const int rc = replay_client_open (holder->client, &open, &session);
    holder->ready = true;                   /* sending may have swallowed the word of what came */
    if (rc != 0)
        return false;
    *r = (struct repair) { .stream = st, .holder = holder, .of_journal = of_journal, .session = session, .end_seq = end,
                           .of_head = st->h.held_count == 0, .asked_ns = now_ns, .heard_ns = now_ns };
    subscription_holder_asked (holder, now_ns);
    s->repair_count++;
    st->repair = r;
    st->asked++;
    node_count (s->node, NODE_REPAIRS_ASKED, 1);
    return true;
}

/* Its publisher may be cut off, and come back with it; or it is another process by now that sent it in the name of the one before. So it may be as long as
 * somebody has not answered our fence. */
static bool may_come_back (const struct fm_subscription *s, const struct stream *st, uint64_t first, uint64_t now_ns)
{
    const bool left = st->said_goodbye && live_set_fenced (s->live);
    return st->gone_end <= first && now_ns < st->gone_ns + NS_OF_MS (left ? SUBSCRIPTION_LEFT_MS : SUBSCRIPTION_ORPHAN_MS);
}

/* The place where we began was one of a journal's generation that is no more: how much of the stream came before nobody can say. */
static bool is_placed_by_nobody (const struct fm_subscription *s, const struct stream *st)
{
    return !st->positioned && st->wanted_from != 1 && !s->has_base;
}

/* Without a journal there is nobody to ask but the publisher: who was not asked has not said that it is lost. */
static bool gives_up (const struct fm_subscription *s, const struct stream *st, uint64_t first, uint64_t now_ns)
{
    if (is_placed_by_nobody (s, st))
        return true;
    if (!s->no_journal && s->journal_seen)
        return false;
    return st->owner_gone ? !may_come_back (s, st, first, now_ns) : st->asked >= SUBSCRIPTION_GIVE_UP;
}

/* What is missing of a stream, and when to ask for it. False: nothing, it is no trouble any more. */
static bool missing (struct fm_subscription *s, struct stream *st, uint64_t now_ns, uint64_t *ret_first, uint64_t *ret_end, uint64_t *ret_when_ns)
{
    *ret_first = st->h.complete + 1;
    if (handover_hole (&st->h, ret_first, ret_end)) {
        *ret_when_ns = st->ask_ns;
        return true;
    }
    if (handover_waits_for_mark (&st->h, ret_end)) {
        if (st->mark_complete != st->h.complete || st->mark_ns == 0) {      /* it went on meanwhile */
            st->mark_complete = st->h.complete;
            st->mark_ns = now_ns + NS_OF_MS (SUBSCRIPTION_MARK_MS);
        }
        *ret_when_ns = st->ask_ns > st->mark_ns ? st->ask_ns : st->mark_ns;
        return true;
    }
    if (st->tail_ns && !s->no_journal && s->journal_seen) {
        *ret_end = UINT64_MAX;
        if (s->latest_end && st->tail_ns <= now_ns)
            st->tail_ns = now_ns + NS_OF_MS (SUBSCRIPTION_TAIL_MS);     /* from P on lies history that newest facts leave out: when they are through */
        *ret_when_ns = st->ask_ns > st->tail_ns ? st->ask_ns : st->tail_ns;
        return true;
    }
    st->tail_ns = 0;
    return false;
}

static uint64_t silent_ns (const struct fm_subscription *s, const struct repair *r)
{
    /* Without a journal the publisher alone can be asked, and whether its own connection moves says enough: a gap is to be told within a minute. */
    const unsigned most = s->no_journal || !s->journal_seen ? SUBSCRIPTION_GIVEN_UP_DOUBLES_ALONE : SUBSCRIPTION_GIVEN_UP_DOUBLES;
    if (r->not_yet)                         /* what else comes says nothing about when it will have more */
        return r->heard_ns + NS_OF_MS (SUBSCRIPTION_REPAIR_MS);
    const unsigned doubled = r->stream->given_up < most ? r->stream->given_up : most;
    return subscription_holder_silent (r->holder, r->heard_ns, r->passed_ns, NS_OF_MS (SUBSCRIPTION_REPAIR_MS) << doubled);
}

/* While the application takes its time answers wait unread, and to ask again would heap them up: so what came is read before a silence is believed. */
static bool is_silent (const struct fm_subscription *s, struct repair *r, uint64_t now_ns)
{
    if (now_ns < silent_ns (s, r)) {
        r->doubted = false;
        return false;
    }
    if (r->doubted)
        return !r->holder->ready;
    r->doubted = r->holder->doubted = r->holder->ready = true;
    return false;
}

/* Its answer was lost, or is slow: then it is as good as another one's when it comes, and comes first. But nothing is on the way of who has no more now:
 * he is asked again in his turn. */
static void give_up (struct fm_subscription *s, struct repair *r)
{
    struct stream *const st = r->stream;
    st->given_up += !r->not_yet;
    if (r->not_yet || s->late_count == SUBSCRIPTION_LATE_MAX) {
        subscription_repair_over (s, r, 0);
        return;
    }
    r->late = true;
    s->late_count++;
    s->repair_count--;
    st->repair = NULL;
}

/* All questions about it but that one, if any. */
static void end_others (struct fm_subscription *s, const struct stream *st, const struct repair *r)
{
    for (size_t i = 0; i < SUBSCRIPTION_QUESTIONS_MAX && (s->late_count || st->repair); i++) {
        if (s->repairs[i].stream == st && &s->repairs[i] != r)
            subscription_repair_over (s, &s->repairs[i], 0);
    }
}

void subscription_repair_answered (struct fm_subscription *s, struct repair *r, uint64_t now_ns)
{
    if (!r->answered)
        subscription_holder_answered (s, r->holder, r->asked_ns, now_ns);
    r->answered = true;
    r->heard_ns = now_ns;
    r->passed_ns = 0;
    r->doubted = false;
}

void subscription_repair_moved (struct fm_subscription *s, struct repair *r)
{
    if (!r->late && !s->late_count)
        return;
    end_others (s, r->stream, r);           /* each would bring the same */
    if (!r->late)
        return;
    r->late = false;
    s->late_count--;
    s->repair_count++;
    r->stream->repair = r;
}

/* To be told as a gap: what its publisher let go, or who knows whether we had it; the rest may be had. */
static void lose (struct fm_subscription *s, struct stream *st, uint64_t first, uint64_t end)
{
    const bool unplaced = is_placed_by_nobody (s, st);
    const uint64_t some_end = unplaced ? st->wanted_from : st->gone_end;
    s->lost = st;
    s->lost_end = some_end > first && some_end < end ? some_end : end;
    s->lost_reason = unplaced ? FM_GAP_UNKNOWN : FM_GAP_NOT_HELD;
}

/* Returns false when the stream is out of trouble. */
static bool look_after (struct fm_subscription *s, struct stream *st, uint64_t now_ns)
{
    uint64_t first, end, when_ns;
    if (st->repair && is_silent (s, st->repair, now_ns))
        give_up (s, st->repair);
    if (st->repair) {
        subscription_due (s, st->repair->doubted ? now_ns + NS_OF_MS (SUBSCRIPTION_RETRY_MS) : silent_ns (s, st->repair));
        return true;
    }
    if (!missing (s, st, now_ns, &first, &end, &when_ns))
        return false;
    if (now_ns < when_ns) {
        subscription_due (s, when_ns);
        return true;
    }
    const bool lost = end != UINT64_MAX && gives_up (s, st, first, now_ns);
    if (lost && !s->lost)
        lose (s, st, first, end);
    else if (lost || !ask (s, st, first, end, now_ns))
        st->ask_ns = now_ns + NS_OF_MS (SUBSCRIPTION_RETRY_MS);
    subscription_due (s, st->repair ? silent_ns (s, st->repair) : now_ns + NS_OF_MS (SUBSCRIPTION_RETRY_MS));
    return true;
}

void subscription_repair_step (struct fm_subscription *s, uint64_t now_ns)
{
    if (now_ns < s->trouble_ns) {
        subscription_due (s, s->trouble_ns);
        return;
    }
    const uint64_t due_before = s->due_ns;
    s->due_ns = UINT64_MAX;
    s->trouble_ns = UINT64_MAX;
    for (struct stream **place = &s->trouble; *place;) {
        struct stream *st = *place;
        if (look_after (s, st, now_ns)) {
            place = &st->next_trouble;
        } else {
            *place = st->next_trouble;
            st->in_trouble = false;
            end_others (s, st, NULL);
        }
    }
    s->trouble_ns = s->due_ns;
    subscription_due (s, due_before);
}

/* --- Several journals. */

/* One that lost a segment, came late or was restored lacks what another one has: so each is asked, but for who says nothing for too long. */
bool subscription_repair_elsewhere (struct fm_subscription *s, const struct repair *r)
{
    struct stream *st = r->stream;
    const struct live_peer *peer;
    uint64_t said = 0, all = 0, journals = 0;
    if (!r->of_journal || r->end_seq == UINT64_MAX)
        return false;
    for (size_t i = 0; i < 64 && (peer = subscription_journal (s, !st->positioned, i)); i++) {
        const uint64_t bit = UINT64_C (1) << i;
        all |= bit;
        said |= id_equal (&peer->info.node, &r->holder->node) ? bit : 0;
        journals = 31 * journals + id_hash (&peer->info.node);
    }
    if (st->gap_journals != journals)
        st->gap_said = 0;
    st->gap_journals = journals;
    st->gap_said |= said;
    if (!st->gap_ns)
        st->gap_ns = r->heard_ns;
    return st->gap_said != all && r->heard_ns < st->gap_ns + NS_OF_MS (SUBSCRIPTION_GAP_MS);
}

/* --- What waits. */

/* It did at the look before too, and nothing came meanwhile. */
static bool has_waited (const struct fm_subscription *s, struct stream *st)
{
    const bool waited = st->waits_look && st->waits_look + 1 == s->waits_look && st->waits_complete == st->h.complete;
    st->waits_look = s->waits_look;
    st->waits_complete = st->h.complete;
    return waited;
}

static void tell_streams_that_wait (struct fm_subscription *s)
{
    size_t count = 0;
    const struct stream *one = NULL;
    for (struct stream *st = s->trouble; st; st = st->next_trouble) {
        if (has_waited (s, st) && ++count == 1)
            one = st;
    }
    /* Those that wait for the session; it itself goes on as long as it is open. */
    for (struct stream *st = s->session_state == SESSION_WANTED ? s->behind : NULL; st; st = st->next_behind) {
        if (!st->in_trouble && has_waited (s, st) && ++count == 1)
            one = st;
    }
    char id[ID_TEXT_LEN + 1];
    if (count)
        node_notice (s->node, "SUBSCRIPTION-WAITS", "streams=%zu one=%s complete=%llu: what may follow has not come for a minute; waits for %s", count,
                     id_text (&one->id, id), (unsigned long long) one->h.complete,
                     s->has_base && !subscription_journal (s, true, 0) ? "the journal, which is away" : "a journal or the publisher to have it");
}

static void tell_a_replay_that_waits (struct fm_subscription *s)
{
    const bool waits = s->session_state == SESSION_WANTED;
    char id[ID_TEXT_LEN + 1];
    if (waits && s->waits_offset == s->base.offset)
        node_notice (s->node, "REPLAY-WAITS", "offset=%llu journal=%s generation=%llu has not gone on with it for a minute", (unsigned long long) s->base.offset,
                     id_text (&s->base.journal, id), (unsigned long long) s->base.generation);
    s->waits_offset = waits ? s->base.offset : UINT64_MAX;
}

/* Those that are put off (commit_ms) are not due yet. */
static void tell_acknowledgements_that_wait (struct fm_subscription *s, uint64_t now_ns)
{
    const bool due = s->put_out || (s->ack_changed && s->put_due_ns < now_ns + NS_OF_MS (SUBSCRIPTION_SILENT_MS));
    const bool wait = s->cursor_name && due;
    if (wait && s->waits_durable == s->acks_durable)
        node_notice (s->node, "CURSOR-WAITS", "cursor=%s what was acknowledged has not become durable at the journal for a minute", s->cursor_name);
    s->waits_durable = wait ? s->acks_durable : UINT64_MAX;
}

void subscription_waits_step (struct fm_subscription *s, uint64_t now_ns)
{
    if (now_ns >= s->waits_look_ns) {
        s->waits_look_ns = now_ns + NS_OF_MS (SUBSCRIPTION_WAITS_MS);
        s->waits_look++;
        tell_streams_that_wait (s);
        tell_a_replay_that_waits (s);
        tell_acknowledgements_that_wait (s, now_ns);
    }
    if (s->trouble || s->session_state == SESSION_WANTED || s->waits_durable != UINT64_MAX)
        subscription_due (s, s->waits_look_ns);
}
