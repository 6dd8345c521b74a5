/* segment: one file of records: header, create, append, sync, seal; and how a reader opens one.
 *
 * Owns:    the descriptor of the segment that is being written.
 * Thread:  the sync thread writes; readers open descriptors of their own.
 * Promise: what lies below synced_pos survives power loss. A segment appears under its name only when its header and
 *          its snapshots are on disk, and its successor only when the whole of it is.
 * Bytes:   FORMAT.md, "Segment". */

#ifndef FM_JOURNAL_SEGMENT_H
#define FM_JOURNAL_SEGMENT_H

#include "fm_limits.h"
#include "fs.h"
#include "id.h"

enum {
    SEGMENT_MAJOR = 1,
    SEGMENT_MINOR = 0,
    SEGMENT_HEADER_LEN = 256,
    SEGMENT_HEADER_COPY_POS = 2048,         /* the second copy, in another sector */
    SEGMENT_RECORDS_POS = 4096,
    SEGMENT_TRAILER_LEN = 192,
    SEGMENT_IDENTITY_LEN = 40,              /* of an entry: the section's length follows from their number */
    SEGMENT_NAME_LEN = 32,

    /* Zero-filling ahead lets fdatasync write data alone (no new length, no extents to convert). It doubles the
     * bytes that are written, so it is left out when more than SEGMENT_FILL_BELOW was written since the last sync:
     * then one metadata write is shared by much data. */
    SEGMENT_FILL_STEP = 1 << 20,
    SEGMENT_FILL_BELOW = 256 << 10
};

struct segment_header {
    struct fm_id journal;
    uint64_t generation;
    uint64_t number;
    uint64_t base_offset;                   /* of its first fact */
    uint64_t created_ns;                    /* the journal's clock: no earlier record is younger, none here is older */
    uint8_t salt[16];
    uint64_t prior_bytes;                   /* lengths of all segments before this one, dropped ones included */
    uint64_t snapshot_end;                  /* records below are the snapshots */
    uint64_t first_number;                  /* the oldest segment when this one was made: how far retention was */
    uint64_t identities_number;             /* segments between that one and this one have no identities; 0: none before this one has */
    char mesh[MESH_NAME_MAX + 1];
};

enum {
    SEGMENT_FLAG_TOPICS_INCOMPLETE = 1,     /* more topics than the index holds, or records it could not read */
    SEGMENT_FLAG_DAMAGED = 2,               /* sealed with a hole in it */
    SEGMENT_FLAG_GAPS = 4                   /* holds gap records: never skipped */
};

struct segment_section {
    uint64_t pos, len, sum;
};

/* The fixed end of a sealed segment; the sections and a third copy of the header lie between the records and
 * it. */
struct segment_trailer {
    uint64_t records_end;
    uint64_t end_offset;
    uint64_t first_time_ns, last_time_ns;   /* 0: no records but snapshots */
    uint64_t records;                       /* without snapshots and marks */
    uint64_t facts;
    uint32_t flags;
    uint32_t stream_count, topic_count, position_count, identity_count;
    struct segment_section streams, topics, positions;
    struct segment_section identities;      /* behind the topics */
};

void segment_header_encode (const struct segment_header *h, uint8_t ret_bytes[SEGMENT_HEADER_LEN]);
/* Returns 0, FM_ERR_CORRUPT, or FM_ERR_NEWER for another major version. */
int segment_header_decode (const uint8_t bytes[SEGMENT_HEADER_LEN], struct segment_header *ret_header);

void segment_trailer_encode (const struct segment_trailer *t, const struct segment_header *h,
                             uint8_t ret_bytes[SEGMENT_TRAILER_LEN]);
/* Checks the sum, that it is this segment's, and that everything it names lies within a file of file_len bytes. */
int segment_trailer_decode (const uint8_t bytes[SEGMENT_TRAILER_LEN], const struct segment_header *h, uint64_t file_len,
                            struct segment_trailer *ret_trailer);

/* "0000000042.seg"; and back: false when the name is not one. */
void segment_name (uint64_t number, char ret_name[SEGMENT_NAME_LEN]);
bool segment_name_parse (const char *name, uint64_t *ret_number);

/* A segment's header, from the first of its three copies that is good. Returns 0, FM_ERR_CORRUPT, FM_ERR_NEWER or
 * -errno. */
int segment_read_header (const struct fs *fs, int fd, struct segment_header *ret_header);
/* The footer, with its copy of the header, is about to go: where neither copy in front is good, they are written anew and synced. */
int segment_keep_header (const struct fs *fs, int fd, const struct segment_header *header);
/* Returns 0, FM_ERR_CORRUPT (not sealed, or damaged) or -errno. */
int segment_read_trailer (const struct fs *fs, int fd, const struct segment_header *h,
                          struct segment_trailer *ret_trailer);
/* Open a segment for reading and read its header. -ENOENT: there is none. Never leaves a descriptor behind on
 * failure. */
int segment_open_read (const struct fs *fs, int dir, uint64_t number, int *ret_fd, struct segment_header *ret_header);

/* The segment that is being written. */
struct segment {
    const struct fs *fs;
    int fd;                                 /* -1: none */
    struct segment_header header;
    uint64_t seed;                          /* record_seed of the salt */
    uint64_t pos;                           /* where the next record goes */
    uint64_t synced_pos;
    uint64_t filled_pos;                    /* the file's length: zeros from pos to here */
    bool sealed;
};

/* Start to make a new segment under a temporary name: its records may be written (the snapshots), and
 * segment_publish makes it the log's next. Starting again after a failure is all right. */
int segment_create (struct segment *s, const struct fs *fs, int dir, const struct segment_header *header);
/* Write the header (snapshot_end: here), sync, rename, sync the directory. */
int segment_publish (struct segment *s, int dir);
/* The same with the header as it is: a segment that takes the place of the one of its number. */
int segment_replace (struct segment *s, int dir);

/* Write stamped records at pos, and advance. -ENOSPC: nothing happened, try again. */
int segment_write (struct segment *s, const void *bytes, size_t len);

/* A failure is final: what is on disk is no longer known. */
int segment_sync (struct segment *s);

/* Write an encoded footer (sections, header copy, trailer) behind the records, cut the file there, sync.
 * -ENOSPC before the sync: nothing happened, try again. *ret_final: the failure is a sync's, and final. */
int segment_seal (struct segment *s, const void *footer, size_t len, bool *ret_final);

void segment_close (struct segment *s);

#endif
