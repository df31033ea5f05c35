/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/devices.h - all device models of a VM, by value: copyable, comparable, without pointers into itself. */
#ifndef GODWIT_KERNEL_DEV_DEVICES_H
#define GODWIT_KERNEL_DEV_DEVICES_H

#include "kernel/core/cpuid.h"
#include "kernel/core/vm.h"
#include "kernel/dev/io_bus.h"
#include "kernel/dev/ioapic.h"
#include "kernel/dev/lapic.h"
#include "kernel/dev/msr.h"
#include "kernel/dev/pci_guest.h"
#include "kernel/dev/pic.h"
#include "kernel/dev/pit.h"
#include "kernel/dev/pm.h"
#include "kernel/dev/pvclock.h"
#include "kernel/dev/rtc.h"
#include "kernel/dev/steal_time.h"
#include "kernel/dev/uart.h"
#include "kernel/dev/vdev.h"

struct devices {
    struct ioapic ioapic;
    struct pic pic;
    struct pit pit;
    struct rtc rtc;
    struct pm pm;
    struct uart uart;
    struct pci_guest pci;
    struct vdevs vdevs;
    struct guest_time time;
    struct pvclock pvclock[VM_MAX_VCPUS];
    struct steal_time steal_time[VM_MAX_VCPUS];
    struct msr_bank msr[VM_MAX_VCPUS]; /* [o] of each vCPU */
    struct io_explain explain;
};

/** Allocate and power on vm->devices, every vCPU's lapic, and vm->cpuid (the host baseline, unless vm_offer_adopt() has
 *  set it); starts the guest's clock.  vm->config, vm->vcpus and vm->n_vcpus are set; sets vm->tsc_hz and
 *  vm->tsc_offset (the caller passes the offset on to the vendor).  HV_E_NOMEM: nothing is kept. */
HV_MUST_CHECK enum hv_err devices_create(struct vm *vm);
void devices_destroy(struct vm *vm); /* frees what devices_create allocated; harmless when it failed */
/** As after the reset button: lapics and device registers; clocks go on.  vCPUs frozen.  vCPU registers are the
 *  caller's (linux_boot_load). */
void devices_reset(struct vm *vm);
/** Drive ISA interrupt irq (0..15) at the PIC and the IOAPIC (IRQ 0 is pin 2).  dev_lock held. */
void devices_irq_set(struct vm *vm, unsigned irq, bool level);

#endif
