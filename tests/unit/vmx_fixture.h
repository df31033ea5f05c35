/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/vmx_fixture.h - one VM with one loaded vCPU on the fake VT-x, for test_vmx*.c. */
#ifndef GODWIT_TESTS_VMX_FIXTURE_H
#define GODWIT_TESTS_VMX_FIXTURE_H

#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "kernel/core/cpuid.h"
#include "kernel/host/page.h"
#include "tests/fakes/page.h"
#include "tests/fakes/speculation.h"
#include "tests/fakes/vcpu.h"
#include "tests/fakes/vmcs.h"

static struct vm vm;
static struct vcpu *v;
static struct vmx_vcpu *s;
static struct vcpu_exit x;
static struct cpuid_table cpuid_shown;

/* A Skylake without SMAP, UMIP, RDTSCP and INVPCID. */
static inline void cpuid_made_up(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    memset(out, 0, 16);
    switch (leaf) {
    case 0:          out[0] = 0xd, out[1] = 0x756e6547, out[2] = 0x6c65746e, out[3] = 0x49656e69; break;
    case 1:          out[0] = 0x50654, out[2] = BIT32(17) | BIT32(26), out[3] = 0x0783fbff; break;
    case 7:          out[1] = subleaf ? 0 : BIT32(0) | BIT32(7); break;
    case 0xd:        out[0] = subleaf ? 0 : 7, out[1] = out[2] = 0x340; break;
    case 0x80000000: out[0] = 0x80000008; break;
    case 0x80000001: out[3] = BIT32(29) | BIT32(20) | BIT32(11); break;
    case 0x80000008: out[0] = 0x3028; break;
    }
}

static inline int setup(void **state)
{
    static struct vcpu unused;
    const char *why = "";
    (void)state;
    fake_vcpu_init(&vm, &unused);
    fake_vmx_reset();
    cpu_ops = &vmx_cpu_ops;
    assert_int_equal(vmx_cpu_ops.probe(&cpu_caps, &why), HV_OK);
    for (fake_cpu = 0; fake_cpu < 2; fake_cpu++)
        assert_int_equal(vmx_cpu_ops.pcpu_enable(), HV_OK);
    fake_cpu = 0;
    assert_int_equal(guest_mem_init(&vm.mem, 4 * BLOCK_SIZE), HV_OK);
    assert_int_equal(s2_init(&vm.s2, vmx_cpu_ops.s2_format), HV_OK);
    v = vmx_cpu_ops.vcpu_create(&vm, 0);
    assert_non_null(v);
    vm.vcpus[0] = v;
    s = to_vmx(v);
    cpuid_build(&cpuid_shown, cpuid_made_up, 1, 1000000000);
    vm.cpuid = &cpuid_shown;
    vmx_cpu_ops.vcpu_load(v);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    if (s->loaded)
        vmx_cpu_ops.vcpu_unload(v);
    if (atomic_load(&vm.dirty.on))
        dirty_stop(&vm);
    vmx_cpu_ops.vcpu_destroy(v);
    s2_fini(&vm.s2);
    guest_mem_fini(&vm.mem);
    for (unsigned i = 0; i < 2; i++)
        page_free(fake_pcpus[i].vendor_area);
    page_free(vmx_msr_bitmap);
    vmx_msr_bitmap = NULL;
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

static uint32_t exit_reason, exit_intr_info, idt_info, idt_error, insn_len;
static uint64_t exit_qual, exit_gpa;
static inline void script(uint64_t *gpr)
{
    (void)gpr;
    assert_true(atomic_load(&v->in_guest));
    assert_int_equal(atomic_load(&v->s2_gen_seen), atomic_load(&vm.s2.gen));
    fake_put(VMCS_EXIT_REASON, exit_reason);
    fake_put(VMCS_EXIT_QUALIFICATION, exit_qual);
    fake_put(VMCS_GUEST_PHYS_ADDR, exit_gpa);
    fake_put(VMCS_EXIT_INTR_INFO, exit_intr_info);
    fake_put(VMCS_IDT_VECTORING_INFO, idt_info);
    fake_put(VMCS_IDT_VECTORING_ERROR, idt_error);
    fake_put(VMCS_EXIT_INSN_LEN, insn_len);
}
static inline enum vcpu_exit_kind run(uint32_t reason, uint64_t qual)
{
    fake_guest = script;
    exit_reason = reason, exit_qual = qual;
    vmx_cpu_ops.run(v, &x);
    if (fake_check_why[0])
        fail_msg("entry refused: %s", fake_check_why);
    assert_false(atomic_load(&v->in_guest));
    return x.kind;
}

/* A 64-bit kernel, everything different from everything else. */
static inline void fill(struct vcpu_regs *r)
{
    uint64_t k = 0x0000101010101010;
    memset(r, 0, sizeof(*r));
    *r = (struct vcpu_regs){ .rip = 0xffffffff81000000,
                             .rflags = 0x202,
                             .cr0 = 0x80050033,
                             .cr2 = k++,
                             .cr3 = 0x1000,
                             .cr4 = 0x6f0,
                             .cr8 = 5,
                             .xcr0 = 7,
                             .dr = { k, k + 1, k + 2, k + 3 },
                             .dr6 = 0xffff0ff1,
                             .dr7 = 0x401,
                             .efer = 0xd01,
                             .star = k += 8,
                             .lstar = k += 8,
                             .cstar = k += 8,
                             .sfmask = 0x47700,
                             .kernel_gs_base = k += 8,
                             .sysenter_cs = 0x10,
                             .sysenter_esp = k += 8,
                             .sysenter_eip = k += 8,
                             .pat = 0x0007040600070406,
                             .tsc_aux = 3,
                             .debugctl = 1,
                             .irq_shadow = true,
                             .nmi_blocked = true,
                             .gdtr = { 0x7f, k += 8 },
                             .idtr = { 0xfff, k += 8 } };
    for (unsigned i = 0; i < GPR_COUNT; i++)
        r->gpr[i] = k += 8;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        r->seg[i] =
            (struct seg){ .sel = (uint16_t)(8 * i), .ar = 0xc093, .limit = ~0u, .base = i < SEG_FS ? 0 : (k += 8) };
    r->seg[SEG_CS].ar = 0xa09b;
    r->seg[SEG_GS].ar = 0x13 | SEG_AR_UNUSABLE;
    r->seg[SEG_LDTR] = (struct seg){ .ar = 0x82 | SEG_AR_UNUSABLE };
    r->seg[SEG_TR] = (struct seg){ .sel = 0x40, .ar = 0x8b, .limit = 0x67, .base = k };
}

static inline void protected_mode(void)
{
    struct vcpu_regs r;
    fill(&r);
    r.irq_shadow = r.nmi_blocked = false;
    vmx_cpu_ops.regs_set(v, &r);
}

#endif
