/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/migration_in.c - streams from peers: arriving guests, and questions about guests.
 *
 * Each stream that a peer opens gets one of INCOMING_MAX slots and a machine of the engine (migrate/mig.h).  What
 * exceeds a limit is told to come later (LATER, migrate/wire.h), and nothing is lost.  The machine finds out
 * what the stream carries: a move, or a question (FIND, PROBE, QUERY).  A guest exists here from dst_admit() on, in
 * memory of the VM.  Until dst_run() the machine may drop it at any moment without harm, since the source still has it.
 * Afterwards it is a guest like any other, and the machine only has its last record to deliver.
 *
 * finished_ids has the outcome of each move, for a source that lost its stream after COMMIT and asks QUERY.
 * docs/handoff.md explains the answers.  A host with a registry records an arrival before it accepts the guest, and
 * again before it runs it (move_record.h); so the answers are true after a power cut.
 *
 * Not here: what a record of the wire means (migrate/rx.c), the checks of an offer and of a state (kernel/vm/). */
#include "kernel/peers/migration_impl.h"

#include <stdio.h>
#include <string.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/core/guest_mem.h"
#include "kernel/dev/pvclock.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/peers/arrive_disks.h"
#include "kernel/peers/evacuate.h"
#include "kernel/peers/move_record.h"
#include "kernel/peers/start.h"
#include "kernel/peers/stream_io.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/registry.h"
#include "kernel/store/saved.h"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/guest_console.h"
#include "kernel/vm/guest_net.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_memory.h"
#include "kernel/vm/vm_state.h"
#include "migrate/ask.h"
#include "migrate/wire.h"
#include "net/nbd.h"
#include "net/net.h"

#define ARRIVALS_MAX     MIGRATION_ARRIVALS_MAX
#define ARRIVALS_EACH    6  /* of these from one peer, so that it cannot take all places */
#define INCOMING_MAX     12 /* streams with a machine: arrivals, and questions beside them */
#define STREAMS_EACH     (ARRIVALS_EACH + 1)
#define TURNED_AWAY_MAX  8                              /* streams that are told to come later */
#define LINGER_US        10000000                       /* the peer has so long to read the last record */
#define DISK_OPEN_US     12000000                       /* a disk that takes longer to open counts as unreachable */
#define SAVED_AGE_MAX_US (10ul * 365 * 86400 * 1000000) /* since a guest was saved */
#define DISK_PROBE_US    6000000 /* likewise at a question, whose answer is awaited for MIG_ASK_US */

struct incoming {
    struct stream *stream;               /* owned; NULL: slot free, or feed */
    struct incoming_feed *feed;          /* borrowed; NULL: it comes from a peer */
    struct mig_rx *m;                    /* owned; NULL: slot free */
    struct vm *vm;                       /* borrowed; set by admit */
    struct arrive_disks *along;          /* owned: volumes for its disks; NULL: none */
    struct disk *disk[CONFIG_MAX_DISKS]; /* owned until the VM takes them: being opened for admit; NULL: none */
    uint64_t disk_since_us;
    bool works;                       /* this turn hashed or allocated for an offer, and there is more to do */
    struct boot_set boot;             /* owned until the VM takes it: what the guest will start from */
    bool stopped;                     /* the guest is, and stays so; valid once vm is set */
    bool arrives;                     /* it has one of the ARRIVALS_MAX places */
    struct mig_id id;                 /* of the job; valid once vm is set */
    bool recording;                   /* admission waits for its record, and vm is not the machine's yet */
    struct move_write arriving, here; /* the records that the guest arrives, and that it is here */
    char peer[CONFIG_NAME_LEN];
    uint64_t done_us; /* when the machine ended; 0: not yet */
};

/* A stream for which there was no place.  It gets no machine, only an answer. */
struct turned_away {
    struct stream *stream; /* owned; NULL: slot free */
    struct mig_fifo out;   /* in buf */
    uint8_t buf[MIG_BUSY_LEN];
    uint64_t since_us;
};

_Static_assert(DISK_PROBE_US < MIG_ASK_US, "the answer is there in time");
_Static_assert(ARRIVALS_EACH < ARRIVALS_MAX && STREAMS_EACH < INCOMING_MAX, "a place is left for other peers");
_Static_assert(ARRIVALS_MAX < INCOMING_MAX, "a place is left for questions");
static struct migration_counts *counts;
static struct incoming incoming[INCOMING_MAX];
static struct turned_away turned_away[TURNED_AWAY_MAX];
static struct mig_ids finished_ids;

void incoming_init(struct migration_counts *where) { counts = where; }

/* ---- the engine's callbacks ---- */

static void offer_reason_add(void *reasons, const char *text) { mig_reason_add(reasons, "%s", text); }

