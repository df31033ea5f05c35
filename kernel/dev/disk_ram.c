/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/disk_ram.c - a disk in memory (`disk = ram:...`).
 *
 * The disk is in the hidden part of the guest's memory, above the RAM that the guest sees (guest_mem.h).  So its blocks
 * are backed at their first write, counted against this host's promises, dirty-logged and moved, with no code of their
 * own.  A request completes at once: submit never returns PENDING.
 *
 * A disk that moves to or from memory while its guest runs is there as well; a mirror is in front of it then, and makes
 * the requests, with its own buffers.  Not here: the virtio protocol (vdev_blk.c). */
#include "kernel/core/disk.h"

#include "kernel/core/vm.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"

#define COPY_REQS 64u

static const uint8_t zero[PAGE_SIZE];

static size_t bytes_in_page(gpa_t a, uint64_t len) { return MIN(len, PAGE_SIZE - a.v % PAGE_SIZE); }

/* Its place in the hidden memory. */
static uint64_t ram_at(const struct vm *vm, unsigned i)
{
    uint64_t at = 0;
    while (i--)
        at += vm->ram_disk[i];
    return at;
}

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

static enum disk_status disk_ram_copy(struct disk *d, struct disk_req *r)
{
    const struct disk_ram *ram = container_of(d, struct disk_ram, disk);
    uint64_t base = ram_at(ram->vm, ram->index);
    ASSERT(r->offset <= d->info.bytes && r->len <= d->info.bytes - r->offset);
    switch (r->op) {
    case DISK_READ:    return ram_read(ram->vm, base, r);
    case DISK_WRITE:   return ram_write(ram->vm, base, r);
    case DISK_FLUSH:   return DISK_OK;
    case DISK_DISCARD:
    case DISK_ZEROES:  return ram_zero(ram->vm, base, r);
    }
    return DISK_UNSUPP;
}

static enum disk_status disk_ram_submit(struct disk *d, struct disk_req *r)
{
    lock_assert_held(&container_of(d, struct disk_ram, disk)->vm->dev_lock);
    return disk_ram_copy(d, r);
}

static void disk_ram_close(struct disk *d) { (void)d; }
static bool disk_ram_poll(struct disk *d) { return !d; }
static void disk_ram_free(struct disk *d) { mem_free(container_of(d, struct disk_ram, disk), sizeof(struct disk_ram)); }

static const struct disk_ops ops = { .submit = disk_ram_submit, .close = disk_ram_close };
static const struct disk_ops copy_ops = { .submit = disk_ram_copy, .poll = disk_ram_poll, .close = disk_ram_free };

void disk_ram_init(struct disk_ram *d, struct vm *vm, unsigned i)
{
    *d = (struct disk_ram){ .vm = vm,
                            .index = i,
                            .disk = { .ops = &ops,
                                      .name = "ram",
                                      .serial = "godwit-ram",
                                      .known = true,
                                      .info = { .bytes = vm->ram_disk[i],
                                                .block = DISK_SECTOR,
                                                .flush = true,
                                                .discard = true,
                                                .zeroes = true } } };
}

enum hv_err disk_ram_open(struct vm *vm, unsigned i, struct disk **out)
{
    struct disk_ram *d = mem_alloc(sizeof(*d));
    if (!d)
        return HV_FAIL(HV_E_NOMEM);
    disk_ram_init(d, vm, i);
    d->disk.ops = &copy_ops;
    d->disk.max_pending = COPY_REQS;
    *out = &d->disk;
    return HV_OK;
}

enum hv_err disk_ram_resize(struct vm *vm, unsigned i, uint64_t bytes)
{
    enum hv_err e =
        bytes == vm->ram_disk[i] ? HV_OK : guest_mem_splice_hidden(vm, ram_at(vm, i), vm->ram_disk[i], bytes);
    if (!e)
        vm->ram_disk[i] = bytes;
    return e;
}
