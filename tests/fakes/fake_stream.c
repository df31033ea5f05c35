/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/fake_stream.c - see fake_stream.h. */
#include "tests/fakes/fake_stream.h"

#include <stdlib.h>
#include <string.h>
#include "kernel/host/clock.h"

struct fake_stream fake_stream;
uint64_t fake_now_us;
uint64_t clock_us(void) { return fake_now_us; }

static void check(const struct stream *s)
{
    if (!fake_stream.alive || (const void *)s != &fake_stream)
        abort();
}

void fake_stream_reset(void)
{
    struct fake_stream *f = &fake_stream;
    f->alive = false;
    f->n_connects = f->n_aborts = f->n_closes = 0;
    f->connect_error = HV_OK;
    f->tls = f->tls_error = false;
    f->to_len = f->to_pos = f->from_len = 0;
    fake_stream.read_max = fake_stream.write_room = SIZE_MAX;
    fake_now_us = 1000000;
}

enum hv_err stream_connect_plain(const uint8_t ip[4], uint16_t port, struct stream **out)
{
    (void)ip, (void)port;
    if (fake_stream.alive)
        abort();
    fake_stream.n_connects++;
    if (fake_stream.connect_error)
        return fake_stream.connect_error;
    fake_stream.alive = true;
    fake_stream.status = STREAM_CONNECTING;
    fake_stream.tls = false;
    fake_stream.to_len = fake_stream.to_pos = fake_stream.from_len = 0;
    *out = (struct stream *)(void *)&fake_stream;
    return HV_OK;
}
enum hv_err stream_start_tls(struct stream *s, const char *name, const uint8_t fingerprint[32])
{
    struct fake_stream *f = &fake_stream;
    check(s);
    if (!name[0] || fingerprint[31] != 0xf1 || f->tls)
        abort();
    if (f->tls_error || f->status != STREAM_OPEN || f->to_pos != f->to_len)
        return HV_E_UNSUPP;
    f->tls = true;
    f->status = STREAM_CONNECTING;
    return HV_OK;
}
enum stream_status stream_status(const struct stream *s)
{
    check(s);
    return fake_stream.status;
}
const char *stream_reason(const struct stream *s)
{
    check(s);
    return "the test says so";
}

const struct peer_config *stream_peer(const struct stream *s)
{
    check(s);
    return fake_stream.peer;
}

const uint8_t *stream_ip(const struct stream *s)
{
    static const uint8_t ip[4] = { 10, 0, 0, 1 };
    check(s);
    return ip;
}

size_t stream_read(struct stream *s, void *buf, size_t cap)
{
    struct fake_stream *f = &fake_stream;
    check(s);
    size_t n = MIN(MIN(cap, f->read_max), f->to_len - f->to_pos);
    memcpy(buf, f->to_client + f->to_pos, n);
    f->to_pos += n;
    return n;
}
size_t stream_write(struct stream *s, const void *buf, size_t len)
{
    struct fake_stream *f = &fake_stream;
    check(s);
    size_t n = f->status == STREAM_OPEN ? MIN(MIN(len, f->write_room), sizeof(f->from_client) - f->from_len) : 0;
    memcpy(f->from_client + f->from_len, buf, n);
    f->from_len += n;
    if (f->write_room != SIZE_MAX)
        f->write_room -= n;
    return n;
}
void stream_flush(struct stream *s) { check(s); }
void stream_close(struct stream *s)
{
    check(s);
    fake_stream.alive = false;
    fake_stream.n_closes++;
}
void stream_abort(struct stream *s)
{
    check(s);
    fake_stream.alive = false;
    fake_stream.n_aborts++;
}
