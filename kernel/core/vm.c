/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/vm.c - the name of a VM's state, and its guest's request for power-off or reset.  Not here: acting on it
 * (kernel/vm/vm_manage.c). */
#include "kernel/core/vm.h"

#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

const char *vm_state_name(enum vm_state s)
{
    switch (s) {
    case VM_STOPPED:  return "stopped";
    case VM_RUNNING:  return "running";
    case VM_PAUSED:   return "paused";
    case VM_CRASHED:  return "crashed";
    case VM_INCOMING: return "incoming";
    }
    return "?";
}

void vm_power_request(struct vm *vm, enum vm_power what)
{
    ASSERT(what != VM_POWER_NONE && vm->n_vcpus <= VM_MAX_VCPUS);
    atomic_store(&vm->power_request, what);
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        vcpu_kick(vm->vcpus[i]);
    pcpu_kick_service();
}
