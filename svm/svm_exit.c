/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_exit.c - what an exit code means, in the core's words.
 *
 * Instruction lengths: the next RIP is given by NRIPS where there is one and by EXITINFO2 for port I/O everywhere.
 * Else, for an instruction that is known by its exit code, insn_len_known() checks the two or three opcode bytes at
 * RIP, which costs far less than decoding. */
#include "svm/svm.h"

#include "kernel/lib/log.h"
#include "kernel/run/insn.h"

static uint8_t len_by_next_rip(const struct svm_vcpu *s, uint64_t next_rip)
{
    uint64_t len = next_rip - s->v.rip;
    return len >= 1 && len <= 15 ? (uint8_t)len : 0;
}

/* op[0..n): the opcode that causes this exit. */
static uint8_t insn_len(struct svm_vcpu *s, const char *op, unsigned n)
{
    if (cpu_caps.next_rip)
        return len_by_next_rip(s, s->vmcb->ctl.next_rip);
    return (uint8_t)insn_len_known(&s->v, (const uint8_t *)op, n);
}

static void exit_io(struct svm_vcpu *s, struct vcpu_exit *x)
{
    uint64_t info = s->vmcb->ctl.exit_info1;
    x->kind = VCPU_EXIT_IO;
    x->io.port = (uint16_t)FIELD_GET(IOIO_PORT, info);
    x->io.size = (uint8_t)FIELD_GET(IOIO_SIZE, info);
    x->io.in = info & IOIO_IN;
    x->io.string = info & IOIO_STR;
    x->io.rep = info & IOIO_REP;
    x->insn_len = len_by_next_rip(s, s->vmcb->ctl.exit_info2);
}

static void exit_npf(struct svm_vcpu *s, struct vcpu_exit *x)
{
    uint64_t info = s->vmcb->ctl.exit_info1;
    x->kind = VCPU_EXIT_S2_FAULT;
    x->s2.gpa = gpa(s->vmcb->ctl.exit_info2);
    x->s2.table_walk = info & NPF_TABLE_WALK;
    x->s2.write = (info & NPF_WRITE) || x->s2.table_walk; /* guest page tables are walked as stores: npt.c */
    x->s2.exec = info & NPF_FETCH;
}

static void exit_hw(struct svm_vcpu *s, struct vcpu_exit *x, enum vcpu_exit_kind kind)
{
    const struct vmcb_ctl *c = &s->vmcb->ctl;
    x->kind = kind;
    x->hw.reason = c->exit_code;
    x->hw.info1 = c->exit_info1;
    x->hw.info2 = c->exit_info2;
}

/* #DB and #AC are intercepted only to let the host's interrupts in between (svm_vcpu.c): the guest gets them. */
static void reflect(struct svm_vcpu *s, uint8_t vector, bool has_error)
{
    svm_inject(&s->v, &(struct vcpu_event){ EVENT_EXCEPTION, vector, has_error,
                                            has_error ? (uint32_t)s->vmcb->ctl.exit_info1 : 0 });
}

/* An instruction that always exits: what that means, and the instruction's length by its opcode of n bytes. */
static void exit_insn(struct svm_vcpu *s, struct vcpu_exit *x, enum vcpu_exit_kind kind, const char *opcode, unsigned n)
{
    x->kind = kind;
    x->insn_len = insn_len(s, opcode, n);
}

void svm_exit_decode(struct svm_vcpu *s, struct vcpu_exit *x)
{
    *x = (struct vcpu_exit){ .kind = VCPU_EXIT_INTR };
    switch (s->vmcb->ctl.exit_code) {
    case SVM_EXIT_INTR:
    case SVM_EXIT_NMI:
    case SVM_EXIT_SMI:
    case SVM_EXIT_INIT:  break;
    case SVM_EXIT_PAUSE: x->kind = VCPU_EXIT_PAUSE; break;
    case SVM_EXIT_VINTR:
        svm_irq_window_set(&s->v, false);
        x->kind = VCPU_EXIT_IRQ_WINDOW;
        break;
    case SVM_EXIT_IRET:    svm_iret_seen(s); break;
    case SVM_EXIT_EXC(1):  reflect(s, 1, false); break;
    case SVM_EXIT_EXC(17): reflect(s, 17, true); break;
    case SVM_EXIT_EXC(18):
        log_error("svm", "machine check while a guest ran");
        exit_hw(s, x, VCPU_EXIT_UNKNOWN);
        break;
    case SVM_EXIT_CPUID: exit_insn(s, x, VCPU_EXIT_CPUID, "\x0f\xa2", 2); break;
    case SVM_EXIT_HLT:   exit_insn(s, x, VCPU_EXIT_HLT, "\xf4", 1); break;
    case SVM_EXIT_IOIO:  exit_io(s, x); break;
    case SVM_EXIT_MSR:
        x->kind = VCPU_EXIT_MSR;
        x->msr.write = s->vmcb->ctl.exit_info1 & 1;
        x->insn_len = insn_len(s, x->msr.write ? "\x0f\x30" : "\x0f\x32", 2);
        break;
    case SVM_EXIT_NPF:     exit_npf(s, x); break;
    case SVM_EXIT_VMMCALL: exit_insn(s, x, VCPU_EXIT_HYPERCALL, "\x0f\x01\xd9", 3); break;
    case SVM_EXIT_XSETBV:  exit_insn(s, x, VCPU_EXIT_XSETBV, "\x0f\x01\xd1", 3); break;
    case SVM_EXIT_INVD:    exit_insn(s, x, VCPU_EXIT_INVD, "\x0f\x08", 2); break;
    case SVM_EXIT_WBINVD:  exit_insn(s, x, VCPU_EXIT_INVD, "\x0f\x09", 2); break;
    case SVM_EXIT_RDPMC: /* no performance counters: every index is out of range */
        svm_inject(&s->v, &(struct vcpu_event){ EVENT_EXCEPTION, 13, true, 0 });
        break;
    case SVM_EXIT_CR4_WRITE:   svm_cr4_write(s); break;
    case SVM_EXIT_RSM:
    case SVM_EXIT_INVLPGA:
    case SVM_EXIT_VMRUN:
    case SVM_EXIT_VMLOAD:
    case SVM_EXIT_VMSAVE:
    case SVM_EXIT_STGI:
    case SVM_EXIT_CLGI:
    case SVM_EXIT_SKINIT:
    case SVM_EXIT_MONITOR:
    case SVM_EXIT_MWAIT:
    case SVM_EXIT_MWAIT_ARMED:
    case SVM_EXIT_RDPRU:
    case SVM_EXIT_RDTSCP:
    case SVM_EXIT_INVPCID:     x->kind = VCPU_EXIT_UD; break;
    case SVM_EXIT_SHUTDOWN:    exit_hw(s, x, VCPU_EXIT_SHUTDOWN); break;
    case SVM_EXIT_INVALID:     exit_hw(s, x, VCPU_EXIT_ENTRY_FAIL); break;
    default:                   exit_hw(s, x, VCPU_EXIT_UNKNOWN); break;
    }
}
