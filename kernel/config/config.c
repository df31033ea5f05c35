/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/config/config.c - parser of \godwit\godwit.conf: lines, sections, and what a section lacks.
 *
 * Invariant: the section being read is the last one in its array.  So an incomplete [vm] or [peer] is dropped at its
 * end by counting one back.  A section that cannot be used (unknown, twice, one too many) is read as SEC_IGNORED: one
 * mistake is one message.  Not here: what each key takes (config_keys.c), and whether the values fit this host. */
#include "kernel/config/config_impl.h"

#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"

const struct config *host_config;

_Static_assert(LINE_MAX_LEN > CONFIG_CMDLINE_LEN + sizeof("cmdline = "), "a line holds the longest value");
_Static_assert(CONFIG_MAX_VMS == 256 && CONFIG_MAX_PEERS == 64 && CONFIG_MAX_CLIENTS == 64, "messages below");

static void mistake_report(struct parser *p, unsigned line, const char *key, const char *expected)
{
    p->c->n_errors++;
    if (p->on_error)
        p->on_error(p->ctx, line, p->section_text, key, expected);
}

void config_mistake_text(char out[CONFIG_MISTAKE_LEN], unsigned line, const char *section, const char *key,
                         const char *expected)
{
    bool known = *section || *key;
    snprintf(out, CONFIG_MISTAKE_LEN, "\\godwit\\godwit.conf:%u: %s%s%s%s%sexpected: %s", line, *section ? "[" : "",
             section, *section ? *key ? "] " : "]" : "", key, known ? ": " : "", expected);
}

/* ---- sections ---------------------------------------------------------------------------------------------------- */

static void host_defaults(struct host_config *h)
{
    memset(h, 0, sizeof(*h));
    memcpy(h->name, "godwit", sizeof("godwit"));
    h->dhcp = true;
    h->port = CONFIG_DEFAULT_PORT;
    h->api_port = CONFIG_DEFAULT_API_PORT;
    memcpy(h->key, "host.key", sizeof("host.key"));
    memcpy(h->cert, "host.crt", sizeof("host.crt"));
    memcpy(h->pool_cpuid, "pool-cpuid.txt", sizeof("pool-cpuid.txt"));
    h->incoming = h->outgoing = true;
    h->downtime_limit_ms = 300;
    h->max_jobs = 2;
    h->max_storage_jobs = 2;
    h->guest_cpus = UINT64_MAX;
    h->dirty_mech = DIRTY_AUTO;
    h->lz4 = true;
}

static uint32_t name_hash(uint32_t h, uint8_t byte) { return (h ^ byte) * 16777619u; }

/* 02 = locally administered; "GW"; 24 bits of FNV-1a over the name, and from the second card on '#' and its number. */
void config_mac_default(const char *s, unsigned i, uint8_t mac[6])
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = name_hash(h, (uint8_t)*s);
    if (i)
        h = name_hash(name_hash(h, '#'), (uint8_t)i);
    const uint8_t m[6] = { 0x02, 'G', 'W', (uint8_t)(h >> 16), (uint8_t)(h >> 8), (uint8_t)h };
    memcpy(mac, m, 6);
}

static void vm_defaults(struct vm_config *v, const char *vm_name)
{
    memset(v, 0, sizeof(*v));
    memcpy(v->name, vm_name, CONFIG_NAME_LEN);
    v->n_cpus = 1;
    memcpy(v->cpu, "host", sizeof("host"));
    v->pin = -1;
    v->rng = v->balloon = true;
    v->start_order = CONFIG_START_ORDER_DEFAULT;
    for (unsigned i = 0; i < CONFIG_MAX_NICS; i++)
        config_mac_default(vm_name, i, v->nic[i].mac);
}

static struct vm_config *vm_find(struct config *c, const char *vm_name)
{
    for (unsigned i = 0; i < c->n_vms; i++)
        if (!strcmp(c->vms[i].name, vm_name))
            return &c->vms[i];
    return NULL;
}

static struct peer_config *peer_find(struct peer_config *list, unsigned n, const char *wanted)
{
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(list[i].name, wanted))
            return &list[i];
    return NULL;
}

bool config_network_has(const struct config_network *n, const uint8_t ip[4])
{
    unsigned bit = 0;
    ASSERT(n->prefix_len <= 32);
    while (bit < n->prefix_len && !((n->ip[bit / 8] ^ ip[bit / 8]) & (0x80 >> bit % 8)))
        bit++;
    return bit == n->prefix_len;
}

