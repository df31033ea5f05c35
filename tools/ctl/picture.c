/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/picture.c - a move as a picture: throughput, the rate at which the guest dirtied pages, and the blackout.
 *
 * The picture is one column of a paper wide.  A panel shows a stretch of time: rates of each round as steps, and below
 * them a strip that says what went on, without gaps.  The first panel is the whole move.  A blackout of milliseconds
 * is a line there, so a second panel shows the end of the move on scales of its own.
 *
 * All of it is told apart in grey, too.  Colours for a dark screen are in the style sheet; paper is always light. */
#define _GNU_SOURCE
#include "tools/ctl/ctl.h"
#include "tools/ctl/svg.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 336, LEFT = 31, RIGHT = 37, MARGIN = 4, PLOT_H = 84, STRIP_H = 11, TICKS = 4, TIME_TICKS = 6 };
#define PLOT_W      (WIDTH - LEFT - RIGHT)
#define TEXT_W      (double)(WIDTH - 2 * MARGIN)
#define ROUNDS_KEPT 48 /* by a host: MIG_ROUNDS_KEPT */

/* What goes on from begin to end, in us since the start of the move. */
enum kind { CONNECT, CHECK, ROUND, UNKEPT, STOOD, DRAIN, PART_ROUND, STOPPED, KINDS };
struct span {
    double begin, end;
    enum kind kind;
    uint64_t number;    /* of a round */
    double bytes_per_s; /* sent */
    double pages_per_s; /* dirtied; negative: not known */
    const json_t *round;
};
struct picture {
    const json_t *job;
    struct span *spans; /* in order, without gaps */
    size_t n_spans;
    double end;              /* of the move */
    double stop, stop_until; /* the guest stood still, at the last; 0: it did not */
};

/* ---- what happened ---- */

static double num(const json_t *o, const char *key) { return (double)get_num(o, key); }

static void span_add(struct picture *p, enum kind kind, double begin, double end)
{
    if (end > begin)
        p->spans[p->n_spans++] = (struct span){ .begin = begin, .end = end, .kind = kind, .pages_per_s = -1 };
}

/* Rounds that the host has counted but not kept: it keeps the first ones and the last. */
static uint64_t rounds_unkept(const json_t *job, bool part)
{
    uint64_t n = json_array_size(json_object_get(job, "rounds")), all = get_num(job, "round") - part;
    return n == ROUNDS_KEPT && all > n && get_num(job, "round") ? all - n : 0;
}

/* Returns the end of the last round. */
static double rounds_add(struct picture *p, double at, uint64_t unkept)
{
    const json_t *r;
    size_t i, n = json_array_size(json_object_get(p->job, "rounds"));
    json_array_foreach(json_object_get(p->job, "rounds"), i, r)
    {
        bool last = i + 1 == n;
        double begin = num(r, "start_us"), stood = num(r, "stood_us"), us = num(r, "us");
        span_add(p, !i ? CHECK : last && unkept ? UNKEPT : DRAIN, at, begin - stood);
        span_add(p, STOOD, begin - stood, begin);
        at = begin > at ? begin : at;
        span_add(p, ROUND, at, begin + us);
        if (begin + us <= at)
            continue;
        struct span *s = &p->spans[p->n_spans - 1];
        s->number = i + 1 + (last ? unkept : 0);
        s->round = r;
        s->bytes_per_s = num(r, "bytes") * 1e6 / us;
        s->pages_per_s = num(r, "dirty_pages_per_s");
        at = begin + us;
    }
    return at;
}

/* The round that a failure cut off, or that is under way.  Its rate is that of all bytes beyond the rounds before;
 * there is none for the first, whose begin is not told. */
