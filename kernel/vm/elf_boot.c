/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/elf_boot.c - kernels by PVH or Multiboot 1: ELF files, and files with load addresses in their Multiboot
 * header.
 *
 *      0x500 ...  the file's segments, at their physical addresses, up to 0x9fc00 and from 1 MiB
 *      0x10000    the protocol's information: structure, list of modules, memory map, strings, command line.  It is at
 *                 the top of low memory, below the modules, if a segment needs this place
 *      0xe0000    ACPI tables, and what bios_guest.c writes
 *      ...        the modules, as high as possible, each on pages of its own
 *
 * The file may be cut off or damaged.  Every number in it is checked against the file, then against the guest's memory.
 * A refusal names the mistake. */
#include "kernel/vm/elf_boot.h"

#include "kernel/dev/devices.h"
#include "kernel/vm/acpi_guest.h"
#include "kernel/vm/bios_guest.h"
#include "kernel/vm/boot_image.h"
#include "kernel/vm/e820.h"
#include "kernel/vm/linux_boot.h"

enum {
    CLASS_32 = 1,
    CLASS_64 = 2,
    LITTLE_ENDIAN_DATA = 1,
    TYPE_EXEC = 2,
    MACHINE_386 = 3,
    MACHINE_X86_64 = 62,
    PT_LOAD = 1,
    PT_NOTE = 4
};
#define SEGMENTS_MAX      64u
#define NOTE_PHYS32_ENTRY 18u /* XEN_ELFNOTE_PHYS32_ENTRY */
#define PVH_MAGIC         0x336ec578u
#define MB_SEARCH         8192u /* the Multiboot header lies in so many bytes at the file's beginning */
#define MB_HEADER_MAGIC   0x1badb002u
#define MB_LOADER_MAGIC   0x2badb002u
#define MB_ADDRESSES      BIT32(16) /* the header has load addresses of its own */
/* the required features (bits 0 to 15) that are not implemented; bit 2, a video mode, is optional in effect */
#define MB_UNKNOWN        0xfff8u
enum { MB_MEM = 1, MB_CMDLINE = 4, MB_MODS = 8, MB_MMAP = 64, MB_NAME = 512 };

#define INFO_AT 0x10000u /* the place of the information, unless a segment is there */
/* offsets from its beginning */
enum {
    OFF_MODS = 0x200,
    OFF_MMAP = 0x600,
    OFF_NAME = 0x800,
    OFF_STRINGS = 0x1000, /* the modules' */
    OFF_CMDLINE = 0x2000,
    INFO_LEN = 0x3000
};
#define CMDLINE_MAX 4095u
/* Xen takes the first word of a command line for the kernel's file name, unless the loader is GRUB 2. */
#define LOADER_NAME "Godwit (command lines as by GRUB 2)"

_Static_assert(120 <= OFF_MODS, "the information structure ends before the modules' list");
_Static_assert(OFF_MODS + (1 + CONFIG_MAX_MODULES) * 32 <= OFF_MMAP, "the modules' list ends before the map");
_Static_assert(OFF_MMAP + E820_MAX * 24 <= OFF_NAME, "the map ends before the loader's name");
_Static_assert(OFF_NAME + sizeof(LOADER_NAME) <= OFF_STRINGS, "the loader's name ends before the strings");
_Static_assert(OFF_STRINGS + sizeof(((struct vm_config *)0)->modules) + 2 <= OFF_CMDLINE, "strings fit");
_Static_assert(OFF_CMDLINE + CMDLINE_MAX < INFO_LEN, "the command line fits");
_Static_assert(INFO_AT + INFO_LEN <= LOW_RAM_END, "the information is in low RAM");

