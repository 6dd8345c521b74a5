#include "tool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void tool_lines (void)
{
    (void) setvbuf (stdout, NULL, _IOLBF, 0); /* at worst lines come late, and the script's time-out tells */
}

char *tool_id_text (const struct fm_id *id, char *text)
{
    for (size_t i = 0; i < sizeof id->bytes; i++)
        (void) snprintf (text + 2 * i, 3, "%02x", id->bytes[i]);
    return text;
}

int tool_id_parse (const char *text, struct fm_id *ret_id)
{
    struct fm_id id;

    if (strspn (text, "0123456789abcdef") != 2 * sizeof id.bytes || text[2 * sizeof id.bytes])
        return -EINVAL;
    for (size_t i = 0; i < sizeof id.bytes; i++) {
        const char digits[3] = { text[2 * i], text[2 * i + 1], 0 };
        id.bytes[i] = (uint8_t) strtoul (digits, NULL, 16);
    }
    *ret_id = id;
    return 0;
}

uint64_t tool_number (const char *option, const char *text)
{
    char *end;
    unsigned long long number;

    errno = 0;
    number = strtoull (text, &end, 10);
    if (errno || end == text || *end || *text == '-') {
        (void) fprintf (stderr, "--%s: not a number: %s\n", option, text);
        exit (2);
    }
    return number;
}

uint64_t tool_now_us (void)
{
    struct timespec t;

    (void) clock_gettime (CLOCK_MONOTONIC, &t); /* this clock always exists */
    return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

void tool_sleep_until_us (uint64_t at_us)
{
    const struct timespec t = { .tv_sec = (time_t) (at_us / 1000000), .tv_nsec = (long) (at_us % 1000000 * 1000) };

    while (clock_nanosleep (CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

bool tool_line_read (char *line, size_t size)
{
    if (!fgets (line, (int) size, stdin))
        return false;
    line[strcspn (line, "\n")] = 0;
    return true;
}
