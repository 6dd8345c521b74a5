#include "segment_index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "checksum.h"
#include "factmesh.pb-c.h"
#include "fm_types.h"

enum { STREAM_BUCKETS = 2 * INDEX_STREAMS_MAX, TOPIC_BUCKETS = 2 * INDEX_TOPICS_MAX };

/* The top bit of a stream's number of gaps: a segment has not that many records. */
#define GAPS_CLOSED UINT32_C (0x80000000)

/* A hash table of numbers into an array; open addressing, nothing is ever removed but everything. Number + 1; 0:
 * free. */
struct segment_index {
    struct index_stream *streams;
    uint32_t *stream_buckets;
    uint32_t stream_count;

    struct topic_entry {
        uint32_t pos;                       /* in names */
        uint32_t len;
        uint64_t facts;
    } *topics;
    uint32_t *topic_buckets;
    uint8_t *names;
    uint32_t topic_count, name_bytes;

    struct index_position *positions;
    uint32_t position_count;

    struct identity_entry *identities;
    uint32_t identity_count;

    uint64_t hash_seed;                     /* random: ids and names come from the wire */
    uint64_t end_offset, first_time_ns, last_time_ns, records, facts;
    uint32_t flags;
    struct batch_scratch scratch;           /* has room for any batch: for want of memory none must be left out, which would pass for damage */
    uint64_t *topic_facts;                  /* of one batch, by its topic index */
};

int segment_index_new (struct segment_index **ret_index)
{
    struct segment_index *x = calloc (1, sizeof *x);
    if (!x)
        return -ENOMEM;
    x->hash_seed = id_random_u64 ();
    x->streams = malloc (INDEX_STREAMS_MAX * sizeof *x->streams);
    x->stream_buckets = calloc (STREAM_BUCKETS, sizeof *x->stream_buckets);
    x->topics = malloc (INDEX_TOPICS_MAX * sizeof *x->topics);
    x->topic_buckets = calloc (TOPIC_BUCKETS, sizeof *x->topic_buckets);
    x->names = malloc (INDEX_TOPIC_BYTES_MAX);
    x->positions = malloc (INDEX_POSITIONS_MAX * sizeof *x->positions);
    x->topic_facts = malloc (BATCH_TOPICS_MAX * sizeof *x->topic_facts);
    x->scratch.topics = malloc (BATCH_TOPICS_MAX * sizeof *x->scratch.topics);
    x->identities = malloc (INDEX_IDENTITIES_MAX * sizeof *x->identities);
    if (!x->streams || !x->stream_buckets || !x->topics || !x->topic_buckets || !x->names || !x->positions
        || !x->topic_facts || !x->scratch.topics || !x->identities) {
        segment_index_destroy (&x);
        return -ENOMEM;
    }
    x->scratch.size = BATCH_TOPICS_MAX;
    *ret_index = x;
    return 0;
}

void segment_index_destroy (struct segment_index **index)
{
    struct segment_index *x = *index;
    if (!x)
        return;
    free (x->streams);
    free (x->stream_buckets);
    free (x->topics);
    free (x->topic_buckets);
    free (x->names);
    free (x->positions);
    free (x->identities);
    free (x->topic_facts);
    batch_scratch_release (&x->scratch);
    free (x);
    *index = NULL;
}

void segment_index_reset (struct segment_index *x)
{
    memset (x->stream_buckets, 0, STREAM_BUCKETS * sizeof *x->stream_buckets);
    memset (x->topic_buckets, 0, TOPIC_BUCKETS * sizeof *x->topic_buckets);
    x->stream_count = x->topic_count = x->name_bytes = x->position_count = x->identity_count = 0;
    x->end_offset = x->first_time_ns = x->last_time_ns = x->records = x->facts = 0;
    x->flags = 0;
}

bool segment_index_has_room (const struct segment_index *x)
{
    return x->stream_count < INDEX_STREAMS_MAX;
}

