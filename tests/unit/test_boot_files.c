/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_boot_files.c - which files of the boot disk a guest can have. */
/* unit-sources: kernel/vm/boot_files.c kernel/host/boot_info.c kernel/config/config.c kernel/config/config_keys.c
 *   kernel/lib/err.c net/sha256.c tests/fakes/log.c */
/* unit-deps: bearssl */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/vm/boot_files.h"

static struct boot_info bi;
static struct boot_set set;
static char why[200];

static void file(const char *name, const char *text)
{
    struct boot_file *f = &bi.files[bi.n_files++];
    snprintf(f->name, sizeof(f->name), "%s", name);
    f->base = (uintptr_t)text, f->len = strlen(text);
}

static int begin(void **state)
{
    (void)state;
    memset(&bi, 0, sizeof(bi));
    file("host.key", "secret"), file("HOST.CRT", "secret"), file("Godwit.conf", "secret"), file("seed", "secret");
    file("my secret", "secret"), file("admin.pem", "secret");
    file("VMLINUZ", "kernel"), file("initrd", "initrd"), file("m1", "first"), file("disk.img", "disk");
    return 0;
}

static struct vm_config config_of(const char *kernel)
{
    struct vm_config c = { .name = "web", .cmdline = "quiet" };
    snprintf(c.kernel, sizeof(c.kernel), "%s", kernel);
    return c;
}

static void test_a_guests_files(void **state)
{
    (void)state;
    struct vm_config c = config_of("vmlinuz");
    struct boot_image im;
    snprintf(c.initrd, sizeof(c.initrd), "INITRD");
    assert_true(config_module_add(&c, "m1 its string"));
    boot_files_init(&bi);
    assert_int_equal(boot_set_find(&c, &set, WHY(why)), HV_OK);
    assert_int_equal(set.n, 3);
    assert_int_equal(boot_set_size(&c), 3);
    boot_set_image(&set, &c, &im);
    assert_memory_equal(im.kernel, "kernel", im.kernel_len);
    assert_int_equal(im.n_modules, 2);
    assert_memory_equal(im.module[0].data, "initrd", 6);
    assert_memory_equal(im.module[1].data, "first", 5);
    assert_string_equal(im.module[0].string, "");
    assert_string_equal(im.module[1].string, "its string");
}

/* What boot/ took out of the list is gone by its name, and what is the host's by its kind never was there. */
static void test_no_file_of_the_host(void **state)
{
    (void)state;
    struct boot_file key;
    assert_true(boot_file_take(&bi, "MY SECRET", &key));
    assert_memory_equal((const void *)(uintptr_t)key.base, "secret", key.len);
    assert_null(boot_file_find(&bi, "my secret"));
    assert_false(boot_file_take(&bi, "my secret", &key));
    assert_int_equal(key.len, 0);
    boot_files_init(&bi);
    static const char *const names[] = { "host.key",  "Host.Key",  "host.crt",  "godwit.conf",
                                         "seed",      "admin.PEM", "my secret", "..\\godwit\\host.key",
                                         "./host.key" };
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        struct vm_config c = config_of(names[i]);
        struct boot_blob *disk;
        assert_int_equal(boot_set_find(&c, &set, WHY(why)), HV_E_NOENT);
        assert_int_equal(set.n, 0);
        c = config_of("vmlinuz");
        snprintf(c.initrd, sizeof(c.initrd), "%s", names[i]);
        assert_int_equal(boot_set_find(&c, &set, WHY(why)), HV_E_NOENT);
        assert_int_equal(set.n, 0);
        snprintf(c.disk_file, sizeof(c.disk_file), "%s", names[i]);
        assert_int_equal(boot_disk_find(&c, &disk, WHY(why)), HV_E_NOENT);
        assert_null(disk);
    }
    struct vm_config c = config_of("host.key");
    assert_int_equal(boot_set_find(&c, &set, WHY(why)), HV_E_NOENT);
    assert_non_null(strstr(why, "is the host's own"));
    c = config_of("nope");
    assert_int_equal(boot_set_find(&c, &set, WHY(why)), HV_E_NOENT);
    assert_string_equal(why, "web: file \\godwit\\nope is not on this host's boot disk");
}

/* A name that ends where the file's has a blank was read past its end. */
static void test_names(void **state)
{
    (void)state;
    assert_true(boot_name_eq("a_B.img", "A_b.IMG"));
    assert_false(boot_name_eq("a ", "a"));
    assert_false(boot_name_eq("a@", "a`"));
    assert_false(boot_name_eq("a", "ab"));
}

static void offer_of(struct vm_offer *o, const struct vm_config *c, const struct boot_set *from)
{
    memset(o, 0, sizeof(*o));
    o->config = *c;
    o->n_files = from->n;
    for (unsigned i = 0; i < from->n; i++) {
        o->file[i].len = from->file[i]->len;
        memcpy(o->file[i].sha256, from->file[i]->sha256, 32);
    }
}

/* A guest that arrives gets the bytes that it was started from, whatever they are called here, or nothing. */
static void test_by_content(void **state)
{
    (void)state;
    static struct vm_offer o;
    static char big[300 * 1024];
    struct vm_config c = config_of("big");
    struct boot_set here;
    memset(big, 'x', sizeof(big) - 1);
    file("big", big);
    snprintf(c.initrd, sizeof(c.initrd), "initrd");
    boot_files_init(&bi);
    assert_int_equal(boot_set_find(&c, &set, WHY(why)), HV_OK);
    unsigned turns = 1;
    while (!boot_set_hash_step(&set))
        turns++;
    assert_in_range(turns, 3, 5); /* no turn hashes all of it */
    offer_of(&o, &c, &set);

    boot_files_init(&bi); /* another host, where the kernel has another name */
    snprintf(bi.files[bi.n_files - 1].name, sizeof(bi.files[0].name), "other");
    assert_false(boot_offer_find(&o, &here)); /* nothing is hashed yet */
    while (!boot_offer_hash_step(&o)) {}
    assert_true(boot_offer_find(&o, &here));
    assert_int_equal(here.n, 2);
    assert_ptr_equal(here.file[0]->data, big);
    assert_memory_equal(here.file[1]->data, "initrd", 6);

    o.file[0].sha256[31] ^= 1; /* the same name and length, and other bytes */
    assert_false(boot_offer_find(&o, &here));
    assert_int_equal(here.n, 0);
    o.file[0].sha256[31] ^= 1;
    o.n_files = 1; /* fewer than the guest's config names */
    assert_false(boot_offer_find(&o, &here));
    o.n_files = 0; /* release 0.1 */
    assert_true(boot_offer_hash_step(&o));
    assert_false(boot_offer_find(&o, &here));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_guests_files, begin),
        cmocka_unit_test_setup(test_no_file_of_the_host, begin),
        cmocka_unit_test_setup(test_names, begin),
        cmocka_unit_test_setup(test_by_content, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
