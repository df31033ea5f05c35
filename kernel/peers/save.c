/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/save.c - see save.h.
 *
 *     HASH --boot files are hashed--> MAKE --commit: godwit.saving--> STREAM --whole, flushed--> SEAL --commit:
 *     godwit.saved--> FREE;    STREAM --the volume is full--> GROW --commit--> STREAM
 *     UNDO --the volume is removed--> FREE from each, after a failure
 *
 * The engine's source machine runs here as in a move, with the recorder at its other end.  At SEAL it is IN_DOUBT: this
 * file knows the outcome, and tells it (mig_tx_resolve()).  A live save lets the guest go as soon as all of its state
 * is in the recorder's hands.
 *
 * After a power cut, what was being saved is removed by leftovers_step(). */
#include "kernel/peers/save.h"
#include "kernel/lib/fmt.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/random.h"
#include "kernel/lib/log.h"
#include "kernel/peers/migration_impl.h"
#include "kernel/store/disk_flow.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/registry.h"
#include "kernel/store/saved.h"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/guest_console.h"
#include "kernel/vm/guest_net.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_memory.h"
#include "migrate/record.h"

#define TURN_STEPS 4   /* of the engine */
#define GROW_MAX   GIB /* the volume doubles, but gets no more at a time: what is over is given back at the end only */

enum save_state { SAVE_HASH, SAVE_MAKE, SAVE_STREAM, SAVE_GROW, SAVE_SEAL, SAVE_UNDO, SAVE_OVER };
struct save {
    struct outgoing o; /* the engine's view: guest, machine, figures */
    enum save_state state;
    bool live;
    bool is_checkpoint;        /* live, with its volumes at the instant of the stop (store/checkpoint.h) */
    struct checkpoint_make cp; /* of a checkpoint: owned */
    uint64_t stop_us, go_us;   /* of a checkpoint: when the guest was asked to stop, and when it went on */
    char vg[CONFIG_LV_NAME_LEN], lv[CONFIG_LV_NAME_LEN];
    uint64_t room; /* bytes of the volume */
    char disks[SAVED_DISKS_LEN];
    struct saved_edit edit;
    struct flow *flow; /* owned, or NULL */
    struct mig_record rec;
    struct store_watch watch;
    enum hv_err err;
    char text[320];
};
static struct save *saves[SAVES_MAX]; /* owned; NULL: free */

static struct save *save_of(const char *guest)
{
    for (unsigned i = 0; i < SAVES_MAX; i++)
        if (saves[i] && saves[i]->o.vm && !strcmp(saves[i]->o.job.guest, guest))
            return saves[i];
    return NULL;
}

/* ---- the guest, for the engine: as in a move, without records about peers ---- */

static bool save_quiesce(void *ctx)
{
    struct vm *vm = ((struct outgoing *)ctx)->vm;
    if (!vm->operator_paused)
        guest_net_reserve(vm, true);
    return vm_disk_quiesce(vm);
}

/* Its disks stay where they are. */
static unsigned save_n_disks(void *ctx)
{
    (void)ctx;
    return 0;
}

static void save_release(void *ctx)
{
    struct outgoing *o = ctx;
    o->vm->saving = false;
    guest_console_seal(o->vm, false);
    vm_stop(o->vm);
}

static const struct mig_src_ops *save_ops(void)
{
    static struct mig_src_ops ops;
    ops = outgoing_src_ops;
    ops.quiesce = save_quiesce;
    ops.release = save_release;
    ops.n_disks = save_n_disks;
    return &ops;
}

static uint64_t save_wall_us(void) { return clock_wall_ns() / 1000; }

/* ---- the end ---- */

/* The guest runs on, unless it was released. */
static void guest_go(struct save *s)
{
    if (s->o.m && mig_tx_state(s->o.m) == MIG_TX_IN_DOUBT)
        (void)!mig_tx_resolve(s->o.m, true, clock_us());
    mig_tx_destroy(s->o.m);
    s->o.m = NULL;
}

