/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/fake_guest.c - see fake_guest.h. */
#include "tests/fakes/fake_guest.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int64_t fake_mem_bytes, fake_mem_limit, fake_mem_rounded, fake_mem_peak;

/* What kernel/host/page.c takes for len bytes: a power of two of pages. */
static int64_t rounded(size_t len)
{
    int64_t n = PAGE_SIZE;
    while (n < (int64_t)len)
        n *= 2;
    return n;
}

static void *mem_alloc(size_t len)
{
    if (len > (1u << 30) || (fake_mem_limit && fake_mem_bytes + (int64_t)len > fake_mem_limit))
        return NULL;
    void *p = calloc(1, len);
    if (p) {
        fake_mem_bytes += (int64_t)len;
        fake_mem_rounded += rounded(len);
        fake_mem_peak = MAX(fake_mem_peak, fake_mem_rounded);
    }
    return p;
}
static void mem_free(void *p, size_t len)
{
    fake_mem_bytes -= p ? (int64_t)len : 0;
    fake_mem_rounded -= p ? rounded(len) : 0;
    free(p);
}
const struct mig_mem fake_mem = { mem_alloc, mem_free };

uint64_t fake_rand(uint64_t *rng)
{
    *rng ^= *rng << 13;
    *rng ^= *rng >> 7;
    *rng ^= *rng << 17;
    return *rng * 0x2545f4914f6cdd1dul;
}

static void fill(struct fake_guest *g, uint8_t *p, unsigned kind)
{
    static const char text[] = "the bar-tailed godwit flies eleven days without a stop over the Pacific; ";
    switch (kind) {
    case 0: memset(p, 0, 4096); break;
    case 1:
        for (unsigned i = 0; i < 4096; i++)
            p[i] = (uint8_t)text[(i + kind) % (sizeof(text) - 1)];
        p[77] = (uint8_t)fake_rand(&g->rng);
        break;
    case 2:
        for (unsigned i = 0; i < 4096; i += 8) {
            uint64_t x = fake_rand(&g->rng);
            memcpy(p + i, &x, 8);
        }
        break;
    default:
        memset(p, 0, 4096);
        p[fake_rand(&g->rng) % 4096] = 0x5a;
        break;
    }
}

static uint8_t *backed(struct fake_guest *g, uint64_t gfn)
{
    if (!g->page[gfn]) {
        g->page[gfn] = aligned_alloc(64, 4096);
        memset(g->page[gfn], 0, 4096);
        g->present++;
    }
    return g->page[gfn];
}

static void make(struct fake_guest *g, uint64_t n_pages)
{
    g->n_pages = n_pages;
    g->page = calloc(n_pages, sizeof(*g->page));
    g->dirty = calloc(n_pages / 64 + 1, 8);
    g->exists = true;
}

void fake_guest_state(struct fake_guest *g, size_t len)
{
    free(g->state);
    g->state = malloc(len);
    g->state_len = len;
    for (size_t i = 0; i < len; i++)
        g->state[i] = (uint8_t)fake_rand(&g->rng);
}

/* ---- disks ---- */

static uint64_t disk_grain_len(const struct fake_disks *d, unsigned grain)
{
    return MIN((uint64_t)FAKE_GRAIN, d->bytes - (uint64_t)grain * FAKE_GRAIN);
}

static unsigned disk_grains(const struct fake_disks *d) { return (unsigned)DIV_ROUND_UP(d->bytes, FAKE_GRAIN); }

static void disks_make(struct fake_disks *d, unsigned n, uint64_t bytes)
{
    d->n = n;
    d->bytes = bytes;
    for (unsigned i = 0; i < n; i++)
        d->data[i] = calloc(1, bytes);
}

/* A move begins: the destination has nothing. */
static void disks_begin(struct fake_disks *d)
{
    memset(d->busy, 0, sizeof(d->busy));
    d->pending = d->flushes = 0;
    d->in_sync = d->held = false;
    for (unsigned i = 0; i < d->n; i++)
        for (unsigned k = 0; k < disk_grains(d); k++)
            d->todo[i][k] = true;
}