bool segment_index_takes_identities (const struct segment_index *x)
{
    return x->identity_count <= INDEX_IDENTITIES_MAX - BATCH_FACTS_MAX;
}

/* The bucket of the stream, or the free one where it would go. */
static uint32_t *stream_bucket (const struct segment_index *x, const struct fm_id *stream)
{
    for (uint64_t i = checksum_seeded (stream->bytes, ID_LEN, x->hash_seed);; i++) {
        uint32_t *bucket = &x->stream_buckets[i % STREAM_BUCKETS];
        if (*bucket == 0 || id_equal (&x->streams[*bucket - 1].stream, stream))
            return bucket;
    }
}

static uint32_t add_stream (struct segment_index *x, const struct record *r, uint64_t last_seq, uint64_t pos)
{
    uint32_t *bucket = stream_bucket (x, &r->stream);
    if (*bucket == 0) {
        assert (x->stream_count < INDEX_STREAMS_MAX);
        x->streams[x->stream_count] = (struct index_stream) { .stream = r->stream,
                                                              .first_seq = r->first_seq,
                                                              .first_pos = pos };
        *bucket = ++x->stream_count;
    }
    struct index_stream *s = &x->streams[*bucket - 1];
    s->epoch = r->epoch;
    s->incarnation = r->incarnation;
    s->last_seq = last_seq;
    s->last_offset = r->offset;
    s->bytes += record_len (r->body_len);
    s->records++;
    s->gaps += r->kind == RECORD_GAP;
    s->closed = r->flags & RECORD_FLAG_CLOSED;
    return *bucket - 1;
}

static void add_topic (struct segment_index *x, struct fm_slice name, uint64_t facts)
{
    for (uint64_t i = checksum_seeded (name.data, name.len, x->hash_seed);; i++) {
        uint32_t *bucket = &x->topic_buckets[i % TOPIC_BUCKETS];
        if (*bucket == 0) {
            if (x->topic_count == INDEX_TOPICS_MAX || name.len > INDEX_TOPIC_BYTES_MAX - x->name_bytes) {
                x->flags |= SEGMENT_FLAG_TOPICS_INCOMPLETE;
                return;
            }
            memcpy (x->names + x->name_bytes, name.data, name.len);
            x->topics[x->topic_count] = (struct topic_entry) { .pos = x->name_bytes, .len = (uint32_t) name.len };
            x->name_bytes += (uint32_t) name.len;
            *bucket = ++x->topic_count;
        }
        struct topic_entry *t = &x->topics[*bucket - 1];
        if (t->len == name.len && memcmp (x->names + t->pos, name.data, name.len) == 0) {
            t->facts += facts;
            return;
        }
    }
}

static void add_identities (struct segment_index *x, const struct batch *b)
{
    struct identity_reader reader;
    identity_reader_init (&reader, b);
    while (x->identity_count < INDEX_IDENTITIES_MAX && identity_reader_next (&reader, &x->identities[x->identity_count]) == 0)
        x->identity_count++;
}

/* Only a batch of several topics, or with identities, needs a look at its facts. */
static void add_topics (struct segment_index *x, const struct record *r, const uint8_t *body)
{
    struct batch b;
    if (batch_decode (body, r->body_len, slice (NULL, 0), &x->scratch, &b)) {
        x->flags |= SEGMENT_FLAG_TOPICS_INCOMPLETE;
        return;
    }
    if (b.features & FACTMESH__FEATURE__FEATURE_IDENTITY)
        add_identities (x, &b);
    if (b.topic_count == 1) {
        add_topic (x, b.topics[0].name, b.count);
        return;
    }
    memset (x->topic_facts, 0, b.topic_count * sizeof *x->topic_facts);
    struct batch_reader reader;
    struct fm_fact fact;
    batch_reader_init (&reader, &b);
    int rc;
    while ((rc = batch_reader_next (&reader, &fact)) == 0)
        x->topic_facts[fact.topic_index < b.topic_count ? fact.topic_index : 0]++;
    if (rc != FM_ERR_END)
        x->flags |= SEGMENT_FLAG_TOPICS_INCOMPLETE;
    for (uint32_t i = 0; i < b.topic_count; i++)
        add_topic (x, b.topics[i].name, x->topic_facts[i]);
}

