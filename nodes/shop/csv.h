/* csv: records of comma-separated text (RFC 4180), taken apart in place. */

#ifndef SHOP_CSV_H
#define SHOP_CSV_H

#include <stddef.h>

/* Take the record at *text apart: its fields are unquoted and ended with NUL where they stand, and *text moves behind it; *line counts the lines.
 * Empty lines are passed over. FM_ERR_END: there is none; FM_ERR_MALFORMED: not so many fields, or a quote that does not end. */
int csv_next (char **text, unsigned *line, char **fields, size_t count);

#endif
