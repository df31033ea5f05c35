/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/move_disk_fixture.h - guests, one of which writes all the time, jobs, events, and a host around
 * kernel/manage/move_disk.c. */
#ifndef GODWIT_TESTS_MOVE_DISK_FIXTURE_H
#define GODWIT_TESTS_MOVE_DISK_FIXTURE_H

#include "tests/unit/store_fixture.h"

#include <stdlib.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/dev/vdev.h"
#include "kernel/dev/vdev_blk.h"
#include "kernel/manage/events.h"
#include "kernel/manage/move_disk.c"
#include "kernel/manage/operate.h"
#include "kernel/store/checkpoint.h"
#include "kernel/store/snapshot_disk.h"
#include "kernel/store/snapshot_make.h"
#include "kernel/vm/boot_files.h"
#include "tests/fakes/registry.h"
#include "tests/unit/exports.h"

#define N_GUESTS 4
#define BYTES    EXPORT_BYTES
#define BLOCK    4096u
#define BLOCKS   32u /* that the guest uses, one in each 256 KiB */
#define STRIDE   (BYTES / BLOCKS)
#define SLOTS    6u

static struct config conf;
static struct vm vm[N_GUESTS];
static bool known[N_GUESTS]; /* is it defined? */
static unsigned seed, turn_us;
extern const struct s2_format npt_format;
struct cpu_caps cpu_caps;
const struct cpu_ops *cpu_ops;
void vcpu_kick(struct vcpu *v) { assert_null(v); }
static struct disk_ram in_ram[N_GUESTS]; /* the first disk of each, if it is in memory */
static unsigned any(unsigned n) { return (unsigned)rand_r(&seed) % n; }

/* ---- guests ---- */

unsigned vm_slots(void) { return N_GUESTS; }
struct vm *vm_at(unsigned i) { return i < N_GUESTS && known[i] ? &vm[i] : NULL; }
struct vm *vm_find(const char *name)
{
    for (unsigned i = 0; i < N_GUESTS; i++)
        if (vm_at(i) && !strcmp(vm[i].config.name, name))
            return &vm[i];
    return NULL;
}
const char *vm_state_name(enum vm_state s) { return s == VM_CRASHED ? "crashed" : "up"; }
bool vm_pause(struct vm *v)
{
    atomic_store(&v->state, VM_PAUSED);
    return true;
}
void vm_resume(struct vm *v) { atomic_store(&v->state, VM_RUNNING); }
static bool moving_away, saved, has_checkpoint, makes_checkpoint;
bool checkpoint_is_made(const char *guest) { return guest && makes_checkpoint; }
struct checkpoint checkpoint_next(const char *guest, const struct checkpoint *after)
{
    (void)guest;
    return (struct checkpoint){ .group = has_checkpoint && !after->group ? lvm_group_at(0) : NULL };
}
const struct job *migration_of(const char *guest)
{
    return guest && moving_away ? (const struct job *)(void *)vm : NULL;
}
struct saved saved_find(const char *guest)
{
    return (struct saved){ .state = saved && guest ? SAVED_WHOLE : SAVED_NONE };
}

const char *saved_disk_holder(const struct lvm_lv *lv) { return lv ? NULL : "?"; }

/* Turns for disks alone are for others to test. */
uint64_t vdev_quick_take(unsigned word) { return word - word; }
void vdev_quick_again(const struct vm *v) { assert_non_null(v); }
bool vdev_service_quick(struct vm *v) { return !v; }

/* Its definition is the place of its disk. */
uint64_t vm_memory_growth(const struct vm *v, uint64_t bytes) { return v ? bytes + MIB : 0; }
static enum hv_err define_error;
enum hv_err vm_define_disk_check(const struct vm *v, struct why *why)
{
    return define_error ? REFUSE(define_error, "%s is defined in godwit.conf", v->config.name) : HV_OK;
}
enum hv_err vm_define_disk(struct vm *v, unsigned i, const struct disk_config *d, struct why *why)
{
    char entry[64], text[128];
    snprintf(entry, sizeof(entry), "vm/%s", v->config.name);
    config_disk_place(d, text, sizeof(text));
    enum hv_err e = registry_put(entry, text, strlen(text), why);
    if (e)
        return e;
    v->config.disk[i] = *d;
    v->disks_mark = registry_mark();
    return HV_OK;
}

