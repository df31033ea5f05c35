/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_write.c - see lvm_write.h.
 *
 * The old text is parsed again, for where its nodes begin and end.  A writer walks them in their order: `from` is the
 * first byte that has been neither copied nor left out.  White space around what is left out goes too, so a text does
 * not grow by changes back and forth. */
#include "kernel/store/lvm_write.h"

#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/version.h"
#include "kernel/store/lvm_tree.h"

#define SECTOR 512u

struct writer {
    const struct lvm_tree *t;
    const struct lvm_vg *was, *is;
    const struct lvm_stamp *by;
    const char *from;
    struct text *out;
};

/* ---- copying ---- */

static void copy_to(struct writer *w, const char *end)
{
    text_put(w->out, w->from, (size_t)(end - w->from));
    w->from = end;
}

static void blanks_trim(struct text *out)
{
    while (out->len &&
           (out->buf[out->len - 1] == ' ' || out->buf[out->len - 1] == '\t' || out->buf[out->len - 1] == '\n'))
        out->len--;
}

/* Leave n out. */
static void drop(struct writer *w, const struct lvm_node *n)
{
    copy_to(w, n->key);
    blanks_trim(w->out);
    if (*n->end != '\n')
        text_printf(w->out, "\n");
    w->from = n->end;
}

/* Copy up to n, which something else takes the place of. */
static void replace(struct writer *w, const struct lvm_node *n)
{
    copy_to(w, n->key);
    w->from = n->end;
}

/* ---- parts of a text ---- */

static void put_uuid(struct text *out, const char uuid[LVM_UUID_LEN])
{
    text_printf(out, "id = \"%.6s-%.4s-%.4s-%.4s-%.4s-%.4s-%.6s\"\n", uuid, uuid + 6, uuid + 10, uuid + 14, uuid + 18,
                uuid + 22, uuid + 26);
}

static void put_tags(struct text *out, const struct lvm_lv *lv)
{
    text_printf(out, "tags = [");
    for (const char *t = lv->tags; *t; t += strlen(t) + 1)
        text_printf(out, "%s\"%s\"", t == lv->tags ? "" : ", ", t);
    text_printf(out, "]");
}

/* The one segment of the volume that ties a snapshot to its origin. */
static void put_snap(struct text *out, const struct lvm_lv *lv)
{
    text_printf(out, "segment_count = 1\n\n\t\t\tsegment1 {\n\t\t\t\tstart_extent = 0\n\t\t\t\textent_count = %u\n\n",
                lv->extents);
    text_printf(out,
                "\t\t\t\ttype = \"snapshot\"\n\t\t\t\tchunk_size = %u\n\t\t\t\torigin = \"%s\"\n"
                "\t\t\t\t%s = \"%s\"\n\t\t\t}",
                lv->snap.chunk_bytes / SECTOR, lv->snap.origin, lv->snap.merging ? "merging_store" : "cow_store",
                lv->snap.cow);
}

static void put_segs(struct writer *w, const struct lvm_lv *lv)
{
    struct text *out = w->out;
    if (lv->snap.cow[0]) {
        put_snap(out, lv);
        return;
    }
    text_printf(out, "segment_count = %u\n", lv->n_segs);
    for (unsigned i = 0; i < lv->n_segs; i++) {
        const struct lvm_seg *s = &w->is->seg[lv->seg + i];
        text_printf(out, "\n\t\t\tsegment%u {\n\t\t\t\tstart_extent = %u\n\t\t\t\textent_count = %u\n\n", i + 1,
                    s->first, s->count);
        text_printf(out,
                    "\t\t\t\ttype = \"striped\"\n\t\t\t\tstripe_count = 1\n\n\t\t\t\tstripes = [\n"
                    "\t\t\t\t\t\"%s\", %u\n\t\t\t\t]\n\t\t\t}",
                    w->is->pv[s->pv].name, s->pv_first);
    }
}

static void put_lv(struct writer *w, const struct lvm_lv *lv)
{
    struct text *out = w->out;
    text_printf(out, "\n\n\t\t%s {\n\t\t\t", lv->name);
    put_uuid(out, lv->uuid);
    text_printf(out, "\t\t\tstatus = [\"READ\"%s, \"VISIBLE\"]\n\t\t\tflags = []\n\t\t\t",
                lv->read_only ? "" : ", \"WRITE\"");
    if (lv->tags[0]) {
        put_tags(out, lv);
        text_printf(out, "\n\t\t\t");
    }
    text_printf(out, "creation_time = %lu\n\t\t\tcreation_host = \"%s\"\n\t\t\t", w->by->unix_s, w->by->host);
    put_segs(w, lv);
    text_printf(out, "\n\t\t}");
}

