/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_pml.c - page-modification logging: the processor logs the guest pages whose EPT D bit it sets.
 *
 * The log is a page of 512 guest-physical addresses, filled from its end.  The index field points at the next free
 * entry and becomes FFFFh when the page is full.  The next store that would be logged then exits instead (SDM 3C
 * "Page-Modification Logging").  vmx_pml.h says how kernel/core/dirty.c uses the log, and why nothing is lost.  The
 * guest's page tables are logged as well: with A/D bits enabled, their walk counts as a write. */
#include "vmx/vmx.h"

#include "kernel/core/dirty.h"
#include "kernel/core/vm.h"
#include "kernel/host/page.h"

#define PML_ENTRIES 512u
#define PML_EMPTY   (PML_ENTRIES - 1)
_Static_assert(PML_ENTRIES * sizeof(uint64_t) == PAGE_SIZE, "SDM 3C Page-Modification Logging");

enum hv_err vmx_pml_set(struct vcpu *v, bool on)
{
    struct vmx_vcpu *s = to_vmx(v);
    if (on && !cpu_caps.pml)
        return HV_FAIL(HV_E_UNSUPP);
    if (on && !s->pml && !(s->pml = page_alloc()))
        return HV_FAIL(HV_E_NOMEM);
    atomic_store_explicit(&s->pml_wanted, on, memory_order_release); /* with the buffer; pairs with vmx_pml_prepare() */
    return HV_OK;
}

void vmx_pml_prepare(struct vmx_vcpu *s)
{
    /* seq_cst, after in_guest: s2_flush() after vmx_pml_set() waits for this entry */
    bool on = atomic_load(&s->pml_wanted);
    ASSERT(s->loaded && atomic_load_explicit(&s->v.in_guest, memory_order_relaxed));
    if (on != s->pml_on) {
        s->pml_on = on;
        s->ctl.proc2 = on ? s->ctl.proc2 | PROC2_PML : s->ctl.proc2 & ~PROC2_PML;
        if (on) {
            ASSERT(s->pml);
            vmcs_write64(VMCS_PML_ADDRESS, ptr_hpa(s->pml).v);
            vmcs_write16(VMCS_GUEST_PML_INDEX, PML_EMPTY);
        }
    }
    if (s->ctl.proc2 != s->proc2_written)
        vmcs_write32(VMCS_PROC2_CTL, s->proc2_written = s->ctl.proc2);
}

void vmx_pml_drain(struct vmx_vcpu *s)
{
    ASSERT(s->pml_on && s->pml);
    uint16_t index = vmcs_read16(VMCS_GUEST_PML_INDEX);
    if (index == PML_EMPTY)
        return;
    unsigned first = index < PML_ENTRIES ? index + 1u : 0; /* FFFFh: the page is full */
    for (unsigned i = first; i < PML_ENTRIES; i++)
        dirty_mark(s->v.vm, s->pml[i] >> PAGE_SHIFT);
    vmcs_write16(VMCS_GUEST_PML_INDEX, PML_EMPTY);
}
