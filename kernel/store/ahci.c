/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/ahci.c - driver for SATA disks behind AHCI controllers.  Serial ATA AHCI 1.3.1; ATA8-ACS.
 *
 * Each port is a disk of its own.  A request's slot (blockq.h) is the port's command slot, and the tag of a queued
 * command (NCQ).  Reads and writes are queued.  What cannot be queued (FLUSH, everything on a disk without NCQ) is sent
 * when the port is idle, and nothing beside it: it is *alone*.
 *
 *   DOWN --time--> STOPPING --> RESETTING --1 ms--> LINKING --ready--> IDENTIFYING --> READY
 *     ^________________|____________|_________________|____________________|___ late or gone
 *
 * Errors.  After an error of a queued command the disk takes no other until it was asked which one it was, or reset.
 * We reset the port (COMRESET), and send all that was in flight again, one by one and alone.  So the request that fails
 * is known, and the disk's answer for it: a bad sector is its submitter's, anything else is tried again.  A disk that
 * does not answer is reset the same way.
 *
 * The controller is not trusted: registers that it writes are checked.  Other devices than ATA disks (ATAPI, port
 * multipliers) are left alone.  Not here: hot plug of disks that were not there at boot, power management. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"
#include "kernel/store/blockq.h"

/* 3.1 "Generic Host Control". */
enum { R_CAP = 0x00, R_GHC = 0x04, R_IS = 0x08, R_PI = 0x0c, R_CAP2 = 0x24, R_BOHC = 0x28, R_PORTS = 0x100 };
#define CAP_PORTS(c) (((c) & 31) + 1)
#define CAP_SLOTS(c) (((c) >> 8 & 31) + 1)
#define CAP_NCQ      BIT32(30)
#define CAP_64       BIT32(31)
#define GHC_IE       BIT32(1)
#define GHC_AE       BIT32(31)
#define CAP2_BOH     BIT32(0)
#define BOHC_BOS     BIT32(0) /* the firmware owns the controller */
#define BOHC_OOS     BIT32(1)

/* 3.3 "Port Registers". */
enum {
    P_CLB = 0x00,
    P_FB = 0x08,
    P_IS = 0x10,
    P_IE = 0x14,
    P_CMD = 0x18,
    P_TFD = 0x20,
    P_SIG = 0x24,
    P_SSTS = 0x28,
    P_SCTL = 0x2c,
    P_SERR = 0x30,
    P_SACT = 0x34,
    P_CI = 0x38,
    PORT_LEN = 0x80,
    PORTS_MAX = 32
};
#define CMD_ST      BIT32(0)
#define CMD_SUD     BIT32(1) /* spin up */
#define CMD_POD     BIT32(2) /* power on */
#define CMD_FRE     BIT32(4)
#define CMD_FR      BIT32(14)
#define CMD_CR      BIT32(15)
#define IS_DONE     (BIT32(0) | BIT32(1) | BIT32(3)) /* D2H, PIO setup, set device bits */
#define IS_LINK     (BIT32(6) | BIT32(22))           /* the link went, or came: the disk may have been without power */
#define IS_TFES     BIT32(30)
#define IS_ERRORS   (BIT32(24) | BIT32(27) | BIT32(28) | BIT32(29) | IS_TFES)
#define TFD_ERR     BIT32(0)
#define TFD_DRQ     BIT32(3)
#define TFD_DF      BIT32(5)
#define TFD_BSY     BIT32(7)
#define ERROR_IDNF  BIT32(4) /* no such sector */
#define ERROR_UNC   BIT32(6) /* it cannot be read */
#define SIG_ATA     0x00000101u
#define SSTS_DET(s) ((s) & 15)
#define DET_NOTHING 0
#define DET_LINK    3
#define SCTL_RESET  0x301u /* COMRESET, as long as it is set; no power saving */
#define SCTL_RUN    0x300u

/* ATA commands and the registers' FIS, SATA 3.0 "Register - Host to Device FIS". */
enum {
    ATA_DATASET = 0x06,
    ATA_READ = 0x25,
    ATA_WRITE = 0x35,
    ATA_READ_QUEUED = 0x60,
    ATA_WRITE_QUEUED = 0x61,
    ATA_FLUSH = 0xea,
    ATA_IDENTIFY = 0xec
};
#define FIS_H2D      0x27
#define FIS_COMMAND  0x80
#define FIS_DWORDS   5u
#define DEVICE_LBA   0x40
#define DATASET_TRIM 1u

