/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn_string.c - string instructions: MOVS, STOS, LODS, CMPS, SCAS, INS and OUTS, with and without REP.
 *
 * An element is all or nothing.  Registers are current after each, so a fault, or the end of this exit's share, leaves
 * a REP where the processor would resume it.  Not here: which port (insn.c). */
#include "kernel/run/insn_exec.h"

#include "kernel/dev/io_bus.h"
#include "kernel/host/x86/regs.h"
#include "kernel/lib/log.h"
#include "kernel/run/insn_alu.h"

/* For each exit, to bound how long an interrupt waits: elements, and what devices do for them. */
#define REP_MAX  256u
#define REP_WORK (64 * KIB)

enum string_kind { STRING_MOVS, STRING_STOS, STRING_LODS, STRING_INS, STRING_OUTS, STRING_CMPS, STRING_SCAS };
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

static bool string_stores(enum string_kind k) { return k == STRING_MOVS || k == STRING_STOS || k == STRING_INS; }
static bool string_loads(enum string_kind k)
{
    return k == STRING_MOVS || k == STRING_LODS || k == STRING_OUTS || k == STRING_CMPS;
}
static bool string_compares(enum string_kind k) { return k == STRING_CMPS || k == STRING_SCAS; }

/* The element that an instruction takes, from the source if it has one. */
static enum step string_load(struct insn *c, const struct string_op *s, const struct span *src, uint64_t *val)
{
    uint32_t in;
    *val = 0;
    switch (s->kind) {
    case STRING_STOS:
    case STRING_SCAS: *val = insn_gpr_get(c->v, GPR_RAX, s->size); return STEP_OK;
    case STRING_INS:
        pio_read(c->v, s->port, s->size, &in);
        *val = in;
        return STEP_OK;
    case STRING_MOVS:
    case STRING_LODS:
    case STRING_CMPS:
    case STRING_OUTS: break;
    }
    return insn_span_read(c, src, val);
}

/* What becomes of it. */
static enum step string_store(struct insn *c, const struct string_op *s, const struct span *dst, uint64_t val)
{
    uint64_t other = 0, diff;
    enum step r = STEP_OK;
    switch (s->kind) {
    case STRING_MOVS:
    case STRING_STOS:
    case STRING_INS:  return insn_span_write(c, dst, &val);
    case STRING_LODS: insn_gpr_set(c->v, GPR_RAX, s->size, val); return STEP_OK;
    case STRING_OUTS: pio_write(c->v, s->port, s->size, (uint32_t)val); return STEP_OK;
    case STRING_CMPS:
    case STRING_SCAS: break;
    }
    if (!(r = insn_span_read(c, dst, &other)))
        alu_compute(ZYDIS_MNEMONIC_CMP, val, other, s->size * 8, &c->v->rflags, &diff);
    return r;
}

/* Execute one element.  Both operands are located first: after a fault, a port or device must not be read again. */
static enum step string_element(struct insn *c, const struct string_op *s)
{
    struct vcpu *v = c->v;
    struct span src = { 0 }, dst = { 0 };
    uint64_t val;
    uint64_t step = v->rflags & FLAG_DF ? (uint64_t)0 - s->size : s->size;
    bool at_rsi = string_loads(s->kind), at_rdi = string_stores(s->kind) || string_compares(s->kind);
    enum step r = STEP_OK;
    if (at_rsi)
        r = insn_resolve(c, s->src_seg, insn_gpr_get(v, GPR_RSI, s->addr_size), s->size, false, &src);
    if (!r && at_rdi)
        r = insn_resolve(c, ZYDIS_REGISTER_ES, insn_gpr_get(v, GPR_RDI, s->addr_size), s->size, string_stores(s->kind),
                         &dst);
    if (r || (r = string_load(c, s, &src, &val)) || (r = string_store(c, s, &dst, val)))
        return r;
    if (at_rdi)
        insn_gpr_set(v, GPR_RDI, s->addr_size, v->gpr[GPR_RDI] + step);
    if (at_rsi)
        insn_gpr_set(v, GPR_RSI, s->addr_size, v->gpr[GPR_RSI] + step);
    return STEP_OK;
}

/* REPE and REPNE end a comparison at the first element that differs, or agrees. */
static bool string_goes_on(const struct insn *c, const struct string_op *s)
{
    bool equal = c->v->rflags & FLAG_ZF;
    return !string_compares(s->kind) || equal == !(c->in.attributes & ZYDIS_ATTRIB_HAS_REPNE);
}

static enum step exec_string(struct insn *c, const struct string_op *s)
{
    ASSERT(s->size == 1 || s->size == 2 || s->size == 4 || s->size == 8);
    if (!(c->in.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)))
        return string_element(c, s);
    c->direct = false; /* the fault's address is that of the first element only */
    uint64_t work = io_work(c->v);
    unsigned most = c->v->rflags & RFLAGS_TF ? 1 : REP_MAX; /* each element has its debug trap */
    for (unsigned i = 0; i < most && io_work(c->v) - work < REP_WORK; i++) {
        uint64_t left = insn_gpr_get(c->v, GPR_RCX, s->addr_size);
        if (!left)
            return STEP_OK;
        enum step r = string_element(c, s);
        if (r)
            return r;
        insn_gpr_set(c->v, GPR_RCX, s->addr_size, left - 1);
        if (!string_goes_on(c, s))
            return STEP_OK;
    }
    return insn_gpr_get(c->v, GPR_RCX, s->addr_size) ? STEP_REP : STEP_OK;
}

static bool string_of(const struct insn *c, struct string_op *s)
{
    if (c->in.opcode_map != ZYDIS_OPCODE_MAP_DEFAULT || c->in.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return false;
    switch (c->in.opcode & 0xfe) {
    case 0xa4: s->kind = STRING_MOVS; break;
    case 0xa6: s->kind = STRING_CMPS; break;
    case 0xaa: s->kind = STRING_STOS; break;
    case 0xac: s->kind = STRING_LODS; break;
    case 0xae: s->kind = STRING_SCAS; break;
    default:   return false;
    }
    s->size = c->in.opcode & 1 ? c->in.operand_width / 8u : 1;
    s->addr_size = c->in.address_width / 8u;
    s->src_seg = source_segment(c);
    return true;
}

enum step insn_exec_string(struct insn *c)
{
    struct string_op s = { 0 };
    if (!string_of(c, &s))
        return STEP_UNSUPP;
    c->direct = s.kind != STRING_MOVS && s.kind != STRING_CMPS; /* two memory operands: either may have faulted */
    return exec_string(c, &s);
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
