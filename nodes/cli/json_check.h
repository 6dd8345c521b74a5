/* json_check: is this text one JSON value, by the letter of RFC 8259? Pure; allocates nothing.
 *
 * json-c, which takes members out, lets pass what other readers refuse ('x', NaN, 1., a raw tab): what we publish
 * others will read. */

#ifndef FM_CLI_JSON_CHECK_H
#define FM_CLI_JSON_CHECK_H

#include "bytes.h"

enum { JSON_DEPTH_MAX = 64 };

/* The text is UTF-8 already (text_is_utf8). 0, or FM_ERR_MALFORMED: *ret_pos is where the fault is, *ret_what says
 * what. *ret_kind (may be NULL) is the value's first byte: '{', '[', '"', 't', 'f', 'n', '-' or a digit. */
int json_check (struct fm_slice text, char *ret_kind, size_t *ret_pos, const char **ret_what);

#endif
