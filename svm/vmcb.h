/* SPDX-License-Identifier: BSD-2-Clause
 * svm/vmcb.h - the virtual machine control block as the processor reads it, and setters that keep its caching rule.
 *
 * The processor may cache parts of a VMCB from one VMRUN to the next.  A set bit in `clean` says that software has not
 * changed that part (APM 2 15.15).  So a field of such a part is written by a setter, which clears the bit.  Fields
 * that are never cached (RIP, RSP, RAX, RFLAGS, EVENTINJ, TLB_CONTROL, the interrupt shadow, STAR family) are written
 * directly. */
#ifndef GODWIT_SVM_VMCB_H
#define GODWIT_SVM_VMCB_H

#include "kernel/lib/types.h"

struct vmcb_ctl {                           /* APM 2 App. B "VMCB Layout", control area */
    uint16_t icept_cr_read, icept_cr_write; /* bit n: CRn */
#define ICEPT_CR0 (1u << 0)
#define ICEPT_CR4 (1u << 4)
    uint16_t icept_dr_read, icept_dr_write;
    uint32_t icept_exc; /* 0x008 bit n: exception vector n */
    uint32_t icept3;    /* 0x00c */
#define ICEPT3_INTR     BIT32(0)
#define ICEPT3_NMI      BIT32(1)
#define ICEPT3_SMI      BIT32(2)
#define ICEPT3_INIT     BIT32(3)
#define ICEPT3_VINTR    BIT32(4) /* exit when a virtual interrupt could be taken */
#define ICEPT3_CR0_SEL  BIT32(5) /* writes of CR0 that change more than TS and MP */
#define ICEPT3_RDPMC    BIT32(15)
#define ICEPT3_CPUID    BIT32(18)
#define ICEPT3_RSM      BIT32(19)
#define ICEPT3_IRET     BIT32(20)
#define ICEPT3_INVD     BIT32(22)
#define ICEPT3_PAUSE    BIT32(23)
#define ICEPT3_HLT      BIT32(24)
#define ICEPT3_INVLPGA  BIT32(26)
#define ICEPT3_IOIO     BIT32(27) /* ports that the IOPM names */
#define ICEPT3_MSR      BIT32(28) /* MSRs that the MSRPM names */
#define ICEPT3_SHUTDOWN BIT32(31)
    uint32_t icept4;                /* 0x010 */
#define ICEPT4_VMRUN       BIT32(0) /* must be set: VMRUN checks it */
#define ICEPT4_VMMCALL     BIT32(1)
#define ICEPT4_VMLOAD      BIT32(2)
#define ICEPT4_VMSAVE      BIT32(3)
#define ICEPT4_STGI        BIT32(4)
#define ICEPT4_CLGI        BIT32(5)
#define ICEPT4_SKINIT      BIT32(6)
#define ICEPT4_RDTSCP      BIT32(7)
#define ICEPT4_WBINVD      BIT32(9)
#define ICEPT4_MONITOR     BIT32(10)
#define ICEPT4_MWAIT       BIT32(11)
#define ICEPT4_MWAIT_ARMED BIT32(12)
#define ICEPT4_XSETBV      BIT32(13)
#define ICEPT4_RDPRU       BIT32(14)
    uint32_t icept5; /* 0x014 */
#define ICEPT5_INVPCID BIT32(2)
    uint8_t rsvd_018[0x3c - 0x18];
    uint16_t pause_threshold, pause_count; /* 0x03c */
    uint64_t iopm_pa, msrpm_pa;            /* 0x040 */
    uint64_t tsc_offset;                   /* 0x050 */
    uint32_t asid;                         /* 0x058 */
    uint8_t tlb_control;                   /* 0x05c */
#define TLB_CONTROL_NONE       0
#define TLB_CONTROL_FLUSH_ALL  1 /* every ASID; always implemented */
#define TLB_CONTROL_FLUSH_ASID 3 /* CPUID FlushByAsid */
    uint8_t rsvd_05d[3];
    uint64_t vintr; /* 0x060 */
#define VINTR_TPR     0xfful
#define VINTR_IRQ     BIT64(8)
#define VINTR_PRIO    0xf0000ul
#define VINTR_IGN_TPR BIT64(20)
#define VINTR_MASKING BIT64(24) /* guest IF masks virtual interrupts only; CR8 is V_TPR */
#define VINTR_AVIC    BIT64(31)
#define VINTR_VECTOR  0xff00000000ul
    uint64_t int_shadow; /* 0x068 */
#define INT_SHADOW BIT64(0)
    uint64_t exit_code;              /* 0x070 SVM_EXIT_* */
    uint64_t exit_info1, exit_info2; /* 0x078 */
    uint64_t exit_int_info;          /* 0x088 as event_inj: event whose delivery the exit cut off */
    uint64_t np_enable;              /* 0x090 */
    uint64_t avic_apic_bar, ghcb_pa; /* 0x098 */
    uint64_t event_inj;              /* 0x0a8 */
#define EVENTINJ_VECTOR    0xfful
#define EVENTINJ_TYPE      0x700ul
#define EVENTINJ_EV        BIT64(11) /* error code valid */
#define EVENTINJ_VALID     BIT64(31)
#define EVENTINJ_ERROR     0xffffffff00000000ul
#define EVENTINJ_TYPE_INTR 0u
#define EVENTINJ_TYPE_NMI  2u
#define EVENTINJ_TYPE_EXC  3u
#define EVENTINJ_TYPE_SOFT 4u
    uint64_t n_cr3;         /* 0x0b0 */
    uint64_t lbr_virt;      /* 0x0b8 */
    uint32_t clean;         /* 0x0c0 set: not changed by software since the last VMRUN */
#define CLEAN_I    BIT32(0) /* intercepts, TSC offset, pause filter */
#define CLEAN_PERM BIT32(1) /* IOPM, MSRPM addresses */
#define CLEAN_ASID BIT32(2)
#define CLEAN_TPR  BIT32(3) /* vintr */
#define CLEAN_NP   BIT32(4) /* nested paging, N_CR3, G_PAT */
#define CLEAN_CRX  BIT32(5) /* CR0, CR3, CR4, EFER */
#define CLEAN_DRX  BIT32(6) /* DR6, DR7 */
#define CLEAN_DT   BIT32(7) /* GDTR, IDTR */
#define CLEAN_SEG  BIT32(8) /* CS, DS, SS, ES, CPL */
#define CLEAN_CR2  BIT32(9)
#define CLEAN_LBR  BIT32(10) /* DBGCTL and branch records */
#define CLEAN_ALL  0x7ffu
    uint32_t rsvd_0c4;
    uint64_t next_rip;                    /* 0x0c8 CPUID NRIPS only */
    uint8_t n_insn_bytes, insn_bytes[15]; /* 0x0d0 */
    uint8_t rsvd_0e0[0x400 - 0xe0];
};
struct vmcb_seg {
    uint16_t sel;
    uint16_t attr; /* descriptor bits 40-47 and 52-55 side by side */
    uint32_t limit;
    uint64_t base;
};
struct vmcb_save { /* same appendix, state save area; offsets from 0x400 */
    struct vmcb_seg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
    uint8_t rsvd_0a0[0xcb - 0xa0];
    uint8_t cpl; /* 0x0cb */
    uint8_t rsvd_0cc[4];
    uint64_t efer; /* 0x0d0 */
    uint8_t rsvd_0d8[0x148 - 0xd8];
    uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip; /* 0x148 */
    uint8_t rsvd_180[0x1d8 - 0x180];
    uint64_t rsp;              /* 0x1d8 */
    uint64_t s_cet, ssp, isst; /* 0x1e0 */
    uint64_t rax;              /* 0x1f8 */
    /* 0x200, moved by VMLOAD/VMSAVE */
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t cr2; /* 0x240 */
    uint8_t rsvd_248[0x268 - 0x248];
    uint64_t g_pat;  /* 0x268 the guest's PAT under nested paging */
    uint64_t dbgctl; /* 0x270 */
    uint64_t br_from, br_to, last_excp_from, last_excp_to;
    uint8_t rsvd_298[0xc00 - 0x298];
};
struct vmcb {
    struct vmcb_ctl ctl;
    struct vmcb_save save;
};

