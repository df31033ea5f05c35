/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/exits/exits.c - a guest that measures what leaving it costs: no kernel, no libc, one file.
 *
 * Entered by the 64-bit Linux boot protocol: long mode, flat memory, interrupts off.  It waits for a byte on the serial
 * port, takes the TSC before and after one instruction that exits, SAMPLES times over, and prints for each kind
 *      exit NAME min MEDIAN max            ticks, without the cost of reading the TSC itself
 * then "exits done" and powers off by ACPI.  Under QEMU's `-icount shift=0` one tick is one instruction, so a figure is
 * the length of the hypervisor's path, the same on every machine. */
#include <stdint.h>

#define SAMPLES     201
#define LAPIC       0xfee00000u
#define UART        0x3f8
#define PM1_CONTROL 0x604
#define VECTOR      0x41
#define CODE_SEL    0x10
#define FRESH_BASE  (UINT64_C(64) << 20) /* RAM that nobody has touched, see tests/bench/exits.py */
#define FRESH_PAGES 1024
#define PAGE        4096
#define BLOCK       (2u << 20)

enum {
    IA32_APIC_BASE = 0x1b,
    TSC_DEADLINE = 0x6e0,
    X2_EOI = 0x80b,
    X2_SVR = 0x80f,
    X2_LVT_TIMER = 0x832,
    X2_SELF_IPI = 0x83f
};

static void wrmsr(uint32_t msr, uint64_t val)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)val), "d"((uint32_t)(val >> 32)) : "memory");
}
static uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;
    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
    return (uint64_t)hi << 32 | lo;
}
static void outb(uint16_t port, uint8_t val) { asm volatile("outb %0, %1" : : "a"(val), "Nd"(port) : "memory"); }
static uint8_t inb(uint16_t port)
{
    uint8_t v;
    asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}
static inline __attribute__((always_inline)) uint64_t rdtsc(void)
{
    uint32_t lo, hi;
    asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
    return (uint64_t)hi << 32 | lo;
}

/* ---- printing ---- */

static void put(const char *s)
{
    for (; *s; s++)
        outb(UART, (uint8_t)*s);
}
static void put_number(uint64_t n)
{
    char text[21], *p = text + 20;
    for (*p = 0; n || !*p; n /= 10)
        *--p = (char)('0' + n % 10);
    put(p);
}

static uint64_t sample[FRESH_PAGES];

static void report(const char *name, unsigned n, uint64_t overhead)
{
    for (unsigned i = 1; i < n; i++) /* sort by insertion */
        for (unsigned k = i; k && sample[k - 1] > sample[k]; k--) {
            uint64_t t = sample[k];
            sample[k] = sample[k - 1];
            sample[k - 1] = t;
        }
    put("exit ");
    put(name);
    const uint64_t shown[] = { sample[0], sample[n / 2], sample[n - 1] };
    for (unsigned i = 0; i < 3; i++) {
        put(" ");
        put_number(shown[i] > overhead ? shown[i] - overhead : 0);
    }
    put("\n");
}

static uint64_t overhead; /* of two RDTSC and the store between them */

#define MEASURE(name, ...)                          \
    do {                                            \
        for (unsigned i_ = 0; i_ < SAMPLES; i_++) { \
            uint64_t start_ = rdtsc();              \
            __VA_ARGS__;                            \
            sample[i_] = rdtsc() - start_;          \
        }                                           \
        report(name, SAMPLES, overhead);            \
    } while (0)

static void overhead_find(void)
{
    overhead = ~UINT64_C(0);
    for (unsigned i = 0; i < SAMPLES; i++) {
        uint64_t start = rdtsc(), end = rdtsc();
        if (end - start < overhead)
            overhead = end - start;
    }
}

/* ---- an interrupt handler ---- */

static struct {
    uint16_t low, sel, attr, mid;
    uint32_t high, zero;
} __attribute__((packed)) idt[VECTOR + 1];
static volatile unsigned n_handled;

static __attribute__((naked)) void handler(void)
{
    asm volatile("push %%rax; push %%rcx; push %%rdx; incl %0; mov %1, %%ecx; xor %%eax, %%eax; xor %%edx, %%edx; "
                 "wrmsr;"
                 "pop %%rdx; pop %%rcx; pop %%rax; iretq"
                 :
                 : "m"(n_handled), "i"(X2_EOI));
}

static void interrupts_on(void)
{
    uint64_t at = (uint64_t)handler;
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) idtr = { sizeof(idt) - 1, (uint64_t)idt };
    idt[VECTOR].low = (uint16_t)at;
    idt[VECTOR].sel = CODE_SEL;
    idt[VECTOR].attr = 0x8e00;
    idt[VECTOR].mid = (uint16_t)(at >> 16);
    idt[VECTOR].high = (uint32_t)(at >> 32);
    asm volatile("lidt %0; sti" : : "m"(idtr));
}

/* ---- the kinds ---- */

