/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/trap.c - exceptions, dumps and backtraces.
 *
 * A #GP in rdmsr_safe() or wrmsr_safe() is fixed up.  An NMI (nmi.c) and a machine check that the host survives
 * (machine_check.c) are recorded.  Every other exception is our bug and ends in a dump.  Interrupts go to pcpu.c. */
#include "kernel/host/x86/trap.h"
#include "kernel/host/machine_check.h"
#include "kernel/host/nmi.h"
#include "kernel/host/panic.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/symbols.h"
#include "kernel/host/x86/apic.h"
#include "kernel/host/x86/desc.h"
#include "kernel/host/x86/paging.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

_Static_assert(sizeof(struct trap_frame) == 22 * 8, "as entry.S pushes it");
_Static_assert(offsetof(struct trap_frame, vector) == 15 * 8, "as entry.S pushes it");
_Static_assert(offsetof(struct trap_frame, rip) == 17 * 8, "SDM 3A 64-bit interrupt stack frame");

extern char rdmsr_safe_insn[], wrmsr_safe_insn[], msr_fault[];

static const char *trap_name(unsigned vector)
{
    static const char names[32][4] = {
        "DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "9",  "TS", "NP", "SS", "GP", "PF", "15",
        "MF", "AC", "MC",  "XM", "VE", "CP", "22", "23", "24", "25", "26", "27", "HV", "VC", "SX", "31",
    };
    return names[vector & 31];
}

static void trap_print_frame(const char *subject, unsigned depth, uint64_t addr)
{
    uint64_t off;
    const char *name =
        symbol_find(depth ? addr - 1 : addr, &off); /* a return address may lie after the end of its function */

    if (name)
        log_error(subject, "  #%u %016lx %s+0x%lx", depth, addr, name, off + (depth ? 1 : 0));
    else
        log_error(subject, "  #%u %016lx", depth, addr);
}

/* Fill s->back from code address rip and frame pointer rbp. */
static void trap_backtrace_take(struct trap_snapshot *s, uint64_t rip, uint64_t rbp)
{
    s->back[0] = rip;
    for (s->n_back = 1; s->n_back < BACKTRACE_MAX; s->n_back++) {
        if (!rbp || (rbp & 7) || !paging_is_mapped(rbp) || !paging_is_mapped(rbp + 15))
            return;
        const uint64_t *frame = (const uint64_t *)(uintptr_t)rbp;
        if (!frame[1])
            return;
        s->back[s->n_back] = frame[1];
        if (frame[0] <= rbp) { /* callers' frames are at higher addresses */
            s->n_back++;
            return;
        }
        rbp = frame[0];
    }
}

static void trap_backtrace_print(const struct trap_snapshot *s, const char *subject)
{
    for (unsigned depth = 0; depth < s->n_back; depth++)
        trap_print_frame(subject, depth, s->back[depth]);
}

void trap_backtrace(uint64_t rip, uint64_t rbp)
{
    struct trap_snapshot s;

    trap_backtrace_take(&s, rip, rbp);
    trap_backtrace_print(&s, "panic");
}

/* A function that has no frame, or not yet, has its return address on top of the stack. */
static void trap_print_frameless_caller(const struct trap_snapshot *s, const char *subject)
{
    uint64_t off;
    const char *name = s->top ? symbol_find(s->top - 1, &off) : NULL;

    if (name)
        log_error(subject, "top of stack: %016lx %s+0x%lx", s->top, name, off + 1);
}

void trap_snapshot_take(struct trap_snapshot *s, const struct trap_frame *f)
{
    s->f = *f;
    s->cr0 = read_cr0(), s->cr2 = read_cr2(), s->cr3 = read_cr3(), s->cr4 = read_cr4(), s->efer = rdmsr(MSR_EFER);
    s->top = (f->rsp & 7) || !paging_is_mapped(f->rsp) ? 0 : *(const uint64_t *)(uintptr_t)f->rsp;
    trap_backtrace_take(s, f->rip, f->rbp);
}

void trap_snapshot_print(const struct trap_snapshot *s, const char *subject)
{
    const struct trap_frame *f = &s->f;

    log_error(subject, "rax %016lx rbx %016lx rcx %016lx rdx %016lx", f->rax, f->rbx, f->rcx, f->rdx);
    log_error(subject, "rsi %016lx rdi %016lx rbp %016lx rsp %016lx", f->rsi, f->rdi, f->rbp, f->rsp);
    log_error(subject, "r8  %016lx r9  %016lx r10 %016lx r11 %016lx", f->r8, f->r9, f->r10, f->r11);
    log_error(subject, "r12 %016lx r13 %016lx r14 %016lx r15 %016lx", f->r12, f->r13, f->r14, f->r15);
    log_error(subject, "rip %016lx rflags %lx cs %lx ss %lx", f->rip, f->rflags, f->cs, f->ss);
    log_error(subject, "cr0 %lx cr2 %lx cr3 %lx cr4 %lx efer %lx", s->cr0, s->cr2, s->cr3, s->cr4, s->efer);
    trap_print_frameless_caller(s, subject);
    trap_backtrace_print(s, subject);
}

static void trap_dump(const struct trap_frame *f)
{
    struct trap_snapshot s;

    trap_snapshot_take(&s, f);
    trap_snapshot_print(&s, "panic");
}

static bool trap_fixup(struct trap_frame *f)
{
    if (f->vector != EXC_GP || (f->rip != (uintptr_t)rdmsr_safe_insn && f->rip != (uintptr_t)wrmsr_safe_insn))
        return false;
    f->rip = (uintptr_t)msr_fault;
    return true;
}

static void trap_explain(const struct trap_frame *f)
{
    uint64_t addr = read_cr2();

    if (f->vector != EXC_PF)
        return;
    if (addr < PAGE_SIZE)
        log_error("panic", "a null pointer was used");
    for (unsigned i = 0; i < pcpu_count; i++) {
        uint64_t guard = (uintptr_t)pcpu_get(i)->arch->stack;
        uint64_t ist = addr - (uintptr_t)pcpu_get(i)->arch->ist_stacks;
        if (guard && addr - guard < PAGE_SIZE)
            log_error("panic", "the stack of CPU %u overflowed", i);
        if (ist < IST_BYTES && ist % IST_STRIDE < PAGE_SIZE)
            log_error("panic", "the stack of CPU %u for exceptions overflowed (IST %lu)", i, ist / IST_STRIDE + 1);
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
    if (trap_fixup(f) || (f->vector == EXC_NMI && nmi_take(f)) || (f->vector == EXC_MC && mce_take(false) == MCE_GO_ON))
        return;
    panic_enter();
    log_error("panic", "exception %lu (#%s), error code 0x%lx, on the CPU with APIC ID %u", f->vector,
              trap_name((unsigned)f->vector), f->error, apic_id());
    mce_print_all();
    trap_explain(f);
    trap_dump(f);
    log_error("panic", "stopped; switch the machine off or reset it");
    panic_halt();
}
