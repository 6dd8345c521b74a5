/* damage: how verify and repair tell of a damaged range. */

#ifndef FM_CLI_DAMAGE_H
#define FM_CLI_DAMAGE_H

#include "log.h"

/* A line on standard output, or a JSON object. */
void damage_print (const struct log_damage *d, bool json);

#endif
