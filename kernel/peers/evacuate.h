/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/evacuate.h - evacuation (moves every guest to the best peer), and shutdown of the host.  Service pCPU
 * only.
 *
 * Each guest becomes a job of migration_request() without a named peer: limits, queue, cancel and reports are as for
 * any move.  During an evacuation this host admits no guest and starts none by itself. */
#ifndef GODWIT_KERNEL_PEERS_EVACUATE_H
#define GODWIT_KERNEL_PEERS_EVACUATE_H

#include "kernel/vm/vm_manage.h"

enum evacuate_then { EVACUATE_KEEP_RUNNING, EVACUATE_POWEROFF, EVACUATE_REBOOT };
struct evacuate_item {
    char guest[CONFIG_NAME_LEN];
    unsigned job; /* number of its job; 0: none */
    bool over;
    enum hv_err err; /* over; HV_OK: it has moved */
    char text[160];  /* without a job: why it cannot move */
};
struct evacuation {
    bool active;
    enum evacuate_then then;
    uint64_t begun_us, ended_us; /* 0: not yet */
    unsigned n, n_over, n_failed;
    struct evacuate_item item[VM_MAX];
};

/** Move all guests away.  HV_E_BUSY: an evacuation is active; HV_E_REFUSED: [host] outgoing = no; HV_E_NOENT: no peers;
 *  each with why. */
HV_MUST_CHECK enum hv_err evacuate_start(struct why *why);
/** Shut the host down (how: EVACUATE_POWEROFF or _REBOOT) as each guest's on-shutdown says.  HV_OK: it goes down once
 *  the guests to be evacuated have moved, maybe in this call.  It stays up, with a report in evacuate_status(), when
 *  one of them could not move.  HV_E_BUSY: a guest refuses, or an evacuation is active; why names the guests.
 *  force: go down at once, all guests here are lost. */
HV_MUST_CHECK enum hv_err host_shutdown(enum evacuate_then how, bool force, struct why *why);
/** Cancel the moves that can still be cancelled; the others end by themselves.  HV_E_NOENT: no evacuation is active. */
HV_MUST_CHECK enum hv_err evacuate_cancel(void);
/** The active evacuation, or the last one. */
const struct evacuation *evacuate_status(void);
/** The reason of a failed item; never NULL. */
const char *evacuate_reason(const struct evacuate_item *item);
/** One turn.  True: the evacuation has ended. */
bool evacuate_step(void);

#endif
