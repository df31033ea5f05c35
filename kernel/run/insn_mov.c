/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn_mov.c - the fast path of MOV between a register or immediate and a device.
 *
 * Full decoding costs several times the rest of such an exit.  So the forms that kernels and compilers use on devices
 * are decoded here, in a few steps:
 *   88 89 C6 C7 A2 A3                   stores of a register, an immediate, the accumulator
 *   8A 8B A0 A1, 0F B6 B7 BE BF, 63     loads, with zero or sign extension
 * with three prefixes at most, so that no form is longer than the buffer; its end is checked once.  The operand's
 * address is that of the second-stage fault.  An operand that may have begun on the page before is left to the slow
 * path, unless its address is easily found. */
#include "kernel/run/insn_exec.h"

#include <string.h>
#include "kernel/dev/io_bus.h"
#include "kernel/run/insn_alu.h"

#define PREFIXES_MAX 3u
#define FORM_MAX     12u /* opcode, ModRM, SIB, displacement, immediate */
_Static_assert(PREFIXES_MAX + FORM_MAX <= INSN_ROOM, "a form fits into the buffer");

enum {
    MOV_IS = 1,
    MOV_BYTE = 2, /* the memory operand has 8 bits */
    MOV_WORD = 4, /* ... 16 bits */
    MOV_STORE = 8,
    MOV_IMM = 16,
    MOV_MOFFS = 32, /* an absolute address instead of ModRM */
    MOV_SIGNED = 64,
    MOV_PREFIX = 128,
    MOV_EXTENDS = 256, /* a load that writes a wider register */
};

static const uint8_t mov_kinds[256] = {
    [0x88] = MOV_IS | MOV_BYTE | MOV_STORE,
    [0x89] = MOV_IS | MOV_STORE,
    [0x8a] = MOV_IS | MOV_BYTE,
    [0x8b] = MOV_IS,
    [0xa0] = MOV_IS | MOV_BYTE | MOV_MOFFS,
    [0xa1] = MOV_IS | MOV_MOFFS,
    [0xa2] = MOV_IS | MOV_BYTE | MOV_MOFFS | MOV_STORE,
    [0xa3] = MOV_IS | MOV_MOFFS | MOV_STORE,
    [0xc6] = MOV_IS | MOV_BYTE | MOV_STORE | MOV_IMM,
    [0xc7] = MOV_IS | MOV_STORE | MOV_IMM,
    [0x0f] = MOV_PREFIX, /* an escape; here as rare as a prefix */
    [0x63] = MOV_PREFIX, /* MOVSXD only with REX.W */
    [0x26] = MOV_PREFIX,
    [0x2e] = MOV_PREFIX,
    [0x36] = MOV_PREFIX,
    [0x3e] = MOV_PREFIX,
    [0x40 ... 0x4f] = MOV_PREFIX,
    [0x64 ... 0x67] = MOV_PREFIX,
};

struct mov {
    unsigned at, kind; /* bytes decoded; MOV_* */
    unsigned rex, op_size, addr_size;
    bool other_segment; /* FS or GS */
};

/* MOVZX, MOVSX and MOVSXD. */
static unsigned mov_kind_extending(struct mov *m, const uint8_t *b)
{
    if (b[m->at - 1] == 0x63)
        return m->rex & 8 ? MOV_IS | MOV_EXTENDS | MOV_SIGNED : 0;
    uint8_t op = b[m->at++];
    if ((op & 0xf6) != 0xb6)
        return 0;
    return MOV_IS | MOV_EXTENDS | (op & 1 ? MOV_WORD : MOV_BYTE) | (op & 8 ? MOV_SIGNED : 0);
}

/* One prefix; false: none.  A REX counts only right before the opcode. */
static inline bool mov_prefix(struct mov *m, unsigned mode, uint8_t byte)
{
    switch (byte) {
    case 0x66: m->op_size = mode == 16 ? 4 : 2; break;
    case 0x67: m->addr_size = mode == 32 ? 2 : 4; break;
    case 0x64:
    case 0x65: m->other_segment = true; break;
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e: break;
    default:   return false;
    }
    return true;
}

/* Prefixes, then the opcode: its kind. */
static inline void mov_prefixed(struct mov *m, unsigned mode, const uint8_t *b)
{
    unsigned n = 0;
    while (n < PREFIXES_MAX && mov_prefix(m, mode, b[n]))
        n++;
    if (mode == 64 && n < PREFIXES_MAX && (b[n] & 0xf0) == 0x40) {
        m->rex = b[n++];
        m->op_size = m->rex & 8 ? 8 : m->op_size;
    }
    uint8_t op = b[n++];
    m->at = n;
    bool extends = op == 0x0f || (op == 0x63 && mode == 64);
    m->kind = extends ? mov_kind_extending(m, b) : mov_kinds[op] & ~(unsigned)MOV_PREFIX;
}

