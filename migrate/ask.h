/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/ask.h - the asking machine: questions to another host's rx machine; nothing moves.
 *
 * Pumped as the machines of mig.h are.  One question at a time; one stream carries any number.  Closing it ends it. */
#ifndef GODWIT_MIGRATE_ASK_H
#define GODWIT_MIGRATE_ASK_H

#include "migrate/mig.h"

#define MIG_ASK_US (10 * 1000000ul) /* an answer takes at most so long */

struct mig_answer {
    enum mig_find find;      /* FIND */
    struct mig_id ticket;    /* FIND, MIG_F_WANTED: the peer's */
    uint64_t free_bytes;     /* PROBE */
    unsigned n_reasons;      /* PROBE; 0: it would take the guest */
    char text[MIG_TEXT_MAX]; /* printable ASCII and newlines */
};

struct mig_ask;
/** Errors: HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err mig_ask_create(const struct mig_mem *mem, uint64_t now_us, struct mig_ask **out);
void mig_ask_destroy(struct mig_ask *m); /* NULL is allowed */
struct mig_io *mig_ask_io(struct mig_ask *m);
/** The peer's KNOWS; *len 0: it talks version 1.  NULL: not known yet. */
const void *mig_ask_knows(const struct mig_ask *m, size_t *len);
/** Where is the guest of that name?  ticket: decides which of two hosts that both want to start it goes first.
 *  HV_E_BUSY: the last question is not answered yet; HV_E_INVAL: not a guest's name. */
HV_MUST_CHECK enum hv_err mig_ask_find(struct mig_ask *m, const char *name, const struct mig_id *ticket,
                                       uint64_t now_us);
/** Tell its card's address before mig_ask_find(), for MIG_F_MAC.  HV_E_BUSY. */
HV_MUST_CHECK enum hv_err mig_ask_mac(struct mig_ask *m, const uint8_t mac[6]);
/** Would the peer take this guest?  offer: as mig_src_ops.describe() writes it.  Errors as above. */
HV_MUST_CHECK enum hv_err mig_ask_probe(struct mig_ask *m, const char *name, uint64_t n_pages, const void *offer,
                                        size_t len, uint64_t now_us);
/** HV_OK: *out is the answer.  HV_E_AGAIN: none yet.  HV_E_BUSY: the peer has no
 *  place for questions now, ask later on a new stream.  Else the stream is broken.  Both with out->text. */
HV_MUST_CHECK enum hv_err mig_ask_step(struct mig_ask *m, uint64_t now_us, struct mig_answer *out);

#endif