#define TRIM_MAX 65535u /* sectors of a range */
#define STOP_US  500000
#define RESET_US 2000
#define EMPTY_US 100000   /* a port without a link for so long has no disk */
#define LINK_US  10000000 /* a disk that spins up is not ready before */

/* 4.2 "Host Memory": what the controller reads and writes for a port. */
struct cmd_header {
    uint32_t flags, transferred;
    uint64_t table;
    uint32_t reserved[4];
};
#define HEADER_WRITE BIT32(6)
#define HEADER_PARTS 16 /* their number, from this bit on */
struct cmd_table {
    uint8_t fis[64], atapi[16], reserved[48];
    struct cmd_part {
        uint64_t at;
        uint32_t reserved, len; /* less 1 */
    } part[BLOCK_PARTS_MAX];
    uint8_t padding[112];
};
struct port_memory {
    struct cmd_header header[PORTS_MAX];
    uint8_t received[256], padding[4096 - 1024 - 256];
    struct cmd_table table[PORTS_MAX];
    uint8_t identify[512];
    uint64_t trim[64]; /* of the one DATA SET MANAGEMENT that there can be, since it is alone */
};
_Static_assert(sizeof(struct cmd_header) == 32 && sizeof(struct cmd_table) % 128 == 0, "4.2");
_Static_assert(offsetof(struct port_memory, table) == 4096, "tables are aligned to 128 bytes, what is received to 256");

enum state { DOWN, STOPPING, RESETTING, LINKING, IDENTIFYING, READY };
struct port {
    struct blockdev dev;
    struct blockq q;
    volatile uint8_t *hba, *regs;
    uint32_t bit; /* in the controller's registers */
    unsigned n_slots;
    bool hba_ncq, ncq;
    struct port_memory *mem; /* owned, for ever */
    enum state state;
    uint64_t since_us, until_us; /* of a state; READY: until_us is the next look at the link */
    uint32_t sent;               /* slots that the port has */
    bool alone;                  /* what it has is one command that is not queued */
    unsigned careful;            /* so many requests more are sent alone */
};
static unsigned n_ports; /* of the controllers so far */

static struct port *port_of(struct blockdev *d) { return container_of(d, struct port, dev); }
static uint32_t port_read(const struct port *p, unsigned off) { return mmio_read32(p->regs + off); }
static void port_write(struct port *p, unsigned off, uint32_t v) { mmio_write32(p->regs + off, v); }
static void port_write_address(struct port *p, unsigned off, const void *at)
{
    port_write(p, off, (uint32_t)ptr_hpa(at).v);
    port_write(p, off + 4, (uint32_t)(ptr_hpa(at).v >> 32));
}

/* ---- commands ---- */

static void irq_ack(struct port *p, uint32_t is)
{
    if (!is)
        return;
    port_write(p, P_IS, is);
    mmio_write32(p->hba + R_IS, p->bit);
}

/* The registers of a command.  Queued commands have their count in `features`. */
static void fis_put(struct port *p, unsigned slot, uint8_t command, uint64_t lba, unsigned count, unsigned features)
{
    uint8_t *f = p->mem->table[slot].fis;
    memset(f, 0, sizeof(p->mem->table[slot].fis));
    f[0] = FIS_H2D;
    f[1] = FIS_COMMAND;
    f[2] = command;
    f[3] = (uint8_t)features;
    for (unsigned i = 0; i < 3; i++) {
        f[4 + i] = (uint8_t)(lba >> (8 * i));
        f[8 + i] = (uint8_t)(lba >> (24 + 8 * i));
    }
    f[7] = DEVICE_LBA;
    f[11] = (uint8_t)(features >> 8);
    f[12] = (uint8_t)count;
    f[13] = (uint8_t)(count >> 8);
}

