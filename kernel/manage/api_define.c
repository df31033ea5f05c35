/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_define.c - definitions of guests in the management interface, their disks and cards, and the
 * registry's owner.
 *
 * What a request changes is in memory when it is answered, and on the disk when its job has ended. */
#include <stdio.h>
#include <string.h>
#include "kernel/lib/fmt.h"
#include "kernel/lib/log.h"
#include "kernel/manage/api.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/jobs.h"
#include "kernel/manage/operate.h"
#include "kernel/store/registry.h"
#include "kernel/vm/vm_attach.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_manage.h"

_Static_assert(DEFINITION_MAX == API_TEXT_MAX, "what is edited here can be edited by a client");
#define MISTAKES_MAX 100u /* of a definition are listed; more are counted */

/* ---- jobs that wait for the registry ---- */

static struct wait {
    struct api_job *job; /* NULL: not in use */
    uint64_t mark;
    char text[320];          /* its message when all is well */
    char adopt[API_ARG_MAX]; /* the volume group that is being adopted; "": it waits for the registry alone */
} waits[JOBS_MAX];

/* May a change be begun?  Else the request is answered.  What is asked first cannot fail later in the same turn. */
static bool wait_possible(struct api_call *c)
{
    unsigned n = 0;
    while (n < JOBS_MAX && waits[n].job)
        n++;
    if (n < JOBS_MAX && !jobs_full())
        return true;
    api_fail(c, HV_E_BUSY, 0, JOBS_FULL);
    return false;
}

/* Answer with a job that ends when all that was put until now is durable; the answer's object stays open.  text: the
 * job's message then. */
static struct wait *wait_begin(struct api_call *c, const char *what, const char *text)
{
    struct wait *w = waits;
    while (w->job)
        w++;
    *w = (struct wait){ .mark = registry_mark() };
    w->job = job_begin(c->by, "%s", what);
    ASSERT(w < waits + JOBS_MAX && w->job);
    snprintf(w->text, sizeof(w->text), "%s", text);
    job_answer_begin(c, w->job);
    return w;
}

static void wait_end(struct wait *w, enum hv_err e, const char *text)
{
    job_end(w->job, e, text);
    w->job = NULL;
}

/* Once it is over, the registry says that the group is this host's already, or what is wrong with it. */
static void adopt_step(struct wait *w)
{
    char why[320];
    if (registry_adopting() || !registry_durable(registry_mark()))
        return;
    enum hv_err e = registry_adopt(w->adopt, WHY(why));
    if (e)
        wait_end(w, e == HV_E_EXIST ? HV_OK : e, e == HV_E_EXIST ? w->text : why);
}

void api_define_step(void)
{
    for (struct wait *w = waits; w < waits + JOBS_MAX; w++) {
        if (!w->job)
            continue;
        if (w->adopt[0])
            adopt_step(w);
        else if (registry_durable(w->mark))
            wait_end(w, HV_OK, w->text);
        else if (registry_why()[0])
            wait_end(w, HV_E_IO, registry_why());
    }
}

/* ---- define ---- */

struct mistakes {
    struct api_call *c;
    unsigned n;
};

/* The first comes before the answer is known to be a refusal: it begins the answer. */
static void mistake_put(void *ctx, unsigned line, const char *text)
{
    struct mistakes *m = ctx;
    struct json *j = &m->c->out;
    if (!m->n++) {
        json_object(j, NULL);
        json_array(j, "mistakes");
    }
    if (m->n > MISTAKES_MAX)
        return;
    json_object(j, NULL);
    json_num(j, "line", line);
    json_str(j, "message", text);
    json_end(j);
}

static void answer_mistakes(struct api_call *c, const struct mistakes *m)
{
    struct json *j = &c->out;
    c->status = 400;
    json_end(j);
    json_str(j, "code", hv_err_name(HV_E_INVAL));
    json_str(j, "meaning", hv_err_text(HV_E_INVAL));
    json_fmt(j, "message", "the definition of %s has %u mistake%s; nothing is changed", c->arg, m->n, FMT_S(m->n));
    json_end(j);
}

/* Does the guest move while it is stopped?  Then it stays what it was when that began, and the answer says so. */
static bool moves_cold(struct api_call *c)
{
    if (vm_is_built(vm_find(c->arg)) || !migration_is_moving(c->arg))
        return false;
    api_fail(c, HV_E_BUSY, 0, "%s is moving; cancel that first", c->arg);
    return true;
}

