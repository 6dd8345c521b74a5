/* follow: see follow.h. */

#include "follow.h"

#include <errno.h>
#include <stdio.h>

#include "shop.h"
#include "store.h"

enum { FACTS_A_TRANSACTION = 256 };

static const char place_schema[] = "CREATE TABLE IF NOT EXISTS place (id INTEGER PRIMARY KEY CHECK (id = 1), cursor BLOB NOT NULL)";
static const char follower_schema[] = "CREATE TABLE IF NOT EXISTS follower (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL)";

/* From now on the database is ours: one that was stopped, and goes on later, finds a higher number than its own. */
static int take_over (struct follow *f)
{
    int rc = store_do (f->db, place_schema, "");
    if (!rc)
        rc = store_do (f->db, follower_schema, "");
    if (!rc)
        rc = store_do (f->db, "BEGIN IMMEDIATE", "");
    if (rc)
        return rc;
    rc = store_do (f->db, "INSERT INTO follower VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET number = number + 1", "");
    if (!rc)
        rc = store_number (f->db, &f->number, "SELECT number FROM follower", "");
    const int ended = store_do (f->db, rc ? "ROLLBACK" : "COMMIT", "");
    return rc ? rc : ended;
}

/* Within a transaction: is it still ours? */
static int check_ours (const struct follow *f)
{
    int64_t number;
    const int rc = store_number (f->db, &number, "SELECT number FROM follower", "");
    return rc || number == f->number ? rc : FM_ERR_IN_USE;
}

int follow_open (struct follow *f, struct shop *shop, const char *const *topics)
{
    sqlite3_stmt *rows;
    struct fm_subscription_options options = { .topics = topics, .from = FM_FROM_START, .delivery = FM_SYNCED, .open_timeout_ms = SHOP_OPEN_MS };
    int rc = take_over (f);
    if (!rc)
        rc = store_query (f->db, &rows, "SELECT cursor FROM place", "");
    if (rc)
        return rc;
    rc = store_row (rows);
    if (rc == 0) {
        options.from = FM_FROM_CURSOR;
        options.from_cursor.data = sqlite3_column_blob (rows, 0);
        options.from_cursor.len = (size_t) sqlite3_column_bytes (rows, 0);
    }
    if (rc == 0 || rc == FM_ERR_END)
        rc = fm_subscription_open (shop->node, &options, &f->in);
    (void) sqlite3_finalize (rows);
    return rc;
}

static int take_event (struct follow *f, const struct fm_event *e)
{
    if (e->kind == FM_EVENT_FACT) {
        f->taken++;
        return f->take (f->arg, &e->fact);
    }
    f->caught_up = f->caught_up || e->kind == FM_EVENT_CAUGHT_UP;
    /* Void: sequences that a killed publisher had put aside, and never used. Any other gap may be a loss, and a shop wants to hear of it. */
    if (e->kind == FM_EVENT_GAP && e->gap.reason != FM_GAP_VOID)
        (void) fprintf (stderr, "GAP sequences=%llu reason=%d: what was there is nowhere any more\n", (unsigned long long) (e->gap.end - e->gap.first),
                        (int) e->gap.reason);
    return 0;
}

static int keep_place (struct follow *f)
{
    struct fm_slice cursor;
    const int rc = fm_subscription_cursor (f->in, &cursor);
    return rc ? rc : store_do (f->db, "INSERT OR REPLACE INTO place VALUES (1, ?)", "b", &cursor);
}

/* From the event that was waited for to the last that is there already. */
static int take_all (struct follow *f, struct fm_event *e)
{
    int rc = take_event (f, e);
    while (!rc && f->taken < FACTS_A_TRANSACTION && (rc = fm_subscription_next (f->in, 0, e)) == 0)
        rc = take_event (f, e);
    return rc == FM_TIMEOUT || rc == FM_INTERRUPTED ? 0 : rc;
}

int follow_step (struct follow *f, int timeout_ms)
{
    struct fm_event e;
    f->taken = 0;
    int rc = fm_subscription_next (f->in, timeout_ms, &e);
    if (!rc)
        rc = store_do (f->db, "BEGIN IMMEDIATE", "");
    if (rc)
        return rc;
    rc = check_ours (f);
    if (!rc)
        rc = take_all (f, &e);
    if (!rc && f->settle)
        rc = f->settle (f->arg);
    if (!rc)
        rc = keep_place (f);
    if (!rc)
        rc = store_do (f->db, "COMMIT", "");
    if (rc)
        (void) store_do (f->db, "ROLLBACK", "");        /* rc says what failed first */
    return rc;
}

static int run (struct follow *f, bool until_caught_up)
{
    int rc = 0;
    while (!rc && !(until_caught_up && f->caught_up) && !shop_is_over ()) {
        rc = follow_step (f, SHOP_SLICE_MS);
        if (rc == FM_TIMEOUT || rc == FM_INTERRUPTED)
            rc = 0;
    }
    return rc;
}

int follow_catch_up (struct follow *f)
{
    return run (f, true);
}

int follow_run (struct follow *f)
{
    return run (f, false);
}

void follow_close (struct follow *f)
{
    fm_subscription_close (&f->in);
}

int follow_serve (struct follow *f, struct shop *shop, const char *schema, bool publishes, const char *const *topics, sqlite3 **db)
{
    int rc = store_open (shop->dir, shop->name, schema, db);
    if (!rc)
        rc = shop_open (shop, publishes);
    f->db = *db;
    if (!rc)
        rc = follow_open (f, shop, topics);
    if (!rc) {
        shop_say (shop, "open");
        rc = follow_run (f);
    }
    follow_close (f);
    shop_close (shop);
    store_close (db);
    return rc;
}
