/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/pcpu.c - physical CPUs: their data, start-up, interrupts, the timer, idling.
 *
 * The timer is set at each guest entry, and arming the hardware is expensive.  So the hardware is not touched while it
 * will fire early enough; the interrupt handler arms it again if the deadline has not come.  timer_tsc is the deadline,
 * arch->timer_hw_tsc the TSC at which the hardware will fire.
 * Invariant: whenever timer_tsc is set, 0 < timer_hw_tsc <= timer_tsc. */
#include "kernel/host/pcpu.h"
#include "kernel/host/clock.h"
#include "kernel/host/clock_impl.h"
#include "kernel/host/machine_check.h"
#include "kernel/host/page.h"
#include "kernel/host/x86/apic.h"
#include "kernel/host/x86/cpu.h"
#include "kernel/host/x86/desc.h"
#include "kernel/host/x86/fpu.h"
#include "kernel/host/x86/paging.h"
#include "kernel/host/x86/trap.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

#define STACK_SIZE    (64 * KIB) /* its lowest page is not mapped */
#define TIMER_LATE_US 20000      /* a timer interrupt that is later is lost */

unsigned pcpu_count;
static struct pcpu
    *cpus; /* owned, never freed: PCPU_MAX elements, const after pcpu_start_all() but for [owner] fields */
static atomic_bool all_started;
static void (*ap_work)(void); /* const once all_started */
static uint32_t vectors_used; /* boot CPU only */

struct pcpu *pcpu_get(unsigned index)
{
    ASSERT(index < pcpu_count);
    return &cpus[index];
}

struct pcpu *this_pcpu(void) { return (struct pcpu *)read_gs0(); }

/* ---- set-up ---- */

static void *pcpu_mem_alloc(size_t len_bytes)
{
    void *p = mem_alloc(len_bytes);

    if (!p)
        panic("out of memory for processor data");
    return p;
}

static void pcpu_stack_alloc(struct pcpu *p)
{
    ASSERT(!p->arch->stack);
    p->arch->stack = pcpu_mem_alloc(STACK_SIZE);
    paging_map((uintptr_t)p->arch->stack, PAGE_SIZE, MAP_NONE);
}

static void *pcpu_stack_top(const struct pcpu *p) { return (uint8_t *)p->arch->stack + STACK_SIZE; }

static void ist_guards_map(struct pcpu *p, enum map_kind kind)
{
    for (unsigned i = 0; i + 1 < IST_COUNT; i++)
        paging_map((uintptr_t)p->arch->ist_stacks + i * IST_STRIDE, PAGE_SIZE, kind);
}

static void pcpu_prepare(struct pcpu *p, unsigned index, uint32_t id)
{
    p->self = p;
    p->index = index;
    p->apic_id = id;
    p->arch = pcpu_mem_alloc(sizeof(*p->arch));
    p->arch->ist_stacks = pcpu_mem_alloc(IST_BYTES);
    ist_guards_map(p, MAP_NONE);
}

void pcpu_init_boot(const struct boot_info *bi)
{
    cpus = pcpu_mem_alloc(PCPU_MAX * sizeof(*cpus));
    pcpu_prepare(&cpus[0], 0, bi->cpu_apic_id[0]);
    cpu_setup(&cpus[0], true);
    if (apic_id() != cpus[0].apic_id) {
        log_warn("cpu", "boot CPU has APIC ID %u, the firmware says %u", apic_id(), cpus[0].apic_id);
        cpus[0].apic_id = apic_id();
    }
    atomic_store_explicit(&cpus[0].online, true, memory_order_release);
    pcpu_count = 1;
}

static void ap_entry(struct pcpu *p)
{
    paging_load();
    cpu_setup(p, false);
    atomic_store_explicit(&p->online, true, memory_order_release); /* pairs with the acquire in cpu_start */
    tsc_sync_follow(p->index);
    while (!atomic_load_explicit(&all_started, memory_order_acquire)) /* pairs with the release in pcpu_start_all */
        sti_hlt_cli(); /* a kick ends it: of hundreds that spin, an emulator has few that get on */
    ap_work();
    panic("the work of CPU %u returned", p->index);
}

static void pcpu_tsc_check(const struct pcpu *p)
{
    int64_t ticks;

    if (tsc_sync_lead(p->index, &ticks))
        return;
    if (clock_tsc_stable)
        log_warn("cpu",
                 "CPU %u's clock (TSC) differs from CPU 0's by %ld ticks: guests are told that theirs are not "
                 "stable",
                 p->index, ticks);
    clock_tsc_stable = false;
}

static void pcpu_start_one(const struct boot_info *bi, uint32_t id)
{
    struct pcpu *p = &cpus[pcpu_count];
    ASSERT(pcpu_count < PCPU_MAX);

    pcpu_prepare(p, pcpu_count, id);
    pcpu_stack_alloc(p);
    if (cpu_start(p, bi->ap_trampoline, pcpu_stack_top(p), ap_entry)) {
        pcpu_count++;
        pcpu_tsc_check(p);
        return;
    }
    log_warn("cpu", "the CPU with APIC ID %u did not start within a second; going on without it", id);
    paging_map((uintptr_t)p->arch->stack, PAGE_SIZE, MAP_RW);
    mem_free(p->arch->stack, STACK_SIZE);
    ist_guards_map(p, MAP_RW);
    mem_free(p->arch->ist_stacks, IST_BYTES);
    mem_free(p->arch, sizeof(*p->arch));
    *p = (struct pcpu){ 0 };
}

