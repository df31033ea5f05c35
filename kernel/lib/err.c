/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/err.c - names and meanings of errors. */
#include "kernel/lib/err.h"

#define X(name, value, text) _Static_assert((value) < 0, #name);
HV_ERR_LIST(X)
#undef X

const char *hv_err_name(enum hv_err e)
{
    switch (e) {
    case HV_OK: return "HV_OK";
#define X(name, value, text) \
    case name: return #name;
        HV_ERR_LIST(X)
#undef X
    }
    return "HV_E_?";
}

const char *hv_err_text(enum hv_err e)
{
    switch (e) {
    case HV_OK: return "ok";
#define X(name, value, text) \
    case name: return text;
        HV_ERR_LIST(X)
#undef X
    }
    return "unknown error";
}
