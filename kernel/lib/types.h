/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/types.h - address types, units and bit helpers that every file uses.
 *
 * Portable: no assembly, no hosted headers.  Everything here works in any context.  The helpers check nothing: the
 * caller keeps to the ranges that are given here. */
#ifndef GODWIT_KERNEL_LIB_TYPES_H
#define GODWIT_KERNEL_LIB_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sizes in bytes.  A page is 4 KiB.  A block is what one large page maps, 2 MiB; guest memory is backed by blocks. */
#define PAGE_SHIFT      12
#define PAGE_SIZE       4096ul
#define BLOCK_SHIFT     21
#define BLOCK_SIZE      (1ul << BLOCK_SHIFT)
#define PAGES_PER_BLOCK (BLOCK_SIZE / PAGE_SIZE)
#define KIB             1024ul
#define MIB             (1024ul * KIB)
#define GIB             (1024ul * MIB)
_Static_assert(PAGE_SIZE == 1ul << PAGE_SHIFT && PAGES_PER_BLOCK == 512, "one page table maps one block");

/* Byte addresses.  Three types, so that the compiler refuses a silent conversion between them. */
typedef struct {
    uint64_t v;
} gpa_t; /* guest-physical: input of the second stage (EPT, NPT) */
typedef struct {
    uint64_t v;
} hpa_t; /* host-physical: output of the second stage */
typedef struct {
    uint64_t v;
} gva_t; /* guest-linear: input of the guest's own page tables */

/* The only ways in; .v is the way out. */
static inline gpa_t gpa(uint64_t v) { return (gpa_t){ v }; }
static inline hpa_t hpa(uint64_t v) { return (hpa_t){ v }; }
static inline gva_t gva(uint64_t v) { return (gva_t){ v }; }
/* n: bytes.  The sum wraps: a caller whose n comes from outside checks first. */
static inline gpa_t gpa_add(gpa_t a, uint64_t n) { return (gpa_t){ a.v + n }; }
static inline hpa_t hpa_add(hpa_t a, uint64_t n) { return (hpa_t){ a.v + n }; }
/* A guest frame number (gfn) is a guest-physical address in pages, rounded down. */
static inline uint64_t gpa_gfn(gpa_t a) { return a.v >> PAGE_SHIFT; }
static inline gpa_t gfn_gpa(uint64_t gfn) { return (gpa_t){ gfn << PAGE_SHIFT }; }

/* Bit n alone; n below the width.
 *
 * A field is named by its mask, a constant whose bits are contiguous and not all 0:
 *     FIELD_GET(0xf0, 0x123) == 2     FIELD_PUT(0xf0, 2) == 0x20     FIELD_PUT cuts what does not fit */
#define BIT32(n)           (UINT32_C(1) << (n))
#define BIT64(n)           (UINT64_C(1) << (n))
#define FIELD_GET(mask, x) (((x) & (mask)) / ((mask) & -(mask)))
#define FIELD_PUT(mask, x) (((x) * ((mask) & -(mask))) & (mask))

/* MIN and MAX evaluate one argument twice.  Alignments are powers of two; rounding up wraps at 2^64. */
#define ARRAY_SIZE(a)                 (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                     ((a) < (b) ? (a) : (b))
#define MAX(a, b)                     ((a) > (b) ? (a) : (b))
#define ALIGN_DOWN(x, a)              ((x) & ~((uint64_t)(a) - 1))
#define ALIGN_UP(x, a)                ALIGN_DOWN((x) + (uint64_t)(a) - 1, a)
#define DIV_ROUND_UP(x, n)            (((x) + (n) - 1) / (n))
/* The struct of this type whose member p points to. */
#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))

/* Attributes of functions.  HV_MUST_CHECK: ignoring the result is a warning, so an error in our builds.
 * HV_PRINTF: positions, from 1, of the format and of the first argument that it formats (0: a va_list). */
#define HV_MUST_CHECK        __attribute__((warn_unused_result))
#define HV_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define HV_NORETURN          __attribute__((noreturn))
#define HV_COLD              __attribute__((cold)) /* rarely called: the compiler moves the call out of the way */

#endif
