/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_virtq_race.c - a virtqueue loses no doorbell and no interrupt, in whatever order guest and device see
 * each other's stores.
 *
 * Both sides sleep by the same rule: enable notification, then check once more, with a fence between the two.
 * kernel/dev/virtq.c runs here on a model of x86's store buffer: stores wait as long as allowed (in order, visible to
 * own loads, until a fence).  At each of its memory accesses the guest takes a step: Linux's driver
 * (virtqueue_kick_prepare, virtqueue_enable_cb), whose fences are right.  Two threads on real processors would need
 * millions of attempts for the same. */
/* unit-sources: tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
static void buffer_drain(unsigned n);
#undef atomic_thread_fence
#define atomic_thread_fence(order) buffer_drain(~0u)
#include "kernel/dev/virtq.c"

enum { NUM = 8, DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000, DATA = 0x4000, RAM = 0x5000, ROUNDS = 50000, TURN = 4 };
static uint8_t ram[RAM];
static struct vm vm = { .mem = { .low_bytes = RAM } };
static struct virtq q;
static bool bell, irq; /* what is kept for a sleeper */
static unsigned n_bells, n_irqs;

static unsigned random_below(unsigned n)
{
    static uint64_t x = 88172645463325252ul;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return (unsigned)(x >> 20) % n;
}

/* ---- the device's processor ---- */

static struct {
    uint64_t at;
    uint8_t byte[8];
    size_t len;
} buffer[64];
static unsigned n_buffered;

static void buffer_drain(unsigned n)
{
    n = MIN(n, n_buffered);
    for (unsigned i = 0; i < n; i++)
        memcpy(ram + buffer[i].at, buffer[i].byte, buffer[i].len);
    n_buffered -= n;
    memmove(buffer, buffer + n, n_buffered * sizeof(buffer[0]));
}

static unsigned guest_pause; /* its steps are so many accesses of ours apart */
static void guest_step(void);
static void others_run(void) /* between any two accesses */
{
    if (!random_below(guest_pause))
        guest_step();
    if (!random_below(4) || n_buffered == ARRAY_SIZE(buffer))
        buffer_drain(1 + random_below(3));
}

enum hv_err guest_write(struct vm *m, gpa_t a, const void *buf, size_t len)
{
    assert_true(m == &vm && len <= 8 && a.v + len <= RAM);
    others_run();
    buffer[n_buffered].at = a.v;
    buffer[n_buffered].len = len;
    memcpy(buffer[n_buffered++].byte, buf, len);
    others_run();
    return HV_OK;
}

void *guest_page_for_dma(struct vm *m, uint64_t gfn, bool write)
{
    (void)m, (void)gfn, (void)write;
    return NULL;
}
void dirty_mark(struct vm *m, uint64_t gfn) { (void)m, (void)gfn; }
void block_pins(const void *p, unsigned n) { (void)p, (void)n; }
void block_unpins(const void *p, unsigned n) { (void)p, (void)n; }

enum hv_err guest_read(const struct vm *m, gpa_t a, void *buf, size_t len)
{
    assert_true(m == &vm && a.v + len <= RAM);
    others_run();
    memcpy(buf, ram + a.v, len);
    for (unsigned i = 0; i < n_buffered; i++)
        if (buffer[i].at == a.v && buffer[i].len == len)
            memcpy(buf, buffer[i].byte, len);
    others_run();
    return HV_OK;
}

static void device_tells(void)
{
    if (!virtq_wants_irq(&vm, &q))
        return;
    irq = true;
    n_irqs++;
}

/* as vdev_blk.c: pop until there is nothing or the turn is over; tell of each answer or of several */
static void device_turn(void)
{
    static struct virtq_chain c;
    bool told = true;
    guest_pause = 1 + random_below(16);
    spin_lock(&vm.dev_lock);
    for (unsigned n = 0; n < TURN; n++) {
        if (virtq_pop(&vm, &q, &c) != VIRTQ_GOT)
            break;
        assert_true(virtq_push(&vm, &q, c.head, 1));
        told = random_below(2);
        if (told)
            device_tells();
        bell |= n == TURN - 1; /* it comes again */
    }
    if (!told)
        device_tells();
    spin_unlock(&vm.dev_lock);
}

