/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_check.c - which rule of VM entry does this VMCS break?  Control fields and host state; guest state:
 * vmx_check_guest.c.
 *
 * The processor reports only VM-instruction error 7 or 8, or exit reason 33.  This file checks the rules of SDM 3C "VM
 * Entries" in the manual's order and names the first broken one.  It only reads the current VMCS: the unit test breaks
 * the fields one by one.  It covers the features that we use; the others (posted interrupts, SMM, SGX, Intel PT) must
 * be off.  The AMD half: svm_check.c. */
#include "vmx/vmx_check.h"
#include "kernel/host/page.h"

const char *vmcs_field_name(enum vmcs_field f)
{
    switch (f) {
#define X(name, encoding) \
    case encoding: return "VMCS_" #name;
        VMCS_FIELD_LIST(X)
#undef X
    }
    return "?";
}

bool vmx_check_fail(const struct check *c, enum vmcs_field f, const char *rule)
{
    why_say(c->why, "%s (0x%04x) is 0x%lx: %s [SDM 3C \"%s\"]", vmcs_field_name(f), (unsigned)f, check_read(f), rule,
            c->section);
    return false;
}

bool vmx_check_pat(uint64_t pat)
{
    for (unsigned i = 0; i < 8; i++) {
        uint64_t type = pat >> 8 * i & 0xff;
        if (type > 7 || type == 2 || type == 3)
            return false;
    }
    return true;
}

#define CTL_RULE(f, cap)                                       \
    RULE(f, check_fixed(check_read(f), (cap).must, (cap).may), \
         "a bit that must be set is clear, or one that may not be set is set")

static bool vmx_check_exec_ctls(struct check *c)
{
    c->section = "VM-Execution Control Fields";
    CTL_RULE(VMCS_PIN_CTL, c->caps->pin);
    CTL_RULE(VMCS_PROC_CTL, c->caps->proc);
    uint32_t pin = vmcs_read32(VMCS_PIN_CTL), proc = vmcs_read32(VMCS_PROC_CTL), proc2 = 0;
    if (proc & PROC_SECONDARY) {
        CTL_RULE(VMCS_PROC2_CTL, c->caps->proc2);
        proc2 = vmcs_read32(VMCS_PROC2_CTL);
    }
    RULE(VMCS_CR3_TARGET_COUNT, vmcs_read32(VMCS_CR3_TARGET_COUNT) <= 4, "there are 4 CR3 targets");
    RULE(VMCS_PROC_CTL, !(proc & PROC_IO_BITMAPS), "I/O bitmaps are not in use here");
    if (proc & PROC_MSR_BITMAPS)
        RULE(VMCS_MSR_BITMAP, check_address(c, vmcs_read64(VMCS_MSR_BITMAP), PAGE_SIZE),
             "must be 4 KiB aligned and a physical address");
    RULE(VMCS_PIN_CTL, (pin & PIN_NMI) || !(pin & PIN_VIRTUAL_NMIS), "virtual NMIs need NMI exiting");
    RULE(VMCS_PROC_CTL, (pin & PIN_VIRTUAL_NMIS) || !(proc & PROC_NMI_WINDOW), "NMI-window exiting needs virtual NMIs");
    RULE(VMCS_PROC2_CTL, (proc & PROC_TPR_SHADOW) || !(proc2 & (PROC2_X2APIC | PROC2_APIC_REGS | PROC2_VIRT_IRQ)),
         "APIC virtualization needs the TPR shadow");
    RULE(VMCS_PROC2_CTL, !(proc2 & PROC2_X2APIC) || !(proc2 & PROC2_APIC_ACCESS),
         "virtualize x2APIC mode or APIC accesses, not both");
    RULE(VMCS_PIN_CTL, !(proc2 & PROC2_VIRT_IRQ) || (pin & PIN_EXTINT),
         "virtual-interrupt delivery needs external-interrupt exiting");
    RULE(VMCS_PROC2_CTL, !(proc2 & PROC2_UNRESTRICTED) || (proc2 & PROC2_EPT), "unrestricted guest needs EPT");
    RULE(VMCS_PROC2_CTL, !(proc2 & PROC2_PML) || (proc2 & PROC2_EPT), "PML needs EPT");
    if (proc2 & PROC2_VPID)
        RULE(VMCS_VPID, vmcs_read16(VMCS_VPID), "0 is the host's");
    return true;
}

