/* Addresses: what is accepted comes back from its text the same. */

#include "fuzz.h"

#include "address.h"

static void check (struct fm_slice text, enum address_use use)
{
    struct address a, again;
    char out[ADDRESS_TEXT_MAX];
    if (address_parse (text, use, &a) != 0)
        return;
    assert (address_parse (slice_of (address_text (&a, out)), use, &again) == 0);
    assert (again.kind == a.kind && again.port == a.port && again.v6 == a.v6);
    assert (a.kind == ADDRESS_TCP ? strcmp (a.host, again.host) == 0 : strcmp (a.path, again.path) == 0);
    assert (use == ADDRESS_TO_BIND || a.kind == ADDRESS_IPC || (a.port != 0 && strcmp (a.host, "*") != 0));
    assert (address_same_host (&a, &again) && address_is_local (&a) == address_is_local (&again));
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    check (slice (data, size), ADDRESS_TO_CONNECT);
    check (slice (data, size), ADDRESS_TO_BIND);
    char *text = malloc (size + 1);
    memcpy (text, data, size);
    text[size] = 0;
    struct fm_slice item;
    size_t n = 0;
    for (const char *list = text; address_list_next (&list, &item); n++) {
        assert (n <= size && fuzz_within (item, (const uint8_t *) text, size));
        check (item, ADDRESS_TO_CONNECT);
    }
    free (text);
    return 0;
}
