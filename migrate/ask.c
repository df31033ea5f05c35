/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/ask.c - the asking machine: FIND and PROBE, and their answers.
 *
 * At most one question is open (want).  A stream that broke the protocol or timed out is dead, and stays so: the owner
 * makes another machine.  All that the peer sends is checked by wire.c before it is used here. */
#include "migrate/ask.h"

#include <stdio.h>
#include "migrate/wire.h"

#define ASK_IN_CAP  (16 * 1024) /* the longest answer is MIG_TEXT_MAX and its header */
#define ASK_OUT_CAP (MIG_OFFER_MAX + 4096)

_Static_assert(MIG_REC_HDR_LEN + 24 + MIG_TEXT_MAX <= ASK_IN_CAP / 2, "every answer fits");
_Static_assert(MIG_PREAMBLE_LEN + MIG_REC_HDR_LEN + 56 + MIG_NAME_MAX + MIG_OFFER_MAX <= ASK_OUT_CAP,
               "and every question");

struct mig_ask {
    struct mig_mem mem;
    struct mig_io io; /* buffers owned */
    bool got_preamble, dead;
    bool later; /* the FAIL that follows holds for now only */
    bool ready; /* the preamble is here, and KNOWS if that version has it */
    size_t knows_len;
    uint8_t knows[MIG_KNOWS_MAX];
    enum mig_rec_type want; /* type of the awaited answer; 0: none */
    uint64_t asked_us;
};

enum hv_err mig_ask_create(const struct mig_mem *mem, uint64_t now_us, struct mig_ask **out)
{
    *out = NULL;
    struct mig_ask *m = mem->alloc(sizeof(*m));
    if (!m)
        return HV_FAIL(HV_E_NOMEM);
    m->mem = *mem;
    m->asked_us = now_us;
    m->io.in = (struct mig_fifo){ .buf = mem->alloc(ASK_IN_CAP), .cap = ASK_IN_CAP };
    m->io.out = (struct mig_fifo){ .buf = mem->alloc(ASK_OUT_CAP), .cap = ASK_OUT_CAP };
    if (!m->io.in.buf || !m->io.out.buf) {
        mig_ask_destroy(m);
        return HV_FAIL(HV_E_NOMEM);
    }
    mig_preamble_put(&m->io.out);
    *out = m;
    return HV_OK;
}

void mig_ask_destroy(struct mig_ask *m)
{
    if (!m)
        return;
    struct mig_mem mem = m->mem;
    if (m->io.in.buf)
        mem.free(m->io.in.buf, ASK_IN_CAP);
    if (m->io.out.buf)
        mem.free(m->io.out.buf, ASK_OUT_CAP);
    mem.free(m, sizeof(*m));
}

struct mig_io *mig_ask_io(struct mig_ask *m) { return &m->io; }

const void *mig_ask_knows(const struct mig_ask *m, size_t *len)
{
    *len = m->knows_len;
    return m->ready ? m->knows : NULL;
}

/* May a question of len bytes about that guest be queued now? */
static enum hv_err ask_may_put(struct mig_ask *m, const char *name, size_t len)
{
    size_t n = strlen(name);
    if (n == 0 || n >= MIG_NAME_MAX)
        return HV_FAIL(HV_E_INVAL);
    for (size_t i = 0; i < n; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return HV_FAIL(HV_E_INVAL);
    if (m->want || m->dead || mig_fifo_free(&m->io.out) < len + MIG_REC_HDR_LEN + MIG_NAME_MAX)
        return HV_FAIL(HV_E_BUSY);
    return HV_OK;
}

enum hv_err mig_ask_mac(struct mig_ask *m, const uint8_t mac[6])
{
    if (m->want || m->dead || mig_fifo_free(&m->io.out) < MIG_REC_HDR_LEN + 8)
        return HV_FAIL(HV_E_BUSY);
    mig_mac_put(&m->io.out, mac);
    return HV_OK;
}

enum hv_err mig_ask_find(struct mig_ask *m, const char *name, const struct mig_id *ticket, uint64_t now_us)
{
    struct mig_p_find p = { .ticket = *ticket };
    enum hv_err e = ask_may_put(m, name, 24);
    if (e)
        return e;
    memcpy(p.name, name, strlen(name));
    mig_find_put(&m->io.out, &p);
    ASSERT(!m->want && !m->dead);
    m->want = MIG_REC_FOUND;
    m->asked_us = now_us;
    return HV_OK;
}

enum hv_err mig_ask_probe(struct mig_ask *m, const char *name, uint64_t n_pages, const void *offer, size_t len,
                          uint64_t now_us)
{
    struct mig_p_offer p = { .n_pages = n_pages, .offer = offer, .offer_len = len };
    if (len > MIG_OFFER_MAX || n_pages == 0 || n_pages > BIT64(MIG_GFN_BITS))
        return HV_FAIL(HV_E_INVAL);
    enum hv_err e = ask_may_put(m, name, 56 + len);
    if (e)
        return e;
    memcpy(p.name, name, strlen(name));
    mig_probe_put(&m->io.out, &p);
    ASSERT(!m->want && !m->dead);
    m->want = MIG_REC_PROBED;
    m->asked_us = now_us;
    return HV_OK;
}

static void answer_text_take(struct mig_answer *out, const char *text, size_t len)
{
    memcpy(out->text, text, len); /* shorter than MIG_TEXT_MAX: wire.c has checked it */
    out->text[len] = '\0';
    mig_text_clean(out->text);
}

static enum hv_err ask_dead(struct mig_ask *m, enum hv_err e, struct mig_answer *out, const char *what)
{
    m->dead = true;
    snprintf(out->text, sizeof(out->text), "%s", what);
    return e;
}

static enum hv_err ask_on_preamble(struct mig_ask *m, struct mig_answer *out)
{
    size_t len;
    const uint8_t *p = mig_fifo_data(&m->io.in, &len);
    struct rd r = rd_init(p, len);
    uint16_t version, min, max;

