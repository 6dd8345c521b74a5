#include "log_kit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "factmesh.pb-c.h"

/* A tool of tests must not go on after a failure of its own. */
static void need (bool condition, const char *what)
{
    if (!condition) {
        perror (what);
        abort ();
    }
}

void kit_directory (char path[128])
{
    /* In memory where there is such a place: what is tested is which calls are made, not the disk below. */
    const char *base = getenv ("TMPDIR");
    if (!base)
        base = access ("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void) snprintf (path, 128, "%s/factmesh-log-XXXXXX", base);
    need (mkdtemp (path) != NULL, path);
}

static void each_file (const char *path, void (*each) (const char *path, const char *name, bool directory, void *arg),
                       void *arg)
{
    DIR *d = opendir (path);
    need (d != NULL, path);
    for (struct dirent *e; (e = readdir (d));) {
        if (strcmp (e->d_name, ".") == 0 || strcmp (e->d_name, "..") == 0)
            continue;
        char name[512];
        struct stat st;
        (void) snprintf (name, sizeof name, "%s/%s", path, e->d_name);
        need (lstat (name, &st) == 0, name);
        each (name, e->d_name, S_ISDIR (st.st_mode), arg);
    }
    closedir (d);
}

static void remove_one (const char *path, const char *name, bool directory, void *arg)
{
    (void) name;
    (void) arg;
    if (directory)
        kit_remove (path);
    else
        need (unlink (path) == 0, path);
}

void kit_remove (const char *path)
{
    each_file (path, remove_one, NULL);
    need (rmdir (path) == 0, path);
}

static void copy_one (const char *path, const char *name, bool directory, void *arg)
{
    char to[512];
    (void) snprintf (to, sizeof to, "%s/%s", (const char *) arg, name);
    if (directory) {
        kit_copy (path, to);
        return;
    }
    const int from_fd = open (path, O_RDONLY), to_fd = open (to, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    need (from_fd >= 0 && to_fd >= 0, path);
    char buffer[65536];
    for (ssize_t n; (n = read (from_fd, buffer, sizeof buffer)) > 0;)
        need (write (to_fd, buffer, (size_t) n) == n, to);
    close (from_fd);
    close (to_fd);
}

void kit_copy (const char *from, const char *to)
{
    need (mkdir (to, 0777) == 0 || errno == EEXIST, to);
    each_file (from, copy_one, (void *) (uintptr_t) to);
}

void kit_segment_path (const char *directory, uint64_t number, char path[256])
{
    (void) snprintf (path, 256, "%s/segments/%010llu.seg", directory, (unsigned long long) number);
}

uint64_t kit_file_size (const char *path)
{
    struct stat st;
    need (stat (path, &st) == 0, path);
    return (uint64_t) st.st_size;
}

void kit_flip (const char *path, int64_t pos)
{
    const int fd = open (path, O_RDWR);
    need (fd >= 0, path);
    const off_t at = (off_t) (pos < 0 ? (int64_t) kit_file_size (path) + pos : pos);
    uint8_t byte;
    need (pread (fd, &byte, 1, at) == 1, path);
    byte = (uint8_t) ~byte;
    need (pwrite (fd, &byte, 1, at) == 1, path);
    close (fd);
}

void kit_truncate (const char *path, uint64_t len)
{
    need (truncate (path, (off_t) len) == 0, path);
}

void kit_append (const char *path, const void *bytes, size_t len)
{
    const int fd = open (path, O_WRONLY | O_APPEND);
    need (fd >= 0 && write (fd, bytes, len) == (ssize_t) len, path);
    close (fd);
}

struct fm_id kit_stream (unsigned number)
{
    struct fm_id id = { { 0 } };
    for (unsigned i = 0; i < ID_LEN; i++)
        id.bytes[i] = (uint8_t) (number * 151 + i * 37 + (number >> 8) + 1);
    bytes_put_u32le (id.bytes, number + 1);
    return id;
}

static void fill (uint8_t *p, size_t len, unsigned stream, uint64_t seq)
{
    uint64_t x = seq * UINT64_C (0x9E3779B97F4A7C15) + stream + 1;
    for (size_t i = 0; i < len; i++) {
        if (i % 8 == 0)
            x = x * UINT64_C (6364136223846793005) + UINT64_C (1442695040888963407);
        p[i] = (uint8_t) (x >> (8 * (i % 8)));
    }
}

enum { KIT_TOPICS_MAX = 16 };

static uint32_t split_topics (const char *topic, struct batch_topic topics[KIT_TOPICS_MAX])
{
    static const uint8_t backs[TOPIC_LEVELS_MAX];   /* zeros: an upper bound of the last sequence is always right */
    uint32_t count = 0;
    while (*topic) {
        const size_t len = strcspn (topic, "|");
        unsigned levels = 1;
        for (size_t i = 0; i < len; i++)
            levels += topic[i] == '.';
        need (count < KIT_TOPICS_MAX, "topics");
        topics[count++] = (struct batch_topic) { .name = slice (topic, len), .backs = slice (backs, levels) };
        topic += len + (topic[len] == '|');
    }
    return count;
}

void kit_batch_make (const struct kit_batch_spec *spec, struct kit_batch *ret_batch)
{
    struct batch_topic topics[KIT_TOPICS_MAX];
    struct kit_batch k = { 0 };
    struct batch b = {
        .minor = PROTO_MINOR,
        .major = PROTO_MAJOR,
        .count = spec->count,
        .mesh = slice_of ("test"),
        .type = slice_of ("Kit"),
        .stream = kit_stream (spec->stream),
        .epoch = spec->epoch ? spec->epoch : 1,
        .epoch_first_seq = spec->epoch_first_seq ? spec->epoch_first_seq : 1,
        .first_seq = spec->first_seq,
        .time_ns = 1000 + spec->first_seq,
        .topics = topics,
        .features = spec->identity ? (uint64_t) FACTMESH__FEATURE__FEATURE_IDENTITY : 0,
    };
    b.incarnation = spec->incarnation ? spec->incarnation : b.epoch + 7;
    b.topic_count = split_topics (spec->topic ? spec->topic : "a.b", topics);
    const struct batch_defaults defaults = { .type = b.type, .time_ns = b.time_ns };
    struct fm_fact fact = { .time_ns = b.time_ns, .type = b.type, .key = slice_of (spec->key ? spec->key : ""), .corrects = spec->corrects,
                            .blob = spec->blob };
    b.features |= fact_features (&fact);

    uint8_t *payload = malloc (spec->payload_len + 1);
    const struct fm_slice identity = slice_of (spec->identity ? spec->identity : "");
    size_t bound = batch_header_bound (&b) + spec->count * (spec->payload_len + fact.key.len + fact.blob.len + 64) + identity.len;
    k.bytes = malloc (bound);
    need (payload && k.bytes, "malloc");
    uint8_t *p = batch_encode_header (k.bytes, &b);
    for (uint32_t i = 0; i < spec->count; i++) {
        fill (payload, spec->payload_len, spec->stream, spec->first_seq + i);
        fact.topic_index = i % b.topic_count;
        fact.payload = slice (payload, spec->payload_len);
        fact.identity = i ? slice (NULL, 0) : identity;
        need ((size_t) (p - k.bytes) + fact_encoded_len (&fact, &defaults) <= bound, "bound");
        p = fact_encode (p, &fact, &defaults);
    }
    free (payload);
    k.len = (size_t) (p - k.bytes);
    need (batch_decode (k.bytes, k.len, slice (NULL, 0), &k.scratch, &k.batch) == 0, "batch_decode");
    need (batch_check_facts (&k.batch) == 0, "batch_check_facts");
    *ret_batch = k;
}

void kit_batch_release (struct kit_batch *b)
{
    free (b->bytes);
    batch_scratch_release (&b->scratch);
    *b = (struct kit_batch) { 0 };
}

uint64_t kit_append_batch (struct log *log, const struct kit_batch_spec *spec)
{
    struct kit_batch k;
    uint64_t offset = 0;
    kit_batch_make (spec, &k);
    const int rc = log_append (log, &k.batch, &offset);
    errno = rc < 0 && rc > -4096 ? -rc : 0;
    need (rc == 0, "log_append");
    kit_batch_release (&k);
    return offset;
}

bool kit_item_is (const struct log_item *item, const struct kit_batch_spec *spec)
{
    struct kit_batch k;
    kit_batch_make (spec, &k);
    const bool same = item->kind == LOG_ITEM_BATCH && item->first_seq == spec->first_seq
                      && item->end_seq == spec->first_seq + spec->count && id_equal (&item->stream, &k.batch.stream)
                      && slice_equal (item->bytes, slice (k.bytes, k.len));
    kit_batch_release (&k);
    return same;
}

void kit_sync (struct log *log)
{
    int rc;
    while ((rc = log_write (log)) == 0)
        ;
    need (rc == FM_ERR_END, "log_write");
    need (log_sync (log, NULL) == 0, "log_sync");
}

static uint64_t kit_now (void *context)
{
    return __atomic_load_n (&((struct kit_clock *) context)->now_ns, __ATOMIC_RELAXED);
}

void kit_clock_init (struct kit_clock *c)
{
    c->now_ns = UINT64_C (1700000000000000000);
    c->clock = (struct clock) { .context = c, .unix_ns = kit_now, .monotonic_ns = kit_now };
}

void kit_clock_advance (struct kit_clock *c, uint64_t ns)
{
    (void) __atomic_fetch_add (&c->now_ns, ns, __ATOMIC_RELAXED);
}
