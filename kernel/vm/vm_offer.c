/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_offer.c - the source's description of a VM before a move: written, and read at the destination.
 *
 * Offer of format 2, after the 8-byte head (vm_state.h):
 * vendor u8 · n_vcpus u8 · 0 u16 · uuid 16 · mac of the first card 6 · virtio u16 · memory u64 · disk u64 ·
 * tsc_hz u64 · xcr0 u64 · name, kernel, initrd, cmdline, cpu: each u16 length and bytes · with OFFER_NBD: server 4 ·
 * port u16 · export name · with OFFER_NBD_TLS: fingerprint 32 · size u64 · block size u32 ·
 * DISK_* bits u32 · with OFFER_MODULES: n u16 and n times u16 length and bytes · CPUID table (cpuid_save) · n u16 and n
 * times (section u16, version u16).
 * Format 3: a name (u16 length and bytes) in each of these, and behind them fields: number u16 · version u16 · name u16
 * length and bytes · u32 length and bytes.  An unknown field whose number has bit 15 is skipped; another is a reason to
 * refuse.
 * virtio: OFFER_* bits for the VM's devices and for the fields that follow.  disk: bytes of the ram: disk, or 0.
 * These describe the first card and the first disk only.  A guest with more has the fields NICS and DISKS, which
 * describe all of them anew; a host that does not know these refuses the guest.
 * The sections are those of the state to come.  A section that this host does not know is a reason to refuse, before
 * any page is sent.
 *
 * An offer comes from a peer: each number is checked before it is used.  Not here: what is said of disks
 * (offer_disks.c); whether this host can run the guest (offer_check.c). */
#include "kernel/dev/devices.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/offer_impl.h"
#include "net/net.h"

#define OFFER_MAGIC    0x4f565747u /* "GWVO" */
#define OFFER_NAME_MAX 32          /* of a field or section, with NUL */
enum {
    OFFER_NIC = 1,
    OFFER_RNG = 2,
    OFFER_BALLOON = 4,
    OFFER_HVC = 8,
    OFFER_NBD = 16,
    OFFER_NBD_TLS = 32,
    OFFER_MODULES = 64,
    OFFER_ALL = 127
};
#define BOOT_FILE_MAX BIT64(40) /* bytes */
#define GUEST_MTU     1500u     /* of a guest's card, which offers no other */

void offer_text_write(struct wr *w, const char *s)
{
    size_t n = strlen(s);
    ASSERT(n <= UINT16_MAX);
    wr_u16(w, (uint16_t)n);
    wr_bytes(w, s, n);
}

static const struct {
    uint16_t section, version;
    const char *name;
} sections[] = {
#define SECTION(id, number, version, release_0_1, per_vcpu, always, needs, name, fn) { number, version, name },
    VM_SECTIONS(SECTION)
};
_Static_assert(ARRAY_SIZE(sections) <= ARRAY_SIZE(((struct vm_offer *)0)->device), "an offer has room for all");

/* Hosts of release 0.1 before 30 November read this section in a state, but refuse an offer that lists it. */
static bool section_hidden(unsigned i, unsigned format)
{
    return format == VM_OFFER_FORMAT_0_1 && sections[i].section == VMS_SEC_STEAL_TIME;
}

static void offer_sections_write(struct wr *w, const struct vm_knows *k)
{
    unsigned n = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(sections); i++)
        n += vm_knows_version(k, sections[i].section, sections[i].version) && !section_hidden(i, w->version);
    wr_u16(w, (uint16_t)n);
    for (unsigned i = 0; i < ARRAY_SIZE(sections); i++) {
        unsigned version = vm_knows_version(k, sections[i].section, sections[i].version);
        if (!version || section_hidden(i, w->version))
            continue;
        wr_u16(w, sections[i].section);
        wr_u16(w, (uint16_t)version);
        if (w->version > VM_OFFER_FORMAT_0_1)
            offer_text_write(w, sections[i].name);
    }
}

