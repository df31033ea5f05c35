/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_route.c - from a request to its handler: paths, roles, bodies, errors.
 *
 * Invariant: after api_dispatch() there is an answer, whatever the request and the handler.  One that is too large or
 * malformed is replaced by an error.  Portable: tests and the fuzzer link it with handlers of their own. */
#include "kernel/manage/api_call.h"

#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/manage/openapi.h"

#define JSON_TYPE "application/json"

#define NONE          ROUTE_NONE
#define RAW           ROUTE_RAW
#define TEXT          ROUTE_TEXT
#define STREAM        ROUTE_STREAM
#define LIMITS        "bandwidth_limit_mb downtime_limit_ms"
#define MOVE_SETTINGS LIMITS " lz4 verify live kind policy network with_disks with_base keep places"

/* ---- answers ---- */

static unsigned http_status_of(enum hv_err e)
{
    switch (e) {
    case HV_OK:        return 200;
    case HV_E_INVAL:
    case HV_E_RANGE:
    case HV_E_PROTO:
    case HV_E_SHORT:
    case HV_E_VERSION: return 400;
    case HV_E_AUTH:
    case HV_E_REFUSED: return 403;
    case HV_E_NOENT:   return 404;
    case HV_E_EXIST:
    case HV_E_BUSY:
    case HV_E_AGAIN:
    case HV_E_CANCEL:
    case HV_E_GUEST:
    case HV_E_UNSUPP:  return 409;
    case HV_E_NOMEM:   return 507;
    case HV_E_CLOSED:
    case HV_E_TIMEOUT:
    case HV_E_IO:
    case HV_E_DIGEST:  break;
    }
    return 500;
}

static void answer_begin(struct api_call *c, unsigned status)
{
    json_init(&c->out, c->out.text.buf, c->out.text.cap);
    c->type = JSON_TYPE;
    c->status = status;
}

void api_fail(struct api_call *c, enum hv_err e, unsigned status, const char *fmt, ...)
{
    char text[640];
    va_list ap;
    ASSERT(e && (!status || status >= 400));
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    answer_begin(c, status ? status : http_status_of(e));
    json_object(&c->out, NULL);
    json_str(&c->out, "code", hv_err_name(e));
    json_str(&c->out, "meaning", hv_err_text(e));
    json_str(&c->out, "message", text[0] ? text : hv_err_text(e));
    json_end(&c->out);
}

bool api_take_bool(struct api_call *c, const char *key, bool *out)
{
    *out = false;
    if (json_get_bool(&c->in, key, out) != HV_E_INVAL)
        return true;
    api_fail(c, HV_E_INVAL, 0, "the field \"%s\" must be true or false", key);
    return false;
}

void api_result(struct api_call *c, enum hv_err e, const char *message)
{
    if (e) {
        api_fail(c, e, 0, "%s", message);
        return;
    }
    json_object(&c->out, NULL);
    json_str(&c->out, "message", message);
    json_end(&c->out);
}

bool api_need_str(struct api_call *c, const char *key, char *out, size_t cap)
{
    enum hv_err e = json_get_str(&c->in, key, out, cap);
    if (e == HV_E_NOENT)
        api_fail(c, HV_E_INVAL, 0, "the field \"%s\" is missing in the request's body", key);
    else if (e)
        api_fail(c, HV_E_INVAL, 0, "the field \"%s\" must be a string of at most %u bytes", key, (unsigned)cap - 1);
    return !e;
}

bool api_take_str(struct api_call *c, const char *key, char *out, size_t cap)
{
    out[0] = '\0';
    return json_get_str(&c->in, key, out, cap) == HV_E_NOENT || api_need_str(c, key, out, cap);
}

/* ---- routes ---- */

/* GET /v1: the list of routes. */
static void routes_list(struct api_call *c);

