/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_insn.c - emulated instructions against this machine's processor.
 *
 * Each instruction of a long list runs twice with the same registers, flags and memory: natively in a scratch buffer,
 * and emulated with its memory operand in a device.  Registers, defined flags and memory must agree.  The rest:
 * lengths, faults, strings, modes. */
/* unit-sources: kernel/run/insn.c kernel/run/insn_exec.c kernel/run/insn_mem.c kernel/core/s2.c
 *   kernel/core/guest_mem.c kernel/core/dirty.c kernel/core/translate.c svm/npt.c tests/fakes/log.c tests/fakes/page.c
 *   tests/fakes/vcpu.c tests/fakes/mmio.c */
/* unit-deps: zydis */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "kernel/run/insn.h"
#include "tests/fakes/mmio.h"
#include "tests/fakes/page.h"
#include "tests/fakes/vcpu.h"

extern const struct s2_format npt_format;
static struct vm vm;
static struct vcpu v;
#define CODE      0x1000u
#define AT(off)   (FAKE_MMIO_BASE + (off))
#define FLAGS_ALL 0x8d5u /* CF PF AF ZF SF OF */

static int setup(void **state)
{
    (void)state;
    fake_vcpu_init(&vm, &v);
    fake_n_mmio = fake_n_port_in = fake_n_port_out = 0;
    assert_int_equal(guest_mem_init(&vm.mem, 4 * BLOCK_SIZE), HV_OK);
    assert_int_equal(s2_init(&vm.s2, &npt_format), HV_OK);
    return 0;
}
static int teardown(void **state)
{
    (void)state;
    s2_fini(&vm.s2);
    guest_mem_fini(&vm.mem);
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

static void code(const char *bytes, unsigned n)
{
    v.rip = CODE;
    assert_int_equal(guest_write(&vm, gpa(CODE), bytes, n), HV_OK);
}
#define CODE_IS(bytes) code(bytes, sizeof(bytes) - 1)

/* ---- against the processor --------------------------------------------------------------------------------------- */
struct native {
    uint64_t rax, rcx, rdx, rbx, rsi, rdi, flags;
};

static void run_native(void *buf, const char *bytes, unsigned n, struct native *r)
{
    memcpy(buf, bytes, n);
    ((uint8_t *)buf)[n] = 0xc3;
    __asm__ volatile("push %%rbx; push %%r12; push %%r13; mov %0, %%r12; mov %1, %%r13; sub $256, %%rsp\n\t"
                     "mov 0(%%r12), %%rax; mov 8(%%r12), %%rcx; mov 16(%%r12), %%rdx; mov 24(%%r12), %%rbx; mov "
                     "32(%%r12), %%rsi; mov 40(%%r12), %%rdi\n\t"
                     "pushq 48(%%r12); popfq; call *%%r13; pushfq; popq 48(%%r12); cld\n\t"
                     "mov %%rax, 0(%%r12); mov %%rcx, 8(%%r12); mov %%rdx, 16(%%r12); mov %%rbx, 24(%%r12); mov %%rsi, "
                     "32(%%r12); mov %%rdi, 40(%%r12)\n\t"
                     "add $256, %%rsp; pop %%r13; pop %%r12; pop %%rbx"
                     :
                     : "a"(r), "d"(buf)
                     : "rcx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
}

/* All have [rdi] or [rdi+disp8] as the memory operand.  undef: flags that the manual leaves undefined. */
/* clang-format off */
static const struct { const char *bytes; unsigned n, undef; } insns[] = {
#define I(b) { b, sizeof(b) - 1, 0 }
#define IU(b, u) { b, sizeof(b) - 1, u }
    /* mov r, m */
    I("\x8b\x07"), I("\x48\x8b\x0f"), I("\x66\x8b\x17"), I("\x8a\x1f"), I("\x8a\x27"), I("\x8a\x7f\x05"),
    /* mov m, r */
    I("\x40\x8a\x37"), I("\x89\x07"), I("\x48\x89\x4f\x10"), I("\x66\x89\x17"), I("\x88\x1f"), I("\x88\x27"),
    /* mov m, imm */
    I("\xc6\x07\x5a"), I("\xc7\x07\x01\x02\x03\x84"), I("\x48\xc7\x07\x01\x02\x03\x84"), I("\x66\xc7\x07\x34\x12"),
    /* movzx */
    I("\x0f\xb6\x07"), I("\x48\x0f\xb6\x0f"), I("\x66\x0f\xb6\x17"), I("\x0f\xb7\x07"), I("\x48\x0f\xb7\x0f"),
    I("\x0f\xbe\x07"), I("\x48\x0f\xbe\x0f"), I("\x66\x0f\xbe\x17"), I("\x0f\xbf\x07"), I("\x48\x0f\xbf\x0f"),
    I("\x48\x63\x07"),
    /* ALU */
    I("\x01\x07"), I("\x48\x01\x0f"), I("\x66\x01\x17"), I("\x00\x1f"), I("\x03\x07"), I("\x48\x03\x0f"), I("\x02\x27"),
    I("\x80\x07\x7f"), I("\x81\x07\xff\xff\xff\x7f"), I("\x83\x07\xff"), I("\x48\x83\x07\x80"), I("\x66\x83\x07\xfe"),
    I("\x11\x07"), I("\x48\x13\x0f"), I("\x10\x1f"), I("\x19\x07"), I("\x48\x1b\x0f"), I("\x18\x1f"),
    I("\x83\x1f\xff"), I("\x83\x17\xff"),
    I("\x29\x07"), I("\x48\x2b\x0f"), I("\x66\x29\x17"), I("\x28\x27"), I("\x83\x2f\x01"),
    I("\x39\x07"), I("\x48\x3b\x0f"), I("\x66\x39\x17"), I("\x38\x1f"), I("\x80\x3f\x80"),
    I("\x81\x3f\x00\x00\x00\x80"),
    IU("\x21\x07", 0x10), IU("\x48\x23\x0f", 0x10), IU("\x83\x27\xf0", 0x10), IU("\x80\x27\x0f", 0x10),
    IU("\x66\x21\x17", 0x10),
    IU("\x09\x07", 0x10), IU("\x48\x0b\x0f", 0x10), IU("\x83\x0f\x80", 0x10), IU("\x08\x3f", 0x10),
    IU("\x0a\x3f", 0x10),
    IU("\x31\x07", 0x10), IU("\x48\x33\x0f", 0x10), IU("\x83\x37\xff", 0x10), IU("\x30\x27", 0x10),
    IU("\x85\x07", 0x10), IU("\x84\x1f", 0x10), IU("\xf7\x07\x00\x00\x00\x80", 0x10), IU("\xf6\x07\x01", 0x10),
    IU("\x48\x85\x0f", 0x10),
    I("\xff\x07"), I("\xfe\x07"), I("\x48\xff\x0f"), I("\x66\xff\x07"), I("\xfe\x0f"), I("\xf7\x1f"), I("\xf6\x1f"),
    I("\x48\xf7\x17"), I("\xf6\x17"),
    /* xchg */
    I("\x87\x07"), I("\x48\x87\x0f"), I("\x66\x87\x17"), I("\x86\x27"), I("\x86\x1f"), I("\xf0\x87\x0f"),
    I("\x0f\xc3\x07"), I("\xf0\x01\x07"), I("\xf0\x83\x0f\x00"),
    IU("\x0f\xba\x27\x05", 0x8d4), IU("\x0f\xba\x2f\x25", 0x8d4), IU("\x0f\xba\x37\x1f", 0x8d4),
    IU("\x48\x0f\xba\x3f\x3f", 0x8d4),
    IU("\x66\x0f\xba\x2f\x1f", 0x8d4), I("\xaa"), I("\x66\xab"), I("\xab"), I("\x48\xab"),
};
/* clang-format on */

static uint64_t random64(void)
{
    static const uint64_t edge[] = { 0,      1,          0x7f,       0x80,       0xff, 0x7fff,
                                     0x8000, 0x7fffffff, 0x80000000, 0xffffffff, ~0ul, 1ul << 63 };
    uint64_t r = (uint64_t)rand() << 42 ^ (uint64_t)rand() << 21 ^ (uint64_t)rand();
    return rand() % 3 ? r : edge[(unsigned)rand() % ARRAY_SIZE(edge)];
}

static void compare_one(void *buf, unsigned i, unsigned off)
{
    uint8_t mem[64];
    struct native n = {
        random64(), random64(), random64(), random64(), random64(), (uint64_t)(uintptr_t)mem, 2 | (rand() & FLAGS_ALL)
    };
    for (unsigned k = 0; k < sizeof(mem); k += 8) {
        uint64_t x = random64();
        memcpy(mem + k, &x, 8);
    }
    memcpy(fake_mmio + off, mem, sizeof(mem));
    v.gpr[GPR_RAX] = n.rax, v.gpr[GPR_RCX] = n.rcx, v.gpr[GPR_RDX] = n.rdx, v.gpr[GPR_RBX] = n.rbx,
    v.gpr[GPR_RSI] = n.rsi;
    v.gpr[GPR_RDI] = AT(off), v.rflags = n.flags;
    code(insns[i].bytes, insns[i].n);
    run_native(buf, insns[i].bytes, insns[i].n, &n);
    unsigned disp = insns[i].n == 3 && insns[i].bytes[1] == 0x7f && insns[i].bytes[2] == 5 ? 5 : 0;
    bool is_load = insns[i].bytes[0] == '\x8b' || insns[i].bytes[1] == '\x8b';
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(off + disp)), !is_load), HV_OK);
    if (memcmp(mem, fake_mmio + off, sizeof(mem)) || v.gpr[GPR_RAX] != n.rax || v.gpr[GPR_RCX] != n.rcx ||
        v.gpr[GPR_RDX] != n.rdx || v.gpr[GPR_RBX] != n.rbx || v.gpr[GPR_RSI] != n.rsi ||
        v.gpr[GPR_RDI] - AT(off) != n.rdi - (uint64_t)(uintptr_t)mem ||
        ((v.rflags ^ n.flags) & FLAGS_ALL & ~insns[i].undef) || v.rip != CODE + insns[i].n)
        fail_msg("instruction %u (%02x %02x ...) differs from the processor: flags %lx, native %lx", i,
                 (uint8_t)insns[i].bytes[0], (uint8_t)insns[i].bytes[1], v.rflags, n.flags);
}

