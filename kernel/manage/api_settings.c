/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_settings.c - /v1/peers, /v1/clients and /v1/host/set.  What they do is in settings.c. */
#include <stdio.h>
#include <string.h>
#include "kernel/manage/api_call.h"
#include "kernel/manage/settings.h"

#define ADDRESSES_LEN (CONFIG_MAX_ADDRESSES * 17)
#define FP_TEXT_LEN   (3 * 32 + 1)

/* The body's string field key; otherwise without it.  False: it is unusable, and the answer says so. */
static bool take_str(struct api_call *c, const char *key, char *out, size_t cap, const char *otherwise)
{
    enum hv_err e = json_get_str(&c->in, key, out, cap);
    if (e == HV_E_NOENT)
        snprintf(out, cap, "%s", otherwise);
    else if (e)
        api_fail(c, HV_E_INVAL, 0, "the field \"%s\" must be a string of at most %u bytes", key, (unsigned)cap - 1);
    return !e || e == HV_E_NOENT;
}

static bool is_sure(const struct api_call *c) { return http_query_num(c->http, "sure", 0) != 0; }

void api_host_set(struct api_call *c)
{
    char key[32], value[SETTINGS_VALUE], message[480];
    if (!api_need_str(c, "key", key, sizeof(key)) || !api_need_str(c, "value", value, sizeof(value)))
        return;
    enum hv_err e = settings_host_set(key, value, c->by, WHY(message));
    api_result(c, e, message);
}

static void put_listed(struct json *j, const struct peer_config *p)
{
    char fp[65];
    for (unsigned i = 0; i < 32; i++)
        snprintf(fp + 2 * i, 3, "%02x", p->fingerprint[i]);
    json_object(j, NULL);
    json_str(j, "name", p->name);
    if (p->trust == TRUST_PEER) {
        json_array(j, "addresses");
        for (unsigned i = 0; i <= p->n_other_ips; i++) {
            const uint8_t *ip = i ? p->other_ip[i - 1] : p->ip;
            json_fmt(j, NULL, "%u.%u.%u.%u", ip[0], ip[1], ip[2], ip[3]);
        }
        json_end(j);
        json_num(j, "port", p->port);
    } else {
        json_str(j, "role", p->trust == TRUST_OPERATE ? "operate" : "read");
    }
    json_str(j, "fingerprint", fp);
    json_str(j, "from", p->later ? "later" : "file");
    json_end(j);
}

static void put_list(struct json *j, const char *key, const struct peer_config *list, unsigned n)
{
    json_object(j, NULL);
    json_array(j, key);
    for (unsigned i = 0; i < n; i++)
        if (!list[i].removed)
            put_listed(j, &list[i]);
    json_end(j);
    json_end(j);
}

void api_peer_list(struct api_call *c) { put_list(&c->out, "peers", host_config->peers, host_config->n_peers); }
void api_client_list(struct api_call *c) { put_list(&c->out, "clients", host_config->clients, host_config->n_clients); }

void api_peer_add(struct api_call *c)
{
    char name[CONFIG_NAME_LEN], address[ADDRESSES_LEN], fp[FP_TEXT_LEN], message[480];
    uint64_t port = 0;
    if (!api_need_str(c, "name", name, sizeof(name)) || !api_need_str(c, "address", address, sizeof(address)) ||
        !api_need_str(c, "fingerprint", fp, sizeof(fp)))
        return;
    if (json_get_num(&c->in, "port", 65535, &port) == HV_E_INVAL) {
        api_fail(c, HV_E_INVAL, 0, "the field \"port\" must be a number up to 65535");
        return;
    }
    enum hv_err e = settings_peer_add(name, address, (unsigned)port, fp, c->by, WHY(message));
    api_result(c, e, message);
}

void api_peer_remove(struct api_call *c)
{
    char message[480];
    enum hv_err e = settings_peer_remove(c->arg, c->by, WHY(message));
    api_result(c, e, message);
}

void api_client_add(struct api_call *c)
{
    char name[CONFIG_NAME_LEN], role[16], fp[FP_TEXT_LEN], message[480];
    if (!api_need_str(c, "name", name, sizeof(name)) || !api_need_str(c, "fingerprint", fp, sizeof(fp)) ||
        !take_str(c, "role", role, sizeof(role), "read"))
        return;
    enum hv_err e = settings_client_add(name, fp, role, is_sure(c), c->by, WHY(message));
    api_result(c, e, message);
}

void api_client_remove(struct api_call *c)
{
    char message[480];
    enum hv_err e = settings_client_remove(c->arg, is_sure(c), c->by, WHY(message));
    api_result(c, e, message);
}