void api_vm_define(struct api_call *c)
{
    struct mistakes m = { .c = c };
    char why[480], what[80], text[200];
    bool is_new = !vm_find(c->arg);
    if (!wait_possible(c))
        return;
    if (!is_new && moves_cold(c))
        return;
    enum hv_err e = vm_define(c->arg, (const char *)c->http->body, c->http->body_len, mistake_put, &m, WHY(why));
    if (e && m.n) {
        answer_mistakes(c, &m);
        return;
    }
    if (e) {
        api_fail(c, e, 0, "%s", why);
        return;
    }
    bool later = vm_state(vm_find(c->arg)) != VM_STOPPED;
    snprintf(what, sizeof(what), "define %s%s", c->arg, is_new ? "" : " anew");
    snprintf(text, sizeof(text), "%s is defined%s", c->arg,
             later ? "; it goes on as it is, and is what the definition says when it is started again" : "");
    (void)wait_begin(c, what, text);
    json_bool(&c->out, "created", is_new);
    json_bool(&c->out, "at_next_start", later);
    json_str(&c->out, "warning", why);
    json_end(&c->out);
}

void api_vm_undefine(struct api_call *c)
{
    char why[480], what[80];
    if (!vm_find(c->arg)) {
        api_fail(c, HV_E_NOENT, 0, "no guest is named \"%s\"; GET /v1/vms lists all guests", c->arg);
        return;
    }
    if (!wait_possible(c))
        return;
    enum hv_err e = operate_undefine(c->arg, c->by, WHY(why));
    if (e) {
        api_fail(c, e, 0, "%s", why);
        return;
    }
    snprintf(what, sizeof(what), "undefine %s", c->arg);
    (void)wait_begin(c, what, why);
    json_end(&c->out);
}

/* ---- disks and cards ---- */

/* The guest whose definition is to be edited.  NULL: that cannot be, and the answer says why. */
static struct vm *device_guest(struct api_call *c)
{
    struct vm *vm = vm_find(c->arg);
    if (!vm)
        api_fail(c, HV_E_NOENT, 0, "no guest is named \"%s\"; GET /v1/vms lists all guests", c->arg);
    return vm && !moves_cold(c) && wait_possible(c) ? vm : NULL;
}

/* Answer with the job of a change, or with the error e.  device: what was attached or detached.  change: it, in words.
 * why: the reason, or the warning. */
static void device_answer(struct api_call *c, enum hv_err e, const char *device, const char *change, const char *why)
{
    char text[320];
    if (e) { /* not the guest, but what it should get is missing: 404 would mislead */
        api_fail(c, e, e == HV_E_NOENT ? 409 : 0, "%s", why);
        return;
    }
    bool later = vm_state(vm_find(c->arg)) != VM_STOPPED;
    snprintf(text, sizeof(text), "%s%s", change,
             later ? "; the guest goes on as it is, and this holds when it is started again" : "");
    (void)wait_begin(c, change, text);
    json_str(&c->out, "device", device);
    json_bool(&c->out, "at_next_start", later);
    json_str(&c->out, "warning", why);
    json_end(&c->out);
}

void api_vm_disk_attach(struct api_call *c)
{
    char disk[256], fingerprint[100], device[4] = "", change[200], why[640];
    unsigned i = 0;
    struct vm *vm = device_guest(c);
    if (!vm || !api_need_str(c, "disk", disk, sizeof(disk)) ||
        !api_take_str(c, "fingerprint", fingerprint, sizeof(fingerprint)))
        return;
    enum hv_err e = vm_attach_disk(vm, disk, fingerprint, &i, WHY(why));
    snprintf(device, sizeof(device), "vd%c", 'a' + (int)i);
    snprintf(change, sizeof(change), "%s of %s is %s", device, c->arg, disk);
    device_answer(c, e, device, change, why);
}

