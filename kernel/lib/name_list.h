/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/name_list.h - names for a message, separated by commas; what does not fit is counted, never cut.
 *
 *     struct name_list l = { .n = 0 };
 *     name_list_add(&l, "avx2");
 *     if (l.n) why_say(why, "this host lacks %u features: %s", l.n, l.text);
 * Portable; any context; nothing is allocated. */
#ifndef GODWIT_KERNEL_LIB_NAME_LIST_H
#define GODWIT_KERNEL_LIB_NAME_LIST_H

#include <stdio.h>
#include <string.h>
#include "kernel/lib/types.h"

#define NAME_LIST_LEN  480
#define NAME_LIST_TAIL 24 /* room for " and 4294967295 more" */

/* All zero: empty.  Large for a stack frame of the exit path; the service loop has room. */
struct name_list {
    char text[NAME_LIST_LEN]; /* the names; ends with "and N more" if n_left of them did not fit */
    size_t len;               /* of the names that fitted */
    unsigned n, n_left;
};

/** Append one name.  From the first that does not fit on, names are only counted, and the text says how many: a person
 *  who reads "and 12 more" knows that something is missing, and no name is cut in its middle. */
static inline void name_list_add(struct name_list *l, const char *name)
{
    const char *comma = l->n ? ", " : "";
    l->n++;
    if (!l->n_left && l->len + strlen(comma) + strlen(name) + NAME_LIST_TAIL < sizeof(l->text))
        l->len += (size_t)snprintf(l->text + l->len, sizeof(l->text) - l->len, "%s%s", comma, name);
    else
        snprintf(l->text + l->len, sizeof(l->text) - l->len, " and %u more", ++l->n_left);
}

/** The same in the form of a reason_fn (kernel/core/cpuid.h): list is the struct name_list. */
static inline void name_list_add_to(void *list, const char *name) { name_list_add((struct name_list *)list, name); }

/** Copy text to out, which has cap bytes, at least 8.  A text that does not fit ends after a whole word with "...".
 *  For texts of a peer that go on into a shorter place; our own should be made to fit. */
static inline void words_copy(char *out, size_t cap, const char *text)
{
    size_t n = strlen(text);
    if (n < cap) {
        memcpy(out, text, n + 1);
        return;
    }
    for (n = cap - 5; n > 1 && text[n] != ' ' && text[n] != '\n';)
        n--;
    memcpy(out, text, n);
    memcpy(out + n, " ...", 5);
}

#endif
