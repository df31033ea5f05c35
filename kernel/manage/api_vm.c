/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_vm.c - guests in the management interface: /v1/vms.  What they do is in operate.c. */
#include <stdio.h>
#include <string.h>
#include "kernel/dev/devices.h"
#include "kernel/dev/vdev_balloon.h"
#include "kernel/host/clock.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/operate.h"
#include "kernel/peers/move_record.h"
#include "kernel/peers/start.h"
#include "kernel/store/saved.h"
#include "kernel/vm/guest_console.h"
#include "kernel/vm/guest_net.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_memory.h"
#include "kernel/vm/vm_usage.h"
#include "net/vswitch.h"

/* The guest that the path names.  NULL: there is none, and the answer says so. */
static struct vm *named_vm(struct api_call *c)
{
    struct vm *vm = vm_find(c->arg);
    if (!vm)
        api_fail(c, HV_E_NOENT, 0, "no guest is named \"%s\"; GET /v1/vms lists all guests", c->arg);
    return vm;
}

static const char *button_name(enum pm_button b)
{
    switch (b) {
    case PM_BUTTON_UNUSED:  return "unused";
    case PM_BUTTON_READY:   return "ready";
    case PM_BUTTON_PRESSED: return "pressed";
    case PM_BUTTON_TAKEN:   return "taken";
    }
    return "?";
}

/* Append vm's fields to an object that is open. */
static void put_vm(struct json *j, const struct vm *vm)
{
    const struct vm_config *v = &vm->config;
    const struct job *move = migration_of(v->name);
    const char *doubt = move ? migration_job_doubt(move) : NULL;
    json_str(j, "name", v->name);
    json_str(j, "state", vm_state_name(vm_state(vm)));
    json_bool(j, "moving", move);
    if (doubt)
        json_str(j, "doubt", doubt);
    json_num(j, "memory_bytes", v->memory_bytes);
    json_num(j, "needed_bytes", vm_memory_needed(v, vm->boot.n_pages));
    json_num(j, "cpus", v->n_cpus);
    json_str(j, "cpu", v->cpu);
    json_bool(j, "autostart", v->autostart != AUTOSTART_NO);
    json_str(j, "autostart_mode", config_autostart_word(v->autostart));
    char waits[256];
    if (vm_state(vm) != VM_STOPPED && vm_state(vm) != VM_INCOMING)
        json_num(j, "age_us", clock_us() - vm->here_us);
    if (vm_disk_waiting(vm, waits, sizeof(waits)))
        json_str(j, "waits", waits);
    struct start_status start = start_status(vm);
    json_bool(j, "starting", start.state == START_ASKING);
    if (start.state == START_ASKING || start.state == START_FAILED)
        json_str(j, "start_text", start.text);
    if (start.state == START_FAILED)
        json_str(j, "start_code", hv_err_name(start.err));
    const char *left_to = vm_state(vm) == VM_STOPPED ? move_record_left_to(v->name) : NULL;
    if (left_to)
        json_str(j, "left_to", left_to);
    if (vm->crash_reason[0])
        json_str(j, "crash_reason", vm->crash_reason);
    struct saved saved = saved_find(v->name);
    if (vm->saving)
        json_bool(j, "saving", true);
    if (saved.state == SAVED_WHOLE)
        json_fmt(j, "saved", "%s/%s", saved.group->vg.name, saved.lv->name);
    if (vm->devices)
        json_str(j, "power_button", button_name(pm_button(&vm->devices->pm)));
}

#define VM_ROW_MAX 8192 /* bytes of one guest's object, and of the end of the list */

/* The guests behind `after`, at most `limit`, and no more than fit; if more follow, `next` is what to ask for. */
void api_vm_list(struct api_call *c)
{
    char after[CONFIG_NAME_LEN];
    http_query_text(c->http, "after", after, sizeof(after));
    const struct vm *last = after[0] ? vm_find(after) : NULL;
    if (after[0] && !last) {
        api_fail(c, HV_E_NOENT, 0, "no guest is named \"%s\" any more: begin the list again", after);
        return;
    }
    uint64_t left = MAX(http_query_num(c->http, "limit", VM_MAX), 1u);
    unsigned i = last ? vm_slot(last) + 1 : 0;
    json_object(&c->out, NULL);
    json_array(&c->out, "vms");
    for (; i < vm_slots() && left && c->out.text.cap - c->out.text.len > VM_ROW_MAX; i++) {
        if (!vm_at(i))
            continue;
        last = vm_at(i);
        left--;
        json_object(&c->out, NULL);
        put_vm(&c->out, last);
        json_end(&c->out);
    }
    json_end(&c->out);
    while (i < vm_slots() && !vm_at(i))
        i++;
    if (last && i < vm_slots())
        json_str(&c->out, "next", last->config.name);
    json_end(&c->out);
}

static void put_modules(struct json *j, const struct vm_config *v)
{
    char file[CONFIG_PATH_LEN];
    const char *string;
    json_array(j, "modules");
    for (const char *m = NULL; (m = config_module_next(v, m, file, &string));)
        json_str(j, NULL, m);
    json_end(j);
}

