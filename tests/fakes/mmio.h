/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/mmio.h - one page of device registers that behave like memory, and ports that count. */
#ifndef GODWIT_TESTS_FAKES_MMIO_H
#define GODWIT_TESTS_FAKES_MMIO_H

#include "kernel/lib/types.h"

#define FAKE_MMIO_BASE UINT64_C(0xfed00000)
extern uint8_t fake_mmio[PAGE_SIZE]; /* addresses are taken modulo the page */
extern unsigned fake_n_mmio, fake_mmio_last_size;
extern uint8_t fake_port_out[1024];              /* bytes written to any port, in order */
extern unsigned fake_n_port_out, fake_n_port_in; /* a read of size n gives n bytes 'a'+count */
extern unsigned fake_port_work;                  /* what each write to a port costs: io_work() */

#endif
