/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_vmx.c - the VT-x back end over a scripted VMLAUNCH: loading and saving state, exits, events, control
 * registers, TLB rules, PML.  Every entry passes the checker in tests/fakes/vmcs.c, so a state that a processor would
 * refuse fails here, by name. */
/* unit-sources: vmx/vmx.c vmx/vmx_ctl.c vmx/vmx_vcpu.c kernel/lib/print.c vmx/vmx_run.c vmx/vmx_exit.c vmx/vmx_irq.c
 *   vmx/vmx_msr.c vmx/vmx_cr.c vmx/vmx_pml.c vmx/vmx_check.c vmx/vmx_check_guest.c vmx/ept.c kernel/core/event.c
 *   kernel/core/cpuid.c kernel/core/s2.c kernel/core/guest_mem.c kernel/core/dirty.c tests/fakes/log.c
 *   tests/fakes/page.c tests/fakes/vcpu.c kernel/host/x86/speculation.c tests/fakes/speculation.c
 *   tests/fakes/vmcs.c */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/unit/vmx_fixture.h"

/* ---- state ---- */

static void test_power_on_state_enters(void **state)
{
    struct vcpu_regs r;
    (void)state;
    vmx_cpu_ops.regs_get(v, &r);
    assert_int_equal(r.seg[SEG_CS].sel, 0xf000);
    assert_int_equal(r.seg[SEG_CS].base, 0xffff0000);
    assert_int_equal(r.rip, 0xfff0);
    assert_int_equal(r.cr0, 0x60000010);
    assert_int_equal(r.cr4, 0);
    assert_int_equal(r.efer, 0);
    assert_int_equal(r.gpr[GPR_RDX], 0x00050654);
    assert_int_equal(fake_get(VMCS_GUEST_CR0), CR0_ET | CR0_NE); /* real mode, cached; NE fixed */
    assert_int_equal(fake_get(VMCS_GUEST_CR4), CR4_VMXE | CR4_MCE);
    assert_int_equal(fake_get(VMCS_EPTP), ptr_hpa(vm.s2.root).v | 0x5e);
    assert_int_equal(run(VMX_EXIT_EXTINT, 0), VCPU_EXIT_INTR);
}

static void same(const struct vcpu_regs *a, const struct vcpu_regs *b)
{
    assert_memory_equal(a->gpr, b->gpr, offsetof(struct vcpu_regs, seg));
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        assert_int_equal(a->seg[i].ar, b->seg[i].ar);
        assert_int_equal(a->seg[i].base, b->seg[i].base);
        assert_int_equal(a->seg[i].sel, b->seg[i].sel);
        assert_int_equal(a->seg[i].limit, b->seg[i].limit);
    }
    assert_int_equal(a->gdtr.base, b->gdtr.base);
    assert_int_equal(a->idtr.limit, b->idtr.limit);
    assert_memory_equal(&a->cr0, &b->cr0, offsetof(struct vcpu_regs, irq_shadow) - offsetof(struct vcpu_regs, cr0));
    assert_int_equal(a->irq_shadow, b->irq_shadow);
    assert_int_equal(a->nmi_blocked, b->nmi_blocked);
    assert_int_equal(a->pending.type, b->pending.type);
    assert_int_equal(a->pending.vector, b->pending.vector);
    assert_int_equal(a->pending.error, b->pending.error);
}

static void test_state_round_trip(void **state)
{
    struct vcpu_regs r, back;
    (void)state;
    fill(&r);
    vmx_cpu_ops.regs_set(v, &r); /* loaded */
    vmx_cpu_ops.regs_get(v, &back);
    same(&r, &back);
    assert_int_equal(fake_msr_get(MSR_LSTAR), r.lstar);
    assert_int_equal(fake_cr[2], r.cr2);
    assert_true(fake_get(VMCS_ENTRY_CTL) & ENTRY_IA32E);
    run(VMX_EXIT_EXTINT, 0); /* the processor accepts it */
    vmx_cpu_ops.regs_get(v, &back);
    same(&r, &back);
    vmx_cpu_ops.vcpu_unload(v);
    fake_msr_put(MSR_LSTAR, 1), fake_cr[2] = 2, fake_dr[1] = 3, fake_dr[6] = 4; /* somebody else ran here */
    vmx_cpu_ops.regs_get(v, &back);
    same(&r, &back);
    r.lstar = 0x1234, r.cr3 = 0x7000, r.irq_shadow = r.nmi_blocked = false;
    r.pending = (struct vcpu_event){ .type = EVENT_EXCEPTION, .vector = 14, .has_error = true, .error = 0x12 };
    vmx_cpu_ops.regs_set(v, &r); /* not loaded */
    vmx_cpu_ops.regs_get(v, &back);
    same(&r, &back);
    vmx_cpu_ops.vcpu_load(v);
    vmx_cpu_ops.regs_get(v, &back);
    same(&r, &back);
    assert_int_equal(fake_msr_get(MSR_LSTAR), 0x1234);
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_injected_info, INTR_VALID | INTR_ERROR_VALID | 0x300 | 14);
    assert_int_equal(fake_injected_error, 0x12);
}

static void test_pending_nmi_round_trip(void **state)
{
    struct vcpu_regs r, back;
    (void)state;
    vmx_cpu_ops.inject(v, &(struct vcpu_event){ .type = EVENT_NMI, .vector = 2 });
    vmx_cpu_ops.regs_get(v, &r);
    assert_true(r.nmi_blocked && r.pending.type == EVENT_NMI);
    vmx_cpu_ops.regs_set(v, &r);
    vmx_cpu_ops.regs_get(v, &back);
    same(&r, &back);
    run(VMX_EXIT_EXTINT, 0); /* injected although "blocked" */
    assert_int_equal(fake_injected_info, INTR_VALID | 0x202);
    assert_int_equal(vmx_cpu_ops.nmi_state(v), NMI_BLOCKED);
}

static void test_segments_are_made_fit(void **state)
{
    struct vcpu_regs r;
    (void)state;
    fill(&r);
    r.seg[SEG_DS] = (struct seg){ .ar = 0 }; /* null, as other vendors and loaders write it */
    r.seg[SEG_ES].ar = 0xc092;               /* not accessed */
    r.seg[SEG_TR].ar = 0x89;                 /* available TSS */
    r.seg[SEG_LDTR] = (struct seg){ .ar = 2 };
    vmx_cpu_ops.regs_set(v, &r);
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(vmx_cpu_ops.seg_get(v, SEG_DS).ar & SEG_AR_UNUSABLE, SEG_AR_UNUSABLE);
    assert_int_equal(vmx_cpu_ops.seg_get(v, SEG_TR).ar, 0x8b);
}

