/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/cpuid.h - a guest's CPUID: one table, built when the VM starts, moved with it, never changed.
 *
 * Each value is (host AND allowed) OR forced, by the policy table in cpuid.c.  So an unknown bit is not shown.  Values
 * that differ between vCPUs (APIC id) or in time (OSXSAVE, XSAVE size) are filled in at the exit.
 *
 * Functions that take a table only read it: any context.  The others: boot or service pCPU. */
#ifndef GODWIT_KERNEL_CORE_CPUID_H
#define GODWIT_KERNEL_CORE_CPUID_H

#include "kernel/core/vcpu.h"
#include "kernel/lib/bytes.h"

#define CPUID_MAX_ENTRIES 64
#define CPUID_KNOWN_MAX   48
enum cpuid_reg { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

struct cpuid_entry {
    uint32_t leaf, subleaf, reg[4];
};
struct cpuid_table {
    unsigned n;            /* entries in e */
    uint64_t xcr0_allowed; /* 1: no XSAVE */
    uint32_t xsave_bytes;  /* standard-format area for xcr0_allowed */
    /* place of each component in the standard format, by XCR0 bit; 0 and 1 lie in the legacy area */
    struct {
        uint32_t offset, size;
    } xcomp[64];
    struct cpuid_entry e[CPUID_MAX_ENTRIES];
};

/* Feature bits that a version of Godwit knows. */
struct cpuid_known {
    unsigned n;
    struct cpuid_word {
        uint32_t leaf, subleaf, reg, mask; /* reg: enum cpuid_reg */
    } word[CPUID_KNOWN_MAX];
};

/* A processor's CPUID: out is EAX to EDX.  cpuid_host(): this one's, less the bits of features that are broken. */
typedef void cpuid_fn(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);
void cpuid_host(uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* Receives one reason, or one name; text is valid during the call. */
typedef void reason_fn(void *ctx, const char *text);

/** Build the "host" baseline for a VM of n_vcpus from read().  tsc_hz: for the frequency leaf. */
void cpuid_build(struct cpuid_table *t, cpuid_fn *read, unsigned n_vcpus, uint64_t tsc_hz);

/** Is it "host", "x86-64-v1" to "x86-64-v4", or "pool"? */
bool cpuid_baseline_known(const char *baseline);
struct cpuid_spec {
    const char *baseline;
    unsigned n_vcpus;
    uint64_t memory_bytes, tsc_hz;
};
/** Build the table of a VM on spec->baseline.  HV_E_UNSUPP: this host lacks parts of it; the name of each goes to
 *  add_name(), and t is unchanged.  HV_E_NOENT: no such baseline, or "pool" with no host in the pool. */
HV_MUST_CHECK enum hv_err cpuid_build_for(struct cpuid_table *t, const struct cpuid_spec *spec, cpuid_fn *read,
                                          reason_fn *add_name, void *ctx);

/** The pool is what the "host" baselines of all added hosts have in common.  HV_E_INVAL: another vendor than the hosts
 *  before; not added.  At boot. */
void cpuid_pool_clear(void);
HV_MUST_CHECK enum hv_err cpuid_pool_add(cpuid_fn *read);

const struct cpuid_entry *cpuid_find(const struct cpuid_table *t, uint32_t leaf, uint32_t subleaf); /* or NULL */
/** Is bit of reg in leaf/subleaf shown? */
bool cpuid_has(const struct cpuid_table *t, uint32_t leaf, uint32_t subleaf, enum cpuid_reg reg, unsigned bit);
/** Execute CPUID for v: v->gpr is input (EAX, ECX) and output (EAX to EDX).  cr4_osxsave: CR4 bit 18; apic: its
 *  local APIC is enabled.  Owner pCPU. */
void cpuid_exit(struct vcpu *v, bool cr4_osxsave, bool apic);
/** Is this XCR0 value legal for the guest (SDM 1 "Enabling the XSAVE Feature Set")? */
bool cpuid_xcr0_ok(const struct cpuid_table *t, uint64_t xcr0);
/** Bytes of a standard-format XSAVE area holding the components of xcr0. */
uint32_t cpuid_xsave_bytes(const struct cpuid_table *t, uint64_t xcr0);
unsigned cpuid_phys_bits(const struct cpuid_table *t);
/** Does this MSR exist for the guest?  False: it belongs to a feature that its CPUID does not show, so that RDMSR and
 *  WRMSR raise #GP. */
bool cpuid_msr_exists(const struct cpuid_table *t, uint32_t msr);
/** Bits of CR4 and EFER that this guest may set.  The others are reserved for it: setting one raises #GP where the
 *  write can be intercepted. */
uint64_t cpuid_cr4_allowed(const struct cpuid_table *t);
uint64_t cpuid_efer_allowed(const struct cpuid_table *t);
/** Bits of CR4 that the processor behind read() has, as far as this version knows. */
uint64_t cpuid_cr4_of(cpuid_fn *read);

/** The features that this version knows; release_0_1: that release 0.1 knows. */
void cpuid_known(struct cpuid_known *k, bool release_0_1);
/** Give add_name() each feature in t that is not in k, by its name. */
void cpuid_unknown(const struct cpuid_table *t, const struct cpuid_known *k, reason_fn *add_name, void *ctx);

/** Write t for a move, and read it.  HV_E_PROTO: malformed or inconsistent. */
void cpuid_save(const struct cpuid_table *t, struct wr *w);
HV_MUST_CHECK enum hv_err cpuid_load(struct cpuid_table *t, struct rd *r);

/** Can a host whose baseline is `host` run a guest that was given `guest`?  Returns the number of features, components
 *  and values that stand against it.  The reasons go to add(): the vendor; one sentence with every missing feature by
 *  name; one with every feature that this version does not know; each XSAVE component; physical address bits. */
unsigned cpuid_check(const struct cpuid_table *host, const struct cpuid_table *guest, reason_fn *add, void *ctx);

#endif
