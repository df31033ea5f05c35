/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/cpuid.c - the CPUID policy.  docs/cpuid.md describes it for users, and what happens when a guest executes
 * a feature that is not shown.
 *
 * The table `features` is the policy.  A feature bit is shown when the host has it, the baseline includes it, and the
 * table names it.  So every shown bit has a name, and an unknown bit is never shown.  EMULATED ones need no host that
 * has them; FORCED ones are emulated, and shown always.
 *
 * `level` is the first of the baselines x86-64-v1 to v4 (x86-64 psABI, "Micro-Architecture Levels") with the feature.
 * A guest on level n gets exactly the rows with 1 <= level <= n, and a host without one of them refuses it.  Level 0 is
 * in no level: "host" shows it where the host has it, "pool" where all hosts of the pool have it.
 *
 * What belongs to a feature follows from the bits: XSAVE components (`xsave_parts`), MSRs (`feature_msrs`), bits of CR4
 * (`feature_cr4`) and EFER, sizes.  All other registers are values (family, caches, topology, sizes), made by the
 * functions below.
 *
 * Not virtualized, so not shown: SVM, VMX, MONITOR, PMU, SPEC_CTRL and related bits, XSAVES, protection keys.
 * Left out on purpose:
 *   invariant TSC   a move may bring another TSC rate; the clock page (pvclock.c) can announce it, the bare TSC cannot
 *   TOPOEXT         the older leaves describe 1 to 8 equal cores well enough */
#include "kernel/core/cpuid.h"
#include "kernel/lib/fmt.h"

#include <stdio.h>
#include <string.h>
#include "kernel/core/vm.h"
#include "kernel/host/x86/fpu.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"
#include "kernel/lib/name_list.h"

#define FORCED   1u  /* emulated, and in each baseline */
#define REPEAT   2u  /* copy of a bit of leaf 1, required by a level only where the processor has copies (AMD) */
#define YMM      4u  /* needs the XSAVE component of AVX */
#define ZMM      8u  /* needs the XSAVE components of AVX-512 */
#define NEW      16u /* release 0.1 does not know it: a host of that release refuses a guest that has it */
#define EMULATED 32u /* emulated: as if each host had it */

#define XCR0_AVX512_ALL UINT64_C(0xe0)
#define XCR0_KNOWN      UINT64_C(0xe7) /* x87, SSE, AVX, AVX-512 */

/* clang-format off */
static const struct feature {
    uint32_t leaf;
    uint8_t sub, reg, bit, level, flags;
    const char *name;
} features[] = {
#define C1(bit, level, flags, name) { 1, 0, CPUID_ECX, bit, level, flags, name }
    C1(0, 2, 0, "sse3"), C1(1, 0, 0, "pclmulqdq"), C1(9, 2, 0, "ssse3"), C1(12, 3, YMM, "fma"),
    C1(13, 2, 0, "cmpxchg16b"), C1(17, 0, 0, "pcid"), C1(19, 2, 0, "sse4.1"), C1(20, 2, 0, "sse4.2"),
    C1(22, 3, 0, "movbe"), C1(23, 2, 0, "popcnt"), C1(25, 0, 0, "aes"), C1(26, 3, 0, "xsave"), C1(28, 3, YMM, "avx"),
    C1(29, 3, YMM, "f16c"), C1(30, 0, 0, "rdrand"), C1(21, 0, FORCED, "x2apic"), C1(24, 0, FORCED, "tsc-deadline"),
    C1(31, 0, FORCED, "hypervisor"),
#define D1(bit, level, flags, name) { 1, 0, CPUID_EDX, bit, level, flags, name }
    D1(0, 1, 0, "fpu"), D1(1, 0, 0, "vme"), D1(2, 1, 0, "de"), D1(3, 1, 0, "pse"), D1(4, 1, 0, "tsc"),
    D1(5, 1, 0, "msr"), D1(6, 1, 0, "pae"), D1(8, 1, 0, "cmpxchg8b"), D1(11, 1, 0, "sep"), D1(13, 1, 0, "pge"),
    D1(15, 1, 0, "cmov"), D1(16, 1, 0, "pat"), D1(17, 1, 0, "pse36"), D1(19, 1, 0, "clflush"), D1(23, 1, 0, "mmx"),
    D1(24, 1, 0, "fxsr"), D1(25, 1, 0, "sse"), D1(26, 1, 0, "sse2"), D1(27, 0, 0, "self-snoop"),
    D1(7, 0, EMULATED | NEW, "mce"), D1(14, 0, EMULATED | NEW, "mca"), D1(9, 0, FORCED, "apic"),
    D1(12, 0, FORCED, "mtrr"),
#define A6(bit, level, flags, name) { 6, 0, CPUID_EAX, bit, level, flags, name }
    A6(2, 0, FORCED, "arat"),
#define B7(bit, level, flags, name) { 7, 0, CPUID_EBX, bit, level, flags, name }
    B7(0, 0, 0, "fsgsbase"), B7(1, 0, EMULATED | NEW, "tsc-adjust"), B7(3, 3, 0, "bmi1"), B7(5, 3, YMM, "avx2"),
    B7(7, 0, 0, "smep"), B7(8, 3, 0, "bmi2"), B7(9, 0, 0, "erms"), B7(10, 0, 0, "invpcid"),
    B7(16, 4, ZMM, "avx512f"), B7(17, 4, ZMM, "avx512dq"), B7(18, 0, 0, "rdseed"), B7(19, 0, 0, "adx"),
    B7(20, 0, 0, "smap"), B7(21, 0, ZMM, "avx512ifma"), B7(23, 0, 0, "clflushopt"), B7(24, 0, 0, "clwb"),
    B7(28, 4, ZMM, "avx512cd"), B7(29, 0, 0, "sha"), B7(30, 4, ZMM, "avx512bw"), B7(31, 4, ZMM, "avx512vl"),
#define C7(bit, level, flags, name) { 7, 0, CPUID_ECX, bit, level, flags, name }
    C7(1, 0, ZMM, "avx512vbmi"), C7(2, 0, 0, "umip"), C7(6, 0, ZMM, "avx512vbmi2"), C7(8, 0, 0, "gfni"),
    C7(9, 0, YMM, "vaes"), C7(10, 0, YMM, "vpclmulqdq"), C7(11, 0, ZMM, "avx512vnni"), C7(12, 0, ZMM, "avx512bitalg"),
    C7(14, 0, ZMM, "avx512vpopcntdq"), C7(22, 0, 0, "rdpid"),
#define D7(bit, level, flags, name) { 7, 0, CPUID_EDX, bit, level, flags, name }
    D7(4, 0, 0, "fsrm"), D7(10, 0, 0, "md-clear"),
#define AD(bit, level, flags, name) { 0xd, 1, CPUID_EAX, bit, level, flags, name }
    AD(0, 0, 0, "xsaveopt"), AD(1, 0, 0, "xsavec"), AD(2, 0, 0, "xgetbv1"),
#define CE1(bit, level, flags, name) { 0x80000001, 0, CPUID_ECX, bit, level, flags, name }
    CE1(0, 2, 0, "lahf"), CE1(4, 0, 0, "cr8-legacy"), CE1(5, 3, 0, "abm"), CE1(6, 0, 0, "sse4a"),
    CE1(7, 0, 0, "misalign-sse"), CE1(8, 0, 0, "3dnow-prefetch"), CE1(11, 0, YMM, "xop"), CE1(16, 0, YMM, "fma4"),
    CE1(21, 0, 0, "tbm"),
#define DE1(bit, level, flags, name) { 0x80000001, 0, CPUID_EDX, bit, level, flags, name }
    DE1(0, 1, REPEAT, "fpu(ext)"), DE1(1, 0, REPEAT, "vme(ext)"), DE1(2, 1, REPEAT, "de(ext)"),
    DE1(3, 1, REPEAT, "pse(ext)"), DE1(4, 1, REPEAT, "tsc(ext)"), DE1(5, 1, REPEAT, "msr(ext)"),
    DE1(6, 1, REPEAT, "pae(ext)"), DE1(8, 1, REPEAT, "cmpxchg8b(ext)"), DE1(9, 1, REPEAT, "apic(ext)"),
    DE1(11, 1, 0, "syscall"), DE1(12, 1, REPEAT, "mtrr(ext)"), DE1(13, 1, REPEAT, "pge(ext)"),
    DE1(15, 1, REPEAT, "cmov(ext)"), DE1(16, 1, REPEAT, "pat(ext)"), DE1(17, 1, REPEAT, "pse36(ext)"),
    DE1(20, 1, 0, "nx"), DE1(22, 0, 0, "mmxext"), DE1(23, 1, REPEAT, "mmx(ext)"), DE1(24, 1, REPEAT, "fxsr(ext)"),
    DE1(25, 0, 0, "ffxsr"), DE1(26, 0, 0, "1gb-pages"), DE1(27, 0, 0, "rdtscp"), DE1(29, 1, 0, "long-mode"),
#define BE8(bit, level, flags, name) { 0x80000008, 0, CPUID_EBX, bit, level, flags, name }
    BE8(0, 0, 0, "clzero"), BE8(2, 0, 0, "xsaveerptr"),
};
/* clang-format on */
_Static_assert((XCR0_KNOWN & XCR0_AVX512_ALL) == XCR0_AVX512_ALL && (XCR0_KNOWN & XCR0_AVX), "flags YMM and ZMM");

