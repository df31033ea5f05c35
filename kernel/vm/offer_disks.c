/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/offer_disks.c - what an offer says of a guest's disks, its checkpoints, and what is saved of it.
 *
 * The functions of these fields of OFFER_FIELDS (vm_state.h).  DISKS comes before the fields that name a disk of it. */
#include <string.h>
#include "kernel/core/vm.h"
#include "kernel/host/page.h"
#include "kernel/store/lvm.h"
#include "kernel/store/saved.h"
#include "kernel/vm/offer_impl.h"

enum { DISK_RO = 1, DISK_FLUSHES_IT = 2, DISK_DISCARDS = 4, DISK_WRITES_ZEROES = 8, DISK_ALL = 15 };

/* A volume of a stopped guest is not open. */
static struct disk_info disk_info_of(const struct vm *vm, unsigned disk)
{
    const struct lv_config *c = &vm->config.disk[disk].lv;
    if (vm->disks.d[disk].disk || vm->config.disk[disk].kind != DISK_ON_LV)
        return vm->disks.d[disk].disk ? vm->disks.d[disk].disk->info : (struct disk_info){ 0 };
    const struct lvm_group *g = lvm_group_find(c->vg);
    const struct lvm_lv *lv = g ? lvm_lv_find(&g->vg, c->lv) : NULL;
    return (struct disk_info){ .bytes = lv ? lvm_lv_bytes(&g->vg, lv) : 0,
                               .block = lv ? DISK_SECTOR : 0,
                               .read_only = lv && lv->read_only,
                               .flush = true,
                               .zeroes = true };
}

static void disk_info_write(struct wr *w, const struct vm *vm, unsigned disk)
{
    struct disk_info info = disk_info_of(vm, disk), *i = &info;
    wr_u64(w, i->bytes);
    wr_u32(w, i->block);
    wr_u32(w, (i->read_only ? DISK_RO : 0u) | (i->flush ? DISK_FLUSHES_IT : 0u) | (i->discard ? DISK_DISCARDS : 0u) |
                  (i->zeroes ? DISK_WRITES_ZEROES : 0u));
}

static bool disk_info_parse(struct rd *r, struct disk_info *info)
{
    info->bytes = rd_u64(r);
    info->block = rd_u32(r);
    uint32_t can = rd_u32(r), block = info->block;
    info->read_only = can & DISK_RO, info->flush = can & DISK_FLUSHES_IT, info->discard = can & DISK_DISCARDS,
    info->zeroes = can & DISK_WRITES_ZEROES;
    bool sane = block >= DISK_SECTOR && block <= DISK_BLOCK_MAX && !(block & (block - 1)) && info->bytes &&
                info->bytes % block == 0;
    return !(can & ~(uint32_t)DISK_ALL) && (sane || (!block && !info->bytes)); /* none: offer_disks_known() */
}

void offer_nbd_write(struct wr *w, const struct vm *vm, unsigned disk)
{
    const struct nbd_config *n = &vm->config.disk[disk].nbd;
    wr_bytes(w, n->ip, sizeof(n->ip));
    wr_u16(w, n->port);
    offer_text_write(w, n->name);
    if (n->tls)
        wr_bytes(w, n->fingerprint, sizeof(n->fingerprint));
    disk_info_write(w, vm, disk);
}

bool offer_nbd_parse(struct rd *r, struct nbd_config *n, struct disk_info *info)
{
    rd_bytes(r, n->ip, sizeof(n->ip));
    n->port = rd_u16(r);
    if (!offer_text_read(r, n->name, sizeof(n->name)))
        return false;
    if (n->tls)
        rd_bytes(r, n->fingerprint, sizeof(n->fingerprint));
    return n->port && disk_info_parse(r, info);
}

bool offer_disks_known(const struct vm_offer *o)
{
    for (unsigned i = 0; i < o->config.n_disks; i++)
        if (o->config.disk[i].kind != DISK_IN_RAM && !o->disk[i].bytes)
            return o->stopped;
    return true;
}

