/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_blk.c - virtio disk.  VIRTIO 1.2, 5.2.
 *
 * Takes requests from the guest's ring, has the disk behind it (disk.h) carry them out, and answers them, in whatever
 * order they get done.  A request that the disk cannot finish at once stays in the table below, with its own copy of
 * its descriptors, and the disk may take as long as it likes; no more are taken from the ring than the table and
 * PENDING_BYTES hold.  A disk in memory is never pending: its requests are done in the doorbell, a bounded piece of
 * work, and the rest by the service loop; those of other disks by the service loop alone.
 *
 * At a stop the table is empty (vm_disk.c sees to that): what was taken is answered, what was not is still in the ring,
 * and so nothing is lost or done twice, and the state that moves is the ring's.
 *
 * A guest that resets its device takes its buffers back.  Requests on their way are orphans then: their data is
 * not touched any more, and until the disk has answered them nothing new is taken, so that an old write cannot
 * come after a new one. */
#include "kernel/dev/vdev_blk.h"

#include "kernel/dev/devices.h"
#include "kernel/host/page.h"
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
#define RANGE_LEN     16u /* DISCARD, WRITE_ZEROES: sector u64, sectors u32, flags u32; one in a request */
#define RANGE_UNMAP   1u
#define RANGE_SECTORS (DISK_RANGE_MAX / DISK_SECTOR)
#define SEG_MAX       (VIRTQ_SIZE_MAX - 2) /* less header and status */
#define TURN_BYTES    (512 * KIB)
/* a disk takes one more: the flush before a stop (vm_disk.c), which goes on when the stop is called off */
#define PENDING_MAX   63u
#define PENDING_BYTES (4 * MIB) /* a slow link drains so much in a time that a move can bear */
#define ID_LEN        20u
_Static_assert(SEG_MAX *DISK_BLOCK_MAX <= DISK_LEN_MAX,
               "a guest that keeps to size_max and seg_max makes no request that is too long");

struct blk_req {
    struct disk_req r;
    struct vm *vm;
    bool used, orphan;
    struct virtq_chain c;
};
struct blk {           /* [d] */
    struct disk *disk; /* borrowed: closed by whoever opened it, after the vCPUs came to rest; NULL: not attached yet */
    struct disk_ram ram;
    bool hold;
    unsigned n, n_pending, n_orphans;
    uint64_t pending_bytes;
    struct blk_req req[];
};

static const struct disk *disk_of(const struct vm *vm) { return vm->blk ? vm->blk->disk : NULL; }

static void config_read(struct vm *vm, struct vdev *d, uint8_t *cfg)
{
    static const struct disk_info none = { .block = DISK_SECTOR };
    const struct disk_info *i = disk_of(vm) ? &disk_of(vm)->info : &none;
    struct wr w = wr_init(cfg, VDEV_CONFIG_LEN);
    (void)d;
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

/* Requests of a disk in memory are carried out under the lock, all others without it. */
static void lock(const struct blk_req *q)
{
    if (q->vm->blk->disk->max_pending)
        spin_lock(&q->vm->dev_lock);
}
static void unlock(const struct blk_req *q)
{
    if (q->vm->blk->disk->max_pending)
        spin_unlock(&q->vm->dev_lock);
}

static bool data_get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    struct blk_req *q = container_of(r, struct blk_req, r);
    lock(q);
    bool ok = !q->orphan && virtq_read(q->vm, &q->c, HEADER_LEN + off, buf, n) == n;
    unlock(q);
    return ok;
}

static void data_put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    struct blk_req *q = container_of(r, struct blk_req, r);
    lock(q);
    if (!q->orphan)
        (void)virtq_write(q->vm, &q->c, off, buf, n);
    unlock(q);
}

static uint64_t data_in(const struct virtq_chain *c) { return c->in_len ? c->in_len - 1 : 0; } /* less the status */
static uint64_t data_out(const struct virtq_chain *c) { return c->out_len > HEADER_LEN ? c->out_len - HEADER_LEN : 0; }

static bool in_disk(const struct disk *d, uint64_t sector, uint64_t len)
{
    const struct disk_info *i = &d->info;
    uint64_t n = i->bytes / DISK_SECTOR;
    return sector <= n && len <= (n - sector) * DISK_SECTOR && len % i->block == 0 &&
           sector * DISK_SECTOR % i->block == 0;
}

static uint8_t status_of(enum disk_status s)
{
    switch (s) {
    case DISK_OK:      return STATUS_OK;
    case DISK_UNSUPP:  return STATUS_UNSUPP;
    case DISK_ERROR:
    case DISK_PENDING: break;
    }
    return STATUS_IOERR;
}

