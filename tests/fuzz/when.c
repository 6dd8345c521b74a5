/* --from, --until and durations, as people type them; and times written out read back as the same. */

#include "fuzz.h"

#include "../../nodes/cli/when.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    uint8_t now_bytes[8];
    fuzz_take (&in, now_bytes, sizeof now_bytes);
    const uint64_t now_ns = bytes_get_u64le (now_bytes) / 2;       /* the clock stands before the year 2262 */
    char *text = malloc (in.left + 1), formatted[WHEN_TEXT];
    fuzz_take (&in, text, in.left);
    text[size > 8 ? size - 8 : 0] = 0;
    struct when when;
    uint64_t ns, again;
    (void) when_is_known (text);
    if (when_parse (text, now_ns, &when) == 0) {
        assert (when_is_known (text));
        if (when.kind == WHEN_CURSOR)
            assert (when.name >= text && when.name <= text + strlen (text));
    }
    (void) when_duration (text, &ns);
    if (when_time (text, now_ns, &ns) == 0)
        assert (when_time (when_format (ns, formatted), now_ns, &again) == 0 && again == ns);
    free (text);
    return 0;
}
