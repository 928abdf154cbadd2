/*
 * Which of the kernel's messages about interfaces say that this machine was moved.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "moved.h"

/* A message of `type` about an interface, as the kernel lays it out, with the event if not 0. */
struct message {
    struct nlmsghdr header;
    struct ifinfomsg info;
    struct rtattr name;
    char name_text[8];
    struct rtattr event;
    uint32_t event_number;
};

static struct message make(uint16_t type, uint32_t event)
{
    struct message message = {
        .header = {.nlmsg_len = sizeof(message), .nlmsg_type = type},
        .name = {.rta_len = RTA_LENGTH(8), .rta_type = IFLA_IFNAME},
        .name_text = "eth0",
        .event = {.rta_len = RTA_LENGTH(4), .rta_type = IFLA_EVENT},
        .event_number = event,
    };

    if (event == 0)
        message.header.nlmsg_len = offsetof(struct message, event);
    return message;
}

static void test_only_announcements_count(void **state)
{
    struct message message = make(RTM_NEWLINK, IFLA_EVENT_NOTIFY_PEERS);

    (void)state;
    assert_true(ninja_moved_parse(&message, message.header.nlmsg_len));
    message = make(RTM_NEWLINK, IFLA_EVENT_IGMP_RESEND);
    assert_false(ninja_moved_parse(&message, message.header.nlmsg_len));
    message = make(RTM_NEWLINK, 0);
    assert_false(ninja_moved_parse(&message, message.header.nlmsg_len));
    message = make(RTM_DELLINK, IFLA_EVENT_NOTIFY_PEERS);
    assert_false(ninja_moved_parse(&message, message.header.nlmsg_len));
}

static void test_later_message_counts(void **state)
{
    struct message messages[2] = {make(RTM_NEWLINK, IFLA_EVENT_IGMP_RESEND),
                                  make(RTM_NEWLINK, IFLA_EVENT_NOTIFY_PEERS)};

    (void)state;
    assert_true(ninja_moved_parse(messages, sizeof(messages)));
}

static void test_cut_messages_do_not_count(void **state)
{
    struct message message = make(RTM_NEWLINK, IFLA_EVENT_NOTIFY_PEERS);

    (void)state;
    for (size_t size = 0; size < sizeof(message); size++)
        assert_false(ninja_moved_parse(&message, size));
    message.event.rta_len = RTA_LENGTH(2);
    assert_false(ninja_moved_parse(&message, sizeof(message)));
    message.header.nlmsg_len = sizeof(message.header) + 4;
    assert_false(ninja_moved_parse(&message, sizeof(message)));
}

static void test_silence_is_no_move(void **state)
{
    int fd = ninja_moved_open();

    (void)state;
    if (fd < 0)
        skip();
    assert_false(ninja_moved_read(fd));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_announcements_count),
        cmocka_unit_test(test_later_message_counts),
        cmocka_unit_test(test_cut_messages_do_not_count),
        cmocka_unit_test(test_silence_is_no_move),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
