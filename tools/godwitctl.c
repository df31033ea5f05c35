/* SPDX-License-Identifier: BSD-2-Clause
 * tool-sources: tools/ctl/config.c tools/ctl/identity.c tools/ctl/client.c tools/ctl/host.c tools/ctl/vm.c
 *   tools/ctl/image.c tools/ctl/volume_data.c tools/ctl/file.c tools/ctl/job.c
 *   tools/ctl/console.c tools/ctl/migration.c tools/ctl/move_disk.c tools/ctl/validate.c tools/ctl/svg.c
 *   tools/ctl/picture.c tools/ctl/save.c
 *   tools/ctl/progress.c tools/ctl/store.c tools/ctl/text.c tools/ctl/power.c tools/ctl/events.c tools/ctl/trust.c
 *   tools/ctl/define.c
 * tool-libs: -lcurl -ljansson -lssl -lcrypto */
/* tools/godwitctl.c - control Godwit hosts from Linux: the command line.  docs/api.md describes the interface that it
 * uses.  This file has the table of commands, the options and the help; tools/ctl/ has the commands. */
#include "tools/ctl/ctl.h"

#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/lib/version.h"

struct options options;

/* clang-format off */
static const struct command {
    const char *words[3];               /* the last ones NULL: a command of fewer words */
    int min_args, max_args;
    const char *args, *options;         /* options: names of the ones that it takes, beside the common ones */
    const char *help, *example;         /* example: what follows "godwitctl ", one per line */
    enum exit_code (*run)(int argc, char **argv);
} commands[] = {
    { { "key", NULL }, 0, 0, "", "",
      "make this client's key and certificate; print the [client] section that a host's godwit.conf needs",
      "key >> a.conf", cmd_key },
    { { "host", "add" }, 2, 2, "NAME ADDRESS[:PORT]", "fingerprint replace",
      "pair with a host: shows both fingerprints and asks (--fingerprint HEX: the expected one, without asking; "
      "--replace: end another pairing of that name)",
      "host add alpha 192.168.1.11\nhost add alpha 192.168.1.11:7443 --fingerprint 8c1d...", cmd_host_add },
    { { "host", "rename" }, 2, 2, "NAME NEW", "", "change the name by which this client knows a host",
      "host rename alpha rack1-alpha", cmd_host_rename },
    { { "host", "remove" }, 1, 1, "NAME", "", "end the pairing with a host; the host itself is not asked",
      "host remove alpha", cmd_host_remove },
    { { "host", "list" }, 0, 0, "", "", "all configured hosts", "host list", cmd_host_list },
    { { "host", "show" }, 0, 1, "[HOST]", "", "processor, memory, network, peers", "host show alpha", cmd_host_show },
    { { "host", "log" }, 0, 1, "[HOST]", "", "the last 64 KiB of its log", "host log alpha | grep -w warn",
      cmd_host_log },
    { { "host", "evacuate" }, 0, 1, "[HOST]", "detach status cancel stop-crashed",
      "move all guests away, each to the best peer, and watch (--detach: do not watch; --status: progress so far; "
      "--cancel: stop; --stop-crashed: stop guests that have crashed, which cannot move)",
      "host evacuate alpha\nhost evacuate alpha --status", cmd_host_evacuate },
    { { "host", "poweroff" }, 0, 1, "[HOST]", "force stop-crashed detach",
      "power a host off as each guest's on-shutdown says, and watch until that is certain (--force: its guests are lost; "
      "--stop-crashed: crashed ones do not matter; --detach: do not watch)", "host poweroff alpha", cmd_host_poweroff },
    { { "host", "reboot" }, 0, 1, "[HOST]", "force stop-crashed detach", "restart a host; likewise",
      "host reboot alpha", cmd_host_reboot },
    { { "host", "set" }, 3, 3, "HOST KEY VALUE", "",
      "change a value of [host] while the host runs, VALUE as in godwit.conf, or default for what is there; a wrong KEY "
      "lists those that can change", "host set alpha bandwidth-limit-mb 200\nhost set alpha incoming no", cmd_host_set },
    { { "peer", "list" }, 0, 1, "[HOST]", "", "the peers of hosts", "peer list alpha", cmd_peer_list },
    { { "peer", "add" }, 2, 2, "HOST-A HOST-B", "", "make two hosts peers, on both sides: shows both fingerprints, asks",
      "peer add alpha beta", cmd_peer_add },
    { { "peer", "remove" }, 2, 2, "HOST-A HOST-B", "",
      "end that, on both sides; a HOST-B that this client does not know keeps its side", "peer remove alpha beta",
      cmd_peer_remove },
    { { "client", "list" }, 0, 1, "[HOST]", "", "the clients of hosts", "client list", cmd_client_list },
    { { "client", "add" }, 2, 2, "HOST NAME --fingerprint HEX [--role operate]", "fingerprint role sure",
      "let a client in (--fingerprint: as `godwitctl key` prints it there; --role: read without it)",
      "client add alpha prometheus --fingerprint 8c1d...", cmd_client_add },
    { { "client", "remove" }, 2, 2, "HOST NAME", "sure",
      "let a client in no more (--sure: even the last one that may operate the host)",
      "client remove alpha prometheus", cmd_client_remove },
    { { "vm", "list" }, 0, 0, "", "",
      "all guests on all hosts", "vm list\n--json vm list | jq '.vms[] | select(.state == \"running\").name'",
      cmd_vm_list },
    { { "vm", "show" }, 1, 1, "NAME", "definition",
      "one guest (--config, or --definition: its definition, and where that comes from)",
      "vm show web\nvm show web --config > web.conf", cmd_vm_show },
    { { "vm", "define" }, 1, 1, "FILE", "",
      "define a guest, or define it anew, in the registry of a host's store: FILE has a [vm NAME] section as in "
      "godwit.conf (-: standard input)", "vm define web.conf --host alpha", cmd_vm_define },
    { { "vm", "edit" }, 1, 1, "NAME", "", "edit a guest's definition with $VISUAL or $EDITOR", "vm edit web",
      cmd_vm_edit },
    { { "vm", "undefine" }, 1, 1, "NAME", "", "forget a stopped guest; its volumes stay", "vm undefine web",
      cmd_vm_undefine },
    { { "vm", "disk", "attach" }, 2, 4, "NAME DISK [read-only] [serial=TEXT]", "fingerprint",
      "give a guest one disk more, from its next start on: DISK as in godwit.conf, such as lv:godwit/data "
      "(--fingerprint: of the certificate of an nbd: server)",
      "vm disk attach web lv:godwit/data\nvm disk attach web lv:godwit/tools read-only", cmd_vm_disk_attach },
    { { "vm", "disk", "detach" }, 2, 2, "NAME vdX", "",
      "take a disk from a guest, from its next start on; what is on it stays (`vm show` lists its disks)",
      "vm disk detach web vdb", cmd_vm_disk_detach },
    { { "vm", "nic", "attach" }, 1, 2, "NAME [MAC]", "spoof",
      "give a guest one network card more, from its next start on (--spoof: it may send from any address)",
      "vm nic attach web", cmd_vm_nic_attach },
    { { "vm", "nic", "detach" }, 2, 2, "NAME MAC", "", "take a network card from a guest, from its next start on",
      "vm nic detach web 02:47:57:a1:b2:c3", cmd_vm_nic_detach },
    { { "vm", "start" }, 1, 1, "NAME", "force detach",
      "start a stopped guest, if no peer has it, and wait until that is known (--force: without asking them; --detach: "
      "do not wait)", "vm start web --host alpha",
      cmd_vm_start },
    { { "vm", "stop" }, 1, 1, "NAME", "", "power a guest off at once", "vm stop web", cmd_vm_stop },
    { { "vm", "shutdown" }, 1, 1, "NAME", "timeout force detach",
      "press a guest's power button and wait until it is off (--timeout S: so long at most, 60 without it; --force: "
      "then stop it; --detach: do not wait)", "vm shutdown web\nvm shutdown web --timeout 300 --force", cmd_vm_shutdown },
    { { "vm", "set" }, 3, 3, "NAME memory-target SIZE", "",
      "ask a guest to keep only so much of its memory, and give the rest to its balloon", "vm set web memory-target 512M",
      cmd_vm_set },
    { { "vm", "reset" }, 1, 1, "NAME", "", "reset a running guest at once", "vm reset web", cmd_vm_reset },
    { { "vm", "nmi" }, 1, 1, "NAME", "", "send a running guest an NMI: many systems dump their state then",
      "vm nmi web", cmd_vm_nmi },
    { { "vm", "pause" }, 1, 1, "NAME", "", "pause a running guest", "vm pause web", cmd_vm_pause },
    { { "vm", "resume" }, 1, 1, "NAME", "", "resume a paused guest", "vm resume web", cmd_vm_resume },
    { { "vm", "save" }, 1, 1, "NAME [--to STORE/VOLUME]", "to live limit",
      "save a running guest in a volume of its host, and stop it (--to: in that volume, not STORE/saved.NAME; --live: "
      "the guest goes on; --limit MB: so many MB per second while it runs)",
      "vm save web\nvm save db --to godwit/db-monday --live", cmd_vm_save },
    { { "vm", "save-cancel" }, 1, 1, "NAME", "", "let a guest that is being saved run on", "vm save-cancel web",
      cmd_vm_save_cancel },
    { { "vm", "restore" }, 1, 1, "NAME", "from again force",
      "let a saved guest go on, if no peer has it (--from STORE/VOLUME: from that volume, which may have been imported; "
      "--again: although it was restored before, or its disks have changed; --force: without asking the peers)",
      "vm restore web\nvm restore web --host beta --from godwit/web-from-alpha", cmd_vm_restore },
    { { "vm", "checkpoint", "create" }, 1, 2, "NAME [CHECKPOINT]", "",
      "keep a guest's memory and volumes as they are at this instant, to go back to; it goes on (CHECKPOINT: its name, "
      "cp1 and so on without it)", "vm checkpoint create web before-upgrade", cmd_checkpoint_create },
    { { "vm", "checkpoint", "list" }, 1, 1, "NAME", "", "a guest's checkpoints, oldest first", "vm checkpoint list web",
      cmd_checkpoint_list },
    { { "vm", "checkpoint", "revert" }, 2, 2, "NAME CHECKPOINT", "sure force",
      "let a guest be what it was then, and go on from there; the checkpoint is kept (--sure: although the guest is up, "
      "and loses what it is now; --force: without asking the peers)", "vm checkpoint revert web before-upgrade --sure",
      cmd_checkpoint_revert },
    { { "vm", "checkpoint", "delete" }, 2, 2, "NAME CHECKPOINT", "", "delete a checkpoint; the guest stays as it is",
      "vm checkpoint delete web before-upgrade", cmd_checkpoint_delete },
    { { "vm", "inspect" }, 1, 1, "NAME", "", "memory, exits by reason, registers", "vm inspect web", cmd_vm_inspect },
    { { "vm", "console" }, 1, 1, "NAME", "print send",
      "serial console of a guest; Ctrl-] leaves it (--print: recent output; --send LINE: type a line)",
      "vm console web\nvm console web --send 'date'\nvm console web --print | tail", cmd_vm_console },
    { { "vm", "migrate" }, 1, 1, "NAME --to HOST|auto",
      "to detach dry-run live quick cold paused policy network plain lz4 limit downtime verify with-disks disk with-base keep",
      "move a guest and watch (--detach: do not watch; --dry-run: only say what would happen)",
      "vm migrate web --to beta\nvm migrate web --to auto --detach\nvm migrate web --to beta --quick --dry-run\nvm migrate web --to beta --with-disks\nvm migrate web --to beta --disk vda=fast/web\nvm migrate db --to beta --policy stop --limit 100",
      cmd_vm_migrate },
    { { "vm", "move-disk" }, 2, 2, "NAME DISK --to PLACE", "to fingerprint keep overwrite limit detach cancel",
      "move a disk of a guest (vda, vdb...) to STORE/VOLUME, which is made if need be, nbd:ADDRESS/EXPORT, or ram, which asks (--yes: does not), and watch "
      "(--fingerprint HEX: of the certificate of an nbd: server; --keep: and keep the old volume; --overwrite: what is there may be lost; --limit: MB per second; --cancel: end "
      "a move of the disk)", "vm move-disk web vda --to fast/web\nvm move-disk web vda --cancel", cmd_vm_move_disk },
    { { "job", "list" }, 0, 0, "", "", "what hosts do after their answers: moves of disks, saves, changes of volumes",
      "job list --host alpha", cmd_job_list },
    { { "job", "watch" }, 1, 1, "JOB", "", "follow one to its end", "job watch alpha/3", cmd_job_watch },
    { { "migration", "list" }, 0, 0, "", "", "moves, newest first", "migration list --host alpha", cmd_migration_list },
    { { "migration", "show" }, 1, 1, "MOVE [--svg FILE]", "svg",
      "all figures of a move (--svg FILE: draw it; MOVE -: one that --json printed, from standard input)",
      "migration show web\nmigration show alpha/3 --svg move.svg\nmigration show - --svg move.svg < move.json",
      cmd_migration_show },
    { { "migration", "watch" }, 1, 1, "MOVE", "", "follow a move to its end", "migration watch alpha/3",
      cmd_migration_watch },
    { { "migration", "cancel" }, 1, 1, "MOVE", "",
      "stop a move; the guest keeps running where it is", "migration cancel web", cmd_migration_cancel },
    { { "migration", "set" }, 1, 1, "MOVE [--limit MB] [--downtime MS]", "limit downtime",
      "change limits of a move while it runs (--limit: MB per second, 0: none; --downtime: longest blackout to plan for)",
      "migration set web --limit 0\nmigration set alpha/3 --downtime 1000", cmd_migration_set },
    { { "migration", "resolve" }, 1, 1, "MOVE --resume-here|--discard", "resume-here discard",
      "end a move in doubt whose destination is gone for good; asks first (--yes: does not)",
      "migration resolve web --resume-here", cmd_migration_resolve },
    { { "validate", NULL }, 0, 1, "[NAME] [--to HOST]", "to live quick cold paused with-disks disk with-base",
      "where a guest could move, with every reason against it; without NAME: all running guests",
      "validate web --to beta\nvalidate",
      cmd_validate },
    { { "events", NULL }, 0, 1, "[HOST]", "follow since",
      "what happened: states of guests and moves, disks, peers, who changed what (--follow: go on, with --json one event a "
      "line; --since N: from that number on)", "events alpha\nevents --follow\n--json events alpha --follow | jq -c .text",
      cmd_events },
    { { "disk", "list" }, 0, 0, "", "", "the disks of all hosts, and what is on them", "disk list", cmd_disk_list },
    { { "store", "list" }, 0, 0, "", "", "stores: disks given to hosts, as LVM2 volume groups", "store list",
      cmd_store_list },
    { { "store", "create" }, 2, 2, "HOST DISK [--name STORE]", "name",
      "give a whole disk to a host; shows what is on it, all of which is lost, and asks (--yes: does not; --name: not "
      "\"godwit\")", "store create alpha nvme0", cmd_store_create },
    { { "store", "adopt" }, 2, 2, "HOST GROUP", "",
      "make a volume group whose registry belongs to another host, which is gone, this host's (asks first)",
      "store adopt alpha godwit", cmd_store_adopt },
    { { "volume", "list" }, 0, 1, "[STORE]", "", "the volumes of stores", "volume list", cmd_volume_list },
    { { "volume", "create" }, 2, 2, "[STORE/]NAME SIZE", "", "a new volume, all zeroes", "volume create web 20G",
      cmd_volume_create },
    { { "volume", "clone" }, 2, 2, "[STORE/]BASE NAME", "", "a clone of a base volume; takes space for what changes",
      "volume clone debian web", cmd_volume_clone },
    { { "volume", "snapshot" }, 2, 2, "[STORE/]VOLUME NAME", "",
      "a snapshot of a volume, which a guest may be writing to", "volume snapshot web web-monday", cmd_volume_snapshot },
    { { "volume", "revert" }, 1, 1, "[STORE/]SNAPSHOT", "",
      "make a volume what its snapshot is, and drop the snapshot; asks (--yes: does not)",
      "volume revert web-monday", cmd_volume_revert },
    { { "volume", "import" }, 2, 2, "FILE [STORE/]VOLUME", "base raw overwrite",
      "write a disk image into a volume, which is made if need be; qcow2, VHDX, VMDK and others are converted by "
      "qemu-img (--base: make it a base volume, read-only; --raw: take the file as it is; --overwrite: what is in the "
      "volume may be lost, without asking).  After an interruption the same command goes on",
      "volume import debian-12.qcow2 debian --base --host alpha", cmd_volume_import },
    { { "volume", "export" }, 2, 2, "[STORE/]VOLUME FILE", "force",
      "read a volume into a file, raw (--force: write over it)", "volume export web web.img", cmd_volume_export },
    { { "volume", "resize" }, 2, 2, "[STORE/]NAME SIZE", "sure",
      "resize a volume; its guest sees it at its next start (--sure: it may get smaller, and lose its end)",
      "volume resize web 40G", cmd_volume_resize },
    { { "volume", "rename" }, 2, 2, "[STORE/]NAME NEW", "", "rename a volume that no guest has", "volume rename web old",
      cmd_volume_rename },
    { { "volume", "delete" }, 1, 1, "[STORE/]NAME", "", "delete a volume that no guest has; asks (--yes: does not)",
      "volume delete old", cmd_volume_delete },
    { { "file", "put" }, 1, 2, "FILE [NAME]", "",
      "put a file that guests are started from, such as a kernel, into the host's store", "file put bzImage vmlinuz --host alpha",
      cmd_file_put },
    { { "file", "list" }, 0, 0, "", "", "files that guests are started from", "file list", cmd_file_list },
    { { "file", "delete" }, 1, 1, "NAME", "", "delete a file of the host's store", "file delete vmlinuz",
      cmd_file_delete },
};
/* clang-format on */
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const char common_options[] = /* lines of at most 79 columns, as all help */
    "  -H, --host HOST      only this host (default: all; guests are searched on all)\n"
    "  -j, --json           answers as JSON on standard output\n"
    "  -q, --quiet          no progress bar\n"
    "  -c, --config FILE    default: $GODWITCTL_CONFIG, or else\n"
    "                       ~/.config/godwit/godwitctl.conf\n"
    "  -y, --yes            do not ask\n"
    "  -h, --help           help on everything, or on one command\n"
    "      --version        print the version\n";
