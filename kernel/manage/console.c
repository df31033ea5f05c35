/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/console.c - the operator's console on COM1.
 *
 * COM1 is in one of four modes: typing a command, waiting for a guest to start (`starting`), watching a job
 * (`watched`), or attached to a guest's console (`attached`).  At most one of the three pointers is set; none: typing.
 * Log lines go to COM1 too, except while a guest is attached.
 *
 * Not here: what a command does to guests and moves (operate.c). */
#include "kernel/manage/console.h"

#include <stdio.h>
#include <string.h>
#include "kernel/core/cpu_baseline.h"
#include "kernel/core/cpu_ops.h"
#include "kernel/dev/uart.h"
#include "kernel/host/clock.h"
#include "kernel/host/log_sink.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/serial.h"
#include "kernel/host/x86/speculation.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/log.h"
#include "kernel/lib/print.h"
#include "kernel/lib/version.h"
#include "kernel/manage/events.h"
#include "kernel/manage/jobs.h"
#include "kernel/manage/move_disk.h"
#include "kernel/manage/operate.h"
#include "kernel/peers/dial.h"
#include "kernel/peers/evacuate.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/start.h"
#include "kernel/store/checkpoint.h"
#include "kernel/vm/guest_console.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_memory.h"
#include "net/net.h"

#define LINE_MAX    256
#define ARGS_MAX    (4 + MOVE_OPTIONS_WORDS) /* one more than any command takes */
#define PROGRESS_US 100000
#define KEY_CTRL_C  0x03
#define KEY_CTRL_U  0x15
#define KEY_DETACH  0x1d /* Ctrl-] */

static const struct boot_info *boot;
static char line[LINE_MAX];
static size_t line_len;
static struct vm *attached;
static uint64_t attached_at; /* number of its next byte: guest_console_read() */
static const struct job *watched;
static struct vm *starting; /* `vm start` waits for the peers' answers */
static uint64_t progress_due;

/* One write for the text and its line end, so that no log line of another pCPU comes between. */
static void com1_line(struct printer *p, const char *text)
{
    char buf[PRINT_LINE_MAX + 1];
    size_t len = strlen(text);
    (void)p;
    ASSERT(len + 2 <= sizeof(buf));
    memcpy(buf, text, len);
    memcpy(buf + len, "\r\n", 2);
    serial_write(buf, len + 2);
}

static struct printer com1 = { com1_line };
#define print(...) print_line(&com1, __VA_ARGS__)

static void write_text(const char *s) { serial_write(s, strlen(s)); }

static void prompt(void)
{
    char buf[64];
    snprintf(buf, sizeof(buf), "godwit %s> ", host_config->host.name);
    write_text(buf);
}

/* ---- guest consoles ---- */

static void attached_output(void)
{
    char buf[512];
    ASSERT(attached);
    for (size_t n; (n = guest_console_read(attached, &attached_at, buf, sizeof(buf)));)
        serial_write(buf, n);
}

void console_attach(struct vm *vm)
{
    print("console of %s; Ctrl-] leaves it", vm->config.name);
    log_com1_enable(false);
    ASSERT(!attached && !watched && !starting);
    attached = vm;
    attached_at = 0;
    attached_output();
}

static void attached_leave(void)
{
    log_com1_enable(true);
    write_text("\r\n");
    print("left the console of %s", attached->config.name);
    attached = NULL;
    prompt();
}

/* Detach from a guest that has stopped, crashed or moved away. */
static void attached_check(void)
{
    enum vm_state s = vm_state(attached);
    if (s == VM_STOPPED || s == VM_CRASHED) {
        write_text("\r\n");
        print("%s is %s here now%s%s", attached->config.name, vm_state_name(s), attached->crash_reason[0] ? ": " : "",
              attached->crash_reason);
        attached_leave();
    }
}

static void attached_key(char c)
{
    if (c == KEY_DETACH)
        attached_leave();
    else
        (void)guest_console_type(attached, &c, 1);
}

/* ---- watching a job ---- */

static void watch_step(void)
{
    char text[160];
    if (migration_job_over(watched)) {
        write_text("\r\n");
        migration_report(watched, &com1);
        watched = NULL;
        prompt();
    } else if (clock_us() >= progress_due) {
        progress_due = clock_us() + PROGRESS_US;
        migration_progress(watched, text, sizeof(text));
        write_text("\r");
        write_text(text);
        write_text("\033[K");
    }
}

