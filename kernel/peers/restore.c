/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/restore.c - saved guests that come back: save.h.
 *
 *     ASK --no peer has the guest--> LOAD --the machine is PREPARED--> MARK --commit: godwit.restored--> RUN --> over
 *
 * Of a checkpoint: ASK --> DISKS --the volumes are reverted, and the guest is saved--> LOAD; or over, without memory.
 *
 * The stream is read record by record, so that COMMIT can be held back until the mark is durable.  A power cut after
 * that finds a guest that counts as restored, and is started or not as after any power cut. */
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/random.h"
#include "kernel/lib/log.h"
#include "kernel/peers/ask.h"
#include "kernel/peers/checkpoint.h"
#include "kernel/peers/migration_impl.h"
#include "kernel/peers/save.h"
#include "kernel/peers/start.h"
#include "kernel/peers/start_rule.h"
#include "kernel/store/disk_flow.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/saved.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_memory.h"
#include "migrate/wire.h"

enum restore_state { RESTORE_ASK, RESTORE_DISKS, RESTORE_LOAD, RESTORE_MARK, RESTORE_RUN, RESTORE_OVER };
struct restore {
    struct incoming_feed feed;
    enum restore_state state;
    char guest[CONFIG_NAME_LEN];
    char checkpoint[CONFIG_NAME_LEN]; /* "": vg/lv is a saved guest already */
    bool stopped;                     /* the guest was stopped for its disks */
    char vg[LVM_NAME_LEN], lv[LVM_NAME_LEN], uuid[LVM_UUID_LEN];
    enum saved_state was; /* of the volume; NONE: it says nothing of a guest */
    uint64_t bytes, since_us;
    struct vm *asked; /* owned: the guest, for the question to the peers */
    struct ask *ask;  /* owned; ASK */
    struct start_rule rule;
    struct flow *flow; /* owned; from LOAD on */
    bool fed;          /* the machine has feed, and will end it */
    /* The record in hand: its first bytes, how many of them are here and were given on; its other bytes that were not
     * given yet. */
    uint8_t head[MIG_REC_HDR_LEN];
    size_t head_n, head_out;
    uint64_t left;
    uint64_t end;       /* of the record in hand, bytes from the begin */
    bool begun, commit; /* the preamble is behind; the record in hand is COMMIT */
    struct saved_edit edit;
    struct store_watch watch;
    enum hv_err err;
    char text[400];
};
static struct restore *restores[RESTORES_MAX]; /* owned; NULL: free */
_Static_assert(MIG_PREAMBLE_LEN == MIG_REC_HDR_LEN, "the preamble is a head without a body");

static struct restore *restore_of(struct incoming_feed *f) { return container_of(f, struct restore, feed); }

/* ---- the stream, for the machine ---- */

static void restore_fail(struct restore *r, enum hv_err e, const char *text)
{
    if (!r->err)
        snprintf(r->text, sizeof(r->text), "%s", text);
    r->err = r->err ? r->err : e;
}

/* The head of the next record is here. */
static void head_take(struct restore *r)
{
    struct rd in = rd_init(r->head, sizeof(r->head));
    r->head_out = 0;
    r->left = 0;
    if (r->begun) {
        r->commit = rd_u16(&in) == MIG_REC_COMMIT;
        (void)rd_u16(&in);
        (void)rd_u32(&in);
        r->left = rd_u64(&in);
    }
    r->end += sizeof(r->head) + r->left;
    uint16_t version, min, max;
    bool bad = !r->begun && mig_preamble_get(&in, &version, &min, &max) == HV_E_PROTO;
    r->begun = true;
    if (bad || r->left > MIG_REC_LEN_MAX)
        restore_fail(r, HV_E_PROTO, "what is in the volume is no saved guest");
}

