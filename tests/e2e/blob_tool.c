/* blob_tool: large contents that can be checked without keeping them, and facts that point to blobs, by the public API alone.
 *
 *     blob_tool pattern SIZE SEED                     the bytes on standard output
 *     blob_tool check SIZE SEED                       standard input is these bytes, and no others
 *     blob_tool put --seed A SIZE SEED                the same through fm_blob_put; prints the digest and its own peak of memory
 *     blob_tool get --seed A DIGEST SIZE SEED         fetches and checks; prints its peak of memory
 *     blob_tool publish --seed A TOPIC COUNT SIZE SEED    COUNT facts, published with fm_publish_large; prints the digest of each ("-": in the fact)
 *     blob_tool point --seed A TOPIC DIGEST SIZE      one fact that points to a blob
 *     blob_tool take --seed A TOPIC COUNT SEED        takes COUNT facts from the start, each with its whole payload, and checks them */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "factmesh.h"

enum { PIECE = 1 << 16, PAYLOAD_MAX = 64 << 20, WAIT_MS = 30000 };

/* Any 8 bytes follow from seed and place: so a piece can be made, and checked, by itself. */
static uint64_t word_at (uint64_t seed, uint64_t place)
{
    uint64_t x = seed * UINT64_C (0x9E3779B97F4A7C15) + place + 1;
    x = (x ^ x >> 30) * UINT64_C (0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C (0x94D049BB133111EB);
    return x ^ x >> 31;
}

static void make (uint64_t seed, uint64_t position, uint8_t *to, size_t len)
{
    while (len) {
        const uint64_t word = word_at (seed, position / 8);
        const size_t skip = position % 8, n = 8 - skip < len ? 8 - skip : len;
        memcpy (to, (const uint8_t *) &word + skip, n);
        to += n;
        position += n;
        len -= n;
    }
}

struct pattern {
    uint64_t seed, size, position;
    int bad;
};

static int read_pattern (void *arg, void *buffer, size_t size, size_t *ret_len)
{
    struct pattern *p = arg;
    *ret_len = p->size - p->position < size ? (size_t) (p->size - p->position) : size;
    make (p->seed, p->position, buffer, *ret_len);
    p->position += *ret_len;
    return 0;
}

static int check_pattern (void *arg, const void *data, size_t len)
{
    static uint8_t piece[PIECE];
    struct pattern *p = arg;
    const uint8_t *at = data;
    while (len) {
        const size_t n = len < PIECE ? len : PIECE;
        make (p->seed, p->position, piece, n);
        if (p->size - p->position < n || memcmp (piece, at, n) != 0) {
            fprintf (stderr, "blob_tool: wrong bytes between %llu and %llu\n", (unsigned long long) p->position, (unsigned long long) (p->position + n));
            p->bad = 1;
            return -EIO;
        }
        p->position += n;
        at += n;
        len -= n;
    }
    return 0;
}

static int fail (const char *what, int rc)
{
    fm_perror (what, rc);
    return 1;
}

static int all_of (const struct pattern *p)
{
    if (p->position == p->size)
        return 0;
    fprintf (stderr, "blob_tool: %llu bytes, not %llu\n", (unsigned long long) p->position, (unsigned long long) p->size);
    return 1;
}

static int write_pattern (struct pattern *p)
{
    static uint8_t piece[PIECE];
    size_t len;
    while (read_pattern (p, piece, sizeof piece, &len) == 0 && len)
        if (fwrite (piece, 1, len, stdout) != len)
            return 1;
    return fflush (stdout) != 0;
}

static int check_input (struct pattern *p)
{
    static uint8_t piece[PIECE];
    size_t n;
    while ((n = fread (piece, 1, sizeof piece, stdin)) > 0)
        if (check_pattern (p, piece, n) != 0)
            return 1;
    return all_of (p);
}

static unsigned long peak_kib (void)
{
    char line[128];
    unsigned long kib = 0;
    FILE *file = fopen ("/proc/self/status", "r");
    while (file && fgets (line, sizeof line, file))
        (void) sscanf (line, "VmHWM: %lu", &kib);
    if (file)
        fclose (file);
    return kib;
}

static int put (struct fm_node *node, struct pattern *p)
{
    struct fm_blob blob;
    char text[FM_BLOB_TEXT];
    const int rc = fm_blob_put (node, read_pattern, p, &(struct fm_blob_options) { .media_type = "application/x-pattern" }, &blob);
    if (rc)
        return fail ("put", rc);
    printf ("%s %llu peak_kib=%lu\n", fm_blob_text (blob.sha256, text), (unsigned long long) blob.size, peak_kib ());
    return all_of (p);
}

static int get (struct fm_node *node, const char *name, struct pattern *p)
{
    uint8_t digest[32];
    struct fm_blob_info info;
    int rc = fm_blob_parse (name, digest);
    if (!rc)
        rc = fm_blob_get (node, digest, check_pattern, p, NULL, &info);
    if (rc)
        return fail ("get", rc);
    printf ("%llu peak_kib=%lu\n", (unsigned long long) info.blob.size, peak_kib ());
    return all_of (p);
}

static int publish (struct fm_node *node, const char *topic, unsigned count, struct pattern p)
{
    struct fm_publisher *out = NULL;
    uint8_t *payload = malloc (p.size + count);
    int rc = payload ? fm_publisher_open (node, NULL, &out) : -ENOMEM;
    for (unsigned i = 0; !rc && i < count; i++) {
        const size_t size = (size_t) p.size + i;
        char text[FM_BLOB_TEXT] = "-";
        struct fm_fact_id id;
        make (p.seed + i, 0, payload, size);
        rc = fm_publish_large (out, &(struct fm_fact) { .topic = fm_text (topic), .payload = { payload, size }, .content_type = fm_text ("application/x-pattern") }, 0, NULL, &id);
        printf ("%u %s\n", i, text);
    }
    if (!rc)
        rc = fm_publisher_wait_synced (out, 0, WAIT_MS);
    fm_publisher_close (&out);
    free (payload);
    return rc ? fail ("publish", rc) : 0;
}

static int point (struct fm_node *node, const char *topic, const char *name, uint64_t size)
{
    struct fm_publisher *out = NULL;
    struct fm_blob blob = { .size = size };
    uint8_t buffer[FM_BLOB_REF];
    struct fm_fact fact = { .topic = fm_text (topic) };
    int rc = fm_blob_parse (name, blob.sha256);
    if (!rc)
        rc = fm_blob_ref (&blob, buffer, sizeof buffer, &fact.blob);
    if (!rc)
        rc = fm_publisher_open (node, NULL, &out);
    if (!rc)
        rc = fm_publish (out, &fact, NULL);
    if (!rc)
        rc = fm_publisher_wait_synced (out, 0, WAIT_MS);
    fm_publisher_close (&out);
    return rc ? fail ("point", rc) : 0;
}

static int take (struct fm_node *node, const char *topic, unsigned count, uint64_t seed)
{
    struct fm_subscription *in = NULL;
    unsigned n = 0;
    int rc = fm_subscription_open (node, &(struct fm_subscription_options) { .topics = (const char *const[]) { topic, NULL }, .from = FM_FROM_START }, &in);
    while (!rc && n < count) {
        struct fm_event e;
        void *buffer = NULL;
        struct fm_slice payload;
        rc = fm_subscription_next (in, WAIT_MS, &e);
        if (rc || e.kind != FM_EVENT_FACT)
            continue;
        rc = fm_fact_payload (node, &e.fact, PAYLOAD_MAX, NULL, &buffer, &payload);
        if (rc)
            break;
        struct pattern p = { .seed = seed + n, .size = payload.len };
        if (check_pattern (&p, payload.data, payload.len) != 0)
            rc = -EIO;
        printf ("%u %zu %s\n", n, payload.len, buffer ? "blob" : "fact");
        free (buffer);
        n++;
    }
    fm_subscription_close (&in);
    return rc ? fail ("take", rc) : 0;
}

static uint64_t number (const char *text)
{
    return strtoull (text, NULL, 10);
}

int main (int argc, char **argv)
{
    if (argc == 4 && strcmp (argv[1], "pattern") == 0)
        return write_pattern (&(struct pattern) { .size = number (argv[2]), .seed = number (argv[3]) });
    if (argc == 4 && strcmp (argv[1], "check") == 0)
        return check_input (&(struct pattern) { .size = number (argv[2]), .seed = number (argv[3]) });
    if (argc < 6 || strcmp (argv[2], "--seed") != 0)
        return 2;
    struct fm_node *node = NULL;
    char **a = argv + 4;
    const int count = argc - 4, rc = fm_node_open (&(struct fm_node_options) { .seeds = argv[3] }, &node);
    int status = 2;
    if (rc)
        return fail ("node", rc);
    if (strcmp (argv[1], "put") == 0 && count == 2)
        status = put (node, &(struct pattern) { .size = number (a[0]), .seed = number (a[1]) });
    else if (strcmp (argv[1], "get") == 0 && count == 3)
        status = get (node, a[0], &(struct pattern) { .size = number (a[1]), .seed = number (a[2]) });
    else if (strcmp (argv[1], "publish") == 0 && count == 4)
        status = publish (node, a[0], (unsigned) number (a[1]), (struct pattern) { .size = number (a[2]), .seed = number (a[3]) });
    else if (strcmp (argv[1], "point") == 0 && count == 3)
        status = point (node, a[0], a[1], number (a[2]));
    else if (strcmp (argv[1], "take") == 0 && count == 3)
        status = take (node, a[0], (unsigned) number (a[1]), number (a[2]));
    fm_node_close (&node);
    return status;
}