static void starting_step(void)
{
    struct start_status s = start_status(starting);
    if (s.state == START_ASKING)
        return;
    print("%s%s", s.state == START_STARTED ? "" : "error: ", s.text);
    starting = NULL;
    prompt();
}

/* ---- commands ---- */

static struct vm *find_vm(const char *name)
{
    struct vm *vm = vm_find(name);
    if (!vm)
        print("no guest is named \"%s\"; `vm list` shows all guests", name);
    return vm;
}

static void cmd_help(int argc, char **argv);

/* p's addresses are in the order in which they are tried. */
static void print_peer(const struct peer_config *p)
{
    uint8_t ip[CONFIG_MAX_ADDRESSES][4];
    char text[CONFIG_MAX_ADDRESSES * 18] = "";
    unsigned n = dial_order(host_config, p, NULL, ip);
    for (unsigned i = 0; i < n; i++) {
        size_t at = strlen(text);
        snprintf(text + at, sizeof(text) - at, "%s%u.%u.%u.%u", i ? ", " : "", ip[i][0], ip[i][1], ip[i][2], ip[i][3]);
    }
    print("peer %s: %s:%u", p->name, n ? text : "no address in [host] networks", p->port);
}

static void cmd_host(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct page_stats p = page_stats();
    print("name: %s", host_config->host.name);
    print("version: Godwit %s", GODWIT_VERSION);
    print("processor: %s, %u CPU%s (from %s), TSC %lu kHz", cpu_ops ? cpu_ops->name : "no virtualization", pcpu_count,
          FMT_S(pcpu_count), boot->cpu_source, clock_tsc_hz / 1000);
    print("memory_total_kib: %lu", p.total_bytes / KIB);
    print("memory_free_kib: %lu", p.free_bytes / KIB);
    print("memory_promised_kib: %lu", vm_memory_promised() / KIB);
    print("uptime_ms: %lu", clock_us() / 1000);
    for (unsigned i = 0; i < pcpu_count; i++) {
        const struct pcpu *c = pcpu_get(i);
        print("cpu %u: %s, timer %lu (%lu late) kick %lu device %lu nmi %lu interrupts, %lu machine checks, idle %lu "
              "ms",
              i, atomic_load(&c->online) ? "online" : "off", c->n_timer, c->n_timer_late, c->n_kick, c->n_device,
              c->n_nmi, c->n_mce, c->idle_us / 1000);
    }
    spec_describe(&com1);
    net_describe(&com1);
    for (unsigned i = 0; i < host_config->n_peers; i++)
        if (!host_config->peers[i].removed)
            print_peer(&host_config->peers[i]);
}

static void cmd_host_cpuid(int argc, char **argv)
{
    (void)argc, (void)argv;
    cpu_pool_print(host_config->host.name, cpuid_host, &com1);
}

static void print_vm(const struct vm *vm)
{
    char waits[256] = "";
    struct start_status start = start_status(vm);
    bool asking = start.state == START_ASKING;
    bool waiting = !asking && vm_disk_waiting(vm, waits, sizeof(waits));
    const struct job *job = migration_of(vm->config.name);
    bool saved = vm_state(vm) == VM_STOPPED && saved_is(vm->config.name);
    print("%-31s %-9s %4lu MiB %5u%s%s%s%s%s%s", vm->config.name, saved ? "saved" : vm_state_name(vm_state(vm)),
          vm->config.memory_bytes / MIB, vm->config.n_cpus,
          !job                       ? ""
          : migration_job_doubt(job) ? "  in doubt"
                                     : "  moving",
          vm->saving ? "  being saved" : "", vm->crash_reason[0] ? "  " : "", vm->crash_reason,
          asking    ? "  starting, asks its peers: "
          : waiting ? "  "
                    : "",
          asking ? start.text : waits);
}

static void cmd_vm_list(int argc, char **argv)
{
    (void)argc, (void)argv;
    print("%-31s %-9s %8s %5s", "NAME", "STATE", "MEMORY", "CPUS");
    for (unsigned i = 0; i < vm_slots(); i++)
        if (vm_at(i))
            print_vm(vm_at(i));
}

