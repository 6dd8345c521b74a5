/* groups_store: the state of groups in the log: whatever call fails and whenever the power goes, a group is found as it was stored at or after the last
 * time that was confirmed; what a newer version or damage made of it is told and kept, never guessed. */

#include "bare_groups.h"

enum { ENTRIES_MAX = 256, VERSIONS_MAX = 64, REASON_BYTES = 32, LARGEST = 3000 };

/* --- A state to be compared. */

struct version {
    struct group_place place;
    size_t count;
    struct group_stored entries[ENTRIES_MAX];
    char reasons[ENTRIES_MAX][REASON_BYTES];
};

static void note_entry (void *arg, const struct group_stored *s)
{
    struct version *v = arg;
    assert_true (v->count < ENTRIES_MAX && s->reason.len < REASON_BYTES);
    memcpy (v->reasons[v->count], s->reason.data ? s->reason.data : "", s->reason.len);
    v->entries[v->count] = *s;
    v->entries[v->count].reason = slice (v->reasons[v->count], s->reason.len);
    v->count++;
}

static struct version *note (const struct group *g)
{
    struct version *v = calloc (1, sizeof *v);
    assert_non_null (v);
    group_state_place (g->state, &v->place);
    assert_int_equal (group_state_each (g->state, note_entry, v), 0);
    return v;
}

/* Of an hour, as LATER; the delay after a failure may be over. */
static bool waits_long (const struct group_stored *s)
{
    return s->until_ns > node_now () + UINT64_C (60000) * FAKE_NS_PER_MS;
}

/* Is what was loaded what had been stored? Who had something in hand has to come back for it. */
static bool is_restored (const struct version *loaded, const struct version *stored)
{
    if (loaded->place.next != stored->place.next || loaded->place.high != stored->place.high || loaded->place.starts != stored->place.starts + 1
        || loaded->place.paused != stored->place.paused || loaded->count != stored->count)
        return false;
    for (size_t i = 0; i < loaded->count; i++) {
        const struct group_stored *l = &loaded->entries[i], *s = &stored->entries[i];
        if (l->offset != s->offset || l->token != s->token || l->newest_offset != s->newest_offset || l->content_offset != s->content_offset
            || l->deliveries != s->deliveries || l->attempts != s->attempts || l->flags != (s->flags | (s->begun ? GROUP_IN_DOUBT : 0)) || l->handed
            || l->begun || l->parked != s->parked || l->parked_unix_ns != s->parked_unix_ns || !slice_equal (l->reason, s->reason)
            || (waits_long (s) && !waits_long (l)) || (s->handed && !l->until_ns) || (l->until_ns && !s->handed && !s->until_ns))
            return false;
    }
    return true;
}

/* --- A life of a group: facts come, are handed out, and all kinds of things become of them. */

struct life {
    struct version *versions[VERSIONS_MAX];
    size_t stored, confirmed;           /* versions that were given to the log; of them the last that was durable. 1: the first */
};

static void work_on (struct group *g, struct groups *gs, unsigned round, uint64_t now)
{
    static const enum group_outcome outcomes[] = { GROUP_DONE, GROUP_BEGIN, GROUP_LATER, GROUP_DONE, GROUP_FAILED, GROUP_PARK, GROUP_DONE, GROUP_EXTEND };
    struct group_hand_out h;
    uint64_t due;
    while (groups_read (gs, g, 0, now, &due))
        ;
    for (unsigned i = round; group_state_hand_out (g->state, now, &h) == 0; i++) {
        const struct group_report r = { .member = h.member, .offset = h.offset, .token = h.token, .kind = outcomes[i % 8], .delay_ms = 3600000,
                                        .reason = slice_of ("because of this") };
        assert_int_equal (group_state_outcome (g->state, &r, now, now), 0);
    }
    /* What somebody is at does not stay with him for ever. */
    if (round % 4 == 3)
        group_state_leave (g->state, 1, GROUP_VANISHED, now, now);
    (void) group_state_join (g->state, 1, 40, now);
    group_state_pause (g->state, round % 5 == 4);
}

/* Returns the first error. */
static int live (struct fake_journal *j, struct groups *gs, struct life *l, unsigned rounds)
{
    uint64_t now = node_now ();
    struct group *g = gs->list ? gs->list : new_group (gs, "g", GROUP_ONCE);
    for (unsigned round = 0; round < rounds; round++, now += UINT64_C (1000000)) {
        int rc = 0;
        for (unsigned stream = 1; stream <= WORK_STREAMS && !rc; stream++)
            rc = work_append (j->context.log, stream, LARGEST);
        if (!rc)
            rc = fake_sync (j);
        if (rc)
            return rc;
        work_on (g, gs, round, now);
        assert_true (l->stored < VERSIONS_MAX);
        l->versions[l->stored++] = note (g);
        rc = group_store (gs, g, now);
        if (!rc)
            rc = fake_sync (j);
        if (log_ticket_synced (j->context.log, g->ticket))
            l->confirmed = l->stored;
        if (rc)
            return rc;
    }
    return 0;
}

