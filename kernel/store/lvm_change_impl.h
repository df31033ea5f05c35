/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_change_impl.h - a change of a group, between lvm_change.c (edits) and lvm_commit.c (writes). */
#ifndef GODWIT_KERNEL_STORE_LVM_CHANGE_IMPL_H
#define GODWIT_KERNEL_STORE_LVM_CHANGE_IMPL_H

#include "kernel/store/lvm_change.h"

enum lvm_phase { LVM_EDIT, LVM_READ, LVM_TEXT, LVM_FLUSH_TEXT, LVM_HEADER, LVM_FLUSH_HEADER, LVM_END };

struct lvm_change {
    struct lvm_group *group; /* borrowed: it stays while group->change is set */
    struct lvm_vg vg;        /* edited; from LVM_READ on as read from `text` */
    char what[64];           /* for LVM2's description */

    /* the commit: see lvm_commit.c */
    lvm_done_fn *done;
    void *ctx;
    enum lvm_phase phase;
    unsigned pv;       /* the phase is at this one */
    uint64_t at;       /* TEXT: so many bytes of the area's ranges are written */
    bool busy;         /* r is with the disk */
    bool answered, ok; /* r has ended since, and how */
    struct block_writes writes;
    enum hv_err err;
    char why[200];
    char *text; /* owned, LVM_TEXT_MAX */
    size_t text_len;
    struct lvm_locn place[LVM_PVS_MAX]; /* of the new text */
    bool failed[LVM_PVS_MAX];           /* its header may be the old one */
    uint8_t *head;                      /* owned: the first BLOCK_SECTOR_MAX bytes of each area */
    uint8_t *buf;                       /* owned, BLOCK_LEN_MAX */
    struct block_req r;
    struct lvm_change *next; /* in the list of commits */
};

#endif
