/* SPDX-License-Identifier: BSD-2-Clause
 * net/nbd.c - NBD client: sends requests of a guest's disk to a server, and sends them again after an outage.
 *
 *   DOWN --time--> CONNECTING --TCP--> GREETING --magic, flags--> OPTION --export, ACK--> READY
 *     ^                        with a fingerprint |                   ^                         |
 *     |                                           +--> STARTTLS --ACK--> SECURING --TLS--+      |
 *     +______________________ lost, or the server violated the protocol: nbd_down() ___________|
 *
 * A table holds the requests; their serial numbers give the order and are the cookies on the wire:
 *
 *   QUEUED --header, data--> SENDING --all of it--> SENT --reply--> done, FREE
 *   SENDING, SENT --nbd_down()--> QUEUED again
 *
 * So requests without a reply are sent again on the next connection, in the old order: writes are idempotent.  A FLUSH
 * is sent once every earlier write, discard and zeroing was answered.  The old connection is reset before a new one is
 * made.  By then a server has normally executed or dropped the requests that it had read.  A server that hung, and
 * executes one later still, could undo a newer write; no NBD client can prevent that.
 *
 * A write that was answered and not flushed may be in the server's cache.  It survives the server process, but not a
 * crash of the server's machine.  The guest sees a disk with a write cache (FLUSH is offered) and flushes accordingly.
 *
 * A disk with a fingerprint in its configuration uses TLS only.  Nothing but the greeting is unencrypted, and nothing
 * from it is used afterwards: size and features come over TLS.  NBD's doc/proto.md, "TLS support", FORCEDTLS.
 *
 * The server is not trusted: each number is checked where it arrives, and an invalid one costs the connection only. */
#include "net/nbd.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "net/stream.h"

#define SLOTS        64u /* power of two; the disk's max_pending */
#define BUF_LEN      (16 * KIB)
#define RETRY_MIN_US (100u * 1000) /* back off between attempts to connect, doubled each time */
#define RETRY_MAX_US (3u * 1000 * 1000)
#define HANDSHAKE_US (8u * 1000 * 1000)
#define TURN_BYTES   (1 * MIB) /* limit of bytes received in one turn */

#define MAGIC_INIT    UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define MAGIC_OPTION  UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define MAGIC_REPLY   UINT64_C(0x0003e889045565a9) /* to an option */
#define MAGIC_REQUEST UINT32_C(0x25609513)
#define MAGIC_SIMPLE  UINT32_C(0x67446698)
enum { FIXED_NEWSTYLE = 1, NO_ZEROES = 2 }; /* handshake flags, both sides' */
enum { OPT_STARTTLS = 5, OPT_GO = 7, INFO_EXPORT = 0, INFO_BLOCK_SIZE = 3 };
enum { REP_ACK = 1, REP_INFO = 3 };
#define REP_ERROR BIT32(31)
enum { ERR_UNSUP = 1, ERR_POLICY, ERR_INVALID, ERR_PLATFORM, ERR_TLS_REQD, ERR_UNKNOWN, ERR_SHUTDOWN };
enum { HAS_FLAGS = 1, READ_ONLY = 2, SEND_FLUSH = 4, SEND_TRIM = 32, SEND_WRITE_ZEROES = 64 }; /* transmission flags */
enum { CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_WRITE_ZEROES = 6 };
#define CMD_FLAG_NO_HOLE 2u
enum { NBD_ENOTSUP = 95, NBD_ESHUTDOWN = 108 };
#define GREETING_LEN  18u
#define OPT_REPLY_LEN 20u
#define REQUEST_LEN   28u
#define SIMPLE_LEN    16u
_Static_assert(!(SLOTS & (SLOTS - 1)), "serial numbers may wrap");
_Static_assert(BUF_LEN >= 1024 + sizeof(((struct nbd_config *)0)->name), "all option requests fit");

