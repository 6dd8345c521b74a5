/* scripted_library: the whole command (run_command.h) over a library that does what a test writes down, call by call; what is not written goes well, and
 * brings nothing. The Makefile lets the library's functions that commands call end here (--wrap). Time passes only where somebody waits, or a step says so.
 *
 * Thread: one; of `bench latency` two, each with calls of its own. */

#ifndef FM_TESTS_SCRIPTED_LIBRARY_H
#define FM_TESTS_SCRIPTED_LIBRARY_H

#include <stdatomic.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>

#include "error.h"
#include "../../nodes/cli/link.h"
#include "../../nodes/cli/stream_pool.h"
#include "run_command.h"

enum call { END, NODE_OPEN, WAIT_MEMBERS, WAIT_JOURNAL, STREAM_OPEN, PUBLISH, WAIT_SYNCED, LOST_NEXT, SUBSCRIBE, NEXT, ACK, COMMIT, WAIT, WORKER_OPEN, HANDLE,
            WORKER_COMMIT, REQUESTER_OPEN, REQUEST, RESPOND, CURSOR, FILTERS, LINK_REQUEST, CALLS };
enum { FOR_EVER = -1, TOLD_MAX = 4096, ECHO_MAX = 256, ECHO_SIZE = 16, ECHO_WAIT_MS = 20000 };

/* What a table leaves out is zero. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

/* How a call ends. */
struct step {
    enum call call;
    int rc;
    const char *detail;                 /* of an error */
    int times;                          /* so often; 0: once */
    int signal;                         /* that comes meanwhile */
    unsigned pass_ms;
    void (*before) (void);              /* done to the process */
    const struct fm_event *event;       /* NEXT: what came */
    const struct fm_fact *fact;         /* LOST_NEXT, HANDLE, REQUEST: which */
    uint64_t behind;                    /* WAIT_SYNCED: so many are not synced then */
    const char *text;                   /* FILTERS: what the cursor is of */
};
#define STEPS(...) ((const struct step[]) { __VA_ARGS__, { .call = END } })

/* What tests see of a command's process: shared with it. */
struct seen {
    unsigned calls[CALLS];
    int open;                           /* nodes, streams, subscriptions … that nobody closed */
    char told[TOLD_MAX];                /* what it asked for, said, did: see the fakes */
};

static struct {
    const struct step *steps;
    struct seen *seen;
    _Atomic uint64_t now_ns;
    uint64_t look_ns;                   /* passes with each look at the clock */
    uint64_t head, synced, recovered;   /* of the publisher */
    uint64_t lost;                      /* the same, until fm_publisher_lost_next has no more */
    bool lost_over;
    int left_ms;                        /* of the lease of what is handled */
    /* What is published comes back (bench latency, with --size 16). */
    bool echo;
    _Atomic bool silent;                /* nothing more will be published */
    _Atomic uint64_t published, taken;
    uint8_t payloads[ECHO_MAX][ECHO_SIZE];
} library;

static inline void tell (const char *format, ...) __attribute__ ((format (printf, 1, 2)));
static inline void tell (const char *format, ...)
{
    struct seen *const s = library.seen;
    const size_t len = strlen (s->told);
    va_list args;
    va_start (args, format);
    (void) vsnprintf (s->told + len, sizeof s->told - len, format, args);
    va_end (args);
}

static inline void pass_ms (uint64_t ms)
{
    library.now_ns += ms * 1000000;
}

/* In the command's process: no assertion of cmocka's gets out of there. */
static inline void script_failed (const char *what)
{
    (void) fprintf (stderr, "SCRIPT: %s\n", what);
    _exit (97);
}

/* The step of this call; NULL: none is written. */
static inline const struct step *play (enum call call)
{
    unsigned n = ++library.seen->calls[call];
    for (const struct step *s = library.steps; s->call != END; s++) {
        const unsigned times = s->times ? (unsigned) s->times : 1;
        if (s->call != call)
            continue;
        if (s->times != FOR_EVER && n > times) {
            n -= times;
            continue;
        }
        pass_ms (s->pass_ms);
        if (s->before)
            s->before ();
        if (s->signal)
            (void) raise (s->signal);
        if (s->rc < 0)
            (void) error_set (s->rc, "%s", s->detail ? s->detail : "");
        return s;
    }
    return NULL;
}

