/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/boot_files.h - the files that guests start from: kernel, initrd, modules.  Service pCPU only.
 *
 * A guest that is started here gets the files of this host's boot disk that its [vm] section names.  For a guest that
 * arrives names mean nothing: its offer has the SHA-256 of each file, and only the very bytes that it was started from
 * are used again. */
#ifndef GODWIT_KERNEL_VM_BOOT_FILES_H
#define GODWIT_KERNEL_VM_BOOT_FILES_H

#include "kernel/core/vm.h"
#include "kernel/host/boot_info.h"
#include "kernel/lib/why.h"
#include "kernel/vm/boot_image.h"
#include "kernel/vm/vm_state.h"

/** Take over the files of bi; the host's own (config_file_is_hosts()) are left out.  bi: borrowed for ever. */
void boot_files_init(const struct boot_info *bi);

/** The files of this host's boot disk that c names: kernel, initrd, modules.  HV_E_NOENT: one is missing, or is the
 *  host's own; why names it. */
HV_MUST_CHECK enum hv_err boot_set_find(const struct vm_config *c, struct boot_set *out, struct why *why);
/** The same for the file that a ram: disk starts from; *out: NULL without. */
HV_MUST_CHECK enum hv_err boot_disk_find(const struct vm_config *c, struct boot_blob **out, struct why *why);
/** Fill *out from set, which has the files that c names; c's texts are borrowed. */
void boot_set_image(const struct boot_set *set, const struct vm_config *c, struct boot_image *out);
/** The number of files that c names. */
unsigned boot_set_size(const struct vm_config *c);

/** Hash some more of the files of set.  True: all are hashed, as an offer needs them. */
bool boot_set_hash_step(const struct boot_set *set);
/** Hash some more of this host's files that could be the offer's: those of equal lengths.  True: all are hashed. */
bool boot_offer_hash_step(const struct vm_offer *o);
/** The files of this host's guests with the bytes that the offer names.  False: not all are here, out->n is 0. */
bool boot_offer_find(const struct vm_offer *o, struct boot_set *out);

#endif
