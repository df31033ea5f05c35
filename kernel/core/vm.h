/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/vm.h - a virtual machine: memory, vCPUs, devices, life cycle.
 *
 * Field letters: [c] const after create  [m] mem_lock  [d] dev_lock  [s] service pCPU only  [a] atomic.
 *
 * dev_lock is the one big lock of the VM's device models.  io_bus takes it around every device access, so a device
 * model needs no lock of its own.  Other callers (UART input, timers, vm_state) take it before they enter a device. */
#ifndef GODWIT_KERNEL_CORE_VM_H
#define GODWIT_KERNEL_CORE_VM_H

#include <stdatomic.h>
#include "kernel/config/config.h"
#include "kernel/core/dirty.h"
#include "kernel/core/disk.h"
#include "kernel/core/guest_mem.h"
#include "kernel/core/s2.h"
#include "kernel/core/vcpu.h"
#include "kernel/lib/lock.h"

#define VM_MAX_VCPUS     CONFIG_MAX_CPUS
#define VM_MAX_VCPUS_0_1 8

struct devices;     /* kernel/dev/devices.h */
struct blk;         /* kernel/dev/vdev_blk.c */
struct cpuid_table; /* kernel/core/cpuid.h */

enum vm_state {
    VM_STOPPED,
    VM_RUNNING,
    VM_PAUSED,   /* vCPUs frozen by the operator or a move */
    VM_CRASHED,  /* stopped because of its guest; memory kept for inspection */
    VM_INCOMING, /* being received; must not run before COMMIT */
};
const char *vm_state_name(enum vm_state s); /* for people: "running" */

struct vm_disk {       /* [s] a disk on a server or on this host, as its guest uses it */
    struct disk *disk; /* owned; NULL: none, or one in memory */
    enum { DISK_RUNNING, DISK_DRAINING, DISK_FLUSHING, DISK_QUIET } quiesce;
    uint64_t quiesce_us; /* clock_us() when quiescing began */
    struct disk_req flush;
    bool flushing; /* flush is pending */
    enum disk_status flushed;
    uint64_t hold_us; /* clock_us() when vm_disk_hold() began; 0: not held by it */
    unsigned moving; /* it is being moved to another place, the guest may be stopped; another number each time; 0: no */
    bool owes;
};
struct vm_disks {                       /* [s] */
    bool waiting;                       /* the guest is paused until every disk answers */
    uint64_t since_us;                  /* clock_us() when that began */
    struct vm_disk d[CONFIG_MAX_DISKS]; /* [i]: of config.disk[i] */
};

struct boot_blob;
struct boot_own;
struct boot_set { /* kernel, initrd, modules; n 0: none are known */
    unsigned n;
    uint64_t n_pages;
    struct boot_blob *file[2 + CONFIG_MAX_MODULES]; /* borrowed: of the boot disk, or of own */
    struct boot_own *own;                           /* owned; NULL: no files came with the guest */
};

#define VM_MAX 256

struct vm {
    unsigned slot;
    struct vm_config config;         /* [s] what runs, arrives or would be started */
    const struct vm_config *defined; /* [s] borrowed: its definition, for its next start if redefined; NULL: none */
    bool redefined;
    bool arrived;         /* [s] config, uuid and boot came from a peer, and are what it starts from again */
    struct boot_set boot; /* [s] what it starts from again */
    uint8_t uuid[16];     /* [c] made at start, moves with the guest */
    atomic_uint state;    /* enum vm_state */
    bool saving;          /* [s] */
    uint64_t disks_mark;  /* [s] see vm_disk.c */
    bool operator_paused; /* [s] only an operator resumes it, wherever it moves */
    struct spinlock mem_lock, dev_lock;
    struct guest_mem mem;
    /* [s] the hidden part of mem, in this order: bytes of config.disk[i], if it is in memory, or moves to or from it;
     * const while a vCPU may run */
    uint64_t ram_disk[CONFIG_MAX_DISKS];
    struct s2 s2;
    struct dirty_log dirty;
    unsigned n_vcpus;                  /* [c] */
    struct vcpu *vcpus[VM_MAX_VCPUS];  /* [c] owned */
    struct devices *devices;           /* [d] owned */
    struct blk *blk[CONFIG_MAX_DISKS]; /* [d] owned; of config.disk[i] */
    struct vm_disks disks;
    struct cpuid_table *cpuid;    /* [c] owned */
    int64_t tsc_offset;           /* [s] the VM's TSC = host TSC, scaled by tsc_ratio, + this */
    uint64_t tsc_ratio;           /* [s] for cpu_ops->tsc_set; 0: not scaled */
    uint64_t tsc_hz;              /* [c] the guest's TSC frequency */
    atomic_uint power_request;    /* enum vm_power, from the guest; the service loop acts */
    uint64_t started_us, here_us; /* [s] clock_us() of the last start or reset; when it was started or arrived here */
    uint64_t move_hash_bytes;     /* [s] host memory for the hashes of its move */
    unsigned quick_resets;        /* [s] resets in a row, each soon after its start */
    char crash_reason[160];
};
enum vm_power { VM_POWER_NONE, VM_POWER_OFF, VM_POWER_RESET, VM_POWER_CRASH };

static inline enum vm_state vm_state(const struct vm *vm) { return (enum vm_state)atomic_load(&vm->state); }
/** Has vm what runs: memory, vCPUs, devices?  Not if it is STOPPED, or arrives as a stopped guest. */
static inline bool vm_is_built(const struct vm *vm) { return vm->devices != NULL; }
/** Can vm move with its memory, or be saved?  Service pCPU. */
static inline bool vm_may_move(const struct vm *vm)
{
    return !vm->saving && (vm_state(vm) == VM_RUNNING || (vm_state(vm) == VM_PAUSED && vm->operator_paused));
}
/** vCPUs leave guest mode, then the service loop acts.  Any pCPU. */
void vm_power_request(struct vm *vm, enum vm_power what);
/** The VM's TSC now; that of a vCPU is this + its tsc_adjust.  Any pCPU. */
uint64_t vm_guest_tsc(const struct vm *vm);

#endif
