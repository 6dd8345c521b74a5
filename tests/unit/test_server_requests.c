/* server: what it refuses and with which words, requests that wait for the disk, a queue that is full, places that are taken from those who have most, sessions that
 * are silent, and a log that cannot be read. */

#include "fake_server.h"

#include <sys/resource.h>

/* --- Handing over and hearing. */

/* Sessions that follow may say meanwhile that they are there. */
static bool is_keepalive (const Factmesh__Control *c)
{
    return c && c->body_case == FACTMESH__CONTROL__BODY_REPLAY_DATA && c->replay_data->caught_up && c->replay_data->n_batches == 0;
}

static const Factmesh__Control *expect_error (Factmesh__ErrorCode code, const char *text)
{
    const Factmesh__Control *c;
    char told[400];
    while (is_keepalive (c = fake_reply_within (FAKE_PATIENCE_MS)))
        continue;
    assert_non_null (c);
    assert_int_equal (c->body_case, FACTMESH__CONTROL__BODY_ERROR);
    (void) snprintf (told, sizeof told, "%.*s", (int) c->error->text.len, (const char *) c->error->text.data);
    if (c->error->code != code || !strstr (told, text))
        fail_msg ("error %d: '%s' instead of %d: '%s'", (int) c->error->code, told, (int) code, text);
    return c;
}

static int hand_over_put (const char *name, Factmesh__Cursor *cursor)
{
    Factmesh__CursorPut put = FACTMESH__CURSOR_PUT__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    put.name = control_put_slice (slice_of (name));
    put.cursor = cursor;
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_PUT;
    control.cursor_put = &put;
    return fake_hand_over ('a', &control);
}

static int put_at (const struct fake_journal *j, const char *name, uint64_t offset)
{
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    cursor.major = PROTO_MAJOR;
    cursor.journal = control_put_id (&j->context.journal);
    cursor.generation = j->context.generation;
    cursor.offset = offset;
    return hand_over_put (name, &cursor);
}

static int hand_over_delete (const char *name)
{
    Factmesh__CursorDelete delete = FACTMESH__CURSOR_DELETE__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    delete.name = control_put_slice (slice_of (name));
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_DELETE;
    control.cursor_delete = &delete;
    return fake_hand_over ('a', &control);
}

static int hand_over_get (const char *name)
{
    Factmesh__CursorGet get = FACTMESH__CURSOR_GET__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    get.name = control_put_slice (slice_of (name));
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_GET;
    control.cursor_get = &get;
    return fake_hand_over ('a', &control);
}

static int hand_over_list (const char *after)
{
    Factmesh__CursorList list = FACTMESH__CURSOR_LIST__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    list.after = control_put_slice (slice_of (after));
    control.body_case = FACTMESH__CONTROL__BODY_CURSOR_LIST;
    control.cursor_list = &list;
    return fake_hand_over ('a', &control);
}

static int hand_over_status (struct fm_slice after, uint32_t limit)
{
    Factmesh__StatusGet get = FACTMESH__STATUS_GET__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    get.streams_after = control_put_slice (after);
    get.streams_limit = limit;
    control.body_case = FACTMESH__CONTROL__BODY_STATUS_GET;
    control.status_get = &get;
    return fake_hand_over ('a', &control);
}

static int hand_over_credit (uint8_t from, uint64_t session, uint64_t bytes)
{
    Factmesh__ReplayCredit credit = FACTMESH__REPLAY_CREDIT__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    credit.session = session;
    credit.bytes = bytes;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_CREDIT;
    control.replay_credit = &credit;
    return fake_hand_over (from, &control);
}

/* What was handed over last has come into the log, and waits for the sync. */
static void wait_written (struct fake_journal *j)
{
    const uint64_t until = clock_real.monotonic_ns (NULL) + FAKE_PATIENCE_MS * (uint64_t) FAKE_NS_PER_MS;
    int rc;
    while ((rc = log_write (j->context.log)) == FM_ERR_END && clock_real.monotonic_ns (NULL) < until)
        (void) poll (NULL, 0, 1);
    assert_int_equal (rc, 0);
}

