/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/snapshot.c kernel/store/snapshot_disk.c kernel/store/snapshot_origin.c
 *   kernel/store/snapshot_grow.c kernel/store/lvm_change.c kernel/store/lvm_commit.c kernel/store/lvm_write.c
 *   kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/store/lv_disk.c kernel/store/lvm_label.c
 *   kernel/lib/text.c kernel/store/registry_format.c kernel/lib/err.c kernel/lib/print.c net/sha256.c
 *   tests/fakes/log.c tests/fakes/page.c kernel/store/saved_find.c tests/fakes/service.c */
/* unit-deps: bearssl */
/* tests/unit/test_registry.c - the registry on volumes that lvm2 made (tests/unit/golden/lvm2_registry*.bin: groups
 * `godwit` and `second`, each with godwit-registry of 8 MiB at byte 1 MiB), on disks that lose power at every write. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/store/lvm.c" /* to boot again */
#include "kernel/store/registry.c"
#include "tests/fakes/page.h"

#define DISK_BYTES (24 * MIB)
#define VOLUME_AT  MIB

extern unsigned fake_log_lines;
static struct config config = { .host.name = "alpha" };
const struct config *host_config = &config;
static const uint8_t alpha[32] = { 0xa1, 0xfa }, beta[32] = { 0xbe, 0x7a };

/* ---- disks that can lose power ---- */

struct written { /* not flushed */
    uint64_t at;
    uint32_t len;
    uint8_t *data;
};
struct fake {
    struct blockdev dev;
    uint8_t *durable, *now; /* what survives; what is read */
    struct written written[64];
    unsigned n_written;
    struct block_req *first;
};
static struct fake fakes[2];
static unsigned n_disks, n_requests, cut_at; /* of writes and flushes; 0: never */
static bool fails;

struct blockdev *blockdev_at(unsigned i) { return i < n_disks ? &fakes[i].dev : NULL; }
uint64_t clock_wall_ns(void) { return 0; }
void random_bytes(void *buf, size_t len) { memset(buf, 7, len); }
uint64_t clock_us(void)
{
    static uint64_t t;
    return t += 1000;
}

static void flush(struct fake *f)
{
    for (unsigned i = 0; i < f->n_written; i++) {
        memcpy(f->durable + f->written[i].at, f->written[i].data, f->written[i].len);
        free(f->written[i].data);
    }
    f->n_written = 0;
}
static bool fake_do(struct fake *f, struct block_req *q)
{
    if (q->op == BLOCK_READ) {
        memcpy(q->buf, f->now + q->offset, q->len);
        return true;
    }
    if (fails)
        return false;
    n_requests++;
    if (q->op == BLOCK_FLUSH) {
        flush(f);
        return true;
    }
    struct written *w = &f->written[f->n_written++];
    assert_true(f->n_written <= ARRAY_SIZE(f->written));
    *w = (struct written){ q->offset, q->len, malloc(q->len) };
    memcpy(w->data, q->buf, q->len);
    memcpy(f->now + q->offset, q->buf, q->len);
    return true;
}
enum hv_err blockdev_do_now(struct blockdev *d, struct block_req *q)
{
    return fake_do(container_of(d, struct fake, dev), q) ? HV_OK : HV_E_IO;
}
static void fake_submit(struct blockdev *d, struct block_req *q)
{
    struct fake *f = container_of(d, struct fake, dev);
    struct block_req **end = &f->first;
    while (*end)
        end = &(*end)->next;
    q->next = NULL;
    *end = q;
}
/* True: there was something to do, and the power is there. */
static bool off(void) { return cut_at && n_requests >= cut_at; }
bool blockdev_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < n_disks; i++)
        for (struct block_req *q; (q = fakes[i].first) && !off(); moved = true) {
            fakes[i].first = q->next;
            q->done(q, fake_do(&fakes[i], q));
        }
    return moved;
}
static const struct blockdev_ops fake_ops = { "fake", fake_submit, NULL };

