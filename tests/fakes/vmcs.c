/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/vmcs.c - see vmcs.h. */
#include "tests/fakes/vmcs.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/page.h"
#include "tests/fakes/speculation.h"

#define N_VMCS     16
#define NOT_ACTIVE (~0u)

static struct fake_vmcs {
    uint64_t pa; /* 0: slot is free */
    bool launched;
    unsigned active_on;
    uint64_t val[0x6c18 / 2];
} vmcs[N_VMCS];
static struct fake_vmcs *current[2];
static bool vmx_on[2];
static struct {
    uint32_t msr;
    uint64_t val;
} msrs[64];
static unsigned n_msrs;
static struct pcpu_arch archs[2];

unsigned fake_cpu;
struct pcpu fake_pcpus[2];
void (*fake_guest)(uint64_t *gpr);
unsigned fake_n_entries, fake_n_invept, fake_n_invvpid, fake_n_take_irq, fake_n_take_nmi;
uint64_t fake_tsc, fake_invept_type, fake_invept_eptp, fake_invvpid_type, fake_invvpid_vpid, fake_cr[5], fake_dr[8];
uint32_t fake_injected_info, fake_injected_error;
char fake_check_why[300];
struct vmx_table fake_gdtr, fake_idtr;
struct vmx_cpuid fake_cpuid_1;

struct pcpu *this_pcpu(void) { return &fake_pcpus[fake_cpu]; }

static void stop(const char *why, uint64_t what)
{
    fprintf(stderr, "fake VT-x: %s (0x%lx)\n", why, what);
    abort();
}

void fake_msr_put(uint32_t msr, uint64_t val)
{
    unsigned i = 0;
    while (i < n_msrs && msrs[i].msr != msr)
        i++;
    if (i == n_msrs && n_msrs++ == 64)
        stop("too many MSRs", msr);
    msrs[i].msr = msr;
    msrs[i].val = val;
}

uint64_t fake_msr_get(uint32_t msr)
{
    for (unsigned i = 0; i < n_msrs; i++)
        if (msrs[i].msr == msr)
            return msrs[i].val;
    stop("#GP: no such MSR", msr);
    return 0;
}

uint64_t vmx_rdmsr(uint32_t msr) { return fake_msr_get(msr); }

void vmx_wrmsr(uint32_t msr, uint64_t val)
{
    uint64_t old = fake_msr_get(msr);
    if ((msr >= MSR_VMX_BASIC && msr <= MSR_VMX_TRUE_ENTRY_CTLS) || (msr == MSR_FEATURE_CONTROL && (old & 1)))
        stop("#GP: read-only MSR", msr);
    fake_msr_put(msr, val);
}

void fake_vmx_reset(void)
{
    static const struct {
        uint32_t msr;
        uint64_t val;
    } power_on[] = {
        { MSR_FEATURE_CONTROL, 0 },
        { MSR_VMX_BASIC, 0x00d8100000000012 },
        { MSR_VMX_PINBASED_CTLS, 0x0000007f00000016 },
        { MSR_VMX_TRUE_PINBASED_CTLS, 0x0000007f00000016 },
        { MSR_VMX_PROCBASED_CTLS, 0xfff9fffe0401e172 },
        { MSR_VMX_TRUE_PROCBASED_CTLS, 0xfff9fffe04006172 },
        { MSR_VMX_PROCBASED_CTLS2, 0x0217fcff00000000 },
        { MSR_VMX_EXIT_CTLS, 0x01ffffff00036dff },
        { MSR_VMX_TRUE_EXIT_CTLS, 0x01ffffff00036dfb },
        { MSR_VMX_ENTRY_CTLS, 0x0003ffff000011ff },
        { MSR_VMX_TRUE_ENTRY_CTLS, 0x0003ffff000011fb },
        { MSR_VMX_MISC, 0x7004c1e7 },
        { MSR_VMX_EPT_VPID_CAP, 0x00000f0106734141 },
        { MSR_VMX_CR0_FIXED0, 0x80000021 },
        { MSR_VMX_CR0_FIXED1, 0xffffffff },
        { MSR_VMX_CR4_FIXED0, 0x2000 },
        { MSR_VMX_CR4_FIXED1, 0x00772fff },
        { MSR_EFER, EFER_LME | EFER_LMA | EFER_NXE },
        { MSR_PAT, 0x0007040600070406 },
        { MSR_FS_BASE, 0 },
        { MSR_TSC_AUX, 0 },
        { MSR_STAR, 0 },
        { MSR_LSTAR, 0 },
        { MSR_CSTAR, 0 },
        { MSR_SFMASK, 0 },
        { MSR_KERNEL_GS_BASE, 0 },
        { MSR_XSS, 0 },
    };
    n_msrs = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(power_on); i++)
        fake_msr_put(power_on[i].msr, power_on[i].val);
    memset(vmcs, 0, sizeof(vmcs));
    memset(current, 0, sizeof(current));
    memset(vmx_on, 0, sizeof(vmx_on));
    memset(fake_dr, 0, sizeof(fake_dr));
    fake_cpu = 0;
    fake_guest = NULL;
    fake_cpuid_1 = (struct vmx_cpuid){ .eax = 0x00050654, .ecx = BIT32(5) };
    fake_cr[0] = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    fake_cr[3] = 0x5000;
    fake_cr[4] = CR4_PAE | CR4_DE | CR4_MCE | CR4_OSFXSR;
    for (unsigned i = 0; i < 2; i++)
        fake_pcpus[i] = (struct pcpu){ .self = &fake_pcpus[i], .index = i, .arch = &archs[i] };
    fake_gdtr = (struct vmx_table){ sizeof(archs[0].gdt) - 1, (uintptr_t)archs[0].gdt };
    fake_idtr = (struct vmx_table){ 4095, 0x7000 };
    fake_n_entries = fake_n_invept = fake_n_invvpid = fake_n_take_irq = fake_n_take_nmi = 0;
}

