/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/x86.h - one inline function per instruction that C cannot say, named by its mnemonic.
 *
 * All MSR, port, control-register, CPUID, RDRAND and XSAVE accesses of the hypervisor are here, except those that the
 * vendors' unit tests fake (svm/svm_insn.h, vmx/vmx_insn.h).  MSR accesses that may fault by design: rdmsr_safe(). */
#ifndef GODWIT_KERNEL_HOST_X86_X86_H
#define GODWIT_KERNEL_HOST_X86_X86_H

#include "kernel/host/x86/msr.h"
#include "kernel/host/x86/regs.h"
#include "kernel/lib/types.h"

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;
    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
    return (uint64_t)hi << 32 | lo;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
/** As rdmsr() and wrmsr(), but false, with nothing done, when the CPU raises #GP.  Any pCPU after pcpu_init_boot(). */
HV_MUST_CHECK bool rdmsr_safe(uint32_t msr, uint64_t *out);
HV_MUST_CHECK bool wrmsr_safe(uint32_t msr, uint64_t v);

static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}
static inline uint16_t inw(uint16_t port)
{
    uint16_t v;
    asm volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}
static inline uint32_t inl(uint16_t port)
{
    uint32_t v;
    asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}
static inline void outb(uint16_t port, uint8_t v) { asm volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory"); }
static inline void outw(uint16_t port, uint16_t v) { asm volatile("outw %0, %1" : : "a"(v), "Nd"(port) : "memory"); }
static inline void outl(uint16_t port, uint32_t v) { asm volatile("outl %0, %1" : : "a"(v), "Nd"(port) : "memory"); }

/* Device registers in memory: one access of exactly this size. */
static inline uint8_t mmio_read8(const volatile void *p) { return *(const volatile uint8_t *)p; }
static inline uint16_t mmio_read16(const volatile void *p) { return *(const volatile uint16_t *)p; }
static inline uint32_t mmio_read32(const volatile void *p) { return *(const volatile uint32_t *)p; }
static inline void mmio_write8(volatile void *p, uint8_t v) { *(volatile uint8_t *)p = v; }
static inline void mmio_write16(volatile void *p, uint16_t v) { *(volatile uint16_t *)p = v; }
static inline void mmio_write32(volatile void *p, uint32_t v) { *(volatile uint32_t *)p = v; }

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};
static inline struct cpuid cpuidex(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r;
    asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
    return r;
}
static inline struct cpuid cpuid(uint32_t leaf) { return cpuidex(leaf, 0); }

/* SDM 1 "Random Number Generator Instructions".  False: no random number was ready (CF=0), and *out is 0. */
static inline bool cpu_has_rdrand(void) { return cpuid(1).ecx & BIT32(30); }
static inline bool cpu_has_rdseed(void) { return cpuid(0).eax >= 7 && (cpuidex(7, 0).ebx & BIT32(18)); }
static inline bool rdrand64(uint64_t *out)
{
    bool ok;
    asm volatile("rdrand %0" : "=r"(*out), "=@ccc"(ok));
    return ok;
}
static inline bool rdseed64(uint64_t *out)
{
    bool ok;
    asm volatile("rdseed %0" : "=r"(*out), "=@ccc"(ok));
    return ok;
}

/* clang-format off */
static inline uint64_t read_cr0(void) { uint64_t v; asm volatile("mov %%cr0, %0" : "=r"(v) : : "memory"); return v; }
static inline uint64_t read_cr2(void) { uint64_t v; asm volatile("mov %%cr2, %0" : "=r"(v) : : "memory"); return v; }
static inline uint64_t read_cr3(void) { uint64_t v; asm volatile("mov %%cr3, %0" : "=r"(v) : : "memory"); return v; }
static inline uint64_t read_cr4(void) { uint64_t v; asm volatile("mov %%cr4, %0" : "=r"(v) : : "memory"); return v; }
static inline uint64_t read_cr8(void) { uint64_t v; asm volatile("mov %%cr8, %0" : "=r"(v) : : "memory"); return v; }
static inline void write_cr0(uint64_t v) { asm volatile("mov %0, %%cr0" : : "r"(v) : "memory"); }
static inline void write_cr2(uint64_t v) { asm volatile("mov %0, %%cr2" : : "r"(v) : "memory"); }
static inline void write_cr3(uint64_t v) { asm volatile("mov %0, %%cr3" : : "r"(v) : "memory"); }
static inline void write_cr4(uint64_t v) { asm volatile("mov %0, %%cr4" : : "r"(v) : "memory"); }
static inline void write_cr8(uint64_t v) { asm volatile("mov %0, %%cr8" : : "r"(v) : "memory"); }

