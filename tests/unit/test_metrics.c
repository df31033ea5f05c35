/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/manage/api_metrics.c kernel/manage/api_metrics_vm.c kernel/lib/text.c kernel/lib/err.c
 *   net/port_filter.c tests/fakes/log.c */
/* tests/unit/test_metrics.c - the text of /metrics: its syntax, its figures, and that the fullest host's answer fits.
 * promtool looks at a real host's in tests/system/test_api.py. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/dev/devices.h"
#include "kernel/dev/vdev_blk.h"
#include "kernel/host/clock.h"
#include "kernel/host/machine_check.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/manage/api_call.h"
#include "kernel/peers/evacuate.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/reach.h"
#include "kernel/peers/start.h"
#include "kernel/store/blockdev.h"
#include "kernel/vm/guest_net.h"
#include "net/net.h"
#include "net/vswitch.h"

/* ---- the rest of the host ---- */

static struct config conf;
const struct config *host_config = &conf;
uint64_t clock_tsc_hz = 3000000000u;
unsigned pcpu_count;
const char *const vcpu_exit_names[VCPU_EXIT_COUNT] = { [0 ... VCPU_EXIT_COUNT - 1] = "host-interrupt" };
static struct pcpu pcpus[PCPU_MAX];
static struct vm *vms[VM_MAX];
static struct vswitch sw;
static struct vswitch_port ports[VM_MAX][CONFIG_MAX_NICS];
static struct blk_counts blk[BLK_KINDS];
static struct migration_counts moves;
static struct job jobs[MIGRATION_JOBS];
static unsigned n_jobs;
static struct evacuation evacuation;
static enum reach reached[CONFIG_MAX_PEERS];
static unsigned n_wanted;
static enum start_state started;
static uint64_t big; /* the value of counters: as long as possible, or short */

const uint64_t migration_blackout_bounds_us[HISTOGRAM_BOUNDS] = { 5000,   10000,  20000,   50000,   100000,  200000,
                                                                  300000, 500000, 1000000, 2000000, 5000000, 30000000 };
const uint64_t migration_duration_bounds_us[HISTOGRAM_BOUNDS] = { 1000000,   2000000,   5000000,    10000000,
                                                                  20000000,  30000000,  60000000,   120000000,
                                                                  300000000, 600000000, 1800000000, 3600000000 };

const char *const mce_kind_names[MCE_KINDS] = { [0 ... MCE_KINDS - 1] = "action-required" };
uint64_t mce_count(enum mce_kind kind) { return kind ? big : 7; }
uint64_t clock_us(void) { return big; }
uint64_t clock_tsc_to_us(uint64_t ticks) { return ticks / 3000; }
struct page_stats page_stats(void) { return (struct page_stats){ .total_bytes = big, .free_bytes = big }; }
struct pcpu *pcpu_get(unsigned i) { return &pcpus[i]; }
uint64_t vm_memory_promised(void) { return big; }
uint64_t vm_memory_promisable(void) { return big; }
unsigned vm_slots(void) { return VM_MAX; }
struct vm *vm_at(unsigned i) { return vms[i]; }
const char *vm_state_name(enum vm_state s) { return s == VM_RUNNING ? "running" : "another"; }
struct net_stats net_stats(void)
{
    return (struct net_stats){ .rx_bytes = big, .tx_bytes = big, .rx_frames = big, .tx_frames = big, .places = 16 };
}
struct vswitch *net_switch(void) { return &sw; }
struct migration_counts migration_counts(void) { return moves; }
const struct job *migration_job(unsigned i) { return i < n_jobs ? &jobs[i] : NULL; }
const struct evacuation *evacuate_status(void) { return &evacuation; }
void reach_want(void) { n_wanted++; }
enum reach reach_of(unsigned i) { return reached[i]; }
struct start_status start_status(const struct vm *vm)
{
    (void)vm;
    return (struct start_status){ started, HV_OK, "" };
}
const struct vswitch_port *guest_net_port(const struct vm *vm, unsigned card)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        if (vms[i] == vm && card < vm->config.n_nics)
            return &ports[i][card];
    return NULL;
}
const struct blk_counts *vdev_blk_counts(const struct vm *vm, unsigned index, enum blk_kind kind)
{
    return index < vm->config.n_disks ? &blk[kind] : NULL;
}