/* The result of a function of operate.h. */
static void print_result(enum hv_err e, const char *message) { print("%s%s", e ? "error: " : "", message); }

static void run_operation(enum hv_err (*verb)(const char *vm, const char *by, struct why *why), const char *vm)
{
    char message[480];
    enum hv_err e = verb(vm, OPERATE_CONSOLE, WHY(message));
    print_result(e, message);
}

static void cmd_vm_start(int argc, char **argv)
{
    char message[480];
    bool force = argc > 1 && !strcmp(argv[1], "--force");
    if (argc > 1 && !force) {
        print("usage: vm start NAME [--force]");
        return;
    }
    enum hv_err e = operate_start(argv[0], force, OPERATE_CONSOLE, WHY(message));
    if (e == HV_E_AGAIN)
        starting = vm_find(argv[0]);
    else
        print_result(e, message);
}

static void cmd_vm_stop(int argc, char **argv) { (void)argc, run_operation(operate_stop, argv[0]); }
static void cmd_vm_shutdown(int argc, char **argv) { (void)argc, run_operation(operate_shutdown, argv[0]); }
static void cmd_vm_reset(int argc, char **argv) { (void)argc, run_operation(operate_reset, argv[0]); }
static void cmd_vm_nmi(int argc, char **argv) { (void)argc, run_operation(operate_nmi, argv[0]); }
static void cmd_vm_target(int argc, char **argv)
{
    char message[480];
    unsigned mib;
    (void)argc;
    if (!config_number(argv[1], 1, 1048576, &mib)) {
        print("usage: vm memory-target NAME MIB");
        return;
    }
    enum hv_err e = operate_memory_target(argv[0], mib * MIB, OPERATE_CONSOLE, WHY(message));
    print_result(e, message);
}

/* A job's outcome is in the log. */
static void print_begun(enum hv_err e, const char *message, const struct api_job *job)
{
    if (e)
        print_result(e, message);
    else
        print("job %u; the log tells its outcome", job_number(job));
}

static void cmd_vm_save(int argc, char **argv)
{
    char message[480];
    struct api_job *job;
    bool live = argc > 1 && !strcmp(argv[argc - 1], "--live");
    enum hv_err e = operate_save(argv[0], argc - live > 1 ? argv[1] : "", &(struct save_how){ .live = live },
                                 OPERATE_CONSOLE, &job, WHY(message));
    print_begun(e, message, job);
}

static void cmd_vm_restore(int argc, char **argv)
{
    char message[480];
    struct api_job *job;
    bool from = argc > 1 && argv[1][0] != '-', again = argc > 1 + from && !strcmp(argv[1 + from], "--again"),
         force = argc > 1 && !strcmp(argv[argc - 1], "--force");
    if (argc - 1 != from + again + force) {
        print("usage: vm restore NAME [STORE/VOLUME] [--again] [--force]");
        return;
    }
    enum hv_err e = operate_restore(argv[0], from ? argv[1] : "", again, force, OPERATE_CONSOLE, &job, WHY(message));
    print_begun(e, message, job);
}

static void checkpoints_print(const char *guest)
{
    for (struct checkpoint c = checkpoint_first(guest); c.group; c = checkpoint_next(guest, &c))
        print("%-24s %lu s since 1970, %s, %u volume%s, %lu MiB in %s%s", c.name, c.time_s,
              c.memory ? "with memory" : "without memory", c.n_disks, FMT_S(c.n_disks), c.bytes / MIB, c.group->vg.name,
              c.reverting ? ", being reverted to" : "");
}

