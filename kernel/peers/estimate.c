/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/estimate.c - see estimate.h.
 *
 * Each figure is a mean in which a new move counts for a quarter.  A move of few bytes says nothing about the rate, and
 * a cold one nothing about how well memory is compressed.  The blackout of a quick move is the move. */
#include "kernel/peers/estimate.h"

#include "kernel/lib/log.h"

#define WIRE_MIN   (256 * KIB)
#define WIRE_SCALE 1024u /* of `packed` */

static struct {
    unsigned moves;       /* that counted for the rate */
    uint64_t bytes_per_s; /* on the wire; 0: not known */
    uint64_t packed;      /* bytes on the wire per WIRE_SCALE bytes of content; 0: not known */
    uint64_t blackout_us; /* of a live move; 0: not known */
} peers[CONFIG_MAX_PEERS];

static void mean_add(uint64_t *mean, uint64_t x) { *mean = *mean ? (3 * *mean + x) / 4 : MAX(x, 1u); }

void estimate_learn(unsigned peer, enum move_how how, uint64_t content, uint64_t wire, uint64_t us, uint64_t blackout)
{
    ASSERT(peer < CONFIG_MAX_PEERS);
    if (wire < WIRE_MIN || !us || !content)
        return;
    peers[peer].moves++;
    mean_add(&peers[peer].bytes_per_s, wire * 1000000 / us);
    if (how == MOVE_COLD)
        return;
    mean_add(&peers[peer].packed, wire * WIRE_SCALE / content);
    if (how == MOVE_LIVE)
        mean_add(&peers[peer].blackout_us, blackout);
}

struct move_estimate estimate_of(unsigned peer, enum move_how how, uint64_t content)
{
    ASSERT(peer < CONFIG_MAX_PEERS);
    struct move_estimate e = { .moves = peers[peer].moves, .bytes = content };
    if (!e.moves)
        return e;
    if (how != MOVE_COLD && peers[peer].packed)
        e.bytes = content * peers[peer].packed / WIRE_SCALE;
    e.us = e.bytes * 1000000 / MAX(peers[peer].bytes_per_s, 1u);
    e.blackout = how == MOVE_QUICK ? e.us : how == MOVE_COLD ? 0 : peers[peer].blackout_us;
    return e;
}
