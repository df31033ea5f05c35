/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_insn.c - emulated instructions against this machine's processor.
 *
 * Each instruction of a long list runs twice with the same registers, flags and memory: natively in a scratch buffer,
 * and emulated with its memory operand in a device.  Registers, defined flags and memory must agree.  The rest:
 * lengths, faults, strings, modes. */
/* unit-sources: kernel/run/insn.c kernel/run/insn_exec.c kernel/run/insn_alu.c kernel/run/insn_mem.c
 *   kernel/run/insn_mov.c kernel/run/insn_simd.c kernel/run/insn_stack.c kernel/run/insn_string.c
 *   kernel/core/s2.c kernel/core/guest_mem.c kernel/core/dirty.c kernel/core/translate.c svm/npt.c
 *   tests/fakes/log.c tests/fakes/page.c tests/fakes/vcpu.c tests/fakes/mmio.c tests/fakes/fpu.c */
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
#include "kernel/host/x86/fpu.h"
#include "kernel/host/x86/regs.h"
#include "kernel/run/insn.h"
#include "kernel/run/insn_alu.h"
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
    /* xadd, cmpxchg, cmpxchg8b, cmpxchg16b */
    I("\x0f\xc1\x07"), I("\x48\x0f\xc1\x0f"), I("\x66\x0f\xc1\x17"), I("\x0f\xc0\x27"), I("\xf0\x0f\xc1\x1f"),
    I("\x0f\xb1\x0f"), I("\x48\x0f\xb1\x17"), I("\x66\x0f\xb1\x0f"), I("\x0f\xb0\x2f"), I("\xf0\x0f\xb1\x0f"),
    I("\x0f\xc7\x0f"), I("\xf0\x0f\xc7\x0f"), I("\x48\x0f\xc7\x0f"), I("\xf0\x48\x0f\xc7\x0f"),
    /* shifts: by 1, an immediate, CL */
    I("\xd1\x07"), I("\xd1\x0f"), I("\xd1\x17"), I("\xd1\x1f"), I("\xd0\x07"), I("\xd0\x17"), I("\x48\xd1\x1f"),
    I("\x66\xd1\x17"), I("\x66\xd1\x0f"),
    IU("\xd1\x27", 0x10), IU("\xd1\x2f", 0x10), IU("\xd1\x3f", 0x10), IU("\xd0\x27", 0x10), IU("\xd0\x3f", 0x10),
    IU("\x48\xd1\x27", 0x10), IU("\x66\xd1\x2f", 0x10),
    IU("\xc1\x07\x05", 0x800), IU("\xc0\x0f\x1f", 0x800), IU("\xc1\x17\x1f", 0x800), IU("\xc0\x1f\x1f", 0x800),
    IU("\x66\xc1\x17\x12", 0x800), IU("\x48\xc1\x1f\x3f", 0x800), IU("\xc1\x27\x0c", 0x810),
    IU("\x48\xc1\x2f\x3f", 0x810), IU("\xc0\x3f\x1f", 0x811), IU("\xc1\x3f\x00", 0),
    IU("\xd3\x07", 0x800), IU("\x48\xd3\x0f", 0x800), IU("\xd2\x17", 0x800), IU("\x66\xd3\x1f", 0x800),
    IU("\xd3\x27", 0x810), IU("\x48\xd3\x2f", 0x810), IU("\xd2\x3f", 0x811), IU("\xd2\x27", 0x811),
    IU("\x66\xd3\x2f", 0x811), IU("\x66\xd3\x27", 0x811),
    IU("\x0f\xa4\x0f\x07", 0x810), IU("\x48\x0f\xac\x17\x21", 0x810), IU("\x0f\xa5\x17", 0x810),
    IU("\x48\x0f\xad\x1f", 0x810), IU("\x66\x0f\xa4\x0f\x09", 0x810),
    /* scans, products */
    IU("\x0f\xbc\x07", 0x895), IU("\x48\x0f\xbc\x0f", 0x895), IU("\x66\x0f\xbd\x17", 0x895),
    IU("\x48\x0f\xbd\x1f", 0x895), IU("\xf3\x0f\xbc\x07", 0x894), IU("\xf3\x48\x0f\xbd\x07", 0x894),
    I("\xf3\x0f\xb8\x0f"), I("\xf3\x48\x0f\xb8\x17"),
    IU("\xf7\x27", 0xd4), IU("\x48\xf7\x27", 0xd4), IU("\xf6\x27", 0xd4), IU("\x66\xf7\x27", 0xd4),
    IU("\xf7\x2f", 0xd4), IU("\x48\xf7\x2f", 0xd4), IU("\xf6\x2f", 0xd4), IU("\x66\xf7\x2f", 0xd4),
    IU("\x0f\xaf\x0f", 0xd4), IU("\x48\x0f\xaf\x17", 0xd4), IU("\x66\x0f\xaf\x1f", 0xd4),
    IU("\x6b\x0f\xfd", 0xd4), IU("\x48\x69\x17\x01\x02\x03\x84", 0xd4),
    /* conditions, byte order, segment registers */
    I("\x0f\x40\x07"), I("\x48\x0f\x47\x0f"), I("\x66\x0f\x4c\x17"), I("\x0f\x4f\x1f"), I("\x0f\x4a\x07"),
    I("\x0f\x90\x07"), I("\x0f\x93\x07"), I("\x0f\x94\x07"), I("\x0f\x96\x07"), I("\x0f\x98\x07"),
    I("\x0f\x9b\x07"), I("\x0f\x9d\x07"), I("\x0f\x9e\x07"),
    I("\x0f\x38\xf0\x07"), I("\x48\x0f\x38\xf0\x0f"), I("\x66\x0f\x38\xf1\x17"), I("\x48\x0f\x38\xf1\x1f"),
    I("\x0f\xae\x3f"),
    /* cmps and scas */
    I("\xae"), I("\x66\xaf"), I("\xaf"), I("\x48\xaf"),
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
    uint8_t mem[64] __attribute__((aligned(16)));
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
    unsigned disp = insns[i].n == 3 && insns[i].bytes[1] == 0x7f && insns[i].bytes[2] == 5 ? 5
                    : insns[i].n == 4 && insns[i].bytes[2] == 0x4f                         ? 0x10
                                                                                           : 0;
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
    fake_port_work = 40 * KIB; /* a device that does much for each byte: the rest comes after another exit */
    CODE_IS("\xf3\x6e");
    v.gpr[GPR_RSI] = 0x2ffe, v.gpr[GPR_RCX] = 5;
    assert_int_equal(insn_emulate_string_io(&v, &x), HV_OK);
    assert_true(fake_n_port_out == 7 && v.gpr[GPR_RCX] == 3 && v.gpr[GPR_RSI] == 0x3000 && v.rip == CODE);
    fake_port_work = 0;
    assert_int_equal(insn_emulate_string_io(&v, &x), HV_OK);
    assert_true(fake_n_port_out == 10 && v.rip == CODE + 2);
    x.io.in = true, x.io.rep = false, x.io.size = 4;
    CODE_IS("\x6d");
    v.gpr[GPR_RDI] = 0x4ffe;
    assert_int_equal(insn_emulate_string_io(&v, &x), HV_OK);
    assert_int_equal(guest_read(&vm, gpa(0x4ffe), back, 4), HV_OK);
    assert_memory_equal(back, "abcd", 4);
    assert_int_equal(v.gpr[GPR_RDI], 0x5002);
}

