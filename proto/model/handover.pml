/* handover: the protocol between one publisher, one journal and one live subscriber, for one stream.
 *
 * What is modelled
 *   publisher   publishes FACTS facts over two topics; keeps a window until the journal says synced; crashes (losing the window) and
 *               restarts in a new epoch, above every sequence that it reserved.
 *   live path   one lossy channel to the journal's intake, one to the subscriber: any subset of messages is dropped; order is kept.
 *   journal     records in sequence order, syncs at any time, loses what is not synced when it crashes; repairs holes from the publisher's
 *               window; declares void what nobody has when it meets a new epoch. Serves only what is synced.
 *   subscriber  wants both topics (ONE_TOPIC: topic 0 alone); keeps P; holds one live batch behind a hole; asks the journal or the window.
 *
 * Checked (assert): G1 order, once, no hole; G2 acknowledged survives; G6 no sequence used twice, a void only of what the journal lacks.
 * Checked (ltl live_end, with no more drops and crashes than are budgeted): everything that matches is delivered in the end.
 *
 * A seeded fault is chosen with -DFAULT_…; spin must find its counterexample (run.sh). */

#ifndef FACTS
#define FACTS 3
#endif
#define SEQS   (FACTS + 4)              /* a restart may skip one reserved sequence each */
#ifndef DROPS
#define DROPS  2
#endif
#ifndef PUBLISHER_CRASHES
#define PUBLISHER_CRASHES 1
#endif
#ifndef JOURNAL_CRASHES
#define JOURNAL_CRASHES 1
#endif

#define NOTHING 0                       /* contents: 0 nothing, 1 void, 2 + topic + 2 * epoch a fact */
#define VOID    1
#define FACT(topic, epoch) (2 + (topic) + 2 * (epoch))
#define TOPIC_OF(content)  (((content) - 2) % 2)

/* --- publisher */
byte head;                              /* last sequence published */
byte reserved;                          /* durable: no restart goes at or below it */
byte published;
byte epoch;
byte epoch_first = 1;
byte window[SEQS];                      /* contents still kept, by sequence */
byte truth[SEQS];                       /* what was ever published as this sequence */
byte acked;                             /* synced watermark that the publisher was told */
byte last_of[2];                        /* last sequence of each topic, as far as this incarnation knows */

/* --- journal */
byte log[SEQS];                         /* by sequence: in order, so received is its length */
byte received, synced;
byte journal_epoch;
bool recorded[SEQS];                    /* ghost: the journal has this fact, since its last crash */

/* --- subscriber */
byte complete;                          /* P */
byte given[SEQS];                       /* what was delivered as this sequence */
byte last_given;
bool holding;
byte held_seq, held_prev, held_content;

byte drops = DROPS, publisher_crashes = PUBLISHER_CRASHES, journal_crashes = JOURNAL_CRASHES;
bool over;                              /* nothing more is published */

/* seq, content, prev, epoch, first sequence of the epoch */
chan to_journal    = [2] of { byte, byte, byte, byte, byte };
chan to_subscriber = [2] of { byte, byte, byte, byte, byte };

#ifdef ONE_TOPIC
#define MATCHES(content) ((content) >= 2 && TOPIC_OF (content) == 0)
#else
#define MATCHES(content) ((content) >= 2)
#endif

/* The bound that a batch carries for the subscriber's level. */
inline prev_for (topic, ret)
{
#if defined (FAULT_EXACT_PREV) || defined (ONE_TOPIC)
    ret = last_of[topic];
#else
    ret = head;                         /* the common level of both topics: everything before */
#endif
}

inline publish (topic)
{
    byte prev;
    prev_for (topic, prev);
    head++;
    assert (truth[head] == NOTHING);    /* G6: a sequence is used once */
    truth[head] = FACT (topic, epoch);
    window[head] = truth[head];
    if :: reserved < head -> reserved = head :: else fi;
    published++;
    last_of[topic] = head;
    if
    :: nfull (to_journal) -> to_journal ! head, truth[head], head - 1, epoch, epoch_first
    :: drops > 0 -> drops--
    fi;
    if
    :: nfull (to_subscriber) -> to_subscriber ! head, truth[head], prev, epoch, epoch_first
    :: drops > 0 -> drops--
    fi;
    prev = 0
}

