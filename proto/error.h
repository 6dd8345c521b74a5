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

/* error_set (code, format, ...): remember, for this thread, what failed, on what, why and what to do. Its value is code, which the compiler
 * can see: so it knows that a path with an error sets no result. */
#define error_set(code, ...) error_pass ((code), error_note (__VA_ARGS__))
int error_note (const char *format, ...) __attribute__ ((format (printf, 1, 2)));
static inline int error_pass (int code, int noted)
{
    (void) noted;       /* evaluated for what it does */
    return code;
}

/* The text of a code, or of an errno. Never NULL. */
FM_ERROR_EXPORT const char *fm_error_text (int code);

/* This thread's last error_set text, "" when there is none. Valid until the next one. */
FM_ERROR_EXPORT const char *fm_error_detail (void);

#endif
