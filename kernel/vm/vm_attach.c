/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_attach.c - see vm_attach.h.
 *
 * The text of the definition is edited (config_edit.h) and defined anew, so that all checks of a definition are made,
 * and its comments stay.  For a guest that came by a move the text is made of what it is; its entry arrived/NAME
 * in the registry ends with that text, and its boot files are as they were. */
#include "kernel/vm/vm_attach.h"

#include <stdio.h>
#include <string.h>
#include "kernel/config/config_edit.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/registry.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_mac.h"
#include "kernel/vm/vm_manage.h"

#define ARRIVED_MAX (DEFINITION_MAX + 8192u) /* what stands before the section in arrived/NAME has its own bound */

struct edit {
    struct vm *vm;
    const char *name;
    bool moved; /* it has no definition here */
    const char *text;
    size_t len;                 /* of text, as it is */
    struct vm_config *was, *is; /* what the old and the new text say */
    struct edit_text {          /* owned */
        char move[CONFIG_VM_TEXT_MAX], part[DEFINITION_MAX], out[DEFINITION_MAX], entry[ARRIVED_MAX];
    } *mem;
    size_t out_len;
};

/* Keep the first of the mistakes: all are of one line that is new. */
static void mistake_keep(void *ctx, unsigned line, const char *text)
{
    struct why *why = ctx;
    (void)line;
    if (!why->text[0])
        why_say(why, "%s", text);
}

static void edit_end(struct edit *d)
{
    mem_free(d->was, sizeof(*d->was));
    mem_free(d->is, sizeof(*d->is));
    mem_free(d->mem, sizeof(*d->mem));
}

/* edit_end() follows in any case. */
static enum hv_err edit_begin(struct edit *d, struct vm *vm, struct why *why)
{
    enum vm_source from = vm_source(vm);
    *d = (struct edit){ .vm = vm, .name = vm->config.name, .moved = from == VM_OF_MOVE };
    if (from == VM_OF_CONF)
        return REFUSE(HV_E_UNSUPP, "%s is defined in godwit.conf: change its [vm] section on the boot disk", d->name);
    if (d->moved && vm_state(vm) != VM_STOPPED)
        return REFUSE(HV_E_BUSY,
                      "%s is %s, and came by a move: no definition here keeps a change until its next start; stop it "
                      "first, or give it a definition by `vm define`",
                      d->name, vm_state_name(vm_state(vm)));
    d->mem = mem_alloc(sizeof(*d->mem));
    if (!d->mem)
        return REFUSE(HV_E_NOMEM, "no memory for a definition");
    d->text = d->mem->move;
    if (d->moved)
        d->len = config_vm_write(&vm->config, d->mem->move, sizeof(d->mem->move));
    else
        d->text = vm_definition(vm, from, &d->len);
    if (!d->text)
        return REFUSE(HV_E_NOENT, "the definition of %s is not in the registry any more", d->name);
    why_say(why, "%s", "");
    return vm_definition_read(d->name, d->text, d->len, mistake_keep, why, &d->was);
}

/* The new text is in mem->out; 0: it did not fit. */
static enum hv_err edit_read(struct edit *d, size_t len, struct why *why)
{
    d->out_len = len;
    if (!len)
        return REFUSE(HV_E_NOMEM, "the definition of %s would have more than %u bytes", d->name, DEFINITION_MAX);
    return vm_definition_read(d->name, d->mem->out, len, mistake_keep, why, &d->is);
}

/* The entry of a guest that came, if it has one, with the new section. */
static enum hv_err arrival_rewrite(struct edit *d, struct why *why)
{
    char name[sizeof("arrived/") + CONFIG_NAME_LEN];
    snprintf(name, sizeof(name), "arrived/%s", d->name);
    const char *entry = registry_get(name, NULL), *section = entry ? strstr(entry, "[vm ") : NULL;
    if (!section)
        return HV_OK;
    size_t head = (size_t)(section - entry);
    if (head > sizeof(d->mem->entry) - d->out_len)
        return REFUSE(HV_E_NOMEM, "the definition of %s would have more than %u bytes", d->name, DEFINITION_MAX);
    memcpy(d->mem->entry, entry, head);
    memcpy(d->mem->entry + head, d->mem->out, d->out_len);
    return registry_put(name, d->mem->entry, head + d->out_len, why);
}

