/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_manage.c - the table of VMs and their life cycle.
 *
 * Memory is promised when a VM is built, and backed when the guest touches it.  A start or an arrival is refused unless
 * the promises of all VMs fit into free memory.  So a running guest never finds the page pool empty.
 *
 * Not here: moves (kernel/peers/), which use these functions, and who may start a guest (kernel/peers/start.c). */
#include "kernel/vm/vm_manage.h"

#include <stdio.h>
#include <string.h>
#include "kernel/core/cpu_baseline.h"
#include "kernel/core/cpu_ops.h"
#include "kernel/dev/devices.h"
#include "kernel/dev/lapic.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/random.h"
#include "kernel/host/x86/fpu.h"
#include "kernel/lib/log.h"
#include "kernel/run/sched.h"
#include "kernel/vm/boot_image.h"
#include "kernel/vm/elf_boot.h"
#include "kernel/vm/linux_boot.h"
#include "kernel/vm/vm_disk.h"
#include "net/net.h"

#define QUICK_RESET_US     2000000    /* a reset sooner after the start than this is quick */
#define QUICK_RESETS_MAX   5          /* a guest that makes so many quick resets in a row is stopped */
#define HOST_RESERVE_BYTES (32 * MIB) /* never promised to guests: tables, moves; net_memory_owed() */

static struct vm vms[VM_MAX];
static bool used[VM_MAX];             /* the slot has a VM, configured or arrived */
static const struct boot_info *files; /* borrowed for ever; [c] */
static vm_abort_move_fn *abort_move;  /* [c] */

_Static_assert(CONFIG_MAX_VMS <= VM_MAX, "every configured VM has a slot");
_Static_assert(VM_MAX_VCPUS <= UINT8_MAX, "an offer has one byte for the number of vCPUs");

struct vm *vm_at(unsigned i)
{
    ASSERT(i < VM_MAX);
    return used[i] ? &vms[i] : NULL;
}

struct vm *vm_find(const char *name)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        if (used[i] && !strcmp(vms[i].config.name, name))
            return &vms[i];
    return NULL;
}

void vm_manage_init(const struct boot_info *bi, vm_abort_move_fn *mover)
{
    ASSERT(bi && mover && !files);
    files = bi;
    abort_move = mover;
    for (unsigned i = 0; i < host_config->n_vms && i < VM_MAX; i++) {
        vms[i].config = host_config->vms[i];
        used[i] = true;
    }
}

/* ---- building and tearing down ---- */

uint64_t vm_memory_promised(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < VM_MAX; i++)
        if (used[i] && vm_state(&vms[i]) != VM_STOPPED)
            sum += vms[i].mem.size_bytes;
    return sum;
}

/* Free memory, less what is promised and not backed yet. */
uint64_t vm_memory_promisable(void)
{
    uint64_t owed = HOST_RESERVE_BYTES + net_memory_owed();
    for (unsigned i = 0; i < VM_MAX; i++) {
        if (!used[i] || vm_state(&vms[i]) == VM_STOPPED)
            continue;
        uint64_t backed = vms[i].mem.n_backed * BLOCK_SIZE;
        ASSERT(backed <= vms[i].mem.size_bytes);
        owed += vms[i].mem.size_bytes - backed;
    }
    uint64_t have = page_stats().free_blocks * BLOCK_SIZE;
    return have > owed ? have - owed : 0;
}

static void vcpu_teardown(struct vcpu *v)
{
    ASSERT(atomic_load(&v->state) == VCPU_FROZEN);
    sched_remove(v);
    mem_free(v->xsave, fpu_save_area_size);
    cpu_ops->vcpu_destroy(v);
}

/* Free all that vm_build() has made, or the part that it has made before an error.  Every vCPU FROZEN. */
static void vm_teardown(struct vm *vm)
{
    dirty_stop(vm);
    vm_disk_close(vm);
    devices_destroy(vm);
    while (vm->n_vcpus)
        vcpu_teardown(vm->vcpus[--vm->n_vcpus]);
    s2_fini(&vm->s2);
    guest_mem_fini(&vm->mem);
    atomic_store(&vm->power_request, VM_POWER_NONE);
    atomic_store(&vm->state, VM_STOPPED);
}