static bool vm_disk_is_on(const struct vm_config *v, const uint8_t ip[4])
{
    for (unsigned i = 0; i < v->n_disks; i++)
        if (v->disk[i].kind == DISK_ON_NBD && !memcmp(v->disk[i].nbd.ip, ip, 4))
            return true;
    return false;
}

bool config_disk_server_allowed(const struct config *c, const uint8_t ip[4])
{
    for (unsigned i = 0; i < c->host.n_disk_servers; i++)
        if (config_network_has(&c->host.disk_servers[i], ip))
            return true;
    for (unsigned i = 0; i < c->n_vms; i++)
        if (vm_disk_is_on(&c->vms[i], ip))
            return true;
    return false;
}

int config_network_rank(const struct config *c, const uint8_t ip[4])
{
    for (unsigned i = 0; i < c->host.n_networks; i++)
        if (config_network_has(&c->host.networks[i], ip))
            return (int)i;
    return c->host.n_networks ? -1 : 0;
}

const struct peer_config *config_peer(const struct config *c, const char *peer_name)
{
    const struct peer_config *p = peer_find((struct peer_config *)(uintptr_t)c->peers, c->n_peers, peer_name);
    return p && !p->removed ? p : NULL;
}

/* Why is p this host itself?  NULL: it is another host. */
static const char *self_reason(const struct config *c, const struct peer_config *p, const uint8_t fingerprint[32])
{
    if (!memcmp(p->fingerprint, fingerprint, sizeof(p->fingerprint)))
        return "it has this host's fingerprint";
    if (c->host.named && !strcmp(p->name, c->host.name))
        return "it has this host's name, but another fingerprint: correct that one";
    if (!c->host.dhcp && p->port == c->host.port && !memcmp(p->ip, c->host.ip, sizeof(p->ip)))
        return "it has this host's address, but another fingerprint: correct one of them";
    return NULL;
}

void config_self_drop(struct config *c, const uint8_t fingerprint[32])
{
    for (unsigned i = 0; i < c->n_peers;) {
        const struct peer_config *p = &c->peers[i];
        const char *reason = self_reason(c, p, fingerprint);
        if (!reason) {
            i++;
            continue;
        }
        log_info("config", "[peer %s] is this host itself and is skipped: %s", p->name, reason);
        if (!c->host.named && !memcmp(p->fingerprint, fingerprint, sizeof(p->fingerprint)))
            memcpy(c->host.name, p->name, sizeof(c->host.name));
        memmove(&c->peers[i], &c->peers[i + 1], (--c->n_peers - i) * sizeof(c->peers[0]));
    }
}

/* Does another of the n have the same fingerprint as the last? */
static bool fingerprint_taken(const struct peer_config *list, unsigned n)
{
    for (unsigned i = 0; i + 1 < n; i++)
        if (!memcmp(list[i].fingerprint, list[n - 1].fingerprint, sizeof(list[i].fingerprint)))
            return true;
    return false;
}

/* Has one of the first n cards of v that address? */
static bool vm_has_mac(const struct vm_config *v, unsigned n, const uint8_t mac[6])
{
    for (unsigned i = 0; i < n; i++)
        if (!memcmp(v->nic[i].mac, mac, sizeof(v->nic[i].mac)))
            return true;
    return false;
}

/* Has another card of the last VM, or of another VM, the MAC address of one of its cards? */
static bool vm_mac_taken(const struct config *c)
{
    const struct vm_config *last = &c->vms[c->n_vms - 1];
    for (unsigned k = 0; k < last->n_nics; k++) {
        if (vm_has_mac(last, k, last->nic[k].mac))
            return true;
        for (unsigned i = 0; i + 1 < c->n_vms; i++)
            if (vm_has_mac(&c->vms[i], c->vms[i].n_nics, last->nic[k].mac))
                return true;
    }
    return false;
}

/* Would a disk of v, whose server was given a fingerprint, be used without TLS? */
static bool vm_disk_unsecured(const struct vm_config *v, uint32_t secret)
{
    for (unsigned i = 0; i < CONFIG_MAX_DISKS; i++) {
        const struct disk_config *d = &v->disk[i];
        if ((secret & BIT32(i)) && !(i < v->n_disks && d->kind == DISK_ON_NBD && d->nbd.tls))
            return true;
    }
    return false;
}

/* If bad: report a mistake of the section as a whole. */
static bool section_lacks(struct parser *p, bool bad, const char *key, const char *expected)
{
    if (bad)
        mistake_report(p, p->section_line, key, expected);
    return bad;
}

