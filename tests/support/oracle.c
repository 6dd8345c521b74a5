#include "oracle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ORACLE_RECORD_MAGIC = 0x4c4f4d46, ORACLE_LEN_MAX = 128 << 20 };

/* The lengths of a fact's four parts, which follow each other in the bytes. */
struct oracle_record {
    uint32_t magic;
    uint32_t topic_len, key_len, headers_len, payload_len;
    uint32_t unused;
    uint64_t seq;
    struct fm_id stream;
};

struct oracle_entry {
    struct oracle_record head;
    size_t position; /* of its bytes */
};

struct oracle_log {
    struct oracle_entry *entries;
    size_t count, size;
    uint8_t *bytes;
    size_t bytes_len, bytes_size;
};

/* ------------------------------------------------------------------ the log */

int oracle_log_new (struct oracle_log **ret_log)
{
    struct oracle_log *log = calloc (1, sizeof *log);

    if (!log)
        return -ENOMEM;
    *ret_log = log;
    return 0;
}

void oracle_log_destroy (struct oracle_log **log)
{
    if (!*log)
        return;
    free ((*log)->entries);
    free ((*log)->bytes);
    free (*log);
    *log = NULL;
}

size_t oracle_log_count (const struct oracle_log *log)
{
    return log->count;
}

/* bytes: those that the record is the head of. */
static struct oracle_fact fact_of (const struct oracle_record *head, const uint8_t *bytes)
{
    const size_t key = head->topic_len, headers = key + head->key_len, payload = headers + head->headers_len;

    return (struct oracle_fact) {
        .stream = head->stream,
        .seq = head->seq,
        .topic = { bytes, head->topic_len },
        .key = { bytes + key, head->key_len },
        .headers = { bytes + headers, head->headers_len },
        .payload = { bytes + payload, head->payload_len },
    };
}

void oracle_log_fact (const struct oracle_log *log, size_t index, struct oracle_fact *ret_fact)
{
    const struct oracle_entry *e = &log->entries[index];

    *ret_fact = fact_of (&e->head, log->bytes + e->position);
}

static size_t record_bytes (const struct oracle_record *head)
{
    return (size_t) head->topic_len + head->key_len + head->headers_len + head->payload_len;
}

/* Room for one more entry with so many bytes. */
static int log_reserve (struct oracle_log *log, size_t len)
{
    if (log->count == log->size) {
        const size_t size = log->size ? 2 * log->size : 4096;
        struct oracle_entry *entries = realloc (log->entries, size * sizeof *entries);
        if (!entries)
            return -ENOMEM;
        log->entries = entries;
        log->size = size;
    }
    if (log->bytes_size - log->bytes_len < len) {
        const size_t size = 2 * (log->bytes_len + len) + 65536;
        uint8_t *bytes = realloc (log->bytes, size);
        if (!bytes)
            return -ENOMEM;
        log->bytes = bytes;
        log->bytes_size = size;
    }
    return 0;
}

static struct oracle_record record_of (const struct oracle_fact *fact)
{
    return (struct oracle_record) {
        .magic = ORACLE_RECORD_MAGIC,
        .topic_len = (uint32_t) fact->topic.len,
        .key_len = (uint32_t) fact->key.len,
        .headers_len = (uint32_t) fact->headers.len,
        .payload_len = (uint32_t) fact->payload.len,
        .seq = fact->seq,
        .stream = fact->stream,
    };
}

static void bytes_add (struct oracle_log *log, struct fm_slice s)
{
    if (s.len)
        memcpy (log->bytes + log->bytes_len, s.data, s.len);
    log->bytes_len += s.len;
}

int oracle_log_add (struct oracle_log *log, const struct oracle_fact *fact)
{
    const struct oracle_record head = record_of (fact);
    const int rc = log_reserve (log, record_bytes (&head));

    if (rc < 0)
        return rc;
    log->entries[log->count++] = (struct oracle_entry) { .head = head, .position = log->bytes_len };
    bytes_add (log, fact->topic);
    bytes_add (log, fact->key);
    bytes_add (log, fact->headers);
    bytes_add (log, fact->payload);
    return 0;
}

int oracle_log_write (FILE *file, const struct oracle_fact *fact)
{
    const struct oracle_record head = record_of (fact);
    const struct fm_slice parts[] = { { &head, sizeof head }, fact->topic, fact->key, fact->headers, fact->payload };

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].len && fwrite (parts[i].data, 1, parts[i].len, file) != parts[i].len)
            return -EIO;
    return 0;
}