/* What comes into the log meanwhile is synced. */
static void wait_cursor_synced (struct fake_journal *j)
{
    const uint64_t until = clock_real.monotonic_ns (NULL) + FAKE_PATIENCE_MS * (uint64_t) FAKE_NS_PER_MS;
    const Factmesh__Control *c;
    while (!(c = fake_reply_within (1)) && clock_real.monotonic_ns (NULL) < until)
        assert_int_equal (fake_sync (j), 0);
    assert_non_null (c);
    assert_int_equal (c->body_case, FACTMESH__CONTROL__BODY_CURSOR_REPLY);
}

/* From the first fact on, and then what comes. */
static void ask_to_follow (uint8_t from, uint64_t session, uint64_t credit, Factmesh__Cursor *cursor)
{
    Factmesh__ReplayOpen open = FACTMESH__REPLAY_OPEN__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    open.session = session;
    open.credit = credit;
    open.end_case = FACTMESH__REPLAY_OPEN__END_FOLLOW;
    open.follow = true;
    if (cursor) {
        open.start_case = FACTMESH__REPLAY_OPEN__START_FROM_CURSOR;
        open.from_cursor = cursor;
    }
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_OPEN;
    control.replay_open = &open;
    assert_int_equal (fake_hand_over (from, &control), 0);
}

/* The server's thread answers a status until go_on, and takes nothing else meanwhile. */
static void hold_up (void)
{
    const unsigned begun = fake.replies_begun;
    const uint64_t until = clock_real.monotonic_ns (NULL) + FAKE_PATIENCE_MS * (uint64_t) FAKE_NS_PER_MS;
    pthread_mutex_lock (&fake.lock);
    const int rc = hand_over_status (slice (NULL, 0), 0);
    while (!rc && fake.replies_begun == begun && clock_real.monotonic_ns (NULL) < until)
        (void) poll (NULL, 0, 1);
    if (rc || fake.replies_begun == begun) {
        pthread_mutex_unlock (&fake.lock);
        fail_msg ("the server does not answer");
    }
}

static void go_on (void)
{
    pthread_mutex_unlock (&fake.lock);
    (void) fake_wait_reply (FACTMESH__CONTROL__BODY_STATUS_REPLY);
}

/* --- What is refused. */

static void a_request_that_makes_no_sense_is_refused_with_what_is_wrong (void **state)
{
    const struct fake_journal *j = *state;
    char longest[CURSOR_NAME_MAX + 2];
    Factmesh__Cursor newer = FACTMESH__CURSOR__INIT, strange = FACTMESH__CURSOR__INIT;
    memset (longest, 'x', sizeof longest);
    longest[CURSOR_NAME_MAX + 1] = '\0';
    newer.major = 77;
    strange.major = PROTO_MAJOR;
    strange.journal = control_put_slice (slice_of ("short"));
    assert_int_equal (put_at (j, "", 1), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_RANGE, "1 to 127 bytes, not 0");
    assert_int_equal (hand_over_get (longest), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_RANGE, "1 to 127 bytes, not 128");
    assert_int_equal (hand_over_delete ("a\nb"), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_RANGE, "a control byte at 1");
    assert_int_equal (hand_over_list (longest), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_RANGE, "at most 127 bytes, not 128");
    assert_int_equal (hand_over_put ("c", NULL), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_MALFORMED, "cursor_put without a cursor");
    assert_int_equal (hand_over_put ("c", &newer), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_VERSION, "a cursor of version 77");
    assert_int_equal (hand_over_put ("c", &strange), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_MALFORMED, "a cursor's journal id has 5 bytes, not 16");
    ask_to_follow ('a', 1, 1000, &newer);
    assert_int_equal (expect_error (FACTMESH__ERROR_CODE__ERROR_VERSION, "a cursor of version 77")->error->session, 1);
    assert_int_equal (hand_over_status (slice_of ("short"), 5), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_MALFORMED, "streams_after has 5 bytes, not 16");
    assert_int_equal (journal_counter (&j->context, JOURNAL_REQUESTS_REFUSED), 9);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_REFUSED), 1);
}

