/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmcs.h - the virtual machine control structure: its fields, their bits, and typed access.
 *
 * A VMCS has no layout that software may know; VMREAD and VMWRITE access its fields by encoding.  Bits 14:13 of the
 * encoding give the field's width (SDM 3C App. B "Field Encoding in VMCS").  An accessor of another width is our bug:
 * vmcs_read32(VMCS_GUEST_RIP) panics instead of truncating an address.  The list below is an X-macro: the checker
 * prints names from it, and the unit tests' fake VMCS has exactly these fields. */
#ifndef GODWIT_VMX_VMCS_H
#define GODWIT_VMX_VMCS_H

#include "kernel/lib/log.h"
#include "kernel/lib/types.h"
#include "vmx/vmx_insn.h"

/* clang-format off */
/* X(name, encoding), SDM 3C App. B, in its order. */
#define VMCS_FIELD_LIST(X)                                                                                             \
    X(VPID, 0x0000)                                                                                                    \
    X(GUEST_ES_SEL, 0x0800) X(GUEST_CS_SEL, 0x0802) X(GUEST_SS_SEL, 0x0804) X(GUEST_DS_SEL, 0x0806)                    \
    X(GUEST_FS_SEL, 0x0808) X(GUEST_GS_SEL, 0x080a) X(GUEST_LDTR_SEL, 0x080c) X(GUEST_TR_SEL, 0x080e)                  \
    X(GUEST_PML_INDEX, 0x0812)                                                                                         \
    X(HOST_ES_SEL, 0x0c00) X(HOST_CS_SEL, 0x0c02) X(HOST_SS_SEL, 0x0c04) X(HOST_DS_SEL, 0x0c06)                        \
    X(HOST_FS_SEL, 0x0c08) X(HOST_GS_SEL, 0x0c0a) X(HOST_TR_SEL, 0x0c0c)                                               \
    X(MSR_BITMAP, 0x2004) X(EXIT_MSR_STORE, 0x2006) X(EXIT_MSR_LOAD, 0x2008) X(ENTRY_MSR_LOAD, 0x200a)                 \
    X(PML_ADDRESS, 0x200e) X(TSC_OFFSET, 0x2010) X(VIRT_APIC_PAGE, 0x2012) X(EPTP, 0x201a) X(XSS_EXITING, 0x202c)      \
    X(TSC_MULTIPLIER, 0x2032)                                                                                          \
    X(GUEST_PHYS_ADDR, 0x2400)                                                                                         \
    X(LINK_POINTER, 0x2800) X(GUEST_DEBUGCTL, 0x2802) X(GUEST_PAT, 0x2804) X(GUEST_EFER, 0x2806)                       \
    X(GUEST_PDPTE0, 0x280a) X(GUEST_PDPTE1, 0x280c) X(GUEST_PDPTE2, 0x280e) X(GUEST_PDPTE3, 0x2810)                    \
    X(HOST_PAT, 0x2c00) X(HOST_EFER, 0x2c02)                                                                           \
    X(PIN_CTL, 0x4000) X(PROC_CTL, 0x4002) X(EXCEPTION_BITMAP, 0x4004) X(PF_ERROR_MASK, 0x4006)                        \
    X(PF_ERROR_MATCH, 0x4008)                                                                                          \
    X(CR3_TARGET_COUNT, 0x400a) X(EXIT_CTL, 0x400c) X(EXIT_MSR_STORE_COUNT, 0x400e) X(EXIT_MSR_LOAD_COUNT, 0x4010)     \
    X(ENTRY_CTL, 0x4012) X(ENTRY_MSR_LOAD_COUNT, 0x4014) X(ENTRY_INTR_INFO, 0x4016) X(ENTRY_EXC_ERROR, 0x4018)         \
    X(ENTRY_INSN_LEN, 0x401a) X(TPR_THRESHOLD, 0x401c) X(PROC2_CTL, 0x401e) X(PLE_GAP, 0x4020) X(PLE_WINDOW, 0x4022)   \
    X(INSN_ERROR, 0x4400) X(EXIT_REASON, 0x4402) X(EXIT_INTR_INFO, 0x4404) X(EXIT_INTR_ERROR, 0x4406)                  \
    X(IDT_VECTORING_INFO, 0x4408) X(IDT_VECTORING_ERROR, 0x440a) X(EXIT_INSN_LEN, 0x440c) X(EXIT_INSN_INFO, 0x440e)    \
    X(GUEST_ES_LIMIT, 0x4800) X(GUEST_CS_LIMIT, 0x4802) X(GUEST_SS_LIMIT, 0x4804) X(GUEST_DS_LIMIT, 0x4806)            \
    X(GUEST_FS_LIMIT, 0x4808) X(GUEST_GS_LIMIT, 0x480a) X(GUEST_LDTR_LIMIT, 0x480c) X(GUEST_TR_LIMIT, 0x480e)          \
    X(GUEST_GDTR_LIMIT, 0x4810) X(GUEST_IDTR_LIMIT, 0x4812)                                                            \
    X(GUEST_ES_AR, 0x4814) X(GUEST_CS_AR, 0x4816) X(GUEST_SS_AR, 0x4818) X(GUEST_DS_AR, 0x481a)                        \
    X(GUEST_FS_AR, 0x481c) X(GUEST_GS_AR, 0x481e) X(GUEST_LDTR_AR, 0x4820) X(GUEST_TR_AR, 0x4822)                      \
    X(GUEST_INTERRUPTIBILITY, 0x4824) X(GUEST_ACTIVITY, 0x4826) X(GUEST_SYSENTER_CS, 0x482a)                           \
    X(GUEST_PREEMPT_TIMER, 0x482e)                                                                                     \
    X(HOST_SYSENTER_CS, 0x4c00)                                                                                        \
    X(CR0_MASK, 0x6000) X(CR4_MASK, 0x6002) X(CR0_SHADOW, 0x6004) X(CR4_SHADOW, 0x6006)                                \
    X(EXIT_QUALIFICATION, 0x6400) X(GUEST_LINEAR_ADDR, 0x640a)                                                         \
    X(GUEST_CR0, 0x6800) X(GUEST_CR3, 0x6802) X(GUEST_CR4, 0x6804)                                                     \
    X(GUEST_ES_BASE, 0x6806) X(GUEST_CS_BASE, 0x6808) X(GUEST_SS_BASE, 0x680a) X(GUEST_DS_BASE, 0x680c)                \
    X(GUEST_FS_BASE, 0x680e) X(GUEST_GS_BASE, 0x6810) X(GUEST_LDTR_BASE, 0x6812) X(GUEST_TR_BASE, 0x6814)              \
    X(GUEST_GDTR_BASE, 0x6816) X(GUEST_IDTR_BASE, 0x6818) X(GUEST_DR7, 0x681a) X(GUEST_RSP, 0x681c)                    \
    X(GUEST_RIP, 0x681e)                                                                                               \
    X(GUEST_RFLAGS, 0x6820) X(GUEST_PENDING_DBG, 0x6822) X(GUEST_SYSENTER_ESP, 0x6824) X(GUEST_SYSENTER_EIP, 0x6826)   \
    X(HOST_CR0, 0x6c00) X(HOST_CR3, 0x6c02) X(HOST_CR4, 0x6c04) X(HOST_FS_BASE, 0x6c06) X(HOST_GS_BASE, 0x6c08)        \
    X(HOST_TR_BASE, 0x6c0a) X(HOST_GDTR_BASE, 0x6c0c) X(HOST_IDTR_BASE, 0x6c0e) X(HOST_SYSENTER_ESP, 0x6c10)           \
    X(HOST_SYSENTER_EIP, 0x6c12) X(HOST_RSP, 0x6c14) X(HOST_RIP, 0x6c16)
