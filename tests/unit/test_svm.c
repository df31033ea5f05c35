/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_svm.c - the AMD-V back end over a scripted VMRUN: probe, loading and saving state, exits, events, TLB
 * rules, VMCB consistency. */
/* unit-sources: svm/svm.c svm/svm_vcpu.c kernel/lib/print.c svm/svm_run.c svm/svm_exit.c svm/svm_irq.c svm/svm_nmi.c
 *   svm/svm_msr.c svm/svm_cr.c svm/svm_check.c svm/npt.c kernel/core/cpuid.c kernel/run/insn.c kernel/run/insn_exec.c
 *   kernel/run/insn_alu.c kernel/run/insn_mem.c kernel/run/insn_mov.c kernel/run/insn_simd.c kernel/run/insn_stack.c
 *   kernel/run/insn_string.c kernel/core/s2.c kernel/core/guest_mem.c kernel/core/dirty.c kernel/core/translate.c
 *   kernel/core/event.c tests/fakes/log.c tests/fakes/page.c tests/fakes/vcpu.c tests/fakes/mmio.c tests/fakes/fpu.c
 *   kernel/host/x86/speculation.c tests/fakes/speculation.c tests/fakes/svm_insn.c */
/* unit-deps: zydis */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "kernel/core/cpuid.h"
#include "kernel/host/page.h"
#include "kernel/host/x86/regs.h"
#include "svm/svm.h"
#include "tests/fakes/page.h"
#include "tests/fakes/svm_insn.h"
#include "tests/fakes/vcpu.h"

static struct vm vm;
static struct vcpu *v;
static struct vmcb *b;
static struct vcpu_exit x;

static void probe_and_enable(void)
{
    const char *why = "";
    assert_int_equal(svm_cpu_ops.probe(&cpu_caps, &why), HV_OK);
    assert_int_equal(svm_cpu_ops.pcpu_enable(), HV_OK);
}

static int setup(void **state)
{
    struct vcpu unused;
    (void)state;
    fake_vcpu_init(&vm, &unused);
    cpu_ops = &svm_cpu_ops;
    fake_cpuid_svm = (struct svm_cpuid){ .ebx = 4, .edx = BIT32(0) };
    fake_pcpu.index = 0;
    fake_guest = NULL;
    probe_and_enable();
    assert_int_equal(guest_mem_init(&vm.mem, 4 * BLOCK_SIZE), HV_OK);
    assert_int_equal(s2_init(&vm.s2, svm_cpu_ops.s2_format), HV_OK);
    v = svm_cpu_ops.vcpu_create(&vm, 0);
    assert_non_null(v);
    vm.vcpus[0] = v;
    b = to_svm(v)->vmcb;
    svm_cpu_ops.vcpu_load(v);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    if (to_svm(v)->loaded)
        svm_cpu_ops.vcpu_unload(v);
    svm_cpu_ops.vcpu_destroy(v);
    s2_fini(&vm.s2);
    guest_mem_fini(&vm.mem);
    page_free(fake_pcpu.vendor_area);
    page_free(fake_pcpu.host_vmcb);
    mem_free(svm_perm_maps.iopm, 3 * PAGE_SIZE);
    mem_free(svm_perm_maps.msrpm, 2 * PAGE_SIZE);
    svm_perm_maps = (struct svm_perm_maps){ 0 };
    fake_pcpu.vendor_area = fake_pcpu.host_vmcb = NULL;
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

static uint64_t exit_code, exit_info1, exit_info2, exit_int_info, seen_event;
static uint8_t seen_tlb;
static uint32_t seen_asid, seen_clean;
static void script(struct vmcb *g, uint64_t *gpr)
{
    (void)gpr;
    assert_true(atomic_load(&v->in_guest));
    assert_int_equal(atomic_load(&v->s2_gen_seen), atomic_load(&vm.s2.gen));
    seen_event = g->ctl.event_inj, seen_tlb = g->ctl.tlb_control, seen_asid = g->ctl.asid, seen_clean = g->ctl.clean;
    g->ctl.exit_code = exit_code, g->ctl.exit_info1 = exit_info1, g->ctl.exit_info2 = exit_info2,
    g->ctl.exit_int_info = exit_int_info;
}
static enum vcpu_exit_kind run(uint64_t code, uint64_t info1, uint64_t info2)
{
    fake_guest = script;
    exit_code = code, exit_info1 = info1, exit_info2 = info2;
    svm_cpu_ops.run(v, &x);
    assert_false(atomic_load(&v->in_guest));
    return x.kind;
}

static void test_probe_says_why(void **state)
{
    const char *why = "";
    struct cpu_caps caps;
    (void)state;
    fake_cpuid_svm.edx = 0;
    assert_int_equal(svm_cpu_ops.probe(&caps, &why), HV_E_UNSUPP);
    assert_non_null(strstr(why, "nested paging"));
    fake_msr_vm_cr = VM_CR_SVMDIS | VM_CR_LOCK;
    assert_int_equal(svm_cpu_ops.probe(&caps, &why), HV_E_BUSY);
    assert_non_null(strstr(why, "firmware"));
    fake_msr_vm_cr = 0;
    fake_cpuid_ext1.ecx = 0;
    assert_int_equal(svm_cpu_ops.probe(&caps, &why), HV_E_UNSUPP);
    assert_non_null(strstr(why, "AMD-V"));
    fake_cpuid_ext1.ecx = BIT32(2);
    assert_true(fake_msr_efer & EFER_SVME);
    assert_int_equal(fake_msr_hsave, ptr_hpa(fake_pcpu.vendor_area).v);
}

static void test_power_on_state(void **state)
{
    struct vcpu_regs r;
    (void)state;
    svm_cpu_ops.regs_get(v, &r);
    assert_int_equal(r.seg[SEG_CS].sel, 0xf000);
    assert_int_equal(r.seg[SEG_CS].base, 0xffff0000);
    assert_int_equal(r.rip, 0xfff0);
    assert_int_equal(r.rflags, 2);
    assert_int_equal(r.cr0, 0x60000010);
    assert_int_equal(r.efer, 0);
    assert_int_equal(r.gpr[GPR_RDX], 0x00800f12);
    assert_int_equal(r.pending.type, EVENT_NONE);
    assert_int_equal(b->save.efer, EFER_SVME);
    char why[160];
    assert_int_equal(run(SVM_EXIT_INTR, 0, 0), VCPU_EXIT_INTR);
    if (!svm_vmcb_check(b, 48, 4, 0xffffff, WHY(why)))
        fail_msg("%s", why);
}

/* Fill every byte of the state with something, and get it back. */
static void fill(struct vcpu_regs *r)
{
    uint64_t k = 0x1010101010101010;
    *r =
        (struct vcpu_regs){ .rip = 0xffffffff81000000,
                            .rflags = 0x202,
                            .cr0 = 0x80050033,
                            .cr2 = k++,
                            .cr3 = 0x1000,
                            .cr4 = 0x6f0,
                            .cr8 = 5,
                            .xcr0 = 7,
                            .dr = { k, k + 1, k + 2, k + 3 },
                            .dr6 = 0xffff0ff1,
                            .dr7 = 0x401,
                            .efer = 0xd01,
                            .star = k += 8,
                            .lstar = k += 8,
                            .cstar = k += 8,
                            .sfmask = k += 8,
                            .kernel_gs_base = k += 8,
                            .sysenter_cs = k += 8,
                            .sysenter_esp = k += 8,
                            .sysenter_eip = k += 8,
                            .pat = 0x0007040600070406,
                            .tsc_aux = 3,
                            .debugctl = 1,
                            .irq_shadow = true,
                            .nmi_blocked = true,
                            .gdtr = { 0x7f, k += 8 },
                            .idtr = { 0xfff, k += 8 },
                            .pending = { .type = EVENT_EXCEPTION, .vector = 14, .has_error = true, .error = 0x12345 } };
    for (unsigned i = 0; i < GPR_COUNT; i++)
        r->gpr[i] = k += 8;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        r->seg[i] = (struct seg){ .sel = (uint16_t)(8 * i), .ar = 0xc0f3, .limit = ~0u - i, .base = k += 8 };
    r->seg[SEG_CS].ar = 0xa0fb;
    r->seg[SEG_GS].ar = 0x13 | SEG_AR_UNUSABLE;
}

static void test_state_round_trip(void **state)
{
    struct vcpu_regs r, back;
    (void)state;
    memset(&r, 0, sizeof(r));
    fill(&r);
    svm_cpu_ops.regs_set(v, &r);
    assert_int_equal(b->ctl.clean, 0);
    assert_int_equal(b->save.cpl, 3);
    assert_int_equal(b->save.cs.attr, 0xafb);
    assert_int_equal(b->save.efer, r.efer | EFER_SVME);
    assert_int_equal(fake_dr[2], r.dr[2]);
    assert_int_equal(fake_msr_tsc_aux, 3);
    svm_cpu_ops.regs_get(v, &back);
    assert_int_equal(back.pending.error, 0x12345);
    assert_true(back.nmi_blocked && back.irq_shadow);
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        assert_int_equal(back.seg[i].ar, r.seg[i].ar);
        assert_int_equal(back.seg[i].base, r.seg[i].base);
        assert_int_equal(back.seg[i].sel, r.seg[i].sel);
    }
    assert_memory_equal(back.gpr, r.gpr, sizeof(r.gpr));
    assert_memory_equal(back.dr, r.dr, sizeof(r.dr));
    assert_int_equal(back.gdtr.base, r.gdtr.base);
    assert_int_equal(back.idtr.limit, r.idtr.limit);
    assert_memory_equal(&back.efer, &r.efer, offsetof(struct vcpu_regs, irq_shadow) - offsetof(struct vcpu_regs, efer));
    assert_memory_equal(&back.cr0, &r.cr0, offsetof(struct vcpu_regs, efer) - offsetof(struct vcpu_regs, cr0));
    fake_dr[1] = 77; /* the guest wrote DR1 */
    svm_cpu_ops.vcpu_unload(v);
    fake_dr[1] = 0;
    svm_cpu_ops.regs_get(v, &back);
    assert_int_equal(back.dr[1], 77);
}

