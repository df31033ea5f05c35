/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/machine_check.c - the banks of the machine-check architecture.
 *
 * How a bank is judged, by its STATUS:
 *   UC  PCC  S  AR
 *   0   -    -  -   corrected; on AMD with bit 44: deferred
 *   1   -    -  -   with EN=0: deferred, since the hardware asks for nothing
 *   1   1    -  -   fatal
 *   1   0    0  0   deferred (UCNA)              with MCG_CAP.SER_P; without it S and AR are other bits
 *   1   0    1  0   action optional (SRAO)
 *   1   0    1  1   action required (SRAR); fatal if another error was lost (OVER)
 *   1   0    -  -   without SER_P: action required on processors that contain errors (SUCCOR), else fatal
 * A processor to which Intel's broadcast brought another one's error has RIPV and not EIPV: for it, an action that is
 * required is the other's: it leaves that bank alone, whatever it ran.
 *
 * No processor waits for another: each reads all banks that it has, and the first one clears those that are shared.
 * A poll leaves an error with S=1 until the next poll: it takes nothing from a processor whose #MC is on its way.
 * It stops the host only for what #MC would have been raised for: PCC, unless MCIP says that #MC was raised.
 *
 * RIPV speaks of the instruction that was interrupted.  If that was a guest's, the host's state is intact: without RIPV
 * the guest cannot go on, and without EIPV as well nobody knows whose error it was. */
#include "kernel/host/machine_check.h"

#include <stdatomic.h>
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

#define MSR_MC0_CTL    0x400u /* bank n: + 4 n; then STATUS, ADDR, MISC */
#define MSR_MCG_CTL    0x17bu
#define MCG_CAP_BANKS  0xffu
#define MCG_CAP_CTL_P  BIT64(8)
#define MCG_CAP_SER_P  BIT64(24)
#define MCG_RIPV       BIT64(0)
#define MCG_EIPV       BIT64(1)
#define MCG_MCIP       BIT64(2)
#define MCI_VAL        BIT64(63)
#define MCI_OVER       BIT64(62)
#define MCI_UC         BIT64(61)
#define MCI_EN         BIT64(60)
#define MCI_MISCV      BIT64(59)
#define MCI_ADDRV      BIT64(58)
#define MCI_PCC        BIT64(57)
#define MCI_S          BIT64(56)
#define MCI_AR         BIT64(55)
#define MCI_DEFERRED   BIT64(44) /* AMD */
#define MISC_MODE(m)   ((m) >> 6 & 7)
#define MISC_MODE_PHYS 2u
#define QUEUE_LEN      32u
#define POLL_US        10000000u

enum mce_way { MCE_RAISED, MCE_BYSTANDER, MCE_POLLED }; /* how an error was found; bystander: #MC for another's error */

const char *const mce_kind_names[MCE_KINDS] = { [MCE_CORRECTED] = "corrected",
                                                [MCE_DEFERRED] = "deferred",
                                                [MCE_OPTIONAL] = "action-optional",
                                                [MCE_REQUIRED] = "action-required",
                                                [MCE_FATAL] = "fatal" };

static bool contains_errors; /* AMD's SUCCOR; const after the boot CPU's mce_cpu_init() */
static atomic_ullong counts[MCE_KINDS];

/* ---- the queue: any CPU and context puts, one CPU takes ---- */

enum { SLOT_FREE, SLOT_BUSY, SLOT_FULL };
static struct {
    atomic_uint state;
    struct mce_record r;
} queue[QUEUE_LEN];

static void mce_put(const struct mce_record *r)
{
    if (!r->old)
        atomic_fetch_add_explicit(&counts[r->kind], 1, memory_order_relaxed);
    for (unsigned i = 0; i < QUEUE_LEN; i++) {
        unsigned is_free = SLOT_FREE;
        if (!atomic_compare_exchange_strong(&queue[i].state, &is_free, SLOT_BUSY))
            continue;
        queue[i].r = *r;
        atomic_store_explicit(&queue[i].state, SLOT_FULL, memory_order_release); /* pairs with mce_next() */
        return;
    }
}

