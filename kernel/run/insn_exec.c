/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn_exec.c - execution of one decoded instruction: moves, ALU, bit tests, exchanges, strings.
 *
 * Each kind reads its operands, computes, and writes last, so that a fault leaves nothing half done.  Flags follow SDM
 * 1 "EFLAGS Register" and each instruction's page.  One pair of functions reads and writes operands, in registers or
 * memory.  Not here: translation of memory operands (insn_mem.c), RIP (insn.c). */
#include "kernel/run/insn_exec.h"

#include "kernel/dev/io_bus.h"
#include "kernel/lib/log.h"

#define CF      BIT64(0)
#define PF      BIT64(2)
#define AF      BIT64(4)
#define ZF      BIT64(6)
#define SF      BIT64(7)
#define DF      BIT64(10)
#define OF      BIT64(11)
#define REP_MAX 256u /* elements per exit: bounds how long an interrupt waits */

/* ---- operands ---------------------------------------------------------------------------------------------------- */
struct gpr_ref {
    unsigned n, size; /* enum gpr; bytes */
    bool high;        /* AH, CH, DH, BH */
};

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

static uint64_t width_mask(unsigned bits) { return bits >= 64 ? ~UINT64_C(0) : BIT64(bits) - 1; }

static uint64_t sign_extend(uint64_t val, unsigned size)
{
    unsigned drop = 64 - size * 8;
    return (uint64_t)((int64_t)(val << drop) >> drop);
}

/* The value of a register inside an address: RIP is that of the next instruction. */
static uint64_t address_reg(const struct insn *c, ZydisRegister r)
{
    struct gpr_ref ref;
    if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
        return c->v->rip + c->in.length;
    return gpr_ref_of(r, &ref) ? gpr_ref_get(c->v, ref) : 0;
}

static uint64_t operand_offset(const struct insn *c, const ZydisDecodedOperandMem *m)
{
    uint64_t a = address_reg(c, m->base) + address_reg(c, m->index) * m->scale +
                 (m->disp.has_displacement ? (uint64_t)m->disp.value : 0);
    return a & width_mask(c->in.address_width);
}

/* An operand's location. */
struct place {
    bool is_mem;
    struct gpr_ref reg;
    struct span span;
};

/* Locate operand i: a register, or translated memory. */
static enum step operand_place(struct insn *c, unsigned i, bool write, struct place *p)
{
    const ZydisDecodedOperand *o = &c->op[i];
    p->is_mem = o->type == ZYDIS_OPERAND_TYPE_MEMORY;
    if (!p->is_mem)
        return o->type == ZYDIS_OPERAND_TYPE_REGISTER && gpr_ref_of(o->reg.value, &p->reg) ? STEP_OK : STEP_UNSUPP;
    unsigned size = o->size / 8;
    if (o->mem.type != ZYDIS_MEMOP_TYPE_MEM || (size != 1 && size != 2 && size != 4 && size != 8))
        return STEP_UNSUPP;
    return insn_resolve(c, o->mem.segment, operand_offset(c, &o->mem), size, write, &p->span);
}
static enum step place_read(struct insn *c, const struct place *p, uint64_t *val)
{
    if (p->is_mem)
        return insn_span_read(c, &p->span, val);
    *val = gpr_ref_get(c->v, p->reg);
    return STEP_OK;
}
static enum step place_write(struct insn *c, const struct place *p, uint64_t val)
{
    if (p->is_mem)
        return insn_span_write(c, &p->span, val);
    gpr_ref_set(c->v, p->reg, val);
    return STEP_OK;
}

