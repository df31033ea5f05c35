/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/blockdev_impl.h - the drivers, for blockdev.c, and what they share. */
#ifndef GODWIT_KERNEL_STORE_BLOCKDEV_IMPL_H
#define GODWIT_KERNEL_STORE_BLOCKDEV_IMPL_H

#include "kernel/host/pci.h"
#include "kernel/store/blockdev.h"

#define DISKS_MAX        64       /* of all drivers, and ports that may have one */
#define DISK_REQUEST_US  10000000 /* a request that takes longer: the controller is reset */
#define DISK_RETRY_US    3000000  /* from a failed start to the next */
#define DISK_CHECK_US    100000   /* between two looks at the state of a busy controller */
#define DISK_IDENTIFY_US 5000000  /* a command of the start takes no longer */
#define DISK_TRIES_MAX   5        /* of a request that fails in a way that may pass */

/** The drivers.  Each looks at d, and if it is one of theirs adds its disks with blockdev_add(), in state STARTING;
 *  their poll() does the rest.  What cannot be used is logged.  Boot CPU, once for each PCI function. */
void nvme_probe(const struct pci_dev *d);
void virtio_blk_probe(const struct pci_dev *d);
void ahci_probe(const struct pci_dev *d);

/** Is there room for one more disk?  False: the log says that d is left out. */
bool blockdev_room(const struct pci_dev *d);
/** d, which lives for ever, may become a disk.  After blockdev_room(). */
void blockdev_add(struct blockdev *d);
/** d does not answer, for this reason; a change of the reason is logged. */
void blockdev_lost(struct blockdev *d, const char *why);
/** d answers again, if it was lost. */
void blockdev_back(struct blockdev *d);
#define DISK_ZEROES_MAX ((uint64_t)(4 * MIB)) /* range_max is no larger: others wait meanwhile */

/* What a start has found. */
struct block_facts {
    uint64_t bytes; /* with `sector` checked by blockdev_size_ok() */
    uint32_t sector;
    const char *serial;
    bool discard, zeroes;
    uint64_t range_max, pages_max; /* bytes; not yet rounded or limited */
};
/** The first time d becomes KNOWN.  False: not the disk of the first start, or one that can do less. */
bool blockdev_identified(struct blockdev *d, const struct block_facts *f);
/** Can a disk of so many sectors of so many bytes be used? */
bool blockdev_size_ok(uint64_t sectors, uint64_t sector);
/* What was not flushed.  A disk that was without power, or hung until it was reset, answers the next FLUSH as if
 * nothing had happened.  So each disk has an epoch, which changes with such an event.  A submitter's block_writes
 * has the number of writes that are done, of those that a flush made durable or told lost, and the epoch in which the
 * oldest other one was done, or an earlier one.  A FLUSH notes how many writes it covers, that epoch, and the one in
 * which it begins; if a write that it covers was done in another epoch than the flush, it fails. */

/** d, a whole disk, takes r. */
static inline void blockdev_take(const struct blockdev *d, struct block_req *r)
{
    r->lost = false;
    if (r->op != BLOCK_FLUSH || !r->writes)
        return;
    r->covers = r->writes->disk[d->number].done;
    r->begun = d->epoch;
    r->oldest = r->covers == r->writes->disk[d->number].safe ? UINT64_MAX : r->writes->disk[d->number].epoch;
}
/** The disk has answered r; ok: well.  Returns what its submitter is told. */
static inline bool blockdev_result(const struct blockdev *d, struct block_req *r, bool ok)
{
    if (!ok || !r->writes || r->op == BLOCK_READ || r->op == BLOCK_DISCARD)
        return ok;
    uint64_t *done = &r->writes->disk[d->number].done, *safe = &r->writes->disk[d->number].safe;
    uint64_t *epoch = &r->writes->disk[d->number].epoch;
    if (r->op != BLOCK_FLUSH) {
        *epoch = *done == *safe ? d->epoch : *epoch;
        ++*done;
        return true;
    }
    r->lost = r->oldest != UINT64_MAX && r->oldest != d->epoch;
    *safe = MAX(*safe, r->covers);
    *epoch = MAX(*epoch, r->begun); /* what was done since it began */
    return !r->lost;
}
/** A partition of a disk, in whole sectors.  NULL: no memory. */
struct blockdev *partition_create(struct blockdev *whole, unsigned number, uint64_t offset, uint64_t bytes);
/** The next piece of r's data that lies in one page, or all of it if it is in one buffer: from byte `at` of r on.
 *  Returns its bytes; *a: where. */
uint32_t block_data_at(const struct block_req *r, uint32_t at, uint64_t *a);
#define BLOCK_PARTS_MAX DISK_PINS_MAX /* of a request */
/** len bytes of a device's text, without blanks at the end; what does not print becomes '_'.  to: len + 1 bytes. */
void blockdev_text(char *to, const uint8_t *from, size_t len);

#endif
