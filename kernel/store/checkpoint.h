/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/checkpoint.h - checkpoints of guests: memory and all volumes as they were at one instant.  Which volumes
 * are one; make, revert and delete them.  Service pCPU only.
 *
 * A checkpoint is some volumes of one group that have the same tag:
 *
 *   godwit.checkpoint=GUEST:NAME   a part of it: the snapshot of a guest's volume, or its memory (saved.h).  Of a guest
 *                                  that was stopped there is no memory
 *   godwit.time=SECONDS            on each part: since 1970, by the host's clock
 *   godwit.of=VOLUME               on a snapshot or copy: the name of the volume whose contents it has
 *   godwit.kept=GUEST:NAME         on memory: it was that checkpoint's, until its guest left and its volumes were kept
 *                                  here (--keep).  The other parts have no tag then, and are volumes by themselves
 *   godwit.reverting=GUEST:NAME    on the origins: they are becoming what the snapshots are.  No guest may have them,
 *                                  and after a power cut that goes on
 *
 * All parts change in one commit of the group, so a power cut finds the one or the other.  A revert keeps the
 * checkpoint: it writes to the volumes as a guest would, so all other snapshots stay what they are.  It ends with
 * godwit.saved=GUEST on the memory: the guest is saved there, and its restore lets it go on.
 *
 * A checkpoint that has moved to this host with its guest has copies in place of snapshots: volumes by themselves, with
 * all of the contents.  A volume that a move is filling, or did not, is no part yet; one that has left with its guest
 * is none any more, while it is being deleted. */
#ifndef GODWIT_KERNEL_STORE_CHECKPOINT_H
#define GODWIT_KERNEL_STORE_CHECKPOINT_H

#include "kernel/config/config.h"
#include "kernel/lib/log.h"
#include "kernel/store/saved.h"
#include "kernel/store/volume.h"

#define CHECKPOINT_TAG        "godwit.checkpoint"
#define CHECKPOINT_TAG_REVERT "godwit.reverting"
#define CHECKPOINT_TAG_OF     "godwit.of"
#define CHECKPOINT_TAG_KEPT   "godwit.kept"
#define CHECKPOINT_TAG_LEN    (2 * CONFIG_NAME_LEN)
#define CHECKPOINT_NAME_MAX   24u         /* characters */
#define CHECKPOINT_VOLUME     "cp.%s.%s." /* a part's name, with "mem", "vda", ... behind: guest, checkpoint */
#define CHECKPOINT_PARTS_MAX  (CONFIG_MAX_DISKS + 1)

struct checkpoint {
    struct lvm_group *group; /* NULL: there is none; as all pointers here: until the next turn */
    char guest[CONFIG_NAME_LEN], name[CONFIG_NAME_LEN];
    const struct lvm_lv *memory; /* NULL: the guest was stopped */
    unsigned n_disks;
    const struct lvm_lv *snap[CONFIG_MAX_DISKS]; /* snapshots or copies of the guest's volumes */
    uint64_t time_s, bytes;                      /* when it was made; what it takes in its group */
    bool reverting;
};
/** The guest's next checkpoint on this host behind `after` (group NULL: of all), oldest first; group NULL: there are no
 *  more. */
struct checkpoint checkpoint_next(const char *guest, const struct checkpoint *after);
static inline struct checkpoint checkpoint_first(const char *guest)
{
    return checkpoint_next(guest, &(struct checkpoint){ .group = NULL });
}
struct checkpoint checkpoint_find(const char *guest, const char *name);
static inline bool checkpoint_any(const char *guest) { return checkpoint_first(guest).group; }
/** The same, and *why.  HV_E_NOENT. */
HV_MUST_CHECK enum hv_err checkpoint_get(const char *guest, const char *name, struct checkpoint *out, struct why *why);
/** Is one of the guest's checkpoints being deleted, or reverted to, by this host now? */
bool checkpoint_is_busy(const char *guest);
/** The next checkpoint that is being reverted to, of whichever guest, in the order of their tags: the first one behind
 *  `after`, which becomes its tag; "": of all.  group NULL: none. */
struct checkpoint checkpoint_interrupted(char after[CHECKPOINT_TAG_LEN]);
/** The volume that a snapshot or copy has the contents of; NULL: it is gone. */
const struct lvm_lv *checkpoint_origin(const struct lvm_vg *vg, const struct lvm_lv *part);
/** A volume with CHECKPOINT_TAG: is it a part by now, and still? */
static inline bool checkpoint_counts(struct lvm_group *g, const struct lvm_lv *lv)
{
    const struct lvm_use *use = lvm_use_get(g, lv->uuid);
    return !use->left && (!lvm_lv_tag(lv, LVM_TAG_MOVE) || use->filled);
}
/** Refuse what must not be done to a part of a checkpoint.  HV_E_REFUSED. */
HV_MUST_CHECK static inline enum hv_err checkpoint_no_part(const struct lvm_lv *lv, struct why *why)
{
    const char *tag = lvm_lv_tag(lv, CHECKPOINT_TAG);
    return tag ? REFUSE(HV_E_REFUSED,
                        "the volume %s is a part of the checkpoint %s (guest and name): see `vm checkpoint delete`",
                        lv->name, tag)
               : HV_OK;
}

