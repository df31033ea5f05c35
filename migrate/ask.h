/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/ask.h - one who asks: questions to another host's rx machine, without moving anything.
 *
 * Pumped as the machines of mig.h are: bytes into io.in, step, bytes out of io.out.  One question at a time; the answer
 * comes from mig_ask_step().  Both questions may be asked again and again over one stream; closing it is the end. */
#ifndef GODWIT_MIGRATE_ASK_H
#define GODWIT_MIGRATE_ASK_H

#include "migrate/mig.h"

#define MIG_ASK_US (10 * 1000000ul) /* without an answer for so long, the peer is no help */

struct mig_answer {
    enum mig_find find;      /* answer to FIND */
    struct mig_id ticket;    /* MIG_F_WANTED: theirs */
    uint64_t free_bytes;     /* answer to PROBE */
    unsigned n_reasons;      /* ...: 0 = it would take the guest */
    char text[MIG_TEXT_MAX]; /* printable ASCII and newlines */
};

struct mig_ask;
/** HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err mig_ask_create(const struct mig_mem *mem, uint64_t now_us, struct mig_ask **out);
void mig_ask_destroy(struct mig_ask *m); /* NULL is allowed */
struct mig_io *mig_ask_io(struct mig_ask *m);
/** Do you have a guest of that name?  ticket: who of two hosts that both want to start it goes first.  HV_E_BUSY: the
 *  last question is not answered yet; HV_E_INVAL: not a guest's name. */
HV_MUST_CHECK enum hv_err mig_ask_find(struct mig_ask *m, const char *name, const struct mig_id *ticket,
                                       uint64_t now_us);
/** Would you take this guest?  offer: as mig_src_ops.describe() writes it.  Errors as above. */
HV_MUST_CHECK enum hv_err mig_ask_probe(struct mig_ask *m, const char *name, uint64_t n_pages, const void *offer,
                                        size_t len, uint64_t now_us);
/** HV_OK: *out is the answer to the last question.  HV_E_AGAIN: not yet, or nothing was asked.  Anything else: this
 *  stream is no good any more, out->text says why. */
HV_MUST_CHECK enum hv_err mig_ask_step(struct mig_ask *m, uint64_t now_us, struct mig_answer *out);

#endif
