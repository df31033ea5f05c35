/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/ports.h - in place of kernel/host/x86/x86.h for a test that includes the source of a driver: ports, MSRs,
 * CPUID and the TSC are the test's functions, registers in memory are memory.  Included first. */
#ifndef GODWIT_KERNEL_HOST_X86_X86_H
#define GODWIT_KERNEL_HOST_X86_X86_H

#include "kernel/host/x86/msr.h"
#include "kernel/lib/types.h"

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

/* The test's. */
uint32_t fake_in(uint16_t port, unsigned size);
void fake_out(uint16_t port, unsigned size, uint32_t v);
uint32_t fake_mmio_in(const volatile void *p, unsigned size);
struct cpuid fake_cpuid(uint32_t leaf, uint32_t subleaf);
uint64_t fake_rdtsc(void);
uint64_t fake_rdmsr(uint32_t msr);
void fake_wrmsr(uint32_t msr, uint64_t v);

static inline uint8_t inb(uint16_t port) { return (uint8_t)fake_in(port, 1); }
static inline uint16_t inw(uint16_t port) { return (uint16_t)fake_in(port, 2); }
static inline uint32_t inl(uint16_t port) { return fake_in(port, 4); }
static inline void outb(uint16_t port, uint8_t v) { fake_out(port, 1, v); }
static inline void outw(uint16_t port, uint16_t v) { fake_out(port, 2, v); }
static inline void outl(uint16_t port, uint32_t v) { fake_out(port, 4, v); }
static inline uint8_t mmio_read8(const volatile void *p) { return (uint8_t)fake_mmio_in(p, 1); }
static inline uint16_t mmio_read16(const volatile void *p) { return (uint16_t)fake_mmio_in(p, 2); }
static inline uint32_t mmio_read32(const volatile void *p) { return fake_mmio_in(p, 4); }
static inline void mmio_write8(volatile void *p, uint8_t v) { *(volatile uint8_t *)p = v; }
static inline void mmio_write16(volatile void *p, uint16_t v) { *(volatile uint16_t *)p = v; }
static inline void mmio_write32(volatile void *p, uint32_t v) { *(volatile uint32_t *)p = v; }
static inline struct cpuid cpuidex(uint32_t leaf, uint32_t subleaf) { return fake_cpuid(leaf, subleaf); }
static inline struct cpuid cpuid(uint32_t leaf) { return fake_cpuid(leaf, 0); }
static inline uint64_t rdmsr(uint32_t msr) { return fake_rdmsr(msr); }
static inline void wrmsr(uint32_t msr, uint64_t v) { fake_wrmsr(msr, v); }
static inline uint64_t rdtsc(void) { return fake_rdtsc(); }
static inline uint64_t rdtsc_ordered(void) { return fake_rdtsc(); }
static inline void cpu_relax(void) {}
static inline uint64_t div128(uint64_t hi, uint64_t lo, uint64_t d)
{
    return (uint64_t)(((unsigned __int128)hi << 64 | lo) / d);
}

#endif
