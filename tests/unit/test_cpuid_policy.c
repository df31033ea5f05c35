/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_cpuid_policy.c - the CPU baselines host, x86-64-v1 to v4 and pool, on synthetic hosts of both
 * vendors.
 *
 * Covered: which features a guest sees, which ones a host lacks, consistency between leaves, a destination's answer,
 * and the pool's file. */
/* unit-sources: kernel/core/cpuid.c kernel/core/cpu_baseline.c kernel/vm/vm_offer.c kernel/vm/offer_disks.c
 *   kernel/vm/offer_check.c kernel/vm/vm_knows.c
 *   kernel/config/config.c kernel/config/config_keys.c kernel/lib/err.c kernel/lib/print.c
 *   tests/fakes/log.c tests/fakes/page.c tests/fakes/vm_memory.c tests/fakes/lvm.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "kernel/core/cpu_baseline.h"
#include "kernel/dev/pvclock.h"
#include "kernel/host/clock.h"
#include "kernel/host/x86/fpu.h"
#include "kernel/vm/vm_state.h"

/* ---- what vm_offer.c wants of the rest ---- */

static struct cpu_ops fake_ops = { .vendor = 2, .vendor_name = "Two" };
const struct cpu_ops *cpu_ops = &fake_ops;
bool fpu_xsavec_broken;

const struct cpu_ops *cpu_ops_of_vendor(unsigned vendor)
{
    static const struct cpu_ops one = { .vendor = 1, .vendor_name = "One" };
    return vendor == 1 ? &one : vendor == 2 ? &fake_ops : NULL;
}
struct cpu_caps cpu_caps;
uint64_t clock_tsc_hz = 2000000000;
static enum tsc_fit other_rate;
enum tsc_fit guest_tsc_fit(uint64_t hz) { return hz == clock_tsc_hz ? TSC_FITS : other_rate; }
uint32_t fpu_save_area_size = 8192;
uint64_t fpu_host_xcr0 = 7;

/* ---- made-up hosts ---- */

struct cpu {
    const char *name;
    bool amd;
    unsigned level;                /* highest that it has */
    uint32_t c1, b7, c7, ce1, de1; /* feature registers */
    uint32_t xcr0, max_ext;
    uint8_t phys, linear;
    uint16_t avx512_at;
};
#define D1_ALL    0x0fabfbffu
#define C1_V2     (BIT32(0) | BIT32(9) | BIT32(13) | BIT32(19) | BIT32(20) | BIT32(23))
#define C1_V3     (C1_V2 | BIT32(12) | BIT32(22) | BIT32(26) | BIT32(28) | BIT32(29))
#define B7_V3     (BIT32(3) | BIT32(5) | BIT32(8))
#define B7_V4     (B7_V3 | BIT32(16) | BIT32(17) | BIT32(28) | BIT32(30) | BIT32(31))
#define DE1_INTEL (BIT32(11) | BIT32(20) | BIT32(27) | BIT32(29))
#define DE1_AMD   (DE1_INTEL | (D1_ALL & 0x0183f3ffu) | BIT32(22) | BIT32(26))
enum { K10, ZEN1, ZEN4, ATOM, SANDY, HASWELL, SKYLAKE, N_CPUS };
static const struct cpu cpus[N_CPUS] = {
    [K10] = { "k10", true, 1, BIT32(0) | BIT32(13) | BIT32(23), 0, 0, BIT32(0) | BIT32(5) | BIT32(6), DE1_AMD, 0,
              0x8000001b, 48, 48, 0 },
    [ZEN1] = { "zen1", true, 3, C1_V3 | BIT32(25) | BIT32(30), B7_V3 | BIT32(0) | BIT32(7) | BIT32(20), BIT32(2),
               BIT32(0) | BIT32(5) | BIT32(6), DE1_AMD, 7, 0x8000001f, 48, 48, 0 },
    [ZEN4] = { "zen4", true, 4, C1_V3 | BIT32(25) | BIT32(30), B7_V4 | BIT32(7), BIT32(2) | BIT32(22),
               BIT32(0) | BIT32(5), DE1_AMD, 0x2e7, 0x80000028, 52, 57, 832 },
    [ATOM] = { "atom", false, 2, C1_V2 | BIT32(22), BIT32(9), 0, BIT32(0), DE1_INTEL, 0, 0x80000008, 36, 48, 0 },
    [SANDY] = { "sandy", false, 2, C1_V2 | BIT32(17) | BIT32(25) | BIT32(26) | BIT32(28), 0, 0, BIT32(0), DE1_INTEL, 7,
                0x80000008, 36, 48, 0 },
    [HASWELL] = { "haswell", false, 3, C1_V3 | BIT32(17) | BIT32(25), B7_V3 | BIT32(0) | BIT32(7) | BIT32(10), 0,
                  BIT32(0) | BIT32(5), DE1_INTEL | BIT32(26), 7, 0x80000008, 39, 48, 0 },
    [SKYLAKE] = { "skylake", false, 4, C1_V3 | BIT32(17) | BIT32(25),
                  B7_V4 | BIT32(0) | BIT32(7) | BIT32(10) | BIT32(20), 0, BIT32(0) | BIT32(5), DE1_INTEL | BIT32(26),
                  0x2ff, 0x80000008, 46, 48, 1088 },
};
static struct cpu now;