static void disk_add(const char *golden)
{
    char path[100];
    struct fake *f = &fakes[n_disks];
    *f = (struct fake){ .dev = { .ops = &fake_ops, .bytes = DISK_BYTES, .sector = 512 } };
    snprintf(f->dev.name, sizeof(f->dev.name), "disk%u", n_disks++);
    f->durable = calloc(1, DISK_BYTES);
    f->now = calloc(1, DISK_BYTES);
    snprintf(path, sizeof(path), "tests/unit/golden/lvm2_%s.bin", golden);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    assert_int_equal(fread(f->now, 1, 16 * KIB, in), 16 * KIB);
    fclose(in);
    memcpy(f->durable, f->now, 16 * KIB);
}

/* ---- hosts ---- */

static void host_off(void)
{
    bool was = fails;
    fails = true; /* what is with the disks goes nowhere */
    cut_at = 0;
    for (unsigned i = 0; i < n_disks; i++)
        while (fakes[i].first)
            (void)blockdev_step();
    fails = was;
    if (r.disk)
        r.disk->ops->close(r.disk);
    if (r.x.disk)
        r.x.disk->ops->close(r.x.disk);
    struct registry_table *const tables[] = { r.table, r.x.table };
    for (unsigned i = 0; i < 2; i++)
        if (tables[i]) {
            registry_table_clear(tables[i]);
            mem_free(tables[i], sizeof(*tables[i]));
        }
    uint8_t *head = r.head, *image = r.image; /* kept: to zero them takes time */
    memset(&r, 0, sizeof(r));
    r.head = head;
    r.image = image;
    memset(seen, 0, sizeof(seen));
    memset(&io, 0, sizeof(io));
}
static void turns(unsigned n)
{
    while (n-- && !off()) {
        (void)registry_step();
        (void)blockdev_step();
    }
}
static void host_on(const uint8_t *fingerprint)
{
    for (unsigned i = 0; i < LVM_VGS_MAX; i++) {
        lvm_group_free(groups[i]);
        groups[i] = NULL;
    }
    lvm_scan();
    registry_init(fingerprint);
}
static void host_reset(const uint8_t *fingerprint)
{
    host_off();
    host_on(fingerprint);
}
static int end(void **state)
{
    (void)state;
    host_off();
    fails = false;
    for (; n_disks; n_disks--) {
        flush(&fakes[n_disks - 1]);
        free(fakes[n_disks - 1].now);
        free(fakes[n_disks - 1].durable);
    }
    return 0;
}

static void put(const char *name, const char *text)
{
    char why[300];
    assert_int_equal(registry_put(name, text, text ? strlen(text) : 0, WHY(why)), HV_OK);
}
static void settle(void)
{
    for (unsigned i = 0; i < 1000 && !registry_durable(registry_mark()); i++)
        turns(1);
    assert_true(registry_durable(registry_mark()));
}

/* ---- a host and its registry ---- */

static void test_first(void **state)
{
    (void)state;
    char why[300];
    size_t len;
    host_on(alpha);
    assert_true(!registry_present() && !registry_group() && !registry_epoch() && registry_durable(registry_mark()));
    assert_int_equal(registry_put("vm/a", "x", 1, WHY(why)), HV_E_UNSUPP);
    assert_string_equal(why, "this host has no store with a registry: `godwitctl store create HOST DISK` makes one");
    host_off();
    disk_add("registry");
    host_on(NULL);
    assert_true(!registry_present() && strstr(registry_why(), "no certificate"));
    host_reset(alpha);
    assert_true(registry_present() && !strcmp(registry_group(), "godwit") && registry_epoch() == 1);
    assert_string_equal(registry_why(), "");
    put("vm/web", "memory = 64M\n");
    uint64_t mark = registry_mark();
    put("vm/db", "");
    assert_true(registry_mark() == mark + 1 && !registry_durable(mark));
    assert_string_equal(registry_get("vm/web", &len), "memory = 64M\n");
    assert_int_equal(len, 13);
    settle();
    assert_int_equal(r.generation, 2); /* the first state is in both halves */
    host_reset(alpha);
    assert_string_equal(registry_get("vm/web", NULL), "memory = 64M\n");
    assert_string_equal(registry_get("host", &len),
                        "fingerprint = "
                        "a1fa000000000000000000000000000000000000000000000000000000000000\nname = alpha\n");
    assert_string_equal(registry_next("vm/", ""), "vm/db");
    assert_string_equal(registry_next("vm/", "vm/db"), "vm/web");
    assert_null(registry_next("vm/", "vm/web"));
    assert_string_equal(registry_next("", ""), "host");
    assert_null(registry_next("job/", ""));
    assert_int_equal(registry_put("vm/..", "x", 1, WHY(why)), HV_E_INVAL);
    assert_int_equal(registry_put("vm/none", NULL, 0, WHY(why)), HV_OK);
    put("vm/db", NULL);
    settle();
    host_reset(alpha);
    assert_true(!registry_get("vm/db", &len) && registry_get("vm/web", NULL));
    assert_int_equal(r.generation, 3);
}

