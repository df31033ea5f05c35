/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/speculation.c - see speculation.h.  An MSR that CPUID does not announce aborts, as #GP would. */
#include "tests/fakes/speculation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct spec_cpuid fake_spec_0, fake_spec_1, fake_spec_7, fake_spec_7_2, fake_spec_b, fake_spec_ext8, fake_spec_ext21;
uint64_t fake_spec_arch, fake_spec_efer;
char fake_spec_done[512];
const uint16_t spec_verw_selector = 0x10;

static void fake_spec_note(const char *what)
{
    size_t at = strlen(fake_spec_done);
    snprintf(fake_spec_done + at, sizeof(fake_spec_done) - at, "%s%s", at ? " " : "", what);
}

void fake_spec_reset(bool amd)
{
    static const struct spec_cpuid none;
    fake_spec_0 = (struct spec_cpuid){ .eax = 0x20, .ebx = amd ? 0x68747541 : 0x756e6547 };
    fake_spec_1 = fake_spec_7 = fake_spec_7_2 = fake_spec_b = fake_spec_ext8 = fake_spec_ext21 = none;
    fake_spec_arch = fake_spec_efer = 0;
    fake_spec_done[0] = 0;
}

struct spec_cpuid spec_cpuid(uint32_t leaf, uint32_t subleaf)
{
    switch (leaf) {
    case 0:          return fake_spec_0;
    case 1:          return fake_spec_1;
    case 7:          return subleaf == 2 ? fake_spec_7_2 : fake_spec_7;
    case 0xb:        return fake_spec_b;
    case 0x80000000: return (struct spec_cpuid){ .eax = 0x80000021 };
    case 0x80000008: return fake_spec_ext8;
    case 0x80000021: return fake_spec_ext21;
    default:         return (struct spec_cpuid){ 0 };
    }
}

static bool fake_spec_announced(uint32_t msr)
{
    switch (msr) {
    case 0x48:       return (fake_spec_7.edx & 0x8c000000) || (fake_spec_ext8.ebx & 0x0100c000);
    case 0x49:       return (fake_spec_7.edx & BIT32(26)) || (fake_spec_ext8.ebx & BIT32(12));
    case 0x10a:      return fake_spec_7.edx & BIT32(29);
    case 0x10b:      return fake_spec_7.edx & BIT32(28);
    case 0xc0000080: return true;
    default:         return false;
    }
}

uint64_t spec_rdmsr(uint32_t msr)
{
    if (!fake_spec_announced(msr) || (msr != 0x10a && msr != 0xc0000080))
        abort();
    return msr == 0x10a ? fake_spec_arch : fake_spec_efer;
}

void spec_wrmsr(uint32_t msr, uint64_t val)
{
    char text[40];
    if (!fake_spec_announced(msr))
        abort();
    snprintf(text, sizeof(text), "%x=%lx", msr, val);
    fake_spec_note(text);
}

void fake_spec_entry(void)
{
    if (spec_at_entry)
        fake_spec_note("verw");
    fake_spec_note("guest");
    if (spec_at_exit & SPEC_EXIT_IBPB)
        spec_wrmsr(0x49, 1);
    if (spec_at_exit & SPEC_EXIT_RSB)
        fake_spec_note("rsb");
}
