/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_mig_edges.c - the state machines' transition functions refuse every change of state that the model
 * does not have.
 *
 * tx_goto() and rx_goto() are called with every pair of states.  The allowed pairs are read from the comments "T name:
 * FROM -> TO" of tests/model/handoff.pml, not from the code's own tables.  rx_goto() is static: this program includes
 * rx.c. */
/* unit-sources: migrate/mig.c migrate/tx.c migrate/tx_pages.c migrate/tx_disks.c
 *   migrate/wire.c migrate/hash.c migrate/batch.c
 *   migrate/policy.c kernel/lib/err.c */
/* unit-deps: lz4 */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "migrate/rx.c"

#define MODEL     "tests/model/handoff.pml"
#define STATES    9 /* the more of both */
#define TX_STATES (MIG_TX_FAILED + 1)
static bool tx_may[STATES][STATES], rx_may[STATES][STATES];
static unsigned n_named;

static const char *tx_name(unsigned s) { return mig_tx_state_name((enum mig_tx_state)s); }
static const char *rx_name(unsigned s) { return mig_rx_state_name((enum mig_rx_state)s); }

/* "FROM -> TO": FROM may be "any", which is every state in which something can still happen, or
 * "any before IN_DOUBT". */
static void allow(bool tx, const char *from, const char *to)
{
    const char *(*name)(unsigned) = tx ? tx_name : rx_name;
    unsigned last = tx ? MIG_TX_IN_DOUBT : MIG_RX_PREPARED;
    for (unsigned a = 0; a < (tx ? TX_STATES : STATES); a++)
        for (unsigned b = 0; b < (tx ? TX_STATES : STATES); b++) {
            bool any =
                !strncmp(from, "any", 3) && a <= last && !(strstr(from, "before IN_DOUBT") && a == MIG_TX_IN_DOUBT);
            if (strcmp(name(b), to) || !(any || !strcmp(name(a), from)) || a == b)
                continue;
            (tx ? tx_may : rx_may)[a][b] = true;
            n_named++;
        }
}

static void read_model(void)
{
    char line[400], side, from[40], to[40];
    FILE *f = fopen(MODEL, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        const char *p = strstr(line, "/* T ");
        int used;
        if (!p || sscanf(p, "/* T %c_%*[a-z_]:%n", &side, &used) != 1)
            continue;
        p = strchr(p, ':');
        while (p && sscanf(p, "%*[:,] %39[A-Z_a-z ] -> %39[A-Z_]%n", from, to, &used) == 2) {
            char *end = from + strlen(from);
            while (end > from && end[-1] == ' ')
                *--end = '\0';
            if (strstr(from, " of the same id"))
                *strstr(from, " of the same id") = '\0';
            allow(side == 'a', from, to);
            p += used;
        }
    }
    fclose(f);
}

/* An ASSERT that fails ends the change of state here. */
static jmp_buf refused_here;
void assert_fail(const char *file, int line, const char *expr)
{
    (void)file, (void)line, (void)expr;
    longjmp(refused_here, 1);
}
void log_line(enum log_level level, const char *subject, const char *fmt, ...)
{
    (void)level, (void)subject, (void)fmt;
}

static bool tx_goes(unsigned from, unsigned to)
{
    struct mig_tx *m = calloc(1, sizeof(*m));
    volatile bool went = false;
    m->state = (enum mig_tx_state)from;
    if (!setjmp(refused_here)) {
        tx_goto(m, (enum mig_tx_state)to, TX_SEND);
        went = true;
    }
    if (went != (m->state == (enum mig_tx_state)to && from != to))
        fail_msg("tx %s -> %s: stopped, but the state changed", tx_name(from), tx_name(to));
    free(m);
    return went;
}

static bool rx_goes(unsigned from, unsigned to)
{
    struct mig_rx *m = calloc(1, sizeof(*m));
    volatile bool went = false;
    m->state = (enum mig_rx_state)from;
    if (!setjmp(refused_here)) {
        rx_goto(m, (enum mig_rx_state)to);
        went = true;
    }
    if (went != (m->state == (enum mig_rx_state)to && from != to))
        fail_msg("rx %s -> %s: stopped, but the state changed", rx_name(from), rx_name(to));
    free(m);
    return went;
}

static void test_edges(void **s)
{
    (void)s;
    unsigned refused = 0;
    read_model();
    assert_true(n_named >= 20); /* else the comments are not where they were */
    for (unsigned a = 0; a < STATES; a++)
        for (unsigned b = 0; b < STATES; b++) {
            bool tx = a < TX_STATES && b < TX_STATES;
            if (tx && tx_goes(a, b) != tx_may[a][b])
                fail_msg("tx %s -> %s: %s in the model", tx_name(a), tx_name(b), tx_may[a][b] ? "is" : "is not");
            if (rx_goes(a, b) != rx_may[a][b])
                fail_msg("rx %s -> %s: %s in the model", rx_name(a), rx_name(b), rx_may[a][b] ? "is" : "is not");
            refused += (tx && !tx_may[a][b]) + !rx_may[a][b];
        }
    unsigned tried = STATES * STATES + TX_STATES * TX_STATES;
    printf("> %u changes of state tried: %u allowed, as the model has them, %u refused\n", tried, tried - refused,
           refused);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_edges) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