/* A user without Godwit reads it with tar. */
static void test_tar(void **state)
{
    (void)state;
    char got[200];
    disk_add("registry");
    host_on(alpha);
    put("vm/web", "memory = 64M\nkernel = vmlinuz\n");
    put("vm/long", "cmdline = 0123456789012345678901234567890123456789012345678901234567890123456789\n");
    settle();
    FILE *half = fopen("build/unit/registry.half", "wb");
    assert_int_equal(fwrite(fakes[0].durable + VOLUME_AT, 1, REGISTRY_HALF, half), REGISTRY_HALF);
    fclose(half);
    FILE *tar =
        popen("dd if=build/unit/registry.half bs=4096 skip=1 status=none | tar x -O vm/web 2>&1; "
              "dd if=build/unit/registry.half bs=4096 skip=1 status=none | tar t 2>&1; rm build/unit/registry.half",
              "r");
    got[fread(got, 1, sizeof(got) - 1, tar)] = '\0';
    assert_int_equal(pclose(tar), 0);
    assert_string_equal(got, "memory = 64M\nkernel = vmlinuz\nhost\nvm/long\nvm/web\n");
}

/* Another host's registry is left alone, until an operator says that it is this host's. */
static void test_foreign(void **state)
{
    (void)state;
    char why[300];
    static uint8_t was[REGISTRY_BYTES];
    disk_add("registry");
    host_on(alpha);
    put("vm/web", "memory = 64M\n");
    settle();
    memcpy(was, fakes[0].now + VOLUME_AT, sizeof(was));
    config.host.name[0] = 'b';
    host_reset(beta);
    turns(50);
    assert_true(!registry_present() && !registry_get("vm/web", NULL));
    assert_string_equal(registry_why(),
                        "the registry of volume group godwit belongs to host alpha, so it is not used; "
                        "if that host no longer uses these disks: `godwitctl store adopt HOST godwit --yes`");
    assert_memory_equal(was, fakes[0].now + VOLUME_AT, sizeof(was));
    assert_int_equal(registry_adopt("none", WHY(why)), HV_E_NOENT);
    char kept_off[sizeof(groups[0]->why_not)];
    memcpy(kept_off, groups[0]->why_not, sizeof(kept_off));
    groups[0]->foreign = false;
    snprintf(groups[0]->why_not, sizeof(kept_off), "one of its disks, nvme0, was given to another group");
    assert_int_equal(registry_adopt("godwit", WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "the volume group godwit cannot be used: one of its disks, nvme0, was given"));
    memcpy(groups[0]->why_not, kept_off, sizeof(kept_off));
    groups[0]->foreign = true;
    assert_int_equal(registry_adopt("godwit", WHY(why)), HV_OK);
    turns(20);
    assert_true(registry_present() && registry_epoch() == 1);
    assert_string_equal(registry_get("vm/web", NULL), "memory = 64M\n");
    settle();
    assert_int_equal(registry_adopt("godwit", WHY(why)), HV_E_EXIST);
    host_reset(alpha);
    assert_true(!registry_present() && strstr(registry_why(), "belongs to host blpha"));
    host_reset(beta);
    assert_true(registry_present());
    config.host.name[0] = 'a';
}

/* Of two groups the one with this host's registry is taken, wherever its disk is; a blank one only if there is none. */
static void test_two_groups(void **state)
{
    (void)state;
    disk_add("registry_2");
    host_on(alpha);
    put("vm/web", "1");
    settle();
    host_off();
    struct fake second = fakes[0];
    n_disks = 0;
    disk_add("registry");
    fakes[n_disks++] = second;
    host_on(alpha);
    assert_string_equal(registry_group(), "second");
    host_reset(beta);
    assert_string_equal(registry_group(), "godwit");
    settle();
    host_reset(alpha);
    assert_string_equal(registry_group(), "second");
    assert_non_null(
        strstr(registry_seen(groups[0])->why, "belongs to host alpha")); /* a name is no proof: beta had the same */
}

