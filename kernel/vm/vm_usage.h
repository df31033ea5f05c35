/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_usage.h - how long guests have been running, and what they use of the processors.  Service pCPU only. */
#ifndef GODWIT_KERNEL_VM_VM_USAGE_H
#define GODWIT_KERNEL_VM_VM_USAGE_H

#include "kernel/lib/print.h"
#include "kernel/lib/types.h"

struct vm;

struct vm_usage {
    bool known;           /* else the guest does not run, nor is it paused, and all is 0 */
    uint64_t uptime_us;   /* of the guest: since its start or last reset, on any host, pauses included */
    uint64_t here_us;     /* since its start or arrival on this host */
    bool cpu_known;       /* false in its first seconds here */
    unsigned cpu_percent; /* over the last 3 to 6 seconds; 100: one processor, exits included */
};
struct vm_usage vm_usage(const struct vm *vm);
/** For `vm inspect`: one line, or none. */
void vm_usage_describe(const struct vm *vm, struct printer *out);
/** Take samples when it is time.  Part of the service loop. */
void vm_usage_step(void);

#endif
