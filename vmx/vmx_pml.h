/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_pml.h - dirty logging by Intel's page-modification log (PML), for kernel/core/dirty.c by way of cpu_ops.
 *
 *   start:    split the blocks with D clear;  vmx_pml_set(v, true) for each vCPU;  s2_flush(vm);  clear all D
 *             bits again, since stores before the flush set some without a log entry;  s2_flush(vm).  From
 *             then on each store is logged.
 *   harvest:  exchange the words of d->live with 0;  clear the D bits of exactly those pages;  s2_flush(vm);  copy.
 *   stop:     vmx_pml_set(v, false) for each vCPU;  s2_flush(vm).
 *
 * Only the owner pCPU accesses a vCPU's buffer: it drains the buffer by dirty_mark() at every exit.  An entry may still
 * be in a buffer when a harvest takes the bitmap.  The exit that s2_flush() causes marks its page, for the next
 * harvest.  The page's D bit is still set then: it was not cleared, since the page was not in the bitmap.
 * Invariant: each page with D set is in the bitmap, in a buffer, or retired and not yet flushed. */
#ifndef GODWIT_VMX_VMX_PML_H
#define GODWIT_VMX_VMX_PML_H

#include "kernel/lib/err.h"

struct vcpu;
struct vmx_vcpu;

/** Enable or disable the log for v from its next entry on.  Any pCPU; v may be in guest mode, and a following
 *  s2_flush() makes the change take effect.  The first enabling allocates the buffer.
 *  HV_E_NOMEM (only when on); HV_E_UNSUPP (only when on): this processor has no PML or no A/D bits. */
HV_MUST_CHECK enum hv_err vmx_pml_set(struct vcpu *v, bool on);

/* For vmx/ itself; s is loaded. */
/** Before an entry, with in_guest set: apply vmx_pml_set() to the VMCS. */
void vmx_pml_prepare(struct vmx_vcpu *s);
/** After an exit, with in_guest still set: drain the buffer by dirty_mark(). */
void vmx_pml_drain(struct vmx_vcpu *s);

#endif
