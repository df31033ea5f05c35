/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/apic.c - the local APIC: IPIs, EOI and the one-shot timer.
 *
 * The timer runs in TSC-deadline mode where the CPU has it.  Otherwise it counts down at an unknown rate.  Only its
 * ratio to the TSC matters, which is measured once: counts = tsc_ticks * ratio / 2^32.  If an emulated CPU is preempted
 * during the measurement, the ratio is too small and the timer fires early; pcpu.c then arms it again. */
#include "kernel/host/x86/apic.h"
#include <string.h>
#include "kernel/host/acpi.h"
#include "kernel/host/pci.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

/* Register offsets of the MMIO page; x2APIC's MSR is 0x800 + offset/16. */
enum {
    APIC_ID = 0x020,
    APIC_TPR = 0x080,
    APIC_EOI = 0x0b0,
    APIC_SVR = 0x0f0,
    APIC_ISR = 0x100,
    APIC_ICR = 0x300,
    APIC_ICR_HI = 0x310,
    APIC_LVT_TIMER = 0x320,
    APIC_LVT_THERMAL = 0x330,
    APIC_LVT_PERF = 0x340,
    APIC_LVT_LINT0 = 0x350,
    APIC_LVT_LINT1 = 0x360,
    APIC_LVT_ERROR = 0x370,
    APIC_TIMER_INIT = 0x380,
    APIC_TIMER_CUR = 0x390,
    APIC_TIMER_DIV = 0x3e0,
};
#define SVR_ENABLE       BIT32(8)
#define LVT_MASKED       BIT32(16)
#define LVT_MODE_NMI     0x00000400u
#define LVT_TSC_DEADLINE BIT32(18)
#define ICR_PENDING      BIT32(12)
#define TIMER_DIV_16     0x3u
#define IOAPIC_DEFAULT   UINT64_C(0xfec00000)
#define MADT_IOAPIC      1                  /* ACPI 5.2.12 */
#define CALIBRATE_TICKS  UINT64_C(20000000) /* of the TSC: 4 to 20 ms */

static uint8_t *regs; /* const after apic_init() on the boot CPU; not used in x2APIC mode */
static bool x2apic, deadline;
static uint64_t ratio; /* timer counts per TSC tick, 32 fraction bits */

static uint32_t apic_read(unsigned off)
{
    return x2apic ? (uint32_t)rdmsr(MSR_X2APIC_BASE + off / 16) : mmio_read32(regs + off);
}

static void apic_write(unsigned off, uint32_t v)
{
    if (x2apic)
        wrmsr(MSR_X2APIC_BASE + off / 16, v);
    else
        mmio_write32(regs + off, v);
}

uint32_t apic_id(void)
{
    if (!x2apic && !regs)
        return cpuid(1).ebx >> 24;
    uint32_t v = apic_read(APIC_ID);
    return x2apic ? v : v >> 24;
}

void apic_eoi(void) { apic_write(APIC_EOI, 0); }

bool apic_in_service(unsigned vector) { return apic_read(APIC_ISR + vector / 32 * 16) & BIT32(vector & 31); }

void apic_send(uint32_t to, uint32_t icr)
{
    ASSERT(x2apic || regs);
    if (x2apic) {
        /* the MSR write is not ordered after earlier stores: SDM 3A 11.12.3 */
        asm volatile("mfence; lfence" : : : "memory");
        wrmsr(MSR_X2APIC_BASE + APIC_ICR / 16, (uint64_t)to << 32 | icr);
        return;
    }
    for (unsigned spins = 0; (mmio_read32(regs + APIC_ICR) & ICR_PENDING) && spins < 100000; spins++)
        cpu_relax();
    mmio_write32(regs + APIC_ICR_HI, to << 24);
    mmio_write32(regs + APIC_ICR, icr);
}

void apic_stop_others(void)
{
    if (!x2apic && !regs)
        return; /* before apic_init(): no other CPU runs */
    uint32_t me = apic_id();
    for (unsigned i = 0; i < pcpu_count; i++)
        if (pcpu_get(i)->apic_id != me)
            apic_send(pcpu_get(i)->apic_id, ICR_NMI | ICR_ASSERT);
}

uint64_t apic_timer_arm(uint64_t tsc)
{
    if (deadline) {
        wrmsr(MSR_TSC_DEADLINE, tsc);
        return tsc;
    }
    if (!tsc) {
        apic_write(APIC_TIMER_INIT, 0);
        return 0;
    }
    uint64_t now = rdtsc(), left = tsc > now ? tsc - now : 0;
    ASSERT(ratio);
    uint64_t counts = (uint64_t)((unsigned __int128)left * ratio >> 32);
    bool clipped = counts > UINT32_MAX;
    counts = clipped ? UINT32_MAX : counts + 1; /* 0 would stop the timer */
    apic_write(APIC_TIMER_INIT, (uint32_t)MIN(counts, UINT32_MAX));
    return clipped ? now + ((uint64_t)UINT32_MAX << 32) / ratio : tsc;
}

