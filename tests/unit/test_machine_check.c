/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_machine_check.c - banks of a made-up processor: what is read, judged, cleared and queued, and whose
 * memory it was. */
/* unit-sources: kernel/host/machine_check.c kernel/vm/vm_machine_check.c tests/fakes/log.c tests/fakes/page.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/core/vm.h"
#include "kernel/host/clock.h"
#include "kernel/host/machine_check.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/x86.h"
#include "kernel/vm/vm_machine_check.h"
#include "kernel/vm/vm_manage.h"
#include "tests/fakes/page.h"

/* ---- the processor ---- */

#define N_BANKS 3u
#define SER     BIT64(24)
static uint64_t cap, mcg_status, mcg_ctl, bank[N_BANKS][4]; /* CTL, STATUS, ADDR, MISC */

static uint64_t *msr_at(uint32_t msr)
{
    switch (msr) {
    case 0x179: return &cap;
    case 0x17a: return &mcg_status;
    case 0x17b: return &mcg_ctl;
    default:    return msr - 0x400 < 4 * N_BANKS ? &bank[(msr - 0x400) / 4][(msr - 0x400) % 4] : NULL;
    }
}
bool rdmsr_safe(uint32_t msr, uint64_t *out)
{
    const uint64_t *at = msr_at(msr);
    if (at)
        *out = *at;
    return at;
}
bool wrmsr_safe(uint32_t msr, uint64_t v)
{
    uint64_t *at = msr_at(msr);
    if (!at || at == &cap || (at != &mcg_status && at != &mcg_ctl && msr % 4 == 1 && v)) /* STATUS takes 0 only */
        return false;
    *at = v;
    return true;
}

static struct pcpu cpus[2];
unsigned pcpu_count = 2;
static unsigned here, n_kicks, n_self;
static uint64_t now_us;
struct pcpu *this_pcpu(void) { return &cpus[here]; }
struct pcpu *pcpu_get(unsigned i) { return &cpus[i]; }
void pcpu_kick(unsigned i) { n_kicks += i == 1; }
void pcpu_interrupt_self(void) { n_self++; }
uint64_t clock_us(void) { return now_us; }

/* ---- two guests ---- */

static struct vm vms[2];
static void *blocks[2][3];
static unsigned n_requests;
unsigned vm_slots(void) { return 3; }
struct vm *vm_at(unsigned i) { return i ? &vms[i - 1] : NULL; }
const char *vm_state_name(enum vm_state s) { return s == VM_RUNNING ? "running" : "other"; }
void vm_power_request(struct vm *vm, enum vm_power what)
{
    atomic_store(&vm->power_request, what);
    n_requests++;
}

#define VAL   BIT64(63)
#define OVER  BIT64(62)
#define UC    (BIT64(61) | EN)
#define EN    BIT64(60)
#define MISCV BIT64(59)
#define ADDRV BIT64(58)
#define PCC   BIT64(57)
#define S     BIT64(56)
#define AR    BIT64(55)
#define RIPV  1u
#define EIPV  2u
#define MCIP  4u
#define PHYS  0x8c /* MISC: a physical address, 4 KiB */
#define LOSS  (VAL | UC | MISCV | ADDRV | S)

static int begin(void **state)
{
    struct mce_record r;
    (void)state;
    while (mce_next(&r)) {}
    memset(bank, 0, sizeof(bank));
    memset(cpus, 0, sizeof(cpus));
    here = 1, cpus[1].index = 1, n_requests = 0;
    cap = N_BANKS | BIT64(8) | SER;
    mcg_status = 0;
    mce_cpu_init(false);
    for (unsigned i = 0; i < 2; i++) {
        blocks[i][1] = block_alloc();
        vms[i] = (struct vm){ .mem = { .n_blocks = 3, .block = blocks[i] }, .state = VM_RUNNING };
        strcpy(vms[i].config.name, i ? "two" : "one");
    }
    return 0;
}
static int end(void **state)
{
    (void)state;
    block_free(blocks[0][1]), block_free(blocks[1][1]);
    fake_page_pins = 0;
    return 0;
}

