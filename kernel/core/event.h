/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/event.h - when one exception is met while another is delivered: the rule that both
 * vendors share.  Portable. */
#ifndef GODWIT_KERNEL_CORE_EVENT_H
#define GODWIT_KERNEL_CORE_EVENT_H

#include "kernel/core/vcpu.h"

/** Exception second arose while exception first was being delivered: what is delivered instead.  *triple: nothing is,
 *  the processor shuts down.  SDM 3A "Interrupt 8 - Double Fault Exception (#DF)"; APM 2 8.2.9. */
struct vcpu_event event_combine(const struct vcpu_event *first, const struct vcpu_event *second, bool *triple);

#endif
