/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/log_sink.h - set-up and control of the log's sinks.  Logging itself: kernel/lib/log.h. */
#ifndef GODWIT_KERNEL_HOST_LOG_SINK_H
#define GODWIT_KERNEL_HOST_LOG_SINK_H

#include "kernel/host/boot_info.h"
#include "kernel/lib/types.h"

#define LOG_RING_SIZE 65536

/** Detect port 0xE9, COM1 and the framebuffer.  Boot CPU, before all other init calls. */
void log_init(const struct boot_info *bi);
/** Send lines to COM1 as well (the default); off while a guest console owns COM1.  A panic always goes there. */
void log_com1_enable(bool on);
/** Number of lines sent to COM1 so far.  The operator console redraws its input line when it changes.  Any context. */
unsigned log_com1_lines(void);
/** Drop lines below this level (enum log_level; default LOG_INFO).  Any context. */
void log_level_set(int level);
/** Say which lines the rate limit has left out, once a minute.  Service pCPU, in each turn. */
void log_step(void);
/** Copy the newest whole lines to buf, at most cap bytes, oldest first.  Returns the number of bytes. */
size_t log_ring_copy(char *buf, size_t cap);
/** Take no lock and use COM1 from now on.  For panic_enter() only, which has stopped the other CPUs. */
void log_panic_mode(void);

#endif
