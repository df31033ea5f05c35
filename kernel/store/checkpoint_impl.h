/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/checkpoint_impl.h - shared by checkpoint*.c. */
#ifndef GODWIT_KERNEL_STORE_CHECKPOINT_IMPL_H
#define GODWIT_KERNEL_STORE_CHECKPOINT_IMPL_H

#include "kernel/store/checkpoint.h"

#define CHECKPOINT_TAG_TIME "godwit.time"

/** The halves of checkpoint_is_busy(). */
bool checkpoint_is_deleted(const char *guest);
bool checkpoint_is_reverted(const char *guest);
bool checkpoint_revert_step(void);

#endif
