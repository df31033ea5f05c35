/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/boot_store.h - boot files in this host's store, and those of them that are in memory.
 *
 * A boot file is a read-only volume file.<sha256> with the tags godwit.sha256, godwit.bytes and godwit.name: one or
 * more names, with '&' between them; none for a file that came with a guest.  Guests start from memory: a file is read
 * and checked when it is wanted, and stays for a while after the last guest has left it.  Service pCPU only. */
#ifndef GODWIT_KERNEL_VM_BOOT_STORE_H
#define GODWIT_KERNEL_VM_BOOT_STORE_H

#include "kernel/store/lvm.h"
#include "kernel/vm/boot_files.h"

#define STORE_FILE_PREFIX   "file."
#define STORE_FILE_NAME_MAX 63 /* characters; letters, digits and "_+.-" */

/* A file; valid until the service loop's next turn. */
struct store_file {
    struct lvm_group *group;
    const struct lvm_lv *lv;
    uint64_t bytes;
    uint8_t sha256[SHA256_LEN];
};

/** The i-th file of the store; false: there are fewer. */
bool store_file_at(unsigned i, struct store_file *out);
/** By one of its names, or by its content.  False: none. */
bool store_file_named(const char *name, struct store_file *out);
bool store_file_of(uint64_t bytes, const uint8_t sha256[SHA256_LEN], struct store_file *out);
/** The name after the i-th of f, from 0 on, copied to out; false: it has fewer. */
bool store_file_name(const struct store_file *f, unsigned i, char out[STORE_FILE_NAME_MAX + 1]);
/** Is it a name that a file may have? */
bool store_name_is_good(const char *name);

/** Guests can be started from files of the store: boot_files_source().  Once. */
void boot_store_init(void);
/** Part of the service loop: read, check, free.  True: something moved. */
bool boot_store_step(void);

#endif
