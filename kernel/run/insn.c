/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn.c - the guest's current instruction: fetch, length, decoding, and completion.
 *
 * Zydis decodes; insn_exec.c and the files beside it execute.  Decoding costs more than the rest of an exit, so two
 * shortcuts avoid it in the common cases.  insn_len_known(): the length of an instruction that the exit identifies.
 * insn_mov_fast(): MOV in all forms, which is nearly all that kernels do with devices.  Not here: operands
 * (insn_mem.c). */
#include "kernel/run/insn.h"

#include <string.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/core/guest_mem.h"
#include "kernel/core/vm.h"
#include "kernel/dev/io_bus.h"
#include "kernel/host/x86/regs.h"
#include "kernel/lib/log.h"
#include "kernel/run/insn_exec.h"

#define INSN_MAX ZYDIS_MAX_INSTRUCTION_LENGTH
#define EFER_LMA BIT64(10)
#define AR_L     BIT32(13)
#define AR_D     BIT32(14)
#define VEC_UD   6

struct code {
    unsigned mode;   /* 16, 32, 64 */
    uint64_t linear; /* address of CS:RIP */
    struct paging paging;
};

static void insn_code_of(struct vcpu *v, struct code *c)
{
    struct paging *p = &c->paging;
    uint32_t ar = cpu_ops->seg_get(v, SEG_CS).ar;
    cpu_ops->paging_get(v, &p->cr0, &p->cr3, &p->cr4, &p->efer, &p->cpl);
    c->mode = 64, c->linear = v->rip;
    if ((p->efer & EFER_LMA) && (ar & AR_L))
        return;
    bool wide = (ar & AR_D) && (p->cr0 & CR0_PE) && !(v->rflags & RFLAGS_VM);
    c->mode = wide ? 32 : 16;
    c->linear = (uint32_t)(cpu_ops->seg_get(v, SEG_CS).base + v->rip);
}

/* The instruction bytes at linear; *n: how many there are to the end of the page.  NULL: unmapped, or not RAM. */
static const uint8_t *insn_bytes_at(struct vcpu *v, const struct code *c, uint64_t linear, unsigned *n)
{
    *n = (unsigned)(PAGE_SIZE - linear % PAGE_SIZE);
    return guest_code(v, &c->paging, gva(linear));
}

/* An instruction near the end of its page, or one that cannot be read.  Not inlined: it is rare. */
static __attribute__((noinline)) unsigned insn_fetch_pieces(struct vcpu *v, const struct code *c, uint8_t *buf)
{
    unsigned got = 0, n;
    memset(buf, 0, INSN_ROOM);
    while (got < INSN_MAX) {
        const uint8_t *p = insn_bytes_at(v, c, c->linear + got, &n);
        if (!p)
            break;
        n = MIN(n, INSN_MAX - got);
        memcpy(buf + got, p, n);
        got += n;
    }
    return got;
}

/* Copy INSN_MAX instruction bytes, fewer when the second page is unmapped.  Returns how many.  buf has INSN_ROOM
 * bytes: 16 are copied faster than 15. */
static unsigned insn_fetch(struct vcpu *v, const struct code *c, uint8_t *buf)
{
    unsigned n;
    const uint8_t *p = insn_bytes_at(v, c, c->linear, &n);
    if (!p || n < INSN_ROOM)
        return insn_fetch_pieces(v, c, buf);
    memcpy(buf, p, INSN_ROOM);
    return INSN_MAX;
}

static bool insn_is_prefix(uint8_t b, unsigned mode)
{
    switch (b) {
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0xf0:
    case 0xf2:
    case 0xf3: return true;
    default:   return mode == 64 && (b & 0xf0) == 0x40; /* REX */
    }
}

unsigned insn_len_known(struct vcpu *v, const uint8_t *op, unsigned n_op)
{
    uint8_t buf[INSN_ROOM];
    struct code code;
    unsigned n, skip = 0;
    insn_code_of(v, &code);
    const uint8_t *p = insn_bytes_at(v, &code, code.linear, &n);
    if (p && n >= n_op && !memcmp(p, op, n_op))
        return n_op; /* no prefix, on one page: the common case */
    n = insn_fetch(v, &code, buf);
    while (skip + n_op < n && insn_is_prefix(buf[skip], code.mode))
        skip++;
    return skip + n_op <= n && !memcmp(buf + skip, op, n_op) ? skip + n_op : 0;
}

/* 0F 20 /r reads control register cr, 0F 22 /r writes it.  reg is the control register, rm the general one (*gpr), both
 * extended by a REX prefix right before.  *wide: in 64-bit code.  Returns the length; 0: it is another instruction. */
static unsigned insn_cr_decode(struct vcpu *v, uint8_t opcode, unsigned cr, unsigned *gpr, bool *wide)
{
    uint8_t buf[INSN_ROOM];
    struct code code;
    insn_code_of(v, &code);
    unsigned n = insn_fetch(v, &code, buf), at = 0;
    while (at < n && insn_is_prefix(buf[at], code.mode))
        at++;
    if (at + 3 > n || buf[at] != 0x0f || buf[at + 1] != opcode)
        return 0;
    unsigned rex = code.mode == 64 && at && (buf[at - 1] & 0xf0) == 0x40 ? buf[at - 1] : 0, modrm = buf[at + 2];
    if (((modrm >> 3 & 7) | (rex & 4) << 1) != cr)
        return 0;
    *gpr = (modrm & 7) | (rex & 1) << 3;
    *wide = code.mode == 64;
    return at + 3;
}

