/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/config.c - reads \godwit\godwit.conf: what each key accepts, and what is said when it does not.
 *
 * One table per section says what each key takes.  A setter changes its field only when the whole value is good, so after a mistake the default stands.  The section being read is always the last one in its array: an incomplete
 * [vm] or [peer] is dropped at its end by counting one back.  A section that can't be used (unknown, twice, one too many) is read on as
 * SEC_IGNORED, so that one mistake is one message. */
#include "kernel/config.h"

#include <string.h>

#define LINE_MAX_LEN 1300u              /* room for the longest command line */
#define MEMORY_MIN   (16 * MIB)
#define MEMORY_MAX   (1024 * GIB)
#define N_CPUS_MAX   8

enum section { SEC_NONE, SEC_IGNORED, SEC_HOST, SEC_PEER, SEC_CLIENT, SEC_VM };

struct parser {
    struct config *c;
    config_error_fn *on_error;
    void *ctx;
    unsigned line;                      /* being read, from 1 */
    enum section section;
    unsigned section_line;
    char section_text[64];              /* as written, for messages */
    struct peer_config *peer;           /* borrowed from c: the section being read, [peer] or [client] */
    struct vm_config *vm;
    uint32_t seen;                      /* bit i: key i of this section was given */
    uint32_t good;                      /* ... with a valid value */
    unsigned gateway_line;
};

static void mistake(struct parser *p, unsigned line, const char *key, const char *expected)
{
    p->c->n_errors++;
    if (p->on_error)
        p->on_error(p->ctx, line, p->section_text, key, expected);
}

/* ---- values ----------------------------------------------------------------------------------------------------------------------- */

/* Digits at *s up to max; false: no digit, or more than max.  *s ends after them. */
static bool digits(const char **s, uint64_t max, uint64_t *out)
{
    uint64_t n = 0;
    const char *p = *s;
    for (; *p >= '0' && *p <= '9'; p++) {
        n = n * 10 + (uint64_t)(*p - '0');
        if (n > max)
            return false;
    }
    if (p == *s)
        return false;
    *s = p;
    *out = n;
    return true;
}

bool config_number(const char *s, unsigned min, unsigned max, unsigned *out)
{
    uint64_t n;
    if (!digits(&s, max, &n) || *s || n < min)
        return false;
    *out = (unsigned)n;
    return true;
}

static bool set_port(const char *s, unsigned min, uint16_t *out)
{
    unsigned n;
    if (!config_number(s, min, 65535, &n))
        return false;
    *out = (uint16_t)n;
    return true;
}

/* Which of the n words s is; -1: none. */
static int word_index(const char *s, const char *const *words, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(s, words[i]))
            return (int)i;
    return -1;
}

static bool boolean(const char *s, bool *out)
{
    static const char *const words[] = { "no", "yes", "off", "on", "false", "true", "0", "1" };
    int i = word_index(s, words, ARRAY_SIZE(words));
    if (i >= 0)
        *out = i & 1;
    return i >= 0;
}

/* The address at *s, which ends after it; false: none, and out is not of use. */
static bool ip4(const char **s, uint8_t out[4])
{
    for (int i = 0; i < 4; i++) {
        uint64_t n;
        if ((i && *(*s)++ != '.') || !digits(s, 255, &n))
            return false;
        out[i] = (uint8_t)n;
    }
    return true;
}

/* One machine's address: not 0.x, not 127.x, not multicast or broadcast. */
static bool is_machine(const uint8_t ip[4]) { return ip[0] != 0 && ip[0] != 127 && ip[0] < 224; }

static bool host_ip4(const char *s, uint8_t out[4])
{
    uint8_t ip[4];
    if (!ip4(&s, ip) || *s || !is_machine(ip))
        return false;
    memcpy(out, ip, 4);
    return true;
}

