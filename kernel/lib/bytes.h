/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/bytes.h - cursors over byte buffers: the only way to serialize state and wire records.
 *
 * Values are little-endian.  No alignment is needed, and no struct is ever cast to bytes.
 *
 * Both cursors are sticky: the first access beyond the end sets `bad`, which stays set.  From then on writes do nothing
 * and reads return 0.  So a parser reads all fields first and checks `bad` once.  An overrun is not a bug of ours: the
 * length comes from a peer.  Nothing here allocates or locks.  Portable; any context.
 *
 *     struct rd r = rd_init(buf, len);
 *     uint32_t n = rd_u32(&r);                 0 if fewer than 4 bytes are there
 *     const uint8_t *text = rd_ref(&r, n);     NULL if fewer than n are left
 *     if (r.bad) return HV_FAIL(HV_E_PROTO); */
#ifndef GODWIT_KERNEL_LIB_BYTES_H
#define GODWIT_KERNEL_LIB_BYTES_H

#include <string.h>
#include "kernel/lib/types.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "as the numbers of this processor");

/* A write cursor.  Invariant: len <= cap. */
struct wr {
    uint8_t *p;       /* borrowed: the buffer */
    size_t len, cap;  /* bytes written so far; size of the buffer */
    bool bad;         /* a write did not fit; nothing after it was written */
    unsigned version; /* of the format that is to be written; for writers of several */
};
/* A read cursor.  Invariant: pos <= len. */
struct rd {
    const uint8_t *p; /* borrowed: the buffer */
    size_t len, pos;  /* bytes in the buffer; bytes read so far */
    bool bad;         /* a read went beyond the end; pos stands before it */
    unsigned version; /* of the format of these bytes; for readers of several */
};

/** A cursor at the begin of a buffer of cap, or len, bytes, which outlives the cursor. */
static inline struct wr wr_init(void *buf, size_t cap) { return (struct wr){ buf, 0, cap, false, 0 }; }
static inline struct rd rd_init(const void *buf, size_t len) { return (struct rd){ buf, len, 0, false, 0 }; }
/** Bytes that are left to read; 0 after an overrun. */
static inline size_t rd_left(const struct rd *r) { return r->bad ? 0 : r->len - r->pos; }

/** Append n bytes of src.  All or nothing: when they do not fit, nothing is written and `bad` is set.
 *  src may be NULL if n is 0. */
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
/** The next n bytes in place, or NULL (and `bad`) when fewer are left.  Valid as long as the buffer is. */
static inline const uint8_t *rd_ref(struct rd *r, size_t n)
{
    if (r->bad || n > r->len - r->pos) {
        r->bad = true;
        return NULL;
    }
    r->pos += n;
    return r->p + (r->pos - n);
}
/** Copy the next n bytes to dst.
 *  When fewer are left, dst gets n zeros, so that it never holds what the caller did not write. */
static inline void rd_bytes(struct rd *r, void *dst, size_t n)
{
    const uint8_t *s = rd_ref(r, n);
    if (s && n)
        memcpy(dst, s, n);
    else if (n)
        memset(dst, 0, n);
}
/** Append the low n_bytes of v, the lowest first.  n_bytes: 1 to 8. */
static inline void wr_uint(struct wr *w, uint64_t v, unsigned n_bytes) { wr_bytes(w, &v, n_bytes); }
/** The next n_bytes (1 to 8) as a number, zero-extended. */
static inline uint64_t rd_uint(struct rd *r, unsigned n_bytes)
{
    const uint8_t *b = rd_ref(r, n_bytes);
    uint64_t v = 0;
    if (b)
        memcpy(&v, b, n_bytes);
    return v;
}
/* The widths that records use.  A record's layout is the order of these calls, and the table in its header says so:
 * the writer and the reader of one record stand next to each other and have the same lines. */
static inline void wr_u8(struct wr *w, uint8_t v) { wr_uint(w, v, 1); }
static inline void wr_u16(struct wr *w, uint16_t v) { wr_uint(w, v, 2); }
static inline void wr_u32(struct wr *w, uint32_t v) { wr_uint(w, v, 4); }
static inline void wr_u64(struct wr *w, uint64_t v) { wr_uint(w, v, 8); }
static inline uint8_t rd_u8(struct rd *r) { return (uint8_t)rd_uint(r, 1); }
static inline uint16_t rd_u16(struct rd *r) { return (uint16_t)rd_uint(r, 2); }
static inline uint32_t rd_u32(struct rd *r) { return (uint32_t)rd_uint(r, 4); }
static inline uint64_t rd_u64(struct rd *r) { return rd_uint(r, 8); }

/** The byte that makes the sum of n bytes at p, and itself, 0: the checksum of ACPI and MP tables.
 *  The table has a place for it, which must be 0 until then.
 *  Manuals: ACPI specification, "System Description Table Header"; MultiProcessor Specification 1.4. */
static inline uint8_t checksum_byte(const uint8_t *p, size_t n)
{
    uint8_t sum = 0;
    while (n--)
        sum = (uint8_t)(sum + *p++);
    return (uint8_t)-sum;
}

#endif
