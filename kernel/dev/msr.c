/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/msr.c - a guest's model-specific registers.
 *
 * Three tables cover most registers:
 *   stored     written and read back; migrated by number
 *   constant   read-only; writes are ignored
 *   refused    #GP without a log line, since kernels probe them on purpose
 * Machine checks.  A guest that is shown MCA has the registers of KVM's virtual machine check, without an error: one in
 * its memory stops it (kernel/vm/vm_machine_check.c).  They are stored.  A move carries those that the guest has
 * changed; a host that does not know them refuses its CPUID.
 *
 * Registers with an effect are in the switches of msr_read() and msr_write(), or held by the vendor (cpu_ops). */
#include "kernel/dev/msr.h"

#include "kernel/core/cpu_ops.h"
#include "kernel/dev/devices.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

enum {
    IA32_TSC = 0x10,
    IA32_TSC_ADJUST = 0x3b,
    IA32_BIOS_UPDT_TRIG = 0x79,
    IA32_BIOS_SIGN_ID = 0x8b,
    IA32_SYSENTER_CS = 0x174,
    IA32_SYSENTER_ESP,
    IA32_SYSENTER_EIP,
    IA32_DEBUGCTL = 0x1d9,
    MTRR_PHYS_FIRST = 0x200,
    MTRR_PHYS_LAST = 0x20f,
    IA32_PAT_MSR = 0x277,
    MTRR_DEF_TYPE = 0x2ff,
    IA32_TSC_DEADLINE_MSR = 0x6e0,
    X2APIC_FIRST = 0x800,
    X2APIC_LAST = 0x8ff,
};
enum {
    MCG_CAP = 0x179,
    MCG_STATUS,
    MCG_CTL,
    MC0_CTL = 0x400,
    MC_LAST = MC0_CTL + 4 * 10 - 1,
    HWCR = 0xc0010015u,
};
#define MCG_CAP_VALUE       0x100010au /* 10 banks, MCG_CTL, recovery (SER_P) */
#define HWCR_MC_STATUS_WREN BIT64(18)
#define IA32_EFER           0xc0000080u
#define IA32_STAR           0xc0000081u
#define IA32_LSTAR          0xc0000082u
#define IA32_CSTAR          0xc0000083u
#define IA32_FMASK          0xc0000084u
#define IA32_FS_BASE        0xc0000100u
#define IA32_GS_BASE        0xc0000101u
#define IA32_KGS_BASE       0xc0000102u
#define IA32_TSC_AUX_MSR    0xc0000103u

#define EFER_BIT_LME BIT64(8)

#define MTRR_CAP_VALUE 0x508u /* 8 variable ranges, fixed ranges, write-combining */

/* clang-format off */
/* MSR_N_STORED registers together at most. */
static const struct { uint32_t first, last; uint64_t reset; } stored[] = {
    { 0x1a0, 0x1a0, 1 },                                /* MISC_ENABLE: fast strings */
    { MCG_STATUS, MCG_STATUS, 0 }, { MCG_CTL, MCG_CTL, UINT64_MAX },
    { MC0_CTL, MC_LAST, 0 },                            /* CTL, STATUS, ADDR, MISC; CTL: all ones */
    { MTRR_PHYS_FIRST, MTRR_PHYS_LAST, 0 },
    { 0x250, 0x250, 0 }, { 0x258, 0x259, 0 }, { 0x268, 0x26f, 0 },              /* fixed-range MTRRs */
    { MTRR_DEF_TYPE, MTRR_DEF_TYPE, 0x806 },            /* enabled, all write-back: what firmware sets up in a VM */
    { 0xc0010010, 0xc0010010, 0 },                      /* SYSCFG */
    { HWCR, HWCR, BIT64(24) },                          /* TSC runs at P0 frequency */
    { 0xc001001f, 0xc001001f, 0 },                      /* NB_CFG */
    /* In both, Linux sets bits against Zen 1 errata and checks that they read back. */
    { 0xc0011028, 0xc0011028, 0 },                      /* FP_CFG */
    { 0xc0011029, 0xc0011029, BIT64(1) },               /* DE_CFG: LFENCE is serializing */
};