bool offer_text_read(struct rd *r, char *out, size_t cap)
{
    size_t n = rd_u16(r);
    const uint8_t *p = n < cap ? rd_ref(r, n) : NULL;
    if (!p)
        return false;
    for (size_t i = 0; i < n; i++)
        if (p[i] < 0x20 || p[i] > 0x7e)
            return false;
    memcpy(out, p, n);
    out[n] = 0;
    return true;
}

static bool offer_chars_ok(const char *s, const char *others)
{
    if (!*s || *s == '-')
        return false;
    for (; *s; s++) {
        bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9');
        if (!letter && !strchr(others, *s))
            return false;
    }
    return true;
}
bool offer_name_ok(const char *s) { return offer_chars_ok(s, "-_."); }
bool offer_volume_name_ok(const char *s) { return offer_chars_ok(s, "-_.+"); } /* as LVM2 allows */

static const struct nbd_config *first_nbd(const struct vm_config *c)
{
    return c->n_disks && c->disk[0].kind == DISK_ON_NBD ? &c->disk[0].nbd : NULL;
}

static unsigned offer_bits(const struct vm_config *c)
{
    const struct nbd_config *nbd = first_nbd(c);
    return (c->n_nics ? OFFER_NIC : 0u) | (c->rng ? OFFER_RNG : 0u) | (c->balloon ? OFFER_BALLOON : 0u) |
           (c->hvc ? OFFER_HVC : 0u) | (nbd ? OFFER_NBD : 0u) | (nbd && nbd->tls ? OFFER_NBD_TLS : 0u) |
           (c->modules[0] ? OFFER_MODULES : 0u);
}

static uint64_t first_ram_disk_bytes(const struct vm_config *c)
{
    return c->n_disks && c->disk[0].kind == DISK_IN_RAM ? c->disk[0].bytes : 0;
}

/* The destination needs the modules to start the guest again, if it resets itself there. */
static void offer_modules_write(struct wr *w, const struct vm_config *c)
{
    char file[CONFIG_PATH_LEN];
    const char *string;
    unsigned n = 0;
    for (const char *m = NULL; (m = config_module_next(c, m, file, &string));)
        n++;
    if (n)
        wr_u16(w, (uint16_t)n);
    for (const char *m = NULL; (m = config_module_next(c, m, file, &string));)
        offer_text_write(w, m);
}

static bool offer_modules_parse(struct rd *r, struct vm_config *c)
{
    char text[CONFIG_CMDLINE_LEN];
    unsigned n = rd_u16(r);
    for (unsigned i = 0; i < n; i++)
        if (!offer_text_read(r, text, sizeof(text)) || !config_module_add(c, text))
            return false;
    return n != 0;
}

static unsigned offer_n_vcpus(const struct vm *vm) { return vm_is_built(vm) ? vm->n_vcpus : vm->config.n_cpus; }

/* A stopped guest has none: that of this host is as good as any. */
static const struct cpuid_table *offer_cpuid(const struct vm *vm)
{
    static struct cpuid_table host; /* large; service pCPU only */
    if (vm_is_built(vm))
        return vm->cpuid;
    cpuid_build(&host, cpuid_host, vm->config.n_cpus, clock_tsc_hz);
    return &host;
}

/* ---- fields from format 3 on ---- */

static unsigned offer_shutdown_needs(const struct vm *vm) { return vm->config.on_shutdown != ON_SHUTDOWN_REFUSE; }
static void offer_shutdown_write(const struct vm *vm, struct wr *w) { wr_u8(w, (uint8_t)vm->config.on_shutdown); }
static bool offer_shutdown_read(struct vm_offer *o, struct rd *r)
{
    unsigned v = rd_u8(r);
    o->config.on_shutdown = (enum on_shutdown)v;
    return v <= ON_SHUTDOWN_EVACUATE;
}

/* Of the first card. */
static unsigned offer_spoof_needs(const struct vm *vm) { return vm->config.nic[0].spoof; }
static void offer_spoof_write(const struct vm *vm, struct wr *w) { wr_u8(w, vm->config.nic[0].spoof); }
static bool offer_spoof_read(struct vm_offer *o, struct rd *r)
{
    unsigned v = rd_u8(r);
    o->config.nic[0].spoof = v;
    return v <= 1;
}

