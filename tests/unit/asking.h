/* asking: the commands that ask a journal, from their arguments to what they print, with a journal that follows a script (scripted_journal.h). The Makefile
 * links in those that `ask` knows. */

#ifndef FM_TESTS_ASKING_H
#define FM_TESTS_ASKING_H

#include "scripted_group.h"

#include "blob.h"
#include "listen.h"

#include "../../nodes/cli/commands.h"
#include "../../nodes/cli/cursor_next.h"
#include "../../nodes/cli/large.h"
#include "../../nodes/cli/stream_pool.h"

/* --- What they stand on that is not asked here. */

static int fake_node_open (const struct fm_node_options *options, struct fm_node **ret_node)
{
    (void) options;
    *ret_node = &script;
    return 0;
}
static int fake_clock (clockid_t clock, struct timespec *ret)
{
    (void) clock;
    ret->tv_sec = (time_t) (script.now_ns / 1000000000);
    ret->tv_nsec = (long) (script.now_ns % 1000000000);
    return 0;
}
#define fm_node_open fake_node_open
#define clock_gettime fake_clock
#include "../../nodes/cli/options.c"
#undef clock_gettime

int fm_node_wait_journal (struct fm_node *node, int timeout_ms)
{
    if (node->journal_count && node->journals[0].is_member)
        return 0;
    script_pass ((unsigned) timeout_ms);
    return error_set (FM_ERR_NO_JOURNAL, "nobody answers");
}

int fm_node_wait_members (struct fm_node *node, unsigned count, int timeout_ms)
{
    (void) node, (void) count;
    script_pass ((unsigned) timeout_ms);
    return FM_TIMEOUT;
}

void fm_node_close (struct fm_node **node)
{
    *node = NULL;
}

int cursor_next_print (struct link *link, const char *name, uint64_t count, bool json)
{
    (void) link, (void) name, (void) count, (void) json;
    return CLI_OK;
}

int cursor_step_over (struct link *link, const char *name, const struct cursor_step *step)
{
    (void) link, (void) name, (void) step;
    return CLI_OK;
}

int large_fetch_option (const struct cli *c, const char *value, uint64_t *ret_max)
{
    (void) c, (void) value, (void) ret_max;
    return CLI_USAGE;
}

int large_fetch (struct fm_node *node, uint64_t max, int timeout_ms, struct fm_fact *fact, void **ret_buffer)
{
    (void) node, (void) max, (void) timeout_ms, (void) fact, (void) ret_buffer;
    return FM_ERR_UNKNOWN;
}

int stream_pool_open (struct fm_node *node, const char *mesh, const char *name, struct fm_publisher_options *options, struct fm_publisher **ret_publisher)
{
    (void) node, (void) mesh, (void) name, (void) options, (void) ret_publisher;
    return error_set (FM_ERR_IN_USE, "not here");
}

int fm_publish (struct fm_publisher *p, const struct fm_fact *fact, struct fm_fact_id *ret_id)
{
    (void) p, (void) fact, (void) ret_id;
    return FM_ERR_UNKNOWN;
}

int fm_publisher_wait_synced (struct fm_publisher *p, uint64_t seq, int timeout_ms)
{
    (void) p, (void) seq, (void) timeout_ms;
    return FM_ERR_UNKNOWN;
}

void fm_publisher_close (struct fm_publisher **p)
{
    *p = NULL;
}

static int blob_timeout_ms, blob_rc;

int fm_blob_put_fd (struct fm_node *node, int fd, const struct fm_blob_options *options, struct fm_blob *ret_blob)
{
    (void) node, (void) fd, (void) ret_blob;
    blob_timeout_ms = options->timeout_ms;
    if (blob_rc == FM_INTERRUPTED)
        assert_int_equal (raise (SIGINT), 0);
    return blob_rc;
}

int fm_blob_get_fd (struct fm_node *node, const uint8_t sha256[32], int fd, const struct fm_blob_options *options, struct fm_blob_info *ret_info)
{
    (void) node, (void) sha256, (void) fd, (void) options, (void) ret_info;
    return blob_rc;
}

int fm_blob_stat (struct fm_node *node, const uint8_t sha256[32], const struct fm_blob_options *options, struct fm_blob_info *ret_info)
{
    (void) node, (void) sha256, (void) options, (void) ret_info;
    return blob_rc;
}

int fm_blob_parse (const char *text, uint8_t ret_sha256[32])
{
    memset (ret_sha256, 7, 32);
    return strlen (text) == 64 ? 0 : FM_ERR_ARGUMENT;
}

char *fm_blob_text (const uint8_t sha256[32], char *text)
{
    for (size_t i = 0; i < 32; i++)
        (void) snprintf (text + 2 * i, 3, "%02x", sha256[i]);
    return text;
}

