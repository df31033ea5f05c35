/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/service.c - one turn of the service loop; sched_run() on the boot CPU calls it between slices (sched_service_set()).  Nothing here blocks. */
#include "kernel/service.h"

#include "kernel/api.h"
#include "kernel/ask.h"
#include "kernel/clock.h"
#include "kernel/console.h"
#include "kernel/evacuate.h"
#include "kernel/guest_net.h"
#include "kernel/migration.h"
#include "kernel/pcpu.h"
#include "kernel/validate.h"
#include "kernel/start.h"
#include "kernel/vm_disk.h"
#include "kernel/vm_manage.h"
#include "net/net.h"

bool service_step(uint64_t *wake)
{
    bool busy = net_poll();
    busy |= ask_step();
    busy |= start_step();
    busy |= migration_step();
    busy |= evacuate_step();
    busy |= guest_devices_step();
    busy |= vm_disk_step();
    busy |= console_step();
    busy |= api_step();
    busy |= validate_step();
    busy |= vm_service();
    pcpu_watch_timers();

    uint64_t now = clock_us(), next = now + (net_needs_polling() ? SERVICE_POLL_US : SERVICE_TICK_US);
    next = MIN(next, net_next_us());
    *wake = tsc_read() + (next > now ? clock_us_to_tsc(next - now) : 0);
    return busy;
}