static void a_stored_cursor_that_does_not_decode_is_told_of_by_name_and_left_out_of_lists (void **state)
{
    struct fake_journal *j = *state;
    static const char *const good[] = { "after", "before" };
    uint64_t ticket;
    const struct log_cursor bad = { .name = "bad", .cursor = slice_of ("\xff\xff\xff") };
    assert_int_equal (log_cursor_put (j->context.log, &bad, &ticket), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal (put_at (j, good[i], 11), 0);
        wait_cursor_synced (j);
    }
    assert_int_equal (hand_over_get ("bad"), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_INTERNAL, "cursor 'bad' does not decode; delete it or put it anew");
    for (int i = 0; i < 2; i++) {
        assert_int_equal (hand_over_list (i ? "after" : ""), 0);
        const Factmesh__CursorReply *r = fake_wait_reply (FACTMESH__CONTROL__BODY_CURSOR_REPLY)->cursor_reply;
        assert_int_equal (r->n_cursors, 2 - i);
        for (size_t k = 0; k < r->n_cursors; k++) {
            const char *name = good[k + (size_t) i];
            assert_int_equal (r->cursors[k]->name.len, strlen (name));
            assert_memory_equal (r->cursors[k]->name.data, name, strlen (name));
            assert_int_equal (r->cursors[k]->cursor->offset, 11);
        }
    }
}

static void status_without_streams_and_with_more_counters_than_it_takes (void **state)
{
    (void) state;
    enum { COUNTERS_MAX = 128 };
    fake_node_counters = 2 * COUNTERS_MAX;
    assert_int_equal (hand_over_status (slice (NULL, 0), 0), 0);
    const Factmesh__StatusReply *r = fake_wait_reply (FACTMESH__CONTROL__BODY_STATUS_REPLY)->status_reply;
    fake_node_counters = 0;
    assert_int_equal (r->n_streams, 0);
    assert_int_equal (r->n_counters, COUNTERS_MAX);
    assert_int_equal (r->synced_offset, BATCHES * FACTS + 1);
    assert_int_equal (hand_over_status (slice (NULL, 0), 5), 0);
    assert_int_equal (fake_wait_reply (FACTMESH__CONTROL__BODY_STATUS_REPLY)->status_reply->n_streams, 1);
}

/* --- Waiting for the disk. */

static void a_cursor_that_does_not_become_durable_in_time_is_told_as_that (void **state)
{
    struct fake_journal *j = *state;
    assert_int_equal (put_at (j, "c", 5), 0);
    wait_written (j);
    fake.skipped_ns += SERVER_WAIT_MS * (uint64_t) FAKE_NS_PER_MS;
    assert_int_equal (hand_over_get ("nobody"), 0);             /* something to do */
    for (int i = 0; i < 2; i++) {
        const Factmesh__Control *c = fake_wait_reply (FACTMESH__CONTROL__BODY_ERROR);
        assert_true (c->error->code == FACTMESH__ERROR_CODE__ERROR_UNKNOWN_CURSOR || c->error->code == FACTMESH__ERROR_CODE__ERROR_TIMEOUT);
        if (c->error->code == FACTMESH__ERROR_CODE__ERROR_TIMEOUT)
            assert_non_null (strstr ((const char *) c->error->text.data, "cursor 'c' is not durable yet"));
    }
}

