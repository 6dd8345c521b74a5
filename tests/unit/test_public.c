/* The small helpers of the public face, and addresses. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "address.h"
#include "bytes.h"
#include "error.h"
#include "factmesh.h"

static void a_fact_id_reads_back_as_it_was_written (void **state)
{
    (void) state;
    struct fm_fact_id id = { .seq = UINT64_MAX }, back;
    for (int i = 0; i < 16; i++)
        id.stream.bytes[i] = (uint8_t) (i * 17);
    char text[FM_FACT_ID_TEXT];
    assert_string_equal (fm_fact_id_text (&id, text, sizeof text), "00112233445566778899aabbccddeeff:18446744073709551615");
    assert_int_equal (fm_fact_id_parse (text, &back), 0);
    assert_memory_equal (&back, &id, sizeof id);
}

static void what_is_no_fact_id_is_refused (void **state)
{
    (void) state;
    const char *bad[] = { "", ":", "00112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff:", "0011:1", "00112233445566778899aabbccddeeff:1x",
                          "00112233445566778899aabbccddeeff:-1", "00112233445566778899aabbccddeeff:18446744073709551616",
                          "00112233445566778899aabbccddeexf:1", "00112233445566778899aabbccddeeff:000000000000000000001" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fm_fact_id id = { .seq = 42 };
        if (fm_fact_id_parse (bad[i], &id) != FM_ERR_MALFORMED || id.seq != 42)
            fail_msg ("'%s'", bad[i]);
    }
}

static void headers_read_back_in_order_until_the_buffer_is_full (void **state)
{
    (void) state;
    char buffer[64];
    size_t len = 0, count = 0;
    while (fm_header_add (buffer, sizeof buffer, &len, fm_text ("name"), fm_text ("value")) == 0) {
        count++;
        assert_true (len <= sizeof buffer);
    }
    assert_true (count >= 3);
    assert_int_equal (fm_header_add (buffer, sizeof buffer, &len, fm_text ("name"), fm_text ("value")), FM_ERR_FULL);
    assert_int_equal (fm_header_add (buffer, sizeof buffer, &len, fm_text (""), fm_text ("value")), FM_ERR_ARGUMENT);
    struct fm_slice name, value;
    size_t pos = 0;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal (fm_header_next (slice (buffer, len), &pos, &name, &value), 0);
        assert_true (slice_equal (name, slice_of ("name")) && slice_equal (value, slice_of ("value")));
    }
    assert_int_equal (fm_header_next (slice (buffer, len), &pos, &name, &value), FM_ERR_END);
}

static void good_addresses_are_written_as_they_were_read (void **state)
{
    (void) state;
    const char *good[] = { "tcp://127.0.0.1:7000", "tcp://host-1.example:1", "tcp://[::1]:65535", "tcp://[fe80::1%eth0]:5", "ipc:///tmp/a b", "ipc://relative" };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct address a;
        char text[ADDRESS_TEXT_MAX];
        if (address_parse (slice_of (good[i]), ADDRESS_TO_CONNECT, &a) != 0)
            fail_msg ("'%s': %s", good[i], fm_error_detail ());
        assert_string_equal (address_text (&a, text), good[i]);
    }
    struct address a;
    char text[ADDRESS_TEXT_MAX];
    assert_int_equal (address_parse (slice_of ("tcp://*:*"), ADDRESS_TO_BIND, &a), 0);
    assert_true (address_is_wildcard (&a) && !address_is_local (&a));
    assert_string_equal (address_text (&a, text), "tcp://*:*");
    assert_int_equal (address_parse (slice_of ("tcp://localhost:0"), ADDRESS_TO_BIND, &a), 0);
    assert_true (address_is_local (&a));
    assert_int_equal (address_resolve_bind (&a), 0);
    assert_string_equal (a.host, "127.0.0.1");
}

static void what_is_no_address_is_refused_with_what_is_wrong (void **state)
{
    static char long_host[ADDRESS_HOST_MAX + 20], long_path[ADDRESS_PATH_MAX + 20], long_text[ADDRESS_TEXT_MAX + 1];
    const struct {
        const char *text, *why;
        enum address_use use;
    } bad[] = {
        { "", "is empty", ADDRESS_TO_CONNECT },
        { "127.0.0.1:7000", "does not begin with tcp:// or ipc://", ADDRESS_TO_CONNECT },
        { "tcp://:7000", "no host", ADDRESS_TO_CONNECT },
        { "tcp://host", "no port behind the host", ADDRESS_TO_CONNECT },
        { "tcp://host:70000", "no number from 1 to 65535", ADDRESS_TO_CONNECT },
        { "tcp://host:x", "no number from 1 to 65535", ADDRESS_TO_CONNECT },
        { "tcp://*:7000", "'*' is no host", ADDRESS_TO_CONNECT },
        { "tcp://a b:7000", "a character that no host has", ADDRESS_TO_CONNECT },
        { "ipc://", "no path", ADDRESS_TO_CONNECT },
        { "ipc:///tmp/a,b", "a control character or a comma", ADDRESS_TO_CONNECT },
        { "ipc:///tmp/a\nb", "address 'ipc:///tmp/a?b': a control character", ADDRESS_TO_CONNECT },
        { long_host, "the host's name is too long", ADDRESS_TO_CONNECT },
        { long_path, "choose a shorter one", ADDRESS_TO_BIND },
        { long_text, "it is too long", ADDRESS_TO_CONNECT },
    };
    (void) state;
    (void) snprintf (long_host, sizeof long_host, "tcp://%0*d:70", ADDRESS_HOST_MAX + 1, 0);
    (void) snprintf (long_path, sizeof long_path, "ipc://%0*d", ADDRESS_BIND_PATH_MAX + 1, 0);
    (void) snprintf (long_text, sizeof long_text, "tcp://%0*d", ADDRESS_TEXT_MAX - 6, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct address a = { .port = 4711 };
        if (address_parse (slice_of (bad[i].text), bad[i].use, &a) != FM_ERR_ADDRESS || a.port != 4711 || !strstr (fm_error_detail (), bad[i].why))
            fail_msg ("'%s': %s", bad[i].text, fm_error_detail ());
    }
    struct address a;
    assert_int_equal (address_parse (slice_of (long_path), ADDRESS_TO_CONNECT, &a), 0);       /* ".live" stands behind it already */
}

