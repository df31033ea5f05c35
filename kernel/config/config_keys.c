/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/config/config_keys.c - godwit.conf: the values that each key takes, and the message for others.
 *
 * First the parsers of the kinds of values, then the setters, then one table per section.  A setter changes its field
 * only when the whole value is valid, so after a mistake the default stands.  Not here: sections, and whether a key was
 * given twice (config.c). */
#include "kernel/config/config_impl.h"

#include <ctype.h>
#include <string.h>
#include "kernel/lib/log.h"

#define MEMORY_MIN (16 * MIB)
#define MEMORY_MAX (1024 * GIB)
#define DISK_LEN   256u /* of a valid disk = ... */

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* Parse the number at *s and move *s behind it.  False: there is no digit, or the number is above max. */
static bool digits_parse(const char **s, uint64_t max, uint64_t *out)
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
    if (!digits_parse(&s, max, &n) || *s || n < min)
        return false;
    *out = (unsigned)n;
    return true;
}

static bool port_parse(const char *s, unsigned min, uint16_t *out)
{
    unsigned n;
    if (!config_number(s, min, 65535, &n))
        return false;
    *out = (uint16_t)n;
    return true;
}

/* The index of s among the n words; -1: it is not there. */
static int word_index(const char *s, const char *const *words, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(s, words[i]))
            return (int)i;
    return -1;
}

bool config_boolean(const char *s, bool *out)
{
    static const char *const words[] = { "no", "yes", "off", "on", "false", "true", "0", "1" };
    int i = word_index(s, words, ARRAY_SIZE(words));
    if (i >= 0)
        *out = i & 1;
    return i >= 0;
}

/* Parse the IPv4 address at *s and move *s behind it.  False: there is none, and out is undefined. */
static bool ip4_parse(const char **s, uint8_t out[4])
{
    for (int i = 0; i < 4; i++) {
        uint64_t n;
        if ((i && *(*s)++ != '.') || !digits_parse(s, 255, &n))
            return false;
        out[i] = (uint8_t)n;
    }
    return true;
}

/* Is this the address of one machine?  Not 0.x, 127.x, multicast or broadcast. */
static bool is_machine(const uint8_t ip[4]) { return ip[0] != 0 && ip[0] != 127 && ip[0] < 224; }

static bool machine_ip4_parse(const char *s, uint8_t out[4])
{
    uint8_t ip[4];
    if (!ip4_parse(&s, ip) || *s || !is_machine(ip))
        return false;
    memcpy(out, ip, 4);
    return true;
}

bool config_network_parse(const char *s, struct config_network *out)
{
    struct config_network n;
    if (!ip4_parse(&s, n.ip) || *s++ != '/' || !config_number(s, 0, 32, &n.prefix_len))
        return false;
    *out = n;
    return true;
}

static int config_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Parse n bytes of two hex digits each.  One ':' may stand between bytes, or must, if colons.  n: at most 32. */
static bool hex_bytes_parse(const char *s, uint8_t *out, unsigned n, bool colons)
{
    uint8_t b[32];
    ASSERT(n <= sizeof(b));
    for (unsigned i = 0; i < n; i++) {
        if (i && *s == ':')
            s++;
        else if (i && colons)
            return false;
        if (config_hex_digit(s[0]) < 0 || config_hex_digit(s[1]) < 0)
            return false;
        b[i] = (uint8_t)(config_hex_digit(s[0]) << 4 | config_hex_digit(s[1]));
        s += 2;
    }
    if (*s)
        return false;
    memcpy(out, b, n);
    return true;
}

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
}

bool config_name(const char *s, char out[CONFIG_NAME_LEN])
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

bool config_name_ok(const char *s)
{
    char name[CONFIG_NAME_LEN];
    return config_name(s, name);
}

/* Copy printable text that is shorter than cap.  path: a file name, so without folders. */
static bool text_copy(const char *s, char *out, size_t cap, bool path)
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
static bool file_name_copy(const char *s, char out[CONFIG_PATH_LEN])
{
    return *s && text_copy(s, out, CONFIG_PATH_LEN, true);
}

/* Does s begin with word, in any case of its letters? */
static bool begins_with(const char *s, const char *word)
{
    while (*word && tolower((unsigned char)*s) == *word)
        s++, word++;
    return !*word;
}