static void test_another_vcpu_is_opened_and_closed(void **state)
{
    struct vcpu_regs r, back;
    (void)state;
    struct vcpu *w = vmx_cpu_ops.vcpu_create(&vm, 1); /* v is loaded and stays so */
    fill(&r);
    vmx_cpu_ops.regs_set(w, &r);
    vmx_cpu_ops.tsc_set(w, 0, -5);
    vmx_cpu_ops.regs_get(w, &back);
    same(&r, &back);
    assert_int_equal(vmx_cpu_ops.seg_get(v, SEG_CS).sel, 0xf000);
    assert_int_not_equal(to_vmx(w)->vpid, s->vpid);
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_get(VMCS_TSC_OFFSET), 0);
    vmx_cpu_ops.vcpu_unload(v);
    fake_cpu = 1;
    vmx_cpu_ops.vcpu_load(v); /* a vCPU moves to another pCPU */
    run(VMX_EXIT_EXTINT, 0);
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_get(VMCS_HOST_GS_BASE), (uintptr_t)&fake_pcpus[1]);
    uint16_t vpid = to_vmx(w)->vpid;
    vmx_cpu_ops.vcpu_destroy(w);
    w = vmx_cpu_ops.vcpu_create(&vm, 1);
    assert_int_equal(to_vmx(w)->vpid, vpid); /* VPIDs are given back */
    vmx_cpu_ops.vcpu_destroy(w);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    for (long n = 0; n < 3; n++) {
        fake_page_fail_after = n;
        assert_null(vmx_cpu_ops.vcpu_create(&vm, 1));
    }
    fake_page_fail_after = -1;
    struct vcpu *w = vmx_cpu_ops.vcpu_create(&vm, 1);
    assert_non_null(w);
    vmx_cpu_ops.vcpu_destroy(w);
}

static void guest_changes_all(uint64_t *gpr)
{
    assert_int_equal(gpr[GPR_RAX], 1);
    assert_int_equal(fake_get(VMCS_GUEST_RSP), 2);
    assert_int_equal(fake_get(VMCS_GUEST_RIP), 3);
    assert_int_equal(s->virt_apic[0x80], 0x90);
    assert_int_equal(fake_get(VMCS_TPR_THRESHOLD), 9); /* lowering it exits */
    gpr[GPR_RAX] = 11, gpr[GPR_R15] = 15;
    fake_put(VMCS_GUEST_RSP, 12), fake_put(VMCS_GUEST_RIP, 13), fake_put(VMCS_GUEST_RFLAGS, 0x246);
    s->virt_apic[0x80] = 0x40;
    fake_put(VMCS_EXIT_REASON, VMX_EXIT_TPR);
}
static void test_run_moves_state(void **state)
{
    (void)state;
    v->gpr[GPR_RAX] = 1, v->gpr[GPR_RSP] = 2, v->rip = 3, v->cr8 = 9;
    fake_guest = guest_changes_all;
    vmx_cpu_ops.run(v, &x);
    assert_int_equal(x.kind, VCPU_EXIT_INTR);
    assert_int_equal(v->gpr[GPR_RAX], 11);
    assert_int_equal(v->gpr[GPR_RSP], 12);
    assert_int_equal(v->gpr[GPR_R15], 15);
    assert_int_equal(v->rip, 13);
    assert_int_equal(v->rflags, 0x246);
    assert_int_equal(v->cr8, 4);
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_get(VMCS_TPR_THRESHOLD), 4);
    vmx_cpu_ops.vcpu_unload(v);
    assert_int_equal(fake_gdtr.limit, 39); /* VM exits left FFFFh */
    assert_int_equal(fake_idtr.limit, 4095);
}

/* ---- exits ---- */

static void test_exit_kinds(void **state)
{
    static const struct {
        uint32_t reason;
        enum vcpu_exit_kind kind;
        uint8_t len;
    } t[] = {
        { VMX_EXIT_EXTINT, VCPU_EXIT_INTR, 0 },
        { VMX_EXIT_INIT, VCPU_EXIT_INTR, 0 },
        { VMX_EXIT_PAUSE, VCPU_EXIT_PAUSE, 0 },
        { VMX_EXIT_CPUID, VCPU_EXIT_CPUID, 2 },
        { VMX_EXIT_HLT, VCPU_EXIT_HLT, 1 },
        { VMX_EXIT_RDMSR, VCPU_EXIT_MSR, 2 },
        { VMX_EXIT_WRMSR, VCPU_EXIT_MSR, 3 },
        { VMX_EXIT_VMCALL, VCPU_EXIT_HYPERCALL, 3 },
        { VMX_EXIT_XSETBV, VCPU_EXIT_XSETBV, 3 },
        { VMX_EXIT_INVD, VCPU_EXIT_INVD, 2 },
        { VMX_EXIT_WBINVD, VCPU_EXIT_INVD, 2 },
        { VMX_EXIT_PML_FULL, VCPU_EXIT_LOG_FULL, 0 },
        { VMX_EXIT_ENTRY_MC | EXIT_REASON_ENTRY_FAILED, VCPU_EXIT_MACHINE_CHECK, 0 },
        { VMX_EXIT_GETSEC, VCPU_EXIT_UD, 0 },
        { VMX_EXIT_RSM, VCPU_EXIT_UD, 0 },
        { VMX_EXIT_MWAIT, VCPU_EXIT_UD, 0 },
        { VMX_EXIT_MONITOR, VCPU_EXIT_UD, 0 },
        { VMX_EXIT_INVEPT, VCPU_EXIT_UD, 0 },
        { VMX_EXIT_INVVPID, VCPU_EXIT_UD, 0 },
        { VMX_EXIT_VMFUNC, VCPU_EXIT_UD, 0 },
        { 19, VCPU_EXIT_UD, 0 },
        { 23, VCPU_EXIT_UD, 0 },
        { 27, VCPU_EXIT_UD, 0 },
        { VMX_EXIT_TRIPLE_FAULT, VCPU_EXIT_SHUTDOWN, 0 },
        { VMX_EXIT_TASK_SWITCH, VCPU_EXIT_UNKNOWN, 0 },
        { VMX_EXIT_EPT_MISCONFIG, VCPU_EXIT_UNKNOWN, 0 },
        { VMX_EXIT_MTF, VCPU_EXIT_UNKNOWN, 0 },
        { 200, VCPU_EXIT_UNKNOWN, 0 },
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
        insn_len = t[i].len;
        if (run(t[i].reason, 0) != t[i].kind || x.insn_len != t[i].len)
            fail_msg("reason %u: kind %d, length %u", t[i].reason, x.kind, x.insn_len);
        assert_int_equal(x.kind == VCPU_EXIT_MSR && x.msr.write, t[i].reason == VMX_EXIT_WRMSR);
    }
    insn_len = 0;
    assert_int_equal(fake_n_take_irq, 1); /* exit 1 only */
}