/* The longest packet, u16, that passes the source's card: the guest may rely on it, up to GUEST_MTU. */
static unsigned offer_mtu_needs(const struct vm *vm) { return vm->config.n_nics && net_mtu(); }
static void offer_mtu_write(const struct vm *vm, struct wr *w)
{
    (void)vm;
    wr_u16(w, (uint16_t)MIN(net_mtu(), GUEST_MTU));
}
static bool offer_mtu_read(struct vm_offer *o, struct rd *r)
{
    o->mtu = rd_u16(r);
    return o->mtu <= GUEST_MTU;
}

static unsigned offer_pin_needs(const struct vm *vm) { return vm->config.pin >= 0; }
static void offer_pin_write(const struct vm *vm, struct wr *w) { wr_u8(w, (uint8_t)vm->config.pin); }
static bool offer_pin_read(struct vm_offer *o, struct rd *r)
{
    o->config.pin = rd_u8(r);
    return o->config.pin <= CONFIG_PIN_MAX;
}

/* The files that the guest restarts from: n u8, and n times (length u64, SHA-256 32), in the order kernel, initrd,
 * modules.  They are hashed before they are offered.  Their pages follow the guest's (boot_travel.c). */
static unsigned offer_boot_needs(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->boot.n; i++)
        if (!vm->boot.file[i]->hashed)
            return 0;
    return vm->boot.n != 0;
}
static void offer_boot_write(const struct vm *vm, struct wr *w)
{
    wr_u8(w, (uint8_t)vm->boot.n);
    for (unsigned i = 0; i < vm->boot.n; i++) {
        const struct boot_blob *b = vm->boot.file[i];
        wr_u64(w, b->len);
        wr_bytes(w, b->sha256, SHA256_LEN);
    }
}
static bool offer_boot_read(struct vm_offer *o, struct rd *r)
{
    o->n_files = rd_u8(r);
    if (o->n_files != config_boot_files(&o->config))
        return false;
    ASSERT(o->n_files <= ARRAY_SIZE(o->file));
    for (unsigned i = 0; i < o->n_files; i++) {
        o->file[i].len = rd_u64(r);
        rd_bytes(r, o->file[i].sha256, SHA256_LEN);
        if (o->file[i].len > BOOT_FILE_MAX)
            return false;
        o->n_boot_pages += DIV_ROUND_UP(o->file[i].len, PAGE_SIZE);
    }
    return true;
}

/* What its next host does after a power cut: autostart u8 · start-order u16 · start-delay-s u16. */
static unsigned offer_autostart_needs(const struct vm *vm) { return vm->config.autostart != AUTOSTART_NO; }
static void offer_autostart_write(const struct vm *vm, struct wr *w)
{
    wr_u8(w, (uint8_t)vm->config.autostart);
    wr_u16(w, (uint16_t)vm->config.start_order);
    wr_u16(w, (uint16_t)vm->config.start_delay_s);
}
static bool offer_autostart_read(struct vm_offer *o, struct rd *r)
{
    unsigned v = rd_u8(r);
    o->config.autostart = (enum autostart)v;
    o->config.start_order = rd_u16(r);
    o->config.start_delay_s = rd_u16(r);
    return v <= AUTOSTART_LAST && o->config.start_order <= CONFIG_START_ORDER_MAX &&
           o->config.start_delay_s <= CONFIG_START_DELAY_MAX_S;
}

/* A host that does not know this field would run the guest on arrival. */
static unsigned offer_paused_needs(const struct vm *vm) { return vm->operator_paused; }
static void offer_paused_write(const struct vm *vm, struct wr *w) { wr_u8(w, vm->operator_paused); }
static bool offer_paused_read(struct vm_offer *o, struct rd *r)
{
    unsigned v = rd_u8(r);
    o->paused = v;
    return v <= 1;
}