unsigned insn_mov_to_cr(struct vcpu *v, unsigned cr, uint64_t *val)
{
    unsigned gpr;
    bool wide;
    unsigned len = insn_cr_decode(v, 0x22, cr, &gpr, &wide);
    if (len)
        *val = wide ? v->gpr[gpr] : (uint32_t)v->gpr[gpr];
    return len;
}

unsigned insn_mov_from_cr(struct vcpu *v, unsigned cr, uint64_t val)
{
    unsigned gpr;
    bool wide;
    unsigned len = insn_cr_decode(v, 0x20, cr, &gpr, &wide);
    if (len)
        v->gpr[gpr] = wide ? val : (uint32_t)val;
    return len;
}

static void insn_decoder_init(ZydisDecoder *d, unsigned mode)
{
    switch (mode) {
    case 64: ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64); break;
    case 32: ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32); break;
    default: ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16); break;
    }
}

unsigned insn_length(struct vcpu *v)
{
    uint8_t buf[INSN_ROOM];
    struct code code;
    insn_code_of(v, &code);
    unsigned n = insn_fetch(v, &code, buf);
    ZydisDecoder d;
    ZydisDecodedInstruction in;
    insn_decoder_init(&d, code.mode);
    return n && ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&d, NULL, buf, n, &in)) ? in.length : 0;
}

static void insn_rip_advance(struct vcpu *v, unsigned mode, unsigned len)
{
    ASSERT(len && len <= INSN_MAX);
    v->rip += len;
    if (mode != 64)
        v->rip &= 0xffffffff;
    cpu_ops->insn_done(v);
}

/* Between two elements of a REP: a trap or an interrupt there pushes RF (SDM 3B "RF Flag"). */
static void insn_rep_pause(struct vcpu *v)
{
    cpu_ops->insn_done(v);
    v->rflags |= RFLAGS_RF;
}

static void insn_log(const struct insn *c, const char *what)
{
    static const char hex[] = "0123456789abcdef";
    char text[3 * INSN_MAX + 1] = "";
    if (!io_insn_unhandled(c->v))
        return;
    for (unsigned i = 0; i < c->n_bytes; i++) {
        text[3 * i] = hex[c->bytes[i] >> 4];
        text[3 * i + 1] = hex[c->bytes[i] & 15];
        text[3 * i + 2] = ' ';
        text[3 * i + 3] = 0;
    }
    log_warn(c->v->vm->config.name,
             "vCPU %u at rip %#lx (%u-bit), access to %#lx: %s, so the guest gets #UD; bytes: %s", c->v->index,
             c->v->rip, c->mode, c->fault.v, what, text);
}

static enum step insn_undefined(struct insn *c, const char *what)
{
    insn_log(c, what);
    return insn_fault(c, VEC_UD);
}

/* The processor has fetched this instruction, and it cannot be fetched now: another vCPU has changed the page tables or
 * the code since.  The guest gets the page fault, or executes what is there now. */
static enum step insn_refetch(struct insn *c, uint64_t linear)
{
    gpa_t a;
    uint32_t error;
    if (guest_translate(c->v, gva(linear + c->n_bytes), false, true, &a, &error))
        return insn_page_fault(c->v, linear + c->n_bytes, error);
    return STEP_AGAIN;
}

static enum step insn_decode(struct insn *c, uint64_t linear)
{
    ZydisDecoder d;
    insn_decoder_init(&d, c->mode);
    ZyanStatus status =
        c->n_bytes ? ZydisDecoderDecodeFull(&d, c->bytes, c->n_bytes, &c->in, c->op) : ZYDIS_STATUS_NO_MORE_DATA;
    if (ZYAN_SUCCESS(status))
        return STEP_OK;
    if (status == ZYDIS_STATUS_NO_MORE_DATA && c->n_bytes < INSN_MAX)
        return insn_refetch(c, linear);
    return insn_undefined(c, "cannot be decoded");
}

static enum hv_err insn_finish(struct insn *c, enum step r)
{
    if (r == STEP_UNSUPP)
        r = insn_undefined(c, "not an instruction that Godwit carries out");
    if (r == STEP_OK)
        insn_rip_advance(c->v, c->mode, c->in.length);
    if (r == STEP_REP)
        insn_rep_pause(c->v);
    return r == STEP_NOMEM ? HV_FAIL(HV_E_NOMEM) : HV_OK;
}

enum hv_err insn_emulate_mmio(struct vcpu *v, gpa_t fault_gpa, bool write)
{
    struct code code;
    struct insn c;
    insn_code_of(v, &code);
    c.v = v, c.mode = code.mode, c.direct = true, c.fault = fault_gpa;
    c.n_bytes = insn_fetch(v, &code, c.bytes);
    unsigned len = insn_mov_fast(v, code.mode, c.bytes, c.n_bytes, fault_gpa, write);
    if (len) {
        insn_rip_advance(v, code.mode, len);
        return HV_OK;
    }
    enum step r = insn_decode(&c, code.linear);
    return insn_finish(&c, r ? r : insn_exec(&c));
}

enum hv_err insn_emulate_string_io(struct vcpu *v, const struct vcpu_exit *x)
{
    struct code code;
    struct insn c;
    insn_code_of(v, &code);
    c.v = v, c.mode = code.mode, c.direct = false, c.fault = gpa(x->io.port);
    c.n_bytes = insn_fetch(v, &code, c.bytes);
    enum step r = insn_decode(&c, code.linear);
    return insn_finish(&c, r ? r : insn_exec_string_io(&c, x->io.port, x->io.size, x->io.in));
}