static void what_is_advertised_can_be_reached_from_elsewhere (void **state)
{
    (void) state;
    struct address a;
    struct address_list list, again;
    assert_int_equal (address_parse (slice_of ("tcp://0.0.0.0:7000"), ADDRESS_TO_BIND, &a), 0);
    assert_int_equal (address_advertise (&a, NULL, false, &list), 0);
    assert_true (list.count >= 1);
    for (size_t i = 0; i < list.count; i++) {
        struct address one;
        assert_int_equal (address_parse (slice_of (list.text[i]), ADDRESS_TO_CONNECT, &one), 0);
        assert_false (address_is_wildcard (&one));
        assert_int_equal (one.port, 7000);
        assert_true (!address_is_local (&one) || list.count == 1);
    }
    a.port = 7001;
    assert_int_equal (address_advertise (&a, NULL, false, &again), 0);
    assert_int_equal (again.count, list.count);
    assert_int_equal (address_advertise (&a, "one.example, [2001:db8::2]", false, &list), 0);
    assert_int_equal (list.count, 2);
    assert_string_equal (list.text[0], "tcp://one.example:7001");
    assert_string_equal (list.text[1], "tcp://[2001:db8::2]:7001");
    /* Where others reach another port; which is not that of the node's other endpoint. */
    assert_int_equal (address_advertise (&a, "one.example:80,[2001:db8::2]:81,three.example", false, &list), 0);
    assert_int_equal (list.count, 3);
    assert_string_equal (list.text[0], "tcp://one.example:80");
    assert_string_equal (list.text[1], "tcp://[2001:db8::2]:81");
    assert_string_equal (list.text[2], "tcp://three.example:7001");
    assert_int_equal (address_advertise (&a, "one.example:80,[2001:db8::2]:81", true, &list), 0);
    assert_string_equal (list.text[0], "tcp://one.example:7001");
    assert_string_equal (list.text[1], "tcp://[2001:db8::2]:7001");
    /* Twice is once; more than there is room for is told. */
    assert_int_equal (address_advertise (&a, "one.example,two.example,one.example", false, &list), 0);
    assert_int_equal (list.count, 2);
    char many[16 * (ADDRESSES_MAX + 1)] = "";
    for (int i = 0; i <= ADDRESSES_MAX; i++)
        (void) sprintf (many + strlen (many), "h%d.example,", i);
    assert_int_equal (address_advertise (&a, many, false, &list), FM_ERR_ADDRESS);
    assert_non_null (strstr (fm_error_detail (), "more than"));
}

