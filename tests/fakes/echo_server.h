/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/echo_server.h - a bare TCP echo server on the same lwIP: returns what it receives, 1 MiB at most. */
#ifndef GODWIT_TESTS_ECHO_SERVER_H
#define GODWIT_TESTS_ECHO_SERVER_H

#include "kernel/lib/types.h"

void echo_server_start(uint16_t port);
void echo_server_turn(void); /* after each net_poll() */

#endif
