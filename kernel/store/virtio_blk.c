/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/virtio_blk.c - driver for virtio disks, as a host that is itself a guest has them.  virtio 1.1, 5.2
 * "Block Device".
 *
 * One queue.  A request's slot (blockq.h) has three descriptors, which never change places: header, data, status.  One
 * with data in pages has a table of its own instead, if the device takes indirect descriptors.
 *
 *   DOWN --time--> STOPPING --status 0, queue made--> NAMING --serial number--> READY
 *     ^________________|_________________________________|___ late, failed, or gone __|
 *
 * A device that asks for it, disappears, or lets a request wait for too long is reset, and gets its requests again.
 * It is not trusted: numbers that it writes are checked.
 * Not here: several queues, changes of the size, read-only disks, what asks for an IOMMU. */
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/virtio.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"
#include "kernel/store/blockq.h"

#define VIRTIO_BLK_LEGACY_ID 0x1001 /* transitional */
#define VIRTIO_BLK_ID        0x1042

#define F_SIZE_MAX BIT64(1)
#define F_SEG_MAX  BIT64(2)
#define F_RO       BIT64(5)
#define F_BLK_SIZE BIT64(6)
#define F_FLUSH    BIT64(9)
#define F_DISCARD  BIT64(13)
#define F_ZEROES   BIT64(14)
#define F_INDIRECT BIT64(28)
/* 5.2.4 "Device configuration layout". */
enum { D_CAPACITY = 0, D_SIZE_MAX = 8, D_SEG_MAX = 12, D_BLK_SIZE = 20, CONFIG_LEN = 24 };
enum { D_DISCARD_MAX = 36, D_ZEROES_MAX = 48, D_ZEROES_UNMAP = 56, CONFIG_LEN_ZEROES = 60 };
/* 5.2.6 "Device Operation". */
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2, S_NONE = 0xff };
#define SECTOR  512u /* of capacity and of requests, whatever the block size */
#define ID_LEN  20u
#define CHAIN   3u /* descriptors of a slot */
#define STOP_US 2000000
#define TABLE   (BLOCK_PARTS_MAX + 2) /* descriptors of an indirect table */

struct header {
    uint32_t type, reserved;
    uint64_t sector;
};
/* What the device reads and writes beside the data, one for each slot. */
struct note {
    struct header head;
    uint8_t id[ID_LEN]; /* the answer to T_GET_ID */
    volatile uint8_t status;
    uint8_t reserved[3];
    struct range {
        uint64_t sector;
        uint32_t n_sectors, flags;
    } range; /* of T_DISCARD and T_ZEROES */
    uint8_t reserved2[8];
};
#define RANGE_UNMAP 1u
_Static_assert(sizeof(struct header) == 16 && sizeof(struct note) == 64, "5.2.6");

enum state { DOWN, STOPPING, NAMING, READY };
struct virtio_blk {
    struct blockdev dev;
    struct blockq q;
    struct virtio_dev v;
    struct vring ring;
    struct note *notes;                 /* owned, for ever: one for each slot */
    struct vring_desc (*tables)[TABLE]; /* likewise */
    uint64_t until_us; /* of STOPPING and NAMING; DOWN: the next try; READY: the next look at the status */
    enum state state;
    bool unmap;
    uint8_t vector; /* 0: none */
    uint64_t features;
};
static unsigned n_disks;

static struct virtio_blk *blk_of(struct blockdev *d) { return container_of(d, struct virtio_blk, dev); }

/* ---- requests ---- */

static void desc_set(struct virtio_blk *b, unsigned i, void *p, uint32_t len, uint16_t flags)
{
    b->ring.desc[i] =
        (struct vring_desc){ .addr = ptr_hpa(p).v, .len = len, .flags = flags, .next = (uint16_t)(i + 1) };
}

/* data: NULL for none */
static void chain_send(struct virtio_blk *b, unsigned slot, struct header h, void *data, uint32_t len, bool from_device)
{
    struct note *n = &b->notes[slot];
    unsigned i = CHAIN * slot;
    n->head = h;
    n->status = S_NONE;
    desc_set(b, i, &n->head, sizeof(n->head), VRING_DESC_NEXT);
    if (data)
        desc_set(b, i + 1, data, len, VRING_DESC_NEXT | (from_device ? VRING_DESC_WRITE : 0));
    else
        b->ring.desc[i].next = (uint16_t)(i + 2);
    desc_set(b, i + 2, (void *)(uintptr_t)&n->status, 1, VRING_DESC_WRITE);
    vring_publish(&b->ring, i);
}