static enum hv_err edit_commit(struct edit *d, struct why *why)
{
    char mistake[CONFIG_MISTAKE_LEN];
    struct why *first = WHY(mistake);
    enum hv_err e = HV_OK;
    if (!d->moved) {
        e = vm_define(d->name, d->mem->out, d->out_len, mistake_keep, first, why);
        if (mistake[0])
            why_say(why, "%s", mistake);
        return e;
    }
    if (!vm_definition_macs_ok(d->is, mistake_keep, first))
        return REFUSE(HV_E_INVAL, "%s", mistake);
    e = arrival_rewrite(d, why);
    if (!e)
        d->vm->config = *d->is;
    return e;
}

/* ---- disks ---- */

static bool disk_same(const struct disk_config *a, const struct disk_config *b)
{
    if (a->kind != b->kind || a->kind == DISK_IN_RAM)
        return false;
    if (a->kind == DISK_ON_LV)
        return !strcmp(a->lv.vg, b->lv.vg) && !strcmp(a->lv.lv, b->lv.lv);
    return !memcmp(a->nbd.ip, b->nbd.ip, sizeof(a->nbd.ip)) && a->nbd.port == b->nbd.port &&
           !strcmp(a->nbd.name, b->nbd.name);
}

/* The number of the first of the n first disks of c that is d; n: none is. */
static unsigned disk_of(const struct vm_config *c, unsigned n, const struct disk_config *d)
{
    unsigned i = 0;
    while (i < n && !disk_same(&c->disk[i], d))
        i++;
    return i;
}

/* A guest other than vm that has d now, or will at its next start; NULL: none. */
static const struct vm *disk_owner(const struct vm *vm, const struct disk_config *d)
{
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *v = vm_at(i);
        if (!v || v == vm)
            continue;
        if (disk_of(&v->config, v->config.n_disks, d) < v->config.n_disks ||
            (v->defined && disk_of(v->defined, v->defined->n_disks, d) < v->defined->n_disks))
            return v;
    }
    return NULL;
}

/* May the last disk of the new definition be there? */
static enum hv_err disk_check(const struct edit *d, struct why *why)
{
    unsigned n = d->was->n_disks, i;
    const struct disk_config *disk = &d->is->disk[n];
    const struct vm *owner = disk->read_only ? NULL : disk_owner(d->vm, disk);
    const struct vm_config *now = &d->vm->config;
    if ((i = disk_of(d->was, n, disk)) < n)
        return REFUSE(HV_E_EXIST, "%s has this disk already, as vd%c", d->name, 'a' + i);
    if (owner)
        return REFUSE(HV_E_BUSY, "this is a disk of %s: detach it there first, or attach it read-only",
                      owner->config.name);
    if (d->moved && disk->kind == DISK_IN_RAM && disk->file[0])
        return REFUSE(HV_E_UNSUPP, "%s came by a move, without definition: its ram: disk can have a size, not a file",
                      d->name);
    if (disk->kind != DISK_ON_LV || (vm_state(d->vm) != VM_STOPPED && disk_of(now, now->n_disks, disk) < now->n_disks))
        return HV_OK; /* not on this host, or open since it was detached from the guest as it runs */
    return lv_disk_check(disk->lv.vg, disk->lv.lv, why);
}

static bool line_alone(const char *s)
{
    while (*s && (unsigned char)*s >= ' ')
        s++;
    return !*s;
}

static enum hv_err disk_attach(struct edit *d, const char *lines, struct why *why)
{
    if (d->was->n_disks == CONFIG_MAX_DISKS)
        return REFUSE(HV_E_NOMEM, "%s has %u disks, which is the limit: detach one first", d->name, CONFIG_MAX_DISKS);
    size_t len = config_edit_add(d->text, d->len, lines, d->mem->out, sizeof(d->mem->out));
    enum hv_err e = edit_read(d, len, why);
    if (!e)
        e = disk_check(d, why);
    return e ? e : edit_commit(d, why);
}