static void part_round_add(struct picture *p, double at)
{
    uint64_t number = get_num(p->job, "round"), bytes = get_num(json_object_get(p->job, "stream_bytes"), "total");
    bool connected = get_num(p->job, "connect_us"), first = number < 2;
    span_add(p, number ? PART_ROUND : connected || p->n_spans ? CHECK : CONNECT, at, p->end);
    if (p->end <= at)
        return;
    struct span *s = &p->spans[p->n_spans - 1];
    s->number = number;
    for (size_t i = 0; i < p->n_spans; i++) {
        uint64_t n = get_num(p->spans[i].round, "bytes");
        bytes -= n < bytes ? n : bytes;
        first |= p->spans[i].kind == UNKEPT;
    }
    s->bytes_per_s = first ? 0 : (double)bytes * 1e6 / (p->end - at);
}

static void spans_make(struct picture *p)
{
    const json_t *job = p->job, *blackout = json_object_get(job, "blackout");
    bool moved = !strcmp(get_str(job, "state"), "moved");
    double us = num(job, "blackout_us");
    p->end = num(job, "elapsed_us");
    p->stop = num(blackout, "start_us");
    if (!p->stop && us > 0) /* a host that does not say when */
        p->stop = p->end > us ? p->end - us : 0;
    p->stop_until = us > 0 ? p->stop + us : p->stop > 0 ? p->end : 0;
    p->end = p->stop_until > p->end ? p->stop_until : p->end;

    double at = num(job, "connect_us");
    span_add(p, CONNECT, 0, at);
    at = rounds_add(p, at, rounds_unkept(job, p->stop_until <= 0 && !moved));
    if (p->stop_until > 0) {
        span_add(p, at > 0 && json_array_size(json_object_get(job, "rounds")) ? DRAIN : CHECK, at, p->stop);
        span_add(p, STOPPED, p->stop, p->stop_until);
    } else if (!moved) {
        part_round_add(p, at);
    }
}

/* Time spent in spans of a kind. */
static uint64_t kind_us(const struct picture *p, enum kind kind)
{
    double us = 0;
    for (size_t i = 0; i < p->n_spans; i++)
        us += p->spans[i].kind == kind ? p->spans[i].end - p->spans[i].begin : 0;
    return (uint64_t)us;
}

/* ---- panels ---- */

struct axis {
    double max, step; /* in units */
    double unit;      /* in us, bytes or pages per second */
    const char *name;
};
struct panel {
    FILE *f;
    const struct picture *p;
    double begin, end; /* us */
    double origin;     /* us: where the time axis has 0 */
    double y;          /* of the top of the plot */
    bool detail;       /* show the parts of the blackout */
    struct axis time, sent, dirty;
};

static double x_at(const struct panel *n, double us)
{
    double x = LEFT + PLOT_W * (us - n->begin) / (n->end - n->begin);
    return fmin(fmax(x, LEFT), LEFT + PLOT_W);
}
static double base_y(const struct panel *n) { return n->y + PLOT_H; }
static double y_at(const struct panel *n, const struct axis *a, double value)
{
    return base_y(n) - PLOT_H * value / a->unit / a->max;
}
static bool visible(const struct panel *n, const struct span *s) { return s->end > n->begin && s->begin < n->end; }

/* Units of a rate, each from this rate on. */
struct unit {
    double from, unit;
    const char *name;
};
static const struct unit byte_units[] = { { 0, 1e3, "kB/s sent" },
                                          { 1e6, 1e6, "MB/s sent" },
                                          { 1e10, 1e9, "GB/s sent" } };
static const struct unit page_units[] = { { 0, 1, "pages/s dirtied" },
                                          { 1e4, 1e3, "1000 pages/s dirtied" },
                                          { 1e7, 1e6, "million pages/s dirtied" } };

static struct axis rate_axis(double max, const struct unit units[3])
{
    unsigned i = max > units[2].from ? 2 : max > units[1].from;
    struct axis a = { .unit = units[i].unit, .name = units[i].name };
    a.step = svg_round_step(max > 0 ? max / a.unit : 1, TICKS, true);
    a.max = a.step * TICKS;
    return a;
}

