/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/volume.h - make, resize, rename and delete volumes of a group.  Service pCPU only.
 *
 * Each begins here and goes on in the service loop; watch->done() tells the outcome, once.  A power cut leaves the
 * volume as it was or as it shall be.  What a guest may have in its definition is for the caller to know; a volume that
 * is open is refused here. */
#ifndef GODWIT_KERNEL_STORE_VOLUME_H
#define GODWIT_KERNEL_STORE_VOLUME_H

#include "kernel/store/lvm.h"

/* Who waits for an action. */
struct store_watch {
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* bytes */
    void (*done)(void *ctx, enum hv_err e, const char *text);   /* text: of an error cause and fix; else what is */
    void *ctx;
};

/** May a volume have that name?  HV_E_REFUSED: Godwit uses it itself. */
HV_MUST_CHECK enum hv_err volume_name_own(const struct lvm_group *g, const char *name, struct why *why);
/** A new volume of at least so many bytes, in whole extents, which reads as zeroes.  HV_E_INVAL, HV_E_EXIST: the name
 *  or size.  HV_E_NOMEM: too little is free.  HV_E_UNSUPP, HV_E_BUSY: see lvm_change_begin(). */
HV_MUST_CHECK enum hv_err volume_create(struct lvm_group *g, const char *name, uint64_t bytes,
                                        const struct store_watch *watch, struct why *why);
/** The same with tags "key=value\nkey=value" from its first moment, of which one is LVM_TAG_MOVE, but it reads as what
 *  was there before: lvm_filled() refuses it until the caller has written each of these bytes, and set `filled` in its
 *  lvm_use or removed the tag.  Only lv_disk_open_own() opens it. */
HV_MUST_CHECK enum hv_err volume_create_to_fill(struct lvm_group *g, const char *name, uint64_t bytes, const char *tags,
                                                const struct store_watch *watch, struct why *why);
/** Resize a volume; what it gets more reads as zeroes.  It may be open when it grows.  HV_E_AGAIN: it would lose data,
 *  and sure is false.  HV_E_NOENT; HV_E_BUSY: in use.  Others as above. */
HV_MUST_CHECK enum hv_err volume_resize(struct lvm_group *g, const char *name, uint64_t bytes, bool sure,
                                        const struct store_watch *watch, struct why *why);
/** Errors as above. */
HV_MUST_CHECK enum hv_err volume_rename(struct lvm_group *g, const char *name, const char *to,
                                        const struct store_watch *watch, struct why *why);
/** A clone of a base volume, and a snapshot of a volume; as snapshot_clone() and snapshot_take(). */
HV_MUST_CHECK enum hv_err volume_clone(struct lvm_group *g, const char *base, const char *name,
                                       const struct store_watch *watch, struct why *why);
/** A clone that a move fills, as volume_create_to_fill(), but it reads as its base. */
HV_MUST_CHECK enum hv_err volume_clone_to_fill(struct lvm_group *g, const char *base, const char *name, const char *job,
                                               const struct store_watch *watch, struct why *why);
HV_MUST_CHECK enum hv_err volume_snapshot(struct lvm_group *g, const char *volume, const char *name,
                                          const struct store_watch *watch, struct why *why);
HV_MUST_CHECK enum hv_err volume_delete(struct lvm_group *g, const char *name, const struct store_watch *watch,
                                        struct why *why);
/** Is anything going on in g, or any of its volumes open? */
bool volume_group_busy(struct lvm_group *g);
/** Part of the service loop.  True: there was progress. */
bool volume_step(void);

#endif