static size_t feed_read(struct incoming_feed *f, void *buf, size_t cap)
{
    struct restore *r = restore_of(f);
    size_t n;
    if (r->head_n < sizeof(r->head)) {
        r->head_n += flow_get(r->flow, r->head + r->head_n, sizeof(r->head) - r->head_n);
        if (r->head_n < sizeof(r->head))
            return 0;
        head_take(r);
    }
    if (r->err || (r->commit && r->state != RESTORE_RUN))
        return 0;
    if (r->head_out < sizeof(r->head)) {
        n = MIN(cap, sizeof(r->head) - r->head_out);
        memcpy(buf, r->head + r->head_out, n);
        r->head_out += n;
    } else {
        n = flow_get(r->flow, buf, MIN(cap, r->left));
        r->left -= n;
    }
    if (r->head_out == sizeof(r->head) && !r->left && !r->commit)
        r->head_n = 0;
    return n;
}

static enum hv_err feed_gone(const struct incoming_feed *f, const char **why)
{
    const struct restore *r = container_of(f, const struct restore, feed);
    *why = r->text;
    return r->err;
}

static void feed_end(struct incoming_feed *f, enum hv_err e, const char *text)
{
    struct restore *r = restore_of(f);
    const struct vm *vm = vm_find(r->guest);
    r->fed = false;
    r->state = RESTORE_OVER;
    r->err = e;
    const char *is = vm && vm->operator_paused ? "is here again, paused" : "runs again";
    if (e)
        snprintf(r->text, sizeof(r->text), "%s is not restored: %.300s", r->guest, text);
    else if (r->checkpoint[0])
        snprintf(r->text, sizeof(r->text), "%s %s, as it was at the checkpoint %s", r->guest, is, r->checkpoint);
    else
        snprintf(r->text, sizeof(r->text), "%s %s, as it was saved in %s/%s", r->guest, is, r->vg, r->lv);
    log_info("save", "%s", r->text);
}

/* ---- beginning ---- */

/* May a guest be restored from a volume, which may have come by an import? */
static enum hv_err volume_check(const struct restore_order *o, struct saved *s, struct why *why)
{
    struct lvm_group *g;
    const struct lvm_lv *lv;
    struct saved here = saved_find(o->guest);
    enum hv_err e = lvm_volume_find(o->vg, o->lv, &g, &lv, why);
    if (e)
        return e;
    *s = saved_of(g, lv);
    if (here.state == SAVED_WHOLE && here.lv != lv)
        return REFUSE(HV_E_EXIST, "%s is saved in %s/%s: restore that, or delete it first", o->guest,
                      here.group->vg.name, here.lv->name);
    if (saved_tagged(lv))
        return s->state > SAVED_WRITING && !strcmp(s->guest, o->guest)
                   ? HV_OK
                   : REFUSE(HV_E_EXIST, "the volume %s/%s is for another saved guest, or one that is not whole", o->vg,
                            o->lv);
    const char *owner = vm_disk_owner(o->vg, o->lv, NULL);
    s->bytes = lvm_lv_bytes(&g->vg, lv);
    return owner ? REFUSE(HV_E_BUSY, "the volume %s/%s is a disk of %s", o->vg, o->lv, owner)
                 : lv_disk_check(o->vg, o->lv, why);
}

static enum hv_err saved_check(const struct restore_order *o, struct saved *s, struct why *why)
{
    *s = saved_find(o->guest);
    enum hv_err e = o->lv                    ? volume_check(o, s, why)
                    : s->state != SAVED_NONE ? HV_OK
                                             : REFUSE(HV_E_NOENT, "%s is not saved on this host", o->guest);
    return e || s->state != SAVED_USED || o->again
               ? e
               : REFUSE(HV_E_EXIST,
                        "%s has run since it was saved in %s/%s, and its disks may have changed since: they would not "
                        "fit its memory; if they do, add --again",
                        o->guest, s->group->vg.name, s->lv->name);
}

