/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: net/net.c net/stream.c net/tls.c net/cipher.c net/entropy.c net/jitter.c net/heap.c net/checksum.c
 *   net/tcp_guard.c net/lwip_port.c net/vswitch.c net/port_filter.c net/announce.c
 *   kernel/config/config.c kernel/config/config_keys.c kernel/lib/err.c
 *   kernel/lib/print.c kernel/lib/wipe.c tests/fakes/net_env.c tests/fakes/log.c
 *   tests/fakes/nic_socket.c tests/fakes/echo_server.c */
/* unit-deps: bearssl lwip */
/* tests/unit/test_net.c - two whole network stacks in two processes, connected by a socket: working streams, and every
 * way in which streams fail.
 *
 * lwIP exists once per process, so each test forks: the child is host B (10.0.0.2, listening, identity b), the parent's
 * first fork host A (10.0.0.1, identity a).  A's exit code is the test's result. */
#include <bearssl.h>
#include <cmocka.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#undef BYTE_ORDER /* net/port/arch/cc.h says it again */
#include <lwip/tcp.h>
#include "kernel/host/clock.h"
#include "net/net.h"
#include "net/net_internal.h"
#include "net/stream.h"
#include "tests/fakes/echo_server.h"
#include "tests/fakes/nic_socket.h"
#include "tests/unit/net_keys.h"

#define CHECK(x)                                                    \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            _exit(1);                                               \
        }                                                           \
    } while (0)

struct scene {
    void (*host_a)(void);
    void (*host_b)(void);
    unsigned mtu, lose, push_back;
    bool b_knows_a, a_knows_b, b_is_c; /* b_is_c: host B shows identity c */
    bool b_decides;                    /* host B's exit code counts, too */
    bool api, b_has_client_a;          /* A dials the management interface; B knows A as a client */
};

extern uint64_t fake_clock_skip_us; /* tests/fakes/net_env.c */
static struct config conf;
static struct stream *accepted;
static pid_t pid_b;

static void on_accept(struct stream *s) { accepted = s; }

static void on_wrong_port(struct stream *s)
{
    (void)s;
    CHECK(!"a client came in on the port for peers, or a peer on the one for clients");
}

static void fp_of(const uint8_t *cert, size_t len, uint8_t out[32])
{
    br_sha256_context h;
    br_sha256_init(&h);
    br_sha256_update(&h, cert, len);
    br_sha256_out(&h, out);
}

static void host_start(bool is_a, const struct scene *sc, int fd)
{
    nic_socket_fd = fd;
    nic_socket_mtu = sc->mtu;
    nic_socket_lose = sc->lose;
    nic_socket_push_back = sc->push_back;
    nic_socket_mac[5] = is_a ? 1 : 2;
    conf.host = (struct host_config){ .name = "x",
                                      .ip = { 10, 0, 0, is_a ? 1 : 2 },
                                      .prefix_len = 24,
                                      .port = 7420,
                                      .cert = "host.crt",
                                      .key = "host.key" };
    struct peer_config *p = &conf.peers[0];
    *p = (struct peer_config){ .name = "peer", .ip = { 10, 0, 0, is_a ? 2 : 1 }, .port = 7420 };
    conf.n_peers = 1;
    if (is_a && sc->a_knows_b)
        fp_of(cert_b, sizeof(cert_b), p->fingerprint);
    if (!is_a && sc->b_knows_a)
        fp_of(cert_a, sizeof(cert_a), p->fingerprint);
    if (sc->api) {
        conf.host.api_port = 7443;
        p->port = is_a ? 7443 : 7420;
        conf.clients[0] = (struct peer_config){ .name = "client", .trust = TRUST_READ };
        fp_of(sc->b_has_client_a ? cert_a : cert_c, sc->b_has_client_a ? sizeof(cert_a) : sizeof(cert_c),
              conf.clients[0].fingerprint);
    }
    struct net_params np = { .config = &conf,
                             .on_accept = sc->api ? on_wrong_port : on_accept,
                             .on_client = on_accept,
                             .cert_der = is_a         ? cert_a
                                         : sc->b_is_c ? cert_c
                                                      : cert_b,
                             .cert_len = is_a         ? sizeof(cert_a)
                                         : sc->b_is_c ? sizeof(cert_c)
                                                      : sizeof(cert_b),
                             .key_der = is_a         ? key_a
                                        : sc->b_is_c ? key_c
                                                     : key_b,
                             .key_len = is_a         ? sizeof(key_a)
                                        : sc->b_is_c ? sizeof(key_c)
                                                     : sizeof(key_b) };
    static struct net_params kept;
    kept = np;
    CHECK(net_init(&kept) == HV_OK);
    conf.n_clients = sc->api; /* as from the registry, which is read now */
    (void)streams_poll();     /* it listens before the other host's first frame is received */
    CHECK(net_is_up());
}