/* Length of ModRM, SIB and displacement; 0: a register operand. */
static unsigned modrm_len(const uint8_t *p, unsigned addr_size)
{
    unsigned mod = p[0] >> 6, rm = p[0] & 7;
    if (mod == 3)
        return 0;
    if (addr_size == 2)
        return 1 + (mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0);
    if (rm == 4)
        return 2 + (mod == 1 ? 1 : mod == 2 || (p[1] & 7) == 5 ? 4 : 0);
    return 1 + (mod == 1 ? 1 : mod == 2 || rm == 5 ? 4 : 0);
}

/* 1, 2 or 4 bytes of code, sign-extended. */
static uint64_t code_number(const uint8_t *p, unsigned len)
{
    int16_t word;
    int32_t dword;
    if (len == 1)
        return (uint64_t)(int8_t)p[0];
    if (len == 2) {
        memcpy(&word, p, 2);
        return (uint64_t)word;
    }
    memcpy(&dword, p, 4);
    return (uint64_t)dword;
}

/* Does the operand begin at offset 0 of a page?  operand: ModRM, or the absolute address.  Only for [register +
 * displacement] and absolute addresses in 64-bit code, where segments have no base; false otherwise. */
static bool mov_begins_page(const struct vcpu *v, const struct mov *m, unsigned mode, const uint8_t *operand)
{
    if (mode != 64 || m->other_segment)
        return false;
    if (m->kind & MOV_MOFFS)
        return !(code_number(operand, 4) % PAGE_SIZE);
    unsigned mod = operand[0] >> 6, rm = operand[0] & 7;
    if (rm == 4)
        return mod == 0 && operand[1] == 0x25 && !(code_number(operand + 2, 4) % PAGE_SIZE);
    if (rm == 5 && mod == 0)
        return false;
    uint64_t disp = mod ? code_number(operand + 1, mod == 1 ? 1 : 4) : 0;
    return !((v->gpr[rm + (m->rex & 1 ? 8 : 0)] + disp) % PAGE_SIZE);
}

/* AH, CH, DH, BH. */
static bool is_high_byte(const struct mov *m, unsigned reg, unsigned reg_size)
{
    return reg_size == 1 && reg >= 4 && reg < 8 && !m->rex;
}

static void mov_store(struct vcpu *v, const struct mov *m, unsigned reg, unsigned size, gpa_t at)
{
    uint64_t val = is_high_byte(m, reg, size) ? v->gpr[reg - 4] >> 8 : v->gpr[reg];
    mmio_write(v, at, size, val & alu_mask(8 * size));
}

static void mov_load(struct vcpu *v, const struct mov *m, unsigned reg, unsigned size, gpa_t at)
{
    uint64_t val;
    unsigned reg_size = m->kind & MOV_EXTENDS ? m->op_size : size;
    mmio_read(v, at, size, &val);
    if (m->kind & MOV_SIGNED)
        val = alu_sign_extend(val, 8 * size);
    if (is_high_byte(m, reg, reg_size))
        v->gpr[reg - 4] = (v->gpr[reg - 4] & ~UINT64_C(0xff00)) | (val & 0xff) << 8;
    else if (reg_size >= 4)
        v->gpr[reg] = reg_size == 4 ? (uint32_t)val : val;
    else
        insn_gpr_set(v, reg, reg_size, val);
}

unsigned insn_mov_fast(struct vcpu *v, unsigned mode, const uint8_t *b, unsigned n, gpa_t at, bool write)
{
    struct mov m = { .at = 1, .kind = mov_kinds[b[0]], .op_size = mode == 16 ? 2 : 4, .addr_size = mode / 8 };
    if (m.kind & MOV_PREFIX)
        mov_prefixed(&m, mode, b);
    if (!m.kind || !(m.kind & MOV_STORE) == write)
        return 0;
    const uint8_t *operand = b + m.at;
    unsigned size = m.kind & MOV_BYTE ? 1 : m.kind & MOV_WORD ? 2 : m.kind & MOV_SIGNED ? 4 : m.op_size;
    unsigned len = m.kind & MOV_MOFFS ? m.addr_size : modrm_len(operand, m.addr_size);
    unsigned reg = m.kind & MOV_MOFFS ? GPR_RAX : (operand[0] >> 3 & 7) + (m.rex & 4 ? 8 : 0);
    unsigned imm_len = m.kind & MOV_IMM ? MIN(size, 4) : 0, off = at.v % PAGE_SIZE;
    m.at += len + imm_len;
    if (!len || m.at > n || off + size > PAGE_SIZE || (imm_len && operand[0] & 0x38))
        return 0;
    if (off == 0 && size > 1 && !mov_begins_page(v, &m, mode, operand))
        return 0;
    if (imm_len)
        mmio_write(v, at, size, code_number(operand + len, imm_len) & alu_mask(8 * size));
    else if (write)
        mov_store(v, &m, reg, size, at);
    else
        mov_load(v, &m, reg, size, at);
    return m.at;
}
