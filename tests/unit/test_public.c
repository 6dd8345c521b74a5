/* The small helpers of the public face, and addresses. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "address.h"
#include "bytes.h"
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
        cmocka_unit_test (what_is_advertised_can_be_reached_from_elsewhere),
        cmocka_unit_test (lists_are_taken_apart_at_commas),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