/* The same with r's data, in a table. */
static void table_send(struct virtio_blk *b, unsigned slot, struct header h, const struct block_req *r)
{
    struct note *note = &b->notes[slot];
    struct vring_desc *t = b->tables[slot];
    uint16_t n = 0, data = VRING_DESC_NEXT | (r->op == BLOCK_READ ? VRING_DESC_WRITE : 0);
    note->head = h;
    note->status = S_NONE;
    t[n++] = (struct vring_desc){ ptr_hpa(&note->head).v, sizeof(note->head), VRING_DESC_NEXT, 1 };
    for (uint32_t at = 0; at < r->len; at += t[n++].len) {
        t[n] = (struct vring_desc){ .flags = data, .next = (uint16_t)(n + 1) };
        t[n].len = block_data_at(r, at, &t[n].addr);
    }
    t[n++] = (struct vring_desc){ ptr_hpa((void *)(uintptr_t)&note->status).v, 1, VRING_DESC_WRITE, 0 };
    desc_set(b, CHAIN * slot, t, n * (uint32_t)sizeof(*t), VRING_DESC_INDIRECT);
    vring_publish(&b->ring, CHAIN * slot);
}

static void virtio_blk_send(struct blockdev *d, unsigned slot)
{
    static const uint32_t types[] = { [BLOCK_READ] = T_IN,
                                      [BLOCK_WRITE] = T_OUT,
                                      [BLOCK_FLUSH] = T_FLUSH,
                                      [BLOCK_DISCARD] = T_DISCARD,
                                      [BLOCK_ZEROES] = T_ZEROES };
    struct virtio_blk *b = blk_of(d);
    const struct block_req *r = b->q.slot[slot].r;
    struct range *range = &b->notes[slot].range;
    struct header h = { .type = types[r->op] };
    switch (r->op) {
    case BLOCK_FLUSH: chain_send(b, slot, h, NULL, 0, false); break;
    case BLOCK_DISCARD:
    case BLOCK_ZEROES:
        *range = (struct range){ .sector = r->at / SECTOR, .n_sectors = r->len / SECTOR };
        range->flags = r->op == BLOCK_ZEROES && r->unmap && b->unmap ? RANGE_UNMAP : 0;
        chain_send(b, slot, h, range, sizeof(*range), false);
        break;
    case BLOCK_READ:
    case BLOCK_WRITE:
        h.sector = r->at / SECTOR;
        if (r->buf)
            chain_send(b, slot, h, r->buf, r->len, r->op == BLOCK_READ);
        else
            table_send(b, slot, h, r);
        break;
    }
}

static void virtio_blk_submit(struct blockdev *d, struct block_req *r) { blockq_add(&blk_of(d)->q, r); }

/* The slot whose chain begins with this descriptor; n_slots: none. */
static unsigned chain_slot(const struct virtio_blk *b, uint32_t id)
{
    return id % CHAIN == 0 && id / CHAIN < b->q.n_slots ? id / CHAIN : b->q.n_slots;
}

static void used_apply(struct virtio_blk *b, uint32_t id)
{
    unsigned slot = chain_slot(b, id);
    char what[24];
    if (slot == b->q.n_slots || !b->q.slot[slot].r)
        return; /* nobody asked */
    uint8_t status = b->notes[slot].status;
    snprintf(what, sizeof(what), "status %u", status);
    if (status == S_OK)
        blockq_done(&b->q, slot, true);
    else /* the host has tried again by itself */
        blockq_failed(&b->q, slot, status == S_IOERR || status == S_UNSUPP, what);
}

/* ---- starting ---- */

static void virtio_blk_down(struct virtio_blk *b, const char *why)
{
    blockdev_lost(&b->dev, why);
    b->state = DOWN;
    b->until_us = clock_us() + DISK_RETRY_US;
}

static void virtio_blk_stop_begin(struct virtio_blk *b)
{
    blockq_requeue(&b->q);
    virtio_status_set(&b->v, 0);
    b->state = STOPPING;
    b->until_us = clock_us() + STOP_US;
}

static void virtio_blk_unusable(struct virtio_blk *b, const char *why)
{
    virtio_status_set(&b->v, VIRTIO_STATUS_FAILED);
    if (b->dev.found == BLOCK_KNOWN) {
        virtio_blk_down(b, "it does not start again as the same disk");
        return;
    }
    log_warn("store", "%s: it is not used: %s", b->dev.name, why);
    b->dev.found = BLOCK_NONE; /* its memory stays, since it may not obey */
}

