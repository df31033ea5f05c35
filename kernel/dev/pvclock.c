/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/pvclock.c - a guest's time: TSC, guest clock, wall clock, KVM's clock pages.
 *
 * Problem.  A guest reads time in many ways: RDTSC, the KVM clock page, the local APIC timer, the PIT, the PM timer,
 * the RTC.  They must agree with each other, never run backwards, and survive a move.  The destination's TSC has
 * another value, its oscillator differs a little, and its wall clock may be wrong.
 *
 * Model.  There is one source: the VM's TSC = host TSC, scaled by vm->tsc_ratio unless that is 0, + vm->tsc_offset.
 * The guest clock is a linear function of it (struct guest_time).  It uses the 32.32 multiplication that the guest
 * itself does with the clock page, so that both round alike.  The wall clock is the guest clock plus a constant.
 * Devices compute from the guest clock and hold no other time.
 *
 * A vCPU's TSC = the VM's + v->tsc_adjust, which reads as IA32_TSC_ADJUST.  A guest that writes TSC or TSC_ADJUST sets
 * tsc_adjust (SDM 3B "IA32_TSC_ADJUST Register Support"), and nothing else.  So its time goes on as before: the clock
 * page of each vCPU has base_tsc + tsc_adjust, and its TSC deadline is converted.  Linux's vDSO reads vCPU 0's page on
 * all vCPUs if that is flagged "stable", so the flag is there only while all vCPUs have the same tsc_adjust, and on a
 * host whose CPUs have the same TSC.
 *
 * A new VM.  TSC and clock are 0 at creation.  wall_base_ns is the host's wall clock at that time.  It is not read
 * again, since the guest's own time keeping (NTP) corrects its wall clock from there on.
 *
 * A move.  After the last vCPU stopped, the source saves its TSC at one instant, and the line (bases, rate).
 * The destination sets
 *         tsc_offset = saved tsc - its own (scaled) TSC at load          (1)
 * and keeps the line.  So the clock pages that came with the guest's memory stay valid.  The hosts' wall clocks play no
 * part.  Guest time runs from (1) on, though no vCPU does, so the wait for COMMIT counts.  What (1) leaves out is the
 * time that the state spent in transit.  The migration engine knows the state's age from both hosts' clocks, and adds
 * it by guest_time_catch_up(), together with the time from then to the load.  That is not zero: a state is checked
 * before it is applied, which took 4 ms the first time (in an emulator).  No step is negative, so no time jumps back.
 *
 * Frequency.  A guest is promised one when it starts, vm->tsc_hz.  guest_tsc_fit() finds the row:
 *    A  This host's is the same within RATE_NOISE_PPM.  Hosts of one frequency measure it slightly differently at boot,
 *       and equal crystals are more likely than different ones.  The guest TSC is the host's plus the offset.
 *    B  The processor can scale: the guest TSC runs at the promised rate.
 *    C  It cannot: the guest TSC runs at this host's rate from now on.  The clock pages keep the guest clock right, but
 *       a guest that uses the bare TSC as its clock sees another speed.  vm_offer_note() warns who asked for the move.
 * The saved rate is the actual one on the source, which differs from the promised one after a move with C.  If the rate
 * changes, a new line starts at (saved tsc, clock then), and the clock pages are rewritten.  Else the saved line is
 * kept.
 *
 * The clock page (Linux Documentation/virt/kvm/x86/msr.rst): version is odd while we write.  All vCPUs get the same
 * point of the line, so with the "stable" flag readers on different vCPUs need no common maximum.  dev_lock is held
 * while a page is written and vCPUs run. */
#include "kernel/dev/pvclock.h"
#include "kernel/core/cpu_ops.h"
#include "kernel/core/tsc_scale.h"
#include "kernel/dev/devices.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

#define NS_PER_S       1000000000u
#define RATE_NOISE_PPM 250
#define TSC_HZ_MIN     UINT64_C(1000000)
#define TSC_HZ_MAX     UINT64_C(100000000000)
#define CLOCK_MAX_NS   (UINT64_C(1) << 62) /* 146 years: limit of the uptime and date that a peer may send */

#define PVCLOCK_ENABLED      BIT64(0)
#define PVCLOCK_FLAG_STABLE  1u
#define PVCLOCK_FLAG_STOPPED 2u /* KVM's PVCLOCK_GUEST_STOPPED; the guest clears it */
#define PVCLOCK_FLAGS_AT     29 /* in struct pvclock_vcpu_time_info */

