/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/why.h - a refusal in words: the error code for the program, the reason for a person. */
#ifndef GODWIT_KERNEL_LIB_WHY_H
#define GODWIT_KERNEL_LIB_WHY_H

#include <stdio.h>
#include "kernel/lib/err.h"

struct why { char *text; size_t len; };         /* where the reason goes; borrowed from the caller */

/** `return REFUSE(HV_E_INVAL, "printf text", ...)` where `struct why *why` is in scope. */
#define REFUSE(err, ...) (snprintf(why->text, why->len, __VA_ARGS__), HV_FAIL(err))

#endif
