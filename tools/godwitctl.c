/* SPDX-License-Identifier: BSD-2-Clause
 * tool-sources: tools/ctl/config.c tools/ctl/identity.c tools/ctl/client.c tools/ctl/host.c tools/ctl/vm.c tools/ctl/console.c tools/ctl/migration.c
 *   tools/ctl/validate.c tools/ctl/svg.c
 * tool-libs: -lcurl -ljansson -lssl -lcrypto */
/* tools/godwitctl.c - control Godwit hosts from Linux: the command line.  docs/api.md describes what it talks to. */
#include "tools/ctl/ctl.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options options;

static const struct command {
    const char *words[2];               /* [1] NULL: a one-word command */
    int min_args, max_args;
    const char *args, *help;
    enum exit_code (*run)(int argc, char **argv);
} commands[] = {
    { { "key", NULL }, 0, 0, "", "make this client's key and certificate, and show its fingerprint", cmd_key },
    { { "host", "add" }, 2, 2, "NAME ADDRESS[:PORT]", "pair with a host: shows both fingerprints", cmd_host_add },
    { { "host", "list" }, 0, 0, "", "all hosts of the configuration", cmd_host_list },
    { { "host", "show" }, 0, 1, "[HOST]", "processor, memory, network, peers", cmd_host_show },
    { { "host", "log" }, 0, 1, "[HOST]", "the last 64 KiB of its log", cmd_host_log },
    { { "host", "evacuate" }, 0, 1, "[HOST]", "move all its guests away, each to the best peer, and watch (--detach: do not watch; --status: how far it is; --cancel)", cmd_host_evacuate },
    { { "vm", "list" }, 0, 0, "", "all guests on all hosts", cmd_vm_list },
    { { "vm", "show" }, 1, 1, "NAME", "one guest", cmd_vm_show },
    { { "vm", "start" }, 1, 1, "NAME", "start a stopped guest, if no peer has it (--force: without asking them)", cmd_vm_start },
    { { "vm", "stop" }, 1, 1, "NAME", "power a guest off at once", cmd_vm_stop },
    { { "vm", "pause" }, 1, 1, "NAME", "let a running guest stand still", cmd_vm_pause },
    { { "vm", "resume" }, 1, 1, "NAME", "let a paused guest go on", cmd_vm_resume },
    { { "vm", "inspect" }, 1, 1, "NAME", "memory, exits by reason, registers", cmd_vm_inspect },
    { { "vm", "console" }, 1, 1, "NAME", "its serial console; Ctrl-] leaves (--print: what is kept; --send LINE: type a line)", cmd_vm_console },
    { { "vm", "migrate" }, 1, 1, "NAME --to HOST|auto", "move a running guest and watch (--detach: do not watch)", cmd_vm_migrate },
    { { "migration", "list" }, 0, 0, "", "moves, newest first", cmd_migration_list },
    { { "migration", "show" }, 1, 1, "MOVE [--svg FILE]", "all figures of a move; as a picture", cmd_migration_show },
    { { "migration", "watch" }, 1, 1, "MOVE", "follow a move to its end", cmd_migration_watch },
    { { "migration", "cancel" }, 1, 1, "MOVE", "stop a move; the guest runs on where it is", cmd_migration_cancel },
    { { "migration", "resolve" }, 1, 1, "MOVE --resume-here|--discard [--yes]", "decide where a guest in doubt lives, when its destination is gone for good",
      cmd_migration_resolve },
    { { "validate", NULL }, 0, 1, "[NAME] [--to HOST]", "what would move where, and every reason why not; without NAME: all that run", cmd_validate },
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void help(FILE *f)
{
    fprintf(f, "usage: godwitctl [OPTION]... COMMAND\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        char left[80];
        const struct command *c = &commands[i];
        snprintf(left, sizeof(left), "%s%s%s %s", c->words[0], c->words[1] ? " " : "", c->words[1] ? c->words[1] : "", c->args);
        fprintf(f, "  %-40s %s%s\n", left, strlen(left) > 40 ? "\n                                           " : "", c->help);
    }
    fputs("\n  MOVE is HOST/NUMBER, NUMBER with --host, or a guest's name for its newest move.\n\n"
          "options:\n"
          "  -H, --host HOST      only this host (default: all; a guest is looked for on all)\n"
          "  -j, --json           answers as JSON on standard output\n"
          "  -q, --quiet          no progress bar\n"
          "  -c, --config FILE    default $GODWITCTL_CONFIG or ~/.config/godwit/godwitctl.conf\n"
          "  -y, --yes            do not ask\n"
          "      --fingerprint HEX   host add: what the host must show; then nothing is asked\n"
          "  -h, --help\n"
          "\noptions of vm migrate, for this one move:\n"
          "      --live           the guest runs while its memory is sent, and stands still for milliseconds (as without this option)\n"
          "      --paused         it stands still from the first page to the last: each page is sent once; the blackout is the whole move\n"
          "      --policy P       live, when the guest writes faster than the network sends.  throttle: slow it down step by step, give up if that\n"
          "                       does not help (default); wait: go on until it writes less, 30 minutes at most; stop: move it all the same after\n"
          "                       14 rounds, however long it then stands still\n"
          "      --network A.B.C.D/N   only by addresses of the destination in this network (default: all in [host] networks, best first)\n"
          "      --plain | --lz4  send pages as they are, or compressed where that pays (default: [host] lz4)\n"
          "      --limit MB       at most so many MB (10^6 bytes) per second (default: only the host's bandwidth-limit-mb)\n"
          "      --downtime MS    the longest blackout to plan with (default: [host] downtime-limit-ms)\n"
          "      --verify         compare hashes of all memory before the handoff\n"
          "      --to HOST|auto, --detach\n\n"
          "exit codes: 0 good, 1 the host refused (the message says why), 2 usage, 3 configuration or key, 4 no answer, 5 not trusted,\n"
          "  6 the move failed and the guest runs on where it was, 7 the move is in doubt\n\n"
          "examples:\n"
          "  godwitctl key                                   # put what it prints into godwit.conf of each host\n"
          "  godwitctl host add alpha 192.168.1.11           # pair; then the same for beta\n"
          "  godwitctl vm list\n"
          "  godwitctl vm migrate web --to beta\n"
          "  godwitctl vm migrate web --to auto --detach\n"
          "  godwitctl vm migrate db --to beta --policy stop --limit 100\n"
          "  godwitctl migration show web --svg move.svg\n"
          "  godwitctl --json vm list | jq '.vms[] | select(.state == \"running\").name'\n", f);
}

enum { OPT_FORCE = 300, OPT_PLAIN, OPT_LZ4, OPT_VERIFY, OPT_LIMIT, OPT_DOWNTIME, OPT_LIVE, OPT_PAUSED, OPT_POLICY, OPT_NETWORK, OPT_STATUS, OPT_CANCEL };
enum { OPT_TO = 256, OPT_DETACH, OPT_SVG, OPT_FINGERPRINT, OPT_HERE, OPT_DISCARD, OPT_PRINT, OPT_SEND };
static const struct option long_options[] = {
    { "host", required_argument, NULL, 'H' }, { "json", no_argument, NULL, 'j' }, { "quiet", no_argument, NULL, 'q' },
    { "config", required_argument, NULL, 'c' }, { "yes", no_argument, NULL, 'y' }, { "help", no_argument, NULL, 'h' },
    { "to", required_argument, NULL, OPT_TO }, { "detach", no_argument, NULL, OPT_DETACH }, { "svg", required_argument, NULL, OPT_SVG },
    { "fingerprint", required_argument, NULL, OPT_FINGERPRINT }, { "resume-here", no_argument, NULL, OPT_HERE },
    { "discard", no_argument, NULL, OPT_DISCARD }, { "print", no_argument, NULL, OPT_PRINT }, { "send", required_argument, NULL, OPT_SEND },
    { "force", no_argument, NULL, OPT_FORCE }, { "plain", no_argument, NULL, OPT_PLAIN }, { "lz4", no_argument, NULL, OPT_LZ4 },
    { "verify", no_argument, NULL, OPT_VERIFY }, { "limit", required_argument, NULL, OPT_LIMIT }, { "downtime", required_argument, NULL, OPT_DOWNTIME },
    { "live", no_argument, NULL, OPT_LIVE }, { "paused", no_argument, NULL, OPT_PAUSED }, { "policy", required_argument, NULL, OPT_POLICY },
    { "network", required_argument, NULL, OPT_NETWORK }, { "status", no_argument, NULL, OPT_STATUS }, { "cancel", no_argument, NULL, OPT_CANCEL },
    { NULL, 0, NULL, 0 },
};

/* Options may stand anywhere.  False: an unknown one. */
static bool read_options(int argc, char **argv, const char **config, bool *want_help)
{
    for (int c; (c = getopt_long(argc, argv, "H:jqc:yh", long_options, NULL)) != -1; ) {
        switch (c) {
        case 'H': options.host = optarg; break;
        case 'j': options.json = true; break;
        case 'q': options.quiet = true; break;
        case 'c': *config = optarg; break;
        case 'y': options.yes = true; break;
        case 'h': *want_help = true; break;
        case OPT_TO: options.to = optarg; break;
        case OPT_DETACH: options.detach = true; break;
        case OPT_SVG: options.svg = optarg; break;
        case OPT_FINGERPRINT: options.fingerprint = optarg; break;
        case OPT_HERE: options.force_here = true; break;
        case OPT_DISCARD: options.force_there = true; break;
        case OPT_PRINT: options.print_only = true; break;
        case OPT_SEND: options.send = optarg; break;
        case OPT_FORCE: options.force = true; break;
        case OPT_PLAIN: options.plain = true; break;
        case OPT_LZ4: options.lz4 = true; break;
        case OPT_VERIFY: options.verify = true; break;
        case OPT_LIMIT: options.limit = optarg; break;
        case OPT_DOWNTIME: options.downtime = optarg; break;
        case OPT_STATUS: options.status = true; break;
        case OPT_CANCEL: options.cancel = true; break;
        case OPT_LIVE: options.live = true; break;
        case OPT_PAUSED: options.paused = true; break;
        case OPT_POLICY: options.policy = optarg; break;
        case OPT_NETWORK: options.network = optarg; break;
        default: return false;
        }
    }
    return true;
}

static const struct command *find(int argc, char **argv, int *n_words)
{
    for (size_t i = 0; argc && i < N_COMMANDS; i++) {
        const struct command *c = &commands[i];
        *n_words = c->words[1] ? 2 : 1;
        if (argc >= *n_words && !strcmp(argv[0], c->words[0]) && (!c->words[1] || !strcmp(argv[1], c->words[1])))
            return c;
    }
    return NULL;
}

static enum exit_code execute(int argc, char **argv, const char *config)
{
    int n_words;
    const struct command *c = find(argc, argv, &n_words);
    if (!c && argc)
        return fail(EXIT_USAGE, "no such command: %s%s%s; godwitctl --help lists them", argv[0], argc > 1 ? " " : "", argc > 1 ? argv[1] : "");
    if (!c) {
        help(stderr);
        return EXIT_USAGE;
    }
    if (argc - n_words < c->min_args || argc - n_words > c->max_args)
        return fail(EXIT_USAGE, "usage: godwitctl %s %s %s", c->words[0], c->words[1] ? c->words[1] : "", c->args);
    enum exit_code e = config_load(config);
    return e ? e : c->run(argc - n_words, argv + n_words);
}

int main(int argc, char **argv)
{
    const char *config = getenv("GODWITCTL_CONFIG");
    bool want_help = false;
    if (!read_options(argc, argv, &config, &want_help))
        return EXIT_USAGE;
    if (want_help) {
        help(stdout);
        return EXIT_GOOD;
    }
    enum exit_code e = execute(argc - optind, argv + optind, config);
    print_json_error();
    client_cleanup();
    return e;
}
