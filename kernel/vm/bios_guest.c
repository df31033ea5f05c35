/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/bios_guest.c - interrupt vectors of real mode, BIOS data area and MP tables.
 *
 *      0x00000   256 vectors, each into the code below           0x9fc00   extended BIOS data area: its size
 *      0x00400   BIOS data area                                  0xf0000   MP tables
 *      0xf0800   code for the vectors                            0xffff0   reset vector
 *
 * The code runs in the guest, in real mode.  MP tables say what the MADT (acpi_guest.c) says, for kernels without
 * ACPI, such as xv6. */
#include "kernel/vm/bios_guest.h"

#include "kernel/dev/devices.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/log.h"
#include "kernel/vm/e820.h"

#define BDA_AT    0x400u
#define BDA_LEN   0x100u
#define CODE_AT   0x800u  /* in segment BIOS_SEGMENT */
#define RESET_AT  0xfff0u /* likewise */
#define N_VECTORS (BIOS_IVT_LEN / 4)

/* BIOS data area, offsets from BDA_AT */
enum {
    BDA_COM1 = 0x00,
    BDA_EBDA_SEGMENT = 0x0e,
    BDA_EQUIPMENT = 0x10,
    BDA_MEMORY_KIB = 0x13,
    BDA_KEYS_HEAD = 0x1a,
    BDA_KEYS_TAIL = 0x1c,
    BDA_KEYS_START = 0x80,
    BDA_KEYS_END = 0x82,
    BDA_KEYS = 0x1e, /* the ring itself */
    KEYS_LEN = 0x20,
};
#define EQUIPMENT (BIT32(1) | 1u << 9) /* an FPU, one serial port; no diskette, no display */

/* The code, with the offset of each entry.  Bytes as assembled for 16-bit mode. */
enum { AT_SERVICE = 0, AT_EQUIPMENT = 13, AT_MEMORY = 22, AT_IRQ = 31, AT_IRQ_SECOND = 38, AT_IRET = 47, CODE_LEN };
/* clang-format off */
static const uint8_t code[] = {
    /* SERVICE: in the caller's flags CF says "failed", ZF "no key"; AH = 86h says "not supported" */
    0x55,                           /* push bp */
    0x89, 0xe5,                     /* mov bp, sp */
    0x83, 0x4e, 0x06, 0x41,         /* or word [bp + 6], CF | ZF */
    0xb4, 0x86,                     /* mov ah, 86h */
    0x5d, 0xcf,                     /* pop bp; iret */
    0x90, 0x90,
    /* EQUIPMENT: AX = the word in the data area */
    0x1e, 0x6a, 0x40, 0x1f,         /* push ds; push 40h; pop ds */
    0xa1, BDA_EQUIPMENT, 0x00,      /* mov ax, [..] */
    0x1f, 0xcf,                     /* pop ds; iret */
    /* MEMORY: AX = KiB */
    0x1e, 0x6a, 0x40, 0x1f,
    0xa1, BDA_MEMORY_KIB, 0x00,
    0x1f, 0xcf,
    /* IRQ: end of interrupt to the first 8259 */
    0x50, 0xb0, 0x20,               /* push ax; mov al, 20h */
    0xe6, 0x20,                     /* out 20h, al */
    0x58, 0xcf,                     /* pop ax; iret */
    /* IRQ_SECOND: to the second, then to the first */
    0x50, 0xb0, 0x20,
    0xe6, 0xa0, 0xe6, 0x20,
    0x58, 0xcf,
    /* IRET: exceptions */
    0xcf,
};
/* At the reset vector: jump to the code behind, which resets the guest; the date and the model of a PC/AT. */
static const uint8_t reset_vector[] = {
    0xea, 0xe0, 0xff, 0x00, 0xf0,   /* jmp f000h:ffe0h */
    '1', '1', '/', '3', '0', '/', '2', '6', 0, 0xfc, 0,
};
static const uint8_t reset_code[] = {
    0xba, PM_RESET_PORT & 0xff, PM_RESET_PORT >> 8, /* mov dx, .. */
    0xb0, PM_RESET_VALUE,           /* mov al, .. */
    0xee,                           /* out dx, al */
    0xf4, 0xeb, 0xfd,               /* hlt; jump back to it */
};
/* clang-format on */
#define RESET_CODE_AT 0xffe0u

