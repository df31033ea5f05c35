/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_check.h - how the two checkers state a rule: see vmx_check.c. */
#ifndef GODWIT_VMX_VMX_CHECK_H
#define GODWIT_VMX_VMX_CHECK_H

#include "vmx/vmx.h"

struct check {
    const struct vmx_caps *caps;
    const char *section; /* title in SDM 3C of the rules being checked */
    struct why *why;
};

/** Write "VMCS_X (0x..) is 0x..: rule [SDM 3C "section"]"; returns false. */
bool check_broken(const struct check *c, enum vmcs_field f, const char *rule);

/* The rule about field f holds, or this is what is wrong. */
#define RULE(f, holds, text)                     \
    do {                                         \
        if (!(holds))                            \
            return check_broken(c, (f), (text)); \
    } while (0)

/** Any width: a checker looks at fields by variable. */
static inline uint64_t check_read(enum vmcs_field f) { return vmx_vmread(f); }

static inline bool check_canonical(uint64_t a) { return (uint64_t)((int64_t)(a << 16) >> 16) == a; }
/* Aligned to align, and below the end of physical memory. */
static inline bool check_address(const struct check *c, uint64_t a, uint64_t align)
{
    return !(a & (align - 1)) && !(a >> c->caps->phys_bits);
}
static inline bool check_fixed(uint64_t val, uint64_t must, uint64_t may)
{
    return (val & must) == must && !(val & ~may);
}
bool check_pat(uint64_t pat);

#endif
