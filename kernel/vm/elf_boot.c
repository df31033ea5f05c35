/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/elf_boot.c - kernels as ELF files, by PVH or Multiboot 1.
 *
 *      0x10000    the protocol's information structure, list of modules, memory map, strings
 *      0x20000    command line
 *      1 MiB ...  the file's loadable segments, at their physical addresses
 *      ...        the modules, as high as possible, each on pages of its own
 *
 * The file may be cut off or damaged.  Every number in it is checked against the file, then against the guest's memory.
 * A refusal names the mistake. */
#include "kernel/vm/elf_boot.h"

#include "kernel/dev/devices.h"
#include "kernel/vm/acpi_guest.h"
#include "kernel/vm/boot_image.h"
#include "kernel/vm/e820.h"

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

#define INFO_AT     0x10000u
#define MODS_AT     0x11000u
#define MMAP_AT     0x12000u
#define NAME_AT     0x13000u
#define STRINGS_AT  0x14000u /* the modules' */
#define CMDLINE_AT  0x20000u
#define CMDLINE_MAX 4095u

_Static_assert(INFO_AT + 120 <= MODS_AT, "the information structure ends before the modules' list");
_Static_assert(MODS_AT + (1 + CONFIG_MAX_MODULES) * 32 <= MMAP_AT, "the modules' list ends before the map");
_Static_assert(MMAP_AT + E820_MAX * 24 <= NAME_AT, "the map ends before the strings");
_Static_assert(STRINGS_AT + sizeof(((struct vm_config *)0)->modules) + 2 <= CMDLINE_AT, "strings fit");
_Static_assert(CMDLINE_AT + CMDLINE_MAX < LOW_RAM_END, "the command line is in low RAM");

struct elf {
    const uint8_t *file;
    size_t len;
    bool is64, pvh;
    uint64_t ph_off, entry, end; /* end: the first address above all segments */
    unsigned ph_size, n_ph;
};
struct segment {
    uint32_t type;
    uint64_t off, paddr, file_len, mem_len;
};

bool elf_boot_is_elf(const uint8_t *file, size_t len) { return len >= 4 && !memcmp(file, "\177ELF", 4); }

/* ---- the file ---- */

static enum hv_err elf_header_parse(struct elf *f, struct why *why)
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
    f->entry = f->is64 ? le_uint(h + 24, 8) : le_uint(h + 24, 4);
    if (f->ph_size < (f->is64 ? 56u : 32u) || f->n_ph > SEGMENTS_MAX || f->ph_off > f->len ||
        (uint64_t)f->n_ph * f->ph_size > f->len - f->ph_off)
        return BAD("the kernel file is cut off or damaged: its %u program headers are not inside it (at most %u); copy "
                   "it again",
                   f->n_ph, SEGMENTS_MAX);
    return HV_OK;
}

static struct segment elf_segment_get(const struct elf *f, unsigned i)
{
    ASSERT(i < f->n_ph);
    const uint8_t *p = f->file + f->ph_off + (size_t)i * f->ph_size;
    if (f->is64)
        return (struct segment){ (uint32_t)le_uint(p, 4), le_uint(p + 8, 8), le_uint(p + 24, 8), le_uint(p + 32, 8),
                                 le_uint(p + 40, 8) };
    return (struct segment){ (uint32_t)le_uint(p, 4), le_uint(p + 4, 4), le_uint(p + 12, 4), le_uint(p + 16, 4),
                             le_uint(p + 20, 4) };
}