/* With TF each instruction traps, of a REP each element: RIP stays and RF is set until the last one. */
static void test_single_step(void **state)
{
    struct vcpu_exit x = { .kind = VCPU_EXIT_IO, .io = { .port = 0x3f8, .size = 1, .string = true, .rep = true } };
    (void)state;
    v.rflags |= RFLAGS_TF;
    CODE_IS("\x8b\x07"); /* mov eax, [rdi] */
    v.gpr[GPR_RDI] = AT(0);
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_OK);
    assert_true(v.rip == CODE + 2 && fake_n_injected == 1 && fake_injected.vector == 1);
    assert_int_equal(guest_write(&vm, gpa(0x2000), "hello", 5), HV_OK);
    CODE_IS("\xf3\x6e"); /* rep outsb */
    v.gpr[GPR_RSI] = 0x2000, v.gpr[GPR_RCX] = 2;
    assert_int_equal(insn_emulate_string_io(&v, &x), HV_OK);
    assert_true(v.rip == CODE && v.gpr[GPR_RCX] == 1 && fake_n_injected == 2 && (v.rflags & RFLAGS_RF));
    assert_int_equal(insn_emulate_string_io(&v, &x), HV_OK);
    assert_true(v.rip == CODE + 2 && v.gpr[GPR_RCX] == 0 && fake_n_injected == 3 && !(v.rflags & RFLAGS_RF));
    assert_int_equal(fake_n_port_out, 2);
    CODE_IS("\xf3\xab"); /* rep stosd of nothing */
    v.gpr[GPR_RCX] = 0, v.gpr[GPR_RDI] = AT(0);
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), true), HV_OK);
    assert_true(v.rip == CODE + 2 && fake_n_injected == 4);
    CODE_IS("\x0f\x58\x07"); /* a fault is no trap */
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), true), HV_OK);
    assert_true(v.rip == CODE && fake_n_injected == 5 && fake_injected.vector == 6);
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