static void test_same_as_the_processor(void **state)
{
    void *buf = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)state;
    assert_true(buf != MAP_FAILED);
    srand(1);
    for (unsigned i = 0; i < ARRAY_SIZE(insns); i++)
        for (unsigned round = 0; round < 200; round++)
            compare_one(buf, i, round & 1 ? 0x20 : 0x100);
    munmap(buf, PAGE_SIZE);
}

/* ---- by hand ----------------------------------------------------------------------------------------------------- */
static void test_bit_test_reaches_beyond(void **state)
{
    (void)state;
    memset(fake_mmio, 0, sizeof(fake_mmio));
    CODE_IS("\x0f\xab\x0f"); /* bts [rdi], ecx */
    v.gpr[GPR_RDI] = AT(0x40), v.gpr[GPR_RCX] = (uint32_t)-1;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x3c)), true), HV_OK);
    assert_int_equal(fake_mmio[0x3f], 0x80);
    assert_false(v.rflags & 1);
    CODE_IS("\x48\x0f\xa3\x0f"); /* bt [rdi], rcx */
    v.gpr[GPR_RCX] = 67, fake_mmio[0x48] = 8;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x48)), false), HV_OK);
    assert_true(v.rflags & 1);
}

static void test_fast_forms(void **state)
{
    (void)state;
    fake_mmio[0x30] = 0x14, fake_mmio[0x31] = 0x00, fake_mmio[0x32] = 0x05, fake_mmio[0x33] = 0x80;
    CODE_IS("\x8b\x04\x25\x30\x00\xd0\xfe"); /* mov eax, [abs32] */
    v.gpr[GPR_RAX] = ~0ul;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x30)), false), HV_OK);
    assert_int_equal(v.gpr[GPR_RAX], 0x80050014);
    assert_int_equal(v.rip, CODE + 7);
    CODE_IS("\x44\x89\xb7\x80\x00\x00\x00"); /* mov [rdi+0x80], r14d */
    v.gpr[GPR_R14] = 0x1122334455667788, fake_regs.irq_shadow = true;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x80)), true), HV_OK);
    assert_memory_equal(fake_mmio + 0x80, "\x88\x77\x66\x55", 4);
    assert_int_equal(v.rip, CODE + 7);
    assert_false(fake_regs.irq_shadow);
    CODE_IS("\xc7\x04\xcf\x78\x56\x34\x12"); /* mov dword [rdi+rcx*8], imm */
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x90)), true), HV_OK);
    assert_memory_equal(fake_mmio + 0x90, "\x78\x56\x34\x12", 4);
    assert_int_equal(fake_n_mmio, 3);
    assert_int_equal(fake_mmio_last_size, 4);
}

