/* A journal's directory with a hostile segment in it: a log that is opened to be read tells what it finds; one that is opened to go on always
 * starts, what it reads twice is the same twice, and it goes on recording.
 *
 * Input: flags, then the segment's bytes from its first record on. Flags: 1 the records are stamped, so that their sums fit (a record's
 * body_len leads to the next); 2 a footer is built of them; 4 its trailer says so many records more; 8 the first record is a snapshot's;
 * 16 a second, empty segment follows; 32 the stamped records' offsets follow one another. Without 1 the bytes stay as they are.
 *
 * Only a writer with our salts can make sums fit and offsets lie: then nothing may break, but what is read is not asked to make sense. */

#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "../support/log_kit.h"
#include "checksum.h"
#include "cookie.h"
#include "error.h"
#include "record.h"
#include "segment.h"
#include "segment_index.h"

enum { STAMP = 1, SEAL = 2, LIE = 4, SNAPSHOT = 8, FOLLOWED = 16, ORDERED = 32, ITEMS_MAX = 100000 };

static struct segment_header header_of (uint64_t number, uint64_t base_offset)
{
    struct segment_header h = { .generation = 1, .number = number, .base_offset = base_offset, .created_ns = 1000, .snapshot_end = SEGMENT_RECORDS_POS,
                                .first_number = 1, .mesh = "test" };
    memset (h.journal.bytes, 'J', ID_LEN);
    memset (h.salt, (int) ('a' + number), sizeof h.salt);
    return h;
}

/* Walk the bytes as records, make each fit into what is left and its sums fit it. Returns where the last ends; *ret_next: the offset behind. */
static size_t stamp (uint8_t *p, size_t len, bool ordered, const struct segment_header *h, struct segment_index *index, size_t *ret_first_end, uint64_t *ret_next)
{
    const uint64_t seed = record_seed (h->salt);
    size_t pos = 0;
    *ret_first_end = 0;
    *ret_next = 1;
    while (len - pos >= RECORD_HEADER_LEN) {
        uint8_t *r = p + pos;
        const size_t room = (len - pos - RECORD_HEADER_LEN) & ~(size_t) (RECORD_ALIGN - 1);
        uint32_t body_len = record_peek_body_len (r);
        if (body_len > room)
            body_len = (uint32_t) (body_len % (room + 1));
        bytes_put_u32le (r + 16, body_len);
        const size_t used = RECORD_HEADER_LEN + body_len, record_end = (size_t) record_len (body_len);
        memset (r + used, 0, record_end - used);
        const uint64_t at = SEGMENT_RECORDS_POS + pos;
        if (ordered)
            bytes_put_u64le (r + 24, *ret_next);
        record_stamp (r, seed, at, (uint64_t) bytes_get_u32le (r + 40) % (at / RECORD_ALIGN + 1) * RECORD_ALIGN);
        struct record decoded;
        if (record_decode (r, seed, at, &decoded) == 0) {
            if (segment_index_has_room (index))
                (void) segment_index_add (index, &decoded, r + RECORD_HEADER_LEN, at);
            *ret_next = decoded.offset + record_offsets (&decoded);
        }
        pos += record_end;
        if (*ret_first_end == 0)
            *ret_first_end = pos;
    }
    return pos;
}

static void put_file (const char *directory, uint64_t number, const void *bytes, size_t len)
{
    char path[256];
    kit_segment_path (directory, number, path);
    const int fd = open (path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || write (fd, bytes, len) != (ssize_t) len || close (fd) != 0)
        abort ();
}

static size_t build (const uint8_t *data, size_t size, uint8_t flags, uint8_t *file, const char *directory)
{
    struct segment_header h = header_of (1, 1);
    static struct segment_index *index;
    size_t first_end = 0, len = size;
    uint64_t next_offset = 1;
    uint8_t *records = file + SEGMENT_RECORDS_POS;
    if (!index && segment_index_new (&index) != 0)
        abort ();
    segment_index_reset (index);
    if (size)
        memcpy (records, data, size);
    if (flags & STAMP)
        len = stamp (records, size, flags & ORDERED, &h, index, &first_end, &next_offset);
    if (flags & SNAPSHOT)
        h.snapshot_end += first_end;
    segment_header_encode (&h, file);
    segment_header_encode (&h, file + SEGMENT_HEADER_COPY_POS);
    size_t total = SEGMENT_RECORDS_POS + len;
    void *footer;
    size_t footer_len;
    if ((flags & SEAL) && segment_index_encode (index, &h, total, &footer, &footer_len) == 0) {
        uint8_t *trailer = (uint8_t *) footer + footer_len - SEGMENT_TRAILER_LEN;
        if (flags & LIE) {
            trailer[40] ^= 0x55;
            bytes_put_u64le (trailer + SEGMENT_TRAILER_LEN - 8, checksum (trailer, SEGMENT_TRAILER_LEN - 8));
        }
        memcpy (file + total, footer, footer_len);
        total += footer_len;
        free (footer);
    }
    put_file (directory, 1, file, total);
    if (flags & FOLLOWED) {
        uint8_t second[SEGMENT_RECORDS_POS] = { 0 };
        struct segment_header h2 = header_of (2, next_offset ? next_offset : 1);
        h2.prior_bytes = total;
        segment_header_encode (&h2, second);
        segment_header_encode (&h2, second + SEGMENT_HEADER_COPY_POS);
        put_file (directory, 2, second, sizeof second);
    }
    return total;
}

