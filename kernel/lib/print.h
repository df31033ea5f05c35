/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/print.h - text output, line by line, to a destination that the caller chooses.  Portable.
 *
 * A function that describes something takes a struct printer and calls print_line() for each line.  A destination that
 * needs state embeds the struct printer in a larger struct; its line() finds that struct with container_of().
 *
 *     struct json_printer lines = { { json_line }, &c->out };
 *     vm_inspect(vm, &lines.printer); */
#ifndef GODWIT_KERNEL_LIB_PRINT_H
#define GODWIT_KERNEL_LIB_PRINT_H

#include "kernel/lib/types.h"

#define PRINT_LINE_MAX 768u /* bytes of a line, with its NUL */

struct printer {
    /** Output one line.  text: without a line end; NUL-terminated, at most PRINT_LINE_MAX bytes with the NUL; valid
     *  during the call only. */
    void (*line)(struct printer *p, const char *text);
};

/** Format one line and hand it to p->line().  fmt: as for fmt_vsnprintf(), without a line end.  Text that does not fit
 *  into PRINT_LINE_MAX is cut.  The line is formatted on the stack.  Context: as p->line() allows. */
void print_line(struct printer *p, const char *fmt, ...) HV_PRINTF(2, 3);

#endif
