/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/cpu_baseline.c - [vm] cpu: the check before a start, and the pool's file.
 *
 * A host could ask its peers at every start.  But then a guest could start only while all peers are up, and its CPUID
 * would depend on which of them answered.  A file gives the same answer at any time, and the administrator can read it.
 * Not here: how a baseline becomes a table (cpuid.c). */
#include "kernel/core/cpu_baseline.h"

#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"

#define LEAVES_MAX 32

/* The inputs of the baselines: cpuid.c reads no other leaf for features and XSAVE. */
static const struct {
    uint32_t leaf;
    uint8_t first, last;
} pool_leaves[] = {
    { 0, 0, 0 },   { 1, 0, 0 },          { 7, 0, 0 },          { 0xd, 0, 2 },
    { 0xd, 5, 7 }, { 0x80000000, 0, 0 }, { 0x80000001, 0, 0 }, { 0x80000008, 0, 0 },
};

static struct cpuid_entry leaves[LEAVES_MAX]; /* of the host being read; boot only */
static unsigned n_leaves;
static char problem[160] = "no file of the pool was read";

/* ---- the file ---- */

static void pool_file_read(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    memset(out, 0, 16);
    for (unsigned i = 0; i < n_leaves; i++)
        if (leaves[i].leaf == leaf && leaves[i].subleaf == subleaf)
            memcpy(out, leaves[i].reg, 16);
}

struct line {
    const char *p, *end;
};

static bool line_word(struct line *l, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(l->end - l->p) < n + 1 || memcmp(l->p, w, n) || l->p[n] != ' ')
        return false;
    l->p += n + 1;
    return true;
}

static bool line_hex(struct line *l, char after, uint32_t *out)
{
    uint64_t n = 0;
    const char *p = l->p;
    for (; p < l->end; p++) {
        int d = *p >= '0' && *p <= '9'   ? *p - '0'
                : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10
                : *p >= 'A' && *p <= 'F' ? *p - 'A' + 10
                                         : -1;
        if (d < 0)
            break;
        n = n << 4 | (unsigned)d;
        if (n >> 32)
            return false;
    }
    bool ended = after ? p < l->end && *p == after : p == l->end;
    if (p == l->p || !ended)
        return false;
    l->p = p + (after ? 1 : 0);
    *out = (uint32_t)n;
    return true;
}

static bool line_leaf(struct line l, struct cpuid_entry *e)
{
    return line_hex(&l, '.', &e->leaf) && line_hex(&l, ' ', &e->subleaf) && line_hex(&l, ' ', &e->reg[0]) &&
           line_hex(&l, ' ', &e->reg[1]) && line_hex(&l, ' ', &e->reg[2]) && line_hex(&l, 0, &e->reg[3]);
}

/* Read all lines of one host into leaves.  Returns the number of the first invalid line, or 0. */
static unsigned host_lines(const char *text, size_t len, const char *host)
{
    unsigned number = 0;
    n_leaves = 0;
    for (const char *p = text, *end = text + len; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        struct line l = { p, nl ? nl : end };
        p = nl ? nl + 1 : end;
        number++;
        if (l.end > l.p && l.end[-1] == '\r')
            l.end--;
        if (!line_word(&l, "cpuid") || !line_word(&l, host))
            continue;
        if (n_leaves == LEAVES_MAX || !line_leaf(l, &leaves[n_leaves]))
            return number;
        n_leaves++;
    }
    return 0;
}

static bool peer_add(const struct config *c, const char *peer, const char *text, size_t len)
{
    const char *file = c->host.pool_cpuid;
    uint32_t max[4];
    unsigned bad = host_lines(text, len, peer);
    pool_file_read(0, 0, max);
    if (bad)
        snprintf(problem, sizeof(problem), "\\godwit\\%s:%u is not a line that `host cpuid` prints", file, bad);
    else if (!n_leaves)
        snprintf(problem, sizeof(problem), "\\godwit\\%s has no lines of peer %s: add what `host cpuid` prints there",
                 file, peer);
    else if (!max[0])
        snprintf(problem, sizeof(problem), "\\godwit\\%s has not all lines of peer %s", file, peer);
    else if (cpuid_pool_add(pool_file_read) != HV_OK)
        snprintf(problem, sizeof(problem), "peer %s has a processor of another vendor", peer);
    else
        return true;
    return false;
}

void cpu_pool_load(const struct config *c, cpuid_fn *read, const char *text, size_t len)
{
    problem[0] = 0;
    cpuid_pool_clear();
    if (!text)
        snprintf(problem, sizeof(problem),
                 "there is no \\godwit\\%s on this host's boot disk: it holds what `host cpuid` prints on each peer",
                 c->host.pool_cpuid);
    enum hv_err e = cpuid_pool_add(read);
    ASSERT_EQ(e, HV_OK); /* a pool takes any first host */
    for (unsigned i = 0; !problem[0] && i < c->n_peers; i++)
        if (!peer_add(c, c->peers[i].name, text, len))
            break;
}

void cpu_pool_print(const char *host, cpuid_fn *read, struct printer *out)
{
    uint32_t r[4];
    for (unsigned i = 0; i < ARRAY_SIZE(pool_leaves); i++)
        for (unsigned sub = pool_leaves[i].first; sub <= pool_leaves[i].last; sub++) {
            uint32_t max[4];
            read(pool_leaves[i].leaf & 0x80000000, 0, max);
            if (pool_leaves[i].leaf > max[0])
                continue;
            read(pool_leaves[i].leaf, sub, r);
            print_line(out, "cpuid %s %08x.%x %08x %08x %08x %08x", host, pool_leaves[i].leaf, sub, r[0], r[1], r[2],
                       r[3]);
        }
}

/* ---- before a start ---- */

struct list {
    char text[1024];
    size_t len;
};

static void missing_add(void *ctx, const char *name)
{
    struct list *l = ctx;
    int n = snprintf(l->text + l->len, sizeof(l->text) - l->len, "%s%s", l->len ? ", " : "", name);
    if (n > 0)
        l->len = MIN(l->len + (size_t)n, sizeof(l->text) - 1);
}

enum hv_err cpu_baseline_check(const struct vm_config *c, cpuid_fn *read, struct why *why)
{
    static struct cpuid_table t; /* large; service pCPU only */
    static struct list missing;
    missing = (struct list){ .len = 0 };
    if (!strcmp(c->cpu, "pool") && problem[0])
        return REFUSE(HV_E_UNSUPP, "%s: cpu = pool: %s", c->name, problem);
    struct cpuid_spec spec = { c->cpu, c->n_cpus, c->memory_bytes, 1000 };
    enum hv_err e = cpuid_build_for(&t, &spec, read, missing_add, &missing);
    if (!e)
        return HV_OK;
    if (e != HV_E_UNSUPP)
        return REFUSE(e, "%s: cpu = %s is no baseline that this host knows", c->name, c->cpu);
    if ((size_t)why_say(why, "%s: cpu = %s: this host lacks %s", c->name, c->cpu, missing.text) >= why->len)
        log_error("vm", "%s: cpu = %s: this host lacks %s", c->name, c->cpu, missing.text);
    return e;
}
