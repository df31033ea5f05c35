/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/trampoline.h - arguments of trampoline.S, at offset TRAMPOLINE_ARGS of its page.  For C and
 * assembly. */
#ifndef GODWIT_KERNEL_HOST_X86_TRAMPOLINE_H
#define GODWIT_KERNEL_HOST_X86_TRAMPOLINE_H

#define TRAMPOLINE_ARGS 0xf00
#define TA_PAGE         (TRAMPOLINE_ARGS + 0)
#define TA_CR3          (TRAMPOLINE_ARGS + 4)
#define TA_STACK        (TRAMPOLINE_ARGS + 8)
#define TA_ENTRY        (TRAMPOLINE_ARGS + 16)
#define TA_ARG          (TRAMPOLINE_ARGS + 24)

#ifndef __ASSEMBLER__
#include <stdint.h>

struct trampoline_args {
    uint32_t page, cr3;
    uint64_t stack, entry, arg;
};
_Static_assert(sizeof(struct trampoline_args) == 32, "as trampoline.S knows it");
_Static_assert(TRAMPOLINE_ARGS + __builtin_offsetof(struct trampoline_args, page) == TA_PAGE, "trampoline.S");
_Static_assert(TRAMPOLINE_ARGS + __builtin_offsetof(struct trampoline_args, cr3) == TA_CR3, "trampoline.S");
_Static_assert(TRAMPOLINE_ARGS + __builtin_offsetof(struct trampoline_args, stack) == TA_STACK, "trampoline.S");
_Static_assert(TRAMPOLINE_ARGS + __builtin_offsetof(struct trampoline_args, entry) == TA_ENTRY, "trampoline.S");
_Static_assert(TRAMPOLINE_ARGS + __builtin_offsetof(struct trampoline_args, arg) == TA_ARG, "trampoline.S");
#endif

#endif
