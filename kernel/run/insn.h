/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn.h - the guest's current instruction: its length, and its emulation.
 *
 * Instruction bytes are read at CS:RIP through the guest's own page tables.  Emulation is all or nothing: one completed
 * instruction (or part of a REP), or an injected fault, or no change.  All functions: owner pCPU, v loaded. */
#ifndef GODWIT_KERNEL_RUN_INSN_H
#define GODWIT_KERNEL_RUN_INSN_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct vcpu;
struct vcpu_exit;

/** Length of the instruction at CS:RIP; 0: it cannot be fetched or decoded. */
unsigned insn_length(struct vcpu *v);

/** The same for an instruction with opcode op[0..n_op) and no operand bytes (CPUID, RDMSR, HLT, ...), without decoding.
 *  0: it is another instruction, or cannot be fetched. */
unsigned insn_len_known(struct vcpu *v, const uint8_t *op, unsigned n_op);

/** The same for a MOV to control register cr; *val: what it writes (32 bits outside 64-bit code). */
unsigned insn_mov_to_cr(struct vcpu *v, unsigned cr, uint64_t *val);
/** The same for a MOV from control register cr, which reads as val: writes the general register. */
unsigned insn_mov_from_cr(struct vcpu *v, unsigned cr, uint64_t val);

/** Emulate the instruction at CS:RIP, which accesses fault_gpa (write: a store) outside RAM, and advance RIP.  A REP
 *  string instruction does a bounded number of elements per call; RIP stays until the last.  HV_OK also when a fault
 *  was injected: #UD, with a line in the log, for an instruction that is not emulated here.  HV_E_NOMEM: host memory is
 *  exhausted; a part of the operand may be written. */
HV_MUST_CHECK enum hv_err insn_emulate_mmio(struct vcpu *v, gpa_t fault_gpa, bool write);

/** The same for INS and OUTS (x->io.string). */
HV_MUST_CHECK enum hv_err insn_emulate_string_io(struct vcpu *v, const struct vcpu_exit *x);

#endif
