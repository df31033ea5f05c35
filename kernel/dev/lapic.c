/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/lapic.c - a guest's local APIC in software.
 *
 * One register file has two interfaces: the xAPIC page (32-bit registers every 16 bytes) and the x2APIC MSRs.
 * lapic_reg_read() and lapic_reg_write() take a register number: offset / 16, or MSR - 800h.
 *
 * An interrupt arrives by an atomic OR into IRR.  The owner finds it before its next guest entry, or is kicked out of
 * the guest.  So no lock is needed, with two exceptions under dev_lock: the EOI of a level-triggered interrupt, for the
 * I/O APIC, and the INTA cycle of the 8259.
 *
 * Not modelled: APIC bus arbitration, the thermal and performance sources (their LVT entries can be written), SMIs. */
#include "kernel/dev/lapic.h"
#include "kernel/core/cpu_ops.h"
#include "kernel/dev/devices.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

/* Register numbers: MMIO offset / 16.  SDM 3A table "Local APIC Register Address Map". */
enum {
    REG_ID = 0x02,
    REG_VERSION,
    REG_TPR = 0x08,
    REG_APR,
    REG_PPR,
    REG_EOI,
    REG_LDR = 0x0d,
    REG_DFR,
    REG_SVR,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HIGH,
    REG_LVT_TIMER = 0x32,
    REG_LVT_ERROR = 0x37,
    REG_TIMER_INITIAL,
    REG_TIMER_CURRENT,
    REG_TIMER_DIVIDE = 0x3e,
    REG_SELF_IPI
};

#define LAPIC_VERSION_VALUE (0x14u | (LVT_COUNT - 2) << 16) /* integrated; highest LVT entry, without CMCI */
#define SVR_ENABLE          BIT32(8)
#define LVT_MASKED          BIT32(16)
#define LVT_MODE            (7u << 8)
/* delivery status, remote IRR: Linux writes them back as read */
#define LVT_READ_ONLY       (BIT32(12) | BIT32(14))
#define LVT_TIMER_MODE      (3u << 17)
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };
#define ESR_SEND_ILLEGAL  BIT32(5)
#define ESR_RECV_ILLEGAL  BIT32(6)
#define ESR_BAD_REGISTER  BIT32(7)
#define ICR_LEVEL_ASSERT  BIT32(14)
#define ICR_TRIGGER_LEVEL BIT32(15)
#define ICR_LOGICAL       BIT32(11)
#define ICR_WRITABLE      UINT64_C(0xffffffff000ccfff)
/* a shorter period would leave the guest no instruction between two interrupts */
#define PERIOD_MIN_NS     20000

