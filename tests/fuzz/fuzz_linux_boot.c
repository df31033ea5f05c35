/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fuzz/fuzz_linux_boot.c - a damaged or made-up kernel image, bzImage or ELF: refused with a reason, or loaded inside the guest's memory.
 *
 * Input: byte 0 bit 0: the marks that a fuzzer cannot guess are put in, bits 1 to 3: so many modules more; bytes 1, 2: size of guest memory and of each
 * module; then the image. */
/* fuzz-sources: kernel/linux_boot.c kernel/elf_boot.c kernel/e820.c kernel/acpi_guest.c kernel/devices.c kernel/io_bus.c kernel/pci_guest.c kernel/virtio_pci.c kernel/virtq.c kernel/vdev.c kernel/vdev_rng.c kernel/vdev_net.c kernel/vdev_blk.c kernel/disk_ram.c kernel/vdev_console.c kernel/vdev_balloon.c kernel/lapic.c kernel/ioapic.c kernel/pic.c kernel/pit.c kernel/rtc.c kernel/pm.c kernel/uart.c kernel/pvclock.c kernel/steal_time.c kernel/cpuid.c kernel/msr.c kernel/err.c kernel/vcpu.c kernel/vm.c tests/fakes/machine.c tests/fakes/log_quiet.c tests/fakes/page.c */
#include <stdlib.h>
#include <string.h>
#include "kernel/boot_image.h"
#include "kernel/elf_boot.h"
#include "kernel/linux_boot.h"
#include "tests/fakes/machine.h"

#define CHECK(x) do { if (!(x)) abort(); } while (0)
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
    if (len < 1024) return;
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
    if (size < 4 || size > IMAGE_MAX) return 0;
    machine_init(&m, 1, (16 + (data[1] & 31) * 2) * MIB);
    size_t len = size - 3;
    uint8_t *image = malloc(len);
    CHECK(image);
    memcpy(image, data + 3, len);
    if (data[0] & 1) marks_put(image, len);
    struct boot_image b = { .kernel = image, .kernel_len = len, .cmdline = "console=ttyS0", .n_modules = 1 + (data[0] >> 1 & 7) };
    for (unsigned i = 0; i < b.n_modules; i++) b.module[i] = (struct boot_module){ initrd, data[2] * 1024u + i, "" };
    enum hv_err e = (elf_boot_is_elf(image, len) ? elf_boot_load : linux_boot_load)(&m.vm, &b, &regs, why, sizeof why);
    if (e) CHECK(why[0]);
    else CHECK(regs.rip >= MIB && regs.rip < m.vm.mem.low_bytes);
    free(image);
    machine_fini(&m);
    return 0;
}
