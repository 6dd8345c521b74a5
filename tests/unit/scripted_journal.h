/* scripted_journal: journals as those who ask them see them, under the test's control: each is a ROUTER that answers what the test's script says, or says
 * nothing, or garbage. The connection is the real one (replay_client.c), over inproc, so that what was sent is there at once.
 *
 * Time is the test's: it stands still but while the code under test waits (epoll_wait, poll). Then the journals answer what they were asked, and if they
 * have nothing to say time goes on to what is planned (script_plan), or to the end of the wait.
 *
 * A program that includes this must not need the real node: the linker then leaves it out of the libraries. */

#ifndef FM_TESTS_SCRIPTED_JOURNAL_H
#define FM_TESTS_SCRIPTED_JOURNAL_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "error.h"
#include "node.h"
#include "replay_client.h"
#include "../support/assert_done.h"

#ifndef SCRIPT_JOURNALS_MAX
enum { SCRIPT_JOURNALS_MAX = 4, SCRIPT_QUESTIONS_MAX = 8192 };
#endif
enum { SCRIPT_PLANS_MAX = 16, SCRIPT_NOTICES_MAX = 32, SCRIPT_SPINS_MAX = 10000, SCRIPT_LOOKS_MAX = 20000 };
#define SCRIPT_MS UINT64_C (1000000)
/* Nothing waits longer than this for something that nobody planned. */
#define SCRIPT_FOR_EVER_NS (UINT64_C (3600000) * SCRIPT_MS)

struct scripted;
typedef void script_fn (struct scripted *journal, const Factmesh__Control *question);

struct scripted {
    struct fm_id id;
    bool is_member;
    unsigned incarnation;
    uint64_t started_ns;
    char address[48];
    void *router;
    uint8_t route[64];                  /* of who asked last */
    size_t route_len;
    unsigned connections;               /* different ones, so far */
    script_fn *answer;
    Factmesh__Control *questions[SCRIPT_QUESTIONS_MAX];
    size_t question_count;
};

struct script_plan {
    uint64_t at_ns;
    void (*happens) (void *arg);
    void *arg;
};

struct fm_node {
    void *zmq;
    uint64_t now_ns;
    struct fm_id id;
    struct scripted journals[SCRIPT_JOURNALS_MAX];
    size_t journal_count;
    struct script_plan plans[SCRIPT_PLANS_MAX];
    size_t plan_count;
    char notices[SCRIPT_NOTICES_MAX][300];
    size_t notice_count;
    unsigned spins;                     /* waits that ended at once, without anything to hear or to tell */
    bool is_stuck;
    unsigned looks;                     /* that found something at once, in a row, */
    uint64_t looked_ns;                 /* at this time */
    int sockets_left;                   /* sockets that can still be made; negative: any number */
    int interruptions;                  /* so many waits more are ended by a signal */
    uint64_t counters[NODE_COUNTER_COUNT];
    struct node_sign *sign;             /* watched for last */
    unsigned signs;                     /* watched for */
    bool (*also_runs) (void);           /* beside the journals; NULL: nothing */
};

static struct fm_node script;
static pthread_t script_thread;

/* ------------------------------------------------------------------ the node's functions */

uint64_t node_now (void)
{
    return script.now_ns;
}

struct fm_slice node_mesh (const struct fm_node *node)
{
    (void) node;
    return slice_of ("test");
}

const struct fm_id *node_id (const struct fm_node *node)
{
    return &node->id;
}

void node_count (struct fm_node *node, enum node_counter counter, uint64_t n)
{
    node->counters[counter] += n;
}

void node_notice (struct fm_node *node, const char *id, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start (arguments, format);
    (void) vsnprintf (text, sizeof text, format, arguments);
    va_end (arguments);
    (void) snprintf (node->notices[node->notice_count++ % SCRIPT_NOTICES_MAX], sizeof node->notices[0], "%s %s", id, text);
}