bool offer_ram_disk_ok(uint64_t bytes) { return bytes && bytes % BLOCK_SIZE == 0 && bytes <= BIT64(46); }

/* All disks: n u8, and n times: kind u8 (enum disk_kind) · flags u8 (1: read-only for the guest, 2: the server has a
 * fingerprint) · serial text · in RAM: bytes u64; on a server: as in the offer with OFFER_NBD; on a volume: nothing,
 * see the field ALONG. */
enum { DISKS_READ_ONLY = 1, DISKS_TLS = 2 };
unsigned offer_disks_needs(const struct vm *vm)
{
    const struct vm_config *c = &vm->config;
    return offer_along_needs(vm) || c->n_disks > 1 || (c->n_disks && (c->disk[0].read_only || c->disk[0].serial[0]));
}
void offer_disks_write(const struct vm *vm, struct wr *w)
{
    wr_u8(w, (uint8_t)vm->config.n_disks);
    for (unsigned i = 0; i < vm->config.n_disks; i++) {
        const struct disk_config *d = &vm->config.disk[i];
        bool nbd = d->kind == DISK_ON_NBD;
        wr_u8(w, (uint8_t)d->kind);
        wr_u8(w, (d->read_only ? DISKS_READ_ONLY : 0) | (nbd && d->nbd.tls ? DISKS_TLS : 0));
        offer_text_write(w, d->serial);
        if (d->kind == DISK_IN_RAM)
            wr_u64(w, d->bytes);
        if (nbd)
            offer_nbd_write(w, vm, i);
    }
}
static bool disk_read(struct vm_offer *o, unsigned i, struct rd *r)
{
    struct disk_config *d = &o->config.disk[i];
    unsigned kind = rd_u8(r), flags = rd_u8(r);
    *d = (struct disk_config){ .kind = (enum disk_kind)kind, .read_only = flags & DISKS_READ_ONLY };
    if ((flags & ~(unsigned)(DISKS_READ_ONLY | DISKS_TLS)) || !offer_text_read(r, d->serial, sizeof(d->serial)))
        return false;
    if (kind == DISK_ON_NBD) {
        d->nbd.tls = flags & DISKS_TLS;
        return offer_nbd_parse(r, &d->nbd, &o->disk[i]);
    }
    if (kind == DISK_ON_LV)
        return true;
    d->bytes = rd_u64(r);
    return kind == DISK_IN_RAM && offer_ram_disk_ok(d->bytes);
}
bool offer_disks_read(struct vm_offer *o, struct rd *r)
{
    unsigned n = rd_u8(r);
    if (!n || n > CONFIG_MAX_DISKS)
        return false;
    for (unsigned i = 0; i < n; i++)
        if (!disk_read(o, i, r))
            return false;
    o->config.n_disks = n;
    return true;
}

/* The volumes, which move along, in the order of the field DISKS, which comes before: of each, size, block size and
 * DISK_* bits as for a disk on a server · store text · volume text.  Before version 2 the guest is not stopped. */
unsigned offer_along_needs(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->config.n_disks; i++)
        if (vm->config.disk[i].kind == DISK_ON_LV)
            return vm_is_built(vm) ? 1 : 2;
    return 0;
}
void offer_along_write(const struct vm *vm, struct wr *w)
{
    for (unsigned i = 0; i < vm->config.n_disks; i++) {
        const struct disk_config *d = &vm->config.disk[i];
        if (d->kind != DISK_ON_LV)
            continue;
        disk_info_write(w, vm, i);
        offer_text_write(w, d->lv.vg);
        offer_text_write(w, d->lv.lv);
    }
}
bool offer_along_read(struct vm_offer *o, struct rd *r)
{
    for (unsigned i = 0; i < o->config.n_disks; i++) {
        struct disk_config *d = &o->config.disk[i];
        if (d->kind != DISK_ON_LV)
            continue;
        if (!disk_info_parse(r, &o->disk[i]) || !offer_text_read(r, d->lv.vg, sizeof(d->lv.vg)) ||
            !offer_text_read(r, d->lv.lv, sizeof(d->lv.lv)) || !offer_volume_name_ok(d->lv.lv))
            return false;
    }
    return true;
}

