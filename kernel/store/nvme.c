/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/nvme.c - driver for NVMe controllers.  NVM Express Base Specification 1.4.
 *
 * One queue pair for administration and one for I/O, both in memory that the controller reads.  A request's slot
 * (blockq.h) is its command identifier.
 *
 *   DOWN --time--> STOPPING --RDY=0--> STARTING --RDY=1--> SETUP --identified, queues made--> READY
 *     ^________________|___________________|_________________|___ late, failed, or gone ________|
 *
 * SETUP sends one administrative command after the other, and waits for each between two polls.  A controller that
 * reports a fatal status, disappears, or lets a request wait for too long is reset, and gets its requests again.
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
#include "kernel/store/blockq.h"

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
enum { CMD_FLUSH = 0, CMD_WRITE = 1, CMD_READ = 2, CMD_ZEROES = 8, CMD_DATASET = 9 };
#define ZEROES_DEALLOCATE BIT32(25)
#define DATASET_DISCARD   BIT32(2)
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

#define SLOTS     BLOCKQ_MAX /* a ring of one more is never full */
#define RING      (SLOTS + 1)
#define LIST_LEN  (DISK_PINS_MAX - 1) /* pages of a request but the first */
#define LISTS_LEN ALIGN_UP(SLOTS *LIST_LEN * sizeof(uint64_t), PAGE_SIZE)
_Static_assert(RING * sizeof(struct command) <= PAGE_SIZE && RING * sizeof(struct completion) <= PAGE_SIZE,
               "a ring is one page");

struct ring {
    struct command *sq;             /* owned, for ever */
    volatile struct completion *cq; /* owned, for ever */
    volatile uint8_t *sq_bell, *cq_bell;
    unsigned tail, head;           /* commands sent and completions taken */
    unsigned told_tail, told_head; /* of which the controller was told */
    bool msix;                     /* each completion that asks for an interrupt sends one */
    uint16_t phase;
};
enum state { DOWN, STOPPING, STARTING, SETUP, READY };
/* The commands of SETUP, in this order. */
enum step { ASK_CONTROLLER, ASK_NAMESPACES, ASK_NAMESPACE, SET_QUEUES, MAKE_CQ, MAKE_SQ, N_STEPS };
struct nvme {
    struct blockdev dev;
    struct blockq q;
    volatile uint8_t *regs;
    uint64_t cap, until_us; /* until_us: of STOPPING to SETUP; DOWN: the next try; READY: the next look at CSTS */
    enum state state;
    enum step step;
    uint32_t nsid;
    /* what this start has found */
    char serial[sizeof(((struct blockdev *)0)->serial)];
    struct block_facts facts;
    bool unmap; /* what was deallocated by a write of zeroes reads as zeroes */
    uint8_t vector;
    bool msix; /* vector is by MSI-X */
    struct ring admin, io;
    uint64_t *lists; /* owned, for ever: LIST_LEN page addresses for each slot */
    void *scratch;   /* owned, for ever: a page for IDENTIFY */
};
static unsigned n_nvmes;
_Static_assert(PAGE_SIZE % (LIST_LEN * 8) == 0, "lists do not cross pages");
_Static_assert(LIST_LEN >= BLOCK_LEN_MAX / PAGE_SIZE, "a buffer has no more pages");

static struct nvme *nvme_of(struct blockdev *d) { return container_of(d, struct nvme, dev); }

static uint64_t reg_read64(const volatile uint8_t *regs, unsigned off)
{
    return mmio_read32(regs + off) | (uint64_t)mmio_read32(regs + off + 4) << 32;
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
    q->tail = q->head = q->told_tail = q->told_head = 0;
    q->msix = n->msix;
    q->phase = 1;
}

static void ring_send(struct ring *q, const struct command *c)
{
    q->sq[q->tail] = *c;
    q->tail = (q->tail + 1) % RING;
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
    return true;
}

