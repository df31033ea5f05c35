/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/snapshot_view.h - a snapshot as a disk that is only read, while a guest writes to its origin.  Service
 * pCPU only. */
#ifndef GODWIT_KERNEL_STORE_SNAPSHOT_VIEW_H
#define GODWIT_KERNEL_STORE_SNAPSHOT_VIEW_H

#include "kernel/core/disk.h"
#include "kernel/lib/err.h"
#include "kernel/lib/why.h"
#include "kernel/store/lvm.h"

/** Open the snapshot `cow`, whose origin a guest has open.  It becomes known once the origin's disk has read the
 *  snapshot's store.  When the guest closes its disk, each request fails.  Nobody else opens or deletes the snapshot
 *  meanwhile.  HV_E_BUSY: it is in use, or the origin's disk does not know it.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err snapshot_view_open(struct lvm_group *g, const struct lvm_lv *cow, struct disk **out,
                                             struct why *why);

#endif