static inline int play_rc (enum call call)
{
    const struct step *const s = play (call);
    return s ? s->rc : 0;
}

static inline void waits (int timeout_ms)
{
    if (timeout_ms < 0)
        script_failed ("waits for ever");
    pass_ms ((uint64_t) timeout_ms);
}

/* What has been opened stays so until it is closed. The commands only look whether there is something. */
static inline int opens (enum call call, void *ret)
{
    static int something;
    const int rc = play_rc (call);
    if (!rc) {
        library.seen->open++;
        *(void **) ret = &something;
    }
    return rc;
}

static inline void closes (void *thing)
{
    if (*(void **) thing)
        library.seen->open--;
    *(void **) thing = NULL;
}

/* --- The node, the clock. */

int __wrap_fm_node_open (const struct fm_node_options *options, struct fm_node **ret_node);
int __wrap_fm_node_open (const struct fm_node_options *options, struct fm_node **ret_node)
{
    (void) options;
    return opens (NODE_OPEN, ret_node);
}

void __wrap_fm_node_close (struct fm_node **node);
void __wrap_fm_node_close (struct fm_node **node)
{
    closes (node);
}

const char *__wrap_fm_node_address (struct fm_node *node);
const char *__wrap_fm_node_address (struct fm_node *node)
{
    (void) node;
    return "tcp://127.0.0.1:1";
}

int __wrap_fm_node_wait_members (struct fm_node *node, unsigned count, int timeout_ms);
int __wrap_fm_node_wait_members (struct fm_node *node, unsigned count, int timeout_ms)
{
    (void) node, (void) count, (void) timeout_ms;
    return play_rc (WAIT_MEMBERS);
}

int __wrap_fm_node_wait_journal (struct fm_node *node, int timeout_ms);
int __wrap_fm_node_wait_journal (struct fm_node *node, int timeout_ms)
{
    (void) node, (void) timeout_ms;
    return play_rc (WAIT_JOURNAL);
}

uint64_t __wrap_cli_monotonic_ns (void);
uint64_t __wrap_cli_monotonic_ns (void)
{
    return atomic_fetch_add (&library.now_ns, library.look_ns) + library.look_ns;
}

uint64_t __wrap_cli_monotonic_ms (void);
uint64_t __wrap_cli_monotonic_ms (void)
{
    return __wrap_cli_monotonic_ns () / 1000000;
}

uint64_t __wrap_cli_unix_ns (void);
uint64_t __wrap_cli_unix_ns (void)
{
    return __wrap_cli_monotonic_ns ();
}

int __wrap_clock_nanosleep (clockid_t clock, int flags, const struct timespec *until, struct timespec *left);
int __wrap_clock_nanosleep (clockid_t clock, int flags, const struct timespec *until, struct timespec *left)
{
    (void) clock, (void) flags, (void) left;
    const uint64_t ns = (uint64_t) until->tv_sec * 1000000000 + (uint64_t) until->tv_nsec;
    for (uint64_t now = library.now_ns; now < ns && !atomic_compare_exchange_weak (&library.now_ns, &now, ns);)
        ;
    return 0;
}

bool __wrap_cli_wait_read (int fd, int out, int timeout_ms);
bool __wrap_cli_wait_read (int fd, int out, int timeout_ms)
{
    (void) fd, (void) out;
    const struct step *const s = play (WAIT);
    if (!s)
        waits (timeout_ms);
    return !s || s->rc == 0;
}

void __wrap_cli_wait (int fd, int timeout_ms);
void __wrap_cli_wait (int fd, int timeout_ms)
{
    (void) __wrap_cli_wait_read (fd, -1, timeout_ms);
}

/* --- Publishing. */

