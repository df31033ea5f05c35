/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/offer_check.c - the destination's check of an offer that is well formed: every reason against the guest.
 *
 * Not here: names in use, and policy (vm_manage.c, kernel/peers/); what the guest's volumes need
 * (kernel/peers/arrive_disks.c). */
#include <stdio.h>
#include "kernel/dev/devices.h"
#include "kernel/host/clock.h"
#include "kernel/host/x86/fpu.h"
#include "kernel/store/lv_disk.h"
#include "kernel/vm/offer_impl.h"
#include "kernel/vm/vm_memory.h"
#include "net/net.h"

/* Everything that the state will hold must be known here.  What it will lack: vm_state_missing(). */
static unsigned offer_check_devices(const struct vm_offer *o, reason_fn *add, void *ctx)
{
    unsigned n = 0;
    char text[200];
    for (unsigned i = 0; i < o->n_devices; i++) {
        if (offer_section_readable(o->device[i].section, o->device[i].version))
            continue;
        snprintf(text, sizeof(text),
                 "the guest has device state %u (%s) of version %u, which this host does not know: update this host",
                 o->device[i].section, o->device[i].name, o->device[i].version);
        add(ctx, text);
        n++;
    }
    return n;
}

static unsigned offer_check_vendor(const struct vm_offer *o, reason_fn *add, void *ctx)
{
    char text[200];
    if (o->vendor == cpu_ops->vendor)
        return 0;
    snprintf(text, sizeof(text),
             "the guest runs on %s, this host is %s: guests move between processors of one vendor only",
             cpu_ops_of_vendor(o->vendor)->vendor_name, cpu_ops->vendor_name);
    add(ctx, text);
    return 1;
}

static unsigned offer_check_processor(const struct vm_offer *o, reason_fn *add, void *ctx)
{
    static struct cpuid_table host; /* large; service pCPU only */
    unsigned n = offer_check_vendor(o, add, ctx);
    char text[200];
    if (n)
        return n; /* features of different vendors cannot be compared */
    cpuid_build(&host, cpuid_host, o->config.n_cpus, clock_tsc_hz);
    n += cpuid_check(&host, &o->cpuid, add, ctx);
    if (o->cpuid.xsave_bytes > fpu_save_area_size) {
        snprintf(text, sizeof(text), "the guest's FPU state has %u bytes, this host keeps %u", o->cpuid.xsave_bytes,
                 fpu_save_area_size);
        add(ctx, text);
        n++;
    }
    return n;
}

bool vm_offer_note(const struct vm_offer *o, char *text, size_t len)
{
    uint64_t promised = o->tsc_hz / 1000, here = clock_tsc_hz / 1000;
    enum tsc_fit fit = guest_tsc_fit(o->tsc_hz);
    if (fit == TSC_SCALED)
        snprintf(text, len, "tsc: the guest keeps its %lu kHz, scaled from the destination's %lu kHz", promised, here);
    if (fit == TSC_CHANGES)
        snprintf(text, len,
                 "tsc: the guest was promised %lu kHz, the destination runs at %lu kHz and cannot scale: the guest's "
                 "KVM clock stays right, a bare TSC clock would not",
                 promised, here);
    return fit != TSC_FITS;
}

/* Host memory for volumes that this host itself has open until the guest is here: those of a stopped guest, that in
 * which it is saved, and one of its checkpoints at a time. */
static uint64_t offer_volumes_memory(const struct vm_offer *o)
{
    unsigned n = (o->saved.bytes != 0) + (o->n_parts != 0);
    for (unsigned i = 0; i < o->config.n_disks; i++)
        n += o->stopped && o->config.disk[i].kind == DISK_ON_LV;
    return n * LV_DISK_MEMORY;
}

unsigned vm_offer_check(const struct vm_offer *o, uint64_t free_bytes, reason_fn *add, void *ctx)
{
    char text[200];
    unsigned n = !o->stopped                    ? offer_check_processor(o, add, ctx) + offer_check_devices(o, add, ctx)
                 : o->saved.bytes || o->n_parts ? offer_check_vendor(o, add, ctx)
                                                : 0;
    uint64_t need = (o->stopped ? 0 : vm_memory_needed(&o->config, o->n_boot_pages)) + o->boot_bytes;
    need += offer_volumes_memory(o);
    if (!o->stopped && o->config.n_nics && o->mtu > net_mtu()) {
        snprintf(text, sizeof(text),
                 "packets of %u bytes pass the network card of the guest's host, this host's card takes %u at most: "
                 "raise the MTU here, or lower it there",
                 o->mtu, net_mtu());
        add(ctx, text);
        n++;
    }
    if (need > free_bytes) {
        snprintf(text, sizeof(text),
                 "the guest needs %lu MiB for its memory, disk, boot files and the tables of a move, this host can "
                 "give %lu MiB: stop another guest here or choose another host",
                 DIV_ROUND_UP(need, MIB), free_bytes / MIB);
        add(ctx, text);
        n++;
    }
    if (n && !o->stopped && vm_offer_note(o, text, sizeof(text)))
        add(ctx, text); /* not a reason by itself, but part of a complete answer */
    return n;
}
