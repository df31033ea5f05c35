/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/vcpu.c - kicks, requests, exceptions and reset values of a vCPU, and the crash of its guest.
 *
 * A request is data first, then a kick: the target reads the data after it has left the guest or HLT, so no request is
 * lost.  Not here: running a vCPU (kernel/run/slice.c), and choosing one (kernel/run/sched.c). */
#include "kernel/core/vcpu.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/core/vm.h"
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

const char *const vcpu_exit_names[VCPU_EXIT_COUNT] = {
    [VCPU_EXIT_INTR] = "host-interrupt",
    [VCPU_EXIT_PAUSE] = "pause",
    [VCPU_EXIT_IRQ_WINDOW] = "irq-window",
    [VCPU_EXIT_HLT] = "hlt",
    [VCPU_EXIT_CPUID] = "cpuid",
    [VCPU_EXIT_IO] = "port",
    [VCPU_EXIT_MSR] = "msr",
    [VCPU_EXIT_S2_FAULT] = "memory",
    [VCPU_EXIT_XSETBV] = "xsetbv",
    [VCPU_EXIT_HYPERCALL] = "hypercall",
    [VCPU_EXIT_INVD] = "cache",
    [VCPU_EXIT_UD] = "undefined",
    [VCPU_EXIT_LOG_FULL] = "log-full",
    [VCPU_EXIT_MACHINE_CHECK] = "machine-check",
    [VCPU_EXIT_SHUTDOWN] = "triple-fault",
    [VCPU_EXIT_ENTRY_FAIL] = "entry-failed",
    [VCPU_EXIT_UNKNOWN] = "unknown",
};

_Static_assert(VCPU_REQ_ALL == 2 * VCPU_REQ_NMI_2 - 1, "all requests");

/* No wake-up is lost: the caller's data is written before `running` is read.  The scheduler stores NULL there after a
 * slice, and reads the data only then. */
void vcpu_kick(struct vcpu *v)
{
    const struct vcpu *running = atomic_load(&pcpu_get(v->pcpu)->running);
    if (!running || running == v)
        pcpu_kick(v->pcpu);
}

void vcpu_request(struct vcpu *v, unsigned req)
{
    ASSERT(req && !(req & ~(unsigned)VCPU_REQ_ALL));
    /* seq_cst: before the kick, and before the target's next check */
    if ((atomic_fetch_or(&v->requests, req) & req) != req)
        vcpu_kick(v);
}

void vcpu_nmi(struct vcpu *v)
{
    if (atomic_fetch_or(&v->requests, VCPU_REQ_NMI) & VCPU_REQ_NMI)
        vcpu_request(v, VCPU_REQ_NMI_2);
    else
        vcpu_kick(v);
}

void vcpu_boost(struct vcpu *v)
{
    if (atomic_load(&v->state) != VCPU_RUNNABLE || !atomic_load(&v->may_boost) || atomic_exchange(&v->urgent, true)) {
        vcpu_kick(v);
        return;
    }
    atomic_store(&pcpu_get(v->pcpu)->need_resched, true);
    pcpu_kick(v->pcpu);
}

struct vcpu_latency vcpu_latency_max(struct vm *vm, bool reset)
{
    struct vcpu_latency w = { 0 };
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        struct vcpu *v = vm->vcpus[i];
        w.out_us = MAX(w.out_us, clock_tsc_to_us(v->out_max));
        w.late_us = MAX(w.late_us, clock_tsc_to_us(v->late_max));
        if (reset)
            v->out_max = v->late_max = 0;
    }
    return w;
}

void vcpu_regs_reset(struct vcpu_regs *r)
{
    memset(r, 0, sizeof(*r));
    r->rip = 0xfff0;
    r->rflags = 2;
    r->gpr[GPR_RDX] = 0x600;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        r->seg[i] = (struct seg){ .ar = 0x93, .limit = 0xffff };
    r->seg[SEG_CS] = (struct seg){ .sel = 0xf000, .ar = 0x9b, .limit = 0xffff, .base = 0xffff0000 };
    r->seg[SEG_LDTR].ar = 0x82;
    r->seg[SEG_TR].ar = 0x8b;
    r->gdtr.limit = r->idtr.limit = 0xffff;
    r->cr0 = 0x60000010;
    r->dr6 = 0xffff0ff0;
    r->dr7 = 0x400;
    r->xcr0 = 1;
    r->pat = UINT64_C(0x0007040600070406);
}

void vcpu_inject_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
    ASSERT(vector < 32);
    cpu_ops->inject(v, &(struct vcpu_event){ EVENT_EXCEPTION, vector, has_error, error });
}

static void vcpu_dump_line(struct printer *p, const char *text)
{
    (void)p;
    log_error("vm", "    %s", text);
}

void vcpu_guest_crash(struct vcpu *v, const char *fmt, ...)
{
    struct vm *vm = v->vm;
    struct printer lines = { vcpu_dump_line };
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(vm->crash_reason, sizeof(vm->crash_reason), fmt, ap);
    va_end(ap);
    log_error("vm", "%s: vCPU %u at rip 0x%lx: %s", vm->config.name, v->index, v->rip, vm->crash_reason);
    cpu_ops->dump(v, &lines); /* the vendor's state, which is lost once the guest is stopped */
    vm_power_request(vm, VM_POWER_CRASH);
}
