/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/boot_travel.c - boot files that travel with a guest.
 *
 * A move numbers their pages behind the guest's frames: file after file, each in whole pages.  So they are compressed,
 * rate-limited and checked as memory is, once, since they never change.  The guest itself cannot reach them.
 *
 * The destination keeps them in a window, whose memory is allocated before the guest is admitted.  What it has as well
 * is not sent: it tells the source (HAS).  The SHA-256 is checked after the guest runs, a piece a turn, so that it
 * costs no downtime.  Until then the guest is not started from them. */
#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/vm/boot_files.h"

#define BLOCKS_EACH_TURN 4u /* zeroed for an arrival */

struct boot_own {
    void *window;                                     /* owned; NULL: all files are of the boot disk */
    unsigned n_blocks, n_needed;                      /* blocks of the window; how many it will have */
    struct boot_blob blob[2 + CONFIG_MAX_MODULES];    /* [i]: the set's file i, unless that is of the boot disk */
    uint8_t want[2 + CONFIG_MAX_MODULES][SHA256_LEN]; /* [i]: of that file, as offered */
    unsigned n_recalled;                              /* files that are looked for: blob[].len and want[]; 0: none */
    bool kept;                                        /* the store was asked to keep them */
};

static uint64_t file_pages(uint64_t len) { return DIV_ROUND_UP(len, PAGE_SIZE); }

/* The number of the file that has page *i of set; *i becomes the page's number in it.  set->n: none. */
static unsigned file_of_page(const struct boot_set *set, uint64_t *i)
{
    unsigned k = 0;
    for (; k < set->n && *i >= file_pages(set->file[k]->len); k++)
        *i -= file_pages(set->file[k]->len);
    return k;
}

const void *boot_set_page(const struct boot_set *set, uint64_t have, uint64_t i)
{
    static uint8_t last[PAGE_SIZE] __attribute__((aligned(8)));
    unsigned k = file_of_page(set, &i);
    if (k == set->n || (have & BIT64(k)))
        return NULL;
    const struct boot_blob *b = set->file[k];
    uint64_t left = b->len - i * PAGE_SIZE;
    if (left >= PAGE_SIZE)
        return b->data + i * PAGE_SIZE;
    memset(last, 0, sizeof(last)); /* what lies behind the file is not part of it */
    return memcpy(last, b->data + i * PAGE_SIZE, left);
}

static bool file_is_own(const struct boot_set *set, unsigned k)
{
    return set->own && set->file[k] == &set->own->blob[k];
}

void *boot_set_page_for_write(const struct boot_set *set, uint64_t i)
{
    unsigned k = file_of_page(set, &i);
    if (k == set->n || !file_is_own(set, k))
        return NULL;
    return (uint8_t *)(uintptr_t)set->file[k]->data + i * PAGE_SIZE;
}

/* ---- arriving ---- */

uint64_t boot_offer_bytes(const struct vm_offer *o)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < o->n_files; i++)
        if (!boot_blob_find(o->file[i].len, o->file[i].sha256))
            n += file_pages(o->file[i].len);
    return ALIGN_UP(n * PAGE_SIZE, BLOCK_SIZE);
}

/* The memory is there: set has the files, which are empty yet. */
static void arrival_complete(struct boot_set *set, const struct vm_offer *o)
{
    const uint8_t *at = set->own->window;
    for (unsigned i = 0; i < o->n_files; i++) {
        struct boot_blob *b = boot_blob_find(o->file[i].len, o->file[i].sha256);
        if (!b) {
            b = &set->own->blob[i];
            *b = (struct boot_blob){ .data = at, .len = o->file[i].len };
            memcpy(set->own->want[i], o->file[i].sha256, SHA256_LEN);
            at += file_pages(b->len) * PAGE_SIZE;
        }
        boot_blob_use(b);
        set->file[i] = b;
    }
    set->n = o->n_files;
    set->n_pages = o->n_boot_pages;
    ASSERT((size_t)(at - (const uint8_t *)set->own->window) <= set->own->n_blocks * BLOCK_SIZE);
}

/* The files of o that are not here fit into one window. */
static enum hv_err arrival_begin(struct boot_set *set, const struct vm_offer *o)
{
    uint64_t bytes = boot_offer_bytes(o);
    if (bytes > WINDOW_MAX_BYTES)
        return HV_FAIL(HV_E_NOMEM);
    set->own = mem_alloc(sizeof(*set->own));
    if (!set->own)
        return HV_FAIL(HV_E_NOMEM);
    set->own->n_needed = (unsigned)(bytes / BLOCK_SIZE);
    set->own->window = bytes ? window_open() : NULL;
    return bytes && !set->own->window ? HV_FAIL(HV_E_NOMEM) : HV_OK;
}