static struct blockdev disks[BLOCKDEVS_MAX];
static unsigned n_disks;
struct blockdev *blockdev_at(unsigned i) { return i < n_disks ? &disks[i] : NULL; }

/* ---- one answer ---- */

static char answer[API_LARGE_MAX + 1];

static void metrics_get(void)
{
    struct api_call c = { .http = NULL };
    c.out.text = (struct text){ .buf = answer, .cap = API_LARGE_MAX };
    api_metrics(&c);
    assert_false(c.out.text.overflow);
    answer[c.out.text.len] = 0;
    assert_non_null(strstr(c.type, "version=0.0.4"));
}

static void has(const char *line)
{
    char text[256];
    snprintf(text, sizeof(text), "\n%s\n", line);
    if (!strstr(answer, text))
        fail_msg("no line %s in\n%s", line, answer);
}

static int set_up(void **state)
{
    (void)state;
    conf = (struct config){ .host = { .name = "a", .max_jobs = 2 } };
    moves = (struct migration_counts){ 0 };
    memset(ports, 0, sizeof(ports));
    memset(blk, 0, sizeof(blk));
    memset(reached, 0, sizeof(reached));
    pcpu_count = n_jobs = n_wanted = n_disks = 0;
    started = START_IDLE;
    big = 7;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < VM_MAX; i++) {
        for (unsigned k = 0; vms[i] && k < VM_MAX_VCPUS; k++)
            free(vms[i]->vcpus[k]);
        free(vms[i]);
        vms[i] = NULL;
    }
    return 0;
}

/* A running guest with as many vCPUs. */
static struct vm *guest_add(unsigned i, const char *name, unsigned n_vcpus)
{
    static struct devices devices;
    struct vm *vm = vms[i] = calloc(1, sizeof(*vm));
    vm->devices = &devices;
    snprintf(vm->config.name, sizeof(vm->config.name), "%s", name);
    vm->config.n_nics = vm->config.n_disks = 1;
    vm->config.memory_bytes = vm->mem.n_backed = vm->dirty.n_faults = big;
    atomic_store(&vm->state, VM_RUNNING);
    for (; vm->n_vcpus < n_vcpus; vm->n_vcpus++) {
        struct vcpu *v = vm->vcpus[vm->n_vcpus] = calloc(1, sizeof(*v));
        v->guest_tsc_ticks = v->steal_tsc = big;
        for (unsigned k = 0; k < VCPU_EXIT_COUNT; k++)
            v->n_exits[k] = v->exit_tsc[k] = big / VM_MAX_VCPUS;
    }
    return vm;
}

/* ---- tests ---- */

