/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/svg.c - pieces of an SVG picture: text that fits, and steps of an axis.
 *
 * The viewer chooses the font, so widths are those of DejaVu Sans, the widest of the usual ones: what fits in it fits
 * in Arial, Helvetica or Noto. */
#include "tools/ctl/svg.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

void svg_escape(FILE *f, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<':  fputs("&lt;", f); break;
        case '>':  fputs("&gt;", f); break;
        case '&':  fputs("&amp;", f); break;
        case '\'': fputs("&#39;", f); break;
        case '"':  fputs("&quot;", f); break;
        default:   fputc((unsigned char)*text < ' ' || *text == 127 ? '?' : *text, f); break;
        }
    }
}

/* Width of one byte of UTF-8 in hundredths of the size; 100 for a character beyond ASCII. */
static unsigned glyph_width(char c)
{
    static const unsigned char widths[] = {
        32, 41, 46, 84, 64, 96, 78, 28, 40,  40, 50, 84, 32, 37, 32, 34, 64, 64, 64, 64, 64, 64, 64,
        64, /* space to 7 */
        64, 64, 34, 34, 84, 84, 84, 54, 100, 69, 69, 70, 78, 64, 58, 78, 76, 30, 30, 66, 56, 87, 75,
        79, /* to O */
        61, 79, 70, 64, 62, 74, 69, 99, 69,  62, 69, 40, 34, 40, 84, 50, 50, 62, 64, 55, 64, 62, 36,
        64,                                                                                          /* to g */
        64, 28, 28, 58, 28, 98, 64, 62, 64,  64, 42, 53, 40, 64, 60, 82, 60, 60, 53, 64, 34, 64, 84, /* to ~ */
    };
    unsigned u = (unsigned char)c;
    if (u >= ' ' && u < ' ' + sizeof(widths))
        return widths[u - ' '];
    return (u & 0xc0) == 0x80 ? 0 : 100;
}

double svg_text_width(const char *text)
{
    unsigned width = 0;
    while (*text)
        width += glyph_width(*text++);
    return width / 100.0;
}

void svg_text(FILE *f, double x, double y, double size, const char *class, const char *anchor, const char *text)
{
    fprintf(f, "<text x='%.1f' y='%.1f' font-size='%.4g' class='%s' text-anchor='%s'>", x, y, size, class, anchor);
    svg_escape(f, text);
    fputs("</text>\n", f);
}

void svg_textf(FILE *f, double x, double y, const char *class, const char *anchor, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    svg_text(f, x, y, SVG_SIZE, class, anchor, text);
}

/* Bytes of text that fit into this width: up to the last blank, better one behind a comma or the like in the second
 * half; without blanks as many characters as there is room for. */
static size_t line_fit(const char *text, double width)
{
    size_t blank = 0, pause = 0, n = 0;
    unsigned room = (unsigned)(width * 100 / SVG_SIZE), used = 0;
    for (; text[n]; n++) {
        if (text[n] == ' ')
            blank = n;
        if (text[n] == ' ' && n && strchr(".,;", text[n - 1]) && used > room / 2)
            pause = n;
        used += glyph_width(text[n]);
        if (used > room && (text[n] & 0xc0) != 0x80)
            return pause ? pause : blank ? blank : n;
    }
    return n;
}

double svg_paragraph(FILE *f, double x, double y, double width, unsigned max_lines, const char *text)
{
    static const char more[] = "...";
    char line[512];
    for (unsigned i = 1; *text && i <= max_lines; i++, y += SVG_LINE) {
        size_t n = line_fit(text, width);
        bool cut = i == max_lines && text[n];
        if (cut)
            n = line_fit(text, width - svg_text_width(more) * SVG_SIZE);
        snprintf(line, sizeof(line), "%.*s%s", (int)n, text, cut ? more : "");
        svg_text(f, x, y, SVG_SIZE, "t", "start", line);
        text += n + (text[n] == ' ');
    }
    return y;
}

double svg_round_step(double range, unsigned n, bool quarters)
{
    static const double mantissas[] = { 1, 2, 2.5, 5, 10 };
    double power = pow(10, floor(log10(range / n)));
    for (unsigned i = 0; i < sizeof(mantissas) / sizeof(mantissas[0]); i++)
        if ((quarters || i != 2) && mantissas[i] * power * n >= range * (1 - 1e-9))
            return mantissas[i] * power;
    return 10 * power;
}
