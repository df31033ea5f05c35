/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/dirtier.c - dirties memory at a chosen rate, verifies every word of it, and measures its own blackouts.
 *
 * usage: dirtier [MIB [PAGES_PER_S [word|fill|marker [SEED [REST_MS]]]]]; commands on stdin: see the table at the end
 *
 * The model: the expected contents are not copied from the buffer itself.  Each page has only two counters, in separate
 * memory: `fill`, how often the whole page was written, and `words`, how many single words were written since.  They
 * determine every word:
 *     word w of page p  =  base(p, fill, w)                  as long as no single write hit it,
 *                          mark(p, fill, i)                  with i the last of the writes 0..words-1 that went to w.
 * Write i goes to place(p, i) = (131 p + 197 i) mod 512; 197 is odd, so 512 writes visit each word once, and the i that
 * belongs to a w is found by the inverse of 197 mod 512.  A lost page, an old copy of a page, or one lost 8-byte write
 * makes `verify` fail.  (A move that lost the counters' pages too would be caught as well: the stale counters disagree
 * with some other page.  `total` guards even the rest.)
 *
 * The clock: between writes the program only reads CLOCK_MONOTONIC.  The largest step between two readings is the
 * longest time for which this guest did not run (or its clock jumped).  Verification and writing are done in steps of
 * one page, so they add microseconds, not gaps.  With REST_MS it sleeps that long at a time instead, for shared
 * machines where gaps are not measured. */
#include "payload.h"

#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#define PAGE_WORDS     512u
#define PLACE_STEP     197u
#define PLACE_INVERSE  13u /* 197 * 13 = 5 * 512 + 1 */
#define TICK_NS        100000000u
#define STDIN_NS       2000000u  /* look at stdin this often */
#define LATE_NS        50000000u /* further behind than this (a blackout): do not catch up in a burst */
#define MAX_COMPLAINTS 8

_Static_assert(PLACE_STEP *PLACE_INVERSE % PAGE_WORDS == 1, "inverse");

enum mode { MODE_WORD, MODE_FILL, MODE_MARKER };
static const char *const mode_names[] = { "word", "fill", "marker" };

struct page_state {
    uint32_t fill, words;
};

static struct {
    uint64_t *mem;
    struct page_state *pages;
    uint64_t n_pages, seed, rate, total; /* total: pages dirtied since the start */
    enum mode mode;
    bool marker_base; /* whole pages hold marker text instead of noise */
    bool paused, quit;
    int rest_ms;              /* how long to sleep when there is nothing to do; 0: not at all */
    uint64_t walk, walk_mask; /* the pseudo-random cycle over the pages */
    uint64_t next_write_ns;
} d;

static struct {
    uint64_t prev_mono, prev_real, back_mono, back_real;
    uint64_t tick_gap, max_gap, second_gap, max_at, since; /* ns */
    uint64_t n_ticks, next_tick, every;                    /* every: ns from tick to tick, 0: none */
    uint64_t ticked_total;
} c;

static struct {
    bool active;
    uint64_t page, bad_words, words, start_ns;
} v;

/* One write(2) for each line, so that lines stay whole on the console. */
static void say(const char *fmt, ...)
{
    char line[200];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof(line))
        n = sizeof(line) - 1;
    for (int off = 0; off < n;) {
        ssize_t w = write(STDOUT_FILENO, line + off, (size_t)(n - off));
        if (w <= 0)
            return;
        off += (int)w;
    }
}

/* -- what every word must be --------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x) /* xorshift-multiply: neighbouring inputs give unrelated outputs */
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Marker pages: 64-byte lines of plain text, each naming its page, so that a packet dump can be searched for them. */
static uint64_t marker_word(uint64_t page, uint32_t fill, unsigned w)
{
    static char line[65];
    static uint64_t line_page = UINT64_MAX;
    static uint32_t line_fill;
    uint64_t out;
    if (page != line_page || fill != line_fill)
        snprintf(line, sizeof(line), "GODWIT-PLAINTEXT-MARKER:page=%08x:fill=%08x:do-not-leak!", (unsigned)page, fill);
    line_page = page;
    line_fill = fill;
    memcpy(&out, line + w % 8 * 8, 8);
    return out;
}