static void test_guest(void **state)
{
    (void)state;
    struct vm *vm = guest_add(2, "web", 1);
    vm->vcpus[0]->steal_tsc = 3000ul * 1500000;
    ports[2][0] = (struct vswitch_port){ .rx_bytes = 100,
                                         .rx_frames = 2,
                                         .tx_bytes = 300,
                                         .tx_frames = 4,
                                         .tx_dropped = 5,
                                         .bad = 6,
                                         .drops = { [PORT_DROP_ARP] = 9 } };
    blk[BLK_WRITE] = (struct blk_counts){ .bytes = 4096, .requests = 11, .errors = 1 };
    started = START_FAILED;
    metrics_get();
    has("godwit_vm_network_receive_bytes_total{vm=\"web\"} 300");
    has("godwit_vm_network_receive_drops_total{vm=\"web\"} 5");
    has("godwit_vm_network_transmit_frames_total{vm=\"web\"} 2");
    has("godwit_vm_network_transmit_drops_total{vm=\"web\",reason=\"length\"} 6");
    has("godwit_vm_network_transmit_drops_total{vm=\"web\",reason=\"arp\"} 9");
    has("godwit_vm_network_transmit_drops_total{vm=\"web\",reason=\"storm\"} 0");
    has("godwit_vm_disk_bytes_total{vm=\"web\",kind=\"write\"} 4096");
    has("godwit_vm_disk_requests_total{vm=\"web\",kind=\"write\"} 11");
    has("godwit_vm_disk_errors_total{vm=\"web\",kind=\"read\"} 0");
    has("godwit_vm_steal_seconds_total{vm=\"web\",vcpu=\"0\"} 1.500000");
    has("godwit_vm_start_failed{vm=\"web\"} 1");
    assert_null(strstr(answer, "godwit_vm_disk_bytes_total{vm=\"web\",kind=\"other\"}")); /* a flush has none */
    vm->config.n_nics = vm->config.n_disks = 2;
    ports[2][1].rx_frames = 77;
    metrics_get();
    has("godwit_vm_network_transmit_frames_total{vm=\"web\"} 2");
    has("godwit_vm_network_transmit_frames_total{vm=\"web\",card=\"1\"} 77");
    has("godwit_vm_network_transmit_drops_total{vm=\"web\",card=\"1\",reason=\"storm\"} 0");
    has("godwit_vm_disk_requests_total{vm=\"web\",disk=\"1\",kind=\"write\"} 11");
    vm->config.n_nics = vm->config.n_disks = 0;
    metrics_get();
    assert_null(strstr(answer, "godwit_vm_network_receive_bytes_total{"));
    assert_null(strstr(answer, "godwit_vm_disk_requests_total{"));
}

/* Partitions are part of their disk. */
static void test_disks(void **state)
{
    (void)state;
    n_disks = 3;
    disks[0] = (struct blockdev){ .name = "nvme0", .n_resets = 2 };
    disks[1] = (struct blockdev){ .name = "nvme0p1", .whole = &disks[0] };
    disks[2] = (struct blockdev){ .name = "ahci1", .n_errors = 3, .lost_us = 4 };
    for (unsigned k = 0; k < BLOCK_OPS; k++) {
        disks[0].n_done[k] = 10 + k;
        disks[0].n_bytes[k] = 4096 * k;
    }
    metrics_get();
    has("godwit_disk_requests_total{disk=\"nvme0\",kind=\"read\"} 10");
    has("godwit_disk_requests_total{disk=\"nvme0\",kind=\"zeroes\"} 14");
    has("godwit_disk_bytes_total{disk=\"nvme0\",kind=\"write\"} 4096");
    has("godwit_disk_resets_total{disk=\"nvme0\"} 2");
    has("godwit_disk_errors_total{disk=\"ahci1\"} 3");
    has("godwit_disk_lost{disk=\"nvme0\"} 0");
    has("godwit_disk_lost{disk=\"ahci1\"} 1");
    assert_null(strstr(answer, "nvme0p1"));
    assert_null(strstr(answer, "godwit_disk_bytes_total{disk=\"nvme0\",kind=\"flush\"}"));
}

