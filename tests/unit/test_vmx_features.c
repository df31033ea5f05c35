/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_vmx_features.c - the VT-x back end and what one guest has and another has not: controls and exits that follow its CPUID, its TSC. */
/* unit-sources: vmx/vmx.c vmx/vmx_ctl.c vmx/vmx_vcpu.c vmx/vmx_run.c vmx/vmx_exit.c vmx/vmx_irq.c vmx/vmx_msr.c vmx/vmx_cr.c vmx/vmx_pml.c
   vmx/vmx_check.c vmx/vmx_check_guest.c vmx/ept.c kernel/event.c kernel/cpuid.c
   kernel/s2.c kernel/guest_mem.c kernel/dirty.c tests/fakes/log.c tests/fakes/page.c tests/fakes/vcpu.c tests/fakes/vmcs.c */
#include "tests/unit/vmx_fixture.h"

static void test_controls_follow_the_guests_cpuid(void **state)
{
    (void)state;
    run(VMX_EXIT_EXTINT, 0);
    assert_false(fake_get(VMCS_PROC2_CTL) & (PROC2_RDTSCP | PROC2_INVPCID | PROC2_XSAVES));
    assert_true(fake_get(VMCS_PROC2_CTL) & PROC2_VPID);
}

static void test_tsc_scaling(void **state)
{
    (void)state;
    run(VMX_EXIT_EXTINT, 0);
    assert_false(fake_get(VMCS_PROC2_CTL) & PROC2_TSC_SCALING);
    vmx_cpu_ops.tsc_set(v, 3 * BIT64(47), -77);                 /* 1.5 */
    run(VMX_EXIT_EXTINT, 0);
    assert_true(fake_get(VMCS_PROC2_CTL) & PROC2_TSC_SCALING);
    assert_true(fake_get(VMCS_PROC_CTL) & PROC_TSC_OFFSET);     /* the processor scales only with this one as well */
    assert_int_equal(fake_get(VMCS_TSC_MULTIPLIER), 3 * BIT64(47));
    assert_int_equal(fake_get(VMCS_TSC_OFFSET), (uint64_t)-77);
    vmx_cpu_ops.vcpu_unload(v);
    vmx_cpu_ops.tsc_set(v, 0, 5);                               /* as a load of state does: not loaded */
    vmx_cpu_ops.vcpu_load(v);
    run(VMX_EXIT_EXTINT, 0);
    assert_false(fake_get(VMCS_PROC2_CTL) & PROC2_TSC_SCALING);
    assert_int_equal(fake_get(VMCS_TSC_OFFSET), 5);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_controls_follow_the_guests_cpuid), T(test_tsc_scaling) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