/* The save has the guest no more. */
static void guest_leave(struct save *s)
{
    guest_go(s);
    if (s->o.vm) {
        s->o.vm->saving = false;
        s->o.vm->move_hash_bytes = 0;
    }
    s->o.vm = NULL;
}

static void save_end(struct save *s)
{
    guest_leave(s);
    checkpoint_make_end(&s->cp);
    flow_close(s->flow);
    s->flow = NULL;
}

/* The guest runs on.  What was written goes. */
static void save_fail(struct save *s, enum hv_err e, const char *text)
{
    ASSERT(s->edit.state != EDIT_COMMITTING && s->edit.state != EDIT_WAITING);
    bool made = s->state == SAVE_STREAM || s->state == SAVE_GROW || s->state == SAVE_SEAL;
    snprintf(s->text, sizeof(s->text), "%s", text);
    s->err = e;
    save_end(s);
    log_warn("save", "%s: is not saved, and runs on: %s", s->o.job.guest, s->text);
    s->state = made ? SAVE_UNDO : SAVE_OVER;
    if (made)
        saved_edit_begin(&s->edit, SAVED_DROP, s->vg, s->lv, s->o.job.guest, 0);
}

/* ---- beginning ---- */

const char *save_store(void)
{
    const struct lvm_group *only = lvm_group_at(1) ? NULL : lvm_group_at(0);
    return registry_group() ? registry_group() : only ? only->vg.name : "";
}

enum hv_err save_place(const struct vm *vm, char vg[CONFIG_LV_NAME_LEN], char lv[CONFIG_LV_NAME_LEN], struct why *why)
{
    const char *group = save_store();
    for (unsigned i = vm->config.n_disks; i--;)
        if (vm->config.disk[i].kind == DISK_ON_LV)
            group = vm->config.disk[i].lv.vg;
    if (!*group)
        return REFUSE(HV_E_UNSUPP, "this host has no store to save %s in: `store create` makes one", vm->config.name);
    snprintf(vg, CONFIG_LV_NAME_LEN, "%s", group);
    snprintf(lv, CONFIG_LV_NAME_LEN, "saved.%s", vm->config.name);
    return HV_OK;
}

static enum hv_err save_check(const struct vm *vm, struct why *why)
{
    const char *name = vm->config.name;
    if (vm->saving)
        return REFUSE(HV_E_BUSY, "%s is being saved already", name);
    if (restore_is_active(name))
        return REFUSE(HV_E_BUSY, "%s is being restored: wait for that", name);
    for (unsigned i = 0; i < vm->config.n_disks; i++)
        if (vm->disks.d[i].moving)
            return REFUSE(HV_E_BUSY, "the disk vd%c of %s is being moved: wait for that, or cancel it", 'a' + i, name);
    if (!vm_may_move(vm) || migration_is_moving(name))
        return REFUSE(HV_E_BUSY, "%s is %s; only a guest that runs, or that an operator paused, can be saved", name,
                      migration_is_moving(name) ? "moving" : vm_state_name(vm_state(vm)));
    if (vm_memory_promisable() < LV_DISK_MEMORY + 2 * MIB)
        return REFUSE(HV_E_NOMEM, "no memory on this host to save %s", name);
    return HV_OK;
}

