/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/framebuffer.h - text on the firmware's framebuffer, for the log. */
#ifndef GODWIT_KERNEL_HOST_FRAMEBUFFER_H
#define GODWIT_KERNEL_HOST_FRAMEBUFFER_H

#include "kernel/host/boot_info.h"
#include "kernel/lib/types.h"

/** Use fb from now on (fb->base 0: do nothing, ever) and clear it. */
void fb_init(const struct boot_fb *fb);
/** Print text; '\n' starts a new line.  At the bottom it goes on at the top, clearing the line it is about to use:
 *  reading video memory back to scroll would take longer than everything else that a log line costs. */
void fb_write(const char *text, size_t len);

#endif
