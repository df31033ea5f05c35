/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_usage.c - how long guests have been running, and what they use of the processors.
 *
 * The guest clock (kernel/dev/pvclock.c) counts from the creation of the VM and moves with it, so it is the uptime.
 * For the processor there are two samples of each guest, SAMPLE_US apart.  The share is counted from the older one to
 * now. */
#include "kernel/vm/vm_usage.h"

#include "kernel/dev/pvclock.h"
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/vm/vm_manage.h"

#define SAMPLE_US 3000000u

static struct sample {
    uint64_t us, ticks; /* us 0: none */
} older[VM_MAX], newer[VM_MAX];

static bool vm_lives(const struct vm *vm) { return vm && (vm_state(vm) == VM_RUNNING || vm_state(vm) == VM_PAUSED); }

/* TSC ticks in guest mode and in the handling of exits. */
static uint64_t vm_ticks(const struct vm *vm)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        sum += vm->vcpus[i]->guest_tsc_ticks;
        for (unsigned k = 0; k < VCPU_EXIT_COUNT; k++)
            sum += vm->vcpus[i]->exit_tsc[k];
    }
    return sum;
}

static void sample_take(unsigned i, const struct vm *vm, uint64_t now)
{
    if (newer[i].us && now - newer[i].us < SAMPLE_US)
        return;
    struct sample s = { now, vm_ticks(vm) };
    older[i] = s.ticks < newer[i].ticks ? (struct sample){ 0 } : newer[i]; /* fewer: it was started again */
    newer[i] = s;
}

void vm_usage_step(void)
{
    uint64_t now = clock_us();
    for (unsigned i = 0; i < vm_slots(); i++) {
        if (vm_lives(vm_at(i)))
            sample_take(i, vm_at(i), now);
        else
            older[i] = newer[i] = (struct sample){ 0 };
    }
}

struct vm_usage vm_usage(const struct vm *vm)
{
    struct vm_usage u = { .known = vm_lives(vm) };
    if (!u.known)
        return u;
    const struct sample *s = &older[vm_slot(vm)];
    uint64_t now = clock_us(), ticks = vm_ticks(vm);
    u.uptime_us = guest_clock_ns(vm) / 1000;
    u.here_us = now - vm->here_us;
    u.cpu_known = s->us && now > s->us && ticks >= s->ticks;
    if (u.cpu_known)
        u.cpu_percent = (unsigned)(clock_tsc_to_us(ticks - s->ticks) * 100 / (now - s->us));
    return u;
}

void vm_usage_describe(const struct vm *vm, struct printer *out)
{
    struct vm_usage u = vm_usage(vm);
    if (u.known)
        print_line(out, "up for %lu s, here for %lu s, uses %u %% of a CPU%s", u.uptime_us / 1000000,
                   u.here_us / 1000000, u.cpu_percent, u.cpu_known ? "" : " (not known yet)");
}