enum state { DOWN, CONNECTING, GREETING, STARTTLS, SECURING, OPTION, READY };
enum slot_state { FREE, QUEUED, SENDING, SENT };
struct slot {
    enum slot_state state;
    uint64_t serial, since_us;
    struct disk_req *r; /* the submitter's; valid unless FREE */
};
struct nbd {
    struct disk disk;
    struct nbd_config target;
    enum state state;
    struct stream *stream;                      /* owned; NULL in DOWN */
    uint64_t retry_us, backoff_us, deadline_us; /* retry: next attempt, in DOWN; deadline: of the handshake */
    struct disk_info offered;                   /* in OPTION: the server's description so far */
    bool got_export;
    uint32_t max_block;
    char server[24]; /* address, for messages */
    uint64_t last_serial;
    struct slot slot[SLOTS];        /* serial n is in slot n % SLOTS */
    struct slot *sending, *reading; /* slots whose data is in transfer; NULL: between requests or replies */
    uint64_t sent, got;             /* bytes of their data so far */
    size_t out_len, out_pos, in_len;
    uint8_t out[BUF_LEN + REQUEST_LEN], in[BUF_LEN];
};

static struct nbd *nbd_of(struct disk *d) { return container_of(d, struct nbd, disk); }

/* ---- big-endian numbers ---- */

static void nbd_put_be(struct nbd *n, uint64_t val, unsigned bytes)
{
    ASSERT(bytes <= 8 && n->out_len + bytes <= sizeof(n->out));
    while (bytes--)
        n->out[n->out_len++] = (uint8_t)(val >> (8 * bytes));
}
static uint64_t be_number(const uint8_t *p, unsigned bytes)
{
    uint64_t val = 0;
    while (bytes--)
        val = val << 8 | *p++;
    return val;
}

/* ---- losing the server ---- */

/** Return requests in transfer to the queue, and drop the buffered bytes of the lost connection. */
static void nbd_requeue(struct nbd *n)
{
    for (struct slot *s = n->slot; s < n->slot + SLOTS; s++) {
        if (s->state != SENDING && s->state != SENT)
            continue;
        s->state = QUEUED;
        n->disk.n_resent++;
    }
    n->sending = n->reading = NULL;
    n->out_len = n->out_pos = n->in_len = 0;
}

/** Give up the connection for the reason fmt, and connect again later. */
HV_PRINTF(2, 3)
static void nbd_down(struct nbd *n, const char *fmt, ...)
{
    struct disk *d = &n->disk;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(d->why, sizeof(d->why), fmt, ap);
    va_end(ap);
    if (n->stream)
        stream_abort(n->stream);
    n->stream = NULL;
    nbd_requeue(n);
    if (n->state == READY) {
        d->n_losses++;
        d->lost_us = clock_us();
        log_warn("disk", "%s is lost: %s", d->name, d->why);
    } else if (!d->n_failed_tries++) {
        log_warn("disk", "%s cannot be reached: %s", d->name, d->why);
    }
    n->state = DOWN;
    n->retry_us = clock_us() + n->backoff_us;
    n->backoff_us = MIN(2 * n->backoff_us, (uint64_t)RETRY_MAX_US);
}

static void nbd_protocol_error(struct nbd *n, const char *what)
{
    nbd_down(n, "the server broke the NBD protocol (%s)", what);
}

static void nbd_check_stream(struct nbd *n)
{
    ASSERT(n->stream && n->state != DOWN);
    enum stream_status st = stream_status(n->stream);
    if (st == STREAM_FAILED || st == STREAM_CLOSED) {
        char why[160];
        snprintf(why, sizeof(why), "%s", stream_reason(n->stream));
        if (n->state == GREETING || n->state == STARTTLS || n->state == OPTION)
            nbd_down(n, "%s in the middle of the handshake: does it serve one client only?", why);
        else
            nbd_down(n, "%s", why);
    } else if (n->state != READY && clock_us() > n->deadline_us) {
        nbd_down(n,
                 "the server did not answer the NBD handshake within %u s: does it serve one client at a time "
                 "(qemu-nbd: --shared=0)?",
                 HANDSHAKE_US / 1000000);
    }
}

/* ---- negotiation ---- */

static void nbd_connect(struct nbd *n)
{
    if (clock_us() < n->retry_us)
        return;
    ASSERT(n->state == DOWN && !n->stream && !n->out_len && !n->in_len);
    n->deadline_us = clock_us() + HANDSHAKE_US;
    enum hv_err e = stream_connect_plain(n->target.ip, n->target.port, &n->stream);
    if (e)
        nbd_down(n, "no connection can be opened: %s", hv_err_text(e));
    else
        n->state = CONNECTING;
}

