/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/svg.h - pieces of an SVG picture: text that fits, and steps of an axis.  Lengths are CSS pixels, 96 to the
 * inch. */
#ifndef GODWIT_TOOLS_CTL_SVG_H
#define GODWIT_TOOLS_CTL_SVG_H

#include <stdbool.h>
#include <stdio.h>

#define SVG_SIZE 9.0  /* of usual text; 6.75 points */
#define SVG_LINE 11.5 /* from one line of it to the next */

/** Write text with what XML reserves escaped, and control characters as "?".  text: UTF-8. */
void svg_escape(FILE *f, const char *text);
/** Width of text at size 1, in the widest of the usual sans-serif fonts. */
double svg_text_width(const char *text);
/** Write one line of text.  anchor: "start", "middle" or "end", what x is of it.  class: of the style sheet. */
void svg_text(FILE *f, double x, double y, double size, const char *class, const char *anchor, const char *text);
/** The same with a format, in the usual size. */
void svg_textf(FILE *f, double x, double y, const char *class, const char *anchor, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));
/** Write text as lines of at most this width, broken between words; what is longer than max_lines ends with "...".
 *  y: of the first line.  Returns the y of the next. */
double svg_paragraph(FILE *f, double x, double y, double width, unsigned max_lines, const char *text);
/** The smallest round number (1, 2, 5, with quarters 2.5, or one of these times a power of ten) of which n reach
 *  range. */
double svg_round_step(double range, unsigned n, bool quarters);

#endif