static enum hv_err vm_build_vcpu(struct vm *vm, unsigned index)
{
    ASSERT(index < VM_MAX_VCPUS && index == vm->n_vcpus);
    struct vcpu *v = cpu_ops->vcpu_create(vm, index);
    if (!v)
        return HV_FAIL(HV_E_NOMEM);
    ASSERT(v->vm == vm && v->index == index);
    v->xcr0 = 1;
    v->xsave = mem_alloc(fpu_save_area_size);
    enum hv_err e = v->xsave ? sched_add(v, vm->config.pin) : HV_E_NOMEM;
    if (e) {
        mem_free(v->xsave, fpu_save_area_size);
        cpu_ops->vcpu_destroy(v);
        return e;
    }
    fpu_area_init(v->xsave);
    vm->vcpus[vm->n_vcpus++] = v;
    return HV_OK;
}

static enum hv_err vm_build_parts(struct vm *vm)
{
    enum hv_err e = guest_mem_init_hidden(&vm->mem, vm->config.memory_bytes, vm->config.disk_bytes);
    if (!e)
        e = s2_init(&vm->s2, cpu_ops->s2_format);
    for (unsigned i = 0; !e && i < vm->config.n_cpus; i++)
        e = vm_build_vcpu(vm, i);
    if (!e)
        e = devices_create(vm);
    if (!e)
        vm_tsc_apply(vm);
    return e;
}

/* Create memory, tables, vCPUs (FROZEN, in power-on state) and devices for vm->config. */
static enum hv_err vm_build(struct vm *vm, struct why *why)
{
    ASSERT(vm_state(vm) == VM_STOPPED && !vm->n_vcpus && !vm->devices);
    uint64_t room = vm_memory_promisable();
    if (vm->config.memory_bytes + vm->config.disk_bytes > room)
        return REFUSE(HV_E_NOMEM,
                      "%s needs %lu MiB, this host can promise %lu MiB: stop another guest or give the "
                      "host more memory",
                      vm->config.name, (vm->config.memory_bytes + vm->config.disk_bytes) / MIB, room / MIB);
    atomic_store(&vm->power_request, VM_POWER_NONE);
    vm->crash_reason[0] = 0;
    enum hv_err e = vm_build_parts(vm);
    if (!e)
        return HV_OK;
    vm_teardown(vm);
    return REFUSE(e, "%s could not be built: %s", vm->config.name, hv_err_text(e));
}

/* ---- start, stop, pause, resume ---- */

/* The file of this name on the boot disk, as a module. */
static enum hv_err boot_module_find(const struct vm *vm, const char *name, const char *string, struct boot_module *out,
                                    struct why *why)
{
    const struct boot_file *f = boot_file_find(files, name);
    if (!f)
        return REFUSE(HV_E_NOENT, "%s: file \\godwit\\%s is not on this host's boot disk", vm->config.name, name);
    *out = (struct boot_module){ (const uint8_t *)(uintptr_t)f->base, f->len, string };
    return HV_OK;
}

static enum hv_err boot_image_find(const struct vm *vm, struct boot_image *b, struct why *why)
{
    const struct vm_config *c = &vm->config;
    struct boot_module kernel;
    char file[CONFIG_PATH_LEN];
    const char *string;
    enum hv_err e = boot_module_find(vm, c->kernel, "", &kernel, why);
    if (e)
        return e;
    *b = (struct boot_image){ .kernel = kernel.data, .kernel_len = kernel.len, .cmdline = c->cmdline };
    if (c->initrd[0])
        e = boot_module_find(vm, c->initrd, "", &b->module[b->n_modules++], why);
    for (const char *m = NULL; !e && (m = config_module_next(c, m, file, &string));) {
        ASSERT(b->n_modules < ARRAY_SIZE(b->module));
        e = boot_module_find(vm, file, string, &b->module[b->n_modules++], why);
    }
    return e;
}

