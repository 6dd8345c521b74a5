/* fail_fs: a file system that fails, and one that forgets.
 *
 * It passes every call on to the real one and counts those that change something or make it durable. The n-th such call
 * can be made to fail once with an error, or to be the last: from then on every call fails, as if the power had gone.
 * fail_fs_power_loss then takes back, sector by sector and by chance, what was not synced: writes, lengths, names. As
 * on Linux, a sync that failed leaves what it should have written looking clean: no later sync writes it, unless it is
 * written again.
 *
 * Thread:  any, one at a time inside (a lock).
 * Limits:  what is taken back is kept in memory until it is synced. */

#ifndef FM_TESTS_FAIL_FS_H
#define FM_TESTS_FAIL_FS_H

#include "fs.h"

struct fail_fs;

struct fail_fs *fail_fs_new (void);
void fail_fs_destroy (struct fail_fs **f);
const struct fs *fail_fs_seam (struct fail_fs *f);

enum fail_kind {
    FAIL_ANY,               /* any counted call */
    FAIL_OPEN,              /* open, of what may be made or emptied */
    FAIL_WRITE,             /* pwrite */
    FAIL_SYNC,              /* sync_data, sync_dir */
    FAIL_READ               /* pread; not among the counted */
};

/* The n-th call of the kind from now on (1: the next) fails with `error` (-ENOSPC, -EIO); 0: none does. A failing
 * pwrite of more than one byte writes half of it first. */
void fail_fs_fail (struct fail_fs *f, enum fail_kind kind, unsigned long n, int error);
/* No byte of [pos, pos + len) of this file can be read any more: EIO. */
void fail_fs_unreadable (struct fail_fs *f, const char *path, uint64_t pos, uint64_t len);
/* Every pwrite fails with -ENOSPC until it is turned off again. */
void fail_fs_disk_full (struct fail_fs *f, bool full);
/* As a disk whose last block is given away, until it is turned off again: -ENOSPC for new names and for what makes a file longer; writes in place
 * succeed. */
void fail_fs_no_room (struct fail_fs *f, bool no_room);
/* The power goes at the n-th counted call from now on; 0: it does not. */
void fail_fs_power_off (struct fail_fs *f, unsigned long n);
/* It was a kill: calls have effects again, nothing is taken back, and nothing is synced thereby. */
void fail_fs_go_on (struct fail_fs *f);
/* Has the planned failure or power loss happened? */
bool fail_fs_happened (const struct fail_fs *f);
unsigned long fail_fs_calls (const struct fail_fs *f);

/* Take back what was not synced, each 512-byte sector of each write with a chance of keep_percent to have reached
 * the disk all the same. */
void fail_fs_power_loss (struct fail_fs *f, unsigned seed, unsigned keep_percent);

#endif
