/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/move_disk.c - see move_disk.h.  The copy itself is kernel/store/mirror.c.
 *
 *   QUEUED -> FINDING -> NOTED -> CREATING -> OPENING -> ENTERING -> COPYING -> RECORDING -> LEAVING -> DELETING
 *                                                |          |           |
 *                                                +----------+-----------+-> RETURNING -> DELETING (the new volume)
 *
 * FINDING: the disk of a stopped guest is opened.  NOTED: the volume does not exist, and will be made.  ENTERING,
 * LEAVING, RETURNING: the guest's requests are held while its disk is exchanged: for the mirror, for the new one, for
 * the old one.  DELETING: the old volume, or after a failure the new one.
 *
 * A stopped guest (`cold`): the mirror is nobody's disk; it is driven here.  The guest does not start meanwhile.
 *
 * To or from memory: the disk's memory is a part of the guest's own (kernel/dev/disk_ram.c), which it has in addition
 * while the disk is copied, from OPENING on.  It is promised then.  In DELETING the guest has what its configuration
 * says: nothing of it stays when the move fails, or when the disk has left memory.
 *
 * Power cuts.  The registry's entry storage/GUEST.N names the volume to delete after one: at first the new one, if it
 * is made for this; from the switch on the old one, unless it is kept.  It has the name, and once there is one the
 * UUID: another volume may have the name by then.  At the switch this entry and the guest's
 * definition are written together.  Before it is durable the guest has the old disk after a power cut, afterwards the
 * new one; so each write goes to both until it is known to be.  A volume that some guest has is not deleted.
 *
 * A guest that is stopped or reset on the way closes its disks, and the mirror with them (move_gone()).  From the
 * switch on it opens the new one, but not before the registry is durable (vm_disk.c).
 *
 * A volume that a power cut left behind is deleted by a move that begins in DELETING, without a job. */
#include "kernel/manage/move_disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/dev/vdev_blk.h"
#include "kernel/host/clock.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/log.h"
#include "kernel/manage/events.h"
#include "kernel/peers/checkpoint.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/storage_turn.h"
#include "kernel/store/checkpoint.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/lvm_change.h"
#include "kernel/store/mirror.h"
#include "kernel/store/registry.h"
#include "kernel/store/registry_format.h"
#include "kernel/store/saved.h"
#include "kernel/store/volume.h"
#include "kernel/vm/ram_image.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_memory.h"
#include "net/nbd.h"

#define MOVES_MAX 32u
#define OPEN_US   15000000u /* for the new disk to answer first */
#define STUCK_US  60000000u /* without progress, while the guest does not depend on it */
#define RECORD_US 60000000u /* for the registry to be durable, before the job ends */
#define CLOSE_US  30000000u /* for a disk's last requests to end, before its volume is deleted */
#define ENTRY_LEN (sizeof("storage/") + CONFIG_NAME_LEN + 4)

enum move_state {
    MOVE_FREE,
    MOVE_QUEUED,
    MOVE_FINDING,
    MOVE_NOTED,
    MOVE_CREATING,
    MOVE_OPENING,
    MOVE_ENTERING,
    MOVE_COPYING,
    MOVE_RECORDING,
    MOVE_LEAVING,
    MOVE_RETURNING,
    MOVE_DELETING,
    MOVE_OVER
};
struct disk_move {
    enum move_state state;
    struct storage_turn turn;
    struct api_job *job; /* NULL: after a power cut, or it has ended */
    char guest[CONFIG_NAME_LEN];
    unsigned disk;
    struct disk_config from, to;
    char from_uuid[LVM_UUID_LEN], to_uuid[LVM_UUID_LEN]; /* of volumes; to_uuid "": it is not made here, or not yet */
    char from_text[DISK_NAME_LEN + 16], to_text[DISK_NAME_LEN + 16];
    struct disk_move_options o;
    uint64_t bytes;                   /* of the disk */
    bool cold;                        /* the guest is stopped */
    unsigned mark;                    /* on the guest's disk, from QUEUED on; 0: none */
    bool creates, created;            /* the volume is made for this move; it is there */
    bool switched;                    /* the definition names the new place */
    bool busy;                        /* an action with a volume is under way */
    bool told;                        /* OVER: all but the registry knows that it has ended */
    struct mirror *m;                 /* NULL: the guest does not have it */
    struct disk *from_disk, *to_disk; /* owned until the mirror has them; from_disk: cold */
    uint64_t put;                     /* of the registry: its number */
    uint64_t since_us;                /* of the state; COPYING: of the last progress */
    uint64_t begun_us;                /* when it left the queue */
    uint64_t copied;                  /* at the last look */
    uint64_t pause_us;                /* the longest time that the guest's requests were held */
    struct mirror_stats stats;
    enum hv_err err; /* with why: it fails, and ends once all is as before */
    char why[400];
    char after[200]; /* about the old volume, for the end */
};
static struct disk_move moves[MOVES_MAX];
static uint64_t epoch; /* of the registry in which leftovers were looked for */