static void guest_changes_all(struct vmcb *g, uint64_t *gpr)
{
    assert_int_equal(g->save.rax, 1);
    assert_int_equal(g->save.rsp, 2);
    assert_int_equal(g->save.rip, 3);
    assert_int_equal(g->ctl.vintr & 0xff, 9);
    g->save.rax = 11, g->save.rsp = 12, g->save.rip = 13, g->save.rflags = 0x246, gpr[GPR_R15] = 15;
    g->ctl.vintr = (g->ctl.vintr & ~VINTR_TPR) | 4;
    g->ctl.exit_code = SVM_EXIT_HLT;
}
static void test_run_moves_state(void **state)
{
    (void)state;
    v->gpr[GPR_RAX] = 1, v->gpr[GPR_RSP] = 2, v->rip = 3, v->cr8 = 9;
    fake_guest = guest_changes_all;
    svm_cpu_ops.run(v, &x);
    assert_int_equal(v->gpr[GPR_RAX], 11);
    assert_int_equal(v->gpr[GPR_RSP], 12);
    assert_int_equal(v->gpr[GPR_R15], 15);
    assert_int_equal(v->rip, 13);
    assert_int_equal(v->rflags, 0x246);
    assert_int_equal(v->cr8, 4);
    assert_int_equal(x.kind, VCPU_EXIT_HLT);
}

static void code_at_rip(const char *bytes, unsigned n)
{
    struct vcpu_regs r;
    svm_cpu_ops.regs_get(v, &r);
    r.seg[SEG_CS].base = 0, r.rip = 0x1000;
    svm_cpu_ops.regs_set(v, &r);
    assert_int_equal(guest_write(&vm, gpa(0x1000), bytes, n), HV_OK);
}

