/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/devices.h - all device models of a VM.
 *
 * They are held by value, without pointers into themselves, so that a test can copy and compare a whole machine.
 * Field letters as in vm.h: [d] dev_lock, [o] the vCPU's owner; [d] where nothing is said. */
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
    struct guest_time time;                     /* changes only while all vCPUs are frozen */
    struct pvclock pvclock[VM_MAX_VCPUS];       /* [o] by vCPU index */
    struct steal_time steal_time[VM_MAX_VCPUS]; /* [o] by vCPU index */
    struct msr_bank msr[VM_MAX_VCPUS];          /* [o] by vCPU index */
    struct io_unhandled_log unhandled;
};

/** Allocate vm->devices, each vCPU's lapic and vm->cpuid, bring them to power-on state, and start the guest's clock.
 *  vm->config, vm->vcpus and vm->n_vcpus are set.  vm->cpuid is kept if vm_offer_adopt() has set it.  Sets vm->tsc_hz
 *  and vm->tsc_offset; the caller passes the offset to the vendor (vm_tsc_apply).
 *  Returns HV_OK; HV_E_NOMEM or an error of cpuid_build_for(): nothing is kept.
 *  Context: service pCPU, vCPUs frozen, no lock held. */
HV_MUST_CHECK enum hv_err devices_create(struct vm *vm);
/** Free what devices_create() allocated; harmless when that failed. */
void devices_destroy(struct vm *vm);
/** Hard reset of lapics and device registers; clocks go on, vCPU registers are the caller's (linux_boot_load).
 *  Context: vCPUs frozen; takes dev_lock. */
void devices_reset(struct vm *vm);
/** Drive ISA interrupt irq (0..15, not 2) at the PIC and the I/O APIC, where IRQ 0 is pin 2.  dev_lock held. */
void devices_irq_set(struct vm *vm, unsigned irq, bool level);

#endif
