/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_guest_net.c - a guest that is paused for a migration: its frames are queued, and move with it or
 * return to it; each exactly once, in order. */
/* unit-sources: kernel/vm/guest_net.c net/vswitch.c net/port_filter.c
 *   kernel/lib/err.c kernel/lib/print.c tests/fakes/log.c tests/fakes/page.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/dev/vdev.h"
#include "kernel/dev/vdev_net.h"
#include "kernel/host/clock.h"
#include "kernel/vm/guest_net.h"
#include "kernel/vm/vm_manage.h"
#include "net/net.h"
#include "net/vswitch.h"
#include "tests/fakes/page.h"

extern unsigned fake_log_lines;
static struct vm vm = { .config = { .name = "guest", .n_nics = 1, .nic = { { .mac = { 2, 0, 0, 0, 0, 1 } } } } };
static struct vm *slot = &vm;
static struct vswitch sw;

static enum hv_err card_deliver(struct vswitch_port *p, const uint8_t *frame, size_t len)
{
    (void)p, (void)frame, (void)len;
    return HV_OK;
}
static struct vswitch_port card = { .kind = PORT_UPLINK, .deliver = card_deliver };
static unsigned got[400], n_got; /* the number in each frame that the guest got */
static unsigned got_by;          /* the card that got the last */

unsigned vm_slots(void) { return VM_MAX; }
struct vm *vm_at(unsigned i) { return i ? NULL : slot; }
unsigned vm_slot(const struct vm *of) { return of == &vm ? 0 : VM_MAX; }
struct vswitch *net_switch(void) { return &sw; }
void net_kick(void) {}
static uint64_t now_us;
uint64_t clock_us(void) { return now_us; }
bool vdev_service(struct vm *v)
{
    (void)v;
    return false;
}
void vdev_net_announce(struct vm *v, unsigned card) { (void)v, (void)card; }
static const struct vdev_net_backend *backend;
void vdev_net_backend_set(const struct vdev_net_backend *b) { backend = b; }
static const uint8_t host_ip[4] = { 10, 0, 0, 1 };
static uint8_t client_mac[6];
bool net_is_of_other(const uint8_t ip[4], const uint8_t mac[6])
{
    return ip[3] == 5 && client_mac[0] && memcmp(mac, client_mac, 6) != 0;
}
bool net_has_address(const uint8_t ip[4]) { return memcmp(ip, host_ip, 4) == 0; }
static struct config conf = {
    .peers = { { .ip = { 10, 0, 0, 2 }, .other_ip = { { 10, 0, 0, 3 } }, .n_other_ips = 1 } },
    .n_peers = 1,
};
const struct config *host_config = &conf;
enum hv_err vdev_net_receive(struct vm *v, unsigned to, const uint8_t *frame, size_t len)
{
    assert_ptr_equal(v, &vm);
    got_by = to;
    assert_in_range(len, ETH_FRAME_MIN + 4, ETH_FRAME_MAX);
    memcpy(&got[n_got++], frame + ETH_FRAME_MIN, 4);
    return HV_OK;
}

static void frames(unsigned from, unsigned to, size_t len)
{
    uint8_t frame[1522] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9 };
    for (unsigned i = from; i <= to; i++) {
        memcpy(frame + ETH_FRAME_MIN, &i, 4);
        (void)vswitch_input(&sw, &card, frame, len, 0);
    }
}

static void assert_got(unsigned from, unsigned to)
{
    assert_int_equal(n_got, to - from + 1);
    for (unsigned i = 0; i < n_got; i++)
        assert_int_equal(got[i], from + i);
    n_got = 0;
}

static int begin(void **state)
{
    (void)state;
    n_got = 0;
    vswitch_init(&sw);
    assert_int_equal(vswitch_attach(&sw, &card), HV_OK);
    atomic_store(&vm.state, VM_RUNNING);
    (void)guest_devices_step();
    frames(1, 2, 60);
    assert_got(1, 2);
    return 0;
}

static int end(void **state)
{
    (void)state;
    atomic_store(&vm.state, VM_STOPPED);
    (void)guest_devices_step();
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

static void test_paused_by_a_person(void **state)
{
    (void)state;
    atomic_store(&vm.state, VM_PAUSED);
    frames(3, 4, 60);
    atomic_store(&vm.state, VM_RUNNING);
    (void)guest_devices_step();
    assert_int_equal(n_got, 0);
}

static void test_comes_back(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        guest_net_hold(&vm);
        guest_net_hold(&vm);
        atomic_store(&vm.state, VM_PAUSED);
        frames(3, 9, 60);
        (void)guest_devices_step();
        assert_int_equal(n_got, 0);
        atomic_store(&vm.state, VM_RUNNING);
        (void)guest_devices_step();
        assert_got(3, 9);
        frames(10, 10, 60);
        assert_got(10, 10);
    }
}