/* XSAVE components that a guest may enable, with the first level whose features need them. */
static const struct {
    uint8_t bit, level;
    const char *name;
} xsave_parts[] = {
    { 1, 3, "SSE" },
    { 2, 3, "AVX" },
    { 5, 4, "AVX-512 opmask" },
    { 6, 4, "AVX-512 ZMM_Hi256" },
    { 7, 4, "AVX-512 Hi16_ZMM" },
};

/* MSRs that exist only where one of their features is shown (SDM 4 "Architectural MSRs", the column "IF CPUID...").
 * Others always exist, or never. */
static const struct {
    uint32_t first, last, leaf;
    uint8_t sub, reg, bit;
} feature_msrs[] = {
    { 0x3b, 0x3b, 7, 0, CPUID_EBX, 1 },                       /* TSC_ADJUST */
    { 0xe1, 0xe1, 7, 0, CPUID_ECX, 5 },                       /* UMWAIT_CONTROL */
    { 0x174, 0x176, 1, 0, CPUID_EDX, 11 },                    /* SYSENTER_CS, _ESP, _EIP: sep */
    { 0x17b, 0x17b, 1, 0, CPUID_EDX, 14 },                    /* MCG_CTL: mca */
    { 0x400, 0x47f, 1, 0, CPUID_EDX, 14 },                    /* banks 0 to 31 */
    { 0x1c4, 0x1c5, 0xd, 1, CPUID_EAX, 4 },                   /* XFD, XFD_ERR */
    { 0x277, 0x277, 1, 0, CPUID_EDX, 16 },                    /* PAT */
    { 0x6a0, 0x6a8, 7, 0, CPUID_ECX, 7 },                     /* CET */
    { 0x6e1, 0x6e1, 7, 0, CPUID_ECX, 31 },                    /* PKRS */
    { 0xd90, 0xd90, 7, 0, CPUID_EBX, 14 },                    /* BNDCFGS */
    { 0xda0, 0xda0, 0xd, 1, CPUID_EAX, 3 },                   /* XSS */
    { 0xc0000081, 0xc0000084, 0x80000001, 0, CPUID_EDX, 29 }, /* STAR, LSTAR, CSTAR, FMASK: long-mode */
    { 0xc0000100, 0xc0000102, 0x80000001, 0, CPUID_EDX, 29 }, /* FS_BASE, GS_BASE, KERNEL_GS_BASE */
    { 0xc0000103, 0xc0000103, 0x80000001, 0, CPUID_EDX, 27 }, /* TSC_AUX: rdtscp, or ... */
    { 0xc0000103, 0xc0000103, 7, 0, CPUID_ECX, 22 },          /* ... rdpid */
};

