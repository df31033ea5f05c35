/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fuzz/fuzz_insn.c - random bytes as guest code with random registers, decoded and emulated.  Nothing may crash
 * or fail, and an undefined instruction must have changed nothing.
 *
 * Input: 1 byte of mode and direction, 16 x 2 bytes for the registers, then code. */
/* fuzz-sources: kernel/run/insn.c kernel/run/insn_exec.c kernel/run/insn_alu.c kernel/run/insn_mem.c
 *   kernel/run/insn_mov.c kernel/run/insn_simd.c kernel/run/insn_stack.c kernel/run/insn_string.c
 *   kernel/core/s2.c kernel/core/guest_mem.c kernel/core/dirty.c kernel/core/translate.c svm/npt.c
 *   tests/fakes/log_quiet.c tests/fakes/page.c tests/fakes/vcpu.c tests/fakes/mmio.c tests/fakes/fpu.c */
/* fuzz-deps: zydis */
#include <stdlib.h>
#include <string.h>
#include "kernel/host/x86/fpu.h"
#include "kernel/run/insn.h"
#include "tests/fakes/mmio.h"
#include "tests/fakes/vcpu.h"

extern const struct s2_format npt_format;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CODE 0x1000u
static struct vm vm;
static struct vcpu v;
static uint8_t area[576 + 256] __attribute__((aligned(64))); /* no byte more than AVX needs */

static void mode_set(unsigned mode)
{
    if (mode == 0)
        return; /* 64-bit, as fake_vcpu_init() leaves it */
    fake_regs.efer = 0;
    fake_regs.seg[SEG_CS].ar = mode == 1 ? 0xc09b : 0x9b;
    if (mode == 3) { /* paging with garbage tables: operands fault */
        fake_regs.efer = BIT64(10), fake_regs.cr0 = BIT64(31) | 1, fake_regs.cr4 = BIT64(5), fake_regs.cr3 = 0x2000;
        fake_regs.seg[SEG_CS].ar = 0xa09b;
    }
}

/* Registers near interesting places: RAM, its end, the device, the ends of the address space. */
static uint64_t spread(uint8_t place, uint8_t low)
{
    static const uint64_t places[] = {
        0, 0x1000, BLOCK_SIZE - 128, FAKE_MMIO_BASE, FAKE_MMIO_BASE - 128, 0xffffff80, 0x7fffffffff80, ~0ul - 255
    };
    return places[place % ARRAY_SIZE(places)] + low;
}

/* One VM for all runs: memory is made zero again where the dirty log says that it was written. */
static void vm_fresh(void)
{
    static struct vm made;
    static uint64_t dirty[PAGES_PER_BLOCK / 64];
    if (!made.mem.size_bytes) {
        fake_vcpu_init(&made, &v);
        if (guest_mem_init(&made.mem, BLOCK_SIZE) || s2_init(&made.s2, &npt_format) || dirty_start(&made, DIRTY_WP))
            abort();
    } else {
        memset(dirty, 0, sizeof(dirty));
        dirty_harvest(&vm, dirty);
        for (unsigned page = 0; page < PAGES_PER_BLOCK; page++)
            if (dirty[page / 64] >> page % 64 & 1)
                memset((char *)vm.mem.block[0] + page * PAGE_SIZE, 0, PAGE_SIZE);
        memcpy(&made, &vm, sizeof(vm));
    }
    fake_vcpu_init(&vm, &v);
    memcpy(&vm, &made, sizeof(vm));
}

static bool changed(const struct vcpu *before)
{
    return memcmp(v.gpr, before->gpr, sizeof(v.gpr)) || v.rflags != before->rflags || fake_n_mmio;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 34)
        return 0;
    vm_fresh();
    mode_set(data[0] & 3);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        v.gpr[i] = spread(data[1 + 2 * i], data[2 + 2 * i]);
    v.rflags = 2 | (data[33] & 4 ? BIT64(10) : 0);
    v.rip = CODE;
    v.xsave = area;
    fake_n_mmio = 0;
    fpu_host_xcr0 = data[0] & 16 ? 3 : 7;
    if (guest_write(&vm, gpa(CODE), data + 34, size - 34 < 64 ? size - 34 : 64))
        abort();
    struct vcpu before = v;
    enum hv_err e;
    if (data[0] & 8) {
        struct vcpu_exit x = { .kind = VCPU_EXIT_IO,
                               .io = { 0x3f8, (uint8_t)(1 << (data[33] & 1)), data[0] & 4, true, data[33] & 2 } };
        e = insn_emulate_string_io(&v, &x);
    } else {
        e = insn_emulate_mmio(&v, gpa(FAKE_MMIO_BASE + data[33]), data[0] & 4);
    }
    if (e || fake_n_injected > 1)
        abort();
    if (fake_n_injected && (v.rip != before.rip || (fake_injected.vector == 6 && changed(&before))))
        abort();
    v.rip = CODE;
    if (insn_length(&v) > 15 || insn_len_known(&v, (const uint8_t *)"\x0f\xa2", 2) > 15)
        abort();
    return 0;
}
