/* SPDX-License-Identifier: BSD-2-Clause
 * tools/mig-dump.c - print one direction of a captured or saved migration stream, record by record.
 *
 *   mig-dump [-p] [-s N] FILE        -p: also print every page entry;  -s: skip N bytes first (a fuzzer's seed has one
 *                                    byte of its own)
 *
 * It parses with migrate/wire.c, so it cannot disagree with the engine.  Exit codes: 0, the stream is well formed and
 * ends with a whole record; 1, it is not, and the last line says where and why; 2, usage.
 * tool-sources: migrate/wire.c kernel/lib/err.c */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "migrate/wire.h"

static bool show_pages;

/* The asserts of migrate/ concern the engine's own records; a malformed stream never reaches them. */
void panic(const char *fmt, ...)
{
    fprintf(stderr, "mig-dump: bug: %s\n", fmt);
    exit(2);
}

void assert_fail(const char *file, int line, const char *expr)
{
    panic("%s:%d: assertion failed: %s", file, line, expr);
}

void assert_eq_fail(const char *file, int line, const char *expr, uint64_t a, uint64_t b)
{
    panic("%s:%d: assertion failed: %s, 0x%lx and 0x%lx", file, line, expr, a, b);
}

static void print_id(const struct mig_id *id)
{
    printf(" id ");
    for (unsigned i = 0; i < sizeof(id->b); i++)
        printf("%02x", id->b[i]);
}

static void print_text(const struct mig_p_text *p)
{
    char text[MIG_TEXT_MAX];
    memcpy(text, p->text, p->len);
    text[p->len] = '\0';
    mig_text_clean(text);
    print_id(&p->id);
    printf(" code %d \"%s\"", p->code, text);
}

static enum hv_err print_batch(struct rd *r)
{
    struct mig_p_batch b;
    unsigned zero = 0, full = 0, part = 0;
    enum hv_err e = mig_batch_get(r, &b);
    if (e)
        return e;
    for (uint32_t i = 0; i < b.n_entries; i++) {
        uint64_t map = mig_entry(&b, i) >> MIG_ENTRY_MAP_SHIFT;
        if (!map)
            zero++;
        else if (map == 0xffff)
            full++;
        else
            part++;
    }
    printf(" %s %u -> %zu bytes, pages: %u full %u delta %u zero", b.codec == MIG_CODEC_LZ4 ? "lz4" : "raw", b.data_len,
           b.stored_len, full, part, zero);
    for (uint32_t i = 0; show_pages && i < b.n_entries; i++) {
        uint64_t entry = mig_entry(&b, i);
        printf("\n             gfn 0x%lx chunks %04lx", entry & MIG_ENTRY_GFN_MASK, entry >> MIG_ENTRY_MAP_SHIFT);
    }
    return HV_OK;
}

static enum hv_err print_offer(struct rd *r)
{
    struct mig_p_offer p;
    enum hv_err e = mig_offer_get(r, &p);
    if (e)
        return e;
    print_id(&p.id);
    printf(" guest \"%s\" %lu pages (%lu MiB)%s, offer %zu bytes", p.name, p.n_pages, p.n_pages / 256,
           p.flags & MIG_OFFER_VERIFY ? " verify" : "", p.offer_len);
    return HV_OK;
}

static enum hv_err print_find(struct rd *r)
{
    struct mig_p_find p;
    enum hv_err e = mig_find_get(r, &p);
    if (e)
        return e;
    print_id(&p.ticket);
    printf(" guest \"%s\"", p.name);
    return HV_OK;
}

static enum hv_err print_probed(struct rd *r)
{
    struct mig_p_probed p;
    enum hv_err e = mig_probed_get(r, &p);
    if (e)
        return e;
    printf(" free %lu MiB, %u reasons against", p.free_bytes >> 20, p.n_reasons);
    return HV_OK;
}

static enum hv_err print_running(struct rd *r)
{
    struct mig_p_running p;
    enum hv_err e = mig_running_get(r, &p);
    if (e)
        return e;
    print_id(&p.id);
    printf(" %lu us", p.us);
    return HV_OK;
}

static enum hv_err print_part(struct rd *r)
{
    const uint8_t *bytes;
    size_t len;
    enum hv_err e = mig_part_get(r, &bytes, &len);
    if (!e)
        printf(" state, %zu bytes of it", len);
    return e;
}

static enum hv_err print_state(struct rd *r)
{
    struct mig_p_state p;
    enum hv_err e = mig_state_get(r, &p);
    if (e)
        return e;
    printf(" digest %016lx%016lx, state, its last %zu bytes, check %016lx", p.digest.a, p.digest.b, p.len, p.check);
    return HV_OK;
}

static enum hv_err print_prepared(struct rd *r)
{
    struct mig_p_prepared p;
    enum hv_err e = mig_prepared_get(r, &p);
    if (e)
        return e;
    print_id(&p.id);
    printf(" digest %016lx%016lx, %lu us", p.digest.a, p.digest.b, p.us);
    return HV_OK;
}

