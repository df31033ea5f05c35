/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_blk.c - virtio disk.  VIRTIO 1.2, 5.2.
 *
 * Requests are taken from the guest's ring, submitted to the backend (disk.h), and completed in the order in which the
 * backend finishes them.  A request that is PENDING stays in the table below, with its own copy of its descriptors, for
 * as long as the backend takes.  The table and PENDING_BYTES bound the requests in flight.  A disk in memory is never
 * PENDING: the doorbell serves a bounded piece of work, the service loop the rest.  Other disks are served by the
 * service loop alone.  A long request to a disk in memory is done in pieces.  Between them it is in the ring again, and
 * `part` says how much of it is done; a move forgets that, and it is done again from its beginning.
 *
 * Invariant at a stop: the table is empty (vm_disk.c drains it).  Requests taken are completed, all others are still in
 * the ring.  So nothing is lost or done twice, and the state to move is the ring alone.
 *
 * Reset.  A guest that resets its device takes its buffers back.  Requests in flight become orphans: their data is not
 * touched any more.  No request is taken until the backend has finished them, so that an old write cannot follow a new
 * one.  The host's disk may be reading or writing a buffer by itself meanwhile (pin).  So the device status does not
 * read as 0 before such requests are done, and a driver waits for that (4.1.4.3.2). */
#include "kernel/dev/vdev_blk.h"

#include "kernel/dev/devices.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

#define F_SIZE_MAX     BIT64(1)
#define F_SEG_MAX      BIT64(2)
#define F_RO           BIT64(5)
#define F_BLK_SIZE     BIT64(6)
#define F_FLUSH        BIT64(9)
#define F_DISCARD      BIT64(13)
#define F_WRITE_ZEROES BIT64(14)
enum { REQ_IN = 0, REQ_OUT = 1, REQ_FLUSH = 4, REQ_GET_ID = 8, REQ_DISCARD = 11, REQ_WRITE_ZEROES = 13 };
enum { STATUS_OK, STATUS_IOERR, STATUS_UNSUPP };
#define HEADER_LEN    16u
#define RANGE_LEN     16u /* DISCARD, WRITE_ZEROES: sector u64, sectors u32, flags u32; one per request */
#define RANGE_UNMAP   1u
#define RANGE_SECTORS (DISK_RANGE_MAX / DISK_SECTOR)
#define SEG_MAX       (VIRTQ_SIZE_MAX - 2) /* less header and status */
#define PIECE_MAX     (256 * KIB)          /* of a request to a disk in memory, in one go */
/* a disk has room for one more: the flush before a stop (vm_disk.c), which may outlive a stop that is cancelled */
#define PENDING_MAX   63u
#define PENDING_BYTES (4 * MIB) /* bounds the time to drain before a move, on a slow link */
#define ID_LEN        20u
_Static_assert(SEG_MAX *DISK_BLOCK_MAX <= DISK_LEN_MAX,
               "a guest that keeps to size_max and seg_max makes no request that is too long");

struct blk_req {
    struct disk_req r;
    struct blk *b;     /* borrowed: its table is this request's place */
    bool used, orphan; /* an orphan is used, too */
    bool pinned;       /* used, and pages of its data were pinned */
    enum blk_kind kind;
    uint64_t skip; /* bytes of its data before this piece */
    struct virtq_chain c;
};
struct blk {            /* [d] */
    struct disk *disk;  /* borrowed: its opener closes it once the vCPUs are frozen; NULL: not attached yet */
    struct vm *vm;      /* borrowed: owns this */
    unsigned index;     /* [c] in vm->blk */
    bool read_only;     /* [c] for the guest, whatever the disk is */
    bool discard;       /* offered; its disk may have been exchanged for one without it */
    const char *serial; /* [c] borrowed from vm's configuration; "": the disk's */
    struct disk_ram ram;
    bool hold;                        /* take no requests */
    bool waits;                       /* the ring may have requests that could not be taken */
    unsigned n, n_pending, n_orphans; /* n_orphans <= n_pending <= n */
    unsigned n_pinned_orphans;
    uint64_t pending_bytes;
    uint64_t part; /* bytes done of the request that is next in the ring; 0: it has not begun */
    struct blk_counts counts[BLK_KINDS];
    struct blk_req req[];
};

