/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/config/config_edit.h - disks and network cards in the text of one [vm] section: lines are added and cut, all
 * others stay as their author wrote them, comments included.
 *
 * text has no mistakes; the result may.  Disks and cards are numbered as in struct vm_config.  Each function writes the
 * new text to out and returns its length; 0: it does not fit into cap bytes.  Portable; any context. */
#ifndef GODWIT_KERNEL_CONFIG_CONFIG_EDIT_H
#define GODWIT_KERNEL_CONFIG_CONFIG_EDIT_H

#include "kernel/config/config.h"

/** Add lines behind all others. */
size_t config_edit_add(const char *text, size_t len, const char *lines, char *out, size_t cap);
/** Cut disk i: its line and that of its server's fingerprint. */
size_t config_edit_cut_disk(const char *text, size_t len, unsigned i, char *out, size_t cap);
/** Put lines in the place of those of disk i.  Returns 0 also if there is no such disk. */
size_t config_edit_swap_disk(const char *text, size_t len, unsigned i, const char *lines, char *out, size_t cap);
/** Cut card i of c, which is what text says.  The cards behind it keep their addresses: one that was chosen by the
 *  card's number gets a line.  i = c->n_nics = 0: what is said of a first card that is not there. */
size_t config_edit_cut_nic(const char *text, size_t len, const struct vm_config *c, unsigned i, char *out, size_t cap);

#endif