static void test_strings(void **state)
{
    (void)state;
    memset(fake_mmio, 0, sizeof(fake_mmio));
    CODE_IS("\xf3\xab"); /* rep stosd */
    v.gpr[GPR_RAX] = 0x01020304, v.gpr[GPR_RCX] = 300, v.gpr[GPR_RDI] = AT(0);
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), true), HV_OK);
    assert_int_equal(v.rip, CODE); /* bounded: goes on at the next exit */
    assert_int_equal(v.gpr[GPR_RCX], 44);
    assert_int_equal(insn_emulate_mmio(&v, gpa(v.gpr[GPR_RDI]), true), HV_OK);
    assert_int_equal(v.rip, CODE + 2);
    assert_int_equal(v.gpr[GPR_RDI], AT(1200));
    assert_int_equal(fake_mmio[1199], 1);
    assert_int_equal(fake_mmio[1200], 0);
    CODE_IS("\xf3\xa4"); /* rep movsb: device to RAM */
    v.gpr[GPR_RSI] = AT(1190), v.gpr[GPR_RDI] = 0x3ffe, v.gpr[GPR_RCX] = 20;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(1190)), false), HV_OK);
    char back[20];
    assert_int_equal(guest_read(&vm, gpa(0x3ffe), back, 20), HV_OK);
    assert_memory_equal(back, fake_mmio + 1190, 20);
    CODE_IS("\xa5"); /* movsd backwards: RAM to device */
    v.rflags |= BIT64(10), v.gpr[GPR_RSI] = 0x3ffe, v.gpr[GPR_RDI] = AT(0x700);
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x700)), true), HV_OK);
    assert_memory_equal(fake_mmio + 0x700, back, 4);
    assert_int_equal(v.gpr[GPR_RSI], 0x3ffa);
    CODE_IS("\xac"); /* lodsb: the rest of RAX stays */
    v.gpr[GPR_RAX] = 0x1111, v.gpr[GPR_RSI] = AT(0x700);
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x700)), false), HV_OK);
    assert_int_equal(v.gpr[GPR_RAX], 0x1100u | fake_mmio[0x700]);
}

