/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/choose_best.c - the choice of a destination, as pure functions: answers in, decision out. */
#include "kernel/peers/choose.h"

bool choose_best(const struct ask_reply *reply, unsigned n, uint64_t tried, unsigned *best, unsigned *n_could)
{
    *n_could = 0;
    for (unsigned i = 0; i < n; i++) {
        if (reply[i].state != ASK_ANSWERED || reply[i].n_reasons || (tried & BIT64(i)))
            continue;
        if (!*n_could || reply[i].free_bytes > reply[*best].free_bytes)
            *best = i;
        ++*n_could;
    }
    return *n_could > 0;
}

/* HV_E_TIMEOUT: the link went silent, or the peer hangs.  A vCPU that does not stop is a timeout as well, but then
 * another peer costs nothing. */
bool choose_peers_fault(bool connecting, enum hv_err err)
{
    return err && (connecting || err == HV_E_REFUSED || err == HV_E_CLOSED || err == HV_E_TIMEOUT ||
                   err == HV_E_NOMEM || err == HV_E_VERSION);
}