active proctype publisher ()
{
    byte i;
    do
    :: atomic { published < FACTS && acked + 3 > head && nfull (to_journal) && nfull (to_subscriber) -> publish (0) }
    :: atomic { published < FACTS && acked + 3 > head && nfull (to_journal) && nfull (to_subscriber) -> publish (1) }
    :: atomic { published < FACTS && drops > 1 -> publish (0) }
    :: d_step { synced > acked ->                       /* the journal's watermark arrives */
#ifdef FAULT_ACK_BEFORE_SYNC
            skip
#endif
            acked = synced;
            i = 1;
            do :: i <= acked -> window[i] = NOTHING; i++ :: else -> break od; i = 0 }
#ifdef FAULT_ACK_BEFORE_SYNC
    :: d_step { received > acked -> acked = received; i = 1;
            do :: i <= acked -> window[i] = NOTHING; i++ :: else -> break od; i = 0 }
#endif
    :: d_step { publisher_crashes > 0 && published < FACTS ->
            publisher_crashes--;
            i = 1;
            do :: i < SEQS -> window[i] = NOTHING; i++ :: else -> break od; i = 0;
            epoch++;
#ifdef FAULT_SEQUENCE_REUSED
            head = acked;
#else
            if :: reserved + published < FACTS + 1 && reserved < SEQS - FACTS + published - 1 -> reserved++ :: else fi;  /* a block reserved, not used */
            head = reserved;
#endif
            last_of[0] = head; last_of[1] = head;       /* unknown: a larger bound costs a question */
            epoch_first = head + 1 }
    :: published == FACTS -> over = true; break
    od;
    /* It stays, serves its window and hears watermarks. */
    do
    :: d_step { synced > acked -> acked = synced; i = 1;
            do :: i <= acked -> window[i] = NOTHING; i++ :: else -> break od; i = 0 }
    od
}

/* G2: all that was ever acknowledged is in the synced log with its true contents, or is a void of what was never published. */
inline check_acked ()
{
    byte k = 1;
    do
    :: k <= acked -> assert (k <= synced && log[k] != NOTHING && (log[k] == VOID || log[k] == truth[k])); k++
    :: else -> break
    od;
    k = 0
}

inline record (content)
{
    log[received + 1] = content;
    recorded[received + 1] = (log[received + 1] != VOID);
    received++
}

active proctype journal ()
{
    byte seq, content, prev, e, first, i;
    do
    :: atomic { nempty (to_journal) -> to_journal ? seq, content, prev, e, first;
#ifdef FAULT_INTAKE_OUT_OF_ORDER
            if
            :: seq > received -> log[seq] = content; received = seq; journal_epoch = e
            :: else
            fi
#else
            if
            :: e > journal_epoch ->                     /* the old epoch is over: what nobody has is void */
                journal_epoch = e;
                do :: received < first - 1 -> record (VOID) :: else -> break od
            :: else
            fi;
            if
            :: e < journal_epoch || seq <= received     /* old, or a duplicate */
            :: e == journal_epoch && seq == received + 1 -> record (content)
            :: else                                     /* a hole: dropped; the repair below fills it */
            fi
#endif
            ; seq = 0; content = 0; prev = 0; e = 0; first = 0 }
    /* Repair, and the head notice that tells of a lost last fact: ask the window for the next one. */
    :: atomic { received < head && epoch == journal_epoch && window[received + 1] != NOTHING -> record (window[received + 1]) }
    /* The publisher's hello tells of its new epoch even when nothing live comes. */
    :: atomic { epoch > journal_epoch && empty (to_journal) ->
            journal_epoch = epoch;
            do :: received < epoch_first - 1 -> record (VOID) :: else -> break od }
#ifdef FAULT_PUBLISHER_VOIDS
    /* The new publisher says what is void, from the watermark it knew, while the journal still has the facts. */
    :: atomic { epoch > 0 && epoch_first > acked + 1 && received >= acked + 1 && log[acked + 1] >= 2 && synced <= acked + 1 ->
            log[acked + 1] = VOID; journal_epoch = epoch }
#endif
    :: d_step { synced < received -> synced = received; check_acked () }
    :: d_step { journal_crashes > 0 -> journal_crashes--;
            i = synced + 1;
            do :: i < SEQS -> log[i] = NOTHING; recorded[i] = false; i++ :: else -> break od; i = 0;
            received = synced;
            journal_epoch = 0;                          /* it knows what its log says; voids lost with the crash are declared anew */
            do :: len (to_journal) > 0 -> to_journal ? seq, content, prev, e, first :: len (to_journal) == 0 -> break od;
            seq = 0; content = 0; prev = 0; e = 0; first = 0;
            check_acked () }
    od
}

