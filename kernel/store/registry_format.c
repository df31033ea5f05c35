/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/registry_format.c - see registry_format.h. */
#include "kernel/store/registry_format.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/log.h"
#include "net/sha256.h"

#define TAR_BLOCK 512u
#define TAR_END   (2 * TAR_BLOCK)
#define HASHED    72u /* bytes of the header that its own hash covers */
static const char magic[16] = "GODWIT-REGISTRY";

void registry_sha256(const void *p, size_t len, uint8_t out[32])
{
    struct sha256 s;
    sha256_init(&s);
    sha256_update(&s, p, len);
    sha256_out(&s, out);
}

/* ---- names and the table ---- */

bool registry_name_ok(const char *name)
{
    size_t n = strnlen(name, REGISTRY_NAME_LEN), from = 0;
    if (!n || n == REGISTRY_NAME_LEN)
        return false;
    for (size_t i = 0; i <= n; i++) {
        if (name[i] && name[i] != '/') {
            if (name[i] <= ' ' || name[i] > '~')
                return false;
            continue;
        }
        size_t len = i - from;
        if (!len || (name[from] == '.' && (len == 1 || (len == 2 && name[from + 1] == '.'))))
            return false;
        from = i + 1;
    }
    return true;
}

/* The index of name, or of the first entry behind it. */
static unsigned table_place(const struct registry_table *t, const char *name)
{
    unsigned low = 0, high = t->n;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (strcmp(t->entry[mid].name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const struct registry_entry *registry_table_get(const struct registry_table *t, const char *name)
{
    unsigned i = table_place(t, name);
    return i < t->n && !strcmp(t->entry[i].name, name) ? &t->entry[i] : NULL;
}

const struct registry_entry *registry_table_next(const struct registry_table *t, const char *prefix, const char *after)
{
    unsigned i = table_place(t, *after ? after : prefix);
    if (i < t->n && *after && !strcmp(t->entry[i].name, after))
        i++;
    return i < t->n && !strncmp(t->entry[i].name, prefix, strlen(prefix)) ? &t->entry[i] : NULL;
}

static size_t entry_bytes(size_t len) { return TAR_BLOCK + ALIGN_UP(len, TAR_BLOCK); }

static void entry_remove(struct registry_table *t, unsigned i)
{
    t->bytes -= entry_bytes(t->entry[i].len);
    mem_free(t->entry[i].text, t->entry[i].len + 1);
    memmove(&t->entry[i], &t->entry[i + 1], (--t->n - i) * sizeof(t->entry[0]));
}

enum hv_err registry_table_put(struct registry_table *t, const char *name, const char *text, size_t len)
{
    ASSERT(registry_name_ok(name));
    unsigned i = table_place(t, name);
    const struct registry_entry *old = registry_table_get(t, name);
    size_t rest = t->bytes - (old ? entry_bytes(old->len) : 0);
    if (len > REGISTRY_ARCHIVE_MAX || rest + entry_bytes(len) + TAR_END > REGISTRY_ARCHIVE_MAX ||
        (!old && t->n == REGISTRY_ENTRIES_MAX))
        return HV_FAIL(HV_E_NOMEM);
    char *copy = mem_alloc(len + 1);
    if (!copy)
        return HV_FAIL(HV_E_NOMEM);
    if (len)
        memcpy(copy, text, len);
    if (old)
        entry_remove(t, i);
    memmove(&t->entry[i + 1], &t->entry[i], (t->n++ - i) * sizeof(t->entry[0]));
    t->entry[i] = (struct registry_entry){ .text = copy, .len = len };
    memcpy(t->entry[i].name, name, strlen(name));
    t->bytes += entry_bytes(len);
    return HV_OK;
}

bool registry_table_room(const struct registry_table *t, unsigned n, size_t len)
{
    return t->n + n <= REGISTRY_ENTRIES_MAX &&
           t->bytes + n * entry_bytes(TAR_BLOCK) + len + TAR_END <= REGISTRY_ARCHIVE_MAX;
}

void registry_table_remove(struct registry_table *t, const char *name)
{
    if (registry_table_get(t, name))
        entry_remove(t, table_place(t, name));
}

void registry_table_clear(struct registry_table *t)
{
    while (t->n)
        entry_remove(t, t->n - 1);
}

/* ---- the archive ---- */

static void tar_header(uint8_t out[TAR_BLOCK], const char *name, size_t len)
{
    char *h = (char *)out;
    memset(out, 0, TAR_BLOCK);
    memcpy(h, name, strlen(name));
    snprintf(h + 100, 8, "%07o", 0644u);
    snprintf(h + 108, 8, "%07o", 0u);
    snprintf(h + 116, 8, "%07o", 0u);
    snprintf(h + 124, 12, "%011lo", (unsigned long)len);
    snprintf(h + 136, 12, "%011o", 0u);
    memset(h + 148, ' ', 8); /* the checksum is made with blanks in its place */
    h[156] = '0';            /* a regular file */
    memcpy(h + 257, "ustar\00000", 8);
    unsigned sum = 0;
    for (unsigned i = 0; i < TAR_BLOCK; i++)
        sum += out[i];
    snprintf(h + 148, 8, "%06o", sum);
}

size_t registry_archive_write(const struct registry_table *t, uint8_t *out)
{
    uint8_t *p = out;
    for (unsigned i = 0; i < t->n; i++) {
        const struct registry_entry *e = &t->entry[i];
        tar_header(p, e->name, e->len);
        memcpy(p + TAR_BLOCK, e->text, e->len);
        memset(p + TAR_BLOCK + e->len, 0, entry_bytes(e->len) - TAR_BLOCK - e->len);
        p += entry_bytes(e->len);
    }
    memset(p, 0, TAR_END);
    p += TAR_END;
    ASSERT((size_t)(p - out) == t->bytes + TAR_END && t->bytes + TAR_END <= REGISTRY_ARCHIVE_MAX);
    return t->bytes + TAR_END;
}

static bool all_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (p[i])
            return false;
    return true;
}

/* Name and length in a file's header.  Everything else in it must be as tar_header() writes it. */
static bool tar_header_read(const uint8_t *h, char name[REGISTRY_NAME_LEN], size_t *len)
{
    uint8_t should[TAR_BLOCK];
    memcpy(name, h, REGISTRY_NAME_LEN);
    if (!memchr(name, 0, REGISTRY_NAME_LEN) || !registry_name_ok(name))
        return false;
    *len = 0;
    for (unsigned i = 124; i < 135; i++) {
        if (h[i] < '0' || h[i] > '7')
            return false;
        *len = *len * 8 + (h[i] - '0');
    }
    tar_header(should, name, *len);
    return !memcmp(should, h, TAR_BLOCK);
}

/* The entry at archive + at.  *next: where the one behind it begins. */
static enum hv_err tar_entry_read(struct registry_table *t, const uint8_t *archive, size_t len, size_t at, size_t *next)
{
    char name[REGISTRY_NAME_LEN];
    size_t n;
    const uint8_t *h = archive + at;
    if (!tar_header_read(h, name, &n) || n > len - at - TAR_BLOCK || entry_bytes(n) > len - at)
        return HV_FAIL(HV_E_INVAL);
    if (!all_zero(h + TAR_BLOCK + n, entry_bytes(n) - TAR_BLOCK - n))
        return HV_FAIL(HV_E_INVAL);
    if (t->n && strcmp(t->entry[t->n - 1].name, name) >= 0)
        return HV_FAIL(HV_E_INVAL);
    *next = at + entry_bytes(n);
    return registry_table_put(t, name, (const char *)h + TAR_BLOCK, n);
}

enum hv_err registry_archive_read(struct registry_table *t, const uint8_t *archive, size_t len, struct why *why)
{
    ASSERT(!t->n);
    size_t at = 0;
    enum hv_err e = len % TAR_BLOCK || len < TAR_END || len > REGISTRY_ARCHIVE_MAX ? HV_FAIL(HV_E_INVAL) : HV_OK;
    while (!e && at < len - TAR_END)
        e = tar_entry_read(t, archive, len - TAR_END, at, &at);
    if (!e && !all_zero(archive + at, TAR_END))
        e = HV_FAIL(HV_E_INVAL);
    if (!e)
        return HV_OK;
    registry_table_clear(t);
    if (e == HV_E_NOMEM)
        return REFUSE(e, "no memory for the registry's texts");
    return REFUSE(e, "byte %lu of its archive is not as this release writes it", at);
}

/* ---- the header ---- */

void registry_header_write(const struct registry_header *h, uint8_t out[REGISTRY_SECTOR])
{
    struct wr w = wr_init(out, REGISTRY_SECTOR);
    memset(out, 0, REGISTRY_SECTOR);
    wr_bytes(&w, magic, sizeof(magic));
    wr_u32(&w, REGISTRY_VERSION);
    wr_u32(&w, 0);
    wr_u64(&w, h->generation);
    wr_u64(&w, h->len);
    wr_bytes(&w, h->sha256, sizeof(h->sha256));
    ASSERT_EQ(w.len, HASHED);
    registry_sha256(out, HASHED, out + HASHED);
}

enum hv_err registry_header_read(const uint8_t sector[REGISTRY_SECTOR], struct registry_header *h)
{
    uint8_t should[REGISTRY_SECTOR];
    struct rd r = rd_init(sector, REGISTRY_SECTOR);
    const uint8_t *m = rd_ref(&r, sizeof(magic));
    if (all_zero(sector, REGISTRY_SECTOR))
        return HV_FAIL(HV_E_NOENT);
    if (memcmp(m, magic, sizeof(magic)))
        return HV_FAIL(HV_E_INVAL);
    if (rd_u32(&r) > REGISTRY_VERSION)
        return HV_FAIL(HV_E_VERSION);
    (void)rd_u32(&r);
    h->generation = rd_u64(&r);
    h->len = rd_u64(&r);
    rd_bytes(&r, h->sha256, sizeof(h->sha256));
    registry_header_write(h, should);
    if (memcmp(should, sector, REGISTRY_SECTOR) || h->len > REGISTRY_ARCHIVE_MAX || !h->generation)
        return HV_FAIL(HV_E_INVAL);
    return HV_OK;
}