static struct boot_blob ram_file;
static unsigned file_reads, n_file_users;
enum hv_err boot_disk_find(const struct vm_config *c, unsigned i, struct boot_blob **out, struct why *why)
{
    *out = NULL;
    if (c->disk[i].kind != DISK_IN_RAM || !c->disk[i].file[0])
        return HV_OK;
    if (!strcmp(c->disk[i].file, "gone"))
        return REFUSE(HV_E_NOENT, "no file gone");
    if (file_reads && file_reads--)
        return HV_E_AGAIN;
    *out = &ram_file;
    return HV_OK;
}
void boot_blob_use(struct boot_blob *b) { n_file_users += b == &ram_file; }
void boot_blob_put(struct boot_blob *b) { n_file_users -= b == &ram_file; }

/* What the first guest does with its disk: blocks of one number each, which grows with each write. */
static struct slot {
    struct disk_req r;
    bool busy;
    unsigned block;
    uint64_t seq;
    uint64_t answered[BLOCKS]; /* FLUSH: when it began */
} slot[SLOTS];
static uint64_t flushed[BLOCKS], answered[BLOCKS], begun[BLOCKS], seq;
static unsigned n_pending, n_errors;
static bool held[N_GUESTS], idle;

static bool slot_get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    const struct slot *s = container_of(r, struct slot, r);
    assert_true(s->busy && off + n <= BLOCK);
    for (size_t i = 0; i < n / 8; i++)
        ((uint64_t *)buf)[i] = s->seq;
    return true;
}

static void slot_done(struct disk_req *r, enum disk_status st)
{
    struct slot *s = container_of(r, struct slot, r);
    assert_true(s->busy);
    s->busy = false;
    n_pending--;
    n_errors += st != DISK_OK;
    if (st == DISK_OK && r->op == DISK_FLUSH)
        memcpy(flushed, s->answered, sizeof(flushed));
    else if (st == DISK_OK)
        answered[s->block] = s->seq;
}

static void guest_step(void)
{
    struct slot *s = &slot[any(SLOTS)];
    bool ram = !vm[0].disks.d[0].disk;
    struct disk *d = ram ? &in_ram[0].disk : vm[0].disks.d[0].disk;
    if (idle || !d || !d->known || held[0] || s->busy || vm_state(&vm[0]) != VM_RUNNING)
        return;
    bool flush = !any(5);
    unsigned block = any(BLOCKS);
    for (const struct slot *o = slot; o < slot + SLOTS; o++)
        if (!flush && o->busy && o->r.op == DISK_WRITE && o->block == block)
            return;
    *s = (struct slot){ .busy = true, .block = block, .seq = ++seq };
    s->r = flush ? (struct disk_req){ .op = DISK_FLUSH, .done = slot_done }
                 : (struct disk_req){
                       .op = DISK_WRITE, .offset = block * STRIDE, .len = BLOCK, .get = slot_get, .done = slot_done
                   };
    memcpy(s->answered, answered, sizeof(answered));
    if (!flush)
        begun[block] = seq;
    n_pending++;
    if (ram)
        spin_lock(&vm[0].dev_lock);
    enum disk_status st = d->ops->submit(d, &s->r);
    if (ram)
        spin_unlock(&vm[0].dev_lock);
    if (st != DISK_PENDING)
        slot_done(&s->r, st);
}

void vdev_blk_attach(struct vm *v, unsigned i, struct disk *d) { assert_ptr_equal(v->disks.d[i].disk, d); }
void vdev_blk_swap(struct vm *v, unsigned i, struct disk *d)
{
    assert_true((!d || d->known) && (v != vm || (held[0] && !n_pending)));
    if (!d)
        disk_ram_init(&in_ram[v - vm], v, i);
}
static bool no_tables;
enum hv_err vdev_blk_deepen(struct vm *v, unsigned i)
{
    assert_true(held[v - vm] && !v->disks.d[i].disk);
    return no_tables ? HV_E_NOMEM : HV_OK;
}
void vdev_blk_hold(struct vm *v, unsigned i, bool hold) { held[v - vm] = hold && !i; }
unsigned vdev_blk_pending(struct vm *v, unsigned i) { return v == vm && !i ? n_pending : 0; }

static void guest_close(unsigned i)
{
    vm_disk_close(&vm[i]);
    held[i] = false;
    if (!i) {
        memset(slot, 0, sizeof(slot));
        n_pending = 0;
    }
}

static void guest_stop(unsigned i)
{
    guest_close(i);
    if (!i && vm_state(&vm[i]) != VM_STOPPED && vm[i].config.disk[0].kind == DISK_IN_RAM)
        memset(flushed, 0, sizeof(flushed)); /* it is lost */
    s2_fini(&vm[i].s2);
    guest_mem_fini(&vm[i].mem);
    atomic_store(&vm[i].state, VM_STOPPED);
}