/* The list of flags, with or without WRITE. */
static void put_status(struct writer *w, const struct lvm_node *list, bool read_only)
{
    const char *comma = "";
    text_printf(w->out, "status = [");
    for (const struct lvm_node *n = lvm_first(w->t, list); n; n = lvm_next(w->t, n)) {
        if (lvm_is(n, "WRITE"))
            continue;
        text_printf(w->out, "%s\"", comma);
        text_put(w->out, n->text, n->text_len);
        text_printf(w->out, "\"%s", lvm_is(n, "READ") && !read_only ? ", \"WRITE\"" : "");
        comma = ", ";
    }
    text_printf(w->out, "]");
}

/* ---- volumes ---- */

static bool segs_differ(const struct writer *w, const struct lvm_lv *was, const struct lvm_lv *is)
{
    bool same = was->n_segs == is->n_segs;
    if (strcmp(was->snap.origin, is->snap.origin) != 0 || strcmp(was->snap.cow, is->snap.cow) != 0 ||
        was->snap.merging != is->snap.merging)
        return true;
    for (unsigned i = 0; i < is->n_segs && same; i++) {
        const struct lvm_seg *a = &w->was->seg[was->seg + i], *b = &w->is->seg[is->seg + i];
        same = a->first == b->first && a->count == b->count && a->pv == b->pv && a->pv_first == b->pv_first;
    }
    return is->linear && !same;
}

static bool is_segment(const struct lvm_node *n)
{
    return n->key_len > 7 && !memcmp(n->key, "segment", 7) && n->kind == LVM_SECTION;
}

static bool key_is(const struct lvm_node *n, const char *key)
{
    return n->key_len == strlen(key) && !memcmp(n->key, key, n->key_len);
}

/* The section of a volume that stays. */
static void lv_copy(struct writer *w, const struct lvm_node *section, const struct lvm_lv *was, const struct lvm_lv *is)
{
    bool retag = memcmp(was->tags, is->tags, sizeof(is->tags)) != 0;
    bool new_segs = segs_differ(w, was, is);
    if (strcmp(was->name, is->name) != 0) {
        copy_to(w, section->key);
        text_printf(w->out, "%s", is->name);
        w->from = section->key + section->key_len;
    }
    const struct lvm_node *n = lvm_first(w->t, section);
    if (n && retag && is->tags[0] && !lvm_child(w->t, section, "tags")) {
        copy_to(w, n->key);
        put_tags(w->out, is);
        text_printf(w->out, "\n\t\t\t");
    }
    for (; n; n = lvm_next(w->t, n)) {
        if (retag && key_is(n, "tags")) {
            (is->tags[0] ? replace : drop)(w, n);
            if (is->tags[0])
                put_tags(w->out, is);
        } else if (was->read_only != is->read_only && key_is(n, "status")) {
            replace(w, n);
            put_status(w, n, is->read_only);
        } else if (new_segs && key_is(n, "segment_count")) {
            replace(w, n);
            put_segs(w, is);
        } else if (new_segs && is_segment(n))
            drop(w, n);
    }
}

/* The volume of a section, as it was; NULL: an entry that is none. */
static const struct lvm_lv *lv_was(const struct writer *w, const struct lvm_node *section)
{
    for (unsigned i = 0; i < w->was->n_lvs; i++)
        if (key_is(section, w->was->lv[i].name))
            return &w->was->lv[i];
    return NULL;
}

static void lvs_old(struct writer *w, const struct lvm_node *lvs)
{
    for (const struct lvm_node *n = lvm_first(w->t, lvs); n; n = lvm_next(w->t, n)) {
        const struct lvm_lv *was = lv_was(w, n), *is = was ? lvm_lv_by_uuid(w->is, was->uuid) : NULL;
        if (is)
            lv_copy(w, n, was, is);
        else
            drop(w, n);
    }
}

static void lvs_new(struct writer *w)
{
    blanks_trim(w->out);
    for (const struct lvm_lv *lv = w->is->lv; lv < w->is->lv + w->is->n_lvs; lv++)
        if (lv->uuid[0] && !lvm_lv_by_uuid(w->was, lv->uuid))
            put_lv(w, lv);
}