static void test_exit_details(void **state)
{
    (void)state;
    insn_len = 2;
    assert_int_equal(run(VMX_EXIT_IO, 0x3f8u << 16 | QUAL_IO_IN | QUAL_IO_STRING | QUAL_IO_REP), VCPU_EXIT_IO);
    assert_true(x.io.port == 0x3f8 && x.io.size == 1 && x.io.in && x.io.string && x.io.rep && x.insn_len == 2);
    assert_int_equal(run(VMX_EXIT_IO, 0xcf8u << 16 | 3), VCPU_EXIT_IO);
    assert_true(x.io.port == 0xcf8 && x.io.size == 4 && !x.io.in && !x.io.string && !x.io.rep);
    insn_len = 0;
    exit_gpa = 0xfee000b0;
    assert_int_equal(run(VMX_EXIT_EPT_VIOLATION, QUAL_EPT_WRITE | QUAL_EPT_LINEAR | QUAL_EPT_FINAL),
                     VCPU_EXIT_S2_FAULT);
    assert_true(x.s2.gpa.v == 0xfee000b0 && x.s2.write && !x.s2.exec && !x.s2.table_walk);
    run(VMX_EXIT_EPT_VIOLATION, QUAL_EPT_READ | QUAL_EPT_WRITE | QUAL_EPT_LINEAR);
    assert_true(x.s2.write && x.s2.table_walk);
    run(VMX_EXIT_EPT_VIOLATION, QUAL_EPT_FETCH | QUAL_EPT_LINEAR | QUAL_EPT_FINAL);
    assert_true(!x.s2.write && x.s2.exec && !x.s2.table_walk);
    run(VMX_EXIT_EPT_VIOLATION, QUAL_EPT_READ); /* PAE entries at MOV to CR3 */
    assert_true(x.s2.table_walk);
    run(VMX_EXIT_EPT_MISCONFIG, 0);
    assert_int_equal(x.hw.info1, 0xfee000b0);
}

static void test_host_nmi_and_reflected_exceptions(void **state)
{
    (void)state;
    exit_intr_info = INTR_VALID | 0x202;
    assert_int_equal(run(VMX_EXIT_EXCEPTION_NMI, 0), VCPU_EXIT_INTR);
    assert_int_equal(fake_n_take_nmi, 1);
    assert_int_equal(s->pending.type, EVENT_NONE);
    fake_dr[6] = 0xffff0ff2;
    exit_intr_info = INTR_VALID | 0x301; /* #DB: single step */
    assert_int_equal(run(VMX_EXIT_EXCEPTION_NMI, BIT64(14)), VCPU_EXIT_INTR);
    assert_int_equal(fake_dr[6], 0xffff4ff0);
    assert_true(s->pending.type == EVENT_EXCEPTION && s->pending.vector == 1);
    exit_intr_info = INTR_VALID | 0x501, insn_len = 1; /* INT1 */
    uint64_t rip = v->rip;
    run(VMX_EXIT_EXCEPTION_NMI, 0);
    assert_int_equal(v->rip, rip + 1);
    exit_intr_info = INTR_VALID | INTR_ERROR_VALID | 0x311, insn_len = 0;
    run(VMX_EXIT_EXCEPTION_NMI, 0);
    assert_true(s->pending.vector == 17 && s->pending.has_error);
    exit_intr_info = INTR_VALID | 0x312;
    assert_int_equal(run(VMX_EXIT_EXCEPTION_NMI, 0), VCPU_EXIT_MACHINE_CHECK);
    exit_intr_info = 0;
    run(VMX_EXIT_RDPMC, 0);
    assert_true(s->pending.vector == 13 && s->pending.has_error);
}

static void test_entry_failures_are_explained(void **state)
{
    (void)state;
    fake_put(VMCS_GUEST_RFLAGS, 0); /* behind the back of run(), which believes it is right */
    vmx_cpu_ops.run(v, &x);
    assert_int_equal(x.kind, VCPU_EXIT_ENTRY_FAIL);
    assert_int_equal(x.hw.reason, EXIT_REASON_ENTRY_FAILED | VMX_EXIT_BAD_GUEST_STATE);
    assert_int_equal(v->rip, 0xfff0);
    fake_put(VMCS_GUEST_RFLAGS, 2);
    fake_put(VMCS_HOST_CS_SEL, 3);
    vmx_cpu_ops.run(v, &x);
    assert_int_equal(x.kind, VCPU_EXIT_ENTRY_FAIL);
    assert_int_equal(x.hw.reason, 7);
    assert_non_null(strstr(fake_check_why, "VMCS_HOST_CS_SEL"));
    fake_put(VMCS_HOST_CS_SEL, 8);
    assert_int_equal(run(VMX_EXIT_EXTINT, 0), VCPU_EXIT_INTR); /* VMLAUNCH again: it never was launched */
}

/* ---- events ---- */

/* A fault pushes RFLAGS.RF, so that its return does not meet an instruction breakpoint again; an emulated instruction
 * clears it. */
static void test_resume_flag(void **state)
{
    static const struct {
        unsigned vector;
        bool fault;
    } rows[] = { { 0, true }, { 1, false }, { 3, false }, { 4, false },
                 { 6, true }, { 8, false }, { 13, true }, { 14, true } };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        v->rflags = 2;
        vmx_cpu_ops.inject(v, &(struct vcpu_event){ EVENT_EXCEPTION, (uint8_t)rows[i].vector, false, 0 });
        assert_int_equal(v->rflags, rows[i].fault ? 2 | BIT64(16) : 2);
        run(VMX_EXIT_EXTINT, 0);
    }
    vmx_cpu_ops.inject(v, &(struct vcpu_event){ .type = EVENT_EXTINT, .vector = 0x40 });
    assert_int_equal(v->rflags & BIT64(16), rows[ARRAY_SIZE(rows) - 1].fault ? BIT64(16) : 0);
    vmx_cpu_ops.insn_done(v);
    assert_int_equal(v->rflags, 2);
}

static void test_cut_events_are_delivered_again(void **state)
{
    (void)state;
    protected_mode();
    vmx_cpu_ops.inject(v, &(struct vcpu_event){ .type = EVENT_EXTINT, .vector = 0x40 });
    assert_false(vmx_cpu_ops.irq_ready(v));
    idt_info = INTR_VALID | 0x40;
    run(VMX_EXIT_EPT_VIOLATION, 0);
    assert_true(x.s2.cut_event);
    assert_int_equal(fake_injected_info, INTR_VALID | 0x40);
    idt_info = 0;
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_injected_info, INTR_VALID | 0x40); /* row A */
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_injected_info, 0);
    idt_info = INTR_VALID | INTR_ERROR_VALID | 0x30e, idt_error = 7;
    run(VMX_EXIT_EPT_VIOLATION, 0);
    idt_info = 0;
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_injected_info, INTR_VALID | INTR_ERROR_VALID | 0x30e);
    assert_int_equal(fake_injected_error, 7);
    static const uint32_t by_insn[] = { 0x480, 0x603, 0x604, 0x501 }; /* row B: INT 80h, INT3, INTO, INT1 */
    for (unsigned i = 0; i < 4; i++) {
        idt_info = INTR_VALID | by_insn[i];
        run(VMX_EXIT_EPT_VIOLATION, 0);
        assert_int_equal(s->pending.type, EVENT_NONE);
    }
    idt_info = 0;
}

