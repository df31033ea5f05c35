/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_tree.h - the syntax of LVM2's text metadata as a tree: `key = value`, `section { ... }`, lists.
 * Portable; any context. */
#ifndef GODWIT_KERNEL_STORE_LVM_TREE_H
#define GODWIT_KERNEL_STORE_LVM_TREE_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"
#include "kernel/lib/why.h"

enum lvm_kind { LVM_NUMBER, LVM_STRING, LVM_LIST, LVM_SECTION };
/* key, text and end point into the text that was parsed; a string's text has its escapes still.  end: behind the node,
 * its closing bracket included.  child, next: 0: none. */
struct lvm_node {
    enum lvm_kind kind;
    const char *key, *text, *end;
    uint32_t key_len, text_len;
    uint64_t number;
    uint32_t child, next, line;
};
#define LVM_NODES_MAX 24576
struct lvm_tree {
    struct lvm_node node[LVM_NODES_MAX]; /* node 0 is the whole text, a section */
    unsigned n;
};

/** Parse text, which must outlive t.  HV_E_INVAL: with the line and the cause.  HV_E_RANGE: too many nodes. */
HV_MUST_CHECK enum hv_err lvm_tree_parse(struct lvm_tree *t, const char *text, size_t len, struct why *why);
/** The child of a section with this key; NULL: none, or n is NULL or no section. */
const struct lvm_node *lvm_child(const struct lvm_tree *t, const struct lvm_node *n, const char *key);
/** The first child of a section or list, and the next one; NULL: none. */
const struct lvm_node *lvm_first(const struct lvm_tree *t, const struct lvm_node *n);
const struct lvm_node *lvm_next(const struct lvm_tree *t, const struct lvm_node *n);
/** Is n a string with this text? */
bool lvm_is(const struct lvm_node *n, const char *text);

#endif