static void a_read_only_journal_refuses_cursors_and_says_why (void **state)
{
    struct fake_journal *j = *state;
    assert_int_equal (put_at (j, "c", 5), 0);
    wait_written (j);
    fail_fs_fail (j->fs, FAIL_SYNC, 1, -EIO);
    assert_int_equal (fake_sync (j), -EIO);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_READ_ONLY, "read-only after a failed write or sync: cursor 'c' is not durable");
    assert_int_equal (put_at (j, "d", 5), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_READ_ONLY, "");
    assert_int_equal (hand_over_delete ("d"), 0);
    (void) fake_wait_reply (FACTMESH__CONTROL__BODY_ERROR);
}

static void what_is_deleted_and_was_not_there_is_told (void **state)
{
    (void) state;
    assert_int_equal (hand_over_delete ("nobody"), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_CURSOR, "no cursor 'nobody'");
}

/* Beyond what may wait for the disk a cursor is refused at once; what waits is answered, or dropped with the server. */
static void no_more_cursors_wait_than_there_are_places (void **state)
{
    struct fake_journal *j = *state;
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < SERVER_WAITING_MAX; i++) {
            char name[20];
            (void) snprintf (name, sizeof name, "c%u", i % 50);
            assert_int_equal (put_at (j, name, 1 + i), 0);
            if (i % 512 == 511) {                   /* the queue is bounded, too */
                assert_int_equal (hand_over_status (slice (NULL, 0), 0), 0);
                (void) fake_wait_reply (FACTMESH__CONTROL__BODY_STATUS_REPLY);
            }
        }
        assert_int_equal (put_at (j, "one more", 1), 0);
        (void) expect_error (FACTMESH__ERROR_CODE__ERROR_LIMIT, "1024 cursors wait for the disk; ask again later");
        assert_int_equal (hand_over_delete ("c1"), 0);
        (void) expect_error (FACTMESH__ERROR_CODE__ERROR_LIMIT, "1024 cursors wait for the disk; ask again later");
        if (round == 0) {
            for (unsigned i = 0; i < SERVER_WAITING_MAX; i++)
                wait_cursor_synced (j);
        }
    }
    server_destroy (&server);
    assert_null (fake_reply_within (0));
}

/* --- A full queue. */

/* What is refused says so; what is not is done, and credit and closes have places of their own. */
static void a_full_queue_refuses_requests_first_and_then_credit (void **state)
{
    const struct fake_journal *j = *state;
    unsigned requests = 0, credits = 0;
    int refused, refused_credit;
    char why[200];
    hold_up ();
    while ((refused = hand_over_status (slice (NULL, 0), 0)) == 0)
        requests++;
    (void) snprintf (why, sizeof why, "%s", fm_error_detail ());
    while ((refused_credit = hand_over_credit ('a', 99, 1)) == 0)
        credits++;
    go_on ();
    assert_int_equal (refused, FM_ERR_LIMIT);
    assert_non_null (strstr (why, "1536 requests are waiting; ask again later"));
    assert_int_equal (requests, SERVER_QUEUE_OPENS_MAX);
    assert_int_equal (refused_credit, FM_ERR_LIMIT);
    assert_non_null (strstr (fm_error_detail (), "2048 messages are waiting: the session must be opened again"));
    assert_int_equal (credits, SERVER_QUEUE_MAX - SERVER_QUEUE_OPENS_MAX);
    for (unsigned i = 0; i < requests; i++)
        (void) fake_wait_reply (FACTMESH__CONTROL__BODY_STATUS_REPLY);
    for (unsigned i = 0; i < credits; i++)
        (void) expect_error (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_SESSION, "open it again");
    assert_int_equal (journal_counter (&j->context, JOURNAL_REQUESTS_REFUSED), 1);
}

static void who_cannot_be_told_now_is_not_told (void **state)
{
    (void) state;
    fake_let_replies (-EAGAIN, 0, 0);
    assert_int_equal (hand_over_status (slice (NULL, 0), 0), 0);
    fake_wait_tries (1);
    fake_let_replies (0, 0, 0);
    assert_int_equal (hand_over_get ("nobody"), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_CURSOR, "nobody");
}

