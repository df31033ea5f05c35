/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/pvclock.h - a guest's time: TSC, nanosecond clock, wall clock, KVM's clock pages, and time across a move.
 *
 * Model (essay in pvclock.c): all time that a guest can read is a function of its TSC, so moving the TSC moves all. */
#ifndef GODWIT_KERNEL_DEV_PVCLOCK_H
#define GODWIT_KERNEL_DEV_PVCLOCK_H

#include "kernel/host/clock.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct vm;
struct vcpu;

#define MSR_KVM_WALL_CLOCK_NEW  0x4b564d00u
#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01u

/* A TSC without "v's" is the VM's (vm_guest_tsc), here and in all that follows.
 * ns = base_ns + ((tsc - base_tsc) << shift) * mul >> 32 (shift < 0: >> -shift).  The guest computes by the same
 * formula, so both round alike. */
struct guest_time {
    uint64_t base_tsc;
    uint64_t base_ns; /* guest clock at base_tsc; the clock counts from the VM's creation */
    uint32_t mul;
    int8_t shift;
    uint64_t tick_hz;      /* actual rate of the guest TSC on this host */
    uint64_t wall_base_ns; /* guest wall clock (ns since 1970) at guest clock 0 */
    bool pages_stale;      /* the rate changed at load: the clock pages in guest memory must be rewritten */
    uint64_t loaded_tsc;   /* host TSC at which vm_time_load() started this clock */
};
struct pvclock {              /* per vCPU */
    uint64_t system_time_msr; /* guest-physical address of the clock page; bit 0: enabled */
    uint32_t version;         /* of the page; even: consistent */
};

/** a * mul / div without intermediate overflow; div > 0.  The result must fit in 64 bits. */
static inline uint64_t muldiv_u64(uint64_t a, uint32_t mul, uint32_t div)
{
    uint64_t hi = (a >> 32) * mul, lo = (a & 0xffffffffu) * mul;
    hi += lo >> 32;
    lo = (hi % div) << 32 | (lo & 0xffffffffu);
    return (hi / div << 32) + lo / div;
}

/** Convert a duration from ticks of this host's TSC to ns. */
static inline uint64_t tsc_to_ns(uint64_t ticks) { return muldiv_u64(ticks, 1000000, (uint32_t)(clock_tsc_hz / 1000)); }

/** Start the clock of a new VM: guest TSC 0 is now (sets vm->tsc_offset, unscaled).  The wall clock is the host's;
 *  vm->tsc_hz is too, unless an offer has set it.  vCPUs frozen. */
void guest_time_start(struct vm *vm);
uint64_t guest_clock_ns(const struct vm *vm); /* now; monotonic */
uint64_t guest_clock_ns_at(const struct guest_time *t, uint64_t guest_tsc);
uint64_t guest_wall_ns(const struct vm *vm);                  /* now, ns since 1970 */
uint64_t guest_ns_to_ticks(const struct vm *vm, uint64_t ns); /* durations */
uint64_t guest_ticks_to_ns(const struct vm *vm, uint64_t ticks);
/** Host TSC at which the guest TSC reads guest_tsc; never 0. */
uint64_t guest_tsc_to_host(const struct vm *vm, uint64_t guest_tsc);

/** Pass vm->tsc_ratio, and vm->tsc_offset with v's tsc_adjust, to the vendor, for each vCPU v.  vCPUs frozen. */
void vm_tsc_apply(struct vm *vm);
/** Set v's IA32_TSC_ADJUST, and with it v's TSC, which is the VM's + this.  Moves v's TSC deadline, and rewrites the
 *  clock pages: they lose the flag "stable" while the TSCs of the VM's vCPUs differ.  Owner pCPU of v, dev_lock not
 *  held.  Manual: SDM 3B "IA32_TSC_ADJUST Register Support". */
void vcpu_tsc_adjust(struct vcpu *v, uint64_t adjust);
/** How this host provides a guest TSC of promised_hz: rows A, B and C of pvclock.c. */
enum tsc_fit { TSC_FITS, TSC_SCALED, TSC_CHANGES };
enum tsc_fit guest_tsc_fit(uint64_t promised_hz);

/** Advance the guest's time by ns: sets vm->tsc_offset and passes it to the vendor.  vCPUs frozen. */
void guest_time_advance(struct vm *vm, uint64_t ns);
/** After vm_time_load(): advance the guest's time by the time that its state spent in transit.  age_us: age of the
 *  state when this host's TSC was at_tsc; at_tsc is not later than the load.  Otherwise as guest_time_advance(). */
void guest_time_catch_up(struct vm *vm, uint64_t age_us, uint64_t at_tsc);

/** MSR writes: fill the clock page at the address in val.  HV_E_GUEST: not in RAM or misaligned, the caller injects
 *  #GP.  Owner pCPU, dev_lock not held. */
HV_MUST_CHECK enum hv_err pvclock_system_time_write(struct vcpu *v, uint64_t val);
HV_MUST_CHECK enum hv_err pvclock_wall_clock_write(struct vm *vm, uint64_t val);
/** Rewrite all enabled clock pages if a move has changed the TSC rate (vm_state_load calls this).  vCPUs frozen. */
void pvclock_update_all(struct vm *vm);

/** Tell the guest that it stood still: sets GUEST_STOPPED in each enabled clock page, so that its watchdogs do not take
 *  a pause or a move for a CPU that hangs.  vCPUs frozen. */
void pvclock_guest_stopped(struct vm *vm);

/** Save and load time; vCPUs frozen.  Loading sets vm->tsc_offset and tsc_ratio so that the guest TSC continues from
 *  the saved value, at vm->tsc_hz where possible.  The caller passes both to the vendor by vm_tsc_apply().
 *  apply false: only check.  HV_E_PROTO: not a legal time, nothing is changed. */
void vm_time_save(const struct vm *vm, struct wr *w);
HV_MUST_CHECK enum hv_err vm_time_load(struct vm *vm, struct rd *r, bool apply);

#endif
