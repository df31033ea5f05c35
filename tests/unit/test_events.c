/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/manage/events.c kernel/manage/events_watch.c kernel/lib/json.c kernel/lib/text.c
 *   kernel/lib/err.c kernel/lib/print.c kernel/core/vm.c tests/fakes/log.c tests/fakes/service.c */
/* tests/unit/test_events.c - what a client is told of a host: guests, moves, disks, peers, changes; and that it learns
 * what it has missed. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/random.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/events.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/reach.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"

static struct config conf = { .host = { .name = "a" }, .peers = { { .name = "b" } }, .n_peers = 1 };
const struct config *host_config = &conf;
static uint64_t now = 1;
static struct vm web = { .config = { .name = "web" } };
static struct vm *slot0 = &web;
static struct job jobs[2];
static unsigned n_jobs;
static enum reach reaches;
static bool waits;

uint64_t clock_us(void) { return now; }
uint64_t clock_wall_ns(void) { return 1700000000000000000 + now * 1000; }
void random_bytes(void *buf, size_t len) { memset(buf, 0xab, len); }
void pcpu_kick(unsigned index) { (void)index; }
void vcpu_kick(struct vcpu *v) { (void)v; }
unsigned vm_slots(void) { return VM_MAX; }
struct vm *vm_at(unsigned i) { return i ? NULL : slot0; }
const struct job *migration_job(unsigned i) { return i < n_jobs ? &jobs[n_jobs - 1 - i] : NULL; }
const struct job *migration_job_numbered(unsigned n) { return n && n <= n_jobs ? &jobs[n - 1] : NULL; }
const char *move_state(const struct job *j) { return j->state == JOB_MOVING ? "moving" : "moved"; }
void reach_want(void) {}
enum reach reach_of(unsigned i) { return i ? REACH_UNKNOWN : reaches; }
bool vm_disk_waiting(const struct vm *vm, char *text, size_t len)
{
    snprintf(text, len, "waits for its disk on %s", vm->config.name);
    return waits;
}

/* ---- a request ---- */

static const char *query_since, *query_boot, *query_timeout;
static const char *query(const char *name)
{
    return !strcmp(name, "since") ? query_since : !strcmp(name, "boot") ? query_boot : query_timeout;
}
uint64_t http_query_num(const struct http_conn *c, const char *name, uint64_t if_none)
{
    (void)c;
    return *query(name) ? strtoull(query(name), NULL, 10) : if_none;
}
void http_query_text(const struct http_conn *c, const char *name, char *out, size_t cap)
{
    (void)c;
    snprintf(out, cap, "%s", query(name));
}

static char answer[API_ANSWER_MAX + 1];
static struct api_call call;

static void ask(const char *since, const char *boot, const char *timeout, bool waited)
{
    query_since = since, query_boot = boot, query_timeout = timeout;
    call = (struct api_call){ .waited = waited };
    memset(answer, 0, sizeof(answer));
    json_init(&call.out, answer, API_ANSWER_MAX);
    api_events(&call);
    assert_true(call.wait_s || json_good(&call.out));
}

static bool told(const char *what) { return strstr(answer, what) != NULL; }

/* What is seen at the next look. */
static void look(void)
{
    char since[24];
    snprintf(since, sizeof(since), "%lu", events_next());
    now += 1000000;
    events_watch();
    ask(since, "", "", false);
}

static void test_what_happens(void **s)
{
    (void)s;
    look();
    assert_true(told("\"kind\":\"host\"") && told("on a is up"));
    atomic_store(&web.state, VM_RUNNING);
    look();
    assert_true(told("\"kind\":\"guest\",\"subject\":\"web\",\"what\":\"running\",\"text\":\"web is running\""));
    look();
    assert_true(told("\"events\":[]"));
    web.started_us = now;
    look();
    assert_true(told("web was reset"));
    waits = true;
    look();
    assert_true(told("\"kind\":\"disk\",\"subject\":\"web\",\"what\":\"lost\"") && told("waits for its disk on web"));
    waits = false;
    look();
    assert_true(told("\"what\":\"back\""));
    snprintf(web.crash_reason, sizeof(web.crash_reason), "triple fault");
    atomic_store(&web.state, VM_CRASHED);
    look();
    assert_true(told("web is crashed: triple fault"));
    slot0 = NULL;
    look();
    assert_true(told("\"what\":\"gone\""));
    slot0 = &web;
}

static void test_moves_and_peers(void **s)
{
    (void)s;
    jobs[0] = (struct job){ .number = 1, .state = JOB_MOVING, .guest = "web", .peer = "b" };
    jobs[1] = (struct job){ .number = 2, .state = JOB_MOVING, .guest = "db", .peer = "b" };
    n_jobs = 2;
    look();
    const char *first = strstr(answer, "move 1 of web to b: moving"), *second = strstr(answer, "move 2 of db to b");
    assert_true(first && second && first < second);
    jobs[0].state = JOB_DONE;
    look();
    assert_true(told("move 1 of web to b: moved") && !told("move 2"));
    reaches = REACH_YES; /* no news */
    look();
    assert_true(told("\"events\":[]"));
    reaches = REACH_NO;
    look();
    assert_true(told("\"kind\":\"peer\",\"subject\":\"b\",\"what\":\"unreachable\""));
    reaches = REACH_YES;
    look();
    assert_true(told("b answers again"));
    events_audit("me", "client me from 10.7.0.100", false, "POST /v1/vms/web/stop: %u", 409);
    char since[24];
    snprintf(since, sizeof(since), "%lu", events_next() - 1);
    ask(since, "", "", false);
    assert_true(told("\"kind\":\"audit\",\"subject\":\"me\",\"what\":\"refused\""));
    assert_true(told("client me from 10.7.0.100: POST /v1/vms/web/stop: 409"));
}

/* Who is up to date waits; who was away learns how many are lost; numbers of another start mean nothing. */
static void test_reader(void **s)
{
    (void)s;
    char since[24], next[40];
    snprintf(since, sizeof(since), "%lu", events_next());
    ask(since, events_boot(), "5", false);
    assert_true(call.wait_s == 5 && call.wait_event == events_next());
    ask(since, events_boot(), "9999", false);
    assert_int_equal(call.wait_s, 30);
    ask(since, events_boot(), "5", true); /* in vain */
    assert_true(!call.wait_s && told("\"events\":[]") && told("\"restarted\":false"));
    for (unsigned i = 0; i < EVENTS_MAX + 7; i++)
        events_add(EVENTS_HOST, "a", "up", "\"%u\"\n%200s", i, "x");
    ask(since, events_boot(), "5", false);
    assert_true(!call.wait_s && told("\"missed\":7"));
    snprintf(next, sizeof(next), "\"next\":%lu,", events_first() + 200);
    assert_true(told(next)); /* the rest with the next request */
    ask(since, "another", "5", false);
    assert_true(told("\"restarted\":true") && told(events_boot()));
    ask("99999", "", "5", false);
    assert_true(told("\"restarted\":true"));
    ask("", "", "", false);
    assert_true(told("\"missed\":0") && told("\"restarted\":false"));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_what_happens), cmocka_unit_test(test_moves_and_peers),
                                        cmocka_unit_test(test_reader) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