static void test_no_error_code_in_real_mode(void **state)
{
    (void)state;
    vmx_cpu_ops.inject(v, &(struct vcpu_event){ EVENT_EXCEPTION, 13, true, 0 });
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_injected_info, INTR_VALID | 0x30d);
    protected_mode();
    vmx_cpu_ops.inject(v, &(struct vcpu_event){ EVENT_EXCEPTION, 6, true, 5 }); /* #UD has none, whatever is asked */
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_injected_info, INTR_VALID | 0x306);
}

static void exception(uint8_t vector)
{
    vmx_cpu_ops.inject(v, &(struct vcpu_event){ EVENT_EXCEPTION, vector, vector >= 8 && vector != 16, 0 });
}

static void test_double_and_triple_faults(void **state)
{
    static const struct {
        uint8_t first, second, result;
    } t[] = { { 13, 13, 8 }, { 14, 13, 8 }, { 14, 14, 8 }, { 13, 14, 14 }, { 1, 13, 13 },
              { 6, 14, 14 }, { 0, 11, 8 },  { 14, 6, 6 },  { 17, 13, 13 }, { 8, 6, 6 } };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
        s->pending.type = EVENT_NONE;
        exception(t[i].first), exception(t[i].second);
        assert_int_equal(s->pending.vector, t[i].result);
    }
    s->pending.type = EVENT_NONE;
    unsigned before = fake_n_entries;
    exception(8), exception(13);
    vmx_cpu_ops.run(v, &x);
    assert_int_equal(x.kind, VCPU_EXIT_SHUTDOWN);
    assert_int_equal(fake_n_entries, before);
}

static void test_irq_window(void **state)
{
    (void)state;
    v->rflags = RFLAGS_IF | 2;
    assert_true(vmx_cpu_ops.irq_ready(v));
    s->blocked = BLOCKED_STI;
    assert_false(vmx_cpu_ops.irq_ready(v));
    vmx_cpu_ops.insn_done(v);
    assert_true(vmx_cpu_ops.irq_ready(v));
    v->rflags = 2;
    assert_false(vmx_cpu_ops.irq_ready(v));
    s->blocked = BLOCKED_STI; /* the core cleared IF: an entry with both would be refused */
    run(VMX_EXIT_EXTINT, 0);
    vmx_cpu_ops.irq_window_set(v, true);
    vmx_cpu_ops.irq_window_set(v, true);
    run(VMX_EXIT_EXTINT, 0);
    assert_true(fake_get(VMCS_PROC_CTL) & PROC_IRQ_WINDOW);
    assert_int_equal(run(VMX_EXIT_IRQ_WINDOW, 0), VCPU_EXIT_IRQ_WINDOW);
    run(VMX_EXIT_EXTINT, 0);
    assert_false(fake_get(VMCS_PROC_CTL) & PROC_IRQ_WINDOW);
    vmx_cpu_ops.irq_window_set(v, true);
    vmx_cpu_ops.irq_window_set(v, false);
    run(VMX_EXIT_EXTINT, 0);
    assert_false(fake_get(VMCS_PROC_CTL) & PROC_IRQ_WINDOW);
}

static void test_nmi_blocking(void **state)
{
    (void)state;
    protected_mode();
    s->blocked = BLOCKED_STI; /* STI holds no NMI back */
    assert_int_equal(vmx_cpu_ops.nmi_state(v), NMI_READY);
    vmx_cpu_ops.inject(v, &(struct vcpu_event){ .type = EVENT_NMI, .vector = 2 });
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(vmx_cpu_ops.nmi_state(v), NMI_BLOCKED); /* until IRET; and the window is open now */
    run(VMX_EXIT_EXTINT, 0);
    assert_true(fake_get(VMCS_PROC_CTL) & PROC_NMI_WINDOW);
    fake_put(VMCS_GUEST_INTERRUPTIBILITY, 0); /* the guest's IRET */
    assert_int_equal(run(VMX_EXIT_NMI_WINDOW, 0), VCPU_EXIT_INTR);
    assert_int_equal(vmx_cpu_ops.nmi_state(v), NMI_READY);
    run(VMX_EXIT_EXTINT, 0);
    assert_false(fake_get(VMCS_PROC_CTL) & PROC_NMI_WINDOW);
    vmx_cpu_ops.inject(v, &(struct vcpu_event){ .type = EVENT_NMI, .vector = 2 });
    idt_info = INTR_VALID | 0x202;
    run(VMX_EXIT_EPT_VIOLATION, 0); /* its delivery is cut */
    idt_info = 0;
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_injected_info, INTR_VALID | 0x202); /* row C: accepted by the checker */
    assert_true(s->blocked & BLOCKED_NMI);
    s->blocked = 0;
    run(VMX_EXIT_EPT_VIOLATION, QUAL_NMI_UNBLOCKED); /* row D: an IRET met a page that is not there */
    assert_true(s->blocked & BLOCKED_NMI);
    s->blocked = 0;
    exit_intr_info = INTR_VALID | INTR_NMI_UNBLOCKED | INTR_ERROR_VALID | 0x311;
    run(VMX_EXIT_EXCEPTION_NMI, 0);
    assert_true(s->blocked & BLOCKED_NMI);
    exit_intr_info = 0;
}

static void test_single_step(void **state)
{
    (void)state;
    v->rflags = RFLAGS_TF | RFLAGS_IF | 2;
    s->blocked = BLOCKED_STI;
    run(VMX_EXIT_EXTINT, 0); /* the checker wants BS */
    assert_int_equal(fake_get(VMCS_GUEST_PENDING_DBG), PENDING_DBG_BS);
}