/* All cards: n u8, and n times: mac 6 · flags u8 (1: spoof). */
static unsigned offer_nics_needs(const struct vm *vm) { return vm->config.n_nics > 1; }
static void offer_nics_write(const struct vm *vm, struct wr *w)
{
    wr_u8(w, (uint8_t)vm->config.n_nics);
    for (unsigned i = 0; i < vm->config.n_nics; i++) {
        wr_bytes(w, vm->config.nic[i].mac, sizeof(vm->config.nic[i].mac));
        wr_u8(w, vm->config.nic[i].spoof);
    }
}
static bool offer_nics_read(struct vm_offer *o, struct rd *r)
{
    unsigned n = rd_u8(r);
    if (!n || n > CONFIG_MAX_NICS)
        return false;
    for (unsigned i = 0; i < n; i++) {
        rd_bytes(r, o->config.nic[i].mac, sizeof(o->config.nic[i].mac));
        unsigned flags = rd_u8(r);
        o->config.nic[i].spoof = flags;
        if (flags > 1)
            return false;
    }
    o->config.n_nics = n;
    return true;
}

/* No bytes: it is there or not.  A host that does not know this field would run the guest. */
static unsigned offer_stopped_needs(const struct vm *vm) { return !vm_is_built(vm); }
static void offer_stopped_write(const struct vm *vm, struct wr *w) { (void)vm, (void)w; }
static bool offer_stopped_read(struct vm_offer *o, struct rd *r)
{
    (void)r;
    o->stopped = true;
    return true;
}

/* Their number again, u16: a host that does not know this field takes 8 at most. */
static unsigned offer_vcpus_needs(const struct vm *vm) { return offer_n_vcpus(vm) > VM_MAX_VCPUS_0_1; }
static void offer_vcpus_write(const struct vm *vm, struct wr *w) { wr_u16(w, (uint16_t)offer_n_vcpus(vm)); }
static bool offer_vcpus_read(struct vm_offer *o, struct rd *r) { return rd_u16(r) == o->config.n_cpus; }

static const struct offer_field {
    uint16_t id, version;
    const char *name;
    unsigned (*needs)(const struct vm *vm); /* the lowest version that describes this guest; 0: it may be left out */
    void (*write)(const struct vm *vm, struct wr *w);
    bool (*read)(struct vm_offer *o, struct rd *r); /* false: malformed */
} fields[] = {
#define FIELD(id, number, version, name, fn) \
    { number, version, name, offer_##fn##_needs, offer_##fn##_write, offer_##fn##_read },
    OFFER_FIELDS(FIELD)
};
#define NAME_FITS(id, number, version, name, fn) _Static_assert(sizeof(name) <= OFFER_NAME_MAX, "readers have room");
OFFER_FIELDS(NAME_FITS)

void vm_offer_unknown(const struct vm *vm, const struct vm_knows *k, struct name_list *names)
{
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        if (!(fields[i].id & VMS_SEC_OPTIONAL) && !(fields[i].id == OFFER_FIELD_BASES && k->with_base) &&
            fields[i].needs(vm) > vm_knows_version(k, fields[i].id, fields[i].version))
            name_list_add(names, fields[i].name);
}

/* places: of that field; NULL: of none. */
static void offer_field_write(const struct offer_field *f, unsigned version, const struct vm *vm, const char *places,
                              struct wr *w)
{
    wr_u16(w, f->id);
    wr_u16(w, (uint16_t)version);
    offer_text_write(w, f->name);
    size_t len_at = w->len;
    wr_u32(w, 0);
    size_t start = w->len;
    w->version = version;
    if (places)
        offer_text_write(w, places);
    else
        f->write(vm, w);
    if (w->bad)
        return;
    struct wr len = wr_init(w->p + len_at, 4);
    wr_u32(&len, (uint32_t)(w->len - start));
}

static void offer_fields_write(const struct vm *vm, const struct vm_knows *k, const char *places, struct wr *w)
{
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++) {
        unsigned version = vm_knows_version(k, fields[i].id, fields[i].version);
        bool is_places = fields[i].id == OFFER_FIELD_PLACES, asked = is_places && places[0];
        asked |= fields[i].id == OFFER_FIELD_WITH_BASE && k->with_base;
        if (version && (asked || fields[i].needs(vm)))
            offer_field_write(&fields[i], version, vm, is_places ? places : NULL, w);
    }
}

