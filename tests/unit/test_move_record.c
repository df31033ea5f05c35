/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_move_record.c - what the registry has of moves: written, lost in a power cut or not, and read again.
 * Two hosts have a registry each, in turn the one of tests/fakes/registry.c. */
/* unit-sources: kernel/config/config.c kernel/config/config_keys.c kernel/config/config_write.c kernel/lib/err.c
 *   migrate/mig.c migrate/policy.c tests/fakes/log.c tests/fakes/registry.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/peers/move_record.c"
#include "tests/fakes/registry.h"

extern unsigned fake_log_lines;
static struct config conf = { .host = { .name = "b" }, .peers = { { .name = "a" } }, .n_peers = 1 };
static struct vm vms[VM_MAX];
static bool used[VM_MAX];
static struct {
    unsigned n_verdicts, n_doubts, n_recalled, n_files;
    enum mig_verdict verdict;
    char peer[32], guest[32], why[100];
    struct mig_id id;
    bool there, defined;
    struct vm_config config;
    struct boot_want want[18];
    uint8_t uuid[16];
} seen;

void *mem_alloc(size_t len) { return calloc(1, len); }
void mem_free(void *p, size_t len)
{
    (void)len;
    free(p);
}
unsigned vm_slots(void) { return VM_MAX; }
struct vm *vm_at(unsigned i) { return used[i] ? &vms[i] : NULL; }
unsigned vm_slot(const struct vm *vm) { return (unsigned)(vm - vms); }
const uint8_t *boot_set_sha256(const struct boot_set *set, unsigned i) { return set->file[i]->sha256; }
struct vm *vm_recall(const struct vm_config *c, const uint8_t uuid[16], const struct boot_want *want, unsigned n)
{
    seen.n_recalled++;
    seen.n_files = n;
    seen.config = *c;
    memcpy(seen.uuid, uuid, 16);
    memcpy(seen.want, want, n * sizeof(*want));
    used[3] = true;
    vms[3] = (struct vm){ .config = *c, .arrived = true };
    return &vms[3];
}
void incoming_verdict(const struct mig_id *id, const char *peer, enum mig_verdict v, const char *why)
{
    seen.n_verdicts++;
    seen.id = *id;
    seen.verdict = v;
    snprintf(seen.peer, sizeof(seen.peer), "%s", peer);
    snprintf(seen.why, sizeof(seen.why), "%s", why);
}
void migration_recall_doubt(const char *guest, const struct mig_id *id, const char *peer, bool there)
{
    seen.n_doubts++;
    seen.defined = used[3];
    seen.id = *id;
    seen.there = there;
    snprintf(seen.guest, sizeof(seen.guest), "%s", guest);
    snprintf(seen.peer, sizeof(seen.peer), "%s", peer);
}

static const struct mig_id id1 = { { 1, 0xab, [15] = 0xff } }, id2 = { { 2 } };
static struct boot_blob kernel = { .len = 5000000000ul, .sha256 = { 0x12, [31] = 0x34 } }, initrd = { .len = 7 },
                        module = { .len = 0 };
static struct vm *guest;
static char why[300];

static int set_up(void **s)
{
    static struct vm_config v;
    static struct config c = { .vms = &v, .max_vms = 1 };
    static const char text[] = "[vm web]\nmemory = 64M\ncpus = 2\nkernel = vmlinuz\ninitrd = rd\nmodule = m1 a b=c\n"
                               "cmdline = console=ttyS0 a=\"b c\"\ncpu = x86-64-v2\nautostart = last\n"
                               "start-order = 7\nstart-delay-s = 30\n"
                               "on-shutdown = evacuate\npin = 3\nnic = yes\nmac = 02:47:57:01:02:ff\nspoof = allow\n"
                               "nic = yes\nmac = 02:47:57:01:02:03\nrng = no\nballoon = no\nconsole = virtio\n"
                               "disk = nbd:10.7.0.9:10810/an-export\ndisk-fingerprint = "
                               "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n"
                               "disk = ram:16M read-only serial=abc\n";
    (void)s;
    host_config = &conf;
    fake_registry_reset();
    config_parse(text, strlen(text), &c, NULL, NULL);
    assert_int_equal(c.n_errors, 0);
    memset(vms, 0, sizeof(vms));
    memset(used, 0, sizeof(used));
    memset(arrived, 0, sizeof(arrived));
    memset(&seen, 0, sizeof(seen));
    guest = &vms[1];
    used[1] = true;
    *guest = (struct vm){ .config = c.vms[0], .arrived = true, .uuid = { 9, 8, [15] = 7 } };
    guest->boot = (struct boot_set){ .n = 3, .file = { &kernel, &initrd, &module } };
    move_record_step();
    fake_log_lines = 0;
    return 0;
}

/* Power cut and boot: nothing is known but the registry. */
static void boot(void)
{
    memset(vms, 0, sizeof(vms));
    memset(used, 0, sizeof(used));
    memset(arrived, 0, sizeof(arrived));
    memset(&seen, 0, sizeof(seen));
    last_order = 0;
    fake_registry_boot();
    move_record_step();
}