static bool vmx_check_tpr_shadow(struct check *c)
{
    if (!(vmcs_read32(VMCS_PROC_CTL) & PROC_TPR_SHADOW))
        return true;
    uint64_t page = vmcs_read64(VMCS_VIRT_APIC_PAGE);
    uint32_t threshold = vmcs_read32(VMCS_TPR_THRESHOLD);
    RULE(VMCS_VIRT_APIC_PAGE, page && check_address(c, page, PAGE_SIZE),
         "must be 4 KiB aligned and a physical address");
    RULE(VMCS_TPR_THRESHOLD, threshold <= 0xf, "bits 31:4 must be 0");
    RULE(VMCS_TPR_THRESHOLD, threshold <= ((const uint8_t *)hpa_ptr(hpa(page)))[0x80] >> 4,
         "must not be above bits 7:4 of the virtual TPR");
    return true;
}

static bool vmx_check_ept(struct check *c)
{
    uint32_t proc2 = vmcs_read32(VMCS_PROC2_CTL);
    if (proc2 & PROC2_EPT) {
        uint64_t eptp = vmcs_read64(VMCS_EPTP);
        RULE(VMCS_EPTP, (eptp & 7) == EPTP_WB || (eptp & 7) == 0, "memory type must be write-back or uncached");
        RULE(VMCS_EPTP, (eptp & 0x38) == EPTP_WALK_4, "bits 5:3 must say 4 levels");
        RULE(VMCS_EPTP, !(eptp & EPTP_AD) || (c->caps->ept_vpid & EPT_CAP_AD),
             "this processor has no accessed and dirty flags");
        RULE(VMCS_EPTP, !(eptp & 0xf80) && !(eptp >> c->caps->phys_bits), "reserved bits must be 0");
    }
    if (proc2 & PROC2_PML)
        RULE(VMCS_PML_ADDRESS, check_address(c, vmcs_read64(VMCS_PML_ADDRESS), PAGE_SIZE),
             "must be 4 KiB aligned and a physical address");
    return true;
}

static bool vmx_check_msr_area(struct check *c, enum vmcs_field count, enum vmcs_field area)
{
    if (vmcs_read32(count))
        RULE(area, check_address(c, vmcs_read64(area), 16), "must be 16-byte aligned and a physical address");
    return true;
}

static bool vmx_check_exit_ctls(struct check *c)
{
    c->section = "VM-Exit Control Fields";
    CTL_RULE(VMCS_EXIT_CTL, c->caps->exit);
    RULE(VMCS_EXIT_CTL,
         (vmcs_read32(VMCS_PIN_CTL) & PIN_PREEMPT_TIMER) || !(vmcs_read32(VMCS_EXIT_CTL) & EXIT_SAVE_PREEMPT),
         "saving the preemption timer needs it active");
    return vmx_check_msr_area(c, VMCS_EXIT_MSR_STORE_COUNT, VMCS_EXIT_MSR_STORE) &&
           vmx_check_msr_area(c, VMCS_EXIT_MSR_LOAD_COUNT, VMCS_EXIT_MSR_LOAD);
}

static bool vmx_check_injection(struct check *c)
{
    uint32_t info = vmcs_read32(VMCS_ENTRY_INTR_INFO), type = FIELD_GET(INTR_TYPE, info), vector = info & INTR_VECTOR;
    if (!(info & INTR_VALID))
        return true;
    RULE(VMCS_ENTRY_INTR_INFO, type != 1 && type != INTR_TYPE_OTHER, "reserved interruption type");
    RULE(VMCS_ENTRY_INTR_INFO, type != INTR_TYPE_NMI || vector == EXC_NMI, "an NMI has vector 2");
    RULE(VMCS_ENTRY_INTR_INFO, type != INTR_TYPE_HW_EXC || vector < 32, "an exception has a vector below 32");
    RULE(VMCS_ENTRY_INTR_INFO, !(info & 0x7ffff000), "bits 30:12 are reserved");
    bool has =
        type == INTR_TYPE_HW_EXC && (vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC);
    bool want = has && (vmcs_readn(VMCS_GUEST_CR0) & CR0_PE);
    RULE(VMCS_ENTRY_INTR_INFO, want == !!(info & INTR_ERROR_VALID),
         "an error code goes with #DF, #TS, #NP, #SS, #GP, #PF, #AC in protected mode, and "
         "with nothing else");
    if (info & INTR_ERROR_VALID)
        RULE(VMCS_ENTRY_EXC_ERROR, !(vmcs_read32(VMCS_ENTRY_EXC_ERROR) >> 16), "bits 31:16 must be 0");
    if (type >= INTR_TYPE_SOFT_INT) {
        uint32_t len = vmcs_read32(VMCS_ENTRY_INSN_LEN);
        RULE(VMCS_ENTRY_INSN_LEN, len >= 1 && len <= 15, "an instruction has 1 to 15 bytes");
    }
    return true;
}

