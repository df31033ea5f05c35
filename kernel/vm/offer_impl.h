/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/offer_impl.h - what the files about offers share: vm_offer.c, offer_disks.c, offer_check.c. */
#ifndef GODWIT_KERNEL_VM_OFFER_IMPL_H
#define GODWIT_KERNEL_VM_OFFER_IMPL_H

#include "kernel/lib/bytes.h"
#include "kernel/vm/vm_state.h"

void offer_text_write(struct wr *w, const char *s);
/* Read a text shorter than cap.  Only printable ASCII passes, because the text goes to logs and consoles. */
bool offer_text_read(struct rd *r, char *out, size_t cap);
bool offer_name_ok(const char *s);
bool offer_volume_name_ok(const char *s); /* as LVM2 allows */
/* Does this host read that section of a state, or may it skip it? */
bool offer_section_readable(uint16_t id, unsigned version);

/* A disk on a server.  n->tls says whether a fingerprint is there. */
void offer_nbd_write(struct wr *w, const struct vm *vm, unsigned disk);
bool offer_nbd_parse(struct rd *r, struct nbd_config *n, struct disk_info *info);
bool offer_ram_disk_ok(uint64_t bytes);
bool offer_disks_known(const struct vm_offer *o); /* only a stopped guest may not know its disks */
/* Is each of a disk of the guest that is a volume, and no disk or memory twice in a checkpoint? */
bool offer_checkpoints_fit(const struct vm_offer *o);

/* The functions of a field of OFFER_FIELDS. */
#define OFFER_FIELD_FUNCTIONS(fn)                               \
    unsigned offer_##fn##_needs(const struct vm *vm);           \
    void offer_##fn##_write(const struct vm *vm, struct wr *w); \
    bool offer_##fn##_read(struct vm_offer *o, struct rd *r)
OFFER_FIELD_FUNCTIONS(disks);
OFFER_FIELD_FUNCTIONS(along);
OFFER_FIELD_FUNCTIONS(places);
OFFER_FIELD_FUNCTIONS(bases);
OFFER_FIELD_FUNCTIONS(with_base);
OFFER_FIELD_FUNCTIONS(checkpoints);
OFFER_FIELD_FUNCTIONS(saved);

#endif
