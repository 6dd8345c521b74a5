/* cookie_newer: turns a journal's cookie into that of the next major format version, checksum and all, as a future
 * factmesh would write it. */

#include <stdio.h>

#include "bytes.h"
#include "checksum.h"
#include "cookie.h"

enum { AT_MAJOR = 8, AT_SUM = COOKIE_LEN - 8 }; /* FORMAT.md, "Cookie" */

int main (int argc, char **argv)
{
    uint8_t bytes[COOKIE_LEN];
    FILE *file = argc == 2 ? fopen (argv[1], "r+b") : NULL;

    if (!file || fread (bytes, sizeof bytes, 1, file) != 1) {
        perror ("cookie_newer FILE");
        return 1;
    }
    bytes_put_u32le (bytes + AT_MAJOR, COOKIE_MAJOR + 1);
    bytes_put_u64le (bytes + AT_SUM, checksum (bytes, AT_SUM));
    rewind (file);
    if (fwrite (bytes, sizeof bytes, 1, file) != 1 || fclose (file) != 0) {
        perror (argv[1]);
        return 1;
    }
    return 0;
}
