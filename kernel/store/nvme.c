/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/nvme.c - driver for NVMe controllers.  NVM Express Base Specification 1.4.
 *
 * One queue pair for administration and one for I/O, both in memory that the controller reads.  A request has a slot,
 * whose number is its command identifier, until its completion arrives.  What finds no slot waits in a list.
 *
 *   DOWN --time--> STOPPING --RDY=0--> STARTING --RDY=1, identified, queues made--> READY
 *     ^________________|___________________|_______ late, failed, or gone ______________|
 *
 * A controller that reports a fatal status, disappears, or lets a request wait for too long is reset.  Its requests
 * stay in their slots and are sent again in their old order: reads and writes are idempotent, and a flush covers only
 * what was done before it began.
 *
 * The device is not trusted when Godwit itself runs nested: identifiers and sizes that it writes are checked.
 * Not here: several namespaces, several I/O queues, metadata and protection information. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"
#include "kernel/store/blockdev_impl.h"

#define NVME_MAX BLOCKDEVS_MAX

/* 3.1 "Register Definition". */
enum { R_CAP = 0x00, R_CC = 0x14, R_CSTS = 0x1c, R_AQA = 0x24, R_ASQ = 0x28, R_ACQ = 0x30, R_DOORBELLS = 0x1000 };
#define CC_EN          BIT32(0)
#define CC_ENTRY_SIZES (6u << 16 | 4u << 20) /* 2^6 bytes a command, 2^4 a completion */
#define CSTS_RDY       BIT32(0)
#define CSTS_CFS       BIT32(1)
#define CAP_MQES(c)    ((unsigned)((c) & 0xffff) + 1)
#define CAP_TO_US(c)   (((c) >> 24 & 0xff) * 500000)
#define CAP_DSTRD(c)   ((unsigned)((c) >> 32 & 15))
#define CAP_MPSMIN(c)  ((unsigned)((c) >> 48 & 15)) /* 0: pages of 4 KiB will do */

/* 5 "Admin Command Set", 6 "NVM Command Set". */
enum { ADMIN_CREATE_SQ = 1, ADMIN_CREATE_CQ = 5, ADMIN_IDENTIFY = 6, ADMIN_SET_FEATURES = 9 };
enum { CMD_FLUSH = 0, CMD_WRITE = 1, CMD_READ = 2 };
enum { IDENTIFY_NAMESPACE = 0, IDENTIFY_CONTROLLER = 1, IDENTIFY_NAMESPACE_LIST = 2 };
enum { FEATURE_QUEUES = 7 };
enum { STATUS_TYPE_MEDIA = 2 };