static int file_visit (FILE *file, oracle_visit *visit, void *arg, size_t *ret_whole)
{
    struct oracle_record head;
    uint8_t *bytes = NULL;
    size_t size = 0;
    int rc = 0;

    *ret_whole = 0;
    while (rc == 0 && fread (&head, sizeof head, 1, file) == 1) {
        const size_t len = record_bytes (&head);
        if (head.magic != ORACLE_RECORD_MAGIC || len > ORACLE_LEN_MAX) {
            rc = FM_ERR_CORRUPT;
            break;
        }
        if (len >= size) {
            uint8_t *grown = realloc (bytes, 2 * len + 1);
            if (!grown) {
                rc = -ENOMEM;
                break;
            }
            bytes = grown;
            size = 2 * len + 1;
        }
        if (len && fread (bytes, 1, len, file) != len)
            break;
        const struct oracle_fact fact = fact_of (&head, bytes);
        rc = visit (arg, &fact);
        *ret_whole += sizeof head + len;
    }
    free (bytes);
    return rc == 0 && ferror (file) ? -EIO : rc;
}

int oracle_file_visit (const char *path, oracle_visit *visit, void *arg, size_t *ret_whole)
{
    FILE *file = fopen (path, "rb");
    int rc;

    if (!file)
        return -errno;
    rc = file_visit (file, visit, arg, ret_whole);
    (void) fclose (file); /* only read */
    return rc;
}

static int load_fact (void *log, const struct oracle_fact *fact)
{
    return oracle_log_add (log, fact);
}

int oracle_log_load (struct oracle_log *log, const char *path)
{
    size_t whole;

    return oracle_file_visit (path, load_fact, log, &whole);
}

/* ------------------------------------------------------------------ patterns */

/* The level that begins at *pos; moves *pos behind its dot. False when there is none. */
static bool level_next (struct fm_slice name, size_t *pos, struct fm_slice *ret_level)
{
    const char *text = name.data;
    size_t end = *pos;

    if (*pos > name.len)
        return false;
    while (end < name.len && text[end] != '.')
        end++;
    *ret_level = (struct fm_slice) { text + *pos, end - *pos };
    *pos = end + 1;
    return true;
}

bool oracle_matches (const char *pattern, struct fm_slice topic)
{
    const struct fm_slice p = { pattern, strlen (pattern) };
    size_t p_pos = 0, t_pos = 0;
    struct fm_slice want, have;

    while (level_next (p, &p_pos, &want)) {
        if (!level_next (topic, &t_pos, &have))
            return false;
        if (want.len == 1 && *(const char *) want.data == '>')
            return true;
        if (want.len == 1 && *(const char *) want.data == '*')
            continue;
        if (want.len != have.len || memcmp (want.data, have.data, want.len) != 0)
            return false;
    }
    return !level_next (topic, &t_pos, &have);
}

/* ------------------------------------------------------------------ comparing */

struct comparison {
    const struct oracle_log *published, *got;
    FILE *report;
    size_t faults;
    char stream[33];
    size_t *expected; /* places in published, of one stream, that match */
    bool *seen;
    size_t expected_count;
};

static bool fault (struct comparison *c)
{
    c->faults++;
    if (c->faults == ORACLE_FAULTS_TOLD + 1)
        (void) fprintf (c->report, "ORACLE-MORE further faults are only counted\n");
    return c->faults <= ORACLE_FAULTS_TOLD;
}

static bool id_equal (const struct fm_id *a, const struct fm_id *b)
{
    return memcmp (a, b, sizeof *a) == 0;
}

static bool is_expected (const struct oracle_log *log, const struct oracle_entry *e, const char *const *patterns,
                         size_t count)
{
    const struct fm_slice topic = { log->bytes + e->position, e->head.topic_len };

    for (size_t i = 0; i < count; i++)
        if (oracle_matches (patterns[i], topic))
            return true;
    return count == 0;
}

/* Which part of two facts with the same name differs first; NULL: none. */
static const char *part_that_differs (const struct oracle_log *a_log, const struct oracle_entry *a,
                                      const struct oracle_log *b_log, const struct oracle_entry *b)
{
    static const char *const names[] = { "topic", "key", "headers", "payload" };
    const uint32_t a_len[] = { a->head.topic_len, a->head.key_len, a->head.headers_len, a->head.payload_len };
    const uint32_t b_len[] = { b->head.topic_len, b->head.key_len, b->head.headers_len, b->head.payload_len };
    size_t pos = 0;

    for (int i = 0; i < 4; i++) {
        if (a_len[i] != b_len[i])
            return names[i];
        if (a_len[i] && memcmp (a_log->bytes + a->position + pos, b_log->bytes + b->position + pos, a_len[i]) != 0)
            return names[i];
        pos += a_len[i];
    }
    return NULL;
}

/* The place in c->expected of a sequence, or expected_count. */
static size_t expected_find (const struct comparison *c, uint64_t seq)
{
    size_t low = 0, high = c->expected_count;

    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (c->published->entries[c->expected[mid]].head.seq < seq)
            low = mid + 1;
        else
            high = mid;
    }
    if (low < c->expected_count && c->published->entries[c->expected[low]].head.seq == seq)
        return low;
    return c->expected_count;
}

