/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/vcpu.h - one virtual CPU: its state in the architecture's words, its exits, and who may touch it when.
 *
 * A vCPU belongs to the pCPU that it is assigned to (v->pcpu).  Others never touch its registers unless it is FROZEN;
 * they set a request bit and vcpu_kick().
 *
 * Field letters: [c] const after create  [o] owner pCPU, or anyone while FROZEN  [a] atomic. */
#ifndef GODWIT_KERNEL_CORE_VCPU_H
#define GODWIT_KERNEL_CORE_VCPU_H

#include <stdatomic.h>
#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct vm;
struct lapic;

#define LAPIC_TIMER_HZ 1000000000u /* of each guest's local APIC timer: its model counts with it, CPUID tells it */

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

/* Everything architectural but the XSAVE area and the local APIC.  ops->regs_get / regs_set move all of it at once. */
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
    struct vcpu_event pending; /* its delivery was cut by an exit, or it was injected and not yet delivered */
};

enum vcpu_exit_kind {
    VCPU_EXIT_INTR,       /* a host interrupt or NMI: nothing to do for the guest */
    VCPU_EXIT_PAUSE,      /* it spins: so many PAUSEs in one run are a lock whose holder may wait for this pCPU */
    VCPU_EXIT_IRQ_WINDOW, /* the guest can take an interrupt now (asked by irq_window_set) */
    VCPU_EXIT_HLT,
    VCPU_EXIT_CPUID,
    VCPU_EXIT_IO,
    VCPU_EXIT_MSR,
    VCPU_EXIT_S2_FAULT,
    VCPU_EXIT_XSETBV,
    VCPU_EXIT_HYPERCALL,
    VCPU_EXIT_INVD,       /* INVD, WBINVD: nothing to do, memory is coherent */
    VCPU_EXIT_UD,         /* an instruction that this guest does not have: inject #UD */
    VCPU_EXIT_LOG_FULL,   /* the hardware's dirty log is full, the vendor has drained it */
    VCPU_EXIT_SHUTDOWN,   /* triple fault */
    VCPU_EXIT_ENTRY_FAIL, /* the processor refused the guest state; hw tells why */
    VCPU_EXIT_UNKNOWN,    /* a reason we never asked for: stop this VM */
    VCPU_EXIT_COUNT
};
extern const char *const vcpu_exit_names[VCPU_EXIT_COUNT];

struct vcpu_exit {
    enum vcpu_exit_kind kind;
    uint8_t insn_len; /* 0: the hardware did not say; vcpu_skip_insn() decodes then */
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
        /* table_walk: met while walking the guest's page tables */
        struct {
            gpa_t gpa;
            bool write, exec, table_walk;
        } s2;
        /* SHUTDOWN, ENTRY_FAIL, UNKNOWN */
        struct {
            uint64_t reason, info1, info2;
        } hw;
    };
};

enum vcpu_state { VCPU_FROZEN, VCPU_RUNNABLE, VCPU_RUNNING }; /* HLT is v->halted, not a state */
enum {
    VCPU_REQ_FREEZE = 1,
    VCPU_REQ_FLUSH = 2,
    VCPU_REQ_NMI = 4,
    VCPU_REQ_INIT = 8,
    VCPU_REQ_SIPI = 16,
    VCPU_REQ_UNHALT = 32 /* its next HLT ends at once, or the one that it is in: kernel/run/exit.c */
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
    bool halted;             /* [o] executed HLT and nothing woke it; kept while FROZEN and across a move */
    bool tlb_flush;          /* [o] flush this vCPU's guest TLB at the next entry */
    void *xsave;             /* owned: XSAVE area, standard format, fpu_save_area_size bytes */
    uint64_t xcr0;           /* [o] the guest's XCR0, current when not loaded */
    uint64_t tsc_aux;
    struct lapic *lapic;                /* owned */
    atomic_ullong s2_gen_seen;          /* [a] second-stage generation flushed for, at the last entry; see s2_flush() */
    atomic_bool in_guest;               /* [a] between the entry's generation check and the exit */
    uint64_t n_exits[VCPU_EXIT_COUNT];  /* [o] read by anyone, torn values do no harm */
    uint64_t exit_tsc[VCPU_EXIT_COUNT]; /* [o] TSC ticks spent handling, by kind */
    uint64_t guest_tsc_ticks;           /* [o] TSC ticks spent in guest mode */
    /* [o] since when it could run and does not: it left the guest, or was woken; 0: it sleeps, or was frozen since */
    uint64_t left_tsc;
    /* [o] TSC ticks since vcpu_watch(): longest from an exit to the next entry; longest in the guest past the timer */
    uint64_t out_max, late_max;
    int64_t turn_left;         /* [o] TSC ticks left of its turn; negative: taken in advance (kernel/run/sched.c) */
    atomic_bool may_hurry;     /* [a] written by the scheduler: its next turn can still pay for an urgent run */
    atomic_bool urgent;        /* [a] an interrupt came while it waited for its pCPU, or woke it */
    unsigned throttle_percent; /* [a-ish] share of each slice to sit out, 0..99 */
};

/* What the core uses (kernel/core/vcpu.c). */
/** What a guest that could run had to wait for: the longest that this host kept it out, and the longest that the
 *  processor stayed in it although a timer was due (on hardware microseconds; an emulator stands still now and then).
 *  Since the last vcpu_watch() with reset.  Any context, roughly. */
struct vcpu_waits {
    uint64_t out_us, late_us;
};
struct vcpu_waits vcpu_watch(struct vm *vm, bool reset);
void vcpu_kick(struct vcpu *v);                  /* leave guest mode or look again at v->halted soon; any context */
void vcpu_request(struct vcpu *v, unsigned req); /* set request bits and kick */
/** An interrupt came for v: if v waits for its pCPU, it runs soon, ahead of its turn.  At most one turn can be taken in
 *  advance, so nothing happens once may_hurry is false.  Does not kick: call vcpu_kick() afterwards.  Any context. */
void vcpu_hurry(struct vcpu *v);
/** Registers after INIT, SDM 3A table "IA-32 and Intel 64 Processor States Following Power-up, Reset, or INIT". */
void vcpu_regs_reset(struct vcpu_regs *r);
void vcpu_inject_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error);
/** Stop the whole VM because of what its guest did; logs why (printf text).  Owner pCPU. */
void vcpu_guest_crash(struct vcpu *v, const char *fmt, ...) HV_PRINTF(2, 3);

#endif