void fake_guest_disks(struct fake_guest *g, unsigned n, uint64_t bytes)
{
    struct fake_disks *d = &g->disks;
    disks_make(d, n, bytes);
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < disk_grains(d); k++) {
            uint8_t *p = d->data[i] + (uint64_t)k * FAKE_GRAIN;
            unsigned kind = (unsigned)(fake_rand(&g->rng) % 4);
            for (uint64_t at = 0; at + 4096 <= disk_grain_len(d, k); at += 4096)
                fill(g, p + at, kind);
        }
}

#define IN_SYNC_LEFT 8 /* grains that the guest writes all the time */
static unsigned disks_left(const struct fake_disks *d)
{
    unsigned n = d->pending;
    for (unsigned i = 0; i < d->n; i++)
        for (unsigned k = 0; k < disk_grains(d); k++)
            n += d->todo[i][k];
    return n;
}

/* The guest writes a sector, unless it waits for earlier writes. */
static void disk_write(struct fake_guest *g)
{
    struct fake_disks *d = &g->disks;
    uint64_t r = fake_rand(&g->rng), at = (r >> 8) % (d->bytes / 512) * 512;
    unsigned disk = (unsigned)(r % d->n);
    if (d->held || (d->writes && disks_left(d) > IN_SYNC_LEFT / 2))
        return;
    memset(d->data[disk] + at, (int)(r >> 40) % 3 * 50, 512);
    d->todo[disk][at / FAKE_GRAIN] = true;
    d->writes++;
}

static void disks_fini(struct fake_disks *d)
{
    for (unsigned i = 0; i < d->n; i++)
        free(d->data[i]);
    d->n = 0;
}

void fake_guest_init(struct fake_guest *g, uint64_t n_pages, uint64_t seed)
{
    memset(g, 0, sizeof(*g));
    make(g, n_pages);
    g->rng = seed * 2 + 1;
    fake_guest_state(g, 3000);
    for (uint64_t i = 0; i < n_pages; i++)
        if (fake_rand(&g->rng) % 2)
            fill(g, backed(g, i), (unsigned)(fake_rand(&g->rng) % 4));
    g->running = true;
}

void fake_dest_init(struct fake_guest *g) { memset(g, 0, sizeof(*g)); }

void fake_guest_fini(struct fake_guest *g)
{
    for (uint64_t i = 0; g->page && i < g->n_pages; i++)
        if (!(g->alias && i == 3))
            free(g->page[i]);
    free(g->page);
    free(g->dirty);
    free(g->state);
    disks_fini(&g->disks);
    g->state = NULL;
    g->page = NULL;
    g->dirty = NULL;
}

static void mark(struct fake_guest *g, uint64_t gfn)
{
    if (!g->logging)
        return;
    g->writes++;
    if (g->writes == g->forget_after)
        return;
    g->dirty[gfn / 64] |= 1ul << (gfn % 64);
}

void fake_guest_write(struct fake_guest *g, uint64_t gfn, size_t off, const void *src, size_t len)
{
    memcpy(backed(g, gfn) + off, src, len);
    mark(g, gfn);
}

void fake_guest_run(struct fake_guest *g, unsigned n)
{
    if (!g->running)
        return;
    g->console_end += g->talks ? 7 * n : 0;
    if (g->disks.n && g->writer != W_NONE && n)
        disk_write(g);
    n = n * (100 - g->throttle) / 100;
    while (n--) {
        uint8_t buf[4096];
        uint64_t r = fake_rand(&g->rng), gfn = (r >> 20) % g->n_pages;
        enum fake_writer w = g->writer == W_MIXED ? (enum fake_writer)(W_BYTE + r % 5) : g->writer;
        switch (w) {
        case W_NONE:
        case W_MIXED: return;
        case W_BYTE:
            buf[0] = (uint8_t)(r >> 50);
            fake_guest_write(g, gfn, r % 4096, buf, 1);
            break;
        case W_HOT:
            buf[0] = (uint8_t)(r >> 50);
            fake_guest_write(g, gfn % 16, r % 4096, buf, 1);
            break;
        case W_PAGE:
            fill(g, buf, 1 + r % 2);
            fake_guest_write(g, gfn, 0, buf, 4096);
            break;
        case W_ZERO:
            fill(g, buf, 0);
            fake_guest_write(g, gfn, 0, buf, 4096);
            break;
        case W_REWRITE:
            memcpy(buf, backed(g, gfn), 4096);
            fake_guest_write(g, gfn, 0, buf, 4096);
            break;
        }
    }
}

