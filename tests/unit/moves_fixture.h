/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/moves_fixture.h - moves in one process, for test_moves.c and test_move_recorded.c.
 *
 * Both ends are real, from the list of jobs to the engine and the places of the destination.  Streams are pairs of
 * queues; guests have memory that was never touched. */
#ifndef GODWIT_TESTS_MOVES_FIXTURE_H
#define GODWIT_TESTS_MOVES_FIXTURE_H

#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/core/guest_mem.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/random.h"
#include "kernel/peers/arrive_disks.h"
#include "kernel/peers/checkpoint.h"
#include "kernel/peers/evacuate.h"
#include "kernel/peers/migration_impl.h"
#include "kernel/peers/start.h"
#include "kernel/peers/stream_io.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/saved.h"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/guest_console.h"
#include "kernel/vm/guest_net.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"
#include "migrate/ask.h"
#include "net/nbd.h"
#include "net/net.h"
#include "tests/fakes/registry.h"
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
static const char *offered_lv;         /* a volume of vg0 as its disk; NULL: none */
static bool peer_knows_boot = true, peer_records;
static uint64_t promisable = GIB;
static bool mixed_peers;            /* every other stream comes from another host */
static bool b_is_empty, b_is_asked; /* b does not know a's guests */
static enum hv_err files_error;
static unsigned files_steps, n_files_left; /* calls until a stopped guest's files are found; given back */
static enum start_state starting;
static const struct cpu_ops some_cpu;
const struct cpu_ops *cpu_ops = &some_cpu;

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
size_t stream_unsent(const struct stream *s)
{
    (void)s;
    return 0;
}
uint64_t stream_rtt_us(const struct stream *s)
{
    (void)s;
    return 1000;
}
uint64_t stream_wire_tx(const struct stream *s)
{
    (void)s;
    return 0;
}
size_t stream_read(struct stream *s, void *buf, size_t cap)
{
    size_t len;
    const uint8_t *p = mig_fifo_data(&s->in, &len);
    b_is_asked = b_is_empty && s->peer == &conf.peers[1];
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

enum hv_err choose_begin(struct choice *c, const struct vm *vm, const struct move_options *o)
{
    (void)c, (void)vm, (void)o;
    return HV_OK;
}
enum choose_state choose_step(struct choice *c, uint64_t busy, const struct peer_config **peer, struct why *why)
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
/* A host with little memory: of allocations of just mem_scarce bytes there can be mem_left more. */
static size_t mem_scarce;
static unsigned mem_left;
void *mem_alloc(size_t len)
{
    if (len == mem_scarce && !mem_left)
        return NULL;
    mem_left -= len == mem_scarce;
    void *p = len < PAGE_SIZE ? calloc(1, len) : aligned_alloc(PAGE_SIZE, ALIGN_UP(len, PAGE_SIZE));
    return memset(p, 0, len);
}
void mem_free(void *p, size_t len)
{
    mem_left += p && len == mem_scarce;
    free(p);
}
bool evacuate_keeps_out(void) { return false; }
const char *vm_state_name(enum vm_state s) { return s == VM_RUNNING ? "running" : "other"; }
/* The first question after b's end of a stream was read is b's, which knows no guest. */
struct vm *vm_find(const char *name)
{
    bool is_b = b_is_asked;
    b_is_asked = false;
    return is_b ? NULL : &here[atoi(name + 1)];
}
unsigned vm_slots(void) { return N_GUESTS; }
struct vm *vm_at(unsigned i) { return i < N_GUESTS ? &here[i] : NULL; }
static bool resets_at_pause;
bool vm_pause(struct vm *vm)
{
    if (resets_at_pause)
        atomic_store(&vm->power_request, VM_POWER_RESET);
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
struct start_status start_status(const struct vm *vm)
{
    (void)vm;
    return (struct start_status){ starting, HV_OK, "" };
}
void vm_incoming_rest(struct vm *vm)
{
    assert_int_equal(vm_state(vm), VM_INCOMING);
    vm_stop(vm);
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

enum hv_err vm_files_get(struct vm *vm, struct why *why)
{
    assert_int_equal(vm_state(vm), VM_STOPPED);
    if (files_error)
        return REFUSE(files_error, "file kernel is not here");
    if (files_steps && files_steps--)
        return HV_E_AGAIN;
    if (!vm->boot.n)
        boot_of(vm);
    return HV_OK;
}
void vm_files_leave(struct vm *vm)
{
    vm->boot = (struct boot_set){ 0 };
    n_files_left++;
}
void vm_incoming_drop(struct vm *vm) { vm_stop(vm); }
enum hv_err vm_incoming_create(const struct vm_offer *offer, struct disk *disk[CONFIG_MAX_DISKS], struct boot_set *boot,
                               struct vm **out, struct why *why)
{
    (void)why;
    if (disk[0] && offer->config.disk[0].kind == DISK_ON_LV)
        disk[0]->ops->close(disk[0]);
    memset(disk, 0, CONFIG_MAX_DISKS * sizeof(disk[0]));
    *out = &there[atoi(offer->config.name + 1)];
    (*out)->boot = *boot;
    *boot = (struct boot_set){ 0 };
    atomic_store(&(*out)->state, VM_INCOMING);
    (*out)->mem.n_gfns = offer->stopped ? 0 : here[atoi(offer->config.name + 1)].mem.n_gfns;
    (*out)->operator_paused = offer->paused;
    (*out)->config = offer->config;
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
/* Guests without volumes, or with some that need no copy. */
static bool has_volumes, leaving_full; /* the registry has no room for their list */
enum hv_err leave_disks_begin(struct vm *vm, const char *peer, uint64_t rate, struct leave_disks **out)
{
    (void)vm, (void)peer, (void)rate;
    *out = has_volumes ? (struct leave_disks *)(void *)&has_volumes : NULL;
    return HV_OK;
}
unsigned leave_disks_count(const struct leave_disks *d) { return d && !has_volumes; }
void leave_disks_peer_has(struct leave_disks *d, uint64_t parts) { (void)d, (void)parts; }
bool leave_disks_ready(struct leave_disks *d, struct mig_disk_progress *p) { return !d && !p; }
bool leave_disks_next(struct leave_disks *d, struct mig_disk_req *r, void *data) { return d && r && data; }
void leave_disks_done(struct leave_disks *d, unsigned disk, uint64_t tag) { (void)d, (void)disk, (void)tag; }
bool leave_disks_quiet(const struct leave_disks *d) { return !d || has_volumes; }
const char *leave_disks_trouble(struct leave_disks *d) { return d && !has_volumes ? "disks" : NULL; }
void leave_disks_undo(struct leave_disks *d, const char *reason) { (void)d, (void)reason; }
void leave_disks_left(struct leave_disks *d, bool keep, bool listed) { (void)d, (void)keep, (void)listed; }
bool leave_disks_text(const struct leave_disks *d, bool keep, char *text)
{
    text[0] = d && !keep ? 'x' : '\0';
    return text[0];
}
enum hv_err move_volume_leaving(const struct mig_id *id, const char *text, struct why *why)
{
    assert_true(id && text);
    return leaving_full ? REFUSE(HV_E_NOMEM, "the registry is full") : HV_OK;
}
void move_volume_stays(const struct mig_id *id) { (void)id; }
static bool volumes_kept; /* after a move */
bool move_volume_gone(const struct mig_id *id, bool keep)
{
    volumes_kept = keep;
    return !id;
}
void arrive_disks_check(const struct vm_offer *o, reason_fn *add, void *ctx) { (void)o, (void)add, (void)ctx; }
enum hv_err arrive_disks_begin(const struct vm_offer *o, const struct mig_id *id, const char *peer,
                               struct arrive_disks **out, struct why *why)
{
    (void)o, (void)id, (void)peer, (void)why;
    *out = NULL;
    return HV_OK;
}
enum hv_err arrive_disks_make(struct arrive_disks *a, struct disk *disk[CONFIG_MAX_DISKS], struct why *why)
{
    (void)a, (void)disk, (void)why;
    return HV_E_UNSUPP;
}
uint64_t arrive_disks_memory(const struct arrive_disks *a) { return a ? MIB : 0; }
void arrive_disks_name(const struct arrive_disks *a, struct vm_config *c) { (void)a, (void)c; }
unsigned arrive_disks_count(const struct arrive_disks *a) { return a != NULL; }
uint64_t arrive_disks_have(const struct arrive_disks *a) { return a ? 1 : 0; }
enum hv_err arrive_disk_write(struct arrive_disks *a, struct vm *vm, unsigned slot, const struct mig_disk_req *r,
                              const void *data, struct why *why)
{
    (void)a, (void)vm, (void)slot, (void)r, (void)data, (void)why;
    return HV_E_UNSUPP;
}
enum hv_err arrive_disk_written(struct arrive_disks *a, unsigned slot, struct why *why)
{
    (void)a, (void)slot, (void)why;
    return HV_E_UNSUPP;
}
enum hv_err arrive_disks_whole(const struct arrive_disks *a, struct why *why) { return a && why ? HV_E_PROTO : HV_OK; }
void arrive_disks_keep(struct arrive_disks *a) { (void)a; }
void arrive_disks_drop(struct arrive_disks *a) { (void)a; }
enum hv_err checkpoint_may_move(const struct vm_config *c, struct why *out)
{
    (void)c, (void)out;
    return HV_OK;
}
const char *vm_disk_stays(const struct vm *vm, bool along, char *text, size_t len)
{
    (void)along;
    (void)vm, (void)text, (void)len;
    return NULL;
}
static bool volume_in_use;
enum hv_err vm_disk_check(const struct vm_config *c, struct why *why)
{
    (void)c;
    return volume_in_use ? REFUSE(HV_E_BUSY, "the volume is in use") : HV_OK;
}
uint64_t vm_memory_promisable(void) { return promisable; }
size_t vm_state_max(const struct vm *vm) { return vm ? 1000 : 0; }
enum hv_err vm_offer_write(const struct vm *vm, const struct vm_knows *k, const char *places, uint8_t *buf, size_t cap,
                           size_t *len)
{
    (void)k, (void)places;
    *len = (size_t)snprintf((char *)buf, cap, "%s%s", vm->config.name,
                            vm->operator_paused          ? " paused"
                            : vm_state(vm) == VM_STOPPED ? " stopped"
                                                         : "") +
           1;
    return HV_OK;
}
enum hv_err vm_offer_parse(const uint8_t *buf, size_t len, struct vm_offer *o, struct why *why)
{
    (void)why;
    memset(o, 0, sizeof(*o));
    snprintf(o->config.name, sizeof(o->config.name), "%.*s", (int)len, (const char *)buf);
    o->paused = strstr(o->config.name, " paused");
    o->stopped = strstr(o->config.name, " stopped");
    o->config.name[strcspn(o->config.name, " ")] = 0;
    o->config.n_disks = offered_disk.port != 0;
    o->config.disk[0] = (struct disk_config){ .kind = DISK_ON_NBD, .nbd = offered_disk };
    o->disk[0] = (struct disk_info){ .bytes = 8 * MIB, .block = 512 };
    if (offered_lv) {
        o->config.n_disks = 1;
        o->config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv.vg = "vg0" };
        snprintf(o->config.disk[0].lv.lv, CONFIG_LV_NAME_LEN, "%s", offered_lv);
    }
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
void vm_knows_add(struct vm_knows *k, uint16_t id) { (void)k, assert_int_equal(id, VM_KNOWS_REGISTRY); }
/* Who defines the guests of this host, and what became of that. */
static enum vm_source defined_by = VM_OF_CONF;
static unsigned n_undefined;
enum vm_source vm_source(const struct vm *vm)
{
    (void)vm;
    return defined_by;
}
enum hv_err vm_undefine(struct vm *vm, struct why *why)
{
    (void)why;
    assert_int_equal(vm_state(vm), VM_STOPPED);
    n_undefined++;
    return HV_OK;
}
static unsigned n_settled;
void start_settled(struct vm *vm) { n_settled += vm != NULL; }
unsigned vm_slot(const struct vm *vm)
{
    return (unsigned)(vm >= there && vm < there + N_GUESTS ? vm - there : vm - here);
}
struct vm *vm_recall(const struct vm_config *c, const uint8_t uuid[16], const struct boot_want *want, unsigned n)
{
    (void)c, (void)uuid, (void)want, (void)n;
    return NULL;
}
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
    return (id == OFFER_FIELD_BOOT && peer_knows_boot) || (id == VM_KNOWS_REGISTRY && peer_records) ? newest : 0;
}
enum hv_err vm_knows_check(const struct vm_knows *k, const struct vm *vm, const char *places, struct why *why)
{
    (void)places, (void)k, (void)vm, (void)why;
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
static bool net_reserved[N_GUESTS]; /* memory for frames of here[i] */
void guest_net_reserve(const struct vm *vm, bool ready) { net_reserved[vm - here] = ready; }
void guest_net_hold(const struct vm *vm)
{
    assert_false(vm->operator_paused);
    assert_true(net_reserved[vm - here]); /* before the guest is asked to stop */
}
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
#ifndef MOVES_WITH_STORE
static bool restoring_there;
bool restore_is_active(const char *guest)
{
    (void)guest;
    return restoring_there;
}
const char *vm_disk_owner(const char *vg, const char *lv, const char *but) { return vg && lv && but ? NULL : ""; }
static struct saved saved_there; /* all zero: no guest is */
void saved_disks_text(const struct vm_config *c, char text[SAVED_DISKS_LEN])
{
    snprintf(text, SAVED_DISKS_LEN, "%s", c->n_disks ? "one" : "");
}
const char *lvm_lv_tag(const struct lvm_lv *lv, const char *key) { return !strcmp(key, lv->tags) ? "x" : NULL; }
struct saved saved_find(const char *guest)
{
    (void)guest;
    return saved_there;
}
struct checkpoint checkpoint_next(const char *guest, const struct checkpoint *after)
{
    (void)guest, (void)after;
    return (struct checkpoint){ .group = NULL };
}
static bool checkpoint_made;
bool checkpoint_is_made(const char *guest) { return guest && checkpoint_made; }
const char *saved_disk_holder(const struct lvm_lv *lv)
{
    (void)lv;
    return NULL;
}
bool saved_has_disk(const char *disks, const struct lvm_lv *lv) { return disks && lv; }
bool saved_disk_place(const char *disks, unsigned i, struct lv_config *place)
{
    (void)disks, (void)i, (void)place;
    return false;
}
enum hv_err lvm_volume_find(const char *vg, const char *lv, struct lvm_group **group, const struct lvm_lv **out,
                            struct why *why)
{
    (void)group, (void)out;
    return REFUSE(HV_E_NOENT, "no volume %s/%s", vg, lv);
}
uint64_t clock_wall_ns(void) { return now * 1000; }
enum hv_err lv_disk_open_kept(const char *vg, const char *lv, struct disk **out, struct why *why)
{
    (void)out;
    return REFUSE(HV_E_NOENT, "no volume %s/%s", vg, lv);
}
#endif
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

static const struct job *jobs[N_GUESTS] __attribute__((unused));

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
    n_arriving = most_arriving = n_files_left = files_steps = 0;
    b_is_empty = b_is_asked = false;
    files_error = HV_OK;
    starting = START_IDLE;
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

#endif