/* In a child, whose network is its own and has no interface that is up; then loopback with an IPv6 address beside it. */
static int advertise_in_own_network (void)
{
    struct address a = { .kind = ADDRESS_TCP, .v6 = true, .port = 7000, .host = "::" };
    struct address_list list;
    if (unshare (CLONE_NEWNET) != 0)
        return 77;
    if (address_advertise (&a, NULL, false, &list) != FM_ERR_ADDRESS || !strstr (fm_error_detail (), "no network interface is up"))
        return 1;
    if (system ("exec 2>/dev/null; ip link set lo up && ip link add up0 type veth peer name up1 && ip link set up1 up && ip addr add 2001:db8::7/64 dev up0 nodad && ip addr add 10.99.0.7/24 dev up0 "
                "&& ip link set up0 up") != 0)
        return 77;
    if (address_advertise (&a, NULL, false, &list) != 0 || list.count != 2)
        return 2;                       /* not the link-local one */
    const bool first_v6 = list.text[0][6] == '[';
    return strcmp (list.text[!first_v6], "tcp://[2001:db8::7]:7000") == 0 && strcmp (list.text[first_v6], "tcp://10.99.0.7:7000") == 0 ? 0 : 3;
}

static void all_interfaces_are_those_that_are_up_and_not_link_local (void **state)
{
    (void) state;
    fflush (NULL);
    const pid_t child = fork ();
    assert_true (child >= 0);
    if (child == 0)
        _exit (advertise_in_own_network ());
    int status;
    assert_int_equal (waitpid (child, &status, 0), child);
    if (WIFEXITED (status) && WEXITSTATUS (status) == 77) {
        printf ("skipped: no right to make a network namespace with an interface here\n");
        skip ();
    }
    assert_true (WIFEXITED (status));
    assert_int_equal (WEXITSTATUS (status), 0);
}

static void hosts_are_the_same_by_kind_and_text (void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        { "tcp://host:1", "tcp://HOST:2", true },          { "tcp://host:1", "tcp://other:1", false }, { "tcp://host:1", "ipc://host", false },
        { "ipc:///run/n", "ipc:///run/n.live", true },     { "ipc:///run/n", "ipc:///run/n2", false },
    };
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct address a, b;
        assert_int_equal (address_parse (slice_of (cases[i].a), ADDRESS_TO_CONNECT, &a), 0);
        assert_int_equal (address_parse (slice_of (cases[i].b), ADDRESS_TO_CONNECT, &b), 0);
        assert_int_equal (address_same_host (&a, &b), cases[i].same);
    }
}

/* What fm_perror writes, and that it returns the code. */
static void an_error_is_written_with_its_detail (void **state)
{
    (void) state;
    char path[] = "/tmp/test_public.XXXXXX", text[300] = "";
    const int fd = mkstemp (path), before = dup (STDERR_FILENO);
    assert_true (fd >= 0 && before >= 0);
    fflush (stderr);
    assert_true (dup2 (fd, STDERR_FILENO) >= 0);
    struct address a;
    const int rc = address_parse (slice_of ("x"), ADDRESS_TO_CONNECT, &a);
    const int with = fm_perror ("first", rc);
    (void) error_set (0, "%s", "");
    const int without = fm_perror ("second", FM_TIMEOUT);
    fflush (stderr);
    assert_true (dup2 (before, STDERR_FILENO) >= 0);
    close (before);
    assert_true (pread (fd, text, sizeof text - 1, 0) > 0);
    close (fd);
    unlink (path);
    char expected[300];
    (void) snprintf (expected, sizeof expected, "first: %s (address 'x': it does not begin with tcp:// or ipc://; write tcp://HOST:PORT or ipc://PATH)\nsecond: %s\n",
                     fm_error_text (FM_ERR_ADDRESS), fm_error_text (FM_TIMEOUT));
    assert_string_equal (text, expected);
    assert_int_equal (with, FM_ERR_ADDRESS);
    assert_int_equal (without, FM_TIMEOUT);
    assert_string_equal (fm_version (), FM_VERSION);
}

static void lists_are_taken_apart_at_commas (void **state)
{
    (void) state;
    const char *list = " a ,b,, c";
    const char *wanted[] = { "a", "b", "", "c" };
    struct fm_slice item;
    for (size_t i = 0; i < 4; i++) {
        assert_true (address_list_next (&list, &item));
        assert_true (slice_equal (item, slice_of (wanted[i])));
    }
    assert_false (address_list_next (&list, &item));
}

int main (void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (a_fact_id_reads_back_as_it_was_written),
        cmocka_unit_test (what_is_no_fact_id_is_refused),
        cmocka_unit_test (headers_read_back_in_order_until_the_buffer_is_full),
        cmocka_unit_test (good_addresses_are_written_as_they_were_read),
        cmocka_unit_test (all_interfaces_are_those_that_are_up_and_not_link_local),
        cmocka_unit_test (hosts_are_the_same_by_kind_and_text),
        cmocka_unit_test (what_is_no_address_is_refused_with_what_is_wrong),
        cmocka_unit_test (an_error_is_written_with_its_detail),
        cmocka_unit_test (what_is_advertised_can_be_reached_from_elsewhere),
        cmocka_unit_test (lists_are_taken_apart_at_commas),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
