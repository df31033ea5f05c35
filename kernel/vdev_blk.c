/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vdev_blk.c - virtio disk in memory (`disk = ram:...`).  VIRTIO 1.2, 5.2.
 *
 * The disk lies in the guest's own memory, behind the RAM that it is told of (guest_mem.h, "hidden"): so its blocks are backed when they are
 * first written, counted against what this host has promised, logged when they change and moved with the guest, with no code of their own.
 * A request is done before it is answered, FLUSH included.  A doorbell does a bounded piece of work, the service loop the rest. */
#include "kernel/devices.h"

#define F_SEG_MAX      BIT64(2)
#define F_BLK_SIZE     BIT64(6)
#define F_FLUSH        BIT64(9)
#define F_DISCARD      BIT64(13)
#define F_WRITE_ZEROES BIT64(14)
enum { REQ_IN = 0, REQ_OUT = 1, REQ_FLUSH = 4, REQ_GET_ID = 8, REQ_DISCARD = 11, REQ_WRITE_ZEROES = 13 };
enum { STATUS_OK, STATUS_IOERR, STATUS_UNSUPP };
#define SECTOR         512u
#define HEADER_LEN     16u
#define RANGE_LEN      16u                      /* one range of DISCARD, WRITE_ZEROES */
#define RANGES_MAX     16u
#define RANGE_SECTORS  8192u                    /* 4 MiB: bounds one request */
#define TURN_BYTES     (512 * KIB)
#define ID_LEN         20u

static uint64_t sectors(const struct vm *vm) { return vm->config.disk_bytes / SECTOR; }

static void config_read(struct vm *vm, struct vdev *d, uint8_t *cfg)
{
    struct wr w = wr_init(cfg, VDEV_CONFIG_LEN);
    (void)d;
    wr_u64(&w, sectors(vm));
    wr_u32(&w, 0); wr_u32(&w, VIRTQ_SIZE_MAX - 2);              /* size_max; seg_max: less header and status */
    wr_u32(&w, 0); wr_u32(&w, SECTOR); wr_u64(&w, 0);           /* geometry; block size; topology */
    wr_u32(&w, 0);                                              /* write-back, queues: features not offered */
    wr_u32(&w, RANGE_SECTORS); wr_u32(&w, RANGES_MAX); wr_u32(&w, 1);                           /* discard: sectors, segments, alignment */
    wr_u32(&w, RANGE_SECTORS); wr_u32(&w, RANGES_MAX); wr_u8(&w, 1);                            /* write zeroes, which may unmap */
}

static bool in_disk(const struct vm *vm, uint64_t sector, uint64_t n) { return sector <= sectors(vm) && n <= sectors(vm) - sector; }

static uint8_t disk_read(struct vm *vm, const struct virtq_chain *c, uint64_t at, uint64_t len)
{
    static const uint8_t zero[PAGE_SIZE];
    for (uint64_t done = 0; done < len;) {
        gpa_t a = guest_hidden(&vm->mem, at + done);
        const uint8_t *page = guest_page(vm, gpa_gfn(a));
        size_t off = a.v % PAGE_SIZE, n = MIN(len - done, PAGE_SIZE - off);
        if (virtq_write(vm, c, done, page ? page + off : zero, n) != n) return STATUS_IOERR;
        done += n;
    }
    return STATUS_OK;
}

static uint8_t disk_write(struct vm *vm, const struct virtq_chain *c, uint64_t at, uint64_t len)
{
    uint8_t buf[PAGE_SIZE];
    for (uint64_t done = 0; done < len;) {
        gpa_t a = guest_hidden(&vm->mem, at + done);
        size_t n = MIN(len - done, PAGE_SIZE - a.v % PAGE_SIZE);
        if (virtq_read(vm, c, HEADER_LEN + done, buf, n) != n || guest_write(vm, a, buf, n) != HV_OK) return STATUS_IOERR;
        done += n;
    }
    return STATUS_OK;
}

/* What was never written stays without memory. */
static uint8_t disk_zero(struct vm *vm, uint64_t at, uint64_t len)
{
    static const uint8_t zero[PAGE_SIZE];
    for (uint64_t done = 0; done < len;) {
        gpa_t a = guest_hidden(&vm->mem, at + done);
        size_t n = MIN(len - done, PAGE_SIZE - a.v % PAGE_SIZE);
        if (guest_page(vm, gpa_gfn(a)) && guest_write(vm, a, zero, n) != HV_OK) return STATUS_IOERR;
        done += n;
    }
    return STATUS_OK;
}

