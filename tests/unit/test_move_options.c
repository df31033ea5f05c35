/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_move_options.c - options of one migration, as words and as JSON; and the bandwidth limit. */
/* unit-sources: kernel/peers/move_options.c kernel/lib/json.c kernel/lib/text.c kernel/config/config.c
 *   kernel/config/config_keys.c kernel/lib/err.c kernel/peers/rate.c migrate/policy.c tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "kernel/peers/move_options.h"
#include "kernel/peers/rate.h"

static const struct move_options BASE = { .lz4 = true, .live = true, .downtime_limit_ms = 300 };
static struct move_options got;
static char why[256];

static enum hv_err words(const char *text)
{
    static char copy[300];
    char *argv[32];
    int argc = 0;
    snprintf(copy, sizeof(copy), "%s", text);
    for (char *w = strtok(copy, " "); w; w = strtok(NULL, " "))
        argv[argc++] = w;
    got = BASE;
    return move_options_words(argc, argv, &got, WHY(why));
}

static enum hv_err json(const char *text)
{
    static struct json_in in;
    const char *reason;
    assert_int_equal(json_parse(&in, text, strlen(text), &reason), HV_OK);
    got = BASE;
    return move_options_json(&in, &got, WHY(why));
}

static void check(bool lz4, bool live, enum mig_if_stuck if_stuck, unsigned prefix_len, unsigned limit,
                  unsigned downtime, bool verify)
{
    assert_int_equal(got.lz4, lz4);
    assert_int_equal(got.live, live);
    assert_int_equal(got.if_stuck, if_stuck);
    assert_int_equal(got.network.prefix_len, prefix_len);
    assert_int_equal(got.bandwidth_limit_mb, limit);
    assert_int_equal(got.downtime_limit_ms, downtime);
    assert_int_equal(got.verify, verify);
}

static void test_good(void **s)
{
    (void)s;
    assert_int_equal(words(""), HV_OK);
    check(true, true, MIG_STUCK_THROTTLE, 0, 0, 300, false);
    assert_int_equal(words("--plain --live --policy stop --network 10.7.0.0/24 --limit 7 --downtime 60000 --verify"),
                     HV_OK);
    check(false, true, MIG_STUCK_STOP, 24, 7, 60000, true);
    assert_int_equal(words("--paused --plain --lz4 --limit 0"), HV_OK);
    check(true, false, MIG_STUCK_THROTTLE, 0, 0, 300, false);
    assert_int_equal(json("{}"), HV_OK);
    check(true, true, MIG_STUCK_THROTTLE, 0, 0, 300, false);
    assert_int_equal(json("{\"vm\":\"x\",\"lz4\":false,\"policy\":\"wait\",\"network\":\"10.7.0.0/"
                          "16\",\"bandwidth_limit_mb\":100000,\"downtime_limit_ms\":1,"
                          "\"verify\":true}"),
                     HV_OK);
    check(false, true, MIG_STUCK_WAIT, 16, 100000, 1, true);
    assert_memory_equal(got.network.ip, "\x0a\x07\0\0", 4);
    assert_int_equal(json("{\"live\":false}"), HV_OK);
    check(true, false, MIG_STUCK_THROTTLE, 0, 0, 300, false);
    assert_int_equal(json("{\"with_base\":true}"), HV_OK);
    assert_true(got.with_base);
    assert_int_equal(words("--with-disks --with-base"), HV_OK);
    assert_true(got.with_disks && got.with_base);
    assert_int_equal(json("{\"kind\":\"quick\"}"), HV_OK);
    check(true, false, MIG_STUCK_THROTTLE, 0, 0, 300, false);
    assert_int_equal(words("--quick --live"), HV_OK); /* the last word counts */
    check(true, true, MIG_STUCK_THROTTLE, 0, 0, 300, false);
}

