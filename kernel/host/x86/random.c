/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/random.c - identifiers, hash keys and guests' randomness from RDRAND, or from net/'s
 * generator where there is none. */
#include "kernel/host/random.h"

#include <stdatomic.h>
#include "kernel/host/clock.h"
#include "kernel/host/x86/x86.h"

#define CPUID_1_ECX_RDRAND BIT32(30)
#define RDRAND_TRIES       10 /* SDM 1 "RDRAND": ten failures in a row mean that it is broken */

static void (*_Atomic source)(void *buf, size_t len);

void random_source_set(void (*fill)(void *buf, size_t len)) { atomic_store(&source, fill); }

static bool have_rdrand(void) { return cpuid(1).ecx & CPUID_1_ECX_RDRAND; }

static uint64_t hardware_random(void)
{
    uint64_t v = 0;
    uint8_t ok = 0;
    if (!have_rdrand())
        return 0;
    for (unsigned i = 0; i < RDRAND_TRIES && !ok; i++)
        asm volatile("rdrand %0; setc %1" : "=r"(v), "=qm"(ok) : : "cc");
    return v;
}

/* A bijective mixer (multiply, shift, xor), so that equal low bits of two TSC readings do not stay equal. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 31)) * UINT64_C(0x9fb21c651e98df25);
    return x ^ (x >> 29);
}

void random_bytes(void *buf, size_t len)
{
    static atomic_ullong counter;
    uint8_t *out = buf;
    void (*fill)(void *, size_t) = atomic_load(&source);
    if (fill && !have_rdrand()) {
        fill(buf, len);
        return;
    }
    for (size_t i = 0; i < len; i++) {
        uint64_t v = mix(hardware_random() ^ mix(tsc_read() + atomic_fetch_add(&counter, 1)));
        out[i] = (uint8_t)(v >> 56);
    }
}
