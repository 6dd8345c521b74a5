/* csv: see csv.h. */

#include "csv.h"

#include <stdbool.h>
#include <string.h>

#include "fm_types.h"

/* Unquote the field at *text in place. Returns what ended it: a comma, a newline, NUL; '"': a quote that does not end, or goes on. */
static char take_field (char **text, unsigned *line, char **ret_field)
{
    char *in = *text, *out = in;
    *ret_field = out;
    if (*in == '"') {
        bool open = true;
        for (in++; *in && open; in++) {
            if (*in == '"' && in[1] != '"') {
                open = false;
                continue;
            }
            in += *in == '"';               /* two stand for one */
            *line += *in == '\n';
            *out++ = *in;
        }
        in += !open && *in == '\r';
        if (open || (*in && *in != ',' && *in != '\n'))
            return '"';
    } else {
        in += strcspn (in, ",\n");
        out = in > *text && *in != ',' && in[-1] == '\r' ? in - 1 : in;
    }
    const char end = *in;
    *text = end ? in + 1 : in;
    *line += end == '\n';
    *out = '\0';
    return end;
}

int csv_next (char **text, unsigned *line, char **fields, size_t count)
{
    while (**text == '\n' || **text == '\r') {
        *line += **text == '\n';
        ++*text;
    }
    if (!**text)
        return FM_ERR_END;
    for (size_t i = 0; i < count; i++) {
        const char end = take_field (text, line, &fields[i]);
        if ((end == ',') != (i + 1 < count) || end == '"')
            return FM_ERR_MALFORMED;
    }
    return 0;
}
