/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/settings.h - what is set while the host runs: values of [host], peers, clients.  Service pCPU only.
 *
 * It is kept in the registry's entry `settings`, in the syntax of godwit.conf, and goes before what godwit.conf says.
 * Without a registry it holds until the host's next start; each message says so.
 * Functions with why: the result for a person; on an error cause and fix.  by: as in operate.h. */
#ifndef GODWIT_KERNEL_MANAGE_SETTINGS_H
#define GODWIT_KERNEL_MANAGE_SETTINGS_H

#include "kernel/config/config.h"
#include "kernel/lib/err.h"
#include "kernel/lib/json.h"
#include "kernel/lib/why.h"

#define SETTINGS_VALUE 160 /* bytes of a value, with NUL */

/** c: what godwit.conf says, host_config; borrowed for ever.  fingerprint: of this host's certificate, 32 bytes; NULL:
 *  none.  Applies the registry's entry.  Boot CPU, after registry_init(). */
void settings_init(struct config *c, const uint8_t *fingerprint);
/** Apply the entry of a registry that was taken meanwhile.  Part of the service loop. */
void settings_step(void);

/** Set a key of [host]; value "default": as godwit.conf says.  HV_E_INVAL: a key that cannot change while the host
 *  runs, or a value that it does not take. */
HV_MUST_CHECK enum hv_err settings_host_set(const char *key, const char *value, const char *by, struct why *why);
/** Add a peer, or change the one of this name.  address, fingerprint: as in godwit.conf; port 0: the usual one.
 *  HV_E_INVAL; HV_E_EXIST: another peer, or this host, has that fingerprint; HV_E_NOMEM: the list is full. */
HV_MUST_CHECK enum hv_err settings_peer_add(const char *name, const char *address, unsigned port,
                                            const char *fingerprint, const char *by, struct why *why);
/** HV_E_NOENT; HV_E_BUSY: a guest moves to or from it. */
HV_MUST_CHECK enum hv_err settings_peer_remove(const char *name, const char *by, struct why *why);
/** The same for clients.  role: read or operate.  The last client with the role operate loses it, or itself, only with
 *  sure; else HV_E_AGAIN. */
HV_MUST_CHECK enum hv_err settings_client_add(const char *name, const char *fingerprint, const char *role, bool sure,
                                              const char *by, struct why *why);
HV_MUST_CHECK enum hv_err settings_client_remove(const char *name, bool sure, const char *by, struct why *why);

/** Append to an open object: "settings", each key that can be set, as godwit.conf has it and as it is now; "address",
 *  "port", "fingerprint" of this host. */
void settings_put(struct json *j);

#endif
