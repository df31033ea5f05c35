/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/reach.h - which peers answer, for those who watch this host.  Service pCPU only.
 *
 * Peers are asked only while somebody wants to know, so an unwatched host sends nothing. */
#ifndef GODWIT_KERNEL_PEERS_REACH_H
#define GODWIT_KERNEL_PEERS_REACH_H

#include "kernel/lib/types.h"

#define REACH_EVERY_US 60000000u  /* between two questions */
#define REACH_WATCH_US 300000000u /* peers are asked for so long after the last reach_want() */
#define REACH_LIMIT_US 20000000u  /* a peer that has not answered by then is not reachable */

enum reach { REACH_UNKNOWN, REACH_NO, REACH_YES };

/** Somebody reads the answers: keep them fresh for REACH_WATCH_US. */
void reach_want(void);
/** Did the i-th [peer] answer when it was asked last?  UNKNOWN: it was not asked lately. */
enum reach reach_of(unsigned i);
/** One turn.  Asks nothing while a guest moves: handshakes would take time from it.  True: there was progress. */
bool reach_step(void);

#endif
