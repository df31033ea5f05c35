/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_service.c - which causes bring a quick turn of the service loop, and which a whole one. */
/* unit-sources: kernel/service.c kernel/lib/err.c tests/fakes/log.c */
#include "kernel/service.h"

#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include "kernel/host/pcpu.h"

#define US       1000u
#define DISK_IRQ PCPU_CAUSE_IRQ(IRQ_VEC_DEVICE + 3)
static uint64_t now = 1;
static unsigned n_whole, n_serves, n_disks;
static bool busy, poll, disk_moved;
static struct pcpu cpu;
struct pcpu *this_pcpu(void) { return &cpu; }
uint64_t tsc_read(void) { return now; }
uint64_t clock_us(void) { return now / US; }
uint64_t clock_us_to_tsc(uint64_t us) { return us * US; }

/* ---- the steps ---- */

bool net_poll(void)
{
    n_whole++;
    return busy;
}
void vm_disk_serve(void) { n_serves++; }
bool blockdev_step(void)
{
    n_disks++;
    return disk_moved;
}
unsigned blockdev_causes(void) { return DISK_IRQ; }
bool blockdev_needs_polling(void) { return poll; }
bool net_needs_polling(void) { return false; }
uint64_t net_next_us(void) { return UINT64_MAX; }
/* clang-format off */
#define STEP(name) bool name(void); bool name(void) { return false; }
STEP(ask_step) STEP(start_step) STEP(migration_step) STEP(leave_disks_step) STEP(save_step) STEP(restore_step)
STEP(checkpoint_create_step) STEP(checkpoint_step)
STEP(evacuate_step) STEP(reach_step) STEP(guest_devices_step) STEP(vm_disk_step) STEP(registry_step) STEP(lvm_step)
STEP(volume_step) STEP(store_create_step) STEP(api_file_step) STEP(console_step) STEP(api_step) STEP(validate_step)
STEP(vm_manage_step) STEP(move_volume_step) STEP(disk_move_step)
#undef STEP
#define STEP(name) void name(void); void name(void) {}
STEP(snapshot_disk_step) STEP(lv_disk_step) STEP(snapshot_make_step) STEP(api_define_step) STEP(events_watch)
STEP(settings_step) STEP(vm_define_step) STEP(move_record_step) STEP(vm_usage_step) STEP(log_step)
STEP(pcpu_check_timers) STEP(mce_step) STEP(vm_machine_check_step) STEP(nmi_step)
    /* clang-format on */

    /* ---- tests ---- */

    static void turn(unsigned causes, bool whole)
{
    uint64_t wake;
    unsigned before = n_whole, serves = n_serves, disks = n_disks;
    assert_true(service_step(causes, &wake) == (whole && busy));
    assert_int_equal(n_whole - before, whole);
    assert_true(n_serves == serves + 1 && n_disks == disks + 1); /* each turn looks at the disks */
    assert_true(wake > now || !whole);
}

static int begin(void **state)
{
    (void)state;
    busy = poll = disk_moved = false;
    now += 60000000; /* the last turn is long ago */
    turn(0, true);
    return 0;
}

static void test_disks_alone_are_quick(void **state)
{
    (void)state;
    disk_moved = true; /* a request that is sent or done is no reason to come again */
    turn(PCPU_CAUSE_DISKS, false);
    turn(DISK_IRQ, false);
    turn(PCPU_CAUSE_DISKS | DISK_IRQ, false);
    turn(0, false); /* guests had their slice, and nobody asked */
}

static void test_each_other_cause_is_not(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 32; bit++)
        if (!(BIT32(bit) & (PCPU_CAUSE_DISKS | DISK_IRQ)))
            turn(PCPU_CAUSE_DISKS | DISK_IRQ | BIT32(bit), true);
}

/* Quick turns without end do not put off a whole one. */
static void test_the_tick(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 4; round++) {
        poll = round & 1;
        uint64_t due = now + (poll ? SERVICE_POLL_US : SERVICE_TICK_US) * US;
        turn(PCPU_CAUSE_SERVICE, true);
        for (; now < due; now += 10 * US)
            turn(DISK_IRQ, false);
        turn(DISK_IRQ, true);
    }
}

static void test_after_progress(void **state)
{
    (void)state;
    busy = true;
    turn(PCPU_CAUSE_SERVICE, true);
    turn(0, true);
    turn(DISK_IRQ, true);
    busy = false;
    turn(DISK_IRQ, true);
    turn(DISK_IRQ, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_disks_alone_are_quick, begin),
        cmocka_unit_test_setup(test_each_other_cause_is_not, begin),
        cmocka_unit_test_setup(test_the_tick, begin),
        cmocka_unit_test_setup(test_after_progress, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