static void test_places(void **s)
{
    struct lv_config lv;
    unsigned disk;
    const char *at = got.places;
    (void)s;
    assert_int_equal(words("--disk vdc=fast/web+1 --disk vda=s/root"), HV_OK);
    assert_true(got.with_disks);
    assert_string_equal(got.places, "vdc=fast/web+1,vda=s/root");
    assert_true(config_place_next(&at, &disk, &lv) && disk == 2 && !strcmp(lv.vg, "fast") && !strcmp(lv.lv, "web+1"));
    assert_true(config_place_next(&at, &disk, &lv) && disk == 0 && !strcmp(lv.vg, "s") && !strcmp(lv.lv, "root"));
    assert_true(!config_place_next(&at, &disk, &lv) && !*at);
    assert_int_equal(json("{\"places\":\"vda=s/x,vdb=s/y\"}"), HV_OK);
    assert_true(got.with_disks);
}

/* What is wrong is named, with what is expected. */
static void test_bad(void **s)
{
    (void)s;
    static const char *const bad[][3] = {
        /* how it is written; what the message begins with; and holds */
        { "--downtime 0", "--downtime: ", "from 1 to 60000" },
        { "--downtime", "--downtime: ", "1 to 60000" },
        { "--downtime 60001", "--downtime: ", "60000" },
        { "--limit 100001", "--limit: ", "100000" },
        { "--limit x", "--limit: ", "MB per second" },
        { "--limit -1", "--limit: ", "MB per second" },
        { "--policy maybe", "--policy: ", "throttle, wait or stop" },
        { "--network 10.7.0.0", "--network: ", "10.7.0.0/24" },
        { "--network 10.7.0.0/33", "--network: ", "10.7.0.0/24" },
        { "--paused --policy wait", "--policy: ", "a live move" },
        { "--quick --policy wait", "--policy: ", "a live move" },
        { "{\"kind\":\"paused\"}", "kind: ", "live, quick or cold" },
        { "{\"kind\":1}", "kind: ", "live, quick or cold" },
        { "--disk", "--disk: ", "vda=STORE/VOLUME" },
        { "--disk vda=x", "--disk: ", "vda=STORE/VOLUME" },
        { "--disk vdq=s/x", "--disk: ", "vda=STORE/VOLUME" },
        { "--disk vda=s/x --disk vda=s/y", "--disk: ", "each disk once" },
        { "{\"places\":\"vda=s/x;vdb=s/y\"}", "places: ", "vda=STORE/VOLUME" },
        { "{\"places\":\"\"}", "places: ", "vda=STORE/VOLUME" },
        { "{\"places\":1}", "places: ", "vda=STORE/VOLUME" },
        { "--fast", "--fast: ", "--plain" },
        { "fast", "fast: ", "--plain" },
        { "{\"downtime_limit_ms\":0}", "downtime_limit_ms: ", "60000" },
        { "{\"downtime_limit_ms\":\"5\"}", "downtime_limit_ms: ", "60000" },
        { "{\"bandwidth_limit_mb\":100001}", "bandwidth_limit_mb: ", "100000" },
        { "{\"lz4\":1}", "lz4: ", "true or false" },
        { "{\"verify\":\"yes\"}", "verify: ", "true or false" },
        { "{\"live\":0}", "live: ", "true or false" },
        { "{\"policy\":true}", "policy: ", "throttle, wait or stop" },
        { "{\"policy\":\"throttlethrottlethrottle\"}", "policy: ", "wait" },
        { "{\"network\":\"10.7.0.0/24 \"}", "network: ", "10.7.0.0/24" },
        { "{\"live\":false,\"policy\":\"throttle\"}", "policy: ", "a live move" },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        int e = bad[i][0][0] == '{' ? json(bad[i][0]) : words(bad[i][0]);
        if (e != HV_E_INVAL || strncmp(why, bad[i][1], strlen(bad[i][1])) || !strstr(why, bad[i][2]))
            fail_msg("%s: %d %s", bad[i][0], e, why);
    }
}

