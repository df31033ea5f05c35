/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/fmt.c - printf-style formatting.
 *
 * A conversion is parsed into a struct spec, turned into digits or a string, then padded.  All output goes through
 * out_char(), which counts everything and stores what fits.  No ASSERT here: panic() formats with this file. */
#include "kernel/lib/fmt.h"

struct out {
    char *buf;       /* borrowed */
    size_t cap, len; /* bytes of buf; characters so far, also those that did not fit */
};
struct spec {
    bool left, zero, plus, space, alt, has_prec;
    int width, prec;
    int size; /* bytes of the integer argument */
    char conv;
};

static void out_char(struct out *o, char c)
{
    if (o->len + 1 < o->cap)
        o->buf[o->len] = c;
    o->len++;
}

static void out_fill(struct out *o, char c, int n)
{
    while (n-- > 0)
        out_char(o, c);
}

static void out_text(struct out *o, const struct spec *s, const char *text, int len)
{
    if (!s->left)
        out_fill(o, ' ', s->width - len);
    for (int i = 0; i < len; i++)
        out_char(o, text[i]);
    if (s->left)
        out_fill(o, ' ', s->width - len);
}

static void out_string(struct out *o, const struct spec *s, const char *text)
{
    int len = 0;

    if (!text)
        text = "(null)";
    while ((!s->has_prec || len < s->prec) && text[len])
        len++;
    out_text(o, s, text, len);
}

/* Write the digits of v in base, the last one at end[-1].  Returns how many; 0 for v == 0. */
static int number_digits(char *end, uint64_t v, unsigned base, bool upper)
{
    const char *set = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    int n = 0;

    for (; v; v /= base, n++)
        *--end = set[v % base];
    return n;
}

static void out_number(struct out *o, const struct spec *s, uint64_t v, bool neg, unsigned base)
{
    char text[24];
    _Static_assert(sizeof(text) * 3 >= 64, "64 bits in octal");
    const char *prefix = neg ? "-" : s->plus ? "+" : s->space ? " " : "";
    int n = number_digits(text + sizeof(text), v, base, s->conv == 'X');

    if (base == 16 && (s->conv == 'p' || (s->alt && v)))
        prefix = s->conv == 'X' ? "0X" : "0x";
    int prefix_len = prefix[0] ? prefix[1] ? 2 : 1 : 0;
    int min = s->has_prec ? s->prec : s->zero && !s->left ? s->width - prefix_len : 1;
    int zeros = min > n ? min - n : !s->has_prec && !n ? 1 : 0;
    int pad = s->width - prefix_len - zeros - n;

    if (!s->left)
        out_fill(o, ' ', pad);
    while (*prefix)
        out_char(o, *prefix++);
    out_fill(o, '0', zeros);
    for (int i = 0; i < n; i++)
        out_char(o, text[sizeof(text) - (size_t)n + (size_t)i]);
    if (s->left)
        out_fill(o, ' ', pad);
}

static const char *parse_flags(const char *f, struct spec *s)
{
    for (;; f++) {
        switch (*f) {
        case '-': s->left = true; break;
        case '0': s->zero = true; break;
        case '+': s->plus = true; break;
        case ' ': s->space = true; break;
        case '#': s->alt = true; break;
        default:  return f;
        }
    }
}

static const char *parse_size(const char *f, struct spec *s)
{
    s->size = sizeof(int);
    for (;; f++) {
        switch (*f) {
        case 'h': s->size = s->size == 2 ? 1 : 2; break;
        case 'l':
        case 'z':
        case 'j':
        case 't': s->size = 8; break;
        default:  return f;
        }
    }
}

static const char *parse_number(const char *f, int *v)
{
    for (*v = 0; *f >= '0' && *f <= '9' && *v < 100000; f++)
        *v = *v * 10 + (*f - '0');
    return f;
}

static uint64_t arg_unsigned(va_list *ap, int size)
{
    if (size == 8)
        return va_arg(*ap, uint64_t);
    uint32_t v = va_arg(*ap, unsigned);
    return size == 2 ? (uint16_t)v : size == 1 ? (uint8_t)v : v;
}

static int64_t arg_signed(va_list *ap, int size)
{
    if (size == 8)
        return va_arg(*ap, int64_t);
    int v = va_arg(*ap, int);
    return size == 2 ? (int16_t)v : size == 1 ? (int8_t)v : v;
}

/* Output one conversion.  False: it is not known. */
static bool out_conversion(struct out *o, struct spec *s, va_list *ap)
{
    int64_t i;
    char c;

    switch (s->conv) {
    case 'd':
    case 'i':
        i = arg_signed(ap, s->size);
        out_number(o, s, i < 0 ? -(uint64_t)i : (uint64_t)i, i < 0, 10);
        return true;
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        s->plus = s->space = false;
        out_number(o, s, arg_unsigned(ap, s->size), false, s->conv == 'u' ? 10 : s->conv == 'o' ? 8 : 16);
        return true;
    case 'p': out_number(o, s, (uintptr_t)va_arg(*ap, void *), false, 16); return true;
    case 's': out_string(o, s, va_arg(*ap, const char *)); return true;
    case 'c':
        c = (char)va_arg(*ap, int);
        out_text(o, s, &c, 1);
        return true;
    case '%': out_char(o, '%'); return true;
    default:  return false;
    }
}

static const char *parse_spec(const char *f, struct spec *s, va_list *ap)
{
    f = parse_flags(f, s);
    if (*f == '*') {
        s->width = va_arg(*ap, int);
        f++;
    } else {
        f = parse_number(f, &s->width);
    }
    if (s->width < 0) {
        s->left = true;
        s->width = -s->width;
    }
    if (*f == '.') {
        f++;
        if (*f == '*') {
            s->prec = va_arg(*ap, int);
            f++;
        } else {
            f = parse_number(f, &s->prec);
        }
        s->has_prec = s->prec >= 0;
    }
    f = parse_size(f, s);
    s->conv = *f;
    return f;
}

int fmt_vsnprintf(char *buf, size_t cap, const char *fmt, va_list args)
{
    struct out o = { buf, cap, 0 };
    va_list ap;

    va_copy(ap, args);
    for (const char *f = fmt; *f; f++) {
        if (*f != '%') {
            out_char(&o, *f);
            continue;
        }
        struct spec s = { 0 };
        const char *start = f;
        f = parse_spec(f + 1, &s, &ap);
        if (!out_conversion(&o, &s, &ap)) {
            out_string(&o, &(struct spec){ 0 }, start); /* the types of what follows are not known */
            break;
        }
    }
    va_end(ap);
    if (cap)
        buf[MIN(o.len, cap - 1)] = 0;
    return (int)o.len;
}

int fmt_snprintf(char *buf, size_t cap, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = fmt_vsnprintf(buf, cap, fmt, ap);
    va_end(ap);
    return n;
}
