/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/wire.c - records to bytes and back.
 *
 * Every _get reads all fields with the sticky cursor, checks once, and accepts only a payload that is used up to its
 * last byte.  So a peer can send exactly what the tables in wire.h say.  Asserts concern only records that this host
 * builds. */
#include "migrate/wire.h"

#include <stdio.h>

_Static_assert(sizeof(MIG_MAGIC) - 1 == 8, "the magic has 8 bytes on the wire");
_Static_assert(sizeof(struct mig_id) == 16, "an id has 16 bytes on the wire");
_Static_assert(56 + MIG_NAME_MAX + MIG_OFFER_MAX <= MIG_REC_LEN_MAX, "every offer fits");
_Static_assert(MIG_TEXT_MAX - 1 <= UINT16_MAX && MIG_NOTE_MAX <= MIG_TEXT_MAX, "text_len has 16 bits");
_Static_assert(MIG_FRAME_MAX <= MIG_REC_LEN_MAX, "every frame fits");
_Static_assert(MIG_DISK_REC_MAX <= MIG_REC_LEN_MAX, "every write to a disk fits");

const char *mig_rec_name(unsigned type)
{
    switch (type) {
#define X(name, value, dir, text) \
    case value: return #name;
        MIG_REC_LIST(X)
#undef X
    case MIG_REC_IDLE:    return "IDLE";
    case MIG_REC_NOTE:    return "NOTE";
    case MIG_REC_FRAME:   return "FRAME";
    case MIG_REC_LATER:   return "LATER";
    case MIG_REC_CONSOLE: return "CONSOLE";
    case MIG_REC_HAS:     return "HAS";
    case MIG_REC_MAC:     return "MAC";
    }
    return "?";
}

/* ---- preamble, header ---- */

void mig_preamble_put(struct mig_fifo *out)
{
    size_t room;
    uint8_t *p = mig_fifo_space(out, MIG_PREAMBLE_LEN, &room);
    struct wr w = wr_init(p, MIG_PREAMBLE_LEN);

    wr_bytes(&w, MIG_MAGIC, 8);
    wr_u16(&w, MIG_VERSION_MIN);
    wr_u16(&w, MIG_VERSION_MAX);
    wr_u32(&w, 0);
    mig_fifo_commit(out, w.len);
}

enum hv_err mig_preamble_get(struct rd *in, uint16_t *version, uint16_t *min, uint16_t *max)
{
    if (rd_left(in) < MIG_PREAMBLE_LEN)
        return HV_E_SHORT;
    const uint8_t *magic = rd_ref(in, 8);
    *min = rd_u16(in);
    *max = rd_u16(in);
    uint32_t reserved = rd_u32(in);

    if (memcmp(magic, MIG_MAGIC, 8) != 0 || reserved || *min == 0 || *max < *min)
        return HV_FAIL(HV_E_PROTO);
    *version = MIN(*max, (uint16_t)MIG_VERSION_MAX);
    return *version < MAX(*min, (uint16_t)MIG_VERSION_MIN) ? HV_FAIL(HV_E_VERSION) : HV_OK;
}

void mig_rec_put(uint8_t out[MIG_REC_HDR_LEN], const struct mig_rec *r)
{
    struct wr w = wr_init(out, MIG_REC_HDR_LEN);
    wr_u16(&w, r->type);
    wr_u16(&w, r->version);
    wr_u32(&w, r->flags);
    wr_u64(&w, r->len);
}

enum hv_err mig_rec_get(struct rd *in, struct mig_rec *out)
{
    if (rd_left(in) < MIG_REC_HDR_LEN)
        return HV_E_SHORT;
    struct rd r = *in;
    out->type = rd_u16(&r);
    out->version = rd_u16(&r);
    out->flags = rd_u32(&r);
    out->len = rd_u64(&r);

    if (out->type == 0 || out->len > MIG_REC_LEN_MAX)
        return HV_FAIL(HV_E_PROTO);
    if (out->type < MIG_REC_OPTIONAL) {
        if (mig_rec_name(out->type)[0] == '?' || out->version != 1)
            return HV_FAIL(HV_E_VERSION);
        if (out->flags)
            return HV_FAIL(HV_E_PROTO);
    }
    if (rd_left(&r) < out->len)
        return HV_E_SHORT;
    *in = r;
    return HV_OK;
}