/* As the job tells it. */
static const char *const phases[] = {
    [MOVE_QUEUED] = "queued",       [MOVE_FINDING] = "opening",     [MOVE_NOTED] = "creating",
    [MOVE_CREATING] = "creating",   [MOVE_OPENING] = "opening",     [MOVE_ENTERING] = "opening",
    [MOVE_COPYING] = "copying",     [MOVE_RECORDING] = "recording", [MOVE_LEAVING] = "leaving",
    [MOVE_RETURNING] = "returning", [MOVE_DELETING] = "deleting",   [MOVE_OVER] = "deleting",
};

static void move_to(struct disk_move *d, enum move_state s)
{
    d->state = s;
    d->since_us = clock_us();
    if (d->job)
        job_phase(d->job, phases[s]);
}

HV_PRINTF(3, 4)
static void move_fails(struct disk_move *d, enum hv_err e, const char *fmt, ...)
{
    va_list ap;
    if (d->err)
        return;
    d->err = e;
    va_start(ap, fmt);
    vsnprintf(d->why, sizeof(d->why), fmt, ap);
    va_end(ap);
}

/* Its disks are open. */
static bool guest_is_up(const struct vm *vm) { return vm_state(vm) == VM_RUNNING || vm_state(vm) == VM_PAUSED; }

/* The guest, if it is as it was when the move began, and its disks as well: the mark goes when it opens or closes
 * them. */
static struct vm *move_vm_same(const struct disk_move *d)
{
    struct vm *vm = vm_find(d->guest);
    bool same = vm && (d->cold ? vm_state(vm) == VM_STOPPED : guest_is_up(vm));
    return same && d->mark && vm->disks.d[d->disk].moving == d->mark ? vm : NULL;
}

/* It is over but for the volume that is to be deleted. */
static void move_ends(struct disk_move *d)
{
    if (d->from_disk)
        d->from_disk->ops->close(d->from_disk);
    if (d->to_disk)
        d->to_disk->ops->close(d->to_disk);
    d->from_disk = d->to_disk = NULL;
    move_to(d, MOVE_DELETING);
}

/* ---- what the registry says of it ---- */

static const char *move_entry(const struct disk_move *d, char out[ENTRY_LEN])
{
    snprintf(out, ENTRY_LEN, "storage/%s.%u", d->guest, d->disk);
    return out;
}

/* c: the volume that is to be deleted after a power cut, d->from or d->to; NULL: none. */
static enum hv_err move_note(const struct disk_move *d, const struct disk_config *c, struct why *why)
{
    char entry[ENTRY_LEN], text[2 * CONFIG_LV_NAME_LEN + LVM_UUID_LEN + 3];
    const char *uuid = c == &d->to ? d->to_uuid : d->from_uuid;
    move_entry(d, entry);
    if (!c)
        return registry_get(entry, NULL) ? registry_put(entry, NULL, 0, why) : HV_OK;
    int n = snprintf(text, sizeof(text), "%s/%s\n%s%s", c->lv.vg, c->lv.lv, uuid, *uuid ? "\n" : "");
    return registry_put(entry, text, (size_t)n, why);
}

/* ---- volumes ---- */

/* uuid "": by its name. */
static const struct lvm_lv *move_volume(const struct lv_config *c, const char *uuid)
{
    const struct lvm_group *g = lvm_group_find(c->vg);
    return !g ? NULL : *uuid ? lvm_lv_by_uuid(&g->vg, uuid) : lvm_lv_find(&g->vg, c->lv);
}

static void move_uuid(const struct lv_config *c, char uuid[LVM_UUID_LEN])
{
    const struct lvm_lv *lv = move_volume(c, "");
    snprintf(uuid, LVM_UUID_LEN, "%s", lv ? lv->uuid : "");
}

static void move_on_progress(void *ctx, uint64_t done, uint64_t total)
{
    const struct disk_move *d = ctx;
    if (d->state == MOVE_CREATING)
        job_progress(d->job, done, total);
}

static void move_on_created(void *ctx, enum hv_err e, const char *text)
{
    struct disk_move *d = ctx;
    char why[320];
    d->busy = false;
    d->created = !e;
    if (e)
        move_fails(d, e, "%s", text);
    else
        move_uuid(&d->to.lv, d->to_uuid);
    if (!e && (e = move_note(d, &d->to, WHY(why))))
        move_fails(d, e, "%s", why);
    move_to(d, MOVE_OPENING);
}

static void move_on_deleted(void *ctx, enum hv_err e, const char *text)
{
    struct disk_move *d = ctx;
    d->busy = false;
    if (e)
        snprintf(d->after, sizeof(d->after), "; %s stays: %.120s", d->err ? d->to_text : d->from_text, text);
    else if (!d->err)
        snprintf(d->after, sizeof(d->after), "; %s is deleted", d->from_text);
    move_to(d, MOVE_OVER);
}

/* The volume to delete at the end; NULL: none. */
static struct disk_config *move_garbage(struct disk_move *d)
{
    if (d->err)
        return d->created ? &d->to : NULL;
    return d->from.kind == DISK_ON_LV && !d->o.keep ? &d->from : NULL;
}

/* The guest's memory is what its configuration says.  False: there is no memory for its tables now. */
static bool move_memory_settle(const struct disk_move *d)
{
    struct vm *vm = vm_find(d->guest);
    return !vm || !vm_disk_memory_set(vm, d->disk, config_ram_disk_bytes(&vm->config, d->disk));
}

