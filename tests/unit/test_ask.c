/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_ask.c - probes that move nothing: asker and destination of migrate/ask.c, with good answers, invalid
 * answers, and none. */
/* unit-sources: migrate/ask.c migrate/mig.c migrate/rx.c migrate/wire.c migrate/hash.c migrate/batch.c migrate/policy.c
 *   kernel/lib/err.c tests/fakes/fake_guest.c tests/fakes/log.c */
/* unit-deps: lz4 */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "migrate/ask.h"
#include "migrate/wire.h"
#include "tests/fakes/fake_guest.h"

static const struct mig_id TICKET = { { 5 } };
static struct fake_guest dest;
static struct mig_ids ids;
static struct mig_rx *rx;
static struct mig_ask *ask;
static uint64_t now;

static void begin(void)
{
    fake_mem_bytes = 0;
    now = 1000000;
    fake_dest_init(&dest);
    struct mig_rx_params p = { .ops = &fake_dst_ops, .ctx = &dest, .mem = fake_mem, .ids = &ids, .now_us = now };
    assert_int_equal(mig_rx_create(&p, &rx), HV_OK);
    assert_int_equal(mig_ask_create(&fake_mem, now, &ask), HV_OK);
}
static void end(void)
{
    mig_ask_destroy(ask);
    mig_rx_destroy(rx);
    fake_guest_fini(&dest);
    assert_int_equal(fake_mem_bytes, 0);
}

static void carry(struct mig_fifo *from, struct mig_fifo *to, size_t max)
{
    size_t len, room;
    const uint8_t *src = mig_fifo_data(from, &len);
    uint8_t *dst = mig_fifo_space(to, 1, &room);
    size_t n = MIN(MIN(len, room), max);
    memcpy(dst, src, n);
    mig_fifo_commit(to, n);
    mig_fifo_consume(from, n);
}

static enum hv_err answer(struct mig_answer *a, size_t bytes_per_turn)
{
    enum hv_err e = HV_E_AGAIN;
    for (unsigned i = 0; i < 100000 && e == HV_E_AGAIN; i++) {
        carry(&mig_ask_io(ask)->out, &mig_rx_io(rx)->in, bytes_per_turn);
        mig_rx_step(rx, now);
        carry(&mig_rx_io(rx)->out, &mig_ask_io(ask)->in, bytes_per_turn);
        e = mig_ask_step(ask, now, a);
        now += 50;
    }
    return e;
}

/* Many questions over one stream, in pieces of any size; closing it is no failure of the machine that answered. */
static void test_questions(void **s)
{
    (void)s;
    static struct mig_answer a;
    begin();
    for (unsigned i = 0; i < 40; i++) {
        const uint8_t mac[6] = { 2, 0, 0, 0, 0, 9 };
        dest.found = (enum mig_find)(i % 5);
        if (i % 4 == 3) { /* the address is told for one question, not for the next */
            assert_int_equal(mig_ask_mac(ask, mac), HV_OK);
            assert_int_equal(mig_ask_find(ask, "web-1", &TICKET, now), HV_OK);
            assert_int_equal(mig_ask_mac(ask, mac), HV_E_BUSY);
            assert_int_equal(answer(&a, 1 + i * 7), HV_OK);
            assert_int_equal(a.find, MIG_F_MAC);
        }
        assert_int_equal(mig_ask_find(ask, "web-1", &TICKET, now), HV_OK);
        assert_int_equal(mig_ask_find(ask, "web-1", &TICKET, now), HV_E_BUSY);
        assert_int_equal(answer(&a, 1 + i * 7), HV_OK);
        assert_int_equal(a.find, dest.found);
        assert_int_equal(a.ticket.b[0], dest.found == MIG_F_WANTED ? 77 : 0);
        assert_string_equal(a.text, "web-1?"); /* the escape character is gone */
        dest.refuse = i % 3;
        assert_int_equal(mig_ask_probe(ask, "web-1", 1000, "fake offer", 10, now), HV_OK);
        assert_int_equal(answer(&a, 1 + i * 7), HV_OK);
        assert_int_equal(a.n_reasons, i % 3);
        assert_int_equal(a.free_bytes, 123456789);
        assert_int_equal(strstr(a.text, "reason 1 of the test") != NULL, i % 3 == 2);
    }
    assert_false(dest.exists); /* nothing was taken in */
    assert_int_equal(mig_rx_state(rx), MIG_RX_WAIT_OFFER);
    mig_rx_link_lost(rx, HV_E_CLOSED, "closed", now);
    assert_int_equal(mig_rx_state(rx), MIG_RX_ANSWERED);
    end();
}

/* The machine that was asked something can still take a guest. */
static void test_offer_after_question(void **s)
{
    (void)s;
    static struct mig_answer a;
    begin();
    assert_int_equal(mig_ask_find(ask, "g", &TICKET, now), HV_OK);
    assert_int_equal(answer(&a, 100), HV_OK);
    mig_offer_put(&mig_rx_io(rx)->in,
                  &(struct mig_p_offer){
                      .n_pages = 100, .name = "g", .offer = (const uint8_t *)"fake offer", .offer_len = 10 });
    mig_rx_step(rx, now);
    assert_int_equal(mig_rx_state(rx), MIG_RX_LOADING);
    struct mig_p_find late = { .name = "g" };
    mig_find_put(&mig_rx_io(rx)->in, &late); /* but no question in the middle of a move */
    mig_rx_step(rx, now);
    assert_int_equal(mig_rx_state(rx), MIG_RX_DROPPED);
    end();
}

