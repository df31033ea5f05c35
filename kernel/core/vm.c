/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/vm.c - what devices and exits need of a whole VM: the name of its state, and how its guest asks
 * for power-off or reset. */
#include "kernel/core/vm.h"

#include "kernel/host/pcpu.h"

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
    atomic_store(&vm->power_request, what);
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        vcpu_kick(vm->vcpus[i]);
    pcpu_kick(0); /* the service loop acts */
}