static uint64_t clock_scale(uint64_t ticks, uint32_t mul, int shift)
{
    ticks = shift < 0 ? ticks >> -shift : ticks << shift;
    return (uint64_t)(((unsigned __int128)ticks * mul) >> 32);
}

/* Set mul and shift for hz.  mul is in [2^31, 2^32), for full precision; long division, one more bit at each step. */
static void guest_time_set_rate(struct guest_time *t, uint64_t hz)
{
    ASSERT(hz >= TSC_HZ_MIN && hz <= TSC_HZ_MAX);
    const uint64_t one_s = (uint64_t)NS_PER_S << 32;
    uint64_t q = one_s / hz, rem = one_s % hz;
    int shift = 0;
    while (q >> 32) {
        q >>= 1;
        shift++;
    }
    while (!(q >> 31)) {
        rem <<= 1;
        q = q << 1 | (rem >= hz);
        if (rem >= hz)
            rem -= hz;
        shift--;
    }
    ASSERT(q >> 31 == 1 && shift > -32 && shift < 32);
    t->mul = (uint32_t)q;
    t->shift = (int8_t)shift;
    t->tick_hz = hz;
}

void guest_time_start(struct vm *vm)
{
    struct guest_time *t = &vm->devices->time;
    vm->tsc_ratio = 0;
    vm->tsc_offset = -(int64_t)tsc_read();
    if (!vm->tsc_hz)
        vm->tsc_hz = clock_tsc_hz;
    t->base_tsc = t->base_ns = 0;
    guest_time_set_rate(t, clock_tsc_hz);
    t->wall_base_ns = clock_wall_ns();
}

static uint64_t host_to_scaled_tsc(const struct vm *vm, uint64_t host_tsc)
{
    return vm->tsc_ratio ? tsc_scale(host_tsc, vm->tsc_ratio, cpu_caps.tsc_frac_bits) : host_tsc;
}

uint64_t vm_guest_tsc(const struct vm *vm) { return host_to_scaled_tsc(vm, tsc_read()) + (uint64_t)vm->tsc_offset; }

static void vcpu_tsc_apply(struct vcpu *v)
{
    cpu_ops->tsc_set(v, v->vm->tsc_ratio, (int64_t)((uint64_t)v->vm->tsc_offset + v->tsc_adjust));
}

void vm_tsc_apply(struct vm *vm)
{
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        ASSERT(atomic_load(&vm->vcpus[i]->state) == VCPU_FROZEN);
        vcpu_tsc_apply(vm->vcpus[i]);
    }
}

uint64_t guest_clock_ns_at(const struct guest_time *t, uint64_t tsc)
{
    return t->base_ns + (tsc > t->base_tsc ? clock_scale(tsc - t->base_tsc, t->mul, t->shift) : 0);
}

uint64_t guest_clock_ns(const struct vm *vm) { return guest_clock_ns_at(&vm->devices->time, vm_guest_tsc(vm)); }
uint64_t guest_wall_ns(const struct vm *vm) { return vm->devices->time.wall_base_ns + guest_clock_ns(vm); }

uint64_t guest_ns_to_ticks(const struct vm *vm, uint64_t ns)
{
    return muldiv_u64(ns, (uint32_t)(vm->devices->time.tick_hz / 1000), 1000000);
}
uint64_t guest_ticks_to_ns(const struct vm *vm, uint64_t ticks)
{
    return clock_scale(ticks, vm->devices->time.mul, vm->devices->time.shift);
}
uint64_t guest_tsc_to_host(const struct vm *vm, uint64_t guest_tsc)
{
    uint64_t host = guest_tsc - (uint64_t)vm->tsc_offset;
    if (vm->tsc_offset < 0 && host < guest_tsc)
        return UINT64_MAX; /* beyond the host's last tick: a deadline may be any number */
    if (vm->tsc_ratio)
        host = tsc_unscale(host, vm->tsc_ratio, cpu_caps.tsc_frac_bits);
    return host ? host : 1;
}

void guest_time_advance(struct vm *vm, uint64_t ns)
{
    vm->tsc_offset += (int64_t)guest_ns_to_ticks(vm, ns);
    vm_tsc_apply(vm);
}

