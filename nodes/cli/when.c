/* when: see when.h. */

#include "when.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "error.h"

#define NS 1000000000u

/* Read digits as a number; NULL when there is none or it does not fit. */
static const char *take_number (const char *p, uint64_t *ret_v)
{
    uint64_t v = 0;
    const char *const first = p;
    for (; *p >= '0' && *p <= '9'; p++) {
        const unsigned digit = (unsigned) (*p - '0');
        if (v > (UINT64_MAX - digit) / 10)
            return NULL;
        v = v * 10 + digit;
    }
    if (p == first)
        return NULL;
    *ret_v = v;
    return p;
}

/* Exactly `count` digits. */
static const char *take_digits (const char *p, unsigned count, int *ret_v)
{
    int v = 0;
    for (unsigned i = 0; i < count; i++, p++) {
        if (*p < '0' || *p > '9')
            return NULL;
        v = v * 10 + (*p - '0');
    }
    *ret_v = v;
    return p;
}

/* The digits behind a point, as ns; what is finer is cut. */
static const char *take_fraction (const char *p, uint64_t *ret_ns)
{
    uint64_t ns = 0, unit = NS / 10;
    const char *const first = p;
    for (; *p >= '0' && *p <= '9'; p++) {
        ns += (uint64_t) (*p - '0') * unit;
        unit /= 10;
    }
    if (p == first)
        return NULL;
    *ret_ns = ns;
    return p;
}

static const char *take_unit (const char *p, uint64_t *ret_ns)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {
        { "ns", 1 },         { "us", 1000 },        { "ms", 1000000 },      { "s", NS },
        { "m", 60ull * NS }, { "h", 3600ull * NS }, { "d", 86400ull * NS }, { "w", 7 * 86400ull * NS },
    };
    size_t len = 0;
    while (isalpha ((unsigned char) p[len]))
        len++;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (len == strlen (units[i].name) && memcmp (p, units[i].name, len) == 0) {
            *ret_ns = units[i].ns;
            return p + len;
        }
    return NULL;
}

int when_duration (const char *text, uint64_t *ret_ns)
{
    static const char what[] = "'%s': not a length of time; write 30s, 250ms, 1h30m or 30d";
    uint64_t total = 0;
    const char *p = text;
    do {
        uint64_t whole, fraction = 0, unit = NS;
        p = take_number (p, &whole);
        if (p && *p == '.')
            p = take_fraction (p + 1, &fraction);
        if (!p)
            return error_set (FM_ERR_ARGUMENT, what, text);
        if (*p || total) {
            p = take_unit (p, &unit);
            if (!p)
                return error_set (FM_ERR_ARGUMENT, what, text);
        }
        /* fraction is of NS; weigh it by the unit without overflow. */
        const uint64_t part = unit >= NS ? fraction * (unit / NS) : fraction / (NS / unit);
        uint64_t product;
        if (__builtin_mul_overflow (whole, unit, &product) || __builtin_add_overflow (total, product, &total) ||
            __builtin_add_overflow (total, part, &total))
            return error_set (FM_ERR_ARGUMENT, "'%s': longer than 584 years", text);
    } while (*p);
    *ret_ns = total;
    return 0;
}

struct stamp {
    struct tm tm;
    uint64_t fraction_ns;
    bool zoned;
    int east_s; /* seconds east of UTC, when zoned */
};

static const char *take_zone (const char *p, struct stamp *s)
{
    if (*p == 'Z' || *p == 'z') {
        s->zoned = true;
        return p + 1;
    }
    if (*p != '+' && *p != '-')
        return p;
    const int sign = *p == '-' ? -1 : 1;
    int hours, minutes = 0;
    p = take_digits (p + 1, 2, &hours);
    if (p && *p == ':')
        p++;
    if (p && *p)
        p = take_digits (p, 2, &minutes);
    if (!p || hours > 23 || minutes > 59)
        return NULL;
    s->zoned = true;
    s->east_s = sign * (hours * 3600 + minutes * 60);
    return p;
}

