/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/service.c - one turn of the service loop: every background step in order.
 *
 * sched_run() on the boot CPU calls it between slices (sched_service_set()).  Each step is bounded and never blocks.  A
 * step reports whether it made progress, so that the next turn comes soon.
 *
 * Quick turns.  A whole turn takes some 6000 instructions, as most steps look at each guest, disk or job.  A guest's
 * request to a disk would need two or three of them: its doorbell, the host's disk that answers, and the halt between.
 * So a turn has causes (PCPU_CAUSE_*).  If these are only doorbells of local disks (struct disk) and interrupts of the
 * host's disks, the turn is quick: it serves the guests that rang and all controllers, and leaves the rest alone.  A
 * whole turn comes with each other cause, after one that was busy, and when SERVICE_TICK_US are over: quick turns never
 * put it off.
 *
 * No wake-up is lost.  Whoever waits for a disk is told by a cause:
 *   the guest            blk_done() writes its ring and interrupts it, within the turn
 *   its ring, when full  blk_done() sets its quick bit again (vdev_blk.c)
 *   a request's rest     lv_disk.c and blockq.c ask for a quick turn, where no answer of a disk will bring one
 *   who drains a disk    blk_done() and piece_done() (lv_disk.c) ask for a whole turn while the disk is held or closed
 *   all others           blockq_done() asks for a whole turn, unless the request says that done() was all (`quick`)
 * So a new user of disks needs to know nothing of this: its requests are not quick.  Causes are set after what they
 * stand for, and taken before the turn looks.  One that comes during the turn begins the next (kernel/run/sched.c). */
#include "kernel/service.h"

#include "kernel/host/clock.h"
#include "kernel/host/log_sink.h"
#include "kernel/host/machine_check.h"
#include "kernel/host/nmi.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"
#include "kernel/manage/api.h"
#include "kernel/manage/api_file.h"
#include "kernel/manage/console.h"
#include "kernel/manage/events.h"
#include "kernel/manage/move_disk.h"
#include "kernel/manage/settings.h"
#include "kernel/peers/ask.h"
#include "kernel/peers/checkpoint.h"
#include "kernel/peers/evacuate.h"
#include "kernel/peers/leave_disks.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/move_record.h"
#include "kernel/peers/move_volume.h"
#include "kernel/peers/reach.h"
#include "kernel/peers/save.h"
#include "kernel/peers/start.h"
#include "kernel/peers/validate.h"
#include "kernel/store/blockdev.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/lvm_change.h"
#include "kernel/store/registry.h"
#include "kernel/store/snapshot_disk.h"
#include "kernel/store/snapshot_make.h"
#include "kernel/store/store_create.h"
#include "kernel/vm/guest_net.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_machine_check.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_usage.h"
#include "net/net.h"

/* The last whole turn. */
static bool was_busy;
static uint64_t next_turn; /* TSC by which the next must come */

/* True: it was progress, and the next turn shall come soon. */
static bool whole_turn(void)
{
    bool busy = net_poll();
    busy |= ask_step();
    busy |= start_step();
    busy |= migration_step();
    busy |= leave_disks_step();
    busy |= save_step();
    busy |= restore_step();
    busy |= checkpoint_create_step();
    busy |= checkpoint_step();
    busy |= evacuate_step();
    busy |= reach_step();
    busy |= guest_devices_step();
    vm_disk_serve();
    busy |= vm_disk_step();
    busy |= registry_step();
    snapshot_disk_step();
    lv_disk_step();
    snapshot_make_step();
    busy |= blockdev_step();
    busy |= lvm_step();
    busy |= volume_step();
    busy |= store_create_step();
    busy |= api_file_step();
    busy |= console_step();
    busy |= api_step();
    api_define_step();
    events_watch();
    settings_step();
    busy |= validate_step();
    busy |= vm_manage_step();
    vm_define_step();
    move_record_step(); /* after that: of two entries with a name it has the instance */
    busy |= move_volume_step();
    busy |= disk_move_step(); /* after both: which volumes guests have is known */
    vm_usage_step();
    mce_step();
    vm_machine_check_step();
    nmi_step();
    log_step();
    pcpu_check_timers();
    return busy;
}

static uint64_t whole_turn_next(void)
{
    bool poll = net_needs_polling() || blockdev_needs_polling();
    uint64_t now = clock_us(), next = now + (poll ? SERVICE_POLL_US : SERVICE_TICK_US);
    next = MIN(next, net_next_us());
    return tsc_read() + (next > now ? clock_us_to_tsc(next - now) : 0);
}

bool service_step(unsigned causes, uint64_t *wake)
{
    ASSERT_EQ(this_pcpu()->index, 0); /* lwIP, TLS and all state marked [s] */
    if (!was_busy && !(causes & ~(PCPU_CAUSE_DISKS | blockdev_causes())) && tsc_read() < next_turn) {
        vm_disk_serve();
        (void)blockdev_step();
    } else {
        was_busy = whole_turn();
        next_turn = whole_turn_next();
    }
    *wake = next_turn;
    return was_busy;
}