/* Why the features that were agreed on do not suffice, or NULL. */
static const char *features_check(const struct virtio_blk *b)
{
    if (b->features & F_RO)
        return "it is read-only";
    if ((b->features & F_SIZE_MAX) && mmio_read32(b->v.device + D_SIZE_MAX) < BLOCK_LEN_MAX)
        return "its segments are too short";
    return NULL;
}

/* The device is reset: agree on features, make the queue, and ask for the serial number. */
static void virtio_blk_begin(struct virtio_blk *b)
{
    bool irq;
    const uint64_t sizes = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE;
    uint64_t ranges = b->v.device_len >= CONFIG_LEN_ZEROES ? F_DISCARD | F_ZEROES : 0;
    if (!virtio_negotiate(&b->v, sizes | F_RO | F_FLUSH | F_INDIRECT | ranges, &b->features)) {
        virtio_blk_unusable(b, "it does not agree on features");
        return;
    }
    const char *why = features_check(b);
    virtio_config_irq_off(&b->v);
    if (!why && (vring_size(&b->v, 0, b->ring.size) < b->ring.size ||
                 !vring_start(&b->v, &b->ring, 0, b->vector ? 0 : VIRTIO_NO_VECTOR, &irq)))
        why = "its queue is not as it should be";
    if (why) {
        virtio_blk_unusable(b, why);
        return;
    }
    b->dev.irq = irq ? b->vector : 0;
    b->q.no_cache = !(b->features & F_FLUSH);
    virtio_status_set(&b->v, virtio_status(&b->v) | VIRTIO_STATUS_OK);
    memset(b->notes[0].id, 0, ID_LEN);
    chain_send(b, 0, (struct header){ .type = T_GET_ID }, b->notes[0].id, ID_LEN, true);
    vring_kick(&b->ring);
    b->state = NAMING;
    b->until_us = clock_us() + DISK_IDENTIFY_US;
}

/* One limit for both, in bytes, whichever there are. */
static void ranges_take(struct virtio_blk *b, struct block_facts *f)
{
    const volatile uint8_t *p = b->v.device;
    uint64_t most = UINT32_MAX;
    f->discard = b->features & F_DISCARD;
    f->zeroes = b->features & F_ZEROES;
    if (f->discard)
        most = MIN(most, mmio_read32(p + D_DISCARD_MAX));
    if (f->zeroes)
        most = MIN(most, mmio_read32(p + D_ZEROES_MAX));
    b->unmap = f->zeroes && mmio_read8(p + D_ZEROES_UNMAP);
    f->range_max = most * SECTOR;
}

/* The longest request in pages; the first and the last may be parts of one. */
static uint64_t pages_take(const struct virtio_blk *b)
{
    uint64_t most = b->features & F_SEG_MAX ? mmio_read32(b->v.device + D_SEG_MAX) : 0;
    return (b->features & F_INDIRECT) && most ? (most - 1) * PAGE_SIZE : 0;
}

/* The size, and the serial number if the device told one. */
static void virtio_blk_named(struct virtio_blk *b)
{
    char serial[ID_LEN + 1] = "";
    const volatile uint8_t *p = b->v.device;
    uint64_t n = mmio_read32(p + D_CAPACITY) | (uint64_t)mmio_read32(p + D_CAPACITY + 4) << 32;
    uint64_t sector = b->features & F_BLK_SIZE ? mmio_read32(p + D_BLK_SIZE) : SECTOR;
    if (b->notes[0].status == S_OK)
        blockdev_text(serial, b->notes[0].id, strnlen((const char *)b->notes[0].id, ID_LEN));
    if (!blockdev_size_ok(n, SECTOR) || sector < SECTOR || !blockdev_size_ok(n * SECTOR / sector, sector)) {
        virtio_blk_unusable(b, "it has sectors, or a size, that this driver cannot use");
        return;
    }
    struct block_facts f = { .bytes = ALIGN_DOWN(n * SECTOR, sector), .sector = (uint32_t)sector, .serial = serial };
    ranges_take(b, &f);
    f.pages_max = pages_take(b);
    if (!blockdev_identified(&b->dev, &f)) {
        virtio_blk_unusable(b, "it is another disk");
        return;
    }
    b->state = READY;
    b->until_us = 0;
    blockdev_back(&b->dev);
}

