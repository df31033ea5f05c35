/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/cpuid.c - the CPUID policy.
 *
 * The table `features` is the policy: a feature bit is shown when the host has it and it is named here, so every shown bit has a name and no unknown
 * bit slips through; FORCED ones are emulated and shown always.  All other registers are values (family, caches, topology, sizes), made by the
 * functions below.  Left out on purpose, beside what nobody virtualizes here (SVM, VMX, MONITOR, PMU, MCE, SPEC_CTRL and friends, XSAVES,
 * protection keys): the invariant-TSC bit, because a move may bring another TSC rate, and the clock page (pvclock.c) can say so while the bare
 * TSC cannot; TOPOEXT, as the older leaves say enough about 1..8 equal cores. */
#include "kernel/cpuid.h"

#include <stdio.h>
#include <string.h>
#include "kernel/devices.h"
#include "kernel/log.h"
#include "kernel/x86/x86.h"

#define FORCED 1u
static const struct feature {
    uint32_t leaf;
    uint8_t reg, bit, flags;
    const char *name;
} features[] = {
#define C1(bit, name) { 1, CPUID_ECX, bit, 0, name }
    C1(0, "sse3"), C1(1, "pclmulqdq"), C1(9, "ssse3"), C1(12, "fma"), C1(13, "cmpxchg16b"), C1(17, "pcid"), C1(19, "sse4.1"), C1(20, "sse4.2"),
    C1(22, "movbe"), C1(23, "popcnt"), C1(25, "aes"), C1(26, "xsave"), C1(28, "avx"), C1(29, "f16c"), C1(30, "rdrand"),
    { 1, CPUID_ECX, 21, FORCED, "x2apic" }, { 1, CPUID_ECX, 24, FORCED, "tsc-deadline" }, { 1, CPUID_ECX, 31, FORCED, "hypervisor" },
#define D1(bit, name) { 1, CPUID_EDX, bit, 0, name }
    D1(0, "fpu"), D1(1, "vme"), D1(2, "de"), D1(3, "pse"), D1(4, "tsc"), D1(5, "msr"), D1(6, "pae"), D1(8, "cmpxchg8b"), D1(11, "sep"),
    D1(13, "pge"), D1(15, "cmov"), D1(16, "pat"), D1(17, "pse36"), D1(19, "clflush"), D1(23, "mmx"), D1(24, "fxsr"), D1(25, "sse"),
    D1(26, "sse2"), D1(27, "self-snoop"),
    { 1, CPUID_EDX, 9, FORCED, "apic" }, { 1, CPUID_EDX, 12, FORCED, "mtrr" },
    { 6, CPUID_EAX, 2, FORCED, "arat" },
#define B7(bit, name) { 7, CPUID_EBX, bit, 0, name }
    B7(0, "fsgsbase"), B7(3, "bmi1"), B7(5, "avx2"), B7(7, "smep"), B7(8, "bmi2"), B7(9, "erms"), B7(10, "invpcid"), B7(16, "avx512f"),
    B7(17, "avx512dq"), B7(18, "rdseed"), B7(19, "adx"), B7(20, "smap"), B7(21, "avx512ifma"), B7(23, "clflushopt"), B7(24, "clwb"),
    B7(28, "avx512cd"), B7(29, "sha"), B7(30, "avx512bw"), B7(31, "avx512vl"),
#define C7(bit, name) { 7, CPUID_ECX, bit, 0, name }
    C7(1, "avx512vbmi"), C7(2, "umip"), C7(6, "avx512vbmi2"), C7(8, "gfni"), C7(9, "vaes"), C7(10, "vpclmulqdq"), C7(11, "avx512vnni"),
    C7(12, "avx512bitalg"), C7(14, "avx512vpopcntdq"), C7(22, "rdpid"),
    { 7, CPUID_EDX, 4, 0, "fsrm" }, { 7, CPUID_EDX, 10, 0, "md-clear" },
#define CE1(bit, name) { 0x80000001, CPUID_ECX, bit, 0, name }
    CE1(0, "lahf"), CE1(4, "cr8-legacy"), CE1(5, "abm"), CE1(6, "sse4a"), CE1(7, "misalign-sse"), CE1(8, "3dnow-prefetch"), CE1(11, "xop"),
    CE1(16, "fma4"), CE1(21, "tbm"),
#define DE1(bit, name) { 0x80000001, CPUID_EDX, bit, 0, name }
    DE1(0, "fpu(ext)"), DE1(1, "vme(ext)"), DE1(2, "de(ext)"), DE1(3, "pse(ext)"), DE1(4, "tsc(ext)"), DE1(5, "msr(ext)"), DE1(6, "pae(ext)"),
    DE1(8, "cmpxchg8b(ext)"), DE1(9, "apic(ext)"), DE1(11, "syscall"), DE1(12, "mtrr(ext)"), DE1(13, "pge(ext)"), DE1(15, "cmov(ext)"),
    DE1(16, "pat(ext)"), DE1(17, "pse36(ext)"), DE1(20, "nx"), DE1(22, "mmxext"), DE1(23, "mmx(ext)"), DE1(24, "fxsr(ext)"), DE1(25, "ffxsr"),
    DE1(26, "1gb-pages"), DE1(27, "rdtscp"), DE1(29, "long-mode"),
    { 0x80000008, CPUID_EBX, 0, 0, "clzero" }, { 0x80000008, CPUID_EBX, 2, 0, "xsaveerptr" },
};
static const struct { uint8_t bit; const char *name; } xsave_features[] = { { 0, "xsaveopt" }, { 1, "xsavec" }, { 2, "xgetbv1" } };   /* 0Dh.1 EAX */