/* CR4 bits that exist only where their feature is shown (SDM 3A "Control Registers").  Every 64-bit processor has the
 * others. */
#define CR4_COMMON UINT64_C(0x7ff) /* VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT */
static const struct {
    uint8_t cr4, reg, bit;
    uint32_t leaf;
} feature_cr4[] = {
    /* UMIP LA57 FSGSBASE PCIDE */
    { 11, CPUID_ECX, 2, 7 },  { 12, CPUID_ECX, 16, 7 }, { 16, CPUID_EBX, 0, 7 },
    { 17, CPUID_ECX, 17, 1 }, { 18, CPUID_ECX, 26, 1 }, { 20, CPUID_EBX, 7, 7 },
    { 21, CPUID_EBX, 20, 7 }, { 22, CPUID_ECX, 3, 7 }, /* OSXSAVE SMEP SMAP PKE */
    { 23, CPUID_ECX, 7, 7 },                           /* CET */
};

/* KVM's feature bits (Linux Documentation/virt/kvm/x86/cpuid.rst): NOP_IO_DELAY (1); CLOCKSOURCE2 (3) with
 * CLOCKSOURCE_STABLE (24), MSRs 4b564d00h/01h; STEAL_TIME (5) with PV_TLB_FLUSH (9), MSR 4b564d03h; the hypercalls of
 * PV_UNHALT (7) and PV_SCHED_YIELD (13). */
#define KVM_FEATURES_0_1 (BIT32(1) | BIT32(3) | BIT32(5) | BIT32(7) | BIT32(9) | BIT32(13) | BIT32(24))
#define KVM_FEATURES     KVM_FEATURES_0_1
#define PHYS_BITS_MIN    36
#define LINEAR_BITS_MAX  48  /* 57 need LA57, which is never shown */
#define RAM_HOLE         GIB /* guest RAM leaves 3..4 GiB out */

void cpuid_host(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    struct cpuid c = cpuidex(leaf, subleaf);
    out[CPUID_EAX] = c.eax;
    out[CPUID_EBX] = c.ebx;
    out[CPUID_ECX] = c.ecx;
    out[CPUID_EDX] = c.edx;
    if (leaf == 0xd && subleaf == 1 && fpu_xsavec_broken)
        out[CPUID_EAX] &= ~CPUID_D1_EAX_XSAVEC;
}

/* ---- building ---- */

/* The inputs of one table, and the table. */
struct build {
    struct cpuid_table *t;
    cpuid_fn *read;
    unsigned n_vcpus;
    unsigned level;                 /* 1..4: a level of x86-64 */
    const struct cpuid_table *pool; /* or the common baseline of a pool of hosts; neither: all that this host has */
    bool repeats;                   /* the layout of leaves: see leaf_1_is_repeated() */
};

static struct cpuid_table pool;
static unsigned pool_hosts;

static struct cpuid_entry *cpuid_entry_add(struct cpuid_table *t, uint32_t leaf, uint32_t sub, uint32_t a, uint32_t b,
                                           uint32_t c, uint32_t d)
{
    ASSERT(t->n < CPUID_MAX_ENTRIES);
    struct cpuid_entry *e = &t->e[t->n++];
    *e = (struct cpuid_entry){ leaf, sub, { a, b, c, d } };
    return e;
}

/* A leaf, or zeros if it is beyond the processor's last one of its kind. */
static void leaf_read(cpuid_fn *read, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    read(leaf & 0x80000000, 0, out);
    if (leaf <= out[CPUID_EAX])
        read(leaf, sub, out);
    else
        memset(out, 0, 4 * sizeof(out[0]));
}

static bool feature_in_baseline(const struct build *b, const struct feature *f)
{
    if (b->level)
        return f->level && f->level <= b->level;
    return !b->pool || cpuid_has(b->pool, f->leaf, f->sub, f->reg, f->bit);
}

static bool feature_fits(const struct feature *f, uint64_t xcr0)
{
    return (!(f->flags & YMM) || (xcr0 & XCR0_AVX)) && (!(f->flags & ZMM) || (xcr0 & XCR0_AVX512_ALL));
}

static struct cpuid_entry *add_features(const struct build *b, uint32_t leaf, uint32_t sub)
{
    uint32_t host[4];
    leaf_read(b->read, leaf, sub, host);
    struct cpuid_entry *e = cpuid_entry_add(b->t, leaf, sub, 0, 0, 0, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        const struct feature *f = &features[i];
        if (f->leaf != leaf || f->sub != sub)
            continue;
        bool there = (host[f->reg] & BIT32(f->bit)) || (f->flags & EMULATED);
        if ((f->flags & FORCED) || (there && feature_fits(f, b->t->xcr0_allowed) && feature_in_baseline(b, f)))
            e->reg[f->reg] |= BIT32(f->bit);
    }
    return e;
}

/* Two families of processors lay out some leaves differently.  One (AMD's) repeats leaf 1's features in 8000_0001h EDX,
 * FPU among them, and describes cores and caches in 8000_0001h and 8000_0008h.  The other (Intel's) does neither, and
 * has leaves 2 and 4 for caches. */
static bool leaf_1_is_repeated(cpuid_fn *read)
{
    uint32_t r[4];
    read(0x80000001, 0, r);
    return r[CPUID_EDX] & BIT32(0);
}
static unsigned apic_id_bits(unsigned n)
{
    unsigned b = 0;
    while (1u << b < n)
        b++;
    return b;
}

/* AVX-512 is three components that go together, and not without AVX (SDM 1 "Enabling the XSAVE Feature Set"). */
static uint64_t xcr0_whole(uint64_t x)
{
    if (!(x & XCR0_SSE))
        x &= ~(uint64_t)XCR0_AVX;
    if ((x & XCR0_AVX512_ALL) != XCR0_AVX512_ALL || !(x & XCR0_AVX))
        x &= ~XCR0_AVX512_ALL;
    return x | XCR0_X87;
}

