/* fs: the seam through which the journal, and a publisher that keeps its window on disk, touch files. Tests put a file system
 * behind it that fails the n-th call, and one that forgets what was not synced. */

#ifndef FM_PROTO_FS_H
#define FM_PROTO_FS_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Each returns >= 0, or -errno. Paths are relative to the directory descriptor. */
struct fs {
    void *context;
    int (*open_dir) (void *context, const char *path, bool create);
    int (*open) (void *context, int dir, const char *name, int flags, mode_t mode);
    int (*close) (void *context, int fd);
    ssize_t (*pread) (void *context, int fd, void *buffer, size_t len, uint64_t pos);
    ssize_t (*pwrite) (void *context, int fd, const void *buffer, size_t len, uint64_t pos);
    int (*sync_data) (void *context, int fd);               /* fdatasync */
    int (*sync_dir) (void *context, int dir);               /* fsync of a directory */
    int (*truncate) (void *context, int fd, uint64_t len);
    int (*size) (void *context, int fd, uint64_t *ret_len);
    int (*modified) (void *context, int fd, uint64_t *ret_unix_ns);     /* when its bytes were last written */
    int (*rename) (void *context, int from_dir, const char *from, int to_dir, const char *to);
    int (*unlink) (void *context, int dir, const char *name);
    int (*mkdir) (void *context, int dir, const char *name);
    int (*list) (void *context, int dir, int (*each) (void *arg, const char *name), void *arg);
    int (*lock) (void *context, int fd);                     /* exclusive, at once; -EWOULDBLOCK */
    int (*advise) (void *context, int fd, uint64_t pos, uint64_t len, int advice);
};

extern const struct fs fs_real;

/* Loops over short reads and writes. 0 or -errno; fs_read_full: FM_ERR_END when the file ends before. */
int fs_read_full (const struct fs *fs, int fd, void *buffer, size_t len, uint64_t pos);
int fs_write_full (const struct fs *fs, int fd, const void *buffer, size_t len, uint64_t pos);

#endif
