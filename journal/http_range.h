/* http_range: one range of a Range header (RFC 9110, 14.1.2). Pure. */

#ifndef FM_JOURNAL_HTTP_RANGE_H
#define FM_JOURNAL_HTTP_RANGE_H

#include <stdint.h>

enum http_range_kind { HTTP_RANGE_WHOLE, HTTP_RANGE_PART, HTTP_RANGE_NONE };
struct http_range {
    enum http_range_kind kind;          /* NONE: nothing of it is there: 416 */
    uint64_t first, end;                /* [first, end) */
};

/* Of a content of `size` bytes. What is malformed, of another unit, or several ranges, may be ignored: WHOLE. text NULL: no header. */
struct http_range http_range_parse (const char *text, uint64_t size);

#endif
