/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/ask.h - a question to all peers at once: where is this guest, or would you take it?  Service pCPU only.
 *
 * Peers are asked in parallel, each over one stream.  An unreachable one takes 5 s and delays no other answer. */
#ifndef GODWIT_KERNEL_PEERS_ASK_H
#define GODWIT_KERNEL_PEERS_ASK_H

#include "kernel/core/vm.h"
#include "migrate/guest.h"

#define ASK_TEXT_LEN 1024

enum ask_kind { ASK_FIND, ASK_PROBE, ASK_HELLO }; /* HELLO: are you there?  A FIND for this host's own name */
enum ask_state { ASK_WAITING, ASK_ANSWERED, ASK_FAILED };
struct ask_reply {
    enum ask_state state; /* setting ASK_WAITING asks again; the last answer's other fields stay meanwhile */
    enum hv_err err;      /* ASK_FAILED */
    enum mig_find find;   /* ASK_FIND */
    struct mig_id ticket;
    uint64_t free_bytes;     /* ASK_PROBE */
    unsigned n_reasons;      /* ASK_PROBE; 0: it would take the guest */
    uint64_t at_us;          /* when the answered question was put; when it failed */
    unsigned round;          /* incremented by the owner: answers to questions put before are void */
    char text[ASK_TEXT_LEN]; /* the peer's words, or why it failed */
};
struct ask {
    enum ask_kind kind;
    const struct vm *vm;            /* borrowed until ask_end(); ASK_HELLO: NULL */
    struct mig_id ticket;           /* ASK_FIND: this host's */
    char places[CONFIG_PLACES_LEN]; /* ASK_PROBE: of volumes, or "" */
    bool with_base;
    unsigned n;
    struct ask_reply reply[CONFIG_MAX_PEERS]; /* [i]: of the i-th [peer] */
    struct ask *next;
};

/** Ask every peer; ask_step() fills the replies.  ticket: for ASK_FIND, else NULL.  NULL: no memory. */
struct ask *ask_begin(enum ask_kind kind, const struct vm *vm, const struct mig_id *ticket);
/** Stop asking and free a.  NULL is allowed. */
void ask_end(struct ask *a);
bool ask_done(const struct ask *a); /* no reply is awaited any more */
/** One turn for all questions.  True: there was progress. */
bool ask_step(void);

#endif
