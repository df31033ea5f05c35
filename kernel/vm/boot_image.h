/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/boot_image.h - what the two loaders of guest kernels (linux_boot.c, elf_boot.c) have in common. */
#ifndef GODWIT_KERNEL_VM_BOOT_IMAGE_H
#define GODWIT_KERNEL_VM_BOOT_IMAGE_H

#include "kernel/config/config.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/why.h"

/* string: never NULL */
struct boot_module {
    const uint8_t *data;
    size_t len;
    const char *string;
};

/* What a guest is started from; all of it borrowed for the call.  The initrd is a module
 * without a string, the first. */
struct boot_image {
    const uint8_t *kernel;
    size_t kernel_len;
    const char *cmdline;
    struct boot_module module[1 + CONFIG_MAX_MODULES];
    unsigned n_modules;
};

#define BAD(...) REFUSE(HV_E_INVAL, __VA_ARGS__) /* the file's or the configuration's fault */

/** The n bytes (1 to 8) at p as a little-endian number. */
static inline uint64_t field(const uint8_t *p, unsigned n)
{
    struct rd r = rd_init(p, n);
    return rd_uint(&r, n);
}

/** e, and the reason for it, after guest memory was written. */
static inline enum hv_err memory_filled(enum hv_err e, struct why *why)
{
    return e ? REFUSE(e, "the guest's memory could not be filled: %s", hv_err_text(e)) : HV_OK;
}

#endif
