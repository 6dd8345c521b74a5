#include "sim_disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, SECTOR = 512, NAME_MAX_BYTES = 64, ENTRIES_MAX = 256 };

struct name {
    char name[NAME_MAX_BYTES];
    struct inode *inode;
};

struct names {
    struct name *items;
    size_t count;
};

struct inode {
    struct inode *next;
    struct sim_disk *disk;
    bool is_dir;
    struct names now, durable;              /* of a directory */
    uint8_t **pages, **durable_pages;       /* NULL: zeros */
    bool *dirty;
    size_t page_count;
    uint64_t size, durable_size;
    const struct sim_file *locked;
};

struct sim_disk {
    struct inode *inodes, *root;
    bool full;
};

struct sim_file {
    struct inode *inode;
    uint64_t pos;
};

static const uint8_t zeros[PAGE];

static struct inode *inode_new (struct sim_disk *disk, bool is_dir)
{
    struct inode *i = calloc (1, sizeof *i);
    assert (i);
    i->disk = disk;
    i->is_dir = is_dir;
    i->next = disk->inodes;
    disk->inodes = i;
    return i;
}

struct sim_disk *sim_disk_new (void)
{
    struct sim_disk *disk = calloc (1, sizeof *disk);
    assert (disk);
    disk->root = inode_new (disk, true);
    return disk;
}

static void inode_free (struct inode *i)
{
    for (size_t p = 0; p < i->page_count; p++) {
        free (i->pages[p]);
        free (i->durable_pages[p]);
    }
    free (i->pages);
    free (i->durable_pages);
    free (i->dirty);
    free (i->now.items);
    free (i->durable.items);
    free (i);
}

void sim_disk_destroy (struct sim_disk **disk)
{
    if (!*disk)
        return;
    for (struct inode *i; (i = (*disk)->inodes);) {
        (*disk)->inodes = i->next;
        inode_free (i);
    }
    free (*disk);
    *disk = NULL;
}

void sim_disk_full (struct sim_disk *disk, bool full)
{
    disk->full = full;
}

/* --- Names. */

static struct name *find (const struct inode *dir, const char *name)
{
    for (size_t i = 0; i < dir->now.count; i++)
        if (strcmp (dir->now.items[i].name, name) == 0)
            return &dir->now.items[i];
    return NULL;
}

static void add (struct inode *dir, const char *name, struct inode *inode)
{
    if (!dir->now.items)
        dir->now.items = calloc (ENTRIES_MAX, sizeof *dir->now.items);
    assert (dir->now.items && dir->now.count < ENTRIES_MAX && strlen (name) < NAME_MAX_BYTES);
    struct name *n = &dir->now.items[dir->now.count++];
    (void) snprintf (n->name, sizeof n->name, "%s", name);
    n->inode = inode;
}

static void take_out (struct inode *dir, struct name *n)
{
    *n = dir->now.items[--dir->now.count];
}

static void names_copy (struct names *to, const struct names *from)
{
    if (from->count && !to->items)
        to->items = calloc (ENTRIES_MAX, sizeof *to->items);
    assert (!from->count || to->items);
    if (from->count)
        memcpy (to->items, from->items, from->count * sizeof *to->items);
    to->count = from->count;
}

/* The directory that a path's last name is in. */
static struct inode *walk (struct sim_disk *disk, struct sim_file *dir, const char *path, const char **ret_name)
{
    struct inode *at = dir ? dir->inode : disk->root;
    if (*path == '/') {
        at = disk->root;
        path += strlen ("/sim");
        while (*path == '/')
            path++;
    }
    for (const char *slash; (slash = strchr (path, '/')) != NULL; path = slash + 1) {
        char part[NAME_MAX_BYTES];
        (void) snprintf (part, sizeof part, "%.*s", (int) (slash - path), path);
        const struct name *n = find (at, part);
        if (!n || !n->inode->is_dir)
            return NULL;
        at = n->inode;
    }
    *ret_name = path;
    return at;
}

