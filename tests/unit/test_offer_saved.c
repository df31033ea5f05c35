/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_offer_saved.c - the offer of a guest that moves while it is saved. */
/* unit-sources: kernel/vm/vm_state.c kernel/vm/vm_offer.c kernel/vm/offer_disks.c
 *   kernel/vm/offer_check.c kernel/vm/vm_knows.c kernel/config/config.c
 *   kernel/config/config_keys.c
 *   kernel/dev/devices.c kernel/dev/io_bus.c kernel/dev/pci_guest.c kernel/dev/virtio_pci.c kernel/dev/virtq.c
 *   kernel/dev/vdev.c kernel/dev/vdev_rng.c kernel/dev/vdev_net.c kernel/dev/vdev_blk.c kernel/dev/disk_ram.c
 *   kernel/dev/vdev_console.c kernel/dev/vdev_balloon.c kernel/dev/lapic.c kernel/dev/ioapic.c kernel/dev/pic.c
 *   kernel/dev/pit.c kernel/dev/rtc.c kernel/dev/pm.c kernel/dev/uart.c kernel/dev/pvclock.c kernel/dev/steal_time.c
 *   kernel/core/cpuid.c kernel/dev/msr.c kernel/lib/err.c kernel/lib/print.c kernel/core/vcpu.c kernel/core/vm.c
 *   tests/fakes/machine.c tests/fakes/service.c tests/fakes/log.c tests/fakes/page.c tests/fakes/vm_memory.c
 *   tests/fakes/lvm.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "kernel/store/lv_disk.h"
#include "tests/fakes/lvm.h"
#include "tests/fakes/machine.h"

#define RAM (16 * MIB)
static struct machine a;
static uint8_t offer[VM_OFFER_MAX];
static size_t offer_len;
static char why[300], reasons[400];

static void add_reason(void *ctx, const char *text)
{
    (void)ctx;
    snprintf(reasons, sizeof(reasons), "%s", text);
}

/* What is saved of it comes as well.  A host of before would leave that behind, and one of another vendor cannot use
 * it. */
static void test_offer_of_a_saved_guest(void **unused)
{
    (void)unused;
    static struct vm_knows k;
    static struct vm_offer o;
    static struct lvm_lv lv = { .name = "saved.test" };
    struct vm stopped = { .config = { .name = "test", .n_cpus = 1, .memory_bytes = GIB, .pin = -1 } };
    fake_saved = (struct saved){ .state = SAVED_WHOLE, .group = &fake_group, .lv = &lv, .bytes = 12345, .disks = "x" };
    k = *machine_knows();
    for (unsigned i = 0; i < k.n; i++)
        if (k.part[i].id == OFFER_FIELD_SAVED)
            k.part[i].id = 0xc0ff;
    assert_int_equal(vm_knows_check(&k, &stopped, "", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "moves while saved"));
    assert_int_equal(vm_knows_check(machine_knows(), &stopped, "", WHY(why)), HV_OK);
    assert_int_equal(vm_offer_write(&stopped, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_true(o.stopped && o.saved.bytes == 12345 && o.saved.with_disks);
    assert_true(!strcmp(o.saved.place.vg, "godwit") && !strcmp(o.saved.place.lv, "saved.test"));
    assert_int_equal(vm_offer_check(&o, LV_DISK_MEMORY, add_reason, NULL), 0);
    assert_int_equal(vm_offer_check(&o, LV_DISK_MEMORY - 1, add_reason, NULL), 1); /* it is open while it is filled */
    assert_non_null(strstr(reasons, "the guest needs 4 MiB for its memory, disk"));
    o.config.n_disks = 3;
    o.config.disk[1].kind = o.config.disk[2].kind = DISK_ON_LV; /* and so are its volumes */
    assert_int_equal(vm_offer_check(&o, 3 * LV_DISK_MEMORY, add_reason, NULL), 0);
    assert_int_equal(vm_offer_check(&o, 3 * LV_DISK_MEMORY - 1, add_reason, NULL), 1);
    struct cpu_ops other = *cpu_ops;
    other.vendor = 2;
    cpu_ops = &other;
    assert_int_equal(vm_offer_check(&o, GIB, add_reason, NULL), 1);
    assert_non_null(strstr(reasons, "guests move between processors of one vendor only"));
    cpu_ops = cpu_ops_of_vendor(1);
    fake_saved.bytes = 0;
    assert_int_equal(vm_offer_write(&stopped, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO);
    assert_string_equal(why, "the offer's field moves while saved is malformed");
    fake_saved.bytes = 1;
    machine_init(&a, 1, RAM); /* one that runs is not saved, whatever lies here */
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_int_equal(o.saved.bytes, 0);
    machine_fini(&a);
    fake_saved = (struct saved){ .state = SAVED_NONE };
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_offer_of_a_saved_guest) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
