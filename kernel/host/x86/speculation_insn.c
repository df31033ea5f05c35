/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/speculation_insn.c - see speculation_insn.h. */
#include "kernel/host/x86/speculation_insn.h"

#include "kernel/host/x86/desc.h"
#include "kernel/host/x86/x86.h"

const uint16_t spec_verw_selector = SEL_DATA;

struct spec_cpuid spec_cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r = cpuidex(leaf, subleaf);
    return (struct spec_cpuid){ r.eax, r.ebx, r.ecx, r.edx };
}
uint64_t spec_rdmsr(uint32_t msr) { return rdmsr(msr); }
void spec_wrmsr(uint32_t msr, uint64_t val) { wrmsr(msr, val); }