static void test_all_banks_report(void **state)
{
    struct mce_record r;
    (void)state;
    memset(bank, 0, sizeof(bank));
    bank[1][1] = VAL | UC | PCC;
    mcg_ctl = 0, mcg_status = MCIP;
    mce_cpu_init(false);
    for (unsigned i = 0; i < N_BANKS; i++) {
        assert_int_equal(bank[i][0], UINT64_MAX);
        assert_int_equal(bank[i][1], 0);
    }
    assert_int_equal(mcg_ctl, UINT64_MAX);
    assert_int_equal(mcg_status, 0);
    assert_true(mce_next(&r)); /* what broke the machine before this boot */
    assert_true(r.old && r.kind == MCE_FATAL && r.bank == 1);
    assert_false(mce_next(&r));
    assert_int_equal(mce_count(MCE_FATAL), 0);
}

/* A bank with this status, and #MC: the verdict, and how it was judged. */
static enum mce_verdict take(uint64_t status, uint64_t mcg, bool in_guest, enum mce_kind kind)
{
    struct mce_record r;
    bank[2][1] = status, bank[2][2] = 0x1234000, bank[2][3] = PHYS, mcg_status = mcg | MCIP;
    enum mce_verdict verdict = mce_take(in_guest);
    assert_true(mce_next(&r));
    assert_int_equal(r.kind, kind);
    assert_true(r.cpu == 1 && r.bank == 2 && r.status == status && !r.old);
    assert_int_equal(mcg_status, verdict == MCE_HOST_LOST ? mcg | MCIP : 0);
    assert_int_equal(bank[2][1], kind == MCE_FATAL ? status : 0);
    return verdict;
}

static void test_verdicts(void **state)
{
    (void)state;
    uint64_t before = mce_count(MCE_REQUIRED);
    assert_int_equal(take(VAL | ADDRV, RIPV, false, MCE_CORRECTED), MCE_GO_ON);
    assert_int_equal(take(VAL | UC, RIPV, false, MCE_DEFERRED), MCE_GO_ON);
    assert_int_equal(take(LOSS, RIPV, false, MCE_OPTIONAL), MCE_GO_ON);
    assert_int_equal(take(LOSS, RIPV, true, MCE_OPTIONAL), MCE_GO_ON);
    assert_int_equal(take(LOSS | AR, RIPV | EIPV, true, MCE_REQUIRED), MCE_GUEST_LOST);
    assert_int_equal(take(LOSS | AR, RIPV | EIPV, false, MCE_REQUIRED), MCE_HOST_LOST);
    assert_int_equal(take(LOSS | AR | OVER, RIPV | EIPV, true, MCE_FATAL), MCE_HOST_LOST);
    assert_int_equal(take(LOSS | PCC, RIPV, true, MCE_FATAL), MCE_HOST_LOST);
    bank[2][1] = 0;
    assert_int_equal(take(LOSS, 0, true, MCE_OPTIONAL), MCE_HOST_LOST); /* whose it was is not known */
    assert_int_equal(take(LOSS, EIPV, true, MCE_OPTIONAL), MCE_GUEST_LOST);
    assert_int_equal(take(LOSS, EIPV, false, MCE_OPTIONAL), MCE_HOST_LOST);
    assert_int_equal(take((LOSS | PCC) & ~EN, RIPV, false, MCE_DEFERRED), MCE_GO_ON);
    assert_int_equal(mce_count(MCE_REQUIRED) - before, 2);
    assert_int_equal(cpus[1].n_mce, 12);
}

/* Without SER_P, bits 56 and 55 are no S and AR. */
static void test_verdicts_without_recovery_bits(void **state)
{
    (void)state;
    cap &= ~SER;
    assert_int_equal(take(LOSS, RIPV, true, MCE_FATAL), MCE_HOST_LOST);
    assert_int_equal(take(VAL | BIT64(44), RIPV, false, MCE_CORRECTED), MCE_GO_ON);
    mce_cpu_init(true); /* AMD's SUCCOR */
    assert_int_equal(take(VAL | UC | ADDRV, RIPV, true, MCE_REQUIRED), MCE_GUEST_LOST);
    assert_int_equal(take(VAL | UC | OVER, RIPV, true, MCE_FATAL), MCE_HOST_LOST);
    bank[2][1] = 0;
    assert_int_equal(take(VAL | BIT64(44), RIPV, false, MCE_DEFERRED), MCE_GO_ON);
}

