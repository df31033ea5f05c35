/* SPDX-License-Identifier: BSD-2-Clause
 * net/announce.c - tell the physical switches where a guest's MAC address is now: RARP requests (RFC 903), as other
 * hypervisors send them.
 *
 * Each address has a job, which sends at the times of at_us[] after its start.  When all jobs are taken, a new one
 * replaces the first.  Frames leave through the uplink directly: the virtual switch itself learns from the guest. */
#include "net/announce.h"

#include <string.h>
#include "kernel/lib/log.h"

#define MAX_MACS 16

struct job {
    uint8_t mac[6];
    unsigned sent; /* frames so far, < ARRAY_SIZE(at_us) while active */
    uint64_t start_us;
    bool active;
};
static const uint32_t at_us[] = { 0, 50000, 150000, 350000, 750000 };
static struct job jobs[MAX_MACS];
static struct vswitch_port *port;

void announce_frame(uint8_t out[ANNOUNCE_FRAME_LEN], const uint8_t mac[6])
{
    /* Ethernet type RARP; hardware Ethernet, protocol IPv4, lengths 6 and 4, operation 3 "request reverse" */
    static const uint8_t fixed[] = { 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3 };
    memset(out, 0, ANNOUNCE_FRAME_LEN);
    memset(out, 0xff, 6);
    memcpy(out + 6, mac, 6);
    memcpy(out + 12, fixed, sizeof(fixed));
    _Static_assert(32 + 6 <= ANNOUNCE_FRAME_LEN, "the frame holds a RARP packet");
    memcpy(out + 22, mac, 6); /* sender; its IP address stays 0 */
    memcpy(out + 32, mac, 6); /* target */
}

void announce_init(struct vswitch_port *uplink) { port = uplink; }

void announce_start(const uint8_t mac[6], uint64_t now_us)
{
    struct job *j = &jobs[0];
    for (unsigned i = 0; i < MAX_MACS; i++) {
        if (jobs[i].active && memcmp(jobs[i].mac, mac, 6) == 0) {
            j = &jobs[i];
            break;
        }
        if (!jobs[i].active)
            j = &jobs[i];
    }
    *j = (struct job){ .start_us = now_us, .active = true };
    memcpy(j->mac, mac, 6);
    announce_poll(now_us);
}

bool announce_poll(uint64_t now_us)
{
    bool any = false;
    for (unsigned i = 0; i < MAX_MACS; i++) {
        struct job *j = &jobs[i];
        if (!j->active)
            continue;
        ASSERT(j->sent < ARRAY_SIZE(at_us));
        if (now_us < j->start_us + at_us[j->sent])
            continue;
        uint8_t frame[ANNOUNCE_FRAME_LEN];
        announce_frame(frame, j->mac);
        if (port && port->deliver(port, frame, sizeof(frame)) == HV_E_AGAIN)
            continue; /* ring full: retry at the next poll */
        j->active = ++j->sent < ARRAY_SIZE(at_us);
        any = true;
    }
    return any;
}

uint64_t announce_next_us(void)
{
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < MAX_MACS; i++)
        if (jobs[i].active)
            next = MIN(next, jobs[i].start_us + at_us[jobs[i].sent]);
    return next;
}
