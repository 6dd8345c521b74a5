/* fake_journal: what one of the journal's threads, or a part of it, needs around it, under the test's control: a log in a directory of its own, on a file
 * system that may fail, that is written and synced when the test says so; a node that has no sockets: control messages are handed over by the test,
 * answers and notices are kept, to be waited for.
 *
 * A program that includes this must not need the real node, nor journal.c: the linker then leaves them out of the libraries. */

#ifndef FM_TESTS_FAKE_JOURNAL_H
#define FM_TESTS_FAKE_JOURNAL_H

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
#include <time.h>
#include <cmocka.h>

#include "../support/fail_fs.h"
#include "../support/log_setting.h"
#include "context.h"
#include "control.h"
#include "error.h"
#include "recent.h"

enum { FAKE_PATIENCE_MS = 20000, FAKE_REPLIES_MAX = 4096, FAKE_NOTICES_MAX = 64, FAKE_NS_PER_MS = 1000000 };

/* An answer: to whom, and what. */
struct fake_reply {
    uint8_t to;
    Factmesh__Control *control;
};

struct fm_node {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    node_control_fn *handle;
    void *handle_arg;
    struct node_listener listener;
    struct fake_reply replies[FAKE_REPLIES_MAX];
    size_t reply_count, reply_taken;
    int reply_rc;                       /* node_reply fails with this */
    unsigned reply_room;                /* but for so many */
    uint8_t gone;                       /* to this asker: with FM_ERR_UNREACHABLE */
    unsigned reply_tries, tries_seen;
    _Atomic unsigned replies_begun;     /* counted before the lock: who holds that holds them up */
    _Atomic uint64_t skipped_ns;        /* by which its clock is ahead of the real one */
    unsigned notice_count;
    char notices[FAKE_NOTICES_MAX][300];
};

static struct fm_node fake;

/* --- The node's functions, as the journal's threads call them. */

int node_handle (struct fm_node *node, node_control_fn *fn, void *arg)
{
    node->handle = fn;
    node->handle_arg = arg;
    return 0;
}

void node_unhandle (struct fm_node *node, void *arg)
{
    if (node->handle_arg == arg)
        node->handle = NULL;
}

int node_listen (struct fm_node *node, const struct node_listener *listener)
{
    node->listener = *listener;
    return 0;
}

void node_unlisten (struct fm_node *node, void *arg)
{
    if (node->listener.arg == arg)
        node->listener = (struct node_listener) { .arg = NULL };
}

struct fm_slice node_mesh (const struct fm_node *node)
{
    (void) node;
    return slice_of ("test");
}

uint64_t node_now (void)
{
    return clock_real.monotonic_ns (NULL) + fake.skipped_ns;
}

void node_thread_lower (int by)
{
    (void) by;
}

void node_notice (struct fm_node *node, const char *id, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start (arguments, format);
    (void) vsnprintf (text, sizeof text, format, arguments);
    va_end (arguments);
    pthread_mutex_lock (&node->lock);
    (void) snprintf (node->notices[node->notice_count++ % FAKE_NOTICES_MAX], sizeof node->notices[0], "%s %s", id, text);
    pthread_cond_broadcast (&node->changed);
    pthread_mutex_unlock (&node->lock);
}

int node_reply (struct fm_node *node, const struct node_route *to, zmq_msg_t *message)
{
    Factmesh__Control *control = NULL;
    int rc;
    node->replies_begun++;
    pthread_mutex_lock (&node->lock);
    rc = node->gone && to->bytes[0] == node->gone ? FM_ERR_UNREACHABLE : node->reply_room ? 0 : node->reply_rc;
    node->reply_room -= node->reply_room > 0;
    node->reply_tries++;
    pthread_cond_broadcast (&node->changed);
    if (!rc && (node->reply_count == FAKE_REPLIES_MAX || control_decode (zmq_msg_data (message), zmq_msg_size (message), slice_of ("test"), &control) != 0))
        abort ();                       /* in a thread that is not cmocka's */
    if (!rc) {
        node->replies[node->reply_count++] = (struct fake_reply) { .to = to->bytes[0], .control = control };
        pthread_cond_broadcast (&node->changed);
    }
    pthread_mutex_unlock (&node->lock);
    if (!rc)
        zmq_msg_close (message);
    return rc;
}