static bool move_delete(struct disk_move *d)
{
    struct disk_config *c = move_garbage(d);
    const struct store_watch watch = { move_on_progress, move_on_deleted, d };
    char why[200];
    if (d->busy || !move_memory_settle(d))
        return false;
    if (!c) {
        move_to(d, MOVE_OVER);
        return true;
    }
    const struct lvm_lv *lv = move_volume(&c->lv, c == &d->to ? d->to_uuid : d->from_uuid);
    if (!lv) {
        move_on_deleted(d, HV_E_NOENT, "it is not there any more, or its store is gone");
        return true;
    }
    snprintf(c->lv.lv, sizeof(c->lv.lv), "%s", lv->name);
    if (vm_disk_owner(c->lv.vg, c->lv.lv, NULL)) {
        move_on_deleted(d, HV_E_BUSY, "a guest has it as a disk");
        return true;
    }
    d->busy = true;
    enum hv_err e = volume_delete(lvm_group_find(c->lv.vg), c->lv.lv, &watch, WHY(why));
    if (!e)
        return true;
    d->busy = false;
    if (e == HV_E_BUSY && clock_us() - d->since_us < CLOSE_US)
        return false; /* its disk still closes */
    move_on_deleted(d, e, why);
    return true;
}

/* ---- may it begin? ---- */

static bool place_is_of(const struct vm_config *c, const char *place)
{
    char text[sizeof(moves->to_text)];
    for (unsigned i = 0; c && i < c->n_disks; i++) {
        if (c->disk[i].kind == DISK_IN_RAM)
            continue;
        config_disk_place(&c->disk[i], text, sizeof(text));
        if (!strcmp(text, place))
            return true;
    }
    return false;
}

/* Is the new place some guest's disk already, or will be by another move? */
static enum hv_err move_check_taken(const struct disk_move *d, struct why *why)
{
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        if (vm && (place_is_of(&vm->config, d->to_text) || place_is_of(vm->defined, d->to_text)))
            return REFUSE(HV_E_BUSY, "%s is a disk of the guest %s", d->to_text, vm->config.name);
    }
    for (const struct disk_move *o = moves; o < moves + MOVES_MAX; o++)
        if (o != d && o->state != MOVE_FREE && o->to.kind != DISK_IN_RAM && !strcmp(o->to_text, d->to_text))
            return REFUSE(HV_E_BUSY, "vd%c of %s is being moved to %s", 'a' + o->disk, o->guest, d->to_text);
    return HV_OK;
}

/* d->bytes 0: not known yet. */
static enum hv_err move_check_volume(struct disk_move *d, struct why *why)
{
    const struct lv_config *lv = &d->to.lv;
    struct lvm_group *g = lvm_group_find(lv->vg);
    const struct lvm_lv *v = g ? lvm_lv_find(&g->vg, lv->lv) : NULL;
    uint64_t room = g ? lvm_extents_free(g) * g->vg.extent_bytes : 0;
    d->creates = g && !v;
    if (!g)
        return REFUSE(HV_E_NOENT, "this host has no store named %s; `store list` shows them", lv->vg);
    if (!v && room < d->bytes)
        return REFUSE(HV_E_NOMEM, "the store %s has %lu MiB left, and the disk has %lu", lv->vg, room / MIB,
                      DIV_ROUND_UP(d->bytes, MIB));
    if (!v)
        return HV_OK;
    if (!d->o.overwrite)
        return REFUSE(HV_E_EXIST, "there is a volume %s/%s: --overwrite writes over it", lv->vg, lv->lv);
    if (v->read_only)
        return REFUSE(HV_E_BUSY, "the volume %s/%s is read-only", lv->vg, lv->lv);
    return lv_disk_check(lv->vg, lv->lv, why);
}

static enum hv_err move_check_guest(const struct disk_move *d, const struct vm *vm, struct why *why)
{
    if (!vm)
        return REFUSE(HV_E_NOENT, "no guest is named \"%s\"; `vm list` shows all guests", d->guest);
    if (d->disk >= vm->config.n_disks)
        return REFUSE(HV_E_NOENT, "%s has no disk vd%c; it has %u", d->guest, 'a' + d->disk, vm->config.n_disks);
    if (migration_is_moving(d->guest))
        return REFUSE(HV_E_BUSY, "%s is moving; its disk can move after that", d->guest);
    if (vm->saving)
        return REFUSE(HV_E_BUSY, "%s is being saved; its disk can move after that", d->guest);
    if (checkpoint_is_made(d->guest))
        return REFUSE(HV_E_BUSY, "a checkpoint of %s is being made; its disk can move after that", d->guest);
    if (saved_is(d->guest))
        return REFUSE(HV_E_BUSY, "%s is saved, and goes on with its disks where they are: `vm restore` it first",
                      d->guest);
    if (!guest_is_up(vm) && vm_state(vm) != VM_STOPPED)
        return REFUSE(HV_E_BUSY, "%s is %s; only the disk of a guest that runs, is paused or stopped can be moved",
                      d->guest, vm_state_name(vm_state(vm)));
    const struct disk *is = vm->disks.d[d->disk].disk;
    if (guest_is_up(vm) && vm->config.disk[d->disk].kind != DISK_IN_RAM && (!is || !is->known))
        return REFUSE(HV_E_BUSY, "%s waits for this disk", d->guest);
    return HV_OK;
}

