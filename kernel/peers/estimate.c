/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/estimate.c - see estimate.h.
 *
 * Each figure is a mean in which a new move counts for a quarter.  A move of few bytes says nothing about the rate, and
 * a cold one nothing about how well memory is compressed.  The blackout of a quick move is that of its memory: disks
 * are copied while the guest runs. */
#include "kernel/peers/estimate.h"

#include "kernel/lib/log.h"

#define WIRE_MIN   (256 * KIB)
#define WIRE_SCALE 1024u /* of `packed` */

static struct {
    unsigned moves;        /* that counted for the rate */
    uint64_t bytes_per_s;  /* on the wire; 0: not known */
    uint64_t packed;       /* bytes on the wire per WIRE_SCALE bytes of memory; 0: not known */
    uint64_t disks_packed; /* the same of volumes */
    uint64_t blackout_us;  /* of a live move; 0: not known */
} peers[CONFIG_MAX_PEERS];

static void mean_add(uint64_t *mean, uint64_t x) { *mean = *mean ? (3 * *mean + x) / 4 : MAX(x, 1u); }

void estimate_learn(unsigned peer, enum move_how how, const struct move_bytes *content, const struct move_bytes *wire,
                    uint64_t us, uint64_t blackout)
{
    ASSERT(peer < CONFIG_MAX_PEERS);
    if (wire->memory + wire->disks < WIRE_MIN || !us || !(content->memory + content->disks))
        return;
    peers[peer].moves++;
    mean_add(&peers[peer].bytes_per_s, (wire->memory + wire->disks) * 1000000 / us);
    if (content->disks)
        mean_add(&peers[peer].disks_packed, wire->disks * WIRE_SCALE / content->disks);
    if (move_is_cold(how) || wire->memory < WIRE_MIN || !content->memory)
        return;
    mean_add(&peers[peer].packed, wire->memory * WIRE_SCALE / content->memory);
    if (how == MOVE_LIVE)
        mean_add(&peers[peer].blackout_us, blackout);
}

struct move_estimate estimate_of(unsigned peer, enum move_how how, const struct move_bytes *content)
{
    ASSERT(peer < CONFIG_MAX_PEERS);
    struct move_estimate e = { .moves = peers[peer].moves,
                               .bytes = content->memory + content->disks,
                               .disks = content->disks };
    if (!e.moves)
        return e;
    uint64_t memory = content->memory, disks = content->disks, rate = MAX(peers[peer].bytes_per_s, 1u);
    if (!move_is_cold(how) && peers[peer].packed)
        memory = memory * peers[peer].packed / WIRE_SCALE;
    if (peers[peer].disks_packed)
        disks = disks * peers[peer].disks_packed / WIRE_SCALE;
    e.bytes = memory + disks;
    e.us = e.bytes * 1000000 / rate;
    e.blackout = how == MOVE_QUICK ? memory * 1000000 / rate : move_is_cold(how) ? 0 : peers[peer].blackout_us;
    return e;
}
