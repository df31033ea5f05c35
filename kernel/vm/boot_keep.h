/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/boot_keep.h - boot files on their way into the store (boot_store.h).  Service pCPU only.
 *
 * A file is written into a volume part.N with the tag godwit.part.  That becomes file.<sha256> in one change, once all
 * is on the disk and has the right hash.  A file that is there already gets the name as well.  After a power cut or an
 * error only a part.N is left, which the next file removes. */
#ifndef GODWIT_KERNEL_VM_BOOT_KEEP_H
#define GODWIT_KERNEL_VM_BOOT_KEEP_H

#include "kernel/store/lvm_change.h"
#include "kernel/vm/boot_store.h"

struct boot_keep;

/** Begin to write a file of so many bytes, under a name that loses its old file; "": without a name.  blob: where the
 *  bytes are, valid until the end; NULL: they come by boot_keep_put().  HV_E_UNSUPP: this host has no store of its own.
 *  HV_E_BUSY: four others are under way, or one of that name.  HV_E_NOMEM: the file is larger than what guests can
 *  start from. */
HV_MUST_CHECK enum hv_err boot_keep_begin(const char *name, uint64_t bytes, const struct boot_blob *blob,
                                          struct boot_keep **out, struct why *why);
/** Before its last byte: what its hash must be, or it fails with HV_E_DIGEST. */
void boot_keep_want(struct boot_keep *k, const uint8_t sha256[SHA256_LEN]);
/** So many bytes may be put now. */
size_t boot_keep_room(const struct boot_keep *k);
void boot_keep_put(struct boot_keep *k, const void *p, size_t n);
/** Has it failed already?  boot_keep_result() tells why. */
bool boot_keep_failed(const struct boot_keep *k);
/** Is the file in the store, durably?  HV_E_AGAIN: not yet.  Any other result: k is gone.  HV_OK: sha256 is its hash.
 *  HV_E_NOMEM: the store is full; HV_E_IO; ... */
HV_MUST_CHECK enum hv_err boot_keep_result(struct boot_keep *k, uint8_t sha256[SHA256_LEN], struct why *why);
/** The rest does not come: forget it. */
void boot_keep_abort(struct boot_keep *k);
/** Part of the service loop.  True: something moved. */
bool boot_keep_step(void);

/** Begin to take the name from its file, and delete that if it has no other and `keep` is false.  done as of
 *  lvm_change_commit().  HV_E_NOENT: no file has that name.  HV_E_AGAIN: the group is being changed: call again. */
HV_MUST_CHECK enum hv_err boot_file_delete(const char *name, bool keep, lvm_done_fn *done, void *ctx, struct why *why);

#endif
