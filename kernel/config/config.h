/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/config/config.h - \godwit\godwit.conf as a plain struct.  docs/config.md lists every key.
 *
 *   [host]           name, ip (dhcp | a.b.c.d/len), gateway, port, api-port, key, cert, incoming, outgoing, networks,
 *                    bandwidth-limit-mb, downtime-limit-ms, max-jobs, max-storage-jobs, dirty-log, verify, lz4,
 *                    pool-cpuid
 *   [peer NAME]      address, port, fingerprint
 *   [client NAME]    fingerprint, role
 *   [vm NAME]        memory, cpus, kernel, initrd, module (several), cmdline, cpu, autostart, start-order,
 *                    start-delay-s, on-shutdown, pin, nic with mac and spoof (several), disk with disk-fingerprint
 *                    (several), rng, balloon, console
 *
 * A mistake costs the key or the section that it is in, never the rest.  Portable. */
#ifndef GODWIT_KERNEL_CONFIG_CONFIG_H
#define GODWIT_KERNEL_CONFIG_CONFIG_H

#include "kernel/lib/types.h"

#define CONFIG_MAX_PEERS        64
#define CONFIG_MAX_CLIENTS      64
#define CONFIG_MAX_VMS          256
#define CONFIG_NAME_LEN         32 /* with NUL; letters, digits, '-', '_', '.'; not starting with '-' */
#define CONFIG_PATH_LEN         64
#define CONFIG_PIN_MAX          63
#define CONFIG_CMDLINE_LEN      1024
#define CONFIG_MAX_MODULES      16
#define CONFIG_MAX_CPUS         64 /* of a guest */
#define CONFIG_MAX_DISKS        16 /* likewise */
#define CONFIG_MAX_NICS         8  /* likewise */
#define CONFIG_SERIAL_LEN       21 /* of a disk, with NUL */
#define CONFIG_DEFAULT_PORT     7420
#define CONFIG_DEFAULT_API_PORT 7443
#define CONFIG_MAX_ADDRESSES    4 /* of a peer */
#define CONFIG_MAX_NETWORKS     8

/* of [vm] start-order, with the default; of start-delay-s */
#define CONFIG_START_ORDER_MAX     999
#define CONFIG_START_ORDER_DEFAULT 500
#define CONFIG_START_DELAY_MAX_S   3600

/* How the dirty log finds changed pages (kernel/core/dirty.c). */
enum dirty_mech {
    DIRTY_AUTO, /* the best that the processor has */
    DIRTY_WP,   /* write protection */
    DIRTY_AD,   /* accessed and dirty bits of the second stage */
    DIRTY_PML   /* Intel's page-modification log */
};

/* What a certificate permits: moves; reading the management interface; all of that interface. */
enum trust { TRUST_PEER, TRUST_READ, TRUST_OPERATE };

