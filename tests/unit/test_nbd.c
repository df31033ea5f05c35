/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_nbd.c - the NBD client against a server that the test plays: correct, slow, crashing, malicious. */
/* unit-sources: net/nbd.c kernel/lib/err.c tests/fakes/fake_stream.c tests/fakes/page.c tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "net/nbd.h"
#include "tests/fakes/fake_stream.h"
#include "tests/fakes/page.h"

#define F    fake_stream
#define SIZE (8 * MIB)
enum { FLAGS = 1 | 4 | 32 | 64 }; /* has flags, flush, trim, write zeroes */

static struct disk *d;
struct test_req {
    struct disk_req r;
    unsigned n_done;
    enum disk_status status;
    bool gone;
    uint8_t data[100000];
};
static struct test_req req[8];
static unsigned order[32], n_order; /* in which requests were done */

static bool get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    struct test_req *t = container_of(r, struct test_req, r);
    assert_true(off + n <= r->len);
    if (t->gone)
        return false;
    memcpy(buf, t->data + off, n);
    return true;
}
static void put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    assert_true(off + n <= r->len && r->op == DISK_READ);
    memcpy(container_of(r, struct test_req, r)->data + off, buf, n);
}
static void done(struct disk_req *r, enum disk_status s)
{
    struct test_req *t = container_of(r, struct test_req, r);
    t->n_done++;
    t->status = s;
    order[n_order++ % 32] = (unsigned)(t - req);
}