bool config_file_is_hosts(const char *name)
{
    static const char *const begins[] = { "godwit.conf", "host.key", "host.crt", "seed" };
    static const char *const ends[] = { ".key", ".pem", ".der", ".crt", ".p12", ".pfx" };
    size_t n = strlen(name);
    for (unsigned i = 0; i < ARRAY_SIZE(begins); i++)
        if (begins_with(name, begins[i]))
            return true;
    for (unsigned i = 0; i < ARRAY_SIZE(ends); i++)
        if (n >= 4 && begins_with(name + n - 4, ends[i]))
            return true;
    return false;
}

/* The name of a file for a guest. */
static bool guest_file_copy(const char *s, char out[CONFIG_PATH_LEN])
{
    return !config_file_is_hosts(s) && file_name_copy(s, out);
}

const char *config_module_next(const struct vm_config *v, const char *m, char file[CONFIG_PATH_LEN],
                               const char **string)
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

unsigned config_boot_files(const struct vm_config *v)
{
    char file[CONFIG_PATH_LEN];
    const char *string;
    unsigned n = v->initrd[0] ? 2 : 1;
    for (const char *m = NULL; (m = config_module_next(v, m, file, &string));)
        n++;
    return n;
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
    if (!guest_file_copy(word, file) || !text_copy(given, v->modules + used, sizeof(v->modules) - used - 1, false))
        return false;
    v->modules[used + strlen(given) + 1] = 0;
    return true;
}

/* Parse "all", or numbers and ranges of CPUs with commas between, into a bit for each CPU. */
static bool cpu_list_parse(const char *s, uint64_t *out)
{
    uint64_t mask = 0, from, to;
    if (!strcmp(s, "all")) {
        *out = UINT64_MAX;
        return true;
    }
    do {
        if (!digits_parse(&s, 63, &from))
            return false;
        to = from;
        if (*s == '-' && (s++, !digits_parse(&s, 63, &to) || to < from))
            return false;
        mask |= (UINT64_MAX >> (63 - (to - from))) << from;
    } while (*s == ',' && s++);
    *out = mask;
    return !*s;
}

