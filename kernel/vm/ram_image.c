/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/ram_image.c - see ram_image.h.  Requests end at once. */
#include "kernel/vm/ram_image.h"

#include <stdio.h>
#include "kernel/host/page.h"
#include "kernel/vm/boot_files.h"

struct ram_image {
    struct disk disk;
    struct boot_blob *file; /* in use; NULL: all is zero */
};

static struct ram_image *image_of(struct disk *d) { return container_of(d, struct ram_image, disk); }

static enum disk_status image_submit(struct disk *d, struct disk_req *r)
{
    static const uint8_t zeroes[4096];
    const struct boot_blob *f = image_of(d)->file;
    uint64_t len = f ? f->len : 0;
    if (r->op != DISK_READ)
        return DISK_ERROR;
    for (uint64_t done = 0, n; done < r->len; done += n) {
        uint64_t at = r->offset + done;
        n = MIN(at < len ? len - at : sizeof(zeroes), r->len - done);
        r->put(r, done, at < len ? f->data + at : zeroes, n);
    }
    return DISK_OK;
}

static bool image_poll(struct disk *d) { return !d->known; }

static void image_close(struct disk *d)
{
    struct ram_image *m = image_of(d);
    if (m->file)
        boot_blob_put(m->file);
    mem_free(m, sizeof(*m));
}

static const struct disk_ops image_ops = { .submit = image_submit, .poll = image_poll, .close = image_close };

enum hv_err ram_image_open(const struct vm *vm, unsigned i, struct disk **out, struct why *why)
{
    const struct disk_config *c = &vm->config.disk[i];
    struct boot_blob *file = NULL;
    enum hv_err e = vm->arrived ? HV_OK : boot_disk_find(&vm->config, i, &file, why);
    struct ram_image *m = e ? NULL : mem_alloc(sizeof(*m));
    if (e)
        return e;
    if (!m)
        return REFUSE(HV_E_NOMEM, "no memory for the disk of %s", vm->config.name);
    if (file)
        boot_blob_use(file);
    uint64_t bytes = file ? ALIGN_UP(file->len, BLOCK_SIZE) : c->bytes; /* as vm_start() makes it */
    *m = (struct ram_image){ .file = file,
                             .disk = { .ops = &image_ops,
                                       .max_pending = 16,
                                       .known = true,
                                       .info = { .bytes = bytes, .block = DISK_BLOCK_MAX, .read_only = true } } };
    snprintf(m->disk.name, sizeof(m->disk.name), "ram:%.100s", c->file);
    *out = &m->disk;
    return HV_OK;
}