bool config_network_parse(const char *s, struct config_network *out)
{
    struct config_network n;
    if (!ip4(&s, n.ip) || *s++ != '/' || !config_number(s, 1, 32, &n.prefix_len))
        return false;
    *out = n;
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* n bytes as hex digits; one ':' may stand between bytes (must, if colons). */
static bool hex_bytes(const char *s, uint8_t *out, unsigned n, bool colons)
{
    uint8_t b[32];
    for (unsigned i = 0; i < n; i++) {
        if (i && *s == ':')
            s++;
        else if (i && colons)
            return false;
        if (hex_digit(s[0]) < 0 || hex_digit(s[1]) < 0)
            return false;
        b[i] = (uint8_t)(hex_digit(s[0]) << 4 | hex_digit(s[1]));
        s += 2;
    }
    if (*s)
        return false;
    memcpy(out, b, n);
    return true;
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

/* A host's or VM's name. */
static bool name(const char *s, char out[CONFIG_NAME_LEN])
{
    size_t n = strlen(s);
    if (!n || n >= CONFIG_NAME_LEN || s[0] == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!name_char(s[i]))
            return false;
    memcpy(out, s, n + 1);
    return true;
}

/* Printable text shorter than cap; path: without folders. */
static bool text(const char *s, char *out, size_t cap, bool path)
{
    size_t n = strlen(s);
    if (n >= cap)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < ' ' || s[i] == 0x7f || (path && (s[i] == '/' || s[i] == '\\')))
            return false;
    memcpy(out, s, n + 1);
    return true;
}
static bool file_name(const char *s, char out[CONFIG_PATH_LEN]) { return *s && text(s, out, CONFIG_PATH_LEN, true); }

const char *config_module_next(const struct vm_config *v, const char *m, char file[CONFIG_PATH_LEN], const char **string)
{
    m = m ? m + strlen(m) + 1 : v->modules;
    if (!*m)
        return NULL;
    size_t n = strcspn(m, " ");
    memcpy(file, m, n);
    file[n] = 0;
    *string = m + n + strspn(m + n, " ");
    return m;
}

bool config_module_add(struct vm_config *v, const char *given)
{
    char word[CONFIG_PATH_LEN], file[CONFIG_PATH_LEN];
    const char *string;
    size_t used = 0, name_len = strcspn(given, " ");
    unsigned n = 0;
    for (const char *m = NULL; (m = config_module_next(v, m, file, &string)); n++)
        used += strlen(m) + 1;
    if (n == CONFIG_MAX_MODULES || name_len >= sizeof(word))
        return false;
    memcpy(word, given, name_len);
    word[name_len] = 0;
    if (!file_name(word, file) || !text(given, v->modules + used, sizeof(v->modules) - used - 1, false))
        return false;
    v->modules[used + strlen(given) + 1] = 0;
    return true;
}

/* "all", or numbers and ranges of CPUs with commas between: a bit for each. */
static bool cpu_list(const char *s, uint64_t *out)
{
    uint64_t mask = 0, from, to;
    if (!strcmp(s, "all")) {
        *out = UINT64_MAX;
        return true;
    }
    do {
        if (!digits(&s, 63, &from))
            return false;
        to = from;
        if (*s == '-' && (s++, !digits(&s, 63, &to) || to < from))
            return false;
        mask |= (UINT64_MAX >> (63 - (to - from))) << from;
    } while (*s == ',' && s++);
    *out = mask;
    return !*s;
}

static bool memory_size(const char *s, uint64_t min, uint64_t *out)
{
    static const struct { const char *unit; uint64_t bytes; } units[] =
        { { "M", MIB }, { "MiB", MIB }, { "G", GIB }, { "GiB", GIB } };
    uint64_t n;
    if (!digits(&s, MEMORY_MAX, &n))
        return false;
    while (*s == ' ')
        s++;
    for (unsigned i = 0; i < ARRAY_SIZE(units); i++)
        if (!strcmp(s, units[i].unit)) {
            if (n > MEMORY_MAX / units[i].bytes || n * units[i].bytes < min || n * units[i].bytes % BLOCK_SIZE)
                return false;
            *out = n * units[i].bytes;
            return true;
        }
    return false;
}

/* ---- keys ------------------------------------------------------------------------------------------------------------------------- */

typedef bool set_fn(struct parser *p, const char *v);
struct key { const char *name; set_fn *set; const char *expected; };

/* The next item of a list "a, b, c" at *s, without blanks around it, into item; false: none is left, or it is too long (then *s is not NULL). */
static bool list_item(const char **s, char *item, size_t cap)
{
    if (!*s)
        return false;
    const char *comma = strchr(*s, ','), *begin = *s, *end = comma ? comma : begin + strlen(begin);
    while (begin < end && (*begin == ' ' || *begin == '\t'))
        begin++;
    while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if ((size_t)(end - begin) >= cap)
        return false;
    memcpy(item, begin, (size_t)(end - begin));
    item[end - begin] = 0;
    *s = comma ? comma + 1 : NULL;
    return true;
}

static bool host_networks(struct parser *p, const char *v)
{
    struct host_config *h = &p->c->host, found = { .n_networks = 0 };
    char item[24];
    while (list_item(&v, item, sizeof(item))) {
        if (found.n_networks == CONFIG_MAX_NETWORKS || !config_network_parse(item, &found.networks[found.n_networks++]))
            return false;
    }
    if (v)
        return false;
    memcpy(h->networks, found.networks, sizeof(h->networks));
    h->n_networks = found.n_networks;
    return true;
}

static bool host_ip(struct parser *p, const char *v)
{
    struct host_config *h = &p->c->host;
    struct config_network n;
    if (!strcmp(v, "dhcp")) {
        h->dhcp = true;
        return true;
    }
    if (!config_network_parse(v, &n) || n.prefix_len > 30 || !is_machine(n.ip))
        return false;
    h->dhcp = false;
    memcpy(h->ip, n.ip, 4);
    h->prefix_len = n.prefix_len;
    return true;
}
static bool host_gateway(struct parser *p, const char *v)
{
    p->gateway_line = p->line;
    return host_ip4(v, p->c->host.gateway);
}
static bool host_dirty_log(struct parser *p, const char *v)
{
    static const char *const words[] = { [DIRTY_AUTO] = "auto", [DIRTY_WP] = "wp", [DIRTY_AD] = "ad", [DIRTY_PML] = "pml" };
    int i = word_index(v, words, ARRAY_SIZE(words));
    if (i >= 0)
        p->c->host.dirty_mech = (enum dirty_mech)i;
    return i >= 0;
}
static bool host_name(struct parser *p, const char *v)     { return name(v, p->c->host.name); }
static bool host_port(struct parser *p, const char *v)     { return set_port(v, 1, &p->c->host.port); }
static bool host_api_port(struct parser *p, const char *v) { return set_port(v, 0, &p->c->host.api_port); }
static bool host_key(struct parser *p, const char *v)      { return file_name(v, p->c->host.key); }
static bool host_cert(struct parser *p, const char *v)     { return file_name(v, p->c->host.cert); }
static bool host_pool(struct parser *p, const char *v)     { return file_name(v, p->c->host.pool_cpuid); }
static bool host_incoming(struct parser *p, const char *v) { return boolean(v, &p->c->host.incoming); }
static bool host_outgoing(struct parser *p, const char *v) { return boolean(v, &p->c->host.outgoing); }
static bool host_downtime(struct parser *p, const char *v) { return config_number(v, 1, 60000, &p->c->host.downtime_limit_ms); }
static bool host_bandwidth(struct parser *p, const char *v) { return config_number(v, 0, 100000, &p->c->host.bandwidth_limit_mb); }
static bool host_max_jobs(struct parser *p, const char *v) { return config_number(v, 1, 16, &p->c->host.max_jobs); }
static bool host_guest_cpus(struct parser *p, const char *v) { return cpu_list(v, &p->c->host.guest_cpus); }
static bool host_verify(struct parser *p, const char *v)   { return boolean(v, &p->c->host.verify); }
static bool host_lz4(struct parser *p, const char *v)      { return boolean(v, &p->c->host.lz4); }

static bool peer_address(struct parser *p, const char *v)
{
    uint8_t ip[CONFIG_MAX_ADDRESSES][4];
    unsigned n = 0;
    char item[20];
    while (list_item(&v, item, sizeof(item)))
        if (n == CONFIG_MAX_ADDRESSES || !host_ip4(item, ip[n++]))
            return false;
    if (v)
        return false;
    memcpy(p->peer->ip, ip[0], 4);
    memcpy(p->peer->other_ip, ip[1], (n - 1) * 4);
    p->peer->n_other_ips = n - 1;
    return true;
}
static bool peer_port(struct parser *p, const char *v)     { return set_port(v, 1, &p->peer->port); }
static bool peer_fingerprint(struct parser *p, const char *v) { return hex_bytes(v, p->peer->fingerprint, 32, false); }

static bool client_role(struct parser *p, const char *v)
{
    bool operate = !strcmp(v, "operate");
    if (!operate && strcmp(v, "read"))
        return false;
    p->peer->trust = operate ? TRUST_OPERATE : TRUST_READ;
    return true;
}

static bool vm_memory(struct parser *p, const char *v)     { return memory_size(v, MEMORY_MIN, &p->vm->memory_bytes); }
static bool vm_cpus(struct parser *p, const char *v)       { return config_number(v, 1, N_CPUS_MAX, &p->vm->n_cpus); }
static bool vm_kernel(struct parser *p, const char *v)     { return file_name(v, p->vm->kernel); }
static bool vm_initrd(struct parser *p, const char *v)     { return text(v, p->vm->initrd, CONFIG_PATH_LEN, true); }
static bool vm_module(struct parser *p, const char *v)     { return config_module_add(p->vm, v); }
static bool vm_cmdline(struct parser *p, const char *v)    { return text(v, p->vm->cmdline, CONFIG_CMDLINE_LEN, false); }
static bool vm_autostart(struct parser *p, const char *v)
{
    bool yes = false;
    bool always = !strcmp(v, "always");
    if (!always && !boolean(v, &yes))
        return false;
    p->vm->autostart = always ? AUTOSTART_ALWAYS : yes ? AUTOSTART_YES : AUTOSTART_NO;
    return true;
}
static bool vm_on_shutdown(struct parser *p, const char *v)
{
    static const char *const words[] = { [ON_SHUTDOWN_REFUSE] = "refuse", [ON_SHUTDOWN_STOP] = "stop", [ON_SHUTDOWN_EVACUATE] = "evacuate" };
    int i = word_index(v, words, ARRAY_SIZE(words));
    if (i >= 0)
        p->vm->on_shutdown = (enum on_shutdown)i;
    return i >= 0;
}
static bool vm_nic(struct parser *p, const char *v)        { return boolean(v, &p->vm->nic); }
static bool vm_rng(struct parser *p, const char *v)        { return boolean(v, &p->vm->rng); }
static bool vm_balloon(struct parser *p, const char *v)    { return boolean(v, &p->vm->balloon); }
/* HOST[:PORT]/EXPORT */
static bool nbd_target(const char *s, struct nbd_config *out)
{
    struct nbd_config n = { .port = CONFIG_DEFAULT_NBD_PORT, .tls = out->tls };
    uint64_t port;
    if (!ip4(&s, n.ip) || !is_machine(n.ip))
        return false;
    if (*s == ':') {
        s++;
        if (!digits(&s, 65535, &port) || !port)
            return false;
        n.port = (uint16_t)port;
    }
    if (*s++ != '/' || strlen(s) >= sizeof(n.name))
        return false;
    for (const char *c = s; *c; c++)
        if (*c <= ' ' || *c > '~')
            return false;
    memcpy(n.name, s, strlen(s));
    memcpy(n.fingerprint, out->fingerprint, sizeof(n.fingerprint));
    *out = n;
    return true;
}
static bool vm_disk_fingerprint(struct parser *p, const char *v)
{
    p->vm->nbd.tls = hex_bytes(v, p->vm->nbd.fingerprint, 32, false);
    return p->vm->nbd.tls;
}
static bool vm_disk(struct parser *p, const char *v)
{
    if (!strncmp(v, "nbd:", 4))
        return nbd_target(v + 4, &p->vm->nbd);
    if (strncmp(v, "ram:", 4))
        return false;
    return memory_size(v + 4, BLOCK_SIZE, &p->vm->disk_bytes) || file_name(v + 4, p->vm->disk_file);
}
static bool vm_console(struct parser *p, const char *v)
{
    bool both = !strcmp(v, "virtio");
    if (!both && strcmp(v, "serial"))
        return false;
    p->vm->hvc = both;
    return true;
}
static bool vm_cpu(struct parser *p, const char *v)
{
    static const char *const words[] = { "host", "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4", "pool" };
    return word_index(v, words, ARRAY_SIZE(words)) >= 0 && text(v, p->vm->cpu, sizeof(p->vm->cpu), false);
}
static bool vm_mac(struct parser *p, const char *v)
{
    uint8_t mac[6];
    if (!hex_bytes(v, mac, 6, true) || (mac[0] & 1))            /* bit 0: a group, not a machine */
        return false;
    memcpy(p->vm->mac, mac, 6);
    return true;
}
static bool vm_pin(struct parser *p, const char *v)
{
    unsigned n;
    if (!strcmp(v, "any")) {
        p->vm->pin = -1;
        return true;
    }
    if (!config_number(v, 0, 63, &n))
        return false;
    p->vm->pin = (int)n;
    return true;
}

#define YES_NO "yes or no"
#define FILE_NAME "a file name in \\godwit\\, at most 63 characters, without folder"
#define NAME "1 to 31 letters, digits, '-', '_' or '.', not starting with '-'"
static const struct key host_keys[] = {
    { "name", host_name, NAME },
    { "ip", host_ip, "dhcp, or address and prefix length like 192.168.1.10/24" },
    { "gateway", host_gateway, "an address like 192.168.1.1" },
    { "port", host_port, "a TCP port, 1 to 65535" },
    { "api-port", host_api_port, "a TCP port, or 0 for none" },
    { "key", host_key, FILE_NAME },
    { "cert", host_cert, FILE_NAME },
    { "pool-cpuid", host_pool, FILE_NAME },
    { "incoming", host_incoming, YES_NO },
    { "outgoing", host_outgoing, YES_NO },
    { "networks", host_networks, "networks like 10.7.0.0/24, 192.168.0.0/16 (at most 8)" },
    { "bandwidth-limit-mb", host_bandwidth, "megabytes per second, 0 (no limit) to 100000" },
    { "downtime-limit-ms", host_downtime, "milliseconds, 1 to 60000" },
    { "max-jobs", host_max_jobs, "a number, 1 to 16" },
    { "dirty-log", host_dirty_log, "auto, wp, ad or pml" },
    { "guest-cpus", host_guest_cpus, "all, or numbers of CPUs from 0 to 63: 1-3,5" },
    { "verify", host_verify, YES_NO },
    { "lz4", host_lz4, YES_NO },
};
enum { PEER_ADDRESS, PEER_PORT, PEER_FINGERPRINT };
static const struct key peer_keys[] = {
    [PEER_ADDRESS] = { "address", peer_address, "an address like 192.168.1.10, or up to 4 with commas between" },
    [PEER_PORT] = { "port", peer_port, "a TCP port, 1 to 65535" },
    [PEER_FINGERPRINT] = { "fingerprint", peer_fingerprint, "64 hex digits, as `tools/mkhost --fingerprint NAME` prints them" },
};
enum { CLIENT_FINGERPRINT, CLIENT_ROLE };
static const struct key client_keys[] = {
    [CLIENT_FINGERPRINT] = { "fingerprint", peer_fingerprint, "64 hex digits, as `godwitctl key` prints them" },
    [CLIENT_ROLE] = { "role", client_role, "read or operate" },
};
enum { VM_MEMORY, VM_CPUS, VM_KERNEL, VM_INITRD, VM_MODULE, VM_CMDLINE, VM_CPU, VM_AUTOSTART, VM_SHUTDOWN, VM_MAC, VM_PIN, VM_NIC, VM_DISK, VM_DISK_FINGERPRINT,
       VM_RNG, VM_BALLOON, VM_CONSOLE };
static const struct key vm_keys[] = {
    [VM_MEMORY] = { "memory", vm_memory, "a size like 256M or 2G: a multiple of 2M, from 16M to 1024G" },
    [VM_CPUS] = { "cpus", vm_cpus, "a number, 1 to 8" },
    [VM_KERNEL] = { "kernel", vm_kernel, FILE_NAME },
    [VM_INITRD] = { "initrd", vm_initrd, FILE_NAME },
    [VM_MODULE] = { "module", vm_module, "a file name in \\godwit\\ without folder, and a string for it if wanted, like `module = vmlinuz root=/dev/vda`; at most 16 modules, and 1000 characters in all" },
    [VM_CMDLINE] = { "cmdline", vm_cmdline, "text of at most 1023 characters" },
    [VM_CPU] = { "cpu", vm_cpu, "host, x86-64-v1, x86-64-v2, x86-64-v3, x86-64-v4 or pool" },
    [VM_AUTOSTART] = { "autostart", vm_autostart, "yes, no or always" },
    [VM_SHUTDOWN] = { "on-shutdown", vm_on_shutdown, "refuse, stop or evacuate" },
    [VM_MAC] = { "mac", vm_mac, "a unicast address like 02:47:57:00:00:01" },
    [VM_PIN] = { "pin", vm_pin, "any, or the number of a CPU, 0 to 63" },
    [VM_NIC] = { "nic", vm_nic, YES_NO },
    [VM_DISK] = { "disk", vm_disk, "ram:SIZE (like ram:64M, a multiple of 2M), ram:FILE (a file in \\godwit\\) or nbd:ADDRESS[:PORT]/EXPORT (like nbd:192.168.1.5/web)" },
    [VM_DISK_FINGERPRINT] = { "disk-fingerprint", vm_disk_fingerprint, "64 hex digits: the SHA-256 of the certificate (DER) of the disk's NBD server" },
    [VM_RNG] = { "rng", vm_rng, YES_NO },
    [VM_BALLOON] = { "balloon", vm_balloon, YES_NO },
    [VM_CONSOLE] = { "console", vm_console, "serial or virtio" },
};

/* ---- sections --------------------------------------------------------------------------------------------------------------------- */

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
    h->guest_cpus = UINT64_MAX;
    h->dirty_mech = DIRTY_AUTO;
    h->lz4 = true;
}