static bool memory_size_parse(const char *s, uint64_t min, uint64_t *out)
{
    static const struct {
        const char *unit;
        uint64_t bytes;
    } units[] = { { "M", MIB }, { "MiB", MIB }, { "G", GIB }, { "GiB", GIB } };
    uint64_t n;
    if (!digits_parse(&s, MEMORY_MAX, &n))
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

/* ---- keys -------------------------------------------------------------------------------------------------------- */

/* Copy the next item of a list "a, b, c" at *s, without blanks around it.  False: no item is left (*s is NULL), or the
 * item does not fit into cap bytes. */
static bool list_item_next(const char **s, char *item, size_t cap)
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

static bool network_list_set(const char *v, struct config_network to[CONFIG_MAX_NETWORKS], unsigned *n_out)
{
    struct config_network found[CONFIG_MAX_NETWORKS];
    unsigned n = 0;
    char item[24];
    while (list_item_next(&v, item, sizeof(item))) {
        if (n == CONFIG_MAX_NETWORKS || !config_network_parse(item, &found[n++]))
            return false;
    }
    if (v)
        return false;
    memcpy(to, found, n * sizeof(*to));
    *n_out = n;
    return true;
}

static bool host_networks_set(struct parser *p, const char *v)
{
    return network_list_set(v, p->c->host.networks, &p->c->host.n_networks);
}

static bool host_disk_servers_set(struct parser *p, const char *v)
{
    return network_list_set(v, p->c->host.disk_servers, &p->c->host.n_disk_servers);
}

static bool host_ip_set(struct parser *p, const char *v)
{
    struct host_config *h = &p->c->host;
    struct config_network n;
    if (!strcmp(v, "dhcp")) {
        h->dhcp = true;
        return true;
    }
    if (!config_network_parse(v, &n) || !n.prefix_len || n.prefix_len > 30 || !is_machine(n.ip))
        return false;
    h->dhcp = false;
    memcpy(h->ip, n.ip, 4);
    h->prefix_len = n.prefix_len;
    return true;
}
static bool host_gateway_set(struct parser *p, const char *v)
{
    p->gateway_line = p->line;
    return machine_ip4_parse(v, p->c->host.gateway);
}
static bool host_dirty_log_set(struct parser *p, const char *v)
{
    static const char *const words[] = {
        [DIRTY_AUTO] = "auto", [DIRTY_WP] = "wp", [DIRTY_AD] = "ad", [DIRTY_PML] = "pml"
    };
    int i = word_index(v, words, ARRAY_SIZE(words));
    if (i >= 0)
        p->c->host.dirty_mech = (enum dirty_mech)i;
    return i >= 0;
}
static bool host_name_set(struct parser *p, const char *v)
{
    bool good = config_name(v, p->c->host.name);
    p->c->host.named |= good;
    return good;
}
static bool host_port_set(struct parser *p, const char *v) { return port_parse(v, 1, &p->c->host.port); }
static bool host_api_port_set(struct parser *p, const char *v) { return port_parse(v, 0, &p->c->host.api_port); }
static bool host_key_set(struct parser *p, const char *v) { return file_name_copy(v, p->c->host.key); }
static bool host_cert_set(struct parser *p, const char *v) { return file_name_copy(v, p->c->host.cert); }
static bool host_pool_set(struct parser *p, const char *v) { return file_name_copy(v, p->c->host.pool_cpuid); }
static bool host_incoming_set(struct parser *p, const char *v) { return config_boolean(v, &p->c->host.incoming); }
static bool host_outgoing_set(struct parser *p, const char *v) { return config_boolean(v, &p->c->host.outgoing); }
static bool host_downtime_set(struct parser *p, const char *v)
{
    return config_number(v, 1, 60000, &p->c->host.downtime_limit_ms);
}
static bool host_bandwidth_set(struct parser *p, const char *v)
{
    return config_number(v, 0, 100000, &p->c->host.bandwidth_limit_mb);
}
static bool host_max_jobs_set(struct parser *p, const char *v) { return config_number(v, 1, 16, &p->c->host.max_jobs); }
static bool host_max_storage_jobs_set(struct parser *p, const char *v)
{
    return config_number(v, 1, 16, &p->c->host.max_storage_jobs);
}
static bool host_guest_cpus_set(struct parser *p, const char *v) { return cpu_list_parse(v, &p->c->host.guest_cpus); }
static bool host_verify_set(struct parser *p, const char *v) { return config_boolean(v, &p->c->host.verify); }
static bool host_lz4_set(struct parser *p, const char *v) { return config_boolean(v, &p->c->host.lz4); }

static bool peer_address_set(struct parser *p, const char *v)
{
    uint8_t ip[CONFIG_MAX_ADDRESSES][4];
    unsigned n = 0;
    char item[20];
    while (list_item_next(&v, item, sizeof(item)))
        if (n == CONFIG_MAX_ADDRESSES || !machine_ip4_parse(item, ip[n++]))
            return false;
    if (v)
        return false;
    memcpy(p->peer->ip, ip[0], 4);
    memcpy(p->peer->other_ip, ip[1], (n - 1) * 4);
    p->peer->n_other_ips = n - 1;
    return true;
}
static bool peer_port_set(struct parser *p, const char *v) { return port_parse(v, 1, &p->peer->port); }
bool config_fingerprint_parse(const char *text, uint8_t out[32]) { return hex_bytes_parse(text, out, 32, false); }
static bool peer_fingerprint_set(struct parser *p, const char *v)
{
    return config_fingerprint_parse(v, p->peer->fingerprint);
}

static bool peer_removed_set(struct parser *p, const char *v) { return config_boolean(v, &p->peer->removed); }

static bool client_role_set(struct parser *p, const char *v)
{
    bool operate = !strcmp(v, "operate");
    if (!operate && strcmp(v, "read"))
        return false;
    p->peer->trust = operate ? TRUST_OPERATE : TRUST_READ;
    return true;
}

static bool vm_memory_set(struct parser *p, const char *v)
{
    return memory_size_parse(v, MEMORY_MIN, &p->vm->memory_bytes);
}
static bool vm_cpus_set(struct parser *p, const char *v)
{
    return config_number(v, 1, CONFIG_MAX_CPUS, &p->vm->n_cpus);
}
static bool vm_kernel_set(struct parser *p, const char *v) { return guest_file_copy(v, p->vm->kernel); }
static bool vm_initrd_set(struct parser *p, const char *v)
{
    return !config_file_is_hosts(v) && text_copy(v, p->vm->initrd, CONFIG_PATH_LEN, true);
}
static bool vm_module_set(struct parser *p, const char *v) { return config_module_add(p->vm, v); }
static bool vm_cmdline_set(struct parser *p, const char *v)
{
    return text_copy(v, p->vm->cmdline, CONFIG_CMDLINE_LEN, false);
}
static bool vm_autostart_set(struct parser *p, const char *v)
{
    bool yes = false;
    bool always = !strcmp(v, "always"), last = !strcmp(v, "last");
    if (!always && !last && !config_boolean(v, &yes))
        return false;
    p->vm->autostart = always ? AUTOSTART_ALWAYS : last ? AUTOSTART_LAST : yes ? AUTOSTART_YES : AUTOSTART_NO;
    return true;
}
static bool vm_start_order_set(struct parser *p, const char *v)
{
    return config_number(v, 0, CONFIG_START_ORDER_MAX, &p->vm->start_order);
}
static bool vm_start_delay_set(struct parser *p, const char *v)
{
    return config_number(v, 0, CONFIG_START_DELAY_MAX_S, &p->vm->start_delay_s);
}
static bool vm_on_shutdown_set(struct parser *p, const char *v)
{
    static const char *const words[] = {
        [ON_SHUTDOWN_REFUSE] = "refuse", [ON_SHUTDOWN_STOP] = "stop", [ON_SHUTDOWN_EVACUATE] = "evacuate"
    };
    int i = word_index(v, words, ARRAY_SIZE(words));
    if (i >= 0)
        p->vm->on_shutdown = (enum on_shutdown)i;
    return i >= 0;
}
/* The card that `mac` and `spoof` are of: that of the last line `nic`, or the first. */
static struct nic_config *card_here(struct parser *p) { return &p->vm->nic[p->vm->n_nics ? p->vm->n_nics - 1 : 0]; }
static bool vm_nic_set(struct parser *p, const char *v)
{
    bool yes;
    if (!config_boolean(v, &yes) || (yes && p->vm->n_nics == CONFIG_MAX_NICS))
        return false;
    if (yes && p->vm->n_nics) /* it may have its own; what stands above the first card is that one's */
        p->seen &= ~(BIT32(VM_MAC) | BIT32(VM_SPOOF));
    p->vm->n_nics += yes;
    return true;
}
static bool vm_spoof_set(struct parser *p, const char *v)
{
    bool allow = !strcmp(v, "allow");
    if (!allow && strcmp(v, "deny"))
        return false;
    card_here(p)->spoof = allow;
    return true;
}
static bool vm_rng_set(struct parser *p, const char *v) { return config_boolean(v, &p->vm->rng); }
static bool vm_balloon_set(struct parser *p, const char *v) { return config_boolean(v, &p->vm->balloon); }
/* Parse HOST[:PORT]/EXPORT. */
static bool nbd_target_parse(const char *s, struct nbd_config *out)
{
    struct nbd_config n = { .port = CONFIG_DEFAULT_NBD_PORT };
    uint64_t port;
    if (!ip4_parse(&s, n.ip) || !is_machine(n.ip))
        return false;
    if (*s == ':') {
        s++;
        if (!digits_parse(&s, 65535, &port) || !port)
            return false;
        n.port = (uint16_t)port;
    }
    if (*s++ != '/' || strlen(s) >= sizeof(n.name))
        return false;
    for (const char *c = s; *c; c++)
        if (*c <= ' ' || *c > '~')
            return false;
    memcpy(n.name, s, strlen(s));
    *out = n;
    return true;
}
/* Of the disk of the last line `disk`, or of the first. */
static bool vm_disk_fingerprint_set(struct parser *p, const char *v)
{
    uint8_t fingerprint[32];
    unsigned i = p->vm->n_disks ? p->vm->n_disks - 1 : 0;
    p->secret |= BIT32(i);
    if (!hex_bytes_parse(v, fingerprint, sizeof(fingerprint), false))
        return false;
    if (!p->vm->n_disks) {
        memcpy(p->fingerprint, fingerprint, sizeof(fingerprint)); /* it stands above the disk */
        p->secret_early = true;
    } else if (p->vm->disk[i].kind == DISK_ON_NBD) {
        memcpy(p->vm->disk[i].nbd.fingerprint, fingerprint, sizeof(fingerprint));
        p->vm->disk[i].nbd.tls = true;
    }
    return true;
}
/* Parse VG/LV, of the characters that LVM2 allows in names. */
static bool lv_parse(const char *s, struct lv_config *out)
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+_.-";
    size_t vg = strspn(s, chars), lv = s[vg] == '/' ? strspn(s + vg + 1, chars) : 0;
    if (!vg || !lv || vg >= CONFIG_LV_NAME_LEN || lv >= CONFIG_LV_NAME_LEN || s[vg + 1 + lv])
        return false;
    *out = (struct lv_config){ 0 };
    memcpy(out->vg, s, vg);
    memcpy(out->lv, s + vg + 1, lv);
    return true;
}
/* Parse read-only, or serial=TEXT of at most 20 letters, digits, '-', '_', '.'. */
static bool disk_option_parse(const char *s, struct disk_config *out)
{
    if (!strcmp(s, "read-only")) {
        out->read_only = true;
        return true;
    }
    if (strncmp(s, "serial=", 7) || !s[7] || strlen(s + 7) >= sizeof(out->serial))
        return false;
    for (const char *c = s + 7; *c; c++)
        if (!name_char(*c))
            return false;
    memcpy(out->serial, s + 7, strlen(s + 7) + 1);
    return true;
}
/* Where the disk is. */
static bool disk_place_parse(const char *s, struct disk_config *out)
{
    out->kind = DISK_ON_NBD;
    if (!strncmp(s, "nbd:", 4))
        return nbd_target_parse(s + 4, &out->nbd);
    out->kind = DISK_ON_LV;
    if (!strncmp(s, "lv:", 3))
        return lv_parse(s + 3, &out->lv);
    out->kind = DISK_IN_RAM;
    if (strncmp(s, "ram:", 4))
        return false;
    return memory_size_parse(s + 4, BLOCK_SIZE, &out->bytes) || guest_file_copy(s + 4, out->file);
}
/* Parse a place and options.  These are cut off from the end, since a file's name may have blanks. */
static bool disk_parse(const char *v, struct disk_config *out)
{
    char s[DISK_LEN], *word;
    *out = (struct disk_config){ 0 };
    if (strlen(v) >= sizeof(s))
        return false;
    memcpy(s, v, strlen(v) + 1);
    while ((word = strrchr(s, ' ')) && disk_option_parse(word + 1, out)) {
        while (word > s && word[-1] == ' ')
            word--;
        *word = 0;
    }
    return disk_place_parse(s, out);
}
bool config_disk_parse(const char *value, struct disk_config *out) { return disk_parse(value, out); }

