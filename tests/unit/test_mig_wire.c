/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_mig_wire.c - the wire format: round trips, every truncation, every reserved byte, and one golden
 * file. */
/* unit-sources: migrate/wire.c kernel/lib/err.c tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "migrate/wire.h"

static uint8_t buf[1 << 16];
static const struct mig_id ID = { { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 } };

/* The shortest write and zeroes, so that any less is wrong. */
static void disks_put(struct mig_fifo *f)
{
    struct wr w = mig_rec_begin(f, 64);
    mig_disk_put(&w, &(struct mig_p_disk){ .req = { 1, MIG_DISK_WRITE, 512, 1, 1 } });
    wr_u8(&w, 0x5a);
    mig_rec_end(f, &w, MIG_REC_DISK);
    w = mig_rec_begin(f, 64);
    mig_disk_put(&w, &(struct mig_p_disk){ .req = { 0, MIG_DISK_ZEROES, 65536, 4096, 2 } });
    mig_rec_end(f, &w, MIG_REC_DISK);
    mig_disked_put(f, 2);
}

/* One of each record, in the order of a move. */
static struct mig_fifo sample(void)
{
    struct mig_fifo f = { .buf = buf, .cap = sizeof(buf) };
    static const uint8_t offer[] = { 0xaa, 0xbb, 0xcc };
    struct mig_p_offer o = { .id = ID,
                             .key = { 9, 8, 7 },
                             .n_pages = 65536,
                             .flags = MIG_OFFER_VERIFY,
                             .name = "web-1",
                             .offer = offer,
                             .offer_len = sizeof(offer) };

    memset(buf, 0, sizeof(buf));
    mig_preamble_put(&f);
    mig_knows_put(&f, &(struct mig_p_knows){ (const uint8_t *)"k", 1 });
    mig_has_put(&f, &(struct mig_p_has){ ID, 5 });
    mig_mac_put(&f, (const uint8_t[6]){ 2, 0x47, 0x57, 0, 0, 1 });
    mig_part_put(&f, (const uint8_t *)"s", 1); /* the shortest, so that any less is wrong */
    disks_put(&f);
    mig_offer_put(&f, &o);
    mig_id_put(&f, MIG_REC_ACCEPT, &ID);

    struct wr w = mig_rec_begin(&f, 1024); /* BATCH: one page with chunk 3, one zero page, raw */
    wr_u32(&w, 2);
    wr_u32(&w, 256);
    wr_u8(&w, MIG_CODEC_RAW);
    wr_uint(&w, 0, 7);
    for (unsigned i = 0; i < 256; i++)
        wr_u8(&w, (uint8_t)i);
    wr_u64(&w, 0x1234 | UINT64_C(8) << MIG_ENTRY_MAP_SHIFT);
    wr_u64(&w, 0x77);
    mig_rec_end(&f, &w, MIG_REC_BATCH);

    mig_round_put(&f, &(struct mig_p_round){ 1, 4711 });
    mig_ack_put(&f, &(struct mig_p_ack){ 1, 123456789, 987654321 });
    mig_state_put(&f, &(struct mig_p_state){ { 0x1111, 0x2222 }, 0x3333, 0x4444, (const uint8_t *)"state", 5 });
    mig_prepared_put(&f, &(struct mig_p_prepared){ ID, { 0x1111, 0x2222 }, 1500 });
    mig_id_put(&f, MIG_REC_COMMIT, &ID);
    mig_running_put(&f, &(struct mig_p_running){ ID, 250 });
    mig_text_put(&f, MIG_REC_FAIL, &(struct mig_p_text){ ID, HV_E_NOMEM, "no memory", 9 });
    mig_id_put(&f, MIG_REC_QUERY, &ID);
    mig_text_put(&f, MIG_REC_ANSWER, &(struct mig_p_text){ ID, MIG_V_REFUSED, "dropped", 7 });
    mig_text_put(&f, MIG_REC_NOTE, &(struct mig_p_text){ ID, 0, "tsc: scaled", 11 });
    mig_find_put(&f, &(struct mig_p_find){ ID, "web-1" });
    mig_text_put(&f, MIG_REC_FOUND, &(struct mig_p_text){ ID, MIG_F_WANTED, "soon", 4 });
    mig_probe_put(&f, &(struct mig_p_offer){
                          .n_pages = 65536, .name = "web-1", .offer = offer, .offer_len = sizeof(offer) });
    mig_probed_put(&f, &(struct mig_p_probed){ 1 << 30, 2, "no\nno", 5 });
    mig_frame_put(&f, &(struct mig_p_frame){ (const uint8_t *)"\2\0\0\0\0\1"
                                                              "\2\0\0\0\0\2"
                                                              "\10",
                                             MIG_FRAME_MIN });          /* the shortest, so that any less is wrong */
    mig_console_put(&f, &(struct mig_p_console){ 123456789, NULL, 0 }); /* likewise */
    return f;
}