/* Drop the section that was just read if it lacks something. */
static void section_end(struct parser *p)
{
    bool out = false;
    if (p->section == SEC_VM) {
        ASSERT(p->vm == &p->c->vms[p->c->n_vms - 1]);
        out |= section_lacks(p, !(p->good & BIT32(VM_MEMORY)), "memory", "a valid memory; this VM is left out");
        out |= section_lacks(p, !(p->good & BIT32(VM_KERNEL)), "kernel", "a valid kernel; this VM is left out");
        out |= section_lacks(p, p->bad_disk && p->vm->n_disks, "disk",
                             "valid ones only; this VM is left out, for its other disks would change their places");
        out |= section_lacks(p, vm_disk_unsecured(p->vm, p->secret), "disk-fingerprint",
                             "a valid one, with disk = nbd:...; this VM is left out, for its disk must not go "
                             "unencrypted");
        out |= section_lacks(p, vm_mac_taken(p->c), "mac",
                             "a MAC address that no other network card has; this VM is left out");
        p->c->n_vms -= out;
    } else if ((p->section == SEC_PEER || p->section == SEC_CLIENT) && p->peer->removed) {
        *(p->section == SEC_PEER ? &p->c->n_peers : &p->c->n_clients) -= !p->later;
    } else if (p->section == SEC_PEER) {
        ASSERT(p->peer == &p->c->peers[p->c->n_peers - 1]);
        bool fingerprint = p->good & BIT32(PEER_FINGERPRINT),
             taken = fingerprint && fingerprint_taken(p->c->peers, p->c->n_peers);
        out |= section_lacks(p, !(p->good & BIT32(PEER_ADDRESS)), "address", "a valid address; this peer is left out");
        out |= section_lacks(p, !fingerprint, "fingerprint", "a valid fingerprint; this peer is left out");
        out |= section_lacks(p, taken, "fingerprint", "a fingerprint that no other peer has; this peer is left out");
        p->c->n_peers -= out;
    } else if (p->section == SEC_CLIENT) {
        ASSERT(p->peer == &p->c->clients[p->c->n_clients - 1]);
        bool fingerprint = p->good & BIT32(CLIENT_FINGERPRINT),
             taken = fingerprint && fingerprint_taken(p->c->clients, p->c->n_clients);
        out |= section_lacks(p, !fingerprint, "fingerprint", "a valid fingerprint; this client is left out");
        out |=
            section_lacks(p, taken, "fingerprint", "a fingerprint that no other client has; this client is left out");
        p->c->n_clients -= out;
    }
    p->section = SEC_NONE;
}

/* The text after the word head, like the name in "vm NAME"; NULL when head is not the section's first word. */
static const char *section_name(const char *section, const char *head)
{
    size_t n = strlen(head);
    if (strncmp(section, head, n) || (section[n] && section[n] != ' ' && section[n] != '\t'))
        return NULL;
    section += n;
    while (*section == ' ' || *section == '\t')
        section++;
    return section;
}

static enum section vm_begin(struct parser *p, const char *given)
{
    char vm_name[CONFIG_NAME_LEN] = "";
    struct config *c = p->c;
    if (!config_name(given, vm_name))
        mistake_report(p, p->line, "", "[vm NAME]; a name is " NAME);
    else if (vm_find(c, vm_name))
        mistake_report(p, p->line, "", "a name that no other VM has");
    else if (c->n_vms == c->max_vms)
        mistake_report(p, p->line, "", "at most 256 VMs");
    else {
        p->vm = &c->vms[c->n_vms++];
        vm_defaults(p->vm, vm_name);
        return SEC_VM;
    }
    return SEC_IGNORED;
}

/* [peer] or [client].  Only a peer has an address, only a client has a role. */
static enum section peer_begin(struct parser *p, const char *given, bool client)
{
    char peer_name[CONFIG_NAME_LEN] = "";
    struct peer_config *list = client ? p->c->clients : p->c->peers;
    unsigned *n = client ? &p->c->n_clients : &p->c->n_peers;
    if (!config_name(given, peer_name))
        mistake_report(p, p->line, "", client ? "[client NAME]; a name is " NAME : "[peer NAME]; a name is " NAME);
    else if (peer_find(list, *n, peer_name))
        mistake_report(p, p->line, "", client ? "a name that no other client has" : "a name that no other peer has");
    else if (*n == (client ? CONFIG_MAX_CLIENTS : CONFIG_MAX_PEERS))
        mistake_report(p, p->line, "", client ? "at most 64 clients" : "at most 64 peers");
    else {
        p->peer = &list[(*n)++];
        *p->peer =
            (struct peer_config){ .trust = client ? TRUST_READ : TRUST_PEER, .port = client ? 0 : CONFIG_DEFAULT_PORT };
        memcpy(p->peer->name, peer_name, CONFIG_NAME_LEN);
        return client ? SEC_CLIENT : SEC_PEER;
    }
    return SEC_IGNORED;
}