/* Parse an offer into *o, and find out which of its boot files are here.  False: not known yet. */
static bool offer_read(const struct mig_offer *offer, struct vm_offer *o, struct mig_reasons *reasons)
{
    char why[200] = "";
    if (vm_offer_parse(offer->bytes, offer->len, o, WHY(why)) != HV_OK) {
        mig_reason_add(reasons, "%s", why);
        memset(o, 0, sizeof(*o));
        return true;
    }
    if (!boot_offer_hash_step(o))
        return false;
    o->boot_bytes = boot_offer_bytes(o);
    if (o->boot_bytes > WINDOW_MAX_BYTES)
        mig_reason_add(reasons, "the guest's boot files have %lu MiB; a host keeps at most %lu MiB for a guest",
                       o->boot_bytes / MIB, WINDOW_MAX_BYTES / MIB);
    return true;
}

/* Memory that an arriving guest has already: of its boot files, and of its volumes. */
static uint64_t held_bytes(const struct incoming *in)
{
    uint64_t n = boot_set_bytes(&in->boot) + arrive_disks_memory(in->along);
    for (unsigned i = 0; i < CONFIG_MAX_DISKS; i++)
        n += in->disk[i] && in->disk[i]->local ? LV_DISK_MEMORY : 0;
    return n;
}

/* Add every reason against an offer, read without one, that is known without admitting it. */
static void offer_judge(const struct incoming *in, const struct mig_offer *offer, const struct vm_offer *o,
                        struct mig_reasons *reasons)
{
    bool readable = !reasons->n;
    if (evacuate_keeps_out())
        mig_reason_add(reasons, "host %s is being evacuated", host_config->host.name);
    if (!host_config->host.incoming && !in->feed)
        mig_reason_add(reasons, "host %s takes no incoming moves ([host] incoming = no)", host_config->host.name);
    if (!readable)
        return;
    const struct vm *vm = vm_find(o->config.name);
    if (vm && vm_state(vm) == VM_STOPPED && migration_is_moving(o->config.name)) {
        reasons->later = true; /* its answer comes within a second or so */
        mig_reason_add(reasons, "a move of %s away from host %s is in doubt", o->config.name, host_config->host.name);
    }
    if (vm && vm_state(vm) == VM_STOPPED && move_record_is_here(o->config.name) && !in->feed)
        mig_reason_add(reasons,
                       "host %s has %s already, stopped: `vm undefine %s` there, if the one that moves is right",
                       host_config->host.name, o->config.name, o->config.name);
    struct saved saved = saved_find(o->config.name);
    if (saved.state == SAVED_WHOLE && !in->feed)
        mig_reason_add(reasons,
                       "host %s has %s already, saved in %s/%s: `volume delete %s/%s` there, if the one that moves is "
                       "right",
                       host_config->host.name, o->config.name, saved.group->vg.name, saved.lv->name,
                       saved.group->vg.name, saved.lv->name);
    if (in->feed && o->stopped)
        mig_reason_add(reasons, "what is in the volume is no saved guest");
    if (in->feed && strcmp(o->config.name, in->feed->guest) != 0)
        mig_reason_add(reasons, "what is in the volume is the guest %s", o->config.name);
    if (o->stopped && !registry_present())
        mig_reason_add(reasons,
                       "host %s has no store, so it would forget a stopped guest at its next boot: `store create` "
                       "there",
                       host_config->host.name);
    vm_offer_check(o, vm_memory_promisable() + held_bytes(in), offer_reason_add, reasons);
    vm_state_missing(o, offer_reason_add, reasons);
    if (strcmp(o->config.name, offer->name))
        mig_reason_add(reasons, "the offer is for another guest than announced");
    vm_incoming_check(o, offer_reason_add, reasons);
    if (!in->along && !in->feed)
        arrive_disks_check(o, offer_reason_add, reasons);
}

static void incoming_disk_close(struct incoming *in)
{
    for (unsigned i = 0; i < CONFIG_MAX_DISKS; i++) {
        if (in->disk[i])
            in->disk[i]->ops->close(in->disk[i]);
        in->disk[i] = NULL;
    }
}

/* A saved guest has its volumes where they are now: moves and operators may have renamed them. */
static void feed_disks_place(const struct incoming_feed *f, struct vm_config *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->n_disks; i++)
        if (c->disk[i].kind == DISK_ON_LV)
            (void)saved_disk_place(f->disks, n++, &c->disk[i].lv);
}

