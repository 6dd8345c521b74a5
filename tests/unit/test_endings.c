/* How pub, sub, work, respond and a step of a cursor end when the library does what it seldom does: the words, the status, and what was done until then. */

#include <poll.h>
#include <sys/resource.h>

#include "scripted_library.h"

static int set_up (void **state)
{
    (void) state;
    play_set_up ();
    return unsetenv ("FACTMESH_SEED") || unsetenv ("FACTMESH_MESH");
}

#define REFUSED "a journal refuses the stream, or gave up facts of it"
#define UNKNOWN(recorded, missing, first)                                                                                                                        \
    recorded " facts are recorded; of " missing " more that were published (from fact " first " on) it is not known: a journal may or may not have them\n"

/* --- pub. */

static void pub_says_what_is_recorded_however_it_ends (void **state)
{
    (void) state;
    const struct play plays[] = {
        { "pub a one two --verbose", NULL, .err = "factmesh pub: 2 facts recorded\n" },
        /* A window that is full: it waits for as long as something moves. */
        { "pub a one", STEPS ({ PUBLISH, FM_ERR_WINDOW_FULL, .times = 4, .pass_ms = 4000 }), CLI_TIMEOUT,
          .err = "factmesh pub: fact 1: timed out; nothing from there on was published; no journal recorded anything for 10000 ms: 0 facts are recorded\n" },
        { "pub a one", STEPS ({ PUBLISH, FM_ERR_WINDOW_FULL, .times = 2, .pass_ms = 4000 }) },
        { "pub a one two", STEPS ({ PUBLISH }, { PUBLISH, FM_ERR_WINDOW_FULL, "full", .signal = SIGINT }, { WAIT_SYNCED, FM_TIMEOUT, .times = FOR_EVER, .behind = 1 }), 128 + SIGINT,
          .err = "factmesh pub: interrupted: " UNKNOWN ("0", "1", "1") },
        { "pub a one", STEPS ({ WAIT_SYNCED, FM_TIMEOUT, .behind = 1, .signal = SIGTERM }, { WAIT_SYNCED, FM_TIMEOUT, .times = FOR_EVER, .behind = 1 }), 128 + SIGTERM,
          .err = "factmesh pub: interrupted: " UNKNOWN ("0", "1", "1") },
        { "pub a one two", STEPS ({ PUBLISH }, { PUBLISH, FM_ERR_LOST, "another has it" }), CLI_ERROR,
          .err = "factmesh pub: fact 2: lost: " REFUSED ": another has it; nothing from there on was published; 1 facts are recorded\n" },
        { "pub a one two", STEPS ({ WAIT_SYNCED, FM_TIMEOUT, "one is missing", .times = FOR_EVER, .behind = 1 }), CLI_TIMEOUT,
          .err = "factmesh pub: timed out: no journal recorded anything for 10000 ms (one is missing): " UNKNOWN ("1", "1", "2") },
        { "pub a one", STEPS ({ WAIT_SYNCED, FM_ERR_LOST, "another has it", .behind = 1 }), CLI_ERROR,
          .err = "factmesh pub: 0 facts are recorded; of 1 more that were published (from fact 1 on) it is not known: a journal may or may not have them: lost: " REFUSED ": another has it\n" },
        { "pub a one", STEPS ({ WAIT_SYNCED, FM_INTERRUPTED, .times = 3, .behind = 1 }) },
        { "pub a one two --no-wait", STEPS ({ PUBLISH }, { PUBLISH, -EIO, "broken" }), CLI_ERROR,
          .err = "factmesh pub: fact 2: Input/output error: broken; the 1 facts before were published, nothing from there on\n" },
        { "pub a one --no-wait", STEPS ({ PUBLISH, FM_ERR_WINDOW_FULL, .signal = SIGINT }), 128 + SIGINT },
        /* A signal between two records of a file. */
        { "pub a --file /proc/self/cmdline --null", STEPS ({ PUBLISH, .signal = SIGINT }), 128 + SIGINT, .err = "factmesh pub: interrupted: 1 facts are recorded\n" },
    };
    PLAY_ALL (plays);
}