struct peer_config { /* [peer] or [client] */
    char name[CONFIG_NAME_LEN];
    enum trust trust;
    uint8_t ip[4];                                 /* the first address */
    uint8_t other_ip[CONFIG_MAX_ADDRESSES - 1][4]; /* the others, in order */
    unsigned n_other_ips;
    uint16_t port;
    uint8_t fingerprint[32]; /* SHA-256 of the DER certificate */
    bool removed; /* it counts no more; it stays, for whoever points to it.  Addresses and fingerprint are 0 */
    bool later;   /* not in godwit.conf, or not so: set while the host runs */
};
#define CONFIG_LV_NAME_LEN 64
struct lv_config { /* a logical volume of a volume group on the host's disks */
    char vg[CONFIG_LV_NAME_LEN], lv[CONFIG_LV_NAME_LEN];
};
struct nbd_config { /* an export of an NBD server */
    uint8_t ip[4];
    uint16_t port;
    char name[CONFIG_PATH_LEN]; /* printable ASCII without blanks; "": the server's default export */
    bool tls;                   /* use TLS, and accept only the certificate with this fingerprint */
    uint8_t fingerprint[32];
};
#define CONFIG_DEFAULT_NBD_PORT 10809
struct disk_config {
    enum disk_kind { DISK_IN_RAM, DISK_ON_LV, DISK_ON_NBD } kind;
    bool read_only;                 /* for the guest, whatever the disk is */
    char serial[CONFIG_SERIAL_LEN]; /* as the guest reads it; "": one that names the kind */
    uint64_t bytes;                 /* IN_RAM: multiple of 2 MiB; 0: the size of file */
    union {
        char file[CONFIG_PATH_LEN]; /* IN_RAM: its contents at start, a file in \godwit\ ; "": blank */
        struct lv_config lv;        /* ON_LV */
        struct nbd_config nbd;      /* ON_NBD */
    };
};
struct nic_config {
    uint8_t mac[6]; /* announced after a move; the default is derived from the guest's name and the card's number */
    bool spoof;     /* the card may send from any address (net/port_filter.h); default no */
};
struct vm_config {
    char name[CONFIG_NAME_LEN];
    uint64_t memory_bytes;                                 /* multiple of 2 MiB, at least 16 MiB */
    unsigned n_cpus;                                       /* 1..CONFIG_MAX_CPUS */
    char kernel[CONFIG_PATH_LEN], initrd[CONFIG_PATH_LEN]; /* file names in \godwit\ ; initrd may be "" */
    char cmdline[CONFIG_CMDLINE_LEN];
    /* "FILE" or "FILE STRING" each: NUL-terminated strings, ended by an empty one; see config_module_next() */
    char modules[CONFIG_CMDLINE_LEN];
    char cpu[32]; /* CPUID baseline: "host", "x86-64-v1".."x86-64-v4", "pool" (docs/cpuid.md) */
    enum autostart {
        AUTOSTART_NO,
        AUTOSTART_YES,
        AUTOSTART_ALWAYS,
        AUTOSTART_LAST
    } autostart; /* YES: once every peer has said that it does not run it; ALWAYS: unreachable peers do not count; LAST:
                  * as YES, if it was here and not stopped when the host went down (kernel/vm/vm_define.c) */
    unsigned start_order;   /* of guests with autostart: the lowest first; equal ones in the order of the table */
    unsigned start_delay_s; /* between its start and the next one's */
    enum on_shutdown {
        ON_SHUTDOWN_REFUSE,
        ON_SHUTDOWN_STOP,
        ON_SHUTDOWN_EVACUATE
    } on_shutdown;     /* what `poweroff` of the host does to it */
    int pin;           /* pCPU for every vCPU, -1: any */
    bool rng, balloon; /* virtio devices; default yes */
    bool hvc;          /* a virtio console beside the serial port */
    unsigned n_disks, n_nics;
    struct disk_config disk[CONFIG_MAX_DISKS]; /* virtio disks, in the order of their PCI slots */
    struct nic_config nic[CONFIG_MAX_NICS];    /* virtio network cards, likewise; [0].mac is there without a card too */
};
/** What disk i takes of the guest's memory; i = n_disks and more: 0. */
static inline uint64_t config_ram_disk_bytes(const struct vm_config *c, unsigned i)
{
    return i < c->n_disks && c->disk[i].kind == DISK_IN_RAM ? c->disk[i].bytes : 0;
}
/** The place of disk i in the part of the guest's memory that holds its disks in RAM, in bytes; i = n_disks: its
 *  length. */
static inline uint64_t config_ram_disk_at(const struct vm_config *c, unsigned i)
{
    uint64_t at = 0;
    while (i--)
        at += config_ram_disk_bytes(c, i);
    return at;
}