/* clang-format on */

enum vmcs_field {
#define X(name, encoding) VMCS_##name = encoding,
    VMCS_FIELD_LIST(X)
#undef X
};
/* The eight guest segment registers are numbered in the order of enum seg_id. */
#define VMCS_GUEST_SEL(id)   ((enum vmcs_field)(VMCS_GUEST_ES_SEL + 2 * (id)))
#define VMCS_GUEST_LIMIT(id) ((enum vmcs_field)(VMCS_GUEST_ES_LIMIT + 2 * (id)))
#define VMCS_GUEST_AR(id)    ((enum vmcs_field)(VMCS_GUEST_ES_AR + 2 * (id)))
#define VMCS_GUEST_BASE(id)  ((enum vmcs_field)(VMCS_GUEST_ES_BASE + 2 * (id)))

/* "VMCS_GUEST_RIP"; "?" for an encoding that is not in the list. */
const char *vmcs_field_name(enum vmcs_field f);

enum { VMCS_WIDTH_16, VMCS_WIDTH_64, VMCS_WIDTH_32, VMCS_WIDTH_NATURAL };
#define VMCS_WIDTH(f) ((unsigned)(f) >> 13 & 3)

/* One field of each width, and that the macros over seg_id stay within the list. */
_Static_assert(VMCS_WIDTH(VMCS_GUEST_TR_SEL) == VMCS_WIDTH_16, "SDM 3C App. B");
_Static_assert(VMCS_WIDTH(VMCS_GUEST_EFER) == VMCS_WIDTH_64, "SDM 3C App. B");
_Static_assert(VMCS_WIDTH(VMCS_GUEST_TR_AR) == VMCS_WIDTH_32, "SDM 3C App. B");
_Static_assert(VMCS_WIDTH(VMCS_GUEST_RIP) == VMCS_WIDTH_NATURAL, "SDM 3C App. B");
_Static_assert(VMCS_GUEST_SEL(7) == VMCS_GUEST_TR_SEL, "seg_id order");
_Static_assert(VMCS_GUEST_LIMIT(7) == VMCS_GUEST_TR_LIMIT, "seg_id order");
_Static_assert(VMCS_GUEST_AR(7) == VMCS_GUEST_TR_AR, "seg_id order");
_Static_assert(VMCS_GUEST_BASE(7) == VMCS_GUEST_TR_BASE, "seg_id order");

