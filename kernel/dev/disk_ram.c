/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/disk_ram.c - a disk in memory (`disk = ram:...`).
 *
 * The disk is in the hidden part of the guest's memory, above the RAM that the guest sees (guest_mem.h).  So its blocks
 * are backed at their first write, counted against this host's promises, dirty-logged and moved, with no code of their
 * own.  A request completes at once: submit never returns PENDING.  Not here: the virtio protocol (vdev_blk.c). */
#include "kernel/core/disk.h"

#include "kernel/core/vm.h"
#include "kernel/lib/log.h"

static const uint8_t zero[PAGE_SIZE];

static size_t bytes_in_page(gpa_t a, uint64_t len) { return MIN(len, PAGE_SIZE - a.v % PAGE_SIZE); }

static enum disk_status ram_read(struct vm *vm, uint64_t base, struct disk_req *r)
{
    for (uint64_t done = 0; done < r->len;) {
        gpa_t a = guest_hidden(&vm->mem, base + r->offset + done);
        const uint8_t *page = guest_page(vm, gpa_gfn(a));
        size_t n = bytes_in_page(a, r->len - done);
        r->put(r, done, page ? page + a.v % PAGE_SIZE : zero, n);
        done += n;
    }
    return DISK_OK;
}

static enum disk_status ram_write(struct vm *vm, uint64_t base, struct disk_req *r)
{
    uint8_t buf[PAGE_SIZE];
    for (uint64_t done = 0; done < r->len;) {
        gpa_t a = guest_hidden(&vm->mem, base + r->offset + done);
        size_t n = bytes_in_page(a, r->len - done);
        if (!r->get(r, done, buf, n) || guest_write(vm, a, buf, n) != HV_OK)
            return DISK_ERROR;
        done += n;
    }
    return DISK_OK;
}

/* Pages without memory read as zeros already, and stay without. */
static enum disk_status ram_zero(struct vm *vm, uint64_t base, const struct disk_req *r)
{
    for (uint64_t done = 0; done < r->len;) {
        gpa_t a = guest_hidden(&vm->mem, base + r->offset + done);
        size_t n = bytes_in_page(a, r->len - done);
        if (guest_page(vm, gpa_gfn(a)) && guest_write(vm, a, zero, n) != HV_OK)
            return DISK_ERROR;
        done += n;
    }
    return DISK_OK;
}

static enum disk_status disk_ram_submit(struct disk *d, struct disk_req *r)
{
    const struct disk_ram *ram = container_of(d, struct disk_ram, disk);
    struct vm *vm = ram->vm;
    ASSERT(r->offset <= d->info.bytes && r->len <= d->info.bytes - r->offset);
    lock_assert_held(&vm->dev_lock);
    switch (r->op) {
    case DISK_READ:    return ram_read(vm, ram->base, r);
    case DISK_WRITE:   return ram_write(vm, ram->base, r);
    case DISK_FLUSH:   return DISK_OK;
    case DISK_DISCARD:
    case DISK_ZEROES:  return ram_zero(vm, ram->base, r);
    }
    return DISK_UNSUPP;
}

static void disk_ram_close(struct disk *d) { (void)d; }

static const struct disk_ops ops = { .submit = disk_ram_submit, .close = disk_ram_close };

void disk_ram_init(struct disk_ram *d, struct vm *vm, uint64_t base, uint64_t bytes)
{
    *d = (struct disk_ram){
        .vm = vm,
        .base = base,
        .disk = { .ops = &ops,
                  .name = "ram",
                  .serial = "godwit-ram",
                  .known = true,
                  .info = { .bytes = bytes, .block = DISK_SECTOR, .flush = true, .discard = true, .zeroes = true } }
    };
}
