/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/machine.c - see machine.h. */
#include "tests/fakes/machine.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/random.h"
#include "kernel/host/x86/fpu.h"
#include "kernel/run/insn.h"
#include "kernel/run/sched.h"

uint64_t fake_tsc, fake_wall_ns, fake_n_reads, fake_n_written;
struct vcpu *fake_running;

uint64_t clock_tsc_hz = 3000000000;
bool clock_tsc_stable = true;
uint32_t fpu_save_area_size = 4096;
bool fpu_xsavec_broken;
uint64_t tsc_read(void) { return fake_tsc; }
uint64_t clock_tsc_to_us(uint64_t ticks) { return ticks / 3000; }
uint64_t clock_wall_ns(void) { return fake_wall_ns; }

static struct pcpu pcpu, idle_pcpu; /* "this pCPU", number 0, and all others */
struct pcpu *this_pcpu(void)
{
    pcpu.running = fake_running;
    return &pcpu;
}
unsigned fake_n_kicks;
void pcpu_kick(unsigned index) { (void)index, fake_n_kicks++; }
struct pcpu *pcpu_get(unsigned index) { return index ? &idle_pcpu : &pcpu; }
void random_bytes(void *buf, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)buf)[i] = (uint8_t)(i * 37 + 11);
}

static struct machine *machine_of(struct vm *vm) { return container_of(vm, struct machine, vm); }

/* ---- vCPUs ---- */

void sched_yield_turn(struct vcpu *v) { machine_of(v->vm)->n_yields++; }
bool vcpu_skip_insn(struct vcpu *v, const struct vcpu_exit *x)
{
    v->rip += x->insn_len;
    return v->rflags & BIT64(8);
}

enum hv_err insn_emulate_mmio(struct vcpu *v, gpa_t a, bool write)
{
    (void)v, (void)a, (void)write;
    return HV_E_UNSUPP;
}
enum hv_err insn_emulate_string_io(struct vcpu *v, const struct vcpu_exit *x)
{
    (void)v, (void)x;
    return HV_E_UNSUPP;
}

static struct vcpu_regs *regs_of(struct vcpu *v) { return &machine_of(v->vm)->regs[v->index]; }
static void regs_get(struct vcpu *v, struct vcpu_regs *r)
{
    *r = *regs_of(v);
    memcpy(r->gpr, v->gpr, sizeof(r->gpr));
    r->rip = v->rip, r->rflags = v->rflags, r->cr8 = v->cr8, r->xcr0 = v->xcr0, r->tsc_aux = v->tsc_aux;
}
static void regs_set(struct vcpu *v, const struct vcpu_regs *r)
{
    *regs_of(v) = *r;
    memcpy(v->gpr, r->gpr, sizeof(r->gpr));
    v->rip = r->rip, v->rflags = r->rflags, v->cr8 = r->cr8, v->xcr0 = r->xcr0, v->tsc_aux = r->tsc_aux;
}
static void inject(struct vcpu *v, const struct vcpu_event *e)
{
    machine_of(v->vm)->injected = *e;
    machine_of(v->vm)->n_injected++;
}
static void tsc_set(struct vcpu *v, uint64_t ratio, int64_t offset)
{
    machine_of(v->vm)->hw_tsc_ratio[v->index] = ratio;
    machine_of(v->vm)->hw_tsc_offset[v->index] = offset;
}
static enum hv_err msr_get(struct vcpu *v, uint32_t msr, uint64_t *val)
{
    if (msr == 0xc0000080)
        *val = regs_of(v)->efer;
    else if (msr == 0xc0000082)
        *val = regs_of(v)->lstar;
    else
        return HV_E_NOENT;
    return HV_OK;
}
static enum hv_err msr_set(struct vcpu *v, uint32_t msr, uint64_t val)
{
    if (msr == 0xc0000080)
        regs_of(v)->efer = val;
    else if (msr == 0xc0000082)
        regs_of(v)->lstar = val;
    else
        return HV_E_NOENT;
    return HV_OK;
}
static void paging_get(struct vcpu *v, uint64_t *cr0, uint64_t *cr3, uint64_t *cr4, uint64_t *efer, unsigned *cpl)
{
    const struct vcpu_regs *r = regs_of(v);
    *cr0 = r->cr0, *cr3 = r->cr3, *cr4 = r->cr4, *efer = r->efer;
    *cpl = r->seg[SEG_SS].ar >> 5 & 3;
}
static void dump(struct vcpu *v, struct printer *out) { (void)v, (void)out; }
static const struct cpu_ops ops = { .name = "fake",
                                    .vendor = 1,
                                    .vendor_name = "One",
                                    .microcode = 0x01000000,
                                    .regs_get = regs_get,
                                    .regs_set = regs_set,
                                    .inject = inject,
                                    .tsc_set = tsc_set,
                                    .msr_get = msr_get,
                                    .msr_set = msr_set,
                                    .paging_get = paging_get,
                                    .dump = dump };
