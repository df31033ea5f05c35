/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/svm_insn.c - see svm_insn.h.  The scripted guest runs between the documented effects of VMRUN and
 * #VMEXIT. */
#include "tests/fakes/svm_insn.h"
#include <stdlib.h>
#include "kernel/host/page.h"
#include "tests/fakes/speculation.h"

void (*fake_guest)(struct vmcb *b, uint64_t *gpr);
unsigned fake_n_entries;
uint64_t fake_msr_efer = 0x501, fake_msr_vm_cr, fake_msr_hsave, fake_msr_tsc_aux, fake_msr_tsc_ratio, fake_dr[4];
struct svm_cpuid fake_cpuid_1 = { .eax = 0x00800f12 }, fake_cpuid_7;
struct svm_cpuid fake_cpuid_ext1 = { .ecx = BIT32(2), .edx = BIT32(26) | BIT32(27) };
struct svm_cpuid fake_cpuid_svm = { .ebx = 4, .edx = BIT32(0) };
struct pcpu fake_pcpu;

struct pcpu *this_pcpu(void) { return &fake_pcpu; }
unsigned fake_n_interrupts_self;
void pcpu_interrupt_self(void) { fake_n_interrupts_self++; }

uint64_t svm_rdmsr(uint32_t msr)
{
    switch (msr) {
    case 0xc0000080: return fake_msr_efer;
    case 0xc0010114: return fake_msr_vm_cr;
    case 0xc0010117: return fake_msr_hsave;
    case 0xc0000103: return fake_msr_tsc_aux;
    default:         abort(); /* #GP on the processor */
    }
}

void svm_wrmsr(uint32_t msr, uint64_t val)
{
    switch (msr) {
    case 0xc0000080: fake_msr_efer = val; break;
    case 0xc0010117: fake_msr_hsave = val; break;
    case 0xc0000103: fake_msr_tsc_aux = val; break;
    case 0xc0000104: /* CPUID TscRateMsr only; bits 63:40 are reserved */
        if (!(fake_cpuid_svm.edx & BIT32(4)) || val >> 40)
            abort();
        fake_msr_tsc_ratio = val;
        break;
    default: abort();
    }
}

struct svm_cpuid svm_cpuid(uint32_t leaf)
{
    switch (leaf) {
    case 0:          return (struct svm_cpuid){ .eax = 0xd };
    case 1:          return fake_cpuid_1;
    case 7:          return fake_cpuid_7;
    case 0x80000000: return (struct svm_cpuid){ .eax = 0x8000001e };
    case 0x80000001: return fake_cpuid_ext1;
    case 0x80000008: return (struct svm_cpuid){ .eax = 0x3030 };
    case 0x8000000a: return fake_cpuid_svm;
    default:         return (struct svm_cpuid){ 0 };
    }
}

uint64_t svm_dr_read(unsigned n) { return fake_dr[n]; }
void svm_dr_write(unsigned n, uint64_t val) { fake_dr[n] = val; }
void svm_vmsave(uint64_t vmcb_pa) { ((struct vmcb *)hpa_ptr(hpa(vmcb_pa)))->save.tr.base = 0x7755; }

void svm_enter(uint64_t guest_pa, uint64_t *gpr, uint64_t host_pa)
{
    struct vmcb *b = hpa_ptr(hpa(guest_pa)), *host = hpa_ptr(hpa(host_pa));
    if (host->save.tr.base != 0x7755 || !(fake_msr_efer & EFER_SVME) || !fake_msr_hsave)
        abort();
    fake_n_entries++;
    fake_spec_entry();
    b->ctl.exit_int_info = b->ctl.exit_info1 = b->ctl.exit_info2 = 0;
    b->ctl.exit_code = SVM_EXIT_INTR;
    if (fake_guest)
        fake_guest(b, gpr);
    b->ctl.event_inj &= ~EVENTINJ_VALID;
}
