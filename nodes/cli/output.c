/* output: see output.h. */

#include "output.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "id.h"
#include "text.h"
#include "when.h"

enum {
    OUTPUT_FLUSH_AT = 128 * 1024, /* bytes gathered for one write(2) */
    OUTPUT_DIRECTIVES_MAX = 256
};

/* A piece of a custom format: literal bytes, then a directive (0: none). */
struct directive {
    size_t literal_end; /* in output.literals */
    char letter;
};

struct output {
    struct output_options options;
    struct text text;
    size_t written; /* of text */
    struct text literals;
    struct directive directives[OUTPUT_DIRECTIVES_MAX];
    size_t directive_count;
    /* The last stream's id and second's text: most facts share them with the one before. */
    struct fm_id stream;
    char stream_text[ID_TEXT_LEN + 1];
    bool is_duplicate; /* of `first`: the fact that is put next */
    struct fm_fact_id first;
};

static const char directive_letters[] = "ptkyciSsTNCADho";

static int custom_add (struct output *o, char letter)
{
    if (o->directive_count == OUTPUT_DIRECTIVES_MAX)
        return error_set (FM_ERR_ARGUMENT, "--format: more than %d directives", OUTPUT_DIRECTIVES_MAX);
    o->directives[o->directive_count++] = (struct directive){ .literal_end = o->literals.len, .letter = letter };
    return 0;
}

static int custom_escape (struct output *o, char c)
{
    static const char from[] = "nt0r\\", to[] = "\n\t\0\r\\";
    const char *found = c ? strchr (from, c) : NULL;
    if (!found)
        return error_set (FM_ERR_ARGUMENT, "--format: no escape '\\%c'; there are \\n \\t \\r \\0 \\\\", c ? c : ' ');
    text_put_byte (&o->literals, (uint8_t) to[found - from]);
    return 0;
}

static int custom_compile (struct output *o, const char *format)
{
    int rc = 0;
    for (const char *p = format; rc == 0 && *p; p++) {
        if (*p == '\\') {
            rc = custom_escape (o, *++p);
        } else if (*p != '%') {
            text_put_byte (&o->literals, (uint8_t) *p);
        } else if (*++p == '%') {
            text_put_byte (&o->literals, '%');
        } else if (*p == 'o' && !o->options.offsets) {
            rc = error_set (FM_ERR_ARGUMENT, "--format: %%o, a fact's offset, is for factmesh dump: journals don't send it");
        } else if (*p && strchr (directive_letters, *p)) {
            rc = custom_add (o, *p);
        } else {
            rc = error_set (FM_ERR_ARGUMENT, "--format: no directive '%%%c'; there are %%%.*s", *p ? *p : ' ',
                            (int) strlen (directive_letters) - !o->options.offsets, directive_letters);
        }
    }
    if (rc == 0)
        rc = custom_add (o, 0);
    return rc == 0 && o->literals.failed ? -ENOMEM : rc;
}

int output_new (const struct output_options *options, struct output **ret_output)
{
    struct output *o = calloc (1, sizeof *o);
    if (!o)
        return -ENOMEM;
    o->options = *options;
    id_text (&o->stream, o->stream_text);
    int rc = options->format == OUTPUT_CUSTOM ? custom_compile (o, options->custom) : 0;
    if (rc == 0 && !text_reserve (&o->text, 2 * OUTPUT_FLUSH_AT))
        rc = -ENOMEM;
    if (rc < 0) {
        output_destroy (&o);
        return rc;
    }
    *ret_output = o;
    return 0;
}

void output_destroy (struct output **output)
{
    struct output *o = *output;
    if (!o)
        return;
    text_release (&o->text);
    text_release (&o->literals);
    free (o);
    *output = NULL;
}

enum output_format output_format (const struct output *o)
{
    return o->options.format;
}

/* --- Fields. */

static void put_stream (struct output *o, const struct fm_id *stream)
{
    if (!id_equal (stream, &o->stream)) {
        o->stream = *stream;
        id_text (stream, o->stream_text);
    }
    text_put (&o->text, slice (o->stream_text, ID_TEXT_LEN));
}

