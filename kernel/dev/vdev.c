/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev.c - the common part of a guest's virtio devices.
 *
 * Creation, reset, queues with their interrupts, deferred work, state.  A device whose driver breaks the protocol is
 * marked broken (DEVICE_NEEDS_RESET): vdev_pop() yields nothing more, and the driver is notified, until a reset.
 * Deferred work is a bit per slot, set by doorbells.  The service loop clears it before it calls the device, so that a
 * doorbell in between sets it again.  Quick work (kernel/service.c) has bits of its own, and a bit for the guest.  They
 * are set in this order: device, guest, cause; and cleared in the other one.  So whoever sees a bit finds what it
 * stands for, and what is set too late for one turn asks for the next.  Not here: registers (virtio_pci.c), rings
 * (virtq.c), the kinds (vdev_*.c). */
#include "kernel/dev/vdev.h"

#include "kernel/dev/devices.h"
#include "kernel/dev/vdev_ops.h"
#include "kernel/dev/virtio_pci.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

#define BROKEN_LOG_MAX 4u /* later ones are only counted: a guest must not fill the log */
enum { ISR_QUEUE = 1, ISR_CONFIG = 2 };

static const struct vdev_ops *const kinds[VDEV_KINDS] = {
    [VDEV_NET] = &vdev_net_ops, [VDEV_BLK] = &vdev_blk_ops,         [VDEV_CONSOLE] = &vdev_console_ops,
    [VDEV_RNG] = &vdev_rng_ops, [VDEV_BALLOON] = &vdev_balloon_ops,
};

/* Guests, by slot, whose devices have quick work. */
static atomic_ullong quick_guests[VM_MAX / 64];

const struct vdev_ops *vdev_ops_of(const struct vdev *d) { return kinds[d->kind]; }

/* How many devices of that kind? */
static unsigned vdev_n_configured(const struct vm_config *c, enum vdev_kind kind)
{
    switch (kind) {
    case VDEV_NET:     return c->n_nics;
    case VDEV_BLK:     return c->n_disks;
    case VDEV_CONSOLE: return c->hvc;
    case VDEV_RNG:     return c->rng;
    case VDEV_BALLOON: return c->balloon;
    default:           return 0;
    }
}

static unsigned vdev_slot(enum vdev_kind kind, unsigned index)
{
    unsigned slot = index ? kinds[kind]->further_slot + index - 1 : kinds[kind]->slot;
    ASSERT(slot >= 1 && slot < VDEV_SLOTS && (!index || kinds[kind]->further_slot));
    return slot;
}

static void vdev_create(struct vm *vm, enum vdev_kind kind, unsigned index)
{
    unsigned slot = vdev_slot(kind, index);
    struct vdev *d = &vm->devices->vdevs.d[slot];
    ASSERT(!d->kind && kinds[kind]->n_queues <= VDEV_QUEUES);
    *d = (struct vdev){ .kind = kind, .slot = (uint8_t)slot, .index = (uint8_t)index };
    virtio_pci_add(vm, d, kinds[kind]->class_code, kinds[kind]->n_queues);
}

void vdev_create_all(struct vm *vm)
{
    pci_guest_init(&vm->devices->pci);
    for (enum vdev_kind k = VDEV_NONE + 1; k < VDEV_KINDS; k++)
        for (unsigned i = 0; i < vdev_n_configured(&vm->config, k); i++)
            vdev_create(vm, k, i);
}

void vdev_reset(struct vm *vm, struct vdev *d)
{
    ASSERT(d->kind > VDEV_NONE && d->kind < VDEV_KINDS);
    const struct vdev_ops *ops = vdev_ops_of(d);
    lock_assert_held(&vm->dev_lock);
    d->status = d->isr = 0;
    d->device_feature_select = d->driver_feature_select = 0;
    d->features = 0;
    d->queue_select = 0;
    d->config_vector = PCI_NO_VECTOR;
    for (unsigned i = 0; i < VDEV_QUEUES; i++)
        virtq_reset(&d->q[i]);
    d->resets++;
    d->announce = false;
    if (ops->reset)
        ops->reset(vm, d);
}

void vdev_reset_all(struct vm *vm)
{
    pci_guest_reset(&vm->devices->pci);
    atomic_store(&vm->devices->vdevs.deferred, 0);
    atomic_store(&vm->devices->vdevs.quick, 0);
    for (unsigned i = 1; i < VDEV_SLOTS; i++)
        if (vm->devices->vdevs.d[i].kind)
            vdev_reset(vm, &vm->devices->vdevs.d[i]);
}

struct vdev *vdev_find_nth(struct vm *vm, enum vdev_kind kind, unsigned index)
{
    struct vdev *d = &vm->devices->vdevs.d[vdev_slot(kind, index)];
    return d->kind == kind ? d : NULL;
}

/* ---- for the kinds ---- */

