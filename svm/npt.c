/* SPDX-License-Identifier: BSD-2-Clause
 * svm/npt.c - the entry format of nested page tables, for the walker in kernel/core/s2.c.
 *
 * NPTs are ordinary long-mode page tables (APM 2 15.25.5).  Every guest access counts as a user access, so all entries
 * have U=1.  The walk of the guest's page tables counts as a write: it sets the D bit, and a leaf without W faults even
 * when the guest only reads.  NX is never set: the guest executes from all of its memory.  Memory type: write-back (PAT
 * entry 0), combined with the guest's PAT. */
#include "kernel/core/s2.h"

#define NPT_P  BIT64(0)
#define NPT_W  BIT64(1)
#define NPT_U  BIT64(2)
#define NPT_A  BIT64(5)
#define NPT_D  BIT64(6)
#define NPT_PS BIT64(7)

extern const struct s2_format npt_format;
const struct s2_format npt_format = {
    .name = "NPT",
    .present = NPT_P,
    .table = NPT_P | NPT_W | NPT_U | NPT_A,
    .leaf = NPT_P | NPT_U | NPT_A,
    .writable = NPT_W,
    .large = NPT_PS,
    .accessed = NPT_A,
    .dirty = NPT_D,
    .addr = 0x000ffffffffff000ul,
};
