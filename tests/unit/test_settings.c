/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/manage/settings.c kernel/config/config.c kernel/config/config_keys.c kernel/lib/json.c
 *   kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c tests/fakes/log.c tests/fakes/page.c */
/* tests/unit/test_settings.c - what is set while the host runs: values, peers, clients; that pointers to peers stay
 * valid; and that all of it is there after the next start. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/manage/settings.h"
#include "kernel/peers/migration.h"
#include "kernel/store/registry.h"
#include "net/net.h"

#define FP1 "1111111111111111111111111111111111111111111111111111111111111111"
#define FP2 "2222222222222222222222222222222222222222222222222222222222222222"
#define FP3 "3333333333333333333333333333333333333333333333333333333333333333"
#define FP4 "4444444444444444444444444444444444444444444444444444444444444444"

static const char file[] = "[host]\nname = a\nbandwidth-limit-mb = 7\nnetworks = 10.7.0.0/24\n"
                           "[peer b]\naddress = 10.7.0.2\nfingerprint = " FP1 "\n"
                           "[client me]\nfingerprint = " FP2 "\nrole = operate\n";
static struct config conf;
static const uint8_t own[32] = { 0x44 };

/* ---- the rest of the host ---- */

static char kept[32768];
static bool has_registry;
static enum hv_err put_error;
static uint64_t epoch;
uint64_t registry_epoch(void) { return epoch; }
const char *registry_get(const char *name, size_t *len)
{
    assert_string_equal(name, "settings");
    *len = strlen(kept);
    return has_registry && kept[0] ? kept : NULL;
}
enum hv_err registry_put(const char *name, const char *text, size_t len, struct why *why)
{
    assert_string_equal(name, "settings");
    if (!has_registry)
        return REFUSE(HV_E_UNSUPP, "no registry");
    if (put_error)
        return REFUSE(put_error, "the disk failed");
    memcpy(kept, text, len);
    kept[len] = 0;
    return HV_OK;
}

static struct job job;
static struct migration_counts counts;
const struct job *migration_job(unsigned i) { return i || !job.number ? NULL : &job; }
struct migration_counts migration_counts(void) { return counts; }
bool net_address(uint8_t ip[4])
{
    memcpy(ip, (uint8_t[]){ 10, 7, 0, 1 }, 4);
    return true;
}

/* ---- checks ---- */

static char said[480];

static void no_mistake(void *ctx, unsigned line, const char *section, const char *key, const char *expected)
{
    (void)ctx;
    fail_msg("line %u, [%s] %s: %s", line, section, key, expected);
}

/* The configuration of the next start: godwit.conf, and what the registry says. */
static void next_start(void)
{
    config_parse(file, sizeof(file) - 1, &conf, no_mistake, NULL);
    epoch++; /* settings_init() can be called only once: the registry is taken later */
    settings_step();
}

static int set_up(void **state)
{
    static bool done;
    (void)state;
    kept[0] = 0;
    has_registry = true;
    put_error = HV_OK;
    job.number = counts.arriving = 0;
    host_config = &conf;
    config_parse(file, sizeof(file) - 1, &conf, no_mistake, NULL);
    if (!done)
        settings_init(&conf, own);
    done = true;
    assert_int_equal(settings_host_set("lz4", "default", "me", WHY(said)), HV_OK); /* nothing is left of other checks */
    assert_int_equal(settings_host_set("bandwidth-limit-mb", "default", "me", WHY(said)), HV_OK);
    assert_int_equal(settings_host_set("networks", "default", "me", WHY(said)), HV_OK);
    return 0;
}

static void test_host(void **state)
{
    (void)state;
    static char buf[4096];
    struct json j;
    assert_int_equal(settings_host_set("bandwidth-limit-mb", "20", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "bandwidth-limit-mb = 20");
    assert_int_equal(settings_host_set("networks", "10.8.0.0/16, 10.7.0.0/24", "client me", WHY(said)), HV_OK);
    assert_int_equal(conf.host.n_networks, 2);
    json_init(&j, buf, sizeof(buf));
    json_object(&j, NULL);
    settings_put(&j);
    json_end(&j);
    assert_true(json_good(&j));
    buf[j.text.len] = 0;
    assert_non_null(strstr(buf, "{\"key\":\"bandwidth-limit-mb\",\"file\":\"7\",\"now\":\"20\",\"later\":true}"));
    assert_non_null(strstr(buf, "{\"key\":\"lz4\",\"file\":\"yes\",\"now\":\"yes\",\"later\":false}"));
    next_start();
    assert_int_equal(conf.host.bandwidth_limit_mb, 20);
    assert_int_equal(conf.host.n_networks, 2);
    assert_int_equal(settings_host_set("bandwidth-limit-mb", "default", "client me", WHY(said)), HV_OK);
    assert_int_equal(conf.host.bandwidth_limit_mb, 7);
    assert_int_equal(conf.host.n_networks, 2);
    static const struct {
        const char *key, *value, *words;
    } bad[] = { { "name", "z", "name cannot be set while the host runs; incoming" },
                { "max-jobs", "99", "max-jobs: expected: a number, 1 to 16" },
                { "lz4", "no\n[client x]", "lz4: a value of 1 to" },
                { "lz4", "", "lz4: a value of 1 to" } };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(settings_host_set(bad[i].key, bad[i].value, "client me", WHY(said)), HV_E_INVAL);
        assert_non_null(strstr(said, bad[i].words));
    }
    assert_true(conf.host.max_jobs == 2 && conf.host.lz4 && !strcmp(conf.host.name, "a"));
}