static enum hv_err print_mac(struct rd *r)
{
    uint8_t m[6];
    enum hv_err e = mig_mac_get(r, m);
    if (!e)
        printf(" %02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    return e;
}

static enum hv_err print_console(struct rd *r)
{
    struct mig_p_console c;
    enum hv_err e = mig_console_get(r, &c);
    if (!e)
        printf(" %zu bytes from number %lu on", c.len, c.at);
    return e;
}

static enum hv_err print_disk(struct rd *r)
{
    static const char *const ops[] = { "?", "write", "zeroes", "flush" };
    struct mig_p_disk p;
    enum hv_err e = mig_disk_get(r, &p);
    if (e)
        return e;
    printf(" number %lu disk %u %s %u bytes at %lu", p.req.tag, p.req.disk, ops[p.req.op], p.req.len, p.req.offset);
    if (p.codec == MIG_CODEC_LZ4)
        printf(" lz4 -> %zu bytes", p.stored_len);
    return HV_OK;
}

static enum hv_err print_disked(struct rd *r)
{
    uint64_t number;
    enum hv_err e = mig_disked_get(r, &number);
    if (!e)
        printf(" number %lu", number);
    return e;
}

static enum hv_err print_payload(enum mig_rec_type type, struct rd *r)
{
    union {
        struct mig_id id;
        struct mig_p_round round;
        struct mig_p_ack ack;
        struct mig_p_text text;
        struct mig_p_frame frame;
        struct mig_p_knows knows;
        struct mig_p_has has;
    } u;
    enum hv_err e = HV_E_PROTO;
    switch (type) {
    case MIG_REC_OFFER:
    case MIG_REC_PROBE:  return print_offer(r);
    case MIG_REC_FIND:   return print_find(r);
    case MIG_REC_PROBED: return print_probed(r);
    case MIG_REC_BATCH:  return print_batch(r);
    case MIG_REC_ACCEPT:
    case MIG_REC_COMMIT:
    case MIG_REC_QUERY:
        if (!(e = mig_id_get(r, &u.id)))
            print_id(&u.id);
        break;
    case MIG_REC_ROUND_END:
        if (!(e = mig_round_get(r, &u.round)))
            printf(" round %u, %lu pages scanned", u.round.round, u.round.pages);
        break;
    case MIG_REC_ACK:
        if (!(e = mig_ack_get(r, &u.ack)))
            printf(" round %u, %lu bytes consumed", u.ack.round, u.ack.bytes);
        break;
    case MIG_REC_DISK:     return print_disk(r);
    case MIG_REC_DISKED:   return print_disked(r);
    case MIG_REC_PART:     return print_part(r);
    case MIG_REC_STATE:    return print_state(r);
    case MIG_REC_PREPARED: return print_prepared(r);
    case MIG_REC_RUNNING:  return print_running(r);
    case MIG_REC_FAIL:
    case MIG_REC_ANSWER:
    case MIG_REC_NOTE:
    case MIG_REC_FOUND:
        if (!(e = mig_text_get(r, type, &u.text)))
            print_text(&u.text);
        break;
    case MIG_REC_FRAME:   e = mig_frame_get(r, &u.frame); break;
    case MIG_REC_CONSOLE: return print_console(r);
    case MIG_REC_KNOWS:   e = mig_knows_get(r, &u.knows); break;
    case MIG_REC_HAS:
        if (!(e = mig_has_get(r, &u.has)))
            printf(" parts %lx", u.has.parts);
        break;
    case MIG_REC_MAC:   return print_mac(r);
    case MIG_REC_LATER:
    case MIG_REC_IDLE:  break;
    }
    return e;
}

static int dump_failed(size_t at, enum hv_err e)
{
    printf("\n%10zu  %s\n", at, e == HV_E_SHORT ? "the stream ends within a record" : hv_err_text(e));
    return 1;
}

static int dump(const uint8_t *p, size_t len)
{
    struct rd r = rd_init(p, len);
    uint16_t version, min, max;
    enum hv_err e = mig_preamble_get(&r, &version, &min, &max);
    if (e && e != HV_E_VERSION)
        return dump_failed(0, e);
    printf("%10d  preamble, versions %u to %u\n", 0, min, max);
    while (rd_left(&r)) {
        size_t at = r.pos;
        struct mig_rec rec;
        if ((e = mig_rec_get(&r, &rec)))
            return dump_failed(at, e);
        printf("%10zu  %-9s %7lu", at, mig_rec_name(rec.type), rec.len);
        if (rec.type < MIG_REC_OPTIONAL || rec.type == MIG_REC_NOTE || rec.type == MIG_REC_FRAME ||
            rec.type == MIG_REC_CONSOLE || rec.type == MIG_REC_HAS || rec.type == MIG_REC_MAC) {
            struct rd payload = rd_init(r.p + r.pos, (size_t)rec.len);
            if ((e = print_payload((enum mig_rec_type)rec.type, &payload)))
                return dump_failed(at, e);
        }
        printf("\n");
        r.pos += (size_t)rec.len;
    }
    return 0;
}

int main(int argc, char **argv)
{
    size_t skip = 0, len = 0, cap = 0;
    uint8_t *buf = NULL;
    int c;

    while ((c = getopt(argc, argv, "ps:")) != -1) {
        if (c == 'p')
            show_pages = true;
        else if (c == 's')
            skip = strtoul(optarg, NULL, 0);
        else
            return 2;
    }
    if (optind + 1 != argc)
        return fprintf(stderr, "usage: mig-dump [-p] [-s N] FILE\n"), 2;
    FILE *f = fopen(argv[optind], "rb");
    if (!f)
        return perror(argv[optind]), 2;
    for (;;) {
        if (len == cap) {
            uint8_t *more = realloc(buf, cap = cap ? 2 * cap : 1 << 20);
            if (!more)
                return perror("memory"), 2;
            buf = more;
        }
        size_t n = fread(buf + len, 1, cap - len, f);
        if (!n)
            break;
        len += n;
    }
    fclose(f);
    int rc = skip <= len ? dump(buf + skip, len - skip) : dump_failed(0, HV_E_SHORT);
    free(buf);
    return rc;
}