bool fake_guest_equal(const struct fake_guest *a, const struct fake_guest *b, uint64_t *gfn)
{
    static const uint8_t zero[4096];
    if (a->n_pages != b->n_pages || a->state_len != b->state_len || memcmp(a->state, b->state, a->state_len)) {
        *gfn = UINT64_MAX;
        return false;
    }
    for (*gfn = 0; *gfn < a->n_pages; ++*gfn)
        if (memcmp(a->page[*gfn] ? a->page[*gfn] : zero, b->page[*gfn] ? b->page[*gfn] : zero, 4096))
            return false;
    *gfn = UINT64_MAX - 1;
    for (unsigned i = 0; i < a->disks.n; i++)
        if (memcmp(a->disks.data[i], b->disks.data[i], a->disks.bytes))
            return false;
    return a->disks.n == b->disks.n;
}

/* ---- source ---- */

static uint64_t src_n_pages(void *c) { return ((struct fake_guest *)c)->n_pages; }
static const void *src_page(void *c, uint64_t gfn) { return ((struct fake_guest *)c)->page[gfn]; }
static enum hv_err src_log_start(void *c)
{
    struct fake_guest *g = c;
    if (g->fail_log)
        return HV_E_NOMEM;
    g->log_starts++;
    g->logging = true;
    memset(g->dirty, 0, (g->n_pages / 64 + 1) * 8);
    return HV_OK;
}
static void src_harvest(void *c, uint64_t *bitmap)
{
    struct fake_guest *g = c;
    for (uint64_t i = 0; i < (g->n_pages + 63) / 64; i++) {
        bitmap[i] |= g->dirty[i];
        g->dirty[i] = 0;
    }
}
static void src_log_stop(void *c)
{
    struct fake_guest *g = c;
    g->logging = false;
    g->log_stops++;
}
static bool src_quiesce(void *c)
{
    struct fake_guest *g = c;
    if (g->quiesce_polls)
        return !g->quiesce_polls--;
    struct fake_disks *d = &g->disks;
    if (d->n && !d->held) {
        d->held = true;
        d->flushes = d->n;
        d->n_flushed = 0;
    }
    if (d->n && (disks_left(d) || d->n_flushed < d->n))
        return false;
    g->quiesced = true;
    return true;
}

