/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_vmx_features.c - the VT-x back end and features that differ between guests: controls and exits follow
 * the guest's CPUID and TSC rate. */
/* unit-sources: vmx/vmx.c vmx/vmx_ctl.c vmx/vmx_vcpu.c kernel/lib/print.c vmx/vmx_run.c vmx/vmx_exit.c vmx/vmx_irq.c
 *   vmx/vmx_msr.c vmx/vmx_cr.c vmx/vmx_pml.c vmx/vmx_check.c vmx/vmx_check_guest.c vmx/ept.c kernel/core/event.c
 *   kernel/core/cpuid.c kernel/core/s2.c kernel/core/guest_mem.c kernel/core/dirty.c tests/fakes/log.c
 *   tests/fakes/page.c tests/fakes/vcpu.c kernel/host/x86/speculation.c tests/fakes/speculation.c
 *   tests/fakes/vmcs.c */
#include "tests/unit/vmx_fixture.h"

static void test_controls_follow_the_guests_cpuid(void **state)
{
    (void)state;
    run(VMX_EXIT_EXTINT, 0);
    assert_false(fake_get(VMCS_PROC2_CTL) & (PROC2_RDTSCP | PROC2_INVPCID | PROC2_XSAVES));
    assert_true(fake_get(VMCS_PROC2_CTL) & PROC2_VPID);
    assert_true(fake_get(VMCS_PROC2_CTL) & PROC2_RDRAND);
    assert_true(fake_get(VMCS_PROC2_CTL) & PROC2_RDSEED);
    assert_int_equal(run(VMX_EXIT_RDRAND, 0), VCPU_EXIT_UD);
    assert_int_equal(run(VMX_EXIT_RDSEED, 0), VCPU_EXIT_UD);
}

/* Each control by itself: with the feature shown, without it, and on a processor without the control. */
static void test_control_of_each_feature(void **state)
{
    static const struct {
        uint32_t leaf;
        uint8_t sub, reg, bit;
        uint32_t ctl;
        bool exits;
    } row[] = {
        { 0x80000001, 0, CPUID_EDX, 27, PROC2_RDTSCP, false }, { 7, 0, CPUID_ECX, 22, PROC2_RDTSCP, false },
        { 7, 0, CPUID_EBX, 10, PROC2_INVPCID, false },         { 0xd, 1, CPUID_EAX, 3, PROC2_XSAVES, false },
        { 1, 0, CPUID_ECX, 30, PROC2_RDRAND, true },           { 7, 0, CPUID_EBX, 18, PROC2_RDSEED, true },
    };
    const uint32_t enables = PROC2_RDTSCP | PROC2_INVPCID | PROC2_XSAVES, exits = PROC2_RDRAND | PROC2_RDSEED;
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(row); i++) {
        struct cpuid_table t = { .n = 1, .e = { { .leaf = row[i].leaf, .subleaf = row[i].sub } } };
        t.e[0].reg[row[i].reg] = BIT32(row[i].bit);
        uint32_t ctl = enables | PROC2_EPT;
        vmx_ctls_mask(&ctl, ~0u, &t);
        assert_int_equal(ctl, PROC2_EPT | (row[i].exits ? exits & ~row[i].ctl : exits | row[i].ctl));
        ctl = enables;
        vmx_ctls_mask(&ctl, enables, &t);
        assert_int_equal(ctl, row[i].exits ? 0 : row[i].ctl);
    }
}

static void test_tsc_scaling(void **state)
{
    (void)state;
    run(VMX_EXIT_EXTINT, 0);
    assert_false(fake_get(VMCS_PROC2_CTL) & PROC2_TSC_SCALING);
    vmx_cpu_ops.tsc_set(v, 3 * BIT64(47), -77); /* 1.5 */
    run(VMX_EXIT_EXTINT, 0);
    assert_true(fake_get(VMCS_PROC2_CTL) & PROC2_TSC_SCALING);
    assert_true(fake_get(VMCS_PROC_CTL) & PROC_TSC_OFFSET); /* the processor scales only with this one as well */
    assert_int_equal(fake_get(VMCS_TSC_MULTIPLIER), 3 * BIT64(47));
    assert_int_equal(fake_get(VMCS_TSC_OFFSET), (uint64_t)-77);
    vmx_cpu_ops.vcpu_unload(v);
    vmx_cpu_ops.tsc_set(v, 0, 5); /* as a load of state does: not loaded */
    vmx_cpu_ops.vcpu_load(v);
    run(VMX_EXIT_EXTINT, 0);
    assert_false(fake_get(VMCS_PROC2_CTL) & PROC2_TSC_SCALING);
    assert_int_equal(fake_get(VMCS_TSC_OFFSET), 5);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_controls_follow_the_guests_cpuid), T(test_control_of_each_feature),
                                        T(test_tsc_scaling) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