/* `store create` on the disk of the first group takes it out of the list, while the registry of the second is read or
 * when it is in use: what is known of that one stays its own. */
static void test_group_goes(void **state)
{
    (void)state;
    char why[300];
    disk_add("registry_2");
    host_on(alpha);
    put("vm/web", "1");
    settle();
    host_off();
    struct fake second = fakes[0];
    n_disks = 0;
    disk_add("registry");
    fakes[n_disks++] = second;
    unsigned n_gone = 0;
    for (unsigned n = 0; n < 20; n++) {
        host_on(beta); /* the first is blank, and taken; then both are read again */
        settle();
        host_off();
        host_on(NULL);
        for (unsigned i = 0; i < 32; i++)
            snprintf(r.owner + 2 * i, 3, "%02x", alpha[i]);
        turns(n);
        bool busy = false; /* then its disk would not be given away */
        for (const struct lvm_use *u = groups[0]->use; u < groups[0]->use + LVM_LVS_MAX; u++)
            busy |= u->disks;
        if (busy) {
            host_off();
            continue;
        }
        n_gone++;
        lvm_disk_forget(&fakes[0].dev);
        assert_string_equal(groups[0]->vg.name, "second");
        turns(40);
        assert_string_equal(registry_group(), "second");
        assert_string_equal(registry_get("vm/web", NULL), "1");
        assert_string_equal(registry_why(), "");
        assert_int_equal(registry_adopt("second", WHY(why)), HV_E_EXIST);
        host_off();
    }
    assert_true(n_gone > 10);
}

/* A group that is made while the host runs. */
static void test_new_group(void **state)
{
    (void)state;
    char why[300];
    disk_add("registry");
    host_on(alpha);
    host_off();
    struct lvm_group *made = groups[0];
    groups[0] = NULL;
    registry_init(alpha);
    turns(5);
    assert_false(registry_present());
    groups[0] = made;
    assert_int_equal(registry_adopt("godwit", WHY(why)), HV_E_NOENT); /* not looked at yet */
    turns(20);
    assert_true(registry_present() && registry_epoch() == 1);
}

/* ---- damage ---- */

static void sector_change(unsigned half, uint64_t at, uint8_t by)
{
    fakes[0].now[VOLUME_AT + half * REGISTRY_HALF + at] ^= by;
    fakes[0].durable[VOLUME_AT + half * REGISTRY_HALF + at] ^= by;
}
static void version_set(unsigned half, uint8_t v) { sector_change(half, 16, REGISTRY_VERSION ^ v); }

static void test_damage(void **state)
{
    (void)state;
    disk_add("registry");
    host_on(alpha);
    put("vm/web", "old");
    settle();
    put("vm/web", "new");
    settle();
    assert_int_equal(r.half, 0); /* generation 3 */
    sector_change(0, 4096 + 1024, 1);
    fake_log_lines = 0;
    host_reset(alpha);
    assert_string_equal(registry_get("vm/web", NULL), "old");
    assert_true(fake_log_lines >= 2 && r.generation == 3);
    put("vm/web", "newer");
    settle();
    host_reset(alpha);
    assert_true(!strcmp(registry_get("vm/web", NULL), "newer") && r.generation == 4);
    host_off();

    version_set(1, 2); /* a newer release wrote the other half */
    static uint8_t was[REGISTRY_BYTES];
    memcpy(was, fakes[0].now + VOLUME_AT, sizeof(was));
    host_on(alpha);
    turns(50);
    assert_true(!registry_present() && strstr(registry_why(), "is of a newer release"));
    version_set(1, 2);
    for (unsigned i = 0; i < 2; i++)
        sector_change(i, 100, 1);
    memcpy(was, fakes[0].now + VOLUME_AT, sizeof(was));
    host_reset(alpha);
    turns(50);
    assert_true(!registry_present() && strstr(registry_why(), "is damaged, in both halves"));
    char why[300];
    assert_int_equal(registry_adopt("godwit", WHY(why)), HV_E_UNSUPP);
    assert_memory_equal(was, fakes[0].now + VOLUME_AT, sizeof(was));
}

