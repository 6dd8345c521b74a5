#include "publisher_marks.h"
#include "error.h"

#include <inttypes.h>
#include <string.h>

static uint64_t min_u64 (uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64 (uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static struct journal_mark *find (struct publisher_marks *m, const struct fm_id *journal)
{
    for (unsigned i = 0; i < m->count; i++) {
        if (id_equal (&m->journals[i].journal, journal))
            return &m->journals[i];
    }
    return NULL;
}

/* A place for one that is not listed. When all are taken, that of the journal that has least: any one counts, so it is missed least. */
static struct journal_mark *make_room (struct publisher_marks *m, uint64_t synced)
{
    if (m->count < PUBLISHER_JOURNALS_MAX)
        return &m->journals[m->count++];
    struct journal_mark *least = &m->journals[0];
    for (unsigned i = 1; i < m->count; i++) {
        if (m->journals[i].mark.synced < least->mark.synced)
            least = &m->journals[i];
    }
    return least->mark.synced <= synced ? least : NULL;
}

int publisher_marks_init (struct publisher_marks *m, const char *journals)
{
    *m = (struct publisher_marks) { .listed = journals != NULL };
    const char *p = journals;
    while (p && *p) {
        p += strspn (p, ", ");
        const size_t len = strcspn (p, ", ");
        if (len == 0)
            break;
        struct fm_id id;
        if (id_parse (p, len, &id))
            return error_set (FM_ERR_ARGUMENT, "journals: '%.*s' is no journal's id (32 hex digits)", (int) len, p);
        if (m->count == PUBLISHER_JOURNALS_MAX)
            return error_set (FM_ERR_ARGUMENT, "journals: more than %d", PUBLISHER_JOURNALS_MAX);
        if (!find (m, &id))
            m->journals[m->count++].journal = id;
        p += len;
    }
    if (m->listed && m->count == 0)
        return error_set (FM_ERR_ARGUMENT, "journals: the list is empty; NULL stands for any one");
    return 0;
}

int publisher_marks_update (struct publisher_marks *m, const struct fm_id *journal, uint64_t generation, struct mark mark, uint64_t sent)
{
    char text[ID_TEXT_LEN + 1];
    /* What is synced was written, and what was written was received: a journal need not repeat it. */
    mark.written = max_u64 (mark.written, mark.synced);
    mark.received = max_u64 (mark.received, mark.written);
    if (mark.received > sent)
        return error_set (FM_ERR_MALFORMED, "journal %s says it has sequence %" PRIu64 "; %" PRIu64 " is the last that was sent",
                          id_text (journal, text), mark.received, sent);
    struct journal_mark *j = find (m, journal);
    if (!j && m->listed)
        return error_set (FM_ERR_UNKNOWN, "journal %s does not count", id_text (journal, text));
    if (!j) {
        j = make_room (m, mark.synced);
        if (!j)
            return error_set (FM_ERR_LIMIT, "journal %s: more than %d journals", id_text (journal, text), PUBLISHER_JOURNALS_MAX);
        *j = (struct journal_mark) { .journal = *journal };
    }
    /* What was only received or written may be lost when a journal restarts; what was synced may not. */
    if (j->heard && j->generation == generation && mark.synced < j->mark.synced)
        return error_set (FM_ERR_MALFORMED, "journal %s: synced fell from %" PRIu64 " to %" PRIu64, id_text (journal, text),
                          j->mark.synced, mark.synced);
    j->generation = generation;
    j->heard = true;
    j->mark = mark;
    return 0;
}

struct mark publisher_marks_reached (const struct publisher_marks *m)
{
    struct mark reached = { 0 };
    if (m->listed)
        reached = (struct mark) { UINT64_MAX, UINT64_MAX, UINT64_MAX };
    for (unsigned i = 0; i < m->count; i++) {
        const struct mark *j = &m->journals[i].mark;
        uint64_t (*const pick) (uint64_t, uint64_t) = m->listed ? min_u64 : max_u64;
        reached.received = pick (reached.received, j->received);
        reached.written = pick (reached.written, j->written);
        reached.synced = pick (reached.synced, j->synced);
    }
    return reached;
}

const struct journal_mark *publisher_marks_least (const struct publisher_marks *m)
{
    const struct journal_mark *least = NULL;
    for (unsigned i = 0; m->listed && i < m->count; i++) {
        if (!least || m->journals[i].mark.synced < least->mark.synced)
            least = &m->journals[i];
    }
    return least;
}