static enum hv_err save_new(struct vm *vm, const char *vg, const char *lv, const struct store_watch *watch,
                            struct save **out, struct why *why)
{
    unsigned i = 0;
    enum hv_err e = save_check(vm, why);
    if (e)
        return e;
    for (unsigned k = 0; k < SAVES_MAX; k++)
        if (saves[k] && !strcmp(saves[k]->vg, vg) && !strcmp(saves[k]->lv, lv))
            return REFUSE(HV_E_BUSY, "the last save in %s/%s is not over: try again in a moment", vg, lv);
    while (i < SAVES_MAX && saves[i])
        i++;
    struct save *s = i < SAVES_MAX ? mem_alloc(sizeof(*s)) : NULL;
    if (!s)
        return REFUSE(i < SAVES_MAX ? HV_E_NOMEM : HV_E_BUSY, "%u guests are being saved here, which is the limit",
                      SAVES_MAX);
    *s = (struct save){ .watch = *watch };
    snprintf(s->vg, sizeof(s->vg), "%s", vg);
    snprintf(s->lv, sizeof(s->lv), "%s", lv);
    snprintf(s->o.job.guest, sizeof(s->o.job.guest), "%s", vm->config.name);
    migration_options(&s->o.job.options);
    s->o.job.started_us = clock_us();
    s->o.vm = vm;
    vm->saving = true;
    saves[i] = *out = s;
    return HV_OK;
}

enum hv_err save_request(struct vm *vm, const char *vg, const char *lv, bool live, const struct store_watch *watch,
                         struct why *why)
{
    struct save *s;
    enum hv_err e = save_new(vm, vg, lv, watch, &s, why);
    if (!e)
        s->live = live;
    return e;
}

enum hv_err save_checkpoint(struct vm *vm, const char *lv, struct checkpoint_make *cp, const struct store_watch *watch,
                            struct why *why)
{
    struct save *s;
    enum hv_err e = save_new(vm, cp->group->vg.name, lv, watch, &s, why);
    if (e)
        return e;
    s->live = s->is_checkpoint = true;
    s->cp = *cp;
    cp->n = 0; /* they are s's */
    return HV_OK;
}

/* Is what must be there before the stream ready?  An error has ended the save. */
static bool hash_ready(struct save *s)
{
    char text[256];
    bool hashed = boot_set_hash_step(&s->o.vm->boot); /* the offer names them by their bytes */
    enum hv_err e = checkpoint_make_ready(&s->cp, WHY(text));
    if (e && e != HV_E_AGAIN)
        save_fail(s, e, text);
    return hashed && !e;
}

static void hash_step(struct save *s)
{
    struct vm *vm = s->o.vm;
    if (!hash_ready(s))
        return;
    s->room = MAX(vm->boot.n_pages * PAGE_SIZE, MIB); /* it grows */
    saved_edit_begin(&s->edit, SAVED_MAKE, s->vg, s->lv, s->o.job.guest, s->room);
    s->state = SAVE_MAKE;
}

static enum hv_err save_machine_create(struct save *s)
{
    static struct vm_knows k; /* large; service pCPU only */
    static uint8_t knows[MIG_KNOWS_MAX];
    struct mig_tx_params p = { .ops = save_ops(),
                               .ctx = &s->o,
                               .mem = { mem_alloc, mem_free },
                               .name = s->o.job.guest,
                               .now_us = clock_us(),
                               .clock_us = clock_us };
    mig_opts_default(&p.opts);
    p.opts.lz4 = s->o.job.options.lz4;
    p.opts.verify = s->o.job.options.verify;
    p.opts.stop_first = !s->live;
    p.opts.policy.downtime_limit_us = s->o.job.options.downtime_limit_ms * 1000ul;
    mig_policy_if_stuck(&p.opts.policy, MIG_STUCK_STOP);
    random_bytes(&p.id, sizeof(p.id));
    random_bytes(p.key, sizeof(p.key));
    s->o.n_boot_pages = s->o.vm->boot.n_pages;
    saved_disks_text(&s->o.vm->config, s->disks);
    enum hv_err e = mig_tx_create(&p, &s->o.m);
    if (e)
        return e;
    vm_knows_here(&k);
    mig_record_begin(&s->rec, s->o.m, knows, vm_knows_write(&k, knows, sizeof(knows)), s->live, save_wall_us);
    return HV_OK;
}

