/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/cut_disk.h - disks that lose and tear what was not flushed when the power is cut.
 *
 * Each sector that is written stays in a cache until the disk is flushed.  A power cut keeps any of these, and loses
 * the others: disk_cut() makes the disk that one such cut would leave.  Requests wait until cut_disks_run(). */
#ifndef GODWIT_TESTS_FAKES_CUT_DISK_H
#define GODWIT_TESTS_FAKES_CUT_DISK_H

#include "kernel/store/blockdev.h"

enum cut_kind { CUT_LOSES_ALL, CUT_KEEPS_ALL, CUT_KEEPS_SOME };

struct cut_write {
    uint64_t sector;
    uint8_t data[512];
};
struct cut_disk {
    struct blockdev dev;
    uint8_t *view, *durable; /* owned */
    struct cut_write *cache; /* owned, in the order of the writes */
    size_t n_cache, cache_room;
    struct block_req *queue, **queue_end;
    unsigned n_writes, n_flushes; /* sectors; flushes */
    unsigned blink_before;        /* the n-th request from now on finds that its disk has lost its cache; 0: none */
    bool fails_writes, fails_reads, fails_flushes;
    /** NULL, or called after each sector that is written. */
    void (*written)(struct cut_disk *d);
};

void cut_disk_init(struct cut_disk *d, const char *name, uint64_t bytes);
void cut_disk_free(struct cut_disk *d);
/** Do what waits, and what follows from it.  False: nothing waited. */
bool cut_disk_run(struct cut_disk *d);
/** It loses its power for a moment, and with it all that was not flushed; it goes on. */
void cut_disk_blink(struct cut_disk *d);
/** What the disk has after a power cut now: into `to`, dev.bytes long.  seed: of CUT_KEEPS_SOME. */
void disk_cut(const struct cut_disk *d, enum cut_kind kind, unsigned seed, uint8_t *to);

#endif
