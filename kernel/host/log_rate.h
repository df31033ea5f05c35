/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/log_rate.h - rate limit of log lines, for log.c only: what one guest, peer or client causes
 * may not push out what others have said.
 *
 * A source is a subject, a format and the text's first word: one place in the code, for one guest, peer or client.  So
 * a line about what a peer names begins with the peer, which cannot choose its own name.  A source
 * has credit for LOG_BURST lines, and one more each LOG_PERIOD_US.  A place in the code as a whole has more, since a
 * peer may invent names.  What is left out is counted, and said once a minute.  Caller holds the log's lock. */
#ifndef GODWIT_KERNEL_HOST_LOG_RATE_H
#define GODWIT_KERNEL_HOST_LOG_RATE_H

#include "kernel/lib/types.h"

#define LOG_BURST      50
#define LOG_PERIOD_US  5000000u
#define LOG_PLACE_MORE 4 /* credit of a place in the code, in units of a source's */
#define LOG_MINUTE_US  60000000u

/** May a line of this source be written now?  False: it is counted instead. */
bool log_rate_allows(const char *subject, const char *fmt, const char *text, uint64_t now_us);
/** The next source of which lines were left out in the minute that has passed: how many, its subject (at most 31
 *  bytes), and the begin of the first line.  False: none, or the minute has not passed yet. */
struct log_left_out {
    uint64_t n;
    char subject[32], text[64];
};
bool log_rate_left_out(struct log_left_out *out, uint64_t now_us);

#endif
