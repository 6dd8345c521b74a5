/* json_check: see json_check.h.
 *
 * A loop, not a recursion: `open` remembers which bracket each level was opened with. */

#include "json_check.h"

#include <stdbool.h>
#include <string.h>

struct json_scan {
    const char *start, *p, *end;
    const char *what; /* the fault, once there is one */
    char open[JSON_DEPTH_MAX];
    unsigned depth;
};

static bool fault (struct json_scan *s, const char *what)
{
    s->what = what;
    return false;
}

static char next (const struct json_scan *s)
{
    return s->p < s->end ? *s->p : 0; /* a NUL is allowed nowhere, so it can stand for the end */
}

static void skip_blanks (struct json_scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static bool is_digit (char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex (char c)
{
    return is_digit (c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool scan_string (struct json_scan *s)
{
    for (s->p++; s->p < s->end; s->p++) {
        if (*s->p == '"') {
            s->p++;
            return true;
        }
        if ((unsigned char) *s->p < 0x20)
            return fault (s, "a control character in a string; write it as \\n, \\t or \\u00XX");
        if (*s->p != '\\')
            continue;
        s->p++;
        if (next (s) == 'u') {
            for (int i = 0; i < 4; i++) {
                s->p++;
                if (!is_hex (next (s)))
                    return fault (s, "four hex digits belong behind \\u");
            }
        } else if (!next (s) || !strchr ("\"\\/bfnrt", next (s))) {
            return fault (s, "no such escape in a string");
        }
    }
    return fault (s, "the line ends within a string");
}

static bool scan_digits (struct json_scan *s)
{
    if (!is_digit (next (s)))
        return fault (s, "a digit belongs here");
    while (is_digit (next (s)))
        s->p++;
    return true;
}

static bool scan_number (struct json_scan *s)
{
    if (next (s) == '-')
        s->p++;
    if (next (s) == '0') {
        s->p++;
        if (is_digit (next (s)))
            return fault (s, "a number with a leading zero");
    } else if (!scan_digits (s)) {
        return false;
    }
    if (next (s) == '.') {
        s->p++;
        if (!scan_digits (s))
            return false;
    }
    if (next (s) == 'e' || next (s) == 'E') {
        s->p++;
        if (next (s) == '+' || next (s) == '-')
            s->p++;
        return scan_digits (s);
    }
    return true;
}

static bool scan_word (struct json_scan *s, const char *word)
{
    const size_t len = strlen (word);
    if ((size_t) (s->end - s->p) < len || memcmp (s->p, word, len) != 0)
        return fault (s, "no JSON value");
    s->p += len;
    return true;
}

/* `"name":` */
static bool scan_name (struct json_scan *s)
{
    skip_blanks (s);
    if (next (s) != '"')
        return fault (s, s->p == s->end ? "the line ends within an object" : "a name in double quotes belongs here");
    if (!scan_string (s))
        return false;
    skip_blanks (s);
    if (next (s) != ':')
        return fault (s, s->p == s->end ? "the line ends within an object" : "a colon belongs behind a name");
    s->p++;
    return true;
}

/* A value, or the beginning of one: then *ret_opened, and a first element or member follows. */
static bool scan_value (struct json_scan *s, bool *ret_opened)
{
    *ret_opened = false;
    skip_blanks (s);
    switch (next (s)) {
    case '{':
    case '[':
        if (s->depth == JSON_DEPTH_MAX)
            return fault (s, "nested deeper than 64");
        s->open[s->depth++] = *s->p++;
        *ret_opened = true;
        return true;
    case '"':
        return scan_string (s);
    case 't':
        return scan_word (s, "true");
    case 'f':
        return scan_word (s, "false");
    case 'n':
        return scan_word (s, "null");
    default:
        if (next (s) == '-' || is_digit (next (s)))
            return scan_number (s);
        return fault (s, s->p == s->end ? "the line ends where a value belongs" : "no JSON value");
    }
}

/* Behind a value: close what ends here, and stand before the next value. *ret_done: the outermost is closed. `first`:
 * nothing is in the bracket yet. */
static bool scan_between (struct json_scan *s, bool first, bool *ret_done)
{
    for (;; first = false) {
        *ret_done = s->depth == 0;
        if (*ret_done)
            return true;
        skip_blanks (s);
        const bool object = s->open[s->depth - 1] == '{';
        if (next (s) == (object ? '}' : ']')) {
            s->p++;
            s->depth--;
            continue;
        }
        if (!first) {
            if (next (s) != ',')
                return fault (s, s->p == s->end
                                     ? (object ? "the line ends within an object" : "the line ends within an array")
                                     : "a comma or a closing bracket belongs here");
            s->p++;
        }
        return !object || scan_name (s);
    }
}

static bool scan (struct json_scan *s)
{
    for (bool done = false, opened; !done;)
        if (!scan_value (s, &opened) || !scan_between (s, opened, &done))
            return false;
    skip_blanks (s);
    return s->p == s->end || fault (s, "something behind the JSON value");
}

int json_check (struct fm_slice text, char *ret_kind, size_t *ret_pos, const char **ret_what)
{
    struct json_scan s = { .start = text.data, .p = text.data, .end = (const char *) text.data + text.len };
    skip_blanks (&s);
    const char kind = next (&s);
    if (!scan (&s)) {
        *ret_pos = (size_t) (s.p - s.start);
        *ret_what = s.what;
        return FM_ERR_MALFORMED;
    }
    if (ret_kind)
        *ret_kind = kind;
    return 0;
}
