/* live_set: peers by script (scripted_live.h) that come, go, move, cannot be connected to, are too many, and send what no peer should. */

#include "scripted_live.h"

#include "live_set.h"

static struct live_set *set;
static int epoll_fd;

static int set_up (void **state)
{
    set = NULL;
    epoll_fd = epoll_create1 (EPOLL_CLOEXEC);
    return live_set_up (state);
}

static int tear_down (void **state)
{
    live_set_destroy (&set);
    close (epoll_fd);
    return live_tear_down (state);
}

static void open_set (void)
{
    assert_done (live_set_new (&script, epoll_fd, slice (NULL, 0), false, true, 100, &set));
}

/* Time goes on; what comes is taken, and counted by its kind. */
static unsigned taken[16];

static void run (unsigned ms)
{
    zmq_msg_t message;
    struct live_frame frame;
    memset (taken, 0, sizeof taken);
    zmq_msg_init (&message);
    for (unsigned passed = 0; passed <= ms; passed += 10) {
        if (passed)
            script_pass (10);
        (void) script_run ();
        live_set_look (set);
        do {
            (void) live_set_update (set, script.now_ns);
            while (live_set_receive (set, &message, &frame) == 0)
                taken[frame.kind]++;
        } while (live_set_update (set, script.now_ns) <= script.now_ns || script_run ());
    }
    zmq_msg_close (&message);
}

static struct node_peer member (unsigned n)
{
    return (struct node_peer) { .node = { .bytes = { 'm', (uint8_t) n, (uint8_t) (n >> 8) } }, .name = "far" };
}

static void tell_up (unsigned first, unsigned end)
{
    for (unsigned n = first; n < end; n++) {
        const struct node_peer peer = member (n);
        live_listener.up (live_listener.arg, &peer);
    }
}

static void a_connection_that_cannot_be_made_is_tried_again (void **state)
{
    (void) state;
    struct scripted *peer = live_peer_add (script_silence, false);
    script.sockets_left = 0;
    open_set ();
    run (2 * LIVE_SET_CONNECT_MS);
    assert_int_equal (live_set_count (set), 1);
    assert_true (script_noticed ("LIVE-CONNECT peer=peer0 address=inproc://live-0-1"));
    assert_int_equal (script.notice_count, 1);
    script.sockets_left = -1;
    run (LIVE_SET_CONNECT_MS);
    assert_int_equal (taken[LIVE_FENCE], 1);
    assert_true (live_set_fenced (set));
    live_say_head (peer, RESERVED_HEAD, 1, 5);
    run (10);
    assert_int_equal (taken[LIVE_HEAD], 1);
}

/* What was queued may be old: who sent it may be dead by now. */
static void what_comes_after_nothing_is_a_sign_of_life_and_what_was_queued_is_none (void **state)
{
    (void) state;
    struct scripted *peer = live_peer_add (script_silence, false);
    zmq_msg_t message;
    struct live_frame frame;
    open_set ();
    run (10);
    struct node_sign *const sign = script.sign;
    assert_non_null (sign);
    atomic_store (&sign->seen, false);
    for (unsigned head = 1; head <= 3; head++)
        live_say_head (peer, RESERVED_HEAD, 1, head);
    zmq_msg_init (&message);
    assert_done (live_set_receive (set, &message, &frame));
    assert_true (atomic_exchange (&sign->seen, false));
    run (10);
    assert_int_equal (taken[LIVE_HEAD], 2);
    assert_false (atomic_load (&sign->seen));
    live_say_head (peer, RESERVED_HEAD, 1, 4);
    run (10);
    assert_true (atomic_load (&sign->seen));
    zmq_msg_close (&message);
    live_set_destroy (&set);
    assert_null (script.sign);
}

