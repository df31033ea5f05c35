/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_disk.c - guests and their disks on servers and on this host.
 *
 * A guest is paused for two reasons: a disk does not answer (`waiting`), or a move stops it.  A move quiesces the
 * disks first, so `quiesce` leaves DISK_RUNNING.  From then until vm_disk_unquiesce() this file does not touch the
 * vCPUs.
 *
 * Quiescing, each disk by itself: RUNNING -> DRAINING (held, until no request is pending) -> FLUSHING -> QUIET.  A
 * flush that fails stays in FLUSHING, and vm_disk_quiesce_error() says why.  vm_disk_unquiesce() leads back to RUNNING
 * from each.  What such a flush has lost is lost for the guest too, and only it can write that again: `owes` makes its
 * next flush fail, and no quiescing succeeds before.
 *
 * A guest whose disk was moved to another place opens it once the registry has that place durably (disks_mark): what
 * it wrote there before would be lost by a power cut, after which it has the old one.
 *
 * Not here: requests, and how they are sent again after a lost connection (net/nbd.c). */
#include "kernel/vm/vm_disk.h"

#include <stdio.h>
#include "kernel/dev/vdev.h"
#include "kernel/dev/vdev_blk.h"
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/registry.h"
#include "kernel/vm/vm_manage.h"
#include "net/nbd.h"

_Static_assert(DISK_QUIESCE_US > DISK_STALL_US, "a short stall does not fail a move");

static uint64_t seconds_since(uint64_t us) { return (clock_us() - us) / 1000000; }

/* ---- opening and closing ---- */

static enum hv_err disk_open(const struct vm_config *c, unsigned i, struct disk **out, struct why *why)
{
    const struct disk_config *d = &c->disk[i];
    switch (d->kind) {
    case DISK_IN_RAM: return HV_OK;
    case DISK_ON_LV:  return lv_disk_open(d->lv.vg, d->lv.lv, out, why);
    case DISK_ON_NBD: break;
    }
    enum hv_err e = nbd_open(&d->nbd, out);
    return e ? REFUSE(e, "no memory for the connection to the disk of %s", c->name) : HV_OK;
}

enum hv_err vm_disk_open(struct vm *vm, struct why *why)
{
    enum hv_err e = HV_OK;
    vm->disks = (struct vm_disks){ .since_us = clock_us() };
    for (unsigned i = 0; !e && i < vm->config.n_disks; i++) {
        e = disk_open(&vm->config, i, &vm->disks.d[i].disk, why);
        vm->disks.waiting |= vm->disks.d[i].disk != NULL;
    }
    return e;
}

enum hv_err vm_disk_check(const struct vm_config *c, struct why *why)
{
    enum hv_err e = HV_OK;
    for (unsigned i = 0; !e && i < c->n_disks; i++)
        if (c->disk[i].kind == DISK_ON_LV)
            e = lv_disk_check(c->disk[i].lv.vg, c->disk[i].lv.lv, why);
    return e;
}

bool vm_disk_names(const struct vm_config *c, const char *vg, const char *lv)
{
    for (unsigned i = 0; i < c->n_disks; i++)
        if (c->disk[i].kind == DISK_ON_LV && !strcmp(c->disk[i].lv.vg, vg) && !strcmp(c->disk[i].lv.lv, lv))
            return true;
    return false;
}

const char *vm_disk_owner(const char *vg, const char *lv, const char *but)
{
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        if (vm && (!but || strcmp(vm->config.name, but) != 0) &&
            (vm_disk_names(&vm->config, vg, lv) || (vm->defined && vm_disk_names(vm->defined, vg, lv))))
            return vm->config.name;
    }
    return NULL;
}

static bool volume_is_read_only(const struct lv_config *c)
{
    const struct lvm_group *g = lvm_group_find(c->vg);
    const struct lvm_lv *lv = g ? lvm_lv_find(&g->vg, c->lv) : NULL;
    return lv && lv->read_only;
}