static void put_id (struct output *o, const struct fm_fact_id *id)
{
    put_stream (o, &id->stream);
    text_put_byte (&o->text, ':');
    text_put_u64 (&o->text, id->seq);
}

/* For facts that others name: does not disturb the remembered stream. */
static void put_other_id (struct output *o, const struct fm_fact_id *id)
{
    char text[FM_FACT_ID_TEXT];
    text_put_cstr (&o->text, fm_fact_id_text (id, text, sizeof text));
}

static void put_time (struct output *o, uint64_t ns)
{
    char text[WHEN_TEXT];
    text_put (&o->text, slice (when_format (ns, text), WHEN_TEXT - 1));
}

static void put_headers (struct output *o, struct fm_slice headers)
{
    size_t pos = 0;
    struct fm_slice name, value;
    for (bool first = true; fm_header_next (headers, &pos, &name, &value) == 0; first = false) {
        if (!first)
            text_put_byte (&o->text, ',');
        text_put (&o->text, name);
        text_put_byte (&o->text, '=');
        text_put (&o->text, value);
    }
}

/* A field of a line: control bytes, and what would end the field, escaped. Most fields have none of these. */
static void put_field (struct output *o, struct fm_slice s, bool spaces)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *const p = s.data;
    size_t from = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (p[i] > ' ' && p[i] != 0x7F && p[i] != '\\')
            continue;
        if (p[i] == ' ' && spaces)
            continue;
        text_put (&o->text, slice (p + from, i - from));
        from = i + 1;
        text_put_byte (&o->text, '\\');
        if (p[i] == '\\' || p[i] == '\n' || p[i] == '\t') {
            text_put_byte (&o->text, p[i] == '\n' ? 'n' : p[i] == '\t' ? 't' : '\\');
            continue;
        }
        text_put_byte (&o->text, 'x');
        text_put_byte (&o->text, (uint8_t) hex[p[i] >> 4]);
        text_put_byte (&o->text, (uint8_t) hex[p[i] & 15]);
    }
    if (from < s.len)
        text_put (&o->text, slice (p + from, s.len - from));
}

static void put_or_dash (struct output *o, struct fm_slice s)
{
    if (s.len == 0)
        text_put_byte (&o->text, '-');
    else if (slice_equal (s, slice_of ("-")))
        text_put_cstr (&o->text, "\\x2d");
    else
        put_field (o, s, false);
}

static void put_long (struct output *o, const struct fm_fact *f, uint64_t offset)
{
    struct text *const t = &o->text;
    if (o->options.offsets) {
        text_put_u64 (t, offset);
        text_put_byte (t, ' ');
    }
    put_time (o, f->time_ns);
    text_put_byte (t, ' ');
    put_field (o, f->topic, false);
    text_put_byte (t, ' ');
    put_or_dash (o, f->key);
    text_put_byte (t, ' ');
    put_or_dash (o, f->type);
    text_put_byte (t, ' ');
    put_id (o, &f->id);
    if (o->is_duplicate) {
        text_put_byte (t, '=');
        put_other_id (o, &o->first);
    }
    text_put_byte (t, ' ');
    put_field (o, f->payload, true);
    text_put_byte (t, '\n');
}

static void put_json_bytes (struct output *o, const char *name, struct fm_slice bytes)
{
    if (!bytes.len)
        return;
    text_put_byte (&o->text, ',');
    text_put_json_member (&o->text, name, bytes);
}

static void put_json_id (struct output *o, const char *name, const struct fm_fact_id *id)
{
    if (id_is_zero (&id->stream))
        return;
    char text[FM_FACT_ID_TEXT];
    put_json_bytes (o, name, slice_of (fm_fact_id_text (id, text, sizeof text)));
}