static void run_scene(const struct scene *sc)
{
    int fd[2], status, big = 1 << 20;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd), 0);
    for (int i = 0; i < 2; i++)
        setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
    fflush(NULL);
    pid_b = fork();
    if (!pid_b) {
        close(fd[0]);
        alarm(60);
        host_start(false, sc, fd[1]);
        sc->host_b();
        _exit(0);
    }
    pid_t a = fork();
    if (!a) {
        close(fd[1]);
        alarm(60);
        host_start(true, sc, fd[0]);
        sc->host_a();
        _exit(0);
    }
    close(fd[0]);
    close(fd[1]);
    assert_int_equal(waitpid(a, &status, 0), a);
    int status_b = 0;
    if (!sc->b_decides || status)
        kill(pid_b, SIGKILL);
    waitpid(pid_b, &status_b, 0);
    assert_int_equal(status, 0);
    if (sc->b_decides)
        assert_int_equal(status_b, 0);
}

static void turn(void)
{
    if (!net_poll())
        usleep(50);
}

static void turn_for(uint64_t us)
{
    for (uint64_t end = clock_us() + us; clock_us() < end;)
        turn();
}

static struct stream *dial(void)
{
    struct stream *s;
    CHECK(stream_connect(&conf.peers[0], &s) == HV_OK);
    while (stream_status(s) == STREAM_CONNECTING)
        turn();
    return s;
}

static uint8_t pattern(size_t i) { return (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 17)); }

/* --- host B's ways to behave --- */

static void b_echo(void) /* sends back what it gets, until told goodbye; then waits for the next */
{
    static uint8_t buf[65536];
    size_t have = 0, sent = 0;
    for (;;) {
        turn();
        struct stream *s = accepted;
        if (!s)
            continue;
        if (sent == have) {
            have = stream_read(s, buf, sizeof(buf));
            sent = 0;
        }
        if (sent < have) {
            sent += stream_write(s, buf + sent, have - sent);
            stream_flush(s);
        } else if (stream_status(s) != STREAM_OPEN) {
            stream_close(s);
            accepted = NULL;
        }
    }
}

static void b_poll(void)
{
    for (;;)
        turn();
}

#define CLOSING_BYTES (3 * MIB + 12345)

static void b_take_all(void) /* slowly, so that the sender's queues are full when it closes */
{
    static uint8_t buf[3000];
    size_t n = 0;
    while (!accepted || stream_status(accepted) == STREAM_OPEN) {
        turn();
        for (size_t got; accepted && (got = stream_read(accepted, buf, sizeof(buf))); n += got)
            for (size_t i = 0; i < got; i++)
                CHECK(buf[i] == pattern(n + i));
    }
    CHECK(stream_status(accepted) == STREAM_CLOSED && n == CLOSING_BYTES);
}

static void b_plain_echo(void)
{
    echo_server_start(10809);
    for (;;) {
        turn();
        echo_server_turn();
    }
}