/* Deliver sequence s with these contents: G1. */
inline deliver (s, content)
{
    assert (s > last_given);                            /* in order, once */
    assert (given[s] == NOTHING);
    assert (content == VOID || content == truth[s]);
    /* A fact that a live subscriber saw may be void later, if its publisher died: the price of G3. Otherwise void is of what is nowhere. */
    given[s] = content;
    last_given = s
}

/* Advance P to s: nothing that matches may be left behind. */
inline advance (s)
{
    byte k = complete + 1;
    do
    :: k <= s -> assert (given[k] != NOTHING || ! MATCHES (truth[k]) || (k <= received && log[k] == VOID)); k++
    :: else -> break
    od;
    k = 0;
    complete = s
}

inline replay_one (content)
{
    if
    :: content == VOID || MATCHES (content) -> deliver (complete + 1, content)
    :: else
    fi;
    advance (complete + 1)
}

active proctype subscriber ()
{
    byte seq, content, prev, e, first;
    do
    :: atomic { ! holding && nempty (to_subscriber) -> to_subscriber ? seq, content, prev, e, first;
            if
            :: seq <= complete || ! MATCHES (content)   /* a duplicate, or not ours (then the level's prev does not count) */
            :: seq > complete && MATCHES (content) && prev <= complete ->
                deliver (seq, content);
                advance (seq)
            :: else ->                                  /* a hole: hold, ask */
                holding = true; held_seq = seq; held_prev = prev; held_content = content
            fi;
            seq = 0; content = 0; prev = 0; e = 0; first = 0 }
    :: atomic { holding && held_seq <= complete -> holding = false; held_seq = 0; held_prev = 0; held_content = 0 }
    :: atomic { holding && held_seq > complete && held_prev <= complete ->
            deliver (held_seq, held_content);
            advance (held_seq);
            holding = false; held_seq = 0; held_prev = 0; held_content = 0 }
    :: atomic { holding -> holding = false; held_seq = 0; held_prev = 0; held_content = 0 }        /* held too much: back to replay */
    /* Replay from the journal: only what is synced, in order, with covered_through. */
#ifdef FAULT_REPLAY_UNSYNCED
    :: atomic { complete < received -> replay_one (log[complete + 1]) }
#else
    :: atomic { complete < synced -> replay_one (log[complete + 1]) }
#endif
    /* Repair from the publisher's window, same epoch only. */
    :: atomic { complete < head && window[complete + 1] != NOTHING -> replay_one (window[complete + 1]) }
    od
}

/* G5: what was delivered is what the journal has, unless it was void there when a live subscriber had seen it. */
#define AGREES(s) (given[s] < 2 || s > synced || log[s] == given[s] || log[s] == VOID)
ltl agree { [] (AGREES (1) && AGREES (2) && AGREES (3)) }
/* A void that was delivered is void for good. */
#define VOID_STAYS(s) (given[s] != VOID || (log[s] == VOID && s <= synced))
ltl void_stays { [] (VOID_STAYS (1) && VOID_STAYS (2) && VOID_STAYS (3)) }
/* A void never takes the place of a fact that the journal has. */
#define KEPT(s) (! recorded[s] || log[s] >= 2)
ltl kept { [] (KEPT (1) && KEPT (2) && KEPT (3)) }
/* In the end everything is delivered. */
ltl live_end { <> (over && complete == head) }