void api_vm_disk_detach(struct api_call *c)
{
    char change[200], why[640];
    unsigned left = 0;
    struct vm *vm = device_guest(c);
    if (!vm)
        return;
    unsigned i = strncmp(c->arg2, "vd", 2) ? CONFIG_MAX_DISKS : (unsigned)(c->arg2[2] - 'a');
    if (i >= CONFIG_MAX_DISKS || c->arg2[3]) {
        api_fail(c, HV_E_INVAL, 0, "a guest's disk is vda, vdb, ..., vdp: GET /v1/vms/%s lists those it has", c->arg);
        return;
    }
    enum hv_err e = vm_detach_disk(vm, i, &left, WHY(why));
    snprintf(change, sizeof(change), "%s is no disk of %s any more", c->arg2, c->arg);
    if (i < left)
        snprintf(change + strlen(change), sizeof(change) - strlen(change), "; %s was vd%c%s", c->arg2, 'a' + (int)i + 1,
                 i + 1 < left ? ", and so on behind it" : "");
    device_answer(c, e, c->arg2, change, why);
}

static void mac_text(char out[18], const uint8_t m[6])
{
    snprintf(out, 18, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

void api_vm_nic_attach(struct api_call *c)
{
    char given[18], device[18], change[200], why[640];
    uint8_t mac[6] = { 0 };
    bool spoof = false;
    struct vm *vm = device_guest(c);
    if (!vm || !api_take_str(c, "mac", given, sizeof(given)))
        return;
    if ((given[0] && !config_mac_parse(given, mac)) || json_get_bool(&c->in, "spoof", &spoof) == HV_E_INVAL) {
        api_fail(c, HV_E_INVAL, 0,
                 "\"mac\" must be a unicast address like 02:47:57:00:00:01, and \"spoof\" true or false");
        return;
    }
    enum hv_err e = vm_attach_nic(vm, mac, spoof, WHY(why));
    mac_text(device, mac);
    snprintf(change, sizeof(change), "%s has a network card %s", c->arg, device);
    device_answer(c, e, device, change, why);
}

void api_vm_nic_detach(struct api_call *c)
{
    char device[18], change[200], why[640];
    uint8_t mac[6];
    struct vm *vm = device_guest(c);
    if (!vm)
        return;
    if (!config_mac_parse(c->arg2, mac)) {
        api_fail(c, HV_E_INVAL, 0, "a network card is named by its MAC address: GET /v1/vms/%s lists those it has",
                 c->arg);
        return;
    }
    enum hv_err e = vm_detach_nic(vm, mac, WHY(why));
    mac_text(device, mac);
    snprintf(change, sizeof(change), "%s has the network card %s no more", c->arg, device);
    device_answer(c, e, device, change, why);
}

/* ---- show ---- */

static const char *source_name(enum vm_source s)
{
    switch (s) {
    case VM_OF_CONF:     return "godwit.conf";
    case VM_OF_REGISTRY: return "registry";
    case VM_OF_MOVE:     break;
    }
    return "move";
}

/* The text as it is: PUT takes it again.  ?from=registry: the registry's, where godwit.conf's is used. */
void api_vm_config(struct api_call *c)
{
    char from[16];
    size_t len;
    const struct vm *vm = vm_find(c->arg);
    if (!vm) {
        api_fail(c, HV_E_NOENT, 0, "no guest is named \"%s\"; GET /v1/vms lists all guests", c->arg);
        return;
    }
    http_query_text(c->http, "from", from, sizeof(from));
    enum vm_source s = !strcmp(from, "registry") ? VM_OF_REGISTRY : vm_source(vm);
    const char *text = vm_definition(vm, s, &len);
    if (!text) {
        api_fail(c, HV_E_NOENT, 0, "%s has no definition %s", c->arg,
                 s == VM_OF_REGISTRY ? "in the registry"
                                     : "here, since it came by a move; PUT /v1/vms/NAME gives it one");
        return;
    }
    c->type = "text/plain; charset=utf-8";
    text_put(&c->out.text, text, len);
    snprintf(c->extra, sizeof(c->extra), "Godwit-Source: %s\r\nGodwit-At-Next-Start: %s\r\n", source_name(s),
             vm->redefined ? "yes" : "no");
}

/* ---- the registry's owner ---- */

void api_store_adopt(struct api_call *c)
{
    char why[480], what[80], text[160];
    if (!wait_possible(c))
        return;
    enum hv_err e = registry_adopt(c->arg, WHY(why));
    if (e) {
        api_fail(c, e, 0, "%s", why);
        return;
    }
    snprintf(what, sizeof(what), "adopt volume group %s", c->arg);
    snprintf(text, sizeof(text), "volume group %s is this host's now, with the guests that are defined in it", c->arg);
    snprintf(wait_begin(c, what, text)->adopt, API_ARG_MAX, "%s", c->arg);
    json_end(&c->out);
}
