/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn_stack.c - near pushes, pops, calls, jumps and returns, with an operand or the stack in a device.
 *
 * The operand and the stack may each be in RAM or in a device, and either may fault.  So both are located before
 * either is read, and RSP and RIP change last.  A branch sets RIP so that insn.c, which adds the length, arrives at the
 * target.  Not here: far branches, PUSHA, PUSHF, ENTER and their counterparts. */
#include "kernel/run/insn_exec.h"

#include "kernel/core/cpu_ops.h"
#include "kernel/run/insn_alu.h"

#define VEC_GP 13

static unsigned stack_addr_size(struct insn *c)
{
    if (c->mode == 64)
        return 8;
    return cpu_ops->seg_get(c->v, SEG_SS).ar & INSN_SEG_D ? 4 : 2;
}

/* Bytes of a pushed value: 66h selects 16 bits, and 64-bit code has no 32-bit form. */
static unsigned stack_item_size(const struct insn *c)
{
    if (c->mode == 64)
        return c->in.operand_width == 16 ? 2 : 8;
    return c->in.operand_width / 8u;
}

static uint64_t stack_at(struct insn *c, uint64_t offset) { return offset & alu_mask(8 * stack_addr_size(c)); }

/* RSP after so many bytes: the bits above the stack's address size stay. */
static uint64_t stack_pointer(struct insn *c, uint64_t rsp)
{
    uint64_t m = alu_mask(8 * stack_addr_size(c));
    return (c->v->gpr[GPR_RSP] & ~m) | (rsp & m);
}

static enum step stack_place(struct insn *c, uint64_t offset, unsigned size, bool write, struct place *p)
{
    p->is_mem = true;
    return insn_resolve(c, ZYDIS_REGISTER_SS, stack_at(c, offset), size, write, &p->span);
}

static void branch_to(struct insn *c, uint64_t target) { c->v->rip = target - c->in.length; }

static enum step exec_push(struct insn *c)
{
    struct place top;
    uint64_t val, rsp;
    unsigned size = stack_item_size(c);
    rsp = c->v->gpr[GPR_RSP] - size;
    enum step r = stack_place(c, rsp, size, true, &top);
    if (r || (r = insn_value(c, 0, &val)) || (r = insn_place_write(c, &top, val)))
        return r;
    c->v->gpr[GPR_RSP] = stack_pointer(c, rsp);
    return STEP_OK;
}

/* An operand that is addressed by RSP is so by its new value (SDM 2B "POP"). */
static enum step exec_pop(struct insn *c)
{
    struct place top, dst;
    uint64_t val, old = c->v->gpr[GPR_RSP];
    unsigned size = stack_item_size(c);
    enum step r = stack_place(c, old, size, false, &top);
    if (r)
        return r;
    c->v->gpr[GPR_RSP] = stack_pointer(c, old + size);
    if (!(r = insn_place(c, 0, true, &dst)) && !(r = insn_place_read(c, &top, &val)))
        r = insn_place_write(c, &dst, val);
    if (r)
        c->v->gpr[GPR_RSP] = old;
    return r;
}

/* The target of a near CALL or JMP. */
static enum step branch_target(struct insn *c, uint64_t *target)
{
    enum step r = insn_value(c, 0, target);
    if (r)
        return r;
    if (c->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        *target += c->v->rip + c->in.length;
    *target &= alu_mask(8 * stack_item_size(c));
    return insn_target_ok(c, *target) ? STEP_OK : insn_fault(c, VEC_GP);
}

static enum step exec_jmp(struct insn *c)
{
    uint64_t target;
    enum step r = branch_target(c, &target);
    if (!r)
        branch_to(c, target);
    return r;
}

static enum step exec_call(struct insn *c)
{
    struct place top;
    uint64_t target, rsp;
    unsigned size = stack_item_size(c);
    rsp = c->v->gpr[GPR_RSP] - size;
    enum step r = stack_place(c, rsp, size, true, &top);
    if (r || (r = branch_target(c, &target)) || (r = insn_place_write(c, &top, c->v->rip + c->in.length)))
        return r;
    c->v->gpr[GPR_RSP] = stack_pointer(c, rsp);
    branch_to(c, target);
    return STEP_OK;
}

static enum step exec_ret(struct insn *c)
{
    struct place top;
    uint64_t target, drop = c->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? c->op[0].imm.value.u & 0xffff : 0;
    unsigned size = stack_item_size(c);
    enum step r = stack_place(c, c->v->gpr[GPR_RSP], size, false, &top);
    if (r || (r = insn_place_read(c, &top, &target)))
        return r;
    if (!insn_target_ok(c, target))
        return insn_fault(c, VEC_GP);
    c->v->gpr[GPR_RSP] = stack_pointer(c, c->v->gpr[GPR_RSP] + size + drop);
    branch_to(c, target);
    return STEP_OK;
}

static enum step exec_leave(struct insn *c)
{
    struct place top;
    uint64_t val, frame = c->v->gpr[GPR_RBP];
    unsigned size = stack_item_size(c);
    enum step r = stack_place(c, frame, size, false, &top);
    if (r || (r = insn_place_read(c, &top, &val)))
        return r;
    c->v->gpr[GPR_RSP] = stack_pointer(c, frame + size);
    insn_gpr_set(c->v, GPR_RBP, size, val);
    return STEP_OK;
}

enum step insn_exec_stack(struct insn *c)
{
    c->direct = false; /* the operand or the stack: either may have faulted */
    if (c->in.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return STEP_UNSUPP;
    switch (c->in.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:  return exec_push(c);
    case ZYDIS_MNEMONIC_POP:   return exec_pop(c);
    case ZYDIS_MNEMONIC_CALL:  return exec_call(c);
    case ZYDIS_MNEMONIC_JMP:   return exec_jmp(c);
    case ZYDIS_MNEMONIC_RET:   return exec_ret(c);
    case ZYDIS_MNEMONIC_LEAVE: return exec_leave(c);
    default:                   return STEP_UNSUPP;
    }
}
