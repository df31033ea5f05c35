/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_virtio.c - a guest's PCI bus and virtio devices, driven through the guest's registers and rings. */
/* unit-sources: kernel/vm/vm_state.c kernel/vm/vm_offer.c kernel/vm/offer_disks.c
 *   kernel/vm/offer_check.c kernel/vm/vm_knows.c kernel/config/config.c
 *   kernel/config/config_keys.c
 *   kernel/dev/devices.c kernel/dev/io_bus.c kernel/dev/pci_guest.c kernel/dev/virtio_pci.c kernel/dev/virtq.c
 *   kernel/dev/vdev.c kernel/dev/vdev_rng.c kernel/dev/vdev_net.c kernel/dev/vdev_blk.c kernel/dev/disk_ram.c
 *   kernel/dev/vdev_console.c kernel/dev/vdev_balloon.c kernel/dev/lapic.c kernel/dev/ioapic.c kernel/dev/pic.c
 *   kernel/dev/pit.c kernel/dev/rtc.c kernel/dev/pm.c kernel/dev/uart.c kernel/dev/pvclock.c kernel/dev/steal_time.c
 *   kernel/core/cpuid.c kernel/dev/msr.c kernel/lib/err.c kernel/lib/print.c kernel/core/vcpu.c kernel/core/vm.c
 *   tests/fakes/machine.c tests/fakes/service.c tests/fakes/log.c tests/fakes/page.c tests/fakes/vm_memory.c
 *   tests/fakes/lvm.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/dev/vdev_balloon.h"
#include "kernel/dev/vdev_net.h"
#include "tests/fakes/page.h"
#include "tests/fakes/virtio_driver.h"

enum { RNG = 1, BALLOON, NET, BLK, HVC };
#define V1   VIRTIO_F_VERSION_1
#define RAM  (16 * MIB)
#define DISK (4 * MIB)
#define BUF  0x200000u
#define N    1u /* descriptor flags: next, write, indirect */
#define W    2u
#define I    4u
static struct machine m;