static const uint32_t lvt_writable[LVT_COUNT] = {
    [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
    [LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
};

void lapic_reset(struct vcpu *v, bool keep_base)
{
    struct lapic *l = v->lapic;
    ASSERT(atomic_load(&v->state) == VCPU_FROZEN || v->pcpu == this_pcpu()->index);
    for (unsigned i = 0; i < 8; i++) {
        atomic_store_explicit(&l->irr[i], 0, memory_order_relaxed);
        atomic_store_explicit(&l->tmr[i], 0, memory_order_relaxed);
        l->isr[i] = 0;
    }
    if (!keep_base)
        l->base_msr = LAPIC_BASE | APIC_BASE_ENABLE | (v->index == 0 ? APIC_BASE_BSP : 0);
    l->tpr = l->ldr = l->esr = l->esr_latent = 0;
    l->icr = 0;
    l->dfr = 0xffffffff;
    l->svr = 0xff;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        l->lvt[i] = LVT_MASKED;
    l->timer_divide = l->timer_initial = 0;
    l->timer_start = l->timer_deadline = l->tsc_deadline = 0;
    l->wait_for_sipi = v->halted = v->index != 0;
    v->cr8 = 0;
}

/* ---- which vector is next ---- */

static int highest_irr(struct lapic *l)
{
    uint32_t any = 0;
    for (unsigned i = 0; i < 8; i += 2) /* at most exits none is pending: no branch for each word */
        any |= atomic_load_explicit(&l->irr[i], memory_order_relaxed) |
               atomic_load_explicit(&l->irr[i + 1], memory_order_relaxed);
    if (!any)
        return -1;
    for (int i = 7; i >= 0; i--) {
        uint32_t w = atomic_load_explicit(&l->irr[i], memory_order_acquire); /* pairs with lapic_irq_set */
        if (w)
            return i * 32 + 31 - __builtin_clz(w);
    }
    return -1;
}

static int highest_isr(const struct lapic *l)
{
    for (int i = 7; i >= 0; i--)
        if (l->isr[i])
            return i * 32 + 31 - __builtin_clz(l->isr[i]);
    return -1;
}

/* SDM 3A "Processor Priority Register". */
static uint32_t lapic_ppr(const struct lapic *l)
{
    int isr = highest_isr(l);
    uint32_t in_service = isr < 0 ? 0 : (uint32_t)isr & 0xf0;
    return in_service > (l->tpr & 0xf0) ? in_service : l->tpr;
}

static bool lapic_sw_enabled(const struct lapic *l) { return lapic_hw_enabled(l) && (l->svr & SVR_ENABLE); }

void lapic_cr8_sync(struct vcpu *v)
{
    if (v->lapic->tpr >> 4 != v->cr8)
        v->lapic->tpr = (uint32_t)v->cr8 << 4;
}

static void lapic_tpr_write(struct vcpu *v, uint32_t val)
{
    v->lapic->tpr = val & 0xff;
    v->cr8 = v->lapic->tpr >> 4;
}

/* Highest vector in IRR that the priorities let through, or -1. */
static int lapic_irr_pending(struct vcpu *v)
{
    struct lapic *l = v->lapic;
    int vec = highest_irr(l);
    if (vec < 0 || !lapic_sw_enabled(l))
        return -1;
    lapic_cr8_sync(v);
    return ((uint32_t)vec & 0xf0) > (lapic_ppr(l) & 0xf0) ? vec : -1;
}

/* Does the INT output of the 8259 reach v?  Only vCPU 0: if its APIC is disabled, or by LINT0 in ExtINT mode. */
static bool extint_open(const struct vcpu *v)
{
    const struct lapic *l = v->lapic;
    if (v->index != 0)
        return false;
    return !lapic_hw_enabled(l) || (l->lvt[LVT_LINT0] & (LVT_MASKED | LVT_MODE)) == (uint32_t)LAPIC_EXTINT << 8;
}

int lapic_pending(struct vcpu *v)
{
    int vec = lapic_irr_pending(v);
    struct vm *vm = v->vm;
    if (vec >= 0 || !atomic_load_explicit(&vm->devices->pic.out, memory_order_relaxed) || !extint_open(v))
        return vec;
    spin_lock(&vm->dev_lock);
    vec = pic_peek(&vm->devices->pic);
    spin_unlock(&vm->dev_lock);
    return vec;
}

void lapic_ack(struct vcpu *v, uint8_t vec)
{
    struct lapic *l = v->lapic;
    uint32_t bit = BIT32(vec % 32);
    ASSERT(v->pcpu == this_pcpu()->index);
    if (lapic_irr_pending(v) >= vec && (atomic_load_explicit(&l->irr[vec / 32], memory_order_relaxed) & bit)) {
        atomic_fetch_and_explicit(&l->irr[vec / 32], ~bit, memory_order_relaxed);
        l->isr[vec / 32] |= bit;
        return;
    }
    spin_lock(&v->vm->dev_lock);
    (void)pic_ack(&v->vm->devices->pic);
    spin_unlock(&v->vm->dev_lock);
}

int lapic_in_service(const struct vcpu *v) { return highest_isr(v->lapic); }

bool lapic_take_wakeup(struct vcpu *v)
{
    ASSERT(v->pcpu == this_pcpu()->index);
    unsigned req = atomic_load(&v->requests);
    if (req & (VCPU_REQ_INIT | VCPU_REQ_SIPI))
        return true;
    if (v->lapic->wait_for_sipi)
        return false;
    if (req & VCPU_REQ_UNHALT)
        atomic_fetch_and(&v->requests, ~(unsigned)VCPU_REQ_UNHALT);
    return (req & (VCPU_REQ_NMIS | VCPU_REQ_UNHALT)) || ((v->rflags & BIT64(9)) && lapic_pending(v) >= 0);
}

/* ---- sending ---- */

void lapic_irq_set(struct vcpu *v, uint8_t vec, bool level)
{
    struct lapic *l = v->lapic;
    if (vec < 16) {
        l->esr_latent |= ESR_RECV_ILLEGAL;
        return;
    }
    if (!lapic_sw_enabled(l))
        return;
    uint32_t bit = BIT32(vec % 32);
    if (level)
        atomic_fetch_or_explicit(&l->tmr[vec / 32], bit, memory_order_relaxed);
    else
        atomic_fetch_and_explicit(&l->tmr[vec / 32], ~bit, memory_order_relaxed);
    /* pairs with highest_irr: TMR is seen with it */
    uint32_t old = atomic_fetch_or_explicit(&l->irr[vec / 32], bit, memory_order_acq_rel);
    if (!(old & bit) && this_pcpu()->running != v)
        vcpu_boost(v);
}

static void lapic_deliver_one(struct vcpu *v, enum lapic_mode mode, uint8_t vector, bool level)
{
    switch (mode) {
    case LAPIC_FIXED:
    case LAPIC_LOWEST: lapic_irq_set(v, vector, level); break;
    case LAPIC_NMI:    vcpu_nmi(v); break;
    case LAPIC_INIT:   vcpu_request(v, VCPU_REQ_INIT); break;
    case LAPIC_SIPI:
        atomic_store_explicit(&v->lapic->sipi_vector, vector, memory_order_release);
        vcpu_request(v, VCPU_REQ_SIPI);
        break;
    case LAPIC_SMI:
    case LAPIC_EXTINT: break; /* no SMM; the 8259 interrupts by extint_open() */
    }
}

/* SDM 3A "Determining IPI Destination"; a message from the IOAPIC has an 8-bit destination for either kind of APIC. */
static bool lapic_dest_match(const struct vcpu *v, uint32_t dest, bool logical)
{
    const struct lapic *l = v->lapic;
    if (dest == 0xffffffff || (dest == 0xff && !(lapic_x2apic(l) && logical)))
        return true;
    if (!logical)
        return dest == v->index;
    if (lapic_x2apic(l))
        return dest >> 16 == v->index >> 4 && (dest & BIT32(v->index & 15));
    uint32_t ldr = l->ldr >> 24;
    if (l->dfr >> 28 == 0xf)
        return ldr & dest;                              /* flat */
    return ldr >> 4 == dest >> 4 && (ldr & dest & 0xf); /* cluster */
}

void lapic_deliver(struct vm *vm, uint32_t dest, bool logical, enum lapic_mode mode, uint8_t vector, bool level)
{
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        if (!lapic_dest_match(vm->vcpus[i], dest, logical))
            continue;
        lapic_deliver_one(vm->vcpus[i], mode, vector, level);
        if (mode == LAPIC_LOWEST)
            return; /* lowest priority: any may take it; always the first, for its warm caches */
    }
}

unsigned lapic_nmi_line(struct vm *vm)
{
    unsigned n = 0;
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        const struct lapic *l = vm->vcpus[i]->lapic;
        uint32_t lint1 = __atomic_load_n(&l->lvt[LVT_LINT1], __ATOMIC_RELAXED); /* its owner may be writing it */
        if ((lint1 & (LVT_MASKED | LVT_MODE)) != (uint32_t)LAPIC_NMI << 8)
            continue;
        vcpu_nmi(vm->vcpus[i]);
        n++;
    }
    return n;
}

