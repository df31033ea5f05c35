/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/estimate.h - what a move would cost, from what the last moves to the same peer have cost.  The figures
 * are kept until this host goes down.  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_ESTIMATE_H
#define GODWIT_KERNEL_PEERS_ESTIMATE_H

#include "kernel/peers/kind.h"

struct move_estimate {
    unsigned moves;    /* that it is based on; 0: then bytes is what there is to send at most, and the rest is 0 */
    uint64_t bytes;    /* on the wire */
    uint64_t us;       /* from the open connection to the end */
    uint64_t blackout; /* µs; cold: 0 */
};

/** A move to host_config->peers[peer] has succeeded.  content: bytes of the guest's memory that were in use, and of its
 *  boot files; wire: bytes sent; us: from the open connection to the end; blackout: µs. */
void estimate_learn(unsigned peer, enum move_how how, uint64_t content, uint64_t wire, uint64_t us, uint64_t blackout);
/** A move to that peer of so many bytes of content. */
struct move_estimate estimate_of(unsigned peer, enum move_how how, uint64_t content);

#endif
