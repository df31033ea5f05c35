/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_change.h - change a volume group: edit a copy of it, then commit the copy to its disks at once.
 *
 *     struct lvm_change *c;
 *     enum hv_err e = lvm_change_begin(group, &c, why);
 *     if (!e && !(e = lvm_change_add(c, "web", extents, &lv, why)))
 *         e = lvm_change_tag(c, lv, "godwit.bytes", "4096", why);
 *     if (e) { lvm_change_drop(c); return e; }                    nothing was changed
 *     lvm_change_commit(c, done, ctx);                            done(ctx, e, text) follows from lvm_step()
 *
 * After a power cut the group is the old or the new one; in memory it is the new one from done() on.  A change is
 * begun, edited and committed or dropped within one call from the service loop.  A pointer to a volume of a group is
 * valid until the next turn; who keeps a volume for longer keeps its UUID.  Service pCPU only. */
#ifndef GODWIT_KERNEL_STORE_LVM_CHANGE_H
#define GODWIT_KERNEL_STORE_LVM_CHANGE_H

#include "kernel/store/lvm.h"

struct lvm_change;

/** e: HV_OK, or why the group is as it was: HV_E_IO, or an error of the commit.  text: cause and fix; "" for HV_OK. */
typedef void lvm_done_fn(void *ctx, enum hv_err e, const char *text);

/** HV_E_BUSY: another change is being committed; try again later.  HV_E_UNSUPP: g must not be changed.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err lvm_may_change(const struct lvm_group *g, struct why *why);
HV_MUST_CHECK enum hv_err lvm_change_begin(struct lvm_group *g, struct lvm_change **out, struct why *why);
void lvm_change_drop(struct lvm_change *c);
/** Begin to write it.  c is not the caller's any more.  done is called once, never from within. */
void lvm_change_commit(struct lvm_change *c, lvm_done_fn *done, void *ctx);

/** A volume of the change, by name; NULL: none. */
struct lvm_lv *lvm_change_find(struct lvm_change *c, const char *name);

/** A new linear volume on free extents, whose old contents stay.  lv may be NULL.  HV_E_EXIST, HV_E_INVAL: the name.
 *  HV_E_NOMEM: too few free extents, or too many volumes. */
HV_MUST_CHECK enum hv_err lvm_change_add(struct lvm_change *c, const char *name, uint32_t extents, struct lvm_lv **lv,
                                         struct why *why);
/** Can its size change?  HV_E_UNSUPP: lv is not linear.  HV_E_BUSY: it has snapshots or clones. */
HV_MUST_CHECK enum hv_err lvm_change_may_resize(const struct lvm_vg *vg, const struct lvm_lv *lv, struct why *why);
/** Give a linear volume so many extents.  It keeps its first ones; new ones keep their old contents.  HV_E_INVAL: 0.
 *  HV_E_NOMEM: as above.  Errors of lvm_change_may_resize().  Of the store of a snapshot this is the space for what
 *  differs. */
HV_MUST_CHECK enum hv_err lvm_change_resize(struct lvm_change *c, struct lvm_lv *lv, uint32_t extents, struct why *why);
/** Snapshots of it, and of which it is the store, follow.  Errors: as the name in lvm_change_add(); HV_E_UNSUPP: lv is
 *  part of a volume of another type. */
HV_MUST_CHECK enum hv_err lvm_change_rename(struct lvm_change *c, struct lvm_lv *lv, const char *name, struct why *why);
/** Remove a volume that nobody uses; with the store of a snapshot goes the hidden volume that ties it to its origin.
 *  HV_E_BUSY: it has snapshots or clones.  HV_E_UNSUPP: it is part of a volume of another type. */
HV_MUST_CHECK enum hv_err lvm_change_remove(struct lvm_change *c, struct lvm_lv *lv, struct why *why);
/** Set the tag "key=value"; value NULL: remove it.  HV_E_INVAL: LVM2 allows letters, digits and "_+.-/=!:&#" in tags.
 *  HV_E_NOMEM: no place for it, see struct lvm_lv. */
HV_MUST_CHECK enum hv_err lvm_change_tag(struct lvm_change *c, struct lvm_lv *lv, const char *key, const char *value,
                                         struct why *why);
void lvm_change_read_only(struct lvm_change *c, struct lvm_lv *lv, bool read_only);
/** Make cow, a linear volume, the store of a snapshot of origin, as `lvcreate -s` does: a hidden volume ties the two.
 *  chunk: sectors, a power of two from 8 to 1024.  Errors: as lvm_change_add(). */
HV_MUST_CHECK enum hv_err lvm_change_snapshot(struct lvm_change *c, const struct lvm_lv *origin,
                                              const struct lvm_lv *cow, uint32_t chunk, struct why *why);
/** Does LVM2 take this name? */
bool lvm_name_ok(const char *name);
/** The same for a new volume of vg.  HV_E_INVAL, HV_E_EXIST. */
HV_MUST_CHECK enum hv_err lvm_volume_name_check(const struct lvm_vg *vg, const char *name, struct why *why);
void lvm_uuid_make(char uuid[LVM_UUID_LEN]);
/** Extents that a new volume could have. */
uint32_t lvm_extents_free(const struct lvm_group *g);

bool lvm_step(void);
/** For LVM2's creation_host. */
void lvm_host_name_set(const char *name);

/* ---- extents that are written before they belong to a volume: a power cut leaves nothing but free extents ---- */

/** Reserve extents of g, if it can be behind the volume `after`, which may be NULL.  HV_E_NOMEM: too few are free.
 *  HV_E_BUSY: LVM_RESERVATIONS_MAX are in use.  HV_E_UNSUPP: g must not be changed; a commit is no obstacle. */
HV_MUST_CHECK enum hv_err lvm_reserve(struct lvm_group *g, const struct lvm_lv *after, uint32_t extents,
                                      struct lvm_reservation **out, struct why *why);
void lvm_unreserve(struct lvm_reservation *r);
/** As lvm_change_add() and lvm_change_resize(), on reserved extents, until the commit is done. */
HV_MUST_CHECK enum hv_err lvm_change_add_reserved(struct lvm_change *c, const char *name,
                                                  const struct lvm_reservation *r, struct lvm_lv **lv, struct why *why);
HV_MUST_CHECK enum hv_err lvm_change_grow_reserved(struct lvm_change *c, struct lvm_lv *lv,
                                                   const struct lvm_reservation *r, struct why *why);

#endif
