/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/insn_mem.c - registers and memory operands of an emulated instruction.
 *
 * Invariant: an instruction that faults has changed nothing.  So a memory operand is resolved before anything is read
 * or written: translated and checked, on both of its pages.  Each part then goes to RAM or to a device. */
#include "kernel/run/insn_exec.h"

#include <string.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/core/guest_mem.h"
#include "kernel/core/vm.h"
#include "kernel/dev/io_bus.h"
#include "kernel/lib/log.h"

#define VECTOR_SS 12
#define VECTOR_GP 13
#define VECTOR_PF 14

uint64_t insn_gpr_get(const struct vcpu *v, unsigned n, unsigned size)
{
    ASSERT(n < GPR_COUNT);
    return size == 8 ? v->gpr[n] : v->gpr[n] & (BIT64(size * 8) - 1);
}

void insn_gpr_set(struct vcpu *v, unsigned n, unsigned size, uint64_t val)
{
    ASSERT(n < GPR_COUNT);
    uint64_t keep = size < 4 ? ~(BIT64(size * 8) - 1) : 0;
    if (size < 8)
        val &= BIT64(size * 8) - 1;
    v->gpr[n] = (v->gpr[n] & keep) | val;
}

static enum step insn_inject_pf(struct vcpu *v, uint64_t va, uint32_t error)
{
    struct vcpu_regs r; /* CR2 is set with all other registers; this path is rare */
    cpu_ops->regs_get(v, &r);
    r.cr2 = va;
    cpu_ops->regs_set(v, &r);
    vcpu_inject_exception(v, VECTOR_PF, true, error);
    return STEP_FAULT;
}

static bool insn_is_canonical(uint64_t va, uint64_t cr4)
{
    unsigned unused = cr4 & BIT64(12) ? 7 : 16; /* CR4.LA57 */
    return (uint64_t)((int64_t)(va << unused) >> unused) == va;
}

static enum seg_id insn_seg_of(ZydisRegister r)
{
    switch (r) {
    case ZYDIS_REGISTER_ES: return SEG_ES;
    case ZYDIS_REGISTER_CS: return SEG_CS;
    case ZYDIS_REGISTER_SS: return SEG_SS;
    case ZYDIS_REGISTER_FS: return SEG_FS;
    case ZYDIS_REGISTER_GS: return SEG_GS;
    default:                return SEG_DS;
    }
}

static uint64_t insn_linear_of(struct insn *c, ZydisRegister seg, uint64_t offset)
{
    bool flat = c->mode == 64 && seg != ZYDIS_REGISTER_FS && seg != ZYDIS_REGISTER_GS;
    uint64_t base = flat ? 0 : cpu_ops->seg_get(c->v, insn_seg_of(seg)).base;
    return c->mode == 64 ? base + offset : (uint32_t)(base + offset);
}

static enum step insn_translate(struct insn *c, uint64_t va, bool write, gpa_t *out)
{
    uint32_t error;
    return guest_translate(c->v, gva(va), write, false, out, &error) ? insn_inject_pf(c->v, va, error) : STEP_OK;
}

enum step insn_resolve(struct insn *c, ZydisRegister seg, uint64_t offset, unsigned size, bool write, struct span *out)
{
    ASSERT(size && size <= 8);
    uint64_t va = insn_linear_of(c, seg, offset), in_page = PAGE_SIZE - va % PAGE_SIZE;
    *out = (struct span){ .len = { (unsigned)MIN(size, in_page), size - (unsigned)MIN(size, in_page) } };
    if (c->direct && !out->len[1] && va % PAGE_SIZE == c->fault.v % PAGE_SIZE) {
        out->a[0] = c->fault; /* the processor has translated and checked this operand */
        return STEP_OK;
    }
    if (c->mode == 64) {
        uint64_t cr0, cr3, cr4, efer;
        unsigned cpl;
        cpu_ops->paging_get(c->v, &cr0, &cr3, &cr4, &efer, &cpl);
        if (!insn_is_canonical(va, cr4) || !insn_is_canonical(va + size - 1, cr4)) {
            vcpu_inject_exception(c->v, seg == ZYDIS_REGISTER_SS ? VECTOR_SS : VECTOR_GP, true, 0);
            return STEP_FAULT;
        }
    }
    enum step r = insn_translate(c, va, write, &out->a[0]);
    if (!r && out->len[1])
        r = insn_translate(c, c->mode == 64 ? va + in_page : (uint32_t)(va + in_page), write, &out->a[1]);
    return r;
}

/* Read a part of an operand from a device.  Lengths 3, 5, 6, 7 become accesses of one byte each. */
static uint64_t insn_device_read(struct vcpu *v, gpa_t a, unsigned len)
{
    uint64_t val = 0, part;
    if (len == 1 || len == 2 || len == 4 || len == 8) {
        mmio_read(v, a, len, &val);
        return val;
    }
    for (unsigned i = 0; i < len; i++) {
        mmio_read(v, gpa_add(a, i), 1, &part);
        val |= (part & 0xff) << (8 * i);
    }
    return val;
}

static void insn_device_write(struct vcpu *v, gpa_t a, unsigned len, uint64_t val)
{
    if (len == 1 || len == 2 || len == 4 || len == 8) {
        mmio_write(v, a, len, val);
        return;
    }
    for (unsigned i = 0; i < len; i++)
        mmio_write(v, gpa_add(a, i), 1, val >> (8 * i) & 0xff);
}

enum step insn_span_read(struct insn *c, const struct span *s, uint64_t *val)
{
    unsigned shift = 0;
    *val = 0;
    for (unsigned i = 0; i < 2 && s->len[i]; i++) {
        uint64_t part = 0;
        if (!guest_is_ram(c->v->vm, s->a[i]))
            part = insn_device_read(c->v, s->a[i], s->len[i]);
        else if (guest_read(c->v->vm, s->a[i], &part, s->len[i]))
            return STEP_UNSUPP;
        *val |= part << shift;
        shift = s->len[i] * 8;
    }
    return STEP_OK;
}

enum step insn_span_write(struct insn *c, const struct span *s, uint64_t val)
{
    for (unsigned i = 0; i < 2 && s->len[i]; i++) {
        uint64_t part = s->len[i] < 8 ? val & (BIT64(s->len[i] * 8) - 1) : val;
        if (!guest_is_ram(c->v->vm, s->a[i]))
            insn_device_write(c->v, s->a[i], s->len[i], part);
        else if (guest_write(c->v->vm, s->a[i], &part, s->len[i]))
            return STEP_UNSUPP; /* host memory is exhausted */
        val = s->len[i] < 8 ? val >> (s->len[i] * 8) : 0;
    }
    return STEP_OK;
}
