/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: net/vswitch.c net/announce.c tests/fakes/log.c */
/* tests/unit/test_vswitch.c - the virtual switch: learning, ageing, flooding, back-pressure; and the announcement
 * frame. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "net/announce.h"
#include "net/vswitch.h"

struct sink {
    struct vswitch_port port;
    unsigned n;
    uint8_t last[64];
    enum hv_err answer;
};

static enum hv_err sink_deliver(struct vswitch_port *p, const uint8_t *frame, size_t len)
{
    struct sink *s = p->ctx;
    if (s->answer != HV_OK)
        return s->answer;
    s->n++;
    memcpy(s->last, frame, MIN(len, sizeof(s->last)));
    return HV_OK;
}

static struct vswitch sw;
static struct sink a, b, c;
static const uint8_t mac_a[6] = { 2, 0, 0, 0, 0, 1 }, mac_b[6] = { 2, 0, 0, 0, 0, 2 }, mac_c[6] = { 2, 0, 0, 0, 0, 3 };
static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 };

static int set_up(void **state)
{
    (void)state;
    struct sink *s[] = { &a, &b, &c };
    vswitch_init(&sw);
    for (unsigned i = 0; i < 3; i++) {
        *s[i] = (struct sink){ .port = { .name = "p", .deliver = sink_deliver, .ctx = s[i] } };
        assert_int_equal(vswitch_attach(&sw, &s[i]->port), HV_OK);
    }
    return 0;
}

static enum hv_err send(struct sink *from, const uint8_t dst[6], const uint8_t src[6], uint64_t now)
{
    uint8_t f[60] = { 0 };
    memcpy(f, dst, 6);
    memcpy(f + 6, src, 6);
    return vswitch_input(&sw, &from->port, f, sizeof(f), now);
}

static void test_unknown_floods_known_does_not(void **state)
{
    (void)state;
    assert_int_equal(send(&a, mac_b, mac_a, 1), HV_OK);
    assert_int_equal(a.n + 10 * b.n + 100 * c.n, 110);
    assert_int_equal(send(&b, mac_a, mac_b, 2), HV_OK); /* a was learnt */
    assert_int_equal(a.n + 10 * b.n + 100 * c.n, 111);
    assert_int_equal(send(&a, mac_b, mac_a, 3), HV_OK); /* and so was b */
    assert_int_equal(a.n + 10 * b.n + 100 * c.n, 121);
    assert_int_equal(send(&a, all, mac_a, 4), HV_OK); /* broadcast goes everywhere else */
    assert_int_equal(a.n + 10 * b.n + 100 * c.n, 231);
}

static void test_station_moves(void **state)
{
    (void)state;
    send(&a, all, mac_a, 1);
    assert_ptr_equal(vswitch_lookup(&sw, mac_a, 2), &a.port);
    send(&c, all, mac_a, 3);
    assert_ptr_equal(vswitch_lookup(&sw, mac_a, 4), &c.port);
}

static void test_ageing(void **state)
{
    (void)state;
    send(&a, all, mac_a, 1000);
    assert_ptr_equal(vswitch_lookup(&sw, mac_a, 999 + VSWITCH_AGE_US), &a.port);
    assert_null(vswitch_lookup(&sw, mac_a, 1000 + VSWITCH_AGE_US));
}

static void test_own_mac_cannot_be_stolen(void **state)
{
    (void)state;
    memcpy(a.port.mac, mac_a, 6);
    send(&c, all, mac_a, 1);
    assert_ptr_equal(vswitch_lookup(&sw, mac_a, 2), &a.port);
    send(&b, mac_a, mac_b, 3);
    assert_int_equal(a.n, 2);
    assert_int_equal(c.n, 0);
}

static void test_full_port_pushes_back(void **state)
{
    (void)state;
    send(&b, all, mac_b, 1);
    b.answer = HV_E_AGAIN;
    assert_int_equal(send(&a, mac_b, mac_a, 2), HV_E_AGAIN);
    assert_int_equal(b.port.tx_refused, 1);
    assert_int_equal(send(&a, all, mac_a, 3), HV_OK); /* a flood does not wait for one */
    assert_int_equal(sw.n_dropped, 1);
    b.answer = HV_OK;
    assert_int_equal(send(&a, mac_b, mac_a, 4), HV_OK);
}

