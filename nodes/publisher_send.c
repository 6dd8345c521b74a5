#include "publisher.h"
#include "topic.h"

#include <assert.h>
#include <errno.h>

enum { NS_PER_MS = 1000000 };

/* ------------------------------------------------------------------ sizes, all upper bounds */

static size_t fact_bound (const struct fm_fact *f)
{
    return PUBLISHER_FACT_OVERHEAD_MAX + f->payload.len + f->type.len + f->content_type.len + f->schema.len + f->key.len
           + f->correlation.len + f->identity.len + f->headers.len + f->blob.len;
}

/* What goes before the facts of a batch that this fact opens, without its topic. */
static size_t head_bound (const struct fm_publisher *p, const struct fm_fact *f)
{
    return p->head_base + f->type.len + f->content_type.len;
}

size_t publisher_open_cost (const struct fm_publisher *p, const struct fm_fact *fact)
{
    enum { TOPIC_OVERHEAD_MAX = 16 + TOPIC_LEVELS_MAX * 10 };
    const size_t alone = window_cost (head_bound (p, fact) + TOPIC_OVERHEAD_MAX + fact->topic.len + fact_bound (fact));
    return p->open.count ? alone + window_cost (p->open.head_len + p->open.facts_len) : alone;
}

/* ------------------------------------------------------------------ frames */

static struct batch describe (const struct fm_publisher *p, uint64_t first_seq, uint32_t count)
{
    level_table_describe (p->levels, first_seq, p->topics, p->backs);
    return (struct batch) {
        .major = PROTO_MAJOR,
        .minor = PROTO_MINOR,
        .mesh = node_mesh (p->node),
        .stream = p->identity.stream,
        .epoch = p->identity.epoch,
        .incarnation = p->identity.incarnation,
        .epoch_first_seq = p->identity.epoch_first_seq,
        .first_seq = first_seq,
        .count = count,
        .topics = p->topics,
        .topic_count = level_table_open_count (p->levels),
    };
}

static size_t encode_header (const struct fm_publisher *p, const struct batch *b)
{
    const size_t len = (size_t) (batch_encode_header (p->header, b) - p->header);
    assert (len <= LIVE_FRAME_MAX);
    return len;
}

/* A live frame: wire topic, NUL, header, facts. */
static int frame_new (const struct fm_publisher *p, const struct batch *b, struct fm_slice facts, zmq_msg_t *ret_frame, size_t *ret_body_pos)
{
    uint8_t wire[WIRE_TOPIC_MAX + 1];
    const size_t body_pos = topic_to_wire (batch_level (b), wire) + 1;
    wire[body_pos - 1] = 0;
    const size_t header_len = encode_header (p, b);
    const size_t len = body_pos + header_len + facts.len;
    assert (len <= LIVE_FRAME_MAX);
    if (zmq_msg_init_size (ret_frame, len))
        return -ENOMEM;
    uint8_t *bytes = zmq_msg_data (ret_frame);
    memcpy (bytes, wire, body_pos);
    memcpy (bytes + body_pos, p->header, header_len);
    if (facts.len)
        memcpy (bytes + body_pos + header_len, facts.data, facts.len);
    *ret_body_pos = body_pos;
    return 0;
}

/* Cold: the window's file does not take it. Returns 0 where the window may go on without. */
static int disk_failed (struct fm_publisher *p, int rc, uint64_t now)
{
    p->disk_rc = rc;
    p->disk_retry_ns = now + (uint64_t) PUBLISHER_DISK_RETRY_MS * NS_PER_MS;
    if (p->when_full != FM_DROP_OLDEST)
        return rc;
    /* Rather lose than wait. What the file has stays there for the next epoch. */
    window_file_close (&p->disk, false);
    p->disk_given_up = true;
    return 0;
}