const char *vm_disk_stays(const struct vm *vm, bool along, char *text, size_t len)
{
    int moving = vm_disk_moving(vm);
    if (moving >= 0) {
        snprintf(text, len, "its disk vd%c is being moved to another place of this host: wait for that, or cancel it",
                 'a' + moving);
        return text;
    }
    for (unsigned i = 0; i < vm->config.n_disks; i++) {
        const struct disk_config *d = &vm->config.disk[i];
        if (d->kind != DISK_ON_LV || (along && !volume_is_read_only(&d->lv)))
            continue;
        if (along)
            snprintf(text, len, "its disk vd%c is the read-only volume %s/%s, which does not move along", 'a' + i,
                     d->lv.vg, d->lv.lv);
        else
            snprintf(text, len,
                     "its disk is the volume %s/%s of this host: it moves along with a guest that runs, by "
                     "--with-disks",
                     d->lv.vg, d->lv.lv);
        return text;
    }
    return NULL;
}

void vm_disk_adopt(struct vm *vm, struct disk *disk[CONFIG_MAX_DISKS])
{
    vm->disks = (struct vm_disks){ 0 };
    for (unsigned i = 0; i < CONFIG_MAX_DISKS; i++) {
        vm->disks.d[i].disk = disk[i];
        if (disk[i])
            vdev_blk_attach(vm, i, disk[i]);
        disk[i] = NULL;
    }
}

void vm_disk_close(struct vm *vm)
{
    for (unsigned i = 0; i < CONFIG_MAX_DISKS; i++)
        if (vm->disks.d[i].disk)
            vm->disks.d[i].disk->ops->close(vm->disks.d[i].disk);
    vm->disks = (struct vm_disks){ 0 };
}

/* ---- waiting ---- */

static bool disk_is_stalled(const struct disk *d)
{
    return !d->known || (d->oldest_us && clock_us() - d->oldest_us > DISK_STALL_US);
}

/* The first disk that does not answer; NULL: there is none. */
static const struct disk *disk_stalled(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->config.n_disks; i++)
        if (vm->disks.d[i].disk && disk_is_stalled(vm->disks.d[i].disk))
            return vm->disks.d[i].disk;
    return NULL;
}

static void disk_wait_begin(struct vm *vm)
{
    char text[256];
    ASSERT(!vm->disks.waiting);
    vm->disks.waiting = true;
    vm->disks.since_us = clock_us();
    (void)vm_disk_waiting(vm, text, sizeof(text));
    log_warn("vm", "%s: paused, %s", vm->config.name, text);
}

static void disk_wait_end(struct vm *vm)
{
    ASSERT(vm->disks.waiting);
    vm->disks.waiting = false;
    log_info("vm", "%s: resumed, it waited %lu ms for its disk", vm->config.name,
             (clock_us() - vm->disks.since_us) / 1000);
    vm_resume(vm);
}

/* Drive its disks.  *quiesced: a move owns the vCPUs. */
static bool disks_poll(struct vm *vm, bool *quiesced)
{
    bool moved = false;
    for (unsigned i = 0; i < vm->config.n_disks; i++) {
        struct disk *d = vm->disks.d[i].disk;
        if (!d)
            continue;
        bool was_known = d->known;
        if (!was_known && !registry_durable(vm->disks_mark))
            continue;
        moved |= d->ops->poll(d);
        if (d->known && !was_known)
            vdev_blk_attach(vm, i, d);
        *quiesced |= vm->disks.d[i].quiesce != DISK_RUNNING;
    }
    return moved;
}

static bool vm_disk_poll(struct vm *vm)
{
    bool quiesced = false, moved = disks_poll(vm, &quiesced);
    enum vm_state s = vm_state(vm);
    if (quiesced || (s != VM_RUNNING && s != VM_PAUSED))
        return moved; /* a move owns the vCPUs, or the guest does not run */
    if (!disk_stalled(vm)) {
        if (vm->disks.waiting)
            disk_wait_end(vm);
    } else if (s == VM_RUNNING) {
        if (!vm->disks.waiting)
            disk_wait_begin(vm);
        (void)vm_pause(vm); /* again in the next turn, until every vCPU is frozen */
    }
    return moved;
}

