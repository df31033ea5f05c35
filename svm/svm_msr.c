/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_msr.c - MSRs: those that the guest accesses without an exit, and those that are VMCB fields.
 *
 * The MSRs that VMLOAD and VMSAVE switch are passed through: the hardware registers hold the guest's values while it
 * runs.  All others exit.  EFER must exit, since the host owns its SVME bit.  The PAT could be passed through (it is
 * the VMCB's G_PAT then), but processors and emulators differ in it. */
#include "svm/svm.h"

#include <string.h>
#include "kernel/lib/log.h"
#include "svm/svm_insn.h"

#define MSR_SYSENTER_CS    0x174u
#define MSR_SYSENTER_ESP   0x175u
#define MSR_SYSENTER_EIP   0x176u
#define MSR_DEBUGCTL       0x1d9u
#define MSR_PAT            0x277u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_SFMASK         0xc0000084u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u

static const uint32_t passed_through[] = { MSR_SYSENTER_CS, MSR_SYSENTER_ESP,  MSR_SYSENTER_EIP, MSR_STAR,
                                           MSR_LSTAR,       MSR_CSTAR,         MSR_SFMASK,       MSR_FS_BASE,
                                           MSR_GS_BASE,     MSR_KERNEL_GS_BASE };

/* APM 2 15.11: two bits per MSR (read, write), one 2 KiB vector for each of three ranges of 0x2000 MSRs. */
static void svm_msr_pass(uint8_t *map, uint32_t msr)
{
    unsigned vector = msr >= 0xc0010000 ? 2 : msr >= 0xc0000000 ? 1 : 0;
    unsigned bit = (msr & 0x1fff) * 2;
    ASSERT((msr & ~0x1fffu) == 0 || (msr & ~0x1fffu) == 0xc0000000 || (msr & ~0x1fffu) == 0xc0010000);
    map[vector * 0x800 + bit / 8] &= (uint8_t)~(3u << bit % 8);
}

void svm_msrpm_init(uint8_t *map)
{
    memset(map, 0xff, 2 * PAGE_SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(passed_through); i++)
        svm_msr_pass(map, passed_through[i]);
}

/* The VMCB field that holds msr whole, or NULL. */
static uint64_t *svm_msr_field(struct vmcb_save *m, uint32_t msr)
{
    switch (msr) {
    case MSR_SYSENTER_CS:    return &m->sysenter_cs;
    case MSR_SYSENTER_ESP:   return &m->sysenter_esp;
    case MSR_SYSENTER_EIP:   return &m->sysenter_eip;
    case MSR_DEBUGCTL:       return &m->dbgctl;
    case MSR_PAT:            return &m->g_pat;
    case MSR_STAR:           return &m->star;
    case MSR_LSTAR:          return &m->lstar;
    case MSR_CSTAR:          return &m->cstar;
    case MSR_SFMASK:         return &m->sfmask;
    case MSR_FS_BASE:        return &m->fs.base;
    case MSR_GS_BASE:        return &m->gs.base;
    case MSR_KERNEL_GS_BASE: return &m->kernel_gs_base;
    default:                 return NULL;
    }
}

enum hv_err svm_msr_get(struct vcpu *v, uint32_t msr, uint64_t *val)
{
    struct vmcb_save *m = &to_svm(v)->vmcb->save;
    if (msr == MSR_EFER) {
        *val = m->efer & ~EFER_SVME;
    } else if (msr == MSR_TSC_AUX) {
        *val = v->tsc_aux;
    } else {
        const uint64_t *f = svm_msr_field(m, msr);
        if (!f)
            return HV_E_NOENT;
        *val = *f;
    }
    return HV_OK;
}

/* LMA is read-only: the processor keeps it equal to LME && CR0.PG. */
static void svm_efer_set(struct vcpu *v, uint64_t val)
{
    struct vmcb *b = to_svm(v)->vmcb;
    vmcb_set_efer(b, (val & ~EFER_LMA) | (b->save.efer & EFER_LMA) | EFER_SVME);
    v->tlb_flush = true; /* NXE and the paging mode are in cached translations */
}

enum hv_err svm_msr_set(struct vcpu *v, uint32_t msr, uint64_t val)
{
    struct svm_vcpu *s = to_svm(v);
    if (msr == MSR_EFER) {
        svm_efer_set(v, val);
        return HV_OK;
    }
    if (msr == MSR_TSC_AUX) {
        v->tsc_aux = val;
        if (s->loaded && svm_features.rdtscp)
            svm_wrmsr(MSR_TSC_AUX, val);
        return HV_OK;
    }
    uint64_t *f = svm_msr_field(&s->vmcb->save, msr);
    if (!f)
        return HV_E_NOENT;
    *f = val;
    s->vmcb->ctl.clean &= ~(CLEAN_NP | CLEAN_LBR); /* PAT and DEBUGCTL are cached */
    return HV_OK;
}