/* Where volumes are to be, and nowhere else: the text of config_place_next().  It comes from the operator, not from the
 * guest. */
unsigned offer_places_needs(const struct vm *vm)
{
    (void)vm;
    return 0;
}
void offer_places_write(const struct vm *vm, struct wr *w) { (void)vm, (void)w; }
bool offer_places_read(struct vm_offer *o, struct rd *r)
{
    char text[CONFIG_PLACES_LEN];
    const char *at = text;
    struct lv_config lv;
    unsigned i;
    if (!offer_text_read(r, text, sizeof(text)))
        return false;
    while (config_place_next(&at, &i, &lv)) {
        if (i >= o->config.n_disks || o->config.disk[i].kind != DISK_ON_LV || !offer_volume_name_ok(lv.lv))
            return false;
        o->config.disk[i].lv = lv;
        o->place_chosen[i] = true;
    }
    return !*at;
}

/* Clones of base volumes: n u8, and n times: disk u8 · SHA-256 of the base, text · bytes u64 of the clone's own store.
 * A host that does not know this field would take all data of the disk. */
static const struct lvm_lv *disk_base(const struct vm *vm, unsigned disk, uint64_t *store_bytes)
{
    const struct lv_config *c = &vm->config.disk[disk].lv;
    const struct lvm_group *g = vm->config.disk[disk].kind == DISK_ON_LV ? lvm_group_find(c->vg) : NULL;
    const struct lvm_lv *lv = g ? lvm_lv_find(&g->vg, c->lv) : NULL;
    *store_bytes = lv ? lv->extents * g->vg.extent_bytes : 0;
    return lv ? lvm_base_of(&g->vg, lv) : NULL;
}
unsigned offer_bases_needs(const struct vm *vm)
{
    uint64_t bytes;
    unsigned n = 0;
    for (unsigned i = 0; i < vm->config.n_disks; i++)
        n += disk_base(vm, i, &bytes) != NULL;
    return n != 0;
}
void offer_bases_write(const struct vm *vm, struct wr *w)
{
    uint64_t bytes;
    size_t n_at = w->len;
    uint8_t n = 0;
    wr_u8(w, 0);
    for (unsigned i = 0; i < vm->config.n_disks; i++) {
        const struct lvm_lv *base = disk_base(vm, i, &bytes);
        if (!base)
            continue;
        wr_u8(w, (uint8_t)i);
        offer_text_write(w, lvm_lv_tag(base, "godwit.sha256"));
        wr_u64(w, bytes);
        n++;
    }
    if (!w->bad)
        w->p[n_at] = n;
}
bool offer_bases_read(struct vm_offer *o, struct rd *r)
{
    unsigned n = rd_u8(r);
    for (unsigned k = 0; k < n; k++) {
        unsigned i = rd_u8(r);
        if (i >= o->config.n_disks || o->config.disk[i].kind != DISK_ON_LV || o->base[i].sha256[0] ||
            !offer_text_read(r, o->base[i].sha256, sizeof(o->base[i].sha256)) ||
            strlen(o->base[i].sha256) != sizeof(o->base[i].sha256) - 1)
            return false;
        o->base[i].store_bytes = rd_u64(r);
    }
    return n != 0;
}

/* No bytes: it is there or not.  It comes from the operator, not from the guest. */
unsigned offer_with_base_needs(const struct vm *vm)
{
    (void)vm;
    return 0;
}
void offer_with_base_write(const struct vm *vm, struct wr *w) { (void)vm, (void)w; }
bool offer_with_base_read(struct vm_offer *o, struct rd *r)
{
    (void)r;
    o->with_base = true;
    return true;
}

/* The volumes of its checkpoints, in the order of checkpoint_part_at(): n u8, and n times: checkpoint text · disk u8,
 * CHECKPOINT_MEMORY: none · made u64, seconds since 1970 · size u64 · length u64, of a disk 0 · version 2: saved u8, 1:
 * the guest is saved in it, as it was reverted to it.  A guest that is being saved stays where they are. */