static const char move_options[] = "      --to HOST|auto   destination; auto: the peer with most memory among those\n"
                                   "                       that can take it, and why\n"
                                   "      --detach         do not watch; prints HOST/NUMBER of the move\n"
                                   "      --live           the guest runs while its memory is sent; the blackout is\n"
                                   "                       milliseconds (default)\n"
                                   "      --quick          the guest is stopped first, each page is sent once; the\n"
                                   "                       blackout is the whole move (--paused means the same)\n"
                                   "      --cold           only if the guest is stopped: its definition, files\n"
                                   "                       and volumes move.  A stopped guest moves so anyway\n"
                                   "      --dry-run        ask the destination, say what would happen, move nothing\n"
                                   "      --policy P       for a live move of a guest that writes faster than the\n"
                                   "                       network sends.  throttle: slow it down step by step, give\n"
                                   "                       up if that does not help (default).  wait: go on until it\n"
                                   "                       gets better, for 30 minutes at most.  stop: stop it after\n"
                                   "                       14 rounds, however long the blackout is\n"
                                   "      --network A.B.C.D/N   use only the destination's addresses there\n"
                                   "                       (default: all in [host] networks, best first)\n"
                                   "      --plain | --lz4  send pages uncompressed, or compressed where that is\n"
                                   "                       smaller (default: [host] lz4)\n"
                                   "      --limit MB       rate limit in MB (10^6 bytes) per second (default: the\n"
                                   "                       host's bandwidth-limit-mb)\n"
                                   "      --downtime MS    longest blackout to plan for (default: [host]\n"
                                   "                       downtime-limit-ms)\n"
                                   "      --verify         compare hashes of all memory before the handoff\n"
                                   "      --with-disks     its volumes move along: they are copied while it runs\n"
                                   "      --disk D=STORE/VOLUME   the same, and disk D (vda, vdb...) becomes that\n"
                                   "                       volume there; may be given for each disk\n"
                                   "      --with-base      of a clone whose base HOST does not have, the base's\n"
                                   "                       data go too\n"
                                   "      --keep           these volumes are not deleted at the source afterwards\n";
