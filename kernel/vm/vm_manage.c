/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_manage.c - the table of VMs and their life cycle.
 *
 * Memory is promised when a VM is built, and backed when the guest touches it: vm_memory.h.
 *
 * Not here: moves (kernel/peers/), which use these functions, and who may start a guest (kernel/peers/start.c). */
#include "kernel/vm/vm_manage.h"

#include <stdio.h>
#include <string.h>
#include "kernel/core/cpu_baseline.h"
#include "kernel/core/cpu_ops.h"
#include "kernel/dev/devices.h"
#include "kernel/dev/lapic.h"
#include "kernel/dev/pvclock.h"
#include "kernel/dev/vdev_balloon.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/panic.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/random.h"
#include "kernel/host/x86/fpu.h"
#include "kernel/lib/log.h"
#include "kernel/run/sched.h"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/boot_store.h"
#include "kernel/vm/elf_boot.h"
#include "kernel/vm/guest_console.h"
#include "kernel/vm/guest_net.h"
#include "kernel/vm/linux_boot.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_mac.h"
#include "kernel/vm/vm_memory.h"
#include "kernel/vm/vm_usage.h"

#define QUICK_RESET_US   2000000 /* a reset sooner after the start than this is quick */
#define QUICK_RESETS_MAX 5       /* a guest that makes so many quick resets in a row is stopped */

static struct vm *vms[VM_MAX]; /* owned; made when its slot is first used, and then kept: see vm_slot() */
static bool used[VM_MAX];      /* the slot has a VM, configured or arrived */
static unsigned n_slots;       /* none was ever used from here on */
static struct stay {           /* what a guest was before an arrival of its name, or of a new one, took its slot */
    struct vm_config config;
    struct boot_set boot;
    uint8_t uuid[16];
    bool arrived;
} *before[VM_MAX];                   /* owned; NULL unless a guest arrives in the slot */
static vm_abort_move_fn *abort_move; /* [c] */

_Static_assert(CONFIG_MAX_VMS <= VM_MAX, "every configured VM has a slot");
_Static_assert(VM_MAX_VCPUS <= UINT8_MAX, "an offer has one byte for the number of vCPUs");

struct vm *vm_at(unsigned i)
{
    ASSERT(i < VM_MAX);
    return used[i] ? vms[i] : NULL;
}

unsigned vm_slots(void) { return n_slots; }

/* An empty VM in slot i, which was not used.  NULL: no memory. */
static struct vm *slot_use(unsigned i)
{
    ASSERT(!used[i]);
    if (!vms[i])
        vms[i] = mem_alloc(sizeof(*vms[i]));
    if (!vms[i])
        return NULL;
    *vms[i] = (struct vm){ .slot = i };
    used[i] = true;
    n_slots = MAX(n_slots, i + 1);
    return vms[i];
}

unsigned vm_slot(const struct vm *vm)
{
    ASSERT(vm->slot < VM_MAX && vms[vm->slot] == vm);
    return vm->slot;
}

struct vm *vm_find(const char *name)
{
    for (unsigned i = 0; i < n_slots; i++)
        if (used[i] && !strcmp(vms[i]->config.name, name))
            return vms[i];
    return NULL;
}

void vm_manage_init(const struct boot_info *bi, vm_abort_move_fn *mover)
{
    ASSERT(bi && mover && !abort_move);
    boot_files_init(bi);
    boot_store_init();
    abort_move = mover;
    for (unsigned i = 0; i < host_config->n_vms && i < VM_MAX; i++) {
        struct vm *vm = slot_use(i);
        if (!vm)
            panic("no memory for the guests of godwit.conf");
        vm->defined = &host_config->vms[i];
        vm->config = *vm->defined;
    }
}

/* ---- building and tearing down ---- */

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
    vm->move_hash_bytes = 0;
    atomic_store(&vm->power_request, VM_POWER_NONE);
    vm->operator_paused = false;
    atomic_store(&vm->state, VM_STOPPED);
}