static void cmd_vm_checkpoint(int argc, char **argv)
{
    char message[480];
    struct api_job *job;
    const char *what = argv[0], *name = argc > 2 ? argv[2] : "";
    bool sure = argc > 3 && !strcmp(argv[3], "--sure");
    enum hv_err e;
    if (!strcmp(what, "list") && argc == 2) {
        checkpoints_print(argv[1]);
        return;
    }
    if (!strcmp(what, "create") && argc < 4) {
        e = operate_checkpoint(argv[1], name, OPERATE_CONSOLE, &job, WHY(message));
    } else if (!strcmp(what, "revert") && argc == 3 + sure) {
        e = operate_checkpoint_revert(argv[1], name, sure, false, OPERATE_CONSOLE, &job, WHY(message));
    } else if (!strcmp(what, "delete") && argc == 3) {
        e = operate_checkpoint_delete(argv[1], name, OPERATE_CONSOLE, &job, WHY(message));
    } else {
        print("usage: vm checkpoint list NAME | create NAME [CHECKPOINT] | revert NAME CHECKPOINT [--sure] | "
              "delete NAME CHECKPOINT");
        return;
    }
    print_begun(e, message, job);
}

/* The words behind NAME, disk and place.  False: one is wrong. */
static bool move_disk_words(int n, char **word, struct disk_move_options *o, const char **fingerprint)
{
    unsigned mb;
    for (int i = 0; i < n; i++) {
        if (!strcmp(word[i], "--keep"))
            o->keep = true;
        else if (!strcmp(word[i], "--overwrite"))
            o->overwrite = true;
        else if (!strcmp(word[i], "--sure"))
            o->sure = true;
        else if (!strcmp(word[i], "--fingerprint") && i + 1 < n)
            *fingerprint = word[++i];
        else if (!strcmp(word[i], "--limit") && i + 1 < n && config_number(word[++i], 0, DISK_MOVE_LIMIT_MB, &mb))
            o->rate = mb * 1000000ul;
        else
            return false;
    }
    return true;
}

static void cmd_vm_move_disk(int argc, char **argv)
{
    char message[480];
    struct disk_move_options o = { 0 };
    const char *fingerprint = "";
    struct api_job *job;
    if (argc == 3 && !strcmp(argv[2], "--cancel")) {
        print_result(operate_move_disk_cancel(argv[0], argv[1], OPERATE_CONSOLE, WHY(message)), message);
        return;
    }
    if (argv[2][0] == '-' || !move_disk_words(argc - 3, argv + 3, &o, &fingerprint)) {
        print("usage: vm move-disk NAME vda STORE/VOLUME|nbd:ADDRESS/EXPORT|ram [--fingerprint HEX] [--overwrite] "
              "[--keep] [--sure] [--limit MB], or --cancel");
        return;
    }
    enum hv_err e = operate_move_disk(argv[0], argv[1], argv[2], fingerprint, &o, OPERATE_CONSOLE, &job, WHY(message));
    print_begun(e, message, job);
}

static void cmd_vm_save_cancel(int argc, char **argv) { (void)argc, run_operation(operate_save_cancel, argv[0]); }
static void cmd_vm_undefine(int argc, char **argv) { (void)argc, run_operation(operate_undefine, argv[0]); }
static void cmd_vm_pause(int argc, char **argv) { (void)argc, run_operation(operate_pause, argv[0]); }
static void cmd_vm_resume(int argc, char **argv) { (void)argc, run_operation(operate_resume, argv[0]); }

static void cmd_vm_inspect(int argc, char **argv)
{
    (void)argc;
    struct vm *vm = find_vm(argv[0]);
    if (vm)
        vm_inspect(vm, &com1);
}

static void cmd_vm_config(int argc, char **argv)
{
    (void)argc;
    size_t len;
    struct vm *vm = find_vm(argv[0]);
    if (!vm)
        return;
    enum vm_source from = vm_source(vm);
    const char *text = vm_definition(vm, from, &len);
    print("# %s: %s%s", argv[0],
          from == VM_OF_CONF       ? "from godwit.conf"
          : from == VM_OF_REGISTRY ? "from the registry"
                                   : "not defined here, it came by a move",
          vm->redefined ? "; it runs by an older definition until it is started again" : "");
    while (text && len) {
        const char *end = memchr(text, '\n', len);
        size_t n = end ? (size_t)(end - text) : len;
        for (size_t i = 0; i < n; i++)
            serial_write(text[i] < ' ' || text[i] > '~' ? "?" : &text[i], 1);
        write_text("\r\n");
        text += n + !!end;
        len -= n + !!end;
    }
}

static void cmd_vm_console(int argc, char **argv)
{
    (void)argc;
    struct vm *vm = find_vm(argv[0]);
    if (vm && vm_state(vm) == VM_STOPPED)
        print("error: %s is stopped; `vm start %s` first", argv[0], argv[0]);
    else if (vm)
        console_attach(vm);
}

