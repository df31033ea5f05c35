/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_state.h - a stopped VM's state as bytes; and the offer, by which a destination decides whether it can
 * run that VM.
 *
 * State:  magic "GWVS" u32 · format u16 · 0 u16 · sections.   Section, 12 bytes and payload:
 *      off len field     range
 *       0   2  id        VMS_SEC_*; bit 15: optional, an unknown one may be skipped
 *       2   2  version   of this section's payload, 1..
 *       4   4  instance  vCPU index, or 0
 *       8   4  len       payload bytes, at most VM_STATE_MAX
 * Offer:  magic "GWVO" u32 · format u16 · 0 u16 · fields as in vm_state.c's table.
 * docs/wire-format.md refers here. */
#ifndef GODWIT_KERNEL_VM_VM_STATE_H
#define GODWIT_KERNEL_VM_VM_STATE_H

#include "kernel/config/config.h"
#include "kernel/core/cpu_ops.h"
#include "kernel/core/cpuid.h"
#include "kernel/core/disk.h"
#include "kernel/lib/name_list.h"
#include "kernel/lib/why.h"
#include "kernel/store/checkpoint.h"
#include "kernel/vm/vm_knows.h"

#define VM_STATE_FORMAT     2
#define VM_OFFER_FORMAT_0_1 2 /* as release 0.1 writes and reads it */
#define VM_OFFER_FORMAT     3
#define VM_STATE_MAX        (512 * 1024u) /* MIG_STATE_MAX */
#define VM_OFFER_MAX        (16 * 1024u)  /* MIG_OFFER_MAX */

struct vm;

/* Every section, in the order of a state.  Columns:
 *   id, number
 *   version   newest of the payload: what is written to a host that reads it; all versions from 1 on are read
 *   0.1       the version that release 0.1 reads; 0: it does not know the section
 *   vcpu      once per vCPU?
 *   always    must each state have it?  If not, it is left out for an older host unless the guest needs it; one that is
 *             missing on arrival leaves what devices_create() made
 *   needs     function: the lowest version that carries this guest's state; 0: none is needed (only if not `always`)
 *   name, and the prefix of its functions _save and _load in vm_state.c.
 * This table generates the state's writer and reader, an offer's list of sections, and the check of that list.
 * TIME is first, because later sections may read the clock.  How to add to it: docs/hacking.md, "Adding things". */
/* clang-format off */
#define VM_SECTIONS(X)                                                                    \
    X(TIME,       16, 1, 1, false, true,  needs_always,     "time",           time)       \
    X(REGS,       1,  1, 1, true,  true,  needs_always,     "registers",      regs)       \
    X(XSAVE,      2,  1, 1, true,  true,  needs_always,     "FPU state",      xsave)      \
    X(MSRS,       3,  1, 1, true,  true,  needs_always,     "MSRs",           msrs)       \
    X(LAPIC,      4,  2, 1, true,  true,  lapic_needs,      "local APIC",     lapic)      \
    X(PVCLOCK,    17, 1, 1, true,  true,  needs_always,     "clock page",     pvclock)    \
    X(STEAL_TIME, 26, 1, 1, true,  false, steal_time_needs, "steal time",     steal_time) \
    X(TSC_ADJUST, 27, 1, 0, true,  false, tsc_adjust_needs, "TSC_ADJUST",     tsc_adjust) \
    X(IOAPIC,     18, 1, 1, false, true,  needs_always,     "IOAPIC",         ioapic)     \
    X(PIC,        19, 1, 1, false, true,  needs_always,     "8259",           pic)        \
    X(PIT,        20, 1, 1, false, true,  needs_always,     "8254",           pit)        \
    X(RTC,        21, 1, 1, false, true,  needs_always,     "RTC",            rtc)        \
    X(PM,         22, 2, 1, false, true,  pm_needs,         "ACPI power",     pm)         \
    X(UART,       23, 1, 1, false, true,  needs_always,     "serial port",    uart)       \
    X(PCI,        24, 2, 1, false, true,  pci_needs,        "PCI bus",        pci)        \
    X(VIRTIO,     25, 1, 1, false, true,  needs_always,     "virtio devices", virtio)

