/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/block_driver.c - what drivers of disks share: see blockdev_impl.h. */
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/blockdev_impl.h"

void blockdev_lost(struct blockdev *d, const char *why)
{
    if (strcmp(d->why, why) != 0) /* said once, not at each try */
        log_warn("store", "%s: %s; its requests wait", d->name, why);
    if (!d->lost_us)
        d->lost_us = clock_us();
    snprintf(d->why, sizeof(d->why), "%s", why);
}

void blockdev_back(struct blockdev *d)
{
    if (!d->lost_us)
        return;
    log_info("store", "%s: answers again after %lu ms", d->name, (clock_us() - d->lost_us) / 1000);
    d->lost_us = 0;
    d->why[0] = '\0';
}

bool blockdev_size_ok(uint64_t sectors, uint64_t sector)
{
    return sector >= 512 && sector <= BLOCK_SECTOR_MAX && !(sector & (sector - 1)) && sectors &&
           sectors <= INT64_MAX / sector;
}

bool blockdev_identified(struct blockdev *d, const struct block_facts *f)
{
    uint32_t range_max = (uint32_t)ALIGN_DOWN(MIN(f->range_max, DISK_ZEROES_MAX), f->sector);
    bool discard = f->discard && range_max, zeroes = f->zeroes && range_max;
    uint32_t pages_max = (uint32_t)ALIGN_DOWN(MIN(f->pages_max, (DISK_PINS_MAX - 1) * PAGE_SIZE), f->sector);
    ASSERT(blockdev_size_ok(f->bytes / f->sector, f->sector) && f->bytes % f->sector == 0);
    if (d->found == BLOCK_KNOWN)
        return d->bytes == f->bytes && d->sector == f->sector && !strcmp(d->serial, f->serial) &&
               discard >= d->discard && zeroes >= d->zeroes && range_max >= d->range_max && pages_max >= d->pages_max;
    d->bytes = f->bytes;
    d->sector = f->sector;
    d->discard = discard;
    d->zeroes = zeroes;
    d->range_max = discard || zeroes ? range_max : 0;
    d->pages_max = pages_max;
    snprintf(d->serial, sizeof(d->serial), "%s", f->serial);
    d->found = BLOCK_KNOWN;
    return true;
}

uint32_t block_data_at(const struct block_req *r, uint32_t at, uint64_t *a)
{
    ASSERT(at < r->len);
    if (r->buf) {
        *a = ptr_hpa(r->buf).v + at;
        return r->len - at;
    }
    uint32_t first = (uint32_t)(r->page[0] % PAGE_SIZE), i = (first + at) / PAGE_SIZE;
    *a = r->page[i];
    return MIN(r->len - at, (uint32_t)(PAGE_SIZE - *a % PAGE_SIZE));
}

void blockdev_text(char *to, const uint8_t *from, size_t len)
{
    while (len && (from[len - 1] == ' ' || !from[len - 1]))
        len--;
    for (size_t i = 0; i < len; i++)
        to[i] = from[i] > ' ' && from[i] < 127 && from[i] != '"' ? (char)from[i] : '_';
    to[len] = '\0';
}