int node_socket (struct fm_node *node, int type, void **ret_socket)
{
    const int linger = 0;
    if (node->sockets_left == 0)
        return error_set (-EMFILE, "cannot make another socket");
    node->sockets_left--;
    *ret_socket = zmq_socket (node->zmq, type);
    assert_non_null (*ret_socket);
    return zmq_setsockopt (*ret_socket, ZMQ_LINGER, &linger, sizeof linger);
}

void node_sign_watch (struct fm_node *node, struct node_sign *sign, const char *control)
{
    (void) control;
    sign->place = &node->sign;
    node->sign = sign;
    node->signs++;
}

void node_sign_unwatch (struct fm_node *node, struct node_sign *sign)
{
    if (node->sign == sign)
        node->sign = NULL;
    node->signs -= sign->place != NULL;
    sign->place = NULL;
}

int node_connect (void *socket, const char *address)
{
    return zmq_connect (socket, address);
}

int fm_node_members (struct fm_node *node, int (*each) (void *arg, const struct fm_member *m), void *arg)
{
    const struct fm_member self = { .name = "asker", .self = true, .node = node->id };
    int rc = each (arg, &self);
    for (size_t i = 0; i < node->journal_count && !rc; i++) {
        const struct scripted *j = &node->journals[i];
        const struct fm_member member = { .node = { .bytes = { 'n', (uint8_t) i, (uint8_t) j->incarnation } }, .name = "journal", .is_journal = true,
                                          .journal = j->id, .generation = 1, .control = j->address,
                                          .started_ns = j->started_ns };
        if (j->is_member)
            rc = each (arg, &member);
    }
    return rc;
}

/* ------------------------------------------------------------------ a journal */

static inline void script_listen (struct scripted *j)
{
    const int linger = 0;
    (void) snprintf (j->address, sizeof j->address, "inproc://journal-%u-%u", (unsigned) (j - script.journals), ++j->incarnation);
    j->router = zmq_socket (script.zmq, ZMQ_ROUTER);
    assert_non_null (j->router);
    assert_int_equal (zmq_setsockopt (j->router, ZMQ_LINGER, &linger, sizeof linger), 0);
    assert_int_equal (zmq_bind (j->router, j->address), 0);
    j->is_member = true;
}

/* One that is in the mesh, and answers by the script. */
static inline struct scripted *script_journal (script_fn *answer)
{
    assert_true (script.journal_count < SCRIPT_JOURNALS_MAX);
    struct scripted *j = &script.journals[script.journal_count++];
    *j = (struct scripted) { .id = { .bytes = { 'J', (uint8_t) script.journal_count } }, .answer = answer };
    script_listen (j);
    return j;
}

/* Its process ends: what it has not answered it never answers. */
static inline void script_kill (struct scripted *j)
{
    zmq_close (j->router);
    j->router = NULL;
    j->is_member = false;
    j->route_len = 0;
}

static inline void script_say_bytes (struct scripted *j, const void *bytes, size_t len)
{
    assert_true (j->route_len > 0);
    assert_int_equal (zmq_send (j->router, j->route, j->route_len, ZMQ_SNDMORE), j->route_len);
    assert_int_equal (zmq_send (j->router, bytes, len, 0), len);
}

static inline void script_say (struct scripted *j, uint64_t request, Factmesh__Control *control)
{
    zmq_msg_t message;
    control->request = request;
    assert_int_equal (control_encode (control, slice_of ("test"), &message), 0);
    script_say_bytes (j, zmq_msg_data (&message), zmq_msg_size (&message));
    zmq_msg_close (&message);
}

static inline void script_refuse (struct scripted *j, uint64_t request, Factmesh__ErrorCode code, const char *text)
{
    Factmesh__Error error = FACTMESH__ERROR__INIT;
    error.code = code;
    error.text = control_put_slice (slice_of (text));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = FACTMESH__CONTROL__BODY_ERROR;
    control.error = &error;
    script_say (j, request, &control);
}

/* Says nothing, and stays. */
static inline void script_silence (struct scripted *j, const Factmesh__Control *question)
{
    (void) j, (void) question;
}