/* --- Sessions. */

static const Factmesh__ReplayData *wait_data (uint64_t session)
{
    const Factmesh__ReplayData *d = fake_wait_reply (FACTMESH__CONTROL__BODY_REPLAY_DATA)->replay_data;
    assert_int_equal (d->session, session);
    return d;
}

static void whoever_has_none_gets_a_place_of_those_who_have_most (void **state)
{
    const struct fake_journal *j = *state;
    for (uint64_t i = 1; i <= 8; i++) {         /* all places; each with credit for its first message */
        ask_to_follow (i < 5 ? 'a' : 'b', i, 1, NULL);
        (void) wait_data (i);
    }
    ask_to_follow ('a', 9, 1, NULL);            /* who has some gets no more */
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_LIMIT, "8 replays are open: the limit");
    ask_to_follow ('c', 10, 1, NULL);
    const Factmesh__Control *c = expect_error (FACTMESH__ERROR_CODE__ERROR_TIMEOUT, "all replays are taken, and this connection has most of them");
    assert_int_equal (c->error->session, 1);    /* the one that waits longest for credit */
    (void) wait_data (10);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_DROPPED), 1);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_OPENED), 9);
}

static void a_number_that_is_used_again_begins_anew (void **state)
{
    const struct fake_journal *j = *state;
    struct heard again[] = { { .session = 7 } };
    ask_to_follow ('a', 7, 1, NULL);
    (void) wait_data (7);
    ask ('a', 7);
    hear_all (again, 1);
    ask ('a', 7);
    again[0] = (struct heard) { .session = 7 };
    hear_all (again, 1);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_OPENED), 3);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_DROPPED), 0);
}

/* Until this session has nothing to say but that it is there. */
static void hear_until_caught_up (uint64_t session)
{
    for (;;) {
        const Factmesh__Control *c = fake_wait_reply (FACTMESH__CONTROL__BODY_REPLAY_DATA);
        if (c->replay_data->session == session && c->replay_data->caught_up)
            return;
        assert_true (c->replay_data->session == session || is_keepalive (c));
    }
}

static void sessions_that_are_silent_for_too_long_are_ended_and_those_that_follow_kept_alive (void **state)
{
    const struct fake_journal *j = *state;
    ask_to_follow ('a', 1, 4 << 20, NULL);
    hear_until_caught_up (1);
    for (int i = 0; i < 3; i++) {
        fake.skipped_ns += SERVER_KEEPALIVE_MS * (uint64_t) FAKE_NS_PER_MS;
        const Factmesh__ReplayData *d = wait_data (1);
        assert_true (d->caught_up && d->n_batches == 0);
        assert_int_equal (d->next_offset, BATCHES * FACTS + 1);
    }
    /* Without credit. */
    ask_to_follow ('b', 2, 1, NULL);
    (void) wait_data (2);
    assert_int_equal (hand_over_status (slice (NULL, 0), 0), 0);      /* it has had its turn without credit by the answer to this */
    (void) fake_wait_reply (FACTMESH__CONTROL__BODY_STATUS_REPLY);
    fake.skipped_ns += SERVER_IDLE_MS * (uint64_t) FAKE_NS_PER_MS;
    assert_int_equal (expect_error (FACTMESH__ERROR_CODE__ERROR_TIMEOUT, "no credit for too long")->error->session, 2);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_DROPPED), 1);
}

static void an_asker_whose_queue_stays_full_is_forgotten_in_the_end (void **state)
{
    const struct fake_journal *j = *state;
    const uint64_t until = clock_real.monotonic_ns (NULL) + FAKE_PATIENCE_MS * (uint64_t) FAKE_NS_PER_MS;
    fake_let_replies (-EAGAIN, 0, 0);
    ask_to_follow ('a', 1, 4 << 20, NULL);
    fake_wait_tries (2);
    fake.skipped_ns += SERVER_IDLE_MS * (uint64_t) FAKE_NS_PER_MS;
    while (journal_counter (&j->context, JOURNAL_SESSIONS_DROPPED) == 0) {
        assert_true (clock_real.monotonic_ns (NULL) < until);
        (void) poll (NULL, 0, 1);
    }
    fake_let_replies (0, 0, 0);
    assert_int_equal (hand_over_credit ('a', 1, 100), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_SESSION, "open it again");
}

