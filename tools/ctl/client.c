/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/client.c - requests to a host: libcurl over OpenSSL.  A host is trusted by the fingerprint of its
 * certificate alone. */
#include "tools/ctl/ctl.h"

#include <curl/curl.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRIES         5 /* a host without a place for this client now; in all 3.75 s */
#define FIRST_WAIT_US 250000u
#define CONNECT_S     6L
#define ANSWER_S      20L
#define BODY_MAX      (1u << 20)
#define PAGES_MAX     64 /* of a list; a host has 256 guests at most */

static __thread struct check {   /* verification of the present connection; one at a time in each thread */
    const unsigned char *wanted; /* NULL: accept any */
    unsigned char seen[FP_LEN];
    bool asked, refused;
} check;

/* With --json the output is one document: the result, or else the last error.  A host without an answer is no error
 * while others answer. */
static json_t *last_error;
static json_t *host_errors; /* of a list: the last error of each host that is missing from it */
static bool hosts_asked, printed;

static void last_error_set(json_t *o)
{
    json_decref(last_error);
    last_error = o;
}

/* In printable ASCII: jansson leaves DEL as it is. */
static void json_out(const json_t *o)
{
    char *text = json_dumps(o, JSON_INDENT(2) | JSON_ENSURE_ASCII);
    for (const char *p = text; p && *p; p++)
        if (*p == 0x7f)
            fputs("\\u007f", stdout);
        else
            putchar(*p);
    putchar('\n');
    free(text);
}

void print_json_error(void)
{
    if (options.json && !printed && last_error)
        json_out(last_error);
    last_error_set(NULL);
    json_decref(host_errors);
}

bool errors_muted;

enum exit_code fail(enum exit_code code, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (!errors_muted)
        fprintf(stderr, "godwitctl: %s\n", text);
    last_error_set(json_pack("{s:{s:i,s:s}}", "error", "exit", (int)code, "message", text));
    return code;
}

void print_json(json_t *o)
{
    json_out(o);
    json_decref(o);
    printed = true;
}

json_t *json_text(const char *text, size_t len)
{
    char *copy = len ? malloc(len) : NULL;
    json_t *o = copy ? json_stringn(text, len) : json_string("");
    for (size_t i = 0; !o && i < len; i++)
        copy[i] = (unsigned char)text[i] < 128 ? text[i] : '?';
    o = o ? o : json_stringn(copy, len);
    free(copy);
    return o;
}

const char *get_str(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

uint64_t get_num(const json_t *o, const char *key) { return (uint64_t)json_integer_value(json_object_get(o, key)); }
bool get_bool(const json_t *o, const char *key) { return json_is_true(json_object_get(o, key)); }

/* ---- TLS ---- */

static int verify_certificate(X509_STORE_CTX *store, void *arg)
{
    (void)arg;
    unsigned n = 0;
    X509 *cert = X509_STORE_CTX_get0_cert(store);
    check.asked = cert && X509_digest(cert, EVP_sha256(), check.seen, &n) && n == FP_LEN;
    check.refused = !check.asked || (check.wanted && memcmp(check.wanted, check.seen, FP_LEN));
    X509_STORE_CTX_set_error(store, check.refused ? X509_V_ERR_CERT_UNTRUSTED : X509_V_OK);
    return !check.refused;
}

static CURLcode curl_on_ssl_ctx(CURL *curl, void *ctx, void *arg)
{
    (void)curl;
    SSL_CTX_set_cert_verify_callback(ctx, verify_certificate, arg);
    return CURLE_OK;
}

/* ---- bytes ---- */

static size_t curl_on_body(char *p, size_t size, size_t n, void *arg)
{
    struct answer *a = arg;
    char *grown = size * n > BODY_MAX - a->len ? NULL : realloc(a->text, a->len + size * n + 1);
    if (!grown)
        return 0;
    a->text = grown;
    memcpy(a->text + a->len, p, size * n);
    a->len += size * n;
    a->text[a->len] = 0;
    return size * n;
}

static size_t curl_on_header(char *p, size_t size, size_t n, void *arg)
{
    struct answer *a = arg;
    char line[256];
    snprintf(line, sizeof(line), "%.*s", (int)(size * n), p);
    sscanf(line, "Godwit-Console-Next: %lu", &a->console_next);
    sscanf(line, "Godwit-Console-Missed: %lu", &a->console_missed);
    sscanf(line, "Godwit-Job: %lu", &a->job);
    sscanf(line, "Godwit-Console-Run: %32s", a->console_run);
    sscanf(line, "Godwit-Vm-State: %15s", a->vm_state);
    sscanf(line, "Godwit-Source: %15s", a->config_source);
    sscanf(line, "Godwit-At-Next-Start: %3s", a->config_later);
    return size * n;
}

void answer_free(struct answer *a)
{
    json_decref(a->json);
    free(a->text);
    memset(a, 0, sizeof(*a));
}

static CURL *curl_for(struct host *h)
{
    CURL *c = h->curl;
    if (c) {
        curl_easy_reset(c); /* keeps the connection */
    } else {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        c = h->curl = curl_easy_init();
    }
    if (!c)
        return NULL;
    curl_easy_setopt(c, CURLOPT_SSLCERT, settings.cert);
    curl_easy_setopt(c, CURLOPT_SSLKEY, settings.key);
    curl_easy_setopt(c, CURLOPT_CAINFO, settings.cert); /* any will do: verify_certificate() decides alone */
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, curl_on_ssl_ctx);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, ANSWER_S);
    curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    return c;
}