static enum disk_status data_begin(struct blk_req *q, struct disk *d, uint64_t sector)
{
    struct disk_req *r = &q->r;
    r->offset = sector * DISK_SECTOR;
    r->len = r->op == DISK_READ ? data_in(&q->c) : data_out(&q->c);
    if (r->len > DISK_LEN_MAX || !in_disk(d, sector, r->len) || (r->op == DISK_WRITE && d->info.read_only))
        return DISK_ERROR;
    return r->len ? d->ops->submit(d, r) : DISK_OK;
}

static enum disk_status range_begin(struct blk_req *q, struct disk *d)
{
    struct disk_req *r = &q->r;
    uint8_t b[RANGE_LEN] = { 0 };
    if (d->info.read_only || data_out(&q->c) != RANGE_LEN)
        return DISK_ERROR;
    (void)virtq_read(q->vm, &q->c, HEADER_LEN, b, sizeof(b));
    struct rd in = rd_init(b, sizeof(b));
    uint64_t sector = rd_u64(&in), n = rd_u32(&in);
    uint32_t flags = rd_u32(&in);
    if (flags & ~RANGE_UNMAP || (r->op == DISK_DISCARD && flags))
        return DISK_UNSUPP;
    if (n > RANGE_SECTORS || !in_disk(d, sector, n * DISK_SECTOR))
        return DISK_ERROR;
    r->unmap = flags;
    r->offset = sector * DISK_SECTOR;
    r->len = n * DISK_SECTOR;
    if (!(r->op == DISK_ZEROES ? d->info.zeroes : d->info.discard))
        return DISK_UNSUPP;
    return n ? d->ops->submit(d, r) : DISK_OK;
}

static enum disk_status begin(struct blk_req *q)
{
    struct disk *d = q->vm->blk->disk;
    uint8_t head[HEADER_LEN] = { 0 }, id[ID_LEN] = { 0 };
    if (!q->c.in_len || q->c.out_len < HEADER_LEN)
        return DISK_ERROR;
    (void)virtq_read(q->vm, &q->c, 0, head, sizeof(head));
    struct rd in = rd_init(head, sizeof(head));
    uint32_t type = rd_u32(&in);
    (void)rd_u32(&in);
    uint64_t sector = rd_u64(&in);
    q->r.unmap = false;
    q->r.offset = q->r.len = 0;
    switch (type) {
    case REQ_IN:           q->r.op = DISK_READ; return data_begin(q, d, sector);
    case REQ_OUT:          q->r.op = DISK_WRITE; return data_begin(q, d, sector);
    case REQ_DISCARD:      q->r.op = DISK_DISCARD; return range_begin(q, d);
    case REQ_WRITE_ZEROES: q->r.op = DISK_ZEROES; return range_begin(q, d);
    case REQ_FLUSH:        q->r.op = DISK_FLUSH; return d->info.flush ? d->ops->submit(d, &q->r) : DISK_UNSUPP;
    case REQ_GET_ID:
        memcpy(id, d->serial, MIN(strlen(d->serial), sizeof(id)));
        return virtq_write(q->vm, &q->c, 0, id, MIN(sizeof(id), data_in(&q->c))) ? DISK_OK : DISK_ERROR;
    default: return DISK_UNSUPP;
    }
}

static void answer(struct vm *vm, struct vdev *d, struct blk_req *q, enum disk_status s)
{
    uint8_t status = status_of(s);
    (void)virtq_write(vm, &q->c, data_in(&q->c), &status, 1);
    d->n_failed += s != DISK_OK;
    d->n_bytes += data_in(&q->c) + data_out(&q->c);
    vdev_push(vm, d, 0, q->c.head, (uint32_t)q->c.in_len);
    q->used = false;
}

/* ---- the ring ---- */

static struct blk_req *slot_free(struct blk *b)
{
    if (!b->disk || b->hold || b->n_orphans || (b->n_pending && b->pending_bytes >= PENDING_BYTES))
        return NULL;
    for (unsigned i = 0; i < b->n; i++)
        if (!b->req[i].used)
            return &b->req[i];
    return NULL;
}

/* True: nothing more can be done now; false: the turn is over. */
static bool work(struct vm *vm, struct vdev *d)
{
    struct blk *b = vm->blk;
    struct blk_req *q;
    uint64_t bytes = 0;
    unsigned n = 0, answered = 0;
    while (bytes < TURN_BYTES && n < VIRTQ_SIZE_MAX && (q = slot_free(b)) && vdev_pop(vm, d, 0, &q->c) == VIRTQ_GOT) {
        uint64_t data = data_in(&q->c) + data_out(&q->c);
        bytes += data + PAGE_SIZE;
        n++;
        q->used = true;
        enum disk_status s = begin(q);
        if (s == DISK_PENDING) {
            b->n_pending++;
            b->pending_bytes += data;
        } else {
            answer(vm, d, q, s);
            answered++;
        }
    }
    if (answered && vdev_live(d))
        vdev_notify(vm, d, 0);
    return bytes < TURN_BYTES && n < VIRTQ_SIZE_MAX;
}