static void nbd_send_go(struct nbd *n)
{
    size_t name_len = strlen(n->target.name);
    nbd_put_be(n, MAGIC_OPTION, 8);
    nbd_put_be(n, OPT_GO, 4);
    nbd_put_be(n, 4 + name_len + 2 + 2, 4);
    nbd_put_be(n, name_len, 4);
    ASSERT(n->out_len + name_len <= sizeof(n->out));
    memcpy(n->out + n->out_len, n->target.name, name_len);
    n->out_len += name_len;
    nbd_put_be(n, 1, 2);
    nbd_put_be(n, INFO_BLOCK_SIZE, 2);
    n->state = OPTION;
    n->got_export = false;
    n->offered = (struct disk_info){ .block = DISK_SECTOR };
    n->max_block = 32 * MIB; /* the protocol's default */
}

static void nbd_send_starttls(struct nbd *n)
{
    nbd_put_be(n, MAGIC_OPTION, 8);
    nbd_put_be(n, OPT_STARTTLS, 4);
    nbd_put_be(n, 0, 4);
    n->state = STARTTLS;
}

static size_t nbd_take_greeting(struct nbd *n, const uint8_t *p, size_t len)
{
    if (len < GREETING_LEN)
        return 0;
    unsigned flags = (unsigned)be_number(p + 16, 2);
    if (be_number(p, 8) != MAGIC_INIT || be_number(p + 8, 8) != MAGIC_OPTION || !(flags & FIXED_NEWSTYLE)) {
        nbd_protocol_error(n, "its greeting is not that of a newstyle NBD server");
        return 0;
    }
    nbd_put_be(n, FIXED_NEWSTYLE | (flags & NO_ZEROES), 4);
    if (n->target.tls)
        nbd_send_starttls(n);
    else
        nbd_send_go(n);
    return GREETING_LEN;
}

/** The server answered NBD_OPT_STARTTLS.  more: bytes follow before TLS.  They could be an attacker's, injected to be
 *  taken for the server's: a violation of the protocol. */
static void nbd_take_starttls_reply(struct nbd *n, uint32_t type, bool more)
{
    if (type & REP_ERROR) {
        nbd_down(n, "the server offers no TLS (NBD error %u), and this disk has a disk-fingerprint: set TLS up there",
                 type & ~REP_ERROR);
    } else if (type != REP_ACK || more || n->out_pos < n->out_len) {
        nbd_protocol_error(n, "its answer to NBD_OPT_STARTTLS");
    } else {
        enum hv_err e = stream_start_tls(n->stream, n->server, n->target.fingerprint);
        if (e)
            nbd_down(n, "TLS to the server cannot begin (%s): has this host a key and a certificate?", hv_err_text(e));
        else
            n->state = SECURING;
    }
}

static void nbd_go_refused(struct nbd *n, uint32_t type)
{
    uint32_t error = type & ~REP_ERROR;
    switch (error) {
    case ERR_UNKNOWN: nbd_down(n, "the server has no export named \"%s\"", n->target.name); break;
    case ERR_TLS_REQD:
        nbd_down(n, "the server wants TLS: give the guest the fingerprint of its certificate (disk-fingerprint)");
        break;
    case ERR_POLICY:   nbd_down(n, "the server forbids this client the export \"%s\"", n->target.name); break;
    case ERR_SHUTDOWN: nbd_down(n, "the server is shutting down"); break;
    case ERR_UNSUP:    nbd_down(n, "the server is too old: it does not know NBD_OPT_GO"); break;
    default:           nbd_down(n, "the server refuses the export \"%s\" (NBD error %u)", n->target.name, error); break;
    }
}

static void nbd_take_info(struct nbd *n, const uint8_t *p, uint32_t len)
{
    unsigned type = len >= 2 ? (unsigned)be_number(p, 2) : ~0u;
    if (type == INFO_EXPORT && len == 12) {
        unsigned flags = (unsigned)be_number(p + 10, 2);
        n->offered.bytes = be_number(p + 2, 8);
        n->offered.read_only = flags & READ_ONLY;
        n->offered.flush = flags & SEND_FLUSH;
        n->offered.discard = flags & SEND_TRIM;
        n->offered.zeroes = flags & SEND_WRITE_ZEROES;
        if (!(flags & HAS_FLAGS))
            n->offered.flush = n->offered.discard = n->offered.zeroes = false;
        n->got_export = true;
    } else if (type == INFO_BLOCK_SIZE && len == 14) {
        uint32_t min = (uint32_t)be_number(p + 2, 4);
        n->max_block = (uint32_t)be_number(p + 10, 4);
        n->offered.block = MAX(min, DISK_SECTOR);
        if (!min || (min & (min - 1)))
            nbd_protocol_error(n, "a block size that is no power of two");
    } else if (type == INFO_EXPORT || type == INFO_BLOCK_SIZE || len < 2) {
        nbd_protocol_error(n, "an NBD_REP_INFO of a wrong length");
    }
}

