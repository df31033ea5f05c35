/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_define.c - definitions of guests in the management interface, and the registry's owner.
 *
 * What a request changes is in memory when it is answered, and on the disk when its job has ended. */
#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/manage/api.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/jobs.h"
#include "kernel/manage/operate.h"
#include "kernel/store/registry.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_manage.h"

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
    json_fmt(j, "message", "the definition of %s has %u mistake%s; nothing is changed", c->arg, m->n,
             m->n == 1 ? "" : "s");
    json_end(j);
}

void api_vm_define(struct api_call *c)
{
    struct mistakes m = { .c = c };
    char why[480], what[80], text[200];
    bool is_new = !vm_find(c->arg);
    if (!wait_possible(c))
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
