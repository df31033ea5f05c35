/* SPDX-License-Identifier: BSD-2-Clause
 * net/port/arch/cc.h - lwIP's view of the compiler and the platform. */
#ifndef GODWIT_NET_PORT_CC_H
#define GODWIT_NET_PORT_CC_H

#include "kernel/lib/log.h"

#define BYTE_ORDER LITTLE_ENDIAN

#define LWIP_NO_INTTYPES_H 1
#define LWIP_NO_LIMITS_H   1
#define LWIP_NO_UNISTD_H   1
#define LWIP_NO_CTYPE_H    1
#define X8_F               "02x"
#define U16_F              "u"
#define S16_F              "d"
#define X16_F              "x"
#define U32_F              "u"
#define S32_F              "d"
#define X32_F              "x"
#define SZT_F              "zu"
#ifndef INT_MAX
#define INT_MAX 0x7fffffff
#endif
#ifndef SSIZE_MAX
typedef long ssize_t;
#define SSIZE_MAX 0x7fffffffffffffffl
#endif

/* lwIP's assertions state its own and our invariants, so they panic like ours.  Its diagnostics are compiled out
 * (LWIP_DEBUG is not set). */
#define LWIP_PLATFORM_ASSERT(text) panic("lwip: %s (%s:%d)", text, __FILE__, __LINE__)
#define LWIP_PLATFORM_DIAG(x) \
    do {                      \
    } while (0)

uint32_t net_random32(void); /* net/entropy.c */
#define LWIP_RAND() net_random32()

/* 64-bit additions instead of lwIP's 32-bit ones: checksums are a large part of a packet's cost (net/checksum.c). */
uint16_t net_checksum(const void *data, int len);
#define LWIP_CHKSUM net_checksum

#endif
