/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_write.h - the text of a volume group after a change.  Portable; any context.
 *
 * The old text is copied, byte for byte, but for what has changed: so all that LVM2 or another tool has put there, and
 * Godwit does not understand, survives. */
#ifndef GODWIT_KERNEL_STORE_LVM_WRITE_H
#define GODWIT_KERNEL_STORE_LVM_WRITE_H

#include "kernel/lib/text.h"
#include "kernel/store/lvm_text.h"

/* Who changes the group; LVM2 keeps it in the text. */
struct lvm_stamp {
    const char *host, *what; /* without quotes and backslashes */
    uint64_t unix_s;
};

/** Append the text of `is` to out.  was: the group as it was read from old, of old_len bytes.  Between the two, volumes
 *  may have come, gone, or have another name, permission, tags or segments; of a volume whose UUID is empty nothing is
 *  written.  HV_E_INVAL: old is not what `was` was read from.  HV_E_NOMEM: memory, or out is too small. */
HV_MUST_CHECK enum hv_err lvm_text_write(const struct lvm_vg *was, const char *old, size_t old_len,
                                         const struct lvm_vg *is, const struct lvm_stamp *by, struct text *out,
                                         struct why *why);
/** Append the text of a new group with one physical volume and no logical ones, to be read and changed.  device: the
 *  disk's name, a hint. */
void lvm_text_new(const char *name, const char uuid[LVM_UUID_LEN], uint64_t extent_bytes, const struct lvm_pv *pv,
                  uint64_t dev_bytes, const char *device, struct text *out);

#endif
