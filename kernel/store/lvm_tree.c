/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_tree.c - see lvm_tree.h.
 *
 * Work and depth are bounded: each byte is read once, each node comes from one array, sections and lists nest to
 * DEPTH_MAX. */
#include "kernel/store/lvm_tree.h"

#include <string.h>
#include "kernel/lib/log.h"

#define DEPTH_MAX 8

struct parser {
    struct lvm_tree *t;
    const char *p, *end;
    uint32_t line;
    struct why *why;
};

static enum hv_err syntax(const struct parser *x, const char *wanted)
{
    struct why *why = x->why;
    return REFUSE(HV_E_INVAL, "line %u of the volume group's metadata: %s expected", x->line, wanted);
}

static void blanks_skip(struct parser *x)
{
    for (; x->p < x->end; x->p++) {
        if (*x->p == '#')
            while (x->p + 1 < x->end && x->p[1] != '\n')
                x->p++;
        else if (*x->p == '\n')
            x->line++;
        else if (*x->p != ' ' && *x->p != '\t' && *x->p != '\r' && *x->p != '\0')
            return;
    }
}

static bool take(struct parser *x, char c)
{
    blanks_skip(x);
    if (x->p == x->end || *x->p != c)
        return false;
    x->p++;
    return true;
}

static bool is_key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.' || c == '+';
}

/* A new last child of parent; *last: its last one so far, 0: none.  NULL: too many. */
static struct lvm_node *node_add(struct parser *x, uint32_t parent, uint32_t *last)
{
    struct lvm_tree *t = x->t;
    if (t->n == LVM_NODES_MAX)
        return NULL;
    uint32_t i = t->n++;
    t->node[i] = (struct lvm_node){ .line = x->line };
    *(*last ? &t->node[*last].next : &t->node[parent].child) = i;
    *last = i;
    return &t->node[i];
}

static enum hv_err number_take(struct parser *x, struct lvm_node *n)
{
    n->kind = LVM_NUMBER;
    bool any = false;
    for (; x->p < x->end && *x->p >= '0' && *x->p <= '9'; x->p++, any = true) {
        if (n->number > (UINT64_MAX - 9) / 10)
            return syntax(x, "a smaller number");
        n->number = n->number * 10 + (uint64_t)(*x->p - '0');
    }
    if (!any || (x->p < x->end && is_key_char(*x->p)))
        return syntax(x, "a whole number, a string or a list");
    return HV_OK;
}

/* After the opening quote. */
static enum hv_err string_parse(struct parser *x, struct lvm_node *n)
{
    n->kind = LVM_STRING;
    n->text = x->p;
    while (x->p < x->end && *x->p != '"') {
        x->line += *x->p == '\n';
        x->p += *x->p == '\\' && x->p + 1 < x->end ? 2 : 1;
    }
    if (x->p >= x->end)
        return syntax(x, "a closing quote");
    n->text_len = (uint32_t)(x->p++ - n->text);
    return HV_OK;
}

static enum hv_err scalar_parse(struct parser *x, struct lvm_node *n)
{
    return take(x, '"') ? string_parse(x, n) : number_take(x, n);
}

/* After the opening bracket: strings and numbers between commas. */
static enum hv_err list_parse(struct parser *x, struct lvm_node *list)
{
    uint32_t parent = (uint32_t)(list - x->t->node), last = 0;
    list->kind = LVM_LIST;
    while (!take(x, ']')) {
        if (last && !take(x, ','))
            return syntax(x, "a comma or a closing bracket");
        struct lvm_node *n = node_add(x, parent, &last);
        if (!n)
            return HV_FAIL(HV_E_RANGE);
        enum hv_err e = scalar_parse(x, n);
        if (e)
            return e;
    }
    return HV_OK;
}

/* A key, and "=" or "{"; *opens: it was "{", and the node is an empty section. */
static enum hv_err entry_parse(struct parser *x, uint32_t parent, uint32_t *last, bool *opens)
{
    const char *key = x->p;
    while (x->p < x->end && is_key_char(*x->p))
        x->p++;
    if (x->p == key)
        return syntax(x, "a name");
    struct lvm_node *n = node_add(x, parent, last);
    if (!n)
        return HV_FAIL(HV_E_RANGE);
    n->key = key;
    n->key_len = (uint32_t)(x->p - key);
    *opens = take(x, '{');
    n->kind = LVM_SECTION;
    if (*opens)
        return HV_OK;
    if (!take(x, '='))
        return syntax(x, "\"=\" or \"{\"");
    enum hv_err e = take(x, '[') ? list_parse(x, n) : scalar_parse(x, n);
    n->end = x->p;
    return e;
}

enum hv_err lvm_tree_parse(struct lvm_tree *t, const char *text, size_t len, struct why *why)
{
    struct parser x = { t, text, text + len, 1, why };
    uint32_t open[DEPTH_MAX] = { 0 }, last[DEPTH_MAX] = { 0 };
    unsigned depth = 0;
    t->n = 1;
    t->node[0] = (struct lvm_node){ .kind = LVM_SECTION };
    for (;;) {
        blanks_skip(&x);
        if (x.p == x.end)
            return depth ? syntax(&x, "a closing brace") : HV_OK;
        if (depth && take(&x, '}')) {
            t->node[open[depth--]].end = x.p;
            continue;
        }
        bool opens = false;
        enum hv_err e = entry_parse(&x, open[depth], &last[depth], &opens);
        if (e == HV_E_RANGE)
            why_say(why, "the volume group's metadata has more than %u entries", LVM_NODES_MAX);
        if (e)
            return e;
        if (!opens)
            continue;
        if (depth + 1 == DEPTH_MAX)
            return syntax(&x, "fewer sections within sections");
        open[depth + 1] = last[depth];
        last[++depth] = 0;
    }
}

const struct lvm_node *lvm_first(const struct lvm_tree *t, const struct lvm_node *n)
{
    return n && n->child ? &t->node[n->child] : NULL;
}
const struct lvm_node *lvm_next(const struct lvm_tree *t, const struct lvm_node *n)
{
    return n->next ? &t->node[n->next] : NULL;
}

const struct lvm_node *lvm_child(const struct lvm_tree *t, const struct lvm_node *n, const char *key)
{
    if (!n || n->kind != LVM_SECTION)
        return NULL;
    for (n = lvm_first(t, n); n; n = lvm_next(t, n))
        if (n->key_len == strlen(key) && !memcmp(n->key, key, n->key_len))
            return n;
    return NULL;
}

bool lvm_is(const struct lvm_node *n, const char *text)
{
    return n && n->kind == LVM_STRING && n->text_len == strlen(text) && !memcmp(n->text, text, n->text_len);
}
