/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api.h - the management interface: HTTPS with client certificates, JSON, and /metrics.  docs/api.md
 * describes it to its users.
 *
 * net/ hands over an authenticated stream of a [client]; each has an HTTP machine and a buffer for one answer at a
 * time.  Every request is answered in the turn in which it is complete: nothing here waits.  Service pCPU only. */
#ifndef GODWIT_KERNEL_MANAGE_API_H
#define GODWIT_KERNEL_MANAGE_API_H

#include "kernel/config/config.h"
#include "kernel/host/boot_info.h"

struct stream;

/** bi: borrowed for ever. */
void api_init(const struct boot_info *bi);
/** net's on_client. */
void api_accept(struct stream *s);
/** One turn of all connections.  True: something moved. */
bool api_step(void);

#endif
