/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/libc/stdio.h - snprintf and vsnprintf (kernel/lib/fmt.c).  There are no files: the FILE functions are
 * declared, never defined, so that libraries which mention them compile; code that calls one does not link. */
#ifndef GODWIT_LIBC_STDIO_H
#define GODWIT_LIBC_STDIO_H

#include <stdarg.h>
#include <stddef.h>

#define EOF (-1)
typedef struct FILE FILE;

int snprintf(char *buf, size_t cap, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int vsnprintf(char *buf, size_t cap, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));

extern FILE *stderr;
int fprintf(FILE *f, const char *fmt, ...);
FILE *fopen(const char *path, const char *mode);
int fclose(FILE *f);
char *fgets(char *buf, int cap, FILE *f);

#endif
