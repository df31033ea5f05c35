/* SPDX-License-Identifier: BSD-2-Clause
 * tests/model/handoff.pml - who runs the guest: the handoff of migrate/ as a Spin model.  tests/model/run.py
 * checks it (`make model`).
 *
 * One guest, a host A that has it, a host B that may get it, up to JOBS attempts to move it.  A's machine
 * (migrate/tx.c), B's machines, one per connection (migrate/rx.c), and the glue that pumps them
 * (kernel/peers/migration_out.c, migration_in.c) are each one process here; what else can happen to them is in the
 * processes Env and Operator.  States have the names that the code gives them, and each change of state is checked
 * against the code's own tables: run.py takes tx_edges and rx_edges out of the C files and puts them in front as
 * TX_EDGE and RX_EDGE.  A comment "T name: ..." marks a transition; docs/handoff.md says for each which function does
 * it, and run.py checks that none is missing there.
 *
 * Properties
 *   safe   assertions in guest_check: never two runners; the guest is never nowhere, except when a
 *          host crashed that held it
 *   ends   once the world is calm (below) and an operator is there, each job ends, and then
 *          exactly one host runs the guest
 *   alone  the same without an operator, unless B lost its memory of the job since STATE was sent to it
 *
 * The world is calm from some moment on that the checker picks: no more cuts, crashes, cancels; both hosts are up, and
 * an answer comes before the timeout that waits for it.  Before that moment any link loses what is in flight, in each
 * direction on its own, any timeout strikes at any time, either end of a link may notice its loss long before the other
 * one (half-open), either host crashes and comes back.
 *
 * What is left out, and why that is no loss here
 *   - Pages, rounds, ACK, IDLE, digests' arithmetic: PRECOPY is one state.  What damage causes is there (a
 *     digest that differs: fail).
 *   - Preambles: the link opens with them exchanged.  A failure in HELLO does what a failure in VALIDATE does.
 *   - Bytes: a record arrives whole or not at all.  That the code treats half a record as none is tested by cutting at
 *     each byte (tests/unit/test_mig_links.c).
 *   - Hostile hosts.  Both follow the protocol; TLS keeps others out.  That neither ever breaks it
 *     for the other is asserted.
 *   - Time: a timeout is a choice.  Who is right about durations is nothing that safety may depend on.
 *   - A peer that wants to start the guest, too: start.pml.  Here only A starts a copy, at any
 *     time, so also after a crash.
 *   - More guests, hosts, jobs at once: jobs share nothing but the list of ids, whose 64 places may run out (not by
 *     refused offers): Env forgets verdicts.
 *   - LINKS connections at once instead of INCOMING_MAX; a place is used again when both ends have closed, so in
 *     all there is no limit. */

#ifndef LINKS
#define LINKS 3
#endif
#ifndef JOBS
#define JOBS 2
#endif
#ifndef CRASHES_A
#define CRASHES_A 1
#endif
#ifndef CRASHES_B
#define CRASHES_B 2
#endif
#ifndef TX_EDGE                         /* run.py defines them from migrate/tx.c and rx.c */
#define TX_EDGE(from, to) true
#define RX_EDGE(from, to) true
#endif

/* A's machine; OFF: there is none. */
#define OFF          0
#define TX_HELLO     1
#define TX_VALIDATE  2
#define TX_PRECOPY   3
#define TX_STOPPING  4
#define TX_STOPPED   5
#define TX_IN_DOUBT  6
#define TX_RELEASED  7
#define TX_FAILED    8
/* B's machines */
#define RX_HELLO      1
#define RX_WAIT_OFFER 2
#define RX_LOADING    3
#define RX_LOADED     4
#define RX_PREPARED   5
#define RX_RUNNING    6
#define RX_DROPPED    7
#define RX_ANSWERED   8
/* The guest on a host: not there, arriving, standing still, running */
#define GONE     0
#define INCOMING 1
#define STILL    2
#define RUN      3
/* Verdicts, as in ANSWER */
#define UNKNOWN 0
#define RUNS    1
#define REFUSED 2

#define NO LINKS                        /* no link */

mtype = { OFFER, ACCEPT, STATE, PREPARED, COMMIT, RUNNING, FAIL, QUERY, ANSWER }