static const struct offer_field *offer_field(uint16_t id)
{
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        if (fields[i].id == id)
            return &fields[i];
    return NULL;
}

static enum hv_err offer_field_parse(struct rd *r, struct vm_offer *o, uint64_t *seen, struct why *why)
{
    char name[OFFER_NAME_MAX];
    uint16_t id = rd_u16(r), version = rd_u16(r);
    if (!offer_text_read(r, name, sizeof(name)))
        return REFUSE(HV_E_PROTO, "a name or text in the offer is too long, cut off, or not plain ASCII");
    size_t len = rd_u32(r);
    const uint8_t *body = rd_ref(r, len);
    if (!body)
        return REFUSE(HV_E_PROTO, "the offer ends in the middle of its field %s", name);
    const struct offer_field *f = offer_field(id);
    bool known = f && version && version <= f->version;
    if (!known && !(id & VMS_SEC_OPTIONAL))
        return REFUSE(HV_E_VERSION,
                      "the guest has %s (field %u, version %u), which this host does not know: update this host", name,
                      id, version);
    if (!known)
        return HV_OK;
    struct rd in = rd_init(body, len);
    in.version = version;
    bool twice = *seen & BIT64(f - fields);
    *seen |= BIT64(f - fields);
    if (twice || !f->read(o, &in) || in.bad || rd_left(&in))
        return REFUSE(HV_E_PROTO, "the offer's field %s is malformed", f->name);
    return HV_OK;
}
_Static_assert(ARRAY_SIZE(fields) <= 64, "a bit for each");

static enum hv_err offer_fields_parse(struct rd *r, struct vm_offer *o, struct why *why)
{
    uint64_t seen = 0;
    while (rd_left(r)) {
        enum hv_err e = offer_field_parse(r, o, &seen, why);
        if (e)
            return e;
    }
    for (unsigned i = 0; i < o->config.n_disks; i++)
        if (o->config.disk[i].kind == DISK_ON_LV && !o->disk[i].bytes)
            return REFUSE(HV_E_PROTO, "the offer's field %s is malformed", offer_field(OFFER_FIELD_ALONG)->name);
    if (o->saved.bytes && !o->stopped)
        return REFUSE(HV_E_PROTO, "the offer's field %s is malformed", offer_field(OFFER_FIELD_SAVED)->name);
    if (!offer_checkpoints_fit(o))
        return REFUSE(HV_E_PROTO, "the offer's field %s is malformed", offer_field(OFFER_FIELD_CHECKPOINTS)->name);
    return r->bad ? REFUSE(HV_E_PROTO, "the offer is cut off or malformed") : HV_OK;
}

/* ---- the whole offer ---- */

enum hv_err vm_offer_write(const struct vm *vm, const struct vm_knows *k, const char *places, uint8_t *buf, size_t cap,
                           size_t *len)
{
    const struct cpuid_table *cpuid = offer_cpuid(vm);
    ASSERT(cpuid && offer_n_vcpus(vm) >= 1 && offer_n_vcpus(vm) <= VM_MAX_VCPUS);
    struct wr w = wr_init(buf, cap);
    unsigned format = w.version = MIN(k->offer_format, (unsigned)VM_OFFER_FORMAT);
    wr_u32(&w, OFFER_MAGIC);
    wr_u16(&w, (uint16_t)format);
    wr_u16(&w, 0);
    wr_u8(&w, cpu_ops->vendor);
    wr_u8(&w, (uint8_t)offer_n_vcpus(vm));
    wr_u16(&w, 0);
    wr_bytes(&w, vm->uuid, sizeof(vm->uuid));
    wr_bytes(&w, vm->config.nic[0].mac, sizeof(vm->config.nic[0].mac));
    wr_u16(&w, (uint16_t)offer_bits(&vm->config));
    wr_u64(&w, vm->config.memory_bytes);
    wr_u64(&w, first_ram_disk_bytes(&vm->config));
    wr_u64(&w, vm_is_built(vm) ? vm->tsc_hz : clock_tsc_hz);
    wr_u64(&w, cpuid->xcr0_allowed);
    offer_text_write(&w, vm->config.name);
    offer_text_write(&w, vm->config.kernel);
    offer_text_write(&w, vm->config.initrd);
    offer_text_write(&w, vm->config.cmdline);
    offer_text_write(&w, vm->config.cpu);
    if (first_nbd(&vm->config))
        offer_nbd_write(&w, vm, 0);
    offer_modules_write(&w, &vm->config);
    cpuid_save(cpuid, &w);
    offer_sections_write(&w, k);
    if (format > VM_OFFER_FORMAT_0_1)
        offer_fields_write(vm, k, places, &w);
    *len = w.len;
    return w.bad ? HV_FAIL(HV_E_RANGE) : HV_OK;
}