static void lapic_icr_send(struct vcpu *v)
{
    struct lapic *l = v->lapic;
    uint32_t low = (uint32_t)l->icr, dest = (uint32_t)(l->icr >> 32);
    enum lapic_mode mode = (enum lapic_mode)(low >> 8 & 7);
    uint8_t vector = (uint8_t)low;
    if (mode == LAPIC_INIT && (low & ICR_TRIGGER_LEVEL) && !(low & ICR_LEVEL_ASSERT))
        return; /* INIT level de-assert: no effect since the Pentium 4 */
    if ((mode == LAPIC_FIXED || mode == LAPIC_LOWEST) && vector < 16) {
        l->esr_latent |= ESR_SEND_ILLEGAL;
        return;
    }
    unsigned shorthand = low >> 18 & 3;
    if (shorthand == 0) {
        if (!lapic_x2apic(l))
            dest >>= 24;
        lapic_deliver(v->vm, dest, low & ICR_LOGICAL, mode, vector, false);
        return;
    }
    for (unsigned i = 0; i < v->vm->n_vcpus; i++) {
        struct vcpu *to = v->vm->vcpus[i];
        bool self = to == v;
        if (shorthand == 1 ? self : shorthand == 2 || !self)
            lapic_deliver_one(to, mode, vector, false);
    }
}

