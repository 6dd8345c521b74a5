#include "recorded.h"

#include <stdlib.h>
#include <string.h>

void recorded_release (struct recorded *r)
{
    free (r->bytes);
    r->bytes = NULL;
}

/* Keep a batch with one fact, and take it apart. */
static int keep (struct link *link, struct fm_slice batch, uint64_t offset, struct recorded *ret)
{
    struct batch_scratch scratch = { .topics = NULL };
    struct batch b;
    struct batch_reader reader;
    uint8_t *bytes = malloc (batch.len ? batch.len : 1);
    if (!bytes)
        return cli_error (link->cli, "no memory");
    if (batch.len)
        memcpy (bytes, batch.data, batch.len);
    int rc = batch_decode (bytes, batch.len, slice (NULL, 0), &scratch, &b);
    struct fm_fact fact;
    if (rc == 0) {
        batch_reader_init (&reader, &b);
        rc = batch_reader_next (&reader, &fact);
    }
    batch_scratch_release (&scratch);
    if (rc) {
        free (bytes);
        return cli_fail (link->cli, rc, "what the journal sent is no fact");
    }
    *ret = (struct recorded){ .fact = fact, .offset = offset, .bytes = bytes };
    return CLI_OK;
}

static void put_id (Factmesh__FactId *message, const struct fm_fact_id *id)
{
    factmesh__fact_id__init (message);
    message->stream = control_put_id (&id->stream);
    message->seq = id->seq;
}

int recorded_get (struct link *link, const struct fm_fact_id *id, const char *topic, const char *key, struct recorded *ret, bool *ret_found)
{
    Factmesh__FactGet get = FACTMESH__FACT_GET__INIT;
    Factmesh__FactId name;
    if (id) {
        put_id (&name, id);
        get.fact = &name;
    } else {
        get.topic = control_put_slice (slice_of (topic));
        get.key = control_put_slice (slice_of (key));
    }
    Factmesh__Control request = FACTMESH__CONTROL__INIT, *reply;
    request.body_case = FACTMESH__CONTROL__BODY_FACT_GET;
    request.fact_get = &get;
    const int status = link_request_or (link, &request, FACTMESH__CONTROL__BODY_FACT_REPLY, FACTMESH__ERROR_CODE__ERROR_UNKNOWN_FACT, &reply);
    *ret_found = status == CLI_OK && reply;
    return *ret_found ? keep (link, control_get_slice (&reply->fact_reply->batch), reply->fact_reply->offset, ret) : status;
}

/* One answer's links behind those that are there. */
static int add_page (struct link *link, const struct fm_fact_id *id, uint64_t after, size_t max, struct recorded_link **items, size_t *count, bool *ret_more)
{
    Factmesh__LinksGet get = FACTMESH__LINKS_GET__INIT;
    Factmesh__FactId name;
    put_id (&name, id);
    get.fact = &name;
    get.after_offset = after;
    get.limit = (uint32_t) (max - *count);
    Factmesh__Control request = FACTMESH__CONTROL__INIT, *reply;
    request.body_case = FACTMESH__CONTROL__BODY_LINKS_GET;
    request.links_get = &get;
    int status = link_request (link, &request, FACTMESH__CONTROL__BODY_LINKS_REPLY, &reply);
    const Factmesh__LinksReply *r = status == CLI_OK ? reply->links_reply : NULL;
    struct recorded_link *bigger = r && r->n_links ? realloc (*items, (*count + r->n_links) * sizeof **items) : *items;
    if (r && r->n_links && !bigger)
        status = cli_error (link->cli, "no memory");
    else
        *items = bigger;
    for (size_t i = 0; r && i < r->n_links && *count < max && status == CLI_OK; i++) {
        (*items)[*count].kind = r->links[i]->kind;
        status = keep (link, control_get_slice (&r->links[i]->batch), r->links[i]->offset, &(*items)[*count].recorded);
        if (status == CLI_OK)
            ++*count;
    }
    *ret_more = r && r->more && r->n_links;
    return status;
}

int recorded_links (struct link *link, const struct fm_fact_id *id, size_t max, struct recorded_link **ret_items, size_t *ret_count, bool *ret_more)
{
    struct recorded_link *items = NULL;
    size_t count = 0;
    bool more = true;
    int status = CLI_OK;
    while (more && count < max && status == CLI_OK)
        status = add_page (link, id, count ? items[count - 1].recorded.offset : 0, max, &items, &count, &more);
    if (status) {
        while (count)
            recorded_release (&items[--count].recorded);
        free (items);
        return status;
    }
    *ret_items = items;
    *ret_count = count;
    *ret_more = more;
    return CLI_OK;
}
