/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_check_guest.c - which rule about guest state does this VMCS break?  SDM 3C "Checking and Loading Guest
 * State", also for an unrestricted guest.  Control fields and host state: vmx_check.c. */
#include "vmx/vmx_check.h"

#define AR_TYPE     0xfu
#define AR_S        BIT32(4)
#define AR_DPL(ar)  ((ar) >> 5 & 3)
#define AR_P        BIT32(7)
#define AR_RESERVED (0xf00u | ~0x1ffffu)
#define AR_L        BIT32(13)
#define AR_D        BIT32(14)
#define AR_G        BIT32(15)

#define DEBUGCTL_DEFINED 0xdfc3ul /* LBR, BTF, TR, BTS, BTINT, BTS_OFF, FREEZE, RTM */
#define DEBUGCTL_BTF     BIT64(1)
#define RFLAGS_RESERVED  (~0x3ffffful | BIT64(15) | BIT64(5) | BIT64(3))

static bool guest_long_mode(void) { return vmcs_read32(VMCS_ENTRY_CTL) & ENTRY_IA32E; }
static bool guest_v8086(void) { return vmcs_readn(VMCS_GUEST_RFLAGS) & RFLAGS_VM; }
static bool guest_seg_usable(enum seg_id id) { return !(vmcs_read32(VMCS_GUEST_AR(id)) & SEG_AR_UNUSABLE); }
static bool entry_injects(uint32_t type)
{
    uint32_t info = vmcs_read32(VMCS_ENTRY_INTR_INFO);
    return (info & INTR_VALID) && FIELD_GET(INTR_TYPE, info) == type;
}

static bool vmx_check_guest_crs(struct check *c)
{
    uint64_t cr0 = vmcs_readn(VMCS_GUEST_CR0), cr4 = vmcs_readn(VMCS_GUEST_CR4);
    bool unrestricted = vmcs_read32(VMCS_PROC2_CTL) & PROC2_UNRESTRICTED;
    c->section = "Checks on Guest Control Registers, Debug Registers, and MSRs";
    RULE(VMCS_GUEST_CR0,
         check_fixed(cr0, c->caps->cr0_fixed0 & ~(unrestricted ? CR0_PE | CR0_PG : 0), c->caps->cr0_fixed1),
         "a bit differs from what VMX operation fixes");
    RULE(VMCS_GUEST_CR0, !(cr0 & CR0_PG) || (cr0 & CR0_PE), "PG needs PE");
    RULE(VMCS_GUEST_CR4, check_fixed(cr4, c->caps->cr4_fixed0, c->caps->cr4_fixed1),
         "a bit differs from what VMX operation fixes");
    RULE(VMCS_GUEST_CR0, !guest_long_mode() || (cr0 & CR0_PG), "\"IA-32e mode guest\" needs PG");
    RULE(VMCS_GUEST_CR4, !guest_long_mode() || (cr4 & CR4_PAE), "\"IA-32e mode guest\" needs PAE");
    RULE(VMCS_GUEST_CR4, guest_long_mode() || !(cr4 & CR4_PCIDE), "PCIDE needs \"IA-32e mode guest\"");
    RULE(VMCS_GUEST_CR3, !(vmcs_readn(VMCS_GUEST_CR3) >> c->caps->phys_bits),
         "bits beyond the physical-address width must be 0");
    return true;
}

static bool vmx_check_guest_msrs(struct check *c)
{
    uint32_t entry = vmcs_read32(VMCS_ENTRY_CTL);
    if (entry & ENTRY_LOAD_DEBUG) {
        RULE(VMCS_GUEST_DEBUGCTL, !(vmcs_read64(VMCS_GUEST_DEBUGCTL) & ~DEBUGCTL_DEFINED), "reserved bits must be 0");
        RULE(VMCS_GUEST_DR7, !(vmcs_readn(VMCS_GUEST_DR7) >> 32), "bits 63:32 must be 0");
    }
    RULE(VMCS_GUEST_SYSENTER_ESP, check_canonical(vmcs_readn(VMCS_GUEST_SYSENTER_ESP)), "must be canonical");
    RULE(VMCS_GUEST_SYSENTER_EIP, check_canonical(vmcs_readn(VMCS_GUEST_SYSENTER_EIP)), "must be canonical");
    if (entry & ENTRY_LOAD_PAT)
        RULE(VMCS_GUEST_PAT, vmx_check_pat(vmcs_read64(VMCS_GUEST_PAT)), "each byte must be 0, 1, 4, 5, 6 or 7");
    if (entry & ENTRY_LOAD_EFER) {
        uint64_t efer = vmcs_read64(VMCS_GUEST_EFER);
        bool lma = efer & EFER_LMA, lme = efer & EFER_LME;
        RULE(VMCS_GUEST_EFER, !(efer & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)), "reserved bits must be 0");
        RULE(VMCS_GUEST_EFER, lma == guest_long_mode(), "LMA must equal \"IA-32e mode guest\"");
        RULE(VMCS_GUEST_EFER, !(vmcs_readn(VMCS_GUEST_CR0) & CR0_PG) || lma == lme, "with paging, LMA must equal LME");
    }
    return true;
}

