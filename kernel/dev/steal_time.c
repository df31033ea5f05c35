/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/steal_time.c - see steal_time.h.
 *
 * Problem.  A guest's kernel believes that its CPUs run.  Where vCPUs outnumber CPUs some do not, and it loses
 * whole turns (5 ms) on them: it spins for a mutex whose owner waits for a CPU, and after each change of page
 * tables it interrupts all vCPUs of the process and spins until the last one has flushed its TLB, which a waiting
 * one does when its turn comes.
 *
 * Answer: KVM's, since unmodified guests know it (Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_STEAL_TIME).  A
 * vCPU's record in guest memory says whether it waits; Linux does not spin for such a one.  And instead of interrupting
 * it Linux leaves a note there, FLUSH_TLB, by compare-and-exchange:
 *
 *      another vCPU: change page tables; if preempted == WAITS, make it WAITS|FLUSH_TLB; else interrupt
 *      we, here:     preempted := 0, in one exchange; if FLUSH_TLB was there, flush; enter the guest
 *
 * Either its compare comes first, and we flush before the vCPU runs an instruction; or ours, and it finds 0 and
 * interrupts.  What it needs from us is only that nothing of the guest runs on v between the exchange and the flush.
 *
 * A sleeping vCPU (HLT) does not wait: an interrupt wakes it, and Linux prefers such a CPU for the next task.
 *
 * A move.  The record is guest memory, and moves as such; its address is the state.  Records are written in slices
 * only, so not after the last page was read.  The destination flushes everything at first anyway. */
#include "kernel/dev/steal_time.h"

#include "kernel/dev/devices.h"
#include "kernel/host/clock.h"

/* struct kvm_steal_time: 64 bytes at a multiple of 64, so all in one page. */
#define ENABLED       BIT64(0)
#define RESERVED      UINT64_C(0x3e)
#define RECORD_MASK   (~UINT64_C(0x3f))
#define OFF_STEAL     0  /* u64, ns */
#define OFF_VERSION   8  /* u32, odd while steal changes */
#define OFF_PREEMPTED 16 /* u8 */
#define WAITS         1u
#define FLUSH_TLB     2u

static uint64_t *msr_of(struct vcpu *v) { return &v->vm->devices->steal_time[v->index].msr; }
static gpa_t field(struct vcpu *v, unsigned off) { return gpa((*msr_of(v) & RECORD_MASK) + off); }

bool steal_time_legal(const struct vm *vm, uint64_t val)
{
    return !(val & RESERVED) && (!(val & ENABLED) || guest_is_ram(vm, gpa(val & RECORD_MASK)));
}

enum hv_err steal_time_write(struct vcpu *v, uint64_t val)
{
    if (!steal_time_legal(v->vm, val))
        return HV_E_GUEST;
    *msr_of(v) = val;
    return HV_OK;
}

/* What is in the record counts, not what we wrote last: a guest that changes it deceives itself. */
static enum hv_err add(struct vcpu *v, uint64_t ns)
{
    uint64_t steal;
    uint32_t version;
    enum hv_err e = guest_read(v->vm, field(v, OFF_STEAL), &steal, sizeof(steal));
    if (!e)
        e = guest_read(v->vm, field(v, OFF_VERSION), &version, sizeof(version));
    if (e)
        return e;
    steal += ns;
    version |= 1;
    e = guest_write(v->vm, field(v, OFF_VERSION), &version, sizeof(version));
    if (!e)
        e = guest_write(v->vm, field(v, OFF_STEAL), &steal, sizeof(steal));
    version++;
    return e ? e : guest_write(v->vm, field(v, OFF_VERSION), &version, sizeof(version));
}

void steal_time_go(struct vcpu *v)
{
    uint8_t preempted;
    if (!(*msr_of(v) & ENABLED) || guest_xchg_u8(v->vm, field(v, OFF_PREEMPTED), 0, &preempted))
        return;
    if (preempted & FLUSH_TLB)
        v->tlb_flush = true;
    if (v->left_tsc)
        (void)!add(v, tsc_to_ns(tsc_read() - v->left_tsc));
}

void steal_time_wait(struct vcpu *v)
{
    const uint8_t waits = WAITS;
    if (*msr_of(v) & ENABLED)
        (void)!guest_write(v->vm, field(v, OFF_PREEMPTED), &waits, sizeof(waits));
}