static void nbd_go_accepted(struct nbd *n)
{
    struct disk *d = &n->disk;
    struct disk_info *i = &n->offered;
    if (!n->got_export) {
        nbd_protocol_error(n, "it accepts the export without saying its size");
        return;
    }
    i->bytes -= i->bytes % i->block;
    if (i->block > DISK_BLOCK_MAX || n->max_block < DISK_LEN_MAX || !i->bytes || i->bytes > BIT64(62)) {
        nbd_down(n,
                 "this export cannot be a guest's disk: %lu bytes, blocks of %u to %u bytes (up to %u and from %u are "
                 "possible)",
                 i->bytes, i->block, n->max_block, DISK_BLOCK_MAX, (unsigned)DISK_LEN_MAX);
        return;
    }
    if (d->known && !disk_fits(i, &d->info)) {
        nbd_down(n,
                 "the export is not what it was (%lu bytes, was %lu; or it lost an ability): the guest waits for the "
                 "old one",
                 i->bytes, d->info.bytes);
        return;
    }
    if (!d->known)
        d->info = *i;
    if (d->n_losses || d->n_failed_tries)
        log_info("disk", "%s is there (again) after %lu ms", d->name, (clock_us() - d->lost_us) / 1000);
    d->known = true;
    d->lost_us = 0;
    d->n_failed_tries = 0;
    d->why[0] = '\0';
    n->state = READY;
}

static size_t nbd_take_option_reply(struct nbd *n, const uint8_t *p, size_t have)
{
    if (have < OPT_REPLY_LEN)
        return 0;
    uint32_t type = (uint32_t)be_number(p + 12, 4), len = (uint32_t)be_number(p + 16, 4),
             asked = n->state == STARTTLS ? OPT_STARTTLS : OPT_GO;
    if (be_number(p, 8) != MAGIC_REPLY || be_number(p + 8, 4) != asked || len > BUF_LEN - OPT_REPLY_LEN) {
        nbd_protocol_error(n, "the answer to an option");
        return 0;
    }
    if (have < OPT_REPLY_LEN + len)
        return 0;
    if (n->state == STARTTLS)
        nbd_take_starttls_reply(n, type, have > OPT_REPLY_LEN + len);
    else if (type == REP_ACK)
        nbd_go_accepted(n);
    else if (type == REP_INFO)
        nbd_take_info(n, p + OPT_REPLY_LEN, len);
    else if (type & REP_ERROR)
        nbd_go_refused(n, type);
    else
        nbd_protocol_error(n, "an unknown answer to NBD_OPT_GO");
    return OPT_REPLY_LEN + len;
}

/* ---- replies ---- */

static void nbd_complete(struct nbd *n, struct slot *s, enum disk_status st)
{
    struct disk_req *r = s->r;
    ASSERT((s->state == SENDING || s->state == SENT) && r && s != n->sending && s != n->reading);
    s->state = FREE;
    n->backoff_us = RETRY_MIN_US; /* the server works: retry soon after a loss */
    r->done(r, st);
}

static size_t nbd_take_reply(struct nbd *n, const uint8_t *p, size_t len)
{
    if (len < SIMPLE_LEN)
        return 0;
    uint32_t error = (uint32_t)be_number(p + 4, 4);
    uint64_t cookie = be_number(p + 8, 8);
    struct slot *s = &n->slot[cookie % SLOTS];
    if (be_number(p, 4) != MAGIC_SIMPLE) {
        nbd_protocol_error(n, "a reply with a wrong magic number");
    } else if (s->state != SENT || s->serial != cookie) {
        nbd_protocol_error(n, "a reply to no request");
    } else if (error == NBD_ESHUTDOWN) {
        nbd_down(n, "the server is shutting down");
    } else if (!error && s->r->op == DISK_READ) {
        n->reading = s;
        n->got = 0;
    } else {
        nbd_complete(n, s, !error ? DISK_OK : error == NBD_ENOTSUP ? DISK_UNSUPP : DISK_ERROR);
    }
    return SIMPLE_LEN;
}

