/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/boot_keep.c - see boot_keep.h.
 *
 *     MAKE --commit: volume part.N--> OPEN --> WRITE --all bytes--> SYNC --> SEAL --commit: file.<sha256>--> DONE
 *     FAILED from each.  What is left of part.N is removed by the next MAKE. */
#include "kernel/vm/boot_keep.h"

#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/store/disk_flow.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/registry.h"
#include "kernel/vm/vm_memory.h"

#define KEEPS_MAX  4
#define TURN_BYTES (128 * KIB) /* of a blob */
#define PART       "part."
#define PART_TAG   "godwit.part"

enum keep_state { KEEP_FREE, KEEP_MAKE, KEEP_OPEN, KEEP_WRITE, KEEP_SYNC, KEEP_SEAL, KEEP_DONE, KEEP_FAILED };
struct boot_keep {
    enum keep_state state;
    bool committing, aborted; /* aborted: nobody waits for the result */
    char name[STORE_FILE_NAME_MAX + 1], group[LVM_NAME_LEN], part[16];
    uint64_t bytes;
    const struct boot_blob *blob; /* borrowed, or NULL */
    struct flow *flow;            /* owned */
    struct sha256 hash;
    bool wanted; /* want is the hash that it must have */
    uint8_t want[SHA256_LEN];
    enum hv_err err;
    char why[256];
};
static struct boot_keep keeps[KEEPS_MAX];

static void keep_close(struct boot_keep *k)
{
    flow_close(k->flow);
    *k = (struct boot_keep){ .state = KEEP_FREE };
}

static void keep_fail(struct boot_keep *k, enum hv_err e, const char *text)
{
    flow_close(k->flow);
    k->flow = NULL;
    k->state = KEEP_FAILED;
    k->err = e;
    snprintf(k->why, sizeof(k->why), "%s", text);
    log_error("boot", "file %s: %s", k->name[0] ? k->name : "of a guest", k->why);
}

/* ---- names ---- */

static bool has_name(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (; *list; list += strcspn(list, "&"), list += *list == '&')
        if (strcspn(list, "&") == n && !strncmp(list, name, n))
            return true;
    return false;
}

/* list without name, in out. */
static void without_name(const char *list, const char *name, char *out, size_t cap)
{
    size_t len = 0;
    out[0] = 0;
    for (size_t n; *list && len < cap; list += n, list += *list == '&') {
        n = strcspn(list, "&");
        if (n != strlen(name) || strncmp(list, name, n) != 0)
            len += (size_t)snprintf(out + len, cap - len, "%s%.*s", len ? "&" : "", (int)n, list);
    }
}

/* Does a guest that came by a move start from that file? */
static bool arrived_uses(const struct lvm_lv *lv)
{
    const char *sha256 = lv->name + strlen(STORE_FILE_PREFIX);
    for (const char *e = registry_next("arrived/", ""); e; e = registry_next("arrived/", e)) {
        const char *text = registry_get(e, NULL);
        if (text && strstr(text, sha256))
            return true;
    }
    return false;
}

/* Take name from the file that has it; which goes if that was its last, and no guest that came here needs it. */
static enum hv_err name_free(struct lvm_change *c, const char *name, bool keep, struct why *why)
{
    char rest[LVM_TAGS_LEN];
    struct store_file f;
    if (!*name || !store_file_named(name, &f))
        return HV_OK;
    struct lvm_lv *lv = lvm_change_find(c, f.lv->name);
    without_name(lvm_lv_tag(f.lv, "godwit.name"), name, rest, sizeof(rest));
    if (rest[0] || keep || arrived_uses(f.lv))
        return lvm_change_tag(c, lv, "godwit.name", rest[0] ? rest : NULL, why);
    if (lvm_use_get(f.group, f.lv->uuid)->disks)
        return REFUSE(HV_E_BUSY, "the file %s is being read: try again in a moment", name);
    return lvm_change_remove(c, lv, why);
}

