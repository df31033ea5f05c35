/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/boot_files.h - the files that guests start from: kernel, initrd, modules.  Service pCPU only.
 *
 * A guest that is started here gets the files of this host's boot disk that its [vm] section names.  For a guest that
 * arrives names mean nothing: its offer has the SHA-256 of each file.  Those that this host has as well, under any
 * name, are used; the others come with the guest, as pages behind its memory (boot_travel.c). */
#ifndef GODWIT_KERNEL_VM_BOOT_FILES_H
#define GODWIT_KERNEL_VM_BOOT_FILES_H

#include "kernel/core/vm.h"
#include "kernel/host/boot_info.h"
#include "kernel/host/x86/window.h"
#include "kernel/lib/why.h"
#include "kernel/vm/boot_image.h"
#include "kernel/vm/vm_state.h"
#include "net/sha256.h"

struct boot_blob {
    const uint8_t *data;        /* borrowed: of the boot disk, or inside the window of a boot_own */
    uint64_t len, n_hashed;     /* bytes */
    bool hashed;                /* sha256 is that of data */
    uint8_t sha256[SHA256_LEN]; /* names the file everywhere */
    struct sha256 hashing;      /* of n_hashed bytes */
};

/** Take over the files of bi; the host's own (config_file_is_hosts()) are left out.  bi: borrowed for ever. */
void boot_files_init(const struct boot_info *bi);

/** The files of this host's boot disk that c names: kernel, initrd, modules.  HV_E_NOENT: one is missing, or is the
 *  host's own; why names it. */
HV_MUST_CHECK enum hv_err boot_set_find(const struct vm_config *c, struct boot_set *out, struct why *why);
/** The same for the file that disk i starts from; *out: NULL without. */
HV_MUST_CHECK enum hv_err boot_disk_find(const struct vm_config *c, unsigned i, struct boot_blob **out,
                                         struct why *why);
/** Fill *out from set, which has the files that c names; c's texts are borrowed. */
void boot_set_image(const struct boot_set *set, const struct vm_config *c, struct boot_image *out);

/** Hash some more of b, or of the files of set: the work of one turn.  True: all is hashed, as an offer needs it. */
bool boot_blob_hash_step(struct boot_blob *b);
bool boot_set_hash_step(const struct boot_set *set);
/** Hash some more of this host's files that could be the offer's: those of equal lengths.  True: all are hashed. */
bool boot_offer_hash_step(const struct vm_offer *o);
/** The file of this host's boot disk with these bytes; NULL: none, or not hashed yet. */
struct boot_blob *boot_blob_find(uint64_t len, const uint8_t sha256[SHA256_LEN]);

/* ---- files that come with a guest: boot_travel.c ---- */

/** Page i of set->n_pages, to be sent; valid until the next call.  NULL: beyond the end, or of a file whose bit is in
 *  have. */
const void *boot_set_page(const struct boot_set *set, uint64_t have, uint64_t i);
/** Page i of these, to be written at an arrival.  NULL: it is not of a file that comes with the guest. */
void *boot_set_page_for_write(const struct boot_set *set, uint64_t i);

/** Host memory, in bytes, for the files of the offer that are not here; boot_offer_hash_step() is done. */
uint64_t boot_offer_bytes(const struct vm_offer *o);
/** Make set, empty at first, what the guest of the offer will start from; some of the work.  HV_E_AGAIN: call again.
 *  HV_E_NOMEM: set is empty again.  An offer without files leaves it empty. */
HV_MUST_CHECK enum hv_err boot_set_arrive_step(struct boot_set *set, const struct vm_offer *o);
/** Bit i: file i of the set was here and need not be sent. */
uint64_t boot_set_have(const struct boot_set *set);
/** Host memory that set owns, in bytes. */
uint64_t boot_set_bytes(const struct boot_set *set);
/** Hash some more of the files that came.  False: there is more to do.  *damaged: one is not what the offer said. */
bool boot_set_check_step(struct boot_set *set, bool *damaged);
/** Free what set owns and empty it. */
void boot_set_drop(struct boot_set *set);

#endif
