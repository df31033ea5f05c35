/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lv_disk.h - a guest's disk on a logical volume of this host. */
#ifndef GODWIT_KERNEL_STORE_LV_DISK_H
#define GODWIT_KERNEL_STORE_LV_DISK_H

#include "kernel/core/disk.h"
#include "kernel/lib/err.h"
#include "kernel/lib/why.h"
#include "kernel/store/lvm.h"

#define LV_DISK_MEMORY (4 * MIB) /* host memory that an open disk takes for data in flight, about */
/** Host memory that a disk on this volume would take; of a snapshot its list of chunks too. */
uint64_t lv_disk_memory(const char *vg, const char *lv);

/** May a guest have the volume VG/LV?  Errors as of lvm_volume_find(); HV_E_BUSY: another disk has it open, it is the
 *  registry or a disk of a guest that is saved here (saved.h), or lvm_filled() says so.  HV_E_REFUSED: it is for a boot
 *  file.  Service pCPU. */
HV_MUST_CHECK enum hv_err lv_disk_check(const char *vg, const char *lv, struct why *why);
/** Open it.  It becomes known once requests of an earlier user are done.  Errors as of lv_disk_check(); HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err lv_disk_open(const char *vg, const char *lv, struct disk **out, struct why *why);
/** The same for the import of an image.  lv_disk_check() and lv_disk_open() refuse a volume with an import that has not
 *  ended, as its tag godwit.import says: HV_E_BUSY. */
HV_MUST_CHECK enum hv_err lv_disk_open_import(const char *vg, const char *lv, struct disk **out, struct why *why);
/** The same for the guest that is saved here and has the volume as a disk, and to read it. */
HV_MUST_CHECK enum hv_err lv_disk_open_kept(const char *vg, const char *lv, struct disk **out, struct why *why);
/** The same for the host itself: its registry, boot files, and volumes that a move fills, which the others refuse. */
HV_MUST_CHECK enum hv_err lv_disk_open_own(const char *vg, const char *lv, struct disk **out, struct why *why);

/** Begin nothing more for disks on a volume, until it is let go: a snapshot of it is being made.  True: nothing is with
 *  the host's disks. */
bool lv_disk_hold(const struct lvm_group *g, const char *uuid, bool hold);
/** Copy nothing more to the store `cow` of a snapshot of this volume: it is to be deleted.  True: nothing is under way
 *  with it. */
bool lv_disk_freeze(const struct lvm_group *g, const char *uuid, const char *cow_uuid, bool freeze);
struct snapshot;
/** The store `cow` of a snapshot of this volume, as the disk on the volume knows it; NULL: no disk is open there.
 *  Valid in this turn. */
struct snapshot *lv_disk_store(const struct lvm_group *g, const char *uuid, const char *cow_uuid);
/** Go on with what disks do by themselves.  Part of the service loop. */
void lv_disk_step(void);

#endif
