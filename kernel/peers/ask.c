/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/ask.c - questions to peers.
 *
 * Each peer has one link, which all questions share: a stream and an asking machine (migrate/ask.c).  A link carries
 * one question at a time.  It is opened when a reply is awaited, and closed LINK_IDLE_US after the last use.  A failed
 * link fails all replies that await it; the owner of a question decides whether to ask again.  A peer that says "busy,
 * later" is asked again without that. */
#include "kernel/peers/ask.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/lib/name_list.h"
#include "kernel/peers/dial.h"
#include "kernel/peers/stream_io.h"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/vm_state.h"
#include "migrate/ask.h"

#define LINK_IDLE_US 1000000 /* a stream without questions is closed after so long */
#define LINK_BUSY_US 500000  /* to the next attempt, when the peer has no place for questions */

_Static_assert(ASK_TEXT_LEN <= MIG_TEXT_MAX, "an answer is cut, never padded");

struct link {
    bool dialling;
    struct dial dial;
    struct stream *stream; /* owned, or NULL; open */
    struct mig_ask *m;     /* owned, or NULL */
    struct ask *current;   /* the question that the peer is to answer; NULL: none */
    unsigned round;        /* that of its reply, when it was put */
    uint64_t put_us, used_us;
    uint64_t retry_us; /* busy peer: not opened before this; 0: any time */
};

/* Links that are open or being opened: half of net/'s outgoing streams, the other half is for moves. */
#define LINKS_MAX 24u

static struct link links[CONFIG_MAX_PEERS];
static struct ask *asks;

static const struct mig_mem engine_mem = { mem_alloc, mem_free };

struct ask *ask_begin(enum ask_kind kind, const struct vm *vm, const struct mig_id *ticket)
{
    struct ask *a = mem_alloc(sizeof(*a));
    if (!a)
        return NULL;
    a->kind = kind;
    a->vm = vm;
    if (ticket)
        a->ticket = *ticket;
    a->n = host_config->n_peers;
    a->next = asks;
    asks = a;
    return a;
}

static void link_close(struct link *l)
{
    dial_end(&l->dial);
    if (l->stream)
        stream_close(l->stream);
    mig_ask_destroy(l->m);
    *l = (struct link){ .stream = NULL };
}

void ask_end(struct ask *a)
{
    if (!a)
        return;
    for (unsigned i = 0; i < host_config->n_peers; i++)
        if (links[i].current == a)
            link_close(&links[i]); /* else its answer would be taken for another question's */
    for (struct ask **p = &asks; *p; p = &(*p)->next)
        if (*p == a) {
            *p = a->next;
            mem_free(a, sizeof(*a));
            return;
        }
    panic("ask_end(%p): it was not begun, or has ended", (void *)a);
}

bool ask_done(const struct ask *a)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->reply[i].state == ASK_WAITING)
            return false;
    return true;
}

static void reply_failed(struct ask_reply *r, enum hv_err e, const char *text)
{
    r->state = ASK_FAILED;
    r->err = e;
    r->find = MIG_F_NONE;
    r->at_us = clock_us();
    words_copy(r->text, sizeof(r->text), text[0] ? text : hv_err_text(e));
}

/* The link to peer i has failed, and with it all replies that await it. */
static void link_failed(unsigned i, enum hv_err e, const char *text)
{
    char why[400];
    snprintf(why, sizeof(why), "%s", text); /* text may be the stream's */
    link_close(&links[i]);
    for (struct ask *a = asks; a; a = a->next)
        if (a->reply[i].state == ASK_WAITING)
            reply_failed(&a->reply[i], e, why);
}

/* Peer i has no place for questions now.  The replies go on waiting; their owners know how long. */
static void link_busy(unsigned i)
{
    link_close(&links[i]);
    links[i].retry_us = clock_us() + LINK_BUSY_US;
}

/* Ask peer i whether it would take the guest, in words that it understands.  A guest that has what the peer does not
 * know is answered here. */
static enum hv_err probe_put(struct link *l, struct ask *a, struct ask_reply *r)
{
    static uint8_t offer[MIG_OFFER_MAX]; /* service pCPU only */
    static struct vm_knows knows;
    size_t len;
    const void *peers = mig_ask_knows(l->m, &len);
    enum hv_err e = vm_knows_parse(&knows, peers, len);
    if (e)
        return e;
    r->text[0] = 0;
    knows.with_base = a->with_base;
    if (vm_knows_check(&knows, a->vm, a->places, WHY(r->text)) != HV_OK) {
        r->state = ASK_ANSWERED;
        r->n_reasons = 1;
        r->at_us = clock_us();
        return HV_OK;
    }
    e = vm_offer_write(a->vm, &knows, a->places, offer, sizeof(offer), &len);
    return e ? e : mig_ask_probe(l->m, a->vm->config.name, MAX(a->vm->mem.n_gfns, 1u), offer, len, clock_us());
}

/* Where is the guest?  The peer is told the addresses of its cards, too; an older one looks at the last, which is the
 * first card's. */
static enum hv_err find_put(struct link *l, const struct ask *a)
{
    if (a->kind == ASK_HELLO)
        return mig_ask_find(l->m, host_config->host.name, &a->ticket, clock_us());
    enum hv_err e = HV_OK;
    for (unsigned i = a->vm->config.n_nics; !e && i--;)
        e = mig_ask_mac(l->m, a->vm->config.nic[i].mac);
    return e ? e : mig_ask_find(l->m, a->vm->config.name, &a->ticket, clock_us());
}