/* ---- make ---- */

struct checkpoint_make {
    struct lvm_group *group;
    char tag[CHECKPOINT_TAG_LEN];
    uint64_t time_s;
    unsigned n;
    struct making *snap[CONFIG_MAX_DISKS]; /* owned */
    char of[CONFIG_MAX_DISKS][CONFIG_LV_NAME_LEN];
};
/** Prepare snapshots of all volumes of the guest c that can change.  group: where its memory goes, if it has no
 *  volumes.  HV_E_INVAL, HV_E_EXIST: the name.  HV_E_UNSUPP: a disk of which there can be no snapshot, or volumes in
 *  two groups.  HV_E_NOMEM, HV_E_RANGE: as snapshot_take(). */
HV_MUST_CHECK enum hv_err checkpoint_make_begin(struct checkpoint_make *m, const struct vm_config *c, const char *name,
                                                struct lvm_group *group, uint64_t time_s, struct why *why);
/** HV_E_AGAIN: not yet. */
HV_MUST_CHECK enum hv_err checkpoint_make_ready(const struct checkpoint_make *m, struct why *why);
/** Hold the guest's disks until checkpoint_make_end(), but for its reads and writes in memory.  True: nothing is under
 *  way there.  Call it again in each turn until the commit. */
bool checkpoint_make_hold(const struct checkpoint_make *m);
/** A saved_also_fn, for SAVED_SEAL_PART or SAVED_ALSO; ctx: struct checkpoint_make. */
saved_also_fn checkpoint_make_also;
void checkpoint_make_end(struct checkpoint_make *m);

/* ---- delete, and revert ---- */

/** Delete it: watch->done() follows, not from within.  Whether its guest moves is the caller's business.  HV_E_NOENT;
 *  HV_E_BUSY: one of its parts is in use. */
HV_MUST_CHECK enum hv_err checkpoint_delete(const char *guest, const char *name, const struct store_watch *watch,
                                            struct why *why);
/** Make the guest's volumes what they were; watch->done() follows, not from within.  The caller closes them next: an
 *  error of the call is what can be known before that.  HV_E_NOENT, HV_E_BUSY, HV_E_UNSUPP.  HV_E_NOMEM: of the host,
 *  or other snapshots may need more than the group has.  HV_E_INVAL: a snapshot cannot be read.
 *  done() with an error: nothing has changed; or the revert is begun, the volumes stay closed to guests, and it may be
 *  called again. */
HV_MUST_CHECK enum hv_err checkpoint_revert(const char *guest, const char *name, const struct store_watch *watch,
                                            struct why *why);
/** Part of the service loop.  True: there was progress. */
bool checkpoint_step(void);

/* ---- to another host: checkpoint_move.c ---- */

#define CHECKPOINT_MOVE_MAX 32u /* parts that can move with a guest */
#define CHECKPOINT_MEMORY   0xffu

/* A part of a checkpoint as another host hears of it. */
struct checkpoint_part {
    char checkpoint[CONFIG_NAME_LEN];
    unsigned disk;           /* of the guest: whose contents it has; CHECKPOINT_MEMORY: none */
    uint64_t time_s, bytes;  /* when it was made; how much is copied */
    uint64_t saved;          /* of memory: its length, in bytes */
    bool is_saved;           /* of memory: the guest was reverted to it, and is saved in it */
    struct lvm_group *group; /* where it is here, until the next turn; NULL: it is offered by another host */
    const struct lvm_lv *lv;
};
/** Part i of all checkpoints of the guest c, in the order of checkpoint_next().  False: there are no more. */
bool checkpoint_part_at(const struct vm_config *c, unsigned i, struct checkpoint_part *out);
/** Can all checkpoints of the guest move with it?  HV_E_BUSY, HV_E_UNSUPP, HV_E_RANGE, with *why. */
HV_MUST_CHECK enum hv_err checkpoint_may_move(const struct vm_config *c, struct why *why);
/** The tags of the guest's part at another host, as for volume_create_to_fill().  of: the volume of its disk; disks: of
 *  memory, as in saved.h, or "". */
void checkpoint_part_tags(const struct checkpoint_part *p, const char *guest, const char *of, const char *disks,
                          char *tags, size_t len);

#endif
