/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/bytes.h - put and get little-endian values in byte buffers: the only way that state and wire
 * records are (de)serialized.
 *
 * Both cursors are sticky: after the first overrun every further call does nothing (gets return 0) and `bad` stays set,
 * so a parser reads all fields and checks once.  No alignment is needed, no struct is ever cast.  Portable. */
#ifndef GODWIT_KERNEL_LIB_BYTES_H
#define GODWIT_KERNEL_LIB_BYTES_H

#include <string.h>
#include "kernel/lib/types.h"

/* len: bytes written so far */
struct wr {
    uint8_t *p;
    size_t len, cap;
    bool bad;
};
/* pos: bytes read so far */
struct rd {
    const uint8_t *p;
    size_t len, pos;
    bool bad;
};

static inline struct wr wr_init(void *buf, size_t cap) { return (struct wr){ buf, 0, cap, false }; }
static inline struct rd rd_init(const void *buf, size_t len) { return (struct rd){ buf, len, 0, false }; }
static inline size_t rd_left(const struct rd *r) { return r->bad ? 0 : r->len - r->pos; }

static inline void wr_bytes(struct wr *w, const void *src, size_t n)
{
    if (w->bad || n > w->cap - w->len) {
        w->bad = true;
        return;
    }
    if (n)
        memcpy(w->p + w->len, src, n);
    w->len += n;
}
/** The next n bytes in place, or NULL (and bad) when fewer are left. */
static inline const uint8_t *rd_ref(struct rd *r, size_t n)
{
    if (r->bad || n > r->len - r->pos) {
        r->bad = true;
        return NULL;
    }
    r->pos += n;
    return r->p + (r->pos - n);
}
static inline void rd_bytes(struct rd *r, void *dst, size_t n)
{
    const uint8_t *s = rd_ref(r, n);
    if (s && n)
        memcpy(dst, s, n);
    else if (n)
        memset(dst, 0, n);
}
static inline void wr_uint(struct wr *w, uint64_t v, unsigned n_bytes)
{
    uint8_t b[8];
    for (unsigned i = 0; i < n_bytes; i++)
        b[i] = (uint8_t)(v >> (8 * i));
    wr_bytes(w, b, n_bytes);
}
static inline uint64_t rd_uint(struct rd *r, unsigned n_bytes)
{
    const uint8_t *b = rd_ref(r, n_bytes);
    uint64_t v = 0;
    for (unsigned i = 0; b && i < n_bytes; i++)
        v |= (uint64_t)b[i] << (8 * i);
    return v;
}
static inline void wr_u8(struct wr *w, uint8_t v) { wr_uint(w, v, 1); }
static inline void wr_u16(struct wr *w, uint16_t v) { wr_uint(w, v, 2); }
static inline void wr_u32(struct wr *w, uint32_t v) { wr_uint(w, v, 4); }
static inline void wr_u64(struct wr *w, uint64_t v) { wr_uint(w, v, 8); }
static inline uint8_t rd_u8(struct rd *r) { return (uint8_t)rd_uint(r, 1); }
static inline uint16_t rd_u16(struct rd *r) { return (uint16_t)rd_uint(r, 2); }
static inline uint32_t rd_u32(struct rd *r) { return (uint32_t)rd_uint(r, 4); }
static inline uint64_t rd_u64(struct rd *r) { return rd_uint(r, 8); }

#endif
