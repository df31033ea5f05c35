/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/mig.c - shared by both machines: state names, reasons, defaults, and the record of finished jobs. */
#include "migrate/mig.h"
#include <stdarg.h>
#include <stdio.h>

const char *mig_tx_state_name(enum mig_tx_state s)
{
    switch (s) {
    case MIG_TX_HELLO:    return "HELLO";
    case MIG_TX_VALIDATE: return "VALIDATE";
    case MIG_TX_DISKS:    return "DISKS";
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
    case MIG_RX_COMMITTED:  return "COMMITTED";
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

    ASSERT(r->len < r->cap);
    r->n++;
    if (r->len + 2 >= r->cap)
        return;
    if (r->len)
        r->text[r->len++] = '\n';
    va_start(ap, fmt);
    int n = vsnprintf(r->text + r->len, r->cap - r->len, fmt, ap);
    va_end(ap);
    if (n <= 0)
        n = snprintf(r->text + r->len, r->cap - r->len, "no reason was given");
    if (r->len + (size_t)n >= r->cap) /* cut: after a whole word */
        for (n = (int)(r->cap - 1 - r->len); n > 0 && r->text[r->len + (size_t)n - 1] != ' ';)
            n--;
    r->len += (size_t)n;
    r->text[r->len] = '\0';
}

bool mig_id_eq(const struct mig_id *a, const struct mig_id *b) { return memcmp(a->b, b->b, sizeof(a->b)) == 0; }

static struct mig_ids_entry *ids_find(struct mig_ids_entry *e, unsigned n, const struct mig_id *id)
{
    for (unsigned i = 0; i < n; i++)
        if (e[i].verdict && mig_id_eq(&e[i].id, id))
            return &e[i];
    return NULL;
}

static unsigned ids_count_source(const struct mig_ids_entry *e, unsigned n, unsigned source)
{
    unsigned found = 0;
    for (unsigned i = 0; i < n; i++)
        found += e[i].verdict && e[i].source == source;
    return found;
}

/* A free place; else the oldest entry of the source that has the most. */
static struct mig_ids_entry *ids_place(struct mig_ids_entry *e, unsigned n)
{
    struct mig_ids_entry *best = &e[0];
    unsigned most = 0;
    for (unsigned i = 0; i < n; i++) {
        if (!e[i].verdict)
            return &e[i];
        unsigned found = ids_count_source(e, n, e[i].source);
        if (found > most || (found == most && e[i].order < best->order))
            best = &e[i];
        most = MAX(most, found);
    }
    return best;
}

void mig_ids_put(struct mig_ids *ids, const struct mig_id *id, unsigned source, bool prepared, enum mig_verdict v,
                 const char *why)
{
    ASSERT(v == MIG_V_REFUSED || (v == MIG_V_RUNNING && prepared));
    struct mig_ids_entry *old = ids_find(ids->e, MIG_IDS_MAX, id),
                         *e = old ? old : ids_find(ids->early, MIG_IDS_EARLY_MAX, id);
    if (prepared && !old) {
        if (e)
            e->verdict = MIG_V_UNKNOWN; /* the id moves to the other list */
        e = ids_place(ids->e, MIG_IDS_MAX);
    } else if (!e) {
        e = ids_place(ids->early, MIG_IDS_EARLY_MAX);
    }
    *e = (struct mig_ids_entry){ .id = *id, .verdict = (uint8_t)v, .source = source, .order = ++ids->last_order };
    snprintf(e->why, sizeof(e->why), "%s", why ? why : "");
}

enum mig_verdict mig_ids_get(const struct mig_ids *ids, const struct mig_id *id, const char **why)
{
    struct mig_ids *all = (struct mig_ids *)(uintptr_t)ids; /* ids_find() changes nothing */
    const struct mig_ids_entry *e = ids_find(all->e, MIG_IDS_MAX, id);
    if (!e)
        e = ids_find(all->early, MIG_IDS_EARLY_MAX, id);
    if (why)
        *why = e ? e->why : "";
    return e ? (enum mig_verdict)e->verdict : MIG_V_UNKNOWN;
}