#define XCR0_KNOWN   UINT64_C(0xe7)     /* x87, SSE, AVX, AVX-512 */
#define XCR0_AVX512_ALL UINT64_C(0xe0)
#define KVM_FEATURES (BIT32(1) | BIT32(3) | BIT32(24))  /* no delays on port I/O; clock page MSRs 4b564d00h/01h; its stable flag is true */
#define PHYS_BITS_MIN 36

void cpuid_host(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    struct cpuid c = cpuidex(leaf, subleaf);
    out[CPUID_EAX] = c.eax;
    out[CPUID_EBX] = c.ebx;
    out[CPUID_ECX] = c.ecx;
    out[CPUID_EDX] = c.edx;
}

/* ---- building ---- */

static struct cpuid_entry *add(struct cpuid_table *t, uint32_t leaf, uint32_t sub, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    ASSERT(t->n < CPUID_MAX_ENTRIES);
    struct cpuid_entry *e = &t->e[t->n++];
    *e = (struct cpuid_entry){ leaf, sub, { a, b, c, d } };
    return e;
}

static bool feature_fits(const struct feature *f, uint64_t xcr0)
{
    static const char *const need_avx[] = { "avx", "avx2", "fma", "f16c", "vaes", "vpclmulqdq", "xop", "fma4" };
    if (!strncmp(f->name, "avx512", 6)) return xcr0 & XCR0_AVX512_ALL;
    for (unsigned i = 0; i < ARRAY_SIZE(need_avx); i++)
        if (!strcmp(f->name, need_avx[i])) return xcr0 & XCR0_AVX;
    return true;
}

static struct cpuid_entry *add_features(struct cpuid_table *t, cpuid_fn *read, uint32_t leaf)
{
    uint32_t host[4];
    read(leaf, 0, host);
    struct cpuid_entry *e = add(t, leaf, 0, 0, 0, 0, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
        const struct feature *f = &features[i];
        if (f->leaf != leaf) continue;
        if ((f->flags & FORCED) || ((host[f->reg] & BIT32(f->bit)) && feature_fits(f, t->xcr0_allowed))) e->reg[f->reg] |= BIT32(f->bit);
    }
    return e;
}

static bool is_amd(const uint32_t leaf0[4]) { return leaf0[CPUID_EBX] == 0x68747541; }     /* "Auth" */
static unsigned id_bits(unsigned n) { unsigned b = 0; while (1u << b < n) b++; return b; }

