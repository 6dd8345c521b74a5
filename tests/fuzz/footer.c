/* The end of a sealed segment: trailer and sections whose sums fit and whose contents lie; and a header likewise.
 *
 * Input: 8 flags, a segment header, a trailer, then the bytes of the three sections. Flags: 1 sums fit; 2 places fit too. */

#include "fuzz.h"

#include "checksum.h"
#include "error.h"
#include "segment_index.h"

enum { AT_RECORDS_END = 8, AT_SECTIONS = 72, AT_NUMBER = 144, AT_SALT = 152, AT_SUM = SEGMENT_TRAILER_LEN - 8, HEADER_SUM = SEGMENT_HEADER_LEN - 8 };

/* The places of the sections, one behind the other from the records' end, each as long as its trailer says modulo what there is. */
static void fit_places (uint8_t *trailer, const uint8_t *sections, size_t len)
{
    size_t pos = 0;
    bytes_put_u64le (trailer + AT_RECORDS_END, SEGMENT_RECORDS_POS);
    for (size_t i = 0; i < 3; i++) {
        uint8_t *s = trailer + AT_SECTIONS + 24 * i;
        const size_t section_len = (size_t) (bytes_get_u64le (s + 8) % (len - pos + 1));
        bytes_put_u64le (s, SEGMENT_RECORDS_POS + pos);
        bytes_put_u64le (s + 8, section_len);
        bytes_put_u64le (s + 16, checksum (sections + pos, section_len));
        pos += section_len;
    }
}

static void read_sections (int fd, const struct segment_trailer *t)
{
    struct index_stream *streams = NULL;
    struct index_position *positions = NULL;
    struct index_topic *topics = NULL;
    void *bytes = NULL;
    if (index_read_streams (&fs_real, fd, t, &streams) == 0) {
        for (uint32_t i = 0; i < t->stream_count; i++) {
            const struct index_stream *s = index_streams_find (streams, t->stream_count, &streams[i].stream);
            assert (!s || id_equal (&s->stream, &streams[i].stream));
        }
    }
    (void) index_read_positions (&fs_real, fd, t, &positions);
    if (index_read_topics (&fs_real, fd, t, &bytes, &topics) == 0) {
        for (uint32_t i = 0; i < t->topic_count; i++)
            assert (fuzz_within (topics[i].name, bytes, (size_t) t->topics.len));
    }
    free (streams);
    free (positions);
    free (topics);
    free (bytes);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    struct fuzz_input in = { data, size };
    uint8_t header[SEGMENT_HEADER_LEN], trailer[SEGMENT_TRAILER_LEN];
    const uint8_t flags = fuzz_u8 (&in);
    fuzz_take (&in, header, sizeof header);
    fuzz_take (&in, trailer, sizeof trailer);
    if (flags & 1)
        bytes_put_u64le (header + HEADER_SUM, checksum (header, HEADER_SUM));
    struct segment_header h;
    if (segment_header_decode (header, &h) != 0)
        return 0;
    assert (h.number > 0 && h.base_offset > 0 && memchr (h.mesh, 0, sizeof h.mesh) != NULL);
    const size_t len = in.left;
    const size_t total = SEGMENT_RECORDS_POS + len + SEGMENT_HEADER_LEN + SEGMENT_TRAILER_LEN;
    uint8_t *file = calloc (1, total);
    memcpy (file, header, sizeof header);
    if (len)
        memcpy (file + SEGMENT_RECORDS_POS, in.p, len);
    if (flags & 2)
        fit_places (trailer, file + SEGMENT_RECORDS_POS, len);
    if (flags & 1) {
        memcpy (trailer + AT_NUMBER, header + 40, 8);
        memcpy (trailer + AT_SALT, header + 64, 16);
        bytes_put_u64le (trailer + AT_SUM, checksum (trailer, AT_SUM));
    }
    memcpy (file + total - SEGMENT_TRAILER_LEN, trailer, sizeof trailer);
    char path[64];
    const int fd = fuzz_file (file, total, path);
    struct segment_trailer t;
    if (segment_read_trailer (&fs_real, fd, &h, &t) == 0)
        read_sections (fd, &t);
    free (file);
    return 0;
}
