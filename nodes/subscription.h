/* subscription: the inside, shared by subscription*.c.
 *
 *      live connections (live_set)        journals and publishers (holder, replay_client)
 *              |  frames                       |  replay messages: the session, repairs
 *              v                               v
 *        subscription_live.c            subscription_replay.c
 *              '------------.   .--------------'
 *                           v   v
 *                 streams: one handover each (subscription_streams.c)
 *                             |  batches that are next
 *                             v
 *            walk: facts of one batch, filtered, one a call  ---> fm_subscription_next
 *
 *   subscription.c          the public calls, waiting, the pump that turns the above
 *   subscription_open.c     options, where it starts
 *   subscription_repair.c   holes: whom to ask, when to ask another one
 *   subscription_cursor.c   acknowledging, commits
 *
 * Owns:    its sockets and everything here. Thread: the caller's, one at a time; the node's thread only fills live_set's mailbox.
 * Bounded: SUBSCRIPTION_STREAMS_MAX streams; options.held_bytes held of all of them together; SUBSCRIPTION_REPAIRS_MAX questions under
 *          way; SUBSCRIPTION_HOLDERS_MAX connections. */

#ifndef FM_NODES_SUBSCRIPTION_H
#define FM_NODES_SUBSCRIPTION_H

#include "batch.h"
#include "cursor.h"
#include "handover.h"
#include "live_set.h"
#include "replay_client.h"

enum {
    SUBSCRIPTION_STREAMS_MAX = 65536,
    SUBSCRIPTION_COVERED_MAX = 4096,        /* streams made only because a journal says how far they are; others are asked for when heard of */
    SUBSCRIPTION_REPAIRS_MAX = 64,
    SUBSCRIPTION_LATE_MAX = 128,            /* questions that were given up, and may be answered yet */
    SUBSCRIPTION_QUESTIONS_MAX = SUBSCRIPTION_REPAIRS_MAX + SUBSCRIPTION_LATE_MAX,
    SUBSCRIPTION_REPAIR_CREDIT = 256 << 10, /* bytes on the way for each: 16 MiB for all */
    SUBSCRIPTION_REPAIR_MESSAGE = 16 << 10, /* bytes: so that each of them hears something in time though the others come first */
    SUBSCRIPTION_HOLDERS_MAX = 256,
    SUBSCRIPTION_MET_MAX = 2 * LIVE_SET_PEERS_MAX,  /* nodes that answered a fence, and may come back */
    SUBSCRIPTION_LIVE_HWM = 512,            /* frames queued here for each peer: 32 MiB at most, beside what it queues itself */
    SUBSCRIPTION_HELD_DEFAULT = 16 << 20,
    SUBSCRIPTION_KEEP_BYTES = 4 << 20,      /* so near to the journal's end live batches are held: the distance of MERGE */
    SUBSCRIPTION_LIVE_TURN = 64,            /* live frames between two replay messages */
    SUBSCRIPTION_CHECK_TURN = 64,           /* turns of the pump between two looks at the clock */
    SUBSCRIPTION_COMMIT_MS = 200,
    SUBSCRIPTION_CLOSE_MS = 1000,
    SUBSCRIPTION_OPEN_MS = 5000,
    SUBSCRIPTION_LOOK_MS = 300,             /* for a journal, where none is needed */
    SUBSCRIPTION_REPAIR_MS = 1000,          /* without an answer: another holder is asked */
    SUBSCRIPTION_GIVEN_UP_DOUBLES = 6,      /* twice as long after each that was given up, so often */
    SUBSCRIPTION_GIVEN_UP_DOUBLES_ALONE = 2,/* where the publisher alone can be asked */
    SUBSCRIPTION_SLOW_MS = 32000,           /* the longest that a connection is given for a message, however slow it was */
    SUBSCRIPTION_UNHEARD_MS = 300000,       /* nothing came for a question for so long: what else comes over the connection does not keep it */
    SUBSCRIPTION_RETRY_MS = 100,            /* between two questions about one hole */
    SUBSCRIPTION_GAP_MS = 5000,             /* a journal that says nothing of what another one calls a gap is waited for so long */
    SUBSCRIPTION_MARK_MS = 1000,            /* held facts wait so long for their watermark before a journal is asked */
    SUBSCRIPTION_TAIL_MS = 1000,            /* after a peer went: a journal is asked for what it sent last */
    SUBSCRIPTION_SILENT_MS = 10000,         /* a session that says nothing is opened again */
    SUBSCRIPTION_OWED_MS = 2000,            /* the same, of one that has more to say; after twice as long each time that it doesn't help */
    SUBSCRIPTION_PATIENCE_MS = 2000,        /* after the synced end was reached: what is still missing is then asked for by itself */
    SUBSCRIPTION_NEAR_HOLE = 4096,          /* sequences: smaller holes are asked of the publisher first, who is nearer */
    SUBSCRIPTION_HOLDER_IDLE_MS = 30000,
    SUBSCRIPTION_ORPHAN_MS = 60000,         /* a publisher that vanished without a goodbye may have what it has not let go for so long, as for a journal */
    SUBSCRIPTION_LEFT_MS = 10000,           /* one that said goodbye for so long: what came last in its name may be of who has its address now */
    SUBSCRIPTION_WAITS_MS = 60000,          /* what is where it was so long before, for want of anybody's answer, is told */
    SUBSCRIPTION_GIVE_UP = 16               /* fruitless questions to a publisher that lives, in a mesh that never had a journal: the gap is told */
};