static void test_mov_from_cr(void **state)
{
    (void)state;
    v.gpr[GPR_R15] = v.gpr[GPR_RBX] = 1;
    CODE_IS("\x41\x0f\x20\xe7"); /* mov r15, cr4 */
    assert_int_equal(insn_mov_from_cr(&v, 4, BIT64(40) | 7), 4);
    assert_int_equal(v.gpr[GPR_R15], BIT64(40) | 7);
    assert_int_equal(insn_mov_from_cr(&v, 0, 9), 0);
    CODE_IS("\x0f\x22\xe3"); /* mov cr4, rbx */
    assert_int_equal(insn_mov_from_cr(&v, 4, 9), 0);
    fake_regs.seg[SEG_CS].ar = 0xc09b; /* 32-bit code */
    CODE_IS("\x0f\x20\xe3");
    assert_int_equal(insn_mov_from_cr(&v, 4, BIT64(40) | 7), 3);
    assert_int_equal(v.gpr[GPR_RBX], 7);
}

/* ---- SIMD -------------------------------------------------------------------------------------------------------- */
#define XSAVE_PARTS 7u /* x87, SSE, AVX */
static uint8_t area[2][4096] __attribute__((aligned(64)));

static void run_native_simd(void *buf, const char *bytes, unsigned n, void *mem, uint8_t *state)
{
    memcpy(buf, bytes, n);
    ((uint8_t *)buf)[n] = 0xc3;
    __asm__ volatile("fxsave %[keep]; xrstor %[state]; call *%[buf]; xsave %[state]; fxrstor %[keep]; vzeroupper"
                     : [state] "+m"(*(uint8_t(*)[4096])state), [keep] "=m"(*(uint8_t(*)[512])(area[1] + 3072))
                     : [buf] "r"(buf), "D"(mem), "a"(XSAVE_PARTS), "d"(0)
                     : "memory", "cc");
}