/* A disk that fails writes: said, tried again, and nothing more is taken until it works. */
static void test_write_errors(void **state)
{
    (void)state;
    char why[300];
    disk_add("registry");
    host_on(alpha);
    put("vm/a", "1");
    settle();
    fails = true;
    put("vm/a", "2");
    turns(5);
    assert_non_null(strstr(registry_why(), "cannot be written: its disk failed a request"));
    assert_int_equal(registry_put("vm/b", "3", 1, WHY(why)), HV_E_IO);
    assert_true(!registry_durable(registry_mark()) && !registry_get("vm/b", NULL));
    turns(3000);
    fails = false;
    turns(3000);
    assert_true(registry_durable(registry_mark()) && !registry_why()[0]);
    host_reset(alpha);
    assert_string_equal(registry_get("vm/a", NULL), "2");
    fakes[0].dev.lost_us = 7;
    strcpy(fakes[0].dev.why, "it is gone");
    turns(1);
    assert_string_equal(registry_why(), "the registry in volume group godwit cannot be written: disk0: it is gone");
}

/* Volumes that cannot be a registry, and no memory for one. */
static void bad_volume(uint32_t extents, bool read_only, const char *why)
{
    host_off();
    groups[0]->vg.lv[0].extents = extents;
    groups[0]->vg.lv[0].read_only = read_only;
    registry_init(alpha);
    turns(5);
    if (registry_present() || !strstr(registry_why(), why))
        fail_msg("\"%s\" is not in \"%s\"", why, registry_why());
}
static void test_bad_volumes(void **state)
{
    (void)state;
    disk_add("registry");
    host_on(alpha);
    put("vm/a", "1");
    settle();
    bad_volume(1, false, "cannot be used: its volume is smaller than 8 MiB");
    bad_volume(2, true, "cannot be used: its volume is read-only");
    fake_page_fail_after = 0;
    bad_volume(2, false, "no memory for the registry of volume group godwit");
    fake_page_fail_after = 1;
    bad_volume(2, false, "cannot be used: no memory for the disk on volume godwit/godwit-registry");
    fake_page_fail_after = 4;
    bad_volume(2, false, "cannot be used: no memory for the registry's texts");
    fake_page_fail_after = -1;
    host_reset(alpha);
    assert_true(registry_present());
}

static void test_full(void **state)
{
    (void)state;
    static char text[MIB];
    char why[300], name[40];
    memset(text, 'x', sizeof(text));
    disk_add("registry");
    host_on(alpha);
    for (unsigned i = 0; i < 3; i++) {
        snprintf(name, sizeof(name), "vm/%u", i);
        assert_int_equal(registry_put(name, text, sizeof(text), WHY(why)), HV_OK);
    }
    assert_int_equal(registry_put("vm/3", text, sizeof(text), WHY(why)), HV_E_NOMEM);
    assert_non_null(strstr(why, "has no room for 1048576 bytes more"));
    assert_int_equal(registry_room(2, sizeof(text), WHY(why)), HV_E_NOMEM);
    assert_non_null(strstr(why, "has no room for 1048576 bytes more"));
    assert_int_equal(registry_room(2, sizeof(text) / 2, WHY(why)), HV_OK);
    assert_int_equal(registry_put("vm/0", text, sizeof(text), WHY(why)), HV_OK); /* in its place */
    settle();
    host_reset(alpha);
    assert_memory_equal(registry_get("vm/2", NULL), text, sizeof(text));
    put("vm/0", NULL);
    put("vm/1", NULL);
    enum hv_err e = HV_OK;
    unsigned n = r.table->n;
    for (unsigned i = 0; !e; i++) {
        snprintf(name, sizeof(name), "job/%u", i);
        e = registry_put(name, "1", 1, WHY(why));
        n += !e;
    }
    assert_true(e == HV_E_NOMEM && n == REGISTRY_ENTRIES_MAX);
    put("vm/2", "now with room");
    settle();
    host_reset(alpha);
    assert_true(r.table->n == REGISTRY_ENTRIES_MAX && !strcmp(registry_get("job/7", NULL), "1"));
}

/* ---- power cuts ---- */

