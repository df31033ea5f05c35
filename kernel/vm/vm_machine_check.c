/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_machine_check.c - whose memory a hardware error has hit, and what becomes of that guest.
 *
 * A guest is not told of the error: it stops, since what it would read is lost.  The one that ran when a machine check
 * asked for action is stopped already (kernel/run/exit.c).  A block that the guest gives back stays pinned, so nobody
 * gets it.  Not here: errors that the host does not survive (kernel/host/machine_check.c). */
#include "kernel/vm/vm_machine_check.h"

#include <stdio.h>
#include "kernel/core/vm.h"
#include "kernel/host/machine_check.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/vm/vm_manage.h"

#define RETIRED_MAX 256u

static bool vm_has_block(const struct vm *vm, const void *block)
{
    for (uint64_t i = 0; i < vm->mem.n_blocks; i++)
        if (atomic_load_explicit((void *_Atomic *)&vm->mem.block[i], memory_order_relaxed) == block)
            return true;
    return false;
}

/* The guest that has the 2 MiB of host memory at block; NULL: none.  Blocks without memory are NULL in its table. */
static struct vm *block_owner(const void *block)
{
    for (unsigned i = 0; block && i < vm_slots(); i++)
        if (vm_at(i) && vm_at(i)->mem.block && vm_has_block(vm_at(i), block))
            return vm_at(i);
    return NULL;
}

/* Nobody else ever gets this block, whatever becomes of the guest. */
static void block_retire(const void *block)
{
    static const void *retired[RETIRED_MAX]; /* service pCPU only */
    static unsigned n;
    for (unsigned i = 0; i < n; i++)
        if (retired[i] == block)
            return;
    if (n == RETIRED_MAX) {
        log_error("mce", "more than %u blocks of memory have lost data; this one is used on", RETIRED_MAX);
        return;
    }
    retired[n++] = block;
    block_pin(block);
}

static void memory_lost(const struct mce_record *r)
{
    void *block = hpa_ptr(hpa(ALIGN_DOWN(r->addr, BLOCK_SIZE)));
    struct vm *vm = block_owner(block);
    if (!vm) {
        log_error("mce", "the host's memory at 0x%lx has lost data; no guest has it now", r->addr);
        return;
    }
    block_retire(block); /* also of a guest that this error has stopped already, or that does not run yet */
    if ((vm_state(vm) != VM_RUNNING && vm_state(vm) != VM_PAUSED) || atomic_load(&vm->power_request)) {
        log_error("mce", "the host's memory at 0x%lx has lost data of %s, which is %s", r->addr, vm->config.name,
                  vm_state_name(vm_state(vm)));
        return;
    }
    snprintf(vm->crash_reason, sizeof(vm->crash_reason),
             "its memory has lost data: uncorrectable hardware error at host address 0x%lx (CPU %u, bank %u)", r->addr,
             r->cpu, r->bank);
    log_error("vm", "%s: %s", vm->config.name, vm->crash_reason);
    vm_power_request(vm, VM_POWER_CRASH);
}

void vm_machine_check_step(void)
{
    struct mce_record r;
    while (mce_next(&r)) {
        mce_print(&r);
        if (!r.old && r.has_addr && (r.kind == MCE_OPTIONAL || r.kind == MCE_REQUIRED))
            memory_lost(&r);
    }
}