static bool src_pause(void *c)
{
    struct fake_guest *g = c;
    if (!g->quiesced)
        abort();
    if (g->pause_polls) {
        g->pause_polls--;
        return false;
    }
    g->running = false;
    return true;
}
static void src_resume(void *c)
{
    struct fake_guest *g = c;
    g->running = true;
    g->quiesced = g->disks.held = false;
    g->resumes++;
}
static size_t src_state_max(void *c)
{
    const struct fake_guest *g = c;
    return g->state_max ? g->state_max : g->state_len;
}
static enum hv_err src_save(void *c, void *buf, size_t cap, size_t *len, struct why *why)
{
    (void)why;
    struct fake_guest *g = c;
    if (g->fail_save || cap < g->state_len)
        return HV_E_IO;
    memcpy(buf, g->state, g->state_len);
    *len = g->state_len;
    if (g->clock)
        g->saved_at = *g->clock;
    return HV_OK;
}
static enum hv_err src_describe(void *c, const void *knows, size_t knows_len, void *buf, size_t cap, size_t *len,
                                struct why *why)
{
    if (knows_len && (knows_len != 10 || memcmp(knows, "fake knows", 10)))
        return REFUSE(HV_E_VERSION, "the destination is too old");
    if (((struct fake_guest *)c)->fail_describe)
        return HV_E_RANGE;
    struct fake_disks *d = &((struct fake_guest *)c)->disks;
    disks_begin(d);
    *len = (size_t)snprintf(buf, cap, d->n ? "fake offer %u %lu" : "fake offer", d->n, d->bytes);
    return HV_OK;
}
static void src_throttle(void *c, unsigned percent) { ((struct fake_guest *)c)->throttle = percent; }
/* Each of its own length and contents. */
static size_t src_frame_take(void *c, void *buf, size_t cap)
{
    struct fake_guest *g = c;
    if (g->running)
        abort();
    if (!g->frames)
        return 0;
    size_t len = MIN((size_t)MIG_FRAME_MIN + 500 * (g->frames - 1), cap);
    memset(buf, (int)g->frames--, len);
    return len;
}
static size_t src_console_take(void *c, uint64_t *at, void *buf, size_t cap)
{
    struct fake_guest *g = c;
    size_t n = MIN(cap, g->console_end - g->console_at);
    *at = g->console_at;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)buf)[i] = (uint8_t)(g->console_at++ * 37 >> 3);
    return n;
}
static void src_release(void *c) { ((struct fake_guest *)c)->released = true; }
static void src_peer_has(void *c, uint64_t parts) { ((struct fake_guest *)c)->parts = parts; }

static unsigned src_n_disks(void *c) { return ((struct fake_guest *)c)->disks.n; }
static bool src_disks_ready(void *c, struct mig_disk_progress *p)
{
    struct fake_disks *d = &((struct fake_guest *)c)->disks;
    if (d->in_sync && d->behind)
        return !d->behind--;
    d->in_sync |= disks_left(d) <= IN_SYNC_LEFT;
    *p = (struct mig_disk_progress){ d->n * d->bytes, d->in_sync ? d->n * d->bytes : 0 };
    return d->in_sync;
}

static bool disk_is_zero(const uint8_t *p, uint64_t len) { return !p[0] && !memcmp(p, p + 1, len - 1); }

/* The tag is the grain; of a flush FAKE_GRAINS. */
static bool src_disk_next(void *c, struct mig_disk_req *r, void *data)
{
    struct fake_guest *g = c;
    struct fake_disks *d = &g->disks;
    if (g->quiesced || g->released)
        abort();
    if (d->stuck)
        return !d->stuck--;
    for (unsigned i = 0; i < d->n; i++)
        for (unsigned k = 0; k < disk_grains(d); k++) {
            if (!d->todo[i][k] || d->busy[i][k])
                continue;
            const uint8_t *p = d->data[i] + (uint64_t)k * FAKE_GRAIN;
            uint32_t len = (uint32_t)disk_grain_len(d, k);
            bool zero = disk_is_zero(p, len);
            *r = (struct mig_disk_req){ i, zero ? MIG_DISK_ZEROES : MIG_DISK_WRITE, (uint64_t)k * FAKE_GRAIN, len, k };
            memcpy(data, p, zero ? 0 : len);
            d->todo[i][k] = false;
            d->busy[i][k] = true;
            d->pending++;
            return true;
        }
    if (!d->flushes || disks_left(d))
        return false;
    *r = (struct mig_disk_req){ --d->flushes, MIG_DISK_FLUSH, 0, 0, FAKE_GRAINS };
    return true;
}
static void src_disk_done(void *c, unsigned disk, uint64_t tag)
{
    struct fake_disks *d = &((struct fake_guest *)c)->disks;
    if (disk >= d->n || (tag != FAKE_GRAINS && !d->busy[disk][tag]))
        abort();
    if (tag == FAKE_GRAINS) {
        d->n_flushed++;
        return;
    }
    d->busy[disk][tag] = false;
    d->pending--;
}

