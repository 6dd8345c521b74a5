/* stream_pool: see stream_pool.h. */

#include "stream_pool.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"

/* Append to path (PATH_MAX bytes). */
static int path_add (char *path, const char *part)
{
    const size_t len = strlen (path), more = strlen (part);
    if (more >= PATH_MAX - len)
        return error_set (-ENAMETOOLONG, "%.200s…: too long; give a directory with --identity", path);
    memcpy (path + len, part, more + 1);
    return 0;
}

/* A mesh or stream name as one path component: what is no letter, digit, '-' or '_' (or a '.' within) becomes %XX. */
static int path_add_name (char *path, const char *name)
{
    int rc = path_add (path, "/");
    for (const char *p = name; *p && rc == 0; p++) {
        const char c = *p;
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                           c == '_' || (c == '.' && p != name);
        char part[4] = { c, 0 };
        if (!plain)
            (void) snprintf (part, sizeof part, "%%%02X", (unsigned) (unsigned char) c);
        rc = path_add (path, part);
    }
    return rc;
}

/* mkdir -p. State is its owner's business: mode 0700. */
static int make_directories (const char *path)
{
    char part[PATH_MAX];
    for (size_t i = 1;; i++) {
        if (path[i] != '/' && path[i] != 0)
            continue;
        memcpy (part, path, i);
        part[i] = 0;
        if (mkdir (part, 0700) < 0 && errno != EEXIST) {
            const int rc = -errno;
            return error_set (rc, "%s: mkdir: %s; set XDG_STATE_HOME, or give --identity DIR or --ephemeral", part,
                              strerror (-rc));
        }
        if (!path[i])
            return 0;
    }
}

static int pool_path (const char *mesh, char path[PATH_MAX])
{
    const char *const state = getenv ("XDG_STATE_HOME"), *const home = getenv ("HOME");
    const bool has_state = state && *state == '/'; /* the XDG rules: a relative path is none */
    if (!has_state && !(home && *home == '/'))
        return error_set (
            -ENOENT, "neither XDG_STATE_HOME nor HOME says where streams are kept; give --identity DIR or --ephemeral");
    path[0] = 0;
    int rc = path_add (path, has_state ? state : home);
    if (rc == 0 && !has_state)
        rc = path_add (path, "/.local/state");
    if (rc == 0)
        rc = path_add (path, "/factmesh/streams");
    if (rc == 0)
        rc = path_add_name (path, mesh);
    return rc < 0 ? rc : make_directories (path);
}

static bool has_window (char *directory)
{
    const size_t len = strlen (directory);
    const bool has = path_add (directory, "/window") == 0 && access (directory, F_OK) == 0;
    directory[len] = 0;
    return has;
}

/* The first that nobody has open, of those with a window on disk, or of those without. The path is the pool's, to be lengthened. FM_ERR_IN_USE: there is none. */
static int open_any (struct fm_node *node, char *path, bool with_window, const struct fm_publisher_options *options, struct fm_publisher **ret_publisher)
{
    const size_t base = strlen (path);
    int rc = error_set (FM_ERR_IN_USE, "%s: all %d streams are in use, or hold facts for a run with --window-on-disk", path, (int) STREAM_POOL_MAX);
    for (unsigned i = 0; i < STREAM_POOL_MAX; i++) {
        char number[16];
        (void) snprintf (number, sizeof number, "pub-%u", i);
        path[base] = 0;
        const int added = path_add_name (path, number);
        if (added)
            return added;
        if (has_window (path) != with_window)
            continue;
        rc = fm_publisher_open (node, options, ret_publisher);
        if (rc != FM_ERR_IN_USE)
            return rc;
    }
    path[base] = 0;
    return rc;
}

int stream_pool_open (struct fm_node *node, const char *mesh, const char *name, struct fm_publisher_options *options,
                      struct fm_publisher **ret_publisher)
{
    char path[PATH_MAX];
    int rc = pool_path (mesh, path);
    if (rc < 0)
        return rc;
    options->directory = path;
    if (name) {
        rc = path_add_name (path, name);
        if (rc == 0)
            rc = fm_publisher_open (node, options, ret_publisher);
    } else {
        rc = options->window_on_disk ? open_any (node, path, true, options, ret_publisher) : FM_ERR_IN_USE;
        if (rc == FM_ERR_IN_USE)
            rc = open_any (node, path, false, options, ret_publisher);
    }
    options->directory = NULL;
    return rc;
}
