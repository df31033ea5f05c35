/* SPDX-License-Identifier: BSD-2-Clause
 * tools/conf-check.c - what a host will make of its boot disk: godwit.conf, and the files that it names.
 *
 *   conf-check CONF FINGERPRINT [NAME]...   FINGERPRINT: of the host's certificate, 64 hex digits;
 *                                           NAME: each file that will be in \godwit\, without folder
 *
 * Parser, search for files and texts are the host's own (kernel/config/, kernel/vm/boot_files.c), so they cannot
 * disagree with it.  Each line of the output is a word and a text, for tools/mkhost:
 *   key NAME, cert NAME   the files of [host]
 *   peer NAME HEX         a peer and its fingerprint
 *   info, warn, error     what the host will say, or cannot do; error: a mistake in CONF
 * Exit codes: 0, no mistake; 1, mistakes; 2, usage, or CONF cannot be read.
 * tool-sources: kernel/config/config.c kernel/config/config_keys.c kernel/vm/boot_files.c kernel/host/boot_info.c
 *   kernel/lib/err.c net/sha256.c
 * tool-deps: bearssl */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/config/config.h"
#include "kernel/host/boot_info.h"
#include "kernel/lib/log.h"
#include "kernel/lib/why.h"
#include "kernel/vm/boot_files.h"

static struct boot_info boot;
static struct vm_config vms[CONFIG_MAX_VMS];
static struct config config = { .vms = vms, .max_vms = CONFIG_MAX_VMS };

/* ---- what the host's code asks of the host ---- */

void log_line(enum log_level level, const char *subject, const char *fmt, ...)
{
    static const char *const words[] = { "debug", "info", "warn", "error" };
    va_list ap;
    (void)subject;
    printf("%s ", words[level]);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

void panic(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}

void assert_fail(const char *file, int line, const char *expr) { panic("%s:%d: %s", file, line, expr); }

void assert_eq_fail(const char *file, int line, const char *expr, uint64_t a, uint64_t b)
{
    panic("%s:%d: %s: %lu, %lu", file, line, expr, a, b);
}

/* ---- the checks ---- */

static void on_mistake(void *ctx, unsigned line, const char *section, const char *key, const char *expected)
{
    char text[CONFIG_MISTAKE_LEN];
    (void)ctx;
    config_mistake_text(text, line, section, key, expected);
    printf("error %s\n", text);
}

/* Does the host find this file for the guest v?  It looks for all files of a guest and names the first that is missing;
 * here each is looked for alone, so that all of them are named. */
static void file_check(const struct vm_config *v, const char *name)
{
    static struct vm_config one;
    struct boot_set set;
    char why[200];
    one = (struct vm_config){ 0 };
    memcpy(one.name, v->name, sizeof(one.name));
    snprintf(one.kernel, sizeof(one.kernel), "%s", name);
    if (boot_set_find(&one, &set, WHY(why)))
        printf("warn %s\n", why);
}

static void vm_check(const struct vm_config *v)
{
    char file[CONFIG_PATH_LEN], why[200];
    const char *string;
    struct boot_blob *disk;
    file_check(v, v->kernel);
    if (v->initrd[0])
        file_check(v, v->initrd);
    for (const char *m = NULL; (m = config_module_next(v, m, file, &string));)
        file_check(v, file);
    for (unsigned i = 0; i < v->n_disks; i++)
        if (boot_disk_find(v, i, &disk, WHY(why)))
            printf("warn %s\n", why);
    if (!strcmp(v->cpu, "pool") && !boot_file_find(&boot, config.host.pool_cpuid))
        printf("warn %s: cpu = pool: file \\godwit\\%s is not on this host's boot disk\n", v->name,
               config.host.pool_cpuid);
}

static void facts_print(void)
{
    printf("key %s\ncert %s\n", config.host.key, config.host.cert);
    for (unsigned i = 0; i < config.n_peers; i++) {
        printf("peer %s ", config.peers[i].name);
        for (unsigned k = 0; k < sizeof(config.peers[i].fingerprint); k++)
            printf("%02x", config.peers[i].fingerprint[k]);
        printf("\n");
    }
}

static bool fingerprint_parse(const char *hex, uint8_t out[32])
{
    for (unsigned i = 0; i < 32; i++, hex += 2)
        if (sscanf(hex, "%2hhx", &out[i]) != 1)
            return false;
    return !*hex;
}

static char *file_read(const char *path, size_t *len)
{
    FILE *f = fopen(path, "r");
    char *text = f && !fseek(f, 0, SEEK_END) && ftell(f) >= 0 ? malloc((size_t)ftell(f) + 1) : NULL;
    *len = text ? (size_t)ftell(f) : 0;
    if (text)
        rewind(f);
    bool good = text && fread(text, 1, *len, f) == *len;
    if (f)
        fclose(f);
    if (!good)
        free(text);
    return good ? text : NULL;
}

int main(int argc, char **argv)
{
    uint8_t own[32];
    size_t len;
    char *text = argc > 2 && fingerprint_parse(argv[2], own) ? file_read(argv[1], &len) : NULL;
    if (!text) {
        fprintf(stderr, "usage: conf-check CONF FINGERPRINT [NAME]...; CONF must be readable\n");
        return 2;
    }
    for (int i = 3; i < argc && boot.n_files < BOOT_MAX_FILES; i++)
        snprintf(boot.files[boot.n_files++].name, BOOT_NAME_LEN, "%s", argv[i]);
    config_parse(text, len, &config, on_mistake, NULL);
    free(text);
    facts_print(); /* before the host drops itself from its peers */
    config_self_drop(&config, own);
    boot_files_init(&boot);
    for (unsigned i = 0; i < config.n_vms; i++)
        vm_check(&config.vms[i]);
    return config.n_errors > 0;
}