int __wrap_fm_publisher_open (struct fm_node *node, const struct fm_publisher_options *options, struct fm_publisher **ret_publisher);
int __wrap_fm_publisher_open (struct fm_node *node, const struct fm_publisher_options *options, struct fm_publisher **ret_publisher)
{
    (void) node, (void) options;
    return opens (STREAM_OPEN, ret_publisher);
}

int __wrap_stream_pool_open (struct fm_node *node, const char *mesh, const char *name, struct fm_publisher_options *options, struct fm_publisher **ret_publisher);
int __wrap_stream_pool_open (struct fm_node *node, const char *mesh, const char *name, struct fm_publisher_options *options, struct fm_publisher **ret_publisher)
{
    (void) mesh, (void) name;
    return __wrap_fm_publisher_open (node, options, ret_publisher);
}

void __wrap_fm_publisher_close (struct fm_publisher **publisher);
void __wrap_fm_publisher_close (struct fm_publisher **publisher)
{
    closes (publisher);
}

static const struct fm_id library_stream = { { 's' } };
#define STREAM "73000000000000000000000000000000"

int __wrap_fm_publish (struct fm_publisher *publisher, const struct fm_fact *fact, struct fm_fact_id *ret_id);
int __wrap_fm_publish (struct fm_publisher *publisher, const struct fm_fact *fact, struct fm_fact_id *ret_id)
{
    (void) publisher;
    const struct step *const s = play (PUBLISH);
    if (s && s->rc < 0) {
        library.silent = s->rc != FM_ERR_WINDOW_FULL;
        return s->rc;
    }
    library.head++;
    if (ret_id)
        *ret_id = (struct fm_fact_id) { library_stream, library.head };
    if (library.echo) {
        if (fact->payload.len != ECHO_SIZE || library.published == ECHO_MAX)
            script_failed ("no room for an echo");
        memcpy (library.payloads[library.published], fact->payload.data, ECHO_SIZE);
        library.published++;
    }
    return 0;
}

int __wrap_fm_publisher_flush (struct fm_publisher *publisher);
int __wrap_fm_publisher_flush (struct fm_publisher *publisher)
{
    (void) publisher;
    return 0;
}

int __wrap_fm_publisher_wait_synced (struct fm_publisher *publisher, uint64_t seq, int timeout_ms);
int __wrap_fm_publisher_wait_synced (struct fm_publisher *publisher, uint64_t seq, int timeout_ms)
{
    (void) publisher, (void) seq;
    const struct step *const s = play (WAIT_SYNCED);
    if (s && s->rc == FM_TIMEOUT)
        waits (timeout_ms);
    if (!s || s->behind <= library.head)
        library.synced = library.head - (s ? s->behind : 0);
    return s ? s->rc : 0;
}

int __wrap_fm_publisher_lost_next (struct fm_publisher *publisher, struct fm_fact *ret_fact);
int __wrap_fm_publisher_lost_next (struct fm_publisher *publisher, struct fm_fact *ret_fact)
{
    (void) publisher;
    const struct step *const s = play (LOST_NEXT);
    if (s && s->fact)
        *ret_fact = *s->fact;
    library.lost_over = !s;
    return s ? s->rc : FM_ERR_END;
}

void __wrap_fm_publisher_state (struct fm_publisher *publisher, struct fm_publisher_state *ret_state);
void __wrap_fm_publisher_state (struct fm_publisher *publisher, struct fm_publisher_state *ret_state)
{
    (void) publisher;
    *ret_state = (struct fm_publisher_state) { .stream = library_stream, .head = library.head, .sent = library.head, .received = library.synced,
                                               .synced = library.synced, .recovered = library.recovered, .lost = library.lost_over ? 0 : library.lost };
}

/* --- Subscribing. */

int __wrap_fm_subscription_open (struct fm_node *node, const struct fm_subscription_options *options, struct fm_subscription **ret_subscription);
int __wrap_fm_subscription_open (struct fm_node *node, const struct fm_subscription_options *options, struct fm_subscription **ret_subscription)
{
    (void) node;
    tell ("subscribe from %d delivery %d:", (int) options->from, (int) options->delivery);
    for (const char *const *topic = options->topics; topic && *topic; topic++)
        tell (" %s", *topic);
    tell ("\n");
    return opens (SUBSCRIBE, ret_subscription);
}