/* The room that the volume has now. */
static void room_look(struct save *s)
{
    const struct lvm_group *g = lvm_group_find(s->vg);
    s->room = lvm_lv_bytes(&g->vg, lvm_lv_find(&g->vg, s->lv)); /* it is there: this turn's commit says so */
}

/* The volume is there: open it, and begin the stream. */
static void made(struct save *s)
{
    struct disk *d;
    char text[256];
    s->state = SAVE_STREAM;
    room_look(s);
    enum hv_err e = lv_disk_open_own(s->vg, s->lv, &d, WHY(text));
    s->flow = e ? NULL : flow_write(d, 0);
    if (!e && !s->flow)
        d->ops->close(d);
    if (!e && (!s->flow || save_machine_create(s))) {
        e = HV_E_NOMEM;
        snprintf(text, sizeof(text), "no memory on this host to save it");
    }
    if (e)
        save_fail(s, e, text);
}

/* Go on with the change of the volume; once it is durable, next() follows.  True: it is over. */
static bool saved_change_step(struct save *s, void (*next)(struct save *s))
{
    char text[256];
    enum hv_err e = saved_edit_step(&s->edit, WHY(text));
    if (e == HV_E_AGAIN)
        return false;
    if (e)
        save_fail(s, e, text);
    else
        next(s);
    return true;
}

/* ---- the stream ---- */

static void save_grown(struct save *s)
{
    room_look(s);
    flow_grown(s->flow, s->room);
    s->state = SAVE_STREAM;
}

/* Bytes that may be written now: while the guest runs, the limit holds. */
static size_t stream_may(struct save *s)
{
    bool limited = s->o.m && s->live && mig_tx_state(s->o.m) == MIG_TX_PRECOPY;
    uint64_t may = limited ? rate_refill(&s->o.rate, s->o.job.options.bandwidth_limit_mb, clock_us()) : SIZE_MAX;
    return MIN(flow_room(s->flow), may);
}

/* Write what the recorder gives.  True: some, or the volume must grow first. */
static bool stream_write_some(struct save *s)
{
    size_t len;
    const uint8_t *p = mig_record_data(&s->rec, &len);
    if (len && s->rec.bytes == s->room) {
        saved_edit_begin(&s->edit, SAVED_GROW, s->vg, s->lv, s->o.job.guest, MIN(s->room, GROW_MAX));
        s->state = SAVE_GROW;
        return true;
    }
    len = MIN(MIN(len, s->room - s->rec.bytes), stream_may(s));
    if (!len)
        return false;
    flow_put(s->flow, p, len);
    mig_record_written(&s->rec, len);
    rate_consume(&s->o.rate, len);
    return true;
}

/* All is durable: the volume becomes a saved guest. */
static void stream_whole(struct save *s)
{
    flow_close(s->flow);
    s->flow = NULL;
    s->state = SAVE_SEAL;
    saved_edit_begin(&s->edit,
                     s->is_checkpoint ? SAVED_SEAL_PART
                     : s->live        ? SAVED_SEAL_LIVE
                                      : SAVED_SEAL,
                     s->vg, s->lv, s->o.job.guest, s->rec.bytes);
    memcpy(s->edit.disks, s->disks, sizeof(s->disks));
    s->edit.also = checkpoint_make_also;
    s->edit.ctx = &s->cp;
}

static bool stream_sync(struct save *s)
{
    /* at STATE the last piece that is not whole may wait: it is durable with COMMIT, before the volume is sealed */
    if (s->live && s->o.m) /* the guest has not gone on yet */
        return false;
    if (!mig_record_syncs(&s->rec) || !flow_sync(s->flow, s->rec.state == MIG_RECORD_END))
        return false;
    mig_record_synced(&s->rec);
    if (s->rec.state == MIG_RECORD_WHOLE)
        stream_whole(s);
    return true;
}

