/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/move_record.h - what the registry (kernel/store/registry.h) has of moves, so that a power cut of one
 * host or both leaves the guest exactly one owner.  docs/handoff.md, "After a power cut", has the protocol.  Without a
 * registry each function does nothing, and says that it is done.  Service pCPU only.
 *
 *   arrived/NAME   a guest that came by a move: id, source, uuid, boot files by SHA-256, a [vm] section.
 *                  state = arriving: it does not run here; after a power cut it never did
 *                  state = here: it is this host's
 *   job/ID         state = in-doubt: the guest is this host's, or that peer's; the peer knows
 *                  state = left: it went to that peer
 *                  state = making: volumes are made here for a guest that may come
 *                  state = running, refused: the answer to a later question of that peer about this id
 *
 * Entries of one turn become durable together. */
#ifndef GODWIT_KERNEL_PEERS_MOVE_RECORD_H
#define GODWIT_KERNEL_PEERS_MOVE_RECORD_H

#include "kernel/core/vm.h"
#include "kernel/lib/why.h"
#include "migrate/mig.h"

/* Answers that are kept; the oldest goes first.  What is in doubt, or left a definition behind, is always kept. */
#define MOVE_RECORDS_MAX 64

#define MOVE_RECORD_MAX 512u /* bytes of an entry job/ID */

/** An entry on its way to the disk; all zero: none. */
struct move_write {
    bool begun;
    uint64_t mark;
};
/** Is it durable?  *failed: the disk fails, so it will not be soon.  True without a registry. */
bool move_write_done(const struct move_write *w, bool *failed);

/* ---- destination ---- */

/** vm, INCOMING, may come by that job from peer.  HV_E_NOMEM: the registry is full.  HV_E_IO: its disk fails. */
HV_MUST_CHECK enum hv_err move_record_arriving(const struct vm *vm, const struct mig_id *id, const char *peer,
                                               struct move_write *w, struct why *why);
/** It is this host's from now on.  A failure is logged. */
void move_record_here(const struct vm *vm, const struct mig_id *id, const char *peer, struct move_write *w);
/** It does not come. */
void move_record_refused(const char *guest, const struct mig_id *id, const char *peer, const char *why);
/** Is the guest, by the registry, this host's because it came by a move? */
bool move_record_is_here(const char *guest);

/** Volumes are about to be made for the guest of that job: after a power cut they are nobody's, unless it is here.
 *  Errors as of move_record_arriving(). */
HV_MUST_CHECK enum hv_err move_record_making(const char *guest, const struct mig_id *id, const char *peer,
                                             struct move_write *w, struct why *why);
/** They are the guest's; it does not come, and they are to be deleted. */
void move_record_made(const struct mig_id *id);
void move_record_unmade(const char *guest, const struct mig_id *id, const char *peer);
/** What became of the job of such volumes, by its id as 32 hexadecimal digits. */
enum move_fate { MOVE_FATE_NONE /* not known */, MOVE_FATE_HERE, MOVE_FATE_ENDED };
enum move_fate move_record_fate(const char *id);
bool move_record_in_doubt(const char *id);
/** The id so. */
void move_record_id(const struct mig_id *id, char out[33]);

/* ---- source ---- */

/** The guest may be the peer's soon.  there: the peer records guests as well.  Errors as of move_record_arriving(). */
HV_MUST_CHECK enum hv_err move_record_doubt(const char *guest, const struct mig_id *id, const char *peer, bool there,
                                            struct move_write *w, struct why *why);
/** The job is decided: the guest is this host's as before; it is the peer's.  defined: it is still defined here. */
void move_record_stays(const struct mig_id *id);
void move_record_left(const char *guest, const struct mig_id *id, const char *peer, bool defined);
/** The peer that has the guest, as far as this host knows; NULL: it is not recorded as gone. */
const char *move_record_left_to(const char *guest);

/* ---- after a boot ---- */

/** Part of the service loop, and once before start_all().  What a newly taken registry has becomes guests
 *  (vm_recall()), verdicts and jobs in doubt; entries of guests that are gone are removed. */
void move_record_step(void);
/** For move_record_step(): incoming's verdicts; a job of the list that asks peer.  In migration_in.c, migration.c. */
void incoming_verdict(const struct mig_id *id, const char *peer, enum mig_verdict v, const char *why);
void migration_recall_doubt(const char *guest, const struct mig_id *id, const char *peer, bool there);

#endif
