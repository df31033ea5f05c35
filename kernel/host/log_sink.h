/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/log_sink.h - where log lines go: set-up and control of the sinks.  What the rest of the hypervisor
 * calls is kernel/lib/log.h. */
#ifndef GODWIT_KERNEL_HOST_LOG_SINK_H
#define GODWIT_KERNEL_HOST_LOG_SINK_H

#include "kernel/host/boot_info.h"
#include "kernel/lib/types.h"

#define LOG_RING_SIZE 65536

/** Find port 0xE9, COM1 and the framebuffer.  Boot CPU, first of all init calls. */
void log_init(const struct boot_info *bi);
/** Lines go to COM1 too (the default), or not while something else owns it.  Panics always do. */
void log_com1_enable(bool on);
/** How many lines went to COM1 so far: whoever is typing there wants his own line again after one.  Any context. */
unsigned log_com1_lines(void);
/** Lines below this level are dropped.  Default LOG_INFO. */
void log_level_set(int level);
/** Copy the newest lines, at most cap bytes, oldest first, starting at the beginning of a line.
 *  Returns the number of bytes. */
size_t log_ring_copy(char *buf, size_t cap);
/** From now on no lock is taken and COM1 is used.  For panic() only. */
void log_panic_mode(void);

#endif
