/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_metrics_vm.c - guests in /metrics.
 *
 * Counters begin at 0 when a guest starts or arrives here.  A guest that is stopped has its state and its size only. */
#include "kernel/manage/api_metrics.h"

#include "kernel/dev/vdev_blk.h"
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/peers/start.h"
#include "kernel/vm/guest_net.h"
#include "kernel/vm/vm_manage.h"
#include "net/vswitch.h"

static bool slot_is_built(unsigned i) { return vm_at(i) && vm_is_built(vm_at(i)); }

static void sample_vm(struct sampler *s, const struct vm *vm) { sample_label(s, "vm", vm->config.name); }

/* ---- state, memory, processors ---- */

static void metric_state(struct sampler *s)
{
    for (unsigned i = 0; i < vm_slots(); i++)
        for (unsigned k = VM_STOPPED; vm_at(i) && k <= VM_INCOMING; k++) {
            sample_vm(s, vm_at(i));
            sample_label(s, "state", vm_state_name((enum vm_state)k));
            sample_put(s, vm_state(vm_at(i)) == k);
        }
}

/* A value of each guest; built: of those that are not stopped. */
static void each_vm(struct sampler *s, bool built, uint64_t (*value)(const struct vm *vm))
{
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        if (!vm || (built && !vm_is_built(vm)))
            continue;
        sample_vm(s, vm);
        sample_put(s, value(vm));
    }
}

static uint64_t vm_start_failed(const struct vm *vm) { return start_status(vm).state == START_FAILED; }
static uint64_t vm_starting(const struct vm *vm) { return start_status(vm).state == START_ASKING; }
static uint64_t vm_waits(const struct vm *vm) { return vm->disks.waiting; }
static uint64_t vm_memory(const struct vm *vm) { return vm->config.memory_bytes; }
static uint64_t vm_backed(const struct vm *vm) { return vm->mem.n_backed * BLOCK_SIZE; }
static uint64_t vm_dirty_faults(const struct vm *vm) { return vm->dirty.n_faults; }

static void metric_start_failed(struct sampler *s) { each_vm(s, false, vm_start_failed); }
static void metric_starting(struct sampler *s) { each_vm(s, false, vm_starting); }
static void metric_disk_waiting(struct sampler *s) { each_vm(s, true, vm_waits); }
static void metric_memory(struct sampler *s) { each_vm(s, false, vm_memory); }
static void metric_backed(struct sampler *s) { each_vm(s, true, vm_backed); }
static void metric_dirty_faults(struct sampler *s) { each_vm(s, true, vm_dirty_faults); }

/* A time of each vCPU, in TSC ticks. */
static void each_vcpu(struct sampler *s, uint64_t (*ticks)(const struct vcpu *v))
{
    for (unsigned i = 0; i < vm_slots(); i++)
        for (unsigned k = 0; slot_is_built(i) && k < vm_at(i)->n_vcpus; k++) {
            sample_vm(s, vm_at(i));
            sample_label_num(s, "vcpu", k);
            sample_put_us(s, clock_tsc_to_us(ticks(vm_at(i)->vcpus[k])));
        }
}

static uint64_t vcpu_guest_ticks(const struct vcpu *v) { return v->guest_tsc_ticks; }
static uint64_t vcpu_steal_ticks(const struct vcpu *v) { return v->steal_tsc; }
static void metric_guest_time(struct sampler *s) { each_vcpu(s, vcpu_guest_ticks); }
static void metric_steal_time(struct sampler *s) { each_vcpu(s, vcpu_steal_ticks); }

/* The sum over all vCPUs: single samples would be too many. */
static void sample_put_exits(struct sampler *s, const struct vm *vm, bool time)
{
    for (unsigned r = 0; r < VCPU_EXIT_COUNT; r++) {
        uint64_t n = 0, ticks = 0;
        for (unsigned k = 0; k < vm->n_vcpus; k++) {
            n += vm->vcpus[k]->n_exits[r];
            ticks += vm->vcpus[k]->exit_tsc[r];
        }
        if (!n)
            continue;
        sample_vm(s, vm);
        sample_label(s, "reason", vcpu_exit_names[r]);
        if (time)
            sample_put_us(s, clock_tsc_to_us(ticks));
        else
            sample_put(s, n);
    }
}

static void metric_exits(struct sampler *s)
{
    for (unsigned i = 0; i < vm_slots(); i++)
        if (slot_is_built(i))
            sample_put_exits(s, vm_at(i), false);
}

static void metric_exit_time(struct sampler *s)
{
    for (unsigned i = 0; i < vm_slots(); i++)
        if (slot_is_built(i))
            sample_put_exits(s, vm_at(i), true);
}

/* ---- network: as the guest sees it, which receives what its port of the switch transmits ---- */

/* The labels of a guest's card or disk.  The first has no number: its series are those of a guest with one. */
static void sample_part(struct sampler *s, const struct vm *vm, const char *label, unsigned i)
{
    sample_vm(s, vm);
    if (i)
        sample_label_num(s, label, i);
}

static void each_port(struct sampler *s, uint64_t (*value)(const struct vswitch_port *p))
{
    const struct vswitch_port *p;
    for (unsigned i = 0; i < vm_slots(); i++)
        for (unsigned k = 0; vm_at(i) && (p = guest_net_port(vm_at(i), k)); k++) {
            sample_part(s, vm_at(i), "card", k);
            sample_put(s, value(p));
        }
}

