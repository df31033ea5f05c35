/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/libc/stdlib.h - number parsing, abs, and abort.  There is no heap: malloc is declared, never
 * defined (see stdio.h). */
#ifndef GODWIT_LIBC_STDLIB_H
#define GODWIT_LIBC_STDLIB_H

#include <stddef.h>

#define EXIT_SUCCESS 0
#define EXIT_FAILURE 1

int abs(int v);
int atoi(const char *s);
long strtol(const char *restrict s, char **restrict end, int base);
unsigned long strtoul(const char *restrict s, char **restrict end, int base);
void abort(void) __attribute__((noreturn)); /* panics */

void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);
void free(void *p);

#endif