static void got_check (struct comparison *c, const struct oracle_entry *g, uint64_t newest)
{
    const size_t place = expected_find (c, g->head.seq);
    const char *part;

    if (place == c->expected_count) {
        if (fault (c))
            (void) fprintf (c->report, "ORACLE-UNEXPECTED stream=%s seq=%llu: not published, or not asked for\n",
                            c->stream, (unsigned long long) g->head.seq);
        return;
    }
    if (c->seen[place]) {
        if (fault (c))
            (void) fprintf (c->report, "ORACLE-DUPLICATE stream=%s seq=%llu\n", c->stream,
                            (unsigned long long) g->head.seq);
    } else if (g->head.seq < newest && fault (c)) {
        (void) fprintf (c->report, "ORACLE-REORDERED stream=%s seq=%llu came behind seq=%llu\n", c->stream,
                        (unsigned long long) g->head.seq, (unsigned long long) newest);
    }
    c->seen[place] = true;
    part = part_that_differs (c->published, &c->published->entries[c->expected[place]], c->got, g);
    if (part && fault (c))
        (void) fprintf (c->report, "ORACLE-ALTERED stream=%s seq=%llu: the %s differs\n", c->stream,
                        (unsigned long long) g->head.seq, part);
}

/* Tell each run of facts that did not come. */
static void lost_report (struct comparison *c)
{
    for (size_t first = 0, end; first < c->expected_count; first = end) {
        const char *where;
        end = first + 1;
        if (c->seen[first])
            continue;
        while (end < c->expected_count && !c->seen[end])
            end++;
        if (first == 0 && end == c->expected_count)
            where = "whole";
        else if (first == 0)
            where = "prefix";
        else if (end == c->expected_count)
            where = "suffix";
        else
            where = "middle";
        if (fault (c))
            (void) fprintf (c->report, "ORACLE-LOST %s stream=%s seq=%llu..%llu facts=%zu of=%zu\n", where, c->stream,
                            (unsigned long long) c->published->entries[c->expected[first]].head.seq,
                            (unsigned long long) c->published->entries[c->expected[end - 1]].head.seq, end - first,
                            c->expected_count);
    }
}

static void stream_compare (struct comparison *c, const struct fm_id *stream, const char *const *patterns, size_t count)
{
    uint64_t newest = 0;

    for (size_t i = 0; i < sizeof stream->bytes; i++)
        (void) snprintf (c->stream + 2 * i, 3, "%02x", stream->bytes[i]);
    c->expected_count = 0;
    for (size_t i = 0; i < c->published->count; i++) {
        const struct oracle_entry *e = &c->published->entries[i];
        if (id_equal (&e->head.stream, stream) && is_expected (c->published, e, patterns, count)) {
            c->seen[c->expected_count] = false;
            c->expected[c->expected_count++] = i;
        }
    }
    for (size_t i = 0; i < c->got->count; i++) {
        const struct oracle_entry *g = &c->got->entries[i];
        if (!id_equal (&g->head.stream, stream))
            continue;
        got_check (c, g, newest);
        if (g->head.seq > newest)
            newest = g->head.seq;
    }
    lost_report (c);
}

/* Compare the streams that first appear in log; skip: those of the other log, which were compared already. */
static int streams_compare (struct comparison *c, const struct oracle_log *log, struct fm_id **done, size_t *done_count,
                            const char *const *patterns, size_t count)
{
    for (size_t i = 0; i < log->count; i++) {
        const struct fm_id *stream = &log->entries[i].head.stream;
        struct fm_id *grown;
        size_t k = *done_count;
        while (k > 0 && !id_equal (&(*done)[k - 1], stream))
            k--;
        if (k > 0)
            continue;
        grown = realloc (*done, (*done_count + 1) * sizeof **done);
        if (!grown)
            return -ENOMEM;
        *done = grown;
        grown[(*done_count)++] = *stream;
        stream_compare (c, stream, patterns, count);
    }
    return 0;
}

size_t oracle_compare (const struct oracle_log *published, const struct oracle_log *got, const char *const *patterns,
                       size_t pattern_count, FILE *report)
{
    struct comparison c = { .published = published, .got = got, .report = report };
    struct fm_id *done = NULL;
    size_t done_count = 0;

    c.expected = calloc (published->count + 1, sizeof *c.expected);
    c.seen = calloc (published->count + 1, sizeof *c.seen);
    if (!c.expected || !c.seen || streams_compare (&c, published, &done, &done_count, patterns, pattern_count) < 0 ||
        streams_compare (&c, got, &done, &done_count, patterns, pattern_count) < 0) {
        c.faults++;
        (void) fprintf (report, "ORACLE-MEMORY there is none left to compare with\n");
    }
    free (done);
    free (c.seen);
    free (c.expected);
    return c.faults;
}
