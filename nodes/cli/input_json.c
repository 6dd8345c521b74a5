/* input_json: see input_json.h. */

#include "input_json.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "error.h"
#include "json_check.h"
#include "text.h"

struct json_lines {
    struct input *in;
    struct json_lines_options options;
    struct json_tokener *tokener;
    struct json_object *object; /* the last line's: key, identity and level point into it */
};

int json_lines_new (struct input *in, const struct json_lines_options *options, struct json_lines **ret_json)
{
    struct json_lines *json = calloc (1, sizeof *json);
    if (!json)
        return -ENOMEM;
    json->tokener = json_tokener_new_ex (JSON_DEPTH_MAX + 1);
    if (!json->tokener) {
        free (json);
        return -ENOMEM;
    }
    json->in = in;
    json->options = *options;
    *ret_json = json;
    return 0;
}

void json_lines_destroy (struct json_lines **json_p)
{
    struct json_lines *json = *json_p;
    if (!json)
        return;
    json_object_put (json->object);
    json_tokener_free (json->tokener);
    free (json);
    *json_p = NULL;
}

static bool json_lines_is_blank (struct fm_slice line)
{
    const char *const p = line.data;
    for (size_t i = 0; i < line.len; i++)
        if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r')
            return false;
    return true;
}

/* Is the line a JSON object? */
static int json_lines_check (const struct json_lines *json, const struct input_record *record)
{
    const char *const file = input_name (json->in);
    const unsigned long long line = record->line;
    size_t fault = 0;
    const char *what;
    char kind;
    if (!text_is_utf8 (record->payload, &fault))
        return error_set (FM_ERR_MALFORMED, "%s:%llu: byte %zu is not UTF-8, as JSON must be", file, line, fault + 1);
    if (json_check (record->payload, &kind, &fault, &what) < 0)
        return error_set (FM_ERR_MALFORMED, "%s:%llu: byte %zu: %s; each line must hold one whole JSON object", file,
                          line, fault + 1, what);
    if (kind != '{')
        return error_set (FM_ERR_MALFORMED, "%s:%llu: a JSON value that is no object; each line must hold one", file,
                          line);
    return 0;
}

/* Parse a line that has been checked into json->object: only when members of it are wanted. */
static int json_lines_parse (struct json_lines *json, const struct input_record *record)
{
    const unsigned long long line = record->line;
    assert (record->payload.len <= INT_MAX);            /* no input takes as much: input_options.record_max */
    json_object_put (json->object);
    json_tokener_reset (json->tokener);
    json->object = json_tokener_parse_ex (json->tokener, record->payload.data, (int) record->payload.len);
    const enum json_tokener_error error = json_tokener_get_error (json->tokener);
    if (error == json_tokener_success)
        return 0;
    return error_set (FM_ERR_MALFORMED, "%s:%llu: byte %zu: %s", input_name (json->in), line,
                      json_tokener_get_parse_end (json->tokener) + 1, json_tokener_error_desc (error));
}

/* A member as text: strings and numbers as they are. */
static int json_lines_member (const struct json_lines *json, const char *name, uint64_t line,
                              struct fm_slice *ret_value)
{
    struct json_object *member = NULL;
    if (!name)
        return 0;
    if (!json_object_object_get_ex (json->object, name, &member))
        return error_set (FM_ERR_MALFORMED, "%s:%llu: no member '%s'", input_name (json->in), (unsigned long long) line,
                          name);
    const enum json_type type = json_object_get_type (member);
    if (type != json_type_string && type != json_type_int && type != json_type_double && type != json_type_boolean)
        return error_set (FM_ERR_MALFORMED, "%s:%llu: member '%s' is %s, not a string or a number",
                          input_name (json->in), (unsigned long long) line, name,
                          type == json_type_null ? "null" : json_type_to_name (type));
    const char *const text = json_object_get_string (member);
    if (!text)
        return error_set (-ENOMEM, "%s:%llu: no memory", input_name (json->in), (unsigned long long) line);
    *ret_value = slice (text, type == json_type_string ? (size_t) json_object_get_string_len (member) : strlen (text));
    return 0;
}

int json_lines_next (struct json_lines *json, struct input_record *ret_record)
{
    struct input_record record;
    int rc;
    do {
        rc = input_line (json->in, '\n', &record);
    } while (rc == 0 && json_lines_is_blank (record.payload));
    if (rc < 0)
        return rc;
    rc = json_lines_check (json, &record);
    if (rc == 0 && (json->options.key || json->options.identity || json->options.level))
        rc = json_lines_parse (json, &record);
    if (rc == 0)
        rc = json_lines_member (json, json->options.key, record.line, &record.key);
    if (rc == 0)
        rc = json_lines_member (json, json->options.identity, record.line, &record.identity);
    if (rc == 0)
        rc = json_lines_member (json, json->options.level, record.line, &record.level);
    if (rc == 0)
        *ret_record = record;
    return rc;
}
