/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_speculation.c - for processors of several kinds: which MSR is written at which transition, and what
 * the report says.  That each way into and out of a guest has them: test_svm.c, test_vmx.c. */
/* unit-sources: kernel/host/x86/speculation.c kernel/lib/print.c tests/fakes/speculation.c tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "tests/fakes/speculation.h"

#define IBRS_IBPB BIT32(26)
#define ARCH      BIT32(29)

static int setup(void **state)
{
    (void)state;
    fake_spec_reset(false);
    return 0;
}

static void done(const char *wanted)
{
    assert_string_equal(fake_spec_done, wanted);
    fake_spec_done[0] = 0;
}

static void run(uint64_t guest_ctrl)
{
    spec_guest_enter(guest_ctrl);
    fake_spec_entry();
    spec_guest_exit(guest_ctrl);
}

static void says(const char *attack, const char *wanted)
{
    const char *name, *text = NULL;
    for (unsigned i = 0; spec_vulnerability(i, &name, &text); i++)
        if (!strcmp(name, attack))
            break;
    assert_non_null(text);
    if (strncmp(text, wanted, strlen(wanted)) != 0)
        fail_msg("%s: \"%s\", wanted \"%s\"", attack, text, wanted);
}

/* Emulators: nothing announced, nothing touched. */
static void test_nothing_announced(void **state)
{
    static char one;
    (void)state;
    for (unsigned amd = 0; amd < 2; amd++) {
        fake_spec_reset(amd);
        spec_init(false);
        spec_cpu_init();
        spec_slice_begin(0, &one, true);
        run(0);
        done("guest rsb");
        says("spectre_v2", "Vulnerable: the processor");
    }
    says("l1tf", "Not affected");
}

/* A Skylake: IBRS at each exit, VERW, L1D flush, IBPB. */
static void test_old_intel(void **state)
{
    static char one, two;
    (void)state;
    fake_spec_7.edx = IBRS_IBPB | BIT32(10) | BIT32(28);
    spec_init(false);
    spec_cpu_init();
    done("48=1");
    spec_slice_begin(0, &one, true);
    done("49=1 10b=1");
    run(0);
    done("48=0 verw guest rsb 48=1");
    run(1);
    done("verw guest rsb 48=1"); /* written although it is 1: older processors need the write */
    spec_slice_begin(0, &one, false);
    done("10b=1");
    spec_slice_begin(0, &two, false);
    done("49=1 10b=1");
    spec_slice_begin(1, &two, false); /* another CPU */
    done("49=1 10b=1");
    spec_slice_begin(0, &two, true); /* a new guest at the address of an old one */
    done("49=1 10b=1");
    says("mds", "Mitigation: VERW");
    says("l1tf", "Mitigation: L1D");
    says("spectre_v2", "Mitigation: IBRS at each exit");
}

/* Enhanced IBRS with BHI_DIS_S, and no other fault. */
static void test_new_intel(void **state)
{
    static char one;
    (void)state;
    fake_spec_7.eax = 2;
    fake_spec_7.edx = IBRS_IBPB | ARCH | BIT32(10) | BIT32(28);
    fake_spec_7_2.edx = BIT32(4);
    fake_spec_arch = 0x1eb | BIT64(13) | BIT64(14) | BIT64(15);
    spec_init(false);
    spec_cpu_init();
    done("48=401");
    spec_slice_begin(0, &one, true);
    done("49=1");
    run(0x401);
    done("guest rsb");
    run(1);
    done("48=1 guest rsb 48=401");
    says("spectre_v2", "Mitigation: Enhanced IBRS");
    says("mds", "Not affected");
    says("mmio_stale_data", "Not affected");
    says("itlb_multihit", "Not affected");
    fake_spec_7_2.edx = 0;
    spec_init(false);
    says("spectre_v2", "Mitigation: Enhanced IBRS; IBPB between guests; RSB filled at exits; BHI: Vulnerable");
}

static void test_amd(void **state)
{
    static char one;
    (void)state;
    fake_spec_reset(true);
    fake_spec_1.eax = 0x00800f12; /* Zen 1 */
    fake_spec_ext8.ebx = BIT32(12);
    spec_init(false);
    spec_cpu_init();
    spec_slice_begin(2, &one, true);
    run(0);
    done("49=1 guest 49=1 rsb");
    says("retbleed", "Mitigation: IBPB");
    fake_spec_1.eax = 0x00a60f12; /* Zen 4 with SRSO_NO, Automatic IBRS and VERW_CLEAR */
    fake_spec_ext8.ebx |= BIT32(14) | BIT32(24);
    fake_spec_ext21.eax = BIT32(5) | BIT32(8) | BIT32(29);
    spec_init(false);
    spec_cpu_init();
    done("c0000080=200000 48=0");
    run(4);
    done("48=4 verw guest rsb 48=0");
    says("spectre_v2", "Mitigation: Automatic IBRS");
    says("tsa", "Mitigation: VERW");
    says("spec_rstack_overflow", "Not affected");
    fake_spec_ext21.eax = BIT32(8); /* without microcode: its IBPB leaves predictions of RET */
    spec_init(false);
    says("spec_rstack_overflow", "Vulnerable");
    says("tsa", "Vulnerable");
}

/* mitigations = off: only what the guest asks for. */
static void test_off(void **state)
{
    static char one;
    (void)state;
    fake_spec_7.edx = IBRS_IBPB | BIT32(10) | BIT32(28);
    spec_init(true);
    spec_cpu_init();
    spec_slice_begin(0, &one, true);
    run(0);
    done("48=0 guest");
    run(1);
    done("48=1 guest 48=0");
    says("spectre_v2", "Vulnerable: mitigations = off");
    says("mds", "Vulnerable: mitigations = off");
}

static void test_hyper_threads(void **state)
{
    (void)state;
    spec_init(false);
    says("hyper_threads", "Not affected");
    fake_spec_b.ebx = 2;
    spec_init(false);
    says("hyper_threads", "Vulnerable");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_nothing_announced, setup),
        cmocka_unit_test_setup(test_old_intel, setup),
        cmocka_unit_test_setup(test_new_intel, setup),
        cmocka_unit_test_setup(test_amd, setup),
        cmocka_unit_test_setup(test_off, setup),
        cmocka_unit_test_setup(test_hyper_threads, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