bool config_place_next(const char **at, unsigned *disk, struct lv_config *out)
{
    char text[2 * CONFIG_LV_NAME_LEN];
    const char *s = *at;
    size_t n = strcspn(s, ",");
    if (n < 5 || n - 4 >= sizeof(text) || memcmp(s, "vd", 2) != 0 || s[2] < 'a' || s[2] >= 'a' + CONFIG_MAX_DISKS ||
        s[3] != '=')
        return false;
    memcpy(text, s + 4, n - 4);
    text[n - 4] = '\0';
    *disk = (unsigned)(s[2] - 'a');
    *at = s + n + (s[n] == ',');
    return lv_parse(text, out) || ((*at = s), false);
}
static bool vm_disk_set(struct parser *p, const char *v)
{
    struct vm_config *vm = p->vm;
    struct disk_config d;
    if (vm->n_disks == CONFIG_MAX_DISKS || !disk_parse(v, &d)) {
        p->bad_disk = true;
        return false;
    }
    if (!vm->n_disks && p->secret_early && d.kind == DISK_ON_NBD) {
        memcpy(d.nbd.fingerprint, p->fingerprint, sizeof(d.nbd.fingerprint));
        d.nbd.tls = true;
    }
    if (vm->n_disks) /* it may have its own; what stands above the first disk is that one's */
        p->seen &= ~BIT32(VM_DISK_FINGERPRINT);
    vm->disk[vm->n_disks++] = d;
    return true;
}
static bool vm_console_set(struct parser *p, const char *v)
{
    bool both = !strcmp(v, "virtio");
    if (!both && strcmp(v, "serial"))
        return false;
    p->vm->hvc = both;
    return true;
}
static bool vm_cpu_set(struct parser *p, const char *v)
{
    static const char *const words[] = { "host", "x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4", "pool" };
    return word_index(v, words, ARRAY_SIZE(words)) >= 0 && text_copy(v, p->vm->cpu, sizeof(p->vm->cpu), false);
}
bool config_mac_parse(const char *s, uint8_t mac[6])
{
    uint8_t m[6];
    if (!hex_bytes_parse(s, m, 6, true) || (m[0] & 1)) /* bit 0: a group address */
        return false;
    memcpy(mac, m, 6);
    return true;
}
static bool vm_mac_set(struct parser *p, const char *v) { return config_mac_parse(v, card_here(p)->mac); }
static bool vm_pin_set(struct parser *p, const char *v)
{
    unsigned n;
    if (!strcmp(v, "any")) {
        p->vm->pin = -1;
        return true;
    }
    if (!config_number(v, 0, CONFIG_PIN_MAX, &n))
        return false;
    p->vm->pin = (int)n;
    return true;
}