struct segment {
    uint64_t off, paddr, file_len, mem_len; /* file_len <= mem_len */
};
struct kernel {
    const uint8_t *file;
    size_t len;
    bool pvh;
    uint64_t entry, end;              /* end: the first address above all segments */
    struct segment seg[SEGMENTS_MAX]; /* what is loaded */
    unsigned n_seg;
    uint64_t info_at, modules_at; /* the layout, by layout_choose() */
};
struct elf { /* a view of an ELF file */
    const uint8_t *file;
    size_t len;
    bool is64;
    uint64_t ph_off;
    unsigned ph_size, n_ph;
};
struct program_header {
    uint32_t type;
    struct segment seg;
};

static bool file_is_elf(const uint8_t *file, size_t len) { return len >= 4 && !memcmp(file, "\177ELF", 4); }

/* ---- ELF ---- */

static enum hv_err elf_header_parse(struct elf *f, uint64_t *entry, struct why *why)
{
    const uint8_t *h = f->file;
    if (f->len < 64)
        return BAD("the kernel file has only %zu bytes: it is cut off; copy it again", f->len);
    f->is64 = h[4] == CLASS_64;
    if ((h[4] != CLASS_32 && !f->is64) || h[5] != LITTLE_ENDIAN_DATA || le_uint(h + 16, 2) != TYPE_EXEC ||
        (le_uint(h + 18, 2) != MACHINE_386 && le_uint(h + 18, 2) != MACHINE_X86_64))
        return BAD("the kernel is an ELF file, but no x86 program at fixed addresses (type %u, machine %u): give a "
                   "kernel",
                   (unsigned)le_uint(h + 16, 2), (unsigned)le_uint(h + 18, 2));
    f->ph_off = f->is64 ? le_uint(h + 32, 8) : le_uint(h + 28, 4);
    f->ph_size = (unsigned)le_uint(h + (f->is64 ? 54 : 42), 2);
    f->n_ph = (unsigned)le_uint(h + (f->is64 ? 56 : 44), 2);
    *entry = f->is64 ? le_uint(h + 24, 8) : le_uint(h + 24, 4);
    if (f->ph_size < (f->is64 ? 56u : 32u) || f->n_ph > SEGMENTS_MAX || f->ph_off > f->len ||
        (uint64_t)f->n_ph * f->ph_size > f->len - f->ph_off)
        return BAD("the kernel file is cut off or damaged: its %u program headers are not inside it (at most %u); copy "
                   "it again",
                   f->n_ph, SEGMENTS_MAX);
    return HV_OK;
}

static struct program_header elf_program_header(const struct elf *f, unsigned i)
{
    ASSERT(i < f->n_ph);
    const uint8_t *p = f->file + f->ph_off + (size_t)i * f->ph_size;
    uint32_t type = (uint32_t)le_uint(p, 4);
    if (f->is64)
        return (struct program_header){
            type, { le_uint(p + 8, 8), le_uint(p + 24, 8), le_uint(p + 32, 8), le_uint(p + 40, 8) }
        };
    return (struct program_header){ type,
                                    { le_uint(p + 4, 4), le_uint(p + 12, 4), le_uint(p + 16, 4), le_uint(p + 20, 4) } };
}

/* Search the notes of one segment.  Each is: name length, description length, type, name, description.  Name and
 * description are padded to 4 bytes. */
static bool pvh_entry_in(const uint8_t *p, uint64_t len, uint64_t *entry_out)
{
    while (len >= 12) {
        uint64_t name = ALIGN_UP(le_uint(p, 4), 4), desc = le_uint(p + 4, 4), all = 12 + name + ALIGN_UP(desc, 4);
        if (12 + name + desc > len)
            return false;
        if (le_uint(p + 8, 4) == NOTE_PHYS32_ENTRY && le_uint(p, 4) == 4 && !memcmp(p + 12, "Xen", 4) &&
            (desc == 4 || desc == 8)) {
            *entry_out = le_uint(p + 12 + name, (unsigned)desc);
            return true;
        }
        if (all > len)
            return false;
        p += all, len -= all;
    }
    return false;
}