static bool pcpu_can_start(const struct boot_info *bi)
{
    if (bi->n_cpus > 1 && (!bi->ap_trampoline || bi->ap_trampoline >= MIB)) {
        log_warn("cpu", "no free page below 1 MiB to start other CPUs with; using one CPU");
        return false;
    }
    if (paging_root() >> 32) {
        log_warn("cpu", "loaded above 4 GiB, from where other CPUs cannot be started; using one CPU");
        return false;
    }
    return true;
}

void pcpu_start_all(const struct boot_info *bi, void (*entry)(void))
{
    uint32_t n = pcpu_can_start(bi) ? MIN(bi->n_cpus, PCPU_MAX) : 0;

    ASSERT(pcpu_count == 1 && !this_pcpu()->index);
    ap_work = entry;
    for (uint32_t i = 0; i < n; i++)
        if (bi->cpu_apic_id[i] != cpus[0].apic_id)
            cpu_halt(bi->cpu_apic_id[i]);
    if (n > 1)
        cpu_halt_wait();
    for (uint32_t i = 0; i < n && pcpu_count < PCPU_MAX; i++) /* the list need not have the boot CPU */
        if (bi->cpu_apic_id[i] != cpus[0].apic_id)
            pcpu_start_one(bi, bi->cpu_apic_id[i]);
    log_info("cpu", "%u of %u CPUs running (list from %s)", pcpu_count, bi->n_cpus, bi->cpu_source);
    atomic_store_explicit(&all_started, true, memory_order_release);
    for (unsigned i = 1; i < pcpu_count; i++)
        pcpu_kick(i);
}

void pcpu_run(void (*work)(void))
{
    struct pcpu *p = this_pcpu();

    if (!p->arch->stack)
        pcpu_stack_alloc(p);
    cpu_stack_switch(pcpu_stack_top(p), work);
}

/* ---- interrupts ---- */

static void pcpu_timer_irq(struct pcpu *p)
{
    p->n_timer++;
    p->arch->timer_hw_tsc = 0;
    if (!p->timer_tsc)
        return;
    if (rdtsc() < p->timer_tsc) { /* it fired for an earlier deadline, or the counter was too short */
        p->arch->timer_hw_tsc = apic_timer_arm(p->timer_tsc);
        return;
    }
    p->timer_tsc = 0;
    p->timer_fired = true;
}

void pcpu_irq(unsigned vector)
{
    struct pcpu *p = this_pcpu();

    ASSERT(vector >= 32 && vector < 256);
    if (vector == IRQ_VEC_SPURIOUS || (vector < IRQ_VEC_DEVICE && !apic_in_service(vector)))
        return; /* spurious, also from the masked PICs: no EOI */
    apic_eoi(); /* also for interrupts that the firmware left pending */
    if (vector == IRQ_VEC_TIMER) {
        pcpu_timer_irq(p);
    } else if (vector == IRQ_VEC_KICK) {
        p->n_kick++;
        p->kicked = true;
        if (atomic_load_explicit(&p->mce_due, memory_order_relaxed) && atomic_exchange(&p->mce_due, false) &&
            mce_poll() == MCE_HOST_LOST)
            panic("hardware error that the host cannot survive, found by polling");
    } else if (vector >= IRQ_VEC_DEVICE && vector <= IRQ_VEC_DEVICE_MAX) {
        p->n_device++;
        atomic_fetch_or_explicit(&cpus[0].irq_pending, PCPU_CAUSE_IRQ(vector), memory_order_release);
        if (p->index)
            pcpu_kick(0);
    }
}

uint8_t pcpu_irq_alloc(void)
{
    ASSERT(!this_pcpu()->index);
    for (unsigned i = 0; i <= IRQ_VEC_DEVICE_MAX - IRQ_VEC_DEVICE; i++) {
        if (!(vectors_used & BIT32(i))) {
            vectors_used |= BIT32(i);
            return (uint8_t)(IRQ_VEC_DEVICE + i);
        }
    }
    return 0;
}

void pcpu_timer_set(uint64_t tsc)
{
    struct pcpu *p = this_pcpu();

    if (tsc == p->timer_tsc)
        return;
    p->timer_tsc = tsc;
    uint64_t hw = p->arch->timer_hw_tsc;
    if (tsc && (!hw || tsc < hw || hw < rdtsc())) /* last case: it has just fired, or its interrupt was lost */
        p->arch->timer_hw_tsc = apic_timer_arm(tsc);
}

void pcpu_check_timers(void)
{
    ASSERT(!this_pcpu()->index);
    uint64_t late = rdtsc() - clock_us_to_tsc(TIMER_LATE_US);
    for (unsigned i = 1; i < pcpu_count; i++) {
        const volatile uint64_t *hw = &cpus[i].arch->timer_hw_tsc, *wanted = &cpus[i].timer_tsc;
        if (*wanted && *hw && *hw < late) {
            cpus[i].n_timer_late++;
            pcpu_kick(i);
        }
    }
}

void pcpu_kick(unsigned index)
{
    struct pcpu *to = pcpu_get(index);

    if (to == this_pcpu())
        to->kicked = true;
    else
        apic_send(to->apic_id, IRQ_VEC_KICK | ICR_ASSERT);
}

void pcpu_interrupt_self(void) { apic_send(this_pcpu()->apic_id, IRQ_VEC_KICK | ICR_ASSERT); }

void pcpu_idle(void)
{
    struct pcpu *p = this_pcpu();

    ASSERT(!(read_rflags() & RFLAGS_IF) && p->self == p);
    if (p->kicked || p->timer_fired || atomic_load_explicit(&p->irq_pending, memory_order_acquire))
        return;
    uint64_t start = clock_us();
    sti_hlt_cli();
    p->idle_us += clock_us() - start;
}
