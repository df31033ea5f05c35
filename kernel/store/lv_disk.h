/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lv_disk.h - a guest's disk on a logical volume of this host. */
#ifndef GODWIT_KERNEL_STORE_LV_DISK_H
#define GODWIT_KERNEL_STORE_LV_DISK_H

#include "kernel/core/disk.h"
#include "kernel/lib/err.h"
#include "kernel/lib/why.h"

#define LV_DISK_MEMORY (4 * MIB) /* host memory that an open disk takes for data in flight, about */

/** May a guest have the volume VG/LV?  Errors as of lvm_volume_find(); HV_E_BUSY: another disk has it open.  Service
 *  pCPU. */
HV_MUST_CHECK enum hv_err lv_disk_check(const char *vg, const char *lv, struct why *why);
/** Open it.  It becomes known once requests of an earlier user are done.  Errors as of lv_disk_check(); HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err lv_disk_open(const char *vg, const char *lv, struct disk **out, struct why *why);
/** The same for the import of an image.  lv_disk_check() and lv_disk_open() refuse a volume with an import that has not
 *  ended, as its tag godwit.import says: HV_E_BUSY. */
HV_MUST_CHECK enum hv_err lv_disk_open_import(const char *vg, const char *lv, struct disk **out, struct why *why);

#endif