enum hv_err vm_attach_disk(struct vm *vm, const char *disk, const char *fingerprint, unsigned *i, struct why *why)
{
    char lines[512];
    struct edit d;
    int n = snprintf(lines, sizeof(lines), *fingerprint ? "disk = %s\ndisk-fingerprint = %s\n" : "disk = %s\n", disk,
                     fingerprint);
    if (!line_alone(disk) || !line_alone(fingerprint) || n >= (int)sizeof(lines))
        return REFUSE(HV_E_INVAL, "a disk is one line, as behind `disk =` in godwit.conf");
    enum hv_err e = edit_begin(&d, vm, why);
    if (!e)
        e = disk_attach(&d, lines, why);
    if (!e)
        *i = d.was->n_disks;
    edit_end(&d);
    return e;
}

enum hv_err vm_detach_disk(struct vm *vm, unsigned i, unsigned *left, struct why *why)
{
    struct edit d;
    enum hv_err e = edit_begin(&d, vm, why);
    if (!e && i >= d.was->n_disks)
        e = REFUSE(HV_E_NOENT, "%s has no disk vd%c: it has %u", d.name, 'a' + i, d.was->n_disks);
    if (!e)
        e = edit_read(&d, config_edit_cut_disk(d.text, d.len, i, d.mem->out, sizeof(d.mem->out)), why);
    if (!e)
        e = edit_commit(&d, why);
    if (!e)
        *left = d.was->n_disks - 1;
    edit_end(&d);
    return e;
}

/* ---- cards ---- */

/* The number of the card; n_nics: there is none. */
static unsigned nic_of(const struct vm_config *c, const uint8_t mac[6])
{
    unsigned i = 0;
    while (i < c->n_nics && memcmp(c->nic[i].mac, mac, sizeof(c->nic[i].mac)) != 0)
        i++;
    return i;
}

/* The address of a new card: that of a first one may have been given; else the first default that no card has. */
static void mac_choose(const struct vm_config *c, uint8_t mac[6])
{
    memcpy(mac, c->nic[0].mac, 6);
    for (unsigned i = 0; c->n_nics && nic_of(c, mac) < c->n_nics; i++)
        config_mac_default(c->name, i, mac);
}

static enum hv_err nic_attach(struct edit *d, uint8_t mac[6], bool spoof, struct why *why)
{
    static const uint8_t none[6];
    char lines[80];
    struct edit_text *m = d->mem;
    if (d->was->n_nics == CONFIG_MAX_NICS)
        return REFUSE(HV_E_NOMEM, "%s has %u network cards, which is the limit: detach one first", d->name,
                      CONFIG_MAX_NICS);
    if (!memcmp(mac, none, sizeof(none)))
        mac_choose(d->was, mac);
    snprintf(lines, sizeof(lines), "nic = yes\nmac = %02x:%02x:%02x:%02x:%02x:%02x\n%s", mac[0], mac[1], mac[2], mac[3],
             mac[4], mac[5], spoof ? "spoof = allow\n" : "");
    size_t len = d->len;
    if (!d->was->n_nics) { /* what was said of a first card would be said twice */
        len = config_edit_cut_nic(d->text, d->len, d->was, 0, m->part, sizeof(m->part));
        d->text = m->part;
    }
    enum hv_err e = edit_read(d, len ? config_edit_add(d->text, len, lines, m->out, sizeof(m->out)) : 0, why);
    if (!e)
        e = vm_mac_check(d->is, why);
    return e ? e : edit_commit(d, why);
}

enum hv_err vm_attach_nic(struct vm *vm, uint8_t mac[6], bool spoof, struct why *why)
{
    struct edit d;
    enum hv_err e = edit_begin(&d, vm, why);
    if (!e)
        e = nic_attach(&d, mac, spoof, why);
    edit_end(&d);
    return e;
}

enum hv_err vm_detach_nic(struct vm *vm, const uint8_t mac[6], struct why *why)
{
    struct edit d;
    enum hv_err e = edit_begin(&d, vm, why);
    unsigned i = e ? 0 : nic_of(d.was, mac);
    if (!e && i == d.was->n_nics)
        e = REFUSE(HV_E_NOENT, "%s has no network card with that address: it has %u; `vm show` has their addresses",
                   d.name, i);
    if (!e)
        e = edit_read(&d, config_edit_cut_nic(d.text, d.len, d.was, i, d.mem->out, sizeof(d.mem->out)), why);
    if (!e)
        e = edit_commit(&d, why);
    edit_end(&d);
    return e;
}