static void cmd_migrate(int argc, char **argv)
{
    char message[256];
    struct move_options options;
    migration_options(&options);
    enum hv_err e = move_options_words(argc - 2, argv + 2, &options, WHY(message));
    if (!e)
        e = operate_migrate(argv[0], argv[1], &options, OPERATE_CONSOLE, &watched, WHY(message));
    if (e)
        print_result(e, message);
    progress_due = 0;
}

static void print_job(const struct job *j)
{
    char text[160];
    if (j->state == JOB_DONE)
        print("job %u %s -> %s: moved in %lu ms, blackout %lu.%lu ms, %lu bytes", j->number, j->guest, j->peer,
              (j->ended_us - j->started_us) / 1000, FMT_TENTHS(j->stats.blackout.total, 1000), j->wire_bytes);
    else if (j->state == JOB_FAILED)
        print("job %u %s -> %s: failed: %s", j->number, j->guest, j->peer, j->text);
    else
        migration_progress(j, text, sizeof(text)), print("job %u %s", j->number, text);
}

static void cmd_migrate_status(int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct job *j;
    unsigned n = 0;
    for (unsigned i = 0; (j = migration_job(i)); i++)
        if (!migration_job_over(j) || i == 0) /* active jobs, and the newest in any case */
            print_job(j), n++;
    if (!n)
        print("no move since this host started");
}

static void cmd_migrate_history(int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct job *j;
    for (unsigned i = 0; (j = migration_job(i)); i++)
        print_job(j);
}

static void cmd_migrate_report(int argc, char **argv)
{
    unsigned number = 0;
    if (argc && !config_number(argv[0], 0, 1000000000, &number)) {
        print("usage: migrate report [NUMBER]; `migrate history` shows the numbers");
        return;
    }
    const struct job *j = argc ? migration_job_numbered(number) : migration_job(0);
    if (j)
        migration_report(j, &com1);
    else
        print(argc ? "error: no such job is kept; `migrate history` lists those that are"
                   : "no move since this host started");
}

static void cmd_migrate_cancel(int argc, char **argv) { (void)argc, run_operation(operate_cancel, argv[0]); }

static void cmd_migrate_set(int argc, char **argv)
{
    char message[256];
    const struct job *j = migration_of(argv[0]);
    struct move_options options = { 0 };
    if (j)
        options = j->options;
    enum hv_err e = move_limits_words(argc - 1, argv + 1, &options, WHY(message));
    if (!e)
        e = operate_limits(argv[0], &options, OPERATE_CONSOLE, WHY(message));
    print_result(e, message);
}

static void cmd_migrate_resolve(int argc, char **argv)
{
    char message[640];
    bool here = !strcmp(argv[1], "here"), sure = argc == 3 && !strcmp(argv[2], "--sure");
    if ((!here && strcmp(argv[1], "there")) || (argc == 3 && !sure)) {
        print("usage: migrate resolve NAME here|there [--sure]");
        return;
    }
    enum hv_err e = operate_resolve(argv[0], here, sure, OPERATE_CONSOLE, WHY(message));
    print_result(e == HV_E_AGAIN ? HV_OK : e, message);
    if (e == HV_E_AGAIN)
        print("`migrate resolve %s %s --sure` does it", argv[0], argv[1]);
}

static void cmd_log(int argc, char **argv)
{
    (void)argc, (void)argv;
    char *text = mem_alloc(LOG_RING_SIZE);
    size_t n = text ? log_ring_copy(text, LOG_RING_SIZE) : 0;
    for (size_t i = 0; i < n; i++)
        serial_write(text[i] == '\n' ? "\r\n" : &text[i], text[i] == '\n' ? 2 : 1);
    mem_free(text, LOG_RING_SIZE);
}