static void test_an_unreadable_bank_is_none(void **state)
{
    struct mce_record r;
    (void)state;
    cap = (cap & ~UINT64_C(0xff)) | 32; /* 29 banks that the processor only counts */
    mce_cpu_init(false);
    mcg_status = RIPV | MCIP;
    assert_int_equal(mce_take(true), MCE_GO_ON);
    assert_false(mce_next(&r));
}

/* Intel tells all processors.  The other thread's error is not ours, though a guest ran here, and its bank stays. */
static void test_another_processors_error(void **state)
{
    struct mce_record r;
    (void)state;
    for (unsigned in_guest = 0; in_guest < 2; in_guest++) {
        bank[1][1] = LOSS | AR, bank[1][3] = PHYS, mcg_status = RIPV | MCIP;
        assert_int_equal(mce_take(in_guest), MCE_GO_ON);
        assert_false(mce_next(&r));
        assert_int_equal(mcg_status, 0);
        mcg_status = RIPV | EIPV | MCIP; /* the thread that it concerns */
        assert_int_equal(mce_take(true), MCE_GUEST_LOST);
        assert_true(mce_next(&r) && r.kind == MCE_REQUIRED);
        assert_int_equal(bank[1][1], 0);
    }
}

/* A poll leaves an error to a handler, unless none has come by the next one. */
static void test_a_poll_does_not_forestall_a_handler(void **state)
{
    struct mce_record r;
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        bank[1][1] = LOSS | AR, bank[1][3] = PHYS;
        assert_int_equal(mce_poll(), MCE_GO_ON);
        assert_false(mce_next(&r));
        assert_int_equal(bank[1][1], LOSS | AR);
        assert_int_equal(mce_poll(), MCE_GO_ON);
        assert_true(mce_next(&r) && r.kind == MCE_REQUIRED);
        assert_int_equal(bank[1][1], 0);
    }
    cap &= ~SER; /* S is another bit */
    bank[1][1] = VAL | S;
    assert_int_equal(mce_poll(), MCE_GO_ON);
    assert_true(mce_next(&r));
}

/* AMD: the kick is taken between the end of the guest and mce_take(). */
static void test_a_poll_before_the_handler(void **state)
{
    (void)state;
    bank[1][1] = LOSS | AR, bank[1][3] = PHYS, mcg_status = RIPV | EIPV | MCIP;
    assert_int_equal(mce_poll(), MCE_GO_ON);
    assert_int_equal(mce_take(true), MCE_GUEST_LOST);
    bank[1][1] = LOSS, mcg_status = RIPV | EIPV | MCIP;
    assert_int_equal(mce_poll(), MCE_GO_ON);
    assert_int_equal(mce_take(true), MCE_GO_ON);
}

/* What no #MC was raised for is logged once and stops nothing, unless the processor's state is corrupt. */
static void test_polling_stops_the_host_for_corrupt_state_only(void **state)
{
    static const uint64_t status[] = { VAL | UC, (VAL | UC) & ~EN, (VAL | UC | PCC) & ~EN };
    struct mce_record r;
    (void)state;
    cap &= ~SER;
    for (unsigned i = 0; i < ARRAY_SIZE(status); i++) {
        bank[0][1] = status[i];
        assert_int_equal(mce_poll(), MCE_GO_ON);
        assert_true(mce_next(&r) && r.kind == (i ? MCE_DEFERRED : MCE_FATAL));
        assert_int_equal(bank[0][1], 0);
    }
    bank[0][1] = VAL | UC;
    mcg_status = RIPV | MCIP;
    assert_int_equal(mce_poll(), MCE_HOST_LOST);
}

static void test_polling(void **state)
{
    struct mce_record r;
    (void)state;
    bank[0][1] = VAL, bank[1][1] = LOSS | AR, bank[1][3] = PHYS;
    mcg_status = RIPV | EIPV | MCIP; /* #MC went elsewhere: the next one would be a shutdown */
    assert_int_equal(mce_poll(), MCE_GO_ON);
    assert_int_equal(mcg_status, 0);
    assert_true(mce_next(&r) && mce_next(&r) && !mce_next(&r));
    assert_int_equal(cpus[1].n_mce, 0);
    bank[0][1] = VAL | UC | PCC;
    assert_int_equal(mce_poll(), MCE_HOST_LOST);
}