/* Is section the one of a definition?  Else that is reported. */
static bool only_takes(struct parser *p, const char *section)
{
    const char *given = section_name(section, "vm");
    if (p->only_begun)
        mistake_report(p, p->line, "", "a file of its own for this section: a definition has one");
    else if (!given || strcmp(given, p->only) != 0)
        mistake_report(p, p->line, "", "[vm NAME] with the name of the guest that is defined");
    else
        return p->only_begun = true;
    return false;
}

static void section_begin(struct parser *p, const char *section)
{
    const char *given;
    section_end(p);
    size_t n = MIN(strlen(section), sizeof(p->section_text) - 1);
    memcpy(p->section_text, section, n);
    p->section_text[n] = 0;
    p->section_line = p->line;
    p->seen = p->good = p->secret = 0;
    p->bad_disk = p->secret_early = false;

    if (p->only && !only_takes(p, section))
        p->section = SEC_IGNORED;
    else if (!strcmp(section, "host"))
        p->section = SEC_HOST;
    else if (!p->later && (given = section_name(section, "vm")))
        p->section = vm_begin(p, given);
    else if ((given = section_name(section, "peer")))
        p->section = peer_begin(p, given, false);
    else if ((given = section_name(section, "client")))
        p->section = peer_begin(p, given, true);
    else {
        mistake_report(p, p->line, "", "[host], [peer NAME], [client NAME] or [vm NAME]");
        p->section = SEC_IGNORED;
    }
}

/* May this key of a [vm] be given again? */
static bool key_repeats(unsigned i) { return i == VM_MODULE || i == VM_DISK || i == VM_NIC; }

/* A definition may do without the line of its section. */
static void only_begin(struct parser *p)
{
    char section[sizeof("vm ") + CONFIG_NAME_LEN];
    if (!p->only || p->only_begun || p->section != SEC_NONE)
        return;
    snprintf(section, sizeof(section), "vm %s", p->only);
    section_begin(p, section);
}

/* value NULL: a line without '='. */
static void key_apply(struct parser *p, const char *key, const char *value)
{
    unsigned n;
    only_begin(p);
    const struct key *keys = config_keys(p->section, &n);
    if (p->section == SEC_NONE)
        mistake_report(p, p->line, key, "a section like [host] before the first key");
    if (p->section == SEC_NONE || p->section == SEC_IGNORED)
        return;
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(keys[i].name, key))
            continue;
        if ((p->seen & BIT32(i)) && !(p->section == SEC_VM && key_repeats(i)))
            mistake_report(p, p->line, key, "this key only once in a section");
        else if (!value || !keys[i].set(p, value))
            mistake_report(p, p->line, key, keys[i].expected);
        else
            p->good |= BIT32(i);
        p->seen |= BIT32(i);
        return;
    }
    mistake_report(p, p->line, key, "a key of this section, see docs/config.md");
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* Cut blanks at both ends of s; the new begin. */
static char *trim(char *s)
{
    size_t n = strlen(s);
    while (n && is_blank(s[n - 1]))
        s[--n] = 0;
    while (is_blank(*s))
        s++;
    return s;
}

/* Cut the comment at the end of a line, which begins with ';' after a blank. */
static void comment_cut(char *s)
{
    for (size_t i = 1; s[0] && s[i]; i++)
        if (s[i] == ';' && is_blank(s[i - 1])) {
            s[i] = 0;
            return;
        }
}

static void section_line_apply(struct parser *p, char *s) /* s: after the '[' */
{
    char *end = strchr(s, ']');
    if (end && !end[1]) {
        *end = 0;
        section_begin(p, trim(s));
        return;
    }
    section_end(p);
    p->section = SEC_IGNORED;
    p->section_text[0] = 0;
    mistake_report(p, p->line, "", end ? "nothing after the section's ']'" : "']' after the section's name");
}