static void measure_first_touch(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < FRESH_PAGES; i++) {
        volatile uint64_t *p = (volatile uint64_t *)(FRESH_BASE + (uint64_t)i * PAGE);
        uint64_t start = rdtsc();
        *p = 1;
        sample[i] = rdtsc() - start - overhead;
        sum += sample[i];
    }
    for (unsigned i = 0; i < 3; i++)
        sample[i] = sum / FRESH_PAGES;
    report("first-touch", 3, 0); /* a mean: the host may give many pages at one touch */
}

/* Every form in which compilers and kernels move data from and to a device: width, extension, way of addressing. */
#define MOV(name, text) \
    MEASURE(name, asm volatile(text : : "b"((uint64_t)LAPIC), "c"((uint64_t)LAPIC + 0x20) : "rax", "memory"))
static void measure_mov(void)
{
    MOV("mov-load-32", "mov (%%rcx), %%eax");
    MOV("mov-load-32-sib", ".byte 0x8b, 0x44, 0x23, 0x20");
    MOV("mov-load-32-index", "mov 0x0(,%%rcx,1), %%eax");
    MOV("mov-load-32-moffs", "movabs 0xfee00020, %%eax");
    MOV("mov-load-32-addr32", "mov (%%ecx), %%eax");
    MOV("mov-load-32-page", "mov (%%rbx), %%eax");
    MOV("mov-load-8", "mov (%%rcx), %%ah");
    MOV("mov-load-8-moffs", "movabs 0xfee00020, %%al");
    MOV("mov-load-16", "mov (%%rcx), %%ax");
    MOV("mov-load-64", "mov (%%rcx), %%rax");
    MOV("movzx-8", "movzbl (%%rcx), %%eax");
    MOV("movzx-16", "movzwl (%%rcx), %%eax");
    MOV("movsx-8", "movsbq (%%rcx), %%rax");
    MOV("movsx-16", "movswl (%%rcx), %%eax");
    MOV("movsxd", "movslq (%%rcx), %%rax");
    MOV("mov-store-32", "mov %%eax, 0x80(%%rbx)");
    MOV("mov-store-32-moffs", "xor %%eax, %%eax; movabs %%eax, 0xfee00080");
    MOV("mov-store-8-moffs", "movabs %%al, 0xfee00081");
    MOV("mov-store-imm-32", "movl $0, 0x80(%%rbx)");
    MOV("mov-store-imm-8", "movb $0, 0x81(%%rbx)");
    MOV("mov-store-imm-16", "movw $0, 0x82(%%rbx)");
    MOV("mov-store-imm-64", "movq $0, 0x80(%%rbx)");
    MOV("mov-store-8", "mov %%al, 0x81(%%rbx)");
    MOV("mov-store-16", "mov %%ax, 0x82(%%rbx)");
    MOV("mov-store-64", "mov %%rax, 0x84(%%rbx)");
}

static void measure_all(void)
{
    uint32_t a;
    overhead_find();
    MEASURE("cpuid", asm volatile("cpuid" : "=a"(a) : "a"(0) : "rbx", "rcx", "rdx"));
    MEASURE("rdmsr-apic-base", (void)rdmsr(IA32_APIC_BASE));
    MEASURE("vmmcall", asm volatile("vmmcall" : "=a"(a) : "a"(~0u) : "memory"));
    MEASURE("in-pic", (void)inb(0x21));
    MEASURE("out-uart", outb(UART + 7, 0x5a));
    MEASURE("out-unused", outb(0x80, 0));
    MEASURE("lapic-mmio-read", asm volatile("mov (%1), %0" : "=r"(a) : "r"((uint64_t)LAPIC + 0x20) : "memory"));
    measure_mov();
    wrmsr(IA32_APIC_BASE, rdmsr(IA32_APIC_BASE) | 0xc00);
    wrmsr(X2_SVR, 0x1ff);
    MEASURE("x2apic-eoi", wrmsr(X2_EOI, 0));
    wrmsr(X2_LVT_TIMER, 2u << 17 | VECTOR);
    MEASURE("tsc-deadline", wrmsr(TSC_DEADLINE, start_ + 4000000)); /* one tick of a 250 Hz kernel at 1 GHz */
    wrmsr(TSC_DEADLINE, 0);
    interrupts_on();
    MEASURE("self-ipi", wrmsr(X2_SELF_IPI, VECTOR));
    asm volatile("cli");
    if (n_handled != SAMPLES)
        put("error: interrupts were lost\n");
    measure_first_touch();
}

__attribute__((noreturn, section(".text.first"))) void _start(void)
{
    while (!(inb(UART + 5) & 1))
        asm volatile("pause");
    (void)inb(UART);
    measure_all();
    put("exits done\n");
    asm volatile("outw %0, %1" : : "a"((uint16_t)(5u << 10 | 1u << 13)), "Nd"((uint16_t)PM1_CONTROL));
    for (;;)
        asm volatile("hlt");
}