struct wr mig_rec_begin(struct mig_fifo *out, size_t max)
{
    size_t room;
    uint8_t *p = mig_fifo_space(out, MIG_REC_HDR_LEN + max, &room);
    struct wr w = wr_init(p, MIN(room, MIG_REC_HDR_LEN + max));
    if (w.cap < MIG_REC_HDR_LEN)
        w.bad = true;
    else
        w.len = MIG_REC_HDR_LEN;
    return w;
}

void mig_rec_end(struct mig_fifo *out, struct wr *w, enum mig_rec_type type)
{
    ASSERT(!w->bad); /* the caller has checked the room, see mig_rec_begin() */
    mig_rec_put(w->p, &(struct mig_rec){ (uint16_t)type, 1, 0, w->len - MIG_REC_HDR_LEN });
    mig_fifo_commit(out, w->len);
}

void mig_later_put(struct mig_fifo *out)
{
    struct wr w = mig_rec_begin(out, 0);
    mig_rec_end(out, &w, MIG_REC_LATER);
}

void mig_busy_put(struct mig_fifo *out, const char *text)
{
    mig_preamble_put(out);
    mig_later_put(out);
    mig_text_put(out, MIG_REC_FAIL, &(struct mig_p_text){ { { 0 } }, HV_E_REFUSED, text, strlen(text) });
}

void mig_idle_put(struct mig_fifo *out, uint64_t now_us, uint64_t *since_us, uint64_t *total_in)
{
    if (out->total_in == *total_in && now_us - *since_us < MIG_IDLE_US)
        return;
    if (out->total_in == *total_in && !mig_fifo_len(out)) {
        struct wr w = mig_rec_begin(out, 0);
        mig_rec_end(out, &w, MIG_REC_IDLE);
    }
    *total_in = out->total_in;
    *since_us = now_us;
}

/* A payload is complete when all fields were there and nothing is left. */
static enum hv_err payload_whole(const struct rd *r)
{
    return r->bad || r->pos != r->len ? HV_FAIL(HV_E_PROTO) : HV_OK;
}

/* ---- OFFER ---- */

