/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/elf.c - a 32-bit ELF kernel with a Multiboot 1 header, and with -DPVH a PVH note as well.  It prints its
 * boot information on COM1, over and over, and resets itself by port 0xCF9 when an r comes there.
 *
 *     elf pvh ram_kib=N module=LEN sum=S [STRING] module=... cmdline=[...] acpi=1 bss=0 ;          (or "multiboot")
 *
 * sum: of a module's bytes.  acpi: the root pointer is where it should be.  bss: the sum of zeroed memory that the file
 * does not contain. */
typedef unsigned char u8;
typedef unsigned u32;
typedef unsigned long long u64;

#define COM1 0x3f8

__asm__(".section .multiboot, \"a\"\n .align 4\n .long 0x1badb002, 3, -(0x1badb002 + 3)\n"
#ifdef PVH
        ".section .note.Xen, \"a\", @note\n .align 4\n .long 4, 4, 18\n .asciz \"Xen\"\n .long _start\n"
#endif
        ".section .text.start, \"ax\"\n .globl _start\n _start: mov $stack_top, %esp; push %ebx; push %eax; call "
        "kernel_main\n"
        ".bss\n .align 16\n .skip 4096\n stack_top:\n");

static u8 zeroes[70000];

static void put(char c)
{
    u8 ready;
    do
        __asm__ volatile("inb %w1, %0" : "=a"(ready) : "Nd"(COM1 + 5));
    while (!(ready & 0x20));
    __asm__ volatile("outb %0, %w1" : : "a"(c), "Nd"(COM1));
}

static void say(const char *text)
{
    while (*text)
        put(*text++);
}

static void say_number(const char *name, u32 n)
{
    char digits[11], *p = digits + 10;
    *p = 0;
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    say(name);
    say(p);
}

static u32 sum(const u8 *p, u32 len)
{
    u32 s = 0;
    while (len--)
        s += *p++;
    return s;
}

struct module {
    const u8 *data;
    u32 len;
    const char *string;
};
struct told {
    const char *by, *cmdline;
    const u8 *rsdp;
    u32 ram_kib, n_modules;
    struct module module[4];
};

static struct told pvh_info(const u32 *info)
{
    struct told t = { "pvh", (const char *)info[6], (const u8 *)info[8], 0, info[3], {} };
    for (u32 i = 0; i < t.n_modules && i < 4; i++) {
        const u32 *m = (const u32 *)info[4] + 8 * i;
        t.module[i] = (struct module){ (const u8 *)m[0], m[2], (const char *)m[4] };
    }
    const u32 *map = (const u32 *)info[10];
    for (u32 i = 0; i < info[12]; i++, map += 6)
        if (map[4] == 1)
            t.ram_kib += map[2] / 1024;
    return t;
}

static struct told multiboot_info(const u32 *info)
{
    struct told t = {
        "multiboot", info[0] & 4 ? (const char *)info[4] : "?", (const u8 *)0xe0000, 0, info[0] & 8 ? info[5] : 0, {}
    };
    for (u32 i = 0; i < t.n_modules && i < 4; i++) {
        const u32 *m = (const u32 *)info[6] + 4 * i;
        t.module[i] = (struct module){ (const u8 *)m[0], m[1] - m[0], (const char *)m[2] };
    }
    for (u32 at = info[12]; info[0] & 64 && at < info[12] + info[11]; at += *(const u32 *)at + 4)
        if (((const u32 *)at)[5] == 1)
            t.ram_kib += ((const u32 *)at)[3] / 1024;
    return t;
}

static void reset_if_asked(void)
{
    u8 is_there, c;
    __asm__ volatile("inb %w1, %0" : "=a"(is_there) : "Nd"(COM1 + 5));
    if (!(is_there & 1))
        return;
    __asm__ volatile("inb %w1, %0" : "=a"(c) : "Nd"(COM1));
    if (c == 'r')
        __asm__ volatile("outb %0, %w1" : : "a"((u8)6), "Nd"(0xcf9));
}

__attribute__((used)) void kernel_main(u32 eax, const u32 *info)
{
    struct told t = eax == 0x2badb002       ? multiboot_info(info)
                    : info[0] == 0x336ec578 ? pvh_info(info)
                                            : (struct told){ "nothing that is known", "", 0, 0, 0, {} };
    u32 bss = sum(zeroes, sizeof(zeroes));
    for (;;) {
        say("elf ");
        say(t.by);
        say_number(" ram_kib=", t.ram_kib);
        for (u32 i = 0; i < t.n_modules && i < 4; i++) {
            say_number(" module=", t.module[i].len);
            say_number(" sum=", sum(t.module[i].data, t.module[i].len));
            say(" [");
            say(t.module[i].string);
            say("]");
        }
        say(" cmdline=[");
        say(t.cmdline);
        say_number("] acpi=", t.rsdp && t.rsdp[0] == 'R' && t.rsdp[7] == ' ');
        say_number(" bss=", bss);
        say(" ;\n");
        reset_if_asked();
        for (u32 i = 0; i < 3000000; i++)
            __asm__ volatile("pause" : : "r"(zeroes) : "memory");
    }
}