static const char which_move[] = "MOVE is HOST/NUMBER, NUMBER with --host, or a guest's name for its newest\n  move.\n";

#define WORDS_MAX ((int)(sizeof(commands[0].words) / sizeof(commands[0].words[0])))

static int command_words(const struct command *c)
{
    int n = 1;
    while (n < WORDS_MAX && c->words[n])
        n++;
    return n;
}

/* "vm start" */
static const char *command_name(const struct command *c)
{
    static char name[64];
    snprintf(name, sizeof(name), "%s", c->words[0]);
    for (int i = 1; i < command_words(c); i++)
        snprintf(name + strlen(name), sizeof(name) - strlen(name), " %s", c->words[i]);
    return name;
}

/* Do the words argv name c, or a group of commands that c is in?  No words name all. */
static bool command_matches(const struct command *c, int argc, char **argv)
{
    for (int i = 0; i < argc && i < command_words(c); i++)
        if (strcmp(argv[i], c->words[i]) != 0)
            return false;
    return true;
}

#define HELP_COLUMNS 79
#define HELP_INDENT  31

/* Print text from column HELP_INDENT on, broken between words. */
static void help_text(FILE *f, const char *text)
{
    size_t column = HELP_INDENT;
    while (*text) {
        size_t n = strcspn(text, " ");
        bool first = column == HELP_INDENT, new_line = !first && column + 1 + n > HELP_COLUMNS;
        if (new_line)
            fprintf(f, "\n%*s", HELP_INDENT, "");
        column = (new_line ? HELP_INDENT : column + !first) + n;
        fprintf(f, "%s%.*s", first || new_line ? "" : " ", (int)n, text);
        text += n + (text[n] == ' ');
    }
    fputc('\n', f);
}