static struct axis time_axis(double us, bool after)
{
    static const struct {
        double unit, from;
        const char *name, *name_after;
    } units[] = { { 1, 0, "\302\265s since the start", "\302\265s since the guest was stopped" },
                  { 1e3, 2e3, "ms since the start", "ms since the guest was stopped" },
                  { 1e6, 2e6, "s since the start", "s since the guest was stopped" },
                  { 6e7, 6e8, "minutes since the start", "minutes since the guest was stopped" },
                  { 3.6e9, 7.2e9, "hours since the start", "hours since the guest was stopped" } };
    size_t i = sizeof(units) / sizeof(units[0]) - 1;
    while (i && us < units[i].from)
        i--;
    struct axis a = { .unit = units[i].unit, .name = after ? units[i].name_after : units[i].name };
    a.step = svg_round_step(us / a.unit, TIME_TICKS, false);
    return a;
}

/* Rate of the last pages, which are sent while the guest stands still. */
static double final_rate(const struct picture *p)
{
    const json_t *b = json_object_get(p->job, "blackout");
    return get_num(b, "pages_us") ? num(b, "final_bytes") * 1e6 / num(b, "pages_us") : 0;
}

static void panel_scale(struct panel *n)
{
    double sent = n->detail ? final_rate(n->p) : 0, dirty = 0;
    for (size_t i = 0; i < n->p->n_spans; i++) {
        const struct span *s = &n->p->spans[i];
        if (!visible(n, s))
            continue;
        sent = fmax(sent, s->bytes_per_s);
        dirty = fmax(dirty, s->pages_per_s);
    }
    n->sent = rate_axis(sent, byte_units);
    n->dirty = rate_axis(dirty, page_units);
    n->time = time_axis(n->end - n->begin, n->origin > 0);
}

static void panel_axes(const struct panel *n)
{
    double base = base_y(n), step = n->time.step * n->time.unit;
    for (int i = 0; i <= TICKS; i++) {
        double y = base - PLOT_H * i / (double)TICKS;
        fprintf(n->f, "<path class='grid' d='M%d %.1fH%d'/>\n", LEFT, y, LEFT + PLOT_W);
        svg_textf(n->f, LEFT - 3, y + 3, "sl", "end", "%g", n->sent.step * i);
        svg_textf(n->f, LEFT + PLOT_W + 3, y + 3, "dl", "start", "%g", n->dirty.step * i);
    }
    double first = ceil((n->begin - n->origin) / step - 1e-9);
    for (int i = 0; i <= 2 * TIME_TICKS && n->origin + (first + i) * step <= n->end * (1 + 1e-9); i++) {
        double x = x_at(n, n->origin + (first + i) * step);
        fprintf(n->f, "<path class='axis' d='M%.1f %.1fv3'/>\n", x, base + STRIP_H);
        svg_textf(n->f, x, base + STRIP_H + 11, "t", "middle", "%g", n->time.step * (first + i) + 0); /* never -0 */
    }
    svg_textf(n->f, MARGIN, n->y - 6, "sl", "start", "%s", n->sent.name);
    svg_textf(n->f, WIDTH - MARGIN, n->y - 6, "dl", "end", "%s", n->dirty.name);
    svg_textf(n->f, LEFT + PLOT_W / 2.0, base + STRIP_H + 22, "t", "middle", "%s", n->time.name);
}

/* The area of what was sent, a step for each round; in detail the last pages, too. */
static void panel_sent(const struct panel *n)
{
    const json_t *b = json_object_get(n->p->job, "blackout");
    double base = base_y(n);
    fprintf(n->f, "<path class='sent' d='M%d %.1f", LEFT, base);
    for (size_t i = 0; i < n->p->n_spans; i++) {
        const struct span *s = &n->p->spans[i];
        if ((s->kind == ROUND || s->kind == PART_ROUND) && visible(n, s))
            fprintf(n->f, "H%.2fV%.2fH%.2fV%.1f", x_at(n, s->begin), y_at(n, &n->sent, s->bytes_per_s), x_at(n, s->end),
                    base);
    }
    double begin = n->p->stop + num(b, "stop_us");
    if (n->detail && final_rate(n->p) > 0)
        fprintf(n->f, "H%.2fV%.2fH%.2fV%.1f", x_at(n, begin), y_at(n, &n->sent, final_rate(n->p)),
                x_at(n, begin + num(b, "pages_us")), base);
    fprintf(n->f, "'/>\n");
}

