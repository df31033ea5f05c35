/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/pit.c - the 8254, computed from the guest's clock: no tick is ever counted.
 *
 * The ticks since the count was loaded give counter and output by closed formulas, one per mode.  Deviations: the BCD
 * bit is stored, but counting is binary.  When the gate of channel 2 rises in mode 0 or 4, the count starts anew
 * instead of continuing; no known guest measures that way. */
#include "kernel/dev/devices.h"
#include "kernel/lib/log.h"

enum { MODE_TERMINAL, MODE_ONE_SHOT, MODE_RATE, MODE_SQUARE, MODE_SOFT_STROBE, MODE_HARD_STROBE };
enum { ACCESS_LSB = 1, ACCESS_MSB, ACCESS_BOTH };

void pit_reset(struct vm *vm)
{
    struct pit *p = &vm->devices->pit;
    lock_assert_held(&vm->dev_lock);
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

/* Ticks since the count was loaded; 0 while the gate is low. */
static uint64_t pit_ticks(const struct pit_channel *c, uint64_t now_ns)
{
    return c->loaded && c->gate && now_ns > c->start_ns ? ns_to_pit(now_ns - c->start_ns) : 0;
}

static uint16_t pit_counter(const struct pit_channel *c, uint64_t now_ns)
{
    uint64_t d = pit_ticks(c, now_ns);
    if (c->mode == MODE_RATE)
        return (uint16_t)(c->count - d % c->count);
    if (c->mode == MODE_SQUARE)
        return (uint16_t)(c->count - 2 * d % c->count);
    return (uint16_t)(c->count - d);
}

static bool pit_output(const struct pit_channel *c, uint64_t now_ns)
{
    uint64_t d = pit_ticks(c, now_ns);
    switch (c->mode) {
    case MODE_TERMINAL: return c->loaded && d >= c->count;
    case MODE_ONE_SHOT: return !c->loaded || !c->gate || d >= c->count;
    case MODE_RATE:     return d % c->count != c->count - 1;
    case MODE_SQUARE:   return d % c->count < (c->count + 1) / 2;
    default:            return d != c->count;
    }
}

static bool pit_is_periodic(const struct pit_channel *c) { return c->mode == MODE_RATE || c->mode == MODE_SQUARE; }

static void pit_count_load(struct vm *vm, unsigned i, uint16_t val)
{
    struct pit *p = &vm->devices->pit;
    struct pit_channel *c = &p->ch[i];
    c->count = val ? val : 0x10000;
    c->start_ns = guest_clock_ns(vm);
    c->loaded = true;
    if (i == 0)
        p->irq_ns = c->mode == MODE_ONE_SHOT || c->mode == MODE_HARD_STROBE ? 0 : c->start_ns + pit_to_ns(c->count);
}

static void pit_count_write(struct vm *vm, unsigned i, uint8_t val)
{
    struct pit_channel *c = &vm->devices->pit.ch[i];
    if (c->access == ACCESS_LSB) {
        pit_count_load(vm, i, val);
        return;
    }
    if (c->access == ACCESS_MSB) {
        pit_count_load(vm, i, (uint16_t)(val << 8));
        return;
    }
    if (!c->write_high)
        c->write_low = val;
    else
        pit_count_load(vm, i, (uint16_t)(val << 8 | c->write_low));
    c->write_high = !c->write_high;
}

static void pit_latch_count(struct pit_channel *c, uint64_t now_ns)
{
    if (c->latched)
        return;
    c->latch = pit_counter(c, now_ns);
    c->latched = true;
}

/* Read-back command: latch count (bit 5 clear) and status (bit 4 clear) of the selected channels. */
static void pit_read_back(struct vm *vm, uint8_t val)
{
    uint64_t now = guest_clock_ns(vm);
    for (unsigned i = 0; i < 3; i++) {
        struct pit_channel *c = &vm->devices->pit.ch[i];
        if (!(val & BIT32(i + 1)))
            continue;
        if (!(val & 0x20))
            pit_latch_count(c, now);
        if (!(val & 0x10) && !c->status_latched) {
            c->status = (uint8_t)(pit_output(c, now) << 7 | !c->loaded << 6 | c->access << 4 | c->mode << 1 | c->bcd);
            c->status_latched = true;
        }
    }
}

static void pit_control_write(struct vm *vm, uint8_t val)
{
    struct pit *p = &vm->devices->pit;
    unsigned i = val >> 6, access = val >> 4 & 3, mode = val >> 1 & 7;
    if (i == 3) {
        pit_read_back(vm, val);
        return;
    }
    struct pit_channel *c = &p->ch[i];
    if (access == 0) {
        pit_latch_count(c, guest_clock_ns(vm));
        return;
    }
    c->access = (uint8_t)access;
    c->mode = (uint8_t)(mode > 5 ? mode - 4 : mode);
    c->bcd = val & 1;
    c->loaded = c->latched = c->status_latched = c->read_high = c->write_high = false;
    if (i == 0)
        p->irq_ns = 0;
}

static uint8_t pit_count_read(struct vm *vm, unsigned i)
{
    struct pit_channel *c = &vm->devices->pit.ch[i];
    if (c->status_latched) {
        c->status_latched = false;
        return c->status;
    }
    uint16_t n = c->latched ? c->latch : pit_counter(c, guest_clock_ns(vm));
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
    return (uint8_t)(p->ch[2].gate | p->speaker << 1 | refresh << 4 | pit_output(&p->ch[2], now) << 5);
}

uint8_t pit_port_read(struct vm *vm, uint16_t port)
{
    lock_assert_held(&vm->dev_lock);
    if (port == 0x61)
        return port61_read(vm);
    return port == 0x43 ? 0xff : pit_count_read(vm, port & 3);
}

void pit_port_write(struct vm *vm, uint16_t port, uint8_t val)
{
    lock_assert_held(&vm->dev_lock);
    if (port == 0x61)
        port61_write(vm, val);
    else if (port == 0x43)
        pit_control_write(vm, val);
    else
        pit_count_write(vm, port & 3, val);
}

void pit_poll(struct vm *vm)
{
    struct pit *p = &vm->devices->pit;
    lock_assert_held(&vm->dev_lock);
    uint64_t now = guest_clock_ns(vm);
    if (!p->irq_ns || now < p->irq_ns)
        return;
    if (pit_is_periodic(&p->ch[0])) {
        ASSERT(p->ch[0].count >= 1 && p->ch[0].count <= 0x10000);
        uint64_t done = pit_ticks(&p->ch[0], now) / p->ch[0].count; /* periods missed together make one interrupt */
        p->irq_ns = p->ch[0].start_ns + pit_to_ns((done + 1) * p->ch[0].count);
    } else {
        p->irq_ns = 0;
    }
    devices_irq_set(vm, 0, true);
    devices_irq_set(vm, 0, false);
}
