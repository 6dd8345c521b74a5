#include "http_range.h"

#include <stdbool.h>
#include <string.h>

/* Digits; false: none, or more than fit (then it is as large as can be). */
static bool number (const char **p, uint64_t *ret)
{
    uint64_t v = 0;
    const char *at = *p;
    for (; *at >= '0' && *at <= '9'; at++)
        v = v > (UINT64_MAX - 9) / 10 ? UINT64_MAX : v * 10 + (uint64_t) (*at - '0');
    if (at == *p)
        return false;
    *p = at;
    *ret = v;
    return true;
}

struct http_range http_range_parse (const char *text, uint64_t size)
{
    static const char unit[] = "bytes=";
    const struct http_range whole = { .kind = HTTP_RANGE_WHOLE, .end = size }, none = { .kind = HTTP_RANGE_NONE };
    if (!text || strncmp (text, unit, sizeof unit - 1) != 0)
        return whole;
    const char *p = text + sizeof unit - 1;
    uint64_t first = 0, last = UINT64_MAX;
    const bool has_first = number (&p, &first);
    if (*p++ != '-')
        return whole;
    const bool has_last = number (&p, &last);
    if (*p || (!has_first && !has_last) || (has_first && has_last && last < first))
        return whole;
    if (!has_first) {                   /* the last so many */
        if (!last || !size)
            return none;
        return (struct http_range) { .kind = HTTP_RANGE_PART, .first = last < size ? size - last : 0, .end = size };
    }
    if (first >= size)
        return none;
    return (struct http_range) { .kind = HTTP_RANGE_PART, .first = first, .end = last < size - 1 ? last + 1 : size };
}
