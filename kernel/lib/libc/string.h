/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/libc/string.h - the part of <string.h> that we and the imported libraries use; same contracts as ISO C. */
#ifndef GODWIT_LIBC_STRING_H
#define GODWIT_LIBC_STRING_H

#include <stddef.h>

void *memcpy(void *restrict dst, const void *restrict src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
#ifndef memcpy /* a test renames them.  What -ffreestanding takes away: small constant sizes without a call */
#define memcpy(dst, src, n)  __builtin_memcpy(dst, src, n)
#define memmove(dst, src, n) __builtin_memmove(dst, src, n)
#define memset(dst, c, n)    __builtin_memset(dst, c, n)
#define memcmp(a, b, n)      __builtin_memcmp(a, b, n)
#endif
void *memchr(const void *s, int c, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t max);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
char *strrchr(const char *s, int c);
char *strstr(const char *hay, const char *needle);
char *strcpy(char *restrict dst, const char *restrict src);
char *strncpy(char *restrict dst, const char *restrict src, size_t n);
char *strcat(char *restrict dst, const char *restrict src);
size_t strspn(const char *s, const char *set);
size_t strcspn(const char *s, const char *set);
char *strpbrk(const char *s, const char *set);

#endif
