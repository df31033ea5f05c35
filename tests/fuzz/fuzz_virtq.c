/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fuzz/fuzz_virtq.c - a malicious guest against its virtio devices: rings, registers, BARs, MSI-X.
 *
 * Input: operations of 8 bytes: code, slot and queue, a 16-bit offset, a 32-bit value.  The devices start live with
 * valid rings, so that a few bytes break them in interesting ways.  For every input, only guest memory may change (ASan
 * checks), a device is live or broken, each turn ends, and another host accepts the resulting state. */
/* fuzz-sources: kernel/vm/vm_state.c kernel/vm/vm_offer.c kernel/vm/offer_disks.c
 *   kernel/vm/offer_check.c kernel/vm/vm_knows.c kernel/config/config.c
 *   kernel/config/config_keys.c
 *   kernel/dev/devices.c kernel/dev/io_bus.c kernel/dev/pci_guest.c kernel/dev/virtio_pci.c kernel/dev/virtq.c
 *   kernel/dev/vdev.c kernel/dev/vdev_rng.c kernel/dev/vdev_net.c kernel/dev/vdev_blk.c kernel/dev/disk_ram.c
 *   kernel/dev/vdev_console.c kernel/dev/vdev_balloon.c kernel/dev/lapic.c kernel/dev/ioapic.c kernel/dev/pic.c
 *   kernel/dev/pit.c kernel/dev/rtc.c kernel/dev/pm.c kernel/dev/uart.c kernel/dev/pvclock.c kernel/dev/steal_time.c
 *   kernel/core/cpuid.c kernel/dev/msr.c kernel/lib/err.c kernel/lib/print.c kernel/core/vcpu.c kernel/core/vm.c
 *   tests/fakes/machine.c tests/fakes/service.c tests/fakes/log_quiet.c tests/fakes/page.c
 *   tests/fakes/vm_memory.c tests/fakes/lvm.c */
#include <stdlib.h>
#include <string.h>
#include "kernel/dev/vdev_blk.h"
#include "kernel/dev/vdev_net.h"
#include "tests/fakes/virtio_driver.h"

#define CHECK(x)     \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)
#define RAM  (16 * MIB)
#define DISK (2 * MIB)
static struct machine m;
static unsigned n_sent;

static enum hv_err fake_send(struct vm *vm, unsigned nic, const uint8_t *frame, size_t len)
{
    CHECK(nic == 0 && !spin_is_locked(&vm->dev_lock) && len >= 14 && len <= 1522);
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + frame[i]);
    return n_sent++ % 3 == 2 ? HV_E_AGAIN : sum & 1 ? HV_OK : HV_E_BUSY;
}
static const struct vdev_net_backend backend = { fake_send };

/* A disk on a server: takes requests, and answers them when the input says so. */
static struct disk_req *asked[64];
static unsigned n_asked;
static enum disk_status disk_submit(struct disk *d, struct disk_req *r)
{
    CHECK(n_asked < d->max_pending && r->offset + r->len <= DISK && r->len <= DISK_LEN_MAX &&
          r->len % d->info.block == 0);
    asked[n_asked++] = r;
    return DISK_PENDING;
}
static const struct disk_ops disk_ops = { .submit = disk_submit };
static struct disk disk = { .ops = &disk_ops,
                            .max_pending = 64,
                            .serial = "fuzz",
                            .known = true,
                            .info = { .bytes = DISK, .block = 512, .flush = true, .discard = true, .zeroes = true } };

static void disk_answer(unsigned i)
{
    uint8_t buf[512];
    if (!n_asked)
        return;
    struct disk_req *r = asked[i %= n_asked];
    memset(buf, 0x3c, sizeof(buf));
    for (uint64_t at = 0; at < r->len && at < 64 * 1024; at += 512)
        if (r->op == DISK_READ)
            r->put(r, at, buf, 512);
        else if (r->op == DISK_WRITE)
            (void)r->get(r, at, buf, 512);
    asked[i] = asked[--n_asked];
    r->done(r, i & 1 ? DISK_OK : DISK_ERROR);
}

static void make(bool remote)
{
    fake_tsc = 1000000;
    machine_init_bare(&m, 1, RAM + DISK);
    m.vm.mem.low_bytes = m.vm.config.memory_bytes = RAM;
    m.vm.config.n_disks = 1;
    m.vm.config.disk[0] =
        (struct disk_config){ .kind = remote ? DISK_ON_NBD : DISK_IN_RAM, .bytes = remote ? 0 : DISK };
    n_asked = 0;
    m.vm.config.n_nics = 1;
    m.vm.config.rng = m.vm.config.balloon = m.vm.config.hvc = true;
    CHECK(devices_create(&m.vm) == HV_OK);
    m.vcpu[0].lapic->svr = 0x1ff;
    if (remote)
        vdev_blk_attach(&m.vm, 0, &disk);
    vdev_net_backend_set(&backend);
}