#define NS_OF_MS(ms) ((uint64_t) (ms) * 1000000)

/* A connection to a control endpoint that facts can be asked of. */
struct holder {
    struct fm_id node;
    struct replay_client *client;
    bool ready;                             /* may have something to receive */
    bool doubted;                           /* a question is given up when that is read, if its answer is not there */
    uint64_t used_ns;
    uint64_t messages;                      /* that came, whatever for */
    uint64_t heard_ns;                      /* when the last one did */
    uint64_t empty_ns;                      /* when its socket was last found empty */
    uint64_t owes_ns;                       /* since when it has owed the next one; 0: it owes nothing */
    uint64_t patience_ns;                   /* twice what its messages took of late */
    struct holder *next;
};

/* A question under way: a range of one stream. */
struct repair {
    struct stream *stream;
    bool late;                              /* it was given up, and another one is asked: if it is answered all the same, so much the better */
    struct holder *holder;
    bool of_journal;
    uint64_t session;
    bool of_head;                           /* asked because of what a head notice said, not a batch */
    bool brought;                           /* facts came */
    bool doubted;                           /* it has been silent for too long; what its holder sent before is read first */
    bool not_yet;                           /* the holder said that it has no more now */
    uint64_t end_seq;                       /* UINT64_MAX: what is synced */
    bool answered;                          /* something came */
    uint64_t asked_ns, heard_ns;            /* heard: when an answer came last, or was asked for */
    uint64_t passed_ns;                     /* when something came that was asked for after that; 0: nothing did */
};

/* A stream as this subscription sees it. */
struct stream {
    struct fm_id id;
    struct handover h;
    bool positioned;                        /* P is known; else it is below anything not yet heard of, from the base on */
    bool beyond;                            /* P may lie above the base's offset: a cursor must list it */
    bool has_owner, owner_gone;
    uint64_t wanted_from;                   /* all from there on: its epoch began after this subscription did; 0: not known */
    bool conflict;                          /* told already */
    uint64_t epoch, incarnation;            /* 0: not known */
    struct fm_id owner;                     /* the node that sends it live */

    uint64_t complete_seen;                 /* P, counted and marked so far */
    size_t held_seen;
    uint64_t acked;                         /* P at the last fm_subscription_ack */
    bool acked_beyond;
    uint64_t put;                           /* P in the CursorPut under way; 0: not listed */

    bool quiet;                             /* a head notice's bound led to a question that brought nothing: the next one waits for silence */
    bool asked_listed, below;               /* the bound was of our own level; and it was so once: its facts are on topics below ours */
    uint64_t head;                          /* of the last notice */

    uint64_t listed;                        /* P in the vector that the session was opened with; 0: not listed */
    bool echoed;                            /* the journal repeated it: what it says from now on it has scanned */