static uint64_t host_xcr0(cpuid_fn *read)
{
    uint32_t r[4];
    read(0, 0, r);
    if (r[CPUID_EAX] < 0xd)
        return XCR0_X87;
    read(1, 0, r);
    if (!(r[CPUID_ECX] & BIT32(26)))
        return XCR0_X87;
    read(0xd, 0, r);
    return xcr0_whole(r[CPUID_EAX] & XCR0_KNOWN);
}

static uint64_t level_xcr0(unsigned level)
{
    uint64_t x = XCR0_X87;
    for (unsigned i = 0; i < ARRAY_SIZE(xsave_parts); i++)
        if (xsave_parts[i].level <= level)
            x |= BIT64(xsave_parts[i].bit);
    return x;
}

static uint64_t baseline_xcr0(const struct build *b)
{
    uint64_t x = host_xcr0(b->read);
    return b->level ? x & level_xcr0(b->level) : b->pool ? xcr0_whole(x & b->pool->xcr0_allowed) : x;
}

static void add_cache_leaves(struct cpuid_table *t, cpuid_fn *read, unsigned n_vcpus)
{
    uint32_t r[4];
    for (unsigned sub = 0; sub < 4; sub++) { /* one core per vCPU; caches of level 3 and up are shared */
        read(4, sub, r);
        if (!(r[CPUID_EAX] & 0x1f))
            break;
        unsigned sharing = (r[CPUID_EAX] >> 5 & 7) >= 3 ? n_vcpus - 1 : 0;
        cpuid_entry_add(t, 4, sub, (r[CPUID_EAX] & 0x3fff) | sharing << 14 | (n_vcpus - 1) << 26, r[CPUID_EBX],
                        r[CPUID_ECX], r[CPUID_EDX]);
    }
}

static void add_xsave_leaves(const struct build *b)
{
    struct cpuid_table *t = b->t;
    uint32_t r[4];
    if (!(t->xcr0_allowed & XCR0_SSE))
        return;
    struct cpuid_entry *top = cpuid_entry_add(t, 0xd, 0, (uint32_t)t->xcr0_allowed, 0, 0, 0);
    add_features(b, 0xd, 1);
    t->xsave_bytes = 576;
    for (unsigned bit = 2; bit < 64; bit++) {
        if (!(t->xcr0_allowed & BIT64(bit)))
            continue;
        b->read(0xd, bit, r);
        cpuid_entry_add(t, 0xd, bit, r[CPUID_EAX], r[CPUID_EBX], r[CPUID_ECX] & 2, 0);
        t->xcomp[bit].size = r[CPUID_EAX];
        t->xcomp[bit].offset = r[CPUID_EBX];
        t->xsave_bytes = MAX(t->xsave_bytes, r[CPUID_EAX] + r[CPUID_EBX]);
    }
    top->reg[CPUID_ECX] = t->xsave_bytes;
}

static void add_basic(const struct build *b, const uint32_t leaf0[4])
{
    struct cpuid_table *t = b->t;
    unsigned n = b->n_vcpus;
    uint32_t r[4];
    cpuid_entry_add(t, 0, 0, t->xcr0_allowed & XCR0_SSE ? 0xd : 0xb, leaf0[CPUID_EBX], leaf0[CPUID_ECX],
                    leaf0[CPUID_EDX]);
    struct cpuid_entry *e = add_features(b, 1, 0);
    b->read(1, 0, r);
    e->reg[CPUID_EAX] = r[CPUID_EAX];
    e->reg[CPUID_EBX] = (r[CPUID_EBX] & 0xff00) | n << 16;
    if (n > 1)
        e->reg[CPUID_EDX] |= BIT32(28); /* HTT: the count above is valid */
    if (!b->repeats) {
        b->read(2, 0, r);
        cpuid_entry_add(t, 2, 0, r[0], r[1], r[2], r[3]);
        add_cache_leaves(t, b->read, n);
    }
    add_features(b, 6, 0);
    add_features(b, 7, 0);
    cpuid_entry_add(t, 0xb, 0, 0, 1, 0x100, 0);               /* level 0: one thread per core */
    cpuid_entry_add(t, 0xb, 1, apic_id_bits(n), n, 0x201, 0); /* level 1: cores */
    add_xsave_leaves(b);
}

static unsigned host_phys_bits(cpuid_fn *read)
{
    uint32_t r[4];
    read(0x80000000, 0, r);
    if (r[CPUID_EAX] < 0x80000008)
        return PHYS_BITS_MIN;
    read(0x80000008, 0, r);
    return r[CPUID_EAX] & 0xff;
}

static void add_extended(const struct build *b, unsigned phys_bits)
{
    struct cpuid_table *t = b->t;
    uint32_t r[4], max[4];
    b->read(0x80000000, 0, max);
    if (b->repeats)
        cpuid_entry_add(t, 0x80000000, 0, 0x80000008, max[CPUID_EBX], max[CPUID_ECX], max[CPUID_EDX]);
    else
        cpuid_entry_add(t, 0x80000000, 0, 0x80000008, 0, 0, 0);
    struct cpuid_entry *e = add_features(b, 0x80000001, 0);
    b->read(0x80000001, 0, r);
    if (b->repeats)
        e->reg[CPUID_EAX] = r[CPUID_EAX];
    if (b->repeats && b->n_vcpus > 1)
        e->reg[CPUID_ECX] |= BIT32(1); /* CmpLegacy: the count in leaf 1 is cores */
    for (uint32_t leaf = 0x80000002; leaf <= 0x80000006 && leaf <= max[CPUID_EAX]; leaf++) {
        b->read(leaf, 0, r); /* name, caches and TLBs */
        cpuid_entry_add(t, leaf, 0, r[0], r[1], r[2], r[3]);
    }
    bool there = max[CPUID_EAX] >= 0x80000008;
    if (there)
        b->read(0x80000008, 0, r);
    unsigned linear = there ? MIN(r[CPUID_EAX] >> 8 & 0xff, (uint32_t)LINEAR_BITS_MAX) : LINEAR_BITS_MAX;
    e = there ? add_features(b, 0x80000008, 0) : cpuid_entry_add(t, 0x80000008, 0, 0, 0, 0, 0);
    e->reg[CPUID_EAX] = phys_bits | linear << 8;
    if (b->repeats)
        e->reg[CPUID_ECX] = (b->n_vcpus - 1) | apic_id_bits(b->n_vcpus) << 12;
}

