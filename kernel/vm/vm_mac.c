/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_mac.c - a MAC address belongs to one card.
 *
 * Two cards with one address on a network take each other's frames.  The configuration is checked when it is read; an
 * arriving guest, and one that was defined on another host, is checked here. */
#include "kernel/vm/vm_mac.h"

#include <stdio.h>
#include <string.h>
#include "kernel/vm/vm_manage.h"
#include "net/net.h"

static bool mac_is_unicast(const uint8_t m[6])
{
    static const uint8_t zero[6];
    return !(m[0] & 1) && memcmp(m, zero, 6) != 0;
}

static bool mac_is_of(const struct vm_config *c, unsigned n, const uint8_t mac[6])
{
    for (unsigned i = 0; i < n; i++)
        if (!memcmp(c->nic[i].mac, mac, 6))
            return true;
    return false;
}

const struct vm *vm_mac_owner(const uint8_t mac[6], const char *name)
{
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        if (vm && vm_state(vm) != VM_STOPPED && strcmp(vm->config.name, name) != 0 &&
            mac_is_of(&vm->config, vm->config.n_nics, mac))
            return vm;
    }
    return NULL;
}

static enum hv_err card_check(const struct vm_config *c, unsigned i, struct why *why)
{
    const uint8_t *m = c->nic[i].mac;
    char mac[18];
    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    if (!mac_is_unicast(m))
        return REFUSE(HV_E_INVAL, "%s has the MAC address %s, which no network card can have", c->name, mac);
    if (net_has_mac(m))
        return REFUSE(HV_E_EXIST, "%s has the MAC address of this host's own network card, %s: give it another",
                      c->name, mac);
    if (mac_is_of(c, i, m))
        return REFUSE(HV_E_EXIST, "%s has two cards with the MAC address %s: give one of them another", c->name, mac);
    const struct vm *vm = vm_mac_owner(m, c->name);
    if (vm)
        return REFUSE(HV_E_EXIST,
                      "%s has the MAC address %s, and so has %s, which is %s here: give one of them another", c->name,
                      mac, vm->config.name, vm_state_name(vm_state(vm)));
    return HV_OK;
}

enum hv_err vm_mac_check(const struct vm_config *c, struct why *why)
{
    enum hv_err e = HV_OK;
    for (unsigned i = 0; !e && i < c->n_nics; i++)
        e = card_check(c, i, why);
    return e;
}