static size_t nbd_take_data(struct nbd *n, const uint8_t *p, size_t have)
{
    struct slot *s = n->reading;
    ASSERT(s->state == SENT && s->r->op == DISK_READ && n->got <= s->r->len);
    size_t len = MIN(have, s->r->len - n->got);
    if (len)
        s->r->put(s->r, n->got, p, len);
    n->got += len;
    if (n->got == s->r->len) {
        n->reading = NULL;
        nbd_complete(n, s, DISK_OK);
    }
    return len;
}

/** Consume one message, or a piece of data, at the front of the received bytes.  Returns its length; 0: incomplete. */
static size_t nbd_take_message(struct nbd *n, const uint8_t *p, size_t len)
{
    switch (n->state) {
    case GREETING:   return nbd_take_greeting(n, p, len);
    case STARTTLS:
    case OPTION:     return nbd_take_option_reply(n, p, len);
    case READY:      return n->reading ? nbd_take_data(n, p, len) : nbd_take_reply(n, p, len);
    case DOWN:
    case CONNECTING:
    case SECURING:   break;
    }
    return 0;
}

static bool nbd_receive(struct nbd *n)
{
    size_t total = 0, len;
    do {
        len = stream_read(n->stream, n->in + n->in_len, sizeof(n->in) - n->in_len);
        n->in_len += len;
        total += len;
        size_t at = 0, used;
        while ((used = nbd_take_message(n, n->in + at, n->in_len - at)))
            at += used;
        ASSERT(n->state == DOWN || at <= n->in_len);
        if (n->state == DOWN)
            return true; /* nbd_requeue() emptied the buffer */
        n->in_len -= at;
        memmove(n->in, n->in + at, n->in_len);
    } while (len && total < TURN_BYTES);
    return total > 0;
}

/* ---- requests ---- */

/** A FLUSH waits for all earlier requests that change the disk. */
static bool nbd_may_send(const struct nbd *n, const struct slot *s)
{
    if (s->r->op != DISK_FLUSH)
        return true;
    for (const struct slot *o = n->slot; o < n->slot + SLOTS; o++)
        if (o->state != FREE && o->serial < s->serial && o->r->op != DISK_READ && o->r->op != DISK_FLUSH)
            return false;
    return true;
}

static struct slot *nbd_next_to_send(struct nbd *n)
{
    struct slot *best = NULL;
    for (struct slot *s = n->slot; s < n->slot + SLOTS; s++)
        if (s->state == QUEUED && (!best || s->serial < best->serial) && nbd_may_send(n, s))
            best = s;
    return best;
}

static void nbd_put_header(struct nbd *n, const struct slot *s)
{
    static const uint16_t command[] = { [DISK_READ] = CMD_READ,
                                        [DISK_WRITE] = CMD_WRITE,
                                        [DISK_FLUSH] = CMD_FLUSH,
                                        [DISK_DISCARD] = CMD_TRIM,
                                        [DISK_ZEROES] = CMD_WRITE_ZEROES };
    const struct disk_req *r = s->r;
    ASSERT(s->state == QUEUED && !n->out_len && r->op < ARRAY_SIZE(command));
    nbd_put_be(n, MAGIC_REQUEST, 4);
    nbd_put_be(n, r->op == DISK_ZEROES && !r->unmap ? CMD_FLAG_NO_HOLE : 0, 2);
    nbd_put_be(n, command[r->op], 2);
    nbd_put_be(n, s->serial, 8);
    nbd_put_be(n, r->offset, 8);
    nbd_put_be(n, r->len, 4);
}

/** Fill the empty output buffer with the next header or piece of data.  False: nothing to send. */
static bool nbd_fill(struct nbd *n)
{
    ASSERT(n->state == READY && n->out_pos == n->out_len);
    n->out_len = n->out_pos = 0;
    struct slot *s = n->sending;
    if (!s) {
        s = nbd_next_to_send(n);
        if (!s)
            return false;
        nbd_put_header(n, s);
        n->sent = 0;
        s->state = SENDING;
        n->sending = s;
    }
    struct disk_req *r = s->r;
    if (r->op == DISK_WRITE) {
        size_t len = MIN(BUF_LEN, r->len - n->sent);
        if (!r->get(r, n->sent, n->out + n->out_len, len)) {
            if (n->sent) { /* the server has part of the write: only a reset cancels it */
                nbd_down(n, "the guest reset its disk in the middle of a write");
                return false;
            }
            n->out_len = 0;
            n->sending = NULL;
            nbd_complete(n, s, DISK_ERROR);
            return true;
        }
        n->out_len += len;
        n->sent += len;
        if (n->sent < r->len)
            return true;
    }
    s->state = SENT;
    n->sending = NULL;
    return true;
}

