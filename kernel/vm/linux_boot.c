/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/linux_boot.c - the 64-bit Linux boot protocol, in place of a boot loader.
 *
 *      0x500      GDT              0x2000..0x7fff   page tables: the low 4 GiB, identity, 2 MiB pages
 *      0x9000     stack top        0x10000          boot_params ("zero page")      0x20000   command line
 *      0x9fc00    end of low RAM   0xe0000          ACPI tables; bios_guest.c
 *      pref_address (16 MiB)       kernel; init_size bytes are its own    ...      initrd, as high as possible
 *
 * Several modules become one initrd, as with GRUB's `initrd A B`.  Linux unpacks consecutive archives, each beginning
 * at a multiple of 4, with zeros between (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
 *
 * The image may be cut off or damaged.  Every number in it is checked against the file, then against the guest's
 * memory.  A refusal names the mistake.
 *
 * Manual: Linux Documentation/x86/boot.rst (offsets below are its "The Real-Mode Kernel Header"), zero-page.rst. */
#include "kernel/vm/linux_boot.h"

#include "kernel/dev/devices.h"
#include "kernel/vm/acpi_guest.h"
#include "kernel/vm/bios_guest.h"
#include "kernel/vm/boot_image.h"
#include "kernel/vm/e820.h"

enum {
    HDR_SETUP_SECTS = 0x1f1,
    HDR_SYSSIZE = 0x1f4,
    HDR_BOOT_FLAG = 0x1fe,
    HDR_JUMP_LEN = 0x201,
    HDR_MAGIC = 0x202,
    HDR_VERSION = 0x206,
    HDR_LOADER = 0x210,
    HDR_LOADFLAGS = 0x211,
    HDR_RAMDISK_IMAGE = 0x218,
    HDR_RAMDISK_SIZE = 0x21c,
    HDR_CMDLINE_PTR = 0x228,
    HDR_INITRD_MAX = 0x22c,
    HDR_ALIGNMENT = 0x230,
    HDR_XLOADFLAGS = 0x236,
    HDR_CMDLINE_SIZE = 0x238,
    HDR_PAYLOAD_OFFSET = 0x248,
    HDR_PAYLOAD_LEN = 0x24c,
    HDR_PREF_ADDRESS = 0x258,
    HDR_INIT_SIZE = 0x260,
    HDR_END_MIN = 0x264,
    BP_RSDP = 0x070,
    BP_E820_ENTRIES = 0x1e8,
    BP_HEADER_END_MAX = 0x290,
    BP_E820_TABLE = 0x2d0,
};
#define MAGIC_HDRS    0x53726448u /* "HdrS" */
#define VERSION_64BIT 0x20c       /* first with xloadflags, which say that there is a 64-bit entry */
#define XLF_KERNEL_64 BIT32(0)
#define LOADED_HIGH   BIT32(0)
#define ENTRY_64      0x200u
#define ARCHIVE_ALIGN 4u

#define GDT_AT         0x500u
#define PML4_AT        0x2000u
#define STACK_TOP      0x9000u
#define BOOT_PARAMS_AT 0x10000u
#define CMDLINE_AT     0x20000u
enum { SEL_CODE = 0x10, SEL_DATA = 0x18 }; /* __BOOT_CS, __BOOT_DS */

_Static_assert(GDT_AT + 32 <= PML4_AT, "the GDT ends before the page tables");
_Static_assert(PML4_AT + 6 * PAGE_SIZE <= STACK_TOP - 0x1000, "the stack has at least a page");
_Static_assert(STACK_TOP <= BOOT_PARAMS_AT && BOOT_PARAMS_AT + PAGE_SIZE <= CMDLINE_AT, "order of the low areas");
_Static_assert(CMDLINE_AT + CONFIG_CMDLINE_LEN <= LOW_RAM_END, "the command line is in low RAM");
_Static_assert(BP_HEADER_END_MAX <= BP_E820_TABLE && BP_E820_TABLE + E820_MAX * 20 <= PAGE_SIZE,
               "boot_params is a page");

struct bzimage { /* the header's values, checked against the file */
    const uint8_t *file;
    size_t file_len, payload_off, payload_len, header_end;
    uint64_t pref_address, init_size, alignment, initrd_max;
    uint32_t cmdline_max;
};

static bool compression_is_known(const uint8_t *p)
{
    static const uint8_t magic[][4] = { { 0x1f, 0x8b, 0x08, 0 },    { 0xfd, '7', 'z', 'X' }, { 0x28, 0xb5, 0x2f, 0xfd },
                                        { 0x02, 0x21, 0x4c, 0x18 }, { 'B', 'Z', 'h', 0 },    { 0x5d, 0, 0, 0 },
                                        { 0x89, 'L', 'Z', 'O' },    { 0x7f, 'E', 'L', 'F' } };
    for (unsigned i = 0; i < ARRAY_SIZE(magic); i++)
        if (!memcmp(p, magic[i], magic[i][3] ? 4 : 3))
            return true;
    return false;
}

/* The compressed kernel must lie inside the payload and begin with the mark of a known format.  The check is cheap and
 * finds most damage. */
static enum hv_err bzimage_payload_check(const struct bzimage *im, struct why *why)
{
    uint64_t off = le_uint(im->file + HDR_PAYLOAD_OFFSET, 4), len = le_uint(im->file + HDR_PAYLOAD_LEN, 4);
    if (!off && !len)
        return HV_OK;
    if (off > im->payload_len || len > im->payload_len - off || len < 8)
        return BAD("the kernel image is damaged: its compressed part (offset %#lx, length %#lx) is not inside the "
                   "file; copy it again",
                   off, len);
    if (!compression_is_known(im->file + im->payload_off + off))
        return BAD("the kernel image is damaged: its compressed part at offset %#lx begins with no known format's "
                   "mark; copy it again",
                   im->payload_off + off);
    return HV_OK;
}

bool linux_boot_is_bzimage(const uint8_t *file, size_t len)
{
    return len >= 1024 && le_uint(file + HDR_BOOT_FLAG, 2) == 0xaa55 && le_uint(file + HDR_MAGIC, 4) == MAGIC_HDRS;
}

static enum hv_err bzimage_header_check(const uint8_t *file, size_t len, struct why *why)
{
    if (len < 1024)
        return BAD("the kernel image has only %zu bytes: it is cut off or not a Linux kernel", len);
    if (file[0] == 0x1f && file[1] == 0x8b)
        return BAD("the kernel file is compressed with gzip, which is not undone here: gunzip it first");
    if (!linux_boot_is_bzimage(file, len))
        return BAD("the kernel image is no bzImage (boot flag 0xaa55 at 0x1fe and \"HdrS\" at 0x202 are not there): "
                   "give a vmlinuz for x86-64, or copy it again");
    unsigned version = (unsigned)le_uint(file + HDR_VERSION, 2);
    if (version < VERSION_64BIT)
        return BAD("the kernel has boot protocol %u.%02u; 2.12 (Linux 3.8) or later is needed for the 64-bit entry",
                   version >> 8, version & 0xff);
    if (!(le_uint(file + HDR_XLOADFLAGS, 2) & XLF_KERNEL_64))
        return BAD("the kernel is a 32-bit one (no XLF_KERNEL_64): an x86-64 kernel is needed");
    if (!(file[HDR_LOADFLAGS] & LOADED_HIGH))
        return BAD("the kernel is a zImage, to be loaded low: a bzImage is needed");
    return HV_OK;
}

static enum hv_err bzimage_parse(const uint8_t *file, size_t len, struct bzimage *im, struct why *why)
{
    enum hv_err e = bzimage_header_check(file, len, why);
    if (e)
        return e;
    unsigned sects = file[HDR_SETUP_SECTS] ? file[HDR_SETUP_SECTS] : 4;
    *im = (struct bzimage){
        .file = file, .file_len = len, .payload_off = (sects + 1) * 512u, .header_end = HDR_MAGIC + file[HDR_JUMP_LEN]
    };
    uint64_t code = le_uint(file + HDR_SYSSIZE, 4) * 16;
    if (im->payload_off >= len || code > ALIGN_UP(len - im->payload_off, 16))
        return BAD("the kernel image is cut off: its header promises %lu bytes, the file has %zu; copy it again",
                   im->payload_off + code, len);
    if (im->header_end < HDR_END_MIN || im->header_end > BP_HEADER_END_MAX)
        return BAD("the kernel image is damaged: its header ends at %#zx, which no boot protocol allows; copy it again",
                   im->header_end);
    im->payload_len = len - im->payload_off;
    im->pref_address = le_uint(file + HDR_PREF_ADDRESS, 8);
    im->init_size = le_uint(file + HDR_INIT_SIZE, 4);
    im->alignment = le_uint(file + HDR_ALIGNMENT, 4);
    im->initrd_max = le_uint(file + HDR_INITRD_MAX, 4);
    im->cmdline_max = (uint32_t)le_uint(file + HDR_CMDLINE_SIZE, 4);
    if (im->init_size < im->payload_len || im->init_size > GIB || !im->alignment ||
        (im->alignment & (im->alignment - 1)) || im->alignment > GIB || im->pref_address < MIB ||
        im->pref_address > GUEST_LOW_RAM_MAX || im->pref_address % PAGE_SIZE)
        return BAD("the kernel image is damaged: load address %#lx, size in memory %#lx or alignment %#lx make no "
                   "sense; copy it again",
                   im->pref_address, im->init_size, im->alignment);
    return bzimage_payload_check(im, why);
}

/* ---- layout ---- */

struct layout {
    uint64_t kernel, initrd;
};

/* Place kernel and initrd.  A relocatable kernel is not loaded lower, because that saves no memory: it unpacks itself
 * to pref_address or above in any case (boot.rst, "init_size"), and its stack is at the end of init_size from there. */
static enum hv_err linux_layout(const struct vm *vm, const struct bzimage *im, uint64_t initrd_len, struct layout *at,
                                struct why *why)
{
    uint64_t top = vm->mem.low_bytes;
    at->kernel = im->pref_address;
    uint64_t kernel_end = at->kernel + im->init_size;
    uint64_t need = ALIGN_UP(kernel_end, PAGE_SIZE) + ALIGN_UP(initrd_len, PAGE_SIZE);
    if (initrd_len > GUEST_LOW_RAM_MAX || need > top)
        return REFUSE(HV_E_NOMEM,
                      "the guest has %lu MiB of memory, kernel and initrd need at least %lu MiB to start: raise "
                      "`memory` in its section",
                      vm->mem.size_bytes / MIB, DIV_ROUND_UP(need, MIB));
    if (im->initrd_max && top > im->initrd_max + 1)
        top = im->initrd_max + 1;
    at->initrd = initrd_len ? ALIGN_DOWN(top - MIN(top, initrd_len), PAGE_SIZE) : 0;
    if (initrd_len && at->initrd < kernel_end)
        return BAD("the initrd has %lu bytes, more than fit between the kernel and the highest address that it allows "
                   "(%#lx)",
                   initrd_len, im->initrd_max);
    return HV_OK;
}

/* ---- tables in guest memory ---- */

static enum hv_err page_tables_write(struct vm *vm)
{
    uint8_t page[PAGE_SIZE];
    const uint64_t table = 3, leaf = 0x83; /* present, writable; and large */
    struct wr w = wr_init(page, sizeof(page));
    memset(page, 0, sizeof(page));
    wr_u64(&w, (PML4_AT + PAGE_SIZE) | table);
    enum hv_err e = guest_write(vm, gpa(PML4_AT), page, sizeof(page));
    w = wr_init(page, sizeof(page));
    for (unsigned i = 0; i < 4; i++)
        wr_u64(&w, (PML4_AT + (2 + i) * PAGE_SIZE) | table);
    if (!e)
        e = guest_write(vm, gpa(PML4_AT + PAGE_SIZE), page, sizeof(page));
    for (uint64_t i = 0; !e && i < 4; i++) {
        w = wr_init(page, sizeof(page));
        for (uint64_t k = 0; k < 512; k++)
            wr_u64(&w, (i * 512 + k) * BLOCK_SIZE | leaf);
        e = guest_write(vm, gpa(PML4_AT + (2 + i) * PAGE_SIZE), page, sizeof(page));
    }
    return e;
}

static enum hv_err gdt_write(struct vm *vm)
{
    uint8_t gdt[32];
    struct wr w = wr_init(gdt, sizeof(gdt));
    wr_u64(&w, 0);
    wr_u64(&w, 0);
    wr_u64(&w, UINT64_C(0x00af9b000000ffff)); /* 10h: 64-bit code */
    wr_u64(&w, UINT64_C(0x00cf93000000ffff)); /* 18h: flat data */
    ASSERT_EQ(w.len, sizeof(gdt));
    return guest_write(vm, gpa(GDT_AT), gdt, sizeof(gdt));
}

static unsigned e820_write(const struct vm *vm, uint8_t *table, size_t cap)
{
    struct e820 map[E820_MAX];
    unsigned n = e820_build(vm, map);
    struct wr w = wr_init(table, cap);
    for (unsigned i = 0; i < n; i++) {
        wr_u64(&w, map[i].base);
        wr_u64(&w, map[i].len);
        wr_u32(&w, map[i].type);
    }
    ASSERT(!w.bad && n <= UINT8_MAX);
    return n;
}

static void boot_params_put(uint8_t *page, unsigned off, uint64_t val, unsigned n)
{
    ASSERT(off + n <= PAGE_SIZE);
    struct wr w = wr_init(page + off, n);
    wr_uint(&w, val, n);
}

static enum hv_err boot_params_write(struct vm *vm, const struct bzimage *im, const struct layout *at,
                                     uint64_t initrd_len)
{
    uint8_t page[PAGE_SIZE];
    ASSERT(im->header_end > HDR_SETUP_SECTS && im->header_end <= BP_HEADER_END_MAX);
    memset(page, 0, sizeof(page));
    memcpy(page + HDR_SETUP_SECTS, im->file + HDR_SETUP_SECTS, im->header_end - HDR_SETUP_SECTS);
    boot_params_put(page, HDR_LOADER, 0xff, 1);
    boot_params_put(page, HDR_RAMDISK_IMAGE, at->initrd, 4);
    boot_params_put(page, HDR_RAMDISK_SIZE, initrd_len, 4);
    boot_params_put(page, HDR_CMDLINE_PTR, CMDLINE_AT, 4);
    boot_params_put(page, BP_RSDP, ACPI_AREA_BASE, 8);
    page[BP_E820_ENTRIES] = (uint8_t)e820_write(vm, page + BP_E820_TABLE, E820_MAX * 20);
    return guest_write(vm, gpa(BOOT_PARAMS_AT), page, sizeof(page));
}

/* ---- all of it ---- */

static void linux_entry_regs(struct vcpu_regs *r, uint64_t kernel)
{
    vcpu_regs_reset(r);
    r->gpr[GPR_RDX] = 0;
    r->gpr[GPR_RSI] = BOOT_PARAMS_AT;
    r->gpr[GPR_RSP] = STACK_TOP;
    r->rip = kernel + ENTRY_64;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        r->seg[i] = (struct seg){ .sel = SEL_DATA, .ar = 0xc093, .limit = 0xffffffff };
    r->seg[SEG_CS] = (struct seg){ .sel = SEL_CODE, .ar = 0xa09b, .limit = 0xffffffff };
    r->gdtr = (struct dtable){ 31, GDT_AT };
    r->idtr = (struct dtable){ 0, 0 }; /* interrupts are off; an exception is a triple fault */
    r->cr0 = 0x80000031;               /* PG, NE, ET, PE */
    r->cr3 = PML4_AT;
    r->cr4 = 0x20;   /* PAE */
    r->efer = 0x500; /* LMA, LME */
}

static enum hv_err initrd_len_get(const struct boot_image *b, uint64_t *out, struct why *why)
{
    *out = 0;
    for (unsigned i = 0; i < b->n_modules; i++) {
        if (b->module[i].string[0])
            return BAD("a `module` has the string \"%.100s\" behind its file, and the kernel is a bzImage, which takes "
                       "modules as parts of its initrd, without strings: delete the string, or give an ELF kernel",
                       b->module[i].string);
        *out = ALIGN_UP(*out, ARCHIVE_ALIGN) + b->module[i].len;
    }
    return HV_OK;
}

static enum hv_err initrd_write(struct vm *vm, uint64_t at, const struct boot_image *b)
{
    enum hv_err e = HV_OK;
    for (unsigned i = 0; !e && i < b->n_modules; i++) {
        at = ALIGN_UP(at, ARCHIVE_ALIGN);
        e = guest_write(vm, gpa(at), b->module[i].data, b->module[i].len);
        at += b->module[i].len;
    }
    return e;
}

static enum hv_err linux_image_write(struct vm *vm, const struct bzimage *im, const struct layout *at,
                                     const struct boot_image *b, uint64_t initrd_len)
{
    enum hv_err e = guest_write(vm, gpa(at->kernel), im->file + im->payload_off, im->payload_len);
    if (!e)
        e = initrd_write(vm, at->initrd, b);
    if (!e)
        e = guest_write(vm, gpa(CMDLINE_AT), b->cmdline, strlen(b->cmdline) + 1);
    if (!e)
        e = boot_params_write(vm, im, at, initrd_len);
    if (!e)
        e = page_tables_write(vm);
    if (!e)
        e = gdt_write(vm);
    if (!e)
        e = acpi_guest_write(vm);
    return e ? e : bios_guest_write(vm);
}

enum hv_err linux_boot_load(struct vm *vm, const struct boot_image *b, struct vcpu_regs *out, struct why *why)
{
    struct bzimage im;
    struct layout at;
    uint64_t initrd_len;
    ASSERT(b->n_modules <= ARRAY_SIZE(b->module));
    enum hv_err e = bzimage_parse(b->kernel, b->kernel_len, &im, why);
    if (e)
        return e;
    if (strlen(b->cmdline) > im.cmdline_max)
        return BAD("the command line has %zu characters, this kernel takes %u: shorten `cmdline`", strlen(b->cmdline),
                   im.cmdline_max);
    e = initrd_len_get(b, &initrd_len, why);
    if (!e)
        e = linux_layout(vm, &im, initrd_len, &at, why);
    if (e)
        return e;
    linux_entry_regs(out, at.kernel);
    return boot_write_result(linux_image_write(vm, &im, &at, b, initrd_len), why);
}
