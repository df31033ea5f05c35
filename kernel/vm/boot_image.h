/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/boot_image.h - what the two loaders of guest kernels (linux_boot.c, elf_boot.c) have in common. */
#ifndef GODWIT_KERNEL_VM_BOOT_IMAGE_H
#define GODWIT_KERNEL_VM_BOOT_IMAGE_H

#include "kernel/config/config.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/log.h"
#include "kernel/lib/why.h"

struct boot_module {
    const uint8_t *data;
    size_t len;
    const char *string; /* never NULL */
};

/* What a guest is started from.  Every pointer is borrowed for the call. */
struct boot_image {
    const uint8_t *kernel;
    size_t kernel_len;
    const char *cmdline;
    struct boot_module module[1 + CONFIG_MAX_MODULES]; /* the initrd, if there is one, is the first; its string is "" */
    unsigned n_modules;
};

#define BAD(...) REFUSE(HV_E_INVAL, __VA_ARGS__) /* the file or the configuration is wrong */

/** The n bytes (1 to 8) at p as a little-endian number. */
static inline uint64_t le_uint(const uint8_t *p, unsigned n)
{
    ASSERT(n >= 1 && n <= 8);
    struct rd r = rd_init(p, n);
    return rd_uint(&r, n);
}

/** The result of a load after guest memory was written: e, and its reason in why. */
static inline enum hv_err boot_write_result(enum hv_err e, struct why *why)
{
    return e ? REFUSE(e, "the guest's memory could not be filled: %s", hv_err_text(e)) : HV_OK;
}

#endif
