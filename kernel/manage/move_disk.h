/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/move_disk.h - a guest's disk moves to another place of this host or its servers: to a volume, to an
 * export of an NBD server, or into memory.  Service pCPU only.
 *
 * Each is a job (jobs.h), and waits for its turn (kernel/peers/storage_turn.h).
 * A guest that runs goes on with its disk, and never sees an error of the new one; a stopped one cannot be started
 * meanwhile.  docs/storage.md, "Moving a disk". */
#ifndef GODWIT_KERNEL_MANAGE_MOVE_DISK_H
#define GODWIT_KERNEL_MANAGE_MOVE_DISK_H

#include "kernel/config/config.h"
#include "kernel/lib/err.h"
#include "kernel/lib/why.h"
#include "kernel/manage/jobs.h"

#define DISK_MOVE_LIMIT_MB 100000u
struct disk_move_options {
    bool keep;      /* the old volume; else it is deleted at the end */
    bool overwrite; /* what there is already may be written over: a volume, or an export of a server */
    bool sure;      /* the disk may be lost: it moves into memory */
    uint64_t rate;  /* bytes per second to read at most, up to DISK_MOVE_LIMIT_MB of 10^6; 0: no limit */
};

/** Begin to move disk i of the guest to that place; by: as in operate.h.  *job: its job.  HV_E_NOENT: no such guest,
 *  disk or store.  HV_E_BUSY: guest, disk or place is in use otherwise.  HV_E_UNSUPP: that guest's disk cannot.
 *  HV_E_EXIST: something is there, and overwrite is false.  HV_E_AGAIN: into memory, and sure is false.  HV_E_NOMEM: no
 *  room there.  HV_E_INVAL: it is there already. */
HV_MUST_CHECK enum hv_err disk_move_begin(const char *guest, unsigned i, const struct disk_config *to,
                                          const struct disk_move_options *o, const char *by, struct api_job **job,
                                          struct why *why);
/** End it: the guest stays with the disk that it had.  HV_E_NOENT: that disk is not being moved.  HV_E_BUSY: too late,
 *  its definition names the new place. */
HV_MUST_CHECK enum hv_err disk_move_cancel(const char *guest, unsigned i, const char *by, struct why *why);
/** Part of the service loop; also deletes what moves left behind that a power cut ended.  True: there was progress. */
bool disk_move_step(void);

#endif
