/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_moves.c - many moves at once: what exceeds the destination's limits waits its turn and arrives.
 *
 * Both ends are real, from the list of jobs to the engine and the places of the destination.  Streams are pairs of
 * queues in this process; guests have memory that was never touched.  And boot files travel with a guest. */
/* unit-sources: kernel/peers/migration.c kernel/peers/migration_out.c kernel/peers/migration_in.c
 *   kernel/peers/rate.c kernel/peers/stream_io.c kernel/peers/choose_best.c kernel/peers/move_options.c
 *   kernel/config/config.c kernel/config/config_keys.c kernel/lib/json.c kernel/lib/text.c migrate/mig.c
 *   migrate/tx.c migrate/tx_pages.c migrate/rx.c migrate/ask.c migrate/wire.c migrate/hash.c migrate/batch.c
 *   migrate/policy.c kernel/lib/err.c kernel/vm/boot_files.c kernel/vm/boot_travel.c kernel/host/boot_info.c
 *   net/sha256.c tests/fakes/log.c tests/fakes/window.c */
/* unit-deps: lz4 bearssl */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/core/guest_mem.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/random.h"
#include "kernel/peers/evacuate.h"
#include "kernel/peers/migration_impl.h"
#include "kernel/peers/start.h"
#include "kernel/peers/stream_io.h"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/guest_console.h"
#include "kernel/vm/guest_net.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"
#include "migrate/ask.h"
#include "net/nbd.h"
#include "net/net.h"
#include "tests/fakes/window.h"

#define N_GUESTS 14
#define PIPE_CAP (1u << 20)

static struct config conf = {
    .host = { .name = "a", .outgoing = true, .incoming = true, .max_jobs = 16, .downtime_limit_ms = 300 },
    .peers = { { .name = "b" }, { .name = "a" } },
    .n_peers = 2
};
static struct vm here[N_GUESTS], there[N_GUESTS];
static uint64_t now;
static unsigned n_mute; /* so many next streams are closed by the destination without a word */
static unsigned n_arriving, most_arriving, n_accepted;
static struct nbd_config offered_disk; /* of each offer; port 0: none */
static bool peer_knows_boot = true;
static uint64_t promisable = GIB;
static bool mixed_peers; /* every other stream comes from another host */

/* ---- streams ---- */

struct stream {
    struct stream *other; /* NULL: closed there */
    enum stream_status status;
    const struct peer_config *peer;
    struct mig_fifo in;
};

static struct stream *stream_new(const struct peer_config *peer)
{
    struct stream *s = calloc(1, sizeof(*s));
    s->peer = peer;
    s->status = STREAM_OPEN;
    s->in = (struct mig_fifo){ .buf = malloc(PIPE_CAP), .cap = PIPE_CAP };
    return s;
}
/* A stream from host a to host b.  Returns a's end; b's is accepted, or closed. */
static struct stream *stream_pair(void)
{
    struct stream *a = stream_new(&conf.peers[0]), *b = stream_new(&conf.peers[mixed_peers && n_accepted % 2 ? 0 : 1]);
    a->other = b;
    b->other = a;
    n_accepted++;
    if (n_mute && n_mute--)
        stream_close(b);
    else
        migration_accept(b);
    return a;
}
void stream_close(struct stream *s)
{
    if (s->other) {
        s->other->other = NULL;
        s->other->status = STREAM_CLOSED;
    }
    free(s->in.buf);
    free(s);
}
enum stream_status stream_status(const struct stream *s) { return s->status; }
enum hv_err stream_error(const struct stream *s) { return s->status == STREAM_CLOSED ? HV_E_CLOSED : HV_OK; }
const char *stream_reason(const struct stream *s)
{
    (void)s;
    return "";
}
const struct peer_config *stream_peer(const struct stream *s) { return s->peer; }
void stream_flush(struct stream *s) { (void)s; }
uint64_t stream_wire_tx(const struct stream *s)
{
    (void)s;
    return 0;
}
size_t stream_read(struct stream *s, void *buf, size_t cap)
{
    size_t len;
    const uint8_t *p = mig_fifo_data(&s->in, &len);
    len = MIN(len, cap);
    memcpy(buf, p, len);
    if (len)
        mig_fifo_consume(&s->in, len);
    return len;
}
size_t stream_write(struct stream *s, const void *buf, size_t len)
{
    size_t room;
    if (!s->other)
        return 0;
    uint8_t *p = mig_fifo_space(&s->other->in, 1, &room);
    len = MIN(len, room);
    memcpy(p, buf, len);
    if (len)
        mig_fifo_commit(&s->other->in, len);
    return len;
}