/* Once a poll: a doorbell costs an exit where Godwit itself runs nested.  The controller needs places for completions
 * only when few are left.  But a pin stays asserted, and plain MSI sends no more messages, until it is told of all
 * (NVMe 1.4, 7.5.1 "Pin Based, Single MSI, and Multiple MSI Behavior"). */
static void ring_doorbells(struct ring *q)
{
    unsigned untold = (q->head + RING - q->told_head) % RING;
    if (untold > (q->msix ? RING / 4 : 0))
        mmio_write32(q->cq_bell, q->told_head = q->head);
    atomic_thread_fence(memory_order_release); /* commands before their doorbell */
    if (q->tail != q->told_tail)
        mmio_write32(q->sq_bell, q->told_tail = q->tail);
}

/* ---- starting ---- */

static void nvme_down(struct nvme *n, const char *why)
{
    blockdev_lost(&n->dev, why);
    n->state = DOWN;
    n->until_us = clock_us() + DISK_RETRY_US;
}

static void nvme_stop_begin(struct nvme *n)
{
    blockq_requeue(&n->q);
    mmio_write32(n->regs + R_CC, 0);
    n->state = STOPPING;
    n->until_us = clock_us() + CAP_TO_US(n->cap) + 500000;
}

/* What this start has found is no disk that can be used, or not the one of the first start. */
static void nvme_unusable(struct nvme *n, const char *why)
{
    if (n->dev.found == BLOCK_KNOWN) {
        nvme_down(n, "it does not start again as the same disk");
        return;
    }
    log_warn("store", "%s: it is not used: %s", n->dev.name, why);
    mmio_write32(n->regs + R_CC, 0);
    n->dev.found = BLOCK_NONE; /* its memory stays, since it may not obey */
}

static void setup_send(struct nvme *n)
{
    static const uint8_t identify[] = { [ASK_CONTROLLER] = IDENTIFY_CONTROLLER,
                                        [ASK_NAMESPACES] = IDENTIFY_NAMESPACE_LIST,
                                        [ASK_NAMESPACE] = IDENTIFY_NAMESPACE };
    const uint32_t size = (RING - 1) << 16 | 1;
    struct command c = { 0 };
    switch (n->step) {
    case ASK_CONTROLLER:
    case ASK_NAMESPACES:
    case ASK_NAMESPACE:
        memset(n->scratch, 0, PAGE_SIZE);
        c = (struct command){ .head = ADMIN_IDENTIFY, .prp1 = ptr_hpa(n->scratch).v, .cdw10 = identify[n->step] };
        c.nsid = n->step == ASK_NAMESPACE ? n->nsid : 0;
        break;
    case SET_QUEUES: c = (struct command){ .head = ADMIN_SET_FEATURES, .cdw10 = FEATURE_QUEUES }; break;
    case MAKE_CQ:
        ring_reset(n, &n->io, 1);
        c = (struct command){ .head = ADMIN_CREATE_CQ, .prp1 = (uintptr_t)n->io.cq, .cdw10 = size };
        c.cdw11 = 1 | (n->vector ? 2 : 0); /* contiguous, interrupts by entry 0 */
        break;
    case MAKE_SQ:
        c = (struct command){ .head = ADMIN_CREATE_SQ, .prp1 = (uintptr_t)n->io.sq, .cdw10 = size };
        c.cdw11 = 1 | 1u << 16;
        break;
    case N_STEPS: break;
    }
    c.head |= (uint32_t)n->step << 16;
    n->until_us = clock_us() + DISK_IDENTIFY_US;
    ring_send(&n->admin, &c);
}