static enum hv_err parse(const struct mig_rec *rec, struct rd r)
{
    static union {
        struct mig_p_offer offer;
        struct mig_id id;
        struct mig_p_batch batch;
        struct mig_p_round round;
        struct mig_p_ack ack;
        struct mig_p_state state;
        struct mig_p_prepared prepared;
        struct mig_p_running running;
        struct mig_p_text text;
        struct mig_p_find find;
        struct mig_p_probed probed;
        struct mig_p_frame frame;
        struct mig_p_knows knows;
        struct mig_p_console console;
        struct mig_p_has has;
        struct mig_p_disk disk;
        uint64_t number;
        uint8_t mac[6];
    } u;
    switch ((enum mig_rec_type)rec->type) {
    case MIG_REC_OFFER:
    case MIG_REC_PROBE:     return mig_offer_get(&r, &u.offer);
    case MIG_REC_ACCEPT:
    case MIG_REC_COMMIT:
    case MIG_REC_QUERY:     return mig_id_get(&r, &u.id);
    case MIG_REC_BATCH:     return mig_batch_get(&r, &u.batch);
    case MIG_REC_ROUND_END: return mig_round_get(&r, &u.round);
    case MIG_REC_ACK:       return mig_ack_get(&r, &u.ack);
    case MIG_REC_DISK:      return mig_disk_get(&r, &u.disk);
    case MIG_REC_DISKED:    return mig_disked_get(&r, &u.number);
    case MIG_REC_PART:      return mig_part_get(&r, &u.knows.p, &u.knows.len);
    case MIG_REC_STATE:     return mig_state_get(&r, &u.state);
    case MIG_REC_PREPARED:  return mig_prepared_get(&r, &u.prepared);
    case MIG_REC_RUNNING:   return mig_running_get(&r, &u.running);
    case MIG_REC_FIND:      return mig_find_get(&r, &u.find);
    case MIG_REC_PROBED:    return mig_probed_get(&r, &u.probed);
    case MIG_REC_FAIL:
    case MIG_REC_ANSWER:
    case MIG_REC_FOUND:
    case MIG_REC_NOTE:      return mig_text_get(&r, (enum mig_rec_type)rec->type, &u.text);
    case MIG_REC_FRAME:     return mig_frame_get(&r, &u.frame);
    case MIG_REC_KNOWS:     return mig_knows_get(&r, &u.knows);
    case MIG_REC_CONSOLE:   return mig_console_get(&r, &u.console);
    case MIG_REC_HAS:       return mig_has_get(&r, &u.has);
    case MIG_REC_MAC:       return mig_mac_get(&r, u.mac);
    case MIG_REC_LATER:
    case MIG_REC_IDLE:      break;
    }
    return HV_E_PROTO;
}

/* Whole records parse; every truncation of the stream is HV_E_SHORT; every shorter payload is HV_E_PROTO. */
static void test_truncation(void **s)
{
    (void)s;
    struct mig_fifo f = sample();
    struct rd r = rd_init(f.buf, f.tail);
    uint16_t v, min, max;
    for (size_t n = 0; n < MIG_PREAMBLE_LEN; n++) {
        struct rd t = rd_init(f.buf, n);
        assert_int_equal(mig_preamble_get(&t, &v, &min, &max), HV_E_SHORT);
    }
    assert_int_equal(mig_preamble_get(&r, &v, &min, &max), HV_OK);
    unsigned types = 0;
    while (rd_left(&r)) {
        size_t at = r.pos;
        struct mig_rec rec;
        assert_int_equal(mig_rec_get(&r, &rec), HV_OK);
        for (size_t n = at; n < r.pos + rec.len; n++) {
            struct rd t = { f.buf, n, at, false, 0 };
            struct mig_rec again;
            assert_int_equal(mig_rec_get(&t, &again), HV_E_SHORT);
        }
        uint8_t *copy = malloc(rec.len); /* exactly as long, so that the sanitizer sees a read behind the end */
        memcpy(copy, f.buf + r.pos, rec.len);
        assert_int_equal(parse(&rec, rd_init(copy, rec.len)), HV_OK);
        free(copy);
        for (size_t n = 0; n < rec.len; n++) {
            copy = malloc(n ? n : 1);
            memcpy(copy, f.buf + r.pos, n);
            assert_int_equal(parse(&rec, rd_init(copy, n)), HV_E_PROTO);
            free(copy);
        }
        types |= rec.type < MIG_REC_OPTIONAL ? BIT32(rec.type) : BIT32(21 + (rec.type & 0xf));
        r.pos += rec.len;
    }
    assert_int_equal(types, 0xedffffe); /* every type with a payload was there */
}