void __wrap_fm_subscription_close (struct fm_subscription **subscription);
void __wrap_fm_subscription_close (struct fm_subscription **subscription)
{
    closes (subscription);
}

/* The other thread publishes it, or says that it won't. */
static inline bool take_echo (struct fm_event *ret_event)
{
    const struct timespec moment = { .tv_nsec = 1000000 };
    for (int i = 0; library.taken == library.published; i++) {
        if (library.silent)
            return false;
        if (i == ECHO_WAIT_MS)
            script_failed ("nothing is published");
        (void) nanosleep (&moment, NULL);
    }
    *ret_event = (struct fm_event) { .kind = FM_EVENT_FACT, .fact = { .payload = { library.payloads[library.taken], ECHO_SIZE } } };
    library.taken++;
    return true;
}

int __wrap_fm_subscription_next (struct fm_subscription *subscription, int timeout_ms, struct fm_event *ret_event);
int __wrap_fm_subscription_next (struct fm_subscription *subscription, int timeout_ms, struct fm_event *ret_event)
{
    (void) subscription;
    const struct step *const s = play (NEXT);
    if (s && s->event)
        *ret_event = *s->event;
    if (s)
        return s->rc;
    if (library.echo && take_echo (ret_event))
        return 0;
    waits (timeout_ms);
    return error_set (FM_TIMEOUT, "nothing came");
}

int __wrap_fm_subscription_fd (struct fm_subscription *subscription);
int __wrap_fm_subscription_fd (struct fm_subscription *subscription)
{
    (void) subscription;
    return -1;
}

int __wrap_fm_subscription_ack (struct fm_subscription *subscription);
int __wrap_fm_subscription_ack (struct fm_subscription *subscription)
{
    (void) subscription;
    return play_rc (ACK);
}

int __wrap_fm_subscription_commit (struct fm_subscription *subscription, int timeout_ms);
int __wrap_fm_subscription_commit (struct fm_subscription *subscription, int timeout_ms)
{
    (void) subscription, (void) timeout_ms;
    return play_rc (COMMIT);
}

/* --- Working, asking. */

int __wrap_fm_worker_open (struct fm_node *node, const struct fm_worker_options *options, struct fm_worker **ret_worker);
int __wrap_fm_worker_open (struct fm_node *node, const struct fm_worker_options *options, struct fm_worker **ret_worker)
{
    (void) node;
    tell ("join %s in_hand %u journal %s\n", options->group, options->in_hand, options->journal ? options->journal : "any");
    return opens (WORKER_OPEN, ret_worker);
}

void __wrap_fm_worker_close (struct fm_worker **worker);
void __wrap_fm_worker_close (struct fm_worker **worker)
{
    closes (worker);
}

/* A fact that is handed out goes to the handler; one in doubt, to its check. */
int __wrap_fm_worker_handle (struct fm_worker *worker, const struct fm_handler *handler, int timeout_ms);
int __wrap_fm_worker_handle (struct fm_worker *worker, const struct fm_handler *handler, int timeout_ms)
{
    (void) worker;
    const struct step *const s = play (HANDLE);
    if (!s)
        waits (timeout_ms);
    if (!s || s->rc)
        return s ? s->rc : FM_TIMEOUT;
    const struct fm_work work = { .fact = *s->fact, .offset = 7, .root = s->fact->id, .deliveries = 1, .flags = s->behind ? FM_WORK_IN_DOUBT : 0 };
    const char *reason = "";
    int delay_ms = 0;
    if (s->behind)
        tell ("check %d\n", (int) handler->check (handler->arg, &work));
    else {
        const enum fm_outcome outcome = handler->run (handler->arg, &work, &delay_ms, &reason);
        tell ("outcome %d: %s\n", (int) outcome, reason);
    }
    return 0;
}