    bool in_dirty, in_take, in_trouble, in_behind;
    struct stream *next_dirty, *next_take;
    struct stream *next_behind, *previous_behind;   /* those that are not LIVE */
    struct stream *next_trouble;
    struct repair *repair;
    uint64_t ask_ns;                        /* not before */
    uint64_t mark_ns;                       /* what is held has waited long enough for its watermark then, */
    uint64_t mark_complete;                 /* if P is still this */
    unsigned turn;                          /* of those who can be asked about the hole: grows each time, */
    unsigned asked;                         /* also where nobody could be; this does not */
    uint64_t gone_ns;                       /* its owner went then, */
    bool said_goodbye;                      /* in order */
    unsigned given_up;                      /* questions in a row, for want of any answer */
    uint64_t tail_ns;                       /* ask for what was sent last; 0: no need */
    uint64_t gone_end;                      /* its publisher said that it has nothing below */
    uint64_t waits_look, waits_complete;    /* it waited at that look, with that P */
    uint64_t gap_ns, gap_said, gap_journals;    /* since when a journal has said that what follows P is a gap; which ones have, of which */
};

/* Bytes of a batch that is held, or of the frame that is being walked. */
struct held {
    size_t len;
    uint8_t bytes[];
};

enum walk_source { WALK_LIVE, WALK_REPLAY };

enum session_state { SESSION_NONE, SESSION_WANTED, SESSION_OPEN };

struct fm_subscription {
    struct fm_node *node;

    /* Options. */
    char *pattern_bytes;
    struct fm_slice patterns[FILTERS_MAX];
    size_t pattern_count;
    struct fm_slice level;
    bool exact;
    bool synced_only, no_journal;
    enum fm_start from;
    uint64_t from_value;
    char *cursor_name;                      /* NULL: none */
    size_t held_max;
    uint64_t commit_ns;
    uint64_t opened_unix_ns;

    struct live_set *live;
    int epoll_fd, timer_fd, wake_fd;
    bool polled;                            /* the caller waits on our descriptor: keep it true */
    bool woken;                             /* wake_fd is set */
    uint64_t timer_ns;                      /* armed for */
    bool live_ready;
    unsigned turn;
    uint64_t due_ns;                        /* the next time that somebody wants */

    /* Streams: open addressing by id. */
    struct stream **table;
    size_t table_size, stream_count;
    struct stream *dirty;                   /* P moved since the last acknowledgement; only where a cursor is named */
    struct stream *take_first, *take_last;  /* may have held batches that are next */
    struct stream *behind;
    struct stream *trouble;
    size_t held_bytes;
    uint64_t trouble_ns;                    /* look at them */
    uint64_t waits_look, waits_look_ns;     /* the last look at what waits; and when the next one is due */
    uint64_t waits_offset;                  /* then the session with a journal waited, at that offset; UINT64_MAX: it did not */
    uint64_t waits_durable;                 /* then acknowledgements waited, and so many were durable; UINT64_MAX: none waited */
    struct repair repairs[SUBSCRIPTION_QUESTIONS_MAX];
    unsigned repair_count, late_count;
    struct stream *lost;                    /* nobody has [P + 1, lost_end) of it: to be told as a gap */
    uint64_t lost_end;
    enum fm_gap_reason lost_reason;

    /* Holders, and the session with a journal. */
    struct holder *holders;
    uint64_t waited_ns;                     /* until then we last waited, and none of them had anything */
    uint64_t changes_seen;                  /* of live_set */
    bool journal_seen;
    enum session_state session_state;
    struct holder *session_holder;
    uint64_t session;
    uint64_t session_heard_ns;
    uint64_t session_silent_ns;             /* it may be silent for so long: */
    bool session_owes;                      /* it has more to send, or has said nothing yet */
    uint64_t session_asked_ns, session_passed_ns;   /* as of a repair */
    bool session_looked;                    /* silent for too long, and its socket was looked at once more */
    uint64_t session_retry_ns;
    uint64_t session_wanted_ns;             /* since when; 0: not, or a journal that has our base is there */
    int session_error;                      /* a journal refused it last, */
    char session_error_text[256];           /* in its words */
    uint64_t caught_up_ns;                  /* the session reached the synced end first; 0: not yet */
    bool session_told;                      /* its first message came */
    struct cursor base;                     /* journal, generation, offset; its positions are not used */
    bool has_base;
    uint64_t session_start;                 /* the base when it began */
    uint64_t latest_end;                    /* the base lies within the newest facts of keys, which end there; 0: it does not */
    bool fences_only;                       /* no base: positions come from fences */
    struct fm_id *met;                      /* fences_only: the nodes that answered one, but for those that said goodbye */
    size_t met_count, met_next;             /* next: overwritten when there is no more room */

