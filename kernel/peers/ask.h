/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/ask.h - one question to all peers at once: have you this guest, or: would you
 * take it?  Service pCPU only.
 *
 * The peers are asked side by side, each over one stream that serves all questions of that moment and is closed soon
 * after.  An unreachable peer costs the time of a connection attempt (5 s), and only its own answer. */
#ifndef GODWIT_KERNEL_PEERS_ASK_H
#define GODWIT_KERNEL_PEERS_ASK_H

#include "kernel/core/vm.h"
#include "migrate/guest.h"

#define ASK_TEXT_LEN 1024

enum ask_kind { ASK_FIND, ASK_PROBE };
enum ask_state { ASK_WAITING, ASK_ANSWERED, ASK_FAILED };
struct ask_reply {
    /* set it to ASK_WAITING: that peer is asked (again); the last answer's other fields stay meanwhile */
    enum ask_state state;
    enum hv_err err;    /* ASK_FAILED */
    enum mig_find find; /* ASK_FIND, answered */
    struct mig_id ticket;
    uint64_t free_bytes; /* ASK_PROBE, answered */
    unsigned n_reasons;  /* ...: 0 = yes */
    uint64_t at_us;      /* when the question was put that is answered now; when it failed */
    unsigned round; /* counted up by the asker: an answer to a question put before that is void, and it is put again */
    char text[ASK_TEXT_LEN]; /* what the peer adds, or why it failed */
};
struct ask {
    enum ask_kind kind;
    const struct vm *vm;                      /* borrowed until ask_end(); ASK_PROBE: must not be STOPPED */
    struct mig_id ticket;                     /* ASK_FIND: ours */
    unsigned n;                               /* number of peers */
    struct ask_reply reply[CONFIG_MAX_PEERS]; /* [i]: of the i-th [peer] */
    struct ask *next;                         /* ask.c's */
};

/** Ask every peer; the replies change from ask_step() on.  NULL: no memory. */
struct ask *ask_begin(enum ask_kind kind, const struct vm *vm, const struct mig_id *ticket);
/** Stop asking and free it.  NULL is allowed. */
void ask_end(struct ask *a);
/** No reply is awaited any more. */
bool ask_done(const struct ask *a);
/** One turn for all questions.  True: something moved. */
bool ask_step(void);

#endif