static uint8_t ranges_zero(struct vm *vm, const struct virtq_chain *c, uint64_t len)
{
    if (len % RANGE_LEN || len > RANGES_MAX * RANGE_LEN) return STATUS_IOERR;
    for (uint64_t off = 0; off < len; off += RANGE_LEN) {
        uint8_t b[RANGE_LEN] = { 0 };
        (void)virtq_read(vm, c, HEADER_LEN + off, b, sizeof b);
        struct rd r = rd_init(b, sizeof b);
        uint64_t sector = rd_u64(&r), n = rd_u32(&r);
        if (rd_u32(&r) & ~1u) return STATUS_UNSUPP;             /* flags: unmap */
        if (n > RANGE_SECTORS || !in_disk(vm, sector, n)) return STATUS_IOERR;
        if (disk_zero(vm, sector * SECTOR, n * SECTOR)) return STATUS_IOERR;
    }
    return STATUS_OK;
}

/* Carry out one request; data_in bytes are to be written before the status. */
static uint8_t request(struct vm *vm, const struct virtq_chain *c, uint64_t data_out, uint64_t data_in)
{
    uint8_t head[HEADER_LEN] = { 0 }, id[ID_LEN] = { 0 };
    (void)virtq_read(vm, c, 0, head, sizeof head);
    struct rd r = rd_init(head, sizeof head);
    uint32_t type = rd_u32(&r);
    (void)rd_u32(&r);
    uint64_t sector = rd_u64(&r), len = type == REQ_IN ? data_in : data_out;
    if ((type == REQ_IN || type == REQ_OUT) && (len % SECTOR || !in_disk(vm, sector, len / SECTOR))) return STATUS_IOERR;
    switch (type) {
    case REQ_IN:    return disk_read(vm, c, sector * SECTOR, len);
    case REQ_OUT:   return disk_write(vm, c, sector * SECTOR, len);
    case REQ_FLUSH: return STATUS_OK;
    case REQ_GET_ID:
        memcpy(id, "godwit-ram", 10);
        return virtq_write(vm, c, 0, id, MIN(sizeof id, data_in)) ? STATUS_OK : STATUS_IOERR;
    case REQ_DISCARD: case REQ_WRITE_ZEROES: return ranges_zero(vm, c, data_out);
    default:        return STATUS_UNSUPP;
    }
}

/* True: all done; false: the turn is over. */
static bool work(struct vm *vm, struct vdev *d)
{
    struct virtq_chain c;
    uint64_t bytes = 0;
    unsigned n = 0;
    while (bytes < TURN_BYTES && n < VIRTQ_SIZE_MAX && vdev_pop(vm, d, 0, &c) == VIRTQ_GOT) {
        uint8_t status = STATUS_IOERR;
        uint64_t data_in = c.in_len ? c.in_len - 1 : 0, data_out = c.out_len > HEADER_LEN ? c.out_len - HEADER_LEN : 0;
        if (c.in_len && c.out_len >= HEADER_LEN) status = request(vm, &c, data_out, data_in);
        (void)virtq_write(vm, &c, data_in, &status, 1);
        d->n_failed += status != STATUS_OK;
        d->n_bytes += data_in + data_out;
        bytes += data_in + data_out + PAGE_SIZE;
        vdev_push(vm, d, 0, c.head, (uint32_t)c.in_len);
        n++;
    }
    if (n && vdev_live(d)) vdev_answered(vm, d, 0);
    return bytes < TURN_BYTES && n < VIRTQ_SIZE_MAX;
}

static void doorbell(struct vm *vm, struct vdev *d, unsigned q)
{
    (void)q;
    if (!work(vm, d)) vdev_defer(vm, d);
}

static bool service(struct vm *vm, struct vdev *d)
{
    spin_lock(&vm->dev_lock);
    bool done = !vdev_live(d) || work(vm, d);
    spin_unlock(&vm->dev_lock);
    return !done;
}

const struct vdev_ops vdev_blk_ops = {
    .name = "disk", .slot = 4, .class_code = 0x010000, .n_queues = 1, .features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_DISCARD | F_WRITE_ZEROES,
    .config_read = config_read, .doorbell = doorbell, .service = service,
};