static void panel_dirty(const struct panel *n)
{
    double at = -1; /* where the line has arrived */
    fprintf(n->f, "<path class='dirty' d='");
    for (size_t i = 0; i < n->p->n_spans; i++) {
        const struct span *s = &n->p->spans[i];
        if (s->pages_per_s < 0 || !visible(n, s))
            continue;
        double x = x_at(n, s->begin), y = y_at(n, &n->dirty, s->pages_per_s);
        fprintf(n->f, x > at + 1 ? "M%.2f %.2f" : "L%.2f %.2f", x, y);
        at = x_at(n, s->end);
        fprintf(n->f, "H%.2f", at);
    }
    fprintf(n->f, "'/>\n");
}

/* ---- the strip below a plot ---- */

/* A cell of the strip, with the label if there is room, and a title for a pointer. */
static void cell(const struct panel *n, double begin, double end, const char *class, const char *label,
                 const char *title)
{
    double x = x_at(n, begin), w = x_at(n, end) - x, y = base_y(n);
    if (end <= n->begin || begin >= n->end)
        return;
    fprintf(n->f, "<rect class='%s' x='%.2f' y='%.1f' width='%.2f' height='%d'><title>", class, x, y, fmax(w, 0.3),
            STRIP_H);
    svg_escape(n->f, title);
    fprintf(n->f, "</title></rect>\n");
    if (svg_text_width(label) * (SVG_SIZE - 1) + 1 <= w)
        svg_text(n->f, x + w / 2, y + STRIP_H - 2.5, SVG_SIZE - 1, strchr("AB", class[0]) ? "cl" : "t", "middle",
                 label);
}

static const struct {
    char label[2];
    const char *class, *text;
} kinds[] = {
    [CONNECT] = { "c", "idle", "connecting (file hashes, TLS)" },
    [CHECK] = { "v", "idle", "the destination checks and finds memory" },
    [ROUND] = { "", "", "" },
    [UNKEPT] = { "x", "idle", "more rounds, whose figures are not kept" },
    [STOOD] = { "u", "A", "a stop that was undone: more was dirty than expected" },
    [DRAIN] = { "d", "idle", "clocks are compared, disks drained; the guest runs" },
    [PART_ROUND] = { "", "idle", "" },
    [STOPPED] = { "", "A", "" },
};
_Static_assert(sizeof(kinds) / sizeof(kinds[0]) == KINDS, "each kind has a row");

static const struct {
    const char *key, *label, *text;
} parts[] = { { "stop_us", "A", "stop" },   { "pages_us", "B", "last pages" }, { "verify_us", "C", "verify" },
              { "state_us", "D", "state" }, { "prepare_us", "E", "prepare" },  { "commit_us", "F", "handoff" } };
#define N_PARTS (sizeof(parts) / sizeof(parts[0]))

static void round_title(char *out, size_t len, const struct span *s)
{
    char mb[24], ms[24], speed[24];
    const json_t *r = s->round;
    snprintf(out, len, "round %lu: %lu pages, %s MB in %s ms (%s MB/s), then %lu dirty, %lu pages/s", s->number,
             get_num(r, "pages"), decimal(mb, get_num(r, "bytes"), 1000000, 2), decimal(ms, get_num(r, "us"), 1000, 1),
             decimal(speed, get_num(r, "bytes"), get_num(r, "us"), 1), get_num(r, "dirty_pages"),
             get_num(r, "dirty_pages_per_s"));
}

static void blackout_cells(const struct panel *n)
{
    const struct picture *p = n->p;
    char title[96], ms[24];
    double at = p->stop;
    bool dark = false;
    snprintf(title, sizeof(title), "blackout %s ms", decimal(ms, (uint64_t)(p->stop_until - p->stop), 1000, 1));
    cell(n, p->stop, p->stop_until, "A", "", title);
    for (size_t i = 0; i < N_PARTS && n->detail; i++) {
        uint64_t us = get_num(json_object_get(p->job, "blackout"), parts[i].key);
        if (!us)
            continue;
        snprintf(title, sizeof(title), "blackout, %s: %s ms", parts[i].text, decimal(ms, us, 1000, 1));
        cell(n, at, at + (double)us, dark ? "B" : "A", parts[i].label, title);
        at += (double)us;
        dark = !dark;
    }
}

