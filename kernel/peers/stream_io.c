/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/stream_io.c - copies bytes between a stream and the queues of a machine, without another buffer. */
#include "kernel/peers/stream_io.h"

bool stream_pump_in(struct mig_io *io, struct stream *s)
{
    size_t room, n;
    uint8_t *p = mig_fifo_space(&io->in, 1, &room);
    n = room ? stream_read(s, p, room) : 0;
    if (n)
        mig_fifo_commit(&io->in, n);
    return n > 0;
}

size_t stream_pump_out_some(struct mig_io *io, struct stream *s, bool more_follows, size_t max)
{
    size_t len, n;
    const uint8_t *p = mig_fifo_data(&io->out, &len);
    size_t some = MIN(len, max);
    n = some ? stream_write(s, p, some) : 0;
    if (n)
        mig_fifo_consume(&io->out, n);
    if (n == len && !more_follows)
        stream_flush(s);
    return n;
}

bool stream_pump_out(struct mig_io *io, struct stream *s, bool more_follows)
{
    return stream_pump_out_some(io, s, more_follows, SIZE_MAX) > 0;
}

bool stream_gone(const struct stream *s)
{
    enum stream_status st = stream_status(s);
    return st == STREAM_CLOSED || st == STREAM_FAILED;
}

enum hv_err stream_gone_error(const struct stream *s)
{
    return stream_status(s) == STREAM_CLOSED || stream_error(s) == HV_OK ? HV_E_CLOSED : stream_error(s);
}