static void leaf_d(uint32_t sub, uint32_t out[4])
{
    static const uint16_t size[] = { [2] = 256, [5] = 64, [6] = 512, [7] = 1024 };
    if (sub == 0)
        out[0] = now.xcr0;
    if (sub == 1)
        out[0] = 0xf; /* XSAVES too */
    if (sub >= ARRAY_SIZE(size) || !size[sub] || !(now.xcr0 & BIT32(sub)))
        return;
    out[0] = size[sub];
    out[1] = sub == 2 ? 576 : now.avx512_at + (sub > 5 ? 64 : 0) + (sub > 6 ? 512 : 0);
}

static void read_now(uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    memset(out, 0, 16);
    switch (leaf) {
    case 0:
        memcpy(out,
               now.amd ? (uint32_t[]){ now.xcr0 ? 0x10 : 7, 0x68747541, 0x444d4163, 0x69746e65 }
                       : (uint32_t[]){ now.xcr0 ? 0x16 : 0xb, 0x756e6547, 0x6c65746e, 0x49656e69 },
               16);
        break;
    case 1: out[0] = 0x50654, out[1] = 0x00100800, out[2] = now.c1 | BIT32(5) | BIT32(3), out[3] = D1_ALL; break;
    case 2: out[0] = 0x76036301; break;
    case 4:
        if (!now.amd && sub < 4)
            out[0] = 0x3c004000 | (sub ? sub : 1) << 5 | (sub ? 3 : 1), out[1] = 0x01c0003f, out[2] = 0x3f;
        break;
    case 7:
        if (sub == 0)
            out[1] = now.b7, out[2] = now.c7;
        break;
    case 0xd:        leaf_d(sub, out); break;
    case 0x80000000: out[0] = now.max_ext; break;
    case 0x80000001: out[2] = now.ce1 | BIT32(2), out[3] = now.de1; break;
    case 0x80000008: out[0] = now.phys | (uint32_t)now.linear << 8 | 0x280000; break;
    }
}

static struct cpuid_table t, u;
static char got[4000];
static unsigned n_got;
static void add(void *ctx, const char *text)
{
    (void)ctx;
    if (n_got++)
        strcat(got, "|");
    strcat(got, text);
}

static enum hv_err make_sized(struct cpuid_table *out, unsigned cpu, const char *baseline, unsigned n_vcpus,
                              uint64_t memory)
{
    struct cpuid_spec spec = { baseline, n_vcpus, memory, 2000000000 };
    now = cpus[cpu];
    got[0] = 0, n_got = 0;
    return cpuid_build_for(out, &spec, read_now, add, NULL);
}
static enum hv_err make(struct cpuid_table *out, unsigned cpu, const char *baseline)
{
    return make_sized(out, cpu, baseline, 4, 256 * MIB);
}

static const char *const levels[] = { "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4" };

/* ---- a host has the levels that it has ---- */

static void test_levels_by_host(void **state)
{
    (void)state;
    for (unsigned c = 0; c < N_CPUS; c++) {
        assert_int_equal(make(&t, c, "host"), HV_OK);
        for (unsigned l = 1; l <= 4; l++)
            assert_int_equal(make(&t, c, levels[l - 1]), l <= cpus[c].level ? HV_OK : HV_E_UNSUPP);
    }
    assert_int_equal(make(&t, ZEN1, "x86-64-v5"), HV_E_NOENT);
    assert_int_equal(make(&t, ZEN1, "x86-64-v"), HV_E_NOENT);
    assert_int_equal(make(&t, ZEN1, "x86-64-v33"), HV_E_NOENT);
    assert_int_equal(make(&t, ZEN1, "pentium"), HV_E_NOENT);
}