void client_close(struct host *h)
{
    if (h->curl)
        curl_easy_cleanup(h->curl);
    h->curl = NULL;
}

void client_cleanup(void)
{
    for (unsigned i = 0; i < settings.n_hosts; i++)
        client_close(&settings.hosts[i]);
}

/* ---- what went wrong ---- */

static enum exit_code untrusted_host(const struct host *h)
{
    char seen[FP_TEXT_LEN], wanted[FP_TEXT_LEN];
    fingerprint_text(check.seen, seen);
    fingerprint_text(check.wanted, wanted);
    return fail(EXIT_UNTRUSTED,
                "%s: the host at %s:%u shows a certificate with fingerprint %s, not %s as in %s; if the "
                "certificate was replaced, correct the file",
                h->name, h->address, h->port, seen, wanted, settings.path);
}

static enum exit_code untrusted_client(const struct host *h)
{
    unsigned char fp[FP_LEN];
    char text[FP_TEXT_LEN];
    enum exit_code e = identity_fingerprint(fp);
    if (e)
        return e;
    fingerprint_text(fp, text);
    return fail(EXIT_UNTRUSTED,
                "%s: the host does not let this client in; its godwit.conf needs [client %s] with fingerprint = %s",
                h->name, settings.name, text);
}

static enum exit_code transport_error(const struct host *h, CURLcode rc, const char *text)
{
    if (check.asked && check.refused)
        return untrusted_host(h);
    if (rc == CURLE_SSL_CERTPROBLEM || rc == CURLE_SSL_ENGINE_SETFAILED)
        return fail(EXIT_CONFIG, "cannot use %s with %s: %s; `godwitctl key` makes both where there are none",
                    settings.cert, settings.key, text);
    if (check.asked && strstr(text, "alert")) /* how a host says that it does not know a client */
        return untrusted_client(h);
    if (check.asked)
        return fail(EXIT_UNREACHABLE, "%s: the host broke the connection off: %s; it may be busy: try again", h->name,
                    text);
    if (rc == CURLE_RECV_ERROR || rc == CURLE_SSL_CONNECT_ERROR)
        return fail(EXIT_UNREACHABLE,
                    "%s: %s:%u closed the connection at once: %s; is this its [host] api-port? A host "
                    "does so too when too many come from this address: try again",
                    h->name, h->address, h->port, text);
    return fail(EXIT_UNREACHABLE, "%s: no answer from %s:%u: %s; is the host on, and is this its [host] api-port?",
                h->name, h->address, h->port, text);
}

enum exit_code refused(const struct host *h, const char *code, const char *message, long status)
{
    if (!errors_muted)
        fprintf(stderr, "godwitctl: %s: %s (%s)\n", h->name, message, *code ? code : "no code");
    last_error_set(json_pack("{s:{s:i,s:s,s:s,s:s,s:i}}", "error", "exit", (int)EXIT_REFUSED, "host", h->name, "code",
                             code, "message", message, "status", (int)status));
    return EXIT_REFUSED;
}

const char *mistakes_file;

