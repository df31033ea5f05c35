/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/types.h - address types, units and bit helpers that every file uses.  Portable: no
 * assembly, no hosted headers. */
#ifndef GODWIT_KERNEL_LIB_TYPES_H
#define GODWIT_KERNEL_LIB_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SHIFT      12
#define PAGE_SIZE       4096ul
#define BLOCK_SHIFT     21 /* a block is what one large page maps: 2 MiB */
#define BLOCK_SIZE      (1ul << BLOCK_SHIFT)
#define PAGES_PER_BLOCK (BLOCK_SIZE / PAGE_SIZE)
#define KIB             1024ul
#define MIB             (1024ul * KIB)
#define GIB             (1024ul * MIB)

/* Guest-physical, host-physical and guest-virtual addresses do not convert into each other silently. */
typedef struct {
    uint64_t v;
} gpa_t;
typedef struct {
    uint64_t v;
} hpa_t;
typedef struct {
    uint64_t v;
} gva_t;

static inline gpa_t gpa(uint64_t v) { return (gpa_t){ v }; }
static inline hpa_t hpa(uint64_t v) { return (hpa_t){ v }; }
static inline gva_t gva(uint64_t v) { return (gva_t){ v }; }
static inline gpa_t gpa_add(gpa_t a, uint64_t n) { return (gpa_t){ a.v + n }; }
static inline hpa_t hpa_add(hpa_t a, uint64_t n) { return (hpa_t){ a.v + n }; }
static inline uint64_t gpa_gfn(gpa_t a) { return a.v >> PAGE_SHIFT; }
static inline gpa_t gfn_gpa(uint64_t gfn) { return (gpa_t){ gfn << PAGE_SHIFT }; }

#define BIT32(n)           (UINT32_C(1) << (n))
#define BIT64(n)           (UINT64_C(1) << (n))
#define FIELD_GET(mask, x) (((x) & (mask)) / ((mask) & -(mask)))
#define FIELD_PUT(mask, x) (((x) * ((mask) & -(mask))) & (mask))

#define ARRAY_SIZE(a)                 (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                     ((a) < (b) ? (a) : (b))
#define MAX(a, b)                     ((a) > (b) ? (a) : (b))
#define ALIGN_DOWN(x, a)              ((x) & ~((uint64_t)(a) - 1))
#define ALIGN_UP(x, a)                ALIGN_DOWN((x) + (uint64_t)(a) - 1, a)
#define DIV_ROUND_UP(x, n)            (((x) + (n) - 1) / (n))
#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))

#define HV_MUST_CHECK        __attribute__((warn_unused_result))
#define HV_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define HV_NORETURN          __attribute__((noreturn))

#endif
