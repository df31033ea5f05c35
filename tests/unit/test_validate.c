/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_validate.c - questions whether guests could migrate: how many may be open, which answers make room
 * for others, and the texts about the best destination or the lack of one. */
/* unit-sources: kernel/peers/validate.c kernel/peers/kind.c kernel/peers/estimate.c kernel/peers/choose.c
 *   kernel/peers/choose_best.c kernel/config/config.c kernel/config/config_keys.c kernel/lib/err.c
 *   tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/host/clock.h"
#include "kernel/peers/checkpoint.h"
#include "kernel/peers/choose.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/move_record.h"
#include "kernel/peers/start.h"
#include "kernel/peers/validate.h"
#include "kernel/store/saved.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"

#define N_GUESTS 9

static struct config conf = { .host = { .name = "a", .outgoing = true },
                              .peers = { { .name = "b" }, { .name = "c" } },
                              .n_peers = 2 };
static struct vm guests[N_GUESTS];
static struct ask *open_asks[64];
static unsigned n_begun, n_open;
static bool moving, no_memory;
static uint64_t now;

uint64_t clock_us(void) { return now += 1000; }
const struct job *migration_of(const char *guest)
{
    static const struct job job;
    (void)guest;
    return moving ? &job : NULL;
}
const char *vm_state_name(enum vm_state s) { return s == VM_PAUSED ? "paused" : "other"; }
struct saved saved_find(const char *guest)
{
    (void)guest;
    return (struct saved){ .state = SAVED_NONE };
}
void saved_disks_text(const struct vm_config *c, char text[SAVED_DISKS_LEN]) { text[0] = c ? '\0' : 'x'; }
const char *lvm_lv_tag(const struct lvm_lv *lv, const char *key) { return lv && key ? key : NULL; }
struct vm *vm_find(const char *name)
{
    for (unsigned i = 0; i < N_GUESTS; i++)
        if (!strcmp(guests[i].config.name, name))
            return &guests[i];
    return NULL;
}
static const char *stays;
static enum hv_err files_error;
enum hv_err vm_files_get(struct vm *vm, struct why *why)
{
    vm->boot.n_pages = 3;
    return files_error ? REFUSE(files_error, "its kernel is not here") : HV_OK;
}
void vm_files_leave(struct vm *vm) { vm->boot.n_pages = 0; }
bool vm_disk_waiting(const struct vm *vm, char *text, size_t len)
{
    (void)vm, (void)len;
    text[0] = 0;
    return false;
}
static const struct cpu_ops some_cpu;
const struct cpu_ops *cpu_ops = &some_cpu;
struct start_status start_status(const struct vm *vm)
{
    (void)vm;
    return (struct start_status){ START_IDLE, HV_OK, "" };
}
const char *move_record_left_to(const char *name)
{
    (void)name;
    return NULL;
}
enum hv_err checkpoint_may_move(const struct vm_config *c, struct why *out)
{
    (void)c, (void)out;
    return HV_OK;
}
bool checkpoint_is_made(const char *guest) { return !guest; }
struct checkpoint checkpoint_next(const char *guest, const struct checkpoint *after)
{
    (void)guest, (void)after;
    return (struct checkpoint){ .group = NULL };
}
const char *vm_disk_stays(const struct vm *vm, bool along, char *text, size_t len)
{
    (void)along;
    (void)vm;
    snprintf(text, len, "%s", stays ? stays : "");
    return stays;
}
enum hv_err vm_disk_check(const struct vm_config *c, struct why *why)
{
    (void)c, (void)why;
    return HV_OK;
}
uint64_t leave_disks_bytes(const struct vm *vm, bool with_base) { return with_base ? vm->config.n_disks : 5 * MIB; }
struct ask *ask_begin(enum ask_kind kind, const struct vm *vm, const struct mig_id *ticket)
{
    (void)vm, (void)ticket;
    assert_int_equal(kind, ASK_PROBE);
    if (no_memory)
        return NULL;
    struct ask *a = calloc(1, sizeof(*a));
    a->n = 2;
    open_asks[n_begun++] = a;
    n_open++;
    return a;
}
bool ask_done(const struct ask *a) { return a->reply[0].state != ASK_WAITING && a->reply[1].state != ASK_WAITING; }
void ask_end(struct ask *a)
{
    if (!a)
        return;
    for (unsigned i = 0; i < n_begun; i++)
        if (open_asks[i] == a)
            open_asks[i] = NULL;
    n_open--;
    free(a);
}

static struct validation v;
static struct move_options options = { .live = true };
static char why[200];

static enum hv_err ask_for(unsigned guest, const char *to)
{
    char name[8];
    snprintf(name, sizeof(name), "g%u", guest);
    return validate(name, to, &options, &v, WHY(why));
}

/* Both peers answer all that is open: b takes the guest, c does not. */
static void answer(void)
{
    for (unsigned i = 0; i < n_begun; i++)
        if (open_asks[i]) {
            open_asks[i]->reply[0] = (struct ask_reply){ .state = ASK_ANSWERED, .free_bytes = 77 };
            open_asks[i]->reply[1] = (struct ask_reply){ .state = ASK_ANSWERED, .n_reasons = 1, .text = "too small" };
        }
}

