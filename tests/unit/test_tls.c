/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/lib/wipe.c net/tls.c net/cipher.c net/entropy.c net/jitter.c kernel/lib/err.c
 *   tests/fakes/net_env.c tests/fakes/log.c */
/* unit-deps: bearssl */
/* tests/unit/test_tls.c - two TLS sessions connected in memory: which peers are accepted, which are refused, and the
 * effect of corrupted data. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net/net.h"
#include "net/tls.h"
#include "tests/unit/net_keys.h"

static struct peer_config right, wrong;

static enum hv_err init_with(const uint8_t *cert, size_t cl, const uint8_t *key, size_t kl, const char **why)
{
    return tls_init(cert, cl, "host.crt", key, kl, "host.key",
                    &(struct entropy_seed){ (const uint8_t *)"seed", 4, false }, why);
}

static int set_up(void **state)
{
    (void)state;
    const char *why = "";
    if (init_with(cert_a, sizeof(cert_a), key_a, sizeof(key_a), &why) != HV_OK)
        return -1;
    right = (struct peer_config){ .name = "right" };
    wrong = (struct peer_config){ .name = "wrong" };
    memcpy(right.fingerprint, tls_own_fingerprint(), TLS_FP_LEN);
    memcpy(wrong.fingerprint, tls_own_fingerprint(), TLS_FP_LEN);
    wrong.fingerprint[31] ^= 1;
    return 0;
}

static int damage_at = -1; /* flip a bit of this byte of the stream */

/** Sealed bytes of from to to, at most chunk at a time; true if any. */
static bool carry(struct tls *from, struct tls *to, size_t chunk)
{
    size_t n, room;
    const uint8_t *p = tls_out_peek(from, &n);
    uint8_t *q = tls_in_room(to, &room);
    if (!p || !q)
        return false;
    n = MIN(MIN(n, room), chunk);
    memcpy(q, p, n);
    if (damage_at >= 0 && (size_t)damage_at < n)
        q[damage_at] ^= 0x10;
    if (damage_at >= 0)
        damage_at = (size_t)damage_at < n ? -1 : damage_at - (int)n;
    tls_out_done(from, n);
    tls_in_done(to, n);
    return true;
}

static void exchange(struct tls *a, struct tls *b, size_t chunk)
{
    while (carry(a, b, chunk) | carry(b, a, chunk)) {}
}

struct pair {
    struct tls *client, *server;
};

static struct pair pair_make(const struct peer_config *want, const struct peer_config *known, unsigned n_known,
                             size_t chunk)
{
    struct pair p = { tls_client(want, "peer"), tls_server(known, n_known, "peer") };
    assert_non_null(p.client);
    assert_non_null(p.server);
    exchange(p.client, p.server, chunk);
    return p;
}

static void pair_free(struct pair p)
{
    tls_free(p.client);
    tls_free(p.server);
}

static void test_data_both_ways(void **state)
{
    (void)state;
    static const size_t chunks[] = { 1, 7, 100000 };
    const struct peer_config known[2] = { wrong, right };
    for (unsigned c = 0; c < ARRAY_SIZE(chunks); c++) {
        struct pair p = pair_make(&right, known, 2, chunks[c]);
        assert_int_equal(tls_state(p.client), TLS_OPEN);
        assert_int_equal(tls_state(p.server), TLS_OPEN);
        assert_string_equal(tls_peer(p.server)->name, "right");
        assert_string_equal(tls_peer(p.client)->name, "right");
        static uint8_t sent[100000], got[100000];
        for (size_t i = 0; i < sizeof(sent); i++)
            sent[i] = (uint8_t)(i * 7 + i / 256);
        size_t n_sent = 0, n_got = 0;
        while (n_got < sizeof(sent)) {
            n_sent += tls_write(p.client, sent + n_sent, sizeof(sent) - n_sent);
            tls_flush(p.client);
            exchange(p.client, p.server, chunks[c]);
            n_got += tls_read(p.server, got + n_got, sizeof(got) - n_got);
        }
        assert_memory_equal(sent, got, sizeof(sent));
        assert_int_equal(tls_write(p.server, "hello", 5), 5);
        size_t n;
        assert_null(tls_out_peek(p.server, &n)); /* not sealed before the flush */
        tls_flush(p.server);
        exchange(p.client, p.server, chunks[c]);
        assert_int_equal(tls_read(p.client, got, sizeof(got)), 5);
        assert_memory_equal(got, "hello", 5);
        pair_free(p);
    }
}

static void test_goodbye(void **state)
{
    (void)state;
    struct pair p = pair_make(&right, &right, 1, 4096);
    uint8_t buf[8];
    assert_int_equal(tls_write(p.client, "last", 4), 4);
    tls_flush(p.client);
    exchange(p.client, p.server, 4096);
    tls_close(p.client);
    exchange(p.client, p.server, 4096);
    assert_int_equal(tls_read(p.server, buf, sizeof(buf)), 4);
    exchange(p.client, p.server, 4096);
    assert_int_equal(tls_state(p.server), TLS_CLOSED);
    assert_int_equal(tls_state(p.client), TLS_CLOSED);
    assert_int_equal(tls_write(p.client, "x", 1), 0);
    pair_free(p);
}