/* Is there memory for the disk? */
static enum hv_err move_check_room(const struct disk_move *d, const struct vm *vm, struct why *why)
{
    uint64_t need = vm_memory_growth(vm, d->to.bytes), room = vm_memory_promisable();
    if (need <= room)
        return HV_OK;
    return REFUSE(HV_E_NOMEM,
                  "vd%c of %s needs %lu MiB of memory with the tables of a move, and this host can promise %lu MiB: "
                  "stop another guest or give the host more memory",
                  'a' + d->disk, d->guest, DIV_ROUND_UP(need, MIB), room / MIB);
}

static enum hv_err move_check_memory(const struct disk_move *d, const struct vm *vm, struct why *why)
{
    bool deletes = d->from.kind == DISK_ON_LV && !d->o.keep, starts = vm->config.autostart != AUTOSTART_NO;
    if (d->cold)
        return REFUSE(HV_E_UNSUPP,
                      "a disk in memory begins anew at each start of its guest: that of %s can be moved "
                      "there once it runs",
                      d->guest);
    if (!d->o.sure)
        return REFUSE(HV_E_AGAIN,
                      "a disk in memory is lost when %s is stopped, or this host loses its power; it is empty at the "
                      "next start%s%s%s; repeat this with --sure",
                      d->guest, starts ? " (autostart)" : "", deletes ? "; --keep keeps " : "",
                      deletes ? d->from_text : "");
    return move_check_room(d, vm, why);
}

static enum hv_err move_check(struct disk_move *d, struct why *why)
{
    const struct vm *vm = vm_find(d->guest);
    enum hv_err e = move_check_guest(d, vm, why);
    if (e)
        return e;
    if (!registry_present() || registry_why()[0])
        return REFUSE(HV_E_UNSUPP, "this host cannot record where the disk is: %s", registry_why());
    d->from = vm->config.disk[d->disk];
    d->to.read_only = d->from.read_only;
    memcpy(d->to.serial, d->from.serial, sizeof(d->to.serial));
    if (checkpoint_any(d->guest))
        return REFUSE(HV_E_BUSY, "%s has checkpoints, of its disks where they are now: delete them first", d->guest);
    if (d->from.kind == DISK_ON_LV)
        move_uuid(&d->from.lv, d->from_uuid);
    d->cold = !guest_is_up(vm);
    const struct disk *is = vm->disks.d[d->disk].disk;
    d->bytes = d->cold ? 0 : is ? is->info.bytes : d->from.bytes;
    if (d->to.kind == DISK_IN_RAM)
        d->to.bytes = ALIGN_UP(d->bytes, BLOCK_SIZE);
    config_disk_place(&d->from, d->from_text, sizeof(d->from_text));
    config_disk_place(&d->to, d->to_text, sizeof(d->to_text));
    if (d->from.kind == DISK_IN_RAM ? d->to.kind == DISK_IN_RAM : !strcmp(d->from_text, d->to_text))
        return REFUSE(HV_E_INVAL, "the disk is on %s already", d->from_text);
    e = vm_define_disk_check(vm, why);
    if (!e)
        e = move_check_taken(d, why);
    if (e)
        return e;
    if (d->to.kind == DISK_ON_LV)
        return move_check_volume(d, why);
    if (d->to.kind == DISK_IN_RAM)
        return move_check_memory(d, vm, why);
    return d->o.overwrite ? HV_OK
                          : REFUSE(HV_E_EXIST, "what is on %s would be lost: --overwrite allows that", d->to_text);
}

static struct disk_move *move_find(const char *guest, unsigned i)
{
    for (struct disk_move *d = moves; d < moves + MOVES_MAX; d++)
        if (d->state != MOVE_FREE && !strcmp(d->guest, guest) && d->disk == i)
            return d;
    return NULL;
}

/* A free place; NULL: there is none. */
static struct disk_move *move_place(void)
{
    for (struct disk_move *d = moves; d < moves + MOVES_MAX; d++)
        if (d->state == MOVE_FREE)
            return d;
    return NULL;
}

enum hv_err disk_move_begin(const char *guest, unsigned i, const struct disk_config *to,
                            const struct disk_move_options *o, const char *by, struct api_job **job, struct why *why)
{
    struct disk_move *d = move_place(), trial = { .disk = i, .to = *to, .o = *o };
    snprintf(trial.guest, sizeof(trial.guest), "%s", guest);
    if (move_find(guest, i))
        return REFUSE(HV_E_BUSY, "that disk of %s is being moved already", guest);
    enum hv_err e = move_check(&trial, why);
    if (e)
        return e;
    trial.job = d ? job_begin(by, "move disk vd%c of %s to %s", 'a' + i, guest, trial.to_text) : NULL;
    if (!trial.job)
        return REFUSE(HV_E_BUSY, "too many jobs are running here: wait until some have ended");
    *d = trial;
    *job = d->job;
    storage_turn_wait(&d->turn);
    move_to(d, MOVE_QUEUED);
    return HV_OK;
}

