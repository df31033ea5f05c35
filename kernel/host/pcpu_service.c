/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/pcpu_service.c - asking for a turn of the service loop.  Not here: when it comes (kernel/run/sched.c). */
#include "kernel/host/pcpu.h"

#define IRQ_PENDING_SERVICE BIT32(31) /* not a device vector */
_Static_assert(IRQ_VEC_DEVICE_MAX - IRQ_VEC_DEVICE < 31, "bit 31 of irq_pending is the service loop's");

/* Only a new bit kicks: a guest that rings for ever interrupts the boot CPU once for each turn. */
void pcpu_kick_service(void)
{
    struct pcpu *boot = pcpu_get(0);
    if (this_pcpu() == boot)
        boot->rang = true;
    if (!(atomic_fetch_or(&boot->irq_pending, IRQ_PENDING_SERVICE) & IRQ_PENDING_SERVICE))
        pcpu_kick(0);
}