/* May this host open that disk, and has it memory for that?  False: no; the reasons say why. */
static bool offer_disk_open(struct incoming *in, const struct vm_offer *o, unsigned i, struct mig_reasons *reasons)
{
    const uint8_t *ip = o->config.disk[i].nbd.ip;
    if (!config_disk_server_allowed(host_config, ip)) {
        mig_reason_add(reasons,
                       "its disk is on server %u.%u.%u.%u, which host %s does not use: if it may, add [host] "
                       "disk-servers = %u.%u.%u.%u/32 there",
                       ip[0], ip[1], ip[2], ip[3], host_config->host.name, ip[0], ip[1], ip[2], ip[3]);
        return false;
    }
    if (!in->disk[i] && nbd_open(&o->config.disk[i].nbd, &in->disk[i]) != HV_OK) {
        mig_reason_add(reasons, "no memory for the connection to its disk");
        return false;
    }
    return true;
}

/* Make volumes for the disks that come along, and open them.  False: not done yet. */
static bool offer_disk_make(struct incoming *in, const struct mig_offer *offer, struct vm_offer *o,
                            struct mig_reasons *reasons)
{
    char why[300] = "";
    enum hv_err e = in->along || reasons->n ? HV_OK : arrive_disks_begin(o, &offer->id, in->peer, &in->along, WHY(why));
    if (!e && in->along)
        e = arrive_disks_make(in->along, in->disk, WHY(why));
    if (e && e != HV_E_AGAIN)
        mig_reason_add(reasons, "host %s cannot make volumes for its disks: %s", host_config->host.name, why);
    arrive_disks_name(in->along, &o->config);
    for (unsigned i = 0; i < o->config.n_disks; i++)
        if (in->disk[i] && o->config.disk[i].kind == DISK_ON_LV)
            in->disk[i]->info.discard |= o->disk[i].discard; /* a hint */
    return e != HV_E_AGAIN;
}

/* Is the volume the one that the guest had when it was saved, and not kept for another one? */
static enum hv_err saved_volume_check(const struct incoming_feed *f, const struct lv_config *c, struct why *why)
{
    struct lvm_group *g;
    const struct lvm_lv *lv;
    enum hv_err e = lvm_volume_find(c->vg, c->lv, &g, &lv, why);
    const char *holder = e ? NULL : saved_disk_holder(lv);
    if (e)
        return e;
    const char *owner = vm_disk_owner(c->vg, c->lv, f->guest);
    if (owner)
        return REFUSE(HV_E_BUSY, "its disk %s/%s is a disk of the guest %s", c->vg, c->lv, owner);
    if (holder && strcmp(holder, f->guest) != 0)
        return REFUSE(HV_E_BUSY, "its disk %s/%s is one of %s, which is saved as well", c->vg, c->lv, holder);
    return f->again || f->imported || saved_has_disk(f->disks, lv) /* of "" too: what a peer sent names volumes here */
               ? HV_OK
               : REFUSE(HV_E_EXIST,
                        "its disk %s/%s is another volume than when it was saved, whose contents do not fit its "
                        "memory; if they do, add --again",
                        c->vg, c->lv);
}

/* Open the volume of a guest that was saved. */
static bool offer_volume_open(struct incoming *in, const struct vm_offer *o, unsigned i, struct mig_reasons *reasons)
{
    char why[300];
    const struct lv_config *lv = &o->config.disk[i].lv;
    enum hv_err e = in->disk[i] ? HV_OK : saved_volume_check(in->feed, lv, WHY(why));
    if (!e && !in->disk[i])
        e = lv_disk_open_kept(lv->vg, lv->lv, &in->disk[i], WHY(why));
    if (e)
        mig_reason_add(reasons, "%s", why);
    return in->disk[i];
}

/* Is the disk the same as at the source?  is_wanted: as the guest knows it.  Adds reasons against it. */
static void offer_disk_compare(struct disk *d, const struct disk_info *is_wanted, struct mig_reasons *reasons)
{
    if (!d->known)
        mig_reason_add(reasons, "its disk %s cannot be opened from host %s: %s", d->name, host_config->host.name,
                       d->why);
    else if (!disk_fits(&d->info, is_wanted))
        mig_reason_add(reasons,
                       "its disk %s has %lu bytes as host %s sees it and %lu at the source, or takes fewer operations: "
                       "is it one and the same export?",
                       d->name, d->info.bytes, host_config->host.name, is_wanted->bytes);
    d->info = *is_wanted;
}

/* Can this host open the guest's disks on servers, and are they the same?  Adds reasons against it.  False: not known
 * yet, and patience_us are not over. */