static const struct disk *blk_disk(const struct blk *b) { return b ? b->disk : NULL; }
static bool blk_is_read_only(const struct blk *b) { return b->read_only || b->disk->info.read_only; }

static void blk_config_read(struct vm *vm, struct vdev *d, uint8_t *cfg)
{
    static const struct disk_info none = { .block = DISK_SECTOR };
    const struct disk *disk = blk_disk(vm->blk[d->index]);
    const struct disk_info *i = disk ? &disk->info : &none;
    struct wr w = wr_init(cfg, VDEV_CONFIG_LEN);
    wr_u64(&w, i->bytes / DISK_SECTOR);
    wr_u32(&w, DISK_BLOCK_MAX);
    wr_u32(&w, SEG_MAX);
    wr_u32(&w, 0);
    wr_u32(&w, i->block);
    wr_u64(&w, 0); /* geometry; block size; topology */
    wr_u32(&w, 0); /* write-back, queues: features not offered */
    wr_u32(&w, RANGE_SECTORS);
    wr_u32(&w, 1);
    wr_u32(&w, i->block / DISK_SECTOR); /* discard: sectors, segments, alignment */
    wr_u32(&w, RANGE_SECTORS);
    wr_u32(&w, 1);
    wr_u8(&w, 1); /* write zeroes, which may unmap */
}

/* ---- one request ---- */

/* A disk in memory calls get and put under dev_lock; all others call them without it. */
static void blk_req_lock(const struct blk_req *q)
{
    if (q->b->disk->max_pending)
        spin_lock(&q->b->vm->dev_lock);
}
static void blk_req_unlock(const struct blk_req *q)
{
    if (q->b->disk->max_pending)
        spin_unlock(&q->b->vm->dev_lock);
}

static bool blk_data_get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    struct blk_req *q = container_of(r, struct blk_req, r);
    ASSERT(q->used);
    blk_req_lock(q);
    bool ok = !q->orphan && virtq_read(q->b->vm, &q->c, HEADER_LEN + q->skip + off, buf, n) == n;
    blk_req_unlock(q);
    return ok;
}

static void blk_data_put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    struct blk_req *q = container_of(r, struct blk_req, r);
    ASSERT(q->used);
    blk_req_lock(q);
    if (!q->orphan)
        (void)virtq_write(q->b->vm, &q->c, q->skip + off, buf, n);
    blk_req_unlock(q);
}

static uint64_t blk_data_pin(struct disk_req *r, uint64_t off, uint64_t n, uint64_t page[DISK_PINS_MAX])
{
    struct blk_req *q = container_of(r, struct blk_req, r);
    struct blk *b = q->b;
    bool in = r->op == DISK_READ;
    ASSERT(q->used);
    blk_req_lock(q);
    uint64_t got = q->orphan ? 0
                             : virtq_pin(b->vm, &q->c, in, (in ? 0 : HEADER_LEN) + q->skip + off, n,
                                         b->disk->info.block, page, DISK_PINS_MAX);
    q->pinned |= got != 0;
    blk_req_unlock(q);
    return got;
}

/* Of an orphan, too: the guest's memory has changed. */
static void blk_data_stored(struct disk_req *r, uint64_t off, uint64_t n)
{
    struct blk_req *q = container_of(r, struct blk_req, r);
    ASSERT(q->used && q->pinned);
    virtq_written(q->b->vm, &q->c, q->skip + off, n);
}

static uint64_t blk_data_in(const struct virtq_chain *c)
{
    return c->in_len ? c->in_len - 1 : 0;
} /* without the status byte */
static uint64_t blk_data_out(const struct virtq_chain *c)
{
    return c->out_len > HEADER_LEN ? c->out_len - HEADER_LEN : 0;
}

static bool blk_range_ok(const struct disk *d, uint64_t sector, uint64_t len)
{
    const struct disk_info *i = &d->info;
    uint64_t n = i->bytes / DISK_SECTOR;
    return sector <= n && len <= (n - sector) * DISK_SECTOR && len % i->block == 0 &&
           sector * DISK_SECTOR % i->block == 0;
}

