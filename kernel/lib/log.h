/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/log.h - messages for an operator, and the end of the world.
 *
 * A line is "[seconds.micros] level subject: text".  It goes to port 0xE9, the framebuffer and (when no guest console
 * is attached there) COM1.  Rare by rule: never on the exit path.  Any context and any pCPU, also with locks held
 * (log is the last lock). */
#ifndef GODWIT_KERNEL_LIB_LOG_H
#define GODWIT_KERNEL_LIB_LOG_H

#include "kernel/lib/types.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_line(enum log_level level, const char *subject, const char *fmt, ...) HV_PRINTF(3, 4);
#define log_debug(subject, ...) log_line(LOG_DEBUG, subject, __VA_ARGS__)
#define log_info(subject, ...)  log_line(LOG_INFO, subject, __VA_ARGS__)
#define log_warn(subject, ...)  log_line(LOG_WARN, subject, __VA_ARGS__)
#define log_error(subject, ...) log_line(LOG_ERROR, subject, __VA_ARGS__)

/** Our own bug: print the message, registers and a symbolized backtrace, stop every pCPU.  Never
 *  returns.  Any context. */
void panic(const char *fmt, ...) HV_PRINTF(1, 2) HV_NORETURN;

/* Kept in release builds; for our own invariants only, never for what a guest or a peer sent. */
#define ASSERT(x) ((x) ? (void)0 : panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #x))
#define ASSERT_EQ(a, b)                                                                   \
    do {                                                                                  \
        uint64_t a_ = (uint64_t)(a), b_ = (uint64_t)(b);                                  \
        if (a_ != b_)                                                                     \
            panic("%s:%d: %s is 0x%lx, %s is 0x%lx", __FILE__, __LINE__, #a, a_, #b, b_); \
    } while (0)

#endif
