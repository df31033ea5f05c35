/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/log.c - formats a line once and writes it to every sink: a ring in memory, port 0xE9, COM1, the
 * framebuffer.
 *
 * Texts come from guests, peers, clients and servers too.  So each source has a rate limit (log_rate.h), and bytes that
 * are no printable ASCII are written as \xNN: nobody forges a line, or sends a terminal an escape sequence.
 *
 * One lock serializes lines.  It is the last in the lock order but for serial's, and nothing called under it logs.  A
 * panic may interrupt a CPU that holds the lock.  So after log_panic_mode() the lock is not taken: only one CPU runs.
 * */
#include "kernel/lib/log.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/framebuffer.h"
#include "kernel/host/log_rate.h"
#include "kernel/host/log_sink.h"
#include "kernel/host/serial.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/lock.h"

#define LINE_MAX   512
#define DEBUG_PORT 0xe9
_Static_assert(LINE_MAX < LOG_RING_SIZE, "a line fits into the ring");

static struct spinlock lock;
static bool serving; /* [lock] the service loop runs: from then on sources are limited, boot messages are not */
static char ring[LOG_RING_SIZE]; /* [log] */
static uint64_t ring_end;        /* [log] bytes ever written */
static bool have_debug_port;     /* const after log_init */
static atomic_bool com1_on = true, panic_mode;
static atomic_uint com1_lines;
static atomic_int min_level = LOG_INFO;

void log_init(const struct boot_info *bi)
{
    have_debug_port = inb(DEBUG_PORT) == DEBUG_PORT; /* QEMU and Bochs return the port number, hardware 0xff */
    serial_init();
    fb_init(&bi->fb);
}

void log_com1_enable(bool on) { atomic_store_explicit(&com1_on, on, memory_order_relaxed); }
unsigned log_com1_lines(void) { return atomic_load_explicit(&com1_lines, memory_order_relaxed); }
void log_level_set(int level) { atomic_store_explicit(&min_level, level, memory_order_relaxed); }
void log_panic_mode(void)
{
    atomic_store_explicit(&panic_mode, true, memory_order_release);
    serial_panic_mode();
}

static void log_ring_write(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ring[ring_end++ % LOG_RING_SIZE] = s[i];
}

static void log_debug_port_write(const char *s, size_t len)
{
    for (size_t i = 0; have_debug_port && i < len; i++)
        outb(DEBUG_PORT, (uint8_t)s[i]);
}

/* s: one line, with its '\n'. */
static void log_emit(const char *s, size_t len)
{
    log_ring_write(s, len);
    log_debug_port_write(s, len);
    if (atomic_load_explicit(&com1_on, memory_order_relaxed) ||
        atomic_load_explicit(&panic_mode, memory_order_relaxed)) {
        serial_write(s, len - 1);
        serial_write("\r\n", 2);
        atomic_fetch_add_explicit(&com1_lines, 1, memory_order_relaxed);
    }
    fb_write(s, len);
}

/* Append text to line, escaped, as far as it fits with the '\n'.  Returns the new length. */
static size_t log_escape(char line[LINE_MAX], size_t n, const char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (; *text && n < LINE_MAX - 1; text++) {
        uint8_t c = (uint8_t)*text;
        if (c >= ' ' && c < 0x7f) {
            line[n++] = *text;
        } else if (n + 4 < LINE_MAX) {
            const char code[4] = { '\\', 'x', digits[c >> 4], digits[c & 15] };
            memcpy(line + n, code, 4);
            n += 4;
        } else {
            break;
        }
    }
    return n;
}

/* Write one line with this text.  [log] */
static void log_write(enum log_level level, uint64_t us, const char *subject, const char *text)
{
    static const char names[][6] = { "debug", "info", "warn", "error" };
    char line[LINE_MAX];
    size_t n = (size_t)fmt_snprintf(line, LINE_MAX, "[%3lu.%06lu] %s ", us / 1000000, us % 1000000, names[level]);

    n = log_escape(line, n, subject);
    n = log_escape(line, n, ": ");
    n = log_escape(line, n, text);
    line[n] = '\n';
    log_emit(line, n + 1);
}

void log_line(enum log_level level, const char *subject, const char *fmt, ...)
{
    char text[LINE_MAX];
    va_list ap;
    uint64_t us = clock_us();

    if ((int)level < atomic_load_explicit(&min_level, memory_order_relaxed))
        return;
    va_start(ap, fmt);
    (void)fmt_vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    bool locked = !atomic_load_explicit(&panic_mode, memory_order_acquire);
    if (locked)
        spin_lock(&lock);
    if (!locked || !serving || log_rate_allows(subject, fmt, text, us))
        log_write(level, us, subject, text);
    if (locked)
        spin_unlock(&lock);
}

void log_step(void)
{
    struct log_left_out o;
    char text[160];
    uint64_t us = clock_us();

    spin_lock(&lock);
    serving = true;
    while (log_rate_left_out(&o, us)) {
        (void)fmt_snprintf(text, sizeof(text), "%lu more lines like this one were left out: %s", o.n, o.text);
        log_write(LOG_WARN, us, o.subject, text);
    }
    spin_unlock(&lock);
}

size_t log_ring_copy(char *buf, size_t cap)
{
    spin_lock(&lock);
    /* -1: the byte before the first is still in the ring */
    uint64_t n = MIN(MIN(ring_end, LOG_RING_SIZE - 1), cap), at = ring_end - n;
    while (at > 0 && at < ring_end && ring[(at - 1) % LOG_RING_SIZE] != '\n') /* start at a line */
        at++;
    n = ring_end - at;
    for (uint64_t i = 0; i < n; i++)
        buf[i] = ring[(at + i) % LOG_RING_SIZE];
    spin_unlock(&lock);
    return n;
}