/* r: what has the data. */
static void command_issue(struct port *p, unsigned slot, const struct block_req *r, bool write, bool queued)
{
    struct cmd_table *t = &p->mem->table[slot];
    unsigned n = 0;
    for (uint32_t at = 0; r->op != BLOCK_FLUSH && at < r->len; at += t->part[n++].len + 1)
        t->part[n].len = block_data_at(r, at, &t->part[n].at) - 1;
    p->mem->header[slot] = (struct cmd_header){ .flags = FIS_DWORDS | (write ? HEADER_WRITE : 0) | n << HEADER_PARTS,
                                                .table = ptr_hpa(t).v };
    if (!p->sent) /* what was left would hide the next interrupt */
        irq_ack(p, port_read(p, P_IS));
    p->sent |= BIT32(slot);
    p->alone = !queued;
    atomic_thread_fence(memory_order_release); /* the command before its bit */
    if (queued)
        port_write(p, P_SACT, BIT32(slot));
    port_write(p, P_CI, BIT32(slot));
}

static bool can_queue(const struct port *p, const struct block_req *r)
{
    return p->ncq && !p->careful && (r->op == BLOCK_READ || r->op == BLOCK_WRITE);
}

static bool ahci_may_send(struct blockdev *d, const struct block_req *r)
{
    const struct port *p = port_of(d);
    return !p->sent || (!p->alone && can_queue(p, r));
}

static void ahci_send(struct blockdev *d, unsigned slot)
{
    struct port *p = port_of(d);
    const struct block_req *r = p->q.slot[slot].r;
    bool queued = can_queue(p, r), write = r->op == BLOCK_WRITE;
    if (r->op == BLOCK_FLUSH) {
        fis_put(p, slot, ATA_FLUSH, 0, 0, 0);
        command_issue(p, slot, r, false, false);
        return;
    }
    uint64_t lba = r->at / d->sector;
    unsigned count = r->len / d->sector;
    if (r->op == BLOCK_DISCARD) { /* ATA8-ACS2 7.10 "DATA SET MANAGEMENT": blocks of 512 bytes, whatever the sector */
        p->mem->trim[0] = lba | (uint64_t)count << 48;
        fis_put(p, slot, ATA_DATASET, 0, 1, DATASET_TRIM);
        struct block_req trim = { .op = BLOCK_WRITE, .buf = p->mem->trim, .len = sizeof(p->mem->trim) };
        command_issue(p, slot, &trim, true, false);
        return;
    }
    if (queued)
        fis_put(p, slot, write ? ATA_WRITE_QUEUED : ATA_READ_QUEUED, lba, slot << 3, count);
    else
        fis_put(p, slot, write ? ATA_WRITE : ATA_READ, lba, count, 0);
    command_issue(p, slot, r, write, queued);
}

static void ahci_submit(struct blockdev *d, struct block_req *r) { blockq_add(&port_of(d)->q, r); }

/* ---- starting ---- */

static void port_enter(struct port *p, enum state s, uint64_t us)
{
    p->state = s;
    p->since_us = clock_us();
    p->until_us = p->since_us + us;
}

static void port_down(struct port *p, const char *why)
{
    blockdev_lost(&p->dev, why);
    port_enter(p, DOWN, DISK_RETRY_US);
}

/* Begin a reset.  What is in flight is put back, and sent alone afterwards. */
static void port_stop_begin(struct port *p)
{
    p->careful = MAX(p->careful, p->q.n_sent);
    blockq_requeue(&p->q);
    p->sent = 0;
    port_write(p, P_IE, 0);
    port_write(p, P_CMD, port_read(p, P_CMD) & ~CMD_ST);
    port_enter(p, STOPPING, STOP_US);
}

static void port_unusable(struct port *p, const char *why)
{
    if (p->dev.found == BLOCK_KNOWN) {
        port_down(p, "it does not start again as the same disk");
        return;
    }
    if (why)
        log_warn("store", "%s: it is not used: %s", p->dev.name, why);
    port_write(p, P_CMD, port_read(p, P_CMD) & ~(CMD_ST | CMD_FRE));
    p->dev.found = BLOCK_NONE; /* its memory stays, since it may not obey */
}

