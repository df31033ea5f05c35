/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/exports.h - the exports a, b and c of an NBD server, in memory, with every way to fail. */
#ifndef GODWIT_TESTS_EXPORTS_H
#define GODWIT_TESTS_EXPORTS_H

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/core/disk.h"
#include "net/nbd.h"

#define EXPORT_BYTES (8 * MIB)
#define EXPORTS      3
static struct export
{
    uint8_t *data;
    bool mute, refuses, fails, stalls, no_flush, no_memory;
    unsigned n_open;
}
export[EXPORTS];
struct nbd {
    struct disk disk;
    struct export *e;
    struct disk_req *pending[64];
    unsigned n;
};

static enum disk_status nbd_submit(struct disk *d, struct disk_req *r)
{
    struct nbd *b = container_of(d, struct nbd, disk);
    assert_true(d->known && b->n < 64);
    b->pending[b->n++] = r;
    return DISK_PENDING;
}

static void nbd_carry_out(struct nbd *b, struct disk_req *r)
{
    uint8_t *p = b->e->data + r->offset;
    bool ok = !b->e->fails && (r->op != DISK_FLUSH || !b->e->no_flush);
    assert_true(r->offset + r->len <= EXPORT_BYTES);
    if (ok && r->op == DISK_READ)
        r->put(r, 0, p, r->len);
    else if (ok && r->op == DISK_WRITE)
        ok = r->get(r, 0, p, r->len);
    else if (ok && r->op == DISK_ZEROES)
        memset(p, 0, r->len);
    r->done(r, ok ? DISK_OK : DISK_ERROR);
}

static bool nbd_poll(struct disk *d)
{
    struct nbd *b = container_of(d, struct nbd, disk);
    d->known |= !b->e->mute && !b->e->refuses;
    d->n_failed_tries += b->e->refuses;
    for (unsigned i = 0; i < 4 && b->n && !b->e->stalls; i++) {
        struct disk_req *r = b->pending[0];
        memmove(b->pending, b->pending + 1, --b->n * sizeof(b->pending[0]));
        nbd_carry_out(b, r);
    }
    return b->n;
}

static void nbd_close(struct disk *d)
{
    struct nbd *b = container_of(d, struct nbd, disk);
    b->e->n_open--;
    free(b);
}

static const struct disk_ops nbd_ops = { nbd_submit, nbd_poll, nbd_close };
enum hv_err nbd_open(const struct nbd_config *c, struct disk **out)
{
    struct nbd *b = calloc(1, sizeof(*b));
    b->e = &export[c->name[0] - 'a'];
    if (b->e->no_memory) {
        free(b);
        return HV_E_NOMEM;
    }
    b->e->n_open++;
    if (!b->e->data)
        b->e->data = calloc(1, EXPORT_BYTES);
    b->disk = (struct disk){ .ops = &nbd_ops,
                             .name = "nbd",
                             .max_pending = 64,
                             .info = { .bytes = EXPORT_BYTES, .block = 512, .flush = true, .zeroes = true } };
    *out = &b->disk;
    return HV_OK;
}

#endif
