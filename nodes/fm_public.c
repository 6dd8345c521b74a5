/* fm_public: the small helpers of the public face. fm_error_text and fm_error_detail are in proto/error.c. */

#include "factmesh.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "batch.h"
#include "error.h"

int fm_perror (const char *what, int code)
{
    const char *detail = fm_error_detail ();
    if (*detail)
        (void) fprintf (stderr, "%s: %s (%s)\n", what, fm_error_text (code), detail);
    else
        (void) fprintf (stderr, "%s: %s\n", what, fm_error_text (code));
    return code;        /* nobody is left to tell when standard error does not take it */
}

char *fm_fact_id_text (const struct fm_fact_id *id, char *text, size_t size)
{
    static_assert (FM_FACT_ID_TEXT > ID_TEXT_LEN + 1 + 20, "32 hex digits, a colon, 20 decimal digits and a NUL");
    char stream[ID_TEXT_LEN + 1];
    (void) snprintf (text, size, "%s:%" PRIu64, id_text (&id->stream, stream), id->seq);    /* size is the caller's promise */
    return text;
}

int fm_fact_id_parse (const char *text, struct fm_fact_id *ret_id)
{
    struct fm_fact_id id = { .seq = 0 };
    const char *colon = strchr (text, ':');
    if (!colon || colon[1] == 0 || strlen (colon + 1) > 20)
        return error_set (FM_ERR_MALFORMED, "fact id: not 32 hex digits, a colon and a number");
    const int rc = id_parse (text, (size_t) (colon - text), &id.stream);
    if (rc != 0)
        return rc;
    for (const char *p = colon + 1; *p; p++) {
        const unsigned digit = (unsigned) (*p - '0');
        if (digit > 9 || __builtin_mul_overflow (id.seq, 10u, &id.seq) || __builtin_add_overflow (id.seq, digit, &id.seq))
            return error_set (FM_ERR_MALFORMED, "fact id: no sequence number behind the colon");
    }
    *ret_id = id;
    return 0;
}

int fm_header_add (void *buffer, size_t size, size_t *len, struct fm_slice name, struct fm_slice value)
{
    if (name.len == 0)
        return error_set (FM_ERR_ARGUMENT, "header: it has no name");
    if (*len > size || name.len > HEADER_BYTES_MAX || value.len > HEADER_BYTES_MAX || fact_header_len (name, value) > size - *len)
        return error_set (FM_ERR_FULL, "header '%.*s': no room for it in the %zu bytes of the buffer, or more than %d bytes",
                          (int) (name.len < 40 ? name.len : 40), (const char *) name.data, size, HEADER_BYTES_MAX);
    uint8_t *start = (uint8_t *) buffer + *len;
    *len += (size_t) (fact_header_encode (start, name, value) - start);
    return 0;
}

int fm_header_next (struct fm_slice headers, size_t *pos, struct fm_slice *ret_name, struct fm_slice *ret_value)
{
    return fact_header_next (headers, pos, ret_name, ret_value);
}

const char *fm_version (void)
{
    return FM_VERSION;
}
