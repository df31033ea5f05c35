/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_call.h - one request of the management interface: a handler's input and output.
 *
 * A handler writes JSON into c->out, or sets c->type and writes text into c->out.text.  On an error it calls api_fail()
 * and returns: all that it has written is discarded.
 *
 * Streams.  The handler of a STREAM route runs when the head of the request is there.  It answers, and the connection
 * ends; or it sets c->sink, which takes the body and answers at its end.  Any handler may set c->source instead of
 * writing: the body of its answer.  Portable, except for the handlers. */
#ifndef GODWIT_KERNEL_MANAGE_API_CALL_H
#define GODWIT_KERNEL_MANAGE_API_CALL_H

#include "kernel/config/config.h"
#include "kernel/lib/json.h"
#include "net/http.h"

struct vm;
struct api_call;

#define API_ANSWER_MAX (192 * 1024u) /* of most; a longer one gets memory of its own, up to: */
#define API_LARGE_MAX  (32 * MIB)    /* tests/unit/test_metrics.c looks that it suffices */
#define API_ARG_MAX    64
#define API_BODY_MAX   8192u        /* bytes of a request's body */
#define API_TEXT_MAX   (64 * 1024u) /* of a route that takes a text, such as a definition */

/* Takes the body of a request; made by the handler, which owns it until end() or abort(). */
struct api_sink {
    const struct api_sink_ops *ops;
    bool over; /* set by the owner: it wants no more of the body, end() comes next */
};
struct api_sink_ops {
    size_t (*room)(struct api_sink *s); /* bytes that take() would accept; 0: none now, the client waits */
    void (*take)(struct api_sink *s, const char *p, size_t n);
    /** The body is whole, or `over`.  True: c has the answer, and the sink is gone.  False: call again. */
    bool (*end)(struct api_sink *s, struct api_call *c);
    void (*abort)(struct api_sink *s); /* the client is gone or misbehaved; the sink is gone as well */
};
/* Gives the body of an answer. */
struct api_source {
    const struct api_source_ops *ops;
    uint64_t len; /* bytes, all of which are given unless it fails */
    bool failed;  /* set by the owner: there is no more, and the connection ends early */
};
struct api_source_ops {
    size_t (*give)(struct api_source *s, char *buf, size_t cap); /* bytes put into buf; 0: none now */
    void (*close)(struct api_source *s, bool sent);              /* the source is gone.  sent: all of it was */
};

struct api_call {
    struct http_conn *http;           /* the request */
    const struct peer_config *client; /* the [client] section of the requester */
    char by[CONFIG_NAME_LEN + 8];     /* "client NAME": operate.h */
    char arg[API_ARG_MAX];            /* the path's element at the first '*' of the route */
    char arg2[API_ARG_MAX];           /* at the second; "" without one */
    struct json_in in;                /* a body of JSON; no fields if there is none, or another one */
    unsigned status;                  /* HTTP status; 200 unless the handler sets it */
    const char *type;                 /* Content-Type */
    char extra[224];                  /* further header lines, each with CR LF */
    bool overflow;                    /* the answer did not fit, so it is an error; set by api_dispatch() */
    /* A handler that has no answer yet sets both and returns: it is called again when there is an event of that number
     * (events.h), or after so many seconds at most; then `waited` is true. */
    uint64_t wait_event;
    unsigned wait_s;
    bool waited;
    bool no_audit; /* set by a handler that changes nothing worth an audit line */
    struct json out;
    struct api_sink *sink;     /* set by a handler; NULL: it has answered */
    struct api_source *source; /* set by a handler; NULL: the answer is in out */
};

/** Answer with an error.  status: HTTP status; 0: derived from e.  fmt: cause and fix. */
void api_fail(struct api_call *c, enum hv_err e, unsigned status, const char *fmt, ...) HV_PRINTF(4, 5);
/** Answer {"message": text}, or the error e with that text. */
void api_result(struct api_call *c, enum hv_err e, const char *text);
/** Copy the body's string field key to out.  False: it is missing or unusable, and the answer says so. */
bool api_need_str(struct api_call *c, const char *key, char *out, size_t cap);

/** The same, "" if it is missing. */
bool api_take_str(struct api_call *c, const char *key, char *out, size_t cap);

/** The body's field key, false without it.  False: it is no boolean, and the answer says so. */
bool api_take_bool(struct api_call *c, const char *key, bool *out);