static void help_line(FILE *f, const struct command *c)
{
    char left[80];
    int n = snprintf(left, sizeof(left), "  %s %s", command_name(c), c->args);
    fprintf(f, "%-*s", HELP_INDENT, left);
    if (n >= HELP_INDENT)
        fprintf(f, "\n%*s", HELP_INDENT, "");
    help_text(f, c->help);
}

static void help_examples(FILE *f, const struct command *c)
{
    for (const char *line = c->example; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        fprintf(f, "  godwitctl %.*s\n", (int)strcspn(line, "\n"), line);
}

/* Print help for the commands that begin with these words.  False: there are none. */
static bool help_of_words(FILE *f, int argc, char **argv)
{
    bool found = false, moves = false;
    for (size_t i = 0; i < N_COMMANDS; i++) {
        const struct command *c = &commands[i];
        if (!command_matches(c, argc, argv))
            continue;
        fputs(found ? "" : "usage: godwitctl [OPTION]... COMMAND\n\n", f);
        help_line(f, c);
        found = true;
        moves |= !strncmp(c->args, "MOVE", 4);
    }
    if (!found)
        return false;
    fprintf(f, "%s%s\noptions:\n%s", moves ? "\n  " : "", moves ? which_move : "", common_options);
    if (argc > 1 && !strcmp(argv[1], "migrate"))
        fputs(move_options, f);
    fputs("\nexamples:\n", f);
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (command_matches(&commands[i], argc, argv))
            help_examples(f, &commands[i]);
    return true;
}

static void help_of_all(FILE *f)
{
    fputs("usage: godwitctl [OPTION]... COMMAND\n\n", f);
    for (size_t i = 0; i < N_COMMANDS; i++)
        help_line(f, &commands[i]);
    fprintf(f, "\n  %s\noptions:\n%s\noptions of vm migrate, for this one move:\n%s", which_move, common_options,
            move_options);
    fputs("\nexit codes: 0 good, 1 the host refused (the message says why), 2 usage,\n"
          "  3 configuration or key, 4 no answer, 5 not trusted,\n"
          "  6 the move failed and the guest still runs where it was, 7 the move is in\n"
          "  doubt, 130 interrupted by Ctrl-C; what was started goes on\n\n"
          "examples:\n"
          "  godwitctl key                          # add its output to godwit.conf of each\n"
          "                                         # host\n"
          "  godwitctl host add alpha 192.168.1.11  # pair; then the same for beta\n"
          "  godwitctl vm list\n"
          "  godwitctl vm migrate web --to beta\n"
          "  godwitctl migration show web --svg move.svg\n"
          "more with `godwitctl COMMAND --help`\n",
          f);
}

enum {
    OPT_FORCE = 300,
    OPT_PLAIN,
    OPT_LZ4,
    OPT_VERIFY,
    OPT_LIMIT,
    OPT_DOWNTIME,
    OPT_LIVE,
    OPT_PAUSED,
    OPT_QUICK,
    OPT_COLD,
    OPT_WITH_DISKS,
    OPT_WITH_BASE,
    OPT_KEEP,
    OPT_DISK,
    OPT_DRY_RUN,
    OPT_BASE,
    OPT_RAW,
    OPT_AGAIN,
    OPT_POLICY,
    OPT_NETWORK,
    OPT_STATUS,
    OPT_CANCEL,
    OPT_CRASHED,
    OPT_STREAMS,
    OPT_VERSION,
    OPT_OPTIONS,
    OPT_REPLACE,
    OPT_TIMEOUT,
    OPT_SINCE,
    OPT_FOLLOW,
    OPT_NAME,
    OPT_SURE,
    OPT_ROLE,
    OPT_SPOOF,
    OPT_DEFINITION,
    OPT_OVERWRITE
};
enum { OPT_TO = 256, OPT_FROM, OPT_DETACH, OPT_SVG, OPT_FINGERPRINT, OPT_HERE, OPT_DISCARD, OPT_PRINT, OPT_SEND };
static const struct option long_options[] = {
    { "host", required_argument, NULL, 'H' },
    { "json", no_argument, NULL, 'j' },
    { "quiet", no_argument, NULL, 'q' },
    { "config", required_argument, NULL, 'c' },
    { "yes", no_argument, NULL, 'y' },
    { "help", no_argument, NULL, 'h' },
    { "to", required_argument, NULL, OPT_TO },
    { "from", required_argument, NULL, OPT_FROM },
    { "detach", no_argument, NULL, OPT_DETACH },
    { "svg", required_argument, NULL, OPT_SVG },
    { "fingerprint", required_argument, NULL, OPT_FINGERPRINT },
    { "resume-here", no_argument, NULL, OPT_HERE },
    { "discard", no_argument, NULL, OPT_DISCARD },
    { "print", no_argument, NULL, OPT_PRINT },
    { "send", required_argument, NULL, OPT_SEND },
    { "force", no_argument, NULL, OPT_FORCE },
    { "plain", no_argument, NULL, OPT_PLAIN },
    { "lz4", no_argument, NULL, OPT_LZ4 },
    { "verify", no_argument, NULL, OPT_VERIFY },
    { "limit", required_argument, NULL, OPT_LIMIT },
    { "downtime", required_argument, NULL, OPT_DOWNTIME },
    { "live", no_argument, NULL, OPT_LIVE },
    { "paused", no_argument, NULL, OPT_PAUSED },
    { "quick", no_argument, NULL, OPT_QUICK },
    { "cold", no_argument, NULL, OPT_COLD },
    { "with-disks", no_argument, NULL, OPT_WITH_DISKS },
    { "with-base", no_argument, NULL, OPT_WITH_BASE },
    { "keep", no_argument, NULL, OPT_KEEP },
    { "disk", required_argument, NULL, OPT_DISK },
    { "dry-run", no_argument, NULL, OPT_DRY_RUN },
    { "base", no_argument, NULL, OPT_BASE },
    { "raw", no_argument, NULL, OPT_RAW },
    { "again", no_argument, NULL, OPT_AGAIN },
    { "policy", required_argument, NULL, OPT_POLICY },
    { "network", required_argument, NULL, OPT_NETWORK },
    { "status", no_argument, NULL, OPT_STATUS },
    { "cancel", no_argument, NULL, OPT_CANCEL },
    { "stop-crashed", no_argument, NULL, OPT_CRASHED },
    { "replace", no_argument, NULL, OPT_REPLACE },
    { "since", required_argument, NULL, OPT_SINCE },
    { "follow", no_argument, NULL, OPT_FOLLOW },
    { "sure", no_argument, NULL, OPT_SURE },
    { "role", required_argument, NULL, OPT_ROLE },
    { "spoof", no_argument, NULL, OPT_SPOOF },
    { "timeout", required_argument, NULL, OPT_TIMEOUT },
    { "name", required_argument, NULL, OPT_NAME },
    { "definition", no_argument, NULL, OPT_DEFINITION },
    { "overwrite", no_argument, NULL, OPT_OVERWRITE },
    { "streams", required_argument, NULL, OPT_STREAMS },
    { "version", no_argument, NULL, OPT_VERSION },
    { "complete-options", no_argument, NULL, OPT_OPTIONS }, /* for the completion of shells */
    { NULL, 0, NULL, 0 },
};

static const char *used[32]; /* long options on the command line; further ones are not checked */
static unsigned n_used;

enum wanted { WANT_COMMAND, WANT_HELP, WANT_VERSION, WANT_OPTIONS };

/* The number of letters to insert, delete or replace that make b of a; long words are cut. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[33], n = (unsigned)strnlen(b, 32);
    for (unsigned k = 0; k <= n; k++)
        row[k] = k;
    for (unsigned i = 0; a[i] && i < 32; i++) {
        unsigned corner = row[0];
        row[0] = i + 1;
        for (unsigned k = 0; k < n; k++) {
            unsigned replace = corner + (a[i] != b[k]), other = (row[k] < row[k + 1] ? row[k] : row[k + 1]) + 1;
            corner = row[k + 1];
            row[k + 1] = replace < other ? replace : other;
        }
    }
    return row[n];
}

/* Keep candidate as *best if it is more like word than any before; *distance begins with the most that is allowed. */
static void guess(const char *word, const char *candidate, const char **best, unsigned *distance)
{
    unsigned d = edit_distance(word, candidate);
    if (d < *distance)
        *distance = d, *best = candidate;
}

static enum exit_code unknown_option(const char *word)
{
    const char *best = NULL, *name = word + strspn(word, "-");
    char text[64];
    snprintf(text, sizeof(text), "%.*s", (int)strcspn(name, "="), name);
    unsigned distance = strlen(text) < 3 ? (unsigned)strlen(text) : 3; /* "-1" is like no option */
    for (const struct option *o = long_options; o->name && text[0]; o++)
        if (o->val != OPT_STREAMS && o->val != OPT_OPTIONS)
            guess(text, o->name, &best, &distance);
    return best ? fail(EXIT_USAGE, "%s is no option; did you mean --%s?", word, best)
                : fail(EXIT_USAGE, "%s is no option, or lacks its value; `godwitctl COMMAND --help` lists the options",
                       word);
}

/* Behind `vm show`, --config is that command's, and means no file. */
static void show_config_rename(int argc, char **argv)
{
    static char definition[] = "--definition";
    bool show = false;
    for (int i = 1; i < argc; i++) {
        show |= !strcmp(argv[i], "show") && !strcmp(argv[i - 1], "vm");
        if (show && !strcmp(argv[i], "--config"))
            argv[i] = definition;
    }
}

/* Where the text of an option goes; NULL: it has none. */
static const char **option_text(int c)
{
    switch (c) {
    case 'H':             return &options.host;
    case OPT_TO:          return &options.to;
    case OPT_FROM:        return &options.from;
    case OPT_SVG:         return &options.svg;
    case OPT_FINGERPRINT: return &options.fingerprint;
    case OPT_SEND:        return &options.send;
    case OPT_LIMIT:       return &options.limit;
    case OPT_DOWNTIME:    return &options.downtime;
    case OPT_SINCE:       return &options.since;
    case OPT_ROLE:        return &options.role;
    case OPT_TIMEOUT:     return &options.timeout;
    case OPT_NAME:        return &options.name;
    case OPT_POLICY:      return &options.policy;
    case OPT_NETWORK:     return &options.network;
    default:              return NULL;
    }
}

static bool place_add(const char *place)
{
    size_t n = strlen(options.places);
    int len = snprintf(options.places + n, sizeof(options.places) - n, "%s%s", n ? "," : "", place);
    return (size_t)len < sizeof(options.places) - n;
}

/* Options may come anywhere on the command line. */
static enum exit_code read_options(int argc, char **argv, const char **config, enum wanted *want)
{
    opterr = 0;
    show_config_rename(argc, argv);
    for (int c, i; (c = getopt_long(argc, argv, "H:jqc:yh", long_options, &i)) != -1;) {
        if (c >= OPT_TO && n_used < sizeof(used) / sizeof(used[0]))
            used[n_used++] = long_options[i].name;
        const char **text = option_text(c);
        if (text) {
            *text = optarg;
            continue;
        }
        switch (c) {
        case 'j':            options.json = true; break;
        case 'q':            options.quiet = true; break;
        case 'c':            *config = optarg; break;
        case 'y':            options.yes = true; break;
        case 'h':            *want = WANT_HELP; break;
        case OPT_VERSION:    *want = WANT_VERSION; break;
        case OPT_OPTIONS:    *want = WANT_OPTIONS; break;
        case OPT_DETACH:     options.detach = true; break;
        case OPT_HERE:       options.force_here = true; break;
        case OPT_DISCARD:    options.force_there = true; break;
        case OPT_PRINT:      options.print_only = true; break;
        case OPT_FORCE:      options.force = true; break;
        case OPT_PLAIN:      options.plain = true; break;
        case OPT_LZ4:        options.lz4 = true; break;
        case OPT_VERIFY:     options.verify = true; break;
        case OPT_BASE:       options.base = true; break;
        case OPT_RAW:        options.raw = true; break;
        case OPT_AGAIN:      options.again = true; break;
        case OPT_STATUS:     options.status = true; break;
        case OPT_CANCEL:     options.cancel = true; break;
        case OPT_CRASHED:    options.stop_crashed = true; break;
        case OPT_REPLACE:    options.replace = true; break;
        case OPT_FOLLOW:     options.follow = true; break;
        case OPT_SURE:       options.sure = true; break;
        case OPT_SPOOF:      options.spoof = true; break;
        case OPT_DEFINITION: options.show_config = true; break;
        case OPT_KEEP:       options.keep = true; break;
        case OPT_DISK:
            if (!place_add(optarg))
                return fail(EXIT_USAGE, "--disk: the places of disks have more than 511 characters together");
            break;
        case OPT_OVERWRITE:  options.overwrite = true; break;
        case OPT_LIVE:       options.live = true; break;
        case OPT_PAUSED:     options.paused = true; break;
        case OPT_QUICK:      options.quick = true; break;
        case OPT_COLD:       options.cold = true; break;
        case OPT_WITH_DISKS: options.with_disks = true; break;
        case OPT_WITH_BASE:  options.with_base = true; break;
        case OPT_DRY_RUN:    options.dry_run = true; break;
        /* Not an option; recognized for its own message. */
        case OPT_STREAMS: return fail(EXIT_USAGE, "--streams: a move has one connection, there is no number to choose");
        default:          return unknown_option(argv[optind - 1]);
        }
    }
    return EXIT_GOOD;
}

static const struct command *command_find(int argc, char **argv, int *n_words)
{
    for (size_t i = 0; argc && i < N_COMMANDS; i++) {
        const struct command *c = &commands[i];
        *n_words = command_words(c);
        if (argc >= *n_words && command_matches(c, argc, argv))
            return c;
    }
    return NULL;
}

/* Is word in list, whose words are separated by spaces? */
static bool list_has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += n)
        if ((at == list || at[-1] == ' ') && (!at[n] || at[n] == ' '))
            return true;
    return false;
}