bool mce_next(struct mce_record *r)
{
    for (unsigned i = 0; i < QUEUE_LEN; i++) {
        if (atomic_load_explicit(&queue[i].state, memory_order_acquire) != SLOT_FULL)
            continue;
        *r = queue[i].r;
        atomic_store_explicit(&queue[i].state, SLOT_FREE, memory_order_release);
        return true;
    }
    return false;
}

uint64_t mce_count(enum mce_kind kind)
{
    ASSERT(kind < MCE_KINDS);
    return atomic_load_explicit(&counts[kind], memory_order_relaxed);
}

/* ---- the banks ---- */

static uint64_t mce_msr(uint32_t msr)
{
    uint64_t val;
    return rdmsr_safe(msr, &val) ? val : 0;
}

/* No effect on a register that this processor does not have, or that is read-only. */
static void mce_msr_set(uint32_t msr, uint64_t val) { (void)!wrmsr_safe(msr, val); }

static enum mce_kind mce_judge(uint64_t status, uint64_t cap)
{
    if (!(status & MCI_UC))
        return contains_errors && (status & MCI_DEFERRED) ? MCE_DEFERRED : MCE_CORRECTED;
    if (!(status & MCI_EN))
        return MCE_DEFERRED;
    if (status & MCI_PCC)
        return MCE_FATAL;
    if (!(cap & MCG_CAP_SER_P))
        return contains_errors && !(status & MCI_OVER) ? MCE_REQUIRED : MCE_FATAL;
    if (!(status & MCI_S))
        return status & MCI_AR ? MCE_FATAL : MCE_DEFERRED;
    if (!(status & MCI_AR))
        return MCE_OPTIONAL;
    return status & MCI_OVER ? MCE_FATAL : MCE_REQUIRED;
}

/* Read bank into *r, whose cpu and mcg_status are set.  False: it has nothing. */
static bool mce_bank_read(struct mce_record *r, unsigned bank, uint64_t cap)
{
    uint32_t msr = MSR_MC0_CTL + 4 * bank;
    r->bank = bank;
    r->status = mce_msr(msr + 1);
    if (!(r->status & MCI_VAL))
        return false;
    r->addr = r->status & MCI_ADDRV ? mce_msr(msr + 2) : 0;
    r->misc = r->status & MCI_MISCV ? mce_msr(msr + 3) : 0;
    bool modes = (cap & MCG_CAP_SER_P) && (r->status & MCI_MISCV);
    r->has_addr = (r->status & MCI_ADDRV) && (!modes || MISC_MODE(r->misc) == MISC_MODE_PHYS);
    r->kind = mce_judge(r->status, cap);
    return true;
}

/* True: another processor may have to act on it. */
static bool mce_is_left(const struct mce_record *r, uint64_t cap, enum mce_way way)
{
    if (!(cap & MCG_CAP_SER_P))
        return false;
    if (way == MCE_BYSTANDER)
        return r->kind == MCE_REQUIRED;
    bool signalled = (r->status & MCI_UC) && (r->status & MCI_S);
    return way == MCE_POLLED && signalled && r->bank < 64 && !(this_pcpu()->mce_seen & BIT64(r->bank));
}

/* Queue what the banks have, and clear them but for errors that stop the host.  Returns the worst. */
static enum mce_kind mce_banks_take(uint64_t mcg_status, enum mce_way way)
{
    uint64_t cap = mce_msr(MSR_MCG_CAP), seen = 0;
    enum mce_kind worst = MCE_CORRECTED;
    for (unsigned i = 0; i < (cap & MCG_CAP_BANKS); i++) {
        struct mce_record r = { .cpu = this_pcpu()->index, .mcg_status = mcg_status };
        if (!mce_bank_read(&r, i, cap))
            continue;
        if (mce_is_left(&r, cap, way)) {
            seen |= i < 64 ? BIT64(i) : 0;
            continue;
        }
        bool stops = r.kind == MCE_FATAL && (way != MCE_POLLED || (r.status & MCI_PCC));
        if (stops || r.kind != MCE_FATAL)
            worst = MAX(worst, r.kind);
        mce_put(&r);
        if (!stops)
            mce_msr_set(MSR_MC0_CTL + 4 * i + 1, 0);
    }
    if (way == MCE_POLLED)
        this_pcpu()->mce_seen = seen;
    return worst;
}

