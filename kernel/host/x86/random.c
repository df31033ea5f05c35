/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/random.c - random bytes from RDRAND, or from net/'s generator on a processor without it.
 *
 * For identifiers, hash keys and guests.  The TSC is always mixed in: a constant RDRAND then still gives different
 * bytes. */
#include "kernel/host/random.h"

#include <stdatomic.h>
#include "kernel/host/clock.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

#define RDRAND_TRIES 10 /* SDM 1 "RDRAND": ten failures in a row mean that it is broken */

static void (*_Atomic source)(void *buf, size_t len);

void random_source_set(void (*fill)(void *buf, size_t len))
{
    ASSERT(!atomic_load(&source)); /* once */
    atomic_store(&source, fill);
}

static uint64_t rdrand_word(void)
{
    uint64_t v = 0;
    if (!cpu_has_rdrand())
        return 0;
    for (unsigned i = 0; i < RDRAND_TRIES && !rdrand64(&v); i++)
        ;
    return v;
}

/* A bijective mixer (multiply, shift, xor): spreads the low bits of a TSC reading over the word. */
static uint64_t random_mix(uint64_t x)
{
    x = (x ^ (x >> 31)) * UINT64_C(0x9fb21c651e98df25);
    return x ^ (x >> 29);
}

void random_bytes(void *buf, size_t len)
{
    static atomic_ullong counter;
    uint8_t *out = buf;
    void (*fill)(void *, size_t) = atomic_load(&source);
    if (fill && !cpu_has_rdrand()) {
        fill(buf, len);
        return;
    }
    for (size_t i = 0; i < len; i++) {
        uint64_t v = random_mix(rdrand_word() ^ random_mix(tsc_read() + atomic_fetch_add(&counter, 1)));
        out[i] = (uint8_t)(v >> 56);
    }
}
