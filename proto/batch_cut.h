/* batch_cut: find a batch's topics without decoding it, and cut it down to the facts of some of them.
 *
 * A journal that replays with filters passes over most of what it reads. It looks at the names of a batch's topics alone; and where few of them are wanted,
 * and the asker allows it (ReplayOpen.may_cut), it sends each run of wanted facts as a batch of its own. Contents are copied as they are; tags and lengths
 * are all that is looked at. What is not plain is left whole.
 *
 * Bytes: SPEC.md, section 11, "Cut batches". For what was checked when it was recorded (batch_check_facts). */

#ifndef FM_PROTO_BATCH_CUT_H
#define FM_PROTO_BATCH_CUT_H

#include "bytes.h"
#include "fm_limits.h"

/* The topics in a header, in their order. */
struct batch_topics {
    const uint8_t *pos, *end;
};
void batch_topics_init (struct batch_topics *t, struct fm_slice batch);
/* The next name, not checked. Returns 0, FM_ERR_END (the facts begin) or FM_ERR_MALFORMED. */
int batch_topics_next (struct batch_topics *t, struct fm_slice *ret_name);

enum {
    BATCH_CUT_TOPICS_MAX = 64,          /* wanted ones of a batch; more: it is left whole, */
    BATCH_CUT_PIECES_MAX = 64,          /* and so it is with more pieces, */
    BATCH_CUT_SHARE = 2,                /* or when they together had more than half of its bytes, or of its topics, */
    BATCH_CUT_HEADER_MAX = 32 << 10     /* or a header larger than this */
};

/* One batch's pieces, and what cutting works in. Zero-initialised; one for many batches, one after the other. */
struct batch_cut {
    struct fm_slice pieces[BATCH_CUT_PIECES_MAX];
    size_t piece_count;

    uint8_t *bytes;                     /* the pieces */
    size_t size;
    uint8_t header[BATCH_CUT_HEADER_MAX];       /* what all pieces have in front of their facts, but for first_seq and count */
    size_t header_len;
    uint64_t first_seq, count;
    uint8_t places[BATCH_TOPICS_MAX];   /* of a topic among the wanted ones, from 1 on; 0: it is not wanted */
    uint32_t topic_count, wanted_count;
};
void batch_cut_release (struct batch_cut *cut);

/* True: cut->pieces are the batches to be sent (perhaps none), until the next call. False: this one is left whole; so it is without memory. */
bool batch_cut (struct batch_cut *cut, struct fm_slice batch, bool (*wanted) (const void *arg, struct fm_slice topic), const void *arg);

#endif