/* Keep a batch in the window, on disk first: what has left must come back after a crash. 0: it may leave. */
static int keep_batch (struct fm_publisher *p, uint64_t end_seq, size_t body_pos, zmq_msg_t *message, uint64_t now)
{
    uint64_t place = 0;
    if (p->disk) {
        int rc = window_reserve (&p->window);       /* so that the file has nothing that the window does not take */
        if (rc)
            return rc;
        const struct window_item *oldest = window_first (p->given_up.count ? &p->given_up : &p->window);
        const struct fm_slice batch = slice ((const uint8_t *) zmq_msg_data (message) + body_pos, zmq_msg_size (message) - body_pos);
        rc = window_file_append (p->disk, batch, oldest ? oldest->place : UINT64_MAX, &place);
        if (rc == FM_ERR_FULL && p->given_up.count) {
            /* What was given up lies far behind. */
            struct window *const windows[] = { &p->given_up, &p->window };
            rc = window_file_compact (p->disk, &p->identity, node_mesh (p->node), windows, sizeof windows / sizeof windows[0]);
            if (rc == 0)
                rc = window_file_append (p->disk, batch, window_first (&p->given_up)->place, &place);
        }
        if (rc)
            rc = disk_failed (p, rc, now);
        else
            p->disk_rc = 0;
        if (rc)
            return rc;
    }
    const int rc = window_push (&p->window, end_seq, body_pos, message);
    if (rc == 0 && p->disk)
        window_last (&p->window)->place = place;
    return rc;
}

/* The batch that ends before end_seq is kept: let its frame go (takes it). */
static void send_frame (struct fm_publisher *p, zmq_msg_t *frame, uint64_t end_seq, uint32_t count, uint64_t now)
{
    node_count (p->node, NODE_FACTS_PUBLISHED, count);
    node_count (p->node, NODE_BATCHES_SENT, 1);
    node_count (p->node, NODE_BYTES_SENT, zmq_msg_size (frame));
    live_send_batch (p->live, frame, now);
    level_table_commit (p->levels, end_seq - 1);
    p->last_send_ns = now;
}

/* Tokens grow back while a flood's batch gathers. With them the first facts of the next one would leave alone, a frame each, which costs every
 * receiver as much as a full one. */
static void spend_tokens (struct fm_publisher *p, uint64_t now)
{
    const uint64_t spent = now + PUBLISHER_BURST * p->batch_ns;
    if (p->bucket_ns < spent)
        p->bucket_ns = spent;
}

int publisher_send_open (struct fm_publisher *p, uint64_t now)
{
    struct open_batch *open = &p->open;
    assert (open->count > 0);
    struct batch b = describe (p, open->first_seq, open->count);
    b.time_ns = open->defaults.time_ns;
    b.type = open->defaults.type;
    b.content_type = open->defaults.content_type;
    b.features = open->features;
    zmq_msg_t frame;
    size_t body_pos;
    int rc = frame_new (p, &b, slice (open->facts, open->facts_len), &frame, &body_pos);
    if (rc)
        return rc;
    rc = keep_batch (p, batch_end_seq (&b), body_pos, &frame, now);
    if (rc) {
        zmq_msg_close (&frame);
        return rc;
    }
    if (publisher_gathers (p))
        spend_tokens (p, now);
    send_frame (p, &frame, batch_end_seq (&b), open->count, now);
    open->count = 0;
    return 0;
}

/* ------------------------------------------------------------------ a fact too large for a live frame */