static bool offer_disk_check(struct incoming *in, const struct vm_offer *o, uint64_t patience_us,
                             struct mig_reasons *reasons)
{
    bool waits = false, opens = false;
    for (unsigned i = 0; i < o->config.n_disks && !o->stopped; i++) {
        if (o->config.disk[i].kind == DISK_IN_RAM || (o->config.disk[i].kind == DISK_ON_LV && !in->feed))
            continue;
        opens |= !in->disk[i];
        if (!(o->config.disk[i].kind == DISK_ON_LV ? offer_volume_open : offer_disk_open)(in, o, i, reasons))
            return true;
    }
    if (opens || !in->disk_since_us)
        in->disk_since_us = clock_us();
    for (unsigned i = 0; i < o->config.n_disks; i++) {
        struct disk *d = in->disk[i];
        if (d)
            (void)d->ops->poll(d);
        waits |= d && !d->known && !d->n_failed_tries;
    }
    if (waits && clock_us() - in->disk_since_us < patience_us)
        return false;
    for (unsigned i = 0; i < o->config.n_disks; i++)
        if (in->disk[i])
            offer_disk_compare(in->disk[i], &o->disk[i], reasons);
    return true;
}

unsigned incoming_arrivals(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < INCOMING_MAX; i++)
        n += incoming[i].m && incoming[i].arrives;
    return n;
}

/* Allocate what the guest's boot files need, a part in each turn.  False: there is more to do. */
static bool offer_boot_memory(struct incoming *in, const struct vm_offer *o, struct mig_reasons *reasons)
{
    if (reasons->n)
        return true;
    enum hv_err e = boot_set_arrive_step(&in->boot, o);
    if (e && e != HV_E_AGAIN)
        mig_reason_add(reasons, "no memory on host %s for the guest's boot files", host_config->host.name);
    in->works = e == HV_E_AGAIN;
    return !in->works;
}

/* Take a place for an arrival.  False: there is none now, and the reasons say so. */
static bool arrival_place(struct incoming *in, struct mig_reasons *reasons)
{
    unsigned n = incoming_arrivals(), n_from = 0;
    for (unsigned i = 0; i < INCOMING_MAX; i++)
        n_from += incoming[i].m && incoming[i].arrives && !strcmp(incoming[i].peer, in->peer);
    in->arrives |= n < ARRIVALS_MAX && n_from < ARRIVALS_EACH;
    if (in->arrives)
        return true;
    reasons->later = true;
    mig_reason_add(reasons,
                   "host %s is busy: %u guests arrive there already, %u of them from this host (%u and %u at most)",
                   host_config->host.name, n, n_from, ARRIVALS_MAX, ARRIVALS_EACH);
    return false;
}

/* The guest does not come, and has no disk open any more. */
static void along_drop(struct incoming *in)
{
    if (in->along)
        arrive_disks_drop(in->along);
    in->along = NULL;
}

/* The guest is admitted, as far as the machine does not say so yet: its record is not durable. */
static void arrival_abandon(struct incoming *in)
{
    ASSERT(in->recording);
    in->recording = false;
    move_record_refused(in->vm->config.name, &in->id, in->peer, "it was not admitted");
    guest_console_arrived(in->vm, false);
    vm_incoming_drop(in->vm);
}

/* Wait for the record.  False: not known yet. */
static bool arrival_recorded(struct incoming *in, const struct vm_offer *o, struct mig_reasons *reasons,
                             struct mig_reasons *notes)
{
    char why[200] = "";
    bool failed, done = move_write_done(&in->arriving, &failed);
    if (failed)
        mig_reason_add(reasons, "host %s cannot record the arrival: %s", host_config->host.name, registry_why());
    if (failed)
        arrival_abandon(in);
    in->works = !done && !failed;
    if (!done)
        return failed;
    in->recording = false;
    log_info("mig", "%s: its guest %s arrives", in->peer, o->config.name); /* the peer first: log_rate.h */
    if (vm_offer_note(o, why, sizeof(why))) {
        log_info("mig", "%s: its guest %s: %s", in->peer, o->config.name, why);
        mig_reason_add(notes, "%s", why);
    }
    if (!in->vm->boot.n)
        mig_reason_add(notes, "reset: the source does not send the files that the guest was started from, so "
                              "it is stopped when it resets itself");
    return true;
}

static size_t dst_knows(void *ctx, void *buf, size_t cap)
{
    static struct vm_knows k; /* large; service pCPU only */
    (void)ctx;
    vm_knows_here(&k);
    if (registry_present())
        vm_knows_add(&k, VM_KNOWS_REGISTRY);
    return vm_knows_write(&k, buf, cap);
}