static int begin(void **state)
{
    (void)state;
    fake_stream_reset();
    memset(req, 0, sizeof(req));
    n_order = 0;
    struct nbd_config c = { .ip = { 10, 0, 0, 9 }, .port = 10809, .name = "web" };
    assert_int_equal(nbd_open(&c, &d), HV_OK);
    return 0;
}
static int end(void **state)
{
    (void)state;
    d->ops->close(d);
    assert_false(F.alive);
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

/* ---- the server's side ---- */

static void turn(void)
{
    for (unsigned i = 0; i < 4 || d->ops->poll(d); i++)
        assert_true(i < 1000000);
}
static void say(uint64_t val, unsigned bytes)
{
    while (bytes--)
        F.to_client[F.to_len++] = (uint8_t)(val >> (8 * bytes));
}
static uint64_t hear(size_t at, unsigned bytes)
{
    uint64_t val = 0;
    assert_true(at + bytes <= F.from_len);
    while (bytes--)
        val = val << 8 | F.from_client[at++];
    return val;
}
static void say_greeting(void)
{
    say(0x4e42444d41474943, 8);
    say(0x49484156454f5054, 8);
    say(3, 2);
}
static void say_option(uint32_t type, uint32_t len)
{
    say(0x3e889045565a9, 8);
    say(7, 4);
    say(type, 4);
    say(len, 4);
}
static void say_export(uint64_t size, unsigned flags)
{
    say_option(3, 12);
    say(0, 2);
    say(size, 8);
    say(flags, 2);
}
static void say_blocks(uint32_t min, uint32_t max)
{
    say_option(3, 14);
    say(3, 2);
    say(min, 4);
    say(4096, 4);
    say(max, 4);
}
static void say_ack(void) { say_option(1, 0); }
static void say_reply(uint64_t cookie, uint32_t error)
{
    say(0x67446698, 4);
    say(error, 4);
    say(cookie, 8);
}

static void accept_client(void)
{
    fake_now_us += 5000000; /* past any wait between attempts */
    turn();
    assert_true(F.alive);
    F.status = STREAM_OPEN;
    turn();
}
static void serve(uint64_t size, unsigned flags)
{
    accept_client();
    say_greeting();
    say_export(size, flags);
    say_blocks(1, 32 * MIB);
    turn();
    F.from_len = 0; /* from here on: requests */
    say_ack();
    turn();
}

static struct test_req *ask(unsigned i, enum disk_op op, uint64_t offset, uint64_t len)
{
    struct test_req *t = &req[i];
    t->r = (struct disk_req){ .op = op, .offset = offset, .len = len, .get = get, .put = put, .done = done };
    t->n_done = 0;
    for (size_t k = 0; k < sizeof(t->data); k++)
        t->data[k] = op == DISK_WRITE ? (uint8_t)(k * 7 + i) : 0;
    assert_int_equal(d->ops->submit(d, &t->r), DISK_PENDING);
    return t;
}

/* The request at *at of what the client said; returns its cookie, *at moves behind it and its data. */
static uint64_t heard(size_t *at, unsigned type, uint64_t offset, uint64_t len)
{
    assert_int_equal(hear(*at, 4), 0x25609513);
    assert_int_equal(hear(*at + 6, 2), type);
    assert_int_equal(hear(*at + 16, 8), offset);
    assert_int_equal(hear(*at + 24, 4), len);
    uint64_t cookie = hear(*at + 8, 8);
    *at += 28 + (type == 1 ? len : 0);
    assert_true(*at <= F.from_len);
    return cookie;
}

/* ---- tests ---- */

static void test_negotiation(void **state)
{
    (void)state;
    static const uint8_t want[] = "\0\0\0\3"
                                  "IHAVEOPT"
                                  "\0\0\0\7"
                                  "\0\0\0\x0b"
                                  "\0\0\0\3"
                                  "web"
                                  "\0\1"
                                  "\0\3";
    assert_string_equal(d->name, "nbd:10.0.0.9:10809/web");
    assert_true(!d->known && d->lost_us);
    accept_client();
    say_greeting();
    turn();
    assert_int_equal(F.from_len, sizeof(want) - 1);
    assert_memory_equal(F.from_client, want, sizeof(want) - 1);
    say_export(SIZE + 100, FLAGS);
    say_blocks(4096, 32 * MIB);
    say_option(3, 6);
    say(1, 2);
    say(0x77656221, 4); /* NBD_INFO_NAME, not asked for: skipped */
    turn();
    assert_false(d->known);
    say_ack();
    turn();
    assert_true(d->known && !d->lost_us && !d->why[0]);
    assert_int_equal(d->info.bytes, SIZE); /* whole blocks */
    assert_int_equal(d->info.block, 4096);
    assert_true(d->info.flush && d->info.discard && d->info.zeroes && !d->info.read_only);
}

static void test_operations(void **state)
{
    (void)state;
    size_t at = 0;
    serve(SIZE, FLAGS);
    struct test_req *w = ask(0, DISK_WRITE, 4096, 70000 / 512 * 512), *r = ask(1, DISK_READ, 512, 50000 / 512 * 512);
    ask(2, DISK_DISCARD, 8192, 4096);
    ask(3, DISK_ZEROES, 0, 512);
    turn();
    assert_true(d->oldest_us);
    uint64_t cw = heard(&at, 1, 4096, w->r.len);
    assert_memory_equal(F.from_client + 28, w->data, w->r.len);
    uint64_t cr = heard(&at, 0, 512, r->r.len), ct = heard(&at, 4, 8192, 4096);
    assert_int_equal(hear(at + 4, 2), 2); /* NO_HOLE: nobody said that it may unmap */
    uint64_t cz = heard(&at, 6, 0, 512);
    assert_int_equal(at, F.from_len);
    F.read_max = 1; /* every split */
    say_reply(cz, 0);
    say_reply(cr, 0);
    for (size_t k = 0; k < r->r.len; k++)
        say(k * 3 & 0xff, 1);
    say_reply(ct, 95);
    say_reply(cw, 5);
    turn();
    static const unsigned want[] = { 3, 1, 2, 0 };
    assert_int_equal(n_order, 4);
    assert_memory_equal(order, want, sizeof(want));
    for (size_t k = 0; k < r->r.len; k++)
        assert_int_equal(r->data[k], k * 3 & 0xff);
    assert_true(req[3].status == DISK_OK && r->status == DISK_OK && req[2].status == DISK_UNSUPP &&
                w->status == DISK_ERROR);
    assert_int_equal(d->oldest_us, 0);
}

static void test_flush_waits_for_writes(void **state)
{
    (void)state;
    size_t at = 0;
    serve(SIZE, FLAGS);
    ask(0, DISK_WRITE, 0, 512), ask(1, DISK_FLUSH, 0, 0), ask(2, DISK_WRITE, 1024, 512), ask(3, DISK_READ, 0, 512);
    turn();
    uint64_t c0 = heard(&at, 1, 0, 512), c2 = heard(&at, 1, 1024, 512);
    (void)heard(&at, 0, 0, 512);
    assert_int_equal(at, F.from_len); /* no flush yet */
    say_reply(c2, 0);
    turn();
    assert_int_equal(at, F.from_len); /* a later write does not count */
    say_reply(c0, 0);
    turn();
    uint64_t c1 = heard(&at, 3, 0, 0);
    say_reply(c1, 0);
    turn();
    assert_true(req[1].n_done == 1 && req[1].status == DISK_OK);
}

static void lose(void)
{
    F.status = STREAM_FAILED;
    turn();
    assert_true(d->lost_us && d->why[0]);
}

static void test_lost_server_gets_all_again(void **state)
{
    (void)state;
    size_t at = 0;
    serve(SIZE, FLAGS);
    ask(0, DISK_WRITE, 0, 4096), ask(1, DISK_WRITE, 8192, 512), ask(2, DISK_READ, 512, 1024), ask(3, DISK_FLUSH, 0, 0);
    turn();
    uint64_t c0 = heard(&at, 1, 0, 4096);
    (void)heard(&at, 1, 8192, 512);
    uint64_t c2 = heard(&at, 0, 512, 1024), since = d->oldest_us;
    say_reply(c0, 0);
    say_reply(c2, 0);
    say(1, 8); /* the beginning of its data */
    turn();
    assert_int_equal(req[0].n_done, 1);
    lose();
    assert_int_equal(d->oldest_us, since);
    ask(4, DISK_WRITE, 16384, 512); /* comes while nobody is there */
    unsigned before = F.n_connects;
    fake_now_us += 50000;
    turn();
    assert_int_equal(F.n_connects, before); /* not at once */
    serve(SIZE, FLAGS);
    assert_int_equal(d->n_losses, 1);
    at = 0;
    turn();
    uint64_t c1 = heard(&at, 1, 8192, 512);
    assert_memory_equal(F.from_client + 28, req[1].data, 512);
    c2 = heard(&at, 0, 512, 1024);
    uint64_t c4 = heard(&at, 1, 16384, 512);
    assert_int_equal(at, F.from_len); /* the answered one not, the flush not before the write's answer */
    say_reply(c2, 0);
    for (unsigned k = 0; k < 1024; k++)
        say(9, 1);
    say_reply(c1, 0);
    turn();
    uint64_t c3 = heard(&at, 3, 0, 0);
    say_reply(c3, 0);
    say_reply(c4, 0);
    turn();
    for (unsigned i = 0; i < 5; i++)
        assert_true(req[i].n_done == 1 && req[i].status == DISK_OK);
    assert_int_equal(req[2].data[0], 9);
}

static void test_half_written_is_written_again(void **state)
{
    (void)state;
    size_t at = 0;
    serve(SIZE, FLAGS);
    F.write_room = 30000;
    ask(0, DISK_WRITE, 0, 65536);
    turn();
    assert_int_equal(F.from_len, 30000);
    lose();
    F.write_room = SIZE_MAX;
    serve(SIZE, FLAGS);
    turn();
    uint64_t c = heard(&at, 1, 0, 65536);
    assert_memory_equal(F.from_client + 28, req[0].data, 65536);
    say_reply(c, 108); /* ESHUTDOWN: it did not, and goes away */
    turn();
    assert_true(!F.alive && !req[0].n_done && strstr(d->why, "shutting down"));
    serve(SIZE, FLAGS);
    at = 0;
    turn();
    say_reply(heard(&at, 1, 0, 65536), 0);
    turn();
    assert_int_equal(req[0].n_done, 1);
}

static void test_requests_taken_back(void **state)
{
    (void)state;
    size_t at = 0;
    serve(SIZE, FLAGS);
    F.write_room = 0;
    ask(0, DISK_WRITE, 0, 4096)->gone = true;
    ask(1, DISK_WRITE, 8192, 65536);
    turn();
    assert_true(req[0].n_done == 1 && req[0].status == DISK_ERROR && !F.from_len); /* not begun: not sent */
    F.write_room = 30000;
    turn();
    req[1].gone = true;
    F.write_room = SIZE_MAX;
    unsigned aborts = F.n_aborts;
    turn();
    assert_int_equal(F.n_aborts, aborts + 1); /* half of it was sent: the server must not see the end */
    serve(SIZE, FLAGS);
    turn();
    assert_true(req[1].n_done == 1 && F.from_len == 0);
    ask(2, DISK_READ, 0, 512);
    turn();
    (void)heard(&at, 0, 0, 512);
}

static void test_export_must_stay_what_it_was(void **state)
{
    (void)state;
    serve(SIZE, FLAGS);
    lose();
    serve(SIZE - 512, FLAGS);
    assert_true(d->lost_us && strstr(d->why, "not what it was") && d->info.bytes == SIZE);
    serve(SIZE, FLAGS & ~4u); /* no flush any more */
    assert_true(d->lost_us);
    serve(SIZE, FLAGS | 2);
    assert_true(d->lost_us);
    serve(SIZE, FLAGS | 8);
    assert_false(d->lost_us);
}

static void refuse(uint32_t type, const char *words)
{
    accept_client();
    say_greeting();
    say_option(type, 4);
    say(0x6e6f6e65, 4);
    turn();
    assert_true(!F.alive && d->lost_us);
    if (!strstr(d->why, words))
        fail_msg("\"%s\" does not say \"%s\"", d->why, words);
}

static void test_refusals_and_lies(void **state)
{
    (void)state;
    refuse(0x80000006, "no export named \"web\"");
    refuse(0x80000005, "TLS");
    refuse(0x80000001, "too old");
    refuse(0x80000099, "NBD error 153");
    refuse(77, "broke the NBD protocol");
    assert_int_equal(d->n_failed_tries, 5);
    accept_client();
    say(0, 8);
    say(0, 8);
    say(0, 2);
    turn();
    assert_true(!F.alive && strstr(d->why, "greeting"));
    accept_client();
    say_greeting();
    say_ack();
    turn(); /* no size */
    assert_false(F.alive);
    accept_client();
    say_greeting();
    say_option(3, 0x7fffffff);
    turn();
    assert_false(F.alive);
    accept_client();
    say_greeting();
    say_export(SIZE, FLAGS);
    say_blocks(3, 32 * MIB);
    say_ack();
    turn();
    assert_false(F.alive);
    accept_client();
    say_greeting();
    say_export(SIZE, FLAGS);
    say_blocks(1, 4096);
    say_ack();
    turn();
    assert_true(!F.alive && strstr(d->why, "cannot be a guest's disk"));
    accept_client();
    say_greeting();
    say_export(100, FLAGS);
    say_ack();
    turn();
    assert_false(F.alive);
    accept_client();
    fake_now_us += 9000000;
    turn(); /* silence */
    assert_true(!F.alive && strstr(d->why, "one client at a time"));
    serve(SIZE, 0); /* flags without HAS_FLAGS mean nothing */
    assert_true(d->known && !d->info.flush && !d->info.discard && !d->info.zeroes);
}

static void test_replies_that_lie(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 5; kind++) {
        size_t at = 0;
        serve(SIZE, FLAGS);
        F.write_room = kind == 3 ? 100 : SIZE_MAX;
        ask(0, DISK_WRITE, 0, 65536);
        turn();
        uint64_t c = kind == 3 ? hear(8, 8) : heard(&at, 1, 0, 65536);
        switch (kind) {
        /* a structured reply, never negotiated */
        case 0:
            say(0x668e33ef, 4);
            say(0, 8);
            say(0, 4);
            break;
        case 1: say_reply(c + 1, 0); break;
        case 2: say_reply(c + 64, 0); break; /* same slot, other request */
        case 3:
            say_reply(c, 0);
            break; /* before it was sent */
        /* twice */
        case 4:
            say_reply(c, 0);
            say_reply(c, 0);
            break;
        }
        turn();
        assert_true(!F.alive && d->lost_us);
        assert_int_equal(req[0].n_done, kind == 4);
        F.write_room = SIZE_MAX;
        serve(SIZE, FLAGS);
        at = 0;
        turn();
        if (kind < 4)
            say_reply(heard(&at, 1, 0, 65536), 0);
        turn();
        assert_int_equal(req[0].n_done, 1);
        lose();
    }
}