static bool vmx_check_guest_seg_bases(struct check *c)
{
    c->section = "Checks on Guest Segment Registers";
    RULE(VMCS_GUEST_TR_SEL, !(vmcs_read16(VMCS_GUEST_TR_SEL) & 4), "TI must be 0");
    RULE(VMCS_GUEST_LDTR_SEL, !guest_seg_usable(SEG_LDTR) || !(vmcs_read16(VMCS_GUEST_LDTR_SEL) & 4), "TI must be 0");
    for (enum seg_id i = SEG_ES; i <= SEG_GS && guest_v8086(); i++)
        RULE(VMCS_GUEST_BASE(i), vmcs_readn(VMCS_GUEST_BASE(i)) == (uint64_t)vmcs_read16(VMCS_GUEST_SEL(i)) << 4,
             "in virtual-8086 mode it is the selector times 16");
    for (enum seg_id i = SEG_FS; i <= SEG_TR; i++)
        RULE(VMCS_GUEST_BASE(i),
             (i == SEG_LDTR && !guest_seg_usable(i)) || check_canonical(vmcs_readn(VMCS_GUEST_BASE(i))),
             "must be canonical");
    for (enum seg_id i = SEG_ES; i <= SEG_DS; i++)
        RULE(VMCS_GUEST_BASE(i), (i != SEG_CS && !guest_seg_usable(i)) || !(vmcs_readn(VMCS_GUEST_BASE(i)) >> 32),
             "bits 63:32 must be 0");
    return true;
}

/* Presence, reserved bits, granularity: the same rules for every usable register. */
static bool vmx_check_seg_ar(struct check *c, enum seg_id i, bool system)
{
    uint32_t ar = vmcs_read32(VMCS_GUEST_AR(i)), limit = vmcs_read32(VMCS_GUEST_LIMIT(i));
    RULE(VMCS_GUEST_AR(i), !(ar & AR_S) == system, system ? "S must be 0" : "S must be 1");
    RULE(VMCS_GUEST_AR(i), ar & AR_P, "a usable segment must be present");
    RULE(VMCS_GUEST_AR(i), !(ar & AR_RESERVED), "bits 11:8 and 31:17 are reserved");
    RULE(VMCS_GUEST_AR(i), (limit & 0xfff) == 0xfff || !(ar & AR_G),
         "G must be 0 if the limit's low 12 bits are not all ones");
    RULE(VMCS_GUEST_AR(i), !(limit >> 20) || (ar & AR_G), "G must be 1 if the limit is above FFFFFh");
    return true;
}

static bool vmx_check_cs_ss(struct check *c)
{
    uint32_t cs = vmcs_read32(VMCS_GUEST_CS_AR), ss = vmcs_read32(VMCS_GUEST_SS_AR), type = cs & AR_TYPE;
    bool unrestricted = vmcs_read32(VMCS_PROC2_CTL) & PROC2_UNRESTRICTED;
    RULE(VMCS_GUEST_CS_AR, type == 9 || type == 11 || type == 13 || type == 15 || (unrestricted && type == 3),
         "type must be accessed code (or, unrestricted, accessed writable data)");
    RULE(VMCS_GUEST_CS_AR, type != 3 || !AR_DPL(cs), "with a data type DPL must be 0");
    RULE(VMCS_GUEST_CS_AR, (type != 9 && type != 11) || AR_DPL(cs) == AR_DPL(ss),
         "non-conforming code: DPL must equal that of SS");
    RULE(VMCS_GUEST_CS_AR, (type != 13 && type != 15) || AR_DPL(cs) <= AR_DPL(ss),
         "conforming code: DPL must not be above that of SS");
    RULE(VMCS_GUEST_CS_AR, !guest_long_mode() || !(cs & AR_L) || !(cs & AR_D), "L and D cannot both be 1");
    bool real = type == 3 || !(vmcs_readn(VMCS_GUEST_CR0) & CR0_PE);
    RULE(VMCS_GUEST_SS_AR, !real || !AR_DPL(ss), "DPL must be 0 in real mode");
    if (guest_seg_usable(SEG_SS))
        RULE(VMCS_GUEST_SS_AR, (ss & AR_TYPE) == 3 || (ss & AR_TYPE) == 7, "type must be accessed writable data");
    return true;
}