static void cpuid_table_build(struct build *b, unsigned phys_bits, uint64_t tsc_hz)
{
    struct cpuid_table *t = b->t;
    uint32_t leaf0[4];
    ASSERT(b->n_vcpus >= 1 && b->n_vcpus <= VM_MAX_VCPUS);
    ASSERT(!b->level || !b->pool);
    b->read(0, 0, leaf0);
    b->repeats = leaf_1_is_repeated(b->read);
    memset(t, 0, sizeof(*t));
    t->xcr0_allowed = baseline_xcr0(b);
    t->xsave_bytes = 512;
    add_basic(b, leaf0);
    cpuid_entry_add(t, 0x40000000, 0, 0x40000010, 0x4b4d564b, 0x564b4d56, 0x0000004d); /* "KVMKVMKVM" */
    cpuid_entry_add(t, 0x40000001, 0, KVM_FEATURES, 0, 0, 0);
    cpuid_entry_add(t, 0x40000010, 0, (uint32_t)(tsc_hz / 1000), LAPIC_TIMER_HZ / 1000, 0, 0);
    add_extended(b, phys_bits);
}

void cpuid_build(struct cpuid_table *t, cpuid_fn *read, unsigned n_vcpus, uint64_t tsc_hz)
{
    cpuid_table_build(&(struct build){ .t = t, .read = read, .n_vcpus = n_vcpus }, host_phys_bits(read), tsc_hz);
}

/* ---- baselines ---- */

/* 0: not a level. */
static unsigned level_of(const char *baseline)
{
    static const char head[] = "x86-64-v";
    size_t n = sizeof(head) - 1;
    bool ok = !strncmp(baseline, head, n) && baseline[n] >= '1' && baseline[n] <= '4' && !baseline[n + 1];
    return ok ? (unsigned)(baseline[n] - '0') : 0;
}

bool cpuid_baseline_known(const char *baseline)
{
    return !strcmp(baseline, "host") || !strcmp(baseline, "pool") || level_of(baseline);
}

/* A level must not depend on the host, so its physical address bits follow from the guest's memory.  All RAM lies in
 * the lower half: Linux needs that against L1TF, and the upper half is free for devices.  Never fewer bits than any
 * 64-bit processor has. */
static unsigned level_phys_bits(uint64_t memory_bytes)
{
    unsigned bits = PHYS_BITS_MIN;
    while (bits < 52 && (memory_bytes + RAM_HOLE) > BIT64(bits - 1))
        bits++;
    return bits;
}

/* Name what the level has and the host lacks.  Returns how many. */
static unsigned level_missing(unsigned level, unsigned phys_bits, cpuid_fn *read, reason_fn *add_name, void *ctx)
{
    unsigned n = 0, host_bits = host_phys_bits(read);
    uint64_t no_part = level_xcr0(level) & ~host_xcr0(read);
    uint32_t r[4];
    char text[64];
    bool repeats = leaf_1_is_repeated(read);
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        const struct feature *f = &features[i];
        if (!f->level || f->level > level || ((f->flags & REPEAT) && !repeats))
            continue;
        leaf_read(read, f->leaf, f->sub, r);
        if (r[f->reg] & BIT32(f->bit))
            continue;
        add_name(ctx, f->name);
        n++;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(xsave_parts); i++) {
        if (!(no_part & BIT64(xsave_parts[i].bit)))
            continue;
        snprintf(text, sizeof(text), "XSAVE component %u (%s)", xsave_parts[i].bit, xsave_parts[i].name);
        add_name(ctx, text);
        n++;
    }
    if (phys_bits <= host_bits)
        return n;
    snprintf(text, sizeof(text), "%u physical address bits (it has %u)", phys_bits, host_bits);
    add_name(ctx, text);
    return n + 1;
}

enum hv_err cpuid_build_for(struct cpuid_table *t, const struct cpuid_spec *spec, cpuid_fn *read, reason_fn *add_name,
                            void *ctx)
{
    struct build b = { .t = t, .read = read, .n_vcpus = spec->n_vcpus, .level = level_of(spec->baseline) };
    unsigned phys_bits = host_phys_bits(read);
    if (!cpuid_baseline_known(spec->baseline))
        return HV_FAIL(HV_E_NOENT);
    if (b.level) {
        phys_bits = level_phys_bits(spec->memory_bytes);
        if (level_missing(b.level, phys_bits, read, add_name, ctx))
            return HV_FAIL(HV_E_UNSUPP);
    } else if (!strcmp(spec->baseline, "pool")) {
        if (!pool_hosts)
            return HV_FAIL(HV_E_NOENT);
        ASSERT(pool.n);
        b.pool = &pool;
        phys_bits = MIN(phys_bits, cpuid_phys_bits(&pool));
    }
    cpuid_table_build(&b, phys_bits, spec->tsc_hz);
    return HV_OK;
}

/* ---- asking ---- */

const struct cpuid_entry *cpuid_find(const struct cpuid_table *t, uint32_t leaf, uint32_t subleaf)
{
    for (unsigned i = 0; i < t->n; i++)
        if (t->e[i].leaf == leaf && t->e[i].subleaf == subleaf)
            return &t->e[i];
    return NULL;
}

bool cpuid_has(const struct cpuid_table *t, uint32_t leaf, uint32_t subleaf, enum cpuid_reg reg, unsigned bit)
{
    const struct cpuid_entry *e = cpuid_find(t, leaf, subleaf);
    ASSERT(bit < 32);
    return e && (e->reg[reg] & BIT32(bit));
}

bool cpuid_msr_exists(const struct cpuid_table *t, uint32_t msr)
{
    bool listed = false;
    for (unsigned i = 0; i < ARRAY_SIZE(feature_msrs); i++) {
        if (msr < feature_msrs[i].first || msr > feature_msrs[i].last)
            continue;
        if (cpuid_has(t, feature_msrs[i].leaf, feature_msrs[i].sub, feature_msrs[i].reg, feature_msrs[i].bit))
            return true;
        listed = true;
    }
    return !listed;
}