static const struct route routes[] = {
    { HTTP_VERB_GET, TRUST_READ, "/v1", routes_list, NONE, "this list" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/openapi.json", api_openapi, NONE, "this interface as an OpenAPI 3.1 document" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/host", api_host, NONE, "processor, memory, network, peers" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/host/evacuate", api_evacuate_show, NONE,
      "progress of the evacuation, or its result" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/host/evacuate", api_evacuate_start, "stop_crashed",
      "move every guest away, each to the best peer" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/host/evacuate/cancel", api_evacuate_cancel, NONE,
      "cancel it, with each of its moves that can be cancelled" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/host/poweroff", api_poweroff, "force stop_crashed",
      "power this host off, as each guest's on-shutdown says" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/host/reboot", api_reboot, "force stop_crashed",
      "restart this host; likewise" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/host/set", api_host_set, "key value",
      "change a value of [host] while the host runs: {\"key\": KEY, \"value\": TEXT, or \"default\"}" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/peers", api_peer_list, NONE, "hosts that guests move to and from" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/peers", api_peer_add, "name address port fingerprint",
      "add a peer, or change the one of this name" },
    { HTTP_VERB_DELETE, TRUST_OPERATE, "/v1/peers/*", api_peer_remove, NONE, "remove a peer" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/clients", api_client_list, NONE, "who may use this interface" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/clients", api_client_add, "name fingerprint role",
      "add a client, or change the one of this name; ?sure=1" },
    { HTTP_VERB_DELETE, TRUST_OPERATE, "/v1/clients/*", api_client_remove, NONE, "remove a client; ?sure=1" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/log", api_log, NONE, "the last 64 KiB of the log, as text" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/events", api_events, NONE,
      "what happened; ?since=NUMBER&boot=ID&timeout=SECONDS waits for news" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/vms", api_vm_list, NONE, "all guests; ?after=NAME&limit=N: those behind one" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/vms/*", api_vm_show, NONE, "one guest" },
    { HTTP_VERB_PUT, TRUST_OPERATE, "/v1/vms/*", api_vm_define, TEXT,
      "define a guest, or define it anew: the text of a [vm] section of godwit.conf" },
    { HTTP_VERB_DELETE, TRUST_OPERATE, "/v1/vms/*", api_vm_undefine, NONE, "forget a stopped guest; its volumes stay" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/vms/*/config", api_vm_config, NONE,
      "a guest's definition, as text; ?from=registry: that one, if godwit.conf's is used" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/disks", api_vm_disk_attach, "disk fingerprint",
      "attach a disk to a guest, from its next start on: {\"disk\": as in godwit.conf}" },
    { HTTP_VERB_DELETE, TRUST_OPERATE, "/v1/vms/*/disks/*", api_vm_disk_detach, NONE,
      "detach a disk, vda, vdb, ..., from a guest; what is on it stays" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/nics", api_vm_nic_attach, "mac spoof",
      "attach a network card to a guest, from its next start on" },
    { HTTP_VERB_DELETE, TRUST_OPERATE, "/v1/vms/*/nics/*", api_vm_nic_detach, NONE,
      "detach the network card with that MAC address from a guest" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/vms/*/inspect", api_vm_inspect, NONE, "memory, exits by reason, registers" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/start", api_vm_start, "force", "start a stopped guest" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/stop", api_vm_stop, NONE, "power a guest off at once" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/shutdown", api_vm_shutdown, NONE, "press a guest's ACPI power button" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/reset", api_vm_reset, NONE, "reset a running guest" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/set", api_vm_set, "memory_target_bytes",
      "ask a guest to keep only so much of its memory" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/nmi", api_vm_nmi, NONE, "send a running guest an NMI" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/pause", api_vm_pause, NONE, "pause a running guest" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/resume", api_vm_resume, NONE, "resume a paused guest" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/save", api_vm_save, "volume live bandwidth_limit_mb",
      "save a guest in a volume, and stop it; {\"live\": true}: it goes on" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/save/cancel", api_vm_save_cancel, NONE, "the guest runs on" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/restore", api_vm_restore, "again force volume",
      "let a saved guest go on; again: although it has before" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/vms/*/checkpoints", api_checkpoint_list, NONE,
      "a guest's checkpoints, oldest first" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/checkpoints", api_checkpoint_create, "name",
      "keep a guest's memory and volumes as they are at one instant; 202 and a job" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/checkpoints/*/revert", api_checkpoint_revert, "sure force",
      "let a guest be what it was then; sure: although it is up; 202 and a job" },
    { HTTP_VERB_DELETE, TRUST_OPERATE, "/v1/vms/*/checkpoints/*", api_checkpoint_delete, NONE,
      "delete a checkpoint; 202 and a job" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/vms/*/console", api_vm_console_read, NONE, "output of its console; ?since=BYTE" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/console", api_vm_console_write, RAW, "input for its console, raw" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/vms/*/disks/*/move", api_disk_move,
      "place fingerprint keep overwrite sure bandwidth_limit_mb",
      "move a disk of a guest (vda, vdb...) to another place: {\"place\": \"STORE/VOLUME\"}; 202 and a job" },
    { HTTP_VERB_DELETE, TRUST_OPERATE, "/v1/vms/*/disks/*/move", api_disk_move_cancel, NONE,
      "cancel that; the guest keeps the disk that it has" },
    { HTTP_VERB_GET, TRUST_OPERATE, "/v1/stores/*/volumes/*/data", api_data_get, NONE,
      "export: the bytes of a volume; Range" },
    { HTTP_VERB_PUT, TRUST_OPERATE, "/v1/stores/*/volumes/*/data", api_data_put, STREAM,
      "import: bytes into a volume, or into Content-Range of it" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/stores/*/volumes/*/import", api_import_begin, "bytes sha256",
      "begin an import, or go on: at which byte" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/stores/*/volumes/*/import/finish", api_import_finish, "base",
      "all bytes are there: compare their hash; {\"base\": true} makes a base volume" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/files", api_file_list, NONE, "files that guests are started from" },
    { HTTP_VERB_PUT, TRUST_OPERATE, "/v1/files/*", api_file_put, STREAM,
      "put a file into the store; ?sha256=HEX: what its hash must be" },
    { HTTP_VERB_DELETE, TRUST_OPERATE, "/v1/files/*", api_file_delete, NONE, "delete a file of the store" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/migrations", api_migration_list, NONE, "outgoing moves, newest first" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/migrations", api_migration_start, "vm to " MOVE_SETTINGS,
      "move a guest: {\"vm\": NAME, \"to\": PEER}" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/migrations/*", api_migration_show, NONE, "one move, with all its figures" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/migrations/*/cancel", api_migration_cancel, NONE,
      "cancel a move; the guest runs on here" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/migrations/*/set", api_migration_set, LIMITS,
      "change limits of a move while it runs: {\"bandwidth_limit_mb\": N, \"downtime_limit_ms\": N}" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/migrations/*/resolve", api_migration_resolve, "here sure",
      "decide where a guest in doubt lives: {\"here\": true|false, \"sure\": true}" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/validate", api_validate, "vm to " MOVE_SETTINGS,
      "check whether a move would work: {\"vm\": NAME, \"to\": PEER}; repeat while 202" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/stores/*/adopt", api_store_adopt, NONE,
      "take the registry of a volume group, which another host has made, as this host's" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/jobs", api_job_list, NONE, "what goes on after its answer, newest first" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/jobs/*", api_job_show, NONE, "one job: its state, progress and outcome" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/disks", api_disk_list, NONE, "this host's disks, and what is on them" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/stores", api_store_list, NONE, "stores, which are LVM2's volume groups" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/stores", api_store_create, "disk name sure",
      "make a store of a disk, whose contents are lost: {\"disk\": DISK, \"sure\": true}; 202 and a job" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/stores/*", api_store_show, NONE, "one store" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/stores/*/volumes", api_volume_list, NONE, "the volumes of a store" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/stores/*/volumes", api_volume_create, "name bytes from",
      "a new volume, all zeroes: {\"name\": NAME, \"bytes\": N}; or a clone of a base volume: {\"name\": NAME, "
      "\"from\": BASE}; 202 and a job" },
    { HTTP_VERB_GET, TRUST_READ, "/v1/stores/*/volumes/*", api_volume_show, NONE, "one volume" },
    { HTTP_VERB_DELETE, TRUST_OPERATE, "/v1/stores/*/volumes/*", api_volume_delete, NONE,
      "delete a volume; 202 and a job" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/stores/*/volumes/*/resize", api_volume_resize, "bytes sure",
      "resize a volume: {\"bytes\": N}, and \"sure\": true to make it smaller; 202 and a job" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/stores/*/volumes/*/snapshot", api_volume_snapshot, "name",
      "a snapshot of a volume, which may be in use: {\"name\": NAME}; 202 and a job" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/stores/*/volumes/*/revert", api_volume_revert, NONE,
      "make the volume of this snapshot what the snapshot is, which is then gone; 202 and a job" },
    { HTTP_VERB_POST, TRUST_OPERATE, "/v1/stores/*/volumes/*/rename", api_volume_rename, "name",
      "rename a volume: {\"name\": NAME}; 202 and a job" },
    { HTTP_VERB_GET, TRUST_READ, "/metrics", api_metrics, NONE, "counters for Prometheus" },
};

