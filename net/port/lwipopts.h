/* SPDX-License-Identifier: BSD-2-Clause
 * net/port/lwipopts.h - lwIP's configuration: IPv4, TCP by the raw API, one thread, all memory from net/heap.c. */
#ifndef GODWIT_NET_PORT_LWIPOPTS_H
#define GODWIT_NET_PORT_LWIPOPTS_H

#include "kernel/lib/types.h"

/* The service pCPU makes all calls, in one loop. */
#define NO_SYS               1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN         0
#define LWIP_SOCKET          0
#define LWIP_TIMERS          1
void net_assert_core(void); /* net/lwip_port.c */
#define LWIP_ASSERT_CORE_LOCKED() net_assert_core()

/* Every pool and buffer comes from the size-class heap at run time: static pools would enlarge godwit.efi. */
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define mem_clib_malloc net_heap_alloc
#define mem_clib_calloc net_heap_calloc
#define mem_clib_free   net_heap_free
void *net_heap_alloc(size_t len);
void *net_heap_calloc(size_t count, size_t len);
void net_heap_free(void *p);
#define MEM_ALIGNMENT 8
/* kernel/host/page.h has a mem_free() as well.  A file that includes lwIP cannot use page.h; it allocates from
 * net/heap.h. */
#define mem_free      lwip_mem_free

/* Protocols. */
#define LWIP_IPV4                  1
#define LWIP_IPV6                  0
#define LWIP_ARP                   1
#define LWIP_ETHERNET              1
#define LWIP_ICMP                  1 /* answers ping: the first thing that an operator tries */
#define LWIP_RAW                   0
#define LWIP_UDP                   1 /* for DHCP */
#define LWIP_DHCP                  1
#define DHCP_DOES_ARP_CHECK        0
#define LWIP_DNS                   0
#define LWIP_IGMP                  0
#define LWIP_TCP                   1
#define IP_REASSEMBLY              0 /* TCP never fragments, and nothing else needs it */
#define IP_FRAG                    0
#define ARP_QUEUEING               1
#define ETHARP_TRUST_IP_MAC        0
#define LWIP_NETIF_HOSTNAME        1
#define LWIP_NETIF_STATUS_CALLBACK 1
#define LWIP_NETIF_LOOPBACK        0
#define LWIP_HAVE_LOOPIF           0
#define LWIP_STATS                 0
#define ETH_PAD_SIZE               0
#define LWIP_NETIF_TX_SINGLE_PBUF  1 /* a frame is one contiguous buffer */

/* TCP: 1 MiB windows.  TCP_MSS is the upper limit (jumbo frames); a connection uses less if the interface's MTU is
 * smaller. */
#define TCP_MSS                    8960
#define TCP_CALCULATE_EFF_SEND_MSS 1
#define LWIP_WND_SCALE             1
#define TCP_RCV_SCALE              7
#define TCP_WND                    (1024 * 1024)
#define TCP_SND_BUF                (1024 * 1024)
#define TCP_SND_QUEUELEN           4096  /* 1 MiB in segments of 1460 bytes, and headroom for small ones */
#define TCP_SNDLOWAT               16384 /* unused without sockets; lwIP checks its range */
#define TCP_SNDQUEUELOWAT          1024
#define TCP_OVERSIZE               TCP_MSS
#define TCP_QUEUE_OOSEQ            1
struct tcp_pcb;
uint16_t net_ooseq_max(const struct tcp_pcb *pcb); /* net/stream.c: bounds the queue, and the walk for each segment */
#define TCP_OOSEQ_PBUFS_LIMIT(pcb) net_ooseq_max(pcb)
#define LWIP_TCP_SACK_OUT          1
#define TCP_LISTEN_BACKLOG         1
#define LWIP_TCP_KEEPALIVE         1
#define LWIP_TCP_TIMESTAMPS        0
#define TCP_SYNMAXRTX              6 /* our own 5 s limit comes first */
#define TCP_MAXRTX                 12
#define TCP_MSL                    2000 /* both ends are Godwit's: TIME_WAIT need not last minutes */
#define LWIP_CHECKSUM_ON_COPY      0
uint32_t net_random32(void);
#define LWIP_HOOK_TCP_ISN(lip, lport, rip, rport) net_random32()

/* MEMP_NUM_* bound nothing with MEMP_MEM_MALLOC.  What remote hosts can make this host hold is bounded by the packet
 * heap as a whole (net/heap.h), by net_ooseq_max(), by the receive queue of stream.c, and by ARP_QUEUE_LEN. */
#define MEMP_NUM_TCP_SEG  TCP_SND_QUEUELEN /* lwIP checks it against the above */
#define PBUF_POOL_BUFSIZE 1600
#define ARP_TABLE_SIZE    64 /* strangers' addresses must not push out those of peers */
#define ARP_QUEUE_LEN     4  /* packets that wait for one address */

#endif
