/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/choose_best.c - the choice of a destination, as a pure function. */
#include "kernel/peers/choose.h"

bool choose_best(const struct ask_reply *reply, unsigned n, uint32_t tried, unsigned *best, unsigned *n_could)
{
    *n_could = 0;
    for (unsigned i = 0; i < n; i++) {
        if (reply[i].state != ASK_ANSWERED || reply[i].n_reasons || (tried & BIT32(i)))
            continue;
        if (!*n_could || reply[i].free_bytes > reply[*best].free_bytes)
            *best = i;
        ++*n_could;
    }
    return *n_could > 0;
}

/* HV_E_TIMEOUT is a link that went silent, or a peer that hangs.  (A vCPU that does not stop is one as well; another
 * peer costs nothing then.) */
bool choose_peers_fault(bool connecting, enum hv_err err)
{
    return err && (connecting || err == HV_E_REFUSED || err == HV_E_CLOSED || err == HV_E_TIMEOUT || err == HV_E_NOMEM);
}