static void check_after (struct fake_journal *j, const struct life *l, unsigned long n)
{
    struct groups gs;
    groups_open (&gs, j, 1 << 20);
    fake_forget_notices ();
    assert_int_equal (groups_load (&gs), 0);
    if (fake.notice_count)
        fail_msg ("n=%lu: %s", n, fake.notices[0]);
    if (!gs.list) {
        assert_int_equal (l->confirmed, 0);
        groups_close (&gs);
        return;
    }
    assert_int_equal (gs.count, 1);
    assert_true (slice_equal (slice_of (gs.list->name), slice_of ("g")));
    assert_int_equal (gs.list->config.effect, GROUP_ONCE);
    assert_int_equal (gs.list->config.lease_ms, LEASE_MS);
    assert_int_equal (gs.list->config.filters.count, 1);
    assert_int_equal (gs.list->ever_filters.count, 1);
    struct version *loaded = note (gs.list);
    bool found = false;
    for (size_t i = l->confirmed ? l->confirmed - 1 : 0; i < l->stored && !found; i++)
        found = is_restored (loaded, l->versions[i]);
    if (!found)
        fail_msg ("n=%lu: what was loaded (next=%llu, %zu entries) is none of the %zu states from the confirmed one on", n,
                  (unsigned long long) loaded->place.next, loaded->count, l->stored - l->confirmed + 1);
    free (loaded);
    groups_close (&gs);
}

/* Returns false when the failure never came. */
static bool live_and_die (unsigned long n, unsigned keep_percent, bool power)
{
    struct fake_journal j;
    struct groups gs;
    struct life l = { .stored = 0 };
    fake_begin (&j);
    j.fs = fail_fs_new ();
    if (power)
        fail_fs_power_off (j.fs, n);
    else
        fail_fs_fail (j.fs, FAIL_ANY, n, -EIO);
    if (fake_open (&j) == 0) {
        groups_open (&gs, &j, 1 << 20);
        (void) live (&j, &gs, &l, 8);   /* what failed is in what was confirmed */
        groups_close (&gs);
    }
    fake_close (&j);
    const bool happened = fail_fs_happened (j.fs);
    if (power)
        fail_fs_power_loss (j.fs, (unsigned) n, keep_percent);
    fail_fs_destroy (&j.fs);
    assert_int_equal (fake_open (&j), 0);
    check_after (&j, &l, n);
    if (!happened)
        assert_int_equal (l.confirmed, 8);
    for (size_t i = 0; i < l.stored; i++)
        free (l.versions[i]);
    fake_end (&j);
    return happened;
}

static void whichever_call_fails_a_confirmed_state_is_found (void **state)
{
    (void) state;
    unsigned long n = 1;
    while (live_and_die (n, 0, false))
        n++;
    assert_true (n > 40);
}

static void whenever_the_power_goes_a_confirmed_state_is_found (void **state)
{
    (void) state;
    unsigned long n = 1;
    while (live_and_die (n, (unsigned) (n * 37) % 101, true))
        n++;
    assert_true (n > 40);
}

/* Every start counts, for tokens must grow; delays, doubts and parked facts stay. */
static void a_state_outlives_any_number_of_starts (void **state)
{
    (void) state;
    struct fake_journal j;
    struct groups gs;
    struct life l = { .stored = 0 };
    fake_begin (&j);
    assert_int_equal (fake_open (&j), 0);
    groups_open (&gs, &j, 1 << 20);
    assert_int_equal (live (&j, &gs, &l, 6), 0);
    groups_close (&gs);
    struct version *before = l.versions[l.stored - 1];
    unsigned parked = 0, doubtful = 0, later = 0;
    for (size_t i = 0; i < before->count; i++) {
        parked += before->entries[i].parked;
        doubtful += before->entries[i].begun || (before->entries[i].flags & GROUP_IN_DOUBT);
        later += before->entries[i].until_ns != 0;
    }
    assert_true (parked && doubtful && later);
    for (int start = 0; start < 3; start++) {
        fake_close (&j);
        assert_int_equal (fake_open (&j), 0);
        groups_open (&gs, &j, 1 << 20);
        assert_int_equal (groups_load (&gs), 0);
        assert_non_null (gs.list);
        struct version *after = note (gs.list);
        if (start == 0)
            assert_true (is_restored (after, before));
        assert_int_equal (after->count, before->count);
        assert_int_equal (after->place.starts, before->place.starts + 1 + (unsigned) start);
        free (after);
        assert_int_equal (group_store (&gs, gs.list, node_now ()), 0);
        assert_int_equal (fake_sync (&j), 0);
        groups_close (&gs);
    }
    for (size_t i = 0; i < l.stored; i++)
        free (l.versions[i]);
    fake_end (&j);
}