/* The engine's turn.  True: it moved, or the save has failed. */
static bool stream_machine_step(struct save *s)
{
    struct outgoing *o = &s->o;
    if (!o->m) /* live: the guest has gone on */
        return false;
    struct mig_wait w = mig_tx_step(o->m, clock_us());
    const char *trouble = mig_tx_state(o->m) == MIG_TX_STOPPING ? vm_disk_quiesce_error(o->vm) : NULL;
    if (trouble)
        (void)!mig_tx_cancel(o->m, trouble, clock_us());
    mig_tx_stats(o->m, &o->job.stats);
    if (mig_tx_state(o->m) != MIG_TX_STOPPED)
        s->stop_us = 0;
    else if (!s->stop_us)
        s->stop_us = clock_us();
    if (mig_tx_state(o->m) == MIG_TX_FAILED) {
        char text[sizeof(s->text)];
        snprintf(text, sizeof(text), "%.300s", mig_tx_text(o->m));
        save_fail(s, mig_tx_error(o->m) ? mig_tx_error(o->m) : HV_E_CANCEL, text);
        return true;
    }
    o->vm->move_hash_bytes = o->job.stats.hash_bytes;
    return w.kind == MIG_WAIT_MORE || w.kind == MIG_WAIT_GUEST;
}

/* Live, and all of the guest's state is in the recorder's hands: it goes on.  At a checkpoint its disks are held until
 * the snapshots are there: what it writes from now on is not in them. */
static void state_taken(struct save *s)
{
    if (!s->is_checkpoint) {
        guest_leave(s);
    } else if (s->o.m && checkpoint_make_hold(&s->cp)) {
        guest_go(s);
        s->go_us = clock_us();
    }
}

static bool save_stream_step(struct save *s)
{
    uint64_t at;
    char text[160];
    bool moved = flow_step(s->flow);
    for (unsigned i = 0; i < TURN_STEPS && s->state == SAVE_STREAM; i++) {
        moved |= stream_machine_step(s);
        while (s->state == SAVE_STREAM && stream_write_some(s))
            moved = true;
        if (s->state == SAVE_STREAM && s->live && s->rec.state >= MIG_RECORD_COMMIT)
            state_taken(s);
    }
    if (s->state != SAVE_STREAM)
        return true;
    if (flow_failed(s->flow, &at)) {
        snprintf(text, sizeof(text), "the disk of the volume %s/%s fails at byte %lu", s->vg, s->lv, at);
        save_fail(s, HV_E_IO, text);
        return true;
    }
    s->watch.progress(s->watch.ctx, s->rec.bytes, 0);
    return stream_sync(s) || moved;
}

/* ---- saved ---- */

static void saved_now(struct save *s)
{
    uint64_t us = clock_us() - s->o.job.started_us;
    if (!s->live && mig_tx_resolve(s->o.m, false, clock_us()) == HV_OK)
        s->o.vm = NULL; /* it is stopped, its slot may be free */
    char *result = s->text;
    if (s->is_checkpoint)
        snprintf(result, sizeof(s->text),
                 "the checkpoint %s is there, %lu MiB of memory and %u volume%s in %lu ms; the guest was stopped for "
                 "%lu ms, and its disks waited for %lu ms",
                 s->cp.tag, DIV_ROUND_UP(s->rec.bytes, MIB), s->cp.n, FMT_S(s->cp.n), us / 1000,
                 (s->go_us - s->stop_us) / 1000, (clock_us() - s->stop_us) / 1000);
    else
        snprintf(result, sizeof(s->text), "%s is saved in %s/%s, %lu MiB in %lu ms%s", s->o.job.guest, s->vg, s->lv,
                 DIV_ROUND_UP(s->rec.bytes, MIB), us / 1000,
                 s->live ? ", and runs on" : "; `vm restore` lets it go on");
    save_end(s);
    log_info("save", "%s", s->text);
    s->state = SAVE_OVER;
}

static bool save_undo_step(struct save *s)
{
    char text[256];
    enum hv_err e = saved_edit_step(&s->edit, WHY(text));
    if (e == HV_E_AGAIN)
        return false;
    if (e)
        log_error("save", "the volume %s/%s of a save that has failed is still there: %s", s->vg, s->lv, text);
    s->state = SAVE_OVER;
    return true;
}