const struct route *route_at(unsigned i) { return i < ARRAY_SIZE(routes) ? &routes[i] : NULL; }

static void routes_list(struct api_call *c)
{
    json_object(&c->out, NULL);
    json_array(&c->out, "paths");
    for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
        json_object(&c->out, NULL);
        json_str(&c->out, "method", http_verb_name(routes[i].verb));
        json_str(&c->out, "path", routes[i].path);
        json_str(&c->out, "role", routes[i].trust == TRUST_READ ? "read" : "operate");
        json_str(&c->out, "what", routes[i].what);
        json_end(&c->out);
    }
    json_end(&c->out);
    json_end(&c->out);
}

/* Does path match the pattern?  args: the elements at its '*', or "". */
static bool path_matches(const char *pattern, const char *path, char args[2][API_ARG_MAX])
{
    unsigned n_args = 0;
    args[0][0] = args[1][0] = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '*') {
            if (*pattern != *path++)
                return false;
            continue;
        }
        ASSERT(n_args < 2);
        size_t n = strcspn(path, "/");
        if (!n || n >= API_ARG_MAX)
            return false;
        memcpy(args[n_args], path, n);
        args[n_args++][n] = 0;
        path += n;
    }
    return !*path;
}

/* The route of a request; args as of path_matches().  NULL: none, then *verbs has a bit for each verb that the path
 * takes. */
