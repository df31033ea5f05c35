/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/progress.c - progress of something that takes a while: a bar on a terminal, else a line now and then.
 *
 * The bar is one line, cut to the terminal's width, which is asked again at each draw.  SIGWINCH ends the pause between
 * two draws.  SIGINT ends the watching and nothing else; a second one ends the program. */
#define _GNU_SOURCE
#include "tools/ctl/ctl.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BAR_MIN      8
#define BAR_MAX      32
#define WIDTH_USUAL  80  /* of a terminal that does not say */
#define DRAW_MS      100 /* so often at most */
#define LINE_EVERY_S 5   /* without a terminal: a line at most this often */

static volatile sig_atomic_t interrupted, resized;
static time_t line_after;   /* without a terminal: when the next line may come */
static uint64_t draw_after; /* the same for a bar, in ms */

static void on_interrupt(int sig) { (void)sig, interrupted = 1; }
static void on_resize(int sig) { (void)sig, resized = 1; }

static bool on_terminal(void) { return isatty(STDERR_FILENO) && isatty(STDOUT_FILENO); }

void progress_begin(void)
{
    struct sigaction stop = { .sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND };
    struct sigaction resize = { .sa_handler = on_resize };
    interrupted = 0;
    line_after = 0;
    draw_after = 0;
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGWINCH, &resize, NULL);
}

void progress_end(void)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGWINCH, SIG_DFL);
    if (!options.quiet && on_terminal())
        fprintf(stderr, "\r\033[K");
}

bool progress_interrupted(void) { return interrupted; }

void progress_pause(unsigned ms)
{
    const struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };
    if (!interrupted)
        nanosleep(&pause, NULL);
}

unsigned progress_width(void)
{
    struct winsize w;
    if (!on_terminal())
        return PROGRESS_MAX;
    unsigned columns = !ioctl(STDERR_FILENO, TIOCGWINSZ, &w) && w.ws_col ? w.ws_col : WIDTH_USUAL;
    return columns - 1 < PROGRESS_MAX ? columns - 1 : PROGRESS_MAX; /* the last column makes some terminals wrap */
}

unsigned text_columns(const char *text)
{
    unsigned n = 0;
    for (; *text; text++)
        n += (*text & 0xc0) != 0x80;
    return n;
}

/* Bytes of text that fit into this many columns. */
static size_t text_fit(const char *text, unsigned columns)
{
    size_t n = 0;
    for (; text[n]; n++)
        if ((text[n] & 0xc0) != 0x80 && !columns--)
            break;
    return n;
}

/* May a bar be drawn now? */
static bool draw_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    if (now < draw_after && !resized)
        return false;
    resized = 0;
    draw_after = now + DRAW_MS;
    return true;
}

void progress_show(const char *fmt, ...)
{
    char text[4 * PROGRESS_MAX];
    va_list ap;
    time_t now = time(NULL);
    bool terminal = on_terminal();
    if (options.quiet || (terminal ? !draw_now() : now < line_after))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (terminal) /* without automatic wrap, in case that the terminal shrinks meanwhile */
        fprintf(stderr, "\033[?7l\r%.*s\033[K\033[?7h", (int)text_fit(text, progress_width()), text);
    else
        fprintf(stderr, "%s\n", text);
    line_after = now + LINE_EVERY_S;
    fflush(stderr);
}

void progress_line(const char *head, uint64_t percent,
                   void (*figures)(char *out, size_t len, const void *ctx, unsigned less), const void *ctx)
{
    char text[352], bar[BAR_MAX + 1];
    unsigned width = progress_width(), less = 0, room = 0;
    for (; less <= PROGRESS_LESS; less++) {
        figures(text, sizeof(text), ctx, less);
        unsigned taken = text_columns(head) + text_columns(text) + 4; /* 4: " [", "] " */
        room = width > taken ? width - taken : 0;
        if (room >= BAR_MIN)
            break;
    }
    if (less > PROGRESS_LESS) {
        unsigned taken = text_columns(text) + 1;
        progress_show("%.*s %s", (int)text_fit(head, width > taken ? width - taken : 0), head, text);
        return;
    }
    room = room < BAR_MAX ? room : BAR_MAX;
    unsigned done = (unsigned)(percent * room / 100);
    for (unsigned i = 0; i < room; i++)
        bar[i] = i < done ? '=' : i == done ? '>' : ' ';
    bar[room] = 0;
    progress_show("%s [%s] %s", head, bar, text);
}

uint64_t eta_smooth(struct eta *eta, uint64_t now_us, uint64_t left_us)
{
    double end = (double)now_us + (double)left_us, share = (double)(now_us - eta->at_us) / ETA_SMOOTH_US;
    if (!left_us) /* not known now: as estimated before */
        end = eta->end_us;
    else if (!eta->end_us || now_us < eta->at_us)
        eta->end_us = end;
    eta->end_us += (end - eta->end_us) * (share < 1 ? share : 1);
    if (left_us &&
        eta->end_us > (double)now_us + 2.0 * (double)left_us) /* the first ones, from a few bytes, are wild */
        eta->end_us = (double)now_us + 2.0 * (double)left_us;
    eta->at_us = now_us;
    return eta->end_us > (double)now_us ? (uint64_t)(eta->end_us - (double)now_us) : 0;
}