static void test_exit_kinds(void **state)
{
    static const struct {
        uint64_t code, info1;
        enum vcpu_exit_kind kind;
        const char *insn;
        uint8_t len;
    } t[] = {
        { SVM_EXIT_INTR, 0, VCPU_EXIT_INTR, "", 0 },
        { SVM_EXIT_NMI, 0, VCPU_EXIT_INTR, "", 0 },
        { SVM_EXIT_SMI, 0, VCPU_EXIT_INTR, "", 0 },
        { SVM_EXIT_PAUSE, 0, VCPU_EXIT_PAUSE, "", 0 },
        { SVM_EXIT_CPUID, 0, VCPU_EXIT_CPUID, "\x0f\xa2", 2 },
        { SVM_EXIT_CPUID, 0, VCPU_EXIT_CPUID, "\xf3\x66\x0f\xa2", 4 },
        { SVM_EXIT_CPUID, 0, VCPU_EXIT_CPUID, "\x90", 0 },
        { SVM_EXIT_HLT, 0, VCPU_EXIT_HLT, "\xf4", 1 },
        { SVM_EXIT_MSR, 0, VCPU_EXIT_MSR, "\x0f\x32", 2 },
        { SVM_EXIT_MSR, 1, VCPU_EXIT_MSR, "\x0f\x30", 2 },
        { SVM_EXIT_VMMCALL, 0, VCPU_EXIT_HYPERCALL, "\x0f\x01\xd9", 3 },
        { SVM_EXIT_XSETBV, 0, VCPU_EXIT_XSETBV, "\x0f\x01\xd1", 3 },
        { SVM_EXIT_INVD, 0, VCPU_EXIT_INVD, "\x0f\x08", 2 },
        { SVM_EXIT_WBINVD, 0, VCPU_EXIT_INVD, "\x0f\x09", 2 },
        { SVM_EXIT_VMRUN, 0, VCPU_EXIT_UD, "", 0 },
        { SVM_EXIT_VMLOAD, 0, VCPU_EXIT_UD, "", 0 },
        { SVM_EXIT_STGI, 0, VCPU_EXIT_UD, "", 0 },
        { SVM_EXIT_SKINIT, 0, VCPU_EXIT_UD, "", 0 },
        { SVM_EXIT_MONITOR, 0, VCPU_EXIT_UD, "", 0 },
        { SVM_EXIT_MWAIT, 0, VCPU_EXIT_UD, "", 0 },
        { SVM_EXIT_RSM, 0, VCPU_EXIT_UD, "", 0 },
        { SVM_EXIT_SHUTDOWN, 0, VCPU_EXIT_SHUTDOWN, "", 0 },
        { SVM_EXIT_INVALID, 0, VCPU_EXIT_ENTRY_FAIL, "", 0 },
        { 0xffffffff, 0, VCPU_EXIT_ENTRY_FAIL, "", 0 },
        { SVM_EXIT_EXC(18), 0, VCPU_EXIT_MACHINE_CHECK, "", 0 },
        { 0x7d, 0, VCPU_EXIT_UNKNOWN, "", 0 },
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
        code_at_rip(t[i].insn, (unsigned)strlen(t[i].insn));
        if (run(t[i].code, t[i].info1, 0) != t[i].kind || x.insn_len != t[i].len)
            fail_msg("exit 0x%lx: kind %d, length %u", t[i].code, x.kind, x.insn_len);
    }
    code_at_rip("\x6e", 1);
    assert_int_equal(run(SVM_EXIT_IOIO, 0x3f8u << 16 | BIT32(4) | IOIO_STR | IOIO_REP | IOIO_IN, 0x1002), VCPU_EXIT_IO);
    assert_int_equal(x.io.port, 0x3f8);
    assert_int_equal(x.io.size, 1);
    assert_true(x.io.in && x.io.string && x.io.rep);
    assert_int_equal(x.insn_len, 2);
    assert_int_equal(run(SVM_EXIT_IOIO, 0xcf8u << 16 | BIT32(6), 0x1001), VCPU_EXIT_IO);
    assert_int_equal(x.io.size, 4);
    assert_false(x.io.in || x.io.string || x.io.rep);
    assert_int_equal(run(SVM_EXIT_NPF, NPF_WRITE | BIT64(32), 0xfee000b0), VCPU_EXIT_S2_FAULT);
    assert_int_equal(x.s2.gpa.v, 0xfee000b0);
    assert_true(x.s2.write && !x.s2.exec && !x.s2.table_walk);
    assert_int_equal(run(SVM_EXIT_NPF, NPF_TABLE_WALK, 0x1000), VCPU_EXIT_S2_FAULT);
    assert_true(x.s2.write && x.s2.table_walk);
    assert_int_equal(run(SVM_EXIT_NPF, NPF_FETCH, 0x1000), VCPU_EXIT_S2_FAULT);
    assert_true(!x.s2.write && x.s2.exec && !x.s2.cut_event);
}

static uint64_t inj(unsigned type, unsigned vector) { return EVENTINJ_VALID | type << 8 | vector; }

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
        svm_cpu_ops.inject(v, &(struct vcpu_event){ EVENT_EXCEPTION, (uint8_t)rows[i].vector, false, 0 });
        assert_int_equal(v->rflags, rows[i].fault ? 2 | BIT64(16) : 2);
        run(SVM_EXIT_INTR, 0, 0);
    }
    svm_cpu_ops.inject(v, &(struct vcpu_event){ .type = EVENT_EXTINT, .vector = 0x40 });
    assert_int_equal(v->rflags & BIT64(16), rows[ARRAY_SIZE(rows) - 1].fault ? BIT64(16) : 0);
    svm_cpu_ops.insn_done(v);
    assert_int_equal(v->rflags, 2);
}

