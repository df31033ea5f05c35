/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/pm.h - ACPI fixed hardware (PM1a event and control, the PM timer) and the reset ports of a PC.
 *
 * S5 (SLP_TYP 5 with SLP_EN) powers off.  CF9h, 64h (command FEh) and 92h bit 0 reset.  The one event is the fixed
 * power button: PWRBTN_STS, which raises the SCI while PWRBTN_EN is set.
 * Context of all calls but pm_reset(): any pCPU, dev_lock held.
 * Manual: ACPI specification 6 "ACPI Register Model". */
#ifndef GODWIT_KERNEL_DEV_PM_H
#define GODWIT_KERNEL_DEV_PM_H

#include "kernel/lib/types.h"

#define PM1A_EVENT_PORT   0x600 /* status 2 bytes, enable 2 bytes */
#define PM1A_CONTROL_PORT 0x604
#define PM_TIMER_PORT     0x608
#define PM_TIMER_HZ       3579545u
#define PM_SCI_IRQ        9
#define PM_SLP_TYP_S5     5
#define PM_RESET_PORT     0xcf9
#define PM_RESET_VALUE    0x06

struct vm;

struct pm { /* [d] */
    uint16_t status, enable, control;
    uint8_t reset_control;  /* CF9h */
    bool pressed;           /* the power button, since the guest's start */
#define PM1_PWRBTN BIT32(8) /* of status and enable */
};

/* What is known of the power button. */
enum pm_button {
    PM_BUTTON_UNUSED,  /* the guest does not listen to it (now): its kernel has no driver for it, or is not up yet */
    PM_BUTTON_READY,   /* it listens */
    PM_BUTTON_PRESSED, /* it has not reacted yet */
    PM_BUTTON_TAKEN,   /* its kernel has taken the event; what becomes of that is up to its programs */
};

void pm_reset(struct pm *pm);
/** Press the power button.  False: nothing is done, for the guest does not listen to it. */
HV_MUST_CHECK bool pm_button_press(struct vm *vm);
enum pm_button pm_button(const struct pm *pm);
uint32_t pm_port_read(struct vm *vm, uint16_t port, unsigned size);
void pm_port_write(struct vm *vm, uint16_t port, unsigned size, uint32_t val);
/** Ports 64h (keyboard controller: absent but for its reset pulse), 92h and CF9h. */
uint8_t pm_reset_port_read(struct vm *vm, uint16_t port);
void pm_reset_port_write(struct vm *vm, uint16_t port, uint8_t val);

#endif