int node_reply_error (struct fm_node *node, const struct node_route *to, uint64_t request, uint64_t session, Factmesh__ErrorCode code, const char *text)
{
    Factmesh__Error error = FACTMESH__ERROR__INIT;
    error.code = code;
    error.session = session;
    error.text = control_put_slice (slice_of (text));
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.request = request;
    control.body_case = FACTMESH__CONTROL__BODY_ERROR;
    control.error = &error;
    zmq_msg_t message;
    if (control_encode (&control, slice_of ("test"), &message) != 0)
        abort ();
    const int rc = node_reply (node, to, &message);
    if (rc)
        zmq_msg_close (&message);
    return rc;
}

void journal_notice (struct journal_context *c, const char *id, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start (arguments, format);
    (void) vsnprintf (text, sizeof text, format, arguments);
    va_end (arguments);
    node_notice (c->node, id, "%s", text);
}

int journal_thread (pthread_t *thread, void *(*run) (void *), void *arg)
{
    return -pthread_create (thread, NULL, run, arg);
}

/* --- The log, and what the threads share. */

struct fake_journal {
    char directory[128];
    struct fail_fs *fs;                 /* NULL: the real one */
    uint32_t streams_max;               /* of the log, 0: its default */
    const struct clock *clock;          /* NULL: the real one */
    struct log_options options;
    struct journal_context context;
};

static inline void fake_forget_replies (void)
{
    for (size_t i = 0; i < fake.reply_count; i++)
        factmesh__control__free_unpacked (fake.replies[i].control, NULL);
    fake.reply_count = fake.reply_taken = 0;
}

/* Open the log, and make what its threads share. 0 or log_open's error. */
static inline int fake_open (struct fake_journal *j)
{
    j->options = (struct log_options) { .mesh = "test", .segment_bytes = 1 << 20, .buffer_bytes = 4 << 20, .streams_max = j->streams_max,
                                        .fs = j->fs ? fail_fs_seam (j->fs) : NULL, .clock = j->clock };
    j->context = (struct journal_context) { .node = &fake, .clock = j->clock ? j->clock : &clock_real };
    const int rc = log_open (j->directory, &j->options, NULL, &j->context.log);
    if (rc)
        return rc;
    log_identity (j->context.log, &j->context.journal, &j->context.generation);
    assert_int_equal (recent_new (&j->context.recent), 0);
    for (size_t i = 0; i < BELL_COUNT; i++)
        assert_int_equal (wake_init (&j->context.bells[i].wake), 0);
    return 0;
}

/* As after kill -9. */
static inline void fake_close (struct fake_journal *j)
{
    if (!j->context.log)
        return;
    recent_destroy (&j->context.recent);
    log_destroy (&j->context.log);
    for (size_t i = 0; i < BELL_COUNT; i++)
        wake_release (&j->context.bells[i].wake);
}

