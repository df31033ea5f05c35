/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_dial.c - the order in which a peer's addresses are tried, and the choice of the best destination. */
/* unit-sources: kernel/peers/dial.c kernel/peers/choose_best.c kernel/peers/stream_io.c kernel/config/config.c
 *   kernel/config/config_keys.c kernel/lib/err.c tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/peers/choose.h"
#include "kernel/peers/dial.h"

/* A stream of which only the address and the fate are known. */
struct stream {
    enum stream_status status;
    uint8_t last;
    bool closed;
};
static struct stream made[8];
static unsigned n_made;
static uint8_t answers; /* the host part that answers; 0: none does */
static enum hv_err connect_error;

enum hv_err stream_connect(const struct peer_config *peer, struct stream **out)
{
    if (connect_error)
        return connect_error;
    made[n_made] = (struct stream){ peer->ip[3] == answers ? STREAM_OPEN : STREAM_FAILED, peer->ip[3], false };
    *out = &made[n_made++];
    return HV_OK;
}
enum stream_status stream_status(const struct stream *s) { return s->status; }
enum hv_err stream_error(const struct stream *s)
{
    (void)s;
    return HV_E_TIMEOUT;
}
const char *stream_reason(const struct stream *s)
{
    static char text[32];
    snprintf(text, sizeof(text), "no answer from .%u", s->last);
    return text;
}
void stream_close(struct stream *s) { s->closed = true; }
size_t stream_read(struct stream *s, void *buf, size_t cap)
{
    (void)s, (void)buf, (void)cap;
    return 0;
}
size_t stream_write(struct stream *s, const void *buf, size_t len)
{
    (void)s, (void)buf;
    return len;
}
void stream_flush(struct stream *s) { (void)s; }

static struct config parse(const char *networks, const char *addresses)
{
    static struct config c;
    char text[400];
    snprintf(text, sizeof(text),
             "[host]\nname = a\n%s%s\n[peer b]\naddress = %s\nfingerprint = "
             "0000000000000000000000000000000000000000000000000000000000000001\n",
             networks ? "networks = " : "", networks ? networks : "", addresses);
    config_parse(text, strlen(text), &c, NULL, NULL);
    assert_int_equal(c.n_errors, 0);
    assert_int_equal(c.n_peers, 1);
    n_made = 0;
    answers = 0;
    connect_error = HV_OK;
    return c;
}

/* "10.0.0.1 10.0.0.2 ": the order in which they would be tried */
static const char *order(const char *networks, const char *addresses)
{
    static char text[100];
    struct config c = parse(networks, addresses);
    uint8_t ip[CONFIG_MAX_ADDRESSES][4];
    unsigned n = dial_order(&c, &c.peers[0], NULL, ip);
    text[0] = 0;
    for (unsigned i = 0; i < n; i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%u.%u.%u.%u ", ip[i][0], ip[i][1], ip[i][2],
                 ip[i][3]);
    return text;
}

static void test_order(void **s)
{
    (void)s;
    assert_string_equal(order(NULL, "10.0.0.2"), "10.0.0.2 ");
    assert_string_equal(order(NULL, "10.0.0.2, 9.0.0.2, 11.0.0.2"), "10.0.0.2 9.0.0.2 11.0.0.2 ");
    assert_string_equal(order("11.0.0.0/8, 10.0.0.0/24", "10.0.0.2, 9.0.0.2, 11.0.0.2, 10.0.0.3"),
                        "11.0.0.2 10.0.0.2 10.0.0.3 ");
    assert_string_equal(order("11.0.0.0/8", "10.0.0.2"), "");
    assert_string_equal(order("10.0.0.2/32", "10.0.0.3, 10.0.0.2"), "10.0.0.2 ");
}

static const struct config_network *only; /* what an operator has asked for */

static enum dial_state dial(struct dial *d, const struct config *c)
{
    enum dial_state st = DIAL_WAIT;
    dial_begin(d, c, &c->peers[0], only);
    for (unsigned i = 0; i < 20 && st == DIAL_WAIT; i++)
        st = dial_step(d);
    return st;
}

