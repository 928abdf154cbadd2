/* CRC-32C (Castagnoli), by table.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include "crc32c.h"

/* Remainders of the 16 half-bytes: small, and fast enough for control messages. */
static const uint32_t half_byte[16] = {
    0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
    0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

uint32_t symvirt_crc32c(uint32_t before, const void *data, size_t size)
{
    const uint8_t *byte = data;
    uint32_t crc = ~before;

    for (size_t i = 0; i < size; i++) {
        crc ^= byte[i];
        crc = crc >> 4 ^ half_byte[crc & 15];
        crc = crc >> 4 ^ half_byte[crc & 15];
    }
    return ~crc;
}