void dial_begin(struct dial *d, const struct config *c, const struct peer_config *peer,
                const struct config_network *only)
{
    (void)c, (void)only;
    *d = (struct dial){ .peer = peer, .n = 1 };
}
enum dial_state dial_step(struct dial *d)
{
    d->stream = stream_pair();
    return DIAL_OPEN;
}
struct stream *dial_take(struct dial *d)
{
    struct stream *s = d->stream;
    d->stream = NULL;
    return s;
}
void dial_end(struct dial *d) { assert_null(d->stream); }
void dial_address(const struct dial *d, char *text, size_t len)
{
    (void)d;
    snprintf(text, len, "10.7.0.2");
}
unsigned dial_order(const struct config *c, const struct peer_config *peer, const struct config_network *only,
                    uint8_t ip[CONFIG_MAX_ADDRESSES][4])
{
    (void)c, (void)peer, (void)only, (void)ip;
    return 1;
}

/* ---- choosing: b is the only peer that answers ---- */

enum hv_err choose_begin(struct choice *c, const struct vm *vm)
{
    (void)c, (void)vm;
    return HV_OK;
}
enum choose_state choose_step(struct choice *c, uint32_t busy, const struct peer_config **peer, struct why *why)
{
    why_say(why, "the test says so");
    *peer = &conf.peers[0];
    return c->tried & 1 ? CHOOSE_NONE : busy & 1 ? CHOOSE_LATER : CHOOSE_DONE;
}
void choose_end(struct choice *c) { (void)c; }
void choose_tried(struct choice *c, const struct peer_config *peer, const char *reason)
{
    (void)peer;
    c->tried |= 1;
    snprintf(c->reasons, sizeof(c->reasons), "%s", reason);
}

/* ---- guests and the machine ---- */