/* Fields of an offer from format 3 on, behind those of format 2.  Columns: id, number (with VMS_SEC_OPTIONAL: a host
 * that does not know it takes the guest all the same), newest version, name, and the name of its functions
 * offer_NAME_needs, _write and _read in vm_offer.c or offer_disks.c.  A host that does not know a field is not sent it;
 * if the guest _needs a field that is not optional, validation says so. */
#define OFFER_FIELDS(X) \
    X(SHUTDOWN, 0x8101, 1, "on-shutdown", shutdown) \
    X(SPOOF,    0x8102, 1, "spoof",       spoof)    \
    X(BOOT,     0x8103, 1, "boot files",  boot)     \
    X(PAUSED,   0x0104, 1, "moves while paused", paused) \
    X(MTU,      0x8104, 1, "MTU",         mtu)      \
    X(PIN,      0x8105, 1, "pin",         pin) \
    X(DISKS,    0x0106, 1, "several disks or disk options", disks) \
    X(NICS,     0x0107, 1, "several network cards", nics) \
    X(VCPUS,    0x0108, 1, "more than 8 processors", vcpus) \
    X(AUTOSTART, 0x8109, 1, "autostart",  autostart) \
    X(STOPPED,  0x010c, 1, "moves while stopped", stopped) \
    X(ALONG,    0x010a, 2, "disks that move along", along) \
    X(PLACES,   0x010d, 1, "chosen places of disks", places) \
    X(BASES,    0x0112, 1, "clones of base volumes", bases) \
    X(WITH_BASE, 0x8113, 1, "bases may come along", with_base) \
    X(SAVED,    0x010e, 1, "moves while saved", saved) \
    X(CHECKPOINTS, 0x010f, 2, "checkpoints", checkpoints)
/* clang-format on */

enum vms_section {
#define VMS_SEC_ENUM(id, number, version, release_0_1, per_vcpu, always, needs, name, fn) VMS_SEC_##id = (number),
#define OFFER_FIELD_ENUM(id, number, version, name, fn)                                   OFFER_FIELD_##id = (number),
    VM_SECTIONS(VMS_SEC_ENUM) OFFER_FIELDS(OFFER_FIELD_ENUM) VMS_SEC_OPTIONAL = 0x8000,
};

/** Write vm's whole state without its memory, in the versions that a host reads which knows k.  That of a stopped guest
 *  has no sections.  HV_E_RANGE: cap is too
 *  small (VM_STATE_MAX suffices).  HV_E_VERSION: the guest has begun to use what that host does not know; why names it.
 *  Context: service pCPU; every vCPU FROZEN and unloaded. */
HV_MUST_CHECK enum hv_err vm_state_save(struct vm *vm, const struct vm_knows *k, uint8_t *buf, size_t cap, size_t *len,
                                        struct why *why);
/** The most bytes that vm_state_save() may write for vm: about 4 KiB for each vCPU. */
size_t vm_state_max(const struct vm *vm);
/** Add the name of each section whose version the guest needs and k lacks. */
void vm_state_unknown(const struct vm *vm, const struct vm_knows *k, struct name_list *names);
/** Load a state made by vm_state_save() on a host whose offer was accepted.  Everything is checked before anything is
 *  applied.  Also sets vm->tsc_offset, passes it to the vendor, and rewrites the clock pages.
 *  HV_E_VERSION: unknown section or version.  HV_E_PROTO: malformed or illegal values.  why says which.
 *  Context: service pCPU; vm made by vm_offer_adopt() and devices_create(), every vCPU FROZEN and unloaded. */
HV_MUST_CHECK enum hv_err vm_state_load(struct vm *vm, const uint8_t *buf, size_t len, struct why *why);

struct vm_offer;
/** Add a reason for each section that this host needs and the offer does not list; returns their number. */
unsigned vm_state_missing(const struct vm_offer *o, reason_fn *add, void *ctx);

