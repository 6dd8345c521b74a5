/* intake_ended: tells everybody how far a stream goes whose publisher is gone. A live frame may get lost, and nobody else tells: so it is said again, ever
 * more rarely, while nobody publishes the stream. */

#include "intake_inner.h"

#include "control.h"

#define AGAIN_NS (INTAKE_ENDED_AGAIN_MS * UINT64_C (1000000))

static int send_notice (struct intake *in, const struct intake_ended *e)
{
    struct fm_node *node = in->context->node;
    Factmesh__HeadNotice notice = FACTMESH__HEAD_NOTICE__INIT;
    notice.major = PROTO_MAJOR;
    notice.minor = PROTO_MINOR;
    notice.mesh = control_put_slice (node_mesh (node));
    notice.stream = control_put_id (&e->stream);
    notice.epoch = e->epoch;
    notice.incarnation = e->incarnation;
    notice.head = notice.complete_since = e->head;      /* levels are the publisher's to know: a question at worst */
    zmq_msg_t message;
    const int rc = control_encode_reserved (RESERVED_ENDED, NULL, &notice.base, &message);
    if (rc == 0)
        live_send (node_live (node), &message);
    return rc;
}

/* The stream's, or a free one, or that of the one which is to be told again last. */
static struct intake_ended *place_for (struct intake *in, const struct fm_id *stream)
{
    struct intake_ended *latest = in->ended;
    for (unsigned i = 0; i < in->ended_count; i++) {
        if (id_equal (&in->ended[i].stream, stream))
            return &in->ended[i];
        if (in->ended[i].due_ns > latest->due_ns)
            latest = &in->ended[i];
    }
    return in->ended_count < INTAKE_ENDED_MAX ? &in->ended[in->ended_count++] : latest;
}

void intake_tell_ended (struct intake *in, struct intake_stream *s)
{
    const struct intake_state *state = &s->state;
    if (state->owned || s->ended_told == state->next_seq || state->recorded_epoch == 0)
        return;
    const struct intake_ended ended = { .stream = s->id, .epoch = state->recorded_epoch, .incarnation = state->recorded_incarnation,
                                        .head = state->next_seq - 1, .due_ns = in->now + AGAIN_NS, .told = 1 };
    if (send_notice (in, &ended) != 0)
        return;                             /* no memory: told with what is recorded of it next */
    s->ended_told = state->next_seq;
    *place_for (in, &s->id) = ended;
}

uint64_t intake_ended_step (struct intake *in)
{
    uint64_t due = UINT64_MAX;
    for (unsigned i = 0; i < in->ended_count;) {
        struct intake_ended *e = &in->ended[i];
        if (e->due_ns <= in->now) {
            const struct intake_stream *s = intake_stream_find (in, &e->stream);
            if (!(s && s->state.owned))
                (void) send_notice (in, e);     /* no memory: the next one */
            e->due_ns = in->now + (AGAIN_NS << 2 * e->told);
            if (++e->told >= INTAKE_ENDED_TELLS || (s && s->state.owned)) {
                *e = in->ended[--in->ended_count];
                continue;
            }
        }
        if (e->due_ns < due)
            due = e->due_ns;
        i++;
    }
    return due;
}