static uint64_t host_xcr0(cpuid_fn *read, uint32_t max)
{
    uint32_t r[4];
    read(1, 0, r);
    if (max < 0xd || !(r[CPUID_ECX] & BIT32(26))) return XCR0_X87;
    read(0xd, 0, r);
    uint64_t x = r[CPUID_EAX] & XCR0_KNOWN;
    if ((x & XCR0_AVX512_ALL) != XCR0_AVX512_ALL || !(x & XCR0_AVX)) x &= ~XCR0_AVX512_ALL;
    return x | XCR0_X87;
}

static void add_cache_leaves(struct cpuid_table *t, cpuid_fn *read, unsigned n_vcpus)
{
    uint32_t r[4];
    for (unsigned sub = 0; sub < 4; sub++) {                    /* one core per vCPU; level 3 and up is everybody's */
        read(4, sub, r);
        if (!(r[CPUID_EAX] & 0x1f)) break;
        unsigned sharing = (r[CPUID_EAX] >> 5 & 7) >= 3 ? n_vcpus - 1 : 0;
        add(t, 4, sub, (r[CPUID_EAX] & 0x3fff) | sharing << 14 | (n_vcpus - 1) << 26, r[CPUID_EBX], r[CPUID_ECX], r[CPUID_EDX]);
    }
}

static void add_xsave_leaves(struct cpuid_table *t, cpuid_fn *read)
{
    uint32_t r[4];
    if (!(t->xcr0_allowed & XCR0_SSE)) return;
    struct cpuid_entry *top = add(t, 0xd, 0, (uint32_t)t->xcr0_allowed, 0, 0, 0);
    read(0xd, 1, r);
    struct cpuid_entry *e = add(t, 0xd, 1, 0, 0, 0, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(xsave_features); i++) e->reg[CPUID_EAX] |= r[CPUID_EAX] & BIT32(xsave_features[i].bit);
    t->xsave_bytes = 576;
    for (unsigned bit = 2; bit < 64; bit++) {
        if (!(t->xcr0_allowed & BIT64(bit))) continue;
        read(0xd, bit, r);
        add(t, 0xd, bit, r[CPUID_EAX], r[CPUID_EBX], r[CPUID_ECX] & 2, 0);
        t->xcomp[bit].size = r[CPUID_EAX];
        t->xcomp[bit].offset = r[CPUID_EBX];
        t->xsave_bytes = MAX(t->xsave_bytes, r[CPUID_EAX] + r[CPUID_EBX]);
    }
    top->reg[CPUID_ECX] = t->xsave_bytes;
}

static void add_basic(struct cpuid_table *t, cpuid_fn *read, unsigned n_vcpus, const uint32_t leaf0[4])
{
    uint32_t r[4];
    add(t, 0, 0, leaf0[CPUID_EAX] >= 0xd ? 0xd : 0xb, leaf0[CPUID_EBX], leaf0[CPUID_ECX], leaf0[CPUID_EDX]);
    struct cpuid_entry *e = add_features(t, read, 1);
    read(1, 0, r);
    e->reg[CPUID_EAX] = r[CPUID_EAX];
    e->reg[CPUID_EBX] = (r[CPUID_EBX] & 0xff00) | n_vcpus << 16;
    if (n_vcpus > 1) e->reg[CPUID_EDX] |= BIT32(28);            /* HTT: the count above is valid */
    if (!is_amd(leaf0)) {
        read(2, 0, r);
        add(t, 2, 0, r[0], r[1], r[2], r[3]);
        add_cache_leaves(t, read, n_vcpus);
    }
    add_features(t, read, 6);
    if (leaf0[CPUID_EAX] >= 7) add_features(t, read, 7);
    add(t, 0xb, 0, 0, 1, 0x100, 0);                             /* level 0: one thread per core */
    add(t, 0xb, 1, id_bits(n_vcpus), n_vcpus, 0x201, 0);        /* level 1: cores */
    add_xsave_leaves(t, read);
}

