/* group_state: the work of one group: which facts wait, who has which and under which token, what is parked. Pure: facts, members, outcomes
 * and times in, hand-outs and a state to be stored out; no sockets, no clock, no log.
 *
 * Words:   entry: a fact that was looked at and is not done. Everything below `next` that has no entry is done, or was not for this group.
 *          high: the furthest that next ever was; what lies below it and has no entry was had by the group, though next may have been set back.
 *          token: grows with each hand-out. Who holds an entry under an older one holds it no more.
 *
 *                      handed out              BEGIN                  DONE
 *          WAITING ----------------> HANDED ----------> BEGUN ------------------> (gone)
 *           ^  ^ ^                    |  | |             | | '--- FAILED, LATER, PARK as from HANDED
 *           |  | '-- RELEASE, lost ---'  | |    lost:    | |
 *           |  '-------------------------+-+-- in doubt -' |
 *           | due                        | '--- FAILED too often, PARK ---> PARKED --- replayed ---> WAITING
 *          LATER <--- LATER, FAILED -----'                                         --- dropped ----> (gone)
 *
 *          lost: its member died, left, or let the lease run out. What was begun by a member that only vanished is held back until its lease has run out:
 *          it may be cut off, and still at it. So is, after a restart, what somebody had in hand, until he says so.
 *
 * Invariants (checked by tests/unit/test_group_schedules):
 *   1. Of each key at most one entry is HANDED or BEGUN, and none below it of that key waits: what is handed out of a key is its first entry that is
 *      not parked. LATER therefore holds its key back, PARKED lets it go on.
 *   2. Tokens of a group grow, also over a restart (group_state_restart).
 *   3. An outcome counts only from the member that holds the entry, under its present token.
 *   4. Every fact taken leaves by DONE, by a drop or a seek of a person, or because its bytes expired; never otherwise.
 *   5. A member holds at most its credit.
 *
 * Thread:  one, or one lock. Times are of one monotonic clock, in ns.
 * Bounded: entries_max, parked_max, members_max. */

#ifndef FM_JOURNAL_GROUP_STATE_H
#define FM_JOURNAL_GROUP_STATE_H

#include <stdbool.h>

#include "bytes.h"
#include "fm_limits.h"
#include "id.h"

enum {
    GROUP_ENTRIES_MAX = 32768,              /* not parked: then nothing more is looked at until some are done */
    GROUP_PARKED_MAX = 16384,               /* then what should be parked is tried again instead, at the longest delay */
    GROUP_MEMBERS_MAX = 1024,
    GROUP_AHEAD_MIN = 1024,                 /* looked at and ready to be handed out, or twice the credit of all members */
    GROUP_REASON_MAX = 255,                 /* bytes that are kept of a reason; */
    GROUP_REASONS_MAX = 1 << 20,            /* of all: then they are left out. With the limits above a group's state fits into its entry of the log */
    GROUP_LEASE_MS = 30000,
    GROUP_ATTEMPTS_MAX = 5,
    GROUP_BACKOFF_MS = 100,                 /* after the first failure; twice as long after each further one, */
    GROUP_BACKOFF_MAX_MS = 60000,           /* up to this */
    GROUP_DELAY_MAX_MS = 86400000,          /* of LATER */
    GROUP_REJOIN_MS = 2000,                 /* after a restart members say what they hold; nothing is handed out before */
    GROUP_TOKEN_START_SHIFT = 40,           /* above it in a token: the journal's starts; below: a count, from tokens_from on */
    GROUP_STARTS_MAX = (1 << 24) - 1        /* fewer starts than these */
};

