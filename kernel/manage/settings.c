/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/settings.c - values of [host], peers and clients that change while the host runs.
 *
 * A change is made in this order: write down what would be set (settings_text), have the parser of godwit.conf read it,
 * and only if it finds no mistake take it over.  So a value is right or wrong by the same rule as in the file.
 *
 * The configuration is changed in place, by the rule at host_config (config.h): elements of lists never move.  Here are
 * the only functions that do so. */
#include "kernel/manage/settings.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/lib/text.h"
#include "kernel/peers/migration.h"
#include "kernel/store/registry.h"
#include "net/net.h"

#define TEXT_MAX 32768u
#define ENTRY    "settings"
#define KEYS_LIVE                                                                     \
    "incoming, outgoing, networks, bandwidth-limit-mb, downtime-limit-ms, max-jobs, " \
    "max-storage-jobs, verify, lz4"

static void show_bool(bool v, char *out) { snprintf(out, SETTINGS_VALUE, "%s", v ? "yes" : "no"); }
static void show_num(unsigned v, char *out) { snprintf(out, SETTINGS_VALUE, "%u", v); }
static void show_incoming(const struct host_config *h, char *out) { show_bool(h->incoming, out); }
static void show_outgoing(const struct host_config *h, char *out) { show_bool(h->outgoing, out); }
static void show_bandwidth(const struct host_config *h, char *out) { show_num(h->bandwidth_limit_mb, out); }
static void show_downtime(const struct host_config *h, char *out) { show_num(h->downtime_limit_ms, out); }
static void show_max_jobs(const struct host_config *h, char *out) { show_num(h->max_jobs, out); }
static void show_max_storage_jobs(const struct host_config *h, char *out) { show_num(h->max_storage_jobs, out); }
static void show_verify(const struct host_config *h, char *out) { show_bool(h->verify, out); }
static void show_lz4(const struct host_config *h, char *out) { show_bool(h->lz4, out); }
static void show_networks(const struct host_config *h, char *out)
{
    struct text t = { .buf = out, .cap = SETTINGS_VALUE - 1 };
    for (unsigned i = 0; i < h->n_networks; i++) {
        const uint8_t *ip = h->networks[i].ip;
        text_printf(&t, "%s%u.%u.%u.%u/%u", i ? ", " : "", ip[0], ip[1], ip[2], ip[3], h->networks[i].prefix_len);
    }
    out[t.len] = 0;
}

static struct live { /* a key of [host] that may change */
    const char *name;
    void (*show)(const struct host_config *h, char out[SETTINGS_VALUE]);
    char value[SETTINGS_VALUE]; /* as it was set; "": not */
} live[] = {
    { "incoming", show_incoming, "" },
    { "outgoing", show_outgoing, "" },
    { "networks", show_networks, "" },
    { "bandwidth-limit-mb", show_bandwidth, "" },
    { "downtime-limit-ms", show_downtime, "" },
    { "max-jobs", show_max_jobs, "" },
    { "max-storage-jobs", show_max_storage_jobs, "" },
    { "verify", show_verify, "" },
    { "lz4", show_lz4, "" },
};
_Static_assert(CONFIG_MAX_NETWORKS * sizeof("255.255.255.255/32, ") <= SETTINGS_VALUE + 8, "networks fit");

static struct config *conf;          /* [c] borrowed: host_config */
static struct host_config file_host; /* [c] as godwit.conf has it */
static uint8_t own[32];              /* [c] this host's fingerprint; 0: none */
static uint64_t epoch;               /* of the registry that was applied last */

/* ---- as text ---- */

static void text_fingerprint(struct text *t, const uint8_t fp[32])
{
    text_printf(t, "fingerprint = ");
    for (unsigned i = 0; i < 32; i++)
        text_printf(t, "%02x", fp[i]);
    text_printf(t, "\n");
}

static void text_addresses(struct text *t, const struct peer_config *p)
{
    for (unsigned i = 0; i <= p->n_other_ips; i++) {
        const uint8_t *ip = i ? p->other_ip[i - 1] : p->ip;
        text_printf(t, "%s%u.%u.%u.%u", i ? ", " : "", ip[0], ip[1], ip[2], ip[3]);
    }
}

/* The section of a peer or client that was set later. */
static void text_peer(struct text *t, const struct peer_config *p)
{
    bool peer = p->trust == TRUST_PEER;
    if (!p->later)
        return;
    text_printf(t, "[%s %s]\n", peer ? "peer" : "client", p->name);
    if (p->removed) {
        text_printf(t, "removed = yes\n");
        return;
    }
    if (peer) {
        text_printf(t, "address = ");
        text_addresses(t, p);
        text_printf(t, "\nport = %u\n", p->port);
    } else
        text_printf(t, "role = %s\n", p->trust == TRUST_OPERATE ? "operate" : "read");
    text_fingerprint(t, p->fingerprint);
}

