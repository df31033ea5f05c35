/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn_exec.c - execution of one decoded instruction: operands, moves, arithmetic, exchanges.
 *
 * Each kind locates all its operands, reads, computes, and writes last, so that a fault leaves nothing half done and a
 * device is read once and written once.  One pair of functions reads and writes operands, in registers or memory.
 * Not here: translation of memory operands (insn_mem.c), results and flags (insn_alu.c), RIP (insn.c). */
#include "kernel/run/insn_exec.h"

#include <string.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/lib/log.h"
#include "kernel/run/insn_alu.h"

enum { VEC_DE = 0, VEC_GP = 13 };

/* ---- operands ---------------------------------------------------------------------------------------------------- */
static bool gpr_ref_of(ZydisRegister r, struct gpr_ref *out)
{
    if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_R15B) { /* AL..BL, AH..BH, SPL..DIL, R8B..R15B */
        unsigned i = (unsigned)(r - ZYDIS_REGISTER_AL);
        *out = (struct gpr_ref){ .n = i < 4 ? i : i - 4, .size = 1, .high = i >= 4 && i < 8 };
    } else if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15W) {
        *out = (struct gpr_ref){ .n = (unsigned)(r - ZYDIS_REGISTER_AX), .size = 2 };
    } else if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D) {
        *out = (struct gpr_ref){ .n = (unsigned)(r - ZYDIS_REGISTER_EAX), .size = 4 };
    } else if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15) {
        *out = (struct gpr_ref){ .n = (unsigned)(r - ZYDIS_REGISTER_RAX), .size = 8 };
    } else {
        return false;
    }
    return true;
}

static uint64_t gpr_ref_get(const struct vcpu *v, struct gpr_ref r)
{
    return r.high ? v->gpr[r.n] >> 8 & 0xff : insn_gpr_get(v, r.n, r.size);
}

static void gpr_ref_set(struct vcpu *v, struct gpr_ref r, uint64_t val)
{
    if (r.high)
        v->gpr[r.n] = (v->gpr[r.n] & ~UINT64_C(0xff00)) | (val & 0xff) << 8;
    else
        insn_gpr_set(v, r.n, r.size, val);
}

/* The value of a register inside an address: RIP is that of the next instruction. */
static uint64_t address_reg(const struct insn *c, ZydisRegister r)
{
    struct gpr_ref ref;
    if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
        return c->v->rip + c->in.length;
    return gpr_ref_of(r, &ref) ? gpr_ref_get(c->v, ref) : 0;
}

uint64_t insn_offset(const struct insn *c, const ZydisDecodedOperandMem *m)
{
    uint64_t a = address_reg(c, m->base) + address_reg(c, m->index) * m->scale +
                 (m->disp.has_displacement ? (uint64_t)m->disp.value : 0);
    return a & alu_mask(c->in.address_width);
}

enum step insn_place(struct insn *c, unsigned i, bool write, struct place *p)
{
    const ZydisDecodedOperand *o = &c->op[i];
    p->is_mem = o->type == ZYDIS_OPERAND_TYPE_MEMORY;
    if (!p->is_mem)
        return o->type == ZYDIS_OPERAND_TYPE_REGISTER && gpr_ref_of(o->reg.value, &p->reg) ? STEP_OK : STEP_UNSUPP;
    unsigned size = o->size / 8;
    if (o->mem.type != ZYDIS_MEMOP_TYPE_MEM || (size != 1 && size != 2 && size != 4 && size != 8))
        return STEP_UNSUPP;
    return insn_resolve(c, o->mem.segment, insn_offset(c, &o->mem), size, write, &p->span);
}

enum step insn_place_read(struct insn *c, const struct place *p, uint64_t *val)
{
    *val = 0;
    if (p->is_mem)
        return insn_span_read(c, &p->span, val);
    *val = gpr_ref_get(c->v, p->reg);
    return STEP_OK;
}

enum step insn_place_write(struct insn *c, const struct place *p, uint64_t val)
{
    if (p->is_mem)
        return insn_span_write(c, &p->span, &val);
    gpr_ref_set(c->v, p->reg, val);
    return STEP_OK;
}

enum step insn_value(struct insn *c, unsigned i, uint64_t *val)
{
    static const enum seg_id ids[] = { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };
    const ZydisDecodedOperand *o = &c->op[i];
    struct place p;
    if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        *val = o->imm.value.u; /* Zydis has sign-extended it where the instruction does */
        return STEP_OK;
    }
    if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_ES &&
        o->reg.value <= ZYDIS_REGISTER_GS) {
        *val = cpu_ops->seg_get(c->v, ids[o->reg.value - ZYDIS_REGISTER_ES]).sel;
        return STEP_OK;
    }
    enum step r = insn_place(c, i, false, &p);
    return r ? r : insn_place_read(c, &p, val);
}