/* The first namespace: its size and sector.  5.15.2 "Identify Namespace data structure". */
static const char *namespace_take(struct nvme *n)
{
    const uint8_t *p = n->scratch;
    uint64_t sectors;
    uint32_t format;
    memcpy(&sectors, p, 8);
    memcpy(&format, p + 128 + 4 * (p[26] & 15), 4);
    unsigned shift = format >> 16 & 0xff;
    if (shift >= 32 || (format & 0xffff) || !blockdev_size_ok(sectors, BIT64(shift)))
        return "its first namespace has sectors, or a size, that this driver cannot use";
    n->unmap = (p[33] & 0xf) == (BIT32(3) | 1); /* DLFEAT */
    n->facts.sector = BIT32(shift);
    n->facts.bytes = sectors << shift;
    n->facts.range_max = MIN(n->facts.range_max, 65536 * (uint64_t)n->facts.sector);
    return NULL;
}

static const char *controller_take(struct nvme *n)
{
    const uint8_t *p = n->scratch;
    blockdev_text(n->serial, p + 4, 20);
    if (n->dev.found != BLOCK_KNOWN)
        blockdev_text(n->dev.model, p + 24, 40);
    n->q.no_cache = !(p[525] & 1);
    n->facts = (struct block_facts){ .serial = n->serial };
    n->facts.discard = p[520] & BIT32(2); /* ONCS */
    n->facts.zeroes = p[520] & BIT32(3);
    /* 77: the longest transfer, 2^n pages; 0: no limit.  Some controllers have it for zeroes as well. */
    n->facts.range_max = p[77] && p[77] < 16 ? PAGE_SIZE << p[77] : DISK_ZEROES_MAX;
    n->facts.pages_max = n->facts.range_max;
    return !p[77] || p[77] >= 4 ? NULL : "its transfers are too short";
}
_Static_assert(PAGE_SIZE << 4 == BLOCK_LEN_MAX, "the transfers that controller_take() asks for");

/* The step's command is done.  Returns why the disk cannot be used, or NULL. */
static const char *setup_take(struct nvme *n)
{
    if (n->step == ASK_CONTROLLER)
        return controller_take(n);
    if (n->step == ASK_NAMESPACES) {
        memcpy(&n->nsid, n->scratch, 4);
        return n->nsid ? NULL : "it has no namespace";
    }
    return n->step == ASK_NAMESPACE ? namespace_take(n) : NULL;
}

static void setup_step(struct nvme *n)
{
    struct completion got;
    if (!ring_take(&n->admin, &got) || got.id != n->step)
        return; /* the latter: nobody asked */
    const char *why = got.status >> 1 & 0x7ff ? "a command of its start failed" : setup_take(n);
    if (why) {
        nvme_unusable(n, why);
    } else if (++n->step < N_STEPS) {
        setup_send(n);
    } else if (!blockdev_identified(&n->dev, &n->facts)) {
        nvme_unusable(n, "it is another disk");
    } else {
        n->state = READY;
        n->until_us = 0;
        blockdev_back(&n->dev);
    }
}

/* The controller is stopped: its admin queue, and off. */
static void nvme_enable(struct nvme *n)
{
    ring_reset(n, &n->admin, 0);
    mmio_write32(n->regs + R_AQA, (RING - 1) << 16 | (RING - 1));
    reg_write64(n, R_ASQ, (uintptr_t)n->admin.sq);
    reg_write64(n, R_ACQ, (uintptr_t)n->admin.cq);
    mmio_write32(n->regs + R_CC, CC_EN | CC_ENTRY_SIZES);
    n->state = STARTING;
}

/* Returns true when the state changed. */
static bool nvme_start_step(struct nvme *n)
{
    uint32_t status = mmio_read32(n->regs + R_CSTS);
    bool gone = status == UINT32_MAX, late = clock_us() > n->until_us;
    enum state was = n->state;
    enum step step = n->step;
    if (n->state == DOWN && late && !gone) {
        nvme_stop_begin(n);
    } else if (n->state == DOWN) {
        n->until_us = late ? clock_us() + DISK_RETRY_US : n->until_us;
    } else if (gone || late) {
        nvme_down(n, gone ? "the disk is gone" : "its controller does not start");
    } else if (n->state == STOPPING && !(status & CSTS_RDY)) {
        nvme_enable(n);
    } else if (n->state == STARTING && (status & CSTS_RDY)) {
        n->state = SETUP;
        n->step = ASK_CONTROLLER;
        setup_send(n);
    } else if (n->state == SETUP) {
        setup_step(n);
    }
    return n->state != was || n->step != step;
}