static void test_cut_events_are_delivered_again(void **state)
{
    (void)state;
    svm_cpu_ops.inject(v, &(struct vcpu_event){ .type = EVENT_EXTINT, .vector = 0x40 });
    assert_false(svm_cpu_ops.irq_ready(v));
    exit_int_info = inj(EVENTINJ_TYPE_INTR, 0x40);
    run(SVM_EXIT_NPF, 0, 0x5000);
    assert_true(x.s2.cut_event);
    assert_int_equal(seen_event, inj(EVENTINJ_TYPE_INTR, 0x40));
    exit_int_info = 0;
    run(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(seen_event, inj(EVENTINJ_TYPE_INTR, 0x40)); /* row A */
    run(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(seen_event, 0);
    exit_int_info = inj(EVENTINJ_TYPE_EXC, 14) | EVENTINJ_EV | 7ul << 32;
    run(SVM_EXIT_NPF, 0, 0x5000);
    assert_int_equal(b->ctl.event_inj, exit_int_info);
    static const uint64_t by_insn[] = { 0x400 | 0x80, 0x300 | 3, 0x300 | 4 }; /* row B: INT 80h, INT3, INTO */
    for (unsigned i = 0; i < 3; i++) {
        exit_int_info = EVENTINJ_VALID | by_insn[i];
        run(SVM_EXIT_NPF, 0, 0x5000);
        assert_int_equal(b->ctl.event_inj, 0);
    }
    exit_int_info = 0;
}

static void exception(uint8_t vector)
{
    svm_cpu_ops.inject(v, &(struct vcpu_event){ EVENT_EXCEPTION, vector, vector >= 8 && vector != 16, 0 });
}

static void test_double_and_triple_faults(void **state)
{
    static const struct {
        uint8_t first, second, result;
    } t[] = { { 13, 13, 8 }, { 14, 13, 8 }, { 14, 14, 8 }, { 13, 14, 14 }, { 1, 13, 13 },
              { 6, 14, 14 }, { 0, 11, 8 },  { 14, 6, 6 },  { 17, 13, 13 } };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
        b->ctl.event_inj = 0;
        exception(t[i].first), exception(t[i].second);
        assert_int_equal(b->ctl.event_inj & EVENTINJ_VECTOR, t[i].result);
    }
    b->ctl.event_inj = 0;
    unsigned before = fake_n_entries;
    exception(8), exception(13);
    svm_cpu_ops.run(v, &x);
    assert_int_equal(x.kind, VCPU_EXIT_SHUTDOWN);
    assert_int_equal(fake_n_entries, before);
}

static void test_reflected_exceptions(void **state)
{
    (void)state;
    assert_int_equal(run(SVM_EXIT_EXC(1), 0, 0), VCPU_EXIT_INTR);
    assert_int_equal(b->ctl.event_inj, inj(EVENTINJ_TYPE_EXC, 1));
    b->ctl.event_inj = 0;
    b->save.cr0 |= CR0_PE;
    assert_int_equal(run(SVM_EXIT_EXC(17), 0, 0), VCPU_EXIT_INTR);
    assert_int_equal(b->ctl.event_inj, inj(EVENTINJ_TYPE_EXC, 17) | EVENTINJ_EV);
    assert_int_equal(run(SVM_EXIT_RDPMC, 0, 0), VCPU_EXIT_INTR);
    assert_int_equal(b->ctl.event_inj & EVENTINJ_VECTOR, 13);
}

static void test_irq_window(void **state)
{
    (void)state;
    v->rflags = RFLAGS_IF | 2;
    assert_true(svm_cpu_ops.irq_ready(v));
    b->ctl.int_shadow = 1;
    assert_false(svm_cpu_ops.irq_ready(v));
    svm_cpu_ops.insn_done(v);
    assert_true(svm_cpu_ops.irq_ready(v));
    v->rflags = 2;
    assert_false(svm_cpu_ops.irq_ready(v));
    b->ctl.clean = CLEAN_ALL;
    svm_cpu_ops.irq_window_set(v, true);
    assert_true((b->ctl.vintr & VINTR_IRQ) && (b->ctl.icept3 & ICEPT3_VINTR));
    assert_int_equal(b->ctl.clean, CLEAN_ALL & ~(CLEAN_I | CLEAN_TPR));
    b->ctl.clean = CLEAN_ALL;
    svm_cpu_ops.irq_window_set(v, true);
    assert_int_equal(b->ctl.clean, CLEAN_ALL); /* nothing changed */
    assert_int_equal(run(SVM_EXIT_VINTR, 0, 0), VCPU_EXIT_IRQ_WINDOW);
    assert_false((b->ctl.vintr & VINTR_IRQ) || (b->ctl.icept3 & ICEPT3_VINTR));
}

/* An emulated instruction traps as one that the processor executes: its #DB comes before interrupts, and moves. */
static void test_emulated_instructions_trap(void **state)
{
    struct vcpu_regs r;
    (void)state;
    b->save.dr6 = 0xffff0ff3, b->save.dr7 = 0x2400;
    v->rflags = RFLAGS_IF | 2;
    assert_false(svm_cpu_ops.insn_done(v));
    assert_true(svm_cpu_ops.irq_ready(v));
    v->rflags = RFLAGS_TF | RFLAGS_IF | 2;
    b->ctl.int_shadow = 1, b->ctl.clean = CLEAN_ALL;
    assert_true(svm_cpu_ops.insn_done(v));
    assert_false(svm_cpu_ops.irq_ready(v));
    assert_false(b->ctl.clean & CLEAN_DRX);
    svm_cpu_ops.regs_get(v, &r);
    assert_int_equal(r.dr6, 0xffff4ff0);
    assert_int_equal(r.dr7, 0x400);
    assert_true(r.pending.type == EVENT_EXCEPTION && r.pending.vector == 1 && !r.irq_shadow);
    run(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(seen_event, inj(EVENTINJ_TYPE_EXC, 1));
}

static void test_nmi_blocks_until_iret_is_done(void **state)
{
    (void)state;
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_READY);
    svm_cpu_ops.inject(v, &(struct vcpu_event){ .type = EVENT_NMI, .vector = 2 });
    assert_int_equal(b->ctl.event_inj, inj(EVENTINJ_TYPE_NMI, 2));
    v->rip = 0x100;
    run(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_BLOCKED);
    assert_true(b->ctl.icept3 & ICEPT3_IRET);
    run(SVM_EXIT_IRET, 0, 0);
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_BLOCKED); /* not executed yet */
    assert_false(b->ctl.icept3 & ICEPT3_IRET);
    run(SVM_EXIT_NPF, 0, 0x3000); /* its stack was not mapped: RIP is still there */
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_BLOCKED);
    v->rip = 0x200;
    run(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_READY);
}

/* ---- an NMI that waits for an IRET ---- */

#define IRET_AT 0x100ul

/* The entry at an IRET: what the processor was given, and what the IRET does. */
static struct {
    uint64_t seen_rflags, seen_dr6;
    uint32_t seen_exc;
    uint64_t rflags, dr6; /* what it pops; breakpoints on its stack */
} iret;
static void iret_executes(struct vmcb *g, uint64_t *gpr)
{
    script(g, gpr);
    iret.seen_rflags = g->save.rflags, iret.seen_dr6 = g->save.dr6, iret.seen_exc = g->ctl.icept_exc;
    if (exit_code != SVM_EXIT_EXC(EXC_DB))
        return;
    g->save.rip = 0x200, g->save.rflags = iret.rflags;
    g->save.dr6 = (g->save.dr6 & ~DR6_HITS) | iret.dr6 | (iret.seen_rflags & RFLAGS_TF ? DR6_BS : 0);
}

static void at_iret(uint64_t rflags)
{
    struct vcpu_regs r;
    svm_cpu_ops.regs_get(v, &r);
    r.cr0 |= 1, r.dr6 = 0xffff4ff1, r.dr7 = 0x400, r.nmi_blocked = true, r.pending.type = EVENT_NONE;
    r.rip = IRET_AT, r.rflags = rflags;
    svm_cpu_ops.regs_set(v, &r);
    assert_true(b->ctl.icept3 & ICEPT3_IRET);
    run(SVM_EXIT_IRET, 0, 0);
    iret.rflags = 2, iret.dr6 = 0;
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_BLOCKED);
}

static void enter_iret(uint64_t code, uint64_t info1, uint64_t info2)
{
    fake_guest = iret_executes;
    exit_code = code, exit_info1 = info1, exit_info2 = info2;
    svm_cpu_ops.run(v, &x);
    assert_int_equal(x.kind, VCPU_EXIT_INTR);
    assert_int_equal(b->ctl.icept_exc, BIT32(1) | BIT32(17) | BIT32(18));
}