static bool vmx_check_guest_seg_ars(struct check *c)
{
    if (guest_v8086()) {
        for (enum seg_id i = SEG_ES; i <= SEG_GS; i++) {
            RULE(VMCS_GUEST_LIMIT(i), vmcs_read32(VMCS_GUEST_LIMIT(i)) == 0xffff, "in virtual-8086 mode it is FFFFh");
            RULE(VMCS_GUEST_AR(i), vmcs_read32(VMCS_GUEST_AR(i)) == 0xf3, "in virtual-8086 mode it is F3h");
        }
        return true;
    }
    if (!vmx_check_cs_ss(c))
        return false;
    for (enum seg_id i = SEG_ES; i <= SEG_GS; i++) {
        uint32_t type = vmcs_read32(VMCS_GUEST_AR(i)) & AR_TYPE;
        if (i != SEG_CS && !guest_seg_usable(i))
            continue;
        RULE(VMCS_GUEST_AR(i), type & 1, "the accessed bit of the type must be 1");
        RULE(VMCS_GUEST_AR(i), i == SEG_CS || !(type & 8) || (type & 2), "a code segment must be readable");
        if (!vmx_check_seg_ar(c, i, false))
            return false;
    }
    return true;
}

static bool vmx_check_tr_ldtr(struct check *c)
{
    uint32_t tr = vmcs_read32(VMCS_GUEST_TR_AR) & AR_TYPE;
    RULE(VMCS_GUEST_TR_AR, guest_seg_usable(SEG_TR), "must be usable");
    RULE(VMCS_GUEST_TR_AR, tr == 11 || (tr == 3 && !guest_long_mode()),
         "type must be a busy TSS, in long mode a 64-bit one");
    if (!vmx_check_seg_ar(c, SEG_TR, true))
        return false;
    if (!guest_seg_usable(SEG_LDTR))
        return true;
    RULE(VMCS_GUEST_LDTR_AR, (vmcs_read32(VMCS_GUEST_LDTR_AR) & AR_TYPE) == 2, "type must be LDT");
    return vmx_check_seg_ar(c, SEG_LDTR, true);
}

static bool vmx_check_rip_rflags(struct check *c)
{
    c->section = "Checks on Guest Descriptor-Table Registers";
    RULE(VMCS_GUEST_GDTR_BASE, check_canonical(vmcs_readn(VMCS_GUEST_GDTR_BASE)), "must be canonical");
    RULE(VMCS_GUEST_IDTR_BASE, check_canonical(vmcs_readn(VMCS_GUEST_IDTR_BASE)), "must be canonical");
    RULE(VMCS_GUEST_GDTR_LIMIT, !(vmcs_read32(VMCS_GUEST_GDTR_LIMIT) >> 16), "bits 31:16 must be 0");
    RULE(VMCS_GUEST_IDTR_LIMIT, !(vmcs_read32(VMCS_GUEST_IDTR_LIMIT) >> 16), "bits 31:16 must be 0");
    c->section = "Checks on Guest RIP, RFLAGS, and SSP";
    uint64_t rip = vmcs_readn(VMCS_GUEST_RIP), rflags = vmcs_readn(VMCS_GUEST_RFLAGS);
    bool code64 = guest_long_mode() && (vmcs_read32(VMCS_GUEST_CS_AR) & AR_L);
    RULE(VMCS_GUEST_RIP, code64 || !(rip >> 32), "outside 64-bit code bits 63:32 must be 0");
    RULE(VMCS_GUEST_RIP, !code64 || check_canonical(rip), "must be canonical");
    RULE(VMCS_GUEST_RFLAGS, !(rflags & RFLAGS_RESERVED) && (rflags & RFLAGS_FIXED1),
         "bit 1 must be 1, the other reserved bits 0");
    RULE(VMCS_GUEST_RFLAGS, !(rflags & RFLAGS_VM) || (!guest_long_mode() && (vmcs_readn(VMCS_GUEST_CR0) & CR0_PE)),
         "VM must be 0 in long and in real mode");
    RULE(VMCS_GUEST_RFLAGS, !entry_injects(INTR_TYPE_EXTINT) || (rflags & RFLAGS_IF),
         "IF must be 1 to inject an external interrupt");
    return true;
}