static void lapic_eoi(struct vcpu *v)
{
    struct lapic *l = v->lapic;
    int vec = highest_isr(l);
    if (vec < 0)
        return;
    l->isr[vec / 32] &= ~BIT32(vec % 32);
    if (!(atomic_load_explicit(&l->tmr[vec / 32], memory_order_relaxed) & BIT32(vec % 32)))
        return;
    spin_lock(&v->vm->dev_lock);
    ioapic_eoi(v->vm, (uint8_t)vec);
    spin_unlock(&v->vm->dev_lock);
}

/* ---- the timer ---- */

static unsigned lapic_timer_mode(const struct lapic *l) { return FIELD_GET(LVT_TIMER_MODE, l->lvt[LVT_TIMER]); }

static uint64_t timer_period_ns(const struct lapic *l)
{
    unsigned code = (l->timer_divide & 3) | (l->timer_divide >> 1 & 4); /* 0 is /2 ... 6 is /128, 7 is /1 */
    return (uint64_t)l->timer_initial << ((code + 1) & 7);
}

static uint64_t timer_period_ticks(struct vcpu *v)
{
    uint64_t ns = timer_period_ns(v->lapic);
    if (lapic_timer_mode(v->lapic) == TIMER_PERIODIC && ns < PERIOD_MIN_NS)
        ns = PERIOD_MIN_NS;
    return guest_ns_to_ticks(v->vm, ns);
}

static void lapic_timer_arm(struct vcpu *v)
{
    struct lapic *l = v->lapic;
    l->timer_deadline = 0;
    if (l->timer_initial) {
        l->timer_start = vm_guest_tsc(v->vm);
        l->timer_deadline = l->timer_start + timer_period_ticks(v);
    }
}

static uint32_t lapic_timer_current(struct vcpu *v)
{
    struct lapic *l = v->lapic;
    uint64_t period = timer_period_ns(l);
    if (!l->timer_deadline || !period || lapic_timer_mode(l) == TIMER_TSC_DEADLINE)
        return 0; /* a one-shot that has expired stays so, also once the mode is periodic: SDM 3A "APIC Timer" */
    uint64_t passed = guest_ticks_to_ns(v->vm, vm_guest_tsc(v->vm) - l->timer_start);
    if (lapic_timer_mode(l) == TIMER_PERIODIC)
        passed %= period;
    else if (passed >= period)
        return 0;
    return (uint32_t)((period - passed) / (period / l->timer_initial));
}

uint64_t lapic_timer_deadline(struct vcpu *v)
{
    struct lapic *l = v->lapic;
    uint64_t when =
        l->timer_deadline && !(l->lvt[LVT_TIMER] & LVT_MASKED) ? guest_tsc_to_host(v->vm, l->timer_deadline) : 0;
    uint64_t pit_ns = v->index == 0 ? v->vm->devices->pit.irq_ns : 0;
    if (pit_ns) {
        uint64_t now_ns = guest_clock_ns(v->vm);
        uint64_t pit_tsc =
            vm_guest_tsc(v->vm) + (pit_ns > now_ns ? guest_ns_to_ticks(v->vm, pit_ns - now_ns + 1) + 1 : 0);
        uint64_t pit_host = guest_tsc_to_host(v->vm, pit_tsc);
        if (!when || pit_host < when)
            when = pit_host;
    }
    return when;
}