/* ---- moves ------------------------------------------------------------------------------------------------------- */
static uint64_t bytes_swapped(uint64_t val, unsigned bits) { return __builtin_bswap64(val) >> (64 - bits); }

static enum step exec_mov(struct insn *c)
{
    struct place dst;
    uint64_t val;
    enum step r = insn_place(c, 0, true, &dst);
    if (r || (r = insn_value(c, 1, &val)))
        return r;
    if (c->in.mnemonic == ZYDIS_MNEMONIC_MOVSX || c->in.mnemonic == ZYDIS_MNEMONIC_MOVSXD)
        val = alu_sign_extend(val, c->op[1].size);
    else if (c->in.mnemonic == ZYDIS_MNEMONIC_MOVBE)
        val = bytes_swapped(val, c->op[1].size);
    return insn_place_write(c, &dst, val);
}

/* CMOVcc and SETcc.  CMOVcc reads its source, and clears the upper half of a 32-bit register, whatever the condition is
 * (SDM 2A "CMOVcc"). */
static enum step exec_conditional(struct insn *c)
{
    struct place dst;
    uint64_t val, old;
    bool is = alu_condition(c->in.opcode & 15, c->v->rflags), sets = (c->in.opcode & 0xf0) == 0x90;
    enum step r = insn_place(c, 0, sets, &dst);
    if (!r && sets)
        return insn_place_write(c, &dst, is);
    if (r || (r = insn_value(c, 1, &val)) || (r = insn_place_read(c, &dst, &old)))
        return r;
    return insn_place_write(c, &dst, is ? val : old);
}

static enum step exec_smsw(struct insn *c)
{
    struct place dst;
    uint64_t cr0, cr3, cr4, efer;
    unsigned cpl;
    cpu_ops->paging_get(c->v, &cr0, &cr3, &cr4, &efer, &cpl);
    enum step r = insn_place(c, 0, true, &dst);
    return r ? r : insn_place_write(c, &dst, cr0);
}

/* ---- arithmetic -------------------------------------------------------------------------------------------------- */
static enum step exec_alu(struct insn *c)
{
    struct place dst;
    uint64_t a, b = 0, res, flags = c->v->rflags;
    bool unary = c->in.operand_count_visible == 1;
    bool store = c->in.mnemonic != ZYDIS_MNEMONIC_CMP && c->in.mnemonic != ZYDIS_MNEMONIC_TEST;
    enum step r = insn_place(c, 0, store, &dst);
    if (r || (!unary && (r = insn_value(c, 1, &b))) || (r = insn_place_read(c, &dst, &a)))
        return r;
    if (!alu_compute(c->in.mnemonic, a, b, c->op[0].size, &flags, &res))
        return STEP_UNSUPP;
    if (store && (r = insn_place_write(c, &dst, res)))
        return r;
    c->v->rflags = flags;
    return STEP_OK;
}

/* Shifts and rotates, SHLD and SHRD: the count is the last operand. */
static enum step exec_shift(struct insn *c)
{
    struct place dst;
    uint64_t a, fill = 0, count, flags = c->v->rflags;
    bool is_double = c->in.operand_count_visible == 3;
    enum step r = insn_place(c, 0, true, &dst);
    if (r || (is_double && (r = insn_value(c, 1, &fill))) || (r = insn_value(c, is_double ? 2 : 1, &count)) ||
        (r = insn_place_read(c, &dst, &a)))
        return r;
    uint64_t res = alu_shift(c->in.mnemonic, a, fill, (unsigned)count, c->op[0].size, &flags);
    if ((r = insn_place_write(c, &dst, res)))
        return r;
    c->v->rflags = flags;
    return STEP_OK;
}

static enum step exec_scan(struct insn *c)
{
    struct place dst;
    uint64_t a, res;
    enum step r = insn_place(c, 0, true, &dst);
    if (r || (r = insn_value(c, 1, &a)))
        return r;
    if (alu_scan(c->in.mnemonic, a, c->op[0].size, &c->v->rflags, &res))
        return insn_place_write(c, &dst, res);
    return STEP_OK;
}

/* The upper half of the accumulator: AH, or (R|E)DX. */
static struct gpr_ref accumulator_high(unsigned size)
{
    return size == 1 ? (struct gpr_ref){ GPR_RAX, 1, true } : (struct gpr_ref){ GPR_RDX, size, false };
}

