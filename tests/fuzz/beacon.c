/* A datagram that anybody on the network may send. */

#include "fuzz.h"

#include "beacon.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    const struct fm_id self = { .bytes = "0123456789abcde" };
    struct peer_info *info = NULL;
    if (beacon_decode (slice (data, size), "192.0.2.1", slice_of ("test"), &self, &info) != 0)
        return 0;
    assert (info->control_count == 1 && !id_equal (&info->node, &self));
    free (info);
    return 0;
}
