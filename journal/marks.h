/* marks: which node publishes which stream, and which of them must be told anew how far the journal is.
 *
 *   intake:  marks_own, marks_disown          sync: marks_changed, marks_repeat, marks_take -> Watermark messages
 *
 * Thread:  any; one short lock.
 * Bounded: max streams; what ended is disowned. */

#ifndef FM_JOURNAL_MARKS_H
#define FM_JOURNAL_MARKS_H

#include <stdbool.h>

#include "id.h"

struct marks;

struct mark_due {
    struct fm_id node, stream;
};

int marks_new (uint32_t max, struct marks **ret_marks);
void marks_destroy (struct marks **marks);

/* The stream is this node's now, which is to be told how far it is. FM_ERR_LIMIT, -ENOMEM. */
int marks_own (struct marks *m, const struct fm_id *stream, const struct fm_id *node);
void marks_disown (struct marks *m, const struct fm_id *stream);
/* Whose is it? False: nobody's. */
bool marks_owner (struct marks *m, const struct fm_id *stream, struct fm_id *ret_node);

/* The stream went on. */
void marks_changed (struct marks *m, const struct fm_id *stream);
/* A node came (back): tell it of all its streams. */
void marks_node_up (struct marks *m, const struct fm_id *node);
/* Tell once more what was told since the last call, for those to whom it was lost; or all. */
void marks_repeat (struct marks *m, bool all);

/* Take up to max that are due; returns how many. */
size_t marks_take (struct marks *m, struct mark_due *ret, size_t max);

#endif