static void test_golden(void **s)
{
    (void)s;
    struct mig_fifo f = sample();
    uint8_t want[sizeof(buf) / 8];
    const char *name = "tests/unit/golden/mig_stream_v2.bin";
    if (getenv("GOLDEN_WRITE")) {
        FILE *o = fopen(name, "wb");
        assert_non_null(o);
        fwrite(f.buf, 1, f.tail, o);
        fclose(o);
    }
    FILE *i = fopen(name, "rb");
    if (!i)
        fail_msg("%s cannot be read: run from the repository's root", name);
    size_t n = fread(want, 1, sizeof(want), i);
    fclose(i);
    assert_int_equal(n, f.tail);
    assert_memory_equal(want, f.buf, n);
    /* version 1, as release 0.1 talks it: the same records without KNOWS, HAS, MAC, PART and DISK */
    i = fopen("tests/unit/golden/mig_stream_v1.bin", "rb");
    assert_non_null(i);
    size_t old = fread(want, 1, sizeof(want), i), new = 7 * MIG_REC_HDR_LEN + 1 + 24 + 8 + 1 + 2 * 32 + 1 + 8;
    fclose(i);
    assert_int_equal(old, n - new - MIG_REC_HDR_LEN - MIG_CONSOLE_FIXED);
    assert_memory_equal(want + MIG_PREAMBLE_LEN, f.buf + MIG_PREAMBLE_LEN + new, old - MIG_PREAMBLE_LEN);
}

/* Byte numbers of a peer are bounded, so that no sum of them wraps around. */
static void test_console_numbers(void **s)
{
    (void)s;
    static const struct {
        uint64_t at;
        size_t len;
        enum hv_err want;
    } t[] = {
        { MIG_CONSOLE_COUNT, 0, HV_OK }, { MIG_CONSOLE_COUNT - 3, 3, HV_OK }, { MIG_CONSOLE_COUNT - 3, 4, HV_E_PROTO },
        { UINT64_MAX, 0, HV_E_PROTO },   { 0, MIG_CONSOLE_MAX, HV_OK },       { 0, MIG_CONSOLE_MAX + 1, HV_E_PROTO }
    };
    static uint8_t bytes[MIG_CONSOLE_FIXED + MIG_CONSOLE_MAX + 1];
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        struct mig_p_console p;
        struct wr w = wr_init(bytes, sizeof(bytes));
        wr_u64(&w, t[i].at);
        struct rd r = rd_init(bytes, MIG_CONSOLE_FIXED + t[i].len);
        assert_int_equal(mig_console_get(&r, &p), t[i].want);
    }
}

static void test_header(void **s)
{
    (void)s;
    uint8_t h[MIG_REC_HDR_LEN];
    struct {
        struct mig_rec rec;
        enum hv_err want;
    } t[] = {
        { { 0, 1, 0, 0 }, HV_E_PROTO },
        { { MIG_REC_COMMIT, 1, 1, 0 }, HV_E_PROTO },
        { { MIG_REC_COMMIT, 2, 0, 0 }, HV_E_VERSION },
        { { 21, 1, 0, 0 }, HV_E_VERSION },
        { { 0x7fff, 1, 0, 0 }, HV_E_VERSION },
        { { 0x8000, 9, 77, 0 }, HV_OK },
        { { MIG_REC_STATE, 1, 0, MIG_REC_LEN_MAX + 1 }, HV_E_PROTO },
        { { MIG_REC_STATE, 1, 0, MIG_REC_LEN_MAX }, HV_E_SHORT },
        { { 0x8000, 1, 0, UINT64_MAX }, HV_E_PROTO },
    };
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        struct mig_rec out;
        mig_rec_put(h, &t[i].rec);
        struct rd r = rd_init(h, sizeof(h));
        assert_int_equal(mig_rec_get(&r, &out), t[i].want);
    }
}

