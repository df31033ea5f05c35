/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/event.h - the double-fault rule, which both vendors use.  Portable. */
#ifndef GODWIT_KERNEL_CORE_EVENT_H
#define GODWIT_KERNEL_CORE_EVENT_H

#include "kernel/core/vcpu.h"

/** What is delivered when exception second arises during the delivery of exception first: second, or #DF.  *triple:
 *  nothing, the processor shuts down.  Any context.  SDM 3A "Interrupt 8 - Double Fault Exception (#DF)"; APM 2
 *  8.2.9. */
struct vcpu_event event_combine(const struct vcpu_event *first, const struct vcpu_event *second, bool *triple);

#endif
