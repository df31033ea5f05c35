/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_machine_check.h - hardware errors that hit a guest's memory. */
#ifndef GODWIT_KERNEL_VM_VM_MACHINE_CHECK_H
#define GODWIT_KERNEL_VM_VM_MACHINE_CHECK_H

/** Log the hardware errors that were recorded (kernel/host/machine_check.h).  A guest whose memory has lost data stops
 *  as crashed, with the error as the reason; others go on.  The 2 MiB of host memory around it are never used again.
 *  Service pCPU. */
void vm_machine_check_step(void);

#endif