bool vm_disk_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < vm_slots(); i++)
        if (vm_at(i) && vm_state(vm_at(i)) != VM_STOPPED)
            moved |= vm_disk_poll(vm_at(i));
    return moved;
}

/* Requests in vm's rings go to its disks, and from there to the host's. */
static void guest_disks_serve(struct vm *vm)
{
    bool unused;
    if (vm_state(vm) != VM_RUNNING) {
        vdev_quick_again(vm); /* once it runs again */
        return;
    }
    if (vdev_service_quick(vm)) {
        vdev_quick_again(vm);
        pcpu_kick_disks();
    }
    (void)disks_poll(vm, &unused);
}

void vm_disk_serve(void)
{
    for (unsigned word = 0; word < DIV_ROUND_UP(vm_slots(), 64); word++)
        for (uint64_t guests = vdev_quick_take(word); guests; guests &= guests - 1) {
            struct vm *vm = vm_at(64 * word + (unsigned)__builtin_ctzll(guests));
            if (vm && vm_is_built(vm))
                guest_disks_serve(vm);
        }
}

/* ---- quiesce ---- */

static void disk_flush_done(struct disk_req *r, enum disk_status s)
{
    struct vm_disk *v = container_of(r, struct vm_disk, flush);
    ASSERT(v->flushing && s != DISK_PENDING);
    v->flushing = false;
    v->flushed = s;
    v->owes |= s != DISK_OK;
    if (v->quiesce == DISK_FLUSHING && s == DISK_OK)
        v->quiesce = DISK_QUIET;
}

static void disk_flush_begin(struct vm *vm, struct vm_disk *v)
{
    ASSERT(v->quiesce == DISK_DRAINING && !v->flushing);
    v->quiesce = DISK_QUIET;
    if (!v->disk->info.flush || v->disk->info.read_only)
        return;
    v->quiesce = DISK_FLUSHING;
    v->flushed = DISK_ERROR;
    if (v->owes)
        return;
    v->flushing = true;
    v->flush = (struct disk_req){ .op = DISK_FLUSH, .done = disk_flush_done };
    spin_lock(&vm->dev_lock);
    enum disk_status s = v->disk->ops->submit(v->disk, &v->flush);
    spin_unlock(&vm->dev_lock);
    ASSERT_EQ(s, DISK_PENDING); /* as always for a disk on a server: done() comes later */
}

static bool disk_quiesce(struct vm *vm, unsigned i)
{
    struct vm_disk *v = &vm->disks.d[i];
    if (v->quiesce == DISK_RUNNING) {
        vdev_blk_hold(vm, i, true);
        v->quiesce = DISK_DRAINING;
        v->quiesce_us = clock_us();
    }
    if (v->quiesce == DISK_DRAINING && !v->flushing && vdev_blk_pending(vm, i) == 0)
        disk_flush_begin(vm, v);
    ASSERT(v->quiesce != DISK_QUIET || !v->flushing);
    return v->quiesce == DISK_QUIET;
}

bool vm_disk_quiesce(struct vm *vm)
{
    bool quiet = true;
    for (unsigned i = 0; i < vm->config.n_disks; i++) {
        if (!vm->disks.d[i].disk)
            continue;
        vm->disks.waiting = false;
        quiet &= disk_quiesce(vm, i);
    }
    return quiet;
}

void vm_disk_unquiesce(struct vm *vm)
{
    for (unsigned i = 0; i < vm->config.n_disks; i++) {
        struct vm_disk *v = &vm->disks.d[i];
        if (!v->disk || v->quiesce == DISK_RUNNING)
            continue;
        v->quiesce = DISK_RUNNING;
        vdev_blk_hold(vm, i, false);
    }
}

static const char *disk_quiesce_error(const struct vm_disk *v)
{
    if (!v->disk || v->quiesce == DISK_RUNNING || v->quiesce == DISK_QUIET)
        return NULL;
    if (v->quiesce == DISK_FLUSHING && !v->flushing && v->flushed != DISK_OK)
        return "its disk cannot flush what was written, or has lost it: look at the log; it can move after its next "
               "flush";
    if (clock_us() - v->quiesce_us > DISK_QUIESCE_US)
        return "its disk does not answer: is the server up, and how busy is it?";
    return NULL;
}

