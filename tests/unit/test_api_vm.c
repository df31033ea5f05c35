/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/manage/api_vm.c kernel/lib/json.c kernel/lib/text.c kernel/lib/err.c kernel/config/config.c
 *   kernel/config/config_keys.c kernel/config/config_write.c kernel/lib/print.c tests/fakes/log.c */
/* tests/unit/test_api_vm.c - a guest's object in the management interface: what is in it only now and then. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/dev/devices.h"
#include "kernel/dev/vdev_balloon.h"
#include "kernel/host/clock.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/operate.h"
#include "kernel/peers/move_record.h"
#include "kernel/peers/start.h"
#include "kernel/store/saved.h"
#include "kernel/vm/guest_console.h"
#include "kernel/vm/guest_net.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_memory.h"
#include "kernel/vm/vm_usage.h"
#include "net/vswitch.h"

/* ---- the rest of the host ---- */

static struct vm web;
static struct job move;
static bool moving;
static const char *doubt;

const struct job *migration_of(const char *guest)
{
    assert_string_equal(guest, "web");
    return moving ? &move : NULL;
}
const char *migration_job_doubt(const struct job *j)
{
    assert_ptr_equal(j, &move);
    return doubt;
}
static const char *left_to;
const char *move_record_left_to(const char *guest)
{
    assert_string_equal(guest, "web");
    return left_to;
}
static struct saved is_saved; /* all zero: it is not */
struct saved saved_find(const char *guest)
{
    assert_string_equal(guest, "web");
    return is_saved;
}
struct vm *vm_find(const char *name) { return strcmp(name, "web") ? NULL : &web; }
struct vm *vm_at(unsigned i) { return i ? NULL : &web; }
unsigned vm_slot(const struct vm *vm) { return vm != &web; }
unsigned vm_slots(void) { return 1; }
const char *vm_state_name(enum vm_state s) { return s == VM_STOPPED ? "stopped" : "running"; }
const char *const vcpu_exit_names[VCPU_EXIT_COUNT] = { [0 ... VCPU_EXIT_COUNT - 1] = "cpuid" };
uint64_t clock_us(void) { return 1000; }
uint64_t clock_tsc_to_us(uint64_t ticks) { return ticks; }
uint64_t vm_memory_needed(const struct vm_config *c, uint64_t pages) { return c->memory_bytes + pages; }
struct start_status start_status(const struct vm *vm)
{
    (void)vm;
    return (struct start_status){ .text = "" };
}
bool vm_disk_waiting(const struct vm *vm, char *text, size_t len)
{
    (void)vm, (void)text, (void)len;
    return false;
}
enum pm_button pm_button(const struct pm *p)
{
    (void)p;
    return PM_BUTTON_READY;
}
struct vm_usage vm_usage(const struct vm *vm)
{
    (void)vm;
    return (struct vm_usage){ 0 };
}
struct balloon_state vdev_balloon_state(struct vm *vm)
{
    (void)vm;
    return (struct balloon_state){ 0 };
}
const struct vswitch_port *guest_net_port(const struct vm *vm, unsigned card)
{
    (void)vm, (void)card;
    return NULL;
}
void port_address_text(const struct port_address *a, char out[PORT_ADDRESS_TEXT])
{
    (void)a;
    out[0] = '\0';
}
void vm_inspect(struct vm *vm, struct printer *out) { print_line(out, "%s", vm->config.name); }
size_t guest_console_read(const struct vm *vm, uint64_t *at, char *buf, size_t cap)
{
    (void)vm, (void)at, (void)buf, (void)cap;
    return 0;
}
size_t guest_console_type(struct vm *vm, const void *text, size_t len)
{
    (void)vm, (void)text;
    return len;
}
uint64_t http_query_num(const struct http_conn *h, const char *key, uint64_t otherwise)
{
    (void)h, (void)key;
    return otherwise;
}
void http_query_text(const struct http_conn *h, const char *key, char *out, size_t cap)
{
    (void)h, (void)key, (void)cap;
    out[0] = '\0';
}
#define OPERATE(name)                                                          \
    enum hv_err operate_##name(const char *v, const char *by, struct why *why) \
    {                                                                          \
        (void)v, (void)by, (void)why;                                          \
        return HV_OK;                                                          \
    }