uint64_t clock_us(void) { return now; }
uint64_t tsc_read(void) { return now; }
void random_bytes(void *buf, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)buf)[i] = (uint8_t)rand();
}
void *mem_alloc(size_t len) { return calloc(1, len); }
void mem_free(void *p, size_t len)
{
    (void)len;
    free(p);
}
bool evacuate_keeps_out(void) { return false; }
const char *vm_state_name(enum vm_state s) { return s == VM_RUNNING ? "running" : "other"; }
struct vm *vm_find(const char *name) { return &here[atoi(name + 1)]; }
struct vm *vm_at(unsigned i) { return i < N_GUESTS ? &here[i] : NULL; }
bool vm_pause(struct vm *vm)
{
    atomic_store(&vm->state, VM_PAUSED);
    return true;
}
void vm_resume(struct vm *vm)
{
    n_arriving -= vm >= there && vm < there + N_GUESTS;
    atomic_store(&vm->state, vm->operator_paused ? VM_PAUSED : VM_RUNNING);
}
void vm_stop(struct vm *vm)
{
    n_arriving -= vm_state(vm) == VM_INCOMING;
    atomic_store(&vm->state, VM_STOPPED);
}
void vm_left(struct vm *vm) { vm_stop(vm); }
void vm_incoming_drop(struct vm *vm) { vm_stop(vm); }
enum hv_err vm_incoming_create(const struct vm_offer *offer, struct disk *disk[CONFIG_MAX_DISKS], struct boot_set *boot,
                               struct vm **out, struct why *why)
{
    (void)why;
    memset(disk, 0, CONFIG_MAX_DISKS * sizeof(disk[0]));
    *out = &there[atoi(offer->config.name + 1)];
    (*out)->boot = *boot;
    *boot = (struct boot_set){ 0 };
    atomic_store(&(*out)->state, VM_INCOMING);
    (*out)->mem.n_gfns = 16;
    (*out)->operator_paused = offer->paused;
    n_arriving++;
    most_arriving = MAX(most_arriving, n_arriving);
    return HV_OK;
}
void vm_incoming_check(const struct vm_offer *offer, reason_fn *add, void *ctx) { (void)offer, (void)add, (void)ctx; }
unsigned vm_offer_check(const struct vm_offer *o, uint64_t free_bytes, reason_fn *add, void *ctx)
{
    if (o->boot_bytes > free_bytes)
        add(ctx, "too large");
    return 0;
}
const char *vm_disk_stays(const struct vm *vm, char *text, size_t len)
{
    (void)vm, (void)text, (void)len;
    return NULL;
}
uint64_t vm_memory_promisable(void) { return promisable; }
size_t vm_state_max(const struct vm *vm) { return vm ? 1000 : 0; }
enum hv_err vm_offer_write(const struct vm *vm, const struct vm_knows *k, uint8_t *buf, size_t cap, size_t *len)
{
    (void)k;
    *len = (size_t)snprintf((char *)buf, cap, "%s%s", vm->config.name, vm->operator_paused ? " paused" : "") + 1;
    return HV_OK;
}
enum hv_err vm_offer_parse(const uint8_t *buf, size_t len, struct vm_offer *o, struct why *why)
{
    (void)why;
    memset(o, 0, sizeof(*o));
    snprintf(o->config.name, sizeof(o->config.name), "%.*s", (int)len, (const char *)buf);
    o->paused = strchr(o->config.name, ' ');
    o->config.name[strcspn(o->config.name, " ")] = 0;
    o->config.n_disks = offered_disk.port != 0;
    o->config.disk[0] = (struct disk_config){ .kind = DISK_ON_NBD, .nbd = offered_disk };
    o->disk[0] = (struct disk_info){ .bytes = 8 * MIB, .block = 512 };
    const struct boot_set *set = &here[atoi(o->config.name + 1)].boot;
    for (unsigned i = 0; peer_knows_boot && i < set->n; i++) {
        assert_true(set->file[i]->hashed);
        o->file[i].len = set->file[i]->len;
        memcpy(o->file[i].sha256, set->file[i]->sha256, SHA256_LEN);
        o->n_files++;
        o->n_boot_pages = set->n_pages;
    }
    return HV_OK;
}
bool vm_offer_note(const struct vm_offer *o, char *text, size_t len)
{
    (void)o, (void)text, (void)len;
    return false;
}
unsigned vm_state_missing(const struct vm_offer *o, reason_fn *add, void *ctx)
{
    (void)o, (void)add, (void)ctx;
    return 0;
}
void vm_knows_here(struct vm_knows *k) { memset(k, 0, sizeof(*k)); }
size_t vm_knows_write(const struct vm_knows *k, uint8_t *buf, size_t cap)
{
    (void)k, (void)cap;
    buf[0] = 'k';
    return 1;
}
enum hv_err vm_knows_parse(struct vm_knows *k, const uint8_t *buf, size_t len)
{
    (void)k;
    return len == 1 && buf[0] == 'k' ? HV_OK : HV_E_PROTO;
}
unsigned vm_knows_version(const struct vm_knows *k, uint16_t id, unsigned newest)
{
    (void)k;
    return id == OFFER_FIELD_BOOT && peer_knows_boot ? newest : 0;
}
enum hv_err vm_knows_check(const struct vm_knows *k, const struct vm *vm, struct why *why)
{
    (void)k, (void)vm, (void)why;
    return HV_OK;
}
enum hv_err vm_state_save(struct vm *vm, const struct vm_knows *k, uint8_t *buf, size_t cap, size_t *len,
                          struct why *why)
{
    (void)vm, (void)k, (void)cap, (void)why;
    memcpy(buf, "state", *len = 5);
    return HV_OK;
}
enum hv_err vm_state_load(struct vm *vm, const uint8_t *buf, size_t len, struct why *why)
{
    (void)vm, (void)buf, (void)len, (void)why;
    return HV_OK;
}
bool vm_disk_waiting(const struct vm *vm, char *text, size_t len)
{
    (void)vm, (void)len;
    text[0] = 0;
    return false;
}
bool vm_disk_quiesce(struct vm *vm) { return vm; }
void vm_disk_unquiesce(struct vm *vm) { (void)vm; }
const char *vm_disk_quiesce_error(const struct vm *vm)
{
    (void)vm;
    return NULL;
}
void guest_net_hold(const struct vm *vm) { assert_false(vm->operator_paused); }
size_t guest_net_take(const struct vm *vm, void *buf, size_t cap)
{
    (void)vm, (void)buf, (void)cap;
    return 0;
}
void guest_net_deliver(struct vm *vm, const uint8_t *frame, size_t len) { (void)vm, (void)frame, (void)len; }
/* What a guest prints is its number of bytes so far. */
static uint64_t printed[N_GUESTS], history[N_GUESTS];
static bool sealed[N_GUESTS], no_console;
size_t guest_console_read(const struct vm *vm, uint64_t *at, char *buf, size_t cap)
{
    size_t n = MIN(cap, printed[vm - here] - *at);
    memset(buf, 'x', n);
    *at += n;
    return n;
}
void guest_console_collect(struct vm *vm) { assert_false(sealed[vm - here]); }
void guest_console_seal(const struct vm *vm, bool on) { sealed[vm - here] = on; }
bool guest_console_arrives(const struct vm *vm)
{
    history[vm - there] = 0;
    return !no_console;
}
void guest_console_history(const struct vm *vm, uint64_t at, const void *p, size_t len)
{
    (void)p;
    assert_int_equal(at, history[vm - there]);
    history[vm - there] = at + len;
}
void guest_console_arrived(const struct vm *vm, bool is_here)
{
    if (is_here)
        assert_int_equal(history[vm - there], printed[vm - there]);
}
void guest_time_catch_up(struct vm *vm, uint64_t us, uint64_t t) { (void)vm, (void)us, (void)t; }
void net_announce_mac(const uint8_t mac[6]) { (void)mac; }
static unsigned n_disks;         /* open connections to the server */
static uint64_t disk_bytes;      /* of the export now; 0: no memory */
static unsigned disk_poll_until; /* calls of poll() until the server answers */

