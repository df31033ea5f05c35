/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/service.h - how often a turn of the service loop was asked for. */
#ifndef GODWIT_TESTS_FAKES_SERVICE_H
#define GODWIT_TESTS_FAKES_SERVICE_H

extern unsigned fake_service_wanted; /* calls of pcpu_kick_service() */
extern unsigned fake_disks_wanted;   /* calls of pcpu_kick_disks() */

#endif