static const struct route *route_find(const struct http_conn *http, char args[2][API_ARG_MAX], unsigned *verbs)
{
    *verbs = 0;
    for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
        if (!path_matches(routes[i].path, http_path(http), args))
            continue;
        if (routes[i].verb == http_verb(http))
            return &routes[i];
        *verbs |= BIT32(routes[i].verb);
    }
    return NULL;
}

static void answer_no_route(struct api_call *c, unsigned verbs)
{
    struct text allow = { .buf = c->extra, .cap = sizeof(c->extra) };
    if (!verbs) {
        api_fail(c, HV_E_NOENT, 0, "there is no path %s; GET /v1 lists all paths", http_path(c->http));
        return;
    }
    for (unsigned v = HTTP_VERB_GET; v < HTTP_VERB_OTHER; v++)
        if (verbs & BIT32(v))
            text_printf(&allow, "%s%s%s", allow.len ? ", " : "Allow: ", http_verb_name((enum http_verb)v),
                        v == HTTP_VERB_GET ? ", HEAD" : "");
    text_printf(&allow, "\r\n");
    api_fail(c, HV_E_UNSUPP, 405, "this path does not take this method; GET /v1 lists paths and methods");
}

static bool route_takes_stream(const struct route *r) { return !strcmp(r->fields, STREAM); }

uint64_t api_body_max(const struct http_conn *http)
{
    char args[2][API_ARG_MAX];
    unsigned verbs;
    const struct route *r = route_find(http, args, &verbs);
    if (r && route_takes_stream(r))
        return UINT64_MAX;
    return r && !strcmp(r->fields, TEXT) ? API_TEXT_MAX : API_BODY_MAX;
}

static bool field_is_of(const char *fields, const struct json_field *f)
{
    for (size_t n; *fields; fields += n + (fields[n] == ' ')) {
        n = strcspn(fields, " ");
        if (n == f->key_len && !memcmp(fields, f->key, n))
            return true;
    }
    return false;
}

