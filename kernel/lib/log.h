/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/log.h - messages for an operator, and panic with its assertions.
 *
 * A line is "[seconds.micros] level subject: text".  It goes to port 0xE9, the framebuffer and (when no guest console
 * is attached there) COM1.  Rare by rule: never on the exit path.
 *
 * Implemented in kernel/host/log.c and panic.c: the one header whose functions lie above its own room.  Unit tests
 * bring their own (tests/fakes/log.c). */
#ifndef GODWIT_KERNEL_LIB_LOG_H
#define GODWIT_KERNEL_LIB_LOG_H

#include "kernel/lib/types.h"

/* DEBUG: for us.  INFO: what happened.  WARN: it works, but needs attention.  ERROR: a request or a part of this host
 * failed. */
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/** Write one line.
 *  subject  the part or the VM that it is about, like "net"; short, without blanks
 *  fmt      as for fmt_vsnprintf(), without a line end; cut to fit.  A literal: with subject and the text's first word
 *           it is the source, of which too many lines are counted instead.  So begin with the name of whoever causes it
 *  Bytes other than printable ASCII become \xNN, so arguments may be anybody's text.
 *  Any context and any pCPU, also with locks held: the log's lock comes late in the order (kernel/lib/lock.h). */
void log_line(enum log_level level, const char *subject, const char *fmt, ...) HV_PRINTF(3, 4);
#define log_debug(subject, ...) log_line(LOG_DEBUG, subject, __VA_ARGS__)
#define log_info(subject, ...)  log_line(LOG_INFO, subject, __VA_ARGS__)
#define log_warn(subject, ...)  log_line(LOG_WARN, subject, __VA_ARGS__)
#define log_error(subject, ...) log_line(LOG_ERROR, subject, __VA_ARGS__)

/** Our own bug: print the message, registers and a symbolized backtrace, stop every pCPU.  Any context. */
void panic(const char *fmt, ...) HV_PRINTF(1, 2) HV_NORETURN HV_COLD;

/* Invariants whose breach is our own bug.  Never on what a guest, peer, client, file or operator controls.  Kept in
 * release builds: keep x short, for its text is stored, and cheap where exits pass.  ASSERT_EQ prints both values. */
#define ASSERT(x) ((x) ? (void)0 : assert_fail(__FILE__, __LINE__, #x))
#define ASSERT_EQ(a, b)                                               \
    do {                                                              \
        uint64_t a_ = (uint64_t)(a), b_ = (uint64_t)(b);              \
        if (a_ != b_)                                                 \
            assert_eq_fail(__FILE__, __LINE__, #a " == " #b, a_, b_); \
    } while (0)
/* panic() with the place and the expression; of their own to keep each ASSERT small. */
void assert_fail(const char *file, int line, const char *expr) HV_NORETURN HV_COLD;
void assert_eq_fail(const char *file, int line, const char *expr, uint64_t a, uint64_t b) HV_NORETURN HV_COLD;

#endif
