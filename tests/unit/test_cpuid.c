/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_cpuid.c - the CPUID policy: features that are always hidden or always shown, consistent sizes,
 * comparison of hosts; and the MSR rules. */
/* unit-sources: kernel/dev/devices.c kernel/dev/io_bus.c kernel/dev/pci_guest.c kernel/dev/virtio_pci.c
 *   kernel/dev/virtq.c kernel/dev/vdev.c kernel/dev/vdev_rng.c kernel/dev/vdev_net.c kernel/dev/vdev_blk.c
 *   kernel/dev/disk_ram.c kernel/dev/vdev_console.c kernel/dev/vdev_balloon.c kernel/dev/lapic.c kernel/dev/ioapic.c
 *   kernel/dev/pic.c kernel/dev/pit.c kernel/dev/rtc.c kernel/dev/pm.c kernel/dev/uart.c kernel/dev/pvclock.c
 *   kernel/dev/steal_time.c kernel/core/cpuid.c kernel/dev/msr.c kernel/run/exit.c kernel/lib/err.c kernel/lib/print.c
 *   kernel/core/vcpu.c kernel/core/vm.c tests/fakes/machine.c tests/fakes/service.c tests/fakes/log.c
 *   tests/fakes/page.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/machine_check.h"
#include "kernel/run/exit.h"
#include "tests/fakes/machine.h"

static uint32_t hide_leaf7_ebx;
static uint32_t vendor_ebx = 0x68747541; /* "Auth" */

/* A processor that has everything, also what we must not show. */
static void everything(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    for (unsigned i = 0; i < 4; i++)
        out[i] = 0xffffffff;
    if (leaf == 0)
        out[CPUID_EAX] = 0x1f, out[CPUID_EBX] = vendor_ebx, out[CPUID_ECX] = 0x444d4163, out[CPUID_EDX] = 0x69746e65;
    if (leaf == 7)
        out[CPUID_EBX] &= ~hide_leaf7_ebx;
    if (leaf == 0xd && sub == 0)
        out[CPUID_EAX] = 0x2ff, out[CPUID_EDX] = 0;
    if (leaf == 0xd && sub == 2)
        out[CPUID_EAX] = 256, out[CPUID_EBX] = 576;
    if (leaf == 0xd && sub == 5)
        out[CPUID_EAX] = 64, out[CPUID_EBX] = 1088;
    if (leaf == 0xd && sub == 6)
        out[CPUID_EAX] = 512, out[CPUID_EBX] = 1152;
    if (leaf == 0xd && sub == 7)
        out[CPUID_EAX] = 1024, out[CPUID_EBX] = 1664;
    if (leaf == 0x80000000)
        out[CPUID_EAX] = 0x80000020;
    if (leaf == 0x80000008)
        out[CPUID_EAX] = 0x3030;
    if (leaf == 4)
        out[CPUID_EAX] = sub < 3 ? 0x3c000001 | (sub + 1) << 5 : 0;
}
/* A processor that has nothing but long mode. */
static void nothing(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    (void)sub;
    memset(out, 0, 16);
    if (leaf == 0)
        out[CPUID_EAX] = 1, out[CPUID_EBX] = vendor_ebx, out[CPUID_ECX] = 0x444d4163, out[CPUID_EDX] = 0x69746e65;
    if (leaf == 0x80000000)
        out[CPUID_EAX] = 0x80000008;
    if (leaf == 0x80000008)
        out[CPUID_EAX] = 0x3024;
}

static struct cpuid_table t, u;
static char reasons[20000];
static void add_reason(void *ctx, const char *text)
{
    (void)ctx;
    strcat(strcat(reasons, text), "\n");
}