/* Report the host's refusal, with each mistake that it names. */
static enum exit_code host_error(const struct host *h, const struct answer *a)
{
    const char *message = get_str(a->json, "message");
    json_t *all = json_object_get(a->json, "mistakes"), *m;
    size_t i;
    enum exit_code e = refused(h, get_str(a->json, "code"), *message || !a->text ? message : a->text, a->status);
    json_array_foreach(all, i, m)
    {
        if (get_num(m, "line"))
            fprintf(stderr, "%s:%lu: %s\n", mistakes_file ? mistakes_file : "line", get_num(m, "line"),
                    get_str(m, "message"));
        else
            fprintf(stderr, "%s%s%s\n", mistakes_file ? mistakes_file : "", mistakes_file ? ": " : "",
                    get_str(m, "message"));
    }
    if (all)
        json_object_set(json_object_get(last_error, "error"), "mistakes", all);
    return e;
}

const char *refusal_code(void) { return get_str(json_object_get(last_error, "error"), "code"); }

/* ---- requests ---- */

/* out: gets the headers; the body as well, if it is where the write function puts it. */
static CURLcode perform(CURL *c, struct host *h, const char *path, struct answer *out, char error[CURL_ERROR_SIZE])
{
    char url[1024];
    snprintf(url, sizeof(url), "https://%s:%u%s", h->address, h->port, path);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, curl_on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, out);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error);
    error[0] = 0;
    check.asked = check.refused = false;
    CURLcode rc = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &out->status);
    return rc;
}

/* Perform until the host has a place for this client; at most TRIES times.  Nothing was carried out before that. */
static CURLcode perform_patiently(CURL *c, struct host *h, const char *path, struct answer *out,
                                  char error[CURL_ERROR_SIZE])
{
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, curl_on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, out);
    for (unsigned i = 0;; i++) {
        CURLcode rc = perform(c, h, path, out, error);
        bool broken = rc == CURLE_SSL_CONNECT_ERROR && check.asked && !check.refused && !strstr(error, "alert");
        if (i + 1 == TRIES || !(broken || (rc == CURLE_OK && out->status == 503)))
            return rc;
        answer_free(out);
        usleep(FIRST_WAIT_US << i);
    }
}

/* A request and what became of it. */
struct request {
    struct host *h;
    const char *method, *path;
    const void *raw;
    size_t len;
    bool bytes; /* see ask_console() */
    CURLcode rc;
    char error[CURL_ERROR_SIZE];
    struct check check;
    struct answer answer;
    pthread_t thread;
    bool has_thread;
};

static void answer_escape(struct request *r)
{
    struct answer *a = &r->answer;
    char *harmless = a->text ? text_escape(a->text, a->len, true) : NULL;
    json_escape(a->json);
    free(a->text);
    a->text = harmless;
    a->len = harmless ? strlen(harmless) : 0;
    harmless = text_escape(r->error, strlen(r->error), false);
    snprintf(r->error, sizeof(r->error), "%s", harmless);
    free(harmless);
}

/* Reports nothing.  Any thread. */
static void *request_perform(void *arg)
{
    struct request *r = arg;
    CURL *c = curl_for(r->h);
    r->rc = CURLE_FAILED_INIT;
    if (!c)
        return NULL;
    check.wanted = r->h->fingerprint;
    if (strcmp(r->method, "GET")) {
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)r->len);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->len ? r->raw : "");
    }
    r->rc = perform_patiently(c, r->h, r->path, &r->answer, r->error);
    r->check = check;
    char *type = NULL;
    curl_easy_getinfo(c, CURLINFO_CONTENT_TYPE, &type);
    if (r->rc == CURLE_OK && r->answer.text && type && !strncmp(type, "application/json", 16))
        r->answer.json = json_loadb(r->answer.text, r->answer.len, 0, NULL);
    if (!r->bytes || r->rc != CURLE_OK || r->answer.status >= 400)
        answer_escape(r);
    return NULL;
}

/* Report an error.  *out: empty then, else the answer. */
static enum exit_code request_result(struct request *r, struct answer *out)
{
    enum exit_code e = EXIT_GOOD;
    check = r->check;
    if (r->rc != CURLE_OK)
        e = transport_error(r->h, r->rc, *r->error ? r->error : curl_easy_strerror(r->rc));
    else if (r->answer.status >= 400)
        e = host_error(r->h, &r->answer);
    *out = r->answer;
    if (e)
        answer_free(out);
    return e;
}

enum exit_code ask_raw(struct host *h, const char *method, const char *path, const void *raw, size_t len,
                       struct answer *out)
{
    struct request r = { .h = h, .method = method, .path = path, .raw = raw, .len = len };
    request_perform(&r);
    return request_result(&r, out);
}

