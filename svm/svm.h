/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm.h - shared declarations of svm/.  Outside svm/ only svm_cpu_ops is used (kernel/main.c).
 *
 * Field letters: [c] const after create  [o] owner pCPU, or anyone while FROZEN and not loaded. */
#ifndef GODWIT_SVM_SVM_H
#define GODWIT_SVM_SVM_H

#include "kernel/core/cpu_ops.h"
#include "kernel/core/s2.h"
#include "kernel/core/vcpu.h"
#include "kernel/lib/why.h"
#include "svm/vmcb.h"

#define MSR_EFER        0xc0000080u
#define MSR_VM_CR       0xc0010114u
#define VM_CR_SVMDIS    BIT64(4)
#define VM_CR_LOCK      BIT64(3)
#define MSR_VM_HSAVE_PA 0xc0010117u
#define MSR_TSC_AUX     0xc0000103u
#define MSR_TSC_RATIO   0xc0000104u /* for the guest only; bits 39:32 integer, 31:0 fraction.  APM 2 15.30.5 */
#define TSC_RATIO_FRAC  32
#define TSC_RATIO_ONE   BIT64(TSC_RATIO_FRAC)
#define TSC_RATIO_MAX   (BIT64(40) - 1)

#define RFLAGS_IF    BIT64(9)
#define RFLAGS_FIXED BIT64(1) /* always reads as one */

struct svm_vcpu {
    struct vcpu v;
    struct vmcb *vmcb;    /* [c] owned page */
    uint64_t dr[4];       /* [o] guest's DR0-3 while not loaded; VMRUN does not switch them */
    uint64_t tsc_ratio;   /* [o] MSR_TSC_RATIO while loaded; 0: not scaled */
    bool loaded;          /* [o] between vcpu_load and vcpu_unload */
    bool features_masked; /* [o] intercepts already follow the guest's CPUID */
    uint64_t cr0_cd;      /* [o] CD and NW as the guest has set them; the real CR0 has neither, unless cr0_bare */
    bool cr0_bare;        /* [o] no access to CR0 exits until the next load: svm_cr.c */
    bool cr4_mce;         /* [o] the guest's CR4.MCE; the real one is set */
    unsigned ran_on;      /* [o] pCPU of the last load; ~0u: none yet */
    uint32_t asid_gen;    /* [o] ran_on's generation in which the ASID was assigned */
    bool nmi_blocked;     /* [o] from the injection of an NMI to the guest's IRET */
    bool iret_pending;    /* [o] the IRET at iret_rip was intercepted and has not executed yet */
    bool nmi_window;      /* [o] an NMI waits: exit at the next entry as soon as it can be injected */
    bool step;            /* [o] RFLAGS.TF of this entry is ours: svm_nmi.c; false outside svm_run() */
    uint64_t step_dr6;    /* [o] the guest's DR6 at such an entry */
    uint64_t iret_rip;
    bool triple_fault; /* [o] an injection caused one: the next run() reports SHUTDOWN */
};
static inline struct svm_vcpu *to_svm(struct vcpu *v) { return container_of(v, struct svm_vcpu, v); }

/** Processor features that struct cpu_caps does not name.  Const after probe. */
struct svm_features {
    bool pause_filter, rdtscp, sysenter_64;
};
extern struct svm_features svm_features;

extern const struct cpu_ops svm_cpu_ops;
extern const struct s2_format npt_format; /* npt.c */

/* svm_msr.c */
/** Fill the 8 KiB MSR permission map: intercept every MSR except those passed through. */
void svm_msrpm_init(uint8_t *msrpm);
enum hv_err svm_msr_get(struct vcpu *v, uint32_t msr, uint64_t *val);
enum hv_err svm_msr_set(struct vcpu *v, uint32_t msr, uint64_t val);

/* svm.c */
/* owned, shared by all vCPUs, const after the first pcpu_enable() */
struct svm_perm_maps {
    uint8_t *iopm, *msrpm;
};
extern struct svm_perm_maps svm_perm_maps;
/** Physical address of this pCPU's host save VMCB. */
uint64_t svm_host_vmcb_pa(void);