/* Returns true when the state changed. */
static bool virtio_blk_start_step(struct virtio_blk *b)
{
    uint8_t status = virtio_status(&b->v);
    bool gone = status == 0xff, late = clock_us() > b->until_us;
    enum state was = b->state;
    struct vring_used_elem u;
    if (b->state == DOWN && late && !gone) {
        virtio_blk_stop_begin(b);
    } else if (b->state == DOWN) {
        b->until_us = late ? clock_us() + DISK_RETRY_US : b->until_us;
    } else if (gone || late) {
        virtio_blk_down(b, gone ? "the disk is gone" : "it does not start");
    } else if (b->state == STOPPING && !status) {
        virtio_blk_begin(b);
    } else if (b->state == NAMING && vring_take(&b->ring, &u) && u.id == 0) {
        virtio_blk_named(b);
    }
    return b->state != was;
}

/* Does the device need a reset? */
static const char *virtio_blk_trouble(struct virtio_blk *b)
{
    uint64_t now = clock_us();
    if (now < b->until_us)
        return NULL;
    b->until_us = now + DISK_CHECK_US;
    if (blockq_late(&b->q))
        return "a request took longer than 10 s: the device is reset";
    uint8_t status = b->q.n_sent ? virtio_status(&b->v) : VIRTIO_STATUS_OK;
    return (status & VIRTIO_STATUS_RESET_ME) || !(status & VIRTIO_STATUS_OK)
               ? "the device is gone, or asks for a reset: it is reset"
               : NULL;
}

static bool virtio_blk_poll(struct blockdev *d)
{
    struct virtio_blk *b = blk_of(d);
    struct vring_used_elem u;
    bool moved = false;
    if (b->state != READY)
        return virtio_blk_start_step(b);
    for (unsigned i = 0; i < b->ring.size && vring_take(&b->ring, &u); i++) {
        used_apply(b, u.id);
        moved = true;
    }
    moved |= blockq_fill(&b->q);
    vring_kick(&b->ring);
    const char *trouble = virtio_blk_trouble(b);
    if (trouble) {
        d->n_resets++;
        blockq_forget(&b->q);
        virtio_blk_down(b, trouble);
        virtio_blk_stop_begin(b);
    }
    return moved;
}

/* ---- probing ---- */

static const struct blockdev_ops virtio_blk_ops = { "virtio-blk", virtio_blk_submit, virtio_blk_poll };

static enum hv_err virtio_blk_open(struct virtio_blk *b, const struct pci_dev *d)
{
    unsigned size = virtio_open(&b->v, d, CONFIG_LEN) ? vring_size(&b->v, 0, VRING_MAX) : 0;
    if (size < CHAIN)
        return HV_FAIL(HV_E_UNSUPP);
    b->notes = mem_alloc(BLOCKQ_MAX * sizeof(struct note));
    b->tables = mem_alloc(BLOCKQ_MAX * sizeof(b->tables[0]));
    if (!b->notes || !b->tables)
        return HV_FAIL(HV_E_NOMEM);
    blockq_init(&b->q, &b->dev, MIN(size / CHAIN, BLOCKQ_MAX), virtio_blk_send);
    return vring_alloc(&b->ring, size);
}

void virtio_blk_probe(const struct pci_dev *d)
{
    if (d->vendor != VIRTIO_VENDOR || (d->device != VIRTIO_BLK_ID && d->device != VIRTIO_BLK_LEGACY_ID) ||
        !blockdev_room(d))
        return;
    struct virtio_blk *b = mem_alloc(sizeof(*b));
    pci_enable(d);
    enum hv_err e = b ? virtio_blk_open(b, d) : HV_E_NOMEM;
    if (e) { /* once at boot: what it had of memory is lost */
        log_warn("store", "virtio-blk %04x cannot be used: %s", d->bdf, hv_err_text(e));
        return;
    }
    b->dev.ops = &virtio_blk_ops;
    snprintf(b->dev.name, sizeof(b->dev.name), "virtio%u", n_disks++);
    snprintf(b->dev.model, sizeof(b->dev.model), "virtio-blk");
    b->vector = pcpu_irq_alloc();
    if (b->vector && pci_msi_enable(d, 0, b->vector) != HV_OK)
        b->vector = 0;
    virtio_blk_stop_begin(b);
    pci_master_enable(d); /* the firmware's queues are forgotten */
    blockdev_add(&b->dev);
}