static enum hv_err kernel_load(struct vm *vm, struct why *why)
{
    static struct vcpu_regs regs; /* large; service pCPU only */
    struct boot_image b;
    enum hv_err e = boot_image_find(vm, &b, why);
    if (e)
        return e;
    cpu_ops->regs_get(vm->vcpus[0], &regs);
    e = (elf_boot_takes(b.kernel, b.kernel_len) ? elf_boot_load : linux_boot_load)(vm, &b, &regs, why);
    if (!e)
        cpu_ops->regs_set(vm->vcpus[0], &regs);
    return e;
}

/* Find the file that a ram: disk starts from; the disk gets its size, rounded up to a block.  *out: NULL without. */
static enum hv_err disk_file_find(struct vm *vm, const struct boot_file **out, struct why *why)
{
    struct vm_config *c = &vm->config;
    *out = c->disk_file[0] ? boot_file_find(files, c->disk_file) : NULL;
    if (c->disk_file[0] && !*out)
        return REFUSE(HV_E_NOENT, "%s: file \\godwit\\%s, its disk, is not on this host's boot disk", c->name,
                      c->disk_file);
    if (*out)
        c->disk_bytes = ALIGN_UP((*out)->len, BLOCK_SIZE);
    return HV_OK;
}

/* Copy f to vm's ram: disk.  Pages of zeros are skipped: they read as zero without memory. */
static enum hv_err ramdisk_fill(struct vm *vm, const struct boot_file *f)
{
    static const uint8_t zero[PAGE_SIZE];
    ASSERT(!f || f->len <= vm->config.disk_bytes);
    const uint8_t *from = f ? (const uint8_t *)(uintptr_t)f->base : NULL;
    for (uint64_t off = 0; f && off < f->len; off += PAGE_SIZE) {
        size_t n = MIN(PAGE_SIZE, f->len - off);
        enum hv_err e =
            memcmp(from + off, zero, n) ? guest_write(vm, guest_hidden(&vm->mem, off), from + off, n) : HV_OK;
        if (e)
            return e;
    }
    return HV_OK;
}

enum hv_err vm_start(struct vm *vm, struct why *why)
{
    if (vm_state(vm) != VM_STOPPED)
        return REFUSE(HV_E_BUSY, "%s is %s; only a stopped guest can be started", vm->config.name,
                      vm_state_name(vm_state(vm)));
    const struct boot_file *disk = NULL;
    enum hv_err e = cpu_baseline_check(&vm->config, cpuid_host, why);
    if (!e)
        e = disk_file_find(vm, &disk, why);
    if (!e)
        e = vm_build(vm, why);
    if (e)
        return e;
    atomic_store(&vm->state, VM_PAUSED);
    random_bytes(vm->uuid, sizeof(vm->uuid));
    e = kernel_load(vm, why);
    if (!e)
        e = ramdisk_fill(vm, disk);
    if (!e)
        e = vm_disk_open(vm);
    if (e) {
        vm_teardown(vm);
        return e;
    }
    vm->started_us = clock_us();
    vm->quick_resets = 0;
    if (!vm->disk.waiting) /* else vm_disk_step() runs it, once the disk is open */
        vm_resume(vm);
    log_info("vm", "%s: started, %lu MiB, %u vCPU(s), first guest instruction follows at TSC %lu", vm->config.name,
             vm->config.memory_bytes / MIB, vm->n_vcpus, tsc_read());
    return HV_OK;
}

bool vm_pause(struct vm *vm)
{
    bool frozen = true;
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        frozen &= sched_freeze(vm->vcpus[i]);
    if (frozen && vm_state(vm) == VM_RUNNING)
        atomic_store(&vm->state, VM_PAUSED);
    return frozen;
}

