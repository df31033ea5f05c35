/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_check.c - which rule of VMRUN does this VMCB break?
 *
 * The processor reports only VMEXIT_INVALID.  This file checks the rules of APM 2 15.5.1 "Canonicalization and
 * Consistency Checks" (and those of event injection, 15.20) and names the first broken one.  It is a pure function of a
 * VMCB: the unit test breaks the fields one by one.  The Intel half: vmx_check.c. */
#include "svm/svm.h"

#define CR0_PE     BIT64(0)
#define CR0_NW     BIT64(29)
#define CR0_CD     BIT64(30)
#define CR0_PG     BIT64(31)
#define CR4_PAE    BIT64(5)
#define CR0_WP     BIT64(16)
#define CR4_CET    BIT64(23)
#define EFER_MBZ   0xffffffffff800000ul /* bit 22 (extended LBR) is the highest in use */
#define ATTR_L     0x200u
#define ATTR_D     0x400u
#define IOPM_LAST  0x2ffful
#define MSRPM_LAST 0x1ffful

struct rule {
    bool broken;
    const char *field;
    uint64_t value;
    const char *rule;
};

static bool svm_check_injection(uint64_t inj)
{
    unsigned type = (unsigned)FIELD_GET(EVENTINJ_TYPE, inj), vector = (unsigned)(inj & EVENTINJ_VECTOR);
    if (!(inj & EVENTINJ_VALID))
        return true;
    if (type == EVENTINJ_TYPE_EXC)
        return vector < 32 && vector != 2;
    return type == EVENTINJ_TYPE_INTR || type == EVENTINJ_TYPE_NMI || type == EVENTINJ_TYPE_SOFT;
}

static bool svm_check_report(const struct rule *rules, size_t n, struct why *why)
{
    for (size_t i = 0; i < n; i++)
        if (rules[i].broken) {
            why_say(why, "%s is 0x%lx: %s", rules[i].field, rules[i].value, rules[i].rule);
            return false;
        }
    return true;
}

static bool svm_check_controls(const struct vmcb_ctl *c, uint64_t phys_end, unsigned n_asids, struct why *why)
{
    const struct rule rules[] = {
        { !(c->icept4 & ICEPT4_VMRUN), "intercept word 4", c->icept4, "the VMRUN intercept (bit 0) must be set" },
        { c->asid == 0, "ASID", c->asid, "0 is the host's" },
        { c->asid >= n_asids, "ASID", c->asid, "must be below the number of ASIDs (CPUID 8000_000A EBX)" },
        { c->iopm_pa + IOPM_LAST >= phys_end, "IOPM_BASE_PA", c->iopm_pa,
          "the I/O map must lie below the physical address limit" },
        { c->msrpm_pa + MSRPM_LAST >= phys_end, "MSRPM_BASE_PA", c->msrpm_pa,
          "the MSR map must lie below the physical address limit" },
        { (c->np_enable & 1) && (c->n_cr3 >= phys_end || c->n_cr3 & 0xfe7), "N_CR3", c->n_cr3,
          "reserved bits must be zero" },
        { c->tlb_control > 7, "TLB_CONTROL", c->tlb_control, "reserved encoding" },
        { !svm_check_injection(c->event_inj), "EVENTINJ", c->event_inj,
          "type or vector cannot be injected (APM 2 15.20)" },
    };
    return svm_check_report(rules, ARRAY_SIZE(rules), why);
}

static bool svm_check_pat(uint64_t pat)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned type = pat >> 8 * i & 0xff;
        if (type > 7 || type == 2 || type == 3)
            return false;
    }
    return true;
}

static bool svm_check_save(const struct vmcb *b, uint64_t phys_end, uint64_t cr4_known, struct why *why)
{
    const struct vmcb_save *m = &b->save;
    bool paging = m->cr0 & CR0_PG, long_mode = (m->efer & EFER_LME) && paging;
    const struct rule rules[] = {
        { !(m->efer & EFER_SVME), "EFER", m->efer, "SVME (bit 12) must be set" },
        { m->efer & EFER_MBZ, "EFER", m->efer, "reserved bits must be zero" },
        { !(m->cr0 & CR0_CD) && (m->cr0 & CR0_NW), "CR0", m->cr0, "NW (bit 29) needs CD (bit 30)" },
        { m->cr0 >> 32, "CR0", m->cr0, "bits 32-63 must be zero" },
        { paging && !(m->cr0 & CR0_PE), "CR0", m->cr0, "PG (bit 31) needs PE (bit 0)" },
        { long_mode && m->cr3 >= phys_end, "CR3", m->cr3, "beyond the physical address limit" },
        { m->cr4 & ~cr4_known, "CR4", m->cr4, "bits that this processor does not have must be zero" },
        { (m->cr4 & CR4_CET) && !(m->cr0 & CR0_WP), "CR4", m->cr4, "CET (bit 23) needs CR0.WP (bit 16)" },
        { long_mode && !(m->cr4 & CR4_PAE), "CR4", m->cr4, "EFER.LME with CR0.PG needs PAE (bit 5)" },
        { paging && !(m->efer & EFER_LME) != !(m->efer & EFER_LMA), "EFER", m->efer,
          "with CR0.PG, LMA (bit 10) must be as LME (bit 8)" },
        { long_mode && (m->cs.attr & ATTR_L) && (m->cs.attr & ATTR_D), "CS attributes", m->cs.attr,
          "L and D cannot both be set in long mode" },
        { m->dr6 >> 32, "DR6", m->dr6, "bits 32-63 must be zero" },
        { m->dr7 >> 32, "DR7", m->dr7, "bits 32-63 must be zero" },
        { (b->ctl.np_enable & 1) && !svm_check_pat(m->g_pat), "G_PAT", m->g_pat, "holds a reserved memory type" },
    };
    return svm_check_report(rules, ARRAY_SIZE(rules), why);
}

bool svm_vmcb_check(const struct vmcb *b, unsigned phys_bits, unsigned n_asids, uint64_t cr4_known, struct why *why)
{
    uint64_t phys_end = BIT64(phys_bits < 63 ? phys_bits : 63);
    return svm_check_controls(&b->ctl, phys_end, n_asids, why) && svm_check_save(b, phys_end, cr4_known, why);
}
