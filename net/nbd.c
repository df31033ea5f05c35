/* SPDX-License-Identifier: BSD-2-Clause
 * net/nbd.c - NBD client: requests of a guest's disk to a server, and again to the server when it was away.
 *
 *   DOWN --time--> CONNECTING --TCP--> GREETING --magic, flags--> OPTION --export, ACK--> READY
 *     ^                        with a fingerprint |                   ^                         |
 *     |                                           +--> STARTTLS --ACK--> SECURING --TLS--+      |
 *     +______________________ lost, or the server broke the protocol: `down()` ________________|
 *
 * Requests are in a table in the order in which they came (their serial number, which is also the cookie on the wire):
 *
 *   QUEUED --header, data--> SENDING --all of it--> SENT --reply--> done, FREE
 *   SENDING, SENT --down()--> QUEUED again
 *
 * So what no reply came for is sent again, in the old order, to the next connection: a write twice is the same as once.
 * A FLUSH is sent when every write, discard and zeroing before it was answered.  The old connection is cut before a new
 * one is made, and a server has executed or lost what it had read from it when the new one is up; one that executes it
 * even later (it hung, and the network was cut as well) could undo a newer write, which no NBD client can prevent.
 *
 * A write that was answered and not flushed is in the server's hands, as with any disk that has a cache: it survives
 * the server process, but not the server's machine unless the guest flushed.  The guest is told of the cache (FLUSH is
 * offered) and flushes what it promises to others.
 *
 * A disk with a fingerprint in its configuration is spoken to by TLS only: nothing but the greeting goes in the clear,
 * and nothing that came in the clear is believed afterwards (what the server offers and its size come by TLS).  NBD's
 * doc/proto.md, "TLS support", FORCEDTLS.
 *
 * The server is not trusted: each number is checked where it comes in, and what makes no sense
 * costs the connection only. */
#include "net/nbd.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "net/stream.h"

#define SLOTS        64u /* power of two */
#define BUF_LEN      (16 * KIB)
#define RETRY_MIN_US (100u * 1000) /* between attempts to connect, doubled each time */
#define RETRY_MAX_US (3u * 1000 * 1000)
#define HANDSHAKE_US (8u * 1000 * 1000)
#define TURN_BYTES   (1 * MIB) /* received in one turn, at most */

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

enum state { DOWN, CONNECTING, GREETING, STARTTLS, SECURING, OPTION, READY };
enum slot_state { FREE, QUEUED, SENDING, SENT };
struct slot {
    enum slot_state state;
    uint64_t serial, since_us;
    struct disk_req *r;
};
struct nbd {
    struct disk disk;
    struct nbd_config target;
    enum state state;
    struct stream *stream;                      /* owned; NULL in DOWN */
    uint64_t retry_us, backoff_us, deadline_us; /* DOWN: next attempt; GREETING, OPTION: give up */
    struct disk_info offered;                   /* OPTION: what the server said so far */
    bool got_export;
    uint32_t max_block;
    char server[24]; /* its address, for messages */
    uint64_t last_serial;
    struct slot slot[SLOTS];        /* serial n in slot n % SLOTS or where there was room; order is by serial */
    struct slot *sending, *reading; /* into slot[]: whose data is under way now; NULL: between requests, replies */
    uint64_t sent, got;             /* bytes of that data so far */
    size_t out_len, out_pos, in_len;
    uint8_t out[BUF_LEN + REQUEST_LEN], in[BUF_LEN];
};

static struct nbd *nbd_of(struct disk *d) { return container_of(d, struct nbd, disk); }

/* ---- big-endian numbers ---- */

static void put(struct nbd *n, uint64_t val, unsigned bytes)
{
    while (bytes--)
        n->out[n->out_len++] = (uint8_t)(val >> (8 * bytes));
}
static uint64_t num(const uint8_t *p, unsigned bytes)
{
    uint64_t val = 0;
    while (bytes--)
        val = val << 8 | *p++;
    return val;
}

/* ---- losing the server ---- */

