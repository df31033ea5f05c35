/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/cpu_ops.h - the only door between the core and a vendor.  All members are mandatory.
 *
 * The vendor decodes, the core decides: run() turns one hardware exit into a struct vcpu_exit.  It handles only what
 * the core cannot know: re-delivery of interrupted events, the TPR, flushes that the core requested. */
#ifndef GODWIT_KERNEL_CORE_CPU_OPS_H
#define GODWIT_KERNEL_CORE_CPU_OPS_H

#include "kernel/core/vcpu.h"
#include "kernel/lib/print.h"

struct s2_format;
struct cpu_caps { /* read once by probe(), const afterwards, printed at boot */
    bool next_rip, flush_by_asid, vmcb_clean, large_1g, s2_ad, pml;
    unsigned n_asids;
    /* of a TSC ratio (kernel/core/tsc_scale.h); 0: this processor does not scale a guest's TSC */
    unsigned tsc_frac_bits;
    uint64_t tsc_ratio_max;
};
extern struct cpu_caps cpu_caps;

enum nmi_state {
    NMI_READY,
    NMI_WAITS,   /* for the end of an interrupt shadow, or for another event's delivery */
    NMI_BLOCKED, /* for the IRET of an NMI's handler, which runs or is to be entered */
};

struct cpu_ops {
    const char *name;        /* "AMD-V", "VT-x" */
    const char *vendor_name; /* who makes the processor */
    uint8_t vendor;          /* its number in migration offers, > 0 and stable for ever */
    uint64_t microcode;      /* a guest's IA32_BIOS_SIGN_ID: some level, in the half that this vendor uses */
    const struct s2_format *s2_format;
    /** Is this processor this vendor's, and usable?  Fills *caps.  HV_E_UNSUPP: it is not; HV_E_BUSY: the firmware has
     *  locked the feature off.  *why is then the cause and the fix in one sentence. */
    enum hv_err (*probe)(struct cpu_caps *caps, const char **why);
    /** Turn virtualization on for this pCPU (host save area, VMXON), and off.  Once per pCPU, after probe. */
    enum hv_err (*pcpu_enable)(void);
    void (*pcpu_disable)(void);
    /** Allocate a vCPU in the power-on state (SDM 3A "Processor State After Reset") with v->vm and v->index set; the
     *  caller sets the rest.  NULL: no memory. */
    struct vcpu *(*vcpu_create)(struct vm *vm, unsigned index);
    void (*vcpu_destroy)(struct vcpu *v);
    /** Begin and end a slice of v on this pCPU (VMPTRLD, VMSAVE/VMLOAD of the host, clean bits).  IF=0. */
    void (*vcpu_load)(struct vcpu *v);
    void (*vcpu_unload)(struct vcpu *v);
    /** Enter the guest once and fill *x.  v loaded, IF=0.  A physical interrupt causes VCPU_EXIT_INTR, and its handler
     *  has run when run() returns.  Maintains v->in_guest and v->s2_gen_seen (see s2_flush). */
    void (*run)(struct vcpu *v, struct vcpu_exit *x);
    /** Move all registers at once.  Owner pCPU, or any while v is FROZEN and unloaded. */
    void (*regs_get)(struct vcpu *v, struct vcpu_regs *r);
    void (*regs_set)(struct vcpu *v, const struct vcpu_regs *r);
    /** Can an external interrupt be injected at the next entry: IF=1, no shadow, no other event pending?  Owner, v
     *  loaded. */
    bool (*irq_ready)(struct vcpu *v);
    /** Can an NMI be injected at the next entry?  If not, v exits when it can (on AMD-V, at its next exit after an
     *  interrupt shadow or IRET with NT).  Owner, v loaded. */
    enum nmi_state (*nmi_state)(struct vcpu *v);
    /** want: exit with VCPU_EXIT_IRQ_WINDOW at the first boundary where the guest can take an external interrupt;
     *  !want: withdraw.  Idempotent. */
    void (*irq_window_set)(struct vcpu *v, bool want);
    /** Deliver e at the next entry.  No event may be pending, unless both are exceptions, which combine by SDM 3A
     *  "Conditions for Generating a Double Fault" (kernel/core/event.h). */
    void (*inject)(struct vcpu *v, const struct vcpu_event *e);
    /** An instruction was emulated: end the interrupt shadow, clear RFLAGS.RF, and inject its debug trap, if it has one
     *  (returns whether).  No event may be pending.  v loaded. */
    bool (*insn_done)(struct vcpu *v);
    /** From the next entry on the guest's TSC is (host TSC * ratio >> cpu_caps.tsc_frac_bits) + offset.  Ratio 0: host
     *  TSC + offset, the only choice without tsc_frac_bits.  Owner pCPU, or any while v is FROZEN and unloaded. */
    void (*tsc_set)(struct vcpu *v, uint64_t ratio, int64_t offset);
    /** MSRs that live in vendor structures (EFER, STAR family, FS/GS base, SYSENTER, PAT, DEBUGCTL, ...).  The core has
     *  checked that val is legal.  HV_E_NOENT: not one of these. */
    enum hv_err (*msr_get)(struct vcpu *v, uint32_t msr, uint64_t *val);
    enum hv_err (*msr_set)(struct vcpu *v, uint32_t msr, uint64_t val);
    /** The inputs of address translation in software.  Owner, v loaded. */
    void (*paging_get)(struct vcpu *v, uint64_t *cr0, uint64_t *cr3, uint64_t *cr4, uint64_t *efer, unsigned *cpl);
    struct seg (*seg_get)(struct vcpu *v, enum seg_id id);
    /** Start or stop the hardware's log of dirtied pages (PML), which goes to dirty_mark() at each exit of v.  Takes
     *  effect at v's next entry: call s2_flush() to be certain.  Only with cpu_caps.pml.  Any pCPU; v may be in the
     *  guest.  HV_E_UNSUPP, HV_E_NOMEM: only when on. */
    enum hv_err (*hw_log_set)(struct vcpu *v, bool on);
    /** Print vendor details for `vm inspect`. */
    void (*dump)(struct vcpu *v, struct printer *out);
};
extern const struct cpu_ops *cpu_ops; /* [c] this processor's; NULL: no guest can run here */

/** Set cpu_ops and cpu_caps to the first of list whose probe accepts this processor.  If none does, the log says why no
 *  guests can run.  list: every vendor that this program knows; borrowed for ever.  Boot CPU, once. */
void cpu_ops_choose(const struct cpu_ops *const list[], unsigned n);

/** The vendor with this number, also when it is not this host's; NULL: unknown. */
const struct cpu_ops *cpu_ops_of_vendor(unsigned vendor);

#endif
