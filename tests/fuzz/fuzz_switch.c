/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz-sources: net/vswitch.c net/port_filter.c kernel/lib/err.c tests/fakes/log_quiet.c */
/* tests/fuzz/fuzz_switch.c - the switch, with frames from guests and from the wire.
 *
 * Input: frames, each after a head of 4 bytes: port and flags, length (2 bytes), time.  Unless a flag forbids it, the
 * source is the port's own address and the destination one of the others'.  For every input: the host's and the guests'
 * traffic goes to their ports and nowhere else, no port hears from a guest in another's name, and storms end. */
#include <stdlib.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "net/vswitch.h"

#define CHECK(x)     \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)

enum { UPLINK, HOST, GUEST_A, GUEST_B, SPOOFER, N_PORTS };
enum { RAW_SOURCE = 16, RAW_DESTINATION = 32, FULL = 64, GROUP = 128 };

static struct vswitch sw;
static struct vswitch_port ports[N_PORTS];
static const uint8_t reserved_ip[4] = { 10, 0, 0, 1 };
static unsigned sender, n_delivered;
static bool full;

static bool is_reserved(const uint8_t ip[4], const uint8_t mac[6])
{
    (void)mac;
    return !memcmp(ip, reserved_ip, 4);
}

/* What must not get through, said again for frames without tags: the filter's own code is not asked. */
static void strict_guest_says(const uint8_t *f, size_t len)
{
    CHECK(!memcmp(f + 6, ports[sender].mac, 6));
    unsigned type = (unsigned)f[12] << 8 | f[13];
    if (type == 0x0806)
        CHECK(len >= 42 && !memcmp(f + 22, ports[sender].mac, 6) && !is_reserved(f + 28, ports[sender].mac));
    if (type == 0x0800) {
        CHECK(len >= 34 && !is_reserved(f + 26, ports[sender].mac));
        CHECK(f[14] != 0x45 || f[23] != 17 || f[20] & 0x1f || f[21] || (f[36] << 8 | f[37]) != 68);
    }
    if (type == 0x86dd)
        CHECK(len >= 54 && (f[20] != 58 || (f[54] != 134 && f[54] != 137)));
}

static enum hv_err deliver(struct vswitch_port *p, const uint8_t *frame, size_t len)
{
    CHECK(p != &ports[sender]);
    if (full)
        return HV_E_AGAIN;
    if (sender == GUEST_A || sender == GUEST_B)
        strict_guest_says(frame, len);
    for (unsigned i = HOST; i <= SPOOFER; i++) /* what is for one is for no other */
        CHECK(memcmp(frame, ports[i].mac, 6) || p == &ports[i]);
    if (sender == SPOOFER)
        for (unsigned i = HOST; i < SPOOFER; i++)
            CHECK(memcmp(frame + 6, ports[i].mac, 6));
    n_delivered++;
    return HV_OK;
}

static void begin(void)
{
    static const enum vswitch_kind kinds[] = { PORT_UPLINK, PORT_HOST, PORT_GUEST, PORT_GUEST, PORT_SPOOFING_GUEST };
    vswitch_init(&sw);
    sw.reserved = is_reserved;
    for (unsigned i = 0; i < N_PORTS; i++) {
        ports[i] = (struct vswitch_port){ .kind = kinds[i], .deliver = deliver, .mac = { 2, 0, 0, 0, 0, (uint8_t)i } };
        if (i == UPLINK)
            memset(ports[i].mac, 0, 6);
        CHECK(vswitch_attach(&sw, &ports[i]) == HV_OK);
    }
}

static void frame_in(const uint8_t *head, const uint8_t *data, size_t len, uint64_t now_us)
{
    uint8_t *f = malloc(len ? len : 1); /* of its own: a read behind its end is seen */
    memcpy(f, data, len);
    sender = head[0] % N_PORTS;
    full = head[0] & FULL;
    n_delivered = 0;
    if (len >= 12 && !(head[0] & RAW_SOURCE) && sender != UPLINK)
        memcpy(f + 6, ports[sender].mac, 6);
    if (len >= 12 && !(head[0] & RAW_DESTINATION))
        memcpy(f, ports[head[3] % N_PORTS].mac, 6);
    if (len >= 12 && (head[0] & GROUP))
        f[0] |= 1;
    struct vswitch_port *p = &ports[sender];
    uint64_t rx = p->rx_frames, bad = p->bad, drops = 0, before = 0;
    for (unsigned i = 0; i < PORT_DROP_COUNT; i++)
        before += p->drops[i];
    enum hv_err e = vswitch_input(&sw, p, f, len, now_us);
    for (unsigned i = 0; i < PORT_DROP_COUNT; i++)
        drops += p->drops[i];
    CHECK(p->rx_frames - rx + p->bad - bad + drops - before == (e != HV_E_AGAIN)); /* each counts once */
    CHECK(e == HV_OK || !n_delivered);
    for (unsigned i = HOST; i < N_PORTS; i++)
        CHECK(vswitch_lookup(&sw, ports[i].mac, now_us) == &ports[i]);
    free(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint64_t now_us = 1;
    unsigned groups = 0;
    begin();
    while (len >= 4) {
        uint8_t head[4];
        memcpy(head, data, 4);
        size_t n = (size_t)head[1] << 8 | head[2];
        data += 4, len -= 4;
        n = MIN(n, len);
        now_us += head[3];
        frame_in(head, data, n, now_us);
        groups += n >= 12 && sender == GUEST_A && n_delivered && (head[0] & GROUP);
        data += n, len -= n;
    }
    CHECK(groups <= VSWITCH_STORM_HZ + now_us * VSWITCH_STORM_HZ / 1000000 + 1);
    return 0;
}