/* The port has stopped: give it its memory, and reset the link. */
static void port_reset(struct port *p)
{
    port_write_address(p, P_CLB, p->mem->header);
    port_write_address(p, P_FB, p->mem->received);
    port_write(p, P_CMD, port_read(p, P_CMD) | CMD_FRE | CMD_SUD | CMD_POD);
    port_write(p, P_SCTL, SCTL_RESET);
    port_enter(p, RESETTING, RESET_US);
}

static void port_stopping(struct port *p)
{
    uint32_t cmd = port_read(p, P_CMD);
    if (cmd & CMD_CR)
        return;
    if (cmd & CMD_FRE)
        port_write(p, P_CMD, cmd & ~CMD_FRE);
    else if (!(cmd & CMD_FR))
        port_reset(p);
}

static void port_linking(struct port *p)
{
    unsigned det = SSTS_DET(port_read(p, P_SSTS));
    if (p->dev.found == BLOCK_STARTING && det == DET_NOTHING && clock_us() - p->since_us > EMPTY_US) {
        port_unusable(p, NULL);
        return;
    }
    if (det != DET_LINK || (port_read(p, P_TFD) & (TFD_BSY | TFD_DRQ)))
        return;
    if (port_read(p, P_SIG) != SIG_ATA) {
        port_unusable(p, p->dev.found == BLOCK_KNOWN ? "it is no disk" : NULL);
        return;
    }
    port_write(p, P_SERR, UINT32_MAX);
    irq_ack(p, port_read(p, P_IS));
    port_write(p, P_IE, IS_DONE | IS_ERRORS);
    port_write(p, P_CMD, port_read(p, P_CMD) | CMD_ST);
    memset(p->mem->identify, 0, sizeof(p->mem->identify));
    fis_put(p, 0, ATA_IDENTIFY, 0, 0, 0);
    struct block_req identify = { .op = BLOCK_READ, .buf = p->mem->identify, .len = sizeof(p->mem->identify) };
    command_issue(p, 0, &identify, false, false);
    port_enter(p, IDENTIFYING, DISK_IDENTIFY_US);
}

/* ATA8-ACS 7.16 "IDENTIFY DEVICE": words of 16 bits. */
static unsigned word(const struct port *p, unsigned i)
{
    return p->mem->identify[2 * i] | p->mem->identify[2 * i + 1] << 8;
}

/* Text has the first character of each pair in the word's upper half. */
static void words_text(const struct port *p, unsigned first, unsigned n, char *to)
{
    uint8_t text[40];
    ASSERT(2 * n <= sizeof(text));
    for (unsigned i = 0; i < n; i++) {
        text[2 * i] = (uint8_t)(word(p, first + i) >> 8);
        text[2 * i + 1] = (uint8_t)word(p, first + i);
    }
    unsigned blanks = 0;
    while (blanks < 2 * n && text[blanks] == ' ')
        blanks++;
    blockdev_text(to, text + blanks, 2 * n - blanks);
}

/* What the disk says of itself.  Returns why it cannot be used, or NULL. */
static const char *identity_take(struct port *p)
{
    uint64_t sectors = 0, sector = 512;
    char serial[sizeof(p->dev.serial)];
    if ((word(p, 83) & 0xc000) != 0x4000 || !(word(p, 83) & BIT32(10)) || !(word(p, 49) & BIT32(8)))
        return "it has no DMA with addresses of 48 bits";
    for (unsigned i = 0; i < 4; i++)
        sectors |= (uint64_t)word(p, 100 + i) << (16 * i);
    if ((word(p, 106) & 0xd000) == 0x5000)
        sector = 2 * (word(p, 117) | (uint64_t)word(p, 118) << 16);
    if (!blockdev_size_ok(sectors, sector) || sectors > BIT64(48))
        return "it has sectors, or a size, that this driver cannot use";
    words_text(p, 10, 10, serial);
    if (p->dev.found != BLOCK_KNOWN)
        words_text(p, 27, 20, p->dev.model);
    p->ncq = p->hba_ncq && (word(p, 76) & BIT32(8)) && word(p, 76) != 0xffff;
    p->q.n_slots = p->ncq ? MIN(p->n_slots, (word(p, 75) & 31) + 1) : 1;
    p->q.no_cache = (word(p, 87) & 0xc000) == 0x4000 && !(word(p, 85) & BIT32(5));
    /* Only where it reads the same each time.  No zeroes: a disk may ignore TRIM whatever it says of its reads. */
    struct block_facts f = { .bytes = sectors * sector, .sector = (uint32_t)sector, .serial = serial };
    f.discard = (word(p, 169) & 1) && (word(p, 69) & BIT32(14));
    f.range_max = TRIM_MAX * sector;
    f.pages_max = UINT32_MAX;
    return blockdev_identified(&p->dev, &f) ? NULL : "it is another disk";
}