static void test_missing_is_named(void **state)
{
    static const struct {
        unsigned cpu;
        const char *baseline, *missing;
    } cases[] = {
        { K10, "x86-64-v2", "ssse3|sse4.1|sse4.2" },
        { ATOM, "x86-64-v3", "fma|xsave|avx|f16c|bmi1|avx2|bmi2|abm|XSAVE component 1 (SSE)|XSAVE component 2 (AVX)" },
        { SANDY, "x86-64-v3", "fma|movbe|f16c|bmi1|avx2|bmi2|abm" },
        { HASWELL, "x86-64-v4",
          "avx512f|avx512dq|avx512cd|avx512bw|avx512vl|XSAVE component 5 (AVX-512 opmask)|"
          "XSAVE component 6 (AVX-512 ZMM_Hi256)|XSAVE component 7 (AVX-512 Hi16_ZMM)" },
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(make(&t, cases[i].cpu, cases[i].baseline), HV_E_UNSUPP);
        assert_string_equal(got, cases[i].missing);
    }
    assert_int_equal(make_sized(&t, ATOM, "x86-64-v1", 1, 64 * GIB), HV_E_UNSUPP);
    assert_string_equal(got, "38 physical address bits (it has 36)");
}

/* Exactly the level's bits, the same on every host that has the level. */
static void test_level_is_the_same_everywhere(void **state)
{
    static const struct {
        uint32_t leaf;
        enum cpuid_reg reg;
        uint32_t want[4];
    } regs[] = {
        { 1, CPUID_ECX, { 0x81200000, 0x81200000 | C1_V2, 0x81200000 | C1_V3, 0x81200000 | C1_V3 } },
        { 7, CPUID_EBX, { 0, 0, B7_V3, B7_V4 } },
        { 7, CPUID_ECX, { 0, 0, 0, 0 } },
        { 7, CPUID_EDX, { 0, 0, 0, 0 } },
        { 0x80000001, CPUID_ECX, { 0, 1, 0x21, 0x21 } },
        { 0x80000008, CPUID_EAX, { 0x3024, 0x3024, 0x3024, 0x3024 } },
        { 0x80000008, CPUID_EBX, { 0, 0, 0, 0 } },
        { 0, CPUID_EAX, { 0xb, 0xb, 0xd, 0xd } },
        { 0x80000000, CPUID_EAX, { 0x80000008, 0x80000008, 0x80000008, 0x80000008 } },
    };
    static const uint64_t xcr0[] = { 1, 1, 7, 0xe7 };
    (void)state;
    for (unsigned c = 0; c < N_CPUS; c++)
        for (unsigned l = 0; l < cpus[c].level; l++) {
            assert_int_equal(make_sized(&t, c, levels[l], 1, 256 * MIB), HV_OK);
            for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
                const struct cpuid_entry *e = cpuid_find(&t, regs[i].leaf, 0);
                assert_int_equal(e ? e->reg[regs[i].reg] : 0, regs[i].want[l]);
            }
            assert_int_equal(t.xcr0_allowed, xcr0[l]);
            assert_int_equal(cpuid_find(&t, 0x80000001, 0)->reg[CPUID_EDX] & ~DE1_INTEL,
                             cpus[c].amd ? D1_ALL & 0x0183f3ff & ~BIT32(7) & ~BIT32(1) & ~BIT32(14) : 0);
            assert_int_equal(cpuid_find(&t, 0x80000001, 0)->reg[CPUID_EDX] & DE1_INTEL, DE1_INTEL & ~BIT32(27));
        }
}

/* Emulated, so `host` has it everywhere; no level has it, so that a guest on a level can move to release 0.1. */
static void test_tsc_adjust_needs_no_host_that_has_it(void **state)
{
    (void)state;
    for (unsigned c = 0; c < N_CPUS; c++)
        for (unsigned l = 0; l <= cpus[c].level; l++) {
            assert_int_equal(make(&t, c, l ? levels[l - 1] : "host"), HV_OK);
            assert_int_equal(cpuid_has(&t, 7, 0, CPUID_EBX, 1), !l);
            assert_int_equal(cpuid_msr_exists(&t, 0x3b), !l);
            assert_int_equal(cpuid_has(&t, 1, 0, CPUID_EDX, 7), !l); /* machine checks, likewise */
            assert_int_equal(cpuid_has(&t, 1, 0, CPUID_EDX, 14), !l);
            assert_int_equal(cpuid_msr_exists(&t, 0x401), !l);
        }
}

/* ---- the leaves agree with each other, on every baseline of every host ---- */