/* Refuse an option that the command does not take: ignoring it may do harm. */
static enum exit_code check_options(const struct command *c)
{
    for (unsigned i = 0; i < n_used; i++)
        if (!list_has_word(c->options, used[i]))
            return fail(EXIT_USAGE, "--%s is no option of %s; add --help to see which it has", used[i],
                        command_name(c));
    return EXIT_GOOD;
}

/* The n words with blanks between; out has room for three of a command line. */
static const char *words_join(char out[256], const char *const *words, int n)
{
    size_t len = 0;
    out[0] = 0;
    for (int i = 0; i < n && len < 256; i++)
        len += (size_t)snprintf(out + len, 256 - len, "%s%s", i ? " " : "", words[i]);
    return out;
}

/* A command and all arguments, with spaces, as it is to be typed; returns out. */
static const char *command_text(char out[1024], const char *command, int n, char **argv)
{
    size_t len = (size_t)snprintf(out, 1024, "%s", command);
    for (int i = 0; i < n && len < 1024; i++)
        len += (size_t)snprintf(out + len, 1024 - len, " %s", argv[i]);
    return out;
}

/* The words of a command, or of a group, that argv begins with, if letters were typed wrong.  Returns their number; 0:
 * it is like none. */
static int words_meant(int argc, char **argv, const char *meant[WORDS_MAX])
{
    int n = 0;
    for (const char *best; n < argc && n < WORDS_MAX; n++) {
        unsigned distance = n ? 4 : 3;
        best = NULL;
        for (size_t i = 0; i < N_COMMANDS; i++)
            if (n < command_words(&commands[i]) && command_matches(&commands[i], n, (char **)(uintptr_t)meant))
                guess(argv[n], commands[i].words[n], &best, &distance);
        if (!best)
            break;
        meant[n] = best;
    }
    return n;
}