static void port_identifying(struct port *p)
{
    uint32_t is = port_read(p, P_IS);
    irq_ack(p, is);
    if (!(is & IS_ERRORS) && (port_read(p, P_CI) & 1))
        return;
    p->sent = 0;
    if ((is & IS_ERRORS) || (port_read(p, P_TFD) & (TFD_ERR | TFD_DF))) {
        port_down(p, "it fails when it shall say what it is");
        return;
    }
    const char *why = identity_take(p);
    if (why) {
        port_unusable(p, why);
        return;
    }
    port_enter(p, READY, 0);
    blockdev_back(&p->dev);
}

/* Returns true when the state changed. */
static bool port_start_step(struct port *p)
{
    enum state was = p->state;
    bool gone = port_read(p, P_CMD) == UINT32_MAX, late = clock_us() > p->until_us;
    if (p->state == DOWN && late && !gone) {
        port_stop_begin(p);
    } else if (p->state == DOWN) {
        p->until_us = late ? clock_us() + DISK_RETRY_US : p->until_us;
    } else if (p->state == RESETTING && late && !gone) {
        port_write(p, P_SCTL, SCTL_RUN);
        port_enter(p, LINKING, LINK_US);
    } else if (gone || (late && p->state == LINKING && SSTS_DET(port_read(p, P_SSTS)) != DET_LINK)) {
        port_down(p, "the disk is gone");
    } else if (late) {
        port_down(p, "it does not start");
    } else if (p->state == STOPPING) {
        port_stopping(p);
    } else if (p->state == LINKING) {
        port_linking(p);
    } else if (p->state == IDENTIFYING) {
        port_identifying(p);
    }
    return p->state != was;
}

/* ---- completions ---- */

static void careful_step(struct port *p) { p->careful -= p->careful != 0; }

/* The command that was alone has failed, with this task file. */
static void alone_failed(struct port *p, uint32_t tfd)
{
    unsigned slot = (unsigned)__builtin_ctz(p->sent);
    char what[40];
    snprintf(what, sizeof(what), "status %02x, error %02x", tfd & 0xff, tfd >> 8 & 0xff);
    p->sent = 0;
    if (!blockq_failed_back(&p->q, slot, (tfd & TFD_ERR) && (tfd >> 8 & (ERROR_UNC | ERROR_IDNF)), what))
        careful_step(p);
    port_stop_begin(p);
}

/* Complete what the port has finished.  True: there was something. */
static bool port_reap(struct port *p)
{
    uint32_t is = port_read(p, P_IS);
    if ((is & IS_LINK) || ((is & IS_ERRORS) && SSTS_DET(port_read(p, P_SSTS)) != DET_LINK)) {
        blockq_forget(&p->q); /* what else it says means nothing */
        port_stop_begin(p);
        return true;
    }
    irq_ack(p, is);
    uint32_t left = port_read(p, P_CI) | port_read(p, P_SACT), done = p->sent & ~left;
    uint32_t tfd = p->alone && (done || (is & IS_ERRORS)) ? port_read(p, P_TFD) : 0;
    if (p->alone && ((is & IS_ERRORS) || (tfd & (TFD_ERR | TFD_DF)))) {
        alone_failed(p, tfd);
        return true;
    }
    for (uint32_t todo = done; todo; todo &= todo - 1) {
        unsigned slot = (unsigned)__builtin_ctz(todo);
        p->sent &= ~BIT32(slot);
        if (p->alone)
            careful_step(p);
        blockq_done(&p->q, slot, true);
    }
    if (is & IS_ERRORS)
        port_stop_begin(p);
    return done || (is & IS_ERRORS);
}