    /* The replay message being stepped through. */
    struct replay_view *view;
    struct holder *view_holder;
    struct repair *view_repair;             /* NULL: the session's */
    size_t view_gaps_left;
    bool view_has_batch;
    bool view_unread;                       /* view_batch could not be decoded for want of memory: that is tried again */
    struct fm_slice view_batch;
    struct batch view_decoded;

    /* The batch being walked. */
    bool walking;
    enum walk_source walk_source;
    struct stream *walk_stream;
    struct batch batch;
    struct batch_reader reader;
    struct batch_duplicates duplicates;     /* what a journal says of them */
    struct batch_scratch scratch, view_scratch;
    uint8_t *matches;                       /* by topic_index */
    size_t match_size;
    bool match_all;
    size_t last_topic_len;                  /* the topic decided last, and how */
    bool last_topic_matches;
    uint8_t last_topic[TOPIC_MAX];
    struct held *walk_held;
    zmq_msg_t message;
    struct live_frame frame;
    uint64_t delivered;                     /* facts not counted with the node yet */

    /* Events that are due before the next fact. */
    bool tell_fell_behind, tell_caught_up, caught_up_told, fallen;
    int error;                              /* to be returned once */
    char error_text[256];

    /* Cursors. */
    struct cursor acked_base;
    bool acked_anything, ack_changed;
    struct replay_client *cursor_client;
    struct fm_id cursor_node;
    bool put_out;
    uint64_t put_request, put_deadline_ns, put_due_ns;
    int put_error;
    uint64_t ack_look_ns;                   /* the next acknowledgement from then on sees to commits */
    uint64_t acks, acks_put, acks_durable;  /* counts: what is acknowledged, in the put under way, at the journal */
    void *cursor_bytes;
    size_t cursor_size;
};

/* --- subscription_streams.c */

struct stream *subscription_find (const struct fm_subscription *s, const struct fm_id *id);
/* Find or add. NULL: the table is full, or no memory. */
struct stream *subscription_stream (struct fm_subscription *s, const struct fm_id *id);
void subscription_streams_release (struct fm_subscription *s);
/* Call f for each. It must not add or remove. */
void subscription_each (struct fm_subscription *s, void (*f) (struct fm_subscription *s, struct stream *st));
/* After anything was done with a stream's handover: counts, lists, questions. */
void subscription_settle (struct fm_subscription *s, struct stream *st);
/* P or what a cursor must list of it changed: the next acknowledgement looks at it. */
void subscription_dirty (struct fm_subscription *s, struct stream *st);
/* A frame of a stream came from a live peer: is it the stream's owner, and of its newest epoch? */
bool subscription_accept (struct fm_subscription *s, struct stream *st, const struct live_peer *peer, uint64_t epoch, uint64_t incarnation,
                          uint64_t epoch_first_seq);
void subscription_drop_held (struct fm_subscription *s, struct stream *st);
/* A stream whose P was not known: it is. */
void subscription_position (struct fm_subscription *s, struct stream *st, uint64_t complete);

/* --- subscription_live.c */

/* Take one live frame. 0, or -EAGAIN. */
int subscription_live_step (struct fm_subscription *s);
void subscription_fall_behind (struct fm_subscription *s, struct stream *st, uint64_t known_end_seq);

/* --- subscription_replay.c; subscription_session_start: subscription_open.c */

void subscription_want_session (struct fm_subscription *s);
/* The journal of the base is there, restored from a copy, and the one that it was copied from is not. */
bool subscription_generation_passed (struct fm_subscription *s);
/* Members came, went or changed: the journal of the base may be among them. */
void subscription_session_look (struct fm_subscription *s);
/* Open a session that is wanted, if a journal is there. */
void subscription_session_step (struct fm_subscription *s, uint64_t now_ns);
/* The first one, from where the options say; there is no base yet. */
int subscription_session_start (struct fm_subscription *s, struct holder *holder);
/* start: filled in by the caller, the rest by this. */
int subscription_session_open (struct fm_subscription *s, struct holder *holder, Factmesh__ReplayOpen *start);
void subscription_session_lost (struct fm_subscription *s);
/* One replay message from a holder that is ready. 0, or -EAGAIN. */
int subscription_replay_receive (struct fm_subscription *s);
/* Go on with the message in hand; an event may be due (returns true). */
bool subscription_view_step (struct fm_subscription *s, struct fm_event *ret_event);
void subscription_gap_event (struct fm_subscription *s, const struct fm_id *stream, uint64_t first, uint64_t end, uint32_t reason,
                             struct fm_event *ret_event);