/* A setting that is not understood must not be taken for one that is obeyed. */
static bool fields_check(struct api_call *c, const char *fields)
{
    for (unsigned i = 0; i < c->in.n; i++) {
        const struct json_field *f = &c->in.field[i];
        if (field_is_of(fields, f))
            continue;
        api_fail(c, HV_E_INVAL, 0, "this request has no field \"%.*s\"; %s%s", (int)MIN(f->key_len, 64u), f->key,
                 *fields ? "its fields are: " : "it has none", fields);
        return false;
    }
    return true;
}

static bool body_parse(struct api_call *c, const struct route *r)
{
    const char *why;
    c->in.n = 0;
    if (r->fields[0] == '*' || !c->http->body_len)
        return true;
    enum hv_err e = json_parse(&c->in, c->http->body, c->http->body_len, &why);
    if (e)
        api_fail(c, HV_E_INVAL, 0, "the request's body is %s", why);
    return !e && fields_check(c, r->fields);
}

static bool query_check(struct api_call *c, const struct route *r)
{
    char name[OPENAPI_WORD_MAX];
    bool wrong = openapi_query_wrong(c->http, r, name);
    if (wrong)
        api_fail(c, HV_E_INVAL, 0, "?%s= takes a number, 0 or more, in decimal digits", name);
    return !wrong;
}

static void answer_refusal(struct api_call *c, unsigned status)
{
    if (status == 413) {
        api_fail(c, HV_E_PROTO, 413, "the body has more than %u bytes", (unsigned)c->http->body_cap);
        return;
    }
    const char *text = status == 414   ? "the path has more than 512 bytes"
                       : status == 431 ? "the headers have more than 8192 bytes"
                       : status == 505 ? "only HTTP/1.0 and 1.1 are supported"
                       : status == 501 ? "upgrades and tunnels are not supported"
                                       : "this is not an HTTP request";
    api_fail(c, status == 505 ? HV_E_VERSION : status == 501 ? HV_E_UNSUPP : HV_E_PROTO, status, "%s", text);
}

static void route_run(struct api_call *c)
{
    char args[2][API_ARG_MAX];
    unsigned verbs;
    const struct route *r = route_find(c->http, args, &verbs);
    memcpy(c->arg, args[0], API_ARG_MAX);
    memcpy(c->arg2, args[1], API_ARG_MAX);
    if (!r)
        answer_no_route(c, verbs);
    else if (c->client->trust < r->trust)
        api_fail(c, HV_E_AUTH, 403,
                 "client %s may only read; [client %s] role = operate in this host's godwit.conf would allow it",
                 c->client->name, c->client->name);
    else if (query_check(c, r) && body_parse(c, r))
        r->handler(c);
}

static void call_begin(struct api_call *c, char *buf, size_t cap)
{
    ASSERT(c->http && c->client && cap);
    c->extra[0] = 0;
    snprintf(c->by, sizeof(c->by), "client %s", c->client->name);
    json_init(&c->out, buf, cap);
    answer_begin(c, 200);
}

/* What the handler has written must be whole. */
static void call_check(struct api_call *c)
{
    bool text = c->type != NULL && strcmp(c->type, JSON_TYPE) != 0;
    if (c->source || c->sink)
        return;
    c->overflow = c->out.text.overflow;
    if (text ? c->out.text.overflow : !json_good(&c->out))
        api_fail(c, HV_E_NOMEM, 500, "the answer is larger than %u bytes%s", (unsigned)c->out.text.cap,
                 c->out.misused ? ", or malformed: a bug in the hypervisor" : "");
}

void api_dispatch(struct api_call *c, char *buf, size_t cap)
{
    call_begin(c, buf, cap);
    if (http_refusal(c->http))
        answer_refusal(c, http_refusal(c->http));
    else
        route_run(c);
    call_check(c);
}

bool api_sink_end(struct api_sink *s, struct api_call *c, char *buf, size_t cap)
{
    call_begin(c, buf, cap);
    bool answered = s->ops->end(s, c);
    if (answered)
        call_check(c);
    return answered;
}
