/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz-sources: kernel/store/saved_find.c kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/lib/text.c
 *   kernel/lib/err.c kernel/lib/print.c tests/fakes/log_quiet.c tests/fakes/page.c */
/* tests/fuzz/fuzz_tags.c - tags of volumes as they may be on a disk: which checkpoints and saved guests they make.
 *
 * Input: volumes, each ended by the byte 0xff: its first byte has flags, behind it its tags, each ended by a newline.
 * For every input: lists end, and each thing in them is found by its name; no length is beyond its volume. */
#include <stdlib.h>
#include <string.h>
#include "kernel/store/checkpoint.c"

enum { VOLUME_SNAPSHOT = 1, VOLUME_UNUSABLE = 2, VOLUME_READ_ONLY = 4 };
#define CHECK(x)     \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

static struct lvm_group group = { .vg = { .name = "vg0", .extent_bytes = 4 * MIB } };

struct lvm_group *lvm_group_at(unsigned i) { return i ? NULL : &group; }
struct lvm_group *lvm_group_find(const char *name) { return strcmp(name, "vg0") ? NULL : &group; }
bool checkpoint_is_reverted(const char *guest) { return guest == NULL; }
bool checkpoint_revert_step(void) { return false; }

/* Nothing is made or deleted here, and nothing is in use. */
enum hv_err lvm_volume_find(const char *vg, const char *lv, struct lvm_group **g, const struct lvm_lv **out,
                            struct why *why)
{
    (void)vg, (void)lv, (void)g, (void)out, (void)why;
    abort();
}
struct lvm_use *lvm_use_get(struct lvm_group *g, const char *uuid)
{
    static struct lvm_use use; /* what has the tag of a move is not filled */
    CHECK(g && uuid);
    return &use;
}
bool lv_disk_freeze(const struct lvm_group *g, const char *uuid, const char *cow_uuid, bool freeze)
{
    (void)g, (void)uuid, (void)cow_uuid, (void)freeze;
    abort();
}
enum hv_err lvm_change_tag(struct lvm_change *c, struct lvm_lv *lv, const char *key, const char *value, struct why *why)
{
    (void)c, (void)lv, (void)key, (void)value, (void)why;
    abort();
}
enum hv_err lvm_change_remove(struct lvm_change *c, struct lvm_lv *lv, struct why *why)
{
    (void)c, (void)lv, (void)why;
    abort();
}
struct lvm_lv *lvm_change_find(struct lvm_change *c, const char *name)
{
    (void)c, (void)name;
    abort();
}
enum hv_err snapshot_prepare(struct lvm_group *g, const char *volume, const char *name, struct making **out,
                             struct why *why)
{
    (void)g, (void)volume, (void)name, (void)out, (void)why;
    abort();
}
enum hv_err snapshot_prepared(const struct making *m, struct why *why)
{
    (void)m, (void)why;
    abort();
}
bool snapshot_prepare_hold(const struct making *m) { return m; }
enum hv_err snapshot_prepare_edit(struct making *m, struct lvm_change *c, struct lvm_lv **cow, struct why *why)
{
    (void)m, (void)c, (void)cow, (void)why;
    abort();
}
void snapshot_prepare_end(struct making *m) { CHECK(!m); }
void saved_edit_begin(struct saved_edit *e, enum saved_what what, const char *vg, const char *lv, const char *guest,
                      uint64_t bytes)
{
    (void)e, (void)what, (void)vg, (void)lv, (void)guest, (void)bytes;
    abort();
}
enum hv_err saved_edit_step(struct saved_edit *e, struct why *why)
{
    (void)e, (void)why;
    abort();
}
bool config_name_ok(const char *s) { return *s; }

/* One volume, and the tie of its snapshot to the first one. */
static void volume_add(const uint8_t *data, size_t size)
{
    struct lvm_vg *vg = &group.vg;
    unsigned flags = size ? data[0] : 0;
    struct lvm_lv *lv = &vg->lv[vg->n_lvs++];
    *lv = (struct lvm_lv){ .usable = !(flags & VOLUME_UNUSABLE), .linear = true, .extents = 1 + flags % 7 };
    lv->read_only = flags & VOLUME_READ_ONLY;
    snprintf(lv->name, sizeof(lv->name), "v%u", vg->n_lvs);
    snprintf(lv->uuid, sizeof(lv->uuid), "uuid-%u", vg->n_lvs);
    size_t n = size ? MIN(size - 1, sizeof(lv->tags) - 2) : 0;
    memcpy(lv->tags, data + 1, n);
    for (size_t i = 0; i < n; i++)
        lv->tags[i] = lv->tags[i] == '\n' ? '\0' : lv->tags[i];
    if (!(flags & VOLUME_SNAPSHOT))
        return;
    struct lvm_lv *tie = &vg->lv[vg->n_lvs++];
    *tie = (struct lvm_lv){ .usable = true };
    snprintf(tie->name, sizeof(tie->name), "v%u", vg->n_lvs);
    snprintf(tie->snap.origin, sizeof(tie->snap.origin), flags & 8 ? "none" : "v1");
    snprintf(tie->snap.cow, sizeof(tie->snap.cow), "%s", lv->name);
}

static void checkpoints_list(const char *guest)
{
    unsigned n = 0;
    for (struct checkpoint c = checkpoint_first(guest); c.group; c = checkpoint_next(guest, &c)) {
        CHECK(++n <= group.vg.n_lvs && !strcmp(c.guest, guest) && c.n_disks <= CONFIG_MAX_DISKS);
        CHECK(c.memory || c.n_disks || !c.reverting);
        CHECK(checkpoint_find(guest, c.name).group);
    }
    CHECK(checkpoint_any(guest) == (n > 0));
}

static void saved_check(const struct lvm_lv *lv)
{
    struct saved s = saved_of(&group, lv);
    CHECK(s.bytes <= lvm_lv_bytes(&group.vg, lv) && (s.state <= SAVED_WRITING || s.bytes));
    (void)saved_has_disk(s.disks, &group.vg.lv[0]);
    const char *holder = saved_disk_holder(lv);
    CHECK(!holder || saved_is(holder));
    if (s.state == SAVED_WHOLE)
        CHECK(saved_find(s.guest).state == SAVED_WHOLE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct checkpoint c;
    char tag[CHECKPOINT_TAG_LEN] = "";
    unsigned n = 0;
    group.vg.n_lvs = 0;
    for (size_t at = 0, len; at < size && group.vg.n_lvs < 40; at += len + 1) {
        const uint8_t *end = memchr(data + at, 0xff, size - at);
        len = end ? (size_t)(end - data) - at : size - at;
        volume_add(data + at, len);
    }
    for (unsigned i = 0; i < group.vg.n_lvs; i++) {
        saved_check(&group.vg.lv[i]);
        if (tag_read(&group.vg.lv[i], CHECKPOINT_TAG, &c))
            checkpoints_list(c.guest);
    }
    do {
        (void)checkpoint_interrupted(tag);
        CHECK(++n <= group.vg.n_lvs + 1);
    } while (tag[0]);
    return 0;
}