static enum hv_err restore_check(const struct restore_order *o, struct saved *s, struct why *why)
{
    const char *guest = o->guest;
    const struct vm *vm = vm_find(guest);
    enum hv_err e = saved_check(o, s, why);
    if (e)
        return e;
    if (vm && vm_state(vm) != VM_STOPPED)
        return REFUSE(HV_E_BUSY, "%s is %s; only a stopped guest can be restored", guest, vm_state_name(vm_state(vm)));
    if (vm && (migration_is_moving(guest) || start_status(vm).state == START_ASKING))
        return REFUSE(HV_E_BUSY, "%s is about to be started, or a move of it is in doubt", guest);
    if (vm_memory_promisable() < LV_DISK_MEMORY + MIB)
        return REFUSE(HV_E_NOMEM, "no memory on this host to restore %s", guest);
    return HV_OK;
}

/* A guest of that name for ask.h, with the network cards that are known here. */
static enum hv_err ask_peers(struct restore *r)
{
    struct mig_id ticket;
    const struct vm *vm = vm_find(r->guest);
    r->asked = mem_alloc(sizeof(*r->asked));
    if (!r->asked)
        return HV_FAIL(HV_E_NOMEM);
    if (vm)
        r->asked->config = vm->config;
    snprintf(r->asked->config.name, sizeof(r->asked->config.name), "%s", r->guest);
    random_bytes(&ticket, sizeof(ticket));
    start_rule_begin(&r->rule, &ticket);
    r->ask = ask_begin(ASK_FIND, r->asked, &r->rule.ticket);
    return r->ask ? HV_OK : HV_FAIL(HV_E_NOMEM);
}

static void restore_free(struct restore *r)
{
    ask_end(r->ask);
    mem_free(r->asked, sizeof(*r->asked));
    flow_close(r->flow);
    mem_free(r, sizeof(*r));
}

static void restore_source_set(struct restore *r, const struct saved *s)
{
    r->was = s->state;
    r->bytes = s->bytes;
    r->feed.imported = s->state == SAVED_NONE;
    snprintf(r->feed.disks, sizeof(r->feed.disks), "%s", s->disks ? s->disks : "");
    snprintf(r->vg, sizeof(r->vg), "%s", s->group->vg.name);
    snprintf(r->lv, sizeof(r->lv), "%s", s->lv->name);
    snprintf(r->uuid, sizeof(r->uuid), "%s", s->lv->uuid);
}

static struct restore *restore_find(const char *guest)
{
    for (unsigned i = 0; i < RESTORES_MAX; i++)
        if (restores[i] && !strcmp(restores[i]->guest, guest))
            return restores[i];
    return NULL;
}

bool restore_is_active(const char *guest) { return restore_find(guest); }

/* Begin with the question to the peers. */
static enum hv_err restore_new(const struct restore_order *o, const struct store_watch *watch, struct restore **out,
                               struct why *why)
{
    unsigned i = 0;
    while (i < RESTORES_MAX && restores[i])
        i++;
    if (i == RESTORES_MAX || restore_find(o->guest))
        return REFUSE(HV_E_BUSY, "%s is being restored already, or %u other guests are, which is the limit", o->guest,
                      RESTORES_MAX);
    struct restore *r = mem_alloc(sizeof(*r));
    if (!r)
        return REFUSE(HV_E_NOMEM, "no memory on this host to restore %s", o->guest);
    *r = (struct restore){ .feed = { .again = o->again, .read = feed_read, .gone = feed_gone, .end = feed_end },
                           .since_us = clock_us(),
                           .watch = *watch };
    r->feed.guest = r->guest;
    snprintf(r->guest, sizeof(r->guest), "%s", o->guest);
    if (host_config->n_peers && !o->force && ask_peers(r)) {
        restore_free(r);
        return REFUSE(HV_E_NOMEM, "no memory on this host to ask its peers for %s", o->guest);
    }
    restores[i] = *out = r;
    return HV_OK;
}

enum hv_err restore_request(const struct restore_order *o, const struct store_watch *watch, struct why *why)
{
    struct saved s;
    struct restore *r;
    enum hv_err e = restore_check(o, &s, why);
    if (!e)
        e = restore_new(o, watch, &r, why);
    if (!e)
        restore_source_set(r, &s);
    return e;
}