void guest_time_catch_up(struct vm *vm, uint64_t age_us, uint64_t at_tsc)
{
    ASSERT((int64_t)(vm->devices->time.loaded_tsc - at_tsc) >= 0);
    guest_time_advance(vm, age_us * 1000 + tsc_to_ns(vm->devices->time.loaded_tsc - at_tsc));
}

/* ---- clock pages in guest memory ---- */

/* Write page, of len bytes, to guest-physical addr.  Its first 4 bytes are the version: odd while we write. */
static enum hv_err clock_page_publish(struct vm *vm, uint64_t addr, uint32_t *version, uint8_t *page, size_t len)
{
    ASSERT(len > 4 && addr % 4 == 0);
    struct wr head = wr_init(page, 4);
    wr_u32(&head, *version | 1);
    enum hv_err e = guest_write(vm, gpa(addr), page, 4); /* odd: readers wait */
    if (!e)
        e = guest_write(vm, gpa(addr + 4), page + 4, len - 4);
    if (e)
        return e;
    *version = (*version | 1) + 1;
    head = wr_init(page, 4);
    wr_u32(&head, *version);
    return guest_write(vm, gpa(addr), page, 4);
}

static bool tscs_are_equal(const struct vm *vm)
{
    for (unsigned i = 1; i < vm->n_vcpus; i++)
        if (vm->vcpus[i]->tsc_adjust != vm->vcpus[0]->tsc_adjust)
            return false;
    return true;
}

/* Write the clock page of vCPU i.  stopped: PVCLOCK_FLAG_STOPPED or 0. */
static enum hv_err system_time_publish(struct vm *vm, unsigned i, uint8_t stopped)
{
    const struct guest_time *t = &vm->devices->time;
    struct pvclock *c = &vm->devices->pvclock[i];
    uint8_t page[32]; /* struct pvclock_vcpu_time_info */
    struct wr w = wr_init(page, sizeof(page));
    wr_u32(&w, 0);
    wr_u32(&w, 0); /* version: clock_page_publish(); padding */
    wr_u64(&w, t->base_tsc + vm->vcpus[i]->tsc_adjust);
    wr_u64(&w, t->base_ns);
    wr_u32(&w, t->mul);
    wr_u8(&w, (uint8_t)t->shift);
    wr_u8(&w, (clock_tsc_stable && tscs_are_equal(vm) ? PVCLOCK_FLAG_STABLE : 0) | stopped);
    wr_u16(&w, 0);
    return clock_page_publish(vm, c->system_time_msr & ~PVCLOCK_ENABLED, &c->version, page, sizeof(page));
}

enum hv_err pvclock_system_time_write(struct vcpu *v, uint64_t val)
{
    struct vm *vm = v->vm;
    ASSERT(v->pcpu == this_pcpu()->index);
    struct pvclock *c = &vm->devices->pvclock[v->index];
    uint64_t addr = val & ~PVCLOCK_ENABLED;
    if ((val & PVCLOCK_ENABLED) && (addr % 4 || !guest_is_ram(vm, gpa(addr)) || !guest_is_ram(vm, gpa(addr + 31))))
        return HV_E_GUEST;
    spin_lock(&vm->dev_lock);
    c->system_time_msr = val;
    enum hv_err e = val & PVCLOCK_ENABLED ? system_time_publish(vm, v->index, 0) : HV_OK;
    spin_unlock(&vm->dev_lock);
    return e;
}

enum hv_err pvclock_wall_clock_write(struct vm *vm, uint64_t val)
{
    if (val % 4 || !guest_is_ram(vm, gpa(val)) || !guest_is_ram(vm, gpa(val + 11)))
        return HV_E_GUEST;
    uint64_t ns = vm->devices->time.wall_base_ns;
    uint32_t version = 0;
    uint8_t page[12]; /* struct pvclock_wall_clock */
    struct wr w = wr_init(page, sizeof(page));
    wr_u32(&w, 0);
    wr_u32(&w, (uint32_t)(ns / NS_PER_S));
    wr_u32(&w, (uint32_t)(ns % NS_PER_S));
    return clock_page_publish(vm, val, &version, page, sizeof(page));
}

