/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/regs.h - bits of control registers, RFLAGS, XCR0 and page-table entries.  SDM 3A "System
 * Architecture Overview". */
#ifndef GODWIT_KERNEL_HOST_X86_REGS_H
#define GODWIT_KERNEL_HOST_X86_REGS_H

#include "kernel/lib/types.h"

#define CR0_PE BIT64(0)
#define CR0_MP BIT64(1)
#define CR0_EM BIT64(2)
#define CR0_TS BIT64(3)
#define CR0_ET BIT64(4)
#define CR0_NE BIT64(5)
#define CR0_WP BIT64(16)
#define CR0_AM BIT64(18)
#define CR0_NW BIT64(29)
#define CR0_CD BIT64(30)
#define CR0_PG BIT64(31)

#define CR4_VME        BIT64(0)
#define CR4_PVI        BIT64(1)
#define CR4_TSD        BIT64(2)
#define CR4_DE         BIT64(3)
#define CR4_PSE        BIT64(4)
#define CR4_PAE        BIT64(5)
#define CR4_MCE        BIT64(6)
#define CR4_PGE        BIT64(7)
#define CR4_PCE        BIT64(8)
#define CR4_OSFXSR     BIT64(9)
#define CR4_OSXMMEXCPT BIT64(10)
#define CR4_UMIP       BIT64(11)
#define CR4_LA57       BIT64(12)
#define CR4_VMXE       BIT64(13)
#define CR4_SMXE       BIT64(14)
#define CR4_FSGSBASE   BIT64(16)
#define CR4_PCIDE      BIT64(17)
#define CR4_OSXSAVE    BIT64(18)
#define CR4_SMEP       BIT64(20)
#define CR4_SMAP       BIT64(21)
#define CR4_PKE        BIT64(22)
#define CR4_CET        BIT64(23)

#define RFLAGS_CF     BIT64(0)
#define RFLAGS_FIXED1 BIT64(1)
#define RFLAGS_TF     BIT64(8)
#define RFLAGS_IF     BIT64(9)
#define RFLAGS_DF     BIT64(10)
#define RFLAGS_IOPL   (BIT64(12) | BIT64(13))
#define RFLAGS_NT     BIT64(14)
#define RFLAGS_RF     BIT64(16)
#define RFLAGS_VM     BIT64(17)
#define RFLAGS_AC     BIT64(18)

#define DR6_HITS 0xful /* B0-3: breakpoints that were hit, enabled or not */
#define DR6_BS   BIT64(14)
#define DR7_GD   BIT64(13)

#define CPUID_D1_EAX_XSAVEC BIT32(1)

#define XCR0_X87       BIT64(0)
#define XCR0_SSE       BIT64(1)
#define XCR0_AVX       BIT64(2)
#define XCR0_BNDREGS   BIT64(3)
#define XCR0_BNDCSR    BIT64(4)
#define XCR0_OPMASK    BIT64(5)
#define XCR0_ZMM_HI256 BIT64(6)
#define XCR0_HI16_ZMM  BIT64(7)
#define XCR0_PKRU      BIT64(9)

#define PTE_P    BIT64(0)
#define PTE_W    BIT64(1)
#define PTE_U    BIT64(2)
#define PTE_PWT  BIT64(3)
#define PTE_PCD  BIT64(4)
#define PTE_A    BIT64(5)
#define PTE_D    BIT64(6)
#define PTE_PS   BIT64(7)
#define PTE_NX   BIT64(63)
#define PTE_ADDR UINT64_C(0x000ffffffffff000)

/* Exception vectors. */
enum {
    EXC_DE = 0,
    EXC_DB = 1,
    EXC_NMI = 2,
    EXC_BP = 3,
    EXC_OF = 4,
    EXC_BR = 5,
    EXC_UD = 6,
    EXC_NM = 7,
    EXC_DF = 8,
    EXC_TS = 10,
    EXC_NP = 11,
    EXC_SS = 12,
    EXC_GP = 13,
    EXC_PF = 14,
    EXC_MF = 16,
    EXC_AC = 17,
    EXC_MC = 18,
    EXC_XM = 19,
    EXC_VE = 20,
    EXC_CP = 21,
    EXC_SX = 30
};

#endif