/* One operand: the accumulator is the other one, and takes both halves. */
static enum step exec_mul(struct insn *c)
{
    uint64_t b, low, high;
    unsigned bits = c->op[0].size, size = bits / 8;
    enum step r = insn_value(c, 0, &b);
    if (r)
        return r;
    alu_mul(insn_gpr_get(c->v, GPR_RAX, size), b, c->in.mnemonic == ZYDIS_MNEMONIC_IMUL, bits, &c->v->rflags, &low,
            &high);
    insn_gpr_set(c->v, GPR_RAX, size, low);
    gpr_ref_set(c->v, accumulator_high(size), high);
    return STEP_OK;
}

/* IMUL with two operands or three. */
static enum step exec_imul_wide(struct insn *c)
{
    struct place dst;
    uint64_t a, b, low, high;
    unsigned first = c->in.operand_count_visible == 3;
    enum step r = insn_place(c, 0, true, &dst);
    if (r || (r = insn_value(c, first, &a)) || (r = insn_value(c, first + 1, &b)))
        return r;
    alu_mul(a, b, true, c->op[0].size, &c->v->rflags, &low, &high);
    return insn_place_write(c, &dst, low);
}

static enum step exec_div(struct insn *c)
{
    uint64_t d, quot, rem;
    unsigned bits = c->op[0].size, size = bits / 8;
    struct gpr_ref high = accumulator_high(size);
    enum step r = insn_value(c, 0, &d);
    if (r)
        return r;
    if (!alu_div(gpr_ref_get(c->v, high), insn_gpr_get(c->v, GPR_RAX, size), d, c->in.mnemonic == ZYDIS_MNEMONIC_IDIV,
                 bits, &quot, &rem))
        return insn_fault(c, VEC_DE);
    insn_gpr_set(c->v, GPR_RAX, size, quot);
    gpr_ref_set(c->v, high, rem);
    return STEP_OK;
}