static void test_moves_and_peers(void **state)
{
    (void)state;
    conf.n_peers = 3;
    for (unsigned i = 0; i < 3; i++)
        snprintf(conf.peers[i].name, sizeof(conf.peers[i].name), "%c", 'b' + i);
    reached[0] = REACH_YES;
    reached[1] = REACH_NO;
    moves.active = 3, moves.queued = moves.running = moves.in_doubt = 1;
    const uint64_t times[] = { 1, 5000, 5001, 299999, 30000000, 30000001 };
    for (unsigned i = 0; i < ARRAY_SIZE(times); i++)
        histogram_add(&moves.blackout, migration_blackout_bounds_us, times[i]);
    metrics_get();
    has("godwit_migration_blackout_seconds_bucket{le=\"0.005\"} 2");
    has("godwit_migration_blackout_seconds_bucket{le=\"0.01\"} 3");
    has("godwit_migration_blackout_seconds_bucket{le=\"0.3\"} 4");
    has("godwit_migration_blackout_seconds_bucket{le=\"30\"} 5");
    has("godwit_migration_blackout_seconds_bucket{le=\"+Inf\"} 6");
    has("godwit_migration_blackout_seconds_sum 60.310002");
    has("godwit_migration_blackout_seconds_count 6");
    has("godwit_migration_duration_seconds_bucket{le=\"3600\"} 0");
    has("godwit_migrations_pending{state=\"in-doubt\"} 1");
    has("godwit_places{kind=\"move\"} 2");
    has("godwit_places_used{kind=\"job\"} 3");
    has("godwit_peer_reachable{peer=\"b\"} 1");
    has("godwit_peer_reachable{peer=\"c\"} 0");
    assert_null(strstr(answer, "peer=\"d\"")); /* not asked yet */
    assert_int_equal(n_wanted, 1);
}

static void test_labels_are_escaped(void **state)
{
    (void)state;
    guest_add(0, "a\"b\\c\nd", 1);
    metrics_get();
    has("godwit_vm_memory_bytes{vm=\"a\\\"b\\\\c\\nd\"} 7");
}

/* Every line is a comment or a sample of the metric that the comments before it announce, each name once. */
static void check_syntax(void)
{
    char name[80] = "", seen[8192] = "\n", key[84];
    for (char *line = answer, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        *end = 0;
        if (sscanf(line, "# HELP %79s", name) == 1) {
            snprintf(key, sizeof(key), "\n%s\n", name);
            assert_null(strstr(seen, key));
            assert_true(strlen(seen) + sizeof(key) < sizeof(seen));
            strcat(seen, key + 1);
        } else if (line[0] == '#') {
            assert_memory_equal(line + 7, name, strlen(name));
        } else {
            char *value = strrchr(line, ' ');
            assert_memory_equal(line, name, strlen(name));
            assert_true(value && value[1 + strspn(value + 1, "0123456789.")] == 0);
        }
        *end = '\n';
    }
}

/* The most guests, vCPUs, peers, processors and jobs, with the longest names and numbers. */
static void test_the_fullest_answer_fits(void **state)
{
    (void)state;
    char longest[CONFIG_NAME_LEN];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = 0;
    big = UINT64_MAX;
    for (unsigned i = 0; i < VM_MAX; i++) {
        guest_add(i, longest, VM_MAX_VCPUS);
        memset(ports[i], 0xff, sizeof(ports[i]));
    }
    memset(blk, 0xff, sizeof(blk));
    memset(&moves, 0xff, sizeof(moves));
    pcpu_count = PCPU_MAX;
    for (unsigned i = 0; i < PCPU_MAX; i++)
        pcpus[i].idle_us = UINT64_MAX;
    n_jobs = MIGRATION_JOBS;
    for (unsigned i = 0; i < n_jobs; i++) {
        jobs[i].state = JOB_MOVING;
        memcpy(jobs[i].guest, longest, sizeof(longest));
        memcpy(jobs[i].peer, longest, sizeof(longest));
    }
    n_disks = BLOCKDEVS_MAX;
    memset(disks, 0xff, sizeof(disks));
    for (unsigned i = 0; i < n_disks; i++) {
        disks[i].whole = NULL;
        snprintf(disks[i].name, sizeof(disks[i].name), "virtio%u", 1000000000 + i);
    }
    conf.n_peers = CONFIG_MAX_PEERS;
    for (unsigned i = 0; i < conf.n_peers; i++) {
        memcpy(conf.peers[i].name, longest, sizeof(longest));
        reached[i] = REACH_YES;
    }
    metrics_get();
    print_message("the fullest answer has %zu bytes\n", strlen(answer));
    check_syntax();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_guest, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_disks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_moves_and_peers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_labels_are_escaped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_fullest_answer_fits, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
