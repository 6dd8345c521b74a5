/* recorded: single facts as a journal has them, by name, by key, by what links them; for get, trace and correct.
 *
 * Errors: after a message; each returns CLI_OK or an exit status. */

#ifndef FM_CLI_RECORDED_H
#define FM_CLI_RECORDED_H

#include "batch.h"
#include "link.h"

/* One fact and its bytes. Zero-initialised; recorded_release frees. */
struct recorded {
    struct fm_fact fact;            /* points into bytes */
    uint64_t offset;
    uint8_t *bytes;
};
void recorded_release (struct recorded *r);

/* By name, or (id NULL) the newest of a key. *ret_found is false when there is none; that is no error. */
int recorded_get (struct link *link, const struct fm_fact_id *id, const char *topic, const char *key, struct recorded *ret, bool *ret_found);

/* What a fact caused and what corrects it, at most max; *ret_items is to be freed, each item released. */
struct recorded_link {
    Factmesh__LinkKind kind;
    struct recorded recorded;
};
int recorded_links (struct link *link, const struct fm_fact_id *id, size_t max, struct recorded_link **ret_items, size_t *ret_count, bool *ret_more);

#endif