static bool nbd_transmit(struct nbd *n)
{
    bool moved = false;
    for (;;) {
        ASSERT(n->out_pos <= n->out_len && n->out_len <= sizeof(n->out));
        size_t len = stream_write(n->stream, n->out + n->out_pos, n->out_len - n->out_pos);
        n->out_pos += len;
        moved |= len > 0;
        if (n->out_pos < n->out_len || n->state != READY || !nbd_fill(n))
            break;
    }
    if (moved && n->stream)
        stream_flush(n->stream);
    return moved;
}

static enum disk_status nbd_submit(struct disk *d, struct disk_req *r)
{
    struct nbd *n = nbd_of(d);
    struct slot *s;
    unsigned n_tried = 0;
    do {
        s = &n->slot[++n->last_serial % SLOTS];
        ASSERT(n_tried < SLOTS); /* at most max_pending are taken */
        n_tried++;
    } while (s->state != FREE);
    *s = (struct slot){ QUEUED, n->last_serial, clock_us(), r };
    return DISK_PENDING;
}

/* ---- the disk ---- */

static void nbd_note_oldest(struct nbd *n)
{
    uint64_t us = 0;
    for (const struct slot *s = n->slot; s < n->slot + SLOTS; s++)
        if (s->state != FREE && (!us || s->since_us < us))
            us = s->since_us;
    n->disk.oldest_us = us;
}

static bool nbd_is_talking(const struct nbd *n) { return n->state > CONNECTING && n->state != SECURING; }

static bool nbd_poll(struct disk *d)
{
    struct nbd *n = nbd_of(d);
    bool moved = false;
    if (n->state == DOWN)
        nbd_connect(n);
    if (n->state == CONNECTING && stream_status(n->stream) == STREAM_OPEN)
        n->state = GREETING;
    if (n->state == SECURING && stream_status(n->stream) == STREAM_OPEN)
        nbd_send_go(n);
    if (nbd_is_talking(n))
        moved = nbd_receive(n);
    if (nbd_is_talking(n))
        moved |= nbd_transmit(n);
    if (n->state != DOWN && !moved)
        nbd_check_stream(n);
    nbd_note_oldest(n);
    return moved;
}

static void nbd_close(struct disk *d)
{
    struct nbd *n = nbd_of(d);
    /* between two requests: NBD_CMD_DISC, as the protocol asks for */
    if (n->state == READY && !n->sending && n->out_pos == n->out_len) {
        n->out_len = n->out_pos = 0;
        nbd_put_be(n, MAGIC_REQUEST, 4);
        nbd_put_be(n, CMD_DISC, 4); /* flags and command */
        nbd_put_be(n, 0, 8);
        nbd_put_be(n, 0, 8);
        nbd_put_be(n, 0, 4);
        (void)stream_write(n->stream, n->out, n->out_len);
        stream_close(n->stream);
    } else if (n->stream) {
        stream_abort(n->stream);
    }
    mem_free(n, sizeof(*n));
}

static const struct disk_ops nbd_ops = { .submit = nbd_submit, .poll = nbd_poll, .close = nbd_close };

enum hv_err nbd_open(const struct nbd_config *target, struct disk **out)
{
    struct nbd *n = mem_alloc(sizeof(*n));
    if (!n)
        return HV_FAIL(HV_E_NOMEM);
    struct disk *d = &n->disk;
    n->target = *target;
    n->backoff_us = RETRY_MIN_US;
    d->ops = &nbd_ops;
    d->serial = "godwit-nbd";
    d->max_pending = SLOTS;
    d->lost_us = MAX(clock_us(), 1u);
    snprintf(d->why, sizeof(d->why), "not connected yet");
    snprintf(n->server, sizeof(n->server), "%u.%u.%u.%u:%u", target->ip[0], target->ip[1], target->ip[2], target->ip[3],
             target->port);
    snprintf(d->name, sizeof(d->name), "nbd:%s/%s", n->server, target->name);
    *out = d;
    return HV_OK;
}
