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
 * Each host has a disk with a registry of guests, or none (REG_A, REG_B).  What a host has put there is durable a while
 * later; a crash comes with and without the last write.  Writes are of the whole registry, in the order of the puts, so
 * two values describe a disk: what is durable, and what was put last.  A crash of both hosts at any step is a crash of
 * one and then of the other.
 *
 * With VOLUMES both hosts have a registry, and the guest has a disk in a volume of A's store that moves along: B makes a
 * volume, A copies its own to it and then writes to both, and in the end one of them is deleted.  VolumesA and VolumesB
 * are what the service loops do with volumes (kernel/peers/move_volume.c).  Each change of a volume is one write, which
 * a power cut finds done or not.
 *
 * Properties
 *   safe   assertions in guest_check: never two runners; the guest is never nowhere, except when a
 *          host crashed that held it.  Of two hosts that are up, never do both think that the guest is theirs.  With
 *          two registries: at every step the disks alone, as they are after a power cut of both, name exactly one owner.
 *          With volumes: a disk has one writer at most; at every step one complete copy of it is on a volume, which is
 *          not deleted; nobody runs the guest on another; in doubt, A's stays
 *   back   A never goes on from memory that is older than what the guest has done on B, unless a person decided so
 *   ends   once the world is calm (below) and an operator is there, each job ends, and then
 *          the guest is exactly one host's, which runs it, or may start it after a power cut; with volumes, that one
 *          has a disk for it, and no other is left but what the operator keeps
 *   alone  the same without an operator, unless B lost its memory of the job since STATE was sent to it: by a crash
 *          without a registry, or because too many other jobs came
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
 *   - Disks that fail: a write becomes durable or the host crashes.  A disk that fails at validation refuses the move;
 *     later B runs the guest all the same, and its log says what that means.  A volume that moves along may fail: at B
 *     any write, at A what ends the copy (a_timeout).
 *   - Grains, rounds, the window of requests: the copy is one request, which is answered when the disk has it; then one
 *     write of the guest, and the flush before the stop.  A write that is under way when the copy has been given up
 *     counts for nothing.  tests/unit/test_mirror.c has the grains.
 *   - That 64 later jobs are refused before B has deleted the volume of a refused one, and B loses its power then: the
 *     volume is kept, and the log says so.
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
#ifndef REG_A                           /* has A, has B a registry of guests on a disk? */
#define REG_A 0
#endif
#ifndef REG_B
#define REG_B 0
#endif
#ifndef VOLUMES                         /* does a volume move along?  Only with both registries */
#define VOLUMES 0
#endif
#ifndef A_LISTS                         /* does A's record of a job list its volumes?  Else they stay after a crash */
#define A_LISTS 1
#endif
#ifndef TX_EDGE                         /* run.py defines them from migrate/tx.c and rx.c */
#define TX_EDGE(from, to) true
#define RX_EDGE(from, to) true
#endif

/* A's machine; OFF: there is none. */
#define OFF          0
#define TX_HELLO     1
#define TX_VALIDATE  2
#define TX_DISKS     3
#define TX_PRECOPY   4
#define TX_STOPPING  5
#define TX_STOPPED   6
#define TX_IN_DOUBT  7
#define TX_RELEASED  8
#define TX_FAILED    9
/* B's machines */
#define RX_HELLO      1
#define RX_WAIT_OFFER 2
#define RX_LOADING    3
#define RX_LOADED     4
#define RX_PREPARED   5
#define RX_COMMITTED  6
#define RX_RUNNING    7
#define RX_DROPPED    8
#define RX_ANSWERED   9
/* The guest on a host: not there, arriving, known from the registry after a crash, standing still, running */
#define GONE     0
#define INCOMING 1
#define DOWN     2
#define STILL    3
#define RUN      4
/* Verdicts, as in ANSWER.  In B's registry also: it is arriving, and does not run yet */
#define UNKNOWN 0
#define RUNS    1
#define REFUSED 2
#define ARRIVES 3
/* A's registry: the guest is A's; 1 .. JOBS: it may be B's since that job; it is B's */
#define A_OWN  0
#define A_LEFT (JOBS + 1)

