#include "cookie.h"

#include <assert.h>
#include <fcntl.h>
#include <string.h>

#include "bytes.h"
#include "checksum.h"
#include "fm_types.h"

static const char magic[8] = "FMCOOKY\n";

enum {
    AT_MAJOR = 8,
    AT_MINOR = 12,
    AT_JOURNAL = 16,
    AT_GENERATION = 32,
    AT_CREATED = 40,
    AT_MESH_LEN = 48,
    AT_MESH = 49,
    AT_SUM = COOKIE_LEN - 8
};
enum { COOKIE_MAJOR_BELIEVED = 255 };
static_assert (AT_MESH + MESH_NAME_MAX <= AT_SUM, "the mesh name fits");

/* The sum does not hold. Of a newer format that need mean nothing: where it has its sum, and over what, is not ours to know, and what is made anew in
 * our format would be its end. A number within reason is believed, unless the rest of the cookie is one of ours: then it is what was damaged. */
static bool looks_newer (const uint8_t p[COOKIE_LEN])
{
    uint8_t ours[COOKIE_LEN];
    const uint32_t major = bytes_get_u32le (p + AT_MAJOR);
    memcpy (ours, p, sizeof ours);
    bytes_put_u32le (ours + AT_MAJOR, COOKIE_MAJOR);
    return major > COOKIE_MAJOR && major <= COOKIE_MAJOR_BELIEVED && bytes_get_u64le (p + AT_SUM) != checksum (ours, AT_SUM);
}

int cookie_read (const struct fs *fs, int dir, struct cookie *ret_cookie)
{
    const int fd = fs->open (fs->context, dir, COOKIE_NAME, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    uint8_t p[COOKIE_LEN];
    const int rc = fs_read_full (fs, fd, p, sizeof p, 0);
    (void) fs->close (fs->context, fd);     /* read-only: nothing to lose */
    if (rc == FM_ERR_END)
        return FM_ERR_CORRUPT;
    if (rc)
        return rc;
    if (memcmp (p, magic, sizeof magic) != 0)
        return FM_ERR_CORRUPT;
    const bool whole = bytes_get_u64le (p + AT_SUM) == checksum (p, AT_SUM);
    if (whole ? bytes_get_u32le (p + AT_MAJOR) != COOKIE_MAJOR : looks_newer (p))
        return FM_ERR_NEWER;
    if (!whole)
        return FM_ERR_CORRUPT;
    if (p[AT_MESH_LEN] > MESH_NAME_MAX)
        return FM_ERR_CORRUPT;
    struct cookie c = { .generation = bytes_get_u64le (p + AT_GENERATION),
                        .created_ns = bytes_get_u64le (p + AT_CREATED) };
    memcpy (c.journal.bytes, p + AT_JOURNAL, ID_LEN);
    memcpy (c.mesh, p + AT_MESH, p[AT_MESH_LEN]);
    *ret_cookie = c;
    return 0;
}

int cookie_write (const struct fs *fs, int dir, const struct cookie *c)
{
    uint8_t p[COOKIE_LEN] = { 0 };
    const size_t mesh_len = strlen (c->mesh);
    memcpy (p, magic, sizeof magic);
    bytes_put_u32le (p + AT_MAJOR, COOKIE_MAJOR);
    bytes_put_u32le (p + AT_MINOR, COOKIE_MINOR);
    memcpy (p + AT_JOURNAL, c->journal.bytes, ID_LEN);
    bytes_put_u64le (p + AT_GENERATION, c->generation);
    bytes_put_u64le (p + AT_CREATED, c->created_ns);
    p[AT_MESH_LEN] = (uint8_t) mesh_len;
    memcpy (p + AT_MESH, c->mesh, mesh_len);
    bytes_put_u64le (p + AT_SUM, checksum (p, AT_SUM));

    const int fd = fs->open (fs->context, dir, COOKIE_TEMPORARY_NAME, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0)
        return fd;
    int rc = fs_write_full (fs, fd, p, sizeof p, 0);
    if (rc == 0)
        rc = fs->sync_data (fs->context, fd);
    const int closed = fs->close (fs->context, fd);
    rc = rc ? rc : closed;
    if (rc == 0)
        rc = fs->rename (fs->context, dir, COOKIE_TEMPORARY_NAME, dir, COOKIE_NAME);
    return rc ? rc : fs->sync_dir (fs->context, dir);
}