struct config_network {
    uint8_t ip[4];
    unsigned prefix_len; /* 0..32; 0: every address */
};
struct host_config {
    char name[CONFIG_NAME_LEN];
    bool named; /* name was given */
    bool dhcp;
    uint8_t ip[4], gateway[4];
    unsigned prefix_len;
    uint16_t port;
    uint16_t api_port;                                /* of the management interface; 0: off */
    char key[CONFIG_PATH_LEN], cert[CONFIG_PATH_LEN]; /* DER files in \godwit\ */
    char pool_cpuid[CONFIG_PATH_LEN]; /* text in \godwit\: the processors of the pool's hosts, for cpu = pool */
    bool incoming, outgoing;
    struct config_network networks[CONFIG_MAX_NETWORKS]; /* for moves, best first; none: all */
    unsigned n_networks;
    struct config_network disk_servers[CONFIG_MAX_NETWORKS]; /* of arriving guests, beside those of the [vm]s here */
    unsigned n_disk_servers;
    unsigned bandwidth_limit_mb; /* of all outgoing moves together, in 10^6 bytes per second; 0: no limit */
    unsigned downtime_limit_ms;  /* default 300 */
    unsigned max_jobs;           /* simultaneous outgoing moves, default 2; more wait */
    unsigned max_storage_jobs;   /* of these that copy volumes, and moves of disks within this host */
    enum dirty_mech dirty_mech;
    uint64_t guest_cpus;  /* bit n: pCPU n may run guests; default all */
    bool verify;          /* hash all guest memory when the guest is stopped, and compare; lengthens the blackout */
    bool lz4;             /* default on */
    bool mitigations_off; /* nothing is done against side channels: kernel/host/x86/speculation.h */
};
struct config {
    struct host_config host;
    struct peer_config peers[CONFIG_MAX_PEERS];
    unsigned n_peers;
    struct peer_config clients[CONFIG_MAX_CLIENTS]; /* of the management interface; without address */
    unsigned n_clients;
    struct vm_config *vms; /* borrowed: room for max_vms, from whoever has the text parsed */
    unsigned n_vms, max_vms;
    unsigned n_errors;
};

/** This host's configuration: godwit.conf, and what was set later.  Main sets the pointer once, before the first use.
 *  kernel/manage/settings.c changes some of it while the host runs, in place, on the service pCPU: values of `host`,
 *  and the lists of peers and clients.  An element of a list never moves and is never freed; lists only grow.  So
 *  pointers and indices stay valid; whoever goes through a list leaves out what is `removed`.  What other pCPUs read
 *  never changes. */
extern const struct config *host_config;

/** Called for each mistake.  line: from 1; 0: the whole file.  section, key: as written, "" where there is none.
 *  expected: what would be right. */
typedef void config_error_fn(void *ctx, unsigned line, const char *section, const char *key, const char *expected);

/** At least so many [vm] sections as text has, at most CONFIG_MAX_VMS: for max_vms. */
unsigned config_vms_bound(const char *text, size_t len);
/** Parse text[0..len) into out, which is overwritten but for vms and max_vms; defaults where nothing valid is given.
 *  Never fails: mistakes go to on_error (NULL: nowhere) and are counted in out->n_errors.  A [vm] without valid memory
 *  or kernel is reported and dropped, and so is a [peer] without address or fingerprint.  Any context; out is large: no
 *  stack variable. */
void config_parse(const char *text, size_t len, struct config *out, config_error_fn *on_error, void *ctx);

/** Parse what was set while the host runs, in the same syntax, into out: its host begins as *host; a [peer] or [client]
 *  with `removed = yes` is kept, as removed.  [vm] sections are mistakes. */
void config_parse_later(const char *text, size_t len, const struct host_config *host, struct config *out,
                        config_error_fn *on_error, void *ctx);

/** Parse the definition of the guest `name`: the text of one [vm] section, with or without the line [vm NAME].  As
 *  config_parse(); out->vms[0] is the guest, valid if out->n_errors is 0. */
void config_vm_parse(const char *name, const char *text, size_t len, struct config *out, config_error_fn *on_error,
                     void *ctx);
/** Parse the value of a key `disk`; of an NBD server without its fingerprint.  False: it is wrong. */
bool config_disk_parse(const char *value, struct disk_config *out);
/** Parse 64 hex digits.  False: it is wrong. */
bool config_fingerprint_parse(const char *text, uint8_t out[32]);
/** Write the place of d as it stands behind `disk = `, without options.  Returns as snprintf(). */
int config_disk_place(const struct disk_config *d, char *out, size_t cap);
/** Write the lines of d: `disk`, and `disk-fingerprint` if it has one.  Returns their length without the final NUL; 0:
 *  they do not fit into cap (CONFIG_DISK_TEXT_MAX does). */
