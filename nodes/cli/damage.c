/* damage: see damage.h. */

#include "damage.h"

#include <stdio.h>

#include "id.h"
#include "text.h"

typedef unsigned long long ull; /* for printf */

static void print_json (const struct log_damage *d, const char *stream)
{
    struct text t = { 0 };
    text_put_byte (&t, '{');
    text_put_json_member (&t, "file", slice_of (d->path));
    text_put_byte (&t, ',');
    text_put_json_member (&t, "what", slice_of (d->what));
    text_put_byte (&t, 0);
    /* With no memory for the texts the numbers still tell where it is. */
    (void) printf (
            "%s,\"segment\":%llu,\"end_segment\":%llu,\"first_pos\":%llu,\"end_pos\":%llu,\"first_offset\":%llu,"
            "\"end_offset\":%llu,\"stream\":\"%s\",\"first_seq\":%llu,\"end_seq\":%llu}\n",
            t.failed ? "{\"file\":null,\"what\":null" : (const char *) t.data, (ull) d->segment, (ull) d->end_segment, (ull) d->first_pos, (ull) d->end_pos,
            (ull) d->first_offset, (ull) d->end_offset, stream, (ull) d->first_seq, (ull) d->end_seq);
    text_release (&t);
}

void damage_print (const struct log_damage *d, bool json)
{
    char stream[ID_TEXT_LEN + 1] = "";
    if (!id_is_zero (&d->stream))
        id_text (&d->stream, stream);
    if (json) {
        print_json (d, stream);
        return;
    }
    (void) printf ("%s: ", d->path);
    if (d->end_segment > d->segment + 1)
        (void) printf ("segments %llu to %llu: ", (ull) d->segment, (ull) (d->end_segment - 1));
    else if (d->end_pos > d->first_pos)
        (void) printf ("bytes %llu to %llu: ", (ull) d->first_pos, (ull) d->end_pos);
    (void) printf ("%s", d->what);
    if (d->end_offset > d->first_offset)
        (void) printf ("; offsets %llu to %llu", (ull) d->first_offset, (ull) (d->end_offset - 1));
    if (*stream)
        (void) printf ("; stream %s, facts %llu to %llu", stream, (ull) d->first_seq,
                       (ull) (d->end_seq ? d->end_seq - 1 : 0));
    (void) putchar ('\n');
}