/* ---- the guest: one access of memory a step, each seen at once ---- */

static struct {
    enum { WORKS, LOOKS_AT_DEVICE, SAYS, LOOKS_AGAIN, SLEEPS } state;
    uint16_t next, seen; /* of its next request, of the next answer */
    unsigned depth;
} g;

static uint16_t get(unsigned at)
{
    uint16_t val;
    memcpy(&val, ram + at, 2);
    return val;
}
static void put(unsigned at, uint16_t val) { memcpy(ram + at, &val, 2); }

static void guest_asks(void)
{
    if ((uint16_t)(g.next - g.seen) == g.depth) {
        g.state = SAYS;
        return;
    }
    put(AVAIL + 2, ++g.next);
    g.state = LOOKS_AT_DEVICE;
}

static void guest_rings(void)
{
    g.state = WORKS;
    if (q.event_idx && get(USED + 4 + 8 * NUM) != (uint16_t)(g.next - 1))
        return;
    bell = true;
    n_bells++;
}

static void guest_says(void)
{
    if (q.event_idx)
        put(AVAIL + 4 + 2 * NUM, g.seen);
    else
        put(AVAIL, 0);
    g.state = LOOKS_AGAIN;
}

static void guest_takes(void)
{
    if (!q.event_idx)
        put(AVAIL, AVAIL_NO_INTERRUPT);
    g.seen = get(USED + 2);
    g.state = WORKS;
}

static void guest_step(void)
{
    switch (g.state) {
    case WORKS:           guest_asks(); break;
    case LOOKS_AT_DEVICE: guest_rings(); break;
    case SAYS:            guest_says(); break;
    case LOOKS_AGAIN:
        if (get(USED + 2) == g.seen)
            g.state = SLEEPS;
        else
            guest_takes();
        break;
    case SLEEPS:
        if (!irq)
            break;
        irq = false;
        guest_takes();
        break;
    }
}

/* ---- tests ---- */

static void rings_make(bool event_idx, unsigned depth)
{
    memset(ram, 0, sizeof(ram));
    for (unsigned i = 0; i < NUM; i++) {
        struct wr w = wr_init(ram + DESC + 16 * i, 16);
        wr_u64(&w, DATA);
        wr_u32(&w, 512);
        wr_u16(&w, DESC_WRITE);
        wr_u16(&w, 0);
        put(AVAIL + 4 + 2 * i, (uint16_t)i);
    }
    virtq_reset(&q);
    q.num = NUM, q.desc = DESC, q.avail = AVAIL, q.used = USED, q.event_idx = event_idx;
    assert_true(virtq_legal(&vm, &q));
    q.enabled = true;
    memset(&g, 0, sizeof(g));
    g.depth = depth;
    bell = irq = false;
    n_bells = n_irqs = 0;
}

static void both_asleep(unsigned round)
{
    buffer_drain(~0u);
    if (g.state != SLEEPS || irq || bell)
        return;
    fail_msg("%s, %u at a time, round %u: the guest sleeps at %u with %u answers taken, the device at %u with %u "
             "given: %s",
             q.event_idx ? "event indices" : "flags", g.depth, round, g.next, g.seen, q.next_avail, q.next_used,
             q.next_avail != g.next ? "a doorbell is lost" : "an interrupt is lost");
}

static void nothing_is_lost(bool event_idx, unsigned depth)
{
    rings_make(event_idx, depth);
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (bell) {
            bell = false;
            device_turn();
            assert_false(q.broken);
        }
        guest_step();
        both_asleep(i);
    }
    assert_true(n_bells > ROUNDS / 20 && n_irqs > ROUNDS / 100); /* they did sleep */
}

static void test_event_indices(void **state)
{
    (void)state;
    for (unsigned depth = 1; depth <= NUM; depth *= 2)
        nothing_is_lost(true, depth);
}

static void test_flags(void **state)
{
    (void)state;
    for (unsigned depth = 1; depth <= NUM; depth *= 2)
        nothing_is_lost(false, depth);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_event_indices), cmocka_unit_test(test_flags) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
