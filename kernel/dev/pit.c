/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/pit.c - the 8254, computed from the guest's clock: no tick is ever counted.
 *
 * Ticks since the count was loaded give counter and output by closed formulas, one per mode.  BCD is stored and
 * counted as binary.  A channel 2 whose gate falls in mode 0 or 4 starts anew, instead of going on, when it rises:
 * nobody measures that way. */
#include "kernel/dev/devices.h"

enum { MODE_TERMINAL, MODE_ONE_SHOT, MODE_RATE, MODE_SQUARE, MODE_SOFT_STROBE, MODE_HARD_STROBE };
enum { ACCESS_LSB = 1, ACCESS_MSB, ACCESS_BOTH };

void pit_reset(struct vm *vm)
{
    struct pit *p = &vm->devices->pit;
    memset(p, 0, sizeof(*p));
    for (unsigned i = 0; i < 3; i++) {
        p->ch[i].count = 0x10000;
        p->ch[i].mode = MODE_SQUARE;
        p->ch[i].access = ACCESS_BOTH;
        p->ch[i].gate = i != 2;
        p->ch[i].start_ns = guest_clock_ns(vm);
    }
}

static uint64_t ns_to_pit(uint64_t ns) { return muldiv_u64(ns, PIT_HZ, 1000000000); }
static uint64_t pit_to_ns(uint64_t t) { return muldiv_u64(t, 1000000000, PIT_HZ) + 1; }

static uint64_t ticks_run(const struct pit_channel *c, uint64_t now_ns)
{
    return c->loaded && c->gate && now_ns > c->start_ns ? ns_to_pit(now_ns - c->start_ns) : 0;
}

static uint16_t counter(const struct pit_channel *c, uint64_t now_ns)
{
    uint64_t d = ticks_run(c, now_ns);
    if (c->mode == MODE_RATE)
        return (uint16_t)(c->count - d % c->count);
    if (c->mode == MODE_SQUARE)
        return (uint16_t)(c->count - 2 * d % c->count);
    return (uint16_t)(c->count - d);
}

static bool output(const struct pit_channel *c, uint64_t now_ns)
{
    uint64_t d = ticks_run(c, now_ns);
    switch (c->mode) {
    case MODE_TERMINAL: return c->loaded && d >= c->count;
    case MODE_ONE_SHOT: return !c->loaded || !c->gate || d >= c->count;
    case MODE_RATE:     return d % c->count != c->count - 1;
    case MODE_SQUARE:   return d % c->count < (c->count + 1) / 2;
    default:            return d != c->count;
    }
}

static bool is_periodic(const struct pit_channel *c) { return c->mode == MODE_RATE || c->mode == MODE_SQUARE; }

static void count_load(struct vm *vm, unsigned i, uint16_t val)
{
    struct pit *p = &vm->devices->pit;
    struct pit_channel *c = &p->ch[i];
    c->count = val ? val : 0x10000;
    c->start_ns = guest_clock_ns(vm);
    c->loaded = true;
    if (i == 0)
        p->irq_ns = c->mode == MODE_ONE_SHOT || c->mode == MODE_HARD_STROBE ? 0 : c->start_ns + pit_to_ns(c->count);
}

static void count_write(struct vm *vm, unsigned i, uint8_t val)
{
    struct pit_channel *c = &vm->devices->pit.ch[i];
    if (c->access == ACCESS_LSB) {
        count_load(vm, i, val);
        return;
    }
    if (c->access == ACCESS_MSB) {
        count_load(vm, i, (uint16_t)(val << 8));
        return;
    }
    if (!c->write_high)
        c->write_low = val;
    else
        count_load(vm, i, (uint16_t)(val << 8 | c->write_low));
    c->write_high = !c->write_high;
}

static void latch_count(struct pit_channel *c, uint64_t now_ns)
{
    if (c->latched)
        return;
    c->latch = counter(c, now_ns);
    c->latched = true;
}

static void read_back(struct vm *vm, uint8_t val)
{
    uint64_t now = guest_clock_ns(vm);
    for (unsigned i = 0; i < 3; i++) {
        struct pit_channel *c = &vm->devices->pit.ch[i];
        if (!(val & BIT32(i + 1)))
            continue;
        if (!(val & 0x20))
            latch_count(c, now);
        if (!(val & 0x10) && !c->status_latched) {
            c->status = (uint8_t)(output(c, now) << 7 | !c->loaded << 6 | c->access << 4 | c->mode << 1 | c->bcd);
            c->status_latched = true;
        }
    }
}

static void control_write(struct vm *vm, uint8_t val)
{
    struct pit *p = &vm->devices->pit;
    unsigned i = val >> 6, access = val >> 4 & 3, mode = val >> 1 & 7;
    if (i == 3) {
        read_back(vm, val);
        return;
    }
    struct pit_channel *c = &p->ch[i];
    if (access == 0) {
        latch_count(c, guest_clock_ns(vm));
        return;
    }
    c->access = (uint8_t)access;
    c->mode = (uint8_t)(mode > 5 ? mode - 4 : mode);
    c->bcd = val & 1;
    c->loaded = c->latched = c->status_latched = c->read_high = c->write_high = false;
    if (i == 0)
        p->irq_ns = 0;
}

static uint8_t count_read(struct vm *vm, unsigned i)
{
    struct pit_channel *c = &vm->devices->pit.ch[i];
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    uint16_t n = c->latched ? c->latch : counter(c, guest_clock_ns(vm));
    bool high = c->access == ACCESS_MSB || (c->access == ACCESS_BOTH && c->read_high);
    if (c->access == ACCESS_BOTH)
        c->read_high = !c->read_high;
    if (c->access != ACCESS_BOTH || high)
        c->latched = false;
    return (uint8_t)(high ? n >> 8 : n);
}

static void port61_write(struct vm *vm, uint8_t val)
{
    struct pit *p = &vm->devices->pit;
    bool rise = (val & 1) && !p->ch[2].gate;
    p->ch[2].gate = val & 1;
    p->speaker = val & 2;
    if (rise)
        p->ch[2].start_ns = guest_clock_ns(vm);
}

static uint8_t port61_read(struct vm *vm)
{
    struct pit *p = &vm->devices->pit;
    uint64_t now = guest_clock_ns(vm);
    bool refresh = now / 15085 & 1; /* DRAM refresh request toggles every 15 us */
    return (uint8_t)(p->ch[2].gate | p->speaker << 1 | refresh << 4 | output(&p->ch[2], now) << 5);
}

uint8_t pit_port_read(struct vm *vm, uint16_t port)
{
    if (port == 0x61)
        return port61_read(vm);
    return port == 0x43 ? 0xff : count_read(vm, port & 3);
}

void pit_port_write(struct vm *vm, uint16_t port, uint8_t val)
{
    if (port == 0x61)
        port61_write(vm, val);
    else if (port == 0x43)
        control_write(vm, val);
    else
        count_write(vm, port & 3, val);
}

void pit_poll(struct vm *vm)
{
    struct pit *p = &vm->devices->pit;
    uint64_t now = guest_clock_ns(vm);
    if (!p->irq_ns || now < p->irq_ns)
        return;
    if (is_periodic(&p->ch[0])) {
        uint64_t done = ticks_run(&p->ch[0], now) / p->ch[0].count; /* periods missed together make one interrupt */
        p->irq_ns = p->ch[0].start_ns + pit_to_ns((done + 1) * p->ch[0].count);
    } else {
        p->irq_ns = 0;
    }
    devices_irq_set(vm, 0, true);
    devices_irq_set(vm, 0, false);
}