static void test_never_and_always(void **state)
{
    static const struct {
        uint32_t leaf;
        enum cpuid_reg reg;
        unsigned bit;
    } never[] = {
        /* MONITOR, VMX */
        { 1, CPUID_ECX, 3 },
        { 1, CPUID_ECX, 5 },
        { 0x80000001, CPUID_ECX, 2 },
        { 0x80000001, CPUID_ECX, 22 },
        { 7, CPUID_ECX, 3 },
        { 7, CPUID_EDX, 26 },
        /* PKRU component */
        { 7, CPUID_EDX, 29 },
        { 0xd, CPUID_EAX, 9 },
    };
    static const struct {
        uint32_t leaf;
        enum cpuid_reg reg;
        unsigned bit;
    } always[] = {
        { 1, CPUID_ECX, 21 }, { 1, CPUID_ECX, 24 },         { 1, CPUID_ECX, 31 }, { 1, CPUID_EDX, 9 },
        { 6, CPUID_EAX, 2 },  { 0x40000001, CPUID_EAX, 3 }, { 7, CPUID_EBX, 1 },
    };
    (void)state;
    cpuid_build(&t, everything, 4, 3000000000);
    for (unsigned i = 0; i < ARRAY_SIZE(never); i++)
        assert_false(cpuid_has(&t, never[i].leaf, 0, never[i].reg, never[i].bit));
    assert_null(cpuid_find(&t, 5, 0));
    assert_null(cpuid_find(&t, 0xa, 0));
    assert_null(cpuid_find(&t, 0x80000007, 0));
    assert_null(cpuid_find(&t, 0x8000000a, 0));
    assert_false(cpuid_has(&t, 0xd, 1, CPUID_EAX, 3)); /* XSAVES */
    cpuid_build(&u, nothing, 4, 3000000000);
    for (unsigned i = 0; i < ARRAY_SIZE(always); i++) {
        assert_true(cpuid_has(&t, always[i].leaf, 0, always[i].reg, always[i].bit));
        assert_true(cpuid_has(&u, always[i].leaf, 0, always[i].reg, always[i].bit));
    }
    assert_int_equal(u.xcr0_allowed, 1);
    assert_int_equal(cpuid_phys_bits(&u), 36);
}