static void test_nmi_comes_right_after_iret(void **state)
{
    struct vcpu_regs r;
    (void)state;
    at_iret(2);
    enter_iret(SVM_EXIT_INTR, 0, 0); /* the host's interrupt came first */
    assert_true(iret.seen_rflags & RFLAGS_TF);
    assert_int_equal(iret.seen_exc & 0x7c00, 0x7c00);
    svm_cpu_ops.regs_get(v, &r); /* it may be moved now */
    assert_true(r.nmi_blocked && r.rip == IRET_AT && r.rflags == 2 && r.dr6 == 0xffff4ff1);
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_BLOCKED);
    enter_iret(SVM_EXIT_EXC(EXC_DB), 0, 0);
    assert_true(iret.seen_rflags & RFLAGS_TF);
    assert_int_equal(iret.seen_dr6 & DR6_BS, 0);
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_READY);
    svm_cpu_ops.regs_get(v, &r);
    assert_true(!r.nmi_blocked && r.rip == 0x200 && r.rflags == 2 && r.dr6 == 0xffff4ff1);
    at_iret(2);
    iret.rflags = RFLAGS_TF | 2; /* back to code that a debugger steps: its trap is not ours */
    enter_iret(SVM_EXIT_EXC(EXC_DB), 0, 0);
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_READY);
    assert_int_equal(v->rflags, RFLAGS_TF | 2);
    run(SVM_EXIT_INTR, 0, 0);
    at_iret(2);
    iret.dr6 = 2, b->save.dr7 = 0x400 | BIT64(2) | 3u << 20; /* its stack is watched */
    enter_iret(SVM_EXIT_EXC(EXC_DB), 0, 0);
    assert_int_equal(b->ctl.event_inj, inj(EVENTINJ_TYPE_EXC, 1));
    assert_int_equal(b->save.dr6, 0xffff4ff2);
    unsigned before = fake_n_interrupts_self;
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_WAITS);
    run(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(fake_n_interrupts_self, before + 1); /* ends the run after the #DB's delivery */
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_READY);
}