const struct mig_src_ops fake_src_ops = {
    src_n_pages, src_page,      src_log_start, src_harvest,     src_log_stop,  src_quiesce,    src_pause,
    src_resume,  src_state_max, src_save,      src_describe,    src_throttle,  src_frame_take, src_console_take,
    src_release, src_peer_has,  src_n_disks,   src_disks_ready, src_disk_next, src_disk_done
};

/* ---- destination ---- */

static size_t dst_knows(void *c, void *buf, size_t cap)
{
    (void)c;
    return (size_t)snprintf(buf, cap, "fake knows");
}

/* Does the guest that is offered bring disks?  False: the offer is not understood. */
static bool offer_read(const struct mig_offer *o, unsigned *n_disks, uint64_t *bytes)
{
    char text[64];
    *n_disks = 0;
    snprintf(text, sizeof(text), "%.*s", (int)MIN(o->len, sizeof(text) - 1), (const char *)o->bytes);
    if (!strcmp(text, "fake offer"))
        return o->len == 10;
    return sscanf(text, "fake offer %u %lu", n_disks, bytes) == 2 && *n_disks && *n_disks <= 4 && *bytes >= 512 &&
           *bytes <= (uint64_t)FAKE_GRAINS * FAKE_GRAIN && *bytes % 512 == 0;
}

static bool dst_admit(void *c, const struct mig_offer *o, struct mig_reasons *r, struct mig_reasons *notes)
{
    struct fake_guest *g = c;
    if (g->admit_later)
        return !g->admit_later--;
    unsigned n_disks;
    uint64_t disk_bytes;
    if (!offer_read(o, &n_disks, &disk_bytes))
        mig_reason_add(r, "the offer is not understood");
    if (o->n_pages > 1 << 20)
        mig_reason_add(r, "too large: %lu pages", o->n_pages);
    for (unsigned i = 0; i < g->refuse; i++)
        mig_reason_add(r, "reason %u", i + 1);
    if (!r->n) {
        make(g, o->n_pages);
        disks_make(&g->disks, n_disks, n_disks ? disk_bytes : 0);
    }
    for (unsigned i = 0; i < g->n_notes; i++)
        mig_reason_add(notes, "tsc: note %u\a", i + 1);
    return true;
}
static void *dst_page(void *c, uint64_t gfn)
{
    struct fake_guest *g = c;
    if (g->alias && gfn == 3)
        g->page[3] = backed(g, 2);
    if (!g->page[gfn] && g->page_limit && g->present >= g->page_limit)
        return NULL;
    return backed(g, gfn);
}
static bool dst_present(void *c, uint64_t gfn) { return ((struct fake_guest *)c)->page[gfn] != NULL; }
static enum hv_err dst_load(void *c, const void *buf, size_t len, uint64_t age_us, struct why *why)
{
    struct fake_guest *g = c;
    if (g->fail_load)
        return REFUSE(HV_E_RANGE, "register 7 is out of range");
    free(g->state);
    g->state = malloc(len);
    memcpy(g->state, buf, len);
    g->state_len = len;
    g->age_us = age_us;
    if (g->clock)
        g->loaded_at = *g->clock;
    return HV_OK;
}
static enum hv_err dst_ready(void *c, struct why *why)
{
    struct fake_guest *g = c;
    (void)why;
    return g->fail_ready ? HV_E_NOMEM : HV_OK;
}
static bool dst_record(void *c)
{
    struct fake_guest *g = c;
    g->recorded = !g->record_polls;
    g->record_polls -= !g->recorded;
    return g->recorded;
}
static void dst_run(void *c)
{
    struct fake_guest *g = c;
    if (!g->recorded || g->disks.unflushed)
        abort();
    g->running = true;
}
static void dst_frame(void *c, const uint8_t *frame, size_t len)
{
    struct fake_guest *g = c;
    if (!g->running || len < MIG_FRAME_MIN || len > MIG_FRAME_MAX)
        abort();
    if (len == MIN(MIG_FRAME_MIN + 500 * (size_t)(frame[0] - 1), (size_t)MIG_FRAME_MAX) && frame[len - 1] == frame[0])
        g->frames++;
}
static void dst_drop(void *c)
{
    struct fake_guest *g = c;
    if (g->recorded)
        abort();
    g->drops++;
    fake_guest_fini(g);
    g->exists = false;
    g->present = 0;
}