static void what_a_journal_gave_up_is_published_again (void **state)
{
    (void) state;
    static const struct fm_fact lost = { .topic = { "a", 1 }, .payload = { "lost", 4 } };
#define LOST { WAIT_SYNCED }, { WAIT_SYNCED, FM_ERR_LOST, "1 to 2", .behind = 0 }, { LOST_NEXT, .fact = &lost, .times = 2 }
    static const char again[] = "factmesh pub: 2 facts that a journal gave up were published again\n";
    const struct play plays[] = {
        { "pub a one --lost-again --identity d --window-on-disk", STEPS (LOST), .err = again },
        { "pub a one --identity d --window-on-disk", STEPS (LOST), CLI_ERROR, .err = "factmesh pub: 1 facts are recorded: lost: " REFUSED ": 1 to 2\n" },
        { "pub a one --lost-again --identity d --window-on-disk",
          STEPS (LOST, { PUBLISH, .times = 2 }, { PUBLISH, FM_ERR_WINDOW_FULL, .times = 2, .pass_ms = 4000 }, { WAIT_SYNCED, FM_TIMEOUT, .times = 3 }), .err = again },
        { "pub a one --lost-again --identity d --window-on-disk", STEPS (LOST, { PUBLISH, .times = 2 }, { PUBLISH, FM_ERR_WINDOW_FULL, "full", .times = FOR_EVER, .pass_ms = 4000 }), CLI_TIMEOUT,
          .err = "factmesh pub: timed out: no journal recorded anything for 10000 ms (full): 1 facts are recorded\n" },
        { "pub a one --lost-again --identity d --window-on-disk", STEPS (LOST, { PUBLISH }, { PUBLISH, FM_ERR_WINDOW_FULL, .signal = SIGINT }), 128 + SIGINT,
          .err = "factmesh pub: interrupted: 1 facts are recorded\n" },
        { "pub a one --lost-again --identity d --window-on-disk", STEPS (LOST, { LOST_NEXT, -EIO, "unreadable" }), CLI_ERROR,
          .err = "factmesh pub: 1 facts are recorded: Input/output error: unreadable\n" },
        { "pub a one --lost-again --identity d --window-on-disk", STEPS (LOST, { WAIT_SYNCED, FM_ERR_LOST, "refused" }), CLI_ERROR,
          .err = "factmesh pub: 1 facts are recorded: lost: " REFUSED ": refused\n" },
    };
    library.recovered = 1;
    PLAY_ALL (plays);
    /* The ack log goes no further than what is on disk, and on when what is not has been published again. */
    library.recovered = 4;
    library.lost = 3;
    const struct play acked[] = {
        { "pub a 1 2 3 4 5 --identity d --window-on-disk --ack-log /dev/stdout", STEPS (LOST), CLI_ERROR, STREAM " 2\n",
          "factmesh pub: 5 facts are recorded: lost: " REFUSED ": 1 to 2\n" },
        { "pub a 1 2 3 4 5 --lost-again --identity d --window-on-disk --ack-log /dev/stdout", STEPS (LOST), CLI_OK, STREAM " 2\n" STREAM " 7\n", again },
    };
    PLAY_ALL (acked);
    library.recovered = library.lost = 0;
}

/* --- sub. */

static const struct fm_event fact = { .kind = FM_EVENT_FACT, .fact = { .id = { { { 's' } }, 1 }, .topic = { "a", 1 }, .payload = { "one", 3 } } };
static const struct fm_event gap = { .kind = FM_EVENT_GAP, .gap = { { { 's' } }, 5, 8, FM_GAP_EXPIRED } };
static const struct fm_event caught_up = { .kind = FM_EVENT_CAUGHT_UP }, fell_behind = { .kind = FM_EVENT_FELL_BEHIND };

