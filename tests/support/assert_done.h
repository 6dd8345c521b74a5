/* assert_done: a call of the library works, or the case fails with what the library says. Behind <cmocka.h>. */

#ifndef FM_TESTS_ASSERT_DONE_H
#define FM_TESTS_ASSERT_DONE_H

#include "error.h"

#define assert_done(call)                                                                          \
    do {                                                                                           \
        const int done_rc = (call);                                                                \
        if (done_rc != 0)                                                                          \
            fail_msg ("%s: %s (%s)", #call, fm_error_text (done_rc), fm_error_detail ());          \
    } while (0)

#endif