const char *vm_disk_quiesce_error(const struct vm *vm)
{
    const char *error = NULL;
    for (unsigned i = 0; !error && i < vm->config.n_disks; i++)
        error = disk_quiesce_error(&vm->disks.d[i]);
    return error;
}

/* ---- exchange ---- */

bool vm_disk_hold(struct vm *vm, unsigned i)
{
    struct vm_disk *v = &vm->disks.d[i];
    ASSERT(v->quiesce == DISK_RUNNING);
    if (!v->hold_us) {
        v->hold_us = clock_us();
        vdev_blk_hold(vm, i, true);
    }
    return !v->flushing && vdev_blk_pending(vm, i) == 0;
}

uint64_t vm_disk_swap(struct vm *vm, unsigned i, struct disk *disk)
{
    struct vm_disk *v = &vm->disks.d[i];
    ASSERT(v->hold_us && v->quiesce == DISK_RUNNING);
    uint64_t held = clock_us() - v->hold_us;
    if (v->disk != disk)
        vdev_blk_swap(vm, i, disk);
    v->disk = disk;
    v->hold_us = 0;
    vdev_blk_hold(vm, i, false);
    return held;
}

enum hv_err vm_disk_memory_set(struct vm *vm, unsigned i, uint64_t bytes)
{
    if (bytes == vm->ram_disk[i] || (vm_state(vm) != VM_RUNNING && vm_state(vm) != VM_PAUSED))
        return HV_OK;
    while (!vm_pause(vm))
        __builtin_ia32_pause();
    enum hv_err e = disk_ram_resize(vm, i, bytes);
    if (!vm->disks.waiting)
        vm_resume(vm);
    return e;
}

int vm_disk_moving(const struct vm *vm)
{
    for (int i = 0; i < CONFIG_MAX_DISKS; i++)
        if (vm->disks.d[i].moving)
            return i;
    return -1;
}

void vm_disk_moving_set(struct vm *vm, unsigned i, bool moving)
{
    static unsigned last;
    vm->disks.d[i].moving = moving ? ++last : 0;
}

/* ---- reports ---- */

bool vm_disk_waiting(const struct vm *vm, char *text, size_t len)
{
    const struct disk *d = vm->disks.waiting ? disk_stalled(vm) : NULL;
    *text = '\0';
    if (d && !d->known && !registry_durable(vm->disks_mark))
        snprintf(text, len, "waiting for its disk: the registry must say first that it is on %s now%s%s", d->name,
                 registry_why()[0] ? ": " : "", registry_why());
    else if (d && d->lost_us)
        snprintf(text, len, "waiting for its disk: %s unreachable since %lu s: %s", d->name, seconds_since(d->lost_us),
                 d->why);
    else if (d && d->oldest_us)
        snprintf(text, len, "waiting for its disk: %s has not answered a request for %lu s", d->name,
                 seconds_since(d->oldest_us));
    else if (d)
        snprintf(text, len, "waiting for its disk: %s is being opened", d->name);
    else if (vm->disks.waiting)
        snprintf(text, len, "waiting for its disk");
    return vm->disks.waiting;
}

static void disk_describe(const struct disk *d, struct printer *out)
{
    print_line(out, "disk %s: %lu bytes, blocks of %u,%s%s%s%s lost %lu times, %lu requests sent again", d->name,
               d->info.bytes, d->info.block, d->info.read_only ? " read-only," : "", d->info.flush ? " flush," : "",
               d->info.discard ? " discard," : "", d->info.zeroes ? " write zeroes," : "", d->n_losses, d->n_resent);
    if (d->lost_us)
        print_line(out, "disk unreachable since %lu s: %s", seconds_since(d->lost_us), d->why);
}

void vm_disk_describe(const struct vm *vm, struct printer *out)
{
    char text[256];
    if (vm_disk_waiting(vm, text, sizeof(text)))
        print_line(out, "%s", text);
    for (unsigned i = 0; i < vm->config.n_disks; i++)
        if (vm->disks.d[i].disk)
            disk_describe(vm->disks.d[i].disk, out);
}
