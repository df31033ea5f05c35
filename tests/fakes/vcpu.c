/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/vcpu.c - see vcpu.h. */
#include "tests/fakes/vcpu.h"
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/x86/fpu.h"

bool fpu_xsavec_broken;
struct cpu_caps cpu_caps = { .s2_ad = true, .n_asids = 4 };
const struct cpu_ops *cpu_ops = &fake_cpu_ops;
struct vcpu_regs fake_regs;
struct vcpu_event fake_injected;
unsigned fake_n_injected;
void (*fake_on_kick)(struct vcpu *v);

uint64_t clock_us(void)
{
    static uint64_t us;
    return us++;
}

void vcpu_kick(struct vcpu *v)
{
    if (fake_on_kick)
        fake_on_kick(v);
    else
        atomic_store(&v->in_guest, false);
}

void vcpu_inject_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
    cpu_ops->inject(v, &(struct vcpu_event){ EVENT_EXCEPTION, vector, has_error, error });
}

static void inject(struct vcpu *v, const struct vcpu_event *e)
{
    (void)v;
    fake_injected = *e;
    fake_n_injected++;
}
static void regs_get(struct vcpu *v, struct vcpu_regs *r)
{
    *r = fake_regs;
    memcpy(r->gpr, v->gpr, sizeof(r->gpr));
    r->rip = v->rip, r->rflags = v->rflags;
}
static void regs_set(struct vcpu *v, const struct vcpu_regs *r)
{
    fake_regs = *r;
    memcpy(v->gpr, r->gpr, sizeof(r->gpr));
    v->rip = r->rip, v->rflags = r->rflags;
}
static void paging_get(struct vcpu *v, uint64_t *cr0, uint64_t *cr3, uint64_t *cr4, uint64_t *efer, unsigned *cpl)
{
    (void)v;
    *cr0 = fake_regs.cr0, *cr3 = fake_regs.cr3, *cr4 = fake_regs.cr4, *efer = fake_regs.efer;
    *cpl = fake_regs.seg[SEG_SS].ar >> 5 & 3;
}
static struct seg seg_get(struct vcpu *v, enum seg_id id)
{
    (void)v;
    return fake_regs.seg[id];
}
static bool insn_done(struct vcpu *v)
{
    bool trap = v->rflags & BIT64(8);
    v->rflags &= ~BIT64(16);
    fake_regs.irq_shadow = false;
    if (trap)
        inject(v, &(struct vcpu_event){ .type = EVENT_EXCEPTION, .vector = 1 });
    return trap;
}

enum hv_err (*fake_on_hw_log)(struct vcpu *v, bool on);
static enum hv_err hw_log_set(struct vcpu *v, bool on) { return fake_on_hw_log ? fake_on_hw_log(v, on) : HV_E_UNSUPP; }

const struct cpu_ops fake_cpu_ops = { .name = "fake",
                                      .regs_get = regs_get,
                                      .regs_set = regs_set,
                                      .inject = inject,
                                      .paging_get = paging_get,
                                      .seg_get = seg_get,
                                      .insn_done = insn_done,
                                      .hw_log_set = hw_log_set };

void fake_vcpu_init(struct vm *vm, struct vcpu *v)
{
    memset(vm, 0, sizeof(*vm));
    memset(v, 0, sizeof(*v));
    memset(&fake_regs, 0, sizeof(fake_regs));
    cpu_ops = &fake_cpu_ops;
    vm->n_vcpus = 1;
    vm->vcpus[0] = v;
    v->vm = vm;
    v->rflags = 2;
    fake_regs.cr0 = 1;
    fake_regs.efer = BIT64(10);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        fake_regs.seg[i] = (struct seg){ .ar = 0xc093, .limit = ~0u };
    fake_regs.seg[SEG_CS].ar = 0xa09b;
    fake_n_injected = 0;
    fake_on_kick = NULL;
    fake_on_hw_log = NULL;
}