/* A link: two queues of (record, id or for ANSWER the verdict).  cut: what is sent is lost from now on.  Its end at A
 * is open while link names it, its end at B while rx[] is not OFF. */
chan ab[LINKS] = [2] of { mtype, byte };
chan ba[LINKS] = [2] of { mtype, byte };
bool cut_ab[LINKS], cut_ba[LINKS];

byte tx = OFF, job, link = NO;          /* job: id of the last attempt, 0: none yet */
bool state_sent, asking, regretted; /* STOPPED: waiting for PREPARED; IN_DOUBT: QUERY is out; STOPPED was undone once */
byte rx[LINKS], rx_job[LINKS];          /* rx_job: 0 before OFFER */
byte verdict[JOBS + 1];                 /* B's memory of ids */
byte guest_a = RUN, guest_b = GONE;
bool up_a = true, up_b = true, calm;
byte crashes_a, crashes_b;
bool lost;                              /* a host crashed that held the guest, and the other one does not run it */
byte find;                              /* A wants to start its own copy and asks B for it: FIND or FOUND on its way */
#define NOT_ASKED 0
#define ASKED     1
#define IS_NONE   2
#define IS_THERE  3
bool amnesia;                           /* B forgot about the current job after STATE had been sent */

#define settled (tx == OFF && guest_b != INCOMING && (lost || (guest_a == RUN) != (guest_b == RUN)))

#ifdef CHECK_ENDS
ltl ends  { [] (calm -> <> settled) }
#endif
#ifdef CHECK_ALONE
ltl alone { [] (calm -> <> (settled || amnesia)) }
#endif

inline guest_check()
{
    assert(!(guest_a == RUN && guest_b == RUN));                        /* never two runners */
    assert(guest_a >= STILL || guest_b == RUN || lost)                  /* never lost while the hosts live */
}

/* ---- links ---- */

inline drain(q)
{
    do
    :: q ? _, _
    :: empty(q) -> break
    od
}

inline link_reset(l)                    /* both ends are closed */
{
    drain(ab[l]);
    drain(ba[l]);
    cut_ab[l] = false;
    cut_ba[l] = false
}

inline a_close()                        /* what A has sent may still arrive */
{
    if
    :: link != NO ->
        drain(ba[link]);
        cut_ba[link] = true;
        if
        :: rx[link] == OFF -> link_reset(link)
        :: else
        fi;
        link = NO
    :: else
    fi
}

inline b_close(l)                       /* what B has sent may still arrive */
{
    rx[l] = OFF;
    rx_job[l] = 0;
    drain(ab[l]);
    cut_ab[l] = true;
    if
    :: link != l -> link_reset(l)
    :: else
    fi
}

inline a_send(rec)
{
    if
    :: link != NO && !cut_ab[link] -> assert(len(ab[link]) < 2); ab[link] ! rec, job
    :: else
    fi
}

inline b_send(l, rec, arg)
{
    if
    :: !cut_ba[l] -> assert(len(ba[l]) < 2); ba[l] ! rec, arg
    :: else
    fi
}

/* May A (B) give up its end of the link?  At any time; in a calm world only when nothing can come any more. */
#define A_MAY_LOSE    (!calm || ((cut_ab[link] || cut_ba[link]) && len(ba[link]) == 0))
#define B_MAY_LOSE(l) (!calm || ((cut_ab[l] || link != l) && len(ab[l]) == 0))
/* A place for a new link, LINKS if there is none */
#define FREE(l) (rx[l] == OFF && link != l)
#define PLACE   (FREE(0) -> 0 : (FREE(1) -> 1 : (LINKS > 2 && FREE(LINKS - 1) -> LINKS - 1 : NO)))

/* ---- A: migrate/tx.c ---- */

inline tx_goto(s) { assert(TX_EDGE(tx, s)); tx = s }

inline job_end()
{
    a_close();
    tx = OFF;
    state_sent = false; asking = false; regretted = false; amnesia = false
}

inline tx_fail()                        /* guest_back(): it runs here.  a_send(FAIL) before it where the peer is told */
{
    guest_a = RUN;
    lost = false;
    guest_check();
    tx_goto(TX_FAILED);
    job_end()
}

