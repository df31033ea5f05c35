/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/text.c - text for people: what hosts say made harmless for a terminal, tables, times.
 *
 * A terminal obeys what it shows: control characters move its cursor, escape sequences change its title or its
 * clipboard, bidirectional formatting shows text in another order.  So client.c escapes all that a host has answered as
 * soon as it arrives, and nothing behind it needs to care.  Only the bytes of a guest's console pass as they are. */
#define _GNU_SOURCE
#include "tools/ctl/ctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- escaping ---- */

/* Length and value of the UTF-8 character at p, of at most n bytes.  0: it is malformed. */
static size_t utf8_read(const unsigned char *p, size_t n, unsigned *out)
{
    static const unsigned least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf8 ? 4 : 0;
    if (!len || len > n)
        return 0;
    *out = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        *out = *out << 6 | (p[i] & 0x3f);
    }
    return *out < least[len] || *out > 0x10ffff || (*out >= 0xd800 && *out < 0xe000) ? 0 : len;
}

/* Does c act on a terminal, or hide?  Control characters (C0, DEL, C1), soft hyphen, marks and overrides of the
 * bidirectional algorithm, invisible and line-breaking characters, tags. */
static bool char_is_harmful(unsigned c)
{
    static const unsigned ranges[][2] = { { 0, 0x1f },        { 0x7f, 0x9f },      { 0xad, 0xad },
                                          { 0x61c, 0x61c },   { 0x180e, 0x180e },  { 0x200b, 0x200f },
                                          { 0x2028, 0x202e }, { 0x2060, 0x206f },  { 0xfeff, 0xfeff },
                                          { 0xfff9, 0xfffb }, { 0xe0000, 0xe007f } };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        if (c >= ranges[i][0] && c <= ranges[i][1])
            return true;
    return false;
}

char *text_escape(const char *text, size_t len, bool lines)
{
    char *out = malloc(len * 4 + 1), *at = out; /* at most "\xNN" for one byte */
    if (!out)
        abort();
    for (size_t i = 0, n; i < len; i += n) {
        unsigned c, byte = (unsigned char)text[i];
        n = utf8_read((const unsigned char *)text + i, len - i, &c);
        if (n && (!char_is_harmful(c) || (lines && (c == '\n' || c == '\t')))) {
            memcpy(at, text + i, n);
            at += n;
        } else {
            at += sprintf(at, !n || c < 0x80 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%06x", n ? c : byte);
            n = n ? n : 1;
        }
    }
    *at = 0;
    return out;
}

static void json_escape_object(json_t *o)
{
    const char *key;
    void *next;
    json_t *v;
    json_object_foreach_safe(o, next, key, v)
    {
        char *harmless = text_escape(key, strlen(key), false);
        json_escape(v);
        if (strcmp(key, harmless)) {
            json_object_set(o, harmless, v);
            json_object_del(o, key);
        }
        free(harmless);
    }
}

void json_escape(json_t *o)
{
    size_t i;
    json_t *v;
    if (json_is_object(o))
        json_escape_object(o);
    json_array_foreach(o, i, v) json_escape(v);
    if (json_is_string(o)) {
        char *harmless = text_escape(json_string_value(o), json_string_length(o), false);
        json_string_set(o, harmless);
        free(harmless);
    }
}

/* ---- tables: an array of rows, each with its cells separated by tabs ---- */

#define COLUMNS_MAX 12

void table_row(json_t *table, const char *fmt, ...)
{
    char *row;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&row, fmt, ap) < 0)
        abort();
    va_end(ap);
    json_array_append_new(table, json_string(row));
    free(row);
}

/* Copy cell number n of row, "" if it has fewer.  The caller frees it. */
static char *table_cell(const char *row, unsigned n)
{
    while (n && *row)
        n -= *row++ == '\t';
    return strndup(row, strcspn(row, "\t"));
}

/* Print one row; the last column is as wide as its text. */
static void table_line(const char *row, const char *align, const unsigned *width)
{
    size_t n = strlen(align), spaces = 0;
    for (unsigned k = 0; k < n; k++) {
        char *cell = table_cell(row, k);
        size_t pad = width[k] - text_columns(cell);
        spaces += align[k] == 'r' ? pad : 0;
        if (*cell) /* no blanks at the end of a line */
            printf("%*s%s", (int)spaces, "", cell);
        spaces = (*cell ? 0 : spaces + text_columns(cell)) + (align[k] == 'r' ? 0 : pad) + 2;
        free(cell);
    }
    putchar('\n');
}

void table_print(json_t *table, const char *align)
{
    unsigned width[COLUMNS_MAX] = { 0 };
    size_t i;
    json_t *row;
    json_array_foreach(table, i, row) for (unsigned k = 0; k < strlen(align); k++)
    {
        char *cell = table_cell(json_string_value(row), k);
        width[k] = text_columns(cell) > width[k] ? text_columns(cell) : width[k];
        free(cell);
    }
    json_array_foreach(table, i, row) table_line(json_string_value(row), align, width);
    json_decref(table);
}

/* ---- times ---- */

const char *age_text(char out[24], uint64_t us)
{
    uint64_t s = us / 1000000;
    if (s < 60)
        snprintf(out, 24, "%lu s", s);
    else if (s < 3600)
        snprintf(out, 24, "%lu min", s / 60);
    else if (s < 2 * 86400)
        snprintf(out, 24, "%lu h", s / 3600);
    else
        snprintf(out, 24, "%lu d", s / 86400);
    return out;
}

const char *time_text(char out[24], uint64_t age_us)
{
    time_t now = time(NULL), then = now - (time_t)(age_us / 1000000);
    struct tm today = *localtime(&now), at = *localtime(&then);
    bool same_day = today.tm_year == at.tm_year && today.tm_yday == at.tm_yday;
    strftime(out, 24, same_day ? "%H:%M:%S" : "%Y-%m-%d %H:%M", &at);
    return out;
}

bool size_parse(const char *text, uint64_t *bytes)
{
    static const char units[] = "KMGT";
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (text[0] < '0' || text[0] > '9' || !shift || (end[1] && strcmp(end + 1, "iB")) || n > 1ull << 23)
        return false;
    *bytes = n << shift;
    return true;
}
