/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/block_driver.c - what drivers of disks share: see blockdev_impl.h. */
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
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

bool blockdev_identified(struct blockdev *d, uint64_t bytes, uint32_t sector, const char *serial)
{
    ASSERT(blockdev_size_ok(bytes / sector, sector) && bytes % sector == 0);
    if (d->found == BLOCK_KNOWN)
        return d->bytes == bytes && d->sector == sector && !strcmp(d->serial, serial);
    d->bytes = bytes;
    d->sector = sector;
    snprintf(d->serial, sizeof(d->serial), "%s", serial);
    d->found = BLOCK_KNOWN;
    return true;
}

void blockdev_text(char *to, const uint8_t *from, size_t len)
{
    while (len && (from[len - 1] == ' ' || !from[len - 1]))
        len--;
    for (size_t i = 0; i < len; i++)
        to[i] = from[i] > ' ' && from[i] < 127 && from[i] != '"' ? (char)from[i] : '_';
    to[len] = '\0';
}
