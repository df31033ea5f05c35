/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/gpt.h - the partitions of a disk: UEFI 2.9, 5 "GUID Partition Table (GPT) Disk Layout". */
#ifndef GODWIT_KERNEL_STORE_GPT_H
#define GODWIT_KERNEL_STORE_GPT_H

#include "kernel/lib/why.h"
#include "kernel/store/blockdev.h"

#define GPT_ENTRIES_MAX 128u /* what every tool makes */

struct gpt_entry {
    unsigned number;        /* from 1 on, as in "nvme0p2" */
    uint64_t offset, bytes; /* whole sectors, within the disk's usable ones; no two overlap */
};
struct gpt {
    unsigned n;
    struct gpt_entry part[GPT_ENTRIES_MAX];
};

/** Read d's partition table: the first copy, or the one at the end if the first is damaged.  Boot CPU, at boot.
 *  d->table becomes "GPT" or "MBR" if there is one: then d is not to be used as a whole.
 *  HV_E_NOENT: no table.  HV_E_UNSUPP: an MBR only.  HV_E_INVAL: both copies are damaged.  HV_E_IO.  HV_E_NOMEM.
 *  out->n is 0 then. */
HV_MUST_CHECK enum hv_err gpt_read(struct blockdev *d, struct gpt *out, struct why *why);

#endif