static void requeue(struct nbd *n)
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

HV_PRINTF(2, 3)
static void down(struct nbd *n, const char *fmt, ...)
{
    struct disk *d = &n->disk;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(d->why, sizeof(d->why), fmt, ap);
    va_end(ap);
    if (n->stream)
        stream_abort(n->stream);
    n->stream = NULL;
    requeue(n);
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

static void broke(struct nbd *n, const char *what) { down(n, "the server broke the NBD protocol (%s)", what); }

static void check_stream(struct nbd *n)
{
    enum stream_status st = stream_status(n->stream);
    if (st == STREAM_FAILED || st == STREAM_CLOSED) {
        char why[160];
        snprintf(why, sizeof(why), "%s", stream_reason(n->stream));
        if (n->state == GREETING || n->state == STARTTLS || n->state == OPTION)
            down(n, "%s in the middle of the handshake: does it serve one client only?", why);
        else
            down(n, "%s", why);
    } else if (n->state != READY && clock_us() > n->deadline_us) {
        down(n,
             "the server did not answer the NBD handshake within %u s: does it serve one client at a time (qemu-nbd: "
             "--shared=0)?",
             HANDSHAKE_US / 1000000);
    }
}

/* ---- negotiation ---- */

static void connect(struct nbd *n)
{
    if (clock_us() < n->retry_us)
        return;
    n->deadline_us = clock_us() + HANDSHAKE_US;
    enum hv_err e = stream_connect_plain(n->target.ip, n->target.port, &n->stream);
    if (e)
        down(n, "no connection can be opened: %s", hv_err_text(e));
    else
        n->state = CONNECTING;
}

static void ask_for_export(struct nbd *n)
{
    size_t name_len = strlen(n->target.name);
    put(n, MAGIC_OPTION, 8);
    put(n, OPT_GO, 4);
    put(n, 4 + name_len + 2 + 2, 4);
    put(n, name_len, 4);
    memcpy(n->out + n->out_len, n->target.name, name_len);
    n->out_len += name_len;
    put(n, 1, 2);
    put(n, INFO_BLOCK_SIZE, 2);
    n->state = OPTION;
    n->got_export = false;
    n->offered = (struct disk_info){ .block = DISK_SECTOR };
    n->max_block = 32 * MIB; /* what a server takes that does not say */
}

static void ask_for_tls(struct nbd *n)
{
    put(n, MAGIC_OPTION, 8);
    put(n, OPT_STARTTLS, 4);
    put(n, 0, 4);
    n->state = STARTTLS;
}

static size_t greeting(struct nbd *n, const uint8_t *p, size_t len)
{
    if (len < GREETING_LEN)
        return 0;
    unsigned flags = (unsigned)num(p + 16, 2);
    if (num(p, 8) != MAGIC_INIT || num(p + 8, 8) != MAGIC_OPTION || !(flags & FIXED_NEWSTYLE)) {
        broke(n, "its greeting is not that of a newstyle NBD server");
        return 0;
    }
    put(n, FIXED_NEWSTYLE | (flags & NO_ZEROES), 4);
    if (n->target.tls)
        ask_for_tls(n);
    else
        ask_for_export(n);
    return GREETING_LEN;
}

/* Its whole answer is in p[0..have); what comes behind it was not said by TLS, and whoever said it wants
 * us to take it for that. */
static void starttls_reply(struct nbd *n, uint32_t type, bool more)
{
    if (type & REP_ERROR) {
        down(n, "the server offers no TLS (NBD error %u), and this disk has a disk-fingerprint: set TLS up there",
             type & ~REP_ERROR);
    } else if (type != REP_ACK || more || n->out_pos < n->out_len) {
        broke(n, "its answer to NBD_OPT_STARTTLS");
    } else {
        enum hv_err e = stream_start_tls(n->stream, n->server, n->target.fingerprint);
        if (e)
            down(n, "TLS to the server cannot begin (%s): has this host a key and a certificate?", hv_err_text(e));
        else
            n->state = SECURING;
    }
}

static void refused(struct nbd *n, uint32_t type)
{
    uint32_t error = type & ~REP_ERROR;
    switch (error) {
    case ERR_UNKNOWN: down(n, "the server has no export named \"%s\"", n->target.name); break;
    case ERR_TLS_REQD:
        down(n, "the server wants TLS: give the guest the fingerprint of its certificate (disk-fingerprint)");
        break;
    case ERR_POLICY:   down(n, "the server forbids this client the export \"%s\"", n->target.name); break;
    case ERR_SHUTDOWN: down(n, "the server is shutting down"); break;
    case ERR_UNSUP:    down(n, "the server is too old: it does not know NBD_OPT_GO"); break;
    default:           down(n, "the server refuses the export \"%s\" (NBD error %u)", n->target.name, error); break;
    }
}

static void take_info(struct nbd *n, const uint8_t *p, uint32_t len)
{
    unsigned type = len >= 2 ? (unsigned)num(p, 2) : ~0u;
    if (type == INFO_EXPORT && len == 12) {
        unsigned flags = (unsigned)num(p + 10, 2);
        n->offered.bytes = num(p + 2, 8);
        n->offered.read_only = flags & READ_ONLY;
        n->offered.flush = flags & SEND_FLUSH;
        n->offered.discard = flags & SEND_TRIM;
        n->offered.zeroes = flags & SEND_WRITE_ZEROES;
        if (!(flags & HAS_FLAGS))
            n->offered.flush = n->offered.discard = n->offered.zeroes = false;
        n->got_export = true;
    } else if (type == INFO_BLOCK_SIZE && len == 14) {
        uint32_t min = (uint32_t)num(p + 2, 4);
        n->max_block = (uint32_t)num(p + 10, 4);
        n->offered.block = MAX(min, DISK_SECTOR);
        if (!min || (min & (min - 1)))
            broke(n, "a block size that is no power of two");
    } else if (type == INFO_EXPORT || type == INFO_BLOCK_SIZE || len < 2) {
        broke(n, "an NBD_REP_INFO of a wrong length");
    }
}

static void negotiated(struct nbd *n)
{
    struct disk *d = &n->disk;
    struct disk_info *i = &n->offered;
    if (!n->got_export) {
        broke(n, "it accepts the export without saying its size");
        return;
    }
    i->bytes -= i->bytes % i->block;
    if (i->block > DISK_BLOCK_MAX || n->max_block < DISK_LEN_MAX || !i->bytes || i->bytes > BIT64(62)) {
        down(n,
             "this export cannot be a guest's disk: %lu bytes, blocks of %u to %u bytes (up to %u and from %u are "
             "possible)",
             i->bytes, i->block, n->max_block, DISK_BLOCK_MAX, (unsigned)DISK_LEN_MAX);
        return;
    }
    if (d->known && !disk_fits(i, &d->info)) {
        down(n,
             "the export is not what it was (%lu bytes, was %lu; or it lost an ability): the guest waits for the old "
             "one",
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

static size_t option_reply(struct nbd *n, const uint8_t *p, size_t have)
{
    if (have < OPT_REPLY_LEN)
        return 0;
    uint32_t type = (uint32_t)num(p + 12, 4), len = (uint32_t)num(p + 16, 4),
             asked = n->state == STARTTLS ? OPT_STARTTLS : OPT_GO;
    if (num(p, 8) != MAGIC_REPLY || num(p + 8, 4) != asked || len > BUF_LEN - OPT_REPLY_LEN) {
        broke(n, "the answer to an option");
        return 0;
    }
    if (have < OPT_REPLY_LEN + len)
        return 0;
    if (n->state == STARTTLS)
        starttls_reply(n, type, have > OPT_REPLY_LEN + len);
    else if (type == REP_ACK)
        negotiated(n);
    else if (type == REP_INFO)
        take_info(n, p + OPT_REPLY_LEN, len);
    else if (type & REP_ERROR)
        refused(n, type);
    else
        broke(n, "an unknown answer to NBD_OPT_GO");
    return OPT_REPLY_LEN + len;
}

/* ---- replies ---- */

static void finish(struct nbd *n, struct slot *s, enum disk_status st)
{
    struct disk_req *r = s->r;
    s->state = FREE;
    n->backoff_us = RETRY_MIN_US; /* it does work, so a loss is worth a quick look */
    r->done(r, st);
}

static size_t reply(struct nbd *n, const uint8_t *p, size_t len)
{
    if (len < SIMPLE_LEN)
        return 0;
    uint32_t error = (uint32_t)num(p + 4, 4);
    uint64_t cookie = num(p + 8, 8);
    struct slot *s = &n->slot[cookie % SLOTS];
    if (num(p, 4) != MAGIC_SIMPLE) {
        broke(n, "a reply with a wrong magic number");
    } else if (s->state != SENT || s->serial != cookie) {
        broke(n, "a reply to no request");
    } else if (error == NBD_ESHUTDOWN) {
        down(n, "the server is shutting down");
    } else if (!error && s->r->op == DISK_READ) {
        n->reading = s;
        n->got = 0;
    } else {
        finish(n, s, !error ? DISK_OK : error == NBD_ENOTSUP ? DISK_UNSUPP : DISK_ERROR);
    }
    return SIMPLE_LEN;
}

static size_t read_data(struct nbd *n, const uint8_t *p, size_t have)
{
    struct slot *s = n->reading;
    size_t len = MIN(have, s->r->len - n->got);
    if (len)
        s->r->put(s->r, n->got, p, len);
    n->got += len;
    if (n->got == s->r->len) {
        n->reading = NULL;
        finish(n, s, DISK_OK);
    }
    return len;
}

/* One message, or piece of data, from the front of what came; 0: it is not whole yet. */
static size_t take_in(struct nbd *n, const uint8_t *p, size_t len)
{
    switch (n->state) {
    case GREETING:   return greeting(n, p, len);
    case STARTTLS:
    case OPTION:     return option_reply(n, p, len);
    case READY:      return n->reading ? read_data(n, p, len) : reply(n, p, len);
    case DOWN:
    case CONNECTING:
    case SECURING:   break;
    }
    return 0;
}

static bool receive(struct nbd *n)
{
    size_t total = 0, len;
    do {
        len = stream_read(n->stream, n->in + n->in_len, sizeof(n->in) - n->in_len);
        n->in_len += len;
        total += len;
        size_t at = 0, used;
        while ((used = take_in(n, n->in + at, n->in_len - at)))
            at += used;
        if (n->state == DOWN)
            return true; /* and nothing is left in the buffer */
        n->in_len -= at;
        memmove(n->in, n->in + at, n->in_len);
    } while (len && total < TURN_BYTES);
    return total > 0;
}

/* ---- requests ---- */

static bool may_send(const struct nbd *n, const struct slot *s)
{
    if (s->r->op != DISK_FLUSH)
        return true;
    for (const struct slot *o = n->slot; o < n->slot + SLOTS; o++)
        if (o->state != FREE && o->serial < s->serial && o->r->op != DISK_READ && o->r->op != DISK_FLUSH)
            return false;
    return true;
}

static struct slot *next_to_send(struct nbd *n)
{
    struct slot *best = NULL;
    for (struct slot *s = n->slot; s < n->slot + SLOTS; s++)
        if (s->state == QUEUED && (!best || s->serial < best->serial) && may_send(n, s))
            best = s;
    return best;
}

static void header(struct nbd *n, const struct slot *s)
{
    static const uint16_t command[] = { [DISK_READ] = CMD_READ,
                                        [DISK_WRITE] = CMD_WRITE,
                                        [DISK_FLUSH] = CMD_FLUSH,
                                        [DISK_DISCARD] = CMD_TRIM,
                                        [DISK_ZEROES] = CMD_WRITE_ZEROES };
    const struct disk_req *r = s->r;
    put(n, MAGIC_REQUEST, 4);
    put(n, r->op == DISK_ZEROES && !r->unmap ? CMD_FLAG_NO_HOLE : 0, 2);
    put(n, command[r->op], 2);
    put(n, s->serial, 8);
    put(n, r->offset, 8);
    put(n, r->len, 4);
}

/* The next piece of what is to be sent into the buffer, which is empty.  False: nothing. */
static bool fill(struct nbd *n)
{
    n->out_len = n->out_pos = 0;
    struct slot *s = n->sending;
    if (!s) {
        s = next_to_send(n);
        if (!s)
            return false;
        header(n, s);
        n->sent = 0;
        s->state = SENDING;
        n->sending = s;
    }
    struct disk_req *r = s->r;
    if (r->op == DISK_WRITE) {
        size_t len = MIN(BUF_LEN, r->len - n->sent);
        if (!r->get(r, n->sent, n->out + n->out_len, len)) {
            if (n->sent) { /* the server has half of it: make it forget that */
                down(n, "the guest reset its disk in the middle of a write");
                return false;
            }
            n->out_len = 0;
            n->sending = NULL;
            finish(n, s, DISK_ERROR);
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

static bool transmit(struct nbd *n)
{
    bool moved = false;
    for (;;) {
        size_t len = stream_write(n->stream, n->out + n->out_pos, n->out_len - n->out_pos);
        n->out_pos += len;
        moved |= len > 0;
        if (n->out_pos < n->out_len || n->state != READY || !fill(n))
            break;
    }
    if (moved && n->stream)
        stream_flush(n->stream);
    return moved;
}

static enum disk_status submit(struct disk *d, struct disk_req *r)
{
    struct nbd *n = nbd_of(d);
    struct slot *s;
    do
        s = &n->slot[++n->last_serial % SLOTS];
    while (s->state != FREE); /* ends: at most max_pending are taken */
    *s = (struct slot){ QUEUED, n->last_serial, clock_us(), r };
    return DISK_PENDING;
}

/* ---- the disk ---- */

static void note_oldest(struct nbd *n)
{
    uint64_t us = 0;
    for (const struct slot *s = n->slot; s < n->slot + SLOTS; s++)
        if (s->state != FREE && (!us || s->since_us < us))
            us = s->since_us;
    n->disk.oldest_us = us;
}

static bool talks(const struct nbd *n) { return n->state > CONNECTING && n->state != SECURING; }

static bool poll(struct disk *d)
{
    struct nbd *n = nbd_of(d);
    bool moved = false;
    if (n->state == DOWN)
        connect(n);
    if (n->state == CONNECTING && stream_status(n->stream) == STREAM_OPEN)
        n->state = GREETING;
    if (n->state == SECURING && stream_status(n->stream) == STREAM_OPEN)
        ask_for_export(n);
    if (talks(n))
        moved = receive(n);
    if (talks(n))
        moved |= transmit(n);
    if (n->state != DOWN && !moved)
        check_stream(n);
    note_oldest(n);
    return moved;
}

static void close(struct disk *d)
{
    struct nbd *n = nbd_of(d);
    /* between two requests: as the protocol wants it */
    if (n->state == READY && !n->sending && n->out_pos == n->out_len) {
        n->out_len = n->out_pos = 0;
        put(n, MAGIC_REQUEST, 4);
        put(n, CMD_DISC, 4); /* flags and command */
        put(n, 0, 8);
        put(n, 0, 8);
        put(n, 0, 4);
        (void)stream_write(n->stream, n->out, n->out_len);
        stream_close(n->stream);
    } else if (n->stream) {
        stream_abort(n->stream);
    }
    mem_free(n, sizeof(*n));
}

static const struct disk_ops ops = { .submit = submit, .poll = poll, .close = close };

enum hv_err nbd_open(const struct nbd_config *target, struct disk **out)
{
    struct nbd *n = mem_alloc(sizeof(*n));
    if (!n)
        return HV_FAIL(HV_E_NOMEM);
    struct disk *d = &n->disk;
    n->target = *target;
    n->backoff_us = RETRY_MIN_US;
    d->ops = &ops;
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