int __wrap_fm_worker_commit (struct fm_worker *worker, int timeout_ms);
int __wrap_fm_worker_commit (struct fm_worker *worker, int timeout_ms)
{
    (void) worker, (void) timeout_ms;
    return play_rc (WORKER_COMMIT);
}

int __wrap_fm_work_extend (struct fm_worker *worker);
int __wrap_fm_work_extend (struct fm_worker *worker)
{
    (void) worker;
    return 0;
}

int __wrap_fm_work_left_ms (const struct fm_worker *worker);
int __wrap_fm_work_left_ms (const struct fm_worker *worker)
{
    (void) worker;
    return library.left_ms;
}

int __wrap_fm_requester_open (struct fm_node *node, struct fm_publisher *publisher, const struct fm_requester_options *options, struct fm_requester **ret_requester);
int __wrap_fm_requester_open (struct fm_node *node, struct fm_publisher *publisher, const struct fm_requester_options *options, struct fm_requester **ret_requester)
{
    (void) node, (void) publisher, (void) options;
    return opens (REQUESTER_OPEN, ret_requester);
}

void __wrap_fm_requester_close (struct fm_requester **requester);
void __wrap_fm_requester_close (struct fm_requester **requester)
{
    closes (requester);
}

int __wrap_fm_request_many (struct fm_requester *requester, const struct fm_fact *request, int timeout_ms, unsigned max,
                            int (*each) (void *arg, const struct fm_fact *response), void *arg, unsigned *ret_count);
int __wrap_fm_request_many (struct fm_requester *requester, const struct fm_fact *request, int timeout_ms, unsigned max,
                            int (*each) (void *arg, const struct fm_fact *response), void *arg, unsigned *ret_count)
{
    (void) requester, (void) timeout_ms, (void) max;
    const struct step *const s = play (REQUEST);
    tell ("ask key %.*s type %.*s: %.*s\n", (int) request->key.len, (const char *) request->key.data, (int) request->type.len, (const char *) request->type.data,
          (int) request->payload.len, (const char *) request->payload.data);
    const int rc = s && s->fact ? each (arg, s->fact) : 0;
    *ret_count = s && s->fact;
    return rc ? rc : s ? s->rc : 0;
}

int __wrap_fm_respond (struct fm_publisher *publisher, const struct fm_fact *request, const struct fm_fact *response, struct fm_fact_id *ret_id);
int __wrap_fm_respond (struct fm_publisher *publisher, const struct fm_fact *request, const struct fm_fact *response, struct fm_fact_id *ret_id)
{
    (void) publisher, (void) request, (void) ret_id;
    const int rc = play_rc (RESPOND);
    tell ("respond type %.*s identity %.*s: %.*s\n", (int) response->type.len, (const char *) response->type.data, (int) response->identity.len,
          (const char *) response->identity.data, (int) response->payload.len, (const char *) response->payload.data);
    return rc;
}

/* --- One journal, asked. */

int __wrap_link_open (struct link *link, const struct cli *cli, const char *journal);
int __wrap_link_open (struct link *link, const struct cli *cli, const char *journal)
{
    (void) journal;
    *link = (struct link) { .cli = cli, .timeout_ms = 1000 };
    return CLI_OK;
}

int __wrap_link_join (struct link *link, const struct cli *cli, struct fm_node *node);
int __wrap_link_join (struct link *link, const struct cli *cli, struct fm_node *node)
{
    (void) node;
    return __wrap_link_open (link, cli, NULL);
}

void __wrap_link_close (struct link *link);
void __wrap_link_close (struct link *link)
{
    (void) link;
}

/* Each of them: an exit status, after a message. */
static inline int play_link (enum call call, const struct link *link)
{
    const struct step *const s = play (call);
    return s && s->rc ? cli_fail (link->cli, s->rc, "the journal") : CLI_OK;
}