void vm_resume(struct vm *vm)
{
    ASSERT(vm_state(vm) == VM_PAUSED || vm_state(vm) == VM_INCOMING || vm_state(vm) == VM_RUNNING);
    ASSERT(vm->n_vcpus && vm->devices);
    atomic_store(&vm->state, VM_RUNNING);
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        sched_thaw(vm->vcpus[i]);
}

void vm_stop(struct vm *vm)
{
    if (vm_state(vm) == VM_STOPPED)
        return;
    while (!vm_pause(vm)) /* ends: every pCPU leaves its guest at the kick */
        __builtin_ia32_pause();
    vm_teardown(vm);
}

void vm_incoming_check(const struct vm_offer *offer, reason_fn *add, void *ctx)
{
    char text[120];
    const struct vm *vm = vm_find(offer->config.name);
    unsigned n_used = 0;
    for (unsigned i = 0; i < VM_MAX; i++)
        n_used += used[i];
    if (vm && vm_state(vm) != VM_STOPPED) {
        snprintf(text, sizeof(text), "a guest named %s is %s here", vm->config.name, vm_state_name(vm_state(vm)));
        add(ctx, text);
    } else if (!vm && n_used == VM_MAX) {
        snprintf(text, sizeof(text), "this host knows %u guests already, which is its limit", VM_MAX);
        add(ctx, text);
    }
}

/* The VM of this name, or a free slot.  NULL: the table is full. */
static struct vm *vm_slot_find(const char *name)
{
    struct vm *vm = vm_find(name);
    for (unsigned i = 0; !vm && i < VM_MAX; i++)
        if (!used[i]) {
            used[i] = true;
            memset(&vms[i], 0, sizeof(vms[i]));
            vm = &vms[i];
        }
    return vm;
}

enum hv_err vm_incoming_create(const struct vm_offer *offer, struct disk *disk, struct vm **out, struct why *why)
{
    struct vm *vm = vm_slot_find(offer->config.name);
    if (!vm)
        return REFUSE(HV_E_NOMEM, "this host knows %u guests already, which is its limit", VM_MAX);
    if (vm_state(vm) != VM_STOPPED)
        return REFUSE(HV_E_BUSY, "a guest named %s is %s here", vm->config.name, vm_state_name(vm_state(vm)));
    struct vm_config local = vm->config;
    enum hv_err e = vm_offer_adopt(vm, offer);
    if (local.name[0]) { /* configured here too: files, autostart, on-shutdown and pin are this host's */
        memcpy(vm->config.kernel, local.kernel, sizeof(local.kernel));
        memcpy(vm->config.initrd, local.initrd, sizeof(local.initrd));
        memcpy(vm->config.modules, local.modules, sizeof(local.modules));
        memcpy(vm->config.disk_file, local.disk_file, sizeof(local.disk_file));
        vm->config.autostart = local.autostart;
        vm->config.on_shutdown = local.on_shutdown;
        vm->config.pin = local.pin;
    }
    if (!e)
        e = vm_build(vm, why);
    if (e)
        return e;
    vm_disk_adopt(vm, disk);
    atomic_store(&vm->state, VM_INCOMING);
    *out = vm;
    return HV_OK;
}

/* ---- power requests of guests ---- */

static void vm_crash(struct vm *vm)
{
    while (!vm_pause(vm))
        __builtin_ia32_pause();
    ASSERT(vm_state(vm) == VM_PAUSED);
    atomic_store(&vm->state, VM_CRASHED);
    atomic_store(&vm->power_request, VM_POWER_NONE);
}

/* A guest that triple-faults after each start must not fill the log and use up a processor.  So after some quick resets
 * it is stopped, and its last state is kept. */
static void vm_reset(struct vm *vm)
{
    char why[200];
    unsigned quick = clock_us() - vm->started_us < QUICK_RESET_US ? vm->quick_resets + 1 : 0;
    if (quick >= QUICK_RESETS_MAX) {
        snprintf(vm->crash_reason, sizeof(vm->crash_reason),
                 "reset itself %u times in a row, each within %u s of its start", quick, QUICK_RESET_US / 1000000);
        log_error("vm", "%s: %s; not started again", vm->config.name, vm->crash_reason);
        vm_crash(vm);
        return;
    }
    vm_stop(vm);
    if (vm_start(vm, WHY(why)) != HV_OK)
        log_error("vm", "%s asked for a reset and cannot be started again: %s", vm->config.name, why);
    vm->quick_resets = quick;
}