/* clang-format off */
OPERATE(stop) OPERATE(shutdown) OPERATE(reset) OPERATE(nmi) OPERATE(pause) OPERATE(resume)
    /* clang-format on */
    enum hv_err operate_start(const char *v, bool force, const char *by, struct why *why)
{
    (void)v, (void)force, (void)by, (void)why;
    return HV_OK;
}
enum hv_err operate_memory_target(const char *v, uint64_t bytes, const char *by, struct why *why)
{
    (void)v, (void)bytes, (void)by, (void)why;
    return HV_OK;
}
void api_fail(struct api_call *c, enum hv_err e, unsigned status, const char *fmt, ...)
{
    (void)c, (void)fmt;
    fail_msg("%s, status %u", hv_err_name(e), status);
}
bool api_take_bool(struct api_call *c, const char *key, bool *out)
{
    (void)c, (void)key;
    *out = false;
    return true;
}
void api_result(struct api_call *c, enum hv_err e, const char *text)
{
    (void)c, (void)text;
    assert_int_equal(e, HV_OK);
}

/* ---- */

static char answer[32768];
static const char *ask(void (*handler)(struct api_call *c))
{
    struct api_call c = { .arg = "web" };
    json_init(&c.out, answer, sizeof(answer));
    handler(&c);
    assert_true(json_good(&c.out));
    answer[c.out.text.len] = '\0';
    return answer;
}

static void begin(enum vm_state s)
{
    memset(&web, 0, sizeof(web));
    snprintf(web.config.name, sizeof(web.config.name), "web");
    atomic_store(&web.state, s);
    moving = false;
    doubt = NULL;
}

/* Where a guest is saved, and that it is being saved. */
static void test_saved(void **s)
{
    static struct lvm_group group = { .vg.name = "vg0" };
    static const struct lvm_lv volume = { .name = "saved.web" };
    (void)s;
    begin(VM_RUNNING);
    web.saving = true;
    assert_non_null(strstr(ask(api_vm_list), "\"saving\":true"));
    begin(VM_STOPPED);
    is_saved = (struct saved){ .state = SAVED_WHOLE, .group = &group, .lv = &volume };
    assert_non_null(strstr(ask(api_vm_list), "\"saved\":\"vg0/saved.web\""));
    is_saved.state = SAVED_USED;
    assert_null(strstr(ask(api_vm_list), "\"saved\""));
    is_saved.state = SAVED_NONE;
}

/* A move in doubt is told by the list and by the guest's own object, also of a guest that a reboot has stopped. */
static void test_doubt(void **s)
{
    (void)s;
    static void (*const handlers[])(struct api_call *c) = { api_vm_list, api_vm_show, api_vm_inspect };
    for (unsigned i = 0; i < 2 * ARRAY_SIZE(handlers); i++) {
        void (*handler)(struct api_call *) = handlers[i / 2];
        begin(i % 2 ? VM_STOPPED : VM_RUNNING);
        assert_non_null(strstr(ask(handler), "\"moving\":false"));
        moving = true;
        assert_non_null(strstr(ask(handler), "\"moving\":true"));
        assert_null(strstr(answer, "doubt"));
        doubt = "no answer to \"COMMIT\"";
        assert_non_null(strstr(ask(handler), "\"moving\":true,\"doubt\":\"no answer to \\\"COMMIT\\\"\""));
    }
}

static void test_autostart(void **s)
{
    (void)s;
    begin(VM_STOPPED);
    web.config.autostart = AUTOSTART_LAST;
    assert_non_null(strstr(ask(api_vm_list), "\"autostart\":true,\"autostart_mode\":\"last\""));
}

/* A stopped guest that has moved away is told from one that is this host's. */
static void test_left(void **s)
{
    (void)s;
    left_to = "b";
    begin(VM_RUNNING); /* it came back, and nothing else counts */
    assert_null(strstr(ask(api_vm_list), "left_to"));
    begin(VM_STOPPED);
    assert_non_null(strstr(ask(api_vm_list), "\"left_to\":\"b\""));
    left_to = NULL;
    assert_null(strstr(ask(api_vm_list), "left_to"));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_doubt), cmocka_unit_test(test_left),
                                        cmocka_unit_test(test_saved), cmocka_unit_test(test_autostart) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