inline tx_release()
{
    tx_goto(TX_RELEASED);
    guest_a = GONE;
    guest_check();
    job_end()
}

inline tx_open()                        /* a link from A to a new machine of B */
{
    link = p;
    assert(RX_EDGE(RX_HELLO, RX_WAIT_OFFER));
    rx[p] = RX_WAIT_OFFER                                                   /* T b_open: HELLO -> WAIT_OFFER */
}

inline tx_record()
{
    ba[link] ? rec, arg;
    if
    :: rec == ACCEPT ->                                                     /* T a_accept: VALIDATE -> PRECOPY */
        assert(tx == TX_VALIDATE && arg == job);
        tx_goto(TX_PRECOPY)
    :: rec == PREPARED ->
        assert(tx == TX_STOPPED && state_sent && arg == job);
        if
        :: true -> a_send(COMMIT);                                  /* T a_commit: STOPPED -> IN_DOUBT */
           tx_goto(TX_IN_DOUBT)
        :: true -> a_send(FAIL); tx_fail()                          /* T a_digest: STOPPED -> FAILED */
        fi
    :: rec == RUNNING ->                                                    /* T a_running: IN_DOUBT -> RELEASED */
        assert(tx == TX_IN_DOUBT && !asking && arg == job);
        tx_release()
    :: rec == FAIL && (arg == job || tx <= TX_VALIDATE) ->                  /* T a_refused: any -> FAILED */
        tx_fail()
    :: rec == FAIL && arg != job && tx > TX_VALIDATE ->      /* T a_broke: IN_DOUBT -> IN_DOUBT, the link is given up */
        assert(tx == TX_IN_DOUBT && asking && arg == 0);
        a_close()
    :: rec == ANSWER ->
        assert(tx == TX_IN_DOUBT && asking);
        if
        :: arg == RUNS -> tx_release()                              /* T a_answer_running: IN_DOUBT -> RELEASED */
        :: arg == REFUSED -> tx_fail()                              /* T a_answer_refused: IN_DOUBT -> FAILED */
        :: arg == UNKNOWN -> a_close()              /* T a_answer_unknown: IN_DOUBT -> IN_DOUBT, the link is given up */
        fi
    fi;
    rec = 0; arg = 0
}

/* kernel/peers/start.c: A starts a copy of the guest that it does not have, when B says that it has none either. */
proctype Start()
{
end:do
    :: atomic { up_a && tx == OFF && guest_a == GONE && find == NOT_ASKED -> find = ASKED }       /* T a_find: FIND */
    :: atomic { find == IS_NONE && up_a && tx == OFF && guest_a == GONE ->    /* T a_found_none: FOUND none: start it */
        find = NOT_ASKED;
        guest_a = RUN;
        lost = false;
        guest_check() }
    :: atomic { find == IS_THERE -> find = NOT_ASKED }            /* T a_found_there: FOUND here or arriving: not now */
    :: atomic { find == ASKED && up_b ->                                    /* T b_find: FOUND */
        find = (guest_b == GONE -> IS_NONE : IS_THERE) }
    :: atomic { find != NOT_ASKED && !calm -> find = NOT_ASKED }            /* lost */
    od
}

