/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fuzz/fuzz_mig_stream.c - any bytes, split anywhere, into the whole receiver; and as answers to a source in the
 * middle of a migration.
 *
 * Input: byte 0 is 254 for an asker; otherwise bit 0 selects the end of the migration, and bit 1 delivers one record at
 * a time to a source that waits for one.  The whole byte seeds the split.  The seed corpus
 * (tests/fuzz/corpus/mig_stream) holds streams of real migrations, recorded here: `make fuzz-corpus` records them again
 * after a change of the format.  The source's job has a fixed id and key, so that a recorded answer fits it. */
/* fuzz-sources: migrate/ask.c migrate/mig.c migrate/tx.c migrate/tx_pages.c migrate/tx_disks.c
 *   migrate/rx.c migrate/wire.c migrate/hash.c
 *   migrate/batch.c migrate/policy.c kernel/lib/err.c tests/fakes/fake_guest.c tests/fakes/log_quiet.c */
/* fuzz-deps: lz4 */
#include <stdio.h>
#include <stdlib.h>
#include "migrate/ask.h"
#include "migrate/wire.h"
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

/* Give it the next record, or preamble, as far as the input has one; false: none left. */
static bool feed_record(struct mig_fifo *in, const uint8_t **p, size_t *len, bool preamble)
{
    uint64_t rng = 1, rest = 0;
    size_t n = MIN(*len, (size_t)MIG_REC_HDR_LEN);
    if (n == MIG_REC_HDR_LEN && !preamble)
        memcpy(&rest, *p + 8, 8);
    for (size_t all = n + (size_t)MIN(rest, *len - n); all;) {
        size_t before = *len, part = MIN(all, 1u << 20);
        size_t some = part;
        feed(in, p, &some, &rng);
        *len -= part - some;
        all -= part - some;
        if (before == *len)
            return false; /* the queue is full */
    }
    return *len > 0;
}

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void fuzz_rx(const uint8_t *p, size_t len, uint64_t rng)
{
    static struct mig_ids ids;
    struct fake_guest g;
    struct mig_rx *rx;
    struct mig_rx_params params = { .ops = &fake_dst_ops, .ctx = &g, .mem = fake_mem, .ids = &ids };

    memset(&ids, 0, sizeof(ids));
    fake_dest_init(&g);
    g.page_limit = 5000;
    check(mig_rx_create(&params, &rx) == HV_OK);
    uint64_t now = 0;
    bool more = len > 0;
    for (int idle = 0; idle < 8; now += 1000) {
        if (more)
            more = feed(&mig_rx_io(rx)->in, &p, &len, &rng);
        struct mig_wait w = mig_rx_step(rx, now);
        mig_rx_io(rx)->out.head = mig_rx_io(rx)->out.tail = 0;
        if (w.kind == MIG_WAIT_DONE)
            break;
        idle = more || w.kind == MIG_WAIT_MORE ? 0 : idle + 1;
    }
    check(g.running == (mig_rx_state(rx) == MIG_RX_RUNNING));
    mig_rx_link_lost(rx, HV_E_CLOSED, "end", now);
    if (!g.running)
        check(!g.exists);
    mig_rx_destroy(rx);
    fake_guest_fini(&g);
    check(fake_mem_bytes == 0);
}

/* A source in doubt gets a new stream; what it has not read yet comes on that one. */
static enum mig_tx_state fuzz_tx(const uint8_t *p, size_t len, uint64_t rng)
{
    bool polite = rng & 2, heard = false;
    enum mig_wait_kind waits = MIG_WAIT_INPUT;
    struct fake_guest g;
    struct mig_tx *tx;
    struct mig_tx_params params = {
        .ops = &fake_src_ops, .ctx = &g, .mem = fake_mem, .id = ID, .key = "k", .name = "g"
    };

