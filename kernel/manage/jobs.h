/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/jobs.h - what the host still does for a client whose request it has answered: GET /v1/jobs.
 *
 * The service pCPU never blocks.  So an action that waits for a disk begins a job, and its handler answers at once:
 *
 *     struct api_job *j = job_begin(c->by, "create volume %s/%s", group, name);
 *     if (!j) { api_fail(c, HV_E_BUSY, 0, JOBS_FULL); return; }
 *     ... begin the action, which calls job_progress(j, done, total), and job_end(j, e, why) once, from the service
 *     loop; job_drop(j) if it is refused at once ...
 *     job_answer(c, j);                                202 {"job": N}, and Location: /v1/jobs/N
 *
 * Client: ask for /v1/jobs/N until its state is no longer "running".  Jobs are in memory, and end with the host: an
 * action must leave either its old or its new state on the disks, whenever the power goes.  Moves have jobs of their
 * own (kernel/peers/migration.h).  Service pCPU only. */
#ifndef GODWIT_KERNEL_MANAGE_JOBS_H
#define GODWIT_KERNEL_MANAGE_JOBS_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define JOBS_MAX  64u /* are remembered; a new one takes the place of the oldest that has ended */
#define JOBS_FULL "64 jobs are running here, which is the limit; GET /v1/jobs lists them"

struct api_call;
struct api_job;

/** A job that runs until job_end().  by: as in operate.h.  NULL: JOBS_MAX are running.  It is logged. */
HV_MUST_CHECK struct api_job *job_begin(const char *by, const char *what_fmt, ...) HV_PRINTF(2, 3);
unsigned job_number(const struct api_job *j);
/** So many bytes of total are done; total 0: not known.  Rate and remaining time are estimated from this. */
void job_progress(struct api_job *j, uint64_t done, uint64_t total);
/** The step that it is in: a word such as "copying", which stays valid. */
void job_phase(struct api_job *j, const char *phase);
/** What it waits for, for a person; "": nothing.  text of at most 319 bytes is kept. */
void job_say(struct api_job *j, const char *text);
/** The outcome, once: HV_OK, or an error.  text: for a person; of an error its cause and fix.  j is not used any more
 *  by the caller.  It is logged. */
void job_end(struct api_job *j, enum hv_err e, const char *text);
/** The action was refused before it began: j never was. */
void job_drop(struct api_job *j);
/** Would job_begin() fail now? */
bool jobs_full(void);
/** Answer c's request: the action goes on as job j.  j may have ended meanwhile.  begin: the answer's object stays open
 *  for more. */
void job_answer(struct api_call *c, const struct api_job *j);
void job_answer_begin(struct api_call *c, const struct api_job *j);

#endif
