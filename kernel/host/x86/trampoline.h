/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/trampoline.h - what trampoline.S finds at TRAMPOLINE_ARGS in its page.
 * Included by C and assembly. */
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
#endif

#endif