static bool disk_poll(struct disk *d)
{
    d->known = !disk_poll_until || !--disk_poll_until;
    return false;
}
static void disk_close(struct disk *d)
{
    n_disks--;
    free(d);
}
enum hv_err nbd_open(const struct nbd_config *c, struct disk **out)
{
    static const struct disk_ops ops = { .poll = disk_poll, .close = disk_close };
    (void)c;
    if (!disk_bytes)
        return HV_E_NOMEM;
    *out = calloc(1, sizeof(**out));
    (*out)->ops = &ops;
    (*out)->info = (struct disk_info){ .bytes = disk_bytes, .block = 512 };
    snprintf((*out)->name, sizeof((*out)->name), "nbd:web");
    n_disks++;
    return HV_OK;
}
struct vcpu_latency vcpu_latency_max(struct vm *vm, bool reset)
{
    (void)vm, (void)reset;
    return (struct vcpu_latency){ 0, 0 };
}
const void *guest_page(const struct vm *vm, uint64_t gfn)
{
    (void)vm, (void)gfn;
    return NULL;
}
void *guest_page_for_write(struct vm *vm, uint64_t gfn)
{
    (void)vm, (void)gfn;
    return NULL;
}
enum hv_err guest_mem_fault(struct vm *vm, gpa_t a, bool write)
{
    (void)vm, (void)a, (void)write;
    return HV_OK;
}
enum hv_err dirty_start(struct vm *vm, enum dirty_mech m)
{
    (void)vm, (void)m;
    return HV_OK;
}
uint64_t dirty_harvest(struct vm *vm, uint64_t *bitmap)
{
    (void)vm, (void)bitmap;
    return 0;
}
void dirty_stop(struct vm *vm) { (void)vm; }
enum mig_find start_find(const char *name, const uint8_t *mac, const char *asker, struct mig_id *ticket,
                         struct why *why)
{
    (void)name, (void)mac, (void)asker, (void)ticket;
    why_say(why, "not here");
    return MIG_F_NONE;
}

/* ---- the tests ---- */

static const struct job *jobs[N_GUESTS];

static int set_up(void **s)
{
    static bool once;
    (void)s;
    host_config = &conf;
    if (!once)
        migration_init();
    once = true;
    now += 3600000000ul; /* lingering streams end */
    for (unsigned i = 0; i < 20; i++)
        migration_step();
    n_arriving = most_arriving = 0;
    memset(sealed, 0, sizeof(sealed));
    for (unsigned i = 0; i < N_GUESTS; i++) {
        boot_set_drop(&there[i].boot);
        memset(&here[i], 0, sizeof(here[i]));
        memset(&there[i], 0, sizeof(there[i]));
        snprintf(here[i].config.name, sizeof(here[i].config.name), "g%u", i);
        here[i].mem.n_gfns = 16;
        printed[i] = 6000 * i;
        atomic_store(&here[i].state, VM_RUNNING);
    }
    return 0;
}

static void request_all(const struct peer_config *peer)
{
    struct move_options o;
    char why[200];
    migration_options(&o);
    for (unsigned i = 0; i < N_GUESTS; i++)
        assert_int_equal(migration_request(&here[i], peer, &o, "client me", &jobs[i], WHY(why)), HV_OK);
}

static unsigned moved(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < N_GUESTS; i++) {
        assert_int_not_equal(jobs[i]->state, JOB_FAILED);
        if (jobs[i]->state != JOB_DONE)
            continue;
        n++;
        assert_true(vm_state(&there[i]) == VM_RUNNING && vm_state(&here[i]) == VM_STOPPED);
    }
    return n;
}

static void run_until_moved(uint64_t limit_us)
{
    for (uint64_t end = now + limit_us; moved() < N_GUESTS; now += 1000) {
        assert_true(now < end);
        migration_step();
    }
}

static uint64_t counted(const struct histogram *h)
{
    uint64_t n = 0;
    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
        n += h->n[i];
    return n;
}