static void test_a_flood_is_counted(void **state)
{
    struct mce_record r;
    unsigned n = 0;
    (void)state;
    uint64_t before = mce_count(MCE_CORRECTED);
    for (unsigned i = 0; i < 100; i++) {
        bank[0][1] = VAL;
        assert_int_equal(mce_poll(), MCE_GO_ON);
        assert_int_equal(bank[0][1], 0);
    }
    while (mce_next(&r))
        n++;
    assert_int_equal(n, 32);
    assert_int_equal(mce_count(MCE_CORRECTED) - before, 100);
}

static void test_each_cpu_polls(void **state)
{
    (void)state;
    now_us = 60000000, n_kicks = n_self = 0;
    mce_step();
    mce_step();
    assert_true(n_kicks == 1 && n_self == 1);
    assert_true(cpus[0].mce_due && cpus[1].mce_due);
    now_us += 10000000;
    mce_step();
    assert_int_equal(n_kicks, 2);
}

/* Poll after #MC that went elsewhere. */
static enum mce_verdict poll_raised(void)
{
    mcg_status = RIPV | MCIP;
    return mce_poll();
}

/* The guest with this address stops, and nobody else. */
static void test_whose_memory_it_was(void **state)
{
    (void)state;
    uint64_t at = (uintptr_t)blocks[1][1] + 0x5123;
    bank[0][1] = LOSS, bank[0][2] = at, bank[0][3] = PHYS;
    assert_int_equal(poll_raised(), MCE_GO_ON);
    vm_machine_check_step();
    assert_int_equal(atomic_load(&vms[0].power_request), VM_POWER_NONE);
    assert_int_equal(atomic_load(&vms[1].power_request), VM_POWER_CRASH);
    assert_non_null(strstr(vms[1].crash_reason, "its memory has lost data"));
    assert_non_null(strstr(vms[1].crash_reason, "CPU 1, bank 0"));
    assert_int_equal(fake_page_pins, 1); /* nobody else ever gets that memory */
    bank[0][1] = LOSS, bank[0][2] = at;  /* again, before it has stopped */
    assert_int_equal(poll_raised(), MCE_GO_ON);
    vm_machine_check_step();
    assert_int_equal(n_requests, 1);
    assert_int_equal(fake_page_pins, 1);
}

static void test_errors_that_stop_no_guest(void **state)
{
    static const struct {
        uint64_t status, misc;
    } t[] = { { VAL | ADDRV, PHYS },      /* corrected */
              { VAL | UC | ADDRV, PHYS }, /* not used yet */
              { VAL | UC | S, PHYS },     /* no address */
              { LOSS, 0x40 } };           /* a linear one */
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
        bank[0][1] = t[i].status, bank[0][2] = (uintptr_t)blocks[0][1], bank[0][3] = t[i].misc;
        assert_int_equal(poll_raised(), MCE_GO_ON);
        vm_machine_check_step();
    }
    bank[0][1] = LOSS, bank[0][2] = 0x1000, bank[0][3] = PHYS; /* nobody's */
    assert_int_equal(poll_raised(), MCE_GO_ON);
    vm_machine_check_step();
    vms[0].state = VM_CRASHED;
    bank[0][1] = LOSS, bank[0][2] = (uintptr_t)blocks[0][1];
    assert_int_equal(poll_raised(), MCE_GO_ON);
    vm_machine_check_step();
    assert_int_equal(n_requests, 0);
    assert_int_equal(fake_page_pins, 1); /* it has stopped by this very error, perhaps */
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = { T(test_all_banks_report),
                                        T(test_verdicts),
                                        T(test_verdicts_without_recovery_bits),
                                        T(test_an_unreadable_bank_is_none),
                                        T(test_another_processors_error),
                                        T(test_a_poll_does_not_forestall_a_handler),
                                        T(test_a_poll_before_the_handler),
                                        T(test_polling_stops_the_host_for_corrupt_state_only),
                                        T(test_polling),
                                        T(test_a_flood_is_counted),
                                        T(test_each_cpu_polls),
                                        T(test_whose_memory_it_was),
                                        T(test_errors_that_stop_no_guest) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
