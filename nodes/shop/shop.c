/* shop: see shop.h. */

#include "shop.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

enum { PATH_BYTES = 4096 };

static volatile sig_atomic_t over;

static void on_signal (int number)
{
    (void) number;
    over = 1;
}

bool shop_is_over (void)
{
    return over;
}

static void print_notice (void *arg, const char *id, const char *text)
{
    (void) arg;
    (void) fprintf (stderr, "%s %s\n", id, text);
}

void shop_say (const struct shop *shop, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start (args, format);
    (void) vsnprintf (line, sizeof line, format, args);
    va_end (args);
    (void) printf ("%s: %s\n", shop->name, line);
    (void) fflush (stdout);
}

int shop_open (struct shop *shop, bool publishes)
{
    char path[PATH_BYTES];
    const struct sigaction action = { .sa_handler = on_signal };        /* without SA_RESTART: a wait ends with FM_INTERRUPTED */
    (void) sigaction (SIGTERM, &action, NULL);
    (void) sigaction (SIGINT, &action, NULL);
    const int len = snprintf (path, sizeof path, "%s/%s.stream", shop->dir, shop->name);
    if (len < 0 || (size_t) len >= sizeof path)
        return -ENAMETOOLONG;
    const struct fm_node_options node = { .mesh = shop->mesh, .name = shop->name, .seeds = shop->seeds, .notice = print_notice };
    int rc = fm_node_open (&node, &shop->node);
    /* With a directory the stream outlives the process: a thousand restarts are one stream. */
    const struct fm_publisher_options out = { .name = shop->name, .directory = path };
    if (!rc && publishes)
        rc = fm_publisher_open (shop->node, &out, &shop->out);
    return rc ? rc : fm_node_wait_journal (shop->node, SHOP_OPEN_MS);
}

void shop_close (struct shop *shop)
{
    fm_publisher_close (&shop->out);
    fm_node_close (&shop->node);
}

int shop_work (struct shop *shop, const struct fm_worker_options *options, const struct fm_handler *handler)
{
    struct fm_worker *worker = NULL;
    int rc = fm_worker_open (shop->node, options, &worker);
    if (!rc)
        shop_say (shop, "open");
    while (!rc && !shop_is_over ()) {
        rc = fm_worker_handle (worker, handler, SHOP_SLICE_MS);
        if (rc == FM_TIMEOUT || rc == FM_INTERRUPTED)
            rc = 0;
    }
    fm_worker_close (&worker);
    return rc;
}
