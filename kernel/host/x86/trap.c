/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/trap.c - exceptions: the two that we provoke are repaired, all others are our bugs and end in a dump.
 *
 * Interrupts go to pcpu.c. */
#include "kernel/host/x86/trap.h"
#include "kernel/lib/log.h"
#include "kernel/host/panic.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/symbols.h"
#include "kernel/host/x86/apic.h"
#include "kernel/host/x86/desc.h"
#include "kernel/host/x86/paging.h"
#include "kernel/host/x86/x86.h"

#define BACKTRACE_MAX 32

extern char rdmsr_safe_insn[], wrmsr_safe_insn[], msr_fault[];

static const char *exception_name(unsigned vector)
{
    static const char names[32][4] = {
        "DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "9", "TS", "NP", "SS", "GP", "PF", "15",
        "MF", "AC", "MC", "XM", "VE", "CP", "22", "23", "24", "25", "26", "27", "HV", "VC", "SX", "31",
    };
    return names[vector & 31];
}

static void print_frame_line(unsigned depth, uint64_t addr)
{
    uint64_t off;
    const char *name = symbol_find(depth ? addr - 1 : addr, &off);      /* a return address may be past its function's end */

    if (name)
        log_error("panic", "  #%u %016llx %s+0x%llx", depth, (unsigned long long)addr, name,
                  (unsigned long long)(off + (depth ? 1 : 0)));
    else
        log_error("panic", "  #%u %016llx", depth, (unsigned long long)addr);
}

void trap_backtrace(uint64_t rip, uint64_t rbp)
{
    print_frame_line(0, rip);
    for (unsigned depth = 1; depth < BACKTRACE_MAX; depth++) {
        if (!rbp || (rbp & 7) || !paging_is_mapped(rbp) || !paging_is_mapped(rbp + 15))
            return;
        const uint64_t *frame = (const uint64_t *)(uintptr_t)rbp;
        if (!frame[1])
            return;
        print_frame_line(depth, frame[1]);
        if (frame[0] <= rbp)                    /* callers' frames lie higher */
            return;
        rbp = frame[0];
    }
}

#define U(x) ((unsigned long long)(x))

/* A function that has not built its frame yet, or never does, has its return address on top of the stack. */
static void print_frameless_caller(const struct trap_frame *f)
{
    uint64_t off, top;

    if ((f->rsp & 7) || !paging_is_mapped(f->rsp))
        return;
    top = *(const uint64_t *)(uintptr_t)f->rsp;
    const char *name = symbol_find(top - 1, &off);
    if (name)
        log_error("panic", "top of stack: %016llx %s+0x%llx", U(top), name, U(off + 1));
}

void trap_dump(const struct trap_frame *f)
{
    log_error("panic", "rax %016llx rbx %016llx rcx %016llx rdx %016llx", U(f->rax), U(f->rbx), U(f->rcx), U(f->rdx));
    log_error("panic", "rsi %016llx rdi %016llx rbp %016llx rsp %016llx", U(f->rsi), U(f->rdi), U(f->rbp), U(f->rsp));
    log_error("panic", "r8  %016llx r9  %016llx r10 %016llx r11 %016llx", U(f->r8), U(f->r9), U(f->r10), U(f->r11));
    log_error("panic", "r12 %016llx r13 %016llx r14 %016llx r15 %016llx", U(f->r12), U(f->r13), U(f->r14), U(f->r15));
    log_error("panic", "rip %016llx rflags %llx cs %llx ss %llx", U(f->rip), U(f->rflags), U(f->cs), U(f->ss));
    log_error("panic", "cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx", U(read_cr0()), U(read_cr2()), U(read_cr3()), U(read_cr4()),
              U(rdmsr(MSR_EFER)));
    print_frameless_caller(f);
    trap_backtrace(f->rip, f->rbp);
}

static bool repair(struct trap_frame *f)
{
    if (f->vector != EXC_GP || (f->rip != (uintptr_t)rdmsr_safe_insn && f->rip != (uintptr_t)wrmsr_safe_insn))
        return false;
    f->rip = (uintptr_t)msr_fault;
    return true;
}

static void explain(const struct trap_frame *f)
{
    uint64_t addr = read_cr2();

    if (f->vector != EXC_PF)
        return;
    if (addr < PAGE_SIZE)
        log_error("panic", "a null pointer was used");
    for (unsigned i = 0; i < pcpu_count; i++) {
        uint64_t guard = (uintptr_t)pcpu_get(i)->arch->stack;
        if (guard && addr - guard < PAGE_SIZE)
            log_error("panic", "the stack of CPU %u is full", i);
    }
}

void trap_dispatch(struct trap_frame *f)
{
    if (f->vector >= 32) {
        pcpu_irq((unsigned)f->vector);
        return;
    }
    if (f->vector == EXC_NMI && panic_active())
        panic_halt();
    if (repair(f))
        return;
    panic_enter();
    log_error("panic", "exception %llu (#%s), error code 0x%llx, on the CPU with APIC ID %u", U(f->vector),
              exception_name((unsigned)f->vector), U(f->error), apic_id());
    explain(f);
    trap_dump(f);
    log_error("panic", "stopped; switch the machine off or reset it");
    panic_halt();
}