static int set_up(void **s)
{
    (void)s;
    for (unsigned i = 0; i < N_GUESTS; i++) {
        snprintf(guests[i].config.name, sizeof(guests[i].config.name), "g%u", i);
        atomic_store(&guests[i].state, VM_RUNNING);
    }
    host_config = &conf;
    n_begun = 0;
    moving = no_memory = false;
    return 0;
}

static int tear_down(void **s)
{
    (void)s;
    now += 60000000;
    validate_step();
    assert_int_equal(n_open, 0);
    return 0;
}

/* A pool of more guests than there are places: each gets its verdicts, one after the other, without waiting for
 * old answers to go stale. */
static void test_many_guests(void **s)
{
    (void)s;
    for (unsigned g = 0; g < N_GUESTS; g++) {
        assert_int_equal(ask_for(g, "b"), HV_OK);
        assert_false(v.known);
        answer();
        assert_int_equal(ask_for(g, "b"), HV_OK);
        assert_true(v.known && v.would_move && v.free_bytes == 77);
        assert_int_equal(ask_for(g, "c"), HV_OK);
        assert_true(v.known && !v.would_move && !strcmp(v.text, "too small"));
        assert_int_equal(n_begun, g + 1);
        assert_in_range(n_open, 1, 4);
    }
    assert_int_equal(ask_for(N_GUESTS - 1, "b"), HV_OK); /* the newest answers are kept */
    assert_int_equal(n_begun, N_GUESTS);
}

/* Questions that are open are not given up for others. */
static void test_all_open(void **s)
{
    (void)s;
    for (unsigned g = 0; g < 4; g++)
        assert_int_equal(ask_for(g, "b"), HV_OK);
    assert_int_equal(ask_for(4, "b"), HV_E_BUSY);
    assert_non_null(strstr(why, "4 guests are being asked for already"));
    answer();
    assert_int_equal(ask_for(0, "b"), HV_OK);
    assert_int_equal(ask_for(4, "b"), HV_OK);
    assert_int_equal(n_open, 4);
    no_memory = true;
    answer();
    assert_int_equal(ask_for(5, "b"), HV_E_BUSY);
    assert_int_equal(n_open, 3);
}

/* A guest left, and another arrived in its slot before the next step: the answers were not about that one. */
static void test_slot_of_another(void **s)
{
    (void)s;
    assert_int_equal(ask_for(0, "b"), HV_OK);
    answer();
    strcpy(guests[0].config.name, "new");
    assert_int_equal(validate("new", "b", &options, &v, WHY(why)), HV_OK);
    assert_false(v.known);
    assert_int_equal(n_open, 2);
    validate_step();
    assert_int_equal(n_open, 1);
}

