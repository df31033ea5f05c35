/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_offer_volumes.c - offers of guests whose volumes move along. */
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
#include "kernel/host/clock.h"
#include "tests/fakes/lvm.h"
#include "tests/fakes/machine.h"

static uint8_t offer[VM_OFFER_MAX];
static size_t offer_len;
static char why[300];
static struct machine m; /* it makes cpu_ops known */

/* Its volumes move along, too; they are not open.  A host of before does not know that. */
static void test_offer_of_a_stopped_guest_with_volumes(void **unused)
{
    (void)unused;
    static struct vm_knows k;
    static struct vm_offer o;
    struct vm stopped = { .config = { .name = "test", .n_cpus = 1, .memory_bytes = GIB, .pin = -1, .n_disks = 2 } };
    stopped.config.disk[0] = (struct disk_config){ .kind = DISK_IN_RAM, .bytes = 2 * MIB };
    stopped.config.disk[1] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "godwit", "db+1" } };
    fake_group.vg.n_lvs = 1;
    fake_group.vg.lv[0] = (struct lvm_lv){ .name = "db+1", .extents = 3 };
    k = *machine_knows();
    for (unsigned i = 0; i < k.n; i++)
        if (k.part[i].id == OFFER_FIELD_ALONG)
            k.part[i].version = 1;
    assert_int_equal(vm_knows_check(&k, &stopped, "", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "disks that move along"));
    assert_int_equal(vm_offer_write(&stopped, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_true(o.stopped && o.disk[1].bytes == 12 * MIB && !o.disk[1].read_only && !o.place_chosen[1]);
    assert_true(!strcmp(o.config.disk[1].lv.vg, "godwit") && !strcmp(o.config.disk[1].lv.lv, "db+1"));
    assert_int_equal(vm_knows_check(machine_knows(), &stopped, "vdb=fast/x", WHY(why)), HV_OK);
    assert_int_equal(vm_offer_write(&stopped, machine_knows(), "vdb=fast/x", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_true(o.place_chosen[1] && !o.place_chosen[0]);
    assert_true(!strcmp(o.config.disk[1].lv.vg, "fast") && !strcmp(o.config.disk[1].lv.lv, "x"));
    static const char *const malformed[] = { "vda=fast/x", "vdc=fast/x", "vdb=x", "vdb=fast/x;" };
    for (unsigned i = 0; i < ARRAY_SIZE(malformed); i++) { /* no volume, no disk, no places */
        assert_int_equal(vm_offer_write(&stopped, machine_knows(), malformed[i], offer, sizeof(offer), &offer_len),
                         HV_OK);
        assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO);
        assert_string_equal(why, "the offer's field chosen places of disks is malformed");
    }
    for (unsigned i = 0; i < k.n; i++)
        if (k.part[i].id == OFFER_FIELD_PLACES)
            k.part[i].id = 0xc0ff;
    assert_int_equal(vm_knows_check(&k, &stopped, "vdb=fast/x", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "chosen places of disks"));
    fake_group.vg.lv[0].read_only = true;
    assert_int_equal(vm_offer_write(&stopped, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_true(o.disk[1].read_only);
    fake_group.vg.n_lvs = 0; /* a volume that is gone has no size */
    assert_int_equal(vm_offer_write(&stopped, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO);
    assert_string_equal(why, "the offer's field disks that move along is malformed");
}

/* One of its volumes is a clone: its base is named by its SHA-256.  A host that does not know that takes it only if the
 * base's data may come along; the operator says so. */
static void test_offer_of_a_clone(void **unused)
{
    (void)unused;
    static struct vm_knows k;
    static struct vm_offer o;
    static struct lvm_lv base = { .name = "debian", .extents = 3, .read_only = true };
    struct vm stopped = { .config = { .name = "test", .n_cpus = 1, .memory_bytes = GIB, .pin = -1, .n_disks = 1 } };
    snprintf(base.tags, sizeof(base.tags), "godwit.sha256=%064u", 7u);
    fake_base = &base;
    stopped.config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "godwit", "db" } };
    fake_group.vg.n_lvs = 1;
    fake_group.vg.lv[0] = (struct lvm_lv){ .name = "db", .extents = 3 };
    k = *machine_knows();
    assert_int_equal(vm_knows_check(&k, &stopped, "", WHY(why)), HV_OK);
    assert_int_equal(vm_offer_write(&stopped, &k, "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_string_equal(o.base[0].sha256, base.tags + strlen("godwit.sha256="));
    assert_true(o.base[0].store_bytes == 12 * MIB && !o.with_base);
    k.with_base = true;
    assert_int_equal(vm_offer_write(&stopped, &k, "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_true(o.base[0].sha256[0] && o.with_base);
    for (unsigned i = 0; i < k.n; i++)
        if (k.part[i].id == OFFER_FIELD_BASES || k.part[i].id == OFFER_FIELD_WITH_BASE)
            k.part[i].id = 0xc0ff;
    assert_int_equal(vm_knows_check(&k, &stopped, "", WHY(why)), HV_OK);
    assert_int_equal(vm_offer_write(&stopped, &k, "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_true(!o.base[0].sha256[0] && !o.with_base);
    k.with_base = false;
    assert_int_equal(vm_knows_check(&k, &stopped, "", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "clones of base volumes"));
    base.tags[strlen(base.tags) - 1] = '\0'; /* too short */
    assert_int_equal(vm_offer_write(&stopped, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO);
    assert_string_equal(why, "the offer's field clones of base volumes is malformed");
    fake_base = NULL;
    fake_group.vg.n_lvs = 0;
}

static int begin(void **unused)
{
    (void)unused;
    machine_init(&m, 1, 16 * MIB);
    return 0;
}
static int end(void **unused)
{
    (void)unused;
    machine_fini(&m);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offer_of_a_stopped_guest_with_volumes),
        cmocka_unit_test(test_offer_of_a_clone),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
