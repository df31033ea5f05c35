/* SPDX-License-Identifier: BSD-2-Clause
 * net/cipher.c - which bulk cipher is fastest on this machine, found by measurement.
 *
 * Encryption is most of a migration's CPU cost.  On real hardware AES-GCM with AES-NI is fastest by far; an emulator
 * that interprets AES-NI may reverse that.  No table of processors can tell, so a few thousand bytes go through each
 * candidate.  The client's order decides: the server takes the client's first suite that it supports.  That suits a
 * migration, whose source is the client and does more of the work. */
#include "net/cipher.h"

#include "kernel/host/clock.h"
#include "kernel/lib/log.h"

#define SAMPLE_BYTES 4096
#define RUNS         3 /* the fastest counts: the first warms up caches and the emulator's translator */

static struct cipher_choice choice;
static uint8_t sample[SAMPLE_BYTES];
static const uint8_t key[32], iv[16];

struct aes_cand {
    const char *name;
    const br_block_ctr_class *ctr;
};
struct ghash_cand {
    const char *name;
    br_ghash run;
};
struct chacha_cand {
    const char *name;
    br_chacha20_run run;
};
struct poly_cand {
    const char *name;
    br_poly1305_run run;
};

static uint64_t time_aes(const br_block_ctr_class *c)
{
    br_aes_gen_ctr_keys k;
    c->init(&k.vtable, key, 16);
    uint64_t t = tsc_read();
    c->run(&k.vtable, iv, 1, sample, sizeof(sample));
    return tsc_read() - t;
}

static uint64_t time_ghash(br_ghash run)
{
    uint8_t y[16] = { 1 }, h[16] = { 2, 3, 4 };
    uint64_t t = tsc_read();
    run(y, h, sample, sizeof(sample));
    return tsc_read() - t;
}

static uint64_t time_chapol(br_chacha20_run chacha, br_poly1305_run poly)
{
    uint8_t tag[16], aad[13] = { 0 };
    uint64_t t = tsc_read();
    poly(key, iv, sample, sizeof(sample), aad, sizeof(aad), tag, chacha, 1);
    return tsc_read() - t;
}

static unsigned mb_per_s(uint64_t ticks)
{
    uint64_t hz = clock_tsc_hz / 1000000 ? clock_tsc_hz / 1000000 : 1;
    return (unsigned)(SAMPLE_BYTES * hz / (ticks ? ticks : 1));
}

#define BEST_OF_RUNS(best, expr)                       \
    do {                                               \
        for (unsigned run_ = 0; run_ < RUNS; run_++) { \
            uint64_t t_ = (expr);                      \
            if (t_ < (best))                           \
                (best) = t_;                           \
        }                                              \
    } while (0)

static void gcm_pick(void)
{
    const struct aes_cand aes[] = { { "aes-ni", br_aes_x86ni_ctr_get_vtable() },
                                    { "aes-ct64", &br_aes_ct64_ctr_vtable } };
    const struct ghash_cand gh[] = { { "pclmul", br_ghash_pclmul_get() }, { "ctmul64", br_ghash_ctmul64 } };
    static const char *const names[2][2] = { { "aes-ni+pclmul", "aes-ni+ctmul64" },
                                             { "aes-ct64+pclmul", "aes-ct64+ctmul64" } };
    uint64_t aes_best = UINT64_MAX, gh_best = UINT64_MAX;
    unsigned aes_i = 1, gh_i = 1;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t t = UINT64_MAX, g = UINT64_MAX;
        if (aes[i].ctr)
            BEST_OF_RUNS(t, time_aes(aes[i].ctr));
        if (gh[i].run)
            BEST_OF_RUNS(g, time_ghash(gh[i].run));
        if (t < aes_best) {
            aes_best = t;
            aes_i = i;
        }
        if (g < gh_best) {
            gh_best = g;
            gh_i = i;
        }
        log_debug("net", "%s %u MB/s, %s %u MB/s", aes[i].name, aes[i].ctr ? mb_per_s(t) : 0, gh[i].name,
                  gh[i].run ? mb_per_s(g) : 0);
    }
    ASSERT(aes[aes_i].ctr && gh[gh_i].run); /* the portable ones always exist */
    choice.aes_ctr = aes[aes_i].ctr;
    choice.ghash = gh[gh_i].run;
    choice.gcm_name = names[aes_i][gh_i];
    choice.gcm_mb_s = mb_per_s(aes_best + gh_best);
}

static void chapol_pick(void)
{
    const struct chacha_cand ch[] = { { "sse2", br_chacha20_sse2_get() }, { "ct", br_chacha20_ct_run } };
    const struct poly_cand po[] = { { "ctmulq", br_poly1305_ctmulq_get() }, { "ctmul", br_poly1305_ctmul_run } };
    static const char *const names[2][2] = { { "chacha20-sse2+poly1305-ctmulq", "chacha20-sse2+poly1305-ctmul" },
                                             { "chacha20-ct+poly1305-ctmulq", "chacha20-ct+poly1305-ctmul" } };
    uint64_t best = UINT64_MAX;
    for (unsigned c = 0; c < 2; c++) {
        for (unsigned p = 0; p < 2; p++) {
            if (!ch[c].run || !po[p].run)
                continue;
            uint64_t t = UINT64_MAX;
            BEST_OF_RUNS(t, time_chapol(ch[c].run, po[p].run));
            log_debug("net", "%s %u MB/s", names[c][p], mb_per_s(t));
            if (t >= best)
                continue;
            best = t;
            choice.chacha20 = ch[c].run;
            choice.poly1305 = po[p].run;
            choice.chapol_name = names[c][p];
        }
    }
    ASSERT(choice.chacha20 && choice.poly1305);
    choice.chapol_mb_s = mb_per_s(best);
}

const struct cipher_choice *cipher_measure(void)
{
    if (choice.suites[0])
        return &choice;
    gcm_pick();
    chapol_pick();
    bool gcm_first = choice.gcm_mb_s >= choice.chapol_mb_s;
    choice.suites[gcm_first ? 0 : 1] = BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    choice.suites[gcm_first ? 1 : 0] = BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;
    log_info("net", "ciphers: AES-128-GCM (%s) %u MB/s, ChaCha20-Poly1305 (%s) %u MB/s; %s first", choice.gcm_name,
             choice.gcm_mb_s, choice.chapol_name, choice.chapol_mb_s, gcm_first ? "AES-128-GCM" : "ChaCha20-Poly1305");
    return &choice;
}