static void panel_strip(const struct panel *n)
{
    char title[256], label[24], ms[24];
    for (size_t i = 0; i < n->p->n_spans; i++) {
        const struct span *s = &n->p->spans[i];
        snprintf(label, sizeof(label), "%lu", s->number);
        if (s->kind == ROUND) {
            round_title(title, sizeof(title), s);
            cell(n, s->begin, s->end, s->number % 2 ? "r1" : "r2", label, title);
        } else if (s->kind == PART_ROUND) {
            snprintf(title, sizeof(title), "round %s, not finished", label);
            cell(n, s->begin, s->end, "idle", label, title);
        } else if (s->kind == STOPPED) {
            blackout_cells(n);
        } else {
            snprintf(title, sizeof(title), "%s: %s ms", kinds[s->kind].text,
                     decimal(ms, (uint64_t)(s->end - s->begin), 1000, 1));
            cell(n, s->begin, s->end, kinds[s->kind].class, kinds[s->kind].label, title);
        }
    }
}

/* Times at which the guest stands still, over the height of the plot: a thin one is a line, a wide one a shade. */
static void panel_stops(const struct panel *n)
{
    for (size_t i = 0; i < n->p->n_spans; i++) {
        const struct span *s = &n->p->spans[i];
        if ((s->kind != STOPPED && s->kind != STOOD) || !visible(n, s))
            continue;
        double w = fmax(x_at(n, s->end) - x_at(n, s->begin), 1), x = fmin(x_at(n, s->begin), LEFT + PLOT_W - w);
        fprintf(n->f, "<rect class='%s' x='%.2f' y='%.1f' width='%.2f' height='%d'/>\n", w < 6 ? "A" : "shade", x, n->y,
                w, PLOT_H);
    }
}

/* Draw a panel whose axis titles begin at y; returns where the next thing may begin. */
static double panel(struct panel *n, double y)
{
    n->y = y + 14;
    panel_scale(n);
    panel_stops(n);
    panel_axes(n);
    panel_sent(n);
    panel_dirty(n);
    panel_strip(n);
    fprintf(n->f, "<path class='axis' d='M%d %.1fV%.1fH%dV%.1fM%d %.1fH%d'/>\n", LEFT, n->y, base_y(n) + STRIP_H,
            LEFT + PLOT_W, n->y, LEFT, base_y(n), LEFT + PLOT_W);
    return base_y(n) + STRIP_H + 27;
}

/* The end of the move that the second panel shows: some of the blackout's length before it, and the last rounds if
 * they are short.  False: the whole move is hardly longer. */
static bool end_window(const struct picture *p, double *begin, double *end)
{
    double length = p->stop_until - p->stop;
    if (length <= 0)
        return false;
    *begin = p->stop - 2 * length;
    for (size_t i = p->n_spans; i-- > 0 && p->spans[i].begin >= p->stop - 6 * length;)
        *begin = fmin(*begin, p->spans[i].begin);
    *begin = fmax(*begin, 0);
    *end = p->stop_until + (p->stop_until - *begin) / 40;
    return *end - *begin < 0.6 * p->end;
}

static double panels(FILE *f, const struct picture *p, double y)
{
    struct panel whole = { .f = f, .p = p, .end = p->end > 0 ? p->end : 1, .detail = true }, last = whole;
    if (!end_window(p, &last.begin, &last.end))
        return panel(&whole, y);
    whole.detail = false;
    last.origin = p->stop;
    double strip = y + 14 + PLOT_H + STRIP_H, next = strip + 27;
    fprintf(f, "<path class='zoom' d='M%.2f %.1fL%d %.1fV%.1fH%dV%.1fL%.2f %.1fz'/>\n", x_at(&whole, last.begin), strip,
            LEFT, next, next + 14, LEFT + PLOT_W, next, x_at(&whole, p->stop_until), strip);
    next = panel(&whole, y);
    return panel(&last, next);
}