/* ---- from outside ---- */

enum hv_err save_cancel(const char *guest, const char *reason)
{
    struct save *s = save_of(guest);
    if (!s)
        return HV_FAIL(HV_E_NOENT);
    if (s->state == SAVE_MAKE || s->state == SAVE_GROW || s->state == SAVE_SEAL ||
        (s->o.m && mig_tx_state(s->o.m) == MIG_TX_IN_DOUBT))
        return HV_FAIL(HV_E_BUSY); /* a moment, and it runs on or is saved */
    save_fail(s, HV_E_CANCEL, reason);
    return HV_OK;
}

void save_limit(const char *guest, unsigned mb)
{
    struct save *s = save_of(guest);
    if (s)
        s->o.job.options.bandwidth_limit_mb = mb;
}

bool save_let_go(const char *guest, const char *reason)
{
    enum hv_err e = save_cancel(guest, reason);
    return (e == HV_E_NOENT || !e) && migration_let_go(guest, reason);
}

static bool save_one_step(struct save *s)
{
    if (s->go_us) /* its disks may have been closed and opened meanwhile */
        (void)checkpoint_make_hold(&s->cp);
    switch (s->state) {
    case SAVE_HASH:   hash_step(s); return true;
    case SAVE_MAKE:   return saved_change_step(s, made);
    case SAVE_STREAM: return save_stream_step(s);
    case SAVE_GROW:   return saved_change_step(s, save_grown);
    case SAVE_SEAL:   return saved_change_step(s, saved_now);
    case SAVE_UNDO:   return save_undo_step(s);
    case SAVE_OVER:   break;
    }
    return true;
}

/* Volumes that were being written when the power went.  One at a time; after an error they stay. */
static struct saved_edit leftover;
static bool leftovers_over;

static bool leftover_is_ours(const struct saved *v)
{
    for (unsigned i = 0; i < SAVES_MAX; i++)
        if (saves[i] && !strcmp(saves[i]->vg, v->group->vg.name) && !strcmp(saves[i]->lv, v->lv->name))
            return false;
    return v->state == SAVED_WRITING;
}

static bool leftover_begin(void)
{
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++) {
        struct lvm_group *g = lvm_group_at(i);
        for (unsigned k = 0; !g->why_not[0] && k < g->vg.n_lvs; k++) {
            struct saved v = saved_of(g, &g->vg.lv[k]);
            if (!leftover_is_ours(&v))
                continue;
            log_info("save", "%s was being saved in %s/%s when the power went: that volume is removed", v.guest,
                     g->vg.name, v.lv->name);
            saved_edit_begin(&leftover, SAVED_DROP, g->vg.name, v.lv->name, v.guest, 0);
            return true;
        }
    }
    return false;
}

static void leftovers_step(void)
{
    char text[256];
    if (leftovers_over)
        return;
    if (leftover.state == EDIT_NONE)
        leftovers_over = !leftover_begin();
    if (leftovers_over)
        return;
    enum hv_err e = saved_edit_step(&leftover, WHY(text));
    if (e == HV_E_AGAIN)
        return;
    leftover = (struct saved_edit){ .state = EDIT_NONE };
    leftovers_over = e != HV_OK;
    if (e)
        log_error("save", "it cannot be removed: %s", text);
}

bool save_step(void)
{
    bool moved = false;
    leftovers_step();
    for (unsigned i = 0; i < SAVES_MAX; i++) {
        struct save *s = saves[i];
        if (!s)
            continue;
        moved |= save_one_step(s);
        if (s->state != SAVE_OVER)
            continue;
        saves[i] = NULL;
        s->watch.done(s->watch.ctx, s->err, s->text);
        mem_free(s, sizeof(*s));
    }
    return moved;
}
