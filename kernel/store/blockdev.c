/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/blockdev.c - find the host's disks, and drive all of them. */
#include "kernel/store/blockdev.h"

#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/store/blockdev_impl.h"

#define NOW_US 5000000

static struct blockdev *devs[BLOCKDEVS_MAX];

void blockdev_init(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < pci_n_devs; i++) {
        if (n == BLOCKDEVS_MAX) {
            log_warn("store", "%u disks are used, which is the limit; those behind %04x on the PCI bus are not", n,
                     pci_devs[i].bdf);
            break;
        }
        struct blockdev *d = nvme_probe(&pci_devs[i]);
        if (!d)
            continue;
        ASSERT(d->ops && d->sector >= 512 && d->sector <= BLOCK_SECTOR_MAX && d->bytes % d->sector == 0);
        devs[n++] = d;
        log_info("store", "%s: %s (serial %s), %lu MiB, sectors of %u bytes, %s", d->name, d->model, d->serial,
                 d->bytes / MIB, d->sector, d->irq ? "MSI" : "polled");
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
