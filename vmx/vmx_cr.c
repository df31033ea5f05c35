/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_cr.c - the guest's CR0 and CR4: read shadow, real register, and the writes that exit.  On SVM the guest owns
 * all bits; svm_cr.c has what remains.
 *
 * The guest/host mask says who owns each bit.  The guest reads and writes its bits in the real register.  Of the host's
 * bits it reads the shadow.  A write that differs from the shadow exits (SDM 3C "Guest/Host Masks and Read Shadows for
 * CR0 and CR4").
 *
 *   host-owned bit              real            reason
 *   CR0.NE, CR4.VMXE            1               VMX operation fixes them; the guest sees its own NE, and VMXE as 0
 *   CR0.CD, CR0.NW              0               memory is write-back by EPT; CD would make all of it uncached
 *   CR0.PG                      as written      long mode and the PDPTEs are switched here
 *   CR4.MCE                     1               otherwise a machine check in the guest would shut the machine down
 *   other CR4 bits that enable  as written      #GP for those that this guest's CPUID does not show
 *   a feature or change paging
 * CR3 is the guest's under EPT.  CR8: the TPR shadow (vmx_run.c). */
#include "vmx/vmx.h"

#include "kernel/core/cpuid.h"
#include "kernel/core/guest_mem.h"
#include "kernel/core/vm.h"

#define CR0_DEFINED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR4_GUESTS  (CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT)
#define CR4_PAGING  (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_LA57)
#define SEG_AR_L    BIT32(13)
#define PDPTE_P     BIT64(0)
#define PDPTE_RSVD  (BIT64(1) | BIT64(2) | 0x1e0ul)

/* Unrestricted guest exempts PE and PG: SDM 3D App. A.7. */
static uint64_t vmx_cr0_must(void) { return vmx_caps.cr0_fixed0 & ~(CR0_PE | CR0_PG); }
static uint64_t vmx_cr0_mask(void)
{
    return CR0_PG | CR0_CD | CR0_NW | CR0_NE | vmx_cr0_must() | (uint32_t)~vmx_caps.cr0_fixed1;
}
static uint64_t vmx_cr4_mask(void) { return ~CR4_GUESTS | vmx_caps.cr4_fixed0 | ~vmx_caps.cr4_fixed1; }

void vmx_cr_masks_init(void)
{
    vmcs_writen(VMCS_CR0_MASK, vmx_cr0_mask());
    vmcs_writen(VMCS_CR4_MASK, vmx_cr4_mask());
}

uint64_t vmx_cr0_get(void)
{
    return (vmcs_readn(VMCS_GUEST_CR0) & ~vmx_cr0_mask()) | (vmcs_readn(VMCS_CR0_SHADOW) & vmx_cr0_mask());
}

uint64_t vmx_cr4_get(void)
{
    return (vmcs_readn(VMCS_GUEST_CR4) & ~vmx_cr4_mask()) | (vmcs_readn(VMCS_CR4_SHADOW) & vmx_cr4_mask());
}

void vmx_cr0_put(uint64_t cr0)
{
    uint64_t real = (cr0 & ~(CR0_CD | CR0_NW)) | CR0_ET | vmx_cr0_must();
    vmcs_writen(VMCS_GUEST_CR0, real & vmx_caps.cr0_fixed1 & CR0_DEFINED);
    vmcs_writen(VMCS_CR0_SHADOW, cr0 | CR0_ET);
}

void vmx_cr4_put(uint64_t cr4)
{
    vmcs_writen(VMCS_GUEST_CR4, (cr4 | vmx_caps.cr4_fixed0 | CR4_MCE) & vmx_caps.cr4_fixed1);
    vmcs_writen(VMCS_CR4_SHADOW, cr4);
}

void vmx_efer_put(struct vmx_vcpu *s, uint64_t efer)
{
    bool lma = (efer & EFER_LME) && (vmx_cr0_get() & CR0_PG);
    vmcs_write64(VMCS_GUEST_EFER, (efer & ~EFER_LMA) | (lma ? EFER_LMA : 0));
    s->ctl.entry = (s->ctl.entry & ~ENTRY_IA32E) | (lma ? ENTRY_IA32E : 0);
    vmcs_write32(VMCS_ENTRY_CTL, s->ctl.entry);
}

bool vmx_pae_paging(void)
{
    return (vmx_cr0_get() & CR0_PG) && (vmx_cr4_get() & CR4_PAE) && !(vmcs_read64(VMCS_GUEST_EFER) & EFER_LMA);
}

static const enum vmcs_field pdpte[4] = { VMCS_GUEST_PDPTE0, VMCS_GUEST_PDPTE1, VMCS_GUEST_PDPTE2, VMCS_GUEST_PDPTE3 };

void vmx_pdptes_clear(void)
{
    for (unsigned i = 0; i < 4; i++)
        vmcs_write64(pdpte[i], 0);
}

bool vmx_pdptes_load(struct vmx_vcpu *s)
{
    uint64_t e[4], rsvd = PDPTE_RSVD | ~(BIT64(vmx_caps.phys_bits) - 1);
    if (guest_read(s->v.vm, gpa(vmcs_readn(VMCS_GUEST_CR3) & 0xffffffe0), e, sizeof(e)))
        return false; /* absent memory reads as ones, which have reserved bits */
    for (unsigned i = 0; i < 4; i++)
        if ((e[i] & PDPTE_P) && (e[i] & rsvd))
            return false;
    for (unsigned i = 0; i < 4; i++)
        vmcs_write64(pdpte[i], e[i]);
    return true;
}

static bool vmx_code_is_64bit(void)
{
    return (vmcs_read64(VMCS_GUEST_EFER) & EFER_LMA) && (vmcs_read32(VMCS_GUEST_AR(SEG_CS)) & SEG_AR_L);
}

/* False: #GP.  SDM 3A "Initializing IA-32e Mode" (9.8.5), SDM 2B "MOV - Move to/from Control Registers". */
static bool vmx_cr0_legal(uint64_t old, uint64_t new)
{
    uint64_t cr4 = vmx_cr4_get(), turned = old ^ new;
    if ((new >> 32) || ((new &CR0_PG) && !(new &CR0_PE)) || ((new &CR0_NW) && !(new &CR0_CD)))
        return false;
    if (!(turned & CR0_PG))
        return true;
    if (!(new &CR0_PG)) /* off */
        return !vmx_code_is_64bit() && !(cr4 & CR4_PCIDE);
    if (!(vmcs_read64(VMCS_GUEST_EFER) & EFER_LME)) /* on, 32-bit or PAE */
        return true;
    bool tss16 = (vmcs_read32(VMCS_GUEST_AR(SEG_TR)) & 0xf) == 3;
    return (cr4 & CR4_PAE) && !(vmcs_read32(VMCS_GUEST_AR(SEG_CS)) & SEG_AR_L) && !tss16;
}

static bool vmx_cr0_write(struct vmx_vcpu *s, uint64_t new)
{
    uint64_t old = vmx_cr0_get(), efer = vmcs_read64(VMCS_GUEST_EFER);
    if (!vmx_cr0_legal(old, new))
        return false;
    new = (new &CR0_DEFINED) | CR0_ET; /* the other low bits are ignored */
    bool pae = (new &CR0_PG) && (vmx_cr4_get() & CR4_PAE) && !(efer & EFER_LME);
    if (pae && ((old ^ new) & (CR0_PG | CR0_CD | CR0_NW)) && !vmx_pdptes_load(s))
        return false;
    vmx_cr0_put(new);
    vmx_efer_put(s, efer);
    if ((old ^ new) & (CR0_PG | CR0_WP))
        s->v.tlb_flush = true;
    return true;
}

static bool vmx_cr4_write(struct vmx_vcpu *s, uint64_t new)
{
    uint64_t old = vmx_cr4_get(), cr0 = vmx_cr0_get(), turned = old ^ new;
    bool long_mode = vmcs_read64(VMCS_GUEST_EFER) & EFER_LMA;
    if (new & ~(cpuid_cr4_allowed(s->v.vm->cpuid) & vmx_caps.cr4_fixed1))
        return false;
    if (long_mode && (!(new &CR4_PAE) || (turned & CR4_LA57)))
        return false;
    if ((turned & new &CR4_PCIDE) && (!long_mode || (vmcs_readn(VMCS_GUEST_CR3) & 0xfff)))
        return false;
    bool pae = (cr0 & CR0_PG) && (new &CR4_PAE) && !long_mode;
    if (pae && (turned & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) && !vmx_pdptes_load(s))
        return false;
    vmx_cr4_put(new);
    if (turned & CR4_PAGING)
        s->v.tlb_flush = true;
    return true;
}

static bool vmx_mov_to_cr(struct vmx_vcpu *s, unsigned cr, uint64_t val)
{
    if (!vmx_code_is_64bit())
        val = (uint32_t)val;
    switch (cr) {
    case 0:  return vmx_cr0_write(s, val);
    case 4:  return vmx_cr4_write(s, val);
    default: return false; /* CR3, CR8 never exit (vmx_ctl.c refuses processors where they must) */
    }
}

/* LMSW writes the low four bits, and cannot clear PE. */
static uint64_t vmx_lmsw_value(uint64_t cr0, uint64_t src)
{
    return (cr0 & ~(CR0_MP | CR0_EM | CR0_TS)) | (src & (CR0_PE | CR0_MP | CR0_EM | CR0_TS));
}

void vmx_cr_access(struct vmx_vcpu *s)
{
    uint64_t q = s->exit_qual;
    ASSERT(s->loaded && s->v.vm->cpuid);
    bool ok = false;
    switch (FIELD_GET(QUAL_CR_TYPE, q)) {
    case CR_MOV_TO:   ok = vmx_mov_to_cr(s, (unsigned)(q & QUAL_CR_NUMBER), s->v.gpr[FIELD_GET(QUAL_CR_GPR, q)]); break;
    case CR_CLTS:     ok = vmx_cr0_write(s, vmx_cr0_get() & ~CR0_TS); break;
    case CR_LMSW:     ok = vmx_cr0_write(s, vmx_lmsw_value(vmx_cr0_get(), FIELD_GET(QUAL_CR_LMSW, q))); break;
    case CR_MOV_FROM: break; /* does not exit */
    }
    if (ok)
        vmx_skip_insn(s);
    else
        vmx_inject(&s->v, &(struct vcpu_event){ EVENT_EXCEPTION, EXC_GP, true, 0 });
}