enum exit_code ask_console(struct host *h, const char *method, const char *path, const void *raw, size_t len,
                           struct answer *out)
{
    struct request r = { .h = h, .method = method, .path = path, .raw = raw, .len = len, .bytes = true };
    request_perform(&r);
    bool gone = r.rc == CURLE_OK && (r.answer.status == 404 || r.answer.status == 409);
    if (!gone)
        return request_result(&r, out);
    *out = r.answer;
    return EXIT_GOOD;
}

enum exit_code ask_bytes(struct host *h, const char *method, const char *path, struct answer *out)
{
    struct request r = { .h = h, .method = method, .path = path, .bytes = true };
    request_perform(&r);
    return request_result(&r, out);
}

enum exit_code ask(struct host *h, const char *method, const char *path, json_t *body, struct answer *out)
{
    char *raw = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    enum exit_code e = ask_raw(h, method, path, raw, raw ? strlen(raw) : 0, out);
    free(raw);
    return e;
}

/* ---- bodies and answers as streams ---- */

#define SILENT_S 60L /* a stream without a byte for so long is broken */

struct flow {
    CURL *curl;
    struct transfer *t;
    struct answer *answer;
};

static size_t curl_on_give(char *p, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    size_t given = t->give(t, p, size * n);
    return given ? given : CURL_READFUNC_ABORT;
}

static size_t curl_on_take(char *p, size_t size, size_t n, void *arg)
{
    struct flow *f = arg;
    long status = 0;
    curl_easy_getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 400 || !f->t->take)
        return curl_on_body(p, size, n, f->answer);
    curl_off_t length = 0;
    curl_easy_getinfo(f->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    f->t->answer_len = length > 0 ? (uint64_t)length : 0;
    return f->t->take(f->t, p, size * n) ? size * n : 0;
}

static int curl_on_tick(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct transfer *t = arg;
    (void)a, (void)b, (void)c, (void)d;
    return !t->tick(t);
}

static void transfer_set_up(CURL *c, const char *method, struct transfer *t, struct flow *f, struct curl_slist *headers)
{
    if (!strcmp(method, "PUT")) {
        curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->len);
        curl_easy_setopt(c, CURLOPT_READFUNCTION, curl_on_give);
        curl_easy_setopt(c, CURLOPT_READDATA, t);
        curl_easy_setopt(c, CURLOPT_EXPECT_100_TIMEOUT_MS, 5000L);
    }
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, 0L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, SILENT_S);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, curl_on_tick);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, curl_on_take);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, f);
}

static bool curl_broke(CURLcode rc, const char *error)
{
    return rc == CURLE_SEND_ERROR || rc == CURLE_RECV_ERROR || rc == CURLE_PARTIAL_FILE || rc == CURLE_GOT_NOTHING ||
           rc == CURLE_OPERATION_TIMEDOUT || rc == CURLE_COULDNT_CONNECT ||
           (rc == CURLE_SSL_CONNECT_ERROR && !check.refused && !strstr(error, "alert"));
}

enum exit_code ask_transfer(struct host *h, const char *method, const char *path, struct transfer *t,
                            struct answer *out)
{
    struct request r = { .h = h, .method = method, .path = path };
    CURL *c = curl_for(h);
    if (!c)
        return fail(EXIT_CONFIG, "libcurl cannot be used");
    struct flow f = { c, t, &r.answer };
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/octet-stream");
    headers = t->range ? curl_slist_append(headers, t->range) : headers;
    transfer_set_up(c, method, t, &f, headers);
    check.wanted = h->fingerprint;
    r.rc = perform(c, h, path, &r.answer, r.error);
    r.check = check;
    curl_slist_free_all(headers);
    t->broken = curl_broke(r.rc, r.error);
    if (t->broken || r.rc == CURLE_ABORTED_BY_CALLBACK || r.rc == CURLE_WRITE_ERROR) {
        client_close(h);
        answer_free(&r.answer);
        *out = (struct answer){ 0 };
        return EXIT_UNREACHABLE; /* the caller knows why, or tries again */
    }
    if (r.answer.text)
        r.answer.json = json_loadb(r.answer.text, r.answer.len, 0, NULL);
    answer_escape(&r);
    return request_result(&r, out);
}

