/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/libc/errno.h - for imported libraries only: our code returns enum hv_err.  Values as on Linux.  errno is
 * one variable for all CPUs, so another CPU may overwrite it. */
#ifndef GODWIT_LIBC_ERRNO_H
#define GODWIT_LIBC_ERRNO_H

extern int errno;

#define EPERM        1
#define ENOENT       2
#define EINTR        4
#define EIO          5
#define EBADF        9
#define EAGAIN       11
#define ENOMEM       12
#define EACCES       13
#define EFAULT       14
#define EBUSY        16
#define EEXIST       17
#define ENODEV       19
#define EINVAL       22
#define ENOSPC       28
#define EPIPE        32
#define ERANGE       34
#define ENOSYS       38
#define EWOULDBLOCK  EAGAIN
#define EADDRINUSE   98
#define ENETUNREACH  101
#define ECONNABORTED 103
#define ECONNRESET   104
#define ENOBUFS      105
#define EISCONN      106
#define ENOTCONN     107
#define ETIMEDOUT    110
#define EHOSTUNREACH 113
#define EALREADY     114
#define EINPROGRESS  115

#endif