static void dst_console(void *c, uint64_t at, const uint8_t *p, size_t len)
{
    struct fake_guest *g = c;
    if (!g->exists || g->running || len > MIG_CONSOLE_MAX || at > MIG_CONSOLE_COUNT - len)
        abort();
    if (at != g->console_end)
        g->console_at = g->console_end = at;
    for (size_t i = 0; i < len; i++)
        g->console_wrong |= p[i] != (uint8_t)(g->console_end++ * 37 >> 3);
}

static enum mig_find dst_find(void *c, const char *name, const uint8_t *mac, struct mig_id *ticket, struct why *why)
{
    struct fake_guest *g = c;
    ticket->b[0] = g->found == MIG_F_WANTED ? 77 : 0;
    why_say(why, "%s\x1b", name);
    if (mac && mac[5] == 9)
        return MIG_F_MAC;
    return g->found;
}
static bool dst_probe(void *c, const struct mig_offer *o, struct mig_reasons *r, uint64_t *free_bytes)
{
    struct fake_guest *g = c;
    if (g->admit_later)
        return !g->admit_later--;
    unsigned n_disks;
    uint64_t disk_bytes;
    if (!offer_read(o, &n_disks, &disk_bytes))
        mig_reason_add(r, "the offer is not understood");
    for (unsigned i = 0; i < g->refuse; i++)
        mig_reason_add(r, "reason %u of the test", i);
    *free_bytes = 123456789;
    return true;
}

static unsigned dst_n_disks(void *c) { return ((struct fake_guest *)c)->disks.n; }
static enum hv_err dst_disk_begin(void *c, unsigned slot, const struct mig_disk_req *r, const void *data,
                                  struct why *why)
{
    struct fake_guest *g = c;
    struct fake_disks *d = &g->disks;
    if (slot >= MIG_DISK_WINDOW || d->slot[slot].used || r->disk >= d->n || g->running)
        abort();
    if (r->offset > d->bytes || r->len > d->bytes - r->offset)
        return HV_E_PROTO;
    if (d->fail_after && ++d->n_requests == d->fail_after && d->n_requests % 2)
        return REFUSE(HV_E_IO, "no spare sectors");
    d->slot[slot].r = *r;
    d->slot[slot].data = data;
    d->slot[slot].polls = d->slow ? (unsigned)(fake_rand(&g->rng) % d->slow) : 0;
    d->slot[slot].used = true;
    return HV_OK;
}
/* In any order. */
static enum hv_err dst_disk_end(void *c, unsigned slot, struct why *why)
{
    struct fake_disks *d = &((struct fake_guest *)c)->disks;
    const struct mig_disk_req *r = &d->slot[slot].r;
    if (!d->slot[slot].used)
        abort();
    if (d->slot[slot].polls) {
        d->slot[slot].polls--;
        return HV_E_AGAIN;
    }
    if (d->fail_after && d->n_requests >= d->fail_after)
        return REFUSE(HV_E_IO, "the disk does not answer");
    d->slot[slot].used = false;
    if (r->op == MIG_DISK_WRITE && !d->leaks)
        memcpy(d->data[r->disk] + r->offset, d->slot[slot].data, r->len);
    if (r->op == MIG_DISK_ZEROES)
        memset(d->data[r->disk] + r->offset, 0, r->len);
    d->unflushed = r->op != MIG_DISK_FLUSH;
    return HV_OK;
}
static uint64_t dst_has(void *c) { return ((struct fake_guest *)c)->parts; }

const struct mig_dst_ops fake_dst_ops = { dst_knows, dst_admit,  dst_page,    dst_present,    dst_console, dst_load,
                                          dst_ready, dst_record, dst_run,     dst_frame,      dst_drop,    dst_find,
                                          dst_probe, dst_has,    dst_n_disks, dst_disk_begin, dst_disk_end };