unsigned offer_checkpoints_needs(const struct vm *vm)
{
    if (vm->saving || !checkpoint_any(vm->config.name))
        return 0;
    return saved_in_checkpoint(vm->config.name) ? 2 : 1;
}
void offer_checkpoints_write(const struct vm *vm, struct wr *w)
{
    struct checkpoint_part p;
    unsigned n = 0;
    while (n < CHECKPOINT_MOVE_MAX && checkpoint_part_at(&vm->config, n, &p))
        n++;
    wr_u8(w, (uint8_t)n);
    for (unsigned i = 0; i < n && checkpoint_part_at(&vm->config, i, &p); i++) {
        offer_text_write(w, p.checkpoint);
        wr_u8(w, (uint8_t)p.disk);
        wr_u64(w, p.time_s);
        wr_u64(w, p.bytes);
        wr_u64(w, p.saved);
        if (w->version >= 2)
            wr_u8(w, p.is_saved);
    }
}
static bool checkpoint_part_read(struct checkpoint_part *p, struct rd *r)
{
    *p = (struct checkpoint_part){ .group = NULL };
    if (!offer_text_read(r, p->checkpoint, sizeof(p->checkpoint)) || !offer_name_ok(p->checkpoint) ||
        strlen(p->checkpoint) > CHECKPOINT_NAME_MAX)
        return false;
    p->disk = rd_u8(r);
    p->time_s = rd_u64(r);
    p->bytes = rd_u64(r);
    if (!p->bytes || p->bytes % BLOCK_SECTOR_MAX || p->bytes > BIT64(46))
        return false;
    p->saved = rd_u64(r);
    unsigned is_saved = r->version >= 2 ? rd_u8(r) : 0;
    p->is_saved = is_saved;
    if (is_saved > (p->disk == CHECKPOINT_MEMORY))
        return false;
    return p->disk == CHECKPOINT_MEMORY ? p->saved && p->saved <= p->bytes : !p->saved;
}
bool offer_checkpoints_read(struct vm_offer *o, struct rd *r)
{
    unsigned n = rd_u8(r);
    if (!n || n > CHECKPOINT_MOVE_MAX)
        return false;
    for (unsigned i = 0; i < n; i++)
        if (!checkpoint_part_read(&o->part[i], r))
            return false;
    o->n_parts = n;
    return true;
}
bool offer_checkpoints_fit(const struct vm_offer *o)
{
    for (unsigned i = 0; i < o->n_parts; i++) {
        const struct checkpoint_part *p = &o->part[i];
        if (p->disk != CHECKPOINT_MEMORY &&
            (p->disk >= o->config.n_disks || o->config.disk[p->disk].kind != DISK_ON_LV))
            return false;
        for (unsigned k = 0; k < i; k++)
            if (o->part[k].disk == p->disk && !strcmp(o->part[k].checkpoint, p->checkpoint))
                return false;
    }
    return true;
}

/* What is saved of a stopped guest: bytes u64 · flags u8 (1: with_disks) · store text · volume text.  A host that does
 * not know this field would have the guest without its memory. */
unsigned offer_saved_needs(const struct vm *vm)
{
    return !vm_is_built(vm) && saved_is(vm->config.name) && !saved_in_checkpoint(vm->config.name);
}
void offer_saved_write(const struct vm *vm, struct wr *w)
{
    struct saved s = saved_find(vm->config.name);
    wr_u64(w, s.bytes);
    wr_u8(w, s.disks != NULL);
    offer_text_write(w, s.group->vg.name);
    offer_text_write(w, s.lv->name);
}
bool offer_saved_read(struct vm_offer *o, struct rd *r)
{
    struct lv_config *place = &o->saved.place;
    o->saved.bytes = rd_u64(r);
    unsigned flags = rd_u8(r);
    o->saved.with_disks = flags;
    return o->saved.bytes && o->saved.bytes <= BIT64(46) && flags <= 1 &&
           offer_text_read(r, place->vg, sizeof(place->vg)) && offer_text_read(r, place->lv, sizeof(place->lv)) &&
           offer_volume_name_ok(place->lv);
}
