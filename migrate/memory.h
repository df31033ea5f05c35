/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/memory.h - how much memory a move takes, for a host that reserves it before it promises to move a guest. */
#ifndef GODWIT_MIGRATE_MEMORY_H
#define GODWIT_MIGRATE_MEMORY_H

#include "kernel/lib/types.h"

/** The most memory that a machine of either side (mig.h) takes for a guest, in bytes: n_touched of its n_pages frames
 *  may differ from zero.  It holds for allocators that round up to a power of two, too.  Two queues of about 600 KiB,
 *  four bitmaps, and 64 KiB of hashes per 2 MiB of guest memory. */
uint64_t mig_memory_max(uint64_t n_touched, uint64_t n_pages);

#endif
