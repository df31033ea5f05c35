/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_insn.c - one function per instruction.  vmx_enter() is in vmx_entry.S. */
#include "vmx/vmx_insn.h"

#include "kernel/lib/log.h"

uint64_t vmx_rdmsr(uint32_t msr)
{
    uint32_t lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
    return (uint64_t)hi << 32 | lo;
}

void vmx_wrmsr(uint32_t msr, uint64_t val)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)val), "d"((uint32_t)(val >> 32)) : "memory");
}

uint64_t vmx_rdtsc(void)
{
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

struct vmx_cpuid vmx_cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct vmx_cpuid r;
    __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
    return r;
}

uint64_t vmx_cr_read(unsigned n)
{
    uint64_t val = 0;
    switch (n) {
    case 0: __asm__ volatile("mov %%cr0, %0" : "=r"(val) : : "memory"); break;
    case 2: __asm__ volatile("mov %%cr2, %0" : "=r"(val) : : "memory"); break;
    case 3: __asm__ volatile("mov %%cr3, %0" : "=r"(val) : : "memory"); break;
    case 4: __asm__ volatile("mov %%cr4, %0" : "=r"(val) : : "memory"); break;
    }
    return val;
}

void vmx_cr_write(unsigned n, uint64_t val)
{
    switch (n) {
    case 0: __asm__ volatile("mov %0, %%cr0" : : "r"(val) : "memory"); break;
    case 2: __asm__ volatile("mov %0, %%cr2" : : "r"(val) : "memory"); break;
    case 4: __asm__ volatile("mov %0, %%cr4" : : "r"(val) : "memory"); break;
    }
}

uint64_t vmx_dr_read(unsigned n)
{
    uint64_t val = 0;
    switch (n) {
    case 0: __asm__ volatile("mov %%db0, %0" : "=r"(val)); break;
    case 1: __asm__ volatile("mov %%db1, %0" : "=r"(val)); break;
    case 2: __asm__ volatile("mov %%db2, %0" : "=r"(val)); break;
    case 3: __asm__ volatile("mov %%db3, %0" : "=r"(val)); break;
    case 6: __asm__ volatile("mov %%db6, %0" : "=r"(val)); break;
    }
    return val;
}

void vmx_dr_write(unsigned n, uint64_t val)
{
    switch (n) {
    case 0: __asm__ volatile("mov %0, %%db0" : : "r"(val)); break;
    case 1: __asm__ volatile("mov %0, %%db1" : : "r"(val)); break;
    case 2: __asm__ volatile("mov %0, %%db2" : : "r"(val)); break;
    case 3: __asm__ volatile("mov %0, %%db3" : : "r"(val)); break;
    case 6: __asm__ volatile("mov %0, %%db6" : : "r"(val)); break;
    }
}

struct __attribute__((packed)) table_ptr {
    uint16_t limit;
    uint64_t base;
};
_Static_assert(sizeof(struct table_ptr) == 10, "SDM 2A SGDT");

void vmx_tables_store(struct vmx_table *gdtr, struct vmx_table *idtr)
{
    struct table_ptr g, i;
    __asm__ volatile("sgdt %0" : "=m"(g));
    __asm__ volatile("sidt %0" : "=m"(i));
    *gdtr = (struct vmx_table){ g.limit, g.base };
    *idtr = (struct vmx_table){ i.limit, i.base };
}

void vmx_tables_load(const struct vmx_table *gdtr, const struct vmx_table *idtr)
{
    struct table_ptr g = { gdtr->limit, gdtr->base }, i = { idtr->limit, idtr->base };
    __asm__ volatile("lgdt %0" : : "m"(g));
    __asm__ volatile("lidt %0" : : "m"(i));
}

/* VMfail is CF=1 (no current VMCS) or ZF=1 (its VM-instruction error says why): "above" is success. */
bool vmx_vmxon(uint64_t pa)
{
    bool ok;
    __asm__ volatile("vmxon %1" : "=@cca"(ok) : "m"(pa) : "memory");
    return ok;
}

void vmx_vmxoff(void) { __asm__ volatile("vmxoff" : : : "cc", "memory"); }

bool vmx_vmclear(uint64_t pa)
{
    bool ok;
    __asm__ volatile("vmclear %1" : "=@cca"(ok) : "m"(pa) : "memory");
    return ok;
}

bool vmx_vmptrld(uint64_t pa)
{
    bool ok;
    __asm__ volatile("vmptrld %1" : "=@cca"(ok) : "m"(pa) : "memory");
    return ok;
}

uint64_t vmx_vmread(uint32_t field)
{
    uint64_t val;
    bool ok;
    __asm__ volatile("vmread %2, %1" : "=@cca"(ok), "=r"(val) : "r"((uint64_t)field) : "memory");
    if (!ok)
        panic("vmread 0x%x failed: no such field on this processor, or no current VMCS", field);
    return val;
}

void vmx_vmwrite(uint32_t field, uint64_t val)
{
    bool ok;
    __asm__ volatile("vmwrite %1, %2" : "=@cca"(ok) : "r"(val), "r"((uint64_t)field) : "memory");
    if (!ok)
        panic("vmwrite 0x%x, 0x%lx failed: no such field on this processor, or no current VMCS", field, val);
}

/* SDM 3C "INVEPT", "INVVPID": 128-bit descriptor */
struct inv_operand {
    uint64_t what, addr;
};
_Static_assert(sizeof(struct inv_operand) == 16, "SDM 3C INVEPT");

void vmx_invept(uint64_t type, uint64_t eptp)
{
    struct inv_operand op = { eptp, 0 };
    bool ok;
    __asm__ volatile("invept %1, %2" : "=@cca"(ok) : "m"(op), "r"(type) : "memory");
    if (!ok)
        panic("invept type %lu, EPTP 0x%lx failed", type, eptp);
}

void vmx_invvpid(uint64_t type, uint16_t vpid)
{
    struct inv_operand op = { vpid, 0 };
    bool ok;
    __asm__ volatile("invvpid %1, %2" : "=@cca"(ok) : "m"(op), "r"(type) : "memory");
    if (!ok)
        panic("invvpid type %lu, VPID %u failed", type, vpid);
}

extern char vmx_exit_point[] __attribute__((visibility("hidden"))); /* vmx_entry.S */

uint64_t vmx_host_rip(void) { return (uintptr_t)vmx_exit_point; }

void vmx_take_interrupts(void)
{
    __asm__ volatile("sti; nop; cli" : : : "memory"); /* STI lets them in after the next instruction */
}

void vmx_take_nmi(void) { __asm__ volatile("int $2" : : : "memory"); }