static void check_consistent(unsigned n_vcpus)
{
    const struct cpuid_entry *zero = cpuid_find(&t, 0, 0), *ext = cpuid_find(&t, 0x80000000, 0),
                             *d = cpuid_find(&t, 0xd, 0);
    bool amd = now.amd, xsave = cpuid_has(&t, 1, 0, CPUID_ECX, 26);
    uint32_t top = 0, top_ext = 0;
    for (unsigned i = 0; i < t.n; i++) {
        uint32_t leaf = t.e[i].leaf;
        if (leaf >> 28 == 0)
            top = MAX(top, leaf);
        if (leaf >> 28 == 8)
            top_ext = MAX(top_ext, leaf);
        for (unsigned k = 0; k < i; k++)
            assert_false(t.e[k].leaf == leaf && t.e[k].subleaf == t.e[i].subleaf);
    }
    assert_int_equal(zero->reg[CPUID_EAX], top); /* max leaves: no leaf beyond, no end before the last */
    assert_int_equal(ext->reg[CPUID_EAX], top_ext);
    assert_int_equal(xsave, d != NULL); /* XSAVE, XCR0, sizes */
    assert_int_equal(xsave, !!(t.xcr0_allowed & 2));
    assert_true(cpuid_xcr0_ok(&t, t.xcr0_allowed));
    assert_true(!cpuid_has(&t, 1, 0, CPUID_ECX, 28) || (t.xcr0_allowed & 4));
    assert_int_equal(cpuid_has(&t, 7, 0, CPUID_EBX, 16), (t.xcr0_allowed & 0xe0) == 0xe0);
    if (d) {
        assert_int_equal(d->reg[CPUID_EAX], t.xcr0_allowed);
        assert_int_equal(d->reg[CPUID_ECX], cpuid_xsave_bytes(&t, t.xcr0_allowed));
        for (unsigned bit = 2; bit < 32; bit++)
            assert_int_equal(!!cpuid_find(&t, 0xd, bit), t.xcr0_allowed >> bit & 1);
        assert_false(cpuid_has(&t, 0xd, 1, CPUID_EAX, 3));
    }
    assert_int_equal(cpuid_find(&t, 1, 0)->reg[CPUID_EBX] >> 16 & 0xff, n_vcpus); /* topology, in each of its leaves */
    assert_int_equal(cpuid_has(&t, 1, 0, CPUID_EDX, 28), n_vcpus > 1);
    assert_int_equal(cpuid_find(&t, 0xb, 1)->reg[CPUID_EBX], n_vcpus);
    unsigned shift = cpuid_find(&t, 0xb, 1)->reg[CPUID_EAX];
    assert_true(1u << shift >= n_vcpus && (n_vcpus == 1 || 1u << (shift - 1) < n_vcpus));
    const struct cpuid_entry *sizes = cpuid_find(&t, 0x80000008, 0), *cache = cpuid_find(&t, 4, 0);
    assert_int_equal(cache != NULL, !amd);
    if (cache)
        assert_int_equal(cache->reg[CPUID_EAX] >> 26, n_vcpus - 1);
    assert_int_equal(cpuid_find(&t, 2, 0) != NULL, !amd);
    assert_int_equal(sizes->reg[CPUID_ECX], amd ? (n_vcpus - 1) | shift << 12 : 0);
    assert_int_equal(cpuid_has(&t, 0x80000001, 0, CPUID_ECX, 1), amd && n_vcpus > 1);
    assert_int_equal(sizes->reg[CPUID_EAX] >> 8, 48); /* addresses */
    assert_in_range(cpuid_phys_bits(&t), 36, now.phys);
    for (unsigned bit = 0; amd && bit < 25; bit++) /* AMD's second copy of leaf 1 EDX never says more than the first */
        if (bit != 11 && bit != 20 && bit != 22 && cpuid_has(&t, 0x80000001, 0, CPUID_EDX, bit))
            assert_true(cpuid_has(&t, 1, 0, CPUID_EDX, bit));
    assert_false(cpuid_has(&t, 1, 0, CPUID_ECX, 5) || cpuid_has(&t, 1, 0, CPUID_ECX, 3) ||
                 cpuid_has(&t, 0x80000001, 0, CPUID_ECX, 2));
}

static void test_leaves_agree(void **state)
{
    static const unsigned counts[] = { 1, 2, 3, 8 };
    (void)state;
    for (unsigned c = 0; c < N_CPUS; c++)
        for (unsigned l = 0; l <= cpus[c].level; l++)
            for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
                assert_int_equal(make_sized(&t, c, l ? levels[l - 1] : "host", counts[i], 256 * MIB), HV_OK);
                check_consistent(counts[i]);
                uint8_t buf[VM_OFFER_MAX];
                struct wr w = wr_init(buf, sizeof(buf));
                cpuid_save(&t, &w);
                struct rd r = rd_init(buf, w.len);
                assert_int_equal(cpuid_load(&u, &r), HV_OK);
                assert_memory_equal(&t, &u, sizeof(t));
            }
}

