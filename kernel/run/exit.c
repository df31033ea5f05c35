/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/exit.c - the handler of each kind of guest exit.
 *
 * The vendor has decoded the exit; one function per kind handles it.  Rule: an instruction either completes (registers
 * written, then RIP advanced) or faults (an exception is injected, RIP stays).  A guest that does what no machine
 * allows is stopped; the host is not affected.  Not here: devices (kernel/dev/), emulation (insn.c). */
#include "kernel/run/exit.h"

#include "kernel/core/cpu_ops.h"
#include "kernel/core/vm.h"
#include "kernel/dev/devices.h"
#include "kernel/host/machine_check.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"
#include "kernel/run/insn.h"
#include "kernel/run/sched.h"
#include "kernel/run/vcpu_run.h"

enum { VEC_UD = 6, VEC_GP = 13 };
#define CR4_BIT_OSXSAVE BIT64(18)

/* Linux Documentation/virt/kvm/x86/hypercalls.rst: number in RAX, arguments in RBX, RCX; result in RAX. */
enum { KVM_HC_KICK_CPU = 5, KVM_HC_SCHED_YIELD = 11 };
enum { KVM_NOT_ALLOWED = -1, KVM_NO_SUCH_CALL = -1000 };

static void exit_inject_gp(struct vcpu *v) { vcpu_inject_exception(v, VEC_GP, true, 0); }

static uint64_t exit_guest_cr4(struct vcpu *v, unsigned *cpl)
{
    uint64_t cr0, cr3, cr4, efer;
    cpu_ops->paging_get(v, &cr0, &cr3, &cr4, &efer, cpl);
    return cr4;
}

static void exit_handle_cpuid(struct vcpu *v, const struct vcpu_exit *x)
{
    unsigned cpl;
    bool osxsave = false;
    uint32_t leaf = (uint32_t)v->gpr[GPR_RAX];
    if (leaf == 1 || leaf == 0xd)
        osxsave = exit_guest_cr4(v, &cpl) & CR4_BIT_OSXSAVE;
    if (leaf == 0xd && osxsave)
        v->xcr0 = xgetbv(0); /* the guest may have changed it without an exit */
    cpuid_exit(v, osxsave, lapic_hw_enabled(v->lapic));
    vcpu_skip_insn(v, x);
}

static void exit_handle_msr(struct vcpu *v, const struct vcpu_exit *x)
{
    uint32_t msr = (uint32_t)v->gpr[GPR_RCX];
    uint64_t val = v->gpr[GPR_RDX] << 32 | (v->gpr[GPR_RAX] & 0xffffffff);
    enum hv_err e = x->msr.write ? msr_write(v, msr, val) : msr_read(v, msr, &val);
    if (e) {
        exit_inject_gp(v);
        return;
    }
    if (!x->msr.write) {
        v->gpr[GPR_RAX] = (uint32_t)val;
        v->gpr[GPR_RDX] = val >> 32;
    }
    vcpu_skip_insn(v, x);
}

static void exit_no_memory(struct vcpu *v)
{
    vcpu_guest_crash(v, "the host has no memory left for the guest's page: stop another guest or give this one less "
                        "memory");
}

static void exit_shutdown(struct vcpu *v, const char *why)
{
    uint64_t cr0, cr3, cr4, efer;
    unsigned cpl;
    cpu_ops->paging_get(v, &cr0, &cr3, &cr4, &efer, &cpl);
    log_warn(v->vm->config.name,
             "vCPU %u: triple fault at rip %#lx rsp %#lx cr0 %#lx cr3 %#lx cr4 %#lx efer %#lx: %s.  Resetting the "
             "guest",
             v->index, v->rip, v->gpr[GPR_RSP], cr0, cr3, cr4, efer, why);
    vm_power_request(v->vm, VM_POWER_RESET);
}

static void exit_handle_io(struct vcpu *v, const struct vcpu_exit *x)
{
    uint32_t val;
    ASSERT(x->io.size == 1 || x->io.size == 2 || x->io.size == 4);
    if (x->io.string) {
        if (insn_emulate_string_io(v, x) != HV_OK)
            exit_no_memory(v);
        return;
    }
    if (!x->io.in) {
        pio_write(v, x->io.port, x->io.size, (uint32_t)v->gpr[GPR_RAX]);
    } else {
        /* a 32-bit result clears the upper half */
        uint64_t keep = x->io.size == 4 ? 0 : ~(uint64_t)0 << (8 * x->io.size);
        pio_read(v, x->io.port, x->io.size, &val);
        v->gpr[GPR_RAX] = (v->gpr[GPR_RAX] & keep) | val;
    }
    vcpu_skip_insn(v, x);
}

static void exit_handle_s2_fault(struct vcpu *v, const struct vcpu_exit *x)
{
    enum hv_err e = guest_mem_fault(v->vm, x->s2.gpa, x->s2.write);
    if (e == HV_OK)
        return;
    if (e == HV_E_NOMEM)
        exit_no_memory(v);
    else if (x->s2.table_walk)
        vcpu_guest_crash(v, "the guest has page tables at 0x%lx, where it has no memory", x->s2.gpa.v);
    else if (x->s2.cut_event)
        exit_shutdown(v, "an interrupt's or exception's stack or table is where the guest has no memory");
    else if (x->s2.exec) /* an empty bus reads as ones, and FFFFh is an undefined instruction */
        vcpu_inject_exception(v, VEC_UD, false, 0);
    else if (insn_emulate_mmio(v, x->s2.gpa, x->s2.write) != HV_OK)
        exit_no_memory(v);
}

