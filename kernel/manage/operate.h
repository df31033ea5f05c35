/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/operate.h - what an operator can have this host do, for the console and the management interface
 * alike.  Service pCPU only.
 *
 * Each call says in *why what it did, or on an error the cause and the fix.  HV_E_NOENT where something is not known
 * by this name, HV_E_BUSY where its state does not allow it; other errors as the functions behind it give them. */
#ifndef GODWIT_KERNEL_MANAGE_OPERATE_H
#define GODWIT_KERNEL_MANAGE_OPERATE_H

#include "kernel/peers/migration.h"

/** Start, if no peer has it (force: without asking them).  HV_E_AGAIN: they are being asked;
 *  start_status() tells the rest. */
HV_MUST_CHECK enum hv_err operate_start(const char *vm, bool force, struct why *why);
/** Power off at once; a start that waits for the peers is given up; a guest that is arriving is turned away and
 *  runs on at its source. */
HV_MUST_CHECK enum hv_err operate_stop(const char *vm, struct why *why);
/** Let a running guest stand still, and go on.  Its clocks go on meanwhile. */
HV_MUST_CHECK enum hv_err operate_pause(const char *vm, struct why *why);
HV_MUST_CHECK enum hv_err operate_resume(const char *vm, struct why *why);

/** Move vm to the peer named to, or to the best one ("auto"), with these options; *job is the one to watch. */
HV_MUST_CHECK enum hv_err operate_migrate(const char *vm, const char *to, const struct move_options *o,
                                          const struct job **job, struct why *why);
HV_MUST_CHECK enum hv_err operate_cancel(const char *vm, struct why *why);
/** The one act that can make two runners of one guest.  Not sure: HV_E_AGAIN, and why is what is known and
 *  must be weighed. */
HV_MUST_CHECK enum hv_err operate_resolve(const char *vm, bool here, bool sure, struct why *why);

#endif
