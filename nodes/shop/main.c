/* factmesh-shop: the services of the shop, one process each. */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "shop.h"

static const char help[] =
    "usage: factmesh-shop SERVICE DIR [OPTION…]\n"
    "A shop of services that know each other by their facts alone. Each keeps its own files in DIR.\n\n"
    "  orders DIR [FILE]        takes in the order lines of FILE (CSV), and tells of each order\n"
    "  fulfilment DIR           sends each order once; start as many as you like, each with its own --name\n"
    "  email DIR                confirms each order and each correction of it, in DIR/mbox\n"
    "  invoices DIR             writes an invoice for each\n"
    "  stock DIR                answers stock queries\n"
    "  audit DIR                keeps the ledger\n"
    "  report DIR               turnover by country\n\n"
    "  correct DIR ORDER EMAIL  an order gets another address\n"
    "  ask DIR CODE             a stock query; 3: no answer in time\n"
    "  generate [ORDERS [SEED]] order lines, for who has none\n\n"
    "  -s, --seed ADDR          where the mesh is [FACTMESH_SEED; found by UDP broadcast]\n"
    "      --mesh NAME          which one [FACTMESH_MESH, \"default\"]\n"
    "      --name NAME          of this process [SERVICE]\n"
    "      --rate N             orders: so many a second [as fast as it goes]\n"
    "      --pick-ms N          fulfilment: what a parcel takes [0]\n"
    "      --timeout-ms N       ask: for an answer [1000]\n";

enum { STATUS_ERROR = 1, STATUS_USAGE = 2, STATUS_TIMEOUT = 3, ASK_MS = 1000 };

static const struct service {
    const char *name;
    int (*run) (struct shop *shop);
    bool has_directory;
} services[] = {
    { "orders", orders_run, true }, { "fulfilment", fulfilment_run, true }, { "email", email_run, true },   { "invoices", invoices_run, true },
    { "stock", stock_run, true },   { "audit", audit_run, true },           { "report", report_run, true }, { "correct", correct_run, true },
    { "ask", ask_run, true },       { "generate", generate_run, false },
};

static const struct service *find (const char *name)
{
    for (size_t i = 0; name && i < sizeof services / sizeof *services; i++)
        if (strcmp (services[i].name, name) == 0)
            return &services[i];
    return NULL;
}

static unsigned number (const char *text)
{
    char *end;
    const unsigned long n = strtoul (text, &end, 10);
    if (end == text || *end || *text == '-' || n > INT32_MAX) {
        (void) fprintf (stderr, "factmesh-shop: %s is not a number that fits here\n", text);
        exit (STATUS_USAGE);
    }
    return (unsigned) n;
}

static const char *environment (const char *name)
{
    const char *value = getenv (name);
    return value && *value ? value : NULL;
}

static void parse_options (struct shop *shop, int argc, char **argv)
{
    enum { MESH = 256, NAME, RATE, PICK, TIMEOUT };
    static const struct option options[] = { { "seed", 1, NULL, 's' },      { "mesh", 1, NULL, MESH },    { "name", 1, NULL, NAME }, { "rate", 1, NULL, RATE },
                                             { "pick-ms", 1, NULL, PICK }, { "timeout-ms", 1, NULL, TIMEOUT }, { "help", 0, NULL, 'h' }, { NULL, 0, NULL, 0 } };
    int c;
    while ((c = getopt_long (argc, argv, "s:h", options, NULL)) != -1) {
        switch (c) {
        case 's': shop->seeds = optarg; break;
        case MESH: shop->mesh = optarg; break;
        case NAME: shop->name = optarg; break;
        case RATE: shop->rate = number (optarg); break;
        case PICK: shop->pick_ms = number (optarg); break;
        case TIMEOUT: shop->timeout_ms = (int) number (optarg); break;
        case 'h': (void) fputs (help, stdout); exit (0);
        default: exit (STATUS_USAGE);
        }
    }
}

int main (int argc, char **argv)
{
    struct shop shop = { .seeds = environment ("FACTMESH_SEED"), .mesh = environment ("FACTMESH_MESH"), .timeout_ms = ASK_MS };
    parse_options (&shop, argc, argv);
    const struct service *service = find (argv[optind]);
    if (!service || (service->has_directory && optind + 1 >= argc)) {
        (void) fputs (help, stderr);
        return STATUS_USAGE;
    }
    const char *const *rest = (const char *const *) argv + optind + 1;
    if (service->has_directory)
        shop.dir = *rest++;
    shop.first = rest[0];
    shop.second = rest[0] ? rest[1] : NULL;
    shop.name = shop.name ? shop.name : service->name;
    const int rc = service->run (&shop);
    if (rc == 0 || (rc == FM_INTERRUPTED && shop_is_over ()))   /* told to end while it opened */
        return 0;
    (void) fm_perror (shop.name, rc);
    return rc == FM_TIMEOUT ? STATUS_TIMEOUT : STATUS_ERROR;
}
