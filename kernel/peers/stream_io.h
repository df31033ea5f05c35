/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/stream_io.h - bytes between a stream (net/) and a machine of migrate/.  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_STREAM_IO_H
#define GODWIT_KERNEL_PEERS_STREAM_IO_H

#include "migrate/mig.h"
#include "net/stream.h"

/** Transfer the bytes that are there and fit, from s or to s.  True: there were some.  more_follows: do not flush, the
 *  next bytes come soon. */
bool stream_pump_in(struct mig_io *io, struct stream *s);
bool stream_pump_out(struct mig_io *io, struct stream *s, bool more_follows);
/** At most max bytes; returns their number. */
size_t stream_pump_out_some(struct mig_io *io, struct stream *s, bool more_follows, size_t max);
/** Is the stream closed or failed? */
bool stream_gone(const struct stream *s);
/** Why: HV_E_CLOSED, or the error of the stream. */
enum hv_err stream_gone_error(const struct stream *s);

#endif