static void add_extended(struct cpuid_table *t, cpuid_fn *read, unsigned n_vcpus, bool amd)
{
    uint32_t r[4], max[4];
    read(0x80000000, 0, max);
    add(t, 0x80000000, 0, MIN(max[CPUID_EAX], 0x80000008u), amd ? max[CPUID_EBX] : 0, amd ? max[CPUID_ECX] : 0, amd ? max[CPUID_EDX] : 0);
    struct cpuid_entry *e = add_features(t, read, 0x80000001);
    read(0x80000001, 0, r);
    if (amd) e->reg[CPUID_EAX] = r[CPUID_EAX];
    if (amd && n_vcpus > 1) e->reg[CPUID_ECX] |= BIT32(1);      /* CmpLegacy: the count in leaf 1 is cores */
    for (uint32_t leaf = 0x80000002; leaf <= 0x80000006 && leaf <= max[CPUID_EAX]; leaf++) {
        read(leaf, 0, r);                                       /* name, caches and TLBs */
        add(t, leaf, 0, r[0], r[1], r[2], r[3]);
    }
    if (max[CPUID_EAX] < 0x80000008) return;
    read(0x80000008, 0, r);
    e = add_features(t, read, 0x80000008);
    e->reg[CPUID_EAX] = r[CPUID_EAX] & 0xffff;
    if (amd) e->reg[CPUID_ECX] = (n_vcpus - 1) | id_bits(n_vcpus) << 12;
}

void cpuid_build(struct cpuid_table *t, cpuid_fn *read, unsigned n_vcpus, uint64_t tsc_hz)
{
    uint32_t leaf0[4];
    read(0, 0, leaf0);
    memset(t, 0, sizeof *t);
    t->xcr0_allowed = host_xcr0(read, leaf0[CPUID_EAX]);
    t->xsave_bytes = 512;
    add_basic(t, read, n_vcpus, leaf0);
    add(t, 0x40000000, 0, 0x40000010, 0x4b4d564b, 0x564b4d56, 0x0000004d);       /* "KVMKVMKVM" */
    add(t, 0x40000001, 0, KVM_FEATURES, 0, 0, 0);
    add(t, 0x40000010, 0, (uint32_t)(tsc_hz / 1000), LAPIC_TIMER_HZ / 1000, 0, 0);
    add_extended(t, read, n_vcpus, is_amd(leaf0));
}

/* ---- asking ---- */

const struct cpuid_entry *cpuid_find(const struct cpuid_table *t, uint32_t leaf, uint32_t subleaf)
{
    for (unsigned i = 0; i < t->n; i++)
        if (t->e[i].leaf == leaf && t->e[i].subleaf == subleaf) return &t->e[i];
    return NULL;
}

bool cpuid_has(const struct cpuid_table *t, uint32_t leaf, uint32_t subleaf, enum cpuid_reg reg, unsigned bit)
{
    const struct cpuid_entry *e = cpuid_find(t, leaf, subleaf);
    return e && (e->reg[reg] & BIT32(bit));
}

static bool has_subleaves(uint32_t leaf) { return leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd; }

/* Size of the compacted format, 0Dh.1 EBX: components back to back, some 64-byte aligned. */
static uint32_t compacted_bytes(const struct cpuid_table *t, uint64_t xcr0)
{
    uint32_t n = 576;
    for (unsigned bit = 2; bit < 64; bit++) {
        if (!(xcr0 & BIT64(bit)) || !t->xcomp[bit].size) continue;
        if (cpuid_has(t, 0xd, bit, CPUID_ECX, 1)) n = (uint32_t)ALIGN_UP(n, 64);
        n += t->xcomp[bit].size;
    }
    return n;
}

void cpuid_exit(struct vcpu *v, bool cr4_osxsave)
{
    const struct cpuid_table *t = v->vm->cpuid;
    uint32_t leaf = (uint32_t)v->gpr[GPR_RAX], sub = has_subleaves(leaf) ? (uint32_t)v->gpr[GPR_RCX] : 0;
    const struct cpuid_entry *e = cpuid_find(t, leaf, sub);
    uint32_t r[4] = { 0, 0, 0, 0 };
    if (e) memcpy(r, e->reg, sizeof r);
    switch (leaf) {
    case 1:
        r[CPUID_EBX] |= v->index << 24;
        if (cr4_osxsave) r[CPUID_ECX] |= BIT32(27);
        break;
    case 0xb:
        r[CPUID_ECX] |= sub & 0xff;
        r[CPUID_EDX] = v->index;
        break;
    case 0xd:
        if (sub == 0 && e) r[CPUID_EBX] = cpuid_xsave_bytes(t, v->xcr0);
        if (sub == 1 && e && (r[CPUID_EAX] & BIT32(1))) r[CPUID_EBX] = compacted_bytes(t, v->xcr0);
        break;
    }
    v->gpr[GPR_RAX] = r[CPUID_EAX];
    v->gpr[GPR_RBX] = r[CPUID_EBX];
    v->gpr[GPR_RCX] = r[CPUID_ECX];
    v->gpr[GPR_RDX] = r[CPUID_EDX];
}