static void lapic_timer_fire(struct vcpu *v, uint64_t now)
{
    struct lapic *l = v->lapic;
    ASSERT(l->timer_deadline && now >= l->timer_deadline);
    if (lapic_timer_mode(l) == TIMER_PERIODIC) {
        uint64_t period = timer_period_ticks(v);
        uint64_t n = (now - l->timer_start) / period; /* several missed expiries: one interrupt */
        l->timer_start += n * period;
        l->timer_deadline = l->timer_start + period;
    } else {
        l->timer_deadline = l->tsc_deadline = 0;
    }
    if (!(l->lvt[LVT_TIMER] & LVT_MASKED))
        lapic_irq_set(v, (uint8_t)l->lvt[LVT_TIMER], false);
}

void lapic_timer_poll(struct vcpu *v)
{
    struct lapic *l = v->lapic;
    if (l->timer_deadline) {
        uint64_t now = vm_guest_tsc(v->vm);
        if (now >= l->timer_deadline)
            lapic_timer_fire(v, now);
    }
    if (v->index == 0 && v->vm->devices->pit.irq_ns) {
        spin_lock(&v->vm->dev_lock);
        pit_poll(v->vm);
        spin_unlock(&v->vm->dev_lock);
    }
}

void lapic_tsc_deadline_write(struct vcpu *v, uint64_t val)
{
    ASSERT(v->pcpu == this_pcpu()->index);
    if (lapic_timer_mode(v->lapic) != TIMER_TSC_DEADLINE)
        return; /* SDM 3A "TSC-Deadline Mode": ignored in other modes */
    v->lapic->tsc_deadline = val;
    lapic_tsc_changed(v);
}

/* The timer fires once v's TSC is the deadline or more, as unsigned numbers. */
void lapic_tsc_changed(struct vcpu *v)
{
    struct lapic *l = v->lapic;
    if (lapic_timer_mode(l) != TIMER_TSC_DEADLINE)
        return;
    l->timer_deadline = l->tsc_deadline;
    if (!l->tsc_deadline || !v->tsc_adjust)
        return;
    uint64_t now = vm_guest_tsc(v->vm), its_now = now + v->tsc_adjust;
    uint64_t left = l->tsc_deadline > its_now ? l->tsc_deadline - its_now : 0;
    l->timer_deadline = left < UINT64_MAX - now ? MAX(now + left, UINT64_C(1)) : UINT64_MAX;
}

/* ---- registers ---- */

static bool is_lvt(unsigned reg) { return reg >= REG_LVT_TIMER && reg <= REG_LVT_ERROR; }
_Static_assert(LVT_TIMER + (REG_LVT_ERROR - REG_LVT_TIMER) == LVT_ERROR, "LVT entries are in the order of registers");
static enum lapic_lvt lvt_of(unsigned reg) { return (enum lapic_lvt)(LVT_TIMER + (reg - REG_LVT_TIMER)); }

static uint32_t ldr_read(const struct vcpu *v)
{
    return lapic_x2apic(v->lapic) ? (v->index >> 4) << 16 | BIT32(v->index & 15) : v->lapic->ldr;
}

/* A register's value; negative: there is no such register. */
static int64_t lapic_reg_read(struct vcpu *v, unsigned reg)
{
    struct lapic *l = v->lapic;
    if (is_lvt(reg))
        return l->lvt[lvt_of(reg)];
    if (reg >= REG_ISR && reg < REG_ISR + 8)
        return l->isr[reg - REG_ISR];
    if (reg >= REG_TMR && reg < REG_TMR + 8)
        return atomic_load(&l->tmr[reg - REG_TMR]);
    if (reg >= REG_IRR && reg < REG_IRR + 8)
        return atomic_load(&l->irr[reg - REG_IRR]);
    switch (reg) {
    case REG_ID:            return lapic_x2apic(l) ? v->index : v->index << 24;
    case REG_VERSION:       return LAPIC_VERSION_VALUE;
    case REG_TPR:           lapic_cr8_sync(v); return l->tpr;
    case REG_PPR:           lapic_cr8_sync(v); return lapic_ppr(l);
    case REG_LDR:           return ldr_read(v);
    case REG_SVR:           return l->svr;
    case REG_ESR:           return l->esr;
    case REG_ICR:           return (uint32_t)l->icr;
    case REG_TIMER_INITIAL: return lapic_timer_mode(l) == TIMER_TSC_DEADLINE ? 0 : l->timer_initial;
    case REG_TIMER_CURRENT: return lapic_timer_current(v);
    case REG_TIMER_DIVIDE:  return l->timer_divide;
    default:                return -1;
    }
}