/* Collect the segments to load, and the first PVH entry in a note. */
static enum hv_err elf_parse(struct kernel *k, struct why *why)
{
    struct elf f = { .file = k->file, .len = k->len };
    enum hv_err e = elf_header_parse(&f, &k->entry, why);
    for (unsigned i = 0; !e && i < f.n_ph; i++) {
        struct program_header h = elf_program_header(&f, i);
        if (h.type != PT_LOAD && h.type != PT_NOTE)
            continue;
        if (h.seg.off > f.len || h.seg.file_len > f.len - h.seg.off)
            return BAD("the kernel file is cut off: its segment %u is not inside it; copy it again", i);
        if (h.type == PT_NOTE && !k->pvh)
            k->pvh = pvh_entry_in(f.file + h.seg.off, h.seg.file_len, &k->entry);
        if (h.type == PT_LOAD && h.seg.mem_len)
            k->seg[k->n_seg++] = h.seg;
    }
    return e || k->n_seg ? e : BAD("the kernel is an ELF file without anything to load: give a kernel");
}

/* ---- Multiboot ---- */

/* The offset of the header, or SIZE_MAX. */
static size_t multiboot_find(const uint8_t *file, size_t len)
{
    for (size_t off = 0; off + 12 <= MIN(len, MB_SEARCH); off += 4) {
        uint32_t magic = (uint32_t)le_uint(file + off, 4), flags = (uint32_t)le_uint(file + off + 4, 4),
                 sum = (uint32_t)le_uint(file + off + 8, 4);
        if (magic == MB_HEADER_MAGIC && !(magic + flags + sum))
            return off;
    }
    return SIZE_MAX;
}

static bool multiboot_has_addresses(const uint8_t *file, size_t off)
{
    return off != SIZE_MAX && (le_uint(file + off + 4, 4) & MB_ADDRESSES);
}

/* The one segment that the header at off describes: header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr.
 * As with GRUB and QEMU, an ELF file with these is loaded by them. */
static enum hv_err multiboot_addresses_parse(struct kernel *k, size_t off, struct why *why)
{
    if (k->len - off < 32)
        return BAD("the kernel file is cut off behind its Multiboot header; copy it again");
    const uint8_t *h = k->file + off;
    uint64_t header = le_uint(h + 12, 4), load = le_uint(h + 16, 4), load_end = le_uint(h + 20, 4),
             bss_end = le_uint(h + 24, 4);
    uint64_t before = header - load, in_file = k->len - off + before;
    uint64_t len = load_end ? load_end - load : in_file;
    if (load > header || before > off || (load_end && load_end <= load) || len > in_file ||
        (bss_end && bss_end < load + len))
        return BAD("the kernel's Multiboot header has addresses that do not fit its file (header %#lx, load %#lx to "
                   "%#lx, bss to %#lx; the file has %zu bytes): build it or copy it again",
                   header, load, load_end, bss_end, k->len);
    k->entry = le_uint(h + 28, 4);
    k->n_seg = 1;
    k->seg[0] = (struct segment){ off - before, load, len, bss_end ? bss_end - load : len };
    return HV_OK;
}

static enum hv_err multiboot_parse(struct kernel *k, struct why *why)
{
    size_t off = multiboot_find(k->file, k->len);
    if (off == SIZE_MAX)
        return BAD(
            "the kernel is an ELF file without a PVH note and without a Multiboot 1 header: give a bzImage, or a "
            "kernel with one of these");
    unsigned flags = (unsigned)le_uint(k->file + off + 4, 4);
    if (flags & MB_UNKNOWN)
        return BAD("the kernel's Multiboot header requires unknown features (flags %#x): only bits 0, 1, 2 and 16 are "
                   "supported",
                   flags);
    return multiboot_has_addresses(k->file, off) ? multiboot_addresses_parse(k, off, why) : HV_OK;
}

bool elf_boot_takes(const uint8_t *file, size_t len)
{
    return file_is_elf(file, len) ||
           (!linux_boot_is_bzimage(file, len) && multiboot_has_addresses(file, multiboot_find(file, len)));
}

/* ---- layout ---- */