static void power_request_handle(struct vm *vm, enum vm_power what)
{
    if (!abort_move(vm->config.name, "the guest powered off, was reset or crashed"))
        return; /* the destination may run the guest already: the move decides */
    switch (what) {
    case VM_POWER_NONE: break;
    case VM_POWER_OFF:
        log_info("vm", "%s: powered itself off", vm->config.name);
        vm_stop(vm);
        break;
    case VM_POWER_RESET:
        log_info("vm", "%s: resets itself", vm->config.name);
        vm_reset(vm);
        break;
    case VM_POWER_CRASH: vm_crash(vm); break;
    }
}

bool vm_manage_step(void)
{
    bool acted = false;
    for (unsigned i = 0; i < VM_MAX; i++) {
        enum vm_power what = used[i] ? (enum vm_power)atomic_load(&vms[i].power_request) : VM_POWER_NONE;
        if (what == VM_POWER_NONE || vm_state(&vms[i]) != VM_RUNNING)
            continue;
        acted = true;
        /* The console takes the guest's last output first, in the next turn.  The guest does not run meanwhile. */
        if (!uart_has_output(&vms[i]))
            power_request_handle(&vms[i], what);
    }
    return acted;
}

/* ---- inspection ---- */

static void vcpu_inspect(struct vcpu *v, struct printer *out)
{
    static const char *const states[] = { "frozen", "runnable", "running" };
    _Static_assert(ARRAY_SIZE(states) == VCPU_RUNNING + 1, "one name per enum vcpu_state");
    print_line(out, "vCPU %u: pCPU %u, %s%s, rip 0x%lx rflags 0x%lx, guest time %lu ms", v->index, v->pcpu,
               states[atomic_load(&v->state)], v->halted ? ", halted" : "", v->rip, v->rflags,
               clock_tsc_to_us(v->guest_tsc_ticks) / 1000);
    print_line(out, "  pending interrupt %d, in service %d, requests 0x%x, timer due %s", lapic_pending(v),
               lapic_in_service(v), atomic_load(&v->requests), lapic_timer_deadline(v) ? "yes" : "no");
    print_line(out, "  longest kept out %lu us, timer late by %lu us", clock_tsc_to_us(v->out_max),
               clock_tsc_to_us(v->late_max));
    for (unsigned k = 0; k < VCPU_EXIT_COUNT; k++)
        if (v->n_exits[k])
            print_line(out, "  exits %-14s %10lu  %6lu ticks each", vcpu_exit_names[k], v->n_exits[k],
                       v->exit_tsc[k] / v->n_exits[k]);
    cpu_ops->dump(v, out);
}

void vm_inspect(struct vm *vm, struct printer *out)
{
    print_line(out, "%s: %s%s%s", vm->config.name, vm_state_name(vm_state(vm)), vm->crash_reason[0] ? ": " : "",
               vm->crash_reason);
    if (vm_state(vm) == VM_STOPPED)
        return;
    print_line(out, "memory %lu MiB, backed %lu MiB, %s tables %lu, blocks whole %lu split %lu",
               vm->mem.size_bytes / MIB, vm->mem.n_backed * BLOCK_SIZE / MIB, vm->s2.fmt->name, vm->s2.n_tables,
               vm->s2.n_large, vm->s2.n_split);
    print_line(out, "dirty log %s, faults %lu, harvests %lu in %lu us", atomic_load(&vm->dirty.on) ? "on" : "off",
               vm->dirty.n_faults, vm->dirty.n_harvests, vm->dirty.harvest_us);
    vdev_describe(vm, out);
    vm_disk_describe(vm, out);
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        vcpu_inspect(vm->vcpus[i], out);
}