/* A named peer, and one that is chosen: all arrive, never more at once than the destination takes. */
static void test_all_arrive(void **s)
{
    (void)s;
    struct migration_counts before = migration_counts();
    request_all(&conf.peers[0]);
    assert_int_equal(migration_counts().active, N_GUESTS);
    assert_int_equal(migration_counts().queued + migration_counts().running, N_GUESTS);
    run_until_moved(60 * 1000000ul);
    assert_in_range(most_arriving, 1, 6);
    struct migration_counts c = migration_counts();
    uint64_t blackouts = 0;
    for (unsigned i = 0; i < N_GUESTS; i++)
        blackouts += jobs[i]->stats.blackout.total;
    assert_int_equal(c.active + c.queued + c.running + c.in_doubt, 0);
    assert_int_equal(c.moved - before.moved, N_GUESTS);
    assert_int_equal(counted(&c.blackout) - counted(&before.blackout), N_GUESTS);
    assert_int_equal(counted(&c.duration) - counted(&before.duration), N_GUESTS);
    assert_int_equal(c.blackout.sum_us - before.blackout.sum_us, blackouts);
}
static void test_all_arrive_auto(void **s)
{
    (void)s;
    request_all(NULL);
    run_until_moved(60 * 1000000ul);
    assert_in_range(most_arriving, 1, 6);
}
/* Several hosts that fill one. */
static void test_two_hosts(void **s)
{
    (void)s;
    mixed_peers = true;
    request_all(NULL);
    run_until_moved(60 * 1000000ul);
    mixed_peers = false;
    assert_in_range(most_arriving, 1, 8);
}

/* An older destination closes what exceeds its limit; one that always does is given up, with a reason. */
static void test_without_a_word(void **s)
{
    (void)s;
    n_mute = 5;
    request_all(&conf.peers[0]);
    run_until_moved(120 * 1000000ul);
    set_up(NULL);
    n_mute = UINT32_MAX;
    struct move_options o;
    char why[200];
    migration_options(&o);
    assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "client me", &jobs[0], WHY(why)), HV_OK);
    for (unsigned i = 0; i < 2000000 && !migration_job_over(jobs[0]); i++, now += 1000)
        migration_step();
    n_mute = 0;
    assert_int_equal(jobs[0]->state, JOB_FAILED);
    assert_true(strstr(jobs[0]->text, "connection closed") && vm_state(&here[0]) == VM_RUNNING);
}

/* A peer does not choose the servers that this host connects to. */
static void test_disk_servers(void **s)
{
    static const char *const reasons[] = { "its disk is on server 10.7.0.9, which host a does not use",
                                           "no memory for the connection to its disk" }; /* nbd_open() was called */
    struct move_options o;
    char why[200];
    (void)s;
    offered_disk = (struct nbd_config){ .ip = { 10, 7, 0, 9 }, .port = 10809 };
    migration_options(&o);
    for (unsigned allowed = 0; allowed < 2; allowed++) {
        set_up(NULL);
        conf.host.disk_servers[0] = (struct config_network){ { 10, 7, 0, 0 }, 24 };
        conf.host.n_disk_servers = allowed;
        assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "client me", &jobs[0], WHY(why)), HV_OK);
        for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[0]); i++, now += 1000)
            migration_step();
        assert_int_equal(jobs[0]->state, JOB_FAILED);
        assert_non_null(strstr(jobs[0]->text, reasons[allowed]));
    }
    conf.host.n_disk_servers = 0;
    offered_disk.port = 0;
}

/* A guest that an operator paused moves in one round, whatever the downtime limit, and arrives paused.  Cancelled, it
 * stays paused.  One that waits for its disk does not move. */
static void test_paused(void **s)
{
    struct move_options o;
    char why[200];
    (void)s;
    migration_options(&o);
    o.downtime_limit_ms = 1;
    atomic_store(&here[0].state, VM_PAUSED);
    assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "a test", &jobs[0], WHY(why)), HV_E_BUSY);
    assert_string_equal(why, "g0 is other; only a guest that runs, or that an operator paused, can be moved, once at a "
                             "time");
    here[0].operator_paused = true;
    assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "a test", &jobs[0], WHY(why)), HV_OK);
    for (unsigned i = 0; i < 100 && strcmp(jobs[0]->stats.phase, "PRECOPY"); i++, now += 1000)
        migration_step();
    assert_int_equal(migration_cancel("g0", "the test"), HV_OK);
    assert_int_equal(vm_state(&here[0]), VM_PAUSED);
    assert_int_equal(jobs[0]->state, JOB_FAILED);
    for (unsigned live = 0; live < 2; live++) {
        set_up(NULL);
        atomic_store(&here[0].state, VM_PAUSED);
        here[0].operator_paused = true;
        o.live = live;
        assert_int_equal(migration_request(&here[0], NULL, &o, "a test", &jobs[0], WHY(why)), HV_OK);
        for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[0]); i++, now += 50000)
            migration_step();
        assert_int_equal(jobs[0]->state, JOB_DONE);
        assert_int_equal(jobs[0]->stats.n_rounds, live);
        assert_true(vm_state(&there[0]) == VM_PAUSED && vm_state(&here[0]) == VM_STOPPED);
    }
}