static void add_position (struct segment_index *x, const struct record *r, uint64_t pos)
{
    const struct index_position *last = x->position_count > 0 ? &x->positions[x->position_count - 1] : NULL;
    if (last && pos / INDEX_POSITION_STEP == last->pos / INDEX_POSITION_STEP)
        return;
    if (x->position_count < INDEX_POSITIONS_MAX)
        x->positions[x->position_count++] = (struct index_position) { .pos = pos,
                                                                      .offset = r->offset,
                                                                      .time_ns = r->time_ns };
}

uint32_t segment_index_add (struct segment_index *x, const struct record *r, const uint8_t *body, uint64_t pos)
{
    if (r->kind == RECORD_STREAM_SNAPSHOT || r->kind == RECORD_CURSOR_SNAPSHOT || r->kind == RECORD_SYNC_MARK)
        return UINT32_MAX;
    x->records++;
    x->facts += r->kind == RECORD_BATCH ? r->count : 0;
    x->end_offset = r->offset + record_offsets (r);
    x->first_time_ns = x->first_time_ns ? x->first_time_ns : r->time_ns;
    x->last_time_ns = r->time_ns;
    add_position (x, r, pos);
    if (r->kind == RECORD_BATCH) {
        if (body)
            add_topics (x, r, body);
        else
            segment_index_damaged (x);
        return add_stream (x, r, r->first_seq + r->count - 1, pos);
    }
    uint64_t end_seq;
    uint32_t reason;
    if (r->kind == RECORD_GAP && record_gap_decode (r, body, &end_seq, &reason) == 0) {
        x->flags |= SEGMENT_FLAG_GAPS;
        return add_stream (x, r, end_seq - 1, pos);
    }
    return UINT32_MAX;
}

void segment_index_damaged (struct segment_index *x)
{
    x->flags |= SEGMENT_FLAG_DAMAGED | SEGMENT_FLAG_TOPICS_INCOMPLETE;
}

bool segment_index_is_damaged (const struct segment_index *x)
{
    return x->flags & SEGMENT_FLAG_DAMAGED;
}

const struct identity_entry *segment_index_identities (const struct segment_index *x, uint32_t *ret_count)
{
    *ret_count = x->identity_count;
    return x->identities;
}

void segment_index_drop_identities (struct segment_index *x)
{
    x->identity_count = 0;
}

const struct index_stream *segment_index_stream (const struct segment_index *x, uint32_t number)
{
    assert (number < x->stream_count);
    return &x->streams[number];
}

const struct index_stream *segment_index_find (const struct segment_index *x, const struct fm_id *stream)
{
    const uint32_t *bucket = stream_bucket (x, stream);
    return *bucket ? &x->streams[*bucket - 1] : NULL;
}

uint32_t segment_index_stream_count (const struct segment_index *x)
{
    return x->stream_count;
}

size_t segment_index_positions (const struct segment_index *x, struct index_position *ret, size_t max)
{
    const size_t count = x->position_count < max ? x->position_count : max;
    memcpy (ret, x->positions, count * sizeof *ret);
    return count;
}

void segment_index_each_topic (const struct segment_index *x, void (*each) (void *arg, const struct index_topic *t),
                               void *arg)
{
    for (uint32_t i = 0; i < x->topic_count; i++) {
        const struct index_topic topic = { .name = slice (x->names + x->topics[i].pos, x->topics[i].len),
                                           .facts = x->topics[i].facts };
        each (arg, &topic);
    }
}