static void test_versions(void **s)
{
    (void)s;
    struct {
        uint16_t min, max;
        enum hv_err want;
    } t[] = {
        { 1, 1, HV_OK }, { 1, 5, HV_OK }, { 3, 5, HV_E_VERSION }, { 0, 1, HV_E_PROTO }, { 3, 2, HV_E_PROTO },
    };
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        uint8_t p[MIG_PREAMBLE_LEN];
        struct wr w = wr_init(p, sizeof(p));
        uint16_t v = 0, min, max;
        wr_bytes(&w, MIG_MAGIC, 8);
        wr_u16(&w, t[i].min);
        wr_u16(&w, t[i].max);
        wr_u32(&w, 0);
        struct rd r = rd_init(p, sizeof(p));
        assert_int_equal(mig_preamble_get(&r, &v, &min, &max), t[i].want);
        if (!t[i].want)
            assert_int_equal(v, MIN(t[i].max, 2));
        p[12] = 1;
        r = rd_init(p, sizeof(p));
        assert_int_equal(mig_preamble_get(&r, &v, &min, &max), HV_E_PROTO);
    }
}

/* Each field of a batch out of its range. */
static void test_batch_ranges(void **s)
{
    (void)s;
    struct {
        uint32_t entries, data;
        uint8_t codec, reserved;
        uint64_t entry;
        size_t stored;
        enum hv_err want;
    } t[] = {
        { 1, 256, 0, 0, UINT64_C(1) << 63, 256, HV_OK },
        { 1, 256, 1, 0, UINT64_C(1) << 63, 20, HV_OK },
        { 1, 0, 0, 0, 5, 0, HV_OK },
        { 0, 0, 0, 0, 5, 0, HV_E_PROTO },
        { MIG_BATCH_PAGES_MAX + 1, 0, 0, 0, 5, 0, HV_E_PROTO },
        { 2, 256, 0, 0, UINT64_C(1) << 63, 256, HV_E_PROTO }, /* an entry missing */
        { 1, 512, 0, 0, UINT64_C(1) << 63, 512, HV_E_PROTO }, /* more data than map bits */
        { 1, 256, 0, 0, UINT64_C(3) << 62, 256, HV_E_PROTO }, /* fewer */
        { 1, 256, 0, 0, UINT64_C(1) << 63, 255, HV_E_PROTO },
        { 1, 256, 1, 0, UINT64_C(1) << 63, 256, HV_E_PROTO }, /* LZ4 must shrink */
        { 1, 256, 1, 0, UINT64_C(1) << 63, 0, HV_E_PROTO },
        { 1, 256, 2, 0, UINT64_C(1) << 63, 256, HV_E_PROTO },
        { 1, 256, 0, 1, UINT64_C(1) << 63, 256, HV_E_PROTO },
        { 1, 256, 0, 0, UINT64_C(1) << 63 | UINT64_C(1) << 40, 256, HV_E_PROTO },
        { 1, MIG_BATCH_DATA_MAX + 256, 0, 0, UINT64_C(1) << 63, MIG_BATCH_DATA_MAX + 256, HV_E_PROTO },
    };
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        static uint8_t p[MIG_BATCH_DATA_MAX + 1024];
        struct wr w = wr_init(p, sizeof(p));
        struct mig_p_batch b;
        wr_u32(&w, t[i].entries);
        wr_u32(&w, t[i].data);
        wr_u8(&w, t[i].codec);
        wr_uint(&w, t[i].reserved, 7);
        w.len += t[i].stored;
        wr_u64(&w, t[i].entry);
        struct rd r = rd_init(p, w.len);
        assert_int_equal(mig_batch_get(&r, &b), t[i].want);
    }
}