static void b_removes_its_peer(void)
{
    uint8_t buf[100];
    size_t n = 0;
    while (!accepted || !(n = stream_read(accepted, buf, sizeof(buf))))
        turn();
    CHECK(n == 5 && stream_status(accepted) == STREAM_OPEN);
    conf.peers[0].removed = true;
    turn();
    CHECK(stream_status(accepted) == STREAM_FAILED && stream_error(accepted) == HV_E_AUTH);
    CHECK(strstr(stream_reason(accepted), "was removed from this host's peers"));
    turn_for(200000);
    CHECK(!stream_read(accepted, buf, sizeof(buf)));
    stream_close(accepted);
    turn_for(100000);
}

/* --- host A's tests --- */

static void a_is_removed(void)
{
    struct stream *s = dial();
    CHECK(stream_write(s, "hello", 5) == 5);
    stream_flush(s);
    while (stream_status(s) == STREAM_OPEN)
        turn();
    CHECK(stream_status(s) == STREAM_FAILED && stream_error(s) == HV_E_CLOSED);
}

static struct stream *dial_plain(uint16_t port)
{
    struct stream *s;
    CHECK(stream_connect_plain(conf.peers[0].ip, port, &s) == HV_OK);
    while (stream_status(s) == STREAM_CONNECTING)
        turn();
    return s;
}

static void a_plain(void)
{
    enum { LEN = 700000 };
    static uint8_t buf[5000];
    struct stream *s = dial_plain(10809);
    CHECK(stream_status(s) == STREAM_OPEN && !stream_peer(s));
    for (size_t put = 0, got = 0; got < LEN;) {
        size_t n = MIN(sizeof(buf), LEN - put);
        for (size_t i = 0; i < n; i++)
            buf[i] = pattern(put + i);
        put += stream_write(s, buf, n);
        stream_flush(s);
        turn();
        n = stream_read(s, buf, 1 + got % sizeof(buf));
        for (size_t i = 0; i < n; i++)
            CHECK(buf[i] == pattern(got + i));
        got += n;
        CHECK(stream_status(s) == STREAM_OPEN);
    }
    stream_close(s);
    turn_for(200000);
    s = dial_plain(7420); /* a server that ends the connection: here B's TLS, which wants no such bytes */
    (void)stream_write(s, "GET / HTTP/1.0\r\n\r\n", 18);
    stream_flush(s);
    while (stream_status(s) == STREAM_OPEN)
        turn(), (void)stream_read(s, buf, sizeof(buf));
    CHECK(stream_status(s) == STREAM_FAILED && stream_error(s) == HV_E_CLOSED);
    stream_close(s);
    s = dial_plain(10810);
    CHECK(stream_error(s) == HV_E_REFUSED && strstr(stream_reason(s), "does the server run there"));
    stream_abort(s);
    s = dial_plain(10809);
    stream_abort(s);
    turn_for(100000);
}

/* A bare stream that goes on with TLS; B speaks TLS from the start, so nothing was said before. */
static void a_tls_later(void)
{
    uint8_t wrong[32], buf[1000];
    struct stream *s = dial_plain(7420);
    CHECK(stream_status(s) == STREAM_OPEN && !stream_peer(s));
    CHECK(stream_start_tls(s, "server", conf.peers[0].fingerprint) == HV_OK && stream_status(s) == STREAM_CONNECTING);
    CHECK(stream_start_tls(s, "server", conf.peers[0].fingerprint) == HV_E_UNSUPP && stream_write(s, "x", 1) == 0);
    while (stream_status(s) == STREAM_CONNECTING)
        turn();
    CHECK(stream_status(s) == STREAM_OPEN && !strcmp(stream_peer(s)->name, "server"));
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = pattern(i);
    CHECK(stream_write(s, buf, sizeof(buf)) == sizeof(buf));
    stream_flush(s);
    memset(buf, 0, sizeof(buf));
    for (size_t n = 0; n < sizeof(buf); n += stream_read(s, buf + n, sizeof(buf) - n))
        turn();
    for (size_t i = 0; i < sizeof(buf); i++)
        CHECK(buf[i] == pattern(i));
    stream_close(s);
    turn_for(200000);
    memcpy(wrong, conf.peers[0].fingerprint, 32);
    wrong[0] ^= 1;
    s = dial_plain(7420);
    CHECK(stream_start_tls(s, "server", wrong) == HV_OK);
    while (stream_status(s) == STREAM_CONNECTING)
        turn();
    CHECK(stream_status(s) == STREAM_FAILED && stream_error(s) == HV_E_AUTH &&
          strstr(stream_reason(s), "disk-fingerprint"));
    stream_close(s);
    turn_for(1500000);
}