static bool dst_admit(void *ctx, const struct mig_offer *offer, struct mig_reasons *reasons, struct mig_reasons *notes)
{
    struct incoming *in = ctx;
    static struct vm_offer o; /* large; service pCPU only */
    char why[400] = "";
    in->works = !offer_read(offer, &o, reasons);
    if (in->works)
        return false;
    if (in->feed)
        feed_disks_place(in->feed, &o.config);
    if (in->recording)
        return arrival_recorded(in, &o, reasons, notes);
    offer_judge(in, offer, &o, reasons);
    if (!reasons->n && o.stopped && !o.n_files)
        mig_reason_add(reasons, "the guest is stopped, and comes without the files that it starts from");
    if (!reasons->n && (in->feed || arrival_place(in, reasons)) &&
        ((!in->feed && !offer_disk_make(in, offer, &o, reasons)) || !offer_disk_check(in, &o, DISK_OPEN_US, reasons) ||
         !offer_boot_memory(in, &o, reasons)))
        return false;
    if (reasons->n)
        return true;
    if (vm_incoming_create(&o, in->disk, &in->boot, &in->vm, WHY(why)) != HV_OK) {
        mig_reason_add(reasons, "%s", why);
        return true;
    }
    ASSERT(in->vm);
    in->stopped = o.stopped;
    if (MAX(in->vm->mem.n_gfns + o.n_boot_pages, 1u) != offer->n_pages)
        mig_reason_add(reasons, "the number of pages does not fit the guest that the offer describes");
    else if (!guest_console_arrives(in->vm))
        mig_reason_add(reasons, "no memory for the guest's console output");
    else if (!in->feed && move_record_arriving(in->vm, &offer->id, in->peer, &in->arriving, WHY(why)))
        mig_reason_add(reasons, "host %s cannot record the arrival: %s", host_config->host.name, why);
    if (reasons->n) {
        vm_incoming_drop(in->vm);
        return true;
    }
    in->id = offer->id;
    in->recording = true;
    return arrival_recorded(in, &o, reasons, notes);
}

/* Which boot files, and bases of disks, need not be sent. */
static uint64_t dst_has(void *ctx)
{
    struct incoming *in = ctx;
    return boot_set_have(&in->vm->boot) | arrive_disks_have(in->along);
}

static void *dst_page_for_write(void *ctx, uint64_t gfn)
{
    static uint8_t unused[PAGE_SIZE] __attribute__((aligned(8)));
    const struct incoming *in = ctx;
    uint64_t n = in->vm->mem.n_gfns;
    if (gfn < n)
        return guest_page_for_write(in->vm, gfn);
    void *page = boot_set_page_for_write(&in->vm->boot, gfn - n);
    return page || !in->feed ? page : unused; /* a saved guest has all its files with it; this host has that one too */
}
static bool dst_page_is_present(void *ctx, uint64_t gfn)
{
    struct vm *vm = ((struct incoming *)ctx)->vm;
    uint64_t n = vm->mem.n_gfns;
    return gfn < n ? guest_page(vm, gfn) != NULL : boot_set_page_for_write(&vm->boot, gfn - n) != NULL;
}

static void dst_console(void *ctx, uint64_t at, const uint8_t *p, size_t len)
{
    guest_console_history(((struct incoming *)ctx)->vm, at, p, len);
}

/* Guest time runs from the load on.  The time in transit is added, so that the guest's clocks count the whole
 * blackout. */
static enum hv_err dst_state_load(void *ctx, const void *buf, size_t len, uint64_t age_us, struct why *why)
{
    struct vm *vm = ((struct incoming *)ctx)->vm;
    ASSERT(vm);
    uint64_t now = tsc_read();
    enum hv_err e = vm_state_load(vm, buf, len, why);
    if (e || ((struct incoming *)ctx)->stopped)
        return e;
    guest_time_catch_up(vm, age_us, now);
    return HV_OK;
}

/* Map all received memory, so that first accesses do not fault one by one, and running needs no allocation. */
static enum hv_err dst_ready(void *ctx, struct why *why)
{
    const struct incoming *in = ctx;
    struct vm *vm = in->vm;
    if (in->arriving.begun && registry_why()[0])
        return REFUSE(HV_E_IO, "host %s cannot record the arrival: %s", host_config->host.name, registry_why());
    enum hv_err whole = arrive_disks_whole(in->along, why);
    if (whole)
        return whole;
    for (uint64_t b = 0; b < vm->mem.n_blocks; b++) {
        if (!guest_page(vm, b * PAGES_PER_BLOCK))
            continue;
        enum hv_err e = guest_mem_fault(vm, gpa(b * BLOCK_SIZE), true);
        if (e)
            return REFUSE(e, "no memory for the page tables of %s", vm->config.name);
    }
    return HV_OK;
}

/* A disk that fails now cannot keep the guest, which stands still, from running: its source may have heard nothing.
 * But if volumes came along, the source would delete its own, and these would go at a power cut: the guest waits. */
static bool dst_record(void *ctx)
{
    struct incoming *in = ctx;
    bool failed;
    bool records = in->feed ? !in->vm->defined : in->arriving.begun; /* a guest that is defined here is known anyway */
    if (!in->here.begun && records && !(in->along && registry_why()[0]))
        move_record_here(in->vm, &in->id, in->peer, &in->here);
    bool done = move_write_done(&in->here, &failed);
    if (in->along && (failed || !in->here.begun)) {
        in->works = false;
        return false;
    }
    if (failed)
        log_error("mig", "%s is this host's now, and not recorded as such: after a power cut it is known nowhere: %s",
                  in->vm->config.name, registry_why());
    in->works = !done && !failed;
    return done || failed;
}

