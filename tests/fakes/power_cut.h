/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/power_cut.h - host disks (kernel/store/blockdev.h) whose power can be cut.
 *
 * A disk does one request at each poll, in order unless told otherwise.  What was written and not flushed is in its
 * cache: a power cut keeps any set of these sectors of 512 bytes, in the version of any of their writes, and loses the
 * others.
 *
 *     power_begin();                              forget all writes so far: they are durable
 *     power_off_after(n);                         n sector writes are done, then nothing any more
 *     ... run until power_is_off() or done ...
 *     for (seed = 0; seed < 8; seed++) {          0: all is lost; 1: all is kept; else any set
 *         power_cut(seed);                        disks are as after the cut
 *         ... look ...
 *         power_uncut();                          and as before it
 *     } */
#ifndef GODWIT_TESTS_FAKES_POWER_CUT_H
#define GODWIT_TESTS_FAKES_POWER_CUT_H

#include "kernel/store/blockdev.h"

#define POWER_DISKS_MAX 4u

struct power_disk {
    struct blockdev dev;
    uint8_t *bytes; /* as a read returns them */
    struct block_req *first, **last;
    bool fails, gone;    /* each request fails; none is answered */
    bool shuffles;       /* it does requests in any order, often the latest first */
    unsigned fail_after; /* so many requests are done before `fails`; 0: no such limit */
    unsigned n_flushes;
    unsigned blink_before; /* the n-th request from now on finds that its disk has lost its cache; 0: none */
};
extern struct power_disk power_disks[POWER_DISKS_MAX];

/** One more disk, all zeroes: "disk0", ...  blockdev_at() knows it. */
struct power_disk *power_disk_add(uint64_t bytes, uint32_t sector);
void power_disks_remove(void);

void power_begin(void);
void power_off_after(uint64_t sector_writes);
bool power_is_off(void);
/** Sector writes since power_begin(). */
uint64_t power_writes(void);
void power_cut(uint64_t seed);
/** All disks lose their power for a moment, by themselves: as power_cut(), for good, and they go on. */
void power_blink(uint64_t seed);
void power_uncut(void);

#endif
