/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/canary.h - the stack protector: a value below each return address, checked before the return.
 *
 * The compiler adds it to functions with arrays or with variables whose address is taken.  A changed value is a panic
 * that names the function.  It finds an overflow upwards; guard pages find stacks that are too small. */
#ifndef GODWIT_KERNEL_HOST_CANARY_H
#define GODWIT_KERNEL_HOST_CANARY_H

#include "kernel/host/boot_info.h"

/** Replace the constant of the build by a value of this boot.  Boot CPU, before all other init calls; the caller never
 *  returns, for its own frame has the old value. */
void canary_init(const struct boot_info *bi);

#endif