static void a_close_behind_data(void)
{
    static uint8_t out[CLOSING_BYTES];
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = pattern(i);
    struct stream *s = dial();
    for (size_t n = 0; n < sizeof(out); n += stream_write(s, out + n, sizeof(out) - n))
        turn();
    stream_close(s);
    turn_for(1000000);
}

#define BULK (48 * MIB)

static void a_bulk(void)
{
    static uint8_t out[128 * KIB], in[128 * KIB];
    struct stream *s = dial();
    CHECK(stream_status(s) == STREAM_OPEN && strcmp(stream_peer(s)->name, "peer") == 0);
    size_t n_out = 0, n_in = 0, bulk = nic_socket_lose ? 2 * MIB : BULK;
    uint64_t start = clock_us();
    while (n_in < bulk) {
        size_t n = MIN(sizeof(out), bulk - n_out);
        for (size_t i = 0; i < n; i++)
            out[i] = pattern(n_out + i);
        n_out += stream_write(s, out, n);
        if (n_out == bulk)
            stream_flush(s);
        size_t got = stream_read(s, in, sizeof(in));
        for (size_t i = 0; i < got; i++)
            CHECK(in[i] == pattern(n_in + i));
        n_in += got;
        turn();
        CHECK(stream_status(s) == STREAM_OPEN);
    }
    fprintf(stderr, "echoed %zu MiB in %lu ms, wire out %lu in %lu\n", bulk >> 20, (clock_us() - start) / 1000,
            stream_wire_tx(s), stream_wire_rx(s));
    CHECK(stream_wire_tx(s) > bulk && stream_wire_tx(s) < bulk * 12 / 10);
    CHECK(stream_wire_rx(s) > bulk && stream_wire_rx(s) < bulk * 12 / 10);
    turn_for(nic_socket_lose ? 2000000 : 20000);
    CHECK(stream_unsent(s) == 0);
    CHECK(stream_rtt_us(s) > 0 && stream_rtt_us(s) < 5000000);
    stream_close(s);
    turn_for(100000);
    s = dial(); /* and once more: nothing was left behind */
    CHECK(stream_status(s) == STREAM_OPEN);
}

/* Many short sessions, more than there are places for streams. */
static void a_many(void)
{
    for (unsigned i = 0; i < 40; i++) {
        struct stream *s = dial();
        CHECK(stream_status(s) == STREAM_OPEN);
        CHECK(stream_write(s, "ping", 4) == 4);
        stream_flush(s);
        uint8_t buf[8];
        while (!stream_read(s, buf, sizeof(buf)))
            turn();
        CHECK(memcmp(buf, "ping", 4) == 0);
        stream_close(s);
        turn_for(2000);
    }
}

static void a_round_trip(void)
{
    struct stream *s = dial();
    uint8_t buf[64];
    uint64_t start = 0;
    const unsigned n_warm = 20, n_trips = 200;
    for (unsigned i = 0; i < n_trips; i++) {
        if (i == n_warm)
            start = clock_us();
        CHECK(stream_write(s, buf, 64) == 64);
        stream_flush(s);
        for (size_t n = 0; n < 64; n += stream_read(s, buf, 64 - n))
            turn();
    }
    uint64_t mean = (clock_us() - start) / (n_trips - n_warm);
    fprintf(stderr, "mean round trip %lu us\n", mean);
    CHECK(mean < 50000); /* a delayed acknowledgement or Nagle would cost 100 ms and more, each time */
}

