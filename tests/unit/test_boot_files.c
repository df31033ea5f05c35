/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_boot_files.c - which files of the boot disk a guest can have. */
/* unit-sources: kernel/vm/boot_files.c kernel/vm/boot_travel.c kernel/host/boot_info.c
 *   kernel/config/config.c kernel/config/config_keys.c
 *   kernel/lib/err.c net/sha256.c tests/fakes/log.c tests/fakes/page.c
 *   tests/fakes/window.c */
/* unit-deps: bearssl */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/vm/boot_files.h"
#include "tests/fakes/page.h"
#include "tests/fakes/window.h"

extern unsigned fake_log_lines;
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
    assert_int_equal(config_boot_files(&c), 3);
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
        snprintf(c.disk[1].file, sizeof(c.disk[1].file), "%s", names[i]);
        assert_int_equal(boot_disk_find(&c, 1, &disk, WHY(why)), HV_E_NOENT);
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
    o->n_boot_pages = from->n_pages;
    for (unsigned i = 0; i < from->n; i++) {
        o->file[i].len = from->file[i]->len;
        memcpy(o->file[i].sha256, from->file[i]->sha256, 32);
    }
}

static void arrive(struct boot_set *there, const struct vm_offer *o)
{
    enum hv_err e;
    *there = (struct boot_set){ 0 };
    while (!boot_offer_hash_step(o)) {}
    while ((e = boot_set_arrive_step(there, o)) == HV_E_AGAIN) {}
    assert_int_equal(e, HV_OK);
}

/* As the engine does: all pages that the destination does not have. */
static void pages_move(const struct boot_set *from, const struct boot_set *to)
{
    uint64_t have = boot_set_have(to);
    assert_int_equal(from->n_pages, to->n_pages);
    for (uint64_t i = 0; i < from->n_pages + 3; i++) {
        const void *page = boot_set_page(from, have, i);
        void *out = boot_set_page_for_write(to, i);
        assert_int_equal(!page, !out);
        if (page)
            memcpy(out, page, PAGE_SIZE);
    }
}

/* A guest that arrives gets the bytes that it was started from: those of this host, whatever they are called here, and
 * the others come with it. */
static void test_arrival(void **state)
{
    (void)state;
    static struct vm_offer o;
    static char big[300 * 1024];
    struct vm_config c = config_of("big");
    struct boot_set there;
    bool damaged;
    memset(big, 'x', sizeof(big) - 1);
    file("big", big), file("empty", "");
    snprintf(c.initrd, sizeof(c.initrd), "initrd");
    assert_true(config_module_add(&c, "m1") && config_module_add(&c, "empty"));
    boot_files_init(&bi);
    assert_int_equal(boot_set_find(&c, &set, WHY(why)), HV_OK);
    unsigned turns = 1;
    while (!boot_set_hash_step(&set))
        turns++;
    assert_in_range(turns, 3, 8); /* no turn hashes all of it */
    offer_of(&o, &c, &set);
    static struct boot_blob source[4]; /* of another host, so it stays */
    for (unsigned i = 0; i < set.n; i++) {
        source[i] = *set.file[i];
        set.file[i] = &source[i];
    }

    boot_files_init(&bi); /* another host, where the kernel has another name, and m1 other bytes */
    snprintf(bi.files[bi.n_files - 2].name, sizeof(bi.files[0].name), "other");
    bi.files[8].base = (uintptr_t)"FIRST";
    boot_files_init(&bi);
    assert_int_equal(set.n_pages, 75 + 1 + 1 + 0);
    arrive(&there, &o);
    assert_int_equal(there.n, 4);
    assert_int_equal(boot_set_have(&there), 1 + 2 + 8);
    assert_int_equal(boot_offer_bytes(&o), BLOCK_SIZE);
    assert_int_equal(boot_set_bytes(&there), BLOCK_SIZE);
    assert_ptr_equal(there.file[0]->data, big);
    pages_move(&set, &there);
    while (!boot_set_check_step(&there, &damaged)) {}
    assert_false(damaged);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(there.file[i]->len, o.file[i].len);
        assert_memory_equal(there.file[i]->data, set.file[i]->data, o.file[i].len);
    }
    boot_set_drop(&there);

    o.file[0].sha256[31] ^= 1; /* the same name and length, and other bytes than the source says */
    arrive(&there, &o);
    assert_int_equal(boot_set_have(&there), 2 + 8);
    pages_move(&set, &there);
    turns = 1;
    while (!boot_set_check_step(&there, &damaged))
        turns++;
    assert_true(damaged);
    assert_in_range(turns, 3, 8);
    boot_set_drop(&there);
    boot_set_drop(&there);
    assert_true(!there.n && !fake_windows_open && !fake_page_outstanding);
}