static void test_xsave_sizes_agree(void **state)
{
    (void)state;
    cpuid_build(&t, everything, 1, 3000000000);
    assert_int_equal(t.xcr0_allowed, 0xe7);
    assert_int_equal(t.xsave_bytes, 2688);
    assert_int_equal(cpuid_find(&t, 0xd, 0)->reg[CPUID_ECX], 2688);
    assert_int_equal(cpuid_xsave_bytes(&t, 3), 576);
    assert_int_equal(cpuid_xsave_bytes(&t, 7), 832);
    static const uint64_t good[] = { 1, 3, 7, 0xe7 }, bad[] = { 0, 2, 5, 4, 0x27, 0x67, 0xe3, 0x1e7, 0x207 };
    for (unsigned i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(cpuid_xcr0_ok(&t, good[i]));
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(cpuid_xcr0_ok(&t, bad[i]));
}

static void test_bytes(void **state)
{
    uint8_t buf[4096];
    (void)state;
    cpuid_build(&t, everything, 8, 2500000000);
    struct wr w = wr_init(buf, sizeof(buf));
    cpuid_save(&t, &w);
    assert_false(w.bad);
    struct rd r = rd_init(buf, w.len);
    assert_int_equal(cpuid_load(&u, &r), HV_OK);
    assert_memory_equal(&t, &u, sizeof(t));
    for (size_t n = 0; n < w.len; n++) {
        r = rd_init(buf, n);
        assert_int_equal(cpuid_load(&u, &r), HV_E_PROTO);
    }
}

static void test_comparison_names_every_missing_bit(void **state)
{
    (void)state;
    cpuid_build(&t, everything, 1, 3000000000);
    assert_int_equal(cpuid_check(&t, &t, add_reason, NULL), 0);
    hide_leaf7_ebx = BIT32(5) | BIT32(20);
    cpuid_build(&u, everything, 1, 3000000000);
    hide_leaf7_ebx = 0;
    reasons[0] = 0;
    assert_int_equal(cpuid_check(&u, &t, add_reason, NULL), 2);
    assert_string_equal(reasons, "this host's processor lacks 2 features that the guest was promised: avx2, smap\n");
    assert_int_equal(cpuid_check(&t, &u, add_reason, NULL), 0); /* the other way is fine */
    cpuid_build(&u, nothing, 1, 3000000000);
    reasons[0] = 0;
    assert_true(cpuid_check(&u, &t, add_reason, NULL) > 50);
    assert_non_null(strstr(reasons, "physical address bits"));
    assert_null(strstr(reasons, "does not know")); /* every bit that we show has a name */
    vendor_ebx = 0x756e6547;
    cpuid_build(&u, everything, 1, 3000000000);
    vendor_ebx = 0x68747541;
    reasons[0] = 0;
    assert_true(cpuid_check(&u, &t, add_reason, NULL) >= 1);
    assert_non_null(strstr(reasons, "vendor"));
}

static struct machine m;
static void ask(struct vcpu *v, uint32_t leaf, uint32_t sub)
{
    v->gpr[GPR_RAX] = leaf, v->gpr[GPR_RCX] = sub | UINT64_C(0xabc00000000);
    exit_handle(v, &(struct vcpu_exit){ .kind = VCPU_EXIT_CPUID, .insn_len = 2 });
}

static void test_exit_and_topology(void **state)
{
    (void)state;
    machine_init(&m, 4, 16 * MIB);
    struct vcpu *v = m.vm.vcpus[3];
    uint64_t rip = v->rip;
    ask(v, 1, 0);
    assert_int_equal(v->rip, rip + 2);
    assert_int_equal(v->gpr[GPR_RBX] >> 24, 3);
    assert_int_equal(v->gpr[GPR_RBX] >> 16 & 0xff, 4);
    assert_true(v->gpr[GPR_RDX] & BIT32(28));
    assert_false(v->gpr[GPR_RCX] & BIT32(27));
    m.regs[3].cr4 |= BIT64(18);
    ask(v, 1, 0);
    assert_true(v->gpr[GPR_RCX] & BIT32(27));
    ask(v, 0xb, 1);
    assert_int_equal(v->gpr[GPR_RAX], 2);
    assert_int_equal(v->gpr[GPR_RBX], 4);
    assert_int_equal(v->gpr[GPR_RDX], 3);
    ask(v, 0xb, 2);
    assert_int_equal(v->gpr[GPR_RCX], 2);
    assert_int_equal(v->gpr[GPR_RDX], 3);
    ask(v, 0x77777777, 0);
    assert_int_equal(v->gpr[GPR_RAX] | v->gpr[GPR_RBX] | v->gpr[GPR_RCX] | v->gpr[GPR_RDX], 0);
    machine_fini(&m);
}

static void test_msrs(void **state)
{
    uint64_t val;
    (void)state;
    machine_init(&m, 1, 16 * MIB);
    struct vcpu *v = m.vm.vcpus[0];
    assert_int_equal(msr_write(v, 0xc0000080, 0x1500), HV_E_GUEST); /* EFER.SVME */
    assert_int_equal(msr_write(v, 0xc0000080, 0x100), HV_OK);
    m.regs[0].cr0 |= BIT64(31);
    assert_int_equal(msr_write(v, 0xc0000080, 0x000), HV_E_GUEST); /* LME while paging */
    assert_int_equal(msr_write(v, 0xc0000082, UINT64_C(0x800000000000)), HV_E_GUEST);
    assert_int_equal(msr_write(v, 0xc0000082, UINT64_C(0xffff800000000000)), HV_OK);
    assert_int_equal(msr_read(v, 0x2ff, &val), HV_OK);
    assert_int_equal(val, 0x806);
    assert_int_equal(msr_write(v, 0x2ff, 0x802), HV_E_GUEST); /* no memory type 2 */
    assert_int_equal(msr_write(v, 0x250, 0x0606060606060603), HV_E_GUEST);
    assert_int_equal(msr_read(v, 0x12345, &val), HV_E_GUEST);
    v->gpr[GPR_RCX] = 0x12345;
    uint64_t rip = v->rip;
    exit_handle(v, &(struct vcpu_exit){ .kind = VCPU_EXIT_MSR, .insn_len = 2 });
    assert_int_equal(m.injected.vector, 13);
    assert_int_equal(v->rip, rip);
    assert_int_equal(m.vm.devices->unhandled.n_seen[IO_UNHANDLED_MSR], 2);
    for (unsigned i = 0; i < 100; i++)
        (void)!msr_read(v, 0x20000 + i, &val);
    assert_int_equal(m.vm.devices->unhandled.n_seen[IO_UNHANDLED_MSR], IO_UNHANDLED_MAX);
    machine_fini(&m);
}

static uint64_t msr_of(struct vcpu *v, uint32_t msr)
{
    uint64_t val = 0xdead;
    assert_int_equal(msr_read(v, msr, &val), HV_OK);
    return val;
}

/* What KVM shows: 10 banks without an error, whose registers keep what may be written. */
static void test_virtual_machine_check(void **state)
{
    uint64_t val;
    (void)state;
    machine_init(&m, 2, 16 * MIB);
    struct vcpu *v = m.vm.vcpus[0];
    assert_int_equal(msr_of(v, 0x179), 0x100010a);
    assert_int_equal(msr_of(v, 0x17a), 0);
    assert_int_equal(msr_of(v, 0x17b), UINT64_MAX);
    for (uint32_t bank = 0x400; bank < 0x428; bank++)
        assert_int_equal(msr_of(v, bank), bank % 4 ? 0 : UINT64_MAX);
    assert_int_equal(msr_read(v, 0x428, &val), HV_E_GUEST);
    assert_int_equal(msr_write(v, 0x17a, 5), HV_OK);
    assert_int_equal(msr_of(v, 0x17a), 5);
    assert_int_equal(msr_write(v, 0x17b, 1), HV_E_GUEST);
    assert_int_equal(msr_write(v, 0x404, 6), HV_E_GUEST); /* all ones or zeros */
    assert_int_equal(msr_write(v, 0x404, 0), HV_OK);
    assert_int_equal(msr_write(v, 0x410, ~BIT64(10)), HV_OK); /* Linux, against an erratum */
    assert_int_equal(msr_of(v, 0x410), ~BIT64(10));
    assert_int_equal(msr_write(v, 0x405, 0), HV_OK);
    assert_int_equal(msr_write(v, 0x405, BIT64(63)), HV_E_GUEST); /* a status is cleared only, ... */
    assert_int_equal(msr_write(v, 0xc0010015, BIT64(18)), HV_OK);
    assert_int_equal(msr_write(v, 0x405, BIT64(63)), HV_OK); /* ... unless HWCR.McStatusWrEn is set */
    assert_int_equal(msr_of(v, 0x405), BIT64(63));
    assert_int_equal(msr_of(m.vm.vcpus[1], 0x405), 0);
    assert_int_equal(msr_write(v, 0x179, 0), HV_OK); /* ignored */
    for (unsigned i = 0; i < m.vm.cpuid->n; i++)     /* a guest that is not shown MCA */
        if (m.vm.cpuid->e[i].leaf == 1)
            m.vm.cpuid->e[i].reg[CPUID_EDX] &= ~BIT32(14);
    assert_int_equal(msr_of(v, 0x179), 0);
    assert_int_equal(msr_of(v, 0x17a), 0);
    assert_int_equal(msr_read(v, 0x17b, &val), HV_E_GUEST);
    assert_int_equal(msr_read(v, 0x405, &val), HV_E_GUEST);
    assert_int_equal(msr_write(v, 0x405, 0), HV_E_GUEST);
    machine_fini(&m);
}

static int64_t hypercall(struct vcpu *v, uint64_t number, uint64_t arg0, uint64_t arg1)
{
    uint64_t rip = v->rip;
    v->gpr[GPR_RAX] = number, v->gpr[GPR_RBX] = arg0, v->gpr[GPR_RCX] = arg1;
    exit_handle(v, &(struct vcpu_exit){ .kind = VCPU_EXIT_HYPERCALL, .insn_len = 3 });
    assert_int_equal(v->rip, rip + 3);
    return (int64_t)v->gpr[GPR_RAX];
}

static enum mce_verdict verdict;
enum mce_verdict mce_take(bool in_guest)
{
    assert_true(in_guest);
    return verdict;
}
static void test_machine_checks_of_a_guest(void **state)
{
    struct machine m;
    (void)state;
    machine_init(&m, 2, 16 * MIB);
    verdict = MCE_GO_ON; /* a corrected error, or another guest's memory */
    exit_handle(&m.vcpu[1], &(struct vcpu_exit){ .kind = VCPU_EXIT_MACHINE_CHECK });
    assert_int_equal(atomic_load(&m.vm.power_request), VM_POWER_NONE);
    verdict = MCE_GUEST_LOST;
    exit_handle(&m.vcpu[1], &(struct vcpu_exit){ .kind = VCPU_EXIT_MACHINE_CHECK });
    assert_int_equal(atomic_load(&m.vm.power_request), VM_POWER_CRASH);
    assert_non_null(strstr(m.vm.crash_reason, "uncorrectable hardware error"));
    machine_fini(&m);
}

static void hlt(struct vcpu *v) { exit_handle(v, &(struct vcpu_exit){ .kind = VCPU_EXIT_HLT, .insn_len = 1 }); }

/* KVM's hypercalls: a kick ends one HLT of the vCPU that is named, also with interrupts off, also
 * when it comes before. */
static void test_hypercalls(void **state)
{
    (void)state;
    machine_init(&m, 3, 16 * MIB);
    struct vcpu *v = m.vm.vcpus[0], *other = m.vm.vcpus[2];
    other->lapic->wait_for_sipi = false;
    assert_int_equal(hypercall(v, 0, 0, 0), -1000);
    assert_int_equal(hypercall(v, 5, 0, 2), 0);
    hlt(other);
    assert_false(other->halted);
    hlt(other);
    assert_true(other->halted);
    assert_false(lapic_take_wakeup(other));
    assert_int_equal(hypercall(v, 5, 0, 2), 0);
    assert_false(lapic_take_wakeup(m.vm.vcpus[1]));
    assert_true(lapic_take_wakeup(other));
    assert_false(lapic_take_wakeup(other));
    unsigned kicks = fake_n_kicks;
    assert_int_equal(hypercall(v, 5, 0, 3), 0); /* no such vCPU */
    assert_int_equal(fake_n_kicks, kicks);
    other->pcpu = 1;
    assert_int_equal(hypercall(v, 11, 3, 0), 0);
    assert_int_equal(hypercall(v, 11, 2, 0), 0); /* on another CPU: it runs without us */
    assert_int_equal(m.n_yields, 0);
    assert_int_equal(hypercall(v, 11, 1, 0), 0);
    assert_int_equal(m.n_yields, 1);
    m.regs[0].seg[SEG_SS].ar = 3 << 5;
    assert_int_equal(hypercall(v, 11, 1, 0), -1); /* a program may not */
    assert_int_equal(m.n_yields, 1);
    machine_fini(&m);
}

static void test_other_exits(void **state)
{
    (void)state;
    machine_init(&m, 1, 16 * MIB);
    struct vcpu *v = m.vm.vcpus[0];
    v->gpr[GPR_RAX] = UINT64_C(0x1122334455667788);
    exit_handle(v, &(struct vcpu_exit){
                       .kind = VCPU_EXIT_IO, .insn_len = 1, .io = { .port = 0x3fd, .size = 1, .in = true } });
    assert_int_equal(v->gpr[GPR_RAX], UINT64_C(0x1122334455667760));
    exit_handle(v, &(struct vcpu_exit){
                       .kind = VCPU_EXIT_IO, .insn_len = 1, .io = { .port = 0x7777, .size = 4, .in = true } });
    assert_int_equal(v->gpr[GPR_RAX], 0xffffffff);
    hlt(v);
    assert_true(v->halted);
    v->rflags = 0x102; /* TF: the trap ends the HLT, and no kick is used up */
    vcpu_request(v, VCPU_REQ_UNHALT);
    hlt(v);
    assert_false(v->halted);
    v->rflags = 2;
    hlt(v);
    assert_false(v->halted);
    v->rflags = 0x202;
    v->lapic->svr = 0x1ff;
    lapic_irq_set(v, 0x40, false);
    exit_handle(v, &(struct vcpu_exit){ .kind = VCPU_EXIT_HLT, .insn_len = 1 });
    assert_false(v->halted);
    exit_handle(v, &(struct vcpu_exit){ .kind = VCPU_EXIT_SHUTDOWN });
    assert_int_equal(atomic_load(&m.vm.power_request), VM_POWER_RESET);
    atomic_store(&m.vm.power_request, VM_POWER_NONE);
    exit_handle(v, &(struct vcpu_exit){ .kind = VCPU_EXIT_S2_FAULT, .s2 = { .gpa = { 0xd0000000 }, .exec = true } });
    assert_int_equal(m.injected.vector, 6); /* code where there is no memory: the guest survives */
    assert_int_equal(atomic_load(&m.vm.power_request), VM_POWER_NONE);
    m.n_injected = 0;
    exit_handle(v, &(struct vcpu_exit){ .kind = VCPU_EXIT_S2_FAULT,
                                        .s2 = { .gpa = { 0xd0000000 }, .write = true, .cut_event = true } });
    assert_int_equal(m.n_injected, 0); /* an interrupt's stack: no instruction is to blame */
    assert_int_equal(atomic_load(&m.vm.power_request), VM_POWER_RESET);
    exit_handle(v,
                &(struct vcpu_exit){ .kind = VCPU_EXIT_S2_FAULT, .s2 = { .gpa = { 0xd0000000 }, .table_walk = true } });
    assert_int_equal(atomic_load(&m.vm.power_request), VM_POWER_CRASH);
    v->gpr[GPR_RAX] = 0x2000 | 5 << 10;
    exit_handle(v, &(struct vcpu_exit){ .kind = VCPU_EXIT_IO, .insn_len = 1, .io = { .port = 0x604, .size = 2 } });
    assert_int_equal(atomic_load(&m.vm.power_request), VM_POWER_OFF);
    machine_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_and_always),
        cmocka_unit_test(test_xsave_sizes_agree),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_comparison_names_every_missing_bit),
        cmocka_unit_test(test_exit_and_topology),
        cmocka_unit_test(test_msrs),
        cmocka_unit_test(test_virtual_machine_check),
        cmocka_unit_test(test_machine_checks_of_a_guest),
        cmocka_unit_test(test_hypercalls),
        cmocka_unit_test(test_other_exits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