enum hv_err restore_checkpoint(const struct checkpoint *c, bool force, const struct store_watch *watch, struct why *why)
{
    struct restore *r;
    enum hv_err e = restore_new(&(struct restore_order){ .guest = c->guest, .force = force }, watch, &r, why);
    if (!e)
        snprintf(r->checkpoint, sizeof(r->checkpoint), "%s", c->name);
    return e;
}

bool restore_goes_on(const char *guest, enum mig_find *answer, struct mig_id *ticket)
{
    const struct restore *r = restore_find(guest);
    if (!r || r->state == RESTORE_OVER)
        return false;
    bool asks = r->state == RESTORE_ASK && r->ask;
    *answer = !asks ? MIG_F_ARRIVING : r->rule.wanted ? MIG_F_WANTED : MIG_F_NONE;
    *ticket = r->rule.ticket;
    return true;
}

/* ---- going on ---- */

static void restore_over(struct restore *r, enum hv_err e, const char *text)
{
    ASSERT(!r->fed);
    r->state = RESTORE_OVER;
    r->err = e;
    snprintf(r->text, sizeof(r->text), "%s", text);
    if (e)
        log_warn("save", "%s", r->text);
    else
        log_info("save", "%s", r->text);
}

/* Is it still what was asked for?  The volume was not open while the peers were asked. */
static enum hv_err saved_still(const struct restore *r, struct why *why)
{
    struct lvm_group *g = lvm_group_find(r->vg);
    const struct lvm_lv *lv = g ? lvm_lv_by_uuid(&g->vg, r->uuid) : NULL;
    if (!lv || saved_of(g, lv).state != r->was || strcmp(lv->name, r->lv) != 0)
        return REFUSE(HV_E_NOENT, "what was saved of %s was deleted or changed meanwhile", r->guest);
    return HV_OK;
}

static void restore_load(struct restore *r)
{
    struct disk *d;
    char text[300];
    enum hv_err e = saved_still(r, WHY(text));
    if (!e)
        e = lv_disk_open_own(r->vg, r->lv, &d, WHY(text));
    r->flow = e ? NULL : flow_read(d, 0, r->bytes);
    if (!e && !r->flow) {
        d->ops->close(d);
        e = HV_E_NOMEM;
    }
    if (!e)
        e = incoming_feed_begin(&r->feed);
    r->fed = !e;
    r->state = RESTORE_LOAD;
    if (e && !r->flow && e != HV_E_NOMEM)
        restore_over(r, e, text);
    else if (e)
        restore_over(r, e,
                     "this host has no memory to restore it now, or no place beside other arrivals; it is saved, and "
                     "`vm restore` tries again");
}

/* ---- the disks of a checkpoint ---- */

/* Its disks are what they were: so is its memory, or it is stopped. */
static void disks_reverted(void *ctx, enum hv_err e, const char *text)
{
    struct restore *r = ctx;
    char outcome[sizeof(r->text)];
    struct saved s = saved_find(r->guest);
    if (e) {
        snprintf(outcome, sizeof(outcome), "%.300s%s", text, r->stopped ? "; the guest was stopped for it" : "");
        restore_over(r, e, outcome);
    } else if (s.state == SAVED_WHOLE) {
        restore_source_set(r, &s);
        restore_load(r);
    } else {
        snprintf(outcome, sizeof(outcome),
                 "%s is stopped, with its disks as at the checkpoint %s; `vm start` starts it", r->guest,
                 r->checkpoint);
        restore_over(r, HV_OK, outcome);
    }
}

static void disks_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct restore *r = ctx;
    r->watch.progress(r->watch.ctx, done, total);
}

/* No peer has the guest.  Its power goes off here, if it is up. */
static void restore_go(struct restore *r)
{
    char text[300];
    struct vm *vm = vm_find(r->guest);
    if (!r->checkpoint[0]) {
        restore_load(r);
        return;
    }
    enum hv_err e = vm ? checkpoint_may_revert(vm, r->checkpoint, WHY(text)) : HV_E_NOENT;
    if (e) {
        restore_over(r, e, vm ? text : "the guest was undefined meanwhile");
        return;
    }
    e = checkpoint_revert(r->guest, r->checkpoint, &(struct store_watch){ disks_progress, disks_reverted, r },
                          WHY(text));
    if (e) {
        restore_over(r, e, text);
        return;
    }
    r->stopped = vm_state(vm) != VM_STOPPED;
    if (r->stopped)
        log_warn("save", "%s: stopped, to be what it was at the checkpoint %s", r->guest, r->checkpoint);
    vm_stop(vm);
    r->state = RESTORE_DISKS;
}

