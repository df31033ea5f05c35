/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_define.c - see vm_define.h.
 *
 * The registry's entry vm/NAME has the text as its author wrote it, comments included.  The struct that is made of it
 * is in `made`, by slot of the table of VMs, and is the VM's `defined` unless godwit.conf has a section of that name.
 *
 * autostart = last.  The entry state/NAME is there while such a guest is up.  It is put when the guest starts, and
 * removed when it stops while the host runs on.  So after a power cut, and after a shutdown of the host that has
 * stopped its guests, it says what was; and while a start is still waiting for the peers it stays. */
#include "kernel/vm/vm_define.h"
#include "kernel/lib/fmt.h"

#include <stdio.h>
#include <string.h>
#include "kernel/config/config_edit.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/registry.h"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/vm_manage.h"

static const char *conf; /* [c] borrowed */
static size_t conf_len;
static uint64_t epoch, merges;         /* of the registry whose definitions are here */
static struct vm_config *made[VM_MAX]; /* owned */
static bool up[VM_MAX];                /* as of the last step */

#define ENTRY_LEN (sizeof("arrived/") + CONFIG_NAME_LEN)

static const char *entry_of(char out[ENTRY_LEN], const char *what, const char *name)
{
    snprintf(out, ENTRY_LEN, "%s/%s", what, name);
    return out;
}

void vm_define_init(const char *text, size_t len)
{
    ASSERT(!conf);
    conf = text;
    conf_len = len;
}

/* ---- from text to struct ---- */

struct reader {
    define_mistake_fn *on_mistake;
    void *ctx;
};

/* What godwit.conf's parser says ends with what it does then; here nothing is taken. */
static void reader_mistake(void *ctx, unsigned line, const char *section, const char *key, const char *expected)
{
    const struct reader *r = ctx;
    char text[CONFIG_MISTAKE_LEN];
    const char *left_out = strstr(expected, "; this VM is left out");
    (void)section;
    snprintf(text, sizeof(text), "%s%sexpected: %.*s", key, *key ? ": " : "",
             left_out ? (int)(left_out - expected) : (int)strlen(expected), expected);
    r->on_mistake(r->ctx, line, text);
}

enum hv_err vm_definition_read(const char *name, const char *text, size_t len, define_mistake_fn *on_mistake, void *ctx,
                               struct vm_config **out)
{
    struct reader r = { on_mistake, ctx };
    struct config *c = mem_alloc(sizeof(*c));
    *out = mem_alloc(sizeof(**out));
    enum hv_err e = c && *out ? HV_OK : HV_FAIL(HV_E_NOMEM);
    if (!e) {
        c->vms = *out;
        c->max_vms = 1;
        config_vm_parse(name, text, len, c, reader_mistake, &r);
        e = c->n_errors ? HV_FAIL(HV_E_INVAL) : HV_OK;
    }
    mem_free(c, sizeof(*c));
    if (e) {
        mem_free(*out, sizeof(**out));
        *out = NULL;
    }
    return e;
}

static bool of_conf(const struct vm *vm)
{
    return vm->defined >= host_config->vms && vm->defined < host_config->vms + host_config->n_vms;
}

/* vm is what c says, from its next start on.  c: NULL: the registry does not define it. */
static void made_set(struct vm *vm, struct vm_config *c)
{
    struct vm_config *old = made[vm_slot(vm)];
    made[vm_slot(vm)] = c;
    vm_defined_set(vm, of_conf(vm) ? vm->defined : c);
    mem_free(old, sizeof(*old));
}

/* ---- what the registry has ---- */

static void load_mistake(void *ctx, unsigned line, const char *text)
{
    log_error("vm", "definition of %s in the registry, line %u: %s", (const char *)ctx, line, text);
}

static void definition_load(const char *name, const char *text, size_t len)
{
    struct vm_config *c;
    char guest[CONFIG_NAME_LEN];
    snprintf(guest, sizeof(guest), "%s", name);
    enum hv_err e = vm_definition_read(guest, text, len, load_mistake, guest, &c);
    char why[100];
    struct why *full = WHY(why);
    struct vm *vm = e ? NULL : vm_slot_get(guest, full);
    if (!vm) {
        log_error("vm", "%s is not defined, although the registry has it: %s", guest, e ? hv_err_text(e) : why);
        if (!e)
            mem_free(c, sizeof(*c));
        return;
    }
    if (made[vm_slot(vm)] && !memcmp(made[vm_slot(vm)], c, sizeof(*c))) {
        mem_free(c, sizeof(*c)); /* it is here already */
        return;
    }
    if (of_conf(vm))
        log_info("vm", "%s: godwit.conf and the registry define it; godwit.conf's is used", guest);
    made_set(vm, c);
}

