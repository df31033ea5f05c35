/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/boot_files.h - the files that guests start from: kernel, initrd, modules.  Service pCPU only.
 *
 * A guest that is started here gets the files that its [vm] section names: of this host's boot disk, or else of its
 * store (boot_store.h).  For a guest that arrives names mean nothing: its offer has the SHA-256 of each file.  Those
 * that this host has as well, under any name, are used; the others come with the guest, as pages behind its memory
 * (boot_travel.c). */
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
    const uint8_t *data;        /* borrowed: of the boot disk, or inside a window */
    uint64_t len, n_hashed;     /* bytes */
    bool hashed;                /* sha256 is that of data */
    uint8_t sha256[SHA256_LEN]; /* names the file everywhere */
    struct sha256 hashing;      /* of n_hashed bytes */
};

/* Where files are that are not on the boot disk: the store (boot_store.c). */
struct boot_source {
    /** Get the file of that name, or with that content, in memory; *out is valid until boot_blob_put().  HV_E_NOENT:
     *  there is none.  HV_E_AGAIN: it is being read, call again.  Other errors: it cannot be had, and *why says why. */
    enum hv_err (*named)(const char *name, struct boot_blob **out, struct why *why);
    enum hv_err (*with)(uint64_t len, const uint8_t sha256[SHA256_LEN], struct boot_blob **out, struct why *why);
    /** One that is in memory already; NULL: none. */
    struct boot_blob *(*loaded)(uint64_t len, const uint8_t sha256[SHA256_LEN]);
    /** One user more, or less; nothing for a blob of others. */
    void (*use)(struct boot_blob *b);
    void (*put)(struct boot_blob *b);
    /** Is there one of that name? */
    bool (*has)(const char *name);
    /** Write b into the store, which may take a while; forget: b goes away, written or not. */
    void (*keep)(const struct boot_blob *b);
    void (*forget)(const struct boot_blob *b);
};
/** s: for ever; once, before guests are started.  Without a call there are only the files of the boot disk. */
void boot_files_source(const struct boot_source *s);
void boot_blob_use(struct boot_blob *b);
void boot_blob_put(struct boot_blob *b);
void boot_blob_keep(const struct boot_blob *b);
void boot_blob_forget(const struct boot_blob *b);
/** Take over the files of bi; the host's own (config_file_is_hosts()) are left out.  bi: borrowed for ever. */
void boot_files_init(const struct boot_info *bi);

/** The i-th file of the boot disk; NULL: there are fewer.  Names are compared as FAT does, without case. */
const char *boot_disk_file(unsigned i, uint64_t *len);
bool boot_disk_has(const char *name);
/** Does c name that file: kernel, initrd, a module, what a ram: disk starts from? */
bool boot_files_name(const struct vm_config *c, const char *name);
/** Let go of the files of set, which owns none. */
void boot_set_leave(struct boot_set *set);
/** The files that c names: kernel, initrd, modules.  Those that *out has are let go first.  HV_E_NOENT: one is missing,
 *  or is the host's own; why names it.  HV_E_AGAIN: one is being read from the store.  Other errors: it cannot be. */
HV_MUST_CHECK enum hv_err boot_set_find(const struct vm_config *c, struct boot_set *out, struct why *why);
/** The same for the file that disk i starts from; *out: NULL without. */
HV_MUST_CHECK enum hv_err boot_disk_find(const struct vm_config *c, unsigned i, struct boot_blob **out,
                                         struct why *why);
/** Log which files of c are on the boot disk and in the store: the first goes before. */
void boot_files_say(const struct vm_config *c);
/** Fill *out from set, which has the files that c names; c's texts are borrowed. */
void boot_set_image(const struct boot_set *set, const struct vm_config *c, struct boot_image *out);

/** Hash some more of b, or of the files of set: the work of one turn.  True: all is hashed, as an offer needs it. */
bool boot_blob_hash_step(struct boot_blob *b);
bool boot_set_hash_step(const struct boot_set *set);
/** Hash some more of this host's files that could be the offer's: those of equal lengths; read those that are in its
 *  store.  True: all of that is done. */
bool boot_offer_hash_step(const struct vm_offer *o);
/** Get the file with these bytes, of the boot disk or of the store, in memory; *out is valid until boot_blob_put().
 *  HV_E_AGAIN: call again in a later turn.  HV_E_NOENT: this host has none.  Other errors: it cannot be read. */
HV_MUST_CHECK enum hv_err boot_blob_get(uint64_t len, const uint8_t sha256[SHA256_LEN], struct boot_blob **out,
                                        struct why *why);
/** The file of this host, in memory, with these bytes; NULL: none, or not hashed yet. */
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
/** The SHA-256 of file i, as this host or the offer says; boot_set_hash_step() is done. */
const uint8_t *boot_set_sha256(const struct boot_set *set, unsigned i);

/* A file by its bytes. */
struct boot_want {
    uint64_t len;
    uint8_t sha256[SHA256_LEN];
};
/** Make set, empty at first, the n files of want, once they are found here.  HV_E_NOMEM; HV_E_INVAL: n. */
HV_MUST_CHECK enum hv_err boot_set_recall(struct boot_set *set, const struct boot_want *want, unsigned n);
/** Look for them, some of the work.  HV_OK: set has its files, or nothing was to be found.  HV_E_AGAIN: call again.
 *  HV_E_NOENT: one is not here, why names it; a later call looks again. */
HV_MUST_CHECK enum hv_err boot_set_recall_step(struct boot_set *set, struct why *why);
/** Hash some more of the files that came.  False: there is more to do.  *damaged: one is not what the offer said. */
bool boot_set_check_step(struct boot_set *set, bool *damaged);
/** Keep the files that came in this host's store as well, if it has one, so that the guest can be started after a
 *  reboot.  After boot_set_check_step(). */
void boot_set_keep(struct boot_set *set);
/** Free what set owns, let go of the rest, and empty it. */
void boot_set_drop(struct boot_set *set);

#endif
