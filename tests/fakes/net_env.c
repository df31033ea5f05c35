/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/net_env.c - memory, clock and pCPU for net/ on the host. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/random.h"
#include "kernel/lib/err.h"

uint64_t clock_tsc_hz = 1000000000;
uint64_t fake_clock_skip_us; /* tests add to it to let time pass */

void *mem_alloc(size_t len)
{
    size_t align = PAGE_SIZE; /* as the buddy allocator: to the length, rounded up to a power of two */
    while (align < len)
        align *= 2;
    void *p = aligned_alloc(align, align);
    if (p)
        memset(p, 0, align);
    return p;
}

void mem_free(void *p, size_t len)
{
    (void)len;
    free(p);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t tsc_read(void) { return now_ns(); }
uint64_t clock_wall_ns(void) { return 1700000000000000000 + now_ns(); }
uint64_t clock_us(void) { return now_ns() / 1000 + fake_clock_skip_us; }

struct pcpu *this_pcpu(void)
{
    static struct pcpu one;
    return &one;
}

void random_source_set(void (*fill)(void *buf, size_t len)) { (void)fill; }