static void print_evacuation(void)
{
    const struct evacuation *e = evacuate_status();
    if (!e->begun_us) {
        print("no evacuation since this host started");
        return;
    }
    print("evacuation: %s, %u of %u guest(s) gone, %u failed", e->active ? "active" : "over", e->n_over - e->n_failed,
          e->n, e->n_failed);
    for (unsigned i = 0; i < e->n; i++) {
        const struct evacuate_item *item = &e->item[i];
        const struct job *j = item->job ? migration_job_numbered(item->job) : NULL;
        if (item->err)
            print("  %s stays: %s", item->guest, evacuate_reason(item));
        else if (item->over && item->text[0])
            print("  %s: %s", item->guest, item->text);
        else if (j && j->state == JOB_DONE)
            print("  %s is at %s: %s", item->guest, j->peer, j->why_peer);
        else if (j)
            print("  %s: job %u, %s%s%s", item->guest, j->number, j->stats.phase, j->text[0] ? ": " : "", j->text);
    }
}

static void cmd_host_evacuate(int argc, char **argv)
{
    char why[256];
    bool stop_crashed = argc && !strcmp(argv[0], "--stop-crashed");
    if (argc && !strcmp(argv[0], "cancel")) {
        print(evacuate_cancel() == HV_OK ? "cancelled; moves past COMMIT complete" : "error: no evacuation is active");
    } else if (argc && !stop_crashed && strcmp(argv[0], "status")) {
        print("usage: host evacuate [status | cancel | --stop-crashed]");
    } else if ((!argc || stop_crashed) && evacuate_start(stop_crashed, WHY(why)) != HV_OK) {
        print("error: %s", why);
    } else {
        print_evacuation();
    }
}

/* Without --force, a guest that would be lost keeps the host up. */
static void cmd_host_down(enum evacuate_then how, int argc, char **argv)
{
    char why[400];
    bool force = argc > 0 && !strcmp(argv[0], "--force"), stop_crashed = argc > 0 && !strcmp(argv[0], "--stop-crashed");
    if (argc > 0 && !force && !stop_crashed)
        print("error: %s: --force or --stop-crashed is expected", argv[0]);
    else if (host_shutdown(how, force, stop_crashed, OPERATE_CONSOLE, WHY(why)) != HV_OK)
        print("error: %s", why);
    else if (evacuate_status()->n && !force)
        print("%u guest(s) are moved away first; `host evacuate status` shows how far, `host evacuate cancel` keeps "
              "the host up",
              evacuate_status()->n);
}

static void cmd_poweroff(int argc, char **argv) { cmd_host_down(EVACUATE_POWEROFF, argc, argv); }
static void cmd_reboot(int argc, char **argv) { cmd_host_down(EVACUATE_REBOOT, argc, argv); }

