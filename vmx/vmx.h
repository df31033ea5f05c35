/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx.h - shared declarations of vmx/.  Outside vmx/ only vmx_cpu_ops is used (kernel/main.c).
 *
 * Field letters: [c] const after create  [o] owner pCPU, or anyone while FROZEN and not loaded  [a] atomic. */
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

/* Bits that a control field must and may have set: halves of a capability MSR, SDM 3D App. A. */
struct vmx_ctl_cap {
    uint32_t must, may;
};
struct vmx_ctls {
    uint32_t pin, proc, proc2, exit, entry;
};

/** Capabilities of this processor.  Const after probe. */
struct vmx_caps {
    uint32_t revision;                                /* of VMXON region and VMCS */
    struct vmx_ctl_cap pin, proc, proc2, exit, entry; /* from the TRUE MSRs where present */
    uint64_t cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
    uint64_t ept_vpid; /* EPT_CAP_* */
    unsigned phys_bits;
    bool rdtscp;            /* IA32_TSC_AUX exists */
    unsigned preempt_shift; /* the preemption timer counts once per 2^this TSC ticks */
    struct vmx_ctls ctl;    /* initial controls of every vCPU */
};
extern struct vmx_caps vmx_caps;

struct vmx_vcpu {
    struct vcpu v;
    void *vmcs;                           /* [c] owned page; active on a processor only while loaded */
    uint8_t *virt_apic;                   /* [c] owned page: the hardware uses only the TPR in it */
    uint16_t vpid;                        /* [c] 0: this processor has no VPIDs */
    uint64_t eptp;                        /* [c] */
    bool loaded;                          /* [o] between vcpu_load and vcpu_unload */
    bool launched;                        /* [o] entered since the load: VMRESUME, not VMLAUNCH */
    bool features_masked;                 /* [o] controls already follow the guest's CPUID */
    unsigned ran_on;                      /* [o] pCPU of the last load; ~0u: none yet */
    bool s2_flush;                        /* [o] this pCPU may cache stale second-stage translations */
    struct vmx_ctls ctl;                  /* [o] wanted controls: changed here, written to the VMCS at the next entry */
    uint32_t proc_written, proc2_written; /* [o] what the VMCS has */
    uint64_t hw_rip, hw_rsp, hw_rflags;   /* [o] what the VMCS has */
    uint32_t blocked, hw_blocked;         /* [o] BLOCKED_*: interruptibility, wanted and in the VMCS */
    struct vcpu_event pending; /* [o] for the next entry: injected, or its delivery was cut by the last exit */
    bool triple_fault;         /* [o] an injection caused one: the next run() reports SHUTDOWN */
    uint64_t tpr_written;      /* [o] TPR threshold in the VMCS */
    bool pdptes_stale;         /* [o] PAE paging was set by regs_set(): read the PDPTEs from memory at the next entry */
    uint32_t exit_reason;      /* [o] of the last exit, for dumps */
    uint64_t exit_qual;
    /* [o] valid while not loaded; otherwise in the processor */
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base, cr2, dr[4], dr6, xss;
    uint64_t *pml;          /* [o] owned page or NULL: vmx_pml.c */
    atomic_bool pml_wanted; /* [a] */
    bool pml_on;            /* [o] */
};
static inline struct vmx_vcpu *to_vmx(struct vcpu *v) { return container_of(v, struct vmx_vcpu, v); }

extern const struct cpu_ops vmx_cpu_ops;
extern const struct s2_format ept_format; /* ept.c */

/* vmx.c */
extern uint8_t *vmx_msr_bitmap; /* owned, shared by all vCPUs, const after the first pcpu_enable() */

/* vmx_ctl.c: no access to the processor */
/** Choose all controls from the capabilities.  HV_E_UNSUPP: a needed control cannot be set, or a refused one cannot be
 *  cleared; missing then lists all of them. */
HV_MUST_CHECK enum hv_err vmx_ctls_choose(const struct vmx_caps *caps, struct vmx_ctls *out, char *missing,
                                          size_t missing_len);
struct cpuid_table;
/** Adapt *proc2 to guest CPUID table t: clear the enables of instructions that t does not show, set those exits of them
 *  that may allows.  The instructions then raise #UD. */