static void guest_open(unsigned i)
{
    assert_int_equal(vm_disk_moving(&vm[i]), -1);
    disk_ram_init(&in_ram[i], &vm[i], 0);
    if (vm_disk_open(&vm[i], WHY(why)))
        fail_msg("%s", why);
    atomic_store(&vm[i].state, vm[i].disks.waiting ? VM_PAUSED : VM_RUNNING);
}

static void guest_start(unsigned i)
{
    const struct vm_config *c = &vm[i].config;
    for (unsigned k = 0; k < CONFIG_MAX_DISKS; k++)
        vm[i].ram_disk[k] = config_ram_disk_bytes(c, k);
    assert_int_equal(guest_mem_init_hidden(&vm[i].mem, BLOCK_SIZE, config_ram_disk_at(c, c->n_disks)), HV_OK);
    assert_int_equal(s2_init(&vm[i].s2, &npt_format), HV_OK);
    guest_open(i);
}

static void guest_reset(unsigned i)
{
    guest_close(i);
    for (unsigned k = 0; k < CONFIG_MAX_DISKS; k++)
        assert_int_equal(disk_ram_resize(&vm[i], k, config_ram_disk_bytes(&vm[i].config, k)), HV_OK);
    guest_open(i);
}

/* ---- jobs and events ---- */

static char told[3][16], told_last[240]; /* the last words for programs, the newest last */
void events_add(enum events_kind k, const char *subject, const char *what, const char *fmt, ...)
{
    va_list ap;
    assert_true(k == EVENTS_DISK && subject[0] == 'g');
    memmove(told[0], told[1], sizeof(told) - sizeof(told[0]));
    snprintf(told[2], sizeof(told[2]), "%s", what);
    va_start(ap, fmt);
    vsnprintf(told_last, sizeof(told_last), fmt, ap);
    va_end(ap);
}

struct api_job {
    bool running;
    enum hv_err e;
    char what[200], said[320], text[800];
    const char *phase;
    uint64_t done, total;
};
static struct api_job jobs[MOVES_MAX + 1];
static unsigned n_jobs, jobs_max;
struct api_job *job_begin(const char *by, const char *what_fmt, ...)
{
    struct api_job *j = n_jobs < jobs_max ? &jobs[n_jobs++] : NULL;
    (void)by;
    if (j)
        *j = (struct api_job){ .running = true };
    va_list ap;
    va_start(ap, what_fmt);
    if (j)
        vsnprintf(j->what, sizeof(j->what), what_fmt, ap);
    va_end(ap);
    return j;
}
void job_progress(struct api_job *j, uint64_t done, uint64_t total)
{
    assert_true(j->running && done <= total);
    j->done = done, j->total = total;
}
void job_phase(struct api_job *j, const char *phase)
{
    assert_true(j->running);
    j->phase = phase;
}
void job_say(struct api_job *j, const char *text)
{
    assert_true(j->running);
    snprintf(j->said, sizeof(j->said), "%s", text);
}
void job_end(struct api_job *j, enum hv_err e, const char *text)
{
    assert_true(j->running);
    j->running = false;
    j->e = e;
    snprintf(j->text, sizeof(j->text), "%s", text);
}

/* ---- the host ---- */

static void turn(void)
{
    now_us += turn_us;
    guest_step();
    (void)vm_disk_step();
    snapshot_disk_step();
    lv_disk_step();
    snapshot_make_step();
    for (unsigned i = 0; i < 4; i++)
        (void)blockdev_step();
    (void)lvm_step();
    (void)volume_step();
    (void)disk_move_step();
}

static bool moves_over(void)
{
    for (const struct disk_move *d = moves; d < moves + MOVES_MAX; d++)
        if (d->state != MOVE_FREE)
            return false;
    return true;
}

static void run(void)
{
    for (unsigned n = 0; n < 100000 && !moves_over(); n++)
        turn();
    assert_true(moves_over());
}

/* Until the first move is there.  False: it has ended before. */
static bool run_to(enum move_state s)
{
    for (unsigned n = 0; n < 100000 && moves[0].state != s && moves[0].state != MOVE_FREE; n++)
        turn();
    return moves[0].state == s;
}

static void disk_set(unsigned i, const char *place)
{
    vm[i].config.n_disks = 1;
    assert_true(config_disk_parse(place, &vm[i].config.disk[0]));
}