_Static_assert(sizeof(code) == CODE_LEN, "the entries' offsets are those of the code");
_Static_assert(BIOS_MP_MAX <= CODE_AT, "the MP tables end before the code");
_Static_assert(RESET_CODE_AT + sizeof(reset_code) <= RESET_AT, "the reset code ends before the reset vector");
_Static_assert(sizeof(reset_vector) == 16, "the reset vector fills the segment");
_Static_assert(BDA_AT + BDA_LEN == BIOS_DATA_END, "the data area lies above the vectors");

/* ---- real mode ---- */

static unsigned vector_entry(unsigned vector)
{
    ASSERT(vector < N_VECTORS);
    if (vector == 0x11)
        return AT_EQUIPMENT;
    if (vector == 0x12)
        return AT_MEMORY;
    if (vector >= 0x08 && vector <= 0x0f)
        return AT_IRQ;
    if (vector >= 0x70 && vector <= 0x77)
        return AT_IRQ_SECOND;
    return vector < 0x08 || vector == 0x1c ? AT_IRET : AT_SERVICE; /* 1Ch: the timer's hook */
}

static enum hv_err ivt_write(struct vm *vm)
{
    uint8_t ivt[BIOS_IVT_LEN];
    struct wr w = wr_init(ivt, sizeof(ivt));
    for (unsigned i = 0; i < N_VECTORS; i++) {
        wr_u16(&w, (uint16_t)(CODE_AT + vector_entry(i)));
        wr_u16(&w, BIOS_SEGMENT);
    }
    ASSERT_EQ(w.len, sizeof(ivt));
    return guest_write(vm, gpa(0), ivt, sizeof(ivt));
}

static void bda_put(uint8_t *bda, unsigned off, uint16_t val)
{
    ASSERT(off + 2 <= BDA_LEN);
    struct wr w = wr_init(bda + off, 2);
    wr_u16(&w, val);
}

static enum hv_err bda_write(struct vm *vm)
{
    uint8_t bda[BDA_LEN];
    memset(bda, 0, sizeof(bda));
    bda_put(bda, BDA_COM1, UART_PORT);
    bda_put(bda, BDA_EBDA_SEGMENT, LOW_RAM_END >> 4);
    bda_put(bda, BDA_EQUIPMENT, EQUIPMENT);
    bda_put(bda, BDA_MEMORY_KIB, LOW_RAM_END / KIB);
    bda_put(bda, BDA_KEYS_HEAD, BDA_KEYS);
    bda_put(bda, BDA_KEYS_TAIL, BDA_KEYS);
    bda_put(bda, BDA_KEYS_START, BDA_KEYS);
    bda_put(bda, BDA_KEYS_END, BDA_KEYS + KEYS_LEN);
    const uint8_t ebda_kib = 1;
    enum hv_err e = guest_write(vm, gpa(BDA_AT), bda, sizeof(bda));
    return e ? e : guest_write(vm, gpa(LOW_RAM_END), &ebda_kib, 1);
}

static enum hv_err code_write(struct vm *vm)
{
    enum hv_err e = guest_write(vm, gpa(BIOS_BASE + CODE_AT), code, sizeof(code));
    if (!e)
        e = guest_write(vm, gpa(BIOS_BASE + RESET_CODE_AT), reset_code, sizeof(reset_code));
    return e ? e : guest_write(vm, gpa(BIOS_BASE + RESET_AT), reset_vector, sizeof(reset_vector));
}

/* ---- MP tables ---- */

enum { MP_CPU, MP_BUS, MP_IOAPIC, MP_IO_INT, MP_LOCAL_INT }; /* types of entries */
enum { MP_INT = 0, MP_NMI = 1, MP_EXTINT = 3 };              /* types of interrupts */
#define MP_POINTER_LEN 16u
#define MP_HEADER_LEN  44u
#define MP_LEVEL_HIGH  0x0du /* level-triggered, active high; 0: as the bus has it */
enum { BUS_PCI, BUS_ISA };

static void mp_cpu_put(struct wr *w, unsigned index)
{
    wr_u8(w, MP_CPU);
    wr_u8(w, (uint8_t)index);
    wr_u8(w, 0x14);                 /* version of an integrated APIC */
    wr_u8(w, index ? 1 : 3);        /* usable; the first is the boot processor */
    wr_u32(w, 0x600);               /* signature: family 6; CPUID says more */
    wr_u32(w, BIT32(0) | BIT32(9)); /* features: FPU, APIC */
    wr_u64(w, 0);
}