/* A machine that has no clock of its own begins at 1970, or somebody corrects it by hours. */
static void a_clock_set_back_makes_no_delay_longer (void **state)
{
    enum { DELAY_MS = 1000 };
    (void) state;
    struct fake_journal j;
    struct kit_clock clock;
    struct groups gs;
    struct group_hand_out h;
    const struct kit_batch_spec one = { .stream = 1, .first_seq = 1, .count = 1, .payload_len = 10 };
    const uint64_t now = node_now ();
    fake_begin (&j);
    kit_clock_init (&clock);
    j.clock = &clock.clock;
    assert_int_equal (fake_open (&j), 0);
    assert_int_equal (kit_append_batch (j.context.log, &one), 1);
    assert_int_equal (fake_sync (&j), 0);
    groups_open (&gs, &j, 1 << 20);
    struct group *g = new_group (&gs, "g", GROUP_IDEMPOTENT);
    assert_int_equal (group_state_join (g->state, 1, 1, now), 0);
    assert_int_equal (group_state_take (g->state, &(struct group_fact) { .offset = 1 }), 0);
    group_state_advance (g->state, 2);
    assert_int_equal (group_state_hand_out (g->state, now, &h), 0);
    const struct group_report later = { .member = 1, .offset = 1, .token = h.token, .kind = GROUP_LATER, .delay_ms = DELAY_MS };
    assert_int_equal (group_state_outcome (g->state, &later, now, clock.now_ns), 0);
    assert_int_equal (group_store (&gs, g, now), 0);
    assert_int_equal (fake_sync (&j), 0);
    groups_close (&gs);
    fake_close (&j);
    clock.now_ns -= UINT64_C (36000000) * FAKE_NS_PER_MS;
    assert_int_equal (fake_open (&j), 0);
    groups_open (&gs, &j, 1 << 20);
    assert_int_equal (groups_load (&gs), 0);
    struct version *after = note (gs.list);
    assert_int_equal (after->count, 1);
    assert_in_range (after->entries[0].until_ns, 0, node_now () + (uint64_t) DELAY_MS * FAKE_NS_PER_MS);
    free (after);
    groups_close (&gs);
    fake_end (&j);
}

/* --- What somebody else made of the stored bytes. */

struct bytes { uint8_t *data; size_t len; };

static struct bytes stored_bytes (struct fake_journal *j, const char *entry)
{
    struct bytes b = { .data = NULL };
    struct log_cursor c;
    size_t size = 0;
    void *buffer = NULL;
    assert_int_equal (log_cursor_get (j->context.log, entry, &buffer, &size, &c), 0);
    b.len = c.cursor.len;
    b.data = malloc (b.len + 1);
    assert_non_null (b.data);
    memcpy (b.data, c.cursor.data, b.len);
    free (buffer);
    return b;
}

static void store_bytes (struct fake_journal *j, const char *entry, const uint8_t *data, size_t len)
{
    struct log_cursor c = { .updated_ns = 1, .cursor = slice (data, len) };
    uint64_t ticket;
    strcpy (c.name, entry);
    assert_int_equal (log_cursor_put (j->context.log, &c, &ticket), 0);
    assert_int_equal (fake_sync (j), 0);
}

/* Two groups, "g" with work of all kinds and "other"; the state of "g" is handed out. */
static Factmesh__GroupState *begin_with_two (struct fake_journal *j, struct bytes *ret_bytes)
{
    struct groups gs;
    struct life l = { .stored = 0 };
    fake_begin (j);
    assert_int_equal (fake_open (j), 0);
    groups_open (&gs, j, 1 << 20);
    assert_int_equal (live (j, &gs, &l, 6), 0);
    assert_int_equal (group_store (&gs, new_group (&gs, "other", GROUP_ONCE), node_now ()), 0);
    assert_int_equal (fake_sync (j), 0);
    groups_close (&gs);
    for (size_t i = 0; i < l.stored; i++)
        free (l.versions[i]);
    *ret_bytes = stored_bytes (j, "\x01gg");
    Factmesh__GroupState *state = factmesh__group_state__unpack (NULL, ret_bytes->len, ret_bytes->data);
    assert_non_null (state);
    return state;
}

