/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/bare.h - entry point and a line to COM1, for guests without an operating system.
 *
 * The 64-bit Linux boot protocol enters at start(), which the linker puts first for its section
 * (tests/system/tiny_guest.py makes a bzImage of it): flat memory, interrupts off, nothing else set up.  The program
 * must not need relocation. */
typedef unsigned long u64;

#define COM1 0x3f8

static void main(u64 number); /* the number that the command line begins with */

/* RSI: boot_params, with the command line's address at 0x228. */
__attribute__((section(".text.unlikely.start"), used)) void start(void *unused, const unsigned char *boot_params)
{
    const unsigned char *cmdline = (const unsigned char *)(u64) * (const unsigned *)(boot_params + 0x228);
    u64 n = 0;
    (void)unused;
    while (*cmdline >= '0' && *cmdline <= '9')
        n = n * 10 + *cmdline++ - '0';
    main(n);
}

static void outb(unsigned short port, unsigned char v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }

static unsigned char inb(unsigned short port)
{
    unsigned char v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static void put(char c)
{
    while (!(inb(COM1 + 5) & 0x20))
        __asm__ volatile("pause");
    outb(COM1, (unsigned char)c);
}

static void put_number(u64 n)
{
    if (n >= 10)
        put_number(n / 10);
    put((char)('0' + n % 10));
}
