/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_vmx_probe.c - the VT-x back end before the first entry: probe, allowed controls, preemption timer,
 * MSR bitmap. */
/* unit-sources: vmx/vmx.c vmx/vmx_ctl.c vmx/vmx_vcpu.c kernel/lib/print.c vmx/vmx_run.c vmx/vmx_exit.c vmx/vmx_irq.c
 *   vmx/vmx_msr.c vmx/vmx_cr.c vmx/vmx_pml.c vmx/vmx_check.c vmx/vmx_check_guest.c vmx/ept.c kernel/core/event.c
 *   kernel/core/cpuid.c kernel/core/s2.c kernel/core/guest_mem.c kernel/core/dirty.c tests/fakes/log.c
 *   tests/fakes/page.c tests/fakes/vcpu.c kernel/host/x86/speculation.c tests/fakes/speculation.c
 *   tests/fakes/vmcs.c */
#include "tests/unit/vmx_fixture.h"

static void refused(enum hv_err e, const char *word)
{
    const char *why = "";
    struct cpu_caps caps;
    assert_int_equal(vmx_cpu_ops.probe(&caps, &why), e);
    if (!strstr(why, word))
        fail_msg("'%s' does not name %s", why, word);
}

static void test_probe_says_why(void **state)
{
    (void)state;
    /* was 0: set by enable */
    assert_int_equal(fake_msr_get(MSR_FEATURE_CONTROL), FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMXON);
    vmx_cpu_ops.vcpu_unload(v);
    fake_msr_put(MSR_FEATURE_CONTROL, FEATURE_CONTROL_LOCK);
    refused(HV_E_BUSY, "firmware");
    fake_msr_put(MSR_FEATURE_CONTROL, 0);
    fake_msr_put(MSR_VMX_PROCBASED_CTLS2, 0x000000ff00000000ul & ~((uint64_t)PROC2_UNRESTRICTED << 32));
    refused(HV_E_UNSUPP, "unrestricted guest");
    fake_msr_put(MSR_VMX_PROCBASED_CTLS2, 0x000000ff00000000ul & ~((uint64_t)PROC2_EPT << 32));
    refused(HV_E_UNSUPP, "EPT");
    fake_msr_put(MSR_VMX_PROCBASED_CTLS2, 0x000000ff00000000ul);
    fake_msr_put(MSR_VMX_EPT_VPID_CAP, EPT_CAP_WB | EPT_CAP_WALK_4 | EPT_CAP_2M);
    refused(HV_E_UNSUPP, "INVEPT");
    fake_cpuid_1.ecx = 0;
    refused(HV_E_UNSUPP, "no VT-x");
}

static void test_caps_of_models(void **state)
{
    const char *why;
    struct cpu_caps caps;
    (void)state;
    vmx_cpu_ops.vcpu_unload(v);
    assert_true(cpu_caps.pml && cpu_caps.s2_ad && cpu_caps.tsc_frac_bits == 48 && cpu_caps.next_rip &&
                cpu_caps.large_1g && cpu_caps.flush_by_asid);
    fake_msr_put(MSR_VMX_PROCBASED_CTLS2,
                 (uint64_t)(PROC2_EPT | PROC2_VPID | PROC2_UNRESTRICTED | PROC2_WBINVD | PROC2_RDTSCP) << 32);
    fake_msr_put(MSR_VMX_EPT_VPID_CAP, 0x00000f0106734141 & ~EPT_CAP_AD); /* Sandy Bridge */
    assert_int_equal(vmx_cpu_ops.probe(&caps, &why), HV_OK);
    assert_false(caps.pml || caps.s2_ad || caps.tsc_frac_bits);
    assert_true(caps.flush_by_asid);
    fake_msr_put(MSR_VMX_EPT_VPID_CAP, 0x0000000006734141); /* VPID, but no INVVPID: not used */
    assert_int_equal(vmx_cpu_ops.probe(&caps, &why), HV_OK);
    assert_false(caps.flush_by_asid);
    assert_false(vmx_caps.ctl.proc2 & PROC2_VPID);
}

static void test_locked_on_one_cpu_only(void **state)
{
    (void)state;
    fake_msr_put(MSR_FEATURE_CONTROL, FEATURE_CONTROL_LOCK);
    assert_int_equal(vmx_cpu_ops.pcpu_enable(), HV_E_BUSY);
    fake_msr_put(MSR_FEATURE_CONTROL, FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMXON);
    assert_true(fake_cr[4] & CR4_VMXE);
    vmx_cpu_ops.vcpu_unload(v);
    vmx_cpu_ops.pcpu_disable();
    assert_false(fake_cr[4] & CR4_VMXE);
    assert_int_equal(vmx_cpu_ops.pcpu_enable(), HV_OK);
}

static struct vmx_caps all_allowed(void)
{
    struct vmx_caps c = vmx_caps;
    c.pin = c.proc = c.proc2 = c.exit = c.entry = (struct vmx_ctl_cap){ 0, ~0u };
    return c;
}