/* --- Running them. */

static struct scripted *journal;
static int status;
static char out[LISTEN_TEXT_MAX], err[LISTEN_TEXT_MAX];

static inline void ask (const char *line)
{
    static const struct {
        const char *name;
        int (*run) (int argc, char **argv);
    } commands[] = { { "status", command_status }, { "cursor", command_cursor }, { "group", command_group },     { "trace", command_trace },
                     { "replay", command_replay }, { "correct", command_correct }, { "repair", command_repair }, { "blob", command_blob } };
    char *const copy = strdup (line), *rest = copy, *argv[32];
    int argc = 0;
    for (char *word; (word = strsep (&rest, " "));)
        argv[argc++] = word;
    argv[argc] = NULL;
    const struct listener heard_out = listen_to (STDOUT_FILENO), heard_err = listen_to (STDERR_FILENO);
    optind = 0;
    caught = 0;
    status = -1;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp (commands[i].name, copy) == 0)
            status = commands[i].run (argc, argv);
    heard (&heard_err, err);
    heard (&heard_out, out);
    free (copy);
}

static inline void expect_said (int want, const char *words)
{
    if (status != want || !strstr (err, words))
        fail_msg ("status %d, not %d, and '%s' instead of '%s'", status, want, err, words);
}

static inline void refuse (struct scripted *j, const Factmesh__Control *question)
{
    script_refuse (j, question->request, FACTMESH__ERROR_CODE__ERROR_LIMIT, "not today");
}

static inline void say (struct scripted *j, const Factmesh__Control *question, Factmesh__Control__BodyCase kind, void *body)
{
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    control.body_case = kind;
    control.status_reply = body;        /* all members of the union are pointers to messages */
    script_say (j, question->request, &control);
}

static inline struct fm_id stream_number (unsigned n)
{
    return (struct fm_id) { { 's', (uint8_t) (n >> 8), (uint8_t) n } };
}

/* --- What several answer. */

#define EPOCH_BEGINS "1970-01-01T00:00:00"

enum { STREAMS = 600 };

static inline void answer_status (struct scripted *j, const Factmesh__Control *question)
{
    static Factmesh__StreamStatus streams[STREAMS];
    static struct fm_id ids[STREAMS];
    Factmesh__StreamStatus *pointers[STREAMS];
    Factmesh__StatusReply reply = FACTMESH__STATUS_REPLY__INIT;
    struct fm_id after = { { 0 } };
    (void) control_get_id (&question->status_get->streams_after, &after);
    reply.generation = 1;
    reply.first_offset = 1;
    reply.written_offset = 9;
    reply.synced_offset = 8;
    reply.streams = pointers;
    for (unsigned n = 0; n < STREAMS; n++) {
        ids[n] = stream_number (n);
        if (memcmp (ids[n].bytes, after.bytes, ID_LEN) <= 0)
            continue;
        if (reply.n_streams == question->status_get->streams_limit) {
            reply.more = true;
            break;
        }
        factmesh__stream_status__init (&streams[n]);
        streams[n].stream = n == 3 ? control_put_slice (slice_of ("")) : control_put_id (&ids[n]);
        streams[n].name = control_put_slice (slice_of ("name"));
        streams[n].epoch = n;
        pointers[reply.n_streams++] = &streams[n];
    }
    say (j, question, FACTMESH__CONTROL__BODY_STATUS_REPLY, &reply);
}

static inline void say_data (struct scripted *j, const struct replay_header *header, struct fm_slice batches)
{
    zmq_msg_t message;
    assert_int_equal (replay_data_encode (header, slice_of ("test"), batches, &message), 0);
    script_say_bytes (j, zmq_msg_data (&message), zmq_msg_size (&message));
    (void) zmq_msg_close (&message);
}

static inline void say_end (struct scripted *j, uint64_t session, uint64_t next_offset)
{
    Factmesh__ReplayEnd end = FACTMESH__REPLAY_END__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    end.session = session;
    end.next_offset = next_offset;
    control.body_case = FACTMESH__CONTROL__BODY_REPLAY_END;
    control.replay_end = &end;
    script_say (j, 0, &control);
}

static inline void say_session_error (struct scripted *j, uint64_t session, Factmesh__ErrorCode code, const char *text)
{
    Factmesh__Error error = FACTMESH__ERROR__INIT;
    Factmesh__Control control = FACTMESH__CONTROL__INIT;
    error.session = session;
    error.code = code;
    error.text = control_put_slice (slice_of (text));
    control.body_case = FACTMESH__CONTROL__BODY_ERROR;
    control.error = &error;
    script_say (j, 0, &control);
}

static inline size_t count_of (const char *text, const char *what)
{
    size_t n = 0;
    for (; (text = strstr (text, what)); text++)
        n++;
    return n;
}

#endif