/* What B's volume has: there is none; too little; all, but some of it in the cache of B's disk only; all */
#define NONE_YET 0
#define PARTIAL  1
#define CACHED   2
#define WHOLE    3
/* A request to B's volume; what B's service loop still has to do with a volume */
#define WRITE   1
#define FLUSH   2
#define KEEP    1
#define DELETE  2

#define NO LINKS                        /* no link */

mtype = { OFFER, ACCEPT, STATE, PREPARED, COMMIT, RUNNING, FAIL, QUERY, ANSWER, DISK, DISKED }

/* A link: two queues of (record, id or for ANSWER the verdict).  cut: what is sent is lost from now on.  Its end at A
 * is open while link names it, its end at B while rx[] is not OFF. */
chan ab[LINKS] = [2] of { mtype, byte };
chan ba[LINKS] = [2] of { mtype, byte };
bool cut_ab[LINKS], cut_ba[LINKS];

byte tx = OFF, job, link = NO;          /* job: number of attempts so far */
byte cur;                               /* id of the attempt that tx is about */
bool state_sent, asking, regretted; /* STOPPED: waiting for PREPARED; IN_DOUBT: QUERY is out; STOPPED was undone once */
byte rx[LINKS], rx_job[LINKS];          /* rx_job: 0 before OFFER */
byte verdict[JOBS + 1];                 /* B's memory of ids; what B has put into its registry, if it has one */
byte disk_b[JOBS + 1];                  /* what is durable there */
byte want_a, disk_a;                    /* A's registry: what was put last, what is durable */
byte guest_a = RUN, guest_b = GONE;
bool up_a = true, up_b = true, calm;
byte crashes_a, crashes_b;
bool ran_b;                             /* the guest has run on B: A's volume has not what it wrote there */
bool ran;                               /* the guest of the last attempt has run on B */
bool lost;                              /* a host crashed that held the guest, and the other one does not run it */
byte find;                              /* A wants to start its own copy and asks B for it: FIND or FOUND on its way */
#define NOT_ASKED 0
#define ASKED     1
#define IS_NONE   2
#define IS_THERE  3
bool vol_a = true, kept_a;              /* A's volume is there; the operator said --keep */
bool del_a;                             /* A's service loop has to delete it */
byte vol_b[JOBS + 1], todo_b[JOBS + 1]; /* B's volume for a job; what is to be done with it */
bool tagged[JOBS + 1];                  /* it has the tag of its job */
byte busy[JOBS + 1];                    /* a request of the job is under way at B's disk: its link + 1 */
byte out_a, sync_a;                     /* A's request without an answer; what B is known to have: WRITE, FLUSH */
bool wrote;                             /* the guest has written to both */
bool amnesia[JOBS + 1];                 /* B forgot about the job after STATE had been sent, or may have */

/* The guest is this host's: it runs it, or may start it. */
#define A_OWNS (guest_a == RUN || (guest_a == DOWN && tx == OFF))
#define B_OWNS (guest_b == RUN || guest_b == DOWN)
#define B_DISK_RUNS (disk_b[1] == RUNS || disk_b[JOBS] == RUNS)
#define A_DURABLE (!REG_A || disk_a == want_a)
#define B_DURABLE (!REG_B || (disk_b[1] == verdict[1] && disk_b[JOBS] == verdict[JOBS]))
/* The guest has a disk where it is, and there is no other. */
#define AT_WORK_B (todo_b[1] || todo_b[JOBS] || tagged[1] || tagged[JOBS])
#define B_COMPLETE (vol_b[1] == WHOLE || vol_b[JOBS] == WHOLE)
#define TIDY_A (vol_a && !vol_b[1] && !vol_b[JOBS])
#define TIDY_B ((!vol_a || kept_a) && !AT_WORK_B && B_COMPLETE && (JOBS == 1 || !vol_b[1] || !vol_b[JOBS]))
#define TIDY   (!VOLUMES || (A_OWNS && TIDY_A) || (B_OWNS && TIDY_B))
#define settled (TIDY && tx == OFF && guest_b != INCOMING && (A_OWNS != B_OWNS || (lost && !(REG_A && REG_B))))