static void test_phys_bits_follow_the_guest(void **state)
{
    static const struct {
        uint64_t memory;
        unsigned bits;
    } cases[] = {
        { 16 * MIB, 36 }, { 31 * GIB, 36 }, { 31 * GIB + 2 * MIB, 37 },
        { 63 * GIB, 37 }, { 64 * GIB, 38 }, { 1024 * GIB, 42 },
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(make_sized(&t, SKYLAKE, "x86-64-v3", 1, cases[i].memory), HV_OK);
        assert_int_equal(cpuid_phys_bits(&t), cases[i].bits);
        assert_int_equal(make_sized(&t, SKYLAKE, "host", 1, cases[i].memory), HV_OK);
        assert_int_equal(cpuid_phys_bits(&t), 46);
    }
}

static void test_msrs_follow_the_features(void **state)
{
    static const uint32_t never[] = { 0xda0, 0xd90, 0x6a0, 0x6a4, 0x6e1, 0x1c4, 0xe1 },
                          always[] = { 0x174, 0x277, 0xc0000080, 0xc0000081, 0xc0000102, 0x10 };
    (void)state;
    for (unsigned l = 0; l <= 4; l++) {
        assert_int_equal(make(&t, SKYLAKE, l ? levels[l - 1] : "host"), HV_OK);
        for (unsigned i = 0; i < ARRAY_SIZE(never); i++)
            assert_false(cpuid_msr_exists(&t, never[i]));
        for (unsigned i = 0; i < ARRAY_SIZE(always); i++)
            assert_true(cpuid_msr_exists(&t, always[i]));
        assert_int_equal(cpuid_msr_exists(&t, 0xc0000103), l == 0); /* TSC_AUX: rdtscp is in no level */
    }
}

static void test_control_bits_follow_the_features(void **state)
{
    static const struct {
        unsigned cpu;
        const char *baseline;
        uint64_t cr4, efer;
    } cases[] = {
        { SKYLAKE, "x86-64-v2", 0x7ff, 0xd01 }, { SKYLAKE, "x86-64-v4", 0x407ff, 0xd01 },
        { SKYLAKE, "host", 0x3707ff, 0xd01 },   { ZEN1, "host", 0x350fff, 0xd01 },
        { K10, "x86-64-v1", 0x7ff, 0xd01 },
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(make(&t, cases[i].cpu, cases[i].baseline), HV_OK);
        assert_int_equal(cpuid_cr4_allowed(&t), cases[i].cr4);
        assert_int_equal(cpuid_efer_allowed(&t), cases[i].efer);
    }
}

/* A host that shows AVX in leaf 1 but not in XCR0 (it was switched off there) has no use for
 * whatever needs its registers. */
static void test_features_without_their_registers_are_not_shown(void **state)
{
    (void)state;
    now = cpus[SKYLAKE];
    now.xcr0 = 3;
    cpuid_build(&t, read_now, 4, 0);
    check_consistent(4);
    assert_int_equal(cpuid_find(&t, 1, 0)->reg[CPUID_ECX],
                     0x81200000 | C1_V2 | BIT32(17) | BIT32(22) | BIT32(25) | BIT32(26));
    assert_int_equal(cpuid_find(&t, 7, 0)->reg[CPUID_EBX],
                     BIT32(0) | BIT32(1) | BIT32(3) | BIT32(7) | BIT32(8) | BIT32(10) | BIT32(20));
}

/* ---- moves ---- */

static void test_a_level_moves_wherever_the_level_is(void **state)
{
    (void)state;
    for (unsigned a = 0; a < N_CPUS; a++)
        for (unsigned b = 0; b < N_CPUS; b++)
            for (unsigned l = 1; l <= cpus[a].level; l++) {
                if (cpus[a].amd != cpus[b].amd)
                    continue;
                assert_int_equal(make(&t, a, levels[l - 1]), HV_OK);
                assert_int_equal(make(&u, b, "host"), HV_OK);
                unsigned n = cpuid_check(&u, &t, add, NULL);
                if (l <= cpus[b].level)
                    assert_int_equal(n, 0);
                else
                    assert_int_not_equal(n, 0);
            }
}

static void check(unsigned host, unsigned guest, unsigned n, const char *text)
{
    assert_int_equal(make(&t, guest, "host"), HV_OK);
    assert_int_equal(make(&u, host, "host"), HV_OK);
    assert_int_equal(cpuid_check(&u, &t, add, NULL), n);
    assert_string_equal(got, text);
}