/* ---- text ---- */

static double head(FILE *f, const struct picture *p)
{
    const json_t *job = p->job, *error = json_object_get(job, "error");
    char text[1600], summary[160];
    double size = fmin(SVG_SIZE + 2, TEXT_W / fmax(svg_text_width(get_str(job, "vm")), 1));
    bool cancelled = !strcmp(get_str(error, "code"), "HV_E_CANCEL");
    svg_text(f, MARGIN, 13, size, "t", "start", get_str(job, "vm"));
    snprintf(text, sizeof(text), "from %s to %s: %s", get_str(job, "host"), get_str(job, "to"),
             cancelled ? "cancelled" : get_str(job, "state"));
    double y = svg_paragraph(f, MARGIN, 14 + SVG_LINE, TEXT_W, 3, text);
    y = svg_paragraph(f, MARGIN, y, TEXT_W, 2, move_summary(summary, sizeof(summary), job));
    if (error)
        y = svg_paragraph(f, MARGIN, y, TEXT_W, 3, get_str(error, "message"));
    return y;
}

static double legend(FILE *f, const struct picture *p, double y)
{
    static const struct {
        const char *class, *shape, *text;
    } items[] = { { "sent", "h14v-6h-14z", "sent" },
                  { "dirty", "m0 -3h14", "pages dirtied" },
                  { "A", "h14v-7h-14z", "guest stands still" } };
    bool stood = p->stop_until > 0 || kind_us(p, STOOD);
    double x = MARGIN;
    for (size_t i = 0; i < 2u + stood; i++) {
        fprintf(f, "<path class='%s' d='M%.1f %.1f%s'/>\n", items[i].class, x, y, items[i].shape);
        svg_text(f, x + 18, y, SVG_SIZE, "t", "start", items[i].text);
        x += 18 + svg_text_width(items[i].text) * SVG_SIZE + 14;
    }
    return y + SVG_LINE;
}

/* Explain the strip: what each letter is, and how long it took. */
static void strip_note(FILE *out, const struct picture *p)
{
    char ms[24];
    for (size_t i = 0; i < KINDS; i++)
        if (kinds[i].label[0] && kind_us(p, (enum kind)i))
            fprintf(out, "%s: %s, %s ms. ", kinds[i].label, kinds[i].text,
                    decimal(ms, kind_us(p, (enum kind)i), 1000, 1));
    uint64_t n = 0, throttle = 0;
    for (size_t i = 0; i < p->n_spans; i++) {
        const struct span *s = &p->spans[i];
        n = s->kind == ROUND ? s->number : n;
        throttle = s->round && get_num(s->round, "throttle_percent") > throttle ? get_num(s->round, "throttle_percent")
                                                                                : throttle;
        if (s->kind == PART_ROUND)
            fprintf(out, "Round %lu was not finished. ", s->number);
    }
    if (n)
        fprintf(out, n > 1 ? "1-%lu: rounds. " : "%lu: round. ", n);
    if (p->stop_until > 0 && !get_num(p->job, "blackout_us"))
        fprintf(out, "The guest stood still for %s ms at the end. ",
                decimal(ms, (uint64_t)(p->stop_until - p->stop), 1000, 1));
    if (throttle)
        fprintf(out, "The guest was slowed down by up to %lu %%. ", throttle);
    if (get_num(p->job, "waited_us") >= 1000)
        fprintf(out, "It waited in the queue before, %s s. ", decimal(ms, get_num(p->job, "waited_us"), 1000000, 1));
}

static void blackout_note(FILE *out, const struct picture *p)
{
    const json_t *b = json_object_get(p->job, "blackout");
    char ms[24];
    bool any = false;
    for (size_t i = 0; i < N_PARTS; i++) {
        uint64_t us = get_num(b, parts[i].key);
        if (!us)
            continue;
        fprintf(out, "%s%s %s %s ms", any ? ", " : "Blackout: ", parts[i].label, parts[i].text,
                decimal(ms, us, 1000, 1));
        any = true;
    }
    fputs(any ? "." : "", out);
}