/* All have [rdi], and registers 1, 2 or 15 (MMX: 1). */
static const struct {
    const char *bytes;
    unsigned n;
} simd[] = {
#define S(b) { b, sizeof(b) - 1 }
    S("\x0f\x10\x0f"),
    S("\x0f\x11\x0f"),
    S("\x66\x0f\x10\x0f"),
    S("\x0f\x28\x0f"),
    S("\x0f\x29\x0f"),
    S("\x66\x44\x0f\x6f\x3f"),
    S("\x66\x0f\x7f\x0f"),
    S("\xf3\x0f\x6f\x0f"),
    S("\xf3\x44\x0f\x7f\x3f"),
    S("\xf2\x0f\xf0\x0f"),
    S("\x66\x0f\xe7\x0f"),
    S("\x0f\x2b\x0f"),
    S("\x66\x0f\x38\x2a\x0f"),
    S("\xf3\x0f\x10\x0f"),
    S("\xf3\x0f\x11\x0f"),
    S("\xf2\x0f\x10\x0f"),
    S("\xf2\x0f\x11\x0f"),
    S("\x0f\x12\x0f"),
    S("\x0f\x13\x0f"),
    S("\x0f\x16\x0f"),
    S("\x0f\x17\x0f"),
    S("\x66\x0f\x12\x0f"),
    S("\x66\x0f\x17\x0f"),
    S("\x66\x0f\x6e\x0f"),
    S("\x66\x0f\x7e\x0f"),
    S("\x66\x48\x0f\x6e\x0f"),
    S("\xf3\x0f\x7e\x0f"),
    S("\x66\x0f\xd6\x0f"),
    S("\x0f\x6f\x0f"),
    S("\x0f\x7f\x0f"),
    S("\x0f\x6e\x0f"),
    S("\x0f\x7e\x0f"),
    S("\x0f\xe7\x0f"),
    /* VEX: vmovups xmm, ymm; vmovdqu ymm; vmovaps; vmovntdq; vmovd, vmovq, vmovss, vmovsd; vmovlps, vmovhps */
    S("\xc5\xf8\x10\x0f"),
    S("\xc5\xfc\x10\x0f"),
    S("\xc5\xfc\x11\x0f"),
    S("\xc5\x7e\x6f\x3f"),
    S("\xc5\x7e\x7f\x3f"),
    S("\xc5\xfc\x28\x0f"),
    S("\xc5\xfd\xe7\x0f"),
    S("\xc5\xf9\x6e\x0f"),
    S("\xc4\xe1\xf9\x6e\x0f"),
    S("\xc5\xfa\x10\x0f"),
    S("\xc5\xfb\x10\x0f"),
    S("\xc5\xfb\x11\x0f"),
    S("\xc5\xe8\x12\x0f"),
    S("\xc5\xe8\x16\x0f"),
    S("\xc5\xf8\x17\x0f"),
    S("\xc5\xfa\x7e\x0f"),
    S("\xc5\xf9\xd6\x0f"),
    S("\xc5\xff\xf0\x0f"),
    S("\xc4\xe2\x7d\x2a\x0f"),
};

/* 16 registers that are not in their initial state: their component must be marked as in use.  (The processor may mark
 * more: it does so when the system has switched programs.) */
static bool is_set(const uint8_t *regs)
{
    for (unsigned i = 0; i < 256; i++)
        if (regs[i])
            return true;
    return false;
}

static void simd_one(void *buf, unsigned i, bool in_use)
{
    uint8_t mem[64] __attribute__((aligned(32)));
    for (unsigned k = 0; k < sizeof(mem); k++)
        mem[k] = (uint8_t)rand();
    memset(area, 0, sizeof(area));
    *(uint16_t *)area[0] = 0x037f, *(uint32_t *)(area[0] + 24) = 0x1f80;
    area[0][512] = in_use ? XSAVE_PARTS : 0;
    for (unsigned k = 0; in_use && k < 256; k++)
        area[0][160 + k] = (uint8_t)rand(), area[0][576 + k] = (uint8_t)rand();
    memcpy(area[1], area[0], 1024);
    memcpy(fake_mmio + 0x40, mem, sizeof(mem));
    v.xsave = area[0], v.gpr[GPR_RDI] = AT(0x40);
    code(simd[i].bytes, simd[i].n);
    run_native_simd(buf, simd[i].bytes, simd[i].n, mem, area[1]);
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x40)), false), HV_OK);
    if (fake_n_injected || memcmp(mem, fake_mmio + 0x40, sizeof(mem)) || memcmp(area[0] + 160, area[1] + 160, 256) ||
        memcmp(area[0] + 576, area[1] + 576, 256) || v.rip != CODE + simd[i].n ||
        (area[1][4] && (memcmp(area[0] + 32, area[1] + 32, 128) || area[0][4] != area[1][4])) ||
        (is_set(area[0] + 160) && !(area[0][512] & 2)) || (is_set(area[0] + 576) && !(area[0][512] & 4)))
        fail_msg("SIMD instruction %u (%02x %02x ...) differs from the processor", i, (uint8_t)simd[i].bytes[0],
                 (uint8_t)simd[i].bytes[1]);
}