void vmx_ctls_mask(uint32_t *proc2, uint32_t may, const struct cpuid_table *t);
/** HV_E_UNSUPP: ept_vpid (IA32_VMX_EPT_VPID_CAP) lacks needed EPT features; missing lists them. */
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
/** Make s's VMCS current if it is not loaded, and restore the previous one (as Xen's functions of these names).  VMREAD
 *  and VMWRITE reach only the current VMCS, and the core may access a vCPU that is not loaded.  The calls do not nest
 *  for different vCPUs.  Owner pCPU, or any while FROZEN. */
void vmx_vmcs_enter(struct vmx_vcpu *s);
void vmx_vmcs_exit(struct vmx_vcpu *s);

/* vmx_run.c, vmx_exit.c */
void vmx_run(struct vcpu *v, struct vcpu_exit *x);
/** Decode the exit reason and its details into *x; handle exits that only vmx/ can. */
void vmx_exit_decode(struct vmx_vcpu *s, struct vcpu_exit *x);
/** An instruction was emulated in vmx/: advance rip by the VMCS's instruction length, then vmx_insn_done(). */
void vmx_skip_insn(struct vmx_vcpu *s);

/* vmx_cr.c; v's VMCS is current */
/** CR0 and CR4 as the guest reads them. */
uint64_t vmx_cr0_get(void);
uint64_t vmx_cr4_get(void);
/** Write a legal value to the real register and the read shadow.  For vmx_regs_set() and power-on. */
void vmx_cr0_put(uint64_t cr0);
void vmx_cr4_put(uint64_t cr4);
/** Write EFER, with LMA and the "IA-32e mode guest" control as LME and CR0.PG demand (LMA in efer is ignored). */
void vmx_efer_put(struct vmx_vcpu *s, uint64_t efer);
/** Write the guest/host masks of CR0 and CR4. */
void vmx_cr_masks_init(void);
/** Emulate the intercepted control-register access, or inject #GP. */
void vmx_cr_access(struct vmx_vcpu *s);
/** Read the PAE page-directory-pointer entries at CR3 into the VMCS.  False: a reserved bit is set, nothing is written.
 *  SDM 3A "PDPTE Registers" (4.4.1). */
HV_MUST_CHECK bool vmx_pdptes_load(struct vmx_vcpu *s);
void vmx_pdptes_clear(void); /* write four not-present entries */
bool vmx_pae_paging(void);   /* is the guest in PAE (not long-mode) paging? */

/* vmx_msr.c */
/** Fill the 4 KiB MSR bitmap: intercept every MSR except those passed through. */
void vmx_msr_bitmap_init(uint8_t *map);
enum hv_err vmx_msr_get(struct vcpu *v, uint32_t msr, uint64_t *val);
enum hv_err vmx_msr_set(struct vcpu *v, uint32_t msr, uint64_t val);
/** Move the MSRs that no VMCS field holds into the processor, and back. */
void vmx_msrs_load(struct vmx_vcpu *s);
void vmx_msrs_unload(struct vmx_vcpu *s);

/* vmx_irq.c */
bool vmx_irq_ready(struct vcpu *v);
void vmx_irq_window_set(struct vcpu *v, bool want);
enum nmi_state vmx_nmi_state(struct vcpu *v);
void vmx_inject(struct vcpu *v, const struct vcpu_event *e);
bool vmx_insn_done(struct vcpu *v);
/** Inject the debug traps that are pending in the VMCS, and leave none there.  Returns whether there are any. */
bool vmx_debug_traps_take(struct vmx_vcpu *s);
/** Update DR6, DR7 and DEBUGCTL as the delivery of a #DB does.  hits: the new bits of DR6. */
void vmx_debug_regs_update(uint64_t hits);
/** After an exit: make the event whose delivery the exit cut off pending again, and correct NMI blocking. */
void vmx_event_recover(struct vmx_vcpu *s);
/** Before an entry: write the pending event and the interruptibility to the VMCS. */
void vmx_event_deliver(struct vmx_vcpu *s);
uint32_t vmx_event_encode(const struct vcpu_event *e);
struct vcpu_event vmx_event_decode(uint32_t info, uint32_t error);

/* vmx_check.c, vmx_check_guest.c */
/** Check the current VMCS against the rules of SDM 3C "VM Entries".  False: *why names the first broken rule (field,
 *  value, rule, section). */
bool vmx_vmcs_check(const struct vmx_caps *caps, struct why *why);
/** The two halves: control and host-state fields (VMfail), guest state (exit reason 33). */
bool vmx_check_controls(const struct vmx_caps *caps, struct why *why);
bool vmx_check_guest(const struct vmx_caps *caps, struct why *why);

#endif