/* ---- requests ---- */

/* Where r's data is: one page, two, or a list.  4.3 "Physical Region Page Entry and List": each entry but the
 * first is a whole page, and the first may begin within its page, as a request's pages do. */
static void prps_set(struct nvme *n, unsigned i, const struct block_req *r, struct command *c)
{
    uint64_t *list = n->lists + i * LIST_LEN;
    c->prp1 = r->buf ? ptr_hpa(r->buf).v : r->page[0];
    unsigned pages = DIV_ROUND_UP((unsigned)(c->prp1 % PAGE_SIZE) + r->len, PAGE_SIZE);
    if (r->buf) {
        for (unsigned k = 1; k < pages; k++)
            list[k - 1] = c->prp1 + k * PAGE_SIZE;
    } else {
        memcpy(list, r->page + 1, (pages - 1) * sizeof(list[0]));
    }
    if (pages > 1)
        c->prp2 = pages == 2 ? list[0] : ptr_hpa(list).v;
}

/* 6.7 "Dataset Management command": one range, in the slot's list. */
static void range_set(struct nvme *n, unsigned i, const struct block_req *r, struct command *c)
{
    uint64_t *range = n->lists + i * LIST_LEN;
    range[0] = (uint64_t)(r->len / n->dev.sector) << 32;
    range[1] = r->at / n->dev.sector;
    c->prp1 = ptr_hpa(range).v;
    c->cdw10 = 0; /* ranges less one */
    c->cdw11 = DATASET_DISCARD;
}

static void nvme_send(struct blockdev *d, unsigned i)
{
    struct nvme *n = nvme_of(d);
    const struct block_req *r = n->q.slot[i].r;
    static const uint8_t codes[] = { [BLOCK_READ] = CMD_READ,
                                     [BLOCK_WRITE] = CMD_WRITE,
                                     [BLOCK_FLUSH] = CMD_FLUSH,
                                     [BLOCK_DISCARD] = CMD_DATASET,
                                     [BLOCK_ZEROES] = CMD_ZEROES };
    struct command c = { .head = codes[r->op] | i << 16, .nsid = n->nsid };
    if (r->op == BLOCK_DISCARD) {
        range_set(n, i, r, &c);
    } else if (r->op != BLOCK_FLUSH) {
        uint64_t sector = r->at / d->sector;
        c.cdw10 = (uint32_t)sector;
        c.cdw11 = (uint32_t)(sector >> 32);
        c.cdw12 = r->len / d->sector - 1;
        if (r->op == BLOCK_ZEROES)
            c.cdw12 |= r->unmap && n->unmap ? ZEROES_DEALLOCATE : 0;
        else
            prps_set(n, i, r, &c);
    }
    ring_send(&n->io, &c);
}

static void nvme_submit(struct blockdev *d, struct block_req *r) { blockq_add(&nvme_of(d)->q, r); }

static void completion_apply(struct nvme *n, const struct completion *c)
{
    unsigned status = c->status >> 1, type = status >> 8 & 7;
    char what[24];
    if (c->id >= SLOTS || !n->q.slot[c->id].r)
        return; /* nobody asked */
    if (!(status & 0x7ff)) {
        blockq_done(&n->q, c->id, true);
        return;
    }
    snprintf(what, sizeof(what), "status %x:%x", type, status & 0xff);
    blockq_failed(&n->q, c->id, (c->status & BIT32(15)) || type == STATUS_TYPE_MEDIA, what);
}