static bool same_config(const struct vm_config *a, const struct vm_config *b)
{
    static char text[2][CONFIG_VM_TEXT_MAX];
    return !strcmp(a->kernel, b->kernel) && !strcmp(a->initrd, b->initrd) &&
           config_vm_write(a, text[0], sizeof(text[0])) && config_vm_write(b, text[1], sizeof(text[1])) &&
           !strcmp(text[0], text[1]);
}

/* A guest that was restored, and that is defined here: if it is what its definition says, it goes on as if it had been
 * started here.  Else it is that once it stops. */
static void restored_settle(struct vm *vm)
{
    if (!vm->defined)
        return;
    bool same = !vm->redefined && same_config(&vm->config, vm->defined);
    vm->arrived = !same;
    vm->redefined = !same;
}

static void dst_run(void *ctx)
{
    struct incoming *in = ctx;
    struct vm *vm = in->vm;
    ASSERT(vm);
    vm->move_hash_bytes = 0; /* they are freed with the machine */
    if (in->along)
        arrive_disks_keep(in->along);
    in->along = NULL;
    guest_console_arrived(vm, true);
    counts->arrived += !in->feed;
    if (in->stopped) {
        vm_incoming_rest(vm);
        log_info("mig", "%s: is here now, stopped", mig_rx_name(in->m));
        return;
    }
    vm_resume(vm);
    if (in->feed)
        restored_settle(vm);
    for (unsigned i = 0; i < vm->config.n_nics; i++)
        net_announce_mac(vm->config.nic[i].mac);
    log_info("mig", "%s: %s", vm->config.name, vm->operator_paused ? "is here now, paused" : "runs here now");
}

static void dst_drop(void *ctx)
{
    struct incoming *in = ctx;
    ASSERT(in->vm);
    log_warn("mig", "%s: its guest %s is dropped, it does not run here", in->peer, in->vm->config.name);
    if (in->arriving.begun)
        move_record_refused(in->vm->config.name, &in->id, in->peer, mig_rx_text(in->m));
    guest_console_arrived(in->vm, false);
    vm_incoming_drop(in->vm);
    along_drop(in);
}

static enum mig_find dst_find(void *ctx, const char *name, const uint8_t *mac, struct mig_id *ticket, struct why *why)
{
    return start_find(name, mac, ((struct incoming *)ctx)->peer, ticket, why);
}

static bool dst_probe(void *ctx, const struct mig_offer *offer, struct mig_reasons *reasons, uint64_t *free_bytes)
{
    struct incoming *in = ctx;
    static struct vm_offer o; /* large; service pCPU only */
    in->works = !offer_read(offer, &o, reasons);
    if (in->works)
        return false;
    offer_judge(in, offer, &o, reasons);
    if (!reasons->n && !offer_disk_check(in, &o, DISK_PROBE_US, reasons))
        return false;
    incoming_disk_close(in);
    *free_bytes = vm_memory_promisable();
    return true;
}

/* The VM slot may be another guest's meanwhile: compare the name. */
static void dst_frame(void *ctx, const uint8_t *frame, size_t len)
{
    const struct incoming *in = ctx;
    if (!strcmp(in->vm->config.name, mig_rx_name(in->m)))
        guest_net_deliver(in->vm, frame, len);
}

static unsigned dst_n_disks(void *ctx) { return arrive_disks_count(((struct incoming *)ctx)->along); }
static enum hv_err dst_disk_begin(void *ctx, unsigned slot, const struct mig_disk_req *r, const void *data,
                                  struct why *why)
{
    struct incoming *in = ctx;
    return arrive_disk_write(in->along, in->vm, slot, r, data, why);
}
static enum hv_err dst_disk_end(void *ctx, unsigned slot, struct why *why)
{
    return arrive_disk_written(((struct incoming *)ctx)->along, slot, why);
}

static const struct mig_dst_ops dst_ops = {
    .knows = dst_knows,
    .admit = dst_admit,
    .page_for_write = dst_page_for_write,
    .page_is_present = dst_page_is_present,
    .console = dst_console,
    .state_load = dst_state_load,
    .ready = dst_ready,
    .record = dst_record,
    .run = dst_run,
    .frame = dst_frame,
    .drop = dst_drop,
    .find = dst_find,
    .probe = dst_probe,
    .has = dst_has,
    .n_disks = dst_n_disks,
    .disk_begin = dst_disk_begin,
    .disk_end = dst_disk_end,
};