uint64_t cpuid_cr4_allowed(const struct cpuid_table *t)
{
    uint64_t allowed = CR4_COMMON;
    for (unsigned i = 0; i < ARRAY_SIZE(feature_cr4); i++)
        if (cpuid_has(t, feature_cr4[i].leaf, 0, feature_cr4[i].reg, feature_cr4[i].bit))
            allowed |= BIT64(feature_cr4[i].cr4);
    return allowed;
}

uint64_t cpuid_cr4_of(cpuid_fn *read)
{
    uint64_t have = CR4_COMMON;
    uint32_t r[4];
    for (unsigned i = 0; i < ARRAY_SIZE(feature_cr4); i++) {
        leaf_read(read, feature_cr4[i].leaf, 0, r);
        if (r[feature_cr4[i].reg] & BIT32(feature_cr4[i].bit))
            have |= BIT64(feature_cr4[i].cr4);
    }
    return have;
}

uint64_t cpuid_efer_allowed(const struct cpuid_table *t)
{
    uint64_t allowed = BIT64(0) | BIT64(8) | BIT64(10); /* SCE, LME, LMA */
    if (cpuid_has(t, 0x80000001, 0, CPUID_EDX, 20))
        allowed |= BIT64(11); /* NXE */
    if (cpuid_has(t, 0x80000001, 0, CPUID_EDX, 25))
        allowed |= BIT64(14); /* FFXSR */
    return allowed;
}

static bool has_subleaves(uint32_t leaf) { return leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd; }

/* Bytes of the compacted format, for 0Dh.1 EBX: components one after the other, some 64-byte aligned. */
static uint32_t compacted_bytes(const struct cpuid_table *t, uint64_t xcr0)
{
    uint32_t n = 576;
    for (unsigned bit = 2; bit < 64; bit++) {
        if (!(xcr0 & BIT64(bit)) || !t->xcomp[bit].size)
            continue;
        if (cpuid_has(t, 0xd, bit, CPUID_ECX, 1))
            n = (uint32_t)ALIGN_UP(n, 64);
        n += t->xcomp[bit].size;
    }
    return n;
}

void cpuid_exit(struct vcpu *v, bool cr4_osxsave, bool apic)
{
    const struct cpuid_table *t = v->vm->cpuid;
    ASSERT(v->index < VM_MAX_VCPUS);
    uint32_t leaf = (uint32_t)v->gpr[GPR_RAX], sub = has_subleaves(leaf) ? (uint32_t)v->gpr[GPR_RCX] : 0;
    const struct cpuid_entry *e = cpuid_find(t, leaf, sub);
    uint32_t r[4] = { 0, 0, 0, 0 };
    if (e)
        memcpy(r, e->reg, sizeof(r));
    if (!apic && (leaf == 1 || leaf == 0x80000001)) /* reserved, thus 0, in Intel's second leaf */
        r[CPUID_EDX] &= ~BIT32(9);
    switch (leaf) {
    case 1:
        r[CPUID_EBX] |= v->index << 24;
        if (cr4_osxsave)
            r[CPUID_ECX] |= BIT32(27);
        break;
    case 0xb:
        r[CPUID_ECX] |= sub & 0xff;
        r[CPUID_EDX] = v->index;
        break;
    case 0xd:
        if (sub == 0 && e)
            r[CPUID_EBX] = cpuid_xsave_bytes(t, v->xcr0);
        if (sub == 1 && e && (r[CPUID_EAX] & BIT32(1)))
            r[CPUID_EBX] = compacted_bytes(t, v->xcr0);
        break;
    }
    v->gpr[GPR_RAX] = r[CPUID_EAX];
    v->gpr[GPR_RBX] = r[CPUID_EBX];
    v->gpr[GPR_RCX] = r[CPUID_ECX];
    v->gpr[GPR_RDX] = r[CPUID_EDX];
}

bool cpuid_xcr0_ok(const struct cpuid_table *t, uint64_t x)
{
    if (!(x & XCR0_X87) || (x & ~t->xcr0_allowed))
        return false;
    if ((x & XCR0_AVX) && !(x & XCR0_SSE))
        return false;
    return !(x & XCR0_AVX512_ALL) || ((x & XCR0_AVX512_ALL) == XCR0_AVX512_ALL && (x & XCR0_AVX));
}

uint32_t cpuid_xsave_bytes(const struct cpuid_table *t, uint64_t xcr0)
{
    uint32_t n = 576;
    for (unsigned bit = 2; bit < 64; bit++)
        if (xcr0 & BIT64(bit))
            n = MAX(n, t->xcomp[bit].offset + t->xcomp[bit].size);
    return t->xcr0_allowed & XCR0_SSE ? n : 512;
}

unsigned cpuid_phys_bits(const struct cpuid_table *t)
{
    const struct cpuid_entry *e = cpuid_find(t, 0x80000008, 0);
    return e ? e->reg[CPUID_EAX] & 0xff : PHYS_BITS_MIN;
}

/* ---- as bytes ---- */

void cpuid_save(const struct cpuid_table *t, struct wr *w)
{
    ASSERT(t->n <= CPUID_MAX_ENTRIES);
    wr_u64(w, t->xcr0_allowed);
    wr_u32(w, t->n);
    for (unsigned i = 0; i < t->n; i++) {
        wr_u32(w, t->e[i].leaf);
        wr_u32(w, t->e[i].subleaf);
        for (unsigned r = 0; r < 4; r++)
            wr_u32(w, t->e[i].reg[r]);
    }
}

