/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fuzz/fuzz_linux_boot.c - a malformed kernel image, bzImage or ELF: refused with a reason, or loaded inside the
 * guest's memory.
 *
 * Input: byte 0, bit 0: write the magic numbers that a fuzzer cannot guess; bits 1 to 3: number of further modules.
 * Bytes 1 and 2: size of guest memory and of each module; then the image. */
/* fuzz-sources: kernel/vm/linux_boot.c kernel/vm/elf_boot.c kernel/vm/e820.c kernel/vm/acpi_guest.c
 *   kernel/vm/bios_guest.c
 *   kernel/dev/devices.c kernel/dev/io_bus.c kernel/dev/pci_guest.c kernel/dev/virtio_pci.c kernel/dev/virtq.c
 *   kernel/dev/vdev.c kernel/dev/vdev_rng.c kernel/dev/vdev_net.c kernel/dev/vdev_blk.c kernel/dev/disk_ram.c
 *   kernel/dev/vdev_console.c kernel/dev/vdev_balloon.c kernel/dev/lapic.c kernel/dev/ioapic.c kernel/dev/pic.c
 *   kernel/dev/pit.c kernel/dev/rtc.c kernel/dev/pm.c kernel/dev/uart.c kernel/dev/pvclock.c kernel/dev/steal_time.c
 *   kernel/core/cpuid.c kernel/dev/msr.c kernel/lib/err.c kernel/lib/print.c kernel/core/vcpu.c kernel/core/vm.c
 *   tests/fakes/machine.c tests/fakes/service.c tests/fakes/log_quiet.c tests/fakes/page.c */
#include <stdlib.h>
#include <string.h>
#include "kernel/vm/boot_image.h"
#include "kernel/vm/elf_boot.h"
#include "kernel/vm/linux_boot.h"
#include "tests/fakes/machine.h"

#define CHECK(x)     \
    do {             \
        if (!(x))    \
            abort(); \
    } while (0)
#define IMAGE_MAX 8192
static struct machine m;
static uint8_t initrd[256 * 1024];

static void put(uint8_t *image, unsigned off, uint64_t val, unsigned n)
{
    struct wr w = wr_init(image + off, n);
    wr_uint(&w, val, n);
}

static void marks_put(uint8_t *image, size_t len)
{
    if (len < 1024)
        return;
    put(image, 0x1fe, 0xaa55, 2);
    put(image, 0x202, 0x53726448, 4);
    put(image, 0x206, 0x20f, 2);
    image[0x201] = 0x6a;
    image[0x1f1] = 1;
    image[0x211] |= 1;
    image[0x236] |= 1;
    put(image, 0x1f4, (len - 1024) / 16, 4);
    put(image, 0x248, 0, 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vcpu_regs regs;
    char why[200] = "";
    if (size < 4 || size > IMAGE_MAX)
        return 0;
    machine_init(&m, 1, (16 + (data[1] & 31) * 2) * MIB);
    size_t len = size - 3;
    uint8_t *image = malloc(len);
    CHECK(image);
    memcpy(image, data + 3, len);
    if (data[0] & 1)
        marks_put(image, len);
    struct boot_image b = {
        .kernel = image, .kernel_len = len, .cmdline = "console=ttyS0", .n_modules = 1 + (data[0] >> 1 & 7)
    };
    for (unsigned i = 0; i < b.n_modules; i++)
        b.module[i] = (struct boot_module){ initrd, data[2] * 1024u + i, "" };
    enum hv_err e = (elf_boot_takes(image, len) ? elf_boot_load : linux_boot_load)(&m.vm, &b, &regs, WHY(why));
    if (e)
        CHECK(why[0]);
    else
        CHECK(regs.rip >= MIB && regs.rip < m.vm.mem.low_bytes);
    free(image);
    machine_fini(&m);
    return 0;
}