static void text_host(struct text *t)
{
    text_printf(t, "[host]\n");
    for (unsigned i = 0; i < ARRAY_SIZE(live); i++)
        if (live[i].value[0])
            text_printf(t, "%s = %s\n", live[i].name, live[i].value);
}

/* Put all that was set into the registry, and append to why if it is not kept. */
static void settings_keep(struct why *why)
{
    char reason[200];
    struct text t = { .buf = mem_alloc(TEXT_MAX), .cap = TEXT_MAX };
    enum hv_err e = t.buf ? HV_OK : HV_E_NOMEM;
    snprintf(reason, sizeof(reason), "no memory");
    if (!e) {
        text_host(&t);
        for (unsigned i = 0; i < conf->n_peers; i++)
            text_peer(&t, &conf->peers[i]);
        for (unsigned i = 0; i < conf->n_clients; i++)
            text_peer(&t, &conf->clients[i]);
        ASSERT(!t.overflow);
        e = registry_put(ENTRY, t.buf, t.len, WHY(reason));
    }
    mem_free(t.buf, TEXT_MAX);
    if (e == HV_E_UNSUPP)
        why_more(why, "; it holds until this host's next start, for it has no store with a registry");
    else if (e)
        why_more(why, "; it is not kept, and holds until this host's next start: %s", reason);
}

/* ---- reading ---- */

struct mistake {
    char text[200];
};

static void mistake_take(void *ctx, unsigned line, const char *section, const char *key, const char *expected)
{
    struct mistake *m = ctx;
    (void)line, (void)section;
    if (!m->text[0])
        snprintf(m->text, sizeof(m->text), "%s%sexpected: %s", key, *key ? ": " : "", expected);
}

/* Parse text over the host of godwit.conf.  NULL: no memory, or a mistake, which why has. */
static struct config *settings_parse(const char *text, size_t len, struct why *why)
{
    struct mistake m = { "" };
    struct config *c = mem_alloc(sizeof(*c));
    if (!c) {
        why_say(why, "no memory to read what is set");
        return NULL;
    }
    config_parse_later(text, len, &file_host, c, mistake_take, &m);
    if (!c->n_errors)
        return c;
    why_say(why, "%s", m.text);
    mem_free(c, sizeof(*c));
    return NULL;
}

static struct peer_config *list_find(struct peer_config *list, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(list[i].name, name))
            return &list[i];
    return NULL;
}

/* Take p over: into its element of the list, or a new one.  False: the list is full. */
static bool list_take(struct peer_config *list, unsigned *n, unsigned max, const struct peer_config *p)
{
    struct peer_config *to = list_find(list, *n, p->name);
    if (!to && p->removed)
        return true; /* godwit.conf does not name it any more */
    if (!to && *n == max)
        return false;
    to = to ? to : &list[*n];
    *to = *p;
    to->later = true;
    if (to == &list[*n])
        ++*n; /* last: who goes through the list meets a whole element */
    return true;
}

static bool peer_take(const struct peer_config *p)
{
    return p->trust == TRUST_PEER ? list_take(conf->peers, &conf->n_peers, CONFIG_MAX_PEERS, p)
                                  : list_take(conf->clients, &conf->n_clients, CONFIG_MAX_CLIENTS, p);
}

/* The values of [host] that were set, from their text. */
static void live_take(const char *text)
{
    for (unsigned i = 0; i < ARRAY_SIZE(live); i++) {
        char begin[40];
        snprintf(begin, sizeof(begin), "\n%s = ", live[i].name);
        const char *at = strstr(text, begin);
        size_t n = at ? strcspn(at + strlen(begin), "\n") : 0;
        snprintf(live[i].value, SETTINGS_VALUE, "%.*s", (int)n, at ? at + strlen(begin) : "");
    }
}

static void settings_load(void)
{
    char reason[240];
    size_t len;
    const char *text = registry_get(ENTRY, &len);
    epoch = registry_epoch();
    if (!text)
        return;
    struct config *c = settings_parse(text, len, WHY(reason));
    if (!c) {
        log_error("config", "the registry's settings are not used: %s", reason);
        return;
    }
    live_take(text);
    conf->host = c->host;
    for (unsigned i = 0; i < c->n_peers; i++)
        if (!peer_take(&c->peers[i]))
            log_error("config", "[peer %s] of the registry is left out: the list is full", c->peers[i].name);
    for (unsigned i = 0; i < c->n_clients; i++)
        if (!peer_take(&c->clients[i]))
            log_error("config", "[client %s] of the registry is left out: the list is full", c->clients[i].name);
    log_info("config", "the registry's settings are used: %u peer(s), %u client(s)", c->n_peers, c->n_clients);
    mem_free(c, sizeof(*c));
}

