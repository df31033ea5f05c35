/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/leave_disks.c - see leave_disks.h.
 *
 *   begin   the volumes are named
 *   ready   each disk is held for a moment, and exchanged for a mirror; true once all are in sync
 *   undo    the copies are ended; each disk is held again, and exchanged for the volume alone
 *   left    the guest has closed its mirrors, which closed both halves
 *
 * A guest that stops meanwhile closes its mirrors as well; `gone` says so.  While a mirror is there, so is the guest.
 *
 * Volumes of a stopped guest are opened here, and so are their mirrors, which nobody writes to.  That in which it is
 * saved is the last of them.  It is open from the begin on, so that nobody deletes it; only what is the guest's is
 * copied of it.
 *
 * The volumes of its checkpoints (checkpoint.h) go first, one after the other, likewise.  Each is closed once it is
 * copied, as nobody changes it.  A snapshot is read while the guest writes to its origin (snapshot_view.h).
 *
 * The volumes are deleted only after RUNNING, and never by a host that does not know it.  The registry lists them from
 * the doubt on (move_volume.h), so that they go after a power cut, too. */
#include "kernel/peers/leave_disks.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/peers/move_volume.h"
#include "kernel/peers/peer_disk.h"
#include "kernel/store/checkpoint.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/lvm.h"
#include "kernel/store/mirror.h"
#include "kernel/store/saved.h"
#include "kernel/store/snapshot_disk.h"
#include "kernel/store/snapshot_view.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"

struct leave_disk {
    unsigned index;  /* of the guest's disks, or LEAVE_SAVED */
    bool part, over; /* it is of the checkpoint `checkpoint`; that is copied, and closed */
    char checkpoint[CONFIG_NAME_LEN];
    uint64_t bytes;         /* of a part */
    struct disk *from;      /* owned: the volume of a stopped guest, until m owns it; NULL: none */
    struct mirror *m;       /* owned by the guest's disk; NULL: not yet, or no more */
    struct peer_disk *peer; /* owned by m, or by nobody yet */
    bool has_base;          /* it is a clone, and the destination has its base */
    bool holding, mirrored; /* vm_disk_hold() was called, and not ended; the mirror was put there */
    char group[LVM_NAME_LEN], name[LVM_NAME_LEN], uuid[LVM_UUID_LEN];
};
struct leave_disks {
    struct leave_disks *next; /* of those that are undone */
    struct vm *vm;            /* borrowed: valid while the move has the guest, or a mirror is there */
    char guest[CONFIG_NAME_LEN], peer[CONFIG_NAME_LEN], trouble[400];
    uint64_t rate;
    bool cold, saved; /* the guest is stopped; and saved */
    unsigned n;
    struct leave_disk d[MIG_DISKS_MAX];
};
static struct leave_disks *undone;   /* owned */
#define LEAVE_SAVED CONFIG_MAX_DISKS /* no disk of the guest: what is saved of it */
_Static_assert(CONFIG_MAX_DISKS + 1 + CHECKPOINT_MOVE_MAX <= MIG_DISKS_MAX, "all may move along");

static void leave_part_add(struct leave_disks *d, const struct checkpoint_part *p)
{
    struct leave_disk *k = &d->d[d->n++];
    k->part = true;
    k->bytes = p->bytes;
    snprintf(k->checkpoint, sizeof(k->checkpoint), "%s", p->checkpoint);
    snprintf(k->group, sizeof(k->group), "%s", p->group->vg.name);
    snprintf(k->uuid, sizeof(k->uuid), "%s", p->lv->uuid);
}

static struct leave_disk *leave_disk_add(struct leave_disks *d, unsigned index, const char *vg, const char *name)
{
    struct lvm_group *g = lvm_group_find(vg);
    const struct lvm_lv *lv = g ? lvm_lv_find(&g->vg, name) : NULL;
    struct leave_disk *k = &d->d[d->n++];
    k->index = index;
    snprintf(k->group, sizeof(k->group), "%s", vg);
    snprintf(k->name, sizeof(k->name), "%s", name);
    snprintf(k->uuid, sizeof(k->uuid), "%s", lv ? lv->uuid : "");
    return k;
}