/* Put the next question to peer i; a reply that needs no question fails at once.  True: there is more to do first. */
static bool question_put(unsigned i)
{
    struct link *l = &links[i];
    struct ask *a = asks;
    size_t len;
    ASSERT(l->m && !l->current);
    while (a && a->reply[i].state != ASK_WAITING)
        a = a->next;
    if (!a || (a->kind == ASK_PROBE && !mig_ask_knows(l->m, &len)))
        return false;
    if (a->kind == ASK_PROBE && !boot_set_hash_step(&a->vm->boot))
        return true; /* an offer names boot files by their hashes */
    enum hv_err e = a->kind == ASK_PROBE ? probe_put(l, a, &a->reply[i]) : find_put(l, a);
    if (e)
        reply_failed(&a->reply[i], e, "");
    else if (a->reply[i].state == ASK_WAITING) {
        l->current = a;
        l->round = a->reply[i].round;
        l->put_us = clock_us();
    }
    return false;
}

static void answer_take(unsigned i, const struct mig_answer *answer)
{
    ASSERT(links[i].current);
    struct ask_reply *r = &links[i].current->reply[i];
    links[i].current = NULL;
    links[i].used_us = clock_us();
    if (r->round != links[i].round)
        return;
    r->state = ASK_ANSWERED;
    r->find = answer->find;
    r->ticket = answer->ticket;
    r->free_bytes = answer->free_bytes;
    r->n_reasons = answer->n_reasons;
    r->at_us = links[i].put_us;
    words_copy(r->text, sizeof(r->text), answer->text);
}

static bool link_open_step(unsigned i)
{
    static struct mig_answer answer; /* large; service pCPU only */
    struct link *l = &links[i];
    ASSERT(l->stream && !l->dialling);
    if (!l->m && mig_ask_create(&engine_mem, clock_us(), &l->m) != HV_OK) {
        link_failed(i, HV_E_NOMEM, "no memory on this host for a question");
        return false;
    }
    bool moved = stream_pump_in(mig_ask_io(l->m), l->stream);
    if (!l->current)
        moved |= question_put(i);
    enum hv_err e = mig_ask_step(l->m, clock_us(), &answer);
    if (e == HV_OK && l->current)
        answer_take(i, &answer);
    else if (e == HV_E_BUSY) {
        link_busy(i);
        return true;
    } else if (e != HV_E_AGAIN) {
        link_failed(i, e, answer.text);
        return true;
    }
    moved |= stream_pump_out(mig_ask_io(l->m), l->stream, false);
    if (!moved && stream_gone(l->stream)) {
        link_failed(i, stream_gone_error(l->stream), stream_reason(l->stream));
        return true;
    }
    return moved || e == HV_OK;
}

static bool link_wanted(unsigned i)
{
    for (const struct ask *a = asks; a; a = a->next)
        if (a->reply[i].state == ASK_WAITING)
            return true;
    return false;
}

/* The peer was removed while the host runs: it has no guest and takes none. */
static void link_of_removed(unsigned i)
{
    link_close(&links[i]);
    for (struct ask *a = asks; a; a = a->next) {
        struct ask_reply *r = &a->reply[i];
        if (r->state != ASK_WAITING)
            continue;
        *r = (struct ask_reply){
            .state = ASK_ANSWERED, .find = MIG_F_NONE, .n_reasons = 1, .at_us = clock_us(), .round = r->round
        };
        words_copy(r->text, sizeof(r->text), "it was removed from this host's peers");
    }
}

static bool link_is_open(const struct link *l) { return l->stream || l->dialling; }

/* May one more link be opened?  One that nobody needs now is closed for it. */
static bool link_room(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < host_config->n_peers; i++)
        n += link_is_open(&links[i]);
    for (unsigned i = 0; n >= LINKS_MAX && i < host_config->n_peers; i++)
        if (link_is_open(&links[i]) && !link_wanted(i)) {
            link_close(&links[i]);
            n--;
        }
    return n < LINKS_MAX;
}

static bool link_step(unsigned i)
{
    struct link *l = &links[i];
    if (host_config->peers[i].removed) {
        link_of_removed(i);
        return false;
    }
    if (!link_wanted(i)) {
        if (link_is_open(l) && clock_us() - l->used_us > LINK_IDLE_US)
            link_close(l);
        return false;
    }
    if (l->stream)
        return link_open_step(i);
    if (!l->dialling) {
        if (clock_us() < l->retry_us || !link_room())
            return false;
        dial_begin(&l->dial, host_config, &host_config->peers[i], NULL);
        l->dialling = true;
        l->used_us = clock_us();
    }
    switch (dial_step(&l->dial)) {
    case DIAL_WAIT:   return false;
    case DIAL_FAILED: link_failed(i, l->dial.err, l->dial.text); return false;
    case DIAL_OPEN:
        l->stream = dial_take(&l->dial);
        l->dialling = false;
        break;
    }
    return true;
}

bool ask_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < host_config->n_peers; i++)
        moved |= link_step(i);
    return moved;
}