const struct cpu_ops *cpu_ops = &ops;
const struct cpu_ops *cpu_ops_of_vendor(unsigned vendor) { return vendor == 1 ? &ops : NULL; }
struct cpu_caps cpu_caps;

/* ---- memory ---- */

bool guest_is_ram(const struct vm *vm, gpa_t a) { return a.v < vm->mem.size_bytes; }
static bool in_ram(const struct vm *vm, gpa_t a, size_t len)
{
    return a.v <= vm->mem.size_bytes && len <= vm->mem.size_bytes - a.v;
}
enum hv_err guest_read(const struct vm *vm, gpa_t a, void *buf, size_t len)
{
    fake_n_reads++;
    if (!in_ram(vm, a, len))
        return HV_E_RANGE;
    memcpy(buf, container_of(vm, struct machine, vm)->ram + a.v, len);
    return HV_OK;
}
enum hv_err guest_write(struct vm *vm, gpa_t a, const void *buf, size_t len)
{
    if (!in_ram(vm, a, len))
        return HV_E_RANGE;
    if (machine_of(vm)->host_is_full)
        return HV_E_NOMEM;
    fake_n_written += len;
    memcpy(machine_of(vm)->ram + a.v, buf, len);
    return HV_OK;
}
enum hv_err guest_xchg_u8(struct vm *vm, gpa_t a, uint8_t val, uint8_t *old)
{
    enum hv_err e = guest_read(vm, a, old, 1);
    return e ? e : guest_write(vm, a, &val, 1);
}
const void *guest_page(const struct vm *vm, uint64_t gfn)
{
    return gfn < vm->mem.size_bytes / PAGE_SIZE ? container_of(vm, struct machine, vm)->ram + gfn * PAGE_SIZE : NULL;
}
unsigned fake_n_marked;
void dirty_mark(struct vm *vm, uint64_t gfn)
{
    if (gfn >= vm->mem.size_bytes / PAGE_SIZE)
        abort();
    fake_n_marked++;
}
void *guest_page_for_dma(struct vm *vm, uint64_t gfn, bool write)
{
    return write && machine_of(vm)->host_is_full ? NULL : (void *)(uintptr_t)guest_page(vm, gfn);
}
enum hv_err guest_mem_splice_hidden(struct vm *vm, uint64_t at, uint64_t cut, uint64_t add)
{
    return vm && at + cut + add ? HV_E_NOMEM : HV_OK; /* for others to test */
}
unsigned guest_mem_drop(struct vm *vm, const uint64_t *block, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if ((block[i] + 1) * BLOCK_SIZE > vm->mem.size_bytes)
            abort();
        memset(machine_of(vm)->ram + block[i] * BLOCK_SIZE, 0, BLOCK_SIZE);
    }
    machine_of(vm)->n_dropped += n;
    return n;
}
enum hv_err guest_mem_fault(struct vm *vm, gpa_t a, bool write)
{
    (void)write;
    return guest_is_ram(vm, a) ? HV_OK : HV_E_RANGE;
}

/* ---- all together ---- */

void machine_init_bare(struct machine *m, unsigned n_vcpus, uint64_t ram_bytes)
{
    memset(m, 0, sizeof(*m));
    m->ram = mmap(NULL, ram_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m->ram == MAP_FAILED)
        abort();
    m->vm.mem.size_bytes = m->vm.mem.low_bytes = m->vm.config.memory_bytes = ram_bytes;
    strcpy(m->vm.config.name, "test");
    m->vm.config.pin = -1;
    m->vm.config.n_cpus = m->vm.n_vcpus = n_vcpus;
    for (unsigned i = 0; i < n_vcpus; i++) {
        struct vcpu *v = m->vm.vcpus[i] = &m->vcpu[i];
        v->vm = &m->vm;
        v->index = i;
        v->rflags = 2;
        v->xsave = aligned_alloc(64, 4096);
        memset(v->xsave, 0, 4096);
        vcpu_regs_reset(&m->regs[i]);
        regs_set(v, &m->regs[i]);
    }
    fake_running = NULL;
}

void machine_init(struct machine *m, unsigned n_vcpus, uint64_t ram_bytes)
{
    machine_init_bare(m, n_vcpus, ram_bytes);
    if (devices_create(&m->vm) != HV_OK)
        abort();
}

void machine_fini(struct machine *m)
{
    devices_destroy(&m->vm);
    for (unsigned i = 0; i < m->vm.n_vcpus; i++)
        free(m->vcpu[i].xsave);
    munmap(m->ram, m->vm.mem.size_bytes);
}

void machine_irq_set(struct machine *m, unsigned irq, bool level)
{
    spin_lock(&m->vm.dev_lock);
    devices_irq_set(&m->vm, irq, level);
    spin_unlock(&m->vm.dev_lock);
}
