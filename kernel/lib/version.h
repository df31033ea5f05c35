/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/version.h - the release. */
#ifndef GODWIT_KERNEL_LIB_VERSION_H
#define GODWIT_KERNEL_LIB_VERSION_H

/* As consoles, the API and metrics name it.  Hosts of different releases talk by the versions of each wire format. */
#define GODWIT_VERSION "0.1"

#endif
