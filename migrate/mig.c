/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/mig.c - what both machines share: state names, reasons, defaults, and the memory of finished jobs. */
#include <stdarg.h>
#include <stdio.h>
#include "migrate/mig.h"

const char *mig_tx_state_name(enum mig_tx_state s)
{
    switch (s) {
    case MIG_TX_HELLO:    return "HELLO";
    case MIG_TX_VALIDATE: return "VALIDATE";
    case MIG_TX_PRECOPY:  return "PRECOPY";
    case MIG_TX_STOPPING: return "STOPPING";
    case MIG_TX_STOPPED:  return "STOPPED";
    case MIG_TX_IN_DOUBT: return "IN_DOUBT";
    case MIG_TX_RELEASED: return "RELEASED";
    case MIG_TX_FAILED:   return "FAILED";
    }
    return "?";
}

const char *mig_rx_state_name(enum mig_rx_state s)
{
    switch (s) {
    case MIG_RX_HELLO:      return "HELLO";
    case MIG_RX_WAIT_OFFER: return "WAIT_OFFER";
    case MIG_RX_LOADING:    return "LOADING";
    case MIG_RX_LOADED:     return "LOADED";
    case MIG_RX_PREPARED:   return "PREPARED";
    case MIG_RX_RUNNING:    return "RUNNING";
    case MIG_RX_DROPPED:    return "DROPPED";
    case MIG_RX_ANSWERED:   return "ANSWERED";
    }
    return "?";
}

void mig_opts_default(struct mig_opts *o)
{
    *o = (struct mig_opts){ .lz4 = true, .lz4_acceleration = 1, .step_pages = 16 };
    mig_policy_default(&o->policy);
}

void mig_reason_add(struct mig_reasons *r, const char *fmt, ...)
{
    va_list ap;

    r->n++;
    if (r->len + 2 >= r->cap) return;
    if (r->len) r->text[r->len++] = '\n';
    va_start(ap, fmt);
    int n = vsnprintf(r->text + r->len, r->cap - r->len, fmt, ap);
    va_end(ap);
    if (n > 0) r->len = MIN(r->len + (size_t)n, r->cap - 1);
}

bool mig_id_eq(const struct mig_id *a, const struct mig_id *b) { return memcmp(a->b, b->b, sizeof a->b) == 0; }

void mig_ids_put(struct mig_ids *ids, const struct mig_id *id, enum mig_verdict v, const char *why)
{
    unsigned i = 0;
    while (i < MIG_IDS_MAX && !(ids->e[i].verdict && mig_id_eq(&ids->e[i].id, id))) i++;
    if (i == MIG_IDS_MAX) {
        i = ids->next;
        ids->next = (ids->next + 1) % MIG_IDS_MAX;
    }
    ids->e[i].id = *id;
    ids->e[i].verdict = (uint8_t)v;
    snprintf(ids->e[i].why, sizeof ids->e[i].why, "%s", why ? why : "");
}

enum mig_verdict mig_ids_get(const struct mig_ids *ids, const struct mig_id *id, const char **why)
{
    for (unsigned i = 0; i < MIG_IDS_MAX; i++) {
        if (!ids->e[i].verdict || !mig_id_eq(&ids->e[i].id, id)) continue;
        if (why) *why = ids->e[i].why;
        return (enum mig_verdict)ids->e[i].verdict;
    }
    if (why) *why = "";
    return MIG_V_UNKNOWN;
}
