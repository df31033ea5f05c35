/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/config/config_write.c - a guest's configuration as the text of a [vm] section, which config_vm_parse() reads
 * back.  For guests that nobody has defined here: they came by a move. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "kernel/config/config.h"

struct text {
    char *p;
    size_t len, cap;
};

static void line(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->len < t->cap ? t->p + t->len : NULL, t->len < t->cap ? t->cap - t->len : 0, fmt, ap);
    va_end(ap);
    t->len += (size_t)n;
}

static const char *yes(bool b) { return b ? "yes" : "no"; }

static void hex(char out[65], const uint8_t *b, unsigned n, const char *between)
{
    size_t at = 0;
    for (unsigned i = 0; i < n; i++)
        at += (size_t)snprintf(out + at, 65 - at, "%s%02x", i ? between : "", b[i]);
}

static void nbd_write(struct text *t, const struct nbd_config *n)
{
    line(t, "nbd:%u.%u.%u.%u:%u/%s", n->ip[0], n->ip[1], n->ip[2], n->ip[3], n->port, n->name);
}

/* A ram: disk that came by a move is blank when the guest starts again. */
static void disk_place_write(struct text *t, const struct disk_config *d)
{
    switch (d->kind) {
    case DISK_IN_RAM: line(t, "ram:%luM", d->bytes / MIB); break;
    case DISK_ON_LV:  line(t, "lv:%s/%s", d->lv.vg, d->lv.lv); break;
    case DISK_ON_NBD: nbd_write(t, &d->nbd); break;
    }
}

int config_disk_place(const struct disk_config *d, char *out, size_t cap)
{
    struct text t = { out, 0, cap };
    disk_place_write(&t, d);
    return (int)t.len;
}

static void disk_write(struct text *t, const struct disk_config *d)
{
    char fingerprint[65];
    line(t, "disk = ");
    disk_place_write(t, d);
    line(t, "%s%s%s\n", d->read_only ? " read-only" : "", d->serial[0] ? " serial=" : "", d->serial);
    if (d->kind != DISK_ON_NBD || !d->nbd.tls)
        return;
    hex(fingerprint, d->nbd.fingerprint, sizeof(d->nbd.fingerprint), "");
    line(t, "disk-fingerprint = %s\n", fingerprint);
}

static void nic_write(struct text *t, const struct nic_config *n, bool there)
{
    char mac[65];
    hex(mac, n->mac, sizeof(n->mac), ":");
    line(t, "nic = %s\nmac = %s\n", yes(there), mac);
    if (there)
        line(t, "spoof = %s\n", n->spoof ? "allow" : "deny");
}

/* File names mean nothing on another host, and there may be such as no [vm] section can name. */
static void files_write(struct text *t, const struct vm_config *c)
{
    char file[CONFIG_PATH_LEN];
    const char *string;
    unsigned i = 0;
    line(t, "kernel = kernel\n");
    if (c->initrd[0])
        line(t, "initrd = initrd\n");
    for (const char *m = NULL; (m = config_module_next(c, m, file, &string));)
        line(t, "module = module-%u%s%s\n", ++i, *string ? " " : "", string);
}

size_t config_disk_write(const struct disk_config *d, char *out, size_t cap)
{
    struct text t = { out, 0, cap };
    disk_write(&t, d);
    return t.len < cap ? t.len : 0;
}

const char *config_autostart_word(enum autostart a)
{
    static const char *const words[] = {
        [AUTOSTART_NO] = "no", [AUTOSTART_YES] = "yes", [AUTOSTART_ALWAYS] = "always", [AUTOSTART_LAST] = "last"
    };
    return words[a];
}

size_t config_vm_write(const struct vm_config *c, char *out, size_t cap)
{
    static const char *const on_shutdown[] = {
        [ON_SHUTDOWN_REFUSE] = "refuse", [ON_SHUTDOWN_STOP] = "stop", [ON_SHUTDOWN_EVACUATE] = "evacuate"
    };
    struct text t = { out, 0, cap };
    line(&t, "[vm %s]\nmemory = %luM\ncpus = %u\n", c->name, c->memory_bytes / MIB, c->n_cpus);
    files_write(&t, c);
    if (c->cmdline[0])
        line(&t, "cmdline = %s\n", c->cmdline);
    line(&t, "cpu = %s\nautostart = %s\non-shutdown = %s\n", c->cpu, config_autostart_word(c->autostart),
         on_shutdown[c->on_shutdown]);
    if (c->start_order != CONFIG_START_ORDER_DEFAULT)
        line(&t, "start-order = %u\n", c->start_order);
    if (c->start_delay_s)
        line(&t, "start-delay-s = %u\n", c->start_delay_s);
    if (c->pin >= 0)
        line(&t, "pin = %d\n", c->pin);
    line(&t, "rng = %s\nballoon = %s\n", yes(c->rng), yes(c->balloon));
    if (c->hvc)
        line(&t, "console = virtio\n");
    for (unsigned i = 0; i < MAX(c->n_nics, 1u); i++)
        nic_write(&t, &c->nic[i], i < c->n_nics);
    for (unsigned i = 0; i < c->n_disks; i++)
        disk_write(&t, &c->disk[i]);
    return t.len < cap ? t.len : 0;
}
