/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/why.h - a refusal in words: the error code is for the program, the reason for a person.  Portable. */
#ifndef GODWIT_KERNEL_LIB_WHY_H
#define GODWIT_KERNEL_LIB_WHY_H

#include <stdio.h>
#include "kernel/lib/err.h"

/* Where the reason goes.  The buffer is no member of fixed size: many reasons stay where they are written (a job, a
 * start), and their buffers have from 160 to 640 bytes. */
struct why {
    char *text; /* borrowed from the caller; always NUL-terminated, cut to fit */
    size_t len; /* bytes of text, NUL included; > 0 */
};

/** A struct why * for the char array buf, which is emptied: `if (vm_start(vm, WHY(text))) log_error("vm", "%s", text);`
 *  Valid to the end of the enclosing block.  A pointer instead of an array does not build: it divides by zero. */
#define WHY(buf) \
    (&(struct why){ ((buf)[0] = 0, (buf)), sizeof(buf) / !__builtin_types_compatible_p(__typeof__(buf), char *) })

/** Format the reason into *why; returns what snprintf() returns. */
#define why_say(why, ...) snprintf((why)->text, (why)->len, __VA_ARGS__)

/** Append to *why. */
#define why_more(why, ...) snprintf((why)->text + strlen((why)->text), (why)->len - strlen((why)->text), __VA_ARGS__)

/** `return REFUSE(HV_E_INVAL, "printf text", ...);` where `struct why *why` is in scope. */
#define REFUSE(err, ...) (why_say(why, __VA_ARGS__), HV_FAIL(err))

#endif
