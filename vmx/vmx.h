/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx.h - what the files of vmx/ share; outside only vmx_cpu_ops is used (kernel/main.c). */
#ifndef GODWIT_VMX_VMX_H
#define GODWIT_VMX_VMX_H

#include <stdatomic.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/core/s2.h"
#include "kernel/core/vcpu.h"
#include "kernel/host/x86/msr.h"
#include "kernel/host/x86/regs.h"
#include "kernel/lib/why.h"
#include "vmx/vmcs.h"
#include "vmx/vmx_pml.h"

/* IA32_VMX_EPT_VPID_CAP, SDM 3D App. A.10. */
#define EPT_CAP_WALK_4         BIT64(6)
#define EPT_CAP_WB             BIT64(14)
#define EPT_CAP_2M             BIT64(16)
#define EPT_CAP_1G             BIT64(17)
#define EPT_CAP_INVEPT         BIT64(20)
#define EPT_CAP_AD             BIT64(21)
#define EPT_CAP_INVEPT_SINGLE  BIT64(25)
#define EPT_CAP_INVEPT_ALL     BIT64(26)
#define EPT_CAP_INVVPID        BIT64(32)
#define EPT_CAP_INVVPID_SINGLE BIT64(41)
#define EPT_CAP_INVVPID_ALL    BIT64(42)

/* What a control register of the VMCS must and may have set: halves of a capability MSR, SDM 3D App. A. */
struct vmx_ctl_cap {
    uint32_t must, may;
};
struct vmx_ctls {
    uint32_t pin, proc, proc2, exit, entry;
};

/** Capabilities of this kind of processor.  Const after probe. */
struct vmx_caps {
    uint32_t revision;                                /* of VMXON region and VMCS */
    struct vmx_ctl_cap pin, proc, proc2, exit, entry; /* from the TRUE MSRs where there are */
    uint64_t cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
    uint64_t ept_vpid; /* EPT_CAP_* */
    unsigned phys_bits;
    bool rdtscp;            /* there is an IA32_TSC_AUX */
    unsigned preempt_shift; /* the preemption timer counts once per 2^this TSC ticks */
    struct vmx_ctls ctl;    /* what every vCPU starts with */
};
extern struct vmx_caps vmx_caps;

struct vmx_vcpu {
    struct vcpu v;
    void *vmcs;           /* [c] owned page; active on a processor only while loaded */
    uint8_t *virt_apic;   /* [c] owned page: the hardware uses the TPR in it only */
    uint16_t vpid;        /* [c] 0: no VPIDs on this processor */
    uint64_t eptp;        /* [c] */
    bool loaded;          /* [o] between vcpu_load and vcpu_unload */
    bool launched;        /* [o] since it was loaded: VMRESUME, not VMLAUNCH */
    bool features_masked; /* [o] controls follow the guest's CPUID */
    unsigned ran_on;      /* [o] pCPU of the last load; ~0u: none yet */
    bool s2_flush;        /* [o] this pCPU may hold old second-stage translations of ours */
    struct vmx_ctls ctl;  /* [o] as in the VMCS; PROC_IRQ_WINDOW and the like are changed here and written at entry */
    uint32_t proc_written, proc2_written; /* [o] what the VMCS has */
    uint64_t hw_rip, hw_rsp, hw_rflags;   /* [o] what the VMCS has */
    uint32_t blocked, hw_blocked;         /* [o] BLOCKED_*: interruptibility, ours and what the VMCS has */
    struct vcpu_event pending;            /* [o] for the next entry: injected, or cut off by the last exit */
    bool triple_fault;                    /* [o] an injection made one: the next run() reports SHUTDOWN */
    uint64_t tpr_written;                 /* [o] TPR threshold in the VMCS */
    bool pdptes_stale;    /* [o] PAE paging was entered by us: read the four entries from memory before the entry */
    uint32_t exit_reason; /* [o] of the last exit, for dumps */
    uint64_t exit_qual;
    /* [o] while not loaded; else in the processor */
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base, cr2, dr[4], dr6, xss;
    uint64_t *pml;          /* [o] owned page or NULL: vmx_pml.c */
    atomic_bool pml_wanted; /* [a] */
    bool pml_on;            /* [o] */
};
static inline struct vmx_vcpu *to_vmx(struct vcpu *v) { return container_of(v, struct vmx_vcpu, v); }

extern const struct cpu_ops vmx_cpu_ops;
extern const struct s2_format ept_format; /* ept.c */

/* vmx.c */
extern uint8_t *vmx_msr_bitmap; /* owned, shared by all vCPUs, const after the first pcpu_enable */

/* vmx_ctl.c: pure functions */
/** Choose all controls from the capabilities.  HV_E_UNSUPP: a control that we need cannot be set, or one that we cannot
 *  live with cannot be cleared; missing then lists all of them. */
HV_MUST_CHECK enum hv_err vmx_ctls_choose(const struct vmx_caps *caps, struct vmx_ctls *out, char *missing,
                                          size_t missing_len);
struct cpuid_table;
/** Take from *proc2 what enables instructions that guest CPUID table t does not show, and add what makes them exit, out
 *  of may: they are #UD then. */