static uint8_t blk_status(enum disk_status s)
{
    switch (s) {
    case DISK_OK:      return STATUS_OK;
    case DISK_UNSUPP:  return STATUS_UNSUPP;
    case DISK_ERROR:
    case DISK_PENDING: break;
    }
    return STATUS_IOERR;
}

/* Submit the request, or for a disk in memory its next piece.  PENDING from such a disk: there are more pieces. */
static enum disk_status blk_submit(struct blk_req *q, struct disk *d)
{
    struct disk_req *r = &q->r;
    struct blk *b = q->b;
    uint64_t whole = r->len;
    if (d->max_pending || !whole)
        return whole ? d->ops->submit(d, r) : DISK_OK;
    q->skip = b->part < whole ? b->part : 0; /* a guest may have changed the request meanwhile */
    r->offset += q->skip;
    r->len = MIN(whole - q->skip, PIECE_MAX);
    vdev_worked(b->vm, r->len);
    enum disk_status s = d->ops->submit(d, r);
    b->part = s == DISK_OK && q->skip + r->len < whole ? q->skip + r->len : 0;
    return b->part ? DISK_PENDING : s;
}

static enum disk_status blk_begin_data(struct blk_req *q, struct disk *d, uint64_t sector)
{
    struct disk_req *r = &q->r;
    r->offset = sector * DISK_SECTOR;
    r->len = r->op == DISK_READ ? blk_data_in(&q->c) : blk_data_out(&q->c);
    if (r->len > DISK_LEN_MAX || !blk_range_ok(d, sector, r->len) || (r->op == DISK_WRITE && blk_is_read_only(q->b)))
        return DISK_ERROR;
    return blk_submit(q, d);
}

static enum disk_status blk_begin_range(struct blk_req *q, struct disk *d)
{
    struct disk_req *r = &q->r;
    uint8_t b[RANGE_LEN] = { 0 };
    if (blk_is_read_only(q->b) || blk_data_out(&q->c) != RANGE_LEN)
        return DISK_ERROR;
    (void)virtq_read(q->b->vm, &q->c, HEADER_LEN, b, sizeof(b));
    struct rd in = rd_init(b, sizeof(b));
    uint64_t sector = rd_u64(&in), n = rd_u32(&in);
    uint32_t flags = rd_u32(&in);
    if (flags & ~RANGE_UNMAP || (r->op == DISK_DISCARD && flags))
        return DISK_UNSUPP;
    if (n > RANGE_SECTORS || !blk_range_ok(d, sector, n * DISK_SECTOR))
        return DISK_ERROR;
    r->unmap = flags;
    r->offset = sector * DISK_SECTOR;
    r->len = n * DISK_SECTOR;
    if (r->op == DISK_ZEROES ? d->info.zeroes : d->info.discard)
        return blk_submit(q, d);
    return r->op == DISK_DISCARD && q->b->discard ? DISK_OK : DISK_UNSUPP;
}

/* The flush of this host before a stop that failed took the error; it is the guest's, as the guest goes on here. */
static enum disk_status blk_begin_flush(struct blk_req *q, struct disk *d)
{
    struct vm_disk *v = &q->b->vm->disks.d[q->b->index];
    if (!d->info.flush)
        return DISK_UNSUPP;
    if (!v->owes)
        return d->ops->submit(d, &q->r);
    v->owes = false;
    return DISK_ERROR;
}

static const char *blk_serial(const struct blk *b) { return b->serial[0] ? b->serial : b->disk->serial; }

