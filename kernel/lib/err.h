/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/err.h - the one error type: 0 is good, negative says what the world did.  Our own bugs are
 * ASSERTs, never errors. */
#ifndef GODWIT_KERNEL_LIB_ERR_H
#define GODWIT_KERNEL_LIB_ERR_H

#include "kernel/lib/types.h"

/* X(name, value, text).  Values are stable: they travel in migration records and appear in docs/errors.md. */
#define HV_ERR_LIST(X)                                               \
    X(HV_E_INVAL, -1, "invalid argument or value")                   \
    X(HV_E_RANGE, -2, "address or number outside the allowed range") \
    X(HV_E_EXIST, -3, "already there")                               \
    X(HV_E_NOENT, -4, "not found")                                   \
    X(HV_E_NOMEM, -5, "not enough memory")                           \
    X(HV_E_BUSY, -6, "busy")                                         \
    X(HV_E_UNSUPP, -7, "not supported here")                         \
    X(HV_E_SHORT, -8, "more bytes needed")                           \
    X(HV_E_PROTO, -9, "the peer broke the protocol")                 \
    X(HV_E_VERSION, -10, "versions do not fit")                      \
    X(HV_E_AUTH, -11, "peer not trusted")                            \
    X(HV_E_CLOSED, -12, "connection closed")                         \
    X(HV_E_TIMEOUT, -13, "no answer in time")                        \
    X(HV_E_REFUSED, -14, "refused by the other side")                \
    X(HV_E_CANCEL, -15, "cancelled")                                 \
    X(HV_E_IO, -16, "device error")                                  \
    X(HV_E_GUEST, -17, "the guest did what no machine allows")       \
    X(HV_E_DIGEST, -18, "digest differs: data damaged or lost")      \
    X(HV_E_AGAIN, -19, "not now, try again")

enum hv_err {
    HV_OK = 0,
#define X(name, value, text) name = value,
    HV_ERR_LIST(X)
#undef X
};

/** Name ("HV_E_NOMEM") and one-line meaning of e; never NULL, also for values that are no hv_err.  Any context. */
const char *hv_err_name(enum hv_err e);
const char *hv_err_text(enum hv_err e);

/* Errors are born here, so that a trace build can log where. */
#ifdef HV_TRACE_ERRORS
enum hv_err hv_fail_trace(enum hv_err e, const char *file, int line);
#define HV_FAIL(e) hv_fail_trace((e), __FILE__, __LINE__)
#else
#define HV_FAIL(e) (e)
#endif

#endif
