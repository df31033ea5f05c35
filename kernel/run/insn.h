/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn.h - the guest's current instruction: how long it is, and carrying it out where hardware does not.
 *
 * Vendor-neutral.  Instruction bytes are read at CS:RIP through the guest's own page tables.  Emulation is all or
 * nothing: either the registers, flags, RIP and memory of one completed instruction (or one whole part of a REP), or a
 * fault injected, or nothing at all.  All functions: owner pCPU, v loaded. */
#ifndef GODWIT_KERNEL_RUN_INSN_H
#define GODWIT_KERNEL_RUN_INSN_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct vcpu;
struct vcpu_exit;

/** Length of the instruction at CS:RIP, whatever it is; 0: its bytes cannot be read or are no instruction. */
unsigned insn_length(struct vcpu *v);

/** Length of the instruction at CS:RIP, which is known to be the one with opcode op[0..n_op) and no operand bytes
 *  (CPUID, RDMSR, HLT, ...): n_op plus its prefixes.  Some hundred instructions cheaper than insn_length.  0: something
 *  else is there, or it cannot be read. */
unsigned insn_len_known(struct vcpu *v, const uint8_t *op, unsigned n_op);

/** The instruction at CS:RIP is known to be a MOV to control register cr: its length, and in *val what it writes (32
 *  bits outside 64-bit code).  0: something else is there by now, or it cannot be read. */
unsigned insn_mov_to_cr(struct vcpu *v, unsigned cr, uint64_t *val);

/** The instruction at CS:RIP accesses fault_gpa, which is no RAM (write: a store).  Carry it out with
 *  mmio_read/mmio_write for device addresses and guest_read/guest_write for RAM, and step over it.  A REP string
 *  instruction does a bounded number of elements per call; RIP stays until the last.  HV_OK also when it ended in a
 *  fault that was injected (its operand in RAM is not mapped).  HV_E_UNSUPP: not an instruction that we carry out;
 *  HV_E_GUEST: cannot be fetched or decoded.  Both logged with the bytes; nothing changed. */
HV_MUST_CHECK enum hv_err insn_emulate_mmio(struct vcpu *v, gpa_t fault_gpa, bool write);

/** The same for INS/OUTS (x->io.string), with pio_read/pio_write. */
HV_MUST_CHECK enum hv_err insn_emulate_string_io(struct vcpu *v, const struct vcpu_exit *x);

#endif