static void put_usage(struct json *j, const struct vm *vm)
{
    struct vm_usage u = vm_usage(vm);
    if (!u.known)
        return;
    json_num(j, "uptime_us", u.uptime_us);
    if (u.cpu_known)
        json_num(j, "cpu_percent", u.cpu_percent);
}

static void put_addresses(struct json *j, const struct vswitch_port *p)
{
    char text[PORT_ADDRESS_TEXT];
    json_array(j, "addresses");
    for (unsigned i = 0; i < PORT_ADDRESSES && p->seen[i].len; i++) {
        port_address_text(&p->seen[i], text);
        json_str(j, NULL, text);
    }
    json_end(j);
}

static void put_mac(struct json *j, const uint8_t mac[6])
{
    json_fmt(j, "mac", "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

/* Its cards on the switch. */
static void put_cards(struct json *j, const struct vm *vm)
{
    const struct vswitch_port *p;
    json_array(j, "cards");
    for (unsigned i = 0; (p = guest_net_port(vm, i)); i++) {
        json_object(j, NULL);
        put_mac(j, p->mac);
        put_addresses(j, p);
        json_end(j);
    }
    json_end(j);
}

static void put_balloon(struct json *j, struct vm *vm)
{
    spin_lock(&vm->dev_lock);
    struct balloon_state b = vdev_balloon_state(vm);
    spin_unlock(&vm->dev_lock);
    if (!b.present)
        return;
    json_num(j, "memory_target_bytes", vm->config.memory_bytes - b.target_bytes);
    json_num(j, "balloon_bytes", b.given_bytes);
}

/* Its cards, as configured. */
static void put_nics(struct json *j, const struct vm_config *v)
{
    json_array(j, "nics");
    for (unsigned i = 0; i < v->n_nics; i++) {
        json_object(j, NULL);
        put_mac(j, v->nic[i].mac);
        json_bool(j, "spoof", v->nic[i].spoof);
        json_end(j);
    }
    json_end(j);
}

/* Where a disk is, in the words of godwit.conf. */
static void put_disk_place(struct json *j, const struct disk_config *d)
{
    switch (d->kind) {
    case DISK_IN_RAM:
        if (d->file[0])
            json_fmt(j, "disk", "ram:%s", d->file);
        else
            json_fmt(j, "disk", "ram:%luM", d->bytes / MIB);
        break;
    case DISK_ON_LV: json_fmt(j, "disk", "lv:%s/%s", d->lv.vg, d->lv.lv); break;
    case DISK_ON_NBD:
        json_fmt(j, "disk", "nbd:%u.%u.%u.%u:%u/%s", d->nbd.ip[0], d->nbd.ip[1], d->nbd.ip[2], d->nbd.ip[3],
                 d->nbd.port, d->nbd.name);
        break;
    }
}

static void put_disks(struct json *j, const struct vm *vm)
{
    json_array(j, "disks");
    for (unsigned i = 0; i < vm->config.n_disks; i++) {
        const struct disk_config *d = &vm->config.disk[i];
        const struct disk *open = vm->disks.d[i].disk;
        json_object(j, NULL);
        json_fmt(j, "device", "vd%c", 'a' + (int)i);
        put_disk_place(j, d);
        if (d->serial[0])
            json_str(j, "serial", d->serial);
        json_bool(j, "read_only", d->read_only || (open && open->info.read_only));
        if (d->kind == DISK_IN_RAM || (open && open->known))
            json_num(j, "bytes", open ? open->info.bytes : d->bytes);
        json_end(j);
    }
    json_end(j);
}

/* The single ones, as of a guest with one card and one disk. */
static void put_first_card_and_disk(struct json *j, const struct vm_config *v)
{
    bool in_ram = v->n_disks && v->disk[0].kind == DISK_IN_RAM;
    json_bool(j, "nic", v->n_nics);
    json_bool(j, "spoof", v->nic[0].spoof);
    json_num(j, "disk_bytes", in_ram ? v->disk[0].bytes : 0);
}

void api_vm_show(struct api_call *c)
{
    struct vm *vm = named_vm(c);
    if (!vm)
        return;
    const struct vm_config *v = &vm->config;
    struct json *j = &c->out;
    json_object(j, NULL);
    put_vm(j, vm);
    put_mac(j, v->nic[0].mac);
    json_str(j, "kernel", v->kernel);
    json_str(j, "initrd", v->initrd);
    put_modules(j, v);
    json_str(j, "cmdline", v->cmdline);
    put_first_card_and_disk(j, v);
    put_disks(j, vm);
    put_nics(j, v);
    put_usage(j, vm);
    put_cards(j, vm);
    if (vm_is_built(vm)) {
        json_num(j, "backed_bytes", vm->mem.n_backed * BLOCK_SIZE);
        put_balloon(j, vm);
    }
    json_end(j);
}

static void vm_operate(struct api_call *c, enum hv_err (*verb)(const char *vm, const char *by, struct why *why))
{
    char message[480];
    if (!named_vm(c))
        return;
    enum hv_err e = verb(c->arg, c->by, WHY(message));
    if (e == HV_E_NOENT) /* not the guest, but a file of it is missing: 404 would mislead */
        api_fail(c, e, 409, "%s", message);
    else
        api_result(c, e, message);
}

/* 202: the peers are being asked whether they have the guest; its object shows the progress. */
void api_vm_start(struct api_call *c)
{
    char message[480];
    bool force = false;
    if (!named_vm(c))
        return;
    if (!api_take_bool(c, "force", &force))
        return;
    enum hv_err e = operate_start(c->arg, force, c->by, WHY(message));
    if (e == HV_E_NOENT) { /* as above */
        api_fail(c, e, 409, "%s", message);
        return;
    }
    api_result(c, e == HV_E_AGAIN ? HV_OK : e, message);
    if (e == HV_E_AGAIN)
        c->status = 202;
}

void api_vm_stop(struct api_call *c) { vm_operate(c, operate_stop); }
void api_vm_shutdown(struct api_call *c) { vm_operate(c, operate_shutdown); }
void api_vm_reset(struct api_call *c) { vm_operate(c, operate_reset); }
void api_vm_nmi(struct api_call *c) { vm_operate(c, operate_nmi); }
void api_vm_pause(struct api_call *c) { vm_operate(c, operate_pause); }
void api_vm_resume(struct api_call *c) { vm_operate(c, operate_resume); }

void api_vm_set(struct api_call *c)
{
    char message[480];
    uint64_t target;
    if (!named_vm(c))
        return;
    if (json_get_num(&c->in, "memory_target_bytes", UINT64_MAX, &target)) {
        api_fail(c, HV_E_INVAL, 0, "the field \"memory_target_bytes\" must be a number");
        return;
    }
    enum hv_err e = operate_memory_target(c->arg, target, c->by, WHY(message));
    api_result(c, e, message);
}

static void put_exits(struct json *j, const struct vm *vm)
{
    json_array(j, "vcpus");
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        const struct vcpu *v = vm->vcpus[i];
        json_object(j, NULL);
        json_num(j, "pcpu", v->pcpu);
        json_bool(j, "halted", v->halted);
        json_num(j, "guest_us", clock_tsc_to_us(v->guest_tsc_ticks));
        json_object(j, "exits");
        for (unsigned k = 0; k < VCPU_EXIT_COUNT; k++)
            if (v->n_exits[k])
                json_num(j, vcpu_exit_names[k], v->n_exits[k]);
        json_end(j);
        json_end(j);
    }
    json_end(j);
}

void api_vm_inspect(struct api_call *c)
{
    struct vm *vm = named_vm(c);
    if (!vm)
        return;
    struct json *j = &c->out;
    struct json_printer lines = { { json_line }, j };
    json_object(j, NULL);
    put_vm(j, vm);
    if (vm_is_built(vm)) {
        json_num(j, "backed_bytes", vm->mem.n_backed * BLOCK_SIZE);
        json_bool(j, "dirty_log", atomic_load(&vm->dirty.on));
        put_exits(j, vm);
    }
    json_array(j, "details");
    vm_inspect(vm, &lines.printer);
    json_end(j);
    json_end(j);
}

/* ---- console: raw bytes, which need not be text ---- */

void api_vm_console_read(struct api_call *c)
{
    const struct vm *vm = named_vm(c);
    if (!vm)
        return;
    char run[2 * sizeof(vm->uuid) + 1], asked[sizeof(run)];
    for (size_t i = 0; i < sizeof(vm->uuid); i++)
        snprintf(run + 2 * i, 3, "%02x", vm->uuid[i]);
    http_query_text(c->http, "run", asked, sizeof(asked));
    bool same = !asked[0] || !strcmp(asked, run); /* numbers of another run mean nothing */
    uint64_t since = same ? http_query_num(c->http, "since", 0) : 0, at = since;
    c->type = "application/octet-stream";
    size_t n = c->out.text.len = guest_console_read(vm, &at, c->out.text.buf, c->out.text.cap);
    uint64_t missed = same && at - n > since ? at - n - since : 0;
    snprintf(c->extra, sizeof(c->extra),
             "Godwit-Console-Next: %lu\r\nGodwit-Console-Run: %s\r\nGodwit-Console-Missed: %lu\r\n"
             "Godwit-Vm-State: %s\r\n",
             at, run, missed, vm_state_name(vm_state(vm)));
}

void api_vm_console_write(struct api_call *c)
{
    c->no_audit = true; /* keystrokes */
    struct vm *vm = named_vm(c);
    if (!vm)
        return;
    if (vm_state(vm) != VM_RUNNING && vm_state(vm) != VM_PAUSED) {
        api_fail(c, HV_E_BUSY, 0, "%s is %s and takes no input", c->arg, vm_state_name(vm_state(vm)));
        return;
    }
    json_object(&c->out, NULL);
    json_num(&c->out, "taken", guest_console_type(vm, c->http->body, c->http->body_len));
    json_end(&c->out);
}