void vmx_ctls_mask(uint32_t *proc2, uint32_t may, const struct cpuid_table *t);
/** The EPT and VPID features that we need and ept_vpid lacks, listed; "" when none. */
HV_MUST_CHECK enum hv_err vmx_ept_check(uint64_t ept_vpid, char *missing, size_t missing_len);

/* vmx_vcpu.c */
struct vcpu *vmx_vcpu_create(struct vm *vm, unsigned index);
void vmx_vcpu_destroy(struct vcpu *v);
void vmx_vcpu_load(struct vcpu *v);
void vmx_vcpu_unload(struct vcpu *v);
void vmx_regs_get(struct vcpu *v, struct vcpu_regs *r);
void vmx_regs_set(struct vcpu *v, const struct vcpu_regs *r);
void vmx_paging_get(struct vcpu *v, uint64_t *cr0, uint64_t *cr3, uint64_t *cr4, uint64_t *efer, unsigned *cpl);
struct seg vmx_seg_get(struct vcpu *v, enum seg_id id);
void vmx_dump(struct vcpu *v, struct printer *out);
void vmx_tsc_set(struct vcpu *v, uint64_t ratio, int64_t offset);
/** Make s's VMCS current if it is not loaded, and put back what was.  Between the two nothing else may be opened.
 *  VMREAD and VMWRITE reach only the current VMCS, and the core may look at a vCPU that is not loaded. */
void vmx_open(struct vmx_vcpu *s);
void vmx_close(struct vmx_vcpu *s);

/* vmx_run.c, vmx_exit.c */
void vmx_run(struct vcpu *v, struct vcpu_exit *x);
/** What the exit reason and its details mean, in the core's words; carries out what only we can. */
void vmx_exit_decode(struct vmx_vcpu *s, struct vcpu_exit *x);
/** rip += the length that the VMCS says, and the interrupt shadow ends. */
void vmx_skip_insn(struct vmx_vcpu *s);

/* vmx_cr.c; v's VMCS is current */
/** The guest's own view of CR0 and CR4. */
uint64_t vmx_cr0_get(void);
uint64_t vmx_cr4_get(void);
/** Put a value that is known to be legal in place: real register, read shadow, and (CR0, EFER) long
 *  mode.  regs_set, power-on. */
void vmx_cr0_put(uint64_t cr0);
void vmx_cr4_put(uint64_t cr4);
/** The guest wrote EFER (LMA in val is ignored) or CR0.PG changed: LMA, the entry control and EFER follow. */
void vmx_efer_put(struct vmx_vcpu *s, uint64_t efer);
/** The masks of bits that exit when the guest changes them. */
void vmx_cr_masks_init(void);
/** A control-register access exited: carry it out, or inject #GP. */
void vmx_cr_access(struct vmx_vcpu *s);
/** Read the PAE page-directory-pointer entries at CR3 into the VMCS.  false: a reserved bit is set (nothing
 *  written).  SDM 3A 4.4.1. */
HV_MUST_CHECK bool vmx_pdptes_load(struct vmx_vcpu *s);
void vmx_pdptes_clear(void); /* four that are not present */
bool vmx_pae_paging(void);   /* is the guest in PAE (not long-mode) paging? */

/* vmx_msr.c */
/** Fill the 4 KiB MSR bitmap: intercept all but what may pass through. */
void vmx_msr_bitmap_init(uint8_t *map);
enum hv_err vmx_msr_get(struct vcpu *v, uint32_t msr, uint64_t *val);
enum hv_err vmx_msr_set(struct vcpu *v, uint32_t msr, uint64_t val);
/** The MSRs that no VMCS field holds: into the processor, and back. */
void vmx_msrs_load(struct vmx_vcpu *s);
void vmx_msrs_unload(struct vmx_vcpu *s);

/* vmx_irq.c */
bool vmx_irq_ready(struct vcpu *v);
void vmx_irq_window_set(struct vcpu *v, bool want);
bool vmx_nmi_ready(struct vcpu *v);
void vmx_inject(struct vcpu *v, const struct vcpu_event *e);
void vmx_shadow_clear(struct vcpu *v);
/** After an exit: make what the exit cut off pending again, and NMI blocking right. */
void vmx_event_recover(struct vmx_vcpu *s);
/** Before an entry: the pending event and the interruptibility into the VMCS. */
void vmx_event_deliver(struct vmx_vcpu *s);
uint32_t vmx_event_encode(const struct vcpu_event *e);
struct vcpu_event vmx_event_decode(uint32_t info, uint32_t error);

/* vmx_check.c, vmx_check_guest.c */
/** Which rule of SDM 3C "VM Entries" does the current VMCS break?  Writes one sentence (field, value, rule, section) to
 *  why, or returns true when none is. */
bool vmx_vmcs_check(const struct vmx_caps *caps, struct why *why);
/** Its halves: control and host-state fields (VMfail), guest state (exit reason 33). */
bool vmx_check_controls(const struct vmx_caps *caps, struct why *why);
bool vmx_check_guest(const struct vmx_caps *caps, struct why *why);

#endif
