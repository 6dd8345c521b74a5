#include "id.h"
#include "error.h"

#include <assert.h>
#include <errno.h>
#include <sys/random.h>

static void random_bytes (void *buffer, size_t len)
{
    /* Up to 256 bytes getrandom gives all or is interrupted before it began; no other failure is left to us. */
    ssize_t got;
    do {
        got = getrandom (buffer, len, 0);
    } while (got < 0 && errno == EINTR);
    assert (got == (ssize_t) len);
}

void id_random (struct fm_id *ret_id)
{
    do {
        random_bytes (ret_id->bytes, ID_LEN);
    } while (id_is_zero (ret_id));
}

uint64_t id_random_u64 (void)
{
    uint64_t v;
    do {
        random_bytes (&v, sizeof v);
    } while (v == 0);
    return v;
}

char *id_text (const struct fm_id *id, char text[ID_TEXT_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < ID_LEN; i++) {
        text[2 * i] = digits[id->bytes[i] >> 4];
        text[2 * i + 1] = digits[id->bytes[i] & 15];
    }
    text[ID_TEXT_LEN] = 0;
    return text;
}

static int hex_digit (char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int id_parse (const char *text, size_t len, struct fm_id *ret_id)
{
    if (len != ID_TEXT_LEN)
        return error_set (FM_ERR_MALFORMED, "id: %zu characters, not 32 hex digits", len);
    struct fm_id id;
    for (size_t i = 0; i < ID_LEN; i++) {
        const int high = hex_digit (text[2 * i]), low = hex_digit (text[2 * i + 1]);
        if (high < 0 || low < 0)
            return error_set (FM_ERR_MALFORMED, "id: no hex digit at character %zu", 2 * i + (high < 0 ? 0 : 1));
        id.bytes[i] = (uint8_t) (high << 4 | low);
    }
    *ret_id = id;
    return 0;
}
