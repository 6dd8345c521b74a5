/* batch_duplicates: for batch_decode.c alone; the rest of batch_duplicates.c is in batch.h. */

#ifndef FM_PROTO_BATCH_DUPLICATES_H
#define FM_PROTO_BATCH_DUPLICATES_H

#include "bytes.h"

/* Are these the bytes of duplicates in the order of their sequences? 0, or FM_ERR_MALFORMED with a detail. */
int batch_duplicates_check (struct fm_slice bytes);

#endif