static enum disk_status blk_begin(struct blk_req *q)
{
    struct disk *d = q->b->disk;
    struct vm *vm = q->b->vm;
    ASSERT(q->used && !q->orphan);
    lock_assert_held(&vm->dev_lock);
    q->kind = BLK_OTHER;
    uint8_t head[HEADER_LEN] = { 0 }, id[ID_LEN] = { 0 };
    if (!q->c.in_len || q->c.out_len < HEADER_LEN)
        return DISK_ERROR;
    (void)virtq_read(vm, &q->c, 0, head, sizeof(head));
    struct rd in = rd_init(head, sizeof(head));
    uint32_t type = rd_u32(&in);
    (void)rd_u32(&in);
    uint64_t sector = rd_u64(&in);
    q->r.unmap = false;
    q->kind = type == REQ_IN ? BLK_READ : type == REQ_OUT ? BLK_WRITE : BLK_OTHER;
    q->r.offset = q->r.len = q->skip = 0;
    switch (type) {
    case REQ_IN:           q->r.op = DISK_READ; return blk_begin_data(q, d, sector);
    case REQ_OUT:          q->r.op = DISK_WRITE; return blk_begin_data(q, d, sector);
    case REQ_DISCARD:      q->r.op = DISK_DISCARD; return blk_begin_range(q, d);
    case REQ_WRITE_ZEROES: q->r.op = DISK_ZEROES; return blk_begin_range(q, d);
    case REQ_FLUSH:        q->r.op = DISK_FLUSH; return blk_begin_flush(q, d);
    case REQ_GET_ID:
        memcpy(id, blk_serial(q->b), MIN(strlen(blk_serial(q->b)), sizeof(id)));
        return virtq_write(vm, &q->c, 0, id, MIN(sizeof(id), blk_data_in(&q->c))) ? DISK_OK : DISK_ERROR;
    default: return DISK_UNSUPP;
    }
}

static void blk_complete(struct vm *vm, struct vdev *d, struct blk_req *q, enum disk_status s)
{
    uint8_t status = blk_status(s);
    ASSERT(q->used && !q->orphan && s != DISK_PENDING);
    uint64_t data = blk_data_in(&q->c) + blk_data_out(&q->c);
    struct blk_counts *n = &q->b->counts[q->kind];
    (void)virtq_write(vm, &q->c, blk_data_in(&q->c), &status, 1);
    n->requests++;
    n->errors += s != DISK_OK;
    n->bytes += s == DISK_OK ? data : 0;
    d->n_failed += s != DISK_OK;
    d->n_bytes += data;
    vdev_push(vm, d, 0, q->c.head, (uint32_t)q->c.in_len);
    q->used = false;
}

/* ---- the ring ---- */

static void blk_defer(struct vm *vm, const struct vdev *d)
{
    const struct disk *disk = vm->blk[d->index]->disk;
    if (disk && disk->local)
        vdev_defer_quick(vm, d);
    else
        vdev_defer(vm, d);
}

/* A free request, or NULL: none may be taken now. */
static struct blk_req *blk_req_alloc(struct blk *b)
{
    ASSERT(b->n_orphans <= b->n_pending && b->n_pending <= b->n);
    if (!b->disk || b->hold || b->n_orphans || (b->n_pending && b->pending_bytes >= PENDING_BYTES))
        return NULL;
    for (unsigned i = 0; i < b->n; i++)
        if (!b->req[i].used)
            return &b->req[i];
    return NULL;
}

/* Serve requests of the ring.  True: no more can be served now; false: the turn is over. */
static bool blk_serve_ring(struct vm *vm, struct vdev *d)
{
    struct blk *b = vm->blk[d->index];
    struct blk_req *q;
    uint64_t turn = vdev_turn_begin(vm);
    unsigned completed = 0;
    b->waits = false;
    while (!vdev_turn_over(vm, turn)) {
        if (!(q = blk_req_alloc(b))) {
            b->waits = true;
            break;
        }
        if (vdev_pop(vm, d, 0, &q->c) != VIRTQ_GOT)
            break;
        q->used = true;
        q->pinned = false;
        q->r.quick = b->disk->local;
        enum disk_status s = blk_begin(q);
        if (s == DISK_PENDING && !b->disk->max_pending) {
            q->used = false;
            virtq_unpop(&d->q[0]); /* the next piece finds it there */
        } else if (s == DISK_PENDING) {
            uint64_t data = blk_data_in(&q->c) + blk_data_out(&q->c);
            b->n_pending++;
            b->pending_bytes += data;
            vdev_worked(vm, data);
        } else {
            blk_complete(vm, d, q, s);
            completed++;
        }
    }
    if (completed && vdev_live(d))
        vdev_notify(vm, d, 0);
    return !vdev_turn_over(vm, turn);
}