static enum hv_err vm_build_vcpu(struct vm *vm, unsigned index)
{
    ASSERT(index < VM_MAX_VCPUS && index == vm->n_vcpus);
    struct vcpu *v = cpu_ops->vcpu_create(vm, index);
    if (!v)
        return HV_FAIL(HV_E_NOMEM);
    ASSERT(v->vm == vm && v->index == index);
    int pin = vm->config.pin;
    if (vm->arrived && pin >= 0 && !sched_may_run_guests((unsigned)pin))
        pin = -1; /* another host's CPU: not for guests here */
    v->xcr0 = 1;
    v->xsave = mem_alloc(fpu_save_area_size);
    enum hv_err e = v->xsave ? sched_add(v, pin) : HV_E_NOMEM;
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
    enum hv_err e =
        guest_mem_init_hidden(&vm->mem, vm->config.memory_bytes, config_ram_disk_at(&vm->config, vm->config.n_disks));
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

/* Can the memory of vm->config be promised?  held_bytes: memory that will be part of it, and is not free now. */
static enum hv_err vm_memory_check(const struct vm *vm, uint64_t held_bytes, struct why *why)
{
    uint64_t room = vm_memory_promisable() + held_bytes, need = vm_memory_needed(&vm->config, vm->boot.n_pages);
    if (need <= room)
        return HV_OK;
    return REFUSE(HV_E_NOMEM,
                  "%s needs %lu MiB with the tables of a move, this host can promise %lu MiB: stop another guest "
                  "or give the host more memory",
                  vm->config.name, DIV_ROUND_UP(need, MIB), room / MIB);
}

/* Create memory, tables, vCPUs (FROZEN, in power-on state) and devices for vm->config.  held_bytes: memory that will be
 * part of it, and is not free now. */
static enum hv_err vm_build(struct vm *vm, uint64_t held_bytes, struct why *why)
{
    ASSERT(vm_state(vm) == VM_STOPPED && !vm->n_vcpus && !vm->devices);
    enum hv_err e = vm_memory_check(vm, held_bytes, why);
    if (e)
        return e;
    atomic_store(&vm->power_request, VM_POWER_NONE);
    vm->crash_reason[0] = 0;
    e = vm_build_parts(vm);
    if (!e)
        return HV_OK;
    vm_teardown(vm);
    return REFUSE(e, "%s could not be built: %s", vm->config.name, hv_err_text(e));
}

/* ---- start, stop, pause, resume ---- */

/* Files that vm would find again at its next start are not kept in memory for it. */
static void boot_files_leave(struct vm *vm)
{
    if (!vm->arrived)
        boot_set_drop(&vm->boot);
}

static enum hv_err kernel_load(struct vm *vm, struct why *why)
{
    static struct vcpu_regs regs; /* large; service pCPU only */
    struct boot_image b;
    boot_set_image(&vm->boot, &vm->config, &b);
    cpu_ops->regs_get(vm->vcpus[0], &regs);
    enum hv_err e = (elf_boot_takes(b.kernel, b.kernel_len) ? elf_boot_load : linux_boot_load)(vm, &b, &regs, why);
    if (!e)
        cpu_ops->regs_set(vm->vcpus[0], &regs);
    return e;
}

/* Contents of ram: disks; [i]: of config.disk[i], NULL: blank, or another disk. */
struct ram_contents {
    struct boot_blob *file[CONFIG_MAX_DISKS];
};

/* What vm is started from: what it brought along, or the files that godwit.conf names.  A ram: disk gets the size of
 * its file, rounded up to a block. */
static enum hv_err boot_files_get(struct vm *vm, struct ram_contents *disks, struct why *why)
{
    bool damaged;
    *disks = (struct ram_contents){ 0 };
    enum hv_err recalled = vm->arrived ? boot_set_recall_step(&vm->boot, why) : HV_OK;
    if (recalled == HV_E_NOENT)
        return recalled;
    if (recalled || (vm->arrived && !boot_set_check_step(&vm->boot, &damaged)))
        return REFUSE(HV_E_BUSY, "the files that %s came with are still being checked: try again in a moment",
                      vm->config.name);
    if (vm->arrived && !vm->boot.n)
        return REFUSE(HV_E_NOENT, "%s came without the files that it starts from: define it here by `vm define`",
                      vm->config.name);
    if (vm->arrived)
        return HV_OK;
    enum hv_err e = boot_set_find(&vm->config, &vm->boot, why);
    for (unsigned i = 0; !e && i < vm->config.n_disks; i++) {
        e = boot_disk_find(&vm->config, i, &disks->file[i], why);
        if (!e && disks->file[i])
            vm->config.disk[i].bytes = ALIGN_UP(disks->file[i]->len, BLOCK_SIZE);
    }
    return e;
}

/* Copy f to vm's ram: disk that begins at that offset of its hidden memory.  Pages of zeros are skipped: they read as
 * zero without memory. */
static enum hv_err ramdisk_fill(struct vm *vm, uint64_t at, const struct boot_blob *f)
{
    static const uint8_t zero[PAGE_SIZE];
    for (uint64_t off = 0; off < f->len; off += PAGE_SIZE) {
        const uint8_t *from = f->data + off;
        size_t n = MIN(PAGE_SIZE, f->len - off);
        enum hv_err e = memcmp(from, zero, n) ? guest_write(vm, guest_hidden(&vm->mem, at + off), from, n) : HV_OK;
        if (e)
            return e;
    }
    return HV_OK;
}

static enum hv_err ramdisks_fill(struct vm *vm, const struct ram_contents *disks)
{
    enum hv_err e = HV_OK;
    for (unsigned i = 0; !e && i < vm->config.n_disks; i++)
        if (disks->file[i])
            e = ramdisk_fill(vm, config_ram_disk_at(&vm->config, i), disks->file[i]);
    return e;
}

/* Build vm and load its files.  On an error vm is STOPPED.  disks: what its ram: disks begin with; NULL with kept: its
 * memory before a reset, of which the disks are left. */
static enum hv_err vm_boot(struct vm *vm, const struct ram_contents *disks, struct guest_mem *kept, struct why *why)
{
    enum hv_err e = vm_build(vm, kept ? kept->n_backed * BLOCK_SIZE : 0, why);
    if (e)
        return e;
    atomic_store(&vm->state, VM_PAUSED);
    e = kernel_load(vm, why);
    if (!e)
        e = kept ? guest_mem_take_hidden(vm, kept) : ramdisks_fill(vm, disks);
    if (!e)
        e = vm_disk_open(vm, why);
    if (e) {
        vm_teardown(vm);
        return e;
    }
    vm->started_us = clock_us();
    if (!vm->disks.waiting) /* else vm_disk_step() runs it, once the disks are open */
        vm_resume(vm);
    log_info("vm", "%s: started, %lu MiB, %u vCPU(s), first guest instruction follows at TSC %lu", vm->config.name,
             vm->config.memory_bytes / MIB, vm->n_vcpus, tsc_read());
    return HV_OK;
}

/* Forget what vm was: it is again what its definition says, or its slot is free. */
static void vm_forget(struct vm *vm)
{
    ASSERT(vm_state(vm) == VM_STOPPED);
    vm->arrived = vm->redefined = false;
    boot_set_drop(&vm->boot);
    vm->crash_reason[0] = '\0';
    if (vm->defined)
        vm->config = *vm->defined;
    else
        used[vm_slot(vm)] = false;
}

/* vm_start_check(), and what vm's ram: disks begin with. */
static enum hv_err vm_start_prepare(struct vm *vm, struct ram_contents *disks, struct why *why)
{
    if (vm_state(vm) != VM_STOPPED)
        return REFUSE(HV_E_BUSY, "%s is %s; only a stopped guest can be started", vm->config.name,
                      vm_state_name(vm_state(vm)));
    if (vm_disk_moving(vm) >= 0)
        return REFUSE(HV_E_BUSY, "the disk vd%c of %s is being copied to another place: wait for that, or cancel it",
                      'a' + vm_disk_moving(vm), vm->config.name);
    if (vm->redefined)
        vm_forget(vm);
    enum hv_err e = cpu_baseline_check(&vm->config, cpuid_host, why);
    if (!e)
        e = vm_mac_check(&vm->config, why);
    if (!e)
        e = boot_files_get(vm, disks, why);
    if (!e)
        e = vm_disk_check(&vm->config, why);
    return e ? e : vm_memory_check(vm, 0, why);
}

enum hv_err vm_start_check(struct vm *vm, struct why *why)
{
    struct ram_contents disks;
    enum hv_err e = vm_start_prepare(vm, &disks, why);
    vm_files_leave(vm); /* those of a guest that is up are for its reset */
    return e;
}

enum hv_err vm_start(struct vm *vm, struct why *why)
{
    struct ram_contents disks;
    enum hv_err e = vm_start_prepare(vm, &disks, why);
    if (e) {
        vm_files_leave(vm);
        return e;
    }
    if (vm->arrived && config_ram_disk_at(&vm->config, vm->config.n_disks))
        log_warn("vm", "%s: its ram: disk is blank: what was on it was lost when it stopped here", vm->config.name);
    if (!vm->arrived)
        boot_files_say(&vm->config);
    random_bytes(vm->uuid, sizeof(vm->uuid));
    vm->here_us = clock_us();
    vm->quick_resets = 0;
    e = vm_boot(vm, &disks, NULL, why);
    if (e)
        boot_files_leave(vm);
    return e;
}

enum hv_err vm_files_get(struct vm *vm, struct why *why)
{
    struct ram_contents disks;
    ASSERT(vm_state(vm) == VM_STOPPED);
    return vm_files_pending(vm) ? HV_E_AGAIN : boot_files_get(vm, &disks, why);
}

void vm_files_leave(struct vm *vm)
{
    if (vm_state(vm) == VM_STOPPED)
        boot_files_leave(vm);
}

bool vm_files_pending(struct vm *vm)
{
    bool damaged;
    char why[300];
    return vm->arrived &&
           (boot_set_recall_step(&vm->boot, WHY(why)) == HV_E_AGAIN || !boot_set_check_step(&vm->boot, &damaged));
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

/* The arrival in vm's slot has come to stay. */
static void stay_drop(const struct vm *vm)
{
    struct stay *was = before[vm_slot(vm)];
    if (was)
        boot_set_drop(&was->boot);
    mem_free(was, sizeof(*was));
    before[vm_slot(vm)] = NULL;
}

void vm_resume(struct vm *vm)
{
    ASSERT(vm_state(vm) == VM_PAUSED || vm_state(vm) == VM_INCOMING || vm_state(vm) == VM_RUNNING);
    ASSERT(vm->n_vcpus && vm->devices);
    if (vm_state(vm) == VM_INCOMING) {
        vm->here_us = clock_us();
        stay_drop(vm);
    }
    if (vm->operator_paused) {
        ASSERT(vm_state(vm) != VM_RUNNING);
        atomic_store(&vm->state, VM_PAUSED);
        return;
    }
    if (vm_state(vm) == VM_PAUSED || vm_state(vm) == VM_INCOMING)
        pvclock_guest_stopped(vm);
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
    boot_files_leave(vm);
    vm_teardown(vm);
    if (vm->redefined || (vm->arrived && !vm->boot.n)) /* it could not be started again */
        vm_forget(vm);
}

void vm_defined_set(struct vm *vm, const struct vm_config *c)
{
    vm->defined = c;
    vm->redefined = true;
    if (vm_state(vm) == VM_STOPPED)
        vm_forget(vm);
}

void vm_incoming_check(const struct vm_offer *offer, reason_fn *add, void *ctx)
{
    char text[200];
    const struct vm *vm = vm_find(offer->config.name);
    unsigned n_used = 0;
    for (unsigned i = 0; i < n_slots; i++)
        n_used += used[i];
    if (vm && vm_state(vm) != VM_STOPPED) {
        snprintf(text, sizeof(text), "a guest named %s is %s here", vm->config.name, vm_state_name(vm_state(vm)));
        add(ctx, text);
    } else if (!vm && n_used == VM_MAX) {
        snprintf(text, sizeof(text), "this host knows %u guests already, which is its limit", VM_MAX);
        add(ctx, text);
    }
    if (vm_mac_check(&offer->config, WHY(text)) != HV_OK)
        add(ctx, text);
}

struct vm *vm_slot_get(const char *name, struct why *why)
{
    struct vm *vm = vm_find(name);
    unsigned i = 0;
    while (i < VM_MAX && used[i])
        i++;
    if (vm)
        return vm;
    vm = i < VM_MAX ? slot_use(i) : NULL;
    if (vm)
        guest_console_begin(vm); /* what the slot's last guest said is not this one's */
    else if (i == VM_MAX)
        why_say(why, "this host knows %u guests already, which is its limit", VM_MAX);
    else
        why_say(why, "no memory for one more guest");
    return vm;
}

void vm_slot_put(struct vm *vm) { used[vm_slot(vm)] = vm->config.name[0] != '\0'; }

/* The arrival in vm's slot ended before it ran: the slot is again what it was. */
static void vm_arrival_undo(struct vm *vm)
{
    struct stay *was = before[vm_slot(vm)];
    ASSERT(vm_state(vm) == VM_STOPPED && was);
    vm->config = was->config;
    boot_set_drop(&vm->boot);
    vm->boot = was->boot;
    was->boot = (struct boot_set){ 0 };
    vm->arrived = was->arrived;
    memcpy(vm->uuid, was->uuid, sizeof(vm->uuid));
    stay_drop(vm);
    if (vm->redefined)
        vm_forget(vm);
    vm_slot_put(vm);
}

enum hv_err vm_incoming_create(const struct vm_offer *offer, struct disk *disk[CONFIG_MAX_DISKS], struct boot_set *boot,
                               struct vm **out, struct why *why)
{
    struct vm *vm = vm_slot_get(offer->config.name, why);
    if (!vm)
        return HV_FAIL(HV_E_NOMEM);
    if (vm_state(vm) != VM_STOPPED)
        return REFUSE(HV_E_BUSY, "a guest named %s is %s here", vm->config.name, vm_state_name(vm_state(vm)));
    struct stay *was = before[vm_slot(vm)] = mem_alloc(sizeof(*was));
    if (!was) {
        vm_slot_put(vm);
        return REFUSE(HV_E_NOMEM, "no memory for one more guest");
    }
    *was = (struct stay){ .config = vm->config, .boot = vm->boot, .arrived = vm->arrived };
    memcpy(was->uuid, vm->uuid, sizeof(was->uuid));
    vm->arrived = true;
    vm->boot = *boot;
    *boot = (struct boot_set){ 0 };
    vm->quick_resets = 0;
    enum hv_err e = vm_offer_adopt(vm, offer);
    if (!e && !offer->stopped)
        e = vm_build(vm, 0, why);
    if (e) {
        devices_destroy(vm); /* the CPUID table, where nothing was built */
        vm_arrival_undo(vm);
        return e;
    }
    vm_disk_adopt(vm, disk);
    atomic_store(&vm->state, VM_INCOMING);
    *out = vm;
    return HV_OK;
}

void vm_incoming_drop(struct vm *vm)
{
    ASSERT(vm_state(vm) == VM_INCOMING);
    while (!vm_pause(vm))
        __builtin_ia32_pause();
    vm_teardown(vm);
    vm_arrival_undo(vm);
}

void vm_incoming_rest(struct vm *vm)
{
    ASSERT(vm_state(vm) == VM_INCOMING && !vm_is_built(vm));
    stay_drop(vm);
    vm_teardown(vm);
    vm->crash_reason[0] = '\0';
    if (vm->redefined) /* meanwhile */
        vm_forget(vm);
}

struct vm *vm_recall(const struct vm_config *c, const uint8_t uuid[16], const struct boot_want *want, unsigned n)
{
    struct boot_set boot = { 0 };
    char why[100];
    struct vm *vm = vm_find(c->name);
    if ((vm && vm_state(vm) != VM_STOPPED) || boot_set_recall(&boot, want, n))
        return NULL;
    vm = vm_slot_get(c->name, WHY(why));
    if (!vm) {
        boot_set_drop(&boot);
        return NULL;
    }
    boot_set_drop(&vm->boot);
    vm->config = *c;
    vm->boot = boot;
    vm->arrived = true;
    memcpy(vm->uuid, uuid, sizeof(vm->uuid));
    return vm;
}

void vm_left(struct vm *vm)
{
    vm_stop(vm);
    vm_forget(vm);
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

/* Why vm cannot be started again after a reset, in its crash_reason.  False: it can. */
static bool vm_reset_refused(struct vm *vm, unsigned quick)
{
    if (quick >= QUICK_RESETS_MAX)
        snprintf(vm->crash_reason, sizeof(vm->crash_reason),
                 "reset itself %u times in a row, each within %u s of its start", quick, QUICK_RESET_US / 1000000);
    else if (!vm->boot.n)
        snprintf(vm->crash_reason, sizeof(vm->crash_reason),
                 "asked for a reset, and its boot files are not on this host: stop it and start it where they are");
    else
        return false;
    return true;
}

/* A disk that was moving to or from memory has, or has no more, what the configuration says. */
static enum hv_err ram_disks_settle(struct vm *vm)
{
    enum hv_err e = HV_OK;
    for (unsigned i = 0; !e && i < CONFIG_MAX_DISKS; i++)
        e = disk_ram_resize(vm, i, config_ram_disk_bytes(&vm->config, i));
    return e;
}

static uint64_t balloon_target(struct vm *vm)
{
    spin_lock(&vm->dev_lock);
    struct balloon_state b = vdev_balloon_state(vm);
    spin_unlock(&vm->dev_lock);
    return b.target_bytes;
}

static void balloon_target_set(struct vm *vm, uint64_t bytes)
{
    spin_lock(&vm->dev_lock);
    vdev_balloon_target(vm, bytes);
    spin_unlock(&vm->dev_lock);
}

/* Tear vm down and boot it again from the same files.  As in a real machine its RAM is lost, and its disk is not, be it
 * in memory.  The promise of its memory stands meanwhile: nothing else runs here. */
static enum hv_err vm_reboot(struct vm *vm, struct why *why)
{
    while (!vm_pause(vm))
        __builtin_ia32_pause();
    enum hv_err e = ram_disks_settle(vm);
    if (e) {
        vm_teardown(vm);
        return REFUSE(e, "%s could not be built: %s", vm->config.name, hv_err_text(e));
    }
    struct guest_mem kept = vm->mem;
    uint64_t target = balloon_target(vm);
    vm->mem = (struct guest_mem){ 0 };
    vm_teardown(vm);
    (void)guest_mem_drop_visible(&kept);
    e = vm_boot(vm, NULL, &kept, why);
    guest_mem_fini(&kept);
    if (!e)
        balloon_target_set(vm, target);
    return e;
}

/* A guest that triple-faults after each start must not fill the log and use up a processor.  So after some quick resets
 * it is stopped, and its last state is kept.  So is that of a guest that cannot be started again. */
static void vm_reset(struct vm *vm)
{
    char why[200];
    unsigned quick = clock_us() - vm->started_us < QUICK_RESET_US ? vm->quick_resets + 1 : 0;
    if (vm_reset_refused(vm, quick)) {
        log_error("vm", "%s: %s; not started again", vm->config.name, vm->crash_reason);
        vm_crash(vm);
        return;
    }
    vm->quick_resets = quick;
    if (vm_reboot(vm, WHY(why)) == HV_OK)
        return;
    log_error("vm", "%s asked for a reset and cannot be started again: %s", vm->config.name, why);
    snprintf(vm->crash_reason, sizeof(vm->crash_reason), "stopped at a reset: %s", why);
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

/* Check some more of the files that vm came with.  False: there is more to do, and it must not be started yet.  A guest
 * is never started from files that are not those which its source offered. */
static bool vm_boot_check(struct vm *vm)
{
    bool damaged = false;
    if (vm_state(vm) == VM_INCOMING || !vm->boot.own)
        return true;
    if (!boot_set_check_step(&vm->boot, &damaged))
        return false;
    if (damaged) {
        log_error("vm", "%s: the boot files that came with it are damaged: it cannot be started again here",
                  vm->config.name);
        boot_set_drop(&vm->boot);
    }
    boot_set_keep(&vm->boot);
    return true;
}

bool vm_manage_step(void)
{
    bool acted = false;
    for (unsigned i = 0; i < n_slots; i++) {
        if (!used[i])
            continue;
        enum vm_power what = (enum vm_power)atomic_load(&vms[i]->power_request);
        if (!vm_boot_check(vms[i])) {
            acted = true;
            continue;
        }
        if (what == VM_POWER_NONE || vm_state(vms[i]) != VM_RUNNING)
            continue;
        acted = true;
        /* The console takes the guest's last output first, in the next turn.  The guest does not run meanwhile. */
        if (!uart_has_output(vms[i]))
            power_request_handle(vms[i], what);
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
    if (!vm_is_built(vm))
        return;
    print_line(out, "memory %lu MiB, backed %lu MiB, %s tables %lu, blocks whole %lu split %lu, address 0 at host's %p",
               vm->mem.size_bytes / MIB, vm->mem.n_backed * BLOCK_SIZE / MIB, vm->s2.fmt->name, vm->s2.n_tables,
               vm->s2.n_large, vm->s2.n_split, guest_page(vm, 0));
    print_line(out, "dirty log %s, faults %lu, harvests %lu in %lu us", atomic_load(&vm->dirty.on) ? "on" : "off",
               vm->dirty.n_faults, vm->dirty.n_harvests, vm->dirty.harvest_us);
    vm_usage_describe(vm, out);
    guest_net_describe(vm, out);
    vdev_describe(vm, out);
    vm_disk_describe(vm, out);
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        vcpu_inspect(vm->vcpus[i], out);
}
