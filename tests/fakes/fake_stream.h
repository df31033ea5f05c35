/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/fake_stream.h - the bare stream of net/stream.h, with the test as the server; and the clock. */
#ifndef GODWIT_TESTS_FAKE_STREAM_H
#define GODWIT_TESTS_FAKE_STREAM_H

#include "net/stream.h"

#define FAKE_STREAM_CAP (1u << 20)

struct fake_stream {
    bool alive;                /* between connect and close or abort */
    enum stream_status status; /* the test sets it */
    unsigned n_connects, n_aborts, n_closes;
    uint8_t to_client[FAKE_STREAM_CAP];
    size_t to_len, to_pos; /* the test appends, the client reads */
    uint8_t from_client[FAKE_STREAM_CAP];
    size_t from_len;             /* what the client wrote */
    size_t read_max, write_room; /* bytes of one stream_read, bytes that fit in all until the test changes it */
    enum hv_err connect_error;
    bool tls_error;
    const struct peer_config *peer;
    bool tls; /* the client began TLS; the test sets the status to OPEN when that is done */
};
extern struct fake_stream fake_stream; /* there is one at a time */
extern uint64_t fake_now_us;           /* what clock_us() says */
void fake_stream_reset(void);

#endif