static void test_refused_here(void **s)
{
    (void)s;
    assert_int_equal(ask_for(3, "nobody"), HV_E_NOENT);
    assert_non_null(strstr(why, "no [peer nobody]"));
    assert_int_equal(validate("x", "b", &options, &v, WHY(why)), HV_E_NOENT);
    assert_non_null(strstr(why, "no guest is named"));
    atomic_store(&guests[1].state, VM_PAUSED);
    assert_int_equal(ask_for(1, "b"), HV_OK);
    assert_true(v.known && !v.would_move && strstr(v.text, "is paused; only a guest that runs, is stopped, or"));
    guests[1].operator_paused = true; /* it was for its disk */
    assert_int_equal(ask_for(1, "b"), HV_OK);
    assert_true(!v.known && n_begun == 1);
    answer();
    assert_int_equal(ask_for(1, "b"), HV_OK);
    assert_true(v.would_move);
    guests[1].operator_paused = false;
    moving = true;
    assert_int_equal(ask_for(2, "b"), HV_OK);
    assert_true(v.known && strstr(v.text, "is moving already"));
    conf.host.outgoing = false;
    assert_int_equal(ask_for(2, "b"), HV_OK);
    assert_true(v.known && strstr(v.text, "allows no outgoing moves ([host] outgoing = no)"));
    conf.host.outgoing = true;
    moving = false;
    stays = "its disk is here";
    assert_int_equal(ask_for(2, "b"), HV_OK);
    assert_true(v.known && !v.would_move && !strcmp(v.text, "g2 cannot move: its disk is here"));
    stays = NULL;
    assert_int_equal(n_begun, 1);
}

/* The transfer type is known before the peer has answered, and follows from the guest and the options. */
static void test_kind(void **s)
{
    (void)s;
    for (unsigned i = 0; i < 3; i++) {
        struct vm *vm = &guests[i];
        options.live = i != 1;
        vm->operator_paused = i == 2;
        atomic_store(&vm->state, i == 2 ? VM_PAUSED : VM_RUNNING);
        vm->config.n_disks = i;
        vm->config.disk[0].kind = DISK_IN_RAM;
        vm->config.disk[1].kind = DISK_ON_NBD;
        assert_int_equal(ask_for(i, "b"), HV_OK);
        assert_true(!v.known && v.has_kind);
        assert_int_equal(v.kind.how, i);
        assert_int_equal(v.kind.disks, i == 2 ? MOVE_DISKS_SHARED : MOVE_DISKS_NONE);
        vm->config.n_disks = 0;
        vm->operator_paused = false;
    }
    snprintf(options.places, sizeof(options.places), "vda=fast/x"); /* there is no such disk */
    assert_int_equal(ask_for(0, "b"), HV_OK);
    assert_true(v.known && !v.would_move);
    assert_string_equal(v.text, "g0 has no disk vda that is a volume, so it cannot become fast/x");
    options.places[0] = '\0';
    options.live = true;
    atomic_store(&guests[3].state, VM_STOPPED);
    assert_int_equal(ask_for(3, "b"), HV_OK);
    assert_true(v.has_kind && v.kind.how == MOVE_COLD && !v.known);
    answer();
    assert_int_equal(ask_for(3, "b"), HV_OK);
    assert_true(v.would_move && v.estimate.bytes == 3 * PAGE_SIZE && !v.estimate.moves);
    guests[3].config.n_disks = 1;
    guests[3].config.disk[0].kind = DISK_ON_LV;
    assert_int_equal(ask_for(3, "b"), HV_OK);
    assert_true(v.kind.disks == MOVE_DISKS_COPIED && v.estimate.bytes == 3 * PAGE_SIZE + 5 * MIB);
    assert_int_equal(v.estimate.disks, 5 * MIB);
    guests[3].config.n_disks = 0;
    files_error = HV_E_AGAIN;
    assert_int_equal(ask_for(3, "b"), HV_OK);
    assert_false(v.known);
    files_error = HV_E_NOENT;
    assert_int_equal(ask_for(3, "b"), HV_OK);
    assert_true(v.known && !v.would_move && !strcmp(v.text, "its kernel is not here"));
    files_error = HV_OK;
    assert_string_equal(move_how_name(MOVE_QUICK), "quick");
    assert_string_equal(move_how_name(MOVE_SAVED), "saved");
    assert_string_equal(move_disks_name(MOVE_DISKS_SHARED), "shared");
}

