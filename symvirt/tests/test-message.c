/* Messages: every kind of malformed member is refused, good ones pass.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "symvirt.h"

#define FABRIC "{\"uuid\":\"u\",\"name\":\"ib\",\"epoch\":3,\"device\":\"rxe0\"}"

static const struct {
    const char *text;
    int rc;
    enum symvirt_message_type type;
} cases[] = {
    {"{\"type\":\"ping\",\"op\":1}", 0, SYMVIRT_PING},
    {"{\"type\":\"ping\",\"op\":1,\"later\":[1]}", 0, SYMVIRT_PING},
    {"{\"type\":\"ping\"}", -EBADMSG, 0},
    {"{\"type\":\"ping\",\"op\":-1}", -EBADMSG, 0},
    {"{\"type\":\"ping\",\"op\":\"1\"}", -EBADMSG, 0},
    {"{\"type\":\"ping\",\"op\":1.0}", -EBADMSG, 0},
    {"{\"type\":\"\",\"op\":1}", -EBADMSG, 0},
    {"{\"type\":7,\"op\":1}", -EBADMSG, 0},
    {"{\"op\":1}", -EBADMSG, 0},
    {"{\"type\":\"unknown\",\"op\":1}", -EBADMSG, 0},
    {"{\"type\":\"release\",\"op\":1,\"fabric\":" FABRIC "}", 0, SYMVIRT_RELEASE},
    {"{\"type\":\"release\",\"op\":1}", -EBADMSG, 0},
    {"{\"type\":\"release\",\"op\":1,\"fabric\":\"ib\"}", -EBADMSG, 0},
    {"{\"type\":\"release\",\"op\":1,\"fabric\":{\"uuid\":\"u\",\"name\":\"../x\",\"epoch\":1}}",
     -EBADMSG, 0},
    {"{\"type\":\"release\",\"op\":1,\"fabric\":{\"uuid\":\"u\",\"name\":\"..\",\"epoch\":1}}",
     -EBADMSG, 0},
    {"{\"type\":\"release\",\"op\":1,\"fabric\":{\"uuid\":\"u\",\"name\":\"a\",\"epoch\":1,"
     "\"device\":\"a/b\"}}",
     -EBADMSG, 0},
    {"{\"type\":\"release\",\"op\":1,\"fabric\":{\"uuid\":\"u\",\"name\":\"a\",\"epoch\":-1}}",
     -EBADMSG, 0},
    {"{\"type\":\"release\",\"op\":1,\"fabric\":{\"uuid\":"
     "\"0123456789012345678901234567890123456\",\"name\":\"a\","
     "\"epoch\":1}}",
     -EBADMSG, 0},
    {"{\"type\":\"result\",\"op\":1,\"ok\":true,\"error\":0}", 0, SYMVIRT_RESULT},
    {"{\"type\":\"result\",\"op\":1,\"ok\":1,\"error\":0}", -EBADMSG, 0},
    {"{\"type\":\"result\",\"op\":1,\"ok\":true,\"error\":0,\"detail\":[]}", -EBADMSG, 0},
    {"{\"type\":\"registered\",\"fabrics\":{}}", -EBADMSG, 0},
    {"{\"type\":\"hello\",\"epoch\":1,\"role\":\"host\",\"protocol\":1}", 0, SYMVIRT_HELLO},
    {"{\"type\":\"settime\",\"op\":1,\"realtime_ns\":1.5}", -EBADMSG, 0},
};

static void test_check(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        enum symvirt_message_type type = SYMVIRT_MESSAGE_TYPES;
        json_t *message = json_loads(cases[i].text, 0, NULL);
        int rc = symvirt_message_check(message, &type);

        if (!message || rc != cases[i].rc || (!rc && type != cases[i].type))
            fail_msg("%s: %d", cases[i].text, rc);
        json_decref(message);
    }
}

static void test_what_is_made_passes_the_check(void **state)
{
    const struct symvirt_fabric fabric = {
        .uuid = "u", .name = "ib", .epoch = INT64_MAX, .device = "rxe0"};
    struct symvirt_fabric back;
    json_t *detail = json_pack("{s:i}", "x", 1);
    json_t *made[] = {
        symvirt_message_request(SYMVIRT_STATUS, 1),
        symvirt_message_fabric_request(SYMVIRT_RESUME, 2, &fabric),
        symvirt_message_progress(3, "waits"),
        symvirt_message_result(4, EBUSY, "held", detail),
        symvirt_message_result(5, 0, NULL, NULL),
    };

    for (size_t i = 0; i < sizeof(made) / sizeof(*made); i++) {
        enum symvirt_message_type type;

        assert_int_equal(symvirt_message_check(made[i], &type), 0);
        assert_int_equal(symvirt_message_op(made[i]), i + 1);
    }
    assert_int_equal(symvirt_fabric_from_json(json_object_get(made[1], "fabric"), &back), 0);
    assert_true(symvirt_fabric_same(&back, &fabric));
    assert_string_equal(back.name, fabric.name);
    assert_string_equal(back.device, fabric.device);
    assert_int_equal(back.epoch, fabric.epoch);
    assert_false(json_is_true(json_object_get(made[3], "ok")));
    assert_int_equal(symvirt_message_number(made[3], "error", 0), EBUSY);
    for (size_t i = 0; i < sizeof(made) / sizeof(*made); i++)
        json_decref(made[i]);
    json_decref(detail);
}

static void test_same_fabric(void **state)
{
    const struct symvirt_fabric a = {.uuid = "1", .name = "ib"}, b = {.uuid = "2", .name = "ib"},
                                c = {.name = "ib"}, none = {.uuid = ""};

    assert_true(symvirt_fabric_same(&a, &a));
    assert_false(symvirt_fabric_same(&a, &b));
    assert_true(symvirt_fabric_same(&a, &c));
    assert_false(symvirt_fabric_same(&none, &none));
}

static void test_type_names(void **state)
{
    for (int type = 0; type < SYMVIRT_MESSAGE_TYPES; type++)
        assert_string_not_equal(symvirt_message_type_name(type), "unknown");
    assert_string_equal(symvirt_message_type_name(SYMVIRT_MESSAGE_TYPES), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_what_is_made_passes_the_check),
        cmocka_unit_test(test_same_fabric),
        cmocka_unit_test(test_type_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
