/* text: a growable run of bytes, and what the command writes into one: JSON strings, base64, numbers.
 *
 * Owns:    its memory, which it keeps for the next use: nothing is allocated once the largest record has been seen.
 * Errors:  out of memory is remembered in `failed` (and what is put afterwards is dropped): ask once, at the end of a
 * record. */

#ifndef FM_CLI_TEXT_H
#define FM_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bytes.h"

/* Zero-initialised. */
struct text {
    uint8_t *data;
    size_t len, size;
    bool failed;
};

void text_release (struct text *t);
static inline void text_clear (struct text *t)
{
    t->len = 0;
    t->failed = false;
}

/* Room for n more bytes at data + len; false when memory is short. */
bool text_reserve (struct text *t, size_t n);

void text_put (struct text *t, struct fm_slice bytes);
void text_put_byte (struct text *t, uint8_t byte);
void text_put_cstr (struct text *t, const char *s);
void text_put_u64 (struct text *t, uint64_t v);

/* Bytes that others gave, for a terminal: what could move its cursor becomes '?'. */
void text_put_printable (struct text *t, struct fm_slice bytes);

/* As printf. */
void text_format (struct text *t, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

/* The bytes as a JSON string, quotes included. They must be UTF-8 (text_is_utf8). */
void text_put_json (struct text *t, struct fm_slice utf8);
/* `"name":` and the bytes as a string; when they are not UTF-8 `"name_base64":` and base64. */
void text_put_json_member (struct text *t, const char *name, struct fm_slice bytes);
void text_put_base64 (struct text *t, struct fm_slice bytes);

/* RFC 3629: no overlong forms, no surrogates, at most U+10FFFF. *ret_fault (may be NULL) is where the first bad byte
 * is. */
bool text_is_utf8 (struct fm_slice bytes, size_t *ret_fault);

/* With commas between thousands, for people: "12,345". At most 27 bytes with the NUL. Returns out. */
#define TEXT_GROUPED 27
char *text_grouped (uint64_t v, char out[TEXT_GROUPED]);

#endif
