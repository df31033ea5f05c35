/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/boot_files.c - files that guests start from, by name on this host's boot disk.
 *
 * The host's own files - keys, certificates, configuration, seed - never enter the table: no guest, client or peer can
 * name them.  Not here: what a loader makes of a file (linux_boot.c, elf_boot.c). */
#include "kernel/vm/boot_files.h"

#include <string.h>
#include "kernel/lib/log.h"
#include "net/sha256.h"

#define HASH_STEP (128 * KIB) /* in one turn of the service loop */

static struct boot_blob disk_files[BOOT_MAX_FILES]; /* [s] */
static struct {
    struct sha256 state;
    uint64_t done;                             /* bytes */
} hashing[BOOT_MAX_FILES];                     /* [s] of each of disk_files */
static const char *disk_names[BOOT_MAX_FILES]; /* [c] borrowed from boot_info; NULL: slot free */

void boot_files_init(const struct boot_info *bi)
{
    unsigned n = 0;
    memset(disk_names, 0, sizeof(disk_names));
    memset(hashing, 0, sizeof(hashing));
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

static enum hv_err disk_file_get(const struct vm_config *c, const char *name, const char *what, struct boot_blob **out,
                                 struct why *why)
{
    *out = disk_file_find(name);
    if (*out)
        return HV_OK;
    if (config_file_is_hosts(name))
        return REFUSE(HV_E_NOENT, "%s: file \\godwit\\%s%s is the host's own (key, certificate, configuration or seed)",
                      c->name, name, what);
    return REFUSE(HV_E_NOENT, "%s: file \\godwit\\%s%s is not on this host's boot disk", c->name, name, what);
}

enum hv_err boot_set_find(const struct vm_config *c, struct boot_set *out, struct why *why)
{
    char file[CONFIG_PATH_LEN];
    const char *string;
    out->n = 0;
    enum hv_err e = disk_file_get(c, c->kernel, "", &out->file[out->n++], why);
    if (!e && c->initrd[0])
        e = disk_file_get(c, c->initrd, "", &out->file[out->n++], why);
    for (const char *m = NULL; !e && (m = config_module_next(c, m, file, &string));) {
        ASSERT(out->n < ARRAY_SIZE(out->file));
        e = disk_file_get(c, file, "", &out->file[out->n++], why);
    }
    if (e)
        out->n = 0;
    return e;
}

enum hv_err boot_disk_find(const struct vm_config *c, struct boot_blob **out, struct why *why)
{
    *out = NULL;
    return c->disk_file[0] ? disk_file_get(c, c->disk_file, ", its disk,", out, why) : HV_OK;
}

unsigned boot_set_size(const struct vm_config *c)
{
    char file[CONFIG_PATH_LEN];
    const char *string;
    unsigned n = c->initrd[0] ? 2 : 1;
    for (const char *m = NULL; (m = config_module_next(c, m, file, &string));)
        n++;
    return n;
}

void boot_set_image(const struct boot_set *set, const struct vm_config *c, struct boot_image *out)
{
    char file[CONFIG_PATH_LEN];
    const char *string;
    ASSERT(set->n == boot_set_size(c));
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

static bool blob_hash_step(struct boot_blob *b)
{
    size_t i = (size_t)(b - disk_files);
    ASSERT(i < BOOT_MAX_FILES);
    if (b->hashed)
        return true;
    if (!hashing[i].done)
        sha256_init(&hashing[i].state);
    size_t n = MIN(HASH_STEP, b->len - hashing[i].done);
    sha256_update(&hashing[i].state, b->data + hashing[i].done, n);
    hashing[i].done += n;
    b->hashed = hashing[i].done == b->len;
    if (b->hashed)
        sha256_out(&hashing[i].state, b->sha256);
    return b->hashed;
}

bool boot_set_hash_step(const struct boot_set *set)
{
    for (unsigned i = 0; i < set->n; i++)
        if (!set->file[i]->hashed)
            return blob_hash_step(set->file[i]) && i + 1 == set->n;
    return true;
}

bool boot_offer_hash_step(const struct vm_offer *o)
{
    for (unsigned k = 0; k < BOOT_MAX_FILES && disk_names[k]; k++)
        for (unsigned i = 0; i < o->n_files && !disk_files[k].hashed; i++)
            if (disk_files[k].len == o->file[i].len) {
                (void)blob_hash_step(&disk_files[k]);
                return false;
            }
    return true;
}

static struct boot_blob *blob_find(uint64_t len, const uint8_t sha256[SHA256_LEN])
{
    for (unsigned k = 0; k < BOOT_MAX_FILES && disk_names[k]; k++) {
        struct boot_blob *b = &disk_files[k];
        if (b->hashed && b->len == len && !memcmp(b->sha256, sha256, SHA256_LEN))
            return b;
    }
    return NULL;
}

bool boot_offer_find(const struct vm_offer *o, struct boot_set *out)
{
    out->n = 0;
    if (!o->n_files || o->n_files != boot_set_size(&o->config))
        return false;
    for (unsigned i = 0; i < o->n_files; i++) {
        out->file[i] = blob_find(o->file[i].len, o->file[i].sha256);
        if (!out->file[i])
            return false;
    }
    out->n = o->n_files;
    return true;
}