/* Longest command first where one begins like another. */
/* clang-format off */
static const struct command {
    const char *words[2];               /* [1] NULL: a one-word command */
    unsigned min_args, max_args;
    const char *args, *help;
    void (*run)(int argc, char **argv);
    bool changes;                       /* for an audit line */
} commands[] = {
    { { "help", NULL }, 0, 1, "", "this list", cmd_help, false },
    { { "host", "cpuid" }, 0, 0, "", "this host's processor, as lines for the file of [host] pool-cpuid",
      cmd_host_cpuid, false },
    { { "host", "evacuate" }, 0, 1, "[status|cancel|--stop-crashed]", "move all guests away, each to the best peer",
      cmd_host_evacuate, true },
    { { "host", NULL }, 0, 0, "", "this host: processor, memory, network, peers", cmd_host, false },
    { { "vm", "list" }, 0, 0, "", "all guests and their states", cmd_vm_list, false },
    { { "vm", "start" }, 1, 2, "NAME [--force]",
      "start a stopped guest, if no peer has it; --force: without asking them", cmd_vm_start, true },
    { { "vm", "stop" }, 1, 1, "NAME", "power a guest off at once", cmd_vm_stop, true },
    { { "vm", "shutdown" }, 1, 1, "NAME", "press a guest's power button", cmd_vm_shutdown, true },
    { { "vm", "reset" }, 1, 1, "NAME", "reset a running guest", cmd_vm_reset, true },
    { { "vm", "nmi" }, 1, 1, "NAME", "send a running guest an NMI", cmd_vm_nmi, true },
    { { "vm", "memory-target" }, 2, 2, "NAME MIB", "ask a guest to keep only so much of its memory", cmd_vm_target, true },
    { { "vm", "config" }, 1, 1, "NAME", "a guest's definition, and where it comes from", cmd_vm_config, false },
    { { "vm", "undefine" }, 1, 1, "NAME", "forget a stopped guest; its volumes stay", cmd_vm_undefine, true },
    { { "vm", "pause" }, 1, 1, "NAME", "pause a running guest", cmd_vm_pause, true },
    { { "vm", "resume" }, 1, 1, "NAME", "resume a paused guest", cmd_vm_resume, true },
    { { "vm", "save" }, 1, 3, "NAME [STORE/VOLUME] [--live]", "save a guest and stop it; --live: it goes on",
      cmd_vm_save, true },
    { { "vm", "save-cancel" }, 1, 1, "NAME", "a guest that is being saved runs on", cmd_vm_save_cancel, true },
    { { "vm", "restore" }, 1, 4, "NAME [STORE/VOLUME] [--again] [--force]",
      "let a saved guest go on; --again: although it has before; --force: without asking the peers", cmd_vm_restore, true },
    { { "vm", "checkpoint" }, 2, 4, "list|create|revert|delete NAME ...",
      "memory and volumes at one instant, to go back to", cmd_vm_checkpoint, true },
    { { "vm", "move-disk" }, 3, 9, "NAME vda PLACE [OPTIONS]|--cancel",
      "move a disk to STORE/VOLUME or nbd:ADDRESS/EXPORT; a wrong option lists all", cmd_vm_move_disk, true },
    { { "vm", "inspect" }, 1, 1, "NAME", "registers, exits by reason, memory, dirty log", cmd_vm_inspect, false },
    { { "vm", "console" }, 1, 1, "NAME", "its serial console; Ctrl-] leaves", cmd_vm_console, false },
    { { "migrate", "status" }, 0, 0, "", "queued and active moves, and the newest", cmd_migrate_status, false },
    { { "migrate", "history" }, 0, 0, "", "the last 64 moves, newest first", cmd_migrate_history, false },
    { { "migrate", "report" }, 0, 1, "[NUMBER]", "all figures of a move; without NUMBER: of the newest", cmd_migrate_report, false },
    { { "migrate", "cancel" }, 1, 1, "NAME", "cancel a move; the guest runs on here", cmd_migrate_cancel, true },
    { { "migrate", "set" }, 1, 1 + MOVE_LIMITS_WORDS, "NAME " MOVE_LIMITS_USAGE,
      "change limits of a move while it runs", cmd_migrate_set, true },
    { { "migrate", "resolve" }, 2, 3, "NAME here|there [--sure]",
      "decide where a guest in doubt lives, when its destination is gone for good", cmd_migrate_resolve, true },
    { { "migrate", NULL }, 2, 2 + MOVE_OPTIONS_WORDS, "NAME HOST|auto [OPTIONS]",
      "move a running guest (auto: to the best peer) and watch; Ctrl-C stops watching only; a wrong option lists all",
      cmd_migrate, true },
    { { "log", NULL }, 0, 0, "", "the last 64 KiB of the log", cmd_log, false },
    { { "poweroff", NULL }, 0, 1, "[--force|--stop-crashed]", "power this host off; what happens to guests: on-shutdown in their [vm]",
      cmd_poweroff, true },
    { { "reboot", NULL }, 0, 1, "[--force|--stop-crashed]", "restart this host; likewise", cmd_reboot, true },
};
/* clang-format on */

#define HELP_COLUMNS 80
#define HELP_AT      41 /* the column of what a command does */

/* The length of as many words as fit into so many columns. */
static int words_fit(const char *text, size_t columns)
{
    size_t n = strlen(text);
    if (n > columns)
        for (n = columns; n && text[n] != ' '; n--)
            ;
    return (int)n;
}

static void cmd_help(int argc, char **argv)
{
    (void)argc, (void)argv;
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
        char left[HELP_COLUMNS];
        const struct command *c = &commands[i];
        const char *right = c->help;
        snprintf(left, sizeof(left), "  %s%s%s %s", c->words[0], c->words[1] ? " " : "", c->words[1] ? c->words[1] : "",
                 c->args);
        if (strlen(left) >= HELP_AT) {
            print("%s", left);
            left[0] = '\0';
        }
        for (int n; (n = words_fit(right, HELP_COLUMNS - HELP_AT - 1)); left[0] = '\0') {
            print("%-*s%.*s", HELP_AT, left, n, right);
            right += n + (right[n] == ' ');
        }
    }
}