/* An emulated instruction traps as one that the processor executes: its #DB comes before interrupts, and moves. */
static void test_emulated_instructions_trap(void **state)
{
    struct vcpu_regs r;
    (void)state;
    protected_mode();
    vmx_dr_write(6, 0xffff0ff3);
    v->rflags = RFLAGS_IF | 2;
    assert_false(vmx_cpu_ops.insn_done(v));
    assert_true(vmx_cpu_ops.irq_ready(v));
    v->rflags = RFLAGS_TF | RFLAGS_IF | 2;
    fake_put(VMCS_GUEST_DR7, 0x2400);
    s->blocked = BLOCKED_STI;
    assert_true(vmx_cpu_ops.insn_done(v));
    assert_false(vmx_cpu_ops.irq_ready(v));
    vmx_cpu_ops.regs_get(v, &r);
    assert_int_equal(r.dr6, 0xffff4ff0);
    assert_int_equal(r.dr7, 0x400);
    assert_true(r.pending.type == EVENT_EXCEPTION && r.pending.vector == EXC_DB && !r.irq_shadow);
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_injected_info, INTR_VALID | 0x301);
    assert_int_equal(fake_get(VMCS_GUEST_PENDING_DBG), 0);
    fake_put(VMCS_GUEST_DEBUGCTL, BIT64(1)); /* BTF: branches only */
    assert_false(vmx_cpu_ops.insn_done(v));
    fake_put(VMCS_GUEST_DEBUGCTL, 0);
    v->rflags = 2;
    s->blocked = BLOCKED_MOV_SS; /* MOV SS had hit breakpoint 1, and the next instruction was emulated */
    fake_put(VMCS_GUEST_PENDING_DBG, PENDING_DBG_ENABLED | 2);
    assert_true(vmx_cpu_ops.insn_done(v));
    assert_int_equal(vmx_dr_read(6), 0xffff4ff2); /* BS is sticky */
    run(VMX_EXIT_EXTINT, 0);
    s->blocked = BLOCKED_MOV_SS;
    fake_put(VMCS_GUEST_PENDING_DBG, 2); /* a breakpoint that is not enabled */
    assert_false(vmx_cpu_ops.insn_done(v));
    v->rflags = RFLAGS_TF | 2;
    fake_put(VMCS_GUEST_PENDING_DBG, PENDING_DBG_BS); /* a MOV to CR8: its exit comes before its trap */
    assert_int_equal(run(VMX_EXIT_TPR, 0), VCPU_EXIT_INTR);
    assert_true(s->pending.type == EVENT_EXCEPTION && s->pending.vector == EXC_DB);
}

/* ---- control registers ---- */

static bool cr_exit(uint64_t qual)
{
    s->pending.type = EVENT_NONE;
    insn_len = 3;
    uint64_t rip = v->rip;
    assert_int_equal(run(VMX_EXIT_CR, qual), VCPU_EXIT_INTR);
    insn_len = 0;
    bool faulted = s->pending.type == EVENT_EXCEPTION && s->pending.vector == 13;
    assert_int_equal(v->rip, faulted ? rip : rip + 3);
    return !faulted;
}
static bool mov_to(unsigned cr, uint64_t val)
{
    v->gpr[GPR_RBX] = val;
    return cr_exit(cr | GPR_RBX << 8);
}
static uint64_t cr0(void)
{
    struct vcpu_regs r;
    vmx_cpu_ops.regs_get(v, &r);
    return r.cr0;
}
static uint64_t cr4(void)
{
    struct vcpu_regs r;
    vmx_cpu_ops.regs_get(v, &r);
    return r.cr4;
}

static void test_into_long_mode_and_out(void **state)
{
    uint64_t a0, a3, a4, efer;
    unsigned cpl;
    (void)state;
    assert_true(mov_to(0, CR0_PE | CR0_ET));
    assert_int_equal(cr0(), CR0_PE | CR0_ET); /* NE does not show */
    assert_true(fake_get(VMCS_GUEST_CR0) & CR0_NE);
    assert_true(mov_to(4, CR4_PAE));
    assert_int_equal(cr4(), CR4_PAE); /* neither do VMXE and MCE */
    assert_int_equal(vmx_cpu_ops.msr_set(v, MSR_EFER, EFER_LME), HV_OK);
    v->tlb_flush = false;
    assert_true(mov_to(0, CR0_PE | CR0_ET | CR0_PG));
    assert_true(v->tlb_flush);
    vmx_cpu_ops.paging_get(v, &a0, &a3, &a4, &efer, &cpl);
    assert_int_equal(efer, EFER_LME | EFER_LMA);
    assert_true(fake_get(VMCS_ENTRY_CTL) & ENTRY_IA32E);
    assert_false(mov_to(4, 0));                  /* PAE cannot go */
    assert_true(mov_to(4, CR4_PAE | CR4_PCIDE)); /* CR3's low bits are 0 */
    assert_false(mov_to(0, CR0_PE));             /* PCIDE on */
    assert_true(mov_to(4, CR4_PAE));
    assert_true(mov_to(0, CR0_PE | CR0_ET));
    vmx_cpu_ops.paging_get(v, &a0, &a3, &a4, &efer, &cpl);
    assert_int_equal(efer, EFER_LME);
    assert_false(fake_get(VMCS_ENTRY_CTL) & ENTRY_IA32E);
    run(VMX_EXIT_EXTINT, 0);
}

static void test_cr0_faults(void **state)
{
    (void)state;
    assert_false(mov_to(0, CR0_PG)); /* without PE */
    assert_false(mov_to(0, CR0_NW)); /* without CD */
    assert_true(mov_to(0, CR0_CD | CR0_NW));
    assert_int_equal(cr0(), CR0_CD | CR0_NW | CR0_ET);
    assert_false(fake_get(VMCS_GUEST_CR0) & (CR0_CD | CR0_NW)); /* never real */
    vmx_cpu_ops.msr_set(v, MSR_EFER, EFER_LME);
    assert_false(mov_to(0, CR0_PE | CR0_PG)); /* LME without PAE */
    assert_true(mov_to(4, CR4_PAE));
    struct seg tr = vmx_cpu_ops.seg_get(v, SEG_TR);
    fake_put(VMCS_GUEST_TR_AR, 0x83);
    assert_false(mov_to(0, CR0_PE | CR0_PG)); /* a 16-bit TSS */
    fake_put(VMCS_GUEST_TR_AR, tr.ar);
    assert_true(mov_to(0, CR0_PE | CR0_PG));
    protected_mode(); /* 64-bit code */
    assert_false(mov_to(0, BIT64(32) | 0x80050033));
    assert_false(mov_to(0, 0x50033));               /* PG off in 64-bit code */
    assert_true(mov_to(0, 0x80050033 | BIT64(20))); /* an undefined low bit is ignored */
    assert_int_equal(cr0(), 0x80050033);
}

static void test_clts_lmsw(void **state)
{
    (void)state;
    fake_put(VMCS_GUEST_CR0, fake_get(VMCS_GUEST_CR0) | CR0_TS);
    assert_true(cr_exit(CR_CLTS << 4));
    assert_false(cr0() & CR0_TS);
    assert_true(cr_exit(CR_LMSW << 4 | (uint64_t)(CR0_PE | CR0_TS | CR0_MP) << 16));
    assert_int_equal(cr0() & 0xf, CR0_PE | CR0_TS | CR0_MP);
    assert_true(cr_exit(CR_LMSW << 4)); /* cannot clear PE */
    assert_int_equal(cr0() & 0xf, CR0_PE);
}