/* The best peer with its reason; none, with what stands against each; no question at all. */
static void test_choice(void **s)
{
    static const struct move_options no_options;
    (void)s;
    struct choice c = { .ask = NULL };
    const struct peer_config *peer;
    host_config = &conf;
    assert_int_equal(choose_begin(&c, &guests[0], &no_options), HV_OK);
    assert_int_equal(choose_step(&c, 0, &peer, WHY(why)), CHOOSE_WAIT);
    open_asks[0]->reply[0] = (struct ask_reply){ .state = ASK_ANSWERED, .free_bytes = 77 * MIB };
    open_asks[0]->reply[1] = (struct ask_reply){ .state = ASK_ANSWERED, .free_bytes = 99 * MIB };
    assert_int_equal(choose_step(&c, 0, &peer, WHY(why)), CHOOSE_DONE);
    assert_ptr_equal(peer, &conf.peers[1]);
    assert_string_equal(why, "it can give 99 MiB, the most of 2 peer(s) that can take the guest");

    assert_int_equal(choose_begin(&c, &guests[0], &no_options),
                     HV_OK); /* the best one is busy: the next, or the best one later */
    open_asks[1]->reply[0] = (struct ask_reply){ .state = ASK_ANSWERED, .free_bytes = 77 * MIB };
    open_asks[1]->reply[1] = (struct ask_reply){ .state = ASK_ANSWERED, .free_bytes = 99 * MIB };
    assert_int_equal(choose_step(&c, 2, &peer, WHY(why)), CHOOSE_DONE);
    assert_ptr_equal(peer, &conf.peers[0]);
    assert_int_equal(choose_begin(&c, &guests[0], &no_options), HV_OK);
    open_asks[2]->reply[0] = (struct ask_reply){ .state = ASK_ANSWERED, .n_reasons = 1 };
    open_asks[2]->reply[1] = (struct ask_reply){ .state = ASK_ANSWERED, .free_bytes = 99 * MIB };
    assert_int_equal(choose_step(&c, 2, &peer, WHY(why)), CHOOSE_LATER);
    assert_ptr_equal(peer, &conf.peers[1]);

    choose_tried(&c, peer, ""); /* it went silent on the way: the other one cannot be asked */
    assert_int_equal(choose_begin(&c, &guests[0], &no_options), HV_OK);
    open_asks[3]->reply[0] = (struct ask_reply){ .state = ASK_FAILED, .text = "no answer from it" };
    now += 16000000;
    assert_int_equal(choose_step(&c, 0, &peer, WHY(why)), CHOOSE_NONE);
    assert_string_equal(c.reasons, "c: it gave no reason | b: cannot be asked: no answer from it");

    c = (struct choice){ .ask = NULL };
    no_memory = true;
    assert_int_equal(choose_begin(&c, &guests[0], &no_options), HV_E_NOMEM);
    assert_string_equal(c.reasons, "no memory on this host to ask its peers");
    struct config alone = { .n_peers = 0 };
    host_config = &alone;
    assert_int_equal(choose_begin(&c, &guests[0], &no_options), HV_E_NOENT);
    assert_string_equal(c.reasons, "this host has no [peer] in godwit.conf");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(test_choice, set_up, tear_down),
                                        cmocka_unit_test_setup_teardown(test_many_guests, set_up, tear_down),
                                        cmocka_unit_test_setup_teardown(test_all_open, set_up, tear_down),
                                        cmocka_unit_test_setup_teardown(test_slot_of_another, set_up, tear_down),
                                        cmocka_unit_test_setup_teardown(test_refused_here, set_up, tear_down),
                                        cmocka_unit_test_setup_teardown(test_kind, set_up, tear_down) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
