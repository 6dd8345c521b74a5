/* identities_kit: what tests of identities share: batches whose facts bear them, recorded as a journal records them, and an oracle that reads the whole log and
 * knows every identity by its bytes. */

#ifndef FM_TESTS_IDENTITIES_KIT_H
#define FM_TESTS_IDENTITIES_KIT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../support/fail_fs.h"
#include "../support/log_setting.h"
#include "batch_cut.h"
#include "error.h"
#include "factmesh.pb-c.h"
#include "identities.h"

/* --- Batches whose facts bear identities. */

struct made {
    uint8_t *bytes;
    size_t len;
    struct batch batch;
    struct batch_scratch scratch;
};

static uint8_t padding[23 << 20];

/* Facts [first_seq, first_seq + count) of a stream; topics "a.b" and "a.c" in turns. */
static inline void make (struct made *m, unsigned stream, uint64_t first_seq, const struct fm_slice *identities, uint32_t count, size_t payload_len)
{
    static const uint8_t backs[2];
    struct batch_topic topics[2] = { { .name = slice_of ("a.b"), .backs = slice (backs, 2) }, { .name = slice_of ("a.c"), .backs = slice (backs, 2) } };
    struct batch b = { .mesh = slice_of ("test"), .count = count, .stream = kit_stream (stream), .epoch = 1, .incarnation = 8, .epoch_first_seq = 1,
                       .first_seq = first_seq, .time_ns = 5, .topics = topics, .topic_count = 2 };
    const struct batch_defaults defaults = { .time_ns = 5 };
    size_t size = batch_header_bound (&b);
    for (uint32_t i = 0; i < count; i++)
        size += identities[i].len + payload_len + 64;
    m->bytes = malloc (size);
    m->scratch = (struct batch_scratch) { 0 };
    assert_non_null (m->bytes);
    for (uint32_t i = 0; i < count; i++)
        b.features |= identities[i].len ? (uint64_t) FACTMESH__FEATURE__FEATURE_IDENTITY : 0;
    uint8_t *p = batch_encode_header (m->bytes, &b);
    for (uint32_t i = 0; i < count; i++) {
        const struct fm_fact f = { .topic_index = i % 2, .identity = identities[i], .payload = slice (padding, payload_len), .time_ns = 5 };
        p = fact_encode (p, &f, &defaults);
    }
    m->len = (size_t) (p - m->bytes);
    assert_true (m->len <= size);
    assert_int_equal (batch_decode (m->bytes, m->len, slice (NULL, 0), &m->scratch, &m->batch), 0);
    assert_int_equal (batch_check_facts (&m->batch), 0);
}

static inline void drop (struct made *m)
{
    free (m->bytes);
    batch_scratch_release (&m->scratch);
}

/* The batch with what a journal says in front, as it lies in a record. */
static inline uint8_t *with_front (const struct made *m, struct fm_slice front, size_t *ret_len)
{
    uint8_t *bytes = malloc (front.len + m->len);
    assert_non_null (bytes);
    if (front.len)
        memcpy (bytes, front.data, front.len);
    memcpy (bytes + front.len, m->bytes, m->len);
    *ret_len = front.len + m->len;
    return bytes;
}

/* Record as intake does. 0 or the log's error. */
static inline int record (struct log *log, struct identities *x, const struct made *m)
{
    struct fm_slice front = slice (NULL, 0);
    uint32_t count, unread;
    uint64_t offset;
    int rc = 0;
    if (identities_concern (&m->batch)) {
        rc = x->loaded ? 0 : identities_load (x, log, &unread);
        if (rc == 0)
            rc = identities_decide (x, &m->batch, &front, &count);
    }
    if (rc == 0)
        rc = log_append_marked (log, &m->batch, front, &offset);
    if (rc && identities_concern (&m->batch))
        identities_undo (x);
    return rc;
}

/* The next batch of a stream: identities from a number of texts that grows slowly, and none at times. */
static inline int record_next (struct log *log, struct identities *x, unsigned stream, size_t payload_len)
{
    const uint64_t first = work_next_seq (log, stream);
    char text[3][32];
    struct fm_slice ids[3];
    for (uint64_t i = 0; i < 3; i++) {
        const uint64_t seq = first + i, n = seq % 5 == 0 ? seq : (seq * 7 + stream) % (seq / 2 + 3);
        ids[i] = slice (text[i], (size_t) snprintf (text[i], sizeof text[i], "identity %llu", (unsigned long long) n));
        if (seq % 4 == stream)
            ids[i].len = 0;
    }
    struct made m;
    make (&m, stream, first, ids, 3, payload_len);
    const int rc = record (log, x, &m);
    drop (&m);
    return rc;
}

/* --- The oracle: reads the whole log, and knows every identity by its bytes. */

enum { KNOWN_MAX = 4096 };
struct known {
    uint8_t bytes[255];
    size_t len;
    struct fm_fact_id first;
};
struct oracle {
    struct known *known;
    size_t count;
    uint64_t facts, duplicates;
};

static inline void oracle_take (struct oracle *o, const struct fm_fact *f, struct batch_duplicates *d)
{
    const bool repeats = batch_duplicates_meet (d, f->id.seq);
    o->facts++;
    o->duplicates += repeats;
    size_t i = 0;
    while (i < o->count && !slice_equal (slice (o->known[i].bytes, o->known[i].len), f->identity))
        i++;
    if (!f->identity.len || i == o->count) {
        assert_false (repeats);
        if (!f->identity.len)
            return;
        assert_true (o->count < KNOWN_MAX);
        struct known *const k = &o->known[o->count++];
        memcpy (k->bytes, f->identity.data, f->identity.len);
        k->len = f->identity.len;
        k->first = f->id;
        return;
    }
    assert_true (repeats);
    assert_true (id_equal (&d->next.first.stream, &o->known[i].first.stream));
    assert_int_equal (d->next.first.seq, o->known[i].first.seq);
}

/* Of each identity the first fact in the log is one, and all others repeat it. */
static inline struct oracle check_log (struct log *log)
{
    struct oracle o = { .known = calloc (KNOWN_MAX, sizeof *o.known) };
    struct log_reader *r;
    struct log_item item;
    struct batch_scratch scratch = { 0 };
    assert_int_equal (log_reader_new (log, &r), 0);
    while (log_reader_next (r, &item) == 0) {
        struct batch b;
        struct batch_reader facts;
        struct batch_duplicates d;
        struct fm_fact f;
        if (item.kind != LOG_ITEM_BATCH)
            continue;
        assert_int_equal (batch_decode (item.bytes.data, item.bytes.len, slice (NULL, 0), &scratch, &b), 0);
        batch_reader_init (&facts, &b);
        batch_duplicates_init (&d, &b);
        while (batch_reader_next (&facts, &f) == 0)
            oracle_take (&o, &f, &d);
    }
    log_reader_destroy (&r);
    batch_scratch_release (&scratch);
    free (o.known);
    o.known = NULL;
    struct log_verify_result verified;
    assert_int_equal (log_verify (log, NULL, NULL, NULL, &verified), 0);
    assert_int_equal (verified.damaged, 0);
    return o;
}

#endif