enum exit_code ask_fingerprint(struct host *h, unsigned char out[FP_LEN])
{
    char error[CURL_ERROR_SIZE];
    struct answer a = { 0 };
    CURL *c = curl_for(h);
    if (!c)
        return fail(EXIT_CONFIG, "libcurl cannot be used");
    check.wanted = NULL;
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, curl_on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &a);
    CURLcode rc = perform(c, h, "/v1", &a, error);
    bool godwit = a.text && strstr(a.text, "/v1/migrations");
    answer_free(&a);
    if (!check.asked)
        return transport_error(h, rc, *error ? error : curl_easy_strerror(rc));
    if (rc == CURLE_OK && !godwit)
        return fail(EXIT_UNREACHABLE,
                    "%s: what answers at %s:%u is no Godwit host; is this its address and [host] api-port?", h->name,
                    h->address, h->port);
    memcpy(out, check.seen, FP_LEN);
    return rc == CURLE_OK ? EXIT_GOOD : EXIT_UNTRUSTED;
}

/* ---- which host ---- */

static bool host_is_meant(const struct host *h) { return !options.host || !strcmp(options.host, h->name); }

enum exit_code hosts_check(void)
{
    if (options.host && !config_host(options.host))
        return fail(EXIT_CONFIG, "no host is named %s in %s; `godwitctl host add %s ADDRESS` adds it", options.host,
                    settings.path, options.host);
    if (!settings.n_hosts)
        return fail(EXIT_CONFIG, "%s names no hosts; `godwitctl host add NAME ADDRESS` adds one", settings.path);
    hosts_asked = true;
    return EXIT_GOOD;
}

void host_error_note(const struct host *h)
{
    json_t *o = json_copy(json_object_get(last_error, "error"));
    json_object_set_new(o, "host", json_string(h->name));
    host_errors = host_errors ? host_errors : json_array();
    json_array_append_new(host_errors, o);
}

enum exit_code each_host(const char *path, each_answer_fn *each, void *ctx)
{
    static struct request requests[HOSTS_MAX];
    enum exit_code first = hosts_check();
    if (first)
        return first;
    curl_global_init(CURL_GLOBAL_DEFAULT); /* before there are threads */
    memset(requests, 0, sizeof(requests));
    for (unsigned i = 0; i < settings.n_hosts; i++) {
        struct request *r = &requests[i];
        *r = (struct request){ .h = &settings.hosts[i], .method = "GET", .path = path };
        if (host_is_meant(r->h))
            r->has_thread = !pthread_create(&r->thread, NULL, request_perform, r);
    }
    for (unsigned i = 0; i < settings.n_hosts; i++) {
        struct request *r = &requests[i];
        struct answer a;
        if (!host_is_meant(r->h))
            continue;
        if (r->has_thread)
            pthread_join(r->thread, NULL);
        else
            request_perform(r);
        enum exit_code e = request_result(r, &a);
        e = each(r->h, e, &a, ctx);
        answer_free(&a);
        if (e)
            host_error_note(r->h);
        first = first ? first : e;
    }
    return first;
}

struct items {
    const char *path, *key;
    enum exit_code (*each)(struct host *h, json_t *item, void *ctx);
    void *ctx;
};

static enum exit_code items_of_host(struct host *h, enum exit_code first, struct answer *a, void *ctx)
{
    const struct items *list = ctx;
    char path[PATH_MAX];
    for (unsigned pages = 1;; pages++) {
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(a->json, list->key), i, item)
        {
            json_object_set_new(item, "host", json_string(h->name));
            enum exit_code e = list->each(h, item, list->ctx);
            first = first ? first : e;
        }
        const char *next = get_str(a->json, "next"); /* names need no escapes */
        if (first || !*next || pages == PAGES_MAX)
            return first;
        snprintf(path, sizeof(path), "%s?after=%s", list->path, next);
        answer_free(a);
        first = ask(h, "GET", path, NULL, a);
    }
}

enum exit_code each_item(const char *path, const char *key,
                         enum exit_code (*each)(struct host *h, json_t *item, void *ctx), void *ctx)
{
    return each_host(path, items_of_host, &(struct items){ path, key, each, ctx });
}

void print_list(const char *key, json_t *all)
{
    if (options.json && hosts_asked)
        print_json(json_pack("{s:o,s:o}", key, all, "errors", host_errors ? json_incref(host_errors) : json_array()));
    else
        json_decref(all);
}

enum exit_code one_host(struct host **out)
{
    if (!options.host && settings.n_hosts > 1)
        return fail(EXIT_USAGE, "which host?  Add --host NAME; `godwitctl host list` shows them");
    enum exit_code e = hosts_check();
    for (unsigned i = 0; !e && i < settings.n_hosts; i++)
        if (host_is_meant(&settings.hosts[i]))
            *out = &settings.hosts[i];
    return e;
}
