/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/events.h - what happened on this host: states of guests and moves, disks, peers, and who changed what.
 *
 * Events are numbered from 1 since the host's start.  The last EVENTS_MAX are kept, in memory; a reader asks for those
 * from a number on, and learns from events_first() that it has missed some.  Service pCPU only. */
#ifndef GODWIT_KERNEL_MANAGE_EVENTS_H
#define GODWIT_KERNEL_MANAGE_EVENTS_H

#include "kernel/config/config.h"
#include "kernel/lib/types.h"

#define EVENTS_MAX 512u

enum events_kind {
    EVENTS_HOST,  /* subject: this host */
    EVENTS_GUEST, /* a guest; what: its state, or "reset" */
    EVENTS_MOVE,  /* a guest; what: the state of its move, as in GET /v1/migrations */
    EVENTS_DISK,  /* a guest; what: "lost", "back"; of a disk's move "moving", "moved", "stays" */
    EVENTS_PEER,  /* a peer; what: "reachable", "unreachable" */
    EVENTS_JOB,   /* ""; what: "running", "done", "failed": GET /v1/jobs */
    EVENTS_AUDIT, /* a client, or the console; what: "done", "refused" */
};
struct happened {
    uint64_t number, at_us, wall_ns; /* at_us: clock_us() */
    enum events_kind kind;
    char subject[CONFIG_NAME_LEN];
    char what[16];  /* a word for programs */
    char text[240]; /* for people */
};

const char *events_kind_name(enum events_kind k);
void events_add(enum events_kind k, const char *subject, const char *what, const char *fmt, ...) HV_PRINTF(4, 5);
/** Keep and log who changed something.  who: "client NAME from ADDRESS", or the console.  subject: the client's name.
 *  good: it was done. */
void events_audit(const char *subject, const char *who, bool good, const char *fmt, ...) HV_PRINTF(4, 5);
/** The number of the oldest event that is kept, and of the next one. */
uint64_t events_first(void);
uint64_t events_next(void);
const struct happened *events_at(uint64_t number);
/** 16 hex digits that are others after each start of the host: numbers of another start mean nothing. */
const char *events_boot(void);

/** Look for what has happened to guests, moves, disks and peers, and add it.  Part of the service loop. */
void events_watch(void);

#endif