enum hv_err boot_set_arrive_step(struct boot_set *set, const struct vm_offer *o)
{
    ASSERT(!set->n || set->own);
    if (!o->n_files || set->n)
        return HV_OK;
    enum hv_err e = set->own ? HV_OK : arrival_begin(set, o);
    struct boot_own *own = set->own;
    for (unsigned n = 0; !e && n < BLOCKS_EACH_TURN && own->n_blocks < own->n_needed; n++, own->n_blocks++)
        if (!window_add(own->window, own->n_blocks)) {
            e = HV_FAIL(HV_E_NOMEM);
            break;
        }
    if (e) {
        boot_set_drop(set);
        return e;
    }
    if (own->n_blocks < own->n_needed)
        return HV_E_AGAIN;
    arrival_complete(set, o);
    return HV_OK;
}

uint64_t boot_set_have(const struct boot_set *set)
{
    uint64_t have = 0;
    for (unsigned i = 0; i < set->n; i++)
        have |= file_is_own(set, i) ? 0 : BIT64(i);
    return have;
}

const uint8_t *boot_set_sha256(const struct boot_set *set, unsigned i)
{
    ASSERT(i < set->n);
    return file_is_own(set, i) ? set->own->want[i] : set->file[i]->sha256;
}

uint64_t boot_set_bytes(const struct boot_set *set) { return set->own ? set->own->n_blocks * BLOCK_SIZE : 0; }

bool boot_set_check_step(struct boot_set *set, bool *damaged)
{
    *damaged = false;
    for (unsigned i = 0; i < set->n; i++) {
        if (!file_is_own(set, i))
            continue;
        if (!set->file[i]->hashed) {
            (void)boot_blob_hash_step(set->file[i]); /* one piece a turn */
            return false;
        }
        *damaged |= memcmp(set->file[i]->sha256, set->own->want[i], SHA256_LEN) != 0;
    }
    return true;
}

void boot_set_keep(struct boot_set *set)
{
    if (!set->own || set->own->kept)
        return;
    set->own->kept = true;
    for (unsigned i = 0; i < set->n; i++)
        if (file_is_own(set, i))
            boot_blob_keep(set->file[i]);
}

/* ---- after a boot ---- */

enum hv_err boot_set_recall(struct boot_set *set, const struct boot_want *want, unsigned n)
{
    ASSERT(!set->n && !set->own);
    if (n > ARRAY_SIZE(set->file))
        return HV_FAIL(HV_E_INVAL);
    set->own = n ? mem_alloc(sizeof(*set->own)) : NULL;
    if (n && !set->own)
        return HV_FAIL(HV_E_NOMEM);
    for (unsigned i = 0; i < n; i++) {
        set->own->blob[i].len = want[i].len;
        memcpy(set->own->want[i], want[i].sha256, SHA256_LEN);
    }
    if (n)
        set->own->n_recalled = n;
    return HV_OK;
}

enum hv_err boot_set_recall_step(struct boot_set *set, struct why *why)
{
    static struct vm_offer o; /* large; service pCPU only */
    struct boot_own *own = set->own;
    if (!own || !own->n_recalled)
        return HV_OK;
    o.n_files = own->n_recalled;
    for (unsigned i = 0; i < o.n_files; i++) {
        o.file[i].len = own->blob[i].len;
        memcpy(o.file[i].sha256, own->want[i], SHA256_LEN);
    }
    if (!boot_offer_hash_step(&o))
        return HV_E_AGAIN;
    for (unsigned i = 0; i < o.n_files; i++) {
        const uint8_t *hash = o.file[i].sha256;
        char begin[9];
        set->file[i] = boot_blob_find(o.file[i].len, hash);
        if (set->file[i])
            continue;
        snprintf(begin, sizeof(begin), "%02x%02x%02x%02x", hash[0], hash[1], hash[2], hash[3]);
        return REFUSE(HV_E_NOENT,
                      "file %u that it starts from, of %lu bytes and SHA-256 %s..., is not on this host: put it on its "
                      "boot disk or into its store, under any name",
                      i + 1, o.file[i].len, begin);
    }
    set->n = own->n_recalled;
    set->n_pages = 0;
    for (unsigned i = 0; i < set->n; i++) {
        boot_blob_use(set->file[i]);
        set->n_pages += file_pages(set->file[i]->len);
    }
    own->n_recalled = 0;
    return HV_OK;
}

void boot_set_drop(struct boot_set *set)
{
    for (unsigned i = 0; i < set->n; i++)
        if (file_is_own(set, i))
            boot_blob_forget(set->file[i]);
    boot_set_leave(set);
    if (set->own) {
        window_close(set->own->window);
        mem_free(set->own, sizeof(*set->own));
    }
    *set = (struct boot_set){ 0 };
}