/* svm_vcpu.c */
struct vcpu *svm_vcpu_create(struct vm *vm, unsigned index);
void svm_vcpu_destroy(struct vcpu *v);
void svm_vcpu_load(struct vcpu *v);
void svm_vcpu_unload(struct vcpu *v);
void svm_regs_get(struct vcpu *v, struct vcpu_regs *r);
void svm_regs_set(struct vcpu *v, const struct vcpu_regs *r);
void svm_paging_get(struct vcpu *v, uint64_t *cr0, uint64_t *cr3, uint64_t *cr4, uint64_t *efer, unsigned *cpl);
struct seg svm_seg_get(struct vcpu *v, enum seg_id id);
void svm_dump(struct vcpu *v, struct printer *out);
void svm_tsc_set(struct vcpu *v, uint64_t ratio, int64_t offset);

/* svm_cr.c */
/** The bits of CR4 that this processor has. */
uint64_t svm_cr4_of_host(void);
/** Intercept what this processor has, the guest's CPUID does not show, and SVM can intercept.  vm->cpuid is set. */
void svm_features_mask(struct svm_vcpu *s);
/** CR0 and CR4 as the guest reads them.  Put: set them, with the bits and intercepts that the host needs. */
uint64_t svm_cr0_get(const struct svm_vcpu *s);
uint64_t svm_cr4_get(const struct svm_vcpu *s);
void svm_cr0_put(struct svm_vcpu *s, uint64_t cr0);
void svm_cr4_put(struct svm_vcpu *s, uint64_t cr4);
/** Emulate the intercepted read of CR0 or CR4. */
void svm_cr_read(struct svm_vcpu *s, unsigned cr);
/** Emulate the intercepted write to CR0 or CR4, or inject #GP. */
void svm_cr0_write(struct svm_vcpu *s);
void svm_cr4_write(struct svm_vcpu *s);

/* svm_run.c, svm_exit.c */
void svm_run(struct vcpu *v, struct vcpu_exit *x);
/** Decode the VMCB's exit code and information into *x; handle exits that only svm/ can. */
void svm_exit_decode(struct svm_vcpu *s, struct vcpu_exit *x);

/* svm_irq.c */
bool svm_irq_ready(struct vcpu *v);
void svm_irq_window_set(struct vcpu *v, bool want);
void svm_inject(struct vcpu *v, const struct vcpu_event *e);
bool svm_insn_done(struct vcpu *v);
/** After an exit: make the event whose delivery the exit cut off pending again; see svm_irq.c. */
void svm_event_recover(struct svm_vcpu *s);
bool svm_event_pending(const struct svm_vcpu *s); /* is an event to be delivered at the next entry? */
uint64_t svm_event_encode(const struct vcpu_event *e);
struct vcpu_event svm_event_decode(uint64_t event_inj);

/* svm_nmi.c */
enum nmi_state svm_nmi_state(struct vcpu *v);
void svm_nmi_blocked_set(struct svm_vcpu *s, bool blocked);
/** The guest's IRET was intercepted: it is about to execute with NMIs blocked. */
void svm_iret_intercepted(struct svm_vcpu *s);
/** Before an entry, and right after its exit: exit as soon as an NMI that waits can be injected.  End returns whether
 *  the exit was for that alone, and the guest is not to see it. */
void svm_nmi_window_begin(struct svm_vcpu *s);
bool svm_nmi_window_end(struct svm_vcpu *s);

/* svm_check.c */
/** Check b against VMRUN's rules (APM 2 15.5.1 "Canonicalization and Consistency Checks").  False: *why names the first
 *  broken rule (field, value, rule).  phys_bits: host's physical-address width; cr4_known: CR4's
 *  bits that it has. */
bool svm_vmcb_check(const struct vmcb *b, unsigned phys_bits, unsigned n_asids, uint64_t cr4_known, struct why *why);

#endif