/* Derive sizes and offsets from leaf 0Dh.  False: it is inconsistent. */
static bool derive_xsave(struct cpuid_table *t)
{
    t->xsave_bytes = 512;
    if (!cpuid_xcr0_ok(t, t->xcr0_allowed) || (t->xcr0_allowed & ~XCR0_KNOWN))
        return false;
    if (!(t->xcr0_allowed & XCR0_SSE))
        return true;
    t->xsave_bytes = 576;
    for (unsigned bit = 2; bit < 64; bit++) {
        if (!(t->xcr0_allowed & BIT64(bit)))
            continue;
        const struct cpuid_entry *e = cpuid_find(t, 0xd, bit);
        if (!e || e->reg[CPUID_EBX] < 576 || e->reg[CPUID_EBX] > 0x2000 || e->reg[CPUID_EAX] > 0x2000)
            return false;
        t->xcomp[bit].size = e->reg[CPUID_EAX];
        t->xcomp[bit].offset = e->reg[CPUID_EBX];
        t->xsave_bytes = MAX(t->xsave_bytes, e->reg[CPUID_EAX] + e->reg[CPUID_EBX]);
    }
    const struct cpuid_entry *top = cpuid_find(t, 0xd, 0);
    return top && top->reg[CPUID_EAX] == (uint32_t)t->xcr0_allowed && top->reg[CPUID_ECX] == t->xsave_bytes;
}

enum hv_err cpuid_load(struct cpuid_table *t, struct rd *r)
{
    memset(t, 0, sizeof(*t));
    t->xcr0_allowed = rd_u64(r);
    uint32_t n = rd_u32(r);
    if (r->bad || n > CPUID_MAX_ENTRIES)
        return HV_E_PROTO;
    for (unsigned i = 0; i < n; i++) {
        struct cpuid_entry e = { .leaf = rd_u32(r), .subleaf = rd_u32(r) };
        for (unsigned k = 0; k < 4; k++)
            e.reg[k] = rd_u32(r);
        if (r->bad || cpuid_find(t, e.leaf, e.subleaf))
            return HV_E_PROTO;
        t->e[t->n++] = e;
    }
    return cpuid_find(t, 0, 0) && cpuid_find(t, 1, 0) && derive_xsave(t) ? HV_OK : HV_E_PROTO;
}

/* ---- comparing ---- */

/* KVM's features, which `features` does not make: KVM_FEATURES does. */
static const struct {
    uint8_t bit;
    const char *name;
} kvm_features[] = {
    { 1, "kvm-nop-io-delay" }, { 3, "kvmclock" },      { 5, "kvm-steal-time" },   { 7, "kvm-pv-unhalt" },
    { 9, "kvm-pv-tlb-flush" }, { 13, "kvm-pv-yield" }, { 24, "kvmclock-stable" },
};

/* NULL: a bit that this version does not know. */
static const char *feature_name(uint32_t leaf, uint32_t sub, unsigned reg, unsigned bit)
{
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
        if (features[i].leaf == leaf && features[i].sub == sub && features[i].reg == reg && features[i].bit == bit)
            return features[i].name;
    for (unsigned i = 0; i < ARRAY_SIZE(kvm_features); i++)
        if (leaf == 0x40000001 && reg == CPUID_EAX && kvm_features[i].bit == bit)
            return kvm_features[i].name;
    return NULL;
}

static void known_add(struct cpuid_known *k, struct cpuid_word add)
{
    unsigned i = 0;
    while (i < k->n && (k->word[i].leaf != add.leaf || k->word[i].subleaf != add.subleaf || k->word[i].reg != add.reg))
        i++;
    ASSERT(i < CPUID_KNOWN_MAX);
    if (i == k->n)
        k->word[k->n++] = add;
    k->word[i].mask |= add.mask;
}

void cpuid_known(struct cpuid_known *k, bool release_0_1)
{
    *k = (struct cpuid_known){ .n = 0 };
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        const struct feature *f = &features[i];
        if (!release_0_1 || !(f->flags & NEW))
            known_add(k, (struct cpuid_word){ f->leaf, f->sub, f->reg, BIT32(f->bit) });
    }
    known_add(k, (struct cpuid_word){ 0x40000001, 0, CPUID_EAX, release_0_1 ? KVM_FEATURES_0_1 : KVM_FEATURES });
}

/* The bits of a register that are features, which a guest must not have when the host lacks them.  Others are
 * values. */
static uint32_t feature_mask(uint32_t leaf, uint32_t sub, unsigned reg)
{
    if (leaf == 1 && reg == CPUID_ECX)
        return ~BIT32(27);
    if (leaf == 1 && reg == CPUID_EDX)
        return ~BIT32(28);
    if (leaf == 6 || (leaf == 7 && reg != CPUID_EAX) || leaf == 0x40000001)
        return 0xffffffff;
    if (leaf == 7)
        return sub ? 0xffffffff : 0;
    if (leaf == 0x80000001 && reg == CPUID_ECX)
        return ~BIT32(1);
    if (leaf == 0x80000001 && reg == CPUID_EDX)
        return 0xffffffff;
    if (leaf == 0x80000008 && reg == CPUID_EBX)
        return 0xffffffff;
    if (leaf == 0xd && sub == 1 && reg == CPUID_EAX)
        return 0xffffffff;
    return 0;
}

static bool cpuid_same_vendor(const struct cpuid_table *a, const struct cpuid_table *b)
{
    const struct cpuid_entry *x = cpuid_find(a, 0, 0), *y = cpuid_find(b, 0, 0);
    return x && y && !memcmp(&x->reg[CPUID_EBX], &y->reg[CPUID_EBX], 12);
}

static bool xsave_same_place(const struct cpuid_table *a, const struct cpuid_table *b, unsigned bit)
{
    return a->xcomp[bit].offset == b->xcomp[bit].offset && a->xcomp[bit].size == b->xcomp[bit].size;
}

void cpuid_pool_clear(void) { pool_hosts = 0; }