int subscription_error_of (Factmesh__ErrorCode code);
/* No answer, or one of a journal that has just started or is busy: it may have another one later. */
bool subscription_may_pass (int error);

/* --- subscription_repair.c */

/* Something of it is missing, or will be: look at it at that time. */
void subscription_trouble (struct fm_subscription *s, struct stream *st, uint64_t when_ns);
void subscription_repair_step (struct fm_subscription *s, uint64_t now_ns);
/* What waits for somebody who may never come is told, each minute. */
void subscription_waits_step (struct fm_subscription *s, uint64_t now_ns);
/* A journal says that what follows P is a gap: may another one have it, which then is to be asked? */
bool subscription_repair_elsewhere (struct fm_subscription *s, const struct repair *r);
struct repair *subscription_repair_of (struct fm_subscription *s, const struct holder *holder, uint64_t session);
/* Something came for it, if only that there is nothing. */
void subscription_repair_answered (struct fm_subscription *s, struct repair *r, uint64_t now_ns);
/* P moved by what came for it: others about its stream are not needed. */
void subscription_repair_moved (struct fm_subscription *s, struct repair *r);
/* It ended or failed: what is still missing is asked for again, of another one. */
void subscription_repair_over (struct fm_subscription *s, struct repair *r, unsigned wait_ms);
struct live_peer *subscription_peer (struct fm_subscription *s, const struct fm_id *node);
/* A journal's peer: of the base, if there is one; nth of those that are. NULL: none. */
struct live_peer *subscription_journal (struct fm_subscription *s, bool of_base, size_t nth);

/* --- subscription_holder.c */

/* The connection to one; NULL: no memory, or it cannot be made. */
struct holder *subscription_holder (struct fm_subscription *s, const struct live_peer *peer);
void subscription_holders_update (struct fm_subscription *s, uint64_t now_ns);
void subscription_holders_release (struct fm_subscription *s);

/* It was asked for something; the first of it came, so long after it was asked for; it ended, and the holder may owe no more; something may have come. */
void subscription_holder_asked (struct holder *h, uint64_t now_ns);
void subscription_holder_answered (struct fm_subscription *s, const struct holder *h, uint64_t asked_ns, uint64_t now_ns);
void subscription_holder_ended (const struct fm_subscription *s, struct holder *h);
void subscription_holder_heard (const struct fm_subscription *s, struct holder *h);
/* When an answer is given up that was last heard, or asked for, at heard_ns: after silent_ns in which nothing came over the connection; or after that time
 * since something came, at passed_ns, that had been asked for later (0: nothing did); or after SUBSCRIPTION_UNHEARD_MS. Longer on a slow connection. */
uint64_t subscription_holder_silent (const struct holder *h, uint64_t heard_ns, uint64_t passed_ns, uint64_t silent_ns);

/* --- subscription_cursor.c */

/* How far a stream has been taken, mid-batch exact. */
uint64_t subscription_taken (const struct fm_subscription *s, const struct stream *st);
void subscription_commit_step (struct fm_subscription *s, uint64_t now_ns);
int subscription_cursor_load (struct fm_subscription *s, const struct live_peer *peer, uint64_t deadline_ns, struct cursor *ret_cursor);
void subscription_cursor_release (struct fm_subscription *s);

/* --- subscription.c */

/* Begin to hand out a batch of which P has just moved past. bytes: what b was decoded from; from: the first fact that is news. */
void subscription_walk (struct fm_subscription *s, struct stream *st, const struct batch *b, uint64_t from, enum walk_source source);
/* Wake up by then at the latest. */
static inline void subscription_due (struct fm_subscription *s, uint64_t ns)
{
    if (ns < s->due_ns)
        s->due_ns = ns;
}
/* Wait for anything, at most until then; marks what is ready. FM_INTERRUPTED, FM_TIMEOUT. */
int subscription_wait (struct fm_subscription *s, uint64_t until_ns);
int subscription_watch (struct fm_subscription *s, int fd, void *what);
void subscription_unwatch (struct fm_subscription *s, int fd);

#endif