static const struct { uint32_t first, last; uint64_t val; } constant[] = {
    { 0x17, 0x17, 0 },                                  /* PLATFORM_ID */
    { 0x2a, 0x2a, 0 },                                  /* EBL_CR_POWERON */
    { 0x3a, 0x3a, 1 },                                  /* FEATURE_CONTROL: locked, VMX off */
    { IA32_BIOS_UPDT_TRIG, IA32_BIOS_UPDT_TRIG, 0 },
    { 0xce, 0xce, 0 }, { 0x198, 0x198, 0 },             /* PLATFORM_INFO, PERF_STATUS */
    { 0xfe, 0xfe, MTRR_CAP_VALUE },
    { MCG_CAP, MCG_STATUS, 0 },                         /* without MCA: no banks */
    { 0x1db, 0x1de, 0 },                                /* last branch and exception addresses */
    { 0xc0010000, 0xc0010007, 0 },                      /* K7 performance counters: exist by family, do not count */
    { 0xc001001a, 0xc001001a, 0 }, { 0xc001001d, 0xc001001d, 0 },               /* TOP_MEM, TOM2 */
    { 0xc0010055, 0xc0010055, 0 },                      /* interrupt pending message: none */
    { 0xc0010058, 0xc0010058, 0 },                      /* MMIO configuration base: none */
    { 0xc0010061, 0xc0010064, 0 },                      /* P-state limit, control, status, definition */
    { 0xc0010112, 0xc0010113, 0 },                      /* TSEG base and mask */
    { 0xc0011022, 0xc0011023, 0 }, { 0xc001102a, 0xc001102a, 0 },               /* DC_CFG, BU_CFG, BU_CFG2 */
};

static const struct { uint32_t first, last; } refused[] = {
    { 0x48, 0x49 }, { 0x10a, 0x10b },                   /* SPEC_CTRL, PRED_CMD, ARCH_CAPABILITIES, FLUSH_CMD */
    { 0x122, 0x123 },                                   /* TSX_CTRL, MCU_OPT_CTRL */
    { 0x34, 0x34 },                                     /* SMI count */
    { 0x606, 0x606 }, { 0xe7, 0xe8 },                   /* RAPL units, MPERF/APERF */
    { 0x4e, 0x4e }, { 0x140, 0x140 }, { 0x64e, 0x64e }, /* Intel: PPIN_CTL, MISC_FEATURES_ENABLES, PPERF */
    { 0xc0010140, 0xc0010141 }, { 0xc0010299, 0xc0010299 },                     /* OSVW, RAPL units */
    { 0xc0011020, 0xc0011020 },                         /* LS_CFG: if present, Linux controls SSBD by it */
};
/* clang-format on */

static bool is_refused(uint32_t msr)
{
    for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
        if (msr >= refused[i].first && msr <= refused[i].last)
            return true;
    return false;
}

static bool constant_get(uint32_t msr, uint64_t *val)
{
    if (msr == IA32_BIOS_SIGN_ID) {
        *val = cpu_ops->microcode;
        return true;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(constant); i++) {
        if (msr < constant[i].first || msr > constant[i].last)
            continue;
        *val = constant[i].val;
        return true;
    }
    return false;
}

/* Position of a stored MSR in the bank, or -1. */
static int stored_index(uint32_t msr)
{
    int at = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(stored); i++) {
        if (msr >= stored[i].first && msr <= stored[i].last)
            return at + (int)(msr - stored[i].first);
        at += (int)(stored[i].last - stored[i].first + 1);
    }
    return -1;
}

static bool is_mca(uint32_t msr) { return msr == MCG_STATUS || msr == MCG_CTL || (msr >= MC0_CTL && msr <= MC_LAST); }
static bool is_mca_ctl(uint32_t msr) { return is_mca(msr) && msr >= MC0_CTL && msr % 4 == 0; }
static bool is_mca_status(uint32_t msr) { return is_mca(msr) && msr >= MC0_CTL && msr % 4 == 1; }
static bool has_mca(const struct vcpu *v) { return cpuid_has(v->vm->cpuid, 1, 0, CPUID_EDX, 14); }

static uint64_t stored_reset(unsigned row, uint32_t msr) { return is_mca_ctl(msr) ? UINT64_MAX : stored[row].reset; }

void msr_bank_reset(struct msr_bank *b)
{
    unsigned at = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(stored); i++) {
        for (uint32_t m = stored[i].first; m <= stored[i].last; m++) {
            ASSERT(at < MSR_N_STORED);
            b->val[at++] = stored_reset(i, m);
        }
    }
}

bool msr_need_not_move(uint32_t msr, uint64_t val)
{
    return is_mca(msr) && val == (is_mca_ctl(msr) || msr == MCG_CTL ? UINT64_MAX : 0);
}

bool msr_value_is_canonical(uint64_t val) { return (uint64_t)((int64_t)(val << 16) >> 16) == val; }

static bool mem_type_ok(uint64_t type) { return type < 8 && (0x73 & BIT32(type)); } /* UC, WC, WT, WP, WB */

