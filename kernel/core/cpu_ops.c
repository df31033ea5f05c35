/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/cpu_ops.c - the choice of the vendor's operations for this host, once at boot.  Not here: what the
 * operations must do (cpu_ops.h), and the list of vendors (kernel/main.c). */
#include "kernel/core/cpu_ops.h"

#include "kernel/core/s2.h"
#include "kernel/lib/log.h"

#define CPU_OPS_MAX 4

const struct cpu_ops *cpu_ops;
struct cpu_caps cpu_caps;
static const struct cpu_ops *const *vendors; /* [c] */
static unsigned n_vendors;                   /* [c] */

const struct cpu_ops *cpu_ops_of_vendor(unsigned vendor)
{
    for (unsigned i = 0; i < n_vendors; i++)
        if (vendors[i]->vendor == vendor)
            return vendors[i];
    return NULL;
}

/* A vendor whose feature is locked off gives the most useful reason; the others only say "not mine". */
void cpu_ops_choose(const struct cpu_ops *const list[], unsigned n)
{
    const char *why[CPU_OPS_MAX] = { NULL };
    ASSERT(n <= CPU_OPS_MAX && !vendors);
    vendors = list;
    n_vendors = n;
    const char *locked = NULL;
    for (unsigned i = 0; i < n_vendors && !cpu_ops; i++) {
        ASSERT(vendors[i]->vendor); /* 0 is no vendor in offers */
        enum hv_err e = vendors[i]->probe(&cpu_caps, &why[i]);
        if (e == HV_OK)
            cpu_ops = vendors[i];
        else if (e == HV_E_BUSY)
            locked = why[i];
    }
    if (cpu_ops)
        log_info("cpu", "%s, %s, ASIDs %u, next-RIP %s", cpu_ops->name, cpu_ops->s2_format->name, cpu_caps.n_asids,
                 cpu_caps.next_rip ? "yes" : "no");
    else if (locked)
        log_error("cpu", "no guest can run: %s", locked);
    else
        for (unsigned i = 0; i < n_vendors; i++)
            log_error("cpu", "no guest can run: %s", why[i]);
}
