/* What the command reads: lines, CSV, NDJSON. The first byte chooses. A record's payload lies in memory that is ours, what CSV makes is JSON by
 * the letter, and what json_check accepts json-c does too. */

#include "fuzz.h"

#include <json-c/json.h>

#include "../../nodes/cli/input.h"
#include "../../nodes/cli/input_csv.h"
#include "../../nodes/cli/input_json.h"
#include "../../nodes/cli/json_check.h"
#include "../../nodes/cli/text.h"

static void check_json (struct fm_slice text, bool wanted)
{
    char kind;
    size_t pos = 0;
    const char *what;
    assert (text_is_utf8 (text, NULL) || !wanted);
    if (!text_is_utf8 (text, NULL))
        return;
    const int rc = json_check (text, &kind, &pos, &what);
    assert (rc == 0 || (!wanted && pos <= text.len));
    if (rc != 0 || text.len > 1 << 20)
        return;
    struct json_tokener *tokener = json_tokener_new_ex (JSON_DEPTH_MAX + 2);
    json_tokener_set_flags (tokener, JSON_TOKENER_VALIDATE_UTF8);
    char *copy = malloc (text.len + 1);         /* json-c wants the NUL to know that a number has ended */
    memcpy (copy, text.data, text.len);
    copy[text.len] = 0;
    struct json_object *object = json_tokener_parse_ex (tokener, copy, (int) text.len + 1);
    assert (json_tokener_get_error (tokener) == json_tokener_success);
    (void) json_object_put (object);
    json_tokener_free (tokener);
    free (copy);
}

static void use (const struct input_record *r)
{
    static volatile uint8_t sum;
    const struct fm_slice all[] = { r->payload, r->key, r->level };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        for (size_t at = 0; at < all[i].len; at++)
            sum = (uint8_t) (sum + ((const uint8_t *) all[i].data)[at]);
    }
}

/* As JSON and back: what the command prints is JSON for any bytes. */
static void put_as_json (struct fm_slice bytes)
{
    struct text t = { 0 };
    text_put_byte (&t, '{');
    text_put_json_member (&t, "x", bytes);
    text_put_byte (&t, '}');
    assert (!t.failed);
    check_json (slice (t.data, t.len), true);
    text_release (&t);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const struct input_options options = { .record_max = 4096, .wake_fd = -1, .idle_ms = 0 };
    const uint8_t mode = data[0];
    char path[64];
    (void) fuzz_file (data + 1, size - 1, path);
    struct input *in = NULL;
    if (input_open (path, &options, &in) != 0)
        abort ();
    struct input_record r;
    struct csv *csv = NULL;
    struct json_lines *json = NULL;
    const struct csv_options csv_options = { .delimiter = mode & 4 ? ';' : 0, .raw = mode & 8, .key = mode & 16 ? "k" : NULL,
                                             .level = mode & 32 ? "l" : NULL };
    const struct json_lines_options json_options = { .key = mode & 16 ? "k" : NULL, .level = mode & 32 ? "l" : NULL };
    size_t n = 0;
    switch (mode & 3) {
    case 0:
        for (; input_line (in, mode & 4 ? 0 : '\n', &r) == 0; n++)
            use (&r);
        break;
    case 1:
        if (csv_new (in, &csv_options, &csv) == 0) {
            for (; csv_next (csv, &r) == 0; n++) {
                use (&r);
                if (!csv_options.raw)
                    check_json (r.payload, true);
            }
        }
        break;
    case 2:
        if (json_lines_new (in, &json_options, &json) == 0) {
            for (; json_lines_next (json, &r) == 0; n++) {
                use (&r);
                check_json (r.payload, true);
            }
        }
        break;
    default:
        if (input_whole (in, &r) == 0) {
            use (&r);
            put_as_json (r.payload);
            check_json (r.payload, false);
        }
    }
    assert (n <= size);
    csv_destroy (&csv);
    json_lines_destroy (&json);
    input_destroy (&in);
    return 0;
}
