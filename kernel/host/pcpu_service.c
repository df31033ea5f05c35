/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/pcpu_service.c - asking for a turn of the service loop.
 *
 * Not here: when it comes (kernel/run/sched.c), and what it does (kernel/service.c). */
#include "kernel/host/pcpu.h"

/* Only a new bit kicks: a guest that rings for ever interrupts the boot CPU once for each turn. */
static void pcpu_cause(unsigned cause)
{
    struct pcpu *boot = pcpu_get(0);
    if (this_pcpu() == boot)
        boot->rang = true;
    if (!(atomic_fetch_or(&boot->irq_pending, cause) & cause))
        pcpu_kick(0);
}

void pcpu_kick_service(void) { pcpu_cause(PCPU_CAUSE_SERVICE); }
void pcpu_kick_disks(void) { pcpu_cause(PCPU_CAUSE_DISKS); }
