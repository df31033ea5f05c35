/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/start.h - starting a guest of this host, unless a peer has it: asks all peers first
 * (kernel/peers/start_rule.h).  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_START_H
#define GODWIT_KERNEL_PEERS_START_H

#include "kernel/core/vm.h"
#include "migrate/guest.h"

/* a command gives up after so long; autostart says what it waits for, or with `always` starts */
#define START_ASK_LIMIT_US (10 * 1000000ul)

enum start_how {
    START_AUTO,        /* wait as long as it takes: autostart = yes */
    START_AUTO_ALWAYS, /* a peer that cannot be asked within START_ASK_LIMIT_US does not count: autostart = always */
    START_COMMAND,     /* give up after START_ASK_LIMIT_US */
    START_FORCE        /* ask nobody */
};
enum start_state { START_IDLE, START_ASKING, START_STARTED, START_FAILED };
struct start_status {
    enum start_state state; /* of the last start that was asked for */
    /* START_FAILED: HV_E_EXIST: a peer has it; HV_E_TIMEOUT: no peer has it, but not all could be asked; else
     * what vm_start() returned */
    enum hv_err err;
    const char *text; /* START_FAILED: why, with the fix; START_ASKING: what it waits for now, "" if nothing special */
};

/** Start vm as soon as it is sure that no peer has it; see start_status().  Without peers, or by START_FORCE, at once.
 *  HV_OK: it runs; HV_E_AGAIN: the peers are being asked; anything else: it will not start, why says why. */
HV_MUST_CHECK enum hv_err start_request(struct vm *vm, enum start_how how, struct why *why);
struct start_status start_status(const struct vm *vm);
/** Give a request up that is still asking.  HV_E_NOENT: there is none. */
HV_MUST_CHECK enum hv_err start_cancel(const struct vm *vm);
/** Start what has autostart. */
void start_all(void);
/** What this host answers when `asker`, a peer, wants to start a guest of that name.  *ticket: with MIG_F_WANTED. */
enum mig_find start_find(const char *name, const char *asker, struct mig_id *ticket, struct why *why);
/** One turn.  True: something was decided. */
bool start_step(void);

#endif
