/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz-sources: kernel/peers/move_record.c kernel/config/config.c kernel/config/config_keys.c
 *   kernel/config/config_write.c kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/lib/text.c kernel/lib/err.c
 *   kernel/lib/print.c migrate/mig.c migrate/policy.c tests/fakes/log_quiet.c tests/fakes/page.c
 *   tests/fakes/registry.c */
/* tests/fuzz/fuzz_records.c - the registry's entries about moves, as a boot finds them: job/ID, arrived/NAME, and
 * leaving/ID with the volumes to delete.
 *
 * Input: entries, each ended by the byte 0xff: its name in the first line, behind it its text.  The group vg0 has the
 * volumes u1 to u4, of which two have a job's tag.  For every input: what is deleted is one of these, and no volume of
 * a guest; a second look at the same entries changes nothing more. */
#include <stdlib.h>
#include <string.h>
#include "kernel/peers/move_volume.c"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/vm_manage.h"
#include "tests/fakes/registry.h"

#define CHECK(x)     \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)
#define JOB "00112233445566778899aabbccddeeff"

static struct lvm_group group = { .vg = { .name = "vg0", .extent_bytes = 4 * MIB } };
static struct lvm_use uses[4];
static struct vm vms[2];
static bool recalled;
static uint64_t now_us;

uint64_t clock_us(void) { return now_us; }
struct lvm_group *lvm_group_at(unsigned i) { return i ? NULL : &group; }
struct lvm_group *lvm_group_find(const char *name) { return strcmp(name, "vg0") ? NULL : &group; }
struct lvm_use *lvm_use_get(struct lvm_group *g, const char *uuid)
{
    CHECK(g == &group && uuid[0] == 'u' && uuid[1] >= '1' && uuid[1] <= '4');
    return &uses[uuid[1] - '1'];
}
const char *vm_disk_owner(const char *vg, const char *lv, const char *but)
{
    CHECK(!strcmp(vg, "vg0"));
    return !strcmp(lv, "v4") && (!but || strcmp(but, "owner")) ? "owner" : NULL;
}
enum hv_err volume_delete(struct lvm_group *g, const char *name, const struct store_watch *w, struct why *why)
{
    const struct lvm_lv *lv = lvm_lv_find(&g->vg, name);
    CHECK(lv && (why || !why));
    group.vg.lv[lv - group.vg.lv] = group.vg.lv[--group.vg.n_lvs];
    w->done(w->ctx, HV_OK, "");
    return HV_OK;
}
enum hv_err lvm_change_begin(struct lvm_group *g, struct lvm_change **c, struct why *why)
{
    *c = (struct lvm_change *)g;
    CHECK(why);
    return HV_OK;
}
void lvm_change_read_only(struct lvm_change *c, struct lvm_lv *lv, bool read_only) { lv->read_only = c && read_only; }
struct lvm_lv *lvm_change_find(struct lvm_change *c, const char *name)
{
    (void)c;
    const struct lvm_lv *lv = lvm_lv_find(&group.vg, name);
    return lv ? &group.vg.lv[lv - group.vg.lv] : NULL;
}
enum hv_err lvm_change_tag(struct lvm_change *c, struct lvm_lv *lv, const char *key, const char *value, struct why *why)
{
    CHECK(c && !strcmp(key, LVM_TAG_MOVE) && !value && why);
    lv->tags[0] = '\0';
    return HV_OK;
}
void lvm_change_drop(struct lvm_change *c) { CHECK(c); }
void lvm_change_commit(struct lvm_change *c, lvm_done_fn *done, void *ctx)
{
    CHECK(c);
    done(ctx, HV_OK, "");
}

unsigned vm_slots(void) { return ARRAY_SIZE(vms); }
struct vm *vm_at(unsigned i) { return recalled && i ? &vms[1] : NULL; }
unsigned vm_slot(const struct vm *vm) { return (unsigned)(vm - vms); }
const uint8_t *boot_set_sha256(const struct boot_set *set, unsigned i) { return set->file[i]->sha256; }
struct vm *vm_recall(const struct vm_config *c, const uint8_t uuid[16], const struct boot_want *want, unsigned n)
{
    CHECK(uuid && n <= 2 + CONFIG_MAX_MODULES && (want || !n));
    CHECK(memchr(c->name, 0, sizeof(c->name)) && c->n_disks <= CONFIG_MAX_DISKS);
    recalled = true;
    vms[1] = (struct vm){ .config = *c, .arrived = true };
    return &vms[1];
}
void incoming_verdict(const struct mig_id *id, const char *peer, enum mig_verdict v, const char *why)
{
    CHECK(id && v && strlen(peer) < 200 && strlen(why) < 200);
}
void migration_recall_doubt(const char *guest, const struct mig_id *id, const char *peer, bool there)
{
    CHECK(id && (there || !there) && strlen(peer) < 200 && strlen(guest) < 200);
}

static void group_fill(void)
{
    group.vg.n_lvs = 0;
    for (unsigned i = 1; i <= 4; i++) {
        struct lvm_lv *lv = &group.vg.lv[group.vg.n_lvs++];
        *lv = (struct lvm_lv){ .usable = true, .linear = true, .extents = 1 };
        snprintf(lv->name, sizeof(lv->name), "v%u", i);
        snprintf(lv->uuid, sizeof(lv->uuid), "u%u", i);
        if (i == 2 || i == 3)
            snprintf(lv->tags, sizeof(lv->tags), LVM_TAG_MOVE "=%s", i == 2 ? JOB : "x");
    }
}

static void entry_put(const uint8_t *data, size_t size)
{
    char name[80], why[200];
    const uint8_t *line = memchr(data, '\n', size);
    size_t len = line ? (size_t)(line - data) : size;
    if (!line || !len || len >= sizeof(name) || memchr(data, 0, size))
        return;
    memcpy(name, data, len);
    name[len] = '\0';
    (void)!registry_put(name, (const char *)line + 1, size - len - 1, WHY(why));
}

static void turns(void)
{
    for (unsigned i = 0; i < 8; i++, now_us += RETRY_US) {
        move_record_step();
        (void)move_volume_step();
    }
    CHECK(!errands);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config conf;
    host_config = &conf;
    if (size > 6000)
        return 0;
    fake_registry_reset();
    fake_registry_lands = false; /* it copies all */
    group_fill();
    recalled = false;
    memset(uses, 0, sizeof(uses));
    for (size_t at = 0, len; at < size; at += len + 1) {
        const uint8_t *end = memchr(data + at, 0xff, size - at);
        len = end ? (size_t)(end - data) - at : size - at;
        entry_put(data + at, len);
    }
    fake_registry_lands = true;
    fake_registry_land();
    epoch = 0;
    turns();
    unsigned left = group.vg.n_lvs;
    CHECK(lvm_lv_find(&group.vg, "v1") || size > 8);
    (void)move_record_left_to("g");
    epoch = 0;
    turns();
    CHECK(left == group.vg.n_lvs);
    return 0;
}