bool cpuid_xcr0_ok(const struct cpuid_table *t, uint64_t x)
{
    if (!(x & XCR0_X87) || (x & ~t->xcr0_allowed)) return false;
    if ((x & XCR0_AVX) && !(x & XCR0_SSE)) return false;
    return !(x & XCR0_AVX512_ALL) || ((x & XCR0_AVX512_ALL) == XCR0_AVX512_ALL && (x & XCR0_AVX));
}

uint32_t cpuid_xsave_bytes(const struct cpuid_table *t, uint64_t xcr0)
{
    uint32_t n = 576;
    for (unsigned bit = 2; bit < 64; bit++)
        if (xcr0 & BIT64(bit)) n = MAX(n, t->xcomp[bit].offset + t->xcomp[bit].size);
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
    wr_u64(w, t->xcr0_allowed);
    wr_u32(w, t->n);
    for (unsigned i = 0; i < t->n; i++) {
        wr_u32(w, t->e[i].leaf);
        wr_u32(w, t->e[i].subleaf);
        for (unsigned r = 0; r < 4; r++) wr_u32(w, t->e[i].reg[r]);
    }
}

/* Rebuild what is derived from leaf 0Dh; false when it makes no sense. */
static bool derive_xsave(struct cpuid_table *t)
{
    t->xsave_bytes = 512;
    if (!cpuid_xcr0_ok(t, t->xcr0_allowed) || (t->xcr0_allowed & ~XCR0_KNOWN)) return false;
    if (!(t->xcr0_allowed & XCR0_SSE)) return true;
    t->xsave_bytes = 576;
    for (unsigned bit = 2; bit < 64; bit++) {
        if (!(t->xcr0_allowed & BIT64(bit))) continue;
        const struct cpuid_entry *e = cpuid_find(t, 0xd, bit);
        if (!e || e->reg[CPUID_EBX] < 576 || e->reg[CPUID_EBX] > 0x2000 || e->reg[CPUID_EAX] > 0x2000) return false;
        t->xcomp[bit].size = e->reg[CPUID_EAX];
        t->xcomp[bit].offset = e->reg[CPUID_EBX];
        t->xsave_bytes = MAX(t->xsave_bytes, e->reg[CPUID_EAX] + e->reg[CPUID_EBX]);
    }
    const struct cpuid_entry *top = cpuid_find(t, 0xd, 0);
    return top && top->reg[CPUID_EAX] == (uint32_t)t->xcr0_allowed && top->reg[CPUID_ECX] == t->xsave_bytes;
}

enum hv_err cpuid_load(struct cpuid_table *t, struct rd *r)
{
    memset(t, 0, sizeof *t);
    t->xcr0_allowed = rd_u64(r);
    uint32_t n = rd_u32(r);
    if (r->bad || n > CPUID_MAX_ENTRIES) return HV_E_PROTO;
    for (unsigned i = 0; i < n; i++) {
        struct cpuid_entry e = { .leaf = rd_u32(r), .subleaf = rd_u32(r) };
        for (unsigned k = 0; k < 4; k++) e.reg[k] = rd_u32(r);
        if (r->bad || cpuid_find(t, e.leaf, e.subleaf)) return HV_E_PROTO;
        t->e[t->n++] = e;
    }
    return cpuid_find(t, 0, 0) && cpuid_find(t, 1, 0) && derive_xsave(t) ? HV_OK : HV_E_PROTO;
}

/* ---- comparing ---- */

