/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/pic.c - two cascaded 8259As.
 *
 * An edge stays latched in IRR until acknowledged; a level input follows its line.  The slave's output is the master's
 * input 2, with level semantics.  p->out is the master's INT output: updated after each change, and read without the
 * lock by vCPU 0 before each entry.  Not modelled: buffered mode, special fully nested mode. */
#include "kernel/dev/pic.h"
#include "kernel/lib/log.h"

#include <string.h>

enum { MASTER, SLAVE, CASCADE_IRQ = 2 };

static void chip_reset(struct pic_chip *c)
{
    uint8_t lines = c->lines, elcr = c->elcr;
    memset(c, 0, sizeof(*c));
    c->lines = lines;
    c->elcr = elcr;
    c->lowest = 7;
}

void pic_reset(struct pic *p)
{
    memset(p->chip, 0, sizeof(p->chip));
    for (unsigned i = 0; i < 2; i++) {
        chip_reset(&p->chip[i]);
        p->chip[i].imr = 0xff; /* as firmware leaves it: all masked, the usual vectors of a PC */
        p->chip[i].vector_base = i == MASTER ? 0x08 : 0x70;
    }
    atomic_store(&p->out, false);
}

/* The input to serve next: unmasked, requesting, and of higher priority than all in service; -1: none. */
static int chip_next(const struct pic_chip *c, bool is_master)
{
    uint8_t request = c->irr & (uint8_t)~c->imr;
    uint8_t service = c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr;
    for (unsigned i = 1; i <= 8; i++) {
        unsigned n = (c->lowest + i) & 7;
        uint8_t bit = (uint8_t)BIT32(n);
        if (request & bit && !(service & bit && !(is_master && n == CASCADE_IRQ)))
            return (int)n;
        if (service & bit)
            return -1;
    }
    return -1;
}

/* Pass the slave's output to the master, and set out. */
static void pic_update(struct pic *p)
{
    struct pic_chip *m = &p->chip[MASTER];
    uint8_t bit = (uint8_t)BIT32(CASCADE_IRQ);
    ASSERT(m->lowest < 8 && p->chip[SLAVE].lowest < 8);
    if (chip_next(&p->chip[SLAVE], false) >= 0)
        m->irr |= bit;
    else
        m->irr &= (uint8_t)~bit;
    atomic_store_explicit(&p->out, chip_next(m, true) >= 0, memory_order_release);
}

void pic_line_set(struct pic *p, unsigned irq, bool level)
{
    ASSERT(irq < 16 && irq != CASCADE_IRQ);
    struct pic_chip *c = &p->chip[irq >> 3 & 1];
    uint8_t bit = (uint8_t)BIT32(irq & 7);
    if (level) {
        if ((c->elcr & bit) || !(c->lines & bit))
            c->irr |= bit;
        c->lines |= bit;
    } else {
        if (c->elcr & bit)
            c->irr &= (uint8_t)~bit;
        c->lines &= (uint8_t)~bit;
    }
    pic_update(p);
}

int pic_peek(const struct pic *p)
{
    int n = chip_next(&p->chip[MASTER], true);
    if (n != CASCADE_IRQ)
        return n < 0 ? -1 : p->chip[MASTER].vector_base + n;
    int s = chip_next(&p->chip[SLAVE], false);
    return s < 0 ? -1 : p->chip[SLAVE].vector_base + s;
}

static uint8_t chip_ack(struct pic_chip *c, bool is_master)
{
    int n = chip_next(c, is_master);
    if (n < 0)
        return 7; /* spurious: nothing gets in service */
    uint8_t bit = (uint8_t)BIT32(n);
    if (!(c->elcr & bit))
        c->irr &= (uint8_t)~bit;
    if (!c->auto_eoi)
        c->isr |= bit;
    else if (c->rotate_auto_eoi)
        c->lowest = (uint8_t)n;
    return (uint8_t)n;
}

uint8_t pic_ack(struct pic *p)
{
    uint8_t n = chip_ack(&p->chip[MASTER], true);
    uint8_t vec = (uint8_t)(p->chip[MASTER].vector_base + n);
    if (n == CASCADE_IRQ)
        vec = (uint8_t)(p->chip[SLAVE].vector_base + chip_ack(&p->chip[SLAVE], false));
    pic_update(p);
    return vec;
}

/* ---- ports ---- */

static void pic_icw1(struct pic_chip *c, uint8_t val)
{
    chip_reset(c);
    c->icw4_needed = val & 1;
    c->single = val & 2;
    c->icw_step = 2;
}

static void pic_ocw2(struct pic_chip *c, uint8_t val)
{
    unsigned cmd = val >> 5, n = val & 7;
    if (cmd == 1 || cmd == 5) { /* non-specific EOI: the highest in service */
        for (unsigned i = 1; i <= 8; i++) {
            n = (c->lowest + i) & 7;
            if (c->isr & BIT32(n))
                break;
        }
    }
    switch (cmd) {
    case 1:
    case 3: c->isr &= (uint8_t)~BIT32(n); break;
    case 5:
    case 7:
        c->isr &= (uint8_t)~BIT32(n);
        c->lowest = (uint8_t)n;
        break;
    case 6: c->lowest = (uint8_t)n; break;
    case 0:
    case 4: c->rotate_auto_eoi = cmd == 4; break;
    }
}

static void pic_ocw3(struct pic_chip *c, uint8_t val)
{
    if (val & 4)
        c->poll = true;
    if (val & 2)
        c->read_isr = val & 1;
    if (val & 0x40)
        c->special_mask = val & 0x20;
}

static void pic_command_write(struct pic_chip *c, uint8_t val)
{
    if (val & 0x10)
        pic_icw1(c, val);
    else if (val & 0x08)
        pic_ocw3(c, val);
    else
        pic_ocw2(c, val);
}

static void pic_data_write(struct pic_chip *c, uint8_t val)
{
    switch (c->icw_step) {
    case 2:
        c->vector_base = val & 0xf8;
        c->icw_step = !c->single ? 3 : c->icw4_needed ? 4 : 0;
        break;
    case 3: c->icw_step = c->icw4_needed ? 4 : 0; break; /* the cascade is wired */
    case 4:
        c->auto_eoi = val & 2;
        c->icw_step = 0;
        break;
    default: c->imr = val; break;
    }
}

/* IRQs 0, 1, 2, 8 and 13 of a PC are always edge-triggered. */
static const uint8_t elcr_writable[2] = { 0xf8, 0xde };

void pic_port_write(struct pic *p, uint16_t port, uint8_t val)
{
    if (port == 0x4d0 || port == 0x4d1)
        p->chip[port & 1].elcr = val & elcr_writable[port & 1];
    else if (port & 1)
        pic_data_write(&p->chip[port >> 7 & 1], val);
    else
        pic_command_write(&p->chip[port >> 7 & 1], val);
    pic_update(p);
}

uint8_t pic_port_read(struct pic *p, uint16_t port)
{
    if (port == 0x4d0 || port == 0x4d1)
        return p->chip[port & 1].elcr;
    bool is_master = !(port & 0x80);
    struct pic_chip *c = &p->chip[is_master ? MASTER : SLAVE];
    if (c->poll) {
        c->poll = false;
        int n = chip_next(c, is_master);
        if (n < 0)
            return 0;
        (void)chip_ack(c, is_master);
        pic_update(p);
        return (uint8_t)(0x80 | n);
    }
    if (port & 1)
        return c->imr;
    return c->read_isr ? c->isr : c->irr;
}
