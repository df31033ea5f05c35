/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_disk.c - guests and their disks on servers.
 *
 * Two parties pause a guest: this file, while its disk does not answer (`waiting`), and a move.  A move that begins to
 * stop the guest makes its disk quiesced first (`quiesce` leaves DISK_RUNNING), and from then until it gives the guest
 * back nothing here touches the vCPUs. */
#include "kernel/vm/vm_disk.h"

#include <stdio.h>
#include "kernel/dev/vdev_blk.h"
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/vm/vm_manage.h"
#include "net/nbd.h"

static uint64_t seconds_since(uint64_t us) { return (clock_us() - us) / 1000000; }

/* ---- opening and closing ---- */

enum hv_err vm_disk_open(struct vm *vm)
{
    vm->disk = (struct vm_disk){ 0 };
    if (!vm->config.nbd.port)
        return HV_OK;
    vm->disk.waiting = true;
    vm->disk.since_us = clock_us();
    return nbd_open(&vm->config.nbd, &vm->disk.disk);
}

void vm_disk_adopt(struct vm *vm, struct disk *disk)
{
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

static bool stalled(const struct disk *d)
{
    return !d->known || (d->oldest_us && clock_us() - d->oldest_us > DISK_STALL_US);
}

static void wait_begin(struct vm *vm)
{
    char text[256];
    vm->disk.waiting = true;
    vm->disk.since_us = clock_us();
    (void)vm_disk_waiting(vm, text, sizeof(text));
    log_warn("vm", "%s: stands still, %s", vm->config.name, text);
}

static void wait_end(struct vm *vm)
{
    vm->disk.waiting = false;
    log_info("vm", "%s: goes on, it waited %lu ms for its disk", vm->config.name,
             (clock_us() - vm->disk.since_us) / 1000);
    vm_run(vm);
}

static bool one_step(struct vm *vm)
{
    struct disk *d = vm->disk.disk;
    bool was_known = d->known, moved = d->ops->poll(d);
    if (d->known && !was_known)
        vdev_blk_attach(vm, d);
    enum vm_state s = vm_state(vm);
    if (vm->disk.quiesce != DISK_RUNNING || (s != VM_RUNNING && s != VM_PAUSED))
        return moved; /* a move has the guest, or nobody */
    if (!stalled(d)) {
        if (vm->disk.waiting)
            wait_end(vm);
    } else if (s == VM_RUNNING) {
        if (!vm->disk.waiting)
            wait_begin(vm);
        (void)vm_pause(vm); /* again in the next turn, until they all stand still */
    }
    return moved;
}

bool vm_disk_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < VM_MAX; i++)
        if (vm_at(i) && vm_at(i)->disk.disk)
            moved |= one_step(vm_at(i));
    return moved;
}

/* ---- quiesce ---- */

static void flush_done(struct disk_req *r, enum disk_status s)
{
    struct vm_disk *v = container_of(r, struct vm_disk, flush);
    v->flushing = false;
    v->flushed = s;
    if (v->quiesce == DISK_FLUSHING && s == DISK_OK)
        v->quiesce = DISK_QUIET;
}

static void flush_begin(struct vm *vm)
{
    struct vm_disk *v = &vm->disk;
    v->quiesce = DISK_QUIET;
    if (!v->disk->info.flush || v->disk->info.read_only)
        return;
    v->quiesce = DISK_FLUSHING;
    v->flushing = true;
    v->flushed = DISK_PENDING;
    v->flush = (struct disk_req){ .op = DISK_FLUSH, .done = flush_done };
    spin_lock(&vm->dev_lock);
    (void)v->disk->ops->submit(v->disk, &v->flush); /* PENDING: the disk is one on a server */
    spin_unlock(&vm->dev_lock);
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
        flush_begin(vm);
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
    if (clock_us() - v->since_us > DISK_CALM_US)
        return "its disk does not answer: is the server up, and how busy is it?";
    return NULL;
}

/* ---- telling people ---- */

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