static void apic_timer_calibrate(void)
{
    apic_write(APIC_LVT_TIMER, LVT_MASKED | IRQ_VEC_TIMER);
    apic_write(APIC_TIMER_DIV, TIMER_DIV_16);
    apic_write(APIC_TIMER_INIT, UINT32_MAX);
    uint64_t start = rdtsc(), count = apic_read(APIC_TIMER_CUR), now;
    do
        now = rdtsc();
    while (now - start < CALIBRATE_TICKS);
    count -= apic_read(APIC_TIMER_CUR);
    apic_write(APIC_TIMER_INIT, 0);
    if (!count)
        panic("the local APIC timer does not count");
    ratio = div128(count >> 32, count << 32, rdtsc() - start);
}

static void pic_mask(void)
{
    /* Initialize both, so that spurious interrupts have vectors that are not exceptions: 0x20..0x2f. */
    outb(0x20, 0x11);
    outb(0xa0, 0x11);
    outb(0x21, 0x20);
    outb(0xa1, 0x28);
    outb(0x21, 0x04);
    outb(0xa1, 0x02);
    outb(0x21, 0x01);
    outb(0xa1, 0x01);
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
}

/* 82093AA: an index and a data register; entry n of the redirection table is registers 0x10 + 2n and 0x11 + 2n. */
static void ioapic_mask(uint64_t addr)
{
    uint8_t *p = mmio_map(hpa(addr), PAGE_SIZE);

    mmio_write32(p, 0x01);
    uint32_t version = mmio_read32(p + 0x10);
    for (unsigned i = 0; version != UINT32_MAX && i <= (version >> 16 & 0xff); i++) {
        mmio_write32(p, 0x10 + 2 * i);
        mmio_write32(p + 0x10, mmio_read32(p + 0x10) | LVT_MASKED);
    }
}

void apic_mask_ioapics(void)
{
    uint32_t len, addr;
    const uint8_t *madt = acpi_table_find("APIC", &len);

    if (!madt)
        ioapic_mask(IOAPIC_DEFAULT);
    for (uint32_t at = 44; madt && at + 2 <= len && madt[at + 1] >= 2 && at + madt[at + 1] <= len; at += madt[at + 1]) {
        if (madt[at] != MADT_IOAPIC || madt[at + 1] < 12)
            continue;
        memcpy(&addr, madt + at + 4, sizeof(addr));
        ioapic_mask(addr);
    }
}

static void apic_find(void)
{
    struct cpuid c = cpuid(1);

    if (!(c.edx & BIT32(9)))
        panic("this CPU has no local APIC");
    x2apic = c.ecx & BIT32(21);
    deadline = c.ecx & BIT32(24);
    if (!x2apic)
        regs = mmio_map(hpa(rdmsr(MSR_APIC_BASE) & APIC_BASE_ADDR), PAGE_SIZE);
}

void apic_init(bool boot_cpu)
{
    if (boot_cpu) {
        pic_mask();
        apic_find();
    }
    uint64_t base = rdmsr(MSR_APIC_BASE) | APIC_BASE_ENABLE;
    wrmsr(MSR_APIC_BASE, base);
    if (x2apic)
        wrmsr(MSR_APIC_BASE, base | APIC_BASE_X2APIC);
    apic_write(APIC_TPR, 0);
    apic_write(APIC_SVR, SVR_ENABLE | IRQ_VEC_SPURIOUS);
    apic_write(APIC_LVT_LINT0, LVT_MASKED | IRQ_VEC_SPURIOUS);
    apic_write(APIC_LVT_LINT1, boot_cpu ? LVT_MODE_NMI : LVT_MASKED | LVT_MODE_NMI);
    apic_write(APIC_LVT_ERROR, LVT_MASKED | IRQ_VEC_SPURIOUS);
    if (boot_cpu && !deadline)
        apic_timer_calibrate();
    apic_write(APIC_TIMER_DIV, TIMER_DIV_16);
    apic_write(APIC_LVT_TIMER, IRQ_VEC_TIMER | (deadline ? LVT_TSC_DEADLINE : 0));
    if (deadline)
        asm volatile("mfence" : : : "memory"); /* LVT before the first deadline: SDM 3A "TSC-Deadline Mode" */
}
