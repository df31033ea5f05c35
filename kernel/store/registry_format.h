/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/registry_format.h - the registry's bytes: a header sector, and a ustar archive of named texts.
 * Portable; any context.
 *
 * Header, 512 bytes, numbers little-endian:
 *    off len field
 *      0  16 magic       "GODWIT-REGISTRY" and NUL
 *     16   4 version     REGISTRY_VERSION; these two fields stay where they are in every version
 *     20   4 reserved    0
 *     24   8 generation  one more with each write; the highest is the newest
 *     32   8 length      of the archive, in bytes
 *     40  32 SHA-256 of the archive
 *     72  32 SHA-256 of bytes 0 to 71
 *    104 408 reserved    0
 * The archive is POSIX ustar ("ustar Interchange Format" in pax of POSIX.1): each text a regular file, mode 0644, owner
 * and times 0, sorted by name, and two blocks of zeros at the end.  A reader takes exactly what the writer writes.
 */
#ifndef GODWIT_KERNEL_STORE_REGISTRY_FORMAT_H
#define GODWIT_KERNEL_STORE_REGISTRY_FORMAT_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"
#include "kernel/lib/why.h"

#define REGISTRY_VERSION     1u
#define REGISTRY_NAME_LEN    100u /* with NUL, as in ustar */
#define REGISTRY_ENTRIES_MAX 2048u
#define REGISTRY_SECTOR      512u
#define REGISTRY_ARCHIVE_MAX (4 * MIB - 4096)

struct registry_entry {
    char name[REGISTRY_NAME_LEN];
    char *text; /* owned; a NUL follows */
    size_t len;
};
/* All texts, sorted by name.  All zero: empty. */
struct registry_table {
    unsigned n;
    size_t bytes; /* of the archive, without its end */
    struct registry_entry entry[REGISTRY_ENTRIES_MAX];
};
/* One half of the volume, as its header describes it. */
struct registry_header {
    uint64_t generation, len;
    uint8_t sha256[32];
};

/** A name: printable ASCII without blanks, 1 to 99 characters, elements divided by '/', none of them empty, "." or
 *  "..". */
bool registry_name_ok(const char *name);
/** NULL: no such entry. */
const struct registry_entry *registry_table_get(const struct registry_table *t, const char *name);
/** The first entry behind `after` whose name begins with prefix; after "": the first of all.  NULL: no more. */
const struct registry_entry *registry_table_next(const struct registry_table *t, const char *prefix, const char *after);
/** Store a copy of len bytes of text.  HV_E_NOMEM: no memory, or the archive would be too large; nothing is changed.
 *  name must be registry_name_ok(). */
HV_MUST_CHECK enum hv_err registry_table_put(struct registry_table *t, const char *name, const char *text, size_t len);
/** Is there room for n entries more, of len bytes in all? */
bool registry_table_room(const struct registry_table *t, unsigned n, size_t len);
void registry_table_remove(struct registry_table *t, const char *name); /* no-op if there is none */
void registry_table_clear(struct registry_table *t);

/** Write the archive of t to out, of REGISTRY_ARCHIVE_MAX bytes; its length. */
size_t registry_archive_write(const struct registry_table *t, uint8_t *out);
/** Fill t, which is empty, from an archive.  HV_E_INVAL: it is none that registry_archive_write() makes.  HV_E_NOMEM.
 *  After an error t is empty. */
HV_MUST_CHECK enum hv_err registry_archive_read(struct registry_table *t, const uint8_t *archive, size_t len,
                                                struct why *why);
/** Describe the archive for the header. */
void registry_header_write(const struct registry_header *h, uint8_t out[REGISTRY_SECTOR]);
/** HV_E_NOENT: blank, all zero.  HV_E_VERSION: of a version that is not known here.  HV_E_INVAL: neither of these nor a
 *  header. */
HV_MUST_CHECK enum hv_err registry_header_read(const uint8_t sector[REGISTRY_SECTOR], struct registry_header *h);
void registry_sha256(const void *p, size_t len, uint8_t out[32]);

#endif
