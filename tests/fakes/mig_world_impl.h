/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/mig_world_impl.h - interface between mig_world.c (the hosts) and mig_strike.c (the faults). */
#ifndef GODWIT_TESTS_MIG_WORLD_IMPL_H
#define GODWIT_TESTS_MIG_WORLD_IMPL_H

#include "tests/fakes/mig_world.h"

extern const struct mig_mem a_mem, b_mem; /* the two hosts' memory for the engine */
void world_memory_good(void);
int64_t world_memory_used(void);

bool pipe_put(struct pipe *p, struct mig_fifo *from, size_t max, uint64_t now);
void pipe_drop(struct pipe *p);
/** A connection to B.  stranger: from another peer than A.  NULL: B has no place. */
struct conn *conn_open(struct world *w, bool stranger);
void a_close(struct world *w);
void b_close(struct conn *c);

/** Strike with each fault that waits for a state of A's or B's machine, or for bytes, and whose time has come. */
void strike_at_start(struct world *w);
void strike_at_state(struct world *w, int where);
void strike_at_bytes(struct world *w);
/** The stranger's turn on its connection; a babbling B's turn, always false. */
void stranger_turn(struct world *w, struct conn *c);
bool babble_turn(struct world *w, struct conn *c);
void world_forget(struct world *w);
/** The id of A's n-th attempt. */
struct mig_id world_id(const struct world *w, unsigned n);
/* mig_disk.c: begin a write; is all durable?; a turn of both disks; a crash; what a booted host finds */
void a_record(struct world *w, unsigned what);
void b_record_put(struct world *w, unsigned job, enum record what);
bool a_durable(const struct world *w);
bool b_durable(const struct world *w);
void disks_turn(struct world *w);
void a_disk_crash(struct world *w);
void b_disk_crash(struct world *w);
unsigned a_disk_boot(struct world *w);
void b_disk_boot(struct world *w);
/** Count a transition by its name in docs/handoff.md. */
void world_took(const char *name);

#endif
