/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/config/config_impl.h - shared by config.c (lines and sections), config_keys.c (what each key takes) and
 * config_edit.c (which lines are whose), and used by these only. */
#ifndef GODWIT_KERNEL_CONFIG_CONFIG_IMPL_H
#define GODWIT_KERNEL_CONFIG_CONFIG_IMPL_H

#include "kernel/config/config.h"

enum section { SEC_NONE, SEC_IGNORED, SEC_HOST, SEC_PEER, SEC_CLIENT, SEC_VM };

struct parser {
    struct config *c;
    config_error_fn *on_error;
    void *ctx;
    const char *only; /* config_vm_parse(): the guest whose section this is; NULL: a whole godwit.conf */
    bool only_begun;  /* that section has begun */
    unsigned line;    /* the one being read, from 1 */
    enum section section;
    unsigned section_line;
    char section_text[64];    /* as written, for messages */
    struct peer_config *peer; /* borrowed from c: the section being read, [peer] or [client]; the last of its array */
    struct vm_config *vm;     /* borrowed from c: likewise for [vm] */
    uint32_t seen;            /* bit i: key i of this section was given */
    uint32_t good;            /* bit i: it was given with a valid value */
    uint32_t secret;          /* bit i: disk i of the [vm] was given a fingerprint, valid or not */
    bool secret_early;        /* a valid one stands above the first disk: */
    uint8_t fingerprint[32];
    bool bad_disk;         /* of the [vm]: a line `disk` was not valid */
    unsigned gateway_line; /* of [host] gateway; 0: not given */
    bool later;            /* config_parse_later() */
};

/* A key; its setter (false: v is not valid, nothing is changed); the values it takes, in words for a message. */
typedef bool set_fn(struct parser *p, const char *v);
struct key {
    const char *name;
    set_fn *set;
    const char *expected;
};

/* Indices into the tables of keys, where code asks whether a key was given. */
enum { PEER_ADDRESS, PEER_PORT, PEER_FINGERPRINT, PEER_REMOVED };
enum { CLIENT_FINGERPRINT, CLIENT_ROLE, CLIENT_REMOVED };
enum {
    VM_MEMORY,
    VM_CPUS,
    VM_KERNEL,
    VM_INITRD,
    VM_MODULE,
    VM_CMDLINE,
    VM_CPU,
    VM_AUTOSTART,
    VM_SHUTDOWN,
    VM_MAC,
    VM_PIN,
    VM_NIC,
    VM_SPOOF,
    VM_DISK,
    VM_DISK_FINGERPRINT,
    VM_RNG,
    VM_BALLOON,
    VM_CONSOLE,
    VM_START_ORDER,
    VM_START_DELAY
};

#define LINE_MAX_LEN 1300u /* room for the longest command line */

#define NAME "1 to 31 letters, digits, '-', '_' or '.', not starting with '-'"

/** The n keys of a section; SEC_NONE and SEC_IGNORED have none. */
const struct key *config_keys(enum section s, unsigned *n);
/** Parse the name of a host, peer, client or VM.  False, out unchanged: s is not a name. */
bool config_name(const char *s, char out[CONFIG_NAME_LEN]);
/** Parse "yes", "off" and the like.  False, out unchanged: s is none of them. */
bool config_boolean(const char *s, bool *out);
/** Split a line in place.  False: a comment, or nothing.  *key: "[...]" for a section's line; *value: NULL without a
 *  '='. */
bool config_line_split(char *s, char **key, char **value);

#endif