/* Does the controller need a reset? */
static const char *nvme_trouble(struct nvme *n)
{
    uint64_t now = clock_us();
    if (now < n->until_us)
        return NULL;
    n->until_us = now + DISK_CHECK_US;
    if (blockq_late(&n->q))
        return "a request took longer than 10 s: its controller is reset";
    uint32_t status = n->q.n_sent ? mmio_read32(n->regs + R_CSTS) : CSTS_RDY;
    return (status & CSTS_CFS) || !(status & CSTS_RDY)
               ? "its controller is gone, was reset, or reports a fatal error: it is reset"
               : NULL;
}

static bool nvme_poll(struct blockdev *d)
{
    struct nvme *n = nvme_of(d);
    struct completion c;
    bool moved = false;
    if (n->state != READY) {
        moved = nvme_start_step(n);
        ring_doorbells(&n->admin);
        return moved;
    }
    for (unsigned i = 0; i < RING && ring_take(&n->io, &c); i++) {
        completion_apply(n, &c);
        moved = true;
    }
    moved |= blockq_fill(&n->q);
    ring_doorbells(&n->io);
    const char *trouble = nvme_trouble(n);
    if (trouble) {
        d->n_resets++;
        blockq_forget(&n->q);
        nvme_down(n, trouble);
        nvme_stop_begin(n);
    }
    return moved;
}

/* ---- probing ---- */

static const struct blockdev_ops nvme_ops = { "NVMe", nvme_submit, nvme_poll };

static void nvme_memory_put(struct nvme *n)
{
    page_free(n->admin.sq);
    page_free((void *)(uintptr_t)n->admin.cq);
    page_free(n->io.sq);
    page_free((void *)(uintptr_t)n->io.cq);
    mem_free(n->lists, LISTS_LEN);
    page_free(n->scratch);
    mem_free(n, sizeof(*n));
}

static struct nvme *nvme_memory_get(void)
{
    struct nvme *n = mem_alloc(sizeof(*n));
    if (!n)
        return NULL;
    n->admin.sq = page_alloc();
    n->admin.cq = page_alloc();
    n->io.sq = page_alloc();
    n->io.cq = page_alloc();
    n->lists = mem_alloc(LISTS_LEN);
    n->scratch = page_alloc();
    if (n->admin.sq && n->admin.cq && n->io.sq && n->io.cq && n->lists && n->scratch)
        return n;
    nvme_memory_put(n);
    return NULL;
}

static bool cap_usable(uint64_t cap)
{
    return cap != UINT64_MAX && CAP_MQES(cap) >= RING && !CAP_MPSMIN(cap) && CAP_DSTRD(cap) <= 8;
}

void nvme_probe(const struct pci_dev *d)
{
    if (d->class_code != 1 || d->subclass != 8 || d->prog_if != 2 || !blockdev_room(d))
        return;
    pci_enable(d);
    volatile uint8_t *regs = d->bar[0].len >= 2 * PAGE_SIZE ? pci_bar_map(d, 0) : NULL;
    uint64_t cap = regs ? reg_read64(regs, R_CAP) : UINT64_MAX;
    struct nvme *n = cap_usable(cap) ? nvme_memory_get() : NULL;
    if (!n) {
        log_warn("store", "%04x: an NVMe controller that this driver cannot use, or no memory", d->bdf);
        return;
    }
    n->dev.ops = &nvme_ops;
    snprintf(n->dev.name, sizeof(n->dev.name), "nvme%u", n_nvmes++);
    n->regs = regs;
    n->cap = cap;
    blockq_init(&n->q, &n->dev, SLOTS, nvme_send);
    n->vector = pcpu_irq_alloc();
    if (n->vector && pci_msi_enable(d, 0, n->vector) != HV_OK)
        n->vector = 0;
    n->msix = n->vector && pci_has_msix(d);
    n->dev.irq = n->vector;
    nvme_stop_begin(n);
    pci_master_enable(d); /* the firmware's queues are stopped */
    blockdev_add(&n->dev);
}
