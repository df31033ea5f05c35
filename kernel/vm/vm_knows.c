/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_knows.c - what a host reads, as bytes and back, and what of a guest a peer does not know. */
#include "kernel/vm/vm_knows.h"

#include "kernel/core/vm.h"
#include "kernel/lib/log.h"
#include "kernel/vm/vm_state.h"

/* One row per section, then one per field.  release_0_1: the version that release 0.1 reads, 0: none. */
static const struct {
    uint16_t id, version, release_0_1;
} parts[] = {
#define SECTION(id, number, version, release_0_1, per_vcpu, always, needs, name, fn) { number, version, release_0_1 },
    VM_SECTIONS(SECTION)
#define FIELD(id, number, version, name, fn) { number, version, 0 },
        OFFER_FIELDS(FIELD)
};
_Static_assert(ARRAY_SIZE(parts) < VM_KNOWS_PARTS_MAX, "all that this version reads has room");
_Static_assert(VM_KNOWS_MAX >= 8 + 4 * VM_KNOWS_PARTS_MAX + 16 * CPUID_KNOWN_MAX, "and so have the bytes");

static void knows_fill(struct vm_knows *k, bool release_0_1)
{
    *k = (struct vm_knows){ .offer_format = release_0_1 ? VM_OFFER_FORMAT_0_1 : VM_OFFER_FORMAT };
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
        k->part[k->n].id = parts[i].id;
        k->part[k->n].version = release_0_1 ? parts[i].release_0_1 : parts[i].version;
        k->n += k->part[k->n].version != 0;
    }
    cpuid_known(&k->cpuid, release_0_1);
}

void vm_knows_here(struct vm_knows *k) { knows_fill(k, false); }

void vm_knows_add(struct vm_knows *k, uint16_t id)
{
    ASSERT(k->n < VM_KNOWS_PARTS_MAX);
    k->part[k->n].id = id;
    k->part[k->n++].version = 1;
}

size_t vm_knows_write(const struct vm_knows *k, uint8_t *buf, size_t cap)
{
    struct wr w = wr_init(buf, cap);
    wr_u16(&w, (uint16_t)k->offer_format);
    wr_u16(&w, 0);
    wr_u16(&w, (uint16_t)k->n);
    for (unsigned i = 0; i < k->n; i++) {
        wr_u16(&w, k->part[i].id);
        wr_u16(&w, k->part[i].version);
    }
    wr_u16(&w, (uint16_t)k->cpuid.n);
    for (unsigned i = 0; i < k->cpuid.n; i++) {
        wr_u32(&w, k->cpuid.word[i].leaf);
        wr_u32(&w, k->cpuid.word[i].subleaf);
        wr_u32(&w, k->cpuid.word[i].reg);
        wr_u32(&w, k->cpuid.word[i].mask);
    }
    ASSERT(!w.bad);
    return w.len;
}

enum hv_err vm_knows_parse(struct vm_knows *k, const uint8_t *buf, size_t len)
{
    struct rd r = rd_init(buf, len);
    if (!len) {
        knows_fill(k, true);
        return HV_OK;
    }
    *k = (struct vm_knows){ .offer_format = rd_u16(&r) };
    (void)rd_u16(&r);
    for (unsigned left = rd_u16(&r); left && !r.bad; left--) {
        uint16_t id = rd_u16(&r), version = rd_u16(&r);
        if (k->n == VM_KNOWS_PARTS_MAX)
            continue; /* a far newer host: what is listed first is oldest */
        k->part[k->n].id = id;
        k->part[k->n++].version = version;
    }
    for (unsigned left = rd_u16(&r); left && !r.bad; left--) {
        struct cpuid_word word = { .leaf = rd_u32(&r), .subleaf = rd_u32(&r), .reg = rd_u32(&r), .mask = rd_u32(&r) };
        if (k->cpuid.n < CPUID_KNOWN_MAX)
            k->cpuid.word[k->cpuid.n++] = word;
    }
    return r.bad || k->offer_format < VM_OFFER_FORMAT_0_1 ? HV_FAIL(HV_E_PROTO) : HV_OK;
}

unsigned vm_knows_version(const struct vm_knows *k, uint16_t id, unsigned newest)
{
    for (unsigned i = 0; i < k->n; i++)
        if (k->part[i].id == id)
            return MIN((unsigned)k->part[i].version, newest);
    return 0;
}
