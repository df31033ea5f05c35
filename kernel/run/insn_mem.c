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

enum step insn_page_fault(struct vcpu *v, uint64_t va, uint32_t error)
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

enum step insn_fault(struct insn *c, uint8_t vector)
{
    vcpu_inject_exception(c->v, vector, vector == VECTOR_SS || vector == VECTOR_GP, 0);
    return STEP_FAULT;
}

bool insn_target_ok(struct insn *c, uint64_t target)
{
    uint64_t cr0, cr3, cr4, efer;
    unsigned cpl;
    if (c->mode != 64)
        return target <= cpu_ops->seg_get(c->v, SEG_CS).limit;
    cpu_ops->paging_get(c->v, &cr0, &cr3, &cr4, &efer, &cpl);
    return insn_is_canonical(target, cr4);
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
    return guest_translate(c->v, gva(va), write, false, out, &error) ? insn_page_fault(c->v, va, error) : STEP_OK;
}

enum step insn_resolve(struct insn *c, ZydisRegister seg, uint64_t offset, unsigned size, bool write, struct span *out)
{
    ASSERT(size && size <= INSN_BYTES_MAX);
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
        if (!insn_is_canonical(va, cr4) || !insn_is_canonical(va + size - 1, cr4))
            return insn_fault(c, seg == ZYDIS_REGISTER_SS ? VECTOR_SS : VECTOR_GP);
    }
    enum step r = insn_translate(c, va, write, &out->a[0]);
    if (!r && out->len[1])
        r = insn_translate(c, c->mode == 64 ? va + in_page : (uint32_t)(va + in_page), write, &out->a[1]);
    return r;
}

/* The size of the next access of an operand's part of which `left` bytes are to do: a device knows 1, 2, 4 and 8. */
static unsigned insn_device_size(unsigned left) { return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1; }

static void insn_device_read(struct vcpu *v, gpa_t a, unsigned len, uint8_t *buf)
{
    for (unsigned done = 0, n; done < len; done += n) {
        uint64_t val;
        n = insn_device_size(len - done);
        mmio_read(v, gpa_add(a, done), n, &val);
        memcpy(buf + done, &val, n);
    }
}

static void insn_device_write(struct vcpu *v, gpa_t a, unsigned len, const uint8_t *buf)
{
    for (unsigned done = 0, n; done < len; done += n) {
        uint64_t val = 0;
        n = insn_device_size(len - done);
        memcpy(&val, buf + done, n);
        mmio_write(v, gpa_add(a, done), n, val);
    }
}

enum step insn_span_read(struct insn *c, const struct span *s, void *buf)
{
    uint8_t *to = buf;
    for (unsigned i = 0; i < 2 && s->len[i]; to += s->len[i], i++) {
        if (!guest_is_ram(c->v->vm, s->a[i]))
            insn_device_read(c->v, s->a[i], s->len[i], to);
        else if (guest_read(c->v->vm, s->a[i], to, s->len[i]))
            return STEP_UNSUPP;
    }
    return STEP_OK;
}

enum step insn_span_write(struct insn *c, const struct span *s, const void *buf)
{
    const uint8_t *from = buf;
    for (unsigned i = 0; i < 2 && s->len[i]; from += s->len[i], i++) {
        if (!guest_is_ram(c->v->vm, s->a[i]))
            insn_device_write(c->v, s->a[i], s->len[i], from);
        else if (guest_write(c->v->vm, s->a[i], from, s->len[i]))
            return STEP_NOMEM;
    }
    return STEP_OK;
}
