/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/crc32.h - CRC-32 of IEEE 802.3, four bits at a time: for what lies on disks, not for streams.
 * Portable, any context. */
#ifndef GODWIT_KERNEL_LIB_CRC32_H
#define GODWIT_KERNEL_LIB_CRC32_H

#include "kernel/lib/types.h"

/** Go on from crc over len bytes.  Nothing is inverted, neither at the begin nor at the end: LVM2's checksums begin
 *  with a value of their own, and the GPT's header has a part that counts as zero.
 *  The first of several calls gets the start value, and each other one what the one before it returned.
 *  Any context. */
static inline uint32_t crc32_step(const void *data, size_t len, uint32_t crc)
{
    static const uint32_t of_nibble[16] = { 0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                            0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                            0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c };
    for (const uint8_t *p = data; len; len--) {
        crc ^= *p++;
        crc = crc >> 4 ^ of_nibble[crc & 15];
        crc = crc >> 4 ^ of_nibble[crc & 15];
    }
    return crc;
}

/** The usual CRC-32 of len bytes, as zlib and the GPT have it: it begins with all ones, and is inverted at the end.
 *  That of no bytes is 0. */
static inline uint32_t crc32(const void *data, size_t len) { return ~crc32_step(data, len, UINT32_MAX); }

#endif