static void blk_done(struct disk_req *r, enum disk_status s)
{
    struct blk_req *q = container_of(r, struct blk_req, r);
    struct blk *b = q->b;
    struct vm *vm = b->vm;
    struct vdev *d = vdev_find_nth(vm, VDEV_BLK, b->index);
    spin_lock(&vm->dev_lock);
    ASSERT(q->used && b->n_pending > 0 && b->pending_bytes >= blk_data_in(&q->c) + blk_data_out(&q->c));
    b->n_pending--;
    b->pending_bytes -= blk_data_in(&q->c) + blk_data_out(&q->c);
    if (q->orphan) {
        ASSERT(b->n_orphans > 0 && b->n_pinned_orphans >= q->pinned);
        b->n_orphans--;
        b->n_pinned_orphans -= q->pinned;
    } else if (vdev_live(d)) {
        blk_complete(vm, d, q, s);
        if (vdev_live(d))
            vdev_notify(vm, d, 0);
    }
    q->used = q->orphan = false;
    if (b->waits)
        blk_defer(vm, d);
    if (b->hold)
        pcpu_kick_service(); /* whoever drains the disk */
    spin_unlock(&vm->dev_lock);
}

static void blk_doorbell(struct vm *vm, struct vdev *d, unsigned q)
{
    const struct disk *disk = vm->blk[d->index]->disk;
    (void)q;
    if (!disk || disk->max_pending || !blk_serve_ring(vm, d))
        blk_defer(vm, d);
}

static bool blk_service(struct vm *vm, struct vdev *d)
{
    spin_lock(&vm->dev_lock);
    bool done = !vdev_live(d) || blk_serve_ring(vm, d);
    spin_unlock(&vm->dev_lock);
    return !done;
}

static void blk_reset(struct vm *vm, struct vdev *d)
{
    struct blk *b = vm->blk[d->index];
    lock_assert_held(&vm->dev_lock);
    b->part = 0;
    for (unsigned i = 0; i < b->n; i++) {
        if (!b->req[i].used || b->req[i].orphan)
            continue;
        b->req[i].orphan = true;
        b->n_orphans++;
        b->n_pinned_orphans += b->req[i].pinned;
    }
}

static bool blk_resetting(const struct vm *vm, const struct vdev *d) { return vm->blk[d->index]->n_pinned_orphans; }

const struct vdev_ops vdev_blk_ops = {
    .name = "disk",
    .slot = 4,
    .further_slot = 6,
    .class_code = 0x010000,
    .n_queues = 1,
    .features = F_SIZE_MAX | F_SEG_MAX | F_RO | F_BLK_SIZE | F_FLUSH | F_DISCARD | F_WRITE_ZEROES,
    .config_read = blk_config_read,
    .doorbell = blk_doorbell,
    .service = blk_service,
    .reset = blk_reset,
    .resetting = blk_resetting,
};

/* ---- creation, and calls of vm_disk.c ---- */

static size_t blk_table_size(unsigned n) { return sizeof(struct blk) + n * sizeof(struct blk_req); }

_Static_assert(sizeof(struct blk) + PENDING_MAX * sizeof(struct blk_req) <= VDEV_BLK_MEMORY, "the table fits");

static enum hv_err blk_create(struct vm *vm, unsigned index)
{
    static const struct disk_req requests = {
        .get = blk_data_get, .put = blk_data_put, .pin = blk_data_pin, .stored = blk_data_stored, .done = blk_done
    };
    const struct disk_config *c = &vm->config.disk[index];
    bool in_ram = c->kind == DISK_IN_RAM;
    unsigned n = in_ram ? 1 : PENDING_MAX;
    struct blk *b = vm->blk[index] = mem_alloc(blk_table_size(n));
    if (!b)
        return HV_FAIL(HV_E_NOMEM);
    *b = (struct blk){ .vm = vm, .index = index, .n = n, .read_only = c->read_only, .serial = c->serial };
    for (unsigned i = 0; i < n; i++)
        b->req[i] = (struct blk_req){ .b = b, .r = requests };
    if (!in_ram)
        return HV_OK;
    disk_ram_init(&b->ram, vm, index);
    vdev_blk_attach(vm, index, &b->ram.disk);
    return HV_OK;
}