static bool segment_overlaps(const struct segment *s, uint64_t start, uint64_t end)
{
    return s->paddr < end && start < s->paddr + s->mem_len;
}

/* Every segment must lie in RAM that is not the BIOS's or the ACPI tables'. */
static enum hv_err segments_check(struct kernel *k, const struct vm *vm, struct why *why)
{
    for (unsigned i = 0; i < k->n_seg; i++) {
        const struct segment *s = &k->seg[i];
        bool fits = s->paddr <= vm->mem.low_bytes && s->mem_len <= vm->mem.low_bytes - s->paddr;
        if (s->file_len > s->mem_len || s->paddr < BIOS_DATA_END || (fits && segment_overlaps(s, LOW_RAM_END, MIB)))
            return BAD("the kernel file is damaged, or for another loader: its segment %u (%#lx bytes at %#lx) does "
                       "not lie in free memory, which is %#x to %#x and from 1 MiB",
                       i, s->mem_len, s->paddr, BIOS_DATA_END, LOW_RAM_END);
        if (!fits)
            return REFUSE(HV_E_NOMEM,
                          "the guest has %lu MiB of memory, its kernel's segment %u (%#lx bytes at %#lx) lies beyond: "
                          "raise `memory` in its section",
                          vm->mem.low_bytes / MIB, i, s->mem_len, s->paddr);
        k->end = MAX(k->end, s->paddr + s->mem_len);
    }
    return HV_OK;
}

static bool entry_is_inside(const struct kernel *k)
{
    for (unsigned i = 0; i < k->n_seg; i++)
        if (k->entry >= k->seg[i].paddr && k->entry - k->seg[i].paddr < k->seg[i].mem_len)
            return true;
    return false;
}

static bool low_info_is_free(const struct kernel *k)
{
    for (unsigned i = 0; i < k->n_seg; i++)
        if (segment_overlaps(&k->seg[i], INFO_AT, INFO_AT + INFO_LEN))
            return false;
    return true;
}

static enum hv_err layout_choose(struct kernel *k, const struct vm *vm, const struct boot_image *b, struct why *why)
{
    uint64_t top = ALIGN_DOWN(vm->mem.low_bytes, PAGE_SIZE), end = MAX(ALIGN_UP(k->end, PAGE_SIZE), (uint64_t)MIB);
    uint64_t modules = 0, info = low_info_is_free(k) ? 0 : INFO_LEN;
    for (unsigned i = 0; i < b->n_modules; i++)
        modules += ALIGN_UP((uint64_t)b->module[i].len, PAGE_SIZE);
    if (end > top || modules + info > top - end)
        return REFUSE(HV_E_NOMEM,
                      "the guest has %lu MiB of memory, too little for its kernel and %lu KiB of modules: raise "
                      "`memory` in its section",
                      vm->mem.low_bytes / MIB, modules / KIB);
    k->modules_at = top - modules;
    k->info_at = info ? k->modules_at - INFO_LEN : INFO_AT;
    return HV_OK;
}

static enum hv_err kernel_parse(struct kernel *k, const struct vm *vm, struct why *why)
{
    enum hv_err e = file_is_elf(k->file, k->len) ? elf_parse(k, why) : HV_OK;
    if (!k->pvh && (!e || multiboot_has_addresses(k->file, multiboot_find(k->file, k->len))))
        e = multiboot_parse(k, why);
    if (!e)
        e = segments_check(k, vm, why);
    if (e)
        return e;
    return entry_is_inside(k) ? HV_OK
                              : BAD("the kernel file is damaged: its entry %#lx is in none of its segments", k->entry);
}

/* ---- into the guest ---- */

static enum hv_err guest_zero_fill(struct vm *vm, uint64_t at, uint64_t len)
{
    static const uint8_t zero[PAGE_SIZE];
    enum hv_err e = HV_OK;
    for (uint64_t n; !e && len; at += n, len -= n) {
        n = MIN(len, (uint64_t)sizeof(zero));
        e = guest_write(vm, gpa(at), zero, n);
    }
    return e;
}