/* A failure is told by leave_disks_trouble(). */
static void leave_saved_add(struct leave_disks *d, const struct saved *s)
{
    struct leave_disk *k = leave_disk_add(d, LEAVE_SAVED, s->group->vg.name, s->lv->name);
    if (lv_disk_open_own(k->group, k->name, &k->from, WHY(d->trouble)))
        return;
    k->from->info.bytes = ALIGN_UP(s->bytes, BLOCK_SECTOR_MAX);
    k->from->info.read_only = false; /* what is made of it is not so yet */
}

uint64_t leave_disks_bytes(const struct vm *vm, bool with_base)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < vm->config.n_disks; i++) {
        const struct lv_config *c = &vm->config.disk[i].lv;
        const struct lvm_group *g = vm->config.disk[i].kind == DISK_ON_LV ? lvm_group_find(c->vg) : NULL;
        const struct lvm_lv *lv = g ? lvm_lv_find(&g->vg, c->lv) : NULL;
        uint64_t all = lv ? lvm_lv_bytes(&g->vg, lv) : 0;
        bool less = lv && !with_base && lvm_base_of(&g->vg, lv);
        n += less ? MIN(all, lv->extents * g->vg.extent_bytes) : all;
    }
    struct checkpoint_part part;
    for (unsigned i = 0; i < CHECKPOINT_MOVE_MAX && checkpoint_part_at(&vm->config, i, &part); i++)
        n += part.bytes;
    return n;
}

enum hv_err leave_disks_begin(struct vm *vm, const char *peer, uint64_t rate, struct leave_disks **out)
{
    *out = NULL;
    struct checkpoint_part part;
    unsigned n = checkpoint_part_at(&vm->config, 0, &part);
    struct saved s = saved_find(vm->config.name);
    bool saved = !vm_is_built(vm) && s.state == SAVED_WHOLE;
    for (unsigned i = 0; i < vm->config.n_disks; i++)
        n += vm->config.disk[i].kind == DISK_ON_LV;
    if (!n && !saved)
        return HV_OK;
    struct leave_disks *d = *out = mem_alloc(sizeof(*d));
    if (!d)
        return HV_FAIL(HV_E_NOMEM);
    d->vm = vm;
    d->rate = rate;
    d->cold = !vm_is_built(vm);
    d->saved = saved;
    snprintf(d->guest, sizeof(d->guest), "%s", vm->config.name);
    snprintf(d->peer, sizeof(d->peer), "%s", peer);
    for (unsigned i = 0; i < vm->config.n_disks; i++) {
        if (vm->config.disk[i].kind != DISK_ON_LV)
            continue;
        (void)leave_disk_add(d, i, vm->config.disk[i].lv.vg, vm->config.disk[i].lv.lv);
        if (!d->cold)
            vm_disk_moving_set(vm, i, true);
    }
    if (saved && !lvm_lv_tag(s.lv, CHECKPOINT_TAG)) /* else it is a part */
        leave_saved_add(d, &s);
    for (unsigned i = 0; i < CHECKPOINT_MOVE_MAX && checkpoint_part_at(&vm->config, i, &part); i++)
        leave_part_add(d, &part);
    return HV_OK;
}

unsigned leave_disks_count(const struct leave_disks *d) { return d ? d->n : 0; }

void leave_disks_peer_has(struct leave_disks *d, uint64_t parts)
{
    for (unsigned i = 0; d && i < d->n; i++)
        d->d[i].has_base = !d->d[i].part && d->d[i].index < CONFIG_MAX_DISKS && (parts & PEER_HAS_BASE(d->d[i].index));
}

static void leave_disk_gone(void *ctx) { ((struct leave_disk *)ctx)->m = NULL; }