static void make(struct machine *x)
{
    fake_tsc = 1000000;
    machine_init_bare(x, 2, RAM + DISK);
    x->vm.mem.low_bytes = x->vm.config.memory_bytes = RAM; /* the disk is hidden behind it */
    x->vm.config.n_disks = 1;
    x->vm.config.disk[0].bytes = DISK;
    x->vm.config.n_nics = 1;
    x->vm.config.rng = x->vm.config.balloon = x->vm.config.hvc = true;
    memcpy(x->vm.config.nic[0].mac, "\x02GW\1\2\3", 6);
    assert_int_equal(devices_create(&x->vm), HV_OK);
    for (unsigned i = 0; i < 2; i++)
        x->vcpu[i].lapic->svr = 0x1ff;
}
static int begin(void **state)
{
    (void)state;
    make(&m);
    return 0;
}
static int end(void **state)
{
    (void)state;
    vdev_net_backend_set(NULL);
    machine_fini(&m);
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

static uint32_t cf8(unsigned slot, unsigned off, unsigned size)
{
    uint32_t val;
    pio_write(&m.vcpu[0], 0xcf8, 4, 0x80000000 | slot << 11 | (off & 0xfc));
    pio_read(&m.vcpu[0], (uint16_t)(0xcfc + (off & 3)), size, &val);
    return val;
}
static void cf8_write(unsigned slot, unsigned off, unsigned size, uint32_t val)
{
    pio_write(&m.vcpu[0], 0xcf8, 4, 0x80000000 | slot << 11 | (off & 0xfc));
    pio_write(&m.vcpu[0], (uint16_t)(0xcfc + (off & 3)), size, val);
}
static uint64_t ecam(unsigned slot, unsigned off, unsigned size)
{
    uint64_t val;
    mmio_read(&m.vcpu[0], gpa(PCI_ECAM_BASE + slot * 0x8000 + off), size, &val);
    return val;
}
static bool irq(unsigned vector) /* pending at vCPU 0?  Takes it. */
{
    uint32_t bit = BIT32(vector % 32), old = atomic_fetch_and(&m.vcpu[0].lapic->irr[vector / 32], ~bit);
    return old & bit;
}
static uint8_t status(unsigned slot) { return (uint8_t)drv_r(&m, slot, 20, 1); }

static void test_bus(void **state)
{
    (void)state;
    static const uint16_t device[] = { 0x0008, 0x1044, 0x1045, 0x1041, 0x1042, 0x1043 };
    for (unsigned slot = 0; slot < 32; slot++) {
        uint32_t id = slot < 6 ? (slot ? 0x1af4u : 0x1b36u) | (uint32_t)device[slot] << 16 : 0xffffffff;
        assert_int_equal(cf8(slot, 0, 4), id);
        assert_int_equal(ecam(slot, 0, 4), id);
        assert_int_equal(cf8(slot, 2, 2), id >> 16);
    }
    uint32_t bar = cf8(NET, 0x10, 4), io = cf8(NET, 0x14, 4);
    assert_int_equal(bar, DRV_BAR(NET));
    assert_int_equal(io & 1, 1);
    cf8_write(NET, 0x10, 4, 0xffffffff), cf8_write(NET, 0x14, 4, 0xffffffff);
    assert_int_equal(cf8(NET, 0x10, 4), ~(PCI_BAR_MEM_LEN - 1));
    assert_int_equal(cf8(NET, 0x14, 4), ~(PCI_BAR_IO_LEN - 1) | 1);
    cf8_write(NET, 0x10, 4, 0xe8000000), cf8_write(NET, 0x14, 4, 0xc800);
    uint64_t val;
    mmio_read(&m.vcpu[0], gpa(0xe8000000 + 18), 2, &val);
    assert_int_equal(val, 3); /* answers where it was moved to: number of queues */
    mmio_read(&m.vcpu[0], gpa(bar + 18), 2, &val);
    assert_int_equal(val, 0xffff);
    cf8_write(NET, 0x04, 2, 0);
    mmio_read(&m.vcpu[0], gpa(0xe8000000 + 18), 2, &val);
    assert_int_equal(val, 0xffff); /* decoding off */
    assert_int_equal(ecam(NET, 0x100, 4), 0);
    cf8_write(0, 0, 4, 0x12345678);
    assert_int_equal(cf8(0, 0, 4), 0x00081b36);
}

static void test_capabilities_and_window(void **state)
{
    (void)state;
    unsigned seen[6] = { 0 }, n = 0;
    for (unsigned at = (unsigned)ecam(BLK, 0x34, 1); at; at = (unsigned)ecam(BLK, at + 1, 1), n++) {
        assert_true(n < 10 && at >= 0x40 && at % 4 == 0);
        if (ecam(BLK, at, 1) == 9)
            seen[ecam(BLK, at + 3, 1)]++;
    }
    assert_int_equal(n, 7);
    for (unsigned type = 1; type <= 5; type++)
        assert_int_equal(seen[type], type == 2 ? 2 : 1);
    cf8_write(BLK, 0xac, 1, 0), cf8_write(BLK, 0xb0, 4, 0x2000), cf8_write(BLK, 0xb4, 4, 4);
    assert_int_equal(cf8(BLK, 0xb8, 4), DISK / 512); /* capacity, read without memory access */
    cf8_write(BLK, 0xb0, 4, 20), cf8_write(BLK, 0xb4, 4, 1), cf8_write(BLK, 0xb8, 1, 1);
    assert_int_equal(status(BLK), 1);
}

static void test_negotiation(void **state)
{
    (void)state;
    drv_start(&m, RNG, 0, 1); /* no VERSION_1 */
    assert_int_equal(status(RNG), 3);
    drv_start(&m, RNG, V1 | BIT64(50), 1); /* not offered */
    assert_int_equal(status(RNG) & 8, 0);
    drv_start(&m, RNG, V1, 1);
    assert_int_equal(status(RNG), 15);
    drv_w(&m, RNG, 20, 1, 0);
    assert_int_equal(status(RNG), 0);
    drv_w(&m, RNG, 22, 2, 9);
    assert_int_equal(drv_r(&m, RNG, 24, 2), 0); /* no such queue */
}

static void rng_ask(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        drv_desc(&m, DRV_RINGS(RNG, 0), i, BUF + 64 * i, 64, W, 0), drv_offer(&m, RNG, 0, i);
    drv_bell(&m, RNG, 0);
}

static void test_rng_and_interrupts(void **state)
{
    (void)state;
    drv_start(&m, RNG, V1, 1);
    rng_ask(3);
    assert_int_equal(drv_used(&m, RNG, 0), 3);
    assert_int_equal(drv_used_len(&m, RNG, 0, 2), 64);
    assert_int_not_equal(drv_get(&m, BUF + 128, 8), 0);
    assert_true(irq(0x41));
    drv_put(&m, DRV_RINGS(RNG, 0) + DRV_AVAIL, 1, 2); /* NO_INTERRUPT */
    rng_ask(1);
    assert_false(irq(0x41));
    drv_put(&m, DRV_RINGS(RNG, 0) + DRV_AVAIL, 0, 2);
    drv_w(&m, RNG, PCI_BAR_MSIX + 12, 4, 1); /* masked: it waits */
    rng_ask(1);
    assert_false(irq(0x41));
    assert_int_equal(drv_r(&m, RNG, PCI_BAR_PBA, 4), 1);
    drv_w(&m, RNG, PCI_BAR_MSIX + 12, 4, 0);
    assert_true(irq(0x41));
    assert_int_equal(drv_r(&m, RNG, PCI_BAR_PBA, 4), 0);
}

static void test_event_index(void **state)
{
    (void)state;
    drv_start(&m, RNG, V1 | VIRTIO_F_EVENT_IDX, 1);
    uint64_t avail = DRV_RINGS(RNG, 0) + DRV_AVAIL, used = DRV_RINGS(RNG, 0) + DRV_USED;
    drv_put(&m, avail + 4 + 2 * DRV_NUM, 2, 2); /* used_event: after the third */
    rng_ask(1);
    (void)irq(0x41);                                             /* the very first may come in any case */
    assert_int_equal(drv_get(&m, used + 4 + 8 * DRV_NUM, 2), 1); /* avail_event: tell us of the second */
    rng_ask(1);
    assert_false(irq(0x41));
    rng_ask(1);
    assert_true(irq(0x41));
    rng_ask(1);
    assert_false(irq(0x41));
    uint16_t offered, wants;
    const struct virtq *q = &vdev_find(&m.vm, VDEV_RNG)->q[0];
    assert_true(virtq_peek(&m.vm, q, &offered, &wants));
    assert_true(offered == 4 && wants == 2 && q->next_avail == 4 && q->next_used == 4 && q->notified_used == 4);
}

static void test_hostile_rings_cost_the_device_only(void **state)
{
    (void)state;
    uint64_t table = DRV_RINGS(RNG, 0);
    for (unsigned k = 0; k < 9; k++) {
        drv_start(&m, RNG, V1 | VIRTIO_F_INDIRECT_DESC, 1);
        drv_desc(&m, table, 0, BUF, 64, W, 0);
        switch (k) {
        case 0: drv_desc(&m, table, 0, BUF, 64, W | N, 0); break;        /* a loop */
        case 1: drv_desc(&m, table, 0, RAM - 8, 64, W, 0); break;        /* reaches into the disk */
        case 2: drv_desc(&m, table, 0, UINT64_MAX - 8, 64, W, 0); break; /* wraps */
        case 3: drv_desc(&m, table, 0, BUF, 0xffffffff, W, 0); break;
        case 4: drv_desc(&m, table, 0, BUF, 64, W | N, 99); break; /* no such descriptor */
        case 5: drv_desc(&m, table, 0, BUF, 0, W, 0); break;
        /* indirect to itself */
        case 6: drv_desc(&m, table, 0, table, 16, I, 0), drv_desc(&m, table, 0, table, 32, I, 0); break;
        case 7: drv_desc(&m, table, 0, BUF, 17, I, 0); break;
        case 8: drv_put(&m, table + DRV_AVAIL + 2, 1000, 2); break; /* more requests than entries */
        }
        drv_offer(&m, RNG, 0, 0);
        drv_bell(&m, RNG, 0);
        assert_int_equal(status(RNG), 15 | 64);
        assert_int_equal(drv_used(&m, RNG, 0), 0);
        drv_bell(&m, RNG, 0); /* dead until reset */
        drv_start(&m, RNG, V1, 1);
        rng_ask(1);
        assert_int_equal(drv_used(&m, RNG, 0), 1);
    }
    drv_w(&m, RNG, 20, 1, 0), drv_w(&m, RNG, 12, 4, 0), drv_w(&m, RNG, 8, 4, 1), drv_w(&m, RNG, 12, 4, 1),
        drv_w(&m, RNG, 20, 1, 11);
    drv_w(&m, RNG, 32, 8, RAM - 16), drv_w(&m, RNG, 28, 2, 1); /* rings outside memory */
    assert_int_equal(status(RNG) & 64, 64);
}

static unsigned blk(uint32_t type, uint64_t sector, uint64_t data, uint32_t len, bool in)
{
    uint64_t t = DRV_RINGS(BLK, 0), head = BUF + 0x10000;
    drv_put(&m, head, type, 4), drv_put(&m, head + 4, 0, 4), drv_put(&m, head + 8, sector, 8),
        drv_put(&m, head + 16, 0xee, 1);
    drv_desc(&m, t, 0, head, 16, N, len ? 1 : 2);
    drv_desc(&m, t, 1, data, len, N | (in ? W : 0), 2);
    drv_desc(&m, t, 2, head + 16, 1, W, 0);
    drv_offer(&m, BLK, 0, 0);
    drv_bell(&m, BLK, 0);
    while (vdev_service(&m.vm))
        ;
    return (unsigned)drv_get(&m, head + 16, 1);
}

static void test_blk(void **state)
{
    (void)state;
    drv_start(&m, BLK, V1 | BIT64(9) | BIT64(13) | BIT64(14), 1);
    assert_int_equal(drv_r(&m, BLK, 0x2000, 8), DISK / 512);
    for (unsigned i = 0; i < 20000; i++)
        m.ram[BUF + i] = (uint8_t)(i * 7);
    assert_int_equal(blk(1, 7, BUF, 39 * 512, false), 0);
    assert_memory_equal(m.ram + RAM + 7 * 512, m.ram + BUF, 39 * 512);
    memset(m.ram + BUF + 0x8000, 0, 0x8000);
    assert_int_equal(blk(0, 7, BUF + 0x8000, 39 * 512, true), 0);
    assert_memory_equal(m.ram + BUF, m.ram + BUF + 0x8000, 39 * 512);
    assert_int_equal(drv_used_len(&m, BLK, 0, 1), 39 * 512 + 1);
    assert_int_equal(blk(4, 0, 0, 0, false), 0);                  /* flush */
    assert_int_equal(blk(99, 0, 0, 0, false), 2);                 /* unknown */
    assert_int_equal(blk(0, DISK / 512 - 1, BUF, 1024, true), 1); /* beyond the end */
    assert_int_equal(blk(1, UINT64_MAX, BUF, 512, false), 1);
    assert_int_equal(blk(0, 0, BUF, 100, true), 1); /* no whole sector */
    assert_int_equal(blk(8, 0, BUF, 20, true), 0);
    assert_string_equal((char *)m.ram + BUF, "godwit-ram");
    drv_put(&m, BUF, 8, 8), drv_put(&m, BUF + 8, 2, 4), drv_put(&m, BUF + 12, 0, 4);
    assert_int_equal(blk(13, 0, BUF, 16, false), 0); /* write zeroes: sectors 8, 9 */
    assert_int_equal(drv_get(&m, RAM + 8 * 512, 8), 0);
    assert_int_not_equal(drv_get(&m, RAM + 10 * 512, 8), 0);
    assert_int_not_equal(drv_get(&m, RAM + 8 * 512 - 8, 8), 0);
    drv_put(&m, BUF + 8, 0x7fffffff, 4);
    assert_int_equal(blk(11, 0, BUF, 16, false), 1);
    assert_int_equal(status(BLK), 15);
}

static uint8_t wire[2000];
static size_t wire_len;
static unsigned n_sent;
static enum hv_err send_result;
static unsigned sent_by; /* card */
static enum hv_err fake_send(struct vm *vm, unsigned nic, const uint8_t *frame, size_t len)
{
    assert_ptr_equal(vm, &m.vm);
    sent_by = nic;
    assert_false(spin_is_locked(&vm->dev_lock));
    if (send_result != HV_OK)
        return send_result;
    memcpy(wire, frame, len);
    wire_len = len;
    n_sent++;
    return HV_OK;
}

static void test_net_sends(void **state)
{
    (void)state;
    static const struct vdev_net_backend b = { fake_send };
    vdev_net_backend_set(&b);
    n_sent = 0;
    drv_start(&m, NET, V1 | BIT64(5) | BIT64(15), 3);
    assert_int_equal(drv_r(&m, NET, 0x2000, 4), 0x01574702); /* MAC */
    assert_int_equal(drv_r(&m, NET, 0x2006, 2), 1);
    for (unsigned i = 0; i < 200; i++)
        m.ram[BUF + i] = (uint8_t)i;
    drv_desc(&m, DRV_RINGS(NET, 1), 0, BUF, 50, N, 1), drv_desc(&m, DRV_RINGS(NET, 1), 1, BUF + 50, 62, 0, 0);
    drv_offer(&m, NET, 1, 0);
    send_result = HV_E_AGAIN;
    drv_bell(&m, NET, 1);
    assert_int_equal(n_sent, 0); /* not in the guest's exit */
    assert_true(vdev_service(&m.vm));
    assert_int_equal(drv_used(&m, NET, 1), 0); /* no room: it stays */
    send_result = HV_OK;
    while (vdev_service(&m.vm))
        ;
    assert_int_equal(n_sent, 1);
    assert_int_equal(wire_len, 100);
    assert_memory_equal(wire, m.ram + BUF + 12, 100);
    assert_int_equal(drv_used(&m, NET, 1), 1);
    assert_true(irq(0x42));
    drv_desc(&m, DRV_RINGS(NET, 1), 0, BUF, 20, 0, 0); /* too short for a frame: answered, not sent */
    drv_offer(&m, NET, 1, 0), drv_bell(&m, NET, 1);
    while (vdev_service(&m.vm))
        ;
    assert_int_equal(drv_used(&m, NET, 1), 2);
    assert_int_equal(n_sent, 1);
    assert_true(irq(0x42)); /* a driver whose ring is full of such frames waits for this */
}

/* The switch delivers to another guest, which takes the frame in two buffers, before the
 * sender's request is answered. */
static struct machine peer;
static enum hv_err send_to_peer(struct vm *vm, unsigned nic, const uint8_t *frame, size_t len)
{
    (void)vm, (void)nic;
    return vdev_net_receive(&peer.vm, 0, frame, len);
}

static void test_net_guest_to_guest(void **state)
{
    (void)state;
    static const struct vdev_net_backend b = { send_to_peer };
    vdev_net_backend_set(&b);
    make(&peer);
    drv_start(&peer, NET, V1 | BIT64(15), 3);
    for (unsigned i = 0; i < 2; i++)
        drv_desc(&peer, DRV_RINGS(NET, 0), 8 + i, BUF + 1024 * i, 100, W, 0), drv_offer(&peer, NET, 0, 8 + i);
    drv_start(&m, NET, V1, 3);
    drv_desc(&m, DRV_RINGS(NET, 1), 3, BUF, 12 + 150, 0, 0), drv_offer(&m, NET, 1, 3), drv_bell(&m, NET, 1);
    while (vdev_service(&m.vm))
        ;
    assert_int_equal(drv_used(&peer, NET, 0), 2);
    assert_int_equal(drv_used(&m, NET, 1), 1);
    assert_int_equal(drv_get(&m, DRV_RINGS(NET, 1) + DRV_USED + 4, 4), 3); /* the sender's own request */
    machine_fini(&peer);
}

static void test_net_receives(void **state)
{
    (void)state;
    uint8_t frame[1522];
    for (unsigned i = 0; i < sizeof(frame); i++)
        frame[i] = (uint8_t)(i * 3);
    assert_int_equal(vdev_net_receive(&m.vm, 0, frame, 60), HV_E_NOENT);
    drv_start(&m, NET, V1 | BIT64(15), 3);
    assert_int_equal(vdev_net_receive(&m.vm, 0, frame, 60), HV_E_NOMEM);
    for (unsigned i = 0; i < 2; i++)
        drv_desc(&m, DRV_RINGS(NET, 0), i, BUF + 1024 * i, 1000, W, 0), drv_offer(&m, NET, 0, i);
    assert_int_equal(vdev_net_receive(&m.vm, 0, frame, 60), HV_OK);
    assert_memory_equal(m.ram + BUF + 12, frame, 60);
    assert_int_equal(drv_get(&m, BUF + 10, 2), 1);
    assert_int_equal(drv_used_len(&m, NET, 0, 0), 72);
    assert_true(irq(0x41));
    assert_int_equal(vdev_net_receive(&m.vm, 0, frame, 1522), HV_E_NOMEM); /* one buffer is not enough, and is kept */
    assert_int_equal(drv_used(&m, NET, 0), 1);
    drv_desc(&m, DRV_RINGS(NET, 0), 2, BUF + 4096, 1000, W, 0), drv_offer(&m, NET, 0, 2);
    assert_int_equal(vdev_net_receive(&m.vm, 0, frame, 1522), HV_OK);
    assert_int_equal(drv_used(&m, NET, 0), 3);
    assert_int_equal(drv_get(&m, BUF + 1024 + 10, 2), 2); /* two buffers */
    assert_memory_equal(m.ram + BUF + 1024 + 12, frame, 988);
    assert_memory_equal(m.ram + BUF + 4096, frame + 988, 1522 - 988);
    assert_int_equal(drv_used_len(&m, NET, 0, 2), 1522 - 988);
}

static void test_console(void **state)
{
    (void)state;
    char out[32] = "";
    drv_start(&m, HVC, V1, 2);
    memcpy(m.ram + BUF, "over virtio", 11);
    drv_desc(&m, DRV_RINGS(HVC, 1), 0, BUF, 11, 0, 0), drv_offer(&m, HVC, 1, 0), drv_bell(&m, HVC, 1);
    assert_int_equal(uart_take_output(&m.vm, out, sizeof(out)), 11);
    assert_string_equal(out, "over virtio");
    assert_int_equal(uart_put_input(&m.vm, "typed", 5), 5);
    (void)vdev_service(&m.vm);
    drv_desc(&m, DRV_RINGS(HVC, 0), 0, BUF + 64, 3, W, 0), drv_offer(&m, HVC, 0, 0), drv_bell(&m, HVC, 0);
    assert_memory_equal(m.ram + BUF + 64, "typ", 3);
    drv_offer(&m, HVC, 0, 0), drv_bell(&m, HVC, 0);
    assert_memory_equal(m.ram + BUF + 64, "ed", 2);
    pio_write(&m.vcpu[0], 0x3f8, 1, 'x'); /* the guest is at its serial port again */
    assert_int_equal(uart_put_input(&m.vm, "u", 1), 1);
    uint32_t val;
    pio_read(&m.vcpu[0], 0x3fd, 1, &val);
    assert_int_equal(val & 1, 1);
}

static void test_balloon(void **state)
{
    (void)state;
    drv_start(&m, BALLOON, V1 | BIT64(5), 3);
    memset(m.ram + 6 * MIB, 0x55, 6 * MIB);
    drv_desc(&m, DRV_RINGS(BALLOON, 2), 0, 6 * MIB, 2 * MIB, W | N, 1);
    drv_desc(&m, DRV_RINGS(BALLOON, 2), 1, 9 * MIB, 2 * MIB, W, 0); /* no whole block */
    drv_offer(&m, BALLOON, 2, 0), drv_bell(&m, BALLOON, 2);
    assert_int_equal(drv_used(&m, BALLOON, 2), 0);
    while (vdev_service(&m.vm))
        ;
    assert_int_equal(drv_used(&m, BALLOON, 2), 1);
    assert_int_equal(m.n_dropped, 1);
    assert_int_equal(drv_get(&m, 6 * MIB, 8), 0);
    assert_int_equal(drv_get(&m, 9 * MIB, 1), 0x55);
    drv_put(&m, BUF, 9 * MIB / PAGE_SIZE, 4), drv_put(&m, BUF + 4, 0xfffffff, 4); /* inflate: a page, and nonsense */
    drv_desc(&m, DRV_RINGS(BALLOON, 0), 0, BUF, 8, 0, 0), drv_offer(&m, BALLOON, 0, 0), drv_bell(&m, BALLOON, 0);
    while (vdev_service(&m.vm))
        ;
    assert_int_equal(drv_get(&m, 9 * MIB, 1), 0);
    assert_int_equal(drv_get(&m, 9 * MIB + PAGE_SIZE, 1), 0x55);
    drv_w(&m, BALLOON, 16, 2, 0); /* configuration changes on vector 0 */
    uint8_t generation = (uint8_t)drv_r(&m, BALLOON, 21, 1);
    spin_lock(&m.vm.dev_lock);
    vdev_balloon_target(&m.vm, 4 * MIB);
    vdev_balloon_target(&m.vm, 4 * MIB); /* no news */
    spin_unlock(&m.vm.dev_lock);
    assert_int_equal(drv_r(&m, BALLOON, 0x2000, 4), 4 * MIB / PAGE_SIZE);
    assert_int_equal(drv_r(&m, BALLOON, 21, 1), generation + 1);
    drv_w(&m, BALLOON, 0x2004, 4, 77);
    spin_lock(&m.vm.dev_lock);
    struct balloon_state b = vdev_balloon_state(&m.vm);
    spin_unlock(&m.vm.dev_lock);
    assert_true(b.present && b.live && b.target_bytes == 4 * MIB && b.given_bytes == 77 * PAGE_SIZE);
    assert_int_equal(drv_r(&m, BALLOON, 0x2004, 4), 77);
}

static void test_state_moves(void **state)
{
    (void)state;
    static uint8_t buf[VM_STATE_MAX], again[VM_STATE_MAX];
    static struct machine b;
    size_t len, len2;
    char why[200];
    drv_start(&m, RNG, V1 | VIRTIO_F_EVENT_IDX, 1);
    rng_ask(2);
    drv_start(&m, NET, V1 | BIT64(5) | BIT64(21) | BIT64(17), 3);
    drv_w(&m, NET, 16, 2, 0); /* configuration changes on vector 0 */
    /* waits at the stop */
    drv_desc(&m, DRV_RINGS(NET, 1), 0, BUF, 100, 0, 0), drv_offer(&m, NET, 1, 0), drv_bell(&m, NET, 1);
    assert_int_equal(vm_state_save(&m.vm, machine_knows(), buf, sizeof(buf), &len, WHY(why)), HV_OK);
    make(&b);
    memcpy(b.ram, m.ram, RAM + DISK);
    assert_int_equal(vm_state_load(&b.vm, buf, len, WHY(why)), HV_OK);
    assert_int_equal(vm_state_save(&b.vm, machine_knows(), again, sizeof(again), &len2, WHY(why)), HV_OK);
    assert_int_equal(len, len2);
    assert_memory_equal(buf, again, len);
    while (vdev_service(&b.vm))
        ;
    assert_int_equal(drv_used(&b, NET, 1), 1); /* sent (into nothing) here, once */
    vdev_net_announce(&b.vm, 0);
    assert_int_equal(drv_r(&b, NET, 0x2006, 2), 3); /* announce */
    drv_put(&b, BUF, 3, 2);
    drv_desc(&b, DRV_RINGS(NET, 2), 0, BUF, 2, N, 1), drv_desc(&b, DRV_RINGS(NET, 2), 1, BUF + 8, 1, W, 0);
    drv_offer(&b, NET, 2, 0), drv_bell(&b, NET, 2);
    assert_int_equal(drv_get(&b, BUF + 8, 1), 0);
    assert_int_equal(drv_r(&b, NET, 0x2006, 2), 1);
    machine_fini(&b);
    make(&b);
    b.vm.config.n_nics = 0;
    devices_destroy(&b.vm);
    assert_int_equal(devices_create(&b.vm), HV_OK);
    assert_int_equal(vm_state_load(&b.vm, buf, len, WHY(why)), HV_E_PROTO); /* another set of devices */
    machine_fini(&b);
}

/* ---- several disks and cards ---- */

enum { BLK2 = 6, BLK3 = 7, BLK16 = 20, NET2 = 21, NET8 = 27 };
#define FAR 0x400000u /* buffers, behind the rings of all slots */

static void make_many(struct machine *x)
{
    fake_tsc = 1000000;
    machine_init_bare(x, 1, RAM + 16 * BLOCK_SIZE);
    x->vm.mem.low_bytes = x->vm.config.memory_bytes = RAM;
    x->vm.config.n_disks = CONFIG_MAX_DISKS;
    x->vm.config.n_nics = CONFIG_MAX_NICS;
    for (unsigned i = 0; i < CONFIG_MAX_DISKS; i++)
        x->vm.config.disk[i].bytes = BLOCK_SIZE;
    for (unsigned i = 0; i < CONFIG_MAX_NICS; i++)
        x->vm.config.nic[i].mac[5] = (uint8_t)(i + 1);
    x->vm.config.disk[2].read_only = true;
    snprintf(x->vm.config.disk[2].serial, sizeof(x->vm.config.disk[2].serial), "third");
    assert_int_equal(devices_create(&x->vm), HV_OK);
    x->vcpu[0].lapic->svr = 0x1ff;
}

/* One request of a disk: header at FAR, 512 bytes at FAR + 16, status behind them.  Returns the status. */
static unsigned disk_ask(unsigned slot, unsigned type, uint64_t sector)
{
    unsigned done = drv_used(&m, slot, 0);
    drv_put(&m, FAR, type, 8), drv_put(&m, FAR + 8, sector, 8);
    drv_desc(&m, DRV_RINGS(slot, 0), 0, FAR, 16, N, 1);
    drv_desc(&m, DRV_RINGS(slot, 0), 1, FAR + 16, type == 8 ? 20 : 512, type == 1 ? N : N | W, 2);
    drv_desc(&m, DRV_RINGS(slot, 0), 2, FAR + 600, 1, W, 0);
    drv_offer(&m, slot, 0, 0), drv_bell(&m, slot, 0);
    assert_int_equal(drv_used(&m, slot, 0), done + 1);
    return (unsigned)drv_get(&m, FAR + 600, 1);
}

static void test_many_disks(void **state)
{
    (void)state;
    machine_fini(&m);
    make_many(&m);
    static const unsigned slots[] = { BLK, BLK2, BLK16 };
    for (unsigned i = 0; i < 3; i++) {
        drv_start(&m, slots[i], V1, 1);
        memset(m.ram + FAR + 16, (int)(0x31 + i), 512);
        assert_int_equal(disk_ask(slots[i], 1, 3), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(disk_ask(slots[i], 0, 3), 0);
        assert_int_equal(m.ram[FAR + 16], 0x31 + i);
    }
    assert_int_equal(m.ram[RAM + 1536], 0x31);
    assert_int_equal(m.ram[RAM + BLOCK_SIZE + 1536], 0x32);
    assert_int_equal(m.ram[RAM + 15 * BLOCK_SIZE + 1536], 0x33);
    drv_w(&m, BLK3, 0, 4, 0);
    assert_true(drv_r(&m, BLK3, 4, 4) & BIT32(5)); /* VIRTIO_BLK_F_RO is offered */
    assert_false(drv_r(&m, BLK2, 4, 4) & BIT32(5));
    drv_start(&m, BLK3, V1, 1);
    assert_int_equal(disk_ask(BLK3, 1, 0), 1);
    assert_int_equal(disk_ask(BLK3, 8, 0), 0);
    assert_string_equal((char *)m.ram + FAR + 16, "third");
}

static void test_many_cards(void **state)
{
    (void)state;
    static const struct vdev_net_backend b = { fake_send };
    static const uint8_t frame[60];
    machine_fini(&m);
    make_many(&m);
    vdev_net_backend_set(&b);
    send_result = HV_OK;
    static const unsigned slots[] = { NET, NET2, NET8 }, numbers[] = { 0, 1, 7 };
    for (unsigned i = 0; i < 3; i++) {
        drv_start(&m, slots[i], V1 | BIT64(5) | BIT64(15), 3);
        assert_int_equal(drv_r(&m, slots[i], 0x2005, 1), numbers[i] + 1);
        drv_desc(&m, DRV_RINGS(slots[i], 1), 0, FAR, 72, 0, 0), drv_offer(&m, slots[i], 1, 0),
            drv_bell(&m, slots[i], 1);
        while (vdev_service(&m.vm))
            ;
        assert_int_equal(sent_by, numbers[i]);
        drv_desc(&m, DRV_RINGS(slots[i], 0), 0, FAR + 4096, 100, W, 0), drv_offer(&m, slots[i], 0, 0);
    }
    assert_int_equal(vdev_net_receive(&m.vm, 7, frame, sizeof(frame)), HV_OK);
    assert_int_equal(drv_used(&m, NET8, 0), 1);
    assert_int_equal(drv_used(&m, NET, 0) + drv_used(&m, NET2, 0), 0);
    assert_int_equal(vdev_net_receive(&m.vm, 6, frame, sizeof(frame)), HV_E_NOENT); /* without a driver */
}

/* The state of slots that release 0.1 has not; and that of a guest without them is what it reads. */
static void test_many_move(void **state)
{
    (void)state;
    static uint8_t buf[VM_STATE_MAX], again[VM_STATE_MAX];
    static struct machine b;
    size_t len, len2;
    char why[400];
    struct vm_knows old;
    assert_int_equal(vm_knows_parse(&old, NULL, 0), HV_OK);
    assert_int_equal(pci_guest_needs(&m.vm.devices->pci), 1);
    machine_fini(&m);
    make_many(&m);
    drv_start(&m, NET8, V1 | BIT64(5), 3);
    drv_start(&m, BLK16, V1, 1);
    assert_int_equal(vm_state_save(&m.vm, machine_knows(), buf, sizeof(buf), &len, WHY(why)), HV_OK);
    make_many(&b);
    memcpy(b.ram, m.ram, RAM);
    assert_int_equal(vm_state_load(&b.vm, buf, len, WHY(why)), HV_OK);
    assert_int_equal(vm_state_save(&b.vm, machine_knows(), again, sizeof(again), &len2, WHY(why)), HV_OK);
    assert_int_equal(len, len2);
    assert_memory_equal(buf, again, len);
    assert_int_equal(drv_r(&b, NET8, 20, 1), 15); /* its driver is still there */
    assert_int_equal(vm_state_save(&m.vm, &old, buf, sizeof(buf), &len, WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "PCI bus"));
    assert_int_equal(vm_knows_check(&old, &m.vm, "", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "several disks"));
    assert_non_null(strstr(why, "several network cards"));
    machine_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
        T(test_many_disks),
        T(test_many_cards),
        T(test_many_move),
        T(test_bus),
        T(test_capabilities_and_window),
        T(test_negotiation),
        T(test_rng_and_interrupts),
        T(test_event_index),
        T(test_hostile_rings_cost_the_device_only),
        T(test_blk),
        T(test_net_sends),
        T(test_net_receives),
        T(test_net_guest_to_guest),
        T(test_console),
        T(test_balloon),
        T(test_state_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
