/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/framebuffer.h - text on the firmware's framebuffer, for the log. */
#ifndef GODWIT_KERNEL_HOST_FRAMEBUFFER_H
#define GODWIT_KERNEL_HOST_FRAMEBUFFER_H

#include "kernel/host/boot_info.h"
#include "kernel/lib/types.h"

/** Clear fb and print to it from now on.  fb->base 0: fb_write() does nothing.  Boot CPU, once. */
void fb_init(const struct boot_fb *fb);
/** Print len bytes of text; '\n' starts a new line.  After the last row printing continues at the top, each row being
 *  cleared first: scrolling would read video memory, which costs more than the rest of a log line.  [log] */
void fb_write(const char *text, size_t len);

#endif