static void put_json_headers (struct output *o, struct fm_slice headers)
{
    /* An array of pairs: a header may come twice, and a name may be any bytes. */
    size_t pos = 0;
    struct fm_slice name, value;
    bool any = false;
    while (fm_header_next (headers, &pos, &name, &value) == 0) {
        text_put_cstr (&o->text, any ? ",{" : ",\"headers\":[{");
        text_put_json_member (&o->text, "name", name);
        text_put_byte (&o->text, ',');
        text_put_json_member (&o->text, "value", value);
        text_put_byte (&o->text, '}');
        any = true;
    }
    if (any)
        text_put_byte (&o->text, ']');
}

static void put_json (struct output *o, const struct fm_fact *f, uint64_t offset)
{
    struct text *const t = &o->text;
    text_put_byte (t, '{');
    if (o->options.offsets) {
        text_put_cstr (t, "\"offset\":");
        text_put_u64 (t, offset);
        text_put_byte (t, ',');
    }
    text_put_json_member (t, "topic", f->topic);
    text_put_cstr (t, ",\"stream\":\"");
    put_stream (o, &f->id.stream);
    text_put_cstr (t, "\",\"seq\":");
    text_put_u64 (t, f->id.seq);
    text_put_cstr (t, ",\"time\":\"");
    put_time (o, f->time_ns);
    text_put_byte (t, '"');
    put_json_bytes (o, "key", f->key);
    put_json_bytes (o, "type", f->type);
    put_json_bytes (o, "content_type", f->content_type);
    put_json_bytes (o, "schema", f->schema);
    put_json_bytes (o, "correlation", f->correlation);
    put_json_bytes (o, "identity", f->identity);
    put_json_id (o, "causation", &f->causation);
    put_json_id (o, "corrects", &f->corrects);
    if (o->is_duplicate)
        put_json_id (o, "duplicate_of", &o->first);
    if (f->expires_ns) {
        text_put_cstr (t, ",\"expires\":\"");
        put_time (o, f->expires_ns);
        text_put_byte (t, '"');
    }
    if (f->flags & FM_TOMBSTONE)
        text_put_cstr (t, ",\"tombstone\":true");
    put_json_headers (o, f->headers);
    if (f->blob.len) {
        text_put_cstr (t, ",\"blob_base64\":\"");
        text_put_base64 (t, f->blob);
        text_put_byte (t, '"');
    }
    text_put_byte (t, ',');
    text_put_json_member (t, "payload", f->payload);
    text_put_cstr (t, "}\n");
}

static void put_directive (struct output *o, char letter, const struct fm_fact *f, uint64_t offset)
{
    struct text *const t = &o->text;
    switch (letter) {
    case 'p':
        text_put (t, f->payload);
        break;
    case 't':
        text_put (t, f->topic);
        break;
    case 'k':
        text_put (t, f->key);
        break;
    case 'y':
        text_put (t, f->type);
        break;
    case 'c':
        text_put (t, f->content_type);
        break;
    case 'i':
        put_id (o, &f->id);
        break;
    case 'S':
        put_stream (o, &f->id.stream);
        break;
    case 's':
        text_put_u64 (t, f->id.seq);
        break;
    case 'T':
        put_time (o, f->time_ns);
        break;
    case 'N':
        text_put_u64 (t, f->time_ns);
        break;
    case 'C':
        text_put (t, f->correlation);
        break;
    case 'A':
        if (!id_is_zero (&f->causation.stream))
            put_other_id (o, &f->causation);
        break;
    case 'o':
        text_put_u64 (t, offset);
        break;
    case 'h':
        put_headers (o, f->headers);
        break;
    case 'D':
        if (o->is_duplicate)
            put_other_id (o, &o->first);
        break;
    default:
        break;
    }
}

static void put_custom (struct output *o, const struct fm_fact *f, uint64_t offset)
{
    size_t from = 0;
    for (size_t i = 0; i < o->directive_count; i++) {
        const struct directive *d = &o->directives[i];
        text_put (&o->text, slice (o->literals.data + from, d->literal_end - from));
        from = d->literal_end;
        put_directive (o, d->letter, f, offset);
    }
}