#define VMCB_AT(type, field, off) _Static_assert(offsetof(type, field) == (off), "APM 2 App. B")
VMCB_AT(struct vmcb_ctl, icept_dr_read, 0x004);
VMCB_AT(struct vmcb_ctl, icept_exc, 0x008);
VMCB_AT(struct vmcb_ctl, icept3, 0x00c);
VMCB_AT(struct vmcb_ctl, icept4, 0x010);
VMCB_AT(struct vmcb_ctl, icept5, 0x014);
VMCB_AT(struct vmcb_ctl, pause_threshold, 0x03c);
VMCB_AT(struct vmcb_ctl, iopm_pa, 0x040);
VMCB_AT(struct vmcb_ctl, tsc_offset, 0x050);
VMCB_AT(struct vmcb_ctl, asid, 0x058);
VMCB_AT(struct vmcb_ctl, tlb_control, 0x05c);
VMCB_AT(struct vmcb_ctl, vintr, 0x060);
VMCB_AT(struct vmcb_ctl, int_shadow, 0x068);
VMCB_AT(struct vmcb_ctl, exit_code, 0x070);
VMCB_AT(struct vmcb_ctl, exit_info2, 0x080);
VMCB_AT(struct vmcb_ctl, exit_int_info, 0x088);
VMCB_AT(struct vmcb_ctl, np_enable, 0x090);
VMCB_AT(struct vmcb_ctl, event_inj, 0x0a8);
VMCB_AT(struct vmcb_ctl, n_cr3, 0x0b0);
VMCB_AT(struct vmcb_ctl, clean, 0x0c0);
VMCB_AT(struct vmcb_ctl, next_rip, 0x0c8);
VMCB_AT(struct vmcb_ctl, n_insn_bytes, 0x0d0);
_Static_assert(sizeof(struct vmcb_ctl) == 0x400, "APM 2 App. B");
_Static_assert(sizeof(struct vmcb_seg) == 16, "APM 2 App. B");
VMCB_AT(struct vmcb_save, tr, 0x090);
VMCB_AT(struct vmcb_save, cpl, 0x0cb);
VMCB_AT(struct vmcb_save, efer, 0x0d0);
VMCB_AT(struct vmcb_save, cr4, 0x148);
VMCB_AT(struct vmcb_save, dr7, 0x160);
VMCB_AT(struct vmcb_save, rip, 0x178);
VMCB_AT(struct vmcb_save, rsp, 0x1d8);
VMCB_AT(struct vmcb_save, rax, 0x1f8);
VMCB_AT(struct vmcb_save, star, 0x200);
VMCB_AT(struct vmcb_save, sysenter_eip, 0x238);
VMCB_AT(struct vmcb_save, cr2, 0x240);
VMCB_AT(struct vmcb_save, g_pat, 0x268);
VMCB_AT(struct vmcb_save, dbgctl, 0x270);
_Static_assert(sizeof(struct vmcb) == 0x1000, "APM 2 App. B");