/* Fields of this pCPU's current VMCS.  Accessing a field that this processor lacks is our bug as well: vmx_vmread() and
 * vmx_vmwrite() panic. */
static inline uint16_t vmcs_read16(enum vmcs_field f)
{
    ASSERT(VMCS_WIDTH(f) == VMCS_WIDTH_16);
    return (uint16_t)vmx_vmread(f);
}
static inline uint32_t vmcs_read32(enum vmcs_field f)
{
    ASSERT(VMCS_WIDTH(f) == VMCS_WIDTH_32);
    return (uint32_t)vmx_vmread(f);
}
static inline uint64_t vmcs_read64(enum vmcs_field f)
{
    ASSERT(VMCS_WIDTH(f) == VMCS_WIDTH_64);
    return vmx_vmread(f);
}
static inline uint64_t vmcs_readn(enum vmcs_field f)
{
    ASSERT(VMCS_WIDTH(f) == VMCS_WIDTH_NATURAL);
    return vmx_vmread(f);
}
static inline void vmcs_write16(enum vmcs_field f, uint16_t x)
{
    ASSERT(VMCS_WIDTH(f) == VMCS_WIDTH_16);
    vmx_vmwrite(f, x);
}
static inline void vmcs_write32(enum vmcs_field f, uint32_t x)
{
    ASSERT(VMCS_WIDTH(f) == VMCS_WIDTH_32);
    vmx_vmwrite(f, x);
}
static inline void vmcs_write64(enum vmcs_field f, uint64_t x)
{
    ASSERT(VMCS_WIDTH(f) == VMCS_WIDTH_64);
    vmx_vmwrite(f, x);
}
static inline void vmcs_writen(enum vmcs_field f, uint64_t x)
{
    ASSERT(VMCS_WIDTH(f) == VMCS_WIDTH_NATURAL);
    vmx_vmwrite(f, x);
}