#define BATCHES 6
static struct {
    uint8_t *archive[BATCHES + 1]; /* of the registry after each batch */
    size_t len[BATCHES + 1];
    unsigned n, durable; /* put, and durable, when the power was cut */
} history;

static void batch_put(unsigned i)
{
    static char big[30000];
    memset(big, 'b' + (int)i, sizeof(big) - 1);
    switch (i) {
    case 0: break;
    case 1:
        put("vm/a", "memory = 64M\n");
        put("vm/b", big + sizeof(big) - 3000);
        break;
    case 2:
        put("vm/a", "memory = 128M\n");
        put("vm/b", NULL);
        put("job/17", "prepared");
        break;
    case 3: put("vm/big", big); break;
    case 4: put("job/17", NULL); break;
    case 5:
        put("vm/big", NULL);
        put("vm/c", "kernel = k\n");
        break;
    case BATCHES: put("vm/a", "again"); break;
    }
}

/* A host from its first boot on, until the power is cut. */
static void life(void)
{
    uint64_t marks[BATCHES + 1] = { 0 };
    unsigned done = 0;
    memset(&history, 0, sizeof(history));
    host_on(alpha);
    for (unsigned i = 0; i <= BATCHES; i++) {
        if (off())
            break;
        batch_put(i);
        marks[i] = registry_mark();
        history.archive[i] = malloc(MIB);
        history.len[i] = registry_archive_write(r.table, history.archive[i]);
        history.n = i + 1;
        for (unsigned k = 0; k < (i == 3 ? 3 : 100) && !off() && !registry_durable(marks[i]); k++)
            turns(1); /* batch 4 comes while batch 3 is being written */
    }
    for (unsigned k = 0; k < 100 && !off(); k++)
        turns(1);
    for (unsigned i = 0; i < history.n; i++)
        if (registry_durable(marks[i]))
            done = i + 1;
    history.durable = done;
}

/* The registry is one of the states that it may be, whole.  It still works. */
static void must_be_whole(unsigned cut, bool again)
{
    static uint8_t now[MIB];
    fake_log_lines = 0;
    host_on(alpha);
    if (!registry_present())
        fail_msg("cut %u: %s", cut, registry_why());
    size_t len = registry_archive_write(r.table, now);
    unsigned i = history.durable ? history.durable - 1 : 0;
    while (i < history.n && (len != history.len[i] || memcmp(now, history.archive[i], len)))
        i++;
    if (i == history.n)
        fail_msg("cut %u: no state from %u to %u", cut, history.durable, history.n);
    assert_int_equal(fake_log_lines, 2); /* the group, the registry: a power cut is no damage */
    if (again) {
        turns(20);
        assert_true(r.generation >= 2); /* both halves have something */
        put("vm/after", "the cut");
        settle();
        host_reset(alpha);
        assert_string_equal(registry_get("vm/after", NULL), "the cut");
    }
    host_off();
}

/* What reached the disk of each write that was not flushed: nothing, all, the first sectors of the last one, or any. */
static void survive(struct fake *f, unsigned variant, unsigned seed)
{
    srand(seed);
    for (unsigned i = 0; i < f->n_written; i++)
        for (uint32_t at = 0; at < f->written[i].len; at += 512) {
            bool last = i == f->n_written - 1;
            bool there = variant == 1 || (variant == 2 && (!last || at / 512 < seed)) || (variant == 3 && rand() % 2) ||
                         (variant == 4 && last);
            if (there)
                memcpy(f->durable + f->written[i].at + at, f->written[i].data + at, 512);
        }
}

#define USED (64 * KIB) /* bytes of a half that are ever written here */
static unsigned cut_variants(unsigned cut)
{
    struct fake *f = &fakes[0];
    static uint8_t was[2][USED];
    unsigned n = 0;
    for (unsigned i = 0; i < 2; i++)
        memcpy(was[i], f->durable + VOLUME_AT + i * REGISTRY_HALF, USED);
    struct written w[64];
    unsigned n_w = f->n_written;
    memcpy(w, f->written, sizeof(w));
    unsigned sectors = n_w ? w[n_w - 1].len / 512 : 0;
    for (unsigned variant = 0; variant <= 4; variant++)
        for (unsigned seed = 0; seed < (variant == 2   ? sectors
                                        : variant == 3 ? 6
                                                       : 1);
             seed += variant == 2 && sectors > 16 ? 5 : 1, n++) {
            memcpy(f->written, w, sizeof(w));
            f->n_written = n_w;
            survive(f, variant, seed);
            f->n_written = 0;
            for (unsigned i = 0; i < 2; i++)
                memcpy(f->now + VOLUME_AT + i * REGISTRY_HALF, f->durable + VOLUME_AT + i * REGISTRY_HALF, USED);
            must_be_whole(cut, seed < 2);
            flush(f);
            for (unsigned i = 0; i < 2; i++)
                memcpy(f->durable + VOLUME_AT + i * REGISTRY_HALF, was[i], USED);
        }
    for (unsigned i = 0; i < n_w; i++)
        free(w[i].data);
    return n;
}