void settings_init(struct config *c, const uint8_t *fingerprint)
{
    ASSERT(c == host_config && !conf);
    conf = c;
    file_host = c->host;
    if (fingerprint)
        memcpy(own, fingerprint, sizeof(own));
    settings_load();
}

void settings_step(void)
{
    if (epoch != registry_epoch())
        settings_load();
}

/* ---- [host] ---- */

enum hv_err settings_host_set(const char *key, const char *value, const char *by, struct why *why)
{
    char text[ARRAY_SIZE(live) * (SETTINGS_VALUE + 32)], before[SETTINGS_VALUE];
    struct text t = { .buf = text, .cap = sizeof(text) };
    struct live *k = live;
    while (k < live + ARRAY_SIZE(live) && strcmp(k->name, key))
        k++;
    if (k == live + ARRAY_SIZE(live))
        return REFUSE(HV_E_INVAL, "%s cannot be set while the host runs; " KEYS_LIVE " can", key);
    if (!*value || strlen(value) >= SETTINGS_VALUE || strpbrk(value, "\r\n;#"))
        return REFUSE(HV_E_INVAL, "%s: a value of 1 to %u characters is expected", key, SETTINGS_VALUE - 1);
    memcpy(before, k->value, sizeof(before));
    snprintf(k->value, sizeof(k->value), "%s", strcmp(value, "default") ? value : "");
    text_host(&t);
    struct config *c = settings_parse(text, t.len, why);
    if (!c) {
        memcpy(k->value, before, sizeof(before));
        return HV_E_INVAL;
    }
    conf->host = c->host;
    mem_free(c, sizeof(*c));
    k->show(&conf->host, before);
    log_info("config", "[host] %s = %s, set by %s", key, before, by);
    why_say(why, "%s = %s", key, before);
    settings_keep(why);
    return HV_OK;
}

/* ---- peers and clients ---- */

/* Another element with that fingerprint. */
static const struct peer_config *list_fingerprint(const struct peer_config *list, unsigned n,
                                                  const struct peer_config *p)
{
    for (unsigned i = 0; i < n; i++)
        if (!list[i].removed && strcmp(list[i].name, p->name) != 0 &&
            !memcmp(list[i].fingerprint, p->fingerprint, sizeof(p->fingerprint)))
            return &list[i];
    return NULL;
}

static enum hv_err listed_add(const struct peer_config *p, const char *by, struct why *why)
{
    bool peer = p->trust == TRUST_PEER;
    const char *kind = peer ? "peer" : "client";
    const struct peer_config *other =
        list_fingerprint(peer ? conf->peers : conf->clients, peer ? conf->n_peers : conf->n_clients, p);
    if (other)
        return REFUSE(HV_E_EXIST, "%s %s has that fingerprint already", kind, other->name);
    if (peer && (!memcmp(p->fingerprint, own, sizeof(own)) || !strcmp(p->name, conf->host.name)))
        return REFUSE(HV_E_EXIST, "%s is this host itself", p->name);
    if (!peer_take(p))
        return REFUSE(HV_E_NOMEM,
                      "this host has %u %ss already, removed ones included until its next start, which is "
                      "its limit",
                      peer ? CONFIG_MAX_PEERS : CONFIG_MAX_CLIENTS, kind);
    log_info("config", "[%s %s] set by %s", kind, p->name, by);
    why_say(why, "%s is a %s of %s", p->name, kind, conf->host.name);
    settings_keep(why);
    return HV_OK;
}

/* Parse one section, and add what it says. */
static enum hv_err section_add(const char *text, const char *by, struct why *why)
{
    struct config *c = settings_parse(text, strlen(text), why);
    if (!c)
        return HV_E_INVAL;
    ASSERT(c->n_peers + c->n_clients == 1);
    enum hv_err e = listed_add(c->n_peers ? &c->peers[0] : &c->clients[0], by, why);
    mem_free(c, sizeof(*c));
    return e;
}

/* Text of a client that becomes part of a section. */
static bool is_one_line(const char *s) { return !strpbrk(s, "\r\n];[#"); }