enum hv_err disk_move_cancel(const char *guest, unsigned i, const char *by, struct why *why)
{
    struct disk_move *d = move_find(guest, i);
    if (!d)
        return REFUSE(HV_E_NOENT, "no disk vd%c of a guest named %s is being moved", 'a' + i, guest);
    if (d->switched)
        return REFUSE(HV_E_BUSY, "it is too late: vd%c of %s is on %s already", 'a' + i, guest, d->to_text);
    move_fails(d, HV_E_CANCEL, "cancelled by %s; %s has its disk on %s as before", by, guest, d->from_text);
    if (d->m)
        mirror_cancel(d->m, d->why);
    why_say(why, "the move of vd%c of %s is cancelled", 'a' + i, guest);
    return HV_OK;
}

/* ---- step by step ---- */

static enum hv_err move_lost(struct disk_move *d)
{
    move_fails(d, HV_E_CANCEL, "%s was stopped, reset or changed meanwhile; its disk is on %s as before", d->guest,
               d->from_text);
    return d->err;
}

/* The guest has closed its disks. */
static void move_gone(void *ctx)
{
    struct disk_move *d = ctx;
    d->m = NULL;
    if (!d->switched)
        (void)move_lost(d);
}

/* The next places are known. */
static enum hv_err move_prepare(struct disk_move *d, struct why *why)
{
    enum hv_err e = d->creates ? move_note(d, &d->to, why) : HV_OK;
    if (!e) {
        d->put = registry_mark();
        move_to(d, d->creates ? MOVE_NOTED : MOVE_OPENING);
    }
    return e;
}

static bool move_queued(struct disk_move *d)
{
    char why[320];
    if (!d->err && !storage_turn_may(&d->turn, true)) {
        snprintf(why, sizeof(why), "waits, place %u in the queue", storage_turn_place(&d->turn));
        job_say(d->job, why);
        return false;
    }
    enum hv_err e = d->err ? d->err : move_check(d, WHY(why));
    if (!e && !d->cold)
        e = move_prepare(d, WHY(why));
    if (e) {
        move_fails(d, e, "%s", why);
        move_to(d, MOVE_OVER);
        return true;
    }
    job_say(d->job, "");
    storage_turn_take(&d->turn);
    events_add(EVENTS_DISK, d->guest, "moving", "vd%c of %s moves from %s to %s", 'a' + d->disk, d->guest, d->from_text,
               d->to_text);
    vm_disk_moving_set(vm_find(d->guest), d->disk, true);
    d->mark = vm_find(d->guest)->disks.d[d->disk].moving;
    d->begun_us = clock_us();
    if (d->cold)
        move_to(d, MOVE_FINDING);
    return true;
}

/* Memory of the guest that the disk is copied to. */
static enum hv_err move_open_memory(const struct disk_move *d, struct disk **out, struct why *why)
{
    struct vm *vm = vm_find(d->guest);
    enum hv_err e = move_check_room(d, vm, why);
    if (e)
        return e;
    e = vm_disk_memory_set(vm, d->disk, d->to.bytes);
    if (!e)
        e = disk_ram_open(vm, d->disk, out);
    return e ? REFUSE(e, "no memory for the tables of a disk of %s", d->guest) : HV_OK;
}

static enum hv_err move_open(const struct disk_move *d, const struct disk_config *c, struct disk **out, struct why *why)
{
    if (c->kind == DISK_ON_LV)
        return lv_disk_open(c->lv.vg, c->lv.lv, out, why);
    if (c->kind == DISK_IN_RAM && c == &d->to)
        return move_open_memory(d, out, why);
    if (c->kind == DISK_IN_RAM)
        return ram_image_open(vm_find(d->guest), d->disk, out, why);
    enum hv_err e = nbd_open(&c->nbd, out);
    return e ? REFUSE(e, "no memory for the connection to %s", c == &d->to ? d->to_text : d->from_text) : HV_OK;
}

/* Open a disk, and wait until it answers.  HV_E_AGAIN: it has not yet. */
static enum hv_err move_await(struct disk_move *d, const struct disk_config *c, struct disk **disk, struct why *why)
{
    const char *text = c == &d->to ? d->to_text : d->from_text;
    if (!move_vm_same(d))
        return move_lost(d);
    enum hv_err e = *disk ? HV_OK : move_open(d, c, disk, why);
    if (e == HV_E_AGAIN && clock_us() - d->since_us > OPEN_US)
        return REFUSE(HV_E_TIMEOUT, "the file of %s cannot be read", text);
    if (e)
        return e;
    (void)(*disk)->ops->poll(*disk);
    if ((*disk)->known)
        return HV_OK;
    if (clock_us() - d->since_us > OPEN_US || (*disk)->n_failed_tries > 2)
        return REFUSE(HV_E_TIMEOUT, "%s cannot be reached: no answer%s%s", text, (*disk)->why[0] ? ": " : "",
                      (*disk)->why);
    return HV_E_AGAIN;
}

/* Cold: how large is the disk? */
static bool move_finding(struct disk_move *d)
{
    char why[320];
    enum hv_err e = d->err ? d->err : move_await(d, &d->from, &d->from_disk, WHY(why));
    if (e == HV_E_AGAIN)
        return false;
    if (!e)
        d->bytes = d->from_disk->info.bytes;
    if (!e && d->to.kind == DISK_ON_LV)
        e = move_check_volume(d, WHY(why));
    if (!e)
        e = move_prepare(d, WHY(why));
    if (e) {
        move_fails(d, e, "%s", why);
        move_ends(d);
    }
    return true;
}

