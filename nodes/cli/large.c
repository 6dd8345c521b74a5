/* large: see large.h. */

#include "large.h"

#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "error.h"
#include "fm_limits.h"

static int go_on (void *arg, uint64_t done, uint64_t size)
{
    (void) arg, (void) done, (void) size;
    return cli_is_signalled () ? FM_INTERRUPTED : 0;
}

int large_fetch_option (const struct cli *cli, const char *value, uint64_t *ret_max)
{
    *ret_max = LARGE_FETCH_DEFAULT;
    const int status = value ? cli_size (cli, "--fetch", value, ret_max) : 0;
    if (status)
        return status;
    return *ret_max && *ret_max <= LARGE_MAX ? -1 : cli_usage (cli, "--fetch: %s is not between 1 and 1G", value);
}

int large_store (struct fm_node *node, const char *journal, int timeout_ms, struct fm_fact *fact, uint8_t ref[FM_BLOB_REF])
{
    char media_type[TYPE_MAX + 1] = "";
    struct fm_blob blob;
    if (fact->content_type.len && fact->content_type.len <= TYPE_MAX)
        memcpy (media_type, fact->content_type.data, fact->content_type.len);
    const struct fm_blob_options options = { .media_type = media_type, .journal = journal, .timeout_ms = timeout_ms, .progress = go_on };
    int rc = fm_blob_put_bytes (node, fact->payload, &options, &blob);
    if (rc == 0)
        rc = fm_blob_ref (&blob, ref, FM_BLOB_REF, &fact->blob);
    if (rc == 0)
        fact->payload = slice (NULL, 0);
    return rc;
}

int large_fetch (struct fm_node *node, uint64_t max, int timeout_ms, struct fm_fact *fact, void **ret_buffer)
{
    const struct fm_blob_options options = { .timeout_ms = timeout_ms, .progress = go_on };
    char id[FM_FACT_ID_TEXT], why[512];
    *ret_buffer = NULL;
    const int rc = fm_fact_payload (node, fact, (size_t) max, &options, ret_buffer, &fact->payload);
    if (rc == 0 || rc == FM_INTERRUPTED)
        return rc;
    (void) snprintf (why, sizeof why, "%s", fm_error_detail ());
    /* FM_TIMEOUT would say that no fact came. */
    return error_set (rc == FM_TIMEOUT ? FM_ERR_NO_JOURNAL : rc, "the payload of fact %s cannot be fetched: %s", fm_fact_id_text (&fact->id, id, sizeof id), *why ? why : fm_error_text (rc));
}
