/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/restore.c - saved guests that come back: save.h.
 *
 *     ASK --no peer has the guest--> LOAD --the machine is PREPARED--> MARK --commit: godwit.restored--> RUN --> over
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
#include "kernel/peers/migration_impl.h"
#include "kernel/peers/save.h"
#include "kernel/peers/start.h"
#include "kernel/peers/start_rule.h"
#include "kernel/store/disk_flow.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/saved.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_memory.h"
#include "migrate/wire.h"

enum restore_state { RESTORE_ASK, RESTORE_LOAD, RESTORE_MARK, RESTORE_RUN, RESTORE_OVER };
struct restore {
    struct incoming_feed feed;
    enum restore_state state;
    char guest[CONFIG_NAME_LEN];
    char vg[LVM_NAME_LEN], lv[LVM_NAME_LEN];
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
    r->begun = true;
    if (r->left > MIG_REC_LEN_MAX)
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
    if (e)
        snprintf(r->text, sizeof(r->text), "%s is not restored: %.300s", r->guest, text);
    else
        snprintf(r->text, sizeof(r->text), "%s %s, as it was saved in %s/%s", r->guest,
                 vm && vm->operator_paused ? "is here again, paused" : "runs again", r->vg, r->lv);
    log_info("save", "%s", r->text);
}

/* ---- beginning ---- */

static enum hv_err restore_check(const char *guest, bool again, struct saved *s, struct why *why)
{
    const struct vm *vm = vm_find(guest);
    *s = saved_find(guest);
    if (s->state == SAVED_NONE)
        return REFUSE(HV_E_NOENT, "%s is not saved on this host", guest);
    if (s->state == SAVED_USED && !again)
        return REFUSE(HV_E_EXIST,
                      "%s has run since it was saved in %s/%s, and its disks may have changed since: they would not "
                      "fit "
                      "its memory; if they do, add --again",
                      guest, s->group->vg.name, s->lv->name);
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

enum hv_err restore_request(const char *guest, bool again, bool force, const struct store_watch *watch, struct why *why)
{
    struct saved s;
    unsigned i = 0;
    enum hv_err e = restore_check(guest, again, &s, why);
    if (e)
        return e;
    while (i < RESTORES_MAX && restores[i] && strcmp(restores[i]->guest, guest) != 0)
        i++;
    if (i == RESTORES_MAX || restores[i])
        return REFUSE(HV_E_BUSY, "%s is being restored already, or %u other guests are, which is the limit", guest,
                      RESTORES_MAX);
    struct restore *r = mem_alloc(sizeof(*r));
    if (!r)
        return REFUSE(HV_E_NOMEM, "no memory on this host to restore %s", guest);
    *r = (struct restore){ .feed = { .again = again, .read = feed_read, .gone = feed_gone, .end = feed_end },
                           .bytes = s.bytes,
                           .since_us = clock_us(),
                           .watch = *watch };
    snprintf(r->guest, sizeof(r->guest), "%s", guest);
    snprintf(r->vg, sizeof(r->vg), "%s", s.group->vg.name);
    snprintf(r->lv, sizeof(r->lv), "%s", s.lv->name);
    if (host_config->n_peers && !force && ask_peers(r)) {
        restore_free(r);
        return REFUSE(HV_E_NOMEM, "no memory on this host to ask its peers for %s", guest);
    }
    restores[i] = r;
    return HV_OK;
}

/* ---- going on ---- */

static void restore_over(struct restore *r, enum hv_err e, const char *text)
{
    ASSERT(!r->fed);
    r->state = RESTORE_OVER;
    r->err = e;
    snprintf(r->text, sizeof(r->text), "%s", text);
    log_warn("save", "%s", r->text);
}

/* Is it still what was asked for?  The volume was not open while the peers were asked. */
static enum hv_err saved_still(const struct restore *r, struct why *why)
{
    struct saved s = saved_find(r->guest);
    if (s.state == SAVED_NONE || (s.state == SAVED_USED && !r->feed.again) || s.bytes != r->bytes ||
        strcmp(s.group->vg.name, r->vg) != 0 || strcmp(s.lv->name, r->lv) != 0)
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
        restore_over(r, e, "this host has no memory to restore it now, or no place beside other arrivals");
}

static void ask_over(struct restore *r, enum hv_err e, unsigned peer)
{
    char text[sizeof(r->text)];
    const struct ask_reply *reply = &r->ask->reply[peer];
    const char *name = host_config->peers[peer].name;
    if (e == HV_E_EXIST)
        snprintf(text, sizeof(text),
                 "%s is not restored: at %s it is %.150s: a second copy would use the same disks and "
                 "addresses; stop it there first",
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
        restore_load(r);
        return true;
    }
    switch (start_rule_step(&r->rule, r->ask->reply, r->ask->n, clock_us(), &peer)) {
    case START_GO:   restore_load(r); return true;
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
        saved_edit_begin(&r->edit, SAVED_USE, r->vg, r->lv, r->guest, 0);
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
    case RESTORE_ASK:  return ask_poll(r);
    case RESTORE_LOAD: return restore_load_step(r);
    case RESTORE_MARK: return mark_step(r);
    case RESTORE_RUN:  return flow_step(r->flow);
    case RESTORE_OVER: break;
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