static void test_bad_questions(void **s)
{
    (void)s;
    static const uint8_t big[MIG_OFFER_MAX + 1];
    char name[MIG_NAME_MAX + 1];
    begin();
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = 0;
    assert_int_equal(mig_ask_find(ask, "", &TICKET, now), HV_E_INVAL);
    assert_int_equal(mig_ask_find(ask, "a b", &TICKET, now), HV_E_INVAL);
    assert_int_equal(mig_ask_find(ask, name, &TICKET, now), HV_E_INVAL);
    assert_int_equal(mig_ask_probe(ask, "g", 0, big, 10, now), HV_E_INVAL);
    assert_int_equal(mig_ask_probe(ask, "g", 1, big, sizeof(big), now), HV_E_INVAL);
    assert_int_equal(mig_ask_probe(ask, "g", 1, big, MIG_OFFER_MAX, now), HV_OK);
    end();
}

/* What the peer says is put into the asker's queue by hand: a refusal, another record, damaged
 * ones, a huge one, nothing. */
static void test_bad_answers(void **s)
{
    (void)s;
    static struct mig_answer a;
    for (unsigned kind = 0; kind < 8; kind++) {
        begin();
        struct mig_fifo *in = &mig_ask_io(ask)->in;
        assert_int_equal(mig_ask_find(ask, "g", &TICKET, now), HV_OK);
        if (kind != 6)
            mig_preamble_put(in);
        if (kind == 7)
            in->buf[8] = 7, in->buf[10] = 9; /* versions 7 to 9 */
        uint8_t hdr[MIG_REC_HDR_LEN];
        size_t room;
        switch (kind) {
        case 0: mig_text_put(in, MIG_REC_FAIL, &(struct mig_p_text){ TICKET, HV_E_VERSION, "too old", 7 }); break;
        case 1: mig_id_put(in, MIG_REC_ACCEPT, &TICKET); break;
        case 2: mig_text_put(in, MIG_REC_FOUND, &(struct mig_p_text){ TICKET, 99, "x", 1 }); break;
        case 3:
            mig_rec_put(hdr, &(struct mig_rec){ MIG_REC_FOUND, 1, 0, MIG_REC_LEN_MAX });
            memcpy(mig_fifo_space(in, sizeof(hdr), &room), hdr, sizeof(hdr));
            mig_fifo_commit(in, sizeof(hdr));
            break;
        case 4:
            memset(mig_fifo_space(in, 16, &room), 0, 16);
            mig_fifo_commit(in, 16);
            break;
        case 5: now += MIG_ASK_US; break;
        case 6:
            memset(mig_fifo_space(in, 16, &room), 'x', 16);
            mig_fifo_commit(in, 16);
            break;
        }
        static const enum hv_err want[] = { HV_E_VERSION, HV_E_PROTO,   HV_E_PROTO, HV_E_PROTO,
                                            HV_E_PROTO,   HV_E_TIMEOUT, HV_E_PROTO, HV_E_VERSION };
        a.text[0] = 0;
        assert_int_equal(mig_ask_step(ask, now, &a), want[kind]);
        assert_true(a.text[0]);
        assert_int_equal(mig_ask_step(ask, now, &a), HV_E_CLOSED);
        end();
    }
}

/* "Busy, later" is no refusal; a refusal without words gets some. */
static void test_later(void **s)
{
    (void)s;
    static struct mig_answer a;
    begin();
    assert_int_equal(mig_ask_find(ask, "g", &TICKET, now), HV_OK);
    mig_busy_put(&mig_ask_io(ask)->in, "no place now");
    assert_int_equal(mig_ask_step(ask, now, &a), HV_E_BUSY);
    assert_string_equal(a.text, "no place now");
    end();
    begin();
    assert_int_equal(mig_ask_find(ask, "g", &TICKET, now), HV_OK);
    mig_preamble_put(&mig_ask_io(ask)->in);
    mig_text_put(&mig_ask_io(ask)->in, MIG_REC_FAIL, &(struct mig_p_text){ TICKET, HV_E_NOMEM, "", 0 });
    assert_int_equal(mig_ask_step(ask, now, &a), HV_E_NOMEM);
    assert_non_null(strstr(a.text, hv_err_text(HV_E_NOMEM)));
    end();
}

static void test_no_memory(void **s)
{
    (void)s;
    struct mig_ask *m;
    fake_mem_bytes = 0;
    for (fake_mem_limit = 1; fake_mem_limit < 40000; fake_mem_limit += 1000) {
        enum hv_err e = mig_ask_create(&fake_mem, 0, &m);
        if (e)
            assert_int_equal(e, HV_E_NOMEM);
        mig_ask_destroy(m);
        assert_int_equal(fake_mem_bytes, 0);
    }
    fake_mem_limit = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_questions),     cmocka_unit_test(test_offer_after_question),
        cmocka_unit_test(test_bad_questions), cmocka_unit_test(test_bad_answers),
        cmocka_unit_test(test_no_memory),     cmocka_unit_test(test_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