/* 02 = locally administered; "GW"; 24 bits of FNV-1a over the name, so that a VM has the same address on every host. */
static void mac_from_name(const char *s, uint8_t mac[6])
{
    uint32_t h = 2166136261u;
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 16777619u;
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
    mac_from_name(vm_name, v->mac);
}

static struct vm_config *vm_find(struct config *c, const char *vm_name)
{
    for (unsigned i = 0; i < c->n_vms; i++)
        if (!strcmp(c->vms[i].name, vm_name))
            return &c->vms[i];
    return NULL;
}

static struct peer_config *by_name(struct peer_config *list, unsigned n, const char *wanted)
{
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(list[i].name, wanted))
            return &list[i];
    return NULL;
}

bool config_network_has(const struct config_network *n, const uint8_t ip[4])
{
    unsigned bit = 0;
    while (bit < n->prefix_len && !((n->ip[bit / 8] ^ ip[bit / 8]) & (0x80 >> bit % 8)))
        bit++;
    return bit == n->prefix_len;
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
    return by_name((struct peer_config *)(uintptr_t)c->peers, c->n_peers, peer_name);
}

/* Has another one the fingerprint of the last of the n? */
static bool fingerprint_taken(const struct peer_config *list, unsigned n)
{
    for (unsigned i = 0; i + 1 < n; i++)
        if (!memcmp(list[i].fingerprint, list[n - 1].fingerprint, sizeof(list[i].fingerprint)))
            return true;
    return false;
}

