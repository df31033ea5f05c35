/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/nmi.h - NMIs from outside: of a BMC's button, a watchdog, a bus error. */
#ifndef GODWIT_KERNEL_HOST_NMI_H
#define GODWIT_KERNEL_HOST_NMI_H

#include "kernel/lib/types.h"

struct trap_frame;

/** Count an NMI that interrupted f, and record the state of this pCPU for nmi_step(), unless another record waits.
 *  False: that one waits for 10 s, so the service loop hangs: panic.  NMI context. */
HV_MUST_CHECK bool nmi_take(const struct trap_frame *f);
/** Log a record that waits, with the dump that a panic prints.  Service loop. */
void nmi_step(void);

#endif
