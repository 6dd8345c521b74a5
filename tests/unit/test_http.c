/* http: what is refused, with which status and why; what a full disk and too many at once get; where it listens; which range a header means. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "../support/blob_kit.h"
#include "../support/fail_memory.h"
#include "http.h"
#include "http_range.h"

enum { SIZE_MAX_HERE = 1 << 20, ANSWER_MAX = 8192, PATIENCE_S = 20 };

static struct journal_context context;
static struct fail_fs *files;
static struct blob_store *store;
static struct http *http;

static int set_up (void **state)
{
    if (blob_set_up (state))
        return -1;
    memset (&context, 0, sizeof context);
    context.options.blob_size_max = SIZE_MAX_HERE;
    files = fail_fs_new ();
    assert_int_equal (open_with (fail_fs_seam (files), &store), 0);
    assert_int_equal (http_new (&context, store, "127.0.0.1:0", &http), 0);
    return 0;
}

static int tear_down (void **state)
{
    http_destroy (&http);
    blob_store_destroy (&store);
    fail_fs_destroy (&files);
    return blob_tear_down (state);
}

/* --- A client. */

static int dial (void)
{
    const int fd = socket (AF_INET, SOCK_STREAM, 0);
    const struct timeval patience = { .tv_sec = PATIENCE_S };
    const struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons ((uint16_t) http_port (http)), .sin_addr.s_addr = htonl (INADDR_LOOPBACK) };
    assert_true (fd >= 0);
    assert_int_equal (setsockopt (fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    assert_int_equal (connect (fd, (const struct sockaddr *) &to, sizeof to), 0);
    return fd;
}

static void say (int fd, const char *text)
{
    assert_int_equal (send (fd, text, strlen (text), MSG_NOSIGNAL), strlen (text));
}

/* Until the connection ends, or what came ends so. */
static void hear (int fd, const char *end, char ret_answer[ANSWER_MAX])
{
    size_t len = 0;
    ssize_t n;
    ret_answer[0] = 0;
    while (!(end && strstr (ret_answer, end)) && (n = recv (fd, ret_answer + len, ANSWER_MAX - 1 - len, 0)) != 0) {
        if (n < 0)
            fail_msg ("no answer: %s", strerror (errno));
        len += (size_t) n;
        ret_answer[len] = 0;
    }
}

static void expect_answer (int fd, unsigned status, const char *words)
{
    char answer[ANSWER_MAX], line[16];
    hear (fd, NULL, answer);
    close (fd);
    (void) snprintf (line, sizeof line, "HTTP/1.1 %u ", status);
    if (strncmp (answer, line, strlen (line)) != 0 || !strstr (answer, words))
        fail_msg ("'%s' is not %u with '%s'", answer, status, words);
}

/* A request with a body. */
static void expect (const char *method, const char *path, const char *headers, const char *body, unsigned status, const char *words)
{
    char request[2048];
    (void) snprintf (request, sizeof request, "%s %s HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: %zu\r\n%s\r\n%s", method, path, strlen (body), headers, body);
    const int fd = dial ();
    say (fd, request);
    expect_answer (fd, status, words);
}

static uint64_t counted (enum journal_counter counter)
{
    return journal_counter (&context, counter);
}

/* --- What is asked. */

static void what_makes_no_sense_is_refused_and_told_why (void **state)
{
    (void) state;
    char type[300];
    (void) snprintf (type, sizeof type, "Content-Type: %0256d\r\n", 0);
    static const struct {
        const char *method, *path;
        unsigned status;
        const char *words;
    } cases[] = {
        { "GET", "/other", 404, "only /blobs is here" },
        { "GET", "/blobsnot", 404, "only /blobs is here" },
        { "GET", "/blobs/abc", 404, "" },
        { "GET", "/blobs", 405, "Allow: PUT, POST" },
        { "DELETE", "/blobs/0000000000000000000000000000000000000000000000000000000000000000", 405, "Allow: GET, HEAD, PUT" },
        { "PUT", "/blobs?lease=abc", 400, "lease: 'abc' is no number of seconds up to 31622400" },
        { "PUT", "/blobs?lease=-1", 400, "lease: '-1'" },
        { "PUT", "/blobs?lease=", 400, "lease: ''" },
        { "PUT", "/blobs?lease=31622401", 400, "lease: '31622401'" },
        { "PUT", "/blobs?lease=99999999999999999999", 400, "lease: '99999999999999999999'" },
        { "PUT", "/blobs/0000000000000000000000000000000000000000000000000000000000000000", 422, "the upload's SHA-256 is " },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect (cases[i].method, cases[i].path, "", "hello", cases[i].status, cases[i].words);
    expect ("PUT", "/blobs", type, "hello", 400, "Content-Type: 256 bytes, more than 255");
    assert_int_equal (counted (JOURNAL_HTTP_REFUSED), sizeof cases / sizeof cases[0] + 1);
    assert_int_equal (counted (JOURNAL_BLOBS_STORED), 0);
}

static void a_lease_and_the_longest_type_are_kept (void **state)
{
    (void) state;
    char type[300];
    struct blob_info info;
    size_t count;
    bool more;
    (void) snprintf (type, sizeof type, "Content-Type: %0255d\r\n", 0);
    expect ("PUT", "/blobs?lease=7200", type, "hello", 201, "\"size\":5}");
    assert_int_equal (blob_store_list (store, NULL, &info, 1, &count, &more), 0);
    assert_true (count == 1 && !more && info.media_type_len == 255);
    assert_true (info.lease_ns == kit.clock.now_ns + 2 * HOUR);
}

static void a_get_with_a_body_has_its_answer (void **state)
{
    (void) state;
    static const char path[] = "/blobs/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    expect ("PUT", path, "", "hello", 201, "Location: /blobs/2cf24dba");
    expect ("GET", path, "", "nobody reads this", 200, "\r\n\r\nhello");
    expect ("GET", path, "Range: bytes=1-3\r\n", "", 206, "\r\n\r\nell");
    expect ("GET", path, "Range: bytes=5-\r\n", "", 416, "Content-Range: bytes */5");
}

/* --- What fails. */

static void a_disk_that_is_full_or_broken_is_said_by_its_status (void **state)
{
    (void) state;
    fail_fs_disk_full (files, true);
    expect ("PUT", "/blobs", "", "hello", 507, "No space left on device");
    fail_fs_disk_full (files, false);
    /* The last block is written when all has come. */
    fail_fs_fail (files, FAIL_WRITE, 2, -EDQUOT);
    expect ("PUT", "/blobs", "", "hello", 507, "");
    fail_fs_fail (files, FAIL_SYNC, 1, -EIO);
    expect ("PUT", "/blobs", "", "hello", 500, "Input/output error");
    expect ("PUT", "/blobs", "", "hello", 201, "\"size\":5}");
    assert_int_equal (counted (JOURNAL_HTTP_REFUSED), 3);
}

/* There is nothing to say it with: the connection ends. */
static void a_request_for_which_there_is_no_memory_is_cut_and_the_next_one_is_not (void **state)
{
    (void) state;
    char answer[ANSWER_MAX];
    const int fd = dial ();
    fail_memory_at (1);
    say (fd, "GET /blobs HTTP/1.1\r\nHost: here\r\n\r\n");
    hear (fd, NULL, answer);
    close (fd);
    assert_true (fail_memory_happened ());
    fail_memory_at (0);
    assert_string_equal (answer, "");
    assert_int_equal (counted (JOURNAL_HTTP_REQUESTS), 0);
    expect ("PUT", "/blobs", "", "hello", 201, "\"size\":5}");
}

/* Each is asked to go on before the next one comes. */
static void more_uploads_than_may_be_are_told_to_come_again (void **state)
{
    (void) state;
    static const char request[] = "PUT /blobs HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 5\r\n\r\n";
    char answer[ANSWER_MAX];
    int fds[HTTP_UPLOADS_MAX];
    for (size_t i = 0; i < HTTP_UPLOADS_MAX; i++) {
        fds[i] = dial ();
        say (fds[i], request);
        hear (fds[i], "100 Continue\r\n\r\n", answer);
        assert_non_null (strstr (answer, "100 Continue"));
    }
    expect ("PUT", "/blobs", "", "hello", 503, "Retry-After: 1");
    for (size_t i = 0; i < HTTP_UPLOADS_MAX; i++) {
        say (fds[i], "hello");
        expect_answer (fds[i], i ? 200 : 201, "\"size\":5}");
    }
    expect ("PUT", "/blobs", "", "hello", 200, "\"size\":5}");
}

/* --- Where it listens. */

static void an_address_that_cannot_be_is_refused (void **state)
{
    (void) state;
    static const struct { const char *address, *words; } cases[] = {
        { "127.0.0.1", "write HOST:PORT" },
        { "127.0.0.1:", "write HOST:PORT" },
        { "[::1]:nonsense", "http: '[::1]:nonsense': " },
        { "[]:0", "http: '[]:0': " },
        { "no.such.host.invalid:80x", "http: 'no.such.host.invalid:80x': " },
        { "192.0.2.1:0", "cannot listen at 192.0.2.1:0: " },
    };
    struct http *other = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (http_new (&context, store, cases[i].address, &other) != FM_ERR_ADDRESS)
            fail_msg ("%s was not refused", cases[i].address);
        assert_non_null (strstr (fm_error_detail (), cases[i].words));
    }
    char longer[400];
    memset (longer, 'h', sizeof longer);
    (void) snprintf (longer + 256, sizeof longer - 256, ":80");
    assert_int_equal (http_new (&context, store, longer, &other), FM_ERR_ADDRESS);
    assert_null (other);
}

/* What comes for one would go to the other, every now and then. */
static void two_do_not_share_a_port (void **state)
{
    (void) state;
    char address[32];
    struct http *other = NULL;
    (void) snprintf (address, sizeof address, "127.0.0.1:%u", http_port (http));
    assert_int_equal (http_new (&context, store, address, &other), FM_ERR_ADDRESS);
    assert_non_null (strstr (fm_error_detail (), "Address already in use"));
    /* Once the first has gone: at once, though connections of it linger. */
    expect ("PUT", "/blobs", "", "hello", 201, "\"size\":5}");
    http_destroy (&http);
    assert_int_equal (http_new (&context, store, address, &http), 0);
    expect ("PUT", "/blobs", "", "hello", 200, "\"size\":5}");
}

/* --- Ranges. */

static void a_range_is_what_its_header_means (void **state)
{
    (void) state;
    static const struct {
        const char *text;
        uint64_t size;
        enum http_range_kind kind;
        uint64_t first, end;
    } cases[] = {
        { NULL, 10, HTTP_RANGE_WHOLE, 0, 10 },
        { "bytes=0-3", 10, HTTP_RANGE_PART, 0, 4 },
        { "bytes=3-3", 10, HTTP_RANGE_PART, 3, 4 },
        { "bytes=3-", 10, HTTP_RANGE_PART, 3, 10 },
        { "bytes=3-99", 10, HTTP_RANGE_PART, 3, 10 },
        { "bytes=3-99999999999999999999", 10, HTTP_RANGE_PART, 3, 10 },
        { "bytes=-4", 10, HTTP_RANGE_PART, 6, 10 },
        { "bytes=-99", 10, HTTP_RANGE_PART, 0, 10 },
        { "bytes=9-", 10, HTTP_RANGE_PART, 9, 10 },
        { "bytes=10-", 10, HTTP_RANGE_NONE, 0, 0 },
        { "bytes=99999999999999999999-", 10, HTTP_RANGE_NONE, 0, 0 },
        { "bytes=-0", 10, HTTP_RANGE_NONE, 0, 0 },
        { "bytes=-4", 0, HTTP_RANGE_NONE, 0, 0 },
        { "bytes=0-", 0, HTTP_RANGE_NONE, 0, 0 },
        { "lines=0-3", 10, HTTP_RANGE_WHOLE, 0, 10 },
        { "bytes=", 10, HTTP_RANGE_WHOLE, 0, 10 },
        { "bytes=3", 10, HTTP_RANGE_WHOLE, 0, 10 },
        { "bytes=-", 10, HTTP_RANGE_WHOLE, 0, 10 },
        { "bytes=5-3", 10, HTTP_RANGE_WHOLE, 0, 10 },
        { "bytes=0-3,5-6", 10, HTTP_RANGE_WHOLE, 0, 10 },
        { "bytes=x-3", 10, HTTP_RANGE_WHOLE, 0, 10 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct http_range r = http_range_parse (cases[i].text, cases[i].size);
        if (r.kind != cases[i].kind || r.first != cases[i].first || r.end != cases[i].end)
            fail_msg ("%s of %u: %d [%u, %u)", cases[i].text ? cases[i].text : "none", (unsigned) cases[i].size, (int) r.kind, (unsigned) r.first, (unsigned) r.end);
    }
}

int main (void)
{
#define CASE(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE (what_makes_no_sense_is_refused_and_told_why),
        CASE (a_lease_and_the_longest_type_are_kept),
        CASE (a_get_with_a_body_has_its_answer),
        CASE (a_disk_that_is_full_or_broken_is_said_by_its_status),
        CASE (a_request_for_which_there_is_no_memory_is_cut_and_the_next_one_is_not),
        CASE (more_uploads_than_may_be_are_told_to_come_again),
        CASE (an_address_that_cannot_be_is_refused),
        CASE (two_do_not_share_a_port),
        cmocka_unit_test (a_range_is_what_its_header_means),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