void vdev_mark_broken(struct vm *vm, struct vdev *d, const char *why)
{
    lock_assert_held(&vm->dev_lock);
    if (d->status & VIRTIO_NEEDS_RESET)
        return;
    if (d->n_broken++ < BROKEN_LOG_MAX)
        log_warn(vm->config.name, "virtio %s %u: %s; the device does nothing until the guest resets it",
                 vdev_ops_of(d)->name, d->index, why);
    d->status |= VIRTIO_NEEDS_RESET;
    if (d->status & VIRTIO_DRIVER_OK)
        vdev_config_changed(vm, d);
}

void vdev_worked(struct vm *vm, uint64_t bytes)
{
    lock_assert_held(&vm->dev_lock);
    vm->devices->vdevs.work += bytes;
}

uint64_t vdev_turn_begin(const struct vm *vm) { return vm->devices->vdevs.work + VDEV_TURN_WORK; }
bool vdev_turn_over(const struct vm *vm, uint64_t turn) { return vm->devices->vdevs.work >= turn; }

enum virtq_result vdev_pop(struct vm *vm, struct vdev *d, unsigned q, struct virtq_chain *c)
{
    ASSERT(q < vdev_ops_of(d)->n_queues);
    if (!vdev_live(d))
        return VIRTQ_EMPTY;
    enum virtq_result r = virtq_pop(vm, &d->q[q], c);
    if (r == VIRTQ_BROKEN)
        vdev_mark_broken(vm, d, "the guest's queue is malformed");
    if (r == VIRTQ_GOT)
        vdev_worked(vm, VDEV_REQUEST_WORK + (c->n_out + c->n_in) * VDEV_SEG_WORK);
    return r;
}

void vdev_push(struct vm *vm, struct vdev *d, unsigned q, uint16_t head, uint32_t written)
{
    ASSERT(q < vdev_ops_of(d)->n_queues);
    if (!virtq_push(vm, &d->q[q], head, written))
        vdev_mark_broken(vm, d, "the guest's queue is malformed");
    d->n_requests++;
}

void vdev_notify(struct vm *vm, struct vdev *d, unsigned q)
{
    if (!virtq_wants_irq(vm, &d->q[q]))
        return;
    if (!pci_guest_irq(vm, d->slot, d->q[q].vector))
        d->isr |= ISR_QUEUE;
}

void vdev_config_changed(struct vm *vm, struct vdev *d)
{
    lock_assert_held(&vm->dev_lock);
    d->config_generation++;
    if (!pci_guest_irq(vm, d->slot, d->config_vector))
        d->isr |= ISR_CONFIG;
}

void vdev_defer(struct vm *vm, const struct vdev *d)
{
    atomic_fetch_or(&vm->devices->vdevs.deferred, BIT32(d->slot));
    pcpu_kick_service();
}

void vdev_quick_again(const struct vm *vm) { atomic_fetch_or(&quick_guests[vm->slot / 64], BIT64(vm->slot % 64)); }

void vdev_defer_quick(struct vm *vm, const struct vdev *d)
{
    atomic_fetch_or(&vm->devices->vdevs.quick, BIT32(d->slot));
    vdev_quick_again(vm);
    pcpu_kick_disks();
}

uint64_t vdev_quick_take(unsigned word)
{
    ASSERT(word < ARRAY_SIZE(quick_guests));
    atomic_ullong *w = &quick_guests[word];
    return atomic_load_explicit(w, memory_order_relaxed) ? atomic_exchange(w, 0) : 0;
}

/* Serve the devices whose bits are set.  Those that have more to do are set again. */
static bool vdev_serve(struct vm *vm, atomic_uint *deferred)
{
    struct vdevs *all = &vm->devices->vdevs;
    ASSERT(this_pcpu()->index == 0);
    if (!atomic_load_explicit(deferred, memory_order_relaxed))
        return false;
    unsigned slots = atomic_exchange(deferred, 0);
    bool busy = false;
    for (unsigned i = 1; i < VDEV_SLOTS; i++) {
        struct vdev *d = &all->d[i];
        if (!(slots & BIT32(i)) || !d->kind || !vdev_ops_of(d)->service || !vdev_ops_of(d)->service(vm, d))
            continue;
        atomic_fetch_or(deferred, BIT32(i)); /* there may be more */
        busy = true;
    }
    return busy;
}

bool vdev_service(struct vm *vm) { return vdev_serve(vm, &vm->devices->vdevs.deferred); }
bool vdev_service_quick(struct vm *vm) { return vdev_serve(vm, &vm->devices->vdevs.quick); }

static void vdev_describe_queues(const struct vm *vm, const struct vdev *d, struct printer *out)
{
    uint16_t offered, wants;
    const struct pci_func *f = &vm->devices->pci.f[d->slot];
    for (unsigned i = 0; i < vdev_ops_of(d)->n_queues; i++) {
        const struct virtq *q = &d->q[i];
        if (virtq_peek(vm, q, &offered, &wants))
            print_line(out, "  queue %u: available %u, taken %u, used %u, notified %u, guest %s %u, vector %u%s", i,
                       offered, q->next_avail, q->next_used, q->notified_used, q->event_idx ? "waits for" : "has flags",
                       wants, q->vector, f->pba & BIT32(q->vector % 32) ? " (masked, pending)" : "");
    }
}

