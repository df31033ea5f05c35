/* SPDX-License-Identifier: BSD-2-Clause
 * net/nbd.h - a disk that is an export of an NBD server, over TCP, or over TLS if its configuration has a fingerprint.
 *
 * Manual: the NBD project's doc/proto.md ("The NBD protocol"): fixed newstyle negotiation, NBD_OPT_STARTTLS,
 * NBD_OPT_GO, simple replies. */
#ifndef GODWIT_NET_NBD_H
#define GODWIT_NET_NBD_H

#include "kernel/config/config.h"
#include "kernel/core/disk.h"
#include "kernel/lib/err.h"

/** Create the disk; its ops->poll() connects, negotiates and moves all requests.  disk->known: the server has
 *  described the export.  A lost connection is made again until ops->close().  Service pCPU.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err nbd_open(const struct nbd_config *target, struct disk **out);

#endif
