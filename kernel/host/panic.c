/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/panic.c - panic: one CPU logs the cause and a backtrace, all others halt.
 *
 * ASSERT ends here.  Nothing on this path, log sinks included, may take a lock or allocate, since the panic may have
 * interrupted its owner; nor may it ASSERT, since the first message would be lost. */
#include "kernel/host/panic.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "kernel/host/log_sink.h"
#include "kernel/host/machine_check.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/apic.h"
#include "kernel/host/x86/trap.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/log.h"

static _Atomic uint64_t owner; /* APIC ID + 1 of the CPU that panics; 0: none */
static bool nested;            /* [owner] panicked a second time */

bool panic_active(void) { return atomic_load_explicit(&owner, memory_order_acquire); }

void panic_halt(void)
{
    for (;;) {
        cli();
        hlt();
    }
}

void panic_enter(void)
{
    uint64_t me = apic_id() + UINT64_C(1), nobody = 0;

    if (atomic_compare_exchange_strong_explicit(&owner, &nobody, me, memory_order_acq_rel, memory_order_acquire)) {
        log_panic_mode();
        apic_stop_others();
        return;
    }
    if (nobody == me && !nested) {
        nested = true;
        log_error("panic", "a second fault during the panic; stopped");
    }
    panic_halt();
}

void panic(const char *fmt, ...)
{
    char text[256];
    va_list ap;

    cli();
    panic_enter();
    va_start(ap, fmt);
    fmt_vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_error("panic", "%s", text);
    mce_print_all();
    trap_backtrace((uintptr_t)__builtin_return_address(0), *(uint64_t *)__builtin_frame_address(0));
    log_error("panic", "stopped; switch the machine off or reset it");
    panic_halt();
}

void assert_fail(const char *file, int line, const char *expr)
{
    panic("%s:%d: assertion failed: %s", file, line, expr);
}

void assert_eq_fail(const char *file, int line, const char *expr, uint64_t a, uint64_t b)
{
    panic("%s:%d: assertion failed: %s, 0x%lx and 0x%lx", file, line, expr, a, b);
}

void abort(void) { panic("abort() called"); }