void vdev_describe(const struct vm *vm, struct printer *out)
{
    for (unsigned i = 1; i < VDEV_SLOTS; i++) {
        const struct vdev *d = &vm->devices->vdevs.d[i];
        if (!d->kind)
            continue;
        print_line(out, "virtio %-8s slot %u, %s, features 0x%lx, %lu requests, %lu bytes, %lu failed, broken %u times",
                   vdev_ops_of(d)->name, i,
                   d->status & VIRTIO_NEEDS_RESET ? "needs reset"
                   : vdev_live(d)                 ? "live"
                                                  : "no driver",
                   d->features, d->n_requests, d->n_bytes, d->n_failed, d->n_broken);
        vdev_describe_queues(vm, d, out);
    }
}

/* ---- state ---- */

static void virtq_save(const struct virtq *q, struct wr *w)
{
    wr_u16(w, q->num);
    wr_u16(w, q->vector);
    wr_u8(w, (uint8_t)(q->enabled | q->broken << 1 | q->notified_valid << 2));
    wr_u64(w, q->desc);
    wr_u64(w, q->avail);
    wr_u64(w, q->used);
    wr_u16(w, q->next_avail);
    wr_u16(w, q->next_used);
    wr_u16(w, q->notified_used);
}

static bool virtq_load(const struct vm *vm, struct virtq *q, struct rd *r, uint64_t features)
{
    *q = (struct virtq){ .num = rd_u16(r), .vector = rd_u16(r), .event_idx = features & VIRTIO_F_EVENT_IDX };
    uint8_t flags = rd_u8(r);
    q->enabled = flags & 1, q->broken = flags & 2, q->notified_valid = flags & 4;
    q->desc = rd_u64(r);
    q->avail = rd_u64(r);
    q->used = rd_u64(r);
    q->next_avail = rd_u16(r);
    q->next_used = rd_u16(r);
    q->notified_used = rd_u16(r);
    return !r->bad && (!q->enabled || virtq_legal(vm, q));
}

static void vdev_save_one(const struct vdev *d, struct wr *w)
{
    wr_u8(w, (uint8_t)d->kind);
    wr_u8(w, d->status);
    wr_u8(w, d->isr);
    wr_u8(w, d->config_generation);
    wr_u32(w, d->device_feature_select);
    wr_u32(w, d->driver_feature_select);
    wr_u64(w, d->features);
    wr_u16(w, d->config_vector);
    wr_u16(w, d->queue_select);
    for (unsigned i = 0; i < vdev_ops_of(d)->n_queues; i++)
        virtq_save(&d->q[i], w);
    if (vdev_ops_of(d)->save)
        vdev_ops_of(d)->save(d, w);
}

static bool vdev_load_one(struct vm *vm, struct vdev *d, struct rd *r)
{
    if (rd_u8(r) != d->kind)
        return false;
    d->status = rd_u8(r);
    d->isr = rd_u8(r);
    d->config_generation = rd_u8(r);
    d->device_feature_select = rd_u32(r);
    d->driver_feature_select = rd_u32(r);
    d->features = rd_u64(r);
    d->config_vector = rd_u16(r);
    d->queue_select = rd_u16(r);
    for (unsigned i = 0; i < vdev_ops_of(d)->n_queues; i++)
        if (!virtq_load(vm, &d->q[i], r, d->features))
            return false;
    if (vdev_ops_of(d)->load)
        vdev_ops_of(d)->load(d, r);
    d->announce = vdev_live(d);
    return !r->bad;
}

void vdev_save(struct vm *vm, struct wr *w)
{
    unsigned n = 0;
    for (unsigned i = 1; i < VDEV_SLOTS; i++)
        n += vm->devices->vdevs.d[i].kind != VDEV_NONE;
    wr_u8(w, (uint8_t)n);
    for (unsigned i = 1; i < VDEV_SLOTS; i++)
        if (vm->devices->vdevs.d[i].kind)
            vdev_save_one(&vm->devices->vdevs.d[i], w);
}

bool vdev_load(struct vm *vm, struct rd *r, bool apply)
{
    unsigned n = rd_u8(r), have = 0;
    for (unsigned i = 1; i < VDEV_SLOTS; i++) {
        struct vdev d = vm->devices->vdevs.d[i];
        if (!d.kind)
            continue;
        have++;
        if (!vdev_load_one(vm, &d, r))
            return false;
        if (!apply)
            continue;
        vm->devices->vdevs.d[i] = d;
        atomic_fetch_or(&vm->devices->vdevs.deferred, BIT32(i)); /* doorbells from before the move */
    }
    return have == n && !r->bad;
}
