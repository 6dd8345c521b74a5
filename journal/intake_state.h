/* intake_state: what one stream's recording waits for. Pure: events and times in, verdicts and things to do out; no sockets, no
 * clock, no log, only numbers and the caller's handles.
 *
 * Words:   next_seq: all below is appended, or a gap record says why not.
 *          hole: [next_seq, ...) up to the first batch that is held, or to the highest sequence that is known to exist.
 *          owner: the node that a stream is accepted from. Another one may only come with a newer epoch.
 *          claim: another node sends the same epoch and incarnation. It is the same process then, whose frames came first over the connection to who
 *          had its address before; it is the owner as soon as that one is gone.
 *
 *            hole, owner there            owner has it no more
 *      IDLE ------------------> OWNER ---------------------------> JOURNAL --.
 *       ^ ^                     |   ^                               ^  |   ^  | next journal
 *       | |   no answer, or too |   | later     journal came or went|  |   '--'
 *       | |   little of one     v   |       or one did not say: all |  | the last one
 *       | |                     PAUSE               are asked again |  v
 *       | '---- hole filled ---- (from any)                         WAIT
 *       '--------------------------------- gap recorded --------------'
 *
 * Invariants (checked by tests/unit/test_intake_model):
 *   1. What is to be appended begins at next_seq; next_seq never falls.
 *   2. Held batches are in sequence order, without overlap, above next_seq; their bytes are within the stream's and the common bound.
 *   3. A gap is only to be recorded when the owner (if there is one) said that it does not have the range, and so did every journal known, in one round
 *      of questions. One that is busy, silent or cannot be reached said nothing, and is asked again for as long as it is known. One that said `not
 *      yet` may be about to sync it: that counts for an answer when it has been said for holders_ns.
 *   4. Nothing of a newer epoch is appended while the older epoch's owner may still deliver: until it is gone, or has been
 *      quiet for a while, or a time has passed.
 *   5. A stream whose owner is gone, with or without a goodbye, and lost facts thereby, is not accepted in that epoch again: its publisher could take
 *      a cumulative watermark for the lost ones. */

#ifndef FM_JOURNAL_INTAKE_STATE_H
#define FM_JOURNAL_INTAKE_STATE_H

#include "id.h"

enum {
    INTAKE_HELD_ITEMS_MAX = 65536,
    INTAKE_ATTEMPTS_MAX = 3             /* answers of the owner that bring nothing, before others are asked */
};

/* Shared by all streams of an intake. */
struct intake_limits {
    size_t stream_held_max;             /* bytes held of one stream */
    size_t held_max, held_bytes;        /* of all: the bound, and what is held now */
    uint64_t answer_ns;                 /* a holder that brings nothing for so long is asked again, or passed over */
    uint64_t epoch_quiet_ns;            /* a newer epoch waits until the older one's owner has been quiet for so long, */
    uint64_t epoch_ns;                  /* but not longer than this */
    uint64_t holders_ns;                /* wait for another holder: of what the publisher let go as synced, or that says `not yet`; and for the process
                                         * that sent it in the name of a node that said goodbye */
    uint64_t orphan_ns;                 /* wait for a publisher that vanished without a goodbye */
    uint64_t settled_ns;                /* monotonic: before, other journals may not be known yet */
};

struct intake_item {
    uint64_t first_seq, end_seq, epoch;
    size_t bytes;
    void *ref;                          /* the caller's; it owns the bytes */
};

enum intake_stage { INTAKE_IDLE, INTAKE_OWNER, INTAKE_PAUSE, INTAKE_JOURNAL, INTAKE_NEXT_JOURNAL, INTAKE_WAIT };

struct intake_epoch {
    uint64_t epoch, incarnation, first_seq;
    struct fm_id owner;
    uint64_t head;                      /* highest sequence known */
};

struct intake_claim {
    uint64_t epoch;                     /* 0: none */
    struct fm_id node;
};

struct intake_state {
    struct intake_limits *limits;
    uint64_t next_seq;
    uint64_t recorded_epoch, recorded_incarnation;  /* of the last record; 0: none */
    struct intake_epoch now;            /* accepted */
    bool owned;                         /* the owner is there */
    bool said_goodbye;                  /* the last owner left in order */
    bool pending;                       /* `next` waits for the older epoch's owner */
    struct intake_epoch next;
    struct intake_claim claim;
    uint64_t pending_until, pending_latest;
    uint64_t orphaned_epoch;            /* see invariant 5; 0: none */

    enum intake_stage stage;
    uint64_t deadline, since;           /* since: when the journals' turn began */
    uint64_t asked_end;
    unsigned attempts;
    uint64_t gone_end;                  /* the owner has nothing below */
    uint32_t gone_reason;
    uint64_t void_end;                  /* a journal says that nothing ever was below */
    size_t journal;                     /* the one to ask */
    bool unsure, later;                 /* of this round: one did not say what it has; one said `not yet` */
    uint64_t round_end;                 /* of this round: up to where all said that they have nothing */
    uint64_t round_ns;                  /* when it began */