/* More sessions than readers of the log, all in the midst of it. */
enum { RESTING = 20, SESSIONS = SERVER_READERS_MAX + RESTING };

static struct heard heard_by[SESSIONS + 1];     /* of each session */

/* The first RESTING have given up their readers to the last ones. */
static void fill_readers (struct fake_journal *j)
{
    server_destroy (&server);
    j->context.options = (struct journal_options) { .sessions_max = SESSIONS, .sessions_per_peer_max = 4 };
    assert_int_equal (server_new (&j->context, &server), 0);
    for (unsigned i = 0; i < SESSIONS; i++) {
        ask_to_follow ((uint8_t) (1 + i % 100), 1 + i, 1, NULL);
        heard_by[1 + i] = (struct heard) { .session = 1 + i };
        take_batches (&heard_by[1 + i], wait_data (1 + i));
    }
}

/* A waiting one gives its reader up, and goes on all the same. */
static void more_sessions_than_readers_all_come_to_the_end (void **state)
{
    struct fake_journal *j = *state;
    fill_readers (j);
    for (unsigned i = 0; i < SESSIONS; i++) {
        assert_int_equal (hand_over_credit ((uint8_t) (1 + i % 100), 1 + i, 4 << 20), 0);
        hear_until_caught_up (1 + i);
    }
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_DROPPED), 0);
    assert_int_equal (journal_counter (&j->context, JOURNAL_SESSIONS_REFUSED), 0);
}

/* Segments' files that are open in this process. */
static unsigned open_segments (void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 2 * SESSIONS; fd++) {
        char link[32], path[300] = "";
        (void) snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
        const ssize_t len = readlink (link, path, sizeof path - 1);
        count += len > 4 && strcmp (path + len - 4, ".seg") == 0;
    }
    return count;
}

/* All of these have their turn; the first one needs a reader, and those that have none wait behind all that have. */
static void a_reader_is_taken_from_one_that_has_one (void **state)
{
    enum { WHOLE = SESSIONS - RESTING, ASKED = WHOLE + 2, CREDIT = FACTS * PAYLOAD / 2 };         /* for one batch */
    struct fake_journal *j = *state;
    unsigned asked[ASKED] = { 1 }, refused = 0;
    const unsigned others = open_segments ();
    fill_readers (j);
    for (unsigned i = 0; i < WHOLE; i++)
        asked[1 + i] = RESTING + 1 + i;
    asked[ASKED - 1] = 2;
    hold_up ();
    for (unsigned i = 0; i < ASKED; i++)
        refused += hand_over_credit ((uint8_t) (1 + (asked[i] - 1) % 100), asked[i], CREDIT) != 0;
    go_on ();
    assert_int_equal (refused, 0);
    for (unsigned i = 0; i < ASKED; i++) {
        const Factmesh__ReplayData *d = fake_wait_reply (FACTMESH__CONTROL__BODY_REPLAY_DATA)->replay_data;
        assert_true (d->session <= SESSIONS && d->n_batches == 1);
        take_batches (&heard_by[d->session], d);
    }
    for (unsigned i = 0; i < ASKED; i++)
        assert_int_equal (heard_by[asked[i]].batches, 1);
    assert_int_equal (hand_over_status (slice (NULL, 0), 0), 0);
    (void) fake_wait_reply (FACTMESH__CONTROL__BODY_STATUS_REPLY);
    assert_int_equal (open_segments (), others + SERVER_READERS_MAX);
}

