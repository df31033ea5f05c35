/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_file.h - imports and boot files, which go on after their requests.  Service pCPU only. */
#ifndef GODWIT_KERNEL_MANAGE_API_FILE_H
#define GODWIT_KERNEL_MANAGE_API_FILE_H

#include "kernel/lib/types.h"

/** Part of the service loop, with the steps of import.h, boot_keep.h and boot_store.h.  True: something moved. */
bool api_file_step(void);

#endif
