/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fuzz/fuzz_vm_state.c - a malicious peer's state and offer: refused, or accepted; then the machine must work,
 * and save a state that loads again.
 *
 * Input: byte 0, bit 0: patches to a valid state (or offer) instead of raw bytes; bit 1: offer; bit 2: that of a
 * stopped guest with a volume that moves along to a chosen place.  A patch is 3 bytes: offset (2), value. */
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
#include "kernel/dev/vdev_net.h"
#include "tests/fakes/lvm.h"
#include "tests/fakes/virtio_driver.h"

#define CHECK(x)     \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)
static struct machine m;
static uint8_t good_state[VM_STATE_MAX], good_offer[VM_OFFER_MAX], good_along[VM_OFFER_MAX], buf[VM_STATE_MAX];
static size_t state_len, offer_len, along_len;

static void along_make(void)
{
    static struct vm stopped = { .config = { .name = "test", .n_cpus = 1, .memory_bytes = GIB, .pin = -1 } };
    stopped.config.n_disks = 2;
    stopped.config.disk[0] = (struct disk_config){ .kind = DISK_IN_RAM, .bytes = 2 * MIB };
    stopped.config.disk[1] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "godwit", "db" } };
    fake_group.vg.n_lvs = 1;
    fake_group.vg.lv[0] = (struct lvm_lv){ .name = "db", .extents = 3 };
    CHECK(vm_offer_write(&stopped, machine_knows(), "vdb=fast/x", good_along, sizeof(good_along), &along_len) == HV_OK);
}

static void begin(void)
{
    char why[200];
    fake_tsc = 1000000000;
    machine_init_bare(&m, 2, 18 * MIB);
    m.vm.mem.low_bytes = m.vm.config.memory_bytes = 16 * MIB;
    m.vm.config.n_disks = 1;
    m.vm.config.disk[0].bytes = 2 * MIB;
    m.vm.config.n_nics = 1;
    m.vm.config.rng = m.vm.config.balloon = m.vm.config.hvc = true;
    CHECK(devices_create(&m.vm) == HV_OK);
    drv_start(&m, 1, VIRTIO_F_VERSION_1 | VIRTIO_F_EVENT_IDX, 1);
    drv_start(&m, 2, VIRTIO_F_VERSION_1, 3);
    drv_start(&m, 3, VIRTIO_F_VERSION_1 | BIT64(15), 3);
    drv_start(&m, 4, VIRTIO_F_VERSION_1, 1);
    drv_start(&m, 5, VIRTIO_F_VERSION_1, 2);
    CHECK(pvclock_system_time_write(m.vm.vcpus[1], 0x5001) == HV_OK);
    CHECK(uart_put_input(&m.vm, "x", 1) == 1);
    CHECK(vm_state_save(&m.vm, machine_knows(), good_state, sizeof(good_state), &state_len, WHY(why)) == HV_OK);
    CHECK(vm_offer_write(&m.vm, machine_knows(), "", good_offer, sizeof(good_offer), &offer_len) == HV_OK);
}

static size_t input_make(const uint8_t *data, size_t size)
{
    bool patch = data[0] & 1, offer = data[0] & 2, along = data[0] & 4;
    size_t len = size - 1;
    if (!patch) {
        memcpy(buf, data + 1, len);
        return len;
    }
    len = !offer ? state_len : along ? along_len : offer_len;
    memcpy(buf, !offer ? good_state : along ? good_along : good_offer, len);
    for (size_t i = 1; i + 3 <= size; i += 3)
        buf[(data[i] | data[i + 1] << 8) % len] = data[i + 2];
    return len;
}

/* Everything that the run loop and a guest could touch next. */
static void use(void)
{
    static const uint16_t ports[] = { 0x20, 0x21, 0xa0, 0x40, 0x42, 0x61, 0x71, 0x3f8, 0x3fa, 0x3fd, 0x608, 0x4d0 };
    uint32_t val;
    for (unsigned i = 0; i < 2; i++) {
        struct vcpu *v = m.vm.vcpus[i];
        fake_tsc += 12345678;
        lapic_timer_poll(v);
        (void)lapic_timer_deadline(v);
        int vec = lapic_pending(v);
        if (vec >= 0)
            lapic_ack(v, (uint8_t)vec);
        (void)lapic_take_wakeup(v);
        for (uint32_t off = 0; off < 0x400; off += 16)
            (void)lapic_mmio_read(v, off);
        lapic_mmio_write(v, 0xb0, 0);
        lapic_mmio_write(v, 0x380, 1000);
        for (unsigned k = 0; k < ARRAY_SIZE(ports); k++)
            pio_read(v, ports[k], 1, &val), pio_write(v, ports[k], 1, (uint8_t)k);
    }
    for (unsigned slot = 1; slot <= 5; slot++)
        for (unsigned q = 0; q < 3; q++) {
            drv_desc(&m, DRV_RINGS(slot, q), 0, 0x200000, 512, q ? 0 : 2, 0);
            drv_offer(&m, slot, q, 0);
            drv_bell(&m, slot, q);
        }
    uint8_t frame[60] = { 0 };
    (void)vdev_net_receive(&m.vm, 0, frame, sizeof(frame));
    while (vdev_service(&m.vm))
        ;
    vdev_net_announce(&m.vm, 0);
    (void)guest_wall_ns(&m.vm);
    char out[64];
    (void)uart_take_output(&m.vm, out, sizeof(out));
}

static void ignore(void *ctx, const char *text)
{
    (void)ctx;
    CHECK(strlen(text) > 5);
}

static void try_offer(const uint8_t *p, size_t len)
{
    static struct vm_offer o;
    char why[200] = "";
    if (vm_offer_parse(p, len, &o, WHY(why)) != HV_OK) {
        CHECK(why[0]);
        return;
    }
    (void)vm_offer_check(&o, GIB, ignore, NULL);
    CHECK(memchr(o.config.name, 0, sizeof(o.config.name)) && memchr(o.config.cmdline, 0, sizeof(o.config.cmdline)));
    for (unsigned i = 0; i < o.config.n_disks; i++) {
        const struct lv_config *lv = &o.config.disk[i].lv;
        CHECK(!o.place_chosen[i] || o.config.disk[i].kind == DISK_ON_LV);
        CHECK(memchr(lv->vg, 0, sizeof(lv->vg)) && memchr(lv->lv, 0, sizeof(lv->lv)));
    }
    CHECK(o.config.n_cpus >= 1 && o.config.n_cpus <= VM_MAX_VCPUS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[200] = "";
    size_t again;
    if (size < 1 || size > 60000)
        return 0;
    begin();
    along_make();
    size_t len = input_make(data, size);
    uint8_t *exact = malloc(len + !len); /* ASan sees what is read beyond */
    CHECK(exact);
    memcpy(exact, buf, len);
    if (data[0] & 2) {
        try_offer(exact, len);
    } else if (vm_state_load(&m.vm, exact, len, WHY(why)) != HV_OK) {
        CHECK(why[0]);
        CHECK(vm_state_save(&m.vm, machine_knows(), buf, sizeof(buf), &again, WHY(why)) == HV_OK);
        CHECK(again == state_len && !memcmp(buf, good_state, again)); /* refused: nothing changed */
    } else {
        CHECK(vm_state_save(&m.vm, machine_knows(), buf, sizeof(buf), &again, WHY(why)) == HV_OK);
        CHECK(vm_state_load(&m.vm, buf, again, WHY(why)) == HV_OK);
        use();
    }
    free(exact);
    machine_fini(&m);
    return 0;
}