static void expect_failure(enum hv_err e, const char *words)
{
    struct stream *s = dial();
    turn_for(200000);
    fprintf(stderr, "%s: %s\n", hv_err_name(stream_error(s)), stream_reason(s));
    CHECK(stream_status(s) == STREAM_FAILED && stream_error(s) == e && strstr(stream_reason(s), words));
    CHECK(stream_write(s, "x", 1) == 0);
    stream_close(s);
    turn_for(1500000);
}

static void a_expect_distrust(void) { expect_failure(HV_E_AUTH, "does not trust this host"); }
static void a_expect_wrong_server(void) { expect_failure(HV_E_AUTH, "showed a certificate with fingerprint"); }

/* The management interface: its own certificates, and its own limits.  Connections that fill it leave
 * the port for peers open. */
static void a_is_client(void)
{
    struct stream *s = dial(), *full[12];
    CHECK(stream_status(s) == STREAM_OPEN && strcmp(stream_peer(s)->name, "peer") == 0);
    stream_close(s);
    turn_for(100000);
    for (unsigned i = 0; i < ARRAY_SIZE(full); i++)
        CHECK(stream_connect(&conf.peers[0], &full[i]) == HV_OK);
    turn_for(1000000);
    unsigned n_open = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(full); i++)
        n_open += stream_status(full[i]) == STREAM_OPEN;
    fprintf(stderr, "%u of 12 clients open\n", n_open);
    CHECK(n_open >= 1 && n_open <= 8);
    conf.peers[0].port = 7420;
    s = dial();
    /* not let in (B has no [peer] for A), but heard: with the reason, not busy */
    CHECK(stream_status(s) == STREAM_FAILED);
    turn_for(200000);
    CHECK(stream_error(s) == HV_E_AUTH);
}

static void a_expect_absent(void)
{
    conf.peers[0].ip[3] = 77;
    uint64_t t = clock_us();
    expect_failure(HV_E_TIMEOUT, "no answer from 10.0.0.77:7420");
    CHECK(clock_us() - t < 8000000);
}

static void a_expect_no_port(void)
{
    conf.peers[0].port = 7;
    expect_failure(HV_E_REFUSED, "10.0.0.2:7 refuses");
}

static void a_expect_no_route(void)
{
    conf.peers[0].ip[0] = 99;
    struct stream *s = dial();
    CHECK(stream_status(s) == STREAM_FAILED);
    fprintf(stderr, "%s\n", stream_reason(s));
}

static void expect_death(bool busy)
{
    struct stream *s = dial();
    CHECK(stream_status(s) == STREAM_OPEN);
    nic_socket_cut = true;
    if (busy)
        CHECK(stream_write(s, "lost", 4) == 4);
    stream_flush(s);
    uint64_t t = clock_us();
    while (stream_status(s) == STREAM_OPEN)
        turn();
    fprintf(stderr, "after %lu ms %s: %s\n", (clock_us() - t) / 1000, hv_err_name(stream_error(s)), stream_reason(s));
    CHECK(stream_error(s) == HV_E_TIMEOUT && clock_us() - t < 9000000 && clock_us() - t > 3000000);
    stream_close(s);
    turn_for(10000);
}

static void a_expect_death_idle(void) { expect_death(false); }
static void a_expect_death_busy(void) { expect_death(true); }

/* Bare TCP connections to host B, as anybody on the network can make them. */
static struct tcp_pcb *bare[8];
static void bare_failed(void *arg, err_t e)
{
    (void)e;
    *(struct tcp_pcb **)arg = NULL;
}