static enum exit_code unknown_command(int argc, char **argv)
{
    const char *meant[WORDS_MAX] = { NULL };
    char typed[256], group[256], whole[1024];
    int n = words_meant(argc, argv, meant);
    bool same = true;
    for (int i = 0; i < n; i++)
        same &= !strcmp(argv[i], meant[i]);
    words_join(typed, (const char *const *)argv, n + (same && n < argc));
    words_join(group, meant, n);
    if (!n)
        return fail(EXIT_USAGE, "no such command: %s; `godwitctl help` lists them", typed);
    if (!same)
        return fail(EXIT_USAGE, "no such command: %s; did you mean `godwitctl %s`?", typed,
                    command_text(whole, group, argc - n, argv + n));
    return fail(EXIT_USAGE, "no such command: %s; `godwitctl help %s` lists those that there are", typed, group);
}

/* There is one argument too many, and it is the name of a host, as the first or the last.  False: it is neither. */
static bool host_misplaced(const struct command *c, int argc, char **argv)
{
    char whole[1024];
    int at = config_host(argv[argc - 1]) ? argc - 1 : 0;
    char **rest = at ? argv : argv + 1;
    if (!config_host(argv[at]))
        return false;
    command_text(whole, command_name(c), argc - 1, rest);
    fail(EXIT_USAGE, "did you mean `godwitctl %s --host %s`?", whole, argv[at]);
    return true;
}