/* SDM 3C "Pin-Based VM-Execution Controls". */
#define PIN_EXTINT         BIT32(0)
#define PIN_NMI            BIT32(3)
#define PIN_VIRTUAL_NMIS   BIT32(5)
#define PIN_PREEMPT_TIMER  BIT32(6)
#define PIN_POSTED         BIT32(7)
/* "Processor-Based VM-Execution Controls", primary. */
#define PROC_IRQ_WINDOW    BIT32(2)
#define PROC_TSC_OFFSET    BIT32(3)
#define PROC_HLT           BIT32(7)
#define PROC_INVLPG        BIT32(9)
#define PROC_MWAIT         BIT32(10)
#define PROC_RDPMC         BIT32(11)
#define PROC_RDTSC         BIT32(12)
#define PROC_CR3_LOAD      BIT32(15)
#define PROC_CR3_STORE     BIT32(16)
#define PROC_CR8_LOAD      BIT32(19)
#define PROC_CR8_STORE     BIT32(20)
#define PROC_TPR_SHADOW    BIT32(21)
#define PROC_NMI_WINDOW    BIT32(22)
#define PROC_MOV_DR        BIT32(23)
#define PROC_IO            BIT32(24)
#define PROC_IO_BITMAPS    BIT32(25)
#define PROC_MTF           BIT32(27)
#define PROC_MSR_BITMAPS   BIT32(28)
#define PROC_MONITOR       BIT32(29)
#define PROC_PAUSE         BIT32(30)
#define PROC_SECONDARY     BIT32(31)
/* The same, secondary. */
#define PROC2_APIC_ACCESS  BIT32(0)
#define PROC2_EPT          BIT32(1)
#define PROC2_RDTSCP       BIT32(3)
#define PROC2_X2APIC       BIT32(4)
#define PROC2_VPID         BIT32(5)
#define PROC2_WBINVD       BIT32(6)
#define PROC2_UNRESTRICTED BIT32(7)
#define PROC2_APIC_REGS    BIT32(8)
#define PROC2_VIRT_IRQ     BIT32(9)
#define PROC2_PLE          BIT32(10)
#define PROC2_RDRAND       BIT32(11) /* RDRAND, RDSEED exit */
#define PROC2_INVPCID      BIT32(12)
#define PROC2_RDSEED       BIT32(16)
#define PROC2_PML          BIT32(17)
#define PROC2_XSAVES       BIT32(20)
#define PROC2_TSC_SCALING  BIT32(25)
/* "VM-Exit Controls". */
#define EXIT_SAVE_DEBUG    BIT32(2)
#define EXIT_HOST_64       BIT32(9)
#define EXIT_ACK_IRQ       BIT32(15)
#define EXIT_SAVE_PAT      BIT32(18)
#define EXIT_LOAD_PAT      BIT32(19)
#define EXIT_SAVE_EFER     BIT32(20)
#define EXIT_LOAD_EFER     BIT32(21)
#define EXIT_SAVE_PREEMPT  BIT32(22)
/* "VM-Entry Controls". */
#define ENTRY_LOAD_DEBUG   BIT32(2)
#define ENTRY_IA32E        BIT32(9)
#define ENTRY_SMM          BIT32(10)
#define ENTRY_DUAL_MONITOR BIT32(11)
#define ENTRY_LOAD_PAT     BIT32(14)
#define ENTRY_LOAD_EFER    BIT32(15)

/* "Guest Non-Register State": interruptibility, pending debug exceptions. */
#define BLOCKED_STI         BIT32(0)
#define BLOCKED_MOV_SS      BIT32(1)
#define BLOCKED_SMI         BIT32(2)
#define BLOCKED_NMI         BIT32(3)
#define BLOCKED_SHADOW      (BLOCKED_STI | BLOCKED_MOV_SS)
#define PENDING_DBG_ENABLED BIT64(12) /* one of the breakpoints in bits 3:0 is enabled */
#define PENDING_DBG_BS      BIT64(14)
#define PENDING_DBG_BITS    (0xful | PENDING_DBG_ENABLED | PENDING_DBG_BS | BIT64(16))
enum { ACTIVITY_ACTIVE, ACTIVITY_HLT, ACTIVITY_SHUTDOWN, ACTIVITY_WAIT_SIPI };

/* "VM-Entry Controls for Event Injection", "Information for VM Exits Due to Vectored Events": one layout for entry,
 * exit and IDT-vectoring. */
#define INTR_VECTOR        0xffu
#define INTR_TYPE          0x700u
#define INTR_ERROR_VALID   BIT32(11)
#define INTR_NMI_UNBLOCKED BIT32(12) /* exit information only: an IRET had unblocked NMIs before it faulted */
#define INTR_VALID         BIT32(31)
enum {
    INTR_TYPE_EXTINT = 0,
    INTR_TYPE_NMI = 2,
    INTR_TYPE_HW_EXC = 3,
    INTR_TYPE_SOFT_INT = 4,
    INTR_TYPE_PRIV_SW_EXC = 5,
    INTR_TYPE_SW_EXC = 6,
    INTR_TYPE_OTHER = 7
};