static void bare_connect(unsigned n)
{
    ip_addr_t ip;
    IP_ADDR4(&ip, 10, 0, 0, 2);
    for (unsigned i = 0; i < n; i++) {
        CHECK(bare[i] = tcp_new());
        tcp_arg(bare[i], &bare[i]);
        tcp_err(bare[i], bare_failed);
        CHECK(tcp_connect(bare[i], &ip, 7420, NULL) == ERR_OK);
        turn_for(i ? 2000 : 50000); /* the first one asks for B's address */
    }
}

/* More silent connections than there are places: a peer that can authenticate gets in all the same, again and again. */
static void a_past_a_crowd(void)
{
    for (unsigned i = 0; i < 3; i++) {
        bare_connect(8);
        turn_for(100000);
        unsigned alive = 0;
        for (unsigned k = 0; k < 8; k++)
            alive += bare[k] != NULL;
        CHECK(alive <= 4);
        struct stream *s = dial();
        fprintf(stderr, "%u silent ones, then: %s\n", alive,
                stream_status(s) == STREAM_OPEN ? "open" : stream_reason(s));
        CHECK(stream_status(s) == STREAM_OPEN);
        uint8_t buf[8];
        CHECK(stream_write(s, "ping", 4) == 4);
        stream_flush(s);
        while (!stream_read(s, buf, sizeof(buf)))
            turn();
        stream_close(s);
        turn_for(20000);
    }
}

static void a_drip(void)
{
    bare_connect(3);
    for (unsigned i = 0; i < 60; i++) {
        turn_for(50000);
        for (unsigned k = 0; k < 3; k++)
            if (bare[k] && i < 5)
                tcp_write(bare[k], "\x16\x03\x03\x40\x00" + i, 1, TCP_WRITE_FLAG_COPY), tcp_output(bare[k]);
    }
}

struct counter {
    struct printer printer;
    unsigned n_connecting;
};
static void count_connecting(struct printer *p, const char *text)
{
    container_of(p, struct counter, printer)->n_connecting += strstr(text, "connecting") != NULL;
}

static unsigned connecting(void)
{
    struct counter c = { { count_connecting }, 0 };
    net_describe(&c.printer);
    return c.n_connecting;
}

/* A handshake that comes byte by byte ends after 10 s. */
static void b_ends_slow_handshakes(void)
{
    while (connecting() < 3)
        turn();
    for (unsigned s = 0; s < 4; s++) {
        turn_for(60000);
        fake_clock_skip_us += 2000000;
    }
    turn_for(60000);
    CHECK(connecting() == 3);
    fake_clock_skip_us += 2000000;
    turn_for(60000);
    CHECK(connecting() == 0);
}

/* One authenticated peer may have 8 connections: the ninth is told so by the end of the stream, the others go on. */
static void a_too_many_from_one(void)
{
    struct stream *s[9];
    for (unsigned i = 0; i < 9; i++)
        s[i] = dial();
    turn_for(1500000);
    for (unsigned i = 0; i < 8; i++)
        CHECK(stream_status(s[i]) == STREAM_OPEN);
    CHECK(stream_status(s[8]) != STREAM_OPEN);
    stream_close(s[0]);
    turn_for(100000);
    CHECK(stream_status(dial()) == STREAM_OPEN);
}