/* Each field of a write to a disk out of its range. */
static void test_disk_ranges(void **s)
{
    (void)s;
    static const struct {
        uint8_t op, codec, reserved;
        uint32_t len;
        uint64_t number, offset;
        size_t stored;
        enum hv_err want;
    } t[] = {
        { 1, 0, 0, 512, 1, 0, 512, HV_OK },
        { 1, 0, 0, MIG_DISK_DATA_MAX, 1, 0, MIG_DISK_DATA_MAX, HV_OK },
        { 1, 0, 0, MIG_DISK_DATA_MAX + 1, 1, 0, MIG_DISK_DATA_MAX + 1, HV_E_PROTO },
        { 1, 1, 0, 512, 1, 0, 20, HV_OK },
        { 1, 1, 0, 512, 1, 0, 512, HV_E_PROTO }, /* LZ4 must shrink */
        { 1, 1, 0, 512, 1, 0, 0, HV_E_PROTO },
        { 1, 2, 0, 512, 1, 0, 20, HV_E_PROTO },
        { 1, 0, 0, 512, 1, 0, 511, HV_E_PROTO },
        { 1, 0, 0, 0, 1, 0, 0, HV_E_PROTO },
        { 1, 0, 1, 512, 1, 0, 512, HV_E_PROTO },
        { 1, 0, 0, 512, 0, 0, 512, HV_E_PROTO },
        { 1, 0, 0, 512, 1, MIG_DISK_BYTES - 512, 512, HV_OK },
        { 1, 0, 0, 512, 1, MIG_DISK_BYTES - 511, 512, HV_E_PROTO },
        { 1, 0, 0, 512, 1, UINT64_MAX, 512, HV_E_PROTO },
        { 2, 0, 0, MIG_DISK_ZEROES_MAX, 1, 0, 0, HV_OK },
        { 2, 0, 0, MIG_DISK_ZEROES_MAX + 1, 1, 0, 0, HV_E_PROTO },
        { 2, 0, 0, 512, 1, 0, 1, HV_E_PROTO },
        { 2, 1, 0, 512, 1, 0, 0, HV_E_PROTO },
        { 3, 0, 0, 0, 1, 0, 0, HV_OK },
        { 3, 0, 0, 512, 1, 0, 0, HV_E_PROTO },
        { 3, 0, 0, 0, 1, 512, 0, HV_E_PROTO },
        { 0, 0, 0, 512, 1, 0, 0, HV_E_PROTO },
        { 4, 0, 0, 512, 1, 0, 0, HV_E_PROTO },
    };
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        static uint8_t p[MIG_DISK_DATA_MAX + 64];
        struct wr w = wr_init(p, sizeof(p));
        struct mig_p_disk d = { .req = { 0, (enum mig_disk_op)t[i].op, t[i].offset, t[i].len, t[i].number },
                                .codec = t[i].codec };
        mig_disk_put(&w, &d);
        p[3] = t[i].reserved;
        struct rd r = rd_init(p, w.len + t[i].stored);
        if (mig_disk_get(&r, &d) != t[i].want)
            fail_msg("row %zu", i);
    }
}

static void test_text(void **s)
{
    (void)s;
    char t[] = "a\x1b[2J\nb\xff";
    mig_text_clean(t);
    assert_string_equal(t, "a?[2J\nb?");
    struct mig_fifo f = { .buf = buf, .cap = sizeof(buf) };
    for (int code = -2; code <= 6; code++)
        for (unsigned k = 0; k < 3; k++) {
            static const enum mig_rec_type types[] = { MIG_REC_ANSWER, MIG_REC_FAIL, MIG_REC_FOUND };
            struct mig_rec rec;
            f.head = f.tail = 0;
            mig_text_put(&f, types[k], &(struct mig_p_text){ ID, code, "x", 1 });
            struct rd r = rd_init(f.buf, f.tail);
            assert_int_equal(mig_rec_get(&r, &rec), HV_OK);
            bool good = k == 1 ? code < 0 : code >= 0 && code <= (k == 0 ? 2 : 5);
            assert_int_equal(parse(&rec, rd_init(f.buf + MIG_REC_HDR_LEN, rec.len)), good ? HV_OK : HV_E_PROTO);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncation),  cmocka_unit_test(test_golden),   cmocka_unit_test(test_console_numbers),
        cmocka_unit_test(test_header),      cmocka_unit_test(test_versions), cmocka_unit_test(test_batch_ranges),
        cmocka_unit_test(test_disk_ranges), cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