static void test_string_ports(void **state)
{
    struct vcpu_exit x = { .kind = VCPU_EXIT_IO, .io = { .port = 0x3f8, .size = 1, .string = true, .rep = true } };
    char back[4];
    (void)state;
    assert_int_equal(guest_write(&vm, gpa(0x2ffe), "hello", 5), HV_OK);
    CODE_IS("\xf3\x6e");
    v.gpr[GPR_RSI] = 0x2ffe, v.gpr[GPR_RCX] = 5;
    assert_int_equal(insn_emulate_string_io(&v, &x), HV_OK);
    assert_int_equal(fake_n_port_out, 5);
    assert_memory_equal(fake_port_out, "hello", 5);
    assert_int_equal(v.rip, CODE + 2);
    x.io.in = true, x.io.rep = false, x.io.size = 4;
    CODE_IS("\x6d");
    v.gpr[GPR_RDI] = 0x4ffe;
    assert_int_equal(insn_emulate_string_io(&v, &x), HV_OK);
    assert_int_equal(guest_read(&vm, gpa(0x4ffe), back, 4), HV_OK);
    assert_memory_equal(back, "abcd", 4);
    assert_int_equal(v.gpr[GPR_RDI], 0x5002);
}

/* 4-level tables: code at its own address, the device at its own, everything else missing. */
static void paging_on(void)
{
    const struct {
        uint64_t at, e;
    } entries[] = { { 0x10000, 0x11003 },
                    { 0x11000, 0x12003 },
                    { 0x11018, 0x13003 },
                    { 0x12000, 0x14003 },
                    { 0x14000 + 8 * 1, 0x1003 },
                    { 0x14000 + 8 * 5, 0x5001 },
                    { 0x13000 + 8 * 0x1f6, 0xfec00083 } };
    for (unsigned i = 0; i < ARRAY_SIZE(entries); i++)
        assert_int_equal(guest_write(&vm, gpa(entries[i].at), &entries[i].e, 8), HV_OK);
    fake_regs.cr0 = BIT64(31) | BIT64(16) | 1, fake_regs.cr4 = BIT64(5), fake_regs.cr3 = 0x10000;
}