static enum hv_err offer_parse_fixed(struct rd *r, struct vm_offer *o, unsigned *bits, struct why *why)
{
    uint8_t vendor = rd_u8(r), n_cpus = rd_u8(r);
    unsigned zero = rd_u16(r);
    rd_bytes(r, o->uuid, sizeof(o->uuid));
    rd_bytes(r, o->config.nic[0].mac, sizeof(o->config.nic[0].mac));
    unsigned virtio = *bits = rd_u16(r);
    o->config.memory_bytes = rd_u64(r);
    uint64_t ram_disk_bytes = rd_u64(r);
    o->tsc_hz = rd_u64(r);
    o->xcr0 = rd_u64(r);
    if (r->bad || zero)
        return REFUSE(HV_E_PROTO, "the offer is cut off or malformed");
    if (!cpu_ops_of_vendor(vendor))
        return REFUSE(HV_E_PROTO, "the offer names an unknown processor vendor, %u", vendor);
    if (n_cpus < 1 || n_cpus > VM_MAX_VCPUS)
        return REFUSE(HV_E_PROTO, "the offer is for %u processors; 1 to %u are possible", n_cpus, VM_MAX_VCPUS);
    if (o->config.memory_bytes % BLOCK_SIZE || o->config.memory_bytes < 16 * MIB || o->config.memory_bytes > BIT64(46))
        return REFUSE(HV_E_PROTO, "the offer has an impossible memory size, %lu bytes", o->config.memory_bytes);
    if (o->tsc_hz < 1000000 || o->tsc_hz > UINT64_C(100000000000))
        return REFUSE(HV_E_PROTO, "the offer has an impossible TSC frequency");
    if (virtio & ~(unsigned)OFFER_ALL)
        return REFUSE(HV_E_VERSION,
                      "the guest has virtio devices, disks or modules (bits %#x) that this host does not know: update "
                      "this host",
                      virtio);
    if (ram_disk_bytes && !offer_ram_disk_ok(ram_disk_bytes))
        return REFUSE(HV_E_PROTO, "the offer has an impossible disk size");
    o->config.n_nics = !!(virtio & OFFER_NIC), o->config.rng = virtio & OFFER_RNG,
    o->config.balloon = virtio & OFFER_BALLOON, o->config.hvc = virtio & OFFER_HVC;
    o->config.n_disks = ram_disk_bytes || (virtio & OFFER_NBD);
    o->config.disk[0] = (struct disk_config){ .kind = DISK_IN_RAM, .bytes = ram_disk_bytes };
    if (virtio & OFFER_NBD)
        o->config.disk[0] = (struct disk_config){ .kind = DISK_ON_NBD, .nbd.tls = virtio & OFFER_NBD_TLS };
    if ((virtio & OFFER_NBD_TLS) && !(virtio & OFFER_NBD))
        return REFUSE(HV_E_PROTO, "the offer has a fingerprint for a disk's server, and no such disk");
    o->vendor = vendor;
    o->config.n_cpus = n_cpus;
    return HV_OK;
}