    mig_opts_default(&params.opts);
    fake_guest_init(&g, FUZZ_PAGES, 1);
    g.console_end = 2000; /* as in record() */
    check(mig_tx_create(&params, &tx) == HV_OK);
    uint64_t now = 0;
    bool more = len > 0;
    unsigned links = 0;
    for (int idle = 0; idle < 8; now += 1000) {
        if (more && !polite)
            more = feed(&mig_tx_io(tx)->in, &p, &len, &rng);
        if (more && polite && waits == MIG_WAIT_INPUT)
            more = feed_record(&mig_tx_io(tx)->in, &p, &len, !heard), heard = true;
        struct mig_wait w = mig_tx_step(tx, now);
        waits = w.kind;
        mig_tx_io(tx)->out.head = mig_tx_io(tx)->out.tail = 0;
        if (w.kind == MIG_WAIT_LINK && links++ < 4) {
            size_t left = mig_fifo_len(&mig_tx_io(tx)->in);
            p -= left;
            len += left;
            more = len > 0;
            heard = false;
            waits = MIG_WAIT_INPUT;
            mig_tx_reconnected(tx, now);
            continue;
        }
        if (w.kind == MIG_WAIT_DONE || w.kind == MIG_WAIT_LINK)
            break;
        idle = more || w.kind == MIG_WAIT_MORE ? 0 : idle + 1;
    }
    mig_tx_link_lost(tx, HV_E_CLOSED, "end", now);
    enum mig_tx_state end = mig_tx_state(tx);
    if (end == MIG_TX_FAILED)
        check(g.running && !g.released && !g.logging && !g.throttle);
    else
        check(!g.running);
    mig_tx_destroy(tx);
    fake_guest_fini(&g);
    check(fake_mem_bytes == 0);
    return end;
}

/* ---- recording: MIG_RECORD=folder ---- */

struct recorded {
    uint8_t bytes[1 << 18];
    size_t len;
};

static void carry(struct mig_fifo *from, struct mig_fifo *to, struct recorded *r)
{
    size_t n, room;
    const uint8_t *src = mig_fifo_data(from, &n);
    uint8_t *dst = mig_fifo_space(to, n, &room);
    n = MIN(n, room);
    check(r->len + n <= sizeof(r->bytes));
    memcpy(dst, src, n);
    memcpy(r->bytes + r->len, src, n);
    r->len += n;
    mig_fifo_commit(to, n);
    mig_fifo_consume(from, n);
}

static void save(const char *folder, const char *name, const struct recorded *r, uint8_t first)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    check(f && fwrite(&first, 1, 1, f) == 1 && fwrite(r->bytes, 1, r->len, f) == r->len && fclose(f) == 0);
    printf("%s: %zu bytes\n", path, r->len + 1);
}

static void begin_answers(struct recorded *r)
{
    struct mig_fifo f = { .buf = r->bytes + r->len, .cap = sizeof(r->bytes) - r->len };
    mig_id_put(&f, MIG_REC_ACCEPT, &ID); /* out of order: the source gives up this stream */
    mig_preamble_put(&f);
    r->len += f.tail;
}

/* A whole move; the guest writes if writer is not W_NONE.  What the source said and what it heard go to
 * NAME and NAME_answers. */
static void record(const char *folder, const char *name, bool lz4, bool verify, unsigned refuse,
                   enum fake_writer writer, unsigned disks, const char *answers)
{
    static struct recorded to_b, to_a;
    static struct mig_ids ids;
    struct fake_guest a, b;
    struct mig_tx *tx;
    struct mig_rx *rx;
    struct mig_tx_params tp = { .ops = &fake_src_ops, .ctx = &a, .mem = fake_mem, .id = ID, .key = "k", .name = "g" };
    struct mig_rx_params rp = { .ops = &fake_dst_ops, .ctx = &b, .mem = fake_mem, .ids = &ids };

