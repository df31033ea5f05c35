/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/blockdev.c - find the host's disks, and drive all of them.
 *
 * Controllers start side by side.  The boot waits while one of them is starting, so a host without disks, or with quick
 * ones, does not wait.  A disk that is not there in time is left out until the next boot: its groups are not known, and
 * to read them later would hold the service loop up. */
#include "kernel/store/blockdev.h"

#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"
#include "kernel/store/blockdev_impl.h"
#include "kernel/store/gpt.h"

#define NOW_US   5000000
#define START_US 30000000 /* a disk that spins up takes 10 s, and some controllers as long again */

static struct blockdev *begun[DISKS_MAX]; /* found on the PCI bus */
static unsigned n_begun;
static struct blockdev *devs[BLOCKDEVS_MAX];

bool blockdev_room(const struct pci_dev *d)
{
    if (n_begun < DISKS_MAX)
        return true;
    log_warn("store", "%u places for disks were found, which is the limit; those at %04x on the PCI bus are left out",
             n_begun, d->bdf);
    return false;
}

void blockdev_add(struct blockdev *d)
{
    ASSERT(n_begun < DISKS_MAX && d->ops && d->found == BLOCK_STARTING);
    begun[n_begun++] = d;
}

/* ---- boot ---- */

static bool poll_begun(void)
{
    bool starting = false;
    for (unsigned i = 0; i < n_begun; i++) {
        if (begun[i]->found == BLOCK_STARTING)
            (void)begun[i]->ops->poll(begun[i]);
        starting |= begun[i]->found == BLOCK_STARTING;
    }
    return starting;
}

static bool blockdev_publish(struct blockdev *d)
{
    unsigned i = 0;
    while (i < BLOCKDEVS_MAX && devs[i])
        i++;
    if (i == BLOCKDEVS_MAX) {
        log_warn("store", "%u disks and partitions are used, which is the limit; %s is not", i, d->name);
        return false;
    }
    devs[i] = d;
    d->number = d->whole ? d->whole->number : i;
    return true;
}

static void partitions_publish(struct blockdev *d)
{
    char why[160];
    struct gpt *g = mem_alloc(sizeof(*g));
    enum hv_err e = g ? gpt_read(d, g, WHY(why)) : HV_E_NOMEM;
    if (e && e != HV_E_NOENT)
        log_warn("store", "%s", g ? why : hv_err_text(e));
    for (unsigned i = 0; !e && i < g->n; i++) {
        struct blockdev *p = partition_create(d, g->part[i].number, g->part[i].offset, g->part[i].bytes);
        if (p && blockdev_publish(p))
            log_info("store", "%s: %lu MiB at %lu KiB", p->name, p->bytes / MIB, g->part[i].offset / KIB);
    }
    mem_free(g, sizeof(*g));
}

static void disk_publish(struct blockdev *d)
{
    if (!blockdev_publish(d))
        return;
    log_info("store", "%s: %s (serial %s), %lu MiB, sectors of %u bytes, %s", d->name, d->model, d->serial,
             d->bytes / MIB, d->sector, d->irq ? "MSI" : "polled");
    partitions_publish(d);
}

void blockdev_init(void)
{
    for (unsigned i = 0; i < pci_n_devs; i++) {
        nvme_probe(&pci_devs[i]);
        virtio_blk_probe(&pci_devs[i]);
        ahci_probe(&pci_devs[i]);
    }
    uint64_t until = clock_us() + START_US;
    while (poll_begun() && clock_us() < until)
        ;
    for (unsigned i = 0; i < n_begun; i++) {
        struct blockdev *d = begun[i];
        if (d->found == BLOCK_KNOWN)
            disk_publish(d);
        else if (d->found == BLOCK_STARTING)
            log_error("store", "%s: not ready within %u s, so it is not used until the next boot: %s", d->name,
                      START_US / 1000000, d->why[0] ? d->why : "it is starting");
    }
}

struct blockdev *blockdev_at(unsigned i)
{
    ASSERT(i < BLOCKDEVS_MAX);
    return devs[i];
}

bool blockdev_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < BLOCKDEVS_MAX && devs[i]; i++)
        moved |= devs[i]->ops->poll(devs[i]);
    return moved;
}

unsigned blockdev_causes(void)
{
    unsigned causes = 0;
    for (unsigned i = 0; i < BLOCKDEVS_MAX && devs[i]; i++)
        causes |= devs[i]->irq ? PCPU_CAUSE_IRQ(devs[i]->irq) : 0;
    return causes;
}

bool blockdev_needs_polling(void)
{
    for (unsigned i = 0; i < BLOCKDEVS_MAX && devs[i]; i++)
        if (!devs[i]->irq)
            return true;
    return false;
}

static enum { WAITING, GOOD, BAD } now_state;
static const struct block_req *now_req;
static void now_done(struct block_req *r, bool ok)
{
    if (r == now_req) /* else one that came too late */
        now_state = ok ? GOOD : BAD;
}

enum hv_err blockdev_do_now(struct blockdev *d, struct block_req *r)
{
    uint64_t until = clock_us() + NOW_US;
    now_state = WAITING;
    now_req = r;
    r->done = now_done;
    d->ops->submit(d, r);
    while (now_state == WAITING && clock_us() < until)
        (void)d->ops->poll(d);
    return now_state == GOOD ? HV_OK : HV_FAIL(now_state == BAD ? HV_E_IO : HV_E_TIMEOUT);
}
