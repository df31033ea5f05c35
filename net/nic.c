/* SPDX-License-Identifier: BSD-2-Clause
 * net/nic.c - find the network cards and start each with its driver. */
#include "net/nic.h"

#include "kernel/lib/log.h"

#define PCI_CLASS_NETWORK 2

static struct nic *(*const drivers[])(const struct pci_dev *) = { virtio_net_probe, e1000_probe };

static struct nic *nic_start(const struct pci_dev *d)
{
    for (unsigned i = 0; i < ARRAY_SIZE(drivers); i++) {
        struct nic *n = drivers[i](d);
        if (n)
            return n;
    }
    return NULL;
}

unsigned nic_probe_all(struct nic *found[NIC_MAX])
{
    unsigned n_found = 0;
    for (unsigned i = 0; i < pci_n_devs && n_found < NIC_MAX; i++) {
        const struct pci_dev *d = &pci_devs[i];
        if (d->class_code != PCI_CLASS_NETWORK)
            continue;
        struct nic *n = nic_start(d);
        if (!n) {
            log_warn("net", "%02x:%02x.%u: no driver for network card %04x:%04x; use virtio-net, e1000 or e1000e",
                     d->bdf >> 8, (d->bdf >> 3) & 31, d->bdf & 7, d->vendor, d->device);
            continue;
        }
        log_info("net", "%s at %02x:%02x.%u, MAC %02x:%02x:%02x:%02x:%02x:%02x, MTU %u, %s", n->ops->name, d->bdf >> 8,
                 (d->bdf >> 3) & 31, d->bdf & 7, n->mac[0], n->mac[1], n->mac[2], n->mac[3], n->mac[4], n->mac[5],
                 n->mtu, n->irq_vector ? "MSI" : "polled");
        ASSERT(n->ops && n->mtu >= 576 && n->mtu <= NIC_MTU_MAX);
        found[n_found++] = n;
    }
    return n_found;
}