static bool move_noted(struct disk_move *d)
{
    const struct store_watch watch = { move_on_progress, move_on_created, d };
    char why[320];
    if (registry_why()[0])
        move_fails(d, HV_E_IO, "this host cannot record what it does: %s", registry_why());
    if (!d->err && !registry_durable(d->put))
        return false;
    struct lvm_group *g = d->err ? NULL : lvm_group_find(d->to.lv.vg);
    if (g) {
        move_to(d, MOVE_CREATING);
        d->busy = true;
        enum hv_err e = volume_create(g, d->to.lv.lv, d->bytes, &watch, WHY(why));
        if (e)
            move_on_created(d, e, why);
        return true;
    }
    move_fails(d, HV_E_NOENT, "the store %s is gone", d->to.lv.vg);
    move_ends(d);
    return true;
}

static enum hv_err move_mirror(struct disk_move *d, struct disk *from, struct why *why)
{
    const struct mirror_opts o = { .rate = d->o.rate,
                                   .to_is_zero = d->created || d->to.kind == DISK_IN_RAM,
                                   .gone = d->cold ? NULL : move_gone,
                                   .ctx = d };
    enum hv_err e = d->err ? d->err : mirror_open(from, d->to_disk, &o, &d->m, why);
    if (!e)
        d->from_disk = d->to_disk = NULL;
    return e;
}

/* Open the new disk, and wait until it answers. */
static bool move_opening(struct disk_move *d)
{
    char why[320];
    enum hv_err e = d->err ? d->err : move_await(d, &d->to, &d->to_disk, WHY(why));
    if (e == HV_E_AGAIN)
        return false;
    if (!e && d->cold)
        e = move_mirror(d, d->from_disk, WHY(why));
    if (e) {
        move_fails(d, e, "%s", why);
        move_ends(d);
        return true;
    }
    move_to(d, d->cold ? MOVE_COPYING : MOVE_ENTERING);
    return true;
}

static void move_held(struct disk_move *d, uint64_t us) { d->pause_us = MAX(d->pause_us, us); }

/* What the mirror copies: the disk that the guest has, whose requests are held. */
static enum hv_err move_source(struct vm *vm, unsigned i, struct disk **out, struct why *why)
{
    *out = vm->disks.d[i].disk;
    enum hv_err e = *out ? HV_OK : vdev_blk_deepen(vm, i);
    if (!e && !*out)
        e = disk_ram_open(vm, i, out);
    return e ? REFUSE(e, "no memory for the requests of a disk of %s", vm->config.name) : HV_OK;
}

/* The guest is given the mirror. */
static bool move_entering(struct disk_move *d)
{
    struct vm *vm = move_vm_same(d);
    char why[320];
    if (!vm) {
        (void)move_lost(d);
        move_ends(d);
        return true;
    }
    if (!vm_disk_hold(vm, d->disk))
        return false;
    struct disk *now = vm->disks.d[d->disk].disk, *from = NULL;
    enum hv_err e = d->err ? d->err : move_source(vm, d->disk, &from, WHY(why));
    if (!e)
        e = move_mirror(d, from, WHY(why));
    if (e && from && !now)
        from->ops->close(from);
    if (e)
        move_fails(d, e, "%s", why);
    move_held(d, vm_disk_swap(vm, d->disk, e ? now : mirror_disk(d->m)));
    move_to(d, MOVE_COPYING);
    return true;
}

static enum hv_err move_define(struct disk_move *d, struct why *why)
{
    struct vm *vm = move_vm_same(d);
    char text[sizeof(d->from_text)] = "";
    const struct disk_config *old = d->from.kind == DISK_ON_LV && !d->o.keep ? &d->from : NULL;
    if (vm && d->disk < vm->config.n_disks)
        config_disk_place(&vm->config.disk[d->disk], text, sizeof(text));
    if (strcmp(text, d->from_text) != 0)
        return move_lost(d);
    enum hv_err e = move_note(d, old, why);
    return e ? e : vm_define_disk(vm, d->disk, &d->to, why);
}

/* Both sides are equal.  Name the new place; until that is durable, both count. */
static void move_switch(struct disk_move *d)
{
    char why[320];
    enum hv_err e = move_define(d, WHY(why));
    if (e) {
        char again[200];
        move_fails(d, e, "%s", why);
        mirror_cancel(d->m, why);
        if (move_note(d, d->creates ? &d->to : NULL, WHY(again)))
            log_error("job", "the registry still says that the move of a disk of %s has ended: %s", d->guest, again);
        return;
    }
    mirror_commit(d->m);
    d->switched = true;
    d->put = registry_mark();
    move_to(d, MOVE_RECORDING);
}

