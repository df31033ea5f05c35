/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/mmio.c - kernel/dev/io_bus.h over a page of memory. */
#include "tests/fakes/mmio.h"
#include <string.h>
#include "kernel/dev/io_bus.h"

uint8_t fake_mmio[PAGE_SIZE], fake_port_out[1024];
unsigned fake_n_mmio, fake_mmio_last_size, fake_n_port_out, fake_n_port_in, fake_port_work;
static uint64_t work;
uint64_t io_work(const struct vcpu *v)
{
    (void)v;
    return work;
}

void mmio_read(struct vcpu *v, gpa_t a, unsigned size, uint64_t *val)
{
    (void)v;
    *val = 0;
    for (unsigned i = 0; i < size; i++)
        *val |= (uint64_t)fake_mmio[(a.v + i) % PAGE_SIZE] << (8 * i);
    fake_n_mmio++, fake_mmio_last_size = size;
}

void mmio_write(struct vcpu *v, gpa_t a, unsigned size, uint64_t val)
{
    (void)v;
    for (unsigned i = 0; i < size; i++)
        fake_mmio[(a.v + i) % PAGE_SIZE] = (uint8_t)(val >> (8 * i));
    fake_n_mmio++, fake_mmio_last_size = size;
}

void pio_read(struct vcpu *v, uint16_t port, unsigned size, uint32_t *val)
{
    (void)v, (void)port;
    *val = 0;
    for (unsigned i = 0; i < size; i++)
        *val |= (uint32_t)('a' + fake_n_port_in++ % 26) << (8 * i);
}

void pio_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t val)
{
    (void)v, (void)port;
    work += fake_port_work;
    for (unsigned i = 0; i < size; i++)
        fake_port_out[fake_n_port_out++ % sizeof(fake_port_out)] = (uint8_t)(val >> (8 * i));
}

bool io_insn_unhandled(struct vcpu *v)
{
    (void)v;
    return true;
}
