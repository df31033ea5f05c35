/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/speculation.c - see speculation.h.
 *
 * spec_init() reads CPUID and ARCH_CAPABILITIES once, into `cpu`, and decides in `todo` what is to be done.  An Intel
 * processor without ARCH_CAPABILITIES is taken to have every fault that its bits would deny.
 *
 * Predictors at exit.  Intel: Enhanced IBRS stays on in the host; without it, IBRS is written at each exit, which the
 * older parts need also as a barrier.  AMD: Automatic IBRS covers indirect branches; families 15h to 1Ah also predict
 * RET from what a guest trained (Retbleed, SRSO), so those get an IBPB at each exit unless they announce SRSO_NO.
 * The host has no retpolines: where neither is announced, the report says "Vulnerable".
 *
 * L1D at the beginning of a slice.  Between it and the slice's end this CPU reads only the guest's own memory and its
 * devices.  Work for others (service loop, other guests) comes between slices. */
#include "kernel/host/x86/speculation.h"

#include <string.h>
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/msr.h"
#include "kernel/host/x86/speculation_insn.h"
#include "kernel/lib/log.h"

#define MSR_FLUSH_CMD  0x10bu
#define EFER_AUTO_IBRS BIT64(21)
#define CTRL_IBRS      BIT64(0)
#define CTRL_BHI_DIS_S BIT64(10)

/* bits of ARCH_CAPABILITIES (SDM 4 "IA32_ARCH_CAPABILITIES") */
#define ARCH_RDCL_NO        BIT64(0)
#define ARCH_IBRS_ALL       BIT64(1)
#define ARCH_SKIP_L1D       BIT64(3)
#define ARCH_SSB_NO         BIT64(4)
#define ARCH_MDS_NO         BIT64(5)
#define ARCH_PSCHANGE_MC_NO BIT64(6)
#define ARCH_TAA_NO         BIT64(8)
#define ARCH_MMIO_NO        (BIT64(13) | BIT64(14) | BIT64(15))
#define ARCH_FB_CLEAR       BIT64(17)
#define ARCH_BHI_NO         BIT64(20)
#define ARCH_RFDS_CLEAR     BIT64(28)

static struct {
    bool intel, amd;
    unsigned family;
    bool ibpb, ctrl, l1d_flush, md_clear, rtm, smt;
    bool bhi_ctrl, auto_ibrs, srso_no, ibpb_brtype, amd_verw, amd_ssb_no;
    uint64_t arch;
} cpu; /* [c] */

static struct {
    bool off, ibpb, l1d_flush, ctrl_each_exit, auto_ibrs;
    uint64_t ctrl_host;
} todo; /* [c] */

uint8_t spec_at_entry, spec_at_exit;
static const void *last_guest[PCPU_MAX]; /* [owner] the guest that ran last on each CPU; only compared */

static struct spec_cpuid leaf_get(uint32_t leaf, uint32_t sub)
{
    bool known = spec_cpuid(leaf & 0x80000000, 0).eax >= leaf;
    return known ? spec_cpuid(leaf, sub) : (struct spec_cpuid){ 0 };
}

static void cpu_read_amd(void)
{
    uint32_t e8 = leaf_get(0x80000008, 0).ebx, e21 = leaf_get(0x80000021, 0).eax;
    cpu.ibpb |= (e8 & BIT32(12)) != 0;
    cpu.ctrl |= (e8 & (BIT32(14) | BIT32(15) | BIT32(24))) != 0;
    cpu.amd_ssb_no = e8 & BIT32(26);
    cpu.amd_verw = e21 & BIT32(5);
    cpu.auto_ibrs = e21 & BIT32(8);
    cpu.ibpb_brtype = e21 & BIT32(28);
    cpu.srso_no = e21 & BIT32(29);
}

static void cpu_read(void)
{
    struct spec_cpuid id = spec_cpuid(0, 0), c1 = spec_cpuid(1, 0), c7 = leaf_get(7, 0);
    memset(&cpu, 0, sizeof(cpu));
    cpu.intel = id.ebx == 0x756e6547; /* "Genu" */
    cpu.amd = !cpu.intel;
    cpu.family = (c1.eax >> 8 & 0xf) + ((c1.eax >> 8 & 0xf) == 0xf ? c1.eax >> 20 & 0xff : 0);
    cpu.rtm = c7.ebx & BIT32(11);
    cpu.md_clear = c7.edx & BIT32(10);
    cpu.ibpb = cpu.ctrl = c7.edx & BIT32(26);
    cpu.ctrl |= (c7.edx & (BIT32(27) | BIT32(31))) != 0;
    cpu.l1d_flush = c7.edx & BIT32(28);
    if (c7.edx & BIT32(29))
        cpu.arch = spec_rdmsr(MSR_ARCH_CAPABILITIES);
    cpu.bhi_ctrl = c7.eax >= 2 && (spec_cpuid(7, 2).edx & BIT32(4));
    cpu.smt = (leaf_get(0xb, 0).ebx & 0xffff) > 1;
    if (cpu.amd)
        cpu_read_amd();
}