static bool bytes_are_types(uint64_t val, unsigned allowed)
{
    for (unsigned i = 0; i < 8; i++, val >>= 8)
        if ((val & 0xff) > 7 || !(allowed & BIT32(val & 7)))
            return false;
    return true;
}

/* SDM 4, IA32_MCi_CTL: all ones or zeros.  Linux clears bit 10 of one bank against an AMD erratum, UnixWare bit 0. */
static bool mca_ctl_ok(uint64_t val) { return !val || (val | BIT64(10) | 1) == UINT64_MAX; }

static bool stored_value_ok(uint32_t msr, uint64_t val)
{
    if (is_mca_ctl(msr) || msr == MCG_CTL)
        return mca_ctl_ok(val);
    if (msr == MTRR_DEF_TYPE)
        return !(val & ~UINT64_C(0xcff)) && mem_type_ok(val & 0xff);
    if (msr >= MTRR_PHYS_FIRST && msr <= MTRR_PHYS_LAST)
        return msr & 1 ? !(val & 0x7ff) : !(val & 0xf00) && mem_type_ok(val & 0xff);
    if (msr >= 0x250 && msr <= 0x26f)
        return bytes_are_types(val, 0x73);
    return true;
}

bool msr_stored_get(const struct msr_bank *b, unsigned i, uint32_t *msr, uint64_t *val)
{
    unsigned at = i;
    for (unsigned k = 0; k < ARRAY_SIZE(stored); k++) {
        unsigned n = stored[k].last - stored[k].first + 1;
        if (at < n) {
            *msr = stored[k].first + at;
            *val = b->val[i];
            return true;
        }
        at -= n;
    }
    return false;
}

enum hv_err msr_stored_set(struct msr_bank *b, uint32_t msr, uint64_t val)
{
    int i = stored_index(msr);
    if (i < 0)
        return HV_E_NOENT;
    ASSERT(i < MSR_N_STORED);
    if (!stored_value_ok(msr, val))
        return HV_E_INVAL;
    b->val[i] = val;
    return HV_OK;
}

/* ---- registers held by the vendor ---- */

static enum hv_err efer_write(struct vcpu *v, uint64_t val)
{
    uint64_t cr0, cr3, cr4, efer;
    unsigned cpl;
    if (val & ~cpuid_efer_allowed(v->vm->cpuid))
        return HV_E_GUEST;
    cpu_ops->paging_get(v, &cr0, &cr3, &cr4, &efer, &cpl);
    if (((val ^ efer) & EFER_BIT_LME) && (cr0 & BIT64(31)))
        return HV_E_GUEST; /* APM 2 "Activating Long Mode": not while paging is on */
    return cpu_ops->msr_set(v, IA32_EFER, val);
}

/* Is val legal for a register that the vendor holds?  Unknown numbers: true, cpu_ops->msr_set() refuses them. */
static bool vendor_value_ok(uint32_t msr, uint64_t val)
{
    switch (msr) {
    case IA32_LSTAR:
    case IA32_CSTAR:
    case IA32_FS_BASE:
    case IA32_GS_BASE:
    case IA32_KGS_BASE:
    case IA32_SYSENTER_ESP:
    case IA32_SYSENTER_EIP: return msr_value_is_canonical(val);
    case IA32_PAT_MSR:      return bytes_are_types(val, 0xf3);
    case IA32_TSC_AUX_MSR:  return !(val >> 32);
    case IA32_DEBUGCTL:     return !(val & ~UINT64_C(0x3f));
    default:                return true;
    }
}

/* ---- RDMSR and WRMSR ---- */

/* Log the first access of each kind to msr that has no or not the full effect; refused[] is not logged. */
static void msr_log_once(struct vcpu *v, uint32_t msr, bool write, uint64_t val, const char *what)
{
    if (is_refused(msr))
        return;
    struct io_unhandled_log *e = &v->vm->devices->unhandled;
    spin_lock(&v->vm->dev_lock);
    bool is_first = io_unhandled_first(e, IO_UNHANDLED_MSR, (uint64_t)write << 32 | msr);
    spin_unlock(&v->vm->dev_lock);
    if (!is_first)
        return;
    if (write)
        log_info(v->vm->config.name, "vCPU %u at rip %#lx: WRMSR %#x, value %#lx: %s", v->index, v->rip, msr, val,
                 what);
    else
        log_info(v->vm->config.name, "vCPU %u at rip %#lx: RDMSR %#x: %s", v->index, v->rip, msr, what);
}

