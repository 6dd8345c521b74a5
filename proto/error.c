#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { DETAIL_MAX = 512 };

static _Thread_local char detail[DETAIL_MAX];

int error_note (const char *format, ...)
{
    /* The text may quote the detail that was set before: build the new one beside it. */
    char text[DETAIL_MAX];
    const int saved_errno = errno;
    va_list args;
    va_start (args, format);
    const int len = vsnprintf (text, sizeof text, format, args);
    va_end (args);
    if (len < 0)
        text[0] = 0;
    memcpy (detail, text, sizeof text);
    errno = saved_errno;
    return 0;
}

const char *fm_error_text (int code)
{
    switch (code) {
    case 0:
        return "success";
#define TEXT(name, number, text)                                                                                       \
    case name:                                                                                                         \
        return text;
        FM_ERRORS (TEXT)
#undef TEXT
    default:
        break;
    }
    if (code > -4096) {
        const char *text = strerrordesc_np (code < 0 ? -code : code);
        if (text)
            return text;
    }
    return "unknown error";
}

const char *fm_error_detail (void)
{
    return detail;
}