/* Exit codes: APM 2 App. C "SVM Intercept Exit Codes". */
#define SVM_EXIT_CR0_READ    0x00ul
#define SVM_EXIT_CR4_READ    0x04ul
#define SVM_EXIT_CR0_WRITE   0x10ul
#define SVM_EXIT_CR4_WRITE   0x14ul
#define SVM_EXIT_EXC(n)      (0x40ul + (n))
#define SVM_EXIT_INTR        0x60ul
#define SVM_EXIT_NMI         0x61ul
#define SVM_EXIT_SMI         0x62ul
#define SVM_EXIT_INIT        0x63ul
#define SVM_EXIT_VINTR       0x64ul
#define SVM_EXIT_CR0_SEL     0x65ul
#define SVM_EXIT_RDPMC       0x6ful
#define SVM_EXIT_CPUID       0x72ul
#define SVM_EXIT_RSM         0x73ul
#define SVM_EXIT_IRET        0x74ul
#define SVM_EXIT_INVD        0x76ul
#define SVM_EXIT_PAUSE       0x77ul
#define SVM_EXIT_HLT         0x78ul
#define SVM_EXIT_INVLPGA     0x7aul
#define SVM_EXIT_IOIO        0x7bul
#define SVM_EXIT_MSR         0x7cul
#define SVM_EXIT_SHUTDOWN    0x7ful
#define SVM_EXIT_VMRUN       0x80ul
#define SVM_EXIT_VMMCALL     0x81ul
#define SVM_EXIT_VMLOAD      0x82ul
#define SVM_EXIT_VMSAVE      0x83ul
#define SVM_EXIT_STGI        0x84ul
#define SVM_EXIT_CLGI        0x85ul
#define SVM_EXIT_SKINIT      0x86ul
#define SVM_EXIT_RDTSCP      0x87ul
#define SVM_EXIT_WBINVD      0x89ul
#define SVM_EXIT_MONITOR     0x8aul
#define SVM_EXIT_MWAIT       0x8bul
#define SVM_EXIT_MWAIT_ARMED 0x8cul
#define SVM_EXIT_XSETBV      0x8dul
#define SVM_EXIT_RDPRU       0x8eul
#define SVM_EXIT_INVPCID     0xa2ul
#define SVM_EXIT_NPF         0x400ul
#define SVM_EXIT_INVALID     (~0ul)

