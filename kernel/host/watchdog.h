/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/watchdog.h - the machine's hardware watchdog, which the firmware may have armed. */
#ifndef GODWIT_KERNEL_HOST_WATCHDOG_H
#define GODWIT_KERNEL_HOST_WATCHDOG_H

/** Stop the watchdog that the ACPI table WDAT describes, if it runs; the log says so.  Boot CPU, once, after
 *  acpi_init(). */
void watchdog_stop(void);

#endif