static void test_goodbye(void **state)
{
    (void)state;
    serve(SIZE, FLAGS);
    struct nbd_config c = { .ip = { 10, 0, 0, 9 }, .port = 10809 };
    d->ops->close(d);
    assert_int_equal(F.n_closes, 1);
    assert_int_equal(F.from_len, 28);
    assert_int_equal(hear(4, 4), 2);
    assert_int_equal(nbd_open(&c, &d), HV_OK); /* for end() */
}

/* ---- TLS ---- */

static void say_tls(uint32_t type)
{
    say(0x3e889045565a9, 8);
    say(5, 4);
    say(type, 4);
    say(0, 4);
}

static int begin_tls(void **state)
{
    (void)begin(state);
    (void)end(state);
    struct nbd_config c = {
        .ip = { 10, 0, 0, 9 }, .port = 10809, .name = "web", .tls = true, .fingerprint = { [31] = 0xf1 }
    };
    assert_int_equal(nbd_open(&c, &d), HV_OK);
    return 0;
}

static void test_tls(void **state)
{
    (void)state;
    static const uint8_t starttls[] = "\0\0\0\3"
                                      "IHAVEOPT"
                                      "\0\0\0\5"
                                      "\0\0\0\0";
    static const uint8_t go[] = "IHAVEOPT"
                                "\0\0\0\7"
                                "\0\0\0\x0b"
                                "\0\0\0\3"
                                "web"
                                "\0\1"
                                "\0\3";
    accept_client();
    say_greeting();
    turn();
    assert_int_equal(F.from_len, sizeof(starttls) - 1); /* not even the export's name in the clear */
    assert_memory_equal(F.from_client, starttls, sizeof(starttls) - 1);
    say_tls(1);
    turn();
    assert_true(F.tls && F.alive);
    assert_int_equal(F.from_len, sizeof(starttls) - 1);
    F.from_len = 0;
    F.status = STREAM_OPEN;
    turn();
    assert_int_equal(F.from_len, sizeof(go) - 1);
    assert_memory_equal(F.from_client, go, sizeof(go) - 1);
    say_export(SIZE, FLAGS);
    say_ack();
    turn();
    assert_true(d->known && !d->lost_us);
    F.from_len = 0;
    size_t at = 0;
    struct test_req *t = ask(0, DISK_WRITE, 4096, 512);
    turn();
    say_reply(heard(&at, 1, 4096, 512), 0);
    turn();
    assert_true(t->n_done == 1 && t->status == DISK_OK);
    F.status = STREAM_FAILED; /* a new connection begins in the clear, and with STARTTLS again */
    turn();
    accept_client();
    say_greeting();
    turn();
    assert_true(!F.tls && F.from_len == sizeof(starttls) - 1 && !memcmp(F.from_client, starttls, sizeof(starttls) - 1));
}