static bool affected(uint64_t no) { return cpu.intel && (cpu.arch & no) != no; }
static bool has_mds(void) { return affected(ARCH_MDS_NO); }
static bool has_taa(void) { return cpu.rtm && affected(ARCH_TAA_NO); }
static bool has_mmio(void) { return affected(ARCH_MMIO_NO); }
static bool has_l1tf(void) { return affected(ARCH_RDCL_NO) && !(cpu.arch & ARCH_SKIP_L1D); }
static bool has_srso(void) { return cpu.amd && cpu.family >= 0x17 && !cpu.srso_no; }
static bool has_retbleed(void) { return cpu.amd && cpu.family >= 0x15 && cpu.family <= 0x17; }
static bool verw_clears(void) { return cpu.md_clear || cpu.amd_verw || (cpu.arch & (ARCH_FB_CLEAR | ARCH_RFDS_CLEAR)); }
static bool enhanced_ibrs(void) { return cpu.intel && cpu.ctrl && (cpu.arch & ARCH_IBRS_ALL); }

void spec_init(bool off)
{
    cpu_read();
    memset(&todo, 0, sizeof(todo));
    spec_at_entry = spec_at_exit = 0;
    todo.off = off;
    if (off) {
        log_warn("host", "[host] mitigations = off: guests can read each other's memory and the host's through the "
                         "processor's predictors and buffers");
        return;
    }
    todo.ibpb = cpu.ibpb;
    todo.l1d_flush = has_l1tf() && cpu.l1d_flush;
    todo.auto_ibrs = cpu.auto_ibrs;
    if (cpu.intel && cpu.ctrl) {
        todo.ctrl_host = CTRL_IBRS | (cpu.bhi_ctrl ? CTRL_BHI_DIS_S : 0);
        todo.ctrl_each_exit = !enhanced_ibrs();
    }
    bool rsb_and_btb = cpu.ibpb && cpu.amd && (has_srso() || has_retbleed() || !cpu.auto_ibrs);
    spec_at_exit = SPEC_EXIT_RSB | (rsb_and_btb ? SPEC_EXIT_IBPB : 0);
    spec_at_entry =
        verw_clears() && (cpu.amd_verw || has_mds() || has_taa() || has_mmio() || (cpu.arch & ARCH_RFDS_CLEAR));
    if (cpu.smt)
        log_warn("host", "hyper-threads are on: guests on the two threads of one core can observe each other; turn "
                         "them off in the firmware, or list one thread of each core in [host] guest-cpus");
}

void spec_cpu_init(void)
{
    if (todo.auto_ibrs)
        spec_wrmsr(MSR_EFER, spec_rdmsr(MSR_EFER) | EFER_AUTO_IBRS);
    if (cpu.ctrl)
        spec_wrmsr(MSR_SPEC_CTRL, todo.ctrl_host);
}

void spec_slice_begin(unsigned n, const void *guest, bool fresh)
{
    ASSERT(n < PCPU_MAX);
    if (todo.ibpb && (fresh || last_guest[n] != guest))
        spec_wrmsr(MSR_PRED_CMD, 1);
    last_guest[n] = guest;
    if (todo.l1d_flush)
        spec_wrmsr(MSR_FLUSH_CMD, 1);
}

void spec_guest_enter(uint64_t guest_ctrl)
{
    if (cpu.ctrl && guest_ctrl != todo.ctrl_host)
        spec_wrmsr(MSR_SPEC_CTRL, guest_ctrl);
}

void spec_guest_exit(uint64_t guest_ctrl)
{
    if (cpu.ctrl && (guest_ctrl != todo.ctrl_host || todo.ctrl_each_exit))
        spec_wrmsr(MSR_SPEC_CTRL, todo.ctrl_host);
}

/* ---- the report ---- */

