/* What the parts of ninja-guestctl share.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef GUESTCTL_H
#define GUESTCTL_H

#include <libvirt/libvirt.h>

#include "guest-link-libvirt.h"

enum {
    GUESTCTL_OK = 0,
    GUESTCTL_FAILED = 1,  /* the guest or libvirt said no */
    GUESTCTL_USAGE = 2,   /* wrong use, no such VM */
    GUESTCTL_TIMEOUT = 3, /* no answer in time */
};

struct guestctl_options {
    const char *uri;    /* NULL: libvirt's default */
    const char *socket; /* the channel's unix socket instead of libvirt's stream; NULL: libvirt */
    const char *vm;
    const char *command;
    const char *argument; /* FABRIC, ALIAS or FILE; NULL: none */
    json_t *fabric;       /* for release and resume */
    int timeout_ms;       /* 0: the command's default */
    int json;
    int force;
};

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t guestctl_now_ms(void);

/* Prints the end of a command: a line, or with --json an object of 'error' (errno), 'message' and
 * 'detail' (may be NULL). Returns the exit code. */
int guestctl_report(const struct guestctl_options *options, int error, const char *message,
                    const json_t *detail, int64_t begin_ms);

/* Prints libvirt's last error as the reason why 'what' failed. Returns the exit code. */
int guestctl_report_libvirt(const struct guestctl_options *options, const char *what,
                            int64_t begin_ms);

/* Asks the VM's agent. 'domain' is NULL with --socket. Returns the exit code. (guestctl-agent.c) */
int guestctl_ask_agent(const struct guestctl_options *options, virDomainPtr domain);

/* Unplugs the device with alias options->argument and waits until it is gone. (guestctl-device.c)
 */
int guestctl_detach(const struct guestctl_options *options, virDomainPtr domain);

/* Plugs in the device of the XML file options->argument. (guestctl-device.c) */
int guestctl_attach(const struct guestctl_options *options, virDomainPtr domain);

#endif