/* A registry was taken, or what another one had was put into it. */
static void definitions_load(void)
{
    unsigned n = 0;
    epoch = registry_epoch();
    merges = registry_merges();
    for (const char *e = ""; (e = registry_next("vm/", e)); n++) {
        size_t len;
        const char *text = registry_get(e, &len);
        definition_load(e + strlen("vm/"), text, len);
    }
    if (n)
        log_info("vm", "the registry defines %u guest%s", n, FMT_S(n));
}

/* ---- who is up ---- */

bool vm_was_up(const struct vm *vm)
{
    char entry[ENTRY_LEN];
    return registry_get(entry_of(entry, "state", vm->config.name), NULL);
}

static void up_note(const struct vm *vm, bool is)
{
    char entry[ENTRY_LEN], why[300];
    up[vm_slot(vm)] = is;
    if (!registry_present() || (vm->config.autostart != AUTOSTART_LAST && !vm_was_up(vm)))
        return;
    entry_of(entry, "state", vm->config.name);
    if (registry_put(entry, is ? "up\n" : NULL, is ? strlen("up\n") : 0, WHY(why)))
        log_warn("vm", "%s: that it is %s is not noted: %s", vm->config.name, is ? "up" : "stopped", why);
}

void vm_define_step(void)
{
    if (epoch != registry_epoch() || merges != registry_merges())
        definitions_load();
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        bool is = vm && vm_state(vm) != VM_STOPPED && vm_state(vm) != VM_INCOMING;
        if (is != up[i] && vm)
            up_note(vm, is);
        up[i] = is;
    }
}

/* ---- define and undefine ---- */

/* Has a card of v the address of card n of c? */
static bool mac_is_taken(const struct vm_config *v, const struct vm_config *c, unsigned n)
{
    for (unsigned i = 0; i < v->n_nics; i++)
        if (!memcmp(v->nic[i].mac, c->nic[n].mac, sizeof(c->nic[n].mac)))
            return true;
    return false;
}

bool vm_definition_macs_ok(const struct vm_config *c, define_mistake_fn *on_mistake, void *ctx)
{
    bool ok = true;
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        char text[160];
        bool taken = false;
        for (unsigned n = 0; vm && n < c->n_nics; n++)
            taken |= strcmp(vm->config.name, c->name) && mac_is_taken(&vm->config, c, n);
        if (!taken)
            continue;
        snprintf(text, sizeof(text), "mac: expected: a MAC address that no other network card has; %s has this one",
                 vm->config.name);
        on_mistake(ctx, 0, text);
        ok = false;
    }
    return ok;
}

/* What keeps c from starting, as things are now.  up: the guest runs, and so has its disks, addresses and memory. */
static void start_warning(const struct vm_config *c, bool is_up, struct why *why)
{
    struct vm *trial = mem_alloc(sizeof(*trial));
    why_say(why, "%s", "");
    if (!trial)
        return;
    trial->config = *c;
    enum hv_err e = is_up ? boot_set_find(c, &trial->boot, why) : vm_start_check(trial, why);
    if (!e || e == HV_E_AGAIN) /* else a file of the store is being read: it is there */
        why_say(why, "%s", "");
    boot_set_drop(&trial->boot);
    mem_free(trial, sizeof(*trial));
}

enum hv_err vm_define(const char *name, const char *text, size_t len, define_mistake_fn *on_mistake, void *ctx,
                      struct why *why)
{
    struct vm_config *c;
    char entry[ENTRY_LEN];
    if (!config_name_ok(name))
        return REFUSE(HV_E_INVAL, "a guest's name is 1 to 31 letters, digits, '-', '_' or '.', not starting with '-'");
    enum hv_err e = vm_definition_read(name, text, len, on_mistake, ctx, &c);
    if (e)
        return REFUSE(e, "%s", e == HV_E_NOMEM ? "no memory for a definition" : "the definition has mistakes");
    bool bad = !vm_definition_macs_ok(c, on_mistake, ctx);
    struct vm *vm = bad ? NULL : vm_slot_get(name, why);
    e = bad ? HV_FAIL(HV_E_INVAL) : vm ? HV_OK : HV_FAIL(HV_E_NOMEM);
    if (!e)
        e = registry_put(entry_of(entry, "vm", name), text, len, why);
    else if (bad)
        why_say(why, "the definition has mistakes");
    if (e) {
        mem_free(c, sizeof(*c));
        if (vm)
            vm_slot_put(vm);
        return e;
    }
    start_warning(c, vm_state(vm) != VM_STOPPED, why);
    made_set(vm, c);
    if (of_conf(vm))
        why_say(why, "godwit.conf defines %s too, and its [vm] section is used until it is removed there", name);
    return HV_OK;
}