static void test_refusals_name_everything(void **state)
{
    (void)state;
    check(HASWELL, SKYLAKE, 10,
          "this host's processor lacks 6 features that the guest was promised: avx512f, avx512dq, smap, avx512cd, "
          "avx512bw, avx512vl|"
          "the guest may use XSAVE component 5 (AVX-512 opmask), which this host does not have|"
          "the guest may use XSAVE component 6 (AVX-512 ZMM_Hi256), which this host does not have|"
          "the guest may use XSAVE component 7 (AVX-512 Hi16_ZMM), which this host does not have|"
          "the guest was promised 46 physical address bits, this host has 39");
    check(SKYLAKE, HASWELL, 0, "");
    check(ATOM, SANDY, 9,
          "this host's processor lacks 7 features that the guest was promised: pcid, aes, xsave, avx, xsaveopt, "
          "xsavec, xgetbv1|"
          "the guest may use XSAVE component 1 (SSE), which this host does not have|"
          "the guest may use XSAVE component 2 (AVX), which this host does not have");
    assert_int_equal(make(&t, ZEN4, "host"), HV_OK); /* the same components elsewhere: an area cannot be taken over */
    now = cpus[ZEN4];
    now.avx512_at = 1088;
    cpuid_build(&u, read_now, 4, 0);
    got[0] = 0, n_got = 0;
    assert_int_equal(cpuid_check(&u, &t, add, NULL), 3);
    assert_string_equal(got, "the guest has XSAVE component 5 (AVX-512 opmask) at offset 832 with 64 bytes, this host "
                             "at offset 1088 with 64 bytes|"
                             "the guest has XSAVE component 6 (AVX-512 ZMM_Hi256) at offset 896 with 512 bytes, this "
                             "host at offset 1152 with 512 bytes|"
                             "the guest has XSAVE component 7 (AVX-512 Hi16_ZMM) at offset 1408 with 1024 bytes, this "
                             "host at offset 1664 with 1024 bytes");
    assert_int_equal(make(&u, ZEN1, "host"), HV_OK);
    for (unsigned i = 0; i < u.n; i++)
        if (u.e[i].leaf == 7)
            u.e[i].reg[CPUID_EDX] |= BIT32(31); /* from a newer version of ours */
    t = u;
    assert_int_equal(make(&u, ZEN1, "host"), HV_OK);
    assert_int_equal(cpuid_check(&u, &t, add, NULL), 1);
    assert_string_equal(got, "the guest was promised 1 processor feature that this host's version of Godwit does not "
                             "know (CPUID 7h.0 EDX bit 31): update this host");
}

static void test_a_broken_xsavec_is_not_shown(void **state)
{
    uint32_t with[4], without[4];
    (void)state;
    cpuid_host(0xd, 1, with);
    fpu_xsavec_broken = true;
    cpuid_host(0xd, 1, without);
    fpu_xsavec_broken = false;
    with[CPUID_EAX] &= ~BIT32(1);
    assert_memory_equal(with, without, sizeof(with));
}

/* ---- the whole answer to an offer: cpuid_host is this machine's, so the guest is made from that ---- */

static void test_offer_answer(void **state)
{
    static struct vm_offer o;
    (void)state;
    o = (struct vm_offer){ .format = VM_STATE_FORMAT, .vendor = fake_ops.vendor, .tsc_hz = clock_tsc_hz };
    o.config.n_cpus = 1, o.config.memory_bytes = 256 * MIB;
    cpuid_build(&o.cpuid, cpuid_host, 1, clock_tsc_hz);
    got[0] = 0, n_got = 0;
    assert_int_equal(vm_offer_check(&o, GIB, add, NULL), 0);
    assert_string_equal(got, "");
    char note[200];
    assert_false(vm_offer_note(&o, note, sizeof(note)));
    o.tsc_hz = 3000000000; /* told, but no reason */
    other_rate = TSC_SCALED;
    assert_int_equal(vm_offer_check(&o, GIB, add, NULL), 0);
    assert_string_equal(got, "");
    assert_true(vm_offer_note(&o, note, sizeof(note)));
    assert_string_equal(note, "tsc: the guest keeps its 3000000 kHz, scaled from the destination's 2000000 kHz");
    other_rate = TSC_CHANGES;
    assert_int_equal(vm_offer_check(&o, GIB, add, NULL), 0);
    for (unsigned i = 0; i < o.cpuid.n; i++) {
        if (o.cpuid.e[i].leaf == 0x80000008)
            o.cpuid.e[i].reg[CPUID_EAX] = (o.cpuid.e[i].reg[CPUID_EAX] & ~0xffu) | 60;
        if (o.cpuid.e[i].leaf == 1)
            o.cpuid.e[i].reg[CPUID_ECX] |= BIT32(5) | BIT32(18);
    }
    o.n_devices = 1, o.device[0].section = VMS_SEC_UART, o.device[0].version = 77;
    strcpy(o.device[0].name, "serial port");
    unsigned have = cpuid_phys_bits(&o.cpuid);
    assert_int_equal(have, 60);
    cpuid_build(&u, cpuid_host, 1, 0);
    char want[2000];
    snprintf(want, sizeof(want),
             "the guest was promised 2 processor features that this host's version of Godwit does not know (CPUID "
             "1h.0 ECX bit 5, CPUID 1h.0 ECX bit 18): update this host|the guest was promised 60 physical "
             "address bits, this host has %u|"
             "the guest has device state %u (serial port) of version 77, which this host does not know: update this "
             "host|"
             "the guest needs 256 MiB for its memory, disk, boot files and the tables of a move, this host can give 16 "
             "MiB: stop another guest here or choose another host|"
             "tsc: the guest was promised 3000000 kHz, the destination runs at 2000000 kHz and cannot scale: the "
             "guest's KVM clock stays right, a bare TSC clock would not",
             cpuid_phys_bits(&u), VMS_SEC_UART);
    assert_int_equal(vm_offer_check(&o, 16 * MIB, add, NULL), 5);
    assert_string_equal(got, want);
    uint32_t area = o.cpuid.xsave_bytes;
    o.cpuid.xsave_bytes = 99999;
    got[0] = 0, n_got = 0;
    assert_int_equal(vm_offer_check(&o, 16 * MIB, add, NULL), 6);
    assert_non_null(strstr(got, "the guest's FPU state has 99999 bytes, this host keeps "));
    o.cpuid.xsave_bytes = area;
    o.vendor = 1;
    got[0] = 0, n_got = 0, o.n_devices = 0, o.tsc_hz = clock_tsc_hz;
    assert_int_equal(vm_offer_check(&o, GIB, add, NULL), 1);
    assert_non_null(
        strstr(got, "the guest runs on One, this host is Two: guests move between processors of one vendor only"));
}