static bool vmx_check_entry_ctls(struct check *c)
{
    c->section = "VM-Entry Control Fields";
    CTL_RULE(VMCS_ENTRY_CTL, c->caps->entry);
    RULE(VMCS_ENTRY_CTL, !(vmcs_read32(VMCS_ENTRY_CTL) & (ENTRY_SMM | ENTRY_DUAL_MONITOR)), "we are not in SMM");
    return vmx_check_injection(c) && vmx_check_msr_area(c, VMCS_ENTRY_MSR_LOAD_COUNT, VMCS_ENTRY_MSR_LOAD);
}

#define CANONICAL(f) RULE(f, check_canonical(check_read(f)), "must be canonical")

static bool vmx_check_host_regs(struct check *c)
{
    c->section = "Checks on Host Control Registers, MSRs, and SSP";
    RULE(VMCS_HOST_CR0, check_fixed(vmcs_readn(VMCS_HOST_CR0), c->caps->cr0_fixed0, c->caps->cr0_fixed1),
         "a bit differs from what VMX operation fixes");
    RULE(VMCS_HOST_CR4, check_fixed(vmcs_readn(VMCS_HOST_CR4), c->caps->cr4_fixed0, c->caps->cr4_fixed1),
         "a bit differs from what VMX operation fixes");
    RULE(VMCS_HOST_CR3, !(vmcs_readn(VMCS_HOST_CR3) >> c->caps->phys_bits),
         "bits beyond the physical-address width must be 0");
    CANONICAL(VMCS_HOST_SYSENTER_ESP);
    CANONICAL(VMCS_HOST_SYSENTER_EIP);
    if (vmcs_read32(VMCS_EXIT_CTL) & EXIT_LOAD_PAT)
        RULE(VMCS_HOST_PAT, vmx_check_pat(vmcs_read64(VMCS_HOST_PAT)), "each byte must be 0, 1, 4, 5, 6 or 7");
    if (vmcs_read32(VMCS_EXIT_CTL) & EXIT_LOAD_EFER) {
        uint64_t efer = vmcs_read64(VMCS_HOST_EFER);
        RULE(VMCS_HOST_EFER, !(efer & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)), "reserved bits must be 0");
        RULE(VMCS_HOST_EFER, (efer & (EFER_LME | EFER_LMA)) == (EFER_LME | EFER_LMA),
             "LME and LMA must be 1 as \"host address-space size\" is");
    }
    return true;
}

static bool vmx_check_host_segs(struct check *c)
{
    static const enum vmcs_field sel[] = { VMCS_HOST_CS_SEL, VMCS_HOST_SS_SEL, VMCS_HOST_DS_SEL, VMCS_HOST_ES_SEL,
                                           VMCS_HOST_FS_SEL, VMCS_HOST_GS_SEL, VMCS_HOST_TR_SEL };
    c->section = "Checks on Host Segment and Descriptor-Table Registers";
    for (unsigned i = 0; i < ARRAY_SIZE(sel); i++)
        RULE(sel[i], !(vmcs_read16(sel[i]) & 7), "RPL and TI must be 0");
    RULE(VMCS_HOST_CS_SEL, vmcs_read16(VMCS_HOST_CS_SEL), "must not be null");
    RULE(VMCS_HOST_TR_SEL, vmcs_read16(VMCS_HOST_TR_SEL), "must not be null");
    CANONICAL(VMCS_HOST_FS_BASE);
    CANONICAL(VMCS_HOST_GS_BASE);
    CANONICAL(VMCS_HOST_TR_BASE);
    CANONICAL(VMCS_HOST_GDTR_BASE);
    CANONICAL(VMCS_HOST_IDTR_BASE);
    c->section = "Checks Related to Address-Space Size";
    RULE(VMCS_EXIT_CTL, vmcs_read32(VMCS_EXIT_CTL) & EXIT_HOST_64,
         "\"host address-space size\" must be 1: the host is in long mode");
    RULE(VMCS_HOST_CR4, vmcs_readn(VMCS_HOST_CR4) & CR4_PAE, "PAE must be 1 in long mode");
    CANONICAL(VMCS_HOST_RIP);
    return true;
}

bool vmx_check_controls(const struct vmx_caps *caps, struct why *why)
{
    struct check c = { caps, "", why };
    return vmx_check_exec_ctls(&c) && vmx_check_tpr_shadow(&c) && vmx_check_ept(&c) && vmx_check_exit_ctls(&c) &&
           vmx_check_entry_ctls(&c) && vmx_check_host_regs(&c) && vmx_check_host_segs(&c);
}

bool vmx_vmcs_check(const struct vmx_caps *caps, struct why *why)
{
    return vmx_check_controls(caps, why) && vmx_check_guest(caps, why);
}
