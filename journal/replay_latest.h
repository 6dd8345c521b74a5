/* replay_latest: the newest fact of each key, read from the log as batches of one fact: how a session that starts from_latest begins.
 *
 *   Which facts they are an index says, page by page in order of offset. A page is of its own moment: a key that gets a newer fact between two pages
 *   leaves the offsets below `end`, and comes with what the session sends from there on. So nothing is kept from page to page but a place.
 *
 * Thread:  that of the reader, which has no filter meanwhile.
 * Bounded: a share reads REPLAY_LATEST_BYTES of records, about. */

#ifndef FM_JOURNAL_REPLAY_LATEST_H
#define FM_JOURNAL_REPLAY_LATEST_H

#include "fold.h"
#include "log.h"

enum {
    REPLAY_LATEST_BYTES = 4 << 20,
    REPLAY_LATEST_NEAR = 256,                   /* offsets: so far ahead it is read on, farther it is sought */
    REPLAY_LATEST_WAIT_MS = 10                  /* between two looks at an index that is behind */
};

struct replay_index {
    void *context;
    /* The newest facts of keys in [from, end), in order of offset: calls each until it returns false, or so many were told. *ret_next: all below
     * were. Returns 0; -EAGAIN: it does not know yet, ask again soon; else it will not know: the session is over. */
    int (*page) (void *context, uint64_t from, uint64_t end, bool (*each) (void *arg, struct fm_slice topic, uint64_t offset), void *arg,
                 uint64_t *ret_next);
    /* At an offset that was told there is a fact of another topic: the index is damaged. Called behind `page`. NULL: it never is. Returns as page does. */
    int (*wrong) (void *context);
};

/* What a share's facts go to. Each returns false when it has no room: the share ends before that fact. */
struct replay_latest_sink {
    void *context;
    bool (*fact) (void *context, struct fm_slice batch);
    bool (*gap) (void *context, const struct log_item *item);
};

struct replay_latest {
    const struct replay_index *index;
    uint64_t next, end;                         /* offsets: all newest facts below next have been told; below end they are asked for */
    uint8_t *one;                               /* a batch of one fact */
    size_t one_size;
};

void replay_latest_release (struct replay_latest *l);

/* One share. Facts of topics that no pattern matches are left out, and those that positions say are done. Returns 0: go on unless next == end;
 * -EAGAIN: the index is behind; -ENOMEM, the index's or the reader's error. */
int replay_latest_step (struct replay_latest *l, struct log_reader *reader, const struct fm_slice *patterns, size_t count,
                        const struct fold_positions *positions, struct batch_scratch *scratch, const struct replay_latest_sink *sink);

#endif