/* A destination without memory for what the guest has printed says so before the first page; and no key is typed into
 * a state that is on its way. */
static void test_console(void **s)
{
    struct move_options o;
    char why[200];
    (void)s;
    migration_options(&o);
    no_console = true;
    assert_int_equal(migration_request(&here[3], &conf.peers[0], &o, "a test", &jobs[3], WHY(why)), HV_OK);
    for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[3]); i++, now += 1000)
        migration_step();
    no_console = false;
    assert_int_equal(jobs[3]->state, JOB_FAILED);
    assert_string_equal(jobs[3]->text, "no memory for the guest's console output");
    assert_false(sealed[3]);
    assert_int_equal(migration_request(&here[3], &conf.peers[0], &o, "a test", &jobs[3], WHY(why)), HV_OK);
    for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[3]); i++, now += 1000)
        migration_step();
    assert_int_equal(jobs[3]->state, JOB_DONE);
    assert_true(sealed[3]);
}

/* A stream with a question of host a; b's answer, or "" if there is none against it. */
static const char *probe(struct vm *vm)
{
    struct mig_ask *m;
    struct stream *q = stream_pair();
    struct mig_mem mem = { mem_alloc, mem_free };
    static struct mig_answer answer;
    const char *name = vm->config.name;
    enum hv_err e = HV_E_AGAIN;
    size_t len;
    bool put = false;
    assert_int_equal(mig_ask_create(&mem, now, &m), HV_OK);
    for (unsigned i = 0; i < 100000 && e == HV_E_AGAIN; i++, now += 1000) {
        migration_step();
        stream_pump_out(mig_ask_io(m), q, false);
        stream_pump_in(mig_ask_io(m), q);
        if (!put && mig_ask_knows(m, &len)) {
            assert_int_equal(mig_ask_probe(m, name, 16, name, strlen(name) + 1, now), HV_OK);
            put = true;
        }
        e = mig_ask_step(m, now, &answer);
    }
    assert_int_equal(e, HV_OK);
    stream_close(q);
    mig_ask_destroy(m);
    return answer.n_reasons ? answer.text : "";
}

/* Validation looks at the disk as admission does: one that cannot be opened, or has shrunk, is a reason against the
 * move.  One that has grown is none. */
static void test_disk_at_validation(void **s)
{
    (void)s;
    offered_disk = (struct nbd_config){ .ip = { 10, 7, 0, 9 }, .port = 10809 };
    assert_non_null(strstr(probe(&here[0]), "its disk is on server 10.7.0.9, which host a does not use"));
    conf.host.disk_servers[0] = (struct config_network){ { 10, 7, 0, 0 }, 24 };
    conf.host.n_disk_servers = 1;
    assert_non_null(strstr(probe(&here[0]), "no memory for the connection to its disk"));
    static const struct {
        uint64_t bytes;
        const char *want;
    } rows[] = { { 8 * MIB, "" },
                 { 8 * MIB + 512, "" },
                 { 8 * MIB - 512, "its disk nbd:web has 8388096 bytes as host a sees it and 8388608 at the source" } };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        disk_bytes = rows[i].bytes;
        disk_poll_until = 50;
        const char *said = probe(&here[0]);
        assert_true(rows[i].want[0] ? strstr(said, rows[i].want) != NULL : !said[0]);
        assert_int_equal(n_disks, 0);
    }
    disk_poll_until = UINT32_MAX; /* a server that does not answer */
    assert_non_null(strstr(probe(&here[0]), "its disk nbd:web cannot be opened from host a"));
    assert_int_equal(n_disks, 0);
    disk_bytes = disk_poll_until = conf.host.n_disk_servers = 0;
    offered_disk.port = 0;
}

