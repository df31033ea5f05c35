/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_text.h - a volume group as LVM2's text metadata describes it.  Portable; any context.
 *
 * The text comes from a disk, so all of it is checked: a group that is read here has its segments inside its disks, no
 * extent belongs to two volumes, and every volume that is `usable` is whole. */
#ifndef GODWIT_KERNEL_STORE_LVM_TEXT_H
#define GODWIT_KERNEL_STORE_LVM_TEXT_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"
#include "kernel/lib/why.h"

#define LVM_NAME_LEN 128 /* with the final NUL, as LVM2 allows */
#define LVM_UUID_LEN 33  /* 32 characters without dashes, and NUL */
#define LVM_PVS_MAX  8
#define LVM_LVS_MAX  512
#define LVM_SEGS_MAX 2048
#define LVM_TEXT_MAX (512 * KIB)
#define LVM_TAGS_LEN 512 /* bytes of a volume's tags, as they are kept */

/* bytes of a chunk of a snapshot */
#define LVM_CHUNK_MIN (4 * KIB)
#define LVM_CHUNK_MAX (512 * KIB)

struct lvm_pv {
    char name[LVM_NAME_LEN]; /* in the text: "pv0" */
    char uuid[LVM_UUID_LEN];
    uint64_t pe_start; /* first byte of extent 0 */
    uint32_t pe_count;
    bool allocatable; /* new volumes may have its extents */
};
/* extents [first, first + count) of a volume are those of a PV from pv_first on; of a volume that is not linear only
 * pv, pv_first and count mean something, and say what it takes */
struct lvm_seg {
    uint32_t first, count, pv_first;
    uint8_t pv;
};
/* A segment of type "snapshot": its volume is a name only ("snapshot0").  The volume `cow` holds the chunks in which it
 * differs from `origin`, and is what users know as the snapshot. */
struct lvm_snap {
    char origin[LVM_NAME_LEN], cow[LVM_NAME_LEN]; /* cow "": the volume is no such name */
    uint32_t chunk_bytes;                         /* a power of two, LVM_CHUNK_MIN..LVM_CHUNK_MAX */
    bool merging;                                 /* back into its origin: neither of the two may be used */
};
struct lvm_lv {
    char name[LVM_NAME_LEN], uuid[LVM_UUID_LEN];
    bool linear; /* all segments are */
    bool usable; /* linear, visible, and part of no other volume except as origin or store of a snapshot */
    bool read_only;
    bool tags_cut;           /* it has more tags than there is room for; those that are not here stay in the text */
    char type[24];           /* why it is not usable, such as the type of a segment that is not linear; "": it is */
    char tags[LVM_TAGS_LEN]; /* one after another, each with its NUL; ended by an empty one */
    uint32_t extents;        /* in all; of a segment of type "snapshot": of the origin when it was made */
    unsigned seg, n_segs;
    struct lvm_snap snap;
};
struct lvm_vg {
    char name[LVM_NAME_LEN], uuid[LVM_UUID_LEN];
    const char *unusable; /* static text: why LVM2 itself would not use the group here; NULL: it would */
    const char *frozen;   /* static text: why no other may change what is in it; NULL: others may */
    uint64_t seqno, extent_bytes;
    unsigned max_lvs; /* 0: no limit but LVM_LVS_MAX */
    unsigned n_pvs, n_lvs, n_segs;
    struct lvm_pv pv[LVM_PVS_MAX];
    struct lvm_lv lv[LVM_LVS_MAX];
    struct lvm_seg seg[LVM_SEGS_MAX];
};

/** Read the group from its text of len bytes, at most LVM_TEXT_MAX; need not end with NUL.  HV_E_INVAL: it is not such
 *  a text, or does not agree with itself; HV_E_RANGE: too large for this host; both with the line.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err lvm_vg_read(struct lvm_vg *vg, const char *text, size_t len, struct why *why);
/** A volume by name; NULL: none. */
const struct lvm_lv *lvm_lv_find(const struct lvm_vg *vg, const char *name);
/** A volume by UUID; NULL: none. */
const struct lvm_lv *lvm_lv_by_uuid(const struct lvm_vg *vg, const char *uuid);
/** The value of the volume's tag "key=value"; NULL: it has none. */
const char *lvm_lv_tag(const struct lvm_lv *lv, const char *key);
/** The volume whose segment says that cow is a store of a snapshot; NULL: none does. */
const struct lvm_lv *lvm_snap_of(const struct lvm_vg *vg, const struct lvm_lv *cow);
/** The size of lv as a disk: the store of a snapshot or clone has that of its origin. */
uint64_t lvm_lv_bytes(const struct lvm_vg *vg, const struct lvm_lv *lv);
/** The base volume, read-only and with a known SHA-256, of which lv is a clone.  NULL: lv is none. */
const struct lvm_lv *lvm_base_of(const struct lvm_vg *vg, const struct lvm_lv *lv);
/** The base volume with that SHA-256 and size; NULL: there is none. */
const struct lvm_lv *lvm_base_find(const struct lvm_vg *vg, const char *sha256, uint64_t bytes);
/** How many snapshots and clones origin has. */
unsigned lvm_snap_count(const struct lvm_vg *vg, const struct lvm_lv *origin);
/** Where byte `at` of a volume lies: *pv and the result, a byte of that disk.  *run: so many bytes follow there.
 *  lv->linear, at < extents * extent_bytes. */
uint64_t lvm_lv_map(const struct lvm_vg *vg, const struct lvm_lv *lv, uint64_t at, unsigned *pv, uint64_t *run);

#endif