static void test_cr4_follows_cpuid(void **state)
{
    (void)state;
    protected_mode();
    assert_true(mov_to(4, 0x6f0 | CR4_SMEP | CR4_OSXSAVE | CR4_FSGSBASE));
    assert_int_equal(cr4(), 0x6f0 | CR4_SMEP | CR4_OSXSAVE | CR4_FSGSBASE);
    assert_false(mov_to(4, 0x6f0 | CR4_SMAP)); /* the host has it, the guest's CPUID does not */
    assert_false(mov_to(4, 0x6f0 | CR4_UMIP));
    assert_false(mov_to(4, 0x6f0 | CR4_VMXE));
    assert_false(mov_to(4, 0x6f0 | BIT64(40)));
    assert_true(mov_to(4, 0x6f0 & ~CR4_MCE));
    assert_true(fake_get(VMCS_GUEST_CR4) & CR4_MCE); /* really stays on */
    assert_false(cr4() & CR4_MCE);
}

static void test_pae_entries(void **state)
{
    uint64_t e[4] = { 0x2001, 0, 0x3001, 0x4001 };
    (void)state;
    assert_int_equal(guest_write(&vm, gpa(0x1020), e, sizeof(e)), HV_OK);
    fake_put(VMCS_GUEST_CR3, 0x1020);
    assert_true(mov_to(4, CR4_PAE));
    assert_true(mov_to(0, CR0_PE | CR0_PG));
    assert_int_equal(fake_get(VMCS_GUEST_PDPTE0), 0x2001);
    assert_int_equal(fake_get(VMCS_GUEST_PDPTE3), 0x4001);
    run(VMX_EXIT_EXTINT, 0);
    e[2] |= BIT64(1); /* reserved */
    assert_int_equal(guest_write(&vm, gpa(0x1020), e, sizeof(e)), HV_OK);
    assert_false(mov_to(4, CR4_PAE | CR4_SMEP));
    assert_int_equal(fake_get(VMCS_GUEST_PDPTE2), 0x3001);
    struct vcpu_regs r; /* state from elsewhere: read at the next entry */
    vmx_cpu_ops.regs_get(v, &r);
    e[2] = 0x9001;
    assert_int_equal(guest_write(&vm, gpa(0x1020), e, sizeof(e)), HV_OK);
    r.pending.type = EVENT_NONE;
    vmx_cpu_ops.regs_set(v, &r);
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_get(VMCS_GUEST_PDPTE2), 0x9001);
    r.cr3 = 0xf0000000; /* no memory there: the guest faults, the entry does not */
    vmx_cpu_ops.regs_set(v, &r);
    run(VMX_EXIT_EXTINT, 0);
    assert_int_equal(fake_get(VMCS_GUEST_PDPTE2), 0);
}

/* ---- translations ---- */

static void test_tlb_rules(void **state)
{
    (void)state;
    run(VMX_EXIT_EXTINT, 0);            /* new on this pCPU: both */
    assert_int_equal(fake_n_invept, 3); /* two by pcpu_enable */
    assert_int_equal(fake_invept_type, INVEPT_SINGLE);
    assert_int_equal(fake_invept_eptp, s->eptp);
    assert_int_equal(fake_invvpid_vpid, s->vpid);
    unsigned ept = fake_n_invept, vpid = fake_n_invvpid;
    run(VMX_EXIT_EXTINT, 0);
    assert_true(fake_n_invept == ept && fake_n_invvpid == vpid);
    s2_flush(&vm);
    run(VMX_EXIT_EXTINT, 0);
    assert_true(fake_n_invept == ept + 1 && fake_n_invvpid == vpid);
    run(VMX_EXIT_EXTINT, 0);
    assert_true(fake_n_invept == ept + 1);
    v->tlb_flush = true;
    run(VMX_EXIT_EXTINT, 0);
    assert_true(fake_n_invept == ept + 1 && fake_n_invvpid == vpid + 1);
    assert_false(v->tlb_flush);
    vmx_cpu_ops.vcpu_unload(v);
    vmx_cpu_ops.vcpu_load(v); /* the same pCPU: nothing */
    run(VMX_EXIT_EXTINT, 0);
    assert_true(fake_n_invept == ept + 1 && fake_n_invvpid == vpid + 1);
    for (unsigned i = 0; i < 2; i++) { /* there and back: what the first visit left is stale */
        vmx_cpu_ops.vcpu_unload(v);
        fake_cpu = !fake_cpu;
        vmx_cpu_ops.vcpu_load(v);
        run(VMX_EXIT_EXTINT, 0);
        assert_true(fake_n_invept == ept + 2 + i && fake_n_invvpid == vpid + 2 + i);
    }
}

static unsigned n_kicks;
static void on_kick(struct vcpu *kicked)
{
    n_kicks++;
    atomic_store(&kicked->s2_gen_seen, atomic_load(&vm.s2.gen)); /* it left and entered again */
}
static void flush_while_in_guest(uint64_t *gpr)
{
    (void)gpr;
    uint64_t before = atomic_load(&v->s2_gen_seen);
    s2_flush(&vm);
    assert_true(atomic_load(&v->s2_gen_seen) > before);
}
static void test_flush_waits_for_the_guest(void **state)
{
    (void)state;
    fake_on_kick = on_kick;
    fake_guest = flush_while_in_guest;
    vmx_cpu_ops.run(v, &x);
    assert_int_equal(n_kicks, 1);
    s2_flush(&vm); /* not in the guest: no wait, no kick */
    assert_int_equal(n_kicks, 1);
    fake_on_kick = NULL;
}

/* ---- PML ---- */

static unsigned n_logged;
static void guest_dirties(uint64_t *gpr)
{
    (void)gpr;
    uint64_t *log = hpa_ptr(hpa(fake_get(VMCS_PML_ADDRESS)));
    uint16_t index = (uint16_t)fake_get(VMCS_GUEST_PML_INDEX);
    assert_int_equal(index, 511);
    for (unsigned i = 0; i < n_logged; i++)
        log[index--] = (uint64_t)(100 + i) * PAGE_SIZE + 8;
    fake_put(VMCS_GUEST_PML_INDEX, index);
    fake_put(VMCS_EXIT_REASON, n_logged == 512 ? VMX_EXIT_PML_FULL : VMX_EXIT_EXTINT);
}

static unsigned n_marked(void)
{
    unsigned n = 0;
    for (uint64_t gfn = 100; gfn < 100 + 512; gfn++)
        n += atomic_load(&vm.dirty.live[gfn / 64]) >> gfn % 64 & 1;
    for (size_t i = 0; i < vm.dirty.n_words; i++)
        atomic_store(&vm.dirty.live[i], 0);
    return n;
}

static char dumped[2000];
static void dump_line(struct printer *p, const char *text)
{
    size_t n = strlen(dumped);
    (void)p;
    snprintf(dumped + n, sizeof(dumped) - n, "%s", text);
}

