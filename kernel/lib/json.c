/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/json.c - JSON: our own writer, and a reader on top of jsmn.
 *
 * jsmn cuts text into tokens; json_parse() checks what they are.  Even a strict jsmn takes more than JSON, like a
 * missing colon or a comma too many.  What it lets through is harmless after the checks: an object of pairs, each a
 * string with a string, number or boolean.  Not here: which fields a request may have (kernel/manage/). */
#include "kernel/lib/json.h"

#include <stdio.h>
#include <string.h>
#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS
#include <jsmn.h>

#define TOKENS_MAX (1 + 2 * JSON_FIELDS_MAX)
_Static_assert(TOKENS_MAX * sizeof(jsmntok_t) <= 1024, "tokens lie on the stack");

/* ---- writing ---- */

void json_init(struct json *j, char *buf, size_t cap)
{
    memset(j, 0, sizeof(*j));
    j->text = (struct text){ .buf = buf, .cap = cap };
}

static void json_put(struct json *j, const char *s) { text_put(&j->text, s, strlen(s)); }

/* Length of the UTF-8 sequence at s (Unicode 15, table 3-7); 0: s is not UTF-8. */
static unsigned utf8_len(const uint8_t *s)
{
    static const struct {
        uint8_t first, last, second_min, second_max, len;
    } rows[] = {
        { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
        { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 }, { 0xf0, 0xf0, 0x90, 0xbf, 4 },
        { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
    };
    if (s[0] < 0x80)
        return 1;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        if (s[0] < rows[i].first || s[0] > rows[i].last || s[1] < rows[i].second_min || s[1] > rows[i].second_max)
            continue;
        for (unsigned k = 2; k < rows[i].len; k++)
            if ((s[k] & 0xc0) != 0x80) /* also the terminating NUL */
                return 0;
        return rows[i].len;
    }
    return 0;
}

static void json_put_string(struct json *j, const char *s)
{
    json_put(j, "\"");
    for (unsigned n; *s; s += n ? n : 1) {
        n = utf8_len((const uint8_t *)s);
        if (!n)
            json_put(j, "\\ufffd");
        else if (*s == '"' || *s == '\\')
            text_printf(&j->text, "\\%c", *s);
        else if (*s == '\n')
            json_put(j, "\\n");
        else if ((uint8_t)*s < ' ' || *s == 0x7f)
            text_printf(&j->text, "\\u%04x", *s);
        else
            text_put(&j->text, s, n);
    }
    json_put(j, "\"");
}

/* Write what comes before each value: a comma, the key. */
static void json_value_begin(struct json *j, const char *key)
{
    bool in_object = j->depth && j->close[j->depth - 1] == '}';
    j->misused |= in_object != (key != NULL);
    if (j->comma)
        json_put(j, ",");
    j->comma = true;
    if (!key)
        return;
    json_put_string(j, key);
    json_put(j, ":");
}

static void json_open(struct json *j, const char *key, const char *bracket, char close)
{
    json_value_begin(j, key);
    if (j->depth == JSON_DEPTH_MAX) {
        j->misused = true;
        return;
    }
    json_put(j, bracket);
    j->close[j->depth++] = close;
    j->comma = false;
}

void json_object(struct json *j, const char *key) { json_open(j, key, "{", '}'); }
void json_array(struct json *j, const char *key) { json_open(j, key, "[", ']'); }

void json_end(struct json *j)
{
    if (!j->depth) {
        j->misused = true;
        return;
    }
    text_put(&j->text, &j->close[--j->depth], 1);
    j->comma = true;
}

void json_str(struct json *j, const char *key, const char *value)
{
    json_value_begin(j, key);
    json_put_string(j, value);
}

void json_fmt(struct json *j, const char *key, const char *fmt, ...)
{
    char value[640];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(value, sizeof(value), fmt, ap);
    va_end(ap);
    json_str(j, key, value);
}

void json_num(struct json *j, const char *key, uint64_t value)
{
    json_value_begin(j, key);
    text_printf(&j->text, "%lu", value);
}

void json_bool(struct json *j, const char *key, bool value)
{
    json_value_begin(j, key);
    json_put(j, value ? "true" : "false");
}

bool json_good(const struct json *j) { return !j->misused && !j->depth && !j->text.overflow && j->text.len; }

void json_line(struct printer *p, const char *text)
{
    json_str(container_of(p, struct json_printer, printer)->json, NULL, text);
}

/* ---- reading ---- */

static const struct json_field *json_field_find(const struct json_in *in, const char *key, size_t key_len)
{
    for (unsigned i = 0; i < in->n; i++)
        if (in->field[i].key_len == key_len && !memcmp(in->field[i].key, key, key_len))
            return &in->field[i];
    return NULL;
}

enum hv_err json_parse(struct json_in *in, const char *text, size_t len, const char **why)
{
    jsmn_parser p;
    jsmntok_t tok[TOKENS_MAX];
    in->n = 0;
    jsmn_init(&p);
    int n = jsmn_parse(&p, text, len, tok, TOKENS_MAX);
    *why = n == JSMN_ERROR_NOMEM ? "too many fields" : "not one JSON object of strings, numbers and booleans";
    if (n < 1 || tok[0].type != JSMN_OBJECT || n != 1 + 2 * tok[0].size)
        return HV_FAIL(HV_E_PROTO);
    for (int i = 1; i < n; i += 2) {
        const jsmntok_t *k = &tok[i], *v = &tok[i + 1];
        if (k->type != JSMN_STRING || k->size != 1 || k->parent != 0 || v->parent != i || v->size ||
            (v->type != JSMN_STRING && v->type != JSMN_PRIMITIVE))
            return HV_FAIL(HV_E_PROTO);
        struct json_field f = { text + k->start, text + v->start, (unsigned)(k->end - k->start),
                                (unsigned)(v->end - v->start), v->type == JSMN_STRING };
        if (json_field_find(in, f.key, f.key_len)) {
            *why = "a key twice";
            return HV_FAIL(HV_E_PROTO);
        }
        in->field[in->n++] = f;
    }
    return HV_OK;
}

static int json_hex4(const char *s, unsigned left)
{
    int v = 0;
    for (unsigned i = 0; i < 4; i++) {
        char c = i < left ? s[i] : 0, low = (char)(c | 0x20);
        if (c >= '0' && c <= '9')
            v = v << 4 | (c - '0');
        else if (low >= 'a' && low <= 'f')
            v = v << 4 | (low - 'a' + 10);
        else
            return -1;
    }
    return v;
}

/* The code point of the escape whose backslash stood before s[0..left); *used: bytes after the backslash.  -1: not an
 * escape.  Half of a surrogate pair is not one. */
static int32_t json_escape(const char *s, unsigned left, unsigned *used)
{
    static const char plain[] = "\"\\/bfnrt", means[] = "\"\\/\b\f\n\r\t";
    const char *at = left ? memchr(plain, s[0], sizeof(plain) - 1) : NULL;
    *used = 1;
    if (at)
        return means[at - plain];
    if (!left || s[0] != 'u')
        return -1;
    int32_t c = json_hex4(s + 1, left - 1);
    *used = 5;
    if (c < 0xd800 || c > 0xdfff)
        return c;
    if (c > 0xdbff || left < 11 || s[5] != '\\' || s[6] != 'u')
        return -1;
    int32_t low = json_hex4(s + 7, left - 7);
    *used = 11;
    return low < 0xdc00 || low > 0xdfff ? -1 : 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

static unsigned utf8_put(int32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    unsigned n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (unsigned i = n - 1; i; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00 >> n & 0xf0) | c);
    return n;
}

enum hv_err json_get_str(const struct json_in *in, const char *key, char *out, size_t cap)
{
    const struct json_field *f = json_field_find(in, key, strlen(key));
    struct text t = { .buf = out, .cap = cap - 1 };
    if (!f)
        return HV_FAIL(HV_E_NOENT);
    for (unsigned i = 0, used = 1; f->is_string && i < f->value_len; i += used) {
        char c[4] = { f->value[i] };
        unsigned n = 1;
        used = 1;
        if (c[0] == '\\') {
            int32_t point = json_escape(f->value + i + 1, f->value_len - i - 1, &used);
            if (point <= 0)
                return HV_FAIL(HV_E_INVAL);
            used++;
            n = utf8_put(point, c);
        }
        if (!c[0])
            return HV_FAIL(HV_E_INVAL);
        text_put(&t, c, n);
    }
    if (!f->is_string || t.overflow)
        return HV_FAIL(HV_E_INVAL);
    out[t.len] = 0;
    return HV_OK;
}

enum hv_err json_get_num(const struct json_in *in, const char *key, uint64_t max, uint64_t *out)
{
    const struct json_field *f = json_field_find(in, key, strlen(key));
    uint64_t n = 0;
    if (!f)
        return HV_FAIL(HV_E_NOENT);
    for (unsigned i = 0; i < f->value_len; i++) {
        unsigned digit = (unsigned)(f->value[i] - '0');
        if (digit > 9 || n > (max - digit) / 10 || digit > max)
            return HV_FAIL(HV_E_INVAL);
        n = n * 10 + digit;
    }
    if (f->is_string || !f->value_len)
        return HV_FAIL(HV_E_INVAL);
    *out = n;
    return HV_OK;
}

enum hv_err json_get_bool(const struct json_in *in, const char *key, bool *out)
{
    const struct json_field *f = json_field_find(in, key, strlen(key));
    if (!f)
        return HV_FAIL(HV_E_NOENT);
    bool yes = f->value_len == 4 && !memcmp(f->value, "true", 4),
         no = f->value_len == 5 && !memcmp(f->value, "false", 5);
    if (f->is_string || (!yes && !no))
        return HV_FAIL(HV_E_INVAL);
    *out = yes;
    return HV_OK;
}