static void test_same_port_is_filtered(void **state)
{
    (void)state;
    send(&a, all, mac_a, 1);
    send(&a, all, mac_b, 2);
    a.n = b.n = c.n = 0;
    assert_int_equal(send(&a, mac_a, mac_b, 3), HV_OK);
    assert_int_equal(a.n + b.n + c.n, 0);
}

static void test_detach_forgets(void **state)
{
    (void)state;
    send(&a, all, mac_a, 1);
    vswitch_detach(&sw, &a.port);
    assert_null(vswitch_lookup(&sw, mac_a, 2));
    assert_int_equal(send(&a, all, mac_a, 3), HV_E_INVAL);
    vswitch_detach(&sw, &a.port);
    assert_int_equal(vswitch_attach(&sw, &a.port), HV_OK);
}

static void test_bad_frames(void **state)
{
    (void)state;
    static uint8_t big[ETH_FRAME_MAX + 1];
    assert_int_equal(vswitch_input(&sw, &a.port, big, 13, 1), HV_E_INVAL);
    assert_int_equal(vswitch_input(&sw, &a.port, big, sizeof(big), 1), HV_E_INVAL);
    assert_int_equal(a.port.bad, 2);
}

/* A flood of invented addresses may push others out, but a host that goes on talking is found again at once. */
static void test_mac_flood(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 100000; i++) {
        const uint8_t m[6] = { 2, 1, (uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i };
        send(&a, mac_c, m, i);
    }
    send(&b, all, mac_b, 100001);
    assert_ptr_equal(vswitch_lookup(&sw, mac_b, 100002), &b.port);
    const uint8_t group[6] = { 3, 0, 0, 0, 0, 9 }, zero[6] = { 0 };
    send(&a, all, group, 5);
    send(&a, all, zero, 5);
    assert_null(vswitch_lookup(&sw, zero, 6));
}

static void test_ports_run_out(void **state)
{
    (void)state;
    static struct vswitch_port more[VSWITCH_MAX_PORTS];
    for (unsigned i = 0; i < VSWITCH_MAX_PORTS; i++)
        more[i].deliver = sink_deliver;
    for (unsigned i = 3; i < VSWITCH_MAX_PORTS; i++)
        assert_int_equal(vswitch_attach(&sw, &more[i]), HV_OK);
    assert_int_equal(vswitch_attach(&sw, &more[0]), HV_E_NOMEM);
}

static void test_announcement(void **state)
{
    (void)state;
    announce_init(&b.port);
    announce_start(mac_c, 1000);
    assert_int_equal(b.n, 1);
    assert_memory_equal(b.last, all, 6);
    assert_memory_equal(b.last + 6, mac_c, 6);
    assert_int_equal(b.last[12] << 8 | b.last[13], 0x8035);
    assert_int_equal(b.last[21], 3);
    assert_memory_equal(b.last + 22, mac_c, 6);
    assert_memory_equal(b.last + 32, mac_c, 6);
    b.answer = HV_E_AGAIN;
    assert_false(announce_poll(51000)); /* held back: still due */
    b.answer = HV_OK;
    for (uint64_t t = 51000; t < 3000000; t += 1000)
        announce_poll(t);
    assert_int_equal(b.n, 5);
    assert_true(announce_next_us() == UINT64_MAX);
    announce_init(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_unknown_floods_known_does_not, set_up),
        cmocka_unit_test_setup(test_station_moves, set_up),
        cmocka_unit_test_setup(test_ageing, set_up),
        cmocka_unit_test_setup(test_own_mac_cannot_be_stolen, set_up),
        cmocka_unit_test_setup(test_full_port_pushes_back, set_up),
        cmocka_unit_test_setup(test_same_port_is_filtered, set_up),
        cmocka_unit_test_setup(test_detach_forgets, set_up),
        cmocka_unit_test_setup(test_bad_frames, set_up),
        cmocka_unit_test_setup(test_mac_flood, set_up),
        cmocka_unit_test_setup(test_ports_run_out, set_up),
        cmocka_unit_test_setup(test_announcement, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