/* `vm inspect` comes from the boot CPU: of a vCPU that another CPU may have loaded it must leave the VMCS alone (the
 * fake stops on a VMREAD without a current VMCS, and on one VMCS active on two CPUs). */
static void test_dump_from_another_cpu(void **state)
{
    struct printer lines = { dump_line };
    (void)state;
    run(VMX_EXIT_EXTINT, 0);
    atomic_store(&v->state, VCPU_RUNNING);
    fake_cpu = 1, dumped[0] = 0;
    vmx_cpu_ops.dump(v, &lines);
    assert_non_null(strstr(dumped, "belongs to pCPU 0"));
    fake_cpu = 0, dumped[0] = 0;
    vmx_cpu_ops.dump(v, &lines);
    assert_non_null(strstr(dumped, "efer"));
    vmx_cpu_ops.vcpu_unload(v);
    atomic_store(&v->state, VCPU_FROZEN);
    fake_cpu = 1, dumped[0] = 0;
    vmx_cpu_ops.dump(v, &lines);
    assert_non_null(strstr(dumped, "efer"));
    fake_cpu = 0;
}

static void test_pml(void **state)
{
    (void)state;
    assert_int_equal(dirty_start(&vm, DIRTY_WP), HV_OK); /* for its bitmap */
    fake_guest = NULL;
    vmx_cpu_ops.run(v, &x);
    assert_false(fake_get(VMCS_PROC2_CTL) & PROC2_PML);
    assert_int_equal(vmx_pml_set(v, true), HV_OK);
    fake_guest = guest_dirties;
    for (n_logged = 0; n_logged <= 512; n_logged += 128) {
        vmx_cpu_ops.run(v, &x);
        assert_true(fake_get(VMCS_PROC2_CTL) & PROC2_PML);
        assert_int_equal(x.kind, n_logged == 512 ? VCPU_EXIT_LOG_FULL : VCPU_EXIT_INTR);
        assert_int_equal(n_marked(), n_logged);
    }
    assert_int_equal(vmx_pml_set(v, false), HV_OK);
    fake_guest = NULL;
    vmx_cpu_ops.run(v, &x);
    assert_false(fake_get(VMCS_PROC2_CTL) & PROC2_PML);
    cpu_caps.pml = false;
    assert_int_equal(vmx_pml_set(v, true), HV_E_UNSUPP);
}

/* ---- MSRs ---- */

static void test_msrs(void **state)
{
    static const uint32_t held[] = { 0x174,      0x175,      0x176,      0x277,      0xc0000081, 0xc0000082, 0xc0000083,
                                     0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103, 0xda0 };
    uint64_t val;
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(held); i++)
            assert_int_equal(vmx_cpu_ops.msr_set(v, held[i], 0x100 * round + i), HV_OK);
        for (unsigned i = 0; i < ARRAY_SIZE(held); i++) {
            assert_int_equal(vmx_cpu_ops.msr_get(v, held[i], &val), HV_OK);
            assert_int_equal(val, 0x100 * round + i);
        }
        if (s->loaded)
            vmx_cpu_ops.vcpu_unload(v); /* second round: not loaded */
    }
    vmx_cpu_ops.vcpu_load(v);
    assert_int_equal(fake_msr_get(MSR_TSC_AUX), 0x10b);
    assert_int_equal(fake_msr_get(MSR_STAR), 0x104);
    assert_int_equal(vmx_cpu_ops.msr_get(v, 0x1b, &val), HV_E_NOENT);
    assert_int_equal(vmx_cpu_ops.msr_set(v, 0x3a, 0), HV_E_NOENT);
    assert_int_equal(vmx_cpu_ops.msr_set(v, MSR_EFER, EFER_LMA | EFER_SCE), HV_OK);
    assert_int_equal(vmx_cpu_ops.msr_get(v, MSR_EFER, &val), HV_OK);
    assert_int_equal(val, EFER_SCE); /* LMA is read-only */
    assert_int_equal(vmx_cpu_ops.msr_set(v, MSR_DEBUGCTL, 0x3f), HV_OK);
    assert_int_equal(vmx_cpu_ops.msr_set(v, MSR_SFMASK, ~UINT64_C(0)), HV_OK);
    assert_int_equal(fake_msr_get(MSR_SFMASK), 0xffffffff);
    assert_int_equal(vmx_cpu_ops.msr_set(v, MSR_PAT, 0x0007040600070406), HV_OK);
    run(VMX_EXIT_EXTINT, 0); /* accepted */
}

/* ---- whatever the core and the guest do, the processor accepts the next entry ---- */

static uint64_t rng = 88172645463325252ul;
static unsigned roll(unsigned n)
{
    rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
    return (unsigned)(rng >> 11) % n;
}