static void leave_disk_failed(struct leave_disks *d, const struct leave_disk *k, const char *why)
{
    if (k->part)
        snprintf(d->trouble, sizeof(d->trouble), "its checkpoint %s cannot be copied: %s", k->checkpoint, why);
    else if (k->index == LEAVE_SAVED)
        snprintf(d->trouble, sizeof(d->trouble), "what is saved of it cannot be copied: %s", why);
    else
        snprintf(d->trouble, sizeof(d->trouble), "its disk vd%c cannot be copied: %s", 'a' + k->index, why);
}

/* Is it a volume that no guest has open? */
static bool leave_disk_is_own(const struct leave_disks *d, const struct leave_disk *k) { return d->cold || k->part; }

/* Open a part, by the name that it has now.  A snapshot is read beside the guest, if that writes to its origin. */
static enum hv_err leave_part_open(const struct leave_disks *d, struct leave_disk *k, struct why *why)
{
    struct lvm_group *g = lvm_group_find(k->group);
    const struct lvm_lv *lv = g ? lvm_lv_by_uuid(&g->vg, k->uuid) : NULL;
    enum hv_err e;
    if (!lv)
        e = REFUSE(HV_E_NOENT, "its checkpoint %s was deleted meanwhile", k->checkpoint);
    else if (!d->cold && lvm_snap_of(&g->vg, lv))
        e = snapshot_view_open(g, lv, &k->from, why);
    else
        e = lv_disk_open_own(k->group, lv->name, &k->from, why);
    if (!e) {
        k->from->info.bytes = k->bytes;
        k->from->info.read_only = false; /* what is made of it is not so yet */
    }
    return e;
}

/* What is to be copied: the guest's disk, held and drained; or the volume of a stopped one, open.  NULL: not yet, or
 * trouble says why not. */
static struct disk *leave_disk_from(struct leave_disks *d, struct leave_disk *k)
{
    if (!leave_disk_is_own(d, k)) {
        k->holding = true;
        return vm_disk_hold(d->vm, k->index) ? d->vm->disks.d[k->index].disk : NULL;
    }
    if (!k->from &&
        (k->part ? leave_part_open(d, k, WHY(d->trouble))
                 : (d->saved ? lv_disk_open_kept : lv_disk_open)(k->group, k->name, &k->from, WHY(d->trouble))))
        return NULL;
    (void)k->from->ops->poll(k->from);
    if (k->part && !k->from->known && k->from->lost_us)
        leave_disk_failed(d, k, k->from->why);
    return k->from->known ? k->from : NULL;
}

/* Put a mirror before a disk.  False: its requests are not drained yet, or it failed and trouble says why. */
static bool leave_disk_mirror(struct leave_disks *d, unsigned i)
{
    struct leave_disk *k = &d->d[i];
    struct disk *from = k->mirrored ? NULL : leave_disk_from(d, k);
    if (!from)
        return k->mirrored;
    struct mirror_opts o = {
        .rate = d->rate, .same = k->has_base ? snapshot_disk_same : NULL, .gone = leave_disk_gone, .ctx = k
    };
    enum hv_err e = peer_disk_open(i, d->peer, &from->info, &k->peer);
    if (e)
        snprintf(d->trouble, sizeof(d->trouble), "no memory on this host to copy its disks");
    else if ((e = mirror_open(from, peer_disk_of(k->peer), &o, &k->m, WHY(d->trouble))))
        peer_disk_of(k->peer)->ops->close(peer_disk_of(k->peer));
    if (!leave_disk_is_own(d, k))
        (void)vm_disk_swap(d->vm, k->index, e ? from : mirror_disk(k->m));
    else if (!e)
        k->from = NULL;
    k->holding = false;
    k->mirrored = !e;
    return !e;
}

/* Close what is open of a volume that no guest has. */
static void leave_disk_close(struct leave_disk *k)
{
    struct disk *open = k->m ? mirror_disk(k->m) : k->from;
    k->from = NULL;
    if (open)
        open->ops->close(open);
}

