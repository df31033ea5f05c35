/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_offer_checkpoints.c - the offer's field with the volumes of a guest's checkpoints: what is written is
 * read, what is malformed is refused, and a host of before is told apart. */
/* unit-sources: kernel/vm/vm_offer.c kernel/vm/offer_disks.c kernel/vm/offer_check.c
 *   kernel/core/cpuid.c kernel/core/cpu_baseline.c kernel/vm/vm_knows.c
 *   kernel/config/config.c kernel/config/config_keys.c kernel/lib/err.c kernel/lib/print.c
 *   tests/fakes/log.c tests/fakes/page.c tests/fakes/vm_memory.c tests/fakes/lvm.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/core/vm.h"
#include "kernel/dev/pvclock.h"
#include "kernel/host/x86/fpu.h"
#include "kernel/vm/offer_impl.h"
#include "tests/fakes/lvm.h"

/* ---- what offers want of the rest ---- */

static struct cpu_ops fake_ops = { .vendor = 1, .vendor_name = "One" };
const struct cpu_ops *cpu_ops = &fake_ops;
bool fpu_xsavec_broken;
const struct cpu_ops *cpu_ops_of_vendor(unsigned vendor) { return vendor == 1 ? &fake_ops : NULL; }
struct cpu_caps cpu_caps;
uint64_t clock_tsc_hz = 2000000000;
enum tsc_fit guest_tsc_fit(uint64_t hz) { return hz ? TSC_FITS : TSC_FITS; }
uint32_t fpu_save_area_size = 8192;
uint64_t fpu_host_xcr0 = 7;

/* ---- tests ---- */

static struct vm guest;
static unsigned version; /* of the field */

static int set_up(void **state)
{
    (void)state;
    version = 2;
    fake_saved = (struct saved){ .state = SAVED_NONE };
    guest = (struct vm){ .config = { .name = "test", .n_cpus = 1, .memory_bytes = GIB, .pin = -1, .n_disks = 1 } };
    guest.config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "godwit", "db" } };
    fake_parts[0] = (struct checkpoint_part){ .checkpoint = "cp1", .disk = 0, .time_s = 7, .bytes = 12 * MIB };
    fake_parts[1] = (struct checkpoint_part){
        .checkpoint = "cp1", .disk = CHECKPOINT_MEMORY, .time_s = 7, .bytes = 8192, .saved = 5000
    };
    fake_parts_n = 2;
    return 0;
}

/* Write the field, read what of it is left. */
static bool carried(struct vm_offer *o, size_t cut)
{
    static uint8_t bytes[VM_OFFER_MAX];
    struct wr w = wr_init(bytes, sizeof(bytes));
    w.version = version;
    offer_checkpoints_write(&guest, &w);
    assert_false(w.bad);
    struct rd r = rd_init(bytes, w.len - cut);
    r.version = version;
    *o = (struct vm_offer){ .config = guest.config };
    return offer_checkpoints_read(o, &r) && !r.bad && !rd_left(&r) && offer_checkpoints_fit(o);
}

static void test_carried(void **state)
{
    static struct vm_offer o;
    (void)state;
    assert_true(carried(&o, 0));
    assert_int_equal(o.n_parts, 2);
    assert_memory_equal(o.part, fake_parts, 2 * sizeof(o.part[0]));
    for (size_t cut = 1; cut < 60; cut++)
        assert_false(carried(&o, cut));
}

/* The memory in which the guest is saved, as it was reverted to it: what is saved has no field of its own then, and a
 * host of before, which would not know of it, does not get the guest. */
static void test_reverted(void **state)
{
    static struct vm_offer o;
    static struct vm_knows k;
    static const struct lvm_lv lv = { .tags = "godwit.checkpoint=test:cp1" };
    struct name_list lacks = { .n = 0 };
    (void)state;
    assert_int_equal(offer_checkpoints_needs(&guest), 1);
    fake_saved = (struct saved){ .state = SAVED_WHOLE, .lv = &lv };
    fake_parts[1].is_saved = true;
    assert_int_equal(offer_checkpoints_needs(&guest), 2);
    assert_int_equal(offer_saved_needs(&guest), 0);
    assert_true(carried(&o, 0) && o.part[1].is_saved && !o.part[0].is_saved);
    vm_knows_here(&k);
    for (unsigned i = 0; i < k.n; i++)
        if (k.part[i].id == OFFER_FIELD_CHECKPOINTS)
            k.part[i].version = 1;
    vm_offer_unknown(&guest, &k, &lacks);
    assert_string_equal(lacks.text, "checkpoints");
    fake_parts[0].is_saved = true; /* a disk */
    assert_false(carried(&o, 0));
    fake_saved = (struct saved){ .state = SAVED_NONE };
    fake_parts[0].is_saved = fake_parts[1].is_saved = false;
    version = 1;
    assert_true(carried(&o, 0));
    assert_memory_equal(o.part, fake_parts, 2 * sizeof(o.part[0]));
}

static void test_malformed(void **state)
{
    static struct vm_offer o;
    static const struct checkpoint_part malformed[] = {
        { .checkpoint = "-", .disk = 0, .bytes = 4096 },
        { .checkpoint = "a-name-of-25-characters-00", .disk = 0, .bytes = 4096 },
        { .checkpoint = "cp2", .disk = 0, .bytes = 4095 },
        { .checkpoint = "cp2", .disk = 0, .bytes = BIT64(47) },
        { .checkpoint = "cp2", .disk = 0 },
        { .checkpoint = "cp2", .disk = 0, .bytes = 4096, .saved = 1 },
        { .checkpoint = "cp2", .disk = 1, .bytes = 4096 },
        { .checkpoint = "cp2", .disk = CHECKPOINT_MEMORY, .bytes = 4096 },
        { .checkpoint = "cp2", .disk = CHECKPOINT_MEMORY, .bytes = 4096, .saved = 4097 },
        { .checkpoint = "cp1", .disk = 0, .bytes = 4096 },
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(malformed); i++) {
        fake_parts[1] = malformed[i];
        assert_false(carried(&o, 0));
    }
    fake_parts_n = 0;
    assert_false(carried(&o, 0)); /* a field that says nothing */
}

/* A host of before would leave the checkpoints behind: it does not get the guest. */
static void test_unknown(void **state)
{
    static struct vm_knows k;
    struct name_list lacks = { .n = 0 };
    (void)state;
    vm_knows_here(&k);
    vm_offer_unknown(&guest, &k, &lacks);
    assert_int_equal(lacks.n, 0);
    for (unsigned i = 0; i < k.n; i++)
        if (k.part[i].id == OFFER_FIELD_CHECKPOINTS)
            k.part[i].id = 0xc0ff;
    vm_offer_unknown(&guest, &k, &lacks);
    assert_string_equal(lacks.text, "checkpoints");
    lacks = (struct name_list){ .n = 0 };
    guest.saving = true; /* they stay where what is saved does */
    vm_offer_unknown(&guest, &k, &lacks);
    assert_int_equal(lacks.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_carried, set_up),
        cmocka_unit_test_setup(test_reverted, set_up),
        cmocka_unit_test_setup(test_malformed, set_up),
        cmocka_unit_test_setup(test_unknown, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