static void test_power_cuts(void **state)
{
    (void)state;
    unsigned n = 0, cut = 1;
    for (bool whole = false; !whole; cut++) {
        disk_add("registry");
        n_requests = 0;
        cut_at = cut;
        life();
        whole = !off();
        host_off();
        n += cut_variants(cut);
        for (unsigned i = 0; i < history.n; i++)
            free(history.archive[i]);
        end(state);
    }
    assert_int_equal(history.durable, BATCHES + 1);
    printf("%u cuts, %u disks afterwards\n", cut - 1, n);
    assert_true(cut > 30 && n > 250);
}

/* A host that has a registry takes over what another one defines, and makes that blank; with a power cut at each write
 * on the way, it is done, or can be done again. */
static void test_merge(void **state)
{
    (void)state;
    char why[300];
    for (unsigned cut = 1, whole = 0; !whole; cut++) {
        disk_add("registry_2");
        host_on(alpha);
        put("vm/web", "alpha's");
        put("vm/db", "db");
        put("job/1", "old");
        settle();
        host_off();
        struct fake second = fakes[0];
        n_disks = 0;
        disk_add("registry");
        fakes[n_disks++] = second;
        host_on(beta);
        put("vm/web", "beta's");
        settle();
        struct lvm_group *g;
        const struct lvm_lv *v;
        assert_int_equal(lvm_volume_find("second", "web", &g, &v, WHY(why)), HV_E_UNSUPP);
        assert_non_null(strstr(why, "it belongs to host alpha; if that one is gone"));
        n_requests = 0;
        cut_at = cut;
        assert_int_equal(registry_adopt("second", WHY(why)), HV_OK);
        for (unsigned i = 0; i < 100 && registry_adopting() && !off(); i++)
            turns(1);
        whole = !off();
        host_off();
        for (unsigned i = 0; i < n_disks; i++) {
            survive(&fakes[i], cut % 4, cut);
            while (fakes[i].n_written)
                free(fakes[i].written[--fakes[i].n_written].data);
            memcpy(fakes[i].now, fakes[i].durable, DISK_BYTES);
        }
        host_on(beta);
        enum hv_err e = registry_adopt("second", WHY(why));
        assert_true(e == HV_OK || (e == HV_E_EXIST && registry_get("vm/db", NULL)));
        for (unsigned i = 0; i < 100 && registry_adopting(); i++)
            turns(1);
        assert_int_equal(registry_adopt("second", WHY(why)), HV_E_EXIST);
        assert_int_equal(lvm_volume_find("second", "web", &g, &v, WHY(why)), HV_OK);
        host_reset(beta);
        assert_true(!strcmp(registry_get("vm/db", NULL), "db") && !strcmp(registry_get("vm/web", NULL), "beta's"));
        assert_null(registry_get("job/1", NULL));
        assert_string_equal(registry_group(), "godwit");
        end(state);
    }
}

