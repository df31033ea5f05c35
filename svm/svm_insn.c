/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_insn.c - one function per instruction.  svm_enter() is in svm_entry.S. */
#include "svm/svm_insn.h"

uint64_t svm_rdmsr(uint32_t msr)
{
    uint32_t lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
    return (uint64_t)hi << 32 | lo;
}

void svm_wrmsr(uint32_t msr, uint64_t val)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)val), "d"((uint32_t)(val >> 32)) : "memory");
}

struct svm_cpuid svm_cpuid(uint32_t leaf)
{
    struct svm_cpuid r;
    __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(0));
    return r;
}

uint64_t svm_dr_read(unsigned n)
{
    uint64_t val = 0;
    switch (n) {
    case 0: __asm__ volatile("mov %%db0, %0" : "=r"(val)); break;
    case 1: __asm__ volatile("mov %%db1, %0" : "=r"(val)); break;
    case 2: __asm__ volatile("mov %%db2, %0" : "=r"(val)); break;
    case 3: __asm__ volatile("mov %%db3, %0" : "=r"(val)); break;
    }
    return val;
}

void svm_dr_write(unsigned n, uint64_t val)
{
    switch (n) {
    case 0: __asm__ volatile("mov %0, %%db0" : : "r"(val)); break;
    case 1: __asm__ volatile("mov %0, %%db1" : : "r"(val)); break;
    case 2: __asm__ volatile("mov %0, %%db2" : : "r"(val)); break;
    case 3: __asm__ volatile("mov %0, %%db3" : : "r"(val)); break;
    }
}

void svm_vmsave(uint64_t vmcb_pa) { __asm__ volatile("vmsave %%rax" : : "a"(vmcb_pa) : "memory"); }
