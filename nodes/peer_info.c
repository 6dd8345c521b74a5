/* peer_info: see peer_info.h. */

#include "peer_info.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "error.h"

static size_t text_bytes (char *const *addresses, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += strlen (addresses[i]) + 1;
    return bytes;
}

/* Copy those that can be connected to; returns how many. */
static unsigned take_addresses (char *const *from, size_t count, char **ret_to, char **text)
{
    unsigned taken = 0;
    for (size_t i = 0; i < count; i++) {
        struct address a;
        const size_t len = strlen (from[i]);
        if (address_parse (slice (from[i], len), ADDRESS_TO_CONNECT, &a) != 0)
            continue;       /* of a newer minor version, perhaps */
        memcpy (*text, from[i], len + 1);
        ret_to[taken++] = *text;
        *text += len + 1;
    }
    return taken;
}

static void take_name (const ProtobufCBinaryData *name, char ret_name[NODE_NAME_MAX + 1])
{
    size_t len = name->len;
    memcpy (ret_name, name->data, len);
    ret_name[len] = 0;
    /* It is printed: nothing that moves a terminal's cursor. */
    for (char *c = ret_name; *c; c++) {
        if ((unsigned char) *c < 0x20 || *c == 0x7f)
            *c = '?';
    }
}

int peer_info_read (const Factmesh__NodeInfo *message, struct peer_info **ret_info)
{
    if (message->node.len != ID_LEN)
        return error_set (FM_ERR_MALFORMED, "node info: a node id of %zu bytes", message->node.len);
    if (message->name.len > NODE_NAME_MAX || message->n_live > ADDRESSES_MAX || message->n_control > ADDRESSES_MAX)
        return error_set (FM_ERR_MALFORMED, "node info: a name of %zu bytes, %zu live and %zu control addresses; at most %d, %d, %d",
                          message->name.len, message->n_live, message->n_control, NODE_NAME_MAX, ADDRESSES_MAX, ADDRESSES_MAX);
    struct peer_info *info = calloc (1, sizeof *info + text_bytes (message->live, message->n_live) +
                                            text_bytes (message->control, message->n_control));
    if (!info)
        return -ENOMEM;
    char *text = info->text;
    memcpy (info->node.bytes, message->node.data, ID_LEN);
    if (message->name.len)
        take_name (&message->name, info->name);
    info->live_count = take_addresses (message->live, message->n_live, info->live, &text);
    info->control_count = take_addresses (message->control, message->n_control, info->control, &text);
    info->started_ns = message->started_ns;
    info->version = message->info_version;
    info->streams = (unsigned) message->n_streams;
    if (message->journal && message->journal->journal.len == ID_LEN) {
        info->is_journal = true;
        memcpy (info->journal.bytes, message->journal->journal.data, ID_LEN);
        info->generation = message->journal->generation;
    }
    if (id_is_zero (&info->node) || info->control_count == 0) {
        free (info);
        return error_set (FM_ERR_MALFORMED, "node info: no id, or no control address that can be used");
    }
    *ret_info = info;
    return 0;
}

void peer_info_write (const struct peer_info *info, Factmesh__NodeInfo *ret_message, Factmesh__JournalInfo *journal)
{
    Factmesh__NodeInfo message = FACTMESH__NODE_INFO__INIT;
    message.node = control_put_id (&info->node);
    message.name = control_put_slice (slice_of (info->name));
    message.n_live = info->live_count;
    message.live = (char **) (uintptr_t) info->live;
    message.n_control = info->control_count;
    message.control = (char **) (uintptr_t) info->control;
    message.started_ns = info->started_ns;
    message.info_version = info->version;
    message.major = PROTO_MAJOR;
    message.minor = PROTO_MINOR;
    message.software = control_put_slice (slice_of ("factmesh " FM_VERSION));
    if (info->is_journal) {
        factmesh__journal_info__init (journal);
        journal->journal = control_put_id (&info->journal);
        journal->generation = info->generation;
        message.journal = journal;
    }
    *ret_message = message;
}

bool peer_info_live (const struct peer_info *info, const char *answered, char ret_live[ADDRESS_TEXT_MAX])
{
    struct address control, live;
    if (info->live_count == 0)
        return false;
    if (address_parse (slice_of (answered), ADDRESS_TO_CONNECT, &control) == 0) {
        for (unsigned i = 0; i < info->live_count; i++) {
            if (address_parse (slice_of (info->live[i]), ADDRESS_TO_CONNECT, &live) == 0 && address_same_host (&control, &live)) {
                address_text (&live, ret_live);
                return true;
            }
        }
        if (control.kind == ADDRESS_TCP && address_parse (slice_of (info->live[0]), ADDRESS_TO_CONNECT, &live) == 0 &&
            live.kind == ADDRESS_TCP) {
            control.port = live.port;
            address_text (&control, ret_live);
            return true;
        }
    }
    memcpy (ret_live, info->live[0], strlen (info->live[0]) + 1);
    return true;
}

static bool same_list (unsigned count, char *const *a, unsigned b_count, char *const *b)
{
    if (count != b_count)
        return false;
    for (unsigned i = 0; i < count; i++) {
        if (strcmp (a[i], b[i]) != 0)
            return false;
    }
    return true;
}

bool peer_info_same (const struct peer_info *a, const struct peer_info *b)
{
    return strcmp (a->name, b->name) == 0 && a->is_journal == b->is_journal && id_equal (&a->journal, &b->journal) &&
           a->generation == b->generation && same_list (a->live_count, a->live, b->live_count, b->live) &&
           same_list (a->control_count, a->control, b->control_count, b->control);
}