static enum hv_err boot_name_add(struct lvm_change *c, struct lvm_lv *lv, const char *name, struct why *why)
{
    char all[LVM_TAGS_LEN];
    const char *has = lvm_lv_tag(lv, "godwit.name");
    if (!*name || (has && has_name(has, name)))
        return HV_OK;
    snprintf(all, sizeof(all), "%s%s%s", has ? has : "", has ? "&" : "", name);
    return lvm_change_tag(c, lv, "godwit.name", all, why);
}

/* ---- the two changes ---- */

/* Is it the volume of a file that is being written?  KEEP_MAKE: it has none yet. */
static bool part_in_use(const char *name)
{
    for (const struct boot_keep *k = keeps; k < keeps + KEEPS_MAX; k++)
        if (k->state > KEEP_MAKE && !strcmp(k->part, name))
            return true;
    return false;
}

/* Files without a name, of guests that came here and are gone: no entry arrived/ of the registry has them. */
static enum hv_err nameless_remove(struct lvm_change *c, struct why *why)
{
    struct store_file f;
    char name[STORE_FILE_NAME_MAX + 1];
    for (unsigned i = 0; store_file_at(i, &f); i++) {
        if (store_file_name(&f, 0, name) || arrived_uses(f.lv) || lvm_use_get(f.group, f.lv->uuid)->disks)
            continue;
        enum hv_err e = lvm_change_remove(c, lvm_change_find(c, f.lv->name), why);
        if (e)
            return e;
    }
    return HV_OK;
}

/* Has it writes under way?  Those of a file that was aborted end after it. */
static bool lv_has_disks(const struct boot_keep *k, const struct lvm_lv *lv)
{
    return lvm_use_get(lvm_group_find(k->group), lv->uuid)->disks;
}

/* What an earlier file left.  A volume without the tag is somebody else's. */
static enum hv_err parts_remove(struct lvm_change *c, const struct boot_keep *k, struct why *why)
{
    char name[sizeof(keeps->part)];
    for (unsigned i = 0; i < KEEPS_MAX; i++) {
        snprintf(name, sizeof(name), PART "%u", i);
        struct lvm_lv *lv = part_in_use(name) ? NULL : lvm_change_find(c, name);
        if (!lv || !lvm_lv_tag(lv, PART_TAG) || lv_has_disks(k, lv))
            continue;
        enum hv_err e = lvm_change_remove(c, lv, why);
        if (e)
            return e;
    }
    return HV_OK;
}

/* HV_E_AGAIN: the volume that an earlier file left there is still being written. */
static enum hv_err make_part(struct lvm_change *c, struct boot_keep *k, struct why *why)
{
    struct lvm_lv *lv = lvm_change_find(c, k->part);
    if (lv && lvm_lv_tag(lv, PART_TAG) && lv_has_disks(k, lv))
        return HV_E_AGAIN;
    uint32_t extents = (uint32_t)DIV_ROUND_UP(k->bytes, lvm_group_find(k->group)->vg.extent_bytes);
    enum hv_err e = parts_remove(c, k, why);
    if (!e)
        e = nameless_remove(c, why);
    if (!e)
        e = lvm_change_add(c, k->part, extents, &lv, why);
    return e ? e : lvm_change_tag(c, lv, PART_TAG, "1", why);
}

static enum hv_err make_file(struct lvm_change *c, struct boot_keep *k, struct why *why)
{
    uint8_t hash[SHA256_LEN];
    char file[LVM_NAME_LEN], bytes[24], sha256[SHA256_TEXT_LEN];
    sha256_out(&k->hash, hash);
    sha256_text(hash, sha256);
    snprintf(file, sizeof(file), STORE_FILE_PREFIX "%s", sha256);
    snprintf(bytes, sizeof(bytes), "%lu", k->bytes);
    struct lvm_lv *part = lvm_change_find(c, k->part), *same = lvm_change_find(c, file);
    enum hv_err e = HV_OK;
    if (!part)
        return REFUSE(HV_E_NOENT, "its volume %s/%s was removed meanwhile: send the file again", k->group, k->part);
    if (same && has_name(lvm_lv_tag(same, "godwit.name") ? lvm_lv_tag(same, "godwit.name") : "", k->name))
        return lvm_change_remove(c, part, why); /* nothing is new */
    if (same) {
        e = lvm_change_remove(c, part, why);
        part = same;
    } else {
        e = lvm_change_rename(c, part, file, why);
        lvm_change_read_only(c, part, true);
        if (!e)
            e = lvm_change_tag(c, part, PART_TAG, NULL, why);
    }
    if (!e)
        e = name_free(c, k->name, false, why);
    if (!e)
        e = lvm_change_tag(c, part, "godwit.sha256", sha256, why);
    if (!e)
        e = lvm_change_tag(c, part, "godwit.bytes", bytes, why);
    return e ? e : boot_name_add(c, part, k->name, why);
}