static inline uint64_t read_dr0(void) { uint64_t v; asm volatile("mov %%dr0, %0" : "=r"(v)); return v; }
static inline uint64_t read_dr1(void) { uint64_t v; asm volatile("mov %%dr1, %0" : "=r"(v)); return v; }
static inline uint64_t read_dr2(void) { uint64_t v; asm volatile("mov %%dr2, %0" : "=r"(v)); return v; }
static inline uint64_t read_dr3(void) { uint64_t v; asm volatile("mov %%dr3, %0" : "=r"(v)); return v; }
static inline uint64_t read_dr6(void) { uint64_t v; asm volatile("mov %%dr6, %0" : "=r"(v)); return v; }
static inline uint64_t read_dr7(void) { uint64_t v; asm volatile("mov %%dr7, %0" : "=r"(v)); return v; }
static inline void write_dr0(uint64_t v) { asm volatile("mov %0, %%dr0" : : "r"(v)); }
static inline void write_dr1(uint64_t v) { asm volatile("mov %0, %%dr1" : : "r"(v)); }
static inline void write_dr2(uint64_t v) { asm volatile("mov %0, %%dr2" : : "r"(v)); }
static inline void write_dr3(uint64_t v) { asm volatile("mov %0, %%dr3" : : "r"(v)); }
static inline void write_dr6(uint64_t v) { asm volatile("mov %0, %%dr6" : : "r"(v)); }
static inline void write_dr7(uint64_t v) { asm volatile("mov %0, %%dr7" : : "r"(v)); }
/* clang-format on */

static inline uint64_t read_rflags(void)
{
    uint64_t v;
    asm volatile("pushfq; popq %0" : "=r"(v) : : "memory");
    return v;
}

/* The 8 bytes at GS:0: struct pcpu's pointer to itself. */
static inline uint64_t read_gs0(void)
{
    uint64_t v;
    asm("movq %%gs:0, %0" : "=r"(v));
    return v;
}

static inline uint64_t xgetbv(uint32_t xcr)
{
    uint32_t lo, hi;
    asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(xcr) : "memory");
    return (uint64_t)hi << 32 | lo;
}
static inline void xsetbv(uint32_t xcr, uint64_t v)
{
    asm volatile("xsetbv" : : "c"(xcr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
/* area: 64-byte aligned, fpu_save_area_size bytes. */
static inline void xsave(void *area, uint64_t mask)
{
    asm volatile("xsave64 (%0)" : : "r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");
}
/* compacted format; only where CPUID 0Dh/1 EAX bit 1 is set */
static inline void xsavec(void *area, uint64_t mask)
{
    asm volatile("xsavec64 (%0)" : : "r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");
}
static inline void xrstor(const void *area, uint64_t mask)
{
    asm volatile("xrstor64 (%0)" : : "r"(area), "a"((uint32_t)mask), "d"((uint32_t)(mask >> 32)) : "memory");
}
static inline void fxsave(void *area) { asm volatile("fxsave64 (%0)" : : "r"(area) : "memory"); }
static inline void fxrstor(const void *area) { asm volatile("fxrstor64 (%0)" : : "r"(area) : "memory"); }

static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;
    asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
    return (uint64_t)hi << 32 | lo;
}
static inline uint64_t rdtsc_ordered(void) /* after all earlier loads: SDM 2B "RDTSC" */
{
    uint32_t lo, hi;
    asm volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
    return (uint64_t)hi << 32 | lo;
}

static inline void invlpg(uint64_t addr) { asm volatile("invlpg (%0)" : : "r"(addr) : "memory"); }
static inline void wbinvd(void) { asm volatile("wbinvd" : : : "memory"); }
static inline void cli(void) { asm volatile("cli" : : : "memory"); }
static inline void sti(void) { asm volatile("sti" : : : "memory"); }
static inline void hlt(void) { asm volatile("hlt" : : : "memory"); }
static inline void cpu_relax(void) { __builtin_ia32_pause(); }
/* STI takes effect after the next instruction, so no interrupt is taken between STI and HLT: a pending one ends the
 * HLT. */
static inline void sti_hlt_cli(void) { asm volatile("sti; hlt; cli" : : : "memory"); }

/* hi:lo / d; hi < d, else #DE. */
static inline uint64_t div128(uint64_t hi, uint64_t lo, uint64_t d)
{
    uint64_t q, r;
    asm("divq %4" : "=a"(q), "=d"(r) : "a"(lo), "d"(hi), "r"(d) : "cc");
    return q;
}

#endif