static void sub_tells_what_happens_to_it (void **state)
{
    (void) state;
    static const char conflict[] = "factmesh sub: two incarnations of one stream and epoch: stream s comes twice\n";
    const struct play plays[] = {
        { "sub -n 1", STEPS ({ NEXT, .event = &caught_up }, { NEXT, .event = &fell_behind }, { NEXT, .event = &caught_up }, { NEXT, .event = &fact }), CLI_OK, "one\n",
          "factmesh sub: caught up: live from here on\nfactmesh sub: fell behind: reading from the journal\nfactmesh sub: caught up: live from here on\n" },
        { "sub -n 1 --json", STEPS ({ NEXT, .event = &fell_behind }, { NEXT, .event = &caught_up }, { NEXT, .event = &fell_behind }, { NEXT, -EIO, "broken" }), CLI_ERROR,
          "{\"event\":\"fell_behind\"}\n{\"event\":\"caught_up\"}\n{\"event\":\"fell_behind\"}\n", "factmesh sub: after 0 facts: Input/output error: broken\n" },
        /* A conflict is told, and it goes on. */
        { "sub -n 1", STEPS ({ NEXT, FM_ERR_CONFLICT, "stream s comes twice" }, { NEXT, .event = &fact }), CLI_OK, "one\n", conflict },
        /* So is another generation of the journal; but a cursor is a place in the one before. */
        { "sub -n 1", STEPS ({ NEXT, FM_ERR_GENERATION, "restored" }, { NEXT, .event = &fact }), CLI_OK, "one\n", "factmesh sub: a cursor of another journal or generation: restored\n" },
        { "sub -n 1 --cursor c", STEPS ({ NEXT, FM_ERR_GENERATION, "restored" }), CLI_ERROR, "",
          "factmesh sub: after 0 facts: a cursor of another journal or generation: restored\n" },
        { "sub --timeout 3s", STEPS ({ NEXT, .event = &fact }), CLI_TIMEOUT, "one\n", "factmesh sub: timed out: nothing came for 3000 ms; 1 facts were printed\n" },
        { "sub", STEPS ({ NEXT, FM_INTERRUPTED, .signal = SIGINT }, { WAIT }), 128 + SIGINT },
        { "sub", STEPS ({ NEXT, .event = &fact, .signal = SIGTERM }), 128 + SIGTERM, "one\n" },
        /* Whoever read it has gone. */
        { "sub", STEPS ({ NEXT, .event = &fact }, { NEXT, FM_TIMEOUT }, { WAIT, -EPIPE }), CLI_OK, "one\n" },
        /* A cursor is acknowledged behind what was written, and made durable at the end. */
        { "sub -n 1 --cursor c", STEPS ({ NEXT, .event = &fact }, { COMMIT, FM_ERR_NO_JOURNAL, "it went" }), CLI_TIMEOUT, "one\n",
          "factmesh sub: 1 facts were printed, but cursor 'c' may stand before them: no journal in the mesh: it went\n" },
        { "sub --cursor c b", STEPS ({ FILTERS, .text = "a" }), CLI_USAGE, .err = "factmesh sub: cursor 'c' is of a; give that pattern, another cursor, or --force\nTry 'factmesh sub --help'.\n" },
        { "sub --cursor c -n 1 --fail-on-gap", STEPS ({ NEXT, .event = &gap }, { NEXT, .event = &fact }), CLI_GAP, "one\n",
          "factmesh sub: gap: stream " STREAM ", sequences 5 to 7 (3) are missing: expired: deleted by the journal's retention\n" },
    };
    PLAY_ALL (plays);
}

/* --- work, respond. */

static const struct fm_fact order = { .id = { { { 's' } }, 1 }, .topic = { "a", 1 }, .payload = { "one", 3 }, .correlation = { "c", 1 } };

static void no_descriptors (void)
{
    const struct rlimit none = { .rlim_cur = 0, .rlim_max = 0 };
    (void) setrlimit (RLIMIT_NOFILE, &none);
}

static void work_ends_as_it_should (void **state)
{
    (void) state;
    const struct play plays[] = {
        { "work g --exec true -n 1 --in-hand 3", STEPS ({ HANDLE, FM_INTERRUPTED }, { HANDLE, .fact = &order }), .told = "join g in_hand 3 journal any\noutcome 1: its handler ended with status 0\n" },
        { "work g --exec true --timeout 1s", STEPS ({ HANDLE, .fact = &order }), CLI_TIMEOUT, .err = "factmesh work: timed out: there was nothing to do for 1000 ms; 1 facts were handled\n" },
        { "work g --exec true", STEPS ({ HANDLE, .fact = &order }, { HANDLE, FM_ERR_READ_ONLY, "its disk failed" }), CLI_ERROR,
          .err = "factmesh work: after 1 facts: the journal is read-only after a failed write or sync: its disk failed\n" },
        { "work g --exec true", STEPS ({ HANDLE, FM_INTERRUPTED, .signal = SIGINT }), 128 + SIGINT },
        { "work g --exec true -n 1", STEPS ({ HANDLE, .fact = &order }, { WORKER_COMMIT, FM_ERR_LEASE, "one" }), CLI_ERROR,
          .err = "factmesh work: 1 facts were handled: the lease has run out: another instance may have it: one\n" },
        /* A handler that cannot even begin had no effect. */
        { "work g --exec true -n 1", STEPS ({ HANDLE, .fact = &order, .before = no_descriptors }), .told = "outcome 3: its handler could not be started: Too many open files\n" },
        { "work g --exec true", STEPS ({ WORKER_OPEN, FM_ERR_ARGUMENT, "other topics" }), CLI_ERROR, .err = "factmesh work: cannot join group 'g': bad argument: other topics\n" },
    };
    PLAY_ALL (plays);
}