/* While all places of arrivals are taken, a question is answered; and a job that waits says for what. */
static void test_question_while_busy(void **s)
{
    (void)s;
    struct mig_ask *m = NULL;
    struct stream *q = NULL;
    struct mig_mem mem = { mem_alloc, mem_free };
    static struct mig_answer answer;
    enum hv_err e = HV_E_AGAIN;
    bool said = false;
    request_all(&conf.peers[0]);
    for (unsigned i = 0; (moved() < N_GUESTS || (q && e)) && i < 100000; i++, now += 1000) {
        migration_step();
        if (!q && n_arriving == 6) {
            q = stream_pair();
            assert_int_equal(mig_ask_create(&mem, now, &m), HV_OK);
            assert_int_equal(mig_ask_find(m, "g1", &(struct mig_id){ { 1 } }, now), HV_OK);
        }
        for (unsigned k = 0; k < N_GUESTS; k++)
            said |= jobs[k]->state == JOB_QUEUED && strstr(jobs[k]->text, "busy");
        if (!q || e != HV_E_AGAIN)
            continue;
        stream_pump_out(mig_ask_io(m), q, false);
        stream_pump_in(mig_ask_io(m), q);
        e = mig_ask_step(m, now, &answer);
        if (e == HV_E_BUSY) { /* a move was about to be told the same: ask again, as ask.c does */
            stream_close(q);
            mig_ask_destroy(m);
            q = NULL;
            e = HV_E_AGAIN;
        }
    }
    assert_true(said);
    assert_int_equal(e, HV_OK);
    assert_string_equal(answer.text, "not here");
    stream_close(q);
    mig_ask_destroy(m);
}

/* A job that waits for a busy peer is cancelled like any other. */
static void test_cancel_while_waiting(void **s)
{
    (void)s;
    unsigned n_waiting = 0;
    struct move_options o;
    char why[200];
    request_all(NULL);
    assert_int_equal(migration_cancel("g0", "the test"), HV_OK);
    for (unsigned i = 0; i < 30 && !n_waiting; i++, now += 1000) {
        migration_step();
        for (unsigned k = 0; k < N_GUESTS; k++)
            n_waiting += jobs[k]->state == JOB_QUEUED && jobs[k]->text[0];
    }
    migration_options(&o); /* one that is new: the peer is known to be busy, and is not even asked */
    assert_int_equal(migration_request(&here[0], NULL, &o, "client me", &jobs[0], WHY(why)), HV_OK);
    for (unsigned i = 0; i < 2; i++)
        migration_step();
    assert_true(jobs[0]->state == JOB_QUEUED && strstr(jobs[0]->text, "has no place for one more move now"));
    assert_true(n_waiting > 0);
    for (unsigned i = 0; i < N_GUESTS; i++)
        if (!migration_job_over(jobs[i]))
            (void)!migration_cancel(here[i].config.name, "the test");
    for (unsigned i = 0; i < N_GUESTS; i++)
        assert_true(migration_job_over(jobs[i]));
}

/* Limits of a move that has not ended: taken until they cannot matter any more. */
static void test_limits(void **s)
{
    (void)s;
    struct move_options o, other;
    char why[200];
    bool early = false, stopped = false, committed = false;
    migration_options(&o);
    assert_int_equal(migration_limits_set("g0", &o, WHY(why)), HV_E_NOENT);
    assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "client me", &jobs[0], WHY(why)), HV_OK);
    const struct outgoing *out = container_of(jobs[0], struct outgoing, job);
    for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[0]); i++, now += 1000) {
        enum mig_tx_state state = out->m ? mig_tx_state(out->m) : MIG_TX_HELLO;
        other = jobs[0]->options;
        other.bandwidth_limit_mb = 1000 + i;
        assert_int_equal(migration_limits_set("g0", &other, WHY(why)), state == MIG_TX_IN_DOUBT ? HV_E_BUSY : HV_OK);
        assert_true(state == MIG_TX_IN_DOUBT || jobs[0]->options.bandwidth_limit_mb == 1000 + i);
        other.downtime_limit_ms++;
        enum hv_err e = migration_limits_set("g0", &other, WHY(why));
        if (state <= MIG_TX_STOPPING) {
            early = true;
            assert_true(e == HV_OK && jobs[0]->options.downtime_limit_ms == other.downtime_limit_ms);
        } else {
            stopped |= strstr(why, "too late: g0 is stopped already") != NULL;
            committed |= strstr(why, "too late: g0 may run on") != NULL;
            assert_true(e == HV_E_BUSY && jobs[0]->options.downtime_limit_ms == other.downtime_limit_ms - 1);
        }
        migration_step();
    }
    assert_true(early && stopped && committed);
    assert_int_equal(jobs[0]->state, JOB_DONE);
    o.live = false;
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "client me", &jobs[1], WHY(why)), HV_OK);
    o.bandwidth_limit_mb = 5;
    assert_int_equal(migration_limits_set("g1", &o, WHY(why)), HV_OK);
    o.downtime_limit_ms++;
    assert_int_equal(migration_limits_set("g1", &o, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "no downtime to limit"));
    assert_int_equal(migration_cancel("g1", "the test"), HV_OK);
}