static void test_controls_from_capabilities(void **state)
{
    struct vmx_caps c = all_allowed();
    struct vmx_ctls out;
    char missing[200];
    (void)state;
    assert_int_equal(vmx_ctls_choose(&c, &out, missing, sizeof(missing)), HV_OK);
    assert_int_equal(out.pin, PIN_EXTINT | PIN_NMI | PIN_VIRTUAL_NMIS | PIN_PREEMPT_TIMER);
    assert_int_equal(out.proc, PROC_TSC_OFFSET | PROC_HLT | PROC_MWAIT | PROC_RDPMC | PROC_TPR_SHADOW | PROC_IO |
                                   PROC_MSR_BITMAPS | PROC_MONITOR | PROC_SECONDARY);
    assert_int_equal(out.proc2, PROC2_EPT | PROC2_RDTSCP | PROC2_VPID | PROC2_WBINVD | PROC2_UNRESTRICTED | PROC2_PLE |
                                    PROC2_INVPCID | PROC2_XSAVES);
    assert_int_equal(out.exit,
                     EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_SAVE_PAT | EXIT_LOAD_PAT | EXIT_SAVE_EFER | EXIT_LOAD_EFER);
    assert_int_equal(out.entry, ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER);
    /* default1 bits come along */
    c.pin.must = 0x16, c.proc.must = 0x04006172, c.exit.must = 0x36dfb, c.entry.must = 0x11fb;
    assert_int_equal(vmx_ctls_choose(&c, &out, missing, sizeof(missing)), HV_OK);
    assert_int_equal(out.proc & 0x04006172, 0x04006172);
    assert_int_equal(out.entry & 0x11fb, 0x11fb);
    assert_false(out.entry & ENTRY_IA32E);
    c.proc.may &= ~(PROC_MSR_BITMAPS | PROC_TPR_SHADOW); /* all that is missing, at once */
    c.proc2.may &= ~PROC2_UNRESTRICTED;
    assert_int_equal(vmx_ctls_choose(&c, &out, missing, sizeof(missing)), HV_E_UNSUPP);
    assert_string_equal(missing, "TPR shadow, MSR bitmaps, unrestricted guest");
    c = all_allowed();
    c.proc.must = 0x0401e172; /* no TRUE MSRs: CR3 exits cannot be turned off */
    assert_int_equal(vmx_ctls_choose(&c, &out, missing, sizeof(missing)), HV_E_UNSUPP);
    assert_non_null(strstr(missing, "CR3-load exiting"));
    c = all_allowed();
    c.proc2.may = PROC2_EPT | PROC2_UNRESTRICTED | PROC2_WBINVD; /* the optional ones are left out quietly */
    assert_int_equal(vmx_ctls_choose(&c, &out, missing, sizeof(missing)), HV_OK);
    assert_int_equal(out.proc2, c.proc2.may);
    missing[4] = 'x';
    /* a short buffer is not overrun */
    assert_int_equal(vmx_ctls_choose(&(struct vmx_caps){ 0 }, &out, missing, 5), HV_E_UNSUPP);
    assert_int_equal(strlen(missing), 4);
}

/* A bound on every run in the guest: from the pCPU's timer, in units of 2^7 ticks here, never early;
 * none without a deadline. */
static void test_preemption_timer(void **state)
{
    (void)state;
    run(VMX_EXIT_EXTINT, 0);
    assert_true(fake_get(VMCS_PIN_CTL) & PIN_PREEMPT_TIMER);
    assert_int_equal(fake_get(VMCS_GUEST_PREEMPT_TIMER), UINT32_MAX);
    fake_tsc = 1000000;
    fake_pcpus[0].timer_tsc = fake_tsc + 12800 + 5;
    fake_n_take_irq = 0;
    assert_int_equal(run(VMX_EXIT_PREEMPT, 0), VCPU_EXIT_INTR);
    assert_int_equal(fake_n_take_irq, 1);
    assert_int_equal(fake_get(VMCS_GUEST_PREEMPT_TIMER), 101);
    fake_pcpus[0].timer_tsc = fake_tsc - 1;
    run(VMX_EXIT_PREEMPT, 0);
    assert_int_equal(fake_get(VMCS_GUEST_PREEMPT_TIMER), 1);
    fake_pcpus[0].timer_tsc = UINT64_MAX;
    run(VMX_EXIT_PREEMPT, 0);
    assert_int_equal(fake_get(VMCS_GUEST_PREEMPT_TIMER), UINT32_MAX);
}

static void test_msr_bitmap(void **state)
{
    static const uint32_t pass[] = { 0x174,      0x175,      0x176,      0xc0000081, 0xc0000082,
                                     0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102 };
    unsigned n = 0;
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(pass); i++) {
        unsigned bit = (pass[i] >= 0xc0000000 ? 0x2000 : 0) + (pass[i] & 0x1fff);
        assert_false(vmx_msr_bitmap[bit / 8] >> bit % 8 & 1);
        assert_false(vmx_msr_bitmap[0x800 + bit / 8] >> bit % 8 & 1);
    }
    for (unsigned i = 0; i < 8 * PAGE_SIZE; i++)
        n += !(vmx_msr_bitmap[i / 8] >> i % 8 & 1);
    assert_int_equal(n, 2 * ARRAY_SIZE(pass));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_probe_says_why),         T(test_caps_of_models),
        T(test_locked_on_one_cpu_only), T(test_controls_from_capabilities),
        T(test_preemption_timer),       T(test_msr_bitmap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
