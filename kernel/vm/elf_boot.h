/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/elf_boot.h - put a kernel into a guest by PVH (Xen's direct boot, which Linux, Xen, FreeBSD and unikernels
 * have) or by Multiboot 1.
 *
 * Manuals: Xen docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h; "Multiboot Specification version
 * 0.6.96"; System V ABI "Object Files". */
#ifndef GODWIT_KERNEL_VM_ELF_BOOT_H
#define GODWIT_KERNEL_VM_ELF_BOOT_H

#include "kernel/core/vcpu.h"
#include "kernel/lib/why.h"

struct boot_image;
struct vm;

/** Is this file for elf_boot_load(): ELF, or no bzImage and with load addresses in a Multiboot header?  Else it is for
 *  linux_boot_load(). */
bool elf_boot_takes(const uint8_t *file, size_t len);

/** Load b's kernel and its modules into vm's memory.  The kernel is an ELF file of 32 or 64 bits with a PVH note or a
 *  Multiboot header, or any file with load addresses in a Multiboot header; PVH is preferred.  Also write the
 *  protocol's information, memory map, ACPI tables, and what bios_guest_write() writes.
 *  *out: vCPU 0's registers at the entry, in 32-bit protected mode without paging.
 *  Errors and context: as linux_boot_load(). */
HV_MUST_CHECK enum hv_err elf_boot_load(struct vm *vm, const struct boot_image *b, struct vcpu_regs *out,
                                        struct why *why);

#endif