/* Something is the matter with the whole section?  Then say so. */
static bool lacks(struct parser *p, bool bad, const char *key, const char *expected)
{
    if (bad)
        mistake(p, p->section_line, key, expected);
    return bad;
}

/* What the section just read still lacks; without it the section is dropped. */
static void section_end(struct parser *p)
{
    bool out = false;
    if (p->section == SEC_VM) {
        bool secret = p->seen & BIT32(VM_DISK_FINGERPRINT), secured = p->vm->nbd.tls && p->vm->nbd.port;
        out |= lacks(p, !(p->good & BIT32(VM_MEMORY)), "memory", "a valid memory; this VM is left out");
        out |= lacks(p, !(p->good & BIT32(VM_KERNEL)), "kernel", "a valid kernel; this VM is left out");
        out |= lacks(p, secret && !secured, "disk-fingerprint",
                     "a valid one, with disk = nbd:...; this VM is left out, for its disk must not go unencrypted");
        p->c->n_vms -= out;
    } else if (p->section == SEC_PEER) {
        bool fingerprint = p->good & BIT32(PEER_FINGERPRINT), taken = fingerprint && fingerprint_taken(p->c->peers, p->c->n_peers);
        out |= lacks(p, !(p->good & BIT32(PEER_ADDRESS)), "address", "a valid address; this peer is left out");
        out |= lacks(p, !fingerprint, "fingerprint", "a valid fingerprint; this peer is left out");
        out |= lacks(p, taken, "fingerprint", "a fingerprint that no other peer has; this peer is left out");
        p->c->n_peers -= out;
    } else if (p->section == SEC_CLIENT) {
        bool fingerprint = p->good & BIT32(CLIENT_FINGERPRINT), taken = fingerprint && fingerprint_taken(p->c->clients, p->c->n_clients);
        out |= lacks(p, !fingerprint, "fingerprint", "a valid fingerprint; this client is left out");
        out |= lacks(p, taken, "fingerprint", "a fingerprint that no other client has; this client is left out");
        p->c->n_clients -= out;
    }
    p->section = SEC_NONE;
}