void segment_index_summary (const struct segment_index *x, uint64_t records_end, struct segment_trailer *ret_summary)
{
    *ret_summary = (struct segment_trailer) {
        .records_end = records_end,
        .end_offset = x->end_offset,
        .first_time_ns = x->first_time_ns,
        .last_time_ns = x->last_time_ns,
        .records = x->records,
        .facts = x->facts,
        .flags = x->flags,
        .stream_count = x->stream_count,
        .topic_count = x->topic_count,
        .position_count = x->position_count,
        .identity_count = x->identity_count,
    };
}

/* --- Encoding. */

static int compare_streams (const void *a, const void *b)
{
    const struct index_stream *const *x = a, *const *y = b;
    return memcmp ((*x)->stream.bytes, (*y)->stream.bytes, ID_LEN);
}

static int compare_topics (const void *a, const void *b)
{
    const struct index_topic *x = a, *y = b;
    const size_t shorter = x->name.len < y->name.len ? x->name.len : y->name.len;
    const int order = memcmp (x->name.data, y->name.data, shorter);
    return order ? order : (x->name.len > y->name.len) - (x->name.len < y->name.len);
}

static uint8_t *encode_stream (uint8_t *p, const struct index_stream *s)
{
    memcpy (p, s->stream.bytes, ID_LEN);
    bytes_put_u64le (p + 16, s->epoch);
    bytes_put_u64le (p + 24, s->incarnation);
    bytes_put_u64le (p + 32, s->first_seq);
    bytes_put_u64le (p + 40, s->last_seq);
    bytes_put_u64le (p + 48, s->first_pos);
    bytes_put_u64le (p + 56, s->last_offset);
    bytes_put_u64le (p + 64, s->bytes);
    bytes_put_u32le (p + 72, s->records);
    bytes_put_u32le (p + 76, s->gaps | (s->closed ? GAPS_CLOSED : 0));
    return p + INDEX_STREAM_LEN;
}

static void collect_topic (void *arg, const struct index_topic *t)
{
    struct index_topic **next = arg;
    *(*next)++ = *t;
}

static struct segment_section section_of (const uint8_t *start, const uint8_t *end, const uint8_t *footer,
                                          uint64_t records_end)
{
    return (struct segment_section) {
        .pos = records_end + (uint64_t) (start - footer),
        .len = (uint64_t) (end - start),
        .sum = checksum (start, (size_t) (end - start)),
    };
}

static size_t footer_bound (const struct segment_index *x)
{
    enum { TOPIC_OVERHEAD = 1 + 10 };       /* length, varint */
    return (size_t) x->stream_count * INDEX_STREAM_LEN + x->name_bytes + (size_t) x->topic_count * TOPIC_OVERHEAD
           + (size_t) x->position_count * INDEX_POSITION_LEN + (size_t) x->identity_count * SEGMENT_IDENTITY_LEN + RECORD_ALIGN + SEGMENT_HEADER_LEN + SEGMENT_TRAILER_LEN;
}

