/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/manage/jobs.c kernel/lib/json.c kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c
 *   tests/fakes/log.c */
/* tests/unit/test_jobs.c - what a client sees of a job: while it runs, when it is done or has failed, and when there
 * are too many. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/events.h"
#include "kernel/manage/jobs.h"

static uint64_t now = 1000;
static char text[JOBS_MAX * 1200], failed[200];
static struct api_call call;

uint64_t clock_us(void) { return now; }
void events_add(enum events_kind k, const char *subject, const char *what, const char *fmt, ...)
{
    (void)k, (void)subject, (void)what, (void)fmt;
}
void api_fail(struct api_call *c, enum hv_err e, unsigned status, const char *fmt, ...)
{
    va_list ap;
    (void)c;
    (void)status;
    assert_int_equal(e, HV_E_NOENT);
    va_start(ap, fmt);
    vsnprintf(failed, sizeof(failed), fmt, ap);
    va_end(ap);
}

static const char *got(void (*handler)(struct api_call *), const char *arg)
{
    json_init(&call.out, text, sizeof(text));
    snprintf(call.arg, sizeof(call.arg), "%s", arg);
    failed[0] = '\0';
    handler(&call);
    if (failed[0])
        return failed;
    assert_true(json_good(&call.out) && call.out.text.len < sizeof(text));
    text[call.out.text.len] = '\0';
    return text;
}

static void test_jobs(void **state)
{
    (void)state;
    struct api_job *j = job_begin("client me", "create volume %s/%s", "godwit", "web");
    now += 500;
    job_progress(j, 4096, 8192);
    assert_string_equal(got(api_job_show, "1"),
                        "{\"job\":1,\"what\":\"create volume godwit/web\",\"asked_by\":\"client me\",\"state\":"
                        "\"running\",\"elapsed_us\":500,\"bytes_done\":4096,\"bytes\":8192,\"bytes_per_s\":0,"
                        "\"eta_us\":0}");
    json_init(&call.out, text, sizeof(text));
    job_answer(&call, j);
    assert_int_equal(call.status, 202);
    assert_string_equal(call.extra, "Location: /v1/jobs/1\r\n");
    job_end(j, HV_E_IO, "nvme0: gone");
    now += 100;
    assert_non_null(strstr(got(api_job_show, "1"), "\"failed\",\"elapsed_us\":500,\"bytes_done\":4096,\"bytes\":8192,"
                                                   "\"code\":\"HV_E_IO\",\"message\":\"nvme0: gone\""));
    job_drop(job_begin("x", "refused"));
    assert_null(strstr(got(api_job_list, ""), "refused"));
    job_end(job_begin("x", "y"), HV_OK, "the volume is there");
    assert_non_null(strstr(got(api_job_list, ""), "{\"jobs\":[{\"job\":3,"));
    assert_non_null(strstr(text, "\"done\""));
    assert_non_null(strstr(text, "},{\"job\":1,"));
    assert_string_equal(got(api_job_show, "4"),
                        "no job has the number 4; the last 64 are kept, until the host restarts");
    (void)got(api_job_show, "1x");
    assert_non_null(strstr(failed, "number 1x"));
}

/* Rate and remaining time: from the first bytes on, then of the last second; each phase begins anew. */
static void test_rate(void **state)
{
    (void)state;
    struct api_job *j = job_begin("x", "move");
    char number[16];
    snprintf(number, sizeof(number), "%u", job_number(j));
    job_phase(j, "creating");
    job_progress(j, 0, 40 * MIB);
    now += 100000;
    job_progress(j, MIB, 40 * MIB);
    assert_non_null(
        strstr(got(api_job_show, number), "\"phase\":\"creating\",\"bytes_per_s\":10485760,\"eta_us\":3900000"));
    now += 900000;
    job_progress(j, 20 * MIB, 40 * MIB);
    now += 100000;
    assert_non_null(strstr(got(api_job_show, number), "\"bytes_per_s\":20971520,\"eta_us\":1000000"));
    job_phase(j, "copying");
    job_progress(j, 0, 40 * MIB);
    assert_non_null(strstr(got(api_job_show, number), "\"copying\",\"bytes_per_s\":0,\"eta_us\":0"));
    now += 1000000;
    job_progress(j, 10 * MIB, 40 * MIB);
    now += 1000000;
    job_progress(j, 9 * MIB, 40 * MIB); /* a guest that writes undoes some */
    assert_non_null(strstr(got(api_job_show, number), "\"bytes_per_s\":0,\"eta_us\":0"));
    job_end(j, HV_OK, "moved");
    assert_null(strstr(got(api_job_show, number), "eta_us"));
}

/* Those that have ended make room, the oldest first; those that run never do, however old. */
static void test_too_many(void **state)
{
    (void)state;
    struct api_job *j[JOBS_MAX];
    for (unsigned i = 0; i < JOBS_MAX; i++)
        assert_non_null(j[i] = job_begin("x", "number %u", i)); /* job i + 4 */
    assert_null(job_begin("x", "one more"));
    assert_non_null(strstr(got(api_job_list, ""), "\"number 63\""));
    job_end(j[5], HV_OK, "");
    job_end(j[4], HV_OK, "");
    j[4] = job_begin("x", "one more");
    assert_non_null(strstr(got(api_job_show, "8"), "number 8"));
    assert_non_null(strstr(got(api_job_show, "9"), "\"done\""));
    assert_non_null(strstr(got(api_job_show, "4"), "\"running\""));
    assert_non_null(strstr(got(api_job_list, ""), "{\"jobs\":[{\"job\":68,\"what\":\"one more\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_jobs), cmocka_unit_test(test_too_many),
                                        cmocka_unit_test(test_rate) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
