/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/event.c - RFLAGS.RF in pushed images, and the double-fault rule: SDM 3A "Interrupt 8 - Double Fault
 * Exception (#DF)", as a table.
 *
 *   first \ second     benign    contributory   #PF
 *   benign             second    second         second
 *   contributory       second    #DF            second
 *   #PF                second    #DF            #DF
 *   #DF                second    shutdown       shutdown
 * Contributory: #DE, #TS, #NP, #SS, #GP. */
#include "kernel/core/event.h"

#include "kernel/host/x86/regs.h"
#include "kernel/lib/log.h"

#define VECTOR_DF 8
#define VECTOR_MC 18
#define VECTOR_PF 14

static bool event_contributory(uint8_t vector) { return vector == 0 || (vector >= 10 && vector <= 13); }

struct vcpu_event event_combine(const struct vcpu_event *first, const struct vcpu_event *second, bool *triple)
{
    ASSERT(first->type == EVENT_EXCEPTION && second->type == EVENT_EXCEPTION);
    bool c = event_contributory(second->vector), pf = second->vector == VECTOR_PF;
    *triple = first->vector == VECTOR_DF && (c || pf);
    bool df = (event_contributory(first->vector) && c) || (first->vector == VECTOR_PF && (c || pf));
    return df ? (struct vcpu_event){ .type = EVENT_EXCEPTION, .vector = VECTOR_DF, .has_error = true } : *second;
}

/* #DB is a fault only for an instruction breakpoint, with RF clear; #BP and #OF are traps, #DF and #MC aborts. */
uint64_t event_pushes_rf(const struct vcpu_event *e)
{
    const uint32_t no_faults = BIT32(1) | BIT32(2) | BIT32(3) | BIT32(4) | BIT32(VECTOR_DF) | BIT32(VECTOR_MC);
    bool fault = e->type == EVENT_EXCEPTION && e->vector < 32 && !(no_faults & BIT32(e->vector));
    return fault ? RFLAGS_RF : 0;
}