/* The source's description of a VM that is to move.  vm_offer_parse() has checked the form of every field. */
struct vm_offer {
    unsigned format;
    unsigned vendor; /* one of cpu_ops_of_vendor() */
    uint8_t uuid[16];
    struct vm_config config;
    unsigned mtu;                            /* of the packets that its card can send where it is; 0: not known */
    struct disk_info disk[CONFIG_MAX_DISKS]; /* of each disk that is not in memory */
    bool place_chosen[CONFIG_MAX_DISKS];     /* of a volume: nowhere but at config.disk[i].lv */
    struct {
        char sha256[65];      /* of its base, if it is a clone of a base volume; "": it is not */
        uint64_t store_bytes; /* that the clone takes at the source, beside its base */
    } base[CONFIG_MAX_DISKS];
    bool with_base; /* where the base is not here, its data come as well */
    struct {
        uint64_t bytes;         /* of what is saved of it, in a volume that moves along as well; 0: it is not saved */
        struct lv_config place; /* of that volume; any name will do */
        bool with_disks;        /* its volumes are those that it had when it was saved */
    } saved;
    unsigned n_parts; /* of its checkpoints, which move along */
    struct checkpoint_part part[CHECKPOINT_MOVE_MAX];
    bool paused;  /* an operator paused it: it does not run on arrival */
    bool stopped; /* it has no memory and no state; what is below of its processor, and a
                                              * disk's size 0, say nothing */
    uint64_t tsc_hz;
    uint64_t xcr0; /* XSAVE components that the guest may have enabled */
    struct cpuid_table cpuid;
    unsigned n_files;      /* that it is started from: kernel, initrd, modules; 0: they do not come with it */
    uint64_t n_boot_pages; /* of these files, each in whole pages */
    uint64_t boot_bytes;   /* host memory that these need here; the destination sets it before vm_offer_check() */
    struct {
        uint64_t len;
        uint8_t sha256[32];
    } file[2 + CONFIG_MAX_MODULES];
    unsigned n_devices; /* at most ARRAY_SIZE(device) */
    struct {
        uint16_t section, version; /* VMS_SEC_*, and the version of its payload */
        char name[32];             /* the source's; "" from release 0.1 */
    } device[VM_KNOWS_PARTS_MAX];
};
/** Describe a VM to a host that knows k, in the newest format that it reads.  places: of its volumes there, as
 *  config_place_next() reads it; "": any.  HV_E_RANGE: cap is too small (VM_OFFER_MAX suffices).  Service pCPU; vm
 *  built, or STOPPED. */
HV_MUST_CHECK enum hv_err vm_offer_write(const struct vm *vm, const struct vm_knows *k, const char *places,
                                         uint8_t *buf, size_t cap, size_t *len);
/** Add the name of each field that the guest needs and k lacks. */
void vm_offer_unknown(const struct vm *vm, const struct vm_knows *k, struct name_list *names);
/** Parse an offer; buf is untrusted.  HV_E_VERSION: a format or device that this host does not know.
 *  HV_E_PROTO: malformed.  why says what is wrong. */
HV_MUST_CHECK enum hv_err vm_offer_parse(const uint8_t *buf, size_t len, struct vm_offer *out, struct why *why);
/** Could this host run the offered VM?  Adds every reason against it, each with cause and fix; returns their number.
 *  free_bytes: host memory that the VM may use.  The caller checks names in use, and policy. */
unsigned vm_offer_check(const struct vm_offer *o, uint64_t free_bytes, reason_fn *add, void *ctx);
/** A remark for the operator that is no reason to refuse: "tsc: ...", if the TSC frequencies differ.
 *  False: there is none, and text is unchanged. */
bool vm_offer_note(const struct vm_offer *o, char *text, size_t len);
/** Give a new VM the offered config, uuid, tsc_hz, CPUID table and operator_paused.  HV_E_NOMEM.  vm is STOPPED,
 *  without devices. */
HV_MUST_CHECK enum hv_err vm_offer_adopt(struct vm *vm, const struct vm_offer *o);

#endif
