/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_change.h - change a volume group: edit a copy of it, then commit the copy to its disks at once.
 *
 *     struct lvm_change *c;
 *     enum hv_err e = lvm_change_begin(group, &c, why);           HV_E_BUSY: another change is being committed; later
 *     if (!e && !(e = lvm_change_add(c, "web", extents, &lv, why)))
 *         e = lvm_change_tag(c, lv, "godwit.bytes", "4096", why);
 *     if (e) { lvm_change_drop(c); return e; }                    nothing was changed
 *     lvm_change_commit(c, done, ctx);                            done(ctx, e, text) follows from lvm_step()
 *
 * A commit is atomic: after a power cut the group is the old or the new one.  Until done() the group in memory is the
 * old one; when done() is called with HV_OK it is the new one.  A change is begun, edited and committed or dropped
 * within one call from the service loop, so nothing else comes in between; what must wait (for a disk, for zeroes) is
 * done before it begins: see lvm_reserve().
 *
 * A pointer to a struct lvm_lv of a group is valid until the service loop's next turn.  Who keeps a volume for longer
 * keeps its UUID and looks it up (lvm_lv_by_uuid()) whenever vg.seqno has changed: lv_disk.c does.
 *
 * Service pCPU only. */
#ifndef GODWIT_KERNEL_STORE_LVM_CHANGE_H
#define GODWIT_KERNEL_STORE_LVM_CHANGE_H

#include "kernel/store/lvm.h"

struct lvm_change;

/** e: HV_OK, or why the group is as it was: HV_E_IO, or an error of the commit.  text: cause and fix; "" for HV_OK. */
typedef void lvm_done_fn(void *ctx, enum hv_err e, const char *text);

/** Begin to change g.  HV_E_BUSY: another change is being committed; try again in a later turn.  HV_E_UNSUPP: the group
 *  must not be changed here, for the reason in *why.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err lvm_change_begin(struct lvm_group *g, struct lvm_change **out, struct why *why);
/** Forget the change; not after lvm_change_commit(). */
void lvm_change_drop(struct lvm_change *c);
/** Begin to write it.  c is not the caller's any more.  done is called once, never from within. */
void lvm_change_commit(struct lvm_change *c, lvm_done_fn *done, void *ctx);

/** The group as it will be: to be read; it is changed by the functions below. */
const struct lvm_vg *lvm_change_vg(const struct lvm_change *c);
/** A volume of the change, by name; NULL: none. */
struct lvm_lv *lvm_change_find(struct lvm_change *c, const char *name);

/** A new linear volume, readable, writable and visible, on any free extents; their old contents stay.  lv may be NULL.
 *  HV_E_EXIST, HV_E_INVAL: the name.  HV_E_NOMEM: too few free extents, or the group has all the volumes that it can
 *  have. */
HV_MUST_CHECK enum hv_err lvm_change_add(struct lvm_change *c, const char *name, uint32_t extents, struct lvm_lv **lv,
                                         struct why *why);
/** Give a linear volume so many extents.  It keeps its first ones; new ones keep their old contents.  HV_E_INVAL: 0.
 *  HV_E_NOMEM: as above.  HV_E_UNSUPP: lv is not linear. */
HV_MUST_CHECK enum hv_err lvm_change_resize(struct lvm_change *c, struct lvm_lv *lv, uint32_t extents, struct why *why);
/** Snapshots of it, and of which it is the store, follow.  Errors: as the name in lvm_change_add(); HV_E_UNSUPP: lv is
 *  part of a volume of another type. */
HV_MUST_CHECK enum hv_err lvm_change_rename(struct lvm_change *c, struct lvm_lv *lv, const char *name, struct why *why);
/** Remove a volume and, if it is the store of a snapshot, the hidden volume that ties it to its origin.  The caller has
 *  made sure that nobody uses it.  Other pointers into the change stay valid.  HV_E_UNSUPP: it is part of another
 *  volume, which must be removed first. */
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

/* ---- extents that are prepared before they belong to a volume ---- */

/* What reserved extents hold may be written, such as zeroes, before a volume has them; a power cut then leaves nothing
 * but free extents.  struct lvm_reservation: kernel/store/lvm.h. */
/** Reserve extents of g, next to the end of the volume `after` if they are free there; after NULL: anywhere.
 *  HV_E_NOMEM: too few are free, or LVM_RESERVATIONS_MAX are in use. */
HV_MUST_CHECK enum hv_err lvm_reserve(struct lvm_group *g, const struct lvm_lv *after, uint32_t extents,
                                      struct lvm_reservation **out, struct why *why);
/** They are free again, or belong to a volume by now. */
void lvm_unreserve(struct lvm_reservation *r);
/** As lvm_change_add() and lvm_change_resize(), on reserved extents.  r stays the caller's, who unreserves it when the
 *  commit is done. */
HV_MUST_CHECK enum hv_err lvm_change_add_reserved(struct lvm_change *c, const char *name,
                                                  const struct lvm_reservation *r, struct lvm_lv **lv, struct why *why);
HV_MUST_CHECK enum hv_err lvm_change_grow_reserved(struct lvm_change *c, struct lvm_lv *lv,
                                                   const struct lvm_reservation *r, struct why *why);

#endif