/* It cannot be taken over, or not be made blank: that is said. */
static void test_merge_fails(void **state)
{
    (void)state;
    static char text[MIB];
    char why[300];
    disk_add("registry_2");
    host_on(alpha);
    assert_int_equal(registry_put("vm/web", text, sizeof(text), WHY(why)), HV_OK);
    settle();
    host_off();
    struct fake second = fakes[0];
    n_disks = 0;
    disk_add("registry");
    fakes[n_disks++] = second;
    host_on(beta);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(registry_put(i ? i == 1 ? "vm/1" : "vm/2" : "vm/0", text, sizeof(text), WHY(why)), HV_OK);
    settle();
    assert_int_equal(registry_adopt("second", WHY(why)), HV_OK);
    for (unsigned i = 0; i < 1000 && registry_adopting(); i++)
        turns(1);
    assert_int_equal(registry_adopt("second", WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "volume group second is not adopted: the registry in volume group godwit has no room"));
    put("vm/1", NULL);
    settle();
    host_reset(beta);
    assert_int_equal(registry_adopt("second", WHY(why)), HV_OK);
    while (!registry_seen(groups[1])->merged || !registry_durable(registry_seen(groups[1])->mark))
        turns(1);
    fails = true;
    for (unsigned i = 0; i < 1000 && registry_adopting(); i++)
        turns(1);
    assert_int_equal(registry_adopt("second", WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "volume group second cannot be written: its disk failed a request"));
}

/* ---- bytes ---- */

static void test_names(void **state)
{
    (void)state;
    static const char *const good[] = { "a", "vm/web", "job/0123", "a/b/c", "..a", "a..", "x.y" };
    static const char *const bad[] = {
        "",     "/",
        "/a",   "a/",
        "a//b", ".",
        "..",   "a/../b",
        "a b",  "a\n",
        "\xe9", "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
    };
    for (unsigned i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(registry_name_ok(good[i]));
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(registry_name_ok(bad[i]));
}

/* Each byte of header and archive counts. */
static void test_bytes(void **state)
{
    (void)state;
    static struct registry_table t, got;
    static uint8_t a[8192], again[8192];
    char why[200];
    assert_int_equal(registry_table_put(&t, "vm/web", "memory = 64M\n", 13), HV_OK);
    assert_int_equal(registry_table_put(&t, "host", "", 0), HV_OK);
    size_t len = registry_archive_write(&t, a);
    assert_int_equal(len, 512 + 1024 + 1024);
    assert_int_equal(registry_archive_read(&got, a, len, WHY(why)), HV_OK);
    assert_int_equal(registry_archive_write(&got, again), len);
    assert_memory_equal(a, again, len);
    registry_table_clear(&got);
    unsigned n_other = 0;
    for (size_t i = 0; i < len; i++) {
        a[i] ^= 0x20;
        enum hv_err e = registry_archive_read(&got, a, len, WHY(why));
        assert_true(e == HV_OK || e == HV_E_INVAL);
        n_other += e == HV_OK; /* the text itself: its hash is in the header */
        registry_table_clear(&got);
        a[i] ^= 0x20;
    }
    assert_int_equal(n_other, 13);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(registry_archive_read(&got, a, i, WHY(why)), HV_E_INVAL);
    fake_page_fail_after = 1;
    assert_int_equal(registry_archive_read(&got, a, len, WHY(why)), HV_E_NOMEM);
    fake_page_fail_after = -1;
    assert_int_equal(got.n, 0);
    registry_table_clear(&t);

    struct registry_header h = { .generation = 5, .len = 1536, .sha256 = { 1, 2 } }, out;
    registry_header_write(&h, a);
    assert_int_equal(registry_header_read(a, &out), HV_OK);
    assert_memory_equal(&h, &out, sizeof(h));
    for (size_t i = 0; i < 512; i++) {
        a[i] ^= 0x80;
        enum hv_err e = registry_header_read(a, &out);
        assert_int_equal(e, i >= 16 && i < 20 ? HV_E_VERSION : HV_E_INVAL);
        a[i] ^= 0x80;
    }
    memset(a, 0, 512);
    assert_int_equal(registry_header_read(a, &out), HV_E_NOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_first, end),
        cmocka_unit_test_teardown(test_tar, end),
        cmocka_unit_test_teardown(test_foreign, end),
        cmocka_unit_test_teardown(test_two_groups, end),
        cmocka_unit_test_teardown(test_group_goes, end),
        cmocka_unit_test_teardown(test_new_group, end),
        cmocka_unit_test_teardown(test_damage, end),
        cmocka_unit_test_teardown(test_write_errors, end),
        cmocka_unit_test_teardown(test_full, end),
        cmocka_unit_test_teardown(test_bad_volumes, end),
        cmocka_unit_test_teardown(test_power_cuts, end),
        cmocka_unit_test_teardown(test_merge, end),
        cmocka_unit_test_teardown(test_merge_fails, end),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
