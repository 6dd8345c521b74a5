/* error: the one list of error codes, their texts, and the calling thread's last detail.
 *
 * A function that fails returns -errno or one of these negative codes; where a person will want to
 * know what failed, on what and what to do, it says so with error_set, whose text fm_error_detail
 * of the public face hands out. */

#ifndef FM_PROTO_ERROR_H
#define FM_PROTO_ERROR_H

#include "fm_types.h"

/* These two are part of the public face too, which lies above this header. */
#define FM_ERROR_EXPORT __attribute__ ((visibility ("default")))

/* Remember, for this thread, what failed, on what, why and what to do; returns code. */
int error_set (int code, const char *format, ...) __attribute__ ((format (printf, 2, 3)));

/* The text of a code, or of an errno. Never NULL. */
FM_ERROR_EXPORT const char *fm_error_text (int code);

/* This thread's last error_set text, "" when there is none. Valid until the next one. */
FM_ERROR_EXPORT const char *fm_error_detail (void);

#endif
