/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/linux_boot.h - put a Linux bzImage and its initrd into a guest by the 64-bit boot protocol, ACPI tables
 * included.
 *
 * Manual: Linux Documentation/x86/boot.rst. */
#ifndef GODWIT_KERNEL_VM_LINUX_BOOT_H
#define GODWIT_KERNEL_VM_LINUX_BOOT_H

#include "kernel/core/vcpu.h"
#include "kernel/lib/why.h"

struct boot_image;
struct vm;

/** Has this file the marks of a bzImage?  It may still be damaged. */
bool linux_boot_is_bzimage(const uint8_t *file, size_t len);
/** Load b's kernel (bzImage, protocol 2.12 or later, 64-bit entry) and its modules into vm's memory; the modules follow
 *  each other as one initrd.  Also write boot_params, e820, page tables, GDT and ACPI tables.
 *  *out: vCPU 0's registers at the entry.
 *  HV_E_INVAL: the image is damaged or too old, or a module has a string, which Linux cannot take.
 *  HV_E_NOMEM: guest or host memory is too small.  On an error why gives cause and fix.
 *  vm's memory is created and blank, its vCPUs are not running. */
HV_MUST_CHECK enum hv_err linux_boot_load(struct vm *vm, const struct boot_image *b, struct vcpu_regs *out,
                                          struct why *why);

#endif
