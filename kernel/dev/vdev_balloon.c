/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_balloon.c - virtio memory balloon with free-page reporting.  VIRTIO 1.2, 5.5.
 *
 * Pages that the guest gives back cost no host memory and are not moved.  Queues: 0 inflate, 1 deflate, 2 free-page
 * reporting.  Linux reports free memory in pieces of 2 MiB, two seconds after it became free.  Such blocks lose their
 * host memory at once, and read as zeros, as if never touched.  Inflated pages are zeroed, so that a move finds them
 * empty.  While a move's dirty log is on, reports are completed and ignored: pages sent stay sent (guest_mem_drop).
 * The service loop does all work, one request at a time. */
#include "kernel/dev/vdev_balloon.h"
#include "kernel/dev/devices.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

enum { INFLATE, DEFLATE, REPORT };
#define F_DEFLATE_ON_OOM BIT64(2)
#define F_REPORTING      BIT64(5)
#define BLOCKS_MAX       64u  /* blocks dropped together, with one flush */
#define PFNS_MAX         256u /* pages of one inflate request that are zeroed; Linux sends no more */

static struct virtq_chain chain; /* large; service pCPU only */

static void balloon_config_read(struct vm *vm, struct vdev *d, uint8_t *cfg)
{
    struct wr w = wr_init(cfg, 8);
    (void)vm;
    wr_u32(&w, d->balloon.pages);
    wr_u32(&w, d->balloon.actual);
}

static void balloon_config_write(struct vm *vm, struct vdev *d, unsigned off, unsigned size, uint32_t val)
{
    (void)vm;
    if (off == 4 && size == 4)
        d->balloon.actual = val;
}

static void balloon_reset(struct vm *vm, struct vdev *d)
{
    (void)vm;
    d->balloon.actual = 0;
}

static void balloon_doorbell(struct vm *vm, struct vdev *d, unsigned q)
{
    (void)q;
    vdev_defer(vm, d);
}

/* Zero a page that the guest does not use, unless it is zero already. */
static enum hv_err balloon_zero_page(struct vm *vm, uint64_t gfn)
{
    static const uint64_t zero[PAGE_SIZE / 8];
    const void *page = guest_page(vm, gfn);
    return page && memcmp(page, zero, PAGE_SIZE) ? guest_write(vm, gfn_gpa(gfn), zero, PAGE_SIZE) : HV_OK;
}

static void balloon_inflate(struct vm *vm, struct vdev *d)
{
    uint8_t b[PFNS_MAX * 4];
    lock_assert_held(&vm->dev_lock);
    struct rd r = rd_init(b, virtq_read(vm, &chain, 0, b, sizeof(b)) & ~3ul);
    while (rd_left(&r) >= 4) {
        uint64_t gfn = rd_u32(&r);
        vdev_worked(vm, PAGE_SIZE);
        if (!guest_is_visible_ram(&vm->mem, gfn_gpa(gfn)) || balloon_zero_page(vm, gfn))
            d->n_failed++;
    }
    d->n_bytes += chain.out_len / 4 * PAGE_SIZE;
}

/* Collect the whole blocks inside the reported segments; returns how many. */
static unsigned balloon_reported_blocks(uint64_t *block)
{
    unsigned n = 0;
    for (unsigned i = chain.n_out; i < chain.n_out + chain.n_in; i++) {
        uint64_t first = DIV_ROUND_UP(chain.seg[i].gpa, BLOCK_SIZE),
                 end = (chain.seg[i].gpa + chain.seg[i].len) / BLOCK_SIZE;
        for (; first < end && n < BLOCKS_MAX; first++)
            block[n++] = first;
    }
    return n;
}

/* Serve one request of queue q.  True: there was one. */
static bool balloon_serve_queue(struct vm *vm, struct vdev *d, unsigned q)
{
    uint64_t block[BLOCKS_MAX];
    ASSERT(this_pcpu()->index == 0);
    spin_lock(&vm->dev_lock);
    unsigned resets = d->resets, n = 0;
    bool got = d->q[q].enabled && vdev_pop(vm, d, q, &chain) == VIRTQ_GOT;
    if (got && q == INFLATE)
        balloon_inflate(vm, d);
    if (got && q == REPORT)
        n = balloon_reported_blocks(block);
    spin_unlock(&vm->dev_lock);
    if (!got)
        return false;
    if (n)
        n = guest_mem_drop(vm, block, n); /* waits for vCPUs to exit and flush: not under the lock */
    ASSERT(n <= BLOCKS_MAX);
    spin_lock(&vm->dev_lock);
    if (d->resets == resets) {
        d->n_bytes += n * BLOCK_SIZE;
        vdev_push(vm, d, q, chain.head, 0);
        if (vdev_live(d))
            vdev_notify(vm, d, q);
    }
    spin_unlock(&vm->dev_lock);
    return true;
}

static bool balloon_service(struct vm *vm, struct vdev *d)
{
    bool some = false;
    for (unsigned q = INFLATE; q <= REPORT; q++)
        some |= balloon_serve_queue(vm, d, q);
    return some;
}

struct balloon_state vdev_balloon_state(struct vm *vm)
{
    const struct vdev *d = vdev_find(vm, VDEV_BALLOON);
    lock_assert_held(&vm->dev_lock);
    if (!d)
        return (struct balloon_state){ 0 };
    return (struct balloon_state){ true, vdev_live(d), d->balloon.pages * PAGE_SIZE, d->balloon.actual * PAGE_SIZE };
}

void vdev_balloon_target(struct vm *vm, uint64_t bytes)
{
    struct vdev *d = vdev_find(vm, VDEV_BALLOON);
    lock_assert_held(&vm->dev_lock);
    if (!d || d->balloon.pages == bytes / PAGE_SIZE)
        return;
    d->balloon.pages = (uint32_t)(bytes / PAGE_SIZE);
    if (vdev_live(d))
        vdev_config_changed(vm, d);
}

static void balloon_save(const struct vdev *d, struct wr *w)
{
    wr_u32(w, d->balloon.pages);
    wr_u32(w, d->balloon.actual);
}
static void balloon_load(struct vdev *d, struct rd *r)
{
    d->balloon.pages = rd_u32(r);
    d->balloon.actual = rd_u32(r);
}

const struct vdev_ops vdev_balloon_ops = {
    .name = "balloon",
    .slot = 2,
    .class_code = 0x00ff00,
    .n_queues = 3,
    .features = F_DEFLATE_ON_OOM | F_REPORTING,
    .config_read = balloon_config_read,
    .config_write = balloon_config_write,
    .doorbell = balloon_doorbell,
    .service = balloon_service,
    .reset = balloon_reset,
    .save = balloon_save,
    .load = balloon_load,
};