static int send_large_described (struct fm_publisher *p, const struct fm_fact *fact, uint64_t now)
{
    const struct batch_defaults defaults = { .type = fact->type, .content_type = fact->content_type, .time_ns = fact->time_ns };
    struct batch b = describe (p, p->next_seq, 1);
    b.time_ns = fact->time_ns;
    b.type = fact->type;
    b.content_type = fact->content_type;
    b.features = fact_features (fact);
    const size_t header_len = encode_header (p, &b);
    const size_t len = header_len + fact_encoded_len (fact, &defaults);
    zmq_msg_t whole, announcement;
    if (zmq_msg_init_size (&whole, len))
        return -ENOMEM;
    uint8_t *bytes = zmq_msg_data (&whole);
    memcpy (bytes, p->header, header_len);
    const uint8_t *end = fact_encode (bytes + header_len, fact, &defaults);
    assert (end == bytes + len);
    (void) end;                     /* used by the assert alone */

    b.announced_len = len;
    size_t body_pos;
    int rc = frame_new (p, &b, slice (NULL, 0), &announcement, &body_pos);
    if (rc == 0) {
        rc = keep_batch (p, batch_end_seq (&b), 0, &whole, now);
        if (rc)
            zmq_msg_close (&announcement);
    }
    zmq_msg_close (&whole);
    if (rc)
        return rc;
    p->next_seq++;
    send_frame (p, &announcement, batch_end_seq (&b), 1, now);
    return 0;
}

/* The fact stays in the window alone; live, only its header travels, and who wants it fetches it. */
static int send_large (struct fm_publisher *p, struct fm_fact *fact, uint32_t topic, uint64_t now)
{
    fact->topic_index = level_table_enter (p->levels, topic);
    level_table_mark (p->levels, fact->topic_index, p->next_seq);
    const int rc = send_large_described (p, fact, now);
    if (rc)
        level_table_abandon (p->levels);
    return rc;
}

/* ------------------------------------------------------------------ the open batch */

static int find_topic (struct fm_publisher *p, struct fm_slice topic, uint64_t now, uint32_t *ret_topic)
{
    if (level_table_find (p->levels, topic, ret_topic))
        return 0;
    int rc = topic_check (topic);
    if (rc)
        return rc;
    rc = level_table_add (p->levels, topic, ret_topic);
    if (rc == FM_ERR_FULL && p->open.count > 0) {
        rc = publisher_send_open (p, now);
        if (rc == 0)
            rc = level_table_add (p->levels, topic, ret_topic);
    }
    return rc;
}

static bool fits (const struct fm_publisher *p, uint32_t topic, bool in_batch, size_t fact_max)
{
    const struct open_batch *open = &p->open;
    if (open->count == 0 || open->count >= BATCH_FACTS_MAX)
        return false;
    size_t len = open->head_len + open->facts_len + fact_max;
    if (!in_batch) {
        if (level_table_open_count (p->levels) >= LEVEL_BATCH_TOPICS_MAX)
            return false;
        len += level_table_header_bytes (p->levels, topic, open->first_seq);
    }
    return len <= LIVE_FRAME_MAX;
}

static struct fm_slice keep (char storage[TYPE_MAX], struct fm_slice s)
{
    if (s.len)
        memcpy (storage, s.data, s.len);
    return slice (storage, s.len);
}

static void open_batch (struct fm_publisher *p, const struct fm_fact *fact, uint64_t now)
{
    struct open_batch *open = &p->open;
    open->facts_len = 0;
    open->head_len = head_bound (p, fact);
    open->first_seq = p->next_seq;
    open->opened_ns = now;
    open->features = 0;
    open->defaults.time_ns = fact->time_ns;
    open->defaults.type = keep (open->type, fact->type);
    open->defaults.content_type = keep (open->content_type, fact->content_type);
}

int publisher_add (struct fm_publisher *p, struct fm_fact *fact, uint64_t now)
{
    struct open_batch *open = &p->open;
    uint32_t topic;
    int rc = find_topic (p, fact->topic, now, &topic);
    if (rc)
        return rc;
    const size_t fact_max = fact_bound (fact);
    uint32_t index;
    bool in_batch = level_table_in_batch (p->levels, topic, &index);
    if (!fits (p, topic, in_batch, fact_max)) {
        if (open->count > 0) {
            rc = publisher_send_open (p, now);
            if (rc)
                return rc;
        }
        if (head_bound (p, fact) + level_table_header_bytes (p->levels, topic, p->next_seq) + fact_max > LIVE_FRAME_MAX)
            return send_large (p, fact, topic, now);
        open_batch (p, fact, now);
        in_batch = false;                   /* nothing is, of a new one */
    }
    if (!in_batch) {
        open->head_len += level_table_header_bytes (p->levels, topic, open->first_seq);
        index = level_table_enter (p->levels, topic);
    }
    level_table_mark (p->levels, index, p->next_seq);
    fact->topic_index = index;
    uint8_t *begin = open->facts + open->facts_len;
    const size_t len = (size_t) (fact_encode (begin, fact, &open->defaults) - begin);
    assert (len <= fact_max);
    open->facts_len += len;
    open->features |= fact_features (fact);
    open->count++;
    p->next_seq++;
    return 0;
}

