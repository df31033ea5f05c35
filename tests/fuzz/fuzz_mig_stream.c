/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fuzz/fuzz_mig_stream.c - any bytes, in any split, to the whole receiver; and as answers to a source that is in the middle of a move.
 *
 * Byte 0 of the input: 254 = one who asks; else bit 0 = which machine of a move, the rest seeds the split.  The seed corpus (tests/fuzz/corpus/mig_stream) holds what a real move
 * sent; the source's job has a fixed id and key, so that a recorded answer fits it. */
/* fuzz-sources: migrate/ask.c migrate/mig.c migrate/tx.c migrate/tx_pages.c migrate/rx.c migrate/wire.c migrate/hash.c migrate/batch.c migrate/policy.c kernel/err.c tests/fakes/fake_guest.c */
/* fuzz-deps: lz4 */
#include <stdio.h>
#include <stdlib.h>
#include "migrate/wire.h"
#include "migrate/ask.h"
#include "tests/fakes/fake_guest.h"

#define FUZZ_PAGES 40
static const struct mig_id ID = { "fuzz-stream-job" };

/* Give the machine the next few bytes; false: none left. */
static bool feed(struct mig_fifo *in, const uint8_t **p, size_t *len, uint64_t *rng)
{
    size_t room, n = 1 + fake_rand(rng) % 5000;
    uint8_t *dst = mig_fifo_space(in, 1, &room);
    n = MIN(MIN(n, *len), room);
    memcpy(dst, *p, n);
    mig_fifo_commit(in, n);
    *p += n;
    *len -= n;
    return *len > 0;
}

static void check(bool ok)
{
    if (!ok) abort();
}

static void fuzz_rx(const uint8_t *p, size_t len, uint64_t rng)
{
    static struct mig_ids ids;
    struct fake_guest g;
    struct mig_rx *rx;
    struct mig_rx_params params = { .ops = &fake_dst_ops, .ctx = &g, .mem = fake_mem, .ids = &ids };

    memset(&ids, 0, sizeof ids);
    fake_dest_init(&g);
    g.page_limit = 5000;
    check(mig_rx_create(&params, &rx) == HV_OK);
    uint64_t now = 0;
    bool more = len > 0;
    for (int idle = 0; idle < 8; now += 1000) {
        if (more) more = feed(&mig_rx_io(rx)->in, &p, &len, &rng);
        struct mig_wait w = mig_rx_step(rx, now);
        mig_rx_io(rx)->out.head = mig_rx_io(rx)->out.tail = 0;
        if (w.kind == MIG_WAIT_DONE) break;
        idle = more || w.kind == MIG_WAIT_MORE ? 0 : idle + 1;
    }
    check(g.running == (mig_rx_state(rx) == MIG_RX_RUNNING));
    mig_rx_link_lost(rx, HV_E_CLOSED, "end", now);
    if (!g.running) check(!g.exists);
    mig_rx_destroy(rx);
    fake_guest_fini(&g);
    check(fake_mem_bytes == 0);
}

static void fuzz_tx(const uint8_t *p, size_t len, uint64_t rng)
{
    struct fake_guest g;
    struct mig_tx *tx;
    struct mig_tx_params params = { .ops = &fake_src_ops, .ctx = &g, .mem = fake_mem, .id = ID, .key = "k", .name = "g" };

    mig_opts_default(&params.opts);
    fake_guest_init(&g, FUZZ_PAGES, 1);
    check(mig_tx_create(&params, &tx) == HV_OK);
    uint64_t now = 0;
    bool more = len > 0;
    for (int idle = 0; idle < 8; now += 1000) {
        if (more) more = feed(&mig_tx_io(tx)->in, &p, &len, &rng);
        struct mig_wait w = mig_tx_step(tx, now);
        mig_tx_io(tx)->out.head = mig_tx_io(tx)->out.tail = 0;
        if (w.kind == MIG_WAIT_DONE) break;
        idle = more || w.kind == MIG_WAIT_MORE ? 0 : idle + 1;
    }
    mig_tx_link_lost(tx, HV_E_CLOSED, "end", now);
    if (mig_tx_state(tx) == MIG_TX_FAILED) check(g.running && !g.logging && !g.throttle);
    else check(!g.running);
    mig_tx_destroy(tx);
    fake_guest_fini(&g);
    check(fake_mem_bytes == 0);
}

/* One who asks, and answers of any kind. */
static void fuzz_ask(const uint8_t *p, size_t len, uint64_t rng)
{
    static struct mig_answer answer;
    struct mig_ask *ask;
    check(mig_ask_create(&fake_mem, 0, &ask) == HV_OK);
    uint64_t now = 0;
    bool more = len > 0;
    for (int idle = 0; idle < 4; now += 1000) {
        if (more) more = feed(&mig_ask_io(ask)->in, &p, &len, &rng);
        (void)!(rng & 64 ? mig_ask_find(ask, "g", &ID, now) : mig_ask_probe(ask, "g", 10, "fake offer", 10, now));
        enum hv_err e = mig_ask_step(ask, now, &answer);
        mig_ask_io(ask)->out.head = mig_ask_io(ask)->out.tail = 0;
        if (e == HV_OK || (e != HV_E_AGAIN && e != HV_E_CLOSED)) check(memchr(answer.text, 0, sizeof answer.text) != NULL);
        if (e && e != HV_E_AGAIN) break;
        idle = more ? 0 : idle + 1;
    }
    mig_ask_destroy(ask);
    check(fake_mem_bytes == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1) return 0;
    if (data[0] == 0xfe) fuzz_ask(data + 1, len - 1, len * 97 | 1);
    else if (data[0] & 1) fuzz_tx(data + 1, len - 1, data[0] | 1);
    else fuzz_rx(data + 1, len - 1, data[0] | 1);
    return 0;
}
