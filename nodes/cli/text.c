/* text: see text.h. */

#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_FIRST = 4096 };

void text_release (struct text *t)
{
    free (t->data);
    *t = (struct text){ 0 };
}

bool text_reserve (struct text *t, size_t n)
{
    if (t->failed)
        return false;
    if (n <= t->size - t->len)
        return true;
    size_t size = t->size ? t->size : TEXT_FIRST;
    while (size - t->len < n) {
        if (size > SIZE_MAX / 2) {
            t->failed = true;
            return false;
        }
        size *= 2;
    }
    uint8_t *data = realloc (t->data, size);
    if (!data) {
        t->failed = true;
        return false;
    }
    t->data = data;
    t->size = size;
    return true;
}

void text_put (struct text *t, struct fm_slice bytes)
{
    if (bytes.len == 0 || !text_reserve (t, bytes.len))
        return;
    memcpy (t->data + t->len, bytes.data, bytes.len);
    t->len += bytes.len;
}

void text_put_byte (struct text *t, uint8_t byte)
{
    if (text_reserve (t, 1))
        t->data[t->len++] = byte;
}

void text_put_cstr (struct text *t, const char *s)
{
    text_put (t, slice_of (s));
}

void text_put_printable (struct text *t, struct fm_slice bytes)
{
    const uint8_t *const p = bytes.data;
    for (size_t i = 0; i < bytes.len; i++)
        text_put_byte (t, p[i] < 0x20 || p[i] == 0x7F ? '?' : p[i]);
}

void text_put_u64 (struct text *t, uint64_t v)
{
    char digits[20];
    size_t pos = sizeof digits;
    do {
        digits[--pos] = (char) ('0' + v % 10);
        v /= 10;
    } while (v);
    text_put (t, slice (digits + pos, sizeof digits - pos));
}

void text_format (struct text *t, const char *format, ...)
{
    va_list args, again;
    va_start (args, format);
    va_copy (again, args);
    const int len = vsnprintf (NULL, 0, format, args);
    if (len >= 0 && text_reserve (t, (size_t) len + 1)) {
        (void) vsnprintf ((char *) t->data + t->len, (size_t) len + 1, format, again);
        t->len += (size_t) len; /* the NUL behind is not ours */
    } else {
        t->failed = true;
    }
    va_end (again);
    va_end (args);
}

/* What a byte becomes in a JSON string: 0 itself, 'u' \u00XX, else a backslash and this letter. */
static const char json_escape[256] = {
    [0] = 'u',  [1] = 'u',    [2] = 'u',    [3] = 'u',    [4] = 'u',   [5] = 'u',     [6] = 'u',
    [7] = 'u',  ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', [11] = 'u',  ['\f'] = 'f',  ['\r'] = 'r',
    [14] = 'u', [15] = 'u',   [16] = 'u',   [17] = 'u',   [18] = 'u',  [19] = 'u',    [20] = 'u',
    [21] = 'u', [22] = 'u',   [23] = 'u',   [24] = 'u',   [25] = 'u',  [26] = 'u',    [27] = 'u',
    [28] = 'u', [29] = 'u',   [30] = 'u',   [31] = 'u',   ['"'] = '"', ['\\'] = '\\', [127] = 'u',
};

void text_put_json (struct text *t, struct fm_slice utf8)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = utf8.data, *const end = p + utf8.len;
    text_put_byte (t, '"');
    while (p < end) {
        /* Runs that need no escape are copied whole. */
        const uint8_t *run = p;
        while (p < end && !json_escape[*p])
            p++;
        text_put (t, slice (run, (size_t) (p - run)));
        if (p == end)
            break;
        const char letter = json_escape[*p];
        if (letter == 'u') {
            const char escape[] = { '\\', 'u', '0', '0', hex[*p >> 4], hex[*p & 15] };
            text_put (t, slice (escape, sizeof escape));
        } else {
            const char escape[] = { '\\', letter };
            text_put (t, slice (escape, sizeof escape));
        }
        p++;
    }
    text_put_byte (t, '"');
}

void text_put_json_member (struct text *t, const char *name, struct fm_slice bytes)
{
    const bool utf8 = text_is_utf8 (bytes, NULL);
    text_put_byte (t, '"');
    text_put_cstr (t, name);
    text_put_cstr (t, utf8 ? "\":" : "_base64\":");
    if (utf8) {
        text_put_json (t, bytes);
        return;
    }
    text_put_byte (t, '"');
    text_put_base64 (t, bytes);
    text_put_byte (t, '"');
}

void text_put_base64 (struct text *t, struct fm_slice bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (!text_reserve (t, (bytes.len / 3 + 1) * 4))
        return;
    const uint8_t *p = bytes.data;
    uint8_t *out = t->data + t->len;
    size_t left = bytes.len;
    for (; left >= 3; left -= 3, p += 3) {
        const uint32_t v = (uint32_t) p[0] << 16 | (uint32_t) p[1] << 8 | p[2];
        for (unsigned shift = 24; shift;)
            *out++ = (uint8_t) digits[v >> (shift -= 6) & 63];
    }
    if (left) {
        const uint32_t v = (uint32_t) p[0] << 16 | (left > 1 ? (uint32_t) p[1] << 8 : 0);
        *out++ = (uint8_t) digits[v >> 18];
        *out++ = (uint8_t) digits[v >> 12 & 63];
        *out++ = left > 1 ? (uint8_t) digits[v >> 6 & 63] : '=';
        *out++ = '=';
    }
    t->len = (size_t) (out - t->data);
}

/* The length of the well-formed sequence at p (its first byte is above 0x7F), or 0. Unicode, table 3-7. */
static size_t utf8_sequence (const uint8_t *p, size_t left)
{
    uint8_t low = 0x80, high = 0xBF;
    size_t len;
    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        len = 2;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        len = 3;
        if (p[0] == 0xE0)
            low = 0xA0;
        else if (p[0] == 0xED)
            high = 0x9F;
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        len = 4;
        if (p[0] == 0xF0)
            low = 0x90;
        else if (p[0] == 0xF4)
            high = 0x8F;
    } else {
        return 0;
    }
    if (left < len || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (p[i] < 0x80 || p[i] > 0xBF)
            return 0;
    return len;
}

bool text_is_utf8 (struct fm_slice bytes, size_t *ret_fault)
{
    const uint8_t *const data = bytes.data;
    size_t pos = 0;
    while (pos < bytes.len) {
        uint64_t eight;
        if (bytes.len - pos >= sizeof eight) {
            memcpy (&eight, data + pos, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                pos += sizeof eight;
                continue;
            }
        }
        if (data[pos] < 0x80) {
            pos++;
            continue;
        }
        const size_t len = utf8_sequence (data + pos, bytes.len - pos);
        if (!len) {
            if (ret_fault)
                *ret_fault = pos;
            return false;
        }
        pos += len;
    }
    return true;
}

char *text_grouped (uint64_t v, char out[TEXT_GROUPED])
{
    char digits[21];
    const int count = snprintf (digits, sizeof digits, "%llu", (unsigned long long) v);
    char *p = out;
    for (int i = 0; i < count; i++) {
        if (i && (count - i) % 3 == 0)
            *p++ = ',';
        *p++ = digits[i];
    }
    *p = 0;
    return out;
}
