/* CRC-32C (Castagnoli), by table.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SYMVIRT_CRC32C_H
#define SYMVIRT_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of 'size' bytes at 'data' that follow bytes with checksum 'before' (0: none). */
uint32_t symvirt_crc32c(uint32_t before, const void *data, size_t size);

#endif
