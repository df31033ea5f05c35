/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_ctl.c - the choice of VM-execution, exit and entry controls among those that the processor allows.
 *
 * For each control field a capability MSR says which bits must and which may be set (SDM 3D App. A.3 to A.5).  Bits
 * without a name here are set only where they must be: "default1" bits, which have no meaning of their own.
 * Three lists for each field:
 *   need     required: HV_E_UNSUPP names the missing ones
 *   want     set where possible
 *   refuse   default1 bits of exits that we do not handle: must be clearable (as wherever TRUE MSRs exist) */
#include <stdio.h>
#include "kernel/core/cpuid.h"
#include "vmx/vmx.h"

struct named {
    uint32_t bit;
    const char *name;
};

static const struct named need_pin[] = {
    { PIN_EXTINT, "external-interrupt exiting" },
    { PIN_NMI, "NMI exiting" },
    { PIN_VIRTUAL_NMIS, "virtual NMIs" },
};
static const struct named need_proc[] = {
    { PROC_IRQ_WINDOW, "interrupt-window exiting" },
    { PROC_TSC_OFFSET, "TSC offsetting" },
    { PROC_HLT, "HLT exiting" },
    { PROC_MWAIT, "MWAIT exiting" },
    { PROC_RDPMC, "RDPMC exiting" },
    { PROC_TPR_SHADOW, "TPR shadow" },
    { PROC_NMI_WINDOW, "NMI-window exiting" },
    { PROC_IO, "unconditional I/O exiting" },
    { PROC_MSR_BITMAPS, "MSR bitmaps" },
    { PROC_MONITOR, "MONITOR exiting" },
    { PROC_SECONDARY, "secondary controls" },
};
static const struct named need_proc2[] = {
    { PROC2_EPT, "EPT" },
    { PROC2_UNRESTRICTED, "unrestricted guest" },
    { PROC2_WBINVD, "WBINVD exiting" },
};
static const struct named need_exit[] = {
    { EXIT_SAVE_DEBUG, "save debug controls" },
    { EXIT_HOST_64, "host address-space size" },
    { EXIT_SAVE_PAT, "save PAT" },
    { EXIT_LOAD_PAT, "load PAT on exit" },
    { EXIT_SAVE_EFER, "save EFER" },
    { EXIT_LOAD_EFER, "load EFER on exit" },
};
static const struct named need_entry[] = {
    { ENTRY_LOAD_DEBUG, "load debug controls" },
    { ENTRY_IA32E, "IA-32e mode guest" },
    { ENTRY_LOAD_PAT, "load PAT on entry" },
    { ENTRY_LOAD_EFER, "load EFER on entry" },
};
static const struct named refuse_pin[] = { { PIN_POSTED, "posted interrupts" } };
static const struct named refuse_proc[] = {
    { PROC_INVLPG, "INVLPG exiting" },     { PROC_RDTSC, "RDTSC exiting" },
    { PROC_CR3_LOAD, "CR3-load exiting" }, { PROC_CR3_STORE, "CR3-store exiting" },
    { PROC_CR8_LOAD, "CR8-load exiting" }, { PROC_CR8_STORE, "CR8-store exiting" },
    { PROC_MOV_DR, "MOV-DR exiting" },     { PROC_MTF, "monitor trap flag" },
};
static const struct named refuse_exit[] = { { EXIT_ACK_IRQ, "acknowledge interrupt on exit" } };
static const struct named refuse_entry[] = { { ENTRY_SMM, "entry to SMM" },
                                             { ENTRY_DUAL_MONITOR, "deactivate dual-monitor treatment" } };

/* Set only while a window is requested. */
#define PROC_ON_DEMAND (PROC_IRQ_WINDOW | PROC_NMI_WINDOW)
#define PIN_WANT       PIN_PREEMPT_TIMER
#define PROC2_WANT     (PROC2_RDTSCP | PROC2_VPID | PROC2_INVPCID | PROC2_XSAVES | PROC2_PLE)

struct text {
    char *p;
    size_t len, used;
};

static void ctl_names_add(struct text *t, const char *what, const char *name)
{
    int n = snprintf(t->p + t->used, t->len - t->used, "%s%s%s", t->used ? ", " : "", what, name);
    if (n > 0)
        t->used = MIN(t->used + (size_t)n, t->len - 1);
}