proctype A()
{
    mtype rec; byte arg, p;
end:do
    :: atomic { up_a && tx == OFF && guest_a == RUN && job < JOBS ->        /* T a_start: a machine is made */
        job++;
        p = PLACE;
        if
        :: up_b && p != NO -> tx = TX_HELLO; tx_open()
        :: !up_b || p == NO -> skip                                        /* no link: the job ends with nothing done */
        fi;
        p = 0 }
    :: atomic { tx == TX_HELLO -> tx_goto(TX_VALIDATE); a_send(OFFER) }     /* T a_offer: HELLO -> VALIDATE */
    :: atomic { tx == TX_PRECOPY -> tx_goto(TX_STOPPING) }                  /* T a_stop: PRECOPY -> STOPPING */
    :: atomic { tx == TX_STOPPING -> tx_goto(TX_STOPPED);                   /* T a_stopped: STOPPING -> STOPPED */
        guest_a = STILL;
        guest_check() }
    :: atomic { tx == TX_STOPPED && !state_sent && !regretted ->            /* T a_regret: STOPPED -> PRECOPY */
        guest_a = RUN;
        guest_check();
        regretted = true;
        tx_goto(TX_PRECOPY) }
    /* T a_state: STOPPED -> STOPPED */
    :: atomic { tx == TX_STOPPED && !state_sent -> a_send(STATE); state_sent = true }
    :: atomic { link != NO && len(ba[link]) > 0 -> tx_record() }
    :: atomic { link != NO && tx < TX_IN_DOUBT && A_MAY_LOSE ->
        if
        :: skip                                                            /* T a_lost: any before IN_DOUBT -> FAILED */
        :: true -> a_send(FAIL)                                         /* T a_timeout: any before IN_DOUBT -> FAILED */
        fi;
        tx_fail() }
    /* T a_doubt: IN_DOUBT -> IN_DOUBT, the link is given up */
    :: atomic { link != NO && tx == TX_IN_DOUBT && A_MAY_LOSE ->
        a_close() }
    /* T a_query: IN_DOUBT -> IN_DOUBT, a new link */
    :: atomic { tx == TX_IN_DOUBT && link == NO && up_b && PLACE != NO ->
        p = PLACE;
        tx_open();
        p = 0;
        asking = true;
        a_send(QUERY) }
    od
}

/* ---- B: migrate/rx.c ---- */

inline rx_goto(l, s) { assert(RX_EDGE(rx[l], s)); rx[l] = s }

inline rx_over(l)                      /* b_send(l, FAIL, rx_job[l]) before it where the peer is told; it is one step */
{
    if
    :: rx_job[l] -> verdict[rx_job[l]] = REFUSED
    :: else
    fi;
    rx_goto(l, RX_DROPPED);
    b_close(l)
}

inline rx_fail(l)
{
    if
    :: rx[l] >= RX_LOADING ->
        assert(guest_b != GONE);                                            /* what it drops is there, and its own */
        guest_b = GONE;
        guest_check()
    :: else
    fi;
    rx_over(l)
}

inline rx_settle(i, id)
{
    /* the code says FAIL too, to an end that A has closed */
    if
    :: rx[i] != OFF && rx_job[i] == id -> assert(cut_ba[i]); rx_fail(i)
    :: else
    fi
}

inline rx_record(l)
{
    ab[l] ? rec, id;
    if
    :: rec == OFFER ->
        assert(rx[l] == RX_WAIT_OFFER);
        assert(verdict[id] == UNKNOWN);                     /* an id is offered once (the code refuses a second time) */
        rx_job[l] = id;
        if
        :: guest_b == GONE ->                                       /* T b_admit: WAIT_OFFER -> LOADING */
            guest_b = INCOMING;
            guest_check();
            rx_goto(l, RX_LOADING);
            b_send(l, ACCEPT, id)
        :: true -> b_send(l, FAIL, id); rx_over(l)                  /* T b_refuse: WAIT_OFFER -> DROPPED */
        fi
    :: rec == STATE ->
        assert(rx[l] == RX_LOADING && id == rx_job[l]);
        if
        :: rx_goto(l, RX_LOADED);                               /* T b_prepare: LOADING -> LOADED, LOADED -> PREPARED */
           rx_goto(l, RX_PREPARED);
           b_send(l, PREPARED, id)
        :: if
           :: skip                                                  /* T b_damaged: LOADING -> DROPPED */
           :: rx_goto(l, RX_LOADED)                            /* T b_not_ready: LOADING -> LOADED, LOADED -> DROPPED */
           fi;
           b_send(l, FAIL, id);
           rx_fail(l)
        fi
    :: rec == COMMIT ->                                                     /* T b_commit: PREPARED -> RUNNING */
        assert(rx[l] == RX_PREPARED && id == rx_job[l]);
        assert(guest_b != GONE);                                            /* what it prepared is still there */
        verdict[id] = RUNS;
        rx_goto(l, RX_RUNNING);
        guest_b = RUN;
        lost = false;
        guest_check();
        b_send(l, RUNNING, id);
        b_close(l)
    :: rec == FAIL -> rx_fail(l)                                            /* T b_told: any -> DROPPED */
    :: rec == QUERY ->                                                      /* T b_answer: WAIT_OFFER -> ANSWERED */
        assert(rx[l] == RX_WAIT_OFFER);                                  /* T b_settle: any of the same id -> DROPPED */
        rx_settle(0, id);
        rx_settle(1, id);
        rx_settle(LINKS - 1, id);
        b_send(l, ANSWER, verdict[id]);
        rx_goto(l, RX_ANSWERED);
        b_close(l)
    fi;
    rec = 0; id = 0
}