/* ------------------------------------------------------------------ notices */

void publisher_tell_head (struct fm_publisher *p, uint64_t now)
{
    enum { LEVELS_MAX = PUBLISHER_HEAD_LEVELS_MAX + PUBLISHER_HEAD_OTHERS_MAX };
    struct level_mark marks[LEVELS_MAX];
    Factmesh__LevelHead levels[LEVELS_MAX], *pointers[LEVELS_MAX];
    uint64_t complete_since;
    const size_t n = level_table_recent (p->levels, marks, PUBLISHER_HEAD_LEVELS_MAX, PUBLISHER_HEAD_OTHERS_MAX, &complete_since);
    for (size_t i = 0; i < n; i++) {
        levels[i] = (Factmesh__LevelHead) FACTMESH__LEVEL_HEAD__INIT;
        levels[i].level = control_put_slice (marks[i].level);
        levels[i].last_seq = marks[i].last_seq;
        pointers[i] = &levels[i];
    }
    Factmesh__HeadNotice notice = FACTMESH__HEAD_NOTICE__INIT;
    notice.major = PROTO_MAJOR;
    notice.minor = PROTO_MINOR;
    notice.mesh = control_put_slice (node_mesh (p->node));
    notice.stream = control_put_id (&p->identity.stream);
    notice.epoch = p->identity.epoch;
    notice.incarnation = p->identity.incarnation;
    notice.epoch_first_seq = p->identity.epoch_first_seq;
    notice.head = publisher_sent (p);
    notice.complete_since = complete_since;
    notice.levels = pointers;
    notice.n_levels = n;
    zmq_msg_t message;
    if (control_encode_reserved (RESERVED_HEAD, NULL, &notice.base, &message) == 0)
        live_send (p->live, &message);
    /* else no memory: the next notice says the same */
    p->head_told = notice.head;
    p->head_due = now + (uint64_t) PUBLISHER_HEAD_MS * NS_PER_MS;
}

static void pass_mark (struct fm_publisher *p, const struct journal_mark *j)
{
    Factmesh__StreamMark mark = FACTMESH__STREAM_MARK__INIT;
    mark.stream = control_put_id (&p->identity.stream);
    mark.received = j->mark.received;
    mark.written = j->mark.written;
    mark.synced = j->mark.synced;
    mark.epoch = p->identity.epoch;
    Factmesh__StreamMark *marks[] = { &mark };
    Factmesh__Watermark watermark = FACTMESH__WATERMARK__INIT;
    watermark.mesh = control_put_slice (node_mesh (p->node));
    watermark.journal = control_put_id (&j->journal);
    watermark.generation = j->generation;
    watermark.marks = marks;
    watermark.n_marks = 1;
    zmq_msg_t message;
    if (control_encode_reserved (RESERVED_WATERMARK, NULL, &watermark.base, &message) == 0)
        live_send (p->live, &message);
    /* else no memory: the next watermark, or the next head notice, says it again */
}

void publisher_pass_marks (struct fm_publisher *p, const struct fm_id *journal)
{
    for (unsigned i = 0; i < p->marks.count; i++) {
        const struct journal_mark *j = &p->marks.journals[i];
        if (j->heard && (!journal || id_equal (&j->journal, journal)))
            pass_mark (p, j);
    }
}