static void test_faults_in_the_other_operand(void **state)
{
    (void)state;
    paging_on();
    CODE_IS("\xa5"); /* movsd: device to a page that is missing */
    v.gpr[GPR_RSI] = AT(0x10), v.gpr[GPR_RDI] = 0x6ff0;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x10)), false), HV_OK);
    assert_int_equal(fake_n_injected, 1);
    assert_int_equal(fake_injected.vector, 14);
    assert_int_equal(fake_injected.error, 2);
    assert_int_equal(fake_regs.cr2, 0x6ff0);
    assert_int_equal(fake_n_mmio, 0); /* the device was not read */
    assert_int_equal(v.rip, CODE);
    assert_int_equal(v.gpr[GPR_RDI], 0x6ff0);
    v.gpr[GPR_RDI] = 0x5ff0; /* read-only page */
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x10)), false), HV_OK);
    assert_int_equal(fake_injected.error, 3);
    v.gpr[GPR_RDI] = 0x8000000000000000;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x10)), false), HV_OK);
    assert_int_equal(fake_injected.vector, 13);
}

static void test_crossing_into_a_device(void **state)
{
    (void)state;
    memset(fake_mmio, 0, sizeof(fake_mmio));
    CODE_IS("\x89\x07");
    /* three bytes on the page before, which is device space as well */
    v.gpr[GPR_RDI] = AT(0) - 3, v.gpr[GPR_RAX] = 0x44332211;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), true), HV_OK);
    assert_int_equal(fake_mmio[0], 0x44);
    assert_int_equal(fake_mmio[PAGE_SIZE - 1], 0x33);
    assert_int_equal(v.rip, CODE + 2);
}

static void test_modes_and_lengths(void **state)
{
    (void)state;
    CODE_IS("\x0f\xa2");
    assert_int_equal(insn_len_known(&v, (const uint8_t *)"\x0f\xa2", 2), 2);
    CODE_IS("\x66\xf3\x48\x0f\xa2");
    assert_int_equal(insn_len_known(&v, (const uint8_t *)"\x0f\xa2", 2), 5);
    assert_int_equal(insn_len_known(&v, (const uint8_t *)"\x0f\x30", 2), 0);
    assert_int_equal(insn_length(&v), 5);
    v.rip = 0x2fff;
    assert_int_equal(guest_write(&vm, gpa(0x2fff), "\x0f\x01\xd9", 3), HV_OK);
    assert_int_equal(insn_len_known(&v, (const uint8_t *)"\x0f\x01\xd9", 3), 3);
    v.rip = 0x40000000; /* not RAM */
    assert_int_equal(insn_length(&v), 0);
    assert_int_equal(insn_len_known(&v, (const uint8_t *)"\xf4", 1), 0);
    CODE_IS("\xb8\x01\x02\x03\x04");
    assert_int_equal(insn_length(&v), 5);
    fake_regs.efer = 0, fake_regs.cr0 = 0, fake_regs.seg[SEG_CS].ar = 0x9b;
    assert_int_equal(insn_length(&v), 3); /* real mode: mov ax, imm16 */
    fake_regs.seg[SEG_CS].base = 0x800, v.rip = CODE - 0x800;
    assert_int_equal(insn_length(&v), 3);
    fake_regs.seg[SEG_DS].base = FAKE_MMIO_BASE - 0x100;
    assert_int_equal(guest_write(&vm, gpa(CODE), "\xa3\x20\x01", 3), HV_OK); /* mov [0x120], ax */
    v.gpr[GPR_RAX] = 0xbeef;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x20)), true), HV_OK);
    assert_memory_equal(fake_mmio + 0x20, "\xef\xbe", 2);
    assert_int_equal(v.rip, CODE - 0x800 + 3);
}

