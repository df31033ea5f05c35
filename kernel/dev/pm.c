/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/pm.c - ACPI fixed hardware, and the three reset ports of a PC.
 *
 * There is no SMI command port: ACPI mode is always on, so SCI_EN reads 1.  The SCI's line is asserted while the power
 * button's bit is set in both the status and the enable register.  The guest clears the status by writing a one.
 * Power off and reset are requests only (vm_power_request); the service loop carries them out. */
#include "kernel/dev/devices.h"
#include "kernel/lib/log.h"

#define PM1_SCI_EN      BIT32(0)
#define PM1_SLP_TYP     (7u << 10)
#define PM1_SLP_EN      BIT32(13)
#define RESET_FULL      0x04 /* CF9h: a rising edge of this bit resets the processor */
#define KBC_PULSE_RESET 0xfe
/* all ones but "input buffer full", so that a driver that polls for it to clear does not hang */
#define KBC_ABSENT      0xfd

void pm_reset(struct pm *pm) { *pm = (struct pm){ 0 }; }

uint32_t pm_port_read(struct vm *vm, uint16_t port, unsigned size)
{
    const struct pm *pm = &vm->devices->pm;
    lock_assert_held(&vm->dev_lock);
    (void)size;
    if (port < PM1A_CONTROL_PORT)
        return (pm->status | (uint32_t)pm->enable << 16) >> 8 * (port - PM1A_EVENT_PORT);
    switch (port) {
    case PM1A_CONTROL_PORT: return pm->control | PM1_SCI_EN;
    case PM_TIMER_PORT:     return (uint32_t)muldiv_u64(guest_clock_ns(vm), PM_TIMER_HZ, 1000000000);
    default:                return 0;
    }
}

/* ---- the power button ---- */

static void pm_sci_update(struct vm *vm)
{
    const struct pm *pm = &vm->devices->pm;
    devices_irq_set(vm, PM_SCI_IRQ, pm->status & pm->enable & PM1_PWRBTN);
}

/* size bytes at port of the two event registers, in which a byte or word may be accessed alone. */
static void pm1_event_write(struct vm *vm, uint16_t port, unsigned size, uint32_t val)
{
    struct pm *pm = &vm->devices->pm;
    unsigned shift = 8 * (port - PM1A_EVENT_PORT);
    uint32_t mask = (size >= 4 ? UINT32_MAX : BIT32(8 * size) - 1) << shift;
    val = (val << shift) & mask;
    pm->status &= (uint16_t)~val; /* write one to clear */
    pm->enable = (uint16_t)((pm->enable & ~(mask >> 16)) | val >> 16);
    pm_sci_update(vm);
}

bool pm_button_press(struct vm *vm)
{
    struct pm *pm = &vm->devices->pm;
    lock_assert_held(&vm->dev_lock);
    if (!(pm->enable & PM1_PWRBTN))
        return false;
    pm->status |= PM1_PWRBTN;
    pm->pressed = true;
    pm_sci_update(vm);
    return true;
}

enum pm_button pm_button(const struct pm *pm)
{
    if (pm->status & PM1_PWRBTN)
        return PM_BUTTON_PRESSED;
    if (pm->pressed)
        return PM_BUTTON_TAKEN;
    return pm->enable & PM1_PWRBTN ? PM_BUTTON_READY : PM_BUTTON_UNUSED;
}

/* ---- writes ---- */

static void pm1_control_write(struct vm *vm, uint32_t val)
{
    vm->devices->pm.control = (uint16_t)(val & ~PM1_SLP_EN); /* SLP_EN is write-only */
    if (!(val & PM1_SLP_EN))
        return;
    if (FIELD_GET(PM1_SLP_TYP, val) == PM_SLP_TYP_S5)
        vm_power_request(vm, VM_POWER_OFF);
    else
        log_warn(vm->config.name, "the guest asked for ACPI sleep type %u; only S5 (power off) is supported, ignored",
                 FIELD_GET(PM1_SLP_TYP, val));
}

void pm_port_write(struct vm *vm, uint16_t port, unsigned size, uint32_t val)
{
    lock_assert_held(&vm->dev_lock);
    if (port < PM1A_CONTROL_PORT)
        pm1_event_write(vm, port, size, val);
    else if (port == PM1A_CONTROL_PORT)
        pm1_control_write(vm, val);
}

uint8_t pm_reset_port_read(struct vm *vm, uint16_t port)
{
    lock_assert_held(&vm->dev_lock);
    switch (port) {
    case PM_RESET_PORT: return vm->devices->pm.reset_control;
    case 0x92:          return 0x02; /* A20 is always open */
    default:            return KBC_ABSENT;
    }
}

void pm_reset_port_write(struct vm *vm, uint16_t port, uint8_t val)
{
    bool reset = false;
    lock_assert_held(&vm->dev_lock);
    switch (port) {
    case PM_RESET_PORT:
        reset = (val & RESET_FULL) && !(vm->devices->pm.reset_control & RESET_FULL);
        vm->devices->pm.reset_control = val & 0x0a;
        break;
    case 0x92: reset = val & 1; break;
    default:   reset = val == KBC_PULSE_RESET; break;
    }
    if (reset)
        vm_power_request(vm, VM_POWER_RESET);
}
