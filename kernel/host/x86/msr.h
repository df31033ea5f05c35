/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/msr.h - numbers and bits of model-specific registers, named as SDM 4 and APM 2
 * Appendix A name them. */
#ifndef GODWIT_KERNEL_HOST_X86_MSR_H
#define GODWIT_KERNEL_HOST_X86_MSR_H

#include "kernel/lib/types.h"

#define MSR_TSC               0x00000010
#define MSR_APIC_BASE         0x0000001b
#define APIC_BASE_BSP         BIT64(8)
#define APIC_BASE_X2APIC      BIT64(10)
#define APIC_BASE_ENABLE      BIT64(11)
#define APIC_BASE_ADDR        UINT64_C(0x000ffffffffff000)
#define MSR_FEATURE_CONTROL   0x0000003a
#define FEATURE_CONTROL_LOCK  BIT64(0)
#define FEATURE_CONTROL_VMXON BIT64(2) /* VMXON outside SMX */
#define MSR_TSC_ADJUST        0x0000003b
#define MSR_SPEC_CTRL         0x00000048
#define MSR_PRED_CMD          0x00000049
#define MSR_BIOS_SIGN_ID      0x0000008b
#define MSR_MTRRCAP           0x000000fe
#define MSR_ARCH_CAPABILITIES 0x0000010a
#define MSR_SYSENTER_CS       0x00000174
#define MSR_SYSENTER_ESP      0x00000175
#define MSR_SYSENTER_EIP      0x00000176
#define MSR_MCG_CAP           0x00000179
#define MSR_MCG_STATUS        0x0000017a
#define MSR_MISC_ENABLE       0x000001a0
#define MSR_DEBUGCTL          0x000001d9
#define MSR_PAT               0x00000277
#define MSR_MTRR_DEF_TYPE     0x000002ff
#define MSR_TSC_DEADLINE      0x000006e0
#define MSR_X2APIC_BASE       0x00000800 /* + (xAPIC offset >> 4) */
#define MSR_XSS               0x00000da0

#define MSR_VMX_BASIC               0x00000480
#define MSR_VMX_PINBASED_CTLS       0x00000481
#define MSR_VMX_PROCBASED_CTLS      0x00000482
#define MSR_VMX_EXIT_CTLS           0x00000483
#define MSR_VMX_ENTRY_CTLS          0x00000484
#define MSR_VMX_MISC                0x00000485
#define MSR_VMX_CR0_FIXED0          0x00000486
#define MSR_VMX_CR0_FIXED1          0x00000487
#define MSR_VMX_CR4_FIXED0          0x00000488
#define MSR_VMX_CR4_FIXED1          0x00000489
#define MSR_VMX_PROCBASED_CTLS2     0x0000048b
#define MSR_VMX_EPT_VPID_CAP        0x0000048c
#define MSR_VMX_TRUE_PINBASED_CTLS  0x0000048d
#define MSR_VMX_TRUE_PROCBASED_CTLS 0x0000048e
#define MSR_VMX_TRUE_EXIT_CTLS      0x0000048f
#define MSR_VMX_TRUE_ENTRY_CTLS     0x00000490

#define MSR_EFER           0xc0000080
#define EFER_SCE           BIT64(0)
#define EFER_LME           BIT64(8)
#define EFER_LMA           BIT64(10)
#define EFER_NXE           BIT64(11)
#define EFER_SVME          BIT64(12)
#define EFER_LMSLE         BIT64(13)
#define EFER_FFXSR         BIT64(14)
#define MSR_STAR           0xc0000081
#define MSR_LSTAR          0xc0000082
#define MSR_CSTAR          0xc0000083
#define MSR_SFMASK         0xc0000084
#define MSR_FS_BASE        0xc0000100
#define MSR_GS_BASE        0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX        0xc0000103
#define MSR_TSC_RATIO      0xc0000104
#define MSR_SYSCFG         0xc0010010
#define MSR_HWCR           0xc0010015
#define MSR_VM_CR          0xc0010114
#define VM_CR_R_INIT       BIT64(1)
#define VM_CR_LOCK         BIT64(3)
#define VM_CR_SVMDIS       BIT64(4)
#define MSR_VM_HSAVE_PA    0xc0010117

#endif
