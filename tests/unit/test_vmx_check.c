/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_vmx_check.c - the VM-entry checker: each field of a valid VMCS is broken in turn, and the checker
 * must name it. */
/* unit-sources: vmx/vmx.c vmx/vmx_ctl.c vmx/vmx_vcpu.c kernel/lib/print.c vmx/vmx_run.c vmx/vmx_exit.c vmx/vmx_irq.c
 *   vmx/vmx_msr.c vmx/vmx_cr.c vmx/vmx_pml.c vmx/vmx_check.c vmx/vmx_check_guest.c vmx/ept.c kernel/core/event.c
 *   kernel/core/cpuid.c kernel/core/s2.c kernel/core/guest_mem.c kernel/core/dirty.c tests/fakes/log.c
 *   tests/fakes/page.c tests/fakes/vcpu.c kernel/host/x86/speculation.c tests/fakes/speculation.c
 *   tests/fakes/vmcs.c */
#include "tests/unit/vmx_fixture.h"

/* clang-format off */
static const struct { enum vmcs_field f; uint64_t val; } bad[] = {
    { VMCS_PIN_CTL, 0 }, { VMCS_PIN_CTL, 0x16 | PIN_POSTED }, { VMCS_PROC_CTL, 0 }, { VMCS_PROC2_CTL, BIT32(31) },
    { VMCS_PROC2_CTL, PROC2_UNRESTRICTED },
    { VMCS_VPID, 0 }, { VMCS_EPTP, 0 }, { VMCS_EPTP, 0x105e | 0x80 }, { VMCS_EPTP, BIT64(50) | 0x5e },
    { VMCS_MSR_BITMAP, 1 },
    { VMCS_MSR_BITMAP, BIT64(50) }, { VMCS_VIRT_APIC_PAGE, 8 }, { VMCS_TPR_THRESHOLD, 0x10 },
    { VMCS_TPR_THRESHOLD, 6 }, { VMCS_CR3_TARGET_COUNT, 5 },
    { VMCS_EXIT_CTL, 0 }, { VMCS_ENTRY_CTL, 0 }, { VMCS_ENTRY_INTR_INFO, INTR_VALID | 0x100 },
    { VMCS_ENTRY_INTR_INFO, INTR_VALID | 0x203 },
    { VMCS_ENTRY_INTR_INFO, INTR_VALID | 0x320 }, { VMCS_ENTRY_INTR_INFO, INTR_VALID | 0x30d },
    { VMCS_ENTRY_INTR_INFO, INTR_VALID | 0x80030d | INTR_ERROR_VALID },
    { VMCS_HOST_CR0, 0 }, { VMCS_HOST_CR4, 0x20 }, { VMCS_HOST_CR3, BIT64(50) }, { VMCS_HOST_PAT, 2 },
    { VMCS_HOST_EFER, 0 },
    { VMCS_HOST_CS_SEL, 0 }, { VMCS_HOST_CS_SEL, 9 }, { VMCS_HOST_DS_SEL, 4 }, { VMCS_HOST_TR_SEL, 0 },
    { VMCS_HOST_FS_BASE, BIT64(47) },
    { VMCS_HOST_GS_BASE, BIT64(60) }, { VMCS_HOST_TR_BASE, BIT64(47) }, { VMCS_HOST_GDTR_BASE, BIT64(47) },
    { VMCS_HOST_IDTR_BASE, BIT64(47) },
    { VMCS_HOST_SYSENTER_ESP, BIT64(47) }, { VMCS_HOST_SYSENTER_EIP, BIT64(47) }, { VMCS_HOST_RIP, BIT64(47) },
    { VMCS_GUEST_CR0, CR0_PE | CR0_PG }, { VMCS_GUEST_CR0, CR0_PG | CR0_NE }, { VMCS_GUEST_CR0, CR0_PE | CR0_NE },
    { VMCS_GUEST_CR4, 0x20 },
    { VMCS_GUEST_CR4, CR4_VMXE }, { VMCS_GUEST_CR3, BIT64(50) }, { VMCS_GUEST_DEBUGCTL, BIT64(20) },
    { VMCS_GUEST_DR7, BIT64(32) },
    { VMCS_GUEST_SYSENTER_ESP, BIT64(47) }, { VMCS_GUEST_SYSENTER_EIP, BIT64(47) },
    { VMCS_GUEST_PAT, 0x0307040600070406 },
    { VMCS_GUEST_EFER, EFER_LME }, { VMCS_GUEST_EFER, EFER_LMA },
    { VMCS_GUEST_EFER, EFER_LMA | EFER_LME | EFER_SVME },
    { VMCS_GUEST_TR_SEL, 4 }, { VMCS_GUEST_FS_BASE, BIT64(47) }, { VMCS_GUEST_TR_BASE, BIT64(47) },
    { VMCS_GUEST_CS_BASE, BIT64(32) },
    { VMCS_GUEST_DS_BASE, BIT64(32) }, { VMCS_GUEST_CS_AR, 0xa092 }, { VMCS_GUEST_CS_AR, 0xe09b },
    { VMCS_GUEST_CS_AR, 0xa0fb },
    { VMCS_GUEST_CS_AR, 0xa01b }, { VMCS_GUEST_CS_AR, 0xa19b }, { VMCS_GUEST_CS_AR, 0xa08b },
    { VMCS_GUEST_CS_AR, 0x209b },
    { VMCS_GUEST_SS_AR, 0xc091 }, { VMCS_GUEST_DS_AR, 0xc092 }, { VMCS_GUEST_DS_AR, 0xc099 },
    { VMCS_GUEST_ES_AR, 0xc013 },
    { VMCS_GUEST_TR_AR, 0x89 }, { VMCS_GUEST_TR_AR, 0x83 }, { VMCS_GUEST_TR_AR, SEG_AR_UNUSABLE | 0x8b },
    { VMCS_GUEST_TR_AR, 0x9b }, { VMCS_GUEST_LDTR_AR, 0x83 }, { VMCS_GUEST_LDTR_AR, 0x02 },
    { VMCS_GUEST_GDTR_BASE, BIT64(47) }, { VMCS_GUEST_IDTR_BASE, BIT64(47) },
    { VMCS_GUEST_GDTR_LIMIT, 0x10000 }, { VMCS_GUEST_IDTR_LIMIT, 0x10000 }, { VMCS_GUEST_RIP, BIT64(47) },
    { VMCS_GUEST_RFLAGS, 0x200 },
    { VMCS_GUEST_RFLAGS, 0x202 | BIT64(15) }, { VMCS_GUEST_ACTIVITY, 4 },
    { VMCS_GUEST_INTERRUPTIBILITY, BIT32(6) }, { VMCS_GUEST_INTERRUPTIBILITY, BLOCKED_SHADOW },
    { VMCS_GUEST_INTERRUPTIBILITY, BLOCKED_SMI },
    { VMCS_GUEST_PENDING_DBG, BIT64(5) }, { VMCS_LINK_POINTER, 0 },
};
/* clang-format on */

