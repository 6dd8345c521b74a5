/* blob_link: journals, one after the other, for whoever puts or gets a blob.
 *
 * Owns:    a connection to one of them at a time; the node keeps it for the next one (blob_pool.h).
 * Thread:  its caller's. */

#ifndef FM_NODES_BLOB_LINK_H
#define FM_NODES_BLOB_LINK_H

#include "blob.h"
#include "replay_client.h"

enum {
    BLOB_TIMEOUT_MS = 30000,            /* without progress */
    BLOB_AGAIN_MS = 1000,               /* a journal that says nothing for so long is asked again: it may have been started anew … */
    BLOB_SILENT_MS = 5000,              /* … and for so long is connected to anew; over a connection of an earlier blob's after the shorter time */
    BLOB_RETRY_MS = 200,                /* after a connection, or a refusal that will pass */
    BLOB_WAIT_MS = 50,                  /* an upload that must wait asks again so often */
    BLOB_DISK_RETRY_MS = 1000,
    BLOB_PROGRESS_MS = 200,
    BLOB_JOURNALS_MAX = 64,
    BLOB_READS = 8,                     /* blocks that are asked for at once */
    BLOB_WHOLE_MAX = 64 << 10           /* a blob of so many bytes is sent with what opens it: a round trip, at the price of sending what may be there */
};

struct blob_link {
    struct fm_node *node;
    const struct fm_blob_options *options;
    struct replay_client *client;       /* NULL: none now */
    struct fm_id peer;                  /* whom it leads to */
    uint64_t last_request;              /* of an earlier user of it: what answers that is not ours */
    bool untried;                       /* it was an earlier blob's, and has not answered us yet */
    bool chosen;
    struct fm_id journal;               /* of the connection, or the last one */
    uint64_t heard_ns, asked_ns, retry_ns;      /* monotonic; asked: again, or anew */
    uint64_t progress_ns;               /* something moved */
    uint64_t told_ns;                   /* the callback was called */
    int problem;                        /* what is in the way, if anything; told when time is over */
    char problem_text[256];
};

void blob_link_init (struct blob_link *l, struct fm_node *node, const struct fm_blob_options *options);
/* keep: nothing is under way, and the connection is good for another blob. */
void blob_link_release (struct blob_link *l, bool keep);

/* The journals that may be asked, in order of their ids. FM_ERR_NO_JOURNAL: there is none, also not within the time-out. */
int blob_link_journals (struct blob_link *l, struct fm_id *ret, size_t max, size_t *ret_count);
/* Connect to one. FM_ERR_UNKNOWN: it is away. */
int blob_link_connect (struct blob_link *l, const struct fm_id *journal);
void blob_link_cut (struct blob_link *l, unsigned retry_ms);

/* What comes next: 0; -EAGAIN: nothing until until_ns at the latest, which may have come early. */
int blob_link_next (struct blob_link *l, uint64_t until_ns, struct replay_event *ret_event);
/* Has it said nothing for so long that it is worth connecting anew? */
bool blob_link_is_lost (const struct blob_link *l, uint64_t now_ns);
/* … that it is worth asking again? Once in a while only. */
bool blob_link_is_silent (struct blob_link *l, uint64_t now_ns);
/* Something moved: a source or a sink that blocked is no silence of the journal. */
void blob_link_moved (struct blob_link *l);
/* Remember what is in the way. Returns code. */
int blob_link_problem (struct blob_link *l, int code, const char *text);
/* Is it time to give up, or does the caller say so? 0: go on. */
int blob_link_tend (struct blob_link *l, uint64_t done, uint64_t size);
/* Our code for a journal's. */
int blob_link_error (Factmesh__ErrorCode code);

#endif