static bool move_copying(struct disk_move *d)
{
    char why[320];
    if (!d->m) {
        move_ends(d);
        return true;
    }
    d->stats = mirror_stats(d->m);
    job_progress(d->job, d->stats.bytes - d->stats.left, d->stats.bytes);
    if (d->stats.copied != d->copied)
        d->since_us = clock_us();
    d->copied = d->stats.copied;
    if (clock_us() - d->since_us > STUCK_US && !mirror_in_sync(d->m))
        mirror_cancel(d->m, "no byte was copied for 60 s: does one of the disks not answer?");
    if (mirror_failed(d->m, WHY(why))) {
        move_fails(d, HV_E_IO, "%s; %s has its disk on %s as before", why, d->guest, d->from_text);
        move_to(d, MOVE_RETURNING);
        return true;
    }
    if (!mirror_in_sync(d->m))
        return false;
    move_switch(d);
    return true;
}

/* The guest was stopped, so what its memory had is gone, and the volume that it came from is complete: the guest has
 * that again.  A reset leaves the memory as it is. */
static bool move_taken_back(struct disk_move *d)
{
    struct vm *vm = vm_find(d->guest);
    char why[320];
    if (d->m || d->to.kind != DISK_IN_RAM || !vm || vm_state(vm) != VM_STOPPED)
        return false;
    d->o.keep = true; /* whatever comes: the guest may be started before the registry takes the definition */
    bool is_same = d->disk < vm->config.n_disks && vm->config.disk[d->disk].kind == DISK_IN_RAM;
    if (is_same && vm_define_disk(vm, d->disk, &d->from, WHY(why)))
        return false;
    d->switched = false;
    (void)move_lost(d);
    return true;
}

/* After a while the job ends, and makes room for others.  The two sides stay equal. */
static bool move_recording(struct disk_move *d)
{
    char text[400];
    if (move_taken_back(d) || registry_durable(d->put)) {
        move_to(d, MOVE_LEAVING);
        return true;
    }
    if (d->job && registry_why()[0])
        job_say(d->job, registry_why());
    if (!d->job || clock_us() - d->since_us < RECORD_US)
        return false;
    snprintf(text, sizeof(text),
             "the registry is not written: %s; the disk of %s is on both places, and is kept equal, until it is; "
             "then %s has it on %s",
             registry_why(), d->guest, d->guest, d->to_text);
    job_end(d->job, HV_E_IO, text);
    d->job = NULL;
    storage_turn_end(&d->turn);
    return true;
}

/* The guest is given one side: the new disk, or after a failure the old one. */
static bool move_leaving(struct disk_move *d)
{
    struct vm *vm = d->cold ? NULL : vm_find(d->guest);
    if (d->m) {
        mirror_hold(d->m, true);
        if ((vm && !vm_disk_hold(vm, d->disk)) || !mirror_quiet(d->m))
            return false;
        d->stats = mirror_stats(d->m);
        bool left = d->state == MOVE_LEAVING;
        struct disk *disk = mirror_close(d->m, left);
        d->m = NULL;
        if (!vm || (left ? d->to : d->from).kind == DISK_IN_RAM) {
            disk->ops->close(disk);
            disk = NULL;
        }
        if (vm)
            move_held(d, vm_disk_swap(vm, d->disk, disk));
    }
    move_ends(d);
    return true;
}

/* What became of it, in words. */
static void move_sum_up(const struct disk_move *d, char *text, size_t len)
{
    uint64_t ms = (clock_us() - d->begun_us) / 1000;
    if (d->err) {
        snprintf(text, len, "%s%s", d->why, d->after);
        return;
    }
    int n = snprintf(text, len, "vd%c of %s is on %s now: %lu MiB read, %lu MiB of them zero, %u round%s, %lu.%lu s",
                     'a' + d->disk, d->guest, d->to_text, d->stats.copied / MIB, d->stats.zero / MIB, d->stats.rounds,
                     FMT_S(d->stats.rounds), ms / 1000, ms % 1000 / 100);
    if (!d->cold)
        n += snprintf(text + n, len - (size_t)n,
                      "; its requests waited %lu.%lu ms at most for the exchange, and took %lu.%lu ms at most",
                      FMT_TENTHS(d->pause_us, 1000), FMT_TENTHS(d->stats.longest_us, 1000));
    snprintf(text + n, len - (size_t)n, "%s", d->after);
}

static void move_tell(struct disk_move *d)
{
    struct vm *vm = vm_find(d->guest);
    char text[800];
    if (vm && vm->disks.d[d->disk].moving == d->mark) /* else it is that of a move to another host */
        vm_disk_moving_set(vm, d->disk, false);
    move_sum_up(d, text, sizeof(text));
    if (d->begun_us)
        events_add(EVENTS_DISK, d->guest, d->err ? "stays" : "moved", "%s", text);
    if (d->job)
        job_end(d->job, d->err, text);
    else if (d->err)
        log_info("store", "%s; %s %s", d->why, d->to_text, d->after[0] ? "stays" : "is deleted");
    else
        log_info("store", "%s", text);
    storage_turn_end(&d->turn);
    d->job = NULL;
}

/* The entry goes before the place does: after a boot, it would delete a volume of that name.  A registry whose disk
 * fails is asked again in each turn. */
static bool move_over(struct disk_move *d)
{
    char why[200];
    bool first = !d->told;
    if (first)
        move_tell(d);
    d->told = true;
    if (!d->begun_us || !move_note(d, NULL, WHY(why))) {
        *d = (struct disk_move){ 0 };
        return true;
    }
    if (first)
        log_warn("job", "%s: that the move of its disk has ended is not noted yet: %s", d->guest, why);
    return first;
}