/* What a guest can do between entry and exit: flags, shadows, code segments, and a delivery that is cut. */
static void guest_at_random(uint64_t *gpr)
{
    (void)gpr;
    uint64_t rflags = 2 | (roll(2) ? RFLAGS_IF : 0) | (roll(4) ? 0 : RFLAGS_TF);
    uint32_t b = (uint32_t)fake_get(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKED_NMI;
    bool lma = fake_get(VMCS_GUEST_EFER) & EFER_LMA;
    if (b && !roll(3))
        b = 0; /* IRET */
    b |= roll(3) ? 0 : roll(2) && (rflags & RFLAGS_IF) ? BLOCKED_STI : BLOCKED_MOV_SS;
    fake_put(VMCS_GUEST_RFLAGS, rflags);
    fake_put(VMCS_GUEST_INTERRUPTIBILITY, b);
    fake_put(VMCS_GUEST_CS_AR, lma && roll(2) ? 0xa09b : 0x9b);
    fake_put(VMCS_GUEST_CS_LIMIT, fake_get(VMCS_GUEST_CS_AR) == 0x9b ? 0xffff : 0xffffffff);
    fake_put(VMCS_GUEST_PENDING_DBG, (b & BLOCKED_SHADOW) && (rflags & RFLAGS_TF) ? PENDING_DBG_BS : 0);
    fake_put(VMCS_GUEST_RIP, 0x1000 + roll(4096));
    s->virt_apic[0x80] = (uint8_t)(roll(16) << 4);
    fake_put(VMCS_EXIT_REASON, exit_reason);
    fake_put(VMCS_EXIT_QUALIFICATION, exit_qual);
    fake_put(VMCS_EXIT_INSN_LEN, 3);
    if (exit_reason != VMX_EXIT_EPT_VIOLATION || roll(2))
        return;
    static const uint32_t cut[] = { 0x202, 0x30e | INTR_ERROR_VALID, 0x480, 0x603, 0x301 };
    uint32_t info = cut[roll(ARRAY_SIZE(cut))];
    if (info == 0x202)
        fake_put(VMCS_GUEST_INTERRUPTIBILITY, BLOCKED_NMI);
    else if ((rflags & RFLAGS_IF) && !roll(3))
        info = 0x40, fake_put(VMCS_GUEST_INTERRUPTIBILITY, 0);
    fake_put(VMCS_IDT_VECTORING_INFO, INTR_VALID | info);
}

static void core_at_random(void)
{
    static struct vcpu_regs r;
    switch (roll(9)) {
    case 0:
        if (vmx_cpu_ops.irq_ready(v))
            vmx_cpu_ops.inject(v, &(struct vcpu_event){ .type = EVENT_EXTINT, .vector = 0x30 });
        break;
    case 1:
        if (vmx_cpu_ops.nmi_state(v) == NMI_READY)
            vmx_cpu_ops.inject(v, &(struct vcpu_event){ .type = EVENT_NMI, .vector = 2 });
        break;
    case 2: exception((uint8_t[]){ 0, 1, 3, 6, 8, 13, 14, 17 }[roll(8)]); break;
    case 3: vmx_cpu_ops.irq_window_set(v, roll(2)); break;
    case 4: v->rip += 2, vmx_cpu_ops.insn_done(v); break;
    case 5: vmx_cpu_ops.regs_get(v, &r), vmx_cpu_ops.regs_set(v, &r); break;
    case 6:
        if (!(cr0() & CR0_PG))
            vmx_cpu_ops.msr_set(v, MSR_EFER, (roll(2) ? EFER_LME : 0) | (roll(2) ? EFER_NXE : 0));
        break;
    case 7:
        vmx_cpu_ops.vcpu_unload(v);
        vmx_cpu_ops.regs_get(v, &r), vmx_cpu_ops.regs_set(v, &r);
        fake_cpu = roll(2);
        vmx_cpu_ops.vcpu_load(v);
        break;
    case 8: v->cr8 = roll(16); break;
    }
}

static void test_every_entry_is_accepted(void **state)
{
    static const uint64_t cr0_bits[] = { CR0_PE, CR0_PG, CR0_CD, CR0_NW, CR0_NE, CR0_WP, CR0_TS, CR0_MP };
    static const uint64_t cr4_bits[] = {
        CR4_PAE, CR4_PSE, CR4_PGE, CR4_PCIDE, CR4_SMEP, CR4_MCE, CR4_OSXSAVE, CR4_VMXE
    };
    static unsigned n_modes[4];
    (void)state;
    fake_guest = guest_at_random;
    for (unsigned i = 0; i < 60000; i++) {
        static const uint32_t reasons[] = { VMX_EXIT_EXTINT, VMX_EXIT_CPUID, VMX_EXIT_EPT_VIOLATION, VMX_EXIT_CR,
                                            VMX_EXIT_CR };
        exit_reason = reasons[roll(5)];
        exit_qual = (roll(2) ? 4 : 0) | GPR_RBX << 8;
        v->gpr[GPR_RBX] = exit_qual & 4 ? cr4() : cr0();
        for (unsigned n = roll(4); n; n--)
            v->gpr[GPR_RBX] ^= exit_qual & 4 ? cr4_bits[roll(8)] : cr0_bits[roll(8)];
        if (!roll(3) && !(exit_qual & 4))
            v->gpr[GPR_RBX] |= CR0_PE | CR0_PG;
        vmx_cpu_ops.run(v, &x);
        if (fake_check_why[0])
            fail_msg("step %u: %s", i, fake_check_why);
        if (exit_reason == VMX_EXIT_EPT_VIOLATION)
            exit_qual = roll(4) ? 0 : QUAL_NMI_UNBLOCKED;
        n_modes[vmx_pae_paging() ? 2 : (fake_get(VMCS_GUEST_EFER) & EFER_LMA) ? 3 : cr0() & CR0_PG ? 1 : 0]++;
        core_at_random();
    }
    for (unsigned m = 0; m < 4; m++)
        assert_true(n_modes[m] > 100); /* no paging, 32-bit, PAE, long mode were all there */
}

static void width_mismatch(void) { (void)vmcs_read32(VMCS_GUEST_RIP); }
static void width_mismatch_write(void) { vmcs_write16(VMCS_PROC_CTL, 1); }
static void use_after_vmclear(void)
{
    vmx_cpu_ops.vcpu_unload(v);
    (void)vmcs_readn(VMCS_GUEST_RIP);
}

/* Our own bugs stop the host: in a child process, by abort(). */
static void test_accessors_reject_our_bugs(void **state)
{
    static void (*const bug[])(void) = { width_mismatch, width_mismatch_write, use_after_vmclear };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(bug); i++) {
        pid_t child = fork();
        if (!child) {
            signal(SIGABRT, SIG_DFL);
            bug[i]();
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

/* Which work is done is test_speculation.c's subject; here, that no way into or out of a guest lacks it. */
static void test_speculation_is_limited_around_each_entry(void **state)
{
    (void)state;
    fake_spec_reset(false);
    fake_spec_7.edx = BIT32(26) | BIT32(10) | BIT32(28);
    spec_init(false);
    vmx_cpu_ops.vcpu_unload(v);
    spec_slice_begin(0, &x, false); /* another guest ran here */
    vmx_cpu_ops.vcpu_load(v);
    v->spec_ctrl = 4;
    for (unsigned i = 0; i < 2; i++)
        run(VMX_EXIT_EXTINT, 0);
    vmx_cpu_ops.vcpu_unload(v);
    vmx_cpu_ops.vcpu_load(v); /* no other guest ran: no IBPB */
    assert_string_equal(fake_spec_done,
                        "49=1 10b=1 49=1 10b=1 48=4 verw guest rsb 48=1 48=4 verw guest rsb 48=1 10b=1");
    fake_spec_reset(false);
    spec_init(true);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_speculation_is_limited_around_each_entry),
        T(test_power_on_state_enters),
        T(test_state_round_trip),
        T(test_pending_nmi_round_trip),
        T(test_segments_are_made_fit),
        T(test_another_vcpu_is_opened_and_closed),
        T(test_out_of_memory),
        T(test_run_moves_state),
        T(test_exit_kinds),
        T(test_exit_details),
        T(test_host_nmi_and_reflected_exceptions),
        T(test_entry_failures_are_explained),
        T(test_resume_flag),
        T(test_cut_events_are_delivered_again),
        T(test_no_error_code_in_real_mode),
        T(test_double_and_triple_faults),
        T(test_irq_window),
        T(test_nmi_blocking),
        T(test_single_step),
        T(test_emulated_instructions_trap),
        T(test_into_long_mode_and_out),
        T(test_cr0_faults),
        T(test_clts_lmsw),
        T(test_cr4_follows_cpuid),
        T(test_pae_entries),
        T(test_tlb_rules),
        T(test_flush_waits_for_the_guest),
        T(test_pml),
        T(test_dump_from_another_cpu),
        T(test_msrs),
        T(test_every_entry_is_accepted),
        T(test_accessors_reject_our_bugs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