/* The name in "vm NAME" or "peer NAME"; NULL when head is not the section's first word. */
static const char *after_word(const char *section, const char *head)
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
    if (!name(given, vm_name))
        mistake(p, p->line, "", "[vm NAME]; a name is " NAME);
    else if (vm_find(c, vm_name))
        mistake(p, p->line, "", "a name that no other VM has");
    else if (c->n_vms == CONFIG_MAX_VMS)
        mistake(p, p->line, "", "at most 16 VMs");
    else {
        p->vm = &c->vms[c->n_vms++];
        vm_defaults(p->vm, vm_name);
        return SEC_VM;
    }
    return SEC_IGNORED;
}

/* [peer] or [client]: the one has an address, the other a role. */
static enum section peer_begin(struct parser *p, const char *given, bool client)
{
    char peer_name[CONFIG_NAME_LEN] = "";
    struct peer_config *list = client ? p->c->clients : p->c->peers;
    unsigned *n = client ? &p->c->n_clients : &p->c->n_peers;
    if (!name(given, peer_name))
        mistake(p, p->line, "", client ? "[client NAME]; a name is " NAME : "[peer NAME]; a name is " NAME);
    else if (by_name(list, *n, peer_name))
        mistake(p, p->line, "", client ? "a name that no other client has" : "a name that no other peer has");
    else if (*n == (client ? CONFIG_MAX_CLIENTS : CONFIG_MAX_PEERS))
        mistake(p, p->line, "", client ? "at most 16 clients" : "at most 16 peers");
    else {
        p->peer = &list[(*n)++];
        *p->peer = (struct peer_config){ .trust = client ? TRUST_READ : TRUST_PEER, .port = client ? 0 : CONFIG_DEFAULT_PORT };
        memcpy(p->peer->name, peer_name, CONFIG_NAME_LEN);
        return client ? SEC_CLIENT : SEC_PEER;
    }
    return SEC_IGNORED;
}