static bool done(const struct move_write *w)
{
    bool failed, d = move_write_done(w, &failed);
    assert_false(failed);
    return d;
}

/* The guest that came is what it was, but for the names of its files. */
static void is_the_guest(void)
{
    assert_int_equal(seen.n_recalled, 1);
    assert_memory_equal(seen.uuid, ((uint8_t[16]){ 9, 8, [15] = 7 }), 16);
    assert_int_equal(seen.n_files, 3);
    assert_int_equal(seen.want[0].len, 5000000000ul);
    assert_memory_equal(seen.want[0].sha256, kernel.sha256, 32);
    const struct vm_config *c = &seen.config;
    assert_string_equal(c->name, "web");
    assert_int_equal(c->memory_bytes, 64 * MIB);
    assert_int_equal(c->n_cpus, 2);
    assert_string_equal(c->cmdline, "console=ttyS0 a=\"b c\"");
    assert_string_equal(c->modules, "module-1 a b=c");
    assert_string_equal(c->cpu, "x86-64-v2");
    assert_true(c->autostart == AUTOSTART_LAST && c->start_order == 7 && c->start_delay_s == 30);
    assert_int_equal(c->on_shutdown, ON_SHUTDOWN_EVACUATE);
    assert_true(c->pin == 3 && !c->rng && !c->balloon && c->hvc && c->n_nics == 2 && c->n_disks == 2);
    assert_memory_equal(c->nic[0].mac, ((uint8_t[]){ 2, 0x47, 0x57, 1, 2, 0xff }), 6);
    assert_memory_equal(c->nic[1].mac, ((uint8_t[]){ 2, 0x47, 0x57, 1, 2, 3 }), 6);
    assert_true(c->nic[0].spoof && !c->nic[1].spoof);
    assert_string_equal(c->disk[0].nbd.name, "an-export");
    assert_int_equal(c->disk[0].nbd.port, 10810);
    assert_true(c->disk[0].nbd.tls && c->disk[0].nbd.fingerprint[1] == 0x11 && !c->disk[0].read_only);
    assert_true(c->disk[1].kind == DISK_IN_RAM && c->disk[1].bytes == 16 * MIB && c->disk[1].read_only);
    assert_string_equal(c->disk[1].serial, "abc");
    assert_int_equal(config_boot_files(c), 3);
}

/* B, cut before each write and after it. */
static void test_destination(void **s)
{
    (void)s;
    struct move_write w = { 0 }, h = { 0 };
    fake_registry_lands = false;
    assert_int_equal(move_record_arriving(guest, &id1, "a", &w, WHY(why)), HV_OK);
    assert_false(done(&w));
    assert_false(move_record_is_here("web"));
    boot(); /* as if it had never been offered */
    assert_int_equal(seen.n_verdicts + seen.n_recalled, 0);
    set_up(NULL);
    fake_registry_lands = false;
    assert_int_equal(move_record_arriving(guest, &id1, "a", &w, WHY(why)), HV_OK);
    fake_registry_land();
    assert_true(done(&w));
    move_record_here(guest, &id1, "a", &h);
    assert_false(done(&h));
    boot(); /* it arrived, and never ran: refused, and so it stays */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(seen.verdict, MIG_V_REFUSED);
        assert_true(mig_id_eq(&seen.id, &id1));
        assert_string_equal(seen.peer, "a");
        assert_non_null(strstr(seen.why, "lost power"));
        assert_int_equal(seen.n_recalled, 0);
        fake_registry_land();
        boot();
    }
    set_up(NULL);
    assert_int_equal(move_record_arriving(guest, &id1, "a", &w, WHY(why)), HV_OK);
    move_record_here(guest, &id1, "a", &h);
    boot(); /* it is here, and the answer is so */
    assert_true(move_record_is_here("web"));
    assert_int_equal(seen.verdict, MIG_V_RUNNING);
    is_the_guest();
    vms[3].arrived = false; /* undefined, or another guest of that name */
    move_record_step();
    assert_false(move_record_is_here("web"));
    boot(); /* the answer about its job stays */
    assert_int_equal(seen.n_recalled, 0);
    assert_int_equal(seen.verdict, MIG_V_RUNNING);
    assert_true(mig_id_eq(&seen.id, &id1));
}