/* A client of which four connections are open already (it may only read) is told so in HTTP, after the handshake. */
static void a_reader_too_often(void)
{
    struct stream *s[6];
    char text[600] = { 0 };
    for (unsigned i = 0; i < 6; i++)
        s[i] = dial();
    turn_for(300000);
    for (unsigned i = 0; i < 4; i++)
        CHECK(stream_status(s[i]) == STREAM_OPEN);
    for (unsigned i = 4; i < 6; i++) {
        stream_write(s[i], "GET /v1/vms HTTP/1.1\r\n\r\n", 24); /* as a client does, which does not know yet */
        stream_flush(s[i]);
        size_t n = 0;
        for (uint64_t end = clock_us() + 900000; clock_us() < end && stream_status(s[i]) == STREAM_OPEN;) {
            n += stream_read(s[i], text + n, sizeof(text) - 1 - n);
            turn();
        }
        fprintf(stderr, "%s", text);
        CHECK(strstr(text, "HTTP/1.1 503 ") == text && strstr(text, "Retry-After: 1\r\n"));
        const char *body = strstr(text, "\r\n\r\n"), *said = strstr(text, "Content-Length: ");
        CHECK(body && said && strlen(body + 4) == strtoul(said + 16, NULL, 10));
        CHECK(strstr(body, "client has 4 connections open already, 4 are open in all"));
        CHECK(stream_status(s[i]) == STREAM_CLOSED);
    }
    stream_close(s[0]);
    turn_for(100000);
    CHECK(stream_status(dial()) == STREAM_OPEN);
}

static void b_take_and_close(void) /* owns all streams it gets, closes those that are closed */
{
    static struct stream *have[32];
    for (unsigned n = 0;;) {
        turn();
        if (accepted)
            have[n++ % 32] = accepted, accepted = NULL;
        for (unsigned i = 0; i < 32; i++)
            if (have[i] && stream_status(have[i]) != STREAM_OPEN)
                stream_close(have[i]), have[i] = NULL;
    }
}

/* A peer that connects and says nothing, or too many: they cost a place for 10 s at most, and never keep an
 * authenticated one out. */
static void a_connect_many_unknown(void)
{
    struct stream *s[6];
    for (unsigned i = 0; i < 6; i++)
        CHECK(stream_connect(&conf.peers[0], &s[i]) == HV_OK);
    turn_for(4000000);
    unsigned n_auth = 0, n_turned = 0;
    for (unsigned i = 0; i < 6; i++) {
        CHECK(stream_status(s[i]) == STREAM_FAILED);
        n_auth += stream_error(s[i]) == HV_E_AUTH;
        n_turned += stream_error(s[i]) == HV_E_CLOSED || stream_error(s[i]) == HV_E_REFUSED;
    }
    fprintf(stderr, "%u told, %u turned away\n", n_auth, n_turned);
    CHECK(n_auth + n_turned == 6 && n_auth >= 1);
}

#define KNOWN .b_knows_a = true, .a_knows_b = true
static void test_bulk(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_bulk, b_echo, .mtu = 1500, KNOWN });
}
static void test_jumbo(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_bulk, b_echo, .mtu = 9000, KNOWN });
}
static void test_push_back(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_bulk, b_echo, .mtu = 1500, .push_back = 3, KNOWN });
}
static void test_loss(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_bulk, b_echo, .mtu = 1500, .lose = 500, KNOWN });
}
static void test_many(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_many, b_echo, .mtu = 1500, KNOWN });
}
static void test_round_trip(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_round_trip, b_echo, .mtu = 1500, KNOWN });
}
static void test_distrust(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_expect_distrust, b_poll, .mtu = 1500, .a_knows_b = true });
}
static void test_client(void **s)
{
    (void)s;
    run_scene(
        &(struct scene){ a_is_client, b_poll, .mtu = 1500, .a_knows_b = true, .api = true, .b_has_client_a = true });
}
static void test_peer_is_no_client(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_expect_distrust, b_poll, .mtu = 1500, KNOWN, .api = true });
}
static void test_wrong_server(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_expect_wrong_server, b_poll, .mtu = 1500, .b_is_c = true, KNOWN });
}
static void test_absent(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_expect_absent, b_poll, .mtu = 1500, KNOWN });
}
static void test_no_port(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_expect_no_port, b_poll, .mtu = 1500, KNOWN });
}
static void test_no_route(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_expect_no_route, b_poll, .mtu = 1500, KNOWN });
}
static void test_death_idle(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_expect_death_idle, b_poll, .mtu = 1500, KNOWN });
}
static void test_death_busy(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_expect_death_busy, b_poll, .mtu = 1500, KNOWN });
}
static void test_many_unknown(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_connect_many_unknown, b_poll, .mtu = 1500, .a_knows_b = true });
}