void mce_cpu_init(bool succor)
{
    uint64_t cap = mce_msr(MSR_MCG_CAP);
    contains_errors = succor;
    if (cap & MCG_CAP_CTL_P)
        mce_msr_set(MSR_MCG_CTL, ~UINT64_C(0));
    for (unsigned i = 0; i < (cap & MCG_CAP_BANKS); i++) {
        struct mce_record r = { .cpu = this_pcpu()->index, .old = true };
        if (mce_bank_read(&r, i, cap))
            mce_put(&r);
        mce_msr_set(MSR_MC0_CTL + 4 * i + 1, 0);
        mce_msr_set(MSR_MC0_CTL + 4 * i, ~UINT64_C(0));
    }
    mce_msr_set(MSR_MCG_STATUS, 0);
}

/* Take what #MC was raised for. */
static enum mce_verdict mce_raised_take(uint64_t mcg, enum mce_way way, bool in_guest)
{
    enum mce_kind worst = mce_banks_take(mcg, way);
    bool returns = mcg & MCG_RIPV;
    if (worst == MCE_FATAL || (!returns && !(in_guest && (mcg & MCG_EIPV))) || (worst == MCE_REQUIRED && !in_guest))
        return MCE_HOST_LOST;
    mce_msr_set(MSR_MCG_STATUS, 0); /* another #MC before this is a shutdown */
    return worst == MCE_REQUIRED || !returns ? MCE_GUEST_LOST : MCE_GO_ON;
}

enum mce_verdict mce_take(bool in_guest)
{
    uint64_t mcg = mce_msr(MSR_MCG_STATUS);
    bool bystander = (mcg & MCG_RIPV) && !(mcg & MCG_EIPV);
    this_pcpu()->n_mce++;
    if (in_guest && !(mcg & MCG_MCIP))
        return this_pcpu()->mce_polled; /* AMD: a kick came between the exit and this, and polled */
    return mce_raised_take(mcg, bystander ? MCE_BYSTANDER : MCE_RAISED, in_guest);
}

/* With MCIP, #MC has ended a guest just now, and mce_take() follows; or QEMU has delivered it to the guest, as if there
 * was no intercept. */
enum mce_verdict mce_poll(void)
{
    uint64_t mcg = mce_msr(MSR_MCG_STATUS);
    if (!(mcg & MCG_MCIP))
        return mce_banks_take(mcg, MCE_POLLED) == MCE_FATAL ? MCE_HOST_LOST : MCE_GO_ON;
    enum mce_verdict verdict = mce_raised_take(mcg, MCE_RAISED, true);
    this_pcpu()->mce_polled = verdict;
    return verdict == MCE_HOST_LOST ? MCE_HOST_LOST : MCE_GO_ON;
}

void mce_step(void)
{
    static uint64_t next_us;
    uint64_t now = clock_us();
    if (now < next_us)
        return;
    next_us = now + POLL_US;
    for (unsigned i = 0; i < pcpu_count; i++) {
        atomic_store(&pcpu_get(i)->mce_due, true);
        if (i)
            pcpu_kick(i);
        else
            pcpu_interrupt_self();
    }
}

/* ---- for people ---- */

static void mce_print_as(enum log_level level, const char *subject, const struct mce_record *r)
{
    log_line(level, subject, "machine check%s, %s: CPU %u bank %u status 0x%lx %s 0x%lx misc 0x%lx mcg_status 0x%lx",
             r->old ? " from before the boot" : "", mce_kind_names[r->kind], r->cpu, r->bank, r->status,
             r->has_addr ? "host address" : "addr", r->addr, r->misc, r->mcg_status);
}

void mce_print(const struct mce_record *r)
{
    mce_print_as(r->kind >= MCE_OPTIONAL && !r->old ? LOG_ERROR : LOG_WARN, "mce", r);
}

void mce_print_all(void)
{
    struct mce_record r;
    while (mce_next(&r))
        mce_print_as(LOG_ERROR, "panic", &r);
}
