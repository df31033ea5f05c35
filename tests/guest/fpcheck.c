/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/fpcheck.c - does the vector and floating-point state survive exits, context switches and moves?
 *
 * usage: fpcheck [ROUNDS [corrupt]]        ROUNDS 0: for ever; prints a line about each half second
 *
 * One round loads known patterns, different in every round, into all sixteen YMM registers (XMM without AVX), an
 * unusual MXCSR and x87 control word, then counts down for some milliseconds without a system call, then stores the
 * registers again.  Interrupts, exits and moves fall into the countdown; XSAVE state that is lost or mixed up changes
 * the stored values.  `corrupt` spoils one byte of each round's expectation: the check can fail.  stress.c uses the
 * rounds as well, with system calls in place of the countdown. */
#include "fpcheck.h"
#include "payload.h"

#include <cpuid.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPIN      2000000ul
#define N_REGS    16
#define TOLD_MAX  50u     /* lines about wrong registers; the rest is only counted */
#define MXCSR_ODD 0x7f80u /* all masked, round toward zero */
#define FCW_ODD   0x0e7fu /* all masked, 53 bits, round toward zero */

struct regs {
    uint8_t reg[N_REGS][32];
    uint32_t mxcsr;
    uint16_t fcw;
} __attribute__((aligned(64)));

static bool have_avx(void)
{
    unsigned a, b, c, d, lo, hi;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !(c & bit_AVX))
        return false;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (lo & 6) == 6;
}

/* clang-format off */
#define EACH16(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define LOAD_YMM(n)  "vmovdqu 32*" #n "(%[in]), %%ymm" #n "\n"
#define STORE_YMM(n) "vmovdqu %%ymm" #n ", 32*" #n "(%[out])\n"
#define LOAD_XMM(n)  "movdqu 32*" #n "(%[in]), %%xmm" #n "\n"
#define STORE_XMM(n) "movdqu %%xmm" #n ", 32*" #n "(%[out])\n"
#define CONTROL_LOAD  "ldmxcsr %[new_mxcsr]\n" "fldcw %[new_fcw]\n"
#define CONTROL_STORE "stmxcsr %[got_mxcsr]\n" "fnstcw %[got_fcw]\n" "ldmxcsr %[old_mxcsr]\n" "fldcw %[old_fcw]\n"
#define WAIT "1: testq %%r12, %%r12\n" "js 2f\n" "movq %%r12, %%rax\n" "syscall\n" "2: dec %[n]\n" "jnz 1b\n"

/* Load, wait, store in one asm block, so that the compiler has no chance to use a vector register in between. */
#define ROUND(load, store, finish)                                                                                    \
    __asm__ volatile("stmxcsr %[old_mxcsr]\n" "fnstcw %[old_fcw]\n" CONTROL_LOAD EACH16(load)                         \
                     WAIT EACH16(store) CONTROL_STORE finish                                                          \
        : [n] "+r"(n), [got_mxcsr] "=m"(out->mxcsr), [got_fcw] "=m"(out->fcw), [old_mxcsr] "+m"(old_mxcsr),           \
          [old_fcw] "+m"(old_fcw)                                                                                     \
        : [in] "r"(in), [out] "r"(out), [new_mxcsr] "m"(in->mxcsr), [new_fcw] "m"(in->fcw), "r"(nr),                  \
          "D"(w->arg[0]), "S"(w->arg[1]),                                                                             \
          "d"(w->arg[2])                                                                                              \
        : "memory", "cc", "rax", "rcx", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",        \
          "xmm8", "xmm9", "xmm10",                                                                                    \
          "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")
/* clang-format on */

static void round_run(const struct regs *in, struct regs *out, bool avx, const struct fp_wait *w)
{
    unsigned long n = w->times;
    register long nr __asm__("r12") = w->syscall;
    uint32_t old_mxcsr = 0;
    uint16_t old_fcw = 0;
    if (avx)
        ROUND(LOAD_YMM, STORE_YMM, "vzeroupper\n");
    else
        ROUND(LOAD_XMM, STORE_XMM, "");
}

static void pattern(struct regs *r, unsigned round, bool avx)
{
    memset(r, 0, sizeof(*r));
    for (unsigned i = 0; i < N_REGS; i++)
        for (unsigned b = 0; b < (avx ? 32u : 16u); b++)
            r->reg[i][b] = (uint8_t)(round * 29 + i * 17 + b * 3 + 1);
    r->mxcsr = MXCSR_ODD;
    r->fcw = FCW_ODD;
}

__attribute__((format(printf, 1, 2))) static void tell(const char *fmt, ...)
{
    static atomic_uint n_told;
    va_list ap;
    if (atomic_fetch_add(&n_told, 1) >= TOLD_MAX)
        return;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
}

static bool compare(const struct regs *want, const struct regs *got)
{
    bool good = want->mxcsr == got->mxcsr && want->fcw == got->fcw;
    if (!good)
        tell("FPCHECK FAILED mxcsr want=%x got=%x fcw want=%x got=%x\n", want->mxcsr, got->mxcsr, want->fcw, got->fcw);
    for (unsigned i = 0; i < N_REGS; i++)
        for (unsigned b = 0; b < 32; b++)
            if (want->reg[i][b] != got->reg[i][b]) {
                tell("FPCHECK FAILED ymm%u byte=%u want=%02x got=%02x\n", i, b, want->reg[i][b], got->reg[i][b]);
                good = false;
                break;
            }
    return good;
}

bool fp_round(unsigned number, const struct fp_wait *wait, bool corrupt)
{
    struct regs want, got;
    bool avx = have_avx();
    pattern(&want, number, avx);
    memset(&got, 0, sizeof(got));
    round_run(&want, &got, avx, wait);
    if (corrupt)
        want.reg[number % N_REGS][5] ^= 1;
    return compare(&want, &got);
}

int fpcheck_main(int argc, char **argv)
{
    static const struct fp_wait countdown = { .syscall = -1, .times = SPIN };
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 0, bad = 0;
    bool corrupt = argc > 2 && strcmp(argv[2], "corrupt") == 0, avx = have_avx();
    uint64_t told = clock_ns(CLOCK_MONOTONIC);

    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned long n = 1; rounds == 0 || n <= rounds; n++) {
        if (!fp_round((unsigned)n, &countdown, corrupt))
            bad++;
        if (n == rounds || clock_ns(CLOCK_MONOTONIC) - told > 500000000u) {
            printf("fpcheck %s rounds=%lu bad=%lu avx=%d\n", bad ? "FAILED" : "ok", n, bad, avx);
            told = clock_ns(CLOCK_MONOTONIC);
        }
    }
    return bad != 0;
}
