/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/kind.h - the kind of a move: what happens to the guest, and to its disks.  It follows from the guest's
 * state, from where its disks are, and from the options.  One function decides it, for validation, for a dry run and
 * for the move itself, so that all three say the same.
 *
 *   transfer type   the guest                                  asked for by
 *   live            runs while its memory is sent              --live, or nothing
 *   quick           is stopped before its first page is sent   --quick, --paused
 *   paused          stands still, as an operator paused it     its state; --live: in rounds, --quick: in the handoff
 *   cold            is stopped, and stays so: its definition,  its state, or --cold
 *                   boot files and volumes move
 *   saved           is stopped and saved, and stays so: cold,  its state, or --cold
 *                   with the volume in which it is saved
 *
 * Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_KIND_H
#define GODWIT_KERNEL_PEERS_KIND_H

#include "kernel/core/vm.h"
#include "kernel/lib/why.h"
#include "kernel/peers/move_options.h"

enum move_how { MOVE_LIVE, MOVE_QUICK, MOVE_PAUSED, MOVE_COLD, MOVE_SAVED };
enum move_disks {
    MOVE_DISKS_NONE,   /* it has none, or only in its memory */
    MOVE_DISKS_SHARED, /* on servers that both hosts use: nothing is copied */
    MOVE_DISKS_COPIED  /* some are volumes of this host, and move along; or its checkpoints are */
};
struct move_kind {
    enum move_how how;
    enum move_disks disks;
};

/** Is the guest stopped, and stays so? */
static inline bool move_is_cold(enum move_how how) { return how == MOVE_COLD || how == MOVE_SAVED; }

/** The kind of a move of vm with options o, now.  HV_E_BUSY: no guest in that state moves.  HV_E_UNSUPP: a disk of it
 *  stays, or the kind that o asks for does not fit.  HV_E_EXIST: this is only the definition of a guest that has left.
 *  Of a stopped guest also the errors of lv_disk_check(), unless it is saved.  why: cause and fix. */
HV_MUST_CHECK enum hv_err move_kind_of(const struct vm *vm, const struct move_options *o, struct move_kind *out,
                                       struct why *why);
/** The words of the management interface: "live", "shared", ... */
const char *move_how_name(enum move_how how);
const char *move_disks_name(enum move_disks disks);

#endif
