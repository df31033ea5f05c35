/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn_exec.h - a decoded instruction and its execution; between insn.c (fetch, decode) and
 * insn_exec.c, insn_mem.c only. */
#ifndef GODWIT_KERNEL_RUN_INSN_EXEC_H
#define GODWIT_KERNEL_RUN_INSN_EXEC_H

#include <Zydis/Zydis.h>
#include "kernel/core/vcpu.h"
#include "kernel/lib/types.h"

enum step {
    STEP_OK,     /* done; RIP is still at the instruction */
    STEP_AGAIN,  /* REP: a part is done, registers say which; RIP must stay */
    STEP_FAULT,  /* a fault was injected */
    STEP_UNSUPP, /* not carried out, nothing changed */
};

struct insn {
    struct vcpu *v;
    unsigned mode; /* 16, 32, 64 */
    bool direct;   /* fault is where the one memory operand is, as far as the page offset agrees */
    gpa_t fault;
    uint8_t bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
    unsigned n_bytes;
    ZydisDecodedInstruction in;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

/* insn_mem.c: registers and memory as an instruction sees them */
uint64_t insn_gpr_get(const struct vcpu *v, unsigned n, unsigned size);
/** Size 1 and 2 keep the rest of the register, 4 clears the upper half. */
void insn_gpr_set(struct vcpu *v, unsigned n, unsigned size, uint64_t val);
/** Where an operand of size bytes lies: physical, in two parts when it crosses a page. */
struct span {
    gpa_t a[2];
    unsigned len[2];
};
/** Translate [seg:offset, +size) for reading or writing; injects what the processor would. */
enum step insn_resolve(struct insn *c, ZydisRegister seg, uint64_t offset, unsigned size, bool write, struct span *out);
enum step insn_span_read(struct insn *c, const struct span *s, uint64_t *val);
enum step insn_span_write(struct insn *c, const struct span *s, uint64_t val);

/* insn_exec.c */
enum step insn_exec(struct insn *c);
/** INS/OUTS at port. */
enum step insn_exec_string_io(struct insn *c, uint16_t port, unsigned size, bool in);

#endif
