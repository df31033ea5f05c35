/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fuzz/fuzz_config.c - any bytes as godwit.conf: no crash, and an accepted configuration satisfies the ranges of
 * config.h. */
/* fuzz-sources: kernel/config/config.c kernel/config/config_keys.c tests/fakes/log_quiet.c */
#include <stdlib.h>
#include <string.h>
#include "kernel/config/config.h"

static unsigned n_heard;
static void hear(void *ctx, unsigned line, const char *section, const char *key, const char *expected)
{
    (void)ctx;
    (void)line;
    n_heard++;
    if (strlen(section) + strlen(key) > 4000 || !expected[0])
        abort();
}

#define CHECK(x)     \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)
static bool terminated(const char *s, size_t cap) { return memchr(s, 0, cap) != NULL; }

/* At most so many, each with a file, all inside the array. */
static bool modules_ok(const struct vm_config *v)
{
    char file[CONFIG_PATH_LEN];
    const char *string;
    unsigned n = 0;
    for (const char *m = NULL; (m = config_module_next(v, m, file, &string)); n++)
        if (!file[0] || strpbrk(file, "/\\ ") || string + strlen(string) >= v->modules + sizeof(v->modules) - 1)
            return false;
    return n <= CONFIG_MAX_MODULES;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct vm_config vms[CONFIG_MAX_VMS];
    static struct config c = { .vms = vms, .max_vms = CONFIG_MAX_VMS };
    n_heard = 0;
    config_parse((const char *)data, len, &c, hear, NULL);
    CHECK(c.n_errors == n_heard);
    CHECK(c.n_vms <= CONFIG_MAX_VMS && c.n_peers <= CONFIG_MAX_PEERS);
    CHECK(c.host.port && c.host.max_jobs && c.host.downtime_limit_ms && terminated(c.host.name, sizeof(c.host.name)));
    CHECK(c.host.dhcp || (c.host.prefix_len >= 1 && c.host.prefix_len <= 30));
    for (unsigned i = 0; i < c.n_vms; i++) {
        const struct vm_config *v = &c.vms[i];
        CHECK(v->memory_bytes >= 16 * MIB && v->memory_bytes % BLOCK_SIZE == 0 && v->n_cpus >= 1 && v->n_cpus <= 8);
        CHECK(v->name[0] && terminated(v->name, sizeof(v->name)) && v->kernel[0] &&
              terminated(v->kernel, sizeof(v->kernel)));
        CHECK(terminated(v->initrd, sizeof(v->initrd)) && terminated(v->cmdline, sizeof(v->cmdline)) &&
              terminated(v->cpu, sizeof(v->cpu)));
        CHECK(modules_ok(v));
        CHECK(v->pin >= -1 && v->pin < 64 && v->n_disks <= CONFIG_MAX_DISKS && v->n_nics <= CONFIG_MAX_NICS &&
              !(v->nic[0].mac[0] & 1));
    }
    for (unsigned i = 0; i < c.n_peers; i++)
        CHECK(c.peers[i].port && c.peers[i].ip[0] && config_peer(&c, c.peers[i].name) == &c.peers[i]);
    return 0;
}
