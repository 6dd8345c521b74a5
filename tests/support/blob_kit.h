/* blob_kit: what the tests of the blob store share, with cmocka's checks: a store in a directory of its own, under a clock that the test sets, and contents that
 * follow from their sizes: what was stored is compared with them, byte for byte. */

#ifndef FM_TESTS_BLOB_KIT_H
#define FM_TESTS_BLOB_KIT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "blob_file.h"
#include "error.h"
#include "fail_fs.h"
#include "log_kit.h"
#include "sha256.h"

enum { CONTENT_MAX = 5 * BLOB_BLOCK };
#define SECOND UINT64_C (1000000000)
#define HOUR (3600 * SECOND)

/* Of size n: its first n bytes. */
extern uint8_t content[CONTENT_MAX];

struct blob_kit {
    char root[128];
    struct kit_clock clock;             /* begins at the real time: files' times are compared with it */
    unsigned damages;                   /* told by stores */
    char damage_text[256];              /* the last one's */
};
extern struct blob_kit kit;

int blob_set_up (void **state);
int blob_tear_down (void **state);
/* As if no store had been here. */
void blob_empty_root (void);

int open_with (const struct fs *fs, struct blob_store **ret_store);
struct blob_store *must_open (void);

/* --- Storing. 0 or the store's error. */

int upload_resume (struct blob_upload *u);
/* Append what is missing of the content up to `end`. */
int upload_append (struct blob_upload *u, size_t end);
/* A whole upload of this size, of the media type text/plain. */
int try_put (struct blob_store *store, size_t size, struct blob_info *ret_info, bool *ret_new);
void must_put (struct blob_store *store, size_t size, bool is_new);

/* --- What is there. */

void digest_of (size_t size, uint8_t digest[BLOB_DIGEST_LEN]);
/* Two sizes whose blobs lie in one folder, the first one's digest before the second one's. */
void sizes_of_one_folder (size_t ret_sizes[2]);
/* Read every byte of it from a position on, and compare. 0, or why that can't be. */
int read_back (struct blob_store *store, size_t size, size_t from);
unsigned files_below (const char *folder);
/* The files of a blob, and of the only upload. */
void blob_path (size_t size, char ret_path[256]);
void upload_path (char ret_path[256]);

/* --- Sweeping. */

struct use {
    uint8_t digest[BLOB_DIGEST_LEN];
    int others;                         /* what to say of all but that one */
    unsigned asked;
};
/* A blob_used_fn; arg is a struct use. */
int is_used (void *arg, const uint8_t *digest);
/* A whole round, which must succeed; how many went. */
unsigned sweep_all (struct blob_store *store, struct use *use);

#endif