#define NOT_AFFECTED "Not affected"
#define NO_MICROCODE "Vulnerable: the processor or its microcode offers no remedy"
#define TURNED_OFF   "Vulnerable: mitigations = off"

static const char *remedy(bool here, bool can, const char *how)
{
    if (!here)
        return NOT_AFFECTED;
    return todo.off ? TURNED_OFF : can ? how : NO_MICROCODE;
}

static const char *spectre_v2_text(void)
{
    if (todo.off)
        return TURNED_OFF;
    if (enhanced_ibrs())
        return cpu.bhi_ctrl || (cpu.arch & ARCH_BHI_NO)
                   ? "Mitigation: Enhanced IBRS; IBPB between guests; RSB filled at exits; BHI: BHI_DIS_S or no fault"
                   : "Mitigation: Enhanced IBRS; IBPB between guests; RSB filled at exits; BHI: Vulnerable";
    if (todo.ctrl_each_exit)
        return "Mitigation: IBRS at each exit; IBPB between guests; RSB filled at exits";
    if (spec_at_exit & SPEC_EXIT_IBPB)
        return "Mitigation: IBPB at each exit and between guests; RSB filled at exits";
    return todo.auto_ibrs && todo.ibpb ? "Mitigation: Automatic IBRS; IBPB between guests; RSB filled at exits"
                                       : NO_MICROCODE;
}

#define BY_VERW "Mitigation: VERW before each entry"
static const char *mds_text(void) { return remedy(has_mds(), verw_clears(), BY_VERW); }
static const char *taa_text(void) { return remedy(has_taa(), verw_clears(), BY_VERW); }
static const char *mmio_text(void) { return remedy(has_mmio(), verw_clears(), BY_VERW); }
static const char *rfds_text(void) { return remedy(cpu.arch & ARCH_RFDS_CLEAR, true, BY_VERW); }
static const char *tsa_text(void) { return remedy(cpu.amd && cpu.family == 0x19, cpu.amd_verw, BY_VERW); }
static const char *l1tf_text(void)
{
    return remedy(has_l1tf(), cpu.l1d_flush, "Mitigation: L1D flushed before each slice");
}
static const char *retbleed_text(void) { return remedy(has_retbleed(), cpu.ibpb, "Mitigation: IBPB at each exit"); }
static const char *srso_text(void)
{
    bool can = cpu.ibpb && (cpu.family == 0x17 || cpu.ibpb_brtype);
    return remedy(has_srso(), can, "Mitigation: IBPB at each exit");
}
static const char *spectre_v1_text(void) { return "Vulnerable: bounds checks on the path of an exit are not masked"; }
static const char *meltdown_text(void)
{
    return affected(ARCH_RDCL_NO) ? "Mitigation: guests have page tables of their own" : NOT_AFFECTED;
}
static const char *ssb_text(void)
{
    if (cpu.amd_ssb_no || (cpu.arch & ARCH_SSB_NO))
        return NOT_AFFECTED;
    return "Vulnerable: guests are not offered SSBD";
}
static const char *itlb_text(void)
{
    return affected(ARCH_PSCHANGE_MC_NO) ? "Vulnerable: guests execute from large pages" : NOT_AFFECTED;
}
static const char *smt_text(void)
{
    return cpu.smt ? "Vulnerable: guests may share a core" : "Not affected: one thread per core";
}

static const struct {
    const char *name, *(*text)(void);
} attacks[] = {
    { "spectre_v1", spectre_v1_text },
    { "spectre_v2", spectre_v2_text },
    { "meltdown", meltdown_text },
    { "spec_store_bypass", ssb_text },
    { "l1tf", l1tf_text },
    { "mds", mds_text },
    { "tsx_async_abort", taa_text },
    { "mmio_stale_data", mmio_text },
    { "retbleed", retbleed_text },
    { "spec_rstack_overflow", srso_text },
    { "itlb_multihit", itlb_text },
    { "reg_file_data_sampling", rfds_text },
    { "tsa", tsa_text },
    { "hyper_threads", smt_text },
};

bool spec_vulnerability(unsigned i, const char **name, const char **text)
{
    if (i >= ARRAY_SIZE(attacks))
        return false;
    *name = attacks[i].name;
    *text = attacks[i].text();
    return true;
}

void spec_describe(struct printer *out)
{
    const char *name, *text;
    for (unsigned i = 0; spec_vulnerability(i, &name, &text); i++)
        print_line(out, "vulnerability %s: %s", name, text);
}
