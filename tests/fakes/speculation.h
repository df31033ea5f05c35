/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/speculation.h - a processor whose CPUID a test writes, and a record of what is done to its predictors and
 * buffers, in order. */
#ifndef GODWIT_TESTS_FAKES_SPECULATION_H
#define GODWIT_TESTS_FAKES_SPECULATION_H

#include "kernel/host/x86/speculation.h"
#include "kernel/host/x86/speculation_insn.h"

/* What CPUID says, all zero at first but the highest leaves; and ARCH_CAPABILITIES. */
extern struct spec_cpuid fake_spec_0, fake_spec_1, fake_spec_7, fake_spec_7_2, fake_spec_b, fake_spec_ext8,
    fake_spec_ext21;
extern uint64_t fake_spec_arch, fake_spec_efer;

/* Each WRMSR as NUMBER=VALUE in hex, and "verw", "guest", "rsb" where the assembly does them. */
extern char fake_spec_done[512];

/** An Intel or AMD processor without any of the features; nothing recorded. */
void fake_spec_reset(bool amd);
/** The fakes of vmx_enter() and svm_enter() call it: what the macros around the entry do. */
void fake_spec_entry(void);

#endif
