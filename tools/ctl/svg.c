/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/svg.c - a move as a picture: rounds with their throughput, the rate at which the guest dirtied pages, and
 * the blackout, over time. */
#include "tools/ctl/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { WIDTH = 900, HEIGHT = 360, LEFT = 70, RIGHT = 70, TOP = 50, BOTTOM = 60, BLACKOUT_MIN = 2 };
#define PLOT_W (WIDTH - LEFT - RIGHT)
#define PLOT_H (HEIGHT - TOP - BOTTOM)

/* values at the full width and heights of the plot */
struct scale {
    double us, bytes_per_s, pages_per_s;
};

static double max_of(double a, double b) { return a > b ? a : b; }
static double x_of(const struct scale *s, double us) { return LEFT + PLOT_W * us / s->us; }
static double rate(const json_t *round)
{
    return get_num(round, "bytes") * 1e6 / max_of((double)get_num(round, "us"), 1);
}

static struct scale scale_of(const json_t *job)
{
    struct scale s = { max_of((double)get_num(job, "elapsed_us"), 1), 1, 1 };
    size_t i;
    json_t *r;
    json_array_foreach(json_object_get(job, "rounds"), i, r)
    {
        s.bytes_per_s = max_of(s.bytes_per_s, rate(r));
        s.pages_per_s = max_of(s.pages_per_s, (double)get_num(r, "dirty_pages_per_s"));
    }
    return s;
}

static void svg_axes(FILE *f, const struct scale *s)
{
    fprintf(f, "<path d='M%d %d V%d H%d V%d' fill='none' stroke='#444'/>\n", LEFT, TOP, HEIGHT - BOTTOM, WIDTH - RIGHT,
            TOP);
    for (int i = 0; i <= 4; i++) {
        double y = HEIGHT - BOTTOM - PLOT_H * i / 4.0, x = LEFT + PLOT_W * i / 4.0;
        fprintf(f, "<text x='%d' y='%.0f' text-anchor='end' fill='#2a6fb0'>%.1f</text>\n", LEFT - 6, y + 4,
                s->bytes_per_s * i / 4e6);
        fprintf(f, "<text x='%d' y='%.0f' fill='#b0502a'>%.0f</text>\n", WIDTH - RIGHT + 6, y + 4,
                s->pages_per_s * i / 4);
        fprintf(f, "<text x='%.0f' y='%d' text-anchor='middle'>%.2f</text>\n", x, HEIGHT - BOTTOM + 18,
                s->us * i / 4e6);
    }
    fprintf(f, "<text x='%d' y='%d' fill='#2a6fb0'>MB/s sent</text>\n", LEFT - 50, TOP - 10);
    fprintf(f, "<text x='%d' y='%d' text-anchor='end' fill='#b0502a'>pages/s dirtied</text>\n", WIDTH - 6, TOP - 10);
    fprintf(f, "<text x='%d' y='%d' text-anchor='middle'>seconds since the start</text>\n", LEFT + PLOT_W / 2,
            HEIGHT - BOTTOM + 38);
}

static void svg_rounds(FILE *f, const struct scale *s, const json_t *job)
{
    size_t i;
    json_t *r;
    json_array_foreach(json_object_get(job, "rounds"), i, r)
    {
        double x = x_of(s, (double)get_num(r, "start_us")), w = PLOT_W * get_num(r, "us") / s->us,
               h = PLOT_H * rate(r) / s->bytes_per_s;
        fprintf(f,
                "<rect x='%.1f' y='%.1f' width='%.1f' height='%.1f' fill='#9cc4e8' stroke='#2a6fb0'>"
                "<title>round %zu: %lu pages, %lu bytes, %lu ms</title></rect>\n",
                x, HEIGHT - BOTTOM - h, max_of(w, 0.5), h, i + 1, get_num(r, "pages"), get_num(r, "bytes"),
                get_num(r, "us") / 1000);
    }
    fprintf(f, "<polyline fill='none' stroke='#b0502a' stroke-width='2' points='");
    json_array_foreach(json_object_get(job, "rounds"), i, r)
        fprintf(f, "%.1f,%.1f ", x_of(s, (double)(get_num(r, "start_us") + get_num(r, "us"))),
                HEIGHT - BOTTOM - PLOT_H * get_num(r, "dirty_pages_per_s") / s->pages_per_s);
    fprintf(f, "'/>\n");
}

/* The end of the move: the guest is stopped from the last harvest to the destination's answer. */
static void svg_blackout(FILE *f, const struct scale *s, const json_t *job)
{
    uint64_t us = get_num(job, "blackout_us");
    double w = max_of(PLOT_W * us / s->us, BLACKOUT_MIN);
    if (!us)
        return;
    fprintf(f,
            "<rect x='%.1f' y='%d' width='%.1f' height='%d' fill='#c22' opacity='0.75'><title>blackout %lu "
            "us</title></rect>\n",
            x_of(s, s->us) - w, TOP, w, PLOT_H, us);
    fprintf(f, "<text x='%d' y='%d' text-anchor='end' fill='#c22'>blackout %lu.%lu ms</text>\n", WIDTH - RIGHT,
            HEIGHT - 8, us / 1000, us / 100 % 10);
}

enum exit_code svg_write(const char *path, const json_t *job)
{
    struct scale s = scale_of(job);
    FILE *f = fopen(path, "w");
    if (!f)
        return fail(EXIT_CONFIG, "%s: %s", path, strerror(errno));
    fprintf(f,
            "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='sans-serif' font-size='12'>\n"
            "<rect width='100%%' height='100%%' fill='white'/>\n",
            WIDTH, HEIGHT);
    fprintf(f, "<text x='%d' y='20' font-size='15'>%s to %s: %s, %.2f s, %.2f MB on the wire</text>\n", LEFT,
            get_str(job, "vm"), get_str(job, "to"), get_str(job, "state"), get_num(job, "elapsed_us") / 1e6,
            get_num(job, "wire_bytes") / 1e6);
    svg_axes(f, &s);
    svg_rounds(f, &s, job);
    svg_blackout(f, &s, job);
    fprintf(f, "</svg>\n");
    return ferror(f) | fclose(f) ? fail(EXIT_CONFIG, "%s cannot be written", path) : EXIT_GOOD;
}
