/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn_exec.h - a decoded instruction and its execution.  For insn.c (fetch, decode) and the files insn_*.c
 * only. */
#ifndef GODWIT_KERNEL_RUN_INSN_EXEC_H
#define GODWIT_KERNEL_RUN_INSN_EXEC_H

#include <Zydis/Zydis.h>
#include "kernel/core/vcpu.h"
#include "kernel/lib/types.h"

#define INSN_SEG_D     BIT32(14) /* struct seg's access rights: 32-bit code, or a 32-bit stack */
#define INSN_ROOM      (ZYDIS_MAX_INSTRUCTION_LENGTH + 1)
#define INSN_BYTES_MAX 32u /* of one memory operand: a YMM register */

enum step {
    STEP_OK,     /* completed; the caller advances RIP */
    STEP_REP,    /* some elements are done, registers are updated; RIP must stay */
    STEP_AGAIN,  /* nothing changed; execute what is at RIP now */
    STEP_FAULT,  /* a fault was injected */
    STEP_UNSUPP, /* not emulated, nothing changed */
    STEP_NOMEM,  /* host memory for the guest's page is exhausted */
};

struct insn {
    struct vcpu *v;
    unsigned mode; /* 16, 32, 64 */
    bool direct;   /* fault is the address of the one memory operand, if the page offset agrees */
    gpa_t fault;   /* of the second-stage fault, or the port */
    uint8_t bytes[INSN_ROOM];
    unsigned n_bytes;
    ZydisDecodedInstruction in;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

/* ---- insn_mem.c: registers and memory ---- */
uint64_t insn_gpr_get(const struct vcpu *v, unsigned n, unsigned size);
/** size: 1, 2, 4, 8.  1 and 2 keep the rest of the register, 4 clears the upper half. */
void insn_gpr_set(struct vcpu *v, unsigned n, unsigned size, uint64_t val);
/** The physical address of an operand, in two parts when it crosses a page.  len[1]: 0 otherwise. */
struct span {
    gpa_t a[2];
    unsigned len[2];
};
/** Translate [seg:offset, +size), size 1 to INSN_BYTES_MAX, for reading or writing.  Injects the fault that the
 *  processor would. */
enum step insn_resolve(struct insn *c, ZydisRegister seg, uint64_t offset, unsigned size, bool write, struct span *out);
/** Read and write all bytes of a span; a device sees accesses of 8 bytes at most. */
enum step insn_span_read(struct insn *c, const struct span *s, void *buf);
enum step insn_span_write(struct insn *c, const struct span *s, const void *buf);
/** Inject a fault: without an error code, or with 0 (#SS, #GP).  Returns STEP_FAULT. */
enum step insn_fault(struct insn *c, uint8_t vector);
enum step insn_page_fault(struct vcpu *v, uint64_t va, uint32_t error);
/** Is a target of a near branch legal: canonical, or within CS's limit? */
bool insn_target_ok(struct insn *c, uint64_t target);

/* ---- insn_exec.c: operands ---- */
struct gpr_ref {
    unsigned n, size; /* enum gpr; bytes */
    bool high;        /* AH, CH, DH, BH */
};
/** An operand's location: a general register, or translated memory. */
struct place {
    bool is_mem;
    struct gpr_ref reg;
    struct span span;
};
/** The offset of memory operand m in its segment. */
uint64_t insn_offset(const struct insn *c, const ZydisDecodedOperandMem *m);
/** Locate operand i, of 8 bytes at most: a register, or memory. */
enum step insn_place(struct insn *c, unsigned i, bool write, struct place *p);
enum step insn_place_read(struct insn *c, const struct place *p, uint64_t *val);
enum step insn_place_write(struct insn *c, const struct place *p, uint64_t val);
/** Value of operand i (an immediate, register, segment register or memory), zero-extended.  The caller cuts an
 *  immediate to the operand's size. */
enum step insn_value(struct insn *c, unsigned i, uint64_t *val);

/* ---- execution; STEP_UNSUPP: not one of theirs ---- */
enum step insn_exec(struct insn *c);        /* all of them */
enum step insn_exec_string(struct insn *c); /* insn_string.c: MOVS, STOS, LODS, CMPS, SCAS */
enum step insn_exec_stack(struct insn *c);  /* insn_stack.c: PUSH, POP, CALL, JMP, RET, LEAVE */
enum step insn_exec_simd(struct insn *c);   /* insn_simd.c: moves of MMX, SSE and AVX registers */
/** insn_mov.c: carry out the instruction at b if it is a MOV of the device at `at`.  b: n bytes of code, in a buffer of
 *  INSN_ROOM.  Returns its length; 0: not one, or not to be decided here, and nothing changed. */
unsigned insn_mov_fast(struct vcpu *v, unsigned mode, const uint8_t *b, unsigned n, gpa_t at, bool write);
/** INS/OUTS at port. */
enum step insn_exec_string_io(struct insn *c, uint16_t port, unsigned size, bool in);

#endif
