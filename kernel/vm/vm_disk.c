/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_disk.c - guests and their disks on servers and on this host.
 *
 * A guest is paused for two reasons: its disk does not answer (`waiting`), or a move stops it.  A move quiesces the
 * disk first, so `quiesce` leaves DISK_RUNNING.  From then until vm_disk_unquiesce() this file does not touch the
 * vCPUs.
 *
 * Quiescing: RUNNING -> DRAINING (held, until no request is pending) -> FLUSHING -> QUIET.  A flush that fails stays in
 * FLUSHING, and vm_disk_quiesce_error() says why.  vm_disk_unquiesce() leads back to RUNNING from each.
 *
 * Not here: requests, and how they are sent again after a lost connection (net/nbd.c). */
#include "kernel/vm/vm_disk.h"

#include <stdio.h>
#include "kernel/dev/vdev_blk.h"
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/store/lv_disk.h"
#include "kernel/vm/vm_manage.h"
#include "net/nbd.h"

_Static_assert(DISK_QUIESCE_US > DISK_STALL_US, "a short stall does not fail a move");

static uint64_t seconds_since(uint64_t us) { return (clock_us() - us) / 1000000; }

/* ---- opening and closing ---- */

enum hv_err vm_disk_open(struct vm *vm, struct why *why)
{
    const struct vm_config *c = &vm->config;
    ASSERT(!vm->disk.disk);
    vm->disk = (struct vm_disk){ 0 };
    if (!c->nbd.port && !c->lv.lv[0])
        return HV_OK;
    vm->disk.waiting = true;
    vm->disk.since_us = clock_us();
    if (c->lv.lv[0])
        return lv_disk_open(c->lv.vg, c->lv.lv, &vm->disk.disk, why);
    enum hv_err e = nbd_open(&c->nbd, &vm->disk.disk);
    return e ? REFUSE(e, "no memory for the connection to the disk of %s", c->name) : HV_OK;
}

enum hv_err vm_disk_check(const struct vm_config *c, struct why *why)
{
    return c->lv.lv[0] ? lv_disk_check(c->lv.vg, c->lv.lv, why) : HV_OK;
}

const char *vm_disk_stays(const struct vm *vm, char *text, size_t len)
{
    const struct lv_config *lv = &vm->config.lv;
    if (!lv->lv[0])
        return NULL;
    snprintf(text, len, "its disk is the volume %s/%s of this host, and disks do not move yet: use a disk on a server",
             lv->vg, lv->lv);
    return text;
}

void vm_disk_adopt(struct vm *vm, struct disk *disk)
{
    ASSERT(!vm->disk.disk);
    vm->disk = (struct vm_disk){ .disk = disk };
    if (disk)
        vdev_blk_attach(vm, disk);
}

void vm_disk_close(struct vm *vm)
{
    if (vm->disk.disk)
        vm->disk.disk->ops->close(vm->disk.disk);
    vm->disk = (struct vm_disk){ 0 };
}

/* ---- waiting ---- */

static bool disk_is_stalled(const struct disk *d)
{
    return !d->known || (d->oldest_us && clock_us() - d->oldest_us > DISK_STALL_US);
}

static void disk_wait_begin(struct vm *vm)
{
    char text[256];
    ASSERT(!vm->disk.waiting && vm->disk.quiesce == DISK_RUNNING);
    vm->disk.waiting = true;
    vm->disk.since_us = clock_us();
    (void)vm_disk_waiting(vm, text, sizeof(text));
    log_warn("vm", "%s: paused, %s", vm->config.name, text);
}

static void disk_wait_end(struct vm *vm)
{
    ASSERT(vm->disk.waiting && vm->disk.quiesce == DISK_RUNNING);
    vm->disk.waiting = false;
    log_info("vm", "%s: resumed, it waited %lu ms for its disk", vm->config.name,
             (clock_us() - vm->disk.since_us) / 1000);
    vm_resume(vm);
}

static bool vm_disk_poll(struct vm *vm)
{
    struct disk *d = vm->disk.disk;
    bool was_known = d->known, moved = d->ops->poll(d);
    if (d->known && !was_known)
        vdev_blk_attach(vm, d);
    enum vm_state s = vm_state(vm);
    if (vm->disk.quiesce != DISK_RUNNING || (s != VM_RUNNING && s != VM_PAUSED))
        return moved; /* a move owns the vCPUs, or the guest does not run */
    if (!disk_is_stalled(d)) {
        if (vm->disk.waiting)
            disk_wait_end(vm);
    } else if (s == VM_RUNNING) {
        if (!vm->disk.waiting)
            disk_wait_begin(vm);
        (void)vm_pause(vm); /* again in the next turn, until every vCPU is frozen */
    }
    return moved;
}