/* Its process is gone, and nobody has missed it; ZeroMQ connected anew, to who has its live address by now. Whichever of them one hears of first. */
static void who_has_the_address_of_one_that_is_gone_gives_it_no_sign_of_life (void **state)
{
    (void) state;
    struct scripted *peer = live_peer_add (script_silence, false);
    open_set ();
    run (10);
    struct node_sign *const gone = script.sign;
    assert_int_equal (script.signs, 1);
    (void) live_start_again (peer);
    live_of (peer)->started_ns = 1;
    live_up (peer);
    run (10);
    assert_int_equal (live_set_count (set), 2);
    assert_int_equal (script.signs, 1);
    assert_ptr_not_equal (script.sign, gone);
    assert_non_null (script.sign);
    live_set_destroy (&set);
    assert_int_equal (script.signs, 0);
    open_set ();
    run (10);
    struct node_sign *const there = script.sign;
    peer->incarnation--;
    live_of (peer)->started_ns = 0;
    live_up (peer);
    run (10);
    assert_int_equal (live_set_count (set), 2);
    assert_int_equal (script.signs, 1);
    assert_ptr_equal (script.sign, there);
}

/* Of a publisher that lives nothing comes: the connection may be half open. That there is no descriptor for a new one just then changes nothing. */
static void a_silent_connection_is_made_anew_as_soon_as_it_can (void **state)
{
    (void) state;
    struct scripted *peer = live_peer_add (script_silence, false);
    open_set ();
    run (10);
    live_say_head (peer, RESERVED_HEAD, 1, 5);
    run (10);
    assert_int_equal (taken[LIVE_HEAD], 1);
    script.sockets_left = 0;
    run ((LIVE_SET_SILENT_LOOKS + 3) * LIVE_SET_LOOK_MS);
    assert_true (script_noticed ("LIVE-SILENT"));
    script.sockets_left = -1;
    run (2 * LIVE_SET_LOOK_MS);
    live_say_head (peer, RESERVED_HEAD, 1, 6);
    run (10);
    assert_int_equal (taken[LIVE_HEAD], 1);
}

static void one_that_moves_is_drained_and_connected_to_anew (void **state)
{
    (void) state;
    struct scripted *peer = live_peer_add (script_silence, false);
    struct live_script *l = live_of (peer);
    open_set ();
    run (10);
    void *old = l->xpub;
    live_say_head (peer, RESERVED_HEAD, 1, 5);
    (void) snprintf (l->address, sizeof l->address, "inproc://moved");
    l->xpub = zmq_socket (script.zmq, ZMQ_XPUB);
    assert_int_equal (zmq_bind (l->xpub, l->address), 0);
    live_up (peer);
    run (10);
    assert_int_equal (taken[LIVE_HEAD], 1);     /* what the old connection had */
    assert_int_equal (live_set_count (set), 2);
    live_say_head (peer, RESERVED_HEAD, 1, 6);
    run (10);
    assert_int_equal (taken[LIVE_HEAD], 1);
    run (LIVE_SET_LINGER_MS);
    assert_int_equal (taken[LIVE_PEER_GONE], 1);
    assert_int_equal (live_set_count (set), 1);
    assert_string_equal (live_set_peer (set, 0)->info.live, "inproc://moved");
    zmq_setsockopt (old, ZMQ_LINGER, &(int) { 0 }, sizeof (int));
    zmq_close (old);
}

/* Who has its address by now sends over the old connection, right when that one is given up. */
static void what_comes_of_a_peer_that_was_told_as_gone_wakes_nobody (void **state)
{
    (void) state;
    struct scripted *peer = live_peer_add (script_silence, false);
    open_set ();
    run (10);
    const struct node_peer info = live_member (peer);
    live_listener.down (live_listener.arg, &info.node, false);
    live_set_look (set);
    (void) live_set_update (set, script.now_ns);
    script_pass (LIVE_SET_LINGER_MS);
    assert_int_equal (live_set_update (set, script.now_ns), script.now_ns);     /* it is looked at once more */
    zmq_msg_t message;
    struct live_frame frame;
    zmq_msg_init (&message);
    assert_int_equal (live_set_receive (set, &message, &frame), 0);
    assert_int_equal (frame.kind, LIVE_PEER_GONE);
    live_say_head (peer, RESERVED_HEAD, 1, 5);
    struct epoll_event event;
    while (epoll_wait (epoll_fd, &event, 1, 0) > 0 && live_set_event (set, &event))
        assert_int_equal (live_set_update (set, script.now_ns), UINT64_MAX);
    assert_string_equal (frame.peer->info.name, info.name);
    assert_int_equal (live_set_receive (set, &message, &frame), -EAGAIN);
    zmq_msg_close (&message);
}

