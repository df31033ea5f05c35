/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/groups_forget.h - the host's volume groups at a power cut: a host scans once, and here it begins again.
 * Brings lvm.c and lvm_commit.c, whose lists it clears. */
#ifndef GODWIT_TESTS_UNIT_GROUPS_FORGET_H
#define GODWIT_TESTS_UNIT_GROUPS_FORGET_H

#include "kernel/store/lvm.c"
#include "kernel/store/lvm_commit.c"

/** What the host knew of its groups is lost, and each change that was under way ends where it was. */
static void groups_forget(void)
{
    for (struct lvm_change *c = commits; c; c = commits) { /* the power went within */
        commits = c->next;
        memory_put(c);
    }
    for (unsigned i = 0; i < LVM_VGS_MAX; i++) {
        lvm_group_free(groups[i]);
        groups[i] = NULL;
    }
}

#endif
