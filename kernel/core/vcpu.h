/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/vcpu.h - one virtual CPU: its architectural state, its exits, and who may touch it when.
 *
 * A vCPU belongs to the pCPU that it is assigned to (v->pcpu).  Other pCPUs touch its registers only while it is
 * FROZEN; otherwise they set a request bit and call vcpu_kick().
 *
 * Field letters: [c] const after create  [o] owner pCPU, or any while FROZEN  [a] atomic. */
#ifndef GODWIT_KERNEL_CORE_VCPU_H
#define GODWIT_KERNEL_CORE_VCPU_H

#include <stdatomic.h>
#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct vm;
struct lapic;

#define LAPIC_TIMER_HZ 1000000000u /* of each guest's local APIC timer, as its CPUID says */

/* General registers in the order of their encoding (SDM 2A / APM 3 "ModRM and SIB"). */
enum gpr {
    GPR_RAX,
    GPR_RCX,
    GPR_RDX,
    GPR_RBX,
    GPR_RSP,
    GPR_RBP,
    GPR_RSI,
    GPR_RDI,
    GPR_R8,
    GPR_R9,
    GPR_R10,
    GPR_R11,
    GPR_R12,
    GPR_R13,
    GPR_R14,
    GPR_R15,
    GPR_COUNT
};
enum seg_id { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

struct seg {
    uint16_t sel;
    /* SDM 3C "Guest Register State" access rights: type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15 */
    uint32_t ar;
#define SEG_AR_UNUSABLE BIT32(16)
    uint32_t limit;
    uint64_t base;
};
struct dtable {
    uint32_t limit;
    uint64_t base;
};

enum event_type { EVENT_NONE, EVENT_EXTINT, EVENT_NMI, EVENT_EXCEPTION, EVENT_SOFT_INT };
struct vcpu_event {
    enum event_type type;
    uint8_t vector;
    bool has_error;
    uint32_t error;
};

/* All architectural state except the XSAVE area and the local APIC; moved at once by ops->regs_get and regs_set. */
struct vcpu_regs {
    uint64_t gpr[GPR_COUNT], rip, rflags;
    struct seg seg[SEG_COUNT];
    struct dtable gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8, xcr0;
    uint64_t dr[4], dr6, dr7;
    uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, pat, tsc_aux,
        debugctl, xss;
    bool irq_shadow;           /* after STI or MOV SS: no interrupt before the next instruction */
    bool nmi_blocked;          /* from NMI delivery to IRET */
    struct vcpu_event pending; /* injected and not yet delivered, or its delivery was interrupted by an exit */
};

enum vcpu_exit_kind {
    VCPU_EXIT_INTR,       /* a host interrupt or NMI: nothing to do for the guest */
    VCPU_EXIT_PAUSE,      /* PAUSE-loop exit: the guest spins on a lock whose holder may wait for this pCPU */
    VCPU_EXIT_IRQ_WINDOW, /* the guest can take an interrupt now (requested by irq_window_set) */
    VCPU_EXIT_HLT,
    VCPU_EXIT_CPUID,
    VCPU_EXIT_IO,
    VCPU_EXIT_MSR,
    VCPU_EXIT_S2_FAULT,
    VCPU_EXIT_XSETBV,
    VCPU_EXIT_HYPERCALL,
    VCPU_EXIT_INVD,          /* INVD, WBINVD: nothing to do, memory is coherent */
    VCPU_EXIT_UD,            /* an instruction that this guest does not have: inject #UD */
    VCPU_EXIT_LOG_FULL,      /* the hardware's dirty log is full, the vendor has drained it */
    VCPU_EXIT_MACHINE_CHECK, /* a hardware error, which the host has not handled yet: kernel/host/machine_check.h */
    VCPU_EXIT_SHUTDOWN,      /* triple fault */
    VCPU_EXIT_ENTRY_FAIL,    /* VM entry failed: the processor refused the guest state; hw says why */
    VCPU_EXIT_UNKNOWN,       /* an exit reason that was never enabled: stop this VM */
    VCPU_EXIT_COUNT
};
extern const char *const vcpu_exit_names[VCPU_EXIT_COUNT];

struct vcpu_exit {
    enum vcpu_exit_kind kind;
    uint8_t insn_len; /* bytes; 0: unknown, and vcpu_skip_insn() decodes */
    union {
        struct {
            uint16_t port;
            uint8_t size;
            bool in, string, rep;
        } io;
        /* ECX, EDX:EAX are in gpr */
        struct {
            bool write;
        } msr;
        /* table_walk: the fault was met while walking the guest's page tables; cut_event: while delivering an event */
        struct {
            gpa_t gpa;
            bool write, exec, table_walk, cut_event;
        } s2;
        /* SHUTDOWN, ENTRY_FAIL, UNKNOWN */
        struct {
            uint64_t reason, info1, info2;
        } hw;
    };
};

/* The last walk of the guest's page tables for an instruction: kernel/core/translate.c. */
struct code_walk {
    uint64_t va, cr3; /* va: of the page's last byte; 0: there was no walk */
    uint64_t n_dropped;
    const volatile uint64_t *entry[4]; /* by level - 1; those below a large page's are copies of its */
    uint64_t seen[4];
    const uint8_t *page;
};

enum vcpu_state { VCPU_FROZEN, VCPU_RUNNABLE, VCPU_RUNNING }; /* HLT is v->halted, not a state */
enum {
    VCPU_REQ_FREEZE = 1,
    VCPU_REQ_FLUSH = 2,
    VCPU_REQ_NMI = 4,
    VCPU_REQ_INIT = 8,
    VCPU_REQ_SIPI = 16,
    VCPU_REQ_UNHALT = 32, /* end the present HLT, or the next one: kernel/run/exit.c */
    VCPU_REQ_NMI_2 = 64,  /* another NMI: vcpu_nmi() */
    VCPU_REQ_NMIS = VCPU_REQ_NMI | VCPU_REQ_NMI_2,
    VCPU_REQ_ALL = 127
};

struct vcpu {
    struct vm *vm;           /* [c] borrowed: the VM outlives its vCPUs */
    unsigned index;          /* [c] also the local APIC id */
    unsigned pcpu;           /* [o] assigned physical CPU */
    atomic_uint state;       /* [a] enum vcpu_state */
    atomic_uint requests;    /* [a] VCPU_REQ_* */
    uint64_t gpr[GPR_COUNT]; /* [o] always current outside guest mode, RSP included */
    uint64_t rip, rflags;    /* [o] likewise */
    uint64_t cr8;            /* [o] task priority; the lapic's TPR >> 4 */
    bool halted;             /* [o] in HLT, not woken yet; kept while FROZEN and across a move */
    bool tlb_flush;          /* [o] flush this vCPU's guest TLB at the next entry */
    void *xsave;             /* owned: XSAVE area, standard format, fpu_save_area_size bytes */
    uint64_t xcr0;           /* [o] the guest's XCR0, current when not loaded */
    uint64_t tsc_aux;
    uint64_t spec_ctrl;                 /* [o] SPEC_CTRL while it runs; 0, as guests cannot write it yet */
    uint64_t tsc_adjust;                /* IA32_TSC_ADJUST; its owner writes it, under dev_lock: kernel/dev/pvclock.c */
    struct lapic *lapic;                /* owned */
    struct code_walk code_walk;         /* [o] */
    atomic_ullong s2_gen_seen;          /* [a] second-stage generation at the last entry; see s2_flush() */
    atomic_bool in_guest;               /* [a] between the entry's generation check and the exit */
    uint64_t n_exits[VCPU_EXIT_COUNT];  /* [o] by kind; other pCPUs read it without synchronization */
    uint64_t exit_tsc[VCPU_EXIT_COUNT]; /* [o] TSC ticks spent handling, by kind */
    uint64_t guest_tsc_ticks;           /* [o] TSC ticks spent in guest mode */
    uint64_t steal_tsc;                 /* [o] TSC ticks that it was ready and did not run; likewise */
    /* [o] TSC when it last left the guest, or was woken, and became ready; 0: it sleeps, or was frozen since */
    uint64_t left_tsc;
    /* [o] the longest since vcpu_latency_max(), in TSC ticks: from exit to next entry; in the guest past a due timer */
    uint64_t out_max, late_max;
    int64_t turn_left;     /* [o] TSC ticks left of its turn; negative: used in advance (kernel/run/sched.c) */
    atomic_bool may_boost; /* [a] set by the scheduler: its next turn can still pay for an urgent run */
    atomic_bool urgent;    /* [a] boosted: an interrupt came while it waited for its pCPU, or woke it */
    unsigned
        throttle_percent; /* share of each window not to run, 0..99; written by the service pCPU, read at any time */
};

/* The longest delays of a VM's vCPUs.  On hardware microseconds; an emulator pauses now and then. */
struct vcpu_latency {
    uint64_t out_us;  /* a ready vCPU was not in the guest */
    uint64_t late_us; /* a vCPU stayed in the guest although a host timer was due */
};
/** The longest delays since the last call with reset.  Any context; approximate while vCPUs run. */
struct vcpu_latency vcpu_latency_max(struct vm *vm, bool reset);
/** Make v leave guest mode, or check v->halted again, soon.  After the data that v is to see.  Sends nothing while
 *  another vCPU runs on its pCPU: v sees the data before its next run, and the other one is not to lose time.  Any
 *  context. */
void vcpu_kick(struct vcpu *v);
/** Set request bits (VCPU_REQ_*, at least one), and kick if one of them is new.  Any context. */
void vcpu_request(struct vcpu *v, unsigned req);
/** Send v an NMI.  Two can be pending, each a bit of VCPU_REQ_NMIS; further ones are lost.  A processor holds one while
 *  the handler of another runs: kernel/run/slice.c drops the second then.  Any context.  SDM 3A "Handling Multiple
 *  NMIs". */
void vcpu_nmi(struct vcpu *v);
/** Kick v for an interrupt that is new to it: if v waits for its pCPU, it also runs soon, ahead of its turn.  At most
 *  one turn can be used in advance: just a kick once may_boost is false.  Any context. */
void vcpu_boost(struct vcpu *v);
/** Registers after INIT, SDM 3A table "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT". */
void vcpu_regs_reset(struct vcpu_regs *r);
/** Inject an exception (vector 0 to 31) at the next entry.  Owner pCPU, v loaded. */
void vcpu_inject_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error);
/** Stop the whole VM because of what its guest did; logs why (printf text).  Owner pCPU. */
void vcpu_guest_crash(struct vcpu *v, const char *fmt, ...) HV_PRINTF(2, 3);

#endif