    memset(&ids, 0, sizeof(ids));
    to_a.len = to_b.len = 0;
    mig_opts_default(&tp.opts);
    tp.opts.lz4 = lz4;
    tp.opts.verify = verify;
    fake_guest_init(&a, FUZZ_PAGES, 1);
    a.writer = writer;
    fake_guest_disks(&a, disks, disks ? FAKE_GRAIN / 8 : 0);
    a.frames = 3;
    a.console_end = 2000;
    a.talks = writer != W_NONE;
    fake_dest_init(&b);
    b.refuse = refuse;
    check(mig_tx_create(&tp, &tx) == HV_OK && mig_rx_create(&rp, &rx) == HV_OK);
    for (uint64_t now = 0; now < 3000000; now += 1000) {
        mig_tx_step(tx, now);
        carry(&mig_tx_io(tx)->out, &mig_rx_io(rx)->in, &to_b);
        mig_rx_step(rx, now);
        carry(&mig_rx_io(rx)->out, &mig_tx_io(tx)->in, &to_a);
        fake_guest_run(&a, 3);
    }
    check(b.running == !refuse);
    save(folder, name, &to_b, 2);
    mig_tx_destroy(tx);
    mig_rx_destroy(rx);
    fake_guest_fini(&a);
    fake_guest_fini(&b);
    if (answers) {
        save(folder, answers, &to_a, 3);
        /* they lead as far as they did */
        check(fuzz_tx(to_a.bytes, to_a.len, 3) == (refuse ? MIG_TX_FAILED : MIG_TX_RELEASED));
    }
    if (answers && !refuse) { /* the same, but RUNNING does not come: asked again, unknown, then running */
        to_a.len -= MIG_REC_HDR_LEN + 24;
        for (int v = MIG_V_UNKNOWN; v <= MIG_V_RUNNING; v++) {
            begin_answers(&to_a);
            struct mig_fifo f = { .buf = to_a.bytes + to_a.len, .cap = sizeof(to_a.bytes) - to_a.len };
            mig_text_put(&f, MIG_REC_ANSWER, &(struct mig_p_text){ ID, v, "", 0 });
            to_a.len += f.tail;
        }
        save(folder, "answers_in_doubt", &to_a, 3);
        check(fuzz_tx(to_a.bytes, to_a.len, 3) == MIG_TX_RELEASED);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *folder = getenv("MIG_RECORD");
    (void)argc, (void)argv;
    if (!folder)
        return 0;
    record(folder, "move", true, false, 0, W_NONE, 0, "answers");
    record(folder, "move_rounds", true, false, 0, W_MIXED, 0, NULL);
    record(folder, "move_raw", false, false, 0, W_PAGE, 0, NULL);
    record(folder, "move_verify", true, true, 0, W_BYTE, 0, NULL);
    record(folder, "refused", true, false, 3, W_NONE, 0, "answers_refused");
    record(folder, "move_disks", true, false, 0, W_BYTE, 2, NULL);
    exit(0);
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
        if (more)
            more = feed(&mig_ask_io(ask)->in, &p, &len, &rng);
        (void)!(rng & 64 ? mig_ask_find(ask, "g", &ID, now) : mig_ask_probe(ask, "g", 10, "fake offer", 10, now));
        enum hv_err e = mig_ask_step(ask, now, &answer);
        mig_ask_io(ask)->out.head = mig_ask_io(ask)->out.tail = 0;
        if (e == HV_OK || (e != HV_E_AGAIN && e != HV_E_CLOSED))
            check(memchr(answer.text, 0, sizeof(answer.text)) != NULL);
        if (e && e != HV_E_AGAIN)
            break;
        idle = more ? 0 : idle + 1;
    }
    mig_ask_destroy(ask);
    check(fake_mem_bytes == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    if (data[0] == 0xfe)
        fuzz_ask(data + 1, len - 1, len * 97 | 1);
    else if (data[0] & 1)
        fuzz_tx(data + 1, len - 1, data[0] | 1);
    else
        fuzz_rx(data + 1, len - 1, data[0] | 1);
    return 0;
}