/** Bytes that the body of the request may have, by its route; UINT64_MAX: its handler takes a stream, and is called
 *  now.  HTTP_HEADED. */
uint64_t api_body_max(const struct http_conn *http);
/** Find the route of c's request, check role and body, call the handler.  c holds an answer afterwards, in any case, or
 *  a sink.  buf, cap: memory for the answer. */
void api_dispatch(struct api_call *c, char *buf, size_t cap);
/** The end of a sink.  True: c has the answer.  False: call again.  c: zero but for http and client. */
bool api_sink_end(struct api_sink *s, struct api_call *c, char *buf, size_t cap);

struct job;
/** The state of a move as the interface names it: "moving". */
const char *move_state(const struct job *j);

/* The handlers, by file. */
void api_openapi(struct api_call *c); /* openapi.c */
void api_host(struct api_call *c);    /* api_host.c */
void api_log(struct api_call *c);
void api_events(struct api_call *c);   /* events.c */
void api_host_set(struct api_call *c); /* api_settings.c */
void api_peer_list(struct api_call *c);
void api_peer_add(struct api_call *c);
void api_peer_remove(struct api_call *c);
void api_client_list(struct api_call *c);
void api_client_add(struct api_call *c);
void api_client_remove(struct api_call *c);
void api_evacuate_show(struct api_call *c);
void api_data_get(struct api_call *c); /* api_data.c */
void api_data_put(struct api_call *c);
void api_import_begin(struct api_call *c);
void api_import_finish(struct api_call *c);
void api_file_list(struct api_call *c); /* api_file.c */
void api_file_put(struct api_call *c);
void api_file_delete(struct api_call *c);
void api_evacuate_start(struct api_call *c);
void api_evacuate_cancel(struct api_call *c);
void api_poweroff(struct api_call *c);
void api_reboot(struct api_call *c);
void api_metrics(struct api_call *c); /* api_metrics.c */
void api_vm_list(struct api_call *c); /* api_vm.c */
void api_vm_show(struct api_call *c);
void api_vm_start(struct api_call *c);
void api_vm_stop(struct api_call *c);
void api_vm_pause(struct api_call *c);
void api_vm_shutdown(struct api_call *c);
void api_vm_reset(struct api_call *c);
void api_vm_set(struct api_call *c);
void api_vm_nmi(struct api_call *c);
void api_vm_resume(struct api_call *c);
void api_vm_save(struct api_call *c); /* api_save.c */
void api_vm_save_cancel(struct api_call *c);
void api_vm_restore(struct api_call *c);
void api_checkpoint_list(struct api_call *c);
void api_checkpoint_create(struct api_call *c);
void api_checkpoint_revert(struct api_call *c);
void api_checkpoint_delete(struct api_call *c);
void api_vm_inspect(struct api_call *c);
void api_vm_console_read(struct api_call *c);
void api_vm_console_write(struct api_call *c);
void api_vm_define(struct api_call *c); /* api_define.c */
void api_vm_undefine(struct api_call *c);
void api_vm_config(struct api_call *c);
void api_vm_disk_attach(struct api_call *c);
void api_vm_disk_detach(struct api_call *c);
void api_vm_nic_attach(struct api_call *c);
void api_vm_nic_detach(struct api_call *c);
void api_store_adopt(struct api_call *c);
void api_disk_move(struct api_call *c); /* api_move_disk.c */
void api_disk_move_cancel(struct api_call *c);
void api_migration_list(struct api_call *c); /* api_migration.c */
void api_migration_show(struct api_call *c);
void api_migration_start(struct api_call *c);
void api_migration_cancel(struct api_call *c);
void api_migration_set(struct api_call *c);
void api_migration_resolve(struct api_call *c);
void api_validate(struct api_call *c);
void api_job_list(struct api_call *c); /* jobs.c */
void api_job_show(struct api_call *c);
void api_disk_list(struct api_call *c); /* api_store.c */
void api_store_list(struct api_call *c);
void api_store_show(struct api_call *c);
void api_store_create(struct api_call *c);
void api_volume_list(struct api_call *c);
void api_volume_show(struct api_call *c);
void api_volume_create(struct api_call *c);
void api_volume_snapshot(struct api_call *c);
void api_volume_revert(struct api_call *c);
void api_volume_resize(struct api_call *c);
void api_volume_rename(struct api_call *c);
void api_volume_delete(struct api_call *c);

#endif
