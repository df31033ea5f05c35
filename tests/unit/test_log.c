/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/host/log.c kernel/host/log_rate.c kernel/lib/fmt.c
 *
 * The log itself: what one guest, peer or client causes leaves room for others, and cannot forge a line. */
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/framebuffer.h"
#include "kernel/host/log_sink.h"
#include "kernel/host/serial.h"
#include "kernel/lib/log.h"

/* --- the sinks --- */

static uint64_t now_us = 1000000;
static char said[1 << 20];
static size_t said_len;
static unsigned n_lines;

uint64_t clock_us(void) { return now_us; }
void serial_init(void) {}
void serial_panic_mode(void) {}
void serial_write(const char *s, size_t len)
{
    assert_true(said_len + len < sizeof(said));
    memcpy(said + said_len, s, len);
    said_len += len;
}
void fb_init(const struct boot_fb *fb) { (void)fb; }
void fb_write(const char *s, size_t len)
{
    assert_int_equal(s[len - 1], '\n');
    assert_ptr_equal(memchr(s, '\n', len), s + len - 1);
    for (size_t i = 0; i < len - 1; i++)
        assert_true(s[i] >= ' ' && s[i] < 0x7f);
    n_lines++;
}
void assert_fail(const char *file, int line, const char *expr)
{
    fail_msg("%s:%d: %s", file, line, expr);
    __builtin_trap();
}

static void forget(void)
{
    memset(said, 0, sizeof(said));
    said_len = n_lines = 0;
}

static int later(void **state)
{
    (void)state;
    now_us += UINT64_C(3600) * 1000000; /* all credit is back */
    log_step();
    log_step();
    forget();
    return 0;
}

static void port_write(const char *guest, unsigned i)
{
    log_info(guest, "vCPU %u at rip %#lx: write of %u bytes to port %#x, which no device claims", 0, 0x1000ul + i, 1,
             i);
}

/* --- tests --- */

static void test_one_guest_is_limited(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        port_write("evil", i);
        now_us += 10;
    }
    assert_in_range(n_lines, 10, 60);
    /* neither another guest, nor the host's own lines, are silenced by it */
    forget();
    port_write("good", 1);
    log_warn("evil", "disk is lost");
    log_info("vm", "%s: started", "good");
    assert_int_equal(n_lines, 3);
}

static void test_the_rest_is_counted_and_said(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100000; i++)
        port_write("evil", i);
    unsigned written = n_lines;
    forget();
    for (unsigned s = 0; s < 61; s++) {
        now_us += 1000000;
        log_step();
    }
    assert_int_equal(n_lines, 1);
    char want[64];
    snprintf(want, sizeof(want), "warn evil: %u more lines like this one", 100000 - written);
    assert_non_null(strstr(said, want));
    forget();
    for (unsigned s = 0; s < 200; s++) {
        now_us += 1000000;
        log_step();
    }
    assert_int_equal(n_lines, 0); /* said once */
}

/* One call for all clients: the name that a line begins with makes the source. */
static void test_a_client_does_not_silence_another(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10000; i++)
        log_info("api", "%s: %s %s: %u", "reader", "GET", "/nothing", 404);
    forget();
    log_info("api", "%s: %s %s: %u", "operator", "POST", "/v1/vms/web/start", 202);
    assert_int_equal(n_lines, 1);
}

/* Names that somebody invents are bounded by the limit of the place in the code. */
static void test_invented_names(void **state)
{
    (void)state;
    char name[32];
    for (unsigned i = 0; i < 10000; i++) {
        snprintf(name, sizeof(name), "guest%u", i);
        log_info("mig", "%s: arriving from %s", name, "evil");
    }
    assert_in_range(n_lines, 10, 250);
    forget();
    log_info("mig", "%s: runs here now", "web");
    assert_int_equal(n_lines, 1);
}

static void test_nothing_is_forged(void **state)
{
    (void)state;
    log_warn("mig", "from b: %s", "x\n[  1.000000] info vm: web: started\r\x1b[2J\x9b\x7f\xc3\xa9 end");
    assert_int_equal(n_lines, 1); /* fb_write has looked at the bytes */
    assert_non_null(
        strstr(said, "from b: x\\x0a[  1.000000] info vm: web: started\\x0d\\x1b[2J\\x9b\\x7f\\xc3\\xa9 end"));
    log_warn("a\nb", "text");
    assert_non_null(strstr(said, "warn a\\x0ab: text"));
}

static void test_long_lines(void **state)
{
    (void)state;
    static char text[2000];
    memset(text, '\n', sizeof(text) - 1);
    log_warn("net", "%s", text);
    memset(text, 'x', sizeof(text) - 1);
    log_warn("net", "%s", text);
    assert_int_equal(n_lines, 2);
    char ring[4096];
    size_t n = log_ring_copy(ring, sizeof(ring));
    assert_true(n > 0 && ring[n - 1] == '\n');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_one_guest_is_limited, later),
        cmocka_unit_test_setup(test_the_rest_is_counted_and_said, later),
        cmocka_unit_test_setup(test_a_client_does_not_silence_another, later),
        cmocka_unit_test_setup(test_invented_names, later),
        cmocka_unit_test_setup(test_nothing_is_forged, later),
        cmocka_unit_test_setup(test_long_lines, later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