static enum hv_err segments_write(struct vm *vm, const struct kernel *k)
{
    enum hv_err e = HV_OK;
    for (unsigned i = 0; !e && i < k->n_seg; i++) {
        const struct segment *s = &k->seg[i];
        ASSERT(s->paddr >= BIOS_DATA_END && s->file_len <= s->mem_len); /* segments_check() */
        e = guest_write(vm, gpa(s->paddr), k->file + s->off, s->file_len);
        if (!e)
            e = guest_zero_fill(vm, s->paddr + s->file_len, s->mem_len - s->file_len);
    }
    return e;
}

static enum hv_err guest_text_write(struct vm *vm, uint64_t at, const char *text)
{
    return guest_write(vm, gpa(at), text, strlen(text) + 1);
}

/* Write the memory map in the format of PVH, where a reserved word follows each entry, or of Multiboot, where each
 * entry's length precedes it. */
static enum hv_err mmap_write(struct vm *vm, const struct kernel *k, unsigned *n_out)
{
    struct e820 map[E820_MAX];
    uint8_t buf[E820_MAX * 24];
    struct wr w = wr_init(buf, sizeof(buf));
    *n_out = e820_build(vm, map);
    for (unsigned i = 0; i < *n_out; i++) {
        if (!k->pvh)
            wr_u32(&w, 20);
        wr_u64(&w, map[i].base);
        wr_u64(&w, map[i].len);
        wr_u32(&w, map[i].type);
        if (k->pvh)
            wr_u32(&w, 0);
    }
    ASSERT(!w.bad && w.len == *n_out * 24);
    return guest_write(vm, gpa(k->info_at + OFF_MMAP), buf, *n_out * 24);
}

/* Write the modules, their strings, and the list of both: hvm_modlist_entry, or Multiboot's "module
 * structure". */
static enum hv_err modules_write(struct vm *vm, const struct kernel *k, const struct boot_image *b)
{
    uint8_t list[ARRAY_SIZE(b->module) * 32];
    struct wr w = wr_init(list, sizeof(list));
    uint64_t at = k->modules_at, string_at = k->info_at + OFF_STRINGS;
    enum hv_err e = HV_OK;
    for (unsigned i = 0; !e && i < b->n_modules; i++) {
        const struct boot_module *m = &b->module[i];
        unsigned width = k->pvh ? 8 : 4;
        wr_uint(&w, at, width);
        wr_uint(&w, k->pvh ? m->len : at + m->len, width);
        wr_uint(&w, string_at, width);
        wr_uint(&w, 0, width);
        e = guest_write(vm, gpa(at), m->data, m->len);
        if (!e)
            e = guest_text_write(vm, string_at, m->string);
        at += ALIGN_UP(m->len, PAGE_SIZE);
        string_at += strlen(m->string) + 1;
    }
    ASSERT(!w.bad);
    return e ? e : guest_write(vm, gpa(k->info_at + OFF_MODS), list, w.len);
}

/* struct hvm_start_info, version 1. */
static enum hv_err pvh_info_write(struct vm *vm, const struct kernel *k, unsigned n_modules, unsigned n_map)
{
    uint8_t info[56];
    struct wr w = wr_init(info, sizeof(info));
    wr_u32(&w, PVH_MAGIC);
    wr_u32(&w, 1);
    wr_u32(&w, 0);
    wr_u32(&w, n_modules);
    wr_u64(&w, n_modules ? k->info_at + OFF_MODS : 0);
    wr_u64(&w, k->info_at + OFF_CMDLINE);
    wr_u64(&w, ACPI_AREA_BASE);
    wr_u64(&w, k->info_at + OFF_MMAP);
    wr_u32(&w, n_map);
    wr_u32(&w, 0);
    ASSERT_EQ(w.len, sizeof(info));
    return guest_write(vm, gpa(k->info_at), info, sizeof(info));
}

