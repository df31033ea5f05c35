/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/service.c - one turn of the service loop: every background step in order.
 *
 * sched_run() on the boot CPU calls it between slices (sched_service_set()).  Each step is bounded and never blocks.  A
 * step reports whether it made progress, so that the next turn comes soon. */
#include "kernel/service.h"

#include "kernel/host/clock.h"
#include "kernel/host/log_sink.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"
#include "kernel/manage/api.h"
#include "kernel/manage/api_file.h"
#include "kernel/manage/console.h"
#include "kernel/manage/events.h"
#include "kernel/manage/move_disk.h"
#include "kernel/manage/settings.h"
#include "kernel/peers/ask.h"
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
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_usage.h"
#include "net/net.h"

bool service_step(uint64_t *wake)
{
    ASSERT_EQ(this_pcpu()->index, 0); /* lwIP, TLS and all state marked [s] */
    bool busy = net_poll();
    busy |= ask_step();
    busy |= start_step();
    busy |= migration_step();
    busy |= leave_disks_step();
    busy |= save_step();
    busy |= restore_step();
    busy |= evacuate_step();
    busy |= reach_step();
    busy |= guest_devices_step();
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
    log_step();
    pcpu_check_timers();

    bool poll = net_needs_polling() || blockdev_needs_polling();
    uint64_t now = clock_us(), next = now + (poll ? SERVICE_POLL_US : SERVICE_TICK_US);
    next = MIN(next, net_next_us());
    *wake = tsc_read() + (next > now ? clock_us_to_tsc(next - now) : 0);
    return busy;
}