static void end_with_two (struct fake_journal *j, Factmesh__GroupState *state, struct bytes *b)
{
    factmesh__group_state__free_unpacked (state, NULL);
    free (b->data);
    fake_end (j);
}

/* Store this as the group's state, and load all: it is refused with these words, kept byte for byte, and the other group is there. */
static void expect_refused (struct fake_journal *j, const Factmesh__GroupState *state, const char *words)
{
    struct groups gs;
    const size_t len = factmesh__group_state__get_packed_size (state);
    uint8_t *bytes = malloc (len);
    assert_non_null (bytes);
    (void) factmesh__group_state__pack (state, bytes);
    store_bytes (j, "\x01gg", bytes, len);
    fake_forget_notices ();
    groups_open (&gs, j, 1 << 20);
    assert_int_equal (groups_load (&gs), 0);
    if (gs.count != 1)
        fail_msg ("loaded, and should have been refused: %s", words);
    assert_true (slice_equal (slice_of (gs.list->name), slice_of ("other")));
    assert_int_equal (fake.notice_count, 1);
    assert_true (fake_noticed ("GROUP-NOT-LOADED group=g: "));
    if (!strstr (fake.notices[0], words))
        fail_msg ("%s, where \"%s\" was expected", fake.notices[0], words);
    groups_close (&gs);
    struct bytes kept = stored_bytes (j, "\x01gg");
    assert_true (slice_equal (slice (kept.data, kept.len), slice (bytes, len)));
    free (kept.data);
    free (bytes);
}

static void a_newer_versions_state_is_told_and_kept (void **state)
{
    (void) state;
    struct fake_journal j;
    struct bytes b;
    Factmesh__GroupState *s = begin_with_two (&j, &b);
    s->major++;
    expect_refused (&j, s, "it is of version 2; this is version 1");
    s->major--;
    const Factmesh__Effect effect = s->config->effect;
    s->config->effect = (Factmesh__Effect) 77;
    expect_refused (&j, s, "its effect, 77, is not known here");
    s->config->effect = effect;
    end_with_two (&j, s, &b);
}

static void a_state_that_contradicts_the_log_or_itself_is_refused (void **state)
{
    (void) state;
    struct fake_journal j;
    struct bytes b;
    Factmesh__GroupState *s = begin_with_two (&j, &b);
    struct log_position at;
    log_position (j.context.log, &at);
    assert_true (s->n_unfinished > 2);
    Factmesh__GroupEntry *last = s->unfinished[s->n_unfinished - 1], *second = s->unfinished[1];
#define REFUSED(field, value, words)                                                                                                       \
    do {                                                                                                                                   \
        const __typeof__ (field) was = field;                                                                                              \
        field = value;                                                                                                                     \
        expect_refused (&j, s, words);                                                                                                     \
        field = was;                                                                                                                       \
    } while (0)
    /* A place that the log has not come to would pass over what is recorded until then. */
    REFUSED (s->next_offset, 0, "does not say what it is");
    REFUSED (s->next_offset, at.synced_offset + 1, "do not fit the log");
    REFUSED (s->high_offset, at.synced_offset + 1, "do not fit the log");
    REFUSED (s->high_offset, s->next_offset - 1, "do not fit the log");
    REFUSED (s->begin_offset, at.synced_offset + 1, "do not fit the log");
    REFUSED (s->skipped_end, at.synced_offset + 1, "do not fit the log");
    REFUSED (s->skipped_next, s->skipped_end + 1, "do not fit the log");
    REFUSED (s->starts, UINT64_C (1) << 24, "starts");
    REFUSED (last->offset_delta, at.synced_offset, "beyond the end of the log");
    REFUSED (last->offset_delta, UINT64_MAX, "does not rise");
    REFUSED (second->offset_delta, 0, "does not rise");
    REFUSED (second->newest_offset, at.synced_offset, "beyond the end of the log");
    REFUSED (second->content_offset, at.synced_offset, "beyond the end of the log");
    REFUSED (second->token, (s->starts + 1) << 40, "a later start");
    REFUSED (s->config, NULL, "does not say what it is");
#undef REFUSED
    end_with_two (&j, s, &b);
}

static uint64_t last_offset;

static void check_rises (void *arg, const struct group_stored *s)
{
    const struct log_position *at = arg;
    assert_true (s->offset > last_offset && s->offset < at->synced_offset);
    assert_true (s->newest_offset < at->synced_offset && s->content_offset < at->synced_offset);
    last_offset = s->offset;
}

