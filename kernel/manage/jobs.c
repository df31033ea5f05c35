/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/jobs.c - see jobs.h. */
#include "kernel/manage/jobs.h"

#include <stdarg.h>
#include <stdio.h>
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/events.h"

struct api_job {
    unsigned number; /* 0: this place was never used */
    bool running;
    enum hv_err err; /* once it has ended */
    uint64_t begin_us, end_us, done, total;
    uint64_t rate, rate_us, rate_done; /* bytes per second, of the last sample; when it began, and with which `done` */
    const char *phase;                 /* NULL: none is told */
    char by[CONFIG_NAME_LEN + 8], what[128], text[320];
};
#define RATE_US 1000000u /* of one sample */
static struct api_job jobs[JOBS_MAX];
static unsigned last_number;

/* The place of the oldest that does not run. */
static struct api_job *place_find(void)
{
    struct api_job *best = NULL;
    for (struct api_job *j = jobs; j < jobs + JOBS_MAX; j++)
        if (!j->running && (!best || j->number < best->number))
            best = j;
    return best;
}

bool jobs_full(void) { return !place_find(); }

struct api_job *job_begin(const char *by, const char *what_fmt, ...)
{
    struct api_job *j = place_find();
    va_list ap;
    if (!j)
        return NULL;
    *j = (struct api_job){ .number = ++last_number, .running = true, .begin_us = clock_us() };
    snprintf(j->by, sizeof(j->by), "%s", by);
    va_start(ap, what_fmt);
    vsnprintf(j->what, sizeof(j->what), what_fmt, ap);
    va_end(ap);
    log_info("job", "%s: %s (job %u)", by, j->what, j->number);
    events_add(EVENTS_JOB, "", "running", "job %u of %s: %s", j->number, by, j->what);
    return j;
}

void job_drop(struct api_job *j)
{
    ASSERT(j->running);
    events_add(EVENTS_JOB, "", "failed", "job %u of %s: %.80s was refused", j->number, j->by, j->what);
    j->running = false;
    j->number = 0;
}

void job_progress(struct api_job *j, uint64_t done, uint64_t total)
{
    uint64_t now = clock_us(), us = now - j->rate_us;
    ASSERT(j->running);
    if (!j->total || done < j->rate_done) { /* the first of a phase */
        j->rate = 0;
        j->rate_us = now;
        j->rate_done = done;
    } else if (us >= RATE_US) {
        j->rate = (done - j->rate_done) * 1000000 / us;
        j->rate_us = now;
        j->rate_done = done;
    }
    j->done = done;
    j->total = total;
}

void job_phase(struct api_job *j, const char *phase)
{
    ASSERT(j->running);
    j->phase = phase;
}

void job_say(struct api_job *j, const char *text)
{
    ASSERT(j->running);
    snprintf(j->text, sizeof(j->text), "%s", text);
}

void job_end(struct api_job *j, enum hv_err e, const char *text)
{
    ASSERT(j->running);
    j->running = false;
    j->err = e;
    j->end_us = clock_us();
    snprintf(j->text, sizeof(j->text), "%s", text);
    if (e)
        log_error("job", "%s: %s failed: %s (job %u)", j->by, j->what, j->text, j->number);
    else
        log_info("job", "%s: %s is done (job %u)", j->by, j->what, j->number);
    events_add(EVENTS_JOB, "", e ? "failed" : "done", "job %u of %s: %.80s %s%s%s", j->number, j->by, j->what,
               e ? "failed" : "is done", j->text[0] ? ": " : "", j->text);
}

unsigned job_number(const struct api_job *j) { return j->number; }

/* ---- in the management interface ---- */

void job_answer_begin(struct api_call *c, const struct api_job *j)
{
    c->status = 202;
    snprintf(c->extra, sizeof(c->extra), "Location: /v1/jobs/%u\r\n", j->number);
    json_object(&c->out, NULL);
    json_num(&c->out, "job", j->number);
}

void job_answer(struct api_call *c, const struct api_job *j)
{
    job_answer_begin(c, j);
    json_end(&c->out);
}

/* How fast is it, and when will it have done all bytes? */
static void put_rate(struct json *o, const struct api_job *j)
{
    uint64_t us = clock_us() - j->rate_us, rate = j->rate, left = j->total > j->done ? j->total - j->done : 0;
    if (!rate && us && j->done > j->rate_done)
        rate = (j->done - j->rate_done) * 1000000 / us;
    if (j->phase)
        json_str(o, "phase", j->phase);
    json_num(o, "bytes_per_s", rate);
    json_num(o, "eta_us", rate ? left / rate * 1000000 + left % rate * 1000000 / rate : 0);
}

static void put_api_job(struct json *o, const struct api_job *j)
{
    json_object(o, NULL);
    json_num(o, "job", j->number);
    json_str(o, "what", j->what);
    json_str(o, "asked_by", j->by);
    json_str(o, "state", j->running ? "running" : j->err ? "failed" : "done");
    json_num(o, "elapsed_us", (j->running ? clock_us() : j->end_us) - j->begin_us);
    json_num(o, "bytes_done", j->done);
    json_num(o, "bytes", j->total);
    if (j->running)
        put_rate(o, j);
    else
        json_str(o, "code", j->err ? hv_err_name(j->err) : "HV_OK");
    if (!j->running || j->text[0])
        json_str(o, "message", j->text);
    json_end(o);
}

/* The newest job that is older than number `than`; NULL: none. */
static const struct api_job *job_before(unsigned than)
{
    const struct api_job *best = NULL;
    for (const struct api_job *j = jobs; j < jobs + JOBS_MAX; j++)
        if (j->number && j->number < than && (!best || j->number > best->number))
            best = j;
    return best;
}

void api_job_list(struct api_call *c)
{
    json_object(&c->out, NULL);
    json_array(&c->out, "jobs");
    for (const struct api_job *j = job_before(UINT32_MAX); j; j = job_before(j->number))
        put_api_job(&c->out, j);
    json_end(&c->out);
    json_end(&c->out);
}

void api_job_show(struct api_call *c)
{
    unsigned number = 0;
    const char *p = c->arg;
    for (; *p >= '0' && *p <= '9' && number < 100000000; p++)
        number = number * 10 + (unsigned)(*p - '0');
    const struct api_job *j = *p ? NULL : job_before(number + 1);
    if (j && j->number == number)
        put_api_job(&c->out, j);
    else
        api_fail(c, HV_E_NOENT, 0, "no job has the number %s; the last 64 are kept, until the host restarts", c->arg);
}
