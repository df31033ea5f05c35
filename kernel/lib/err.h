/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/err.h - the one error type.
 *
 * HV_OK is 0; a negative value says how the world failed: memory, a device, a link, a guest, a peer.  Our own bugs are
 * ASSERTs (kernel/lib/log.h), never errors.  Functions that return an enum hv_err are HV_MUST_CHECK, and each header
 * says which values can come.  The libraries' own codes (lwIP's err_t, BearSSL's) are translated once, in net/. */
#ifndef GODWIT_KERNEL_LIB_ERR_H
#define GODWIT_KERNEL_LIB_ERR_H

#include "kernel/lib/types.h"

/* The list: X(name, value, text).
 * name   the enumerator, which logs show as it stands
 * value  negative; stable for ever, because it travels in migration records: new errors go to the end
 * text   what it means, for people; part of docs/errors.md
 *
 * Which one?  SHORT and AGAIN are not failures: call again with more bytes, or later.  GUEST and PROTO blame the guest
 * and the peer.  UNSUPP is for ever on this host, BUSY ends by itself or by an operator.  REFUSED passes on what the
 * other side said, with its reason in text beside it. */
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

/* 0 or one of the list.  A switch over it has no default, so that the compiler names a missing case. */
enum hv_err {
    HV_OK = 0,
#define X(name, value, text) name = value,
    HV_ERR_LIST(X)
#undef X
};

/** The name of e, like "HV_E_NOMEM"; "HV_E_?" for a value that is no hv_err.  Static text.  Any context. */
const char *hv_err_name(enum hv_err e);
/** The meaning of e in one line; "unknown error" for a value that is no hv_err.  Static text.  Any context. */
const char *hv_err_text(enum hv_err e);

/** `return HV_FAIL(HV_E_NOMEM);` where an error is born, not where it is passed on.  A build with HV_TRACE_ERRORS logs
 *  the place; others compile it to the bare value. */
#ifdef HV_TRACE_ERRORS
enum hv_err hv_fail_trace(enum hv_err e, const char *file, int line);
#define HV_FAIL(e) hv_fail_trace((e), __FILE__, __LINE__) /* its value is e */
#else
#define HV_FAIL(e) (e)
#endif

#endif
