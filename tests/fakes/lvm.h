/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/lvm.h - a host with one store, "godwit", whose volumes the test names. */
#ifndef GODWIT_TESTS_FAKES_LVM_H
#define GODWIT_TESTS_FAKES_LVM_H

#include "kernel/store/checkpoint.h"
#include "kernel/store/lvm.h"
#include "kernel/store/saved.h"

/** The store's volumes: n_lvs of them, with name, read_only and extents (of 4 MiB). */
extern struct lvm_group fake_group;
/** Of which each other volume is a clone; NULL: of none. */
extern const struct lvm_lv *fake_base;
/** Parts of checkpoints that any guest has. */
extern unsigned fake_parts_n;
extern struct checkpoint_part fake_parts[CHECKPOINT_MOVE_MAX];
/** What saved_find() finds of any guest; all zero: none is saved. */
extern struct saved fake_saved;

#endif
