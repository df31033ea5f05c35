/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/cpu_ops.h - the only door between the core and a vendor.  All members are mandatory.
 *
 * The vendor decodes, the core decides: run() turns one hardware exit into a struct vcpu_exit and acts on nothing but
 * what only it can know (re-delivery of cut events, the TPR, flushes that the core asked for). */
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

struct cpu_ops {
    const char *name;        /* "AMD-V", "VT-x" */
    const char *vendor_name; /* who makes the processor */
    uint8_t vendor;          /* his number in migration offers, > 0: for ever the same */
    uint64_t microcode;      /* what a guest reads in IA32_BIOS_SIGN_ID: some level, in this vendor's half */
    const struct s2_format *s2_format;
    /** Is this processor ours and usable?  Fills *caps.  HV_E_UNSUPP: not this vendor or no such feature; HV_E_BUSY:
     *  locked off by the firmware; *why then says the cause and the fix in one sentence. */
    enum hv_err (*probe)(struct cpu_caps *caps, const char **why);
    /** Turn virtualization on for this pCPU (host save area, VMXON).  Once per pCPU, after probe. */
    enum hv_err (*pcpu_enable)(void);
    void (*pcpu_disable)(void);
    /** Allocate a vCPU in the power-on state (SDM 3A "Processor State After Reset"); v->vm, v->index set, everything
     *  else by the caller.  NULL: no memory. */
    struct vcpu *(*vcpu_create)(struct vm *vm, unsigned index);
    void (*vcpu_destroy)(struct vcpu *v);
    /** This pCPU is about to run v for a while / stops doing so (VMPTRLD, VMSAVE/VMLOAD of the
     *  host, clean bits).  IF=0. */
    void (*vcpu_load)(struct vcpu *v);
    void (*vcpu_unload)(struct vcpu *v);
    /** Enter the guest once and fill *x.  v loaded, IF=0; physical interrupts cause VCPU_EXIT_INTR and have been taken
     *  (handlers ran) when run() returns.  Keeps v->in_guest and v->s2_gen_seen (see s2_flush). */
    void (*run)(struct vcpu *v, struct vcpu_exit *x);
    /** All registers at once.  Owner pCPU with v loaded or not, or anyone while FROZEN and unloaded. */
    void (*regs_get)(struct vcpu *v, struct vcpu_regs *r);
    void (*regs_set)(struct vcpu *v, const struct vcpu_regs *r);
    /** Can an external interrupt be injected at the next entry: IF=1, no shadow, no other event
     *  pending?  Owner, v loaded. */
    bool (*irq_ready)(struct vcpu *v);
    /** want: exit with VCPU_EXIT_IRQ_WINDOW at the first boundary where the guest can take an external interrupt;
     *  !want: withdraw.  Idempotent. */
    void (*irq_window_set)(struct vcpu *v, bool want);
    /** NMI likewise deliverable now (not blocked, nothing pending)? */
    bool (*nmi_ready)(struct vcpu *v);
    /** Deliver e at the next entry; replaces nothing: only when no event is pending.  Exceptions may be called while
     *  one is pending and follow SDM 3A "Conditions for Generating a Double Fault". */
    void (*inject)(struct vcpu *v, const struct vcpu_event *e);
    /** The interrupt shadow ends (an instruction was emulated). */
    void (*shadow_clear)(struct vcpu *v);
    /** From the next entry on the guest's TSC is (host TSC * ratio >> cpu_caps.tsc_frac_bits) + offset, or
     *  host TSC + offset with ratio 0, the only one without cpu_caps.tsc_frac_bits.  Owner pCPU, or anyone
     *  while FROZEN and unloaded. */
    void (*tsc_set)(struct vcpu *v, uint64_t ratio, int64_t offset);
    /** MSRs that live in vendor structures (EFER, STAR family, FS/GS base, SYSENTER, PAT, DEBUGCTL, ...): value known
     *  to be legal is checked by the core.  HV_E_NOENT: not one of these. */
    enum hv_err (*msr_get)(struct vcpu *v, uint32_t msr, uint64_t *val);
    enum hv_err (*msr_set)(struct vcpu *v, uint32_t msr, uint64_t val);
    /** Current privilege level, and what address translation in software needs. */
    void (*paging_get)(struct vcpu *v, uint64_t *cr0, uint64_t *cr3, uint64_t *cr4, uint64_t *efer, unsigned *cpl);
    struct seg (*seg_get)(struct vcpu *v, enum seg_id id);
    /** Let the hardware write down (Intel PML) which pages v dirties, by dirty_mark() at each of its exits, or no more;
     *  from v's next entry on, so an s2_flush() afterwards makes it certain.  Only where cpu_caps.pml.  Any pCPU; v may
     *  be in the guest.  HV_E_UNSUPP, HV_E_NOMEM: only when on. */
    enum hv_err (*hw_log_set)(struct vcpu *v, bool on);
    /** Print vendor details for `vm inspect`. */
    void (*dump)(struct vcpu *v, struct printer *out);
};
extern const struct cpu_ops *cpu_ops; /* [c] this processor's; NULL: no guest can run here */

/** Set cpu_ops and cpu_caps to the first of list whose probe accepts this processor.  Without one the host comes up
 *  all the same, and the log says why it runs no guests.  list: every vendor that this program knows; borrowed for
 *  ever.  Boot CPU, once. */
void cpu_ops_choose(const struct cpu_ops *const list[], unsigned n);

/** The operations with this vendor number, also when they are not this host's; NULL: there are none. */
const struct cpu_ops *cpu_ops_of_vendor(unsigned vendor);

#endif