static void guest_define(unsigned i, const char *place)
{
    vm[i] = (struct vm){ .slot = i };
    snprintf(vm[i].config.name, sizeof(vm[i].config.name), "g%u", i);
    known[i] = true;
    disk_set(i, place);
    guest_start(i);
}

static void host_on(void)
{
    lvm_scan();
    assert_non_null(lvm_group_find("vg0"));
}

static int begin(void **state)
{
    (void)state;
    now_us += 1000000;
    turn_us = 1000;
    seed = 1;
    conf = (struct config){ .host.max_storage_jobs = 2 };
    host_config = &conf;
    n_jobs = n_errors = file_reads = 0;
    jobs_max = MOVES_MAX + 1;
    memory_left = GIB;
    moving_away = saved = idle = no_tables = false;
    define_error = HV_OK;
    memset(flushed, 0, sizeof(flushed)), memset(answered, 0, sizeof(answered)), memset(begun, 0, sizeof(begun));
    for (unsigned i = 0; i < EXPORTS; i++)
        export[i] = (struct export){ 0 };
    fake_registry_reset();
    epoch = registry_epoch();
    disk_add();
    guest_define(0, "lv:vg0/db");
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < N_GUESTS; i++)
        if (known[i])
            guest_stop(i);
    power_disks[0].fails = false;
    run();
    for (unsigned i = 0; i < 100; i++)
        turn();
    groups_forget();
    power_disks_remove();
    memset(known, 0, sizeof(known));
    for (unsigned i = 0; i < EXPORTS; i++) {
        assert_int_equal(export[i].n_open, 0);
        free(export[i].data);
        export[i].data = NULL;
    }
    assert_int_equal(n_file_users, 0);
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

/* ---- what must be so ---- */

/* Has the place what the guest wrote and flushed, or later? */
static void place_check(const char *place)
{
    for (unsigned b = 0; b < BLOCKS; b++) {
        const uint8_t *p;
        if (!strncmp(place, "ram:", 4) && vm_state(&vm[0]) == VM_STOPPED)
            return;
        if (!strncmp(place, "ram:", 4)) { /* it is the guest's only one */
            p = guest_page(&vm[0], gpa_gfn(guest_hidden(&vm[0].mem, b * STRIDE)));
            p = p ? p : (const uint8_t[BLOCK]){ 0 };
        } else if (!strncmp(place, "lv:vg0/", 7)) {
            unsigned pv;
            uint64_t left;
            assert_non_null(volume(place + 7));
            p = power_disks[0].bytes +
                lvm_lv_map(&lvm_group_find("vg0")->vg, volume(place + 7), b * STRIDE, &pv, &left);
        } else {
            p = export[place[strlen(place) - 1] - 'a'].data + b * STRIDE;
        }
        for (unsigned i = 0; i < BLOCK; i += 512) {
            uint64_t got;
            memcpy(&got, p + i, sizeof(got));
            if (got < flushed[b] || got > begun[b])
                fail_msg("%s: block %u has %lu, of %lu to %lu", place, b, got, flushed[b], begun[b]);
        }
    }
}

static void guest_place(char *out, size_t cap) { (void)config_disk_place(&vm[0].config.disk[0], out, cap); }

/* Nothing is left but the guest's disk and what was there before. */
static void clean_check(void)
{
    char place[128];
    guest_place(place, sizeof(place));
    assert_null(registry_next("storage/", ""));
    assert_int_equal(volume("db") != NULL, !strcmp(place, "lv:vg0/db"));
    assert_int_equal(volume("new") != NULL, !strcmp(place, "lv:vg0/new"));
    place_check(place);
    if (vm_state(&vm[0]) != VM_STOPPED)
        assert_int_equal(vm[0].mem.size_bytes, BLOCK_SIZE + config_ram_disk_bytes(&vm[0].config, 0));
}

static enum hv_err ask_for(unsigned guest, const char *place, struct disk_move_options o)
{
    struct disk_config to = { 0 };
    char name[8];
    struct api_job *j;
    snprintf(name, sizeof(name), "g%u", guest);
    assert_true(config_disk_parse(place, &to) || !strcmp(place, "ram"));
    return disk_move_begin(name, 0, &to, &o, "test", &j, WHY(why));
}

static void must_begin(unsigned guest, const char *place, struct disk_move_options o)
{
    if (ask_for(guest, place, o))
        fail_msg("%s", why);
}

static void warm_up(void)
{
    for (unsigned n = 0; n < 200; n++)
        turn();
    assert_int_equal(vm_state(&vm[0]), VM_RUNNING);
    assert_true(seq > 20);
}

#endif