int segment_index_encode (const struct segment_index *x, const struct segment_header *h, uint64_t records_end,
                          void **ret_bytes, size_t *ret_len)
{
    int rc = -ENOMEM;
    uint8_t *footer = malloc (footer_bound (x));
    const struct index_stream **streams = malloc ((x->stream_count + 1) * sizeof *streams);
    struct index_topic *topics = malloc ((x->topic_count + 1) * sizeof *topics);
    if (!footer || !streams || !topics)
        goto leave;

    struct segment_trailer t;
    segment_index_summary (x, records_end, &t);
    t.end_offset = t.end_offset > h->base_offset ? t.end_offset : h->base_offset;

    for (uint32_t i = 0; i < x->stream_count; i++)
        streams[i] = &x->streams[i];
    qsort (streams, x->stream_count, sizeof *streams, compare_streams);
    uint8_t *p = footer, *start = p;
    for (uint32_t i = 0; i < x->stream_count; i++)
        p = encode_stream (p, streams[i]);
    t.streams = section_of (start, p, footer, records_end);

    start = p;
    for (uint32_t i = 0; i < x->position_count; i++, p += INDEX_POSITION_LEN) {
        bytes_put_u64le (p, x->positions[i].pos);
        bytes_put_u64le (p + 8, x->positions[i].offset);
        bytes_put_u64le (p + 16, x->positions[i].time_ns);
    }
    t.positions = section_of (start, p, footer, records_end);

    struct index_topic *next = topics;
    segment_index_each_topic (x, collect_topic, &next);
    qsort (topics, x->topic_count, sizeof *topics, compare_topics);
    start = p;
    for (uint32_t i = 0; i < x->topic_count; i++) {
        *p++ = (uint8_t) topics[i].name.len;
        memcpy (p, topics[i].name.data, topics[i].name.len);
        p = bytes_put_varint (p + topics[i].name.len, topics[i].facts);
    }
    t.topics = section_of (start, p, footer, records_end);

    start = p;
    for (uint32_t i = 0; i < x->identity_count; i++)
        p = identity_entry_encode (p, &x->identities[i]);
    if (p > start)
        t.identities = section_of (start, p, footer, records_end);

    while ((p - footer) % RECORD_ALIGN != 0)
        *p++ = 0;
    segment_header_encode (h, p);
    segment_trailer_encode (&t, h, p + SEGMENT_HEADER_LEN);
    *ret_bytes = footer;
    *ret_len = (size_t) (p - footer) + SEGMENT_HEADER_LEN + SEGMENT_TRAILER_LEN;
    footer = NULL;
    rc = 0;

leave:
    free (topics);
    free (streams);
    free (footer);
    return rc;
}

/* --- Reading back. */

/* A section's bytes, checked. Its length was checked to lie within the file. */
static int read_section (const struct fs *fs, int fd, const struct segment_section *s, uint64_t max_len,
                         uint8_t **ret_bytes)
{
    if (s->len > max_len)
        return FM_ERR_CORRUPT;
    uint8_t *bytes = malloc ((size_t) s->len + 1);
    if (!bytes)
        return -ENOMEM;
    int rc = fs_read_full (fs, fd, bytes, (size_t) s->len, s->pos);
    if (rc == FM_ERR_END || rc == -EIO || (rc == 0 && checksum (bytes, (size_t) s->len) != s->sum))
        rc = FM_ERR_CORRUPT;
    if (rc) {
        free (bytes);
        return rc;
    }
    *ret_bytes = bytes;
    return 0;
}

int index_read_streams (const struct fs *fs, int fd, const struct segment_trailer *t, struct index_stream **ret_streams)
{
    uint8_t *bytes = NULL;
    if (t->streams.len != (uint64_t) t->stream_count * INDEX_STREAM_LEN)
        return FM_ERR_CORRUPT;
    int rc = read_section (fs, fd, &t->streams, (uint64_t) INDEX_STREAMS_MAX * INDEX_STREAM_LEN, &bytes);
    if (rc)
        return rc;
    struct index_stream *streams = malloc ((t->stream_count + 1) * sizeof *streams);
    if (!streams) {
        free (bytes);
        return -ENOMEM;
    }
    const uint8_t *p = bytes;
    for (uint32_t i = 0; i < t->stream_count; i++, p += INDEX_STREAM_LEN) {
        struct index_stream *s = &streams[i];
        memcpy (s->stream.bytes, p, ID_LEN);
        s->epoch = bytes_get_u64le (p + 16);
        s->incarnation = bytes_get_u64le (p + 24);
        s->first_seq = bytes_get_u64le (p + 32);
        s->last_seq = bytes_get_u64le (p + 40);
        s->first_pos = bytes_get_u64le (p + 48);
        s->last_offset = bytes_get_u64le (p + 56);
        s->bytes = bytes_get_u64le (p + 64);
        s->records = bytes_get_u32le (p + 72);
        s->gaps = bytes_get_u32le (p + 76) & ~GAPS_CLOSED;
        s->closed = bytes_get_u32le (p + 76) & GAPS_CLOSED;
    }
    free (bytes);
    *ret_streams = streams;
    return 0;
}

