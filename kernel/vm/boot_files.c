/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/boot_files.c - files that guests start from, by name on this host's boot disk or in its store.
 *
 * The host's own files - keys, certificates, configuration, seed - never enter the table: no guest, client or peer can
 * name them.  Not here: what a loader makes of a file (linux_boot.c, elf_boot.c). */
#include "kernel/vm/boot_files.h"

#include <string.h>
#include "kernel/lib/log.h"
#include "net/sha256.h"

#define HASH_STEP (128 * KIB) /* in one turn of the service loop */

static struct boot_blob disk_files[BOOT_MAX_FILES]; /* [s] */
static const char *disk_names[BOOT_MAX_FILES];      /* [c] borrowed from boot_info; NULL: slot free */
static const struct boot_source *source;            /* [c] NULL: there is only the boot disk */

void boot_files_source(const struct boot_source *s)
{
    ASSERT(!source);
    source = s;
}

void boot_blob_use(struct boot_blob *b)
{
    if (source && b)
        source->use(b);
}

void boot_blob_put(struct boot_blob *b)
{
    if (source && b)
        source->put(b);
}

void boot_blob_keep(const struct boot_blob *b)
{
    if (source)
        source->keep(b);
}

void boot_blob_forget(const struct boot_blob *b)
{
    if (source)
        source->forget(b);
}

void boot_files_init(const struct boot_info *bi)
{
    unsigned n = 0;
    memset(disk_names, 0, sizeof(disk_names));
    for (unsigned i = 0; i < bi->n_files; i++) {
        const struct boot_file *f = &bi->files[i];
        if (config_file_is_hosts(f->name))
            continue;
        disk_files[n] = (struct boot_blob){ .data = (const uint8_t *)(uintptr_t)f->base, .len = f->len };
        disk_names[n++] = f->name;
    }
}

/* The file of that name on the boot disk; FAT does not know case.  NULL: none. */
static struct boot_blob *disk_file_find(const char *name)
{
    for (unsigned i = 0; i < BOOT_MAX_FILES && disk_names[i]; i++)
        if (boot_name_eq(disk_names[i], name))
            return &disk_files[i];
    return NULL;
}

const char *boot_disk_file(unsigned i, uint64_t *len)
{
    *len = i < BOOT_MAX_FILES ? disk_files[i].len : 0;
    return i < BOOT_MAX_FILES ? disk_names[i] : NULL;
}

bool boot_disk_has(const char *name) { return disk_file_find(name) != NULL; }

bool boot_files_name(const struct vm_config *c, const char *name)
{
    char file[CONFIG_PATH_LEN];
    const char *string;
    bool found = !strcmp(c->kernel, name) || !strcmp(c->initrd, name);
    for (unsigned i = 0; i < c->n_disks; i++)
        found |= c->disk[i].kind == DISK_IN_RAM && !strcmp(c->disk[i].file, name);
    for (const char *m = NULL; !found && (m = config_module_next(c, m, file, &string));)
        found = !strcmp(file, name);
    return found;
}

/* The boot disk goes before the store. */
static enum hv_err file_get(const struct vm_config *c, const char *name, const char *what, struct boot_blob **out,
                            struct why *why)
{
    *out = disk_file_find(name);
    if (*out)
        return HV_OK;
    if (config_file_is_hosts(name))
        return REFUSE(HV_E_NOENT, "%s: file \\godwit\\%s%s is the host's own (key, certificate, configuration or seed)",
                      c->name, name, what);
    enum hv_err e = source ? source->named(name, out, why) : HV_E_NOENT;
    if (e != HV_E_NOENT)
        return e;
    if (source)
        return REFUSE(HV_E_NOENT, "%s: file \\godwit\\%s%s is not on this host's boot disk, and not in its store",
                      c->name, name, what);
    return REFUSE(HV_E_NOENT, "%s: file \\godwit\\%s%s is not on this host's boot disk", c->name, name, what);
}

void boot_set_leave(struct boot_set *set)
{
    for (unsigned i = 0; i < set->n; i++)
        boot_blob_put(set->file[i]);
    *set = (struct boot_set){ .own = set->own };
}

enum hv_err boot_set_find(const struct vm_config *c, struct boot_set *out, struct why *why)
{
    char file[CONFIG_PATH_LEN];
    const char *string;
    boot_set_leave(out);
    enum hv_err e = file_get(c, c->kernel, "", &out->file[out->n++], why);
    if (!e && c->initrd[0])
        e = file_get(c, c->initrd, "", &out->file[out->n++], why);
    for (const char *m = NULL; !e && (m = config_module_next(c, m, file, &string));) {
        ASSERT(out->n < ARRAY_SIZE(out->file));
        e = file_get(c, file, "", &out->file[out->n++], why);
    }
    for (unsigned i = 0; !e && i < out->n; i++)
        out->n_pages += DIV_ROUND_UP(out->file[i]->len, PAGE_SIZE);
    if (e)
        boot_set_leave(out);
    return e;
}