enum hv_err settings_peer_add(const char *name, const char *address, unsigned port, const char *fingerprint,
                              const char *by, struct why *why)
{
    char section[512];
    if (!is_one_line(name) || !is_one_line(address) || !is_one_line(fingerprint))
        return REFUSE(HV_E_INVAL, "name, address and fingerprint have no line ends, brackets, ';' and '#'");
    snprintf(section, sizeof(section), "[peer %s]\naddress = %s\nport = %u\nfingerprint = %s\n", name, address,
             port ? port : CONFIG_DEFAULT_PORT, fingerprint);
    return section_add(section, by, why);
}

static void peer_clear(struct peer_config *p, const char *by, struct why *why)
{
    const char *kind = p->trust == TRUST_PEER ? "peer" : "client";
    p->removed = p->later = true;
    memset(p->fingerprint, 0, sizeof(p->fingerprint));
    memset(p->ip, 0, sizeof(p->ip));
    p->n_other_ips = 0;
    log_info("config", "[%s %s] removed by %s", kind, p->name, by);
    why_say(why, "%s is no %s of %s any more", p->name, kind, conf->host.name);
    settings_keep(why);
}

enum hv_err settings_peer_remove(const char *name, const char *by, struct why *why)
{
    struct peer_config *p = list_find(conf->peers, conf->n_peers, name);
    const struct job *j;
    if (!p || p->removed)
        return REFUSE(HV_E_NOENT, "no peer is named %s", name);
    for (unsigned i = 0; (j = migration_job(i)); i++)
        if (!migration_job_over(j) && !strcmp(j->peer, name))
            return REFUSE(HV_E_BUSY, "%s moves to %s; wait, or cancel that first", j->guest, name);
    if (migration_counts().arriving)
        return REFUSE(HV_E_BUSY, "a guest arrives here; wait until it is here, or stop it");
    peer_clear(p, by, why);
    return HV_OK;
}

/* Is name the last client that may operate this host? */
static bool client_is_last(const char *name)
{
    unsigned others = 0, self = 0;
    for (unsigned i = 0; i < conf->n_clients; i++) {
        const struct peer_config *c = &conf->clients[i];
        bool operates = !c->removed && c->trust == TRUST_OPERATE, named = !strcmp(c->name, name);
        others += operates && !named;
        self += operates && named;
    }
    return self && !others;
}

static enum hv_err client_check_last(const char *name, bool sure, struct why *why)
{
    if (sure || !client_is_last(name))
        return HV_OK;
    return REFUSE(HV_E_AGAIN,
                  "%s is the last client that may operate this host; without it only the console can. Say that "
                  "you are sure, or add another one first",
                  name);
}

enum hv_err settings_client_add(const char *name, const char *fingerprint, const char *role, bool sure, const char *by,
                                struct why *why)
{
    char section[512];
    if (!is_one_line(name) || !is_one_line(role) || !is_one_line(fingerprint))
        return REFUSE(HV_E_INVAL, "name, role and fingerprint have no line ends, brackets, ';' and '#'");
    enum hv_err e = strcmp(role, "operate") ? client_check_last(name, sure, why) : HV_OK;
    if (e)
        return e;
    snprintf(section, sizeof(section), "[client %s]\nfingerprint = %s\nrole = %s\n", name, fingerprint, role);
    return section_add(section, by, why);
}

enum hv_err settings_client_remove(const char *name, bool sure, const char *by, struct why *why)
{
    struct peer_config *p = list_find(conf->clients, conf->n_clients, name);
    if (!p || p->removed)
        return REFUSE(HV_E_NOENT, "no client is named %s", name);
    enum hv_err e = client_check_last(name, sure, why);
    if (!e)
        peer_clear(p, by, why);
    return e;
}

/* ---- in the management interface ---- */

void settings_put(struct json *j)
{
    char file[SETTINGS_VALUE], now[SETTINGS_VALUE];
    uint8_t ip[4];
    struct text fp = { .buf = now, .cap = sizeof(now) - 1 };
    if (net_address(ip))
        json_fmt(j, "address", "%u.%u.%u.%u", ip[0], ip[1], ip[2], ip[3]);
    json_num(j, "port", conf->host.port);
    for (unsigned i = 0; i < sizeof(own); i++)
        text_printf(&fp, "%02x", own[i]);
    now[fp.len] = 0;
    json_str(j, "fingerprint", now);
    json_array(j, "settings");
    for (unsigned i = 0; i < ARRAY_SIZE(live); i++) {
        live[i].show(&file_host, file);
        live[i].show(&conf->host, now);
        json_object(j, NULL);
        json_str(j, "key", live[i].name);
        json_str(j, "file", file);
        json_str(j, "now", now);
        json_bool(j, "later", live[i].value[0] != 0);
        json_end(j);
    }
    json_end(j);
}