/* A GUEST_STOPPED that the guest has not cleared yet stays. */
static void system_time_publish_all(struct vm *vm, uint8_t stopped)
{
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        struct pvclock *c = &vm->devices->pvclock[i];
        uint8_t flags = 0;
        if (!(c->system_time_msr & PVCLOCK_ENABLED))
            continue;
        enum hv_err e = guest_read(vm, gpa((c->system_time_msr & ~PVCLOCK_ENABLED) + PVCLOCK_FLAGS_AT), &flags, 1);
        if (!e)
            e = system_time_publish(vm, i, stopped | (flags & PVCLOCK_FLAG_STOPPED));
        if (e)
            log_warn(vm->config.name,
                     "vCPU %u's clock page at %#lx could not be updated (%s): its clock may be off until it registers "
                     "a new one",
                     i, c->system_time_msr, hv_err_text(e));
    }
}

void pvclock_update_all(struct vm *vm)
{
    if (!vm->devices->time.pages_stale)
        return;
    vm->devices->time.pages_stale = false;
    system_time_publish_all(vm, 0);
}

void vcpu_tsc_adjust(struct vcpu *v, uint64_t adjust)
{
    ASSERT(v->pcpu == this_pcpu()->index);
    spin_lock(&v->vm->dev_lock);
    v->tsc_adjust = adjust;
    vcpu_tsc_apply(v);
    system_time_publish_all(v->vm, 0);
    spin_unlock(&v->vm->dev_lock);
    lapic_tsc_changed(v);
}

void pvclock_guest_stopped(struct vm *vm)
{
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        ASSERT(atomic_load(&vm->vcpus[i]->state) == VCPU_FROZEN);
    system_time_publish_all(vm, PVCLOCK_FLAG_STOPPED);
}

/* ---- across a move ---- */

void vm_time_save(const struct vm *vm, struct wr *w)
{
    const struct guest_time *t = &vm->devices->time;
    wr_u64(w, vm_guest_tsc(vm));
    wr_u64(w, t->base_tsc);
    wr_u64(w, t->base_ns);
    wr_u64(w, t->tick_hz);
    wr_u64(w, t->wall_base_ns);
    wr_u64(w, clock_wall_ns()); /* informative: how far the hosts' clocks differ; never used to set time */
}

static bool tsc_rates_match(uint64_t a, uint64_t b)
{
    uint64_t diff = a > b ? a - b : b - a;
    return diff <= a / 1000000 * RATE_NOISE_PPM;
}

static uint64_t tsc_ratio_for(uint64_t hz)
{
    return cpu_caps.tsc_frac_bits ? tsc_ratio(hz, clock_tsc_hz, cpu_caps.tsc_frac_bits, cpu_caps.tsc_ratio_max) : 0;
}

enum tsc_fit guest_tsc_fit(uint64_t promised_hz)
{
    if (tsc_rates_match(promised_hz, clock_tsc_hz))
        return TSC_FITS;
    return tsc_ratio_for(promised_hz) ? TSC_SCALED : TSC_CHANGES;
}

enum hv_err vm_time_load(struct vm *vm, struct rd *r, bool apply)
{
    struct guest_time t = { 0 };
    uint64_t tsc = rd_u64(r);
    t.base_tsc = rd_u64(r);
    t.base_ns = rd_u64(r);
    uint64_t hz = rd_u64(r);
    t.wall_base_ns = rd_u64(r);
    (void)rd_u64(r); /* the source's wall clock */
    if (r->bad || t.base_tsc > tsc || t.base_ns > CLOCK_MAX_NS || t.wall_base_ns > CLOCK_MAX_NS || hz < TSC_HZ_MIN ||
        hz > TSC_HZ_MAX)
        return HV_E_PROTO;
    if (!apply)
        return HV_OK;
    guest_time_set_rate(&t, hz);
    enum tsc_fit fit = guest_tsc_fit(vm->tsc_hz);
    uint64_t rate = fit == TSC_SCALED ? vm->tsc_hz : clock_tsc_hz;
    if (!tsc_rates_match(hz, rate)) {
        t.base_ns = guest_clock_ns_at(&t, tsc);
        t.base_tsc = tsc;
        guest_time_set_rate(&t, rate);
        t.pages_stale = true;
    }
    vm->devices->time = t;
    vm->tsc_ratio = fit == TSC_SCALED ? tsc_ratio_for(t.tick_hz) : 0;
    vm->devices->time.loaded_tsc = tsc_read();
    vm->tsc_offset = (int64_t)(tsc - host_to_scaled_tsc(vm, vm->devices->time.loaded_tsc));
    return HV_OK;
}