static void test_simd_same_as_the_processor(void **state)
{
    void *buf = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)state;
    assert_true(buf != MAP_FAILED);
    for (unsigned i = 0; i < ARRAY_SIZE(simd) && __builtin_cpu_supports("avx2"); i++)
        for (unsigned round = 0; round < 20; round++)
            simd_one(buf, i, round & 1);
    munmap(buf, PAGE_SIZE);
}

static void test_simd_refused(void **state)
{
    (void)state;
    v.xsave = area[0], v.gpr[GPR_RDI] = AT(0);
    memset(area, 0x5a, sizeof(area));
    fpu_host_xcr0 = 3; /* no AVX: an area has no room for it */
    CODE_IS("\xc5\xfc\x10\x0f");
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_OK);
    assert_int_equal(fake_injected.vector, 6);
    fpu_host_xcr0 = XSAVE_PARTS, fake_regs.cr0 |= BIT64(3);
    CODE_IS("\x0f\x10\x0f");
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_OK);
    assert_int_equal(fake_n_injected, 2);
    for (unsigned i = 0; i < sizeof(area[0]); i++)
        assert_int_equal(area[0][i], 0x5a);
    assert_int_equal(fake_n_mmio, 0);
}

/* ---- stack, strings that compare --------------------------------------------------------------------------------- */
static void test_stack(void **state)
{
    uint64_t val = 0;
    (void)state;
    memcpy(fake_mmio + 0x10, "\x00\x20\x00\x00\x00\x00\x00\x00", 8);
    CODE_IS("\xff\x37"); /* push [rdi] */
    v.gpr[GPR_RDI] = AT(0x10), v.gpr[GPR_RSP] = 0x4004;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x10)), false), HV_OK);
    assert_int_equal(guest_read(&vm, gpa(0x3ffc), &val, 8), HV_OK);
    assert_int_equal(val, 0x2000);
    assert_int_equal(v.gpr[GPR_RSP], 0x3ffc);
    CODE_IS("\x8f\x47\x20"); /* pop [rdi+0x20] */
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x30)), true), HV_OK);
    assert_memory_equal(fake_mmio + 0x30, fake_mmio + 0x10, 8);
    assert_int_equal(v.gpr[GPR_RSP], 0x4004);
    CODE_IS("\xff\x17"); /* call [rdi] */
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x10)), false), HV_OK);
    assert_int_equal(guest_read(&vm, gpa(0x3ffc), &val, 8), HV_OK);
    assert_int_equal(val, CODE + 2);
    assert_int_equal(v.rip, 0x2000);
    CODE_IS("\xff\x27"); /* jmp [rdi] */
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x10)), false), HV_OK);
    assert_int_equal(v.rip, 0x2000);
    CODE_IS("\x66\x6a\xf0"); /* push word -16, onto a device */
    v.gpr[GPR_RSP] = AT(0x42);
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x40)), true), HV_OK);
    assert_memory_equal(fake_mmio + 0x40, "\xf0\xff", 2);
    CODE_IS("\xe8\x00\x01\x00\x00"); /* call +0x100 */
    v.gpr[GPR_RSP] = AT(0x58);
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x50)), true), HV_OK);
    assert_int_equal(v.rip, CODE + 0x105);
    CODE_IS("\xc2\x08\x00"); /* ret 8 */
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x50)), false), HV_OK);
    assert_int_equal(v.rip, CODE + 5);
    assert_int_equal(v.gpr[GPR_RSP], AT(0x60));
    CODE_IS("\xc9"); /* leave */
    v.gpr[GPR_RBP] = AT(0x10);
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x10)), false), HV_OK);
    assert_int_equal(v.gpr[GPR_RBP], 0x2000);
    assert_int_equal(v.gpr[GPR_RSP], AT(0x18));
    memcpy(fake_mmio + 0x10, "\x00\x00\x00\x00\x00\x00\x00\x80", 8);
    CODE_IS("\xff\x17"); /* call to an address that is not canonical */
    v.gpr[GPR_RSP] = 0x4000;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x10)), false), HV_OK);
    assert_int_equal(fake_injected.vector, 13);
    assert_int_equal(v.gpr[GPR_RSP], 0x4000);
    assert_int_equal(v.rip, CODE);
}

