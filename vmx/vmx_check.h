/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_check.h - shared parts of vmx_check.c and vmx_check_guest.c: how they state a rule. */
#ifndef GODWIT_VMX_VMX_CHECK_H
#define GODWIT_VMX_VMX_CHECK_H

#include "vmx/vmx.h"

struct check {
    const struct vmx_caps *caps;
    const char *section; /* title in SDM 3C of the rules being checked */
    struct why *why;
};

/** Write "VMCS_X (0x..) is 0x..: rule [SDM 3C "section"]"; returns false. */
bool vmx_check_fail(const struct check *c, enum vmcs_field f, const char *rule);

/* Return false from the checker with this text unless the rule about field f holds. */
#define RULE(f, holds, text)                       \
    do {                                           \
        if (!(holds))                              \
            return vmx_check_fail(c, (f), (text)); \
    } while (0)

/** Read a field of any width: the checkers have fields in variables. */
static inline uint64_t check_read(enum vmcs_field f) { return vmx_vmread(f); }

static inline bool check_canonical(uint64_t a) { return (uint64_t)((int64_t)(a << 16) >> 16) == a; }
/* A multiple of align (a power of two) within the physical-address width. */
static inline bool check_address(const struct check *c, uint64_t a, uint64_t align)
{
    return !(a & (align - 1)) && !(a >> c->caps->phys_bits);
}
static inline bool check_fixed(uint64_t val, uint64_t must, uint64_t may)
{
    return (val & must) == must && !(val & ~may);
}
bool vmx_check_pat(uint64_t pat);

#endif