enum hv_err vdev_blk_create_all(struct vm *vm)
{
    for (unsigned i = 0; i < CONFIG_MAX_DISKS; i++)
        vm->ram_disk[i] = config_ram_disk_bytes(&vm->config, i);
    for (unsigned i = 0; i < vm->config.n_disks; i++)
        if (blk_create(vm, i) != HV_OK)
            return HV_FAIL(HV_E_NOMEM);
    return HV_OK;
}

void vdev_blk_destroy_all(struct vm *vm)
{
    for (unsigned i = 0; i < CONFIG_MAX_DISKS; i++) {
        if (vm->blk[i])
            mem_free(vm->blk[i], blk_table_size(vm->blk[i]->n));
        vm->blk[i] = NULL;
    }
}

void vdev_blk_attach(struct vm *vm, unsigned index, struct disk *disk)
{
    struct vdev *d = vdev_find_nth(vm, VDEV_BLK, index);
    struct blk *b = vm->blk[index];
    const struct disk_info *i = &disk->info;
    ASSERT(disk->known && (!disk->max_pending || disk->max_pending > PENDING_MAX) && b->n_pending == 0);
    b->disk = disk;
    b->discard = i->discard;
    d->lacks = (blk_is_read_only(b) ? 0 : F_RO) | (i->flush ? 0 : F_FLUSH) | (i->discard ? 0 : F_DISCARD) |
               (i->zeroes ? 0 : F_WRITE_ZEROES);
}

enum hv_err vdev_blk_deepen(struct vm *vm, unsigned index)
{
    struct blk *was = vm->blk[index], *b = was->n < PENDING_MAX ? mem_alloc(blk_table_size(PENDING_MAX)) : was;
    if (b == was)
        return HV_OK;
    if (!b)
        return HV_FAIL(HV_E_NOMEM);
    spin_lock(&vm->dev_lock);
    ASSERT(was->disk == &was->ram.disk && was->hold && was->n_pending == 0);
    *b = *was;
    b->n = PENDING_MAX;
    b->disk = &b->ram.disk;
    for (unsigned i = 0; i < b->n; i++)
        b->req[i] = (struct blk_req){ .b = b, .r = was->req[0].r };
    vm->blk[index] = b;
    spin_unlock(&vm->dev_lock);
    mem_free(was, blk_table_size(was->n));
    return HV_OK;
}

void vdev_blk_swap(struct vm *vm, unsigned index, struct disk *disk)
{
    struct blk *b = vm->blk[index];
    spin_lock(&vm->dev_lock);
    ASSERT(b->disk && b->hold && b->n_pending == 0);
    ASSERT(!disk || (disk->known && disk->max_pending > PENDING_MAX && b->n == PENDING_MAX));
    if (!disk)
        disk_ram_init(&b->ram, vm, index);
    b->disk = disk ? disk : &b->ram.disk;
    b->part = 0;
    spin_unlock(&vm->dev_lock);
}

const struct blk_counts *vdev_blk_counts(const struct vm *vm, unsigned index, enum blk_kind kind)
{
    ASSERT(index < CONFIG_MAX_DISKS && kind < BLK_KINDS);
    return vm->blk[index] ? &vm->blk[index]->counts[kind] : NULL;
}

void vdev_blk_hold(struct vm *vm, unsigned index, bool hold)
{
    spin_lock(&vm->dev_lock);
    vm->blk[index]->hold = hold;
    if (!hold)
        blk_defer(vm, vdev_find_nth(vm, VDEV_BLK, index));
    spin_unlock(&vm->dev_lock);
}

unsigned vdev_blk_pending(struct vm *vm, unsigned index)
{
    spin_lock(&vm->dev_lock);
    unsigned n = vm->blk[index]->n_pending;
    spin_unlock(&vm->dev_lock);
    return n;
}