#ifdef CHECK_ENDS
ltl ends  { [] (calm -> <> settled) }
#endif
#ifdef CHECK_ALONE
ltl alone { [] (calm -> <> (settled || amnesia[cur])) }
#endif

inline volumes_check()
{
    assert(!VOLUMES || guest_b != RUN || !(busy[1] || busy[JOBS]));                     /* never two writers */
    /* never on what is incomplete */
    assert(!VOLUMES || guest_b != RUN || B_COMPLETE);
    assert(!VOLUMES || vol_a || !(A_OWNS || tx != OFF));                                /* in doubt, A's stays */
    assert(!VOLUMES || (vol_a && !ran_b) || B_COMPLETE)                                 /* always a complete copy */
}

inline guest_check()
{
    assert(!(guest_a == RUN && guest_b == RUN));                        /* never two runners */
    assert(guest_a >= STILL || guest_b == RUN || lost);                 /* never lost while the hosts live */
    assert(!(A_OWNS && B_OWNS));                                        /* never two that would start it */
    volumes_check();
    if
    :: REG_A && REG_B ->                                                /* a power cut of both, now */
        assert(!(disk_a == A_OWN && B_DISK_RUNS));
        assert(disk_a != A_LEFT || B_DISK_RUNS)
    :: else
    fi
}

/* ---- disks ---- */

inline a_put(x)                         /* begin the write */
{
    if
    :: REG_A -> want_a = x
    :: else
    fi
}

inline b_land()                         /* what was put is durable */
{
    disk_b[1] = verdict[1];
    disk_b[JOBS] = verdict[JOBS]
}

inline a_run()                          /* the guest writes to A's volume alone from now on */
{
    guest_a = RUN;
    lost = false;
    assert(!VOLUMES || (vol_a && !ran_b));                              /* incomplete */
    vol_b[1] = (vol_b[1] -> PARTIAL : NONE_YET);
    vol_b[JOBS] = (vol_b[JOBS] -> PARTIAL : NONE_YET)
}