/* A bit offset in a register may reach beyond the memory operand, in steps of its size (SDM 2A "BT"). */
static enum step exec_bit(struct insn *c)
{
    const ZydisDecodedOperand *m = &c->op[0];
    unsigned bits = m->size, size = bits / 8;
    struct place p = { .is_mem = true };
    uint64_t n, val, flags = c->v->rflags;
    enum step r = insn_value(c, 1, &n);
    if (r || m->type != ZYDIS_OPERAND_TYPE_MEMORY || (size != 2 && size != 4 && size != 8))
        return r ? r : STEP_UNSUPP;
    bool store = c->in.mnemonic != ZYDIS_MNEMONIC_BT;
    uint64_t offset = insn_offset(c, &m->mem);
    if (c->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
        offset += (uint64_t)((int64_t)alu_sign_extend(n, bits) >> (size == 2 ? 4 : size == 4 ? 5 : 6)) * size;
    r = insn_resolve(c, m->mem.segment, offset & alu_mask(c->in.address_width), size, store, &p.span);
    if (r || (r = insn_place_read(c, &p, &val)))
        return r;
    uint64_t res = alu_bit(c->in.mnemonic, val, (unsigned)(n & (bits - 1)), &flags);
    if (store && (r = insn_place_write(c, &p, res)))
        return r;
    c->v->rflags = flags;
    return STEP_OK;
}

/* ---- exchanges --------------------------------------------------------------------------------------------------- */
/* XCHG and XADD. */
static enum step exec_xchg(struct insn *c)
{
    struct place p[2];
    uint64_t a, b, to_first, flags = c->v->rflags;
    enum step r;
    if ((r = insn_place(c, 0, true, &p[0])) || (r = insn_place(c, 1, true, &p[1])) ||
        (r = insn_place_read(c, &p[0], &a)) || (r = insn_place_read(c, &p[1], &b)))
        return r;
    to_first = b;
    if (c->in.mnemonic == ZYDIS_MNEMONIC_XADD)
        alu_compute(ZYDIS_MNEMONIC_ADD, a, b, c->op[0].size, &flags, &to_first);
    unsigned first = p[1].is_mem; /* memory first: only that write can still fail */
    if ((r = insn_place_write(c, &p[first], first ? a : to_first)) ||
        (r = insn_place_write(c, &p[!first], first ? to_first : a)))
        return r;
    c->v->rflags = flags;
    return STEP_OK;
}

/* The destination is written in any case, with its old value if the comparison fails (SDM 2A "CMPXCHG"). */
static enum step exec_cmpxchg(struct insn *c)
{
    struct place dst;
    uint64_t old, b, diff, flags = c->v->rflags;
    unsigned bits = c->op[0].size;
    enum step r = insn_place(c, 0, true, &dst);
    if (r || (r = insn_value(c, 1, &b)) || (r = insn_place_read(c, &dst, &old)))
        return r;
    alu_compute(ZYDIS_MNEMONIC_CMP, insn_gpr_get(c->v, GPR_RAX, bits / 8), old, bits, &flags, &diff);
    bool equal = flags & FLAG_ZF;
    if ((r = insn_place_write(c, &dst, equal ? b : old)))
        return r;
    if (!equal)
        insn_gpr_set(c->v, GPR_RAX, bits / 8, old);
    c->v->rflags = flags;
    return STEP_OK;
}

/* CMPXCHG8B and 16B: two registers of `half` bytes each, and a memory operand of both. */
static enum step exec_cmpxchg_pair(struct insn *c)
{
    const ZydisDecodedOperandMem *m = &c->op[0].mem;
    unsigned half = c->op[0].size / 16;
    uint8_t buf[16] = { 0 }, *high = buf + half;
    uint64_t offset = insn_offset(c, m), old[2] = { 0 };
    struct span span;
    if (c->op[0].type != ZYDIS_OPERAND_TYPE_MEMORY || (half != 4 && half != 8))
        return STEP_UNSUPP;
    if (half == 8 && offset % 16)
        return insn_fault(c, VEC_GP);
    enum step r = insn_resolve(c, m->segment, offset, 2 * half, true, &span);
    if (r || (r = insn_span_read(c, &span, buf)))
        return r;
    memcpy(&old[0], buf, half);
    memcpy(&old[1], high, half);
    bool equal = old[0] == insn_gpr_get(c->v, GPR_RAX, half) && old[1] == insn_gpr_get(c->v, GPR_RDX, half);
    if (equal) {
        memcpy(buf, &c->v->gpr[GPR_RBX], half);
        memcpy(high, &c->v->gpr[GPR_RCX], half);
    }
    if ((r = insn_span_write(c, &span, buf)))
        return r;
    if (!equal) {
        insn_gpr_set(c->v, GPR_RAX, half, old[0]);
        insn_gpr_set(c->v, GPR_RDX, half, old[1]);
    }
    c->v->rflags = (c->v->rflags & ~FLAG_ZF) | (equal ? FLAG_ZF : 0);
    return STEP_OK;
}

/* ---- all --------------------------------------------------------------------------------------------------------- */
static bool is_conditional(const struct insn *c)
{
    unsigned high = c->in.opcode & 0xf0;
    return c->in.opcode_map == ZYDIS_OPCODE_MAP_0F && c->in.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
           (high == 0x40 || high == 0x90);
}

static enum step exec_integer(struct insn *c)
{
    switch (c->in.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_MOVBE:
    case ZYDIS_MNEMONIC_MOVDIRI:
    case ZYDIS_MNEMONIC_MOVNTI:  return exec_mov(c);
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:     return exec_alu(c);
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:    return exec_shift(c);
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_TZCNT:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_POPCNT:  return exec_scan(c);
    case ZYDIS_MNEMONIC_MUL:     return exec_mul(c);
    case ZYDIS_MNEMONIC_IMUL:    return c->in.operand_count_visible == 1 ? exec_mul(c) : exec_imul_wide(c);
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:    return exec_div(c);
    default:                     return STEP_UNSUPP;
    }
}

enum step insn_exec(struct insn *c)
{
    enum step r;
    if (is_conditional(c))
        return exec_conditional(c);
    switch (c->in.mnemonic) {
    case ZYDIS_MNEMONIC_XCHG:
    case ZYDIS_MNEMONIC_XADD:       return exec_xchg(c);
    case ZYDIS_MNEMONIC_CMPXCHG:    return exec_cmpxchg(c);
    case ZYDIS_MNEMONIC_CMPXCHG8B:
    case ZYDIS_MNEMONIC_CMPXCHG16B: return exec_cmpxchg_pair(c);
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:        return exec_bit(c);
    case ZYDIS_MNEMONIC_SMSW:       return exec_smsw(c);
    case ZYDIS_MNEMONIC_CLFLUSH:
    case ZYDIS_MNEMONIC_CLFLUSHOPT:
    case ZYDIS_MNEMONIC_CLWB:
    case ZYDIS_MNEMONIC_CLDEMOTE:   return STEP_OK; /* devices are not cached */
    default:                        break;
    }
    if ((r = exec_integer(c)) != STEP_UNSUPP || (r = insn_exec_string(c)) != STEP_UNSUPP ||
        (r = insn_exec_stack(c)) != STEP_UNSUPP)
        return r;
    return insn_exec_simd(c);
}