/* The number of arguments is wrong. */
static enum exit_code wrong_arguments(const struct command *c, int argc, char **argv, const char *config)
{
    char whole[1024];
    if (argc == c->max_args + 1 && !options.to && list_has_word(c->options, "to"))
        return fail(EXIT_USAGE, "did you mean `godwitctl %s --to %s`?",
                    command_text(whole, command_name(c), argc - 1, argv), argv[argc - 1]);
    if (argc == c->max_args + 1 && !options.host && config_load(config) == EXIT_GOOD && host_misplaced(c, argc, argv))
        return EXIT_USAGE;
    return fail(EXIT_USAGE, "usage: godwitctl %s %s", command_name(c), c->args);
}

static enum exit_code help_run(FILE *f, int argc, char **argv)
{
    if (!argc)
        help_of_all(f);
    else if (!help_of_words(f, argc, argv))
        return unknown_command(argc, argv);
    return EXIT_GOOD;
}

/* The options of the command that argv begins with, or all. */
static enum exit_code options_print(int argc, char **argv)
{
    int n_words;
    const struct command *c = command_find(argc, argv, &n_words);
    for (const struct option *o = long_options; o->name; o++)
        if (o->val != OPT_STREAMS && o->val != OPT_OPTIONS &&
            (o->val < OPT_TO || o->val == OPT_VERSION || !c || list_has_word(c->options, o->name)))
            printf("--%s\n", o->name);
    return EXIT_GOOD;
}