uint64_t vmx_rdtsc(void) { return fake_tsc; }

struct vmx_cpuid vmx_cpuid(uint32_t leaf, uint32_t subleaf)
{
    (void)subleaf;
    switch (leaf) {
    case 0:          return (struct vmx_cpuid){ .eax = 0x16 };
    case 1:          return fake_cpuid_1;
    case 0x80000000: return (struct vmx_cpuid){ .eax = 0x80000008 };
    case 0x80000001: return (struct vmx_cpuid){ .edx = BIT32(27) };
    case 0x80000008: return (struct vmx_cpuid){ .eax = 0x3030 };
    default:         return (struct vmx_cpuid){ 0 };
    }
}

uint64_t vmx_cr_read(unsigned n) { return fake_cr[n]; }
void vmx_cr_write(unsigned n, uint64_t val) { fake_cr[n] = val; }
uint64_t vmx_dr_read(unsigned n) { return fake_dr[n]; }
void vmx_dr_write(unsigned n, uint64_t val) { fake_dr[n] = val; }
void vmx_tables_store(struct vmx_table *gdtr, struct vmx_table *idtr) { *gdtr = fake_gdtr, *idtr = fake_idtr; }
void vmx_tables_load(const struct vmx_table *gdtr, const struct vmx_table *idtr)
{
    fake_gdtr = *gdtr, fake_idtr = *idtr;
}
uint64_t vmx_host_rip(void) { return 0x123456; }
void vmx_take_interrupts(void) { fake_n_take_irq++; }
void vmx_take_nmi(void) { fake_n_take_nmi++; }

static void revision_check(uint64_t pa)
{
    if ((pa & 0xfff) || *(uint32_t *)hpa_ptr(hpa(pa)) != (fake_msr_get(MSR_VMX_BASIC) & 0x7fffffff))
        stop("region unaligned or without revision id", pa);
}

static bool fixed_bits_ok(void)
{
    uint64_t cr0 = fake_msr_get(MSR_VMX_CR0_FIXED0), cr4 = fake_msr_get(MSR_VMX_CR4_FIXED0);
    return (fake_cr[0] & cr0) == cr0 && (fake_cr[4] & cr4) == cr4 && !(fake_cr[4] & ~fake_msr_get(MSR_VMX_CR4_FIXED1));
}

bool vmx_vmxon(uint64_t pa)
{
    revision_check(pa);
    uint64_t fc = fake_msr_get(MSR_FEATURE_CONTROL);
    if ((fc & 5) != 5 || !(fake_cr[4] & CR4_VMXE) || !fixed_bits_ok())
        stop("VMXON: feature control, CR0 or CR4 do not allow it", fc);
    vmx_on[fake_cpu] = true;
    return true;
}
void vmx_vmxoff(void) { vmx_on[fake_cpu] = false; }

static struct fake_vmcs *find(uint64_t pa, bool make)
{
    struct fake_vmcs *free_slot = NULL;
    for (unsigned i = 0; i < N_VMCS; i++) {
        if (vmcs[i].pa == pa)
            return &vmcs[i];
        if (!vmcs[i].pa)
            free_slot = &vmcs[i];
    }
    if (!make || !free_slot)
        stop(make ? "too many VMCSs" : "VMPTRLD without a VMCLEAR before", pa);
    memset(free_slot, 0xa5, sizeof(*free_slot)); /* memory that nobody has written */
    free_slot->pa = pa;
    return free_slot;
}

bool vmx_vmclear(uint64_t pa)
{
    if (!vmx_on[fake_cpu])
        stop("#UD: VMCLEAR outside VMX operation", pa);
    struct fake_vmcs *f = find(pa, true);
    if (f->active_on != NOT_ACTIVE && f->active_on != 0xa5a5a5a5 && f->active_on != fake_cpu)
        stop("VMCLEAR on another CPU than the VMCS is active on", pa);
    f->active_on = NOT_ACTIVE;
    f->launched = false;
    if (current[fake_cpu] == f)
        current[fake_cpu] = NULL;
    return true;
}

bool vmx_vmptrld(uint64_t pa)
{
    if (!vmx_on[fake_cpu])
        stop("#UD: VMPTRLD outside VMX operation", pa);
    revision_check(pa);
    struct fake_vmcs *f = find(pa, false);
    if (f->active_on != NOT_ACTIVE && f->active_on != fake_cpu)
        stop("VMPTRLD of a VMCS that is active on another CPU", pa);
    f->active_on = fake_cpu;
    current[fake_cpu] = f;
    return true;
}