/* A chain of two or three good descriptors in every queue, of the kind that its device expects. */
static void start(unsigned slot, bool event_idx)
{
    static const unsigned queues[] = { 0, 1, 3, 3, 1, 2 };
    uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | (event_idx ? VIRTIO_F_EVENT_IDX : 0) |
                        (slot == 3 ? BIT64(15) | BIT64(17) | BIT64(21) : 0);
    drv_start(&m, slot, features, queues[slot]);
    for (unsigned q = 0; q < queues[slot]; q++) {
        uint64_t t = DRV_RINGS(slot, q), data = 0x200000 + slot * 0x10000 + q * 0x4000;
        drv_desc(&m, t, 0, data, slot == 4 ? 16 : 64, slot == 4 || q ? 1 : 2 | 1, 1);
        drv_desc(&m, t, 1, data + 0x400, 512, 1 | (q ? 0 : 2), 2);
        drv_desc(&m, t, 2, data + 0x800, 1, q ? 0 : 2, 0);
        drv_desc(&m, t, 3, t + 0xc00, 32, 4, 0); /* indirect */
        drv_desc(&m, t + 0xc00, 0, data, 16, 1, 1);
        drv_desc(&m, t + 0xc00, 1, 4 * MIB, 2 * MIB, 2, 0);
    }
}

static void service(void)
{
    unsigned turns = 0;
    while (vdev_service(&m.vm))
        CHECK(turns++ < 10000);
}

static void move(void)
{
    vdev_blk_hold(&m.vm, 0, true); /* as before a stop: nothing is on its way */
    while (n_asked)
        disk_answer(0);
    CHECK(vdev_blk_pending(&m.vm, 0) == 0);
    static uint8_t state[VM_STATE_MAX], again[VM_STATE_MAX];
    size_t len, len2;
    char why[200];
    CHECK(vm_state_save(&m.vm, machine_knows(), state, sizeof(state), &len, WHY(why)) == HV_OK);
    CHECK(vm_state_load(&m.vm, state, len, WHY(why)) == HV_OK);
    CHECK(vm_state_save(&m.vm, machine_knows(), again, sizeof(again), &len2, WHY(why)) == HV_OK && len == len2 &&
          !memcmp(state, again, len));
    vdev_net_announce(&m.vm, 0);
    vdev_blk_hold(&m.vm, 0, false);
}

static void step(const uint8_t *p)
{
    static const uint8_t sizes[] = { 1, 2, 4, 8 };
    unsigned slot = 1 + (p[1] & 7) % 5, q = (p[1] >> 3 & 7) % 3, size = sizes[p[1] >> 6];
    uint32_t off = p[2] | p[3] << 8, val = (uint32_t)(p[4] | p[5] << 8 | p[6] << 16) | (uint32_t)p[7] << 24;
    uint8_t frame[1514] = { 0 };
    switch (p[0] % 12) {
    case 0: drv_put(&m, DRV_RINGS(slot, q) + (off & 0xff8) + (p[0] >> 5 & 4), val, 4); break;
    case 1: drv_put(&m, DRV_RINGS(slot, q) + DRV_AVAIL + (off & 0x3e), val, 2); break;
    case 2:
        drv_offer(&m, slot, q, val % 20);
        drv_bell(&m, slot, q);
        break;
    case 3: drv_bell(&m, slot, off); break;
    case 4: drv_w(&m, slot, (off & 0x7fff) / size * size, size, val); break;
    case 5: (void)drv_r(&m, slot, (off & 0x7fff) / size * size, size); break;
    case 6:
        mmio_write(&m.vcpu[0], gpa(PCI_ECAM_BASE + (slot - (p[0] > 200)) * 0x8000 + (off & 0x1ff) / size * size), size,
                   val);
        break;
    case 7:
        pio_write(&m.vcpu[0], 0xcf8, 4, val), pio_write(&m.vcpu[0], (uint16_t)(0xcfc + (off & 3)), MIN(size, 4u), val);
        break;
    case 8: (void)vdev_net_receive(&m.vm, 0, frame, 14 + val % 1500); break;
    case 9: drv_put(&m, 0x200000 + slot * 0x10000 + q * 0x4000 + (off & 0xfff), val, 4); break;
    case 10:
        if (val & 1)
            move();
        else if (val & 2)
            disk_answer(val >> 8);
        else
            service();
        break;
    case 11:
        if (val & 1)
            start(slot, val & 2);
        else
            (void)uart_put_input(&m.vm, "abc", 3);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 8 || size > 8 * 64)
        return 0;
    make(data[0] & 0x40);
    for (unsigned slot = 1; slot <= 5; slot++)
        start(slot, data[0] & 0x80);
    for (size_t i = 0; i + 8 <= size; i += 8)
        step(data + i);
    service();
    while (n_asked)
        disk_answer(0), service();
    move();
    machine_fini(&m);
    return 0;
}