static enum hv_err offer_parse_rest(struct rd *r, struct vm_offer *o, unsigned bits, struct why *why)
{
    struct vm_config *c = &o->config;
    if (!offer_text_read(r, c->name, sizeof(c->name)) || !offer_text_read(r, c->kernel, sizeof(c->kernel)) ||
        !offer_text_read(r, c->initrd, sizeof(c->initrd)) || !offer_text_read(r, c->cmdline, sizeof(c->cmdline)) ||
        !offer_text_read(r, c->cpu, sizeof(c->cpu)) || !offer_name_ok(c->name))
        return REFUSE(HV_E_PROTO, "a name or text in the offer is too long, cut off, or not plain ASCII");
    if (first_nbd(c) && !offer_nbd_parse(r, &c->disk[0].nbd, &o->disk[0]))
        return REFUSE(HV_E_PROTO, "the offer's disk on a server is malformed");
    if ((bits & OFFER_MODULES) && !offer_modules_parse(r, c))
        return REFUSE(HV_E_PROTO, "the offer's list of modules is malformed");
    if (cpuid_load(&o->cpuid, r) != HV_OK || o->cpuid.xcr0_allowed != o->xcr0)
        return REFUSE(HV_E_PROTO, "the offer's CPUID table is malformed");
    o->n_devices = rd_u16(r);
    if (o->n_devices > ARRAY_SIZE(o->device))
        return REFUSE(HV_E_VERSION, "the offer lists %u device states, this host knows %zu", o->n_devices,
                      ARRAY_SIZE(sections));
    for (unsigned i = 0; i < o->n_devices; i++) {
        o->device[i].section = rd_u16(r);
        o->device[i].version = rd_u16(r);
        if (o->format > VM_OFFER_FORMAT_0_1 && !offer_text_read(r, o->device[i].name, sizeof(o->device[i].name)))
            return REFUSE(HV_E_PROTO, "a name or text in the offer is too long, cut off, or not plain ASCII");
    }
    if (o->format > VM_OFFER_FORMAT_0_1)
        return offer_fields_parse(r, o, why);
    return r->bad || rd_left(r) ? REFUSE(HV_E_PROTO, "the offer is cut off or has bytes behind its end") : HV_OK;
}

enum hv_err vm_offer_parse(const uint8_t *buf, size_t len, struct vm_offer *o, struct why *why)
{
    struct rd r = rd_init(buf, len);
    memset(o, 0, sizeof(*o));
    o->config.pin = -1;
    o->config.start_order = CONFIG_START_ORDER_DEFAULT;
    uint32_t magic = rd_u32(&r);
    o->format = rd_u16(&r);
    unsigned zero = rd_u16(&r);
    if (r.bad || magic != OFFER_MAGIC || zero)
        return REFUSE(HV_E_PROTO, "this is not the offer of a VM");
    if (o->format < VM_OFFER_FORMAT_0_1 || o->format > VM_OFFER_FORMAT)
        return REFUSE(HV_E_VERSION,
                      "the source offers format %u, this host knows formats %u to %u: update the older one", o->format,
                      VM_OFFER_FORMAT_0_1, VM_OFFER_FORMAT);
    unsigned bits;
    enum hv_err e = offer_parse_fixed(&r, o, &bits, why);
    if (!e)
        e = offer_parse_rest(&r, o, bits, why);
    return !e && !offer_disks_known(o) ? REFUSE(HV_E_PROTO, "the offer's disk on a server is malformed") : e;
}

bool offer_section_readable(uint16_t id, unsigned version)
{
    bool readable = id & VMS_SEC_OPTIONAL;
    for (unsigned k = 0; k < ARRAY_SIZE(sections); k++)
        readable |= sections[k].section == id && version && version <= sections[k].version;
    return readable;
}

enum hv_err vm_offer_adopt(struct vm *vm, const struct vm_offer *o)
{
    ASSERT(vm_state(vm) == VM_STOPPED && !vm->devices);
    struct cpuid_table *t = o->stopped ? NULL : mem_alloc(sizeof(*t));
    if (!t && !o->stopped)
        return HV_FAIL(HV_E_NOMEM);
    if (t)
        *t = o->cpuid;
    vm->cpuid = t;
    vm->config = o->config;
    memcpy(vm->uuid, o->uuid, sizeof(vm->uuid));
    vm->tsc_hz = o->tsc_hz;
    vm->operator_paused = o->paused;
    return HV_OK;
}
