/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/devices.c - all device models of a VM together: creation, reset, ISA interrupt lines.
 *
 * The models know nothing of each other but their interrupt lines and the guest's clock.  The order of creation follows
 * from that: memory, the clock, the virtio devices of the configuration, then a reset of all registers.
 * Not here: dispatch of accesses (io_bus.c), state across a move (vm_state.c). */
#include "kernel/dev/devices.h"

#include "kernel/dev/vdev_blk.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"

static void log_missing_feature(void *ctx, const char *name)
{
    log_error(((struct vm *)ctx)->config.name, "cpu = %s: this host lacks %s", ((struct vm *)ctx)->config.cpu, name);
}

static enum hv_err devices_alloc(struct vm *vm)
{
    vm->devices = mem_alloc(sizeof(*vm->devices));
    bool ok = vm->devices;
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        vm->vcpus[i]->lapic = mem_alloc(sizeof(struct lapic));
        ok = ok && vm->vcpus[i]->lapic;
    }
    if (vm->cpuid)
        return ok ? HV_OK : HV_E_NOMEM; /* vm_offer_adopt() has set it */
    vm->cpuid = mem_alloc(sizeof(*vm->cpuid));
    if (!ok || !vm->cpuid)
        return HV_FAIL(HV_E_NOMEM);
    struct cpuid_spec spec = { vm->config.cpu[0] ? vm->config.cpu : "host", vm->n_vcpus, vm->config.memory_bytes,
                               clock_tsc_hz };
    return cpuid_build_for(vm->cpuid, &spec, cpuid_host, log_missing_feature, vm);
}

enum hv_err devices_create(struct vm *vm)
{
    ASSERT(!vm->devices && vm->n_vcpus >= 1 && vm->n_vcpus <= VM_MAX_VCPUS);
    enum hv_err e = devices_alloc(vm);
    if (e) {
        devices_destroy(vm);
        return e;
    }
    guest_time_start(vm);
    vdev_create_all(vm);
    if (vdev_blk_create_all(vm) != HV_OK) {
        devices_destroy(vm);
        return HV_FAIL(HV_E_NOMEM);
    }
    devices_reset(vm);
    return HV_OK;
}

void devices_destroy(struct vm *vm)
{
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        mem_free(vm->vcpus[i]->lapic, sizeof(struct lapic));
        vm->vcpus[i]->lapic = NULL;
    }
    vdev_blk_destroy_all(vm);
    if (vm->devices)
        mem_free(vm->devices, sizeof(*vm->devices));
    if (vm->cpuid)
        mem_free(vm->cpuid, sizeof(*vm->cpuid));
    vm->devices = NULL;
    vm->cpuid = NULL;
    vm->tsc_hz = 0;
}

/* The state in which a PC's firmware leaves the BSP's lapic: the 8259 on LINT0, NMI on LINT1 (MultiProcessor
 * Specification 1.4 "Virtual Wire Mode"). */
static void lapic_virtual_wire(struct vcpu *v)
{
    v->lapic->svr = 0x1ff;
    v->lapic->lvt[LVT_LINT0] = (uint32_t)LAPIC_EXTINT << 8;
    v->lapic->lvt[LVT_LINT1] = (uint32_t)LAPIC_NMI << 8;
}

void devices_reset(struct vm *vm)
{
    struct devices *d = vm->devices;
    spin_lock(&vm->dev_lock);
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        ASSERT(atomic_load(&vm->vcpus[i]->state) == VCPU_FROZEN);
        lapic_reset(vm->vcpus[i], false);
        msr_bank_reset(&d->msr[i]);
        vm->vcpus[i]->tsc_adjust = 0;
        d->pvclock[i] = (struct pvclock){ 0 };
        d->steal_time[i] = (struct steal_time){ 0 };
    }
    lapic_virtual_wire(vm->vcpus[0]);
    d->ioapic.lines = 0;
    ioapic_reset(&d->ioapic);
    pic_reset(&d->pic);
    pit_reset(vm);
    rtc_reset(vm);
    pm_reset(&d->pm);
    uart_reset(&d->uart);
    vdev_reset_all(vm);
    spin_unlock(&vm->dev_lock);
}

void devices_irq_set(struct vm *vm, unsigned irq, bool level)
{
    lock_assert_held(&vm->dev_lock);
    pic_line_set(&vm->devices->pic, irq, level);
    ioapic_line_set(vm, irq == 0 ? 2 : irq, level);
}