/* Load whatever is stored. A group that is taken is whole: it can be handed out and stored again. */
static void load_whatever (struct fake_journal *j)
{
    struct groups gs;
    struct log_position at;
    log_position (j->context.log, &at);
    groups_open (&gs, j, 1 << 20);
    fake_forget_notices ();
    assert_int_equal (groups_load (&gs), 0);
    const bool taken = gs.count == 2;
    assert_true (taken || fake_noticed ("GROUP-NOT-LOADED"));
    for (struct group *g = gs.list; g; g = g->next) {
        struct group_place place;
        struct group_hand_out h;
        const uint64_t later = node_now () + UINT64_C (200000000000000);
        group_state_place (g->state, &place);
        assert_true (place.next >= 1 && place.next <= at.synced_offset && place.high <= at.synced_offset);
        last_offset = 0;
        assert_int_equal (group_state_each (g->state, check_rises, &at), 0);
        assert_int_equal (group_state_join (g->state, 1, 1000, later), 0);
        (void) group_state_tick (g->state, later, later);
        while (group_state_hand_out (g->state, later, &h) == 0)
            assert_int_equal (h.token >> 40, place.starts);
    }
    groups_close (&gs);
}

static void damaged_bytes_are_refused_or_make_a_whole_group (void **state)
{
    (void) state;
    struct fake_journal j;
    struct bytes b;
    Factmesh__GroupState *s = begin_with_two (&j, &b);
    for (size_t len = 0; len < b.len; len++) {
        store_bytes (&j, "\x01gg", b.data, len);
        load_whatever (&j);
    }
    for (size_t i = 0; i < b.len; i++) {
        const uint8_t was = b.data[i];
        b.data[i] = (uint8_t) (was ^ (1u << i % 8));
        store_bytes (&j, "\x01gg", b.data, b.len);
        load_whatever (&j);
        b.data[i] = 0xFF;
        store_bytes (&j, "\x01gg", b.data, b.len);
        load_whatever (&j);
        b.data[i] = was;
    }
    end_with_two (&j, s, &b);
}

/* The log lost facts of the group's in the meantime: people are told how many, and the rest is there. */
static void facts_that_are_gone_are_told (void **state)
{
    (void) state;
    struct fake_journal j;
    struct bytes b;
    char path[256];
    Factmesh__GroupState *s = begin_with_two (&j, &b);
    fake_close (&j);
    /* The batch that holds the group's first fact that is not done. */
    kit_segment_path (j.directory, 1, path);
    uint64_t first = 1, offset = 0;
    size_t gone = 0;
    unsigned stream = 1;
    while (first + work_spec (stream, 1, LARGEST).count <= s->unfinished[0]->offset_delta)
        first += work_spec (stream++, 1, LARGEST).count;
    assert_true (stream <= WORK_STREAMS);
    const struct kit_batch_spec spec = work_spec (stream, 1, LARGEST);
    kit_flip (path, (int64_t) find_batch (path, &spec) + 20);
    for (size_t i = 0; i < s->n_unfinished; i++) {
        offset += s->unfinished[i]->offset_delta;
        gone += offset < first + spec.count && !s->unfinished[i]->parked;
    }
    assert_true (gone > 0);
    assert_int_equal (fake_open (&j), 0);
    struct groups gs;
    groups_open (&gs, &j, 1 << 20);
    fake_forget_notices ();
    assert_int_equal (groups_load (&gs), 0);
    assert_int_equal (gs.count, 2);
    struct version *after = note (gs.list);
    assert_int_equal (after->count, s->n_unfinished - gone);
    char expected[80];
    (void) snprintf (expected, sizeof expected, "GROUP-FACT-GONE group=g facts=%zu", gone);
    if (!fake_noticed (expected))
        fail_msg ("%s, where \"%s\" was expected", fake.notice_count ? fake.notices[0] : "nothing", expected);
    free (after);
    groups_close (&gs);
    end_with_two (&j, s, &b);
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (whichever_call_fails_a_confirmed_state_is_found),
        cmocka_unit_test (whenever_the_power_goes_a_confirmed_state_is_found),
        cmocka_unit_test (a_state_outlives_any_number_of_starts),
        cmocka_unit_test (a_clock_set_back_makes_no_delay_longer),
        cmocka_unit_test (a_newer_versions_state_is_told_and_kept),
        cmocka_unit_test (a_state_that_contradicts_the_log_or_itself_is_refused),
        cmocka_unit_test (damaged_bytes_are_refused_or_make_a_whole_group),
        cmocka_unit_test (facts_that_are_gone_are_told),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