/* The Multiboot information structure, up to its boot loader's name. */
static enum hv_err multiboot_info_write(struct vm *vm, const struct kernel *k, unsigned n_modules, unsigned n_map)
{
    uint8_t info[120];
    uint32_t at = (uint32_t)k->info_at;
    struct wr w = wr_init(info, sizeof(info));
    memset(info, 0, sizeof(info));
    wr_u32(&w, MB_MEM | MB_CMDLINE | MB_MODS | MB_MMAP | MB_NAME);
    wr_u32(&w, LOW_RAM_END / KIB);
    wr_u32(&w, (uint32_t)((vm->mem.low_bytes - MIB) / KIB));
    wr_u32(&w, 0); /* boot device: not valid, see the flags */
    wr_u32(&w, at + OFF_CMDLINE);
    wr_u32(&w, n_modules);
    wr_u32(&w, at + OFF_MODS);
    for (unsigned i = 0; i < 4; i++)
        wr_u32(&w, 0); /* symbols */
    wr_u32(&w, n_map * 24);
    wr_u32(&w, at + OFF_MMAP);
    for (unsigned i = 0; i < 3; i++)
        wr_u32(&w, 0); /* drives, configuration table */
    wr_u32(&w, at + OFF_NAME);
    ASSERT_EQ(w.len, 68); /* up to boot_loader_name */
    enum hv_err e = guest_text_write(vm, at + OFF_NAME, LOADER_NAME);
    return e ? e : guest_write(vm, gpa(k->info_at), info, sizeof(info));
}

static enum hv_err kernel_write(struct vm *vm, const struct kernel *k, const struct boot_image *b)
{
    unsigned n_map = 0;
    enum hv_err e = segments_write(vm, k);
    if (!e)
        e = modules_write(vm, k, b);
    if (!e)
        e = guest_text_write(vm, k->info_at + OFF_CMDLINE, b->cmdline);
    if (!e)
        e = mmap_write(vm, k, &n_map);
    if (!e)
        e = (k->pvh ? pvh_info_write : multiboot_info_write)(vm, k, b->n_modules, n_map);
    if (!e)
        e = acpi_guest_write(vm);
    return e ? e : bios_guest_write(vm);
}

/* Flat 32-bit protected mode, for both protocols.  The kernel sets up its own GDT. */
static void kernel_entry_regs(struct vcpu_regs *r, const struct kernel *k)
{
    ASSERT(k->entry >= BIOS_DATA_END && k->entry < GUEST_LOW_RAM_MAX); /* inside a segment */
    vcpu_regs_reset(r);
    r->gpr[GPR_RAX] = k->pvh ? 0 : MB_LOADER_MAGIC;
    r->gpr[GPR_RBX] = k->info_at;
    r->gpr[GPR_RDX] = 0;
    r->rip = k->entry;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        r->seg[i] = (struct seg){ .sel = 0x10, .ar = 0xc093, .limit = 0xffffffff };
    r->seg[SEG_CS] = (struct seg){ .sel = 0x08, .ar = 0xc09b, .limit = 0xffffffff };
    r->gdtr = r->idtr = (struct dtable){ 0, 0 };
    r->cr0 = 0x31; /* NE, ET, PE */
    r->cr4 = 0;
    r->efer = 0;
}

enum hv_err elf_boot_load(struct vm *vm, const struct boot_image *b, struct vcpu_regs *out, struct why *why)
{
    ASSERT(b->n_modules <= ARRAY_SIZE(b->module));
    struct kernel k = { .file = b->kernel, .len = b->kernel_len };
    enum hv_err e = kernel_parse(&k, vm, why);
    if (e)
        return e;
    if (strlen(b->cmdline) > CMDLINE_MAX)
        return BAD("the command line has %zu characters, at most %u fit: shorten `cmdline`", strlen(b->cmdline),
                   CMDLINE_MAX);
    e = layout_choose(&k, vm, b, why);
    if (e)
        return e;
    kernel_entry_regs(out, &k);
    return boot_write_result(kernel_write(vm, &k, b), why);
}