/* The registry's disk fails when the guest is here, and works again: it is recorded then. */
static void test_here_later(void **s)
{
    (void)s;
    struct move_write w = { 0 };
    assert_int_equal(move_record_arriving(guest, &id1, "a", &w, WHY(why)), HV_OK);
    fake_registry_bad = "the disk has failed";
    move_record_here(guest, &id1, "a", &w);
    for (unsigned i = 0; i < 3; i++)
        move_record_step();
    assert_false(move_record_is_here("web"));
    fake_registry_bad = "";
    move_record_step();
    assert_true(move_record_is_here("web"));
    boot();
    assert_true(mig_id_eq(&seen.id, &id1) && seen.verdict == MIG_V_RUNNING);
    is_the_guest();
}

/* A, likewise. */
static void test_source(void **s)
{
    (void)s;
    struct move_write w = { 0 };
    fake_registry_lands = false;
    assert_int_equal(move_record_doubt("web", &id1, "c", true, &w, WHY(why)), HV_OK);
    boot();
    assert_int_equal(seen.n_doubts, 0);
    assert_int_equal(move_record_doubt("web", &id1, "c", true, &w, WHY(why)), HV_OK);
    fake_registry_land();
    move_record_stays(&id1);
    boot(); /* it stays, but that is not durable: ask */
    assert_int_equal(seen.n_doubts, 1);
    assert_string_equal(seen.guest, "web");
    assert_string_equal(seen.peer, "c");
    assert_true(seen.there);
    move_record_stays(&id1);
    fake_registry_land();
    boot();
    assert_int_equal(seen.n_doubts, 0);
    fake_registry_lands = true;
    assert_int_equal(move_record_doubt("web", &id1, "c", false, &w, WHY(why)), HV_OK);
    boot();
    assert_false(seen.there);
    move_record_left("web", &id1, "c", true);
    boot();
    assert_int_equal(seen.n_doubts + seen.n_verdicts, 0);
    assert_string_equal(move_record_left_to("web"), "c");
    assert_null(move_record_left_to("web2"));
    vms[1] = (struct vm){ .config.name = "web", .config.memory_bytes = 64 * MIB, .config.cpu = "host" };
    fake_registry_bad = "its disk fails";
    move_record_here(&vms[1], &id2, "c", &w);
    fake_registry_bad = "";
    assert_string_equal(move_record_left_to("web"), "c");
    move_record_here(&vms[1], &id2, "c", &w); /* it comes back */
    assert_null(move_record_left_to("web"));
}

/* It came, and moves on: both answers are true afterwards. */
static void test_passes_through(void **s)
{
    (void)s;
    struct move_write w = { 0 };
    move_record_here(guest, &id1, "a", &w);
    assert_int_equal(move_record_doubt("web", &id2, "c", true, &w, WHY(why)), HV_OK);
    boot(); /* the power goes while it is in doubt */
    assert_int_equal(seen.n_doubts, 1);
    assert_true(seen.defined);
    move_record_left("web", &id2, "c", false);
    assert_false(move_record_is_here("web"));
    boot();
    assert_int_equal(seen.n_verdicts, 1);
    assert_int_equal(seen.verdict, MIG_V_RUNNING);
    assert_true(mig_id_eq(&seen.id, &id1));
    assert_int_equal(seen.n_doubts, 0);
    assert_null(move_record_left_to("web")); /* nothing here would start it */
}