static void keep_committed(void *ctx, enum hv_err e, const char *text)
{
    struct boot_keep *k = ctx;
    k->committing = false;
    if (e)
        keep_fail(k, e, text);
    else
        k->state = k->state == KEEP_MAKE ? KEEP_OPEN : KEEP_DONE;
    if (k->aborted)
        keep_close(k);
}

static bool keep_commit(struct boot_keep *k)
{
    char text[sizeof(k->why)];
    struct lvm_change *c;
    struct lvm_group *g = lvm_group_find(k->group);
    enum hv_err e = lvm_change_begin(g, &c, WHY(text));
    if (e == HV_E_BUSY)
        return false;
    if (!e) {
        e = k->state == KEEP_MAKE ? make_part(c, k, WHY(text)) : make_file(c, k, WHY(text));
        if (e)
            lvm_change_drop(c);
        if (e == HV_E_AGAIN)
            return false;
    }
    if (e) {
        keep_fail(k, e, text);
        return true;
    }
    k->committing = true;
    lvm_change_commit(c, keep_committed, k);
    return true;
}

enum hv_err boot_file_delete(const char *name, bool keep, lvm_done_fn *done, void *ctx, struct why *why)
{
    struct lvm_change *c;
    struct store_file f;
    if (!store_file_named(name, &f))
        return REFUSE(HV_E_NOENT, "no file in this host's store is named %s", name);
    enum hv_err e = lvm_change_begin(f.group, &c, why);
    if (e)
        return e == HV_E_BUSY ? HV_E_AGAIN : e;
    e = name_free(c, name, keep, why);
    if (e) {
        lvm_change_drop(c);
        return e;
    }
    lvm_change_commit(c, done, ctx);
    return HV_OK;
}

/* ---- writing ---- */

enum hv_err boot_keep_begin(const char *name, uint64_t bytes, const struct boot_blob *blob, struct boot_keep **out,
                            struct why *why)
{
    struct boot_keep *k = NULL;
    *out = NULL;
    if (!registry_present())
        return REFUSE(HV_E_UNSUPP, "this host has no store of its own: `store create` makes one");
    if (bytes > WINDOW_MAX_BYTES || !bytes)
        return REFUSE(HV_E_NOMEM, "a boot file has 1 byte to %lu MiB, this one %lu bytes", WINDOW_MAX_BYTES / MIB,
                      bytes);
    if (vm_memory_promisable() < LV_DISK_MEMORY + MIB)
        return REFUSE(HV_E_NOMEM, "no memory to write a file into the store");
    for (unsigned i = KEEPS_MAX; i--;) {
        if (keeps[i].state == KEEP_FREE)
            k = &keeps[i];
        else if (*name && !strcmp(keeps[i].name, name))
            return REFUSE(HV_E_BUSY, "a file %s is being written already", name);
    }
    if (!k)
        return REFUSE(HV_E_BUSY, "%u files are being written into the store, which is the limit", KEEPS_MAX);
    *k = (struct boot_keep){ .state = KEEP_MAKE, .bytes = bytes, .blob = blob };
    snprintf(k->name, sizeof(k->name), "%s", name);
    snprintf(k->group, sizeof(k->group), "%s", registry_group());
    snprintf(k->part, sizeof(k->part), PART "%u", (unsigned)(k - keeps));
    sha256_init(&k->hash);
    *out = k;
    return HV_OK;
}