static void file_say(const struct vm_config *c, const char *name)
{
    if (*name && boot_disk_has(name) && source->has(name))
        log_info("boot", "%s: %s is on the boot disk and in the store; the one of the boot disk is used", c->name,
                 name);
}

void boot_files_say(const struct vm_config *c)
{
    char file[CONFIG_PATH_LEN];
    const char *string;
    if (!source)
        return;
    file_say(c, c->kernel);
    file_say(c, c->initrd);
    for (const char *m = NULL; (m = config_module_next(c, m, file, &string));)
        file_say(c, file);
}

enum hv_err boot_disk_find(const struct vm_config *c, unsigned i, struct boot_blob **out, struct why *why)
{
    const struct disk_config *d = &c->disk[i];
    bool has_file = d->kind == DISK_IN_RAM && d->file[0];
    *out = NULL;
    enum hv_err e = has_file ? file_get(c, d->file, ", its disk,", out, why) : HV_OK;
    if (*out)
        boot_blob_put(*out); /* it stays for longer than the caller needs it */
    return e;
}

void boot_set_image(const struct boot_set *set, const struct vm_config *c, struct boot_image *out)
{
    char file[CONFIG_PATH_LEN];
    const char *string;
    ASSERT(set->n == config_boot_files(c));
    *out = (struct boot_image){ .kernel = set->file[0]->data, .kernel_len = set->file[0]->len, .cmdline = c->cmdline };
    unsigned at = 1;
    if (c->initrd[0]) {
        out->module[out->n_modules++] = (struct boot_module){ set->file[at]->data, set->file[at]->len, "" };
        at++;
    }
    for (const char *m = NULL; (m = config_module_next(c, m, file, &string)); at++)
        out->module[out->n_modules++] = (struct boot_module){ set->file[at]->data, set->file[at]->len, string };
}

/* ---- by content ---- */

bool boot_blob_hash_step(struct boot_blob *b)
{
    if (b->hashed)
        return true;
    if (!b->n_hashed)
        sha256_init(&b->hashing);
    size_t n = MIN(HASH_STEP, b->len - b->n_hashed);
    sha256_update(&b->hashing, b->data + b->n_hashed, n);
    b->n_hashed += n;
    b->hashed = b->n_hashed == b->len;
    if (b->hashed)
        sha256_out(&b->hashing, b->sha256);
    return b->hashed;
}

bool boot_set_hash_step(const struct boot_set *set)
{
    for (unsigned i = 0; i < set->n; i++)
        if (!set->file[i]->hashed)
            return boot_blob_hash_step(set->file[i]) && i + 1 == set->n;
    return true;
}

enum hv_err boot_blob_get(uint64_t len, const uint8_t sha256[SHA256_LEN], struct boot_blob **out, struct why *why)
{
    for (unsigned k = 0; k < BOOT_MAX_FILES && disk_names[k]; k++)
        if (disk_files[k].len == len && !disk_files[k].hashed) {
            why_say(why, "files of the boot disk are being hashed");
            (void)boot_blob_hash_step(&disk_files[k]); /* one piece a turn */
            return HV_E_AGAIN;
        }
    *out = boot_blob_find(len, sha256);
    if (*out) {
        boot_blob_use(*out);
        return HV_OK;
    }
    return source ? source->with(len, sha256, out, why) : HV_E_NOENT;
}

bool boot_offer_hash_step(const struct vm_offer *o)
{
    struct boot_blob *b;
    char text[200];
    for (unsigned i = 0; i < o->n_files; i++) {
        enum hv_err e = boot_blob_get(o->file[i].len, o->file[i].sha256, &b, WHY(text));
        if (e == HV_E_AGAIN)
            return false;
        if (!e) /* after another error, which is logged, the file comes with the guest */
            boot_blob_put(b);
    }
    return true;
}

struct boot_blob *boot_blob_find(uint64_t len, const uint8_t sha256[SHA256_LEN])
{
    for (unsigned k = 0; k < BOOT_MAX_FILES && disk_names[k]; k++) {
        struct boot_blob *b = &disk_files[k];
        if (b->hashed && b->len == len && !memcmp(b->sha256, sha256, SHA256_LEN))
            return b;
    }
    return source ? source->loaded(len, sha256) : NULL;
}
