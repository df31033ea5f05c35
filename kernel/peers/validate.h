/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/validate.h - would a move work?  The destination checks the same offer as for a move, and gives every
 * reason why not.
 *
 * Nothing moves, and the guest runs on.  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_VALIDATE_H
#define GODWIT_KERNEL_PEERS_VALIDATE_H

#include "kernel/config/config.h"
#include "kernel/lib/why.h"
#include "kernel/peers/estimate.h"

struct validation {
    bool known; /* false: the peer is still being asked */
    bool would_move;
    bool has_kind; /* kind is valid: this host at least would move it */
    struct move_kind kind;
    struct move_estimate estimate; /* valid if would_move */
    uint64_t free_bytes;           /* would_move: memory that the peer could give */
    char text[1100];               /* reasons why not, one a line */
};

/** The verdict on moving the guest named vm to the peer named to with options o.  The first call asks; call again until
 *  out->known.  A question that nobody calls for is dropped, and an answer is kept for some seconds.  HV_E_NOENT: no
 *  such guest or peer; HV_E_BUSY: too many questions are open, call again; each with why. */
HV_MUST_CHECK enum hv_err validate(const char *vm, const char *to, const struct move_options *o, struct validation *out,
                                   struct why *why);
/** One turn; never reports progress. */
bool validate_step(void);

#endif