bool config_line_split(char *s, char **key, char **value)
{
    comment_cut(s);
    *key = s = trim(s);
    if (!*s || *s == ';' || *s == '#')
        return false;
    char *equals = *s == '[' ? NULL : strchr(s, '=');
    *value = equals ? trim(equals + 1) : NULL;
    if (equals)
        *equals = 0;
    *key = trim(s);
    return true;
}

static void line_apply(struct parser *p, char *s)
{
    char *key, *value;
    if (!config_line_split(s, &key, &value))
        return;
    if (*key == '[')
        section_line_apply(p, key + 1);
    else
        key_apply(p, key, value);
}

/* Cut the text into lines.  Each is copied: the functions above write into it. */
static void lines_read(struct parser *p, const char *text, size_t len)
{
    static const char utf8_mark[] = "\xef\xbb\xbf";
    char line[LINE_MAX_LEN + 1];
    size_t pos = len >= 3 && !memcmp(text, utf8_mark, 3) ? 3 : 0;
    while (pos < len) {
        const char *start = text + pos;
        const char *newline = memchr(start, '\n', len - pos);
        size_t n = newline ? (size_t)(newline - start) : len - pos;
        pos += n + 1;
        p->line++;
        if (n > LINE_MAX_LEN || memchr(start, 0, n)) {
            mistake_report(p, p->line, "", "text lines of at most 1300 characters");
            continue;
        }
        memcpy(line, start, n);
        line[n] = 0;
        line_apply(p, line);
    }
}

/* A host with a fixed address needs a gateway in its own network. */
static void gateway_check(struct parser *p)
{
    struct host_config *h = &p->c->host;
    if (!p->gateway_line || h->dhcp)
        return;
    struct config_network own = { .prefix_len = h->prefix_len };
    memcpy(own.ip, h->ip, sizeof(own.ip));
    if (config_network_has(&own, h->gateway))
        return;
    memset(h->gateway, 0, sizeof(h->gateway));
    mistake_report(p, p->gateway_line, "gateway", "an address inside the network of ip");
}

static void sections_read(struct parser *p, const char *text, size_t len)
{
    lines_read(p, text, len);
    section_end(p);
    memcpy(p->section_text, "host", sizeof("host"));
    gateway_check(p);
}

unsigned config_vms_bound(const char *text, size_t len)
{
    unsigned n = 0;
    for (const char *at = text; n < CONFIG_MAX_VMS && (at = memchr(at, '[', len - (size_t)(at - text))); at++)
        n++;
    return n;
}

static void config_clear(struct config *c)
{
    struct vm_config *vms = c->vms;
    unsigned max_vms = c->max_vms;
    memset(c, 0, sizeof(*c));
    c->vms = vms;
    c->max_vms = max_vms;
}

void config_parse(const char *text, size_t len, struct config *out, config_error_fn *on_error, void *ctx)
{
    struct parser p = { .c = out, .on_error = on_error, .ctx = ctx };
    config_clear(out);
    host_defaults(&out->host);
    sections_read(&p, text, len);
}

void config_parse_later(const char *text, size_t len, const struct host_config *host, struct config *out,
                        config_error_fn *on_error, void *ctx)
{
    struct parser p = { .c = out, .on_error = on_error, .ctx = ctx, .later = true };
    config_clear(out);
    out->host = *host;
    sections_read(&p, text, len);
}

void config_vm_parse(const char *name, const char *text, size_t len, struct config *out, config_error_fn *on_error,
                     void *ctx)
{
    struct parser p = { .c = out, .on_error = on_error, .ctx = ctx, .only = name };
    config_clear(out);
    lines_read(&p, text, len);
    only_begin(&p); /* an empty text lacks what a section must have */
    section_end(&p);
}

const char *config_vm_text(const char *text, size_t len, const char *name, size_t *section_len)
{
    const char *begin = NULL, *end = text + len;
    for (const char *at = text, *next; at < end; at = next) {
        char line[80];
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        next = newline ? newline + 1 : end;
        size_t n = MIN((size_t)(next - at), sizeof(line) - 1);
        memcpy(line, at, n);
        line[n] = 0;
        line[strcspn(line, "]\n")] = 0;
        char *s = trim(line);
        if (*s != '[')
            continue;
        if (begin) {
            end = at;
            break;
        }
        const char *given = section_name(trim(s + 1), "vm");
        if (given && !strcmp(given, name))
            begin = at;
    }
    *section_len = begin ? (size_t)(end - begin) : 0;
    return begin;
}