int index_read_positions (const struct fs *fs, int fd, const struct segment_trailer *t,
                          struct index_position **ret_positions)
{
    uint8_t *bytes = NULL;
    if (t->positions.len != (uint64_t) t->position_count * INDEX_POSITION_LEN)
        return FM_ERR_CORRUPT;
    int rc = read_section (fs, fd, &t->positions, (uint64_t) INDEX_POSITIONS_MAX * INDEX_POSITION_LEN, &bytes);
    if (rc)
        return rc;
    struct index_position *positions = malloc ((t->position_count + 1) * sizeof *positions);
    if (!positions) {
        free (bytes);
        return -ENOMEM;
    }
    const uint8_t *p = bytes;
    for (uint32_t i = 0; i < t->position_count; i++, p += INDEX_POSITION_LEN)
        positions[i] = (struct index_position) { .pos = bytes_get_u64le (p), .offset = bytes_get_u64le (p + 8),
                                                 .time_ns = bytes_get_u64le (p + 16) };
    free (bytes);
    *ret_positions = positions;
    return 0;
}

int index_read_topics (const struct fs *fs, int fd, const struct segment_trailer *t, void **ret_bytes,
                       struct index_topic **ret_topics)
{
    enum { TOPIC_OVERHEAD = 1 + 10 };
    uint8_t *bytes = NULL;
    if (t->topic_count > INDEX_TOPICS_MAX)
        return FM_ERR_CORRUPT;
    int rc = read_section (fs, fd, &t->topics, INDEX_TOPIC_BYTES_MAX + INDEX_TOPICS_MAX * TOPIC_OVERHEAD, &bytes);
    if (rc)
        return rc;
    struct index_topic *topics = malloc ((t->topic_count + 1) * sizeof *topics);
    if (!topics) {
        free (bytes);
        return -ENOMEM;
    }
    const uint8_t *p = bytes, *const end = bytes + t->topics.len;
    uint32_t i = 0;
    for (; i < t->topic_count && p < end && *p <= end - p - 1; i++) {
        topics[i].name = slice (p + 1, *p);
        p = bytes_get_varint (p + 1 + *p, end, &topics[i].facts);
        if (!p)
            break;
    }
    if (i < t->topic_count || p != end) {
        free (topics);
        free (bytes);
        return FM_ERR_CORRUPT;
    }
    *ret_bytes = bytes;
    *ret_topics = topics;
    return 0;
}

int index_read_identities (const struct fs *fs, int fd, const struct segment_trailer *t, struct identity_entry **ret_entries)
{
    uint8_t *bytes = NULL;
    int rc = t->identity_count ? read_section (fs, fd, &t->identities, (uint64_t) INDEX_IDENTITIES_MAX * SEGMENT_IDENTITY_LEN, &bytes) : 0;
    if (rc)
        return rc;
    struct identity_entry *entries = malloc ((t->identity_count + 1) * sizeof *entries);
    if (!entries)
        rc = -ENOMEM;
    const uint8_t *p = bytes;
    for (uint32_t i = 0; rc == 0 && i < t->identity_count; i++, p += SEGMENT_IDENTITY_LEN)
        identity_entry_decode (p, &entries[i]);
    free (bytes);
    if (rc == 0)
        *ret_entries = entries;
    return rc;
}

const struct index_stream *index_streams_find (const struct index_stream *streams, size_t count,
                                               const struct fm_id *stream)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = memcmp (streams[middle].stream.bytes, stream->bytes, ID_LEN);
        if (order == 0)
            return &streams[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