/* The bytes behind a file's end are not the file's: they stay here. */
static void test_nothing_behind_the_end(void **state)
{
    (void)state;
    static const char text[] = "kernel, and what was in memory before";
    static const uint8_t zero[PAGE_SIZE];
    struct vm_config c = config_of("k");
    file("k", text);
    bi.files[bi.n_files - 1].len = 6;
    boot_files_init(&bi);
    assert_int_equal(boot_set_find(&c, &set, WHY(why)), HV_OK);
    const uint8_t *page = boot_set_page(&set, 0, 0);
    assert_memory_equal(page, "kernel", 6);
    assert_memory_equal(page + 6, zero, PAGE_SIZE - 6);
    assert_null(boot_set_page(&set, 0, 1));
    assert_null(boot_set_page(&set, 1, 0));
}

/* Memory for them is allocated before the guest is admitted, or it is not. */
static void test_no_memory(void **state)
{
    (void)state;
    static struct vm_offer o;
    struct boot_set there = { 0 };
    unsigned turns = 0;
    o = (struct vm_offer){ .n_files = 1, .file = { { 40 * MIB, { 7 } } } };
    boot_files_init(&bi);
    fake_window_blocks = 15;
    enum hv_err e;
    while ((e = boot_set_arrive_step(&there, &o)) == HV_E_AGAIN)
        turns++;
    assert_int_equal(e, HV_E_NOMEM);
    assert_int_equal(turns, 3);
    fake_window_blocks = -1;
    o.file[0].len = GIB + 1;
    assert_int_equal(boot_offer_bytes(&o), GIB + BLOCK_SIZE);
    assert_int_equal(boot_set_arrive_step(&there, &o), HV_E_NOMEM);
    o.n_files = 0; /* release 0.1 */
    assert_true(boot_offer_hash_step(&o));
    assert_int_equal(boot_set_arrive_step(&there, &o), HV_OK);
    assert_true(!there.n && !there.own && !fake_windows_open && !fake_page_outstanding);
}

/* ---- files of the store ---- */

static struct boot_blob stored = { .data = (const uint8_t *)"stored", .len = 6, .hashed = true };
static int stored_users;
static unsigned stored_reads; /* so many more calls until it is read */

static enum hv_err stored_get(struct boot_blob **out, struct why *w)
{
    if (stored_reads && stored_reads--) {
        why_say(w, "it is being read");
        return HV_E_AGAIN;
    }
    stored_users++;
    *out = &stored;
    return HV_OK;
}
static enum hv_err stored_named(const char *name, struct boot_blob **out, struct why *w)
{
    return strcmp(name, "kernel7") && strcmp(name, "m1") ? HV_E_NOENT : stored_get(out, w);
}
static enum hv_err stored_with(uint64_t len, const uint8_t sha256[SHA256_LEN], struct boot_blob **out, struct why *w)
{
    return len != 6 || memcmp(sha256, stored.sha256, SHA256_LEN) != 0 ? HV_E_NOENT : stored_get(out, w);
}
static struct boot_blob *stored_loaded(uint64_t len, const uint8_t sha256[SHA256_LEN])
{
    return !stored_reads && len == 6 && !memcmp(sha256, stored.sha256, SHA256_LEN) ? &stored : NULL;
}
static void stored_use(struct boot_blob *b) { stored_users += b == &stored; }
static void stored_put(struct boot_blob *b) { stored_users -= b == &stored; }
static bool stored_has(const char *name) { return !strcmp(name, "m1"); }
static unsigned n_kept, n_forgotten;
static void stored_keep(const struct boot_blob *b) { n_kept += b->hashed; }
static void stored_forget(const struct boot_blob *b) { n_forgotten += b->hashed; }
static const struct boot_source source = { stored_named, stored_with, stored_loaded, stored_use,
                                           stored_put,   stored_has,  stored_keep,   stored_forget };

/* What the boot disk lacks comes from the store, once it is read; each set that has it counts. */
static void test_store(void **state)
{
    (void)state;
    struct vm_config c = config_of("kernel7");
    snprintf(c.initrd, sizeof(c.initrd), "initrd");
    assert_true(config_module_add(&c, "m1 its string"));
    boot_files_init(&bi);
    boot_files_source(&source);
    stored_reads = 1;
    assert_int_equal(boot_set_find(&c, &set, WHY(why)), HV_E_AGAIN);
    assert_int_equal(set.n, 0);
    assert_int_equal(boot_set_find(&c, &set, WHY(why)), HV_OK);
    assert_ptr_equal(set.file[0], &stored);
    assert_memory_equal(set.file[1]->data, "initrd", 6);
    assert_memory_equal(set.file[2]->data, "first", 5); /* the boot disk goes before the store */
    assert_int_equal(stored_users, 1);
    assert_int_equal(boot_set_find(&c, &set, WHY(why)), HV_OK); /* lets go of what it has */
    assert_int_equal(stored_users, 1);
    unsigned logged = fake_log_lines;
    boot_files_say(&c);
    assert_int_equal(fake_log_lines, logged + 1); /* m1 is in both places */
    snprintf(c.initrd, sizeof(c.initrd), "nope");
    assert_int_equal(boot_set_find(&c, &set, WHY(why)), HV_E_NOENT);
    assert_string_equal(why, "web: file \\godwit\\nope is not on this host's boot disk, and not in its store");
    assert_int_equal(stored_users, 0);
    assert_true(boot_files_name(&c, "nope") && boot_files_name(&c, "m1") && !boot_files_name(&c, "m"));
}

