/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/trap.h - the stack frame of an exception or interrupt, and the handlers. */
#ifndef GODWIT_KERNEL_HOST_X86_TRAP_H
#define GODWIT_KERNEL_HOST_X86_TRAP_H

#include "kernel/lib/types.h"

/* Built by entry.S, lowest address first. */
struct trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

/** Handle f->vector.  entry.S calls this for every vector, with IF=0; it returns to resume the interrupted code. */
void trap_dispatch(struct trap_frame *f);

#define BACKTRACE_MAX 32
/* What a dump shows. */
struct trap_snapshot {
    struct trap_frame f;
    uint64_t cr0, cr2, cr3, cr4, efer;
    uint64_t top; /* of the interrupted stack; 0: cannot be read */
    unsigned n_back;
    uint64_t back[BACKTRACE_MAX]; /* code addresses, callee first */
};
/** Record this CPU's state as f interrupted it.  Any context; takes no lock. */
void trap_snapshot_take(struct trap_snapshot *s, const struct trap_frame *f);
/** Log registers and a symbolized backtrace. */
void trap_snapshot_print(const struct trap_snapshot *s, const char *subject);
/** Log a backtrace that starts with code address rip and frame pointer rbp. */
void trap_backtrace(uint64_t rip, uint64_t rbp);

/** Handle host interrupt vector (32..255): EOI, and a flag in struct pcpu (kernel/host/pcpu.c).  IF=0. */
void pcpu_irq(unsigned vector);

#endif