static enum exit_code command_run(int argc, char **argv, const char *config)
{
    int n_words;
    const struct command *c = command_find(argc, argv, &n_words);
    if (argc && !strcmp(argv[0], "help"))
        return help_run(stdout, argc - 1, argv + 1);
    if (!c && argc <= 2 && (!argc || help_of_words(stderr, argc, argv))) {
        if (!argc)
            help_of_all(stderr);
        return EXIT_USAGE;
    }
    if (!c)
        return unknown_command(argc, argv);
    if (argc - n_words < c->min_args || argc - n_words > c->max_args)
        return wrong_arguments(c, argc - n_words, argv + n_words, config);
    enum exit_code e = check_options(c);
    if (!e)
        e = config_load(config);
    return e ? e : c->run(argc - n_words, argv + n_words);
}

int main(int argc, char **argv)
{
    const char *config = getenv("GODWITCTL_CONFIG");
    enum wanted want = WANT_COMMAND;
    enum exit_code e = read_options(argc, argv, &config, &want);
    argc -= optind, argv += optind;
    if (e)
        ;
    else if (want == WANT_VERSION)
        printf("godwitctl %s\n", GODWIT_VERSION);
    else if (want == WANT_HELP)
        e = help_run(stdout, argc, argv);
    else if (want == WANT_OPTIONS)
        e = options_print(argc, argv);
    else
        e = command_run(argc, argv, config);
    print_json_error();
    client_cleanup();
    return e;
}
