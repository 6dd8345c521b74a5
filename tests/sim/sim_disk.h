/* sim_disk: a file system in memory that knows what is synced. kill -9 leaves it as it is; a power loss takes back, sector by sector and by chance, what
 * was not synced: contents, lengths, names. Paths begin with /sim; each process has its disk. */

#ifndef FM_TESTS_SIM_DISK_H
#define FM_TESTS_SIM_DISK_H

#include "sim.h"

struct sim_disk *sim_disk_new (void);
void sim_disk_destroy (struct sim_disk **disk);
void sim_disk_power_loss (struct sim_disk *disk, struct sim_random *r);
void sim_disk_full (struct sim_disk *disk, bool full);

/* An open file or directory. Each returns 0 or more, or -errno. */
struct sim_file;
int sim_file_open (struct sim_disk *disk, struct sim_file *dir, const char *path, int flags, struct sim_file **ret_file);
void sim_file_close (struct sim_file *f);
int sim_file_make_dir (struct sim_disk *disk, struct sim_file *dir, const char *path);
long sim_file_read (struct sim_file *f, void *buffer, size_t len, const uint64_t *pos);
long sim_file_write (struct sim_file *f, const void *buffer, size_t len, const uint64_t *pos);
int sim_file_sync (struct sim_file *f);
int sim_file_truncate (struct sim_file *f, uint64_t len);
uint64_t sim_file_size (const struct sim_file *f);
int sim_file_rename (struct sim_file *from_dir, const char *from, struct sim_file *to_dir, const char *to);
int sim_file_unlink (struct sim_file *dir, const char *name);
int sim_file_list (struct sim_file *dir, int (*each) (void *arg, const char *name), void *arg);
int sim_file_lock (struct sim_file *f);

#endif