/* As a process that the handler started and that outlives it. */
static void cut_the_answer (void)
{
    static const char answer[] = "/memfd:response";
    for (int fd = 3; fd < 64; fd++) {
        char path[64], name[64] = "";
        (void) snprintf (path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink (path, name, sizeof name - 1) > 0 && strncmp (name, answer, sizeof answer - 1) == 0 && ftruncate (fd, 0) != 0)
            abort ();
    }
}

static void respond_ends_as_it_should (void **state)
{
    (void) state;
    static const struct fm_fact late = { .id = { { { 's' } }, 1 }, .topic = { "a", 1 }, .payload = { "one", 3 }, .correlation = { "c", 1 }, .expires_ns = 1 };
    const struct fm_event asked = { .kind = FM_EVENT_FACT, .fact = order }, expired = { .kind = FM_EVENT_FACT, .fact = late };
#define LISTENING "factmesh respond: listening\n"
#define UNRECORDED "factmesh respond: no journal has recorded the response: the request comes again\n"
    const struct play plays[] = {
        { "respond a --exec cat -n 1", STEPS ({ NEXT, FM_TIMEOUT }, { NEXT, FM_ERR_CONFLICT, "s" }, { NEXT, FM_ERR_GENERATION, "g" }, { NEXT, .event = &gap }, { NEXT, .event = &expired }, { NEXT, .event = &asked }), CLI_OK,
          .err = LISTENING, .told = "respond type  identity : one\n" },
        { "respond a --exec cat -n 2 --quiet", STEPS ({ NEXT, .event = &asked, .times = 2 }, { RESPOND, FM_ERR_TOPIC, "too long" }), CLI_OK },
        { "respond a --exec cat -n 2", STEPS ({ NEXT, .event = &asked, .times = 2 }, { RESPOND, FM_ERR_TOPIC, "too long" }), CLI_OK,
          .err = LISTENING "factmesh respond: no response: malformed topic or pattern\n" },
        { "respond a --exec cat", STEPS ({ NEXT, .event = &asked }, { RESPOND, FM_ERR_LOST, "another has it" }), CLI_ERROR,
          .err = LISTENING "factmesh respond: after 1 requests: lost: " REFUSED ": another has it\n" },
        /* What the handler left behind cuts the answer while it is published. */
        { "respond a --exec cat -n 1", STEPS ({ NEXT, .event = &asked }, { RESPOND, .before = cut_the_answer }), CLI_OK, .err = LISTENING, .told = "respond type  identity : one\n" },
        { "respond a --exec cat --group g -n 1", STEPS ({ HANDLE, .fact = &order }), CLI_OK, .err = LISTENING, .told = "respond type  identity g/" STREAM ":1: one\noutcome 1: " },
        /* Done when the response is on a journal's disk; until then nothing is wrong with the request. */
        { "respond a --exec cat --group g -n 1", STEPS ({ HANDLE, .fact = &order }, { WAIT_SYNCED, FM_TIMEOUT, .times = 20 }), CLI_OK, .err = LISTENING,
          .told = "respond type  identity g/" STREAM ":1: one\noutcome 1: " },
        { "respond a --exec cat --group g -n 1", STEPS ({ HANDLE, .fact = &order }, { WAIT_SYNCED, FM_TIMEOUT, "no journal", .times = FOR_EVER }), CLI_OK,
          .err = LISTENING UNRECORDED, .told = "respond type  identity g/" STREAM ":1: one\noutcome 2: " },
        { "respond a --exec cat --group g", STEPS ({ HANDLE, .fact = &order }, { WAIT_SYNCED, FM_TIMEOUT, .signal = SIGTERM }), 128 + SIGTERM, .err = LISTENING UNRECORDED,
          .told = "respond type  identity g/" STREAM ":1: one\noutcome 2: " },
        { "respond a --exec cat --group g -n 1", STEPS ({ HANDLE, .fact = &order }, { RESPOND, FM_ERR_WINDOW_FULL }), CLI_OK, .err = LISTENING UNRECORDED, .told = "outcome 2: " },
        { "respond a --exec cat --group g", STEPS ({ HANDLE, .fact = &order }, { RESPOND, FM_ERR_LOST, "another has it" }), CLI_ERROR,
          .err = LISTENING "factmesh respond: after 1 requests: lost: " REFUSED ": another has it\n", .told = "outcome 2: another has it\n" },
        { "respond a --exec cat --group g -n 1", STEPS ({ HANDLE, .fact = &order }, { RESPOND, FM_ERR_TOO_LARGE, "no" }), CLI_OK, .err = LISTENING, .told = "outcome 3: larger than the limit\n" },
        { "respond a --exec cat --group g", STEPS ({ HANDLE, FM_ERR_READ_ONLY, "its disk failed" }), CLI_ERROR,
          .err = LISTENING "factmesh respond: after 0 requests: the journal is read-only after a failed write or sync: its disk failed\n" },
        { "respond a --exec cat", STEPS ({ NEXT, FM_INTERRUPTED, .signal = SIGTERM }), 128 + SIGTERM, .err = LISTENING },
    };
    PLAY_ALL (plays);
    /* Without a lease another instance may be at it: nothing is run. */
    const struct play late_plays[] = {
        { "respond a --exec cat --group g -n 1", STEPS ({ HANDLE, .fact = &order }), CLI_OK,
          .err = LISTENING "factmesh respond: no response: the handler took longer than its lease, and was killed\n", .told = "outcome 3: " },
        { "work g --exec true -n 1 --quiet", STEPS ({ HANDLE, .fact = &order }), .told = "outcome 5: its handler took longer than its lease, and was killed\n" },
    };
    library.left_ms = 0;
    PLAY_ALL (late_plays);
    library.left_ms = 1000;
}