/* A host without a store, or whose disk fails, says that it forgets. */
static void test_not_kept(void **state)
{
    (void)state;
    has_registry = false;
    assert_int_equal(settings_host_set("lz4", "no", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "lz4 = no; it holds until this host's next start, for it has no store with a registry");
    assert_false(conf.host.lz4);
    has_registry = true, put_error = HV_E_IO;
    assert_int_equal(settings_peer_add("c", "10.7.0.3", 0, FP3, "client me", WHY(said)), HV_OK);
    assert_string_equal(said,
                        "c is a peer of a; it is not kept, and holds until this host's next start: the disk failed");
}

static void test_peers(void **state)
{
    (void)state;
    const struct peer_config *b = config_peer(&conf, "b");
    assert_int_equal(settings_peer_add("c", "10.7.0.3, 10.8.0.3", 7421, FP3, "client me", WHY(said)), HV_OK);
    const struct peer_config *c = config_peer(&conf, "c");
    assert_true(c == &conf.peers[1] && c->port == 7421 && c->n_other_ips == 1 && c->later && !b->later);
    assert_int_equal(settings_peer_add("d", "10.7.0.4", 0, FP3, "client me", WHY(said)), HV_E_EXIST);
    assert_string_equal(said, "peer c has that fingerprint already");
    assert_int_equal(settings_peer_add("d", "10.7.0.4", 0,
                                       "44"
                                       "00000000000000000000000000000000000000000000000000000000000000",
                                       "me", WHY(said)),
                     HV_E_EXIST);
    assert_string_equal(said, "d is this host itself");
    assert_int_equal(settings_peer_add("d", "10.7.0", 0, FP4, "client me", WHY(said)), HV_E_INVAL);
    assert_non_null(strstr(said, "address: expected: an address like"));
    assert_int_equal(settings_peer_add("d]\n[client x", "10.7.0.4", 0, FP4, "client me", WHY(said)), HV_E_INVAL);
    assert_int_equal(settings_peer_remove("x", "client me", WHY(said)), HV_E_NOENT);
    job = (struct job){ .number = 1, .state = JOB_MOVING, .guest = "web", .peer = "b" };
    assert_int_equal(settings_peer_remove("b", "client me", WHY(said)), HV_E_BUSY);
    assert_string_equal(said, "web moves to b; wait, or cancel that first");
    job.number = 0, counts.arriving = 1;
    assert_int_equal(settings_peer_remove("b", "client me", WHY(said)), HV_E_BUSY);
    counts.arriving = 0;
    assert_int_equal(settings_peer_remove("b", "client me", WHY(said)), HV_OK);
    assert_true(b->removed && !b->fingerprint[0] && !config_peer(&conf, "b"));
    assert_true(config_peer(&conf, "c") == c); /* nothing moved */
    next_start();
    assert_true(!config_peer(&conf, "b") && config_peer(&conf, "c") && conf.peers[0].removed);
    assert_int_equal(config_peer(&conf, "c")->other_ip[0][1], 8);
    assert_int_equal(settings_peer_add("b", "10.7.0.2", 0, FP1, "client me", WHY(said)), HV_OK);
    assert_true(config_peer(&conf, "b") == b);
    char name[8];
    for (unsigned i = 0; i < CONFIG_MAX_PEERS - 2; i++) {
        char fp[65];
        snprintf(name, sizeof(name), "p%u", i);
        snprintf(fp, sizeof(fp), "%064x", i + 1);
        assert_int_equal(settings_peer_add(name, "10.7.0.9", 0, fp, "client me", WHY(said)), HV_OK);
    }
    assert_int_equal(settings_peer_add("e", "10.7.0.4", 0, FP4, "client me", WHY(said)), HV_E_NOMEM);
    next_start();
    assert_int_equal(conf.n_peers, CONFIG_MAX_PEERS);
}

static void test_clients(void **state)
{
    (void)state;
    assert_int_equal(settings_client_remove("me", false, "client me", WHY(said)), HV_E_AGAIN);
    assert_non_null(strstr(said, "me is the last client that may operate this host"));
    assert_int_equal(settings_client_add("me", FP2, "read", false, "client me", WHY(said)), HV_E_AGAIN);
    assert_int_equal(settings_client_add("you", FP3, "write", false, "client me", WHY(said)), HV_E_INVAL);
    assert_int_equal(settings_client_add("you", FP3, "read\nremoved = yes", false, "client me", WHY(said)), HV_E_INVAL);
    assert_non_null(strstr(said, "name, role and fingerprint have no line ends"));
    assert_int_equal(settings_client_remove("nobody", true, "client me", WHY(said)), HV_E_NOENT);
    assert_string_equal(said, "no client is named nobody");
    assert_int_equal(settings_client_add("you", FP3, "operate", false, "client me", WHY(said)), HV_OK);
    assert_int_equal(settings_client_remove("me", false, "client you", WHY(said)), HV_OK);
    assert_string_equal(said, "me is no client of a any more");
    next_start();
    assert_true(conf.n_clients == 2 && conf.clients[0].removed && conf.clients[1].trust == TRUST_OPERATE);
    assert_int_equal(settings_client_remove("you", true, "client you", WHY(said)), HV_OK);
}

/* A registry that makes no sense is not used, and named in the log. */
static void test_damaged(void **state)
{
    (void)state;
    strcpy(kept, "[host]\nlz4 = maybe\n[client x]\nfingerprint = " FP3 "\n");
    next_start();
    assert_true(conf.host.lz4 && conf.n_clients == 1);
    strcpy(kept, "[vm x]\nmemory = 16M\n");
    next_start();
    assert_int_equal(conf.n_vms, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_host, set_up),    cmocka_unit_test_setup(test_not_kept, set_up),
        cmocka_unit_test_setup(test_peers, set_up),   cmocka_unit_test_setup(test_clients, set_up),
        cmocka_unit_test_setup(test_damaged, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