    enum hv_err e = mig_preamble_get(&r, &version, &min, &max);
    if (e == HV_E_SHORT)
        return HV_E_AGAIN;
    if (e)
        return ask_dead(m, e, out,
                        e == HV_E_VERSION ? "it talks other migration versions: update the older host"
                                          : "it does not talk Godwit's protocol");
    mig_fifo_consume(&m->io.in, MIG_PREAMBLE_LEN);
    m->got_preamble = true;
    m->ready = version < MIG_VERSION_KNOWS;
    return HV_OK;
}

static enum hv_err ask_on_record(struct mig_ask *m, const struct mig_rec *rec, struct rd *r, struct mig_answer *out)
{
    struct mig_p_text t;
    struct mig_p_probed p;
    struct mig_p_knows k;
    m->later |= rec->type == MIG_REC_LATER;
    if (rec->type >= MIG_REC_OPTIONAL)
        return HV_E_AGAIN;
    if (!m->ready && rec->type == MIG_REC_KNOWS && !mig_knows_get(r, &k)) {
        memcpy(m->knows, k.p, k.len);
        m->knows_len = k.len;
        m->ready = true;
        return HV_E_AGAIN;
    }
    if (rec->type == MIG_REC_FAIL && !mig_text_get(r, MIG_REC_FAIL, &t)) {
        answer_text_take(out, t.text, t.len);
        mig_text_need(out->text, sizeof(out->text), (enum hv_err)t.code);
        m->dead = true;
        return m->later ? HV_E_BUSY : (enum hv_err)t.code;
    }
    if (rec->type != m->want)
        return ask_dead(m, HV_E_PROTO, out, "it answered another question");
    m->want = (enum mig_rec_type)0;
    if (rec->type == MIG_REC_FOUND && !mig_text_get(r, MIG_REC_FOUND, &t)) {
        out->find = (enum mig_find)t.code;
        out->ticket = t.id;
        answer_text_take(out, t.text, t.len);
        return HV_OK;
    }
    if (rec->type == MIG_REC_PROBED && !mig_probed_get(r, &p)) {
        out->free_bytes = p.free_bytes;
        out->n_reasons = p.n_reasons;
        answer_text_take(out, p.text, p.len);
        mig_text_need(out->text, sizeof(out->text), p.n_reasons ? HV_E_REFUSED : HV_OK);
        return HV_OK;
    }
    return ask_dead(m, HV_E_PROTO, out, "its answer is malformed");
}

enum hv_err mig_ask_step(struct mig_ask *m, uint64_t now_us, struct mig_answer *out)
{
    enum hv_err e = m->dead ? HV_FAIL(HV_E_CLOSED) : m->got_preamble ? HV_OK : ask_on_preamble(m, out);
    while (!e) {
        size_t len;
        const uint8_t *p = mig_fifo_data(&m->io.in, &len);
        struct rd r = rd_init(p, len);
        struct mig_rec rec;
        enum hv_err got = mig_rec_get(&r, &rec);
        if (got == HV_E_SHORT && len < MIG_REC_HDR_LEN)
            break;
        if (got == HV_E_SHORT && rec.len <= ASK_IN_CAP / 2)
            break;
        if (got)
            return ask_dead(m, HV_E_PROTO, out, "its answer is malformed");
        struct rd payload = rd_init(r.p + r.pos, (size_t)rec.len);
        e = ask_on_record(m, &rec, &payload, out);
        mig_fifo_consume(&m->io.in, MIG_REC_HDR_LEN + (size_t)rec.len);
        if (e != HV_E_AGAIN)
            return e;
        e = HV_OK; /* skipped */
    }
    if (e && e != HV_E_AGAIN)
        return e;
    if ((m->want || !m->ready) && now_us - m->asked_us >= MIG_ASK_US)
        return ask_dead(m, HV_E_TIMEOUT, out, "it does not answer the question");
    return HV_E_AGAIN;
}
