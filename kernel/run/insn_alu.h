/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn_alu.h - results and flags of arithmetic instructions, as the processor computes them.  Pure functions
 * of their arguments.
 *
 * bits: width of the operands, 8 to 64.  rflags: the guest's, in and out; the flags that the instruction defines
 * change.  Of flags that the manual leaves undefined (SDM 1 "EFLAGS Cross-Reference") some are left, some cleared. */
#ifndef GODWIT_KERNEL_RUN_INSN_ALU_H
#define GODWIT_KERNEL_RUN_INSN_ALU_H

#include "kernel/lib/types.h"
#include "kernel/run/insn_exec.h" /* ZydisMnemonic */

#define FLAG_CF BIT64(0)
#define FLAG_PF BIT64(2)
#define FLAG_AF BIT64(4)
#define FLAG_ZF BIT64(6)
#define FLAG_SF BIT64(7)
#define FLAG_DF BIT64(10)
#define FLAG_OF BIT64(11)

/** The lowest bits of a number. */
static inline uint64_t alu_mask(unsigned bits) { return bits >= 64 ? ~UINT64_C(0) : BIT64(bits) - 1; }
static inline uint64_t alu_sign_extend(uint64_t val, unsigned bits)
{
    return (uint64_t)((int64_t)(val << (64 - bits)) >> (64 - bits));
}

/** ADD, ADC, SUB, SBB, CMP, AND, TEST, OR, XOR of a and b, and INC, DEC, NEG, NOT of a.  False: another instruction. */
bool alu_compute(ZydisMnemonic m, uint64_t a, uint64_t b, unsigned bits, uint64_t *rflags, uint64_t *res);
/** The bit tests' flag and result: BT, BTS, BTR, BTC of bit n of a. */
uint64_t alu_bit(ZydisMnemonic m, uint64_t a, unsigned n, uint64_t *rflags);
/** ROL, ROR, RCL, RCR, SHL, SHR, SAR of a, and SHLD, SHRD with the bits of fill, by count as the instruction has it. */
uint64_t alu_shift(ZydisMnemonic m, uint64_t a, uint64_t fill, unsigned count, unsigned bits, uint64_t *rflags);
/** BSF, BSR, TZCNT, LZCNT, POPCNT of a.  False: the destination keeps its value. */
bool alu_scan(ZydisMnemonic m, uint64_t a, unsigned bits, uint64_t *rflags, uint64_t *res);
/** Product of a and b in two halves; is_signed: IMUL. */
void alu_mul(uint64_t a, uint64_t b, bool is_signed, unsigned bits, uint64_t *rflags, uint64_t *low, uint64_t *high);
/** Quotient and remainder of high:low by d.  False: #DE. */
bool alu_div(uint64_t high, uint64_t low, uint64_t d, bool is_signed, unsigned bits, uint64_t *quot, uint64_t *rem);
/** Is condition 0 to 15 (the low digit of Jcc, SETcc and CMOVcc) true? */
bool alu_condition(unsigned cc, uint64_t rflags);

#endif
