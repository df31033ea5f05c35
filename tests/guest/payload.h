/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/payload.h - the test guest's programs: one static binary, called by several names (dirtier, fpcheck,
 * probe, diskcheck, diskbench, diskcuts, stress, mirror).
 *
 * One file instead of eight keeps the initramfs small: the guest boots under two levels of emulation,
 * where every page counts. */
#ifndef GODWIT_TESTS_GUEST_PAYLOAD_H
#define GODWIT_TESTS_GUEST_PAYLOAD_H

#include <stdint.h>
#include <time.h>

int dirtier_main(int argc, char **argv);
int fpcheck_main(int argc, char **argv);
int probe_main(int argc, char **argv);
int diskcheck_main(int argc, char **argv);
int diskbench_main(int argc, char **argv);
int diskcuts_main(int argc, char **argv);
int stress_main(int argc, char **argv);
int mirror_main(int argc, char **argv);

static inline uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
