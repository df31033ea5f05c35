/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/move_options.c - parses the options of a move from JSON and from words; move_options.h has the table.
 *
 * Both forms have the same checks and texts.  Input is an operator's or a client's: anything wrong is refused. */
#include "kernel/peers/move_options.h"

#include <stdio.h>
#include <string.h>

#define DOWNTIME_MAX_MS 60000
#define LIMIT_MAX_MB    100000

void move_options_default(const struct config *c, struct move_options *o)
{
    *o = (struct move_options){
        .lz4 = c->host.lz4, .verify = c->host.verify, .live = true, .downtime_limit_ms = c->host.downtime_limit_ms
    };
}

static enum hv_err option_bad(struct why *why, const char *what, const char *expected)
{
    return REFUSE(HV_E_INVAL, "%s: %s is expected", what, expected);
}

#define POLICY_EXPECTED   "throttle, wait or stop"
#define NETWORK_EXPECTED  "a network like 10.7.0.0/24"
#define DOWNTIME_EXPECTED "a number of milliseconds from 1 to 60000"
#define LIMIT_EXPECTED    "a number of MB per second up to 100000, 0 for no limit,"
#define PAUSED_EXPECTED   "a live move: a paused guest dirties nothing that has to converge; no policy"
#define KIND_EXPECTED     "live, quick or cold"
#define PLACES_EXPECTED   "a place for each disk once, like vda=STORE/VOLUME,"

/* Take one more list of places.  False: malformed, too long, or a disk is named twice. */
static bool places_add(struct move_options *o, const char *v)
{
    struct lv_config lv;
    unsigned disk, seen = 0;
    size_t n = strlen(o->places);
    int len = snprintf(o->places + n, sizeof(o->places) - n, "%s%s", n ? "," : "", v);
    const char *at = o->places;
    o->with_disks = true;
    while (config_place_next(&at, &disk, &lv)) {
        if (seen & BIT32(disk))
            return false;
        seen |= BIT32(disk);
    }
    return !*at && *v && (size_t)len < sizeof(o->places) - n;
}

/* Ask for a kind of move by its name.  False: there is no such kind. */
static bool kind_ask(const char *name, struct move_options *o)
{
    static const char *const kinds[] = {
        [MOVE_ASKED_LIVE] = "live", [MOVE_ASKED_QUICK] = "quick", [MOVE_ASKED_COLD] = "cold"
    };
    for (unsigned k = MOVE_ASKED_LIVE; k < ARRAY_SIZE(kinds); k++) {
        if (strcmp(name, kinds[k]) != 0)
            continue;
        o->live = k != MOVE_ASKED_QUICK;
        o->asked = k;
        return true;
    }
    return false;
}

/* ---- JSON ---- */

/* A string field; HV_E_NOENT: not there.  A string that is too long reads as "", which no option accepts. */
static enum hv_err option_word(const struct json_in *in, const char *key, char *out, size_t cap)
{
    enum hv_err e = json_get_str(in, key, out, cap);
    if (e == HV_E_INVAL)
        out[0] = 0;
    return e == HV_E_INVAL ? HV_OK : e;
}

/* *n_set: how many of the two limits in sets. */
static enum hv_err limits_json(const struct json_in *in, struct move_options *o, unsigned *n_set, struct why *why)
{
    uint64_t downtime = o->downtime_limit_ms, limit = o->bandwidth_limit_mb;
    enum hv_err e = json_get_num(in, "downtime_limit_ms", DOWNTIME_MAX_MS, &downtime);
    if (e == HV_E_INVAL || !downtime)
        return option_bad(why, "downtime_limit_ms", DOWNTIME_EXPECTED);
    *n_set = e == HV_OK;
    e = json_get_num(in, "bandwidth_limit_mb", LIMIT_MAX_MB, &limit);
    if (e == HV_E_INVAL)
        return option_bad(why, "bandwidth_limit_mb", LIMIT_EXPECTED);
    *n_set += e == HV_OK;
    o->downtime_limit_ms = (unsigned)downtime;
    o->bandwidth_limit_mb = (unsigned)limit;
    return HV_OK;
}

enum hv_err move_limits_json(const struct json_in *in, struct move_options *o, struct why *why)
{
    unsigned n_set;
    enum hv_err e = limits_json(in, o, &n_set, why);
    if (!e && !n_set)
        return option_bad(why, "nothing to set", "bandwidth_limit_mb or downtime_limit_ms");
    return e;
}