static void test_mov_to_cr(void **state)
{
    uint64_t val = 0;
    (void)state;
    for (unsigned i = 0; i < GPR_COUNT; i++)
        v.gpr[i] = UINT64_C(0xabc00000000) + i;
    CODE_IS("\x0f\x22\xe0"); /* mov cr4, rax */
    assert_int_equal(insn_mov_to_cr(&v, 4, &val), 3);
    assert_int_equal(val, 0xabc00000000 + GPR_RAX);
    assert_int_equal(insn_mov_to_cr(&v, 3, &val), 0);
    CODE_IS("\x41\x0f\x22\xe7"); /* mov cr4, r15 */
    assert_int_equal(insn_mov_to_cr(&v, 4, &val), 4);
    assert_int_equal(val, 0xabc00000000 + GPR_R15);
    CODE_IS("\x66\x49\x0f\x22\x21"); /* operand size and mod are ignored */
    assert_int_equal(insn_mov_to_cr(&v, 4, &val), 5);
    assert_int_equal(val, 0xabc00000000 + GPR_R9);
    CODE_IS("\x49\x66\x0f\x22\xe1"); /* a REX that another prefix follows is none */
    assert_int_equal(insn_mov_to_cr(&v, 4, &val), 5);
    assert_int_equal(val, 0xabc00000000 + GPR_RCX);
    CODE_IS("\x44\x0f\x22\xe0"); /* cr12 */
    assert_int_equal(insn_mov_to_cr(&v, 4, &val), 0);
    CODE_IS("\x0f\x20\xe0"); /* mov rax, cr4 */
    assert_int_equal(insn_mov_to_cr(&v, 4, &val), 0);
    fake_regs.seg[SEG_CS].ar = 0xc09b; /* 32-bit code */
    CODE_IS("\x0f\x22\xe3");
    assert_int_equal(insn_mov_to_cr(&v, 4, &val), 3);
    assert_int_equal(val, GPR_RBX);
    CODE_IS("\x41\x0f\x22\xe7"); /* inc ecx */
    assert_int_equal(insn_mov_to_cr(&v, 4, &val), 0);
}

static void test_refusals(void **state)
{
    (void)state;
    CODE_IS("\x0f\x10\x07"); /* movups xmm0, [rdi] */
    v.gpr[GPR_RDI] = AT(0);
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_E_UNSUPP);
    CODE_IS("\xff\x17"); /* call [rdi] */
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_E_UNSUPP);
    CODE_IS("\x06\x06\x06"); /* nothing in 64-bit mode */
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_E_GUEST);
    v.rip = 0x40000000;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_E_GUEST);
    assert_int_equal(fake_n_mmio + fake_n_injected, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_same_as_the_processor),
                                        T(test_bit_test_reaches_beyond),
                                        T(test_fast_forms),
                                        T(test_strings),
                                        T(test_string_ports),
                                        T(test_faults_in_the_other_operand),
                                        T(test_crossing_into_a_device),
                                        T(test_modes_and_lengths),
                                        T(test_mov_to_cr),
                                        T(test_refusals) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