static enum hv_err elf_segments_check(struct elf *f, const struct vm *vm, struct why *why)
{
    unsigned n_load = 0;
    for (unsigned i = 0; i < f->n_ph; i++) {
        struct segment s = elf_segment_get(f, i);
        if (s.type != PT_LOAD && s.type != PT_NOTE)
            continue;
        if (s.off > f->len || s.file_len > f->len - s.off)
            return BAD("the kernel file is cut off: its segment %u is not inside it; copy it again", i);
        if (s.type != PT_LOAD || !s.mem_len)
            continue;
        if (s.file_len > s.mem_len || s.paddr < MIB)
            return BAD("the kernel file is damaged, or for another loader: its segment %u (%#lx bytes at %#lx) does "
                       "not lie above 1 MiB",
                       i, s.mem_len, s.paddr);
        if (s.paddr > vm->mem.low_bytes || s.mem_len > vm->mem.low_bytes - s.paddr)
            return REFUSE(HV_E_NOMEM,
                          "the guest has %lu MiB of memory, its kernel's segment %u (%#lx bytes at %#lx) lies beyond: "
                          "raise `memory` in its section",
                          vm->mem.low_bytes / MIB, i, s.mem_len, s.paddr);
        f->end = MAX(f->end, s.paddr + s.mem_len);
        n_load++;
    }
    return n_load ? HV_OK : BAD("the kernel is an ELF file without anything to load: give a kernel");
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

static bool pvh_find(struct elf *f)
{
    for (unsigned i = 0; i < f->n_ph && !f->pvh; i++) {
        struct segment s = elf_segment_get(f, i);
        f->pvh = s.type == PT_NOTE && pvh_entry_in(f->file + s.off, s.file_len, &f->entry);
    }
    return f->pvh;
}

static enum hv_err multiboot_check(const struct elf *f, struct why *why)
{
    for (size_t off = 0; off + 12 <= MIN(f->len, MB_SEARCH); off += 4) {
        uint32_t magic = (uint32_t)le_uint(f->file + off, 4), flags = (uint32_t)le_uint(f->file + off + 4, 4),
                 sum = (uint32_t)le_uint(f->file + off + 8, 4);
        if (magic != MB_HEADER_MAGIC || magic + flags + sum)
            continue;
        if (flags & (MB_ADDRESSES | MB_UNKNOWN))
            return BAD("the kernel's Multiboot header asks for unsupported features (flags %#x): only ELF, without "
                       "addresses in the header",
                       flags);
        return HV_OK;
    }
    return BAD("the kernel is an ELF file without a PVH note and without a Multiboot 1 header: give a bzImage, or a "
               "kernel with one of these");
}

static bool entry_is_inside(const struct elf *f)
{
    for (unsigned i = 0; i < f->n_ph; i++) {
        struct segment s = elf_segment_get(f, i);
        if (s.type == PT_LOAD && f->entry >= s.paddr && f->entry - s.paddr < s.mem_len)
            return true;
    }
    return false;
}

static enum hv_err elf_parse(struct elf *f, const struct vm *vm, struct why *why)
{
    enum hv_err e = elf_header_parse(f, why);
    if (!e)
        e = elf_segments_check(f, vm, why);
    if (!e && !pvh_find(f))
        e = multiboot_check(f, why);
    if (e)
        return e;
    return entry_is_inside(f) ? HV_OK
                              : BAD("the kernel file is damaged: its entry %#lx is in none of its segments", f->entry);
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

static enum hv_err elf_segments_write(struct vm *vm, const struct elf *f)
{
    enum hv_err e = HV_OK;
    for (unsigned i = 0; !e && i < f->n_ph; i++) {
        struct segment s = elf_segment_get(f, i);
        if (s.type != PT_LOAD || !s.mem_len)
            continue;
        ASSERT(s.paddr >= MIB && s.file_len <= s.mem_len); /* elf_segments_check() */
        e = guest_write(vm, gpa(s.paddr), f->file + s.off, s.file_len);
        if (!e)
            e = guest_zero_fill(vm, s.paddr + s.file_len, s.mem_len - s.file_len);
    }
    return e;
}

static enum hv_err guest_text_write(struct vm *vm, uint64_t at, const char *text)
{
    return guest_write(vm, gpa(at), text, strlen(text) + 1);
}

/* Write the memory map in the format of PVH, where a reserved word follows each entry, or of Multiboot, where each
 * entry's length precedes it. */
static enum hv_err elf_mmap_write(struct vm *vm, bool pvh, unsigned *n_out)
{
    struct e820 map[E820_MAX];
    uint8_t buf[E820_MAX * 24];
    struct wr w = wr_init(buf, sizeof(buf));
    *n_out = e820_build(vm, map);
    for (unsigned i = 0; i < *n_out; i++) {
        if (!pvh)
            wr_u32(&w, 20);
        wr_u64(&w, map[i].base);
        wr_u64(&w, map[i].len);
        wr_u32(&w, map[i].type);
        if (pvh)
            wr_u32(&w, 0);
    }
    ASSERT(!w.bad && w.len == *n_out * 24);
    return guest_write(vm, gpa(MMAP_AT), buf, *n_out * 24);
}

/* Write the modules from at upwards, their strings, and the list of both: hvm_modlist_entry, or Multiboot's "module
 * structure". */
static enum hv_err elf_modules_write(struct vm *vm, bool pvh, const struct boot_image *b, uint64_t at)
{
    uint8_t list[ARRAY_SIZE(b->module) * 32];
    struct wr w = wr_init(list, sizeof(list));
    uint64_t string_at = STRINGS_AT;
    enum hv_err e = HV_OK;
    for (unsigned i = 0; !e && i < b->n_modules; i++) {
        const struct boot_module *m = &b->module[i];
        unsigned width = pvh ? 8 : 4;
        wr_uint(&w, at, width);
        wr_uint(&w, pvh ? m->len : at + m->len, width);
        wr_uint(&w, string_at, width);
        wr_uint(&w, 0, width);
        e = guest_write(vm, gpa(at), m->data, m->len);
        if (!e)
            e = guest_text_write(vm, string_at, m->string);
        at += ALIGN_UP(m->len, PAGE_SIZE);
        string_at += strlen(m->string) + 1;
    }
    ASSERT(!w.bad);
    return e ? e : guest_write(vm, gpa(MODS_AT), list, w.len);
}

/* struct hvm_start_info, version 1. */
static enum hv_err pvh_info_write(struct vm *vm, unsigned n_modules, unsigned n_map)
{
    uint8_t info[56];
    struct wr w = wr_init(info, sizeof(info));
    wr_u32(&w, PVH_MAGIC);
    wr_u32(&w, 1);
    wr_u32(&w, 0);
    wr_u32(&w, n_modules);
    wr_u64(&w, n_modules ? MODS_AT : 0);
    wr_u64(&w, CMDLINE_AT);
    wr_u64(&w, ACPI_AREA_BASE);
    wr_u64(&w, MMAP_AT);
    wr_u32(&w, n_map);
    wr_u32(&w, 0);
    ASSERT_EQ(w.len, sizeof(info));
    return guest_write(vm, gpa(INFO_AT), info, sizeof(info));
}

/* The Multiboot information structure, up to its boot loader's name. */
static enum hv_err multiboot_info_write(struct vm *vm, unsigned n_modules, unsigned n_map)
{
    uint8_t info[120];
    struct wr w = wr_init(info, sizeof(info));
    memset(info, 0, sizeof(info));
    wr_u32(&w, MB_MEM | MB_CMDLINE | MB_MODS | MB_MMAP | MB_NAME);
    wr_u32(&w, LOW_RAM_END / KIB);
    wr_u32(&w, (uint32_t)((vm->mem.low_bytes - MIB) / KIB));
    wr_u32(&w, 0); /* boot device: not valid, see the flags */
    wr_u32(&w, CMDLINE_AT);
    wr_u32(&w, n_modules);
    wr_u32(&w, MODS_AT);
    for (unsigned i = 0; i < 4; i++)
        wr_u32(&w, 0); /* symbols */
    wr_u32(&w, n_map * 24);
    wr_u32(&w, MMAP_AT);
    for (unsigned i = 0; i < 3; i++)
        wr_u32(&w, 0); /* drives, configuration table */
    wr_u32(&w, NAME_AT);
    ASSERT_EQ(w.len, 68); /* up to boot_loader_name */
    enum hv_err e = guest_text_write(vm, NAME_AT, "Godwit");
    return e ? e : guest_write(vm, gpa(INFO_AT), info, sizeof(info));
}

static enum hv_err elf_image_write(struct vm *vm, const struct elf *f, const struct boot_image *b, uint64_t modules_at)
{
    unsigned n_map = 0;
    enum hv_err e = elf_segments_write(vm, f);
    if (!e)
        e = elf_modules_write(vm, f->pvh, b, modules_at);
    if (!e)
        e = guest_text_write(vm, CMDLINE_AT, b->cmdline);
    if (!e)
        e = elf_mmap_write(vm, f->pvh, &n_map);
    if (!e)
        e = f->pvh ? pvh_info_write(vm, b->n_modules, n_map) : multiboot_info_write(vm, b->n_modules, n_map);
    if (!e)
        e = acpi_guest_write(vm);
    return e;
}

/* Flat 32-bit protected mode, for both protocols.  The kernel sets up its own GDT. */
static void elf_entry_regs(struct vcpu_regs *r, const struct elf *f)
{
    ASSERT(f->entry >= MIB && f->entry < GUEST_LOW_RAM_MAX); /* inside a segment */
    vcpu_regs_reset(r);
    r->gpr[GPR_RAX] = f->pvh ? 0 : MB_LOADER_MAGIC;
    r->gpr[GPR_RBX] = INFO_AT;
    r->gpr[GPR_RDX] = 0;
    r->rip = f->entry;
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
    struct elf f = { .file = b->kernel, .len = b->kernel_len };
    enum hv_err e = elf_parse(&f, vm, why);
    if (e)
        return e;
    if (strlen(b->cmdline) > CMDLINE_MAX)
        return BAD("the command line has %zu characters, at most %u fit: shorten `cmdline`", strlen(b->cmdline),
                   CMDLINE_MAX);
    uint64_t top = ALIGN_DOWN(vm->mem.low_bytes, PAGE_SIZE), end = ALIGN_UP(f.end, PAGE_SIZE), modules = 0;
    for (unsigned i = 0; i < b->n_modules; i++)
        modules += ALIGN_UP((uint64_t)b->module[i].len, PAGE_SIZE);
    if (end > top || modules > top - end)
        return REFUSE(HV_E_NOMEM,
                      "the guest has %lu MiB of memory, too little for its kernel and %lu KiB of modules: raise "
                      "`memory` in its section",
                      vm->mem.low_bytes / MIB, modules / KIB);
    elf_entry_regs(out, &f);
    return boot_write_result(elf_image_write(vm, &f, b, top - modules), why);
}