/* ---- pool ---- */

static char file[20000];
static void file_line(struct printer *p, const char *text)
{
    size_t n = strlen(file);
    (void)p;
    snprintf(file + n, sizeof(file) - n, "%s\r\n", text);
}
static struct printer to_file = { file_line };
static void describe(unsigned cpu)
{
    now = cpus[cpu];
    cpu_pool_print(now.name, read_now, &to_file);
}

static struct config conf;
static struct vm_config vm = { .name = "web", .cpu = "pool", .n_cpus = 4, .memory_bytes = 256 * MIB };
static char why[256];

/* This host is `self`, its peers are the others. */
static enum hv_err pool_of(unsigned self, unsigned n, const unsigned *peers)
{
    memset(&conf, 0, sizeof(conf));
    strcpy(conf.host.pool_cpuid, "p.txt");
    for (unsigned i = 0; i < n; i++)
        strcpy(conf.peers[conf.n_peers++].name, cpus[peers[i]].name);
    now = cpus[self];
    cpu_pool_load(&conf, read_now, file, strlen(file));
    why[0] = 0;
    return cpu_baseline_check(&vm, read_now, WHY(why));
}

static void test_unknown_baseline(void **state)
{
    (void)state;
    struct vm_config odd = vm;
    now = cpus[0];
    strcpy(odd.cpu, "x86-64-v9");
    assert_int_not_equal(cpu_baseline_check(&odd, read_now, WHY(why)), HV_OK);
    assert_string_equal(why, "web: cpu = x86-64-v9 is no baseline that this host knows");
}

static void test_pool_is_what_all_have(void **state)
{
    static const unsigned intel[] = { SKYLAKE, HASWELL, SANDY }, mixed[] = { ZEN1 };
    (void)state;
    file[0] = 0;
    print_line(&to_file, "godwit haswell> host cpuid");
    for (unsigned c = 0; c < N_CPUS; c++)
        describe(c);
    assert_int_equal(pool_of(SKYLAKE, 2, intel + 1), HV_OK);
    assert_int_equal(make(&t, SKYLAKE, "pool"), HV_OK);
    check_consistent(4);
    assert_int_equal(cpuid_find(&t, 1, 0)->reg[CPUID_ECX],
                     0x81200000 | C1_V2 | BIT32(17) | BIT32(25) | BIT32(26) | BIT32(28));
    assert_int_equal(cpuid_find(&t, 7, 0)->reg[CPUID_EBX], BIT32(1)); /* emulated on each */
    assert_int_equal(t.xcr0_allowed, 7);
    assert_int_equal(cpuid_phys_bits(&t), 36);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(make(&u, intel[i], "host"), HV_OK);
        assert_int_equal(cpuid_check(&u, &t, add, NULL), 0);
    }
    assert_int_equal(pool_of(SKYLAKE, 1, intel + 1), HV_OK); /* only the peers count, not all of the file */
    assert_int_equal(make(&t, SKYLAKE, "pool"), HV_OK);
    assert_true(cpuid_has(&t, 7, 0, CPUID_EBX, 5) && !cpuid_has(&t, 7, 0, CPUID_EBX, 16));
    assert_int_equal(cpuid_phys_bits(&t), 39);
    assert_int_equal(pool_of(SKYLAKE, 1, mixed), HV_E_UNSUPP);
    assert_string_equal(why, "web: cpu = pool: peer zen1 has a processor of another vendor");
}