static void section_begin(struct parser *p, const char *section)
{
    const char *given;
    section_end(p);
    size_t n = MIN(strlen(section), sizeof(p->section_text) - 1);
    memcpy(p->section_text, section, n);
    p->section_text[n] = 0;
    p->section_line = p->line;
    p->seen = p->good = 0;

    if (!strcmp(section, "host"))
        p->section = SEC_HOST;
    else if ((given = after_word(section, "vm")))
        p->section = vm_begin(p, given);
    else if ((given = after_word(section, "peer")))
        p->section = peer_begin(p, given, false);
    else if ((given = after_word(section, "client")))
        p->section = peer_begin(p, given, true);
    else {
        mistake(p, p->line, "", "[host], [peer NAME], [client NAME] or [vm NAME]");
        p->section = SEC_IGNORED;
    }
}

static void key_set(struct parser *p, const struct key *keys, unsigned n, const char *key, const char *value)
{
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(keys[i].name, key))
            continue;
        if ((p->seen & BIT32(i)) && keys[i].set != vm_module)          /* the one key that makes a list */
            mistake(p, p->line, key, "this key only once in a section");
        else if (!value || !keys[i].set(p, value))
            mistake(p, p->line, key, keys[i].expected);
        else
            p->good |= BIT32(i);
        p->seen |= BIT32(i);
        return;
    }
    mistake(p, p->line, key, "a key of this section, see docs/config.md");
}

