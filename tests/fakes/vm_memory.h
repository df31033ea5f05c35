/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/vm_memory.h - a network card for vm_offer.c. */
#ifndef GODWIT_TESTS_FAKES_VM_MEMORY_H
#define GODWIT_TESTS_FAKES_VM_MEMORY_H

extern unsigned fake_mtu; /* of the host's card; 0: there is none */

#endif
