/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/mirror.c - echoes records of a TCP connection, with the times of their arrival.
 *
 * usage: mirror ADDRESS PORT             connects there, and ends when the other side does
 *
 * Each record of 4096 bytes is returned unchanged except for bytes 0 to 15: CLOCK_MONOTONIC and CLOCK_REALTIME in
 * nanoseconds (little endian), read between the record's last byte and the answer's first.  So the sender knows that
 * the clocks were read between its sending and its receiving (tests/system/guest_clock.py). */
#include "payload.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECORD = 4096 };

static bool whole(ssize_t (*step)(int fd, void *buf, size_t len), int fd, uint8_t *buf)
{
    for (size_t done = 0; done < RECORD;) {
        ssize_t n = step(fd, buf + done, RECORD - done);
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static ssize_t write_some(int fd, void *buf, size_t len) { return write(fd, buf, len); }

int mirror_main(int argc, char **argv)
{
    static uint8_t record[RECORD];
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(argc == 3 ? (uint16_t)atoi(argv[2]) : 0) };
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

    if (argc != 3 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
        fprintf(stderr, "usage: mirror ADDRESS PORT\n");
        return 2;
    }
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))) {
        perror("mirror");
        return 1;
    }
    while (whole(read, fd, record)) {
        uint64_t now[2] = { clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_REALTIME) };
        memcpy(record, now, sizeof(now));
        if (!whole(write_some, fd, record))
            break;
    }
    perror("mirror ends");
    return 0;
}