/* Taken in order, each once; what is too long for the taker is skipped; the guest, should it
 * come back, gets the rest. */
static void test_taken(void **state)
{
    static const struct {
        unsigned n;
        size_t len;
    } want[] = { { 3, 60 }, { 5, 100 }, { 6, 100 } };
    uint8_t buf[100];
    unsigned n;
    (void)state;
    assert_int_equal(guest_net_take(&vm, buf, sizeof(buf)), 0);
    guest_net_hold(&vm);
    atomic_store(&vm.state, VM_PAUSED);
    frames(3, 3, 60);
    frames(4, 4, 101);
    frames(5, 7, 100);
    for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
        assert_int_equal(guest_net_take(&vm, buf, sizeof(buf)), want[i].len);
        memcpy(&n, buf + ETH_FRAME_MIN, 4);
        assert_int_equal(n, want[i].n);
    }
    atomic_store(&vm.state, VM_RUNNING);
    (void)guest_devices_step();
    assert_got(7, 7);
}

/* However many come, and however fast they are taken: there is an end, and with it the engine's. */
static void test_flood(void **state)
{
    uint8_t buf[1522];
    unsigned n = 0;
    (void)state;
    guest_net_hold(&vm);
    atomic_store(&vm.state, VM_PAUSED);
    for (unsigned i = 0; i < 1000; i++) {
        frames(i, i, sizeof(buf));
        if (guest_net_take(&vm, buf, sizeof(buf)))
            n++;
    }
    assert_int_equal(n, GUEST_NET_HELD_MAX / (sizeof(buf) + 2));
}

/* The memory is there before the guest is asked to stop, and goes if it is not.  A guest that is paused meanwhile for
 * another reason gets no frames later. */
static void test_reserved(void **state)
{
    long before = fake_page_outstanding;
    (void)state;
    guest_net_reserve(&vm, true);
    (void)guest_devices_step();
    assert_true(fake_page_outstanding > before);
    atomic_store(&vm.state, VM_PAUSED);
    frames(1, 2, 60);
    atomic_store(&vm.state, VM_RUNNING);
    (void)guest_devices_step();
    assert_int_equal(n_got, 0);
    fake_page_fail_after = 0;
    guest_net_hold(&vm);
    fake_page_fail_after = -1;
    atomic_store(&vm.state, VM_PAUSED);
    guest_net_reserve(&vm, false); /* frames are queued: no effect */
    frames(3, 9, 60);
    atomic_store(&vm.state, VM_RUNNING);
    (void)guest_devices_step();
    assert_got(3, 9);
    guest_net_reserve(&vm, true);
    guest_net_reserve(&vm, false);
    assert_int_equal(fake_page_outstanding, before);
}

static void test_no_memory(void **state)
{
    uint8_t buf[100];
    (void)state;
    fake_page_fail_after = 0;
    guest_net_hold(&vm);
    fake_page_fail_after = -1;
    atomic_store(&vm.state, VM_PAUSED);
    frames(3, 4, 60);
    assert_int_equal(guest_net_take(&vm, buf, sizeof(buf)), 0);
}

/* A frame that came with the guest, or after it, when it has gone on. */
static void test_put(void **state)
{
    uint8_t frame[60] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0, 77 };
    (void)state;
    guest_net_deliver(&vm, frame, sizeof(frame));
    assert_got(77, 77);
    atomic_store(&vm.state, VM_PAUSED);
    guest_net_deliver(&vm, frame, sizeof(frame));
    assert_int_equal(n_got, 0);
}

static enum hv_err arp_from(const uint8_t mac[6], unsigned last_byte)
{
    uint8_t f[60] = { 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1 };
    memcpy(f + 6, mac, 6);
    memcpy(f + 22, mac, 6);
    memcpy(f + 28, (const uint8_t[]){ 10, 0, 0, (uint8_t)last_byte }, 4);
    return backend->send(&vm, 0, f, sizeof(f));
}