/* Value of operand i, zero-extended.  The caller cuts an immediate to the operand's size. */
static enum step operand_value(struct insn *c, unsigned i, uint64_t *val)
{
    struct place p;
    if (c->op[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        *val = c->op[i].imm.value.u; /* Zydis has sign-extended it where the instruction does */
        return STEP_OK;
    }
    enum step r = operand_place(c, i, false, &p);
    return r ? r : place_read(c, &p, val);
}

/* ---- flags ------------------------------------------------------------------------------------------------------- */
static uint64_t flags_of_result(uint64_t r, unsigned bits)
{
    ASSERT(bits >= 8 && bits <= 64);
    r &= width_mask(bits);
    uint8_t low = (uint8_t)r;
    low ^= low >> 4, low ^= low >> 2, low ^= low >> 1;
    return (r == 0 ? ZF : 0) | (r >> (bits - 1) & 1 ? SF : 0) | (low & 1 ? 0 : PF);
}

static void flags_put(struct vcpu *v, uint64_t which, uint64_t val)
{
    v->rflags = (v->rflags & ~which) | (val & which);
}

#define ARITH (CF | PF | AF | ZF | SF | OF)

static uint64_t add_flags(uint64_t a, uint64_t b, uint64_t carry, unsigned bits, uint64_t *flags)
{
    uint64_t m = width_mask(bits), r = (a + b + carry) & m;
    a &= m, b &= m;
    bool out = carry ? r <= a : r < a;
    *flags = flags_of_result(r, bits) | (out ? CF : 0) | ((a ^ b ^ r) & 0x10 ? AF : 0) |
             ((a ^ r) & (b ^ r) & BIT64(bits - 1) ? OF : 0);
    return r;
}

static uint64_t sub_flags(uint64_t a, uint64_t b, uint64_t borrow, unsigned bits, uint64_t *flags)
{
    uint64_t m = width_mask(bits), r = (a - b - borrow) & m;
    a &= m, b &= m;
    bool out = borrow ? a <= b : a < b;
    *flags = flags_of_result(r, bits) | (out ? CF : 0) | ((a ^ b ^ r) & 0x10 ? AF : 0) |
             ((a ^ b) & (a ^ r) & BIT64(bits - 1) ? OF : 0);
    return r;
}

/* ---- moves and ALU ----------------------------------------------------------------------------------------------- */
static enum step exec_mov(struct insn *c)
{
    struct place dst;
    uint64_t val, from_size = c->op[1].size / 8;
    enum step r = operand_place(c, 0, true, &dst);
    if (r || (r = operand_value(c, 1, &val)))
        return r;
    if (c->in.mnemonic == ZYDIS_MNEMONIC_MOVSX || c->in.mnemonic == ZYDIS_MNEMONIC_MOVSXD)
        val = sign_extend(val, (unsigned)from_size);
    return place_write(c, &dst, val);
}

/* Result and flags of a two-operand ALU instruction; *store: it writes the result.  AF, undefined after logic, is
 * cleared.  False: another instruction. */
static bool alu_compute(ZydisMnemonic m, uint64_t a, uint64_t b, unsigned bits, uint64_t carry, uint64_t *res,
                        uint64_t *flags, bool *store)
{
    *store = m != ZYDIS_MNEMONIC_CMP && m != ZYDIS_MNEMONIC_TEST;
    switch (m) {
    case ZYDIS_MNEMONIC_ADD:  *res = add_flags(a, b, 0, bits, flags); return true;
    case ZYDIS_MNEMONIC_ADC:  *res = add_flags(a, b, carry, bits, flags); return true;
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_SUB:  *res = sub_flags(a, b, 0, bits, flags); return true;
    case ZYDIS_MNEMONIC_SBB:  *res = sub_flags(a, b, carry, bits, flags); return true;
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_AND:  *res = a & b; break;
    case ZYDIS_MNEMONIC_OR:   *res = a | b; break;
    case ZYDIS_MNEMONIC_XOR:  *res = a ^ b; break;
    default:                  return false;
    }
    *flags = flags_of_result(*res, bits);
    return true;
}

static enum step exec_alu(struct insn *c)
{
    struct place dst;
    uint64_t a, b, res, flags;
    bool compare = c->in.mnemonic == ZYDIS_MNEMONIC_CMP || c->in.mnemonic == ZYDIS_MNEMONIC_TEST, store;
    enum step r = operand_place(c, 0, !compare, &dst);
    if (r || (r = operand_value(c, 1, &b)) || (r = place_read(c, &dst, &a)))
        return r;
    if (!alu_compute(c->in.mnemonic, a, b, c->op[0].size, c->v->rflags & CF, &res, &flags, &store))
        return STEP_UNSUPP;
    if (store && (r = place_write(c, &dst, res)))
        return r;
    flags_put(c->v, ARITH, flags);
    return STEP_OK;
}

/* INC and DEC keep CF, NOT keeps all flags. */
static enum step exec_unary(struct insn *c)
{
    struct place p;
    uint64_t a, res = 0, flags = 0, which = ARITH;
    enum step r = operand_place(c, 0, true, &p);
    if (r || (r = place_read(c, &p, &a)))
        return r;
    switch (c->in.mnemonic) {
    case ZYDIS_MNEMONIC_INC:
        res = add_flags(a, 1, 0, c->op[0].size, &flags);
        which &= ~CF;
        break;
    case ZYDIS_MNEMONIC_DEC:
        res = sub_flags(a, 1, 0, c->op[0].size, &flags);
        which &= ~CF;
        break;
    case ZYDIS_MNEMONIC_NEG: res = sub_flags(0, a, 0, c->op[0].size, &flags); break;
    /* NOT */
    default:
        res = ~a;
        which = 0;
        break;
    }
    if ((r = place_write(c, &p, res)))
        return r;
    flags_put(c->v, which, flags);
    return STEP_OK;
}

static enum step exec_xchg(struct insn *c)
{
    struct place p[2];
    uint64_t a, b;
    enum step r;
    if ((r = operand_place(c, 0, true, &p[0])) || (r = operand_place(c, 1, true, &p[1])) ||
        (r = place_read(c, &p[0], &a)) || (r = place_read(c, &p[1], &b)))
        return r;
    unsigned first = p[1].is_mem; /* memory first: only that write can still fail */
    if ((r = place_write(c, &p[first], first ? a : b)))
        return r;
    return place_write(c, &p[!first], first ? b : a);
}

/* A bit offset in a register may reach beyond the memory operand, in steps of its size (SDM 2A "BT"). */
static enum step exec_bit(struct insn *c)
{
    const ZydisDecodedOperand *m = &c->op[0];
    unsigned bits = m->size, size = bits / 8;
    struct place p;
    uint64_t n, val, offset;
    enum step r = operand_value(c, 1, &n);
    if (r || m->type != ZYDIS_OPERAND_TYPE_MEMORY || (size != 2 && size != 4 && size != 8))
        return r ? r : STEP_UNSUPP;
    offset = operand_offset(c, &m->mem);
    if (c->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
        offset += (uint64_t)((int64_t)sign_extend(n, size) >> (size == 2 ? 4 : size == 4 ? 5 : 6)) * size;
    uint64_t bit = BIT64(n & (bits - 1));
    p.is_mem = true;
    r = insn_resolve(c, m->mem.segment, offset & width_mask(c->in.address_width), size,
                     c->in.mnemonic != ZYDIS_MNEMONIC_BT, &p.span);
    if (r || (r = place_read(c, &p, &val)))
        return r;
    uint64_t flags = val & bit ? CF : 0;
    switch (c->in.mnemonic) {
    case ZYDIS_MNEMONIC_BTS: val |= bit; break;
    case ZYDIS_MNEMONIC_BTR: val &= ~bit; break;
    case ZYDIS_MNEMONIC_BTC: val ^= bit; break;
    default:                 break; /* BT writes nothing */
    }
    if (c->in.mnemonic != ZYDIS_MNEMONIC_BT && (r = place_write(c, &p, val)))
        return r;
    flags_put(c->v, CF, flags);
    return STEP_OK;
}

/* ---- strings ----------------------------------------------------------------------------------------------------- */
enum string_kind { STRING_MOVS, STRING_STOS, STRING_LODS, STRING_INS, STRING_OUTS };
struct string_op {
    enum string_kind kind;
    unsigned size, addr_size;
    ZydisRegister src_seg;
    uint16_t port;
};

static ZydisRegister source_segment(const struct insn *c)
{
    const struct {
        uint64_t attrib;
        ZydisRegister seg;
    } over[] = {
        { ZYDIS_ATTRIB_HAS_SEGMENT_CS, ZYDIS_REGISTER_CS }, { ZYDIS_ATTRIB_HAS_SEGMENT_SS, ZYDIS_REGISTER_SS },
        { ZYDIS_ATTRIB_HAS_SEGMENT_ES, ZYDIS_REGISTER_ES }, { ZYDIS_ATTRIB_HAS_SEGMENT_FS, ZYDIS_REGISTER_FS },
        { ZYDIS_ATTRIB_HAS_SEGMENT_GS, ZYDIS_REGISTER_GS },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(over); i++)
        if (c->in.attributes & over[i].attrib)
            return over[i].seg;
    return ZYDIS_REGISTER_DS;
}

static enum step string_load(struct insn *c, const struct string_op *s, uint64_t *val)
{
    struct span span;
    uint32_t in;
    switch (s->kind) {
    case STRING_STOS: *val = insn_gpr_get(c->v, GPR_RAX, s->size); return STEP_OK;
    case STRING_INS:
        pio_read(c->v, s->port, s->size, &in);
        *val = in;
        return STEP_OK;
    case STRING_MOVS:
    case STRING_LODS:
    case STRING_OUTS: break;
    }
    enum step r = insn_resolve(c, s->src_seg, insn_gpr_get(c->v, GPR_RSI, s->addr_size), s->size, false, &span);
    return r ? r : insn_span_read(c, &span, val);
}

static bool string_stores(enum string_kind k) { return k == STRING_MOVS || k == STRING_STOS || k == STRING_INS; }
static bool string_loads(enum string_kind k) { return k == STRING_MOVS || k == STRING_LODS || k == STRING_OUTS; }

/* Execute one element.  The destination is resolved first: after a fault, a port or device must not be read again. */
static enum step string_element(struct insn *c, const struct string_op *s)
{
    struct vcpu *v = c->v;
    struct span dst = { 0 };
    uint64_t val = 0;
    uint64_t step = v->rflags & DF ? (uint64_t)0 - s->size : s->size;
    enum step r = STEP_OK;
    if (string_stores(s->kind))
        r = insn_resolve(c, ZYDIS_REGISTER_ES, insn_gpr_get(v, GPR_RDI, s->addr_size), s->size, true, &dst);
    if (r || (r = string_load(c, s, &val)))
        return r;
    if (string_stores(s->kind))
        r = insn_span_write(c, &dst, val);
    else if (s->kind == STRING_LODS)
        insn_gpr_set(v, GPR_RAX, s->size, val);
    else
        pio_write(v, s->port, s->size, (uint32_t)val);
    if (r)
        return r;
    if (string_stores(s->kind))
        insn_gpr_set(v, GPR_RDI, s->addr_size, v->gpr[GPR_RDI] + step);
    if (string_loads(s->kind))
        insn_gpr_set(v, GPR_RSI, s->addr_size, v->gpr[GPR_RSI] + step);
    return STEP_OK;
}

static enum step exec_string(struct insn *c, const struct string_op *s)
{
    ASSERT(s->size == 1 || s->size == 2 || s->size == 4 || s->size == 8);
    if (!(c->in.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)))
        return string_element(c, s);
    c->direct = false; /* the fault's address is that of the first element only */
    for (unsigned i = 0; i < REP_MAX; i++) {
        uint64_t left = insn_gpr_get(c->v, GPR_RCX, s->addr_size);
        if (!left)
            return STEP_OK;
        enum step r = string_element(c, s);
        if (r)
            return r;
        insn_gpr_set(c->v, GPR_RCX, s->addr_size, left - 1);
    }
    return insn_gpr_get(c->v, GPR_RCX, s->addr_size) ? STEP_AGAIN : STEP_OK;
}

static bool string_of(const struct insn *c, struct string_op *s)
{
    if (c->in.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || c->in.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return false;
    switch (c->in.opcode & 0xfe) {
    case 0xa4: s->kind = STRING_MOVS; break;
    case 0xaa: s->kind = STRING_STOS; break;
    case 0xac: s->kind = STRING_LODS; break;
    default:   return false;
    }
    s->size = c->in.opcode & 1 ? c->in.operand_width / 8u : 1;
    s->addr_size = c->in.address_width / 8u;
    s->src_seg = source_segment(c);
    return true;
}

enum step insn_exec_string_io(struct insn *c, uint16_t port, unsigned size, bool in)
{
    struct string_op s = { .kind = in ? STRING_INS : STRING_OUTS,
                           .size = size,
                           .addr_size = c->in.address_width / 8u,
                           .src_seg = source_segment(c),
                           .port = port };
    uint8_t first = in ? 0x6c : 0x6e; /* INS, OUTS and nothing else */
    if (c->in.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || (c->in.opcode & 0xfe) != first ||
        (size != 1 && size != 2 && size != 4))
        return STEP_UNSUPP;
    c->direct = false;
    return exec_string(c, &s);
}

enum step insn_exec(struct insn *c)
{
    struct string_op s = { 0 };
    if (string_of(c, &s)) {
        c->direct = s.kind != STRING_MOVS; /* two memory operands: either may have faulted */
        return exec_string(c, &s);
    }
    switch (c->in.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_MOVNTI: return exec_mov(c);
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:   return exec_alu(c);
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:    return exec_unary(c);
    case ZYDIS_MNEMONIC_XCHG:   return exec_xchg(c);
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:    return exec_bit(c);
    default:                    return STEP_UNSUPP;
    }
}
