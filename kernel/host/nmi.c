/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/nmi.c - an NMI from outside is counted, and dumps the state of the CPU that took it.
 *
 * It may interrupt any instruction, with any lock held, so its handler only records.  The service loop prints that.  A
 * host whose service loop hangs is what an NMI button is for: a second NMI, 10 s later, panics, which needs no lock.
 * The local APIC of the boot CPU alone takes NMIs (LINT1).  Not here: NMIs that one CPU sends to stop others
 * (panic.c). */
#include "kernel/host/nmi.h"

#include <stdatomic.h>
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/trap.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

#define HANG_US      10000000u
#define NMI_STATUS   0x61 /* of the chipset: "NMI Status and Control" */
#define STATUS_SERR  0x80u
#define STATUS_IOCHK 0x40u
#define SERR_OFF     0x04u
#define IOCHK_OFF    0x08u
#define STATUS_KEEP  0x0fu

enum { RECORD_NONE, RECORD_BUSY, RECORD_THERE };
static atomic_uint state;
static struct { /* written by who made state BUSY, then read by the service loop */
    unsigned cpu;
    uint64_t tsc, number;
    uint8_t status;
    struct trap_snapshot at;
} record;

/* Read the causes that the chipset names, and turn these off: a bus error that stays would raise no other NMI. */
static uint8_t nmi_chipset_status(void)
{
    uint8_t s = inb(NMI_STATUS);
    uint8_t off = (uint8_t)((s & STATUS_SERR ? SERR_OFF : 0) | (s & STATUS_IOCHK ? IOCHK_OFF : 0));
    if (off)
        outb(NMI_STATUS, (uint8_t)((s & STATUS_KEEP) | off));
    return s;
}

bool nmi_take(const struct trap_frame *f)
{
    struct pcpu *p = this_pcpu();
    unsigned none = RECORD_NONE;
    p->n_nmi++;
    if (!atomic_compare_exchange_strong(&state, &none, RECORD_BUSY))
        return none == RECORD_BUSY || tsc_read() - record.tsc < clock_us_to_tsc(HANG_US);
    record.cpu = p->index;
    record.tsc = tsc_read();
    record.number = p->n_nmi;
    record.status = p->index ? 0 : nmi_chipset_status();
    trap_snapshot_take(&record.at, f);
    atomic_store_explicit(&state, RECORD_THERE, memory_order_release); /* pairs with nmi_step() */
    return true;
}

void nmi_step(void)
{
    if (atomic_load_explicit(&state, memory_order_acquire) != RECORD_THERE)
        return;
    log_warn("nmi", "NMI number %lu of CPU %u%s%s: its state was", record.number, record.cpu,
             record.status & STATUS_SERR ? ", a bus error (SERR)" : "",
             record.status & STATUS_IOCHK ? ", an error of a card (IOCHK)" : "");
    trap_snapshot_print(&record.at, "nmi");
    atomic_store_explicit(&state, RECORD_NONE, memory_order_release);
}