/* --- Records, and the descriptor. */

/* A record is complete: pass on what has gathered once it is worth a system call. */
static int output_record_end (struct output *o)
{
    if (o->text.failed)
        return error_set (-ENOMEM, "no memory to write a fact of %zu bytes", o->text.len);
    return o->text.len - o->written < OUTPUT_FLUSH_AT ? 0 : output_flush (o);
}

void output_duplicate (struct output *o, const struct fm_fact_id *first)
{
    o->is_duplicate = first != NULL;
    if (first)
        o->first = *first;
}

int output_fact (struct output *o, const struct fm_fact *fact, uint64_t offset)
{
    switch (o->options.format) {
    case OUTPUT_PAYLOAD:
        text_put (&o->text, fact->payload);
        text_put_byte (&o->text, '\n');
        break;
    case OUTPUT_NULL:
        text_put (&o->text, fact->payload);
        text_put_byte (&o->text, 0);
        break;
    case OUTPUT_RAW:
        text_put (&o->text, fact->payload);
        break;
    case OUTPUT_LONG:
        put_long (o, fact, offset);
        break;
    case OUTPUT_JSON:
        put_json (o, fact, offset);
        break;
    case OUTPUT_CUSTOM:
        put_custom (o, fact, offset);
        break;
    }
    return output_record_end (o);
}

const char *output_gap_reason (enum fm_gap_reason reason)
{
    switch (reason) {
    case FM_GAP_EXPIRED:
        return "expired";
    case FM_GAP_DAMAGED:
        return "damaged";
    case FM_GAP_VOID:
        return "void";
    case FM_GAP_REDACTED:
        return "redacted";
    case FM_GAP_NOT_HELD:
        return "not_held";
    case FM_GAP_UNKNOWN:
        break;
    }
    return "unknown";
}

int output_gap_json (struct output *o, const struct fm_gap *gap)
{
    struct text *const t = &o->text;
    text_put_cstr (t, "{\"event\":\"gap\",");
    if (!id_is_zero (&gap->stream)) {
        text_put_cstr (t, "\"stream\":\"");
        put_stream (o, &gap->stream);
        text_put_cstr (t, "\",\"first_seq\":");
        text_put_u64 (t, gap->first);
        text_put_cstr (t, ",\"end_seq\":");
    } else {
        text_put_cstr (t, "\"first_offset\":");
        text_put_u64 (t, gap->first);
        text_put_cstr (t, ",\"end_offset\":");
    }
    text_put_u64 (t, gap->end);
    text_put_cstr (t, ",\"reason\":\"");
    text_put_cstr (t, output_gap_reason (gap->reason));
    text_put_cstr (t, "\"}\n");
    return output_record_end (o);
}

int output_event_json (struct output *o, const char *name)
{
    text_put_cstr (&o->text, "{\"event\":\"");
    text_put_cstr (&o->text, name);
    text_put_cstr (&o->text, "\"}\n");
    return output_record_end (o);
}

int output_line (struct output *o, const char *line)
{
    text_put_cstr (&o->text, line);
    text_put_byte (&o->text, '\n');
    return output_record_end (o);
}

int output_flush (struct output *o)
{
    while (o->written < o->text.len) {
        const ssize_t n = write (o->options.fd, o->text.data + o->written, o->text.len - o->written);
        if (n >= 0) {
            o->written += (size_t) n;
        } else if (errno == EAGAIN) {
            struct pollfd room = { .fd = o->options.fd, .events = POLLOUT };
            (void) poll (&room, 1, -1); /* a failure shows in the write that follows */
        } else if (errno != EINTR) {
            const int rc = -errno;
            return error_set (rc, "writing to standard output: %s", strerror (-rc));
        }
        if (o->written < o->text.len && o->options.interrupted && o->options.interrupted ())
            return FM_INTERRUPTED;
    }
    text_clear (&o->text);
    o->written = 0;
    return 0;
}

bool output_is_flushed (const struct output *o)
{
    return o->text.len == 0;
}