static void exit_handle_hlt(struct vcpu *v, const struct vcpu_exit *x)
{
    v->halted = !vcpu_skip_insn(v, x) && !lapic_take_wakeup(v);
}

static struct vcpu *vcpu_by_apic_id(struct vm *vm, uint32_t id) { return id < vm->n_vcpus ? vm->vcpus[id] : NULL; }

/* A second kick before v has halted, or woken, is none. */
static void vcpu_unhalt(struct vcpu *v)
{
    if (!(atomic_fetch_or(&v->requests, VCPU_REQ_UNHALT) & VCPU_REQ_UNHALT))
        vcpu_boost(v);
}

/* Hypercalls that save guests from spinning where vCPUs outnumber CPUs.  KICK_CPU: a vCPU that waits for a spinlock
 * halts, perhaps with interrupts off, and the vCPU that releases the lock kicks it.  SCHED_YIELD: a vCPU that waits for
 * another one to answer an interrupt lets that one run first.  An unknown vCPU is ignored.  The arguments have 32 bits,
 * all that a 32-bit guest can set. */
static int64_t exit_hypercall_result(struct vcpu *v, uint32_t number, uint32_t arg0, uint32_t arg1)
{
    struct vcpu *other = vcpu_by_apic_id(v->vm, number == KVM_HC_KICK_CPU ? arg1 : arg0);
    switch (number) {
    case KVM_HC_KICK_CPU:
        if (other)
            vcpu_unhalt(other);
        return 0;
    case KVM_HC_SCHED_YIELD:
        if (other && other->pcpu == v->pcpu)
            sched_yield_turn(v);
        return 0;
    }
    return KVM_NO_SUCH_CALL;
}

static void exit_handle_hypercall(struct vcpu *v, const struct vcpu_exit *x)
{
    unsigned cpl;
    exit_guest_cr4(v, &cpl);
    int64_t result =
        cpl ? KVM_NOT_ALLOWED
            : exit_hypercall_result(v, (uint32_t)v->gpr[GPR_RAX], (uint32_t)v->gpr[GPR_RBX], (uint32_t)v->gpr[GPR_RCX]);
    v->gpr[GPR_RAX] = (uint64_t)result;
    vcpu_skip_insn(v, x);
}

/* SDM 2C "XSETBV". */
static void exit_handle_xsetbv(struct vcpu *v, const struct vcpu_exit *x)
{
    unsigned cpl;
    uint64_t val = v->gpr[GPR_RDX] << 32 | (v->gpr[GPR_RAX] & 0xffffffff);
    if (!(exit_guest_cr4(v, &cpl) & CR4_BIT_OSXSAVE)) {
        vcpu_inject_exception(v, VEC_UD, false, 0);
        return;
    }
    if (cpl || (uint32_t)v->gpr[GPR_RCX] || !cpuid_xcr0_ok(v->vm->cpuid, val)) {
        exit_inject_gp(v);
        return;
    }
    xsetbv(0, val); /* the guest's FPU state is in the processor: see kernel/host/x86/fpu.h */
    v->xcr0 = val;
    vcpu_skip_insn(v, x);
}

static void exit_handle_refused(struct vcpu *v, const struct vcpu_exit *x, const char *what)
{
    vcpu_guest_crash(v,
                     "%s (reason 0x%lx, info 0x%lx, 0x%lx): a fault of the hypervisor's, please report it with `vm "
                     "inspect`",
                     what, x->hw.reason, x->hw.info1, x->hw.info2);
}

/* Whose memory has lost data is said later, by kernel/vm/vm_machine_check.c. */
static void exit_handle_machine_check(struct vcpu *v)
{
    switch (mce_take(true)) {
    case MCE_GO_ON: break;
    case MCE_GUEST_LOST:
        vcpu_guest_crash(v, "it was about to use data that an uncorrectable hardware error lost");
        break;
    case MCE_HOST_LOST: panic("hardware error that the host cannot survive, while a guest ran");
    }
}

void exit_handle(struct vcpu *v, const struct vcpu_exit *x)
{
    switch (x->kind) {
    case VCPU_EXIT_INTR:
    case VCPU_EXIT_IRQ_WINDOW:
    case VCPU_EXIT_LOG_FULL:      break;
    case VCPU_EXIT_HLT:           exit_handle_hlt(v, x); break;
    case VCPU_EXIT_PAUSE:         sched_yield_turn(v); break;
    case VCPU_EXIT_CPUID:         exit_handle_cpuid(v, x); break;
    case VCPU_EXIT_IO:            exit_handle_io(v, x); break;
    case VCPU_EXIT_MSR:           exit_handle_msr(v, x); break;
    case VCPU_EXIT_S2_FAULT:      exit_handle_s2_fault(v, x); break;
    case VCPU_EXIT_XSETBV:        exit_handle_xsetbv(v, x); break;
    case VCPU_EXIT_HYPERCALL:     exit_handle_hypercall(v, x); break;
    case VCPU_EXIT_INVD:          vcpu_skip_insn(v, x); break;
    case VCPU_EXIT_UD:            vcpu_inject_exception(v, VEC_UD, false, 0); break;
    case VCPU_EXIT_MACHINE_CHECK: exit_handle_machine_check(v); break;
    case VCPU_EXIT_SHUTDOWN:      exit_shutdown(v, "no handler could be entered; some kernels reboot so"); break;
    case VCPU_EXIT_ENTRY_FAIL:    exit_handle_refused(v, x, "the processor refuses the guest's state"); break;
    case VCPU_EXIT_UNKNOWN:
        exit_handle_refused(v, x, "the processor left the guest for a reason that was never asked for");
        break;
    case VCPU_EXIT_COUNT: break;
    }
}