static inline void fake_begin (struct fake_journal *j)
{
    memset (&fake, 0, sizeof fake);
    pthread_mutex_init (&fake.lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init (&monotonic);
    pthread_condattr_setclock (&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init (&fake.changed, &monotonic);
    pthread_condattr_destroy (&monotonic);
    *j = (struct fake_journal) { .fs = NULL };
    kit_directory (j->directory);
}

static inline void fake_end (struct fake_journal *j)
{
    fake_close (j);
    fail_fs_destroy (&j->fs);
    kit_remove (j->directory);
    fake_forget_replies ();
    pthread_mutex_destroy (&fake.lock);
    pthread_cond_destroy (&fake.changed);
}

/* Write what was appended, and sync it. The log's error, 0: none. */
static inline int fake_sync (struct fake_journal *j)
{
    int rc;
    while ((rc = log_write (j->context.log)) == 0)
        ;
    if (rc == FM_ERR_END)
        rc = log_sync (j->context.log, NULL);
    for (size_t i = 0; i < BELL_COUNT; i++)
        wake_raise (&j->context.bells[i].wake);
    return rc;
}

/* --- Notices and answers. */

static inline bool fake_noticed (const char *start)
{
    bool found = false;
    pthread_mutex_lock (&fake.lock);
    for (unsigned i = 0; i < fake.notice_count && i < FAKE_NOTICES_MAX; i++)
        found = found || strncmp (fake.notices[i], start, strlen (start)) == 0;
    pthread_mutex_unlock (&fake.lock);
    return found;
}

static inline void fake_forget_notices (void)
{
    pthread_mutex_lock (&fake.lock);
    fake.notice_count = 0;
    pthread_mutex_unlock (&fake.lock);
}

static inline void fake_let_replies (int rc, unsigned room, uint8_t gone)
{
    pthread_mutex_lock (&fake.lock);
    fake.tries_seen = fake.reply_tries;
    fake.reply_room = room;
    fake.reply_rc = rc;
    fake.gone = gone;
    pthread_mutex_unlock (&fake.lock);
}

static inline struct timespec fake_deadline (unsigned ms)
{
    const uint64_t ns = clock_real.monotonic_ns (NULL) + (uint64_t) ms * FAKE_NS_PER_MS;
    return (struct timespec) { .tv_sec = (time_t) (ns / 1000000000), .tv_nsec = (long) (ns % 1000000000) };
}

static inline void fake_wait_notice (const char *start)
{
    const struct timespec until = fake_deadline (FAKE_PATIENCE_MS);
    while (!fake_noticed (start)) {
        pthread_mutex_lock (&fake.lock);
        const int rc = pthread_cond_timedwait (&fake.changed, &fake.lock, &until);
        pthread_mutex_unlock (&fake.lock);
        if (rc && !fake_noticed (start))
            fail_msg ("no notice %s", start);
    }
}

/* Until something was to be answered so often since fake_let_replies, or since this was waited for last. */
static inline void fake_wait_tries (unsigned times)
{
    const struct timespec until = fake_deadline (FAKE_PATIENCE_MS);
    pthread_mutex_lock (&fake.lock);
    int rc = 0;
    while (fake.reply_tries - fake.tries_seen < times && !rc)
        rc = pthread_cond_timedwait (&fake.changed, &fake.lock, &until);
    fake.tries_seen = fake.reply_tries;
    pthread_mutex_unlock (&fake.lock);
    if (rc)
        fail_msg ("nobody was to be answered");
}

/* The next answer, which stays valid until fake_end. NULL: none in that time. */
static inline const Factmesh__Control *fake_reply_within (unsigned ms)
{
    const struct timespec until = fake_deadline (ms);
    const Factmesh__Control *control = NULL;
    pthread_mutex_lock (&fake.lock);
    while (fake.reply_taken == fake.reply_count && pthread_cond_timedwait (&fake.changed, &fake.lock, &until) == 0)
        ;
    if (fake.reply_taken < fake.reply_count)
        control = fake.replies[fake.reply_taken++].control;
    pthread_mutex_unlock (&fake.lock);
    return control;
}

static inline const Factmesh__Control *fake_wait_reply (Factmesh__Control__BodyCase kind)
{
    const Factmesh__Control *control = fake_reply_within (FAKE_PATIENCE_MS);
    if (!control)
        fail_msg ("no answer in time, where %d was expected", (int) kind);
    if (control->body_case != kind)
        fail_msg ("answer %d where %d was expected: %.*s", (int) control->body_case, (int) kind,
                  control->body_case == FACTMESH__CONTROL__BODY_ERROR ? (int) control->error->text.len : 0,
                  control->body_case == FACTMESH__CONTROL__BODY_ERROR ? (const char *) control->error->text.data : "");
    return control;
}

/* Give a message to the thread under test, as the node does. */
static inline int fake_hand_over (uint8_t from, Factmesh__Control *control)
{
    static uint64_t requests;
    const struct node_route route = { .len = 1, .bytes = { from } };
    control->request = ++requests;
    assert_non_null (fake.handle);
    return fake.handle (fake.handle_arg, &route, control);
}

#endif
