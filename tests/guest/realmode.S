/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/realmode.S - a Multiboot file that is no ELF file, loaded at 8000h by its header's addresses.  It goes to
 * real mode, calls the BIOS, and prints the answers on COM1, over and over:
 *
 *     real memory=027f equipment=0202 e820=8641 key=8641 ;
 *
 * memory: KiB, by INT 12h.  e820, key: AH, then the flags CF (1) and ZF (40h), of INT 15h with AX = E820h and of
 * INT 16h with AH = 1. */
#define COM1 0x3f8
    .text
    .globl _start
_start:
header:
    .long 0x1badb002, 0x10003, -(0x1badb002 + 0x10003)
    .long header, _start, 0, 0, protected_mode

    .code32
protected_mode:
    lgdt gdt_pointer
    ljmp $8, $protected_mode_16

    .code16
protected_mode_16:
    mov $16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %cr0, %eax
    and $0xfe, %al
    mov %eax, %cr0
    ljmp $0, $real_mode
real_mode:
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7c00, %sp
    lidt ivt_pointer
again:
    mov $text_memory, %si
    call say
    int $0x12
    call say_word
    mov $text_equipment, %si
    call say
    int $0x11
    call say_word
    mov $text_e820, %si
    call say
    mov $0xe820, %ax
    clc
    int $0x15
    call say_result
    mov $text_key, %si
    call say
    mov $0x0100, %ax
    or $1, %al          /* clears ZF */
    int $0x16
    call say_result
    mov $text_end, %si
    call say
    mov $30, %cx
1:  xor %dx, %dx
2:  pause
    dec %dx
    jnz 2b
    loop 1b
    jmp again

say_result:             /* AH, then CF and ZF */
    pushf
    pop %bx
    and $0x41, %bl
    mov %bl, %al
say_word:               /* AX in hexadecimal */
    mov $4, %cx
1:  rol $4, %ax
    push %ax
    and $0xf, %al
    cmp $10, %al
    sbb $0x69, %al      /* to a hexadecimal digit */
    das
    or $0x20, %al
    call put
    pop %ax
    loop 1b
    ret

say:
    lodsb
    test %al, %al
    jz 1f
    call put
    jmp say
1:  ret

put:
    push %ax
    mov $(COM1 + 5), %dx
1:  in %dx, %al
    test $0x20, %al
    jz 1b
    pop %ax
    mov $COM1, %dx
    out %al, %dx
    ret

text_memory:    .asciz "real memory="
text_equipment: .asciz " equipment="
text_e820:      .asciz " e820="
text_key:       .asciz " key="
text_end:       .asciz " ;\n"
    .align 8
gdt:
    .quad 0, 0x00009b000000ffff, 0x000093000000ffff     /* 16-bit code and data, base 0 */
gdt_pointer:
    .word . - gdt - 1
    .long gdt
ivt_pointer:
    .word 0x3ff
    .long 0