enum hv_err cpuid_pool_add(cpuid_fn *read)
{
    static struct cpuid_table h; /* large; boot only */
    cpuid_build(&h, read, 1, 0);
    if (pool_hosts && !cpuid_same_vendor(&pool, &h))
        return HV_FAIL(HV_E_INVAL);
    if (!pool_hosts++) {
        pool = h;
        return HV_OK;
    }
    for (unsigned i = 0; i < pool.n; i++) {
        struct cpuid_entry *e = &pool.e[i];
        const struct cpuid_entry *o = cpuid_find(&h, e->leaf, e->subleaf);
        for (unsigned reg = 0; reg < 4; reg++)
            e->reg[reg] &= (o ? o->reg[reg] : 0) | ~feature_mask(e->leaf, e->subleaf, reg);
        if (e->leaf == 0x80000008)
            e->reg[CPUID_EAX] = MIN(cpuid_phys_bits(&pool), cpuid_phys_bits(&h)) | (e->reg[CPUID_EAX] & ~0xffu);
    }
    for (unsigned bit = 2; bit < 64; bit++)
        if (!xsave_same_place(&pool, &h, bit))
            pool.xcr0_allowed &= ~BIT64(bit);
    pool.xcr0_allowed = xcr0_whole(pool.xcr0_allowed & h.xcr0_allowed);
    return HV_OK;
}

static bool known_has(const struct cpuid_known *k, const struct cpuid_entry *e, unsigned reg, unsigned bit)
{
    for (unsigned i = 0; i < k->n; i++)
        if (k->word[i].leaf == e->leaf && k->word[i].subleaf == e->subleaf && k->word[i].reg == reg)
            return k->word[i].mask & BIT32(bit);
    return false;
}

/* A feature by its name, or by its place if this version does not know it. */
static void feature_add(const struct cpuid_entry *e, unsigned reg, unsigned bit, reason_fn *add_name, void *ctx)
{
    static const char *const reg_name[] = { "EAX", "EBX", "ECX", "EDX" };
    char place[48];
    const char *name = feature_name(e->leaf, e->subleaf, reg, bit);
    if (!name)
        snprintf(place, sizeof(place), "CPUID %xh.%x %s bit %u", e->leaf, e->subleaf, reg_name[reg], bit);
    add_name(ctx, name ? name : place);
}

void cpuid_unknown(const struct cpuid_table *t, const struct cpuid_known *k, reason_fn *add_name, void *ctx)
{
    for (unsigned i = 0; i < t->n; i++)
        for (unsigned reg = 0; reg < 4; reg++)
            for (unsigned bit = 0; bit < 32; bit++)
                if ((t->e[i].reg[reg] & feature_mask(t->e[i].leaf, t->e[i].subleaf, reg) & BIT32(bit)) &&
                    !known_has(k, &t->e[i], reg, bit))
                    feature_add(&t->e[i], reg, bit, add_name, ctx);
}

static void missing_features(struct name_list *known, struct name_list *unknown, const struct cpuid_entry *g,
                             const struct cpuid_entry *h)
{
    for (unsigned reg = 0; reg < 4; reg++) {
        uint32_t missing = g->reg[reg] & ~(h ? h->reg[reg] : 0) & feature_mask(g->leaf, g->subleaf, reg);
        for (unsigned bit = 0; bit < 32; bit++)
            if (missing & BIT32(bit))
                feature_add(g, reg, bit, name_list_add_to,
                            feature_name(g->leaf, g->subleaf, reg, bit) ? known : unknown);
    }
}

static unsigned check_features(const struct cpuid_table *host, const struct cpuid_table *guest, reason_fn *add_reason,
                               void *ctx)
{
    struct name_list known = { .n = 0 }, unknown = { .n = 0 };
    char text[NAME_LIST_LEN + 160];
    for (unsigned i = 0; i < guest->n; i++)
        missing_features(&known, &unknown, &guest->e[i], cpuid_find(host, guest->e[i].leaf, guest->e[i].subleaf));
    if (known.n) {
        snprintf(text, sizeof(text), "this host's processor lacks %u feature%s that the guest was promised: %s",
                 known.n, FMT_S(known.n), known.text);
        add_reason(ctx, text);
    }
    if (unknown.n) {
        snprintf(text, sizeof(text),
                 "the guest was promised %u processor feature%s that this host's version of Godwit does not know (%s): "
                 "update this host",
                 unknown.n, FMT_S(unknown.n), unknown.text);
        add_reason(ctx, text);
    }
    return known.n + unknown.n;
}

static unsigned check_xsave(const struct cpuid_table *host, const struct cpuid_table *guest, reason_fn *add_reason,
                            void *ctx)
{
    unsigned n = 0;
    char text[160];
    for (unsigned bit = 0; bit < 64; bit++) {
        if (!(guest->xcr0_allowed & BIT64(bit)))
            continue;
        bool there = host->xcr0_allowed & BIT64(bit);
        if (there && xsave_same_place(host, guest, bit))
            continue;
        const char *name = "unknown to this version";
        for (unsigned i = 0; i < ARRAY_SIZE(xsave_parts); i++)
            if (xsave_parts[i].bit == bit)
                name = xsave_parts[i].name;
        if (there)
            snprintf(text, sizeof(text),
                     "the guest has XSAVE component %u (%s) at offset %u with %u bytes, this host at offset %u with %u "
                     "bytes",
                     bit, name, guest->xcomp[bit].offset, guest->xcomp[bit].size, host->xcomp[bit].offset,
                     host->xcomp[bit].size);
        else
            snprintf(text, sizeof(text), "the guest may use XSAVE component %u (%s), which this host does not have",
                     bit, name);
        add_reason(ctx, text);
        n++;
    }
    return n;
}

unsigned cpuid_check(const struct cpuid_table *host, const struct cpuid_table *guest, reason_fn *add_reason, void *ctx)
{
    unsigned n = 0;
    char text[160];
    if (!cpuid_same_vendor(host, guest)) {
        add_reason(ctx, "the guest knows its processor as another vendor's than this host's: guests move between "
                        "processors of one vendor only");
        n++;
    }
    n += check_features(host, guest, add_reason, ctx) + check_xsave(host, guest, add_reason, ctx);
    if (cpuid_phys_bits(guest) <= cpuid_phys_bits(host))
        return n;
    snprintf(text, sizeof(text), "the guest was promised %u physical address bits, this host has %u",
             cpuid_phys_bits(guest), cpuid_phys_bits(host));
    add_reason(ctx, text);
    return n + 1;
}