/* ---- machines ---- */

void incoming_verdict(const struct mig_id *id, const char *peer, enum mig_verdict v, const char *why)
{
    const struct peer_config *p = config_peer(host_config, peer);
    unsigned source = p ? (unsigned)(p - host_config->peers) : CONFIG_MAX_PEERS; /* no longer a peer */
    mig_ids_put(&finished_ids, id, source, true, v, why);
}

static bool incoming_settle(void *ctx, const struct mig_id *id)
{
    bool decided = true;
    (void)ctx;
    for (unsigned i = 0; i < INCOMING_MAX; i++)
        if (incoming[i].m)
            decided &= mig_rx_settle(incoming[i].m, id);
    return decided;
}

/* A free slot for one more stream of that peer; NULL: none. */
static struct incoming *incoming_slot(const char *peer)
{
    struct incoming *slot = NULL;
    unsigned n_from = 0;
    for (unsigned i = 0; i < INCOMING_MAX; i++)
        if (!incoming[i].m)
            slot = &incoming[i];
        else
            n_from += !strcmp(incoming[i].peer, peer);
    return n_from < STREAMS_EACH ? slot : NULL;
}

/* No place for s: say so, for the peer to come later.  An older peer reads it as a refusal. */
static void incoming_turn_away(struct stream *s)
{
    const struct peer_config *peer = stream_peer(s);
    char text[200];
    for (unsigned i = 0; i < TURNED_AWAY_MAX; i++) {
        struct turned_away *t = &turned_away[i];
        if (t->stream)
            continue;
        *t = (struct turned_away){ .stream = s, .since_us = clock_us() };
        t->out = (struct mig_fifo){ .buf = t->buf, .cap = sizeof(t->buf) };
        snprintf(text, sizeof(text), "host %s is busy: it has no place for one more connection of %s now",
                 host_config->host.name, peer->name);
        mig_busy_put(&t->out, text);
        return;
    }
    stream_close(s); /* that says "later" as well, without words */
}

static bool turned_away_step(struct turned_away *t)
{
    uint8_t ignored[512];
    size_t len;
    const uint8_t *p = mig_fifo_data(&t->out, &len);
    size_t n = len ? stream_write(t->stream, p, len) : 0;
    if (n) {
        mig_fifo_consume(&t->out, n);
        stream_flush(t->stream);
    }
    bool moved = n || stream_read(t->stream, ignored, sizeof(ignored)); /* else TCP would reset, not close */
    if ((moved || !stream_gone(t->stream)) && clock_us() < t->since_us + LINGER_US)
        return moved;
    stream_close(t->stream);
    t->stream = NULL;
    return moved;
}

void migration_accept(struct stream *s)
{
    const struct peer_config *peer = stream_peer(s);
    struct incoming *in = incoming_slot(peer->name);
    struct mig_rx_params p = { .ops = &dst_ops,
                               .ctx = in,
                               .mem = { mem_alloc, mem_free },
                               .ids = &finished_ids,
                               .settle = incoming_settle,
                               .source = (unsigned)(peer - host_config->peers),
                               .now_us = clock_us(),
                               .clock_us = clock_us };
    if (in)
        memset(in, 0, sizeof(*in));
    if (!in || mig_rx_create(&p, &in->m) != HV_OK) {
        log_info("mig", "connection from %s: no place now, or no memory; it is to come later", peer->name);
        incoming_turn_away(s);
        return;
    }
    ASSERT(p.source < host_config->n_peers);
    snprintf(in->peer, sizeof(in->peer), "%s", peer->name);
    in->stream = s;
}

static uint64_t saved_clock_us(void) { return clock_wall_ns() / 1000; }

enum hv_err incoming_feed_begin(struct incoming_feed *f)
{
    static struct mig_ids nothing; /* the tag of the volume says whether it was restored */
    struct incoming *in = incoming;
    while (in < incoming + INCOMING_MAX && in->m)
        in++;
    if (in == incoming + INCOMING_MAX)
        return HV_FAIL(HV_E_BUSY);
    memset(&nothing, 0, sizeof(nothing));
    struct mig_rx_params p = { .ops = &dst_ops,
                               .ctx = in,
                               .mem = { mem_alloc, mem_free },
                               .ids = &nothing,
                               .settle = incoming_settle,
                               .source = CONFIG_MAX_PEERS,
                               .now_us = clock_us(),
                               .clock_us = saved_clock_us,
                               .age_max_us = SAVED_AGE_MAX_US };
    memset(in, 0, sizeof(*in));
    snprintf(in->peer, sizeof(in->peer), "(saved)");
    in->feed = f;
    return mig_rx_create(&p, &in->m);
}