/* As in factmesh.proto, WorkFlag, Effect and OutcomeKind. */
enum {
    GROUP_REPLAY = 1,
    GROUP_REDELIVERY = 2,
    GROUP_CORRECTION = 4,
    GROUP_IN_DOUBT = 8,
    GROUP_OUT_OF_ORDER = 16,
    GROUP_KEY_PARKED = 32,
    GROUP_BY_HAND = 64
};
enum group_effect { GROUP_UNDECLARED, GROUP_IDEMPOTENT, GROUP_ONCE, GROUP_ONCE_PER_VERSION, GROUP_ON_CORRECTION };
enum group_outcome { GROUP_DONE = 1, GROUP_LATER, GROUP_FAILED, GROUP_PARK, GROUP_RELEASE, GROUP_BEGIN, GROUP_EXTEND };

struct group_options {
    enum group_effect effect;
    uint64_t lease_ns;
    uint32_t attempts_max;
    uint32_t entries_max, parked_max;
    uint64_t tokens_from;                   /* below 2^39, random: no token is that of a group that had the name before, or was lost with a newer copy of the log */
};

struct group_state;

/* Zero is the default of every option. Returns 0 or -ENOMEM. */
int group_state_new (const struct group_options *options, struct group_state **ret_group);
void group_state_destroy (struct group_state **group);

/* --- Where it stands. */

struct group_place {
    uint64_t next, high;                    /* offsets */
    uint64_t starts;                        /* of the journal with this group: the upper 24 bits of tokens */
    bool paused;
};
void group_state_place (const struct group_state *g, struct group_place *ret_place);

/* Begin a new group at an offset: what lies below was had by nobody, and counts as had. */
void group_state_begin (struct group_state *g, uint64_t offset);

/* Is it worth looking at more facts? Not while paused, without members, or with enough at hand. */
bool group_state_wants (const struct group_state *g);

struct group_fact {
    uint64_t offset;
    uint64_t key;                           /* a hash of the fact's key; 0: it has none, and needs no order */
    bool correction;
    uint64_t root_offset;                   /* of a correction: of the first of its chain; 0: it expired */
    bool skipped;                           /* older filters had left it out: below next, and handed out all the same */
    struct fm_slice park;                   /* not empty: nobody can handle it, for this reason; park it at once */
    uint64_t now, unix_ns;                  /* of parking */
};
/* Look at one matching fact: at next or above it, or skipped. It becomes an entry if it is for handlers of this effect. Offsets rise, those of skipped
 * facts among themselves. Returns 0, FM_ERR_LIMIT (entries_max: ask group_state_wants before) or -ENOMEM: then it was not taken. */
int group_state_take (struct group_state *g, const struct group_fact *fact);
/* Everything below was looked at. */
void group_state_advance (struct group_state *g, uint64_t next);

/* --- Members. A member's number is not 0 and is the caller's. */

int group_state_join (struct group_state *g, uint64_t member, uint32_t credit, uint64_t now);   /* FM_ERR_LIMIT, FM_ERR_IN_USE, -ENOMEM */
/* It goes, and loses what it held. LEFT: it gave up what it was at. ENDED: its process is gone, and the fact that it got first, which it was at, counts as
 * an attempt. VANISHED: the same, but it may still be at it: what it began is held back until its lease has run out. */
enum group_leave { GROUP_LEFT, GROUP_ENDED, GROUP_VANISHED };
void group_state_leave (struct group_state *g, uint64_t member, enum group_leave how, uint64_t now, uint64_t unix_ns);
/* It says something: it gets work again after its lease had run out. FM_ERR_UNKNOWN: no such member. */
int group_state_alive (struct group_state *g, uint64_t member);
/* It can't be reached: it gets nothing more until it says something. */
void group_state_silence (struct group_state *g, uint64_t member);
/* A member that comes anew (the journal restarted, or its connection broke) says what it holds (facts at or above next: look at them first), and whose
 * leases have not run out by its own clock. 0: it still does, under that token. FM_ERR_LEASE: others may have it, or had it
 * and did it. FM_ERR_END: it is done, by this member as far as is known (group_finished.h). */
int group_state_hold (struct group_state *g, uint64_t member, uint64_t offset, uint64_t token, uint64_t now);

