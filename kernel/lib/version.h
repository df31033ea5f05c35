/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/version.h - the release, as consoles, the API and metrics name it. */
#ifndef GODWIT_KERNEL_LIB_VERSION_H
#define GODWIT_KERNEL_LIB_VERSION_H

#define GODWIT_VERSION "0.1"

#endif