/* They have no credit, and so have not said yet how the streams stand at their beginning. */
static void sessions_that_have_just_begun_give_their_readers_up_too (void **state)
{
    struct fake_journal *j = *state;
    const unsigned others = open_segments ();
    server_destroy (&server);
    j->context.options = (struct journal_options) { .sessions_max = SESSIONS, .sessions_per_peer_max = 4 };
    assert_int_equal (server_new (&j->context, &server), 0);
    for (unsigned i = 0; i < SESSIONS; i++) {
        ask_to_follow ((uint8_t) (1 + i % 100), 1 + i, 0, NULL);
        heard_by[1 + i] = (struct heard) { .session = 1 + i };
    }
    assert_int_equal (hand_over_status (slice (NULL, 0), 0), 0);
    (void) fake_wait_reply (FACTMESH__CONTROL__BODY_STATUS_REPLY);
    assert_int_equal (open_segments (), others + SERVER_READERS_MAX);
    for (unsigned i = 0; i < SESSIONS; i++) {
        assert_int_equal (hand_over_credit ((uint8_t) (1 + i % 100), 1 + i, 4 << 20), 0);
        hear_until_caught_up (1 + i);
    }
}

/* One that gave its reader up needs a descriptor to go on. */
static void a_session_that_cannot_go_on_ends_with_an_error_and_no_other_does (void **state)
{
    struct fake_journal *j = *state;
    struct rlimit files, none;
    fill_readers (j);
    assert_int_equal (getrlimit (RLIMIT_NOFILE, &files), 0);
    none = files;
    none.rlim_cur = 0;
    assert_int_equal (setrlimit (RLIMIT_NOFILE, &none), 0);
    assert_int_equal (hand_over_credit (1, 1, 4 << 20), 0);
    const Factmesh__Control *c = fake_reply_within (FAKE_PATIENCE_MS);
    assert_int_equal (setrlimit (RLIMIT_NOFILE, &files), 0);
    assert_non_null (c);
    assert_int_equal (c->body_case, FACTMESH__CONTROL__BODY_ERROR);
    assert_int_equal (c->error->session, 1);
    assert_int_equal (c->error->code, FACTMESH__ERROR_CODE__ERROR_INTERNAL);
    for (unsigned i = 1; i < SESSIONS; i++) {
        assert_int_equal (hand_over_credit ((uint8_t) (1 + i % 100), 1 + i, 4 << 20), 0);
        hear_until_caught_up (1 + i);
    }
    assert_int_equal (hand_over_credit (1, 1, 1), 0);
    (void) expect_error (FACTMESH__ERROR_CODE__ERROR_UNKNOWN_SESSION, "open it again");
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (a_request_that_makes_no_sense_is_refused_with_what_is_wrong),
        CASE (a_stored_cursor_that_does_not_decode_is_told_of_by_name_and_left_out_of_lists),
        CASE (status_without_streams_and_with_more_counters_than_it_takes),
        CASE (a_cursor_that_does_not_become_durable_in_time_is_told_as_that),
        CASE (a_read_only_journal_refuses_cursors_and_says_why),
        CASE (what_is_deleted_and_was_not_there_is_told),
        CASE (no_more_cursors_wait_than_there_are_places),
        CASE (a_full_queue_refuses_requests_first_and_then_credit),
        CASE (who_cannot_be_told_now_is_not_told),
        CASE (whoever_has_none_gets_a_place_of_those_who_have_most),
        CASE (a_number_that_is_used_again_begins_anew),
        CASE (sessions_that_are_silent_for_too_long_are_ended_and_those_that_follow_kept_alive),
        CASE (an_asker_whose_queue_stays_full_is_forgotten_in_the_end),
        CASE (more_sessions_than_readers_all_come_to_the_end),
        CASE (a_reader_is_taken_from_one_that_has_one),
        CASE (sessions_that_have_just_begun_give_their_readers_up_too),
        CASE (a_session_that_cannot_go_on_ends_with_an_error_and_no_other_does),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