enum hv_err migration_cancel_incoming(const struct vm *vm, const char *reason)
{
    /* RUNNING: the move is complete, only RUNNING is left to deliver */
    for (unsigned i = 0; i < INCOMING_MAX; i++)
        if (incoming[i].m && incoming[i].vm == vm && mig_rx_state(incoming[i].m) != MIG_RX_RUNNING)
            return mig_rx_cancel(incoming[i].m, reason, clock_us());
    return HV_FAIL(HV_E_NOENT);
}

/* The one who feeds it learns what became of it. */
static void incoming_feed_end(struct incoming *in)
{
    bool runs = mig_rx_state(in->m) == MIG_RX_RUNNING;
    enum hv_err e = runs ? HV_OK : mig_rx_error(in->m) ? mig_rx_error(in->m) : HV_E_CANCEL;
    in->feed->end(in->feed, e, runs ? "" : mig_rx_text(in->m));
    in->feed = NULL;
}

static void incoming_machine_end(struct incoming *in)
{
    ASSERT(in->m && (in->stream || in->feed) && in->done_us);
    if (in->feed)
        incoming_feed_end(in);
    else if (mig_rx_state(in->m) == MIG_RX_DROPPED)
        log_warn("mig", "%s: its %s%s is not taken: %s", in->peer, *mig_rx_name(in->m) ? "guest " : "connection",
                 mig_rx_name(in->m), mig_rx_text(in->m));
    mig_rx_destroy(in->m);
    in->m = NULL;
    if (in->recording)
        arrival_abandon(in);
    incoming_disk_close(in);
    along_drop(in);
    boot_set_drop(&in->boot);
    if (in->stream)
        stream_close(in->stream);
    in->stream = NULL;
}

/* The hashes are part of what the guest was promised.  While the machine has it, the slot is no other guest's. */
static void hashes_account(struct incoming *in)
{
    struct mig_rx_stats st;
    enum mig_rx_state s = mig_rx_state(in->m);
    if (s < MIG_RX_LOADING || s > MIG_RX_PREPARED)
        return;
    mig_rx_stats(in->m, &st);
    in->vm->move_hash_bytes = st.hash_bytes;
}

static bool feed_pump_in(struct incoming *in)
{
    size_t room;
    struct mig_fifo *to = &mig_rx_io(in->m)->in;
    in->feed->prepared = mig_rx_state(in->m) == MIG_RX_PREPARED;
    uint8_t *p = mig_fifo_space(to, 1, &room);
    size_t n = room ? in->feed->read(in->feed, p, room) : 0;
    mig_fifo_commit(to, n);
    return n > 0;
}

/* Nobody reads the answers to a saved guest. */
static bool feed_pump_out(struct incoming *in)
{
    size_t n = mig_fifo_len(&mig_rx_io(in->m)->out);
    mig_fifo_consume(&mig_rx_io(in->m)->out, n);
    return n > 0;
}

/* Bytes come no more: the machine hears of it. */
static bool incoming_lost(struct incoming *in)
{
    const char *why = "";
    enum hv_err e = HV_OK;
    if (in->feed)
        e = mig_rx_state(in->m) == MIG_RX_RUNNING ? HV_E_CLOSED : in->feed->gone(in->feed, &why);
    else if (stream_gone(in->stream))
        e = stream_gone_error(in->stream), why = stream_reason(in->stream);
    if (e)
        mig_rx_link_lost(in->m, e, why, clock_us());
    return e != HV_OK;
}

static bool incoming_machine_step(struct incoming *in)
{
    ASSERT(in->stream || in->feed);
    bool moved = in->feed ? feed_pump_in(in) : stream_pump_in(mig_rx_io(in->m), in->stream);
    in->works = false;
    struct mig_wait w = mig_rx_step(in->m, clock_us());
    hashes_account(in);
    bool more = w.kind == MIG_WAIT_MORE;
    moved |= (in->feed ? feed_pump_out(in) : stream_pump_out(mig_rx_io(in->m), in->stream, more)) || more;
    if (w.kind != MIG_WAIT_DONE && !moved && incoming_lost(in))
        w = mig_rx_step(in->m, clock_us());
    if (w.kind == MIG_WAIT_DONE && !in->done_us)
        in->done_us = clock_us();
    if (in->done_us && (mig_fifo_len(&mig_rx_io(in->m)->out) == 0 || (in->stream && stream_gone(in->stream)) ||
                        clock_us() > in->done_us + LINGER_US))
        incoming_machine_end(in);
    return moved || in->works;
}

bool incoming_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < INCOMING_MAX; i++)
        if (incoming[i].m)
            moved |= incoming_machine_step(&incoming[i]);
    for (unsigned i = 0; i < TURNED_AWAY_MAX; i++)
        if (turned_away[i].stream)
            moved |= turned_away_step(&turned_away[i]);
    return moved;
}
