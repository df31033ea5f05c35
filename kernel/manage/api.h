/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api.h - the management interface: HTTPS with client certificates, JSON, and /metrics.  docs/api.md
 * describes it for its users.
 *
 * net/ hands over an authenticated stream of a [client].  Each connection has an HTTP machine and a buffer for one
 * answer.  A request is answered in the turn in which it is complete: nothing here blocks.  Service pCPU only. */
#ifndef GODWIT_KERNEL_MANAGE_API_H
#define GODWIT_KERNEL_MANAGE_API_H

#include "kernel/config/config.h"
#include "kernel/host/boot_info.h"

struct stream;

/** bi: borrowed for ever.  Call before api_accept(). */
void api_init(const struct boot_info *bi);
/** Take over a client's stream; net's on_client.  It is closed at once if there are too many, or no memory. */
void api_accept(struct stream *s);
/** End jobs whose changes are in the registry, on the disk.  Part of the service loop. */
void api_define_step(void);
/** Drive all connections.  True: something moved.  Part of the service loop. */
bool api_step(void);

#endif