static void data_done(struct disk_req *r, enum disk_status s)
{
    struct blk_req *q = container_of(r, struct blk_req, r);
    struct vm *vm = q->vm;
    struct blk *b = vm->blk;
    struct vdev *d = vdev_find(vm, VDEV_BLK);
    spin_lock(&vm->dev_lock);
    b->n_pending--;
    b->pending_bytes -= data_in(&q->c) + data_out(&q->c);
    if (q->orphan) {
        b->n_orphans--;
    } else if (vdev_live(d)) {
        answer(vm, d, q, s);
        if (vdev_live(d))
            vdev_notify(vm, d, 0);
    }
    q->used = q->orphan = false;
    vdev_defer(vm, d); /* there is room for what waits in the ring */
    spin_unlock(&vm->dev_lock);
}

static void doorbell(struct vm *vm, struct vdev *d, unsigned q)
{
    (void)q;
    if (!vm->blk->disk || vm->blk->disk->max_pending || !work(vm, d))
        vdev_defer(vm, d);
}

static bool service(struct vm *vm, struct vdev *d)
{
    spin_lock(&vm->dev_lock);
    bool done = !vdev_live(d) || work(vm, d);
    spin_unlock(&vm->dev_lock);
    return !done;
}

static void reset(struct vm *vm, struct vdev *d)
{
    struct blk *b = vm->blk;
    (void)d;
    for (unsigned i = 0; i < b->n; i++) {
        if (!b->req[i].used || b->req[i].orphan)
            continue;
        b->req[i].orphan = true;
        b->n_orphans++;
    }
}

const struct vdev_ops vdev_blk_ops = {
    .name = "disk",
    .slot = 4,
    .class_code = 0x010000,
    .n_queues = 1,
    .features = F_SIZE_MAX | F_SEG_MAX | F_RO | F_BLK_SIZE | F_FLUSH | F_DISCARD | F_WRITE_ZEROES,
    .config_read = config_read,
    .doorbell = doorbell,
    .service = service,
    .reset = reset,
};

/* ---- birth, and what vm_disk.c asks ---- */

static bool remote(const struct vm *vm) { return vm->config.nbd.port; }
static unsigned table_len(const struct vm *vm) { return remote(vm) ? PENDING_MAX : 1; }
static size_t table_size(unsigned n) { return sizeof(struct blk) + n * sizeof(struct blk_req); }

enum hv_err vdev_blk_create(struct vm *vm)
{
    unsigned n = table_len(vm);
    vm->blk = mem_alloc(table_size(n));
    if (!vm->blk)
        return HV_FAIL(HV_E_NOMEM);
    vm->blk->n = n;
    for (unsigned i = 0; i < n; i++)
        vm->blk->req[i] = (struct blk_req){ .vm = vm, .r = { .get = data_get, .put = data_put, .done = data_done } };
    if (remote(vm))
        return HV_OK;
    disk_ram_init(&vm->blk->ram, vm);
    vdev_blk_attach(vm, &vm->blk->ram.disk);
    return HV_OK;
}

void vdev_blk_destroy(struct vm *vm)
{
    if (vm->blk)
        mem_free(vm->blk, table_size(vm->blk->n));
    vm->blk = NULL;
}

void vdev_blk_attach(struct vm *vm, struct disk *disk)
{
    struct vdev *d = vdev_find(vm, VDEV_BLK);
    const struct disk_info *i = &disk->info;
    ASSERT(disk->known && (!disk->max_pending || disk->max_pending > PENDING_MAX) && vm->blk->n_pending == 0);
    vm->blk->disk = disk;
    d->lacks = (i->read_only ? 0 : F_RO) | (i->flush ? 0 : F_FLUSH) | (i->discard ? 0 : F_DISCARD) |
               (i->zeroes ? 0 : F_WRITE_ZEROES);
}

void vdev_blk_hold(struct vm *vm, bool hold)
{
    spin_lock(&vm->dev_lock);
    vm->blk->hold = hold;
    if (!hold)
        vdev_defer(vm, vdev_find(vm, VDEV_BLK));
    spin_unlock(&vm->dev_lock);
}

unsigned vdev_blk_pending(struct vm *vm)
{
    spin_lock(&vm->dev_lock);
    unsigned n = vm->blk->n_pending;
    spin_unlock(&vm->dev_lock);
    return n;
}
