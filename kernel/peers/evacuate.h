/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/evacuate.h - evacuation (moves every guest to the best peer), and shutdown of the host.  Service pCPU
 * only.
 *
 * Each guest becomes a job of migration_request() without a named peer: limits, queue, cancel and reports are as for
 * any move.  What fails for a reason that passes is tried again.  Stopped guests move as well, but for those of
 * godwit.conf; one that cannot stays, and is no failure.  Until an evacuation ends or is cancelled, this host admits no
 * guest and starts none by itself. */
#ifndef GODWIT_KERNEL_PEERS_EVACUATE_H
#define GODWIT_KERNEL_PEERS_EVACUATE_H

#include "kernel/vm/vm_manage.h"

enum evacuate_then { EVACUATE_KEEP_RUNNING, EVACUATE_POWEROFF, EVACUATE_REBOOT };
struct evacuate_item {
    char guest[CONFIG_NAME_LEN];
    unsigned job; /* number of its last job; 0: none */
    unsigned n_tries;
    uint64_t retry_us; /* the next job begins then; 0: none is planned */
    bool over;
    enum hv_err err; /* over; HV_OK: it has moved, or is stopped */
    char text[160];  /* what became of it without a job, or why it cannot move; "": its job says that */
};
struct evacuation {
    bool active, cancelled; /* cancelled: ends with the moves that could not be cancelled */
    bool stop_crashed;
    enum evacuate_then then;
    uint64_t begun_us, ended_us; /* 0: not yet */
    unsigned n, n_over, n_failed;
    enum evacuate_then going; /* decided: the host goes down so at down_us, whatever happens */
    uint64_t down_us;
    char stays[300]; /* why a shutdown was abandoned; "": it was not */
    struct evacuate_item item[VM_MAX];
};

/** Move all guests away; stop_crashed: stop those that have crashed, else they fail to move.  HV_E_BUSY: an evacuation
 *  is active; HV_E_REFUSED: [host] outgoing = no; HV_E_NOENT: no peers; each with why. */
HV_MUST_CHECK enum hv_err evacuate_start(bool stop_crashed, struct why *why);
/** Shut the host down (how: EVACUATE_POWEROFF or _REBOOT) as each guest's on-shutdown says.  HV_OK: it goes down once
 *  the guests to be evacuated have moved, and EVACUATE_DOWN_US later, so that who asked sees the answer.  It stays up,
 *  with a report in evacuate_status(), when one of them could not move.  HV_E_BUSY: a guest refuses, or one is
 *  active already; why names the guests.  stop_crashed: crashed guests do not prevent it.  force: nothing does, all
 *  guests here are lost.  by: who asks, for the log. */
#define EVACUATE_DOWN_US 1000000u
HV_MUST_CHECK enum hv_err host_shutdown(enum evacuate_then how, bool force, bool stop_crashed, const char *by,
                                        struct why *why);
/** Cancel the moves that can still be cancelled; the others end by themselves.  HV_E_NOENT: no evacuation is active. */
HV_MUST_CHECK enum hv_err evacuate_cancel(void);
/** The active evacuation, or the last one. */
const struct evacuation *evacuate_status(void);
bool evacuate_keeps_out(void);
/** Why it failed, or what became of it instead of a move; "" only for one that moved. */
const char *evacuate_reason(const struct evacuate_item *item);
/** One turn.  True: the evacuation has ended. */
bool evacuate_step(void);

#endif