static void ask_over(struct restore *r, enum hv_err e, unsigned peer)
{
    char text[sizeof(r->text)];
    const struct ask_reply *reply = &r->ask->reply[peer];
    const char *name = host_config->peers[peer].name;
    if (e == HV_E_EXIST)
        snprintf(text, sizeof(text),
                 "%s is not restored: at %s it is %.150s: a second copy would use the same disks and "
                 "addresses; stop it there, or drop what is saved there, first",
                 r->guest, name, reply->text);
    else
        snprintf(text, sizeof(text),
                 "%s is not restored: whether it runs at %s is not known: %.150s; if you know that it does not, add "
                 "--force",
                 r->guest, name, reply->text);
    restore_over(r, e, text);
}

static bool ask_poll(struct restore *r)
{
    unsigned peer = 0;
    if (!r->ask) {
        restore_go(r);
        return true;
    }
    switch (start_rule_step(&r->rule, r->ask->reply, r->ask->n, clock_us(), &peer)) {
    case START_GO:   restore_go(r); return true;
    case START_HERE: ask_over(r, HV_E_EXIST, peer); return true;
    case START_WAIT: break;
    }
    if (clock_us() - r->since_us < START_ASK_LIMIT_US)
        return false;
    ask_over(r, HV_E_TIMEOUT, MIN(start_rule_obstacle(r->ask->reply, r->ask->n), r->ask->n - 1));
    return true;
}

static bool restore_load_step(struct restore *r)
{
    uint64_t at;
    char text[200];
    bool moved = flow_step(r->flow);
    r->watch.progress(r->watch.ctx, flow_at(r->flow), r->bytes);
    if (flow_failed(r->flow, &at)) {
        snprintf(text, sizeof(text), "the disk of the volume %s/%s fails at byte %lu", r->vg, r->lv, at);
        restore_fail(r, HV_E_IO, text);
    } else if (flow_at(r->flow) == r->bytes && !r->commit && (r->head_n < sizeof(r->head) || r->left)) {
        restore_fail(r, HV_E_SHORT, "what is in the volume ends before the guest does");
    }
    if (r->commit && r->feed.prepared && !r->err) {
        saved_edit_begin(&r->edit, r->was == SAVED_NONE ? SAVED_TAKE : SAVED_USE, r->vg, r->lv, r->guest, r->end);
        r->state = RESTORE_MARK;
        moved = true;
    }
    return moved;
}

static bool mark_step(struct restore *r)
{
    char text[256];
    enum hv_err e = saved_edit_step(&r->edit, WHY(text));
    if (e == HV_E_AGAIN)
        return false;
    if (e)
        restore_fail(r, e, text);
    r->state = e ? RESTORE_LOAD : RESTORE_RUN;
    return true;
}

static bool restore_one_step(struct restore *r)
{
    switch (r->state) {
    case RESTORE_ASK:   return ask_poll(r);
    case RESTORE_DISKS: return false;
    case RESTORE_LOAD:  return restore_load_step(r);
    case RESTORE_MARK:  return mark_step(r);
    case RESTORE_RUN:   return flow_step(r->flow);
    case RESTORE_OVER:  break;
    }
    return true;
}

bool restore_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < RESTORES_MAX; i++) {
        struct restore *r = restores[i];
        if (!r)
            continue;
        moved |= restore_one_step(r);
        /* the mark of a restore that ended meanwhile is still being written */
        if (r->state != RESTORE_OVER || r->edit.state == EDIT_COMMITTING)
            continue;
        restores[i] = NULL;
        r->watch.done(r->watch.ctx, r->err, r->text);
        restore_free(r);
    }
    return moved;
}
