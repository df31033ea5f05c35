/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/evacuate.h - moves every guest away to the best peers, and what becomes of guests when the host is to go
 * down.  Service pCPU only.
 *
 * Each guest becomes a job of its own (migration_request() with a peer of our choice), so limits, queue, cancel and
 * reports are as for any move.  While it goes on this host takes no guest in and starts none by itself. */
#ifndef GODWIT_KERNEL_PEERS_EVACUATE_H
#define GODWIT_KERNEL_PEERS_EVACUATE_H

#include "kernel/vm/vm_manage.h"

enum evacuate_then { EVACUATE_KEEP_RUNNING, EVACUATE_POWEROFF, EVACUATE_REBOOT };
struct evacuate_item {
    char guest[CONFIG_NAME_LEN];
    unsigned job; /* its number; 0: there is none */
    bool over;
    enum hv_err err; /* over: HV_OK = it is gone from here */
    char text[160];  /* job 0: why it cannot go; else see the job */
};
struct evacuation {
    bool active;
    enum evacuate_then then;
    uint64_t begun_us, ended_us; /* 0: there was none yet */
    unsigned n, n_over, n_failed;
    struct evacuate_item item[VM_MAX];
};

/** Move all guests away.  HV_E_BUSY: going on already; HV_E_REFUSED: [host] outgoing = no; HV_E_NOENT: no
 *  peers; each with why. */
HV_MUST_CHECK enum hv_err evacuate_start(struct why *why);
/** Bring the host down as each guest's on-shutdown says: HV_OK: it will go down when the guests that evacuate are gone,
 *  which may be in this call.  HV_E_BUSY: a guest that is to stay stands in the way, or an evacuation goes on; why
 *  names the guests.  Stays up, with a report in evacuate_status(), when one that should have moved could not.  force:
 *  everything here is lost. */
HV_MUST_CHECK enum hv_err host_shutdown(enum evacuate_then how, bool force, struct why *why);
/** Stop it: moves that wait or can still be cancelled are, the others end.  HV_E_NOENT: none goes on. */
HV_MUST_CHECK enum hv_err evacuate_cancel(void);
/** The present one, or the last. */
const struct evacuation *evacuate_status(void);
/** The reason of a failed item; never NULL. */
const char *evacuate_reason(const struct evacuate_item *item);
bool evacuate_step(void);

#endif
