/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/service.c - counts how often a turn of the service loop was asked for. */
#include "tests/fakes/service.h"
#include "kernel/host/pcpu.h"

unsigned fake_service_wanted, fake_disks_wanted;
void pcpu_kick_service(void) { fake_service_wanted++; }
void pcpu_kick_disks(void) { fake_disks_wanted++; }