static void test_checker_names_the_field(void **state)
{
    char why[300];
    (void)state;
    protected_mode();
    run(VMX_EXIT_EXTINT, 0);
    assert_true(vmx_vmcs_check(&vmx_caps, WHY(why)));
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        uint64_t good = fake_get(bad[i].f);
        fake_put(bad[i].f, bad[i].val);
        if (vmx_vmcs_check(&vmx_caps, WHY(why)))
            fail_msg("%u: %s = 0x%lx passes", i, vmcs_field_name(bad[i].f), bad[i].val);
        size_t n = strlen(vmcs_field_name(bad[i].f));
        if (strncmp(why, vmcs_field_name(bad[i].f), n) || why[n] != ' ')
            fail_msg("%u: %s = 0x%lx: %s", i, vmcs_field_name(bad[i].f), bad[i].val, why);
        assert_non_null(strstr(why, "SDM 3C"));
        fake_put(bad[i].f, good);
    }
    assert_true(vmx_vmcs_check(&vmx_caps, WHY(why)));
}

static void test_checker_combinations(void **state)
{
    char why[300];
    (void)state;
    protected_mode();
    run(VMX_EXIT_EXTINT, 0);
    fake_put(VMCS_GUEST_DS_LIMIT, 0xfffffffe);
    assert_false(vmx_vmcs_check(&vmx_caps, WHY(why)));
    assert_non_null(strstr(why, "VMCS_GUEST_DS_AR")); /* its G bit, says the manual */
    fake_put(VMCS_GUEST_DS_LIMIT, 0xffffffff);
    fake_put(VMCS_GUEST_RFLAGS, 2);
    fake_put(VMCS_ENTRY_INTR_INFO, INTR_VALID | 0x40);
    assert_false(vmx_vmcs_check(&vmx_caps, WHY(why)));
    assert_non_null(strstr(why, "VMCS_GUEST_RFLAGS"));
    fake_put(VMCS_GUEST_RFLAGS, 0x202);
    assert_true(vmx_vmcs_check(&vmx_caps, WHY(why)));
    fake_put(VMCS_GUEST_INTERRUPTIBILITY, BLOCKED_STI);
    assert_false(vmx_vmcs_check(&vmx_caps, WHY(why)));
    assert_non_null(strstr(why, "VMCS_GUEST_INTERRUPTIBILITY"));
    fake_put(VMCS_ENTRY_INTR_INFO, INTR_VALID | 0x202);
    fake_put(VMCS_GUEST_INTERRUPTIBILITY, BLOCKED_NMI);
    assert_false(vmx_vmcs_check(&vmx_caps, WHY(why)));
    fake_put(VMCS_ENTRY_INTR_INFO, 0);
    fake_put(VMCS_GUEST_INTERRUPTIBILITY, BLOCKED_STI);
    fake_put(VMCS_GUEST_RFLAGS, 0x302);
    assert_false(vmx_vmcs_check(&vmx_caps, WHY(why)));
    assert_non_null(strstr(why, "VMCS_GUEST_PENDING_DBG"));
    fake_put(VMCS_GUEST_RFLAGS, 0x202);
    fake_put(VMCS_GUEST_INTERRUPTIBILITY, 0);
    assert_true(vmx_vmcs_check(&vmx_caps, WHY(why)));
    fake_put(VMCS_GUEST_RFLAGS, 0x202 | RFLAGS_VM);
    assert_false(vmx_vmcs_check(&vmx_caps, WHY(why)));
    assert_non_null(strstr(why, "virtual-8086"));
    fake_put(VMCS_GUEST_RFLAGS, 0x202);
    fake_put(VMCS_PROC2_CTL, fake_get(VMCS_PROC2_CTL) | PROC2_PML);
    fake_put(VMCS_PML_ADDRESS, 0x10);
    assert_false(vmx_vmcs_check(&vmx_caps, WHY(why)));
    assert_non_null(strstr(why, "VMCS_PML_ADDRESS"));
    fake_put(VMCS_PML_ADDRESS, 0x1000);
    fake_put(VMCS_ENTRY_CTL, fake_get(VMCS_ENTRY_CTL) & ~(uint64_t)ENTRY_IA32E); /* PAE paging now */
    fake_put(VMCS_GUEST_EFER, 0);
    fake_put(VMCS_GUEST_RIP, 0x1000);
    vmx_pdptes_clear();
    fake_put(VMCS_GUEST_PDPTE2, 0x3003);
    assert_false(vmx_vmcs_check(&vmx_caps, WHY(why)));
    if (!strstr(why, "VMCS_GUEST_PDPTE2"))
        fail_msg("%s", why);
    for (unsigned f = 0; f < 0x7000; f += 2) /* names are unique and known for the whole list */
        if (*vmcs_field_name(f) != '?')
            assert_int_equal(strncmp(vmcs_field_name(f), "VMCS_", 5), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_checker_names_the_field),
        T(test_checker_combinations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
