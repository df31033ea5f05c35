/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/saved.h - volumes with saved guests.  What is in them: migrate/record.h.
 *
 * The tags of a volume say what it is, and change at one instant, so that a power cut finds one or the other:
 *
 *   godwit.saving=GUEST     it is being written.  After a power cut nothing is saved, and it is removed
 *   godwit.saved=GUEST      GUEST is saved there, whole, in its first godwit.bytes bytes, and stopped on this host
 *   godwit.restored=GUEST   the same, and the guest has run since, or went elsewhere, saved: what its disks have now
 *                           may not fit it any more
 *   godwit.disks=A.B        beside these: its disks that are volumes of this host, each by the first SAVED_DISK_LEN
 *                           characters of its UUID.  While the guest is saved nobody else writes them
 *   godwit.move=ID          beside godwit.saved: it came by that move, or was to come (kernel/peers/move_volume.h)
 *
 * A volume of a move is no saved guest while it is being filled, nor once its guest has left.
 *
 * A volume that was imported has none of them until a guest is restored from it.
 *
 * The space of such a volume is not zeroed before: what is behind godwit.bytes belonged to others.  So no guest may
 * have it as a disk, and an export ends there.  Service pCPU only. */
#ifndef GODWIT_KERNEL_STORE_SAVED_H
#define GODWIT_KERNEL_STORE_SAVED_H

#include "kernel/config/config.h"
#include "kernel/store/lvm.h"

#define SAVED_TAG       "godwit.saved"
#define SAVED_TAG_USED  "godwit.restored"
#define SAVED_TAG_BYTES "godwit.bytes"
#define SAVED_TAG_DISKS "godwit.disks"
#define SAVED_DISK_LEN  12
#define SAVED_DISKS_LEN (CONFIG_MAX_DISKS * (SAVED_DISK_LEN + 1) + 1)

enum saved_state { SAVED_NONE, SAVED_WRITING, SAVED_WHOLE, SAVED_USED };
struct saved {
    enum saved_state state;
    const char *guest; /* as all pointers here: until the next turn */
    struct lvm_group *group;
    const struct lvm_lv *lv;
    uint64_t bytes;    /* WHOLE, USED */
    const char *disks; /* value of godwit.disks; NULL: it has none, or an older release saved it */
};
/** What is in that volume?  SAVED_NONE: no saved guest. */
struct saved saved_of(struct lvm_group *g, const struct lvm_lv *lv);
/** The value of godwit.bytes; 0: it has none, or one that is beyond its end. */
uint64_t saved_length(const struct lvm_group *g, const struct lvm_lv *lv);
/** Is, or was to be, a guest saved there, or a part of a checkpoint, or the memory of what was one? */
static inline bool saved_tagged(const struct lvm_lv *lv)
{
    return lvm_lv_tag(lv, "godwit.saving") || lvm_lv_tag(lv, "godwit.saved") || lvm_lv_tag(lv, "godwit.restored") ||
           lvm_lv_tag(lv, "godwit.checkpoint") || lvm_lv_tag(lv, "godwit.kept");
}
/** The guest's saved state on this host, WHOLE or else USED, in a group that may be used.  SAVED_NONE: it has none. */
struct saved saved_find(const char *guest);
/** Is the guest saved here, and was not restored since?  Then it must not be started. */
static inline bool saved_is(const char *guest) { return saved_find(guest).state == SAVED_WHOLE; }

/** Likewise, since it was reverted to a checkpoint: in the memory of that. */
static inline bool saved_in_checkpoint(const char *guest)
{
    struct saved s = saved_find(guest);
    return s.state == SAVED_WHOLE && lvm_lv_tag(s.lv, "godwit.checkpoint");
}

/** The value of godwit.disks for a guest; "": none of its disks is a volume of this host. */
void saved_disks_text(const struct vm_config *c, char text[SAVED_DISKS_LEN]);
/** The place of disk `i` of these, from 0 on.  False, and *place is as it was: no volume of this host is that one. */
bool saved_disk_place(const char *disks, unsigned i, struct lv_config *place);
/** Is the volume one of these? */
bool saved_has_disk(const char *disks, const struct lvm_lv *lv);
/** The guest that is saved here and has the volume as a disk, which nobody else may write; NULL: none. */
const char *saved_disk_holder(const struct lvm_lv *lv);

enum saved_what {
    SAVED_MAKE,      /* a volume of so many bytes, for saving; one that was restored goes first */
    SAVED_GROW,      /* give that so many bytes more, or as many as there are */
    SAVED_SEAL,      /* so many bytes are the guest, and durable; the space behind them is free again */
    SAVED_SEAL_LIVE, /* the same, of a guest that runs on: it counts as restored */
    SAVED_SEAL_PART, /* the same, as a part of a checkpoint, which `also` makes (checkpoint.h) */
    SAVED_USE,       /* the guest is restored from it */
    SAVED_TAKE,      /* the same, of a volume that says nothing: so many bytes of it are the guest */
    SAVED_DROP,      /* remove it */
    SAVED_ALSO       /* nothing but `also`; there is no volume */
};
/** More for the same change of the group g.  lv: the volume; ALSO: NULL.  HV_E_BUSY: not now, call again. */
typedef enum hv_err saved_also_fn(struct lvm_change *c, struct lvm_group *g, struct lvm_lv *lv, void *ctx,
                                  struct why *why);
/** A change of such a volume that goes on by itself.  All zero: none. */
struct saved_edit {
    enum saved_what what;
    char vg[LVM_NAME_LEN], lv[LVM_NAME_LEN], guest[64];
    char disks[SAVED_DISKS_LEN]; /* for SEAL: saved_disks_text(), by whoever begins it */
    uint64_t bytes;
    saved_also_fn *also; /* may be set after saved_edit_begin(); NULL: none */
    void *ctx;
    enum { EDIT_NONE, EDIT_WAITING, EDIT_COMMITTING, EDIT_OVER } state;
    enum hv_err err;
    char why[256];
};
/** Begin it.  bytes: for MAKE, GROW, SEAL and TAKE. */
void saved_edit_begin(struct saved_edit *e, enum saved_what what, const char *vg, const char *lv, const char *guest,
                      uint64_t bytes);
/** Go on.  HV_E_AGAIN: not done.  HV_OK: durable.  Else nothing has changed: HV_E_EXIST: the volume is something else;
 *  HV_E_NOMEM: too little is free; HV_E_NOENT, HV_E_BUSY, HV_E_IO, HV_E_UNSUPP, with *why.  e stays where it is until
 *  then. */
HV_MUST_CHECK enum hv_err saved_edit_step(struct saved_edit *e, struct why *why);

#endif