static void lapic_lvt_write(struct vcpu *v, enum lapic_lvt i, uint32_t val)
{
    struct lapic *l = v->lapic;
    unsigned old_mode = lapic_timer_mode(l);
    if (i == LVT_TIMER)
        lapic_timer_poll(v); /* an expiry before this write uses the old entry */
    val &= lvt_writable[i];
    if (!lapic_sw_enabled(l))
        val |= LVT_MASKED;
    l->lvt[i] = val;
    if (i != LVT_TIMER || lapic_timer_mode(l) == old_mode)
        return;
    if (old_mode == TIMER_TSC_DEADLINE || lapic_timer_mode(l) == TIMER_TSC_DEADLINE) {
        l->timer_initial = 0; /* SDM 3A "TSC-Deadline Mode": switching disarms */
        l->tsc_deadline = l->timer_deadline = 0;
    }
}

static void lapic_svr_write(struct vcpu *v, uint32_t val)
{
    v->lapic->svr = val & 0x1ff;
    if (lapic_sw_enabled(v->lapic))
        return;
    for (unsigned i = 0; i < LVT_COUNT; i++)
        v->lapic->lvt[i] |= LVT_MASKED;
}

static bool lapic_reg_write(struct vcpu *v, unsigned reg, uint32_t val)
{
    struct lapic *l = v->lapic;
    if (is_lvt(reg)) {
        lapic_lvt_write(v, lvt_of(reg), val);
        return true;
    }
    switch (reg) {
    case REG_EOI: lapic_eoi(v); return true;
    case REG_TPR: lapic_tpr_write(v, val); return true;
    case REG_SVR: lapic_svr_write(v, val); return true;
    case REG_ESR:
        l->esr = l->esr_latent;
        l->esr_latent = 0;
        return true;
    case REG_TIMER_INITIAL:
        if (lapic_timer_mode(l) == TIMER_TSC_DEADLINE)
            return true;
        l->timer_initial = val;
        lapic_timer_arm(v);
        return true;
    case REG_TIMER_DIVIDE:
        l->timer_divide = val & 0xb;
        if (lapic_timer_mode(l) != TIMER_TSC_DEADLINE && l->timer_deadline)
            lapic_timer_arm(v); /* only the initial count starts one that has expired */
        return true;
    default: return false;
    }
}

uint32_t lapic_mmio_read(struct vcpu *v, uint32_t offset)
{
    struct lapic *l = v->lapic;
    unsigned reg = offset >> 4;
    if (reg == REG_DFR)
        return l->dfr;
    if (reg == REG_ICR_HIGH)
        return (uint32_t)(l->icr >> 32);
    int64_t val = lapic_reg_read(v, reg);
    if (val >= 0)
        return (uint32_t)val;
    l->esr_latent |= ESR_BAD_REGISTER;
    return 0;
}

void lapic_mmio_write(struct vcpu *v, uint32_t offset, uint32_t val)
{
    struct lapic *l = v->lapic;
    switch (offset >> 4) {
    case REG_ID:       break; /* read-only: the vCPU's index */
    case REG_LDR:      l->ldr = val & 0xff000000; break;
    case REG_DFR:      l->dfr = val | 0x0fffffff; break;
    case REG_ICR_HIGH: l->icr = (l->icr & 0xffffffff) | (uint64_t)(val & 0xff000000) << 32; break;
    case REG_ICR:
        l->icr = (l->icr & ~UINT64_C(0xffffffff)) | (val & (uint32_t)ICR_WRITABLE);
        lapic_icr_send(v);
        break;
    default:
        if (!lapic_reg_write(v, offset >> 4, val))
            l->esr_latent |= ESR_BAD_REGISTER;
    }
}

enum hv_err lapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
    unsigned reg = msr - 0x800;
    ASSERT(reg <= 0xff);
    if (!lapic_x2apic(v->lapic))
        return HV_E_GUEST;
    if (reg == REG_ICR) {
        *val = v->lapic->icr;
        return HV_OK;
    }
    int64_t low = lapic_reg_read(v, reg);
    *val = (uint64_t)low;
    return low < 0 ? HV_E_GUEST : HV_OK;
}

