/*
 * Frames: the check of what arrives, and names.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "frame.h"

#include <errno.h>

int ninja_frame_header_check(const struct ninja_frame_header *header)
{
    if (header->magic != NINJA_FRAME_MAGIC || header->type == 0 ||
        header->type >= NINJA_FRAME_TYPES || header->length > NINJA_FRAME_PAYLOAD_MAX)
        return -EPROTO;
    if (header->type >= NINJA_FRAME_ACK && header->length != 0)
        return -EPROTO;
    return 0;
}

const char *ninja_frame_type_name(unsigned type)
{
    static const char *const names[NINJA_FRAME_TYPES] = {
        [NINJA_FRAME_DATA] = "DATA",         [NINJA_FRAME_GET_REQUEST] = "GET_REQUEST",
        [NINJA_FRAME_GET_DATA] = "GET_DATA", [NINJA_FRAME_CONTROL] = "CONTROL",
        [NINJA_FRAME_ACK] = "ACK",           [NINJA_FRAME_CONTROL_ACK] = "CONTROL_ACK",
        [NINJA_FRAME_PROBE] = "PROBE",       [NINJA_FRAME_ECHO] = "ECHO",
        [NINJA_FRAME_BYE] = "BYE",
    };

    return type < NINJA_FRAME_TYPES && names[type] != NULL ? names[type] : "?";
}