/* The guest's card says nothing in the name of the host, of a peer, of a disk server or of another card. */
static void test_reserved_addresses(void **state)
{
    static const uint8_t other[6] = { 2, 0, 0, 0, 0, 9 };
    (void)state;
    vm.config.n_disks = 2;
    vm.config.disk[1] = (struct disk_config){ .kind = DISK_ON_NBD, .nbd = { .ip = { 10, 0, 0, 4 }, .port = 1 } };
    for (unsigned i = 1; i <= 4; i++)
        assert_int_equal(arp_from(vm.config.nic[0].mac, i), HV_E_REFUSED);
    assert_int_equal(arp_from(vm.config.nic[0].mac, 5), HV_OK);
    assert_int_equal(arp_from(other, 5), HV_E_REFUSED);
    memcpy(client_mac, other, 6); /* 10.0.0.5 is where a client comes from, unless it is this guest */
    assert_int_equal(arp_from(vm.config.nic[0].mac, 5), HV_E_REFUSED);
    memcpy(client_mac, vm.config.nic[0].mac, 6);
    assert_int_equal(arp_from(vm.config.nic[0].mac, 5), HV_OK);
    memset(client_mac, 0, 6);
    vm.config.n_disks = 0;
}

/* spoof = allow, after the guest has stopped and starts again, or arrives. */
static void test_spoof_allow(void **state)
{
    static const uint8_t other[6] = { 2, 0, 0, 0, 0, 9 };
    (void)state;
    atomic_store(&vm.state, VM_STOPPED);
    (void)guest_devices_step();
    vm.config.nic[0].spoof = true;
    atomic_store(&vm.state, VM_RUNNING);
    (void)guest_devices_step();
    assert_int_equal(arp_from(other, 2), HV_OK);
    vm.config.nic[0].spoof = false;
}

/* Each card has its port; frames that are queued keep their card's number, also on the wire of a move. */
static void test_two_cards(void **state)
{
    uint8_t frame[64] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9 }, taken[200];
    (void)state;
    atomic_store(&vm.state, VM_STOPPED);
    (void)guest_devices_step();
    vm.config.n_nics = 2;
    vm.config.nic[1] = (struct nic_config){ .mac = { 2, 0, 0, 0, 0, 2 } };
    atomic_store(&vm.state, VM_RUNNING);
    (void)guest_devices_step();
    assert_non_null(guest_net_port(&vm, 1));
    assert_null(guest_net_port(&vm, 2));
    for (unsigned i = 0; i < 2; i++) {
        frame[5] = (uint8_t)(i + 1);
        n_got = 0;
        (void)vswitch_input(&sw, &card, frame, sizeof(frame), 0);
        assert_true(n_got == 1 && got_by == i);
    }
    atomic_store(&vm.state, VM_PAUSED);
    guest_net_hold(&vm);
    (void)vswitch_input(&sw, &card, frame, sizeof(frame), 0);
    frame[5] = 1;
    (void)vswitch_input(&sw, &card, frame, sizeof(frame), 0);
    assert_int_equal(guest_net_take(&vm, taken, sizeof(taken)), sizeof(frame) + 1);
    assert_int_equal(taken[0], 1);
    frame[5] = 2;
    assert_memory_equal(taken + 1, frame, sizeof(frame));
    atomic_store(&vm.state, VM_RUNNING);
    n_got = 0;
    (void)guest_devices_step(); /* the move failed: the other frame stays here */
    assert_true(n_got == 1 && got_by == 0);
    guest_net_deliver(&vm, taken, sizeof(frame) + 1);
    assert_true(n_got == 2 && got_by == 1);
    guest_net_deliver(&vm, taken, 1); /* no frame */
    assert_int_equal(n_got, 2);
    atomic_store(&vm.state, VM_STOPPED);
    (void)guest_devices_step();
    assert_null(guest_net_port(&vm, 0));
    vm.config.n_nics = 1;
    atomic_store(&vm.state, VM_RUNNING);
    (void)guest_devices_step();
}

static void test_drops_are_logged_once_a_minute(void **state)
{
    static const uint8_t other[6] = { 2, 0, 0, 0, 0, 9 };
    (void)state;
    for (unsigned minute = 1; minute <= 3; minute++) {
        now_us += 61000000;
        fake_log_lines = 0;
        for (unsigned i = 0; i < 1000; i++)
            (void)arp_from(other, 5);
        assert_int_equal(fake_log_lines, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_paused_by_a_person, begin, end),
        cmocka_unit_test_setup_teardown(test_comes_back, begin, end),
        cmocka_unit_test_setup_teardown(test_taken, begin, end),
        cmocka_unit_test_setup_teardown(test_flood, begin, end),
        cmocka_unit_test_setup_teardown(test_reserved, begin, end),
        cmocka_unit_test_setup_teardown(test_no_memory, begin, end),
        cmocka_unit_test_setup_teardown(test_put, begin, end),
        cmocka_unit_test_setup_teardown(test_reserved_addresses, begin, end),
        cmocka_unit_test_setup_teardown(test_spoof_allow, begin, end),
        cmocka_unit_test_setup_teardown(test_two_cards, begin, end),
        cmocka_unit_test_setup_teardown(test_drops_are_logged_once_a_minute, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
