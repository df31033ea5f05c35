/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/config/config_edit.c - see config_edit.h.
 *
 * A line belongs to the disk or card that config_keys.c gives it to: that of the last line `disk` or `nic = yes` above
 * it, or the first one. */
#include "kernel/config/config_edit.h"

#include <stdio.h>
#include <string.h>
#include "kernel/config/config_impl.h"
#include "kernel/lib/text.h"

enum owner { OF_NOBODY, OF_DISK, OF_NIC };

struct reader {
    const char *at, *end;
    unsigned n_disks, n_nics; /* above the current line, itself included */
    /* the current line */
    const char *line;
    size_t len; /* with its newline, if it has one */
    enum owner owner;
    unsigned i;       /* the owner's number */
    bool begins, mac; /* it is `nic = yes`; it is `mac` */
};

static struct reader reader_begin(const char *text, size_t len)
{
    return (struct reader){ .at = text, .end = text + len };
}

/* Whose is the line with this key? */
static void line_judge(struct reader *r, const char *key, const char *value)
{
    bool yes;
    if (!strcmp(key, "disk")) {
        r->owner = OF_DISK;
        r->i = r->n_disks++;
    } else if (!strcmp(key, "disk-fingerprint")) {
        r->owner = OF_DISK;
        r->i = r->n_disks ? r->n_disks - 1 : 0;
    } else if (!strcmp(key, "nic") && config_boolean(value, &yes) && yes) {
        r->owner = OF_NIC;
        r->i = r->n_nics++;
        r->begins = true;
    } else if (!strcmp(key, "mac") || !strcmp(key, "spoof")) {
        r->owner = OF_NIC;
        r->i = r->n_nics ? r->n_nics - 1 : 0;
        r->mac = *key == 'm';
    }
}

/* Go to the next line.  False: there is none. */
static bool reader_next(struct reader *r)
{
    static const char utf8_mark[] = "\xef\xbb\xbf";
    char copy[LINE_MAX_LEN + 1], *key, *value;
    if (r->at == r->end)
        return false;
    const char *newline = memchr(r->at, '\n', (size_t)(r->end - r->at));
    r->line = r->at;
    r->at = newline ? newline + 1 : r->end;
    r->len = (size_t)(r->at - r->line);
    r->owner = OF_NOBODY;
    r->begins = r->mac = false;
    size_t n = MIN(r->len - (newline != NULL), LINE_MAX_LEN);
    memcpy(copy, r->line, n);
    copy[n] = 0;
    if (config_line_split(copy + (strncmp(copy, utf8_mark, 3) ? 0 : 3), &key, &value) && value)
        line_judge(r, key, value);
    return true;
}

static void put(struct text *t, const char *p, size_t n)
{
    text_put(t, p, n);
    if (n && p[n - 1] != '\n')
        text_put(t, "\n", 1);
}

static size_t length(const struct text *t) { return t->overflow ? 0 : t->len; }

size_t config_edit_add(const char *text, size_t len, const char *lines, char *out, size_t cap)
{
    struct text t = { .buf = out, .cap = cap };
    put(&t, text, len);
    put(&t, lines, strlen(lines));
    return length(&t);
}

size_t config_edit_cut_disk(const char *text, size_t len, unsigned i, char *out, size_t cap)
{
    struct text t = { .buf = out, .cap = cap };
    for (struct reader r = reader_begin(text, len); reader_next(&r);)
        if (r.owner != OF_DISK || r.i != i)
            put(&t, r.line, r.len);
    return length(&t);
}

size_t config_edit_swap_disk(const char *text, size_t len, unsigned i, const char *lines, char *out, size_t cap)
{
    struct text t = { .buf = out, .cap = cap };
    bool there = false;
    for (struct reader r = reader_begin(text, len); reader_next(&r);) {
        if (r.owner != OF_DISK || r.i != i)
            put(&t, r.line, r.len);
        else if (!there)
            put(&t, lines, strlen(lines));
        there |= r.owner == OF_DISK && r.i == i;
    }
    return there ? length(&t) : 0;
}

/* Bit i: card i has a line `mac`. */
static uint32_t macs_given(const char *text, size_t len)
{
    uint32_t given = 0;
    for (struct reader r = reader_begin(text, len); reader_next(&r);)
        if (r.mac)
            given |= BIT32(r.i);
    return given;
}

size_t config_edit_cut_nic(const char *text, size_t len, const struct vm_config *c, unsigned i, char *out, size_t cap)
{
    struct text t = { .buf = out, .cap = cap };
    uint32_t given = macs_given(text, len);
    for (struct reader r = reader_begin(text, len); reader_next(&r);) {
        if (r.owner == OF_NIC && r.i == i)
            continue;
        put(&t, r.line, r.len);
        if (!r.begins || r.i < i || (given & BIT32(r.i)))
            continue;
        const uint8_t *m = c->nic[r.i].mac;
        text_printf(&t, "mac = %02x:%02x:%02x:%02x:%02x:%02x\n", m[0], m[1], m[2], m[3], m[4], m[5]);
    }
    return length(&t);
}