    struct intake_item *held;           /* held[held_first ...]; grows on need */
    size_t held_first, held_count, held_size, held_bytes;
};

void intake_state_init (struct intake_state *s, struct intake_limits *limits, uint64_t next_seq, uint64_t recorded_epoch,
                        uint64_t recorded_incarnation);
/* The log says that the recorded epoch lost facts while its publisher was away. */
void intake_state_orphaned (struct intake_state *s);
/* The caller must have taken back every held item (intake_state_drop). */
void intake_state_release (struct intake_state *s);

/* --- Events. */

struct intake_batch {
    uint64_t first_seq, end_seq;
    uint64_t epoch, incarnation, epoch_first_seq;
    struct fm_id from;                  /* node; of a repaired batch of no matter */
    bool repaired;                      /* came as an answer, not live */
    bool announced;                     /* its facts are to be fetched */
    size_t bytes;
};

enum intake_verdict {
    INTAKE_APPEND = 1,                  /* append it now, then say intake_state_appended */
    INTAKE_HOLD,                        /* keep it: intake_state_hold */
    INTAKE_HAVE,                        /* nothing new in it */
    INTAKE_LATER,                       /* known to exist, fetched in its turn: announced, or no room to hold it */
    INTAKE_REFUSE_OWNER,                /* another node publishes this stream in this epoch */
    INTAKE_REFUSE_STALE,                /* of an older epoch than is accepted */
    INTAKE_REFUSE_OVERLAP,              /* begins below next_seq and ends above */
    INTAKE_CONFLICT                     /* another incarnation of one epoch; or a newer epoch that uses sequences again */
};

enum intake_verdict intake_state_batch (struct intake_state *s, const struct intake_batch *b, uint64_t now);

/* Keep a batch that was to be held. -ENOMEM: drop it, it is fetched later. */
int intake_state_hold (struct intake_state *s, const struct intake_item *item);

/* The holder that is asked, a journal or the owner, answers others first: the stream's turn comes. */
void intake_state_put_off (struct intake_state *s, bool journal, uint64_t now);

/* Appended, or told as a gap: all below end_seq, as of this epoch. */
void intake_state_appended (struct intake_state *s, uint64_t end_seq, uint64_t epoch, uint64_t incarnation, uint64_t now);

/* Take the next held batch that is in turn (*ret_append) or has become useless. False: none. */
bool intake_state_take (struct intake_state *s, struct intake_item *ret_item, bool *ret_append);
/* Give back held batches, the last one first, one a call; false when none is left. */
bool intake_state_drop (struct intake_state *s, struct intake_item *ret_item);

/* A head notice: the stream's sequences up to head exist. INTAKE_HAVE when it is believed. */
enum intake_verdict intake_state_head (struct intake_state *s, const struct intake_batch *notice, uint64_t now);

/* A node is gone. True when it was this stream's owner; the stream may have another one now. */
bool intake_state_owner_gone (struct intake_state *s, const struct fm_id *node, bool said_goodbye, uint64_t now);

/* A journal came or went: their numbers mean others now. */
void intake_state_journals_changed (struct intake_state *s, uint64_t now);

/* A holder said that it does not have [first, end). */
void intake_state_gone (struct intake_state *s, bool journal, uint64_t first_seq, uint64_t end_seq, uint32_t reason, uint64_t now);

/* A holder's answer ended. An owner whose answers bring nothing is in the end taken to have nothing. */
void intake_state_answered (struct intake_state *s, bool journal, uint64_t now);

/* A journal said `not yet`: it may be about to sync it. */
void intake_state_later (struct intake_state *s);

/* A holder could not be asked, or was too busy to answer: that says nothing of what it has. */
void intake_state_unasked (struct intake_state *s, bool journal, uint64_t now);

/* --- What to do. */

enum intake_todo_kind {
    INTAKE_TODO_NOTHING,                /* until until_ns */
    INTAKE_TODO_ASK_OWNER,              /* for [first_seq, end_seq); drop an older question */
    INTAKE_TODO_ASK_JOURNAL,            /* number `journal` of the journals known */
    INTAKE_TODO_TAKE,                   /* held batches are in turn: intake_state_take */
    INTAKE_TODO_GAP,                    /* record that [first_seq, end_seq) is nowhere, then intake_state_appended with its epoch */
    INTAKE_TODO_FORGET                  /* nobody publishes it, nothing is held: the log knows the rest */
};

struct intake_todo {
    enum intake_todo_kind kind;
    uint64_t first_seq, end_seq;
    uint32_t reason;
    uint64_t epoch, incarnation;        /* GAP: what it is recorded as; an older epoch is then not taken after a restart either */
    bool closes;                        /* GAP: nor is this one, see invariant 5 */
    size_t journal;
    uint64_t until_ns;
};

/* Does a hole stay open only because a journal does not say whether it has it? */
bool intake_state_waits_for_journal (const struct intake_state *s, uint64_t now);

void intake_state_todo (struct intake_state *s, uint64_t now, size_t journals, struct intake_todo *ret_todo);

#endif