bool vm_disk_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < VM_MAX; i++)
        if (vm_at(i) && vm_at(i)->disk.disk)
            moved |= vm_disk_poll(vm_at(i));
    return moved;
}

/* ---- quiesce ---- */

static void disk_flush_done(struct disk_req *r, enum disk_status s)
{
    struct vm_disk *v = container_of(r, struct vm_disk, flush);
    ASSERT(v->flushing && s != DISK_PENDING);
    v->flushing = false;
    v->flushed = s;
    if (v->quiesce == DISK_FLUSHING && s == DISK_OK)
        v->quiesce = DISK_QUIET;
}

static void disk_flush_begin(struct vm *vm)
{
    struct vm_disk *v = &vm->disk;
    ASSERT(v->quiesce == DISK_DRAINING && !v->flushing);
    v->quiesce = DISK_QUIET;
    if (!v->disk->info.flush || v->disk->info.read_only)
        return;
    v->quiesce = DISK_FLUSHING;
    v->flushing = true;
    v->flushed = DISK_PENDING;
    v->flush = (struct disk_req){ .op = DISK_FLUSH, .done = disk_flush_done };
    spin_lock(&vm->dev_lock);
    enum disk_status s = v->disk->ops->submit(v->disk, &v->flush);
    spin_unlock(&vm->dev_lock);
    ASSERT_EQ(s, DISK_PENDING); /* as always for a disk on a server: done() comes later */
}

bool vm_disk_quiesce(struct vm *vm)
{
    struct vm_disk *v = &vm->disk;
    if (!v->disk)
        return true;
    if (v->quiesce == DISK_RUNNING) {
        vdev_blk_hold(vm, true);
        v->quiesce = DISK_DRAINING;
        v->since_us = clock_us();
        v->waiting = false;
    }
    if (v->quiesce == DISK_DRAINING && !v->flushing && vdev_blk_pending(vm) == 0)
        disk_flush_begin(vm);
    ASSERT(v->quiesce != DISK_QUIET || (!v->flushing && !v->waiting));
    return v->quiesce == DISK_QUIET;
}

void vm_disk_unquiesce(struct vm *vm)
{
    if (!vm->disk.disk || vm->disk.quiesce == DISK_RUNNING)
        return;
    vm->disk.quiesce = DISK_RUNNING;
    vdev_blk_hold(vm, false);
}

const char *vm_disk_quiesce_error(const struct vm *vm)
{
    const struct vm_disk *v = &vm->disk;
    if (!v->disk || v->quiesce == DISK_RUNNING || v->quiesce == DISK_QUIET)
        return NULL;
    if (v->quiesce == DISK_FLUSHING && !v->flushing && v->flushed != DISK_OK)
        return "the server of its disk cannot flush what was written: look at its log";
    if (clock_us() - v->since_us > DISK_QUIESCE_US)
        return "its disk does not answer: is the server up, and how busy is it?";
    return NULL;
}

/* ---- reports ---- */

bool vm_disk_waiting(const struct vm *vm, char *text, size_t len)
{
    const struct disk *d = vm->disk.disk;
    *text = '\0';
    if (!d || !vm->disk.waiting)
        return false;
    if (d->lost_us)
        snprintf(text, len, "waiting for its disk: %s unreachable since %lu s: %s", d->name, seconds_since(d->lost_us),
                 d->why);
    else
        snprintf(text, len, "waiting for its disk: %s has not answered a request for %lu s", d->name,
                 d->oldest_us ? seconds_since(d->oldest_us) : 0);
    return true;
}

void vm_disk_describe(const struct vm *vm, struct printer *out)
{
    const struct disk *d = vm->disk.disk;
    char text[256];
    if (!d)
        return;
    if (vm_disk_waiting(vm, text, sizeof(text)))
        print_line(out, "%s", text);
    print_line(out, "disk %s: %lu bytes, blocks of %u,%s%s%s%s lost %lu times, %lu requests sent again", d->name,
               d->info.bytes, d->info.block, d->info.read_only ? " read-only," : "", d->info.flush ? " flush," : "",
               d->info.discard ? " discard," : "", d->info.zeroes ? " write zeroes," : "", d->n_losses, d->n_resent);
    if (d->lost_us)
        print_line(out, "disk unreachable since %lu s: %s", seconds_since(d->lost_us), d->why);
}