size_t boot_keep_room(const struct boot_keep *k)
{
    return k->state == KEEP_WRITE ? MIN(flow_room(k->flow), k->bytes - flow_at(k->flow)) : 0;
}

void boot_keep_put(struct boot_keep *k, const void *p, size_t n)
{
    ASSERT(n <= boot_keep_room(k));
    sha256_update(&k->hash, p, n);
    flow_put(k->flow, p, n);
}

void boot_keep_want(struct boot_keep *k, const uint8_t sha256[SHA256_LEN])
{
    k->wanted = true;
    memcpy(k->want, sha256, SHA256_LEN);
}

bool boot_keep_failed(const struct boot_keep *k) { return k->state == KEEP_FAILED; }

enum hv_err boot_keep_result(struct boot_keep *k, uint8_t sha256[SHA256_LEN], struct why *why)
{
    enum hv_err e = k->err;
    if (k->state != KEEP_DONE && k->state != KEEP_FAILED)
        return HV_E_AGAIN;
    sha256_out(&k->hash, sha256);
    if (k->state == KEEP_FAILED)
        why_say(why, "%s", k->why);
    keep_close(k);
    return e;
}

void boot_keep_abort(struct boot_keep *k)
{
    k->aborted = true;
    if (!k->committing)
        keep_close(k);
}

/* ---- steps ---- */

static bool keep_open_step(struct boot_keep *k)
{
    struct disk *d;
    char text[sizeof(k->why)];
    enum hv_err e = lv_disk_open_own(k->group, k->part, &d, WHY(text));
    k->flow = e ? NULL : flow_write(d, 0);
    if (!e && !k->flow) {
        d->ops->close(d);
        e = HV_E_NOMEM;
        snprintf(text, sizeof(text), "no memory to write a file into the store");
    }
    if (e)
        keep_fail(k, e, text);
    else
        k->state = KEEP_WRITE;
    return true;
}

static bool keep_write_step(struct boot_keep *k)
{
    size_t n = k->blob ? MIN(boot_keep_room(k), TURN_BYTES) : 0;
    if (n)
        boot_keep_put(k, k->blob->data + flow_at(k->flow), n);
    if (flow_at(k->flow) == k->bytes)
        k->state = KEEP_SYNC;
    return n > 0;
}

static bool keep_sync_step(struct boot_keep *k)
{
    uint8_t hash[SHA256_LEN];
    if (!flow_sync(k->flow, true))
        return false;
    flow_close(k->flow); /* the volume gets another name */
    k->flow = NULL;
    sha256_out(&k->hash, hash);
    k->state = KEEP_SEAL;
    if (k->wanted && memcmp(hash, k->want, SHA256_LEN) != 0)
        keep_fail(k, HV_E_DIGEST, "the bytes that came have another SHA-256 than was said: send the file again");
    return true;
}

static bool keep_step(struct boot_keep *k)
{
    uint64_t at;
    char text[80];
    bool moved = k->flow && flow_step(k->flow);
    if (k->flow && flow_failed(k->flow, &at)) {
        snprintf(text, sizeof(text), "the disk of the store cannot write it at byte %lu", at);
        keep_fail(k, HV_E_IO, text);
        return true;
    }
    switch (k->state) {
    case KEEP_MAKE:
    case KEEP_SEAL:   return (!k->committing && keep_commit(k)) || moved;
    case KEEP_OPEN:   return keep_open_step(k);
    case KEEP_WRITE:  return keep_write_step(k) || moved;
    case KEEP_SYNC:   return keep_sync_step(k) || moved;
    case KEEP_FREE:
    case KEEP_DONE:
    case KEEP_FAILED: break;
    }
    return moved;
}

bool boot_keep_step(void)
{
    bool moved = false;
    for (struct boot_keep *k = keeps; k < keeps + KEEPS_MAX; k++)
        moved |= keep_step(k);
    return moved;
}