static bool wire_name_ok(const uint8_t *s, size_t len)
{
    if (len == 0 || len >= MIG_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (s[i] <= ' ' || s[i] > '~')
            return false;
    return true;
}

static void offer_put(struct mig_fifo *out, enum mig_rec_type type, const struct mig_p_offer *p)
{
    size_t n = strlen(p->name);
    ASSERT(n < MIG_NAME_MAX && p->offer_len <= MIG_OFFER_MAX);
    struct wr w = mig_rec_begin(out, 56 + n + p->offer_len);
    wr_bytes(&w, p->id.b, 16);
    wr_bytes(&w, p->key, 16);
    wr_u64(&w, p->n_pages);
    wr_u32(&w, p->flags);
    wr_u16(&w, (uint16_t)n);
    wr_u16(&w, 0);
    wr_u32(&w, (uint32_t)p->offer_len);
    wr_u32(&w, (uint32_t)p->state_max);
    wr_bytes(&w, p->name, n);
    wr_bytes(&w, p->offer, p->offer_len);
    mig_rec_end(out, &w, type);
}

void mig_offer_put(struct mig_fifo *out, const struct mig_p_offer *p) { offer_put(out, MIG_REC_OFFER, p); }
void mig_probe_put(struct mig_fifo *out, const struct mig_p_offer *p) { offer_put(out, MIG_REC_PROBE, p); }

enum hv_err mig_offer_get(struct rd *r, struct mig_p_offer *p)
{
    rd_bytes(r, p->id.b, 16);
    rd_bytes(r, p->key, 16);
    p->n_pages = rd_u64(r);
    p->flags = rd_u32(r);
    size_t n = rd_u16(r);
    uint64_t reserved = rd_u16(r);
    p->offer_len = rd_u32(r);
    p->state_max = rd_u32(r);
    const uint8_t *name = rd_ref(r, n);
    p->offer = rd_ref(r, p->offer_len);

    if (payload_whole(r) || reserved || (p->flags & ~MIG_OFFER_VERIFY) || !wire_name_ok(name, n))
        return HV_FAIL(HV_E_PROTO);
    if (p->n_pages == 0 || p->n_pages > BIT64(MIG_GFN_BITS) || p->offer_len > MIG_OFFER_MAX)
        return HV_FAIL(HV_E_PROTO);
    if (p->state_max && (p->state_max <= MIG_STATE_REC_MAX || p->state_max > MIG_STATE_MAX))
        return HV_FAIL(HV_E_PROTO);
    memcpy(p->name, name, n);
    p->name[n] = '\0';
    return HV_OK;
}

/* ---- small records ---- */

void mig_id_put(struct mig_fifo *out, enum mig_rec_type type, const struct mig_id *id)
{
    struct wr w = mig_rec_begin(out, 16);
    wr_bytes(&w, id->b, 16);
    mig_rec_end(out, &w, type);
}

enum hv_err mig_id_get(struct rd *r, struct mig_id *id)
{
    rd_bytes(r, id->b, 16);
    return payload_whole(r);
}

void mig_round_put(struct mig_fifo *out, const struct mig_p_round *p)
{
    struct wr w = mig_rec_begin(out, 16);
    wr_u32(&w, p->round);
    wr_u32(&w, 0);
    wr_u64(&w, p->pages);
    mig_rec_end(out, &w, MIG_REC_ROUND_END);
}

enum hv_err mig_round_get(struct rd *r, struct mig_p_round *p)
{
    p->round = rd_u32(r);
    uint32_t reserved = rd_u32(r);
    p->pages = rd_u64(r);
    return reserved || p->round == 0 ? HV_FAIL(HV_E_PROTO) : payload_whole(r);
}

void mig_ack_put(struct mig_fifo *out, const struct mig_p_ack *p)
{
    struct wr w = mig_rec_begin(out, 24);
    wr_u32(&w, p->round);
    wr_u32(&w, 0);
    wr_u64(&w, p->bytes);
    wr_u64(&w, p->clock_us);
    mig_rec_end(out, &w, MIG_REC_ACK);
}

enum hv_err mig_ack_get(struct rd *r, struct mig_p_ack *p)
{
    p->round = rd_u32(r);
    uint32_t reserved = rd_u32(r);
    p->bytes = rd_u64(r);
    p->clock_us = rd_u64(r);
    return reserved ? HV_FAIL(HV_E_PROTO) : payload_whole(r);
}

void mig_prepared_put(struct mig_fifo *out, const struct mig_p_prepared *p)
{
    struct wr w = mig_rec_begin(out, 40);
    wr_bytes(&w, p->id.b, 16);
    wr_u64(&w, p->digest.a);
    wr_u64(&w, p->digest.b);
    wr_u64(&w, p->us);
    mig_rec_end(out, &w, MIG_REC_PREPARED);
}

enum hv_err mig_prepared_get(struct rd *r, struct mig_p_prepared *p)
{
    rd_bytes(r, p->id.b, 16);
    p->digest.a = rd_u64(r);
    p->digest.b = rd_u64(r);
    p->us = rd_u64(r);
    return payload_whole(r);
}

void mig_running_put(struct mig_fifo *out, const struct mig_p_running *p)
{
    struct wr w = mig_rec_begin(out, 24);
    wr_bytes(&w, p->id.b, 16);
    wr_u64(&w, p->us);
    mig_rec_end(out, &w, MIG_REC_RUNNING);
}

enum hv_err mig_running_get(struct rd *r, struct mig_p_running *p)
{
    rd_bytes(r, p->id.b, 16);
    p->us = rd_u64(r);
    return payload_whole(r);
}

void mig_mac_put(struct mig_fifo *out, const uint8_t mac[6])
{
    struct wr w = mig_rec_begin(out, 8);
    wr_bytes(&w, mac, 6);
    wr_u16(&w, 0);
    mig_rec_end(out, &w, MIG_REC_MAC);
}

enum hv_err mig_mac_get(struct rd *r, uint8_t mac[6])
{
    rd_bytes(r, mac, 6);
    unsigned reserved = rd_u16(r);
    return payload_whole(r) || reserved ? HV_FAIL(HV_E_PROTO) : HV_OK;
}

void mig_has_put(struct mig_fifo *out, const struct mig_p_has *p)
{
    struct wr w = mig_rec_begin(out, 24);
    wr_bytes(&w, p->id.b, 16);
    wr_u64(&w, p->parts);
    mig_rec_end(out, &w, MIG_REC_HAS);
}

enum hv_err mig_has_get(struct rd *r, struct mig_p_has *p)
{
    rd_bytes(r, p->id.b, 16);
    p->parts = rd_u64(r);
    return payload_whole(r);
}

/* ---- PART, STATE ---- */

void mig_part_put(struct mig_fifo *out, const uint8_t *bytes, size_t len)
{
    ASSERT(len && len <= MIG_PART_MAX);
    struct wr w = mig_rec_begin(out, len);
    wr_bytes(&w, bytes, len);
    mig_rec_end(out, &w, MIG_REC_PART);
}

enum hv_err mig_part_get(struct rd *r, const uint8_t **bytes, size_t *len)
{
    *len = rd_left(r);
    *bytes = rd_ref(r, *len);
    return *len == 0 || *len > MIG_PART_MAX ? HV_FAIL(HV_E_PROTO) : HV_OK;
}

void mig_state_put(struct mig_fifo *out, const struct mig_p_state *p)
{
    struct wr w = mig_rec_begin(out, MIG_STATE_FIXED + p->len);
    wr_u64(&w, p->digest.a);
    wr_u64(&w, p->digest.b);
    wr_u64(&w, p->check);
    wr_u32(&w, (uint32_t)p->len);
    wr_u32(&w, 0);
    wr_u64(&w, p->saved_us);
    wr_bytes(&w, p->state, p->len);
    mig_rec_end(out, &w, MIG_REC_STATE);
}

enum hv_err mig_state_get(struct rd *r, struct mig_p_state *p)
{
    p->digest.a = rd_u64(r);
    p->digest.b = rd_u64(r);
    p->check = rd_u64(r);
    p->len = rd_u32(r);
    uint32_t reserved = rd_u32(r);
    p->saved_us = rd_u64(r);
    p->state = rd_ref(r, p->len);
    return reserved || p->len == 0 || p->len > MIG_STATE_REC_MAX ? HV_FAIL(HV_E_PROTO) : payload_whole(r);
}

/* ---- FIND, PROBED ---- */

void mig_find_put(struct mig_fifo *out, const struct mig_p_find *p)
{
    size_t n = strlen(p->name);
    ASSERT(n < MIG_NAME_MAX);
    struct wr w = mig_rec_begin(out, 24 + n);
    wr_bytes(&w, p->ticket.b, 16);
    wr_u16(&w, (uint16_t)n);
    wr_uint(&w, 0, 6);
    wr_bytes(&w, p->name, n);
    mig_rec_end(out, &w, MIG_REC_FIND);
}

enum hv_err mig_find_get(struct rd *r, struct mig_p_find *p)
{
    rd_bytes(r, p->ticket.b, 16);
    size_t n = rd_u16(r);
    uint64_t reserved = rd_uint(r, 6);
    const uint8_t *name = rd_ref(r, n);

    if (payload_whole(r) || reserved || !wire_name_ok(name, n))
        return HV_FAIL(HV_E_PROTO);
    memcpy(p->name, name, n);
    p->name[n] = '\0';
    return HV_OK;
}

void mig_probed_put(struct mig_fifo *out, const struct mig_p_probed *p)
{
    size_t len = MIN(p->len, (size_t)MIG_TEXT_MAX - 1);
    struct wr w = mig_rec_begin(out, 16 + len);
    wr_u64(&w, p->free_bytes);
    wr_u32(&w, p->n_reasons);
    wr_u16(&w, (uint16_t)len);
    wr_u16(&w, 0);
    wr_bytes(&w, p->text, len);
    mig_rec_end(out, &w, MIG_REC_PROBED);
}

enum hv_err mig_probed_get(struct rd *r, struct mig_p_probed *p)
{
    p->free_bytes = rd_u64(r);
    p->n_reasons = rd_u32(r);
    p->len = rd_u16(r);
    uint16_t reserved = rd_u16(r);
    p->text = (const char *)rd_ref(r, p->len);
    return reserved || p->len >= MIG_TEXT_MAX ? HV_FAIL(HV_E_PROTO) : payload_whole(r);
}

/* ---- FAIL, ANSWER, FOUND ---- */

void mig_text_put(struct mig_fifo *out, enum mig_rec_type type, const struct mig_p_text *p)
{
    size_t len = MIN(p->len, (size_t)MIG_TEXT_MAX - 1);
    struct wr w = mig_rec_begin(out, 24 + len);
    wr_bytes(&w, p->id.b, 16);
    wr_u32(&w, (uint32_t)p->code);
    wr_u16(&w, (uint16_t)len);
    wr_u16(&w, 0);
    wr_bytes(&w, p->text, len);
    mig_rec_end(out, &w, type);
}

enum hv_err mig_text_get(struct rd *r, enum mig_rec_type type, struct mig_p_text *p)
{
    rd_bytes(r, p->id.b, 16);
    p->code = (int32_t)rd_u32(r);
    p->len = rd_u16(r);
    uint16_t reserved = rd_u16(r);
    p->text = (const char *)rd_ref(r, p->len);

    if (payload_whole(r) || reserved || p->len >= MIG_TEXT_MAX)
        return HV_FAIL(HV_E_PROTO);
    if (type == MIG_REC_FAIL)
        return p->code < 0 ? HV_OK : HV_FAIL(HV_E_PROTO);
    if (type == MIG_REC_NOTE)
        return !p->code && p->len < MIG_NOTE_MAX ? HV_OK : HV_FAIL(HV_E_PROTO);
    return p->code >= 0 && p->code <= (type == MIG_REC_FOUND ? (int)MIG_F_MAC : (int)MIG_V_REFUSED)
               ? HV_OK
               : HV_FAIL(HV_E_PROTO);
}

void mig_text_clean(char *text)
{
    for (; *text; text++)
        if (*text != '\n' && (*text < ' ' || *text > '~'))
            *text = '?';
}

void mig_text_need(char *text, size_t cap, enum hv_err e)
{
    if (e && !text[strspn(text, " \n")])
        snprintf(text, cap, "%s, without a reason", hv_err_text(e));
}

/* ---- KNOWS, FRAME, CONSOLE ---- */

void mig_knows_put(struct mig_fifo *out, const struct mig_p_knows *p)
{
    ASSERT(p->len && p->len <= MIG_KNOWS_MAX);
    struct wr w = mig_rec_begin(out, p->len);
    wr_bytes(&w, p->p, p->len);
    mig_rec_end(out, &w, MIG_REC_KNOWS);
}

enum hv_err mig_knows_get(struct rd *r, struct mig_p_knows *p)
{
    p->len = rd_left(r);
    p->p = rd_ref(r, p->len);
    return payload_whole(r) || !p->len || p->len > MIG_KNOWS_MAX ? HV_FAIL(HV_E_PROTO) : HV_OK;
}

void mig_frame_put(struct mig_fifo *out, const struct mig_p_frame *p)
{
    struct wr w = mig_rec_begin(out, p->len);
    wr_bytes(&w, p->p, p->len);
    mig_rec_end(out, &w, MIG_REC_FRAME);
}

enum hv_err mig_frame_get(struct rd *r, struct mig_p_frame *p)
{
    p->len = rd_left(r);
    p->p = rd_ref(r, p->len);
    return payload_whole(r) || p->len < MIG_FRAME_MIN || p->len > MIG_FRAME_MAX ? HV_FAIL(HV_E_PROTO) : HV_OK;
}

void mig_console_put(struct mig_fifo *out, const struct mig_p_console *p)
{
    struct wr w = mig_rec_begin(out, MIG_CONSOLE_FIXED + p->len);
    wr_u64(&w, p->at);
    wr_bytes(&w, p->p, p->len);
    mig_rec_end(out, &w, MIG_REC_CONSOLE);
}

enum hv_err mig_console_get(struct rd *r, struct mig_p_console *p)
{
    p->at = rd_u64(r);
    p->len = rd_left(r);
    p->p = rd_ref(r, p->len);
    return payload_whole(r) || p->len > MIG_CONSOLE_MAX || p->at > MIG_CONSOLE_COUNT - p->len ? HV_FAIL(HV_E_PROTO)
                                                                                              : HV_OK;
}

/* ---- BATCH (built in batch.c) ---- */

static enum hv_err batch_entries_check(const struct mig_p_batch *p)
{
    uint64_t chunks = 0;
    for (uint32_t i = 0; i < p->n_entries; i++) {
        uint64_t e = mig_entry(p, i), map = e >> MIG_ENTRY_MAP_SHIFT;
        if (e & ~MIG_ENTRY_GFN_MASK & ~(UINT64_C(0xffff) << MIG_ENTRY_MAP_SHIFT))
            return HV_FAIL(HV_E_PROTO);
        chunks += mig_popcount(map);
    }
    return chunks * MIG_CHUNK_SIZE == p->data_len ? HV_OK : HV_FAIL(HV_E_PROTO);
}

enum hv_err mig_batch_get(struct rd *r, struct mig_p_batch *p)
{
    p->n_entries = rd_u32(r);
    p->data_len = rd_u32(r);
    p->codec = rd_u8(r);
    uint64_t reserved = rd_uint(r, 7);

    if (r->bad || reserved || p->n_entries == 0 || p->n_entries > MIG_BATCH_PAGES_MAX ||
        p->data_len > MIG_BATCH_DATA_MAX)
        return HV_FAIL(HV_E_PROTO);
    if (rd_left(r) < 8 * (size_t)p->n_entries)
        return HV_FAIL(HV_E_PROTO);
    p->stored_len = rd_left(r) - 8 * (size_t)p->n_entries;
    p->data = rd_ref(r, p->stored_len);
    p->entries = rd_ref(r, 8 * (size_t)p->n_entries);

    switch (p->codec) {
    case MIG_CODEC_RAW:
        if (p->stored_len != p->data_len)
            return HV_FAIL(HV_E_PROTO);
        break;
    case MIG_CODEC_LZ4:
        if (p->stored_len == 0 || p->stored_len >= p->data_len)
            return HV_FAIL(HV_E_PROTO);
        break;
    default: return HV_FAIL(HV_E_PROTO);
    }
    return batch_entries_check(p);
}

/* ---- DISK (its data: tx_disks.c), DISKED ---- */

void mig_disk_put(struct wr *w, const struct mig_p_disk *p)
{
    ASSERT(p->req.disk < MIG_DISKS_MAX);
    wr_u8(w, (uint8_t)p->req.disk);
    wr_u8(w, (uint8_t)p->req.op);
    wr_u8(w, p->codec);
    wr_u8(w, 0);
    wr_u32(w, p->req.len);
    wr_u64(w, p->req.tag);
    wr_u64(w, p->req.offset);
    wr_u64(w, p->check);
}

static bool disk_data_ok(const struct mig_p_disk *p)
{
    uint32_t len = p->req.len;
    switch (p->req.op) {
    case MIG_DISK_WRITE:
        if (!len || len > MIG_DISK_DATA_MAX)
            return false;
        return p->codec == MIG_CODEC_RAW ? p->stored_len == len
                                         : p->codec == MIG_CODEC_LZ4 && p->stored_len && p->stored_len < len;
    case MIG_DISK_ZEROES: return len && len <= MIG_DISK_ZEROES_MAX && !p->codec && !p->stored_len;
    case MIG_DISK_FLUSH:  return !len && !p->req.offset && !p->codec && !p->stored_len;
    }
    return false;
}

enum hv_err mig_disk_get(struct rd *r, struct mig_p_disk *p)
{
    p->req.disk = rd_u8(r);
    unsigned op = rd_u8(r);
    p->req.op = (enum mig_disk_op)op;
    p->codec = rd_u8(r);
    unsigned reserved = rd_u8(r);
    p->req.len = rd_u32(r);
    p->req.tag = rd_u64(r);
    p->req.offset = rd_u64(r);
    p->check = rd_u64(r);
    p->stored_len = rd_left(r);
    p->data = rd_ref(r, p->stored_len);
    if (payload_whole(r) || reserved || !p->req.tag || p->req.offset > MIG_DISK_BYTES - p->req.len || !disk_data_ok(p))
        return HV_FAIL(HV_E_PROTO);
    return HV_OK;
}

void mig_disked_put(struct mig_fifo *out, uint64_t number)
{
    struct wr w = mig_rec_begin(out, 8);
    wr_u64(&w, number);
    mig_rec_end(out, &w, MIG_REC_DISKED);
}

enum hv_err mig_disked_get(struct rd *r, uint64_t *number)
{
    *number = rd_u64(r);
    return payload_whole(r);
}
