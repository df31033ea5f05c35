/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm.c - AMD-V on this machine: detection, enabling per pCPU, and svm_cpu_ops, the table that the core calls.
 *
 * A pCPU keeps the host state that VMRUN does not save in a VMCB of its own (struct pcpu's host_vmcb): VMSAVE fills it
 * once, and svm_entry.S loads it after every #VMEXIT.  The I/O and MSR permission maps are shared by all vCPUs. */
#include "svm/svm.h"

#include <string.h>
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/lock.h"
#include "kernel/lib/log.h"
#include "svm/svm_insn.h"

#define IOPM_BYTES  (3 * PAGE_SIZE) /* one bit per port, and slack for accesses that start at 0xffff; APM 2 15.10.1 */
#define MSRPM_BYTES (2 * PAGE_SIZE) /* APM 2 15.11 */

struct svm_features svm_features;
struct svm_perm_maps svm_perm_maps;
static struct spinlock enable_lock; /* the first pCPU creates the maps */

#define CPUID_EXT1_ECX_SVM     BIT32(2)
#define CPUID_EXT1_EDX_1G      BIT32(26)
#define CPUID_EXT1_EDX_RDTSCP  BIT32(27)
#define CPUID_SVM_NP           BIT32(0)
#define CPUID_SVM_NRIPS        BIT32(3)
#define CPUID_SVM_TSC_RATE     BIT32(4)
#define CPUID_SVM_CLEAN        BIT32(5)
#define CPUID_SVM_FLUSH_ASID   BIT32(6)
#define CPUID_SVM_PAUSE_FILTER BIT32(10)

static bool svm_present(void)
{
    return svm_cpuid(0x80000000).eax >= 0x8000000a && (svm_cpuid(0x80000001).ecx & CPUID_EXT1_ECX_SVM);
}

static enum hv_err svm_probe(struct cpu_caps *caps, const char **why)
{
    if (!svm_present()) {
        *why = "this processor has no AMD-V (CPUID 8000_0001 ECX bit 2): use an AMD processor, or in QEMU -cpu EPYC";
        return HV_FAIL(HV_E_UNSUPP);
    }
    uint64_t vm_cr = svm_rdmsr(MSR_VM_CR);
    if (vm_cr & VM_CR_SVMDIS) {
        *why = vm_cr & VM_CR_LOCK
                   ? "AMD-V is disabled and locked by the firmware (VM_CR.SVMDIS): enable SVM in the firmware setup"
                   : "AMD-V is disabled (VM_CR.SVMDIS): enable SVM in the firmware setup";
        return HV_FAIL(HV_E_BUSY);
    }
    struct svm_cpuid ext = svm_cpuid(0x80000001), svm = svm_cpuid(0x8000000a);
    if (!(svm.edx & CPUID_SVM_NP)) {
        *why = "this processor has AMD-V but no nested paging (CPUID 8000_000A EDX bit 0), which Godwit needs";
        return HV_FAIL(HV_E_UNSUPP);
    }
    *caps = (struct cpu_caps){
        .next_rip = svm.edx & CPUID_SVM_NRIPS,
        .flush_by_asid = svm.edx & CPUID_SVM_FLUSH_ASID,
        .vmcb_clean = svm.edx & CPUID_SVM_CLEAN,
        .tsc_frac_bits = svm.edx & CPUID_SVM_TSC_RATE ? TSC_RATIO_FRAC : 0,
        .tsc_ratio_max = TSC_RATIO_MAX,
        .large_1g = ext.edx & CPUID_EXT1_EDX_1G,
        .s2_ad = true, /* NPT is walked like ordinary page tables: always with A and D bits, APM 2 15.25.5 */
        .n_asids = svm.ebx,
    };
    svm_features = (struct svm_features){ .pause_filter = svm.edx & CPUID_SVM_PAUSE_FILTER,
                                          .rdtscp = ext.edx & CPUID_EXT1_EDX_RDTSCP };
    return HV_OK;
}

static bool svm_perm_maps_create(void)
{
    struct svm_perm_maps *m = &svm_perm_maps;
    spin_lock(&enable_lock);
    if (!m->iopm && (m->iopm = mem_alloc(IOPM_BYTES)))
        memset(m->iopm, 0xff, IOPM_BYTES);
    if (!m->msrpm && (m->msrpm = mem_alloc(MSRPM_BYTES)))
        svm_msrpm_init(m->msrpm);
    bool ok = m->iopm && m->msrpm;
    spin_unlock(&enable_lock);
    return ok;
}

static enum hv_err svm_pcpu_enable(void)
{
    struct pcpu *p = this_pcpu();
    if (!svm_perm_maps_create())
        return HV_FAIL(HV_E_NOMEM);
    if (!p->vendor_area)
        p->vendor_area = page_alloc();
    if (!p->host_vmcb)
        p->host_vmcb = page_alloc();
    if (!p->vendor_area || !p->host_vmcb)
        return HV_FAIL(HV_E_NOMEM);
    ASSERT_EQ(ptr_hpa(p->vendor_area).v & (PAGE_SIZE - 1), 0);
    ASSERT_EQ(ptr_hpa(p->host_vmcb).v & (PAGE_SIZE - 1), 0);
    svm_wrmsr(MSR_EFER, svm_rdmsr(MSR_EFER) | EFER_SVME);
    svm_wrmsr(MSR_VM_HSAVE_PA, ptr_hpa(p->vendor_area).v);
    svm_vmsave(svm_host_vmcb_pa()); /* const from now on: the host never changes these registers after set-up */
    return HV_OK;
}

static void svm_pcpu_disable(void)
{
    svm_wrmsr(MSR_VM_HSAVE_PA, 0);
    svm_wrmsr(MSR_EFER, svm_rdmsr(MSR_EFER) & ~EFER_SVME);
}

uint64_t svm_host_vmcb_pa(void) { return ptr_hpa(this_pcpu()->host_vmcb).v; }

/* AMD-V has no hardware dirty log. */
static enum hv_err svm_hw_log_set(struct vcpu *v, bool on)
{
    (void)v;
    return on ? HV_FAIL(HV_E_UNSUPP) : HV_OK;
}

const struct cpu_ops svm_cpu_ops = {
    .name = "AMD-V",
    .vendor_name = "AMD",
    .vendor = 1,
    .microcode = 0x01000000,
    .s2_format = &npt_format,
    .probe = svm_probe,
    .pcpu_enable = svm_pcpu_enable,
    .pcpu_disable = svm_pcpu_disable,
    .vcpu_create = svm_vcpu_create,
    .vcpu_destroy = svm_vcpu_destroy,
    .vcpu_load = svm_vcpu_load,
    .vcpu_unload = svm_vcpu_unload,
    .run = svm_run,
    .regs_get = svm_regs_get,
    .regs_set = svm_regs_set,
    .irq_ready = svm_irq_ready,
    .irq_window_set = svm_irq_window_set,
    .nmi_state = svm_nmi_state,
    .inject = svm_inject,
    .insn_done = svm_insn_done,
    .tsc_set = svm_tsc_set,
    .msr_get = svm_msr_get,
    .msr_set = svm_msr_set,
    .paging_get = svm_paging_get,
    .seg_get = svm_seg_get,
    .hw_log_set = svm_hw_log_set,
    .dump = svm_dump,
};