/* Nothing that the IRET's delivery pushes may have our TF. */
static void test_events_at_an_iret(void **state)
{
    (void)state;
    at_iret(2);
    enter_iret(SVM_EXIT_EXC(EXC_PF), 2, 0xdead000);
    assert_int_equal(b->ctl.event_inj, inj(EVENTINJ_TYPE_EXC, 14) | EVENTINJ_EV | 2ul << 32);
    assert_int_equal(b->save.cr2, 0xdead000);
    assert_int_equal(v->rflags, RFLAGS_RF | 2);
    assert_true(b->ctl.icept3 & ICEPT3_IRET); /* the handler's, or this one again */
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_BLOCKED);
    run(SVM_EXIT_INTR, 0, 0);
    at_iret(RFLAGS_IF | 2);
    unsigned before = fake_n_interrupts_self;
    svm_cpu_ops.inject(v, &(struct vcpu_event){ .type = EVENT_EXTINT, .vector = 0x40 });
    enter_iret(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(iret.seen_rflags & RFLAGS_TF, 0);
    assert_int_equal(fake_n_interrupts_self, before + 1);
    assert_true(b->ctl.icept3 & ICEPT3_IRET);
    at_iret(RFLAGS_NT | 2); /* perhaps a task switch, which saves RFLAGS */
    enter_iret(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(iret.seen_rflags & RFLAGS_TF, 0);
    at_iret(RFLAGS_TF | 2); /* the guest's own */
    enter_iret(SVM_EXIT_EXC(EXC_DB), 0, 0);
    assert_int_equal(b->ctl.event_inj, inj(EVENTINJ_TYPE_EXC, 1));
    assert_true(b->save.dr6 & DR6_BS);
    assert_int_equal(svm_cpu_ops.nmi_state(v), NMI_WAITS);
}

static void test_tlb_rules(void **state)
{
    (void)state;
    run(SVM_EXIT_INTR, 0, 0);
    uint32_t asid = seen_asid;
    assert_in_range(asid, 1, 3);
    run(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(seen_asid, asid);
    assert_int_equal(seen_tlb, TLB_CONTROL_NONE);
    s2_flush(&vm);
    for (unsigned i = 0, full = 0; i < 9; i++) { /* without FLUSH_ASID each flush takes a new one; 3 there are */
        run(SVM_EXIT_INTR, 0, 0);
        assert_true(seen_asid != asid || seen_tlb == TLB_CONTROL_FLUSH_ALL);
        assert_in_range(seen_asid, 1, 3);
        full += seen_tlb == TLB_CONTROL_FLUSH_ALL;
        asid = seen_asid;
        i & 1 ? (void)(v->tlb_flush = true) : s2_flush(&vm);
        if (i == 8)
            assert_int_equal(full, 3);
    }
    cpu_caps.flush_by_asid = true;
    run(SVM_EXIT_INTR, 0, 0);
    asid = seen_asid;
    s2_flush(&vm);
    run(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(seen_asid, asid);
    assert_int_equal(seen_tlb, TLB_CONTROL_FLUSH_ASID);
    run(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(seen_tlb, TLB_CONTROL_NONE);
}

static void test_another_pcpu_trusts_nothing(void **state)
{
    (void)state;
    cpu_caps.vmcb_clean = true;
    run(SVM_EXIT_INTR, 0, 0);
    run(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(seen_clean, CLEAN_ALL);
    svm_cpu_ops.vcpu_unload(v);
    svm_cpu_ops.vcpu_load(v); /* same pCPU: still clean */
    run(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(seen_clean, CLEAN_ALL);
    uint32_t asid = seen_asid;
    svm_cpu_ops.vcpu_unload(v);
    fake_pcpu.index = 1;
    svm_cpu_ops.vcpu_load(v);
    run(SVM_EXIT_INTR, 0, 0);
    assert_int_equal(seen_clean, 0);
    svm_cpu_ops.vcpu_unload(v);
    fake_pcpu.index = 0;
    svm_cpu_ops.vcpu_load(v);
    run(SVM_EXIT_INTR, 0, 0);
    assert_true(seen_asid != asid || seen_tlb == TLB_CONTROL_FLUSH_ALL); /* what the first visit left behind is stale */
}

static bool passes(uint32_t msr, bool write)
{
    unsigned bit = (msr >= 0xc0010000 ? 2u : msr >= 0xc0000000 ? 1u : 0u) * 0x4000 + (msr & 0x1fff) * 2 + write;
    return !(svm_perm_maps.msrpm[bit / 8] >> bit % 8 & 1);
}

static void test_msrs(void **state)
{
    static const uint32_t pass[] = { 0x174,      0x175,      0x176,      0xc0000081, 0xc0000082,
                                     0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102 };
    unsigned n = 0;
    uint64_t val;
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(pass); i++)
        assert_true(passes(pass[i], false) && passes(pass[i], true));
    for (uint32_t m = 0; m < 0x2000; m++)
        for (unsigned w = 0; w < 2; w++)
            n += passes(m, w) + passes(0xc0000000 + m, w) + passes(0xc0010000 + m, w);
    assert_int_equal(n, 2 * ARRAY_SIZE(pass));
    assert_int_equal(svm_cpu_ops.msr_set(v, 0xc0000080, 0xd01), HV_OK);
    assert_int_equal(svm_cpu_ops.msr_get(v, 0xc0000080, &val), HV_OK);
    assert_int_equal(val, 0x901); /* LMA is the processor's; SVME is hidden */
    assert_int_equal(b->save.efer, 0x901 | EFER_SVME);
    b->ctl.clean = CLEAN_ALL;
    assert_int_equal(svm_cpu_ops.msr_set(v, 0x277, 0x0606060606060606), HV_OK);
    assert_int_equal(b->save.g_pat, 0x0606060606060606);
    assert_false(b->ctl.clean & CLEAN_NP);
    assert_int_equal(svm_cpu_ops.msr_set(v, 0xc0000103, 42), HV_OK);
    assert_int_equal(fake_msr_tsc_aux, 42);
    assert_int_equal(svm_cpu_ops.msr_get(v, 0x10, &val), HV_E_NOENT);
    assert_int_equal(svm_cpu_ops.msr_set(v, 0x1b, 0), HV_E_NOENT);
}

static void test_tsc_scaling(void **state)
{
    (void)state;
    svm_cpu_ops.tsc_set(v, 0, -9); /* no such register on this processor: the fake would abort */
    assert_int_equal(b->ctl.tsc_offset, (uint64_t)-9);
    svm_cpu_ops.vcpu_unload(v);
    fake_cpuid_svm.edx |= BIT32(4);
    probe_and_enable();
    assert_int_equal(cpu_caps.tsc_frac_bits, 32);
    svm_cpu_ops.tsc_set(v, 3 * BIT64(31), 7); /* 1.5 */
    fake_msr_tsc_ratio = 1;                   /* another guest's, still */
    svm_cpu_ops.vcpu_load(v);
    assert_int_equal(fake_msr_tsc_ratio, 3 * BIT64(31));
    b->ctl.clean = CLEAN_ALL;
    svm_cpu_ops.tsc_set(v, 0, 8);
    assert_int_equal(fake_msr_tsc_ratio, BIT64(32)); /* 1.0, not 0 */
    assert_int_equal(b->ctl.tsc_offset, 8);
    assert_false(b->ctl.clean & CLEAN_I);
}

/* ---- what the guest's CPUID does not show ---- */

#define CR4_PAE      BIT64(5)
#define CR4_PGE      BIT64(7)
#define CR4_FSGSBASE BIT64(16)
#define CR4_PCIDE    BIT64(17)
#define CR4_OSXSAVE  BIT64(18)
#define CR4_SMEP     BIT64(20)

/* A guest that is shown XSAVE, PCID and SMEP. */
static void cpuid_made_up(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    (void)subleaf;
    memset(out, 0, 16);
    switch (leaf) {
    case 0: out[CPUID_EAX] = 7; break;
    case 1: out[CPUID_ECX] = BIT32(17) | BIT32(26); break;
    case 7: out[CPUID_EBX] = BIT32(7); break;
    }
}

static void begin_features(uint32_t leaf_7_ebx)
{
    static struct cpuid_table shown;
    cpuid_build(&shown, cpuid_made_up, 1, 1000000000);
    vm.cpuid = &shown;
    fake_cpuid_1.ecx = BIT32(17) | BIT32(26);
    fake_cpuid_7.ebx = leaf_7_ebx;
    svm_cpu_ops.vcpu_unload(v);
    svm_cpu_ops.vcpu_load(v);
}

static void end_features(void)
{
    fake_cpuid_1.ecx = fake_cpuid_7.ebx = 0;
    vm.cpuid = NULL;
}

static void test_intercepts_follow_the_guests_cpuid(void **state)
{
    (void)state;
    assert_false(b->ctl.icept5 || (b->ctl.icept4 & ICEPT4_RDTSCP));
    svm_cr0_put(to_svm(v), CR0_PE);
    begin_features(BIT32(7)); /* the processor has no bit of CR4 beyond what the guest may know of */
    assert_int_equal(b->ctl.icept_cr_write, ICEPT_CR4); /* but QEMU's takes all others as well */
    assert_int_equal(b->ctl.icept5, 0);                 /* no INVPCID: nothing to intercept */
    assert_true(b->ctl.icept4 & ICEPT4_RDTSCP);
    to_svm(v)->features_masked = false;
    begin_features(BIT32(0) | BIT32(7) | BIT32(10));
    assert_int_equal(b->ctl.icept_cr_write, ICEPT_CR4); /* FSGSBASE */
    assert_int_equal(b->ctl.icept5, ICEPT5_INVPCID);
    assert_int_equal(run(SVM_EXIT_RDTSCP, 0, 0), VCPU_EXIT_UD);
    assert_int_equal(run(SVM_EXIT_INVPCID, 0, 0), VCPU_EXIT_UD);
    end_features();
}

/* Execute MOV CR4, RAX: carried out? */
static bool cr4_write(uint64_t val)
{
    uint64_t old = b->save.cr4;
    b->ctl.event_inj = 0;
    v->rip = 0x1000;
    v->gpr[GPR_RAX] = val;
    assert_int_equal(run(SVM_EXIT_CR4_WRITE, 0, 0), VCPU_EXIT_INTR);
    if (v->rip == 0x1003) {
        assert_int_equal(b->save.cr4, val | CR4_MCE);
        return true;
    }
    assert_int_equal(v->rip, 0x1000);
    assert_int_equal(b->save.cr4, old);
    assert_int_equal(b->ctl.event_inj, EVENTINJ_VALID | EVENTINJ_EV | EVENTINJ_TYPE_EXC << 8 | 13);
    return false;
}

static void test_cr4_writes(void **state)
{
    struct vcpu_regs r;
    (void)state;
    begin_features(BIT32(0) | BIT32(7));
    code_at_rip("\x0f\x22\xe0", 3);
    svm_cpu_ops.regs_get(v, &r);
    r.cr0 = 0x11, r.cr4 = 0, r.efer = 0, r.seg[SEG_CS].ar = 0xc09b; /* paging off: an address is its own translation */
    svm_cpu_ops.regs_set(v, &r);
    assert_true(cr4_write(CR4_PAE));
    v->tlb_flush = false, b->ctl.clean = CLEAN_ALL;
    assert_true(cr4_write(CR4_PAE | CR4_OSXSAVE));
    assert_false(v->tlb_flush || (b->ctl.clean & CLEAN_CRX));
    assert_true(cr4_write(CR4_PAE | CR4_OSXSAVE | CR4_SMEP | CR4_PGE));
    assert_true(v->tlb_flush);
    assert_false(cr4_write(CR4_PAE | CR4_FSGSBASE)); /* the processor has it, the guest's CPUID does not */
    assert_false(cr4_write(CR4_PAE | BIT64(13)));
    assert_false(cr4_write(CR4_PAE | CR4_PCIDE)); /* in long mode only */
    b->save.efer |= EFER_LMA | EFER_LME;          /* (CS.L is 0: compatibility mode) */
    b->save.cr3 = 0x5018;
    assert_false(cr4_write(CR4_PAE | CR4_PCIDE)); /* CR3 names a PCID already */
    b->save.cr3 = 0x5000;
    assert_true(cr4_write(CR4_PAE | CR4_PCIDE));
    b->save.cr3 = 0x5018;
    assert_true(cr4_write(CR4_PAE | CR4_PCIDE | CR4_OSXSAVE)); /* it stays set */
    assert_false(cr4_write(CR4_PCIDE));                        /* long mode needs PAE */
    b->save.efer &= ~(EFER_LMA | EFER_LME);
    code_at_rip("\x90", 1); /* another vCPU has changed the code: try again */
    b->ctl.event_inj = 0;
    assert_int_equal(run(SVM_EXIT_CR4_WRITE, 0, 0), VCPU_EXIT_INTR);
    assert_int_equal(v->rip, 0x1000);
    assert_int_equal(b->ctl.event_inj, 0);
    end_features();
}

/* ---- what the guest sees of CR0 and CR4 ---- */

static uint64_t guest_cr(unsigned cr)
{
    uint64_t cr0, cr3, cr4, efer;
    unsigned cpl;
    svm_cpu_ops.paging_get(v, &cr0, &cr3, &cr4, &efer, &cpl);
    return cr ? cr4 : cr0;
}

/* Execute an instruction that exits with this code: carried out? */
static bool cr_insn(const char *insn, uint64_t code, uint64_t rax)
{
    code_at_rip(insn, 3);
    b->ctl.event_inj = 0;
    v->rip = 0x1000;
    v->gpr[GPR_RAX] = rax;
    assert_int_equal(run(code, 0, 0), VCPU_EXIT_INTR);
    if (v->rip == 0x1003)
        return true;
    assert_int_equal(v->rip, 0x1000);
    return false;
}
#define MOV_TO_CR0   "\x0f\x22\xc0"
#define MOV_FROM_CR0 "\x0f\x20\xc0"
#define MOV_TO_CR4   "\x0f\x22\xe0"
#define MOV_FROM_CR4 "\x0f\x20\xe0"
#define SMSW_EAX     "\x0f\x01\xe0"
#define CD_NW        (CR0_CD | CR0_NW)

static void begin_cr(uint64_t cr0, uint64_t cr4)
{
    struct vcpu_regs r;
    begin_features(BIT32(7));
    svm_cpu_ops.regs_get(v, &r);
    r.cr0 = cr0, r.cr4 = cr4, r.efer = 0, r.seg[SEG_CS].ar = 0xc09b;
    svm_cpu_ops.regs_set(v, &r);
}

/* Without it a machine check would shut the processor down while the guest runs. */
static void test_cr4_mce_is_the_hosts(void **state)
{
    (void)state;
    begin_cr(0x11, CR4_PAE);
    assert_int_equal(b->save.cr4, CR4_PAE | CR4_MCE);
    assert_int_equal(guest_cr(4), CR4_PAE);
    assert_true(b->ctl.icept_cr_read & ICEPT_CR4);
    assert_true(cr_insn(MOV_FROM_CR4, SVM_EXIT_CR4_READ, 0));
    assert_int_equal(v->gpr[GPR_RAX], CR4_PAE);
    b->ctl.clean = CLEAN_ALL;
    assert_true(cr_insn(MOV_TO_CR4, SVM_EXIT_CR4_WRITE, CR4_PAE | CR4_MCE));
    assert_int_equal(guest_cr(4), CR4_PAE | CR4_MCE);
    assert_false(b->ctl.icept_cr_read & ICEPT_CR4); /* it reads what is there */
    assert_false(b->ctl.clean & CLEAN_I);
    assert_true(cr_insn(MOV_TO_CR4, SVM_EXIT_CR4_WRITE, CR4_PAE));
    assert_int_equal(b->save.cr4, CR4_PAE | CR4_MCE);
    assert_int_equal(guest_cr(4), CR4_PAE);
    assert_true(b->ctl.icept_cr_read & ICEPT_CR4);
    end_features();
}

/* A guest that turns its cache off, as Linux does when it writes MTRRs. */
static void test_cr0_cd_has_no_effect(void **state)
{
    (void)state;
    begin_cr(0x11, 0);
    assert_true(b->ctl.icept3 & ICEPT3_CR0_SEL);
    assert_false((b->ctl.icept_cr_read | b->ctl.icept_cr_write) & ICEPT_CR0);
    assert_true(cr_insn(MOV_TO_CR0, SVM_EXIT_CR0_SEL, 0x11 | CD_NW));
    assert_int_equal(b->save.cr0, 0x11);
    assert_int_equal(guest_cr(0), 0x11 | CD_NW);
    assert_true(b->ctl.icept_cr_read & b->ctl.icept_cr_write & ICEPT_CR0);
    assert_true(cr_insn(MOV_FROM_CR0, SVM_EXIT_CR0_READ, 0));
    assert_int_equal(v->gpr[GPR_RAX], 0x11 | CD_NW);
    assert_true(cr_insn(MOV_TO_CR0, SVM_EXIT_CR0_WRITE, 0x11)); /* the real register does not change */
    assert_int_equal(guest_cr(0), 0x11);
    assert_false((b->ctl.icept_cr_read | b->ctl.icept_cr_write) & ICEPT_CR0);
    end_features();
}

static void test_cr0_state_moves_with_cd(void **state)
{
    struct vcpu_regs r;
    (void)state;
    begin_cr(0x11 | CD_NW, 0);
    svm_cpu_ops.regs_get(v, &r);
    assert_int_equal(r.cr0, 0x11 | CD_NW);
    assert_int_equal(r.cr4, 0);
    assert_int_equal(b->save.cr0, 0x11);
    end_features();
}

/* SMSW, LMSW and CLTS: the processor executes them with the guest's own CR0, for the rest of this slice. */
static void test_cr0_by_other_instructions(void **state)
{
    (void)state;
    begin_cr(0x11 | CR0_CD, 0);
    assert_false(cr_insn(SMSW_EAX, SVM_EXIT_CR0_READ, 0));
    assert_int_equal(b->ctl.event_inj, 0);
    assert_int_equal(b->save.cr0, 0x11 | CR0_CD);
    assert_false((b->ctl.icept_cr_read | b->ctl.icept_cr_write) & ICEPT_CR0);
    assert_false(b->ctl.icept3 & ICEPT3_CR0_SEL);
    b->save.cr0 |= CR0_TS; /* by LMSW */
    assert_int_equal(guest_cr(0), 0x11 | CR0_CD | CR0_TS);
    svm_cpu_ops.vcpu_unload(v);
    svm_cpu_ops.vcpu_load(v);
    assert_int_equal(b->save.cr0, 0x11 | CR0_TS);
    assert_int_equal(guest_cr(0), 0x11 | CR0_CD | CR0_TS);
    assert_true(b->ctl.icept3 & ICEPT3_CR0_SEL);
    assert_false(cr_insn(SMSW_EAX, SVM_EXIT_CR0_WRITE, 0)); /* likewise, as if LMSW */
    assert_int_equal(b->save.cr0, 0x11 | CR0_CD | CR0_TS);
    end_features();
}

static void test_cr0_rules(void **state)
{
    (void)state;
    begin_cr(0x11, CR4_PAE);
    const uint64_t gp = EVENTINJ_VALID | EVENTINJ_EV | EVENTINJ_TYPE_EXC << 8 | 13;
#define CR0_REFUSED(val)                                      \
    assert_false(cr_insn(MOV_TO_CR0, SVM_EXIT_CR0_SEL, val)); \
    assert_int_equal(b->ctl.event_inj, gp)
    CR0_REFUSED(CR0_PG);          /* without PE */
    CR0_REFUSED(CR0_PE | CR0_NW); /* without CD */
    b->save.efer |= EFER_LME;
    v->tlb_flush = false;
    assert_true(cr_insn(MOV_TO_CR0, SVM_EXIT_CR0_SEL, CR0_PG | CR0_PE));
    assert_int_equal(b->save.cr0, CR0_PG | CR0_PE | CR0_ET);
    assert_true(b->save.efer & EFER_LMA);
    assert_true(v->tlb_flush);
    b->save.cr0 &= ~CR0_PG;
    b->save.cr4 &= ~CR4_PAE;
    CR0_REFUSED(CR0_PE | CR0_PG); /* long mode without PAE */
    end_features();
}

/* One rule broken at a time: the checker names that field, and nothing else is wrong. */
static void test_vmcb_check(void **state)
{
    char why[160];
    struct vmcb good;
    (void)state;
    run(SVM_EXIT_INTR, 0, 0);
    good = *b;
    good.save.efer = EFER_SVME | 0x501, good.save.cr0 = 0x80050033, good.save.cr4 = 0x6f0, good.save.cs.attr = 0xa9b,
    good.save.cr3 = 0x1000;
    good.ctl.iopm_pa = 0x10000, good.ctl.msrpm_pa = 0x20000, good.ctl.n_cr3 = 0x30000;
    if (!svm_vmcb_check(&good, 40, 16, 0x7ff, WHY(why)))
        fail_msg("%s", why);
#define BREAK(change, names)                                         \
    do {                                                             \
        struct vmcb bad = good;                                      \
        bad.change;                                                  \
        assert_false(svm_vmcb_check(&bad, 40, 16, 0x7ff, WHY(why))); \
        if (strncmp(why, names, strlen(names)))                      \
            fail_msg("%s broken, but: %s", #change, why);            \
    } while (0)
    BREAK(ctl.icept4 &= ~ICEPT4_VMRUN, "intercept");
    BREAK(ctl.asid = 0, "ASID");
    BREAK(ctl.asid = 16, "ASID");
    BREAK(ctl.iopm_pa = BIT64(40) - 0x2000, "IOPM");
    BREAK(ctl.msrpm_pa = BIT64(40), "MSRPM");
    BREAK(ctl.n_cr3 = BIT64(40), "N_CR3");
    BREAK(ctl.tlb_control = 9, "TLB_CONTROL");
    BREAK(ctl.event_inj = inj(EVENTINJ_TYPE_EXC, 2), "EVENTINJ");
    BREAK(ctl.event_inj = inj(EVENTINJ_TYPE_EXC, 32), "EVENTINJ");
    BREAK(ctl.event_inj = inj(1, 5), "EVENTINJ");
    BREAK(save.efer &= ~EFER_SVME, "EFER");
    BREAK(save.efer |= BIT64(40), "EFER");
    BREAK(save.cr0 |= BIT64(29), "CR0");
    BREAK(save.cr0 |= BIT64(32), "CR0");
    BREAK(save.cr0 &= ~1ul, "CR0");
    BREAK(save.cr3 = BIT64(45), "CR3");
    BREAK(save.cr4 |= BIT64(40), "CR4");
    BREAK(save.cr4 |= BIT64(12), "CR4"); /* LA57, which this processor does not have */
    BREAK(save.efer &= ~BIT64(10), "EFER");
    BREAK(save.cr4 &= ~BIT64(5), "CR4");
    BREAK(save.cs.attr |= 0x400, "CS");
    BREAK(save.dr6 |= BIT64(32), "DR6");
    BREAK(save.dr7 |= BIT64(33), "DR7");
    BREAK(save.g_pat = 2, "G_PAT");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_probe_says_why),
                                        T(test_power_on_state),
                                        T(test_state_round_trip),
                                        T(test_run_moves_state),
                                        T(test_exit_kinds),
                                        T(test_resume_flag),
                                        T(test_cut_events_are_delivered_again),
                                        T(test_double_and_triple_faults),
                                        T(test_reflected_exceptions),
                                        T(test_irq_window),
                                        T(test_emulated_instructions_trap),
                                        T(test_nmi_blocks_until_iret_is_done),
                                        T(test_nmi_comes_right_after_iret),
                                        T(test_events_at_an_iret),
                                        T(test_tlb_rules),
                                        T(test_another_pcpu_trusts_nothing),
                                        T(test_msrs),
                                        T(test_tsc_scaling),
                                        T(test_intercepts_follow_the_guests_cpuid),
                                        T(test_cr4_writes),
                                        T(test_cr4_mce_is_the_hosts),
                                        T(test_cr0_cd_has_no_effect),
                                        T(test_cr0_state_moves_with_cd),
                                        T(test_cr0_by_other_instructions),
                                        T(test_cr0_rules),
                                        T(test_vmcb_check) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