/* Two files at the source; the second is at the destination as well. */
static void boot_of(struct vm *vm)
{
    static uint8_t kernel[3 * MIB + 5000];
    static struct boot_info bi;
    static struct boot_blob files[2];
    for (size_t i = 0; i < sizeof(kernel); i++)
        kernel[i] = (uint8_t)(i >> 12 | rand() % 3);
    bi = (struct boot_info){ .n_files = 1 };
    bi.files[0] = (struct boot_file){ .name = "other", .base = (uintptr_t)"initrd", .len = 6 };
    boot_files_init(&bi);
    files[0] = (struct boot_blob){ .data = kernel, .len = sizeof(kernel) };
    files[1] = (struct boot_blob){ .data = (const uint8_t *)"initrd", .len = 6 };
    vm->boot = (struct boot_set){ .n = 2,
                                  .n_pages = DIV_ROUND_UP(sizeof(kernel), PAGE_SIZE) + 1,
                                  .file = { &files[0], &files[1] } };
}

static const struct job *move_on(void)
{
    struct move_options o;
    char why[200];
    migration_options(&o);
    assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "client me", &jobs[0], WHY(why)), HV_OK);
    for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[0]); i++, now += 1000)
        migration_step();
    return jobs[0];
}

static const struct job *move_one(void)
{
    boot_of(&here[0]);
    return move_on();
}

/* The destination has the bytes that the guest was started from, and only those that it had not were sent. */
static void test_boot_files_travel(void **s)
{
    bool damaged = true;
    (void)s;
    assert_int_equal(move_one()->state, JOB_DONE);
    assert_string_equal(jobs[0]->note, "");
    const struct boot_set *to = &there[0].boot, *from = &here[0].boot;
    assert_int_equal(to->n, 2);
    assert_int_equal(boot_set_have(to), 2);
    while (!boot_set_check_step(&there[0].boot, &damaged)) {}
    assert_false(damaged);
    assert_ptr_not_equal(to->file[0]->data, from->file[0]->data);
    assert_memory_equal(to->file[0]->data, from->file[0]->data, from->file[0]->len);
    assert_memory_equal(to->file[1]->data, "initrd", 6);
    const struct mig_pages *sent = &jobs[0]->stats.pages;
    assert_int_equal(sent->full_lz4 + sent->full_raw + sent->delta, DIV_ROUND_UP(from->file[0]->len, PAGE_SIZE));
}

/* Without memory for them the guest is refused before it is admitted, and nothing stays allocated. */
static void test_no_room_for_boot_files(void **s)
{
    (void)s;
    promisable = 2 * MIB;
    assert_int_equal(move_one()->state, JOB_FAILED);
    promisable = GIB;
    assert_non_null(strstr(jobs[0]->text, "too large"));
    set_up(NULL);
    fake_window_blocks = 1;
    assert_int_equal(move_one()->state, JOB_FAILED);
    fake_window_blocks = -1;
    assert_non_null(strstr(jobs[0]->text, "no memory on host a for the guest's boot files"));
    set_up(NULL);
    boot_of(&here[0]);
    here[0].boot.file[0]->len = 2 * GIB;
    here[0].boot.file[0]->hashed = true; /* as it says */
    assert_int_equal(move_on()->state, JOB_FAILED);
    assert_non_null(strstr(jobs[0]->text, "the guest's boot files have 2048 MiB"));
    set_up(NULL);
    assert_int_equal(fake_windows_open, 0);
}

/* A destination of the previous release gets the guest without them, and its operator a note. */
static void test_older_destination(void **s)
{
    (void)s;
    peer_knows_boot = false;
    assert_int_equal(move_one()->state, JOB_DONE);
    peer_knows_boot = true;
    assert_int_equal(there[0].boot.n, 0);
    assert_non_null(strstr(jobs[0]->note, "it is stopped when it resets itself"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_all_arrive, set_up),
        cmocka_unit_test_setup(test_all_arrive_auto, set_up),
        cmocka_unit_test_setup(test_two_hosts, set_up),
        cmocka_unit_test_setup(test_without_a_word, set_up),
        cmocka_unit_test_setup(test_disk_servers, set_up),
        cmocka_unit_test_setup(test_paused, set_up),
        cmocka_unit_test_setup(test_console, set_up),
        cmocka_unit_test_setup(test_disk_at_validation, set_up),
        cmocka_unit_test_setup(test_question_while_busy, set_up),
        cmocka_unit_test_setup(test_cancel_while_waiting, set_up),
        cmocka_unit_test_setup(test_limits, set_up),
        cmocka_unit_test_setup(test_boot_files_travel, set_up),
        cmocka_unit_test_setup(test_no_room_for_boot_files, set_up),
        cmocka_unit_test_setup(test_older_destination, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