/* Copy a part.  True: it is copied, and closed. */
static bool leave_part_ready(struct leave_disks *d, unsigned i, struct mig_disk_progress *p)
{
    struct leave_disk *k = &d->d[i];
    uint64_t left = k->over ? 0 : k->bytes;
    if (!k->over && !d->trouble[0] && leave_disk_mirror(d, i) && k->m) {
        (void)mirror_disk(k->m)->ops->poll(mirror_disk(k->m));
        left = MIN(mirror_stats(k->m).left, k->bytes);
        k->over = mirror_in_sync(k->m) && mirror_quiet(k->m) && peer_disk_idle(k->peer);
        if (k->over)
            leave_disk_close(k);
    }
    p->total += k->bytes;
    p->done += k->bytes - left;
    struct lvm_group *g = k->over ? lvm_group_find(k->group) : NULL;
    return k->over && (!g || !lvm_lv_by_uuid(&g->vg, k->uuid) || !lvm_use_get(g, k->uuid)->disks);
}

/* One after the other. */
static bool leave_parts_ready(struct leave_disks *d, struct mig_disk_progress *p)
{
    bool ready = true;
    for (unsigned i = 0; i < d->n; i++)
        if (d->d[i].part && ready)
            ready = leave_part_ready(d, i, p);
        else if (d->d[i].part)
            p->total += d->d[i].bytes;
    return ready;
}

bool leave_disks_ready(struct leave_disks *d, struct mig_disk_progress *p)
{
    *p = (struct mig_disk_progress){ 0 };
    bool ready = leave_parts_ready(d, p);
    for (unsigned i = 0; ready && i < d->n; i++) {
        struct leave_disk *k = &d->d[i];
        if (k->part)
            continue;
        if (d->trouble[0] || !leave_disk_mirror(d, i) || !k->m) {
            ready = false;
            continue;
        }
        if (d->cold)
            (void)mirror_disk(k->m)->ops->poll(mirror_disk(k->m));
        struct mirror_stats st = mirror_stats(k->m);
        p->total += st.bytes;
        p->done += st.bytes - MIN(st.left, st.bytes);
        ready &= mirror_in_sync(k->m);
    }
    return ready;
}

bool leave_disks_next(struct leave_disks *d, struct mig_disk_req *r, void *data)
{
    for (unsigned i = 0; i < d->n; i++)
        if (d->d[i].peer && peer_disk_next(d->d[i].peer, r, data))
            return true;
    return false;
}

void leave_disks_done(struct leave_disks *d, unsigned disk, uint64_t tag)
{
    ASSERT(disk < d->n);
    if (d->d[disk].peer)
        peer_disk_done(d->d[disk].peer, tag);
}

bool leave_disks_quiet(const struct leave_disks *d)
{
    for (unsigned i = 0; d && i < d->n; i++) {
        const struct leave_disk *k = &d->d[i];
        if (k->over)
            continue;
        if (!k->m || !k->peer || !mirror_in_sync(k->m) || !mirror_quiet(k->m) || !peer_disk_idle(k->peer))
            return false;
    }
    return true;
}

const char *leave_disks_trouble(struct leave_disks *d)
{
    for (unsigned i = 0; d && !d->trouble[0] && i < d->n; i++) {
        const struct leave_disk *k = &d->d[i];
        char why[300];
        if (k->m && mirror_failed(k->m, WHY(why)))
            leave_disk_failed(d, k, why);
        else if (k->mirrored && !k->m && !k->part)
            snprintf(d->trouble, sizeof(d->trouble), "its disk vd%c was closed", 'a' + k->index);
    }
    return d && d->trouble[0] ? d->trouble : NULL;
}

/* ---- ends ---- */

