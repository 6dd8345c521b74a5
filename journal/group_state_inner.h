/* group_state_inner: what group_state.c (the place, members, what becomes of facts, what people ask for, storing) and group_entry.c (entries, their
 * keys and the heaps that they stand in) share. Invariants and diagram: group_state.h. */

#ifndef FM_JOURNAL_GROUP_STATE_INNER_H
#define FM_JOURNAL_GROUP_STATE_INNER_H

#include "group_finished.h"
#include "group_state.h"
#include "slot_map.h"

enum entry_state { ENTRY_FREE, ENTRY_WAITING, ENTRY_LATER, ENTRY_HANDED, ENTRY_BEGUN, ENTRY_PARKED };

/* Slots, not pointers: the arrays grow. Slot 0 is nobody. */
struct entry {
    uint64_t offset, newest_offset, content_offset;
    uint64_t token;                         /* in hand: its own; else one more than the last, so that whoever had it last has it no more */
    uint64_t until_ns, parked_unix_ns;
    uint32_t deliveries, attempts, flags;
    uint32_t key;                           /* slot */
    uint32_t key_before, key_after;         /* of the same key, in order of offset */
    uint32_t member;                        /* slot; HANDED and BEGUN */
    uint32_t hand_before, hand_after;       /* of the same member, in order of token */
    uint32_t heap_at;                       /* place in `ready` or `timed`; 0: in none */
    enum entry_state state;
    uint8_t reason_len;
    char *reason;
};

struct key_list { uint32_t first, last, recent; };  /* recent: put in last, if it is still in */

struct key {
    uint64_t hash;                          /* 0: one fact without a key */
    struct key_list live, parked;
    uint32_t handed, ready;                 /* the entry that is out; that stands in `ready`. At most one of the two */
    uint32_t free_next;
};

struct member {
    uint64_t number, done;
    uint64_t lease_end;
    uint32_t credit, in_hand;
    uint32_t first, last;                   /* what it holds */
    bool silent;                            /* its lease ran out: gets nothing until it says something */
};

/* Binary heaps of entries; place 0 is unused. `ready` is by offset, `timed` by until_ns. */
struct heap { uint32_t *items; uint32_t count, size; };

struct group_state {
    struct group_options options;
    struct group_place place;
    uint64_t hand_outs;                     /* since the start: the lower part of tokens */
    uint64_t rejoin_until;                  /* members that were there before a restart come back: at once, */
    uint64_t claims_until;                  /* or while their leases last; hand-outs that were not stored are theirs, too */
    struct group_finished finished;
    struct entry *entries;
    uint32_t entry_size, entry_used, entry_free;    /* free: list through key_after */
    struct key *keys;
    uint32_t key_size, key_used, key_free;
    struct slot_map by_offset, by_key;
    struct heap ready, timed;
    struct member *members;                 /* [0, member_count) */
    uint32_t member_count, member_size, member_turn;
    uint64_t credit;                        /* of all members */
    struct group_counts counts;
    size_t reason_bytes;                    /* of all that are parked */
    bool dirty;
};

/* A new entry, waiting; group_key_refresh it once its flags are set. Returns 0 or -ENOMEM. */
int group_entry_new (struct group_state *g, uint64_t offset, uint64_t key_hash, uint32_t *ret_slot);
/* An entry's state or flags changed: put its key's first entry that is not parked into `ready`, or take out what is no longer it (invariant 1). */
void group_key_refresh (struct group_state *g, uint32_t key);

/* Each takes an entry from whatever state it is in to the named one. */
void group_entry_wait (struct group_state *g, uint32_t slot);
void group_entry_later (struct group_state *g, uint32_t slot, uint64_t until_ns);
void group_entry_give (struct group_state *g, uint32_t slot, uint32_t member, uint64_t token, bool begun);
/* Where parked_max is reached: later instead. */
void group_entry_park (struct group_state *g, uint32_t slot, struct fm_slice reason, uint64_t now, uint64_t unix_ns);
/* It is done: the slot is free. */
void group_entry_finish (struct group_state *g, uint32_t slot);
/* It was handed out and nothing came of it. `attempt`: its instance was at it. `until_ns`: what it began may still be going on. */
void group_entry_lose (struct group_state *g, uint32_t slot, bool attempt, uint64_t until_ns, uint64_t now, uint64_t unix_ns);

#endif
