#include "mailbox.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"

void mailbox_init (struct mailbox *box)
{
    pthread_mutex_init (&box->lock, NULL);
    box->first = NULL;
    box->end = &box->first;
    box->count = 0;
    box->bytes = 0;
}

void mailbox_release (struct mailbox *box)
{
    struct mail *mail;
    while ((mail = mailbox_take (box)) != NULL)
        mail_destroy (&mail);
    pthread_mutex_destroy (&box->lock);
}

static bool append (struct mailbox *box, struct mail *mail)
{
    pthread_mutex_lock (&box->lock);
    /* A message that is larger than all may be is taken alone. */
    const bool fits = !mail->control || (box->count < MAILBOX_MAX && (!box->bytes || (box->bytes < MAILBOX_BYTES_MAX && mail->bytes <= MAILBOX_BYTES_MAX - box->bytes)));
    if (fits) {
        *box->end = mail;
        box->end = &mail->next;
        box->count++;
        box->bytes += mail->bytes;
    }
    pthread_mutex_unlock (&box->lock);
    return fits;
}

/* The message is the caller's: it is packed and unpacked, once for each request. */
static Factmesh__Control *copy (const Factmesh__Control *control, size_t *ret_len)
{
    const size_t len = *ret_len = factmesh__control__get_packed_size (control);
    uint8_t *bytes = malloc (len ? len : 1);
    if (!bytes)
        return NULL;
    (void) factmesh__control__pack (control, bytes);    /* as long as it said */
    Factmesh__Control *again = factmesh__control__unpack (NULL, len, bytes);
    free (bytes);
    return again;
}

int mailbox_put (struct mailbox *box, const struct node_route *from, const Factmesh__Control *control)
{
    struct mail *mail = calloc (1, sizeof *mail);
    if (mail)
        mail->control = copy (control, &mail->bytes);
    if (!mail || !mail->control) {
        free (mail);
        return -ENOMEM;
    }
    mail->from = *from;
    if (append (box, mail))
        return 0;
    mail_destroy (&mail);
    return error_set (FM_ERR_LIMIT, "too many requests are waiting; ask again later");
}

void mailbox_put_down (struct mailbox *box, const struct fm_id *node, bool said_goodbye)
{
    struct mail *mail = calloc (1, sizeof *mail);
    if (!mail)
        return;                         /* what it held comes back when its leases run out */
    mail->node_down = *node;
    mail->said_goodbye = said_goodbye;
    (void) append (box, mail);          /* news always fit */
}

struct mail *mailbox_take (struct mailbox *box)
{
    pthread_mutex_lock (&box->lock);
    struct mail *mail = box->first;
    if (mail) {
        box->first = mail->next;
        if (!box->first)
            box->end = &box->first;
        box->count--;
        box->bytes -= mail->bytes;
    }
    pthread_mutex_unlock (&box->lock);
    return mail;
}

void mail_destroy (struct mail **mail)
{
    struct mail *m = *mail;
    *mail = NULL;
    if (m->control)
        factmesh__control__free_unpacked (m->control, NULL);
    free (m);
}