proctype B(byte l)
{
    mtype rec; byte id;
end:do
    :: atomic { rx[l] != OFF && len(ab[l]) > 0 -> rx_record(l) }
    :: atomic { rx[l] != OFF && B_MAY_LOSE(l) ->
        if
        :: skip                                                             /* T b_lost: any -> DROPPED */
        :: true -> b_send(l, FAIL, rx_job[l])                               /* T b_timeout: any -> DROPPED */
        fi;
        rx_fail(l) }
    od
}

/* ---- what happens to them ---- */

inline crash_a()
{
    if
    :: guest_a != GONE && guest_b != RUN -> lost = true
    :: else
    fi;
    guest_a = GONE;
    tx = OFF;                           /* no word to anyone */
    find = NOT_ASKED;
    job_end();
    up_a = false;
    crashes_a++;
    guest_check()
}

inline crash_b()
{
    if
    :: guest_b == RUN -> lost = true    /* A's copy may still be there, or be freed by a RUNNING that is under way */
    :: else
    fi;
    if
    :: tx == TX_IN_DOUBT || state_sent -> amnesia = true
    :: else
    fi;
    guest_b = GONE;
    for (i : 0 .. LINKS - 1) {
        if
        :: rx[i] != OFF -> b_close(i)
        :: else
        fi
    }
    for (i : 0 .. JOBS) { verdict[i] = UNKNOWN }
    i = 0;
    up_b = false;
    crashes_b++;
    guest_check()
}

proctype Env()
{
    byte i;
end:do
    :: atomic { !calm && up_a && crashes_a < CRASHES_A -> crash_a() }
    :: atomic { !up_a -> up_a = true }                                      /* it has no guest and knows of no job */
    :: atomic { !calm && up_b && crashes_b < CRASHES_B -> crash_b() }
    :: atomic { !up_b -> up_b = true }
    :: atomic { !calm && up_a && up_b -> calm = true }
    :: atomic { !calm && tx != OFF && tx < TX_IN_DOUBT ->                /* T a_cancel: any before IN_DOUBT -> FAILED */
        a_send(FAIL);
        tx_fail() }
    :: atomic { !calm ->
        select(i : 0 .. LINKS - 1);
        if
        :: !FREE(i) && !cut_ab[i] -> drain(ab[i]); cut_ab[i] = true
        :: !FREE(i) && !cut_ba[i] -> drain(ba[i]); cut_ba[i] = true
        :: rx[i] != OFF -> b_send(i, FAIL, rx_job[i]); rx_fail(i)   /* T b_cancel: any -> DROPPED */
        :: else
        fi;
        i = 0 }
    :: atomic { !calm && job && verdict[job] != UNKNOWN ->      /* 64 other jobs have pushed this one out of B's list */
        verdict[job] = UNKNOWN;
        amnesia = tx == TX_IN_DOUBT || state_sent }
    od
}

/* A person who looks at B before deciding: B is down or has no such guest, neither running nor
 * *arriving*; or B runs it. */
proctype Operator()
{
end:do
    :: atomic { tx == TX_IN_DOUBT && guest_b == GONE -> tx_fail() }         /* T a_resolve_here: IN_DOUBT -> FAILED */
    :: atomic { tx == TX_IN_DOUBT && guest_b == RUN -> tx_release() }      /* T a_resolve_there: IN_DOUBT -> RELEASED */
    od
}

init
{
    byte i;
    atomic {
        run A();
        for (i : 0 .. LINKS - 1) { run B(i) }
        i = 0;
        run Env();
        run Start();
#ifndef CHECK_ALONE
        run Operator()
#endif
    }
}