static uint64_t *field(uint32_t f)
{
    uint32_t proc2 = (uint32_t)(fake_msr_get(MSR_VMX_PROCBASED_CTLS2) >> 32);
    static const struct {
        enum vmcs_field f;
        uint32_t proc2;
    } only_with[] = {
        { VMCS_VPID, PROC2_VPID },          { VMCS_PML_ADDRESS, PROC2_PML }, { VMCS_GUEST_PML_INDEX, PROC2_PML },
        { VMCS_XSS_EXITING, PROC2_XSAVES }, { VMCS_PLE_GAP, PROC2_PLE },     { VMCS_PLE_WINDOW, PROC2_PLE },
    };
    if (!current[fake_cpu])
        stop("VMfailInvalid: no current VMCS for field", f);
    if (*vmcs_field_name(f) == '?')
        stop("no such field", f);
    for (unsigned i = 0; i < ARRAY_SIZE(only_with); i++)
        if (only_with[i].f == f && !(proc2 & only_with[i].proc2))
            stop("this processor has no such field", f);
    return &current[fake_cpu]->val[f / 2];
}

uint64_t vmx_vmread(uint32_t f) { return *field(f); }
uint64_t fake_get(enum vmcs_field f) { return *field(f); }

static uint64_t cut(uint32_t f, uint64_t val)
{
    switch (VMCS_WIDTH(f)) {
    case VMCS_WIDTH_16: return (uint16_t)val;
    case VMCS_WIDTH_32: return (uint32_t)val;
    default:            return val;
    }
}

void fake_put(enum vmcs_field f, uint64_t val) { *field(f) = cut(f, val); }

void vmx_vmwrite(uint32_t f, uint64_t val)
{
    if ((f >> 10 & 3) == 1)
        stop("VMWRITE to a read-only field", f);
    fake_put(f, val);
}

void vmx_invept(uint64_t type, uint64_t eptp)
{
    if (type == INVEPT_SINGLE && (eptp & 0x3f) != (EPTP_WB | EPTP_WALK_4))
        stop("VMfail: INVEPT of an EPTP that no entry would accept", eptp);
    fake_n_invept++;
    fake_invept_type = type, fake_invept_eptp = eptp;
}

void vmx_invvpid(uint64_t type, uint16_t vpid)
{
    if (type == INVVPID_SINGLE && !vpid)
        stop("VMfail: INVVPID of VPID 0", vpid);
    fake_n_invvpid++;
    fake_invvpid_type = type, fake_invvpid_vpid = vpid;
}

/* What delivering the injected event does: NMIs become blocked, a shadow ends. */
static void deliver(void)
{
    uint32_t info = (uint32_t)fake_get(VMCS_ENTRY_INTR_INFO);
    fake_injected_info = info & INTR_VALID ? info : 0;
    fake_injected_error = info & INTR_ERROR_VALID ? (uint32_t)fake_get(VMCS_ENTRY_EXC_ERROR) : 0;
    if (!fake_injected_info)
        return;
    uint64_t b = fake_get(VMCS_GUEST_INTERRUPTIBILITY) & ~(uint64_t)BLOCKED_SHADOW;
    fake_put(VMCS_GUEST_INTERRUPTIBILITY, FIELD_GET(INTR_TYPE, info) == INTR_TYPE_NMI ? b | BLOCKED_NMI : b);
}

unsigned vmx_enter(uint64_t *gpr, bool launched)
{
    struct fake_vmcs *f = current[fake_cpu];
    fake_n_entries++;
    fake_spec_entry();
    fake_check_why[0] = 0;
    if (!f)
        return 1;
    if (launched != f->launched) {
        fake_put(VMCS_INSN_ERROR, launched ? 5 : 4);
        return 2;
    }
    if (!vmx_check_controls(&vmx_caps, WHY(fake_check_why))) {
        fake_put(VMCS_INSN_ERROR, 7);
        return 2;
    }
    fake_put(VMCS_EXIT_QUALIFICATION, 0);
    if (!vmx_check_guest(&vmx_caps, WHY(fake_check_why))) {
        fake_put(VMCS_EXIT_REASON, VMX_EXIT_BAD_GUEST_STATE | EXIT_REASON_ENTRY_FAILED);
        return 0;
    }
    f->launched = true;
    fake_put(VMCS_EXIT_REASON, VMX_EXIT_EXTINT);
    fake_put(VMCS_IDT_VECTORING_INFO, 0);
    fake_put(VMCS_EXIT_INTR_INFO, 0);
    fake_put(VMCS_EXIT_INSN_LEN, 0);
    deliver();
    if (fake_guest)
        fake_guest(gpr);
    fake_put(VMCS_ENTRY_INTR_INFO, fake_get(VMCS_ENTRY_INTR_INFO) & ~(uint64_t)INTR_VALID);
    fake_gdtr.limit = fake_idtr.limit = 0xffff;
    return 0;
}
