/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/estimate.h - what a move would cost, from what the last moves to the same peer have cost.  The figures
 * are kept until this host goes down.  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_ESTIMATE_H
#define GODWIT_KERNEL_PEERS_ESTIMATE_H

#include "kernel/peers/kind.h"

struct move_estimate {
    unsigned moves;    /* that it is based on; 0: then bytes is what there is to send at most, and the rest is 0 */
    uint64_t bytes;    /* on the wire, disks as well */
    uint64_t disks;    /* bytes of volumes that there are to copy */
    uint64_t us;       /* from the open connection to the end */
    uint64_t blackout; /* µs; cold: 0 */
};

/* Bytes that there are to send, or that were sent. */
struct move_bytes {
    uint64_t memory; /* of the guest that is in use, and its boot files */
    uint64_t disks;  /* of volumes that move along; of a clone what it has changed, if its base stays */
};
/** A move of that content to host_config->peers[peer] has succeeded.  wire: sent; us: from the open connection to the
 *  end; blackout: µs. */
void estimate_learn(unsigned peer, enum move_how how, const struct move_bytes *content, const struct move_bytes *wire,
                    uint64_t us, uint64_t blackout);
/** A move to that peer of that content. */
struct move_estimate estimate_of(unsigned peer, enum move_how how, const struct move_bytes *content);

#endif