#define CONFIG_DISK_TEXT_MAX 512u
size_t config_disk_write(const struct disk_config *d, char *out, size_t cap);
/** As godwit.conf has it. */
const char *config_autostart_word(enum autostart a);
/** The lines of section [vm NAME] in text, from the one with its name on.  NULL: there is none. */
const char *config_vm_text(const char *text, size_t len, const char *name, size_t *section_len);

/** Write v as the text of a [vm] section, for a guest that came from elsewhere: its files have names without meaning.
 *  Returns its length without the final NUL, less than cap; 0: it does not fit (CONFIG_VM_TEXT_MAX does). */
#define CONFIG_VM_TEXT_MAX 8192u
size_t config_vm_write(const struct vm_config *v, char *out, size_t cap);

#define CONFIG_MISTAKE_LEN 512
/** A mistake in words, for the log: file, line, section, key, and what would be right. */
void config_mistake_text(char out[CONFIG_MISTAKE_LEN], unsigned line, const char *section, const char *key,
                         const char *expected);

/** Take out of c->peers this host itself, so that one file can serve all hosts, and log it.  fingerprint: of its
 *  certificate.  A [peer] with that fingerprint is this host; without a [host] name it gives the name.  One with this
 *  host's name, or its fixed address and port, cannot be another host either: its fingerprint is stale. */
void config_self_drop(struct config *c, const uint8_t fingerprint[32]);

/** Add a module to v, given as "FILE" or "FILE STRING" (printable, FILE without folder).  False, v unchanged: text is
 *  not of this form, or v has CONFIG_MAX_MODULES already, or no room for so many characters. */
bool config_module_add(struct vm_config *v, const char *text);
/** The module of v after m (NULL: the first) as it was given; NULL: there is none.  Its file name is copied to file;
 *  *string points to its string ("": none), inside v. */
const char *config_module_next(const struct vm_config *v, const char *m, char file[CONFIG_PATH_LEN],
                               const char **string);

/** The number of files that v is started from: kernel, initrd, modules. */
unsigned config_boot_files(const struct vm_config *v);

/** Does a file of \godwit\ belong to the host, so that no guest may have it?  Keys and certificates, the seed, and
 *  godwit.conf with its backups, in any case of letters.  What [host] names otherwise, boot takes out of the list. */
bool config_file_is_hosts(const char *name);

/** May a host, peer, client or guest have this name? */
bool config_name_ok(const char *s);
/** Parse a decimal number in [min, max], or a network "A.B.C.D/1..32".  False, *out unchanged: s is not one. */
bool config_number(const char *s, unsigned min, unsigned max, unsigned *out);
bool config_network_parse(const char *s, struct config_network *out);
#define CONFIG_PLACES_LEN 512
/** Of a text "vda=GROUP/VOLUME,vdc=GROUP/VOLUME": the place at *at, which is moved on.  False: the end, or, if *at is
 *  not "", malformed. */
bool config_place_next(const char **at, unsigned *disk, struct lv_config *out);
/** Does ip lie in n? */
bool config_network_has(const struct config_network *n, const uint8_t ip[4]);
/** May a guest that arrives have its disk on the server ip?  True: a [vm] here has it, or [host] disk-servers. */
bool config_disk_server_allowed(const struct config *c, const uint8_t ip[4]);
/** The place in [host] networks of the network that ip lies in: 0 is best for moves; -1: not to be used. */
int config_network_rank(const struct config *c, const uint8_t ip[4]);
/** The default address of card i of the guest of that name: 02, "GW", and 24 bits of a hash of both, so that it is the
 *  same on every host. */
void config_mac_default(const char *name, unsigned i, uint8_t mac[6]);
/** Parse a unicast address like 02:47:57:00:00:01.  False, mac unchanged: s is none. */
bool config_mac_parse(const char *s, uint8_t mac[6]);
const struct peer_config *config_peer(const struct config *c, const char *name); /* NULL: no such, or removed */

#endif