/* Its process joins the mesh first, and has a log to recover: what its receivers do when a journal comes waits for that. */
static void a_peer_that_becomes_a_journal_is_fenced_again (void **state)
{
    (void) state;
    struct scripted *peer = live_peer_add (script_silence, false);
    open_set ();
    run (10);
    assert_int_equal (taken[LIVE_FENCE], 1);
    assert_true (live_set_fenced (set));
    live_up (peer);                     /* no news */
    run (10);
    assert_int_equal (taken[LIVE_FENCE], 0);
    live_of (peer)->is_journal = true;
    live_up (peer);
    run (10);
    assert_int_equal (taken[LIVE_FENCE], 1);
    assert_true (live_set_peer (set, 0)->info.is_journal);
    assert_true (live_set_fenced (set));
    live_up (peer);
    run (10);
    assert_int_equal (taken[LIVE_FENCE], 0);
}

/* ZeroMQ connects anew to who has its address by now. An older node does not say who it is. */
static void a_fence_is_answered_by_who_was_asked_alone (void **state)
{
    (void) state;
    struct scripted *peer = live_peer_add (script_silence, false);
    live_of (peer)->mute_fences = true;
    open_set ();
    run (10);
    const struct fm_id gone = live_start_again (peer);
    live_of (peer)->mute_fences = false;
    run (2 * LIVE_SET_FENCE_MS);
    assert_int_equal (taken[LIVE_FENCE], 0);
    assert_false (live_set_fenced (set));
    assert_int_equal (script.counters[NODE_FRAMES_REFUSED], 0);
    assert_int_equal (script.notice_count, 0);
    run (2 * LIVE_SET_FENCE_MAX_MS);
    assert_true (script_noticed ("LIVE-FOREIGN peer=peer0 address=inproc://live-0-1"));
    assert_int_equal (script.notice_count, 3);          /* as often as it is asked, by then */
    live_up (peer);
    live_listener.down (live_listener.arg, &gone, false);
    run (10);
    assert_int_equal (taken[LIVE_FENCE], 1);
    assert_true (live_set_fenced (set));
    live_of (peer)->nameless = true;
    live_of (peer)->is_journal = true;
    live_up (peer);
    run (10);
    assert_int_equal (taken[LIVE_FENCE], 1);
    assert_true (live_set_fenced (set));
}

static void more_peers_than_there_is_room_for_are_told (void **state)
{
    (void) state;
    open_set ();
    tell_up (0, LIVE_SET_PEERS_MAX + 1);
    run (0);
    assert_int_equal (live_set_count (set), LIVE_SET_PEERS_MAX);
    assert_true (script_noticed ("LIVE-PEERS-FULL peer=far"));
    assert_int_equal (script.notice_count, 1);
}

