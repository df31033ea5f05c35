/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/guest_net.c - guests' network cards on the virtual switch.
 *
 * One port per VM slot.  A guest that does not run gets no frames: a stopped guest's memory must not change under a move.  So a port exists
 * from the first time that its guest runs here until the VM is stopped, and refuses in between when the guest is paused. */
#include "kernel/guest_net.h"

#include "kernel/clock.h"
#include "kernel/devices.h"
#include "kernel/log.h"
#include "kernel/vdev_net.h"
#include "kernel/vm_manage.h"
#include "net/net_internal.h"
#include "net/vswitch.h"

static struct vswitch_port ports[VM_MAX];
static bool joined[VM_MAX], refused[VM_MAX];
static bool sent;                               /* frames went into the switch in this turn */

static bool runs(const struct vm *vm) { return atomic_load(&vm->state) == VM_RUNNING; }

static enum hv_err deliver(struct vswitch_port *p, const uint8_t *frame, size_t len)
{
    struct vm *vm = p->ctx;
    return runs(vm) ? vdev_net_receive(vm, frame, len) : HV_FAIL(HV_E_BUSY);
}

static enum hv_err send(struct vm *vm, const uint8_t *frame, size_t len)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        if (joined[i] && ports[i].ctx == vm) {
            sent = true;
            return vswitch_input(net_switch(), &ports[i], frame, len, clock_us());
        }
    return HV_FAIL(HV_E_NOENT);
}

static const struct vdev_net_backend backend = { .send = send };

static void join(unsigned i, struct vm *vm)
{
    ports[i] = (struct vswitch_port){ .name = vm->config.name, .deliver = deliver, .ctx = vm };
    memcpy(ports[i].mac, vm->config.mac, sizeof ports[i].mac);
    vdev_net_backend_set(&backend);
    joined[i] = vswitch_attach(net_switch(), &ports[i]) == HV_OK;
    if (!joined[i] && !refused[i]) log_error("net", "%s has no network: all %u ports of the switch are taken", vm->config.name, VSWITCH_MAX_PORTS);
    refused[i] = !joined[i];
    if (joined[i]) vdev_net_arrived(vm);
}

static void leave(unsigned i)
{
    if (joined[i]) vswitch_detach(net_switch(), &ports[i]);
    joined[i] = refused[i] = false;
}

bool guest_devices_step(void)
{
    bool busy = false;
    sent = false;
    for (unsigned i = 0; i < VM_MAX; i++) {
        struct vm *vm = vm_at(i);
        bool here = vm && runs(vm);
        if (here && vm->config.nic && !joined[i]) join(i, vm);
        if ((!vm || atomic_load(&vm->state) == VM_STOPPED) && joined[i]) leave(i);
        if (here) busy |= vdev_service(vm);
    }
    if (sent) net_kick();
    return busy;
}
