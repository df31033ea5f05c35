/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/probe.c - a guest that accesses what does not exist, or shuts itself down: only the guest may suffer, and
 * the host's log must explain it.
 *
 * usage: probe ports | mem ADDR | msr NUMBER [VALUE] | cpuid | triple
 *
 * ports   reads and writes I/O ports that no PC has, in all three widths, and shows the values (a PC: all ones)
 * mem     maps 4 KiB at guest-physical ADDR through /dev/mem, reads, writes, reads
 * msr     reads (or writes) a model-specific register; "refused" is what a #GP(0) becomes in Linux.  Needs msr.ko
 *         (init loads it if there)
 * cpuid   vendor and hypervisor signatures
 * triple  a triple fault: has the kernel reboot by loading an empty IDT and executing INT3 */
#include "payload.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <unistd.h>

static int probe_ports(void)
{
    static const unsigned short ports[] = { 0x0ea0, 0x1234, 0x5658, 0x9abc, 0xfff0 };
    if (iopl(3) != 0) {
        perror("probe: iopl");
        return 1;
    }
    for (unsigned i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
        unsigned short p = ports[i];
        printf("port %04x: in8=%02x in16=%04x in32=%08x\n", p, inb(p), inw(p), inl(p));
        outb(0x5a, p);
        outw(0x5aa5, p);
        outl(0x5aa5c33c, p);
    }
    puts("probe ports done");
    return 0;
}

static int probe_mem(const char *addr)
{
    int fd = open("/dev/mem", O_RDWR | O_SYNC);
    off_t gpa = (off_t)strtoul(addr, NULL, 0);
    volatile uint32_t *m = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, gpa);
    if (m == MAP_FAILED) {
        printf("probe mem: cannot map %lx: %s\n", gpa, strerror(errno));
        return 1;
    }
    uint32_t before = m[4];
    m[4] = 0x600dcafe;
    printf("mem %lx: before=%08x wrote=600dcafe after=%08x\n", gpa, before, m[4]);
    puts("probe mem done");
    return 0;
}

static int probe_msr(const char *number, const char *value)
{
    int fd = open("/dev/cpu/0/msr", O_RDWR);
    off_t msr = (off_t)strtoul(number, NULL, 0);
    uint64_t val = value ? strtoul(value, NULL, 0) : 0;
    if (fd < 0) {
        printf("probe msr: /dev/cpu/0/msr: %s\n", strerror(errno));
        return 1;
    }
    ssize_t n = value ? pwrite(fd, &val, 8, msr) : pread(fd, &val, 8, msr);
    if (n == 8)
        printf("msr %lx %s %016lx\n", msr, value ? "written" : "is", val);
    else
        printf("msr %lx refused (%s)\n", msr, strerror(errno));
    puts("probe msr done");
    return 0;
}

static int probe_cpuid(void)
{
    unsigned r[4] = { 0 };
    char sig[13] = "";
    __cpuid(0, r[0], r[1], r[2], r[3]);
    memcpy(sig, &r[1], 4);
    memcpy(sig + 4, &r[3], 4);
    memcpy(sig + 8, &r[2], 4);
    printf("cpuid vendor=%s max=%x\n", sig, r[0]);
    __cpuid(0x40000000, r[0], r[1], r[2], r[3]);
    memcpy(sig, &r[1], 12);
    printf("cpuid hypervisor=%s max=%x\n", sig, r[0]);
    return 0;
}

static int probe_triple(void)
{
    int fd = open("/sys/kernel/reboot/type", O_WRONLY);
    if (fd < 0 || write(fd, "triple", 6) != 6) {
        printf("probe triple: /sys/kernel/reboot/type: %s\n", strerror(errno));
        return 1;
    }
    puts("probe triple: now");
    fflush(stdout);
    usleep(100000); /* let the line reach the console */
    reboot(RB_AUTOBOOT);
    perror("probe: reboot");
    return 1;
}

int probe_main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "ports") == 0)
        return probe_ports();
    if (strcmp(what, "mem") == 0 && argc > 2)
        return probe_mem(argv[2]);
    if (strcmp(what, "msr") == 0 && argc > 2)
        return probe_msr(argv[2], argc > 3 ? argv[3] : NULL);
    if (strcmp(what, "cpuid") == 0)
        return probe_cpuid();
    if (strcmp(what, "triple") == 0)
        return probe_triple();
    fprintf(stderr, "usage: probe ports | mem ADDR | msr NUMBER [VALUE] | cpuid | triple\n");
    return 2;
}
