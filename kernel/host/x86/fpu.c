/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/fpu.c - switching FPU and SIMD state, in XSAVE's standard format (SDM 1 "Managing State Using
 * the XSAVE Feature Set"). */
#include "kernel/host/x86/fpu.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

#define KNOWN                                                                                                     \
    (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_BNDREGS | XCR0_BNDCSR | XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM | \
     XCR0_PKRU)
#define FXSAVE_SIZE 512

uint64_t fpu_host_xcr0;
uint32_t fpu_save_area_size = FXSAVE_SIZE;
bool fpu_xsavec_broken;

/* Does XSAVEC put the AVX part after the header, and keep the header's reserved bytes 0 (SDM 1 "Compacted Format for an
 * XSAVE Area")?  Bochs 2.7 writes it at byte 416, over the header.  The next XRSTOR raises #GP, and Linux then silently
 * resets the program's registers. */
static bool xsavec_works(void)
{
    enum { HEADER = 512, RESERVED = HEADER + 16, AVX_PART = HEADER + 64 };
    uint8_t area[AVX_PART + 256] __attribute__((aligned(64))) = { 0 };
    static const uint8_t ones[32] = { [0 ... 31] = 0xff };
    asm volatile("vzeroall; vmovdqu %0, %%ymm0" : : "m"(ones));
    xsavec(area, XCR0_X87 | XCR0_SSE | XCR0_AVX);
    asm volatile("vzeroall");
    for (unsigned i = RESERVED; i < AVX_PART; i++)
        if (area[i])
            return false;
    return area[AVX_PART] == 0xff && area[AVX_PART + 15] == 0xff && area[AVX_PART + 16] == 0;
}

void fpu_init(void)
{
    bool have_xsave = cpuid(1).ecx & BIT32(26);

    write_cr0((read_cr0() & ~(CR0_EM | CR0_TS)) | CR0_MP | CR0_NE);
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT | (have_xsave ? CR4_OSXSAVE : 0));
    asm volatile("fninit");
    if (!have_xsave)
        return;
    struct cpuid c = cpuidex(0xd, 0);
    uint64_t xcr0 = ((uint64_t)c.edx << 32 | c.eax) & KNOWN;
    xsetbv(0, xcr0);
    bool first = !fpu_host_xcr0; /* the boot CPU; the others have the same features */
    fpu_host_xcr0 = xcr0;
    fpu_save_area_size = cpuidex(0xd, 0).ebx;
    if (first && cpuidex(0xd, 1).eax & CPUID_D1_EAX_XSAVEC && xcr0 & XCR0_AVX && !xsavec_works()) {
        fpu_xsavec_broken = true;
        log_warn("cpu", "XSAVEC of this processor corrupts its save area (as in Bochs before 2.8): hidden from guests");
    }
}

void fpu_area_init(void *area)
{
    ASSERT(!((uintptr_t)area & 63));
    *(uint16_t *)area = 0x037f;                   /* FCW */
    *(uint32_t *)((uint8_t *)area + 24) = 0x1f80; /* MXCSR; all else in its initial state: XSTATE_BV is 0 */
}

uint32_t fpu_component_offset(unsigned n)
{
    ASSERT(n >= 2 && fpu_host_xcr0 >> n & 1);
    return cpuidex(0xd, n).ebx;
}

void fpu_guest_load(const void *area, uint64_t guest_xcr0)
{
    if (!fpu_host_xcr0) {
        fxrstor(area);
        return;
    }
    xrstor(area, fpu_host_xcr0);
    if (guest_xcr0 != fpu_host_xcr0)
        xsetbv(0, guest_xcr0);
}

void fpu_guest_save(void *area, uint64_t *guest_xcr0_out)
{
    if (!fpu_host_xcr0) {
        *guest_xcr0_out = XCR0_X87;
        fxsave(area);
        return;
    }
    *guest_xcr0_out = xgetbv(0); /* read back: QEMU's TCG does not intercept XSETBV */
    if (*guest_xcr0_out != fpu_host_xcr0)
        xsetbv(0, fpu_host_xcr0);
    xsave(area, fpu_host_xcr0);
}
