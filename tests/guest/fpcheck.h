/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/fpcheck.h - one round of fpcheck, for other programs. */
#ifndef GODWIT_TESTS_GUEST_FPCHECK_H
#define GODWIT_TESTS_GUEST_FPCHECK_H

#include <stdbool.h>

struct fp_wait {
    long syscall, arg[3]; /* made while the registers hold the pattern; syscall < 0: none, just count down */
    unsigned long times;  /* at least 1 */
};

/** Load pattern `number` into all vector registers, wait, compare; corrupt: expect something else.  False: they differ,
 *  and a line says where. */
bool fp_round(unsigned number, const struct fp_wait *wait, bool corrupt);

#endif
