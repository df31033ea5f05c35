/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_pml.h - dirty logging by Intel's page-modification log, for kernel/core/dirty.c (by way of cpu_ops).
 *
 *   start:    split the blocks with D clear;  vmx_pml_set(v, true) for each vCPU;  s2_flush(vm);  clear all D
 *             bits once more, those that were set by stores that nobody logged;  s2_flush(vm).  When it
 *             returns, each store is logged.
 *   harvest:  take (exchange with 0) the words of d->live;  clear the D bits of just those pages;  s2_flush(vm);  copy.
 *   stop:     vmx_pml_set(v, false) for each vCPU;  s2_flush(vm).
 *
 * Nobody else touches a vCPU's buffer: its owner empties it at every exit by dirty_mark().  An entry that is still in a
 * buffer when a harvest takes the bitmap is marked at the exit that s2_flush() causes and belongs to the next harvest;
 * its D bit is still set then, and was not cleared because the page was not in the bitmap.  So each page with D set is
 * in the bitmap, in a buffer, or retired and not yet flushed. */
#ifndef GODWIT_VMX_VMX_PML_H
#define GODWIT_VMX_VMX_PML_H

#include "kernel/lib/err.h"

struct vcpu;
struct vmx_vcpu;

/** Log v's stores from its next entry on, or no more.  Any pCPU; v may be in the guest: s2_flush() afterwards
 *  makes it take effect.  on: allocates the buffer the first time.  HV_E_NOMEM; HV_E_UNSUPP: this processor has no
 *  PML (or no A/D bits). */
HV_MUST_CHECK enum hv_err vmx_pml_set(struct vcpu *v, bool on);

/* For vmx/ itself; s is loaded. */
/** Before an entry, with in_guest set: make the VMCS follow vmx_pml_set(). */
void vmx_pml_prepare(struct vmx_vcpu *s);
/** After an exit: empty the buffer into dirty_mark(). */
void vmx_pml_drain(struct vmx_vcpu *s);

#endif