/* A guest that arrives: what it needs is in the store, is read before the answer, and need not be sent. */
static void test_arrival_of_stored(void **state)
{
    (void)state;
    static struct vm_offer o;
    struct boot_set there = { 0 };
    unsigned steps = 0;
    memset(stored.sha256, 7, SHA256_LEN);
    o.n_files = 1;
    o.file[0].len = 6;
    memset(o.file[0].sha256, 7, SHA256_LEN);
    o.n_boot_pages = 1;
    stored_reads = 3;
    while (!boot_offer_hash_step(&o))
        steps++;
    assert_true(steps >= 3); /* and files of the boot disk with that length were hashed */
    assert_int_equal(stored_users, 0);
    assert_int_equal(boot_offer_bytes(&o), 0);
    assert_int_equal(boot_set_arrive_step(&there, &o), HV_OK);
    assert_int_equal(boot_set_have(&there), 1);
    assert_int_equal(stored_users, 1);
    boot_set_keep(&there);
    boot_set_drop(&there);
    assert_int_equal(n_kept + n_forgotten, 0);
    assert_int_equal(stored_users, 0);
    struct boot_want want = { .len = 6 }; /* the same after a reboot */
    memset(want.sha256, 7, SHA256_LEN);
    stored_reads = 2;
    assert_int_equal(boot_set_recall(&there, &want, 1), HV_OK);
    enum hv_err e;
    while ((e = boot_set_recall_step(&there, WHY(why))) == HV_E_AGAIN) {}
    assert_int_equal(e, HV_OK);
    assert_ptr_equal(there.file[0], &stored);
    assert_int_equal(stored_users, 1);
    boot_set_drop(&there);
    assert_int_equal(stored_users, 0);
    memset(o.file[0].sha256, 8, SHA256_LEN); /* one that comes: it is kept, until it goes */
    while (!boot_offer_hash_step(&o)) {}
    while (boot_set_arrive_step(&there, &o) == HV_E_AGAIN) {}
    bool damaged;
    while (!boot_set_check_step(&there, &damaged)) {}
    boot_set_keep(&there);
    boot_set_keep(&there);
    assert_int_equal(n_kept, 1);
    boot_set_drop(&there);
    assert_int_equal(n_forgotten, 1);
    struct boot_blob *b;
    uint8_t hash[SHA256_LEN];
    struct sha256 h;
    sha256_init(&h);
    sha256_update(&h, "initrd", 6);
    sha256_out(&h, hash);
    boot_files_init(&bi); /* not hashed yet */
    while (boot_blob_get(6, hash, &b, WHY(why)) == HV_E_AGAIN) {}
    assert_string_equal(why, "");
    assert_memory_equal(b->data, "initrd", 6);
    hash[0]++;
    assert_int_equal(boot_blob_get(6, hash, &b, WHY(why)), HV_E_NOENT);
}

/* A guest that came by a move, after a reboot: its files are found by their bytes, or the missing one is named. */
static void test_recall(void **state)
{
    (void)state;
    struct boot_set there = { 0 };
    struct boot_want want[2] = { { .len = 6 }, { .len = 5 } };
    boot_files_init(&bi);
    const char *const text[] = { "kernel", "first" };
    for (unsigned i = 0; i < 2; i++) {
        struct sha256 h;
        sha256_init(&h);
        sha256_update(&h, text[i], want[i].len);
        sha256_out(&h, want[i].sha256);
    }
    assert_int_equal(boot_set_recall(&there, want, 2), HV_OK);
    enum hv_err e;
    while ((e = boot_set_recall_step(&there, WHY(why))) == HV_E_AGAIN)
        assert_int_equal(there.n, 0);
    assert_int_equal(e, HV_OK);
    assert_int_equal(there.n, 2);
    assert_int_equal(there.n_pages, 2);
    assert_memory_equal(there.file[1]->data, "first", 5);
    assert_memory_equal(boot_set_sha256(&there, 0), want[0].sha256, SHA256_LEN);
    boot_set_drop(&there);
    want[1].sha256[0] ^= 1;
    assert_int_equal(boot_set_recall(&there, want, 2), HV_OK);
    while ((e = boot_set_recall_step(&there, WHY(why))) == HV_E_AGAIN)
        ;
    assert_int_equal(e, HV_E_NOENT);
    assert_non_null(strstr(why, "file 2 that it starts from, of 5 bytes and SHA-256 "));
    assert_int_equal(there.n, 0);
    boot_set_drop(&there);
    assert_int_equal(fake_page_outstanding, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_guests_files, begin),
        cmocka_unit_test_setup(test_no_file_of_the_host, begin),
        cmocka_unit_test_setup(test_names, begin),
        cmocka_unit_test_setup(test_arrival, begin),
        cmocka_unit_test_setup(test_nothing_behind_the_end, begin),
        cmocka_unit_test_setup(test_no_memory, begin),
        cmocka_unit_test_setup(test_store, begin),
        cmocka_unit_test_setup(test_arrival_of_stored, begin),
        cmocka_unit_test_setup(test_recall, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