static void test_stack_faults_before_the_device(void **state)
{
    (void)state;
    paging_on();
    CODE_IS("\xff\x37"); /* push [rdi] */
    v.gpr[GPR_RDI] = AT(0x10), v.gpr[GPR_RSP] = 0x7000;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x10)), false), HV_OK);
    assert_int_equal(fake_injected.vector, 14);
    assert_int_equal(fake_regs.cr2, 0x6ff8);
    CODE_IS("\x8f\x07"); /* pop [rdi], from a missing page */
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x10)), true), HV_OK);
    assert_int_equal(fake_regs.cr2, 0x7000);
    assert_int_equal(fake_n_mmio, 0);
    assert_int_equal(v.gpr[GPR_RSP], 0x7000);
}

static void test_strings_that_compare(void **state)
{
    (void)state;
    memset(fake_mmio, 'a', 300);
    fake_mmio[280] = 'b';
    assert_int_equal(guest_write(&vm, gpa(0x3000), "aaaab", 5), HV_OK);
    CODE_IS("\xf3\xa6"); /* repe cmpsb: RAM against the device */
    v.gpr[GPR_RSI] = 0x3000, v.gpr[GPR_RDI] = AT(0), v.gpr[GPR_RCX] = 10;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_OK);
    assert_int_equal(v.gpr[GPR_RCX], 5);
    assert_int_equal(v.gpr[GPR_RSI], 0x3005);
    assert_int_equal(v.gpr[GPR_RDI], AT(5));
    assert_false(v.rflags & 0x41); /* 'b' - 'a': above, not equal */
    assert_int_equal(v.rip, CODE + 2);
    CODE_IS("\xf2\xae"); /* repne scasb */
    v.gpr[GPR_RAX] = 'b', v.gpr[GPR_RDI] = AT(0), v.gpr[GPR_RCX] = 300;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_OK);
    assert_int_equal(v.rip, CODE); /* bounded */
    assert_int_equal(insn_emulate_mmio(&v, gpa(v.gpr[GPR_RDI]), false), HV_OK);
    assert_int_equal(v.gpr[GPR_RDI], AT(281));
    assert_int_equal(v.gpr[GPR_RCX], 19);
    assert_true(v.rflags & 0x40);
}

static void test_division(void **state)
{
    (void)state;
    srand(2);
    for (unsigned i = 0; i < 20000; i++) {
        unsigned bits = 8u << i % 4;
        uint64_t m = alu_mask(bits), d = random64() & m, low = random64() & m, q, r;
        uint64_t high = i & 4 ? random64() & m : i & 8 ? 0 : m; /* most quotients fit */
        unsigned __int128 n = (unsigned __int128)high << bits | low;
        bool ok = d && n / d <= m;
        assert_int_equal(alu_div(high, low, d, false, bits, &q, &r), ok);
        if (ok)
            assert_true(q == (uint64_t)(n / d) && r == (uint64_t)(n % d));
        __int128 sn = (__int128)(n << (128 - 2 * bits)) >> (128 - 2 * bits), sd = (int64_t)alu_sign_extend(d, bits);
        ok = sd && (sd != -1 || sn != (__int128)((unsigned __int128)1 << 127)) &&
             sn / sd == (int64_t)alu_sign_extend((uint64_t)(sn / sd), bits);
        assert_int_equal(alu_div(high, low, d, true, bits, &q, &r), ok);
        if (ok)
            assert_true(q == ((uint64_t)(sn / sd) & m) && r == ((uint64_t)(sn % sd) & m));
    }
    CODE_IS("\xf7\x37"); /* div dword [rdi] */
    memset(fake_mmio, 0, 4);
    v.gpr[GPR_RDI] = AT(0);
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_OK);
    assert_int_equal(fake_n_injected, 1);
    assert_int_equal(fake_injected.vector, 0);
}

