/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/watchdog.c - stops the hardware watchdog by the ACPI table WDAT, so that it does not reset the host.
 *
 * The table ("Hardware Watchdog Timers Design Specification") lists instructions for each action; each reads or writes
 * a register.  Only that the watchdog runs, and its stop, are used.  Chipsets' watchdogs (TCO) are described so; not
 * here: those of a BMC, which have no such table. */
#include "kernel/host/watchdog.h"
#include <string.h>
#include "kernel/host/acpi.h"
#include "kernel/host/pci.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

/* Byte offsets in the table, and in an entry. */
enum { WDAT_FLAGS = 60, WDAT_COUNT = 64, WDAT_ENTRIES = 68 };
enum { ENTRY_INSTRUCTION = 1, ENTRY_REG = 4, ENTRY_VALUE = 16, ENTRY_MASK = 20, ENTRY_LEN = 24 };
#define WDAT_ENABLED   0x01u
#define ACTION_RUNS    8u
#define ACTION_STOP    11u
#define READ_VALUE     0u
#define WRITE_VALUE    2u
#define KEEP_OTHERS    0x80u
#define REG_ADDR_SHIFT 4 /* in a generic address: space, width in bits, first bit, size of an access, address */

struct wdat_insn {
    uint8_t kind, space, first_bit, access;
    uint64_t addr;
    uint32_t value, mask;
};

static struct wdat_insn wdat_insn_read(const uint8_t *e)
{
    struct wdat_insn i = { .kind = e[ENTRY_INSTRUCTION], .space = e[ENTRY_REG], .first_bit = e[ENTRY_REG + 2] & 31 };
    uint8_t width = e[ENTRY_REG + 1], access = e[ENTRY_REG + 3];
    i.access = access ? access : width <= 8 ? 1 : width <= 16 ? 2 : 3;
    memcpy(&i.addr, e + ENTRY_REG + REG_ADDR_SHIFT, sizeof(i.addr));
    memcpy(&i.value, e + ENTRY_VALUE, sizeof(i.value));
    memcpy(&i.mask, e + ENTRY_MASK, sizeof(i.mask));
    return i;
}

static uint32_t wdat_reg_read(const struct wdat_insn *i)
{
    uint16_t port = (uint16_t)i->addr;
    if (i->space == ACPI_PORT)
        return i->access == 1 ? inb(port) : i->access == 2 ? inw(port) : inl(port);
    const void *p = mmio_map(hpa(i->addr), 4);
    return i->access == 1 ? mmio_read8(p) : i->access == 2 ? mmio_read16(p) : mmio_read32(p);
}

static void wdat_reg_write(const struct wdat_insn *i, uint32_t v)
{
    uint16_t port = (uint16_t)i->addr;
    void *p = i->space == ACPI_PORT ? NULL : mmio_map(hpa(i->addr), 4);
    switch (i->access) {
    case 1:  p ? mmio_write8(p, (uint8_t)v) : outb(port, (uint8_t)v); break;
    case 2:  p ? mmio_write16(p, (uint16_t)v) : outw(port, (uint16_t)v); break;
    default: p ? mmio_write32(p, v) : outl(port, v); break;
    }
}

/* Returns what a READ_VALUE says; false otherwise. */
static bool wdat_insn_execute(const struct wdat_insn *i)
{
    if (i->space > ACPI_PORT || !i->addr || (i->space == ACPI_MEMORY && !acpi_memory_reg_usable(i->addr)))
        return false;
    if ((i->kind & ~KEEP_OTHERS) == READ_VALUE)
        return (wdat_reg_read(i) >> i->first_bit & i->mask) == i->value;
    if ((i->kind & ~KEEP_OTHERS) != WRITE_VALUE)
        return false;
    uint32_t v = (i->value & i->mask) << i->first_bit;
    if (i->kind & KEEP_OTHERS)
        v |= wdat_reg_read(i) & ~(i->mask << i->first_bit);
    wdat_reg_write(i, v);
    return false;
}

/* Execute the action's instructions in order.  *n: how many there are.  Returns what the last one says. */
static bool wdat_act(const uint8_t *t, uint32_t len, uint8_t action, unsigned *n)
{
    uint32_t count;
    bool said = false;
    memcpy(&count, t + WDAT_COUNT, sizeof(count));
    *n = 0;
    for (uint32_t at = WDAT_ENTRIES; count-- && at + ENTRY_LEN <= len; at += ENTRY_LEN) {
        if (t[at] != action)
            continue;
        struct wdat_insn i = wdat_insn_read(t + at);
        said = wdat_insn_execute(&i);
        ++*n;
    }
    return said;
}

void watchdog_stop(void)
{
    uint32_t len;
    unsigned n;
    const uint8_t *t = acpi_table_find("WDAT", &len);
    if (!t || len < WDAT_ENTRIES || !(t[WDAT_FLAGS] & WDAT_ENABLED))
        return;
    bool runs = wdat_act(t, len, ACTION_RUNS, &n);
    if (n && !runs)
        return;
    wdat_act(t, len, ACTION_STOP, &n);
    if (n && !wdat_act(t, len, ACTION_RUNS, &n))
        log_info("host", "the machine's watchdog was on, and is stopped");
    else
        log_warn("host", "the machine's watchdog is on and cannot be stopped: switch it off in the firmware setup");
}
