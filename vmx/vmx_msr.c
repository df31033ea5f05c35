/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_msr.c - MSRs: those that the guest accesses without an exit, and those that vmx/ holds.
 *
 * Three places, one table:
 *   VMCS fields     SYSENTER, FS and GS base (switched with the guest), PAT, DEBUGCTL, EFER
 *   the processor   STAR, LSTAR, CSTAR, SFMASK, KERNEL_GS_BASE, XSS: the host does not use them, so they hold the
 *                   guest's values while its vCPU is loaded, and no MSR area is needed
 *   struct vcpu     TSC_AUX, copied to the processor
 * Those of the first two are passed through whose values the processor itself checks and the host does not need.  EFER
 * exits: LMA and the "IA-32e mode guest" control must agree.  PAT and DEBUGCTL exit: the core knows which bits the
 * guest has. */
#include "vmx/vmx.h"

#include <string.h>

static const uint32_t passed_through[] = { MSR_SYSENTER_CS, MSR_SYSENTER_ESP,  MSR_SYSENTER_EIP, MSR_STAR,
                                           MSR_LSTAR,       MSR_CSTAR,         MSR_SFMASK,       MSR_FS_BASE,
                                           MSR_GS_BASE,     MSR_KERNEL_GS_BASE };

/* SDM 3C "MSR-Bitmap Address": one bit per MSR, 1 KiB each for reads of low, reads of high, writes of
 * low, writes of high MSRs. */
static void vmx_msr_pass(uint8_t *map, uint32_t msr)
{
    unsigned at = (msr >= 0xc0000000 ? 0x400 : 0) + (msr & 0x1fff) / 8;
    ASSERT((msr & ~0x1fffu) == 0 || (msr & ~0x1fffu) == 0xc0000000);
    map[at] &= (uint8_t)~(1u << msr % 8);
    map[0x800 + at] &= (uint8_t)~(1u << msr % 8);
}

void vmx_msr_bitmap_init(uint8_t *map)
{
    memset(map, 0xff, PAGE_SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(passed_through); i++)
        vmx_msr_pass(map, passed_through[i]);
}

/* The VMCS field that holds msr whole; 0 (VMCS_VPID, which holds none): none. */
static enum vmcs_field vmx_msr_field(uint32_t msr)
{
    switch (msr) {
    case MSR_SYSENTER_CS:  return VMCS_GUEST_SYSENTER_CS;
    case MSR_SYSENTER_ESP: return VMCS_GUEST_SYSENTER_ESP;
    case MSR_SYSENTER_EIP: return VMCS_GUEST_SYSENTER_EIP;
    case MSR_DEBUGCTL:     return VMCS_GUEST_DEBUGCTL;
    case MSR_PAT:          return VMCS_GUEST_PAT;
    case MSR_FS_BASE:      return VMCS_GUEST_FS_BASE;
    case MSR_GS_BASE:      return VMCS_GUEST_GS_BASE;
    case MSR_EFER:         return VMCS_GUEST_EFER;
    default:               return 0;
    }
}

static const struct {
    uint32_t msr;
    size_t at;
} in_processor[] = {
    { MSR_STAR, offsetof(struct vmx_vcpu, star) },
    { MSR_LSTAR, offsetof(struct vmx_vcpu, lstar) },
    { MSR_CSTAR, offsetof(struct vmx_vcpu, cstar) },
    { MSR_SFMASK, offsetof(struct vmx_vcpu, sfmask) },
    { MSR_KERNEL_GS_BASE, offsetof(struct vmx_vcpu, kernel_gs_base) },
    { MSR_XSS, offsetof(struct vmx_vcpu, xss) }, /* last: not on every processor */
};

static unsigned n_cpu_msrs(void) { return ARRAY_SIZE(in_processor) - (vmx_caps.ctl.proc2 & PROC2_XSAVES ? 0 : 1); }
static uint64_t *cpu_msr_saved(struct vmx_vcpu *s, unsigned i) { return (uint64_t *)((char *)s + in_processor[i].at); }