/* A device sees one read and one write of a read-modify-write. */
static void test_one_access_each(void **state)
{
    static const struct {
        const char *bytes;
        unsigned n, accesses;
    } rows[] = { { "\x0f\xc1\x07", 3, 2 }, { "\x0f\xb1\x0f", 3, 2 }, { "\xd1\x27", 2, 2 }, { "\x0f\xab\x0f", 3, 2 },
                 { "\x0f\xa3\x0f", 3, 1 }, { "\x0f\x94\x07", 3, 1 }, { "\xf7\x1f", 2, 2 }, { "\x0f\x42\x07", 3, 1 },
                 { "\xa6", 1, 2 },         { "\x0f\x10\x0f", 3, 2 } };
    (void)state;
    v.xsave = area[0];
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        fake_n_mmio = 0, v.gpr[GPR_RDI] = AT(0x40), v.gpr[GPR_RSI] = AT(0x80), v.gpr[GPR_RCX] = 3;
        code(rows[i].bytes, rows[i].n);
        assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0x40)), false), HV_OK);
        assert_int_equal(fake_n_mmio, rows[i].accesses);
    }
}

/* What is not emulated is an undefined instruction to the guest, and changes nothing. */
static void test_the_rest_is_undefined(void **state)
{
    static const struct {
        const char *bytes;
        unsigned n;
    } rows[] = { { "\x0f\x58\x07", 3 },           /* addps xmm0, [rdi] */
                 { "\xff\x1f", 2 },               /* far call [rdi] */
                 { "\x0f\x01\x17", 3 },           /* lgdt [rdi] */
                 { "\xdd\x07", 2 },               /* fld [rdi] */
                 { "\x0f\xae\x07", 3 },           /* fxsave [rdi] */
                 { "\x06\x06\x06", 3 },           /* nothing in 64-bit mode */
                 { "\xc4\xe2\x7d\x18\x0f", 5 } }; /* vbroadcastss */
    (void)state;
    v.gpr[GPR_RDI] = AT(0), v.gpr[GPR_RSP] = 0x4000;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct vcpu before = v;
        code(rows[i].bytes, rows[i].n);
        before.rip = CODE;
        assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_OK);
        assert_int_equal(fake_n_injected, i + 1);
        assert_int_equal(fake_injected.vector, 6);
        assert_false(fake_injected.has_error);
        assert_memory_equal(&v, &before, sizeof(v));
    }
    assert_int_equal(fake_n_mmio, 0);
}

/* The code went away after the processor had fetched it: the guest gets the page fault of the fetch. */
static void test_code_that_went_away(void **state)
{
    (void)state;
    paging_on();
    v.rip = 0x7000;
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_OK);
    assert_int_equal(fake_injected.vector, 14);
    assert_int_equal(fake_regs.cr2, 0x7000);
    v.rip = 0x1fff; /* mov rax, [rdi] that goes on at a missing page */
    assert_int_equal(guest_write(&vm, gpa(0x1fff), "\x48", 1), HV_OK);
    assert_int_equal(insn_emulate_mmio(&v, gpa(AT(0)), false), HV_OK);
    assert_int_equal(fake_n_injected, 2);
    assert_int_equal(fake_regs.cr2, 0x2000);
    assert_int_equal(v.rip, 0x1fff);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(test_same_as_the_processor),
                                        T(test_bit_test_reaches_beyond),
                                        T(test_fast_forms),
                                        T(test_strings),
                                        T(test_string_ports),
                                        T(test_single_step),
                                        T(test_faults_in_the_other_operand),
                                        T(test_crossing_into_a_device),
                                        T(test_modes_and_lengths),
                                        T(test_mov_to_cr),
                                        T(test_mov_from_cr),
                                        T(test_simd_same_as_the_processor),
                                        T(test_simd_refused),
                                        T(test_stack),
                                        T(test_stack_faults_before_the_device),
                                        T(test_strings_that_compare),
                                        T(test_division),
                                        T(test_one_access_each),
                                        T(test_the_rest_is_undefined),
                                        T(test_code_that_went_away) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
