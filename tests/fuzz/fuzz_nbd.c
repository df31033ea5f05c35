/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz-sources: net/nbd.c kernel/lib/err.c tests/fakes/fake_stream.c tests/fakes/page.c tests/fakes/log_quiet.c */
/* tests/fuzz/fuzz_nbd.c - an NBD server that sends anything, at any time, in any pieces.
 *
 * Input: operations of one byte with their arguments: bytes from the server (raw, a reply to a pending request, or a
 * whole valid negotiation), requests of the guest, room to send, time, loss.  For every input, each request completes
 * at most once and data stays within its request; in the end a correct server completes all of them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "net/nbd.h"
#include "tests/fakes/fake_stream.h"

#define CHECK(x)     \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)
#define F     fake_stream
#define N_REQ 16u
#define SIZE  (1 * MIB)
static struct disk *d;
static struct {
    struct disk_req r;
    bool pending, gone;
} req[N_REQ];
static unsigned n_pending;

static unsigned index_of(const struct disk_req *r)
{
    for (unsigned i = 0; i < N_REQ; i++)
        if (r == &req[i].r)
            return i;
    abort();
}
static bool get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    CHECK(req[index_of(r)].pending && r->op == DISK_WRITE && off + n <= r->len);
    memset(buf, 0x77, n);
    return !req[index_of(r)].gone;
}
static void put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)buf)[i]);
    CHECK(req[index_of(r)].pending && r->op == DISK_READ && off + n <= r->len);
}
static void done(struct disk_req *r, enum disk_status s)
{
    unsigned i = index_of(r);
    CHECK(req[i].pending && s != DISK_PENDING);
    req[i].pending = false;
    n_pending--;
}

static void say(uint64_t val, unsigned bytes)
{
    while (bytes-- && F.to_len < FAKE_STREAM_CAP)
        F.to_client[F.to_len++] = (uint8_t)(val >> (8 * bytes));
}
static bool tls; /* the disk has a fingerprint */
static void turn(void)
{
    for (unsigned i = 0; d->ops->poll(d); i++)
        CHECK(i < 100000);
}
static void say_good_negotiation(void)
{
    say(0x4e42444d41474943, 8);
    say(0x49484156454f5054, 8);
    say(3, 2);
    if (tls) {
        turn();
        say(0x3e889045565a9, 8);
        say(5, 4);
        say(1, 4);
        say(0, 4);
        turn();
        if (!F.alive)
            return;
        F.status = STREAM_OPEN;
    }
    say(0x3e889045565a9, 8);
    say(7, 4);
    say(3, 4);
    say(12, 4);
    say(0, 2);
    say(SIZE, 8);
    say(101, 2);
    say(0x3e889045565a9, 8);
    say(7, 4);
    say(1, 4);
    say(0, 4);
}

static void ask(uint8_t what)
{
    unsigned i = 0;
    while (i < N_REQ && req[i].pending)
        i++;
    if (i == N_REQ || !d->known)
        return;
    enum disk_op op = (enum disk_op)(what % 5);
    uint64_t len = op == DISK_FLUSH ? 0 : 512ul << (what / 5 % 8);
    req[i].r = (struct disk_req){ .op = op, .len = len, .offset = 0, .get = get, .put = put, .done = done };
    req[i].pending = true;
    req[i].gone = false;
    n_pending++;
    CHECK(d->ops->submit(d, &req[i].r) == DISK_PENDING);
}

/* A reply, as a good server would give it, to the request whose header is the n-th of what the client
 * said on this connection. */
static size_t parsed;
static bool answer_next(void)
{
    const uint8_t *p = F.from_client + parsed;
    if (parsed == 0 && F.from_len >= 4 && p[0] != 0x25)
        parsed = 4; /* our flags and options come first */
    for (p = F.from_client + parsed; F.from_len >= parsed + 16 && !memcmp(p, "IHAVEOPT", 8); p = F.from_client + parsed)
        parsed += 16u + (unsigned)(p[15] | p[14] << 8);
    if (F.from_len < parsed + 28)
        return false;
    CHECK(p[0] == 0x25 && p[1] == 0x60 && p[2] == 0x95 && p[3] == 0x13);
    unsigned type = p[7], len = (unsigned)(p[24] << 24 | p[25] << 16 | p[26] << 8 | p[27]);
    size_t whole = 28 + (type == 1 ? len : 0);
    if (F.from_len < parsed + whole)
        return false;
    parsed += whole;
    say(0x67446698, 4);
    say(0, 4);
    for (unsigned i = 0; i < 8; i++)
        say(p[8 + i], 1);
    for (unsigned i = 0; type == 0 && i < len; i++)
        say(i, 1);
    return true;
}

static void finish_with_a_good_server(void)
{
    F.read_max = F.write_room = SIZE_MAX;
    for (unsigned tries = 0; tries < 8 && (n_pending || !d->known || d->lost_us); tries++) {
        if (F.alive)
            F.status = STREAM_FAILED;
        F.to_pos = F.to_len;
        turn();
        fake_now_us += 5000000;
        turn();
        if (!F.alive)
            continue;
        F.status = STREAM_OPEN;
        parsed = 0;
        say_good_negotiation();
        turn();
        for (unsigned i = 0; i < 1000 && F.alive && (answer_next() || i < 4); i++)
            turn();
    }
    CHECK(!n_pending);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tls = size && data[0] >= 0xc0;
    struct nbd_config c = {
        .ip = { 10, 0, 0, 9 }, .port = 10809, .name = "web", .tls = tls, .fingerprint = { [31] = 0xf1 }
    };
    fake_stream_reset();
    memset(req, 0, sizeof(req));
    n_pending = 0;
    CHECK(nbd_open(&c, &d) == HV_OK);
    for (size_t i = 0; i + 1 < size; i += 2) {
        uint8_t arg = data[i + 1];
        switch (data[i] % 12) {
        case 0: say(arg, 1); break;
        case 1:
            for (size_t n = arg; n && i + 2 < size; n--, i++)
                say(data[i + 2], 1);
            break;
        case 2:
            parsed = 0;
            say_good_negotiation();
            break;
        case 3: (void)answer_next(); break;
        case 4: ask(arg); break;
        case 5: F.write_room = arg * 64; break;
        case 6: F.read_max = arg + 1; break;
        case 7: F.status = (enum stream_status)(arg % 4); break;
        case 8: fake_now_us += arg * 100000; break;
        case 9: req[arg % N_REQ].gone = true; break;
        case 10:
            say(0x67446698, 4);
            say(arg & 3 ? 0 : 5, 4);
            say(arg, 8);
            break;
        case 11:
            F.write_room = F.read_max = SIZE_MAX;
            F.status = STREAM_OPEN;
            break;
        }
        unsigned before = F.n_connects;
        turn();
        if (F.n_connects != before)
            parsed = 0;
    }
    if (d->known && d->info.bytes != SIZE) { /* a size of its own: no good server has that export */
        d->ops->close(d);
        return 0;
    }
    if (!d->known ||
        (d->info.flush && d->info.discard && d->info.zeroes && d->info.block == DISK_SECTOR && !d->info.read_only))
        finish_with_a_good_server();
    d->ops->close(d);
    CHECK(!F.alive);
    return 0;
}
