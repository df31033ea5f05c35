/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_exit.c - decoding of VM-exit reasons into struct vcpu_exit.
 *
 * Instruction lengths: the VMCS has one for every exit that an instruction causes (SDM 3C "Information for VM Exits Due
 * to Instruction Execution").  It has none for memory accesses (EPT violations): insn_len is 0, and the core decodes.
 * */
#include "vmx/vmx.h"

#include "kernel/core/vm.h"
#include "kernel/lib/log.h"

void vmx_skip_insn(struct vmx_vcpu *s)
{
    s->v.rip += vmcs_read32(VMCS_EXIT_INSN_LEN);
    vmx_insn_done(&s->v);
}

static void vmx_exit_insn(struct vcpu_exit *x, enum vcpu_exit_kind kind)
{
    x->kind = kind;
    x->insn_len = (uint8_t)vmcs_read32(VMCS_EXIT_INSN_LEN);
}

static void vmx_exit_io(struct vmx_vcpu *s, struct vcpu_exit *x)
{
    uint64_t q = s->exit_qual;
    vmx_exit_insn(x, VCPU_EXIT_IO);
    x->io.port = (uint16_t)FIELD_GET(QUAL_IO_PORT, q);
    x->io.size = (uint8_t)((q & QUAL_IO_SIZE) + 1);
    x->io.in = q & QUAL_IO_IN;
    x->io.string = q & QUAL_IO_STRING;
    x->io.rep = q & QUAL_IO_REP;
}

/* Without a linear address it is a load of PDPTEs by MOV to CR3: a page walk as well. */
static void vmx_exit_ept(struct vmx_vcpu *s, struct vcpu_exit *x)
{
    uint64_t q = s->exit_qual;
    x->kind = VCPU_EXIT_S2_FAULT;
    x->s2.gpa = gpa(vmcs_read64(VMCS_GUEST_PHYS_ADDR));
    x->s2.write = q & QUAL_EPT_WRITE;
    x->s2.exec = q & QUAL_EPT_FETCH;
    x->s2.table_walk = !(q & QUAL_EPT_LINEAR) || !(q & QUAL_EPT_FINAL);
    x->s2.cut_event = vmcs_read32(VMCS_IDT_VECTORING_INFO) & INTR_VALID;
}

static void vmx_exit_hw(struct vmx_vcpu *s, struct vcpu_exit *x, enum vcpu_exit_kind kind)
{
    x->kind = kind;
    x->hw.reason = s->exit_reason;
    x->hw.info1 = s->exit_qual;
    x->hw.info2 = 0;
}

/* One of our EPT entries is malformed. */
static void vmx_exit_ept_misconfig(struct vmx_vcpu *s, struct vcpu_exit *x)
{
    unsigned level;
    uint64_t at = vmcs_read64(VMCS_GUEST_PHYS_ADDR);
    vmx_exit_hw(s, x, VCPU_EXIT_UNKNOWN);
    x->hw.info1 = at;
    x->hw.info2 = s2_lookup(&s->v.vm->s2, gpa(at), &level);
    log_error("vmx", "vCPU %u: EPT misconfiguration at guest-physical 0x%lx: level-%u entry 0x%lx", s->v.index, at,
              level, x->hw.info2);
}

/* A task switch through a TSS or task gate always exits, and software has to do all of it. */
static void vmx_exit_task_switch(struct vmx_vcpu *s, struct vcpu_exit *x)
{
    log_error("vmx",
              "vCPU %u: hardware task switch to selector 0x%x; VT-x leaves these to the hypervisor, and Godwit does "
              "not carry them out",
              s->v.index, (unsigned)(s->exit_qual & 0xffff));
    vmx_exit_hw(s, x, VCPU_EXIT_UNKNOWN);
}

/* #DB and #AC exit only so that the host can take interrupts (vmx_vcpu.c): reflect them to the guest. */
static void vmx_exit_exception(struct vmx_vcpu *s, struct vcpu_exit *x)
{
    uint32_t info = vmcs_read32(VMCS_EXIT_INTR_INFO);
    uint8_t vector = (uint8_t)(info & INTR_VECTOR);
    if (FIELD_GET(INTR_TYPE, info) == INTR_TYPE_NMI) /* the host's, taken by now */
        return;
    if (vector == EXC_MC) {
        x->kind = VCPU_EXIT_MACHINE_CHECK;
        return;
    }
    if (FIELD_GET(INTR_TYPE, info) == INTR_TYPE_PRIV_SW_EXC) /* INT1: a trap, pushes the RIP behind itself */
        s->v.rip += vmcs_read32(VMCS_EXIT_INSN_LEN);
    if (vector == EXC_DB)
        vmx_debug_regs_update(s->exit_qual);
    bool has_error = info & INTR_ERROR_VALID;
    vmx_inject(&s->v, &(struct vcpu_event){ EVENT_EXCEPTION, vector, has_error,
                                            has_error ? vmcs_read32(VMCS_EXIT_INTR_ERROR) : 0 });
}

static void vmx_exit_msr(struct vcpu_exit *x, bool write)
{
    vmx_exit_insn(x, VCPU_EXIT_MSR);
    x->msr.write = write;
}

void vmx_exit_decode(struct vmx_vcpu *s, struct vcpu_exit *x)
{
    ASSERT(s->loaded);
    *x = (struct vcpu_exit){ .kind = VCPU_EXIT_INTR };
    switch (s->exit_reason & EXIT_REASON_BASIC) {
    case VMX_EXIT_EXTINT:
    case VMX_EXIT_INIT:
    case VMX_EXIT_PREEMPT: break;
    case VMX_EXIT_PAUSE:   x->kind = VCPU_EXIT_PAUSE; break;
    case VMX_EXIT_TPR: /* the guest lowered its TPR: the core checks for interrupts again, after a trap of that MOV */
        vmx_debug_traps_take(s);
        break;
    case VMX_EXIT_EXCEPTION_NMI: vmx_exit_exception(s, x); break;
    case VMX_EXIT_TRIPLE_FAULT:  vmx_exit_hw(s, x, VCPU_EXIT_SHUTDOWN); break;
    case VMX_EXIT_IRQ_WINDOW:
        vmx_irq_window_set(&s->v, false);
        x->kind = VCPU_EXIT_IRQ_WINDOW;
        break;
    case VMX_EXIT_NMI_WINDOW:  s->ctl.proc &= ~PROC_NMI_WINDOW; break;
    case VMX_EXIT_TASK_SWITCH: vmx_exit_task_switch(s, x); break;
    case VMX_EXIT_CPUID:       vmx_exit_insn(x, VCPU_EXIT_CPUID); break;
    case VMX_EXIT_HLT:         vmx_exit_insn(x, VCPU_EXIT_HLT); break;
    case VMX_EXIT_INVD:
    case VMX_EXIT_WBINVD:      vmx_exit_insn(x, VCPU_EXIT_INVD); break;
    case VMX_EXIT_RDPMC: /* no performance counters: every index is out of range */
        vmx_inject(&s->v, &(struct vcpu_event){ EVENT_EXCEPTION, EXC_GP, true, 0 });
        break;
    case VMX_EXIT_VMCALL:                     vmx_exit_insn(x, VCPU_EXIT_HYPERCALL); break;
    case VMX_EXIT_CR:                         vmx_cr_access(s); break;
    case VMX_EXIT_IO:                         vmx_exit_io(s, x); break;
    case VMX_EXIT_RDMSR:                      vmx_exit_msr(x, false); break;
    case VMX_EXIT_WRMSR:                      vmx_exit_msr(x, true); break;
    case VMX_EXIT_EPT_VIOLATION:              vmx_exit_ept(s, x); break;
    case VMX_EXIT_EPT_MISCONFIG:              vmx_exit_ept_misconfig(s, x); break;
    case VMX_EXIT_XSETBV:                     vmx_exit_insn(x, VCPU_EXIT_XSETBV); break;
    case VMX_EXIT_PML_FULL:                   x->kind = VCPU_EXIT_LOG_FULL; break; /* vmx_run() has drained it */
    case VMX_EXIT_GETSEC:
    case VMX_EXIT_RSM:
    case VMX_EXIT_MWAIT:
    case VMX_EXIT_MONITOR:
    case VMX_EXIT_INVEPT:
    case VMX_EXIT_INVVPID:
    case VMX_EXIT_VMFUNC:
    case VMX_EXIT_ENCLS:
    case VMX_EXIT_RDRAND:
    case VMX_EXIT_RDSEED:
    case VMX_EXIT_VMCLEAR ... VMX_EXIT_VMXON: /* 19 to 27: all VMX instructions */ x->kind = VCPU_EXIT_UD; break;
    default:                                  vmx_exit_hw(s, x, VCPU_EXIT_UNKNOWN); break;
    }
}