/* value NULL: a line without '='. */
static void on_key(struct parser *p, const char *key, const char *value)
{
    switch (p->section) {
    case SEC_NONE:
        mistake(p, p->line, key, "a section like [host] before the first key");
        break;
    case SEC_IGNORED:
        break;
    case SEC_HOST:
        key_set(p, host_keys, ARRAY_SIZE(host_keys), key, value);
        break;
    case SEC_PEER:
        key_set(p, peer_keys, ARRAY_SIZE(peer_keys), key, value);
        break;
    case SEC_CLIENT:
        key_set(p, client_keys, ARRAY_SIZE(client_keys), key, value);
        break;
    case SEC_VM:
        key_set(p, vm_keys, ARRAY_SIZE(vm_keys), key, value);
        break;
    }
}

/* ---- lines ------------------------------------------------------------------------------------------------------------------------ */

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* s without blanks at both ends; changes s. */
static char *trim(char *s)
{
    size_t n = strlen(s);
    while (n && blank(s[n - 1]))
        s[--n] = 0;
    while (blank(*s))
        s++;
    return s;
}

/* A comment at the end of a line: ';' after a blank. */
static void comment_cut(char *s)
{
    for (size_t i = 1; s[0] && s[i]; i++)
        if (s[i] == ';' && blank(s[i - 1])) {
            s[i] = 0;
            return;
        }
}