static double notes(FILE *f, const struct picture *p, double y)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return y;
    strip_note(out, p);
    blackout_note(out, p);
    fclose(out);
    y = svg_paragraph(f, MARGIN, y, TEXT_W, 9, text);
    free(text);
    return y;
}

/* ---- the file ---- */

static const char style[] =
    "text{fill:#1a1a1a;font-family:sans-serif}.bg{fill:#fff}.sl{fill:#1f5f99}.dl{fill:#a8400c}.cl{fill:#fff}"
    ".grid{stroke:#ddd;stroke-width:.5}.axis{stroke:#444;stroke-width:.7;fill:none}.zoom{fill:#eee}"
    ".sent{fill:#b5d0ea;stroke:#1f5f99;stroke-width:.7}"
    ".dirty{fill:none;stroke:#a8400c;stroke-width:1.3;stroke-dasharray:4 1.5}"
    ".r1{fill:#b5d0ea}.r2{fill:#dbe8f5}.idle{fill:#fff;stroke:#444;stroke-width:.4}.A{fill:#5a1020}.B{fill:#8e5562}."
    "shade{fill:#5a1020;opacity:.15}"
    "@media screen{svg:root{width:672px;height:%.0fpx}}"
    "@media screen and "
    "(prefers-color-scheme:dark){text{fill:#e6e6e6}.bg{fill:#14171a}.sl{fill:#86bdf0}.dl{fill:#ffad70}"
    ".cl{fill:#14171a}.grid{stroke:#343a40}.axis{stroke:#a0a0a0}.zoom{fill:#22282e}.sent{fill:#28527a;stroke:#86bdf0}"
    ".dirty{stroke:#ffad70}.r1{fill:#28527a}.r2{fill:#1b364f}.idle{fill:#14171a;stroke:#a0a0a0}.A{fill:#ff8f9c}.B{fill:"
    "#c86a78}"
    ".shade{fill:#ff8f9c}}";

static void document(FILE *f, const struct picture *p, const char *body, double height)
{
    char summary[160];
    fprintf(f,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %.0f' width='%.2fin' height='%.2fin' role='img'>\n"
            "<title>",
            WIDTH, height, WIDTH / 96.0, height / 96);
    svg_escape(f, get_str(p->job, "vm"));
    fputs(" to ", f);
    svg_escape(f, get_str(p->job, "to"));
    fputs("</title>\n<desc>", f);
    svg_escape(f, move_summary(summary, sizeof(summary), p->job));
    fputs("; ", f);
    svg_escape(f, get_str(json_object_get(p->job, "error"), "message"));
    fputs("</desc>\n<style>", f);
    fprintf(f, style, height * 2);
    fprintf(f, "</style>\n<rect class='bg' width='%d' height='%.0f'/>\n%s</svg>\n", WIDTH, height, body);
}

enum exit_code picture_write(const char *path, const json_t *job)
{
    struct picture p = { .job = job };
    char *body = NULL;
    size_t len;
    /* at most three spans for each round, and three more */
    p.spans = calloc(3 * json_array_size(json_object_get(job, "rounds")) + 8, sizeof(*p.spans));
    FILE *b = open_memstream(&body, &len), *f = p.spans && b ? fopen(path, "w") : NULL;
    enum exit_code e = f ? EXIT_GOOD : fail(EXIT_CONFIG, "%s: %s", path, strerror(errno));
    if (f) {
        spans_make(&p);
        double y = head(b, &p);
        y = legend(b, &p, y + 2);
        y = panels(b, &p, y);
        y = notes(b, &p, y + 7);
        fflush(b);
        document(f, &p, body, ceil(y - 4));
        if (ferror(f) | fclose(f))
            e = fail(EXIT_CONFIG, "%s cannot be written", path);
    }
    if (b)
        fclose(b);
    free(body);
    free(p.spans);
    return e;
}