/* Reserved bits that x2APIC refuses; SDM 3A "x2APIC Register Address Space". */
static bool x2apic_value_ok(unsigned reg, uint64_t val)
{
    if (val >> 32)
        return false;
    if (is_lvt(reg))
        return !(val & ~(uint64_t)(lvt_writable[lvt_of(reg)] | LVT_READ_ONLY));
    switch (reg) {
    case REG_TPR:          return val <= 0xff;
    case REG_EOI:
    case REG_ESR:          return val == 0;
    case REG_SVR:          return !(val & ~UINT64_C(0x1fff));
    case REG_TIMER_DIVIDE: return !(val & ~UINT64_C(0xb));
    default:               return true;
    }
}

enum hv_err lapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
    struct lapic *l = v->lapic;
    unsigned reg = msr - 0x800;
    ASSERT(reg <= 0xff);
    if (!lapic_x2apic(l))
        return HV_E_GUEST;
    if (reg == REG_ICR) {
        if (val & ~ICR_WRITABLE)
            return HV_E_GUEST;
        l->icr = val;
        lapic_icr_send(v);
        return HV_OK;
    }
    if (reg == REG_SELF_IPI) {
        if (val > 0xff)
            return HV_E_GUEST;
        lapic_irq_set(v, (uint8_t)val, false);
        return HV_OK;
    }
    return x2apic_value_ok(reg, val) && lapic_reg_write(v, reg, (uint32_t)val) ? HV_OK : HV_E_GUEST;
}

#define APIC_BASE_MODES (APIC_BASE_ENABLE | APIC_BASE_X2APIC)

bool lapic_base_legal(const struct vcpu *v, uint64_t val)
{
    uint64_t page = (BIT64(cpuid_phys_bits(v->vm->cpuid)) - 1) & ~UINT64_C(0xfff);
    return !(val & ~(page | APIC_BASE_MODES | APIC_BASE_BSP)) && (val & APIC_BASE_MODES) != APIC_BASE_X2APIC;
}

/* SDM 3A "x2APIC States": disabled -> xAPIC -> x2APIC -> disabled.  Other transitions are #GP. */
enum hv_err lapic_base_write(struct vcpu *v, uint64_t val)
{
    struct lapic *l = v->lapic;
    ASSERT(v->pcpu == this_pcpu()->index);
    uint64_t from = l->base_msr & APIC_BASE_MODES, to = val & APIC_BASE_MODES;
    if (!lapic_base_legal(v, val) || (from == APIC_BASE_MODES && to == APIC_BASE_ENABLE) ||
        (from == 0 && to == APIC_BASE_MODES))
        return HV_E_GUEST;
    if (from && !to)
        lapic_reset(v, true);
    l->base_msr = (val & ~APIC_BASE_BSP) | (l->base_msr & APIC_BASE_BSP);
    l->wait_for_sipi = v->halted = false; /* a vCPU that executes WRMSR runs */
    return HV_OK;
}

/* ---- INIT and SIPI ---- */

void lapic_take_init_sipi(struct vcpu *v, unsigned req)
{
    struct lapic *l = v->lapic;
    struct vcpu_regs r;
    ASSERT(v->pcpu == this_pcpu()->index);
    ASSERT(!(req & ~(unsigned)(VCPU_REQ_INIT | VCPU_REQ_SIPI)));
    if (req & VCPU_REQ_INIT) {
        /* INIT of the BSP: there is no firmware to restart in, so the VM is reset */
        if (v->index == 0) {
            vm_power_request(v->vm, VM_POWER_RESET);
            return;
        }
        vcpu_regs_reset(&r);
        cpu_ops->regs_set(v, &r);
        lapic_reset(v, true);
        l->wait_for_sipi = true;
        v->halted = true;
    }
    if ((req & VCPU_REQ_SIPI) && l->wait_for_sipi) {
        uint32_t vec = atomic_load_explicit(&l->sipi_vector, memory_order_acquire) & 0xff;
        cpu_ops->regs_get(v, &r);
        r.seg[SEG_CS].sel = (uint16_t)(vec << 8);
        r.seg[SEG_CS].base = vec << 12;
        r.rip = 0;
        cpu_ops->regs_set(v, &r);
        l->wait_for_sipi = false;
        v->halted = false;
    }
}
