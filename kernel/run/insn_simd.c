/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn_simd.c - moves between a device and MMX, SSE and AVX registers.
 *
 * The guest's registers are in the processor (kernel/host/x86/fpu.h).  For such a move they are saved to the vCPU's
 * XSAVE area, one is read or changed there, and all are loaded again.  Not here: other SIMD instructions, EVEX. */
#include "kernel/run/insn_exec.h"

#include <string.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/host/x86/fpu.h"

#define CR0_EM_TS (BIT64(2) | BIT64(3))

/* Offsets in an XSAVE area of the standard format (SDM 1 "Legacy Region of an XSAVE Area"). */
enum { AREA_FSW = 2, AREA_FTW = 4, AREA_MM = 32, AREA_XMM = 160, AREA_XSTATE_BV = 512 };
enum { COMPONENT_X87 = 0, COMPONENT_SSE = 1, COMPONENT_AVX = 2 };

enum simd_kind {
    SIMD_NONE,
    SIMD_WHOLE, /* memory <-> the lowest bytes; a load clears the rest */
    SIMD_LOW,   /* memory <-> the lower 8 bytes of an XMM register, and the upper ones stay */
    SIMD_HIGH,  /* likewise the upper 8 bytes */
};

static enum simd_kind simd_kind_of(ZydisMnemonic m)
{
    switch (m) {
    case ZYDIS_MNEMONIC_MOVD:
    case ZYDIS_MNEMONIC_MOVQ:
    case ZYDIS_MNEMONIC_MOVNTQ:
    case ZYDIS_MNEMONIC_MOVSS:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVAPS:
    case ZYDIS_MNEMONIC_MOVAPD:
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQA:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_MOVNTPS:
    case ZYDIS_MNEMONIC_MOVNTPD:
    case ZYDIS_MNEMONIC_MOVNTDQ:
    case ZYDIS_MNEMONIC_MOVNTDQA:
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VMOVQ:
    case ZYDIS_MNEMONIC_VMOVSS:
    case ZYDIS_MNEMONIC_VMOVSD:
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVUPS:
    case ZYDIS_MNEMONIC_VMOVUPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVDQU:
    case ZYDIS_MNEMONIC_VLDDQU:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA: return SIMD_WHOLE;
    case ZYDIS_MNEMONIC_MOVLPS:
    case ZYDIS_MNEMONIC_MOVLPD:
    case ZYDIS_MNEMONIC_VMOVLPS:
    case ZYDIS_MNEMONIC_VMOVLPD:   return SIMD_LOW;
    case ZYDIS_MNEMONIC_MOVHPS:
    case ZYDIS_MNEMONIC_MOVHPD:
    case ZYDIS_MNEMONIC_VMOVHPS:
    case ZYDIS_MNEMONIC_VMOVHPD:   return SIMD_HIGH;
    default:                       return SIMD_NONE;
    }
}

/* A register of a move: which, and whether MMX. */
struct simd_reg {
    bool mmx;
    unsigned n;
};

static bool simd_reg_of(const ZydisDecodedOperand *o, struct simd_reg *out)
{
    if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
        return false;
    ZydisRegister r = o->reg.value;
    out->mmx = r >= ZYDIS_REGISTER_MM0 && r <= ZYDIS_REGISTER_MM7;
    if (out->mmx)
        out->n = (unsigned)(r - ZYDIS_REGISTER_MM0);
    else if (r >= ZYDIS_REGISTER_XMM0 && r <= ZYDIS_REGISTER_XMM15)
        out->n = (unsigned)(r - ZYDIS_REGISTER_XMM0);
    else if (r >= ZYDIS_REGISTER_YMM0 && r <= ZYDIS_REGISTER_YMM15)
        out->n = (unsigned)(r - ZYDIS_REGISTER_YMM0);
    else
        return false;
    return true;
}

static void component_used(uint8_t *area, unsigned component)
{
    if (fpu_host_xcr0) /* without XSAVE an area has no header */
        area[AREA_XSTATE_BV] = (uint8_t)(area[AREA_XSTATE_BV] | BIT32(component));
}

/* Any MMX instruction marks all x87 registers valid and makes register 0 the top (SDM 1 "Effect of MMX Instructions on
 * x87 FPU Tag Word"). */
static void area_mmx_used(uint8_t *area)
{
    area[AREA_FSW + 1] &= (uint8_t)~0x38u;
    area[AREA_FTW] = 0xff;
    component_used(area, COMPONENT_X87);
}

