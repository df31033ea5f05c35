/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/disk_look.h - what is on a disk, in words, for who is about to overwrite it. */
#ifndef GODWIT_KERNEL_STORE_DISK_LOOK_H
#define GODWIT_KERNEL_STORE_DISK_LOOK_H

#include "kernel/host/boot_info.h"
#include "kernel/store/blockdev.h"

#define DISK_LOOK_BYTES (68 * KIB) /* from a disk's begin: where signatures are */
#define DISK_LOOK_LEN   160        /* of the text */

/** Read the begin and the end of every disk.  Boot CPU, once, after blockdev_init(). */
void disk_look_all(void);
/** Mark the disk, and the partition, that this host was booted from, if a driver here has it.  Boot CPU, once, after
 *  disk_look_all(). */
void disk_boot_find(const struct boot_info *bi);
/** What disk_look_all() saw on d, or what disk_look_set() said later; "" for a disk that it did not see. */
const char *disk_contents(const struct blockdev *d);
void disk_look_set(const struct blockdev *d, const char *text);

/** Name what is known in the first DISK_LOOK_BYTES and the last 64 KiB of a disk.  The result is in text. */
void disk_look_describe(const uint8_t *first, const uint8_t *last, uint64_t bytes, uint32_t sector,
                        char text[DISK_LOOK_LEN]);

#endif
