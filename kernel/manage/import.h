/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/import.h - images that are being written into volumes of this host.
 *
 * An import is of one image, known by its length and SHA-256, into one volume.  The volume's tags say that it is
 * unfinished, of which image, and how many bytes are on the disk (godwit.import, godwit.import-bytes,
 * godwit.import-sha256).  So it goes on where it was, after a lost connection and after a power cut.  No guest gets the
 * volume before the import has ended.
 *
 * At the end the SHA-256 of what was written is compared.  It was computed as the bytes came; after an interruption
 * that left nothing in memory, the volume is read once.  Service pCPU only. */
#ifndef GODWIT_KERNEL_MANAGE_IMPORT_H
#define GODWIT_KERNEL_MANAGE_IMPORT_H

#include "kernel/lib/err.h"
#include "kernel/lib/why.h"
#include "kernel/manage/jobs.h"
#include "net/sha256.h"

#define IMPORT_LENGTH_UNKNOWN UINT64_MAX

struct import;

/** Begin to import an image of so many bytes, or go on: import_at() says where.  sha256: 64 hexadecimal digits; "": not
 *  known, then it begins anew.  HV_E_RANGE: the image is larger than the volume.  HV_E_BUSY: another client is sending,
 *  or four others are open.  HV_E_INVAL: the volume is read-only.  Errors as of lv_disk_open(). */
HV_MUST_CHECK enum hv_err import_begin(const char *vg, const char *lv, uint64_t bytes, const char *sha256,
                                       struct import **out, struct why *why);
/** The open import into that volume; NULL: none. */
struct import *import_find(const char *vg, const char *lv);
/** May bytes be sent to it now?  HV_E_BUSY: another client does.  Else the error with which it ended. */
HV_MUST_CHECK enum hv_err import_ready(const struct import *i, struct why *why);
bool import_failed(const struct import *i);    /* import_ready() or import_result() tells why */
uint64_t import_at(const struct import *i);    /* the next byte that it takes */
uint64_t import_bytes(const struct import *i); /* of the image */

/** A client sends, until import_leave().  Then import_room() bytes may be put; p NULL: so many zeroes, at any time. */
void import_enter(struct import *i);
void import_leave(struct import *i);
size_t import_room(const struct import *i);
void import_put(struct import *i, const void *p, uint64_t n);
/** Are all zeroes written that were put? */
bool import_settled(const struct import *i);

/** All bytes are there: flush, compare, end.  base: make it a base volume.  job: ends with it; or NULL. */
void import_finish(struct import *i, bool base, struct api_job *job);
/** Has it ended?  HV_E_AGAIN: not yet.  HV_OK: the image is in the volume, and i is gone; sha256: its hash. */
HV_MUST_CHECK enum hv_err import_result(struct import *i, char sha256[SHA256_TEXT_LEN], struct why *why);
/** Part of the service loop.  True: something moved. */
bool import_step(void);

#endif
