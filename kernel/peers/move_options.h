/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/move_options.h - the options of one move: words on the console, JSON in the management API.  Portable.
 *
 *   word                 JSON field          when not given     what it does
 *   --plain | --lz4      lz4                 [host] lz4         send pages uncompressed, or compressed where it pays
 *   --live | --quick     kind: live, quick   live               move while the guest runs, or stop it before page 1
 *          | --cold      kind: cold          by its state       ask for the move of a stopped guest; a kind that does
 *                                                               not fit the guest is refused (kernel/peers/kind.h)
 *   --paused             live: true, false                      like --live and --quick, but never refused
 *   --policy P           policy              throttle           live, when the rounds do not converge: mig_if_stuck
 *   --network A.B.C.D/N  network             [host] networks    only addresses of the peer in this network are used
 *   --limit MB           bandwidth_limit_mb  0: no limit        10^6 bytes per second at most, beside the host's limit
 *   --downtime MS        downtime_limit_ms   [host]             the longest blackout to plan with, 1 to 60000
 *                                            downtime-limit-ms
 *   --with-disks         with_disks          no                 volumes of this host move along with the guest
 *   --disk D=S/V         places              the same names     that one does, to volume V of store S there; more than
 *                                                               one, in JSON with a comma between them
 *   --with-base          with_base           no                 of a clone whose base the peer does not have, the
 *                                                               base's data go too; it is no clone there
 *   --keep               keep                no                 such volumes are not deleted here afterwards
 *   --verify             verify              [host] verify      hash all memory at the stop and compare before the
 *                                                               handoff */
#ifndef GODWIT_KERNEL_PEERS_MOVE_OPTIONS_H
#define GODWIT_KERNEL_PEERS_MOVE_OPTIONS_H

#include "kernel/config/config.h"
#include "kernel/lib/json.h"
#include "kernel/lib/why.h"
#include "migrate/policy.h"

#define MOVE_OPTIONS_USAGE                                                                                \
    "[--plain | --lz4] [--live | --quick | --cold] [--policy throttle|wait|stop] [--network A.B.C.D/N] "  \
    "[--limit MB/S] [--downtime MS] [--verify] [--with-disks [--disk vdX=STORE/VOLUME]... [--with-base] " \
    "[--keep]]"
#define MOVE_OPTIONS_WORDS 22 /* at most */
#define MOVE_LIMITS_USAGE  "[--limit MB/S] [--downtime MS]"
#define MOVE_LIMITS_WORDS  4

struct move_options {
    bool lz4, verify, live, with_disks, with_base, keep;
    enum { MOVE_ASKED_NOTHING, MOVE_ASKED_LIVE, MOVE_ASKED_QUICK, MOVE_ASKED_COLD } asked; /* a kind */
    enum mig_if_stuck if_stuck;
    unsigned downtime_limit_ms;
    unsigned bandwidth_limit_mb;
    struct config_network network;  /* 0.0.0.0/0: any */
    char places[CONFIG_PLACES_LEN]; /* of volumes, at the destination: config_place_next(); with_disks is set then */
};

void move_options_default(const struct config *c, struct move_options *o);
/** Overwrite those options of *o that the fields of in, or the words of a command, set.  Fields of other names are
 *  ignored, other words are an error.  HV_E_INVAL: why says which one is wrong and what is expected. */
HV_MUST_CHECK enum hv_err move_options_json(const struct json_in *in, struct move_options *o, struct why *why);
HV_MUST_CHECK enum hv_err move_options_words(int argc, char **argv, struct move_options *o, struct why *why);
/** The same for the two limits, which may change while a move runs.  Neither: HV_E_INVAL as well. */
HV_MUST_CHECK enum hv_err move_limits_json(const struct json_in *in, struct move_options *o, struct why *why);
HV_MUST_CHECK enum hv_err move_limits_words(int argc, char **argv, struct move_options *o, struct why *why);

#endif