static void mp_bus_put(struct wr *w, unsigned id, const char *name)
{
    ASSERT(strlen(name) == 6);
    wr_u8(w, MP_BUS);
    wr_u8(w, (uint8_t)id);
    wr_bytes(w, name, 6);
}

/* An interrupt of the ISA bus, to a pin of the IOAPIC or, for type MP_LOCAL_INT, of all local APICs. */
static void mp_interrupt_put(struct wr *w, unsigned type, unsigned kind, unsigned flags, unsigned irq, unsigned pin)
{
    wr_u8(w, (uint8_t)type);
    wr_u8(w, (uint8_t)kind);
    wr_u16(w, (uint16_t)flags);
    wr_u8(w, BUS_ISA);
    wr_u8(w, (uint8_t)irq);
    wr_u8(w, type == MP_LOCAL_INT ? 0xff : 0);
    wr_u8(w, (uint8_t)pin);
}

static unsigned mp_entries_put(struct wr *w, unsigned n_vcpus)
{
    unsigned n = 0;
    for (; n < n_vcpus; n++)
        mp_cpu_put(w, n);
    mp_bus_put(w, BUS_PCI, "PCI   ");
    mp_bus_put(w, BUS_ISA, "ISA   ");
    wr_u8(w, MP_IOAPIC);
    wr_u8(w, 0);
    wr_u8(w, 0x20); /* version, see ioapic.c */
    wr_u8(w, 1);
    wr_u32(w, (uint32_t)IOAPIC_BASE);
    n += 3;
    for (unsigned irq = 0; irq < 16; irq++) {
        if (irq == 2) /* the second 8259 */
            continue;
        mp_interrupt_put(w, MP_IO_INT, MP_INT, irq == PM_SCI_IRQ ? MP_LEVEL_HIGH : 0, irq, irq ? irq : 2);
        n++;
    }
    mp_interrupt_put(w, MP_LOCAL_INT, MP_EXTINT, 0, 0, 0);
    mp_interrupt_put(w, MP_LOCAL_INT, MP_NMI, 0, 0, 1);
    return n + 2;
}

static void mp_header_put(uint8_t *p, size_t len, unsigned n_entries)
{
    struct wr w = wr_init(p, MP_HEADER_LEN);
    wr_bytes(&w, "PCMP", 4);
    wr_u16(&w, (uint16_t)len);
    wr_u8(&w, 4); /* specification 1.4 */
    wr_u8(&w, 0); /* checksum: below */
    wr_bytes(&w, "GODWIT  VM          ", 20);
    wr_u32(&w, 0);
    wr_u16(&w, 0); /* no OEM table */
    wr_u16(&w, (uint16_t)n_entries);
    wr_u32(&w, (uint32_t)LAPIC_BASE);
    wr_u32(&w, 0); /* no extended table */
    ASSERT_EQ(w.len, MP_HEADER_LEN);
    p[7] = checksum_byte(p, len);
}

size_t bios_mp_build(uint8_t *buf, size_t cap, unsigned n_vcpus)
{
    static const uint8_t room[MP_POINTER_LEN + MP_HEADER_LEN];
    ASSERT(n_vcpus >= 1 && n_vcpus <= VM_MAX_VCPUS);
    struct wr w = wr_init(buf, cap);
    wr_bytes(&w, room, sizeof(room));
    unsigned n = mp_entries_put(&w, n_vcpus);
    ASSERT(!w.bad);
    mp_header_put(buf + MP_POINTER_LEN, w.len - MP_POINTER_LEN, n);
    struct wr p = wr_init(buf, MP_POINTER_LEN);
    wr_bytes(&p, "_MP_", 4);
    wr_u32(&p, (uint32_t)BIOS_BASE + MP_POINTER_LEN);
    wr_u8(&p, 1); /* 16 bytes long */
    wr_u8(&p, 4);
    wr_u8(&p, 0);      /* checksum: below */
    wr_uint(&p, 0, 5); /* a configuration table, virtual wire mode */
    ASSERT_EQ(p.len, MP_POINTER_LEN);
    buf[10] = checksum_byte(buf, MP_POINTER_LEN);
    return w.len;
}

enum hv_err bios_guest_write(struct vm *vm)
{
    uint8_t mp[BIOS_MP_MAX];
    size_t len = bios_mp_build(mp, sizeof(mp), vm->n_vcpus);
    enum hv_err e = guest_write(vm, gpa(BIOS_BASE), mp, len);
    if (!e)
        e = ivt_write(vm);
    if (!e)
        e = bda_write(vm);
    return e ? e : code_write(vm);
}