struct list {
    const struct named *e;
    size_t n;
};
#define LIST(a) ((struct list){ a, ARRAY_SIZE(a) })
#define NO_LIST ((struct list){ NULL, 0 })

/* Choose one control field; add missing features to t. */
static uint32_t vmx_ctl_choose(struct vmx_ctl_cap cap, struct list need, struct list refuse, uint32_t want,
                               struct text *t)
{
    uint32_t ctl = cap.must | (want & cap.may);
    for (size_t i = 0; i < need.n; i++) {
        if (!(cap.may & need.e[i].bit))
            ctl_names_add(t, "", need.e[i].name);
        ctl |= need.e[i].bit;
    }
    for (size_t i = 0; i < refuse.n; i++)
        if (cap.must & refuse.e[i].bit)
            ctl_names_add(t, "a way to switch off ", refuse.e[i].name);
    return ctl;
}

/* VPIDs are used only where their translations can be flushed. */
static uint32_t vmx_proc2_wanted(const struct vmx_caps *caps)
{
    uint32_t want = PROC2_WANT;
    bool invvpid =
        (caps->ept_vpid & EPT_CAP_INVVPID) && (caps->ept_vpid & (EPT_CAP_INVVPID_SINGLE | EPT_CAP_INVVPID_ALL));
    return invvpid ? want : want & ~PROC2_VPID;
}

enum hv_err vmx_ctls_choose(const struct vmx_caps *c, struct vmx_ctls *out, char *missing, size_t missing_len)
{
    struct text t = { missing, missing_len, 0 };
    missing[0] = 0;
    out->pin = vmx_ctl_choose(c->pin, LIST(need_pin), LIST(refuse_pin), PIN_WANT, &t);
    out->proc = vmx_ctl_choose(c->proc, LIST(need_proc), LIST(refuse_proc), 0, &t) & ~(PROC_ON_DEMAND & ~c->proc.must);
    out->proc2 = vmx_ctl_choose(c->proc2, LIST(need_proc2), NO_LIST, vmx_proc2_wanted(c), &t);
    out->exit = vmx_ctl_choose(c->exit, LIST(need_exit), LIST(refuse_exit), 0, &t);
    out->entry =
        vmx_ctl_choose(c->entry, LIST(need_entry), LIST(refuse_entry), 0, &t) & ~(ENTRY_IA32E & ~c->entry.must);
    return t.used ? HV_FAIL(HV_E_UNSUPP) : HV_OK;
}

void vmx_ctls_mask(uint32_t *proc2, uint32_t may, const struct cpuid_table *t)
{
    if (!cpuid_has(t, 0x80000001, 0, CPUID_EDX, 27) && !cpuid_has(t, 7, 0, CPUID_ECX, 22))
        *proc2 &= ~PROC2_RDTSCP; /* RDTSCP and RDPID */
    if (!cpuid_has(t, 7, 0, CPUID_EBX, 10))
        *proc2 &= ~PROC2_INVPCID;
    if (!cpuid_has(t, 0xd, 1, CPUID_EAX, 3))
        *proc2 &= ~PROC2_XSAVES;
    if (!cpuid_has(t, 1, 0, CPUID_ECX, 30))
        *proc2 |= PROC2_RDRAND & may;
    if (!cpuid_has(t, 7, 0, CPUID_EBX, 18))
        *proc2 |= PROC2_RDSEED & may;
}

enum hv_err vmx_ept_check(uint64_t cap, char *missing, size_t missing_len)
{
    struct text t = { missing, missing_len, 0 };
    missing[0] = 0;
    if (!(cap & EPT_CAP_WALK_4))
        ctl_names_add(&t, "", "EPT with 4 levels");
    if (!(cap & EPT_CAP_WB))
        ctl_names_add(&t, "", "write-back EPT structures");
    if (!(cap & EPT_CAP_2M))
        ctl_names_add(&t, "", "2 MiB EPT pages");
    if (!(cap & EPT_CAP_INVEPT) || !(cap & (EPT_CAP_INVEPT_SINGLE | EPT_CAP_INVEPT_ALL)))
        ctl_names_add(&t, "", "INVEPT");
    return t.used ? HV_FAIL(HV_E_UNSUPP) : HV_OK;
}