static bool host_mitigations_set(struct parser *p, const char *v)
{
    static const char *const words[] = { "auto", "off" };
    int i = word_index(v, words, ARRAY_SIZE(words));
    if (i >= 0)
        p->c->host.mitigations_off = i;
    return i >= 0;
}

#define YES_NO        "yes or no"
#define FILE_NAME     "a file name in \\godwit\\, at most 63 characters, without folder"
#define NOT_THE_HOSTS "; keys, certificates, godwit.conf and seed are the host's own"
static const struct key host_keys[] = {
    { "name", host_name_set, NAME },
    { "ip", host_ip_set, "dhcp, or address and prefix length like 192.168.1.10/24" },
    { "gateway", host_gateway_set, "an address like 192.168.1.1" },
    { "port", host_port_set, "a TCP port, 1 to 65535" },
    { "api-port", host_api_port_set, "a TCP port, or 0 for none" },
    { "key", host_key_set, FILE_NAME },
    { "cert", host_cert_set, FILE_NAME },
    { "pool-cpuid", host_pool_set, FILE_NAME },
    { "incoming", host_incoming_set, YES_NO },
    { "outgoing", host_outgoing_set, YES_NO },
    { "disk-servers", host_disk_servers_set, "networks like 10.7.0.9/32, 192.168.0.0/16 (at most 8)" },
    { "networks", host_networks_set, "networks like 10.7.0.0/24, 192.168.0.0/16 (at most 8)" },
    { "bandwidth-limit-mb", host_bandwidth_set, "megabytes per second, 0 (no limit) to 100000" },
    { "downtime-limit-ms", host_downtime_set, "milliseconds, 1 to 60000" },
    { "max-jobs", host_max_jobs_set, "a number, 1 to 16" },
    { "max-storage-jobs", host_max_storage_jobs_set, "a number, 1 to 16" },
    { "dirty-log", host_dirty_log_set, "auto, wp, ad or pml" },
    { "guest-cpus", host_guest_cpus_set, "all, or numbers of CPUs from 0 to 63: 1-3,5" },
    { "verify", host_verify_set, YES_NO },
    { "lz4", host_lz4_set, YES_NO },
    { "mitigations", host_mitigations_set, "auto or off" },
};
static const struct key peer_keys[] = {
    [PEER_ADDRESS] = { "address", peer_address_set, "an address like 192.168.1.10, or up to 4 with commas between" },
    [PEER_PORT] = { "port", peer_port_set, "a TCP port, 1 to 65535" },
    [PEER_FINGERPRINT] = { "fingerprint", peer_fingerprint_set,
                           "64 hex digits, as `tools/mkhost --fingerprint NAME` prints them" },
    [PEER_REMOVED] = { "removed", peer_removed_set, YES_NO },
};
static const struct key client_keys[] = {
    [CLIENT_FINGERPRINT] = { "fingerprint", peer_fingerprint_set, "64 hex digits, as `godwitctl key` prints them" },
    [CLIENT_ROLE] = { "role", client_role_set, "read or operate" },
    [CLIENT_REMOVED] = { "removed", peer_removed_set, YES_NO },
};
static const struct key vm_keys[] = {
    [VM_MEMORY] = { "memory", vm_memory_set, "a size like 256M or 2G: a multiple of 2M, from 16M to 1024G" },
    [VM_CPUS] = { "cpus", vm_cpus_set, "a number, 1 to 64" },
    [VM_KERNEL] = { "kernel", vm_kernel_set, FILE_NAME NOT_THE_HOSTS },
    [VM_INITRD] = { "initrd", vm_initrd_set, FILE_NAME NOT_THE_HOSTS },
    [VM_MODULE] = { "module", vm_module_set,
                    "a file name in \\godwit\\ without folder, and a string for it if wanted, like "
                    "`module = vmlinuz root=/dev/vda`; at most 16 modules, 1000 characters in all" NOT_THE_HOSTS },
    [VM_CMDLINE] = { "cmdline", vm_cmdline_set, "text of at most 1023 characters" },
    [VM_CPU] = { "cpu", vm_cpu_set, "host, x86-64-v1, x86-64-v2, x86-64-v3, x86-64-v4 or pool" },
    [VM_AUTOSTART] = { "autostart", vm_autostart_set, "yes, no, always or last" },
    [VM_SHUTDOWN] = { "on-shutdown", vm_on_shutdown_set, "refuse, stop or evacuate" },
    [VM_MAC] = { "mac", vm_mac_set, "a unicast address like 02:47:57:00:00:01" },
    [VM_PIN] = { "pin", vm_pin_set, "any, or the number of a CPU, 0 to 63" },
    [VM_NIC] = { "nic", vm_nic_set, "yes (once for each card, at most 8) or no" },
    [VM_SPOOF] = { "spoof", vm_spoof_set, "allow or deny" },
    [VM_DISK] = { "disk", vm_disk_set,
                  "ram:SIZE (like ram:64M, a multiple of 2M), ram:FILE (a file in \\godwit\\), "
                  "lv:GROUP/VOLUME (of LVM, on this host's disks) or nbd:ADDRESS[:PORT]/EXPORT (like "
                  "nbd:192.168.1.5/web), and behind it read-only or serial=TEXT if wanted; at most 16 "
                  "disks" NOT_THE_HOSTS },
    [VM_DISK_FINGERPRINT] = { "disk-fingerprint", vm_disk_fingerprint_set,
                              "64 hex digits: the SHA-256 of the certificate (DER) of the disk's NBD server" },
    [VM_RNG] = { "rng", vm_rng_set, YES_NO },
    [VM_BALLOON] = { "balloon", vm_balloon_set, YES_NO },
    [VM_CONSOLE] = { "console", vm_console_set, "serial or virtio" },
    [VM_START_ORDER] = { "start-order", vm_start_order_set, "a number, 0 to 999; the lowest starts first" },
    [VM_START_DELAY] = { "start-delay-s", vm_start_delay_set, "seconds, 0 to 3600" },
};

