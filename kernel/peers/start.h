/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/start.h - starts a guest of this host, unless a peer has it: all peers are asked first, see
 * kernel/peers/start_rule.h.  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_START_H
#define GODWIT_KERNEL_PEERS_START_H

#include "kernel/core/vm.h"
#include "migrate/guest.h"

/* after so long a command gives up; autostart logs what it waits for, or with `always` starts the guest */
#define START_ASK_LIMIT_US (10 * 1000000ul)

enum start_how {
    START_AUTO,        /* wait as long as it takes: autostart = yes */
    START_AUTO_ALWAYS, /* a peer that cannot be asked within START_ASK_LIMIT_US does not count: autostart = always */
    START_COMMAND,     /* give up after START_ASK_LIMIT_US */
    START_FORCE        /* ask no peer */
};
enum start_state { START_IDLE, START_ASKING, START_STARTED, START_FAILED };
struct start_status {
    enum start_state state; /* of the last request */
    /* START_FAILED: HV_E_EXIST: a peer has it; HV_E_TIMEOUT: not all peers could be asked; else that of vm_start() */
    enum hv_err err;
    /* START_FAILED: why, with the fix; START_ASKING: the obstacle, "" if none yet; START_STARTED: that it runs, or
     * waits for its disk */
    const char *text;
};

/** Start vm as soon as it is certain that no peer has it; see start_status().  Without peers, or by START_FORCE: at
 *  once.  What vm_start_check() finds is said before any peer is asked.  HV_OK: it runs; HV_E_AGAIN: the peers are
 *  being asked; else it is not started.  why: the text of start_status().  A start that fails is logged, then or
 *  later. */
HV_MUST_CHECK enum hv_err start_request(struct vm *vm, enum start_how how, struct why *why);
struct start_status start_status(const struct vm *vm);
/** Cancel a request that is still asking.  HV_E_NOENT: there is none. */
HV_MUST_CHECK enum hv_err start_cancel(const struct vm *vm);
/** Request the start of every guest with autostart, now or in later turns, as start-order and start-delay-s say. */
void start_all(void);
/** The same for one guest, of which it was not known whether it is this host's. */
void start_settled(struct vm *vm);
/** This host's answer to FIND by the peer `asker`, which wants to start a guest.  mac: of its card, 6 bytes; NULL: the
 *  peer does not tell.  *ticket: with MIG_F_WANTED. */
enum mig_find start_find(const char *name, const uint8_t *mac, const char *asker, struct mig_id *ticket,
                         struct why *why);
/** One turn.  True: a request was decided. */
bool start_step(void);

#endif
