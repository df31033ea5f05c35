/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/storage_turn.h - the one queue of all that copies disks: moves of guests whose volumes move along, and
 * moves of disks within this host.  At most [host] max-storage-jobs of them copy at a time.  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_STORAGE_TURN_H
#define GODWIT_KERNEL_PEERS_STORAGE_TURN_H

#include <stdbool.h>

/* Part of a job, which may not move in memory between storage_turn_wait() and storage_turn_end().  All zero: not in the
 * queue. */
struct storage_turn {
    struct storage_turn *next; /* in the order of the queue, those that copy as well */
    bool queued, copies;
    bool ready; /* nothing else holds it up, as of its last storage_turn_may() */
};

/** Join the queue at its end; one that copies goes back to its place there. */
void storage_turn_wait(struct storage_turn *t);
/** May t copy now?  One that is not ready, as it waits for something else as well, may not, and holds up no other. */
bool storage_turn_may(struct storage_turn *t, bool ready);
/** From now on it copies: after storage_turn_may() has said so. */
void storage_turn_take(struct storage_turn *t);
/** It copies no more, or does not want to.  Nothing, if it is not in the queue. */
void storage_turn_end(struct storage_turn *t);
/** Its place among those that wait, from 1 on; 0: it does not wait. */
unsigned storage_turn_place(const struct storage_turn *t);

#endif