/* YYYY-MM-DD[(T| )HH:MM[:SS[.fraction]]][zone] */
static const char *take_stamp (const char *p, struct stamp *s)
{
    p = take_digits (p, 4, &s->tm.tm_year);
    if (!p || *p != '-' || !(p = take_digits (p + 1, 2, &s->tm.tm_mon)))
        return NULL;
    if (*p != '-' || !(p = take_digits (p + 1, 2, &s->tm.tm_mday)))
        return NULL;
    if (*p == 'T' || *p == 't' || *p == ' ') {
        p = take_digits (p + 1, 2, &s->tm.tm_hour);
        if (!p || *p != ':' || !(p = take_digits (p + 1, 2, &s->tm.tm_min)))
            return NULL;
        if (*p == ':' && !(p = take_digits (p + 1, 2, &s->tm.tm_sec)))
            return NULL;
        if (*p == '.' && !(p = take_fraction (p + 1, &s->fraction_ns)))
            return NULL;
    }
    return take_zone (p, s);
}

static bool stamp_is_a_date (const struct stamp *s)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    const int year = s->tm.tm_year, month = s->tm.tm_mon;
    if (month < 1 || month > 12 || s->tm.tm_hour > 23 || s->tm.tm_min > 59 || s->tm.tm_sec > 60)
        return false;
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return s->tm.tm_mday >= 1 && s->tm.tm_mday <= days[month - 1] + (month == 2 && leap ? 1 : 0);
}

static int stamp_to_ns (const char *text, struct stamp s, uint64_t *ret_ns)
{
    if (!stamp_is_a_date (&s))
        return error_set (FM_ERR_ARGUMENT, "'%s': there is no such date and time", text);
    s.tm.tm_year -= 1900;
    s.tm.tm_mon -= 1;
    s.tm.tm_isdst = -1;
    const time_t t = s.zoned ? timegm (&s.tm) - s.east_s : mktime (&s.tm);
    /* In nanoseconds 64 bits reach to the year 2554. */
    if (t < 0 || (uint64_t) t > UINT64_MAX / NS - 1)
        return error_set (FM_ERR_ARGUMENT, "'%s': not between 1970 and 2554", text);
    *ret_ns = (uint64_t) t * NS + s.fraction_ns;
    return 0;
}

int when_time (const char *text, uint64_t now_ns, uint64_t *ret_ns)
{
    if (strcmp (text, "now") == 0) {
        *ret_ns = now_ns;
        return 0;
    }
    if (*text == '-') {
        uint64_t ago;
        const int rc = when_duration (text + 1, &ago);
        if (rc < 0)
            return rc;
        *ret_ns = ago < now_ns ? now_ns - ago : 0;
        return 0;
    }
    uint64_t seconds, fraction = 0;
    const char *p = take_number (text, &seconds);
    if (p && *p == '.')
        p = take_fraction (p + 1, &fraction);
    if (p && !*p) {
        if (seconds > UINT64_MAX / NS - 1)
            return error_set (FM_ERR_ARGUMENT, "'%s': Unix time is in seconds here", text);
        *ret_ns = seconds * NS + fraction;
        return 0;
    }
    struct stamp s = { 0 };
    p = take_stamp (text, &s);
    if (!p || *p)
        return error_set (FM_ERR_ARGUMENT,
                          "'%s': not a time; write 2026-11-01T10:00, with Z or +01:00 behind it, Unix seconds, or -1h",
                          text);
    return stamp_to_ns (text, s, ret_ns);
}

bool when_is_known (const char *text)
{
    return strcmp (text, "start") == 0 || strcmp (text, "end") == 0 || strcmp (text, "latest") == 0 || *text == '@' || *text == '-' ||
           strncmp (text, "cursor:", 7) == 0 || strncmp (text, "offset:", 7) == 0;
}