/* Limits that change while a move runs: these two alone, one at least. */
static void test_limits(void **s)
{
    (void)s;
    static const struct {
        const char *text, *words[4];
        int argc;
        const char *wrong; /* NULL: taken */
        unsigned limit, downtime;
    } cases[] = {
        { "{\"bandwidth_limit_mb\":0}", { "--limit", "0" }, 2, NULL, 0, 300 },
        { "{\"downtime_limit_ms\":1}", { "--downtime", "1" }, 2, NULL, 7, 1 },
        { "{\"bandwidth_limit_mb\":9,\"downtime_limit_ms\":2}", { "--downtime", "2", "--limit", "9" }, 4, NULL, 9, 2 },
        { "{}", { 0 }, 0, "nothing to set: ", 7, 300 },
        { "{\"policy\":\"wait\"}", { "--policy", "wait" }, 2, ": ", 7, 300 },
        { "{\"downtime_limit_ms\":0}", { "--downtime", "0" }, 2, "from 1 to 60000", 7, 300 },
        { "{\"bandwidth_limit_mb\":\"x\"}", { "--limit" }, 1, "MB per second", 7, 300 },
    };
    static struct json_in in;
    const char *reason;
    for (unsigned i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
        unsigned k = i / 2;
        char *argv[4];
        memcpy(argv, cases[k].words, sizeof(argv));
        got = BASE;
        got.bandwidth_limit_mb = 7;
        assert_int_equal(json_parse(&in, cases[k].text, strlen(cases[k].text), &reason), HV_OK);
        int e = i % 2 ? move_limits_json(&in, &got, WHY(why)) : move_limits_words(cases[k].argc, argv, &got, WHY(why));
        assert_int_equal(e, cases[k].wrong ? HV_E_INVAL : HV_OK);
        assert_true(!cases[k].wrong || strstr(why, cases[k].wrong));
        assert_int_equal(got.bandwidth_limit_mb, cases[k].limit);
        assert_int_equal(got.downtime_limit_ms, cases[k].downtime);
    }
}

/* What a limit lets through in a second, when it is asked every 100 us or every 20 ms; a pause earns no burst. */
static void test_rate_limit(void **s)
{
    (void)s;
    static const struct {
        unsigned limit, step_us;
    } cases[] = { { 1, 100 }, { 2, 20000 }, { 100, 100 }, { 100000, 1000 } };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct rate_limit p = { 0 };
        uint64_t now = UINT64_C(1) << 40, sent = 0, most = MAX(cases[i].limit * UINT64_C(50000), UINT64_C(65536));
        for (uint64_t end = now + 1000000; now < end; now += cases[i].step_us) {
            uint64_t n = rate_refill(&p, cases[i].limit, now);
            rate_consume(&p, n);
            sent += n;
        }
        assert_in_range(sent, cases[i].limit * UINT64_C(999000), cases[i].limit * UINT64_C(1000000) + most);
        assert_in_range(rate_refill(&p, cases[i].limit, now + 60000000), 1, most);
    }
    struct rate_limit p = { 0 };
    assert_true(rate_refill(&p, 0, 5) == UINT64_MAX);
    rate_consume(&p, 1000);
    assert_int_equal(p.bytes, 0);
}

static void test_advance(void **s)
{
    (void)s;
    assert_int_equal(rate_stopped_allowance(0, 0, 300), 0);
    assert_int_equal(rate_stopped_allowance(2, 0, 300), 600000);
    assert_int_equal(rate_stopped_allowance(0, 2, 300), 600000);
    assert_int_equal(rate_stopped_allowance(100, 2, 300), 600000);
    assert_int_equal(rate_stopped_allowance(100000, 100000, 60000), UINT64_C(6000000000000));
}

/* What is on its way is enough for any path: each measured rate allows a higher one until the path is full. */
static void test_way(void **s)
{
    (void)s;
    for (uint64_t rtt_us = 100; rtt_us <= 1000000; rtt_us *= 10) {
        const uint64_t path = 100000000;
        uint64_t rate = 0;
        for (unsigned i = 0; i < 20; i++)
            rate = MIN(path, rate_way_max(rate, rtt_us) * 1000000 / rtt_us);
        assert_int_equal(rate, path);
    }
    assert_int_equal(rate_way_max(0, 1000000), RATE_WAY_MIN);
    assert_int_equal(rate_way_max(13000000, 1000), RATE_WAY_MIN + 26000);
    assert_true(rate_way_max(UINT64_MAX, UINT64_MAX) > UINT64_C(1) << 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_good),       cmocka_unit_test(test_places),
                                        cmocka_unit_test(test_bad),        cmocka_unit_test(test_limits),
                                        cmocka_unit_test(test_rate_limit), cmocka_unit_test(test_advance),
                                        cmocka_unit_test(test_way) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