/* "Extended-Page-Table Pointer". */
#define EPTP_WB     6ul
#define EPTP_WALK_4 (3ul << 3)
#define EPTP_AD     BIT64(6)

/* Exit reasons: SDM 3D App. C "VMX Basic Exit Reasons". */
#define EXIT_REASON_BASIC        0xffffu
#define EXIT_REASON_ENTRY_FAILED BIT32(31)
enum vmx_exit_reason {
    VMX_EXIT_EXCEPTION_NMI = 0,
    VMX_EXIT_EXTINT = 1,
    VMX_EXIT_TRIPLE_FAULT = 2,
    VMX_EXIT_INIT = 3,
    VMX_EXIT_SIPI = 4,
    VMX_EXIT_IO_SMI = 5,
    VMX_EXIT_OTHER_SMI = 6,
    VMX_EXIT_IRQ_WINDOW = 7,
    VMX_EXIT_NMI_WINDOW = 8,
    VMX_EXIT_TASK_SWITCH = 9,
    VMX_EXIT_CPUID = 10,
    VMX_EXIT_GETSEC = 11,
    VMX_EXIT_HLT = 12,
    VMX_EXIT_INVD = 13,
    VMX_EXIT_INVLPG = 14,
    VMX_EXIT_RDPMC = 15,
    VMX_EXIT_RDTSC = 16,
    VMX_EXIT_RSM = 17,
    VMX_EXIT_VMCALL = 18,
    VMX_EXIT_VMCLEAR = 19,
    VMX_EXIT_VMXON = 27,
    VMX_EXIT_CR = 28,
    VMX_EXIT_DR = 29,
    VMX_EXIT_IO = 30,
    VMX_EXIT_RDMSR = 31,
    VMX_EXIT_WRMSR = 32,
    VMX_EXIT_BAD_GUEST_STATE = 33,
    VMX_EXIT_BAD_MSR_LOAD = 34,
    VMX_EXIT_MWAIT = 36,
    VMX_EXIT_MTF = 37,
    VMX_EXIT_MONITOR = 39,
    VMX_EXIT_PAUSE = 40,
    VMX_EXIT_ENTRY_MC = 41,
    VMX_EXIT_TPR = 43,
    VMX_EXIT_EPT_VIOLATION = 48,
    VMX_EXIT_EPT_MISCONFIG = 49,
    VMX_EXIT_INVEPT = 50,
    VMX_EXIT_PREEMPT = 52,
    VMX_EXIT_INVVPID = 53,
    VMX_EXIT_WBINVD = 54,
    VMX_EXIT_XSETBV = 55,
    VMX_EXIT_RDRAND = 57,
    VMX_EXIT_VMFUNC = 59,
    VMX_EXIT_ENCLS = 60,
    VMX_EXIT_RDSEED = 61,
    VMX_EXIT_PML_FULL = 62,
    VMX_EXIT_XSAVES = 63,
    VMX_EXIT_XRSTORS = 64,
};

/* "Exit Qualification": I/O instructions, EPT violations, control-register accesses, task
 * switches, debug exceptions. */
#define QUAL_IO_SIZE       7ul /* bytes - 1 */
#define QUAL_IO_IN         BIT64(3)
#define QUAL_IO_STRING     BIT64(4)
#define QUAL_IO_REP        BIT64(5)
#define QUAL_IO_PORT       0xffff0000ul
#define QUAL_EPT_READ      BIT64(0)
#define QUAL_EPT_WRITE     BIT64(1)
#define QUAL_EPT_FETCH     BIT64(2)
#define QUAL_EPT_LINEAR    BIT64(7)  /* the guest linear address is valid; then: */
#define QUAL_EPT_FINAL     BIT64(8)  /* set: access to what it translates to; clear: to a paging structure */
#define QUAL_NMI_UNBLOCKED BIT64(12) /* EPT violations and PML-full exits */
#define QUAL_CR_NUMBER     0xful
#define QUAL_CR_TYPE       0x30ul
enum { CR_MOV_TO, CR_MOV_FROM, CR_CLTS, CR_LMSW };
#define QUAL_CR_GPR  0xf00ul
#define QUAL_CR_LMSW 0xffff0000ul
#define QUAL_DB_BITS 0x600ful /* B0-3, BD, BS: as in DR6 */

#endif
