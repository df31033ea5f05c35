/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/choose.h - which peer should take a guest: of those that would, the one with the most memory to
 * give.  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_CHOOSE_H
#define GODWIT_KERNEL_PEERS_CHOOSE_H

#include "kernel/lib/why.h"
#include "kernel/peers/ask.h"

enum choose_state { CHOOSE_WAIT, CHOOSE_DONE, CHOOSE_NONE };
struct choice {
    struct ask *ask; /* owned between begin and end */
    uint64_t since_us;
    uint32_t tried;     /* bit i: the i-th [peer] was tried and did not take it after all */
    char reasons[1024]; /* CHOOSE_NONE: why none, peer by peer; of those tried before: what they said */
};

/** Ask all peers.  HV_E_NOENT: there are none; HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err choose_begin(struct choice *c, const struct vm *vm);
/** Look at the answers.  CHOOSE_DONE: *peer, and why it is the best; CHOOSE_NONE: c->reasons.  Both end it. */
enum choose_state choose_step(struct choice *c, const struct peer_config **peer, struct why *why);
void choose_end(struct choice *c);
/** That peer did not take it: leave it out from now on. */
void choose_tried(struct choice *c, const struct peer_config *peer, const char *reason);

/** The best of n answers, without those in tried: *best; false: none would take it.  Portable, pure. */
bool choose_best(const struct ask_reply *reply, unsigned n, uint32_t tried, unsigned *best, unsigned *n_could);

/** Did a move fail for reasons of the peer or of the way there, so that another peer may do?  connecting: there was no
 *  connection yet.  Portable, pure. */
bool choose_peers_fault(bool connecting, enum hv_err err);

#endif
