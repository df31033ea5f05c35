/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/choose.h - chooses the destination of a guest: of the peers that would take it, the one with the most
 * free memory.  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_CHOOSE_H
#define GODWIT_KERNEL_PEERS_CHOOSE_H

#include "kernel/lib/why.h"
#include "kernel/peers/ask.h"
#include "kernel/peers/move_options.h"

enum choose_state { CHOOSE_WAIT, CHOOSE_DONE, CHOOSE_LATER, CHOOSE_NONE };
struct choice {
    struct ask *ask; /* owned between begin and end */
    uint64_t since_us;
    uint64_t tried;     /* bit i: the i-th [peer] was tried and did not take the guest after all */
    char reasons[1024]; /* CHOOSE_NONE: why, peer by peer */
};

/** Ask all peers, for a move with options o.  HV_E_NOENT: there are none; HV_E_NOMEM; both with c->reasons. */
HV_MUST_CHECK enum hv_err choose_begin(struct choice *c, const struct vm *vm, const struct move_options *o);
/** Look at the answers.  busy: bit i: the i-th [peer] has no place for a move now.  CHOOSE_DONE: *peer, and why it is
 *  the best; CHOOSE_LATER: only busy peers would take the guest, *peer is the best of them; CHOOSE_NONE: c->reasons.
 *  All three end the choice. */
enum choose_state choose_step(struct choice *c, uint64_t busy, const struct peer_config **peer, struct why *why);
/** Give up; allowed at any time. */
void choose_end(struct choice *c);
/** Exclude a peer that did not take the guest after all; reason: for c->reasons. */
void choose_tried(struct choice *c, const struct peer_config *peer, const char *reason);

/** *best: index of the best of n answers, without those in tried; *n_could: how many would take the guest.  False:
 *  none.  Portable, pure. */
bool choose_best(const struct ask_reply *reply, unsigned n, uint64_t tried, unsigned *best, unsigned *n_could);

/** Did a move fail because of the peer or the network, so that another peer may succeed?  connecting: there was no
 *  connection yet.  Portable, pure. */
bool choose_peers_fault(bool connecting, enum hv_err err);

#endif