static void group_copy(struct writer *w, const struct lvm_node *group)
{
    const struct lvm_node *lvs = NULL;
    for (const struct lvm_node *n = lvm_first(w->t, group); n; n = lvm_next(w->t, n)) {
        if (key_is(n, "seqno")) {
            replace(w, n);
            text_printf(w->out, "seqno = %lu", w->is->seqno);
        } else if (key_is(n, "logical_volumes")) {
            lvs = n;
            lvs_old(w, n);
            copy_to(w, n->end - 1);
            lvs_new(w);
            text_printf(w->out, "\n\t");
        }
    }
    if (lvs)
        return;
    copy_to(w, group->end - 1);
    blanks_trim(w->out);
    text_printf(w->out, "\n\n\tlogical_volumes {");
    lvs_new(w);
    text_printf(w->out, "\n\t}\n");
}

/* An entry of the whole text that says who wrote it; to the end of its line, which has the date in words. */
static void stamp_copy(struct writer *w, const struct lvm_node *n, const char *end)
{
    bool what = key_is(n, "description"), host = key_is(n, "creation_host");
    if (!what && !host && !key_is(n, "creation_time"))
        return;
    replace(w, n);
    while (w->from < end && *w->from != '\n')
        w->from++;
    if (what)
        text_printf(w->out, "description = \"Godwit " GODWIT_VERSION ": %s\"", w->by->what);
    else if (host)
        text_printf(w->out, "creation_host = \"%s\"", w->by->host);
    else
        text_printf(w->out, "creation_time = %lu", w->by->unix_s);
}

enum hv_err lvm_text_write(const struct lvm_vg *was, const char *old, size_t old_len, const struct lvm_vg *is,
                           const struct lvm_stamp *by, struct text *out, struct why *why)
{
    struct lvm_tree *t = mem_alloc(sizeof(*t));
    struct writer w = { t, was, is, by, old, out };
    if (!t)
        return REFUSE(HV_E_NOMEM, "no memory for the metadata of the volume group %s", is->name);
    enum hv_err e = lvm_tree_parse(t, old, old_len, why);
    for (const struct lvm_node *n = e ? NULL : lvm_first(t, &t->node[0]); n; n = lvm_next(t, n)) {
        if (n->kind == LVM_SECTION && key_is(n, was->name))
            group_copy(&w, n);
        else
            stamp_copy(&w, n, old + old_len);
    }
    if (!e)
        copy_to(&w, old + old_len);
    mem_free(t, sizeof(*t));
    if (!e && out->overflow)
        return REFUSE(HV_E_NOMEM, "the metadata of the volume group %s would be larger than %u KiB: delete volumes",
                      is->name, (unsigned)(out->cap / KIB));
    return e;
}

void lvm_text_new(const char *name, const char uuid[LVM_UUID_LEN], uint64_t extent_bytes, const struct lvm_pv *pv,
                  uint64_t dev_bytes, const char *device, struct text *out)
{
    text_printf(out, "%s {\n\t", name);
    put_uuid(out, uuid);
    text_printf(out,
                "\tseqno = 0\n\tformat = \"lvm2\"\n\tstatus = [\"RESIZEABLE\", \"READ\", \"WRITE\"]\n\tflags = []\n"
                "\textent_size = %lu\n\tmax_lv = 0\n\tmax_pv = 0\n\tmetadata_copies = 0\n\n",
                extent_bytes / SECTOR);
    text_printf(out, "\tphysical_volumes {\n\n\t\t%s {\n\t\t\t", pv->name);
    put_uuid(out, pv->uuid);
    text_printf(out,
                "\t\t\tdevice = \"%s\"\n\n\t\t\tstatus = [\"ALLOCATABLE\"]\n\t\t\tflags = []\n\t\t\tdev_size = %lu\n"
                "\t\t\tpe_start = %lu\n\t\t\tpe_count = %u\n\t\t}\n\t}\n}\n\n",
                device, dev_bytes / SECTOR, pv->pe_start / SECTOR, pv->pe_count);
    text_printf(out,
                "contents = \"Text Format Volume Group\"\nversion = 1\n\ndescription = \"\"\n\ncreation_host = \"\"\n"
                "creation_time = 0\n\n");
    text_put(out, "", 1); /* LVM2 counts the final NUL */
}