static uint64_t port_to_guest_bytes(const struct vswitch_port *p) { return p->tx_bytes; }
static uint64_t port_to_guest_frames(const struct vswitch_port *p) { return p->tx_frames; }
static uint64_t port_to_guest_drops(const struct vswitch_port *p) { return p->tx_dropped; }
static uint64_t port_of_guest_bytes(const struct vswitch_port *p) { return p->rx_bytes; }
static uint64_t port_of_guest_frames(const struct vswitch_port *p) { return p->rx_frames; }

static void metric_card_rx_bytes(struct sampler *s) { each_port(s, port_to_guest_bytes); }
static void metric_card_rx_frames(struct sampler *s) { each_port(s, port_to_guest_frames); }
static void metric_card_rx_drops(struct sampler *s) { each_port(s, port_to_guest_drops); }
static void metric_card_tx_bytes(struct sampler *s) { each_port(s, port_of_guest_bytes); }
static void metric_card_tx_frames(struct sampler *s) { each_port(s, port_of_guest_frames); }

static void metric_card_tx_drops(struct sampler *s)
{
    const struct vswitch_port *p;
    for (unsigned i = 0; i < vm_slots(); i++)
        for (unsigned card = 0; vm_at(i) && (p = guest_net_port(vm_at(i), card)); card++)
            for (unsigned k = PORT_PASS; k < PORT_DROP_COUNT; k++) {
                sample_part(s, vm_at(i), "card", card);
                sample_label(s, "reason", k == PORT_PASS ? "length" : port_drop_names[k]);
                sample_put(s, k == PORT_PASS ? p->bad : p->drops[k]);
            }
}

/* ---- disk ---- */

static void each_vm_disk(struct sampler *s, unsigned n_kinds, uint64_t (*value)(const struct blk_counts *c))
{
    static const char *const kinds[BLK_KINDS] = { "read", "write", "other" };
    for (unsigned i = 0; i < vm_slots(); i++)
        for (unsigned disk = 0; slot_is_built(i) && disk < vm_at(i)->config.n_disks; disk++)
            for (unsigned k = 0; k < n_kinds; k++) {
                const struct blk_counts *c = vdev_blk_counts(vm_at(i), disk, (enum blk_kind)k);
                if (!c)
                    continue;
                sample_part(s, vm_at(i), "disk", disk);
                sample_label(s, "kind", kinds[k]);
                sample_put(s, value(c));
            }
}

static uint64_t blk_bytes(const struct blk_counts *c) { return c->bytes; }
static uint64_t blk_requests(const struct blk_counts *c) { return c->requests; }
static uint64_t blk_errors(const struct blk_counts *c) { return c->errors; }

static void metric_vm_disk_bytes(struct sampler *s) { each_vm_disk(s, BLK_OTHER, blk_bytes); }
static void metric_vm_disk_requests(struct sampler *s) { each_vm_disk(s, BLK_KINDS, blk_requests); }
static void metric_vm_disk_errors(struct sampler *s) { each_vm_disk(s, BLK_KINDS, blk_errors); }

const struct metric vm_metrics[] = {
    { "godwit_vm_state", "gauge", "1 for the state that the guest is in.", metric_state },
    { "godwit_vm_start_failed", "gauge", "1: the last request to start the guest failed.", metric_start_failed },
    { "godwit_vm_starting", "gauge", "1: its start waits for the peers' answers.", metric_starting },
    { "godwit_vm_memory_bytes", "gauge", "Memory of the guest, as configured.", metric_memory },
    { "godwit_vm_backed_bytes", "gauge", "Host memory behind the guest's memory.", metric_backed },
    { "godwit_vm_guest_seconds_total", "counter", "Time that a vCPU ran guest code.", metric_guest_time },
    { "godwit_vm_steal_seconds_total", "counter", "Time that a vCPU was ready and did not run.", metric_steal_time },
    { "godwit_vm_exits_total", "counter", "Exits from guest code.", metric_exits },
    { "godwit_vm_exit_seconds_total", "counter", "Time spent handling exits.", metric_exit_time },
    { "godwit_vm_dirty_log_faults_total", "counter", "Write faults caused by the dirty log.", metric_dirty_faults },
    { "godwit_vm_network_receive_bytes_total", "counter", "Bytes that the guest received.", metric_card_rx_bytes },
    { "godwit_vm_network_receive_frames_total", "counter", "Frames that the guest received.", metric_card_rx_frames },
    { "godwit_vm_network_receive_drops_total", "counter",
      "Frames for the guest that were lost: it had no buffer, or did not run.", metric_card_rx_drops },
    { "godwit_vm_network_transmit_bytes_total", "counter", "Bytes that the guest sent.", metric_card_tx_bytes },
    { "godwit_vm_network_transmit_frames_total", "counter", "Frames that the guest sent.", metric_card_tx_frames },
    { "godwit_vm_network_transmit_drops_total", "counter", "Frames of the guest that its port did not let in.",
      metric_card_tx_drops },
    { "godwit_vm_disk_bytes_total", "counter", "Bytes that the guest read from or wrote to its disk.",
      metric_vm_disk_bytes },
    { "godwit_vm_disk_requests_total", "counter", "Requests to the guest's disk that ended.", metric_vm_disk_requests },
    { "godwit_vm_disk_errors_total", "counter", "Of these, those that failed.", metric_vm_disk_errors },
    { "godwit_vm_disk_waiting", "gauge", "1: the guest stands still until its disk's server answers.",
      metric_disk_waiting },
};
const unsigned n_vm_metrics = ARRAY_SIZE(vm_metrics);