/* The server does not know the client: it ends in AUTH, naming the fingerprint; the client learns that it is not
 * trusted, and nothing else. */
static void test_unknown_client(void **state)
{
    (void)state;
    char fp[TLS_FP_TEXT_LEN];
    tls_fp_text(tls_own_fingerprint(), fp);
    struct pair p = pair_make(&right, &wrong, 1, 4096);
    assert_int_equal(tls_state(p.server), TLS_FAILED);
    assert_int_equal(tls_error(p.server), HV_E_AUTH);
    assert_non_null(strstr(tls_reason(p.server), fp));
    assert_null(tls_peer(p.server));
    assert_int_equal(tls_state(p.client), TLS_FAILED);
    assert_int_equal(tls_error(p.client), HV_E_AUTH);
    assert_non_null(strstr(tls_reason(p.client), "does not trust"));
    pair_free(p);
    p = pair_make(&right, NULL, 0, 4096); /* no peers at all */
    assert_int_equal(tls_error(p.server), HV_E_AUTH);
    pair_free(p);
}

static void test_wrong_server(void **state)
{
    (void)state;
    struct pair p = pair_make(&wrong, &right, 1, 4096);
    assert_int_equal(tls_state(p.client), TLS_FAILED);
    assert_int_equal(tls_error(p.client), HV_E_AUTH);
    assert_non_null(strstr(tls_reason(p.client), "[peer wrong]"));
    assert_int_equal(tls_state(p.server), TLS_FAILED);
    assert_int_equal(tls_error(p.server), HV_E_AUTH);
    pair_free(p);
}

static void test_tampered_record(void **state)
{
    (void)state;
    uint8_t buf[64];
    for (int at = 5; at < 40; at += 3) {
        struct pair p = pair_make(&right, &right, 1, 4096);
        assert_int_equal(tls_write(p.client, "0123456789", 10), 10);
        tls_flush(p.client);
        damage_at = at;
        exchange(p.client, p.server, 4096);
        bool hit = damage_at < 0;
        damage_at = -1;
        if (hit) {
            assert_int_equal(tls_read(p.server, buf, sizeof(buf)), 0);
            assert_int_equal(tls_state(p.server), TLS_FAILED);
            assert_int_equal(tls_error(p.server), HV_E_DIGEST);
        }
        pair_free(p);
    }
}

/* No damaged byte of a handshake may lead to an open session that differs, or to a crash. */
static void test_tampered_handshake(void **state)
{
    (void)state;
    for (int at = 0; at < 1500; at += 61) {
        damage_at = at;
        struct pair p = pair_make(&right, &right, 1, 4096);
        bool both = tls_state(p.client) == TLS_OPEN && tls_state(p.server) == TLS_OPEN;
        assert_true(!both || damage_at >= 0);
        damage_at = -1;
        pair_free(p);
    }
}

static void test_noise(void **state)
{
    (void)state;
    struct tls *t = tls_server(&right, 1, "peer");
    size_t room;
    for (unsigned i = 0; i < 100; i++) {
        uint8_t *p = tls_in_room(t, &room);
        if (!p)
            break;
        memset(p, (int)(i * 37), MIN(room, 50));
        tls_in_done(t, MIN(room, 50));
    }
    assert_int_equal(tls_state(t), TLS_FAILED);
    assert_int_equal(tls_error(t), HV_E_PROTO);
    tls_free(t);
}

static void test_bad_files(void **state)
{
    (void)state;
    const char *why = "";
    assert_int_equal(init_with(NULL, 0, key_a, sizeof(key_a), &why), HV_E_AUTH);
    assert_non_null(strstr(why, "host.crt is missing"));
    assert_int_equal(init_with(cert_a, sizeof(cert_a), NULL, 0, &why), HV_E_AUTH);
    assert_non_null(strstr(why, "host.key is missing"));
    const char pem[] = "-----BEGIN CERTIFICATE-----";
    assert_int_equal(init_with((const uint8_t *)pem, sizeof(pem), key_a, sizeof(key_a), &why), HV_E_AUTH);
    assert_non_null(strstr(why, "PEM"));
    assert_int_equal(init_with(cert_a, sizeof(cert_a) - 90, key_a, sizeof(key_a), &why), HV_E_AUTH);
    assert_int_equal(init_with(cert_a, sizeof(cert_a), key_a, 20, &why), HV_E_AUTH);
    assert_int_equal(init_with(cert_a, sizeof(cert_a), key_b, sizeof(key_b), &why), HV_E_AUTH);
    assert_non_null(strstr(why, "does not belong"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_data_both_ways, set_up),  cmocka_unit_test_setup(test_goodbye, set_up),
        cmocka_unit_test_setup(test_unknown_client, set_up),  cmocka_unit_test_setup(test_wrong_server, set_up),
        cmocka_unit_test_setup(test_tampered_record, set_up), cmocka_unit_test_setup(test_tampered_handshake, set_up),
        cmocka_unit_test_setup(test_noise, set_up),           cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
