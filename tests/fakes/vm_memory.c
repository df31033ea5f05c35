/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/vm_memory.c - what vm_offer.c asks about this host.  kernel/vm/vm_memory.h without moves: a guest needs
 * its RAM and its disk. */
#include "kernel/vm/vm_memory.h"
#include "net/net.h"
#include "tests/fakes/vm_memory.h"

unsigned fake_mtu; /* 0: no network card */

unsigned net_mtu(void) { return fake_mtu; }

uint64_t vm_memory_needed(const struct vm_config *c, uint64_t n_boot_pages)
{
    (void)n_boot_pages;
    return c->memory_bytes + config_ram_disk_at(c, c->n_disks);
}