/* More news than the mailbox takes: everybody is asked about anew. Who went meanwhile is gone, also where nobody can be asked just then. */
static void more_news_than_there_is_room_for_lose_nobody (void **state)
{
    (void) state;
    struct scripted *stays = live_peer_add (script_silence, false), *goes = live_peer_add (script_silence, false);
    open_set ();
    run (10);
    assert_int_equal (live_set_count (set), 2);
    goes->is_member = false;
    live_listen_failures = 3;
    tell_up (0, LIVE_SET_MAIL_MAX + 1);
    run (0);
    assert_int_equal (live_set_count (set), 2);         /* it could not listen */
    for (unsigned i = 0; i < 5; i++)
        run (LIVE_SET_ASK_AGAIN_MS);
    assert_int_equal (live_listen_failures, 0);
    run (LIVE_SET_LINGER_MS);
    assert_int_equal (live_set_count (set), 1);
    assert_string_equal (live_set_peer (set, 0)->info.live, live_of (stays)->address);
    live_say_head (stays, RESERVED_HEAD, 1, 5);
    run (10);
    assert_int_equal (taken[LIVE_HEAD], 1);
    /* Once more, with one that is being drained. */
    goes->is_member = true;
    live_up (goes);
    run (10);
    live_listener.down (live_listener.arg, &live_set_peer (set, 1)->info.node, true);
    run (10);
    goes->is_member = false;
    tell_up (0, LIVE_SET_MAIL_MAX + 1);
    run (LIVE_SET_LINGER_MS + 100);
    assert_int_equal (live_set_count (set), 1);
}

static void who_asks_again_says_when (void **state)
{
    (void) state;
    open_set ();
    (void) live_set_update (set, script.now_ns);
    live_listen_failures = 2;
    tell_up (0, LIVE_SET_MAIL_MAX + 1);
    live_set_look (set);
    for (unsigned i = 0; i < 2; i++) {
        const uint64_t due_ns = live_set_update (set, script.now_ns);
        assert_int_equal (due_ns, script.now_ns + LIVE_SET_ASK_AGAIN_MS * SCRIPT_MS);
        script.now_ns = due_ns;
    }
    assert_int_equal (live_set_update (set, script.now_ns), UINT64_MAX);
    assert_int_equal (live_set_count (set), 0);
}

static void what_no_peer_should_send_is_refused_and_the_next_is_taken (void **state)
{
    (void) state;
    struct scripted *peer = live_peer_add (script_silence, false);
    open_set ();
    run (10);
    void *xpub = live_of (peer)->xpub;
    assert_int_equal (zmq_send (xpub, ".a.", 3, ZMQ_SNDMORE), 3);           /* several frames */
    assert_int_equal (zmq_send (xpub, "second", 6, ZMQ_SNDMORE), 6);
    assert_int_equal (zmq_send (xpub, "third", 5, 0), 5);
    live_say_bytes (peer, ".topic without an end", 21);
    run (10);
    assert_int_equal (taken[LIVE_BATCH] + taken[LIVE_HEAD], 0);
    assert_int_equal (script.counters[NODE_FRAMES_REFUSED], 2);
    assert_int_equal (script.counters[NODE_FRAMES_RECEIVED], 3);            /* and the fence's answer */
    live_say_head (peer, RESERVED_HEAD, 1, 5);
    run (10);
    assert_int_equal (taken[LIVE_HEAD], 1);
}

static void a_set_that_cannot_listen_is_none (void **state)
{
    (void) state;
    live_listen_failures = 1;
    assert_int_equal (live_set_new (&script, epoll_fd, slice (NULL, 0), false, true, 100, &set), -ENOMEM);
    assert_null (set);
    live_set_destroy (&set);
}

#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int main (void)
{
    const struct CMUnitTest tests[] = {
        CASE (a_connection_that_cannot_be_made_is_tried_again),
        CASE (what_comes_after_nothing_is_a_sign_of_life_and_what_was_queued_is_none),
        CASE (who_has_the_address_of_one_that_is_gone_gives_it_no_sign_of_life),
        CASE (a_silent_connection_is_made_anew_as_soon_as_it_can),
        CASE (one_that_moves_is_drained_and_connected_to_anew),
        CASE (what_comes_of_a_peer_that_was_told_as_gone_wakes_nobody),
        CASE (a_peer_that_becomes_a_journal_is_fenced_again),
        CASE (a_fence_is_answered_by_who_was_asked_alone),
        CASE (more_peers_than_there_is_room_for_are_told),
        CASE (more_news_than_there_is_room_for_lose_nobody),
        CASE (who_asks_again_says_when),
        CASE (what_no_peer_should_send_is_refused_and_the_next_is_taken),
        CASE (a_set_that_cannot_listen_is_none),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
