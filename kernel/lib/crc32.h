/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/crc32.h - CRC-32 of IEEE 802.3, bit by bit: for headers on disks, not for streams.  Portable. */
#ifndef GODWIT_KERNEL_LIB_CRC32_H
#define GODWIT_KERNEL_LIB_CRC32_H

#include "kernel/lib/types.h"

/** Go on from crc over len bytes.  Nothing is inverted, neither at the begin nor at the end: LVM2's checksums begin
 *  with a value of their own, and the GPT's header has a part that counts as zero.
 *  The first of several calls gets the start value, and each other one what the one before it returned.
 *  Any context. */
static inline uint32_t crc32_step(const void *data, size_t len, uint32_t crc)
{
    const uint8_t *p = data;
    while (len--) {
        crc ^= *p++;
        for (unsigned i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return crc;
}

/** The usual CRC-32 of len bytes, as zlib and the GPT have it: it begins with all ones, and is inverted at the end.
 *  That of no bytes is 0. */
static inline uint32_t crc32(const void *data, size_t len) { return ~crc32_step(data, len, UINT32_MAX); }

#endif
