/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_jitter.c - entropy estimation of timing jitter: sources of known entropy, and regular ones that only
 * look random. */
/* unit-sources: kernel/lib/wipe.c net/jitter.c tests/fakes/page.c tests/fakes/log.c kernel/lib/err.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "kernel/host/clock.h"
#include "net/jitter.h"
#include "tests/fakes/page.h"

static uint64_t now, state;
static unsigned long n_reads;
static uint64_t (*step)(unsigned long n); /* ticks from the n-th reading of the TSC to the next */
uint64_t tsc_read(void) { return now += step(n_reads++); }

static uint64_t rnd(void) /* splitmix64: stands for true randomness here */
{
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t constant(unsigned long n)
{
    (void)n;
    return 700;
}
/* a timer, on a machine that counts instructions */
static uint64_t interrupted(unsigned long n) { return n % 97 ? 700 : 5000; }
static uint64_t ramp(unsigned long n) { return 700 + n; }
static uint64_t cycle(unsigned long n)
{
    static const uint16_t t[] = { 700, 731, 702, 699, 744, 700, 765 };
    return t[n / 2 % 7];
}
static uint64_t two_modes(unsigned long n) { return n / 2 % 64 < 32 ? 700 : 900; }
/* 0.02 bits a sample */
static uint64_t rare(unsigned long n)
{
    (void)n;
    return 700 + (rnd() % 64 == 0);
}
/* nothing in the low byte: not believed, though random */
static uint64_t coarse(unsigned long n)
{
    (void)n;
    return 256 * (rnd() % 8);
}
static uint64_t one_bit(unsigned long n)
{
    (void)n;
    return 700 + 36 * (rnd() & 1);
}
static uint64_t wide(unsigned long n)
{
    (void)n;
    return 700 + rnd() % 61;
}
/* 3/4: 0.4 bits */
static uint64_t biased(unsigned long n)
{
    (void)n;
    return 700 + (rnd() % 4 == 0);
}

static unsigned credit_of(uint64_t (*f)(unsigned long))
{
    static uint64_t d[JITTER_BLOCK];
    for (unsigned long i = 0; i < JITTER_BLOCK; i++)
        d[i] = f(2 * i);
    return jitter_credit(d);
}

static void test_credit(void **unused)
{
    (void)unused;
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(credit_of(constant), 0);
        assert_int_equal(credit_of(interrupted), 0);
        assert_int_equal(credit_of(ramp), 0);
        assert_int_equal(credit_of(cycle), 0);
        assert_int_equal(credit_of(two_modes), 0);
        assert_int_equal(credit_of(rare), 0);
        assert_int_equal(credit_of(coarse), 0);
        assert_in_range(credit_of(one_bit), 128, 256); /* p is 1/2, with the margin above it */
        assert_int_equal(credit_of(wide), 256);
        assert_in_range(credit_of(biased), 32, 64); /* never more than the 410 bits that there are, by far */
    }
}

static size_t taken;
static void take(const void *sample, size_t len)
{
    (void)sample;
    taken += len;
}

static enum hv_err gather(uint64_t (*f)(unsigned long))
{
    step = f, taken = 0;
    enum hv_err e = jitter_gather(512, take);
    assert_int_equal(fake_page_outstanding, 0);
    return e;
}

static uint64_t dies(unsigned long n) { return n % (1 << 17) < 3000 ? wide(n) : 700; }

static void test_gather(void **unused)
{
    (void)unused;
    n_reads = 0;
    assert_int_equal(gather(wide), HV_OK);
    assert_int_equal(taken, 2 * 8 * JITTER_BLOCK);
    assert_int_equal(gather(constant), HV_E_UNSUPP);
    assert_int_equal(taken, 64 * 8 * JITTER_BLOCK); /* used all the same */
    assert_int_equal(gather(interrupted), HV_E_UNSUPP);
    assert_int_equal(gather(rare), HV_E_UNSUPP);
    n_reads = 0;
    assert_int_equal(gather(dies), HV_E_UNSUPP); /* one good block, and nothing more */
    fake_page_fail_after = 0;
    assert_int_equal(gather(wide), HV_E_NOMEM);
    fake_page_fail_after = -1;
}

/* Not a check of entropy, only that real time on this machine is seen as irregular. */
static uint64_t real(unsigned long n)
{
    struct timespec t;
    (void)n;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec - now;
}

static void test_real_time(void **unused)
{
    (void)unused;
    now = 0;
    assert_int_equal(gather(real), HV_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_credit), cmocka_unit_test(test_gather),
                                        cmocka_unit_test(test_real_time) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
