/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/ram_image.h - what a stopped guest's disk in memory begins with, as a disk to read: its file, or zeroes. */
#ifndef GODWIT_KERNEL_VM_RAM_IMAGE_H
#define GODWIT_KERNEL_VM_RAM_IMAGE_H

#include "kernel/core/disk.h"
#include "kernel/core/vm.h"
#include "kernel/lib/err.h"
#include "kernel/lib/why.h"

/** Open disk i of vm, which is STOPPED; the disk is IN_RAM.  It is known at once, read-only, and as large as the start
 *  of the guest would make it.  A guest that came by a move begins with zeroes there.  HV_E_AGAIN: its file is being
 *  read from the store, call again.  HV_E_NOENT: there is no such file.  HV_E_NOMEM.  Service pCPU. */
HV_MUST_CHECK enum hv_err ram_image_open(const struct vm *vm, unsigned i, struct disk **out, struct why *why);

#endif