static bool vmx_check_interruptibility(struct check *c)
{
    uint32_t b = vmcs_read32(VMCS_GUEST_INTERRUPTIBILITY);
    const enum vmcs_field f = VMCS_GUEST_INTERRUPTIBILITY;
    RULE(f, !(b & ~0x1fu), "bits 31:5 are reserved");
    RULE(f, (b & BLOCKED_SHADOW) != BLOCKED_SHADOW, "blocking by STI and by MOV SS exclude each other");
    RULE(f, !(b & BLOCKED_STI) || (vmcs_readn(VMCS_GUEST_RFLAGS) & RFLAGS_IF), "blocking by STI needs IF");
    RULE(f, !entry_injects(INTR_TYPE_EXTINT) || !(b & BLOCKED_SHADOW),
         "no external interrupt while STI or MOV SS block it");
    RULE(f, !entry_injects(INTR_TYPE_NMI) || !(b & BLOCKED_SHADOW),
         "no NMI while MOV SS (on some processors also STI) blocks it");
    RULE(f, !(b & BLOCKED_SMI), "blocking by SMI is for SMM only");
    bool virtual_nmis = vmcs_read32(VMCS_PIN_CTL) & PIN_VIRTUAL_NMIS;
    RULE(f, !virtual_nmis || !entry_injects(INTR_TYPE_NMI) || !(b & BLOCKED_NMI), "no NMI while NMIs are blocked");
    return true;
}

static bool vmx_check_non_register(struct check *c)
{
    c->section = "Checks on Guest Non-Register State";
    uint32_t activity = vmcs_read32(VMCS_GUEST_ACTIVITY), b = vmcs_read32(VMCS_GUEST_INTERRUPTIBILITY);
    uint64_t dbg = vmcs_readn(VMCS_GUEST_PENDING_DBG);
    RULE(VMCS_GUEST_ACTIVITY, activity <= ACTIVITY_WAIT_SIPI, "no such activity state");
    RULE(VMCS_GUEST_ACTIVITY, activity != ACTIVITY_HLT || !AR_DPL(vmcs_read32(VMCS_GUEST_SS_AR)), "HLT needs CPL 0");
    RULE(VMCS_GUEST_ACTIVITY, activity == ACTIVITY_ACTIVE || !(b & BLOCKED_SHADOW),
         "STI or MOV SS block only while active");
    if (!vmx_check_interruptibility(c))
        return false;
    RULE(VMCS_GUEST_PENDING_DBG, !(dbg & ~PENDING_DBG_BITS), "reserved bits must be 0");
    bool step = (vmcs_readn(VMCS_GUEST_RFLAGS) & RFLAGS_TF) && !(vmcs_read64(VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF);
    bool matters = (b & BLOCKED_SHADOW) || activity == ACTIVITY_HLT;
    RULE(VMCS_GUEST_PENDING_DBG, !matters || step == !!(dbg & PENDING_DBG_BS),
         "under an interrupt shadow BS must be 1 just if RFLAGS.TF steps instructions");
    RULE(VMCS_LINK_POINTER, vmcs_read64(VMCS_LINK_POINTER) == ~UINT64_C(0),
         "without VMCS shadowing it must be all ones");
    return true;
}

static bool vmx_check_pdptes(struct check *c)
{
    static const enum vmcs_field field[] = { VMCS_GUEST_PDPTE0, VMCS_GUEST_PDPTE1, VMCS_GUEST_PDPTE2,
                                             VMCS_GUEST_PDPTE3 };
    bool pae = (vmcs_readn(VMCS_GUEST_CR0) & CR0_PG) && (vmcs_readn(VMCS_GUEST_CR4) & CR4_PAE) && !guest_long_mode();
    c->section = "Checks on Guest Page-Directory-Pointer-Table Entries";
    for (unsigned i = 0; i < ARRAY_SIZE(field) && pae; i++) {
        uint64_t e = vmcs_read64(field[i]);
        RULE(field[i], !(e & PTE_P) || (!(e & 0x1e6) && !(e >> c->caps->phys_bits)),
             "reserved bits of a present entry must be 0");
    }
    return true;
}

bool vmx_check_guest(const struct vmx_caps *caps, struct why *why)
{
    struct check c = { caps, "", why };
    return vmx_check_guest_crs(&c) && vmx_check_guest_msrs(&c) && vmx_check_guest_seg_bases(&c) &&
           vmx_check_guest_seg_ars(&c) && vmx_check_tr_ldtr(&c) && vmx_check_rip_rflags(&c) &&
           vmx_check_non_register(&c) && vmx_check_pdptes(&c);
}