enum hv_err msr_read(struct vcpu *v, uint32_t msr, uint64_t *val)
{
    ASSERT(v->pcpu == this_pcpu()->index);
    struct devices *d = v->vm->devices;
    if (msr >= X2APIC_FIRST && msr <= X2APIC_LAST)
        return lapic_msr_read(v, msr, val);
    switch (msr) {
    case IA32_TSC:           *val = vm_guest_tsc(v->vm) + v->tsc_adjust; return HV_OK;
    case IA32_APIC_BASE_MSR: *val = v->lapic->base_msr; return HV_OK;
    case IA32_TSC_DEADLINE_MSR:
        lapic_timer_poll(v);
        *val = v->lapic->tsc_deadline;
        return HV_OK;
    case MSR_KVM_SYSTEM_TIME_NEW: *val = d->pvclock[v->index].system_time_msr; return HV_OK;
    case MSR_KVM_WALL_CLOCK_NEW:  *val = 0; return HV_OK;
    case MSR_KVM_STEAL_TIME:      *val = d->steal_time[v->index].msr; return HV_OK;
    }
    int i = is_mca(msr) && !has_mca(v) ? -1 : stored_index(msr);
    if (i >= 0) {
        *val = d->msr[v->index].val[i];
        return HV_OK;
    }
    if (msr == MCG_CAP && has_mca(v)) {
        *val = MCG_CAP_VALUE;
        return HV_OK;
    }
    bool exists = cpuid_msr_exists(v->vm->cpuid, msr);
    if (exists && msr == IA32_TSC_ADJUST) {
        *val = v->tsc_adjust;
        return HV_OK;
    }
    if (exists && (cpu_ops->msr_get(v, msr, val) == HV_OK || constant_get(msr, val)))
        return HV_OK;
    msr_log_once(v, msr, false, 0, "no such register, #GP is injected");
    return HV_E_GUEST;
}

/* A register of a feature, one that the vendor holds, or a constant one. */
static enum hv_err other_msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
    uint64_t now;
    if (!cpuid_msr_exists(v->vm->cpuid, msr)) {
        msr_log_once(v, msr, true, val, "its feature is not in the guest's CPUID, #GP is injected");
        return HV_E_GUEST;
    }
    if (!vendor_value_ok(msr, val)) {
        msr_log_once(v, msr, true, val, "illegal value, #GP is injected");
        return HV_E_GUEST;
    }
    if (msr == IA32_TSC_ADJUST) {
        vcpu_tsc_adjust(v, val);
        return HV_OK;
    }
    if (cpu_ops->msr_set(v, msr, val) == HV_OK)
        return HV_OK;
    if (constant_get(msr, &now)) {
        bool counter = msr >= 0xc0010000 && msr <= 0xc0010007; /* Linux tests whether they count: no log line */
        if (val && val != now && !counter)
            msr_log_once(v, msr, true, val, "the register is constant here, ignored");
        return HV_OK;
    }
    msr_log_once(v, msr, true, val, "no such register, #GP is injected");
    return HV_E_GUEST;
}

enum hv_err msr_write(struct vcpu *v, uint32_t msr, uint64_t val)
{
    ASSERT(v->pcpu == this_pcpu()->index);
    if (msr >= X2APIC_FIRST && msr <= X2APIC_LAST)
        return lapic_msr_write(v, msr, val);
    switch (msr) {
    case IA32_TSC_DEADLINE_MSR:   lapic_tsc_deadline_write(v, val); return HV_OK;
    case IA32_EFER:               return efer_write(v, val);
    case IA32_APIC_BASE_MSR:      return lapic_base_write(v, val);
    case MSR_KVM_SYSTEM_TIME_NEW: return pvclock_system_time_write(v, val);
    case MSR_KVM_WALL_CLOCK_NEW:  return pvclock_wall_clock_write(v->vm, val);
    case MSR_KVM_STEAL_TIME:      return steal_time_write(v, val);
    case IA32_TSC:                vcpu_tsc_adjust(v, val - vm_guest_tsc(v->vm)); return HV_OK;
    }
    if (stored_index(msr) < 0 || (is_mca(msr) && !has_mca(v)))
        return other_msr_write(v, msr, val);
    const struct msr_bank *b = &v->vm->devices->msr[v->index];
    if (is_mca_status(msr) && val && !(b->val[stored_index(HWCR)] & HWCR_MC_STATUS_WREN))
        return HV_E_GUEST; /* software clears a status, and sets none */
    return msr_stored_set(&v->vm->devices->msr[v->index], msr, val) == HV_OK ? HV_OK : HV_E_GUEST;
}