inline a_volume_left()                  /* the guest is B's: A's volume is to be deleted */
{
    kept_a = kept_a || (VOLUMES && crashes_a && !A_LISTS);
    del_a = VOLUMES && vol_a && !kept_a
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
    :: link != NO && !cut_ab[link] -> assert(len(ab[link]) < 2); ab[link] ! rec, cur
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

#define A_QUIET (!VOLUMES || (!out_a && sync_a == FLUSH))               /* both volumes are equal, and B's is flushed */

inline tx_goto(s) { assert(TX_EDGE(tx, s)); tx = s }

inline job_end()
{
    a_close();
    tx = OFF;
    state_sent = false; asking = false; regretted = false;
    out_a = 0; sync_a = 0; wrote = false;
    amnesia[cur] = amnesia[cur] && REG_A   /* A's registry may still say that it is in doubt */
}

inline tx_fail()                        /* the guest is A's.  a_send(FAIL) before it where the peer is told */
{
    if
    :: guest_a == DOWN                                                  /* its memory went with a crash */
    :: else -> a_run()
    fi;
    a_put(A_OWN);
    guest_check();
    assert(!ran);                                                       /* never back in time */
    tx_goto(TX_FAILED);
    job_end()
}

inline tx_release()
{
    tx_goto(TX_RELEASED);
    guest_a = GONE;
    a_volume_left();
    a_put(A_LEFT);
    job_end();
    guest_check()
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
    :: rec == ACCEPT ->                                     /* T a_accept: VALIDATE -> PRECOPY, VALIDATE -> DISKS */
        assert(tx == TX_VALIDATE && arg == cur);
        if
        :: VOLUMES -> tx_goto(TX_DISKS)
        :: else -> tx_goto(TX_PRECOPY)
        fi
    :: rec == DISKED ->                                                     /* T a_disked: a request is done */
        assert(out_a && arg == cur);
        sync_a = out_a;
        out_a = 0
    :: rec == PREPARED ->
        assert(tx == TX_STOPPED && state_sent && arg == cur);
        if
        :: true -> a_send(COMMIT);                                  /* T a_commit: STOPPED -> IN_DOUBT */
           tx_goto(TX_IN_DOUBT)
        :: true -> a_send(FAIL); tx_fail()                          /* T a_digest: STOPPED -> FAILED */
        fi
    :: rec == RUNNING ->                                                    /* T a_running: IN_DOUBT -> RELEASED */
        assert(tx == TX_IN_DOUBT && !asking && arg == cur);
        tx_release()
    :: rec == FAIL && (arg == cur || tx <= TX_VALIDATE) ->                  /* T a_refused: any -> FAILED */
        tx_fail()
    :: rec == FAIL && arg != cur && tx > TX_VALIDATE ->      /* T a_broke: IN_DOUBT -> IN_DOUBT, the link is given up */
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
    :: atomic { up_a && tx == OFF && guest_a == DOWN ->     /* after a power cut, what the registry says is A's own */
        a_run();
        guest_check() }
    :: atomic { up_b && guest_b == DOWN ->
        guest_b = RUN;
        lost = false;
        guest_check() }
    :: atomic { find == IS_NONE && up_a && tx == OFF && guest_a == GONE ->    /* T a_found_none: FOUND none: start it */
        find = NOT_ASKED;
        a_run();
        a_put(A_OWN);
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
        cur = job;
        ran = false;
        p = PLACE;
        if
        :: up_b && p != NO -> tx = TX_HELLO; tx_open()
        :: !up_b || p == NO -> skip                                        /* no link: the job ends with nothing done */
        fi;
        p = 0 }
    :: atomic { tx == TX_HELLO -> tx_goto(TX_VALIDATE); a_send(OFFER) }     /* T a_offer: HELLO -> VALIDATE */
    :: atomic { tx == TX_DISKS && !out_a && !sync_a -> out_a = WRITE; a_send(DISK) } /* T a_copy: DISKS -> DISKS */
    :: atomic { tx == TX_DISKS && sync_a -> tx_goto(TX_PRECOPY) }           /* T a_in_sync: DISKS -> PRECOPY */
    :: atomic { VOLUMES && tx == TX_PRECOPY && !out_a && !wrote ->          /* T a_write: the guest writes, to both */
        wrote = true;
        out_a = WRITE;
        sync_a = 0;
        vol_b[cur] = (vol_b[cur] -> PARTIAL : NONE_YET);
        a_send(DISK) }
    /* T a_flush: */
    :: atomic { VOLUMES && tx == TX_STOPPING && !out_a && sync_a != FLUSH -> out_a = FLUSH; a_send(DISK) }
    :: atomic { tx == TX_PRECOPY -> tx_goto(TX_STOPPING);                   /* T a_stop: PRECOPY -> STOPPING */
        a_put(cur) }                                                       /* the guest runs on until it is durable */
    /* T a_stopped: STOPPING -> STOPPED */
    :: atomic { tx == TX_STOPPING && A_DURABLE && A_QUIET -> tx_goto(TX_STOPPED);
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

inline disk_done(j)                     /* B's disk has done the request of job j.  A may have given up the copy */
{
    busy[j] = 0;
    if
    :: cur == j && (out_a | sync_a) == WRITE -> vol_b[j] = CACHED
    :: cur == j && (out_a | sync_a) >= FLUSH -> vol_b[j] = WHOLE
    :: else
    fi
}

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
    :: rx[l] >= RX_LOADING || (rx[l] == RX_WAIT_OFFER && rx_job[l]) ->
        assert(guest_b != GONE);                                            /* what it drops is there, and its own */
        guest_b = GONE;
        todo_b[rx_job[l]] = (vol_b[rx_job[l]] -> DELETE : 0);
        guest_check()
    :: else
    fi;
    rx_over(l)
}

inline rx_settle(i, id)
{
    /* the code says FAIL too, to an end that A has closed */
    if
    :: rx[i] != OFF && rx[i] != RX_COMMITTED && rx_job[i] == id -> assert(cut_ba[i]); rx_fail(i)
    :: else
    fi
}

inline rx_run(l)                                                            /* T b_run: COMMITTED -> RUNNING */
{
    assert(guest_b != GONE);                                                /* what it prepared is still there */
    rx_goto(l, RX_RUNNING);
    guest_b = RUN;
    ran = true;
    ran_b = true;
    lost = false;
    todo_b[rx_job[l]] = (VOLUMES -> KEEP : 0);
    guest_check();
    b_send(l, RUNNING, rx_job[l]);
    b_close(l)
}

inline rx_record(l)
{
    ab[l] ? rec, id;
    if
    :: rec == OFFER ->
        assert(rx[l] == RX_WAIT_OFFER);
        assert(verdict[id] == (rx_job[l] && REG_B -> ARRIVES : UNKNOWN));   /* an id is offered once (the code refuses a
                                                                               second time) */
        if
        :: rx_job[l] || (!REG_B && guest_b == GONE) ->              /* T b_admit: WAIT_OFFER -> LOADING */
            rx_job[l] = id;
            guest_b = INCOMING;
            guest_check();
            rx_goto(l, RX_LOADING);
            b_send(l, ACCEPT, id)
        :: VOLUMES && rx_job[l] -> b_send(l, FAIL, id); rx_fail(l)  /* T b_no_room: WAIT_OFFER -> DROPPED */
        :: !rx_job[l] ->                                            /* T b_refuse: WAIT_OFFER -> DROPPED */
            rx_job[l] = id;
            b_send(l, FAIL, id);
            rx_over(l)
        fi
    :: rec == DISK ->                                                       /* T b_disk: a request begins */
        assert(rx[l] == RX_LOADING && id == rx_job[l]);
        busy[id] = l + 1
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
    :: rec == COMMIT ->                                                     /* T b_commit: PREPARED -> COMMITTED */
        assert(rx[l] == RX_PREPARED && id == rx_job[l]);
        verdict[id] = RUNS;
        rx_goto(l, RX_COMMITTED);
        if
        :: REG_B
        :: else -> rx_run(l)                                                /* there is nothing to wait for */
        fi
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

/* Not yet: an offer before what it needs is durable; a question while what B would answer is not. */
#define COMMITTING (rx[0] == RX_COMMITTED || rx[1] == RX_COMMITTED || rx[LINKS - 1] == RX_COMMITTED)
#define B_READY(l) (ab[l] ? [DISK, _] -> !busy[rx_job[l]] : B_READY2(l))
#define B_READY2(l) (ab[l] ? [OFFER, _] -> !REG_B || (rx_job[l] && B_DURABLE && B_MADE(l)) || (!rx_job[l] && guest_b != GONE) \
                                       : !(COMMITTING && ab[l] ? [QUERY, _]))

#define B_MADE(l) (!VOLUMES || vol_b[rx_job[l]])

proctype B(byte l)
{
    mtype rec; byte id;
end:do
    :: atomic { rx[l] != OFF && len(ab[l]) > 0 && B_READY(l) -> rx_record(l) }
    :: atomic { REG_B && rx[l] == RX_WAIT_OFFER && !rx_job[l] && guest_b == GONE && ab[l] ? [OFFER, _] ->
        ab[l] ? <rec, id>;
        rx_job[l] = id;
        guest_b = INCOMING;
        verdict[id] = ARRIVES;
        rec = 0; id = 0;
        guest_check() }
    :: atomic { VOLUMES && rx[l] == RX_WAIT_OFFER && rx_job[l] && B_DURABLE && !vol_b[rx_job[l]] ->     /* T b_make: */
        vol_b[rx_job[l]] = PARTIAL;
        tagged[rx_job[l]] = true }
    :: atomic { rx[l] == RX_LOADING && busy[rx_job[l]] == l + 1 ->
        id = rx_job[l];
        if
        :: true -> disk_done(id);                                           /* T b_disk_done: DISKED */
           b_send(l, DISKED, id)
        :: true -> b_send(l, FAIL, id);                                     /* T b_disk_failed: LOADING -> DROPPED */
           rx_fail(l)
        fi;
        id = 0 }
    :: atomic { rx[l] == RX_COMMITTED && B_DURABLE -> rx_run(l) }
    :: atomic { rx[l] != OFF && rx[l] != RX_COMMITTED && B_MAY_LOSE(l) ->
        if
        :: skip                                                             /* T b_lost: any -> DROPPED */
        :: true -> b_send(l, FAIL, rx_job[l])                               /* T b_timeout: any -> DROPPED */
        fi;
        rx_fail(l) }
    od
}

/* ---- volumes: the service loops, kernel/peers/move_volume.c ---- */

proctype VolumesA()
{
end:do
    :: atomic { up_a && del_a && A_DURABLE ->                                           /* T a_delete: A's volume */
        del_a = false;
        vol_a = false;
        guest_check() }
    :: atomic { del_a -> del_a = false; kept_a = true }                     /* --keep */
    od
}

proctype VolumesB(byte j)
{
end:do
    /* T b_disk_late: */
    :: atomic { busy[j] && (rx[busy[j] - 1] != RX_LOADING || rx_job[busy[j] - 1] != j) -> disk_done(j) }
    :: atomic { up_b && todo_b[j] == KEEP ->                                /* T b_keep: the tag goes */
        tagged[j] = false;
        todo_b[j] = 0 }
    /* T b_delete: B's volume */
    :: atomic { up_b && todo_b[j] == DELETE && !busy[j] && guest_b != RUN ->
        vol_b[j] = NONE_YET;
        tagged[j] = false;
        todo_b[j] = 0;
        guest_check() }
    od
}

/* ---- what happens to them ---- */

/* A may have to ask about the job of which B forgets */
#define FORGETS (tx == TX_IN_DOUBT || state_sent || (REG_A && (tx != OFF || disk_a != A_OWN || want_a != A_OWN)))

inline crash_a()
{
    if
    :: guest_a >= STILL && guest_b != RUN -> lost = true
    :: else
    fi;
    guest_a = GONE;
    tx = OFF;                           /* no word to anyone */
    find = NOT_ASKED;
    job_end();
    del_a = false;
    if
    :: disk_a = want_a                  /* the last write is durable */
    :: want_a = disk_a                  /* or never was made */
    fi;
    up_a = false;
    crashes_a++;
    guest_check()
}

inline boot_a()                         /* without a registry it has no guest and knows of no job */
{
    up_a = true;
    if
    :: REG_A && disk_a == A_OWN -> guest_a = DOWN
    :: REG_A && disk_a != A_OWN && disk_a != A_LEFT ->
        guest_a = DOWN; cur = disk_a; tx = TX_IN_DOUBT                      /* T a_recall: a machine, IN_DOUBT */
    :: else -> skip                     /* it has no guest */
    fi;
    if
    :: REG_A && disk_a == A_LEFT -> a_volume_left()
    :: else
    fi;
    guest_check()
}

inline crash_b()
{
    if
    :: !REG_B && FORGETS -> amnesia[1] = true; amnesia[JOBS] = true
    :: else
    fi;
    for (i : 0 .. LINKS - 1) {
        if
        :: rx[i] != OFF -> b_close(i)
        :: else
        fi
    }
    if
    :: REG_B -> b_land()
    :: true                             /* the last write is not made; without a registry, none ever was */
    fi;
    if                                  /* A's copy may still be there, and be freed by what B says or has said */
    :: guest_b == RUN || B_DISK_RUNS -> lost = true
    :: else
    fi;
    for (i : 0 .. JOBS) {               /* what was arriving never ran: it would be recorded */
        if
        :: disk_b[i] == ARRIVES -> disk_b[i] = REFUSED
        :: else
        fi;
        verdict[i] = disk_b[i];
        busy[i] = 0;
        todo_b[i] = 0;
        vol_b[i] = (vol_b[i] == CACHED -> PARTIAL : vol_b[i])
    }
    i = 0;
    guest_b = GONE;
    up_b = false;
    crashes_b++;
    guest_check()
}

inline boot_b()
{
    up_b = true;
    if
    :: B_DISK_RUNS -> guest_b = DOWN
    :: else
    fi;
    for (i : 1 .. JOBS) {               /* T b_judge: volumes with a tag */
        if
        :: tagged[i] && disk_b[i] != UNKNOWN -> todo_b[i] = (disk_b[i] == RUNS -> KEEP : DELETE)
        :: else
        fi
    }
    i = 0;
    guest_check()
}

proctype Env()
{
    byte i;
end:do
    :: atomic { up_a && !A_DURABLE -> disk_a = want_a; guest_check() }      /* a write becomes durable */
    :: atomic { up_b && !B_DURABLE -> b_land(); guest_check() }
    :: atomic { !calm && up_a && crashes_a < CRASHES_A -> crash_a() }
    :: atomic { !up_a -> boot_a() }
    :: atomic { !calm && up_b && crashes_b < CRASHES_B -> crash_b() }
    :: atomic { !up_b -> boot_b() }
    :: atomic { !calm && up_a && up_b -> calm = true }
    :: atomic { !calm && tx != OFF && tx < TX_IN_DOUBT ->                /* T a_cancel: any before IN_DOUBT -> FAILED */
        a_send(FAIL);
        tx_fail() }
    :: atomic { !calm ->
        select(i : 0 .. LINKS - 1);
        if
        :: !FREE(i) && !cut_ab[i] -> drain(ab[i]); cut_ab[i] = true
        :: !FREE(i) && !cut_ba[i] -> drain(ba[i]); cut_ba[i] = true
        /* T b_cancel: any -> DROPPED */
        :: rx[i] != OFF && rx[i] != RX_COMMITTED -> b_send(i, FAIL, rx_job[i]); rx_fail(i)
        :: else
        fi;
        i = 0 }
    /* 64 other jobs have pushed this one out of B's list; a registry keeps what it says of a guest that is here */
    :: atomic { !calm && job && verdict[job] != UNKNOWN && (!REG_B || verdict[job] == REFUSED) &&
                !vol_b[job] ->
        verdict[job] = UNKNOWN;
        amnesia[job] = amnesia[job] || (FORGETS) }
    od
}

/* A person who looks at B before deciding: B has no such guest, neither running nor stopped nor *arriving*; or B has it.
 * A host without a registry that is switched off has none. */
proctype Operator()
{
end:do
    :: atomic { tx == TX_IN_DOUBT && guest_b == GONE && (up_b || !REG_B) ->
        ran = false;
        tx_fail() }                                                         /* T a_resolve_here: IN_DOUBT -> FAILED */
    :: atomic { tx == TX_IN_DOUBT && B_OWNS -> tx_release() }              /* T a_resolve_there: IN_DOUBT -> RELEASED */
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
        if
        :: VOLUMES -> run VolumesA(); run VolumesB(1); if :: JOBS > 1 -> run VolumesB(JOBS) :: else fi
        :: else
        fi;
#ifndef CHECK_ALONE
        run Operator()
#endif
    }
}