static void on_section(struct parser *p, char *s)               /* s: after the '[' */
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
    mistake(p, p->line, "", end ? "nothing after the section's ']'" : "']' after the section's name");
}

static void on_line(struct parser *p, char *s)
{
    comment_cut(s);
    s = trim(s);
    if (!*s || *s == ';' || *s == '#')
        return;
    if (*s == '[') {
        on_section(p, s + 1);
        return;
    }
    char *value = strchr(s, '=');
    if (value)
        *value++ = 0;
    on_key(p, trim(s), value ? trim(value) : NULL);
}

/* Cut the text into lines; each is copied, so that it can be cut further. */
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
            mistake(p, p->line, "", "text lines of at most 1300 characters");
            continue;
        }
        memcpy(line, start, n);
        line[n] = 0;
        on_line(p, line);
    }
}

/* With a fixed address the gateway must be a neighbour. */
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
    mistake(p, p->gateway_line, "gateway", "an address inside the network of ip");
}

void config_parse(const char *text, size_t len, struct config *out, config_error_fn *on_error, void *ctx)
{
    struct parser p = { .c = out, .on_error = on_error, .ctx = ctx };
    memset(out, 0, sizeof(*out));
    host_defaults(&out->host);
    lines_read(&p, text, len);
    section_end(&p);
    memcpy(p.section_text, "host", sizeof("host"));
    gateway_check(&p);
}
