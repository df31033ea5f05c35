/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm.h - the volume groups that LVM2 made on this host's disks.  Service pCPU only. */
#ifndef GODWIT_KERNEL_STORE_LVM_H
#define GODWIT_KERNEL_STORE_LVM_H

#include "kernel/store/blockdev.h"
#include "kernel/store/lvm_label.h"

#define LVM_VGS_MAX 8

/* On a volume that a move fills, from its first moment on: for whose job.  It reads as what others left there. */
#define LVM_TAG_MOVE "godwit.move"

/* A volume in use.  disks: those that have it open, or whose last requests are not done.  clones: of its snapshots and
 * clones.  reverts: to checkpoints.  filled: whole, LVM_TAG_MOVE goes.  left: its guest has left.  None: it is free */
struct lvm_use {
    char uuid[LVM_UUID_LEN];
    unsigned disks, clones, reverts;
    bool open, filled, left;
};
#define LVM_RESERVATIONS_MAX 16 /* of a group */
#define LVM_RESERVE_SEGS     64
/* Free extents which no change gives to others but the one that names them (lvm_change.h). */
struct lvm_reservation {
    struct lvm_group *group; /* NULL: not in use */
    unsigned n_segs;
    struct lvm_seg seg[LVM_RESERVE_SEGS]; /* pv, pv_first, count */
};
/* The metadata area of a PV.  len 0: it has none, other disks of its group have the text. */
struct lvm_area {
    uint64_t at, len; /* bytes of its disk */
    struct lvm_locn locn;
    const char *obstacle; /* static text: why nothing may be written there; NULL: it may */
    bool fresh;           /* nothing that is there counts */
    bool unsure;          /* the header may be the one before `locn`, as its write has failed */
};
struct lvm_change;
/* A group, and the disks that it is on. */
struct lvm_group {
    struct lvm_vg vg; /* replaced by each change: volumes move to other places (lvm_change.h) */
    char *text;       /* owned, LVM_TEXT_MAX bytes: vg was read from it */
    size_t text_len;
    struct blockdev *dev[LVM_PVS_MAX]; /* of vg.pv[i]; NULL: that disk is not here */
    struct lvm_area area[LVM_PVS_MAX]; /* of vg.pv[i] */
    struct lvm_change *change;         /* that is being committed; NULL: none */
    char stuck[160];                   /* why it must not be changed any more until the host restarts; "": it may */
    struct lvm_use use[LVM_LVS_MAX];   /* in no order */
    struct lvm_reservation reserved[LVM_RESERVATIONS_MAX];
    char why_not[160];     /* why no volume of it may be used; "": they may */
    bool foreign;          /* why_not: its registry is another host's; an adoption lifts it */
    uint64_t revert_seqno; /* vg.seqno when it was looked at for reverts that a power cut interrupted */
};

/** Read the labels and the metadata of all disks, and log what is there.  Boot CPU, once, after blockdev_init().
 *  Nothing is written. */
void lvm_scan(void);
/** In slot i < LVM_VGS_MAX; NULL: none, and none behind it.  lvm_disk_forget() moves groups to other slots: a slot is
 *  valid within a turn only. */
struct lvm_group *lvm_group_at(unsigned i);
/** By name; NULL: none. */
struct lvm_group *lvm_group_find(const char *name);
/** The use of a volume that g has: the one that is there, or a free place, which takes the UUID. */
struct lvm_use *lvm_use_get(struct lvm_group *g, const char *uuid);
/** HV_E_BUSY: a move is filling the volume, or did not come to its end: it has LVM_TAG_MOVE, and is not `filled`.  So
 *  whoever reads the store keeps it closed. */
HV_MUST_CHECK enum hv_err lvm_filled(struct lvm_group *g, const struct lvm_lv *lv, struct why *why);
/** The volume VG/LV, to be used by a guest.  HV_E_NOENT: there is no such group or volume.  HV_E_UNSUPP: it cannot be
 *  used, for the reason in *why. */
HV_MUST_CHECK enum hv_err lvm_volume_find(const char *vg, const char *lv, struct lvm_group **group,
                                          const struct lvm_lv **out, struct why *why);

/* ---- for the files of this room ---- */

/* What a disk says.  uuid "": it is no PV; vg_uuid "": no group is known from it */
struct lvm_pv_found {
    struct blockdev *dev;
    char uuid[LVM_UUID_LEN], vg_uuid[LVM_UUID_LEN];
    struct lvm_area area;
};
/** Find the text of the newest metadata of the PV on d.  text: LVM_TEXT_MAX bytes, out->area.locn.len are set.
 *  HV_E_NOENT: no PV, or one of no group.  HV_E_INVAL: damaged.  HV_E_IO. */
HV_MUST_CHECK enum hv_err lvm_metadata_read(struct blockdev *d, char *text, struct lvm_pv_found *out, struct why *why);
/** d gets other contents: forget what was known of it.  None of its volumes is in use. */
void lvm_disk_forget(const struct blockdev *d);
/** Enter a group that was made here.  Fewer than LVM_VGS_MAX are known. */
void lvm_group_enter(struct lvm_group *g);
/** An empty group, in no list; NULL: no memory. */
struct lvm_group *lvm_group_new(void);
void lvm_group_free(struct lvm_group *g);

#endif
