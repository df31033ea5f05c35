/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_state.h - a stopped VM's state as bytes, and the offer by which a destination
 * decides whether it can run it.
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
#include "kernel/lib/why.h"

#define VM_STATE_FORMAT 2
#define VM_STATE_MAX    (256 * 1024u)
#define VM_OFFER_MAX    8192u

struct vm;

/* Every section, in the order of a state: id, its number, version of its payload, once per vCPU?, listed in
 * offers?, what people call it, and the names of its functions in vm_state.c.  From this one table come the
 * state's writer and reader, an offer's list of sections and the check of such a list.  TIME is first: others may
 * look at the clock.  STEAL_TIME is not listed: hosts of version 0.1 before 30 November read it in a state and
 * refuse an offer that lists it. */
/* clang-format off */
#define VM_SECTIONS(X)                                               \
    X(TIME,       16, 1, false, true,  "time",           time)       \
    X(REGS,       1,  1, true,  true,  "registers",      regs)       \
    X(XSAVE,      2,  1, true,  true,  "FPU state",      xsave)      \
    X(MSRS,       3,  1, true,  true,  "MSRs",           msrs)       \
    X(LAPIC,      4,  1, true,  true,  "local APIC",     lapic)      \
    X(PVCLOCK,    17, 1, true,  true,  "clock page",     pvclock)    \
    X(STEAL_TIME, 26, 1, true,  false, "steal time",     steal_time) \
    X(IOAPIC,     18, 1, false, true,  "IOAPIC",         ioapic)     \
    X(PIC,        19, 1, false, true,  "8259",           pic)        \
    X(PIT,        20, 1, false, true,  "8254",           pit)        \
    X(RTC,        21, 1, false, true,  "RTC",            rtc)        \
    X(PM,         22, 1, false, true,  "ACPI power",     pm)         \
    X(UART,       23, 1, false, true,  "serial port",    uart)       \
    X(PCI,        24, 1, false, true,  "PCI bus",        pci)        \
    X(VIRTIO,     25, 1, false, true,  "virtio devices", virtio)
/* clang-format on */

enum vms_section {
#define VMS_SEC_ENUM(id, number, version, per_vcpu, listed, name, fn) VMS_SEC_##id = (number),
    VM_SECTIONS(VMS_SEC_ENUM) VMS_SEC_OPTIONAL = 0x8000,
};

/** Write vm's whole state but its memory.  Every vCPU is FROZEN and unloaded.  HV_E_RANGE: cap is too small
 *  (VM_STATE_MAX always does). */
HV_MUST_CHECK enum hv_err vm_state_save(struct vm *vm, uint8_t *buf, size_t cap, size_t *len);
/** Take over a state made by vm_state_save on a host whose offer was accepted.  Everything is checked before anything
 *  is applied.  HV_E_VERSION: a section or version that we do not know; HV_E_PROTO: malformed or illegal values; why
 *  says which.  vm was created by vm_offer_adopt + devices_create, all its vCPUs FROZEN and unloaded.  Also sets
 *  vm->tsc_offset, tells it to the vendor, and rewrites the clock pages. */
HV_MUST_CHECK enum hv_err vm_state_load(struct vm *vm, const uint8_t *buf, size_t len, struct why *why);

/* what a source says of a VM before it moves it; every field was checked for form by vm_offer_parse */
struct vm_offer {
    unsigned format;
    unsigned vendor; /* one of cpu_ops_of_vendor() */
    uint8_t uuid[16];
    struct vm_config config; /* pin, autostart: this host's defaults */
    struct disk_info disk;   /* its disk on a server, if config.nbd says so */
    uint64_t tsc_hz;
    uint64_t xcr0; /* components that the guest may have enabled */
    struct cpuid_table cpuid;
    unsigned n_devices;
    struct {
        uint16_t section, version;
    } device[16];
};
/** Describe a running VM.  Any time after devices_create.  HV_E_RANGE: cap too small (VM_OFFER_MAX always does). */
HV_MUST_CHECK enum hv_err vm_offer_write(const struct vm *vm, uint8_t *buf, size_t cap, size_t *len);
/** HV_E_VERSION, HV_E_PROTO: not an offer of a format that we know; why says what is wrong. */
HV_MUST_CHECK enum hv_err vm_offer_parse(const uint8_t *buf, size_t len, struct vm_offer *out, struct why *why);
/** Could this host run it?  Adds every reason why not (each one sentence with cause and fix); returns their number.
 *  free_bytes: host memory that may be used for it.  Does not look at names in use or policy: that is the caller's. */
unsigned vm_offer_check(const struct vm_offer *o, uint64_t free_bytes, reason_fn *add, void *ctx);
/** What whoever asked for the move should know although o is no reason to refuse: "tsc: ...", where the rates of the
 *  TSCs differ.  false: nothing. */
bool vm_offer_note(const struct vm_offer *o, char *text, size_t len);
/** Give a new VM (struct vm zeroed, not yet devices_create'd) the offered config, uuid, tsc_hz and
 *  CPUID table.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err vm_offer_adopt(struct vm *vm, const struct vm_offer *o);

#endif
