/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/canary.c - the stack protector's value, and what happens when it was overwritten.
 *
 * The value mixes RDRAND, the TSC and the boot disk's random bytes.  Its lowest byte is 0, so that a text that runs
 * over cannot contain it.  The names are the compiler's. */
#include "kernel/host/canary.h"

#include "kernel/host/clock.h"
#include "kernel/host/symbols.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

uint64_t __stack_chk_guard = UINT64_C(0x5ac3916be87d2400); /* until canary_init() */
void __stack_chk_fail(void) HV_NORETURN HV_COLD;

__attribute__((target("rdrnd"), no_stack_protector)) static uint64_t canary_rdrand(void)
{
    unsigned long long v = 0;
    if (cpu_has_rdrand())
        __builtin_ia32_rdrand64_step(&v);
    return v;
}

__attribute__((no_stack_protector)) void canary_init(const struct boot_info *bi)
{
    uint64_t h = tsc_read() ^ canary_rdrand();
    for (unsigned i = 0; i < sizeof(bi->seed); i++)
        h = (h ^ bi->seed[i]) * UINT64_C(0xd1342543de82ef95) + (h >> 29);
    __stack_chk_guard = (h ^ h >> 32) << 8;
}

void __stack_chk_fail(void)
{
    uint64_t off = 0;
    const char *name = symbol_find((uintptr_t)__builtin_return_address(0) - 1, &off);
    panic("the stack was overwritten in %s", name ? name : "a function without a name");
}