/* Components that two hosts keep at different places are nobody's, and neither are the features that need them. */
static void test_pool_drops_components_at_other_places(void **state)
{
    static const unsigned zen4[] = { ZEN4 };
    (void)state;
    file[0] = 0;
    now = cpus[ZEN4];
    now.avx512_at = 1088;
    cpu_pool_print("zen4", read_now, &to_file);
    assert_int_equal(pool_of(ZEN4, 1, zen4), HV_OK);
    assert_int_equal(make(&t, ZEN4, "pool"), HV_OK);
    check_consistent(4);
    assert_int_equal(t.xcr0_allowed, 7);
    assert_int_equal(cpuid_find(&t, 7, 0)->reg[CPUID_EBX], B7_V3 | BIT32(1) | BIT32(7));
}

static void test_pool_mistakes(void **state)
{
    static const unsigned sandy[] = { SANDY };
    (void)state;
    file[0] = 0;
    describe(HASWELL);
    assert_int_equal(pool_of(SKYLAKE, 1, sandy), HV_E_UNSUPP);
    assert_string_equal(why, "web: cpu = pool: \\godwit\\p.txt has no lines of peer sandy: add what `host cpuid` "
                             "prints there");
    strcpy(file, "cpuid sandy 1.0 1 2 3 4\n# remark\ncpuid sandy 7.0 1 2 3\n");
    assert_int_equal(pool_of(SKYLAKE, 1, sandy), HV_E_UNSUPP);
    assert_string_equal(why, "web: cpu = pool: \\godwit\\p.txt:3 is not a line that `host cpuid` prints");
    static const char *const bad[] = { "cpuid sandy 1.0 1 2 3 123456789", "cpuid sandy 1.0 1 2 3 4 5",
                                       "cpuid sandy 1 1 2 3 4", "cpuid sandy ", "cpuid sandy x.0 1 2 3 4" };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        strcpy(file, bad[i]);
        assert_int_equal(pool_of(SKYLAKE, 1, sandy), HV_E_UNSUPP);
        assert_non_null(strstr(why, ":1 is not a line"));
    }
    strcpy(file, "cpuid sandy 1.0 1 2 3 4");
    assert_int_equal(pool_of(SKYLAKE, 1, sandy), HV_E_UNSUPP);
    assert_non_null(strstr(why, "has not all lines of peer sandy"));
    cpu_pool_load(&conf, read_now, NULL, 0);
    assert_int_equal(cpu_baseline_check(&vm, read_now, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "there is no \\godwit\\p.txt"));
    struct vm_config v4 = vm;
    strcpy(v4.cpu, "x86-64-v4");
    now = cpus[HASWELL];
    assert_int_equal(cpu_baseline_check(&v4, read_now, WHY(why)), HV_E_UNSUPP);
    assert_string_equal(why, "web: cpu = x86-64-v4: this host lacks avx512f, avx512dq, avx512cd, avx512bw, avx512vl, "
                             "XSAVE component 5 (AVX-512 opmask), XSAVE component 6 (AVX-512 ZMM_Hi256), XSAVE "
                             "component 7 (AVX-512 Hi16_ZMM)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels_by_host),
        cmocka_unit_test(test_missing_is_named),
        cmocka_unit_test(test_level_is_the_same_everywhere),
        cmocka_unit_test(test_tsc_adjust_needs_no_host_that_has_it),
        cmocka_unit_test(test_leaves_agree),
        cmocka_unit_test(test_phys_bits_follow_the_guest),
        cmocka_unit_test(test_msrs_follow_the_features),
        cmocka_unit_test(test_control_bits_follow_the_features),
        cmocka_unit_test(test_a_level_moves_wherever_the_level_is),
        cmocka_unit_test(test_refusals_name_everything),
        cmocka_unit_test(test_a_broken_xsavec_is_not_shown),
        cmocka_unit_test(test_offer_answer),
        cmocka_unit_test(test_unknown_baseline),
        cmocka_unit_test(test_pool_is_what_all_have),
        cmocka_unit_test(test_pool_drops_components_at_other_places),
        cmocka_unit_test(test_features_without_their_registers_are_not_shown),
        cmocka_unit_test(test_pool_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