/* --- request. */

/* What looks for signals only where one ends a wait. */
static void wait_for_a_signal (void)
{
    enum { PATIENCE_MS = 20000 };
    if (poll (NULL, 0, PATIENCE_MS) == 0)
        script_failed ("no signal ends the wait");
}

static void wait_again_and_again (void)
{
    (void) raise (SIGTERM);                     /* while nothing waits */
    wait_for_a_signal ();
    wait_for_a_signal ();                       /* what follows it may come while nothing waits, too */
}

static void a_signal_that_no_wait_met_ends_a_request_all_the_same (void **state)
{
    (void) state;
    const struct play plays[] = {
        { "request a x", STEPS ({ REQUEST, FM_INTERRUPTED, .before = wait_again_and_again }), 128 + SIGTERM },
        { "request a x", STEPS ({ WAIT_MEMBERS, .signal = SIGINT }, { REQUEST, FM_INTERRUPTED, .before = wait_for_a_signal }), 128 + SIGINT },
    };
    PLAY_ALL (plays);
}

/* --- Beyond a cursor. */

static void a_step_goes_over_facts_and_says_which (void **state)
{
    (void) state;
    static const struct fm_event other = { .kind = FM_EVENT_FACT, .fact = { .id = { { { 't' } }, 4 }, .topic = { "b", 1 } } };
    static const struct fm_event second = { .kind = FM_EVENT_FACT, .fact = { .id = { { { 's' } }, 2 }, .topic = { "a", 1 } } };
#define T "74000000000000000000000000000000"
#define MANY { NEXT, .event = &gap }, { NEXT, FM_INTERRUPTED }, { NEXT, .event = &other }, { NEXT, .event = &fell_behind }, { NEXT, .event = &fact }, { NEXT, .event = &second }, \
             { NEXT, .event = &caught_up }
    const struct play plays[] = {
        { "cursor seek c --skip 2", STEPS (MANY, { FILTERS, .text = "a,b" }), CLI_OK, "over " T ":4 b\nover " STREAM ":1 a\nc: stepped over 2 facts\n", .told = ": a b\nput 2 positions of a,b\n" },
        { "cursor seek c --skip 9 --quiet", STEPS (MANY), CLI_OK, .told = "put 2 positions of \n" },
        { "cursor seek c --skip 1", STEPS (MANY), CLI_OK, "over " T ":4 b\nc: stepped over 1 fact\n" },
        { "cursor seek c --skip 1", STEPS ({ NEXT, .event = &caught_up }), CLI_ERROR, .err = "factmesh cursor: no fact lies beyond cursor 'c' yet\n" },
        { "cursor seek c --past " STREAM ":1", STEPS (MANY), CLI_OK, "over " STREAM ":1 a\nc: stepped over 1 fact\n" },
        { "cursor seek c --past " STREAM ":2", STEPS (MANY), CLI_ERROR,
          .err = "factmesh cursor: " STREAM ":1 of the same stream comes before it and is not done either; --force steps over all up to it\n" },
        { "cursor seek c --past " STREAM ":2 --force", STEPS (MANY), CLI_OK, "over " STREAM ":1 a\nover " STREAM ":2 a\nc: stepped over 2 facts\n", .told = "put 1 positions" },
        { "cursor seek c --past " T ":3", STEPS (MANY), CLI_ERROR, .err = "factmesh cursor: " T ":3 is not among the facts of cursor 'c'; the next of its stream is " T ":4\n" },
        { "cursor seek c --past " STREAM ":3 --force", STEPS (MANY), CLI_ERROR, "over " STREAM ":1 a\nover " STREAM ":2 a\n",
          "factmesh cursor: cursor 'c' has no fact " STREAM ":3 before it; factmesh cursor show c tells the next\n" },
        { "cursor seek c --skip 1", STEPS ({ CURSOR, FM_ERR_UNKNOWN, "no" }), CLI_ERROR, .err = "factmesh cursor: the journal: no such thing: no\n" },
        { "cursor seek c --skip 1", STEPS ({ FILTERS, FM_TIMEOUT, "silent" }), CLI_TIMEOUT, .err = "factmesh cursor: the journal: timed out: silent\n" },
        { "cursor seek c --skip 1", STEPS ({ SUBSCRIBE, FM_ERR_GENERATION, "of another" }), CLI_ERROR,
          .err = "factmesh cursor: cannot read from cursor 'c' on: a cursor of another journal or generation: of another\n" },
        { "cursor seek c --skip 1", NULL, CLI_TIMEOUT, .err = "factmesh cursor: cannot read from cursor 'c' on: timed out: nothing came\n" },
        { "cursor seek c --skip 1", STEPS (MANY, { LINK_REQUEST, FM_ERR_READ_ONLY, "its disk failed" }), CLI_ERROR, "over " T ":4 b\n",
          "factmesh cursor: the journal: the journal is read-only after a failed write or sync: its disk failed\n" },
        /* What comes next, shown. */
        { "cursor show c --next 1 --json", STEPS ({ NEXT, .event = &gap }, { NEXT, .event = &caught_up }), CLI_OK,
          "{\"name\":\"c\",\"offset\":0,\"behind\":0,\"updated\":\"1970-01-01T00:00:00.000000000Z\",\"filters\":\"\"}\n"
          "{\"event\":\"gap\",\"stream\":\"" STREAM "\",\"first_seq\":5,\"end_seq\":8,\"reason\":\"expired\"}\n" },
        { "cursor show c --next 1", STEPS ({ NEXT, .event = &gap }, { NEXT, .event = &caught_up }), CLI_OK,
          "cursor      c\ntopics      \njournal     00000000000000000000000000000000, generation 0\noffset      0\nbehind      0 facts\nmoved       1970-01-01T00:00:00.000000000Z\n"
          "gap " STREAM ":5 to 7: expired\n" },
    };
    PLAY_ALL (plays);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (pub_says_what_is_recorded_however_it_ends),
        cmocka_unit_test (what_a_journal_gave_up_is_published_again),
        cmocka_unit_test (sub_tells_what_happens_to_it),
        cmocka_unit_test (work_ends_as_it_should),
        cmocka_unit_test (respond_ends_as_it_should),
        cmocka_unit_test (a_signal_that_no_wait_met_ends_a_request_all_the_same),
        cmocka_unit_test (a_step_goes_over_facts_and_says_which),
    };
    return cmocka_run_group_tests (tests, set_up, NULL);
}