/* struct parser has a bit for each key. */
_Static_assert(ARRAY_SIZE(host_keys) <= 32 && ARRAY_SIZE(vm_keys) <= 32, "seen and good have 32 bits");
_Static_assert(ARRAY_SIZE(peer_keys) == PEER_REMOVED + 1 && ARRAY_SIZE(client_keys) == CLIENT_REMOVED + 1, "indices");
_Static_assert(ARRAY_SIZE(vm_keys) == VM_START_DELAY + 1, "indices");
_Static_assert(CONFIG_MAX_CPUS == 64 && CONFIG_MAX_DISKS == 16 && CONFIG_MAX_NICS == 8 && CONFIG_SERIAL_LEN == 21,
               "messages above");
_Static_assert(CONFIG_MAX_NETWORKS == 8 && CONFIG_MAX_ADDRESSES == 4 && CONFIG_MAX_MODULES == 16, "messages above");
_Static_assert(CONFIG_START_ORDER_MAX == 999 && CONFIG_START_DELAY_MAX_S == 3600, "likewise");
_Static_assert(CONFIG_PATH_LEN == 64 && CONFIG_NAME_LEN == 32 && CONFIG_CMDLINE_LEN == 1024, "messages above");

const struct key *config_keys(enum section s, unsigned *n)
{
    switch (s) {
    case SEC_HOST:    *n = ARRAY_SIZE(host_keys); return host_keys;
    case SEC_PEER:    *n = ARRAY_SIZE(peer_keys); return peer_keys;
    case SEC_CLIENT:  *n = ARRAY_SIZE(client_keys); return client_keys;
    case SEC_VM:      *n = ARRAY_SIZE(vm_keys); return vm_keys;
    case SEC_NONE:
    case SEC_IGNORED: break;
    }
    *n = 0;
    return NULL;
}