static void test_tls_or_nothing(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 6; kind++) {
        accept_client();
        F.tls_error = kind == 4;
        say_greeting();
        /* an answer to what we have not asked yet */
        if (kind == 5) {
            F.write_room = 10;
            turn();
            say_tls(1);
        } else
            turn();
        switch (kind) {
        case 0:
            say_tls(0x80000001);
            break; /* it knows no TLS */
        /* it goes on without */
        case 1:
            say_export(SIZE, FLAGS);
            say_ack();
            break;
        /* somebody adds words that are to look like the server's */
        case 2:
            say_tls(1);
            say_export(SIZE, FLAGS);
            break;
        case 3:  say_tls(3); break;
        case 4:  say_tls(1); break; /* we cannot */
        default: break;
        }
        turn();
        assert_true(!F.alive && !d->known && d->why[0]);
        F.write_room = SIZE_MAX;
    }
    assert_int_equal(F.n_aborts, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
        T(test_negotiation),
        T(test_operations),
        T(test_flush_waits_for_writes),
        T(test_lost_server_gets_all_again),
        T(test_half_written_is_written_again),
        T(test_requests_taken_back),
        T(test_export_must_stay_what_it_was),
        T(test_refusals_and_lies),
        T(test_replies_that_lie),
        T(test_goodbye),
        cmocka_unit_test_setup_teardown(test_tls, begin_tls, end),
        cmocka_unit_test_setup_teardown(test_tls_or_nothing, begin_tls, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