/* "@TIME", quoted as it was given when it is none. */
static int parse_at (const char *text, uint64_t now_ns, uint64_t *ret_ns)
{
    const int rc = when_time (text + 1, now_ns, ret_ns);
    if (rc == 0)
        return 0;
    /* The detail is 'QUOTED': REASON; it quotes what it was given. */
    char reason[256];
    const char *const detail = fm_error_detail ();
    const size_t quoted = strlen (text) - (text[1] == '-' ? 2 : 1) + 4;
    if (strncmp (detail + (strlen (detail) > quoted ? quoted : 0), "not a", 5) == 0)
        return error_set (rc,
                          "'%s': not a time; write @2026-11-01T10:00, with Z or +01:00 behind it, @ and Unix seconds, "
                          "or @-1h",
                          text);
    (void) snprintf (reason, sizeof reason, "%s", strlen (detail) > quoted ? detail + quoted : "not a time");
    return error_set (rc, "'%s': %s", text, reason);
}

int when_parse (const char *text, uint64_t now_ns, struct when *ret_when)
{
    struct when w = { 0 };
    const char *p;
    if (strcmp (text, "start") == 0) {
        w.kind = WHEN_START;
    } else if (strcmp (text, "end") == 0) {
        w.kind = WHEN_END;
    } else if (strcmp (text, "latest") == 0) {
        w.kind = WHEN_LATEST;
    } else if (*text == '@') {
        w.kind = WHEN_TIME;
        const int rc = parse_at (text, now_ns, &w.value);
        if (rc < 0)
            return rc;
    } else if (*text == '-') {
        w.kind = WHEN_LAST;
        p = take_number (text + 1, &w.value);
        if (!p || *p || w.value == 0)
            return error_set (FM_ERR_ARGUMENT, "'%s': write -100 for the last 100 facts, @-1h for the last hour", text);
    } else if (strncmp (text, "cursor:", 7) == 0 && text[7]) {
        w.kind = WHEN_CURSOR;
        w.name = text + 7;
    } else if (strncmp (text, "offset:", 7) == 0) {
        w.kind = WHEN_OFFSET;
        p = take_number (text + 7, &w.value);
        if (!p || *p)
            return error_set (FM_ERR_ARGUMENT, "'%s': no number behind offset:", text);
        if (w.value == 0)
            return error_set (FM_ERR_ARGUMENT, "'%s': a journal's first offset is 1", text);
    } else {
        return error_set (FM_ERR_ARGUMENT,
                          "'%s': write start, end, latest, -100, @2026-11-01T10:00, @-1h, cursor:NAME or offset:N", text);
    }
    *ret_when = w;
    return 0;
}

static char *put_digits (char *p, uint64_t v, unsigned count)
{
    for (unsigned i = count; i--; v /= 10)
        p[i] = (char) ('0' + v % 10);
    return p + count;
}

char *when_format (uint64_t unix_ns, char text[WHEN_TEXT])
{
    /* Days to a civil date: H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days, for days >= 0.
     */
    const uint64_t seconds = unix_ns / NS;
    const uint64_t z = seconds / 86400 + 719468;
    const uint64_t era = z / 146097, doe = z % 146097;
    const uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    const uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    const uint64_t mp = (5 * doy + 2) / 153;
    const uint64_t month = mp < 10 ? mp + 3 : mp - 9;
    const uint64_t year = yoe + era * 400 + (month <= 2 ? 1 : 0);

    char *p = put_digits (text, year, 4);
    *p++ = '-';
    p = put_digits (p, month, 2);
    *p++ = '-';
    p = put_digits (p, doy - (153 * mp + 2) / 5 + 1, 2);
    *p++ = 'T';
    p = put_digits (p, seconds % 86400 / 3600, 2);
    *p++ = ':';
    p = put_digits (p, seconds % 3600 / 60, 2);
    *p++ = ':';
    p = put_digits (p, seconds % 60, 2);
    *p++ = '.';
    p = put_digits (p, unix_ns % NS, 9);
    *p++ = 'Z';
    *p = 0;
    return text;
}