static uint64_t base_word(uint64_t page, uint32_t fill, unsigned w)
{
    if (d.marker_base)
        return marker_word(page, fill, w);
    return mix(d.seed + (page << 20 | w) * 0x9e3779b97f4a7c15u + (uint64_t)fill * 0xd1342543de82ef95u);
}

static uint64_t mark_word(uint64_t page, uint32_t fill, uint32_t i)
{
    return (page << 44) ^ ((uint64_t)fill << 32) ^ i;
}

static unsigned place(uint64_t page, uint32_t i)
{
    return (unsigned)((131 * page + (uint64_t)PLACE_STEP * i) % PAGE_WORDS);
}

static uint64_t expected_word(uint64_t page, unsigned w)
{
    struct page_state s = d.pages[page];
    uint32_t first = (uint32_t)((w + PAGE_WORDS - 131 * page % PAGE_WORDS) * PLACE_INVERSE % PAGE_WORDS);
    if (s.words <= first)
        return base_word(page, s.fill, w);
    return mark_word(page, s.fill, first + (s.words - 1 - first) / PAGE_WORDS * PAGE_WORDS);
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

static void page_fill(uint64_t page)
{
    uint64_t *m = d.mem + page * PAGE_WORDS;
    for (unsigned w = 0; w < PAGE_WORDS; w++)
        m[w] = base_word(page, d.pages[page].fill, w);
}

static uint64_t next_page(void)
{
    do
        /* full period modulo a power of two */
        d.walk = (d.walk * 0x5851f42d4c957f2du + 0x14057b7ef767814fu) & d.walk_mask;
    while (d.walk >= d.n_pages);
    return d.walk;
}

static void dirty_one(void)
{
    uint64_t page = next_page();
    struct page_state *s = &d.pages[page];
    d.total++;
    if (d.mode == MODE_WORD) {
        d.mem[page * PAGE_WORDS + place(page, s->words)] = mark_word(page, s->fill, s->words);
        s->words++;
    } else {
        s->fill++;
        s->words = 0;
        page_fill(page);
    }
}

static bool dirty_is_due(uint64_t now) { return !d.paused && d.rate && now >= d.next_write_ns; }

static void dirty_when_due(uint64_t now)
{
    if (!dirty_is_due(now))
        return;
    dirty_one();
    d.next_write_ns += 1000000000u / d.rate;
    if (now > d.next_write_ns + LATE_NS)
        d.next_write_ns = now;
}

static void buffer_init(uint64_t mib)
{
    d.n_pages = mib * 256;
    d.walk_mask = 1;
    while (d.walk_mask < d.n_pages)
        d.walk_mask *= 2;
    d.walk_mask--;
    size_t len = d.n_pages * 4096 + 4096, state_len = (d.n_pages + 1) * sizeof(*d.pages);
    d.mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    d.pages = mmap(NULL, state_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (d.mem == MAP_FAILED || d.pages == MAP_FAILED) {
        say("dirtier: no memory for %lu MiB\n", mib);
        exit(1);
    }
    for (uint64_t p = 0; p < d.n_pages; p++)
        page_fill(p);
}

/* -- checking, a page at a time ------------------------------------------------------------------------------------ */

static void verify_page(uint64_t page)
{
    for (unsigned w = 0; w < PAGE_WORDS; w++) {
        uint64_t want = expected_word(page, w), got = d.mem[page * PAGE_WORDS + w];
        if (want != got && v.bad_words++ < MAX_COMPLAINTS)
            say("VERIFY FAILED page=%lu word=%u want=%016lx got=%016lx\n", page, w, want, got);
    }
    v.words += PAGE_WORDS;
}

static uint64_t writes_counted(void) /* lower bound for d.total by the pages' own counters */
{
    uint64_t sum = 0;
    for (uint64_t p = 0; p < d.n_pages; p++)
        sum += d.pages[p].fill + d.pages[p].words;
    return sum;
}

static void verify_step(uint64_t now)
{
    if (!v.active)
        return;
    if (v.page < d.n_pages) {
        verify_page(v.page++);
        return;
    }
    v.active = false;
    if (writes_counted() > d.total) {
        v.bad_words++;
        say("VERIFY FAILED counters: pages say %lu writes, total is %lu\n", writes_counted(), d.total);
    }
    say("VERIFY %s pages=%lu words=%lu bad=%lu ms=%lu\n", v.bad_words ? "FAILED" : "ok", d.n_pages, v.words,
        v.bad_words, (now - v.start_ns) / 1000000);
}

/* -- time ---------------------------------------------------------------------------------------------------------- */

static void gap_note(uint64_t gap, uint64_t now)
{
    if (gap > c.tick_gap)
        c.tick_gap = gap;
    if (gap > c.max_gap) {
        c.second_gap = c.max_gap;
        c.max_gap = gap;
        c.max_at = now;
    } else if (gap > c.second_gap) {
        c.second_gap = gap;
    }
}

static uint64_t clock_look(void)
{
    uint64_t real = clock_ns(CLOCK_REALTIME), now = clock_ns(CLOCK_MONOTONIC);
    if (now < c.prev_mono)
        c.back_mono++;
    else
        gap_note(now - c.prev_mono, now);
    if (real < c.prev_real)
        c.back_real++;
    c.prev_mono = now;
    c.prev_real = real;
    return now;
}

static void tick_when_due(uint64_t now)
{
    char back[64] = "";
    if (!c.every || now < c.next_tick)
        return;
    if (c.back_mono || c.back_real)
        snprintf(back, sizeof(back), " backwards=%lu,%lu", c.back_mono, c.back_real);
    say("tick %lu t=%lu gap=%lu dirtied=%lu%s\n", c.n_ticks++, now / 1000000, c.tick_gap / 1000,
        d.total - c.ticked_total, back);
    c.ticked_total = d.total;
    c.tick_gap = 0;
    c.next_tick += c.every;
    now = clock_ns(CLOCK_MONOTONIC);
    if (now > c.next_tick) /* also when the console is slower than ticks come: it must not take all our time */
        c.next_tick = now + c.every;
}

/* -- commands ------------------------------------------------------------------------------------------------------ */

static void cmd_verify(const char *arg)
{
    (void)arg;
    memset(&v, 0, sizeof(v));
    v.active = true;
    v.start_ns = c.prev_mono;
}
static void cmd_gap(const char *arg)
{
    (void)arg;
    say("gap max=%lu second=%lu at=%lu since=%lu now=%lu backwards=%lu,%lu\n", c.max_gap / 1000, c.second_gap / 1000,
        c.max_at / 1000000, c.since / 1000000, c.prev_mono / 1000000, c.back_mono, c.back_real);
    c.max_gap = c.second_gap = 0;
    c.since = c.prev_mono;
}
static void cmd_every(const char *arg) /* a tick line each so many ms; 0: none, for a guest that is slow to print */
{
    c.every = strtoul(arg, NULL, 0) * 1000000u;
    c.next_tick = c.prev_mono + c.every;
    say("every %lu\n", c.every / 1000000);
}
static void cmd_rate(const char *arg)
{
    if (*arg)
        d.rate = strtoul(arg, NULL, 0);
    d.paused = false;
    d.next_write_ns = c.prev_mono;
    say("rate %lu\n", d.rate);
}
static void cmd_mode(const char *arg)
{
    /* marker fixes the base text, so it is chosen at the start only */
    for (unsigned m = MODE_WORD; m <= MODE_FILL; m++)
        if (strcmp(arg, mode_names[m]) == 0)
            d.mode = (enum mode)m;
    say("mode %s\n", mode_names[d.mode]);
}
static void cmd_pause(const char *arg)
{
    (void)arg;
    d.paused = true;
    say("paused\n");
}
static void cmd_resume(const char *arg)
{
    cmd_rate("");
    (void)arg;
}
static void cmd_wall(const char *arg)
{
    (void)arg;
    uint64_t real = clock_ns(CLOCK_REALTIME), mono = clock_ns(CLOCK_MONOTONIC);
    say("wall real=%lu.%09lu mono=%lu.%09lu\n", real / 1000000000, real % 1000000000, mono / 1000000000,
        mono % 1000000000);
}
static void cmd_poke(const char *arg) /* proves that verify can fail: "poke PAGE" flips one bit there */
{
    uint64_t page = strtoul(arg, NULL, 0) % d.n_pages;
    d.mem[page * PAGE_WORDS + 77] ^= 1u << 5;
    say("poked page=%lu word=77\n", page);
}
static void cmd_quit(const char *arg)
{
    (void)arg;
    d.quit = true;
}

static const struct {
    const char *name;
    void (*run)(const char *arg);
} commands[] = {
    { "verify", cmd_verify }, { "gap", cmd_gap },       { "rate", cmd_rate }, { "mode", cmd_mode },
    { "pause", cmd_pause },   { "resume", cmd_resume }, { "wall", cmd_wall }, { "poke", cmd_poke },
    { "every", cmd_every },   { "quit", cmd_quit },
};

static void command(char *line)
{
    char *arg = strchr(line, ' ');
    if (arg)
        *arg++ = '\0';
    for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(line, commands[i].name) == 0) {
            commands[i].run(arg ? arg : "");
            return;
        }
    if (*line)
        say("dirtier: no command '%s'; there are verify gap rate mode pause resume wall poke every quit\n", line);
}

static void stdin_look(int wait_ms)
{
    static char line[80];
    static size_t n;
    struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
    char buf[80];
    if (poll(&p, 1, wait_ms) <= 0)
        return;
    ssize_t got = read(STDIN_FILENO, buf, sizeof(buf));
    if (got <= 0)
        d.quit = true;
    for (ssize_t i = 0; i < got; i++) {
        if (buf[i] == '\n' || buf[i] == '\r') {
            line[n] = '\0';
            n = 0;
            command(line);
        } else if (n < sizeof(line) - 1) {
            line[n++] = buf[i];
        }
    }
}

static void loop(void)
{
    uint64_t next_stdin = 0;
    c.prev_mono = c.since = clock_ns(CLOCK_MONOTONIC);
    c.prev_real = clock_ns(CLOCK_REALTIME);
    c.every = TICK_NS;
    c.next_tick = c.prev_mono + c.every;
    d.next_write_ns = c.prev_mono;
    while (!d.quit) {
        uint64_t now = clock_look();
        dirty_when_due(now);
        verify_step(now);
        tick_when_due(now);
        bool rest = d.rest_ms && !v.active && !dirty_is_due(now);
        if (rest || now >= next_stdin) {
            next_stdin = now + STDIN_NS;
            stdin_look(rest ? d.rest_ms : 0);
        }
    }
}

int dirtier_main(int argc, char **argv)
{
    struct termios old, quiet;
    uint64_t mib = argc > 1 ? strtoul(argv[1], NULL, 0) : 32;
    bool tty = tcgetattr(STDIN_FILENO, &old) == 0;

    d.rate = argc > 2 ? strtoul(argv[2], NULL, 0) : 1000;
    d.seed = argc > 4 ? strtoul(argv[4], NULL, 0) : 1;
    d.rest_ms = argc > 5 ? atoi(argv[5]) : 0;
    for (unsigned m = 0; argc > 3 && m < sizeof(mode_names) / sizeof(mode_names[0]); m++)
        if (strcmp(argv[3], mode_names[m]) == 0)
            d.mode = (enum mode)m;
    d.marker_base = d.mode == MODE_MARKER;
    if (mib == 0 || mib > 1u << 20) {
        say("usage: dirtier [MIB [PAGES_PER_S [word|fill|marker [SEED [REST_MS]]]]]\n");
        return 2;
    }
    if (tty) { /* no echo: it would land inside our lines */
        quiet = old;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSANOW, &quiet);
    }
    buffer_init(mib);
    say("dirtier ready mib=%lu rate=%lu mode=%s pages=%lu\n", mib, d.rate, mode_names[d.mode], d.n_pages);
    loop();
    if (tty)
        tcsetattr(STDIN_FILENO, TCSANOW, &old);
    say("dirtier done dirtied=%lu\n", d.total);
    return 0;
}
