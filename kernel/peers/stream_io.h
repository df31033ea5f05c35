/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/stream_io.h - bytes between a stream (net/) and a machine of migrate/.  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_STREAM_IO_H
#define GODWIT_KERNEL_PEERS_STREAM_IO_H

#include "migrate/mig.h"
#include "net/stream.h"

/** Move what there is, or what fits, one way; true: bytes moved.  more_follows: do not seal a record
 *  for what is queued now. */
bool stream_pump_in(struct mig_io *io, struct stream *s);
bool stream_pump_out(struct mig_io *io, struct stream *s, bool more_follows);
/** At most max bytes; returns how many. */
size_t stream_pump_out_some(struct mig_io *io, struct stream *s, bool more_follows, size_t max);
bool stream_gone(const struct stream *s);
/** Why a stream that is gone went. */
enum hv_err stream_gone_error(const struct stream *s);

#endif
