/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/ept.c - the entry format of extended page tables, for the walker in kernel/core/s2.c.
 *
 * An entry is present when any of R, W, X is set (SDM 3C "EPT Translation Mechanism").  Memory type: write-back without
 * "ignore PAT", combined with the guest's PAT.  The processor sets A and D only while EPTP bit 6 is set; otherwise they
 * are ignored.  With that bit, the walk of the guest's page tables counts as a write: a leaf without W faults even when
 * the guest only reads.  There are no execute-only and no user-execute pages: the guest executes from all of its
 * memory. */
#include "vmx/vmx.h"

#define EPT_R  BIT64(0)
#define EPT_W  BIT64(1)
#define EPT_X  BIT64(2)
#define EPT_WB (6ul << 3)
#define EPT_PS BIT64(7)
#define EPT_A  BIT64(8)
#define EPT_D  BIT64(9)

const struct s2_format ept_format = {
    .name = "EPT",
    .present = EPT_R | EPT_W | EPT_X,
    .table = EPT_R | EPT_W | EPT_X,
    .leaf = EPT_R | EPT_X | EPT_WB,
    .writable = EPT_W,
    .large = EPT_PS,
    .accessed = EPT_A,
    .dirty = EPT_D,
    .addr = 0x000ffffffffff000ul,
};
