/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_label.h - what LVM2 has on a disk beside data: the label, and the header of a metadata area.
 *
 * On disk: one of the first four sectors has a label with a checksum and the PV's header: UUID, size, where data and
 * where metadata lie.  A metadata area begins with a header sector: checksum, and offset, length and checksum of the
 * text in the ring behind it.  Portable; any context. */
#ifndef GODWIT_KERNEL_STORE_LVM_LABEL_H
#define GODWIT_KERNEL_STORE_LVM_LABEL_H

#include "kernel/store/lvm_text.h"

#define LVM_SECTOR    512u /* bytes: the unit of the label and of a header, whatever the disk's sectors are */
#define LVM_LABEL_AT  LVM_SECTOR
#define LVM_CRC_START 0xf597a6cfu

/* Where the text is: offset is from the begin of its area.  len 0: there is none */
struct lvm_locn {
    uint64_t offset, len;
    uint32_t crc, flags;
};
struct lvm_label {
    char uuid[LVM_UUID_LEN];
    uint64_t bytes, data_at;    /* of the disk; first byte of extent 0 */
    unsigned n_areas;           /* metadata areas */
    uint64_t area_at, area_len; /* of the first one */
};

/** The checksum of labels, headers and text: CRC-32, not inverted, going on from crc. */
uint32_t lvm_crc(const void *data, size_t len, uint32_t crc);
/** first: the first 4 sectors of a disk.  False: none of them is a label that is whole. */
bool lvm_label_parse(const uint8_t first[4 * LVM_SECTOR], struct lvm_label *out);
/** The sector for LVM_LABEL_AT, of a PV with one metadata area that belongs to a group. */
void lvm_label_build(uint8_t sector[LVM_SECTOR], const struct lvm_label *l);
/** The first sector of a metadata area.  False: it is no such header, or one of another place. */
bool lvm_header_parse(const uint8_t sector[LVM_SECTOR], uint64_t area_at, uint64_t area_len, struct lvm_locn *out);
void lvm_header_build(uint8_t sector[LVM_SECTOR], uint64_t area_at, uint64_t area_len, const struct lvm_locn *l);

#endif