/* What it was asked of one kind, so far; and the last of these, NULL: none. */
static inline size_t script_asked (const struct scripted *j, Factmesh__Control__BodyCase kind)
{
    size_t count = 0;
    for (size_t i = 0; i < j->question_count; i++)
        count += j->questions[i]->body_case == kind;
    return count;
}

static inline const Factmesh__Control *script_last (const struct scripted *j, Factmesh__Control__BodyCase kind)
{
    for (size_t i = j->question_count; i > 0; i--)
        if (j->questions[i - 1]->body_case == kind)
            return j->questions[i - 1];
    return NULL;
}

static inline bool script_hear (struct scripted *j)
{
    uint8_t route[sizeof j->route];
    Factmesh__Control *question;
    zmq_msg_t message;
    const int len = j->router ? zmq_recv (j->router, route, sizeof route, ZMQ_DONTWAIT) : -1;
    if (len < 0)
        return false;
    zmq_msg_init (&message);
    assert_true (zmq_msg_recv (&message, j->router, ZMQ_DONTWAIT) >= 0);
    assert_int_equal (control_decode (zmq_msg_data (&message), zmq_msg_size (&message), slice_of ("test"), &question), 0);
    zmq_msg_close (&message);
    assert_true (j->question_count < SCRIPT_QUESTIONS_MAX);
    j->questions[j->question_count++] = question;
    if (j->route_len != (size_t) len || memcmp (j->route, route, j->route_len) != 0)
        j->connections++;
    memcpy (j->route, route, (size_t) len);
    j->route_len = (size_t) len;
    j->answer (j, question);
    return true;
}

/* The journals hear what was asked, and answer. Was anything? */
static inline bool script_run (void)
{
    bool heard = false;
    for (size_t i = 0; i < script.journal_count; i++)
        while (script_hear (&script.journals[i]))
            heard = true;
    return (script.also_runs && script.also_runs ()) || heard;
}

/* ------------------------------------------------------------------ time */

/* So long from now, while somebody waits. */
static inline void script_plan (unsigned ms, void (*happens) (void *arg), void *arg)
{
    assert_true (script.plan_count < SCRIPT_PLANS_MAX);
    script.plans[script.plan_count++] = (struct script_plan) { .at_ns = script.now_ns + ms * SCRIPT_MS, .happens = happens, .arg = arg };
}

/* What is planned first, at or before that time, happens. False: nothing is. */
static inline bool script_happen (uint64_t until_ns)
{
    size_t first = SCRIPT_PLANS_MAX;
    for (size_t i = 0; i < script.plan_count; i++)
        if (script.plans[i].at_ns <= until_ns && (first == SCRIPT_PLANS_MAX || script.plans[i].at_ns < script.plans[first].at_ns))
            first = i;
    if (first == SCRIPT_PLANS_MAX)
        return false;
    const struct script_plan plan = script.plans[first];
    script.plans[first] = script.plans[--script.plan_count];
    if (plan.at_ns > script.now_ns)
        script.now_ns = plan.at_ns;
    plan.happens (plan.arg);
    return true;
}

/* Time goes on, while nobody waits. */
static inline void script_pass (unsigned ms)
{
    const uint64_t until_ns = script.now_ns + ms * SCRIPT_MS;
    (void) script_run ();
    while (script_happen (until_ns))
        (void) script_run ();
    script.now_ns = until_ns;
}

/* Who is asked never comes to close its sockets: ZeroMQ would wait for them. */
static inline void script_spins (void)
{
    script.is_stuck = true;
    fail_msg ("it spins");
}

/* The code under test waits. True: for nothing; look what is readable now. */
static inline bool script_wait (int timeout_ms)
{
    const uint64_t until_ns = timeout_ms < 0 || timeout_ms == INT32_MAX ? UINT64_MAX : script.now_ns + (uint64_t) timeout_ms * SCRIPT_MS;
    if (script_run ())
        return true;
    if (until_ns == script.now_ns) {
        if (++script.spins > SCRIPT_SPINS_MAX)
            script_spins ();
        return false;
    }
    if (script_happen (until_ns)) {
        (void) script_run ();
        return true;
    }
    if (until_ns - script.now_ns > SCRIPT_FOR_EVER_NS)
        fail_msg ("it waits for ever");
    script.now_ns = until_ns;
    return false;
}

