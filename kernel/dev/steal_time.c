/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/steal_time.c - KVM's steal time and paravirtual TLB flush.
 *
 * Problem.  A guest's kernel assumes that its CPUs run.  Where vCPUs outnumber CPUs, some are preempted, and the guest
 * loses whole turns (5 ms) on them.  It spins for a mutex whose owner is preempted.  After a change of page tables it
 * sends IPIs to all vCPUs of the process, and spins until the last one has flushed its TLB.
 *
 * Solution: KVM's, which unmodified guests know (Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_STEAL_TIME).  Each
 * vCPU has a record in guest memory that tells whether it is preempted; Linux does not spin for a preempted vCPU.  Nor
 * does it send an IPI to one, but sets FLUSH_TLB in the record by compare-and-exchange:
 *
 *      another vCPU: change page tables; if preempted == PREEMPTED, add FLUSH_TLB; else send an IPI
 *      we, here:     preempted := 0, in one exchange; if FLUSH_TLB was set, flush; enter the guest
 *
 * Correct in both orders.  If the guest's exchange comes first, we flush before the vCPU runs an instruction.  If ours
 * comes first, the guest reads 0 and sends an IPI.  Invariant: no guest code runs on v between exchange and flush.
 *
 * A halted vCPU is not preempted: an interrupt wakes it, and Linux prefers such a CPU for the next task.
 *
 * A move.  The record is guest memory, and moves as such; the state holds its address only.  Records are written within
 * slices, so never after the last page was sent.  The destination starts with all TLBs flushed. */
#include "kernel/dev/steal_time.h"

#include "kernel/dev/devices.h"
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

/* struct kvm_steal_time: 64 bytes at a multiple of 64, so all in one page. */
#define ENABLED       BIT64(0)
#define RESERVED      UINT64_C(0x3e)
#define RECORD_MASK   (~UINT64_C(0x3f))
#define OFF_STEAL     0  /* u64, ns */
#define OFF_VERSION   8  /* u32, odd while steal changes */
#define OFF_PREEMPTED 16 /* u8 */
#define PREEMPTED     1u
#define FLUSH_TLB     2u

_Static_assert((RECORD_MASK | RESERVED | ENABLED) == UINT64_MAX, "each bit of the MSR has one meaning");
static uint64_t *steal_msr(struct vcpu *v) { return &v->vm->devices->steal_time[v->index].msr; }
static gpa_t steal_field(struct vcpu *v, unsigned off) { return gpa((*steal_msr(v) & RECORD_MASK) + off); }

bool steal_time_legal(const struct vm *vm, uint64_t val)
{
    return !(val & RESERVED) && (!(val & ENABLED) || guest_is_ram(vm, gpa(val & RECORD_MASK)));
}

enum hv_err steal_time_write(struct vcpu *v, uint64_t val)
{
    if (!steal_time_legal(v->vm, val))
        return HV_E_GUEST;
    *steal_msr(v) = val;
    return HV_OK;
}

/* Add ns to the record's steal time.  Read, modify, write: a guest that changes the record harms only itself. */
static enum hv_err steal_add(struct vcpu *v, uint64_t ns)
{
    uint64_t steal;
    uint32_t version;
    enum hv_err e = guest_read(v->vm, steal_field(v, OFF_STEAL), &steal, sizeof(steal));
    if (!e)
        e = guest_read(v->vm, steal_field(v, OFF_VERSION), &version, sizeof(version));
    if (e)
        return e;
    steal += ns;
    version |= 1;
    e = guest_write(v->vm, steal_field(v, OFF_VERSION), &version, sizeof(version));
    if (!e)
        e = guest_write(v->vm, steal_field(v, OFF_STEAL), &steal, sizeof(steal));
    version++;
    return e ? e : guest_write(v->vm, steal_field(v, OFF_VERSION), &version, sizeof(version));
}

void steal_time_slice_begin(struct vcpu *v)
{
    uint8_t preempted;
    ASSERT(atomic_load(&v->state) == VCPU_RUNNING);
    ASSERT(v->pcpu == this_pcpu()->index);
    uint64_t waited = v->left_tsc ? tsc_read() - v->left_tsc : 0;
    v->steal_tsc += waited;
    if (!(*steal_msr(v) & ENABLED) || guest_xchg_u8(v->vm, steal_field(v, OFF_PREEMPTED), 0, &preempted))
        return;
    if (preempted & FLUSH_TLB)
        v->tlb_flush = true;
    if (waited)
        (void)!steal_add(v, tsc_to_ns(waited));
}

void steal_time_preempted(struct vcpu *v)
{
    const uint8_t preempted = PREEMPTED;
    ASSERT(atomic_load(&v->state) == VCPU_RUNNING);
    ASSERT(v->pcpu == this_pcpu()->index);
    if (*steal_msr(v) & ENABLED)
        (void)!guest_write(v->vm, steal_field(v, OFF_PREEMPTED), &preempted, sizeof(preempted));
}