static int line_split(char *s, char **argv)
{
    int n = 0;
    while (*s) {
        while (*s == ' ' || *s == '\t')
            *s++ = 0;
        if (!*s || n == ARGS_MAX)
            break;
        argv[n++] = s;
        while (*s && *s != ' ' && *s != '\t')
            s++;
    }
    return n;
}

static void command_act(const struct command *c, int argc, char **argv, int words)
{
    char text[LINE_MAX] = "";
    for (int i = 0; i < argc; i++) {
        size_t at = strlen(text);
        snprintf(text + at, sizeof(text) - at, "%s%s", i ? " " : "", argv[i]);
    }
    if (c->changes)
        events_audit("console", OPERATE_CONSOLE, true, "%s", text);
    c->run(argc - words, argv + words);
}

static void line_execute(char *text)
{
    char *argv[ARGS_MAX];
    int argc = line_split(text, argv);
    for (size_t i = 0; argc && i < ARRAY_SIZE(commands); i++) {
        const struct command *c = &commands[i];
        ASSERT(c->min_args <= c->max_args && c->max_args + 2 <= ARGS_MAX);
        int words = c->words[1] ? 2 : 1, args = argc - words;
        if (args < 0 || strcmp(argv[0], c->words[0]) || (c->words[1] && strcmp(argv[1], c->words[1])))
            continue;
        if ((unsigned)args < c->min_args || (unsigned)args > c->max_args)
            print("usage: %s %s%s%s", c->words[0], c->words[1] ? c->words[1] : "", c->words[1] ? " " : "", c->args);
        else
            command_act(c, argc, argv, words);
        return;
    }
    if (argc)
        print("no such command: \"%s%s%s\"; `help` lists them", argv[0], argc > 1 ? " " : "", argc > 1 ? argv[1] : "");
}

static void typed_key(char c)
{
    ASSERT(line_len < LINE_MAX);
    if (c == '\r' || c == '\n') {
        write_text("\r\n");
        line[line_len] = 0;
        line_len = 0;
        line_execute(line);
        if (!attached && !watched && !starting)
            prompt();
    } else if (c == 0x7f || c == 0x08) {
        if (line_len)
            line_len--, write_text("\b \b");
    } else if (c == KEY_CTRL_U || c == KEY_CTRL_C) {
        line_len = 0;
        write_text("\r\033[K");
        prompt();
    } else if (c >= ' ' && c < 0x7f && line_len < LINE_MAX - 1) {
        line[line_len++] = c;
        serial_write(&c, 1);
    }
}

static void watching_key(char c)
{
    if (c != KEY_CTRL_C)
        return;
    write_text("\r\n");
    print("the move continues; `migrate status` shows it");
    watched = NULL;
    prompt();
}

static void starting_key(char c)
{
    if (c == KEY_CTRL_C)
        (void)!start_cancel(starting); /* starting_step() prints the result */
}

/* A log line has come between: show the typed characters again. */
static void line_redraw(void)
{
    static unsigned seen;
    unsigned lines = log_com1_lines();
    if (lines == seen)
        return;
    seen = lines;
    if (line_len && !attached && !watched && !starting) {
        prompt();
        serial_write(line, line_len);
    }
}

bool console_step(void)
{
    if (starting)
        starting_step(); /* before the first output of the guest's new start is taken */
    line_redraw();
    bool moved = guest_console_step();
    if (attached)
        attached_output();
    for (int c; (c = serial_getc()) >= 0; moved = true) {
        if (attached)
            attached_key((char)c);
        else if (watched)
            watching_key((char)c);
        else if (starting)
            starting_key((char)c);
        else
            typed_key((char)c);
    }
    if (attached)
        attached_check();
    if (watched)
        watch_step();
    return serial_step() || moved;
}

void console_init(const struct boot_info *bi)
{
    ASSERT(bi && !boot);
    boot = bi;
    write_text("\r\n");
    print("Godwit %s on %s.  `help` lists the commands.", GODWIT_VERSION, host_config->host.name);
    prompt();
}