/* ZeroMQ's own threads, and its own looks, get the kernel's. */
static inline bool script_is_asked (int timeout_ms)
{
    return script.zmq && timeout_ms && pthread_equal (pthread_self (), script_thread);
}

/* Time stands still while somebody only looks: for ever, who waits for something else than what is there. */
static inline void script_looked (int count)
{
    if (count <= 0 || script.now_ns != script.looked_ns)
        script.looks = 0;
    else if (++script.looks > SCRIPT_LOOKS_MAX)
        script_spins ();
    script.looked_ns = script.now_ns;
}

int epoll_wait (int fd, struct epoll_event *events, int max, int timeout)
{
    if (!script_is_asked (timeout)) {
        const int there = (int) syscall (SYS_epoll_pwait, fd, events, max, timeout, NULL, (size_t) 8);
        if (timeout == 0 && script.zmq && pthread_equal (pthread_self (), script_thread))
            script_looked (there);
        return there;
    }
    if (script.interruptions) {
        script.interruptions--;
        errno = EINTR;
        return -1;
    }
    int count = (int) syscall (SYS_epoll_pwait, fd, events, max, 0, NULL, (size_t) 8);
    if (count == 0 && script_wait (timeout))
        count = (int) syscall (SYS_epoll_pwait, fd, events, max, 0, NULL, (size_t) 8);
    else if (count > 0 && ++script.spins > SCRIPT_SPINS_MAX)
        script_spins ();
    return count;
}

int poll (struct pollfd *fds, nfds_t count, int timeout)
{
    const struct timespec none = { .tv_sec = 0 }, limit = { .tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * 1000000L };
    if (!script_is_asked (timeout) || timeout < 0)      /* without end: ZeroMQ, when it closes */
        return (int) syscall (SYS_ppoll, fds, count, timeout < 0 ? NULL : &limit, NULL, (size_t) 8);
    int ready = (int) syscall (SYS_ppoll, fds, count, &none, NULL, (size_t) 8);
    if (ready == 0 && script_wait (timeout))
        ready = (int) syscall (SYS_ppoll, fds, count, &none, NULL, (size_t) 8);
    else if (ready > 0 && ++script.spins > SCRIPT_SPINS_MAX)
        script_spins ();
    return ready;
}

/* ------------------------------------------------------------------ the fixture */

static inline bool script_noticed (const char *start)
{
    for (size_t i = 0; i < script.notice_count && i < SCRIPT_NOTICES_MAX; i++)
        if (strncmp (script.notices[i], start, strlen (start)) == 0)
            return true;
    return false;
}

static int script_set_up (void **state)
{
    (void) state;
    memset (&script, 0, sizeof script);
    script_thread = pthread_self ();
    script.now_ns = 1000 * 1000 * SCRIPT_MS;
    script.sockets_left = -1;
    script.id = (struct fm_id) { .bytes = { 'a', 's', 'k' } };
    script.zmq = zmq_ctx_new ();
    return script.zmq && zmq_ctx_set (script.zmq, ZMQ_IO_THREADS, 0) == 0 ? 0 : -1;     /* inproc needs none */
}

static int script_tear_down (void **state)
{
    (void) state;
    for (size_t i = 0; i < script.journal_count; i++) {
        struct scripted *j = &script.journals[i];
        for (size_t k = 0; k < j->question_count; k++)
            factmesh__control__free_unpacked (j->questions[k], NULL);
        if (j->router)
            zmq_close (j->router);
    }
    void *zmq = script.zmq;
    script.zmq = NULL;
    return script.is_stuck ? 0 : zmq_ctx_term (zmq);
}

#define SCRIPT_CASE(name) cmocka_unit_test_setup_teardown (name, script_set_up, script_tear_down)

#endif
