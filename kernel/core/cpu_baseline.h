/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/cpu_baseline.h - [vm] cpu: the check of a guest's CPUID baseline, and the pool of hosts for cpu = pool.
 *
 * The pool's file has a line for each CPUID leaf of each host, as `host cpuid` prints them:
 *      cpuid HOST LEAF.SUBLEAF EAX EBX ECX EDX             numbers in hexadecimal
 * Other lines are ignored.  read: this host's CPUID; cpuid_host except in tests. */
#ifndef GODWIT_KERNEL_CORE_CPU_BASELINE_H
#define GODWIT_KERNEL_CORE_CPU_BASELINE_H

#include "kernel/config/config.h"
#include "kernel/core/cpuid.h"
#include "kernel/lib/print.h"
#include "kernel/lib/why.h"

/** Make the pool of this host and every configured peer from the file's text (NULL: there is no file).  A mistake is
 *  kept, and is the reason when a start on the pool is refused.  At boot. */
void cpu_pool_load(const struct config *c, cpuid_fn *read, const char *text, size_t len);

/** Can a guest with this configuration start here?  HV_E_UNSUPP: *why names all that this host lacks (cut to fit; whole
 *  in the log).  HV_E_NOENT: unknown baseline.  Service pCPU. */
HV_MUST_CHECK enum hv_err cpu_baseline_check(const struct vm_config *c, cpuid_fn *read, struct why *why);

/** Print this host's lines for a pool's file. */
void cpu_pool_print(const char *host, cpuid_fn *read, struct printer *out);

#endif