int __wrap_link_cursor_bytes (struct link *link, const char *name, void **ret_bytes, size_t *ret_len);
int __wrap_link_cursor_bytes (struct link *link, const char *name, void **ret_bytes, size_t *ret_len)
{
    (void) name;
    const int status = play_link (CURSOR, link);
    if (status)
        return status;
    Factmesh__Cursor cursor = FACTMESH__CURSOR__INIT;
    cursor.major = PROTO_MAJOR;
    cursor.journal = control_put_id (&library_stream);
    cursor.generation = 1;
    *ret_bytes = malloc (factmesh__cursor__get_packed_size (&cursor));
    *ret_len = factmesh__cursor__pack (&cursor, *ret_bytes);
    return CLI_OK;
}

int __wrap_link_cursor_filters (struct link *link, const char *name, struct fm_slice *ret_filters);
int __wrap_link_cursor_filters (struct link *link, const char *name, struct fm_slice *ret_filters)
{
    (void) link, (void) name;
    const struct step *const s = play (FILTERS);
    if (s && s->rc)
        return cli_fail (link->cli, s->rc, "the journal");
    *ret_filters = slice_of (s && s->text ? s->text : "");
    return CLI_OK;
}

int __wrap_link_request (struct link *link, Factmesh__Control *request, Factmesh__Control__BodyCase want, Factmesh__Control **ret_reply);
int __wrap_link_request (struct link *link, Factmesh__Control *request, Factmesh__Control__BodyCase want, Factmesh__Control **ret_reply)
{
    static Factmesh__CursorState state;
    static Factmesh__CursorState *states[] = { &state };
    static Factmesh__CursorReply cursors;
    static Factmesh__Control reply;
    (void) want;
    if (request->body_case == FACTMESH__CONTROL__BODY_CURSOR_GET) {
        factmesh__control__init (&reply);
        factmesh__cursor_reply__init (&cursors);
        factmesh__cursor_state__init (&state);
        state.name = request->cursor_get->name;
        cursors.cursors = states;
        cursors.n_cursors = 1;
        reply.cursor_reply = &cursors;
        *ret_reply = &reply;
    }
    if (request->body_case == FACTMESH__CONTROL__BODY_CURSOR_PUT)
        tell ("put %zu positions of %.*s\n", request->cursor_put->cursor->n_positions, (int) request->cursor_put->filters.len, (const char *) request->cursor_put->filters.data);
    return play_link (LINK_REQUEST, link);
}

/* --- Runs. */

struct play {
    const char *line;
    const struct step *steps;
    int status;
    const char *out, *err;              /* all of it; NULL: nothing */
    const char *told;                   /* is in what it did; NULL: whatever */
};

static inline void play_set_up (void)
{
    library.seen = mmap (NULL, sizeof *library.seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal (library.seen, MAP_FAILED);
    library.now_ns = UINT64_C (1000000000000);
    library.left_ms = 1000;
}

static inline void play_run (const char *line, const struct step *steps, struct run *ret_run)
{
    static const struct step none[] = { { .call = END } };
    *library.seen = (struct seen) { .open = 0 };
    library.steps = steps ? steps : none;
    run_line (line, ret_run);
    if (library.seen->open)
        fail_msg ("%s: %d things stay open; status %d, '%s'", line, library.seen->open, ret_run->status, ret_run->err);
}

static inline void play_all (const struct play *plays, size_t count)
{
    struct run r;
    for (const struct play *p = plays; p < plays + count; p++) {
        play_run (p->line, p->steps, &r);
        const char *const out = p->out ? p->out : "", *const err = p->err ? p->err : "";
        if (r.status != p->status || strcmp (r.out, out) != 0 || strcmp (r.err, err) != 0 || (p->told && !strstr (library.seen->told, p->told)))
            fail_msg ("%s: status %d, not %d\nprinted '%s'\nnot     '%s'\nsaid    '%s'\nnot     '%s'\ndid     '%s'\nnot     '%s'", p->line, r.status, p->status, r.out, out,
                      r.err, err, library.seen->told, p->told ? p->told : library.seen->told);
    }
}
#define PLAY_ALL(plays) play_all (plays, sizeof plays / sizeof plays[0])

#endif
