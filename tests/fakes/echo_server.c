/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/echo_server.c - see echo_server.h.  A file of its own: lwIP's headers clash with the C library's. */
#include "tests/fakes/echo_server.h"

#include <lwip/tcp.h>

#define CHECK(x)              \
    do {                      \
        if (!(x))             \
            __builtin_trap(); \
    } while (0)
static uint8_t buf[1 << 20];
static size_t have, sent;
static struct tcp_pcb *now; /* the connection; one at a time */
static bool over;           /* its other side has closed */

static err_t on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    (void)arg, (void)err;
    if (!p) {
        over = true;
        return ERR_OK;
    }
    CHECK(have + p->tot_len <= sizeof(buf));
    pbuf_copy_partial(p, buf + have, p->tot_len, 0);
    have += p->tot_len;
    tcp_recved(pcb, p->tot_len);
    pbuf_free(p);
    return ERR_OK;
}

static void on_error(void *arg, err_t err)
{
    (void)arg, (void)err;
    now = NULL;
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
    (void)arg, (void)err;
    now = pcb;
    have = sent = 0;
    tcp_recv(pcb, on_recv);
    tcp_err(pcb, on_error);
    return ERR_OK;
}

void echo_server_start(uint16_t port)
{
    struct tcp_pcb *pcb = tcp_new();
    CHECK(tcp_bind(pcb, IP_ANY_TYPE, port) == ERR_OK);
    tcp_accept(tcp_listen(pcb), on_accept);
}

void echo_server_turn(void)
{
    size_t n = now ? MIN(MIN(have - sent, (size_t)tcp_sndbuf(now)), (size_t)UINT16_MAX) : 0;
    if (n && tcp_write(now, buf + sent, (u16_t)n, TCP_WRITE_FLAG_COPY) == ERR_OK) {
        sent += n;
        tcp_output(now);
    }
    if (now && over && sent == have) {
        tcp_recv(now, NULL);
        tcp_err(now, NULL);
        tcp_close(now);
        now = NULL;
        over = false;
    }
}
