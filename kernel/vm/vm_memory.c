/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_memory.c - see vm_memory.h.
 *
 * What a move of n pages takes: mig_memory_max(), which is mostly 64 KiB of hashes per 2 MiB; a page table per split
 * block; a bitmap of changed pages; the queue of frames that come while the guest stands still.  That is 3.4 % of the
 * guest, and 3 MiB for a small one.  While a move runs, hashes and tables that exist no longer count as owed. */
#include "kernel/vm/vm_memory.h"
#include "kernel/dev/vdev_blk.h"
#include "kernel/host/page.h"
#include "kernel/store/lv_disk.h"
#include "kernel/vm/guest_net.h"
#include "kernel/vm/vm_manage.h"
#include "migrate/memory.h"
#include "net/net.h"

/* Never promised to guests.  Half of it is for incoming streams before they name a guest: 12 of 1.2 MiB each.  The rest
 * is for vCPUs, devices and page tables, which are small: what is left of broken blocks serves for them. */
#define HOST_RESERVE_BYTES (32 * MIB)

/* What is allocated when a guest is built, rounded up: of each vCPU its control block, virtual APIC, FPU state and
 * local APIC, a page each or two; of the guest its devices, the roots of its tables, its CPUID table. */
#define VCPU_MEMORY  (32 * KIB)
#define GUEST_MEMORY (256 * KIB)

/* For a guest with so much RAM and disk, and so many pages of boot files.  Guests with more than GUEST_LOW_RAM_MAX have
 * a hole in their frame numbers; it costs bits in the bitmaps. */
static uint64_t move_tables_max(uint64_t ram_bytes, uint64_t n_boot_pages, unsigned n_vcpus)
{
    uint64_t n_pages = ram_bytes / PAGE_SIZE + n_boot_pages;
    uint64_t n_frames = n_pages + (ram_bytes > GUEST_LOW_RAM_MAX ? (4 * GIB - GUEST_LOW_RAM_MAX) / PAGE_SIZE : 0);
    uint64_t bitmap = 2 * MAX(n_frames / 8, PAGE_SIZE); /* mem_alloc() rounds up */
    return mig_memory_max(n_pages, n_frames) + ram_bytes / BLOCK_SIZE * PAGE_SIZE + bitmap + GUEST_NET_HELD_MAX +
           (n_vcpus > VM_MAX_VCPUS_0_1 ? VM_STATE_MAX : 0); /* a state that may be too long for one record */
}

uint64_t vm_memory_needed(const struct vm_config *c, uint64_t n_boot_pages)
{
    uint64_t ram_bytes = c->memory_bytes + config_ram_disk_at(c, c->n_disks), disk_bytes = 0;
    for (unsigned i = 0; i < c->n_disks; i++)
        if (c->disk[i].kind != DISK_IN_RAM)
            disk_bytes += VDEV_BLK_MEMORY +
                          (c->disk[i].kind == DISK_ON_LV ? lv_disk_memory(c->disk[i].lv.vg, c->disk[i].lv.lv) : 0);
    return ram_bytes + move_tables_max(ram_bytes, n_boot_pages, c->n_cpus) + disk_bytes + GUEST_MEMORY +
           c->n_cpus * VCPU_MEMORY;
}

static uint64_t vm_promise(const struct vm *vm)
{
    return vm->mem.size_bytes + move_tables_max(vm->mem.size_bytes, vm->boot.n_pages, vm->n_vcpus);
}

uint64_t vm_memory_growth(const struct vm *vm, uint64_t bytes)
{
    uint64_t is = vm->mem.size_bytes;
    return bytes + move_tables_max(is + bytes, vm->boot.n_pages, vm->n_vcpus) -
           move_tables_max(is, vm->boot.n_pages, vm->n_vcpus);
}

uint64_t vm_memory_promised(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        sum += vm && vm_state(vm) != VM_STOPPED ? vm_promise(vm) : 0;
    }
    return sum;
}

/* What vm has of its promise already. */
static uint64_t vm_taken(const struct vm *vm)
{
    uint64_t backed = vm->mem.n_backed * BLOCK_SIZE, tables = vm->move_hash_bytes + vm->s2.n_split * PAGE_SIZE;
    ASSERT(backed <= vm->mem.size_bytes);
    return backed + MIN(tables, move_tables_max(vm->mem.size_bytes, vm->boot.n_pages, vm->n_vcpus));
}

uint64_t vm_memory_promisable(void)
{
    uint64_t owed = HOST_RESERVE_BYTES + net_memory_owed();
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        owed += vm && vm_state(vm) != VM_STOPPED ? vm_promise(vm) - vm_taken(vm) : 0;
    }
    struct page_stats p = page_stats();
    uint64_t have = p.free_blocks * BLOCK_SIZE, small = p.free_bytes - have; /* small: in blocks that are in use */
    have += MIN(small, HOST_RESERVE_BYTES);
    return have > owed ? have - owed : 0;
}