/* Nobody but this file drives the mirror of a stopped guest's disk. */
static void move_drive(struct disk_move *d)
{
    struct disk *disk = mirror_disk(d->m);
    (void)disk->ops->poll(disk);
    if (d->state == MOVE_COPYING && !move_vm_same(d)) {
        (void)move_lost(d);
        mirror_cancel(d->m, d->why);
    }
}

static bool move_step(struct disk_move *d)
{
    if (d->cold && d->m)
        move_drive(d);
    switch (d->state) {
    case MOVE_FREE:      return false;
    case MOVE_QUEUED:    return move_queued(d);
    case MOVE_FINDING:   return move_finding(d);
    case MOVE_NOTED:     return move_noted(d);
    case MOVE_CREATING:  return false; /* move_on_created() */
    case MOVE_OPENING:   return move_opening(d);
    case MOVE_ENTERING:  return move_entering(d);
    case MOVE_COPYING:   return move_copying(d);
    case MOVE_RECORDING: return move_recording(d);
    case MOVE_LEAVING:
    case MOVE_RETURNING: return move_leaving(d);
    case MOVE_DELETING:  return move_delete(d);
    case MOVE_OVER:      return move_over(d);
    }
    return false;
}

/* ---- after a power cut ---- */

/* Of GUEST.NUMBER; CONFIG_MAX_DISKS: it is no such name. */
static unsigned entry_disk(const char *entry)
{
    const char *dot = strrchr(entry, '.');
    char *end = NULL;
    unsigned long n = dot && dot[1] >= '0' && dot[1] <= '9' ? strtoul(dot + 1, &end, 10) : CONFIG_MAX_DISKS;
    return end && !*end && n < CONFIG_MAX_DISKS ? (unsigned)n : CONFIG_MAX_DISKS;
}

/* A move that ended with the host is taken up where its volume is deleted.  False: there is no place for it now. */
static bool move_left_begin(const char *entry, const char *vg, const struct lvm_lv *lv)
{
    struct disk_move *d = move_place();
    const char *dot = strrchr(entry, '.'), *name = entry + strlen("storage/");
    if (!d)
        return false;
    *d = (struct disk_move){ .created = true, .to.kind = DISK_ON_LV, .begun_us = clock_us() };
    snprintf(d->to.lv.vg, sizeof(d->to.lv.vg), "%s", vg);
    snprintf(d->to.lv.lv, sizeof(d->to.lv.lv), "%s", lv->name);
    snprintf(d->to_uuid, sizeof(d->to_uuid), "%s", lv->uuid);
    snprintf(d->guest, sizeof(d->guest), "%.*s", (int)(dot - name), name);
    d->disk = entry_disk(entry);
    config_disk_place(&d->to, d->to_text, sizeof(d->to_text));
    move_fails(d, HV_E_CANCEL, "the move of vd%c of %s ended with this host", 'a' + d->disk, d->guest);
    move_to(d, MOVE_DELETING);
    return true;
}

/* The entry has the lines GROUP/VOLUME and UUID; without the second one, the volume was not made before the power went,
 * or the entry is of an older release.  False: look again in the next turn. */
static bool move_left_look(const char *entry)
{
    struct disk_config d;
    char value[2 * CONFIG_LV_NAME_LEN + 8], uuid[LVM_UUID_LEN], why[200];
    const char *text = registry_get(entry, NULL), *second = text + strcspn(text, "\n");
    snprintf(value, sizeof(value), "lv:%.*s", (int)(second - text), text);
    second += *second == '\n';
    snprintf(uuid, sizeof(uuid), "%.*s", (int)strcspn(second, "\n"), second);
    bool ok = entry_disk(entry) < CONFIG_MAX_DISKS && config_disk_parse(value, &d);
    struct lvm_group *g = ok ? lvm_group_find(d.lv.vg) : NULL;
    if (!g || g->why_not[0]) {
        log_warn("store", "%s: the move of a disk ended with this host; the volume's store cannot be used now", value);
        return true;
    }
    const struct lvm_lv *lv = move_volume(&d.lv, uuid);
    if (lv && !vm_disk_owner(d.lv.vg, lv->name, NULL))
        return move_left_begin(entry, d.lv.vg, lv);
    if (registry_put(entry, NULL, 0, WHY(why)))
        log_warn("store", "%s stays in the registry: %s", entry, why);
    return true;
}

/* Entries of moves that this host does not carry out. */
static bool moves_left_look(void)
{
    char entry[REGISTRY_NAME_LEN] = "", own[ENTRY_LEN];
    for (const char *e; (e = registry_next("storage/", entry));) {
        bool ours = false;
        for (const struct disk_move *d = moves; d < moves + MOVES_MAX; d++)
            ours |= d->state != MOVE_FREE && !strcmp(move_entry(d, own), e);
        snprintf(entry, sizeof(entry), "%s", e);
        if (!ours && !move_left_look(entry))
            return false;
    }
    return true;
}

bool disk_move_step(void)
{
    bool moved = false;
    if (epoch != registry_epoch() && moves_left_look())
        epoch = registry_epoch();
    for (struct disk_move *d = moves; d < moves + MOVES_MAX; d++)
        moved |= move_step(d);
    return moved;
}
