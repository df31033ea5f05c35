/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx.c - VT-x on this machine: detection, enabling per pCPU, and vmx_cpu_ops, the table that the core calls.
 *
 * Each pCPU has a VMXON region (struct pcpu's vendor_area).  The MSR bitmap is shared by all vCPUs. */
#include "vmx/vmx.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/lock.h"
#include "kernel/lib/log.h"

#define CPUID_1_ECX_VMX       BIT32(5)
#define CPUID_EXT1_EDX_RDTSCP BIT32(27)
#define CPUID_7_ECX_RDPID     BIT32(22)

/* IA32_VMX_BASIC, SDM 3D App. A.1. */
#define BASIC_REVISION     0x7ffffffful
#define BASIC_REGION_BYTES (0x1ffful << 32)
#define BASIC_MEMORY_TYPE  (0xful << 50)
#define BASIC_TRUE_MSRS    BIT64(55)
#define MEMORY_TYPE_WB     6
#define MISC_PREEMPT_SHIFT 0x1ful /* IA32_VMX_MISC, A.6 */

struct vmx_caps vmx_caps;
uint8_t *vmx_msr_bitmap;
static struct spinlock enable_lock; /* the first pCPU creates the bitmap */
static char why_not[400];           /* result of vmx_probe(); boot CPU only */

static struct vmx_ctl_cap vmx_ctl_cap_read(uint32_t msr)
{
    uint64_t val = vmx_rdmsr(msr);
    return (struct vmx_ctl_cap){ .must = (uint32_t)val, .may = (uint32_t)(val >> 32) };
}

/* The order matters: an MSR exists only where earlier ones say so. */
static void vmx_caps_read(struct vmx_caps *c)
{
    uint64_t basic = vmx_rdmsr(MSR_VMX_BASIC);
    bool true_msrs = basic & BASIC_TRUE_MSRS;
    c->revision = (uint32_t)(basic & BASIC_REVISION);
    c->pin = vmx_ctl_cap_read(true_msrs ? MSR_VMX_TRUE_PINBASED_CTLS : MSR_VMX_PINBASED_CTLS);
    c->proc = vmx_ctl_cap_read(true_msrs ? MSR_VMX_TRUE_PROCBASED_CTLS : MSR_VMX_PROCBASED_CTLS);
    c->exit = vmx_ctl_cap_read(true_msrs ? MSR_VMX_TRUE_EXIT_CTLS : MSR_VMX_EXIT_CTLS);
    c->entry = vmx_ctl_cap_read(true_msrs ? MSR_VMX_TRUE_ENTRY_CTLS : MSR_VMX_ENTRY_CTLS);
    if (c->proc.may & PROC_SECONDARY)
        c->proc2 = vmx_ctl_cap_read(MSR_VMX_PROCBASED_CTLS2);
    if (c->proc2.may & PROC2_EPT)
        c->ept_vpid = vmx_rdmsr(MSR_VMX_EPT_VPID_CAP);
    c->preempt_shift = vmx_rdmsr(MSR_VMX_MISC) & MISC_PREEMPT_SHIFT;
    c->cr0_fixed0 = vmx_rdmsr(MSR_VMX_CR0_FIXED0);
    c->cr0_fixed1 = vmx_rdmsr(MSR_VMX_CR0_FIXED1);
    c->cr4_fixed0 = vmx_rdmsr(MSR_VMX_CR4_FIXED0);
    c->cr4_fixed1 = vmx_rdmsr(MSR_VMX_CR4_FIXED1);
    uint32_t max = vmx_cpuid(0x80000000, 0).eax, max_basic = vmx_cpuid(0, 0).eax;
    c->phys_bits = max >= 0x80000008 ? vmx_cpuid(0x80000008, 0).eax & 0xff : 36;
    c->rdtscp = (vmx_cpuid(0x80000001, 0).edx & CPUID_EXT1_EDX_RDTSCP) ||
                (max_basic >= 7 && (vmx_cpuid(7, 0).ecx & CPUID_7_ECX_RDPID));
}

static enum hv_err vmx_caps_check(const char **why)
{
    struct vmx_caps *c = &vmx_caps;
    uint64_t basic = vmx_rdmsr(MSR_VMX_BASIC);
    char missing[300];
    *why = why_not;
    if (FIELD_GET(BASIC_MEMORY_TYPE, basic) != MEMORY_TYPE_WB || FIELD_GET(BASIC_REGION_BYTES, basic) > PAGE_SIZE) {
        snprintf(why_not, sizeof(why_not),
                 "this processor's VT-x requires a VMCS that is uncached or larger than a page (IA32_VMX_BASIC 0x%lx), "
                 "which no processor with EPT does",
                 basic);
        return HV_FAIL(HV_E_UNSUPP);
    }
    if (vmx_ctls_choose(c, &c->ctl, missing, sizeof(missing)) || vmx_ept_check(c->ept_vpid, missing, sizeof(missing))) {
        snprintf(why_not, sizeof(why_not),
                 "this processor's VT-x lacks %s: use one with EPT and unrestricted guest (Intel since 2010)", missing);
        return HV_FAIL(HV_E_UNSUPP);
    }
    return HV_OK;
}

static enum hv_err vmx_probe(struct cpu_caps *caps, const char **why)
{
    if (vmx_cpuid(0, 0).eax < 1 || !(vmx_cpuid(1, 0).ecx & CPUID_1_ECX_VMX)) {
        *why = "this processor has no VT-x (CPUID 1 ECX bit 5): use an Intel processor, or in Bochs a model such as "
               "corei7_skylake_x";
        return HV_FAIL(HV_E_UNSUPP);
    }
    uint64_t fc = vmx_rdmsr(MSR_FEATURE_CONTROL);
    if ((fc & FEATURE_CONTROL_LOCK) && !(fc & FEATURE_CONTROL_VMXON)) {
        *why = "VT-x is disabled and locked by the firmware (IA32_FEATURE_CONTROL): enable Intel Virtualization "
               "Technology in the firmware setup";
        return HV_FAIL(HV_E_BUSY);
    }
    vmx_caps_read(&vmx_caps);
    enum hv_err e = vmx_caps_check(why);
    if (e)
        return e;
    const struct vmx_caps *c = &vmx_caps;
    bool ad = c->ept_vpid & EPT_CAP_AD;
    *caps = (struct cpu_caps){
        .next_rip = true, /* the VM-exit instruction length */
        .flush_by_asid = c->ctl.proc2 & PROC2_VPID,
        .n_asids = c->ctl.proc2 & PROC2_VPID ? 0x10000 : 1,
        .tsc_frac_bits = c->proc2.may & PROC2_TSC_SCALING ? 48 : 0,
        .tsc_ratio_max = UINT64_MAX,
        .large_1g = c->ept_vpid & EPT_CAP_1G,
        .s2_ad = ad,
        .pml = ad && (c->proc2.may & PROC2_PML),
    };
    return HV_OK;
}

static bool vmx_msr_bitmap_create(void)
{
    spin_lock(&enable_lock);
    uint8_t *map = vmx_msr_bitmap ? NULL : page_alloc();
    if (map) {
        vmx_msr_bitmap_init(map);
        vmx_msr_bitmap = map;
    }
    bool ok = vmx_msr_bitmap;
    spin_unlock(&enable_lock);
    return ok;
}

/* Each CPU has its own MSR, and some firmware sets it on the boot CPU only. */
static enum hv_err vmx_feature_control(void)
{
    uint64_t fc = vmx_rdmsr(MSR_FEATURE_CONTROL);
    if (!(fc & FEATURE_CONTROL_LOCK)) {
        vmx_wrmsr(MSR_FEATURE_CONTROL, fc | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMXON);
        return HV_OK;
    }
    if (fc & FEATURE_CONTROL_VMXON)
        return HV_OK;
    log_error("vmx",
              "CPU %u: VT-x is disabled and locked by the firmware (IA32_FEATURE_CONTROL 0x%lx) though CPU 0's is not: "
              "update the firmware or enable Intel Virtualization Technology in its setup",
              this_pcpu()->index, fc);
    return HV_FAIL(HV_E_BUSY);
}

/* VMX operation fixes bits of CR0 and CR4: SDM 3C "Restrictions on VMX Operation". */
static void vmx_fixed_bits(void)
{
    const struct vmx_caps *c = &vmx_caps;
    vmx_cr_write(0, (vmx_cr_read(0) | c->cr0_fixed0) & c->cr0_fixed1);
    vmx_cr_write(4, (vmx_cr_read(4) | c->cr4_fixed0 | CR4_VMXE) & c->cr4_fixed1);
}

static enum hv_err vmx_pcpu_enable(void)
{
    struct pcpu *p = this_pcpu();
    if (!vmx_msr_bitmap_create())
        return HV_FAIL(HV_E_NOMEM);
    if (!p->vendor_area && !(p->vendor_area = page_alloc()))
        return HV_FAIL(HV_E_NOMEM);
    enum hv_err e = vmx_feature_control();
    if (e)
        return e;
    ASSERT_EQ(ptr_hpa(p->vendor_area).v & (PAGE_SIZE - 1), 0);
    ASSERT(vmx_caps.ctl.proc2 & PROC2_EPT); /* probed */
    memcpy(p->vendor_area, &vmx_caps.revision, sizeof(vmx_caps.revision));
    vmx_fixed_bits();
    if (!vmx_vmxon(ptr_hpa(p->vendor_area).v)) {
        log_error("vmx", "CPU %u: VMXON failed, though VT-x is enabled: is another hypervisor active on this CPU?",
                  p->index);
        return HV_FAIL(HV_E_IO);
    }
    /* Flush what an earlier VMX operation left in the TLB under our VPIDs and EPT roots.  Without these types, each
     * vCPU's first load flushes. */
    if (vmx_caps.ept_vpid & EPT_CAP_INVEPT_ALL)
        vmx_invept(INVEPT_ALL, 0);
    if ((vmx_caps.ctl.proc2 & PROC2_VPID) && (vmx_caps.ept_vpid & EPT_CAP_INVVPID_ALL))
        vmx_invvpid(INVVPID_ALL, 0);
    return HV_OK;
}

static void vmx_pcpu_disable(void)
{
    ASSERT(vmx_cr_read(4) & CR4_VMXE);
    vmx_vmxoff();
    vmx_cr_write(4, vmx_cr_read(4) & ~CR4_VMXE);
}

const struct cpu_ops vmx_cpu_ops = {
    .name = "VT-x",
    .vendor_name = "Intel",
    .vendor = 2,
    .microcode = BIT64(32),
    .s2_format = &ept_format,
    .probe = vmx_probe,
    .pcpu_enable = vmx_pcpu_enable,
    .pcpu_disable = vmx_pcpu_disable,
    .vcpu_create = vmx_vcpu_create,
    .vcpu_destroy = vmx_vcpu_destroy,
    .vcpu_load = vmx_vcpu_load,
    .vcpu_unload = vmx_vcpu_unload,
    .run = vmx_run,
    .regs_get = vmx_regs_get,
    .regs_set = vmx_regs_set,
    .irq_ready = vmx_irq_ready,
    .irq_window_set = vmx_irq_window_set,
    .nmi_state = vmx_nmi_state,
    .inject = vmx_inject,
    .insn_done = vmx_insn_done,
    .tsc_set = vmx_tsc_set,
    .msr_get = vmx_msr_get,
    .msr_set = vmx_msr_set,
    .paging_get = vmx_paging_get,
    .seg_get = vmx_seg_get,
    .hw_log_set = vmx_pml_set,
    .dump = vmx_dump,
};
