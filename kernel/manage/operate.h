/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/operate.h - the operator's actions, shared by the console and the management interface.  Service pCPU
 * only.
 *
 * by: who asks, for the log and for reports: "client NAME", or OPERATE_CONSOLE.
 * Each function writes its result to *why; on an error, cause and fix.  What is so already is no error.  HV_E_NOENT: no
 * guest, peer or move of this name.  HV_E_BUSY: its state does not allow the action.  Other errors: as the called
 * function's. */
#ifndef GODWIT_KERNEL_MANAGE_OPERATE_H
#define GODWIT_KERNEL_MANAGE_OPERATE_H

#include "kernel/peers/migration.h"

#define OPERATE_CONSOLE "the operator at the console"

/** Start vm if no peer has it.  force: do not ask the peers.
 *  HV_E_AGAIN: the peers are being asked; start_status() gives the outcome. */
HV_MUST_CHECK enum hv_err operate_start(const char *vm, bool force, const char *by, struct why *why);
/** Power vm off at once.  A start that waits for the peers is cancelled.  An arriving guest is rejected and continues
 *  at its source. */
HV_MUST_CHECK enum hv_err operate_stop(const char *vm, const char *by, struct why *why);
/** Press vm's ACPI power button: what follows is up to its operating system.  HV_OK too when it is stopped already.
 *  HV_E_AGAIN: its system does not listen to the button, or not yet. */
HV_MUST_CHECK enum hv_err operate_shutdown(const char *vm, const char *by, struct why *why);
/** Reset a running guest as its own reset would: RAM and registers are lost, it starts from its boot files again. */
HV_MUST_CHECK enum hv_err operate_reset(const char *vm, const char *by, struct why *why);
/** Pulse the NMI line of a running guest.  HV_E_AGAIN: none of its local APICs lets the NMI through. */
HV_MUST_CHECK enum hv_err operate_nmi(const char *vm, const char *by, struct why *why);
/** Ask a running or paused guest to keep only so much of its memory, from OPERATE_TARGET_MIN to all of it, in whole
 *  pages.  HV_E_UNSUPP: it has no balloon.  HV_E_RANGE. */
#define OPERATE_TARGET_MIN (16 * MIB)
HV_MUST_CHECK enum hv_err operate_memory_target(const char *vm, uint64_t bytes, const char *by, struct why *why);
/** Pause a running guest; resume a paused one.  Its clocks advance while it is paused. */
HV_MUST_CHECK enum hv_err operate_pause(const char *vm, const char *by, struct why *why);
HV_MUST_CHECK enum hv_err operate_resume(const char *vm, const char *by, struct why *why);

/** Forget the definition of a stopped guest, or what came with it by a move; its volumes stay, and are named.  What is
 *  changed is on the disk once the registry is durable (kernel/store/registry.h). */
HV_MUST_CHECK enum hv_err operate_undefine(const char *vm, const char *by, struct why *why);

/** Move vm to the peer named to, or to the best one ("auto").  *job: the move's job. */
HV_MUST_CHECK enum hv_err operate_migrate(const char *vm, const char *to, const struct move_options *o, const char *by,
                                          const struct job **job, struct why *why);
HV_MUST_CHECK enum hv_err operate_cancel(const char *vm, const char *by, struct why *why);
/** Change the limits of vm's move while it runs.  o: the job's options with other limits. */
HV_MUST_CHECK enum hv_err operate_limits(const char *vm, const struct move_options *o, const char *by, struct why *why);
/** Save vm in to, "STORE/VOLUME" or "VOLUME", "": where save_place() says; restore it
 *  from there.  HV_OK: *job goes on.  Errors as
 *  of save_request() and restore_request(); HV_E_INVAL: to. */
struct api_job;
struct save_how {
    bool live;
    unsigned limit_mb; /* save_limit() */
};
HV_MUST_CHECK enum hv_err operate_save(const char *vm, const char *to, const struct save_how *how, const char *by,
                                       struct api_job **job, struct why *why);
HV_MUST_CHECK enum hv_err operate_restore(const char *vm, const char *from, bool again, bool force, const char *by,
                                          struct api_job **job, struct why *why);
HV_MUST_CHECK enum hv_err operate_save_cancel(const char *vm, const char *by, struct why *why);
/** Make a checkpoint of vm, "": with a name that is free; revert to it (kernel/peers/checkpoint.h); delete it.  HV_OK:
 *  *job goes on. */
HV_MUST_CHECK enum hv_err operate_checkpoint(const char *vm, const char *cp, const char *by, struct api_job **job,
                                             struct why *why);
HV_MUST_CHECK enum hv_err operate_checkpoint_revert(const char *vm, const char *cp, bool sure, bool force,
                                                    const char *by, struct api_job **job, struct why *why);
HV_MUST_CHECK enum hv_err operate_checkpoint_delete(const char *vm, const char *cp, const char *by,
                                                    struct api_job **job, struct why *why);
/** Move the disk named disk of vm ("vda") to place: "STORE/VOLUME", or what it is in a definition.  fingerprint: of the
 *  certificate of an NBD server, 64 hex digits; "": it has none.  HV_OK: *job goes on.  HV_E_INVAL: place, fingerprint.
 *  Other errors as of disk_move_begin(), disk_move_cancel(). */
struct disk_move_options;
HV_MUST_CHECK enum hv_err operate_move_disk(const char *vm, const char *disk, const char *place,
                                            const char *fingerprint, const struct disk_move_options *o, const char *by,
                                            struct api_job **job, struct why *why);
HV_MUST_CHECK enum hv_err operate_move_disk_cancel(const char *vm, const char *disk, const char *by, struct why *why);
/** Decide where a guest in doubt lives: the one action that can make two hosts run it.
 *  HV_E_AGAIN: sure is false; why gives what is known about the destination. */
HV_MUST_CHECK enum hv_err operate_resolve(const char *vm, bool here, bool sure, const char *by, struct why *why);

#endif