static void test_fallback(void **s)
{
    (void)s;
    struct dial d;
    char text[20];
    struct config c = parse(NULL, "10.0.0.2, 10.0.0.3, 10.0.0.4");
    answers = 3;
    assert_int_equal(dial(&d, &c), DIAL_OPEN);
    assert_string_equal(d.text, "no answer from .2");
    dial_address(&d, text, sizeof(text));
    assert_string_equal(text, "10.0.0.3");
    assert_ptr_equal(dial_take(&d), &made[1]);
    dial_end(&d);
    assert_true(made[0].closed && !made[1].closed);
    assert_int_equal(n_made, 2);

    c = parse(NULL, "10.0.0.2, 10.0.0.3");
    assert_int_equal(dial(&d, &c), DIAL_FAILED);
    assert_int_equal(d.err, HV_E_TIMEOUT);
    assert_string_equal(d.text, "no answer from .2; no answer from .3");
    assert_true(made[0].closed && made[1].closed);

    c = parse("11.0.0.0/8", "10.0.0.2");
    assert_int_equal(dial(&d, &c), DIAL_FAILED);
    assert_int_equal(d.err, HV_E_REFUSED);
    assert_non_null(strstr(d.text, "[host] networks"));
    assert_int_equal(n_made, 0);

    c = parse(NULL, "10.0.0.2");
    connect_error = HV_E_UNSUPP;
    assert_int_equal(dial(&d, &c), DIAL_FAILED);
    assert_non_null(strstr(d.text, "no network"));
    c = parse(NULL, "10.0.0.2");
    connect_error = HV_E_NOMEM;
    assert_int_equal(dial(&d, &c), DIAL_FAILED);
    assert_int_equal(d.err, HV_E_NOMEM);
    assert_non_null(strstr(d.text, "not enough memory"));
}

/* One network was asked for: nothing else is tried, and not what [host] networks forbids. */
static void test_only(void **s)
{
    (void)s;
    struct dial d;
    struct config_network n;
    assert_true(config_network_parse("11.0.0.0/8", &n));
    only = &n;
    struct config c = parse(NULL, "10.0.0.2, 11.0.0.3");
    answers = 2;
    assert_int_equal(dial(&d, &c), DIAL_FAILED);
    assert_string_equal(d.text, "no answer from .3");
    c = parse("10.0.0.0/8", "10.0.0.2, 11.0.0.3");
    assert_int_equal(dial(&d, &c), DIAL_FAILED);
    assert_non_null(strstr(d.text, "none of its addresses is in a network for moves"));
    n = (struct config_network){ .prefix_len = 0 }; /* any */
    c = parse(NULL, "10.0.0.2, 11.0.0.3");
    answers = 3;
    assert_int_equal(dial(&d, &c), DIAL_OPEN);
    dial_end(&d);
    only = NULL;
}

static void test_peers_fault(void **s)
{
    (void)s;
    static const enum hv_err its_own[] = { HV_E_REFUSED, HV_E_CLOSED, HV_E_TIMEOUT, HV_E_NOMEM };
    static const enum hv_err not[] = { HV_E_CANCEL, HV_E_BUSY, HV_E_GUEST, HV_E_DIGEST };
    for (unsigned i = 0; i < ARRAY_SIZE(its_own); i++)
        assert_true(choose_peers_fault(false, its_own[i]));
    for (unsigned i = 0; i < ARRAY_SIZE(not); i++)
        assert_false(choose_peers_fault(false, not[i]));
    assert_true(choose_peers_fault(true, HV_E_AUTH));
    assert_false(choose_peers_fault(true, HV_OK) || choose_peers_fault(false, HV_OK));
}

static void test_best(void **s)
{
    (void)s;
    static struct ask_reply r[4];
    unsigned best = 99, could;
    r[0] = (struct ask_reply){ .state = ASK_ANSWERED, .free_bytes = 100 };
    r[1] = (struct ask_reply){ .state = ASK_ANSWERED, .free_bytes = 900, .n_reasons = 1 };
    r[2] = (struct ask_reply){ .state = ASK_ANSWERED, .free_bytes = 500 };
    r[3] = (struct ask_reply){ .state = ASK_FAILED, .free_bytes = 9000 };
    assert_true(choose_best(r, 4, 0, &best, &could));
    assert_int_equal(best, 2);
    assert_int_equal(could, 2);
    assert_true(choose_best(r, 4, BIT32(2), &best, &could));
    assert_int_equal(best, 0);
    assert_false(choose_best(r, 4, BIT32(2) | BIT32(0), &best, &could));
    assert_int_equal(could, 0);
    assert_false(choose_best(r, 0, 0, &best, &could));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_order), cmocka_unit_test(test_fallback),
                                        cmocka_unit_test(test_only), cmocka_unit_test(test_best),
                                        cmocka_unit_test(test_peers_fault) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
