/* SPDX-License-Identifier: BSD-2-Clause
 * net/entropy.c - unpredictable bytes: HMAC-DRBG (SHA-256) seeded by the processor.
 *
 * At least one source of fresh entropy must work: RDSEED or RDRAND.  A processor without both uses timing jitter
 * (jitter.c), or bytes of \godwit\seed that no other boot has had (boot/seed.c).  The seed is always mixed in:
 * without knowing it nobody can predict the generator, even if the other entropy is less than believed.  A seed that
 * may have been used before, because the disk could not be written, never counts as a source: with nothing fresh the
 * generator would repeat its output.
 *
 * RDSEED and RDRAND may fail (carry clear), and some processors returned a constant after a suspend.  So each word is
 * tried several times, and repeated words count as a failure.  Jitter of the TSC is mixed in: it cannot make the seed
 * worse.
 *
 * Not here: how the seed file is read and replaced (boot/seed.c). */
#include "net/entropy.h"

#include <bearssl.h>
#include <cpuid.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/lib/lock.h"
#include "kernel/lib/log.h"
#include "kernel/lib/wipe.h"
#include "net/jitter.h"
#include "net/net.h"

#define SEED_WORDS    16 /* 1024 bits from the processor for a 256-bit generator */
#define MAX_TRIES     1000
#define SEED_FILE_MIN 48  /* bytes; a 256-bit generator, and half as much again */
#define JITTER_BITS   512 /* credited bits for the same generator */

#ifdef __clang__ /* the two compilers name this intrinsic differently */
#define RDSEED64 __builtin_ia32_rdseed64_step
#else
#define RDSEED64 __builtin_ia32_rdseed_di_step
#endif

static br_hmac_drbg_context drbg; /* lock: guests take from it on other pCPUs */
static struct spinlock lock;
static const char *source = "none";
static bool have_rdrand, have_rdseed;

/* no_stack_protector: gcc forgets -mstack-protector-guard in functions with a target of their own. */
__attribute__((target("rdrnd"), no_stack_protector)) static bool rdrand64(uint64_t *out)
{
    unsigned long long v;
    bool ok = __builtin_ia32_rdrand64_step(&v);
    *out = v;
    return ok;
}
__attribute__((target("rdseed"), no_stack_protector)) static bool rdseed64(uint64_t *out)
{
    unsigned long long v;
    bool ok = RDSEED64(&v);
    *out = v;
    return ok;
}

static bool word_get(bool (*step)(uint64_t *), uint64_t *out)
{
    for (unsigned i = 0; i < MAX_TRIES; i++) {
        if (step(out))
            return true;
        __builtin_ia32_pause();
    }
    return false;
}

/** Fill w; false if the instruction fails or repeats itself. */
static bool words_get(bool (*step)(uint64_t *), uint64_t w[SEED_WORDS])
{
    unsigned n_equal = 0;
    for (unsigned i = 0; i < SEED_WORDS; i++) {
        if (!word_get(step, &w[i]))
            return false;
        if (i && w[i] == w[i - 1])
            n_equal++;
    }
    return n_equal <= 1;
}

/** Seed the generator with SEED_WORDS words; false if the instruction fails or repeats itself. */
static bool seed_from(bool (*step)(uint64_t *))
{
    uint64_t w[SEED_WORDS];
    bool ok = words_get(step, w);
    _Static_assert(sizeof(w) >= 2 * 32, "twice the strength of the generator");
    if (ok)
        br_hmac_drbg_update(&drbg, w, sizeof(w));
    wipe(w, sizeof(w));
    return ok;
}

static void seed_clocks(void)
{
    uint64_t t[64] = { clock_wall_ns() };
    for (unsigned i = 1; i < ARRAY_SIZE(t); i++)
        t[i] = tsc_read();
    br_hmac_drbg_update(&drbg, t, sizeof(t));
    wipe(t, sizeof(t));
}

static void seed_take(const void *sample, size_t len) { br_hmac_drbg_update(&drbg, sample, len); }

static void cpu_probe(void)
{
    unsigned a, b, c, d;
    have_rdrand = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_RDRND);
    have_rdseed = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_RDSEED);
}

enum hv_err entropy_init(const struct entropy_seed *file)
{
    br_hmac_drbg_init(&drbg, &br_sha256_vtable, "godwit", 6);
    if (file->bytes)
        br_hmac_drbg_update(&drbg, file->bytes, file->len);
    seed_clocks();
    cpu_probe();
    bool seed = have_rdseed && seed_from(rdseed64);
    bool rand = have_rdrand && seed_from(rdrand64);
    bool jitter = !seed && !rand && jitter_gather(JITTER_BITS, seed_take) == HV_OK;
    bool disk = file->is_new && file->len >= SEED_FILE_MIN;
    source = seed && rand ? "rdseed+rdrand"
             : seed       ? "rdseed"
             : rand       ? "rdrand"
             : jitter     ? "jitter"
             : disk       ? "seed file"
                          : "none";
    if (seed || rand || jitter || disk)
        return HV_OK;
    log_error("net",
              "no source of randomness: this processor's RDRAND and RDSEED are %s, its timing is too regular, and "
              "\\godwit\\seed has no bytes that can be used up, so no connection could be encrypted safely. Make the "
              "boot disk with tools/mkhost and let it be written to, or use a processor with RDRAND",
              have_rdrand || have_rdseed ? "failing" : "missing");
    return HV_FAIL(HV_E_UNSUPP);
}

void entropy_bytes(void *buf, size_t len)
{
    uint64_t t = tsc_read();
    ASSERT(drbg.vtable); /* entropy_init ran */
    spin_lock(&lock);
    br_hmac_drbg_update(&drbg, &t, sizeof(t));
    br_hmac_drbg_generate(&drbg, buf, len);
    spin_unlock(&lock);
}

uint32_t net_random32(void)
{
    static uint32_t pool[32];
    static unsigned left;
    if (!left) {
        entropy_bytes(pool, sizeof(pool));
        left = ARRAY_SIZE(pool);
    }
    ASSERT(left <= ARRAY_SIZE(pool));
    uint32_t word = pool[--left];
    pool[left] = 0; /* a sequence number that was given out is not to be found here later */
    return word;
}

const char *entropy_source(void) { return source; }