/* Decided jobs are bounded: the oldest go; a doubt never does. */
static void test_bounded(void **s)
{
    (void)s;
    struct move_write w = { 0 };
    unsigned n = 0;
    assert_int_equal(move_record_doubt("web", &id1, "c", true, &w, WHY(why)), HV_OK);
    for (unsigned i = 0; i < MOVE_RECORDS_MAX + 10; i++) {
        struct mig_id id = { { 7, (uint8_t)i } };
        move_record_refused("other", &id, "a", "so");
    }
    for (const char *e = ""; (e = registry_next("job/", e));)
        n++;
    assert_int_equal(n, MOVE_RECORDS_MAX + 1);
    assert_null(registry_get("job/07090000000000000000000000000000", NULL));
    assert_non_null(registry_get("job/070a0000000000000000000000000000", NULL));
    boot();
    assert_int_equal(seen.n_doubts, 1);
    assert_int_equal(seen.n_verdicts, MOVE_RECORDS_MAX);
}

/* Without a registry nothing waits; entries of another hand are left alone. */
static void test_odd(void **s)
{
    (void)s;
    struct move_write w = { 0 };
    bool failed;
    fake_registry_there = false;
    assert_int_equal(move_record_arriving(guest, &id1, "a", &w, WHY(why)), HV_OK);
    move_record_here(guest, &id1, "a", &w);
    assert_true(done(&w));
    fake_registry_reset();
    fake_registry_full = true;
    assert_int_equal(move_record_arriving(guest, &id1, "a", &w, WHY(why)), HV_E_NOMEM);
    fake_registry_full = fake_registry_lands = false;
    assert_int_equal(move_record_arriving(guest, &id1, "a", &w, WHY(why)), HV_OK);
    fake_registry_bad = "it failed";
    assert_false(move_write_done(&w, &failed));
    assert_true(failed);
    move_record_here(guest, &id1, "a", &w);
    assert_int_equal(fake_log_lines, 1);
    fake_registry_reset();
    static const char *const bad[][2] = { { "arrived/x", "state = here\n" },
                                          { "arrived/web", "id = 00\npeer = a\n" },
                                          { "arrived/y", "id = 000102030405060708090a0b0c0d0e0f\npeer = a\n"
                                                         "state = here\nuuid = zz\n[vm y]\nmemory = 1\n" },
                                          { "job/1", "guest = x\npeer = a\nstate = in-doubt\n" },
                                          { "job/000102030405060708090a0b0c0d0e0f", "guest = x" } };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(registry_put(bad[i][0], bad[i][1], strlen(bad[i][1]), WHY(why)), HV_OK);
    fake_log_lines = 0;
    boot();
    assert_int_equal(fake_log_lines, ARRAY_SIZE(bad));
    assert_int_equal(seen.n_recalled + seen.n_doubts, 0);
    assert_non_null(registry_get("job/1", NULL));
}

/* The store of another host is adopted: its guests that had come by a move are known at once, but nothing that is about
 * a guest which arrives or runs here. */
static void test_adopted(void **s)
{
    (void)s;
    struct move_write w = { 0 }, h = { 0 };
    move_record_here(guest, &id1, "a", &h);
    used[1] = false;
    move_record_step();
    assert_int_equal(seen.n_recalled, 0);
    memset(arrived, 0, sizeof(arrived)); /* the entry is as if from the other host */
    guest = &vms[5];
    used[5] = true;
    *guest = vms[1];
    snprintf(guest->config.name, sizeof(guest->config.name), "db");
    atomic_store(&guest->state, VM_INCOMING);
    assert_int_equal(move_record_arriving(guest, &id2, "a", &w, WHY(why)), HV_OK);
    move_record_here(&vms[1], &id1, "a", &h);
    memset(arrived, 0, sizeof(arrived));
    fake_registry_merged();
    move_record_step();
    assert_int_equal(seen.n_recalled, 1);
    is_the_guest();
    assert_true(move_record_is_here("web"));
    assert_int_equal(seen.n_verdicts, 1); /* none about the one that arrives */
    assert_non_null(registry_get("arrived/db", NULL));
    move_record_step();
    assert_int_equal(seen.n_recalled, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_destination, set_up), cmocka_unit_test_setup(test_here_later, set_up),
        cmocka_unit_test_setup(test_source, set_up),      cmocka_unit_test_setup(test_passes_through, set_up),
        cmocka_unit_test_setup(test_bounded, set_up),     cmocka_unit_test_setup(test_adopted, set_up),
        cmocka_unit_test_setup(test_odd, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
