/* format_options: see format_options.h. */

#include "format_options.h"

#include <errno.h>
#include <stdio.h>

#include "id.h"

static int set_format (const struct cli *cli, struct output_options *o, enum output_format format)
{
    if (o->format != OUTPUT_PAYLOAD && o->format != format)
        return cli_usage (cli, "--long, --json, --raw, --null and --format exclude each other");
    o->format = format;
    return -1;
}

int format_option (const struct cli *cli, struct output_options *o, int option, const char *value)
{
    switch (option) {
    case 'v':
        return set_format (cli, o, OUTPUT_LONG);
    case OPT_OUT_JSON:
        return set_format (cli, o, OUTPUT_JSON);
    case OPT_OUT_RAW:
        return set_format (cli, o, OUTPUT_RAW);
    case OPT_OUT_NULL:
        return set_format (cli, o, OUTPUT_NULL);
    case OPT_OUT_FORMAT:
        o->custom = value;
        return set_format (cli, o, OUTPUT_CUSTOM);
    default:
        return -2;
    }
}

/* What a reason means, for people. */
static const char *gap_meaning (enum fm_gap_reason reason)
{
    switch (reason) {
    case FM_GAP_EXPIRED:
        return "deleted by the journal's retention";
    case FM_GAP_DAMAGED:
        return "damaged on the journal's disk";
    case FM_GAP_VOID:
        return "skipped when their publisher restarted, or lost with it before any journal had them";
    case FM_GAP_REDACTED:
        return "taken out on purpose";
    case FM_GAP_NOT_HELD:
        return "no journal has them";
    case FM_GAP_UNKNOWN:
        break;
    }
    return "for a reason that this version does not know";
}

int format_gap (const struct cli *cli, struct output *out, const struct fm_gap *gap)
{
    if (output_format (out) == OUTPUT_JSON)
        return output_gap_json (out, gap);
    const int rc = output_flush (out);
    if (rc < 0)
        return rc;
    const unsigned long long first = gap->first, end = gap->end;
    const char *const reason = output_gap_reason (gap->reason), *const meaning = gap_meaning (gap->reason);
    char stream[ID_TEXT_LEN + 1];
    if (id_is_zero (&gap->stream))
        cli_say (cli, "gap: offsets %llu to %llu (%llu) are missing: %s: %s", first, end - 1, end - first, reason,
                 meaning);
    else
        cli_say (cli, "gap: stream %s, sequences %llu to %llu (%llu) are missing: %s: %s",
                 id_text (&gap->stream, stream), first, end - 1, end - first, reason, meaning);
    return 0;
}

int format_output_failed (const struct cli *cli, int code)
{
    if (code == -EPIPE)
        return CLI_OK;
    if (code == FM_INTERRUPTED && cli_is_signalled ())
        return CLI_SIGNAL + cli_signalled ();
    return cli_error (cli, "%s", fm_error_detail ());
}