enum hv_err vm_undefine(struct vm *vm, struct why *why)
{
    char entry[ENTRY_LEN], name[CONFIG_NAME_LEN];
    size_t len;
    memcpy(name, vm->config.name, sizeof(name));
    if (vm_state(vm) != VM_STOPPED)
        return REFUSE(HV_E_BUSY, "%s is %s; only a stopped guest can be undefined", name, vm_state_name(vm_state(vm)));
    entry_of(entry, "vm", name);
    bool here = registry_get(entry, &len);
    if (!here && of_conf(vm) && !vm->arrived)
        return REFUSE(HV_E_UNSUPP, "%s is defined in godwit.conf: remove its [vm] section from the boot disk", name);
    enum hv_err e = here ? registry_put(entry, NULL, 0, why) : HV_OK;
    if (e)
        return e;
    if (vm_was_up(vm))
        e = registry_put(entry_of(entry, "state", name), NULL, 0, why);
    made_set(vm, NULL);
    return e;
}

/* ---- another place for a disk ---- */

/* The entry arrived/NAME of a guest that came by a move ends with a [vm] section; no line above it is of a disk. */

enum hv_err vm_define_disk_check(const struct vm *vm, struct why *why)
{
    const char *name = vm->config.name;
    if (vm->arrived)
        return HV_OK;
    if (of_conf(vm))
        return REFUSE(HV_E_UNSUPP,
                      "%s is defined in godwit.conf, which this host does not change: move its [vm] section to the "
                      "registry (`vm define`), and start it again",
                      name);
    if (vm->redefined)
        return REFUSE(HV_E_BUSY, "%s was defined anew while it runs: start it again first", name);
    return HV_OK;
}

enum hv_err vm_define_disk(struct vm *vm, unsigned i, const struct disk_config *d, struct why *why)
{
    char entry[ENTRY_LEN], lines[CONFIG_DISK_TEXT_MAX];
    size_t len = 0;
    enum hv_err e = vm_define_disk_check(vm, why);
    if (e)
        return e;
    const char *text = registry_get(entry_of(entry, vm->arrived ? "arrived" : "vm", vm->config.name), &len);
    if (!text)
        return REFUSE(HV_E_UNSUPP, "this host's registry has no definition of %s: `vm define` it", vm->config.name);
    size_t cap = len + sizeof(lines) + 1;
    char *out = config_disk_write(d, lines, sizeof(lines)) ? mem_alloc(cap) : NULL;
    size_t n = out ? config_edit_swap_disk(text, len, i, lines, out, cap) : 0;
    e = n ? registry_put(entry, out, n, why)
          : REFUSE(HV_E_NOMEM, "the definition of %s cannot be changed: no memory", vm->config.name);
    mem_free(out, cap);
    if (e)
        return e;
    vm->disks_mark = registry_mark();
    vm->config.disk[i] = *d;
    if (!vm->arrived && made[vm_slot(vm)])
        made[vm_slot(vm)]->disk[i] = *d;
    return HV_OK;
}

/* ---- where from ---- */

enum vm_source vm_source(const struct vm *vm)
{
    return of_conf(vm) ? VM_OF_CONF : vm->defined ? VM_OF_REGISTRY : VM_OF_MOVE;
}

const char *vm_definition(const struct vm *vm, enum vm_source from, size_t *len)
{
    char entry[ENTRY_LEN];
    if (from == VM_OF_REGISTRY)
        return registry_get(entry_of(entry, "vm", vm->config.name), len);
    if (from == VM_OF_MOVE) { /* what kernel/peers/move_record.c has written ends with it */
        const char *text = registry_get(entry_of(entry, "arrived", vm->config.name), NULL);
        text = text ? strstr(text, "[vm ") : NULL;
        *len = text ? strlen(text) : 0;
        return text;
    }
    return from == VM_OF_CONF && conf ? config_vm_text(conf, conf_len, vm->config.name, len) : NULL;
}