int sim_file_open (struct sim_disk *disk, struct sim_file *dir, const char *path, int flags, struct sim_file **ret_file)
{
    const char *name;
    struct inode *in = walk (disk, dir, path, &name), *inode;
    if (!in)
        return -ENOENT;
    const struct name *n = *name ? find (in, name) : NULL;
    if (!*name || strcmp (name, ".") == 0 || strcmp (name, "..") == 0)
        inode = strcmp (name, "..") == 0 ? in->disk->root : in;
    else if (n && (flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    else if (n)
        inode = n->inode;
    else if (!(flags & O_CREAT))
        return -ENOENT;
    else if (!sim_effect ())
        return -EIO;
    else
        add (in, name, inode = inode_new (in->disk, false));
    if ((flags & O_DIRECTORY) && !inode->is_dir)
        return -ENOTDIR;
    struct sim_file *f = calloc (1, sizeof *f);
    assert (f);
    f->inode = inode;
    if ((flags & O_TRUNC) && sim_effect ())
        (void) sim_file_truncate (f, 0);
    *ret_file = f;
    return 0;
}

void sim_file_close (struct sim_file *f)
{
    if (f->inode->locked == f)
        f->inode->locked = NULL;
    free (f);
}

int sim_file_make_dir (struct sim_disk *disk, struct sim_file *dir, const char *path)
{
    const char *name;
    struct inode *in = walk (disk, dir, path, &name);
    if (!in)
        return -ENOENT;
    if (find (in, name))
        return -EEXIST;
    if (!sim_effect ())
        return -EIO;
    add (in, name, inode_new (in->disk, true));
    return 0;
}

int sim_file_rename (struct sim_file *from_dir, const char *from, struct sim_file *to_dir, const char *to)
{
    struct name *n = find (from_dir->inode, from);
    if (!n)
        return -ENOENT;
    if (!sim_effect ())
        return -EIO;
    struct inode *inode = n->inode;
    take_out (from_dir->inode, n);
    n = find (to_dir->inode, to);
    if (n)
        n->inode = inode;
    else
        add (to_dir->inode, to, inode);
    return 0;
}

int sim_file_unlink (struct sim_file *dir, const char *name)
{
    struct name *n = find (dir->inode, name);
    if (!n)
        return -ENOENT;
    if (!sim_effect ())
        return -EIO;
    take_out (dir->inode, n);
    return 0;
}

int sim_file_list (struct sim_file *dir, int (*each) (void *arg, const char *name), void *arg)
{
    struct names copy = { .items = NULL };
    names_copy (&copy, &dir->inode->now);
    int rc = 0;
    for (size_t i = 0; i < copy.count && rc == 0; i++)
        rc = each (arg, copy.items[i].name);
    free (copy.items);
    return rc;
}

int sim_file_lock (struct sim_file *f)
{
    if (f->inode->locked && f->inode->locked != f)
        return -EWOULDBLOCK;
    f->inode->locked = f;
    return 0;
}

/* --- Contents. */

static void make_pages (struct inode *i, size_t count)
{
    if (count <= i->page_count)
        return;
    const size_t size = count < 64 ? 64 : 2 * count;
    i->pages = realloc (i->pages, size * sizeof *i->pages);
    i->durable_pages = realloc (i->durable_pages, size * sizeof *i->durable_pages);
    i->dirty = realloc (i->dirty, size * sizeof *i->dirty);
    assert (i->pages && i->durable_pages && i->dirty);
    const size_t more = size - i->page_count;
    memset (i->pages + i->page_count, 0, more * sizeof *i->pages);
    memset (i->durable_pages + i->page_count, 0, more * sizeof *i->durable_pages);
    memset (i->dirty + i->page_count, 0, more * sizeof *i->dirty);
    i->page_count = size;
}

static void page_set (uint8_t **page, size_t at, const void *bytes, size_t len)
{
    if (!*page) {
        if (memcmp (bytes, zeros, len) == 0)
            return;
        *page = calloc (1, PAGE);
        assert (*page);
    }
    memcpy (*page + at, bytes, len);
}

static const uint8_t *page_get (uint8_t *const *page)
{
    return *page ? *page : zeros;
}

long sim_file_read (struct sim_file *f, void *buffer, size_t len, const uint64_t *at)
{
    const struct inode *i = f->inode;
    uint64_t pos = at ? *at : f->pos;
    if (i->is_dir)
        return -EISDIR;
    len = pos >= i->size ? 0 : i->size - pos < len ? (size_t) (i->size - pos) : len;
    for (size_t done = 0; done < len;) {
        const size_t page = (size_t) (pos / PAGE), in = (size_t) (pos % PAGE), n = PAGE - in < len - done ? PAGE - in : len - done;
        memcpy ((uint8_t *) buffer + done, (page < i->page_count ? page_get (&i->pages[page]) : zeros) + in, n);
        done += n;
        pos += n;
    }
    if (!at)
        f->pos = pos;
    return (long) len;
}

long sim_file_write (struct sim_file *f, const void *buffer, size_t len, const uint64_t *at)
{
    struct inode *i = f->inode;
    uint64_t pos = at ? *at : f->pos;
    if (!sim_effect ())
        return -EIO;
    if (i->disk->full && pos + len > i->size)
        return -ENOSPC;                     /* in place it takes no room */
    make_pages (i, (size_t) ((pos + len) / PAGE + 1));
    for (size_t done = 0; done < len;) {
        const size_t page = (size_t) (pos / PAGE), in = (size_t) (pos % PAGE), n = PAGE - in < len - done ? PAGE - in : len - done;
        page_set (&i->pages[page], in, (const uint8_t *) buffer + done, n);
        i->dirty[page] = i->dirty[page] || i->pages[page] || i->durable_pages[page];
        done += n;
        pos += n;
    }
    i->size = pos > i->size ? pos : i->size;
    if (!at)
        f->pos = pos;
    return (long) len;
}

int sim_file_truncate (struct sim_file *f, uint64_t len)
{
    struct inode *i = f->inode;
    if (!sim_effect ())
        return -EIO;
    make_pages (i, (size_t) (len / PAGE + 1));
    for (size_t page = (size_t) (len / PAGE); page < i->page_count && len < i->size; page++) {
        const size_t keep = page == len / PAGE ? (size_t) (len % PAGE) : 0;
        if (i->pages[page])
            memset (i->pages[page] + keep, 0, PAGE - keep);
        i->dirty[page] = i->dirty[page] || i->pages[page] || i->durable_pages[page];
    }
    i->size = len;
    return 0;
}

uint64_t sim_file_size (const struct sim_file *f)
{
    return f->inode->size;
}

int sim_file_sync (struct sim_file *f)
{
    struct inode *i = f->inode;
    if (!sim_effect ())
        return -EIO;
    if (i->is_dir) {
        names_copy (&i->durable, &i->now);
        return 0;
    }
    for (size_t p = 0; p < i->page_count; p++)
        if (i->dirty[p]) {
            page_set (&i->durable_pages[p], 0, page_get (&i->pages[p]), PAGE);
            i->dirty[p] = false;
        }
    i->durable_size = i->size;
    return 0;
}

void sim_disk_power_loss (struct sim_disk *disk, struct sim_random *r)
{
    static const unsigned chances[] = { 0, 500, 900, 1000 };
    const unsigned keeps = chances[sim_below (r, sizeof chances / sizeof *chances)];
    for (struct inode *i = disk->inodes; i; i = i->next) {
        i->locked = NULL;
        for (size_t p = 0; p < i->page_count; p++) {
            for (size_t s = 0; i->dirty[p] && s < PAGE; s += SECTOR)
                if (!sim_chance (r, keeps))
                    page_set (&i->pages[p], s, page_get (&i->durable_pages[p]) + s, SECTOR);
            if (i->dirty[p])
                page_set (&i->durable_pages[p], 0, page_get (&i->pages[p]), PAGE);
            i->dirty[p] = false;
        }
        if (!sim_chance (r, keeps))
            i->size = i->durable_size;
        i->durable_size = i->size;
        /* Never seen by a sync: its name is not there either. Names are journaled: all of a directory's, or none. */
        if (sim_chance (r, keeps))
            names_copy (&i->durable, &i->now);
        else
            names_copy (&i->now, &i->durable);
    }
}
