/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/cpu.c - control registers, and start-up by INIT-SIPI-SIPI.
 *
 * A started CPU begins in real mode at a page below 1 MiB.  trampoline.S is copied there with its arguments (page
 * tables, stack, entry).  The page is executable only while CPUs are being started. */
#include "kernel/host/x86/cpu.h"
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/machine_check.h"
#include "kernel/host/page.h"
#include "kernel/host/x86/apic.h"
#include "kernel/host/x86/desc.h"
#include "kernel/host/x86/fpu.h"
#include "kernel/host/x86/paging.h"
#include "kernel/host/x86/trampoline.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

extern const uint8_t trampoline_start[], trampoline_end[];

static void cpu_control_regs_init(void)
{
    struct cpuid c7 = cpuid(0).eax >= 7 ? cpuidex(7, 0) : (struct cpuid){ 0 };
    uint64_t cr4 = read_cr4() & ~(CR4_PGE | CR4_PCIDE | CR4_TSD | CR4_VMXE);

    if (c7.ebx & BIT32(7))
        cr4 |= CR4_SMEP;
    if (c7.ebx & BIT32(20))
        cr4 |= CR4_SMAP;
    write_cr4(cr4 | CR4_DE | CR4_MCE);
    write_cr0((read_cr0() & ~(CR0_CD | CR0_NW | CR0_AM)) | CR0_WP);
}

static void cpu_machine_check_init(void)
{
    const uint32_t mce_mca = BIT32(7) | BIT32(14);
    if ((cpuid(1).edx & mce_mca) == mce_mca)
        mce_cpu_init(cpuid(0x80000000).eax >= 0x80000007 && (cpuid(0x80000007).ebx & BIT32(1)));
}

void cpu_setup(struct pcpu *p, bool boot_cpu)
{
    ASSERT(p->arch && p->arch->ist_stacks);
    cpu_control_regs_init();
    fpu_init();
    desc_init(p->arch);
    wrmsr(MSR_FS_BASE, 0);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
    wrmsr(MSR_GS_BASE, (uintptr_t)p);
    apic_init(boot_cpu);
    cpu_machine_check_init();
}

static void cpu_wait_us(uint64_t us)
{
    for (uint64_t start = clock_us(); clock_us() - start < us;)
        cpu_relax();
}

static bool cpu_wait_online(struct pcpu *p, uint64_t us)
{
    for (uint64_t start = clock_us(); clock_us() - start < us; cpu_relax())
        if (atomic_load_explicit(&p->online, memory_order_acquire)) /* pairs with the release of the CPU that came up */
            return true;
    return false;
}

static void trampoline_install(uint64_t page, const struct trampoline_args *args)
{
    size_t len = (size_t)(trampoline_end - trampoline_start);

    ASSERT(len <= TRAMPOLINE_ARGS);
    ASSERT(page < MIB && !(page & (PAGE_SIZE - 1))); /* a SIPI vector */
    paging_map(page, PAGE_SIZE, MAP_RW);
    memcpy(hpa_ptr(hpa(page)), trampoline_start, len);
    memcpy(hpa_ptr(hpa(page + TRAMPOLINE_ARGS)), args, sizeof(*args));
    paging_map(page, PAGE_SIZE, MAP_RX);
}

void cpu_halt(uint32_t id) { apic_send(id, ICR_INIT | ICR_ASSERT); }
void cpu_halt_wait(void)
{
    cpu_wait_us(10000);
} /* SDM 3A "MP Initialization Protocol": INIT, 10 ms, SIPI, 200 us, SIPI */

bool cpu_start(struct pcpu *p, uint64_t page, void *stack_top, void (*entry)(struct pcpu *p))
{
    struct trampoline_args args = {
        .page = (uint32_t)page,
        .cr3 = (uint32_t)paging_root(),
        .stack = (uintptr_t)stack_top,
        .entry = (uintptr_t)entry,
        .arg = (uintptr_t)p,
    };

    ASSERT(!(paging_root() >> 32) && !((uintptr_t)stack_top & 15));
    trampoline_install(page, &args);
    apic_send(p->apic_id, ICR_STARTUP | ICR_ASSERT | (uint32_t)(page >> PAGE_SHIFT));
    bool up = cpu_wait_online(p, 200);
    if (!up) {
        apic_send(p->apic_id, ICR_STARTUP | ICR_ASSERT | (uint32_t)(page >> PAGE_SHIFT));
        up = cpu_wait_online(p, 1000000);
    }
    if (!up)
        cpu_halt(p->apic_id); /* otherwise it might start later, on the next CPU's stack */
    paging_map(page, PAGE_SIZE, MAP_RW);
    return up;
}