/* Read all of it; a sum of what came. */
static uint64_t read_all (struct log *log, bool *ret_good)
{
    struct log_reader *r;
    struct log_item item;
    uint64_t sum = 0, last = 0;
    size_t n = 0;
    int rc;
    *ret_good = false;
    if (log_reader_new (log, &r) != 0)
        return 0;
    if (log_reader_seek_offset (r, 0) == 0 || log_reader_seek_offset (r, 1) == 0) {
        while ((rc = log_reader_next (r, &item)) == 0) {
            assert (++n < ITEMS_MAX && item.offset >= last);
            assert (item.kind == LOG_ITEM_GAP || item.end_seq > item.first_seq);
            last = item.offset;
            sum = checksum_seeded (item.bytes.data, item.bytes.len, sum + item.offset + 3 * item.first_seq + 5 * item.end_seq + 7 * item.kind);
        }
        assert (rc == FM_ERR_END);
        *ret_good = true;
    }
    log_reader_destroy (&r);
    return sum;
}

static void ignore_topic (void *arg, struct fm_slice topic, uint64_t facts)
{
    (void) topic;
    (void) facts;
    (*(unsigned *) arg)++;
}

static void ignore_damage (void *arg, const struct log_damage *d)
{
    (*(unsigned *) arg) += d->what != NULL;
}

static void look (const char *directory, const struct log_options *options)
{
    struct log_options read_only = *options;
    struct log *log;
    struct log_recovery recovery;
    struct log_verify_result verified;
    struct log_segment_info segments[4];
    struct log_stream streams[8];
    size_t count;
    unsigned told = 0;
    bool good, more;
    read_only.read_only = true;
    if (log_open (directory, &read_only, &recovery, &log) != 0)
        return;
    (void) log_verify (log, ignore_damage, NULL, &told, &verified);
    (void) log_segment_list (log, segments, 4, &count);
    (void) log_stream_list (log, NULL, streams, 8, &count);
    (void) log_topic_each (log, 8, ignore_topic, &told, &more);
    (void) read_all (log, &good);
    log_destroy (&log);
}

static void go_on (const char *directory, const struct log_options *options, bool sensible)
{
    struct log *log;
    struct log_recovery recovery;
    struct log_position position;
    bool good, good_again;
    const int rc = log_open (directory, options, &recovery, &log);
    assert (rc == 0);           /* a journal always starts */
    const uint64_t sum = read_all (log, &good);
    char name[CURSOR_NAME_MAX + 1] = "";
    for (unsigned n = 0; log_cursor_next (log, name, name) == 0; n++)
        assert (n < 100000);
    log_position (log, &position);
    log_destroy (&log);
    const int rc_again = log_open (directory, options, &recovery, &log);
    assert (rc_again == 0);
    assert (recovery.torn_bytes == 0);
    assert (read_all (log, &good_again) == sum && good_again == good);
    struct log_stream known;
    const struct fm_id stream = kit_stream (7);
    if (sensible && log_stream_get (log, &stream, &known) == FM_ERR_UNKNOWN) {
        const struct kit_batch_spec spec = { .stream = 7, .first_seq = 1, .count = 2, .payload_len = 10 };
        const uint64_t offset = kit_append_batch (log, &spec);
        assert (offset == position.end_offset);
        kit_sync (log);
        struct log_reader *r;
        struct log_item item;
        assert (log_reader_new (log, &r) == 0 && log_reader_seek_offset (r, offset) == 0);
        const int got = log_reader_next (r, &item);
        assert (got == 0);
        assert (item.offset == offset);
        assert (kit_item_is (&item, &spec));
        log_reader_destroy (&r);
    }
    log_destroy (&log);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    enum { RECORDS_MAX = 1 << 16, FOOTER_MAX = 1 << 20 };
    static uint8_t file[SEGMENT_RECORDS_POS + RECORDS_MAX + FOOTER_MAX];
    struct fuzz_input in = { data, size };
    const uint8_t flags = fuzz_u8 (&in);
    if (in.left > RECORDS_MAX)
        return 0;
    char directory[128], segments[160];
    const struct log_options options = { .segment_bytes = LOG_SEGMENT_BYTES_MIN, .buffer_bytes = LOG_BUFFER_BYTES_MIN, .streams_max = 64, .cursors_max = 64 };
    struct cookie cookie = { .generation = 1, .created_ns = 1000, .mesh = "test" };
    memset (cookie.journal.bytes, 'J', ID_LEN);
    memset (file, 0, sizeof file);
    kit_directory (directory);
    (void) snprintf (segments, sizeof segments, "%s/segments", directory);
    const int dir = fs_real.open_dir (NULL, directory, false);
    if (dir < 0 || fs_real.mkdir (NULL, dir, "segments") < 0 || cookie_write (&fs_real, dir, &cookie) != 0)
        abort ();
    (void) fs_real.close (NULL, dir);
    (void) build (in.p, in.left, flags, file, directory);
    look (directory, &options);
    go_on (directory, &options, !(flags & STAMP) || (flags & ORDERED));
    kit_remove (directory);
    return 0;
}
