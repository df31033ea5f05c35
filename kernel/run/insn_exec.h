/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn_exec.h - a decoded instruction and its execution.  For insn.c (fetch, decode), insn_exec.c and
 * insn_mem.c only. */
#ifndef GODWIT_KERNEL_RUN_INSN_EXEC_H
#define GODWIT_KERNEL_RUN_INSN_EXEC_H

#include <Zydis/Zydis.h>
#include "kernel/core/vcpu.h"
#include "kernel/lib/types.h"

enum step {
    STEP_OK,     /* completed; the caller advances RIP */
    STEP_AGAIN,  /* REP: some elements are done, registers are updated; RIP must stay */
    STEP_FAULT,  /* a fault was injected */
    STEP_UNSUPP, /* not emulated, nothing changed */
};

struct insn {
    struct vcpu *v;
    unsigned mode; /* 16, 32, 64 */
    bool direct;   /* fault is the address of the one memory operand, if the page offset agrees */
    gpa_t fault;   /* of the second-stage fault, or the port */
    uint8_t bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
    unsigned n_bytes;
    ZydisDecodedInstruction in;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

/* insn_mem.c: access to registers and memory by operand */
uint64_t insn_gpr_get(const struct vcpu *v, unsigned n, unsigned size);
/** size: 1, 2, 4, 8.  1 and 2 keep the rest of the register, 4 clears the upper half. */
void insn_gpr_set(struct vcpu *v, unsigned n, unsigned size, uint64_t val);
/** The physical address of an operand, in two parts when it crosses a page.  len[1]: 0 otherwise. */
struct span {
    gpa_t a[2];
    unsigned len[2];
};
/** Translate [seg:offset, +size), size 1 to 8, for reading or writing.  Injects the fault that the processor would. */
enum step insn_resolve(struct insn *c, ZydisRegister seg, uint64_t offset, unsigned size, bool write, struct span *out);
enum step insn_span_read(struct insn *c, const struct span *s, uint64_t *val);
enum step insn_span_write(struct insn *c, const struct span *s, uint64_t val);

/* insn_exec.c */
enum step insn_exec(struct insn *c);
/** INS/OUTS at port. */
enum step insn_exec_string_io(struct insn *c, uint16_t port, unsigned size, bool in);

#endif
