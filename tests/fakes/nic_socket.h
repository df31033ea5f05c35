/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/nic_socket.h - a network card whose wire is a datagram socket, which connects two hosts in two processes.
 * */
#ifndef GODWIT_TESTS_NIC_SOCKET_H
#define GODWIT_TESTS_NIC_SOCKET_H

#include "net/nic.h"

/* Set before net_init.  fd: one end of a socketpair(AF_UNIX, SOCK_SEQPACKET); -1: no card at all. */
extern int nic_socket_fd;
extern unsigned nic_socket_mtu;
extern uint8_t nic_socket_mac[6];
/* Faults, at any time: lose one of so many frames sent (0: none); answer HV_E_AGAIN to one of so many (0:
 * none); cut: nothing passes. */
extern unsigned nic_socket_lose, nic_socket_push_back;
extern bool nic_socket_cut;
/* Set: sees every frame that leaves. */
extern void (*nic_socket_tap)(const uint8_t *frame, size_t len);
/* Frames for the host from a test instead of a socket: hands one frame to the stack as if received. */
void nic_socket_inject(const uint8_t *frame, size_t len);

#endif
