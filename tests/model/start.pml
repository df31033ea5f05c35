/* SPDX-License-Identifier: BSD-2-Clause
 * tests/model/start.pml - two hosts that may both start their copy of one guest: the rule of kernel/peers/start_rule.h
 * as a Spin model.  tests/model/run.py checks it (`make model`): never two runners.
 *
 * Host 0 has the lower ticket.  Left out: time (an answer that became stale is one that is lost and asked for again),
 * moves (handoff.pml), a third host (the rule is one of pairs; tests/unit/test_start_rule.c plays four).  That one of
 * them does start in the end needs time, too: the same test shows it. */

#define NOT_ASKED 0
#define ASKED     1
#define NONE      2
#define WANTED    3
#define HERE      4

bool runs[2], asking[2], wanted[2];
byte q[2];                              /* host i's question to the other one, or the answer to it */
byte crashes;

inline stop_asking() { asking[me] = false; wanted[me] = false; q[me] = NOT_ASKED }

proctype Host(byte me)
{
end:do
    :: atomic { !runs[me] && !asking[me] -> asking[me] = true; wanted[me] = true; q[me] = NOT_ASKED }
    :: atomic { asking[me] && wanted[me] && q[me] == NOT_ASKED -> q[me] = ASKED }
    :: atomic { q[1 - me] == ASKED ->                                       /* the other one's question arrives */
        q[1 - me] = (runs[me] -> HERE : (wanted[me] -> WANTED : NONE)) }
    :: atomic { wanted[me] && q[me] == NONE ->
        runs[me] = true;
        stop_asking();
        assert(!runs[1 - me]) }                                             /* never two runners */
    :: atomic { wanted[me] && q[me] == HERE -> stop_asking() }
    :: atomic { wanted[me] && q[me] == WANTED && me == 0 -> q[me] = NOT_ASKED }
    :: atomic { wanted[me] && q[me] == WANTED && me == 1 -> wanted[me] = false }
    /* ... and what is under way is void */
    :: atomic { asking[me] && !wanted[me] -> wanted[me] = true; q[me] = NOT_ASKED }
    :: atomic { runs[me] -> runs[me] = false }                              /* stopped */
    :: atomic { q[me] != NOT_ASKED -> q[me] = NOT_ASKED }             /* the question or its answer is lost, or stale */
    :: atomic { crashes < 3 -> crashes++; runs[me] = false; stop_asking() }
    od
}

init { atomic { run Host(0); run Host(1) } }
