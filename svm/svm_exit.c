/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_exit.c - decoding of #VMEXIT codes into struct vcpu_exit.
 *
 * Instruction lengths: the VMCB has the next RIP on processors with NRIPS, and in EXITINFO2 for port I/O on all.
 * Otherwise the exit code tells the instruction, and insn_len_known() checks its two or three opcode bytes at RIP.
 * That costs far less than decoding. */
#include "svm/svm.h"

#include "kernel/host/x86/regs.h"
#include "kernel/lib/log.h"
#include "kernel/run/insn.h"

static uint8_t svm_len_by_next_rip(const struct svm_vcpu *s, uint64_t next_rip)
{
    uint64_t len = next_rip - s->v.rip;
    return len >= 1 && len <= 15 ? (uint8_t)len : 0;
}

/* op[0..n): the opcode that caused this exit. */
static uint8_t svm_insn_len(struct svm_vcpu *s, const char *op, unsigned n)
{
    if (cpu_caps.next_rip)
        return svm_len_by_next_rip(s, s->vmcb->ctl.next_rip);
    return (uint8_t)insn_len_known(&s->v, (const uint8_t *)op, n);
}

static void svm_exit_io(struct svm_vcpu *s, struct vcpu_exit *x)
{
    uint64_t info = s->vmcb->ctl.exit_info1;
    x->kind = VCPU_EXIT_IO;
    x->io.port = (uint16_t)FIELD_GET(IOIO_PORT, info);
    x->io.size = (uint8_t)FIELD_GET(IOIO_SIZE, info);
    x->io.in = info & IOIO_IN;
    x->io.string = info & IOIO_STR;
    x->io.rep = info & IOIO_REP;
    x->insn_len = svm_len_by_next_rip(s, s->vmcb->ctl.exit_info2);
}

static void svm_exit_npf(struct svm_vcpu *s, struct vcpu_exit *x)
{
    uint64_t info = s->vmcb->ctl.exit_info1;
    x->kind = VCPU_EXIT_S2_FAULT;
    x->s2.gpa = gpa(s->vmcb->ctl.exit_info2);
    x->s2.table_walk = info & NPF_TABLE_WALK;
    x->s2.write = (info & NPF_WRITE) || x->s2.table_walk; /* guest page tables are walked as stores: npt.c */
    x->s2.exec = info & NPF_FETCH;
    x->s2.cut_event = s->vmcb->ctl.exit_int_info & EVENTINJ_VALID;
}

static void svm_exit_hw(struct svm_vcpu *s, struct vcpu_exit *x, enum vcpu_exit_kind kind)
{
    const struct vmcb_ctl *c = &s->vmcb->ctl;
    x->kind = kind;
    x->hw.reason = c->exit_code;
    x->hw.info1 = c->exit_info1;
    x->hw.info2 = c->exit_info2;
}

/* #DB and #AC are intercepted only so that the host can take interrupts (svm_vcpu.c), others for svm_nmi.c: reflect
 * them to the guest.  Real mode has no error codes. */
static void svm_reflect_exception(struct svm_vcpu *s)
{
    struct vmcb *b = s->vmcb;
    uint8_t vector = (uint8_t)(b->ctl.exit_code - SVM_EXIT_EXC(0));
    bool has_error = vector != EXC_DB && (b->save.cr0 & CR0_PE);
    if (vector == EXC_PF)
        vmcb_set_cr2(b, b->ctl.exit_info2);
    svm_inject(&s->v,
               &(struct vcpu_event){ EVENT_EXCEPTION, vector, has_error, has_error ? (uint32_t)b->ctl.exit_info1 : 0 });
}

/* An instruction that always exits; opcode[0..n) gives its length. */
static void svm_exit_insn(struct svm_vcpu *s, struct vcpu_exit *x, enum vcpu_exit_kind kind, const char *opcode,
                          unsigned n)
{
    x->kind = kind;
    x->insn_len = svm_insn_len(s, opcode, n);
}

void svm_exit_decode(struct svm_vcpu *s, struct vcpu_exit *x)
{
    ASSERT(s->loaded);
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
    case SVM_EXIT_IRET:                                svm_iret_intercepted(s); break;
    case SVM_EXIT_EXC(EXC_DB):
    case SVM_EXIT_EXC(EXC_TS)... SVM_EXIT_EXC(EXC_PF):
    case SVM_EXIT_EXC(EXC_AC):                         svm_reflect_exception(s); break;
    case SVM_EXIT_EXC(EXC_MC):                         x->kind = VCPU_EXIT_MACHINE_CHECK; break;
    case SVM_EXIT_CPUID:                               svm_exit_insn(s, x, VCPU_EXIT_CPUID, "\x0f\xa2", 2); break;
    case SVM_EXIT_HLT:                                 svm_exit_insn(s, x, VCPU_EXIT_HLT, "\xf4", 1); break;
    case SVM_EXIT_IOIO:                                svm_exit_io(s, x); break;
    case SVM_EXIT_MSR:
        x->kind = VCPU_EXIT_MSR;
        x->msr.write = s->vmcb->ctl.exit_info1 & 1;
        x->insn_len = svm_insn_len(s, x->msr.write ? "\x0f\x30" : "\x0f\x32", 2);
        break;
    case SVM_EXIT_NPF:     svm_exit_npf(s, x); break;
    case SVM_EXIT_VMMCALL: svm_exit_insn(s, x, VCPU_EXIT_HYPERCALL, "\x0f\x01\xd9", 3); break;
    case SVM_EXIT_XSETBV:  svm_exit_insn(s, x, VCPU_EXIT_XSETBV, "\x0f\x01\xd1", 3); break;
    case SVM_EXIT_INVD:    svm_exit_insn(s, x, VCPU_EXIT_INVD, "\x0f\x08", 2); break;
    case SVM_EXIT_WBINVD:  svm_exit_insn(s, x, VCPU_EXIT_INVD, "\x0f\x09", 2); break;
    case SVM_EXIT_RDPMC: /* no performance counters: every index is out of range */
        svm_inject(&s->v, &(struct vcpu_event){ EVENT_EXCEPTION, 13, true, 0 });
        break;
    case SVM_EXIT_CR0_READ:    svm_cr_read(s, 0); break;
    case SVM_EXIT_CR4_READ:    svm_cr_read(s, 4); break;
    case SVM_EXIT_CR0_WRITE:
    case SVM_EXIT_CR0_SEL:     svm_cr0_write(s); break;
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
    case SVM_EXIT_SHUTDOWN:    svm_exit_hw(s, x, VCPU_EXIT_SHUTDOWN); break;
    case SVM_EXIT_INVALID:     svm_exit_hw(s, x, VCPU_EXIT_ENTRY_FAIL); break;
    default:                   svm_exit_hw(s, x, VCPU_EXIT_UNKNOWN); break;
    }
}