/* EXITINFO1 of IOIO (APM 2 15.10.2) and NPF (15.25.6). */
#define IOIO_IN        BIT64(0)
#define IOIO_STR       BIT64(2)
#define IOIO_REP       BIT64(3)
#define IOIO_SIZE      (7ul << 4) /* one bit each: 1, 2, 4 bytes; shifted down it is the size */
#define IOIO_PORT      0xffff0000ul
#define NPF_WRITE      BIT64(1)
#define NPF_FETCH      BIT64(4)
#define NPF_TABLE_WALK BIT64(33)

#define EFER_SCE  BIT64(0)
#define EFER_LME  BIT64(8)
#define EFER_LMA  BIT64(10)
#define EFER_NXE  BIT64(11)
#define EFER_SVME BIT64(12)

/* One setter per cached part; `part` is a CLEAN_* mask.  Writing an equal value leaves the part clean. */
#define VMCB_SET(vmcb_, part, area, field, value)         \
    do {                                                  \
        struct vmcb *vmcb_set_ = (vmcb_);                 \
        __typeof__(vmcb_set_->area.field) val_ = (value); \
        if (vmcb_set_->area.field != val_) {              \
            vmcb_set_->area.field = val_;                 \
            vmcb_set_->ctl.clean &= ~(part);              \
        }                                                 \
    } while (0)
static inline void vmcb_set_icept_exc(struct vmcb *b, uint32_t x) { VMCB_SET(b, CLEAN_I, ctl, icept_exc, x); }
static inline void vmcb_set_icept_cr_read(struct vmcb *b, uint16_t x) { VMCB_SET(b, CLEAN_I, ctl, icept_cr_read, x); }
static inline void vmcb_set_icept_cr_write(struct vmcb *b, uint16_t x) { VMCB_SET(b, CLEAN_I, ctl, icept_cr_write, x); }
static inline void vmcb_set_icept3(struct vmcb *b, uint32_t x) { VMCB_SET(b, CLEAN_I, ctl, icept3, x); }
static inline void vmcb_set_icept4(struct vmcb *b, uint32_t x) { VMCB_SET(b, CLEAN_I, ctl, icept4, x); }
static inline void vmcb_set_tsc_offset(struct vmcb *b, uint64_t x) { VMCB_SET(b, CLEAN_I, ctl, tsc_offset, x); }
static inline void vmcb_set_asid(struct vmcb *b, uint32_t x) { VMCB_SET(b, CLEAN_ASID, ctl, asid, x); }
static inline void vmcb_set_vintr(struct vmcb *b, uint64_t x) { VMCB_SET(b, CLEAN_TPR, ctl, vintr, x); }
static inline void vmcb_set_g_pat(struct vmcb *b, uint64_t x) { VMCB_SET(b, CLEAN_NP, save, g_pat, x); }
static inline void vmcb_set_cr0(struct vmcb *b, uint64_t x) { VMCB_SET(b, CLEAN_CRX, save, cr0, x); }
static inline void vmcb_set_cr3(struct vmcb *b, uint64_t x) { VMCB_SET(b, CLEAN_CRX, save, cr3, x); }
static inline void vmcb_set_cr4(struct vmcb *b, uint64_t x) { VMCB_SET(b, CLEAN_CRX, save, cr4, x); }
static inline void vmcb_set_efer(struct vmcb *b, uint64_t x) { VMCB_SET(b, CLEAN_CRX, save, efer, x); }
static inline void vmcb_set_dr6(struct vmcb *b, uint64_t x) { VMCB_SET(b, CLEAN_DRX, save, dr6, x); }
static inline void vmcb_set_dr7(struct vmcb *b, uint64_t x) { VMCB_SET(b, CLEAN_DRX, save, dr7, x); }
static inline void vmcb_set_cr2(struct vmcb *b, uint64_t x) { VMCB_SET(b, CLEAN_CR2, save, cr2, x); }
static inline void vmcb_set_dbgctl(struct vmcb *b, uint64_t x) { VMCB_SET(b, CLEAN_LBR, save, dbgctl, x); }

#endif
