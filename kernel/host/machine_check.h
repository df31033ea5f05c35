/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/machine_check.h - hardware errors that this machine's processors report: their banks are read, judged,
 * cleared and queued.
 *
 * #MC may interrupt any instruction of the hypervisor, so its handler takes no lock and logs nothing: records wait in a
 * queue for the service loop (kernel/vm/vm_machine_check.c).  Errors that raise no #MC are found by polling.
 * Manual: SDM 3B "Machine-Check Architecture"; APM 2 "Machine Check Architecture". */
#ifndef GODWIT_KERNEL_HOST_MACHINE_CHECK_H
#define GODWIT_KERNEL_HOST_MACHINE_CHECK_H

#include "kernel/lib/types.h"

enum mce_kind {
    MCE_CORRECTED,
    MCE_DEFERRED, /* data are lost, nobody has used them, and the hardware asks for nothing */
    MCE_OPTIONAL, /* data are lost, nobody has used them: whoever owns the address should not go on */
    MCE_REQUIRED, /* data are lost, and the processor was about to use them: what it ran cannot go on */
    MCE_FATAL,    /* the processor's own state is lost, or nothing says that it is not */
    MCE_KINDS
};
extern const char *const mce_kind_names[MCE_KINDS];

struct mce_record {
    enum mce_kind kind;
    bool old;      /* it was there at boot */
    bool has_addr; /* addr is a host-physical address */
    unsigned cpu, bank;
    uint64_t status, addr, misc, mcg_status;
};

enum mce_verdict {
    MCE_GO_ON,
    MCE_GUEST_LOST, /* the guest that this processor ran cannot go on */
    MCE_HOST_LOST,
};

/** Clear this processor's banks and turn all reporting on.  What they had is queued as old.  succor: CPUID 8000_0007h
 *  EBX bit 1, errors that software can contain (AMD).  Each pCPU once, with GS set; only with CPUID's MCE and MCA. */
void mce_cpu_init(bool succor);
/** Handle #MC: queue what the banks have.  in_guest: it ended a guest or its entry, and was not delivered to the host.
 *  MCE_HOST_LOST: MCG_STATUS and the fatal bank are left to the firmware's log; panic, which prints the queue.
 *  MCE_GUEST_LOST: only if in_guest.  #MC context or IF=0; takes no lock. */
enum mce_verdict mce_take(bool in_guest);
/** Look for errors that raised no #MC here.  MCE_HOST_LOST as above.  This pCPU, IF=0. */
enum mce_verdict mce_poll(void);
/** Every 10 s have each pCPU poll its banks.  Boot CPU, service loop. */
void mce_step(void);

/** Take a record out of the queue; false: it is empty.  Service pCPU, or the one that panics. */
bool mce_next(struct mce_record *r);
void mce_print(const struct mce_record *r); /* to the log */
void mce_print_all(void);                   /* the queue, by the CPU that panics */
/** Records since boot of this kind, without old ones; those that found the queue full as well.  Any pCPU. */
uint64_t mce_count(enum mce_kind kind);

#endif