static void test_past_a_crowd(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_past_a_crowd, b_echo, .mtu = 1500, KNOWN });
}
static void test_too_many_from_one(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_too_many_from_one, b_take_and_close, .mtu = 1500, KNOWN });
}
static void test_reader_too_often(void **s)
{
    (void)s;
    run_scene(&(struct scene){ .mtu = 1500,
                               .a_knows_b = true,
                               .api = true,
                               .b_has_client_a = true,
                               .host_a = a_reader_too_often,
                               .host_b = b_take_and_close });
}
static void test_removed(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_is_removed, b_removes_its_peer, .mtu = 1500, .b_decides = true, KNOWN });
}
static void test_slow_handshake(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_drip, b_ends_slow_handshakes, .mtu = 1500, .b_decides = true, KNOWN });
}

static void test_close_delivers(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_close_behind_data, b_take_all, .mtu = 1500, .b_decides = true, KNOWN });
}

static void test_plain(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_plain, b_plain_echo, .mtu = 1500, .push_back = 7, KNOWN });
}

static void test_tls_later(void **s)
{
    (void)s;
    run_scene(&(struct scene){ a_tls_later, b_echo, .mtu = 1500, KNOWN });
}

static void test_no_card(void **state)
{
    (void)state;
    pid_t p = fork();
    if (!p) {
        struct net_params np = {
            .config = &conf, .cert_der = cert_a, .cert_len = sizeof(cert_a), .key_der = key_a, .key_len = sizeof(key_a)
        };
        struct stream *s;
        CHECK(net_init(&np) == HV_E_NOENT);
        CHECK(!net_poll() && !net_is_up() && net_next_us() == UINT64_MAX);
        CHECK(stream_connect(&conf.peers[0], &s) == HV_E_UNSUPP);
        net_announce_mac(nic_socket_mac);
        _exit(0);
    }
    int status;
    waitpid(p, &status, 0);
    assert_int_equal(status, 0);
}

/* Such a host has no encrypted connections, but it has an address, for DHCP, ping and disks without TLS. */
static void test_no_key(void **state)
{
    (void)state;
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, fd), 0);
    pid_t p = fork();
    if (!p) {
        struct net_params np = { .config = &conf };
        struct stream *s;
        nic_socket_fd = fd[0];
        conf.host = (struct host_config){ .ip = { 10, 0, 0, 1 }, .prefix_len = 24 };
        CHECK(net_init(&np) == HV_E_AUTH);
        net_poll();
        CHECK(net_is_up() && stream_connect(&conf.peers[0], &s) == HV_E_UNSUPP);
        CHECK(stream_connect_plain((const uint8_t[]){ 10, 0, 0, 2 }, 10809, &s) == HV_OK);
        stream_abort(s);
        net_poll();
        _exit(0);
    }
    int status;
    waitpid(p, &status, 0);
    assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bulk),
        cmocka_unit_test(test_jumbo),
        cmocka_unit_test(test_push_back),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_distrust),
        cmocka_unit_test(test_client),
        cmocka_unit_test(test_peer_is_no_client),
        cmocka_unit_test(test_wrong_server),
        cmocka_unit_test(test_absent),
        cmocka_unit_test(test_no_port),
        cmocka_unit_test(test_no_route),
        cmocka_unit_test(test_death_idle),
        cmocka_unit_test(test_death_busy),
        cmocka_unit_test(test_many_unknown),
        cmocka_unit_test(test_past_a_crowd),
        cmocka_unit_test(test_removed),
        cmocka_unit_test(test_slow_handshake),
        cmocka_unit_test(test_too_many_from_one),
        cmocka_unit_test(test_reader_too_often),
        cmocka_unit_test(test_close_delivers),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_tls_later),
        cmocka_unit_test(test_no_card),
        cmocka_unit_test(test_no_key),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