struct command {
    uint32_t head, nsid;
    uint64_t reserved, metadata, prp1, prp2;
    uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
struct completion {
    uint32_t result, reserved;
    uint16_t sq_head, sq_id, id, status; /* status: bit 0 is the phase */
};
_Static_assert(sizeof(struct command) == 64 && sizeof(struct completion) == 16, "4.2 and 4.6");

#define SLOTS      63u /* requests in flight; a ring of SLOTS + 1 is never full */
#define RING       (SLOTS + 1)
#define LIST_LEN   (BLOCK_LEN_MAX / PAGE_SIZE) /* pages of a request */
#define REQUEST_US 10000000                    /* a request that takes longer: the controller is reset */
#define RETRY_US   3000000                     /* from a failed start to the next */
#define CHECK_US   100000                      /* between two looks at the status of a busy controller */
#define ADMIN_US   200000                      /* an administrative command takes no longer */
#define TRIES_MAX  5                           /* of a request that fails in a way that may pass */
_Static_assert(RING * sizeof(struct command) <= PAGE_SIZE && RING * sizeof(struct completion) <= PAGE_SIZE,
               "a ring is one page");

struct ring {
    struct command *sq;             /* owned, for ever */
    volatile struct completion *cq; /* owned, for ever */
    volatile uint8_t *sq_bell, *cq_bell;
    unsigned tail, head;
    uint16_t phase;
};
struct slot {
    struct block_req *r; /* borrowed; NULL: free */
    uint64_t order, since_us;
    unsigned tries;
};
enum state { DOWN, STOPPING, STARTING, READY };
struct nvme {
    struct blockdev dev;
    volatile uint8_t *regs;
    uint64_t cap, until_us; /* until_us: of STOPPING, STARTING; DOWN: the next try; READY: the next look at CSTS */
    enum state state;
    bool cache; /* it has a volatile write cache, so FLUSH has work to do */
    bool known; /* size and sectors are those of the first start */
    uint32_t nsid;
    uint8_t vector;
    struct ring admin, io;
    struct slot slot[SLOTS];
    uint64_t *lists; /* owned, for ever: LIST_LEN page addresses for each slot */
    void *scratch;   /* owned, for ever: a page for IDENTIFY */
    uint64_t last_order;
    struct block_req *first, **last; /* waiting for a slot */
};
static struct nvme nvmes[NVME_MAX];
static unsigned n_nvmes;
_Static_assert(SLOTS *LIST_LEN * 8 <= 2 * PAGE_SIZE && LIST_LEN * 8 <= PAGE_SIZE, "lists do not cross pages");

static struct nvme *nvme_of(struct blockdev *d) { return container_of(d, struct nvme, dev); }

static uint64_t reg_read64(const struct nvme *n, unsigned off)
{
    return mmio_read32(n->regs + off) | (uint64_t)mmio_read32(n->regs + off + 4) << 32;
}
static void reg_write64(struct nvme *n, unsigned off, uint64_t val)
{
    mmio_write32(n->regs + off, (uint32_t)val);
    mmio_write32(n->regs + off + 4, (uint32_t)(val >> 32));
}

/* ---- rings ---- */

static void ring_reset(struct nvme *n, struct ring *q, unsigned number)
{
    unsigned stride = 4u << CAP_DSTRD(n->cap);
    memset(q->sq, 0, PAGE_SIZE);
    memset((void *)(uintptr_t)q->cq, 0, PAGE_SIZE);
    q->sq_bell = n->regs + R_DOORBELLS + 2 * number * stride;
    q->cq_bell = q->sq_bell + stride;
    q->tail = q->head = 0;
    q->phase = 1;
}

static void ring_send(struct ring *q, const struct command *c)
{
    q->sq[q->tail] = *c;
    q->tail = (q->tail + 1) % RING;
    atomic_thread_fence(memory_order_release); /* the command before the doorbell */
    mmio_write32(q->sq_bell, q->tail);
}

/* The next completion, if there is one. */
static bool ring_take(struct ring *q, struct completion *out)
{
    volatile struct completion *c = &q->cq[q->head];
    uint16_t status = c->status;
    if ((status & 1) != q->phase)
        return false;
    atomic_thread_fence(memory_order_acquire); /* the phase before the rest */
    *out = (struct completion){ .result = c->result, .id = c->id, .status = status };
    q->head = (q->head + 1) % RING;
    q->phase ^= q->head == 0;
    mmio_write32(q->cq_bell, q->head);
    return true;
}

/* ---- starting ---- */

static void nvme_down(struct nvme *n, const char *why)
{
    if (strcmp(n->dev.why, why) != 0) /* said once, not at each try */
        log_warn("store", "%s: %s; its requests wait", n->dev.name, why);
    if (!n->dev.lost_us)
        n->dev.lost_us = clock_us();
    snprintf(n->dev.why, sizeof(n->dev.why), "%s", why);
    n->state = DOWN;
    n->until_us = clock_us() + RETRY_US;
}

static void nvme_stop_begin(struct nvme *n)
{
    mmio_write32(n->regs + R_CC, 0);
    n->state = STOPPING;
    n->until_us = clock_us() + CAP_TO_US(n->cap) + 500000;
}

/* An administrative command; its data is in the scratch page.  False: it failed, or took too long. */
static bool admin_do(struct nvme *n, struct command c)
{
    struct completion got;
    uint64_t until = clock_us() + ADMIN_US;
    ring_send(&n->admin, &c);
    while (!ring_take(&n->admin, &got))
        if (clock_us() > until)
            return false;
    return !(got.status >> 1 & 0x7ff);
}

static bool identify(struct nvme *n, unsigned what, uint32_t nsid)
{
    memset(n->scratch, 0, PAGE_SIZE);
    return admin_do(n, (struct command){
                           .head = ADMIN_IDENTIFY, .nsid = nsid, .prp1 = ptr_hpa(n->scratch).v, .cdw10 = what });
}

/* Text of the device: printable, without blanks at the end. */
static void text_take(char *to, const uint8_t *from, size_t len)
{
    while (len && (from[len - 1] == ' ' || !from[len - 1]))
        len--;
    for (size_t i = 0; i < len; i++)
        to[i] = from[i] > ' ' && from[i] < 127 && from[i] != '"' ? (char)from[i] : '_';
    to[len] = '\0';
}

/* The first namespace: its size and sector.  5.15.2 "Identify Namespace data structure". */
static bool namespace_take(struct nvme *n)
{
    uint8_t *p = n->scratch;
    uint64_t sectors;
    uint32_t format;
    if (!identify(n, IDENTIFY_NAMESPACE_LIST, 0))
        return false;
    memcpy(&n->nsid, p, 4);
    if (!n->nsid || !identify(n, IDENTIFY_NAMESPACE, n->nsid))
        return false;
    memcpy(&sectors, p, 8);
    memcpy(&format, p + 128 + 4 * (p[26] & 15), 4);
    unsigned shift = format >> 16 & 0xff;
    if (shift < 9 || BIT64(shift) > BLOCK_SECTOR_MAX || !sectors || sectors > BIT64(63) >> shift || (format & 0xffff))
        return false;
    if (n->known && (n->dev.sector != BIT32(shift) || n->dev.bytes != sectors << shift))
        return false; /* another disk came */
    n->dev.sector = BIT32(shift);
    n->dev.bytes = sectors << shift;
    return true;
}

static bool queues_create(struct nvme *n)
{
    ring_reset(n, &n->io, 1);
    uint32_t size = (RING - 1) << 16 | 1;
    return admin_do(n, (struct command){ .head = ADMIN_SET_FEATURES, .cdw10 = FEATURE_QUEUES }) &&
           admin_do(n, (struct command){ .head = ADMIN_CREATE_CQ,
                                         .prp1 = (uintptr_t)n->io.cq,
                                         .cdw10 = size,
                                         .cdw11 = 1 | (n->vector ? 2 : 0) }) && /* contiguous, interrupts by entry 0 */
           admin_do(n,
                    (struct command){
                        .head = ADMIN_CREATE_SQ, .prp1 = (uintptr_t)n->io.sq, .cdw10 = size, .cdw11 = 1 | 1u << 16 });
}

static bool controller_take(struct nvme *n)
{
    const uint8_t *p = n->scratch;
    char serial[sizeof(n->dev.serial)];
    if (!identify(n, IDENTIFY_CONTROLLER, 0))
        return false;
    text_take(serial, p + 4, 20);
    if (n->known && strcmp(serial, n->dev.serial) != 0)
        return false; /* another disk came */
    memcpy(n->dev.serial, serial, sizeof(serial));
    text_take(n->dev.model, p + 24, 40);
    n->cache = p[525] & 1;
    /* 77: the longest transfer, 2^n pages; 0: no limit */
    return !p[77] || p[77] >= 4;
}
_Static_assert(PAGE_SIZE << 4 == BLOCK_LEN_MAX, "the transfers that controller_take() asks for");

static void slot_send(struct nvme *n, unsigned i);

static void nvme_started(struct nvme *n)
{
    if (!controller_take(n) || !namespace_take(n) || !queues_create(n)) {
        nvme_down(n, n->known ? "it does not start again as the same disk" : "it does not start, or has no disk");
        return;
    }
    n->known = true;
    n->state = READY;
    n->until_us = 0;
    if (!n->dev.lost_us)
        return;
    log_info("store", "%s: answers again after %lu ms", n->dev.name, (clock_us() - n->dev.lost_us) / 1000);
    n->dev.lost_us = 0;
    n->dev.why[0] = '\0';
    for (uint64_t after = 0;;) { /* in their old order */
        struct slot *best = NULL;
        for (struct slot *s = n->slot; s < n->slot + SLOTS; s++)
            if (s->r && s->order > after && (!best || s->order < best->order))
                best = s;
        if (!best)
            break;
        after = best->order;
        slot_send(n, (unsigned)(best - n->slot));
    }
}

/* Returns true when the state changed. */
static bool nvme_start_step(struct nvme *n)
{
    uint32_t status = mmio_read32(n->regs + R_CSTS);
    bool gone = status == UINT32_MAX, late = clock_us() > n->until_us;
    if (n->state == DOWN && late && !gone) {
        nvme_stop_begin(n);
        return true;
    }
    if (n->state == DOWN) {
        n->until_us = late ? clock_us() + RETRY_US : n->until_us;
        return false;
    }
    if (gone || late) {
        nvme_down(n, gone ? "the disk is gone" : "its controller does not start");
        return true;
    }
    if (n->state == STOPPING && !(status & CSTS_RDY)) {
        ring_reset(n, &n->admin, 0);
        mmio_write32(n->regs + R_AQA, (RING - 1) << 16 | (RING - 1));
        reg_write64(n, R_ASQ, (uintptr_t)n->admin.sq);
        reg_write64(n, R_ACQ, (uintptr_t)n->admin.cq);
        mmio_write32(n->regs + R_CC, CC_EN | CC_ENTRY_SIZES);
        n->state = STARTING;
        return true;
    }
    if (n->state != STARTING || !(status & CSTS_RDY))
        return false;
    nvme_started(n);
    return true;
}

/* ---- requests ---- */

/* Where r's data is: one page, two, or a list.  4.3 "Physical Region Page Entry and List". */
static void prps_set(struct nvme *n, unsigned i, const struct block_req *r, struct command *c)
{
    uint64_t at = ptr_hpa(r->buf).v, *list = n->lists + i * LIST_LEN;
    unsigned pages = (unsigned)DIV_ROUND_UP(r->len, PAGE_SIZE);
    c->prp1 = at;
    if (pages == 2)
        c->prp2 = at + PAGE_SIZE;
    if (pages <= 2)
        return;
    for (unsigned k = 1; k < pages; k++)
        list[k - 1] = at + k * PAGE_SIZE;
    c->prp2 = ptr_hpa(list).v;
}

static void slot_send(struct nvme *n, unsigned i)
{
    struct slot *s = &n->slot[i];
    const struct block_req *r = s->r;
    static const uint8_t codes[] = { [BLOCK_READ] = CMD_READ, [BLOCK_WRITE] = CMD_WRITE, [BLOCK_FLUSH] = CMD_FLUSH };
    struct command c = { .head = codes[r->op] | i << 16, .nsid = n->nsid };
    if (r->op != BLOCK_FLUSH) {
        uint64_t sector = r->offset / n->dev.sector;
        prps_set(n, i, r, &c);
        c.cdw10 = (uint32_t)sector;
        c.cdw11 = (uint32_t)(sector >> 32);
        c.cdw12 = r->len / n->dev.sector - 1;
    }
    s->since_us = clock_us();
    ring_send(&n->io, &c);
}

static void slot_done(struct nvme *n, struct slot *s, bool ok)
{
    struct block_req *r = s->r;
    s->r = NULL;
    n->dev.n_errors += !ok;
    r->done(r, ok);
}

/* Give waiting requests the free slots. */
static void slots_fill(struct nvme *n)
{
    for (unsigned i = 0; i < SLOTS && n->first; i++) {
        if (n->slot[i].r)
            continue;
        struct block_req *r = n->first;
        n->first = r->next;
        if (!n->first)
            n->last = &n->first;
        n->slot[i] = (struct slot){ .r = r, .order = ++n->last_order };
        if (r->op == BLOCK_FLUSH && !n->cache)
            slot_done(n, &n->slot[i], true);
        else
            slot_send(n, i);
    }
}

static void nvme_submit(struct blockdev *d, struct block_req *r)
{
    struct nvme *n = nvme_of(d);
    ASSERT(r->op == BLOCK_FLUSH ||
           (r->len && r->len <= BLOCK_LEN_MAX && r->offset % d->sector == 0 && r->len % d->sector == 0 &&
            r->offset <= d->bytes && r->len <= d->bytes - r->offset));
    r->next = NULL;
    *n->last = r;
    n->last = &r->next;
}

static void completion_apply(struct nvme *n, const struct completion *c)
{
    struct slot *s = c->id < SLOTS ? &n->slot[c->id] : NULL;
    unsigned status = c->status >> 1, type = status >> 8 & 7;
    if (!s || !s->r)
        return; /* nobody asked */
    if (!(status & 0x7ff)) {
        slot_done(n, s, true);
        return;
    }
    bool for_ever = (c->status & BIT32(15)) || type == STATUS_TYPE_MEDIA;
    if (!for_ever && ++s->tries < TRIES_MAX) {
        slot_send(n, c->id);
        return;
    }
    log_warn("store", "%s: %s at sector %lu failed with status %x:%x", n->dev.name,
             s->r->op == BLOCK_READ    ? "a read"
             : s->r->op == BLOCK_WRITE ? "a write"
                                       : "a flush",
             s->r->offset / n->dev.sector, type, status & 0xff);
    slot_done(n, s, false);
}

/* Does the controller need a reset? */
static const char *nvme_trouble(struct nvme *n)
{
    uint64_t now = clock_us();
    bool late = false, busy = false;
    if (now < n->until_us)
        return NULL;
    n->until_us = now + CHECK_US;
    for (const struct slot *s = n->slot; s < n->slot + SLOTS; s++) {
        busy |= s->r != NULL;
        late |= s->r && now - s->since_us > REQUEST_US;
    }
    if (late)
        return "a request took longer than 10 s: its controller is reset";
    uint32_t status = busy ? mmio_read32(n->regs + R_CSTS) : 0;
    return status & CSTS_CFS ? "its controller is gone, or reports a fatal error: it is reset" : NULL;
}

static bool nvme_poll(struct blockdev *d)
{
    struct nvme *n = nvme_of(d);
    struct completion c;
    bool moved = false;
    if (n->state != READY)
        return nvme_start_step(n);
    for (unsigned i = 0; i < RING && ring_take(&n->io, &c); i++) {
        completion_apply(n, &c);
        moved = true;
    }
    const struct block_req *waiting = n->first;
    slots_fill(n);
    moved |= n->first != waiting;
    const char *trouble = nvme_trouble(n);
    if (trouble) {
        d->n_resets++;
        nvme_down(n, trouble);
        nvme_stop_begin(n);
    }
    return moved;
}

/* ---- probing ---- */

static const struct blockdev_ops nvme_ops = { "NVMe", nvme_submit, nvme_poll };

static bool nvme_memory_get(struct nvme *n)
{
    n->admin.sq = page_alloc();
    n->admin.cq = page_alloc();
    n->io.sq = page_alloc();
    n->io.cq = page_alloc();
    n->lists = mem_alloc(2 * PAGE_SIZE);
    n->scratch = page_alloc();
    return n->admin.sq && n->admin.cq && n->io.sq && n->io.cq && n->lists && n->scratch;
}

/* The controller never ran, or has stopped. */
static void nvme_memory_put(struct nvme *n)
{
    page_free(n->admin.sq);
    page_free((void *)(uintptr_t)n->admin.cq);
    page_free(n->io.sq);
    page_free((void *)(uintptr_t)n->io.cq);
    mem_free(n->lists, 2 * PAGE_SIZE);
    page_free(n->scratch);
}

/* It does not start as a disk: stop it.  Its memory is lost if it does not stop. */
static void nvme_give_up(struct nvme *n)
{
    nvme_stop_begin(n);
    while (mmio_read32(n->regs + R_CSTS) & CSTS_RDY)
        if (clock_us() > n->until_us)
            return;
    nvme_memory_put(n);
}

static bool nvme_usable(const struct nvme *n)
{
    return n->cap != UINT64_MAX && CAP_MQES(n->cap) >= RING && !CAP_MPSMIN(n->cap) && CAP_DSTRD(n->cap) <= 8;
}

struct blockdev *nvme_probe(const struct pci_dev *d)
{
    if (d->class_code != 1 || d->subclass != 8 || d->prog_if != 2)
        return NULL;
    ASSERT(n_nvmes < NVME_MAX); /* blockdev_init() asks for no more */
    struct nvme *n = &nvmes[n_nvmes];
    *n = (struct nvme){ .dev = { .ops = &nvme_ops }, .last = &n->first };
    snprintf(n->dev.name, sizeof(n->dev.name), "nvme%u", n_nvmes);
    pci_enable(d);
    n->regs = pci_bar_map(d, 0);
    n->cap = n->regs && d->bar[0].len >= 2 * PAGE_SIZE ? reg_read64(n, R_CAP) : UINT64_MAX;
    if (!nvme_usable(n) || !nvme_memory_get(n)) {
        log_warn("store", "%04x: an NVMe controller that this driver cannot use, or no memory", d->bdf);
        nvme_memory_put(n);
        return NULL;
    }
    n->vector = pcpu_irq_alloc();
    if (n->vector && pci_msi_enable(d, 0, n->vector) != HV_OK)
        n->vector = 0;
    n->dev.irq = n->vector;
    nvme_stop_begin(n);
    while (n->state == STOPPING || n->state == STARTING)
        (void)nvme_start_step(n);
    if (n->state != READY) {
        nvme_give_up(n);
        return NULL;
    }
    n_nvmes++;
    return &n->dev;
}
