/* publisher: the inside of one stream's source. See publisher.c for the locks and the life of a fact. */

#ifndef FM_NODES_PUBLISHER_H
#define FM_NODES_PUBLISHER_H

#include "node.h"

#endif