static const char *feature_name(uint32_t leaf, uint32_t sub, unsigned reg, unsigned bit)
{
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
        if (features[i].leaf == leaf && sub == 0 && features[i].reg == reg && features[i].bit == bit) return features[i].name;
    if (leaf == 0xd && sub == 1 && reg == CPUID_EAX && bit < 3) return xsave_features[bit].name;
    return "unknown to this version";
}

/* Registers whose bits are features: a guest must not have one that the host lacks.  Others are values. */
static uint32_t feature_mask(uint32_t leaf, uint32_t sub, unsigned reg)
{
    if (leaf == 1 && reg == CPUID_ECX) return ~BIT32(27);
    if (leaf == 1 && reg == CPUID_EDX) return ~BIT32(28);
    if (leaf == 6 || (leaf == 7 && reg != CPUID_EAX) || leaf == 0x40000001) return 0xffffffff;
    if (leaf == 7) return sub ? 0xffffffff : 0;
    if (leaf == 0x80000001 && reg == CPUID_ECX) return ~BIT32(1);
    if (leaf == 0x80000001 && reg == CPUID_EDX) return 0xffffffff;
    if (leaf == 0x80000008 && reg == CPUID_EBX) return 0xffffffff;
    if (leaf == 0xd && sub == 1 && reg == CPUID_EAX) return 0xffffffff;
    return 0;
}

static unsigned check_features(const struct cpuid_entry *g, const struct cpuid_entry *h, reason_fn *add_reason, void *ctx)
{
    static const char *const reg_name[] = { "EAX", "EBX", "ECX", "EDX" };
    unsigned n = 0;
    char text[160];
    for (unsigned reg = 0; reg < 4; reg++) {
        uint32_t missing = g->reg[reg] & ~(h ? h->reg[reg] : 0) & feature_mask(g->leaf, g->subleaf, reg);
        for (unsigned bit = 0; bit < 32; bit++) {
            if (!(missing & BIT32(bit))) continue;
            snprintf(text, sizeof text, "the guest was promised the processor feature %s (CPUID %xh.%x %s bit %u), which this host lacks",
                     feature_name(g->leaf, g->subleaf, reg, bit), g->leaf, g->subleaf, reg_name[reg], bit);
            add_reason(ctx, text);
            n++;
        }
    }
    return n;
}

static unsigned check_values(const struct cpuid_table *host, const struct cpuid_table *guest, reason_fn *add_reason, void *ctx)
{
    unsigned n = 0;
    char text[200];
    const struct cpuid_entry *g = cpuid_find(guest, 0, 0), *h = cpuid_find(host, 0, 0);
    if (!g || !h || memcmp(&g->reg[CPUID_EBX], &h->reg[CPUID_EBX], 12)) {
        add_reason(ctx, "the guest knows its processor as another vendor's than this host's: guests move between processors of one vendor only");
        n++;
    }
    if (cpuid_phys_bits(guest) > cpuid_phys_bits(host)) {
        snprintf(text, sizeof text, "the guest was promised %u physical address bits, this host has %u", cpuid_phys_bits(guest), cpuid_phys_bits(host));
        add_reason(ctx, text);
        n++;
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        if (!(guest->xcr0_allowed & BIT64(bit))) continue;
        bool there = host->xcr0_allowed & BIT64(bit);
        if (there && guest->xcomp[bit].offset == host->xcomp[bit].offset && guest->xcomp[bit].size == host->xcomp[bit].size) continue;
        snprintf(text, sizeof text, "the guest may use XSAVE component %u, which this host %s", bit, there ? "keeps at another place" : "does not have");
        add_reason(ctx, text);
        n++;
    }
    return n;
}

unsigned cpuid_check(const struct cpuid_table *host, const struct cpuid_table *guest, reason_fn *add_reason, void *ctx)
{
    unsigned n = check_values(host, guest, add_reason, ctx);
    for (unsigned i = 0; i < guest->n; i++) {
        const struct cpuid_entry *g = &guest->e[i];
        n += check_features(g, cpuid_find(host, g->leaf, g->subleaf), add_reason, ctx);
    }
    return n;
}