/* Is the disk gone, or does it hang? */
static const char *port_trouble(struct port *p)
{
    uint64_t now = clock_us();
    if (now < p->until_us || !p->sent)
        return NULL;
    p->until_us = now + DISK_CHECK_US;
    if (SSTS_DET(port_read(p, P_SSTS)) != DET_LINK)
        return "the disk is gone";
    return blockq_late(&p->q) ? "a request took longer than 10 s: its port is reset" : NULL;
}

static bool ahci_poll(struct blockdev *d)
{
    struct port *p = port_of(d);
    bool moved = false;
    if (p->state != READY)
        return port_start_step(p);
    if (p->sent)
        moved = port_reap(p);
    if (p->state == READY)
        moved |= blockq_fill(&p->q);
    const char *trouble = p->state == READY ? port_trouble(p) : NULL;
    if (trouble) {
        d->n_resets++;
        blockq_forget(&p->q);
        blockdev_lost(d, trouble);
        port_stop_begin(p);
    }
    return moved;
}

/* ---- probing ---- */

static const struct blockdev_ops ahci_ops = { "AHCI", ahci_submit, ahci_poll };

static void port_add(volatile uint8_t *hba, unsigned i, uint8_t irq)
{
    struct port *p = mem_alloc(sizeof(*p));
    struct port_memory *mem = p ? mem_alloc(sizeof(*mem)) : NULL;
    uint32_t cap = mmio_read32(hba + R_CAP);
    if (!mem) {
        log_warn("store", "no memory for port %u of an AHCI controller", i);
        mem_free(p, sizeof(*p));
        return;
    }
    *p = (struct port){ .dev = { .ops = &ahci_ops, .irq = irq }, .hba = hba, .bit = BIT32(i), .mem = mem };
    snprintf(p->dev.name, sizeof(p->dev.name), "ahci%u", n_ports + i);
    p->regs = hba + R_PORTS + i * PORT_LEN;
    p->n_slots = CAP_SLOTS(cap);
    p->hba_ncq = cap & CAP_NCQ;
    blockq_init(&p->q, &p->dev, 1, ahci_send);
    p->q.may_send = ahci_may_send;
    port_stop_begin(p);
    blockdev_add(&p->dev);
}

/* 10.6 "BIOS/OS Handoff". */
static void firmware_disown(volatile uint8_t *hba)
{
    uint64_t until = clock_us() + 2000000;
    if (!(mmio_read32(hba + R_CAP2) & CAP2_BOH))
        return;
    mmio_write32(hba + R_BOHC, mmio_read32(hba + R_BOHC) | BOHC_OOS);
    while ((mmio_read32(hba + R_BOHC) & BOHC_BOS) && clock_us() < until)
        ;
}

void ahci_probe(const struct pci_dev *d)
{
    if (d->class_code != 1 || d->subclass != 6 || d->prog_if != 1)
        return;
    pci_enable(d);
    volatile uint8_t *hba = d->bar[5].len >= R_PORTS + PORT_LEN ? pci_bar_map(d, 5) : NULL;
    uint32_t cap = hba ? mmio_read32(hba + R_CAP) : UINT32_MAX, ports = hba ? mmio_read32(hba + R_PI) : 0;
    if (cap == UINT32_MAX || !(cap & CAP_64)) {
        log_warn("store", "%04x: an AHCI controller that this driver cannot use", d->bdf);
        return;
    }
    firmware_disown(hba);
    mmio_write32(hba + R_GHC, GHC_AE);
    uint8_t vector = pcpu_irq_alloc();
    bool irq = vector && pci_msi_enable(d, 0, vector) == HV_OK;
    for (unsigned i = 0; i < PORTS_MAX; i++)
        if ((ports & BIT32(i)) && R_PORTS + (i + 1) * PORT_LEN <= d->bar[5].len && blockdev_room(d))
            port_add(hba, i, irq ? vector : 0);
    n_ports += CAP_PORTS(cap);
    pci_master_enable(d); /* the firmware's command lists are stopped */
    mmio_write32(hba + R_IS, UINT32_MAX);
    mmio_write32(hba + R_GHC, GHC_AE | (irq ? GHC_IE : 0));
}