/* True: the guest has its disk as it was, or there is no guest. */
static bool leave_disk_undo(struct leave_disks *d, struct leave_disk *k)
{
    if (leave_disk_is_own(d, k)) {
        leave_disk_close(k);
        return true;
    }
    bool there = k->m || (vm_find(d->guest) == d->vm && d->vm->disks.d[k->index].disk);
    if (!there)
        return true;
    if (!k->m) {
        if (k->holding && d->vm->disks.d[k->index].hold_us)
            (void)vm_disk_swap(d->vm, k->index, d->vm->disks.d[k->index].disk);
        vm_disk_moving_set(d->vm, k->index, false);
        return true;
    }
    if (d->vm->disks.d[k->index].quiesce != DISK_RUNNING)
        return false;
    mirror_hold(k->m, true);
    if (!vm_disk_hold(d->vm, k->index) || !mirror_quiet(k->m))
        return false;
    struct mirror *m = k->m;
    k->m = NULL;
    (void)vm_disk_swap(d->vm, k->index, mirror_close(m, false));
    vm_disk_moving_set(d->vm, k->index, false);
    return true;
}

static bool leave_disks_undone(struct leave_disks *d)
{
    bool all = true;
    for (unsigned i = 0; i < d->n; i++)
        all &= leave_disk_undo(d, &d->d[i]);
    return all;
}

static void leave_disks_free(struct leave_disks *d)
{
    for (unsigned i = 0; i < d->n; i++)
        ASSERT(!d->d[i].m && !d->d[i].peer);
    mem_free(d, sizeof(*d));
}

void leave_disks_undo(struct leave_disks *d, const char *reason)
{
    for (unsigned i = 0; i < d->n; i++) {
        if (d->d[i].peer)
            peer_disk_fail(d->d[i].peer);
        if (d->d[i].m && !mirror_failed(d->d[i].m, NULL))
            mirror_cancel(d->d[i].m, reason);
    }
    d->next = undone;
    undone = d;
    (void)leave_disks_step(); /* what has no mirror yet is free at once: the job may try another peer */
}

/* Is it, if it stays here, to be no more what it is? */
static bool leave_disk_is_released(const struct leave_disk *k) { return k->part || k->index == LEAVE_SAVED; }

bool leave_disks_text(const struct leave_disks *d, bool keep, char *text)
{
    size_t n = (size_t)snprintf(text, MOVE_LEAVING_MAX, "%s\n", d->guest), before = n;
    for (unsigned i = 0; i < d->n; i++)
        if (d->d[i].uuid[0] && (leave_disk_is_released(&d->d[i]) || !keep))
            n += (size_t)snprintf(text + n, MOVE_LEAVING_MAX - n, "%s%s %s\n", keep ? MOVE_LEAVING_KEEP : "",
                                  d->d[i].group, d->d[i].uuid);
    ASSERT(n < MOVE_LEAVING_MAX);
    return n > before;
}

/* Another guest's definition names it. */
static bool others(const struct leave_disks *d, const struct leave_disk *k)
{
    const struct lvm_group *g = lvm_group_find(k->group);
    const struct lvm_lv *lv = g ? lvm_lv_by_uuid(&g->vg, k->uuid) : NULL;
    const char *owner = lv ? vm_disk_owner(k->group, lv->name, d->guest) : NULL;
    if (owner)
        log_warn("mig", "%s/%s stays: %s has it in its definition", k->group, lv->name, owner);
    return owner;
}

void leave_disks_left(struct leave_disks *d, bool keep, bool listed)
{
    for (unsigned i = 0; i < d->n; i++) {
        if (leave_disk_is_own(d, &d->d[i]))
            leave_disk_close(&d->d[i]);
        ASSERT(!d->d[i].m);
        if (listed || !d->d[i].uuid[0])
            continue;
        if (keep && leave_disk_is_released(&d->d[i]))
            move_volume_release(d->d[i].group, d->d[i].uuid);
        else if (!keep && !others(d, &d->d[i]))
            move_volume_delete(d->d[i].group, d->d[i].uuid);
    }
    leave_disks_free(d);
}

bool leave_disks_step(void)
{
    bool moved = false;
    for (struct leave_disks **at = &undone, *d; (d = *at);) {
        if (!leave_disks_undone(d)) {
            at = &d->next;
            continue;
        }
        *at = d->next;
        leave_disks_free(d);
        moved = true;
    }
    return moved;
}