enum hv_err move_options_json(const struct json_in *in, struct move_options *o, struct why *why)
{
    unsigned n_set;
    char policy[16], network[24], kind[16], places[CONFIG_PLACES_LEN];
    bool has_policy = option_word(in, "policy", policy, sizeof(policy)) == HV_OK;
    if (json_get_bool(in, "lz4", &o->lz4) == HV_E_INVAL)
        return option_bad(why, "lz4", "true or false");
    if (json_get_bool(in, "verify", &o->verify) == HV_E_INVAL)
        return option_bad(why, "verify", "true or false");
    if (json_get_bool(in, "live", &o->live) == HV_E_INVAL)
        return option_bad(why, "live", "true or false");
    if (json_get_bool(in, "with_disks", &o->with_disks) == HV_E_INVAL)
        return option_bad(why, "with_disks", "true or false");
    if (json_get_bool(in, "with_base", &o->with_base) == HV_E_INVAL)
        return option_bad(why, "with_base", "true or false");
    if (json_get_bool(in, "keep", &o->keep) == HV_E_INVAL)
        return option_bad(why, "keep", "true or false");
    if (option_word(in, "places", places, sizeof(places)) == HV_OK && !places_add(o, places))
        return option_bad(why, "places", PLACES_EXPECTED);
    if (option_word(in, "kind", kind, sizeof(kind)) == HV_OK && !kind_ask(kind, o))
        return option_bad(why, "kind", KIND_EXPECTED);
    if (has_policy && !mig_if_stuck_parse(policy, &o->if_stuck))
        return option_bad(why, "policy", POLICY_EXPECTED);
    if (has_policy && !o->live)
        return option_bad(why, "policy", PAUSED_EXPECTED);
    if (option_word(in, "network", network, sizeof(network)) == HV_OK && !config_network_parse(network, &o->network))
        return option_bad(why, "network", NETWORK_EXPECTED);
    return limits_json(in, o, &n_set, why);
}

/* ---- words ---- */

/* Set an option that has a value.  NULL: done; else what is expected. */
static const char *option_value(const char *option, const char *v, struct move_options *o)
{
    if (!strcmp(option, "--policy"))
        return mig_if_stuck_parse(v, &o->if_stuck) ? NULL : POLICY_EXPECTED;
    if (!strcmp(option, "--network"))
        return config_network_parse(v, &o->network) ? NULL : NETWORK_EXPECTED;
    if (!strcmp(option, "--disk"))
        return places_add(o, v) ? NULL : PLACES_EXPECTED;
    if (!strcmp(option, "--limit"))
        return config_number(v, 0, LIMIT_MAX_MB, &o->bandwidth_limit_mb) ? NULL : LIMIT_EXPECTED;
    if (!strcmp(option, "--downtime"))
        return config_number(v, 1, DOWNTIME_MAX_MS, &o->downtime_limit_ms) ? NULL : DOWNTIME_EXPECTED;
    return "one of " MOVE_OPTIONS_USAGE;
}

enum hv_err move_limits_words(int argc, char **argv, struct move_options *o, struct why *why)
{
    for (int i = 0; i < argc || !argc; i += 2) {
        bool known = argc && (!strcmp(argv[i], "--limit") || !strcmp(argv[i], "--downtime"));
        const char *expected = known ? option_value(argv[i], i + 1 < argc ? argv[i + 1] : "", o) : MOVE_LIMITS_USAGE;
        if (expected)
            return option_bad(why, argc ? argv[i] : "nothing to set", expected);
    }
    return HV_OK;
}

enum hv_err move_options_words(int argc, char **argv, struct move_options *o, struct why *why)
{
    static const struct {
        const char *word;
        size_t at;
        bool on;
    } switches[] = {
        { "--plain", offsetof(struct move_options, lz4), false },
        { "--lz4", offsetof(struct move_options, lz4), true },
        { "--paused", offsetof(struct move_options, live), false },
        { "--verify", offsetof(struct move_options, verify), true },
        { "--with-disks", offsetof(struct move_options, with_disks), true },
        { "--with-base", offsetof(struct move_options, with_base), true },
        { "--keep", offsetof(struct move_options, keep), true },
    };
    bool has_policy = false;
    for (int i = 0; i < argc; i++) {
        unsigned k = 0;
        while (k < ARRAY_SIZE(switches) && strcmp(argv[i], switches[k].word))
            k++;
        if (k < ARRAY_SIZE(switches)) {
            *(bool *)((char *)o + switches[k].at) = switches[k].on;
            continue;
        }
        if (!strncmp(argv[i], "--", 2) && kind_ask(argv[i] + 2, o))
            continue;
        has_policy |= !strcmp(argv[i], "--policy");
        const char *expected = option_value(argv[i], i + 1 < argc ? argv[i + 1] : "", o);
        if (expected)
            return option_bad(why, argv[i], expected);
        i++;
    }
    return has_policy && !o->live ? option_bad(why, "--policy", PAUSED_EXPECTED) : HV_OK;
}