void vmx_msrs_load(struct vmx_vcpu *s)
{
    ASSERT(s->loaded);
    for (unsigned i = 0; i < n_cpu_msrs(); i++)
        vmx_wrmsr(in_processor[i].msr, *cpu_msr_saved(s, i));
    if (vmx_caps.rdtscp)
        vmx_wrmsr(MSR_TSC_AUX, s->v.tsc_aux);
}

void vmx_msrs_unload(struct vmx_vcpu *s)
{
    ASSERT(s->loaded);
    for (unsigned i = 0; i < n_cpu_msrs(); i++)
        *cpu_msr_saved(s, i) = vmx_rdmsr(in_processor[i].msr);
}

static uint64_t vmx_msr_field_read(enum vmcs_field f)
{
    switch (VMCS_WIDTH(f)) {
    case VMCS_WIDTH_32: return vmcs_read32(f);
    case VMCS_WIDTH_64: return vmcs_read64(f);
    default:            return vmcs_readn(f);
    }
}

static void vmx_msr_field_write(enum vmcs_field f, uint64_t val)
{
    switch (VMCS_WIDTH(f)) {
    case VMCS_WIDTH_32: vmcs_write32(f, (uint32_t)val); break;
    case VMCS_WIDTH_64: vmcs_write64(f, val); break;
    default:            vmcs_writen(f, val); break;
    }
}

enum hv_err vmx_msr_get(struct vcpu *v, uint32_t msr, uint64_t *val)
{
    struct vmx_vcpu *s = to_vmx(v);
    enum vmcs_field f = vmx_msr_field(msr);
    if (f) {
        vmx_vmcs_enter(s);
        *val = vmx_msr_field_read(f);
        vmx_vmcs_exit(s);
        return HV_OK;
    }
    if (msr == MSR_TSC_AUX) {
        *val = v->tsc_aux;
        return HV_OK;
    }
    for (unsigned i = 0; i < n_cpu_msrs(); i++)
        if (in_processor[i].msr == msr) {
            *val = s->loaded ? vmx_rdmsr(msr) : *cpu_msr_saved(s, i);
            return HV_OK;
        }
    return HV_E_NOENT;
}

static void vmx_msr_field_set(struct vmx_vcpu *s, enum vmcs_field f, uint64_t val)
{
    vmx_vmcs_enter(s);
    if (f == VMCS_GUEST_EFER) {
        vmx_efer_put(s, val);
        s->v.tlb_flush = true; /* NXE and the paging mode are in cached translations */
    } else {
        vmx_msr_field_write(f, val);
    }
    vmx_vmcs_exit(s);
}

/* Drop bits that AMD defines and Intel reserves: WRMSR would raise #GP in the host, or the entry would be refused. */
static uint64_t vmx_msr_defined_bits(uint32_t msr, uint64_t val)
{
    switch (msr) {
    case MSR_SFMASK:   return (uint32_t)val;
    case MSR_DEBUGCTL: return val & 3; /* LBR, BTF; guests do not have the features of the others */
    default:           return val;
    }
}

enum hv_err vmx_msr_set(struct vcpu *v, uint32_t msr, uint64_t val)
{
    struct vmx_vcpu *s = to_vmx(v);
    val = vmx_msr_defined_bits(msr, val);
    if (vmx_msr_field(msr)) {
        vmx_msr_field_set(s, vmx_msr_field(msr), val);
        return HV_OK;
    }
    if (msr == MSR_TSC_AUX) {
        v->tsc_aux = val;
        if (s->loaded && vmx_caps.rdtscp)
            vmx_wrmsr(msr, val);
        return HV_OK;
    }
    for (unsigned i = 0; i < n_cpu_msrs(); i++)
        if (in_processor[i].msr == msr) {
            *cpu_msr_saved(s, i) = val;
            if (s->loaded)
                vmx_wrmsr(msr, val);
            return HV_OK;
        }
    return HV_E_NOENT;
}
