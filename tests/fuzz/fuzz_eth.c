/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz-sources: net/net.c net/stream.c net/tls.c net/cipher.c net/entropy.c net/jitter.c net/heap.c net/checksum.c
 *   net/tcp_guard.c net/lwip_port.c net/vswitch.c net/port_filter.c net/announce.c
 *   kernel/config/config.c kernel/config/config_keys.c kernel/lib/err.c
 *   kernel/lib/print.c kernel/lib/wipe.c tests/fakes/net_env.c tests/fakes/nic_socket.c */
/* fuzz-deps: bearssl lwip */
/* tests/fuzz/fuzz_eth.c - frames from the wire into the whole host: switch, lwIP, TCP, TLS server.
 *
 * Input: frames, each after two bytes of length and one of flags.  Unless a flag forbids it, checksums are corrected (a
 * fuzzer cannot guess them) and the destination MAC is set to the host's.  The TCP acknowledgement number can be
 * matched to what the host sent last, so that handshakes succeed and bytes reach TLS.  Time advances between frames. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "net/net.h"
#include "net/stream.h"
#include "tests/fakes/nic_socket.h"
#include "tests/unit/net_keys.h"

enum { RAW_CHECKSUM = 1, RAW_MAC = 2, FOLLOW_ACK = 4, WAIT = 8, WAIT_LONG = 16, RAW_IP = 32 };

extern uint64_t fake_clock_skip_us;
static struct config conf;
static uint32_t last_seq_end, last_ack; /* of the last TCP segment that the host sent */

void log_line(enum log_level level, const char *subject, const char *fmt, ...)
{
    (void)level;
    (void)subject;
    (void)fmt;
}
void panic(const char *fmt, ...)
{
    (void)fmt;
    abort();
}

void assert_fail(const char *file, int line, const char *expr)
{
    panic("%s:%d: assertion failed: %s", file, line, expr);
}

void assert_eq_fail(const char *file, int line, const char *expr, uint64_t a, uint64_t b)
{
    panic("%s:%d: assertion failed: %s, 0x%lx and 0x%lx", file, line, expr, a, b);
}

static uint32_t be(const uint8_t *p, unsigned n)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}
static void put_be(uint8_t *p, uint32_t v, unsigned n)
{
    while (n--) {
        p[n] = (uint8_t)v;
        v >>= 8;
    }
}

static void on_accept(struct stream *s) { stream_close(s); }

static void watch(const uint8_t *f, size_t len)
{
    if (len < 54 || be(f + 12, 2) != 0x0800 || f[23] != 6)
        return;
    size_t head = 14 + 20 + 4 * (size_t)(f[46] >> 4);
    uint32_t payload = be(f + 16, 2) + 14 - (uint32_t)head;
    last_seq_end = be(f + 38, 4) + payload + !!(f[47] & 3); /* SYN and FIN count */
    last_ack = be(f + 42, 4);
}

static uint16_t sum16(const uint8_t *p, size_t n, uint32_t s)
{
    for (size_t i = 0; i < n; i++)
        s += (uint32_t)p[i] << (i & 1 ? 0 : 8);
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)~s;
}

static void repair(uint8_t *f, size_t len, uint8_t flags)
{
    if (!(flags & RAW_MAC) && len >= 12)
        memcpy(f, (flags & 64) ? (const uint8_t *)"\377\377\377\377\377\377" : nic_socket_mac, 6);
    if (len < 34)
        return;
    if (!(flags & RAW_IP)) {
        memcpy(f + 12, "\010\000\105", 3);
        put_be(f + 16, (uint32_t)len - 14, 2);
        put_be(f + 20, 0, 2);
        memcpy(f + 26, "\012\000\000\002\012\000\000\001", 8);
    }
    size_t ihl = 4 * (size_t)(f[14] & 15);
    if (be(f + 12, 2) != 0x0800 || ihl < 20 || 14 + ihl > len || (flags & RAW_CHECKSUM))
        return;
    uint8_t *l4 = f + 14 + ihl;
    size_t l4_len = len - 14 - ihl;
    put_be(f + 24, 0, 2);
    put_be(f + 24, sum16(f + 14, ihl, 0), 2);
    if (f[23] == 6 && l4_len >= 20) {
        if (flags & FOLLOW_ACK) {
            put_be(l4 + 8, last_seq_end, 4);
            if (last_ack)
                put_be(l4 + 4, last_ack, 4);
            put_be(l4 + 2, 7420, 2);
        }
        uint32_t s = 6 + (uint32_t)l4_len;
        for (unsigned i = 0; i < 8; i += 2)
            s += be(f + 26 + i, 2);
        put_be(l4 + 16, 0, 2);
        put_be(l4 + 16, sum16(l4, l4_len, s), 2);
    } else if (f[23] == 17 && l4_len >= 8) {
        put_be(l4 + 6, 0, 2);
    } else if (f[23] == 1 && l4_len >= 4) {
        put_be(l4 + 2, 0, 2);
        put_be(l4 + 2, sum16(l4, l4_len, 0), 2);
    }
}

static void start(void)
{
    static struct net_params np;
    nic_socket_fd = -2; /* a card, but no wire */
    nic_socket_tap = watch;
    conf.host = (struct host_config){ .name = "x", .ip = { 10, 0, 0, 1 }, .prefix_len = 24, .port = 7420 };
    conf.n_peers = 1;
    np = (struct net_params){ &conf, cert_a, sizeof(cert_a), key_a, sizeof(key_a), .on_accept = on_accept };
    if (net_init(&np) != HV_OK)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static bool started;
    if (!started)
        start();
    started = true;
    last_ack = last_seq_end = 0;
    while (len >= 3) {
        size_t n = be(data, 2) & 0x7ff;
        uint8_t flags = data[2], frame[2048];
        data += 3;
        len -= 3;
        if (n > len)
            n = len;
        memcpy(frame, data, n);
        data += n;
        len -= n;
        repair(frame, n, flags);
        nic_socket_inject(frame, n);
        if (flags & WAIT)
            fake_clock_skip_us += 260000;
        if (flags & WAIT_LONG)
            fake_clock_skip_us += 3000000;
        net_poll();
        net_poll();
    }
    fake_clock_skip_us += 12000000; /* everything unfinished runs into its limit: inputs do not pile up */
    for (unsigned i = 0; i < 4; i++) {
        net_poll();
        fake_clock_skip_us += 300000;
    }
    return 0;
}