static void area_mmx_set(uint8_t *area, unsigned n, const uint8_t *val)
{
    uint8_t *mm = area + AREA_MM + 16 * n;
    memcpy(mm, val, 8);
    mm[8] = mm[9] = 0xff; /* exponent and sign */
}

static void area_vector_get(const uint8_t *area, unsigned n, uint8_t *val)
{
    memcpy(val, area + AREA_XMM + 16 * n, 16);
    if (fpu_host_xcr0 >> COMPONENT_AVX & 1)
        memcpy(val + 16, area + fpu_component_offset(COMPONENT_AVX) + 16 * n, 16);
}

/* vex: the upper half is written as well; a legacy SSE instruction keeps it. */
static void area_vector_set(uint8_t *area, unsigned n, const uint8_t *val, bool vex)
{
    memcpy(area + AREA_XMM + 16 * n, val, 16);
    component_used(area, COMPONENT_SSE);
    if (vex) {
        memcpy(area + fpu_component_offset(COMPONENT_AVX) + 16 * n, val + 16, 16);
        component_used(area, COMPONENT_AVX);
    }
}

static bool is_vex(const struct insn *c) { return c->in.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX; }

static enum step simd_store(struct insn *c, enum simd_kind kind, struct simd_reg from, const struct span *dst)
{
    uint8_t val[INSN_BYTES_MAX] = { 0 }, *area = c->v->xsave;
    if (from.mmx) {
        memcpy(val, area + AREA_MM + 16 * from.n, 8);
        area_mmx_used(area);
    } else {
        area_vector_get(area, from.n, val);
    }
    return insn_span_write(c, dst, kind == SIMD_HIGH ? val + 8 : val);
}

/* rest: the register whose other half a SIMD_LOW or SIMD_HIGH load keeps; with VEX not always the destination. */
static enum step simd_load(struct insn *c, enum simd_kind kind, struct simd_reg to, struct simd_reg rest,
                           const struct span *src)
{
    uint8_t val[INSN_BYTES_MAX] = { 0 }, *area = c->v->xsave;
    if (kind != SIMD_WHOLE)
        memcpy(val, area + AREA_XMM + 16 * rest.n, 16);
    enum step r = insn_span_read(c, src, kind == SIMD_HIGH ? val + 8 : val);
    if (r)
        return r;
    if (to.mmx) {
        area_mmx_set(area, to.n, val);
        area_mmx_used(area);
    } else {
        area_vector_set(area, to.n, val, is_vex(c));
    }
    return STEP_OK;
}

static enum step simd_move(struct insn *c, enum simd_kind kind, const struct span *span)
{
    struct simd_reg reg[2] = { 0 };
    unsigned last = c->in.operand_count_visible - 1u;
    bool store = c->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
    if (!simd_reg_of(&c->op[store ? last : 0], &reg[0]) || (last == 2 && !simd_reg_of(&c->op[1], &reg[1])))
        return STEP_UNSUPP;
    fpu_guest_save(c->v->xsave, &c->v->xcr0);
    enum step r = store ? simd_store(c, kind, reg[0], span) : simd_load(c, kind, reg[0], reg[last == 2], span);
    fpu_guest_load(c->v->xsave, c->v->xcr0);
    return r;
}

/* The processor has checked that the guest may use these registers.  But another vCPU may have written another
 * instruction here since: the area may have no room for what that one uses. */
static bool simd_allowed(struct insn *c)
{
    uint64_t cr0, cr3, cr4, efer;
    unsigned cpl;
    cpu_ops->paging_get(c->v, &cr0, &cr3, &cr4, &efer, &cpl);
    return !(cr0 & CR0_EM_TS) && (!is_vex(c) || fpu_host_xcr0 >> COMPONENT_AVX & 1);
}

enum step insn_exec_simd(struct insn *c)
{
    enum simd_kind kind = simd_kind_of(c->in.mnemonic);
    if (kind == SIMD_NONE || !simd_allowed(c))
        return STEP_UNSUPP;
    unsigned last = c->in.operand_count_visible - 1u; /* 1, or 2 with VEX */
    bool store = c->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
    const ZydisDecodedOperand *mem = &c->op[store ? 0 : last];
    struct span span;
    unsigned size = mem->size / 8;
    if (mem->type != ZYDIS_OPERAND_TYPE_MEMORY || size < 4 || size > INSN_BYTES_MAX)
        return STEP_UNSUPP;
    enum step r = insn_resolve(c, mem->mem.segment, insn_offset(c, &mem->mem), size, store, &span);
    return r ? r : simd_move(c, kind, &span);
}
