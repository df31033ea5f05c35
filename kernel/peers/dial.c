/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/dial.c - tries the addresses of a peer in the order of dial.h, one at a time.
 *
 * Each failure is appended to text.  The dial fails once the last address has. */
#include "kernel/peers/dial.h"

#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/peers/stream_io.h"

unsigned dial_order(const struct config *c, const struct peer_config *peer, const struct config_network *only,
                    uint8_t ip[CONFIG_MAX_ADDRESSES][4])
{
    unsigned n = 0;
    if (peer->removed)
        return 0;
    for (int rank = 0; rank <= (int)c->host.n_networks; rank++)
        for (unsigned i = 0; i <= peer->n_other_ips; i++) {
            const uint8_t *a = i ? peer->other_ip[i - 1] : peer->ip;
            if (config_network_rank(c, a) == rank && (!only || config_network_has(only, a)))
                memcpy(ip[n++], a, 4);
        }
    return n;
}

void dial_begin(struct dial *d, const struct config *c, const struct peer_config *peer,
                const struct config_network *only)
{
    *d = (struct dial){ .peer = peer };
    d->n = dial_order(c, peer, only, d->ip);
    ASSERT(d->n <= CONFIG_MAX_ADDRESSES);
}

static void dial_note(struct dial *d, enum hv_err e, const char *why)
{
    size_t at = strlen(d->text);
    d->err = e;
    snprintf(d->text + at, sizeof(d->text) - at, "%s%s", at ? "; " : "", why);
}

static enum dial_state dial_next(struct dial *d)
{
    ASSERT(!d->stream && d->next <= d->n);
    if (d->next == d->n) {
        if (!d->n)
            dial_note(d, HV_E_REFUSED, "none of its addresses is in a network for moves ([host] networks, --network)");
        return DIAL_FAILED;
    }
    struct peer_config p = *d->peer;
    memcpy(p.ip, d->ip[d->next++], sizeof(p.ip));
    enum hv_err e = stream_connect(&p, &d->stream);
    if (!e)
        return DIAL_WAIT;
    d->stream = NULL;
    dial_note(d, e,
              e == HV_E_UNSUPP ? "no connection can be opened: this host has no network yet, or no key"
                               : "no connection can be opened: not enough memory");
    return d->next == d->n ? DIAL_FAILED : DIAL_WAIT;
}

enum dial_state dial_step(struct dial *d)
{
    if (!d->stream)
        return dial_next(d);
    if (stream_status(d->stream) == STREAM_OPEN)
        return DIAL_OPEN;
    if (!stream_gone(d->stream))
        return DIAL_WAIT;
    dial_note(d, stream_gone_error(d->stream), stream_reason(d->stream));
    stream_close(d->stream);
    d->stream = NULL;
    return dial_next(d);
}

struct stream *dial_take(struct dial *d)
{
    struct stream *s = d->stream;
    ASSERT(s);
    d->stream = NULL;
    return s;
}

void dial_end(struct dial *d)
{
    if (d->stream)
        stream_close(d->stream);
    d->stream = NULL;
}

void dial_address(const struct dial *d, char *text, size_t len)
{
    const uint8_t *a = d->ip[d->next ? d->next - 1 : 0];
    snprintf(text, len, "%u.%u.%u.%u", a[0], a[1], a[2], a[3]);
}