/* Would it be told FM_ERR_END? */
bool group_state_is_done (struct group_state *g, uint64_t offset, uint64_t token, uint64_t now);

/* --- Handing out. */

struct group_hand_out {
    uint64_t member, offset, token;
    uint64_t content_offset;                /* the fact to be handed out: at offset, or its newest correction (effect once); in doubt: what was begun */
    uint64_t parked_offset;                 /* GROUP_KEY_PARKED: an earlier one of its key */
    uint32_t deliveries, attempts, flags;
};
/* The next hand-out: the lowest offset that is ready goes to the member whose turn it is of those with credit. 0, or FM_ERR_END: nothing ready, or
 * nobody free. */
int group_state_hand_out (struct group_state *g, uint64_t now, struct group_hand_out *ret_hand_out);

/* It was not handed out after all: nothing was sent. */
void group_state_return (struct group_state *g, uint64_t offset);

/* What became of one. Every outcome renews the member's leases. Returns 0; FM_ERR_UNKNOWN (no such member), FM_ERR_LEASE (the member does not hold it
 * under this token: another has it, or it is done), FM_ERR_ARGUMENT (kind). */
struct group_report {
    uint64_t member, offset, token;
    enum group_outcome kind;
    uint32_t delay_ms;
    struct fm_slice reason;
};
int group_state_outcome (struct group_state *g, const struct group_report *report, uint64_t now, uint64_t unix_ns);

/* The bytes of an entry are gone (retention): it can't be handed out any more. */
void group_state_forget (struct group_state *g, uint64_t offset);

/* Leases that ran out, delays that are over. Returns when it wants to be called next; UINT64_MAX: not by itself. */
uint64_t group_state_tick (struct group_state *g, uint64_t now, uint64_t unix_ns);

/* --- What people ask for. */

void group_state_pause (struct group_state *g, bool paused);
/* Set the place. Forward: what waits below it is skipped, and parked facts stay. Back: what was had is looked at again, as GROUP_REPLAY, by handlers
 * that are idempotent; with `again` by all, as if for the first time. */
void group_state_seek (struct group_state *g, uint64_t offset, bool again);
/* FM_ERR_UNKNOWN: not parked. */
int group_state_replay_parked (struct group_state *g, uint64_t offset);
int group_state_drop_parked (struct group_state *g, uint64_t offset);
bool group_state_is_parked (const struct group_state *g, uint64_t offset);

struct group_counts { uint64_t unfinished, in_hand, later, parked; };
void group_state_counts (const struct group_state *g, struct group_counts *ret_counts);
struct group_member { uint64_t member, done; uint32_t in_hand, credit; };
/* The next member behind *at (begin with 0): FM_ERR_END behind the last. */
int group_state_member_next (const struct group_state *g, uint32_t *at, struct group_member *ret_member);

/* --- Storing: entries in order of offset. */

struct group_stored {
    uint64_t offset, token, newest_offset, content_offset;
    uint64_t until_ns;                      /* LATER: monotonic; 0 else */
    uint64_t parked_unix_ns;
    uint32_t deliveries, attempts, flags;
    bool handed, begun, parked;
    struct fm_slice reason;
};
/* Has anything changed that must be stored since this was last asked? */
bool group_state_take_dirty (struct group_state *g);
/* The entries, in order of offset: calls each; must not change the group. Returns 0 or -ENOMEM. */
int group_state_each (struct group_state *g, void (*each) (void *arg, const struct group_stored *entry), void *arg);

/* After a restart, in this order: the place (starts grows by one: store that before anything is handed out); every entry, in order, with its key.
 * Nothing is handed out for GROUP_REJOIN_MS. */
void group_state_restart (struct group_state *g, const struct group_place *stored, uint64_t now);
int group_state_restore (struct group_state *g, const struct group_stored *entry, uint64_t key, uint64_t now);

#endif
